/* What a salvage saves of a damaged directory: the longest prefix of history that is whole. */
#include "offline_fixture.h"

#include "store/fill.h"

static struct fixture *f;

static void make(void)
{
    f = fixture_new("memory");
}

static void unmake(void)
{
    fixture_free(f);
}

TestSuite(salvage, .init = make, .fini = unmake);

static const char first_segment[] = "log-0000000001";

Test(salvage, of_damage_before_the_checkpoint_loses_history_and_nothing_else)
{
    uint64_t seq;
    write_many(f, 20);
    take_copy(f);
    size_t middle = end_of(f, first_segment) / 2;
    write_checkpoint(f);
    write_many(f, 20);
    take_copy(f);
    flip(f, first_segment, middle, 1);
    inspect_copy(f);
    cr_assert_eq(f->report->end.seq, 40);
    cr_assert_eq(f->report->untaken_groups, 0);
    cr_assert_eq(salvaged_seq(f), 40);
    cr_assert_eq(start_on_copy(f, &seq), STORE_CORRUPT);
}

Test(salvage, of_damage_behind_the_checkpoint_ends_before_it)
{
    write_many(f, 20);
    write_checkpoint(f);
    take_copy(f);
    size_t at = end_of(f, first_segment);
    write_many(f, 20);
    take_copy(f);
    at += (end_of(f, first_segment) - at) / 2;
    flip(f, first_segment, at, 1);
    uint64_t seq = salvaged_seq(f);
    cr_assert(seq >= 28 && seq < 32, "seq %" PRIu64, seq);
    cr_assert_eq(f->report->untaken_groups, 40 - seq - 1);
}

/* A start refuses this: what may have followed the checkpoint is missing too. */
Test(salvage, of_a_log_that_ends_before_the_checkpoint_keeps_the_checkpoint)
{
    char path[PATH_SIZE];
    uint64_t seq;
    write_many(f, 20);
    take_copy(f);
    size_t end = end_of(f, first_segment);
    write_checkpoint(f);
    path_in_copy(f, first_segment, path);
    for (size_t size = 0; size < end; size += end / 11) {
        take_copy(f);
        cr_assert_eq(truncate(path, (off_t)size), 0);
        inspect_copy(f);
        cr_assert(says(f, "damaged at offset") && says(f, first_segment), "size %zu", size);
        cr_assert_eq(start_on_copy(f, &seq), STORE_CORRUPT);
        cr_assert_eq(salvaged_seq(f), 20, "size %zu", size);
    }
}

Test(salvage, needs_no_checkpoint_where_the_log_goes_back_to_the_first_write)
{
    write_many(f, 10);
    write_checkpoint(f);
    write_many(f, 10);
    write_checkpoint(f);
    take_copy(f);
    flip(f, "checkpoint-00000000000000000010", 70, 1);
    flip(f, "checkpoint-00000000000000000020", 70, 1);
    cr_assert_eq(salvaged_seq(f), 20);
    cr_assert_eq(f->report->damages_in_all, 2);
}

Test(salvage, of_what_has_no_beginning_is_refused_and_says_so)
{
    struct store_fill *entries;
    struct store_options options = {.directory = f->live, .engine = "memory"};
    static const uint8_t entry[] = {3, 5, 0, 0, 0, 'v'};
    close_store(f);
    remove_tree(f->live);
    cr_assert_eq(store_fill_begin(&entries, &options, &f->error), 0);
    cr_assert_eq(store_fill_put(entries, STORE_KEYS, slice_of_text("filled"),
                                slice_of(entry, sizeof entry), &f->error),
                 0);
    cr_assert_eq(store_fill_end(&entries, 5, START_MS, &f->error), 0);
    open_well(f, f->live);
    f->seq = 5;
    write_many(f, 3);
    take_copy(f);
    cr_assert_eq(salvage(f), 0, "%s", f->error.message);
    cr_assert_eq(f->report->end.seq, 8);
    flip(f, "checkpoint-00000000000000000000", 70, 1);
    cr_assert_eq(salvage(f), STORE_CORRUPT);
    cr_assert_not_null(strstr(f->error.message, "can be saved"), "%s", f->error.message);
    cr_assert(says(f, "checkpoint-00000000000000000000"));
    cr_assert_eq(access(f->saved, F_OK), -1);
}

Test(salvage, goes_into_a_new_directory_that_is_nowhere_in_the_old_one)
{
    char path[PATH_SIZE];
    struct store_options options = {.directory = path};
    write_many(f, 3);
    take_copy(f);
    snprintf(path, sizeof path, "%s/", f->copy);
    cr_assert_eq(store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error),
                 STORE_INVALID);
    path_in_copy(f, "new", path);
    cr_assert_eq(store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error),
                 STORE_INVALID);
    cr_assert_not_null(strstr(f->error.message, "not to be changed"), "%s", f->error.message);
    path_in_copy(f, "new/er", path);
    cr_assert_eq(store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error),
                 STORE_INVALID);
    snprintf(path, sizeof path, "%s", f->live);
    cr_assert_neq(store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error), 0);
    cr_assert_eq(mkdir(f->saved, 0700), 0);
    snprintf(path, sizeof path, "%s/file", f->saved);
    write_path(path, "x", 1);
    snprintf(path, sizeof path, "%s", f->saved);
    cr_assert_eq(store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error),
                 STORE_INVALID);
    cr_assert_null(f->report);
    inspect_copy(f);
    cr_assert_eq(f->report->damages_in_all, 0);
}

Test(salvage, may_change_the_engine_and_gives_a_new_epoch)
{
    struct directory_state old;
    struct store_options options = {.directory = f->saved, .engine = "lmdb"};
    write_many(f, 30);
    take_copy(f);
    cr_assert_eq(store_salvage(f->copy, &options, NULL, NULL, &f->report, &f->error), 0);
    old = f->report->state;
    cr_assert_eq(inspect(f, f->saved), 0);
    cr_assert_str_eq(f->report->state.engine, "lmdb");
    cr_assert_str_neq(f->report->state.epoch, old.epoch);
    cr_assert_eq(f->report->end.seq, 30);
    cr_assert_eq(f->report->oldest, 31);
    cr_assert_eq(f->report->entries[STORE_KEYS], keys_as_of(30));
}

/* LMDB's and RocksDB's directories say by their files which engine they are of. */
Test(salvage, finds_the_engine_where_the_state_does_not_say_it)
{
    static const char *const engines[] = {"lmdb", "rocksdb"};
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        char path[PATH_SIZE];
        if (!store_has_engine(engines[i]))
            continue;
        struct fixture *own = fixture_new(engines[i]);
        write_many(own, 10);
        write_checkpoint(own);
        write_many(own, 10);
        take_copy(own);
        path_in_copy(own, "state", path);
        cr_assert_eq(unlink(path), 0);
        own->engine = NULL;
        cr_assert_eq(salvaged_seq(own), 20);
        cr_assert_str_eq(own->report->state.engine, engines[i]);
        fixture_free(own);
    }
}

Test(salvage, of_random_damage_is_a_prefix_and_never_shorter_than_the_first_hole)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    cr_log_info("CUBBY_SEED=%u", seed);
    write_many(f, 60);
    write_checkpoint(f);
    write_many(f, 60);
    write_checkpoint(f);
    write_many(f, 60);
    take_copy(f);
    size_t end = end_of(f, first_segment);
    cr_assert_gt(end, 0);
    for (unsigned round = 0; round < 150; round++) {
        unsigned draws = seed + round;
        take_copy(f);
        for (unsigned flips = 1 + draws % 3; flips > 0; flips--)
            flip(f, first_segment, (size_t)rand_r(&draws) % end, 0x10);
        if (draws % 4 == 0)
            flip(f, "checkpoint-00000000000000000120", 64 + draws % 100, 4);
        uint64_t seq = salvaged_seq(f);
        cr_assert_geq(seq, draws % 4 == 0 ? 60 : 120, "CUBBY_SEED=%u, round %u", seed, round);
    }
}

/* Bases of which only a part can be read, where the log does not go back to the first write. */

enum { MANY = 5000 };

static void put_many(struct fixture *own)
{
    char key[NAME_SIZE];
    char value[NAME_SIZE];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "many-%06u", i);
        snprintf(value, sizeof value, "value %u of many", i);
        store_begin(own->store, START_MS);
        cr_assert_eq(keys_put(&own->keys, slice_of_text(key), slice_of_text(value),
                              i % 3 == 0 ? FAR_MS + i : 0),
                     0);
        cr_assert_eq(store_end(own->store, NULL), 0);
    }
    cr_assert_eq(store_commit(own->store), 0);
    write_checkpoint(own);
    store_begin(own->store, START_MS);
    cr_assert_eq(keys_put(&own->keys, slice_of_text("behind"), slice_of_text("the base"), 0), 0);
    cr_assert_eq(store_end(own->store, NULL), 0);
    cr_assert_eq(store_commit(own->store), 0);
    take_copy(own);
    flip(own, first_segment, 100, 1); /* in the first group: the log alone has nothing */
}

/* What is there of many is right, and as much as is not lost; the log behind the base is there. */
static void check_saved(struct fixture *own, uint64_t lost)
{
    char name[NAME_SIZE];
    char value[NAME_SIZE];
    struct keys_entry entry;
    uint64_t there = 0;
    close_store(own);
    own->engine = NULL;
    cr_assert_eq(inspect(own, own->saved), 0);
    cr_assert_eq(own->report->damages_in_all, 0, "%s", own->report->damages[0].message);
    open_well(own, own->saved);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "many-%06u", i);
        snprintf(value, sizeof value, "value %u of many", i);
        if (keys_get(&own->keys, slice_of_text(name), &entry) != 0)
            continue;
        there++;
        cr_assert(slice_equal(entry.value, slice_of_text(value)), "%s", name);
        cr_assert_eq(entry.expires_at_ms, i % 3 == 0 ? FAR_MS + i : 0, "%s", name);
    }
    cr_assert_eq(there + lost, MANY, "%" PRIu64 " are there, %" PRIu64 " lost", there, lost);
    cr_assert_eq(keys_get(&own->keys, slice_of_text("behind"), &entry), 0);
}

/* Replaces bytes wherever they are in a file of the copy. */
static void replace(struct fixture *own, const char *name, const char *old, const char *new)
{
    char path[PATH_SIZE];
    size_t size = strlen(old);
    unsigned replaced = 0;
    path_in_copy(own, name, path);
    struct content content = read_path(path);
    for (size_t at = 0; at + size <= content.size; at++)
        if (memcmp(content.bytes + at, old, size) == 0) {
            memcpy(content.bytes + at, new, size);
            replaced++;
        }
    cr_assert_gt(replaced, 0);
    write_path(path, content.bytes, content.size);
    free(content.bytes);
}

static void salvage_part(struct fixture *own)
{
    int rc = salvage(own);
    cr_assert_eq(rc, 0, "code %d: %s", rc, own->error.message);
    cr_assert(own->report->partial);
}

Test(salvage, of_lmdb_with_one_bad_entry_leaves_that_out_and_names_it)
{
    struct fixture *own = fixture_new("lmdb");
    put_many(own);
    replace(own, "lmdb/data.mdb", "many-002501\x03", "many-002501\xff");
    salvage_part(own);
    cr_assert(says(own, "in table keys, many-002501: what is stored is no entry"));
    cr_assert_eq(own->report->lost[STORE_KEYS], 1);
    check_saved(own, 1);
    fixture_free(own);
}

Test(salvage, of_lmdb_with_a_key_out_of_order_leaves_that_out_wherever_it_would_belong)
{
    static const char *const names[] = {"many-902503", "aany-002503"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char said[NAME_SIZE];
        struct fixture *own = fixture_new("lmdb");
        put_many(own);
        replace(own, "lmdb/data.mdb", "many-002503", names[i]);
        salvage_part(own);
        snprintf(said, sizeof said, "in table keys, %s: it is not in order", names[i]);
        cr_assert(says(own, said), "%s", own->report->damages[0].message);
        cr_assert_eq(own->report->lost[STORE_KEYS], 1);
        check_saved(own, 1);
        fixture_free(own);
    }
}

/* Of a page's head: what kind it is. LMDB asserts that, and would end the process. */
Test(salvage, of_lmdb_with_pages_that_are_bad_in_their_heads_reads_on_behind_them)
{
    enum { PAGE = 4096, AT_FLAGS = 10, LEAF = 2, ENOUGH = 6 };
    char path[PATH_SIZE];
    unsigned met = 0;
    uint64_t lost = 0;
    struct fixture *own = fixture_new("lmdb");
    put_many(own);
    path_in_copy(own, "lmdb/data.mdb", path);
    struct content good = read_path(path);
    for (size_t page = 2; met < ENOUGH && page < good.size / PAGE; page += 5) {
        uint8_t *flags = good.bytes + page * PAGE + AT_FLAGS;
        uint8_t kept = *flags;
        if (kept != LEAF)
            continue;
        *flags = 0;
        write_path(path, good.bytes, good.size);
        *flags = kept;
        inspect_copy(own);
        if (!says(own, "a page of it cannot be read"))
            continue; /* nothing leads to the page any more */
        cr_assert(says(own, "lmdb/data.mdb is damaged"));
        cr_assert_not(own->report->starts);
        met++;
        salvage_part(own);
        lost = own->report->lost[STORE_KEYS];
        cr_assert_leq(lost, 200);
    }
    cr_assert_eq(met, ENOUGH);
    free(good.bytes);
    check_saved(own, lost);
    fixture_free(own);
}

/* LMDB would read behind the end of the file, and end the process by that. */
Test(salvage, of_lmdb_whose_file_ends_too_soon_says_so_and_takes_what_is_there)
{
    enum { PAGE = 4096 };
    static const size_t cuts[] = {1, PAGE, 3 * PAGE + 5, (size_t)20 * PAGE, (size_t)60 * PAGE};
    char path[PATH_SIZE];
    unsigned parts = 0;
    struct fixture *own = fixture_new("lmdb");
    put_many(own);
    close_store(own);
    path_in_copy(own, "lmdb/data.mdb", path);
    struct content good = read_path(path);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        write_path(path, good.bytes, good.size - cuts[i]);
        inspect_copy(own);
        cr_assert(says(own, "lmdb/data.mdb is damaged at offset"), "cut by %zu", cuts[i]);
        cr_assert(says(own, "it ends there"), "%s", own->report->damages[0].message);
        cr_assert_not(own->report->starts);
        cr_assert_eq(open_store(own, own->copy), STORE_CORRUPT);
        cr_assert(strstr(own->error.message, "it ends there") != NULL, "%s", own->error.message);
        int rc = salvage(own);
        cr_assert(rc == 0 || rc == STORE_CORRUPT, "code %d: %s", rc, own->error.message);
        parts += rc == 0 && own->report->partial;
    }
    cr_assert_gt(parts, 0);
    free(good.bytes);
    fixture_free(own);
}

static void delete_many(struct fixture *own)
{
    char key[NAME_SIZE];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "many-%06u", i);
        store_begin(own->store, START_MS);
        cr_assert_eq(keys_delete(&own->keys, slice_of_text(key)), 0);
        cr_assert_eq(store_end(own->store, NULL), 0);
    }
    cr_assert_eq(store_commit(own->store), 0);
    write_checkpoint(own);
}

static void put_one(struct fixture *own, const char *key)
{
    store_begin(own->store, START_MS);
    cr_assert_eq(keys_put(&own->keys, slice_of_text(key), slice_of_text("value"), 0), 0);
    cr_assert_eq(store_end(own->store, NULL), 0);
    cr_assert_eq(store_commit(own->store), 0);
}

/* LMDB need not have written a page that nothing leads to. */
Test(salvage, of_lmdb_whose_file_lacks_only_free_pages_has_nothing_to_save)
{
    enum { PAGE = 4096 };
    char path[PATH_SIZE];
    unsigned good_cuts = 0;
    struct fixture *own = fixture_new("lmdb");
    put_many(own);
    delete_many(own);
    for (unsigned i = 0; i < 5; i++) { /* pages at the beginning get free, and are taken */
        put_one(own, "new");
        write_checkpoint(own);
    }
    close_store(own);
    take_copy(own);
    path_in_copy(own, "lmdb/data.mdb", path);
    struct content good = read_path(path);
    for (size_t size = good.size - PAGE; size > 0; size -= PAGE) {
        write_path(path, good.bytes, size);
        inspect_copy(own);
        if (own->report->damages_in_all > 0)
            break;
        good_cuts++;
    }
    cr_assert_gt(good_cuts, 0);
    write_path(path, good.bytes, good.size - (size_t)PAGE * good_cuts);
    own->engine = NULL;
    open_well(own, own->copy);
    put_one(own, "new");
    write_checkpoint(own);
    free(good.bytes);
    fixture_free(own);
}

static bool is_not_the_2501st(struct slice value)
{
    return !slice_equal(value, slice_of_text("value 2501 of many"));
}

Test(salvage, leaves_out_a_key_whose_value_is_none)
{
    struct fixture *own = fixture_new("lmdb");
    struct store_options options = {.directory = own->saved};
    put_many(own);
    cr_assert_eq(
        store_inspect(own->copy, NULL, is_not_the_2501st, NULL, NULL, &own->report, &own->error),
        0);
    cr_assert(says(own, "in table keys, many-002501: its value is none"));
    store_report_free(&own->report);
    cr_assert_eq(
        store_salvage(own->copy, &options, NULL, is_not_the_2501st, &own->report, &own->error), 0,
        "%s", own->error.message);
    cr_assert(own->report->partial);
    cr_assert_eq(own->report->lost[STORE_KEYS], 1);
    check_saved(own, 1);
    fixture_free(own);
}

static void table_file(struct fixture *own, char path[NAME_SIZE])
{
    size_t largest = 0;
    char directory[PATH_SIZE];
    path_in_copy(own, "rocksdb", directory);
    DIR *list = opendir(directory);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;) {
        char name[NAME_SIZE];
        if (strstr(entry->d_name, ".sst") == NULL)
            continue;
        snprintf(name, sizeof name, "rocksdb/%.100s", entry->d_name);
        size_t size = end_of(own, name);
        if (size > largest)
            strcpy(path, name);
        largest = size > largest ? size : largest;
    }
    closedir(list);
    cr_assert_gt(largest, 0);
}

Test(salvage, of_rocksdb_with_a_block_that_is_bad_reads_on_behind_it)
{
    char name[NAME_SIZE];
    for (unsigned share = 1; share < 8; share++) {
        struct fixture *own = fixture_new("rocksdb");
        put_many(own);
        table_file(own, name);
        flip(own, name, end_of(own, name) * share / 10, 1);
        salvage_part(own);
        uint64_t lost = own->report->lost[STORE_KEYS];
        cr_assert_lt(lost, MANY / 4, "%" PRIu64 " are lost", lost);
        cr_assert(lost == 0 || says(own, "table keys cannot be read from "), "%s",
                  own->report->damages[0].message);
        check_saved(own, lost);
        fixture_free(own);
    }
}

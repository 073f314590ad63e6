/* What an inspection says of a data directory, and that it changes nothing. */
#include "offline_fixture.h"

#include "store/engine.h"
#include "store/fill.h"

enum { MAX_FILES = 32 };

static struct fixture *f;

static void make(void)
{
    f = fixture_new("memory");
}

static void unmake(void)
{
    fixture_free(f);
}

TestSuite(inspect, .init = make, .fini = unmake);

/* Every file of a tree, with name, bytes and time. */
struct listing {
    char names[MAX_FILES][PATH_SIZE];
    struct content contents[MAX_FILES];
    struct timespec times[MAX_FILES];
    size_t count;
};

static struct listing *listing;

static int list_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)walk;
    cr_assert(listing->count < MAX_FILES);
    snprintf(listing->names[listing->count], PATH_SIZE, "%s", path);
    listing->times[listing->count] = status->st_mtim;
    if (type == FTW_F)
        listing->contents[listing->count] = read_path(path);
    listing->count++;
    return 0;
}

static struct listing *list_tree(const char *path)
{
    listing = calloc(1, sizeof *listing);
    cr_assert_eq(nftw(path, list_entry, 8, FTW_PHYS), 0);
    return listing;
}

static void free_listing(struct listing *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->contents[i].bytes);
    free(list);
}

static void check_unchanged(struct listing *before, struct listing *after)
{
    cr_assert_eq(before->count, after->count);
    for (size_t i = 0; i < before->count; i++) {
        const struct content *a = &before->contents[i];
        const struct content *b = &after->contents[i];
        cr_assert_str_eq(before->names[i], after->names[i]);
        cr_assert(a->size == b->size && (a->size == 0 || memcmp(a->bytes, b->bytes, a->size) == 0),
                  "%s", before->names[i]);
        cr_assert(before->times[i].tv_sec == after->times[i].tv_sec &&
                      before->times[i].tv_nsec == after->times[i].tv_nsec,
                  "%s", before->names[i]);
    }
    free_listing(before);
    free_listing(after);
}

Test(inspect, says_what_a_directory_holds)
{
    write_many(f, 30);
    write_checkpoint(f);
    write_many(f, 12);
    take_copy(f);
    inspect_copy(f);
    const struct store_report *report = f->report;
    cr_assert_eq(report->damages_in_all, 0, "%s", report->damages[0].message);
    cr_assert_str_eq(report->state.engine, "memory");
    cr_assert_str_eq(report->state.epoch, store_epoch(f->store));
    cr_assert_eq(report->state.durability, STORE_ALWAYS);
    cr_assert_not(report->state.clean);
    cr_assert_eq(report->checkpoint_count, 1);
    cr_assert(report->checkpoints[0].good);
    cr_assert_eq(report->checkpoints[0].seq, 30);
    cr_assert_eq(report->base.seq, 30);
    cr_assert_eq(report->segments[0].first, 1);
    cr_assert_eq(report->segments[0].last, 42);
    cr_assert_eq(report->segments[0].first_seq, 1);
    cr_assert_eq(report->segments[0].last_seq, 42);
    cr_assert_eq(report->end.seq, 42);
    cr_assert_eq(report->end.time_ms, START_MS + 42);
    cr_assert_eq(report->oldest, 1);
    cr_assert_eq(report->entries[STORE_KEYS], keys_as_of(42));
    cr_assert_eq(report->loose_bytes, 0);
    cr_assert_eq(report->untaken_groups, 0);
    cr_assert_not(report->new_epoch);
}

Test(inspect, counts_what_the_log_adds_to_every_engine_and_what_it_takes_away)
{
    static const char *const engines[] = {"memory", "lmdb", "rocksdb"};
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (!store_has_engine(engines[i]))
            continue;
        struct fixture *own = fixture_new(engines[i]);
        for (unsigned step = 0; step < 40; step++) {
            uint64_t state[KEYS];
            unsigned expiring = 0;
            if (step == 15)
                write_checkpoint(own);
            state_as_of(own->seq, state);
            for (unsigned key = 0; key < KEYS; key++)
                expiring += state[key] != 0 && expiry_of(state[key]) != 0;
            take_copy(own);
            inspect_copy(own);
            cr_assert_eq(own->report->damages_in_all, 0, "%s", own->report->damages[0].message);
            cr_assert_str_eq(own->report->state.engine, engines[i]);
            cr_assert_eq(own->report->end.seq, own->seq);
            cr_assert_eq(own->report->entries[STORE_KEYS], keys_as_of(own->seq));
            cr_assert_eq(own->report->entries[STORE_EXPIRY], expiring);
            write_one(own);
        }
        fixture_free(own);
    }
}

Test(inspect, changes_nothing_in_a_directory_of_any_engine)
{
    static const char *const engines[] = {"memory", "lmdb", "rocksdb"};
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (!store_has_engine(engines[i]))
            continue;
        struct fixture *own = fixture_new(engines[i]);
        write_many(own, 20);
        write_checkpoint(own);
        write_many(own, 20);
        take_copy(own);
        struct listing *before = list_tree(own->copy);
        inspect_copy(own);
        check_unchanged(before, list_tree(own->copy));
        cr_assert_eq(salvaged_seq(own), 40);
        fixture_free(own);
    }
}

Test(inspect, takes_the_lock_that_a_store_has_and_shares_it_with_its_like)
{
    write_one(f);
    cr_assert_eq(inspect(f, f->live), STORE_LOCKED);
    cr_assert_not_null(strstr(f->error.message, "is in use by process"), "%s", f->error.message);
    close_store(f);
    struct directory *reader;
    struct directory_state state;
    struct store_error damage;
    cr_assert_eq(directory_open_to_read(&reader, f->live, &state, &damage, &f->error), 0);
    cr_assert_eq(inspect(f, f->live), 0);
    cr_assert_eq(open_store(f, f->live), STORE_LOCKED);
    directory_close(&reader);
    open_well(f, f->live);
}

Test(inspect, refuses_what_is_no_data_directory)
{
    char path[PATH_SIZE];
    cr_assert_eq(inspect(f, "/nonexistent/data"), STORE_IO);
    cr_assert_eq(mkdir(f->copy, 0700), 0);
    cr_assert_eq(inspect(f, f->copy), STORE_INVALID);
    path_in_copy(f, "letter.txt", path);
    write_path(path, "Dear sir", 8);
    cr_assert_eq(inspect(f, f->copy), STORE_INVALID);
}

Test(inspect, of_a_new_directory_finds_nothing_and_nothing_wrong)
{
    take_copy(f);
    inspect_copy(f);
    cr_assert_eq(f->report->damages_in_all, 0, "%s", f->report->damages[0].message);
    cr_assert_eq(f->report->end.seq, 0);
    cr_assert_eq(f->report->oldest, 1);
}

/* A flip in the last group of all cannot be told from a torn end, but that is reported too. */
static void check_flip_in_log(const char *name, size_t offset, uint8_t mask)
{
    uint64_t seq = 0;
    flip(f, name, offset, mask);
    inspect_copy(f);
    bool damaged = f->report->damages_in_all > 0;
    cr_assert(damaged || f->report->loose_bytes > 0, "%s, offset %zu is not found", name, offset);
    uint64_t whole = f->report->end.seq;
    cr_assert(whole < f->seq || offset < 64, "%s, offset %zu", name, offset);
    if (whole > 0)
        cr_assert_eq(salvaged_seq(f), whole, "%s, offset %zu", name, offset);
    else /* without its first group the log is of no use */
        cr_assert_eq(salvage(f), STORE_CORRUPT, "%s, offset %zu", name, offset);
    int rc = start_on_copy(f, &seq);
    if (damaged) {
        cr_assert_eq(rc, STORE_CORRUPT, "%s, offset %zu: code %d", name, offset, rc);
        cr_assert_not_null(strstr(f->error.message, "log-00"), "%s", f->error.message);
        cr_assert_not_null(strstr(f->error.message, "at offset"), "%s", f->error.message);
    } else {
        cr_assert(rc == 0 && seq == whole, "%s, offset %zu: %s", name, offset, f->error.message);
    }
}

Test(inspect, finds_every_flipped_byte_of_a_log_and_the_start_and_the_salvage_agree)
{
    const char *name = "log-0000000001";
    write_many(f, 12);
    take_copy(f);
    size_t end = end_of(f, name);
    for (size_t offset = 0; offset < end; offset++) {
        take_copy(f);
        check_flip_in_log(name, offset, (uint8_t)(1u << offset % 8));
    }
}

Test(inspect, finds_every_flipped_byte_of_a_checkpoint_which_a_start_passes_over)
{
    char name[64] = "";
    uint64_t seq;
    write_many(f, 12);
    write_checkpoint(f);
    write_many(f, 3);
    take_copy(f);
    snprintf(name, sizeof name, "checkpoint-%020d", 12);
    size_t end = end_of(f, name);
    for (size_t offset = 0; offset < end; offset++) {
        take_copy(f);
        flip(f, name, offset, (uint8_t)(1u << offset % 8));
        if (offset >= 8 && offset < 12)
            continue; /* the version */
        inspect_copy(f);
        cr_assert_not(f->report->checkpoints[0].good, "offset %zu", offset);
        cr_assert(says(f, name) && says(f, "offset"), "offset %zu", offset);
        cr_assert_eq(salvaged_seq(f), 15, "offset %zu", offset);
        cr_assert_eq(start_on_copy(f, &seq), STORE_CORRUPT); /* it is the only one */
    }
}

Test(inspect, says_that_a_start_makes_do_where_another_checkpoint_is_good)
{
    uint64_t seq;
    write_many(f, 10);
    write_checkpoint(f);
    write_many(f, 10);
    write_checkpoint(f);
    write_many(f, 10);
    take_copy(f);
    flip(f, "checkpoint-00000000000000000020", 100, 1);
    inspect_copy(f);
    cr_assert_eq(f->report->damages_in_all, 1);
    cr_assert(f->report->starts);
    cr_assert(f->report->checkpoints[1].good && f->report->base.seq == 10);
    cr_assert_eq(f->report->end.seq, 30);
    cr_assert_eq(salvaged_seq(f), 30);
    cr_assert_eq(start_on_copy(f, &seq), 0);
    cr_assert_eq(seq, 30);
}

Test(inspect, finds_every_flipped_byte_of_the_state_which_is_not_needed_to_save_the_rest)
{
    uint64_t seq;
    write_many(f, 9);
    take_copy(f);
    size_t end = end_of(f, "state");
    for (size_t offset = 0; offset <= end; offset++) {
        char path[PATH_SIZE];
        take_copy(f);
        path_in_copy(f, "state", path);
        if (offset < end)
            flip(f, "state", offset, (uint8_t)(1u << offset % 8));
        else
            cr_assert_eq(unlink(path), 0);
        inspect_copy(f);
        cr_assert(says(f, "state"), "offset %zu", offset);
        cr_assert_eq(salvaged_seq(f), 9, "offset %zu", offset);
        cr_assert_neq(start_on_copy(f, &seq), 0, "offset %zu", offset);
    }
}

Test(inspect, tells_each_hole_in_the_log_and_counts_what_is_behind_them)
{
    const char *name = "log-0000000001";
    write_many(f, 40);
    take_copy(f);
    size_t end = end_of(f, name);
    flip(f, name, end / 4, 1);
    flip(f, name, end / 2, 1);
    inspect_copy(f);
    cr_assert_eq(f->report->damages_in_all, 2, "%zu", f->report->damages_in_all);
    cr_assert_eq(f->report->end.seq + 2 + f->report->untaken_groups, 40);
    cr_assert_gt(f->report->untaken_bytes, end / 2);
    cr_assert_eq(f->report->segments[0].last, 40);
    uint64_t whole = f->report->end.seq;
    cr_assert_eq(salvaged_seq(f), whole);
}

Test(inspect, of_a_log_that_ends_at_any_byte_finds_the_whole_groups)
{
    const char *name = "log-0000000001";
    char path[PATH_SIZE];
    uint64_t before = 0;
    write_many(f, 10);
    take_copy(f);
    path_in_copy(f, name, path);
    struct content content = read_path(path);
    size_t end = end_of(f, name);
    for (size_t size = 0; size <= end + 8; size++) {
        uint64_t seq = 0;
        take_copy(f);
        write_path(path, content.bytes, size);
        inspect_copy(f);
        cr_assert_eq(f->report->damages_in_all, 0, "%s", f->report->damages[0].message);
        cr_assert_geq(f->report->end.seq, before, "size %zu", size);
        before = f->report->end.seq;
        cr_assert_eq(salvaged_seq(f), before, "size %zu", size);
        cr_assert_eq(start_on_copy(f, &seq), 0, "size %zu", size);
        cr_assert_eq(seq, before);
    }
    cr_assert_eq(before, 10);
    free(content.bytes);
}

Test(inspect, finds_a_torn_end_where_a_clean_stop_left_none)
{
    char path[PATH_SIZE];
    write_many(f, 10);
    close_store(f);
    take_copy(f);
    path_in_copy(f, "checkpoint-00000000000000000010", path);
    cr_assert_eq(unlink(path), 0); /* as if there had been no room for it */
    inspect_copy(f);
    cr_assert_eq(f->report->damages_in_all, 0, "%s", f->report->damages[0].message);
    flip(f, "log-0000000001", end_of(f, "log-0000000001") - 1, 1);
    inspect_copy(f);
    cr_assert(says(f, "stopped cleanly"));
    cr_assert_eq(f->report->end.seq, 9);
}

Test(inspect, says_that_interval_may_have_lost_something_and_lets_go_of_a_log_that_did)
{
    char path[PATH_SIZE];
    uint64_t seq;
    close_store(f);
    struct store_options options = {.directory = f->live,
                                    .durability = STORE_INTERVAL,
                                    .log_retain = 1 << 20,
                                    .segment_size = SEGMENT,
                                    .wall_ms = START_MS};
    cr_assert_eq(store_open(&f->store, &options, &f->error), 0);
    keys_init(&f->keys, f->store);
    write_many(f, 10);
    write_checkpoint(f);
    take_copy(f);
    path_in_copy(f, "log-0000000001", path);
    cr_assert_eq(truncate(path, (off_t)end_of(f, "log-0000000001") / 2), 0);
    inspect_copy(f);
    cr_assert(f->report->new_epoch);
    cr_assert_eq(f->report->damages_in_all, 0, "%s", f->report->damages[0].message);
    cr_assert_eq(f->report->end.seq, 10);
    cr_assert_eq(f->report->oldest, 11);
    cr_assert_eq(start_on_copy(f, &seq), 0);
    cr_assert_eq(seq, 10);
}

Test(inspect, names_a_file_that_is_missing)
{
    char path[PATH_SIZE];
    write_many(f, 3000);
    take_copy(f);
    inspect_copy(f);
    cr_assert_geq(f->report->segment_count, 3);
    path_in_copy(f, "log-0000000002", path);
    cr_assert_eq(unlink(path), 0);
    inspect_copy(f);
    cr_assert(says(f, "log-0000000002: the file is missing"), "%s", f->report->damages[0].message);
    uint64_t whole = f->report->end.seq;
    cr_assert_eq(salvaged_seq(f), whole);
    cr_assert_gt(f->report->untaken_groups, 0);
}

Test(inspect, misses_a_log_that_is_gone)
{
    write_many(f, 5);
    close_store(f);
    open_well(f, f->live);
    take_copy(f);
    DIR *list = opendir(f->copy);
    for (const struct dirent *entry; (entry = readdir(list)) != NULL;)
        if (strncmp(entry->d_name, "log-", 4) == 0)
            cr_assert_eq(unlinkat(dirfd(list), entry->d_name, 0), 0);
    closedir(list);
    inspect_copy(f);
    cr_assert(says(f, "its files are missing"));
    cr_assert_eq(salvaged_seq(f), 5); /* which the checkpoint has */
}

/* Entries that no code of ours writes. */

static void fill(const char *engine, unsigned table, const char *key, struct slice value)
{
    struct store_fill *entries;
    struct store_options options = {.directory = f->copy, .engine = engine};
    remove_tree(f->copy);
    cr_assert_eq(store_fill_begin(&entries, &options, &f->error), 0, "%s", f->error.message);
    cr_assert_eq(store_fill_put(entries, table, slice_of_text(key), value, &f->error), 0);
    cr_assert_eq(store_fill_end(&entries, 5, START_MS, &f->error), 0, "%s", f->error.message);
}

static void check_odd_entries(const char *engine)
{
    static const uint8_t good[] = {3, 5, 0, 0, 0, 'v'};
    static const uint8_t newer[] = {3, 6, 0, 0, 0, 'v'};
    static const uint8_t expiring[] = {11, 5, 0, 0, 0, 9, 9, 0, 0, 0, 0, 0, 0, 'v'};
    fill(engine, STORE_KEYS, "a", slice_of(good, sizeof good));
    inspect_copy(f);
    cr_assert_eq(f->report->damages_in_all, 0, "%s", f->report->damages[0].message);
    fill(engine, STORE_KEYS, "a\xff", slice_of("\xff", 1));
    inspect_copy(f);
    cr_assert(says(f, "in table keys, a\\xff: what is stored is no entry"));
    fill(engine, STORE_KEYS, "a", slice_of(newer, sizeof newer));
    inspect_copy(f);
    cr_assert(says(f, "newer than the state"));
    fill(engine, STORE_KEYS, "a", slice_of(expiring, sizeof expiring));
    inspect_copy(f);
    cr_assert(says(f, "the index of expiries lacks it"));
    fill(engine, STORE_EXPIRY, "12345678a", slice_of("", 0));
    inspect_copy(f);
    cr_assert(says(f, "no key expires then"));
    fill(engine, STORE_EXPIRY, "1234567", slice_of("", 0));
    inspect_copy(f);
    cr_assert(says(f, "no entry of the index"));
    fill(engine, ENGINE_TABLES - 1, "a", slice_of("", 0));
    inspect_copy(f);
    cr_assert(says(f, "there is no table"));
}

Test(inspect, finds_entries_that_no_code_of_ours_writes_in_every_engine)
{
    check_odd_entries("memory");
    check_odd_entries("lmdb");
    if (store_has_engine("rocksdb"))
        check_odd_entries("rocksdb");
}

/* What the log says of a key, or of its expiry, and not of both. */
static void check_half_written(const char *engine, enum store_table table, bool deletes,
                               const char *said)
{
    static const uint8_t forever[] = {3, 2, 0, 0, 0, 'v'};
    uint8_t buffer[KEYS_MAX_EXPIRY_KEY];
    struct fixture *own = fixture_new(engine);
    struct slice key = slice_of_text("half");
    struct slice index = keys_expiry_key(buffer, FAR_MS, key);
    store_begin(own->store, START_MS);
    cr_assert_eq(keys_put(&own->keys, key, slice_of_text("v"), FAR_MS), 0);
    cr_assert_eq(store_end(own->store, NULL), 0);
    cr_assert_eq(store_commit(own->store), 0);
    write_checkpoint(own);
    store_begin(own->store, START_MS);
    if (deletes)
        cr_assert_eq(store_delete(own->store, table, table == STORE_KEYS ? key : index,
                                  table == STORE_KEYS ? STORE_CHANGE_DELETE : STORE_QUIET),
                     0);
    else
        cr_assert_eq(store_put(own->store, table, key, (struct slice){0},
                               slice_of(forever, sizeof forever), STORE_CHANGE_PUT),
                     0);
    cr_assert_eq(store_end(own->store, NULL), 0);
    cr_assert_eq(store_commit(own->store), 0);
    take_copy(own);
    inspect_copy(own);
    cr_assert(says(own, said), "%s: %s", engine, own->report->damages[0].message);
    fixture_free(own);
}

Test(inspect, finds_keys_and_expiries_that_the_log_left_without_each_other)
{
    static const char *const engines[] = {"memory", "lmdb", "rocksdb"};
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        check_half_written(engines[i], STORE_KEYS, true, "no key expires then");
        check_half_written(engines[i], STORE_KEYS, false, "no key expires then");
        check_half_written(engines[i], STORE_EXPIRY, true, "the index of expiries lacks it");
    }
}

/* LMDB's own key begins with a zero, and that of the index with a time. */
static void rename_key(const char *path)
{
    struct content content = read_path(path);
    unsigned changed = 0;
    for (size_t i = 0; i + 6 <= content.size; i++)
        if (memcmp(content.bytes + i, "\0key 1", 6) == 0) {
            content.bytes[i + 5] = 'z';
            changed++;
        }
    cr_assert_gt(changed, 0);
    write_path(path, content.bytes, content.size);
    free(content.bytes);
}

Test(inspect, finds_keys_out_of_order_in_lmdb_and_salvages_the_log_alone)
{
    struct fixture *own = fixture_new("lmdb");
    char path[PATH_SIZE];
    write_many(own, 20);
    write_checkpoint(own);
    close_store(own);
    take_copy(own);
    path_in_copy(own, "lmdb/data.mdb", path);
    rename_key(path);
    inspect_copy(own);
    cr_assert(says(own, "lmdb is damaged: table 0 is not in order"));
    cr_assert_not(own->report->starts);
    cr_assert_eq(own->report->entries[STORE_KEYS], keys_as_of(20)); /* the log has all of it */
    own->engine = NULL;
    cr_assert_eq(salvaged_seq(own), 20);
    fixture_free(own);
}

/* The length of a record is there, and of what follows nothing. Only a start may cut that off. */
Test(inspect, of_rocksdb_says_that_a_start_mends_what_a_start_mends)
{
    static const uint8_t torn[7 + 95] = {0x7d, 0xf1, 0xaa, 0xdc, 95};
    struct fixture *own = fixture_new("rocksdb");
    char path[PATH_SIZE];
    char name[NAME_SIZE] = "";
    uint64_t seq;
    write_many(own, 20);
    write_checkpoint(own);
    write_many(own, 5);
    take_copy(own);
    path_in_copy(own, "rocksdb/CURRENT", path);
    struct content current = read_path(path);
    snprintf(name, sizeof name, "rocksdb/%.*s", (int)current.size - 1, (char *)current.bytes);
    free(current.bytes);
    path_in_copy(own, name, path);
    FILE *manifest = fopen(path, "a");
    cr_assert_not_null(manifest);
    cr_assert_eq(fwrite(torn, 1, sizeof torn, manifest), sizeof torn);
    fclose(manifest);
    cr_assert_eq(inspect(own, own->copy), STORE_INVALID);
    cr_assert_not_null(strstr(own->error.message, name + 8), "%s", own->error.message);
    cr_assert_not_null(strstr(own->error.message, "start cubbyd, which"), "%s", own->error.message);
    cr_assert_eq(salvage(own), STORE_INVALID);
    cr_assert_eq(start_on_copy(own, &seq), 0);
    cr_assert_eq(seq, 25);
    inspect_copy(own);
    cr_assert_eq(own->report->damages_in_all, 0);
    fixture_free(own);
}

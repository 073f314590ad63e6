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
    cr_assert_eq(store_salvage(f->copy, &options, &f->report, &f->error), STORE_INVALID);
    path_in_copy(f, "new", path);
    cr_assert_eq(store_salvage(f->copy, &options, &f->report, &f->error), STORE_INVALID);
    cr_assert_not_null(strstr(f->error.message, "not to be changed"), "%s", f->error.message);
    path_in_copy(f, "new/er", path);
    cr_assert_eq(store_salvage(f->copy, &options, &f->report, &f->error), STORE_INVALID);
    snprintf(path, sizeof path, "%s", f->live);
    cr_assert_neq(store_salvage(f->copy, &options, &f->report, &f->error), 0);
    cr_assert_eq(mkdir(f->saved, 0700), 0);
    snprintf(path, sizeof path, "%s/file", f->saved);
    write_path(path, "x", 1);
    snprintf(path, sizeof path, "%s", f->saved);
    cr_assert_eq(store_salvage(f->copy, &options, &f->report, &f->error), STORE_INVALID);
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
    cr_assert_eq(store_salvage(f->copy, &options, &f->report, &f->error), 0);
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

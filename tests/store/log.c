/* The log as its callers see it, and what a start makes of damaged files. */
#include "tests/store/log_fixture.h"

enum { SMALL = 100 };

/* Where group `index` (from 0) of a segment begins, if all have one record of `size` bytes. */
static uint64_t group_at(size_t index, size_t size)
{
    size_t group = GROUP_HEADER_SIZE + RECORD_HEADER_SIZE + size;
    return SEGMENT_HEADER_SIZE + index * ((group + 7) / 8 * 8);
}

static void check_refused(struct fixture *f, uint64_t id, uint64_t offset)
{
    char place[PATH_SIZE];
    char name[SEGMENT_NAME_SIZE];
    segment_name(id, name);
    snprintf(place, sizeof(place), "%s is damaged at offset %" PRIu64 ":", name, offset);
    int code = start(f);
    cr_assert_eq(code, STORE_CORRUPT, "code %d, %s", code, place);
    cr_assert_not_null(strstr(f->error.message, place), "%s, not %s", f->error.message, place);
}

/* What was read is the first `count` records; writing goes on, and is there after a restart. */
static void check_cut(struct fixture *f, size_t count)
{
    start_well(f);
    cr_assert(saw(f, 0, count), "%zu records, not %zu", f->seen.count, count);
    size_t all = f->expected.count;
    struct entry rest[8];
    cr_assert(all - count <= 8);
    memcpy(rest, f->expected.list + count, (all - count) * sizeof(rest[0]));
    f->expected.count = count;
    uint64_t seq = f->seq;
    f->seq = count > 0 ? f->expected.list[count - 1].seq : 0;
    commit(f, SMALL + 3);
    restart(f);
    cr_assert(saw_all(f), "%zu records", f->seen.count);
    cr_assert_eq(log_close(&f->log), 0);
    entries_truncate(&f->expected, count);
    memcpy(f->expected.list + count, rest, (all - count) * sizeof(rest[0]));
    f->expected.count = all;
    f->seq = seq;
}

Test(log, gives_back_what_was_committed)
{
    struct fixture *f = fixture_new();
    start_well(f);
    cr_assert_eq(log_position(f->log), 0);
    cr_assert_eq(log_oldest_seq(f->log), 1);
    commit(f, SMALL);
    cr_assert_eq(append(f, 0, 0), 0);
    cr_assert_eq(append(f, 2, 1), 0);
    cr_assert_eq(append(f, 0, 5000), 0);
    cr_assert_eq(log_commit(f->log), 0);
    cr_assert_eq(log_commit(f->log), 0, "an empty group is no commit");
    cr_assert_eq(log_position(f->log), 2);
    cr_assert_eq(log_synced(f->log), 2);
    restart(f);
    cr_assert(saw_all(f));
    cr_assert_eq(log_position(f->log), 2);
    f->seq = 2;
    commit(f, SMALL);
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
}

Test(log, replays_what_is_behind_applied)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 20, 10000);
    for (uint64_t applied = 0; applied <= 20; applied++) {
        f->options.applied = applied;
        restart(f);
        cr_assert(saw(f, applied, 20), "%" PRIu64, applied);
    }
    fixture_free(f);
}

Test(log, must_meet_the_state_that_it_is_replayed_onto)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 30, 10000);
    cr_assert_eq(log_close(&f->log), 0);
    f->options.applied = 31;
    cr_assert_eq(start(f), STORE_CORRUPT, "the log ends before the state");
    f->options.applied = 30;
    start_well(f);
    cr_assert_eq(f->seen.count, 0);
    cr_assert_eq(log_close(&f->log), 0);
    remove_files(f);
    cr_assert_eq(start(f), STORE_CORRUPT, "the log is gone");
    fixture_free(f);
}

Test(log, that_was_trimmed_is_refused_without_the_state_it_was_trimmed_for)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 30, 10000);
    uint64_t size = log_size(f->log);
    log_trim(f->log, 20, 0);
    uint64_t oldest = log_oldest_seq(f->log);
    cr_assert(oldest > 10 && oldest <= 21, "%" PRIu64, oldest);
    f->options.applied = oldest - 1;
    restart(f);
    cr_assert(saw(f, oldest - 1, 30));
    cr_assert_eq(log_oldest_seq(f->log), oldest);
    cr_assert(log_size(f->log) <= size + f->options.segment_size, "a spare may have been missing");
    cr_assert_eq(log_close(&f->log), 0);
    f->options.applied = oldest - 2;
    cr_assert_eq(start(f), STORE_CORRUPT);
    f->options.applied = 0;
    cr_assert_eq(start(f), STORE_CORRUPT);
    fixture_free(f);
}

static int refuse(void *context, uint64_t position, const struct log_record *record,
                  struct store_error *error)
{
    (void)context, (void)record;
    return position < 3 ? 0 : (int)store_fail(error, STORE_INVALID, "no more");
}

static void count_progress(void *context, uint64_t done, uint64_t total)
{
    uint64_t *last = context;
    cr_assert(done > *last && done <= total);
    *last = done;
}

Test(log, start_ends_with_the_code_of_the_replay)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 5, SMALL);
    cr_assert_eq(log_close(&f->log), 0);
    cr_assert_eq(log_open(&f->log, &f->options, refuse, NULL, NULL, &f->error), STORE_INVALID);
    cr_assert_str_eq(f->error.message, "no more");
    start_well(f);
    cr_assert(saw_all(f));
    fixture_free(f);
}

Test(log, start_reports_its_progress)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 60, 60000);
    cr_assert_eq(log_close(&f->log), 0);
    uint64_t last = 0;
    cr_assert_eq(log_open(&f->log, &f->options, NULL, count_progress, &last, &f->error), 0);
    cr_assert(last > 3 << 20, "%" PRIu64, last);
    fixture_free(f);
}

Test(log, refuses_segments_that_are_too_small)
{
    struct fixture *f = fixture_new();
    f->options.segment_size = LOG_MIN_SEGMENT_SIZE - 1;
    cr_assert_eq(start(f), STORE_INVALID);
    f->options.segment_size = 0;
    f->options.directory = "/nonexistent";
    cr_assert_eq(start(f), STORE_IO);
    fixture_free(f);
}

Test(log, forgets_what_is_dropped_or_discarded)
{
    struct fixture *f = fixture_new();
    start_well(f);
    buffer_append(log_begin_record(f->log), "lost", 4);
    log_drop_record(f->log);
    cr_assert_eq(log_pending(f->log), 0);
    cr_assert_eq(log_commit(f->log), 0);
    cr_assert_eq(log_position(f->log), 0);
    cr_assert_eq(append(f, 1, SMALL), 0);
    buffer_append(log_begin_record(f->log), "lost", 4);
    log_drop_record(f->log);
    cr_assert_eq(log_pending(f->log), GROUP_HEADER_SIZE + RECORD_HEADER_SIZE + SMALL);
    cr_assert_eq(log_commit(f->log), 0);
    cr_assert_eq(append(f, 2, SMALL), 0);
    entries_truncate(&f->expected, 1);
    log_discard(f->log);
    f->seq = 1;
    commit(f, SMALL);
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
}

Test(log, goes_on_in_the_next_segment)
{
    struct fixture *f = fixture_new();
    start_well(f);
    for (size_t i = 0; i < 60; i++) {
        commit(f, 3000 + i * 500);
        if (i % 7 == 0)
            restart(f);
    }
    restart(f);
    cr_assert(saw_all(f));
    cr_assert(log_size(f->log) > 15 * (size_t)LOG_MIN_SEGMENT_SIZE);
    fixture_free(f);
}

Test(log, fills_a_segment_to_its_last_byte)
{
    struct fixture *f = fixture_new();
    size_t headers = SEGMENT_HEADER_SIZE + GROUP_HEADER_SIZE + RECORD_HEADER_SIZE;
    start_well(f);
    for (size_t less = 0; less < 40; less++)
        commit(f, LOG_MIN_SEGMENT_SIZE - headers - less);
    restart(f);
    cr_assert(saw_all(f));
    fixture_free(f);
}

/* A start takes the beginning of a log that was trimmed for damaged where it is torn. */
Test(log, lets_nothing_go_before_what_follows_is_durable)
{
    struct fixture *f = fixture_new();
    f->options.durability = LOG_NONE;
    start_well(f);
    while (log_oldest_seq(f->log) == 1) {
        cr_assert_eq(log_sync(f->log), 0);
        commit(f, 10000);
        log_trim(f->log, log_position(f->log) - 1, 0); /* all but this group is durable */
    }
    cr_assert_eq(log_oldest_seq(f->log), f->seq);
    cr_assert_eq(log_synced(f->log), log_position(f->log));
    fixture_free(f);
}

Test(log, gives_a_group_that_is_larger_than_a_segment_its_own)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit(f, 1 << 20);
    commit(f, SMALL);
    commit(f, 3 << 20);
    cr_assert_eq(append(f, 4, 200000), 0);
    cr_assert_eq(append(f, 5, 200000), 0);
    cr_assert_eq(log_commit(f->log), 0);
    f->seq = 5;
    commit_many(f, 20, 20000);
    restart(f);
    cr_assert(saw_all(f));
    log_trim(f->log, log_position(f->log), 0);
    f->options.applied = log_position(f->log);
    commit_many(f, 20, 20000);
    restart(f);
    cr_assert(saw(f, f->expected.count - 20, f->expected.count));
    fixture_free(f);
}

Test(log, can_be_opened_with_segments_of_another_size)
{
    struct fixture *f = fixture_new();
    start_well(f);
    for (size_t i = 0; i < 6; i++) {
        commit_many(f, 10, 20000);
        f->options.segment_size = i % 2 == 0 ? 150001 : LOG_MIN_SEGMENT_SIZE;
        restart(f);
        cr_assert(saw_all(f));
    }
    fixture_free(f);
}

Test(log, cuts_off_a_torn_end)
{
    struct fixture *f = fixture_new();
    char path[PATH_SIZE];
    start_well(f);
    commit_many(f, 4, SMALL);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    segment_path(f, 1, path);
    uint64_t end = group_at(4, SMALL);
    struct content *file = &image->files[0];
    uint8_t *kept = malloc(file->size);
    memcpy(kept, file->bytes, file->size);
    for (uint64_t at = group_at(3, SMALL); at < end; at++) {
        put_image(f, image);
        cr_assert_eq(truncate(path, (off_t)at), 0);
        check_cut(f, 3);
        /* The last group's last bytes may be zeros, then there is nothing to miss. */
        bool whole = true;
        for (uint64_t i = at; i < end; i++)
            whole = whole && kept[i] == 0;
        memset(file->bytes + at, 0, end - at);
        put_image(f, image);
        check_cut(f, whole ? 4 : 3);
        memcpy(file->bytes, kept, file->size);
    }
    free(kept);
    free_image(image);
    fixture_free(f);
}

static void flip(struct fixture *f, struct image *image, size_t file, uint64_t offset)
{
    image->files[file].bytes[offset] ^= (uint8_t)(1u << (offset % 8));
    put_image(f, image);
    image->files[file].bytes[offset] ^= (uint8_t)(1u << (offset % 8));
}

Test(log, refuses_damage_before_whole_groups_and_cuts_it_in_the_last)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 4, SMALL);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    for (uint64_t at = 0; at < group_at(4, SMALL); at++) {
        uint64_t group = at < SEGMENT_HEADER_SIZE ? 0 : (at - SEGMENT_HEADER_SIZE) / 160;
        flip(f, image, 0, at);
        if (at < SEGMENT_HEADER_SIZE)
            check_refused(f, 1, 0);
        else if (group < 3)
            check_refused(f, 1, group_at(group, SMALL));
        else
            check_cut(f, 3);
    }
    free_image(image);
    fixture_free(f);
}

Test(log, without_a_header_holds_no_more_than_its_only_group)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit(f, SMALL);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    for (uint64_t at = 0; at < group_at(1, SMALL); at++) {
        flip(f, image, 0, at);
        check_cut(f, 0);
    }
    free_image(image);
    fixture_free(f);
}

Test(log, refuses_a_damaged_header_of_a_later_segment)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 2, 32000);
    commit_many(f, 3, 2000);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    for (uint64_t at = 0; at < SEGMENT_HEADER_SIZE; at++) {
        flip(f, image, 1, at);
        check_refused(f, 2, 0);
    }
    for (uint64_t at = SEGMENT_HEADER_SIZE; at < SEGMENT_HEADER_SIZE + 200; at++) {
        flip(f, image, 1, at);
        check_refused(f, 2, SEGMENT_HEADER_SIZE);
    }
    flip(f, image, 0, group_at(1, 32000) + 17);
    check_refused(f, 1, group_at(1, 32000));
    free_image(image);
    fixture_free(f);
}

Test(log, cuts_a_later_segment_whose_only_group_is_torn)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 2, 32000);
    commit(f, 2000);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    for (uint64_t at = 0; at < SEGMENT_HEADER_SIZE + 200; at++) {
        flip(f, image, 1, at);
        check_cut(f, 2);
    }
    free_image(image);
    fixture_free(f);
}

Test(log, refuses_damage_of_which_only_a_header_is_left_as_proof)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 2, 32000);
    commit(f, 2000);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    memset(image->files[0].bytes + group_at(1, 32000), 0xff, 1000);
    memset(image->files[1].bytes + SEGMENT_HEADER_SIZE, 0, 1000);
    put_image(f, image);
    check_refused(f, 1, group_at(1, 32000));
    free_image(image);
    fixture_free(f);
}

Test(log, refuses_a_missing_segment)
{
    struct fixture *f = fixture_new();
    char path[PATH_SIZE];
    start_well(f);
    commit_many(f, 12, 30000);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    for (uint64_t id = 2; id <= 5; id++) {
        put_image(f, image);
        segment_path(f, id, path);
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(start(f), STORE_CORRUPT);
        cr_assert_not_null(strstr(f->error.message, strrchr(path, '/') + 1), "%s",
                           f->error.message);
        cr_assert_not_null(strstr(f->error.message, "missing"), "%s", f->error.message);
    }
    put_image(f, image);
    segment_path(f, 1, path);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(start(f), STORE_CORRUPT);
    free_image(image);
    fixture_free(f);
}

Test(log, refuses_to_change_what_it_refuses)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 12, 30000);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    image->files[2].bytes[5000] ^= 1;
    put_image(f, image);
    cr_assert_eq(start(f), STORE_CORRUPT);
    struct image *after = take_image(f);
    cr_assert_eq(after->count, image->count);
    for (size_t i = 0; i < image->count; i++) {
        cr_assert_eq(after->files[i].size, image->files[i].size);
        cr_assert_eq(memcmp(after->files[i].bytes, image->files[i].bytes, after->files[i].size), 0);
    }
    free_image(after);
    free_image(image);
    fixture_free(f);
}

Test(log, refuses_another_version)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 2, SMALL);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    struct segment_header header;
    cr_assert(segment_read_header(image->files[0].bytes, &header));
    header.version = SEGMENT_VERSION + 1;
    segment_write_header(image->files[0].bytes, &header);
    put_image(f, image);
    cr_assert_eq(start(f), STORE_INVALID);
    free_image(image);
    fixture_free(f);
}

/* Six groups, of which the third will be missing. `sync_after`: so many are synced, 0: none. */
static struct image *make_hole(struct fixture *f, size_t sync_after)
{
    f->options.durability = LOG_INTERVAL;
    start_well(f);
    for (size_t i = 1; i <= 6; i++) {
        commit(f, SMALL);
        if (i == sync_after)
            cr_assert_eq(log_sync(f->log), 0);
    }
    cr_assert_eq(log_synced(f->log), sync_after);
    struct image *image = take_image(f);
    memset(image->files[0].bytes + group_at(2, SMALL), 0, group_at(1, SMALL) - group_at(0, SMALL));
    cr_assert_eq(log_close(&f->log), 0);
    put_image(f, image);
    return image;
}

Test(log, cuts_unsynced_groups_at_a_hole)
{
    for (size_t synced = 0; synced <= 2; synced++) {
        struct fixture *f = fixture_new();
        struct image *image = make_hole(f, synced);
        check_cut(f, 2);
        free_image(image);
        fixture_free(f);
    }
}

Test(log, refuses_a_hole_in_what_was_synced)
{
    for (size_t synced = 3; synced <= 5; synced++) {
        struct fixture *f = fixture_new();
        struct image *image = make_hole(f, synced);
        check_refused(f, 1, group_at(2, SMALL));
        free_image(image);
        fixture_free(f);
    }
}

Test(log, fills_what_it_cuts_with_zeros)
{
    struct fixture *f = fixture_new();
    struct image *image = make_hole(f, 0);
    start_well(f);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *after = take_image(f);
    for (size_t i = group_at(2, SMALL); i < after->files[0].size; i++)
        cr_assert_eq(after->files[0].bytes[i], 0);
    free_image(after);
    free_image(image);
    fixture_free(f);
}

/* Segments that were begun behind the hole, whether group and header in them are whole or not. */
Test(log, uses_no_segment_again_that_it_cut_off)
{
    static const size_t damaged[] = {LOG_MIN_SEGMENT_SIZE - 1, SEGMENT_HEADER_SIZE + 100, 20};
    for (size_t round = 0; round < 3; round++) {
        struct fixture *f = fixture_new();
        f->options.durability = LOG_INTERVAL;
        start_well(f);
        commit_many(f, 3, 30000);
        struct image *image = take_image(f);
        memset(image->files[0].bytes + group_at(1, 30000), 0, 1000);
        image->files[1].bytes[damaged[round]] ^= 1;
        cr_assert_eq(log_close(&f->log), 0);
        put_image(f, image);
        free_image(image);
        start_well(f);
        cr_assert(saw(f, 0, 1));
        cr_assert_eq(log_close(&f->log), 0);
        image = take_image(f);
        for (size_t file = 1; file < image->count; file++)
            for (size_t i = 0; i < image->files[file].size; i++)
                cr_assert_eq(image->files[file].bytes[i], 0);
        free_image(image);
        fixture_free(f);
    }
}

/* A group with the right number, of a history that went another way. */
Test(log, takes_no_group_that_follows_another)
{
    struct fixture *f = fixture_new();
    f->options.durability = LOG_INTERVAL;
    start_well(f);
    commit_many(f, 3, SMALL);
    struct image *before = take_image(f);
    cr_assert_eq(log_close(&f->log), 0);
    uint8_t *bytes = before->files[0].bytes;
    size_t third = group_at(2, SMALL);
    uint8_t group[160];
    memcpy(group, bytes + third, sizeof(group));
    memset(bytes + group_at(1, SMALL), 0, 2 * sizeof(group));
    put_image(f, before);
    start_well(f);
    entries_truncate(&f->expected, 1);
    cr_assert(saw_all(f));
    cr_assert_eq(append(f, 5, SMALL), 0);
    cr_assert_eq(log_commit(f->log), 0);
    struct image *after = take_image(f);
    cr_assert_eq(log_close(&f->log), 0);
    memcpy(after->files[0].bytes + third, group, sizeof(group));
    put_image(f, after);
    start_well(f);
    cr_assert(saw_all(f));
    cr_assert_eq(log_position(f->log), 2);
    free_image(before);
    free_image(after);
    fixture_free(f);
}

Test(log, takes_no_group_of_another_segment)
{
    uint8_t bytes[GROUP_HEADER_SIZE] = {0};
    struct group group = {.number = 3, .synced = 2, .salt = 1};
    struct segment_window window = {0};
    struct fixture *f = fixture_new();
    char path[PATH_SIZE];
    path_of(f, "group", path);
    group_write_header(bytes, &group, 7);
    write_path(path, bytes, sizeof(bytes));
    struct segment_source source = {.file = open(path, O_RDONLY), .id = 7, .limit = sizeof(bytes)};
    cr_assert_eq(group_read_header(&window, &source, 0, sizeof(bytes), &group), 0);
    cr_assert_eq(group_read_records(&window, &source, 0, sizeof(bytes), &group), 0);
    source.id = 8;
    cr_assert_eq(group_read_header(&window, &source, 0, sizeof(bytes), &group), 0);
    cr_assert_eq(group_read_records(&window, &source, 0, sizeof(bytes), &group), STORE_NOT_FOUND);
    close(source.file);
    buffer_free(&window.buffer);
    fixture_free(f);
}

/*
 * Groups of one size, so that in a recycled file the old ones lie where new ones would be next.
 */
Test(log, never_replays_what_is_left_in_recycled_segments)
{
    struct fixture *f = fixture_new();
    size_t stale = 0;
    start_well(f);
    for (size_t round = 0; round < 60; round++) {
        commit_many(f, 17, 6000);
        uint64_t position = log_position(f->log);
        log_trim(f->log, position - 5, 0);
        cr_assert_eq(log_close(&f->log), 0);
        struct image *image = take_image(f);
        for (size_t i = 0; i < image->count; i++) {
            struct segment_header header;
            if (segment_read_header(image->files[i].bytes, &header))
                stale += header.id != image->ids[i];
        }
        free_image(image);
        f->options.applied = position - 5;
        start_well(f);
        cr_assert(saw(f, f->expected.count - 5, f->expected.count));
        cr_assert_eq(log_position(f->log), position);
        f->options.applied = position;
    }
    cr_assert(stale > 0, "no file was recycled, so this tested nothing");
    fixture_free(f);
}

/* Somebody who knows the format but not the salt stores a value full of groups. */
Test(log, takes_no_value_for_a_group)
{
    struct fixture *f = fixture_new();
    start_well(f);
    commit_many(f, 2, SMALL);
    struct buffer *buffer = log_begin_record(f->log);
    buffer_append(buffer, "1234", 4);
    for (uint64_t i = 0; i < 50; i++) {
        uint8_t forged[GROUP_HEADER_SIZE] = {0};
        struct group group = {.number = 3 + i, .synced = 50, .salt = (uint32_t)i};
        group_write_header(forged, &group, 1);
        buffer_append(buffer, forged, sizeof(forged));
    }
    cr_assert_eq(log_end_record(f->log, 3, 0), 0);
    cr_assert_eq(log_commit(f->log), 0);
    cr_assert_eq(log_close(&f->log), 0);
    struct image *image = take_image(f);
    flip(f, image, 0, group_at(2, SMALL) + 30);
    check_cut(f, 2);
    free_image(image);
    fixture_free(f);
}

Test(log, leaves_other_files_alone_and_removes_unfinished_ones)
{
    struct fixture *f = fixture_new();
    static const char *const others[] = {"log-1", "log-00000000x1", "log-0000000001~", "state"};
    char path[PATH_SIZE];
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        path_of(f, others[i], path);
        write_path(path, "mine", 4);
    }
    path_of(f, "log-spare", path);
    write_path(path, "half", 4);
    segment_path(f, 7, path);
    write_path(path, "", 0);
    start_well(f);
    cr_assert(access(path, F_OK) != 0);
    commit(f, SMALL);
    restart(f);
    cr_assert(saw_all(f));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        path_of(f, others[i], path);
        cr_assert(access(path, F_OK) == 0);
    }
    fixture_free(f);
}

static size_t count_descriptors(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

Test(log, leaves_no_file_open)
{
    struct fixture *f = fixture_new();
    size_t before = count_descriptors();
    start_well(f);
    commit_many(f, 12, 30000);
    struct log_reader *reader;
    struct log_record record;
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 0), 0);
    cr_assert_eq(log_next(reader, &record), 0);
    log_reader_close(&reader);
    cr_assert_eq(log_close(&f->log), 0);
    cr_assert_eq(count_descriptors(), before);
    struct image *image = take_image(f);
    image->files[2].bytes[5000] ^= 1;
    put_image(f, image);
    cr_assert_eq(start(f), STORE_CORRUPT);
    cr_assert_eq(count_descriptors(), before);
    free_image(image);
    fixture_free(f);
}

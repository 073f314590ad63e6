/* Reading history, trimming it, and a model of the whole log. */
#include "tests/store/log_fixture.h"

enum { SMALL = 100, MODEL_STEPS = 1500, MODEL_SEEDS = 4 };

/* From `since` on the reader hands out what was written, and nothing else, the pending included. */
static void check_from(const struct fixture *f, struct log_reader *reader, uint64_t since)
{
    struct log_record record;
    int code = log_seek(reader, since);
    cr_assert_eq(code, 0, "since %" PRIu64 ": code %d", since, code);
    for (size_t i = 0; i < f->expected.count; i++) {
        const struct entry *expected = &f->expected.list[i];
        if (expected->seq <= since)
            continue;
        code = log_next(reader, &record);
        cr_assert_eq(code, 0, "since %" PRIu64 " at %zu: code %d", since, i, code);
        cr_assert(entry_is(expected, &record), "since %" PRIu64 " at %zu: seq %" PRIu64, since, i,
                  record.seq);
    }
    cr_assert_eq(log_next(reader, &record), STORE_NOT_FOUND);
    cr_assert_eq(log_next(reader, &record), STORE_NOT_FOUND);
}

/* Groups of several records, some without a seq, some large; the last one pending. */
static void write_mixed(struct fixture *f)
{
    for (size_t group = 0; group < 60; group++) {
        for (size_t i = 0; i < 1 + group % 4; i++)
            cr_assert_eq(append(f, ++f->seq, 10 + group * 40), 0);
        cr_assert_eq(append(f, 0, SMALL), 0);
        if (group % 20 == 10)
            cr_assert_eq(append(f, ++f->seq, 100000), 0);
        if (group < 59)
            cr_assert_eq(log_commit(f->log), 0);
    }
}

Test(history, is_read_from_any_seq_on)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    start_well(f);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    check_from(f, reader, 0);
    write_mixed(f);
    for (uint64_t since = 0; since <= f->seq + 1; since++)
        check_from(f, reader, since);
    cr_assert_eq(log_commit(f->log), 0);
    check_from(f, reader, 7);
    log_reader_close(&reader);
    restart(f);
    cr_assert(saw_all(f));
    cr_assert_eq(log_oldest_seq(f->log), 1);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    for (uint64_t since = f->seq + 1; since-- > 0;)
        check_from(f, reader, since);
    log_reader_close(&reader);
    fixture_free(f);
}

Test(history, of_a_log_in_memory_is_read_alike)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    f->options.directory = NULL;
    start_well(f);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    write_mixed(f);
    for (uint64_t since = 0; since <= f->seq + 1; since++)
        check_from(f, reader, since);
    cr_assert_eq(log_synced(f->log), log_position(f->log));
    cr_assert_eq(log_sync_count(f->log), 0);
    log_reader_close(&reader);
    fixture_free(f);
}

Test(history, goes_on_while_it_is_read)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    struct log_record record;
    start_well(f);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 0), 0);
    for (size_t i = 0; i < 100; i++) {
        bool pending_first = i % 3 == 0;
        cr_assert_eq(append(f, ++f->seq, 2000), 0);
        if (!pending_first)
            cr_assert_eq(log_commit(f->log), 0);
        cr_assert_eq(log_next(reader, &record), 0);
        cr_assert(entry_is(&f->expected.list[i], &record));
        cr_assert_eq(log_next(reader, &record), STORE_NOT_FOUND);
        cr_assert_eq(log_commit(f->log), 0);
    }
    log_reader_close(&reader);
    fixture_free(f);
}

Test(history, does_not_show_a_record_that_is_not_complete)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    struct log_record record;
    start_well(f);
    cr_assert_eq(append(f, 1, SMALL), 0);
    buffer_append(log_begin_record(f->log), "half", 4);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 0), 0);
    cr_assert_eq(log_next(reader, &record), 0);
    cr_assert_eq(log_next(reader, &record), STORE_NOT_FOUND);
    log_drop_record(f->log);
    log_reader_close(&reader);
    fixture_free(f);
}

Test(history, in_memory_takes_little_more_than_is_to_be_kept)
{
    struct fixture *f = fixture_new();
    f->options.directory = NULL;
    f->options.segment_size = 0;
    start_well(f);
    for (int i = 0; i < 20; i++) {
        commit_many(f, 30, 10000);
        log_trim(f->log, log_position(f->log), 0);
        cr_assert(log_size(f->log) <= UINT64_C(2) * LOG_MEMORY_SEGMENT_SIZE,
                  "one is written, one is ready");
    }
    fixture_free(f);
}

static void check_trimmed(struct fixture *f)
{
    struct log_reader *reader;
    struct log_reader *late;
    struct log_record record;
    start_well(f);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_reader_open(f->log, &late), 0);
    commit_many(f, 60, 10000);
    cr_assert_eq(log_seek(late, 2), 0);
    cr_assert_eq(log_next(late, &record), 0);
    log_trim(f->log, log_position(f->log), 200000);
    uint64_t oldest = log_oldest_seq(f->log);
    cr_assert(oldest > 60 - 30 && oldest <= 60 - 20, "%" PRIu64, oldest);
    cr_assert_eq(log_seek(reader, oldest - 2), STORE_COMPACTED);
    cr_assert_eq(log_seek(reader, 0), STORE_COMPACTED);
    for (uint64_t since = oldest - 1; since <= 60; since++)
        check_from(f, reader, since);
    while (log_next(late, &record) == 0)
        cr_assert(record.seq < oldest);
    cr_assert_eq(log_next(late, &record), STORE_COMPACTED);
    log_reader_close(&late);
    log_reader_close(&reader);
}

Test(history, that_was_trimmed_is_compacted)
{
    struct fixture *f = fixture_new();
    check_trimmed(f);
    fixture_free(f);
}

Test(history, that_was_trimmed_in_memory_is_compacted)
{
    struct fixture *f = fixture_new();
    f->options.directory = NULL;
    check_trimmed(f);
    fixture_free(f);
}

Test(history, is_kept_for_as_many_bytes_as_asked_for)
{
    struct fixture *f = fixture_new();
    start_well(f);
    for (size_t i = 0; i < 300; i++) {
        commit(f, 5000);
        log_trim(f->log, log_position(f->log), 300000);
        uint64_t kept = f->seq - (log_oldest_seq(f->log) - 1);
        cr_assert(kept * 5000 + 10000 >= (f->seq < 60 ? f->seq * 5000 : 300000), "%" PRIu64, kept);
        cr_assert(log_size(f->log) <= 300000 + 6 * LOG_MIN_SEGMENT_SIZE);
    }
    log_trim(f->log, 250, 0);
    cr_assert(log_oldest_seq(f->log) <= 251, "what is not in the state is not let go of");
    fixture_free(f);
}

Test(history, is_forgotten_with_an_epoch)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    start_well(f);
    commit_many(f, 20, 10000);
    restart(f);
    log_forget(f->log, 25);
    cr_assert_eq(log_oldest_seq(f->log), 26);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 24), STORE_COMPACTED);
    cr_assert_eq(log_seek(reader, 25), 0);
    log_reader_close(&reader);
    f->seq = 25;
    commit_many(f, 20, 10000);
    restart(f);
    cr_assert(saw_all(f));
    log_forget(f->log, 25);
    cr_assert_eq(log_oldest_seq(f->log), 26);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 24), STORE_COMPACTED);
    check_from(f, reader, 25);
    check_from(f, reader, 40);
    log_reader_close(&reader);
    log_trim(f->log, log_position(f->log), 0);
    cr_assert(log_oldest_seq(f->log) > 40);
    fixture_free(f);
}

Test(history, of_an_empty_log_begins_behind_what_was_forgotten)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    start_well(f);
    log_forget(f->log, 1000);
    cr_assert_eq(log_oldest_seq(f->log), 1001);
    f->seq = 1000;
    commit_many(f, 2, SMALL);
    restart(f);
    cr_assert_eq(log_oldest_seq(f->log), 1001);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 999), STORE_COMPACTED);
    check_from(f, reader, 1000);
    log_reader_close(&reader);
    fixture_free(f);
}

Test(history, that_is_damaged_while_it_is_read_is_refused)
{
    struct fixture *f = fixture_new();
    struct log_reader *reader;
    struct log_record record;
    char path[PATH_SIZE];
    start_well(f);
    commit_many(f, 10, 30000);
    segment_path(f, 2, path);
    int file = open(path, O_WRONLY);
    cr_assert_eq(pwrite(file, "damage", 6, 500), 6);
    close(file);
    cr_assert_eq(log_reader_open(f->log, &reader), 0);
    cr_assert_eq(log_seek(reader, 0), 0);
    int code = 0;
    size_t count = 0;
    while ((code = log_next(reader, &record)) == 0)
        count++;
    cr_assert_eq(code, STORE_CORRUPT);
    cr_assert_eq(count, 2);
    log_reader_close(&reader);
    fixture_free(f);
}

/* The model: what was written, how much of it is committed, and what may be trimmed. */
struct model {
    struct fixture *f;
    struct log_reader *reader;
    uint64_t random;
    size_t committed; /* entries */
    uint64_t safe;    /* the position that the state has */
    uint64_t seq;     /* committed */
};

static void model_append(struct model *m)
{
    static const size_t sizes[] = {0, 20, 200, 2000, 15000, 90000};
    struct fixture *f = m->f;
    size_t size = draw(&m->random, 1 + sizes[draw(&m->random, 6)]);
    bool quiet = draw(&m->random, 4) == 0;
    if (f->expected.count + 1 >= MAX_ENTRIES)
        return;
    if (draw(&m->random, 10) == 0) {
        buffer_append(log_begin_record(f->log), "dropped", 7);
        log_drop_record(f->log);
    }
    cr_assert_eq(log_reserve(f->log, size, false), 0);
    f->seq += quiet ? 0 : 1;
    cr_assert_eq(append(f, quiet ? 0 : f->seq, size), 0);
}

static void model_commit(struct model *m)
{
    struct fixture *f = m->f;
    uint64_t position = log_position(f->log);
    cr_assert_eq(log_commit(f->log), 0);
    cr_assert_eq(log_position(f->log), position + (f->expected.count > m->committed));
    cr_assert_eq(log_pending(f->log), 0);
    m->committed = f->expected.count;
    m->seq = f->seq;
}

static void model_discard(struct model *m)
{
    log_discard(m->f->log);
    entries_truncate(&m->f->expected, m->committed);
    m->f->seq = m->seq;
}

static void model_trim(struct model *m)
{
    struct fixture *f = m->f;
    uint64_t position = log_position(f->log);
    m->safe += draw(&m->random, position - m->safe + 1);
    log_trim(f->log, m->safe, draw(&m->random, 400000));
    cr_assert(log_synced(f->log) >= m->safe);
    for (size_t i = 0; i < f->expected.count; i++) {
        const struct entry *entry = &f->expected.list[i];
        if (entry->position > m->safe && entry->seq > 0)
            cr_assert(log_oldest_seq(f->log) <= entry->seq);
    }
}

static void model_read(struct model *m)
{
    uint64_t oldest = log_oldest_seq(m->f->log);
    uint64_t since = draw(&m->random, m->f->seq + 2);
    if (since + 1 < oldest)
        cr_assert_eq(log_seek(m->reader, since), STORE_COMPACTED);
    else
        check_from(m->f, m->reader, since);
}

static void model_restart(struct model *m)
{
    struct fixture *f = m->f;
    if (f->options.directory == NULL)
        return;
    model_discard(m);
    uint64_t position = log_position(f->log);
    uint64_t oldest = log_oldest_seq(f->log);
    log_reader_close(&m->reader);
    f->options.durability = (enum log_durability)draw(&m->random, 3);
    f->options.applied = m->safe + draw(&m->random, position - m->safe + 1);
    restart(f);
    size_t from = 0;
    while (from < m->committed && f->expected.list[from].position <= f->options.applied)
        from++;
    cr_assert(saw(f, from, m->committed), "%zu records, not %zu", f->seen.count,
              m->committed - from);
    cr_assert_eq(log_position(f->log), position);
    cr_assert_eq(log_synced(f->log), position);
    cr_assert_eq(log_oldest_seq(f->log), oldest, "%" PRIu64 ", not %" PRIu64,
                 log_oldest_seq(f->log), oldest);
    cr_assert_eq(log_reader_open(f->log, &m->reader), 0);
}

static void run_model(const char *directory, uint64_t seed)
{
    struct model m = {.f = fixture_new(), .random = seed};
    m.f->options.directory = directory != NULL ? m.f->directory : NULL;
    fprintf(stderr, "CUBBY_SEED=%" PRIu64 "\n", seed);
    start_well(m.f);
    cr_assert_eq(log_reader_open(m.f->log, &m.reader), 0);
    for (size_t step = 0; step < MODEL_STEPS; step++) {
        uint64_t what = draw(&m.random, 100);
        if (what < 45)
            model_append(&m);
        else if (what < 75)
            model_commit(&m);
        else if (what < 80)
            model_discard(&m);
        else if (what < 84)
            cr_assert_eq(log_sync(m.f->log), 0);
        else if (what < 90)
            model_trim(&m);
        else if (what < 96)
            model_read(&m);
        else
            model_restart(&m);
    }
    log_reader_close(&m.reader);
    fixture_free(m.f);
}

Test(history, agrees_with_a_plain_array)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < MODEL_SEEDS; i++)
        run_model("", seed + i);
}

Test(history, in_memory_agrees_with_a_plain_array)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < MODEL_SEEDS; i++)
        run_model(NULL, seed + i);
}

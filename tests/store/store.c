/* Transactions, undo, seqs, epochs and recovery of the store, on the memory engine and the log. */
#include "store/store.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/engine.h"

enum { START_MS = 1000, SEGMENT = 64 << 10, MODEL_KEYS = 40, MODEL_STEPS = 3000, MAX_VALUE = 24 };

static char directory[64];
static struct store *store;

static int open_with(enum store_durability durability, struct store_error *error)
{
    struct store_options options = {.directory = directory,
                                    .durability = durability,
                                    .log_retain = 1 << 20,
                                    .segment_size = SEGMENT,
                                    .wall_ms = START_MS};
    return store_open(&store, &options, error);
}

static void reopen(enum store_durability durability)
{
    struct store_error error = {.message = ""};
    cr_assert_eq(open_with(durability, &error), 0, "%s", error.message);
}

static void make_directory(void)
{
    strcpy(directory, "/tmp/cubby-store-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    reopen(STORE_ALWAYS);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_directory(void)
{
    (void)store_close(&store);
    nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

/* What a reader of history of its own says to that. */
static int seek(uint64_t since)
{
    struct store_history *history;
    cr_assert_eq(store_history_open(store, &history), 0);
    int rc = store_history_seek(history, since);
    store_history_close(&history);
    return rc;
}

TestSuite(store, .init = make_directory, .fini = remove_directory);

static void put(const char *key, const char *value)
{
    cr_assert_eq(store_put(store, STORE_KEYS, slice_of_text(key), slice_of("", 0),
                           slice_of_text(value), STORE_CHANGE_PUT),
                 0);
}

static void put_alone(const char *key, const char *value)
{
    store_begin(store, START_MS);
    put(key, value);
    cr_assert_eq(store_end(store, NULL), 0);
}

static bool holds(const char *key, const char *value)
{
    struct slice found;
    int rc = store_get(store, STORE_KEYS, slice_of_text(key), &found);
    return value == NULL ? rc == STORE_NOT_FOUND
                         : rc == 0 && slice_equal(found, slice_of_text(value));
}

Test(store, a_cancelled_transaction_leaves_nothing_behind)
{
    put_alone("a", "old");
    store_begin(store, START_MS);
    put("a", "new");
    put("b", "new");
    cr_assert_eq(store_delete(store, STORE_KEYS, slice_of_text("a"), STORE_CHANGE_DELETE), 0);
    store_cancel(store);
    cr_assert(holds("a", "old"));
    cr_assert(holds("b", NULL));
    put_alone("c", "1");
    cr_assert_eq(store_seq(store), 2);
}

Test(store, a_rollback_goes_back_to_its_savepoint)
{
    store_begin(store, START_MS);
    put("a", "1");
    struct store_savepoint savepoint = store_savepoint(store);
    put("a", "2");
    put("b", "2");
    store_rollback(store, savepoint);
    put("c", "3");
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert(holds("a", "1") && holds("b", NULL) && holds("c", "3"));
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_close(&store), 0);
    reopen(STORE_ALWAYS);
    cr_assert(holds("a", "1") && holds("b", NULL) && holds("c", "3"));
}

Test(store, transactions_without_a_change_have_no_seq)
{
    uint64_t seq = 77;
    put_alone("a", "1");
    store_begin(store, START_MS);
    cr_assert_eq(store_end(store, &seq), 0);
    cr_assert_eq(seq, 1);
    store_begin(store, START_MS);
    cr_assert_eq(store_put(store, STORE_META, slice_of_text("x"), slice_of("", 0),
                           slice_of_text("y"), STORE_QUIET),
                 0);
    cr_assert_eq(store_end(store, &seq), 0);
    cr_assert_eq(seq, 1);
    put_alone("b", "1");
    cr_assert_eq(store_seq(store), 2);
}

Test(store, deleting_what_is_absent_is_not_found_and_no_change)
{
    store_begin(store, START_MS);
    cr_assert_eq(store_delete(store, STORE_KEYS, slice_of_text("a"), STORE_CHANGE_DELETE),
                 STORE_NOT_FOUND);
    cr_assert_eq(store_change_count(store), 0);
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(store_seq(store), 0);
}

Test(store, time_never_runs_backwards_not_even_over_a_restart)
{
    store_begin(store, START_MS + 500);
    put("a", "1");
    cr_assert_eq(store_end(store, NULL), 0);
    store_begin(store, START_MS);
    cr_assert_eq(store_now(store), START_MS + 500);
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_close(&store), 0);
    reopen(STORE_ALWAYS);
    cr_assert_eq(store_now(store), START_MS + 500);
}

Test(store, an_abandoned_turn_takes_back_every_transaction_since_the_commit)
{
    put_alone("a", "1");
    cr_assert_eq(store_commit(store), 0);
    put_alone("a", "2");
    put_alone("b", "2");
    store_abandon(store);
    cr_assert(holds("a", "1") && holds("b", NULL));
    cr_assert_eq(store_seq(store), 1);
    put_alone("c", "3");
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_close(&store), 0);
    reopen(STORE_ALWAYS);
    cr_assert(holds("a", "1") && holds("b", NULL) && holds("c", "3"));
    cr_assert_eq(store_seq(store), 2);
}

Test(store, a_second_store_on_the_directory_is_told_who_holds_it)
{
    struct store *first = store;
    struct store_error error;
    char process[32];
    snprintf(process, sizeof process, "process %ld;", (long)getpid());
    cr_assert_eq(open_with(STORE_ALWAYS, &error), STORE_LOCKED);
    cr_assert(strstr(error.message, process) != NULL, "%s", error.message);
    store = first;
}

/* Closes the store and leaves the directory as a kill would have left it. */
static void stop_uncleanly(void)
{
    char path[128];
    char copy[512];
    snprintf(path, sizeof path, "%s/state", directory);
    FILE *file = fopen(path, "r");
    size_t size = fread(copy, 1, sizeof copy, file);
    fclose(file);
    cr_assert_eq(store_close(&store), 0);
    file = fopen(path, "w");
    cr_assert_eq(fwrite(copy, 1, size, file), size);
    fclose(file);
}

Test(store, the_epoch_changes_only_where_history_may_be_lost)
{
    static const struct {
        enum store_durability durability;
        bool clean;
        bool kept;
    } cases[] = {{STORE_ALWAYS, false, true},  {STORE_ALWAYS, true, true},
                 {STORE_INTERVAL, true, true}, {STORE_INTERVAL, false, false},
                 {STORE_NONE, true, true},     {STORE_NONE, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char epoch[64];
        cr_assert_eq(store_close(&store), 0);
        reopen(cases[i].durability);
        strcpy(epoch, store_epoch(store));
        put_alone("a", "1");
        cr_assert_eq(store_commit(store), 0);
        uint64_t seq = store_seq(store);
        if (cases[i].clean)
            cr_assert_eq(store_close(&store), 0);
        else
            stop_uncleanly();
        reopen(STORE_ALWAYS);
        cr_assert_eq(strcmp(epoch, store_epoch(store)) == 0, cases[i].kept, "case %zu", i);
        cr_assert_eq(store_seq(store), seq);
        cr_assert(cases[i].kept || store_oldest(store) == seq + 1, "case %zu", i);
        cr_assert_eq(seek(seq - 1), cases[i].kept ? 0 : STORE_COMPACTED, "case %zu", i);
    }
}

Test(store, a_forgotten_history_stays_forgotten_over_restarts)
{
    cr_assert_eq(store_close(&store), 0);
    reopen(STORE_NONE);
    put_alone("a", "1");
    put_alone("b", "1");
    cr_assert_eq(store_commit(store), 0);
    stop_uncleanly();
    reopen(STORE_ALWAYS);
    put_alone("c", "1");
    cr_assert_eq(store_commit(store), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(store_close(&store), 0);
        reopen(STORE_ALWAYS);
        cr_assert_eq(store_oldest(store), 3);
        cr_assert_eq(seek(1), STORE_COMPACTED);
        cr_assert_eq(seek(2), 0);
        cr_assert(holds("a", "1") && holds("c", "1"));
    }
}

static void next_change_is(struct store_history *history, uint64_t seq)
{
    struct store_history_change change;
    cr_assert_eq(store_history_next(history, &change), 0);
    cr_assert_eq(change.seq, seq);
}

Test(store, history_goes_on_while_the_turn_grows_and_is_committed)
{
    struct store_history_change change;
    struct store_history *history;
    cr_assert_eq(store_history_open(store, &history), 0);
    put_alone("a", "1");
    put_alone("b", "2");
    cr_assert_eq(store_history_seek(history, 0), 0);
    next_change_is(history, 1);
    put_alone("c", "3");
    next_change_is(history, 2);
    next_change_is(history, 3);
    cr_assert_eq(store_history_next(history, &change), STORE_NOT_FOUND);
    put_alone("d", "4");
    next_change_is(history, 4);
    cr_assert_eq(store_commit(store), 0);
    put_alone("e", "5");
    next_change_is(history, 5);
    store_abandon(store);
    cr_assert_eq(store_history_seek(history, 3), 0);
    put_alone("f", "5");
    next_change_is(history, 4);
    next_change_is(history, 5);
    cr_assert_eq(store_history_next(history, &change), STORE_NOT_FOUND);
    store_history_close(&history);
}

Test(store, readers_of_history_go_their_own_ways)
{
    struct store_history *first;
    struct store_history *second;
    cr_assert_eq(store_history_open(store, &first), 0);
    cr_assert_eq(store_history_open(store, &second), 0);
    put_alone("a", "1");
    put_alone("b", "2");
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_history_seek(first, 0), 0);
    cr_assert_eq(store_history_seek(second, 1), 0);
    next_change_is(first, 1);
    next_change_is(second, 2);
    next_change_is(first, 2);
    store_history_close(&first);
    put_alone("c", "3");
    next_change_is(second, 3);
    store_history_close(&second);
}

static void fill_quietly(unsigned turns)
{
    static char value[4 << 10];
    for (unsigned i = 0; i < turns; i++) {
        store_begin(store, START_MS);
        cr_assert_eq(store_put(store, STORE_META, slice_of_text("quiet"), slice_of("", 0),
                               slice_of(value, sizeof value), STORE_QUIET),
                     0);
        cr_assert_eq(store_end(store, NULL), 0);
        cr_assert_eq(store_commit(store), 0);
    }
}

Test(store, what_makes_no_change_costs_a_reader_of_history_next_to_nothing)
{
    struct store_history_change change;
    struct store_history *history;
    cr_assert_eq(store_history_open(store, &history), 0);
    put_alone("a", "1");
    fill_quietly(200);
    put_alone("b", "2");
    fill_quietly(20);
    cr_assert_eq(store_history_seek(history, 0), 0);
    next_change_is(history, 1);
    next_change_is(history, 2);
    cr_assert_eq(store_history_next(history, &change), STORE_NOT_FOUND);
    cr_assert_lt(store_history_work(history), UINT64_C(6) * SEGMENT);
    store_history_close(&history);
}

/* Key number `i` of a transaction of many, where some come again and again. */
static unsigned repeating(unsigned i)
{
    return i % 7 == 0 ? i % 350 : i;
}

/* So many writes of it, each with its number as value; quiet ones of another table between them. */
static void write_repeating(unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char key[16];
        char value[16];
        snprintf(key, sizeof key, "key%u", repeating(i));
        snprintf(value, sizeof value, "%u", i);
        put(key, value);
        if (i % 3 == 0)
            cr_assert_eq(store_put(store, STORE_EXPIRY, slice_of_text(key), slice_of("", 0),
                                   slice_of_text(value), STORE_QUIET),
                         0);
    }
}

/* That of `all` writes each key comes once, where it was written first, as it was written last. */
static void history_shows_keys_once(unsigned all)
{
    unsigned last[1000];
    struct store_history_change change = {.count = 0};
    struct store_history *history;
    for (unsigned i = 0; i < all; i++)
        last[repeating(i)] = i;
    cr_assert_eq(store_history_open(store, &history), 0);
    cr_assert_eq(store_history_seek(history, 0), 0);
    for (unsigned i = 0; i < all; i++) {
        char key[16];
        char value[16];
        if (repeating(i) != i)
            continue;
        snprintf(key, sizeof key, "key%u", i);
        snprintf(value, sizeof value, "%u", last[i]);
        cr_assert_eq(store_history_next(history, &change), 0);
        cr_assert(slice_equal(change.key, slice_of_text(key)), "key %u", i);
        cr_assert(slice_equal(change.value, slice_of_text(value)), "key %u", i);
    }
    cr_assert_eq(change.index + 1, change.count);
    cr_assert_eq(store_history_next(history, &change), STORE_NOT_FOUND);
    store_history_close(&history);
}

Test(store, of_a_large_transaction_history_shows_each_key_once_at_its_first_place)
{
    store_begin(store, START_MS);
    write_repeating(0, 400);
    struct store_savepoint savepoint = store_savepoint(store);
    write_repeating(400, 900);
    store_rollback(store, savepoint);
    write_repeating(400, 1000);
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(store_commit(store), 0);
    history_shows_keys_once(1000);
}

Test(store, a_directory_of_something_else_is_refused)
{
    struct store_error error;
    char path[128];
    put_alone("a", "1");
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_close(&store), 0);
    snprintf(path, sizeof path, "%s/state", directory);
    FILE *file = fopen(path, "w");
    fputs("cubby data directory, format 99\n", file);
    fclose(file);
    cr_assert_eq(open_with(STORE_ALWAYS, &error), STORE_INVALID);
    cr_assert(strstr(error.message, "format 99") != NULL, "%s", error.message);
    file = fopen(path, "w");
    fputs("hello\n", file);
    fclose(file);
    cr_assert_eq(open_with(STORE_ALWAYS, &error), STORE_INVALID);
    unlink(path);
    cr_assert_eq(open_with(STORE_ALWAYS, &error), STORE_INVALID);
    cr_assert(strstr(error.message, "no cubby data") != NULL, "%s", error.message);
}

Test(store, what_is_refused_is_left_as_it_was)
{
    struct store_error error;
    char path[128];
    struct store *other;
    snprintf(path, sizeof path, "%s.foreign", directory);
    cr_assert_eq(mkdir(path, 0700), 0);
    strcat(path, "/file");
    close(open(path, O_WRONLY | O_CREAT, 0600));
    *strrchr(path, '/') = '\0';
    struct store_options options = {.directory = path};
    cr_assert_eq(store_open(&other, &options, &error), STORE_INVALID);
    strcat(path, "/file");
    cr_assert_eq(unlink(path), 0);
    *strrchr(path, '/') = '\0';
    cr_assert_eq(rmdir(path), 0, "more is there than the file");
}

Test(store, a_data_directory_is_not_made_within_another_one)
{
    struct store_error error;
    char path[128];
    struct store *other;
    struct store_options options = {.directory = path};
    static const char *const within[] = {"", "/", "/deeper/still"};
    for (size_t i = 0; i < sizeof within / sizeof within[0]; i++) {
        snprintf(path, sizeof path, "%s/inner%s", directory, within[i]);
        cr_assert_eq(store_open(&other, &options, &error), STORE_INVALID, "%s", path);
        cr_assert(strstr(error.message, "lies within the data directory") != NULL, "%s",
                  error.message);
        snprintf(path, sizeof path, "%s/inner", directory);
        cr_assert_eq(rmdir(path), -1, "it was made");
    }
}

Test(store, a_damaged_state_is_refused)
{
    struct store_error error;
    char path[128];
    cr_assert_eq(store_close(&store), 0);
    snprintf(path, sizeof path, "%s/state", directory);
    int fd = open(path, O_RDWR);
    char byte;
    cr_assert_eq(pread(fd, &byte, 1, 60), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, 60), 1);
    close(fd);
    cr_assert_eq(open_with(STORE_ALWAYS, &error), STORE_CORRUPT);
    cr_assert(strstr(error.message, "/state") != NULL, "%s", error.message);
}

Test(store, a_log_whose_files_are_gone_is_refused)
{
    struct store_error error;
    char path[128];
    put_alone("a", "1");
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_close(&store), 0);
    for (int number = 1; number <= 2; number++) {
        snprintf(path, sizeof path, "%s/log-%010d", directory, number);
        (void)unlink(path);
    }
    cr_assert_eq(open_with(STORE_ALWAYS, &error), STORE_CORRUPT);
    cr_assert(strstr(error.message, "files are missing") != NULL, "%s", error.message);
}

Test(store, an_engine_that_is_not_there_is_refused)
{
    struct store_error error;
    struct store_options options = {.engine = "lmdb"};
    struct store *other;
    cr_assert_eq(store_open(&other, &options, &error), STORE_INVALID);
}

Test(store, at_the_memory_limit_puts_are_refused_and_deletes_are_not)
{
    struct store_error error = {.message = ""};
    struct store_options options = {.memory_limit = 64 << 10, .wall_ms = START_MS};
    char value[1000];
    int rc = 0;
    unsigned count = 0;
    cr_assert_eq(store_close(&store), 0);
    cr_assert_eq(store_open(&store, &options, &error), 0, "%s", error.message);
    memset(value, 'x', sizeof value);
    for (; rc == 0 && count < 1000; count++) {
        char key[16];
        snprintf(key, sizeof key, "%u", count);
        store_begin(store, START_MS);
        rc = store_put(store, STORE_KEYS, slice_of_text(key), slice_of("", 0),
                       slice_of(value, sizeof value), STORE_CHANGE_PUT);
        cr_assert_eq(store_end(store, NULL), 0);
    }
    cr_assert_eq(rc, STORE_FULL);
    cr_assert_gt(count, 40);
    store_begin(store, START_MS);
    for (unsigned i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        cr_assert_eq(store_delete(store, STORE_KEYS, slice_of_text(key), STORE_CHANGE_DELETE), 0);
    }
    cr_assert_eq(store_end(store, NULL), 0);
    put_alone("again", "1");
}

/* A naive model: what each key holds, and the same as of the last commit. */
struct model {
    char now[MODEL_KEYS][MAX_VALUE];
    char before[MODEL_KEYS][MAX_VALUE];
    char committed[MODEL_KEYS][MAX_VALUE];
    uint64_t seq;
    uint64_t committed_seq;
};

static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % below;
}

static void random_write(struct model *model, unsigned *seed)
{
    char key[8];
    unsigned number = draw(seed, MODEL_KEYS);
    snprintf(key, sizeof key, "k%u", number);
    if (draw(seed, 3) > 0) {
        snprintf(model->now[number], MAX_VALUE, "%u", draw(seed, 100000));
        put(key, model->now[number]);
        return;
    }
    int rc = store_delete(store, STORE_KEYS, slice_of_text(key), STORE_CHANGE_DELETE);
    cr_assert_eq(rc, model->now[number][0] != '\0' ? 0 : STORE_NOT_FOUND);
    model->now[number][0] = '\0';
}

static void check_model(const struct model *model, unsigned seed)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", i);
        cr_assert(holds(key, model->now[i][0] != '\0' ? model->now[i] : NULL),
                  "key %u, CUBBY_SEED=%u", i, seed);
    }
    cr_assert_eq(store_seq(store), model->seq, "CUBBY_SEED=%u", seed);
}

static void random_transaction(struct model *model, unsigned *seed)
{
    unsigned writes = draw(seed, 4) == 0 ? draw(seed, 60) : draw(seed, 4);
    memcpy(model->before, model->now, sizeof model->now);
    store_begin(store, START_MS);
    for (unsigned i = 0; i < writes; i++) {
        char saved[MODEL_KEYS][MAX_VALUE];
        struct store_savepoint savepoint = store_savepoint(store);
        memcpy(saved, model->now, sizeof saved);
        random_write(model, seed);
        if (draw(seed, 5) == 0) {
            store_rollback(store, savepoint);
            memcpy(model->now, saved, sizeof saved);
        }
    }
    bool changed = store_change_count(store) > 0;
    if (draw(seed, 4) == 0) {
        store_cancel(store);
        memcpy(model->now, model->before, sizeof model->now);
        return;
    }
    cr_assert_eq(store_end(store, NULL), 0);
    model->seq += changed;
}

static void commit_or_abandon(struct model *model, unsigned *seed)
{
    if (draw(seed, 4) == 0) {
        store_abandon(store);
        memcpy(model->now, model->committed, sizeof model->now);
        model->seq = model->committed_seq;
        return;
    }
    cr_assert_eq(store_commit(store), 0);
    memcpy(model->committed, model->now, sizeof model->now);
    model->committed_seq = model->seq;
}

/* What the history adds up to, from the beginning. */
static void check_history(const struct model *model, unsigned seed)
{
    struct store_history_change change;
    char held[MODEL_KEYS][MAX_VALUE] = {{0}};
    struct store_history *history;
    uint64_t seq = 0;
    uint32_t next = 0;
    cr_assert_eq(store_history_open(store, &history), 0);
    cr_assert_eq(store_history_seek(history, 0), 0);
    while (store_history_next(history, &change) == 0) {
        cr_assert_eq(change.index, next);
        cr_assert_eq(change.seq, change.index == 0 ? seq + 1 : seq, "CUBBY_SEED=%u", seed);
        seq = change.seq;
        next = change.index + 1 < change.count ? change.index + 1 : 0;
        char key[8] = "";
        memcpy(key, change.key.data, change.key.size);
        char *value = held[strtoul(key + 1, NULL, 10)];
        memset(value, 0, MAX_VALUE);
        memcpy(value, change.value.data, change.value.size);
    }
    store_history_close(&history);
    cr_assert_eq(seq, model->seq, "CUBBY_SEED=%u", seed);
    for (unsigned i = 0; i < MODEL_KEYS; i++)
        cr_assert_str_eq(held[i], model->now[i], "key %u, CUBBY_SEED=%u", i, seed);
}

Test(store, it_agrees_with_a_naive_map_through_undo_restarts_and_history)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned first = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    unsigned seed = first;
    struct model *model = calloc(1, sizeof *model);
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        random_transaction(model, &seed);
        if (draw(&seed, 5) == 0)
            commit_or_abandon(model, &seed);
        if (draw(&seed, 50) == 0)
            check_model(model, first);
        if (draw(&seed, 300) == 0) {
            cr_assert_eq(store_commit(store), 0);
            cr_assert_eq(store_close(&store), 0);
            reopen(STORE_ALWAYS);
            memcpy(model->committed, model->now, sizeof model->now);
            model->committed_seq = model->seq;
            check_model(model, first);
        }
    }
    check_history(model, first);
    free(model);
}

/* The offset behind the last byte of the log that is not zero. */
static off_t end_of_log(int fd)
{
    uint8_t bytes[SEGMENT];
    ssize_t size = pread(fd, bytes, sizeof bytes, 0);
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    return size;
}

/* What a stop leaves besides the log: here as if the process had been killed. */
static void remove_checkpoints(void)
{
    char path[512];
    DIR *list = opendir(directory);
    for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (strncmp(entry->d_name, "checkpoint-", strlen("checkpoint-")) == 0)
            cr_assert_eq(unlink(path), 0);
    }
    closedir(list);
}

Test(store, a_torn_end_at_any_byte_loses_the_last_turn_as_a_whole_and_nothing_else)
{
    char path[128];
    uint8_t image[SEGMENT];
    put_alone("a", "1");
    cr_assert_eq(store_commit(store), 0);
    snprintf(path, sizeof path, "%s/log-0000000001", directory);
    int fd = open(path, O_RDWR);
    off_t first_end = end_of_log(fd);
    store_begin(store, START_MS);
    put("a", "2");
    put("b", "2");
    cr_assert_eq(store_end(store, NULL), 0);
    cr_assert_eq(store_commit(store), 0);
    cr_assert_eq(store_close(&store), 0);
    cr_assert_eq(pread(fd, image, sizeof image, 0), SEGMENT);
    off_t end = end_of_log(fd);
    for (off_t cut = first_end; cut <= end; cut++) {
        uint8_t torn[SEGMENT] = {0};
        memcpy(torn, image, (size_t)cut);
        cr_assert_eq(pwrite(fd, torn, sizeof torn, 0), SEGMENT);
        remove_checkpoints();
        reopen(STORE_ALWAYS);
        bool whole = cut == end;
        cr_assert(holds("a", whole ? "2" : "1") && holds("b", whole ? "2" : NULL), "byte %ld",
                  (long)cut);
        put_alone("c", "3");
        cr_assert_eq(store_seq(store), whole ? 3 : 2);
        cr_assert_eq(store_commit(store), 0);
        cr_assert_eq(store_close(&store), 0);
        reopen(STORE_ALWAYS);
        cr_assert(holds("c", "3"), "byte %ld", (long)cut);
        cr_assert_eq(store_close(&store), 0);
    }
    close(fd);
}

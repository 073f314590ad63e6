/*
 * The store over an engine that fails or dies at the n-th call (faulty_engine.h), for every engine
 * and one n after the other. A script of transactions is drawn from a seed; a model says what
 * the state is after each. Where a call fails, the store goes on as if what asked for it had
 * never been, or refuses every further commit with a sentence; a start afterwards, or after a
 * death, has a prefix of history: all that was committed, and transactions whole.
 */
#include <stdlib.h>

#include "store/store.h"
#include "tests/store/child.h"
#include "tests/store/engine_rows.h"
#include "tests/store/faulty_engine.h"

enum { KEYS = 12, TURNS = 10, MAX_SEQ = 256, NOW_MS = 1000, FAULTY_SEGMENT = 64 << 10 };

/* The value of each key, 0: it is absent. Key 0 is put by every transaction. */
struct state {
    unsigned value[KEYS];
};

/* One life of a store, and what it should have. The script is the same for the same seed. */
struct life {
    const char *directory;
    const struct engine_methods *inner;
    uint64_t seed;
    long fault_at;
    enum fault kind;

    struct store *store; /* NULL: only the model */
    struct random random;
    unsigned values;              /* handed out so far */
    struct state now;             /* with what the transaction wrote */
    struct state before;          /* the transaction */
    struct state states[MAX_SEQ]; /* as of each seq */
    uint64_t seq;
    uint64_t committed;
    bool failed; /* the transaction has been cancelled by a failure */
    bool unsure; /* something could not be taken back, or not be counted: no commit may follow */
    int messages;
};

static struct slice key_of(unsigned number, char *text)
{
    return slice_of(text, (size_t)snprintf(text, 16, "key%02u", number));
}

/* What has no result, but a failure of which the next commit tells. */
#define WATCHED(life, call)                                                                        \
    do {                                                                                           \
        bool fired = faults.fired;                                                                 \
        call;                                                                                      \
        (life)->unsure = (life)->unsure || (faults.fired && !fired);                               \
    } while (0)

/* What a call came to that may fail: a failure cancels the transaction. */
static bool went_well(struct life *life, int rc)
{
    if (rc == STORE_OK || rc == STORE_NOT_FOUND)
        return true;
    REQUIRE(faults.fired, "code %d, and no fault", rc);
    WATCHED(life, store_cancel(life->store));
    life->now = life->before;
    life->failed = true;
    return false;
}

static void put_key(struct life *life, unsigned number)
{
    char text[16];
    unsigned value = ++life->values;
    int rc = STORE_OK;
    if (life->failed)
        return;
    if (life->store != NULL)
        rc = store_put(life->store, STORE_KEYS, key_of(number, text), slice_of_text(""),
                       slice_of(&value, sizeof value), STORE_CHANGE_PUT);
    if (went_well(life, rc))
        life->now.value[number] = value;
}

static void delete_key(struct life *life, unsigned number)
{
    char text[16];
    if (life->failed)
        return;
    if (life->store != NULL &&
        !went_well(
            life, store_delete(life->store, STORE_KEYS, key_of(number, text), STORE_CHANGE_DELETE)))
        return;
    life->now.value[number] = 0;
}

static void get_key(struct life *life, unsigned number)
{
    char text[16];
    struct slice value = {0};
    if (life->failed || life->store == NULL)
        return;
    int rc = store_get(life->store, STORE_KEYS, key_of(number, text), &value);
    if (!went_well(life, rc) || life->unsure)
        return;
    unsigned expected = life->now.value[number];
    REQUIRE((rc == STORE_OK) == (expected != 0), "key %u: code %d", number, rc);
    REQUIRE(rc != STORE_OK || slice_equal(value, slice_of(&expected, sizeof expected)),
            "key %u has another value", number);
}

static void walk(struct life *life)
{
    struct slice key;
    struct slice value;
    unsigned met = 0;
    unsigned there = 0;
    if (life->failed || life->store == NULL)
        return;
    uint64_t counted = 0;
    if (!went_well(life, store_count(life->store, STORE_KEYS, slice_of_text("key"),
                                     slice_of_text("kez"), &counted)))
        return;
    struct engine_cursor *cursor = store_cursor(life->store, STORE_KEYS);
    if (cursor == NULL) {
        (void)went_well(life, STORE_NO_MEMORY);
        return;
    }
    int rc = cursor->methods->cursor_seek(cursor, slice_of_text("key"), &key, &value);
    for (; rc == STORE_OK; met++)
        rc = cursor->methods->cursor_next(cursor, &key, &value);
    for (unsigned i = 0; i < KEYS; i++)
        there += life->now.value[i] != 0;
    if (went_well(life, rc) && !life->unsure)
        REQUIRE(met == there && counted == there, "a walk met %u, a count %u, of %u", met,
                (unsigned)counted, there);
}

/* Some writes that are taken back. */
static void write_and_roll_back(struct life *life)
{
    struct state before = life->now;
    struct store_savepoint savepoint = {0};
    if (life->failed)
        return;
    if (life->store != NULL)
        savepoint = store_savepoint(life->store);
    put_key(life, 1 + (unsigned)random_below(&life->random, KEYS - 1));
    delete_key(life, 1 + (unsigned)random_below(&life->random, KEYS - 1));
    if (life->failed)
        return;
    if (life->store != NULL)
        WATCHED(life, store_rollback(life->store, savepoint));
    life->now = before;
}

static void one_operation(struct life *life)
{
    unsigned number = 1 + (unsigned)random_below(&life->random, KEYS - 1);
    switch (random_below(&life->random, 8)) {
    case 0:
        get_key(life, number);
        break;
    case 1:
        walk(life);
        break;
    case 2:
        delete_key(life, number);
        break;
    case 3:
        write_and_roll_back(life);
        break;
    default:
        put_key(life, number);
    }
}

static void one_transaction(struct life *life)
{
    bool cancels = random_below(&life->random, 8) == 0;
    unsigned operations = (unsigned)random_below(&life->random, 5);
    uint64_t seq = life->seq + 1;
    life->before = life->now;
    life->failed = false;
    if (life->store != NULL)
        store_begin(life->store, NOW_MS);
    put_key(life, 0);
    for (unsigned i = 0; i < operations; i++)
        one_operation(life);
    if (life->failed)
        return;
    if (cancels) {
        if (life->store != NULL)
            WATCHED(life, store_cancel(life->store));
        life->now = life->before;
        return;
    }
    if (life->store != NULL && store_end(life->store, &seq) != STORE_OK) {
        REQUIRE(faults.fired, "a transaction did not end");
        life->now = life->before;
        return;
    }
    REQUIRE(seq == life->seq + 1, "seq %llu", (unsigned long long)seq);
    life->seq = seq;
    life->states[seq] = life->now;
}

/* The whole state is that of the seq; the engine does not fail meanwhile. */
static void check_state(struct life *life, const struct state *expected)
{
    faults.paused = true;
    life->now = *expected;
    life->failed = false;
    for (unsigned i = 0; i < KEYS; i++)
        get_key(life, i);
    walk(life);
    REQUIRE(!life->failed, "a read failed");
    faults.paused = false;
}

/* Whether the store goes on; where it does not, it says why, and stays so. */
static bool commit(struct life *life)
{
    if (store_commit(life->store) == STORE_OK) {
        REQUIRE(!life->unsure, "a commit of what could not be taken back");
        return true;
    }
    REQUIRE(faults.fired, "a commit failed");
    REQUIRE(store_commit(life->store) != STORE_OK, "the next commit did not");
    REQUIRE(store_failure(life->store) != NULL, "no sentence");
    return false;
}

static void look_at_a_snapshot(struct life *life)
{
    struct store_snapshot *snapshot = NULL;
    struct slice key;
    struct slice value;
    unsigned table;
    int rc = store_snapshot(life->store, &snapshot);
    while (rc == STORE_OK)
        rc = store_snapshot_next(snapshot, &table, &key, &value);
    REQUIRE(rc == STORE_NOT_FOUND || faults.fired, "code %d, and no fault", rc);
    store_snapshot_release(&snapshot);
}

/* What comes behind a commit; the model has nothing of it. */
static void tend(struct life *life, unsigned turn)
{
    check_state(life, &life->states[life->seq]);
    if (turn % 3 == 1)
        (void)store_checkpoint(life->store, NULL);
    if (turn % 4 == 2)
        look_at_a_snapshot(life);
    store_poll(life->store);
}

/* False: the store refuses from here on. */
static bool one_turn(struct life *life, unsigned turn)
{
    bool abandons = random_below(&life->random, 6) == 0;
    unsigned transactions = 1 + (unsigned)random_below(&life->random, 3);
    uint64_t newest = life->seq;
    for (unsigned i = 0; i < transactions; i++)
        one_transaction(life);
    if (abandons) {
        if (life->store != NULL)
            WATCHED(life, store_abandon(life->store));
        life->seq = newest;
        life->now = life->states[newest];
        return true;
    }
    if (life->store != NULL && !commit(life))
        return false;
    life->committed = life->seq;
    if (life->messages > 0)
        REQUIRE(write(life->messages, &life->seq, 1) == 1, "the pipe");
    if (life->store != NULL)
        tend(life, turn);
    return true;
}

static int open_store(struct life *life, struct store_error *error)
{
    struct store_options options = {.directory = life->directory,
                                    .engine = "faulty",
                                    .segment_size = FAULTY_SEGMENT,
                                    .checkpoint_size = 1 << 20,
                                    .wall_ms = NOW_MS};
    return store_open(&life->store, &options, error);
}

/* A start without faults has all that was committed, and whole transactions of what was tried. */
static void check_reopened(struct life *life)
{
    struct store_error error = {.message = ""};
    faults = (struct faults){.inner = life->inner};
    REQUIRE(open_store(life, &error) == STORE_OK, "%s", error.message);
    uint64_t seq = store_seq(life->store);
    REQUIRE(seq >= life->committed && seq <= life->seq, "seq %llu, %llu were committed",
            (unsigned long long)seq, (unsigned long long)life->committed);
    life->unsure = false;
    check_state(life, &life->states[seq]);
    REQUIRE(store_close(&life->store) == STORE_OK, "close");
}

static void start(struct life *life)
{
    life->random = (struct random){.state = life->seed * 2 + 1};
    memset(life->states, 0, sizeof life->states);
    memset(&life->now, 0, sizeof life->now);
    life->seq = life->committed = life->values = 0;
    life->unsure = false;
}

/* Child: the script over a faulty store. Exit code 0: the fault came, and all is well; 2: the
 * script ended without it. */
static int live(void *context, int messages)
{
    struct life *life = context;
    struct store_error error = {.message = ""};
    start(life);
    life->messages = messages;
    faults = (struct faults){.inner = life->inner, .left = life->fault_at, .kind = life->kind};
    if (open_store(life, &error) == STORE_OK) {
        bool goes_on = true;
        for (unsigned turn = 0; goes_on && turn < TURNS; turn++)
            goes_on = one_turn(life, turn);
        (void)store_close(&life->store);
    } else {
        REQUIRE(faults.fired && error.message[0] != '\0', "open: %s", error.message);
    }
    bool fired = faults.fired;
    check_reopened(life);
    return fired ? 0 : 2;
}

/* Child: what a death left, of which so many transactions had been committed. */
static int check_rest(void *context, int messages)
{
    struct life *life = context;
    uint64_t committed = life->committed;
    (void)messages;
    start(life);
    life->store = NULL;
    life->messages = 0;
    for (unsigned turn = 0; turn < TURNS && life->committed < committed; turn++)
        (void)one_turn(life, turn);
    /* and the turn that was under way, for which a seq may have been given */
    uint64_t known = life->committed;
    while (life->seq < MAX_SEQ - 8 && life->seq == known && life->values < 400)
        (void)one_turn(life, 0);
    life->committed = committed;
    check_reopened(life);
    return 0;
}

/* The last newest seq that the child told, which ends with the code. */
static int hear_all(struct life *life, const struct child *child)
{
    char byte;
    int heard;
    life->committed = 0;
    while ((heard = child_hear(child, &byte)) == 1)
        life->committed = (uint8_t)byte;
    if (heard == 0)
        return child_reap(child);
    child_kill(child);
    return CHILD_LATE;
}

/* One n. False where the script has no so many calls. */
static bool fault_at(struct life *life, long n)
{
    char directory[MAX_DIRECTORY];
    make_directory(directory);
    life->directory = directory;
    life->fault_at = n;
    life->store = NULL;
    struct child child = child_start(live, life);
    int code = hear_all(life, &child);
    bool came = code != 2;
    if (code == FAULT_EXIT)
        code = child_run(check_rest, life);
    cr_assert(code == 0 || code == 2, "%s, kind %d, call %ld: %d; CUBBY_SEED=%llu",
              life->inner->name, life->kind, n, code, (unsigned long long)life->seed);
    remove_directory(directory);
    return came;
}

/* Every n, or on disk some of them, where nobody has asked for all. */
static void fault_at_each(const struct engine_methods *inner, enum fault kind)
{
    enum { SOME = 17, FEWEST = 100 };
    struct random random = random_start();
    struct life *life = calloc(1, sizeof *life);
    bool all = getenv("CUBBY_LONG") != NULL || !is_on_disk(inner);
    long step = all ? 1 : SOME;
    life->inner = inner;
    life->kind = kind;
    life->seed = random.seed;
    long n = all ? 1 : 1 + (long)random_below(&random, SOME);
    while (fault_at(life, n))
        n += step;
    cr_assert_gt(n, FEWEST, "the script has only %ld calls", n);
    free(life);
}

CONTRACT(a_call_that_gets_no_memory_leaves_the_store_right)
{
    fault_at_each(engines[*row], FAULT_NO_MEMORY);
}

CONTRACT(a_call_that_the_disk_fails_leaves_the_store_right_or_refusing)
{
    fault_at_each(engines[*row], FAULT_IO);
}

CONTRACT(a_call_that_finds_the_disk_full_leaves_the_store_right_or_refusing)
{
    fault_at_each(engines[*row], FAULT_FULL);
}

CONTRACT(a_death_before_a_call_leaves_a_prefix_of_history)
{
    fault_at_each(engines[*row], FAULT_DEATH_BEFORE);
}

CONTRACT(a_death_behind_a_call_leaves_a_prefix_of_history)
{
    fault_at_each(engines[*row], FAULT_DEATH_AFTER);
}

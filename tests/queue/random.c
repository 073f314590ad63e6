/*
 * Random operations in random batches and turns, some of which come to nothing, with restarts,
 * against the model: after each of them all that can be seen is the same. The seed is printed, and
 * taken from CUBBY_SEED.
 */
#include "tests/queue/model.h"

#include <ftw.h>
#include <time.h>
#include <unistd.h>

#include "queue/check.h"
#include "tests/queue/fixture.h"

enum { STEPS = 20000, FULL_CHECK = 16, DEDUPS = 4 };

static const char *const names[MODEL_QUEUES] = {"a", "b",
                                                "queue of a longer name, with \xff in it"};

struct check {
    uint64_t seed;
    uint64_t random;
    struct model model;
    struct model at_begin; /* of the transaction, */
    struct model at_turn;  /* and of the turn */
    uint64_t highest;      /* of ids and tokens so far */
    uint64_t old_id;       /* of some job, and a token that it had */
    uint64_t old_lease;
    bool awoken[MODEL_QUEUES];
    bool dropped[MODEL_QUEUES]; /* in this transaction: another one may have its name now */
};

static struct check check;

#define same(a, b)                                                                                 \
    cr_assert_eq(a, b, "CUBBY_SEED=%llu: " #a " is %llu and should be %llu",                       \
                 (unsigned long long)check.seed, (unsigned long long)(a), (unsigned long long)(b))

static uint64_t roll(uint64_t below)
{
    check.random ^= check.random << 13;
    check.random ^= check.random >> 7;
    check.random ^= check.random << 17;
    return (check.random >> 11) % below;
}

static struct slice name_of(int queue)
{
    return text(names[queue]);
}

static void note_id(uint64_t id)
{
    cr_assert_gt(id, check.highest, "CUBBY_SEED=%llu: an id came again",
                 (unsigned long long)check.seed);
    check.highest = id;
}

/* The model's body, of every third job (a number ends it) as a large one. */
static struct slice body_of(const struct model_job *job)
{
    char last = job->body[strlen(job->body) - 1];
    return text(last % 3 == 0 ? large(job->body) : job->body);
}

/* What can be seen. */

static void same_job(const struct job *job, const struct model_job *expected)
{
    bool timed = expected->state == JOB_DELAYED || expected->state == JOB_LEASED;
    same(job->id, expected->id);
    same(job->state, expected->state);
    same(job->priority, expected->priority);
    same(job->deliveries, expected->deliveries);
    same(job->pushed_at_ms, expected->pushed_ms);
    same(job->due_at_ms, timed ? expected->due_ms : 0);
    same(job->expires_at_ms, expected->expires_ms);
    same(slice_equal(job->queue, name_of(expected->queue)), true);
    same(slice_equal(job->body, body_of(expected)), true);
    same(slice_equal(job->error, text(expected->error)), true);
    same(slice_equal(job->dedup, text(expected->dedup)), true);
}

static void see_list(int queue, enum job_state state)
{
    uint8_t place[QUEUE_PLACE_SIZE];
    struct slice after = {0};
    struct job job;
    struct model_job *expected = model_first(&check.model, queue, state);
    for (; expected != NULL; after = slice_of(place, sizeof place)) {
        same(queue_peek(queues, name_of(queue), state, after, &job), 0);
        same_job(&job, expected);
        same(job.lease, 0);
        queue_place(&job, place);
        expected = model_next(&check.model, queue, state, model_order(expected), expected->id);
    }
    same(queue_peek(queues, name_of(queue), state, after, &job), STORE_NOT_FOUND);
}

static void see_queue(int queue)
{
    struct queue_stats stats;
    struct queue_settings settings;
    const struct model_queue *expected = &check.model.queues[queue];
    int rc = queue_stats(queues, name_of(queue), &stats);
    same(rc, expected->exists ? 0 : STORE_NOT_FOUND);
    if (rc != 0)
        return;
    for (enum job_state state = 0; state < JOB_STATES; state++)
        same(stats.jobs[state], model_count(&check.model, queue, state));
    same(stats.pushed, expected->pushed);
    same(stats.acked, expected->acked);
    same(stats.expired, expected->expired);
    same(stats.oldest_ready_ms, model_oldest(&check.model, queue));
    bool paused = expected->paused_until_ms > check.model.now_ms;
    same(stats.paused_until_ms, paused ? expected->paused_until_ms : 0);
    same(queue_settings(queues, name_of(queue), &settings), 0);
    same(memcmp(&settings, &expected->settings, sizeof settings), 0);
}

static void see_names(void)
{
    uint8_t buffer[QUEUE_MAX_NAME];
    struct slice after = {0};
    struct slice name;
    for (int queue = 0; queue < MODEL_QUEUES; queue++) {
        if (!check.model.queues[queue].exists)
            continue;
        same(queue_next_name(queues, after, &name), 0);
        same(slice_equal(name, name_of(queue)), true);
        memcpy(buffer, name.data, name.size);
        after = slice_of(buffer, name.size);
    }
    same(queue_next_name(queues, after, &name), STORE_NOT_FOUND);
}

static void see_all(void)
{
    for (int queue = 0; queue < MODEL_QUEUES; queue++) {
        see_queue(queue);
        for (enum job_state state = 0; state < JOB_STATES; state++)
            see_list(queue, state);
    }
    see_names();
}

/* One operation each, on both; true: it went well, else the batch is to be cancelled. */

static bool do_push(int queue)
{
    struct model_job job = {.priority = roll(3) == 0 ? roll(3) : 0};
    struct push_options options = {.priority = job.priority};
    uint64_t id;
    uint64_t first;
    bool duplicate;
    if (check.model.job_count == MODEL_JOBS)
        return true;
    snprintf(job.body, sizeof job.body, "%llu", (unsigned long long)check.random);
    if (roll(4) == 0) {
        snprintf(job.dedup, sizeof job.dedup, "b%llu", (unsigned long long)roll(DEDUPS));
        options.dedup = text(job.dedup);
    }
    options.delay_ms = roll(4) == 0 ? 1 + roll(300) : 0;
    options.ttl_given = roll(4) == 0;
    options.ttl_ms = roll(4) == 0 ? QUEUE_FOREVER : 1 + roll(400);
    int rc = queue_push(queues, name_of(queue), body_of(&job), &options, &id, &duplicate);
    if (rc == 0 && !duplicate)
        note_id(job.id = id);
    int expected = model_push(&check.model, queue, job, options.ttl_given, options.ttl_ms,
                              options.delay_ms, &first);
    same(rc, expected);
    if (rc == 0) {
        same(duplicate, first != 0);
        same(id, first != 0 ? first : job.id);
    }
    return rc == 0;
}

static bool do_take(int queue, bool pop)
{
    struct job job;
    uint64_t lease_ms = roll(3) == 0 ? 0 : 1 + roll(300);
    struct model_job *expected = model_meet(&check.model, queue);
    int rc = queue_take(queues, name_of(queue), pop, lease_ms, &job);
    same(rc, expected != NULL ? 0 : STORE_NOT_FOUND);
    if (rc != 0)
        return true;
    expected->deliveries++;
    if (pop) {
        same(job.id, expected->id);
        same(slice_equal(job.body, body_of(expected)), true);
        check.model.queues[queue].acked++;
        model_remove(&check.model, expected);
        return true;
    }
    if (lease_ms == 0)
        lease_ms = check.model.queues[queue].settings.lease_ms;
    if (check.old_lease == 0 || roll(4) == 0) {
        check.old_id = job.id;
        check.old_lease = job.lease;
    }
    note_id(job.lease);
    expected->state = JOB_LEASED;
    expected->due_ms = check.model.now_ms + lease_ms;
    expected->lease = job.lease;
    same_job(&job, expected);
    return true;
}

static bool do_give_back(int queue)
{
    struct job job;
    bool pop = roll(2) == 0;
    struct model_job *expected = model_meet(&check.model, queue);
    int rc = queue_take(queues, name_of(queue), pop, 0, &job);
    same(rc, expected != NULL ? 0 : STORE_NOT_FOUND);
    if (rc != 0)
        return true;
    if (!pop)
        note_id(job.lease);
    same(queue_give_back(queues, &job), 0);
    expected->lease = 0;
    return true;
}

/* A job of the model, mostly one that somebody holds, and a token, mostly the right one. */
static void pick_held(uint64_t *id, uint64_t *lease)
{
    *id = check.old_id;
    *lease = check.old_lease;
    if (roll(6) == 0 || check.model.job_count == 0)
        return;
    for (int tries = 0; tries < 16; tries++) {
        const struct model_job *job = &check.model.jobs[roll((uint64_t)check.model.job_count)];
        *id = job->id;
        *lease = job->lease;
        if (job->lease != 0)
            break;
    }
    if (roll(10) == 0)
        *lease = roll(2) == 0 ? 0 : *lease + 1;
}

static uint64_t pick_any(void)
{
    if (check.model.job_count == 0 || roll(8) == 0)
        return check.old_id;
    return check.model.jobs[roll((uint64_t)check.model.job_count)].id;
}

static bool do_ack(int unused)
{
    uint64_t id;
    uint64_t lease;
    int code;
    (void)unused;
    pick_held(&id, &lease);
    struct model_job *job = model_held(&check.model, id, lease, &code);
    same(queue_ack(queues, id, lease), code);
    if (job != NULL) {
        check.model.queues[job->queue].acked++;
        model_remove(&check.model, job);
    }
    return code == 0;
}

static const struct slice *pick_error(struct slice *error, char *buffer, struct model_job *job)
{
    if (roll(2) == 0)
        return NULL;
    snprintf(buffer, MODEL_TEXT, "%.*s", (int)(1 + roll(20)), "error error error error");
    if (job != NULL)
        memcpy(job->error, buffer, MODEL_TEXT);
    *error = text(buffer);
    return error;
}

static bool do_bury(int unused)
{
    uint64_t id;
    uint64_t lease;
    int code;
    char buffer[MODEL_TEXT] = {0};
    struct slice error;
    (void)unused;
    pick_held(&id, &lease);
    struct model_job *job = model_held(&check.model, id, lease, &code);
    same(queue_bury(queues, id, lease, pick_error(&error, buffer, job)), code);
    if (job != NULL) {
        job->state = JOB_DEAD;
        job->lease = 0;
    }
    return code == 0;
}

static bool do_extend(int unused)
{
    uint64_t id;
    uint64_t lease;
    uint64_t due_ms = 0;
    uint64_t ms = 1 + roll(300);
    int code;
    (void)unused;
    pick_held(&id, &lease);
    struct model_job *job = model_held(&check.model, id, lease, &code);
    same(queue_extend(queues, id, lease, ms, &due_ms), code);
    if (job != NULL) {
        job->state = JOB_LEASED;
        job->due_ms = check.model.now_ms + ms;
        same(due_ms, job->due_ms);
    }
    return code == 0;
}

static bool do_nack(int unused)
{
    uint64_t id;
    uint64_t lease;
    uint64_t delay_ms = roll(2) == 0 ? 0 : roll(200);
    const uint64_t *delay = roll(2) == 0 ? NULL : &delay_ms;
    enum job_state state;
    int code;
    char buffer[MODEL_TEXT] = {0};
    struct slice error;
    (void)unused;
    pick_held(&id, &lease);
    struct model_job *job = model_held(&check.model, id, lease, &code);
    same(queue_nack(queues, id, lease, delay, pick_error(&error, buffer, job), &state), code);
    if (job != NULL)
        same(state, model_nack(&check.model, job, delay));
    return code == 0;
}

static bool do_kick(int queue)
{
    uint64_t kicked;
    uint64_t id = roll(2) == 0 ? pick_any() : 0;
    uint64_t count = 1 + roll(4);
    same(queue_kick(queues, name_of(queue), id, count, &kicked), 0);
    same(kicked, model_kick(&check.model, queue, id, count));
    return true;
}

static bool do_delete(int unused)
{
    bool existed;
    uint64_t id = pick_any();
    struct model_job *job = model_job(&check.model, id);
    bool held = job != NULL && job->state == JOB_LEASED && job->due_ms > check.model.now_ms;
    (void)unused;
    same(queue_delete(queues, id, &existed), held ? QUEUE_STALE_LEASE : 0);
    if (held)
        return false;
    same(existed, job != NULL);
    if (job != NULL)
        model_remove(&check.model, job);
    return true;
}

static bool do_look(int unused)
{
    struct job job;
    uint64_t id = pick_any();
    const struct model_job *expected = model_job(&check.model, id);
    (void)unused;
    same(queue_job(queues, id, &job), expected != NULL ? 0 : STORE_NOT_FOUND);
    if (expected != NULL)
        same_job(&job, expected);
    return true;
}

static bool do_configure(int queue)
{
    static const uint64_t windows[] = {0, 50, 300, 300000};
    struct queue_settings settings = {
        .lease_ms = 1 + roll(300),
        .max_deliveries = roll(5),
        .max_length = roll(3) == 0 ? 1 + roll(30) : 0,
        .retry_delay_ms = roll(3) == 0 ? 0 : roll(100),
        .ttl_ms = roll(3) == 0 ? 1 + roll(500) : QUEUE_FOREVER,
        .dedup_window_ms = windows[roll(4)],
    };
    same(queue_configure(queues, name_of(queue), &settings), 0);
    model_make(&check.model, queue)->settings = settings;
    return true;
}

static bool do_pause(int queue)
{
    uint64_t until_ms = 0;
    if (roll(2) == 0)
        until_ms = check.model.now_ms + roll(100);
    same(queue_pause(queues, name_of(queue), until_ms), 0);
    model_make(&check.model, queue)->paused_until_ms = until_ms;
    return true;
}

static bool do_purge(int queue)
{
    static const enum job_state states[] = {JOB_READY, JOB_DELAYED, JOB_DEAD};
    enum job_state state = states[roll(3)];
    uint64_t removed;
    same(queue_purge(queues, name_of(queue), state, &removed), 0);
    same(removed, model_purge(&check.model, queue, state));
    return true;
}

static bool do_drop(int queue)
{
    bool existed;
    same(queue_drop(queues, name_of(queue), &existed), 0);
    same(existed, model_drop(&check.model, queue));
    check.dropped[queue] = true;
    return true;
}

static bool do_lease(int queue)
{
    return do_take(queue, false);
}

static bool do_pop(int queue)
{
    return do_take(queue, true);
}

static const struct {
    unsigned weight;
    bool (*run)(int queue);
} operations[] = {
    {200, do_push}, {150, do_lease},   {30, do_pop},    {10, do_give_back}, {80, do_ack},
    {40, do_nack},  {20, do_bury},     {30, do_extend}, {15, do_kick},      {15, do_delete},
    {20, do_look},  {8, do_configure}, {8, do_pause},   {3, do_purge},      {1, do_drop},
};

static bool do_something(void)
{
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        sum += operations[i].weight;
    uint64_t at = roll(sum);
    size_t which = 0;
    for (; at >= operations[which].weight; which++)
        at -= operations[which].weight;
    return operations[which].run((int)roll(MODEL_QUEUES));
}

/* Transactions and turns. */

static void note_awoken(void)
{
    for (int queue = 0; queue < MODEL_QUEUES; queue++) {
        if (check.dropped[queue])
            check.awoken[queue] = false;
        if (model_count(&check.at_begin, queue, JOB_READY) == 0 &&
            model_count(&check.model, queue, JOB_READY) > 0)
            check.awoken[queue] = true;
    }
}

static void run_transaction(void)
{
    unsigned size = roll(3) == 0 ? 1 + (unsigned)roll(12) : 1;
    bool good = true;
    check.at_begin = check.model;
    memset(check.dropped, 0, sizeof check.dropped);
    begin();
    for (unsigned i = 0; good && i < size; i++)
        good = do_something();
    if (good && roll(10) != 0) {
        end();
        note_awoken();
    } else {
        cancel();
        check.model = check.at_begin;
    }
}

static void see_awoken(void *context, struct slice queue)
{
    bool *seen = context;
    for (int i = 0; i < MODEL_QUEUES; i++)
        seen[i] = seen[i] || slice_equal(queue, name_of(i));
}

/* A queue may be announced more often than it must, for a pause; never less. */
static void check_awoken(void)
{
    bool seen[MODEL_QUEUES] = {false};
    queues_awoken(queues, see_awoken, seen);
    for (int i = 0; i < MODEL_QUEUES; i++) {
        if (check.awoken[i] && check.model.queues[i].exists)
            same(seen[i], true);
        check.awoken[i] = false;
    }
}

static void pass_time(void)
{
    now_ms += roll(60);
    check.model.now_ms = now_ms;
    if (roll(4) == 0) { /* nobody has looked what is due, and time goes on */
        begin();
        end();
        return;
    }
    check.at_begin = check.model;
    memset(check.dropped, 0, sizeof check.dropped);
    expire();
    model_expire(&check.model);
    cr_assert_gt(queues_next_due(queues), now_ms);
    note_awoken();
}

/* The tables of the directory agree with each other. */
static void check_tables(void)
{
    struct store_report *report;
    struct store_error error = {.message = ""};
    cr_assert_eq(store_inspect(fixture_directory, queues_check, NULL, NULL, NULL, &report, &error),
                 0, "CUBBY_SEED=%llu: %s", (unsigned long long)check.seed, error.message);
    cr_assert_eq(report->damages_in_all, 0, "CUBBY_SEED=%llu: %s", (unsigned long long)check.seed,
                 report->damages[0].message);
    store_report_free(&report);
}

static void restart(void)
{
    check.model = check.at_turn; /* what was not committed is forgotten */
    memset(check.awoken, 0, sizeof check.awoken);
    close_all();
    check_tables();
    open_all();
    check.model.now_ms = now_ms;
}

static void finish_turn(void)
{
    check_awoken();
    if (roll(12) == 0) {
        turn_abandon();
        check.model = check.at_turn;
        check.model.now_ms = now_ms;
        memset(check.awoken, 0, sizeof check.awoken);
        begin();
        end();
    } else if (fixture_directory != NULL && roll(150) == 0) {
        restart();
    } else {
        turn_end();
        check.at_turn = check.model;
    }
}

/* With all queues gone nothing may be left in the tables. */
static void drop_all(void)
{
    uint64_t left;
    for (int queue = 0; queue < MODEL_QUEUES; queue++)
        drop(names[queue]);
    expire();
    for (int table = STORE_JOBS; table <= STORE_DEDUP; table++)
        same(entries_of(table), 0);
    ok(store_count(store, STORE_QUEUES, text("j"), (struct slice){0}, &left));
    same(left, 0);
}

static void run(const char *engine, const char *directory, unsigned steps)
{
    const char *seed = getenv("CUBBY_SEED");
    memset(&check, 0, sizeof check);
    check.seed =
        seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
    check.random = check.seed * 2 + 1;
    fixture_engine = engine;
    fixture_directory = directory;
    now_ms = check.model.now_ms = 1000000;
    check.at_turn = check.model;
    open_all();
    for (unsigned step = 0; step < steps; step++) {
        run_transaction();
        see_queue((int)roll(MODEL_QUEUES));
        if (roll(4) == 0)
            finish_turn();
        if (roll(4) == 0)
            pass_time();
        if (step % FULL_CHECK == 0)
            see_all();
    }
    drop_all();
    close_all();
    if (fixture_directory != NULL)
        check_tables();
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void run_on_disk(const char *engine, unsigned steps)
{
    enum { OPEN_FILES = 8 };
    char directory[] = "/tmp/cubby-queues-XXXXXX";
    cr_assert_not_null(mkdtemp(directory));
    run(engine, directory, steps);
    ok(nftw(directory, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS));
}

Test(random, queues_are_what_the_model_says_in_memory)
{
    run("memory", NULL, STEPS);
}

Test(random, queues_are_what_the_model_says_over_restarts)
{
    run_on_disk("memory", STEPS);
}

Test(random, queues_are_what_the_model_says_in_lmdb)
{
    run_on_disk("lmdb", STEPS);
}

Test(random, queues_are_what_the_model_says_in_rocksdb)
{
    run_on_disk("rocksdb", STEPS);
}

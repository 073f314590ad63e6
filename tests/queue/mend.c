/*
 * What a salvage makes of queues whose tables have lost entries: a check of the new directory finds
 * nothing, each job that can be read is there once, and the queues work.
 */
#include "queue/mend.h"

#include "tests/queue/damages.h"

enum { MAX_JOBS = 600, MAX_TEXT = 32, HISTORY = 250, LATER_MS = 100000000 };

static char saved[PATH_SIZE + 8];

static void begin_test(void)
{
    setup();
    snprintf(saved, sizeof saved, "%s/saved", root);
}

TestSuite(mend, .init = begin_test, .fini = teardown, .timeout = 300);

#define ON_EACH_ENGINE(name)                                                                       \
    ParameterizedTestParameters(mend, name)                                                        \
    {                                                                                              \
        return cr_make_param_array(const char[8], (void *)engines, ENGINES);                       \
    }                                                                                              \
    ParameterizedTest(const char *engine, mend, name)

/* All jobs of a directory, in their order. */

struct seen_job {
    uint64_t id;
    enum job_state state;
    char queue[MAX_TEXT];
    char body[MAX_TEXT];
    bool has_body; /* of what is known before: the entry that is believed is not damaged */
    bool has_record;
    bool has_queue;
    bool was_purged; /* those that it was pushed with: what became of it alone says that it is there
                      */
};

struct seen {
    size_t count;
    struct seen_job jobs[MAX_JOBS];
};

static bool altered; /* bytes of entries: a job may be due in a thousand years */
static struct seen before;
static struct seen after;

/* As much as there is room for: what large bodies end with is blanks. */
static void copy_text(char to[MAX_TEXT], struct slice from)
{
    size_t size = from.size < MAX_TEXT ? from.size : MAX_TEXT - 1;
    memcpy(to, from.data, size);
    to[size] = '\0';
}

static void see_state(struct seen *seen, struct slice queue, enum job_state state)
{
    uint8_t place[QUEUE_PLACE_SIZE];
    struct slice behind = {0};
    struct job job;
    int rc;
    while ((rc = queue_peek(queues, queue, state, behind, &job)) == 0) {
        cr_assert_lt(seen->count, MAX_JOBS);
        struct seen_job *known = &seen->jobs[seen->count++];
        *known = (struct seen_job){.id = job.id, .state = job.state};
        cr_assert_eq(job.state, state);
        copy_text(known->queue, job.queue);
        copy_text(known->body, job.body);
        queue_place(&job, place);
        behind = slice_of(place, sizeof place);
    }
    cr_assert_eq(rc, STORE_NOT_FOUND);
}

static void see_all(struct seen *seen)
{
    char name[MAX_TEXT] = "";
    struct slice found;
    seen->count = 0;
    while (queue_next_name(queues, text(name), &found) == 0) {
        copy_text(name, found);
        for (enum job_state state = 0; state < JOB_STATES; state++)
            see_state(seen, text(name), state);
    }
}

static struct seen_job *find_seen(struct seen *seen, uint64_t id)
{
    for (size_t i = 0; i < seen->count; i++)
        if (seen->jobs[i].id == id)
            return &seen->jobs[i];
    return NULL;
}

/* Steps. */

static void open_at(const char *directory)
{
    fixture_directory = directory;
    fixture_engine = NULL;
    open_all();
}

static void see_directory(struct seen *seen, const char *directory)
{
    open_at(directory);
    see_all(seen);
    close_all();
}

static void salvage_with(store_mend_fn *mender)
{
    struct store_error error = {.message = ""};
    struct store_options options = {.directory = saved};
    remove_tree(saved);
    store_report_free(&report);
    int rc = store_salvage(copied, &options, mender, NULL, &report, &error);
    cr_assert_eq(rc, 0, "code %d: %s", rc, error.message);
}

static void salvage_copy(void)
{
    salvage_with(queues_mend);
}

static bool is_told(bool lost, const char *what)
{
    for (size_t i = 0; i < report->repair_count; i++)
        if (report->repairs[i].lost == lost && strstr(report->repairs[i].sentence, what) != NULL)
            return true;
    return false;
}

static void check_told(bool lost, const char *what)
{
    cr_assert(is_told(lost, what), "'%s' is not told, but (of %zu) '%s'", what,
              report->repair_count, report->repair_count > 0 ? report->repairs[0].sentence : "");
}

/* Takes all jobs that are to be had of a queue, and acknowledges every other one. */
static void work_off(const char *name)
{
    struct job job;
    uint64_t last = 0;
    while ((job = take_for(name, 1000)).id != 0) {
        cr_assert_neq(job.id, last);
        last = job.id;
        if (job.id % 2 == 0)
            ok(ack(job.id, job.lease));
        else
            ok(bury(job.id, job.lease));
    }
}

/* Everything comes to an end, and what is new goes on. */
static void check_works(void)
{
    struct slice found;
    char name[MAX_TEXT] = "";
    open_at(saved);
    while (queue_next_name(queues, text(name), &found) == 0) {
        copy_text(name, found);
        pause_until(name, 0);
        work_off(name);
        wait_ms(LATER_MS);
        uint64_t dead = count_of(name, JOB_DEAD);
        cr_assert_eq(kick(name, 0, UINT64_MAX), dead);
        work_off(name);
        wait_ms(LATER_MS);
        while (pop(name).id != 0)
            continue;
        while (kick(name, 0, 1) > 0)
            cr_assert_neq(pop(name).id, 0);
        for (enum job_state state = 0; state < JOB_STATES; state++)
            cr_assert(count_of(name, state) == 0 || altered, "%s: %" PRIu64 " of state %u", name,
                      count_of(name, state), (unsigned)state);
        uint64_t id = push_with(name, "new", (struct push_options){.dedup = text("bnew")});
        cr_assert_null(find_seen(&before, id));
        struct job job = take_for(name, 5000);
        cr_assert_eq(job.id, id);
        ok(ack(id, job.lease));
    }
    turn_end();
    cr_assert(entries_of(STORE_BODIES) == 0 || altered);
    cr_assert(entries_of(STORE_JOBS) == 0 || altered);
    close_all();
    check_good(saved);
}

/* A salvage of the copy gives what is good, and works; `after` is what is in it. */
static void check_mends(const char *engine)
{
    uint64_t now = now_ms;
    write_copy(engine);
    salvage_copy();
    struct store_report *told = report;
    report = NULL;
    check_good(saved);
    see_directory(&after, saved);
    check_works();
    report = told;
    now_ms = now;
}

static void make_live(const char *engine)
{
    fixture_engine = engine;
    fixture_directory = live;
    open_all();
    fill_queues();
    see_all(&before);
    close_all();
    copy_live();
}

static void empty(enum store_table table)
{
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    uint8_t kept[ENGINE_MAX_KEY];
    ok(copy->methods->cursor_open(copy, NULL, table, &cursor));
    int rc = copy->methods->cursor_seek(cursor, text(""), &key, &value);
    for (; rc == 0; rc = copy->methods->cursor_next(cursor, &key, &value)) {
        memcpy(kept, key.data, key.size);
        ok(copy->methods->delete (copy, table, slice_of(kept, key.size)));
    }
    copy->methods->cursor_close(cursor);
}

static enum job_state state_after(uint64_t id)
{
    const struct seen_job *job = find_seen(&after, id);
    return job != NULL ? job->state : JOB_GONE;
}

/* All jobs of `before` in their order and states, but for leases. */
static void check_all_there(bool leased)
{
    cr_assert_eq(after.count, before.count);
    for (size_t i = 0; i < before.count; i++) {
        const struct seen_job *then = &before.jobs[i];
        const struct seen_job *now = find_seen(&after, then->id);
        cr_assert_not_null(now, "job %" PRIu64 " (%s)", then->id, then->body);
        cr_assert_str_eq(now->body, then->body);
        cr_assert_str_eq(now->queue, then->queue);
        if (then->state != JOB_LEASED || leased)
            cr_assert_eq(now->state, then->state, "%s", then->body);
    }
    for (size_t i = 0; leased && i < before.count; i++)
        cr_assert_eq(after.jobs[i].id, before.jobs[i].id);
}

/* Tests. */

ON_EACH_ENGINE(of_a_good_directory_tells_nothing_and_changes_nothing)
{
    make_live(engine);
    check_mends(engine);
    cr_assert_eq(report->repairs_in_all, 0, "%s", report->repairs[0].sentence);
    check_all_there(true);
}

ON_EACH_ENGINE(each_kind_of_damage_is_mended)
{
    make_live(engine);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        cr_log_info("damage %zu", i);
        copy_live();
        damages[i].make();
        check_mends(engine);
        cr_assert_gt(report->repairs_in_all, 0, "damage %zu: %s", i, damages[i].said);
    }
}

ON_EACH_ENGINE(without_their_lists_all_jobs_are_put_back_into_them)
{
    make_live(engine);
    empty(STORE_LISTS);
    check_mends(engine);
    check_all_there(true);
    check_told(false, "queue q: 9 places of jobs in lists are put back");
    check_told(false, "queue leases: 1 places");
    cr_assert_not(is_told(true, ""));
}

ON_EACH_ENGINE(without_what_became_of_them_jobs_are_where_their_lists_say)
{
    make_live(engine);
    empty(STORE_JOBS);
    check_mends(engine);
    check_all_there(false);
    cr_assert_eq(state_after(jobs.leased), JOB_READY);
    cr_assert_eq(state_after(jobs.dead), JOB_DEAD);
    check_told(false, "queue leases: 1 jobs of which it cannot be read what became of them");
    cr_assert_not(is_told(true, ""));
}

ON_EACH_ENGINE(without_lists_and_what_became_of_them_jobs_are_as_they_were_pushed)
{
    make_live(engine);
    empty(STORE_JOBS);
    empty(STORE_LISTS);
    check_mends(engine);
    cr_assert_eq(after.count, before.count);
    cr_assert_eq(state_after(jobs.leased), JOB_READY);
    cr_assert_eq(state_after(jobs.dead), JOB_DEAD);
    cr_assert_eq(state_after(jobs.delayed), JOB_DELAYED);
}

ON_EACH_ENGINE(without_their_bodies_jobs_are_lost_and_told)
{
    make_live(engine);
    empty(STORE_BODIES);
    check_mends(engine);
    cr_assert_eq(after.count, 0);
    check_told(true, "queue q: 7 jobs are lost");
    check_told(true, "queue graves: 1 jobs are lost");
    check_told(true, "queue leases: 1 jobs are lost");
}

/* The windows say it too; without a window the job does. */
ON_EACH_ENGINE(without_ids_of_producers_jobs_are_no_less_pushed_once)
{
    static const char *const taken[] = {"bone", "btwo", "bthree"};
    make_live(engine);
    empty(STORE_DEDUP);
    check_mends(engine);
    check_all_there(true);
    write_copy(engine);
    salvage_copy();
    open_at(saved);
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        struct push_options options = {.dedup = text(taken[i])};
        uint64_t id;
        bool duplicate = false;
        begin();
        ok(queue_push(queues, text(i < 2 ? "q" : "purged"), text("again"), &options, &id,
                      &duplicate));
        end();
        cr_assert(duplicate, "%s", taken[i]);
    }
    close_all();
}

ON_EACH_ENGINE(without_names_jobs_are_in_queues_that_say_so_in_their_states_and_order)
{
    make_live(engine);
    empty(STORE_QUEUES);
    check_mends(engine);
    check_told(true, "name and settings of a queue are lost: its jobs are in queue salvaged-");
    check_told(false, "which ids were given out is lost");
    uint64_t last = 0;
    for (size_t i = 0; i < before.count; i++) {
        const struct seen_job *then = &before.jobs[i];
        const struct seen_job *now = find_seen(&after, then->id);
        cr_assert_not_null(now, "job %" PRIu64 " (%s)", then->id, then->body);
        cr_assert_eq(now->state, then->state, "%s", then->body);
        cr_assert_eq(strncmp(now->queue, "salvaged-", 9), 0);
    }
    for (size_t i = 0; i < after.count; i++)
        if (after.jobs[i].state == JOB_READY &&
            strcmp(after.jobs[i].queue, after.jobs[0].queue) == 0) {
            cr_assert_gt(after.jobs[i].id, last * (strcmp(after.jobs[i].body, "ranked") != 0));
            last = after.jobs[i].id;
        }
}

/* Random. */

static unsigned draws;

static unsigned draw(unsigned below)
{
    return (unsigned)rand_r(&draws) % below;
}

static void push_any(const char *name, unsigned number)
{
    char body[MAX_TEXT];
    char dedup[MAX_TEXT];
    struct push_options options = {0};
    uint64_t id;
    bool duplicate;
    snprintf(body, sizeof body, "body %u", number);
    snprintf(dedup, sizeof dedup, "b%u", draw(20));
    options.priority = draw(3) == 0 ? draw(5) : 0;
    options.delay_ms = draw(4) == 0 ? 1 + draw(3000) : 0;
    options.ttl_given = draw(3) == 0;
    options.ttl_ms = 1 + draw(6000);
    options.dedup = draw(3) == 0 ? text(dedup) : (struct slice){0};
    begin();
    ok(queue_push(queues, text(name), text(draw(2) == 0 ? large(body) : body), &options, &id,
                  &duplicate));
    end();
}

static void end_any(const struct job *job)
{
    uint64_t id = job->id;
    uint64_t lease = job->lease;
    unsigned way = draw(5);
    if (way == 0)
        ok(ack(id, lease));
    else if (way == 1)
        ok(bury(id, lease));
    else if (way == 2)
        (void)nack_for(id, lease, UINT64_C(1500) * draw(2), "an error");
}

static void do_anything(unsigned number)
{
    static const char *const names[] = {"a", "b", "c", "dropped"};
    const char *name = names[draw(4)];
    unsigned what = draw(40);
    if (what < 20) {
        push_any(name, number);
    } else if (what < 32) {
        struct job job = take_for(name, 1000 + draw(4000));
        if (job.id != 0)
            end_any(&job);
    } else if (what < 34) {
        kick(name, 0, draw(3));
    } else if (what < 38) {
        turn_end();
        now_ms += draw(1000);
        if (draw(2) == 0)
            expire();
    } else if (what == 38 && draw(3) == 0) {
        purge(name, draw(2) == 0 ? JOB_READY : JOB_DEAD);
    } else if (what == 39 && draw(3) == 0) {
        drop("dropped");
    }
}

static void make_history(void)
{
    struct queue_settings settings = defaults;
    settings.dedup_window_ms = 2000;
    settings.max_deliveries = 3;
    remove_tree(live);
    fixture_directory = live;
    fixture_engine = "memory";
    now_ms = 1000000;
    open_all();
    configure("a", settings);
    for (unsigned i = 0; i < HISTORY; i++)
        do_anything(i);
    turn_end();
    see_all(&before);
    close_all();
    copy_live();
}

/* A job whose first list was purged since then. */
static bool was_purged(uint64_t id)
{
    uint8_t key[RECORD_MAX_KEY];
    struct record record = {.id = id};
    struct slice value;
    ok(copy->methods->get(copy, STORE_BODIES, record_id_key(key, id), &value));
    ok(record_read_job(value, &record));
    return copy->methods->get(copy, STORE_QUEUES, record_number_key(key, 'x', record.list),
                              &value) == 0;
}

/* What is known of a job by the entry that has gone. */
static void note_lost(enum store_table table, struct slice key)
{
    uint64_t id;
    struct slice name;
    if ((table == STORE_BODIES || table == STORE_JOBS) && record_read_id_key(key, &id)) {
        struct seen_job *job = find_seen(&before, id);
        if (job != NULL && table == STORE_BODIES)
            job->has_body = false;
        if (job != NULL)
            job->has_record = false;
    }
    for (size_t i = 0;
         table == STORE_QUEUES && record_read_name_key(key, &name) && i < before.count; i++)
        if (slice_equal(text(before.jobs[i].queue), name))
            before.jobs[i].has_queue = false;
}

/* Any entry may go, of some tables many; where bytes change too, nothing is known of what is there.
 */
static void damage_at_random(unsigned alter)
{
    for (size_t i = 0; i < before.count; i++) {
        before.jobs[i].has_body = before.jobs[i].has_record = before.jobs[i].has_queue = true;
        before.jobs[i].was_purged = was_purged(before.jobs[i].id);
    }
    for (enum store_table table = STORE_QUEUES; table < STORE_TABLES; table++) {
        static const unsigned odds[] = {1, 2, 10, 100, 1000000};
        unsigned lose = odds[draw(10) == 0 ? 0 : 1 + draw(4)];
        uint8_t key[ENGINE_MAX_KEY];
        uint8_t value[4096];
        struct engine_cursor *cursor;
        struct slice found;
        struct slice stored;
        ok(copy->methods->cursor_open(copy, NULL, table, &cursor));
        int rc = copy->methods->cursor_seek(cursor, text(""), &found, &stored);
        while (rc == 0) {
            size_t size = found.size;
            size_t stored_size = stored.size;
            memcpy(key, found.data, size);
            memcpy(value, stored.data, stored_size);
            if (draw(lose) == 0) {
                ok(copy->methods->delete (copy, table, slice_of(key, size)));
                note_lost(table, slice_of(key, size));
            } else if (alter > 0 && draw(alter) == 0) {
                unsigned at = draw((unsigned)(size + stored_size));
                ok(copy->methods->delete (copy, table, slice_of(key, size)));
                *(at < size ? &key[at] : &value[at - size]) ^= (uint8_t)(1 << draw(8));
                ok(copy->methods->put(copy, table, slice_of(key, size),
                                      slice_of(value, stored_size)));
            }
            rc = copy->methods->cursor_next(cursor, &found, &stored);
        }
        copy->methods->cursor_close(cursor);
    }
}

static void check_kept(unsigned seed)
{
    size_t last = 0;
    for (size_t i = 0; i < before.count; i++) {
        const struct seen_job *then = &before.jobs[i];
        const struct seen_job *now = find_seen(&after, then->id);
        size_t at = now != NULL ? (size_t)(now - after.jobs) : 0;
        if (now == NULL && then->was_purged && !then->has_record)
            continue;
        cr_assert_eq(now != NULL, then->has_body, "CUBBY_SEED=%u: job %" PRIu64, seed, then->id);
        if (now == NULL)
            continue;
        cr_assert_str_eq(now->body, then->body, "CUBBY_SEED=%u", seed);
        if (then->has_record)
            cr_assert_eq(now->state, then->state, "CUBBY_SEED=%u: job %" PRIu64, seed, then->id);
        if (then->has_queue)
            cr_assert_str_eq(now->queue, then->queue, "CUBBY_SEED=%u", seed);
        if (!then->has_record || !then->has_queue)
            continue;
        cr_assert_geq(at, last, "CUBBY_SEED=%u: job %" PRIu64 " is out of order", seed, then->id);
        last = at;
    }
}

static void check_once(unsigned seed)
{
    for (size_t i = 0; i < after.count; i++)
        cr_assert_eq(find_seen(&after, after.jobs[i].id), &after.jobs[i], "CUBBY_SEED=%u", seed);
}

static void go_round(unsigned seed, const char *engine)
{
    draws = seed;
    cr_log_info("CUBBY_SEED=%u, %s", seed, engine);
    make_history();
    unsigned alter = draw(2) == 0 ? 0 : 1 + draw(60);
    altered = alter > 0;
    damage_at_random(alter);
    check_mends(engine);
    check_once(seed);
    if (alter == 0)
        check_kept(seed);
}

ON_EACH_ENGINE(of_random_damage_keeps_what_can_be_read_once_in_queues_that_work)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    unsigned rounds = given != NULL ? 1 : strcmp(engine, "memory") == 0 ? 60 : 12;
    if (getenv("CUBBY_LONG") != NULL)
        rounds *= 20;
    fprintf(stderr, "CUBBY_SEED=%u and the %u behind it, on %s\n", seed, rounds - 1, engine);
    for (unsigned i = 0; i < rounds; i++)
        go_round(seed + i, engine);
}

static bool is_no_body(struct slice body)
{
    (void)body;
    return false;
}

static int mend_without_bodies(const struct store_mending *mending, struct store_error *error)
{
    return queues_mend_bodies(mending, is_no_body, error);
}

ON_EACH_ENGINE(jobs_whose_bodies_are_not_taken_for_ones_are_lost_and_queues_work)
{
    make_live(engine);
    copy_live();
    write_copy(engine);
    salvage_with(mend_without_bodies);
    check_told(true, "queue q: ");
    check_directory(saved);
    cr_assert_eq(report->damages_in_all, 0, "%s", report->damages[0].message);
    check_works();
}

/*
 * Queues with jobs in all states, copied entry by entry, so that one thing or several in the copy
 * are made wrong; the copy becomes a directory of any engine. For check.c and mend.c.
 */
#ifndef TESTS_QUEUE_DAMAGES_H
#define TESTS_QUEUE_DAMAGES_H

#include "queue/check.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <ftw.h>
#include <inttypes.h>
#include <unistd.h>

#include "queue/internal.h"
#include "store/fill.h"
#include "tests/queue/fixture.h"

enum { PATH_SIZE = 128, ENGINES = 3, MAX_DAMAGE_KEY = 512 };

static const char engines[ENGINES][8] = {"memory", "lmdb", "rocksdb"};
static char root[PATH_SIZE];
static char live[PATH_SIZE + 8];
static char copied[PATH_SIZE + 8];

static void setup(void)
{
    snprintf(root, sizeof root, "/tmp/cubby-queue-damages-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    snprintf(live, sizeof live, "%s/live", root);
    snprintf(copied, sizeof copied, "%s/copy", root);
    fixture_directory = live;
    now_ms = 1000000;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)type, (void)place;
    return remove(path);
}

static void remove_tree(const char *path)
{
    enum { OPEN_FILES = 8 };
    (void)nftw(path, remove_one, OPEN_FILES, FTW_DEPTH | FTW_PHYS);
}

/* The store. */

/* Jobs that the damage is done to. */
static struct {
    uint64_t ready, ranked, expiring, delayed, leased, hired, dead, with_id;
} jobs;

/* Jobs in each state, and what a purge and a drop left. */
static void fill_queues(void)
{
    push("other", "another queue");
    jobs.ready = push("q", "ready");
    push("q", "ready too");
    jobs.leased = push("leases", large("leased"));
    take_for("leases", 5000);
    jobs.hired = push("hires", "leased, and small");
    take_for("hires", 5000);
    jobs.dead = push("graves", "dead");
    struct job job = take("graves");
    ok(bury(job.id, job.lease));
    jobs.delayed = push_with("q", "delayed", (struct push_options){.delay_ms = 7000});
    jobs.ranked = push_with("q", "ranked", (struct push_options){.priority = 7});
    jobs.expiring =
        push_with("q", "expiring", (struct push_options){.ttl_given = true, .ttl_ms = 9000});
    jobs.with_id = push_with("q", "with an id", (struct push_options){.dedup = text("bone")});
    push_with("q", "popped", (struct push_options){.dedup = text("btwo")});
    push_with("purged", "p",
              (struct push_options){
                  .dedup = text("bthree"), .priority = 3, .ttl_given = true, .ttl_ms = 10000});
    purge("purged", JOB_READY);
    push_with("dropped", "d", (struct push_options){.dedup = text("bfour"), .priority = 1});
    drop("dropped");
    turn_end();
}

/* Checking. */

static struct store_report *report;

static void check_directory(const char *path)
{
    struct store_error error = {.message = ""};
    store_report_free(&report);
    cr_assert_eq(store_inspect(path, queues_check, NULL, NULL, NULL, &report, &error), 0, "%s",
                 error.message);
}

static inline bool says(const char *what)
{
    for (size_t i = 0; i < report->damage_count; i++)
        if (strstr(report->damages[i].message, what) != NULL)
            return true;
    return false;
}

static void check_good(const char *path)
{
    check_directory(path);
    cr_assert_eq(report->damages_in_all, 0, "%s", report->damages[0].message);
    store_report_free(&report);
}

/* The copy, in memory until it is written to a directory. */

static struct engine *copy;

static void close_copy(void)
{
    if (copy != NULL)
        copy->methods->close(copy);
    copy = NULL;
}

static void teardown(void)
{
    close_copy();
    store_report_free(&report);
    remove_tree(root);
}

static int copy_table(struct engine *from, unsigned table)
{
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    ok(from->methods->cursor_open(from, NULL, table, &cursor));
    int rc = from->methods->cursor_seek(cursor, text(""), &key, &value);
    for (; rc == 0; rc = from->methods->cursor_next(cursor, &key, &value))
        ok(copy->methods->put(copy, table, key, value));
    from->methods->cursor_close(cursor);
    return rc;
}

static int take_copy(const struct store_examination *examination, struct store_error *error)
{
    (void)error;
    for (unsigned table = 0; table < STORE_TABLES; table++)
        cr_assert_eq(copy_table(examination->state, table), STORE_NOT_FOUND);
    return 0;
}

static void copy_live(void)
{
    const struct engine_options nowhere = {0};
    struct engine_mark mark;
    struct store_error error = {.message = ""};
    store_report_free(&report);
    close_copy();
    ok(engine_memory.open(&copy, &nowhere, &mark, &error));
    ok(store_inspect(live, take_copy, NULL, NULL, NULL, &report, &error));
}

static void write_copy(const char *engine)
{
    struct store_fill *entries;
    struct store_error error = {.message = ""};
    struct store_options options = {.directory = copied, .engine = engine};
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    remove_tree(copied);
    cr_assert_eq(store_fill_begin(&entries, &options, &error), 0, "%s", error.message);
    for (unsigned table = 0; table < STORE_TABLES; table++) {
        ok(copy->methods->cursor_open(copy, NULL, table, &cursor));
        int rc = copy->methods->cursor_seek(cursor, text(""), &key, &value);
        for (; rc == 0; rc = copy->methods->cursor_next(cursor, &key, &value))
            ok(store_fill_put(entries, table, key, value, &error));
        copy->methods->cursor_close(cursor);
    }
    ok(store_fill_end(&entries, 1, now_ms, &error));
}

static void put(enum store_table table, struct slice key, struct slice value)
{
    ok(copy->methods->put(copy, table, key, value));
}

static void take_out(enum store_table table, struct slice key)
{
    ok(copy->methods->delete (copy, table, key));
}

/* A copy of an entry's value that may be changed. */
static struct slice value_of(enum store_table table, struct slice key)
{
    static uint8_t buffer[4096];
    struct slice value;
    ok(copy->methods->get(copy, table, key, &value));
    cr_assert_leq(value.size, sizeof buffer);
    memcpy(buffer, value.data, value.size);
    return slice_of(buffer, value.size);
}

static struct queue_fields queue_named(const char *name)
{
    uint8_t key[RECORD_MAX_KEY];
    struct queue_fields fields;
    struct slice value;
    ok(copy->methods->get(copy, STORE_QUEUES, record_name_key(key, text(name)), &value));
    ok(record_read_queue(value, &fields));
    return fields;
}

static uint8_t key_buffer[MAX_DAMAGE_KEY];

static struct slice job_key(uint64_t id)
{
    return record_id_key(key_buffer, id);
}

static struct slice place_in(const char *queue, enum list list, uint64_t order, uint64_t id)
{
    struct queue_fields fields = queue_named(queue);
    return record_list_key(key_buffer, fields.lists[list], (struct place){order, id});
}

static struct slice dedup_key(const char *queue, const char *dedup)
{
    return record_dedup_key(key_buffer, queue_named(queue).number, text(dedup));
}

static struct slice counts_key(const char *queue)
{
    return record_number_key(key_buffer, 'c', queue_named(queue).number);
}

/* Damage, each with what the check has to say. */

static void lose_a_place(void)
{
    take_out(STORE_LISTS, place_in("q", LIST_READY, 0, jobs.ready));
}

static void lose_a_job(void)
{
    take_out(STORE_BODIES, job_key(jobs.ready));
}

static void lose_a_leased_job(void)
{
    take_out(STORE_BODIES, job_key(jobs.leased));
}

static void forget_that_a_job_was_leased(void)
{
    take_out(STORE_JOBS, job_key(jobs.leased));
}

static void lose_counts(void)
{
    take_out(STORE_QUEUES, counts_key("q"));
}

static void count_wrongly(void)
{
    struct slice value = value_of(STORE_QUEUES, counts_key("q"));
    ((uint8_t *)value.data)[1] ^= 1; /* ready */
    put(STORE_QUEUES, counts_key("q"), value);
}

static void count_for_nobody(void)
{
    struct slice value = value_of(STORE_QUEUES, counts_key("q"));
    put(STORE_QUEUES, record_number_key(key_buffer, 'c', 12345), value);
}

static void let_a_lease_end_later(void)
{
    take_out(STORE_LISTS, place_in("leases", LIST_LEASED, now_ms + 5000, jobs.leased));
    put(STORE_LISTS, place_in("leases", LIST_LEASED, now_ms + 5001, jobs.leased), text(""));
}

static void put_a_job_into_another_list_too(void)
{
    put(STORE_LISTS, place_in("graves", LIST_DEAD, 0, jobs.ready), text(""));
}

static void lose_a_ttl(void)
{
    take_out(STORE_LISTS, place_in("q", LIST_EXPIRING, now_ms + 9000, jobs.expiring));
}

static void expire_what_has_no_ttl(void)
{
    put(STORE_LISTS, place_in("q", LIST_EXPIRING, now_ms + 1, jobs.ready), text(""));
}

static void expire_what_is_not_there(void)
{
    put(STORE_LISTS, place_in("q", LIST_EXPIRING, now_ms + 1, 99), text(""));
}

static void lose_a_rank(void)
{
    take_out(STORE_LISTS, place_in("q", LIST_RANKED, 0, jobs.ranked));
}

static void rank_an_ordinary_job(void)
{
    put(STORE_LISTS, place_in("q", LIST_RANKED, 0, jobs.ready), text(""));
}

static void lose_a_delay(void)
{
    take_out(STORE_LISTS, place_in("q", LIST_DELAYED, now_ms + 7000, jobs.delayed));
}

static void lose_a_dead_job(void)
{
    take_out(STORE_LISTS, place_in("graves", LIST_DEAD, 0, jobs.dead));
}

static void lose_a_producers_id(void)
{
    take_out(STORE_DEDUP, dedup_key("q", "bone"));
}

static void keep_a_producers_id_for_ever(void)
{
    uint8_t value[17] = {1, 99};
    put(STORE_DEDUP, dedup_key("q", "bnobody"), slice_of(value, sizeof value));
}

static void lose_a_producers_id_whose_window_lasts(void)
{
    take_out(STORE_DEDUP, dedup_key("q", "btwo"));
}

static void have_a_list_of_no_queue(void)
{
    put(STORE_LISTS, record_list_key(key_buffer, 12345, (struct place){0, 1}), text(""));
}

static void lose_a_queue(void)
{
    uint8_t key[RECORD_MAX_KEY];
    take_out(STORE_QUEUES, record_name_key(key, text("graves")));
}

static void have_two_queues_of_one_number(void)
{
    struct slice value = value_of(STORE_QUEUES, record_name_key(key_buffer, text("q")));
    put(STORE_QUEUES, record_name_key(key_buffer, text("twin")), value);
}

static void lose_what_was_given_out(void)
{
    take_out(STORE_QUEUES, text("i"));
}

static void give_the_same_ids_out_again(void)
{
    struct slice value = value_of(STORE_QUEUES, text("i"));
    memset((uint8_t *)value.data + 1, 0, RECORD_NUMBER_SIZE);
    put(STORE_QUEUES, text("i"), value);
}

static void spoil_a_job(void)
{
    put(STORE_BODIES, job_key(jobs.ready), text("\x01 nonsense"));
}

static void spoil_what_became_of_a_job(void)
{
    put(STORE_JOBS, job_key(jobs.leased), text("nonsense"));
}

static void change_a_job_that_was_pushed(void)
{
    struct slice value = value_of(STORE_BODIES, job_key(jobs.leased));
    ((uint8_t *)value.data)[32] ^= 1; /* when */
    put(STORE_BODIES, job_key(jobs.leased), value);
}

static void lease_without_a_lease(void)
{
    struct slice value = value_of(STORE_JOBS, job_key(jobs.leased));
    memset((uint8_t *)value.data + 40, 0, 8);
    put(STORE_JOBS, job_key(jobs.leased), value);
}

static void lose_a_small_leased_job(void)
{
    take_out(STORE_BODIES, job_key(jobs.hired));
}

static void lease_a_small_job_without_a_lease(void)
{
    struct slice value = value_of(STORE_BODIES, job_key(jobs.hired));
    memset((uint8_t *)value.data + 40, 0, 8);
    put(STORE_BODIES, job_key(jobs.hired), value);
}

static void take_a_small_job_out_of_its_list(void)
{
    take_out(STORE_LISTS, place_in("hires", LIST_LEASED, now_ms + 5000, jobs.hired));
}

static void let_something_else_become_of_a_small_job(void)
{
    struct slice value = value_of(STORE_JOBS, job_key(jobs.leased));
    put(STORE_JOBS, job_key(jobs.hired), value);
}

static void move_a_job_with_its_body(void)
{
    struct slice value = value_of(STORE_BODIES, job_key(jobs.leased));
    put(STORE_JOBS, job_key(jobs.leased), value);
}

static void put_odd_entries(void)
{
    put(STORE_QUEUES, text("z\xff"), text("?"));
    put(STORE_LISTS, text("short"), text(""));
    put(STORE_DEDUP, text("short"), text(""));
    put(STORE_BODIES, text("short"), text(""));
}

struct damage {
    void (*make)(void);
    const char *said;
    uint64_t *job; /* whose id is to be named behind it; NULL: none */
};

static const struct damage damages[] = {
    {lose_a_place, "in table jobs, queue q, ready, job", &jobs.ready},
    {lose_a_place, "in table queues, queue q: it counts 6 jobs as ready, and there are 5", NULL},
    {lose_a_job, "in table places in lists, queue q, ready, job", &jobs.ready},
    {lose_a_job, "there is no such job", NULL},
    {lose_a_leased_job, "the job has no body", NULL},
    {forget_that_a_job_was_leased, "in table places in lists, queue leases, leased, job",
     &jobs.leased},
    {lose_counts, "queue q: it counts 0 jobs as ready, and there are 6", NULL},
    {count_wrongly, "queue q: it counts 7 jobs as ready, and there are 6", NULL},
    {count_for_nobody, "in table queues, c\\x00\\x00\\x00\\x00\\x00\\x0009: there is no queue",
     NULL},
    {let_a_lease_end_later, "in table places in lists, queue leases, leased, job", &jobs.leased},
    {let_a_lease_end_later, "at another place in the list", NULL},
    {let_a_lease_end_later, "in table jobs, queue leases, leased, job", &jobs.leased},
    {put_a_job_into_another_list_too, "queue graves, dead, job", &jobs.ready},
    {put_a_job_into_another_list_too, "the job says that it is elsewhere", NULL},
    {lose_a_ttl, "in table jobs, queue q, expiring, job", &jobs.expiring},
    {expire_what_has_no_ttl, "queue q, expiring, job", &jobs.ready},
    {expire_what_is_not_there, "queue q, expiring, job 99: there is no such job", NULL},
    {lose_a_rank, "in table jobs, queue q, by priority, job", &jobs.ranked},
    {rank_an_ordinary_job, "in table places in lists, queue q, by priority, job", &jobs.ready},
    {lose_a_delay, "in table jobs, queue q, delayed, job", &jobs.delayed},
    {lose_a_dead_job, "in table jobs, queue graves, dead, job", &jobs.dead},
    {lose_a_producers_id, "its producer's id is missing", NULL},
    {lose_a_producers_id, "in table jobs, queue q, ready, job", &jobs.with_id},
    {keep_a_producers_id_for_ever, "bnobody: neither its job nor its window is there", NULL},
    {lose_a_producers_id_whose_window_lasts, "in table places in lists, queue q, windows, job",
     NULL},
    {have_a_list_of_no_queue, "no queue has this list", NULL},
    {lose_a_queue, "in table queues, c", NULL},
    {lose_a_queue, "the job is in a list that no queue has", NULL},
    {have_two_queues_of_one_number, "another queue has its number", NULL},
    {lose_what_was_given_out, "the ids that were given out are missing", NULL},
    {give_the_same_ids_out_again, "its id or lease has not been given out yet", NULL},
    {spoil_a_job, "in table jobs, \\x00", NULL},
    {spoil_a_job, "what is stored is no job", NULL},
    {spoil_what_became_of_a_job, "in table jobs that moved, \\x00", NULL},
    {change_a_job_that_was_pushed, "the job is not the one that was pushed", NULL},
    {lease_without_a_lease, "it is leased without a lease", NULL},
    {lose_a_small_leased_job, "in table places in lists, queue hires, leased, job", &jobs.hired},
    {lease_a_small_job_without_a_lease, "in table jobs, queue hires, leased, job", &jobs.hired},
    {lease_a_small_job_without_a_lease, "it is leased without a lease", NULL},
    {take_a_small_job_out_of_its_list, "in table jobs, queue hires, leased, job", &jobs.hired},
    {let_something_else_become_of_a_small_job, "in table jobs that moved, \\x00", NULL},
    {let_something_else_become_of_a_small_job, "a small one, which has no entry here", NULL},
    {move_a_job_with_its_body, "in table jobs that moved, \\x00", NULL},
    {put_odd_entries, "in table queues, z\\xff: what is stored is no entry", NULL},
    {put_odd_entries, "in table places in lists, short: no place in a list", NULL},
    {put_odd_entries, "in table ids of producers, short: what is stored", NULL},
    {put_odd_entries, "in table jobs, short: what is stored is no job", NULL},
};

#endif

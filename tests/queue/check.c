/*
 * What a check of a directory finds of queues whose tables do not agree. A store with jobs in all
 * states is copied entry by entry, one thing in the copy is made wrong, and the check has to say
 * so, on each engine; it has nothing to say of what the code itself wrote.
 */
#include "tests/queue/damages.h"

TestSuite(check, .init = setup, .fini = teardown);

#define ON_EACH_ENGINE(name)                                                                       \
    ParameterizedTestParameters(check, name)                                                       \
    {                                                                                              \
        return cr_make_param_array(const char[8], (void *)engines, ENGINES);                       \
    }                                                                                              \
    ParameterizedTest(const char *engine, check, name)

static void check_damage(const struct damage *damage, const char *engine)
{
    char said[MAX_DAMAGE_KEY];
    copy_live();
    damage->make();
    write_copy(engine);
    check_directory(copied);
    snprintf(said, sizeof said, "%s", damage->said);
    if (damage->job != NULL)
        snprintf(said, sizeof said, "%s %" PRIu64 ": ", damage->said, *damage->job);
    cr_assert(says(said), "'%s' is not said, but (of %zu) '%s'", said, report->damages_in_all,
              report->damages[0].message);
    cr_assert_not(report->starts);
    store_report_free(&report);
}

ON_EACH_ENGINE(tables_that_do_not_agree_are_told_by_table_queue_and_job)
{
    fixture_engine = engine;
    open_all();
    fill_queues();
    close_all();
    check_good(live);
    copy_live();
    write_copy(engine);
    check_good(copied);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++)
        check_damage(&damages[i], engine);
}

/* Pushes unless the producer's id is taken. */
static void push_again(unsigned step)
{
    char dedup[16];
    snprintf(dedup, sizeof dedup, "b%u", step % 3);
    struct push_options options = {.dedup = text(dedup), .priority = step % 2};
    uint64_t id;
    bool duplicate;
    begin();
    ok(queue_push(queues, text("q"), text("again"), &options, &id, &duplicate));
    end();
}

ON_EACH_ENGINE(what_the_code_wrote_is_good_at_any_time)
{
    struct queue_settings settings = defaults;
    settings.dedup_window_ms = 3000;
    fixture_engine = engine;
    open_all();
    fill_queues();
    configure("q", settings);
    turn_end();
    close_all();
    for (unsigned step = 0; step < 12; step++) {
        open_all();
        pop("q");
        push_again(step);
        wait_ms(1700);
        struct job job = take_for("leases", 1000);
        if (job.id != 0 && step % 2 == 0)
            nack(job.id, job.lease);
        if (step % 4 == 0)
            purge("q", JOB_READY);
        turn_end();
        close_all();
        check_good(live);
    }
}

static bool is_no_body(struct slice body)
{
    (void)body;
    return false;
}

static int check_bodies(const struct store_examination *examination, struct store_error *error)
{
    return queues_check_bodies(examination, is_no_body, error);
}

ON_EACH_ENGINE(a_body_that_is_not_taken_for_one_is_told)
{
    struct store_error error = {.message = ""};
    fixture_engine = engine;
    open_all();
    fill_queues();
    close_all();
    cr_assert_eq(store_inspect(live, check_bodies, NULL, NULL, NULL, &report, &error), 0, "%s",
                 error.message);
    cr_assert(says("the job's body is not one"));
}

#include <stdio.h>

#include "tests/bindings/fixture.h"
#include "tests/bindings/script.h"

#include <criterion/criterion.h>

/* What each function of the queues sends, and what it makes of the answers. */

static struct script script;

TestSuite(queues, .init = start, .fini = stop);

static struct cubby_bytes queue(void)
{
    return cubby_text("q");
}

static struct cubby_bytes one(void)
{
    return cubby_data("\x01", 1);
}

static bool same(struct cubby_bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

Test(queues, a_push_carries_its_options_and_tells_duplicates)
{
    struct cubby_pushed pushed;
    struct cubby_push_options all = {
        .delay_ms = 5, .priority = 3, .has_ttl = true, .ttl_ms = 9, .id = cubby_text("me")};
    struct cubby_push_options for_ever = {.has_ttl = true, .ttl_ms = CUBBY_NO_TTL};
    PLAY({"queue.push [\"q\",1]", "[7,false]", {0}},
         {"queue.push [\"q\",1,{\"delay\":5,\"priority\":3,\"ttl\":9,\"id\":\"me\"}]",
          "[7,true]",
          {0}},
         {"queue.push [\"q\",1,{\"ttl\":null}]", "[8,false]", {0}},
         {"queue.push [\"q\",1]", "!queue_full", {0}}, {"queue.push [\"q\",1]", "[8]", {0}});
    cr_assert_eq(cubby_queue_push(cubby, queue(), one(), &pushed, NULL), CUBBY_OK);
    cr_assert_eq(pushed.id, 7);
    cr_assert_not(pushed.duplicate);
    cr_assert_eq(cubby_queue_push(cubby, queue(), one(), &pushed, &all), CUBBY_OK);
    cr_assert(pushed.duplicate);
    cr_assert_eq(cubby_queue_push(cubby, queue(), one(), NULL, &for_ever), CUBBY_OK);
    cr_assert_eq(cubby_queue_push(cubby, queue(), one(), &pushed, NULL), CUBBY_QUEUE_FULL);
    cr_assert_eq(cubby_queue_push(cubby, queue(), one(), &pushed, NULL), CUBBY_PROTOCOL);
    cr_assert_eq(pushed.id, 7, "written by a call that failed");
    cr_assert_eq(cubby_queue_push(cubby, queue(), cubby_data("\x92", 1), NULL, NULL), CUBBY_MISUSE);
    script_end(&script);
}

Test(queues, a_reserve_hands_out_jobs_that_outlive_the_reply)
{
    struct cubby_jobs *jobs, *more;
    const struct cubby_bytes two[] = {cubby_text("a"), cubby_text("b")};
    struct cubby_reserve_options options = {.count = 2, .lease_ms = 40};
    PLAY({"queue.reserve [\"q\"]", "[[5,\"q\",\"body\",99,1,0,1700]]", {0}},
         {"queue.reserve [[\"a\",\"b\"],{\"count\":2,\"lease\":40}]",
          "[[6,\"b\",1,98,2,4,1800],[8,\"b\",2,97,1,4,1900]]",
          {0}},
         {"queue.reserve [\"q\"]", "[]", {0}}, {"queue.reserve [\"q\"]", "[[6,\"b\",1,98]]", {0}},
         {"queue.reserve [\"q\"]", "!busy", {0}});
    struct cubby_bytes name = queue();
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, &jobs, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_reserve(cubby, two, 2, &more, &options), CUBBY_OK);
    cr_assert_eq(jobs->count, 1);
    cr_assert_eq(jobs->jobs[0].id, 5);
    cr_assert(same(jobs->jobs[0].queue, "q"));
    cr_assert(same(jobs->jobs[0].body, "\xa4"
                                       "body"));
    cr_assert_eq(jobs->jobs[0].lease, 99);
    cr_assert_eq(more->count, 2);
    cr_assert_eq(more->jobs[1].deliveries, 1);
    cr_assert_eq(more->jobs[1].priority, 4);
    cr_assert_eq(more->jobs[1].pushed_at_ms, 1900);
    cubby_jobs_free(&more);
    cubby_jobs_free(&jobs);
    cr_assert_null(jobs);
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, &jobs, NULL), CUBBY_OK);
    cr_assert_eq(jobs->count, 0);
    cubby_jobs_free(&jobs);
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, &jobs, NULL), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, &jobs, NULL), CUBBY_BUSY);
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, NULL, NULL), CUBBY_MISUSE);
    script_end(&script);
}

Test(queues, a_pop_has_no_lease)
{
    struct cubby_jobs *jobs;
    struct cubby_bytes name = queue();
    struct cubby_reserve_options options = {.count = 3, .lease_ms = 40};
    PLAY({"queue.pop [\"q\",{\"count\":3}]", "[[5,\"q\",true]]", {0}});
    cr_assert_eq(cubby_queue_pop(cubby, &name, 1, &jobs, &options), CUBBY_OK);
    cr_assert_eq(jobs->count, 1);
    cr_assert_eq(jobs->jobs[0].id, 5);
    cr_assert_eq(jobs->jobs[0].lease, 0);
    cubby_jobs_free(&jobs);
    script_end(&script);
}

Test(queues, a_long_wait_is_renewed_until_a_job_comes)
{
    struct cubby_jobs *jobs;
    struct cubby_bytes name = queue();
    struct cubby_reserve_options for_ever = {.wait_ms = CUBBY_FOREVER};
    PLAY({"queue.reserve [\"q\",{\"wait\":5000}]", "[]", {0}},
         {"queue.reserve [\"q\",{\"wait\":5000}]", "[]", {0}},
         {"queue.reserve [\"q\",{\"wait\":5000}]", "[[5,\"q\",true,9,1,0,1]]", {0}});
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, &jobs, &for_ever), CUBBY_OK);
    cr_assert_eq(jobs->count, 1);
    cubby_jobs_free(&jobs);
    script_end(&script);
}

Test(queues, a_wait_is_longer_than_the_timeout_of_requests_and_then_it_is_noticed)
{
    struct cubby_jobs *jobs;
    struct cubby_bytes name = queue();
    struct cubby_reserve_options options = {.wait_ms = 300, .timeout_ms = 100};
    PLAY({"queue.reserve [\"q\",{\"wait\":300}]", NULL, {0}});
    int64_t begun = peer_now_ms();
    cr_assert_eq(cubby_queue_reserve(cubby, &name, 1, &jobs, &options), CUBBY_TIMEOUT);
    cr_assert_geq(peer_now_ms() - begun, 400);
    script_end(&script);
}

Test(queues, what_is_done_with_a_job_names_it_and_its_lease)
{
    enum cubby_job_state state;
    uint64_t due_at_ms;
    struct cubby_nack_options nack = {.has_delay = true, .error = cubby_text("why")};
    PLAY({"queue.ack [5,9]", "true", {0}}, {"queue.ack [5,9]", "!stale_lease", {0}},
         {"queue.nack [5,9]", "\"delayed\"", {0}},
         {"queue.nack [5,9,{\"delay\":0,\"error\":\"why\"}]", "\"dead\"", {0}},
         {"queue.nack [5,9]", "\"expired\"", {0}}, {"queue.nack [5,9]", "\"lost\"", {0}},
         {"queue.extend [5,9,1000]", "1700", {0}}, {"queue.bury [5,9]", "true", {0}},
         {"queue.bury [5,9,{\"error\":\"\"}]", "!not_found", {0}});
    cr_assert_eq(cubby_queue_ack(cubby, 5, 9, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_ack(cubby, 5, 9, NULL), CUBBY_STALE_LEASE);
    cr_assert_eq(cubby_queue_nack(cubby, 5, 9, &state, NULL), CUBBY_OK);
    cr_assert_eq(state, CUBBY_JOB_DELAYED);
    cr_assert_eq(cubby_queue_nack(cubby, 5, 9, &state, &nack), CUBBY_OK);
    cr_assert_eq(state, CUBBY_JOB_DEAD);
    cr_assert_eq(cubby_queue_nack(cubby, 5, 9, &state, NULL), CUBBY_OK);
    cr_assert_eq(state, CUBBY_JOB_EXPIRED);
    cr_assert_eq(cubby_queue_nack(cubby, 5, 9, &state, NULL), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_queue_extend(cubby, 5, 9, 1000, &due_at_ms, NULL), CUBBY_OK);
    cr_assert_eq(due_at_ms, 1700);
    cr_assert_eq(cubby_queue_bury(cubby, 5, 9, cubby_data(NULL, 0), NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_bury(cubby, 5, 9, cubby_text(""), NULL), CUBBY_NOT_FOUND);
    script_end(&script);
}

Test(queues, kick_delete_purge_and_drop_say_what_they_did)
{
    uint64_t number;
    bool existed;
    PLAY({"queue.kick [\"q\"]", "1", {0}}, {"queue.kick [\"q\",{\"id\":4}]", "0", {0}},
         {"queue.kick [\"q\",{\"count\":9}]", "2", {0}}, {"queue.delete [4]", "true", {0}},
         {"queue.purge [\"q\"]", "12", {0}}, {"queue.purge [\"q\",{\"state\":\"dead\"}]", "3", {0}},
         {"queue.drop [\"q\"]", "false", {0}}, {"queue.pause [\"q\",null]", "true", {0}},
         {"queue.pause [\"q\",70]", "true", {0}}, {"queue.resume [\"q\"]", "!not_found", {0}},
         {"queue.cancel [3]", "!not_found", {0}});
    cr_assert_eq(cubby_queue_kick(cubby, queue(), &number, NULL), CUBBY_OK);
    cr_assert_eq(number, 1);
    cubby_queue_kick(cubby, queue(), &number, &(struct cubby_kick_options){.id = 4});
    cr_assert_eq(number, 0);
    cubby_queue_kick(cubby, queue(), &number, &(struct cubby_kick_options){.count = 9});
    cr_assert_eq(number, 2);
    cr_assert_eq(cubby_queue_delete(cubby, 4, &existed, NULL), CUBBY_OK);
    cr_assert(existed);
    cr_assert_eq(cubby_queue_purge(cubby, queue(), CUBBY_JOB_ANY, &number, NULL), CUBBY_OK);
    cr_assert_eq(number, 12);
    cubby_queue_purge(cubby, queue(), CUBBY_JOB_DEAD, &number, NULL);
    cr_assert_eq(number, 3);
    cr_assert_eq(cubby_queue_drop(cubby, queue(), &existed, NULL), CUBBY_OK);
    cr_assert_not(existed);
    cr_assert_eq(cubby_queue_pause(cubby, queue(), CUBBY_FOREVER, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_pause(cubby, queue(), 70, NULL), CUBBY_OK);
    cr_assert_eq(cubby_queue_resume(cubby, queue(), NULL), CUBBY_NOT_FOUND);
    cr_assert_eq(cubby_queue_cancel(cubby, 3, NULL), CUBBY_NOT_FOUND);
    script_end(&script);
}

#define ROW                                                                                        \
    "{\"id\":5,\"queue\":\"q\",\"body\":[1],\"state\":\"dead\",\"priority\":2,\"deliveries\":3,"   \
    "\"pushed_at\":10,\"due_at\":null,\"expires_at\":20,\"error\":\"why\",\"at\":\"place\"}"

Test(queues, rows_of_peek_are_read_and_the_next_page_is_asked_for_behind_the_last)
{
    struct cubby_job_page *page;
    struct cubby_peek_options options = {.state = CUBBY_JOB_DEAD, .limit = 1};
    PLAY({"queue.peek [\"q\"]", "[]", {0}},
         {"queue.peek [\"q\",{\"state\":\"dead\",\"limit\":1}]", "[" ROW "]", {0}},
         {"queue.peek [\"q\",{\"state\":\"dead\",\"after\":\"place\",\"limit\":1}]", "[{}]", {0}},
         {"queue.job [5]", ROW, {0}}, {"queue.job [6]", "null", {0}});
    cr_assert_eq(cubby_queue_peek(cubby, queue(), &page, NULL), CUBBY_OK);
    cr_assert_eq(page->count, 0);
    cubby_job_page_free(&page);
    cr_assert_eq(cubby_queue_peek(cubby, queue(), &page, &options), CUBBY_OK);
    cr_assert_eq(page->count, 1);
    const struct cubby_job_row *row = &page->rows[0];
    cr_assert(row->id == 5 && same(row->queue, "q") && same(row->body, "\x91\x01"));
    cr_assert(row->state == CUBBY_JOB_DEAD && row->priority == 2 && row->deliveries == 3);
    cr_assert(row->pushed_at_ms == 10 && row->due_at_ms == 0 && row->expires_at_ms == 20);
    cr_assert(same(row->error, "why"));
    options.after = row->at;
    struct cubby_job_page *next;
    cr_assert_eq(cubby_queue_peek(cubby, queue(), &next, &options), CUBBY_PROTOCOL);
    cubby_job_page_free(&page);
    cr_assert_eq(cubby_queue_job(cubby, 5, &page, NULL), CUBBY_OK);
    cr_assert_eq(page->count, 1);
    cubby_job_page_free(&page);
    cr_assert_eq(cubby_queue_job(cubby, 6, &page, NULL), CUBBY_OK);
    cr_assert_eq(page->count, 0);
    cubby_job_page_free(&page);
    options.after = cubby_data("\x92", 1);
    cr_assert_eq(cubby_queue_peek(cubby, queue(), &next, &options), CUBBY_MISUSE);
    script_end(&script);
}

Test(queues, stats_settings_and_names_are_read)
{
    struct cubby_queue_counts stats;
    struct cubby_queue_settings settings;
    struct cubby_names *names;
    struct cubby_list_options list = {
        .prefix = cubby_text("a"), .after = cubby_text("ab"), .limit = 2};
    struct cubby_configure_options set = {
        .set = CUBBY_SET_LEASE | CUBBY_SET_TTL | CUBBY_SET_DEDUP_WINDOW,
        .to = {.lease_ms = 1, .ttl_ms = CUBBY_NO_TTL, .dedup_window_ms = 0}};
    PLAY({"queue.stats [\"q\"]",
          "{\"ready\":1,\"leased\":2,\"delayed\":3,\"dead\":4,\"waiters\":5,\"pushed\":6,"
          "\"acked\":7,\"expired\":8,\"oldest_age\":9,\"paused\":true,\"more\":10}",
          {0}},
         {"queue.stats [\"q\"]", "!not_found", {0}},
         {"queue.configure [\"q\",{\"lease\":1,\"dedup_window\":0,\"ttl\":null}]",
          "{\"lease\":1,\"max_deliveries\":2,\"max_length\":3,\"retry_delay\":4,\"ttl\":null,"
          "\"dedup_window\":0}",
          {0}},
         {"queue.configure [\"q\"]", "{}", {0}},
         {"queue.list [{\"prefix\":\"a\",\"after\":\"ab\",\"limit\":2}]", "[\"ac\",\"ad\"]", {0}});
    cr_assert_eq(cubby_queue_stats(cubby, queue(), &stats, NULL), CUBBY_OK);
    cr_assert(stats.ready == 1 && stats.leased == 2 && stats.delayed == 3 && stats.dead == 4);
    cr_assert(stats.waiters == 5 && stats.pushed == 6 && stats.acked == 7 && stats.expired == 8);
    cr_assert(stats.has_oldest && stats.oldest_age_ms == 9 && stats.paused);
    struct cubby_bytes more;
    cr_assert(cubby_map_find(stats.map, "more", &more));
    cr_assert_eq(cubby_queue_stats(cubby, queue(), &stats, NULL), CUBBY_NOT_FOUND);
    cr_assert_eq(cubby_queue_configure(cubby, queue(), &settings, &set), CUBBY_OK);
    cr_assert(settings.lease_ms == 1 && settings.max_deliveries == 2 && settings.max_length == 3);
    cr_assert(settings.retry_delay_ms == 4 && settings.ttl_ms == CUBBY_NO_TTL);
    cr_assert_eq(cubby_queue_configure(cubby, queue(), &settings, NULL), CUBBY_PROTOCOL);
    cr_assert_eq(cubby_queue_list(cubby, &names, &list), CUBBY_OK);
    cr_assert_eq(names->count, 2);
    cr_assert(same(names->names[1], "ad"));
    cubby_names_free(&names);
    script_end(&script);
}

Test(queues, a_batch_takes_every_method_of_a_queue_together_with_keys)
{
    struct cubby_batch *batch = cubby_batch_new();
    struct cubby_bytes name = queue();
    struct cubby_reserve_options waits = {.wait_ms = 1000, .count = 2};
    cubby_batch_queue_ack(batch, 5, 9);
    cubby_batch_put(batch, cubby_text("k"), one(), NULL);
    size_t push = cubby_batch_queue_push(batch, name, one(), NULL);
    size_t reserve = cubby_batch_queue_reserve(batch, &name, 1, &waits);
    cubby_batch_queue_pop(batch, &name, 1, NULL);
    cubby_batch_queue_nack(batch, 5, 9, NULL);
    cubby_batch_queue_extend(batch, 5, 9, 10);
    cubby_batch_queue_bury(batch, 5, 9, cubby_data(NULL, 0));
    cubby_batch_queue_kick(batch, name, NULL);
    cubby_batch_queue_delete(batch, 5);
    cubby_batch_queue_job(batch, 5);
    cubby_batch_queue_peek(batch, name, NULL);
    cubby_batch_queue_configure(batch, name, NULL);
    cubby_batch_queue_pause(batch, name, 1);
    cubby_batch_queue_resume(batch, name);
    cubby_batch_queue_purge(batch, name, CUBBY_JOB_READY);
    cubby_batch_queue_drop(batch, name);
    PLAY({"batch [[[\"queue.ack\",[5,9]],[\"put\",[\"k\",1]],[\"queue.push\",[\"q\",1]],"
          "[\"queue.reserve\",[\"q\",{\"count\":2}]],[\"queue.pop\",[\"q\"]],"
          "[\"queue.nack\",[5,9]],[\"queue.extend\",[5,9,10]],[\"queue.bury\",[5,9]],"
          "[\"queue.kick\",[\"q\"]],[\"queue.delete\",[5]],[\"queue.job\",[5]],"
          "[\"queue.peek\",[\"q\"]],[\"queue.configure\",[\"q\"]],[\"queue.pause\",[\"q\",1]],"
          "[\"queue.resume\",[\"q\"]],[\"queue.purge\",[\"q\",{\"state\":\"ready\"}]],"
          "[\"queue.drop\",[\"q\"]]]]",
          "{\"seq\":3,\"results\":[true,3,[8,false],[[8,\"q\",1,4,1,0,7]]]}",
          {0}});
    struct cubby_pushed pushed;
    struct cubby_jobs *jobs;
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_OK);
    cr_assert_eq(cubby_read_pushed(cubby_batch_result(batch, push), &pushed), CUBBY_OK);
    cr_assert_eq(pushed.id, 8);
    cr_assert_eq(cubby_read_jobs(cubby_batch_result(batch, reserve), &jobs), CUBBY_OK);
    cr_assert_eq(jobs->jobs[0].lease, 4);
    cubby_jobs_free(&jobs);
    cubby_batch_clear(batch);
    cubby_batch_queue_push(batch, name, cubby_data(NULL, 0), NULL);
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_MISUSE);
    cubby_batch_free(&batch);
    script_end(&script);
}

/* ---- Many at once --------------------------------------------------------------------------- */

struct outcome {
    unsigned calls;
    enum cubby_status status;
};

static void note(void *context, const struct cubby_reply *reply)
{
    struct outcome *outcome = context;
    outcome->calls++;
    outcome->status = reply->status;
}

static void expect_text(const char *expected)
{
    char text[SCRIPT_TEXT_SIZE];
    peer_take(&peer, cubby);
    script_text(&peer, text);
    cr_assert_str_eq(text, expected);
}

Test(queues, a_wait_is_one_request_that_can_be_named)
{
    struct outcome outcome = {0};
    struct cubby_bytes name = queue();
    struct cubby_reserve_options for_ever = {.wait_ms = CUBBY_FOREVER, .lease_ms = 7};
    uint64_t request = 0;
    cr_assert_eq(cubby_send_queue_reserve(cubby, &name, 1, note, &outcome, &request, &for_ever),
                 CUBBY_OK);
    expect_text("queue.reserve [\"q\",{\"wait\":null,\"lease\":7}]");
    cr_assert_eq(peer.request.msgid, request);
    cr_assert_eq(cubby_wait_ms(cubby), -1, "a wait for ever has a timeout");
    peer_answer(&peer, request, "\x90", 1);
    peer_wait_for(cubby, &outcome.calls, 1);
    cr_assert_eq(outcome.status, CUBBY_OK);
}

Test(queues, requests_of_every_kind_may_be_outstanding)
{
    struct outcome outcome = {0};
    struct cubby_bytes name = queue();
    struct cubby_reserve_options options = {.wait_ms = 50, .timeout_ms = 50};
    cubby_send_queue_push(cubby, name, one(), note, &outcome, NULL);
    expect_text("queue.push [\"q\",1]");
    cubby_send_queue_ack(cubby, 1, 2, note, &outcome, NULL);
    expect_text("queue.ack [1,2]");
    cubby_send_queue_nack(cubby, 1, 2, note, &outcome, NULL);
    expect_text("queue.nack [1,2]");
    cubby_send_queue_extend(cubby, 1, 2, 3, note, &outcome, NULL);
    expect_text("queue.extend [1,2,3]");
    cubby_send_queue_pop(cubby, &name, 1, note, &outcome, NULL, &options);
    expect_text("queue.pop [\"q\",{\"wait\":50}]");
    cr_assert_eq(cubby_outstanding(cubby), 5);
    cr_assert_eq(cubby_send_queue_push(cubby, name, cubby_data("", 0), note, &outcome, NULL),
                 CUBBY_MISUSE);
    peer_wait_for(cubby, &outcome.calls, 1);
    cr_assert_eq(outcome.status, CUBBY_TIMEOUT);
}

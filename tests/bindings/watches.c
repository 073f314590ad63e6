#include <stdio.h>

#include "tests/bindings/fixture.h"
#include "tests/bindings/script.h"

#include <criterion/criterion.h>

/* What a watch sends, and what it makes of the answers. */

static struct script script;
static struct cubby_watch *watch;
static struct cubby_watch_page *page;

TestSuite(watches, .init = start, .fini = stop);

#define OPENED(seq)          "{\"watch\":7,\"epoch\":\"a\",\"seq\":" #seq "}"
#define PAGE(from, to, rows) "[2,\"watch\",[7," #from "," #to ",[" rows "]]]"
#define PUT(seq)             "[" #seq ",0,1,\"put\",\"k\",1,null]"
#define END(code)            "[2,\"watch.end\",[7,[\"" code "\",\"as the script says\",{}]]]"
#define FROM(seq)            "watch [{\"prefix\":\"k\",\"since\":" #seq ",\"credit\":32,\"epoch\":\"a\"}]"
#define FROM_NOW             "watch [{\"prefix\":\"k\",\"credit\":32}]"

static void open_watch(const struct cubby_watch_options *options)
{
    cr_assert_eq(cubby_watch_open(cubby, cubby_text("k"), &watch, options), CUBBY_OK);
}

static void expect_page(uint64_t from, uint64_t to, size_t count)
{
    cr_assert_eq(cubby_watch_next(watch, &page, PEER_WAIT_MS), CUBBY_OK, "%s",
                 cubby_last_error(cubby)->message);
    cr_assert_eq(page->from, from);
    cr_assert_eq(page->to, to);
    cr_assert_eq(page->count, count);
    cr_assert_eq(page->changes[count - 1].kind, CUBBY_PUT);
    cubby_watch_page_free(&page);
}

/* Sends what it has to say, and ends. */
static void finish(void)
{
    while (cubby_poll(cubby, 0) > 0)
        ;
    script_end(&script);
}

Test(watches, pages_are_handed_out_in_order_and_those_without_changes_only_move_on)
{
    PLAY({FROM_NOW,
          OPENED(3),
          {PAGE(3, 5, PUT(4) "," PUT(5)), PAGE(5, 8, ""), PAGE(8, 9, PUT(9)), PAGE(9, 12, "")}});
    open_watch(NULL);
    expect_page(3, 5, 2);
    expect_page(8, 9, 1);
    cr_assert_eq(cubby_watch_next(watch, &page, 100), CUBBY_TIMEOUT);
    struct cubby_position position = cubby_watch_position(watch);
    cr_assert_eq(position.seq, 12);
    cr_assert(position.live);
    cr_assert_eq(position.epoch.size, 1);
    cr_assert_eq(cubby_outstanding(cubby), 0);
    script_end(&script);
}

Test(watches, a_position_is_behind_what_was_handed_out)
{
    PLAY({FROM_NOW, OPENED(3), {PAGE(3, 5, PUT(5)), PAGE(5, 9, PUT(9))}});
    open_watch(NULL);
    expect_page(3, 5, 1);
    script_end(&script);
    while (cubby_poll(cubby, 50) > 0)
        ;
    cr_assert_eq(cubby_watch_position(watch).seq, 5);
    cr_assert_not(cubby_watch_position(watch).live);
    expect_page(5, 9, 1);
    cr_assert_eq(cubby_watch_position(watch).seq, 9);
}

Test(watches, a_place_from_another_time_is_named)
{
    const struct cubby_watch_options options = {
        .has_since = true, .since = 2, .epoch = cubby_text("a")};
    PLAY({FROM(2), OPENED(3), {PAGE(2, 3, PUT(3))}});
    open_watch(&options);
    expect_page(2, 3, 1);
    script_end(&script);
}

Test(watches, what_does_not_begin_where_the_last_ended_is_asked_for_again)
{
    PLAY({FROM_NOW, OPENED(3), {PAGE(3, 5, PUT(5)), PAGE(6, 7, PUT(7))}},
         {"watch.cancel [7]", NULL, {0}}, {FROM(5), OPENED(7), {PAGE(5, 7, PUT(6) "," PUT(7))}});
    open_watch(NULL);
    expect_page(3, 5, 1);
    expect_page(5, 7, 2);
    script_end(&script);
}

Test(watches, what_is_no_change_is_asked_for_again)
{
    PLAY({FROM_NOW, OPENED(3), {PAGE(3, 5, "[5,0,1,\"put\",\"k\"]")}},
         {"watch.cancel [7]", NULL, {0}}, {FROM(3), OPENED(5), {PAGE(3, 5, PUT(5))}});
    open_watch(NULL);
    expect_page(3, 5, 1);
    script_end(&script);
}

Test(watches, a_daemon_that_stops_is_asked_again_from_the_same_place)
{
    PLAY({FROM_NOW, OPENED(3), {PAGE(3, 5, PUT(5)), END("unavailable")}},
         {FROM(5), "!unavailable", {0}}, {FROM(5), OPENED(6), {PAGE(5, 6, PUT(6))}});
    open_watch(NULL);
    expect_page(3, 5, 1);
    cr_assert_eq(cubby_watch_next(watch, &page, 100), CUBBY_UNAVAILABLE);
    expect_page(5, 6, 1);
    script_end(&script);
}

Test(watches, history_that_is_gone_ends_it_for_ever)
{
    PLAY({FROM_NOW, OPENED(3), {PAGE(3, 5, PUT(5)), END("compacted")}});
    open_watch(NULL);
    expect_page(3, 5, 1);
    cr_assert_eq(cubby_watch_next(watch, &page, PEER_WAIT_MS), CUBBY_COMPACTED);
    cr_assert_eq(cubby_watch_next(watch, &page, 0), CUBBY_COMPACTED);
    cubby_watch_cancel(&watch);
    cr_assert_null(watch);
    finish();
}

Test(watches, a_refusal_that_may_pass_is_told_where_no_page_comes_in_time)
{
    PLAY({FROM_NOW, "!busy", {0}}, {FROM_NOW, OPENED(3), {PAGE(3, 4, PUT(4))}});
    open_watch(NULL);
    cr_assert_eq(cubby_watch_next(watch, &page, 300), CUBBY_BUSY);
    expect_page(3, 4, 1);
    script_end(&script);
}

Test(watches, a_refusal_that_stays_ends_it)
{
    PLAY({FROM_NOW, "!forbidden", {0}});
    open_watch(NULL);
    cr_assert_eq(cubby_watch_next(watch, &page, PEER_WAIT_MS), CUBBY_FORBIDDEN);
    script_end(&script);
}

Test(watches, silence_is_probed_with_credit_and_a_watch_that_was_lost_is_opened_again)
{
    PLAY({FROM_NOW, OPENED(3), {PAGE(3, 5, PUT(5))}}, {"watch.credit [7,1]", "true", {0}},
         {"watch.credit [7,1]", "!not_found", {0}}, {FROM(5), OPENED(6), {PAGE(5, 6, PUT(6))}});
    open_watch(NULL);
    expect_page(3, 5, 1);
    cr_assert_eq(cubby_watch_next(watch, &page, CUBBY_FOREVER), CUBBY_OK);
    cr_assert_eq(page->from, 5);
    cubby_watch_page_free(&page);
    script_end(&script);
}

Test(watches, credit_is_given_back_when_half_of_it_is_owed)
{
    PLAY({FROM_NOW,
          OPENED(0),
          {PAGE(0, 1, PUT(1)), PAGE(1, 2, PUT(2)), PAGE(2, 3, PUT(3)), PAGE(3, 4, PUT(4)),
           PAGE(4, 5, PUT(5)), PAGE(5, 6, PUT(6)), PAGE(6, 7, PUT(7)), PAGE(7, 8, PUT(8)),
           PAGE(8, 9, PUT(9)), PAGE(9, 10, PUT(10)), PAGE(10, 11, PUT(11)), PAGE(11, 12, PUT(12)),
           PAGE(12, 13, PUT(13)), PAGE(13, 14, PUT(14)), PAGE(14, 15, PUT(15)),
           PAGE(15, 16, PUT(16))}},
         {"watch.credit [7,16]", "true", {0}});
    open_watch(NULL);
    for (uint64_t seq = 0; seq < 16; seq++)
        expect_page(seq, seq + 1, 1);
    script_end(&script);
}

Test(watches, credit_may_be_the_programs_business)
{
    const struct cubby_watch_options options = {.credit = 2};
    PLAY({"watch [{\"prefix\":\"k\",\"credit\":2}]", OPENED(3), {PAGE(3, 5, PUT(5))}},
         {"watch.credit [7,4]", "true", {0}});
    open_watch(&options);
    expect_page(3, 5, 1);
    cr_assert_eq(cubby_watch_credit(watch, 0), CUBBY_MISUSE);
    cr_assert_eq(cubby_watch_credit(watch, 4), CUBBY_OK);
    finish();
}

Test(watches, one_that_is_cancelled_while_it_opens_is_cancelled_at_the_daemon_too)
{
    static const struct script_step steps[] = {{FROM_NOW, OPENED(3), {0}},
                                               {"watch.cancel [7]", NULL, {0}}};
    open_watch(NULL);
    cubby_poll(cubby, 0);
    cubby_watch_cancel(&watch);
    script_start(&script, &peer, steps, 2);
    while (cubby_poll(cubby, 200) > 0)
        ;
    script_end(&script);
}

Test(watches, notifications_of_a_watch_that_nobody_has_cancel_it)
{
    struct cubby_bytes result;
    PLAY({"ping []", "true", {PAGE(0, 1, PUT(1))}}, {"watch.cancel [7]", NULL, {0}});
    cr_assert_eq(cubby_call(cubby, "ping", cubby_data(NULL, 0), &result, NULL), CUBBY_OK);
    while (cubby_poll(cubby, 200) > 0)
        ;
    script_end(&script);
}

#include <stdio.h>
#include <stdlib.h>

#include "tests/bindings/cubbyd.h"
#include "tests/bindings/peer.h"

#include <criterion/criterion.h>

/* Watches and mirrors against the real daemon. */

enum { KEYS = 40, ROUNDS = 400 };

static struct cubbyd cubbyd;
static struct cubby *cubby;
static struct cubby *writer;

static void start(bool keeps)
{
    cubbyd_start(&cubbyd, keeps);
    cubby = cubbyd_client(&cubbyd);
    writer = cubbyd_client(&cubbyd);
}

static void start_without_data(void)
{
    start(false);
}

static void start_with_data(void)
{
    start(true);
}

static void stop(void)
{
    cubby_close(&cubby);
    cubby_close(&writer);
    cubbyd_stop(&cubbyd);
    cubbyd_remove(&cubbyd);
}

TestSuite(volatile_changes, .init = start_without_data, .fini = stop);
TestSuite(durable_changes, .init = start_with_data, .fini = stop);

static struct cubby_bytes small(uint8_t *room, unsigned number)
{
    *room = (uint8_t)(number % 128);
    return cubby_data(room, 1);
}

static struct cubby_bytes key_of(char *room, unsigned number)
{
    int size = snprintf(room, 16, "%s%02u", number % 4 == 0 ? "other" : "k", number);
    return cubby_data(room, (size_t)size);
}

static void put(const char *key, unsigned number)
{
    uint8_t room;
    cr_assert_eq(cubby_put(writer, cubby_text(key), small(&room, number), NULL, NULL), CUBBY_OK);
}

static uint64_t random_below(uint64_t *random, uint64_t bound)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (*random >> 33) % bound;
}

/* A few puts and deletes in one transaction. */
static void change_at_random(uint64_t *random)
{
    struct cubby_batch *batch = cubby_batch_new();
    char key[16];
    uint8_t room;
    for (uint64_t count = 1 + random_below(random, 5); count > 0; count--) {
        struct cubby_bytes bytes = key_of(key, (unsigned)random_below(random, KEYS));
        if (random_below(random, 3) == 0)
            cubby_batch_delete(batch, bytes, NULL);
        else
            cubby_batch_put(batch, bytes, small(&room, (unsigned)random_below(random, 128)), NULL);
    }
    cr_assert_eq(cubby_batch_run(writer, batch, NULL), CUBBY_OK);
    cubby_batch_free(&batch);
}

/* Lets the mirror work until it is right as of the newest seq. */
static void catch_up(const struct cubby_mirror *mirror)
{
    struct cubby_server server;
    int64_t until = peer_now_ms() + CUBBYD_TIMEOUT_MS;
    cr_assert_eq(cubby_hello(writer, cubby_data(NULL, 0), &server, NULL), CUBBY_OK);
    while (!cubby_mirror_position(mirror).live || cubby_mirror_position(mirror).seq < server.seq) {
        cr_assert_lt(peer_now_ms(), until, "the mirror does not catch up");
        cubby_poll(cubby, 50);
    }
}

static bool same(struct cubby_bytes a, struct cubby_bytes b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* The copy is what a scan says, entry by entry. */
static void expect_same(const struct cubby_mirror *mirror, const char *prefix)
{
    const struct cubby_range range = {.prefix = cubby_text(prefix)};
    struct cubby_entry entry = {.key = {0}};
    struct cubby_page *page;
    cr_assert_eq(cubby_scan(writer, &range, &page, NULL), CUBBY_OK);
    cr_assert_eq(cubby_mirror_count(mirror), page->count);
    for (size_t i = 0; i < page->count; i++) {
        cr_assert(cubby_mirror_next(mirror, entry.key, &entry));
        cr_assert(same(entry.key, page->entries[i].key));
        cr_assert(same(entry.value, page->entries[i].value));
        cr_assert_eq(entry.version, page->entries[i].version);
    }
    cubby_page_free(&page);
}

static struct cubby_mirror *open_mirror(const char *prefix)
{
    struct cubby_mirror *mirror;
    cr_assert_eq(cubby_mirror_open(cubby, cubby_text(prefix), NULL, NULL, &mirror, NULL), CUBBY_OK);
    return mirror;
}

Test(volatile_changes, a_mirror_stays_right_under_random_changes)
{
    uint64_t random = 7;
    for (int i = 0; i < 30; i++)
        change_at_random(&random);
    struct cubby_mirror *mirror = open_mirror("k");
    struct cubby_mirror *all = open_mirror("");
    for (int i = 0; i < ROUNDS; i++) {
        change_at_random(&random);
        cubby_poll(cubby, 0);
        if (i % 50 == 0) {
            catch_up(mirror);
            expect_same(mirror, "k");
        }
    }
    catch_up(mirror);
    expect_same(mirror, "k");
    catch_up(all);
    expect_same(all, "");
    cubby_mirror_close(&all);
}

Test(volatile_changes, a_mirror_starts_afresh_with_another_epoch)
{
    put("k1", 1);
    put("k2", 2);
    struct cubby_mirror *mirror = open_mirror("k");
    catch_up(mirror);
    expect_same(mirror, "k");
    cubbyd_stop(&cubbyd);
    cubbyd_restart(&cubbyd);
    put("k2", 3);
    put("k3", 3);
    struct cubby_entry entry;
    int64_t until = peer_now_ms() + CUBBYD_TIMEOUT_MS;
    while (cubby_mirror_get(mirror, cubby_text("k1"), &entry)) {
        cr_assert_lt(peer_now_ms(), until, "the old key does not go");
        cubby_poll(cubby, 50);
    }
    catch_up(mirror);
    expect_same(mirror, "k");
}

Test(durable_changes, a_mirror_goes_on_over_a_restart)
{
    uint64_t random = 11;
    for (int i = 0; i < 30; i++)
        change_at_random(&random);
    struct cubby_mirror *mirror = open_mirror("k");
    catch_up(mirror);
    for (int restart = 0; restart < 3; restart++) {
        cubbyd_stop(&cubbyd);
        cubbyd_restart(&cubbyd);
        for (int i = 0; i < 30; i++)
            change_at_random(&random);
        catch_up(mirror);
        expect_same(mirror, "k");
    }
}

/* Takes pages until the newest seq, and checks that none is missing and none comes twice. */
static unsigned take_pages(struct cubby_watch *watch, uint64_t *seq, uint64_t newest)
{
    struct cubby_watch_page *page;
    unsigned changes = 0;
    while (*seq < newest) {
        cr_assert_eq(cubby_watch_next(watch, &page, CUBBYD_TIMEOUT_MS), CUBBY_OK, "%s",
                     cubby_last_error(cubby)->message);
        for (size_t i = 0; i < page->count; i++) {
            cr_assert_gt(page->changes[i].seq, *seq);
            cr_assert_leq(page->changes[i].seq, page->to);
        }
        changes += (unsigned)page->count;
        *seq = page->to;
        cubby_watch_page_free(&page);
    }
    return changes;
}

static uint64_t newest_seq(void)
{
    struct cubby_server server;
    cr_assert_eq(cubby_hello(writer, cubby_data(NULL, 0), &server, NULL), CUBBY_OK);
    return server.seq;
}

Test(durable_changes, a_watch_brings_every_change_once_over_a_restart)
{
    const struct cubby_watch_options options = {.has_since = true};
    struct cubby_watch *watch;
    uint64_t seq = 0;
    unsigned changes = 0;
    for (unsigned i = 0; i < 10; i++)
        put("k", i);
    cr_assert_eq(cubby_watch_open(cubby, cubby_text(""), &watch, &options), CUBBY_OK);
    changes += take_pages(watch, &seq, newest_seq());
    cubbyd_stop(&cubbyd);
    cubbyd_restart(&cubbyd);
    for (unsigned i = 0; i < 10; i++)
        put("k", i);
    changes += take_pages(watch, &seq, newest_seq());
    cr_assert_eq(changes, 20);
    cr_assert_eq(cubby_watch_position(watch).seq, 20);
    cubby_watch_cancel(&watch);
}

/* More pages than the window has, taken late. */
Test(volatile_changes, a_watch_that_is_not_read_loses_nothing)
{
    struct cubby_watch *watch;
    uint64_t seq = 0;
    cr_assert_eq(cubby_watch_open(cubby, cubby_text("k"), &watch, NULL), CUBBY_OK);
    while (!cubby_watch_position(watch).live)
        cubby_poll(cubby, 50);
    for (unsigned i = 0; i < 500; i++) {
        put("k", i);
        if (i % 10 == 0)
            cubby_poll(cubby, 0);
    }
    cr_assert_eq(take_pages(watch, &seq, 500), 500);
}

Test(volatile_changes, a_watch_with_another_daemons_place_ends)
{
    const struct cubby_watch_options past = {.has_since = true, .since = 99};
    const struct cubby_watch_options other = {
        .has_since = true, .since = 0, .epoch = cubby_text("other")};
    struct cubby_watch *watch;
    struct cubby_watch_page *page;
    cr_assert_eq(cubby_watch_open(cubby, cubby_text(""), &watch, &past), CUBBY_OK);
    cr_assert_eq(cubby_watch_next(watch, &page, CUBBYD_TIMEOUT_MS), CUBBY_COMPACTED);
    cubby_watch_cancel(&watch);
    cr_assert_eq(cubby_watch_open(cubby, cubby_text(""), &watch, &other), CUBBY_OK);
    cr_assert_eq(cubby_watch_next(watch, &page, CUBBYD_TIMEOUT_MS), CUBBY_COMPACTED);
}

Test(volatile_changes, credit_bounds_what_the_daemon_sends)
{
    const struct cubby_watch_options options = {.credit = 1};
    struct cubby_watch *watch;
    struct cubby_watch_page *page;
    uint64_t seq = 0;
    cr_assert_eq(cubby_watch_open(cubby, cubby_text("k"), &watch, &options), CUBBY_OK);
    while (!cubby_watch_position(watch).live)
        cubby_poll(cubby, 50);
    put("k", 1);
    cr_assert_eq(cubby_watch_next(watch, &page, CUBBYD_TIMEOUT_MS), CUBBY_OK);
    seq = page->to;
    cubby_watch_page_free(&page);
    put("k", 2);
    cr_assert_eq(cubby_watch_next(watch, &page, 300), CUBBY_TIMEOUT);
    cr_assert_eq(cubby_watch_credit(watch, 5), CUBBY_OK);
    cr_assert_eq(take_pages(watch, &seq, 2), 1);
}

/* Deferred requests: who waits for how long, in which order, and that nothing is lost. */
#include "daemon/deferred.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "requests.h"

enum { START_US = 5000000, STEP_US = 5000, TOOK_US = 10000, OPEN_US = START_US + 9 * TOOK_US };

static struct deferred *deferred;
static struct router_message *offered; /* all so far */
static uint64_t now_us;

static void open_deferred(void)
{
    deferred = deferred_new();
    cr_assert_not_null(deferred);
    now_us = START_US;
}

static void close_deferred(void)
{
    deferred_free(&deferred);
    while (offered != NULL) {
        struct router_message *next = offered->next;
        free(offered);
        offered = next;
    }
}

TestSuite(deferred, .init = open_deferred, .fini = close_deferred);

/* A message without its parts, which only the router looks at. */
static struct router_message *new_message(const char *name, struct slice bytes)
{
    size_t id_size = strlen(name);
    struct router_message *message = malloc(sizeof *message + id_size + bytes.size);
    cr_assert_not_null(message);
    uint8_t *at = (uint8_t *)(message + 1);
    memcpy(at, name, id_size);
    memcpy(at + id_size, bytes.data, bytes.size);
    *message = (struct router_message){
        .id = slice_of(at, id_size), .bytes = slice_of(at + id_size, bytes.size), .next = offered};
    return offered = message;
}

static bool offer_bytes(const char *name, struct slice bytes, bool well_framed)
{
    struct router_message *message = new_message(name, bytes);
    message->well_framed = well_framed;
    return deferred_offer(deferred, message, now_us);
}

/* Whether the peer's request, of that method and msgid, waits. */
static bool offer(const char *peer, unsigned msgid, const char *method, const char *params)
{
    struct buffer bytes = {0};
    char text[256];
    snprintf(text, sizeof text, "[0,%u,\"%s\",%s]", msgid, method, params);
    pack_text(&bytes, text);
    bool waits = offer_bytes(peer, buffer_slice(&bytes, 0), true);
    buffer_free(&bytes);
    return waits;
}

static bool offer_batch(const char *peer, unsigned msgid)
{
    return offer(peer, msgid, "batch", "[[]]");
}

static bool offer_ping(const char *peer, unsigned msgid)
{
    return offer(peer, msgid, "ping", "[]");
}

/* "PEER MSGID" of what is taken, or "" where nothing is due. */
static const char *take(bool may_be_long)
{
    static char text[64];
    struct wire_request request;
    struct wire_error error;
    const struct router_message *message = deferred_take(deferred, may_be_long, now_us);
    text[0] = '\0';
    if (message != NULL) {
        cr_assert(message->well_framed);
        cr_assert_eq(wire_decode_request(message->bytes, &request, &error), WIRE_OK);
        snprintf(text, sizeof text, "%.*s %u", (int)message->id.size,
                 (const char *)message->id.data, (unsigned)request.msgid);
    }
    return text;
}

static void charge(const char *peer, uint64_t took_us)
{
    deferred_charge(deferred, slice_of_text(peer), took_us, now_us);
}

/* Time passes while another client is active. */
static void pass_busily(uint64_t until_us)
{
    for (; now_us < until_us; now_us += STEP_US)
        cr_assert(!offer_ping("other", 1));
    now_us = until_us;
}

Test(deferred, nobody_waits_before_a_request_took_long)
{
    cr_assert(!offer_batch("heavy", 1));
    charge("heavy", DEFERRED_HEAVY_US - 1);
    cr_assert(!offer_batch("heavy", 2));
    cr_assert_eq(deferred_due_us(deferred), UINT64_MAX);
    cr_assert_str_eq(take(true), "");
}

Test(deferred, heavy_work_gets_a_tenth_of_the_time_while_others_are_active)
{
    charge("heavy", TOOK_US);
    cr_assert(offer_batch("heavy", 1));
    pass_busily(OPEN_US - 1);
    cr_assert_str_eq(take(true), "");
    cr_assert_eq(deferred_due_us(deferred), OPEN_US);
    now_us = OPEN_US;
    cr_assert_str_eq(take(false), "");
    cr_assert_str_eq(take(true), "heavy 1");
    cr_assert_eq(deferred_due_us(deferred), UINT64_MAX);
}

Test(deferred, what_takes_no_time_passes_unless_something_is_before_it)
{
    charge("heavy", TOOK_US);
    cr_assert(!offer_ping("heavy", 1));
    cr_assert(!offer("heavy", 2, "put", "[\"key\",1]"));
    cr_assert(offer("heavy", 3, "scan", "[]"));
    cr_assert(offer_ping("heavy", 4));
    cr_assert(!offer_ping("other", 5));
}

Test(deferred, a_peers_requests_keep_their_order_and_only_long_ones_give_way)
{
    charge("heavy", TOOK_US);
    cr_assert(offer_batch("heavy", 1) && offer_ping("heavy", 2) && offer_ping("heavy", 3));
    cr_assert(offer_batch("heavy", 4) && offer_ping("heavy", 5));
    pass_busily(OPEN_US);
    cr_assert_str_eq(take(true), "heavy 1");
    cr_assert_eq(deferred_due_us(deferred), 0);
    charge("heavy", TOOK_US);
    cr_assert_str_eq(take(false), "heavy 2");
    cr_assert_str_eq(take(false), "heavy 3");
    cr_assert_str_eq(take(true), "");
    pass_busily(OPEN_US + 9 * TOOK_US);
    cr_assert_str_eq(take(true), "heavy 4");
    cr_assert_str_eq(take(true), "heavy 5");
    cr_assert_eq(deferred_count(deferred), 0);
}

Test(deferred, nothing_waits_where_nobody_else_is_active)
{
    charge("heavy", TOOK_US);
    cr_assert(offer_batch("heavy", 1));
    cr_assert_leq(deferred_due_us(deferred), now_us);
    cr_assert_str_eq(take(true), "heavy 1");
}

Test(deferred, nothing_waits_longer_than_others_were_active)
{
    charge("heavy", TOOK_US);
    cr_assert(!offer_ping("other", 1));
    cr_assert(offer_batch("heavy", 1));
    cr_assert_str_eq(take(true), "");
    cr_assert_eq(deferred_due_us(deferred), now_us + DEFERRED_QUIET_US);
    now_us += DEFERRED_QUIET_US;
    cr_assert_str_eq(take(true), "heavy 1");
}

Test(deferred, others_are_active_until_they_have_their_replies)
{
    charge("heavy", TOOK_US);
    cr_assert(!offer_ping("other", 1));
    cr_assert(offer_batch("heavy", 1));
    now_us += UINT64_C(2) * DEFERRED_QUIET_US;
    deferred_end_turn(deferred, now_us);
    cr_assert_str_eq(take(true), "");
    cr_assert_eq(deferred_due_us(deferred), now_us + DEFERRED_QUIET_US);
    now_us += DEFERRED_QUIET_US;
    deferred_end_turn(deferred, now_us);
    cr_assert_str_eq(take(true), "heavy 1");
}

Test(deferred, heavy_peers_take_turns_however_much_one_of_them_asks_for)
{
    charge("a", TOOK_US);
    charge("b", TOOK_US);
    for (unsigned i = 1; i <= 3; i++)
        cr_assert(offer_batch("a", i));
    for (unsigned i = 1; i <= 3; i++)
        cr_assert(offer_batch("b", i));
    const char *expected[] = {"a 1", "b 1", "a 2", "b 2", "a 3", "b 3"};
    for (unsigned i = 0; i < 6; i++)
        cr_assert_str_eq(take(true), expected[i]);
}

Test(deferred, all_heavy_peers_together_get_one_share)
{
    charge("a", TOOK_US);
    charge("b", TOOK_US);
    cr_assert(offer_batch("a", 1) && offer_batch("b", 1));
    pass_busily(OPEN_US);
    cr_assert_str_eq(take(true), "a 1");
    charge("a", TOOK_US);
    cr_assert_str_eq(take(true), "");
    cr_assert_eq(deferred_due_us(deferred), now_us - STEP_US + DEFERRED_QUIET_US);
    pass_busily(OPEN_US + 9 * TOOK_US);
    cr_assert_str_eq(take(true), "b 1");
}

Test(deferred, a_slow_disk_is_not_held_against_a_peer_for_ever)
{
    charge("heavy", UINT64_C(3600) * 1000000);
    cr_assert(offer_batch("heavy", 1));
    pass_busily(START_US + UINT64_C(9) * DEFERRED_MAX_CHARGE_US);
    cr_assert_str_eq(take(true), "heavy 1");
}

Test(deferred, nobody_waits_for_longer_than_the_limit_however_many_are_heavy)
{
    char peer[16];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(peer, sizeof peer, "heavy%u", i);
        charge(peer, TOOK_US);
        cr_assert(offer_batch(peer, i));
    }
    while (now_us < START_US + DEFERRED_MAX_WAIT_US) {
        if (take(true)[0] != '\0')
            charge("heavy0", TOOK_US);
        pass_busily(now_us + STEP_US);
    }
    cr_assert_gt(deferred_count(deferred), 0);
    while (deferred_count(deferred) > 0) {
        cr_assert_str_neq(take(true), "");
        charge("heavy0", TOOK_US);
    }
}

Test(deferred, a_peer_is_like_all_others_when_it_has_given_way)
{
    charge("heavy", TOOK_US);
    cr_assert(offer_batch("heavy", 1));
    pass_busily(OPEN_US);
    cr_assert_str_eq(take(true), "heavy 1");
    now_us++;
    cr_assert_str_eq(take(true), "");
    cr_assert(!offer_batch("heavy", 2));
}

Test(deferred, by_number_it_is_full_and_then_something_is_due)
{
    charge("heavy", TOOK_US);
    for (unsigned i = 0; i < DEFERRED_MAX_REQUESTS; i++) {
        cr_assert(!deferred_is_full(deferred));
        cr_assert(!offer_ping("other", 1));
        cr_assert(offer_batch("heavy", i));
    }
    cr_assert(deferred_is_full(deferred));
    cr_assert_eq(deferred_due_us(deferred), 0);
    cr_assert_str_eq(take(true), "heavy 0");
    cr_assert(!deferred_is_full(deferred));
    cr_assert_str_eq(take(true), "");
    cr_assert_eq(deferred_count(deferred), DEFERRED_MAX_REQUESTS - 1);
}

Test(deferred, by_bytes_it_is_full_and_then_something_is_due)
{
    enum { SIZE = 8 << 20 };
    uint8_t *bytes = calloc(1, SIZE);
    struct buffer request = {0};
    pack_text(&request, "[0,7,\"batch\",[[]]]");
    memcpy(bytes, request.data, request.size);
    charge("heavy", TOOK_US);
    cr_assert(offer_batch("heavy", 1));
    for (unsigned i = 0; i < DEFERRED_MAX_BYTES / SIZE; i++) {
        cr_assert(!deferred_is_full(deferred));
        cr_assert(!offer_ping("other", 1));
        cr_assert(offer_bytes("heavy", slice_of(bytes, SIZE), true));
    }
    cr_assert(deferred_is_full(deferred));
    cr_assert_str_eq(take(true), "heavy 1");
    free(bytes);
    buffer_free(&request);
}

Test(deferred, large_requests_are_long_and_malformed_ones_are_not)
{
    uint8_t *bytes = calloc(1, DEFERRED_LARGE);
    charge("heavy", TOOK_US);
    cr_assert(!offer_bytes("heavy", slice_of(bytes, DEFERRED_LARGE), false));
    cr_assert(!offer_bytes("heavy", slice_of(bytes, DEFERRED_LARGE - 1), true));
    cr_assert(offer_bytes("heavy", slice_of(bytes, DEFERRED_LARGE), true));
    cr_assert(offer_bytes("heavy", slice_of(bytes, 1), false));
    free(bytes);
}

Test(deferred, at_a_stop_everything_is_due)
{
    charge("heavy", TOOK_US);
    cr_assert(offer_batch("heavy", 1) && offer_ping("heavy", 2) && offer_batch("heavy", 3));
    pass_busily(now_us + STEP_US);
    cr_assert_str_eq(take(true), "");
    deferred_stop(deferred);
    cr_assert_eq(deferred_due_us(deferred), 0);
    cr_assert_str_eq(take(true), "heavy 1");
    charge("heavy", TOOK_US);
    cr_assert_str_eq(take(true), "heavy 2");
    cr_assert_str_eq(take(true), "heavy 3");
    cr_assert_eq(deferred_count(deferred), 0);
}

Test(deferred, more_heavy_peers_than_fit_on_record_are_served_as_all_others)
{
    char peer[16];
    for (unsigned i = 0; i <= DEFERRED_MAX_PEERS; i++) {
        snprintf(peer, sizeof peer, "heavy%u", i);
        charge(peer, TOOK_US);
        cr_assert_eq(offer_batch(peer, i), i < DEFERRED_MAX_PEERS, "peer %u", i);
    }
    for (unsigned i = 0; i < DEFERRED_MAX_PEERS; i++) {
        snprintf(peer, sizeof peer, "heavy%u %u", i, i);
        deferred_stop(deferred);
        cr_assert_str_eq(take(true), peer);
    }
}

/* The inbox: in which order requests are carried out, how many are read ahead, and that none is
 * lost. */
#include "daemon/inbox.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PEERS = 8, MANY = INBOX_MAX_REQUESTS };

static void *zmq;
static struct router router;
static struct inbox *inbox;
static void *peers[PEERS]; /* their routing ids are "0", "1"… */
static unsigned sent[PEERS];
static unsigned taken[PEERS];

static void open_inbox(void)
{
    const int none = 0;
    zmq = zmq_ctx_new();
    inbox = inbox_new();
    cr_assert_not_null(inbox);
    cr_assert_eq(router_open(&router, zmq), 0);
    zmq_setsockopt(router.socket, ZMQ_RCVHWM, &none, sizeof none);
    cr_assert_eq(zmq_bind(router.socket, "inproc://requests"), 0);
    for (int i = 0; i < PEERS; i++) {
        char id[8];
        snprintf(id, sizeof id, "%d", i);
        peers[i] = zmq_socket(zmq, ZMQ_DEALER);
        zmq_setsockopt(peers[i], ZMQ_ROUTING_ID, id, strlen(id));
        zmq_setsockopt(peers[i], ZMQ_SNDHWM, &none, sizeof none);
        zmq_setsockopt(peers[i], ZMQ_LINGER, &none, sizeof none);
        cr_assert_eq(zmq_connect(peers[i], "inproc://requests"), 0);
    }
}

static void close_inbox(void)
{
    for (int i = 0; i < PEERS; i++)
        zmq_close(peers[i]);
    inbox_free(&inbox);
    router_close(&router);
    zmq_ctx_term(zmq);
    router_end(&router);
}

TestSuite(inbox, .init = open_inbox, .fini = close_inbox);

/* The peer sends its next number. */
static void send_next(int peer)
{
    unsigned number = sent[peer]++;
    cr_assert_eq(zmq_send(peers[peer], &number, sizeof number, 0), (int)sizeof number);
}

static void send_many(int peer, size_t count)
{
    while (count-- > 0)
        send_next(peer);
}

/* Each peer that the text names, in that order. */
static void send_of(const char *text)
{
    for (; *text != '\0'; text++)
        send_next(*text - '0');
}

static void begin_turn(void)
{
    inbox_begin_turn(inbox);
    inbox_fill(inbox, &router);
}

static void give_back(struct router_message *message)
{
    router_drop_payload(message);
    router_give_back(&router, message);
}

/* Whose request is taken, '.' where none is left; it is the next of this peer. */
static char take(void)
{
    unsigned number;
    struct router_message *message = inbox_take(inbox);
    if (message == NULL)
        return '.';
    char name = (char)message->id.data[0];
    cr_assert(message->well_framed && message->bytes.size == sizeof number);
    memcpy(&number, message->bytes.data, sizeof number);
    cr_assert_eq(number, taken[name - '0']++, "of peer %c", name);
    give_back(message);
    return name;
}

static const char *take_all(void)
{
    static char text[64];
    size_t at = 0;
    do
        text[at] = take();
    while (text[at] != '.' && ++at < sizeof text - 1);
    text[at] = '\0';
    return text;
}

/* So many requests of one peer in a row, and the first of another. */
static size_t take_in_a_row(void)
{
    char first = take();
    size_t count = 1;
    while (take() == first)
        count++;
    return count;
}

Test(inbox, one_without_messages_has_none)
{
    begin_turn();
    cr_assert_eq(inbox_count(inbox), 0);
    cr_assert_eq(take(), '.');
    cr_assert(inbox_changes_peer(inbox) && inbox_went_round(inbox));
}

Test(inbox, requests_of_a_peer_come_together_and_in_their_order)
{
    send_of("010210");
    begin_turn();
    cr_assert_eq(inbox_count(inbox), 6);
    const char *order = take_all();
    for (int peer = '0'; peer <= '2'; peer++)
        for (const char *at = strchr(order, peer); at <= strrchr(order, peer); at++)
            cr_assert_eq(*at, peer, "%s", order);
    cr_assert_eq(strlen(order), 6);
}

Test(inbox, what_is_read_later_joins_its_peer_or_the_end)
{
    send_of("00");
    begin_turn();
    send_of("11");
    begin_turn();
    send_of("2021");
    begin_turn();
    cr_assert_str_eq(take_all(), "00011122");
}

Test(inbox, it_says_where_another_peer_begins)
{
    send_of("0");
    begin_turn();
    send_of("01");
    begin_turn();
    cr_assert_eq(take(), '0');
    cr_assert_not(inbox_changes_peer(inbox));
    cr_assert_eq(take(), '0');
    cr_assert(inbox_changes_peer(inbox));
    cr_assert_not(inbox_went_round(inbox));
    cr_assert_eq(take(), '1');
    cr_assert(inbox_changes_peer(inbox) && inbox_went_round(inbox));
}

Test(inbox, a_peer_with_many_gives_others_their_turn)
{
    send_many(0, (size_t)3 * INBOX_OF_ONE);
    begin_turn();
    send_many(1, INBOX_OF_ONE + 1);
    begin_turn();
    cr_assert_eq(take_in_a_row(), INBOX_OF_ONE);
    for (size_t i = 1; i < INBOX_OF_ONE; i++)
        cr_assert_eq(take(), '1');
    cr_assert(inbox_changes_peer(inbox) && inbox_went_round(inbox));
    cr_assert_eq(take_in_a_row(), INBOX_OF_ONE);
    cr_assert_eq(taken[1], INBOX_OF_ONE + 1);
    cr_assert_eq(take_in_a_row(), INBOX_OF_ONE);
    cr_assert_eq(inbox_count(inbox), 0);
}

Test(inbox, who_comes_when_all_were_served_is_the_next)
{
    send_many(0, (size_t)2 * INBOX_OF_ONE);
    begin_turn();
    cr_assert_eq(take(), '0');
    send_of("1");
    inbox_fill(inbox, &router);
    for (size_t i = 1; i < INBOX_OF_ONE; i++)
        cr_assert_eq(take(), '0', "it has its share first");
    cr_assert_eq(take(), '1');
    cr_assert(inbox_went_round(inbox));
    send_of("12");
    inbox_fill(inbox, &router);
    cr_assert_not(inbox_went_round(inbox));
    cr_assert_eq(take(), '2');
    cr_assert(inbox_went_round(inbox));
    cr_assert_eq(take(), '0');
    begin_turn();
    send_of("3");
    inbox_fill(inbox, &router);
    cr_assert_eq(take(), '1', "all have the new turn before them");
    cr_assert_eq(take_in_a_row(), INBOX_OF_ONE - 1);
    cr_assert_eq(taken[3], 1);
}

Test(inbox, all_who_come_when_the_others_were_served_are_before_them)
{
    send_many(0, (size_t)2 * INBOX_OF_ONE);
    begin_turn();
    for (size_t i = 0; i < INBOX_OF_ONE; i++)
        cr_assert_eq(take(), '0');
    for (int i = 1; i <= 3; i++) {
        send_next(i);
        inbox_fill(inbox, &router);
    }
    cr_assert_eq(take(), '1');
    cr_assert_eq(take(), '2');
    cr_assert_eq(take(), '3');
    cr_assert_eq(take(), '0');
}

Test(inbox, a_share_ends_with_the_turn)
{
    send_many(0, INBOX_OF_ONE);
    begin_turn();
    send_of("1");
    inbox_fill(inbox, &router);
    cr_assert_eq(take(), '0');
    begin_turn();
    cr_assert_eq(take(), '1');
    cr_assert_eq(take(), '0');
}

Test(inbox, each_turn_reads_some_whatever_is_left_of_those_before)
{
    send_many(0, MANY / 2);
    begin_turn();
    inbox_end_turn(inbox, 1, true);
    send_many(1, MANY);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), MANY / 2 + INBOX_MIN_REQUESTS);
    inbox_fill(inbox, &router);
    cr_assert_eq(inbox_count(inbox), MANY / 2 + INBOX_MIN_REQUESTS, "once");
    for (int i = 0; i < MANY; i++)
        begin_turn();
    cr_assert_eq(inbox_count(inbox), MANY);
}

Test(inbox, a_turn_of_few_requests_has_not_gone_round_where_it_began_anew)
{
    send_many(0, 2);
    begin_turn();
    cr_assert_eq(take(), '0');
    cr_assert(inbox_went_round(inbox));
    begin_turn();
    cr_assert_not(inbox_went_round(inbox));
}

Test(inbox, no_more_are_read_than_there_is_room_for)
{
    send_many(0, MANY + 10);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), MANY);
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(take(), '0');
    begin_turn();
    cr_assert_eq(inbox_count(inbox), 10);
}

Test(inbox, large_requests_are_not_read_far_ahead)
{
    static const char large[INBOX_MAX_BYTES / 2];
    for (int i = 0; i < 3; i++)
        zmq_send(peers[0], large, sizeof large, 0);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), 2);
}

Test(inbox, after_turns_that_took_long_fewer_are_read_ahead)
{
    send_many(0, MANY);
    inbox_end_turn(inbox, 1, true);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), INBOX_MIN_REQUESTS);
    inbox_end_turn(inbox, INBOX_MIN_REQUESTS, false);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), (size_t)2 * INBOX_MIN_REQUESTS);
    for (int i = 0; i < 20; i++)
        inbox_end_turn(inbox, 1, false);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), MANY);
}

Test(inbox, one_request_is_read_where_no_more_are_asked_for)
{
    send_of("010");
    inbox_begin_turn(inbox);
    cr_assert(inbox_read(inbox, &router));
    cr_assert_eq(inbox_count(inbox), 1);
    cr_assert_eq(take(), '0');
    cr_assert(inbox_read(inbox, &router));
    cr_assert_eq(take(), '1', "the others are still there");
    inbox_fill(inbox, &router);
    cr_assert_eq(take(), '0');
    cr_assert_not(inbox_read(inbox, &router));
    cr_assert_eq(inbox_count(inbox), 0);
}

enum { CROWD = 200 };

/* The number that the next request is. */
static int take_number(void)
{
    int number;
    struct router_message *message = inbox_take(inbox);
    if (message == NULL)
        return -1;
    memcpy(&number, message->bytes.data, sizeof number);
    give_back(message);
    return number;
}

static void *crowd[CROWD]; /* some of them have the same bucket, whatever the hash */

/* Each sends its number so often, in turns. */
static void send_of_crowd(int count)
{
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = zmq_socket(zmq, ZMQ_DEALER);
        cr_assert_eq(zmq_connect(crowd[i], "inproc://requests"), 0);
    }
    for (int i = 0; i < count * CROWD; i++)
        zmq_send(crowd[i % CROWD], &(int){i % CROWD}, sizeof(int), 0);
    begin_turn();
}

static void close_crowd(void)
{
    for (int i = 0; i < CROWD; i++) {
        zmq_setsockopt(crowd[i], ZMQ_LINGER, &(int){0}, sizeof(int));
        zmq_close(crowd[i]);
    }
}

Test(inbox, peers_are_told_apart_by_all_of_their_routing_ids)
{
    send_of_crowd(2);
    for (int i = 0; i < CROWD; i++) {
        int first = take_number();
        cr_assert(first >= 0 && !inbox_changes_peer(inbox));
        cr_assert_eq(take_number(), first);
        cr_assert(inbox_changes_peer(inbox));
    }
    cr_assert_eq(inbox_count(inbox), 0);
    close_crowd();
}

Test(inbox, where_many_wait_each_has_a_smaller_share)
{
    send_of_crowd(INBOX_OF_MANY + 1);
    for (int i = 0; i < CROWD * INBOX_OF_MANY; i++) {
        cr_assert_eq(inbox_changes_peer(inbox), i % INBOX_OF_MANY == 0);
        cr_assert_not(inbox_went_round(inbox) && i < (CROWD - 1) * INBOX_OF_MANY);
        cr_assert_geq(take_number(), 0);
    }
    cr_assert(inbox_went_round(inbox));
    cr_assert_eq(inbox_count(inbox), CROWD);
    close_crowd();
}

Test(inbox, a_message_of_many_parts_is_one)
{
    zmq_send(peers[0], "", 0, ZMQ_SNDMORE);
    zmq_send(peers[0], "one", 3, ZMQ_SNDMORE);
    zmq_send(peers[0], "more", 4, 0);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), 1);
    struct router_message *message = inbox_take(inbox);
    cr_assert(message != NULL && message->empty_frame && !message->well_framed);
    give_back(message);
}

Test(inbox, whatever_comes_when_nothing_is_lost_and_each_peer_keeps_its_order)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    unsigned state = seed;
    size_t total = 0;
    for (int round = 0; round < 2000; round++) {
        send_many(rand_r(&state) % PEERS, (size_t)(rand_r(&state) % 40));
        if (rand_r(&state) % 4 == 0)
            inbox_end_turn(inbox, (size_t)(rand_r(&state) % 400), rand_r(&state) % 2 == 0);
        begin_turn();
        for (int i = rand_r(&state) % 50; i > 0; i--)
            total += take() != '.';
    }
    for (begin_turn(); inbox_count(inbox) > 0; inbox_fill(inbox, &router))
        total += take() != '.';
    for (int i = 0; i < PEERS; i++) {
        cr_assert_eq(taken[i], sent[i], "peer %d, CUBBY_SEED=%u", i, seed);
        total -= sent[i];
    }
    cr_assert_eq(total, 0, "CUBBY_SEED=%u", seed);
}

Test(inbox, what_the_router_lends_is_lent_again_once_it_was_given_back)
{
    struct router_message *messages[MANY];
    for (int round = 0; round < 3; round++) {
        send_many(0, MANY);
        begin_turn();
        for (int i = 0; i < MANY; i++)
            cr_assert_not_null(messages[i] = inbox_take(inbox));
        for (int i = 0; i < MANY; i++)
            give_back(messages[i]);
    }
}

Test(inbox, when_all_messages_are_out_the_rest_waits_in_the_socket)
{
    struct router_message *messages[ROUTER_MAX_MESSAGES];
    size_t out = 0;
    send_many(0, ROUTER_MAX_MESSAGES + 1);
    for (int i = 0; i < 3; i++) {
        begin_turn();
        while (inbox_count(inbox) > 0)
            messages[out++] = inbox_take(inbox);
    }
    cr_assert_eq(out, ROUTER_MAX_MESSAGES);
    give_back(messages[--out]);
    begin_turn();
    cr_assert_eq(inbox_count(inbox), 1);
}

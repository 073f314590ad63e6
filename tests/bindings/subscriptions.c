#include <poll.h>
#include <stdio.h>
#include <zmq.h>

#include "tests/bindings/peer.h"

#include <criterion/criterion.h>

enum { STEP_MS = 20, QUIET_MS = 100 };

/* What a subscriber was told, as text: "4.0 4.1 7.0 reset(b,9) ". */
struct heard {
    struct peer peer;
    struct cubby *cubby;
    struct cubby_subscription *subscription;
    unsigned changes;
    unsigned resets;
    unsigned unsubscribe_after;
    char text[1024];
    size_t size;
};

static void hear_change(void *context, const struct cubby_change *change)
{
    struct heard *heard = context;
    heard->changes++;
    heard->size += (size_t)snprintf(heard->text + heard->size, sizeof(heard->text) - heard->size,
                                    "%u.%u ", (unsigned)change->seq, change->index);
    if (heard->changes == heard->unsubscribe_after)
        cubby_unsubscribe(&heard->subscription);
}

static void hear_reset(void *context, const struct cubby_reset *reset)
{
    struct heard *heard = context;
    heard->resets++;
    heard->size += (size_t)snprintf(heard->text + heard->size, sizeof(heard->text) - heard->size,
                                    "reset(%.*s,%u) ", (int)reset->epoch.size,
                                    (const char *)reset->epoch.data, (unsigned)reset->seq);
}

static void subscribe(struct heard *heard, const char *prefix,
                      const struct cubby_subscribe_options *options)
{
    static const struct cubby_subscriber subscriber = {.on_change = hear_change,
                                                       .on_reset = hear_reset};
    peer_open(&heard->peer);
    heard->cubby = peer_client(&heard->peer);
    cr_assert_eq(cubby_subscribe(heard->cubby, cubby_text(prefix), &subscriber, heard,
                                 &heard->subscription, options),
                 CUBBY_OK);
}

static void end(struct heard *heard)
{
    cubby_close(&heard->cubby);
    peer_close(&heard->peer);
}

static struct wire_change put(uint64_t seq, uint32_t index, uint32_t count)
{
    return (struct wire_change){.seq = seq,
                                .index = index,
                                .count = count,
                                .kind = "put",
                                .key = slice_of_text("key"),
                                .value = slice_of_text("\x01")};
}

static void expect_hello(struct heard *heard, const char *epoch, uint64_t seq)
{
    peer_expect(&heard->peer, heard->cubby, WIRE_METHOD_HELLO);
    peer_answer_hello(&heard->peer, epoch, seq, 1);
}

static void expect_changes(struct heard *heard, uint64_t since)
{
    peer_expect(&heard->peer, heard->cubby, WIRE_METHOD_CHANGES);
    cr_assert_eq(heard->peer.request.args.since, since);
}

/*
 * Through the questions of a new subscription to where it listens: one for the start, one for the
 * welcome, one for the first message. Its filter may come in after the welcome went out, hence
 * more than one heartbeat.
 */
static void settle(struct heard *heard, const char *epoch, uint64_t seq)
{
    expect_hello(heard, epoch, seq);
    expect_hello(heard, epoch, seq);
    do
        peer_publish_heartbeat(&heard->peer, epoch, 0, seq);
    while (!peer_takes_within(&heard->peer, heard->cubby, STEP_MS));
    cr_assert_eq(heard->peer.request.method, WIRE_METHOD_HELLO);
    peer_answer_hello(&heard->peer, epoch, seq, 1);
    peer_wait_until_live(heard->cubby, heard->subscription);
}

static void publish(struct heard *heard, const char *epoch, uint64_t drops,
                    struct wire_change change)
{
    peer_publish_change(&heard->peer, epoch, drops, &change);
}

/* Nothing more is asked, and nothing more was told than this. */
static void expect_heard(struct heard *heard, const char *text)
{
    cr_assert_not(peer_takes_within(&heard->peer, heard->cubby, QUIET_MS));
    cr_assert_str_eq(heard->text, text);
}

Test(subscriptions, changes_of_the_broadcast_are_delivered_in_order_without_a_question)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    settle(&heard, "a", 3);
    publish(&heard, "a", 0, put(4, 0, 2));
    publish(&heard, "a", 0, put(4, 1, 2));
    publish(&heard, "a", 0, put(5, 0, 1));
    peer_wait_for(heard.cubby, &heard.changes, 3);
    expect_heard(&heard, "4.0 4.1 5.0 ");
    cr_assert_eq(cubby_subscription_position(heard.subscription).seq, 5);
    end(&heard);
}

Test(subscriptions, what_came_before_since_is_asked_for_page_by_page)
{
    struct heard heard = {0};
    struct cubby_subscribe_options options = {.has_since = true, .since = 2};
    subscribe(&heard, "", &options);
    expect_hello(&heard, "a", 5);
    expect_changes(&heard, 2);
    cr_assert(slice_equal(heard.peer.request.args.epoch, slice_of_text("a")));
    struct wire_change first[] = {put(3, 0, 1), put(4, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 4, first, 2);
    expect_changes(&heard, 4);
    struct wire_change second[] = {put(5, 0, 1), put(6, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 6, second, 2);
    peer_wait_for(heard.cubby, &heard.changes, 4);
    cr_assert_str_eq(heard.text, "3.0 4.0 5.0 6.0 ");
    end(&heard);
}

Test(subscriptions, what_broadcast_and_catching_up_both_bring_is_delivered_once)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    settle(&heard, "a", 3);
    publish(&heard, "a", 0, put(4, 0, 3));
    publish(&heard, "a", 0, put(4, 2, 3)); /* 4.1 is missing */
    publish(&heard, "a", 0, put(5, 0, 1));
    expect_hello(&heard, "a", 5);
    expect_changes(&heard, 3);
    struct wire_change changes[] = {put(4, 0, 3), put(4, 1, 3), put(4, 2, 3), put(5, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 5, changes, 4);
    peer_wait_for(heard.cubby, &heard.changes, 4);
    publish(&heard, "a", 0, put(6, 0, 1));
    peer_wait_for(heard.cubby, &heard.changes, 5);
    expect_heard(&heard, "4.0 4.1 4.2 5.0 6.0 ");
    end(&heard);
}

Test(subscriptions, a_skipped_seq_is_asked_for_where_every_change_is_ours)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    settle(&heard, "a", 3);
    publish(&heard, "a", 0, put(5, 0, 1));
    expect_hello(&heard, "a", 5);
    expect_changes(&heard, 3);
    struct wire_change changes[] = {put(4, 0, 1), put(5, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 5, changes, 2);
    peer_wait_for(heard.cubby, &heard.changes, 2);
    expect_heard(&heard, "4.0 5.0 ");
    end(&heard);
}

Test(subscriptions, a_skipped_seq_is_others_business_where_a_prefix_filters)
{
    struct heard heard = {0};
    subscribe(&heard, "k", NULL);
    settle(&heard, "a", 3);
    publish(&heard, "a", 0, put(7, 1, 9));
    publish(&heard, "a", 0, put(9, 0, 2));
    peer_publish_heartbeat(&heard.peer, "a", 0, 12);
    peer_wait_for(heard.cubby, &heard.changes, 2);
    expect_heard(&heard, "7.1 9.0 ");
    cr_assert_eq(cubby_subscription_position(heard.subscription).seq, 12);
    end(&heard);
}

Test(subscriptions, raised_drops_are_caught_up_with_from_the_last_whole_transaction)
{
    struct heard heard = {0};
    subscribe(&heard, "k", NULL);
    settle(&heard, "a", 3);
    publish(&heard, "a", 0, put(6, 0, 2));
    publish(&heard, "a", 1, put(8, 0, 1));
    expect_hello(&heard, "a", 8);
    expect_changes(&heard, 5);
    cr_assert(slice_equal(heard.peer.request.args.prefix, slice_of_text("k")));
    struct wire_change changes[] = {put(6, 0, 2), put(6, 1, 2), put(7, 0, 1), put(8, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 8, changes, 4);
    peer_wait_for(heard.cubby, &heard.changes, 4);
    expect_heard(&heard, "6.0 6.1 7.0 8.0 ");
    end(&heard);
}

Test(subscriptions, drops_that_are_raised_again_and_again_are_asked_about_once)
{
    struct heard heard = {0};
    subscribe(&heard, "k", NULL);
    settle(&heard, "a", 3);
    publish(&heard, "a", 1, put(4, 0, 1));
    publish(&heard, "a", 2, put(6, 0, 1));
    publish(&heard, "a", 3, put(7, 0, 1));
    peer_publish_heartbeat(&heard.peer, "a", 4, 7);
    publish(&heard, "a", 4, put(9, 0, 1));
    publish(&heard, "a", 5, put(11, 0, 1));
    expect_hello(&heard, "a", 8);
    expect_changes(&heard, 3);
    struct wire_change changes[] = {put(4, 0, 1), put(5, 0, 1), put(6, 0, 1), put(7, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 8, changes, 4);
    expect_hello(&heard, "a", 11);
    expect_changes(&heard, 9);
    struct wire_change more[] = {put(10, 0, 1), put(11, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 11, more, 2);
    peer_wait_for(heard.cubby, &heard.changes, 7);
    expect_heard(&heard, "4.0 5.0 6.0 7.0 9.0 10.0 11.0 ");
    end(&heard);
}

Test(subscriptions, a_heartbeat_past_what_arrived_is_caught_up_with)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    settle(&heard, "a", 3);
    peer_publish_heartbeat(&heard.peer, "a", 0, 4);
    expect_hello(&heard, "a", 4);
    expect_changes(&heard, 3);
    struct wire_change changes[] = {put(4, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 4, changes, 1);
    peer_wait_for(heard.cubby, &heard.changes, 1);
    expect_heard(&heard, "4.0 ");
    end(&heard);
}

Test(subscriptions, another_epoch_resets_and_goes_on_behind_its_newest_seq)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    settle(&heard, "a", 30);
    publish(&heard, "b", 0, put(9, 0, 1));
    expect_hello(&heard, "b", 9);
    peer_wait_for(heard.cubby, &heard.resets, 1);
    publish(&heard, "b", 0, put(10, 0, 1));
    peer_wait_for(heard.cubby, &heard.changes, 1);
    expect_heard(&heard, "reset(b,9) 10.0 ");
    struct cubby_position position = cubby_subscription_position(heard.subscription);
    cr_assert(slice_equal(slice_of(position.epoch.data, position.epoch.size), slice_of_text("b")));
    end(&heard);
}

Test(subscriptions, history_that_is_gone_resets)
{
    struct heard heard = {0};
    struct cubby_subscribe_options options = {.has_since = true, .since = 2};
    struct wire_error error;
    subscribe(&heard, "", &options);
    expect_hello(&heard, "a", 50);
    expect_changes(&heard, 2);
    wire_fail(&error, WIRE_COMPACTED, "gone");
    peer_fail(&heard.peer, heard.peer.request.msgid, &error);
    expect_hello(&heard, "a", 51);
    peer_wait_for(heard.cubby, &heard.resets, 1);
    cr_assert_str_eq(heard.text, "reset(a,51) ");
    end(&heard);
}

Test(subscriptions, a_place_of_another_epoch_or_past_the_end_resets_at_once)
{
    struct heard other = {0};
    struct cubby_subscribe_options options = {
        .has_since = true, .since = 2, .epoch = cubby_text("old")};
    subscribe(&other, "", &options);
    expect_hello(&other, "new", 4);
    peer_wait_for(other.cubby, &other.resets, 1);
    end(&other);

    struct heard past = {0};
    options = (struct cubby_subscribe_options){.has_since = true, .since = 9};
    subscribe(&past, "", &options);
    expect_hello(&past, "new", 4);
    peer_wait_for(past.cubby, &past.resets, 1);
    end(&past);
}

Test(subscriptions, a_new_connection_is_caught_up_with)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    settle(&heard, "a", 3);
    zmq_unbind(heard.peer.pub, heard.peer.broadcast);
    zmq_close(heard.peer.pub);
    heard.peer.pub = zmq_socket(heard.peer.context, ZMQ_PUB);
    zmq_setsockopt(heard.peer.pub, ZMQ_XPUB_WELCOME_MSG, "w", 1);
    while (zmq_bind(heard.peer.pub, heard.peer.broadcast) != 0)
        cubby_poll(heard.cubby, STEP_MS);
    expect_hello(&heard, "a", 4);
    expect_changes(&heard, 3);
    struct wire_change changes[] = {put(4, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 4, changes, 1);
    peer_wait_for(heard.cubby, &heard.changes, 1);
    cr_assert_str_eq(heard.text, "4.0 ");
    end(&heard);
}

Test(subscriptions, silence_is_caught_up_with_after_three_heartbeats)
{
    struct heard heard = {0};
    subscribe(&heard, "k", NULL);
    settle(&heard, "a", 3);
    expect_hello(&heard, "a", 4);
    expect_changes(&heard, 3);
    struct wire_change changes[] = {put(4, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 4, changes, 1);
    peer_wait_for(heard.cubby, &heard.changes, 1);
    cr_assert_str_eq(heard.text, "4.0 ");
    end(&heard);
}

Test(subscriptions, a_question_that_fails_is_asked_again)
{
    struct heard heard = {0};
    struct wire_error error;
    subscribe(&heard, "", NULL);
    peer_expect(&heard.peer, heard.cubby, WIRE_METHOD_HELLO);
    wire_fail(&error, WIRE_UNAVAILABLE, "not now");
    peer_fail(&heard.peer, heard.peer.request.msgid, &error);
    expect_hello(&heard, "a", 3);
    cr_assert_eq(heard.changes + heard.resets, 0);
    end(&heard);
}

Test(subscriptions, nothing_is_told_after_unsubscribing_from_a_callback)
{
    struct heard heard = {.unsubscribe_after = 2};
    struct cubby_subscribe_options options = {.has_since = true, .since = 0};
    subscribe(&heard, "", &options);
    expect_hello(&heard, "a", 3);
    expect_changes(&heard, 0);
    struct wire_change changes[] = {put(1, 0, 1), put(2, 0, 1), put(3, 0, 1)};
    peer_answer_changes(&heard.peer, "a", 3, changes, 3);
    peer_wait_for(heard.cubby, &heard.changes, 2);
    expect_heard(&heard, "1.0 2.0 ");
    cr_assert_null(heard.subscription);
    end(&heard);
}

Test(subscriptions, unsubscribing_while_a_question_is_out_is_harmless)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    peer_expect(&heard.peer, heard.cubby, WIRE_METHOD_HELLO);
    cubby_unsubscribe(&heard.subscription);
    peer_answer_hello(&heard.peer, "a", 3, 1);
    expect_heard(&heard, "");
    cr_assert_eq(cubby_outstanding(heard.cubby), 0);
    end(&heard);
}

Test(subscriptions, the_descriptor_is_quiet_while_a_question_is_out)
{
    struct heard heard = {0};
    subscribe(&heard, "", NULL);
    struct pollfd wait = {.fd = cubby_fd(heard.cubby), .events = POLLIN};
    settle(&heard, "a", 3);
    publish(&heard, "a", 0, put(9, 0, 1)); /* a gap */
    peer_expect(&heard.peer, heard.cubby, WIRE_METHOD_HELLO);
    for (uint64_t seq = 10; seq < 20; seq++)
        publish(&heard, "a", 0, put(seq, 0, 1));
    for (int rounds = 0; poll(&wait, 1, QUIET_MS) > 0; rounds++) {
        cr_assert_lt(rounds, 20, "the descriptor never falls silent");
        while (cubby_poll(heard.cubby, 0) > 0)
            ;
    }
    end(&heard);
}

/* What was announced, as text: "mail@4 ", and how often something may have been missed. */
struct announced {
    struct peer peer;
    unsigned missed;
    unsigned ready;
    char text[256];
    size_t size;
};

static void hear_ready(void *context, struct cubby_bytes queue, uint64_t seq)
{
    struct announced *announced = context;
    announced->ready++;
    announced->size += (size_t)snprintf(announced->text + announced->size,
                                        sizeof(announced->text) - announced->size, "%.*s@%u ",
                                        (int)queue.size, (const char *)queue.data, (unsigned)seq);
}

static void hear_missed(void *context)
{
    struct announced *announced = context;
    announced->missed++;
}

static void announce(struct announced *announced, const char *epoch, uint64_t drops, uint64_t seq)
{
    struct buffer payload = {0};
    wire_pack_notification(&payload, "queue");
    wire_pack_array(&payload, 4);
    wire_pack_text(&payload, epoch);
    wire_pack_uint(&payload, drops);
    wire_pack_uint(&payload, seq);
    wire_pack_text(&payload, "mail");
    cr_assert_geq(zmq_send(announced->peer.pub, "qmail", 5, ZMQ_SNDMORE), 0);
    cr_assert_geq(zmq_send(announced->peer.pub, payload.data, payload.size, 0), 0);
    buffer_free(&payload);
}

/* libzmq takes a connection in, and welcomes it, where the socket is used. */
static void wait_for_welcome(struct announced *announced, struct cubby *cubby)
{
    int64_t until = peer_now_ms() + PEER_WAIT_MS;
    while (announced->missed == 0) {
        int events;
        size_t size = sizeof(events);
        cr_assert_lt(peer_now_ms(), until);
        cr_assert_eq(zmq_getsockopt(announced->peer.pub, ZMQ_EVENTS, &events, &size), 0);
        cubby_poll(cubby, STEP_MS);
    }
}

Test(subscriptions, queues_are_announced_and_what_may_be_missing_is_told)
{
    static const struct cubby_queue_subscriber subscriber = {hear_ready, hear_missed};
    struct announced announced = {0};
    struct cubby_subscription *subscription = NULL;
    peer_open(&announced.peer);
    struct cubby *cubby = peer_client(&announced.peer);
    cr_assert_eq(
        cubby_subscribe_queues(cubby, cubby_text("m"), &subscriber, &announced, &subscription),
        CUBBY_OK);
    wait_for_welcome(&announced, cubby);
    do {
        peer_publish_heartbeat(&announced.peer, "a", 0, 3);
        cubby_poll(cubby, STEP_MS);
    } while (announced.missed < 2);
    announce(&announced, "a", 0, 4);
    announce(&announced, "a", 0, 5);
    peer_wait_for(cubby, &announced.ready, 2);
    cr_assert_eq(announced.missed, 2);
    announce(&announced, "a", 1, 6);
    peer_wait_for(cubby, &announced.missed, 3);
    announce(&announced, "b", 0, 1);
    peer_wait_for(cubby, &announced.missed, 4);
    cr_assert_str_eq(announced.text, "mail@4 mail@5 mail@6 mail@1 ");
    cubby_unsubscribe(&subscription);
    announce(&announced, "b", 0, 2);
    cubby_poll(cubby, QUIET_MS);
    cr_assert_eq(announced.ready, 4);
    cubby_close(&cubby);
    peer_close(&announced.peer);
}

Test(subscriptions, queues_without_a_callback_are_misuse)
{
    static const struct cubby_queue_subscriber subscriber = {NULL, hear_missed};
    struct peer peer;
    peer_open(&peer);
    struct cubby *cubby = peer_client(&peer);
    cr_assert_eq(cubby_subscribe_queues(cubby, cubby_text(""), &subscriber, NULL, NULL),
                 CUBBY_MISUSE);
    cubby_close(&cubby);
    peer_close(&peer);
}

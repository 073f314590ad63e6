/* Waiters: lines, deadlines, clients, limits; and all of it at random, against a list. */
#include "queue/waiters.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 200 };

static struct waiters *waiters;

static void setup(void)
{
    waiters = waiters_new(MOST);
    cr_assert_not_null(waiters);
}

static void teardown(void)
{
    waiters_free(&waiters);
}

TestSuite(waiters, .init = setup, .fini = teardown);

/* Queues as words with one space between them. */
static int add(const char *peer, uint64_t msgid, uint64_t deadline_ms, const char *queues)
{
    struct slice names[MOST * WAITERS_NAMES];
    size_t count = 0;
    const struct wait wait = {.peer = slice_of_text(peer),
                              .msgid = msgid,
                              .count = (uint32_t)msgid,
                              .deadline_ms = deadline_ms};
    while (*queues != '\0') {
        size_t size = strcspn(queues, " ");
        names[count++] = slice_of(queues, size);
        queues += size + (queues[size] == ' ');
    }
    return waiters_add(waiters, &wait, names, count);
}

static uint64_t msgid_of(const struct waiter *waiter)
{
    return waiter != NULL ? waiter_wait(waiter)->msgid : 0;
}

static uint64_t first(const char *queue)
{
    return msgid_of(waiters_first(waiters, slice_of_text(queue)));
}

static void serve(const char *queue)
{
    struct waiter *waiter = waiters_first(waiters, slice_of_text(queue));
    cr_assert_not_null(waiter);
    waiters_remove(waiters, waiter);
}

Test(waiters, the_first_in_line_came_first)
{
    for (uint64_t msgid = 1; msgid <= 5; msgid++)
        cr_assert_eq(add("peer", msgid, QUEUE_FOREVER, msgid % 2 ? "odd" : "even"), 0);
    cr_assert_eq(waiters_count(waiters), 5);
    cr_assert_eq(waiters_count_at(waiters, slice_of_text("odd")), 3);
    for (uint64_t msgid = 1; msgid <= 5; msgid += 2) {
        cr_assert_eq(first("odd"), msgid);
        serve("odd");
    }
    cr_assert_null(waiters_first(waiters, slice_of_text("odd")));
    cr_assert_eq(first("even"), 2);
    cr_assert_null(waiters_first(waiters, slice_of_text("od")));
}

Test(waiters, who_stands_in_several_lines_leaves_all_of_them)
{
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a b c"), 0);
    cr_assert_eq(add("peer", 2, QUEUE_FOREVER, "b"), 0);
    cr_assert_eq(add("peer", 3, QUEUE_FOREVER, "c a"), 0);
    cr_assert_eq(first("b"), 1);
    serve("b");
    cr_assert_eq(first("a"), 3);
    cr_assert_eq(first("b"), 2);
    cr_assert_eq(first("c"), 3);
    serve("c");
    cr_assert_eq(first("a"), 0);
    cr_assert_eq(waiters_count(waiters), 1);
}

Test(waiters, queues_are_remembered_in_their_order_and_once)
{
    static const char *const names[] = {"b", "a", "c"};
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "b a b c a a"), 0);
    const struct waiter *waiter = waiters_oldest(waiters);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert(slice_equal(waiter_queue(waiter, i), slice_of_text(names[i])));
    cr_assert_null(waiter_queue(waiter, 3).data);
    cr_assert_eq(waiters_count_at(waiters, slice_of_text("a")), 1);
}

Test(waiters, what_was_asked_for_is_copied)
{
    char peer[] = "peer";
    char queue[] = "queue";
    const struct wait wait = {.peer = slice_of_text(peer),
                              .msgid = UINT64_MAX,
                              .empty_frame = true,
                              .pop = true,
                              .count = 7,
                              .lease_ms = 8,
                              .deadline_ms = 9};
    const struct slice name = slice_of_text(queue);
    cr_assert_eq(waiters_add(waiters, &wait, &name, 1), 0);
    memset(peer, 'x', sizeof peer);
    memset(queue, 'x', sizeof queue);
    const struct wait *kept = waiter_wait(waiters_first(waiters, slice_of_text("queue")));
    cr_assert(slice_equal(kept->peer, slice_of_text("peer")));
    cr_assert(kept->msgid == UINT64_MAX && kept->empty_frame && kept->pop && kept->count == 7);
    cr_assert(kept->lease_ms == 8 && kept->deadline_ms == 9);
}

Test(waiters, deadlines_come_in_their_order)
{
    cr_assert_eq(waiters_next_due(waiters), QUEUE_FOREVER);
    cr_assert_eq(add("peer", 1, 300, "a"), 0);
    cr_assert_eq(add("peer", 2, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(add("peer", 3, 100, "a"), 0);
    cr_assert_eq(add("peer", 4, 200, "b"), 0);
    cr_assert_eq(waiters_next_due(waiters), 100);
    cr_assert_null(waiters_due(waiters, 99));
    cr_assert_eq(msgid_of(waiters_due(waiters, 100)), 3);
    waiters_remove(waiters, waiters_due(waiters, 100));
    cr_assert_null(waiters_due(waiters, 199));
    waiters_remove(waiters, waiters_due(waiters, 1000));
    cr_assert_eq(msgid_of(waiters_due(waiters, 1000)), 1);
    waiters_remove(waiters, waiters_due(waiters, 1000));
    cr_assert_null(waiters_due(waiters, QUEUE_FOREVER));
    cr_assert_eq(first("a"), 2);
}

Test(waiters, a_client_is_found_by_its_msgid)
{
    cr_assert_eq(add("ann", 1, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(add("ben", 1, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(add("ann", 2, QUEUE_FOREVER, "a"), 0);
    cr_assert_null(waiters_find(waiters, slice_of_text("ben"), 2));
    cr_assert_null(waiters_find(waiters, slice_of_text("an"), 1));
    struct waiter *found = waiters_find(waiters, slice_of_text("ben"), 1);
    cr_assert(slice_equal(waiter_wait(found)->peer, slice_of_text("ben")));
    waiters_remove(waiters, found);
    cr_assert_null(waiters_find(waiters, slice_of_text("ben"), 1));
    cr_assert_not_null(waiters_find(waiters, slice_of_text("ann"), 1));
}

Test(waiters, there_are_no_more_than_are_allowed)
{
    for (uint64_t i = 1; i <= MOST; i++)
        cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a"), WAITERS_BUSY);
    serve("a");
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(waiters_count(waiters), MOST);
}

Test(waiters, nor_do_they_name_more_queues_than_are_allowed)
{
    static const size_t most = (size_t)MOST * WAITERS_NAMES;
    char names[MOST * WAITERS_NAMES][8];
    struct slice queues[MOST * WAITERS_NAMES];
    const struct wait wait = {.deadline_ms = QUEUE_FOREVER};
    for (size_t i = 0; i < most; i++)
        queues[i] = slice_of(names[i], (size_t)sprintf(names[i], "%zu", i));
    cr_assert_eq(waiters_add(waiters, &wait, queues, most), 0);
    cr_assert_eq(waiters_add(waiters, &wait, queues, 1), WAITERS_BUSY);
    waiters_remove(waiters, waiters_oldest(waiters));
    cr_assert_eq(waiters_add(waiters, &wait, queues, 1), 0);
}

static void connect(uint64_t msgid, int connection)
{
    waiters_connect(waiters, waiters_find(waiters, slice_of_text("peer"), msgid), connection);
}

Test(waiters, those_of_a_connection_that_has_ended_go_and_no_others)
{
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(add("peer", 2, 100, "a b"), 0);
    cr_assert_eq(add("peer", 3, 200, "b"), 0);
    cr_assert_eq(add("peer", 4, QUEUE_FOREVER, "a"), 0);
    connect(1, 5);
    connect(2, 5);
    connect(3, 5 + 1024); /* of the same bucket */
    cr_assert_eq(waiters_remove_connection(waiters, 6), 0);
    cr_assert_eq(waiters_remove_connection(waiters, 5), 2);
    cr_assert_eq(waiters_count(waiters), 2);
    cr_assert_eq(first("a"), 4);
    cr_assert_eq(first("b"), 3);
    cr_assert_eq(waiters_next_due(waiters), 200);
    cr_assert_eq(waiters_remove_connection(waiters, 5), 0);
}

Test(waiters, the_connection_that_was_said_last_is_the_one)
{
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a"), 0);
    connect(1, 5);
    connect(1, 6);
    cr_assert_eq(waiters_remove_connection(waiters, 5), 0);
    cr_assert_eq(waiters_remove_connection(waiters, 6), 1);
}

Test(waiters, one_that_was_served_is_no_longer_of_its_connection)
{
    cr_assert_eq(add("peer", 1, QUEUE_FOREVER, "a"), 0);
    cr_assert_eq(add("peer", 2, QUEUE_FOREVER, "a"), 0);
    connect(1, 5);
    connect(2, 5);
    serve("a");
    cr_assert_eq(waiters_remove_connection(waiters, 5), 1);
    cr_assert_eq(waiters_count(waiters), 0);
}

/* What it has to be: all waiters in the order in which they came. */
struct expected {
    uint64_t msgid; /* unique; the peer is msgid % 3 */
    uint64_t deadline_ms;
    unsigned queues; /* bits */
    int connection;
};

static struct expected list[MOST];
static size_t list_count;

static unsigned random_state;

static int draw(int below)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int)((random_state >> 8) % (unsigned)below);
}

static const char *const peers[] = {"a", "bb", "ccc"};
static const char *const names[] = {"0", "1", "2", "3", "4", "5"};
enum { QUEUES = sizeof names / sizeof names[0] };

/* 0: unknown; the others are of one bucket, and of two. */
static const int connections[] = {0, 1, 2, 1 + 4096, 2 + 4096};
enum { CONNECTIONS = sizeof connections / sizeof connections[0] };

static void check(uint64_t now_ms)
{
    uint64_t due = QUEUE_FOREVER;
    cr_assert_eq(waiters_count(waiters), list_count);
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        uint64_t head = 0;
        uint32_t count = 0;
        for (size_t i = 0; i < list_count; i++) {
            if ((list[i].queues & 1U << queue) == 0)
                continue;
            head = head == 0 ? list[i].msgid : head;
            count++;
        }
        cr_assert_eq(first(names[queue]), head);
        cr_assert_eq(waiters_count_at(waiters, slice_of_text(names[queue])), count);
    }
    for (size_t i = 0; i < list_count; i++)
        due = list[i].deadline_ms < due ? list[i].deadline_ms : due;
    cr_assert_eq(waiters_next_due(waiters), due);
    cr_assert_eq(waiters_due(waiters, now_ms) != NULL, due <= now_ms && due != QUEUE_FOREVER);
}

static void leave(struct waiter *waiter)
{
    uint64_t msgid = msgid_of(waiter);
    size_t at = 0;
    while (list[at].msgid != msgid)
        at++;
    memmove(&list[at], &list[at + 1], (list_count - at - 1) * sizeof list[0]);
    list_count--;
    waiters_remove(waiters, waiter);
}

static void come(uint64_t msgid, uint64_t now_ms)
{
    struct expected *one = &list[list_count];
    char queues[64] = "";
    *one = (struct expected){.msgid = msgid, .deadline_ms = QUEUE_FOREVER};
    if (draw(2) == 0)
        one->deadline_ms = now_ms + (uint64_t)(draw(100));
    for (int i = 0, count = 1 + draw(4); i < count; i++) {
        int queue = draw(QUEUES);
        one->queues |= 1U << queue;
        sprintf(queues + strlen(queues), "%s%d", i > 0 ? " " : "", queue);
    }
    int rc = add(peers[msgid % 3], msgid, one->deadline_ms, queues);
    cr_assert_eq(rc, list_count == MOST ? WAITERS_BUSY : 0);
    list_count += rc == 0;
    one->connection = connections[draw(CONNECTIONS)];
    if (rc == 0 && one->connection > 0)
        waiters_connect(waiters, waiters_find(waiters, slice_of_text(peers[msgid % 3]), msgid),
                        one->connection);
}

static void end_connection(int connection)
{
    size_t kept = 0;
    for (size_t i = 0; i < list_count; i++)
        if (list[i].connection != connection)
            list[kept++] = list[i];
    cr_assert_eq(waiters_remove_connection(waiters, connection), list_count - kept);
    list_count = kept;
}

Test(waiters, at_random_they_are_what_a_list_says)
{
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    uint64_t now_ms = 1000;
    fprintf(stderr, "CUBBY_SEED=%u\n", seed);
    random_state = seed;
    list_count = 0;
    for (uint64_t msgid = 1; msgid < 20000; msgid++) {
        int action = draw(20);
        now_ms += (uint64_t)(draw(3));
        if (action < 9 && list_count < MOST)
            come(msgid, now_ms);
        else if (action < 14 && list_count > 0)
            leave(waiters_find(waiters, slice_of_text(peers[list[list_count / 2].msgid % 3]),
                               list[list_count / 2].msgid));
        else if (action < 17 && waiters_first(waiters, slice_of_text(names[action % QUEUES])))
            leave(waiters_first(waiters, slice_of_text(names[action % QUEUES])));
        for (struct waiter *due; action == 17 && (due = waiters_due(waiters, now_ms)) != NULL;)
            leave(due);
        if (action == 18 && draw(4) == 0)
            end_connection(connections[1 + draw(CONNECTIONS - 1)]);
        check(now_ms);
    }
}

/* What a program may do wrong with a handle, and what may be wrong around it. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "tests/bindings/fixture.h"

#include <criterion/criterion.h>

TestSuite(misuse, .init = start, .fini = stop);

/* What a callback was called with last. */
struct heard {
    unsigned calls;
    enum cubby_status status;
};

static void hear_reply(void *context, const struct cubby_reply *reply)
{
    struct heard *heard = context;
    heard->calls++;
    heard->status = reply->status;
}

static void hear_error(void *context, const struct cubby_error *error)
{
    struct heard *heard = context;
    heard->calls++;
    heard->status = error->status;
}

static void hear_change(void *context, const struct cubby_change *change)
{
    (void)context;
    (void)change;
}

static void hear_ready(void *context, struct cubby_bytes queue, uint64_t seq)
{
    (void)context;
    (void)queue;
    (void)seq;
}

static struct cubby_bytes key(void)
{
    return cubby_text("key");
}

static struct cubby_bytes one(void)
{
    return cubby_data("\x01", 1);
}

static void assert_failure(enum cubby_status status, const char *part)
{
    const struct cubby_error *error = cubby_last_error(cubby);
    cr_assert_eq(error->status, status, "%s", error->message);
    cr_assert_not_null(strstr(error->message, part), "%s", error->message);
}

Test(misuse, without_a_handle_calls_are_refused)
{
    struct cubby_batch *batch = cubby_batch_new();
    const struct cubby_subscriber subscriber = {.on_change = hear_change};
    struct cubby_watch *watch = NULL;
    struct cubby_watch_page *page;
    struct cubby_mirror *mirror = NULL;
    struct cubby_jobs *jobs;
    const struct cubby_bytes queue = key();
    cr_assert_eq(cubby_get(NULL, key(), NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_put(NULL, key(), cubby_text(NULL), NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_ping(NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_send_get(NULL, key(), hear_reply, NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_batch_run(NULL, batch, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_queue_reserve(NULL, &queue, 1, &jobs, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_subscribe(NULL, key(), &subscriber, NULL, NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_watch_open(NULL, key(), &watch, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_watch_next(watch, &page, 0), CUBBY_MISUSE);
    cr_assert_eq(cubby_mirror_open(NULL, key(), NULL, NULL, &mirror, NULL), CUBBY_MISUSE);
    cr_assert_not(cubby_mirror_get(mirror, key(), NULL));
    cr_assert_not(cubby_mirror_position(mirror).live);
    cr_assert_not(cubby_watch_position(watch).live);
    cr_assert_not(cubby_subscription_position(NULL).live);
    cr_assert_eq(cubby_poll(NULL, 0), -1);
    cr_assert_eq(cubby_fd(NULL), -1);
    cr_assert_eq(cubby_wait_ms(NULL), -1);
    cr_assert_eq(cubby_outstanding(NULL), 0);
    cr_assert_eq(cubby_last_error(NULL)->status, CUBBY_MISUSE);
    cr_assert_eq(cubby_open(NULL, NULL), CUBBY_MISUSE);
    cubby_close(NULL);
    cubby_batch_free(&batch);
}

Test(misuse, what_has_to_be_given_and_is_not_is_refused)
{
    struct heard heard = {0};
    struct cubby_watch *watch;
    struct cubby_watch_page **nowhere = NULL;
    cr_assert_eq(cubby_send_get(cubby, key(), NULL, NULL, NULL), CUBBY_MISUSE);
    assert_failure(CUBBY_MISUSE, "callback");
    cr_assert_eq(cubby_call(cubby, NULL, cubby_text(NULL), NULL, NULL), CUBBY_MISUSE);
    assert_failure(CUBBY_MISUSE, "method");
    cr_assert_eq(cubby_send(cubby, NULL, cubby_text(NULL), hear_reply, &heard, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_batch_run(cubby, NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_subscribe(cubby, key(), NULL, NULL, NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_subscribe_queues(cubby, key(), NULL, NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_watch_open(cubby, key(), NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_mirror_open(cubby, key(), NULL, NULL, NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_watch_open(cubby, key(), &watch, NULL), CUBBY_OK);
    cr_assert_eq(cubby_watch_next(watch, nowhere, 0), CUBBY_MISUSE);
    cr_assert_eq(cubby_outstanding(cubby), 0);
}

Test(misuse, bytes_without_data_are_none_whatever_their_size)
{
    const struct cubby_bytes none = cubby_data(NULL, 100);
    const struct cubby_subscriber subscriber = {.on_change = hear_change};
    struct heard heard = {0};
    struct cubby_watch *watch;
    struct cubby_mirror *mirror;
    cubby_send_get(cubby, none, hear_reply, &heard, NULL);
    peer_take(&peer, cubby);
    cr_assert_eq(peer.code, WIRE_BAD_REQUEST);
    cr_assert_eq(cubby_watch_open(cubby, none, &watch, NULL), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_WATCH);
    cr_assert_eq(peer.request.args.prefix.size, 0);
    cr_assert_eq(cubby_mirror_open(cubby, none, NULL, NULL, &mirror, NULL), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
    cr_assert_eq(cubby_subscribe(cubby, none, &subscriber, NULL, NULL, NULL), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
}

Test(misuse, what_is_added_to_no_batch_is_refused_when_it_is_run)
{
    const struct cubby_range all = {.prefix = cubby_text("")};
    const struct cubby_bytes queue = key();
    struct cubby_batch *none = NULL;
    cr_assert_eq(cubby_batch_get(none, key()), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_put(none, key(), one(), NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_delete(none, key(), NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_increment(none, key(), 1, NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_touch(none, key(), 1), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_scan(none, &all, NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_count_keys(none, &all), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_delete_range(none, &all, NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_call(none, "ping", cubby_text(NULL)), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_queue_push(none, queue, one(), NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_queue_reserve(none, &queue, 1, NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_queue_pop(none, &queue, 1, NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_queue_ack(none, 1, 1), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_queue_peek(none, queue, NULL), CUBBY_NO_OPERATION);
    cr_assert_eq(cubby_batch_queue_drop(none, queue), CUBBY_NO_OPERATION);
    cubby_batch_guard(none, key(), 1);
    cubby_batch_clear(none);
    cr_assert_eq(cubby_batch_count(none), 0);
    cr_assert_eq(cubby_batch_seq(none), 0);
    cr_assert_null(cubby_batch_result(none, 0).data);
    cr_assert_eq(cubby_read_batch(one(), none), CUBBY_MISUSE);
    cr_assert_eq(cubby_batch_run(cubby, none, NULL), CUBBY_MISUSE);
    assert_failure(CUBBY_MISUSE, "there is no batch");
}

Test(misuse, a_batch_says_which_operation_cannot_be_sent)
{
    struct cubby_batch *batch = cubby_batch_new();
    cubby_batch_put(batch, key(), one(), NULL);
    cubby_batch_put(batch, key(), cubby_data("\xc1", 1), NULL);
    cubby_batch_call(batch, NULL, cubby_text(NULL));
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_MISUSE);
    assert_failure(CUBBY_MISUSE, "not one encoded MessagePack object");
    cr_assert_eq(cubby_last_error(cubby)->has, CUBBY_HAS_INDEX);
    cr_assert_eq(cubby_last_error(cubby)->index, 1);
    cubby_batch_clear(batch);
    cubby_batch_call(batch, NULL, cubby_text(NULL));
    cr_assert_eq(cubby_batch_run(cubby, batch, NULL), CUBBY_MISUSE);
    assert_failure(CUBBY_MISUSE, "method");
    cubby_batch_free(&batch);
}

Test(misuse, a_prefix_that_nothing_can_have_is_refused_where_nobody_else_would_tell)
{
    static const char long_prefix[1025];
    const struct cubby_subscriber keys = {.on_change = hear_change};
    const struct cubby_queue_subscriber queues = {.on_ready = hear_ready};
    struct cubby_bytes prefix = cubby_data(long_prefix, 1025);
    struct cubby_mirror *mirror = NULL;
    cr_assert_eq(cubby_subscribe(cubby, prefix, &keys, NULL, NULL, NULL), CUBBY_TOO_LARGE);
    cr_assert_eq(cubby_last_error(cubby)->limit, 1024);
    cr_assert_eq(cubby_mirror_open(cubby, prefix, NULL, NULL, &mirror, NULL), CUBBY_TOO_LARGE);
    cr_assert_null(mirror);
    prefix.size = 1024;
    cr_assert_eq(cubby_mirror_open(cubby, prefix, NULL, NULL, &mirror, NULL), CUBBY_OK);
    cr_assert_eq(cubby_subscribe(cubby, prefix, &keys, NULL, NULL, NULL), CUBBY_OK);
    prefix.size = 256;
    cr_assert_eq(cubby_subscribe_queues(cubby, prefix, &queues, NULL, NULL), CUBBY_TOO_LARGE);
    cr_assert_eq(cubby_last_error(cubby)->limit, 255);
    prefix.size = 255;
    cr_assert_eq(cubby_subscribe_queues(cubby, prefix, &queues, NULL, NULL), CUBBY_OK);
}

/* Options that were never set are such. */
Test(misuse, what_is_none_of_the_values_of_an_option_is_refused_by_the_daemon)
{
    struct heard heard = {0};
    const struct cubby_put_options put = {.condition = (enum cubby_condition)3};
    cubby_send_put(cubby, key(), one(), hear_reply, &heard, &put);
    peer_take(&peer, cubby);
    cr_assert_eq(peer.code, WIRE_BAD_REQUEST);
    struct cubby_batch *batch = cubby_batch_new();
    const struct cubby_configure_options configure = {.set = 1u << 20};
    cubby_batch_queue_configure(batch, key(), &configure);
    cubby_send_batch(cubby, batch, hear_reply, &heard, NULL);
    cubby_batch_free(&batch);
    peer_take(&peer, cubby);
    enum wire_method method;
    struct wire_args args;
    cr_assert_eq(wire_next_operation(&peer.request.args.operations, &method, &args, &peer.error),
                 WIRE_BAD_REQUEST);
    cr_assert_not_null(strstr(peer.error.message, "set"), "%s", peer.error.message);
}

static void *wait_in_it(void *context)
{
    cubby_poll(context, PEER_WAIT_MS);
    return NULL;
}

/* What is sent to it ends the other thread's wait. */
Test(misuse, a_thread_is_refused_while_another_one_waits_in_the_handle)
{
    struct heard heard = {0};
    pthread_t other;
    struct cubby *same = cubby;
    cr_assert_eq(cubby_send_get(cubby, key(), hear_reply, &heard, NULL), CUBBY_OK);
    cr_assert_eq(pthread_create(&other, NULL, wait_in_it, cubby), 0);
    while (cubby_last_error(cubby)->status != CUBBY_MISUSE)
        sched_yield();
    cr_assert_not_null(strstr(cubby_last_error(cubby)->message, "another thread"));
    cr_assert_eq(cubby_get(cubby, key(), NULL, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_send_get(cubby, key(), hear_reply, &heard, NULL), CUBBY_MISUSE);
    cr_assert_eq(cubby_poll(cubby, 0), -1);
    cubby_close(&same);
    cr_assert_not_null(same);
    peer_take(&peer, NULL);
    peer_answer(&peer, peer.request.msgid, "\x01", 1);
    pthread_join(other, NULL);
    cr_assert_eq(heard.calls, 1);
    cr_assert_eq(cubby_last_error(cubby)->status, CUBBY_OK);
    cr_assert_eq(cubby_poll(cubby, 0), 0);
}

/* ---- Around the handle ---------------------------------------------------------------------- */

Test(misuse, endpoints_by_which_nobody_is_reached_are_refused)
{
    const struct {
        const char *endpoint;
        int error;
    } bad[] = {
        {"", EINVAL},
        {"tcp://127.0.0.1", EINVAL},
        {"tcp://127.0.0.1:0", EINVAL},
        {"tcp://127.0.0.1:65536", EINVAL},
        {"tcp://127.0.0.1:99999999999999999999", EINVAL},
        {"tcp://127.0.0.1:7420 ", EINVAL},
        {"tcp://:7420", EINVAL},
        {"tcp://::1:7420", EINVAL},
        {"ipc://", EINVAL},
        {"ipc://@", EINVAL},
        {"inproc://cubby", EINVAL},
        {"udp://127.0.0.1:7420", EPROTONOSUPPORT},
        {"ws://127.0.0.1:7420", EPROTONOSUPPORT},
        {"pgm://eth0;239.0.0.1:7420", EPROTONOSUPPORT},
        {"TCP://127.0.0.1:7420", EPROTONOSUPPORT},
    };
    const struct cubby_subscriber subscriber = {.on_change = hear_change};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct cubby *other;
        struct cubby_options options = {.endpoint = bad[i].endpoint};
        cr_assert_eq(cubby_open(&other, &options), CUBBY_SYSTEM, "%s", bad[i].endpoint);
        cr_assert_eq(errno, bad[i].error, "%s: %d", bad[i].endpoint, errno);
        cr_assert_null(other);
        options = (struct cubby_options){.endpoint = peer.endpoint, .broadcast = bad[i].endpoint};
        cr_assert_eq(cubby_open(&other, &options), CUBBY_OK);
        cr_assert_eq(cubby_subscribe(other, key(), &subscriber, NULL, NULL, NULL), CUBBY_SYSTEM);
        cr_assert_not_null(strstr(cubby_last_error(other)->message, bad[i].endpoint));
        cubby_close(&other);
    }
}

Test(misuse, what_is_wrong_with_an_endpoint_is_told_before_it_is_opened)
{
    cr_assert_null(cubby_endpoint_fault(NULL));
    cr_assert_null(cubby_endpoint_fault("tcp://localhost:7420"));
    cr_assert_null(cubby_endpoint_fault("ipc:///run/cubby"));
    cr_assert_null(cubby_endpoint_fault("ipc://@cubby"));
    cr_assert_not_null(strstr(cubby_endpoint_fault("tcp://localhost"), "port from 1 to 65535"));
    cr_assert_null(cubby_endpoint_fault("tcp://[::1]:7420"));
    cr_assert_null(cubby_endpoint_fault("tcp://127.0.0.1:0;127.0.0.1:7420"));
    cr_assert_not_null(strstr(cubby_endpoint_fault("tcp://::1:1"), "brackets"));
    cr_assert_not_null(strstr(cubby_endpoint_fault("tcp://:1"), "host"));
    cr_assert_not_null(strstr(cubby_endpoint_fault("ws://localhost:1"), "tcp://HOST:PORT or ipc"));
    cr_assert_not_null(strstr(cubby_endpoint_fault(""), "tcp://HOST:PORT or ipc://PATH"));
}

Test(misuse, a_port_of_five_digits_and_a_shared_inproc_are_good)
{
    struct cubby *other;
    void *context = zmq_ctx_new();
    struct cubby_options options = {.endpoint = "tcp://127.0.0.1:65535"};
    cr_assert_eq(cubby_open(&other, &options), CUBBY_OK);
    cubby_close(&other);
    options = (struct cubby_options){.endpoint = "inproc://cubby", .zmq_context = context};
    cr_assert_eq(cubby_open(&other, &options), CUBBY_OK);
    cubby_close(&other);
    zmq_ctx_term(context);
}

static unsigned count_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void ignore_signal(int number)
{
    (void)number;
}

static void signal_every(suseconds_t us)
{
    const struct sigaction action = {.sa_handler = ignore_signal};
    const struct itimerval timer = {{0, us}, {0, us}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Without a peer, whose connections would come and go among the descriptors. */
Test(surroundings, signals_neither_fail_an_open_nor_make_a_close_leave_anything)
{
    enum { ROUNDS = 100, EVERY_US = 50 };
    const struct cubby_options options = {.endpoint = "ipc:///nonexistent/cubby"};
    unsigned before = count_descriptors();
    signal_every(EVERY_US);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct cubby *other;
        enum cubby_status status = cubby_open(&other, &options);
        cr_assert_eq(status, CUBBY_OK, "%s", zmq_strerror(errno));
        cubby_close(&other);
    }
    signal_every(0);
    cr_assert_eq(count_descriptors(), before);
}

/* In a child, so that the limit is its own; what it found is its exit status. */
static int open_with_descriptors(unsigned count)
{
    pid_t child = fork();
    if (child == 0) {
        struct cubby *other;
        unsigned used = count_descriptors() - 3; /* `.`, `..`, and the directory itself */
        const struct rlimit limit = {used + count, used + count};
        setrlimit(RLIMIT_NOFILE, &limit);
        enum cubby_status status = cubby_open(&other, NULL);
        cubby_close(&other);
        _exit((int)status);
    }
    int status = 0;
    waitpid(child, &status, 0);
    cr_assert(WIFEXITED(status), "%u descriptors: signal %d", count, WTERMSIG(status));
    return WEXITSTATUS(status);
}

Test(misuse, opening_without_descriptors_is_an_error)
{
    enum { ENOUGH = 20 };
    for (unsigned count = 0; count < ENOUGH; count++) {
        int status = open_with_descriptors(count);
        cr_assert(status == CUBBY_SYSTEM || status == CUBBY_OK, "%u: %d", count, status);
    }
    cr_assert_eq(open_with_descriptors(0), CUBBY_SYSTEM);
    cr_assert_eq(open_with_descriptors(ENOUGH), CUBBY_OK);
}

/* ---- Fork ----------------------------------------------------------------------------------- */

/* Each step that went as it should is a bit of the exit status. */
static int use_in_child(struct heard *heard)
{
    int good = 0;
    good |= cubby_ping(cubby, NULL) == CUBBY_MISUSE ? 1 : 0;
    good |= strstr(cubby_last_error(cubby)->message, "fork") != NULL ? 2 : 0;
    good |= cubby_poll(cubby, CUBBY_FOREVER) == -1 ? 4 : 0;
    cubby_close(&cubby);
    good |= cubby == NULL && heard->calls == 1 && heard->status == CUBBY_CLOSED ? 8 : 0;
    return good;
}

Test(misuse, a_child_by_fork_is_told_so_and_leaves_the_parents_handle_alone)
{
    enum { CHILD_S = 20 };
    struct heard heard = {0};
    struct pollfd news = {.fd = cubby_fd(cubby), .events = POLLIN};
    cubby_send_get(cubby, key(), hear_reply, &heard, NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD_S);
        _exit(use_in_child(&heard));
    }
    int status = 0;
    waitpid(child, &status, 0);
    cr_assert(WIFEXITED(status), "signal %d", WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), 15);
    peer_expect(&peer, cubby, WIRE_METHOD_GET);
    while (cubby_poll(cubby, 0) > 0)
        ;
    peer_answer(&peer, peer.request.msgid, "\xc0", 1);
    cr_assert_eq(poll(&news, 1, PEER_WAIT_MS), 1);
    peer_wait_for(cubby, &heard.calls, 1);
    cr_assert_eq(heard.status, CUBBY_OK);
}

/* ---- Callbacks ------------------------------------------------------------------------------ */

static void close_at_once(void *context, const struct cubby_reply *reply)
{
    hear_reply(context, reply);
    cubby_close(&cubby);
    cr_assert_not_null(cubby);
    assert_failure(CUBBY_MISUSE, "cubby_close");
}

Test(misuse, a_close_in_a_callback_says_that_it_did_nothing)
{
    struct heard heard = {0};
    cubby_send_get(cubby, key(), close_at_once, &heard, NULL);
    peer_take(&peer, cubby);
    peer_answer(&peer, peer.request.msgid, "\xc0", 1);
    peer_wait_for(cubby, &heard.calls, 1);
}

static void cancel_watch(void *context, const struct cubby_reply *reply)
{
    (void)reply;
    cubby_watch_cancel(context);
}

Test(misuse, a_watch_that_a_callback_cancels_is_not_waited_for_any_more)
{
    const struct cubby_call_options soon = {.timeout_ms = 20};
    struct cubby_watch *watch;
    struct cubby_watch_page *page;
    struct heard heard = {0};
    cr_assert_eq(cubby_watch_open(cubby, key(), &watch, NULL), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_WATCH);
    const char *opened = "\x83\xa5watch\x01\xa5"
                         "epoch\xa1"
                         "a\xa3seq\x05";
    peer_answer(&peer, peer.request.msgid, opened, strlen(opened));
    while (!cubby_watch_position(watch).live)
        cubby_poll(cubby, 10);
    struct cubby_watch *waited = watch;
    cubby_send_get(cubby, key(), cancel_watch, &watch, &soon);
    cr_assert_eq(cubby_watch_next(waited, &page, PEER_WAIT_MS), CUBBY_CLOSED);
    assert_failure(CUBBY_CLOSED, "cancelled");
    cr_assert_null(watch);
    cubby_send_get(cubby, key(), hear_reply, &heard, &soon);
    peer_wait_for(cubby, &heard.calls, 1);
}

static void open_more(void *context, const struct cubby_reply *reply)
{
    static const struct cubby_subscriber subscriber = {.on_change = hear_change};
    struct cubby_watch *watch;
    struct cubby_mirror *mirror;
    hear_reply(context, reply);
    cr_assert_eq(cubby_send_get(cubby, key(), hear_reply, context, NULL), CUBBY_CLOSED);
    cr_assert_eq(cubby_subscribe(cubby, key(), &subscriber, NULL, NULL, NULL), CUBBY_OK);
    cr_assert_eq(cubby_watch_open(cubby, key(), &watch, NULL), CUBBY_OK);
    cr_assert_eq(cubby_mirror_open(cubby, key(), NULL, NULL, &mirror, NULL), CUBBY_OK);
    cubby_watch_cancel(&watch);
}

/* What leaks, the sanitizer tells. */
Test(misuse, closing_ends_whatever_is_open_and_what_callbacks_open_meanwhile)
{
    static const struct cubby_subscriber subscriber = {.on_change = hear_change};
    struct heard heard = {0};
    struct cubby_watch *watch;
    struct cubby_mirror *mirror;
    cr_assert_eq(cubby_subscribe(cubby, key(), &subscriber, NULL, NULL, NULL), CUBBY_OK);
    cr_assert_eq(cubby_watch_open(cubby, key(), &watch, NULL), CUBBY_OK);
    cr_assert_eq(cubby_mirror_open(cubby, key(), NULL, NULL, &mirror, NULL), CUBBY_OK);
    cubby_send_get(cubby, key(), open_more, &heard, NULL);
    for (unsigned i = 0; i < 4; i++)
        peer_take(&peer, cubby);
    struct cubby *closed = cubby;
    cubby_close(&closed);
    cr_assert_eq(heard.calls, 1);
    cr_assert_eq(heard.status, CUBBY_CLOSED);
    cubby = NULL;
}

/* ---- A daemon that refuses, or is none ------------------------------------------------------- */

static void refuse(enum wire_code code)
{
    struct wire_error error;
    wire_fail(&error, code, "as the test says");
    peer_fail(&peer, peer.request.msgid, &error);
}

Test(misuse, a_subscription_tells_of_refusals_and_of_what_it_does_not_understand)
{
    const struct cubby_subscriber subscriber = {.on_change = hear_change, .on_error = hear_error};
    struct heard heard = {0};
    cr_assert_eq(cubby_subscribe(cubby, key(), &subscriber, &heard, NULL, NULL), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
    refuse(WIRE_UNAUTHORIZED);
    peer_wait_for(cubby, &heard.calls, 1);
    cr_assert_eq(heard.status, CUBBY_UNAUTHORIZED);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
    peer_answer(&peer, peer.request.msgid, "\x05", 1);
    peer_wait_for(cubby, &heard.calls, 2);
    cr_assert_eq(heard.status, CUBBY_PROTOCOL);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
}

Test(misuse, a_mirror_tells_of_a_greeting_that_it_does_not_understand)
{
    const struct cubby_mirror_events events = {.on_error = hear_error};
    struct heard heard = {0};
    struct cubby_mirror *mirror;
    cr_assert_eq(cubby_mirror_open(cubby, key(), &events, &heard, &mirror, NULL), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
    peer_answer(&peer, peer.request.msgid, "\x05", 1);
    peer_wait_for(cubby, &heard.calls, 1);
    cr_assert_eq(heard.status, CUBBY_PROTOCOL);
    peer_expect(&peer, cubby, WIRE_METHOD_HELLO);
}

Test(misuse, a_watch_that_has_ended_says_why_with_the_details)
{
    const struct cubby_watch_options options = {.credit = 5};
    struct cubby_watch *watch;
    struct cubby_watch_page *page;
    cr_assert_eq(cubby_watch_open(cubby, key(), &watch, &options), CUBBY_OK);
    peer_expect(&peer, cubby, WIRE_METHOD_WATCH);
    struct wire_error error;
    wire_fail(&error, WIRE_COMPACTED, "as the test says");
    error.has = WIRE_DETAIL_OLDEST | WIRE_DETAIL_SEQ;
    error.oldest = 7;
    error.seq = 9;
    peer_fail(&peer, peer.request.msgid, &error);
    cr_assert_eq(cubby_watch_next(watch, &page, PEER_WAIT_MS), CUBBY_COMPACTED);
    cr_assert_eq(cubby_last_error(cubby)->has, CUBBY_HAS_OLDEST | CUBBY_HAS_SEQ);
    cr_assert_eq(cubby_last_error(cubby)->oldest, 7);
    cr_assert_eq(cubby_last_error(cubby)->seq, 9);
    cr_assert_eq(cubby_watch_credit(watch, 1), CUBBY_COMPACTED);
}

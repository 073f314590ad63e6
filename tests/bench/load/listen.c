/*
 * Listeners to cubbyd's changes, for scripts/bench:
 *
 *     listen feed|watch PORT CONNECTIONS VALUE_SIZE
 *
 * `feed` subscribes to the broadcast, `watch` watches every key. Prints "ready" when all of them
 * listen, and one JSON document when nothing but heartbeats has come for QUIET_MS after the first
 * change: how many changes came, the least of any listener, and how long they took from the stamp
 * that load has put at the beginning of each value.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bindings/cli/histogram.h"
#include "wire/pack.h"
#include "wire/reply.h"
#include "zmtp.h"

enum { READ_SIZE = 256 << 10, MAX_EVENTS = 64, QUIET_MS = 2000, FIRST_MS = 60000, POLL_MS = 100 };

#define NS_PER_S   UINT64_C(1000000000)
#define MAX_CREDIT UINT64_C(0xffffffff)

struct listener {
    struct peer peer;
    bool asked; /* has sent what makes it a listener */
    bool topic; /* the next frame is the payload to a change's topic */
    uint64_t changes;
};

struct listening {
    bool watch;
    uint16_t port;
    uint64_t count;
    size_t value_size;
    struct listener *listeners;
    uint64_t answered; /* watches that were begun */
    uint64_t changes;
    uint64_t last_ns; /* when the last one came */
    int epoll;
    struct histogram lags;
};

static void give_up(const char *what)
{
    fprintf(stderr, "listen: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void flush(struct listener *listener)
{
    struct buffer *out = &listener->peer.out;
    if (out->size > 0 &&
        send(listener->peer.file, out->data, out->size, MSG_NOSIGNAL) != (ssize_t)out->size)
        give_up("send");
    buffer_clear(out);
}

/* [0, 1, "watch", [{credit: …}]], or a subscription to all changes. */
static void ask(const struct listening *all, struct listener *listener)
{
    struct buffer request = {0};
    listener->asked = true;
    if (all->watch) {
        wire_pack_request(&request, 1, "watch");
        wire_pack_array(&request, 1);
        wire_pack_map(&request, 1);
        wire_pack_text(&request, "credit");
        wire_pack_uint(&request, MAX_CREDIT);
    } else {
        buffer_append(&request, "\1k", 2);
    }
    zmtp_head(&listener->peer.out, request.size);
    buffer_append(&listener->peer.out, request.data, request.size);
    buffer_free(&request);
}

/* Sixteen hexadecimal digits. */
static uint64_t read_stamp(const uint8_t *at)
{
    uint64_t stamp = 0;
    for (unsigned i = 0; i < STAMP_SIZE; i++)
        stamp = stamp << 4 | (uint64_t)(at[i] <= '9' ? at[i] - '0' : at[i] - 'a' + 10);
    return stamp;
}

static void note(struct listening *all, struct listener *listener, const uint8_t *value,
                 uint64_t now)
{
    uint64_t stamp = read_stamp(value);
    listener->changes++;
    all->changes++;
    all->last_ns = now;
    histogram_add(&all->lags, now > stamp ? now - stamp : 0);
}

/* A broadcast change ends with the value and a nil. */
static void take_broadcast(struct listening *all, struct listener *listener,
                           const struct zmtp_frame *frame, uint64_t now)
{
    if (frame->more)
        listener->topic = frame->body.size > 0 && frame->body.data[0] == 'k';
    else if (listener->topic && frame->body.size > all->value_size)
        note(all, listener, frame->body.data + frame->body.size - 1 - all->value_size, now);
}

/* The changes of [watch, from, to, changes], each [seq, index, count, kind, key, value, expires].
 */
static void take_changes(struct listening *all, struct listener *listener, struct slice params,
                         uint64_t now)
{
    struct wire_cursor cursor = wire_cursor_of(params);
    struct slice skipped;
    struct slice value;
    uint64_t number;
    uint32_t count;
    if (wire_read_array(&cursor, &count) != 0 || wire_read_uint(&cursor, &number) != 0 ||
        wire_read_uint(&cursor, &number) != 0 || wire_read_uint(&cursor, &number) != 0 ||
        wire_read_array(&cursor, &count) != 0)
        give_up("a notification that is none");
    for (; count > 0; count--) {
        uint32_t fields;
        if (wire_read_array(&cursor, &fields) != 0 || wire_read_uint(&cursor, &number) != 0 ||
            wire_read_uint(&cursor, &number) != 0 || wire_read_uint(&cursor, &number) != 0 ||
            wire_read_str(&cursor, &skipped) != 0 || wire_read_bytes(&cursor, &skipped) != 0 ||
            wire_read_str(&cursor, &value) != 0 ||
            wire_read_object(&cursor, 1, &skipped, NULL) != 0 || value.size < STAMP_SIZE)
            give_up("a change that is none");
        note(all, listener, value.data, now);
    }
}

static void take_message(struct listening *all, struct listener *listener,
                         const struct zmtp_frame *frame, uint64_t now)
{
    struct wire_notification notification;
    if (!all->watch)
        take_broadcast(all, listener, frame, now);
    else if (wire_decode_notification(frame->body, &notification) != 0)
        all->answered++;
    else if (slice_equal(notification.method, slice_of_text("watch")))
        take_changes(all, listener, notification.params, now);
    else
        give_up("a watch has ended");
}

static void take_all(struct listening *all, struct listener *listener)
{
    struct peer *peer = &listener->peer;
    uint64_t now = now_ns();
    struct zmtp_frame frame;
    size_t size = 0;
    enum found found;
    while ((found = zmtp_find(peer, buffer_slice(&peer->in, peer->read), &frame, &size)) !=
           FOUND_PART) {
        peer->read += size;
        if (found == FOUND_REPLY)
            take_message(all, listener, &frame, now);
    }
    if (peer->ready && !listener->asked)
        ask(all, listener);
    flush(listener);
}

static void receive(struct listening *all, struct listener *listener)
{
    struct peer *peer = &listener->peer;
    if (peer->read > 0) {
        memmove(peer->in.data, peer->in.data + peer->read, peer->in.size - peer->read);
        peer->in.size -= peer->read;
        peer->read = 0;
    }
    if (!buffer_reserve(&peer->in, READ_SIZE))
        give_up("memory");
    ssize_t size = recv(peer->file, peer->in.data + peer->in.size,
                        peer->in.capacity - peer->in.size, MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        give_up("the connection has ended");
    if (size < 0)
        return;
    peer->in.size += (size_t)size;
    take_all(all, listener);
}

static void wait_once(struct listening *all)
{
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(all->epoll, events, MAX_EVENTS, POLL_MS);
    for (int i = 0; i < count; i++)
        receive(all, events[i].data.ptr);
}

static void open_listener(struct listening *all, struct listener *listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(all->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = listener};
    listener->peer.file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener->peer.file < 0 ||
        connect(listener->peer.file, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        epoll_ctl(all->epoll, EPOLL_CTL_ADD, listener->peer.file, &event) != 0)
        give_up("connect");
    zmtp_greet(&listener->peer, all->watch ? "DEALER" : "SUB");
    flush(listener);
}

static bool all_listen(const struct listening *all)
{
    for (uint64_t i = 0; i < all->count; i++)
        if (!all->listeners[i].asked)
            return false;
    return !all->watch || all->answered == all->count;
}

static void open_listeners(struct listening *all)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    all->epoll = epoll_create1(EPOLL_CLOEXEC);
    all->listeners = calloc(all->count, sizeof(struct listener));
    if (all->epoll < 0 || all->listeners == NULL)
        give_up("start");
    for (uint64_t i = 0; i < all->count; i++) {
        open_listener(all, &all->listeners[i]);
        wait_once(all);
    }
    while (!all_listen(all))
        wait_once(all);
}

static double quantile_us(const struct listening *all, double share)
{
    return (double)histogram_quantile(&all->lags, share) / 1e3;
}

static void report(const struct listening *all)
{
    uint64_t least = UINT64_MAX;
    for (uint64_t i = 0; i < all->count; i++)
        if (all->listeners[i].changes < least)
            least = all->listeners[i].changes;
    printf("{\"changes\":%" PRIu64 ",\"least\":%" PRIu64
           ",\"lag_us\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}}\n",
           all->changes, least, quantile_us(all, 0.5), quantile_us(all, 0.99),
           (double)all->lags.max / 1e3);
}

int main(int count, char **texts)
{
    if (count != 5 || (strcmp(texts[1], "feed") != 0 && strcmp(texts[1], "watch") != 0)) {
        fprintf(stderr, "usage: listen feed|watch PORT CONNECTIONS VALUE_SIZE\n");
        return 2;
    }
    struct listening *all = calloc(1, sizeof(*all));
    if (all == NULL)
        give_up("memory");
    all->watch = strcmp(texts[1], "watch") == 0;
    all->port = (uint16_t)strtoul(texts[2], NULL, 10);
    all->count = strtoull(texts[3], NULL, 10);
    all->value_size = strtoull(texts[4], NULL, 10);
    open_listeners(all);
    printf("ready\n");
    fflush(stdout);
    uint64_t begin = now_ns();
    while (now_ns() - (all->changes > 0 ? all->last_ns : begin) <
           (all->changes > 0 ? QUIET_MS : FIRST_MS) * UINT64_C(1000000))
        wait_once(all);
    report(all);
    for (uint64_t i = 0; i < all->count; i++) {
        close(all->listeners[i].peer.file);
        buffer_free(&all->listeners[i].peer.in);
        buffer_free(&all->listeners[i].peer.out);
    }
    free(all->listeners);
    free(all);
    return 0;
}

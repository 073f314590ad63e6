/*
 * Listeners to changes, for scripts/bench:
 *
 *     listen feed|watch|redis|etcd PORT CONNECTIONS VALUE_SIZE
 *
 * `feed` subscribes to cubbyd's broadcast, `watch` watches every key; the others do what comes
 * nearest to that. Prints "ready" when all of them listen, and one JSON document when nothing but
 * heartbeats has come for QUIET_MS after the first change: how many changes came, the least of any
 * listener, how many a second, and how long they took from the stamp that load has put at the
 * beginning of each value.
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

#include "listen.h"
#include "wire/pack.h"
#include "wire/reply.h"
#include "zmtp.h"

enum { READ_SIZE = 256 << 10, MAX_EVENTS = 64, QUIET_MS = 2000, FIRST_MS = 60000, POLL_MS = 100 };

#define NS_PER_S   UINT64_C(1000000000)
#define MAX_CREDIT UINT64_C(0xffffffff)

void listen_give_up(const char *what)
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
        listen_give_up("send");
    buffer_clear(out);
}

/* [0, 1, "watch", [{credit: …}]] */
static void ask_watch(struct listener *listener)
{
    struct buffer request = {0};
    wire_pack_request(&request, 1, "watch");
    wire_pack_array(&request, 1);
    wire_pack_map(&request, 1);
    wire_pack_text(&request, "credit");
    wire_pack_uint(&request, MAX_CREDIT);
    zmtp_head(&listener->peer.out, request.size);
    buffer_append(&listener->peer.out, request.data, request.size);
    buffer_free(&request);
}

/* A subscription to all changes. Nothing says when it holds: a moment later. */
static void ask_feed(struct listener *listener)
{
    zmtp_head(&listener->peer.out, 2);
    buffer_append(&listener->peer.out, "\1k", 2);
    listener->listens = true;
}

/* Sixteen hexadecimal digits. */
static uint64_t read_stamp(const uint8_t *at)
{
    uint64_t stamp = 0;
    for (unsigned i = 0; i < STAMP_SIZE; i++)
        stamp = stamp << 4 | (uint64_t)(at[i] <= '9' ? at[i] - '0' : at[i] - 'a' + 10);
    return stamp;
}

void listen_note(struct listening *all, struct listener *listener, const uint8_t *stamp,
                 uint64_t now)
{
    if (all->changes == 0)
        all->first_ns = now;
    listener->changes++;
    all->changes++;
    all->last_ns = now;
    if (stamp == NULL)
        return;
    uint64_t sent = read_stamp(stamp);
    histogram_add(&all->lags, now > sent ? now - sent : 0);
}

/* A broadcast change ends with the value and a nil. */
static void take_broadcast(struct listening *all, struct listener *listener,
                           const struct zmtp_frame *frame, uint64_t now)
{
    if (frame->more)
        listener->topic = frame->body.size > 0 && frame->body.data[0] == 'k';
    else if (listener->topic && frame->body.size > all->value_size)
        listen_note(all, listener, frame->body.data + frame->body.size - 1 - all->value_size, now);
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
        listen_give_up("a notification that is none");
    for (; count > 0; count--) {
        uint32_t fields;
        if (wire_read_array(&cursor, &fields) != 0 || wire_read_uint(&cursor, &number) != 0 ||
            wire_read_uint(&cursor, &number) != 0 || wire_read_uint(&cursor, &number) != 0 ||
            wire_read_str(&cursor, &skipped) != 0 || wire_read_bytes(&cursor, &skipped) != 0 ||
            wire_read_str(&cursor, &value) != 0 ||
            wire_read_object(&cursor, 1, &skipped, NULL) != 0 || value.size < STAMP_SIZE)
            listen_give_up("a change that is none");
        listen_note(all, listener, value.data, now);
    }
}

static void take_reply(struct listening *all, struct listener *listener,
                       const struct zmtp_frame *frame, uint64_t now)
{
    struct wire_notification notification;
    if (wire_decode_notification(frame->body, &notification) != 0)
        listener->listens = true;
    else if (slice_equal(notification.method, slice_of_text("watch")))
        take_changes(all, listener, notification.params, now);
    else
        listen_give_up("a watch has ended");
}

/* What comes over ZMTP: frames for `take`, and before them a handshake, after which `ask` follows.
 */
static void take_zmtp(struct listening *all, struct listener *listener, uint64_t now,
                      void (*take)(struct listening *, struct listener *, const struct zmtp_frame *,
                                   uint64_t),
                      void (*ask)(struct listener *))
{
    struct peer *peer = &listener->peer;
    struct zmtp_frame frame;
    size_t size = 0;
    enum found found;
    while ((found = zmtp_find(peer, buffer_slice(&peer->in, peer->read), &frame, &size)) !=
           FOUND_PART) {
        peer->read += size;
        if (found == FOUND_REPLY)
            take(all, listener, &frame, now);
    }
    if (!peer->ready || listener->asked)
        return;
    listener->asked = true;
    ask(listener);
}

static void take_feed(struct listening *all, struct listener *listener, uint64_t now)
{
    take_zmtp(all, listener, now, take_broadcast, ask_feed);
}

static void take_watch(struct listening *all, struct listener *listener, uint64_t now)
{
    take_zmtp(all, listener, now, take_reply, ask_watch);
}

static void greet_feed(struct listener *listener)
{
    zmtp_greet(&listener->peer, "SUB");
}

static void greet_watch(struct listener *listener)
{
    zmtp_greet(&listener->peer, "DEALER");
}

static const struct tongue tongue_feed = {.name = "feed", .greet = greet_feed, .take = take_feed};
static const struct tongue tongue_watch = {
    .name = "watch", .greet = greet_watch, .take = take_watch};

static void receive(struct listening *all, struct listener *listener)
{
    struct peer *peer = &listener->peer;
    if (peer->read > 0) {
        memmove(peer->in.data, peer->in.data + peer->read, peer->in.size - peer->read);
        peer->in.size -= peer->read;
        peer->read = 0;
    }
    if (!buffer_reserve(&peer->in, READ_SIZE))
        listen_give_up("memory");
    ssize_t size = recv(peer->file, peer->in.data + peer->in.size,
                        peer->in.capacity - peer->in.size, MSG_DONTWAIT);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        listen_give_up("the connection has ended");
    if (size < 0)
        return;
    peer->in.size += (size_t)size;
    all->tongue->take(all, listener, now_ns());
    flush(listener);
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
        listen_give_up("connect");
    all->tongue->greet(listener);
    flush(listener);
}

static bool all_listen(const struct listening *all)
{
    for (uint64_t i = 0; i < all->count; i++)
        if (!all->listeners[i].listens)
            return false;
    return true;
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
        listen_give_up("start");
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
    double seconds = (double)(all->last_ns - all->first_ns) / 1e9;
    printf("{\"changes\":%" PRIu64 ",\"least\":%" PRIu64 ",\"changes_per_second\":%.1f",
           all->changes, least, seconds > 0 ? (double)all->changes / seconds : 0);
    if (all->lags.count > 0)
        printf(",\"lag_us\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}", quantile_us(all, 0.5),
               quantile_us(all, 0.99), (double)all->lags.max / 1e3);
    printf("}\n");
}

static const struct tongue *find_tongue(const char *name)
{
    static const struct tongue *const tongues[] = {&tongue_feed, &tongue_watch, &tongue_redis,
                                                   &tongue_etcd};
    for (size_t i = 0; i < sizeof(tongues) / sizeof(tongues[0]); i++)
        if (strcmp(tongues[i]->name, name) == 0)
            return tongues[i];
    return NULL;
}

int main(int count, char **texts)
{
    if (count != 5 || find_tongue(texts[1]) == NULL) {
        fprintf(stderr, "usage: listen feed|watch|redis|etcd PORT CONNECTIONS VALUE_SIZE\n");
        return 2;
    }
    struct listening *all = calloc(1, sizeof(*all));
    if (all == NULL)
        listen_give_up("memory");
    all->tongue = find_tongue(texts[1]);
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
        buffer_free(&all->listeners[i].text);
    }
    free(all->listeners);
    free(all);
    return 0;
}

/*
 *     load PROTOCOL WORKLOAD --port N [OPTION N]...
 *
 * Prints one JSON document: the rate, latencies from a request's write to its reply, and CPU time.
 * An operation of `batch` is one put; of `work` a reserve and its ack; of `rmw` (YCSB F) every
 * second is a get and a put of the same key.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bindings/cli/distribution.h"
#include "bindings/cli/histogram.h"

enum { READ_SIZE = 64 << 10, MAX_EVENTS = 256, WAIT_MS = 20000, PERCENT = 100, STEPS = 2 };
enum { CONNECT_PAUSE_MS = 10, CONNECT_TRIES = 500 };

#define NS_PER_S UINT64_C(1000000000)

enum workload { GET, PUT, MIXED, BATCH, SCAN, RMW, PUSH, POP, WORK, WORKLOADS };

enum setting {
    PORT,
    CONNECTIONS,
    PIPELINE,
    KEYS,
    VALUE_SIZE,
    SECONDS,
    REQUESTS,
    READS,
    BATCH_SIZE,
    ZIPFIAN,
    SEED,
    OPTIONS
};

static const struct setting_row {
    const char *name;
    uint64_t otherwise;
} settings[OPTIONS] = {
    [PORT] = {"port", 0},
    [CONNECTIONS] = {"connections", 50},
    [PIPELINE] = {"pipeline", 16},
    [KEYS] = {"keys", 1000000},
    [VALUE_SIZE] = {"value-size", 100},
    [SECONDS] = {"seconds", 0},
    [REQUESTS] = {"requests", UINT64_MAX},
    [READS] = {"reads", 50},
    [BATCH_SIZE] = {"batch-size", 100},
    [ZIPFIAN] = {"zipfian", 0},
    [SEED] = {"seed", 1},
};

/* One of the requests that a connection has in flight: its actions, one after the other. */
struct place {
    enum action actions[STEPS];
    uint64_t key;
    struct job job;
};

struct connection {
    struct peer peer;
    struct place *places;
    uint64_t begun;    /* places of this round that have an operation */
    unsigned step;     /* the action that is being carried out */
    uint64_t next;     /* the place whose reply comes next */
    uint64_t begin_ns; /* of this round */
    uint32_t events;   /* that epoll watches for */
};

struct load {
    const struct protocol *protocol;
    enum workload workload;
    uint64_t options[OPTIONS];
    struct material material;
    struct prepared messages[ACTIONS];
    struct distribution keys;
    struct connection *connections;
    uint64_t running;
    int epoll;
    uint64_t random;
    uint64_t left; /* operations that are still to be begun */
    uint64_t until_ns;
    uint64_t ended_ns;
    uint64_t inserted;

    uint64_t operations;
    uint64_t errors;
    uint64_t empty; /* reserves and pops that found no job */
    struct histogram latencies;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void give_up(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- Requests ------------------------------------------------------------------------------- */

void prepared_note(struct buffer *places, const struct buffer *bytes)
{
    buffer_append(places, &bytes->size, sizeof(bytes->size));
}

static void write_digits(uint8_t *at, uint64_t number)
{
    for (int i = KEY_DIGITS - 1; i >= 0; i--, number /= 10)
        at[i] = (uint8_t)('0' + number % 10);
}

static void write_stamp(uint8_t *at, uint64_t number)
{
    for (int i = STAMP_SIZE - 1; i >= 0; i--, number >>= 4)
        at[i] = (uint8_t) "0123456789abcdef"[number & 15];
}

static uint64_t next_key(struct load *load)
{
    return distribution_next(&load->keys, &load->random);
}

/* A copy of the prepared message with keys and stamps of its own. */
static void append_message(struct load *load, const struct prepared *message, uint64_t key,
                           uint64_t now, struct buffer *out)
{
    const size_t *keys = (const void *)message->keys.data;
    const size_t *stamps = (const void *)message->stamps.data;
    size_t start = out->size;
    buffer_append(out, message->bytes.data, message->bytes.size);
    if (out->failed)
        give_up("memory");
    for (size_t i = 0; i < message->keys.size / sizeof(size_t); i++)
        write_digits(out->data + start + keys[i], i == 0 ? key : next_key(load));
    for (size_t i = 0; i < message->stamps.size / sizeof(size_t); i++)
        write_stamp(out->data + start + stamps[i], now);
}

static void append_request(struct load *load, struct connection *connection,
                           const struct place *place, uint64_t now)
{
    enum action action = place->actions[connection->step];
    if (action == ACTION_ACK)
        load->protocol->ack(&load->material, &place->job, &connection->peer.out);
    else
        append_message(load, &load->messages[action], place->key, now, &connection->peer.out);
}

static void choose(struct load *load, struct place *place)
{
    static const enum action first[WORKLOADS] = {
        [GET] = ACTION_GET,   [PUT] = ACTION_PUT,      [BATCH] = ACTION_BATCH,
        [SCAN] = ACTION_SCAN, [RMW] = ACTION_GET,      [PUSH] = ACTION_PUSH,
        [POP] = ACTION_POP,   [WORK] = ACTION_RESERVE, [MIXED] = ACTION_GET,
    };
    bool read = distribution_random(&load->random) % PERCENT < load->options[READS];
    *place = (struct place){.actions = {first[load->workload]}};
    place->key = next_key(load);
    if (load->workload == WORK)
        place->actions[1] = ACTION_ACK;
    if (load->workload == RMW && !read)
        place->actions[1] = ACTION_PUT;
    if (load->workload == MIXED && !read)
        place->actions[0] = ACTION_PUT;
    if (load->workload == SCAN && !read) {
        place->actions[0] = ACTION_INSERT;
        place->key = load->options[KEYS] + load->inserted++;
    }
}

/* ---- Rounds --------------------------------------------------------------------------------- */

static void watch(struct load *load, struct connection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (connection->events != events &&
        epoll_ctl(load->epoll, EPOLL_CTL_MOD, connection->peer.file, &event) != 0)
        give_up("epoll");
    connection->events = events;
}

static void send_out(struct load *load, struct connection *connection)
{
    struct peer *peer = &connection->peer;
    while (peer->written < peer->out.size) {
        ssize_t sent = send(peer->file, peer->out.data + peer->written,
                            peer->out.size - peer->written, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(load, connection, EPOLLIN | EPOLLOUT);
            return;
        }
        if (sent < 0)
            give_up("send");
        peer->written += (size_t)sent;
    }
    buffer_clear(&peer->out);
    peer->written = 0;
    watch(load, connection, EPOLLIN);
}

/* The next place from `from` on that has something to do in this step. */
static uint64_t find_place(const struct connection *connection, uint64_t from)
{
    while (from < connection->begun &&
           connection->places[from].actions[connection->step] == ACTION_NONE)
        from++;
    return from;
}

static void send_step(struct load *load, struct connection *connection)
{
    connection->next = find_place(connection, 0);
    for (uint64_t i = connection->next; i < connection->begun; i = find_place(connection, i + 1))
        append_request(load, connection, &connection->places[i], connection->begin_ns);
    send_out(load, connection);
}

static void begin_round(struct load *load, struct connection *connection, uint64_t now)
{
    uint64_t most = load->options[PIPELINE];
    connection->begun = now >= load->until_ns ? 0 : most < load->left ? most : load->left;
    load->left -= connection->begun;
    if (connection->begun == 0) {
        load->running--;
        return;
    }
    connection->step = 0;
    connection->begin_ns = now;
    for (uint64_t i = 0; i < connection->begun; i++)
        choose(load, &connection->places[i]);
    send_step(load, connection);
}

static void end_operation(struct load *load, const struct connection *connection, uint64_t now)
{
    load->operations += load->workload == BATCH ? load->options[BATCH_SIZE] : 1;
    load->ended_ns = now;
    histogram_add(&load->latencies, now - connection->begin_ns);
}

static void take_reply(struct load *load, struct connection *connection, enum found found,
                       uint64_t now)
{
    struct place *place = &connection->places[connection->next];
    enum action action = place->actions[connection->step];
    bool fetch = action == ACTION_RESERVE || action == ACTION_POP;
    if (found == FOUND_ERROR || (fetch && !place->job.taken)) {
        load->errors += found == FOUND_ERROR;
        load->empty += found != FOUND_ERROR;
        place->actions[1] = ACTION_NONE;
    } else if (connection->step + 1 == STEPS || place->actions[1] == ACTION_NONE) {
        end_operation(load, connection, now);
    }
    connection->next = find_place(connection, connection->next + 1);
}

/* All replies of a step are there: the next step, or the next round. */
static void go_on(struct load *load, struct connection *connection, uint64_t now)
{
    if (++connection->step < STEPS && find_place(connection, 0) < connection->begun)
        send_step(load, connection);
    else
        begin_round(load, connection, now);
}

static void take_replies(struct load *load, struct connection *connection, uint64_t now)
{
    struct peer *peer = &connection->peer;
    bool waiting = peer->ready && connection->begun > 0;
    for (;;) {
        size_t size = 0;
        struct place *place = waiting ? &connection->places[connection->next] : NULL;
        struct job none;
        enum found found =
            load->protocol->find(peer, buffer_slice(&peer->in, peer->read),
                                 place != NULL ? place->actions[connection->step] : ACTION_NONE,
                                 &size, place != NULL ? &place->job : &none);
        if (found == FOUND_PART)
            break;
        if (found == FOUND_NONSENSE || (found != FOUND_OTHER && place == NULL))
            give_up("reply that nobody waits for");
        peer->read += size;
        if (found == FOUND_OTHER)
            continue;
        take_reply(load, connection, found, now);
        waiting = connection->next < connection->begun;
    }
    if (peer->ready && connection->begun > 0 && connection->next == connection->begun)
        go_on(load, connection, now);
    else if (peer->out.size > 0)
        send_out(load, connection);
}

static void receive(struct load *load, struct connection *connection)
{
    struct peer *peer = &connection->peer;
    if (peer->read == peer->in.size) {
        buffer_clear(&peer->in);
    } else if (peer->read > 0) {
        memmove(peer->in.data, peer->in.data + peer->read, peer->in.size - peer->read);
        peer->in.size -= peer->read;
    }
    peer->read = 0;
    if (!buffer_reserve(&peer->in, READ_SIZE))
        give_up("memory");
    ssize_t size =
        recv(peer->file, peer->in.data + peer->in.size, peer->in.capacity - peer->in.size, 0);
    if (size <= 0 && errno != EAGAIN)
        give_up(size == 0 ? "the server closed a connection" : "recv");
    if (size <= 0)
        return;
    peer->in.size += (size_t)size;
    take_replies(load, connection, now_ns());
}

static bool all_ready(const struct load *load)
{
    for (uint64_t i = 0; i < load->options[CONNECTIONS]; i++)
        if (!load->connections[i].peer.ready)
            return false;
    return true;
}

static void take_events(struct load *load, int wait_ms)
{
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(load->epoll, events, MAX_EVENTS, wait_ms);
    if (count == 0 && wait_ms > 0)
        give_up("no reply for 20 seconds");
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if ((events[i].events & EPOLLOUT) != 0)
            send_out(load, connection);
        if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
            receive(load, connection);
    }
}

/* ---- Connections ---------------------------------------------------------------------------- */

static void raise_open_files(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* A server that is only starting is waited for. */
static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timespec pause = {.tv_nsec = CONNECT_PAUSE_MS * 1000000L};
    for (int tries = CONNECT_TRIES; tries > 0; tries--) {
        int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (file < 0 || connect(file, (struct sockaddr *)&address, sizeof(address)) == 0)
            return file;
        close(file);
        nanosleep(&pause, NULL);
    }
    return -1;
}

static void open_connection(struct load *load, struct connection *connection)
{
    struct peer *peer = &connection->peer;
    const int yes = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    peer->file = connect_to((uint16_t)load->options[PORT]);
    if (peer->file < 0 ||
        setsockopt(peer->file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0 ||
        fcntl(peer->file, F_SETFL, O_NONBLOCK) != 0 ||
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, peer->file, &event) != 0)
        give_up("connect");
    connection->events = EPOLLIN;
    connection->places = calloc(load->options[PIPELINE], sizeof(struct place));
    if (connection->places == NULL)
        give_up("memory");
    load->protocol->greet(peer);
    send_out(load, connection);
}

static void open_connections(struct load *load)
{
    uint64_t count = load->options[CONNECTIONS];
    raise_open_files();
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->connections = calloc(count, sizeof(struct connection));
    if (load->epoll < 0 || load->connections == NULL)
        give_up("start");
    for (uint64_t i = 0; i < count; i++) {
        open_connection(load, &load->connections[i]);
        take_events(load, 0); /* a server may ask in between whether we are there */
    }
    while (!all_ready(load))
        take_events(load, WAIT_MS);
}

static void close_connections(struct load *load)
{
    for (uint64_t i = 0; i < load->options[CONNECTIONS]; i++) {
        struct connection *connection = &load->connections[i];
        close(connection->peer.file);
        buffer_free(&connection->peer.in);
        buffer_free(&connection->peer.out);
        free(connection->places);
    }
    free(load->connections);
    close(load->epoll);
}

/* ---- The plan and the report ---------------------------------------------------------------- */

static void refuse(const char *what)
{
    fprintf(stderr,
            "load: %s\nusage: load cubby|redis|streams|beanstalk "
            "get|put|mixed|batch|scan|rmw|push|pop|work --port N [OPTION N]...\noptions:",
            what);
    for (unsigned i = 0; i < OPTIONS; i++)
        fprintf(stderr, " --%s", settings[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

static void read_options(struct load *load, int count, char **texts)
{
    struct option rows[OPTIONS + 1] = {0};
    for (int i = 0; i < OPTIONS; i++) {
        rows[i] = (struct option){.name = settings[i].name, .has_arg = 1, .val = i};
        load->options[i] = settings[i].otherwise;
    }
    for (int i; (i = getopt_long(count, texts, "", rows, NULL)) >= 0;) {
        if (i >= OPTIONS)
            refuse("no such option");
        load->options[i] = strtoull(optarg, NULL, 10);
    }
    if (load->options[VALUE_SIZE] < STAMP_SIZE || load->options[CONNECTIONS] == 0 ||
        load->options[PIPELINE] == 0 || load->options[KEYS] == 0)
        refuse("out of range");
}

static void read_names(struct load *load, const char *protocol, const char *workload)
{
    static const struct protocol *const protocols[] = {
        &protocol_cubby, &protocol_redis, &protocol_streams, &protocol_beanstalk, &protocol_etcd};
    static const char *const workloads[WORKLOADS] = {
        [GET] = "get", [PUT] = "put",   [MIXED] = "mixed", [BATCH] = "batch", [SCAN] = "scan",
        [RMW] = "rmw", [PUSH] = "push", [POP] = "pop",     [WORK] = "work"};
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
        if (strcmp(protocols[i]->name, protocol) == 0)
            load->protocol = protocols[i];
    load->workload = WORKLOADS;
    for (unsigned i = 0; i < WORKLOADS; i++)
        if (strcmp(workloads[i], workload) == 0)
            load->workload = (enum workload)i;
    if (load->protocol == NULL || load->workload == WORKLOADS)
        refuse("no such protocol or workload");
}

static void prepare_action(struct load *load, enum action action)
{
    if (action != ACTION_NONE && action != ACTION_ACK &&
        !load->protocol->prepare(action, &load->material, &load->messages[action]))
        refuse("this protocol has no such workload");
}

static void prepare(struct load *load)
{
    static const enum action actions[WORKLOADS][STEPS] = {
        [GET] = {ACTION_GET},
        [PUT] = {ACTION_PUT},
        [MIXED] = {ACTION_GET, ACTION_PUT},
        [BATCH] = {ACTION_BATCH},
        [SCAN] = {ACTION_SCAN, ACTION_INSERT},
        [RMW] = {ACTION_GET, ACTION_PUT},
        [PUSH] = {ACTION_PUSH},
        [POP] = {ACTION_POP},
        [WORK] = {ACTION_RESERVE},
    };
    size_t size = load->options[VALUE_SIZE];
    char *value = malloc(size);
    if (value == NULL)
        give_up("memory");
    for (size_t i = 0; i < size; i++)
        value[i] = "abcdefghijklmnopqrstuvwxyz"[i % 26];
    load->material = (struct material){
        .queue = "jobs", .value = slice_of(value, size), .batch_size = load->options[BATCH_SIZE]};
    for (unsigned i = 0; i < STEPS; i++)
        prepare_action(load, actions[load->workload][i]);
    free(value);
    distribution_init(&load->keys, load->options[KEYS], load->options[ZIPFIAN] != 0);
}

static uint64_t cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static double quantile_us(const struct load *load, double share)
{
    return (double)histogram_quantile(&load->latencies, share) / 1e3;
}

static void report(const struct load *load, uint64_t took_ns, uint64_t used_ns)
{
    double seconds = (double)took_ns / 1e9;
    double operations = load->operations > 0 ? (double)load->operations : 1;
    printf("{\"operations\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"empty\":%" PRIu64
           ",\"seconds\":%.6f,\"operations_per_second\":%.1f,",
           load->operations, load->errors, load->empty, seconds,
           took_ns > 0 ? (double)load->operations / seconds : 0);
    printf("\"latency_us\":{\"p50\":%.1f,\"p99\":%.1f,\"p99.9\":%.1f,\"max\":%.1f},",
           quantile_us(load, 0.5), quantile_us(load, 0.99), quantile_us(load, 0.999),
           (double)load->latencies.max / 1e3);
    printf("\"own_cpu_us\":%.3f}\n", (double)used_ns / 1e3 / operations);
}

static void run(struct load *load)
{
    open_connections(load);
    uint64_t used = cpu_ns();
    uint64_t begin = now_ns();
    load->left = load->options[REQUESTS];
    load->until_ns =
        load->options[SECONDS] > 0 ? begin + load->options[SECONDS] * NS_PER_S : UINT64_MAX;
    load->running = load->options[CONNECTIONS];
    for (uint64_t i = 0; i < load->options[CONNECTIONS]; i++)
        begin_round(load, &load->connections[i], now_ns());
    while (load->running > 0)
        take_events(load, WAIT_MS);
    report(load, load->ended_ns - begin, cpu_ns() - used);
    close_connections(load);
}

int main(int count, char **texts)
{
    struct load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        give_up("memory");
    read_options(load, count, texts);
    if (optind + 2 != count)
        refuse("a protocol and a workload are needed");
    read_names(load, texts[optind], texts[optind + 1]);
    if (load->options[SECONDS] == 0 && load->options[REQUESTS] == UINT64_MAX)
        refuse("--seconds or --requests is needed");
    load->random = load->options[SEED];
    signal(SIGPIPE, SIG_IGN);
    prepare(load);
    run(load);
    for (unsigned i = 0; i < ACTIONS; i++) {
        buffer_free(&load->messages[i].bytes);
        buffer_free(&load->messages[i].keys);
        buffer_free(&load->messages[i].stamps);
    }
    free(load);
    return 0;
}

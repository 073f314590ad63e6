#include "daemon/sockets.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "daemon/interposed.h"
#include "wire/limits.h"

/* I/O threads, as ZMQ_AFFINITY has them. */
enum { REQUESTS_THREAD = 1 << 0, BROADCAST_THREAD = 1 << 1, IO_THREADS = 2 };

static int set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value);
}

struct option {
    int name;
    int value;
};

static int set_ints(void *socket, const struct option *options, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (set_int(socket, options[i].name, options[i].value) != 0)
            return -1;
    return 0;
}

static int set_common(void *socket, uint64_t io_thread, int64_t max_message)
{
    static const struct option options[] = {
        {ZMQ_LINGER, SOCKETS_LINGER_MS},
        {ZMQ_HANDSHAKE_IVL, SOCKETS_HANDSHAKE_MS},
        {ZMQ_TCP_MAXRT, SOCKETS_STALL_MS},
        {ZMQ_BACKLOG, SOCKETS_BACKLOG},
    };
    if (set_ints(socket, options, sizeof options / sizeof options[0]) != 0)
        return -1;
    if (zmq_setsockopt(socket, ZMQ_AFFINITY, &io_thread, sizeof io_thread) != 0)
        return -1;
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_message, sizeof max_message);
}

/* libzmq draws the routing ids of a ROUTER from rand(), which it leaves unseeded. */
static int seed_routing_ids(void)
{
    unsigned seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return -1;
    srand(seed); // NOLINT(cert-msc32-c,cert-msc51-cpp): random by getrandom
    return 0;
}

static void *close_failed(void *socket)
{
    int reason = errno;
    zmq_close(socket);
    errno = reason;
    return NULL;
}

void *sockets_new_context(void)
{
    interposed_begin();
    void *context = zmq_ctx_new();
    if (context != NULL && zmq_ctx_set(context, ZMQ_IO_THREADS, IO_THREADS) == 0)
        return context;
    int reason = errno;
    if (context != NULL)
        zmq_ctx_term(context);
    errno = reason;
    return NULL;
}

/* No heartbeats: behind the high-water mark the answer to a ping is not read in time. */
void *sockets_new_requests(void *zmq_context)
{
    static const struct option options[] = {
        {ZMQ_SNDHWM, SOCKETS_SEND_HWM},
        {ZMQ_RCVHWM, SOCKETS_RECEIVE_HWM},
        {ZMQ_ROUTER_MANDATORY, 1},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, SOCKETS_KEEPALIVE_IDLE_S},
        {ZMQ_TCP_KEEPALIVE_INTVL, SOCKETS_KEEPALIVE_INTERVAL_S},
        {ZMQ_TCP_KEEPALIVE_CNT, SOCKETS_KEEPALIVE_COUNT},
    };
    if (seed_routing_ids() != 0)
        return NULL;
    void *socket = zmq_socket(zmq_context, ZMQ_ROUTER);
    if (socket == NULL)
        return NULL;
    if (set_common(socket, REQUESTS_THREAD, WIRE_MAX_MESSAGE) != 0 ||
        set_ints(socket, options, sizeof options / sizeof options[0]) != 0)
        return close_failed(socket);
    return socket;
}

/* It has heartbeats, so it always reads; subscriptions are kept in any case. */
void *sockets_new_broadcast(void *zmq_context)
{
    static const struct option options[] = {
        {ZMQ_SNDHWM, SOCKETS_PUBLISH_HWM},
        {ZMQ_RCVHWM, 0},
        {ZMQ_XPUB_NODROP, 1},
        {ZMQ_HEARTBEAT_IVL, SOCKETS_HEARTBEAT_MS},
        {ZMQ_HEARTBEAT_TIMEOUT, SOCKETS_HEARTBEAT_TIMEOUT_MS},
        {ZMQ_HEARTBEAT_TTL, SOCKETS_HEARTBEAT_TTL_MS},
    };
    void *socket = zmq_socket(zmq_context, ZMQ_XPUB);
    if (socket == NULL)
        return NULL;
    if (set_common(socket, BROADCAST_THREAD, WIRE_MAX_SUBSCRIPTION) != 0 ||
        set_ints(socket, options, sizeof options / sizeof options[0]) != 0 ||
        zmq_setsockopt(socket, ZMQ_XPUB_WELCOME_MSG, "w", 1) != 0)
        return close_failed(socket);
    return socket;
}

static void append(char *text, const char *endpoint)
{
    size_t size = strlen(text);
    snprintf(text + size, SOCKETS_MAX_ENDPOINTS_TEXT - size, "%s%s", size > 0 ? ", " : "",
             endpoint);
}

static const char ipc_scheme[] = "ipc://";

/* Whether somebody listens there; one whose backlog is full does. */
static bool is_served(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return false;
    strcpy(address.sun_path, path);
    int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (file < 0)
        return false;
    bool served =
        connect(file, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN;
    close(file);
    return served;
}

/*
 * libzmq removes what has the name of an ipc:// endpoint, be it another daemon's, which nobody
 * could reach any more, or no socket at all. A socket that nobody serves was left by a process that
 * was killed. 0, or -1 with errno.
 */
static int check_path(const char *endpoint)
{
    struct stat status;
    const char *path = endpoint + sizeof ipc_scheme - 1;
    if (strncmp(endpoint, ipc_scheme, sizeof ipc_scheme - 1) != 0 || path[0] == '@' ||
        lstat(path, &status) != 0)
        return 0;
    errno = !S_ISSOCK(status.st_mode) ? EEXIST : is_served(path) ? EADDRINUSE : 0;
    return errno == 0 ? 0 : -1;
}

static int bind_one(void *socket, const char *endpoint)
{
    bool ipv6 = strchr(endpoint, '[') != NULL;
    if (check_path(endpoint) != 0 || set_int(socket, ZMQ_IPV6, ipv6) != 0)
        return -1;
    return zmq_bind(socket, endpoint);
}

int sockets_bind(void *socket, const struct endpoints *endpoints, const char *option, char *bound,
                 char *error, size_t error_size)
{
    char name[SOCKETS_MAX_ENDPOINTS_TEXT / CONFIG_MAX_ENDPOINTS];
    for (int i = 0; i < endpoints->count; i++) {
        size_t size = sizeof name;
        if (bind_one(socket, endpoints->names[i]) != 0 ||
            zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, name, &size) != 0) {
            snprintf(error, error_size, "cannot serve %s: %s; give another one with --%s",
                     endpoints->names[i],
                     errno == ENODEV ? "no address of this machine" : zmq_strerror(errno), option);
            return -1;
        }
        append(bound, name);
    }
    return 0;
}

bool sockets_is_public(const char *endpoint)
{
    return strncmp(endpoint, "tcp://", 6) == 0 && strncmp(endpoint, "tcp://127.", 10) != 0 &&
           strncmp(endpoint, "tcp://localhost:", 16) != 0 &&
           strncmp(endpoint, "tcp://[::1]:", 12) != 0;
}

#include "daemon/connections.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { EVENTS = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_MONITOR_STOPPED };

struct connections {
    void *socket;
    void *monitor;
    pthread_t thread;
    atomic_llong count;
};

/* An event is two frames, of which the first begins with its number in 16 bits; -1 at the end. */
static int next_event(void *monitor)
{
    uint8_t frame[6];
    char endpoint[1];
    uint16_t event;
    if (zmq_recv(monitor, frame, sizeof frame, 0) < 0 ||
        zmq_recv(monitor, endpoint, sizeof endpoint, 0) < 0)
        return errno == EINTR ? 0 : -1;
    memcpy(&event, frame, sizeof event);
    return event;
}

static void *read_events(void *argument)
{
    struct connections *connections = argument;
    int event;
    while ((event = next_event(connections->monitor)) >= 0 && event != ZMQ_EVENT_MONITOR_STOPPED) {
        if (event == ZMQ_EVENT_ACCEPTED)
            atomic_fetch_add(&connections->count, 1);
        else if (event == ZMQ_EVENT_DISCONNECTED)
            atomic_fetch_sub(&connections->count, 1);
    }
    return NULL;
}

struct connections *connections_watch(void *zmq_context, void *socket)
{
    char endpoint[64];
    int linger = 0;
    struct connections *connections = calloc(1, sizeof *connections);
    if (connections == NULL)
        return NULL;
    connections->socket = socket;
    snprintf(endpoint, sizeof endpoint, "inproc://monitor-%p", socket);
    if (zmq_socket_monitor(socket, endpoint, EVENTS) != 0)
        goto err_after_alloc;
    connections->monitor = zmq_socket(zmq_context, ZMQ_PAIR);
    if (connections->monitor == NULL ||
        zmq_setsockopt(connections->monitor, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_connect(connections->monitor, endpoint) != 0)
        goto err_after_monitor;
    errno = pthread_create(&connections->thread, NULL, read_events, connections);
    if (errno != 0)
        goto err_after_monitor;
    return connections;

err_after_monitor:
    zmq_socket_monitor(socket, NULL, 0);
    if (connections->monitor != NULL)
        zmq_close(connections->monitor);
err_after_alloc:
    free(connections);
    return NULL;
}

uint64_t connections_count(struct connections *connections)
{
    long long count = atomic_load(&connections->count);
    return count > 0 ? (uint64_t)count : 0;
}

void connections_free(struct connections **pointer)
{
    struct connections *connections = *pointer;
    if (connections == NULL)
        return;
    zmq_socket_monitor(connections->socket, NULL, 0);
    pthread_join(connections->thread, NULL);
    zmq_close(connections->monitor);
    free(connections);
    *pointer = NULL;
}

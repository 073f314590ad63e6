#include "daemon/connections.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct connections {
    void *socket;
    void *monitor;
    uint64_t count;
};

/* Two frames, of which the first has a number in 16 bits and a value in 32. */
struct event {
    uint16_t number;
    int32_t value;
};

static bool next_event(void *monitor, struct event *event)
{
    uint8_t frame[sizeof event->number + sizeof event->value];
    char endpoint[1];
    int size = zmq_recv(monitor, frame, sizeof frame, ZMQ_DONTWAIT);
    if (size < 0 || zmq_recv(monitor, endpoint, sizeof endpoint, ZMQ_DONTWAIT) < 0)
        return false;
    memcpy(&event->number, frame, sizeof event->number);
    memcpy(&event->value, frame + sizeof event->number, sizeof event->value);
    return true;
}

struct connections *connections_watch(void *zmq_context, void *socket)
{
    char endpoint[64];
    int none = 0;
    struct connections *connections = calloc(1, sizeof *connections);
    if (connections == NULL)
        return NULL;
    connections->socket = socket;
    snprintf(endpoint, sizeof endpoint, "inproc://monitor-%p", socket);
    if (zmq_socket_monitor(socket, endpoint, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) != 0)
        goto err_after_alloc;
    connections->monitor = zmq_socket(zmq_context, ZMQ_PAIR);
    if (connections->monitor == NULL ||
        zmq_setsockopt(connections->monitor, ZMQ_LINGER, &none, sizeof none) != 0 ||
        zmq_setsockopt(connections->monitor, ZMQ_RCVHWM, &none, sizeof none) != 0 ||
        zmq_connect(connections->monitor, endpoint) != 0)
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

void *connections_socket(const struct connections *connections)
{
    return connections->monitor;
}

void connections_read(struct connections *connections, void (*ended)(void *context, int file),
                      void *context)
{
    struct event event;
    while (next_event(connections->monitor, &event)) {
        if (event.number == ZMQ_EVENT_ACCEPTED) {
            connections->count++;
        } else if (event.number == ZMQ_EVENT_DISCONNECTED) {
            connections->count -= connections->count > 0;
            ended(context, event.value);
        }
    }
}

uint64_t connections_count(const struct connections *connections)
{
    return connections->count;
}

void connections_free(struct connections **pointer)
{
    struct connections *connections = *pointer;
    if (connections == NULL)
        return;
    zmq_socket_monitor(connections->socket, NULL, 0);
    zmq_close(connections->monitor);
    free(connections);
    *pointer = NULL;
}

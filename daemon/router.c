#include "daemon/router.h"

#include <errno.h>

#include "daemon/sockets.h"

int router_open(struct router *router, void *zmq_context)
{
    payloads_init(&router->payloads);
    router->socket = sockets_new_requests(zmq_context);
    if (router->socket != NULL)
        router->connections = connections_watch(zmq_context, router->socket);
    return router->connections != NULL ? 0 : -1;
}

void router_close(struct router *router)
{
    connections_free(&router->connections);
    if (router->socket != NULL)
        zmq_close(router->socket);
    router->socket = NULL;
}

void router_end(struct router *router)
{
    payloads_end(&router->payloads);
}

int router_receive(struct router *router, struct router_message *message)
{
    zmq_msg_t *payload = message->payload;
    if (zmq_msg_recv(message->peer, router->socket, ZMQ_DONTWAIT) < 0)
        return -1;
    (void)zmq_msg_recv(payload, router->socket, ZMQ_DONTWAIT);
    message->empty_frame = false;
    message->well_framed = !zmq_msg_more(payload);
    if (message->well_framed)
        return 0;
    message->empty_frame = zmq_msg_size(payload) == 0;
    (void)zmq_msg_recv(payload, router->socket, ZMQ_DONTWAIT);
    message->well_framed = message->empty_frame && !zmq_msg_more(payload);
    while (zmq_msg_more(payload))
        (void)zmq_msg_recv(payload, router->socket, ZMQ_DONTWAIT);
    return 0;
}

int router_connection(zmq_msg_t *payload)
{
    int file = zmq_msg_get(payload, ZMQ_SRCFD);
    return file > 0 ? file : 0;
}

int router_send(struct router *router, zmq_msg_t *peer, bool empty_frame, struct slice payload)
{
    zmq_msg_t message;
    if (payload.size == 0 || payloads_fill(&router->payloads, &message, payload) != 0) {
        zmq_msg_close(peer);
        return ENOMEM;
    }
    if (zmq_msg_send(peer, router->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        int reason = errno;
        zmq_msg_close(peer);
        zmq_msg_close(&message);
        return reason;
    }
    if (empty_frame)
        (void)zmq_send(router->socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (zmq_msg_send(&message, router->socket, ZMQ_DONTWAIT) < 0)
        zmq_msg_close(&message);
    return 0;
}

int router_send_to(struct router *router, const struct peer *peer, struct slice payload)
{
    zmq_msg_t id;
    if (zmq_msg_init_size(&id, peer->id.size) != 0)
        return ENOMEM;
    memcpy(zmq_msg_data(&id), peer->id.data, peer->id.size);
    return router_send(router, &id, peer->empty_frame, payload);
}

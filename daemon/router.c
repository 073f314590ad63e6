#include "daemon/router.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/sockets.h"

static void add_spare(struct router *router, struct router_message *message)
{
    message->next = router->spare;
    router->spare = message;
}

/* Both parts of a message that nobody has are empty ones. */
static int make_messages(struct router *router)
{
    router->messages = calloc(ROUTER_MAX_MESSAGES, sizeof *router->messages);
    if (router->messages == NULL)
        return -1;
    for (size_t i = ROUTER_MAX_MESSAGES; i-- > 0;) {
        zmq_msg_init(&router->messages[i].peer);
        zmq_msg_init(&router->messages[i].payload);
        add_spare(router, &router->messages[i]);
    }
    return 0;
}

static void end_messages(struct router *router)
{
    for (size_t i = 0; router->messages != NULL && i < ROUTER_MAX_MESSAGES; i++) {
        zmq_msg_close(&router->messages[i].peer);
        zmq_msg_close(&router->messages[i].payload);
    }
    free(router->messages);
    router->messages = NULL;
    router->spare = NULL;
}

int router_open(struct router *router, void *zmq_context)
{
    payloads_init(&router->payloads);
    if (make_messages(router) != 0)
        return -1;
    router->socket = sockets_new_requests(zmq_context);
    if (router->socket != NULL)
        router->connections = connections_watch(zmq_context, router->socket);
    return router->connections != NULL ? 0 : -1;
}

void router_close(struct router *router)
{
    connections_free(&router->connections);
    end_messages(router);
    if (router->socket != NULL)
        zmq_close(router->socket);
    router->socket = NULL;
}

void router_end(struct router *router)
{
    payloads_end(&router->payloads);
}

/* What is behind the first frame that could be the payload, to the message's end. */
static void receive_more(struct router *router, struct router_message *message)
{
    zmq_msg_t *payload = &message->payload;
    message->empty_frame = zmq_msg_size(payload) == 0;
    (void)zmq_msg_recv(payload, router->socket, ZMQ_DONTWAIT);
    message->well_framed = message->empty_frame && !zmq_msg_more(payload);
    while (zmq_msg_more(payload))
        (void)zmq_msg_recv(payload, router->socket, ZMQ_DONTWAIT);
}

static struct slice bytes_of(zmq_msg_t *part)
{
    return slice_of(zmq_msg_data(part), zmq_msg_size(part));
}

struct router_message *router_receive(struct router *router)
{
    struct router_message *message = router->spare;
    if (message == NULL || zmq_msg_recv(&message->peer, router->socket, ZMQ_DONTWAIT) < 0)
        return NULL;
    router->spare = message->next;
    (void)zmq_msg_recv(&message->payload, router->socket, ZMQ_DONTWAIT);
    message->empty_frame = false;
    message->well_framed = !zmq_msg_more(&message->payload);
    if (!message->well_framed)
        receive_more(router, message);
    message->id = bytes_of(&message->peer);
    message->bytes = bytes_of(&message->payload);
    return message;
}

int router_connection(struct router_message *message)
{
    int file = zmq_msg_get(&message->payload, ZMQ_SRCFD);
    return file > 0 ? file : 0;
}

static void make_empty(zmq_msg_t *part)
{
    zmq_msg_close(part);
    zmq_msg_init(part);
}

void router_drop_payload(struct router_message *message)
{
    make_empty(&message->payload);
}

void router_give_back(struct router *router, struct router_message *message)
{
    make_empty(&message->peer);
    add_spare(router, message);
}

/* Sends a copy of the payload; the peer's part is empty after it, or as it was. */
static int send_copy(struct router *router, zmq_msg_t *peer, bool empty_frame, struct slice payload)
{
    zmq_msg_t message;
    if (payload.size == 0 || payloads_fill(&router->payloads, &message, payload) != 0)
        return ENOMEM;
    if (zmq_msg_send(peer, router->socket, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        int reason = errno;
        zmq_msg_close(&message);
        return reason;
    }
    if (empty_frame)
        (void)zmq_send(router->socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    if (zmq_msg_send(&message, router->socket, ZMQ_DONTWAIT) < 0)
        zmq_msg_close(&message);
    return 0;
}

int router_reply(struct router *router, struct router_message *message, struct slice payload)
{
    int reason = send_copy(router, &message->peer, message->empty_frame, payload);
    if (reason == 0)
        add_spare(router, message);
    else
        router_give_back(router, message);
    return reason;
}

int router_send_to(struct router *router, const struct peer *peer, struct slice payload)
{
    zmq_msg_t id;
    if (zmq_msg_init_size(&id, peer->id.size) != 0)
        return ENOMEM;
    memcpy(zmq_msg_data(&id), peer->id.data, peer->id.size);
    int reason = send_copy(router, &id, peer->empty_frame, payload);
    zmq_msg_close(&id);
    return reason;
}

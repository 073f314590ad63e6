#include "tests/bindings/script.h"

#include <stdio.h>
#include <zmq.h>

#include "bindings/cli/json.h"

#include <criterion/criterion.h>

static bool encode(struct buffer *out, const char *json)
{
    const char *reason;
    return json_parse(out, slice_of_text(json), &reason) == 0;
}

void script_encode(struct buffer *out, const char *json)
{
    cr_assert(encode(out, json), "not JSON: %s", json);
}

/* [0, msgid, method, params] or [2, method, params], as "method params". */
void script_text(const struct peer *peer, char text[SCRIPT_TEXT_SIZE])
{
    struct wire_cursor cursor = wire_cursor_of(buffer_slice(&peer->payload, 0));
    struct slice skipped, method, params;
    struct buffer json = {0};
    uint32_t count = 0;
    bool read = wire_read_array(&cursor, &count) == 0;
    for (uint32_t i = 2; i < count && read; i++)
        read = wire_read_object(&cursor, 1, &skipped, NULL) == 0;
    read = read && wire_read_str(&cursor, &method) == 0 &&
           wire_read_object(&cursor, WIRE_MAX_DEPTH, &params, NULL) == 0;
    snprintf(text, SCRIPT_TEXT_SIZE, "(malformed)");
    if (read && json_print(&json, params) == 0)
        snprintf(text, SCRIPT_TEXT_SIZE, "%.*s %.*s", (int)method.size, (const char *)method.data,
                 (int)json.size, (const char *)json.data);
    buffer_free(&json);
}

static bool receive(struct peer *peer)
{
    struct buffer *const frames[] = {&peer->id, &peer->payload};
    zmq_pollitem_t item = {.socket = peer->router, .events = ZMQ_POLLIN};
    zmq_msg_t message;
    if (zmq_poll(&item, 1, PEER_WAIT_MS) != 1)
        return false;
    for (size_t i = 0; i < 2; i++) {
        zmq_msg_init(&message);
        zmq_msg_recv(&message, peer->router, 0);
        buffer_clear(frames[i]);
        buffer_append(frames[i], zmq_msg_data(&message), zmq_msg_size(&message));
        zmq_msg_close(&message);
    }
    wire_decode_request(buffer_slice(&peer->payload, 0), &peer->request, &peer->error);
    return true;
}

static void send(const struct peer *peer, const struct buffer *payload)
{
    zmq_send(peer->router, peer->id.data, peer->id.size, ZMQ_SNDMORE);
    zmq_send(peer->router, payload->data, payload->size, 0);
}

static void answer(const struct peer *peer, const struct script_step *step)
{
    struct buffer out = {0};
    struct wire_error error;
    if (step->result != NULL && *step->result == '!') {
        wire_fail(&error, wire_code_of(slice_of_text(step->result + 1)), "as the script says");
        wire_pack_error_reply(&out, &peer->request, &error);
        send(peer, &out);
    } else if (step->result != NULL) {
        wire_pack_reply(&out, peer->request.msgid);
        encode(&out, step->result);
        send(peer, &out);
    }
    for (size_t i = 0; i < SCRIPT_NOTIFICATIONS && step->then[i] != NULL; i++) {
        buffer_clear(&out);
        encode(&out, step->then[i]);
        send(peer, &out);
    }
    buffer_free(&out);
}

/* Criterion's assertions belong to the main thread: here it is only noted. */
static void *play(void *argument)
{
    struct script *script = argument;
    char text[SCRIPT_TEXT_SIZE];
    for (size_t i = 0; i < script->count; i++) {
        const struct script_step *step = &script->steps[i];
        if (!receive(script->peer)) {
            snprintf(script->wrong, sizeof(script->wrong), "%.400s did not come", step->request);
            break;
        }
        script_text(script->peer, text);
        if (strcmp(text, step->request) != 0 && script->wrong[0] == 0)
            snprintf(script->wrong, sizeof(script->wrong), "%.400s instead of %.400s", text,
                     step->request);
        answer(script->peer, step);
    }
    return NULL;
}

void script_start(struct script *script, struct peer *peer, const struct script_step *steps,
                  size_t count)
{
    *script = (struct script){.peer = peer, .steps = steps, .count = count};
    cr_assert_eq(pthread_create(&script->thread, NULL, play, script), 0);
}

void script_end(struct script *script)
{
    pthread_join(script->thread, NULL);
    cr_assert_str_empty(script->wrong, "%s", script->wrong);
}

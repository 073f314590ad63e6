#include <inttypes.h>
#include <stdio.h>

#include "load.h"

enum { MAX_LINE = 128 };

static void greet(struct peer *peer)
{
    peer->ready = true;
}

/* All in the tube "default", with beanstalkd's usual priority and a lease of 30 s as cubby's. */
static bool prepare(enum action action, const struct material *material, struct prepared *message)
{
    char line[MAX_LINE];
    struct buffer *out = &message->bytes;
    if (action == ACTION_RESERVE) {
        buffer_append(out, "reserve-with-timeout 0\r\n", strlen("reserve-with-timeout 0\r\n"));
        return true;
    }
    if (action != ACTION_PUSH)
        return false;
    buffer_append(
        out, line,
        (size_t)snprintf(line, sizeof(line), "put 1024 0 30 %zu\r\n", material->value.size));
    prepared_note(&message->stamps, out);
    buffer_append_slice(out, material->value);
    buffer_append(out, "\r\n", 2);
    return true;
}

static void ack(const struct material *material, const struct job *job, struct buffer *out)
{
    char line[MAX_LINE];
    (void)material;
    buffer_append(out, line,
                  (size_t)snprintf(line, sizeof(line), "delete %" PRIu64 "\r\n", job->id));
}

/* RESERVED <id> <bytes>, and the body behind it. */
static enum found find_job(struct slice bytes, const char *line, size_t *size, struct job *job)
{
    char *end;
    job->id = strtoull(line + strlen("RESERVED "), &end, 10);
    *size += strtoull(end, NULL, 10) + 2;
    job->taken = true;
    return bytes.size >= *size ? FOUND_REPLY : FOUND_PART;
}

static enum found find(struct peer *peer, struct slice bytes, enum action action, size_t *size,
                       struct job *job)
{
    const char *line = (const char *)bytes.data;
    const char *end = bytes.size > 0 ? memchr(line, '\n', bytes.size) : NULL;
    (void)peer;
    (void)action;
    if (end == NULL)
        return FOUND_PART;
    *size = (size_t)(end + 1 - line);
    job->taken = false;
    switch (*line) {
    case 'R':
        return find_job(bytes, line, size, job);
    case 'I': /* INSERTED */
        return FOUND_REPLY;
    case 'D': /* DELETED; DEADLINE_SOON and DRAINING are not expected */
        return line[1] == 'E' && line[2] == 'L' ? FOUND_REPLY : FOUND_ERROR;
    case 'T': /* TIMED_OUT */
        return FOUND_REPLY;
    default:
        return FOUND_ERROR;
    }
}

const struct protocol protocol_beanstalk = {
    .name = "beanstalk", .greet = greet, .prepare = prepare, .ack = ack, .find = find};

/* See handshakes.h. */
#include "daemon/handshakes.h"

#include <stdatomic.h>

/*
 * How far a peer is with what it says before its first message: a greeting, and one frame with the
 * command READY, whose head is a byte of flags and a size in 1 byte or 8.
 */
struct handshake {
    uint32_t left;   /* bytes of the frame */
    uint8_t read;    /* bytes of greeting and head, */
    uint8_t heads;   /* and how many those are, of use when the greeting was read */
    uint8_t matched; /* bytes of `identity` that were read last */
    bool goes_on;
};

enum {
    MAX_FILES = 1 << 20, /* what Linux allows a process unless told otherwise (fs.nr_open) */
    MAX_READY = 8192,    /* bytes of the command; those of libzmq have some 40 */
    SIGNATURE_END = 9,
    REVISION = 10, /* where the greeting has it, */
    ZMTP_3 = 3,    /* and the first that is served */
    GREETING = 64,
    LARGE = 2, /* flag of a frame whose size has 8 bytes */
    SMALL_HEAD = 2,
    LARGE_HEAD = 9,
};

/* By file descriptor, since nothing else is told; atomic for one that goes to the other thread. */
static _Atomic struct handshake handshakes[MAX_FILES];

/* The name of the property, behind its length. */
static const char identity[] = "\x08Identity";
enum { IDENTITY = sizeof identity - 1 };

static bool hear_greeting(const struct handshake *handshake, uint8_t byte)
{
    switch (handshake->read) {
    case 0:
        return byte == UINT8_MAX;
    case SIGNATURE_END:
        return (byte & 1) != 0;
    case REVISION:
        return byte >= ZMTP_3;
    default:
        return true;
    }
}

static bool hear_head(struct handshake *handshake, uint8_t byte)
{
    if (handshake->read == GREETING)
        handshake->heads = GREETING + ((byte & LARGE) != 0 ? LARGE_HEAD : SMALL_HEAD);
    else
        handshake->left = handshake->left << 8 | byte;
    return handshake->left <= MAX_READY;
}

/* The last letter of the name is made another one, so that libzmq does not know the property. */
static void hear_ready(struct handshake *handshake, uint8_t *byte)
{
    bool goes_on = *byte == (uint8_t)identity[handshake->matched];
    handshake->matched = goes_on ? handshake->matched + 1 : *byte == (uint8_t)identity[0];
    if (handshake->matched == IDENTITY) {
        *byte = '-';
        handshake->matched = 0;
    }
    handshake->left--;
}

static bool is_before_ready(const struct handshake *handshake)
{
    return handshake->read <= GREETING || handshake->read < handshake->heads;
}

/* False where the connection is to end. */
static bool hear(struct handshake *handshake, uint8_t *byte)
{
    bool good = true;
    if (!is_before_ready(handshake)) {
        hear_ready(handshake, byte);
    } else {
        good = handshake->read < GREETING ? hear_greeting(handshake, *byte)
                                          : hear_head(handshake, *byte);
        handshake->read++;
    }
    handshake->goes_on = is_before_ready(handshake) || handshake->left > 0;
    return good;
}

bool handshakes_begin(int fd)
{
    static const struct handshake begun = {.goes_on = true};
    if (fd < 0 || fd >= MAX_FILES)
        return false;
    atomic_store_explicit(&handshakes[fd], begun, memory_order_relaxed);
    return true;
}

bool handshakes_hear(int fd, uint8_t *bytes, size_t size)
{
    if (fd < 0 || fd >= MAX_FILES)
        return true;
    struct handshake handshake = atomic_load_explicit(&handshakes[fd], memory_order_relaxed);
    if (!handshake.goes_on)
        return true;
    bool good = true;
    for (size_t i = 0; i < size && good && handshake.goes_on; i++)
        good = hear(&handshake, bytes + i);
    atomic_store_explicit(&handshakes[fd], handshake, memory_order_relaxed);
    return good;
}

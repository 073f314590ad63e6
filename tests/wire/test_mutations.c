/*
 * Good requests with random changes: whatever becomes of them, decoding ends, stays inside the
 * message, and fails with a proper error. CUBBY_SEED repeats a run.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "notation.h"
#include "wire/request.h"

enum { ROUNDS = 30000, MOST_CHANGES = 4 };

/* splitmix64: small, and the same everywhere. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

static uint64_t seed_of_this_run(void)
{
    const char *seed = getenv("CUBBY_SEED");
    return seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
}

/* Changes, removes or repeats some bytes, so that lengths and contents come apart. */
static void mutate(struct buffer *message, uint64_t *random)
{
    static const uint8_t telling[] = {0x00, 0x7f, 0x80, 0x90, 0xa0, 0xc0, 0xc1, 0xc4,
                                      0xca, 0xcf, 0xd9, 0xdb, 0xdd, 0xdf, 0xe0, 0xff};
    for (uint64_t changes = 1 + next_random(random) % MOST_CHANGES; changes > 0; changes--) {
        if (message->size == 0)
            return;
        size_t at = next_random(random) % message->size;
        switch (next_random(random) % 4) {
        case 0:
            message->data[at] = (uint8_t)next_random(random);
            break;
        case 1:
            message->data[at] = telling[next_random(random) % sizeof(telling)];
            break;
        case 2:
            message->size = at;
            break;
        default:
            memmove(message->data + at, message->data + at + 1, message->size - at - 1);
            message->size--;
        }
    }
}

static bool inside(struct slice bytes, struct slice message)
{
    return bytes.size == 0 ||
           (bytes.data >= message.data && bytes.data + bytes.size <= message.data + message.size);
}

static bool args_inside(const struct wire_args *args, struct slice message)
{
    const struct slice slices[] = {args->key, args->value, args->prefix, args->start,
                                   args->end, args->after, args->epoch,  args->client};
    for (size_t i = 0; i < sizeof(slices) / sizeof(slices[0]); i++) {
        if (!inside(slices[i], message))
            return false;
    }
    return args->key.size <= WIRE_MAX_KEY && args->value.size <= WIRE_MAX_VALUE;
}

static void check_operations(const struct wire_args *batch, struct slice message)
{
    struct wire_cursor operations = batch->operations;
    struct wire_cursor guards = batch->guards;
    for (uint32_t i = 0; i < batch->operation_count; i++) {
        enum wire_method method;
        struct wire_args args;
        struct wire_error error;
        if (wire_next_operation(&operations, &method, &args, &error) == WIRE_OK)
            cr_assert(args_inside(&args, message));
        else
            cr_assert(error.code != WIRE_INTERNAL);
    }
    cr_assert(wire_at_end(&operations));
    for (uint32_t i = 0; i < batch->guard_count; i++) {
        struct wire_guard guard;
        wire_next_guard(&guards, &guard);
        cr_assert(guard.key.size > 0 && inside(guard.key, message));
    }
    cr_assert(wire_at_end(&guards));
}

static void check_decoding(struct slice message)
{
    struct wire_request request;
    struct wire_error error;
    enum wire_code code = wire_decode_request(message, &request, &error);
    if (code == WIRE_OK) {
        cr_assert(args_inside(&request.args, message));
        if (request.method == WIRE_METHOD_BATCH)
            check_operations(&request.args, message);
        return;
    }
    cr_assert(code == error.code);
    cr_assert(code == WIRE_BAD_REQUEST || code == WIRE_UNKNOWN_METHOD || code == WIRE_TOO_LARGE);
    cr_assert((code == WIRE_TOO_LARGE) == ((error.has & WIRE_DETAIL_LIMIT) != 0));
    cr_assert(wire_is_utf8(slice_of_text(error.message)));
}

Test(mutations, decoding_stays_inside_whatever_message_it_gets)
{
    uint64_t seed = seed_of_this_run();
    uint64_t random = seed;
    /* Before anything can crash; ctest shows it where the test fails. */
    fprintf(stderr, "CUBBY_SEED=%" PRIu64 "\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        struct buffer message =
            message_of(good_requests[next_random(&random) % good_request_count]);
        mutate(&message, &random);
        uint8_t *exact = malloc(message.size > 0 ? message.size : 1);
        cr_assert(exact != NULL);
        memcpy(exact, message.data, message.size);
        check_decoding(slice_of(exact, message.size));
        free(exact);
        buffer_free(&message);
    }
}

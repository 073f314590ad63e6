#include "wire/arguments.h"

#include <inttypes.h>
#include <stdio.h>

#include "wire/envelope.h"

/* How much of a name that a client sent is shown to it in a message. */
enum {
    EXCERPT_SIZE = 32,
    MIN_METHOD_NAME = 3, /* bytes: what SIGN looks at */
};

static const struct method {
    const char *name;
    size_t name_size;
    unsigned flags;
    unsigned required;
    const char *positional;
    unsigned most; /* positional arguments */
    unsigned options;
} methods[WIRE_METHODS] = {
#define METHOD(name, function, text, flags, required, positional, options)                         \
    [WIRE_METHOD_##name] = {(text),       sizeof(text) - 1,       (flags),  (required),            \
                            (positional), sizeof(positional) - 1, (options)},
#include "wire/methods.def"
#undef METHOD
};

/* What every step of reading the params of one method needs. */
struct reading {
    struct wire_cursor *cursor;
    const struct method *method;
    struct wire_args *args;
    struct wire_error *error;
};

struct excerpt {
    char text[EXCERPT_SIZE + sizeof("...")];
};

static struct excerpt excerpt_of(struct slice bytes)
{
    struct excerpt excerpt = {""};
    size_t size = bytes.size < EXCERPT_SIZE ? bytes.size : EXCERPT_SIZE;
    memcpy(excerpt.text, bytes.data, size);
    for (size_t i = 0; i < size; i++) {
        if (excerpt.text[i] == '\0')
            excerpt.text[i] = '?';
    }
    if (size < bytes.size)
        memcpy(excerpt.text + size, "...", sizeof("..."));
    return excerpt;
}

static enum wire_code refuse(const struct reading *in, const char *what, const char *must)
{
    return wire_fail(in->error, WIRE_BAD_REQUEST, "%s: %s %s", in->method->name, what, must);
}

/* What is at the cursor cannot be read as what it should be: says which of the two it is. */
static enum wire_code refuse_next(const struct reading *in, const char *what, const char *must)
{
    struct wire_cursor next = *in->cursor;
    struct slice object;
    bool deep;
    if (wire_read_object(&next, WIRE_OPERATION_DEPTH, &object, &deep) == 0 || deep)
        return refuse(in, what, must);
    return refuse(in, what, "is cut off or is not well-formed MessagePack");
}

static enum wire_code refuse_size(const struct reading *in, const char *what, uint64_t limit,
                                  const char *unit)
{
    char text[EXCERPT_SIZE * 2];
    snprintf(text, sizeof(text), "%s: %s", in->method->name, what);
    return wire_fail_limit(in->error, limit, unit, text);
}

/* Reading of one argument or option: `what` names it in messages. */

static enum wire_code read_flag(struct reading *in, const char *what, bool *value)
{
    if (wire_read_bool(in->cursor, value) != 0)
        return refuse_next(in, what, "must be true or false");
    return WIRE_OK;
}

static enum wire_code read_number(struct reading *in, const char *what, uint64_t *value)
{
    if (wire_read_uint(in->cursor, value) != 0)
        return refuse_next(in, what, "must be an integer from 0 to 2^64-1");
    return WIRE_OK;
}

static enum wire_code read_integer(struct reading *in, const char *what, wire_integer *value)
{
    if (wire_read_integer(in->cursor, value) != 0)
        return refuse_next(in, what, "must be an integer");
    return WIRE_OK;
}

static enum wire_code read_duration(struct reading *in, const char *what, uint64_t *value_ms)
{
    static const char must[] = "must be an integer from 0 to 2^48 (milliseconds)";
    if (wire_read_uint(in->cursor, value_ms) != 0)
        return refuse_next(in, what, must);
    return *value_ms <= WIRE_MAX_DURATION_MS ? WIRE_OK : refuse(in, what, must);
}

static enum wire_code read_watch(struct reading *in)
{
    return read_number(in, "watch", &in->args->watch);
}

static enum wire_code read_more_credit(struct reading *in)
{
    static const char must[] = "must be an integer from 1 to 2^32-1";
    uint64_t *credit = &in->args->credit;
    if (wire_read_uint(in->cursor, credit) != 0)
        return refuse_next(in, "n", must);
    return *credit >= 1 && *credit <= WIRE_MAX_CREDIT ? WIRE_OK : refuse(in, "n", must);
}

static enum wire_code read_backup(struct reading *in)
{
    if (wire_read_uint(in->cursor, &in->args->backup) != 0)
        return refuse_next(in, "backup", "must be an integer from 0 to 2^64-1");
    return WIRE_OK;
}

static bool is_method(const struct reading *in, enum wire_method method)
{
    return in->method == &methods[method];
}

static enum wire_code read_bytes(struct reading *in, const char *what, struct slice *bytes,
                                 size_t limit)
{
    if (wire_read_bytes(in->cursor, bytes) != 0)
        return refuse_next(in, what, "must be a str or bin");
    return bytes->size <= limit ? WIRE_OK : refuse_size(in, what, limit, "bytes");
}

/* A bound of a range: a key, or a queue's name, that may be empty. */
static enum wire_code read_bound(struct reading *in, const char *what, struct slice *bytes)
{
    bool of_queues = is_method(in, WIRE_METHOD_QUEUE_LIST);
    return read_bytes(in, what, bytes, of_queues ? WIRE_MAX_QUEUE_NAME : WIRE_MAX_KEY);
}

static enum wire_code read_key(struct reading *in, const char *what, struct slice *key)
{
    enum wire_code code = read_bytes(in, what, key, WIRE_MAX_KEY);
    if (code == WIRE_OK && key->size == 0)
        return refuse(in, what, "must not be empty");
    return code;
}

static enum wire_code read_queue_name(struct reading *in, struct slice *name)
{
    enum wire_code code = read_bytes(in, "queue", name, WIRE_MAX_QUEUE_NAME);
    if (code == WIRE_OK && name->size == 0)
        return refuse(in, "queue", "must not be empty");
    return code;
}

/* One name, or an array of them. */
static enum wire_code read_queues(struct reading *in)
{
    struct wire_args *args = in->args;
    args->queue_count = 1;
    if (wire_peek(in->cursor) == WIRE_ARRAY) {
        if (wire_read_array(in->cursor, &args->queue_count) != 0)
            return refuse_next(in, "queues", "must be an array of names");
        if (args->queue_count == 0)
            return refuse(in, "queues", "must name one at least");
        if (args->queue_count > WIRE_MAX_QUEUES)
            return refuse_size(in, "queues", WIRE_MAX_QUEUES, "queues");
    }
    args->queues = *in->cursor;
    enum wire_code code = read_queue_name(in, &args->queue);
    for (uint32_t i = 1; code == WIRE_OK && i < args->queue_count; i++) {
        struct slice name;
        code = read_queue_name(in, &name);
    }
    args->queues.end = in->cursor->at;
    return code;
}

/* A lease's length. */
static enum wire_code read_term(struct reading *in, const char *what, uint64_t *value_ms)
{
    static const char must[] = "must be an integer from 1 to 2^48 (milliseconds)";
    if (wire_read_uint(in->cursor, value_ms) != 0)
        return refuse_next(in, what, must);
    return *value_ms > 0 && *value_ms <= WIRE_MAX_DURATION_MS ? WIRE_OK : refuse(in, what, must);
}

static enum wire_code read_duration_or_nil(struct reading *in, const char *what, uint64_t *value_ms)
{
    *value_ms = WIRE_FOREVER;
    return wire_read_nil(in->cursor) == 0 ? WIRE_OK : read_duration(in, what, value_ms);
}

static enum wire_code read_value(struct reading *in, const char *what)
{
    bool deep;
    if (wire_read_object(in->cursor, WIRE_MAX_DEPTH, &in->args->value, &deep) != 0) {
        return deep ? refuse(in, what, "must not be nested more than 64 deep")
                    : refuse(in, what, "is cut off or is not well-formed MessagePack");
    }
    if (in->args->value.size > WIRE_MAX_VALUE)
        return refuse_size(in, what, WIRE_MAX_VALUE, "bytes");
    return WIRE_OK;
}

static enum wire_code read_expiry(struct reading *in)
{
    if (wire_read_nil(in->cursor) == 0)
        return WIRE_OK;
    in->args->has_ttl = true;
    return read_duration(in, "ttl, where not nil,", &in->args->ttl_ms);
}

/* The header of an array whose count has a limit of its own. */
static enum wire_code read_list(struct reading *in, const char *what, uint32_t *count)
{
    if (wire_read_array(in->cursor, count) != 0)
        return refuse_next(in, what, "must be an array");
    return *count <= WIRE_MAX_BATCH ? WIRE_OK : refuse_size(in, what, WIRE_MAX_BATCH, "entries");
}

bool wire_starts_pair(struct wire_cursor *cursor)
{
    uint32_t count;
    return wire_read_array(cursor, &count) == 0 && count == WIRE_PAIR_COUNT;
}

static int skip_operation(struct wire_cursor *cursor)
{
    struct slice ignored;
    if (!wire_starts_pair(cursor) || wire_read_str(cursor, &ignored) != 0)
        return -1;
    if (wire_peek(cursor) != WIRE_ARRAY)
        return -1;
    return wire_read_object(cursor, WIRE_PARAMS_DEPTH, &ignored, NULL);
}

static enum wire_code read_operations(struct reading *in)
{
    struct wire_args *args = in->args;
    enum wire_code code = read_list(in, "operations", &args->operation_count);
    if (code != WIRE_OK)
        return code;
    args->operations = *in->cursor;
    for (uint32_t i = 0; i < args->operation_count; i++) {
        if (skip_operation(in->cursor) != 0) {
            refuse(in, "each operation", "must be a well-formed array [method, params]");
            in->error->has |= WIRE_DETAIL_INDEX;
            in->error->index = i;
            return WIRE_BAD_REQUEST;
        }
    }
    args->operations.end = in->cursor->at;
    return WIRE_OK;
}

static enum wire_code read_guard(struct reading *in)
{
    static const char what[] = "each guard of if";
    struct wire_guard guard;
    if (!wire_starts_pair(in->cursor))
        return refuse(in, what, "must be an array [key, version]");
    enum wire_code code = read_key(in, "key of a guard", &guard.key);
    if (code != WIRE_OK)
        return code;
    return read_number(in, "version of a guard", &guard.version);
}

/* The options: one reader for each kind in options.def, which fills its field of wire_args. */

static enum wire_code read_ttl(struct reading *in)
{
    in->args->has_ttl = true;
    return read_duration_or_nil(in, "option ttl", &in->args->ttl_ms);
}

static enum wire_code read_keep_ttl(struct reading *in)
{
    return read_flag(in, "option keep_ttl", &in->args->keep_ttl);
}

static enum wire_code read_if_version(struct reading *in)
{
    return read_number(in, "option if_version", &in->args->if_version);
}

static enum wire_code read_if_exists(struct reading *in)
{
    return read_flag(in, "option if_exists", &in->args->if_exists);
}

static enum wire_code read_previous(struct reading *in)
{
    return read_flag(in, "option previous", &in->args->previous);
}

static enum wire_code read_initial(struct reading *in)
{
    return read_integer(in, "option initial", &in->args->initial);
}

static enum wire_code read_prefix(struct reading *in)
{
    return read_bound(in, "option prefix", &in->args->prefix);
}

static enum wire_code read_start(struct reading *in)
{
    return read_bound(in, "option start", &in->args->start);
}

static enum wire_code read_end(struct reading *in)
{
    return read_bound(in, "option end", &in->args->end);
}

static enum wire_code read_after(struct reading *in)
{
    struct slice *after = &in->args->after;
    if (!is_method(in, WIRE_METHOD_QUEUE_PEEK))
        return read_bound(in, "option after", after);
    enum wire_code code = read_bytes(in, "option after", after, WIRE_MAX_KEY);
    if (code == WIRE_OK && after->size != WIRE_PLACE_SIZE)
        return refuse(in, "option after", "must be the `at` of a row");
    return code;
}

/* How many: 1 to `most`, 1,000 or 10,000. */
static enum wire_code read_quantity(struct reading *in, const char *what, unsigned most,
                                    uint32_t *value)
{
    const char *must = most == WIRE_MAX_PAGE ? "must be an integer from 1 to 10000"
                                             : "must be an integer from 1 to 1000";
    uint64_t number;
    if (wire_read_uint(in->cursor, &number) != 0)
        return refuse_next(in, what, must);
    if (number < 1 || number > most)
        return refuse(in, what, must);
    *value = (uint32_t)number;
    return WIRE_OK;
}

static enum wire_code read_limit(struct reading *in)
{
    unsigned most = is_method(in, WIRE_METHOD_QUEUE_PEEK) ? WIRE_MAX_JOBS : WIRE_MAX_PAGE;
    return read_quantity(in, "option limit", most, &in->args->limit);
}

static enum wire_code read_count(struct reading *in)
{
    unsigned most = is_method(in, WIRE_METHOD_QUEUE_KICK) ? WIRE_MAX_KICK : WIRE_MAX_JOBS;
    return read_quantity(in, "option count", most, &in->args->count);
}

static enum wire_code read_reverse(struct reading *in)
{
    return read_flag(in, "option reverse", &in->args->reverse);
}

static enum wire_code read_keys_only(struct reading *in)
{
    return read_flag(in, "option keys_only", &in->args->keys_only);
}

static enum wire_code read_guards(struct reading *in)
{
    struct wire_args *args = in->args;
    enum wire_code code = read_list(in, "guards of if", &args->guard_count);
    if (code != WIRE_OK)
        return code;
    args->guards = *in->cursor;
    for (uint32_t i = 0; i < args->guard_count; i++) {
        code = read_guard(in);
        if (code != WIRE_OK) {
            in->error->has |= WIRE_DETAIL_IF;
            in->error->guard = i;
            return code;
        }
    }
    args->guards.end = in->cursor->at;
    return WIRE_OK;
}

static enum wire_code read_client(struct reading *in)
{
    static const char what[] = "option client";
    static const char must[] = "must be a str of at most 255 bytes";
    if (wire_read_str(in->cursor, &in->args->client) != 0)
        return refuse_next(in, what, must);
    return in->args->client.size <= WIRE_MAX_CLIENT_NAME ? WIRE_OK : refuse(in, what, must);
}

static enum wire_code read_since(struct reading *in)
{
    return read_number(in, "option since", &in->args->since);
}

static enum wire_code read_epoch(struct reading *in)
{
    if (wire_read_str(in->cursor, &in->args->epoch) != 0)
        return refuse_next(in, "option epoch", "must be a str");
    return WIRE_OK;
}

static enum wire_code read_delay(struct reading *in)
{
    return read_duration(in, "option delay", &in->args->delay_ms);
}

static enum wire_code read_priority(struct reading *in)
{
    static const char what[] = "option priority";
    static const char must[] = "must be an integer from 0 to 2^32-1";
    uint64_t priority;
    if (wire_read_uint(in->cursor, &priority) != 0)
        return refuse_next(in, what, must);
    if (priority > WIRE_MAX_PRIORITY)
        return refuse(in, what, must);
    in->args->priority = (uint32_t)priority;
    return WIRE_OK;
}

/* The id of kick is a job's, that of push the producer's own: bytes, or an integer. */
static enum wire_code read_id(struct reading *in)
{
    static const char what[] = "option id";
    static const char must[] = "must be a str or bin of 1 to 255 bytes, or an integer";
    struct wire_args *args = in->args;
    if (is_method(in, WIRE_METHOD_QUEUE_KICK))
        return read_number(in, what, &args->job);
    args->id_is_number = wire_read_integer(in->cursor, &args->id_number) == 0;
    if (args->id_is_number)
        return WIRE_OK;
    if (wire_read_bytes(in->cursor, &args->id) != 0)
        return refuse_next(in, what, must);
    bool fits = args->id.size > 0 && args->id.size <= WIRE_MAX_PRODUCER_ID;
    return fits ? WIRE_OK : refuse(in, what, must);
}

static enum wire_code read_wait(struct reading *in)
{
    return read_duration_or_nil(in, "option wait, where not nil,", &in->args->wait_ms);
}

static enum wire_code read_lease(struct reading *in)
{
    return read_term(in, "option lease", &in->args->lease_ms);
}

static enum wire_code read_error(struct reading *in)
{
    static const char what[] = "option error";
    static const char must[] = "must be a str of at most 1024 bytes";
    if (wire_read_str(in->cursor, &in->args->job_error) != 0)
        return refuse_next(in, what, must);
    return in->args->job_error.size <= WIRE_MAX_JOB_ERROR ? WIRE_OK : refuse(in, what, must);
}

static const char *const states[] = {
    [WIRE_JOB_READY] = "ready", [WIRE_JOB_DELAYED] = "delayed", [WIRE_JOB_LEASED] = "leased",
    [WIRE_JOB_DEAD] = "dead",   [WIRE_JOB_STATES] = "",         [WIRE_JOB_EXPIRED] = "expired",
};

static enum wire_code read_state(struct reading *in)
{
    bool purge = is_method(in, WIRE_METHOD_QUEUE_PURGE);
    const char *must = purge ? "must be 'ready', 'delayed' or 'dead'"
                             : "must be 'ready', 'delayed', 'leased' or 'dead'";
    struct slice name;
    if (wire_read_str(in->cursor, &name) != 0)
        return refuse_next(in, "option state", must);
    int state = WIRE_JOB_READY;
    while (state < WIRE_JOB_STATES && !slice_equal(name, slice_of_text(states[state])))
        state++;
    if (state == WIRE_JOB_STATES || (purge && state == WIRE_JOB_LEASED))
        return refuse(in, "option state", must);
    in->args->state = (enum wire_job_state)state;
    return WIRE_OK;
}

static enum wire_code read_max_deliveries(struct reading *in)
{
    return read_number(in, "option max_deliveries", &in->args->max_deliveries);
}

static enum wire_code read_max_length(struct reading *in)
{
    return read_number(in, "option max_length", &in->args->max_length);
}

static enum wire_code read_retry_delay(struct reading *in)
{
    return read_duration(in, "option retry_delay", &in->args->retry_delay_ms);
}

static enum wire_code read_dedup_window(struct reading *in)
{
    return read_duration(in, "option dedup_window", &in->args->dedup_window_ms);
}

static enum wire_code read_credit(struct reading *in)
{
    static const char must[] = "must be an integer from 0 to 2^32-1";
    uint64_t *credit = &in->args->credit;
    if (wire_read_uint(in->cursor, credit) != 0)
        return refuse_next(in, "option credit", must);
    return *credit <= WIRE_MAX_CREDIT ? WIRE_OK : refuse(in, "option credit", must);
}

static const struct option {
    const char *name;
    size_t name_size;
    enum wire_code (*read)(struct reading *in);
} options[WIRE_OPTIONS] = {
#define OPTION(name, text, kind) [WIRE_OPTION_##name] = {(text), sizeof(text) - 1, read_##kind},
#include "wire/options.def"
#undef OPTION
};

/* The number of the option of that name among those of the method; WIRE_OPTIONS for none. */
static unsigned find_option(const struct method *method, struct slice name)
{
    for (unsigned rest = method->options; rest != 0; rest &= rest - 1) {
        unsigned number = (unsigned)__builtin_ctz(rest);
        if (slice_equal(name, slice_of(options[number].name, options[number].name_size)))
            return number;
    }
    return WIRE_OPTIONS;
}

static enum wire_code refuse_unknown_option(const struct reading *in, struct slice name)
{
    char takes[WIRE_MAX_ERROR_MESSAGE] = "no options";
    size_t size = 0;
    for (unsigned rest = in->method->options; rest != 0; rest &= rest - 1) {
        const char *one = options[__builtin_ctz(rest)].name;
        if (size + strlen(one) + sizeof(", ") > sizeof(takes))
            break;
        size += (size_t)sprintf(takes + size, "%s%s", size > 0 ? ", " : "", one);
    }
    return wire_fail(in->error, WIRE_BAD_REQUEST, "%s: option '%s' is unknown; it takes %s",
                     in->method->name, excerpt_of(name).text, takes);
}

static enum wire_code refuse_option(const struct reading *in, unsigned number, const char *why)
{
    return wire_fail(in->error, WIRE_BAD_REQUEST, "%s: option %s %s", in->method->name,
                     options[number].name, why);
}

/* nil stands for "without end", in the few places that have a meaning for it. */
static bool may_be_nil(const struct reading *in, unsigned number)
{
    return number == WIRE_OPTION_WAIT ||
           (number == WIRE_OPTION_TTL &&
            (is_method(in, WIRE_METHOD_QUEUE_PUSH) || is_method(in, WIRE_METHOD_QUEUE_CONFIGURE)));
}

static enum wire_code read_option(struct reading *in)
{
    struct slice name;
    if (wire_read_str(in->cursor, &name) != 0)
        return refuse_next(in, "name of an option", "must be a str");
    unsigned number = find_option(in->method, name);
    if (number == WIRE_OPTIONS)
        return refuse_unknown_option(in, name);
    unsigned bit = 1U << number;
    if ((in->args->given & bit) != 0)
        return refuse_option(in, number, "is given twice");
    if (wire_peek(in->cursor) == WIRE_NIL && !may_be_nil(in, number))
        return refuse_option(in, number, "is nil; leave it out instead");
    in->args->given |= bit;
    return options[number].read(in);
}

static enum wire_code read_options(struct reading *in)
{
    uint32_t count;
    if (wire_read_map(in->cursor, &count) != 0)
        return refuse_next(in, "what follows the arguments", "must be a map of options");
    for (uint32_t i = 0; i < count; i++) {
        enum wire_code code = read_option(in);
        if (code != WIRE_OK)
            return code;
    }
    return WIRE_OK;
}

/* The letters of methods.def. */
static enum wire_code read_positional(struct reading *in, char letter)
{
    switch (letter) {
    case 'k':
        return read_key(in, "key", &in->args->key);
    case 'v':
        return read_value(in, "value");
    case 'd':
        return read_integer(in, "delta", &in->args->delta);
    case 'e':
        return read_expiry(in);
    case 'o':
        return read_operations(in);
    case 'b':
        return read_backup(in);
    case 'w':
        return read_watch(in);
    case 'c':
        return read_more_credit(in);
    case 'q':
        return read_queue_name(in, &in->args->queue);
    case 's':
        return read_queues(in);
    case 'y':
        return read_value(in, "body");
    case 'j':
        return read_number(in, "job id", &in->args->job);
    case 'l':
        return read_number(in, "lease", &in->args->lease);
    case 'm':
        return read_term(in, "ms", &in->args->duration_ms);
    case 'p':
        return read_duration_or_nil(in, "ms, where not nil,", &in->args->duration_ms);
    case 'i':
        return read_number(in, "msgid", &in->args->msgid);
    default:
        return wire_fail(in->error, WIRE_INTERNAL, "%s: no such argument", in->method->name);
    }
}

/* Rules between options, once all are read. */
static enum wire_code check_together(const struct reading *in)
{
    const unsigned bounds = WIRE_HAS_START | WIRE_HAS_END;
    unsigned given = in->args->given;
    if (in->args->has_ttl && in->args->keep_ttl)
        return refuse(in, "ttl", "contradicts keep_ttl: true; give one of them");
    if ((given & WIRE_HAS_PREFIX) != 0 && (given & bounds) != 0)
        return refuse(in, "prefix", "does not go with start or end; give one or the other");
    if ((given & WIRE_HAS_ID) != 0 && (given & WIRE_HAS_COUNT) != 0)
        return refuse(in, "id", "does not go with count; give one of them");
    if (is_method(in, WIRE_METHOD_DELETE_RANGE) && (given & (bounds | WIRE_HAS_PREFIX)) == 0)
        return refuse(in, "a range", "must be given: prefix, start or end (prefix '' is all)");
    return WIRE_OK;
}

static enum wire_code check_count(const struct reading *in, uint32_t count)
{
    const struct method *method = in->method;
    if (count >= method->required && count <= method->most + 1)
        return WIRE_OK;
    char range[32];
    if (method->required < method->most)
        snprintf(range, sizeof range, "%u to %u", method->required, method->most);
    else
        snprintf(range, sizeof range, "%u", method->required);
    return wire_fail(in->error, WIRE_BAD_REQUEST,
                     "%s: takes %s arguments, and one map of options may follow them; params has "
                     "%" PRIu32 " elements",
                     method->name, range, count);
}

/*
 * The last element is the options if it is a map and no required argument, so that an argument
 * with a default can be left out before it, while the value of a put may be a map.
 */
static enum wire_code read_params(struct reading *in)
{
    uint32_t count;
    if (wire_read_array(in->cursor, &count) != 0)
        return refuse_next(in, "params", "must be an array");
    enum wire_code code = check_count(in, count);
    uint32_t i = 0;
    for (; code == WIRE_OK && i < count && i < in->method->most; i++) {
        bool may_be_options = i + 1 == count && i >= in->method->required;
        if (may_be_options && wire_peek(in->cursor) == WIRE_MAP)
            break;
        code = read_positional(in, in->method->positional[i]);
    }
    if (code == WIRE_OK && i < count)
        code = read_options(in);
    return code == WIRE_OK ? check_together(in) : code;
}

enum wire_code wire_read_args(struct wire_cursor *cursor, enum wire_method method,
                              struct wire_args *args, struct wire_error *error)
{
    struct reading in = {cursor, &methods[method], args, error};
    *args = (struct wire_args){.delta = 1,
                               .limit = WIRE_DEFAULT_PAGE,
                               .count = 1,
                               .credit = WIRE_DEFAULT_CREDIT,
                               .state = WIRE_JOB_STATES};
    if (method == WIRE_METHOD_QUEUE_PEEK)
        args->limit = WIRE_DEFAULT_PEEK;
    return read_params(&in);
}

/*
 * A byte made of two letters of a name and its size tells nearly all methods apart. So a method is
 * found by one search for its byte among those of all, which takes as long for each.
 */
#define SIGN(text, size)                                                                           \
    (uint8_t)((size) + (uint8_t)(text)[(size)-1] + (size_t)8 * (uint8_t)(text)[(size)-3])

static const uint8_t signs[WIRE_METHODS] = {
#define METHOD(name, function, text, ...) [WIRE_METHOD_##name] = SIGN(text, sizeof(text) - 1),
#include "wire/methods.def"
#undef METHOD
};

static inline enum wire_method search_method(struct slice name)
{
    const uint8_t *end = signs + WIRE_METHODS;
    const uint8_t *at = signs;
    if (name.size < MIN_METHOD_NAME)
        return WIRE_METHODS;
    const uint8_t sign = SIGN(name.data, name.size);
    while ((at = memchr(at, sign, (size_t)(end - at))) != NULL) {
        size_t number = (size_t)(at++ - signs);
        if (slice_equal(name, slice_of(methods[number].name, methods[number].name_size)))
            return (enum wire_method)number;
    }
    return WIRE_METHODS;
}

/* Apart, since what it takes of the stack would cost those that are known as well. */
__attribute__((noinline)) static enum wire_code refuse_method(struct slice name,
                                                              struct wire_error *error)
{
    return wire_fail(error, WIRE_UNKNOWN_METHOD, "method '%s' is unknown to this version",
                     excerpt_of(name).text);
}

enum wire_code wire_find_method(struct slice name, enum wire_method *method,
                                struct wire_error *error)
{
    *method = search_method(name);
    return *method != WIRE_METHODS ? WIRE_OK : refuse_method(name, error);
}

const char *wire_job_state_name(enum wire_job_state state)
{
    return states[state];
}

const char *wire_method_name(enum wire_method method)
{
    return methods[method].name;
}

unsigned wire_method_flags(enum wire_method method)
{
    return methods[method].flags;
}

enum wire_method wire_method_of(struct slice name)
{
    return search_method(name);
}

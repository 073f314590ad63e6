/*
 * Requests: from the payload of a message to a method and its checked arguments. Methods and
 * their arguments are rows of methods.def and options.def; nothing is allocated, and all slices
 * of a decoded request are views into the payload, alive as long as it is.
 *
 * Reading goes from the front and stops at the first error. How far it came decides whom the
 * error is answered to: see enum wire_answer.
 */
#ifndef WIRE_REQUEST_H
#define WIRE_REQUEST_H

#include "wire/cursor.h"
#include "wire/error.h"

enum wire_method {
#define METHOD(name, function, text, flags, required, positional, options) WIRE_METHOD_##name,
#include "wire/methods.def"
#undef METHOD
    WIRE_METHODS
};

enum wire_method_flags {
    WIRE_WRITES = 1 << 0,
    WIRE_BATCHABLE = 1 << 1,
    WIRE_FIRST = 1 << 2,
    WIRE_ANSWERED = 1 << 3,
    WIRE_LONG = 1 << 4,
};

enum wire_option_number {
#define OPTION(name, text, kind) WIRE_OPTION_##name,
#include "wire/options.def"
#undef OPTION
    WIRE_OPTIONS
};

enum wire_option {
#define OPTION(name, text, kind) WIRE_HAS_##name = 1 << WIRE_OPTION_##name,
#include "wire/options.def"
#undef OPTION
};

/* The state of a job; WIRE_JOB_STATES: none was named. EXPIRED is an answer of nack only. */
enum wire_job_state {
    WIRE_JOB_READY,
    WIRE_JOB_DELAYED,
    WIRE_JOB_LEASED,
    WIRE_JOB_DEAD,
    WIRE_JOB_STATES,
    WIRE_JOB_EXPIRED,
};

#define WIRE_FOREVER UINT64_MAX /* nil for a duration: without end */

/* The arguments of any one method; which fields mean something, its row of methods.def says. */
struct wire_args {
    unsigned given; /* WIRE_HAS_… of the options that are in the request */
    uint32_t limit; /* WIRE_DEFAULT_PAGE where left out */
    struct slice key;
    struct slice value;                     /* one whole MessagePack object, as sent */
    struct slice prefix, start, end, after; /* empty where not given: ask `given` */
    uint64_t ttl_ms;
    wire_integer delta;   /* 1 where left out */
    wire_integer initial; /* 0 where left out */
    uint64_t if_version;
    uint64_t since; /* 0 where left out */
    uint64_t backup;
    uint64_t watch;
    uint64_t credit; /* WIRE_DEFAULT_CREDIT where left out */
    struct slice epoch;
    struct slice client;
    struct wire_cursor operations; /* batch: behind the header of the array of operations */
    struct wire_cursor guards;     /* batch: behind the header of `if` */
    uint32_t operation_count;
    uint32_t guard_count;
    bool has_ttl; /* touch: a ttl rather than nil; else `ttl` is given, perhaps WIRE_FOREVER */
    bool keep_ttl;
    bool if_exists;
    bool previous;
    bool reverse;
    bool keys_only;
    bool id_is_number; /* push: `id_number` is given rather than `id` */

    struct slice queue;        /* the first of them where several are named */
    struct wire_cursor queues; /* reserve, pop: for wire_next_queue */
    uint32_t queue_count;      /* likewise */
    uint32_t count;            /* 1 where left out */
    uint32_t priority;         /* 0 where left out */
    enum wire_job_state state; /* WIRE_JOB_STATES where left out */
    uint64_t job;              /* also `id` of kick */
    uint64_t lease;            /* the token */
    uint64_t msgid;            /* of the wait to cancel */
    uint64_t duration_ms;      /* extend; pause: WIRE_FOREVER for nil */
    uint64_t delay_ms;         /* 0 where left out */
    uint64_t wait_ms;          /* 0 where left out, WIRE_FOREVER for nil */
    uint64_t lease_ms;         /* 0 where left out */
    struct slice id;           /* push: the producer's, of bytes */
    wire_integer id_number;    /* or a number */
    struct slice job_error;
    uint64_t max_deliveries, max_length, retry_delay_ms, dedup_window_ms; /* ask `given` */
};

/* To whom the answer goes, as far as the envelope could be read. */
enum wire_answer {
    WIRE_ANSWER_NIL,   /* with msgid nil: no msgid could be read */
    WIRE_ANSWER_MSGID, /* a request */
    WIRE_ANSWER_NONE,  /* a notification: executed, never answered */
};

struct wire_request {
    enum wire_answer answer;
    uint64_t msgid;
    enum wire_method method;
    size_t size; /* of the payload */
    struct wire_args args;
};

/* One [key, version] of a batch's `if`. */
struct wire_guard {
    struct slice key;
    uint64_t version;
};

/*
 * Decodes one payload. Returns WIRE_OK, or the code with which it fails and `error` filled;
 * `request->answer` and, where it says so, `request->msgid` are set in every case.
 *
 * For a batch the shape of all operations ([str, array], well-formed) and guards is checked here,
 * with `index` or `if` in the error's details; their methods and arguments are not.
 */
enum wire_code wire_decode_request(struct slice payload, struct wire_request *request,
                                   struct wire_error *error);

/*
 * Reads the next operation of a batch whose shape has been checked, moves `operations` behind it,
 * and decodes its arguments. Errors are as of wire_decode_request, without `index`; methods that
 * a batch may not hold are WIRE_BAD_REQUEST. After an error `operations` is behind it as well.
 */
enum wire_code wire_next_operation(struct wire_cursor *operations, enum wire_method *method,
                                   struct wire_args *args, struct wire_error *error);

/*
 * Reads the next queue of args->queues, of which there are queue_count; their names were checked.
 */
void wire_next_queue(struct wire_cursor *queues, struct slice *name);

/* The state's name, a static string. */
const char *wire_job_state_name(enum wire_job_state state);

/* Reads the next guard of a batch whose shape has been checked. */
void wire_next_guard(struct wire_cursor *guards, struct wire_guard *guard);

/* The method's name, a static string; its flags. */
const char *wire_method_name(enum wire_method method);
unsigned wire_method_flags(enum wire_method method);

/* The method of that name; WIRE_METHODS where there is none. */
enum wire_method wire_method_of(struct slice name);

#endif

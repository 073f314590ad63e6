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
#define METHOD(name, text, flags, required, positional, options) WIRE_METHOD_##name,
#include "wire/methods.def"
#undef METHOD
    WIRE_METHODS
};

enum wire_method_flags { WIRE_WRITES = 1 << 0, WIRE_BATCHABLE = 1 << 1, WIRE_FIRST = 1 << 2 };

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
    struct slice epoch;
    struct slice client;
    struct wire_cursor operations; /* batch: behind the header of the array of operations */
    struct wire_cursor guards;     /* batch: behind the header of `if` */
    uint32_t operation_count;
    uint32_t guard_count;
    bool has_ttl; /* touch: a ttl rather than nil; put, increment: `ttl` is given */
    bool keep_ttl;
    bool if_exists;
    bool previous;
    bool reverse;
    bool keys_only;
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

/* Reads the next guard of a batch whose shape has been checked. */
void wire_next_guard(struct wire_cursor *guards, struct wire_guard *guard);

/* The method's name, a static string; its flags. */
const char *wire_method_name(enum wire_method method);
unsigned wire_method_flags(enum wire_method method);

/* The method of that name; WIRE_METHODS where there is none. */
enum wire_method wire_method_of(struct slice name);

#endif

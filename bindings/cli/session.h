/*
 * What a command works with: its arguments, a handle to the daemon, and the output, which is
 * collected in a buffer and written at the end of a command or page.
 */
#ifndef BINDINGS_CLI_SESSION_H
#define BINDINGS_CLI_SESSION_H

#include "bindings/c/cubby.h"
#include "bindings/cli/arguments.h"

struct session {
    const struct arguments *arguments;
    struct cubby *cubby;
    struct buffer params; /* of the call that is being made */
    struct buffer out;
};

enum status session_open(struct session *session, const struct arguments *arguments);
void session_close(struct session *session);

/*
 * For commands that go on for ever, whether the daemon is there or not: asks it once, and says
 * where there is no answer within --timeout (0: the default one), so that a wrong endpoint does
 * not look like silence.
 */
void session_greet(struct session *session);

/* The endpoints that the arguments and the environment name, in a handle's options. */
struct session_endpoints {
    char broadcast[256];
    struct cubby_options options;
};
void session_endpoints(const struct arguments *arguments, struct session_endpoints *endpoints);

bool session_given(const struct session *session, enum option option);

/* The text of an option; NULL data where it is not given. */
struct cubby_bytes session_text(const struct session *session, enum option option);

/* Calls a method with session->params. On failure says so on standard error. */
enum status session_call(struct session *session, const char *method, struct cubby_bytes *result);

/* Says what the handle's last failure is and returns the exit status for it. */
enum status session_fail(const struct session *session);

/* Says that a reply is not of its method's form and returns the exit status for it. */
enum status session_malformed(void);

/* Says what is wrong with the usage; returns STATUS_USAGE. */
enum status session_misused(const char *what, const char *why);

/* The same of a number that was given: that it is not from `least` to `most`. */
enum status session_out_of_range(const struct session *session, enum option option, uint64_t least,
                                 uint64_t most);

/*
 * Appends a value that was given to session->params: as JSON, or as --raw or --msgpack say. Says
 * what is wrong with it, naming `what` it is, and returns STATUS_USAGE.
 */
enum status session_pack_value(struct session *session, struct slice given, const char *what);

/* The value as --raw or --msgpack say, and true; false where it is to be printed as JSON. */
bool session_print_bytes(struct session *session, struct cubby_bytes value);

/* A map as lines of names and values, or as JSON where that is asked for; and writes it. */
enum status session_print_answer(struct session *session, struct cubby_bytes result);

/* Writes and empties session->out. */
enum status session_write(struct session *session);

/* All of standard input. */
enum status session_read_input(struct buffer *input);

void session_print_text(struct session *session, const char *text);
void session_print_json(struct session *session, struct cubby_bytes object);
void session_print_number(struct session *session, uint64_t number);

/* A key as text: \t \n \\, and \xNN for other control characters and what is not UTF-8. */
void session_print_key(struct session *session, struct cubby_bytes key);

static inline struct slice session_slice(struct cubby_bytes bytes)
{
    return slice_of(bytes.data, bytes.size);
}

static inline struct cubby_bytes session_bytes(const struct buffer *buffer)
{
    return cubby_data(buffer->data, buffer->size);
}

#endif

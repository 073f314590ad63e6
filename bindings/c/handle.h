/*
 * The inside of a handle, for the files of this folder: encoding and sending requests, and
 * waiting for their replies.
 *
 * A request is sent in three steps: request_begin encodes the envelope into handle->out, the
 * caller appends the params, and request_send (with a callback) or request_run (waiting) sends.
 */
#ifndef BINDINGS_C_HANDLE_H
#define BINDINGS_C_HANDLE_H

#include <sys/types.h>
#include <zmq.h>

#include "bindings/c/failure.h"
#include "bindings/c/params.h"
#include "bindings/c/slots.h"

struct cubby {
    void *context;
    bool owns_context;
    void *socket; /* DEALER */
    char *endpoint;
    char *broadcast;
    int64_t timeout_ms; /* CUBBY_FOREVER or over 0 */
    struct slots slots;
    int64_t next_due_ms; /* no request is due before; NEVER_MS */
    int64_t heard_ms;    /* when a message last came in on `socket` */
    struct buffer out;   /* the request that is being encoded */
    uint64_t msgid;      /* its msgid; 0 where request_begin failed */
    /*
     * A message that a caller still has views into is not received over: replies come into
     * messages[incoming], and a reply that is handed to a caller switches to the other one.
     */
    zmq_msg_t messages[2];
    unsigned incoming;
    pid_t pid;        /* who opened it: a child by fork() has no part in its sockets */
    bool dispatching; /* callbacks may be running: no call may wait, nor close the handle */
    bool closing;
    size_t own_requests; /* outstanding ones of subscriptions and tasks */
    struct failure failure;
    struct failure reply_failure;
    struct cubby_subscription *subscriptions;
    struct task *tasks;    /* watches and mirrors: see task.h */
    zmq_pollitem_t *items; /* room for the request socket and each subscription's */
    int fd;                /* an epoll of all sockets' descriptors; -1 until asked for */
};

#define NEVER_MS INT64_MAX

/* The monotonic clock. */
int64_t now_ms(void);

/* `timeout_ms` from now, NEVER_MS for CUBBY_FOREVER. */
int64_t due_ms(int64_t now, int64_t timeout_ms);

/* Sets what cubby_last_error returns, where there is a handle; returns the status. */
enum cubby_status handle_fail(struct cubby *cubby, enum cubby_status status, const char *message);

/* CUBBY_MISUSE where `call` must not wait now: in a callback, or in a child by fork(). */
enum cubby_status handle_may_wait(struct cubby *cubby, const char *call);

/* As handle_fail for CUBBY_SYSTEM, with zmq_strerror of errno. */
enum cubby_status handle_fail_system(struct cubby *cubby, const char *what);

/* A socket of the handle's context with its options set; NULL with errno. */
void *handle_socket(struct cubby *cubby, int type);

/*
 * CUBBY_TOO_LARGE for a prefix over `limit` bytes, of those who follow it for ever: the broadcast
 * has no say in what is subscribed to, and what is asked again and again would be refused as often.
 */
enum cubby_status handle_check_prefix(struct cubby *cubby, struct cubby_bytes prefix, size_t limit);

/* EINVAL or EPROTONOSUPPORT where cubby_endpoint_fault finds one, else 0. */
int endpoint_error(const char *endpoint);

/* Connects it; on failure, -1 with errno, it is closed. */
int handle_connect(struct cubby *cubby, void *socket, const char *endpoint);

/* Has the handle's descriptor tell of the socket's news, where there is one. */
int handle_watch(const struct cubby *cubby, void *socket);

/* Closes it, dropping what was not sent. */
void handle_disconnect(struct cubby *cubby, void *socket);

/* False, with CUBBY_MISUSE as the handle's failure, without a handle or a method. */
bool request_begin(struct cubby *cubby, const char *method);
enum cubby_status request_send(struct cubby *cubby, int64_t timeout_ms, cubby_callback *callback,
                               void *context);

/* `result` is a view that lives until the next call on the handle. */
enum cubby_status request_run(struct cubby *cubby, int64_t timeout_ms, struct cubby_bytes *result);

/* Turns the status of reading a result into the handle's failure. */
enum cubby_status request_read(struct cubby *cubby, enum cubby_status read);

#endif

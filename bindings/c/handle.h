/*
 * The inside of a handle, for the files of this folder: encoding and sending requests, and
 * waiting for their replies.
 *
 * A request is sent in three steps: request_begin encodes the envelope into handle->out, the
 * caller appends the params, and request_send (with a callback) or request_run (waiting) sends.
 */
#ifndef BINDINGS_C_HANDLE_H
#define BINDINGS_C_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <zmq.h>

#include "bindings/c/failure.h"
#include "bindings/c/params.h"
#include "bindings/c/slots.h"
#include "bindings/c/sockets.h"
#include "bindings/c/task.h"

struct cubby {
    struct sockets sockets;
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
    _Atomic(pthread_t) waiter; /* the thread that waits in it; 0: none */
    bool dispatching; /* callbacks may be running: no call may wait, nor close the handle */
    bool closing;
    struct failure failure;
    struct failure reply_failure;
    struct task *tasks;    /* subscriptions, watches and mirrors */
    zmq_pollitem_t *items; /* room for the request socket and each task's */
};

/* Sets what cubby_last_error returns, where there is a handle; returns the status. */
enum cubby_status handle_fail(struct cubby *cubby, enum cubby_status status, const char *message);

/* CUBBY_MISUSE where `call` must not wait now: in a callback, or in a child by fork(). */
enum cubby_status handle_may_wait(struct cubby *cubby, const char *call);

/* As handle_fail for CUBBY_SYSTEM, with zmq_strerror of errno. */
enum cubby_status handle_fail_system(struct cubby *cubby, const char *what);

/*
 * CUBBY_TOO_LARGE for a prefix over `limit` bytes, of those who follow it for ever: the broadcast
 * has no say in what is subscribed to, and what is asked again and again would be refused as often.
 */
enum cubby_status handle_check_prefix(struct cubby *cubby, struct cubby_bytes prefix, size_t limit);

/* Makes room to wait for the news of one more task's socket; -1: no memory. */
int handle_reserve_item(struct cubby *cubby);

/* False, with CUBBY_MISUSE as the handle's failure, without a handle or a method. */
bool request_begin(struct cubby *cubby, const char *method);

/* Of a method's options, whichever they are: all have a timeout. */
#define TIMEOUT_OF(options) ((options) != NULL ? (options)->timeout_ms : 0)

/*
 * Sends what was encoded. The callback runs once, from whatever polls or waits: with the reply,
 * with CUBBY_TIMEOUT after `timeout_ms` (0: the handle's; CUBBY_FOREVER: never), or with
 * CUBBY_CLOSED. It never runs where this fails.
 */
enum cubby_status request_send(struct cubby *cubby, int64_t timeout_ms, cubby_callback *callback,
                               void *context);

/*
 * request_send for a request of a task's own: cubby_outstanding does not count it, and the callback
 * gets the task. It begins with request_answered, which is false where the task is to do nothing
 * with the answer.
 */
enum cubby_status request_send_for(struct cubby *cubby, struct task *task, int64_t timeout_ms,
                                   cubby_callback *callback);
bool request_answered(struct task *task, const struct cubby_reply *reply);

/* request_send, and waits for the reply. `result` is a view that lives until the next call on the
 * handle. */
enum cubby_status request_run(struct cubby *cubby, int64_t timeout_ms, struct cubby_bytes *result);

/* The same for a result that is a number, or a boolean; it goes nowhere where that is NULL. */
enum cubby_status request_run_number(struct cubby *cubby, int64_t timeout_ms, uint64_t *number);
enum cubby_status request_run_bool(struct cubby *cubby, int64_t timeout_ms, bool *existed);

/* Turns the status of reading a result into the handle's failure. */
enum cubby_status request_read(struct cubby *cubby, enum cubby_status read);

/* Cancels a watch at the daemon, which answers nothing: there may be nobody left to answer to. */
void handle_cancel_watch(struct cubby *cubby, uint64_t watch);

#endif

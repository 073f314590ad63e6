/*
 * What one method gets and gives: for service.c and the files that hold methods. A method runs
 * inside a transaction. It appends exactly one MessagePack object, its result, to call->out and
 * returns WIRE_OK; or it fills call->error and returns the code, and the transaction and what it
 * appended are taken back by whoever called it.
 */
#ifndef DAEMON_METHOD_H
#define DAEMON_METHOD_H

#include "daemon/service.h"

struct call {
    struct service *service;
    const struct wire_request *request; /* the message; a batch's, for its operations */
    const struct wire_args *args;       /* of the request, or of this operation of the batch */
    enum wire_method method;            /* likewise */
    const struct peer *peer;
    struct buffer *out;
    struct wire_error *error;
    struct service_answer *answer; /* NULL for operations of a batch */
};

typedef enum wire_code method_fn(struct call *call);

method_fn method_get;
method_fn method_put;
method_fn method_delete;
method_fn method_increment;
method_fn method_touch;
method_fn method_scan;
method_fn method_count;
method_fn method_delete_range;
method_fn method_batch;
method_fn method_changes;
method_fn method_checkpoint;
method_fn method_backup;
method_fn method_backup_read;
method_fn method_backup_end;
method_fn method_watch;
method_fn method_watch_credit;
method_fn method_watch_cancel;
method_fn method_queue_push;
method_fn method_queue_reserve;
method_fn method_queue_pop;
method_fn method_queue_cancel;
method_fn method_queue_ack;
method_fn method_queue_nack;
method_fn method_queue_extend;
method_fn method_queue_bury;
method_fn method_queue_kick;
method_fn method_queue_delete;
method_fn method_queue_job;
method_fn method_queue_peek;
method_fn method_queue_stats;
method_fn method_queue_list;
method_fn method_queue_configure;
method_fn method_queue_pause;
method_fn method_queue_resume;
method_fn method_queue_purge;
method_fn method_queue_drop;
method_fn method_ping;
method_fn method_hello;
method_fn method_stats;

/* Runs the method with these arguments as part of the present transaction. */
enum wire_code method_run(struct call *call, enum wire_method method);

/*
 * Ends the present transaction where `rc` is 0, and cancels it otherwise. Returns `rc`, or why it
 * could not be ended: then it was cancelled.
 */
int method_end_transaction(struct service *service, int rc);

/* The error for a code of the store: storage_full, unavailable or internal. */
enum wire_code method_store_error(struct wire_error *error, int store_code);

/* The seq as of this call: the transaction's own where it has made a change so far. */
uint64_t method_seq(const struct call *call);

/* Packs [value, version, expires_at], or nil where `entry` is NULL. */
void method_pack_entry(struct buffer *out, const struct keys_entry *entry);

/*
 * Packs one change from history. STORE_CORRUPT where its stored bytes are not an entry.
 */
int method_pack_change(struct buffer *out, const struct store_history_change *change);

#endif

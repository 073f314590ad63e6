/*
 * Parameters of the queues' methods, as params.h has those of the others.
 */
#ifndef BINDINGS_C_QUEUE_PARAMS_H
#define BINDINGS_C_QUEUE_PARAMS_H

#include "bindings/c/params.h"

struct queue_names {
    const struct cubby_bytes *names;
    size_t count;
};

void params_queue_push(struct buffer *out, struct cubby_bytes queue, struct cubby_bytes body,
                       const struct cubby_push_options *options);

/* `wait_ms` as in cubby_reserve_options, whose own is not read. */
void params_queue_reserve(struct buffer *out, struct queue_names queues, int64_t wait_ms,
                          const struct cubby_reserve_options *options);
void params_queue_pop(struct buffer *out, struct queue_names queues, int64_t wait_ms,
                      const struct cubby_reserve_options *options);

void params_queue_ack(struct buffer *out, uint64_t id, uint64_t lease);
void params_queue_nack(struct buffer *out, uint64_t id, uint64_t lease,
                       const struct cubby_nack_options *options);
void params_queue_extend(struct buffer *out, uint64_t id, uint64_t lease, uint64_t ms);
void params_queue_bury(struct buffer *out, uint64_t id, uint64_t lease, struct cubby_bytes error);
void params_queue_kick(struct buffer *out, struct cubby_bytes queue,
                       const struct cubby_kick_options *options);
void params_queue_peek(struct buffer *out, struct cubby_bytes queue,
                       const struct cubby_peek_options *options);
void params_queue_list(struct buffer *out, const struct cubby_list_options *options);
void params_queue_configure(struct buffer *out, struct cubby_bytes queue,
                            const struct cubby_configure_options *options);
void params_queue_pause(struct buffer *out, struct cubby_bytes queue, int64_t ms);
void params_queue_purge(struct buffer *out, struct cubby_bytes queue, enum cubby_job_state state);

/* Of methods that take a queue's name and nothing else; a number and nothing else. */
void params_queue(struct buffer *out, struct cubby_bytes queue);
void params_number(struct buffer *out, uint64_t number);

#endif

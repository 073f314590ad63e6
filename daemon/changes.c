/* History from the log: `changes` and the methods of watches, protocol section 5.2. */
#include "daemon/method.h"
#include "daemon/stored.h"

enum { MAX_WORK = 2 << 20 }; /* of one call, see store_history_work: a millisecond, about */

/* A page as it grows. Transactions are whole, so it ends with the one that fills it. */
struct page {
    uint32_t count;
    size_t start; /* in the reply */
    uint64_t work_limit;
    uint64_t seq; /* everything up to it is covered */
};

static bool is_full(const struct call *call, const struct page *page)
{
    return page->count >= call->args->limit ||
           store_history_work(call->service->history) >= page->work_limit ||
           call->out->size - page->start >= WIRE_PAGE_BYTES;
}

static int add_change(struct call *call, struct page *page,
                      const struct store_history_change *change)
{
    if (!slice_has_prefix(change->key, call->args->prefix))
        return 0;
    page->count++;
    return stored_pack_change(call->out, change);
}

/* Adds the rest of the transaction that begins with `change`. */
static int add_transaction(struct call *call, struct page *page,
                           struct store_history_change *change)
{
    int rc = add_change(call, page, change);
    while (rc == 0 && change->index + 1 < change->count &&
           (rc = store_history_next(call->service->history, change)) == 0)
        rc = add_change(call, page, change);
    if (rc == 0)
        page->seq = change->seq;
    return rc;
}

static int fill_page(struct call *call, struct page *page)
{
    struct store_history *history = call->service->history;
    struct store_history_change change;
    int rc = 0;
    while (rc == 0 && !is_full(call, page)) {
        rc = store_history_next(history, &change);
        if (rc == 0)
            rc = add_transaction(call, page, &change);
    }
    if (rc == STORE_NOT_FOUND)
        page->seq = store_seq(call->service->store);
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static enum wire_code compacted(struct call *call, const char *reason)
{
    const struct store *store = call->service->store;
    wire_fail(call->error, WIRE_COMPACTED, "%s: start afresh", reason);
    call->error->has = WIRE_DETAIL_OLDEST | WIRE_DETAIL_SEQ;
    call->error->oldest = store_oldest(store);
    call->error->seq = store_seq(store);
    return WIRE_COMPACTED;
}

/* Whether history from there on can be served. */
static enum wire_code check_history(struct call *call, uint64_t since)
{
    const struct wire_args *args = call->args;
    const struct store *store = call->service->store;
    if ((args->given & WIRE_HAS_EPOCH) != 0 &&
        !slice_equal(args->epoch, slice_of_text(store_epoch(store))))
        return compacted(call, "this daemon's history has another epoch");
    if (since > store_seq(store) || since + 1 < store_oldest(store))
        return compacted(call, "history from there is not kept");
    return WIRE_OK;
}

enum wire_code method_changes(struct call *call)
{
    struct buffer *out = call->out;
    struct store_history *history = call->service->history;
    struct page page = {.seq = call->args->since,
                        .work_limit = store_history_work(history) + MAX_WORK};
    enum wire_code code = check_history(call, page.seq);
    if (code != WIRE_OK)
        return code;
    int rc = store_history_seek(history, page.seq);
    wire_pack_map(out, 4);
    wire_pack_text(out, "epoch");
    wire_pack_text(out, store_epoch(call->service->store));
    wire_pack_text(out, "changes");
    size_t place = wire_pack_array_later(out);
    page.start = out->size;
    if (rc == 0)
        rc = fill_page(call, &page);
    if (rc != 0)
        return stored_fail(call->error, rc);
    wire_set_array_count(out, place, page.count);
    wire_pack_text(out, "seq");
    wire_pack_uint(out, page.seq);
    wire_pack_text(out, "oldest");
    wire_pack_uint(out, store_oldest(call->service->store));
    return WIRE_OK;
}

/* Watches. */

static enum wire_code refuse_watch(struct wire_error *error, enum wire_code code)
{
    switch (code) {
    case WIRE_OK:
        return WIRE_OK;
    case WIRE_BUSY:
        wire_fail(error, code, "%d watches are open, and no more than that", WIRE_MAX_WATCHES);
        error->has = WIRE_DETAIL_LIMIT;
        error->limit = WIRE_MAX_WATCHES;
        return code;
    case WIRE_NOT_FOUND:
        return wire_fail(error, code, "this connection has no such watch (any more)");
    case WIRE_BAD_REQUEST:
        return wire_fail(error, code, "a client with a routing id over %d bytes cannot watch",
                         WATCH_MAX_PEER);
    default:
        return stored_fail(error, STORE_NO_MEMORY);
    }
}

enum wire_code method_watch(struct call *call)
{
    const struct wire_args *args = call->args;
    struct service *service = call->service;
    uint64_t newest = store_seq(service->store);
    uint64_t since = (args->given & WIRE_HAS_SINCE) != 0 ? args->since : newest;
    uint64_t id = 0;
    enum wire_code code = check_history(call, since);
    if (code != WIRE_OK)
        return code;
    code = watches_add(service->watches, call->peer, args->prefix, since, args->credit,
                       store_now(service->store), &id);
    if (code != WIRE_OK)
        return refuse_watch(call->error, code);
    wire_pack_map(call->out, 3);
    wire_pack_text(call->out, "watch");
    wire_pack_uint(call->out, id);
    wire_pack_text(call->out, "epoch");
    wire_pack_text(call->out, store_epoch(service->store));
    wire_pack_text(call->out, "seq");
    wire_pack_uint(call->out, newest);
    if (call->out->failed)
        (void)watches_cancel(service->watches, call->peer, id);
    return WIRE_OK;
}

enum wire_code method_watch_credit(struct call *call)
{
    const struct wire_args *args = call->args;
    enum wire_code code =
        watches_give(call->service->watches, call->peer, args->watch, args->credit);
    wire_pack_bool(call->out, true);
    return refuse_watch(call->error, code);
}

enum wire_code method_watch_cancel(struct call *call)
{
    enum wire_code code = watches_cancel(call->service->watches, call->peer, call->args->watch);
    wire_pack_bool(call->out, true);
    return refuse_watch(call->error, code);
}

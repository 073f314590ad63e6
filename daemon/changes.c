/* The method `changes`: history from the log, protocol section 5.2. */
#include "daemon/method.h"

enum { MAX_SCANNED = 4 << 20 }; /* bytes of history that one call looks through, about */

static const char *const kinds[STORE_CHANGES] = {
    [STORE_CHANGE_PUT] = "put",
    [STORE_CHANGE_DELETE] = "delete",
    [STORE_CHANGE_EXPIRE] = "expire",
    [STORE_CHANGE_EVICT] = "evict",
};

int method_pack_change(struct buffer *out, const struct store_history_change *change)
{
    struct keys_entry entry = {0};
    int rc = change->change == STORE_CHANGE_PUT ? keys_decode(change->value, &entry) : 0;
    if (rc != 0)
        return rc;
    struct wire_change packed = {
        .seq = change->seq,
        .index = change->index,
        .count = change->count,
        .kind = kinds[change->change],
        .key = change->key,
        .value = entry.value,
        .expires_at_ms = entry.expires_at_ms,
    };
    wire_pack_change(out, &packed);
    return 0;
}

/* A page as it grows. Transactions are whole, so it ends with the one that fills it. */
struct page {
    uint32_t count;
    size_t start; /* in the reply */
    size_t scanned;
    uint64_t seq; /* everything up to it is covered */
};

static bool is_full(const struct call *call, const struct page *page)
{
    return page->count >= call->args->limit || page->scanned >= MAX_SCANNED ||
           call->out->size - page->start >= WIRE_PAGE_BYTES;
}

static int add_change(struct call *call, struct page *page,
                      const struct store_history_change *change)
{
    page->scanned += change->key.size + change->value.size;
    if (!slice_has_prefix(change->key, call->args->prefix))
        return 0;
    page->count++;
    return method_pack_change(call->out, change);
}

/* Adds the rest of the transaction that begins with `change`. */
static int add_transaction(struct call *call, struct page *page,
                           struct store_history_change *change)
{
    int rc = add_change(call, page, change);
    while (rc == 0 && change->index + 1 < change->count &&
           (rc = store_history_next(call->service->store, change)) == 0)
        rc = add_change(call, page, change);
    if (rc == 0)
        page->seq = change->seq;
    return rc;
}

static int fill_page(struct call *call, struct page *page)
{
    struct store *store = call->service->store;
    struct store_history_change change;
    int rc = 0;
    while (rc == 0 && !is_full(call, page)) {
        rc = store_history_next(store, &change);
        if (rc == 0)
            rc = add_transaction(call, page, &change);
    }
    if (rc == STORE_NOT_FOUND)
        page->seq = store_seq(store);
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

static enum wire_code seek(struct call *call)
{
    const struct wire_args *args = call->args;
    struct store *store = call->service->store;
    if ((args->given & WIRE_HAS_EPOCH) != 0 &&
        !slice_equal(args->epoch, slice_of_text(store_epoch(store))))
        return compacted(call, "this daemon's history has another epoch");
    int rc = store_history_seek(store, args->since);
    if (rc == STORE_COMPACTED)
        return compacted(call, "history from there is not kept");
    return rc == 0 ? WIRE_OK : method_store_error(call->error, rc);
}

enum wire_code method_changes(struct call *call)
{
    struct buffer *out = call->out;
    struct page page = {.seq = call->args->since};
    enum wire_code code = seek(call);
    if (code != WIRE_OK)
        return code;
    wire_pack_map(out, 4);
    wire_pack_text(out, "epoch");
    wire_pack_text(out, store_epoch(call->service->store));
    wire_pack_text(out, "changes");
    size_t place = wire_pack_array_later(out);
    page.start = out->size;
    int rc = fill_page(call, &page);
    if (rc != 0)
        return method_store_error(call->error, rc);
    wire_set_array_count(out, place, page.count);
    wire_pack_text(out, "seq");
    wire_pack_uint(out, page.seq);
    wire_pack_text(out, "oldest");
    wire_pack_uint(out, store_oldest(call->service->store));
    return WIRE_OK;
}

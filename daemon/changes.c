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

/* A page as it grows. Transactions are whole, so that it can only end where one does. */
struct page {
    uint32_t count;
    uint32_t whole_count; /* up to the end of the last whole transaction */
    size_t whole_size;    /* of the reply, likewise */
    size_t start;
    size_t scanned;
    uint64_t seq; /* everything up to it is covered */
};

static void end_transaction(struct call *call, struct page *page, uint64_t seq)
{
    page->seq = seq;
    page->whole_count = page->count;
    page->whole_size = call->out->size;
}

static bool is_full(const struct call *call, const struct page *page)
{
    return page->count >= call->args->limit || page->scanned >= MAX_SCANNED ||
           call->out->size - page->start >= WIRE_PAGE_BYTES;
}

/* Whether what was added since the last whole transaction has to wait for the next page. */
static bool is_too_much(const struct call *call, const struct page *page)
{
    return page->whole_count > 0 && page->count > call->args->limit;
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

static int fill_page(struct call *call, struct page *page)
{
    struct store *store = call->service->store;
    struct store_history_change change;
    int rc = 0;
    while (!is_full(call, page) && (rc = store_history_next(store, &change)) == 0) {
        rc = add_change(call, page, &change);
        while (rc == 0 && change.index + 1 < change.count &&
               (rc = store_history_next(store, &change)) == 0)
            rc = add_change(call, page, &change);
        if (rc != 0)
            return rc;
        if (is_too_much(call, page)) {
            call->out->size = page->whole_size;
            page->count = page->whole_count;
            return 0;
        }
        end_transaction(call, page, change.seq);
    }
    if (rc != STORE_NOT_FOUND)
        return rc;
    page->seq = store_seq(store);
    return 0;
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
    page.start = page.whole_size = out->size;
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

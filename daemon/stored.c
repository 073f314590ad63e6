#include "daemon/stored.h"

#include "wire/pack.h"

enum wire_code stored_fail(struct wire_error *error, int store_code)
{
    switch (store_code) {
    case STORE_FULL:
        return wire_fail(error, WIRE_STORAGE_FULL,
                         "the limit of memory or disk is reached; delete something, or raise it");
    case STORE_NO_MEMORY:
        return wire_fail(error, WIRE_STORAGE_FULL, "the daemon is out of memory; nothing was done");
    case STORE_IO:
        return wire_fail(error, WIRE_UNAVAILABLE, "the disk fails; see the daemon's log");
    default:
        return wire_fail(error, WIRE_INTERNAL, "defect in the daemon (store code %d)", store_code);
    }
}

static const char *const kinds[STORE_CHANGES] = {
    [STORE_CHANGE_PUT] = "put",
    [STORE_CHANGE_DELETE] = "delete",
    [STORE_CHANGE_EXPIRE] = "expire",
    [STORE_CHANGE_EVICT] = "evict",
};

int stored_pack_change(struct buffer *out, const struct store_history_change *change)
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

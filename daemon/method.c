#include "daemon/method.h"

uint64_t method_seq(const struct call *call)
{
    const struct store *store = call->service->store;
    return store_change_count(store) > 0 ? store_next_seq(store) : store_seq(store);
}

void method_pack_number(struct buffer *out, const char *name, uint64_t value)
{
    wire_pack_text(out, name);
    wire_pack_uint(out, value);
}

void method_pack_text(struct buffer *out, const char *name, const char *value)
{
    wire_pack_text(out, name);
    wire_pack_text(out, value);
}

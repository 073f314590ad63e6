/* Which function carries out which method; and the batch, which has others carried out. */
#include "daemon/method.h"
#include "daemon/stored.h"

method_fn *const method_table[WIRE_METHODS] = {
#define METHOD(NAME, function, ...) [WIRE_METHOD_##NAME] = method_##function,
#include "wire/methods.def"
#undef METHOD
};

static enum wire_code check_guards(struct call *call)
{
    struct wire_cursor guards = call->args->guards;
    for (uint32_t i = 0; i < call->args->guard_count; i++) {
        struct wire_guard guard;
        struct keys_entry entry = {0};
        wire_next_guard(&guards, &guard);
        int rc = keys_get(&call->service->keys, guard.key, &entry);
        if (rc != 0 && rc != STORE_NOT_FOUND)
            return stored_fail(call->error, rc);
        uint64_t version = rc == 0 ? entry.version : 0;
        if (version == guard.version)
            continue;
        wire_fail(call->error, WIRE_CONFLICT, "guard %u: the key's version is %llu, not %llu", i,
                  (unsigned long long)version, (unsigned long long)guard.version);
        call->error->has = WIRE_DETAIL_KEY | WIRE_DETAIL_VERSION | WIRE_DETAIL_IF;
        call->error->key = guard.key;
        call->error->version = version;
        call->error->guard = i;
        return WIRE_CONFLICT;
    }
    return WIRE_OK;
}

static enum wire_code check_size(struct call *call, size_t start)
{
    if (store_change_count(call->service->store) > WIRE_MAX_CHANGES)
        return wire_fail_limit(call->error, WIRE_MAX_CHANGES, "changes", "the changes of a batch");
    if (call->out->size - start > WIRE_MAX_MESSAGE)
        return wire_fail_limit(call->error, WIRE_MAX_MESSAGE, "bytes", "the results of a batch");
    return WIRE_OK;
}

/* Operations that were decoded ahead, so that what they look for can be loaded together. */
struct window {
    struct wire_cursor operations; /* behind them */
    unsigned count;
    enum wire_method methods[STORE_MAX_PREFETCH];
    struct wire_args args[STORE_MAX_PREFETCH];
    enum wire_code code; /* of what comes behind them, where that cannot be decoded */
    struct wire_error error;
};

/* Decodes up to `left` operations. */
static void fill_window(struct call *call, struct window *window, uint32_t left)
{
    struct slice keys[STORE_MAX_PREFETCH];
    unsigned key_count = 0;
    window->count = 0;
    window->code = WIRE_OK;
    while (window->count < STORE_MAX_PREFETCH && window->count < left) {
        struct wire_args *args = &window->args[window->count];
        window->code = wire_next_operation(&window->operations, &window->methods[window->count],
                                           args, &window->error);
        if (window->code != WIRE_OK)
            break;
        window->count++;
        if (args->key.size > 0)
            keys[key_count++] = args->key;
    }
    store_prefetch(call->service->store, STORE_KEYS, keys, key_count);
}

/* Runs the window's operations; `done` counts them. The error is of the operation *done. */
static enum wire_code run_window(struct call *call, struct window *window, size_t start,
                                 uint32_t *done)
{
    struct call operation = *call;
    operation.answer = NULL;
    for (unsigned i = 0; i < window->count; i++, ++*done) {
        operation.args = &window->args[i];
        enum wire_code code = method_run(&operation, window->methods[i]);
        if (code == WIRE_OK)
            code = check_size(call, start);
        if (code != WIRE_OK)
            return code;
    }
    if (window->code != WIRE_OK)
        *call->error = window->error;
    return window->code;
}

static enum wire_code run_operations(struct call *call)
{
    struct window window;
    uint32_t all = call->args->operation_count;
    size_t start = call->out->size;
    uint32_t done = 0;
    window.operations = call->args->operations;
    while (done < all) {
        fill_window(call, &window, all - done);
        enum wire_code code = run_window(call, &window, start, &done);
        if (code == WIRE_OK)
            continue;
        call->error->has |= WIRE_DETAIL_INDEX;
        call->error->index = done;
        return code;
    }
    return WIRE_OK;
}

enum wire_code method_batch(struct call *call)
{
    enum wire_code code = check_guards(call);
    if (code != WIRE_OK)
        return code;
    wire_pack_map(call->out, 2);
    wire_pack_text(call->out, "results");
    wire_pack_array(call->out, call->args->operation_count);
    code = run_operations(call);
    if (code != WIRE_OK)
        return code;
    wire_pack_text(call->out, "seq");
    wire_pack_uint(call->out, method_seq(call));
    return WIRE_OK;
}

/*
 * Memory that runs out at any moment: the operation fails, its transaction is cancelled, nothing
 * has changed, and the next try goes well.
 */
#include "tests/queue/fixture.h"

static long allowed = -1; /* allocations that still go well; -1: all */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool is_refused(void)
{
    if (allowed > 0)
        allowed--;
    return allowed == 0;
}

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return is_refused() ? NULL : __real_realloc(old, size);
}

static int push_some(void)
{
    static char large[20000];
    char name[32];
    uint64_t id;
    bool duplicate;
    int rc = 0;
    for (int i = 0; rc == 0 && i < 40; i++) {
        struct push_options options = {.priority = (uint64_t)i % 3};
        snprintf(name, sizeof name, "queue %d", i);
        rc = queue_push(queues, text(name), slice_of(large, sizeof large), &options, &id,
                        &duplicate);
    }
    return rc;
}

static int pop_some(void)
{
    char name[32];
    struct job job;
    int rc = 0;
    for (int i = 0; rc == 0 && i < 40; i++) {
        snprintf(name, sizeof name, "queue %d", i);
        rc = queue_take(queues, text(name), i % 2 == 0, 0, &job);
    }
    return rc;
}

static int drop_some(void)
{
    char name[32];
    bool existed;
    int rc = 0;
    for (int i = 0; rc == 0 && i < 40; i++) {
        snprintf(name, sizeof name, "queue %d", i);
        rc = queue_drop(queues, text(name), &existed);
    }
    return rc;
}

static bool queue_exists(const char *name)
{
    struct queue_stats stats;
    return queue_stats(queues, text(name), &stats) == 0;
}

/* A transaction with every number of allocations that are too few for it. */
static void try(int (*run)(void))
{
    bool well = false;
    for (long few = 1; !well; few++) {
        uint64_t before = entries_of(STORE_LISTS);
        bool existed = queue_exists("queue 0");
        allowed = few;
        begin();
        int rc = run();
        if (rc == 0) {
            rc = store_end(store, NULL);
            allowed = -1;
        } else {
            allowed = -1; /* an undo without memory is the store's matter */
            store_cancel(store);
        }
        if (rc == 0)
            queues_end(queues);
        else
            queues_cancel(queues);
        well = rc == 0;
        cr_assert(well || rc == STORE_NO_MEMORY || rc == STORE_FULL, "allocation %ld: %d", few, rc);
        if (!well) {
            cr_assert_eq(entries_of(STORE_LISTS), before);
            cr_assert_eq(queue_exists("queue 0"), existed);
        }
    }
    turn_end();
}

Test(memory, an_allocation_that_fails_fails_its_transaction_alone)
{
    now_ms = 1000000;
    open_all();
    try(push_some);
    try(pop_some);
    try(drop_some);
    expire();
    cr_assert_eq(entries_of(STORE_LISTS), 0);
    close_all();
}

Test(memory, a_start_without_memory_says_so)
{
    struct store_error error = {.message = ""};
    now_ms = 1000000;
    open_all();
    push("q", "a");
    turn_end();
    queues_close(&queues);
    for (long few = 1; queues == NULL; few++) {
        allowed = few;
        int rc = queues_open(&queues, store, now_ms, &error);
        allowed = -1;
        cr_assert(rc == 0 || rc == STORE_NO_MEMORY);
        cr_assert(rc == 0 || strstr(error.message, "memory") != NULL);
    }
    cr_assert_eq(count_of("q", JOB_READY), 1);
    close_all();
}

/* The state as the mender reads and writes it, and the queues and lists that it makes. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "queue/mend_internal.h"
#include "store/fill.h"

enum { MAX_SALVAGED_NAME = 64 };

static_assert((int)TALLIES == (int)KNOWN_TALLIES, "each has its place in a known queue");

void mend_note_id(struct mend *mend, uint64_t number)
{
    if (is_id(number) && number >= mend->next_id)
        mend->next_id = number + 1;
}

void mend_tally(struct mend *mend, uint64_t queue, enum tally what)
{
    struct known_queue *known = known_queue(&mend->known, queue);
    if (known != NULL)
        known->tallies[what]++;
    else if (what == LOST)
        mend->lost_jobs++;
}

/* Reading and writing. */

int mend_put(struct mend *mend, enum store_table table, struct slice key, struct slice value)
{
    return store_fill_put(mend->mending->fill, table, key, value, mend->error);
}

int mend_take_out(struct mend *mend, enum store_table table, struct slice key)
{
    return store_fill_delete(mend->mending->fill, table, key, mend->error);
}

int mend_drop_odd(struct mend *mend, enum store_table table, struct slice key)
{
    mend->odd[table]++;
    return mend_take_out(mend, table, key);
}

int mend_find(struct mend *mend, enum store_table table, struct slice key, struct slice *value,
              bool *there)
{
    int rc = mend->state->methods->get(mend->state, table, key, value);
    *there = rc == 0;
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

int mend_load_counts(struct mend *mend, struct known_queue *queue)
{
    uint8_t key[RECORD_MAX_KEY];
    struct slice value;
    bool there;
    int rc =
        mend_find(mend, STORE_QUEUES, record_number_key(key, 'c', queue->number), &value, &there);
    queue->counted = rc == 0 && there && record_read_counts(value, &queue->counts) == 0;
    return rc;
}

uint64_t mend_list_of(struct mend *mend, struct known_queue *queue, enum list kind, uint64_t hint)
{
    uint64_t *number = &queue->fields.lists[kind];
    if (*number != 0)
        return *number;
    *number = is_id(hint) && known_list(&mend->known, hint) == NULL ? hint : mend->next_id++;
    queue->changed = true;
    mend_note_id(mend, *number);
    known_insert_list(&mend->known, (struct known_list){*number, queue->number, kind, false});
    return *number;
}

/* "salvaged-NUMBER", or what of that kind no queue has; takes the name, with nothing behind it yet.
 */
static int take_name(struct mend *mend, uint64_t number, char name[MAX_SALVAGED_NAME])
{
    uint8_t key[RECORD_MAX_KEY];
    struct slice value;
    bool taken = true;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && taken; i++) {
        int size = snprintf(name, MAX_SALVAGED_NAME, "salvaged-%" PRIu64, number);
        if (i > 0)
            snprintf(name + size, MAX_SALVAGED_NAME - (size_t)size, "-%u", i);
        rc = mend_find(mend, STORE_QUEUES, record_name_key(key, slice_of_text(name)), &value,
                       &taken);
    }
    if (rc != 0)
        return rc;
    return mend_put(mend, STORE_QUEUES, record_name_key(key, slice_of_text(name)), slice_of("", 0));
}

int mend_make_queue(struct mend *mend, uint64_t number)
{
    struct queue_fields fields = {
        .number = number,
        .settings = {.lease_ms = QUEUE_DEFAULT_LEASE_MS,
                     .max_deliveries = QUEUE_DEFAULT_MAX_DELIVERIES,
                     .retry_delay_ms = QUEUE_DEFAULT_RETRY_DELAY_MS,
                     .ttl_ms = QUEUE_FOREVER,
                     .dedup_window_ms = QUEUE_DEFAULT_DEDUP_WINDOW_MS},
    };
    char name[MAX_SALVAGED_NAME];
    int rc = take_name(mend, number, name);
    if (rc != 0)
        return rc;
    size_t lists = mend->known.lists.size;
    known_add_queue(&mend->known, slice_of_text(name), &fields);
    mend->known.lists.size = lists; /* it has none yet */
    if (known_failed(&mend->known))
        return STORE_NO_MEMORY;
    known_sort(&mend->known);
    struct known_queue *queue = known_queue(&mend->known, number);
    queue->changed = true;
    queue->tallies[NAMELESS] = 1;
    mend_note_id(mend, number);
    return mend_load_counts(mend, queue);
}

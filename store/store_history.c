/* Readers of history: from the records of the log to changes. */
#include "store/store_internal.h"

enum { OPERATION_WORK = 16 }; /* what going through an operation costs, in bytes of reading */

struct store_history {
    const struct store *store;
    struct log_reader *reader;
    struct slice body; /* of the record that is being read */
    size_t at;
    struct store_history_change change; /* seq, and index of the next */
    uint64_t operations;                /* gone through so far */
};

int store_history_open(struct store *store, struct store_history **result)
{
    struct store_history *history = calloc(1, sizeof *history);
    if (history == NULL)
        return STORE_NO_MEMORY;
    int rc = log_reader_open(store->log, &history->reader);
    if (rc != 0) {
        free(history);
        return rc;
    }
    history->store = store;
    *result = history;
    return 0;
}

void store_history_close(struct store_history **pointer)
{
    struct store_history *history = *pointer;
    if (history == NULL)
        return;
    *pointer = NULL;
    log_reader_close(&history->reader);
    free(history);
}

static uint32_t count_changes(struct store_history *history, struct slice body)
{
    struct operation operation;
    uint32_t count = 0;
    for (size_t at = 0; operation_read(body, &at, &operation) == 0; history->operations++)
        count += operation_is_change(operation.action);
    return count;
}

int store_history_seek(struct store_history *history, uint64_t since)
{
    history->body = (struct slice){0};
    history->at = 0;
    if (since > history->store->seq)
        return STORE_COMPACTED;
    return log_seek(history->reader, since);
}

static int next_record(struct store_history *history)
{
    struct log_record record;
    int rc = log_next(history->reader, &record);
    if (rc != 0)
        return rc;
    history->body = record.body;
    history->at = 0;
    history->change = (struct store_history_change){.seq = record.seq,
                                                    .count = count_changes(history, record.body)};
    return 0;
}

int store_history_next(struct store_history *history, struct store_history_change *change)
{
    struct operation operation;
    for (;;) {
        int rc = operation_read(history->body, &history->at, &operation);
        if (rc == STORE_NOT_FOUND)
            rc = next_record(history);
        else if (rc == 0 && operation_is_change(operation.action))
            break;
        if (rc != 0)
            return rc;
    }
    *change = history->change;
    change->change = operation_change(operation.action);
    change->key = operation.key;
    change->value = operation.value;
    history->change.index++;
    return 0;
}

uint64_t store_history_work(const struct store_history *history)
{
    return log_reader_work(history->reader) + OPERATION_WORK * history->operations;
}

#include "queue/record.h"

#include <assert.h>
#include <endian.h>

enum { FORMAT = 1, FORMAT_WHOLE = 2 };

/* Numbers. */

static uint8_t *write_big(uint8_t *at, uint64_t number)
{
    uint64_t bytes = htobe64(number);
    memcpy(at, &bytes, sizeof bytes);
    return at + sizeof bytes;
}

static uint64_t read_big(const uint8_t *at)
{
    uint64_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return be64toh(bytes);
}

static uint8_t *write_little(uint8_t *at, uint64_t number)
{
    uint64_t bytes = htole64(number);
    memcpy(at, &bytes, sizeof bytes);
    return at + sizeof bytes;
}

static uint64_t read_little(const uint8_t *at)
{
    uint64_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return le64toh(bytes);
}

static void write_little32(uint8_t *at, uint32_t number)
{
    uint32_t bytes = htole32(number);
    memcpy(at, &bytes, sizeof bytes);
}

static uint32_t read_little32(const uint8_t *at)
{
    uint32_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return le32toh(bytes);
}

static void write_little16(uint8_t *at, size_t number)
{
    at[0] = (uint8_t)number;
    at[1] = (uint8_t)(number >> 8);
}

static size_t read_little16(const uint8_t *at)
{
    return (size_t)at[0] | (size_t)at[1] << 8;
}

/* Keys. */

struct slice record_id_key(uint8_t buffer[RECORD_NUMBER_SIZE], uint64_t id)
{
    write_big(buffer, id);
    return slice_of(buffer, RECORD_NUMBER_SIZE);
}

struct slice record_list_key(uint8_t buffer[RECORD_LIST_KEY_SIZE], uint64_t list,
                             struct place place)
{
    write_big(write_big(write_big(buffer, list), place.order), place.id);
    return slice_of(buffer, RECORD_LIST_KEY_SIZE);
}

bool record_read_place(struct slice key, uint64_t *list, struct place *place)
{
    if (key.size != RECORD_LIST_KEY_SIZE)
        return false;
    *list = read_big(key.data);
    place->order = read_big(key.data + RECORD_NUMBER_SIZE);
    place->id = read_big(key.data + 2 * (size_t)RECORD_NUMBER_SIZE);
    return true;
}

bool record_read_list_key(struct slice key, uint64_t list, struct place *place)
{
    struct place found;
    uint64_t number;
    if (!record_read_place(key, &number, &found) || number != list)
        return false;
    *place = found;
    return true;
}

bool record_read_id_key(struct slice key, uint64_t *id)
{
    if (key.size != RECORD_NUMBER_SIZE)
        return false;
    *id = read_big(key.data);
    return true;
}

struct slice record_name_key(uint8_t buffer[RECORD_MAX_KEY], struct slice name)
{
    buffer[0] = 'n';
    if (name.size > 0)
        memcpy(buffer + 1, name.data, name.size);
    return slice_of(buffer, 1 + name.size);
}

bool record_read_name_key(struct slice key, struct slice *name)
{
    if (key.size < 2 || key.size > RECORD_MAX_KEY || key.data[0] != 'n')
        return false;
    *name = slice_of(key.data + 1, key.size - 1);
    return true;
}

struct slice record_number_key(uint8_t buffer[RECORD_MAX_KEY], char kind, uint64_t number)
{
    buffer[0] = (uint8_t)kind;
    write_big(buffer + 1, number);
    return slice_of(buffer, 1 + RECORD_NUMBER_SIZE);
}

bool record_read_number_key(struct slice key, char kind, uint64_t *number)
{
    if (key.size != 1 + RECORD_NUMBER_SIZE || key.data[0] != (uint8_t)kind)
        return false;
    *number = read_big(key.data + 1);
    return true;
}

struct slice record_dedup_key(uint8_t buffer[RECORD_MAX_DEDUP_KEY], uint64_t queue,
                              struct slice dedup)
{
    memcpy(write_big(buffer, queue), dedup.data, dedup.size);
    return slice_of(buffer, RECORD_NUMBER_SIZE + dedup.size);
}

bool record_read_dedup_key(struct slice key, uint64_t *queue, struct slice *dedup)
{
    if (key.size <= RECORD_NUMBER_SIZE || key.size > RECORD_MAX_DEDUP_KEY)
        return false;
    *queue = read_big(key.data);
    *dedup = slice_of(key.data + RECORD_NUMBER_SIZE, key.size - RECORD_NUMBER_SIZE);
    return true;
}

/* Where jobs are. */

bool record_is_in(const struct record *record, enum list list, struct place *place)
{
    bool timed = record->state == JOB_DELAYED || record->state == JOB_LEASED;
    bool waits = record->state == JOB_READY || record->state == JOB_DELAYED;
    *place = (struct place){.id = record->id};
    if (list == LIST_RANKED)
        return record->state == JOB_READY && record->priority != 0;
    if (list == LIST_EXPIRING) {
        place->order = record->expires_at_ms;
        return waits && record->expires_at_ms != 0;
    }
    place->order = timed ? record->due_at_ms : record->priority;
    return list == (enum list)record->state;
}

/*
 * A job:
 *
 *     0     1   format: 1; 2 of a small job, which is whole
 *     1     1   state
 *     2     2   size of the error       2 bytes of 0xff: none
 *     4     2   size of the producer's id, 0: none
 *     6     2   0
 *     8     4   priority
 *     12    4   deliveries
 *     16    8   queue                    24  8  list
 *     32    8   pushed at                40  8  lease
 *     48    8   due at                   56  8  expires at
 *     64        error, producer's id; in STORE_BODIES the body
 *
 * All of its head is always there, so that a job which moves keeps its size and is written over.
 * To write the body of a small job once more costs less than a second entry, which is made when it
 * is taken and removed when it is acknowledged. The body of a larger one is written once.
 */
enum { JOB_HEAD = 64, NO_ERROR = 0xffff };

static_assert(JOB_HEAD + RECORD_MAX_TAIL == RECORD_MAX_JOB, "the buffer is to hold all but a body");

struct slice record_write_job(uint8_t buffer[RECORD_MAX_JOB], const struct record *record,
                              struct slice error)
{
    uint8_t *tail = buffer + JOB_HEAD;
    buffer[0] = record->whole ? FORMAT_WHOLE : FORMAT;
    buffer[1] = (uint8_t)record->state;
    write_little16(buffer + 2, error.data != NULL ? error.size : NO_ERROR);
    write_little16(buffer + 4, record->dedup.size);
    write_little16(buffer + 6, 0);
    write_little32(buffer + 8, record->priority);
    write_little32(buffer + 12, record->deliveries);
    write_little(buffer + 16, record->queue);
    write_little(buffer + 24, record->list);
    write_little(buffer + 32, record->pushed_at_ms);
    write_little(buffer + 40, record->lease);
    write_little(buffer + 48, record->due_at_ms);
    write_little(buffer + 56, record->expires_at_ms);
    if (error.data != NULL && error.size > 0)
        memcpy(tail, error.data, error.size);
    if (record->dedup.size > 0)
        memcpy(tail + error.size, record->dedup.data, record->dedup.size);
    return slice_of(buffer, JOB_HEAD + error.size + record->dedup.size);
}

int record_read_job(struct slice value, struct record *record)
{
    const uint8_t *head = value.data;
    if (value.size < JOB_HEAD || (head[0] != FORMAT && head[0] != FORMAT_WHOLE) ||
        head[1] >= JOB_STATES)
        return STORE_CORRUPT;
    size_t error_size = read_little16(head + 2);
    size_t dedup_size = read_little16(head + 4);
    bool has_error = error_size != NO_ERROR;
    if (!has_error)
        error_size = 0;
    size_t size = JOB_HEAD + error_size + dedup_size;
    if (error_size > QUEUE_MAX_ERROR || dedup_size > QUEUE_MAX_DEDUP_ID || value.size < size)
        return STORE_CORRUPT;
    record->whole = head[0] == FORMAT_WHOLE;
    record->state = (enum job_state)head[1];
    record->priority = read_little32(head + 8);
    record->deliveries = read_little32(head + 12);
    record->queue = read_little(head + 16);
    record->list = read_little(head + 24);
    record->pushed_at_ms = read_little(head + 32);
    record->lease = read_little(head + 40);
    record->due_at_ms = read_little(head + 48);
    record->expires_at_ms = read_little(head + 56);
    record->error = slice_of(has_error ? head + JOB_HEAD : NULL, error_size);
    record->dedup = slice_of(dedup_size > 0 ? head + JOB_HEAD + error_size : NULL, dedup_size);
    record->body = slice_of(head + size, value.size - size);
    return record->whole && record->body.size > RECORD_MAX_WHOLE ? STORE_CORRUPT : 0;
}

/* All of it that is kept in one entry, in STORE_BODIES. */
static int put_whole(struct store *store, const struct record *record, struct slice error)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    uint8_t buffer[RECORD_MAX_JOB];
    return store_put(store, STORE_BODIES, record_id_key(key, record->id),
                     record_write_job(buffer, record, error), record->body, STORE_QUIET);
}

int record_put_job(struct store *store, const struct record *record)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    uint8_t buffer[RECORD_MAX_JOB];
    if (record->whole)
        return put_whole(store, record, record->error);
    return store_put(store, STORE_JOBS, record_id_key(key, record->id),
                     record_write_job(buffer, record, record->error), (struct slice){0},
                     STORE_QUIET);
}

int record_put_pushed(struct store *store, struct record *record)
{
    struct slice no_error = {0};
    record->whole = JOB_HEAD + record->dedup.size + record->body.size <= RECORD_MAX_WHOLE;
    return put_whole(store, record, record->whole ? record->error : no_error);
}

/* What a job that is not whole is now: `record` is as it was pushed, if it has not moved. */
static int get_moved(struct store *store, struct slice key, struct record *record)
{
    struct slice value;
    struct slice body = record->body;
    int rc = store_get(store, STORE_JOBS, key, &value);
    if (rc != 0)
        return rc == STORE_NOT_FOUND ? 0 : rc;
    rc = record_read_job(value, record);
    if (rc != 0 || record->whole || record->body.size != 0)
        return STORE_CORRUPT;
    record->moved = true;
    record->body = body;
    return 0;
}

int record_get_job(struct store *store, uint64_t id, struct record *record)
{
    uint8_t buffer[RECORD_NUMBER_SIZE];
    struct slice key = record_id_key(buffer, id);
    struct slice value;
    record->id = id;
    record->moved = false;
    int rc = store_get(store, STORE_BODIES, key, &value);
    if (rc == 0)
        rc = record_read_job(value, record);
    return rc == 0 && !record->whole ? get_moved(store, key, record) : rc;
}

int record_get_body(struct store *store, uint64_t id, struct slice *body)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    struct slice value;
    struct record record;
    int rc = store_get(store, STORE_BODIES, record_id_key(key, id), &value);
    if (rc == 0)
        rc = record_read_job(value, &record);
    *body = rc == 0 ? record.body : (struct slice){0};
    return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
}

int record_delete_job(struct store *store, const struct record *record)
{
    uint8_t key[RECORD_NUMBER_SIZE];
    int rc = 0;
    if (record->moved)
        rc = store_delete(store, STORE_JOBS, record_id_key(key, record->id), STORE_QUIET);
    if (rc == 0)
        rc = store_delete(store, STORE_BODIES, record_id_key(key, record->id), STORE_QUIET);
    return rc == STORE_NOT_FOUND ? STORE_CORRUPT : rc;
}

/*
 * A queue: 1 byte format: 1; then numbers of 8 bytes each: its own, those of its lists in the order
 * of enum list, paused until, and the settings in the order of struct queue_settings.
 */
enum { SETTINGS = 6, QUEUE_NUMBERS = 1 + LISTS + 1 + SETTINGS };

struct slice record_write_queue(uint8_t buffer[RECORD_MAX_VALUE], const struct queue_fields *fields)
{
    const struct queue_settings *settings = &fields->settings;
    const uint64_t set[SETTINGS] = {settings->lease_ms,   settings->max_deliveries,
                                    settings->max_length, settings->retry_delay_ms,
                                    settings->ttl_ms,     settings->dedup_window_ms};
    static_assert(1 + QUEUE_NUMBERS * RECORD_NUMBER_SIZE <= RECORD_MAX_VALUE, "too small a buffer");
    uint8_t *at = write_little(buffer + 1, fields->number);
    buffer[0] = FORMAT;
    for (unsigned i = 0; i < LISTS; i++)
        at = write_little(at, fields->lists[i]);
    at = write_little(at, fields->paused_until_ms);
    for (unsigned i = 0; i < SETTINGS; i++)
        at = write_little(at, set[i]);
    return slice_of(buffer, (size_t)(at - buffer));
}

int record_put_queue(struct store *store, struct slice name, const struct queue_fields *fields)
{
    uint8_t key[RECORD_MAX_KEY];
    uint8_t value[RECORD_MAX_VALUE];
    return store_put(store, STORE_QUEUES, record_name_key(key, name),
                     record_write_queue(value, fields), (struct slice){0}, STORE_RESERVED);
}

int record_read_queue(struct slice value, struct queue_fields *fields)
{
    uint64_t numbers[QUEUE_NUMBERS];
    if (value.size != 1 + sizeof numbers || value.data[0] != FORMAT)
        return STORE_CORRUPT;
    for (unsigned i = 0; i < QUEUE_NUMBERS; i++)
        numbers[i] = read_little(value.data + 1 + (size_t)i * RECORD_NUMBER_SIZE);
    fields->number = numbers[0];
    memcpy(fields->lists, numbers + 1, sizeof fields->lists);
    fields->paused_until_ms = numbers[1 + LISTS];
    const uint64_t *set = numbers + 1 + LISTS + 1;
    fields->settings = (struct queue_settings){
        .lease_ms = set[0],
        .max_deliveries = set[1],
        .max_length = set[2],
        .retry_delay_ms = set[3],
        .ttl_ms = set[4],
        .dedup_window_ms = set[5],
    };
    return 0;
}

/*
 * What a queue counts: 1 byte format: 1; then numbers of 8 bytes each: jobs in each state, pushed,
 * acked, expired.
 */
enum { COUNTS = JOB_STATES + 3 };

struct slice record_write_counts(uint8_t buffer[RECORD_MAX_VALUE],
                                 const struct queue_counts *counts)
{
    uint8_t *at = buffer + 1;
    buffer[0] = FORMAT;
    for (unsigned i = 0; i < JOB_STATES; i++)
        at = write_little(at, counts->jobs[i]);
    at = write_little(at, counts->pushed);
    at = write_little(at, counts->acked);
    at = write_little(at, counts->expired);
    return slice_of(buffer, (size_t)(at - buffer));
}

int record_put_counts(struct store *store, uint64_t number, const struct queue_counts *counts)
{
    uint8_t key[RECORD_MAX_KEY];
    uint8_t value[RECORD_MAX_VALUE];
    return store_put(store, STORE_QUEUES, record_number_key(key, 'c', number),
                     record_write_counts(value, counts), (struct slice){0}, STORE_RESERVED);
}

int record_get_counts(struct store *store, uint64_t number, struct queue_counts *counts)
{
    uint8_t key[RECORD_MAX_KEY];
    struct slice value;
    int rc = store_get(store, STORE_QUEUES, record_number_key(key, 'c', number), &value);
    return rc == 0 ? record_read_counts(value, counts) : rc;
}

int record_read_counts(struct slice value, struct queue_counts *counts)
{
    if (value.size != 1 + COUNTS * RECORD_NUMBER_SIZE || value.data[0] != FORMAT)
        return STORE_CORRUPT;
    const uint8_t *at = value.data + 1;
    for (unsigned i = 0; i < JOB_STATES; i++, at += RECORD_NUMBER_SIZE)
        counts->jobs[i] = read_little(at);
    counts->pushed = read_little(at);
    counts->acked = read_little(at + RECORD_NUMBER_SIZE);
    counts->expired = read_little(at + 2 * (size_t)RECORD_NUMBER_SIZE);
    return 0;
}

/* A producer's id: 1 byte format: 1; 8 bytes job id; 8 bytes end of the window, 0: it has none. */
enum { WINDOW_SIZE = 1 + 2 * RECORD_NUMBER_SIZE };

struct slice record_write_window(uint8_t buffer[RECORD_MAX_VALUE], uint64_t id, uint64_t end_ms)
{
    buffer[0] = FORMAT;
    write_little(write_little(buffer + 1, id), end_ms);
    return slice_of(buffer, WINDOW_SIZE);
}

int record_put_window(struct store *store, uint64_t queue, struct slice dedup, uint64_t id,
                      uint64_t end_ms)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    uint8_t value[RECORD_MAX_VALUE];
    return store_put(store, STORE_DEDUP, record_dedup_key(key, queue, dedup),
                     record_write_window(value, id, end_ms), (struct slice){0}, STORE_QUIET);
}

int record_get_window(struct store *store, uint64_t queue, struct slice dedup, uint64_t *id,
                      uint64_t *end_ms)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    struct slice value;
    int rc = store_get(store, STORE_DEDUP, record_dedup_key(key, queue, dedup), &value);
    return rc == 0 ? record_read_window(value, id, end_ms) : rc;
}

int record_read_window(struct slice value, uint64_t *id, uint64_t *end_ms)
{
    if (value.size != WINDOW_SIZE || value.data[0] != FORMAT)
        return STORE_CORRUPT;
    *id = read_little(value.data + 1);
    *end_ms = read_little(value.data + 1 + RECORD_NUMBER_SIZE);
    return 0;
}

int record_delete_window(struct store *store, uint64_t queue, struct slice dedup)
{
    uint8_t key[RECORD_MAX_DEDUP_KEY];
    return store_delete(store, STORE_DEDUP, record_dedup_key(key, queue, dedup), STORE_QUIET);
}

/* A leftover: 1 byte format: 1; 1 byte enum list; 8 bytes number of the queue. */
enum { LEFTOVER_SIZE = 2 + RECORD_NUMBER_SIZE };

int record_put_leftover(struct store *store, uint64_t list, enum list kind, uint64_t queue)
{
    uint8_t key[RECORD_MAX_KEY];
    uint8_t value[LEFTOVER_SIZE] = {FORMAT, (uint8_t)kind};
    write_little(value + 2, queue);
    return store_put(store, STORE_QUEUES, record_number_key(key, 'x', list),
                     slice_of(value, sizeof value), (struct slice){0}, STORE_RESERVED);
}

int record_read_leftover(struct slice value, enum list *kind, uint64_t *queue)
{
    if (value.size != LEFTOVER_SIZE || value.data[0] != FORMAT || value.data[1] >= LISTS)
        return STORE_CORRUPT;
    *kind = (enum list)value.data[1];
    *queue = read_little(value.data + 2);
    return 0;
}

/* The ids that are reserved: 1 byte format: 1; 8 bytes limit; the epoch. */
enum { IDS_HEAD = 1 + RECORD_NUMBER_SIZE };

struct slice record_write_ids(uint8_t buffer[RECORD_MAX_VALUE], uint64_t limit)
{
    buffer[0] = FORMAT;
    write_little(buffer + 1, limit);
    return slice_of(buffer, IDS_HEAD);
}

int record_put_ids(struct store *store, uint64_t limit, struct slice epoch)
{
    uint8_t head[RECORD_MAX_VALUE];
    return store_put(store, STORE_QUEUES, slice_of("i", 1), record_write_ids(head, limit), epoch,
                     STORE_RESERVED);
}

int record_get_ids(struct store *store, uint64_t *limit, struct slice *epoch)
{
    struct slice value;
    int rc = store_get(store, STORE_QUEUES, slice_of("i", 1), &value);
    return rc == 0 ? record_read_ids(value, limit, epoch) : rc;
}

int record_read_ids(struct slice value, uint64_t *limit, struct slice *epoch)
{
    if (value.size < IDS_HEAD || value.data[0] != FORMAT)
        return STORE_CORRUPT;
    *limit = read_little(value.data + 1);
    *epoch = slice_of(value.data + IDS_HEAD, value.size - IDS_HEAD);
    return 0;
}

#include "daemon/deferred.h"

#include <stdlib.h>

#include "daemon/links.h"
#include "store/hash.h"

enum { BUCKETS = 256, SEED = 1 };

/* A place for a message that waits. */
struct place {
    struct router_message *message;
    bool is_long;
    struct place *next; /* behind it in its peer's line, or of those that are free */
};

/* A peer on record. */
struct record {
    struct link link;       /* in one of the lists of struct deferred */
    struct record *chain;   /* of its bucket */
    struct record **bucket; /* where it is found */
    struct place *first;    /* its line */
    struct place *last;     /* where there is a first */
    uint64_t since_us;      /* when `first` came to the head */
    size_t id_size;
    uint8_t id[DEFERRED_MAX_PEER_ID];
};

struct deferred {
    struct link waiting; /* records with a line, in the order of since_us */
    struct link idle;    /* records without one */
    struct link unused;
    struct record *buckets[BUCKETS];
    size_t known; /* peers on record */
    struct place *free;
    size_t count;      /* of requests that wait, */
    size_t bytes;      /* and of their payloads */
    uint64_t open_us;  /* when heavy work has given way long enough */
    uint64_t other_us; /* when a peer that is not on record was active last */
    bool others;       /* such a peer was active in this turn */
    bool stopping;
    struct record records[DEFERRED_MAX_PEERS];
    struct place places[DEFERRED_MAX_REQUESTS];
};

struct deferred *deferred_new(void)
{
    struct deferred *deferred = calloc(1, sizeof *deferred);
    if (deferred == NULL)
        return NULL;
    link_init(&deferred->waiting);
    link_init(&deferred->idle);
    link_init(&deferred->unused);
    for (size_t i = 0; i < DEFERRED_MAX_PEERS; i++) {
        link_init(&deferred->records[i].link);
        link_append(&deferred->unused, &deferred->records[i].link);
    }
    for (size_t i = 0; i < DEFERRED_MAX_REQUESTS; i++) {
        deferred->places[i].next = deferred->free;
        deferred->free = &deferred->places[i];
    }
    return deferred;
}

static struct record *first_of(const struct link *list)
{
    return link_is_alone(list) ? NULL : link_owner(list->next, struct record, link);
}

/* Takes the first of the line. */
static struct router_message *take_first(struct deferred *deferred, struct record *record)
{
    struct place *place = record->first;
    record->first = place->next;
    place->next = deferred->free;
    deferred->free = place;
    deferred->count--;
    deferred->bytes -= place->message->bytes.size;
    return place->message;
}

void deferred_free(struct deferred **pointer)
{
    free(*pointer);
    *pointer = NULL;
}

/* Records. */

static struct record **bucket_of(struct deferred *deferred, struct slice peer)
{
    return &deferred->buckets[hash_bytes(SEED, peer) % BUCKETS];
}

static struct record *find(struct deferred *deferred, struct slice peer)
{
    struct record *record = *bucket_of(deferred, peer);
    while (record != NULL && !slice_equal(slice_of(record->id, record->id_size), peer))
        record = record->chain;
    return record;
}

static void enter(struct deferred *deferred, struct slice peer)
{
    struct record *record = first_of(&deferred->unused);
    if (record == NULL || peer.size > DEFERRED_MAX_PEER_ID)
        return;
    memcpy(record->id, peer.data, peer.size);
    record->id_size = peer.size;
    record->bucket = bucket_of(deferred, peer);
    record->chain = *record->bucket;
    *record->bucket = record;
    link_append(&deferred->idle, &record->link);
    deferred->known++;
}

static void strike(struct deferred *deferred, struct record *record)
{
    struct record **at = record->bucket;
    while (*at != record)
        at = &(*at)->chain;
    *at = record->chain;
    link_append(&deferred->unused, &record->link);
    deferred->known--;
}

/* Where heavy work has given way long enough, those of whom nothing waits are like all others. */
static void forget(struct deferred *deferred, uint64_t now_us)
{
    struct record *record;
    if (now_us < deferred->open_us)
        return;
    while ((record = first_of(&deferred->idle)) != NULL)
        strike(deferred, record);
}

void deferred_charge(struct deferred *deferred, struct slice peer, uint64_t took_us,
                     uint64_t now_us)
{
    if (took_us < DEFERRED_HEAVY_US)
        return;
    if (took_us > DEFERRED_MAX_CHARGE_US)
        took_us = DEFERRED_MAX_CHARGE_US;
    uint64_t open_us = now_us + took_us * (DEFERRED_SHARE - 1);
    if (open_us > deferred->open_us)
        deferred->open_us = open_us;
    if (find(deferred, peer) == NULL)
        enter(deferred, peer);
}

/* Lines. */

bool deferred_is_full(const struct deferred *deferred)
{
    return deferred->free == NULL || deferred->bytes >= DEFERRED_MAX_BYTES;
}

size_t deferred_count(const struct deferred *deferred)
{
    return deferred->count;
}

/* A request has come to the head of the peer's line. */
static void wait_for_turn(struct deferred *deferred, struct record *record, uint64_t now_us)
{
    record->since_us = now_us;
    link_append(&deferred->waiting, &record->link);
}

static void add(struct deferred *deferred, struct record *record, struct router_message *message,
                bool is_long, uint64_t now_us)
{
    struct place *place = deferred->free;
    deferred->free = place->next;
    deferred->count++;
    deferred->bytes += message->bytes.size;
    place->next = NULL;
    place->message = message;
    place->is_long = is_long;
    if (record->first != NULL) {
        record->last->next = place;
    } else {
        record->first = place;
        wait_for_turn(deferred, record, now_us);
    }
    record->last = place;
}

bool deferred_may_take_long(const struct wire_request *request)
{
    return (wire_method_flags(request->method) & WIRE_LONG) != 0 || request->size >= DEFERRED_LARGE;
}

static bool may_take_long(const struct router_message *message)
{
    struct wire_request request;
    struct wire_error ignored; /* it is found again when the request is answered */
    if (!message->well_framed)
        return false;
    return message->bytes.size >= DEFERRED_LARGE ||
           (wire_decode_request(message->bytes, &request, &ignored) == WIRE_OK &&
            deferred_may_take_long(&request));
}

bool deferred_offer(struct deferred *deferred, struct router_message *message, uint64_t now_us)
{
    if (deferred->known == 0)
        return false;
    struct record *record = find(deferred, message->id);
    if (record == NULL) {
        deferred->other_us = now_us;
        deferred->others = true;
        return false;
    }
    bool is_long = may_take_long(message);
    if (!is_long && record->first == NULL)
        return false;
    add(deferred, record, message, is_long, now_us);
    return true;
}

/* A peer at the head of whose line is what takes no time. */
static struct record *find_short(const struct deferred *deferred)
{
    for (struct link *at = deferred->waiting.next; at != &deferred->waiting; at = at->next) {
        struct record *record = link_owner(at, struct record, link);
        if (!record->first->is_long)
            return record;
    }
    return NULL;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the first that may take long is due. */
static uint64_t long_due_us(const struct deferred *deferred)
{
    const struct record *record = first_of(&deferred->waiting);
    if (record == NULL)
        return UINT64_MAX;
    if (deferred->stopping || deferred_is_full(deferred))
        return 0;
    uint64_t due_us = earlier(deferred->open_us, deferred->other_us + DEFERRED_QUIET_US);
    return earlier(due_us, record->since_us + DEFERRED_MAX_WAIT_US);
}

uint64_t deferred_due_us(const struct deferred *deferred)
{
    return find_short(deferred) != NULL ? 0 : long_due_us(deferred);
}

struct router_message *deferred_take(struct deferred *deferred, bool may_be_long, uint64_t now_us)
{
    if (deferred->known == 0)
        return NULL;
    forget(deferred, now_us);
    struct record *record = find_short(deferred);
    if (record == NULL && may_be_long && now_us >= long_due_us(deferred))
        record = first_of(&deferred->waiting);
    if (record == NULL)
        return NULL;
    struct router_message *message = take_first(deferred, record);
    if (record->first != NULL)
        wait_for_turn(deferred, record, now_us);
    else
        link_append(&deferred->idle, &record->link);
    return message;
}

void deferred_end_turn(struct deferred *deferred, uint64_t now_us)
{
    if (deferred->others)
        deferred->other_us = now_us;
    deferred->others = false;
}

void deferred_stop(struct deferred *deferred)
{
    deferred->stopping = true;
}

#include "queue/waiters.h"

#include <sys/random.h>

#include "store/hash.h"

/*
 * A waiter has a place in the line of each queue that it named. Lines are found by the queue's name
 * and waiters by client and msgid, and by connection, in hash tables; those with a deadline are in
 * a heap.
 */

enum { FIRST_BUCKETS = 64, FIRST_HEAP = 64 };

/* The line at one queue; it is there only while somebody stands in it. */
struct line {
    struct line *next_of_bucket;
    uint64_t hash;
    struct place *first;
    struct place *last;
    uint32_t count;
    uint8_t name_size;
    uint8_t name[];
};

struct place {
    struct waiter *waiter;
    struct line *line;
    struct place *before;
    struct place *behind;
};

/* A waiter in a bucket of a hash table. */
struct hook {
    struct waiter *waiter;
    struct hook *next;
    struct hook **link; /* what points to it there; NULL: it is in none */
};

struct waiter {
    struct wait wait; /* its peer is behind the places */
    struct waiter *older;
    struct waiter *newer;
    struct hook by_msgid;
    struct hook by_connection;
    uint64_t hash;
    int connection;   /* 0: unknown */
    uint32_t heap_at; /* from 1 on; 0: it has no deadline */
    uint32_t places;
    struct place place[];
};

struct waiters {
    uint32_t most;
    uint32_t count;
    uint64_t places; /* of all */
    struct waiter *oldest;
    struct waiter *newest;
    uint64_t seed;
    struct line **lines;
    struct hook **by_msgid;
    struct hook **by_connection;
    uint32_t lines_count;
    uint32_t line_buckets;   /* powers of two */
    uint32_t waiter_buckets; /* of both tables */
    struct waiter **heap;    /* heap[0] has the earliest deadline */
    uint32_t heap_count;
    uint32_t heap_capacity;
};

struct waiters *waiters_new(uint32_t most)
{
    struct waiters *waiters = calloc(1, sizeof *waiters);
    if (waiters == NULL)
        return NULL;
    waiters->most = most;
    waiters->line_buckets = waiters->waiter_buckets = FIRST_BUCKETS;
    waiters->lines = calloc(FIRST_BUCKETS, sizeof(struct line *));
    waiters->by_msgid = calloc(FIRST_BUCKETS, sizeof(struct hook *));
    waiters->by_connection = calloc(FIRST_BUCKETS, sizeof(struct hook *));
    if (waiters->lines == NULL || waiters->by_msgid == NULL || waiters->by_connection == NULL ||
        getrandom(&waiters->seed, sizeof waiters->seed, 0) != sizeof waiters->seed)
        waiters_free(&waiters);
    return waiters;
}

void waiters_free(struct waiters **pointer)
{
    struct waiters *waiters = *pointer;
    if (waiters == NULL)
        return;
    for (struct waiter *waiter = waiters->oldest, *newer; waiter != NULL; waiter = newer) {
        newer = waiter->newer;
        waiters_remove(waiters, waiter);
    }
    free(waiters->lines);
    free(waiters->by_msgid);
    free(waiters->by_connection);
    free(waiters->heap);
    free(waiters);
    *pointer = NULL;
}

/* Lines. */

static struct line **line_bucket(const struct waiters *waiters, uint64_t hash)
{
    return &waiters->lines[hash & (waiters->line_buckets - 1)];
}

static struct line *find_line(const struct waiters *waiters, uint64_t hash, struct slice name)
{
    struct line *line = *line_bucket(waiters, hash);
    while (line != NULL &&
           !(line->hash == hash && slice_equal(slice_of(line->name, line->name_size), name)))
        line = line->next_of_bucket;
    return line;
}

/* Where memory is out the buckets stay as they are: found all the same, only less quickly. */
static void grow_lines(struct waiters *waiters)
{
    uint32_t before = waiters->line_buckets;
    struct line **old = waiters->lines;
    struct line **buckets = calloc((size_t)2 * before, sizeof(struct line *));
    if (buckets == NULL)
        return;
    waiters->lines = buckets;
    waiters->line_buckets = 2 * before;
    for (uint32_t i = 0; i < before; i++) {
        for (struct line *line = old[i], *next; line != NULL; line = next) {
            struct line **bucket = line_bucket(waiters, line->hash);
            next = line->next_of_bucket;
            line->next_of_bucket = *bucket;
            *bucket = line;
        }
    }
    free(old);
}

static struct line *make_line(struct waiters *waiters, uint64_t hash, struct slice name)
{
    struct line *line = malloc(sizeof *line + name.size);
    if (line == NULL)
        return NULL;
    *line = (struct line){.hash = hash, .name_size = (uint8_t)name.size};
    memcpy(line->name, name.data, name.size);
    if (waiters->lines_count >= waiters->line_buckets)
        grow_lines(waiters);
    struct line **bucket = line_bucket(waiters, hash);
    line->next_of_bucket = *bucket;
    *bucket = line;
    waiters->lines_count++;
    return line;
}

static void remove_line(struct waiters *waiters, struct line *line)
{
    struct line **link = line_bucket(waiters, line->hash);
    while (*link != line)
        link = &(*link)->next_of_bucket;
    *link = line->next_of_bucket;
    waiters->lines_count--;
    free(line);
}

/* Puts the waiter at the end of the line, unless it is there already, by the same request. */
static int join_line(struct waiters *waiters, struct waiter *waiter, struct slice name)
{
    uint64_t hash = hash_bytes(waiters->seed, name);
    struct line *line = find_line(waiters, hash, name);
    if (line == NULL)
        line = make_line(waiters, hash, name);
    if (line == NULL)
        return STORE_NO_MEMORY;
    if (line->last != NULL && line->last->waiter == waiter)
        return 0;
    struct place *place = &waiter->place[waiter->places++];
    *place = (struct place){.waiter = waiter, .line = line, .before = line->last};
    if (line->last != NULL)
        line->last->behind = place;
    else
        line->first = place;
    line->last = place;
    line->count++;
    waiters->places++;
    return 0;
}

static void leave_line(struct waiters *waiters, struct place *place)
{
    struct line *line = place->line;
    if (place->before != NULL)
        place->before->behind = place->behind;
    else
        line->first = place->behind;
    if (place->behind != NULL)
        place->behind->before = place->before;
    else
        line->last = place->before;
    waiters->places--;
    if (--line->count == 0)
        remove_line(waiters, line);
}

static void leave_lines(struct waiters *waiters, struct waiter *waiter)
{
    for (uint32_t i = 0; i < waiter->places; i++)
        leave_line(waiters, &waiter->place[i]);
}

/* Deadlines. */

static void put_in_heap(struct waiters *waiters, struct waiter *waiter, uint32_t at)
{
    waiters->heap[at] = waiter;
    waiter->heap_at = at + 1;
}

static bool is_earlier(const struct waiter *a, const struct waiter *b)
{
    return a->wait.deadline_ms < b->wait.deadline_ms;
}

static void sift_up(struct waiters *waiters, struct waiter *waiter, uint32_t at)
{
    while (at > 0 && is_earlier(waiter, waiters->heap[(at - 1) / 2])) {
        put_in_heap(waiters, waiters->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    put_in_heap(waiters, waiter, at);
}

static void sift_down(struct waiters *waiters, struct waiter *waiter, uint32_t at)
{
    for (uint32_t child; (child = 2 * at + 1) < waiters->heap_count; at = child) {
        if (child + 1 < waiters->heap_count &&
            is_earlier(waiters->heap[child + 1], waiters->heap[child]))
            child++;
        if (!is_earlier(waiters->heap[child], waiter))
            break;
        put_in_heap(waiters, waiters->heap[child], at);
    }
    put_in_heap(waiters, waiter, at);
}

static int set_deadline(struct waiters *waiters, struct waiter *waiter)
{
    if (waiter->wait.deadline_ms == QUEUE_FOREVER)
        return 0;
    if (waiters->heap_count == waiters->heap_capacity) {
        uint32_t capacity = waiters->heap_capacity > 0 ? 2 * waiters->heap_capacity : FIRST_HEAP;
        struct waiter **heap = realloc(waiters->heap, capacity * sizeof(struct waiter *));
        if (heap == NULL)
            return STORE_NO_MEMORY;
        waiters->heap = heap;
        waiters->heap_capacity = capacity;
    }
    sift_up(waiters, waiter, waiters->heap_count++);
    return 0;
}

static void clear_deadline(struct waiters *waiters, struct waiter *waiter)
{
    if (waiter->heap_at == 0)
        return;
    uint32_t at = waiter->heap_at - 1;
    struct waiter *last = waiters->heap[--waiters->heap_count];
    if (last == waiter)
        return;
    if (at > 0 && is_earlier(last, waiters->heap[(at - 1) / 2]))
        sift_up(waiters, last, at);
    else
        sift_down(waiters, last, at);
}

/* Clients. */

static uint64_t hash_client(const struct waiters *waiters, struct slice peer, uint64_t msgid)
{
    return hash_bytes(waiters->seed ^ msgid * UINT64_C(0x9e3779b97f4a7c15), peer);
}

static struct hook **client_bucket(const struct waiters *waiters, uint64_t hash)
{
    return &waiters->by_msgid[hash & (waiters->waiter_buckets - 1)];
}

/* As they are: the kernel gives the lowest that is free, so they spread by themselves. */
static struct hook **connection_bucket(const struct waiters *waiters, int connection)
{
    return &waiters->by_connection[(uint32_t)connection & (waiters->waiter_buckets - 1)];
}

/* At a cost that is always the same, since a client may use one msgid for all its waits. */
static void hook_in(struct hook **bucket, struct hook *hook, struct waiter *waiter)
{
    *hook = (struct hook){.waiter = waiter, .next = *bucket, .link = bucket};
    if (hook->next != NULL)
        hook->next->link = &hook->next;
    *bucket = hook;
}

static void unhook(struct hook *hook)
{
    if (hook->link == NULL)
        return;
    *hook->link = hook->next;
    if (hook->next != NULL)
        hook->next->link = hook->link;
    hook->link = NULL;
}

static void put_in_buckets(struct waiters *waiters, struct waiter *waiter)
{
    hook_in(client_bucket(waiters, waiter->hash), &waiter->by_msgid, waiter);
    if (waiter->connection > 0)
        hook_in(connection_bucket(waiters, waiter->connection), &waiter->by_connection, waiter);
}

/* Where memory is out they stay as they are, like lines. */
static void grow_clients(struct waiters *waiters)
{
    uint32_t buckets = 2 * waiters->waiter_buckets;
    struct hook **by_msgid = calloc(buckets, sizeof(struct hook *));
    struct hook **by_connection = calloc(buckets, sizeof(struct hook *));
    if (by_msgid == NULL || by_connection == NULL) {
        free(by_msgid);
        free(by_connection);
        return;
    }
    free(waiters->by_msgid);
    free(waiters->by_connection);
    waiters->by_msgid = by_msgid;
    waiters->by_connection = by_connection;
    waiters->waiter_buckets = buckets;
    for (struct waiter *waiter = waiters->oldest; waiter != NULL; waiter = waiter->newer)
        put_in_buckets(waiters, waiter);
}

void waiters_connect(struct waiters *waiters, struct waiter *waiter, int connection)
{
    unhook(&waiter->by_connection);
    waiter->connection = connection;
    hook_in(connection_bucket(waiters, connection), &waiter->by_connection, waiter);
}

uint32_t waiters_remove_connection(struct waiters *waiters, int connection)
{
    uint32_t removed = 0;
    struct hook *next;
    for (struct hook *hook = *connection_bucket(waiters, connection); hook != NULL; hook = next) {
        next = hook->next;
        if (hook->waiter->connection != connection)
            continue;
        waiters_remove(waiters, hook->waiter);
        removed++;
    }
    return removed;
}

/* Waiters. */

static struct waiter *make_waiter(const struct waiters *waiters, const struct wait *wait,
                                  size_t count)
{
    size_t places = count * sizeof(struct place);
    struct waiter *waiter = malloc(sizeof *waiter + places + wait->peer.size);
    if (waiter == NULL)
        return NULL;
    uint8_t *peer = (uint8_t *)&waiter->place[count];
    *waiter = (struct waiter){.wait = *wait, .hash = hash_client(waiters, wait->peer, wait->msgid)};
    if (wait->peer.size > 0)
        memcpy(peer, wait->peer.data, wait->peer.size);
    waiter->wait.peer = slice_of(peer, wait->peer.size);
    return waiter;
}

static void put_in_order(struct waiters *waiters, struct waiter *waiter)
{
    waiter->older = waiters->newest;
    if (waiters->newest != NULL)
        waiters->newest->newer = waiter;
    else
        waiters->oldest = waiter;
    waiters->newest = waiter;
    waiters->count++;
}

static void take_from_order(struct waiters *waiters, struct waiter *waiter)
{
    if (waiter->older != NULL)
        waiter->older->newer = waiter->newer;
    else
        waiters->oldest = waiter->newer;
    if (waiter->newer != NULL)
        waiter->newer->older = waiter->older;
    else
        waiters->newest = waiter->older;
    waiters->count--;
}

int waiters_add(struct waiters *waiters, const struct wait *wait, const struct slice *queues,
                size_t count)
{
    if (waiters->count >= waiters->most ||
        waiters->places + count > (uint64_t)waiters->most * WAITERS_NAMES)
        return WAITERS_BUSY;
    struct waiter *waiter = make_waiter(waiters, wait, count);
    if (waiter == NULL)
        return STORE_NO_MEMORY;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = join_line(waiters, waiter, queues[i]);
    if (rc == 0)
        rc = set_deadline(waiters, waiter);
    if (rc != 0) {
        leave_lines(waiters, waiter);
        free(waiter);
        return rc;
    }
    if (waiters->count >= waiters->waiter_buckets)
        grow_clients(waiters);
    put_in_buckets(waiters, waiter);
    put_in_order(waiters, waiter);
    return 0;
}

void waiters_remove(struct waiters *waiters, struct waiter *waiter)
{
    unhook(&waiter->by_msgid);
    unhook(&waiter->by_connection);
    take_from_order(waiters, waiter);
    leave_lines(waiters, waiter);
    clear_deadline(waiters, waiter);
    free(waiter);
}

static struct line *line_of(const struct waiters *waiters, struct slice queue)
{
    if (waiters->count == 0)
        return NULL;
    return find_line(waiters, hash_bytes(waiters->seed, queue), queue);
}

struct waiter *waiters_first(const struct waiters *waiters, struct slice queue)
{
    struct line *line = line_of(waiters, queue);
    return line != NULL ? line->first->waiter : NULL;
}

struct waiter *waiters_due(const struct waiters *waiters, uint64_t now_ms)
{
    return waiters_next_due(waiters) <= now_ms && waiters->heap_count > 0 ? waiters->heap[0] : NULL;
}

struct waiter *waiters_find(const struct waiters *waiters, struct slice peer, uint64_t msgid)
{
    uint64_t hash = hash_client(waiters, peer, msgid);
    struct hook *hook = *client_bucket(waiters, hash);
    while (hook != NULL && !(hook->waiter->hash == hash && hook->waiter->wait.msgid == msgid &&
                             slice_equal(hook->waiter->wait.peer, peer)))
        hook = hook->next;
    return hook != NULL ? hook->waiter : NULL;
}

struct waiter *waiters_oldest(const struct waiters *waiters)
{
    return waiters->oldest;
}

struct waiter *waiters_newer(const struct waiter *waiter)
{
    return waiter->newer;
}

const struct wait *waiter_wait(const struct waiter *waiter)
{
    return &waiter->wait;
}

struct slice waiter_queue(const struct waiter *waiter, uint32_t index)
{
    if (index >= waiter->places)
        return (struct slice){0};
    const struct line *line = waiter->place[index].line;
    return slice_of(line->name, line->name_size);
}

uint32_t waiters_count(const struct waiters *waiters)
{
    return waiters->count;
}

uint32_t waiters_count_at(const struct waiters *waiters, struct slice queue)
{
    const struct line *line = line_of(waiters, queue);
    return line != NULL ? line->count : 0;
}

uint64_t waiters_next_due(const struct waiters *waiters)
{
    return waiters->heap_count > 0 ? waiters->heap[0]->wait.deadline_ms : QUEUE_FOREVER;
}

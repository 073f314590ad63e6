#include "daemon/inbox.h"

#include <stdlib.h>

#include "daemon/links.h"
#include "store/hash.h"

enum { BUCKETS = 1024, SEED = 1 };

/* The messages of a peer, one at least. */
struct line {
    struct link link;      /* in one of the lists of struct inbox */
    struct line *chain;    /* of its bucket */
    struct bucket *bucket; /* where it is found */
    struct router_message *first;
    struct router_message *last;
};

struct bucket {
    struct line *lines;
    uint64_t served; /* in which turn one of its peers was last; rarely they are two */
};

struct inbox {
    struct link waiting;  /* lines that were not served in this turn, */
    struct link served;   /* and those that were */
    struct link unused;   /* as many as there may be messages */
    struct line *current; /* the one that is being served, in neither list, or NULL */
    size_t taken;         /* of it, */
    size_t share;         /* and how many may be */
    size_t peers;         /* that have a line */
    uint64_t turn;
    size_t read; /* messages in this turn */
    size_t count;
    size_t bytes;
    size_t limit; /* of count */
    struct bucket buckets[BUCKETS];
    struct line lines[INBOX_MAX_REQUESTS];
};

struct inbox *inbox_new(void)
{
    struct inbox *inbox = calloc(1, sizeof *inbox);
    if (inbox == NULL)
        return NULL;
    link_init(&inbox->waiting);
    link_init(&inbox->served);
    link_init(&inbox->unused);
    for (size_t i = 0; i < INBOX_MAX_REQUESTS; i++) {
        link_init(&inbox->lines[i].link);
        link_append(&inbox->unused, &inbox->lines[i].link);
    }
    inbox->limit = INBOX_MAX_REQUESTS;
    return inbox;
}

void inbox_free(struct inbox **pointer)
{
    free(*pointer);
    *pointer = NULL;
}

/* Lines. */

static struct line *first_of(const struct link *list)
{
    return link_is_alone(list) ? NULL : link_owner(list->next, struct line, link);
}

static struct line *find(const struct bucket *bucket, struct slice peer)
{
    struct line *line = bucket->lines;
    while (line != NULL && !slice_equal(line->first->id, peer))
        line = line->chain;
    return line;
}

static void begin_line(struct inbox *inbox, struct bucket *bucket, struct router_message *message)
{
    struct line *line = first_of(&inbox->unused);
    line->bucket = bucket;
    line->chain = bucket->lines;
    bucket->lines = line;
    inbox->peers++;
    line->first = line->last = message;
    link_append(bucket->served == inbox->turn ? &inbox->served : &inbox->waiting, &line->link);
}

static void end_line(struct inbox *inbox, struct line *line)
{
    struct line **at = &line->bucket->lines;
    while (*at != line)
        at = &(*at)->chain;
    *at = line->chain;
    inbox->peers--;
    link_append(&inbox->unused, &line->link);
}

static void add(struct inbox *inbox, struct router_message *message)
{
    struct bucket *bucket = &inbox->buckets[hash_bytes(SEED, message->id) % BUCKETS];
    struct line *line = find(bucket, message->id);
    message->next = NULL;
    if (line == NULL) {
        begin_line(inbox, bucket, message);
    } else {
        line->last->next = message;
        line->last = message;
    }
    inbox->count++;
    inbox->bytes += message->bytes.size;
}

/* Reading. */

static bool reads_more(const struct inbox *inbox)
{
    return inbox->count < INBOX_MAX_REQUESTS && inbox->bytes < INBOX_MAX_BYTES &&
           (inbox->count < inbox->limit || inbox->read < INBOX_MIN_REQUESTS);
}

bool inbox_read(struct inbox *inbox, struct router *router)
{
    struct router_message *message = reads_more(inbox) ? router_receive(router) : NULL;
    if (message == NULL)
        return false;
    inbox->read++;
    add(inbox, message);
    return true;
}

void inbox_fill(struct inbox *inbox, struct router *router)
{
    while (inbox_read(inbox, router))
        continue;
}

/* Taking. */

static size_t within(size_t least, size_t number, size_t most)
{
    return number < least ? least : number > most ? most : number;
}

static void begin_share(struct inbox *inbox)
{
    inbox->current = first_of(&inbox->waiting);
    if (inbox->current == NULL)
        inbox->current = first_of(&inbox->served);
    if (inbox->current == NULL)
        return;
    link_remove(&inbox->current->link);
    inbox->taken = 0;
    inbox->share = within(INBOX_OF_MANY, INBOX_OF_ALL / inbox->peers, INBOX_OF_ONE);
}

static void end_share(struct inbox *inbox)
{
    struct line *line = inbox->current;
    inbox->current = NULL;
    if (line->first == NULL)
        end_line(inbox, line);
    else
        link_append(&inbox->served, &line->link);
}

void inbox_begin_turn(struct inbox *inbox)
{
    struct line *line;
    if (inbox->current != NULL)
        end_share(inbox);
    while ((line = first_of(&inbox->served)) != NULL)
        link_append(&inbox->waiting, &line->link);
    inbox->turn++;
    inbox->read = 0;
}

struct router_message *inbox_take(struct inbox *inbox)
{
    if (inbox->current == NULL)
        begin_share(inbox);
    struct line *line = inbox->current;
    if (line == NULL)
        return NULL;
    struct router_message *message = line->first;
    line->first = message->next;
    line->bucket->served = inbox->turn;
    inbox->count--;
    inbox->bytes -= message->bytes.size;
    if (line->first == NULL || ++inbox->taken >= inbox->share)
        end_share(inbox);
    return message;
}

bool inbox_changes_peer(const struct inbox *inbox)
{
    return inbox->current == NULL;
}

bool inbox_went_round(const struct inbox *inbox)
{
    return link_is_alone(&inbox->waiting);
}

void inbox_end_turn(struct inbox *inbox, size_t carried_out, bool took_long)
{
    inbox->limit =
        within(INBOX_MIN_REQUESTS, took_long ? carried_out : 2 * inbox->limit, INBOX_MAX_REQUESTS);
}

size_t inbox_count(const struct inbox *inbox)
{
    return inbox->count;
}

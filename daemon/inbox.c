#include "daemon/inbox.h"

#include <stdlib.h>

#include "store/hash.h"

enum { LINES = 1024, SEED = 1 };

/* The messages of a peer; of two, rarely, whose routing ids have the same hash. */
struct line {
    struct router_message *first; /* NULL: it is not in the ring */
    struct router_message *last;
    struct line *next; /* whose turn is after it */
    uint64_t served;   /* in which turn it was last */
};

struct inbox {
    struct line *first; /* whose turn it is */
    struct line *last;
    size_t taken; /* of `first` in a row */
    uint64_t turn;
    size_t count;
    size_t bytes;
    size_t limit; /* of count */
    struct line lines[LINES];
};

struct inbox *inbox_new(void)
{
    struct inbox *inbox = calloc(1, sizeof *inbox);
    if (inbox != NULL)
        inbox->limit = INBOX_MAX_REQUESTS;
    return inbox;
}

void inbox_free(struct inbox **pointer)
{
    free(*pointer);
    *pointer = NULL;
}

/* The ring of lines. */

static void insert_line(struct inbox *inbox, struct line *line)
{
    line->next = inbox->first;
    inbox->first = line;
}

static void append_line(struct inbox *inbox, struct line *line)
{
    if (inbox->first == NULL)
        inbox->first = line;
    else
        inbox->last->next = line;
    inbox->last = line;
    line->next = NULL;
}

static bool was_served(const struct inbox *inbox, const struct line *line)
{
    return line->served == inbox->turn;
}

/* One that was not served in this turn comes before those that were. */
static void begin_line(struct inbox *inbox, struct line *line)
{
    if (inbox->first != NULL && inbox->taken == 0 && was_served(inbox, inbox->first) &&
        !was_served(inbox, line))
        insert_line(inbox, line);
    else
        append_line(inbox, line);
}

static void next_line(struct inbox *inbox)
{
    inbox->first = inbox->first->next;
    inbox->taken = 0;
}

static struct line *line_of(struct inbox *inbox, struct slice peer)
{
    return &inbox->lines[hash_bytes(SEED, peer) % LINES];
}

static void add(struct inbox *inbox, struct router_message *message)
{
    struct line *line = line_of(inbox, message->id);
    message->next = NULL;
    if (line->first == NULL) {
        line->first = message;
        begin_line(inbox, line);
    } else {
        line->last->next = message;
    }
    line->last = message;
    inbox->count++;
    inbox->bytes += message->bytes.size;
}

void inbox_begin_turn(struct inbox *inbox)
{
    inbox->turn++;
}

void inbox_fill(struct inbox *inbox, struct router *router)
{
    while (inbox->count < inbox->limit && inbox->bytes < INBOX_MAX_BYTES) {
        struct router_message *message = router_receive(router);
        if (message == NULL)
            return;
        add(inbox, message);
    }
}

/* The first line has no more, or has had its share. */
static void advance(struct inbox *inbox)
{
    struct line *line = inbox->first;
    if (line->first == NULL) {
        next_line(inbox);
    } else if (inbox->taken >= INBOX_OF_ONE) {
        next_line(inbox);
        append_line(inbox, line);
    }
}

struct router_message *inbox_take(struct inbox *inbox)
{
    struct line *line = inbox->first;
    if (line == NULL)
        return NULL;
    struct router_message *message = line->first;
    line->first = message->next;
    line->served = inbox->turn;
    inbox->count--;
    inbox->bytes -= message->bytes.size;
    inbox->taken++;
    advance(inbox);
    return message;
}

bool inbox_changes_peer(const struct inbox *inbox)
{
    return inbox->taken == 0;
}

bool inbox_went_round(const struct inbox *inbox)
{
    return inbox->first == NULL || was_served(inbox, inbox->first);
}

void inbox_end_turn(struct inbox *inbox, size_t carried_out, bool took_long)
{
    size_t limit = took_long ? carried_out : 2 * inbox->limit;
    if (limit < INBOX_MIN_REQUESTS)
        limit = INBOX_MIN_REQUESTS;
    if (limit > INBOX_MAX_REQUESTS)
        limit = INBOX_MAX_REQUESTS;
    inbox->limit = limit;
}

size_t inbox_count(const struct inbox *inbox)
{
    return inbox->count;
}

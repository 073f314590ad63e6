#include "daemon/inbox.h"

#include <stdlib.h>

#include "store/hash.h"

enum { LINES = 1024, SEED = 1 };

/* A place for a message. */
struct place {
    zmq_msg_t peer;
    zmq_msg_t payload;
    bool empty_frame;
    bool well_framed;
    struct place *next; /* behind it in its line, or of those that are free */
};

/* The messages of a peer; of two, rarely, whose routing ids have the same hash. */
struct line {
    struct place *first; /* NULL: it is not in the ring */
    struct place *last;
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
    struct place *free;
    struct line lines[LINES];
    struct place places[INBOX_MAX_REQUESTS];
};

static void give_back(struct inbox *inbox, struct place *place)
{
    place->next = inbox->free;
    inbox->free = place;
}

struct inbox *inbox_new(void)
{
    struct inbox *inbox = calloc(1, sizeof *inbox);
    if (inbox == NULL)
        return NULL;
    for (size_t i = INBOX_MAX_REQUESTS; i-- > 0;) {
        zmq_msg_init(&inbox->places[i].peer);
        zmq_msg_init(&inbox->places[i].payload);
        give_back(inbox, &inbox->places[i]);
    }
    inbox->limit = INBOX_MAX_REQUESTS;
    return inbox;
}

void inbox_free(struct inbox **pointer)
{
    struct inbox *inbox = *pointer;
    if (inbox == NULL)
        return;
    for (size_t i = 0; i < INBOX_MAX_REQUESTS; i++) {
        zmq_msg_close(&inbox->places[i].peer);
        zmq_msg_close(&inbox->places[i].payload);
    }
    free(inbox);
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

static struct line *line_of(struct inbox *inbox, zmq_msg_t *peer)
{
    return &inbox->lines[hash_bytes(SEED, router_bytes(peer)) % LINES];
}

static void add(struct inbox *inbox, struct place *place)
{
    struct line *line = line_of(inbox, &place->peer);
    place->next = NULL;
    if (line->first == NULL) {
        line->first = place;
        begin_line(inbox, line);
    } else {
        line->last->next = place;
    }
    line->last = place;
    inbox->count++;
    inbox->bytes += zmq_msg_size(&place->payload);
}

/* Reads one message into a free place; false: none was waiting. */
static bool read_one(struct inbox *inbox, struct router *router)
{
    struct place *place = inbox->free;
    struct router_message message = {.peer = &place->peer, .payload = &place->payload};
    if (router_receive(router, &message) != 0)
        return false;
    inbox->free = place->next;
    place->empty_frame = message.empty_frame;
    place->well_framed = message.well_framed;
    add(inbox, place);
    return true;
}

void inbox_begin_turn(struct inbox *inbox)
{
    inbox->turn++;
}

void inbox_fill(struct inbox *inbox, struct router *router)
{
    while (inbox->count < inbox->limit && inbox->bytes < INBOX_MAX_BYTES && read_one(inbox, router))
        continue;
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

bool inbox_take(struct inbox *inbox, struct router_message *message)
{
    if (inbox->first == NULL)
        return false;
    struct line *line = inbox->first;
    struct place *place = line->first;
    line->first = place->next;
    inbox->count--;
    inbox->bytes -= zmq_msg_size(&place->payload);
    zmq_msg_move(message->peer, &place->peer);
    zmq_msg_move(message->payload, &place->payload);
    message->empty_frame = place->empty_frame;
    message->well_framed = place->well_framed;
    give_back(inbox, place);
    line->served = inbox->turn;
    inbox->taken++;
    advance(inbox);
    return true;
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

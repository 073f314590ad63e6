/*
 * Watches inside: watches.c knows which there are, whose, and at which place; watches_read.c reads
 * history and makes messages of it.
 */
#ifndef DAEMON_WATCHES_INTERNAL_H
#define DAEMON_WATCHES_INTERNAL_H

#include "daemon/links.h"
#include "daemon/prefixes.h"
#include "daemon/watches.h"

enum { WATCHES_SLOTS = 1 << 14 };

#define NO_PIECE UINT32_MAX /* too large for an enumerator of ISO C */

enum place {
    FRESH,   /* of this turn; it goes to the tail or behind when what is new has been sent */
    TAIL,    /* everything was read for it, and nothing of it is left to be sent */
    BEHIND,  /* it has credit and history to read */
    WAITING, /* it has history to read and no credit */
    STALLED, /* its peer took no more; it waits */
};

/* Where a watch hangs in a slot of a hash table. */
struct hook {
    struct hook *next;
    struct hook **at; /* what points to this one */
};

struct watch {
    uint64_t id;
    uint64_t from;   /* the last `to` that was sent, at first `since` */
    uint64_t before; /* the one before that, should the last notification not arrive */
    uint64_t read;   /* unless at the tail: nothing for it is in (from, read] */
    uint64_t credit;
    uint64_t due_ms; /* when it gets an empty notification */
    struct group *group;
    struct link list; /* by its place: of its group, fresh, behind; none */
    struct link idle; /* those with credit, by due_ms */
    struct hook by_id;
    struct hook by_peer;
    struct hook by_connection; /* if it has one */
    int connection;            /* its client's, as of the last request; 0: none, or it has ended */
    enum place place;
    bool cancelled; /* in this turn */
    bool left;      /* its connection has ended while it had no credit */
    bool empty_frame;
    uint8_t peer_size;
    uint8_t peer[];
};

/* The watches with the same prefix. */
struct group {
    struct prefix *prefix;
    struct link tail;    /* those at the tail */
    struct link touched; /* in watches->touched, if something is new for it */
    uint32_t first;      /* piece of what is new */
    uint32_t last;
    uint32_t changes;
};

/* Encoded changes that lie one behind the other in `encoded`. */
struct piece {
    size_t offset;
    size_t size;
    uint32_t next;
};

/* What a request of this turn did. */
struct action {
    struct watch *watch;
    enum { ADDED, GIVEN, CANCELLED } kind;
    uint64_t credit; /* given */
};

struct watches {
    struct store *store;
    size_t count;
    uint64_t newest_id;
    uint64_t now_ms; /* as of the last call that said it */
    struct prefixes prefixes;
    struct hook *ids[WATCHES_SLOTS];
    struct hook *peers[WATCHES_SLOTS];
    struct hook *connections[WATCHES_SLOTS];
    bool some_left;
    struct link fresh;
    struct link behind; /* its first one is reading */
    struct link idle;
    size_t at_tail; /* how many are */

    struct action *actions;
    size_t action_count;
    size_t action_capacity;

    struct store_history *new_history; /* for all at the tail */
    struct store_history *old_history; /* for the one that is reading */
    uint64_t new_read; /* up to which seq each of the two has been read; UINT64_MAX: seek */
    uint64_t old_read;
    unsigned steps; /* that the first one behind has taken */

    uint64_t seq;  /* those at the tail have everything up to it, */
    uint64_t next; /* and up to this when the round is over, in which */
    size_t sent;   /* so many bytes were sent in this turn */
    bool in_round;
    struct link touched;
    struct link *resume; /* in the tail of the first group touched: who is next; NULL: the first */
    uint64_t oldest;     /* as of the last look for places that are no longer kept */

    struct buffer encoded;
    struct piece *pieces;
    uint32_t piece_count;
    uint32_t piece_capacity;
};

struct watch *watches_find(struct watches *watches, uint64_t id);
struct slice watch_peer(const struct watch *watch);
struct hook **watches_slot_of_peer(struct watches *watches, struct slice peer);
void watch_destroy(struct watches *watches, struct watch *watch);

/* Those that have no credit and whose connection has ended; not while a turn is carried out. */
void watches_remove_left(struct watches *watches);

void watches_note_time(struct watches *watches, uint64_t now_ms);

/* With credit it gets something from time to time; without, nothing. */
void watch_await(struct watches *watches, struct watch *watch);

/* Takes it out of the list of its place. */
void watch_leave_place(struct watches *watches, struct watch *watch);

/* It has been read up to `read` for it, and there is more. */
void watch_fall_behind(struct watches *watches, struct watch *watch, uint64_t read);

/* To the tail where everything has been read for it, else behind. */
void watch_settle(struct watches *watches, struct watch *watch);

#endif

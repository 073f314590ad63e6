#include "daemon/watches.h"

#include <sys/random.h>

#include "daemon/links.h"
#include "daemon/method.h"
#include "daemon/prefixes.h"

enum { SLOTS = 1 << 14, FIRST_PIECES = 64, FIRST_ACTIONS = 16 };

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
    enum place place;
    bool cancelled; /* in this turn */
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
    struct hook *ids[SLOTS];
    struct hook *peers[SLOTS];
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

/* Hash tables. */

static void hook_in(struct hook **slot, struct hook *hook)
{
    hook->next = *slot;
    hook->at = slot;
    if (hook->next != NULL)
        hook->next->at = &hook->next;
    *slot = hook;
}

static void unhook(struct hook *hook)
{
    *hook->at = hook->next;
    if (hook->next != NULL)
        hook->next->at = hook->at;
}

static struct hook **slot_of_id(struct watches *watches, uint64_t id)
{
    return &watches->ids[id % SLOTS];
}

static struct hook **slot_of_peer(struct watches *watches, struct slice peer)
{
    uint64_t hash = watches->prefixes.seed;
    for (size_t i = 0; i < peer.size; i++)
        hash = (hash ^ peer.data[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return &watches->peers[hash >> 40 & (SLOTS - 1)];
}

static struct slice peer_of(const struct watch *watch)
{
    return slice_of(watch->peer, watch->peer_size);
}

static struct watch *find(struct watches *watches, uint64_t id)
{
    for (struct hook *hook = *slot_of_id(watches, id); hook != NULL; hook = hook->next) {
        struct watch *watch = link_owner(hook, struct watch, by_id);
        if (watch->id == id)
            return watch;
    }
    return NULL;
}

/* The peer's own one, as its requests see it. */
static struct watch *find_of(struct watches *watches, const struct peer *peer, uint64_t id)
{
    struct watch *watch = find(watches, id);
    bool found = watch != NULL && !watch->cancelled && slice_equal(peer_of(watch), peer->id);
    return found ? watch : NULL;
}

/* Making and freeing. */

struct watches *watches_new(struct store *store)
{
    uint64_t seed = 0;
    struct watches *watches = calloc(1, sizeof *watches);
    if (watches == NULL)
        return NULL;
    (void)!getrandom(&seed, sizeof seed, 0);
    prefixes_init(&watches->prefixes, seed);
    watches->store = store;
    watches->seq = store_seq(store);
    watches->oldest = store_oldest(store);
    watches->new_read = watches->old_read = UINT64_MAX;
    link_init(&watches->fresh);
    link_init(&watches->behind);
    link_init(&watches->idle);
    link_init(&watches->touched);
    if (store_history_open(store, &watches->new_history) == 0 &&
        store_history_open(store, &watches->old_history) == 0)
        return watches;
    watches_free(&watches);
    return NULL;
}

size_t watches_count(const struct watches *watches)
{
    return watches->count;
}

static struct group *enter_group(struct watches *watches, struct slice bytes)
{
    struct prefix *prefix = prefixes_add(&watches->prefixes, bytes);
    if (prefix == NULL || prefix->user != NULL)
        return prefix != NULL ? prefix->user : NULL;
    struct group *group = calloc(1, sizeof *group);
    if (group == NULL) {
        prefixes_remove(&watches->prefixes, prefix);
        return NULL;
    }
    group->prefix = prefix;
    group->first = group->last = NO_PIECE;
    link_init(&group->tail);
    link_init(&group->touched);
    prefix->user = group;
    return group;
}

static void leave_group(struct watches *watches, struct group *group)
{
    bool last = group->prefix->count == 1;
    prefixes_remove(&watches->prefixes, group->prefix);
    if (!last)
        return;
    if (watches->resume == &group->tail)
        watches->resume = NULL;
    link_remove(&group->touched);
    free(group);
}

/* Takes it out of the list of its place. */
static void leave_place(struct watches *watches, struct watch *watch)
{
    if (watches->resume == &watch->list)
        watches->resume = watch->list.next;
    if (watch->place == TAIL)
        watches->at_tail--;
    if (watches->behind.next == &watch->list)
        watches->steps = 0;
    link_remove(&watch->list);
}

static void destroy(struct watches *watches, struct watch *watch)
{
    leave_place(watches, watch);
    link_remove(&watch->idle);
    unhook(&watch->by_id);
    unhook(&watch->by_peer);
    leave_group(watches, watch->group);
    free(watch);
    watches->count--;
}

static void destroy_all(struct watches *watches)
{
    watches->action_count = 0;
    for (size_t i = 0; i < SLOTS; i++)
        while (watches->ids[i] != NULL)
            destroy(watches, link_owner(watches->ids[i], struct watch, by_id));
}

void watches_free(struct watches **pointer)
{
    struct watches *watches = *pointer;
    if (watches == NULL)
        return;
    destroy_all(watches);
    prefixes_free(&watches->prefixes);
    store_history_close(&watches->new_history);
    store_history_close(&watches->old_history);
    buffer_free(&watches->encoded);
    free(watches->pieces);
    free(watches->actions);
    free(watches);
    *pointer = NULL;
}

/* Places. */

static void note_time(struct watches *watches, uint64_t now_ms)
{
    if (now_ms > watches->now_ms)
        watches->now_ms = now_ms;
}

/* With credit it gets something from time to time; without, nothing. */
static void await(struct watches *watches, struct watch *watch)
{
    link_remove(&watch->idle);
    watch->due_ms = watches->now_ms + WATCH_IDLE_MS;
    if (watch->credit > 0)
        link_append(&watches->idle, &watch->idle);
}

/* It has been read up to `read` for it, and there is more. */
static void fall_behind(struct watches *watches, struct watch *watch, uint64_t read)
{
    leave_place(watches, watch);
    watch->read = read;
    watch->place = watch->credit > 0 ? BEHIND : WAITING;
    if (watch->place == BEHIND)
        link_append(&watches->behind, &watch->list);
}

static void join_tail(struct watches *watches, struct watch *watch)
{
    leave_place(watches, watch);
    watch->place = TAIL;
    watches->at_tail++;
    link_append(&watch->group->tail, &watch->list);
}

static void settle(struct watches *watches, struct watch *watch)
{
    if (watch->read == watches->seq)
        join_tail(watches, watch);
    else
        fall_behind(watches, watch, watch->read);
}

/* The methods. */

static bool note(struct watches *watches, struct action action)
{
    if (watches->action_count == watches->action_capacity) {
        size_t capacity =
            watches->action_capacity > 0 ? 2 * watches->action_capacity : FIRST_ACTIONS;
        struct action *actions = realloc(watches->actions, capacity * sizeof *actions);
        if (actions == NULL)
            return false;
        watches->actions = actions;
        watches->action_capacity = capacity;
    }
    watches->actions[watches->action_count++] = action;
    return true;
}

static struct watch *make(struct watches *watches, const struct peer *peer, struct slice prefix)
{
    struct watch *watch = calloc(1, sizeof *watch + peer->id.size);
    if (watch == NULL)
        return NULL;
    watch->group = enter_group(watches, prefix);
    if (watch->group == NULL || !note(watches, (struct action){watch, ADDED, 0})) {
        if (watch->group != NULL)
            leave_group(watches, watch->group);
        free(watch);
        return NULL;
    }
    if (peer->id.size > 0)
        memcpy(watch->peer, peer->id.data, peer->id.size);
    watch->peer_size = (uint8_t)peer->id.size;
    watch->empty_frame = peer->empty_frame;
    link_init(&watch->list);
    link_init(&watch->idle);
    hook_in(slot_of_peer(watches, peer->id), &watch->by_peer);
    watches->count++;
    return watch;
}

enum wire_code watches_add(struct watches *watches, const struct peer *peer, struct slice prefix,
                           uint64_t since, uint64_t credit, uint64_t now_ms, uint64_t *id)
{
    if (watches->count >= WIRE_MAX_WATCHES)
        return WIRE_BUSY;
    if (peer->id.size > WATCH_MAX_PEER)
        return WIRE_BAD_REQUEST;
    struct watch *watch = make(watches, peer, prefix);
    if (watch == NULL)
        return WIRE_STORAGE_FULL;
    note_time(watches, now_ms);
    watches->newest_id = watches->newest_id < now_ms ? now_ms : watches->newest_id + 1;
    watch->id = watches->newest_id;
    watch->from = watch->before = watch->read = since;
    watch->credit = credit;
    hook_in(slot_of_id(watches, watch->id), &watch->by_id);
    *id = watch->id;
    return WIRE_OK;
}

enum wire_code watches_give(struct watches *watches, const struct peer *peer, uint64_t id,
                            uint64_t credit)
{
    struct watch *watch = find_of(watches, peer, id);
    if (watch == NULL)
        return WIRE_NOT_FOUND;
    if (credit > WIRE_MAX_CREDIT - watch->credit)
        credit = WIRE_MAX_CREDIT - watch->credit;
    if (!note(watches, (struct action){watch, GIVEN, credit}))
        return WIRE_STORAGE_FULL;
    watch->credit += credit;
    return WIRE_OK;
}

enum wire_code watches_cancel(struct watches *watches, const struct peer *peer, uint64_t id)
{
    struct watch *watch = find_of(watches, peer, id);
    if (watch == NULL)
        return WIRE_NOT_FOUND;
    if (!note(watches, (struct action){watch, CANCELLED, 0}))
        return WIRE_STORAGE_FULL;
    watch->cancelled = true;
    return WIRE_OK;
}

/* A watch that was cancelled is the subject of no later action. */
static void commit(struct watches *watches, const struct action *action)
{
    struct watch *watch = action->watch;
    if (action->kind == CANCELLED) {
        destroy(watches, watch);
        return;
    }
    if (action->kind == ADDED)
        link_append(&watches->fresh, &watch->list);
    else if (watch->place == WAITING)
        fall_behind(watches, watch, watch->read);
    if (watch->credit > 0 && link_is_alone(&watch->idle))
        await(watches, watch);
}

void watches_commit(struct watches *watches)
{
    for (size_t i = 0; i < watches->action_count; i++)
        commit(watches, &watches->actions[i]);
    watches->action_count = 0;
}

void watches_abandon(struct watches *watches)
{
    while (watches->action_count > 0) {
        const struct action *action = &watches->actions[--watches->action_count];
        if (action->kind == ADDED)
            destroy(watches, action->watch);
        else if (action->kind == GIVEN)
            action->watch->credit -= action->credit;
        else
            action->watch->cancelled = false;
    }
}

/* Encoded changes. */

static void clear_pieces(struct watches *watches)
{
    buffer_restart(&watches->encoded);
    watches->piece_count = 0;
}

static bool grow_pieces(struct watches *watches)
{
    if (watches->pieces != NULL && watches->piece_count < watches->piece_capacity)
        return true;
    uint32_t capacity = watches->piece_capacity > 0 ? 2 * watches->piece_capacity : FIRST_PIECES;
    struct piece *pieces = realloc(watches->pieces, capacity * sizeof *pieces);
    if (pieces == NULL)
        return false;
    watches->pieces = pieces;
    watches->piece_capacity = capacity;
    return true;
}

/* Adds what was encoded last, from `start` on, to what is new for the group. */
static bool add_piece(struct watches *watches, struct group *group, size_t start)
{
    struct piece *last = group->last != NO_PIECE ? &watches->pieces[group->last] : NULL;
    size_t size = watches->encoded.size - start;
    group->changes++;
    if (last != NULL && last->offset + last->size == start) {
        last->size += size;
        return true;
    }
    if (!grow_pieces(watches))
        return false;
    uint32_t number = watches->piece_count++;
    watches->pieces[number] = (struct piece){.offset = start, .size = size, .next = NO_PIECE};
    if (group->last == NO_PIECE)
        group->first = number;
    else
        watches->pieces[group->last].next = number;
    group->last = number;
    return true;
}

/* Messages. */

static struct buffer *begin_message(struct outbox *outbox, const struct watch *watch,
                                    const char *method)
{
    const struct peer peer = {peer_of(watch), watch->empty_frame};
    struct buffer *out = outbox_begin(outbox, &peer);
    wire_pack_notification(out, method);
    return out;
}

static void stall(struct watches *watches, struct watch *watch)
{
    leave_place(watches, watch);
    watch->place = STALLED;
    watch->read = watch->from;
    await(watches, watch);
}

/* [2, "watch", [watch, from, to, changes]], with the changes of those pieces. */
static void notify(struct watches *watches, struct watch *watch, uint64_t to, uint32_t changes,
                   uint32_t piece, struct outbox *outbox)
{
    size_t before = outbox_size(outbox);
    struct buffer *out = begin_message(outbox, watch, "watch");
    wire_pack_array(out, 4);
    wire_pack_uint(out, watch->id);
    wire_pack_uint(out, watch->from);
    wire_pack_uint(out, to);
    wire_pack_array(out, changes);
    for (; piece != NO_PIECE; piece = watches->pieces[piece].next)
        buffer_append(out, watches->encoded.data + watches->pieces[piece].offset,
                      watches->pieces[piece].size);
    if (!outbox_end(outbox, SERVICE_TAG_WATCH | watch->id)) {
        stall(watches, watch);
        return;
    }
    watches->sent += outbox_size(outbox) - before;
    watch->before = watch->from;
    watch->from = watch->read = to;
    watch->credit--;
    await(watches, watch);
    if (watch->credit == 0 && watch->place == BEHIND)
        fall_behind(watches, watch, to);
}

/* [2, "watch.end", [watch, error]]; it is no more. */
static void end(struct watches *watches, struct watch *watch, const struct wire_error *error,
                struct outbox *outbox)
{
    struct buffer *out = begin_message(outbox, watch, "watch.end");
    wire_pack_array(out, 2);
    wire_pack_uint(out, watch->id);
    wire_pack_error(out, error);
    (void)outbox_end(outbox, 0); /* else silence tells its client */
    destroy(watches, watch);
}

static void end_compacted(struct watches *watches, struct watch *watch, struct outbox *outbox)
{
    struct wire_error error;
    wire_fail(&error, WIRE_COMPACTED, "history from seq %llu on is not kept: start afresh",
              (unsigned long long)watch->from);
    error.has = WIRE_DETAIL_OLDEST | WIRE_DETAIL_SEQ;
    error.oldest = store_oldest(watches->store);
    error.seq = store_seq(watches->store);
    end(watches, watch, &error, outbox);
}

static void end_failed(struct watches *watches, struct watch *watch, int rc, struct outbox *outbox)
{
    struct wire_error error;
    method_store_error(&error, rc);
    end(watches, watch, &error, outbox);
}

/*
 * Rounds: what is new is read, as much as a notification holds; then each group that has something
 * is gone through. A round may take several calls.
 */

static void touch(struct watches *watches, struct group *group)
{
    if (link_is_alone(&group->touched))
        link_append(&watches->touched, &group->touched);
}

/* To every group that wants it; encoded once, for the first of them. */
static bool dispatch(struct watches *watches, const struct store_history_change *change)
{
    size_t start = watches->encoded.size;
    struct prefix_walk walk = prefixes_walk(&watches->prefixes, change->key);
    for (struct prefix *prefix; (prefix = prefixes_next(&walk)) != NULL;) {
        struct group *group = prefix->user;
        if (link_is_alone(&group->tail))
            continue;
        if (watches->encoded.size == start &&
            (method_pack_change(&watches->encoded, change) != 0 || watches->encoded.failed))
            return false;
        touch(watches, group);
        if (!add_piece(watches, group, start))
            return false;
    }
    return true;
}

static int read_new(struct watches *watches)
{
    struct store_history_change change;
    int rc = 0;
    if (watches->new_read != watches->seq)
        rc = store_history_seek(watches->new_history, watches->seq);
    watches->next = watches->seq;
    while (rc == 0 && watches->encoded.size < WIRE_PAGE_BYTES) {
        do {
            rc = store_history_next(watches->new_history, &change);
            if (rc == 0 && !dispatch(watches, &change))
                rc = STORE_NO_MEMORY;
        } while (rc == 0 && change.index + 1 < change.count);
        if (rc == 0)
            watches->next = change.seq;
    }
    if (rc == STORE_NOT_FOUND)
        watches->next = store_seq(watches->store);
    watches->new_read = rc == 0 || rc == STORE_NOT_FOUND ? watches->next : UINT64_MAX;
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

/* It has been gone through, or is not to be. */
static void untouch(struct watches *watches, struct group *group)
{
    link_remove(&group->touched);
    group->first = group->last = NO_PIECE;
    group->changes = 0;
    watches->resume = NULL;
}

/* What is new could not be read or held: each is to read it by itself. */
static void scatter(struct watches *watches)
{
    while (!link_is_alone(&watches->touched))
        untouch(watches, link_owner(watches->touched.next, struct group, touched));
    clear_pieces(watches);
    for (size_t i = 0; i < SLOTS; i++) {
        for (struct hook *hook = watches->ids[i]; hook != NULL; hook = hook->next) {
            struct watch *watch = link_owner(hook, struct watch, by_id);
            if (watch->place == TAIL)
                fall_behind(watches, watch, watches->seq);
        }
    }
}

static void begin_round(struct watches *watches)
{
    if (watches->at_tail > 0 && read_new(watches) == 0) {
        watches->in_round = true;
        return;
    }
    if (watches->at_tail > 0)
        scatter(watches);
    watches->seq = store_seq(watches->store);
}

static void notify_touched(struct watches *watches, struct group *group, struct watch *watch,
                           struct outbox *outbox)
{
    if (watch->credit == 0 || watches->sent >= WATCHES_TURN)
        fall_behind(watches, watch, watches->seq);
    else
        notify(watches, watch, watches->next, group->changes, group->first, outbox);
}

/* False where the outbox is full before the round is over. */
static bool go_on(struct watches *watches, struct outbox *outbox)
{
    while (!link_is_alone(&watches->touched)) {
        struct group *group = link_owner(watches->touched.next, struct group, touched);
        if (watches->resume == NULL)
            watches->resume = group->tail.next;
        while (watches->resume != &group->tail) {
            struct watch *watch = link_owner(watches->resume, struct watch, list);
            if (outbox_size(outbox) >= WATCHES_CHUNK)
                return false;
            watches->resume = watch->list.next;
            notify_touched(watches, group, watch, outbox);
        }
        untouch(watches, group);
    }
    clear_pieces(watches);
    watches->in_round = false;
    watches->seq = watches->next;
    return true;
}

/*
 * Rounds until those at the tail have everything. False where the outbox is to be sent before: it
 * is full, or the next round may have another message for the same watch, of which both must not be
 * on their way when the first one is found not to arrive.
 */
static bool catch_tail(struct watches *watches, struct outbox *outbox)
{
    while (watches->in_round || watches->seq != store_seq(watches->store)) {
        if (!watches->in_round)
            begin_round(watches);
        if (watches->in_round && (!go_on(watches, outbox) || outbox->count > 0))
            return false;
    }
    return outbox->count == 0;
}

/* What comes by itself. */

static uint64_t read_up_to(const struct watches *watches, const struct watch *watch)
{
    return watch->place == TAIL ? watches->seq : watch->read;
}

/*
 * A place is the last `to`. One that is no longer kept is the end of the watch, unless it has
 * credit and everything that is gone has been read for it: then it is told so in time.
 */
static void check_place(struct watches *watches, struct watch *watch, struct outbox *outbox)
{
    if (watch->from + 1 >= watches->oldest)
        return;
    bool told = watch->credit > 0 && watch->place != STALLED;
    if (told && read_up_to(watches, watch) + 1 >= watches->oldest)
        notify(watches, watch, read_up_to(watches, watch), 0, NO_PIECE, outbox);
    else
        end_compacted(watches, watch, outbox);
}

static void check_places(struct watches *watches, struct outbox *outbox)
{
    uint64_t oldest = store_oldest(watches->store);
    if (oldest == watches->oldest)
        return;
    watches->oldest = oldest;
    for (size_t i = 0; i < SLOTS; i++) {
        struct hook *next;
        for (struct hook *hook = watches->ids[i]; hook != NULL; hook = next) {
            next = hook->next;
            check_place(watches, link_owner(hook, struct watch, by_id), outbox);
        }
    }
}

static void end_waiting(struct watches *watches, struct watch *watch, struct outbox *outbox)
{
    if (watch->place != STALLED) {
        notify(watches, watch, read_up_to(watches, watch), 0, NO_PIECE, outbox);
        return;
    }
    fall_behind(watches, watch, watch->read);
    await(watches, watch);
}

bool watches_notify(struct watches *watches, uint64_t now_ms, struct outbox *outbox)
{
    note_time(watches, now_ms);
    if (!catch_tail(watches, outbox))
        return true;
    watches->sent = 0;
    while (!link_is_alone(&watches->fresh))
        settle(watches, link_owner(watches->fresh.next, struct watch, list));
    check_places(watches, outbox);
    while (!link_is_alone(&watches->idle)) {
        struct watch *watch = link_owner(watches->idle.next, struct watch, idle);
        if (watch->due_ms > watches->now_ms)
            break;
        end_waiting(watches, watch, outbox);
    }
    return false;
}

uint64_t watches_due(const struct watches *watches)
{
    if (link_is_alone(&watches->idle))
        return UINT64_MAX;
    return link_owner(watches->idle.next, struct watch, idle)->due_ms;
}

/* Steps of those that are behind. */

bool watches_behind(const struct watches *watches)
{
    return !link_is_alone(&watches->behind);
}

/* Reads a transaction; its changes under the prefix are added to `found`. */
static int read_old(struct watches *watches, struct group *found, struct slice prefix,
                    uint64_t *seq)
{
    struct store_history_change change;
    do {
        int rc = store_history_next(watches->old_history, &change);
        if (rc != 0)
            return rc;
        if (!slice_has_prefix(change.key, prefix))
            continue;
        size_t start = watches->encoded.size;
        rc = method_pack_change(&watches->encoded, &change);
        if (rc != 0)
            return rc;
        if (watches->encoded.failed || !add_piece(watches, found, start))
            return STORE_NO_MEMORY;
    } while (change.index + 1 < change.count);
    *seq = change.seq;
    return 0;
}

/* Reads on for it, for one step; what there is under its prefix is in `found`. */
static int read_step(struct watches *watches, struct watch *watch, struct group *found)
{
    struct store_history *history = watches->old_history;
    const struct prefix *prefix = watch->group->prefix;
    uint64_t limit = store_history_work(history) + WATCH_STEP;
    int rc = 0;
    if (watches->old_read != watch->read)
        rc = store_history_seek(history, watch->read);
    while (rc == 0 && store_history_work(history) < limit && found->changes < WIRE_MAX_PAGE)
        rc = read_old(watches, found, slice_of(prefix->bytes, prefix->size), &watch->read);
    if (rc == STORE_NOT_FOUND)
        watch->read = store_seq(watches->store);
    watches->old_read = rc == 0 || rc == STORE_NOT_FOUND ? watch->read : UINT64_MAX;
    return rc;
}

/* It is another's turn after some steps, or when the first one is done. */
static void take_turns(struct watches *watches, struct watch *watch)
{
    if (watch->place == BEHIND && ++watches->steps >= WATCH_STEPS)
        fall_behind(watches, watch, watch->read);
}

void watches_step(struct watches *watches, uint64_t now_ms, struct outbox *outbox)
{
    struct group found = {.first = NO_PIECE, .last = NO_PIECE};
    struct watch *watch = link_owner(watches->behind.next, struct watch, list);
    note_time(watches, now_ms);
    int rc = read_step(watches, watch, &found);
    if (rc == 0 || rc == STORE_NOT_FOUND) {
        if (found.changes > 0)
            notify(watches, watch, watch->read, found.changes, found.first, outbox);
        if (rc == STORE_NOT_FOUND && watch->place != STALLED)
            settle(watches, watch);
        take_turns(watches, watch);
    } else if (rc == STORE_NO_MEMORY) {
        stall(watches, watch);
    } else if (rc == STORE_COMPACTED) {
        end_compacted(watches, watch, outbox);
    } else {
        end_failed(watches, watch, rc, outbox);
    }
    clear_pieces(watches);
}

/* Peers that did not take it. */

static void peer_left(struct watches *watches, struct slice peer)
{
    uint8_t bytes[WATCH_MAX_PEER]; /* the watch goes, and its bytes with it */
    if (peer.size > 0)
        memcpy(bytes, peer.data, peer.size);
    struct slice left = slice_of(bytes, peer.size);
    struct hook *next;
    for (struct hook *hook = *slot_of_peer(watches, left); hook != NULL; hook = next) {
        struct watch *watch = link_owner(hook, struct watch, by_peer);
        next = hook->next;
        if (slice_equal(peer_of(watch), left))
            destroy(watches, watch);
    }
}

void watches_undelivered(struct watches *watches, uint64_t id, bool gone)
{
    struct watch *watch = find(watches, id);
    if (watch == NULL)
        return;
    if (gone) {
        peer_left(watches, peer_of(watch));
        return;
    }
    watch->from = watch->before;
    watch->credit += watch->credit < WIRE_MAX_CREDIT;
    stall(watches, watch);
}

void watches_stop(struct watches *watches, struct outbox *outbox)
{
    struct wire_error error;
    wire_fail(&error, WIRE_UNAVAILABLE, "the daemon stops; watch again when it is back");
    for (size_t i = 0; i < SLOTS; i++)
        while (watches->ids[i] != NULL)
            end(watches, link_owner(watches->ids[i], struct watch, by_id), &error, outbox);
}

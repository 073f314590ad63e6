/* Reading history for watches: once for all at the tail, and in steps for each one behind. */
#include "daemon/stored.h"
#include "daemon/watches_internal.h"
#include "wire/pack.h"

enum { FIRST_PIECES = 64 };

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
    const struct peer peer = {.id = watch_peer(watch), .empty_frame = watch->empty_frame};
    struct buffer *out = outbox_begin(outbox, &peer);
    wire_pack_notification(out, method);
    return out;
}

static void stall(struct watches *watches, struct watch *watch)
{
    watch_leave_place(watches, watch);
    watch->place = STALLED;
    watch->read = watch->from;
    watch_await(watches, watch);
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
    if (!outbox_end(outbox, WATCHES_TAG | watch->id)) {
        stall(watches, watch);
        return;
    }
    watches->sent += outbox_size(outbox) - before;
    watch->before = watch->from;
    watch->from = watch->read = to;
    watch->credit--;
    watch_await(watches, watch);
    if (watch->credit == 0 && watch->place == BEHIND)
        watch_fall_behind(watches, watch, to);
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
    watch_destroy(watches, watch);
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
    stored_fail(&error, rc);
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
            (stored_pack_change(&watches->encoded, change) != 0 || watches->encoded.failed))
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
    for (size_t i = 0; i < WATCHES_SLOTS; i++) {
        for (struct hook *hook = watches->ids[i]; hook != NULL; hook = hook->next) {
            struct watch *watch = link_owner(hook, struct watch, by_id);
            if (watch->place == TAIL)
                watch_fall_behind(watches, watch, watches->seq);
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
        watch_fall_behind(watches, watch, watches->seq);
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
    for (size_t i = 0; i < WATCHES_SLOTS; i++) {
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
    watch_fall_behind(watches, watch, watch->read);
    watch_await(watches, watch);
}

bool watches_notify(struct watches *watches, uint64_t now_ms, struct outbox *outbox)
{
    watches_note_time(watches, now_ms);
    watches_remove_left(watches);
    if (!catch_tail(watches, outbox))
        return true;
    watches->sent = 0;
    while (!link_is_alone(&watches->fresh))
        watch_settle(watches, link_owner(watches->fresh.next, struct watch, list));
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
        rc = stored_pack_change(&watches->encoded, &change);
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
        watch_fall_behind(watches, watch, watch->read);
}

void watches_step(struct watches *watches, uint64_t now_ms, struct outbox *outbox)
{
    struct group found = {.first = NO_PIECE, .last = NO_PIECE};
    struct watch *watch = link_owner(watches->behind.next, struct watch, list);
    watches_note_time(watches, now_ms);
    int rc = read_step(watches, watch, &found);
    if (rc == 0 || rc == STORE_NOT_FOUND) {
        if (found.changes > 0)
            notify(watches, watch, watch->read, found.changes, found.first, outbox);
        if (rc == STORE_NOT_FOUND && watch->place != STALLED)
            watch_settle(watches, watch);
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
    for (struct hook *hook = *watches_slot_of_peer(watches, left); hook != NULL; hook = next) {
        struct watch *watch = link_owner(hook, struct watch, by_peer);
        next = hook->next;
        if (slice_equal(watch_peer(watch), left))
            watch_destroy(watches, watch);
    }
}

void watches_undelivered(struct watches *watches, uint64_t id, bool gone)
{
    struct watch *watch = watches_find(watches, id);
    if (watch == NULL)
        return;
    if (gone) {
        peer_left(watches, watch_peer(watch));
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
    for (size_t i = 0; i < WATCHES_SLOTS; i++)
        while (watches->ids[i] != NULL)
            end(watches, link_owner(watches->ids[i], struct watch, by_id), &error, outbox);
}

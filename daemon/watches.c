#include "daemon/watches.h"

#include <sys/random.h>

#include "daemon/watches_internal.h"

enum { FIRST_ACTIONS = 16 };

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
    return &watches->ids[id % WATCHES_SLOTS];
}

struct hook **watches_slot_of_peer(struct watches *watches, struct slice peer)
{
    uint64_t hash = watches->prefixes.seed;
    for (size_t i = 0; i < peer.size; i++)
        hash = (hash ^ peer.data[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return &watches->peers[hash >> 40 & (WATCHES_SLOTS - 1)];
}

struct slice watch_peer(const struct watch *watch)
{
    return slice_of(watch->peer, watch->peer_size);
}

struct watch *watches_find(struct watches *watches, uint64_t id)
{
    for (struct hook *hook = *slot_of_id(watches, id); hook != NULL; hook = hook->next) {
        struct watch *watch = link_owner(hook, struct watch, by_id);
        if (watch->id == id)
            return watch;
    }
    return NULL;
}

static struct hook **slot_of_connection(struct watches *watches, int connection)
{
    return &watches->connections[(unsigned)connection % WATCHES_SLOTS];
}

static void disconnect(struct watch *watch)
{
    if (watch->connection > 0)
        unhook(&watch->by_connection);
    watch->connection = 0;
}

static void connect(struct watches *watches, struct watch *watch, int connection)
{
    disconnect(watch);
    watch->left = false;
    watch->connection = connection;
    if (connection > 0)
        hook_in(slot_of_connection(watches, connection), &watch->by_connection);
}

/* The peer's own one, as its requests see it. */
static struct watch *find_of(struct watches *watches, const struct peer *peer, uint64_t id)
{
    struct watch *watch = watches_find(watches, id);
    bool found = watch != NULL && !watch->cancelled && slice_equal(watch_peer(watch), peer->id);
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

void watch_leave_place(struct watches *watches, struct watch *watch)
{
    if (watches->resume == &watch->list)
        watches->resume = watch->list.next;
    if (watch->place == TAIL)
        watches->at_tail--;
    if (watches->behind.next == &watch->list)
        watches->steps = 0;
    link_remove(&watch->list);
}

void watch_destroy(struct watches *watches, struct watch *watch)
{
    watch_leave_place(watches, watch);
    link_remove(&watch->idle);
    unhook(&watch->by_id);
    unhook(&watch->by_peer);
    disconnect(watch);
    leave_group(watches, watch->group);
    free(watch);
    watches->count--;
}

static void destroy_all(struct watches *watches)
{
    watches->action_count = 0;
    for (size_t i = 0; i < WATCHES_SLOTS; i++)
        while (watches->ids[i] != NULL)
            watch_destroy(watches, link_owner(watches->ids[i], struct watch, by_id));
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

void watches_note_time(struct watches *watches, uint64_t now_ms)
{
    if (now_ms > watches->now_ms)
        watches->now_ms = now_ms;
}

void watch_await(struct watches *watches, struct watch *watch)
{
    link_remove(&watch->idle);
    watch->due_ms = watches->now_ms + WATCH_IDLE_MS;
    if (watch->credit > 0)
        link_append(&watches->idle, &watch->idle);
}

void watch_fall_behind(struct watches *watches, struct watch *watch, uint64_t read)
{
    watch_leave_place(watches, watch);
    watch->read = read;
    watch->place = watch->credit > 0 ? BEHIND : WAITING;
    if (watch->place == BEHIND)
        link_append(&watches->behind, &watch->list);
}

static void join_tail(struct watches *watches, struct watch *watch)
{
    watch_leave_place(watches, watch);
    watch->place = TAIL;
    watches->at_tail++;
    link_append(&watch->group->tail, &watch->list);
}

void watch_settle(struct watches *watches, struct watch *watch)
{
    if (watch->read == watches->seq)
        join_tail(watches, watch);
    else
        watch_fall_behind(watches, watch, watch->read);
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
    hook_in(watches_slot_of_peer(watches, peer->id), &watch->by_peer);
    connect(watches, watch, peer->connection);
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
    watches_note_time(watches, now_ms);
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
    connect(watches, watch, peer->connection);
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
        watch_destroy(watches, watch);
        return;
    }
    if (action->kind == ADDED)
        link_append(&watches->fresh, &watch->list);
    else if (watch->place == WAITING)
        watch_fall_behind(watches, watch, watch->read);
    if (watch->credit > 0 && link_is_alone(&watch->idle))
        watch_await(watches, watch);
}

void watches_commit(struct watches *watches)
{
    for (size_t i = 0; i < watches->action_count; i++)
        commit(watches, &watches->actions[i]);
    watches->action_count = 0;
}

void watches_connection_ended(struct watches *watches, int connection)
{
    struct hook *next;
    for (struct hook *hook = *slot_of_connection(watches, connection); hook != NULL; hook = next) {
        struct watch *watch = link_owner(hook, struct watch, by_connection);
        next = hook->next;
        if (watch->connection != connection)
            continue;
        disconnect(watch);
        watch->left = watch->credit == 0;
        watches->some_left = watches->some_left || watch->left;
    }
}

void watches_remove_left(struct watches *watches)
{
    if (!watches->some_left)
        return;
    watches->some_left = false;
    for (size_t i = 0; i < WATCHES_SLOTS; i++) {
        struct hook *next;
        for (struct hook *hook = watches->ids[i]; hook != NULL; hook = next) {
            struct watch *watch = link_owner(hook, struct watch, by_id);
            next = hook->next;
            if (watch->left)
                watch_destroy(watches, watch);
        }
    }
}

void watches_abandon(struct watches *watches)
{
    while (watches->action_count > 0) {
        const struct action *action = &watches->actions[--watches->action_count];
        if (action->kind == ADDED)
            watch_destroy(watches, action->watch);
        else if (action->kind == GIVEN)
            action->watch->credit -= action->credit;
        else
            action->watch->cancelled = false;
    }
}

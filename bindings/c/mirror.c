/*
 * A mirror scans, and then follows a watch.
 *
 *     GREETING ──hello: the epoch──▶ SCANNING ──the last page──▶ WATCHING
 *        ▲                                                          │
 *        └───────────── history from there is not kept ─────────────┘
 *
 * What the scan finds replaces what the copy has of the same stretch of keys, page by page, so that
 * a copy of an older state is brought to the newer one without ever being empty. The watch begins
 * at the first page's seq: what the pages and the watch both bring is applied twice, in order, and
 * is right; a change that is not newer than the entry is passed over.
 */
#include <stdlib.h>

#include "bindings/c/copy.h"
#include "bindings/c/results.h"
#include "bindings/c/watch.h"

enum { RETRY_MS = 1000, ASK_TIMEOUT_MS = CUBBY_DEFAULT_TIMEOUT_MS };

enum state { GREETING, SCANNING, WATCHING };

struct cubby_mirror {
    struct task task; /* first */
    struct cubby *cubby;
    struct cubby_mirror_events events;
    void *context;
    struct buffer prefix;
    struct copy copy;
    enum state state;
    bool started;     /* too late for cubby_mirror_load */
    bool has_since;   /* WATCHING begins at `since` */
    bool live;        /* the copy is right as of `seq` */
    int64_t retry_ms; /* GREETING, SCANNING, without a request: do not ask before */
    struct buffer epoch;
    uint64_t since;      /* SCANNING: the first page's seq */
    uint64_t seq;        /* of the last change, or page, that is in the copy */
    struct buffer after; /* SCANNING: the last key of the last page */
    bool scanned_some;   /* SCANNING: there was a page */
    struct cubby_watch *watch;
};

/* ---- Telling -------------------------------------------------------------------------------- */

/* What is told: one of the three. */
struct news {
    const struct cubby_change *change;
    const struct cubby_error *error;
    void (*at)(void *context, const struct cubby_position *position);
};

static void tell(struct cubby_mirror *mirror, const struct news *news)
{
    const struct cubby_mirror_events *events = &mirror->events;
    struct cubby_position position;
    if (mirror->task.dead)
        return;
    if (news->change != NULL && events->on_change != NULL)
        events->on_change(mirror->context, news->change);
    if (news->error != NULL && events->on_error != NULL)
        events->on_error(mirror->context, news->error);
    if (news->at == NULL)
        return;
    position = cubby_mirror_position(mirror);
    news->at(mirror->context, &position);
}

static void tell_error(struct cubby_mirror *mirror, const struct cubby_error *error)
{
    tell(mirror, &(struct news){.error = error});
}

static void tell_failure(struct cubby_mirror *mirror, enum cubby_status status, const char *message)
{
    struct failure failure;
    failure_set(&failure, status, "%s", message);
    tell_error(mirror, &failure.error);
}

static void tell_no_memory(struct cubby_mirror *mirror)
{
    tell_failure(mirror, CUBBY_NO_MEMORY, "no memory for the copy");
}

static void begin_anew(struct cubby_mirror *mirror, int64_t retry_ms)
{
    mirror->state = GREETING;
    mirror->retry_ms = retry_ms;
    mirror->live = false;
    mirror->scanned_some = false;
    buffer_clear(&mirror->after);
}

static void retry(struct cubby_mirror *mirror, const struct cubby_error *error)
{
    bool timed_out = error->status == CUBBY_TIMEOUT;
    mirror->retry_ms = now_ms() + (timed_out ? 0 : RETRY_MS);
    if (!timed_out)
        tell_error(mirror, error);
}

/* ---- Following the watch -------------------------------------------------------------------- */

static bool is_put(const struct cubby_change *change)
{
    return change->kind == CUBBY_PUT;
}

/* -1: no memory. What the copy has is newer, or the same, where a page of the scan was. */
static int apply(struct cubby_mirror *mirror, const struct cubby_change *change)
{
    const struct cubby_entry *known = copy_find(&mirror->copy, change->key);
    const struct cubby_entry entry = {.key = change->key,
                                      .value = change->value,
                                      .version = change->seq,
                                      .expires_at_ms = change->expires_at_ms};
    if (known != NULL && known->version >= change->seq)
        return 0;
    if (!is_put(change) && known == NULL)
        return 0;
    if (!is_put(change))
        copy_remove(&mirror->copy, change->key);
    else if (copy_put(&mirror->copy, &entry) != 0)
        return -1;
    tell(mirror, &(struct news){.change = change});
    return 0;
}

/* A mirror that goes on from elsewhere may have named no epoch: it is the daemon's then. */
static void note_epoch(struct cubby_mirror *mirror)
{
    struct cubby_bytes epoch = watch_epoch(mirror->watch);
    if (mirror->epoch.size == 0)
        buffer_append(&mirror->epoch, epoch.data, epoch.size);
}

static void on_moved(void *context)
{
    struct cubby_mirror *mirror = context;
    bool live = watch_is_live(mirror->watch);
    bool was = mirror->live;
    note_epoch(mirror);
    mirror->live = live;
    if (live && !was)
        tell(mirror, &(struct news){.at = mirror->events.on_live});
}

static int take(void *context, struct wire_cursor rows, uint32_t count, uint64_t to)
{
    struct cubby_mirror *mirror = context;
    struct cubby_change change;
    for (; count > 0 && !mirror->task.dead; count--) {
        if (results_read_change(&rows, &change) != 0)
            return -1;
        if (apply(mirror, &change) != 0) {
            tell_no_memory(mirror);
            return -1;
        }
    }
    mirror->seq = to;
    return 0;
}

static void on_refused(void *context, const struct cubby_error *error)
{
    struct cubby_mirror *mirror = context;
    if (mirror->task.dead)
        return;
    mirror->live = false;
    if (error->status == CUBBY_COMPACTED) {
        tell(mirror, &(struct news){.at = mirror->events.on_anew});
        cubby_watch_cancel(&mirror->watch);
        begin_anew(mirror, now_ms());
        return;
    }
    tell_error(mirror, error);
    if (mirror->watch != NULL && watch_has_ended(mirror->watch)) {
        cubby_watch_cancel(&mirror->watch);
        mirror->retry_ms = now_ms() + RETRY_MS;
    }
}

static void begin_watch(struct cubby_mirror *mirror)
{
    static const struct watch_receiver receiver = {take, on_moved, on_refused};
    const struct cubby_watch_options options = {
        .has_since = true,
        .since = mirror->seq,
        .epoch = cubby_data(mirror->epoch.data, mirror->epoch.size)};
    mirror->state = WATCHING;
    mirror->watch = watch_open(mirror->cubby, cubby_data(mirror->prefix.data, mirror->prefix.size),
                               &options, &receiver, mirror);
    if (mirror->watch == NULL) {
        mirror->retry_ms = now_ms() + RETRY_MS;
        tell_no_memory(mirror);
    }
}

/* ---- Scanning ------------------------------------------------------------------------------- */

static bool same_bytes(struct cubby_bytes a, struct cubby_bytes b)
{
    return slice_equal(slice_of_bytes(a), slice_of_bytes(b));
}

static bool same_entry(const struct cubby_entry *a, const struct cubby_entry *b)
{
    return a->version == b->version && a->expires_at_ms == b->expires_at_ms &&
           same_bytes(a->value, b->value);
}

/* Takes an entry out that the daemon has not; its key outlives it. -1: no memory. */
static int take_out(struct cubby_mirror *mirror, const struct cubby_entry *entry, uint64_t seq)
{
    struct buffer key = {0};
    buffer_append(&key, entry->key.data, entry->key.size);
    if (key.failed)
        return -1;
    struct cubby_change change = {
        .seq = seq, .count = 1, .kind = CUBBY_DELETE, .key = cubby_data(key.data, key.size)};
    copy_remove(&mirror->copy, change.key);
    tell(mirror, &(struct news){.change = &change});
    buffer_free(&key);
    return 0;
}

static int put_in(struct cubby_mirror *mirror, const struct cubby_entry *entry)
{
    struct cubby_change change = {.seq = entry->version,
                                  .count = 1,
                                  .kind = CUBBY_PUT,
                                  .key = entry->key,
                                  .value = entry->value,
                                  .expires_at_ms = entry->expires_at_ms};
    if (copy_put(&mirror->copy, entry) != 0)
        return -1;
    tell(mirror, &(struct news){.change = &change});
    return 0;
}

/*
 * Takes out what the copy has over `after` and below `until` (NULL: to the end). A callback may
 * have closed the mirror: then nothing more is done, here and below.
 */
static int clear_gap(struct cubby_mirror *mirror, struct cubby_bytes after,
                     const struct cubby_bytes *until, uint64_t seq)
{
    const struct cubby_entry *entry = copy_next(&mirror->copy, after);
    while (
        entry != NULL && !mirror->task.dead &&
        (until == NULL || slice_compare(slice_of_bytes(entry->key), slice_of_bytes(*until)) < 0)) {
        if (take_out(mirror, entry, seq) != 0)
            return -1;
        entry = copy_next(&mirror->copy, after);
    }
    return 0;
}

/* Brings the stretch of keys behind mirror->after that a page covers to what the page says. */
static int merge_page(struct cubby_mirror *mirror, const struct cubby_page *page)
{
    struct cubby_bytes after = {0};
    if (mirror->scanned_some)
        after = cubby_data(mirror->after.data, mirror->after.size);
    for (size_t i = 0; i < page->count && !mirror->task.dead; i++) {
        const struct cubby_entry *entry = &page->entries[i];
        if (clear_gap(mirror, after, &entry->key, page->seq) != 0)
            return -1;
        const struct cubby_entry *known = copy_find(&mirror->copy, entry->key);
        if ((known == NULL || !same_entry(known, entry)) && put_in(mirror, entry) != 0)
            return -1;
        after = entry->key;
    }
    return page->more ? 0 : clear_gap(mirror, after, NULL, page->seq);
}

static int note_place(struct cubby_mirror *mirror, const struct cubby_page *page)
{
    if (!mirror->scanned_some)
        mirror->since = page->seq;
    mirror->scanned_some = true;
    buffer_clear(&mirror->after);
    buffer_append(&mirror->after, page->next.data, page->next.size);
    return mirror->after.failed ? -1 : 0;
}

static void on_page(void *context, const struct cubby_reply *reply)
{
    struct cubby_mirror *mirror = context;
    struct cubby_page *page = NULL;
    if (!request_answered(&mirror->task, reply))
        return;
    if (reply->status != CUBBY_OK) {
        retry(mirror, reply->error);
        return;
    }
    enum cubby_status status = cubby_read_page(reply->result, &page);
    if (status == CUBBY_OK &&
        (merge_page(mirror, page) != 0 || (!mirror->task.dead && note_place(mirror, page) != 0)))
        status = CUBBY_NO_MEMORY;
    bool more = page != NULL && page->more;
    cubby_page_free(&page);
    mirror->retry_ms = now_ms();
    if (status != CUBBY_OK) {
        begin_anew(mirror, now_ms() + RETRY_MS);
        tell_failure(mirror, status, "a page of the scan cannot be taken");
    } else if (!more && !mirror->task.dead) {
        mirror->seq = mirror->since;
        begin_watch(mirror);
    }
}

static void ask_page(struct cubby_mirror *mirror)
{
    struct cubby *cubby = mirror->cubby;
    const struct cubby_range range = {.prefix =
                                          cubby_data(mirror->prefix.data, mirror->prefix.size)};
    struct cubby_scan_options options = {0};
    if (mirror->scanned_some)
        options.after = cubby_data(mirror->after.data, mirror->after.size);
    request_begin(cubby, "scan");
    params_scan(&cubby->out, &range, &options);
    if (request_send_for(cubby, &mirror->task, ASK_TIMEOUT_MS, on_page) != CUBBY_OK)
        mirror->retry_ms = now_ms() + RETRY_MS;
}

/* The epoch from before the scan: where it changes meanwhile, the watch is refused. */
static void on_hello(void *context, const struct cubby_reply *reply)
{
    struct cubby_mirror *mirror = context;
    struct cubby_server server;
    if (!request_answered(&mirror->task, reply))
        return;
    if (reply->status != CUBBY_OK) {
        retry(mirror, reply->error);
        return;
    }
    mirror->retry_ms = now_ms() + RETRY_MS;
    if (cubby_read_hello(reply->result, &server) != CUBBY_OK) {
        tell_failure(mirror, CUBBY_PROTOCOL, "the reply is not what hello returns");
        return;
    }
    buffer_clear(&mirror->epoch);
    buffer_append(&mirror->epoch, server.epoch.data, server.epoch.size);
    if (mirror->epoch.failed) {
        tell_no_memory(mirror);
        return;
    }
    mirror->state = SCANNING;
    mirror->retry_ms = now_ms();
}

static void ask_hello(struct cubby_mirror *mirror)
{
    struct cubby *cubby = mirror->cubby;
    request_begin(cubby, "hello");
    params_hello(&cubby->out, cubby_data(NULL, 0));
    if (request_send_for(cubby, &mirror->task, ASK_TIMEOUT_MS, on_hello) != CUBBY_OK)
        mirror->retry_ms = now_ms() + RETRY_MS;
}

/* ---- The task ------------------------------------------------------------------------------- */

static bool waits_for_time(const struct cubby_mirror *mirror)
{
    return mirror->task.requests == 0 && (mirror->state != WATCHING || mirror->watch == NULL);
}

static int mirror_work(struct task *task, int64_t now)
{
    struct cubby_mirror *mirror = (struct cubby_mirror *)task;
    mirror->started = true;
    if (mirror->watch != NULL && !watch_is_live(mirror->watch))
        mirror->live = false;
    if (!waits_for_time(mirror) || now < mirror->retry_ms)
        return 0;
    if (mirror->state == GREETING)
        ask_hello(mirror);
    else if (mirror->state == SCANNING)
        ask_page(mirror);
    else
        begin_watch(mirror);
    return 1;
}

static int64_t mirror_due_ms(const struct task *task)
{
    const struct cubby_mirror *mirror = (const struct cubby_mirror *)task;
    return waits_for_time(mirror) ? mirror->retry_ms : NEVER_MS;
}

static void mirror_free(struct task *task)
{
    struct cubby_mirror *mirror = (struct cubby_mirror *)task;
    copy_free(&mirror->copy);
    buffer_free(&mirror->prefix);
    buffer_free(&mirror->epoch);
    buffer_free(&mirror->after);
    free(mirror);
}

/* ---- The public part ------------------------------------------------------------------------ */

static int set_place(struct cubby_mirror *mirror, struct cubby_bytes prefix,
                     const struct cubby_mirror_options *options)
{
    buffer_append_slice(&mirror->prefix, slice_of_bytes(prefix));
    if (!buffer_reserve(&mirror->prefix, 1)) /* so that its data is never NULL: an option given */
        return -1;
    if (options == NULL || !options->has_since)
        return 0;
    mirror->state = WATCHING;
    mirror->has_since = true;
    mirror->seq = options->since;
    buffer_append_slice(&mirror->epoch, slice_of_bytes(options->epoch));
    return mirror->epoch.failed ? -1 : 0;
}

enum cubby_status cubby_mirror_open(struct cubby *cubby, struct cubby_bytes prefix,
                                    const struct cubby_mirror_events *events, void *context,
                                    struct cubby_mirror **mirror,
                                    const struct cubby_mirror_options *options)
{
    if (cubby == NULL || mirror == NULL)
        return handle_fail(cubby, CUBBY_MISUSE, "nowhere to put the mirror");
    if (handle_check_prefix(cubby, prefix, WIRE_MAX_KEY) != CUBBY_OK)
        return CUBBY_TOO_LARGE;
    struct cubby_mirror *opened = calloc(1, sizeof(*opened));
    if (opened == NULL)
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the mirror");
    opened->task = (struct task){.work = mirror_work, .due_ms = mirror_due_ms, .free = mirror_free};
    opened->cubby = cubby;
    opened->context = context;
    if (events != NULL)
        opened->events = *events;
    if (set_place(opened, prefix, options) != 0) {
        mirror_free(&opened->task);
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the mirror");
    }
    tasks_add(&cubby->tasks, &opened->task);
    *mirror = opened;
    return CUBBY_OK;
}

enum cubby_status cubby_mirror_load(struct cubby_mirror *mirror, const struct cubby_entry *entry)
{
    if (mirror == NULL)
        return CUBBY_MISUSE;
    struct cubby *cubby = mirror->cubby;
    if (entry == NULL)
        return handle_fail(cubby, CUBBY_MISUSE, "no entry to load");
    if (mirror->started || !mirror->has_since)
        return handle_fail(cubby, CUBBY_MISUSE, "entries are loaded before the mirror has begun");
    if (!slice_has_prefix(slice_of_bytes(entry->key), buffer_slice(&mirror->prefix, 0)))
        return handle_fail(cubby, CUBBY_MISUSE, "the key does not begin with the mirror's prefix");
    if (!params_is_object(entry->value))
        return handle_fail(cubby, CUBBY_MISUSE, "the value is not one encoded MessagePack object");
    if (copy_put(&mirror->copy, entry) != 0)
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the copy");
    return CUBBY_OK;
}

void cubby_mirror_close(struct cubby_mirror **mirror)
{
    if (mirror == NULL || *mirror == NULL)
        return;
    cubby_watch_cancel(&(*mirror)->watch);
    (*mirror)->task.dead = true;
    *mirror = NULL;
}

struct cubby_position cubby_mirror_position(const struct cubby_mirror *mirror)
{
    if (mirror == NULL)
        return (struct cubby_position){0};
    return (struct cubby_position){
        .epoch = cubby_data(mirror->epoch.data, mirror->epoch.size),
        .seq = mirror->seq,
        .live = mirror->live,
    };
}

size_t cubby_mirror_count(const struct cubby_mirror *mirror)
{
    return mirror != NULL ? mirror->copy.count : 0;
}

static bool hand_out(const struct cubby_entry *found, struct cubby_entry *entry)
{
    if (found != NULL && entry != NULL)
        *entry = *found;
    return found != NULL;
}

bool cubby_mirror_get(const struct cubby_mirror *mirror, struct cubby_bytes key,
                      struct cubby_entry *entry)
{
    return mirror != NULL && hand_out(copy_find(&mirror->copy, key), entry);
}

bool cubby_mirror_next(const struct cubby_mirror *mirror, struct cubby_bytes after,
                       struct cubby_entry *entry)
{
    return mirror != NULL && hand_out(copy_next(&mirror->copy, after), entry);
}

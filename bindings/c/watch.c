/*
 * A watch is in one of three states.
 *
 *     CLOSED ──watch──▶ OPENING ──{watch, epoch, seq}──▶ OPEN ──the daemon has lost it──▶ CLOSED
 *        ▲                 │
 *        └──not now────────┘                    COMPACTED or another refusal from anywhere ──▶
 * ENDED
 *
 * That it is lost is found out thus: a notification does not begin where the last one ended; there
 * is credit, and nothing came for longer than the daemon may be silent, whereupon `watch.credit`
 * is answered `not_found` or not at all; the daemon says so in `watch.end`. Then it is opened again
 * from where it was, so that nothing is lost or told twice.
 *
 * Credit, where the library sees to it: what the daemon may still send, the pages that the program
 * has not taken, and what is owed to the daemon are WINDOW together. What is owed is paid when it
 * is half of that, or as a probe.
 */
#include "bindings/c/watch.h"

#include <stdlib.h>

#include "bindings/c/results.h"

enum {
    WINDOW = 32,
    SILENCE_MS = 6000, /* an idle watch with credit says something every 5 s */
    RETRY_MS = 1000,   /* after a refusal that may pass */
    ASK_TIMEOUT_MS = CUBBY_DEFAULT_TIMEOUT_MS,
};

enum state { CLOSED, OPENING, OPEN, ENDED };

struct item {
    struct cubby_watch_page page; /* first, so that a page is its item */
    struct item *next;
};

struct cubby_watch {
    struct task task; /* first */
    struct cubby *cubby;
    struct buffer prefix;
    struct buffer epoch; /* empty: not known yet */
    enum state state;
    int64_t retry_ms; /* CLOSED: do not open before */
    int64_t heard_ms; /* OPEN: when the daemon last said something about it */
    bool probing;
    uint64_t id;
    bool placed; /* `to` means something */
    uint64_t to; /* every change up to this has been received */
    uint64_t target;
    bool manual;     /* credit is the program's business */
    uint64_t credit; /* what the daemon may still send */
    uint64_t owed;   /* not manual: what it has sent and the program has taken */
    struct item *first;
    struct item **last;
    const struct watch_receiver *receiver; /* NULL: cubby_watch_next */
    void *context;
    struct failure failure; /* of the last refusal; status CUBBY_OK: none since it was open */
};

static void close_until(struct cubby_watch *watch, int64_t retry_ms)
{
    if (watch->state == ENDED)
        return;
    watch->state = CLOSED;
    watch->retry_ms = retry_ms;
}

/* ---- Refusals ------------------------------------------------------------------------------- */

static bool may_pass(enum cubby_status status)
{
    return status == CUBBY_TIMEOUT || status == CUBBY_UNAVAILABLE || status == CUBBY_BUSY ||
           status == CUBBY_NO_MEMORY || status == CUBBY_PROTOCOL;
}

/* A timeout has taken its time, and is nothing to tell of. */
static void refused(struct cubby_watch *watch, const struct cubby_error *error)
{
    if (error->status == CUBBY_TIMEOUT) {
        close_until(watch, now_ms());
        return;
    }
    failure_keep(&watch->failure, error);
    if (may_pass(error->status))
        close_until(watch, now_ms() + RETRY_MS);
    else
        watch->state = ENDED;
    if (watch->receiver != NULL)
        watch->receiver->refused(watch->context, error);
}

static void refused_with(struct cubby_watch *watch, enum cubby_status status, const char *message)
{
    struct failure failure;
    failure_set(&failure, status, "%s", message);
    refused(watch, &failure.error);
}

static void moved(struct cubby_watch *watch, uint64_t to)
{
    watch->to = to;
    if (watch->receiver != NULL && !watch->task.dead)
        watch->receiver->moved(watch->context);
}

/* ---- Opening -------------------------------------------------------------------------------- */

static void opened(struct cubby_watch *watch, uint64_t seq)
{
    watch->state = OPEN;
    watch->heard_ms = now_ms();
    watch->target = seq;
    watch->failure.error.status = CUBBY_OK;
    uint64_t to = watch->placed ? watch->to : seq;
    watch->placed = true;
    moved(watch, to);
}

static void on_opened(void *context, const struct cubby_reply *reply)
{
    struct cubby_watch *watch = context;
    struct results_field fields[] = {{.name = "watch"}, {.name = "epoch"}, {.name = "seq"}};
    struct cubby_bytes epoch;
    uint64_t seq;
    bool wanted = request_answered(&watch->task, reply);
    bool read = reply->status == CUBBY_OK && results_find(reply->result, fields, 3) == 0 &&
                cubby_as_uint(fields[0].value, &watch->id) &&
                cubby_as_bytes(fields[1].value, &epoch) && cubby_as_uint(fields[2].value, &seq);
    if (!wanted) {
        if (read)
            handle_cancel_watch(watch->cubby, watch->id);
        return;
    }
    if (reply->status != CUBBY_OK) {
        refused(watch, reply->error);
        return;
    }
    if (!read) {
        refused_with(watch, CUBBY_PROTOCOL, "the reply is not what watch returns");
        return;
    }
    buffer_clear(&watch->epoch);
    buffer_append(&watch->epoch, epoch.data, epoch.size);
    opened(watch, seq);
}

static size_t count_items(const struct cubby_watch *watch)
{
    size_t count = 0;
    for (const struct item *item = watch->first; item != NULL; item = item->next)
        count++;
    return count;
}

static void pack_watch(struct buffer *out, const struct cubby_watch *watch)
{
    bool has_epoch = watch->epoch.size > 0;
    unsigned count = 2u + watch->placed + has_epoch;
    params_open(out, 0, count);
    params_open_options(out, count);
    params_option_bytes(out, "prefix", cubby_data(watch->prefix.data, watch->prefix.size));
    params_option_uint(out, watch->placed, "since", watch->to);
    params_option_uint(out, true, "credit", watch->credit);
    if (has_epoch)
        params_option_bytes(out, "epoch", cubby_data(watch->epoch.data, watch->epoch.size));
}

static void ask(struct cubby_watch *watch)
{
    struct cubby *cubby = watch->cubby;
    if (!watch->manual) {
        size_t kept = count_items(watch);
        watch->credit = kept < WINDOW ? WINDOW - kept : 0;
        watch->owed = 0;
    }
    request_begin(cubby, "watch");
    pack_watch(&cubby->out, watch);
    if (request_send_for(cubby, &watch->task, ASK_TIMEOUT_MS, on_opened) == CUBBY_OK)
        watch->state = OPENING;
    else
        close_until(watch, now_ms() + RETRY_MS);
}

/* ---- Credit --------------------------------------------------------------------------------- */

static void on_credited(void *context, const struct cubby_reply *reply)
{
    struct cubby_watch *watch = context;
    watch->probing = false;
    if (!request_answered(&watch->task, reply) || watch->state != OPEN)
        return;
    if (reply->status == CUBBY_OK)
        watch->heard_ms = now_ms();
    else
        close_until(watch, now_ms());
}

/* Gives credit; whether the watch is still there shows in the answer. */
static enum cubby_status pay(struct cubby_watch *watch, uint64_t pages)
{
    struct cubby *cubby = watch->cubby;
    request_begin(cubby, "watch.credit");
    params_open(&cubby->out, 2, 0);
    wire_pack_uint(&cubby->out, watch->id);
    wire_pack_uint(&cubby->out, pages);
    enum cubby_status status = request_send_for(cubby, &watch->task, ASK_TIMEOUT_MS, on_credited);
    watch->probing |= status == CUBBY_OK;
    if (status == CUBBY_OK)
        watch->credit += pages;
    return status;
}

static void owe(struct cubby_watch *watch)
{
    if (watch->manual)
        return;
    watch->owed++;
    if (watch->state == OPEN && watch->owed * 2 >= WINDOW && pay(watch, watch->owed) == CUBBY_OK)
        watch->owed = 0;
}

/*
 * Has the daemon say whether it still knows the watch. A program that counts credit itself gets
 * one page more by it than it gave.
 */
static void probe(struct cubby_watch *watch)
{
    uint64_t pages = watch->owed > 0 ? watch->owed : 1;
    if (pay(watch, pages) == CUBBY_OK)
        watch->owed = 0;
    else
        close_until(watch, now_ms() + RETRY_MS);
}

/* ---- Notifications -------------------------------------------------------------------------- */

static struct cubby_watch_page *read_page(struct wire_cursor rows, uint32_t count)
{
    struct item *item = results_page_new(sizeof(*item), sizeof(struct cubby_change), count, &rows);
    if (item == NULL)
        return NULL;
    struct cubby_change *changes = (struct cubby_change *)(item + 1);
    item->page = (struct cubby_watch_page){.changes = changes, .count = count};
    for (uint32_t i = 0; i < count; i++) {
        if (results_read_change(&rows, &changes[i]) != 0) {
            free(item);
            return NULL;
        }
    }
    return &item->page;
}

/* Keeps a page for cubby_watch_next; one without changes only moves the place on. */
static int keep(struct cubby_watch *watch, struct wire_cursor rows, uint32_t count, uint64_t to)
{
    if (count == 0) {
        owe(watch);
        return 0;
    }
    struct cubby_watch_page *page = read_page(rows, count);
    if (page == NULL)
        return -1;
    page->from = watch->to;
    page->to = to;
    *watch->last = (struct item *)page;
    watch->last = &((struct item *)page)->next;
    return 0;
}

static int take(struct cubby_watch *watch, struct wire_cursor rows, uint32_t count, uint64_t to)
{
    if (watch->receiver == NULL)
        return keep(watch, rows, count, to);
    int taken = watch->receiver->take(watch->context, rows, count, to);
    if (!watch->task.dead)
        owe(watch);
    return taken;
}

/* Something is wrong with what the daemon sends, or with us: open it again. */
static void start_over(struct cubby_watch *watch, int64_t retry_ms)
{
    handle_cancel_watch(watch->cubby, watch->id);
    close_until(watch, retry_ms);
}

/* from, to, changes] */
static void on_changes(struct cubby_watch *watch, struct wire_cursor params)
{
    uint64_t from, to;
    uint32_t count;
    if (wire_read_uint(&params, &from) != 0 || wire_read_uint(&params, &to) != 0 ||
        wire_read_array(&params, &count) != 0) {
        start_over(watch, now_ms() + RETRY_MS);
        return;
    }
    watch->heard_ms = now_ms();
    watch->credit -= watch->credit > 0;
    if (from != watch->to || to < from)
        start_over(watch, now_ms());
    else if (take(watch, params, count, to) != 0)
        start_over(watch, now_ms() + RETRY_MS);
    else
        moved(watch, to);
}

/* [code, message, detail]]: read as the error of a reply is. */
static void on_end(struct cubby_watch *watch, struct wire_cursor params)
{
    struct wire_reply reply = {.failed = true};
    struct failure failure;
    if (results_read_counted(&params, 3) != 0 || wire_read_str(&params, &reply.code) != 0 ||
        wire_read_str(&params, &reply.message) != 0 ||
        wire_read_object(&params, WIRE_MAX_DEPTH, &reply.detail, NULL) != 0) {
        refused_with(watch, CUBBY_PROTOCOL, "watch.end is not understood");
        return;
    }
    failure_from_reply(&failure, &reply);
    refused(watch, &failure.error);
}

/* Both begin with [watch, … */
static bool watch_notified(struct task *task, const struct wire_notification *notification)
{
    struct cubby_watch *watch = (struct cubby_watch *)task;
    struct wire_cursor params = wire_cursor_of(notification->params);
    bool end = slice_equal(notification->method, slice_of_text("watch.end"));
    uint64_t id;
    if (!end && !slice_equal(notification->method, slice_of_text("watch")))
        return false;
    if (watch->state != OPEN || results_read_counted(&params, end ? 2 : 4) != 0 ||
        wire_read_uint(&params, &id) != 0 || id != watch->id)
        return false;
    if (end)
        on_end(watch, params);
    else
        on_changes(watch, params);
    return true;
}

/* ---- The task ------------------------------------------------------------------------------- */

static bool may_probe(const struct cubby_watch *watch)
{
    return watch->state == OPEN && !watch->probing && watch->credit > 0;
}

static int watch_work(struct task *task, int64_t now)
{
    struct cubby_watch *watch = (struct cubby_watch *)task;
    if (watch->state == CLOSED && now >= watch->retry_ms)
        ask(watch);
    else if (may_probe(watch) && now >= watch->heard_ms + SILENCE_MS)
        probe(watch);
    else
        return 0;
    return 1;
}

static int64_t watch_due_ms(const struct task *task)
{
    const struct cubby_watch *watch = (const struct cubby_watch *)task;
    if (watch->state == CLOSED)
        return watch->retry_ms;
    return may_probe(watch) ? watch->heard_ms + SILENCE_MS : NEVER_MS;
}

static void watch_free(struct task *task)
{
    struct cubby_watch *watch = (struct cubby_watch *)task;
    while (watch->first != NULL) {
        struct item *item = watch->first;
        watch->first = item->next;
        free(item);
    }
    buffer_free(&watch->prefix);
    buffer_free(&watch->epoch);
    free(watch);
}

/* ---- The public part ------------------------------------------------------------------------ */

static int set_place(struct cubby_watch *watch, struct cubby_bytes prefix,
                     const struct cubby_watch_options *options)
{
    buffer_append_slice(&watch->prefix, slice_of_bytes(prefix));
    if (!buffer_reserve(&watch->prefix, 1)) /* so that its data is never NULL: an option given */
        return -1;
    watch->manual = options->credit > 0;
    watch->credit = options->credit;
    watch->placed = options->has_since;
    watch->to = options->has_since ? options->since : 0;
    if (options->has_since)
        buffer_append_slice(&watch->epoch, slice_of_bytes(options->epoch));
    return watch->epoch.failed ? -1 : 0;
}

struct cubby_watch *watch_open(struct cubby *cubby, struct cubby_bytes prefix,
                               const struct cubby_watch_options *options,
                               const struct watch_receiver *receiver, void *context)
{
    struct cubby_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL)
        return NULL;
    watch->task = (struct task){
        .notified = watch_notified, .work = watch_work, .due_ms = watch_due_ms, .free = watch_free};
    watch->cubby = cubby;
    watch->last = &watch->first;
    watch->receiver = receiver;
    watch->context = context;
    if (set_place(watch, prefix, options) != 0) {
        watch_free(&watch->task);
        return NULL;
    }
    tasks_add(&cubby->tasks, &watch->task);
    return watch;
}

enum cubby_status cubby_watch_open(struct cubby *cubby, struct cubby_bytes prefix,
                                   struct cubby_watch **watch,
                                   const struct cubby_watch_options *options)
{
    const struct cubby_watch_options none = {0};
    if (cubby == NULL || watch == NULL)
        return handle_fail(cubby, CUBBY_MISUSE, "nowhere to put the watch");
    struct cubby_watch *opened_watch =
        watch_open(cubby, prefix, options != NULL ? options : &none, NULL, NULL);
    if (opened_watch == NULL)
        return handle_fail(cubby, CUBBY_NO_MEMORY, "no memory for the watch");
    *watch = opened_watch;
    return CUBBY_OK;
}

static struct cubby_watch_page *next_page(struct cubby_watch *watch)
{
    struct item *item = watch->first;
    watch->first = item->next;
    if (watch->first == NULL)
        watch->last = &watch->first;
    owe(watch);
    return &item->page;
}

/* Why there is no page: the watch has ended, or is not open, or there was just nothing. */
static enum cubby_status no_page(struct cubby_watch *watch)
{
    const struct cubby_error *error = &watch->failure.error;
    if (watch->task.dead)
        return handle_fail(watch->cubby, CUBBY_CLOSED, "a callback has cancelled the watch");
    if (error->status != CUBBY_OK) {
        failure_keep(&watch->cubby->failure, error);
        return error->status;
    }
    return handle_fail(watch->cubby, CUBBY_TIMEOUT, "no change came in time");
}

static bool may_bring_a_page(const struct cubby_watch *watch)
{
    return watch->first == NULL && watch->state != ENDED && !watch->task.dead;
}

/* Callbacks run, and one may cancel the watch: it is held, and freed later. */
static enum cubby_status wait_for_page(struct cubby_watch *watch, int64_t timeout_ms)
{
    int64_t until = due_ms(now_ms(), timeout_ms);
    int events = 1;
    watch->task.held++;
    while (may_bring_a_page(watch) && events >= 0 && (events > 0 || now_ms() < until)) {
        int64_t now = now_ms();
        int64_t left = until == NEVER_MS ? CUBBY_FOREVER : until > now ? until - now : 0;
        events = cubby_poll(watch->cubby, left);
    }
    watch->task.held--;
    return events < 0 ? cubby_last_error(watch->cubby)->status : CUBBY_OK;
}

enum cubby_status cubby_watch_next(struct cubby_watch *watch, struct cubby_watch_page **page,
                                   int64_t timeout_ms)
{
    if (watch == NULL)
        return CUBBY_MISUSE;
    if (page == NULL)
        return handle_fail(watch->cubby, CUBBY_MISUSE, "nowhere to put the page");
    enum cubby_status status = handle_may_wait(watch->cubby, "cubby_watch_next");
    if (status == CUBBY_OK)
        status = wait_for_page(watch, timeout_ms);
    if (status != CUBBY_OK)
        return status;
    if (watch->first == NULL || watch->task.dead)
        return no_page(watch);
    *page = next_page(watch);
    return CUBBY_OK;
}

void cubby_watch_page_free(struct cubby_watch_page **page)
{
    free(*page);
    *page = NULL;
}

enum cubby_status cubby_watch_credit(struct cubby_watch *watch, uint32_t pages)
{
    if (watch == NULL)
        return CUBBY_MISUSE;
    if (pages == 0)
        return handle_fail(watch->cubby, CUBBY_MISUSE, "credit for no page: 1 at least");
    if (!watch->manual)
        return handle_fail(watch->cubby, CUBBY_MISUSE, "the watch was not opened with credit");
    if (watch->state == ENDED)
        return no_page(watch);
    if (watch->state == OPEN)
        return pay(watch, pages);
    watch->credit =
        watch->credit < WIRE_MAX_CREDIT - pages ? watch->credit + pages : WIRE_MAX_CREDIT;
    return CUBBY_OK;
}

void cubby_watch_cancel(struct cubby_watch **watch)
{
    if (watch == NULL || *watch == NULL)
        return;
    if ((*watch)->state == OPEN && !(*watch)->cubby->closing)
        handle_cancel_watch((*watch)->cubby, (*watch)->id);
    (*watch)->task.dead = true;
    *watch = NULL;
}

struct cubby_position cubby_watch_position(const struct cubby_watch *watch)
{
    if (watch == NULL)
        return (struct cubby_position){0};
    return (struct cubby_position){
        .epoch = cubby_data(watch->epoch.data, watch->epoch.size),
        .seq = watch->first != NULL ? watch->first->page.from : watch->to,
        .live = watch_is_live(watch) && watch->first == NULL,
    };
}

bool watch_is_live(const struct cubby_watch *watch)
{
    return watch->state == OPEN && watch->to >= watch->target;
}

bool watch_has_ended(const struct cubby_watch *watch)
{
    return watch->state == ENDED;
}

struct cubby_bytes watch_epoch(const struct cubby_watch *watch)
{
    return cubby_data(watch->epoch.data, watch->epoch.size);
}

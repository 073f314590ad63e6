/*
 * libcubby: the C client of cubbyd, a key-value daemon over ZeroMQ.
 *
 * A `struct cubby` is a handle to one daemon. It sends requests and receives replies, one at a
 * time (the functions named after methods: cubby_get, cubby_put …) or many at once (cubby_send…
 * and cubby_poll), and follows changes (cubby_subscribe, cubby_watch_open, cubby_mirror_open). The
 * connection is made in the background, and made again when it breaks.
 *
 *     struct cubby *cubby;
 *     struct cubby_value value;
 *     if (cubby_open(&cubby, NULL) != CUBBY_OK)
 *         return 1;
 *     if (cubby_get(cubby, cubby_text("greeting"), &value, NULL) == CUBBY_OK && value.exists)
 *         …
 *     cubby_close(&cubby);
 *
 * Threads: a handle, and what was made with it, is used by one thread at a time; handles are
 * independent of each other. Where a second thread meets one that waits in the handle, it is told
 * so (CUBBY_MISUSE, or nothing done); at other times it is not. No function installs signal
 * handlers or prints.
 *
 * fork(): a handle is of the process that opened it. In a child all that waits, cubby_poll among
 * it, is CUBBY_MISUSE, what is sent goes nowhere, and cubby_close frees the child's copy without
 * a word to the daemon or to the parent, but for what libzmq holds. Close it there, and open one.
 *
 * Bytes: keys and values are `struct cubby_bytes`, a pointer and a size. What is passed in is
 * copied before the function returns. What comes out is a view; how long it lives is said where
 * it comes out, and nothing that comes out as a view is freed. Four things are owned by the
 * caller and freed: pages, jobs, batches, and buffers. "The next call on the handle" below means
 * any function that takes the handle and sends, receives or closes; it does not mean
 * cubby_last_error, cubby_outstanding, cubby_fd or cubby_wait_ms.
 *
 * Values are MessagePack, one encoded object each, stored and returned byte for byte. The
 * functions cubby_pack_… and cubby_as_… make and take apart simple ones; any MessagePack library
 * does the rest.
 *
 * Options: each `options` may be NULL, for none; else a struct that starts as all zeros. All
 * times are milliseconds, points in time since 1970 UTC.
 *
 * Errors: functions return an enum cubby_status, and cubby_last_error says more. Out parameters are
 * written only on CUBBY_OK, and may be NULL where the caller does not want them.
 *
 * NULL where a handle, a watch, a callback, a method or a batch has to be is CUBBY_MISUSE
 * (else -1, false, zeros, or nothing done). Other pointers that a prototype takes are
 * not NULL unless it is said here or there, and what was closed, cancelled or freed is not used.
 *
 * A request that ends with CUBBY_TIMEOUT may or may not have been carried out: the daemon may be
 * away or slow, or the reply lost with its connection. Where it matters, repeat the request with
 * a condition (`if_version`), so that carrying it out twice is harmless.
 */
#ifndef CUBBY_H
#define CUBBY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CUBBY_API __attribute__((visibility("default")))
#else
#define CUBBY_API
#endif

#define CUBBY_DEFAULT_ENDPOINT  "tcp://127.0.0.1:7420"
#define CUBBY_DEFAULT_BROADCAST "tcp://127.0.0.1:7421"

enum { CUBBY_DEFAULT_TIMEOUT_MS = 5000 };

/* As a timeout: wait for ever. */
#define CUBBY_FOREVER (-1)

/* As the ttl of cubby_touch: never expires. */
#define CUBBY_NO_TTL UINT64_MAX

/* The version of the library that is running, such as "0.1.0"; a static string. */
CUBBY_API const char *cubby_version(void);

/* ---- Status and errors ---------------------------------------------------------------------- */

enum cubby_status {
    CUBBY_OK = 0,

    /* From the library. */
    CUBBY_TIMEOUT = 1, /* no reply in time; the request may or may not have been carried out */
    CUBBY_NO_MEMORY,   /* an allocation failed: nothing was sent, or its result cannot be kept */
    CUBBY_MISUSE,      /* what this header forbids, a value that is not MessagePack; not sent */
    CUBBY_PROTOCOL,    /* the reply is not what the method returns: another protocol, a defect */
    CUBBY_SYSTEM,      /* ZeroMQ or the system refused: a malformed endpoint, no descriptors left */
    CUBBY_CLOSED,      /* the handle was closed while the request was outstanding */

    /* From the daemon, one for each code of the protocol; nothing was done, but for UNAVAILABLE. */
    CUBBY_BAD_REQUEST = 100, /* a malformed request, a value out of its range */
    CUBBY_UNKNOWN_METHOD,
    CUBBY_TOO_LARGE,    /* key, value, batch or result over its `limit`; a request, not sent */
    CUBBY_CONFLICT,     /* a condition did not hold: `key`, and `version` is what it has */
    CUBBY_WRONG_TYPE,   /* increment of what is not an integer, or past its range: `key` */
    CUBBY_NOT_FOUND,    /* no such job, queue, watch; absent keys are no errors */
    CUBBY_STALE_LEASE,  /* the job is not this lease's (any more) */
    CUBBY_QUEUE_FULL,   /* the queue holds `limit` jobs */
    CUBBY_STORAGE_FULL, /* reads and deletes still work */
    CUBBY_COMPACTED,    /* history from there is not kept: `oldest`, `seq` */
    CUBBY_BUSY,         /* too many waiters or watches: `limit` */
    CUBBY_READ_ONLY,
    CUBBY_UNAUTHORIZED,
    CUBBY_FORBIDDEN,
    CUBBY_UNAVAILABLE,        /* cannot be carried out now; whether a write was is unknown */
    CUBBY_INTERNAL,           /* a defect in the daemon */
    CUBBY_UNKNOWN_CODE = 199, /* an error code newer than this library; see `code` */
};

/* The code's name as in the protocol ("conflict"; "timeout" …); a static string. */
CUBBY_API const char *cubby_status_text(enum cubby_status status);

struct cubby_bytes {
    const void *data; /* NULL: not given, whatever the size; where it has to be, as if empty */
    size_t size;
};

static inline struct cubby_bytes cubby_data(const void *data, size_t size)
{
    struct cubby_bytes bytes;
    bytes.data = data;
    bytes.size = size;
    return bytes;
}

/* The bytes of a zero-terminated string, without the zero; NULL: not given. */
static inline struct cubby_bytes cubby_text(const char *text)
{
    size_t size = 0;
    while (text != NULL && text[size] != 0)
        size++;
    return cubby_data(text, size);
}

/* Which details an error carries: bits of cubby_error.has. */
enum cubby_detail {
    CUBBY_HAS_LIMIT = 1 << 0,
    CUBBY_HAS_KEY = 1 << 1,
    CUBBY_HAS_VERSION = 1 << 2,
    CUBBY_HAS_INDEX = 1 << 3,
    CUBBY_HAS_GUARD = 1 << 4,
    CUBBY_HAS_OLDEST = 1 << 5,
    CUBBY_HAS_SEQ = 1 << 6,
};

struct cubby_error {
    enum cubby_status status;
    const char *code;    /* as the daemon sent it, or cubby_status_text; never NULL */
    const char *message; /* English, for a person; never NULL */
    unsigned has;        /* which of these are set, of enum cubby_detail */
    uint64_t limit;
    struct cubby_bytes key;
    uint64_t version; /* of `key`; 0 where it is absent */
    uint64_t index;   /* the failing operation of a batch */
    uint64_t guard;   /* the failing guard of a batch */
    uint64_t oldest;
    uint64_t seq;
};

/* ---- The handle ----------------------------------------------------------------------------- */

struct cubby;

struct cubby_options {
    const char *endpoint;  /* of requests; NULL: CUBBY_DEFAULT_ENDPOINT */
    const char *broadcast; /* of changes; NULL: CUBBY_DEFAULT_BROADCAST */
    int64_t timeout_ms;    /* of every request; 0: CUBBY_DEFAULT_TIMEOUT_MS, or CUBBY_FOREVER */
    void *zmq_context;     /* to share I/O threads among handles; it stays the caller's and
                              outlives the handle. NULL: one of the handle's own */
};

/* What any request may be given. */
struct cubby_call_options {
    int64_t timeout_ms; /* 0: the handle's */
};

/*
 * Makes a handle and starts connecting. Never blocks; that the daemon is away shows only in
 * requests that time out. Requests sent before the connection is up leave once it is.
 * CUBBY_NO_MEMORY, or CUBBY_SYSTEM, and errno says why: EINVAL for an endpoint that is malformed,
 * or by which nobody can be reached (inproc without `zmq_context`), EPROTONOSUPPORT for another
 * transport than tcp, ipc and inproc, EMFILE where descriptors are out; *cubby is NULL then. The
 * broadcast's endpoint is first looked at when it is first needed, by a subscription.
 */
CUBBY_API enum cubby_status cubby_open(struct cubby **cubby, const struct cubby_options *options);

/*
 * What is wrong with an endpoint that is refused as EINVAL or EPROTONOSUPPORT, a part of a sentence
 * for a person; NULL: nothing can be told from its text. It lives for ever.
 */
CUBBY_API const char *cubby_endpoint_fault(const char *endpoint);

/*
 * Ends the handle, its subscriptions, and its outstanding requests: their callbacks are called
 * with CUBBY_CLOSED, and what they send is refused with it. Sets *cubby to NULL; a NULL handle is
 * fine. What was sent and not yet written to the network is dropped. From a callback it does
 * nothing, *cubby stays, and cubby_last_error says so.
 *
 * Subscriptions, watches and mirrors are freed with it: whoever ends them himself does so before.
 * Pages, jobs, batches and buffers are the program's, before and after.
 */
CUBBY_API void cubby_close(struct cubby **cubby);

/*
 * The failure of the last call on the handle that did not return CUBBY_OK. Never NULL, not for a
 * NULL handle either; lives until the next such failure. Failures of asynchronous requests come
 * with their replies instead.
 */
CUBBY_API const struct cubby_error *cubby_last_error(const struct cubby *cubby);

/* ---- Keys, one request at a time ------------------------------------------------------------ */

/*
 * Each of these sends one request and waits for its reply, at most timeout_ms. Meanwhile the
 * callbacks of asynchronous requests and subscriptions are called as their messages arrive.
 * A signal handler that runs does not end the wait. Views in results live until the next call on
 * the handle. CUBBY_MISUSE from a callback.
 */

/* What a key holds. */
struct cubby_value {
    bool exists;              /* false: the key is absent, the rest is zero */
    struct cubby_bytes value; /* one encoded MessagePack object */
    uint64_t version;
    uint64_t expires_at_ms; /* 0: never */
};

enum cubby_condition {
    CUBBY_ALWAYS,
    CUBBY_IF_EXISTS, /* else CUBBY_CONFLICT */
    CUBBY_IF_ABSENT, /* else CUBBY_CONFLICT */
};

CUBBY_API enum cubby_status cubby_ping(struct cubby *cubby,
                                       const struct cubby_call_options *options);

struct cubby_server {
    struct cubby_bytes server;  /* the daemon's name and version */
    struct cubby_bytes version; /* neither is zero-terminated */
    uint64_t protocol;          /* 1 */
    struct cubby_bytes epoch;   /* names one unbroken history of seqs */
    uint64_t seq;               /* the newest */
    uint64_t oldest;            /* the oldest that is kept; seq + 1 where none is */
    uint64_t time_ms;           /* the daemon's clock */
    uint64_t max_key, max_value, max_message, max_batch; /* bytes; operations for the batch */
};

/* `client` is a name for the daemon's eyes, at most 255 bytes of UTF-8; NULL data: none. */
CUBBY_API enum cubby_status cubby_hello(struct cubby *cubby, struct cubby_bytes client,
                                        struct cubby_server *hello,
                                        const struct cubby_call_options *options);

/* An absent key is CUBBY_OK with `exists` false. */
CUBBY_API enum cubby_status cubby_get(struct cubby *cubby, struct cubby_bytes key,
                                      struct cubby_value *value,
                                      const struct cubby_call_options *options);

struct cubby_put_options {
    int64_t timeout_ms; /* 0: the handle's */
    bool has_ttl;
    uint64_t ttl_ms; /* expires this long after now; without it, never */
    bool keep_ttl;   /* keep the expiry that the key has; not with a ttl */
    bool has_if_version;
    uint64_t if_version; /* the key's version must be this, 0: absent; else CUBBY_CONFLICT */
    enum cubby_condition condition;
    bool previous; /* return what the key held before */
};

struct cubby_written {
    uint64_t version;            /* the new one */
    struct cubby_value previous; /* where asked for */
};

/* `value` is one encoded MessagePack object: see cubby_pack_…. */
CUBBY_API enum cubby_status cubby_put(struct cubby *cubby, struct cubby_bytes key,
                                      struct cubby_bytes value, struct cubby_written *written,
                                      const struct cubby_put_options *options);

struct cubby_delete_options {
    int64_t timeout_ms;
    bool has_if_version;
    uint64_t if_version;
    enum cubby_condition condition;
    bool previous;
};

struct cubby_deleted {
    bool existed;
    struct cubby_value previous; /* where asked for */
};

CUBBY_API enum cubby_status cubby_delete(struct cubby *cubby, struct cubby_bytes key,
                                         struct cubby_deleted *deleted,
                                         const struct cubby_delete_options *options);

struct cubby_increment_options {
    int64_t timeout_ms;
    int64_t initial; /* what an absent key counts from */
    bool has_ttl;    /* without it the expiry stays as it is */
    uint64_t ttl_ms;
    bool has_if_version;
    uint64_t if_version;
    enum cubby_condition condition;
};

struct cubby_incremented {
    int64_t value;    /* the sum */
    bool above_int64; /* it is over INT64_MAX: read `value` as an uint64_t */
    uint64_t version;
};

CUBBY_API enum cubby_status cubby_increment(struct cubby *cubby, struct cubby_bytes key,
                                            int64_t delta, struct cubby_incremented *incremented,
                                            const struct cubby_increment_options *options);

/* Sets the expiry to ttl_ms from now, or clears it with CUBBY_NO_TTL. */
CUBBY_API enum cubby_status cubby_touch(struct cubby *cubby, struct cubby_bytes key,
                                        uint64_t ttl_ms, bool *existed,
                                        const struct cubby_call_options *options);

/* The daemon's counters: a map of names to values, to be read with cubby_map_find. */
CUBBY_API enum cubby_status cubby_stats(struct cubby *cubby, struct cubby_bytes *map,
                                        const struct cubby_call_options *options);

/*
 * Any method: `params` is one encoded array, NULL data for an empty one; `result` is what the
 * method returns, encoded.
 */
CUBBY_API enum cubby_status cubby_call(struct cubby *cubby, const char *method,
                                       struct cubby_bytes params, struct cubby_bytes *result,
                                       const struct cubby_call_options *options);

/* ---- Ranges --------------------------------------------------------------------------------- */

/*
 * Keys that begin with `prefix`, or start <= key < end in byte order. A bound with NULL data is
 * not given; `prefix` does not go with the other two. NULL for the range: all keys, except that
 * cubby_delete_range wants a bound, and be it an empty prefix.
 */
struct cubby_range {
    struct cubby_bytes prefix, start, end;
};

struct cubby_entry {
    struct cubby_bytes key;
    struct cubby_bytes value; /* NULL data with keys_only, and the rest zero */
    uint64_t version;
    uint64_t expires_at_ms;
};

/* One consistent view of a part of a range. Owns its bytes; ended with cubby_page_free. */
struct cubby_page {
    const struct cubby_entry *entries;
    size_t count;
    bool more;               /* more may follow: ask again with `after` set to `next` */
    struct cubby_bytes next; /* the last key */
    uint64_t seq;            /* what the view is as of */
};

struct cubby_scan_options {
    int64_t timeout_ms;
    struct cubby_bytes after; /* go on behind this key, in the direction of the scan */
    uint32_t limit;           /* 1 to 10,000; 0: 1,000. A page also ends at about 1 MiB */
    bool reverse;             /* descending */
    bool keys_only;
};

CUBBY_API enum cubby_status cubby_scan(struct cubby *cubby, const struct cubby_range *range,
                                       struct cubby_page **page,
                                       const struct cubby_scan_options *options);

/* Sets *page to NULL; a NULL page is fine. */
CUBBY_API void cubby_page_free(struct cubby_page **page);

CUBBY_API enum cubby_status cubby_count(struct cubby *cubby, const struct cubby_range *range,
                                        uint64_t *count, const struct cubby_call_options *options);

struct cubby_delete_range_options {
    int64_t timeout_ms;
    uint32_t limit; /* keys of one transaction, 1 to 10,000; 0: 1,000 */
};

struct cubby_range_deleted {
    uint64_t deleted;
    bool more; /* keys of the range are left: call again */
};

CUBBY_API enum cubby_status cubby_delete_range(struct cubby *cubby, const struct cubby_range *range,
                                               struct cubby_range_deleted *deleted,
                                               const struct cubby_delete_range_options *options);

/* ---- Batches -------------------------------------------------------------------------------- */

/*
 * A batch is one transaction: its operations are executed in order, all or none. Build it, run
 * it, and read its results by index; the same batch may then be cleared and built anew, or run
 * again as it is. It belongs to no handle. An allocation that fails while building is remembered
 * and returned by the run, and so is an operation that cannot be sent, with its `index`. A callback
 * leaves alone the batch that is being run. Nothing is added to a batch that is NULL: the run says
 * so (CUBBY_MISUSE), and so need not be asked after each operation.
 *
 *     struct cubby_batch *batch = cubby_batch_new();
 *     cubby_batch_guard(batch, from, version);
 *     cubby_batch_increment(batch, from, -5, NULL);
 *     size_t sum = cubby_batch_increment(batch, to, 5, NULL);
 *     if (cubby_batch_run(cubby, batch, NULL) == CUBBY_OK)
 *         cubby_read_incremented(cubby_batch_result(batch, sum), &incremented);
 *     cubby_batch_free(&batch);
 */
struct cubby_batch;

CUBBY_API struct cubby_batch *cubby_batch_new(void);                 /* NULL: no memory */
CUBBY_API void cubby_batch_clear(struct cubby_batch *batch);         /* keeps the memory */
CUBBY_API void cubby_batch_free(struct cubby_batch **batch);         /* sets it to NULL */
CUBBY_API size_t cubby_batch_count(const struct cubby_batch *batch); /* operations so far */

/* The index of an operation that was added to no batch. */
#define CUBBY_NO_OPERATION SIZE_MAX

/*
 * Each adds an operation and returns its index: 0, 1, 2 …; CUBBY_NO_OPERATION where `batch` is
 * NULL. Options' timeout_ms is not read.
 */
CUBBY_API size_t cubby_batch_get(struct cubby_batch *batch, struct cubby_bytes key);
CUBBY_API size_t cubby_batch_put(struct cubby_batch *batch, struct cubby_bytes key,
                                 struct cubby_bytes value, const struct cubby_put_options *options);
CUBBY_API size_t cubby_batch_delete(struct cubby_batch *batch, struct cubby_bytes key,
                                    const struct cubby_delete_options *options);
CUBBY_API size_t cubby_batch_increment(struct cubby_batch *batch, struct cubby_bytes key,
                                       int64_t delta,
                                       const struct cubby_increment_options *options);
CUBBY_API size_t cubby_batch_touch(struct cubby_batch *batch, struct cubby_bytes key,
                                   uint64_t ttl_ms);
CUBBY_API size_t cubby_batch_scan(struct cubby_batch *batch, const struct cubby_range *range,
                                  const struct cubby_scan_options *options);
CUBBY_API size_t cubby_batch_count_keys(struct cubby_batch *batch, const struct cubby_range *range);
CUBBY_API size_t cubby_batch_delete_range(struct cubby_batch *batch,
                                          const struct cubby_range *range,
                                          const struct cubby_delete_range_options *options);
CUBBY_API size_t cubby_batch_call(struct cubby_batch *batch, const char *method,
                                  struct cubby_bytes params);

/* The key's version must be this (0: absent) when the batch begins; else CUBBY_CONFLICT. */
CUBBY_API void cubby_batch_guard(struct cubby_batch *batch, struct cubby_bytes key,
                                 uint64_t version);

/* After a failure of one operation cubby_last_error carries its `index`, or `guard`. */
CUBBY_API enum cubby_status cubby_batch_run(struct cubby *cubby, struct cubby_batch *batch,
                                            const struct cubby_call_options *options);

/*
 * The result of the operation with this index, one encoded object, for cubby_read_…. NULL data
 * where there is none. Lives until the batch is run again, cleared or freed.
 */
CUBBY_API struct cubby_bytes cubby_batch_result(const struct cubby_batch *batch, size_t index);

/* The seq of the transaction; the newest where it changed no key. 0 before a run. */
CUBBY_API uint64_t cubby_batch_seq(const struct cubby_batch *batch);

/* ---- Results -------------------------------------------------------------------------------- */

/*
 * Reading encoded results, of operations in a batch and of asynchronous requests: CUBBY_OK, or
 * CUBBY_PROTOCOL where the result is not of that method; the out parameter is not NULL here, and
 * may have been written to in either case. Views point into `result`; a page and a page of
 * changes are copies, to be freed, and may be CUBBY_NO_MEMORY.
 */
CUBBY_API enum cubby_status cubby_read_value(struct cubby_bytes result, struct cubby_value *value);
CUBBY_API enum cubby_status cubby_read_written(struct cubby_bytes result,
                                               struct cubby_written *written);
CUBBY_API enum cubby_status cubby_read_deleted(struct cubby_bytes result,
                                               struct cubby_deleted *deleted);
CUBBY_API enum cubby_status cubby_read_incremented(struct cubby_bytes result,
                                                   struct cubby_incremented *incremented);
CUBBY_API enum cubby_status cubby_read_touched(struct cubby_bytes result, bool *existed);
CUBBY_API enum cubby_status cubby_read_count(struct cubby_bytes result, uint64_t *count);
CUBBY_API enum cubby_status cubby_read_range_deleted(struct cubby_bytes result,
                                                     struct cubby_range_deleted *deleted);
CUBBY_API enum cubby_status cubby_read_hello(struct cubby_bytes result, struct cubby_server *hello);
CUBBY_API enum cubby_status cubby_read_page(struct cubby_bytes result, struct cubby_page **page);

/* The result of a whole batch that was sent with cubby_send_batch: afterwards cubby_batch_result
 * and cubby_batch_seq serve as after cubby_batch_run. The result is copied. */
CUBBY_API enum cubby_status cubby_read_batch(struct cubby_bytes result, struct cubby_batch *batch);

/* ---- Many requests at once ------------------------------------------------------------------ */

/*
 * A reply, alive while the callback runs. Every request that was sent is answered by exactly one
 * call of its callback: with the reply, CUBBY_TIMEOUT, or CUBBY_CLOSED.
 */
struct cubby_reply {
    enum cubby_status status;
    const struct cubby_error *error; /* NULL where status is CUBBY_OK */
    struct cubby_bytes result;       /* one encoded object, for cubby_read_… */
};

/*
 * May send further requests, subscribe and unsubscribe, open and cancel watches, open mirrors; may
 * not call what waits (cubby_poll, the functions named after methods, cubby_batch_run,
 * cubby_watch_next), which is CUBBY_MISUSE, nor cubby_close. Other handles it may use as it likes.
 */
typedef void cubby_callback(void *context, const struct cubby_reply *reply);

/*
 * Each sends a request without waiting and returns CUBBY_OK; the callback then runs in a later
 * call of cubby_poll or of a function that waits. On any other status the callback is not
 * called. Sending never blocks, and no number of outstanding requests is refused while there is
 * memory: 100,000 are fine, at the cost of their bytes. Requests leave in order, and replies
 * come in order (but for waiting queue methods).
 *
 * A request that times out while the daemon is away is dropped where it still waits to be sent,
 * once no other request is outstanding; so nothing is carried out long after its failure was
 * reported, as long as the daemon was away and not merely slow.
 */
CUBBY_API enum cubby_status cubby_send(struct cubby *cubby, const char *method,
                                       struct cubby_bytes params, cubby_callback *callback,
                                       void *context, const struct cubby_call_options *options);
CUBBY_API enum cubby_status cubby_send_get(struct cubby *cubby, struct cubby_bytes key,
                                           cubby_callback *callback, void *context,
                                           const struct cubby_call_options *options);
CUBBY_API enum cubby_status cubby_send_put(struct cubby *cubby, struct cubby_bytes key,
                                           struct cubby_bytes value, cubby_callback *callback,
                                           void *context, const struct cubby_put_options *options);
CUBBY_API enum cubby_status cubby_send_delete(struct cubby *cubby, struct cubby_bytes key,
                                              cubby_callback *callback, void *context,
                                              const struct cubby_delete_options *options);
CUBBY_API enum cubby_status cubby_send_increment(struct cubby *cubby, struct cubby_bytes key,
                                                 int64_t delta, cubby_callback *callback,
                                                 void *context,
                                                 const struct cubby_increment_options *options);

/* The batch is copied: it may be cleared, run or freed at once. */
CUBBY_API enum cubby_status cubby_send_batch(struct cubby *cubby, const struct cubby_batch *batch,
                                             cubby_callback *callback, void *context,
                                             const struct cubby_call_options *options);

/*
 * Dispatches what has arrived: calls the callbacks of replies, of requests whose time is over,
 * and of subscriptions. Where there is nothing, waits for it at most timeout_ms (0: does not
 * wait; CUBBY_FOREVER). Replies to what callbacks send are left to the next call, so it returns.
 *
 * Returns how much it had to do, the library's own work included: 0 when the wait was over or a
 * signal handler ran; -1 on failure, see cubby_last_error: CUBBY_MISUSE from a callback,
 * CUBBY_SYSTEM when the ZeroMQ context was ended.
 */
CUBBY_API int cubby_poll(struct cubby *cubby, int64_t timeout_ms);

/* How many requests wait for their callbacks; those of subscriptions do not count. */
CUBBY_API size_t cubby_outstanding(const struct cubby *cubby);

/*
 * For event loops: a descriptor that is readable when cubby_poll may have something to do, the
 * same for the life of the handle; never read from it. It is told only of news: wait for it only
 * after cubby_poll(cubby, 0) has returned 0, and after nothing else was called since. And wait
 * at most cubby_wait_ms (-1: for ever), for what is due by time. -1 where there is no descriptor
 * left.
 */
CUBBY_API int cubby_fd(struct cubby *cubby);
CUBBY_API int64_t cubby_wait_ms(const struct cubby *cubby);

/* ---- MessagePack for simple values ---------------------------------------------------------- */

/*
 * A buffer holds encoded objects, one after the other. It starts as all zeros and is ended with
 * cubby_buffer_free. An allocation that fails is remembered in `failed`.
 *
 *     struct cubby_buffer buffer = {0};
 *     cubby_pack_map(&buffer, 1);
 *     cubby_pack_str(&buffer, cubby_text("visits"));
 *     cubby_pack_int(&buffer, 1);
 *     cubby_put(cubby, key, cubby_buffer_bytes(&buffer), NULL, NULL);
 *     cubby_buffer_free(&buffer);
 */
struct cubby_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed;
};

CUBBY_API void cubby_pack_nil(struct cubby_buffer *buffer);
CUBBY_API void cubby_pack_bool(struct cubby_buffer *buffer, bool value);
CUBBY_API void cubby_pack_int(struct cubby_buffer *buffer, int64_t value);
CUBBY_API void cubby_pack_uint(struct cubby_buffer *buffer, uint64_t value);
CUBBY_API void cubby_pack_float(struct cubby_buffer *buffer, double value);
CUBBY_API void cubby_pack_str(struct cubby_buffer *buffer, struct cubby_bytes bytes);
CUBBY_API void cubby_pack_bin(struct cubby_buffer *buffer, struct cubby_bytes bytes);
CUBBY_API void cubby_pack_array(struct cubby_buffer *buffer, uint32_t count); /* then elements */
CUBBY_API void cubby_pack_map(struct cubby_buffer *buffer, uint32_t count);   /* then pairs */
CUBBY_API void cubby_pack_encoded(struct cubby_buffer *buffer, struct cubby_bytes object);

/* What is in the buffer, alive until it is next changed. NULL data where an allocation failed. */
CUBBY_API struct cubby_bytes cubby_buffer_bytes(const struct cubby_buffer *buffer);
CUBBY_API void cubby_buffer_clear(struct cubby_buffer *buffer); /* empties it, keeps its memory */
CUBBY_API void cubby_buffer_free(struct cubby_buffer *buffer);

/* Each returns whether `value` is one object of that type, and then what it is, as a view. */
CUBBY_API bool cubby_as_nil(struct cubby_bytes value);
CUBBY_API bool cubby_as_bool(struct cubby_bytes value, bool *out);
CUBBY_API bool cubby_as_int(struct cubby_bytes value, int64_t *out);
CUBBY_API bool cubby_as_uint(struct cubby_bytes value, uint64_t *out);
CUBBY_API bool cubby_as_float(struct cubby_bytes value, double *out);
CUBBY_API bool cubby_as_bytes(struct cubby_bytes value, struct cubby_bytes *out); /* str or bin */

/* The value in an encoded map under the str `name`; false where there is none. */
CUBBY_API bool cubby_map_find(struct cubby_bytes map, const char *name, struct cubby_bytes *value);

#ifdef __cplusplus
}
#endif

#include "cubby_changes.h"
#include "cubby_queues.h"

#endif

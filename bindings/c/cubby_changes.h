/*
 * Changes: a part of cubby.h, which includes it.
 *
 * Four ways to follow what changes, from the simplest to the most basic:
 *
 *   cubby_mirror_open  keeps a copy of all keys with a prefix, right for ever.
 *   cubby_subscribe    delivers each change once, in order, heard on the broadcast.
 *   cubby_watch_open   delivers pages of changes over the request connection, at the program's
 * pace. cubby_changes      reads history, page by page.
 *
 * Each goes on from a position, an epoch and a seq, that the program kept from another time.
 */
#ifndef CUBBY_CHANGES_H
#define CUBBY_CHANGES_H

#include "cubby.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Changes -------------------------------------------------------------------------------- */

enum cubby_change_kind { CUBBY_PUT = 1, CUBBY_DELETE, CUBBY_EXPIRE, CUBBY_EVICT };

/* The final state of one key in one transaction. */
struct cubby_change {
    uint64_t seq;
    uint32_t index; /* of `count` changes of this transaction */
    uint32_t count;
    enum cubby_change_kind kind;
    struct cubby_bytes key;
    struct cubby_bytes value; /* NULL data unless CUBBY_PUT */
    uint64_t expires_at_ms;   /* 0: never */
};

/* Owns its bytes; ended with cubby_changes_free. */
struct cubby_change_page {
    const struct cubby_change *changes;
    size_t count;
    struct cubby_bytes epoch;
    uint64_t seq; /* everything up to here is covered: the next call's `since` */
    uint64_t oldest;
};

struct cubby_changes_options {
    int64_t timeout_ms;
    uint64_t since;            /* changes with a seq over this */
    struct cubby_bytes prefix; /* NULL data: all keys */
    struct cubby_bytes epoch;  /* of `since`; another one's is CUBBY_COMPACTED. NULL data: any */
    uint32_t limit;            /* 1 to 10,000; 0: 1,000 */
};

/* A page of history, transactions whole. The end is reached where `seq` is `since`. */
CUBBY_API enum cubby_status cubby_changes(struct cubby *cubby, struct cubby_change_page **page,
                                          const struct cubby_changes_options *options);
CUBBY_API enum cubby_status cubby_read_changes(struct cubby_bytes result,
                                               struct cubby_change_page **page);
CUBBY_API void cubby_changes_free(struct cubby_change_page **page);

/*
 * A subscription delivers every change of the keys with a prefix, in order, each once, from
 * where it starts and for as long as the handle lives. It listens to the broadcast, and whenever
 * something may be missing there (a connection made or made again, messages dropped, silence) it
 * asks for what is missing over the request socket. Its callbacks run in cubby_poll and in the
 * functions that wait; a program has to call one of them, and be it once a second.
 */
struct cubby_subscription;

struct cubby_reset {
    struct cubby_bytes epoch;
    uint64_t oldest;
    uint64_t seq; /* the subscription goes on behind this one */
};

struct cubby_subscriber {
    /* One change; alive during the callback. */
    void (*on_change)(void *context, const struct cubby_change *change);
    /*
     * What came before `seq` can no longer be told: history of that age is not kept, or belongs
     * to another epoch. A copy has to be made afresh, by scanning. NULL: not told.
     */
    void (*on_reset)(void *context, const struct cubby_reset *reset);
    /*
     * The daemon refuses to say what is missing, or its answer is not understood; it is asked
     * again, every second. That it is away is not told: see `live`. NULL: not told.
     */
    void (*on_error)(void *context, const struct cubby_error *error);
};

struct cubby_subscribe_options {
    bool has_since; /* deliver changes with a seq over `since`; else from now on */
    uint64_t since;
    struct cubby_bytes epoch; /* of `since`; NULL data: the daemon's of now */
};

/*
 * Never blocks; the subscription starts with the next cubby_poll. Without `since`, "now" is when
 * the daemon first answers. *subscription is not needed but for the two functions below. The
 * callbacks may do what a cubby_callback may. CUBBY_TOO_LARGE where no key can have the prefix.
 */
CUBBY_API enum cubby_status cubby_subscribe(struct cubby *cubby, struct cubby_bytes prefix,
                                            const struct cubby_subscriber *subscriber,
                                            void *context, struct cubby_subscription **subscription,
                                            const struct cubby_subscribe_options *options);

/*
 * No callback follows. Sets *subscription to NULL; NULL is fine. Also from its own callbacks.
 * Closing the handle ends its subscriptions too.
 */
CUBBY_API void cubby_unsubscribe(struct cubby_subscription **subscription);

struct cubby_position {
    struct cubby_bytes epoch; /* empty until the daemon has answered; lives until the next call */
    uint64_t seq;             /* every change up to here has been delivered */
    bool live;                /* nothing is known to be missing */
};

/* Where the subscription is: what `since` and `epoch` take to go on from here another time. */
CUBBY_API struct cubby_position
cubby_subscription_position(const struct cubby_subscription *subscription);

/* ---- Watching ------------------------------------------------------------------------------- */

/*
 * A watch delivers every change of the keys with a prefix, over the connection of the requests:
 * nothing is lost, and the daemon sends no more than it has been given credit for, so a slow
 * program costs nobody anything. When the connection or the daemon was lost, it goes on from where
 * it was; an idle watch notices that within some ten seconds.
 *
 *     struct cubby_watch *watch;
 *     struct cubby_watch_page *page;
 *     cubby_watch_open(cubby, cubby_text("user:"), &watch, NULL);
 *     while (cubby_watch_next(watch, &page, CUBBY_FOREVER) == CUBBY_OK) {
 *         …page->changes[i]…
 *         cubby_watch_page_free(&page);
 *     }
 *     cubby_watch_cancel(&watch);
 */
struct cubby_watch;

struct cubby_watch_options {
    bool has_since; /* changes with a seq over `since`; else from now on */
    uint64_t since;
    struct cubby_bytes epoch; /* of `since`; NULL data: the daemon's of now */
    uint32_t credit;          /* pages that the daemon may send: see cubby_watch_credit. 0: the
                                 library sees to it, and holds at most 32 pages for the program */
};

/* All changes with from < seq <= to, transactions whole. Owns its bytes. */
struct cubby_watch_page {
    const struct cubby_change *changes;
    size_t count; /* over 0 */
    uint64_t from;
    uint64_t to;
};

/* Never blocks; the watch starts with the next call of what waits. CUBBY_NO_MEMORY; CUBBY_MISUSE
 * with nowhere to put it. */
CUBBY_API enum cubby_status cubby_watch_open(struct cubby *cubby, struct cubby_bytes prefix,
                                             struct cubby_watch **watch,
                                             const struct cubby_watch_options *options);

/*
 * The next page with changes, waiting for it at most timeout_ms (0: does not wait; CUBBY_FOREVER).
 * CUBBY_TIMEOUT where none came in time; CUBBY_COMPACTED where history from there is not kept, or
 * the daemon's is another: the watch has ended and says so for ever; CUBBY_BUSY or
 * CUBBY_UNAVAILABLE where none came in time and that is why; CUBBY_CLOSED where a callback has
 * cancelled the watch meanwhile. CUBBY_MISUSE from a callback.
 */
CUBBY_API enum cubby_status cubby_watch_next(struct cubby_watch *watch,
                                             struct cubby_watch_page **page, int64_t timeout_ms);

/* Sets *page to NULL; NULL is fine. */
CUBBY_API void cubby_watch_page_free(struct cubby_watch_page **page);

/*
 * Lets the daemon send `pages` more (1 to 2^32-1), where the watch was opened with credit. Pages
 * without changes, which tell of the others' seqs every few seconds, spend credit too. Without
 * credit the watch is silent, and keeps its place as long as history is kept. A watch that has
 * ended returns why.
 */
CUBBY_API enum cubby_status cubby_watch_credit(struct cubby_watch *watch, uint32_t pages);

/* Ends it. Sets *watch to NULL; NULL is fine. Closing the handle ends its watches too. */
CUBBY_API void cubby_watch_cancel(struct cubby_watch **watch);

/* Where the program is: behind the last page that cubby_watch_next has handed out. */
CUBBY_API struct cubby_position cubby_watch_position(const struct cubby_watch *watch);

/* ---- Mirrors -------------------------------------------------------------------------------- */

/*
 * A mirror is a copy of all keys with a prefix, in memory, that is kept right for ever: it scans
 * page by page, and then watches from the first page's seq. After whatever goes wrong it goes on
 * from where it was; where history from there is not kept any more, it scans anew, and changes
 * what is different. It works in cubby_poll and in the functions that wait; a program has to call
 * one of them.
 *
 * Between those calls, while cubby_mirror_position says `live`, the copy is exactly what the
 * daemon held at that seq. While it scans anew it goes from one state to the other page by page.
 */
struct cubby_mirror;

/* Each may be NULL. They may do what a cubby_callback may, and cubby_mirror_close. */
struct cubby_mirror_events {
    /*
     * The copy has changed so; the change is in it already. One that a scan found out has the
     * key's version as its seq, or the scan's where the key is gone, and is the only one of its
     * `count`. Alive during the callback.
     */
    void (*on_change)(void *context, const struct cubby_change *change);
    /* It begins anew: history behind `position` is not kept, or the daemon's is another. */
    void (*on_anew)(void *context, const struct cubby_position *position);
    /* It has become `live`: the first time, and whenever it was not. */
    void (*on_live)(void *context, const struct cubby_position *position);
    /* The daemon refuses it, or memory is out; it is tried again, every second. */
    void (*on_error)(void *context, const struct cubby_error *error);
};

struct cubby_mirror_options {
    bool has_since; /* go on from a copy that was kept elsewhere: see cubby_mirror_load */
    uint64_t since;
    struct cubby_bytes epoch; /* of `since`; NULL data: the daemon's of now */
};

/* Never blocks; the mirror starts with the next cubby_poll. `events` may be NULL, for none.
 * CUBBY_NO_MEMORY; CUBBY_MISUSE with nowhere to put it; CUBBY_TOO_LARGE for a prefix that no key
 * can have. */
CUBBY_API enum cubby_status cubby_mirror_open(struct cubby *cubby, struct cubby_bytes prefix,
                                              const struct cubby_mirror_events *events,
                                              void *context, struct cubby_mirror **mirror,
                                              const struct cubby_mirror_options *options);

/*
 * Hands over an entry of a copy that was right as of `since`, in any order, before anything is
 * called that waits. Tells no event. CUBBY_NO_MEMORY; CUBBY_MISUSE where it is too late, without
 * `since`, where the key has another prefix, or the value is not one MessagePack object.
 */
CUBBY_API enum cubby_status cubby_mirror_load(struct cubby_mirror *mirror,
                                              const struct cubby_entry *entry);

/* Ends it. Sets *mirror to NULL; NULL is fine. Closing the handle ends its mirrors too. */
CUBBY_API void cubby_mirror_close(struct cubby_mirror **mirror);

CUBBY_API struct cubby_position cubby_mirror_position(const struct cubby_mirror *mirror);

/*
 * Reading the copy. Views live until the next call on the handle, or of cubby_mirror_load. An
 * expiry is as of the change that the entry came with (cubby_touch makes none); a key is there
 * until the daemon says that it has expired.
 */
CUBBY_API size_t cubby_mirror_count(const struct cubby_mirror *mirror);

/* False where the key is absent. */
CUBBY_API bool cubby_mirror_get(const struct cubby_mirror *mirror, struct cubby_bytes key,
                                struct cubby_entry *entry);

/* The first entry whose key is over `after`, in byte order; NULL data: of all. False at the end. */
CUBBY_API bool cubby_mirror_next(const struct cubby_mirror *mirror, struct cubby_bytes after,
                                 struct cubby_entry *entry);

#ifdef __cplusplus
}
#endif

#endif

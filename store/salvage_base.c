#include <stdio.h>

#include "store/entry_check.h"
#include "store/keys.h"
#include "store/offline.h"

/*
 * What can be read of a base that is damaged. Where a walk fails, it goes on behind the place, at
 * the next key that a search finds, and from there back again up to the place. Entries that cannot
 * be what the store wrote are left out. The index of expiries is left to whoever has all keys.
 */

enum {
    MAX_FAILURES = 1000, /* of reads in all: the engine is opened again after each */
    STATUS_EVERY = 1024,
};

/* An entry, or the key of one, that outlives the engine's views. */
struct kept {
    bool there;
    struct buffer key;
    struct buffer value;
};

struct partly {
    struct offline *offline;
    offline_take_fn *take;
    void *context;
    struct store_error *error;
    unsigned table;
    uint64_t taken; /* of the table */
    uint64_t seq;
    unsigned failures;
    struct kept last;    /* that was taken walking on */
    struct kept pending; /* is taken if the next is behind it */
};

static struct slice slice_in(const struct buffer *buffer)
{
    return slice_of(buffer->data, buffer->size);
}

static int keep(struct kept *kept, struct slice key, struct slice value)
{
    kept->there = true;
    buffer_restart(&kept->key);
    buffer_restart(&kept->value);
    buffer_append_slice(&kept->key, key);
    buffer_append_slice(&kept->value, value);
    return kept->key.failed || kept->value.failed ? STORE_NO_MEMORY : 0;
}

static void free_kept(struct kept *kept)
{
    buffer_free(&kept->key);
    buffer_free(&kept->value);
}

/* Telling. */

static void tell_entry(const struct partly *partly, struct slice key, const char *what)
{
    char shown[ENTRY_SHOWN_SIZE];
    char sentence[STORE_MAX_ERROR_MESSAGE];
    entry_show_key(key, shown);
    snprintf(sentence, sizeof sentence, "%s is damaged: in table %s, %s: %s",
             partly->offline->methods->name, store_table_name(partly->table), shown, what);
    offline_note_damage(partly->offline, sentence, true);
}

/* The place where a walk failed: what is between is lost. Either may be empty: there is none. */
static void tell_hole(const struct partly *partly, struct slice before, struct slice behind)
{
    char from[ENTRY_SHOWN_SIZE];
    char to[ENTRY_SHOWN_SIZE];
    char sentence[STORE_MAX_ERROR_MESSAGE];
    entry_show_key(before, from);
    entry_show_key(behind, to);
    snprintf(sentence, sizeof sentence,
             "%s is damaged: table %s cannot be read from %.90s to %.90s",
             partly->offline->methods->name, store_table_name(partly->table),
             before.size > 0 ? from : "its beginning", behind.size > 0 ? to : "its end");
    offline_note_damage(partly->offline, sentence, true);
}

/* Taking. */

static int take_key(struct partly *partly, struct slice key, struct slice value)
{
    const struct entry_rules rules = {partly->seq, partly->offline->is_value};
    const char *fault = entry_fault(&rules, key, value);
    if (fault != NULL) {
        tell_entry(partly, key, fault);
        return 0;
    }
    partly->taken++;
    return partly->take(partly->context, STORE_KEYS, key, &value, partly->error);
}

static int take_entry(struct partly *partly, struct slice key, struct slice value)
{
    if (partly->table == STORE_KEYS)
        return take_key(partly, key, value);
    partly->taken++;
    return partly->take(partly->context, partly->table, key, &value, partly->error);
}

static int take_pending(struct partly *partly)
{
    struct kept taken = partly->pending;
    if (!taken.there)
        return 0;
    partly->pending = partly->last;
    partly->pending.there = false;
    partly->last = taken;
    return take_entry(partly, slice_in(&taken.key), slice_in(&taken.value));
}

/* An entry in its turn. Of two that are not in order the one that is out of place is left out. */
static int note_entry(struct partly *partly, struct slice key, struct slice value)
{
    int rc = 0;
    if (!entry_check_size(key, value)) {
        tell_entry(partly, key, "it is larger than any entry");
        return 0;
    }
    if (partly->last.there && slice_compare(key, slice_in(&partly->last.key)) <= 0) {
        tell_entry(partly, key, "it is not in order");
        return 0;
    }
    if (partly->pending.there && slice_compare(key, slice_in(&partly->pending.key)) <= 0)
        tell_entry(partly, slice_in(&partly->pending.key), "it is not in order");
    else
        rc = take_pending(partly);
    if (rc == 0 && keep(&partly->pending, key, value) != 0)
        rc = (int)store_fail(partly->error, STORE_NO_MEMORY, "out of memory");
    return rc;
}

/* Walking. In each of these `read` says what the engine came to, STORE_NOT_FOUND at the end. */

static int open_cursor(struct partly *partly, struct engine_cursor **cursor)
{
    const struct engine_methods *methods = partly->offline->methods;
    if (partly->offline->engine == NULL)
        return STORE_IO;
    return methods->cursor_open(partly->offline->engine, NULL, partly->table, cursor);
}

static int walk_on(struct partly *partly, struct slice from, int *read)
{
    const struct engine_methods *methods = partly->offline->methods;
    struct engine_status ignored;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    unsigned odd = 0;
    int rc = 0;
    *read = open_cursor(partly, &cursor);
    if (*read != 0)
        return 0;
    *read = methods->cursor_seek(cursor, from, &key, &value);
    for (unsigned i = 1; *read == 0 && rc == 0; i++) {
        size_t told = partly->offline->report->damages_in_all;
        rc = note_entry(partly, key, value);
        odd += partly->offline->report->damages_in_all != told;
        if (i % STATUS_EVERY == 0)
            methods->status(partly->offline->engine, &ignored);
        *read = odd > MAX_FAILURES ? STORE_CORRUPT : methods->cursor_next(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    return rc != 0 ? rc : take_pending(partly);
}

/* Back from the last entry before `from` (of all where that is NULL) to the last that was taken. */
static int walk_back(struct partly *partly, struct slice from, struct kept *first)
{
    const struct engine_methods *methods = partly->offline->methods;
    struct engine_cursor *cursor;
    struct slice key;
    struct slice value;
    int rc = 0;
    if (open_cursor(partly, &cursor) != 0)
        return 0;
    int read = methods->cursor_seek_before(cursor, from, &key, &value);
    while (read == 0 && rc == 0) {
        if (partly->last.there && slice_compare(key, slice_in(&partly->last.key)) <= 0)
            break;
        if (first->there && slice_compare(key, slice_in(&first->key)) >= 0)
            break;
        rc = entry_check_size(key, value) ? take_entry(partly, key, value) : 0;
        if (rc == 0 && keep(first, key, (struct slice){0}) != 0)
            rc = (int)store_fail(partly->error, STORE_NO_MEMORY, "out of memory");
        if (rc == 0)
            read = methods->cursor_prev(cursor, &key, &value);
    }
    methods->cursor_close(cursor);
    return rc;
}

/* An engine may take nothing more after a failure. */
static bool recover(struct partly *partly)
{
    return ++partly->failures < MAX_FAILURES && offline_reopen(partly->offline) == 0;
}

/* Makes of a key the least that is behind all that begin with its first `size` bytes. */
static bool pass_over(uint8_t *key, size_t *size)
{
    while (*size > 0 && key[*size - 1] == 0xff)
        --*size;
    if (*size == 0)
        return false;
    key[*size - 1]++;
    return true;
}

/* The nearest entry behind the place that can be found, from small steps to large ones. */
static int find_behind(struct partly *partly, struct kept *found)
{
    uint8_t sought[ENGINE_MAX_KEY];
    struct slice place = slice_in(&partly->last.key);
    for (size_t size = partly->last.there ? place.size : 0; size > 0; size--) {
        const struct engine_methods *methods = partly->offline->methods;
        struct engine_cursor *cursor;
        struct slice key;
        struct slice value;
        memcpy(sought, place.data, size);
        if (!pass_over(sought, &size))
            break;
        int rc = open_cursor(partly, &cursor);
        if (rc == 0) {
            rc = methods->cursor_seek(cursor, slice_of(sought, size), &key, &value);
            if (rc == 0 && slice_compare(key, place) > 0)
                rc = keep(found, key, (struct slice){0});
            methods->cursor_close(cursor);
        }
        if (rc == 0 && found->there)
            return 0;
        if (rc != STORE_NOT_FOUND && !recover(partly))
            break;
    }
    return 0;
}

/* Behind the place where a walk failed. `more`: from there on it is to be walked again. */
static int go_around(struct partly *partly, struct kept *from, bool *more)
{
    struct kept first = {0};
    struct kept found = {0};
    int rc = find_behind(partly, &found);
    *more = found.there;
    if (rc == 0 && found.there)
        rc = keep(&first, slice_in(&found.key), (struct slice){0});
    if (rc == 0)
        rc = walk_back(partly, found.there ? slice_in(&found.key) : (struct slice){0}, &first);
    tell_hole(partly, partly->last.there ? slice_in(&partly->last.key) : (struct slice){0},
              first.there ? slice_in(&first.key) : (struct slice){0});
    if (rc == 0 && found.there)
        rc = keep(from, slice_in(&found.key), (struct slice){0});
    if (!recover(partly))
        *more = false;
    free_kept(&first);
    free_kept(&found);
    return rc;
}

static int load_table(struct partly *partly)
{
    struct offline *offline = partly->offline;
    struct kept from = {0};
    uint64_t count = 0;
    int read;
    bool more = true;
    int rc = 0;
    partly->taken = 0;
    partly->last.there = partly->pending.there = false;
    if (offline->engine != NULL)
        (void)offline->methods->count(offline->engine, partly->table, (struct slice){0},
                                      (struct slice){0}, &count);
    while (rc == 0 && more) {
        rc = walk_on(partly, from.there ? slice_in(&from.key) : slice_of("", 0), &read);
        more = rc == 0 && read != 0 && read != STORE_NOT_FOUND && recover(partly);
        if (more)
            rc = go_around(partly, &from, &more);
    }
    free_kept(&from);
    if (count > partly->taken)
        offline->report->lost[partly->table] = count - partly->taken;
    return rc;
}

int offline_load_partly(struct offline *offline, offline_take_fn *take, void *context,
                        struct store_error *error)
{
    struct partly partly = {.offline = offline,
                            .take = take,
                            .context = context,
                            .error = error,
                            .seq = offline->report->base.seq};
    int rc = 0;
    offline_begin_verdict(offline);
    for (partly.table = 0; rc == 0 && partly.table < STORE_TABLES; partly.table++)
        if (partly.table != STORE_EXPIRY)
            rc = load_table(&partly);
    free_kept(&partly.last);
    free_kept(&partly.pending);
    offline_keep_verdict(offline);
    return rc;
}

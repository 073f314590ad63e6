/*
 * Writes that are not yet in the files of an engine: for each table a B+tree of the memory engine,
 * whose entries say what was put, or that a key was deleted. What the files have is seen through
 * it.
 */
#ifndef STORE_OVERLAY_H
#define STORE_OVERLAY_H

#include "store/memory_tree.h"

struct overlay {
    struct space space;
    struct tree table[ENGINE_TABLES];
    uint8_t *scratch; /* an entry that is being written */
};

/* What is known of a key. Views, until the next write. */
struct overlay_entry {
    bool deleted;
    struct slice key;
    struct slice value; /* empty where it was deleted */
};

/* STORE_NO_MEMORY. `options` has who admits allocations. */
int overlay_init(struct overlay *overlay, const struct engine_options *options);
void overlay_end(struct overlay *overlay);

/* Forgets everything. */
void overlay_clear(struct overlay *overlay);

/* False where nothing is known of the key. Leaves `entry->key` alone. */
bool overlay_get(const struct overlay *overlay, unsigned table, struct slice key,
                 struct overlay_entry *entry);

/*
 * `value` NULL: the key was deleted. Key and value may be views of the overlay. STORE_NO_MEMORY:
 * nothing changed.
 */
int overlay_put(struct overlay *overlay, unsigned table, struct slice key,
                const struct slice *value);

/*
 * The first entry behind the key, or (`or_at`) at or behind it; the last before the key, or of all
 * where `key.data` is NULL. `buffer` is where the found key goes, ENGINE_MAX_KEY bytes.
 */
bool overlay_after(const struct overlay *overlay, unsigned table, struct slice key, bool or_at,
                   uint8_t *buffer, struct overlay_entry *entry);
bool overlay_before(const struct overlay *overlay, unsigned table, struct slice key,
                    uint8_t *buffer, struct overlay_entry *entry);

/* Calls `visit` with each entry, in order. */
void overlay_visit(const struct overlay *overlay,
                   void (*visit)(void *context, unsigned table, const struct overlay_entry *entry),
                   void *context);

/* Bytes of memory that the entries take. */
uint64_t overlay_memory(const struct overlay *overlay);

#endif

/*
 * A B+tree of pages, one for each table of the memory engine. It is a value: whoever copies the
 * struct and freezes the space has a snapshot of the tree, which others may read meanwhile.
 *
 * A write allocates all that it needs before it changes anything. Where it can, it changes one
 * leaf in place, or puts a larger or smaller copy in its place. Else (a leaf splits, merges, loses
 * some of its prefix, or is shared with a snapshot) it builds new pages for the leaf, and for those
 * above it up to one that can take the new children in place, or up to the root.
 */
#ifndef STORE_MEMORY_TREE_H
#define STORE_MEMORY_TREE_H

#include "store/memory_page.h"

enum { TREE_MAX_PREFETCH = ENGINE_MAX_PREFETCH };

enum { TREE_MAX_DEPTH = 32 }; /* never reached: pages that are not small have PAGE_MIN_FANOUT / 2 */

struct tree {
    struct page *root;           /* NULL where it is empty */
    uint64_t count;              /* entries */
    uint64_t moves;              /* counts the writes after which a path is no longer good, */
    uint64_t swaps;              /* and those of them that put pages in the place of others */
    const struct page *appended; /* which leaf got its last entry last: only to be compared */
};

/* Where an entry is: one page of each level from the root down, and which of its entries. */
struct tree_path {
    unsigned depth; /* levels; 0 in an empty tree */
    struct tree_step {
        struct page *page;
        unsigned index;
    } step[TREE_MAX_DEPTH];
};

/*
 * Finds the key, or the place in a leaf where it belongs, which may be behind the leaf's last
 * entry. Returns whether it is there.
 */
bool tree_find(const struct tree *tree, struct slice key, struct tree_path *path);

/*
 * The same where the path is good and the key likely to be close to it: goes up from the path's
 * leaf no further than it has to. `path` must have been good when `swaps` was what it is.
 */
bool tree_find_near(struct tree_path *path, struct slice key);

/*
 * These keys (1 to TREE_MAX_PREFETCH, in a tree that is not empty) will be looked for next. They
 * are followed down level by level, all together, so that the processor waits for them all at once
 * and not for each in turn. `paths`, one for each, lead to the leaves, and likely to the entries;
 * while the tree's `moves` is what it was, tree_find_in_leaf completes such a path to what
 * tree_find would find.
 */
void tree_prefetch(const struct tree *tree, const struct slice *keys, unsigned count,
                   struct tree_path *paths);
bool tree_find_in_leaf(struct tree_path *path, struct slice key);

/* Goes behind the last entry. */
void tree_find_end(const struct tree *tree, struct tree_path *path);

/*
 * Move by one entry; tree_settle goes to the next leaf where the path is behind a leaf's last
 * entry. False where there is none, and the path is no longer good.
 */
bool tree_settle(struct tree_path *path);
bool tree_next(struct tree_path *path);
bool tree_prev(struct tree_path *path);

/* The leaf's entry at the path. */
static inline struct tree_step *tree_leaf(struct tree_path *path)
{
    return &path->step[path->depth - 1];
}

/* How many keys are less. */
uint64_t tree_rank(const struct tree *tree, struct slice key);

/*
 * `path` and `found` are what tree_find says of the key. Afterwards the path is still good, and at
 * the key or where it was, unless its depth is 0. STORE_NO_MEMORY: the tree is as before.
 * tree_delete, of what was found, needs no memory unless a snapshot shares what it changes.
 */
int tree_put(struct tree *tree, struct space *space, struct tree_path *path, bool found,
             struct slice key, struct slice value);
int tree_delete(struct tree *tree, struct space *space, struct tree_path *path);

/* Frees all pages and blobs. No snapshot may share them. */
void tree_free(struct tree *tree, struct space *space);

#endif

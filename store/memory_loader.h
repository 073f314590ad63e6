/*
 * Builds a tree of the memory engine from entries that come in order: pages are filled one after
 * the other, from the leaves up, and never touched again. That is several times as fast as putting
 * the entries one by one, and leaves no page half empty.
 *
 *     tree_loader_open(&loader, &tree, &space);
 *     tree_loader_add(loader, key, value);              …
 *     tree_loader_close(&loader, true);
 */
#ifndef STORE_MEMORY_LOADER_H
#define STORE_MEMORY_LOADER_H

#include "store/memory_tree.h"

struct tree_loader;

/* `tree` is empty, and used by nobody else until the close. STORE_NO_MEMORY. */
int tree_loader_open(struct tree_loader **loader, struct tree *tree, struct space *space);

/*
 * Adds an entry. Both are copied. STORE_INVALID where the key is not behind the one before, or
 * something is over its limit; STORE_NO_MEMORY. After either only a close without `complete` may
 * follow.
 */
int tree_loader_add(struct tree_loader *loader, struct slice key, struct slice value);

/*
 * With `complete` the tree has all entries afterwards; without, or where STORE_NO_MEMORY is
 * returned, it is empty. Frees the loader.
 */
int tree_loader_close(struct tree_loader **loader, bool complete);

#endif

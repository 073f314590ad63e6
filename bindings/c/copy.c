#include "bindings/c/copy.h"

#include <stdlib.h>

#include "bindings/c/params.h"

/* With every fourth node on the next level, sixteen serve four billion entries. */
enum { LEVELS = 16, LEVEL_BITS = 2 };

/* One allocation: the node, its links, and the bytes of key and value. */
struct copy_node {
    struct cubby_entry entry;
    unsigned levels;
    struct copy_node *next[];
};

static int order(const struct copy_node *node, struct cubby_bytes key)
{
    return slice_compare(slice_of_bytes(node->entry.key), slice_of_bytes(key));
}

/*
 * For each level, the link behind the last node whose key is below `key` (or, with `past`, not
 * over it). The links of level 0 lead to what is looked for.
 */
static void find_links(const struct copy *copy, struct cubby_bytes key, bool past,
                       struct copy_node **links[LEVELS])
{
    struct copy_node **row = copy->heads;
    for (int level = LEVELS - 1; level >= 0; level--) {
        while (row[level] != NULL && order(row[level], key) < (past ? 1 : 0))
            row = row[level]->next;
        links[level] = &row[level];
    }
}

/* splitmix64; one level more for every LEVEL_BITS zeros. */
static unsigned draw_levels(struct copy *copy)
{
    uint64_t bits = copy->random += UINT64_C(0x9e3779b97f4a7c15);
    unsigned levels = 1;
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    bits ^= bits >> 31;
    for (; levels < LEVELS && (bits & ((1u << LEVEL_BITS) - 1)) == 0; bits >>= LEVEL_BITS)
        levels++;
    return levels;
}

static struct copy_node *new_node(const struct cubby_entry *entry, unsigned levels)
{
    size_t head = sizeof(struct copy_node) + levels * sizeof(void *);
    struct copy_node *node = malloc(head + entry->key.size + entry->value.size);
    if (node == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)node + head;
    node->entry = *entry;
    node->levels = levels;
    node->entry.key.data = memcpy(bytes, entry->key.data, entry->key.size);
    node->entry.value.data = memcpy(bytes + entry->key.size, entry->value.data, entry->value.size);
    return node;
}

static void unlink_node(struct copy *copy, struct copy_node *node, struct copy_node **links[LEVELS])
{
    for (unsigned level = 0; level < node->levels; level++)
        *links[level] = node->next[level];
    copy->count--;
    free(node);
}

int copy_put(struct copy *copy, const struct cubby_entry *entry)
{
    struct copy_node **links[LEVELS];
    if (copy->heads == NULL)
        copy->heads = calloc(LEVELS, sizeof(struct copy_node *));
    struct copy_node *node = new_node(entry, draw_levels(copy));
    if (copy->heads == NULL || node == NULL) {
        free(node);
        return -1;
    }
    find_links(copy, entry->key, false, links);
    struct copy_node *old = *links[0];
    if (old != NULL && order(old, entry->key) == 0)
        unlink_node(copy, old, links);
    for (unsigned level = 0; level < node->levels; level++) {
        node->next[level] = *links[level];
        *links[level] = node;
    }
    copy->count++;
    return 0;
}

static struct copy_node *find(const struct copy *copy, struct cubby_bytes key,
                              struct copy_node **links[LEVELS])
{
    if (copy->heads == NULL)
        return NULL;
    find_links(copy, key, false, links);
    struct copy_node *node = *links[0];
    return node != NULL && order(node, key) == 0 ? node : NULL;
}

bool copy_remove(struct copy *copy, struct cubby_bytes key)
{
    struct copy_node **links[LEVELS];
    struct copy_node *node = find(copy, key, links);
    if (node == NULL)
        return false;
    unlink_node(copy, node, links);
    return true;
}

const struct cubby_entry *copy_find(const struct copy *copy, struct cubby_bytes key)
{
    struct copy_node **links[LEVELS];
    struct copy_node *node = find(copy, key, links);
    return node != NULL ? &node->entry : NULL;
}

const struct cubby_entry *copy_next(const struct copy *copy, struct cubby_bytes after)
{
    struct copy_node **links[LEVELS];
    if (copy->heads == NULL)
        return NULL;
    if (after.data == NULL)
        return copy->heads[0] != NULL ? &copy->heads[0]->entry : NULL;
    find_links(copy, after, true, links);
    return *links[0] != NULL ? &(*links[0])->entry : NULL;
}

void copy_free(struct copy *copy)
{
    struct copy_node *node = copy->heads != NULL ? copy->heads[0] : NULL;
    while (node != NULL) {
        struct copy_node *next = node->next[0];
        free(node);
        node = next;
    }
    free(copy->heads);
    *copy = (struct copy){0};
}

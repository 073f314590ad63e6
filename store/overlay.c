#include "store/overlay.h"

/* The first byte of an entry's value. */
enum { TAG_DELETED, TAG_PUT };

int overlay_init(struct overlay *overlay, const struct engine_options *options)
{
    memset(overlay, 0, sizeof *overlay);
    space_init(&overlay->space, options);
    overlay->scratch = malloc(1 + ENGINE_MAX_VALUE);
    return overlay->scratch != NULL ? STORE_OK : STORE_NO_MEMORY;
}

void overlay_end(struct overlay *overlay)
{
    overlay_clear(overlay);
    space_end(&overlay->space);
    free(overlay->scratch);
}

void overlay_clear(struct overlay *overlay)
{
    for (unsigned i = 0; i < ENGINE_TABLES; i++)
        if (overlay->table[i].root != NULL)
            tree_free(&overlay->table[i], &overlay->space);
}

static void take_value(struct tree_path *path, struct overlay_entry *entry)
{
    const struct tree_step *leaf = tree_leaf(path);
    struct slice tagged = page_value(leaf->page, leaf->index);
    entry->deleted = tagged.data[0] == TAG_DELETED;
    entry->value = slice_of(tagged.data + 1, tagged.size - 1);
}

static void take(struct tree_path *path, uint8_t *buffer, struct overlay_entry *entry)
{
    const struct tree_step *leaf = tree_leaf(path);
    entry->key = slice_of(buffer, page_key(leaf->page, leaf->index, buffer));
    take_value(path, entry);
}

bool overlay_get(const struct overlay *overlay, unsigned table, struct slice key,
                 struct overlay_entry *entry)
{
    const struct tree *tree = &overlay->table[table];
    struct tree_path path;
    if (tree->root == NULL || !tree_find(tree, key, &path))
        return false;
    take_value(&path, entry);
    return true;
}

int overlay_put(struct overlay *overlay, unsigned table, struct slice key,
                const struct slice *value)
{
    struct tree *tree = &overlay->table[table];
    struct tree_path path;
    size_t size = value != NULL ? value->size : 0;
    bool found = tree_find(tree, key, &path);
    overlay->scratch[0] = value != NULL ? TAG_PUT : TAG_DELETED;
    if (size > 0)
        memcpy(overlay->scratch + 1, value->data, size);
    return tree_put(tree, &overlay->space, &path, found, key, slice_of(overlay->scratch, 1 + size));
}

bool overlay_after(const struct overlay *overlay, unsigned table, struct slice key, bool or_at,
                   uint8_t *buffer, struct overlay_entry *entry)
{
    const struct tree *tree = &overlay->table[table];
    struct tree_path path;
    if (tree->root == NULL)
        return false;
    bool found = tree_find(tree, key, &path);
    if (!(found && !or_at ? tree_next(&path) : tree_settle(&path)))
        return false;
    take(&path, buffer, entry);
    return true;
}

bool overlay_before(const struct overlay *overlay, unsigned table, struct slice key,
                    uint8_t *buffer, struct overlay_entry *entry)
{
    const struct tree *tree = &overlay->table[table];
    struct tree_path path;
    if (tree->root == NULL)
        return false;
    if (key.data == NULL)
        tree_find_end(tree, &path);
    else
        tree_find(tree, key, &path);
    if (!tree_prev(&path))
        return false;
    take(&path, buffer, entry);
    return true;
}

void overlay_visit(const struct overlay *overlay,
                   void (*visit)(void *context, unsigned table, const struct overlay_entry *entry),
                   void *context)
{
    uint8_t buffer[ENGINE_MAX_KEY];
    for (unsigned i = 0; i < ENGINE_TABLES; i++) {
        struct overlay_entry entry;
        struct tree_path path;
        if (overlay->table[i].root == NULL)
            continue;
        tree_find(&overlay->table[i], slice_of_text(""), &path);
        for (bool more = tree_settle(&path); more; more = tree_next(&path)) {
            take(&path, buffer, &entry);
            visit(context, i, &entry);
        }
    }
}

uint64_t overlay_memory(const struct overlay *overlay)
{
    return overlay->space.memory;
}

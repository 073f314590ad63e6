#include "store/memory_loader.h"

enum {
    SHEET_BYTES = 64 << 10, /* of keys and payloads for one page, its prefix not cut off */
    SHEET_ENTRIES = PAGE_MAX_SIZE / 8,  /* none takes less */
    INNER_FILL = PAGE_MAX_SIZE / 8 * 7, /* leaves will split, and their parents are to have room */
};

/* What the next page of a level is to hold. */
struct sheet {
    unsigned count;
    unsigned taken; /* entries, from the first on, that are in a page already */
    size_t prefix_size;
    size_t size; /* of the page */
    size_t used; /* of bytes */
    size_t first_size;
    uint8_t first[ENGINE_MAX_KEY]; /* the key that parts the page from the one before */
    struct page_entry entries[SHEET_ENTRIES];
    uint8_t bytes[SHEET_BYTES];
};

/*
 * A level keeps the page before the newest one back too, so that the last two of all can share
 * what they have, where the last alone would be small.
 */
struct level {
    struct sheet *last; /* NULL: none */
    struct sheet *full; /* likewise: the one before, which is complete */
};

struct tree_loader {
    struct tree *tree;
    struct space *space;
    uint64_t count;
    unsigned depth; /* levels in use */
    struct level level[TREE_MAX_DEPTH];
};

int tree_loader_open(struct tree_loader **loader, struct tree *tree, struct space *space)
{
    *loader = calloc(1, sizeof(**loader));
    if (*loader == NULL)
        return STORE_NO_MEMORY;
    (*loader)->tree = tree;
    (*loader)->space = space;
    return STORE_OK;
}

static size_t common_size(struct slice a, struct slice b)
{
    size_t most = a.size < b.size ? a.size : b.size;
    size_t common = 0;
    while (common < most && a.data[common] == b.data[common])
        common++;
    return common;
}

static int add_to_level(struct tree_loader *loader, unsigned depth, const struct page_entry *entry);

static struct sheet *new_sheet(struct tree_loader *loader)
{
    struct sheet *sheet = NULL;
    if (space_admits(loader->space, sizeof(*sheet)))
        sheet = malloc(sizeof(*sheet));
    if (sheet != NULL) {
        sheet->count = 0;
        sheet->taken = 0;
        sheet->first_size = 0;
    }
    return sheet;
}

static void draft_sheet(struct page_draft *draft, const struct sheet *sheet)
{
    page_draft_add_entries(draft, sheet->entries, sheet->count);
}

/* Makes a page of entries of the draft, and tells the level above. */
static int emit(struct tree_loader *loader, unsigned depth, const struct page_draft *draft,
                unsigned from, unsigned to, struct slice first)
{
    size_t capacity = page_capacity(page_draft_size(draft, from, to), draft->inner);
    struct page *page = space_allocate(loader->space, capacity);
    if (page == NULL)
        return STORE_NO_MEMORY;
    struct page_child child = {.page = page};
    child.count = page_draft_build(draft, from, to, page, capacity);
    struct page_entry entry = {.key = first, .value_size = sizeof(child), .payload = &child};
    int rc = add_to_level(loader, depth + 1, &entry);
    if (rc != STORE_OK)
        space_free(loader->space, &page->block);
    return rc;
}

static int emit_full(struct tree_loader *loader, unsigned depth)
{
    struct level *level = &loader->level[depth];
    struct page_draft draft;
    page_draft_init(&draft, depth > 0);
    draft_sheet(&draft, level->full);
    int rc = emit(loader, depth, &draft, 0, draft.count,
                  slice_of(level->full->first, level->full->first_size));
    if (rc == STORE_OK)
        level->full->count = 0;
    return rc;
}

/* The newest sheet is complete: the one before becomes a page, and its memory the newest sheet. */
static int turn_sheets(struct tree_loader *loader, unsigned depth)
{
    struct level *level = &loader->level[depth];
    if (level->full != NULL && level->full->count > 0) {
        int rc = emit_full(loader, depth);
        if (rc != STORE_OK)
            return rc;
    }
    struct sheet *other = level->full != NULL ? level->full : new_sheet(loader);
    if (other == NULL)
        return STORE_NO_MEMORY;
    level->full = level->last;
    level->last = other;
    other->count = 0;
    return STORE_OK;
}

/* Whether the sheet's page takes the entry too, and what it has then. Keys ascend. */
static bool admits(struct sheet *sheet, bool inner, const struct page_entry *entry)
{
    size_t payload = page_payload_size(entry->value_size);
    if (sheet->count == SHEET_ENTRIES || sheet->used + entry->key.size + payload > SHEET_BYTES)
        return false;
    struct page_draft draft;
    size_t prefix = sheet->prefix_size;
    size_t size;
    unsigned first = inner; /* an inner page's first key does not count */
    if (sheet->count > first)
        prefix = common_size(
            sheet->entries[first].key,
            slice_of(entry->key.data, entry->key.size < prefix ? entry->key.size : prefix));
    else
        prefix = sheet->count == first ? entry->key.size : 0;
    if (sheet->count > first && prefix == sheet->prefix_size) {
        size = sheet->size + page_entry_size(prefix, entry);
    } else {
        page_draft_init(&draft, inner);
        draft_sheet(&draft, sheet);
        page_draft_add_entry(&draft, entry);
        size = page_draft_size(&draft, 0, draft.count);
    }
    size_t most = inner ? INNER_FILL : PAGE_MAX_SIZE;
    if (size > most && sheet->count >= (inner ? PAGE_MIN_FANOUT : 1))
        return false;
    sheet->size = size;
    sheet->prefix_size = prefix;
    return true;
}

static void copy_entry(struct sheet *sheet, const struct page_entry *entry)
{
    uint8_t *key = sheet->bytes + sheet->used;
    size_t payload = page_payload_size(entry->value_size);
    if (entry->key.size > 0)
        memcpy(key, entry->key.data, entry->key.size);
    if (payload > 0)
        memcpy(key + entry->key.size, entry->payload, payload);
    sheet->used += entry->key.size + payload;
    sheet->entries[sheet->count++] = (struct page_entry){.key = slice_of(key, entry->key.size),
                                                         .value_size = entry->value_size,
                                                         .payload = key + entry->key.size};
}

/* The shortest key that parts the leaves; above them the keys are such already. */
static void set_first(struct sheet *sheet, const struct sheet *before, bool inner, struct slice key)
{
    size_t size = key.size;
    if (before == NULL)
        size = 0;
    else if (!inner)
        size = common_size(before->entries[before->count - 1].key, key) + 1;
    sheet->first_size = size;
    if (size > 0)
        memcpy(sheet->first, key.data, size);
}

static void begin_sheet(struct sheet *sheet, const struct sheet *before, bool inner,
                        struct slice key)
{
    sheet->count = 0;
    sheet->taken = 0;
    sheet->used = 0;
    sheet->size = 0;
    sheet->prefix_size = 0;
    set_first(sheet, before, inner, key);
}

static int add_to_level(struct tree_loader *loader, unsigned depth, const struct page_entry *entry)
{
    bool inner = depth > 0;
    if (depth == TREE_MAX_DEPTH)
        return STORE_NO_MEMORY;
    struct level *level = &loader->level[depth];
    if (level->last == NULL) {
        level->last = new_sheet(loader);
        if (level->last == NULL)
            return STORE_NO_MEMORY;
        loader->depth = depth + 1;
        begin_sheet(level->last, NULL, inner, entry->key);
    }
    if (!admits(level->last, inner, entry)) {
        int rc = turn_sheets(loader, depth);
        if (rc != STORE_OK)
            return rc;
        begin_sheet(level->last, level->full, inner, entry->key);
        (void)admits(level->last, inner, entry);
    }
    copy_entry(level->last, entry);
    return STORE_OK;
}

/* The key before is always at the end of the newest sheet. */
static bool ascends(const struct tree_loader *loader, struct slice key)
{
    const struct sheet *last = loader->level[0].last;
    if (last == NULL || last->count == 0)
        return true;
    return slice_compare(last->entries[last->count - 1].key, key) < 0;
}

int tree_loader_add(struct tree_loader *loader, struct slice key, struct slice value)
{
    struct page_entry entry = {.key = key, .value_size = value.size, .payload = value.data};
    struct blob *blob = NULL;
    if (key.size > ENGINE_MAX_KEY || value.size > ENGINE_MAX_VALUE || !ascends(loader, key))
        return STORE_INVALID;
    if (value.size > PAGE_MAX_INLINE) {
        blob = space_allocate(loader->space, sizeof(*blob) + value.size);
        if (blob == NULL)
            return STORE_NO_MEMORY;
        memcpy(blob->bytes, value.data, value.size);
        entry.payload = &blob;
    }
    int rc = add_to_level(loader, 0, &entry);
    if (rc != STORE_OK && blob != NULL)
        space_free(loader->space, &blob->block);
    loader->count += rc == STORE_OK;
    return rc;
}

/* The first `count` entries of the level's two sheets are in pages. */
static void take(const struct level *level, unsigned count)
{
    unsigned before = level->full != NULL ? level->full->count : 0;
    if (level->full != NULL)
        level->full->taken = count < before ? count : before;
    level->last->taken = count > before ? count - before : 0;
}

/* What is left in the sheets of a level becomes one page, or two that share it evenly. */
static int emit_together(struct tree_loader *loader, unsigned depth)
{
    const struct level *level = &loader->level[depth];
    bool two = level->full != NULL && level->full->count > 0;
    const struct sheet *first = two ? level->full : level->last;
    struct slice key = slice_of(first->first, first->first_size);
    uint8_t between[ENGINE_MAX_KEY];
    unsigned cuts[PAGE_MAX_CUTS + 1];
    struct page_draft draft;
    page_draft_init(&draft, depth > 0);
    if (two)
        draft_sheet(&draft, level->full);
    draft.before = draft.count; /* where it is cut if the middle does not do */
    draft_sheet(&draft, level->last);
    unsigned pages = page_draft_cut(&draft, cuts);
    for (unsigned i = 0; i < pages; i++) {
        if (i > 0)
            key = slice_of(between, page_draft_separator(&draft, cuts[i], between));
        int rc = emit(loader, depth, &draft, cuts[i], cuts[i + 1], key);
        if (rc != STORE_OK)
            return rc;
        take(level, cuts[i + 1]);
    }
    return STORE_OK;
}

static int emit_rest(struct tree_loader *loader, unsigned depth)
{
    const struct level *level = &loader->level[depth];
    int rc = STORE_OK;
    if (level->full != NULL && level->full->count > 0 && level->last->size >= PAGE_SMALL_SIZE)
        rc = emit_full(loader, depth);
    return rc == STORE_OK ? emit_together(loader, depth) : rc;
}

/* What a sheet's entries point to is in no page yet. */
static void drop_sheet(struct tree_loader *loader, struct sheet *sheet, bool inner)
{
    for (unsigned i = sheet != NULL ? sheet->taken : 0; sheet != NULL && i < sheet->count; i++) {
        const struct page_entry *entry = &sheet->entries[i];
        if (inner) {
            struct page_child child;
            memcpy(&child, entry->payload, sizeof(child));
            struct tree below = {.root = child.page};
            tree_free(&below, loader->space);
        } else if (entry->value_size > PAGE_MAX_INLINE) {
            struct blob *blob;
            memcpy(&blob, entry->payload, sizeof(struct blob *));
            space_free(loader->space, &blob->block);
        }
    }
    free(sheet);
}

/* The one page of a level that has no other is the root. */
static void set_root(struct tree_loader *loader, struct sheet *sheet)
{
    struct page_child child;
    memcpy(&child, sheet->entries[0].payload, sizeof(child));
    sheet->taken = 1;
    loader->tree->root = child.page;
    loader->tree->count = loader->count;
    loader->tree->moves++;
}

static int finish(struct tree_loader *loader)
{
    for (unsigned depth = 0; depth < loader->depth; depth++) {
        struct level *level = &loader->level[depth];
        if (depth > 0 && level->full == NULL && level->last->count == 1) {
            set_root(loader, level->last);
            return STORE_OK;
        }
        int rc = emit_rest(loader, depth);
        if (rc != STORE_OK)
            return rc;
    }
    return STORE_OK;
}

int tree_loader_close(struct tree_loader **pointer, bool complete)
{
    struct tree_loader *loader = *pointer;
    if (loader == NULL)
        return STORE_OK;
    int rc = complete ? finish(loader) : STORE_OK;
    for (unsigned depth = 0; depth < loader->depth; depth++) {
        drop_sheet(loader, loader->level[depth].full, depth > 0);
        drop_sheet(loader, loader->level[depth].last, depth > 0);
    }
    free(loader);
    *pointer = NULL;
    return rc;
}

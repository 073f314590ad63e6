#include "store/memory_tree.h"

bool tree_find_in_leaf(struct tree_path *path, struct slice key)
{
    bool found;
    struct tree_step *leaf = tree_leaf(path);
    leaf->index = page_find_near(leaf->page, key, leaf->index, &found);
    return found;
}

/* Goes down from the page to the key's leaf. */
static bool find_below(struct tree_path *path, struct page *page, struct slice key)
{
    while (page->inner) {
        unsigned index = page_find_child(page, key);
        path->step[path->depth++] = (struct tree_step){page, index};
        page = page_child(page, index).page;
    }
    bool found;
    path->step[path->depth++] = (struct tree_step){page, page_find(page, key, &found)};
    return found;
}

bool tree_find(const struct tree *tree, struct slice key, struct tree_path *path)
{
    path->depth = 0;
    return tree->root != NULL && find_below(path, tree->root, key);
}

/* Whether the key is between two of the page's, so that it need not be looked for elsewhere. */
static bool is_within(const struct tree_step *step)
{
    return step->index > 0 && step->index + step->page->inner < step->page->count;
}

/* Whether the path is at either end of the tree: behind the last entry, or at the first. */
static bool is_at_end(const struct tree_path *path)
{
    unsigned level = path->depth - 1;
    bool last = path->step[level].index > 0;
    while (level-- > 0) {
        const struct tree_step *step = &path->step[level];
        if (step->index != (last ? step->page->count - 1U : 0))
            return false;
    }
    return true;
}

bool tree_find_near(struct tree_path *path, struct slice key)
{
    unsigned level = path->depth - 1;
    struct tree_step *leaf = &path->step[level];
    bool found;
    leaf->index = page_find_near(leaf->page, key, leaf->index, &found);
    if (!found && !is_within(&path->step[level]) && is_at_end(path))
        return false;
    while (!found && level > 0 && !is_within(&path->step[level])) {
        struct tree_step *above = &path->step[--level];
        above->index = page_find_child(above->page, key);
    }
    for (; level + 1 < path->depth; level++) {
        const struct tree_step *step = &path->step[level];
        struct page *page = page_child(step->page, step->index).page;
        if (page == step[1].page)
            continue;
        path->depth = level + 1;
        return find_below(path, page, key);
    }
    return found;
}

/* All leaves are at the same depth. */
void tree_prefetch(const struct tree *tree, const struct slice *keys, unsigned count,
                   struct tree_path *paths)
{
    struct page *page[TREE_MAX_PREFETCH] = {tree->root};
    unsigned depth = 0;
    for (unsigned i = 1; i < count; i++)
        page[i] = tree->root;
    for (; page[0]->inner; depth++) {
        for (unsigned i = 0; i < count; i++) {
            unsigned index = page_find_child(page[i], keys[i]);
            paths[i].step[depth] = (struct tree_step){page[i], index};
            page_prefetch_child(page[i], index);
        }
        for (unsigned i = 0; i < count; i++) {
            page[i] = page_child(page[i], paths[i].step[depth].index).page;
            page_prefetch(page[i]);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        paths[i].step[depth] = (struct tree_step){page[i], page_prefetch_entry(page[i], keys[i])};
        paths[i].depth = depth + 1;
    }
}

/* Goes down from the page to its first entry, or behind its last. */
static void descend(struct tree_path *path, struct page *page, bool last)
{
    while (page->inner) {
        unsigned index = last ? page->count - 1 : 0;
        path->step[path->depth++] = (struct tree_step){page, index};
        page = page_child(page, index).page;
    }
    path->step[path->depth++] = (struct tree_step){page, last ? page->count : 0};
}

void tree_find_end(const struct tree *tree, struct tree_path *path)
{
    path->depth = 0;
    if (tree->root != NULL)
        descend(path, tree->root, true);
}

/* To the first entry of the next leaf, or behind the last of the one before. */
static bool change_leaf(struct tree_path *path, bool forward)
{
    while (path->depth > 1) {
        path->depth--;
        struct tree_step *step = &path->step[path->depth - 1];
        if (forward ? step->index + 1 < step->page->count : step->index > 0) {
            step->index += forward ? 1 : -1U;
            descend(path, page_child(step->page, step->index).page, !forward);
            return true;
        }
    }
    path->depth = 0;
    return false;
}

bool tree_settle(struct tree_path *path)
{
    if (path->depth == 0)
        return false;
    struct tree_step *leaf = tree_leaf(path);
    return leaf->index < leaf->page->count || change_leaf(path, true);
}

bool tree_next(struct tree_path *path)
{
    tree_leaf(path)->index++;
    return tree_settle(path);
}

bool tree_prev(struct tree_path *path)
{
    if (path->depth == 0)
        return false;
    if (tree_leaf(path)->index == 0 && !change_leaf(path, false))
        return false;
    tree_leaf(path)->index--;
    return true;
}

uint64_t tree_rank(const struct tree *tree, struct slice key)
{
    const struct page *page = tree->root;
    uint64_t rank = 0;
    if (page == NULL)
        return 0;
    while (page->inner) {
        unsigned index = page_find_child(page, key);
        rank += page_count_before(page, index);
        page = page_child(page, index).page;
    }
    bool found;
    return rank + page_find(page, key, &found);
}

enum { EDIT_MAX_BLOCKS = TREE_MAX_DEPTH * PAGE_MAX_CUTS + 2 };

_Static_assert((int)EDIT_MAX_BLOCKS <= (int)SPACE_MAX_RETIRED, "an edit reserves all it retires");

/* Pages that take the place of others below the same parent, and the keys that part them. */
struct row {
    unsigned count;
    struct page_child child[PAGE_MAX_CUTS];
    size_t key_size[PAGE_MAX_CUTS];
    uint8_t key[PAGE_MAX_CUTS][ENGINE_MAX_KEY];
};

/*
 * One write. It goes up from the leaf: `row` holds what was built for the level `depth`, in
 * place of the children first, first + 1, … (`span` of them) of the page above. Until it is
 * committed it has only made blocks that nobody knows; then those it replaced are retired.
 */
struct edit {
    struct tree *tree;
    struct space *space;
    struct tree_path *path;
    uint64_t more; /* what the write adds to all counts: 1, 0 or UINT64_MAX */
    unsigned depth;
    unsigned first;
    unsigned span;
    unsigned fresh_count;
    unsigned retired_count;
    struct row *row;
    struct row *spare; /* for the next level's */
    struct block *fresh[EDIT_MAX_BLOCKS];
    struct block *retired[EDIT_MAX_BLOCKS];
    struct row rows[2];
    uint8_t between[ENGINE_MAX_KEY];
};

/* Not all at once: an edit is large, and most writes use little of it. */
static void begin(struct edit *edit, struct tree *tree, struct space *space, struct tree_path *path,
                  uint64_t more)
{
    edit->tree = tree;
    edit->space = space;
    edit->path = path;
    edit->more = more;
    edit->depth = path->depth;
    edit->fresh_count = 0;
    edit->retired_count = 0;
    edit->row = &edit->rows[0];
    edit->spare = &edit->rows[1];
    if (space->doomed != NULL)
        space_sweep(space, SPACE_SWEEP_WRITE);
}

static void *make_block(struct edit *edit, size_t size)
{
    struct block *block = space_allocate(edit->space, size);
    if (block != NULL)
        edit->fresh[edit->fresh_count++] = block;
    return block;
}

static void retire_later(struct edit *edit, struct block *block)
{
    edit->retired[edit->retired_count++] = block;
}

/* Frees what was made since there were only `fresh` blocks. */
static void drop_fresh(struct edit *edit, unsigned fresh)
{
    while (edit->fresh_count > fresh)
        space_free(edit->space, edit->fresh[--edit->fresh_count]);
}

static bool is_frozen(const struct edit *edit, const struct page *page)
{
    return space_is_frozen(edit->space, &page->block);
}

static bool wastes(const struct page *page, unsigned quarters)
{
    enum { TOLERATED = 256 };
    size_t waste = page->capacity - page_used(page);
    return waste > TOLERATED && waste > (size_t)page->capacity / 4 * quarters;
}

/* Pages that lost much are made anew, smaller. */
static bool is_wasteful(const struct page *page)
{
    return wastes(page, 1);
}

/*
 * The same where the entry at `index` goes. A page of many that loses its first ones is likely to
 * lose the others too, as those of queues do, so it is not made smaller again and again on its way.
 */
static bool is_wasteful_without(const struct page *page, unsigned index)
{
    enum { MANY = 8 };
    return wastes(page, index == 0 && page->count > MANY ? 3 : 1);
}

/* A root with one child only is not needed; a frozen one waits for the next write. */
static void collapse_root(struct edit *edit)
{
    struct tree *tree = edit->tree;
    while (tree->root != NULL && tree->root->inner && tree->root->count == 1 &&
           !is_frozen(edit, tree->root)) {
        struct page *root = tree->root;
        tree->root = page_child(root, 0).page;
        space_free(edit->space, &root->block);
    }
}

/* The pages above the level `depth` stay, only their counts change. */
static void commit(struct edit *edit)
{
    struct tree *tree = edit->tree;
    for (unsigned i = 0; edit->more != 0 && i < edit->depth; i++)
        page_add_to_child(edit->path->step[i].page, edit->path->step[i].index, edit->more);
    tree->count += edit->more;
    for (unsigned i = 0; i < edit->retired_count; i++)
        space_retire(edit->space, edit->retired[i]);
}

static struct page_entry row_entry(const struct row *row, unsigned index)
{
    return (struct page_entry){.key = slice_of(row->key[index], row->key_size[index]),
                               .value_size = sizeof(row->child[index]),
                               .payload = &row->child[index]};
}

static void turn_rows(struct edit *edit)
{
    struct row *row = edit->row;
    edit->row = edit->spare;
    edit->spare = row;
}

/* Makes the pages of the draft, and of them the row. */
static int build(struct edit *edit, const struct page_draft *draft)
{
    struct row *row = edit->spare;
    unsigned cuts[PAGE_MAX_CUTS + 1];
    row->count = draft->count > 0 ? page_draft_cut(draft, cuts) : 0;
    for (unsigned i = 0; i < row->count; i++) {
        size_t used = page_draft_size(draft, cuts[i], cuts[i + 1]);
        size_t capacity = page_capacity(used, draft->inner);
        struct page *page = make_block(edit, capacity);
        if (page == NULL)
            return STORE_NO_MEMORY;
        uint64_t count = page_draft_build(draft, cuts[i], cuts[i + 1], page, capacity);
        row->child[i] = (struct page_child){page, count};
        if (i > 0)
            row->key_size[i] = page_draft_separator(draft, cuts[i], row->key[i]);
    }
    turn_rows(edit);
    return STORE_OK;
}

/* Adds the neighbour to the draft if that still makes one page. */
static bool try_merge(struct edit *edit, struct page_draft *draft, const struct page *page,
                      bool right)
{
    const struct tree_step *above = &edit->path->step[edit->depth - 1];
    unsigned index = right ? above->index + 1 : above->index - 1;
    if (index >= above->page->count)
        return false;
    struct page *neighbour = page_child(above->page, index).page;
    if (page_used_together(neighbour, page) > PAGE_MERGED_SIZE)
        return false;
    struct page_draft merged = *draft;
    size_t key_size = page_key(above->page, right ? index : above->index, edit->between);
    struct slice between = slice_of(edit->between, key_size);
    if (right)
        page_draft_append(&merged, neighbour, between);
    else
        page_draft_prepend(&merged, neighbour, between);
    if (page_draft_size(&merged, 0, merged.count) > PAGE_MERGED_SIZE)
        return false;
    *draft = merged;
    edit->first = right ? above->index : index;
    edit->span = 2;
    retire_later(edit, &neighbour->block);
    return true;
}

/*
 * The page at the level `depth` is to hold what the draft says. If it is small, a neighbour that
 * has room joins the draft: true.
 */
static bool merge(struct edit *edit, struct page_draft *draft)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    edit->first = edit->depth > 0 ? step[-1].index : 0;
    edit->span = 1;
    if (edit->depth == 0 || draft->count == 0 || page_used(step->page) >= PAGE_SMALL_SIZE)
        return false;
    return try_merge(edit, draft, step->page, true) || try_merge(edit, draft, step->page, false);
}

/* Whether the page can take the row without being built anew. */
static bool takes_row(const struct edit *edit, const struct page *page)
{
    const struct row *row = edit->row;
    if (is_frozen(edit, page) || page->count + row->count == edit->span)
        return false;
    size_t needed = 0;
    for (unsigned i = edit->span; i < row->count; i++) {
        struct page_entry entry = row_entry(row, i);
        if (!page_covers(page, entry.key))
            return false;
        needed += page_insert_size(page, &entry);
    }
    return needed <= page_free(page);
}

static void put_row(struct edit *edit, struct page *page)
{
    const struct row *row = edit->row;
    unsigned at = edit->first;
    for (unsigned i = 0; i < row->count && i < edit->span; i++)
        page_set_child(page, at++, row->child[i]);
    for (unsigned i = edit->span; i < row->count; i++) {
        struct page_entry entry = row_entry(row, i);
        page_insert(page, at++, &entry);
    }
    for (unsigned i = row->count; i < edit->span; i++)
        page_remove(page, at);
}

static void draft_above(struct edit *edit, struct page *page, struct page_draft *draft)
{
    struct row *row = edit->row;
    page_draft_init(draft, true);
    page_draft_add_run(draft, page, 0, edit->first);
    for (unsigned i = 0; i < row->count; i++) {
        if (i == 0)
            row->key_size[0] = page_key(page, edit->first, row->key[0]);
        struct page_entry entry = row_entry(row, i);
        page_draft_add_entry(draft, &entry);
    }
    page_draft_add_run(draft, page, edit->first + edit->span, page->count);
}

/* Makes one root of the row. */
static int build_root(struct edit *edit, struct page **root)
{
    struct row *row = edit->row;
    if (row->count > 1) {
        if (edit->path->depth == TREE_MAX_DEPTH)
            return STORE_NO_MEMORY;
        struct page_draft draft;
        page_draft_init(&draft, true);
        row->key_size[0] = 0;
        for (unsigned i = 0; i < row->count; i++) {
            struct page_entry entry = row_entry(row, i);
            page_draft_add_entry(&draft, &entry);
        }
        int result = build(edit, &draft);
        if (result != STORE_OK)
            return result;
    }
    *root = edit->row->count > 0 ? edit->row->child[0].page : NULL;
    return STORE_OK;
}

static int replace_root(struct edit *edit)
{
    struct page *root;
    int result = build_root(edit, &root);
    if (result == STORE_OK)
        result = space_reserve(edit->space, edit->retired_count);
    if (result != STORE_OK)
        return result;
    edit->tree->root = root;
    commit(edit);
    collapse_root(edit);
    return STORE_OK;
}

static int replace_in(struct edit *edit, struct page *page)
{
    int result = space_reserve(edit->space, edit->retired_count);
    if (result != STORE_OK)
        return result;
    put_row(edit, page);
    commit(edit);
    collapse_root(edit);
    return STORE_OK;
}

/* What can be taken back of an edit. */
struct edit_state {
    unsigned depth, first, span, fresh_count, retired_count;
};

static struct edit_state state_of(const struct edit *edit)
{
    return (struct edit_state){edit->depth, edit->first, edit->span, edit->fresh_count,
                               edit->retired_count};
}

static void go_back(struct edit *edit, const struct edit_state *state)
{
    drop_fresh(edit, state->fresh_count);
    edit->depth = state->depth;
    edit->first = state->first;
    edit->span = state->span;
    edit->retired_count = state->retired_count;
}

/*
 * Puts the row into the page at the level `depth`. If it cannot take it, or has become small or
 * sparse, the page is built anew, and what comes of that is the new row, for the level above.
 */
static int raise(struct edit *edit, bool *done)
{
    struct page *page = edit->path->step[edit->depth].page;
    struct page_draft draft;
    bool takes = takes_row(edit, page);
    *done = takes && edit->row->count >= edit->span;
    if (*done)
        return replace_in(edit, page);
    struct edit_state state = state_of(edit);
    draft_above(edit, page, &draft);
    bool merged = merge(edit, &draft);
    int result = STORE_NO_MEMORY;
    if (!takes || merged || is_wasteful(page)) {
        retire_later(edit, &page->block);
        result = build(edit, &draft);
    }
    if (result == STORE_OK || !takes)
        return result;
    *done = true;
    go_back(edit, &state);
    return replace_in(edit, page);
}

/* Puts the row where it belongs, and goes up as far as that takes. */
static int replace(struct edit *edit)
{
    bool done = false;
    int result = STORE_OK;
    edit->tree->moves++;
    edit->tree->swaps++;
    while (result == STORE_OK && !done && edit->depth > 0) {
        edit->depth--;
        result = raise(edit, &done);
    }
    if (result == STORE_OK && !done)
        result = replace_root(edit);
    edit->path->depth = 0;
    return result;
}

/* The leaf is replaced by pages with the content of the draft. */
static int replace_leaf(struct edit *edit, struct page_draft *draft)
{
    retire_later(edit, &edit->path->step[edit->depth].page->block);
    int result = build(edit, draft);
    return result == STORE_OK ? replace(edit) : result;
}

static int finish(struct edit *edit, int result)
{
    if (result != STORE_OK)
        drop_fresh(edit, 0);
    return result;
}

/* Where one entry is appended after the other the leaf gets room for several, if there is any. */
static size_t append_capacity(const struct edit *edit, const struct page *leaf, size_t used)
{
    bool grows = edit->tree->appended == leaf && !space_is_tight(edit->space);
    size_t room = grows ? used / 2 : 0;
    return page_capacity(used + room < PAGE_MAX_SIZE ? used + room : PAGE_MAX_SIZE, false);
}

/* Puts the page in the place of the leaf, which is not frozen: so what is above is not either. */
static void swap_leaf(struct edit *edit, struct page *page)
{
    struct tree_step *step = &edit->path->step[edit->depth];
    step->page = page;
    edit->tree->moves++;
    edit->tree->swaps++;
    if (edit->depth == 0)
        edit->tree->root = page;
    else
        page_move_child(step[-1].page, step[-1].index, page);
}

static int replace_by_copy(struct edit *edit, struct page *page)
{
    struct tree_step *step = &edit->path->step[edit->depth];
    bool frozen = is_frozen(edit, step->page);
    retire_later(edit, &step->page->block);
    if (!frozen) {
        int result = space_reserve(edit->space, edit->retired_count);
        if (result != STORE_OK)
            return result;
        swap_leaf(edit, page);
        commit(edit);
        return STORE_OK;
    }
    edit->first = edit->depth > 0 ? step[-1].index : 0;
    edit->span = 1;
    edit->row->count = 1;
    edit->row->child[0] = (struct page_child){page, page->count};
    return replace(edit);
}

/* The leaf gets no further than a larger copy of itself: by far the commonest replacement. */
static int copy_leaf(struct edit *edit, const struct page_entry *entry, bool found, size_t used)
{
    struct tree_step *step = &edit->path->step[edit->depth];
    bool appends = !found && step->index == step->page->count;
    size_t capacity =
        appends ? append_capacity(edit, step->page, used) : page_capacity(used, false);
    struct page *page = make_block(edit, capacity);
    if (page == NULL)
        return STORE_NO_MEMORY;
    page_copy(page, capacity, step->page);
    if (appends)
        edit->tree->appended = page;
    if (found)
        page_replace(page, step->index, entry);
    else
        page_insert(page, step->index, entry);
    return replace_by_copy(edit, page);
}

static int draft_leaf(struct edit *edit, const struct page_entry *entry, bool found)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    struct page_draft draft;
    page_draft_init(&draft, false);
    page_draft_add_run(&draft, step->page, 0, step->index);
    page_draft_add_entry(&draft, entry);
    page_draft_add_run(&draft, step->page, step->index + found, step->page->count);
    merge(edit, &draft);
    return replace_leaf(edit, &draft);
}

/*
 * The entry comes behind all that a leaf has which is full, or would be with a prefix that the
 * entry has too: the leaf stays as it is, and a new one begins. Others are likely to follow in
 * ascending order.
 */
static int begin_leaf(struct edit *edit, const struct page_entry *entry)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    struct row *row = edit->row;
    unsigned count = step->page->count;
    struct page_draft draft;
    page_draft_init(&draft, false);
    page_draft_add_run(&draft, step->page, 0, count);
    page_draft_add_entry(&draft, entry);
    size_t capacity = page_capacity(page_draft_size(&draft, count, count + 1), false);
    struct page *page = make_block(edit, capacity);
    if (page == NULL)
        return STORE_NO_MEMORY;
    page_draft_build(&draft, count, count + 1, page, capacity);
    edit->first = edit->depth > 0 ? step[-1].index : 0;
    edit->span = 1;
    row->count = 2;
    row->child[0] = (struct page_child){step->page, count};
    row->child[1] = (struct page_child){page, 1};
    row->key_size[1] = page_draft_separator(&draft, count, row->key[1]);
    edit->tree->appended = page;
    return replace(edit);
}

static int plant(struct edit *edit, const struct page_entry *entry)
{
    struct page_draft draft;
    page_draft_init(&draft, false);
    page_draft_add_entry(&draft, entry);
    int result = build(edit, &draft);
    return result == STORE_OK ? replace(edit) : result;
}

static int put_in_place(struct edit *edit, const struct page_entry *entry, bool found)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    int result = space_reserve(edit->space, edit->retired_count);
    if (result != STORE_OK)
        return result;
    if (found) {
        page_replace(step->page, step->index, entry);
    } else {
        page_insert(step->page, step->index, entry);
        edit->tree->moves++;
    }
    commit(edit);
    return STORE_OK;
}

/* What the leaf would hold with the entry added; too much where it is not for this page. */
static size_t used_with(const struct page *page, const struct page_entry *entry)
{
    return page_covers(page, entry->key) ? page_used(page) + page_insert_size(page, entry)
                                         : SIZE_MAX;
}

static int replace_entry(struct edit *edit, const struct page_entry *entry)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    const struct page *page = step->page;
    bool wasteful = is_wasteful(page);
    if (!is_frozen(edit, page) && !wasteful &&
        page_can_replace(page, step->index, entry, page_free(page)))
        return put_in_place(edit, entry, true);
    if (page_can_replace(page, step->index, entry, 0))
        return copy_leaf(edit, entry, true, page_used(page));
    return draft_leaf(edit, entry, true);
}

static int add_entry(struct edit *edit, const struct page_entry *entry)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    const struct page *page = step->page;
    size_t used = used_with(page, entry);
    if (!is_frozen(edit, page) && used - page_used(page) <= page_free(page))
        return put_in_place(edit, entry, false);
    if (used <= PAGE_MAX_SIZE)
        return copy_leaf(edit, entry, false, used);
    if (step->index == page->count && page_used_covering(page, entry) > PAGE_MAX_SIZE)
        return begin_leaf(edit, entry);
    return draft_leaf(edit, entry, false);
}

static int put_entry(struct edit *edit, const struct page_entry *entry, bool found)
{
    if (edit->depth == 0)
        return plant(edit, entry);
    edit->depth--;
    return found ? replace_entry(edit, entry) : add_entry(edit, entry);
}

/* A value in place of one of the same size, which most writes of a known key are. */
static bool overwrite(const struct space *space, const struct tree_step *step, struct slice value)
{
    return !space_is_frozen(space, &step->page->block) && !is_wasteful(step->page) &&
           page_overwrite(step->page, step->index, value);
}

/* The same for a large value. */
static bool overwrite_blob(struct space *space, const struct tree_step *step, struct slice value)
{
    struct blob *blob = page_blob(step->page, step->index);
    if (blob == NULL || space_is_frozen(space, &blob->block) ||
        page_value(step->page, step->index).size != value.size)
        return false;
    memmove(blob->bytes, value.data, value.size);
    return true;
}

static struct blob *make_blob(struct edit *edit, struct slice value)
{
    struct blob *blob = make_block(edit, sizeof(*blob) + value.size);
    if (blob != NULL)
        memcpy(blob->bytes, value.data, value.size);
    return blob;
}

static void retire_value(struct edit *edit, const struct tree_step *step)
{
    struct blob *blob = page_blob(step->page, step->index);
    if (blob != NULL)
        retire_later(edit, &blob->block);
}

int tree_put(struct tree *tree, struct space *space, struct tree_path *path, bool found,
             struct slice key, struct slice value)
{
    struct edit edit;
    struct page_entry entry = {.key = key, .value_size = value.size, .payload = value.data};
    struct blob *blob;
    if (found && (value.size <= PAGE_MAX_INLINE ? overwrite(space, tree_leaf(path), value)
                                                : overwrite_blob(space, tree_leaf(path), value)))
        return STORE_OK;
    begin(&edit, tree, space, path, found ? 0 : 1);
    if (value.size > PAGE_MAX_INLINE) {
        blob = make_blob(&edit, value);
        if (blob == NULL)
            return STORE_NO_MEMORY;
        entry.payload = &blob;
    }
    if (found)
        retire_value(&edit, tree_leaf(path));
    return finish(&edit, put_entry(&edit, &entry, found));
}

/*
 * A leaf that has become sparse goes into a smaller block, if memory allows: for want of memory one
 * that has lost anything, so that a delete gives back what it can.
 */
static void fit_leaf(struct edit *edit)
{
    struct page *page = edit->path->step[edit->depth].page;
    size_t capacity = page_capacity(page_used(page), false);
    if (capacity >= page->capacity)
        return;
    struct page *smaller = make_block(edit, capacity);
    if (smaller == NULL)
        return;
    page_copy(smaller, capacity, page);
    swap_leaf(edit, smaller);
    space_free(edit->space, &page->block);
}

static int delete_in_place(struct edit *edit)
{
    const struct tree_step *step = &edit->path->step[edit->depth];
    bool gives = is_wasteful_without(step->page, step->index) || space_is_tight(edit->space);
    int result = space_reserve(edit->space, edit->retired_count);
    if (result != STORE_OK)
        return result;
    page_remove(step->page, step->index);
    edit->tree->moves++;
    if (gives)
        fit_leaf(edit);
    commit(edit);
    return STORE_OK;
}

/*
 * Whether it is worth looking for a neighbour to merge with. Not at each delete: to find out that
 * both together are too much may take ten times as long as the delete.
 */
static bool is_time_to_merge(const struct page *page, unsigned index)
{
    enum { INTERVAL = 16 };
    return page_used(page) < PAGE_SMALL_SIZE &&
           (page->count % INTERVAL == 0 || is_wasteful_without(page, index));
}

/* Most deletes: the entry goes, and nothing else changes. False where it is not as simple as that.
 */
static bool delete_quickly(struct tree *tree, const struct space *space, struct tree_path *path)
{
    const struct tree_step *leaf = tree_leaf(path);
    struct page *page = leaf->page;
    if (page->count < 2 || space_is_frozen(space, &page->block) || space->doomed != NULL ||
        space_is_tight(space) || is_wasteful_without(page, leaf->index) ||
        is_time_to_merge(page, leaf->index) || page_blob(page, leaf->index) != NULL)
        return false;
    page_remove(page, leaf->index);
    for (unsigned i = 0; i + 1 < path->depth; i++)
        page_add_to_child(path->step[i].page, path->step[i].index, UINT64_MAX);
    tree->count--;
    tree->moves++;
    return true;
}

static int delete_entry(struct edit *edit)
{
    const struct tree_step *step = &edit->path->step[--edit->depth];
    struct page *page = step->page;
    bool in_place = !is_frozen(edit, page) && page->count > 1;
    if (in_place && !is_time_to_merge(page, step->index))
        return delete_in_place(edit);
    struct edit_state state = state_of(edit);
    struct page_draft draft;
    page_draft_init(&draft, false);
    page_draft_add_run(&draft, page, 0, step->index);
    page_draft_add_run(&draft, page, step->index + 1, page->count);
    int result = STORE_NO_MEMORY;
    if (merge(edit, &draft) || !in_place)
        result = replace_leaf(edit, &draft);
    if (result == STORE_OK || !in_place)
        return result;
    go_back(edit, &state);
    return delete_in_place(edit);
}

int tree_delete(struct tree *tree, struct space *space, struct tree_path *path)
{
    struct edit edit;
    if (delete_quickly(tree, space, path))
        return STORE_OK;
    begin(&edit, tree, space, path, UINT64_MAX);
    retire_value(&edit, tree_leaf(path));
    return finish(&edit, delete_entry(&edit));
}

static void free_values(const struct page *page, struct space *space)
{
    for (unsigned i = 0; i < page->count; i++) {
        struct blob *blob = page_blob(page, i);
        if (blob != NULL)
            space_free(space, &blob->block);
    }
}

/* Leaves are freed where their parents are walked: no recursion, and no second path. */
void tree_free(struct tree *tree, struct space *space)
{
    struct tree_path path = {.depth = 0};
    if (tree->root != NULL)
        path.step[path.depth++] = (struct tree_step){tree->root, 0};
    while (path.depth > 0) {
        struct tree_step *step = &path.step[path.depth - 1];
        if (step->page->inner && step->index < step->page->count) {
            struct page *child = page_child(step->page, step->index++).page;
            path.step[path.depth++] = (struct tree_step){child, 0};
            continue;
        }
        if (!step->page->inner)
            free_values(step->page, space);
        space_free(space, &step->page->block);
        path.depth--;
    }
    *tree = (struct tree){.moves = tree->moves + 1, .swaps = tree->swaps + 1};
}

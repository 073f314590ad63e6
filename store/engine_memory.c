#include "store/engine.h"

#include <assert.h>

#include "store/checkpoint_keeper.h"
#include "store/memory_loader.h"

enum { HINT_MAX_KEY = 64, FINGERS = 2, FINGER_GROUP = 8 };

/*
 * A table remembers what it looked for last: the store gets a key, perhaps twice, before it puts
 * or deletes it, and all but the first of these find the path made. Where keys come that are close
 * to each other, as those of a queue do, the next is looked for from there. There are two of them,
 * for keys that begin differently: work goes from one list of jobs to another all the time.
 */
struct finger {
    struct tree_path path; /* depth 0: to nowhere */
    uint64_t moves;        /* of the tree, when the path was good */
    uint64_t swaps;        /* likewise */
    bool found;
    bool near; /* the last two were in the same leaf */
    size_t key_size;
    uint8_t key[ENGINE_MAX_KEY];
};

/* The fingers of a table; `last` is the one that was used last. */
struct hand {
    unsigned last;
    struct finger fingers[FINGERS];
};

/*
 * What was prefetched last, in the order in which it will be looked for: the ways to the leaves,
 * good while the tree has made as many moves as then. Long keys have none, and size 0.
 */
struct hints {
    unsigned table;
    unsigned next;
    unsigned count;
    uint64_t moves;
    struct tree_path paths[TREE_MAX_PREFETCH];
    uint8_t sizes[TREE_MAX_PREFETCH];
    uint8_t keys[TREE_MAX_PREFETCH][HINT_MAX_KEY];
};

struct memory_engine {
    struct engine engine;
    struct engine_mark mark;          /* of the last commit */
    struct checkpoint_keeper *keeper; /* NULL: nothing on disk */
    struct space space;
    struct tree trees[ENGINE_TABLES];
    struct hand hands[ENGINE_TABLES];
    struct hints hints;
};

struct engine_snapshot {
    struct block block;
    struct space_mark mark;
    struct tree trees[ENGINE_TABLES];
};

/* The path is good while the tree's `moves` is what it was; in a snapshot that never changes. */
struct memory_cursor {
    struct engine_cursor cursor;
    struct memory_engine *memory; /* NULL: on a snapshot */
    unsigned table;
    const struct tree *tree;
    uint64_t moves;
    struct tree_path path;
    bool placed;
    size_t key_size;
    uint8_t key[ENGINE_MAX_KEY];
};

static struct memory_engine *memory_of(struct engine *engine)
{
    return (struct memory_engine *)engine;
}

static struct memory_cursor *cursor_of(struct engine_cursor *cursor)
{
    return (struct memory_cursor *)cursor;
}

/* Below here an empty key has an address too. */
static struct slice key_of(struct slice key)
{
    return key.size > 0 ? key : slice_of_text("");
}

/* Loading a checkpoint. */

static void free_trees(struct memory_engine *memory)
{
    for (unsigned i = 0; i < ENGINE_TABLES; i++)
        tree_free(&memory->trees[i], &memory->space);
}

/* What a load needs: whose trees it fills, one table after the other, and whom it tells. */
struct loading {
    struct memory_engine *memory;
    const struct engine_options *options;
    struct tree_loader *loader;
    unsigned table;
    uint64_t told;
};

static int change_table(struct loading *loading, unsigned table)
{
    int rc = tree_loader_close(&loading->loader, true);
    loading->table = table;
    if (rc == 0)
        rc = tree_loader_open(&loading->loader, &loading->memory->trees[table],
                              &loading->memory->space);
    return rc;
}

static int load_entry(struct loading *loading, unsigned table, struct slice key, struct slice value)
{
    if (loading->loader == NULL || table != loading->table) {
        int rc = change_table(loading, table);
        if (rc != 0)
            return rc;
    }
    return tree_loader_add(loading->loader, key_of(key), value);
}

static void tell_progress(struct loading *loading, uint64_t done, uint64_t size)
{
    if (done == loading->told || loading->options->progress == NULL)
        return;
    loading->told = done;
    loading->options->progress(loading->options->context, done, size);
}

static int load_entries(struct loading *loading, struct checkpoint_reader *reader, uint64_t size,
                        struct store_error *error)
{
    struct slice key;
    struct slice value;
    unsigned table;
    int rc;
    while ((rc = checkpoint_next(reader, &table, &key, &value, error)) == 0) {
        rc = load_entry(loading, table, key, value);
        if (rc == STORE_INVALID)
            return checkpoint_fail(reader, error);
        if (rc != 0)
            return store_fail(error, (enum store_code)rc, "no memory for the checkpoint");
        tell_progress(loading, checkpoint_read(reader), size);
    }
    return rc == STORE_NOT_FOUND ? 0 : rc;
}

static int load(void *context, struct checkpoint_reader *reader, uint64_t size,
                struct store_error *error)
{
    struct loading *loading = context;
    int rc = load_entries(loading, reader, size, error);
    if (tree_loader_close(&loading->loader, rc == 0) != 0)
        rc = store_fail(error, STORE_NO_MEMORY, "no memory for the checkpoint");
    if (rc != 0)
        free_trees(loading->memory);
    return rc;
}

static int open_checkpoints(struct memory_engine *memory, const struct engine_options *options,
                            struct store_error *error)
{
    struct loading loading = {.memory = memory, .options = options};
    if (options->directory == NULL)
        return 0;
    int rc = checkpoint_keeper_open(&memory->keeper, options->directory, NULL, error);
    if (rc == 0)
        rc = checkpoint_keeper_load(memory->keeper, options, load, &loading, &memory->mark, error);
    return rc;
}

static void memory_close(struct engine *engine)
{
    struct memory_engine *memory = memory_of(engine);
    checkpoint_keeper_close(&memory->keeper, engine);
    free_trees(memory);
    space_end(&memory->space);
    assert(memory->space.memory == 0);
    free(memory);
}

static int memory_open(struct engine **engine, const struct engine_options *options,
                       struct engine_mark *mark, struct store_error *error)
{
    struct memory_engine *memory = calloc(1, sizeof(*memory));
    if (memory == NULL)
        return store_fail(error, STORE_NO_MEMORY, "no memory for the engine");
    memory->engine.methods = &engine_memory;
    space_init(&memory->space, options);
    int rc = open_checkpoints(memory, options, error);
    if (rc != 0) {
        memory_close(&memory->engine);
        return rc;
    }
    *engine = &memory->engine;
    *mark = memory->mark;
    return STORE_OK;
}

/* The way to the key's leaf if it was prefetched, and is no longer needed then; else NULL. */
static const struct tree_path *take_hint(struct hints *hints, unsigned table, uint64_t moves,
                                         struct slice key)
{
    if (hints->next == hints->count || hints->table != table || hints->moves != moves ||
        key.size == 0)
        return NULL;
    for (unsigned i = hints->next; i < hints->count; i++) {
        if (slice_equal(key, slice_of(hints->keys[i], hints->sizes[i]))) {
            hints->next = i + 1;
            return &hints->paths[i];
        }
    }
    return NULL;
}

static void copy_path(struct tree_path *path, const struct tree_path *source)
{
    path->depth = source->depth;
    memcpy(path->step, source->step, source->depth * sizeof(path->step[0]));
}

/* From where the finger is, or from the root. */
static bool search(const struct tree *tree, struct finger *finger, struct slice key)
{
    struct tree_path *path = &finger->path;
    if (path->depth == 0 || finger->swaps != tree->swaps)
        return tree_find(tree, key, path);
    const struct page *before = tree_leaf(path)->page;
    bool found = finger->near ? tree_find_near(path, key) : tree_find(tree, key, path);
    finger->near = tree_leaf(path)->page == before;
    return found;
}

static bool find(struct memory_engine *memory, unsigned table, struct slice key,
                 struct finger *finger)
{
    const struct tree *tree = &memory->trees[table];
    const struct tree_path *way = take_hint(&memory->hints, table, tree->moves, key);
    if (way == NULL)
        return search(tree, finger, key);
    copy_path(&finger->path, way);
    return tree_find_in_leaf(&finger->path, key);
}

/* Keys that are not the same mostly differ at their end. */
static inline bool is_at(const struct finger *finger, const struct tree *tree, struct slice key)
{
    enum { END = 8 };
    if (finger->moves != tree->moves || finger->path.depth == 0 || finger->key_size != key.size)
        return false;
    if (key.size == END)
        return memcmp(finger->key, key.data, END) == 0;
    if (key.size > END && memcmp(finger->key + key.size - END, key.data + key.size - END, END) != 0)
        return false;
    return memcmp(finger->key, key.data, key.size) == 0;
}

/* The tree is what the finger has made of it, or has seen. */
static void keep(struct finger *finger, const struct tree *tree)
{
    finger->moves = tree->moves;
    finger->swaps = tree->swaps;
}

/*
 * The same after a write by the hand's last finger, before which there were `moves`. Where all that
 * has moved is in its own leaf, the other finger is still good if it was and is at another leaf: so
 * work in one list of jobs does not make the place in the other one be sought again.
 */
static inline void keep_both(struct hand *hand, const struct tree *tree, uint64_t moves)
{
    struct finger *finger = &hand->fingers[hand->last];
    struct finger *other = &hand->fingers[!hand->last];
    bool in_place = finger->swaps == tree->swaps;
    finger->swaps = tree->swaps;
    if (tree->moves == moves)
        return;
    finger->moves = tree->moves;
    if (in_place && other->moves == moves && other->path.depth > 0 &&
        tree_leaf(&other->path)->page != tree_leaf(&finger->path)->page)
        other->moves = tree->moves;
}

static bool is_of_group(const struct finger *finger, struct slice key)
{
    return finger->key_size > FINGER_GROUP && memcmp(finger->key, key.data, FINGER_GROUP) == 0;
}

/* The one whose key begins like this one, or the one that was not used last. */
static unsigned choose(const struct hand *hand, struct slice key)
{
    if (key.size <= FINGER_GROUP || is_of_group(&hand->fingers[hand->last], key))
        return hand->last;
    return !hand->last;
}

/* To a key that the last finger is not at. */
static struct finger *move_finger(struct memory_engine *memory, unsigned table, struct slice key)
{
    const struct tree *tree = &memory->trees[table];
    struct hand *hand = &memory->hands[table];
    unsigned before = hand->last;
    hand->last = choose(hand, key);
    struct finger *finger = &hand->fingers[hand->last];
    if (hand->last != before && is_at(finger, tree, key))
        return finger;
    finger->found = find(memory, table, key, finger);
    keep(finger, tree);
    finger->key_size = key.size;
    memcpy(finger->key, key.data, key.size);
    return finger;
}

static inline struct finger *point(struct memory_engine *memory, unsigned table, struct slice key)
{
    struct hand *hand = &memory->hands[table];
    struct finger *finger = &hand->fingers[hand->last];
    return is_at(finger, &memory->trees[table], key) ? finger : move_finger(memory, table, key);
}

static int memory_get(struct engine *engine, unsigned table, struct slice key, struct slice *value)
{
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    struct finger *finger = point(memory_of(engine), table, key_of(key));
    if (!finger->found)
        return STORE_NOT_FOUND;
    const struct tree_step *leaf = tree_leaf(&finger->path);
    *value = page_value(leaf->page, leaf->index);
    return STORE_OK;
}

static void memory_prefetch(struct engine *engine, unsigned table, const struct slice *keys,
                            unsigned count)
{
    struct memory_engine *memory = memory_of(engine);
    const struct tree *tree = &memory->trees[table];
    struct hints *hints = &memory->hints;
    hints->count = 0;
    if (tree->root == NULL || count == 0)
        return;
    tree_prefetch(tree, keys, count, hints->paths);
    hints->table = table;
    hints->moves = tree->moves;
    hints->next = 0;
    hints->count = count;
    for (unsigned i = 0; i < count; i++) {
        hints->sizes[i] = keys[i].size <= HINT_MAX_KEY ? (uint8_t)keys[i].size : 0;
        memcpy(hints->keys[i], keys[i].data, hints->sizes[i]);
    }
}

/* The finger's own copy of the key goes on: the given one may be in a page that is freed. */
static int memory_put(struct engine *engine, unsigned table, struct slice key, struct slice value)
{
    struct memory_engine *memory = memory_of(engine);
    if (key.size > ENGINE_MAX_KEY || value.size > ENGINE_MAX_VALUE)
        return STORE_INVALID;
    struct finger *finger = point(memory, table, key_of(key));
    struct tree *tree = &memory->trees[table];
    struct slice own = slice_of(finger->key, finger->key_size);
    uint64_t moves = tree->moves;
    int result = tree_put(tree, &memory->space, &finger->path, finger->found, own, value);
    keep_both(&memory->hands[table], tree, moves);
    if (result == STORE_OK)
        finger->found = true;
    return result;
}

static int memory_delete(struct engine *engine, unsigned table, struct slice key)
{
    struct memory_engine *memory = memory_of(engine);
    if (key.size > ENGINE_MAX_KEY)
        return STORE_NOT_FOUND;
    struct finger *finger = point(memory, table, key_of(key));
    if (!finger->found)
        return STORE_NOT_FOUND;
    struct tree *tree = &memory->trees[table];
    uint64_t moves = tree->moves;
    int result = tree_delete(tree, &memory->space, &finger->path);
    keep_both(&memory->hands[table], tree, moves);
    if (result == STORE_OK)
        finger->found = false;
    return result;
}

static int memory_count(struct engine *engine, unsigned table, struct slice start, struct slice end,
                        uint64_t *count)
{
    const struct tree *tree = &memory_of(engine)->trees[table];
    uint64_t before = tree_rank(tree, key_of(start));
    uint64_t upto = end.data != NULL ? tree_rank(tree, key_of(end)) : tree->count;
    *count = upto > before ? upto - before : 0;
    return STORE_OK;
}

/* Not counted as memory of the engine: the other thread may be the one that opens it. */
static int memory_cursor_open(struct engine *engine, struct engine_snapshot *snapshot,
                              unsigned table, struct engine_cursor **cursor)
{
    struct memory_engine *memory = memory_of(engine);
    struct memory_cursor *opened = NULL;
    if (space_admits(&memory->space, sizeof(*opened)))
        opened = malloc(sizeof(*opened));
    if (opened == NULL)
        return STORE_NO_MEMORY;
    opened->cursor.methods = &engine_memory;
    opened->memory = snapshot == NULL ? memory : NULL;
    opened->table = table;
    opened->tree = snapshot != NULL ? &snapshot->trees[table] : &memory->trees[table];
    opened->placed = false;
    *cursor = &opened->cursor;
    return STORE_OK;
}

static void memory_cursor_close(struct engine_cursor *cursor)
{
    free(cursor_of(cursor));
}

/* Hands out the entry at the path, if the path is at one. */
static int hand_out(struct memory_cursor *cursor, bool placed, struct slice *key,
                    struct slice *value)
{
    cursor->placed = placed;
    if (!placed)
        return STORE_NOT_FOUND;
    const struct tree_step *leaf = tree_leaf(&cursor->path);
    cursor->moves = cursor->tree->moves;
    cursor->key_size = page_key(leaf->page, leaf->index, cursor->key);
    *key = slice_of(cursor->key, cursor->key_size);
    *value = page_value(leaf->page, leaf->index);
    return STORE_OK;
}

/* Through the table's finger, and moves that to what is found: it is likely to be deleted next. */
static int seek_present(struct memory_cursor *cursor, struct slice sought, struct slice *key,
                        struct slice *value)
{
    struct finger *finger = point(cursor->memory, cursor->table, sought);
    copy_path(&cursor->path, &finger->path);
    int result = hand_out(cursor, tree_settle(&cursor->path), key, value);
    if (result != STORE_OK || finger->found)
        return result;
    copy_path(&finger->path, &cursor->path);
    finger->found = true;
    finger->key_size = cursor->key_size;
    memcpy(finger->key, cursor->key, cursor->key_size);
    return STORE_OK;
}

static int memory_cursor_seek(struct engine_cursor *cursor, struct slice key,
                              struct slice *found_key, struct slice *value)
{
    struct memory_cursor *own = cursor_of(cursor);
    if (own->memory != NULL && key.size <= ENGINE_MAX_KEY)
        return seek_present(own, key_of(key), found_key, value);
    tree_find(own->tree, key_of(key), &own->path);
    return hand_out(own, tree_settle(&own->path), found_key, value);
}

static int memory_cursor_seek_before(struct engine_cursor *cursor, struct slice key,
                                     struct slice *found_key, struct slice *value)
{
    struct memory_cursor *own = cursor_of(cursor);
    if (key.data != NULL)
        tree_find(own->tree, key_of(key), &own->path);
    else
        tree_find_end(own->tree, &own->path);
    return hand_out(own, tree_prev(&own->path), found_key, value);
}

/* Back to the entry that the cursor was on, or where that would be. True if it is there. */
static bool regain(struct memory_cursor *cursor)
{
    if (cursor->moves == cursor->tree->moves)
        return true;
    return tree_find(cursor->tree, slice_of(cursor->key, cursor->key_size), &cursor->path);
}

static int memory_cursor_next(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct memory_cursor *own = cursor_of(cursor);
    if (!own->placed)
        return STORE_NOT_FOUND;
    bool placed = regain(own) ? tree_next(&own->path) : tree_settle(&own->path);
    return hand_out(own, placed, key, value);
}

static int memory_cursor_prev(struct engine_cursor *cursor, struct slice *key, struct slice *value)
{
    struct memory_cursor *own = cursor_of(cursor);
    if (!own->placed)
        return STORE_NOT_FOUND;
    regain(own);
    return hand_out(own, tree_prev(&own->path), key, value);
}

static int memory_snapshot(struct engine *engine, struct engine_snapshot **snapshot)
{
    struct memory_engine *memory = memory_of(engine);
    struct engine_snapshot *taken = space_allocate(&memory->space, sizeof(*taken));
    if (taken == NULL)
        return STORE_NO_MEMORY;
    memcpy(taken->trees, memory->trees, sizeof(taken->trees));
    space_freeze(&memory->space, &taken->mark);
    *snapshot = taken;
    return STORE_OK;
}

static void memory_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct memory_engine *memory = memory_of(engine);
    space_thaw(&memory->space, &snapshot->mark);
    space_free(&memory->space, &snapshot->block);
}

static int memory_commit(struct engine *engine, const struct engine_mark *mark)
{
    memory_of(engine)->mark = *mark;
    return STORE_OK;
}

static int memory_checkpoint(struct engine *engine, bool wait)
{
    struct memory_engine *memory = memory_of(engine);
    if (memory->keeper == NULL)
        return STORE_OK;
    return checkpoint_keeper_write(memory->keeper, engine, &memory->mark, wait);
}

/* What a snapshot kept is given back here too, where nothing is written. */
static void memory_status(struct engine *engine, struct engine_status *status)
{
    struct memory_engine *memory = memory_of(engine);
    space_sweep(&memory->space, SPACE_SWEEP_TURN);
    if (memory->keeper != NULL)
        checkpoint_keeper_status(memory->keeper, engine, status);
    else
        *status = (struct engine_status){0};
}

static uint64_t memory_memory(struct engine *engine)
{
    return memory_of(engine)->space.memory;
}

static uint64_t memory_held(struct engine *engine)
{
    return memory_of(engine)->space.held;
}

const struct engine_methods engine_memory = {
    .name = "memory",
    .open = memory_open,
    .close = memory_close,
    .get = memory_get,
    .prefetch = memory_prefetch,
    .put = memory_put,
    .delete = memory_delete,
    .count = memory_count,
    .cursor_open = memory_cursor_open,
    .cursor_close = memory_cursor_close,
    .cursor_seek = memory_cursor_seek,
    .cursor_seek_before = memory_cursor_seek_before,
    .cursor_next = memory_cursor_next,
    .cursor_prev = memory_cursor_prev,
    .snapshot = memory_snapshot,
    .release = memory_release,
    .commit = memory_commit,
    .checkpoint = memory_checkpoint,
    .status = memory_status,
    .memory = memory_memory,
    .held = memory_held,
};

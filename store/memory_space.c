#include "store/memory_space.h"

#include <malloc.h>

/* Dead lists are chunks, not links in the blocks: a frozen block is not written to. */
struct dead_chunk {
    struct dead_chunk *next;
    unsigned count;
    struct block *blocks[SPACE_MAX_RETIRED];
};

void space_init(struct space *space, const struct engine_options *options)
{
    *space = (struct space){.generation = 1,
                            .limit = options->memory_limit,
                            .admit = options->admit,
                            .admit_context = options->admit_context};
}

/* glibc keeps one word of its own with each block. */
static size_t footprint(void *memory)
{
    return malloc_usable_size(memory) + sizeof(size_t);
}

bool space_admits(const struct space *space, size_t size)
{
    return space->admit == NULL || space->admit(space->admit_context, size);
}

static void *allocate(struct space *space, size_t size)
{
    if (!space_admits(space, size))
        return NULL;
    void *memory = malloc(size);
    if (memory != NULL)
        space->memory += footprint(memory);
    return memory;
}

static void release(struct space *space, void *memory)
{
    space->memory -= footprint(memory);
    free(memory);
}

void *space_allocate(struct space *space, size_t size)
{
    struct block *block = allocate(space, size);
    if (block != NULL)
        block->birth = space->generation;
    return block;
}

void space_free(struct space *space, struct block *block)
{
    release(space, block);
}

bool space_is_tight(const struct space *space)
{
    enum { NEAR = 16 }; /* within so much of it */
    return space->limit != 0 && space->memory - space->held > space->limit - space->limit / NEAR;
}

/* Frees what the present state has no more. */
static void bury(struct space *space, void *memory)
{
    space->held -= footprint(memory);
    release(space, memory);
}

int space_reserve(struct space *space, unsigned count)
{
    struct space_mark *newest = space->newest;
    if (newest == NULL || count == 0)
        return STORE_OK;
    if (newest->dead != NULL && SPACE_MAX_RETIRED - newest->dead->count >= count)
        return STORE_OK;
    struct dead_chunk *chunk = allocate(space, sizeof(*chunk));
    if (chunk == NULL)
        return STORE_NO_MEMORY;
    space->held += footprint(chunk);
    chunk->count = 0;
    chunk->next = newest->dead;
    newest->dead = chunk;
    return STORE_OK;
}

void space_retire(struct space *space, struct block *block)
{
    if (!space_is_frozen(space, block)) {
        space_free(space, block);
        return;
    }
    struct space_mark *newest = space->newest;
    newest->dead->blocks[newest->dead->count++] = block;
    space->held += footprint(block);
}

void space_freeze(struct space *space, struct space_mark *mark)
{
    *mark = (struct space_mark){.generation = space->generation, .older = space->newest};
    if (space->newest != NULL)
        space->newest->newer = mark;
    space->newest = mark;
    space->frozen = mark->generation;
    space->generation++;
}

/* Frees what the mark does not see, keeps the rest for it. */
static void sift(struct space *space, struct dead_chunk *chunk, struct space_mark *mark)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < chunk->count; i++) {
        struct block *block = chunk->blocks[i];
        if (block->birth > mark->generation)
            bury(space, block);
        else
            chunk->blocks[kept++] = block;
    }
    chunk->count = kept;
}

/* Chunks that still hold something change hands as they are: nothing is allocated here. */
static void hand_down(struct space *space, struct dead_chunk *chunk, struct space_mark *older)
{
    while (chunk != NULL) {
        struct dead_chunk *next = chunk->next;
        sift(space, chunk, older);
        if (chunk->count > 0) {
            chunk->next = older->dead;
            older->dead = chunk;
        } else {
            bury(space, chunk);
        }
        chunk = next;
    }
}

static void doom(struct space *space, struct space_mark *mark)
{
    struct dead_chunk **end = &space->doomed;
    while (*end != NULL)
        end = &(*end)->next;
    *end = mark->dead;
}

void space_sweep(struct space *space, unsigned blocks)
{
    for (; blocks > 0 && space->doomed != NULL; blocks--) {
        struct dead_chunk *chunk = space->doomed;
        if (chunk->count > 0) {
            bury(space, chunk->blocks[--chunk->count]);
        } else {
            space->doomed = chunk->next;
            bury(space, chunk);
        }
    }
}

void space_end(struct space *space)
{
    while (space->doomed != NULL)
        space_sweep(space, SPACE_SWEEP_TURN);
}

void space_thaw(struct space *space, struct space_mark *mark)
{
    if (mark->newer != NULL)
        mark->newer->older = mark->older;
    else
        space->newest = mark->older;
    if (mark->older != NULL)
        mark->older->newer = mark->newer;
    space->frozen = space->newest != NULL ? space->newest->generation : 0;
    if (mark->older != NULL)
        hand_down(space, mark->dead, mark->older);
    else
        doom(space, mark);
}

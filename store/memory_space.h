/*
 * The blocks of the memory engine: allocation, its account, and the bookkeeping that lets
 * snapshots share blocks with the present state.
 *
 * Every block carries the generation in which it was born. Taking a snapshot leaves a *mark* and
 * counts the generation up. A block born at or before the newest mark that is left is *frozen*: a
 * snapshot may see it, so it is never modified, only replaced. A frozen block that is replaced goes
 * on the dead list of the newest mark; when that mark goes, those of its dead that the next older
 * mark cannot see are freed, and the others handed to that. What the last mark leaves may be nearly
 * as much as there is, so it is only doomed then: space_sweep frees it little by little.
 */
#ifndef STORE_MEMORY_SPACE_H
#define STORE_MEMORY_SPACE_H

#include "store/engine.h"

/* What every block begins with. */
struct block {
    uint64_t birth;
};

struct dead_chunk;

struct space_mark {
    uint64_t generation; /* blocks born up to here are seen */
    struct space_mark *older;
    struct space_mark *newer;
    struct dead_chunk *dead;
};

struct space {
    uint64_t generation; /* of blocks born now */
    uint64_t frozen;     /* the newest mark's generation, 0 where there is none */
    uint64_t memory;     /* bytes that the blocks take, */
    uint64_t held;       /* of which so many are dead: held by snapshots, or doomed */
    uint64_t limit;      /* bytes of memory_limit in engine_options; 0: none */
    struct space_mark *newest;
    struct dead_chunk *doomed;                 /* nobody sees these any more, see space_sweep */
    bool (*admit)(void *context, size_t size); /* as in engine_options */
    void *admit_context;
};

enum { SPACE_MAX_RETIRED = 256 }; /* blocks that one space_reserve may ask for */

void space_init(struct space *space, const struct engine_options *options);

/* Whether the options let `size` bytes be allocated. */
bool space_admits(const struct space *space, size_t size);

/* A block born now; NULL where memory is out. `size` includes struct block. */
void *space_allocate(struct space *space, size_t size);
void space_free(struct space *space, struct block *block);

/* Whether a snapshot may see the block. */
static inline bool space_is_frozen(const struct space *space, const struct block *block)
{
    return block->birth <= space->frozen;
}

/* Makes sure that the next `count` calls of space_retire succeed. STORE_NO_MEMORY. */
int space_reserve(struct space *space, unsigned count);

/* The present state no longer needs the block; it is freed as soon as no snapshot does. */
void space_retire(struct space *space, struct block *block);

/*
 * Sets a mark: what is there now is frozen until space_thaw takes the mark away. Marks are the
 * caller's, stay where they are meanwhile, and may go in any order.
 */
void space_freeze(struct space *space, struct space_mark *mark);
void space_thaw(struct space *space, struct space_mark *mark);

/*
 * Whether the present state is near the limit, so that what a block has to spare is to be given
 * back rather than kept for what comes.
 */
bool space_is_tight(const struct space *space);

enum { SPACE_SWEEP_WRITE = 4, SPACE_SWEEP_TURN = 256 }; /* blocks, with a write and with a turn */

/* Frees so many doomed blocks. space_end frees all. */
void space_sweep(struct space *space, unsigned blocks);
void space_end(struct space *space);

#endif

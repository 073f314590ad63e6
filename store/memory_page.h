/*
 * A page of the memory engine's B+tree: sorted entries in one block that is as large as its
 * content. Leaves and inner pages have the same layout, drawn in memory_page.c; the payload of a
 * leaf's entry is the value (or a pointer to its blob), that of an inner page's a struct
 * page_child. The key of an inner page's first entry means nothing: everything below the second is
 * there.
 *
 * Changes in place are page_insert, page_replace and page_remove, as far as there is room.
 * Everything else (growing past the prefix, splitting, merging) goes through a *draft*: a list of
 * what new pages are to hold, in order, from existing pages and new entries, that is then cut into
 * one to three pages. Nothing here allocates; the memory for a new page comes from the caller.
 */
#ifndef STORE_MEMORY_PAGE_H
#define STORE_MEMORY_PAGE_H

#include "store/memory_space.h"

enum {
    PAGE_MAX_SIZE = 4096 - 8, /* of a page of more than PAGE_MIN_FANOUT entries, content only */
    PAGE_MIN_FANOUT = 8,      /* an inner page may have so many, however long the keys */
    PAGE_SMALL_SIZE = 1024,   /* below, a page is merged with a neighbour, */
    PAGE_MERGED_SIZE = 3072,  /* if together they take no more than this */
    PAGE_MAX_INLINE = 1024,   /* bytes of value; larger ones are blobs */
    PAGE_MAX_CUTS = 3,        /* pages that come of one draft */
    PAGE_MAX_RUNS = 8,        /* of a draft */
};

struct page {
    struct block block;
    uint16_t capacity;    /* bytes of the page */
    uint16_t count;       /* entries */
    uint16_t cells;       /* where the cells begin; free space is before it */
    uint16_t garbage;     /* bytes of cells that no entry has any more */
    uint16_t prefix_size; /* bytes that all keys have in common, and that are not in the cells */
    bool inner;
    uint8_t reserved;
    uint8_t bytes[];
};

/* A value too large for a page. */
struct blob {
    struct block block;
    uint8_t bytes[];
};

struct page_child {
    struct page *page;
    uint64_t count; /* entries in the leaves below */
};

/* A new entry. The payload has page_payload_size(value_size) bytes. */
struct page_entry {
    struct slice key;
    size_t value_size;
    const void *payload;
};

/* A large value's payload is the pointer to its blob. */
static inline size_t page_payload_size(size_t value_size)
{
    return value_size > PAGE_MAX_INLINE ? sizeof(struct blob *) : value_size;
}

/*
 * The first entry whose key is >= `key`, `count` where there is none; in an inner page the child
 * that the key belongs to.
 */
unsigned page_find(const struct page *page, struct slice key, bool *found);
unsigned page_find_child(const struct page *page, struct slice key);

/* page_find that looks at `hint` and behind it first, where the key is likely to be or to belong.
 */
unsigned page_find_near(const struct page *page, struct slice key, unsigned hint, bool *found);

/*
 * Hints to the processor, which then loads while we do something else: what a search of the page
 * looks at first; the entry that a search for the key will find, once that is there; the child at
 * `index`. page_prefetch_entry returns which entry that is, a hint for page_find_near.
 */
void page_prefetch(const struct page *page);
unsigned page_prefetch_entry(const struct page *page, struct slice key);
void page_prefetch_child(const struct page *page, unsigned index);

/* Writes the key (at most ENGINE_MAX_KEY bytes) and returns its size. */
size_t page_key(const struct page *page, unsigned index, uint8_t *key);

/* The value, wherever it is. */
struct slice page_value(const struct page *page, unsigned index);

/* The blob of the value, NULL where it is in the page. */
struct blob *page_blob(const struct page *page, unsigned index);

struct page_child page_child(const struct page *page, unsigned index);
void page_set_child(struct page *page, unsigned index, struct page_child child);
void page_move_child(struct page *page, unsigned index, struct page *child);
void page_add_to_child(struct page *page, unsigned index, uint64_t more);

/* Sum of the counts of the children before `index`. */
uint64_t page_count_before(const struct page *page, unsigned index);

/* Bytes that the content takes, garbage and free space not counted. */
size_t page_used(const struct page *page);

/* Bytes left for new entries. */
size_t page_free(const struct page *page);

/* Whether the key begins with the page's prefix; if not, page_insert and its size are not for it.
 */
bool page_covers(const struct page *page, struct slice key);

/* What the content takes at most with the entry added, and the prefix as short as that needs. */
size_t page_used_covering(const struct page *page, const struct page_entry *entry);

/* What the content of both takes at most, in one page. */
size_t page_used_together(const struct page *page, const struct page *other);

/* What the entry takes. page_insert needs as much free space. */
size_t page_insert_size(const struct page *page, const struct page_entry *entry);
void page_insert(struct page *page, unsigned index, const struct page_entry *entry);

/*
 * Gives the entry at `index` another value. Whether that can be done with `room` bytes of free
 * space, of which none is needed where the new value goes where the old one is.
 */
bool page_can_replace(const struct page *page, unsigned index, const struct page_entry *entry,
                      size_t room);
void page_replace(struct page *page, unsigned index, const struct page_entry *entry);

/* Gives it one of the same size, not of a blob, or changes nothing and returns false. */
bool page_overwrite(struct page *page, unsigned index, struct slice value);

void page_remove(struct page *page, unsigned index);

/* What the entry takes in a page whose prefix has that size. */
size_t page_entry_size(size_t prefix_size, const struct page_entry *entry);

/* The capacity to give to a page for so much content. */
size_t page_capacity(size_t used, bool inner);

/* Makes a copy, without the garbage. `capacity` is at least page_used(source). */
void page_copy(struct page *page, size_t capacity, const struct page *source);

/* Entries of a page in a row, or of an array (page NULL), or (both NULL) one new entry. */
struct page_run {
    const struct page *page;
    const struct page_entry *entries;
    unsigned from;
    unsigned to;
    struct page_entry entry;
    struct slice first_key; /* data not NULL: in place of the page's first key in this run */
};

struct page_draft {
    bool inner;
    unsigned runs;
    unsigned count;  /* entries in all runs */
    unsigned before; /* entries before the new ones, */
    unsigned added;  /* and how many are new */
    struct page_run run[PAGE_MAX_RUNS];
};

void page_draft_init(struct page_draft *draft, bool inner);
void page_draft_add_run(struct page_draft *draft, const struct page *page, unsigned from,
                        unsigned to);
void page_draft_add_entry(struct page_draft *draft, const struct page_entry *entry);

/* Entries that are no change to what is there; the array lives as long as the draft. */
void page_draft_add_entries(struct page_draft *draft, const struct page_entry *entries,
                            unsigned count);

/*
 * Adds a whole page at either end, for drafts that make one page all the same. `between` is the
 * key that parts it from the draft; it must live as long as the draft.
 */
void page_draft_append(struct page_draft *draft, const struct page *page, struct slice between);
void page_draft_prepend(struct page_draft *draft, const struct page *page, struct slice between);

/* Bytes of a page that holds entries from <= n < to. */
size_t page_draft_size(const struct page_draft *draft, unsigned from, unsigned to);

/* How many pages the draft makes, and where each begins (and the last ends). */
unsigned page_draft_cut(const struct page_draft *draft, unsigned cuts[PAGE_MAX_CUTS + 1]);

/* Fills the block at `page`. Returns how many entries are in the leaves below. */
uint64_t page_draft_build(const struct page_draft *draft, unsigned from, unsigned to,
                          struct page *page, size_t capacity);

/* The shortest key that parts the entry `at` from the one before it. */
size_t page_draft_separator(const struct page_draft *draft, unsigned at, uint8_t *key);

#endif

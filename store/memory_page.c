/*
 * The layout of a page, in the machine's byte order:
 *
 *     header │ prefix, padded to 4 │ heads[count] │ offsets[count] │ free … │ cells … capacity
 *
 * A key is prefix + suffix. A head is the first 4 bytes of a suffix as a big-endian number, padded
 * with zeros, so that numbers compare as the bytes do, and most of a search touches nothing but
 * this array. An offset says where in the page the entry's cell begins:
 *
 *     suffix size (varint) │ value size (varint) │ suffix behind its first 4 bytes │ payload
 *
 * Varints are LEB128. Cells lie in no order; those without an entry are garbage, and stay until
 * the page is copied.
 */
#include "store/memory_page.h"

#include <endian.h>

enum { HEAD_SIZE = 4, ENTRY_SIZE = sizeof(uint32_t) + sizeof(uint16_t), VARINT_MORE = 0x80 };

struct cell {
    size_t suffix_size;
    size_t value_size;
    const uint8_t *tail; /* of the suffix */
    const uint8_t *payload;
    const uint8_t *begin;
};

static size_t arrays_offset(size_t prefix_size)
{
    return offsetof(struct page, bytes) + ((prefix_size + 3) & ~(size_t)3);
}

/* Like strchr, these take the const away for those callers that own the page. */
static uint32_t *heads_of(const struct page *page)
{
    return (uint32_t *)(void *)((uint8_t *)page + arrays_offset(page->prefix_size));
}

static uint16_t *offsets_of(const struct page *page)
{
    return (uint16_t *)(void *)(heads_of(page) + page->count);
}

static size_t tail_size(size_t suffix_size)
{
    return suffix_size > HEAD_SIZE ? suffix_size - HEAD_SIZE : 0;
}

static void copy(void *target, const void *source, size_t size)
{
    if (size > 0)
        memcpy(target, source, size);
}

/* The commonest sizes get by without a call. */
static const uint8_t *read_varint(const uint8_t *at, size_t *value)
{
    size_t result = *at & (VARINT_MORE - 1);
    for (unsigned shift = 7; *at++ & VARINT_MORE; shift += 7)
        result |= (size_t)(*at & (VARINT_MORE - 1)) << shift;
    *value = result;
    return at;
}

static uint8_t *write_varint(uint8_t *at, size_t value)
{
    for (; value >= VARINT_MORE; value >>= 7)
        *at++ = (uint8_t)(value | VARINT_MORE);
    *at++ = (uint8_t)value;
    return at;
}

static size_t varint_size(size_t value)
{
    size_t size = 1;
    for (; value >= VARINT_MORE; value >>= 7)
        size++;
    return size;
}

static size_t cell_size(size_t suffix_size, size_t value_size)
{
    return varint_size(suffix_size) + varint_size(value_size) + tail_size(suffix_size) +
           page_payload_size(value_size);
}

static inline struct cell read_cell(const struct page *page, unsigned index)
{
    struct cell cell;
    cell.begin = (const uint8_t *)page + offsets_of(page)[index];
    const uint8_t *at = read_varint(cell.begin, &cell.suffix_size);
    cell.tail = read_varint(at, &cell.value_size);
    cell.payload = cell.tail + tail_size(cell.suffix_size);
    return cell;
}

static size_t whole_size(const struct cell *cell)
{
    return (size_t)(cell->payload - cell->begin) + page_payload_size(cell->value_size);
}

static uint32_t head_of(const uint8_t *suffix, size_t size)
{
    uint32_t head = 0;
    if (size >= HEAD_SIZE) {
        memcpy(&head, suffix, HEAD_SIZE);
        return be32toh(head);
    }
    for (unsigned i = 0; i < HEAD_SIZE; i++)
        head = head << 8 | (i < size ? suffix[i] : 0);
    return head;
}

static void write_head(uint8_t *suffix, size_t size, uint32_t head)
{
    for (unsigned i = 0; i < HEAD_SIZE && i < size; i++)
        suffix[i] = (uint8_t)(head >> (24 - 8 * i));
}

/* Written so that no branch depends on the data, and without a multiplication. */
static inline unsigned lower_bound(const uint32_t *heads, unsigned from, unsigned to, uint32_t head)
{
    const uint32_t *base = heads + from;
    size_t left = to - from;
    if (left == 0)
        return from;
    while (left > 1) {
        size_t half = left / 2;
        base += half & -(size_t)(base[half - 1] < head); /* half or nothing */
        left -= half;
    }
    return (unsigned)(base - heads) + (*base < head);
}

/* Keys with the same head differ behind it, or only in how many zeros they end with. */
static int compare_tail(const struct page *page, unsigned index, struct slice suffix)
{
    struct cell cell = read_cell(page, index);
    int order = slice_compare(slice_of(cell.tail, tail_size(cell.suffix_size)),
                              slice_of(suffix.data + HEAD_SIZE, tail_size(suffix.size)));
    if (order != 0)
        return order;
    return (cell.suffix_size > suffix.size) - (cell.suffix_size < suffix.size);
}

/* Among entries that all have the same head. */
static unsigned find_tail(const struct page *page, unsigned from, unsigned to, struct slice suffix,
                          bool *found)
{
    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        int order = compare_tail(page, middle, suffix);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static unsigned find_from(const struct page *page, unsigned from, struct slice key, bool *found)
{
    size_t prefix_size = page->prefix_size;
    size_t common = key.size < prefix_size ? key.size : prefix_size;
    *found = false;
    int order = common > 0 ? memcmp(key.data, page->bytes, common) : 0;
    if (order > 0)
        return page->count;
    if (order < 0 || key.size < prefix_size)
        return from;
    struct slice suffix = slice_of(key.data + prefix_size, key.size - prefix_size);
    uint32_t head = head_of(suffix.data, suffix.size);
    const uint32_t *heads = heads_of(page);
    unsigned at = lower_bound(heads, from, page->count, head);
    if (at == page->count || heads[at] != head)
        return at;
    unsigned end = at + 1;
    if (end < page->count && heads[end] == head)
        end = head < UINT32_MAX ? lower_bound(heads, end, page->count, head + 1) : page->count;
    return find_tail(page, at, end, suffix, found);
}

static struct slice suffix_of(const struct page *page, struct slice key)
{
    return slice_of(key.data + page->prefix_size, key.size - page->prefix_size);
}

/* Of a suffix with the entry's head. */
static bool has_tail(const struct page *page, unsigned index, struct slice suffix)
{
    struct cell cell = read_cell(page, index);
    size_t size = tail_size(suffix.size);
    return cell.suffix_size == suffix.size &&
           (size == 0 || memcmp(cell.tail, suffix.data + HEAD_SIZE, size) == 0);
}

/* Whether the entry at `at` is the key, or all before it are less and it is more. */
static bool is_place(const struct page *page, unsigned at, struct slice suffix, uint32_t head,
                     bool *found)
{
    const uint32_t *heads = heads_of(page);
    if (at > 0 && heads[at - 1] >= head)
        return false;
    if (at == page->count || heads[at] != head)
        return at == page->count || heads[at] > head;
    return *found = has_tail(page, at, suffix);
}

unsigned page_find_near(const struct page *page, struct slice key, unsigned hint, bool *found)
{
    *found = false;
    if (hint <= page->count && page_covers(page, key)) {
        struct slice suffix = suffix_of(page, key);
        uint32_t head = head_of(suffix.data, suffix.size);
        hint += hint < page->count && heads_of(page)[hint] < head;
        if (is_place(page, hint, suffix, head, found))
            return hint;
    }
    return find_from(page, 0, key, found);
}

unsigned page_find(const struct page *page, struct slice key, bool *found)
{
    return find_from(page, 0, key, found);
}

unsigned page_find_child(const struct page *page, struct slice key)
{
    bool found;
    unsigned at = find_from(page, 1, key, &found);
    return found ? at : at - 1;
}

enum { CACHE_LINE = 64, SEARCHED_LINES = 4, ENTRY_LINES = 2 };

static void prefetch(const uint8_t *at, unsigned lines)
{
    for (unsigned i = 0; i < lines; i++)
        __builtin_prefetch(at + (size_t)i * CACHE_LINE);
}

void page_prefetch(const struct page *page)
{
    prefetch((const uint8_t *)page, SEARCHED_LINES);
}

void page_prefetch_child(const struct page *page, unsigned index)
{
    prefetch((const uint8_t *)page + offsets_of(page)[index], 1);
}

/* By the heads alone: a cell is what we are waiting for. */
unsigned page_prefetch_entry(const struct page *page, struct slice key)
{
    if (key.size < page->prefix_size)
        return 0;
    const uint8_t *suffix = key.data + page->prefix_size;
    unsigned at =
        lower_bound(heads_of(page), 0, page->count, head_of(suffix, key.size - page->prefix_size));
    if (at < page->count)
        prefetch((const uint8_t *)page + offsets_of(page)[at], ENTRY_LINES);
    return at;
}

size_t page_key(const struct page *page, unsigned index, uint8_t *key)
{
    struct cell cell = read_cell(page, index);
    uint8_t *suffix = key + page->prefix_size;
    copy(key, page->bytes, page->prefix_size);
    write_head(suffix, cell.suffix_size, heads_of(page)[index]);
    copy(suffix + HEAD_SIZE, cell.tail, tail_size(cell.suffix_size));
    return page->prefix_size + cell.suffix_size;
}

static struct blob *payload_blob(const uint8_t *payload)
{
    struct blob *blob;
    memcpy(&blob, payload, sizeof(struct blob *));
    return blob;
}

struct slice page_value(const struct page *page, unsigned index)
{
    struct cell cell = read_cell(page, index);
    if (cell.value_size > PAGE_MAX_INLINE)
        return slice_of(payload_blob(cell.payload)->bytes, cell.value_size);
    return slice_of(cell.payload, cell.value_size);
}

struct blob *page_blob(const struct page *page, unsigned index)
{
    struct cell cell = read_cell(page, index);
    return cell.value_size > PAGE_MAX_INLINE ? payload_blob(cell.payload) : NULL;
}

static struct page_child read_child(const uint8_t *payload)
{
    struct page_child child;
    memcpy(&child, payload, sizeof(child));
    return child;
}

struct page_child page_child(const struct page *page, unsigned index)
{
    return read_child(read_cell(page, index).payload);
}

void page_set_child(struct page *page, unsigned index, struct page_child child)
{
    memcpy((uint8_t *)read_cell(page, index).payload, &child, sizeof(child));
}

void page_move_child(struct page *page, unsigned index, struct page *child)
{
    memcpy((uint8_t *)read_cell(page, index).payload + offsetof(struct page_child, page), &child,
           sizeof(struct page *));
}

void page_add_to_child(struct page *page, unsigned index, uint64_t more)
{
    uint8_t *at = (uint8_t *)read_cell(page, index).payload + offsetof(struct page_child, count);
    uint64_t count;
    memcpy(&count, at, sizeof(count));
    count += more;
    memcpy(at, &count, sizeof(count));
}

uint64_t page_count_before(const struct page *page, unsigned index)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < index; i++)
        count += page_child(page, i).count;
    return count;
}

static size_t arrays_end(const struct page *page)
{
    return arrays_offset(page->prefix_size) + (size_t)page->count * ENTRY_SIZE;
}

size_t page_used(const struct page *page)
{
    return arrays_end(page) + page->capacity - page->cells - page->garbage;
}

size_t page_free(const struct page *page)
{
    return page->cells - arrays_end(page);
}

bool page_covers(const struct page *page, struct slice key)
{
    return slice_has_prefix(key, slice_of(page->bytes, page->prefix_size));
}

size_t page_entry_size(size_t prefix_size, const struct page_entry *entry)
{
    return ENTRY_SIZE + cell_size(entry->key.size - prefix_size, entry->value_size);
}

/* Bytes that the page's prefix has in common with others. */
static size_t common_prefix(const struct page *page, struct slice bytes)
{
    size_t common = 0;
    while (common < page->prefix_size && common < bytes.size &&
           bytes.data[common] == page->bytes[common])
        common++;
    return common;
}

/* At most what the content takes where the prefix has that size. */
static size_t used_with_prefix(const struct page *page, size_t prefix_size)
{
    return page_used(page) + page->count * (page->prefix_size - prefix_size);
}

size_t page_used_covering(const struct page *page, const struct page_entry *entry)
{
    size_t common = common_prefix(page, entry->key);
    return used_with_prefix(page, common) + page_entry_size(common, entry);
}

size_t page_used_together(const struct page *page, const struct page *other)
{
    size_t common = common_prefix(page, slice_of(other->bytes, other->prefix_size));
    return used_with_prefix(page, common) + used_with_prefix(other, common);
}

size_t page_insert_size(const struct page *page, const struct page_entry *entry)
{
    return page_entry_size(page->prefix_size, entry);
}

/* Takes `size` bytes of the free space for a cell of the entry at `index`. */
static uint8_t *take_cell(struct page *page, unsigned index, size_t size)
{
    page->cells = (uint16_t)(page->cells - size);
    offsets_of(page)[index] = page->cells;
    return (uint8_t *)page + page->cells;
}

static void write_cell(struct page *page, unsigned index, struct slice suffix, size_t value_size,
                       const void *payload)
{
    uint8_t *at = take_cell(page, index, cell_size(suffix.size, value_size));
    at = write_varint(at, suffix.size);
    at = write_varint(at, value_size);
    copy(at, suffix.data + HEAD_SIZE, tail_size(suffix.size));
    copy(at + tail_size(suffix.size), payload, page_payload_size(value_size));
    heads_of(page)[index] = head_of(suffix.data, suffix.size);
}

void page_insert(struct page *page, unsigned index, const struct page_entry *entry)
{
    uint16_t *offsets = offsets_of(page);
    unsigned count = page->count;
    uint8_t *moved = (uint8_t *)offsets + sizeof(uint32_t); /* behind one more head */
    memmove(moved + (index + 1) * sizeof(uint16_t), offsets + index,
            (count - index) * sizeof(uint16_t));
    memmove(moved, offsets, index * sizeof(uint16_t));
    uint32_t *heads = heads_of(page);
    memmove(heads + index + 1, heads + index, (count - index) * sizeof(uint32_t));
    page->count++;
    write_cell(page, index, suffix_of(page, entry->key), entry->value_size, entry->payload);
}

/* Where the payload of the entry's own cell can be overwritten: same place, no larger. */
static bool fits_cell(const struct cell *cell, const struct page_entry *entry)
{
    return varint_size(entry->value_size) == varint_size(cell->value_size) &&
           page_payload_size(entry->value_size) <= page_payload_size(cell->value_size);
}

bool page_can_replace(const struct page *page, unsigned index, const struct page_entry *entry,
                      size_t room)
{
    struct cell cell = read_cell(page, index);
    return fits_cell(&cell, entry) || cell_size(cell.suffix_size, entry->value_size) <= room;
}

/* The payload may be a view of this very page: it is moved before anything is written over. */
void page_replace(struct page *page, unsigned index, const struct page_entry *entry)
{
    struct cell cell = read_cell(page, index);
    size_t size = page_payload_size(entry->value_size);
    if (!fits_cell(&cell, entry)) {
        page->garbage = (uint16_t)(page->garbage + whole_size(&cell));
        write_cell(page, index, suffix_of(page, entry->key), entry->value_size, entry->payload);
        return;
    }
    if (size > 0)
        memmove((uint8_t *)cell.payload, entry->payload, size);
    size_t saved = page_payload_size(cell.value_size) - size;
    page->garbage = (uint16_t)(page->garbage + saved);
    write_varint((uint8_t *)cell.tail - varint_size(entry->value_size), entry->value_size);
}

bool page_overwrite(struct page *page, unsigned index, struct slice value)
{
    struct cell cell = read_cell(page, index);
    if (cell.value_size != value.size || value.size > PAGE_MAX_INLINE)
        return false;
    if (value.size > 0)
        memmove((uint8_t *)cell.payload, value.data, value.size);
    return true;
}

void page_remove(struct page *page, unsigned index)
{
    struct cell cell = read_cell(page, index);
    page->garbage = (uint16_t)(page->garbage + whole_size(&cell));
    uint16_t *offsets = offsets_of(page);
    uint32_t *heads = heads_of(page);
    unsigned behind = page->count - index - 1;
    memmove(heads + index, heads + index + 1, behind * sizeof(uint32_t));
    uint8_t *moved = (uint8_t *)offsets - sizeof(uint32_t); /* behind one head less */
    memmove(moved, offsets, index * sizeof(uint16_t));
    memmove(moved + index * sizeof(uint16_t), offsets + index + 1, behind * sizeof(uint16_t));
    page->count--;
}

/*
 * Steps of about a sixteenth: coarser ones waste memory, finer ones copy more often. What exceeds
 * PAGE_MAX_SIZE gets no room to grow.
 */
size_t page_capacity(size_t used, bool inner)
{
    enum { FINEST_STEP = 16, INNER_SLACK = 8, OVERHEAD = sizeof(size_t) };
    if (used >= PAGE_MAX_SIZE)
        return used;
    size_t wanted = used + OVERHEAD;
    if (inner)
        wanted += used / INNER_SLACK;
    size_t step = FINEST_STEP;
    while (step * 32 <= wanted)
        step *= 2;
    size_t capacity = (wanted + step - 1) / step * step - OVERHEAD;
    return capacity < PAGE_MAX_SIZE ? capacity : PAGE_MAX_SIZE;
}

static void init_page(struct page *page, size_t capacity, bool inner, unsigned count)
{
    page->capacity = (uint16_t)capacity;
    page->cells = (uint16_t)capacity;
    page->garbage = 0;
    page->count = (uint16_t)count;
    page->prefix_size = 0;
    page->inner = inner;
    page->reserved = 0;
}

static void copy_cell(struct page *page, unsigned index, const struct page *source, unsigned from)
{
    struct cell cell = read_cell(source, from);
    size_t size = whole_size(&cell);
    memcpy(take_cell(page, index, size), cell.begin, size);
    heads_of(page)[index] = heads_of(source)[from];
}

/* Bytes of garbage behind the cells that are in use: where a page loses its first entries. */
static size_t garbage_behind(const struct page *page)
{
    const uint16_t *offsets = offsets_of(page);
    unsigned last = 0;
    if (page->garbage == 0 || page->count == 0)
        return 0;
    for (unsigned i = 1; i < page->count; i++)
        last = offsets[i] > offsets[last] ? i : last;
    struct cell cell = read_cell(page, last);
    return page->capacity - offsets[last] - whole_size(&cell);
}

/* With all garbage behind them the cells move as one. */
static void copy_cells(struct page *page, const struct page *source)
{
    size_t size = (size_t)source->capacity - source->cells - source->garbage;
    unsigned shift = (unsigned)page->capacity - source->capacity + source->garbage;
    page->cells = (uint16_t)(page->capacity - size);
    memcpy((uint8_t *)page + page->cells, (const uint8_t *)source + source->cells, size);
    memcpy(heads_of(page), heads_of(source), source->count * sizeof(uint32_t));
    const uint16_t *from = offsets_of(source);
    uint16_t *to = offsets_of(page);
    for (unsigned i = 0; i < source->count; i++)
        to[i] = (uint16_t)(from[i] + shift);
}

void page_copy(struct page *page, size_t capacity, const struct page *source)
{
    init_page(page, capacity, source->inner, source->count);
    page->prefix_size = source->prefix_size;
    copy(page->bytes, source->bytes, source->prefix_size);
    if (source->garbage == garbage_behind(source)) {
        copy_cells(page, source);
        return;
    }
    for (unsigned i = 0; i < source->count; i++)
        copy_cell(page, i, source, i);
}

void page_draft_init(struct page_draft *draft, bool inner)
{
    draft->inner = inner;
    draft->runs = 0;
    draft->count = 0;
    draft->before = 0;
    draft->added = 0;
}

void page_draft_add_run(struct page_draft *draft, const struct page *page, unsigned from,
                        unsigned to)
{
    if (from >= to)
        return;
    draft->run[draft->runs++] = (struct page_run){.page = page, .from = from, .to = to};
    draft->count += to - from;
}

void page_draft_add_entry(struct page_draft *draft, const struct page_entry *entry)
{
    if (draft->added == 0)
        draft->before = draft->count;
    draft->run[draft->runs++] = (struct page_run){.to = 1, .entry = *entry};
    draft->count++;
    draft->added++;
}

void page_draft_add_entries(struct page_draft *draft, const struct page_entry *entries,
                            unsigned count)
{
    if (count == 0)
        return;
    draft->run[draft->runs++] = (struct page_run){.entries = entries, .to = count};
    draft->count += count;
}

void page_draft_append(struct page_draft *draft, const struct page *page, struct slice between)
{
    page_draft_add_run(draft, page, 0, page->count);
    if (draft->inner)
        draft->run[draft->runs - 1].first_key = between;
}

void page_draft_prepend(struct page_draft *draft, const struct page *page, struct slice between)
{
    if (draft->inner && draft->run[0].page == NULL)
        draft->run[0].entry.key = between;
    else if (draft->inner)
        draft->run[0].first_key = between;
    memmove(draft->run + 1, draft->run, draft->runs * sizeof(draft->run[0]));
    draft->run[0] = (struct page_run){.page = page, .to = page->count};
    draft->runs++;
    draft->count += page->count;
}

/* One entry of a draft. */
struct item {
    const struct page *page; /* where the key is; NULL: it is `key` */
    unsigned index;
    struct slice key;
    size_t key_size;
    size_t value_size;
    const uint8_t *payload;
};

static struct item new_item(const struct page_entry *entry)
{
    return (struct item){.key = entry->key,
                         .key_size = entry->key.size,
                         .value_size = entry->value_size,
                         .payload = entry->payload};
}

static struct item item_of(const struct page_run *run, unsigned index)
{
    struct cell cell = read_cell(run->page, index);
    struct item item = {.page = run->page,
                        .index = index,
                        .key_size = run->page->prefix_size + cell.suffix_size,
                        .value_size = cell.value_size,
                        .payload = cell.payload};
    if (index == run->from && run->first_key.data != NULL) {
        item.page = NULL;
        item.key = run->first_key;
        item.key_size = run->first_key.size;
    }
    return item;
}

static struct item draft_item(const struct page_draft *draft, unsigned n)
{
    const struct page_run *run = draft->run;
    for (; n >= run->to - run->from; run++)
        n -= run->to - run->from;
    if (run->page != NULL)
        return item_of(run, run->from + n);
    return new_item(run->entries != NULL ? &run->entries[run->from + n] : &run->entry);
}

static struct slice item_key(const struct item *item, uint8_t *buffer)
{
    if (item->page == NULL)
        return item->key;
    return slice_of(buffer, page_key(item->page, item->index, buffer));
}

/* Bytes that the keys of two entries have in common at their beginning. */
static size_t common_size(const struct page_draft *draft, unsigned first, unsigned second)
{
    uint8_t buffers[2][ENGINE_MAX_KEY];
    struct item items[2] = {draft_item(draft, first), draft_item(draft, second)};
    struct slice a = item_key(&items[0], buffers[0]);
    struct slice b = item_key(&items[1], buffers[1]);
    size_t common = 0;
    while (common < a.size && common < b.size && a.data[common] == b.data[common])
        common++;
    return common;
}

/*
 * Keys are sorted, so the first and the last decide. An inner page's first key does not count.
 * Where there is one key only, its last bytes are its head: as small, and ready for the next ones.
 */
static size_t draft_prefix(const struct page_draft *draft, unsigned from, unsigned to)
{
    from += draft->inner;
    if (from >= to)
        return 0;
    if (from + 1 < to)
        return common_size(draft, from, to - 1);
    size_t size = draft_item(draft, from).key_size;
    return size > HEAD_SIZE ? size - HEAD_SIZE : 0;
}

/* What the key of entry `n` takes in a page that begins with entry `from`. */
static size_t suffix_size(const struct page_draft *draft, const struct item *item, bool first,
                          size_t prefix_size)
{
    return draft->inner && first ? 0 : item->key_size - prefix_size;
}

static size_t item_size(const struct page_draft *draft, unsigned n, bool first, size_t prefix_size)
{
    struct item item = draft_item(draft, n);
    return ENTRY_SIZE + cell_size(suffix_size(draft, &item, first, prefix_size), item.value_size);
}

/* The entries of a run that are among those of a page: from <= n < to of the draft. */
struct part {
    const struct page_run *run;
    unsigned n; /* of the draft: the first of them */
    unsigned from;
    unsigned to;
};

/* The part of the run whose first entry is the draft's entry `n`; empty where from == to. */
static struct part part_of(const struct page_run *run, unsigned n, unsigned from, unsigned to)
{
    unsigned end = n + run->to - run->from;
    unsigned first = from > n ? from : n;
    unsigned last = to < end ? to : end;
    if (first >= last)
        return (struct part){.run = run};
    return (struct part){run, first, run->from + first - n, run->from + last - n};
}

/* How many entries at the beginning of the part are not simply what is in a page's cells. */
static unsigned special_count(const struct page_draft *draft, const struct part *part,
                              unsigned from)
{
    if (part->run->page == NULL)
        return part->to - part->from;
    bool replaced = part->run->first_key.data != NULL && part->from == part->run->from;
    return replaced || (draft->inner && part->n == from) ? part->from < part->to : 0;
}

static size_t part_size(const struct page_draft *draft, const struct part *part, unsigned from,
                        size_t prefix_size)
{
    const struct page *page = part->run->page;
    unsigned special = special_count(draft, part, from);
    size_t size = 0;
    for (unsigned i = 0; i < special; i++)
        size += item_size(draft, part->n + i, part->n + i == from, prefix_size);
    for (unsigned i = part->from + special; i < part->to; i++) {
        struct cell cell = read_cell(page, i);
        size += ENTRY_SIZE + (prefix_size == page->prefix_size
                                  ? whole_size(&cell)
                                  : cell_size(page->prefix_size + cell.suffix_size - prefix_size,
                                              cell.value_size));
    }
    return size;
}

size_t page_draft_size(const struct page_draft *draft, unsigned from, unsigned to)
{
    size_t prefix_size = draft_prefix(draft, from, to);
    size_t size = arrays_offset(prefix_size);
    unsigned n = 0;
    for (const struct page_run *run = draft->run; run < draft->run + draft->runs; run++) {
        struct part part = part_of(run, n, from, to);
        size += part_size(draft, &part, from, prefix_size);
        n += run->to - run->from;
    }
    return size;
}

static bool fits(const struct page_draft *draft, unsigned from, unsigned to)
{
    if (draft->inner ? to - from <= PAGE_MIN_FANOUT : to - from == 1)
        return true;
    return page_draft_size(draft, from, to) <= PAGE_MAX_SIZE;
}

/* The entry that begins the second half, by bytes. */
static unsigned middle(const struct page_draft *draft)
{
    size_t prefix_size = draft_prefix(draft, 0, draft->count);
    size_t all = 0;
    for (unsigned n = 0; n < draft->count; n++)
        all += item_size(draft, n, n == 0, prefix_size);
    size_t left = 0;
    for (unsigned n = 0; n < draft->count - 1; n++) {
        size_t size = item_size(draft, n, n == 0, prefix_size);
        if (n > 0 && 2 * left + size >= all)
            return n;
        left += size;
    }
    return draft->count - 1;
}

/* The old entries before the new ones, the new ones, the old ones behind: these always fit. */
static unsigned cut_around(const struct page_draft *draft, unsigned cuts[PAGE_MAX_CUTS + 1])
{
    unsigned edges[] = {draft->before, draft->before + draft->added, draft->count};
    unsigned pages = 0;
    cuts[0] = 0;
    for (unsigned i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        if (edges[i] > cuts[pages])
            cuts[++pages] = edges[i];
    }
    return pages;
}

/*
 * Where new entries come last, others are likely to follow in ascending order: the page before is
 * left full.
 */
unsigned page_draft_cut(const struct page_draft *draft, unsigned cuts[PAGE_MAX_CUTS + 1])
{
    cuts[0] = 0;
    cuts[1] = draft->count;
    if (fits(draft, 0, draft->count))
        return 1;
    if (draft->added > 0 && draft->before + draft->added == draft->count)
        return cut_around(draft, cuts);
    cuts[1] = middle(draft);
    cuts[2] = draft->count;
    if (fits(draft, 0, cuts[1]) && fits(draft, cuts[1], draft->count))
        return 2;
    return cut_around(draft, cuts);
}

static void build_entry(struct page *page, unsigned index, const struct item *item, bool first)
{
    uint8_t buffer[ENGINE_MAX_KEY];
    if (page->inner && first) {
        write_cell(page, index, slice_of(page->bytes, 0), item->value_size, item->payload);
    } else {
        struct slice suffix = suffix_of(page, item_key(item, buffer));
        write_cell(page, index, suffix, item->value_size, item->payload);
    }
}

/* Cells go over as they are where only the page changes. Returns how many entries are below. */
static uint64_t build_part(const struct page_draft *draft, const struct part *part, unsigned from,
                           struct page *page)
{
    const struct page *source = part->run->page;
    bool same = source != NULL && source->prefix_size == page->prefix_size;
    unsigned special = special_count(draft, part, from);
    uint64_t below = 0;
    for (unsigned i = 0; i < part->to - part->from; i++) {
        unsigned index = part->n - from + i;
        if (same && i >= special) {
            copy_cell(page, index, source, part->from + i);
        } else {
            struct item item = draft_item(draft, part->n + i);
            build_entry(page, index, &item, index == 0);
        }
        below += page->inner ? page_child(page, index).count : 1;
    }
    return below;
}

uint64_t page_draft_build(const struct page_draft *draft, unsigned from, unsigned to,
                          struct page *page, size_t capacity)
{
    uint8_t buffer[ENGINE_MAX_KEY];
    init_page(page, capacity, draft->inner, to - from);
    page->prefix_size = (uint16_t)draft_prefix(draft, from, to);
    if (page->prefix_size > 0) {
        struct item last = draft_item(draft, to - 1);
        copy(page->bytes, item_key(&last, buffer).data, page->prefix_size);
    }
    uint64_t below = 0;
    unsigned n = 0;
    for (const struct page_run *run = draft->run; run < draft->run + draft->runs; run++) {
        struct part part = part_of(run, n, from, to);
        below += build_part(draft, &part, from, page);
        n += run->to - run->from;
    }
    return below;
}

size_t page_draft_separator(const struct page_draft *draft, unsigned at, uint8_t *key)
{
    uint8_t buffer[ENGINE_MAX_KEY];
    struct item item = draft_item(draft, at);
    struct slice whole = item_key(&item, buffer);
    size_t size = draft->inner ? whole.size : common_size(draft, at - 1, at) + 1;
    copy(key, whole.data, size);
    return size;
}

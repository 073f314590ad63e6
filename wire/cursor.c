#include "wire/cursor.h"

/* What an object begins with: its first byte and the length or count behind it. */
struct head {
    enum wire_type type;
    uint32_t size;   /* of the head itself, the type byte of an ext included */
    uint32_t number; /* array: elements; map: pairs; else bytes that follow the head */
};

/*
 * MessagePack's first bytes by range; the last one by the table below.
 *
 *     00..7f  the integers 0 to 127          a0..bf  str of 0 to 31 bytes
 *     80..8f  map of 0 to 15 pairs           c0..df  formats[]
 *     90..9f  array of 0 to 15 elements      e0..ff  the integers -32 to -1
 */
enum {
    FIRST_MAP = 0x80,
    FIRST_ARRAY = 0x90,
    FIRST_STR = 0xa0,
    FIRST_FORMAT = 0xc0,
    FIRST_SIGNED = 0xd0,
    FIRST_NEGATIVE = 0xe0,
    TRUE_BYTE = 0xc3,
    FLOAT_32_SIZE = 4,
    FIX_COUNT_MASK = 0x0f,
    FIX_LENGTH_MASK = 0x1f,
};

static const struct format {
    uint8_t type;
    uint8_t width;  /* bytes of the length or count behind the first byte */
    uint8_t number; /* head.number where width is 0 */
} formats[FIRST_NEGATIVE - FIRST_FORMAT] = {
    {WIRE_NIL, 0, 0},     {WIRE_NOTHING, 0, 0}, {WIRE_BOOL, 0, 0},    {WIRE_BOOL, 0, 0},
    {WIRE_BIN, 1, 0},     {WIRE_BIN, 2, 0},     {WIRE_BIN, 4, 0},     {WIRE_EXT, 1, 0},
    {WIRE_EXT, 2, 0},     {WIRE_EXT, 4, 0},     {WIRE_FLOAT, 0, 4},   {WIRE_FLOAT, 0, 8},
    {WIRE_INTEGER, 0, 1}, {WIRE_INTEGER, 0, 2}, {WIRE_INTEGER, 0, 4}, {WIRE_INTEGER, 0, 8},
    {WIRE_INTEGER, 0, 1}, {WIRE_INTEGER, 0, 2}, {WIRE_INTEGER, 0, 4}, {WIRE_INTEGER, 0, 8},
    {WIRE_EXT, 0, 1},     {WIRE_EXT, 0, 2},     {WIRE_EXT, 0, 4},     {WIRE_EXT, 0, 8},
    {WIRE_EXT, 0, 16},    {WIRE_STR, 1, 0},     {WIRE_STR, 2, 0},     {WIRE_STR, 4, 0},
    {WIRE_ARRAY, 2, 0},   {WIRE_ARRAY, 4, 0},   {WIRE_MAP, 2, 0},     {WIRE_MAP, 4, 0},
};

static size_t left(const struct wire_cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

static uint32_t big_endian_16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static uint32_t big_endian_32(const uint8_t *bytes)
{
    return big_endian_16(bytes) << 16 | big_endian_16(bytes + 2);
}

/* A big-endian number of 1, 2, 4 or 8 bytes. */
static inline uint64_t big_endian(const uint8_t *bytes, unsigned size)
{
    switch (size) {
    case 1:
        return bytes[0];
    case 2:
        return big_endian_16(bytes);
    case 4:
        return big_endian_32(bytes);
    default:
        return (uint64_t)big_endian_32(bytes) << 32 | big_endian_32(bytes + 4);
    }
}

/* Takes the head apart; nothing is said about what follows it. */
static inline bool parse_head(const struct wire_cursor *cursor, struct head *head)
{
    if (wire_at_end(cursor))
        return false;
    uint8_t first = *cursor->at;
    if (first < FIRST_MAP || first >= FIRST_NEGATIVE) {
        *head = (struct head){WIRE_INTEGER, 1, 0};
    } else if (first < FIRST_ARRAY) {
        *head = (struct head){WIRE_MAP, 1, first & FIX_COUNT_MASK};
    } else if (first < FIRST_STR) {
        *head = (struct head){WIRE_ARRAY, 1, first & FIX_COUNT_MASK};
    } else if (first < FIRST_FORMAT) {
        *head = (struct head){WIRE_STR, 1, first & FIX_LENGTH_MASK};
    } else {
        const struct format *format = &formats[first - FIRST_FORMAT];
        uint32_t size = 1U + format->width + (format->type == WIRE_EXT);
        if (format->type == WIRE_NOTHING || left(cursor) < size)
            return false;
        uint32_t number = format->number;
        if (format->width > 0)
            number = (uint32_t)big_endian(cursor->at + 1, format->width);
        *head = (struct head){format->type, size, number};
    }
    return true;
}

/* How many bytes must follow the head at least: each element takes one. */
static uint64_t least(const struct head *head)
{
    return head->type == WIRE_MAP ? 2 * (uint64_t)head->number : head->number;
}

/* A head, and what it announces can be there. */
static inline bool read_head(const struct wire_cursor *cursor, struct head *head)
{
    return parse_head(cursor, head) && least(head) <= left(cursor) - head->size;
}

static inline bool read_head_of(const struct wire_cursor *cursor, enum wire_type type,
                                struct head *head)
{
    return read_head(cursor, head) && head->type == type;
}

enum wire_type wire_peek(const struct wire_cursor *cursor)
{
    if (wire_at_end(cursor))
        return WIRE_NOTHING;
    uint8_t first = *cursor->at;
    if (first < FIRST_MAP || first >= FIRST_NEGATIVE)
        return WIRE_INTEGER;
    if (first < FIRST_ARRAY)
        return WIRE_MAP;
    if (first < FIRST_STR)
        return WIRE_ARRAY;
    return first < FIRST_FORMAT ? WIRE_STR : formats[first - FIRST_FORMAT].type;
}

int wire_read_nil(struct wire_cursor *cursor)
{
    if (wire_peek(cursor) != WIRE_NIL)
        return -1;
    cursor->at++;
    return 0;
}

int wire_read_bool(struct wire_cursor *cursor, bool *value)
{
    if (wire_peek(cursor) != WIRE_BOOL)
        return -1;
    *value = *cursor->at++ == TRUE_BYTE;
    return 0;
}

/* The value of an integer whose head is at `at` and whose body is complete. */
static inline wire_integer integer_at(const uint8_t *at, const struct head *head)
{
    if (head->number == 0)
        return *at < FIRST_MAP ? *at : (int8_t)*at;
    uint64_t bits = big_endian(at + head->size, head->number);
    if (*at < FIRST_SIGNED)
        return bits;
    unsigned unused = 64 - 8 * head->number;
    return (int64_t)(bits << unused) >> unused;
}

int wire_read_integer(struct wire_cursor *cursor, wire_integer *value)
{
    struct head head;
    if (!read_head_of(cursor, WIRE_INTEGER, &head))
        return -1;
    *value = integer_at(cursor->at, &head);
    cursor->at += head.size + head.number;
    return 0;
}

int wire_read_uint(struct wire_cursor *cursor, uint64_t *value)
{
    struct head head;
    if (!read_head_of(cursor, WIRE_INTEGER, &head))
        return -1;
    wire_integer integer = integer_at(cursor->at, &head);
    if (integer < 0)
        return -1;
    *value = (uint64_t)integer;
    cursor->at += head.size + head.number;
    return 0;
}

int wire_read_float(struct wire_cursor *cursor, double *value)
{
    struct head head;
    if (!read_head_of(cursor, WIRE_FLOAT, &head))
        return -1;
    uint64_t bits = big_endian(cursor->at + head.size, head.number);
    if (head.number == FLOAT_32_SIZE) {
        uint32_t narrow_bits = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &narrow_bits, sizeof(narrow));
        *value = narrow;
    } else {
        memcpy(value, &bits, sizeof(*value));
    }
    cursor->at += head.size + head.number;
    return 0;
}

static int read_body(struct wire_cursor *cursor, const struct head *head, struct slice *bytes)
{
    *bytes = slice_of(cursor->at + head->size, head->number);
    cursor->at += head->size + (size_t)head->number;
    return 0;
}

int wire_read_str(struct wire_cursor *cursor, struct slice *bytes)
{
    struct head head;
    return read_head_of(cursor, WIRE_STR, &head) ? read_body(cursor, &head, bytes) : -1;
}

int wire_read_bin(struct wire_cursor *cursor, struct slice *bytes)
{
    struct head head;
    return read_head_of(cursor, WIRE_BIN, &head) ? read_body(cursor, &head, bytes) : -1;
}

int wire_read_bytes(struct wire_cursor *cursor, struct slice *bytes)
{
    struct head head;
    if (!read_head(cursor, &head) || (head.type != WIRE_STR && head.type != WIRE_BIN))
        return -1;
    return read_body(cursor, &head, bytes);
}

int wire_read_ext(struct wire_cursor *cursor, int *type, struct slice *bytes)
{
    struct head head;
    if (!read_head_of(cursor, WIRE_EXT, &head))
        return -1;
    uint8_t byte = cursor->at[head.size - 1];
    *type = byte < FIRST_MAP ? byte : byte - 256;
    return read_body(cursor, &head, bytes);
}

static int read_count(struct wire_cursor *cursor, enum wire_type type, uint32_t *count)
{
    struct head head;
    if (!read_head_of(cursor, type, &head))
        return -1;
    cursor->at += head.size;
    *count = head.number;
    return 0;
}

int wire_read_array(struct wire_cursor *cursor, uint32_t *count)
{
    return read_count(cursor, WIRE_ARRAY, count);
}

int wire_read_map(struct wire_cursor *cursor, uint32_t *count)
{
    return read_count(cursor, WIRE_MAP, count);
}

int wire_read_envelope(struct wire_cursor *cursor, uint32_t *count)
{
    struct head head;
    if (!parse_head(cursor, &head) || head.type != WIRE_ARRAY)
        return -1;
    cursor->at += head.size;
    *count = head.number;
    return 0;
}

static inline bool is_nested(const struct head *head)
{
    return head->type == WIRE_ARRAY || head->type == WIRE_MAP;
}

/*
 * Moves over `count` objects. The recursion is as deep as max_depth, which callers choose; the
 * time is linear in the bytes, since each element moves on by one or ends the loop.
 */
static int skip(struct wire_cursor *cursor, uint64_t count, unsigned max_depth, bool *deep)
{
    for (; count > 0; count--) {
        struct head head;
        if (!read_head(cursor, &head))
            return -1;
        cursor->at += head.size;
        if (!is_nested(&head)) {
            cursor->at += head.number;
            continue;
        }
        if (max_depth == 0) {
            *deep = true;
            return -1;
        }
        if (skip(cursor, least(&head), max_depth - 1, deep) != 0)
            return -1;
    }
    return 0;
}

int wire_read_object(struct wire_cursor *cursor, unsigned max_depth, struct slice *object,
                     bool *deep)
{
    bool ignored;
    struct head head;
    if (deep == NULL)
        deep = &ignored;
    *deep = false;
    if (!read_head(cursor, &head))
        return -1;
    if (!is_nested(&head)) { /* as most are */
        *object = slice_of(cursor->at, head.size + (size_t)head.number);
        cursor->at += object->size;
        return 0;
    }
    struct wire_cursor next = *cursor;
    if (skip(&next, 1, max_depth, deep) != 0)
        return -1;
    *object = slice_of(cursor->at, (size_t)(next.at - cursor->at));
    *cursor = next;
    return 0;
}

/*
 * The forms of RFC 3629 by first byte: how many bytes follow, and the range of the second one,
 * which excludes overlong forms, surrogates and what is beyond U+10FFFF. All others are 80..bf.
 */
static const struct form {
    uint8_t first, last;
    uint8_t following;
    uint8_t second_first, second_last;
} forms[] = {
    {0x00, 0x7f, 0, 0x00, 0xff}, {0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf},
    {0xe1, 0xec, 2, 0x80, 0xbf}, {0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf},
    {0xf0, 0xf0, 3, 0x90, 0xbf}, {0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

static const struct form *form_of(uint8_t first)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (first >= forms[i].first && first <= forms[i].last)
            return &forms[i];
    }
    return NULL;
}

/* The size of the character at `at`, or 0 where there is none. */
static size_t character_size(const uint8_t *at, const uint8_t *end)
{
    const struct form *form = form_of(*at);
    if (form == NULL || (size_t)(end - at) <= form->following)
        return 0;
    if (form->following > 0 && (at[1] < form->second_first || at[1] > form->second_last))
        return 0;
    for (size_t i = 2; i <= form->following; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return 1U + form->following;
}

/* Keys are mostly ASCII: eight bytes at a time as long as no top bit is set. */
static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        if ((word & UINT64_C(0x8080808080808080)) != 0)
            break;
        at += sizeof(word);
    }
    while (at < end && *at < 0x80)
        at++;
    return at;
}

bool wire_is_utf8(struct slice bytes)
{
    if (bytes.size == 0)
        return true;
    const uint8_t *at = bytes.data;
    const uint8_t *end = bytes.data + bytes.size;
    while ((at = skip_ascii(at, end)) < end) {
        size_t size = character_size(at, end);
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

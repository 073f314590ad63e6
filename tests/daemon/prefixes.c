/* The set of prefixes, against a plain array of them. */
#include "daemon/prefixes.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

enum { MANY = 200, STEPS = 20000, MAX_SIZE = 12 };

static unsigned draw(unsigned *state, unsigned below)
{
    *state = *state * 1664525 + 1013904223;
    return (*state >> 8) % below;
}

/* Of two letters, so that many begin with others. */
static struct slice draw_bytes(unsigned *state, uint8_t bytes[MAX_SIZE])
{
    size_t size = draw(state, MAX_SIZE);
    for (size_t i = 0; i < size; i++)
        bytes[i] = draw(state, 2) != 0 ? 'a' : 'b';
    return slice_of(bytes, size);
}

struct kept {
    size_t size;
    unsigned count;
    uint8_t bytes[MAX_SIZE];
};

static struct kept *keep(struct kept *kept, struct slice bytes)
{
    struct kept *unused = NULL;
    for (struct kept *one = kept; one < kept + MANY; one++) {
        if (one->count > 0 && slice_equal(slice_of(one->bytes, one->size), bytes))
            return one;
        if (one->count == 0)
            unused = one;
    }
    if (unused != NULL) {
        memcpy(unused->bytes, bytes.data, bytes.size);
        unused->size = bytes.size;
    }
    return unused;
}

static void check_walk(const struct prefixes *set, const struct kept *kept, struct slice bytes)
{
    struct prefix_walk walk = prefixes_walk(set, bytes);
    unsigned expected = 0;
    unsigned found = 0;
    size_t longest = 0;
    for (const struct kept *one = kept; one < kept + MANY; one++)
        expected += one->count > 0 && slice_has_prefix(bytes, slice_of(one->bytes, one->size));
    for (struct prefix *prefix; (prefix = prefixes_next(&walk)) != NULL; found++) {
        cr_assert(slice_has_prefix(bytes, slice_of(prefix->bytes, prefix->size)));
        cr_assert(found == 0 || prefix->size > longest);
        longest = prefix->size;
    }
    cr_assert_eq(found, expected);
}

Test(prefixes, a_walk_finds_those_that_a_plain_array_finds)
{
    struct prefixes set;
    struct kept kept[MANY] = {{.count = 0}};
    const char *given = getenv("CUBBY_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    fprintf(stderr, "CUBBY_SEED=%u\n", seed);
    prefixes_init(&set, seed);
    for (unsigned step = 0; step < STEPS; step++) {
        uint8_t bytes[MAX_SIZE];
        struct slice drawn = draw_bytes(&seed, bytes);
        struct kept *one = keep(kept, drawn);
        struct prefix *there = prefixes_find(&set, drawn);
        cr_assert_eq(there != NULL ? there->count : 0, one != NULL ? one->count : 0);
        if (one != NULL && draw(&seed, 2) != 0) {
            cr_assert_not_null(prefixes_add(&set, drawn));
            one->count++;
        } else if (there != NULL) {
            prefixes_remove(&set, there);
            one->count--;
        }
        check_walk(&set, kept, draw_bytes(&seed, bytes));
    }
    prefixes_free(&set);
}

Test(prefixes, the_empty_one_is_a_prefix_of_everything)
{
    struct prefixes set;
    prefixes_init(&set, 1);
    struct prefix *all = prefixes_add(&set, slice_of(NULL, 0));
    struct prefix_walk walk = prefixes_walk(&set, slice_of_text("key"));
    cr_assert_eq(prefixes_next(&walk), all);
    cr_assert_null(prefixes_next(&walk));
    walk = prefixes_walk(&set, slice_of_text(""));
    cr_assert_eq(prefixes_next(&walk), all);
    prefixes_remove(&set, all);
    walk = prefixes_walk(&set, slice_of_text("key"));
    cr_assert_null(prefixes_next(&walk));
    cr_assert_eq(set.count + set.length_count, 0);
    prefixes_free(&set);
}

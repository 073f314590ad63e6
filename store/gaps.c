#include "store/gaps.h"

static bool is_in(const struct gap *gap, struct slice key)
{
    return gap->used != 0 && slice_compare(table_key_whole(&gap->low), key) <= 0 &&
           slice_compare(key, table_key_whole(&gap->high)) < 0;
}

static unsigned find(const struct gaps *gaps, struct slice key)
{
    unsigned at = 0;
    while (at < GAPS && !is_in(&gaps->gap[at], key))
        at++;
    return at;
}

const struct table_key *gaps_skip(const struct gaps *gaps, const struct table_key *key)
{
    unsigned at = find(gaps, table_key_whole(key));
    return at < GAPS ? &gaps->gap[at].high : NULL;
}

static struct gap *oldest(struct gaps *gaps)
{
    struct gap *found = &gaps->gap[0];
    for (unsigned i = 1; i < GAPS; i++)
        if (gaps->gap[i].used < found->used)
            found = &gaps->gap[i];
    return found;
}

void gaps_note(struct gaps *gaps, const struct table_key *low, const struct table_key *high)
{
    if (slice_compare(table_key_whole(low), table_key_whole(high)) >= 0)
        return;
    unsigned at = find(gaps, table_key_whole(low));
    struct gap *gap = at < GAPS ? &gaps->gap[at] : oldest(gaps);
    if (at == GAPS)
        gap->low = *low;
    gap->high = *high;
    gap->used = ++gaps->uses;
}

void gaps_cut(struct gaps *gaps, const struct table_key *key)
{
    for (unsigned at; (at = find(gaps, table_key_whole(key))) < GAPS;) {
        struct gap *gap = &gaps->gap[at];
        gap->high = *key;
        if (slice_equal(table_key_whole(&gap->low), table_key_whole(key)))
            gap->used = 0;
    }
}

/*
 * Whether entries of a state can be what the store wrote: for an engine whose files have no
 * checksums, and for what checksums do not see.
 */
#ifndef STORE_ENTRY_CHECK_H
#define STORE_ENTRY_CHECK_H

#include "store/inspect.h"
#include "store/latest.h"

enum {
    ENTRY_SHOWN_KEY = 64, /* bytes of a key in a sentence */
    ENTRY_SHOWN_SIZE = 4 * ENTRY_SHOWN_KEY + 4,
};

/* The name of a table, for a person; NULL where the store has no such table. */
const char *store_table_name(unsigned table);

/* The key for a sentence: what is printable of it as it is, the rest in hex. */
void entry_show_key(struct slice key, char text[ENTRY_SHOWN_SIZE]);

/* Remembers the entry before. Begins as all zeros. */
struct entry_check {
    bool any;
    unsigned table;
    size_t size;
    uint8_t key[ENGINE_MAX_KEY];
};

/* Whether the entry is within its limits and comes behind the one before, by table and key. */
bool entry_check_order(struct entry_check *check, unsigned table, struct slice key);

/* Whether both are within the limits of engines. Bytes beyond may not be there to be read. */
bool entry_check_size(struct slice key, struct slice value);

/* What an entry of the state has to be besides what keys.c would have written. */
struct entry_rules {
    uint64_t seq; /* the newest: of the state */
    store_value_fn *is_value;
};

/* What is wrong with what is stored of a key, a part of a sentence that lives for ever; or NULL. */
const char *entry_fault(const struct entry_rules *rules, struct slice key, struct slice stored);

/*
 * Whether the entry is one that keys.c would have written and the rules allow, and the key and its
 * expiry in the engine agree. If not, a sentence says what is wrong (STORE_MAX_ERROR_MESSAGE).
 */
bool entry_check_form(struct engine *engine, const struct entry_rules *rules, unsigned table,
                      struct slice key, struct slice value, char *sentence);

/*
 * The same for what the log wrote over a base that is good: `now` is in the overlay of `latest`,
 * and what it stands for agrees with the rest.
 */
bool entry_check_written(struct latest *latest, const struct entry_rules *rules, unsigned table,
                         const struct overlay_entry *now, char *sentence);

#endif

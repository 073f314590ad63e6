#include "store/entry_check.h"

#include <stdio.h>

#include "store/keys.h"

static const char *const table_names[STORE_TABLES] = {
    [STORE_KEYS] = "keys",
    [STORE_EXPIRY] = "expiry",
    [STORE_META] = "meta",
    [STORE_QUEUES] = "queues",
    [STORE_JOBS] = "jobs that moved",
    [STORE_BODIES] = "jobs",
    [STORE_LISTS] = "places in lists",
    [STORE_DEDUP] = "ids of producers",
};

const char *store_table_name(unsigned table)
{
    if (table >= STORE_TABLES)
        return NULL;
    return table_names[table] != NULL ? table_names[table] : "without a name";
}

bool entry_check_order(struct entry_check *check, unsigned table, struct slice key)
{
    struct slice before = slice_of(check->key, check->size);
    bool later = !check->any || table > check->table ||
                 (table == check->table && slice_compare(key, before) > 0);
    if (!later || key.size > sizeof check->key)
        return false;
    check->any = true;
    check->table = table;
    check->size = key.size;
    if (key.size > 0)
        memcpy(check->key, key.data, key.size);
    return true;
}

void entry_show_key(struct slice key, char text[ENTRY_SHOWN_SIZE])
{
    char *at = text;
    for (size_t i = 0; i < key.size && i < ENTRY_SHOWN_KEY; i++) {
        bool plain = key.data[i] > ' ' && key.data[i] < 0x7f && key.data[i] != '\\';
        at += sprintf(at, plain ? "%c" : "\\x%02x", key.data[i]);
    }
    strcpy(at, key.size > ENTRY_SHOWN_KEY ? "..." : "");
}

static bool fail(const struct engine *engine, unsigned table, struct slice key, const char *what,
                 char *sentence)
{
    char text[ENTRY_SHOWN_SIZE];
    entry_show_key(key, text);
    snprintf(sentence, STORE_MAX_ERROR_MESSAGE, "%s is damaged: in table %s, %s: %s",
             engine->methods->name, store_table_name(table), text, what);
    return false;
}

const char *entry_fault(const struct entry_rules *rules, struct slice key, struct slice stored)
{
    struct keys_entry entry;
    if (key.size == 0 || key.size > KEYS_MAX_KEY)
        return "not the size of a key";
    if (keys_decode(stored, &entry) != 0)
        return "what is stored is no entry";
    if (entry.version == 0 || entry.version > rules->seq)
        return "its version is newer than the state";
    if (rules->is_value != NULL && !rules->is_value(entry.value))
        return "its value is none: it is not one whole MessagePack object";
    return NULL;
}

static bool check_key(struct engine *engine, const struct entry_rules *rules, struct slice key,
                      struct slice value, char *sentence)
{
    uint8_t buffer[KEYS_MAX_EXPIRY_KEY];
    struct keys_entry entry;
    struct slice found;
    const char *fault = entry_fault(rules, key, value);
    if (fault != NULL)
        return fail(engine, STORE_KEYS, key, fault, sentence);
    (void)keys_decode(value, &entry);
    if (entry.expires_at_ms == 0)
        return true;
    struct slice index = keys_expiry_key(buffer, entry.expires_at_ms, key);
    if (engine->methods->get(engine, STORE_EXPIRY, index, &found) == 0)
        return true;
    return fail(engine, STORE_KEYS, key, "the index of expiries lacks it", sentence);
}

static bool check_expiry(struct engine *engine, struct slice index, struct slice value,
                         char *sentence)
{
    struct keys_entry entry;
    struct slice key;
    struct slice stored;
    uint64_t expires_at_ms;
    if (keys_read_expiry_key(index, &expires_at_ms, &key) != 0 || value.size != 0)
        return fail(engine, STORE_EXPIRY, index, "no entry of the index of expiries", sentence);
    if (engine->methods->get(engine, STORE_KEYS, key, &stored) == 0 &&
        keys_decode(stored, &entry) == 0 && entry.expires_at_ms == expires_at_ms)
        return true;
    return fail(engine, STORE_EXPIRY, index, "no key expires then", sentence);
}

bool entry_check_size(struct slice key, struct slice value)
{
    return key.size <= ENGINE_MAX_KEY && value.size <= ENGINE_MAX_VALUE;
}

bool entry_check_form(struct engine *engine, const struct entry_rules *rules, unsigned table,
                      struct slice key, struct slice value, char *sentence)
{
    if (store_table_name(table) != NULL && !entry_check_size(key, value))
        return fail(engine, table, key, "it is larger than any entry", sentence);
    if (table == STORE_KEYS)
        return check_key(engine, rules, key, value, sentence);
    if (table == STORE_EXPIRY)
        return check_expiry(engine, key, value, sentence);
    if (store_table_name(table) != NULL)
        return true;
    snprintf(sentence, STORE_MAX_ERROR_MESSAGE, "%s is damaged: there is no table %u",
             engine->methods->name, table);
    return false;
}

/* The key was written or deleted: what the base says of when it expires is gone with that. */
static bool check_replaced(struct latest *latest, struct slice key, uint64_t expires_at_ms,
                           char *sentence)
{
    uint8_t buffer[KEYS_MAX_EXPIRY_KEY];
    struct engine *base = latest->base;
    struct keys_entry old;
    struct slice stored;
    if (base == NULL || base->methods->get(base, STORE_KEYS, key, &stored) != 0 ||
        keys_decode(stored, &old) != 0 || old.expires_at_ms == 0 ||
        old.expires_at_ms == expires_at_ms)
        return true;
    struct slice index = keys_expiry_key(buffer, old.expires_at_ms, key);
    if (latest->engine.methods->get(&latest->engine, STORE_EXPIRY, index, &stored) != 0)
        return true;
    return fail(&latest->engine, STORE_EXPIRY, index, "no key expires then", sentence);
}

/* The expiry was taken from the index: the key must not say that it expires then. */
static bool check_expiry_gone(struct latest *latest, struct slice index, char *sentence)
{
    struct keys_entry entry;
    struct slice key;
    struct slice stored;
    uint64_t expires_at_ms;
    if (keys_read_expiry_key(index, &expires_at_ms, &key) != 0 ||
        latest->engine.methods->get(&latest->engine, STORE_KEYS, key, &stored) != 0 ||
        keys_decode(stored, &entry) != 0 || entry.expires_at_ms != expires_at_ms)
        return true;
    return fail(&latest->engine, STORE_KEYS, key, "the index of expiries lacks it", sentence);
}

bool entry_check_written(struct latest *latest, const struct entry_rules *rules, unsigned table,
                         const struct overlay_entry *now, char *sentence)
{
    struct keys_entry entry = {0};
    if (table == STORE_EXPIRY && now->deleted)
        return check_expiry_gone(latest, now->key, sentence);
    if (!now->deleted &&
        !entry_check_form(&latest->engine, rules, table, now->key, now->value, sentence))
        return false;
    if (table != STORE_KEYS)
        return true;
    if (!now->deleted)
        (void)keys_decode(now->value, &entry);
    return check_replaced(latest, now->key, entry.expires_at_ms, sentence);
}

#include "bindings/cli/commands.h"
#include "bindings/cli/json.h"

enum { PAGE = 1000 };

static struct cubby_range range_of(const struct session *session)
{
    return (struct cubby_range){.prefix = session_text(session, OPTION_PREFIX),
                                .start = session_text(session, OPTION_START),
                                .end = session_text(session, OPTION_END)};
}

static uint32_t page_of(uint64_t left)
{
    return left < PAGE ? (uint32_t)left : PAGE;
}

/* [key, value, version, expires_at], or the key alone. */
static void print_entry_json(struct session *session, const struct cubby_entry *entry)
{
    if (entry->value.data == NULL) {
        json_print_key(&session->out, session_slice(entry->key));
        return;
    }
    session_print_text(session, "[");
    json_print_key(&session->out, session_slice(entry->key));
    session_print_text(session, ",");
    session_print_json(session, entry->value);
    session_print_text(session, ",");
    session_print_number(session, entry->version);
    session_print_text(session, ",");
    if (entry->expires_at_ms == 0)
        session_print_text(session, "null");
    else
        session_print_number(session, entry->expires_at_ms);
    session_print_text(session, "]");
}

static void print_entry(struct session *session, const struct cubby_entry *entry)
{
    if (session_given(session, OPTION_JSON)) {
        print_entry_json(session, entry);
    } else {
        session_print_key(session, entry->key);
        session_print_text(session, entry->value.data != NULL ? "\t" : "");
        if (entry->value.data != NULL)
            session_print_json(session, entry->value);
    }
    session_print_text(session, "\n");
}

static enum status print_page(struct session *session, const struct cubby_page *page)
{
    for (size_t i = 0; i < page->count; i++)
        print_entry(session, &page->entries[i]);
    return session_write(session);
}

/* Each page is consistent in itself; keys that change between two pages may be seen either way. */
enum status command_scan(struct session *session)
{
    struct cubby_range range = range_of(session);
    struct cubby_scan_options options = {.after = session_text(session, OPTION_AFTER),
                                         .reverse = session_given(session, OPTION_REVERSE),
                                         .keys_only = session_given(session, OPTION_KEYS_ONLY)};
    uint64_t left = arguments_number(session->arguments, OPTION_LIMIT, UINT64_MAX);
    struct cubby_page *last = NULL;
    enum status status = STATUS_OK;
    for (bool more = left > 0; more && status == STATUS_OK;) {
        struct cubby_page *page;
        options.limit = page_of(left);
        if (cubby_scan(session->cubby, &range, &page, &options) != CUBBY_OK) {
            status = session_fail(session);
            break;
        }
        cubby_page_free(&last); /* only now: `after` points into it */
        last = page;
        status = print_page(session, page);
        left -= page->count;
        more = page->more && left > 0;
        options.after = page->next;
    }
    cubby_page_free(&last);
    return status;
}

enum status command_count(struct session *session)
{
    struct cubby_range range = range_of(session);
    uint64_t count;
    if (cubby_count(session->cubby, &range, &count, NULL) != CUBBY_OK)
        return session_fail(session);
    session_print_number(session, count);
    session_print_text(session, "\n");
    return session_write(session);
}

static void print_deleted(struct session *session, uint64_t deleted, bool more)
{
    bool json = session_given(session, OPTION_JSON);
    session_print_text(session, json ? "{\"deleted\":" : "");
    session_print_number(session, deleted);
    if (json)
        session_print_text(session, more ? ",\"more\":true}" : ",\"more\":false}");
    session_print_text(session, "\n");
}

enum status command_delete_range(struct session *session)
{
    struct cubby_range range = range_of(session);
    struct cubby_range_deleted deleted = {.more = true};
    uint64_t left = arguments_number(session->arguments, OPTION_LIMIT, UINT64_MAX);
    uint64_t sum = 0;
    while (deleted.more && left > 0) {
        const struct cubby_delete_range_options options = {.limit = page_of(left)};
        if (cubby_delete_range(session->cubby, &range, &deleted, &options) != CUBBY_OK)
            return session_fail(session);
        sum += deleted.deleted;
        left -= deleted.deleted;
    }
    print_deleted(session, sum, deleted.more);
    return session_write(session);
}

#include <stdio.h>

#include "bindings/c/copy.h"
#include "tests/bindings/fixture.h"
#include "tests/bindings/script.h"

#include <criterion/criterion.h>

/* What a mirror asks for, what its copy holds, and what it tells. */

static struct script script;
static struct cubby_mirror *mirror;

/* What was told, as text: "+a +b live(5) -a ". */
static char told[1024];
static unsigned events;
static unsigned close_after;

TestSuite(mirrors, .init = start, .fini = stop);

#define HELLO(epoch)                                                                               \
    "{\"server\":\"s\",\"version\":\"1\",\"epoch\":\"" epoch "\",\"protocol\":1,\"seq\":9,"        \
    "\"oldest\":1,\"time\":1,\"limits\":{\"max_key\":1,\"max_value\":1,\"max_message\":1,"         \
    "\"max_batch\":1}}"
#define SCANNED(entries, next, seq) "{\"entries\":[" entries "],\"next\":" next ",\"seq\":" #seq "}"
#define ENTRY(key, value, version)  "[\"" key "\"," #value "," #version ",null]"
#define OPENED(id, epoch, seq)      "{\"watch\":" #id ",\"epoch\":\"" epoch "\",\"seq\":" #seq "}"
#define PAGE(id, from, to, rows)    "[2,\"watch\",[" #id "," #from "," #to ",[" rows "]]]"
#define PUT(seq, key, value)        "[" #seq ",0,1,\"put\",\"" key "\"," #value ",null]"
#define GONE(seq, key, kind)        "[" #seq ",0,1,\"" kind "\",\"" key "\",null,null]"
#define FROM(seq, epoch)                                                                           \
    "watch [{\"prefix\":\"\",\"since\":" #seq ",\"credit\":32,\"epoch\":\"" epoch "\"}]"
#define SCAN "scan [{\"prefix\":\"\"}]"

static void say(const char *format, const char *bytes, size_t size, uint64_t number)
{
    size_t used = strlen(told);
    snprintf(told + used, sizeof(told) - used, format, (int)size, bytes, (unsigned)number);
    if (++events == close_after)
        cubby_mirror_close(&mirror);
}

static void hear_change(void *context, const struct cubby_change *change)
{
    (void)context;
    say(change->kind == CUBBY_PUT ? "+%.*s " : "-%.*s ", change->key.data, change->key.size, 0);
}

static void hear_anew(void *context, const struct cubby_position *position)
{
    (void)context;
    say("anew(%.*s,%u) ", position->epoch.data, position->epoch.size, position->seq);
}

static void hear_live(void *context, const struct cubby_position *position)
{
    (void)context;
    say("live(%.*s,%u) ", position->epoch.data, position->epoch.size, position->seq);
}

static void hear_error(void *context, const struct cubby_error *error)
{
    (void)context;
    say("error(%.*s) ", error->code, strlen(error->code), 0);
}

static void open_mirror(const struct cubby_mirror_options *options)
{
    static const struct cubby_mirror_events hearer = {hear_change, hear_anew, hear_live,
                                                      hear_error};
    cr_assert_eq(cubby_mirror_open(cubby, cubby_text(""), &hearer, NULL, &mirror, options),
                 CUBBY_OK);
}

static void expect_told(const char *expected)
{
    int64_t until = peer_now_ms() + PEER_WAIT_MS;
    while (strlen(told) < strlen(expected) && peer_now_ms() < until)
        cubby_poll(cubby, 50);
    cr_assert_str_eq(told, expected);
    told[0] = 0;
}

/* The copy, as text: "a=1 b=2 ", with the values' first bytes. */
static void expect_copy(const char *expected)
{
    char text[256] = "";
    struct cubby_entry entry = {.key = {0}};
    size_t count = 0;
    for (; cubby_mirror_next(mirror, entry.key, &entry); count++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s=%u ", (int)entry.key.size,
                 (const char *)entry.key.data, *(const uint8_t *)entry.value.data);
    cr_assert_str_eq(text, expected);
    cr_assert_eq(cubby_mirror_count(mirror), count);
}

Test(mirrors, a_copy_is_scanned_page_by_page_and_then_watched_from_the_first_pages_seq)
{
    struct cubby_entry entry;
    PLAY({"hello []", HELLO("e"), {0}},
         {SCAN, SCANNED(ENTRY("a", 1, 2) "," ENTRY("b", 2, 5), "\"b\"", 5), {0}},
         {"scan [{\"prefix\":\"\",\"after\":\"b\"}]", SCANNED(ENTRY("c", 3, 7), "null", 7), {0}},
         {FROM(5, "e"),
          OPENED(1, "e", 8),
          {PAGE(1, 5, 7, PUT(6, "c", 9) "," PUT(7, "c", 3)), PAGE(1, 7, 8, GONE(8, "a", "expire")),
           PAGE(1, 8, 9, PUT(9, "d", 4))}});
    open_mirror(NULL);
    cr_assert_not(cubby_mirror_position(mirror).live);
    expect_told("+a +b +c -a live(e,8) +d ");
    expect_copy("b=2 c=3 d=4 ");
    cr_assert(cubby_mirror_get(mirror, cubby_text("c"), &entry));
    cr_assert_eq(entry.version, 7);
    cr_assert_not(cubby_mirror_get(mirror, cubby_text("a"), &entry));
    cr_assert_eq(cubby_mirror_position(mirror).seq, 9);
    script_end(&script);
}

Test(mirrors, a_change_that_is_older_than_what_the_scan_found_is_passed_over)
{
    PLAY({"hello []", HELLO("e"), {0}}, {SCAN, SCANNED(ENTRY("a", 1, 2), "\"a\"", 3), {0}},
         {"scan [{\"prefix\":\"\",\"after\":\"a\"}]", SCANNED(ENTRY("b", 2, 9), "null", 9), {0}},
         {FROM(3, "e"),
          OPENED(1, "e", 9),
          {PAGE(1, 3, 9, PUT(4, "b", 7) "," GONE(5, "b", "delete") "," PUT(9, "b", 2))}});
    open_mirror(NULL);
    expect_told("+a +b live(e,9) ");
    expect_copy("a=1 b=2 ");
    script_end(&script);
}

Test(mirrors, another_epoch_makes_it_anew_and_only_differences_are_told)
{
    PLAY(
        {"hello []", HELLO("e"), {0}},
        {SCAN,
         SCANNED(ENTRY("a", 1, 1) "," ENTRY("b", 2, 2) "," ENTRY("d", 4, 3) "," ENTRY("e", 5, 3),
                 "null", 3),
         {0}},
        {FROM(3, "e"),
         OPENED(1, "e", 3),
         {"[2,\"watch.end\",[1,[\"compacted\",\"gone\",{\"oldest\":7,\"seq\":9}]]]"}},
        {"hello []", HELLO("f"), {0}},
        {SCAN, SCANNED(ENTRY("b", 2, 2) "," ENTRY("c", 3, 3) "," ENTRY("d", 5, 8), "null", 9), {0}},
        {FROM(9, "f"), OPENED(2, "f", 9), {0}});
    open_mirror(NULL);
    expect_told("+a +b +d +e live(e,3) anew(e,3) -a +c +d -e live(f,9) ");
    expect_copy("b=2 c=3 d=5 ");
    script_end(&script);
}

Test(mirrors, one_that_was_kept_elsewhere_goes_on_where_it_was)
{
    const struct cubby_mirror_options options = {
        .has_since = true, .since = 4, .epoch = cubby_text("e")};
    struct cubby_entry entry = {
        .key = cubby_text("b"), .value = cubby_data("\x02", 1), .version = 2};
    open_mirror(&options);
    cr_assert_eq(cubby_mirror_load(mirror, &entry), CUBBY_OK);
    entry.key = cubby_text("a");
    cr_assert_eq(cubby_mirror_load(mirror, &entry), CUBBY_OK);
    entry.value = cubby_data("\x92", 1);
    cr_assert_eq(cubby_mirror_load(mirror, &entry), CUBBY_MISUSE);
    PLAY({FROM(4, "e"), OPENED(1, "e", 6), {PAGE(1, 4, 6, PUT(5, "c", 3) "," PUT(6, "b", 7))}});
    expect_told("+c +b live(e,6) ");
    expect_copy("a=2 b=7 c=3 ");
    entry.value = cubby_data("\x02", 1);
    cr_assert_eq(cubby_mirror_load(mirror, &entry), CUBBY_MISUSE, "too late");
    script_end(&script);
}

Test(mirrors, one_that_was_kept_elsewhere_for_too_long_is_made_anew)
{
    const struct cubby_mirror_options options = {
        .has_since = true, .since = 4, .epoch = cubby_text("e")};
    const struct cubby_entry entry = {
        .key = cubby_text("x"), .value = cubby_data("\x02", 1), .version = 2};
    open_mirror(&options);
    cubby_mirror_load(mirror, &entry);
    PLAY({FROM(4, "e"), "!compacted", {0}}, {"hello []", HELLO("f"), {0}},
         {SCAN, SCANNED("", "null", 1), {0}}, {FROM(1, "f"), OPENED(1, "f", 1), {0}});
    expect_told("anew(e,4) -x live(f,1) ");
    expect_copy("");
    script_end(&script);
}

Test(mirrors, a_lost_watch_is_opened_again_where_it_was)
{
    PLAY({"hello []", HELLO("e"), {0}}, {SCAN, SCANNED("", "null", 1), {0}},
         {FROM(1, "e"), OPENED(1, "e", 1), {PAGE(1, 1, 2, PUT(2, "a", 1)), PAGE(1, 3, 4, "")}},
         {"watch.cancel [1]", NULL, {0}},
         {FROM(2, "e"), OPENED(2, "e", 4), {PAGE(2, 2, 4, PUT(3, "b", 2))}});
    open_mirror(NULL);
    expect_told("live(e,1) +a +b live(e,4) ");
    script_end(&script);
}

Test(mirrors, a_refusal_is_told_and_asked_again)
{
    PLAY({"hello []", "!unavailable", {0}}, {"hello []", HELLO("e"), {0}}, {SCAN, "!busy", {0}},
         {SCAN, SCANNED(ENTRY("a", 1, 1), "null", 1), {0}}, {FROM(1, "e"), "!forbidden", {0}},
         {FROM(1, "e"), OPENED(1, "e", 1), {0}});
    open_mirror(NULL);
    expect_told("error(unavailable) error(busy) +a error(forbidden) live(e,1) ");
    script_end(&script);
}

Test(mirrors, one_may_be_closed_from_its_own_callbacks)
{
    for (close_after = 1; close_after <= 4; close_after++) {
        static const struct script_step steps[] = {
            {"hello []", HELLO("e"), {0}},
            {SCAN, SCANNED(ENTRY("a", 1, 1) "," ENTRY("b", 1, 1), "null", 1), {0}},
            {FROM(1, "e"),
             OPENED(1, "e", 2),
             {PAGE(1, 1, 2, PUT(2, "c", 1) "," PUT(2, "d", 1)), PAGE(1, 2, 3, PUT(3, "e", 1))}}};
        events = 0;
        told[0] = 0;
        script_start(&script, &peer, steps, close_after <= 2 ? 2 : 3);
        open_mirror(NULL);
        while (mirror != NULL)
            cubby_poll(cubby, 50);
        while (cubby_poll(cubby, 20) > 0)
            ;
        cr_assert_eq(events, close_after, "%s", told);
        script_end(&script);
        stop();
        start();
    }
}

/* ---- The copy itself ------------------------------------------------------------------------ */

enum { KEYS = 500, ROUNDS = 20000 };

static struct cubby_entry entry_of(char *key, unsigned number, uint64_t version)
{
    int size = snprintf(key, 16, "%u", number);
    return (struct cubby_entry){
        .key = cubby_data(key, (size_t)size), .value = cubby_data("\x01", 1), .version = version};
}

/* Against an array of versions, 0 for absent; walking gives every key once, in order. */
static void check_copy(const struct copy *copy, const uint64_t *versions)
{
    const struct cubby_entry *entry = copy_next(copy, cubby_data(NULL, 0));
    struct cubby_bytes last = {0};
    size_t present = 0, walked = 0;
    char key[16];
    for (unsigned i = 0; i < KEYS; i++) {
        struct cubby_entry expected = entry_of(key, i, versions[i]);
        const struct cubby_entry *found = copy_find(copy, expected.key);
        present += versions[i] != 0;
        cr_assert_eq(found != NULL ? found->version : 0, versions[i]);
    }
    for (; entry != NULL; entry = copy_next(copy, entry->key), walked++) {
        cr_assert_lt(slice_compare(slice_of(last.data, last.size),
                                   slice_of(entry->key.data, entry->key.size)),
                     0);
        last = entry->key;
    }
    cr_assert_eq(copy->count, present);
    cr_assert_eq(walked, present);
}

Test(copy, finds_replaces_removes_and_walks_as_an_array_would)
{
    struct copy copy = {0};
    uint64_t versions[KEYS] = {0};
    uint64_t random = 1;
    char key[16];
    cr_assert_null(copy_next(&copy, cubby_text("a")));
    cr_assert_not(copy_remove(&copy, cubby_text("a")));
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        unsigned number = (unsigned)(random >> 33) % KEYS;
        struct cubby_entry entry = entry_of(key, number, round);
        if (random >> 63 != 0) {
            cr_assert_eq(copy_put(&copy, &entry), 0);
            versions[number] = round;
        } else {
            cr_assert_eq(copy_remove(&copy, entry.key), versions[number] != 0);
            versions[number] = 0;
        }
    }
    check_copy(&copy, versions);
    copy_free(&copy);
}

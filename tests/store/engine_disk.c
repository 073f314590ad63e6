/*
 * What engines keep on disk, and what a kill leaves of it.
 */
#include <signal.h>

#include "tests/store/child.h"
#include "tests/store/engine_rows.h"

static struct engine_mark mark_of(uint64_t position)
{
    return (struct engine_mark){
        .position = position, .seq = 2 * position, .time_ms = 1000 * position};
}

static void commit_at(struct engine *engine, uint64_t position)
{
    struct engine_mark mark = mark_of(position);
    cr_assert_eq(engine->methods->commit(engine, &mark), STORE_OK);
}

CONTRACT(a_checkpoint_is_there_when_the_engine_is_opened_again)
{
    const struct engine_methods *methods = engines[*row];
    char directory[MAX_DIRECTORY];
    struct model model = {0};
    struct engine_mark mark;
    struct engine_status status;
    if (!is_on_disk(methods))
        return;
    make_directory(directory);
    struct engine *engine = open_there(methods, NULL, directory, &mark);
    fill(engine, &model, 3000, "kept");
    commit_at(engine, 7);
    cr_assert_eq(methods->checkpoint(engine, true), STORE_OK);
    methods->status(engine, &status);
    cr_assert_eq(status.at.position, 7);
    cr_assert_gt(status.size, 30000);
    methods->close(engine);
    engine = open_there(methods, NULL, directory, &mark);
    cr_assert_eq(mark.position, 7);
    cr_assert_eq(mark.seq, 14);
    cr_assert_eq(mark.time_ms, 7000);
    cr_assert(holds(engine, NULL, 0, &model));
    methods->close(engine);
    model_free(&model);
    remove_directory(directory);
}

CONTRACT(what_was_not_committed_never_gets_to_the_disk)
{
    const struct engine_methods *methods = engines[*row];
    char directory[MAX_DIRECTORY];
    struct model model = {0};
    struct engine_mark mark;
    if (!is_on_disk(methods))
        return;
    make_directory(directory);
    struct engine *engine = open_there(methods, NULL, directory, &mark);
    fill(engine, &model, 1000, "kept");
    commit_at(engine, 1);
    cr_assert_eq(methods->checkpoint(engine, true), STORE_OK);
    fill(engine, NULL, 9000, "never committed, and more than what is held back at once");
    methods->close(engine);
    engine = open_there(methods, NULL, directory, &mark);
    cr_assert_eq(mark.position, 1);
    cr_assert(holds(engine, NULL, 0, &model));
    methods->close(engine);
    model_free(&model);
    remove_directory(directory);
}

/* Each round rewrites the same keys with its number, so that a state tells which round it is of. */
enum { CRASH_KEYS = 300 };

/* What a child needs to know. */
struct place {
    const struct engine_methods *methods;
    const char *directory;
};

static struct engine *open_in_child(const struct place *place, struct engine_mark *mark)
{
    struct engine *engine = NULL;
    struct engine_options options = {.directory = place->directory};
    struct store_error error = {0};
    int rc = place->methods->open(&engine, &options, mark, &error);
    REQUIRE(rc == STORE_OK, "%s", error.message);
    return engine;
}

static void write_round(struct engine *engine, uint64_t round)
{
    const struct engine_mark mark = mark_of(round);
    for (unsigned i = 0; i < CRASH_KEYS; i++) {
        char text[64];
        struct slice key = numbered(text, sizeof(text), "key", i);
        int rc = engine->methods->put(engine, 0, key, slice_of(&round, sizeof(round)));
        REQUIRE(rc == STORE_OK, "%d", rc);
    }
    int rc = engine->methods->commit(engine, &mark);
    REQUIRE(rc == STORE_OK, "%d", rc);
}

/* Writes rounds until it is killed, with a byte for each commit. */
static int write_until_killed(void *context, int messages)
{
    const struct place *place = context;
    struct engine_mark mark;
    struct engine *engine = open_in_child(place, &mark);
    for (uint64_t round = mark.position + 1;; round++) {
        write_round(engine, round);
        if (round % 5 == 0)
            (void)place->methods->checkpoint(engine, round % 2 == 0);
        if (write(messages, "", 1) != 1)
            return 1;
    }
}

/* Every key has the round that the mark names. */
static int check_round(void *context, int messages)
{
    struct engine_mark mark;
    struct engine *engine = open_in_child(context, &mark);
    const struct engine_methods *methods = engine->methods;
    uint64_t count = 0;
    struct slice none = {0};
    (void)messages;
    REQUIRE(methods->count(engine, 0, none, none, &count) == STORE_OK, "count");
    REQUIRE(count == (mark.position > 0 ? CRASH_KEYS : 0), "%llu keys", (unsigned long long)count);
    for (unsigned i = 0; i < count; i++) {
        char text[64];
        struct slice value = {0};
        struct slice key = numbered(text, sizeof(text), "key", i);
        REQUIRE(methods->get(engine, 0, key, &value) == STORE_OK, "key %u", i);
        REQUIRE(slice_equal(value, slice_of(&mark.position, sizeof(mark.position))), "key %u", i);
    }
    methods->close(engine);
    return 0;
}

static void kill_after(struct place *place, uint64_t reports, uint64_t pause_us)
{
    struct child child = child_start(write_until_killed, place);
    char byte;
    int heard = 1;
    cr_assert_gt(child.pid, 0);
    for (uint64_t i = 0; i < reports && heard == 1; i++)
        heard = child_hear(&child, &byte);
    usleep((useconds_t)pause_us);
    child_kill(&child);
    cr_assert_eq(heard, 1, "the child %s; its sentence is above", heard == 0 ? "ended" : "hung");
}

CONTRACT(what_a_kill_leaves_is_the_state_of_one_commit)
{
    struct random random = random_start();
    char directory[MAX_DIRECTORY];
    struct place place = {.methods = engines[*row], .directory = directory};
    int rounds = getenv("CUBBY_LONG") != NULL ? 300 : 12;
    if (!is_on_disk(place.methods))
        return;
    make_directory(directory);
    for (int i = 0; i < rounds; i++) {
        kill_after(&place, random_below(&random, 20), random_below(&random, 3000));
        int code = child_run(check_round, &place);
        cr_assert_eq(code, 0, "round %d ended with %d, CUBBY_SEED=%llu", i, code,
                     (unsigned long long)random.seed);
    }
    remove_directory(directory);
}

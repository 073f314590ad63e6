/* What subscribers want: taken note of, taken back, and bounded. */
#include "daemon/subscriptions.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct subscriptions subscriptions;

static void setup(void)
{
    subscriptions_init(&subscriptions, 1);
}

static void teardown(void)
{
    subscriptions_free(&subscriptions);
}

TestSuite(subscriptions, .init = setup, .fini = teardown);

static void note(char command, const char *topic)
{
    char message[64];
    size_t size = (size_t)snprintf(message, sizeof message, "%c%s", command, topic);
    subscriptions_note(&subscriptions, slice_of(message, size), true);
}

static bool wants(const char *topic)
{
    return subscriptions_want(&subscriptions, slice_of_text(topic));
}

Test(subscriptions, what_nobody_wants_is_not_wanted)
{
    cr_assert_not(wants("kkey"));
    note(1, "kke");
    note(1, "kother");
    cr_assert(wants("kkey") && wants("kke") && wants("kotherwise"));
    cr_assert_not(wants("kk") || wants("kot") || wants("kz") || wants("qke"));
    note(0, "kke");
    cr_assert_not(wants("kkey"));
    cr_assert(wants("kother"));
}

Test(subscriptions, everything_may_be_wanted)
{
    note(1, "");
    cr_assert(wants("kkey") && wants("qqueue"));
    cr_assert(subscriptions.changes == 1 && subscriptions.queues == 1);
    note(0, "");
    note(1, "k");
    cr_assert(wants("kkey") && !wants("qqueue"));
    cr_assert(subscriptions.changes == 1 && subscriptions.queues == 0);
}

Test(subscriptions, one_that_is_noted_twice_is_taken_back_twice)
{
    note(1, "ka");
    note(1, "ka");
    note(0, "ka");
    cr_assert(wants("ka"));
    note(0, "ka");
    cr_assert_not(wants("ka"));
    note(0, "ka");
    cr_assert(subscriptions.changes == 0 && subscriptions.bytes == 0);
}

Test(subscriptions, of_topics_that_no_message_has_nothing_is_kept)
{
    static char long_topic[1 + 1 + 1024 + 1] = {1, 'k'};
    note(1, "w");
    note(1, "h");
    note(1, "other");
    note(2, "k");
    subscriptions_note(&subscriptions, slice_of(long_topic, sizeof long_topic), true);
    subscriptions_note(&subscriptions, slice_of("", 0), true);
    cr_assert(subscriptions.bytes == 0 && subscriptions.changes == 0 && subscriptions.unknown == 0);
    subscriptions_note(&subscriptions, slice_of(long_topic, sizeof long_topic - 1), true);
    cr_assert_eq(subscriptions.changes, 1);
}

Test(subscriptions, more_than_fit_want_everything_until_they_are_taken_back)
{
    unsigned noted = 0;
    char topic[32];
    for (; subscriptions.unknown < 10; noted++) {
        snprintf(topic, sizeof topic, "k%08u", noted);
        note(1, topic);
    }
    cr_assert_leq(subscriptions.bytes, SUBSCRIPTIONS_MAX_BYTES);
    cr_assert_gt(noted, 100000);
    cr_assert(wants("kx"));
    for (unsigned i = noted - 10; i < noted; i++) {
        snprintf(topic, sizeof topic, "k%08u", i);
        note(0, topic);
    }
    cr_assert_not(wants("kx"));
    cr_assert(wants("k00000000") && wants("k00001000/more"));
    for (unsigned i = 0; i < noted - 10; i++) {
        snprintf(topic, sizeof topic, "k%08u", i);
        note(0, topic);
    }
    cr_assert(subscriptions.bytes == 0 && subscriptions.changes == 0);
    cr_assert_not(wants("k00000000"));
}

static void note_of_a_peer(char command, const char *topic)
{
    char message[64];
    size_t size = (size_t)snprintf(message, sizeof message, "%c%s", command, topic);
    subscriptions_note(&subscriptions, slice_of(message, size), false);
}

Test(subscriptions, a_peer_cannot_say_that_nobody_wants_a_topic)
{
    note_of_a_peer(1, "ka");
    note_of_a_peer(0, "ka");
    note_of_a_peer(0, "ka");
    note_of_a_peer(0, "kb");
    cr_assert(wants("ka") && !wants("kb"));
    cr_assert_eq(subscriptions.changes, 1);
    note(0, "ka");
    cr_assert_not(wants("ka"));
    cr_assert(subscriptions.changes == 0 && subscriptions.bytes == 0);
}

Test(subscriptions, a_topic_that_was_taken_back_and_is_wanted_again_is_there_once)
{
    note_of_a_peer(1, "ka");
    note_of_a_peer(0, "ka");
    note_of_a_peer(1, "ka");
    cr_assert_eq(subscriptions.changes, 1);
    note(0, "ka");
    cr_assert_not(wants("ka"));
    cr_assert(subscriptions.changes == 0 && subscriptions.bytes == 0);
}

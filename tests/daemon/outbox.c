/* The outbox: what is put in comes out in order, with whom it is for. */
#include <criterion/criterion.h>

#include "daemon/outbox.h"

static bool add(struct outbox *outbox, const char *peer, bool empty_frame, const char *payload,
                uint64_t tag)
{
    const struct peer to = {.id = slice_of_text(peer), .empty_frame = empty_frame};
    buffer_append_slice(outbox_begin(outbox, &to), slice_of_text(payload));
    return outbox_end(outbox, tag);
}

static void is(const struct outbox *outbox, size_t index, const char *peer, const char *payload,
               uint64_t tag)
{
    struct outbox_message message = outbox_message(outbox, index);
    cr_assert(slice_equal(message.peer.id, slice_of_text(peer)));
    cr_assert(slice_equal(message.payload, slice_of_text(payload)));
    cr_assert_eq(message.tag, tag);
}

Test(outbox, messages_come_out_in_order_with_their_peers)
{
    struct outbox outbox = {0};
    for (uint64_t i = 1; i <= 200; i++)
        cr_assert(add(&outbox, i % 2 ? "odd" : "even", i % 3 == 0, i % 2 ? "a" : "", i));
    cr_assert_eq(outbox.count, 200);
    for (uint64_t i = 1; i <= 200; i++)
        is(&outbox, i - 1, i % 2 ? "odd" : "even", i % 2 ? "a" : "", i);
    cr_assert(outbox_message(&outbox, 2).peer.empty_frame);
    outbox_free(&outbox);
}

Test(outbox, what_is_taken_back_leaves_no_trace)
{
    struct outbox outbox = {0};
    const struct peer peer = {.id = slice_of_text("peer")};
    cr_assert(add(&outbox, "a", false, "1", 1));
    buffer_append(outbox_begin(&outbox, &peer), "lost", 4);
    outbox_take_back(&outbox);
    cr_assert(add(&outbox, "b", false, "2", 2));
    cr_assert(add(&outbox, "c", false, "3", 3));
    outbox_truncate(&outbox, 2);
    cr_assert_eq(outbox.count, 2);
    is(&outbox, 1, "b", "2", 2);
    cr_assert_eq(outbox_size(&outbox), 4);
    outbox_free(&outbox);
}

Test(outbox, a_message_for_which_memory_was_out_is_none)
{
    struct outbox outbox = {0};
    const struct peer peer = {.id = slice_of_text("peer")};
    outbox_begin(&outbox, &peer)->failed = true;
    cr_assert_not(outbox_end(&outbox, 1));
    cr_assert(add(&outbox, "b", false, "2", 2));
    cr_assert_eq(outbox.count, 1);
    outbox_free(&outbox);
}

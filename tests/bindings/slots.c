#include "bindings/c/slots.h"

#include <criterion/criterion.h>

static uint64_t take_one(struct slots *slots)
{
    uint64_t msgid = slots_next(slots);
    cr_assert_neq(msgid, 0);
    slots_take(slots, msgid);
    return msgid;
}

Test(slots, a_request_is_found_by_its_msgid_until_it_is_released)
{
    struct slots slots = {0};
    uint64_t msgid = take_one(&slots);
    struct slot *slot = slots_find(&slots, msgid);
    cr_assert_not_null(slot);
    cr_assert_eq(slot->msgid, msgid);
    slots_release(&slots, slot);
    cr_assert_null(slots_find(&slots, msgid));
    slots_free(&slots);
}

Test(slots, an_empty_table_knows_no_msgid)
{
    struct slots slots = {0};
    cr_assert_null(slots_find(&slots, 0));
    cr_assert_null(slots_find(&slots, 1));
    slots_free(&slots);
}

Test(slots, an_old_msgid_is_not_mistaken_for_the_one_that_has_its_place_now)
{
    struct slots slots = {0};
    uint64_t first = take_one(&slots);
    slots_release(&slots, slots_find(&slots, first));
    size_t size = slots.size;
    for (size_t i = 1; i < size; i++)
        slots_release(&slots, slots_find(&slots, take_one(&slots)));
    uint64_t same_place = take_one(&slots);
    cr_assert_eq(same_place % size, first % size);
    cr_assert_null(slots_find(&slots, first));
    cr_assert_not_null(slots_find(&slots, same_place));
    slots_free(&slots);
}

Test(slots, a_msgid_whose_place_is_taken_is_left_out)
{
    struct slots slots = {0};
    uint64_t stays = take_one(&slots);
    for (size_t i = 0; i < slots.size * 3; i++) {
        uint64_t msgid = take_one(&slots);
        cr_assert_neq(msgid % slots.size, stays % slots.size);
        slots_release(&slots, slots_find(&slots, msgid));
    }
    cr_assert_eq(slots_find(&slots, stays)->msgid, stays);
    slots_free(&slots);
}

Test(slots, a_hundred_thousand_outstanding_requests_are_all_found)
{
    enum { REQUESTS = 100000 };
    struct slots slots = {0};
    for (uint64_t i = 1; i <= REQUESTS; i++)
        cr_assert_eq(take_one(&slots), i);
    for (uint64_t i = 1; i <= REQUESTS; i++)
        cr_assert_eq(slots_find(&slots, i)->msgid, i);
    cr_assert_leq(slots.used * 2, slots.size);
    slots_free(&slots);
}

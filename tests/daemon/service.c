/* The service without sockets: what each method answers. The whole contract is tested end to end.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "requests.h"

static struct fixture fixture;

static void setup(void)
{
    fixture_open(&fixture, NULL);
}

static void teardown(void)
{
    fixture_close(&fixture);
}

TestSuite(service, .init = setup, .fini = teardown);

#define ANSWERS(method, params, reply)                                                             \
    cr_assert_str_eq(fixture_call(&fixture, method, params), reply)

Test(service, a_put_is_read_back_with_its_version)
{
    ANSWERS("put", "[\"a\",{\"x\":1}]", "[1,1,nil,1]");
    ANSWERS("put", "[\"b\",2]", "[1,1,nil,2]");
    ANSWERS("get", "[\"a\"]", "[1,1,nil,[{\"x\":1},1,nil]]");
    ANSWERS("get", "[\"none\"]", "[1,1,nil,nil]");
}

Test(service, a_condition_that_does_not_hold_names_key_and_version)
{
    ANSWERS("put", "[\"a\",1]", "[1,1,nil,1]");
    cr_assert(strstr(fixture_call(&fixture, "put", "[\"a\",2,{\"if_version\":7}]"), "conflict"));
    cr_assert(strstr(fixture_call(&fixture, "put", "[\"a\",2,{\"if_exists\":false}]"),
                     "{\"key\":\"a\",\"version\":1}"));
    ANSWERS("put", "[\"a\",2,{\"if_version\":1,\"previous\":true}]", "[1,1,nil,[2,[1,1,nil]]]");
}

Test(service, a_batch_that_fails_leaves_nothing_behind)
{
    ANSWERS("put", "[\"a\",1]", "[1,1,nil,1]");
    const char *reply = fixture_call(&fixture, "batch",
                                     "[[[\"put\",[\"b\",1]],[\"delete\",[\"a\"]],[\"increment\",["
                                     "\"b\",1,{\"if_version\":9}]]]]");
    cr_assert(strstr(reply, "\"index\":2") != NULL, "%s", reply);
    ANSWERS("get", "[\"a\"]", "[1,1,nil,[1,1,nil]]");
    ANSWERS("get", "[\"b\"]", "[1,1,nil,nil]");
    ANSWERS("put", "[\"c\",1]", "[1,1,nil,2]");
}

Test(service, a_key_that_a_batch_wrote_twice_is_one_change_with_its_last_state)
{
    ANSWERS("batch",
            "[[[\"put\",[\"a\",1]],[\"put\",[\"b\",1]],[\"put\",[\"a\",2]],[\"delete\",[\"b\"]]]]",
            "[1,1,nil,{\"results\":[1,1,1,true],\"seq\":1}]");
    const char *reply = fixture_call(&fixture, "changes", "[]");
    cr_assert(strstr(reply, "\"changes\":[[1,0,2,\"put\",\"a\",2,nil],"
                            "[1,1,2,\"delete\",\"b\",nil,nil]]") != NULL,
              "%s", reply);
}

Test(service, a_touch_after_a_put_in_a_batch_is_part_of_its_change)
{
    fixture_call(&fixture, "batch", "[[[\"put\",[\"a\",1]],[\"touch\",[\"a\",50]]]]");
    const char *reply = fixture_call(&fixture, "changes", "[]");
    cr_assert(strstr(reply, "[[1,0,1,\"put\",\"a\",1,1700000050]]") != NULL, "%s", reply);
}

Test(service, an_expired_key_is_absent_at_once_and_its_change_comes_before_the_next_write)
{
    ANSWERS("put", "[\"a\",1,{\"ttl\":10}]", "[1,1,nil,1]");
    fixture.now_ms += 10;
    ANSWERS("get", "[\"a\"]", "[1,1,nil,nil]");
    ANSWERS("count", "[]", "[1,1,nil,0]");
    ANSWERS("delete", "[\"a\"]", "[1,1,nil,false]");
    ANSWERS("put", "[\"a\",2,{\"if_exists\":false}]", "[1,1,nil,3]");
    const char *reply = fixture_call(&fixture, "changes", "[{\"since\":1}]");
    cr_assert(strstr(reply, "[[2,0,1,\"expire\",\"a\",nil,nil],[3,0,1,\"put\",\"a\",2,nil]]") !=
                  NULL,
              "%s", reply);
}

Test(service, expired_keys_that_a_batch_writes_expire_before_it)
{
    fixture_call(&fixture, "put", "[\"a\",1,{\"ttl\":10}]");
    fixture_call(&fixture, "put", "[\"b\",1,{\"ttl\":10}]");
    fixture.now_ms += 10;
    ANSWERS("batch",
            "[[[\"increment\",[\"a\"]],[\"put\",[\"b\",5,{\"ttl\":0}]],[\"get\",[\"b\"]]]]",
            "[1,1,nil,{\"results\":[[1,5],5,nil],\"seq\":5}]");
}

Test(service, increments_stay_in_the_range_of_integers)
{
    ANSWERS("increment", "[\"n\",18446744073709551615]", "[1,1,nil,[18446744073709551615,1]]");
    cr_assert(strstr(fixture_call(&fixture, "increment", "[\"n\"]"), "wrong_type") != NULL);
    ANSWERS("increment", "[\"m\",-9223372036854775808]", "[1,1,nil,[-9223372036854775808,2]]");
    cr_assert(strstr(fixture_call(&fixture, "increment", "[\"m\",-1]"), "wrong_type") != NULL);
    ANSWERS("increment", "[\"k\",{\"initial\":5}]", "[1,1,nil,[6,3]]");
}

Test(service, a_scan_goes_on_behind_its_last_key_in_both_directions)
{
    for (int key = 'a'; key <= 'e'; key++) {
        char params[16];
        snprintf(params, sizeof params, "[\"%c\",1]", key);
        fixture_call(&fixture, "put", params);
    }
    ANSWERS("scan", "[{\"keys_only\":true,\"limit\":2,\"after\":\"b\"}]",
            "[1,1,nil,{\"entries\":[\"c\",\"d\"],\"next\":\"d\",\"seq\":5}]");
    ANSWERS("scan", "[{\"keys_only\":true,\"limit\":2,\"after\":\"c\",\"reverse\":true}]",
            "[1,1,nil,{\"entries\":[\"b\",\"a\"],\"next\":nil,\"seq\":5}]");
    ANSWERS("delete_range", "[{\"start\":\"b\",\"end\":\"e\",\"limit\":2}]",
            "[1,1,nil,{\"deleted\":2,\"more\":true}]");
    ANSWERS("count", "[]", "[1,1,nil,3]");
}

Test(service, history_of_another_epoch_or_of_the_future_is_compacted)
{
    fixture_call(&fixture, "put", "[\"a\",1]");
    cr_assert(strstr(fixture_call(&fixture, "changes", "[{\"since\":2}]"), "compacted") != NULL);
    cr_assert(strstr(fixture_call(&fixture, "changes", "[{\"epoch\":\"x\"}]"),
                     "{\"oldest\":1,\"seq\":1}") != NULL);
}

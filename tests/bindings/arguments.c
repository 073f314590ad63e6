#include "bindings/cli/arguments.h"

#include <criterion/criterion.h>

#define READ(arguments, ...)                                                                       \
    read_texts(arguments, (const char *const[]){"cubby", __VA_ARGS__, NULL})

static enum status read_texts(struct arguments *arguments, const char *const *texts)
{
    FILE *errors = fopen("/dev/null", "w");
    int count = 0;
    while (texts[count] != NULL)
        count++;
    enum status status = arguments_read(arguments, count, (char **)texts, errors);
    fclose(errors);
    return status;
}

Test(arguments, options_may_stand_anywhere)
{
    struct arguments arguments;
    cr_assert_eq(READ(&arguments, "--json", "put", "--ttl", "5", "k", "--timeout=7", "v"),
                 STATUS_OK);
    cr_assert_eq(arguments.command, COMMAND_PUT);
    cr_assert_eq(arguments.positional_count, 2);
    cr_assert_str_eq(arguments.positional[1], "v");
    cr_assert(arguments.options[OPTION_JSON].given);
    cr_assert_eq(arguments_number(&arguments, OPTION_TTL, 0), 5);
    cr_assert_eq(arguments_number(&arguments, OPTION_TIMEOUT, 0), 7);
    cr_assert_eq(arguments_number(&arguments, OPTION_LIMIT, 99), 99);
}

Test(arguments, what_begins_with_one_dash_is_plain)
{
    struct arguments arguments;
    cr_assert_eq(READ(&arguments, "incr", "k", "-5"), STATUS_OK);
    cr_assert_str_eq(arguments.positional[1], "-5");
    cr_assert_eq(READ(&arguments, "put", "k", "-"), STATUS_OK);
    cr_assert_eq(READ(&arguments, "get", "--", "--key"), STATUS_OK);
    cr_assert_str_eq(arguments.positional[0], "--key");
}

Test(arguments, wrong_usage_is_refused)
{
    struct arguments arguments;
    cr_assert_eq(read_texts(&arguments, (const char *const[]){"cubby", NULL}), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "frobnicate"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "get"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "get", "a", "b"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "get", "a", "--nonsense"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "get", "a", "--ttl", "5"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--ttl"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--ttl", "x"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--ttl", "-1"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--ttl", "1", "--ttl", "1"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--keep-ttl=1"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--raw", "--msgpack"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "put", "a", "1", "--if-exists", "--if-absent"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "batch", "[]", "--if", "k"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "batch", "[]", "--if", "k=-1"), STATUS_USAGE);
}

Test(arguments, help_and_version_need_nothing_else)
{
    struct arguments arguments;
    cr_assert_eq(READ(&arguments, "--help"), STATUS_OK);
    cr_assert_eq(arguments.command, COMMANDS);
    cr_assert_eq(READ(&arguments, "--version"), STATUS_OK);
    cr_assert_eq(READ(&arguments, "get", "--help"), STATUS_OK);
    cr_assert_eq(arguments.command, COMMAND_GET);
}

Test(arguments, integers_are_decimal_and_within_64_bits)
{
    wire_integer number;
    cr_assert_eq(arguments_integer("18446744073709551615", &number), 0);
    cr_assert(number == WIRE_INTEGER_MAX);
    cr_assert_eq(arguments_integer("-9223372036854775808", &number), 0);
    cr_assert(number == WIRE_INTEGER_MIN);
    const char *const bad[] = {"",
                               "-",
                               "+1",
                               " 1",
                               "1 ",
                               "0x10",
                               "1.5",
                               "--1",
                               "1e3",
                               "18446744073709551616",
                               "-9223372036854775809"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(arguments_integer(bad[i], &number), -1, "%s", bad[i]);
}

Test(arguments, guards_are_collected)
{
    struct arguments arguments;
    cr_assert_eq(READ(&arguments, "batch", "--if", "a=b=0", "--if", "c=5"), STATUS_OK);
    cr_assert_eq(arguments.guard_count, 2);
    cr_assert_str_eq(arguments.guards[0], "a=b=0");
}

Test(arguments, the_protocols_options_are_packed_by_their_names)
{
    struct arguments arguments;
    struct buffer packed = {0};
    cr_assert_eq(READ(&arguments, "put", "k", "v", "--ttl", "5", "--if-absent", "--json"),
                 STATUS_OK);
    arguments_pack_options(&packed, &arguments);
    cr_assert(
        slice_equal(buffer_slice(&packed, 0), slice_of_text("\x82\xa3ttl\x05\xa9if_exists\xc2")));
    buffer_free(&packed);
}

Test(arguments, every_option_and_command_is_in_its_help)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    arguments_print_help(out, &(struct arguments){.command = COMMANDS});
    for (int command = 0; command < COMMANDS; command++)
        arguments_print_help(out, &(struct arguments){.command = (enum command)command});
    fclose(out);
#define OPTION(ID, name, kind, protocol, argument, commands, help)                                 \
    cr_assert_not_null(strstr(text, "--" name), "%s", name);
#include "bindings/cli/options.def"
#undef OPTION
#define COMMAND(ID, name, required, most, arguments, run, help)                                    \
    cr_assert_not_null(strstr(text, "Usage: cubby " name), "%s", name);
#include "bindings/cli/commands.def"
#undef COMMAND
    free(text);
}

Test(arguments, a_command_may_have_two_words)
{
    struct arguments arguments;
    cr_assert_eq(READ(&arguments, "queue", "push", "mail", "5", "--delay", "7"), STATUS_OK);
    cr_assert_eq(arguments.command, COMMAND_QUEUE_PUSH);
    cr_assert_eq(arguments.positional_count, 2);
    cr_assert_str_eq(arguments.positional[0], "mail");
    cr_assert_eq(arguments_number(&arguments, OPTION_DELAY, 0), 7);
    cr_assert_eq(READ(&arguments, "--json", "queue", "--timeout", "5", "stats", "mail"), STATUS_OK);
    cr_assert_eq(arguments.command, COMMAND_QUEUE_STATS);
    cr_assert_eq(READ(&arguments, "queue"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "queue", "nope", "mail"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "push", "mail", "5"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "que", "push", "mail"), STATUS_USAGE);
    cr_assert_eq(READ(&arguments, "queue", "--help"), STATUS_OK);
    cr_assert_eq(arguments.command, COMMANDS);
    cr_assert_str_eq(arguments.group, "queue");
}

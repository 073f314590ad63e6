#include "bindings/cli/arguments.h"

#include <errno.h>

/* The commands that an option is for, a bit each; macros, since enumerators are ints. */
#define FOR(ID)             (UINT64_C(1) << COMMAND_##ID)
#define FOR_GET             FOR(GET)
#define FOR_PUT             FOR(PUT)
#define FOR_DELETE          FOR(DELETE)
#define FOR_INCR            FOR(INCR)
#define FOR_SCAN            FOR(SCAN)
#define FOR_DELETE_RANGE    FOR(DELETE_RANGE)
#define FOR_COUNT           FOR(COUNT)
#define FOR_BATCH           FOR(BATCH)
#define FOR_CHANGES         FOR(CHANGES)
#define FOR_HELLO           FOR(HELLO)
#define FOR_BENCH           FOR(BENCH)
#define FOR_BACKUP          FOR(BACKUP)
#define FOR_RESTORE         FOR(RESTORE)
#define FOR_EXPORT          FOR(EXPORT)
#define FOR_IMPORT          FOR(IMPORT)
#define FOR_QUEUE_PUSH      FOR(QUEUE_PUSH)
#define FOR_QUEUE_RESERVE   FOR(QUEUE_RESERVE)
#define FOR_QUEUE_POP       FOR(QUEUE_POP)
#define FOR_QUEUE_NACK      FOR(QUEUE_NACK)
#define FOR_QUEUE_BURY      FOR(QUEUE_BURY)
#define FOR_QUEUE_KICK      FOR(QUEUE_KICK)
#define FOR_QUEUE_PEEK      FOR(QUEUE_PEEK)
#define FOR_QUEUE_LIST      FOR(QUEUE_LIST)
#define FOR_QUEUE_CONFIGURE FOR(QUEUE_CONFIGURE)
#define FOR_QUEUE_PURGE     FOR(QUEUE_PURGE)
#define FOR_QUEUE_WORK      FOR(QUEUE_WORK)
#define FOR_WATCH           FOR(WATCH)
#define FOR_MIRROR          FOR(MIRROR)
#define FOR_RANGE           (FOR(SCAN) | FOR(DELETE_RANGE) | FOR(COUNT))
#define FOR_TAKE            (FOR(QUEUE_RESERVE) | FOR(QUEUE_POP))
#define FOR_ALL             (UINT64_C(1) << COMMANDS)

_Static_assert(COMMANDS < 64, "a command's bit has no room");

enum { COMMAND_NAME_SIZE = 64, OPTION_TEXT_SIZE = 96 };
enum kind { FLAG, NUMBER, INTEGER, TEXT, GUARD };

static const struct option_row {
    const char *name;
    const char *protocol;
    const char *argument;
    const char *help;
    enum kind kind;
    uint64_t commands;
} option_rows[OPTIONS] = {
#define OPTION(ID, name, kind, protocol, argument, commands, help)                                 \
    {name, protocol, argument, help, kind, commands},
#include "bindings/cli/options.def"
#undef OPTION
};

static const struct command_row {
    const char *name;
    int required;
    int most;
    const char *arguments;
    const char *help;
} command_rows[COMMANDS] = {
#define COMMAND(ID, name, required, most, arguments, run, help)                                    \
    {name, required, most, arguments, help},
#include "bindings/cli/commands.def"
#undef COMMAND
};

/* ---- Reading -------------------------------------------------------------------------------- */

int arguments_integer(const char *text, wire_integer *number)
{
    bool negative = *text == '-';
    const char *digits = text + negative;
    char *end;
    if (*digits < '0' || *digits > '9')
        return -1;
    errno = 0;
    unsigned long long magnitude = strtoull(digits, &end, 10);
    if (*end != 0 || errno != 0)
        return -1;
    *number = negative ? -(wire_integer)magnitude : (wire_integer)magnitude;
    return *number < WIRE_INTEGER_MIN ? -1 : 0;
}

uint64_t arguments_number(const struct arguments *arguments, enum option option, uint64_t otherwise)
{
    const struct option_value *value = &arguments->options[option];
    return value->given ? (uint64_t)value->number : otherwise;
}

const char *arguments_option_name(enum option option)
{
    return option_rows[option].name;
}

/* With where to look: the help of the command, as far as that is known. */
static enum status refuse(const struct arguments *arguments, FILE *errors, const char *what,
                          const char *text)
{
    const char *of = arguments->group != NULL ? arguments->group : "";
    if (arguments->command < COMMANDS)
        of = command_rows[arguments->command].name;
    fprintf(errors, "cubby: %s: %s (see cubby %s%s--help)\n", what, text, of,
            *of != '\0' ? " " : "");
    return STATUS_USAGE;
}

/* The same, of an option: "--limit takes a number …: 5x". */
static enum status refuse_option(const struct arguments *arguments, FILE *errors,
                                 enum option option, const char *why, const char *text)
{
    char what[OPTION_TEXT_SIZE];
    snprintf(what, sizeof(what), "--%s %s", option_rows[option].name, why);
    return refuse(arguments, errors, what, text);
}

static enum option find_option(const char *text, size_t size)
{
    int option = 0;
    while (option < OPTIONS && (strlen(option_rows[option].name) != size ||
                                strncmp(option_rows[option].name, text, size) != 0))
        option++;
    return (enum option)option;
}

static enum status add_guard(struct arguments *arguments, const char *text, FILE *errors)
{
    wire_integer version;
    const char *mark = strrchr(text, '=');
    if (mark == NULL || arguments_integer(mark + 1, &version) != 0 || version < 0)
        return refuse(arguments, errors, "--if takes KEY=VERSION", text);
    if (arguments->guard_count == ARGUMENTS_MAX_GUARDS)
        return refuse(arguments, errors, "too many times --if", text);
    arguments->guards[arguments->guard_count++] = text;
    return STATUS_OK;
}

static enum status set_option(struct arguments *arguments, enum option option, const char *text,
                              FILE *errors)
{
    const struct option_row *row = &option_rows[option];
    struct option_value *value = &arguments->options[option];
    if (value->given && row->kind != GUARD)
        return refuse_option(arguments, errors, option, "is given twice",
                             text != NULL ? text : "give it once");
    value->given = true;
    value->text = text;
    if (row->kind == GUARD)
        return add_guard(arguments, text, errors);
    if (row->kind != NUMBER && row->kind != INTEGER)
        return STATUS_OK;
    bool is_number = arguments_integer(text, &value->number) == 0;
    if (row->kind == NUMBER && (!is_number || value->number < 0))
        return refuse_option(arguments, errors, option, "takes a number from 0 to 2^64-1", text);
    if (!is_number)
        return refuse_option(arguments, errors, option, "takes an integer from -2^63 to 2^64-1",
                             text);
    return STATUS_OK;
}

/* --name, --name value or --name=value; `at` is moved behind what was read. */
static enum status read_option(struct arguments *arguments, int count, char **texts, int *at,
                               FILE *errors)
{
    const char *name = texts[(*at)++] + 2;
    size_t size = strcspn(name, "=");
    enum option option = find_option(name, size);
    if (option == OPTIONS)
        return refuse(arguments, errors, "no such option", name - 2);
    if (option_rows[option].kind == FLAG)
        return name[size] == 0
                   ? set_option(arguments, option, NULL, errors)
                   : refuse_option(arguments, errors, option, "takes no value", name + size + 1);
    if (name[size] == '=')
        return set_option(arguments, option, name + size + 1, errors);
    if (*at == count)
        return refuse_option(arguments, errors, option, "needs its value",
                             option_rows[option].argument);
    return set_option(arguments, option, texts[(*at)++], errors);
}

/* The row of a command, whose name may be of two words: a group's and its own. */
static enum command find_command(const char *group, const char *text)
{
    char name[COMMAND_NAME_SIZE];
    int command = 0;
    snprintf(name, sizeof(name), "%s%s%s", group != NULL ? group : "", group != NULL ? " " : "",
             text);
    while (command < COMMANDS && strcmp(command_rows[command].name, name) != 0)
        command++;
    return (enum command)command;
}

static bool is_of_group(const struct command_row *row, const char *group)
{
    size_t size = strlen(group);
    return strncmp(row->name, group, size) == 0 && row->name[size] == ' ';
}

static bool is_group(const char *text)
{
    int command = 0;
    while (command < COMMANDS && !is_of_group(&command_rows[command], text))
        command++;
    return command < COMMANDS;
}

static enum status refuse_command(const struct arguments *arguments, const char *text, FILE *errors)
{
    char name[COMMAND_NAME_SIZE];
    if (arguments->group == NULL)
        return refuse(arguments, errors, "no such command", text);
    snprintf(name, sizeof(name), "%s %s", arguments->group, text);
    return refuse(arguments, errors, "no such command", name);
}

/* -h is taken here, as cubbyd does; behind a command it may be a key. */
static enum status read_command(struct arguments *arguments, const char *text, FILE *errors)
{
    if (strcmp(text, "-h") == 0) {
        arguments->options[OPTION_HELP].given = true;
        return STATUS_OK;
    }
    arguments->command = find_command(arguments->group, text);
    if (arguments->command < COMMANDS)
        return STATUS_OK;
    if (arguments->group != NULL || !is_group(text))
        return refuse_command(arguments, text, errors);
    arguments->group = text;
    return STATUS_OK;
}

static enum status read_positional(struct arguments *arguments, const char *text, FILE *errors)
{
    if (arguments->command == COMMANDS)
        return read_command(arguments, text, errors);
    if (arguments->positional_count == command_rows[arguments->command].most)
        return refuse(arguments, errors, "one argument too many", text);
    arguments->positional[arguments->positional_count++] = text;
    return STATUS_OK;
}

static enum status check_pairs(const struct arguments *arguments, FILE *errors)
{
    static const enum option pairs[][2] = {{OPTION_IF_EXISTS, OPTION_IF_ABSENT},
                                           {OPTION_RAW, OPTION_MSGPACK},
                                           {OPTION_TTL, OPTION_NO_TTL}};
    char other[OPTION_TEXT_SIZE];
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        if (!arguments->options[pairs[i][0]].given || !arguments->options[pairs[i][1]].given)
            continue;
        snprintf(other, sizeof(other), "--%s", option_rows[pairs[i][1]].name);
        return refuse_option(arguments, errors, pairs[i][0], "does not go with", other);
    }
    return STATUS_OK;
}

static enum status check(const struct arguments *arguments, FILE *errors)
{
    if (arguments->options[OPTION_HELP].given || arguments->options[OPTION_VERSION].given)
        return STATUS_OK;
    if (arguments->command == COMMANDS && arguments->group == NULL)
        return refuse(arguments, errors, "a command is missing", "get, put, …");
    if (arguments->command == COMMANDS)
        return refuse(arguments, errors, arguments->group, "a command is missing");
    const struct command_row *row = &command_rows[arguments->command];
    for (int option = 0; option < OPTIONS; option++) {
        uint64_t commands = option_rows[option].commands;
        if (arguments->options[option].given && (commands & FOR_ALL) == 0 &&
            (commands & UINT64_C(1) << arguments->command) == 0)
            return refuse_option(arguments, errors, (enum option)option, "is not an option of",
                                 row->name);
    }
    if (arguments->positional_count < row->required)
        return refuse(arguments, errors, "an argument is missing", row->arguments);
    return check_pairs(arguments, errors);
}

/* Whether what is behind `--` is a program to run, options of its own and all. */
static bool runs_program(enum command command)
{
    return command == COMMAND_QUEUE_WORK;
}

enum status arguments_read(struct arguments *arguments, int count, char **texts, FILE *errors)
{
    bool options_end = false;
    *arguments = (struct arguments){.command = COMMANDS};
    for (int at = 1; at < count;) {
        enum status status = STATUS_OK;
        if (!options_end && strcmp(texts[at], "--") == 0) {
            options_end = true;
            at++;
            if (arguments->command < COMMANDS && runs_program(arguments->command)) {
                arguments->program = &texts[at];
                break;
            }
        } else if (!options_end && strncmp(texts[at], "--", 2) == 0) {
            status = read_option(arguments, count, texts, &at, errors);
        } else {
            status = read_positional(arguments, texts[at++], errors);
        }
        if (status != STATUS_OK)
            return status;
    }
    return check(arguments, errors);
}

/* ---- Packing -------------------------------------------------------------------------------- */

static void pack_value(struct buffer *out, enum kind kind, const struct option_value *value)
{
    if (kind == FLAG)
        wire_pack_bool(out, true);
    else if (kind == TEXT)
        wire_pack_key(out, slice_of_text(value->text));
    else
        wire_pack_integer(out, value->number);
}

void arguments_pack_options(struct buffer *out, const struct arguments *arguments)
{
    uint32_t count = (uint32_t)arguments->options[OPTION_IF_ABSENT].given +
                     arguments->options[OPTION_NO_TTL].given;
    for (int option = 0; option < OPTIONS; option++)
        count += arguments->options[option].given && option_rows[option].protocol != NULL;
    wire_pack_map(out, count);
    for (int option = 0; option < OPTIONS; option++) {
        const struct option_row *row = &option_rows[option];
        if (!arguments->options[option].given || row->protocol == NULL)
            continue;
        wire_pack_text(out, row->protocol);
        pack_value(out, row->kind, &arguments->options[option]);
    }
    if (arguments->options[OPTION_IF_ABSENT].given) {
        wire_pack_text(out, "if_exists");
        wire_pack_bool(out, false);
    }
    if (arguments->options[OPTION_NO_TTL].given) {
        wire_pack_text(out, "ttl");
        wire_pack_nil(out);
    }
}

/* ---- Help ----------------------------------------------------------------------------------- */

enum { HELP_NAME_WIDTH = 28, HELP_WIDTH = 98 };

/* How many characters a text has; its bytes may be more. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text != 0; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

/* A name, and its text in lines beside it. */
static void print_entry(FILE *out, const char *name, const char *text)
{
    int room = HELP_WIDTH - HELP_NAME_WIDTH;
    int width = width_of(name);
    fprintf(out, "  %s%*s", name, width < HELP_NAME_WIDTH - 2 ? HELP_NAME_WIDTH - 2 - width : 0,
            "");
    if (width > HELP_NAME_WIDTH - 3)
        fprintf(out, "\n%*s", HELP_NAME_WIDTH, "");
    for (int at = 0; *text != 0;) {
        int size = (int)strcspn(text, " ");
        if (at > 0 && at + 1 + size > room) {
            fprintf(out, "\n%*s", HELP_NAME_WIDTH, "");
            at = 0;
        }
        at += fprintf(out, "%s%.*s", at > 0 ? " " : "", size, text);
        text += size;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void print_options(FILE *out, uint64_t commands)
{
    char name[64];
    for (int option = 0; option < OPTIONS; option++) {
        const struct option_row *row = &option_rows[option];
        if ((row->commands & commands) == 0)
            continue;
        snprintf(name, sizeof(name), "--%s %s", row->name,
                 row->argument != NULL ? row->argument : "");
        print_entry(out, name, row->help);
    }
}

static void print_commands(FILE *out, const char *group)
{
    char name[64];
    fputs("Commands:\n", out);
    for (int command = 0; command < COMMANDS; command++) {
        const struct command_row *row = &command_rows[command];
        if (group != NULL && !is_of_group(row, group))
            continue;
        snprintf(name, sizeof(name), "%s %s", row->name, row->arguments);
        print_entry(out, name, row->help);
    }
}

static void print_overview(FILE *out)
{
    fputs("Usage: cubby [OPTION]… COMMAND [ARGUMENT]… [OPTION]…\n\n"
          "The command line of cubbyd, a key-value daemon over ZeroMQ.\n\n",
          out);
    print_commands(out, NULL);
    fputs("\nOptions of every command (`cubby COMMAND --help` prints its own):\n", out);
    print_options(out, FOR_ALL);
    fputs(
        "\nValues are shown and given as JSON. What JSON cannot say is an object with one member:\n"
        "{\"$bin\":BASE64}, {\"$str\":BASE64} (not UTF-8), {\"$ext\":[TYPE,BASE64]},\n"
        "{\"$float\":\"nan\"}, {\"$map\":[[KEY,VALUE],…]} (keys other than strs).\n"
        "\nExit status:\n"
        "  0  done\n"
        "  1  the key, job or queue is absent; no job came in time\n"
        "  2  wrong usage\n"
        "  3  the daemon answered with an error; it is on standard error\n"
        "  4  no answer in time; a write may or may not have been carried out\n"
        "  5  anything else: no memory, output that cannot be written\n",
        out);
}

static void print_group(FILE *out, const char *group)
{
    fprintf(out, "Usage: cubby %s COMMAND [ARGUMENT]… [OPTION]…\n\n", group);
    print_commands(out, group);
}

void arguments_print_help(FILE *out, const struct arguments *arguments)
{
    enum command command = arguments->command;
    if (command == COMMANDS && arguments->group == NULL)
        print_overview(out);
    else if (command == COMMANDS)
        print_group(out, arguments->group);
    if (command == COMMANDS)
        return;
    const struct command_row *row = &command_rows[command];
    const char *form = runs_program(command) ? "Usage: cubby %s [OPTION]…%s%s\n\n"
                                             : "Usage: cubby %s%s%s [OPTION]…\n\n";
    fprintf(out, form, row->name, *row->arguments != 0 ? " " : "", row->arguments);
    print_entry(out, row->name, row->help);
    fputs("\nOptions:\n", out);
    print_options(out, UINT64_C(1) << command);
    print_options(out, FOR_ALL);
}

#include "bindings/cli/arguments.h"

#include <errno.h>

enum {
    FOR_GET = 1 << COMMAND_GET,
    FOR_PUT = 1 << COMMAND_PUT,
    FOR_DELETE = 1 << COMMAND_DELETE,
    FOR_INCR = 1 << COMMAND_INCR,
    FOR_SCAN = 1 << COMMAND_SCAN,
    FOR_DELETE_RANGE = 1 << COMMAND_DELETE_RANGE,
    FOR_RANGE = FOR_SCAN | FOR_DELETE_RANGE | 1 << COMMAND_COUNT,
    FOR_BATCH = 1 << COMMAND_BATCH,
    FOR_CHANGES = 1 << COMMAND_CHANGES,
    FOR_HELLO = 1 << COMMAND_HELLO,
    FOR_BENCH = 1 << COMMAND_BENCH,
    FOR_BACKUP = 1 << COMMAND_BACKUP,
    FOR_RESTORE = 1 << COMMAND_RESTORE,
    FOR_EXPORT = 1 << COMMAND_EXPORT,
    FOR_IMPORT = 1 << COMMAND_IMPORT,
    FOR_ALL = 1 << COMMANDS,
};

enum kind { FLAG, NUMBER, INTEGER, TEXT, GUARD };

static const struct option_row {
    const char *name;
    const char *protocol;
    const char *argument;
    const char *help;
    enum kind kind;
    int commands;
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

static enum status refuse(FILE *errors, const char *what, const char *text)
{
    fprintf(errors, "cubby: %s: %s (see cubby --help)\n", what, text);
    return STATUS_USAGE;
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
        return refuse(errors, "--if takes KEY=VERSION", text);
    if (arguments->guard_count == ARGUMENTS_MAX_GUARDS)
        return refuse(errors, "too many times --if", text);
    arguments->guards[arguments->guard_count++] = text;
    return STATUS_OK;
}

static enum status set_option(struct arguments *arguments, enum option option, const char *text,
                              FILE *errors)
{
    const struct option_row *row = &option_rows[option];
    struct option_value *value = &arguments->options[option];
    if (value->given && row->kind != GUARD)
        return refuse(errors, "given twice", row->name);
    value->given = true;
    value->text = text;
    if (row->kind == GUARD)
        return add_guard(arguments, text, errors);
    if (row->kind != NUMBER && row->kind != INTEGER)
        return STATUS_OK;
    if (arguments_integer(text, &value->number) != 0 || (row->kind == NUMBER && value->number < 0))
        return refuse(errors, "not a number", text);
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
        return refuse(errors, "no such option", name - 2);
    if (option_rows[option].kind == FLAG)
        return name[size] == 0 ? set_option(arguments, option, NULL, errors)
                               : refuse(errors, "takes no argument", name - 2);
    if (name[size] == '=')
        return set_option(arguments, option, name + size + 1, errors);
    if (*at == count)
        return refuse(errors, "lacks its argument", name - 2);
    return set_option(arguments, option, texts[(*at)++], errors);
}

static enum status read_positional(struct arguments *arguments, const char *text, FILE *errors)
{
    if (arguments->command == COMMANDS) {
        int command = 0;
        while (command < COMMANDS && strcmp(command_rows[command].name, text) != 0)
            command++;
        arguments->command = (enum command)command;
        return command < COMMANDS ? STATUS_OK : refuse(errors, "no such command", text);
    }
    if (arguments->positional_count == command_rows[arguments->command].most)
        return refuse(errors, "one argument too many", text);
    arguments->positional[arguments->positional_count++] = text;
    return STATUS_OK;
}

static bool both(const struct arguments *arguments, enum option one, enum option other)
{
    return arguments->options[one].given && arguments->options[other].given;
}

static enum status check(const struct arguments *arguments, FILE *errors)
{
    if (arguments->options[OPTION_HELP].given || arguments->options[OPTION_VERSION].given)
        return STATUS_OK;
    if (arguments->command == COMMANDS)
        return refuse(errors, "a command is missing", "get, put, …");
    const struct command_row *row = &command_rows[arguments->command];
    for (int option = 0; option < OPTIONS; option++) {
        int commands = option_rows[option].commands;
        if (arguments->options[option].given && (commands & FOR_ALL) == 0 &&
            (commands & 1 << arguments->command) == 0)
            return refuse(errors, row->name, "takes no such option");
    }
    if (arguments->positional_count < row->required)
        return refuse(errors, "an argument is missing", row->arguments);
    if (both(arguments, OPTION_IF_EXISTS, OPTION_IF_ABSENT) ||
        both(arguments, OPTION_RAW, OPTION_MSGPACK))
        return refuse(errors, row->name, "two options that exclude each other");
    return STATUS_OK;
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
    uint32_t count = arguments->options[OPTION_IF_ABSENT].given;
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
}

/* ---- Help ----------------------------------------------------------------------------------- */

enum { HELP_NAME_WIDTH = 28, HELP_WIDTH = 98 };

/* A name, and its text in lines beside it. */
static void print_entry(FILE *out, const char *name, const char *text)
{
    int room = HELP_WIDTH - HELP_NAME_WIDTH;
    fprintf(out, "  %-*s", HELP_NAME_WIDTH - 2, name);
    if (strlen(name) > HELP_NAME_WIDTH - 3)
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

static void print_options(FILE *out, int commands)
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

static void print_overview(FILE *out)
{
    char name[64];
    fputs("Usage: cubby [OPTION]… COMMAND [ARGUMENT]… [OPTION]…\n\n"
          "The command line of cubbyd, a key-value daemon over ZeroMQ.\n\nCommands:\n",
          out);
    for (int command = 0; command < COMMANDS; command++) {
        const struct command_row *row = &command_rows[command];
        snprintf(name, sizeof(name), "%s %s", row->name, row->arguments);
        print_entry(out, name, row->help);
    }
    fputs("\nOptions of every command (`cubby COMMAND --help` prints its own):\n", out);
    print_options(out, FOR_ALL);
    fputs(
        "\nValues are shown and given as JSON. What JSON cannot say is an object with one member:\n"
        "{\"$bin\":BASE64}, {\"$str\":BASE64} (not UTF-8), {\"$ext\":[TYPE,BASE64]},\n"
        "{\"$float\":\"nan\"}, {\"$map\":[[KEY,VALUE],…]} (keys other than strs).\n"
        "\nExit status:\n"
        "  0  done\n"
        "  1  get, delete, touch: the key is absent\n"
        "  2  wrong usage\n"
        "  3  the daemon answered with an error; it is on standard error\n"
        "  4  no answer in time; a write may or may not have been carried out\n"
        "  5  anything else: no memory, output that cannot be written\n",
        out);
}

void arguments_print_help(FILE *out, enum command command)
{
    if (command == COMMANDS) {
        print_overview(out);
        return;
    }
    const struct command_row *row = &command_rows[command];
    fprintf(out, "Usage: cubby %s%s%s [OPTION]…\n\n", row->name, *row->arguments != 0 ? " " : "",
            row->arguments);
    print_entry(out, row->name, row->help);
    fputs("\nOptions:\n", out);
    print_options(out, 1 << command);
    print_options(out, FOR_ALL);
}

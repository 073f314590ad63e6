/*
 * The command line: which command, its positional arguments, and its options, checked against the
 * tables commands.def and options.def. Options begin with two dashes and may stand anywhere;
 * behind `--` nothing is an option. Since nothing else begins with two dashes, -5 and - are plain
 * arguments.
 */
#ifndef BINDINGS_CLI_ARGUMENTS_H
#define BINDINGS_CLI_ARGUMENTS_H

#include <stdio.h>

#include "wire/pack.h"

enum command {
#define COMMAND(ID, name, required, most, arguments, run, help) COMMAND_##ID,
#include "bindings/cli/commands.def"
#undef COMMAND
    COMMANDS
};

enum option {
#define OPTION(ID, name, kind, protocol, argument, commands, help) OPTION_##ID,
#include "bindings/cli/options.def"
#undef OPTION
    OPTIONS
};

/* The exit status; part of what users program against. */
enum status {
    STATUS_OK = 0,
    STATUS_NOTHING = 1, /* the key, job or queue is absent; no job came in time */
    STATUS_USAGE = 2,
    STATUS_REFUSED = 3, /* the daemon answered with an error */
    STATUS_TIMEOUT = 4, /* no answer in time */
    STATUS_FAILED = 5,  /* something else: no memory, output that cannot be written */
};

enum { ARGUMENTS_MAX_POSITIONAL = 64, ARGUMENTS_MAX_GUARDS = 100 };

struct option_value {
    bool given;
    const char *text;
    wire_integer number; /* of NUMBER and INTEGER */
};

struct arguments {
    enum command command; /* COMMANDS where none is given */
    const char *group;    /* its first word, where it has two; NULL */
    char **program;       /* behind `--`, where that is a program to run: ends with NULL; or NULL */
    const char *positional[ARGUMENTS_MAX_POSITIONAL];
    int positional_count;
    struct option_value options[OPTIONS];
    const char *guards[ARGUMENTS_MAX_GUARDS];
    size_t guard_count;
};

/* Reads the command line; on wrong usage says so on `errors` and returns STATUS_USAGE. */
enum status arguments_read(struct arguments *arguments, int count, char **texts, FILE *errors);

/* A decimal integer from -2^63 to 2^64-1 and nothing else; -1 where it is none. */
int arguments_integer(const char *text, wire_integer *number);

/* The number of an option, or what holds where it is not given. */
uint64_t arguments_number(const struct arguments *arguments, enum option option,
                          uint64_t otherwise);

/* As it stands behind the two dashes. */
const char *arguments_option_name(enum option option);

/* Appends a map of all options that are sent to the daemon as they are. */
void arguments_pack_options(struct buffer *out, const struct arguments *arguments);

/* Help for everything or, where a command or the first word of some is given, for that. */
void arguments_print_help(FILE *out, const struct arguments *arguments);

#endif

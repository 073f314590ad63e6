/*
 * The commands of commands.def: each does its work, writes its output, says on standard error
 * what failed, and returns the exit status.
 */
#ifndef BINDINGS_CLI_COMMANDS_H
#define BINDINGS_CLI_COMMANDS_H

#include "bindings/cli/session.h"

#define COMMAND(ID, name, required, most, arguments, run, help)                                    \
    enum status run(struct session *session);
#include "bindings/cli/commands.def"
#undef COMMAND

#endif

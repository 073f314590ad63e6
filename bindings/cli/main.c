#include <fcntl.h>
#include <unistd.h>

#include "bindings/cli/commands.h"

static enum status run(const struct arguments *arguments)
{
    static enum status (*const commands[COMMANDS])(struct session * session) = {
#define COMMAND(ID, name, required, most, arguments, run, help) run,
#include "bindings/cli/commands.def"
#undef COMMAND
    };
    struct session session;
    enum status status = session_open(&session, arguments);
    if (status != STATUS_OK)
        return status;
    status = commands[arguments->command](&session);
    session_close(&session);
    return status;
}

/*
 * Where one of the three standard files is closed, what is opened next would get its number, and
 * what is printed would go there. Writing to this one fails instead.
 */
static void keep_standard_files(void)
{
    int file = open("/dev/null", O_RDONLY);
    while (file >= 0 && file <= STDERR_FILENO)
        file = open("/dev/null", O_RDONLY);
    if (file > STDERR_FILENO)
        close(file);
}

int main(int count, char **texts)
{
    keep_standard_files();
    struct arguments arguments;
    enum status status = arguments_read(&arguments, count, texts, stderr);
    if (status != STATUS_OK)
        return (int)status;
    if (arguments.options[OPTION_HELP].given)
        arguments_print_help(stdout, &arguments);
    else if (arguments.options[OPTION_VERSION].given)
        printf("cubby %s\n", cubby_version());
    else
        return (int)run(&arguments);
    return fflush(stdout) == 0 ? STATUS_OK : STATUS_FAILED;
}

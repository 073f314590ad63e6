#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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
 * what is printed would go there. Reading standard input, and writing to the others, fails instead.
 */
static void keep_standard_files(void)
{
    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++)
        if (fcntl(file, F_GETFD) < 0)
            (void)!open("/dev/null", file == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int count, char **texts)
{
    keep_standard_files();
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write, not our end */
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
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return STATUS_OK;
    fprintf(stderr, "cubby: writing: %s\n", strerror(errno));
    return STATUS_FAILED;
}

#include "tests/bindings/cubbyd.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

static void become_cubbyd(const struct cubbyd *cubbyd, const char *program)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(program, program, "--listen", cubbyd->endpoint, "--publish", cubbyd->broadcast, "--data",
          cubbyd->keeps ? cubbyd->data : "none", (char *)NULL);
    _exit(127);
}

static void run(struct cubbyd *cubbyd)
{
    const char *program = getenv("CUBBYD");
    cr_assert_not_null(program, "CUBBYD names no program");
    cubbyd->pid = fork();
    cr_assert_geq(cubbyd->pid, 0);
    if (cubbyd->pid == 0)
        become_cubbyd(cubbyd, program);
    struct cubby *cubby = cubbyd_client(cubbyd);
    cr_assert_eq(cubby_ping(cubby, NULL), CUBBY_OK, "cubbyd does not answer");
    cubby_close(&cubby);
}

void cubbyd_start(struct cubbyd *cubbyd, bool keeps)
{
    *cubbyd = (struct cubbyd){.keeps = keeps};
    snprintf(cubbyd->directory, sizeof(cubbyd->directory), "/tmp/cubby-test-XXXXXX");
    cr_assert_not_null(mkdtemp(cubbyd->directory));
    snprintf(cubbyd->endpoint, sizeof(cubbyd->endpoint), "ipc://%.64s/r", cubbyd->directory);
    snprintf(cubbyd->broadcast, sizeof(cubbyd->broadcast), "ipc://%.64s/b", cubbyd->directory);
    snprintf(cubbyd->data, sizeof(cubbyd->data), "%.64s/data", cubbyd->directory);
    run(cubbyd);
}

void cubbyd_stop(struct cubbyd *cubbyd)
{
    int status = 0;
    cr_assert_eq(kill(cubbyd->pid, SIGTERM), 0);
    cr_assert_eq(waitpid(cubbyd->pid, &status, 0), cubbyd->pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "cubbyd ended with %d", status);
}

void cubbyd_restart(struct cubbyd *cubbyd)
{
    run(cubbyd);
}

void cubbyd_remove(struct cubbyd *cubbyd)
{
    char command[2 * CUBBYD_PATH_SIZE];
    snprintf(command, sizeof(command), "rm -rf '%s'", cubbyd->directory);
    cr_assert_eq(system(command), 0); // NOLINT(cert-env33-c): the path is our own
}

struct cubby *cubbyd_client(const struct cubbyd *cubbyd)
{
    struct cubby *cubby;
    struct cubby_options options = {.endpoint = cubbyd->endpoint,
                                    .broadcast = cubbyd->broadcast,
                                    .timeout_ms = CUBBYD_TIMEOUT_MS};
    cr_assert_eq(cubby_open(&cubby, &options), CUBBY_OK);
    return cubby;
}

#include "bindings/cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_STEP = 4096, CANNOT_RUN = 127 };

extern char **environ;

/* ---- Starting ------------------------------------------------------------------------------- */

/* A directory may be executable, too. */
static bool is_program(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISREG(about.st_mode) && access(path, X_OK) == 0;
}

static bool is_in(const char *directory, size_t size, const char *name)
{
    char path[4096];
    int length = snprintf(path, sizeof(path), "%.*s/%s", (int)size, directory, name);
    return length > 0 && (size_t)length < sizeof(path) && is_program(path);
}

bool child_can_run(const char *program)
{
    const char *path = getenv("PATH");
    if (strchr(program, '/') != NULL)
        return is_program(program);
    while (path != NULL && *program != 0) {
        size_t size = strcspn(path, ":");
        if (is_in(size > 0 ? path : ".", size > 0 ? size : 1, program))
            return true;
        path = path[size] == ':' ? path + size + 1 : NULL;
    }
    return false;
}

/* Made before fork, since malloc is not allowed between that and exec. NULL: no memory. */
static const char **make_environment(const char *const *variables)
{
    size_t ours = 0, others = 0;
    while (variables[ours] != NULL)
        ours++;
    while (environ[others] != NULL)
        others++;
    const char **made = calloc(ours + others + 1, sizeof(*made));
    if (made == NULL)
        return NULL;
    memcpy(made, variables, ours * sizeof(*made));
    memcpy(made + ours, environ, others * sizeof(*made));
    return made;
}

static void say(const char *text)
{
    ssize_t written = write(STDERR_FILENO, text, strlen(text));
    (void)written;
}

/* Between fork and exec: only what is allowed in a signal handler. */
static void become(char *const *program, const char **environment, int in, int err, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CANNOT_RUN);
    dup2(in, STDIN_FILENO);
    dup2(err, STDERR_FILENO);
    execvpe(program[0], program, (char *const *)environment);
    const char *reason = strerrordesc_np(errno);
    say("cubby: cannot run ");
    say(program[0]);
    say(": ");
    say(reason != NULL ? reason : "unknown error");
    say("\n");
    _exit(CANNOT_RUN);
}

static void close_pair(const int *pair)
{
    int error = errno;
    close(pair[0]);
    close(pair[1]);
    errno = error;
}

/* Reading ends first. Ours do not block. */
static int open_pipes(int *in, int *err)
{
    if (pipe2(in, O_CLOEXEC) != 0)
        return -1;
    if (pipe2(err, O_CLOEXEC) != 0) {
        close_pair(in);
        return -1;
    }
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    return 0;
}

int child_start(struct child *child, char *const *program, const char *const *variables)
{
    int in[2], err[2];
    pid_t parent = getpid();
    const char **environment = make_environment(variables);
    if (environment == NULL)
        return -1;
    if (open_pipes(in, err) != 0) {
        free(environment);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0)
        become(program, environment, in[0], err[1], parent);
    free(environment);
    if (pid < 0) {
        close_pair(in);
        close_pair(err);
        return -1;
    }
    setpgid(pid, pid); /* whoever comes first */
    close(in[0]);
    close(err[1]);
    child->pid = pid;
    child->in = in[1];
    child->err = err[0];
    child->written = 0;
    child->line_size = 0;
    child->line_ended = false;
    child_work(child);
    return 0;
}

/* ---- While it runs -------------------------------------------------------------------------- */

static void close_end(int *end)
{
    if (*end >= 0)
        close(*end);
    *end = -1;
}

static void write_body(struct child *child)
{
    while (child->in >= 0 && child->written < child->body.size) {
        ssize_t size =
            write(child->in, child->body.data + child->written, child->body.size - child->written);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size < 0 && errno != EINTR)
            break; /* it does not want the rest */
        child->written += size > 0 ? (size_t)size : 0;
    }
    close_end(&child->in);
}

/* A line that is longer is cut. */
static void keep_line(struct child *child, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n' || text[i] == '\r') {
            child->line_ended = true;
            continue;
        }
        if (child->line_ended)
            child->line_size = 0;
        child->line_ended = false;
        if (child->line_size < CHILD_LINE_SIZE)
            child->line[child->line_size++] = text[i];
    }
}

static void read_errors(struct child *child)
{
    char text[READ_STEP];
    ssize_t size = 1;
    while (child->err >= 0 && size != 0) {
        size = read(child->err, text, sizeof(text));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && errno == EAGAIN)
            return;
        if (size <= 0)
            break;
        fwrite(text, 1, (size_t)size, stderr);
        keep_line(child, text, (size_t)size);
    }
    close_end(&child->err);
}

void child_work(struct child *child)
{
    if (child->pid == 0)
        return;
    write_body(child);
    read_errors(child);
}

size_t child_polls(const struct child *child, struct pollfd *polls)
{
    size_t count = 0;
    if (child->pid != 0 && child->in >= 0)
        polls[count++] = (struct pollfd){.fd = child->in, .events = POLLOUT};
    if (child->pid != 0 && child->err >= 0)
        polls[count++] = (struct pollfd){.fd = child->err, .events = POLLIN};
    return count;
}

/* What others hold open is not waited for. */
bool child_has_ended(struct child *child)
{
    if (child->pid == 0 || waitpid(child->pid, &child->status, WNOHANG) != child->pid)
        return false;
    read_errors(child);
    close_end(&child->in);
    close_end(&child->err);
    child->pid = 0;
    return true;
}

void child_signal(const struct child *child, int number)
{
    if (child->pid != 0)
        kill(-child->pid, number);
}

void child_clear(struct child *child)
{
    buffer_restart(&child->body);
    child->line_size = 0;
}

void child_free(struct child *child)
{
    buffer_free(&child->body);
}

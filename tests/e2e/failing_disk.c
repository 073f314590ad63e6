/*
 * A disk that fails on command, for tests that start cubbyd with this library in LD_PRELOAD: while
 * the file that FAILING_DISK names exists, every fdatasync fails with EIO; while the one that
 * WAITING_DISK names does, none comes to an end, and once the first thread waits there is a file
 * of that name with ".reached" behind it; while the one of SLOW_DISK does, each takes SLOW_US
 * longer.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SLOW_US = 100000 };

static bool is_there(const char *variable)
{
    const char *path = getenv(variable);
    return path != NULL && access(path, F_OK) == 0;
}

static void note_reached(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.reached", getenv("WAITING_DISK"));
    int file = gettid() == getpid() ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file >= 0)
        close(file);
}

int fdatasync(int file)
{
    int (*next)(int);
    if (is_there("WAITING_DISK"))
        note_reached();
    while (is_there("WAITING_DISK"))
        usleep(1000);
    if (is_there("SLOW_DISK"))
        usleep(SLOW_US);
    if (is_there("FAILING_DISK")) {
        errno = EIO;
        return -1;
    }
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    return next(file);
}

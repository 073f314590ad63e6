/*
 * A disk that fails on command, for tests that start cubbyd with this library in LD_PRELOAD: while
 * the file that FAILING_DISK names exists, every fdatasync fails with EIO; while the one that
 * WAITING_DISK names does, none comes to an end; while the one of SLOW_DISK does, each takes
 * SLOW_US longer.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { SLOW_US = 100000 };

static bool is_there(const char *variable)
{
    const char *path = getenv(variable);
    return path != NULL && access(path, F_OK) == 0;
}

int fdatasync(int file)
{
    int (*next)(int);
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

/*
 * A disk that fails on command, for tests that start cubbyd with this library in LD_PRELOAD: while
 * the file that FAILING_DISK names exists, every fdatasync fails with EIO.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int file)
{
    int (*next)(int);
    const char *switch_path = getenv("FAILING_DISK");
    if (switch_path != NULL && access(switch_path, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    return next(file);
}

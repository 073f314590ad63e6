/*
 * Counts the system calls of a process's first thread, for tests that start cubbyd with this
 * library in LD_PRELOAD. The file that CALL_COUNTS names has the numbers, at any time: a u64 for
 * each of `enum call`, in the machine's order.
 *
 * What libzmq and the daemon call to wait and to wake each other is counted; epoll_wait, which
 * cubbyd defines itself, where that asks the system (daemon/interposed.h).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum call { POLL, EPOLL_WAIT, READ, WRITE, GETPID, CALLS };

static uint64_t *counts;          /* CALLS of them, or NULL */
static _Thread_local int counted; /* this is the thread that loaded the library */

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("CALL_COUNTS");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, CALLS * sizeof *counts) != 0)
        return;
    void *memory = mmap(NULL, CALLS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    counts = memory == MAP_FAILED ? NULL : memory;
    counted = counts != NULL;
    close(file);
}

static void count(enum call call)
{
    if (counted)
        counts[call]++;
}

/* The next definition of the function, in `next`. */
#define NEXT(next, name) (*(void **)&(next) = dlsym(RTLD_NEXT, name))

int poll(struct pollfd *files, nfds_t number, int ms)
{
    static int (*next)(struct pollfd *, nfds_t, int);
    if (next == NULL)
        NEXT(next, "poll");
    count(POLL);
    return next(files, number, ms);
}

ssize_t read(int file, void *bytes, size_t size)
{
    static ssize_t (*next)(int, void *, size_t);
    if (next == NULL)
        NEXT(next, "read");
    count(READ);
    return next(file, bytes, size);
}

ssize_t write(int file, const void *bytes, size_t size)
{
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL)
        NEXT(next, "write");
    count(WRITE);
    return next(file, bytes, size);
}

pid_t getpid(void)
{
    static pid_t (*next)(void);
    if (next == NULL)
        NEXT(next, "getpid");
    count(GETPID);
    return next();
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long arguments[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(rest, long);
    va_end(rest);
    if (next == NULL)
        NEXT(next, "syscall");
    if (number == SYS_epoll_wait)
        count(EPOLL_WAIT);
    return next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                arguments[5]);
}

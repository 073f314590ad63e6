/*
 * Records what a process does to the files below a directory, for tests that start cubbyd with this
 * library in LD_PRELOAD and then ask which contents a power failure could have left; disk.py does.
 *
 *     DISK_TRACE=FILE DISK_TRACE_ROOT=DIRECTORY LD_PRELOAD=libdisk_trace.so cubbyd …
 *
 * The file gets one event behind the other, each with one write in append mode, so that events of
 * this process and notes of others (what was acknowledged when) are in the order in which they
 * happened. An event is these 32 bytes, in the machine's order, and `size` bytes behind them:
 *
 *     0  u32 kind      4  u32 handle      8  u64 a      16  u64 b      24  u32 size    28  u32 zero
 *
 *     'I' a process begins: handles and numbers are new
 *     'O' open of a file or directory: a = flags, b = it was made by that; its path
 *     'W' write: a = offset, b = durable by itself (O_DSYNC); the bytes
 *     'Z' write of zeros: a = offset, b = how many
 *     'T' the file has a new size: a, larger or smaller
 *     'B' an fsync or fdatasync begins: a = its number; 'E' it has ended well
 *     'R' rename: both paths, a zero between; 'U' unlink or rmdir: path; 'M' mkdir: path
 *     'X' what this library cannot follow: its name. A test with one of these proves nothing
 *
 * A write is noted once it is done and a sync when it begins, under one lock, so that a sync covers
 * exactly the writes noted before it. sync_file_range promises nothing, so it is no event.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_FILES = 4096, MAX_PARTS = 64 };

#define EXPORT __attribute__((visibility("default")))

struct event {
    uint32_t kind;
    uint32_t handle;
    uint64_t a;
    uint64_t b;
    uint32_t size;
    uint32_t zero;
};

/* What a descriptor stands for. It may be closed behind our back, so this is checked at each use.
 */
struct known {
    dev_t device;
    ino_t inode;
    uint32_t handle; /* 0: not below the root */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct known table[MAX_FILES];
static uint32_t last_handle;
static uint64_t last_sync;
static int trace = -1;
static char root[PATH_MAX];

static void note(uint32_t kind, uint32_t handle, uint64_t a, uint64_t b, const void *bytes,
                 size_t size)
{
    struct event event = {kind, handle, a, b, (uint32_t)size, 0};
    struct iovec parts[] = {{&event, sizeof event}, {(void *)(uintptr_t)bytes, size}};
    if (syscall(SYS_writev, trace, parts, size > 0 ? 2 : 1) != (ssize_t)(sizeof event + size))
        abort(); /* a trace with a hole would prove nothing */
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("DISK_TRACE");
    const char *below = getenv("DISK_TRACE_ROOT");
    if (path == NULL || below == NULL || strlen(below) >= sizeof root)
        return;
    strcpy(root, below);
    trace =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (trace >= 0)
        note('I', 0, 0, 0, NULL, 0);
}

static int is_below(const char *path)
{
    size_t size = strlen(root);
    return trace >= 0 && strncmp(path, root, size) == 0 && (path[size] == '/' || path[size] == 0);
}

/* The path of what a descriptor stands for, or of a name in the directory that it is. */
static void find_path(int file, const char *name, char path[PATH_MAX])
{
    char link[64];
    char base[PATH_MAX] = "";
    path[0] = '\0';
    if (name != NULL && name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    snprintf(link, sizeof link, file == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, base, sizeof base - 1);
    base[size > 0 ? size : 0] = '\0';
    if (name == NULL || strcmp(name, ".") == 0)
        snprintf(path, PATH_MAX, "%s", base);
    else if (strlen(base) + strlen(name) + 2 <= PATH_MAX)
        strcat(strcat(strcpy(path, base), "/"), name);
}

static struct known *remember(int file, int flags, int made, const struct stat *status)
{
    char path[PATH_MAX];
    struct known *known = &table[file];
    find_path(file, NULL, path);
    *known = (struct known){.device = status->st_dev, .inode = status->st_ino};
    if (!is_below(path))
        return known;
    known->handle = ++last_handle;
    note('O', known->handle, (uint64_t)flags, (uint64_t)made, path, strlen(path));
    return known;
}

/* Handle of a file or directory below the root, else 0. With the lock held. */
static uint32_t handle_of(int file)
{
    struct stat status;
    if (trace < 0 || file < 0 || file >= MAX_FILES || fstat(file, &status) != 0 ||
        (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)))
        return 0;
    struct known *known = &table[file];
    if (known->device != status.st_dev || known->inode != status.st_ino)
        known = remember(file, 0, 0, &status);
    return known->handle;
}

static void refuse(const char *what)
{
    note('X', 0, 0, 0, what, strlen(what));
}

/* For a call on a descriptor that is not followed. */
static void refuse_on(int file, const char *what)
{
    pthread_mutex_lock(&lock);
    if (handle_of(file) != 0)
        refuse(what);
    pthread_mutex_unlock(&lock);
}

static int open_at(int directory, const char *name, int flags, mode_t mode)
{
    struct stat status;
    pthread_mutex_lock(&lock);
    int existed = (flags & O_CREAT) == 0 || fstatat(directory, name, &status, 0) == 0;
    int file = (int)syscall(SYS_openat, directory, name, flags, mode);
    int cause = errno;
    if (trace >= 0 && file >= 0 && file < MAX_FILES && fstat(file, &status) == 0 &&
        (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)))
        remember(file, flags, !existed, &status);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return file;
}

static mode_t mode_of(int flags, va_list rest)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(rest, int) : 0;
}

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = mode_of(flags, rest);                                                        \
        va_end(rest);                                                                              \
        return open_at(AT_FDCWD, path, flags, mode);                                               \
    }

#define OPENAT(name)                                                                               \
    EXPORT int name(int directory, const char *path, int flags, ...)                               \
    {                                                                                              \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = mode_of(flags, rest);                                                        \
        va_end(rest);                                                                              \
        return open_at(directory, path, flags, mode);                                              \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

EXPORT int creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static int is_zero(const uint8_t *bytes, size_t size)
{
    return size > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static void note_bytes(int file, uint32_t handle, uint64_t offset, const uint8_t *bytes,
                       size_t size)
{
    int flags = fcntl(file, F_GETFL);
    int durable = flags >= 0 && (flags & O_DSYNC) != 0;
    if (!durable && is_zero(bytes, size))
        note('Z', handle, offset, size, NULL, 0);
    else
        note('W', handle, offset, (uint64_t)durable, bytes, size);
}

/* A write of several parts; offset -1: at the place where the descriptor is. */
static ssize_t write_parts(int file, const struct iovec *parts, int count, off_t offset)
{
    pthread_mutex_lock(&lock);
    uint32_t handle = handle_of(file);
    ssize_t done = offset < 0 ? syscall(SYS_writev, file, parts, count)
                              : syscall(SYS_pwritev, file, parts, count, offset, 0);
    int cause = errno;
    if (handle != 0 && done > 0) {
        uint64_t at = (uint64_t)(offset < 0 ? lseek(file, 0, SEEK_CUR) - done : offset);
        size_t left = (size_t)done;
        for (int i = 0; i < count && left > 0; i++) {
            size_t size = parts[i].iov_len < left ? parts[i].iov_len : left;
            note_bytes(file, handle, at, parts[i].iov_base, size);
            at += size;
            left -= size;
        }
    }
    pthread_mutex_unlock(&lock);
    errno = cause;
    return done;
}

EXPORT ssize_t write(int file, const void *bytes, size_t size)
{
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct stat status;
    if (trace < 0 || fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
        return syscall(SYS_write, file, bytes, size);
    return write_parts(file, &part, 1, -1);
}

EXPORT ssize_t writev(int file, const struct iovec *parts, int count)
{
    return write_parts(file, parts, count, -1);
}

EXPORT ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(file, parts, count, offset);
}

EXPORT ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(file, parts, count, offset);
}

EXPORT ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset)
{
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    return write_parts(file, &part, 1, offset);
}

EXPORT ssize_t pwrite64(int file, const void *bytes, size_t size, off_t offset)
{
    return pwrite(file, bytes, size, offset);
}

static int resize(int file, off_t size)
{
    pthread_mutex_lock(&lock);
    uint32_t handle = handle_of(file);
    int result = (int)syscall(SYS_ftruncate, file, size);
    if (result == 0 && handle != 0)
        note('T', handle, (uint64_t)size, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int ftruncate(int file, off_t size)
{
    return resize(file, size);
}

EXPORT int ftruncate64(int file, off_t size)
{
    return resize(file, size);
}

/* Of what fallocate can do, only a larger size is to be seen in a file. */
EXPORT int fallocate(int file, int mode, off_t offset, off_t length)
{
    struct stat status;
    pthread_mutex_lock(&lock);
    uint32_t handle = handle_of(file);
    int result = (int)syscall(SYS_fallocate, file, mode, offset, length);
    int cause = errno;
    if (result == 0 && handle != 0 && (mode & ~FALLOC_FL_KEEP_SIZE) != 0)
        refuse("fallocate");
    else if (result == 0 && handle != 0 && mode == 0 && fstat(file, &status) == 0)
        note('T', handle, (uint64_t)status.st_size, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = cause;
    return result;
}

EXPORT int fallocate64(int file, int mode, off_t offset, off_t length)
{
    return fallocate(file, mode, offset, length);
}

EXPORT int posix_fallocate(int file, off_t offset, off_t length)
{
    return fallocate(file, 0, offset, length) == 0 ? 0 : errno;
}

EXPORT int posix_fallocate64(int file, off_t offset, off_t length)
{
    return posix_fallocate(file, offset, length);
}

/* Not under the lock while it runs: that others write meanwhile is the point. */
static int sync_file(int file, long call)
{
    pthread_mutex_lock(&lock);
    uint32_t handle = handle_of(file);
    uint64_t number = ++last_sync;
    if (handle != 0)
        note('B', handle, number, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    int result = (int)syscall(call, file);
    if (handle != 0 && result == 0)
        note('E', handle, number, 0, NULL, 0);
    return result;
}

EXPORT int fsync(int file)
{
    return sync_file(file, SYS_fsync);
}

EXPORT int fdatasync(int file)
{
    return sync_file(file, SYS_fdatasync);
}

static int rename_at(int from_directory, const char *from, int to_directory, const char *to)
{
    char paths[2 * PATH_MAX];
    char target[PATH_MAX];
    pthread_mutex_lock(&lock);
    find_path(from_directory, from, paths);
    find_path(to_directory, to, target);
    int result = (int)syscall(SYS_renameat, from_directory, from, to_directory, to);
    if (result == 0 && (is_below(paths) || is_below(target))) {
        size_t size = strlen(paths) + 1;
        strcpy(paths + size, target);
        note('R', 0, 0, 0, paths, size + strlen(target));
    }
    pthread_mutex_unlock(&lock);
    return result;
}

EXPORT int rename(const char *from, const char *to)
{
    return rename_at(AT_FDCWD, from, AT_FDCWD, to);
}

EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return rename_at(from_directory, from, to_directory, to);
}

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to,
                     unsigned flags)
{
    if (flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return rename_at(from_directory, from, to_directory, to);
}

static int unlink_at(int directory, const char *name, int flags)
{
    char path[PATH_MAX];
    pthread_mutex_lock(&lock);
    find_path(directory, name, path);
    int result = (int)syscall(SYS_unlinkat, directory, name, flags);
    int cause = errno;
    if (result == 0 && is_below(path))
        note('U', 0, 0, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    errno = cause;
    return result;
}

EXPORT int unlink(const char *path)
{
    return unlink_at(AT_FDCWD, path, 0);
}

EXPORT int unlinkat(int directory, const char *name, int flags)
{
    return unlink_at(directory, name, flags);
}

EXPORT int rmdir(const char *path)
{
    return unlink_at(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int remove(const char *path)
{
    struct stat status;
    int directory = lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
    return unlink_at(AT_FDCWD, path, directory ? AT_REMOVEDIR : 0);
}

static int make_directory(int directory, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    pthread_mutex_lock(&lock);
    find_path(directory, name, path);
    int result = (int)syscall(SYS_mkdirat, directory, name, mode);
    int cause = errno;
    if (result == 0 && is_below(path))
        note('M', 0, 0, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    errno = cause;
    return result;
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    return make_directory(AT_FDCWD, path, mode);
}

EXPORT int mkdirat(int directory, const char *name, mode_t mode)
{
    return make_directory(directory, name, mode);
}

/* What is written through memory is not seen. LMDB's table of readers is worth nothing later. */
static void *map(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    char path[PATH_MAX];
    if (trace >= 0 && file >= 0 && (flags & MAP_SHARED) != 0 && (protection & PROT_WRITE) != 0) {
        find_path(file, NULL, path);
        const char *name = strrchr(path, '/');
        if (name == NULL || strcmp(name, "/lock.mdb") != 0)
            refuse_on(file, "mmap for writing");
    }
    return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}

EXPORT void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return map(address, size, protection, flags, file, offset);
}

EXPORT void *mmap64(void *address, size_t size, int protection, int flags, int file, off_t offset)
{
    return map(address, size, protection, flags, file, offset);
}

/* Not used so far, and so not followed. */

EXPORT int link(const char *from, const char *to)
{
    if (trace >= 0)
        refuse("link");
    return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int truncate(const char *path, off_t size)
{
    if (trace >= 0)
        refuse("truncate");
    return (int)syscall(SYS_truncate, path, size);
}

EXPORT ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t size,
                               unsigned flags)
{
    refuse_on(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
}

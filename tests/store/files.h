/* Files as tests read and change them. */
#ifndef TESTS_STORE_FILES_H
#define TESTS_STORE_FILES_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A whole file in memory; `bytes` is the caller's. */
struct content {
    uint8_t *bytes;
    size_t size;
};

static inline struct content read_path(const char *path)
{
    struct content content = {0};
    struct stat status;
    int file = open(path, O_RDONLY);
    cr_assert(file >= 0 && fstat(file, &status) == 0, "%s", path);
    content.size = (size_t)status.st_size;
    content.bytes = malloc(content.size + 1);
    cr_assert_eq(pread(file, content.bytes, content.size, 0), (ssize_t)content.size);
    close(file);
    return content;
}

static inline void write_path(const char *path, const void *bytes, size_t size)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert(file >= 0, "%s", path);
    cr_assert_eq(pwrite(file, bytes, size, 0), (ssize_t)size);
    close(file);
}

#endif

#include "store/rocks_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/on_disk.h"

/*
 * The manifest is a log of RocksDB's: blocks of BLOCK bytes, in which records lie one behind the
 * other and never across. What is too short for a header at the end of a block is left zero.
 *
 *     0  u32 CRC-32C of type and payload, masked    6  u8 type
 *     4  u16 length of the payload                  7  payload
 */
enum { BLOCK = 32768, HEADER = 7, AT_LENGTH = 4, AT_TYPE = 6, MAX_MANIFEST = 256 << 20 };

static bool is_whole(const uint8_t *record, size_t length)
{
    uint32_t crc = ~crc32c(UINT32_MAX, record + AT_TYPE, 1 + length);
    return ((crc >> 15 | crc << 17) + 0xa282ead8u) == get32(record);
}

/* The record that is not whole and is the last: up to the end of the file, or before zeros alone.
 */
static bool find_torn(const uint8_t *bytes, size_t size, uint64_t *end)
{
    size_t at = 0;
    while (at + HEADER <= size) {
        size_t left = BLOCK - at % BLOCK;
        size_t length = get16(bytes + at + AT_LENGTH);
        size_t behind = at + HEADER + length;
        if (left < HEADER) {
            at += left;
            continue;
        }
        if (behind > size)
            return false;
        if (get32(bytes + at) == 0 && length == 0)
            return false; /* zeros, which RocksDB passes over */
        if (length + HEADER > left || !is_whole(bytes + at, length)) {
            while (behind < size && bytes[behind] == 0)
                behind++;
            *end = at;
            return behind == size;
        }
        at = behind;
    }
    return false;
}

static int read_all(int file, uint8_t *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t count = pread(file, bytes + done, size - done, (off_t)done);
        if (count < 0 && errno != EINTR)
            return errno;
        if (count == 0)
            return EIO;
        done += count > 0 ? (size_t)count : 0;
    }
    return 0;
}

int manifest_find_torn_end(const char *path, bool *torn, uint64_t *end)
{
    struct stat status;
    uint8_t *bytes = NULL;
    int rc = 0;
    *torn = false;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    if (fstat(file, &status) != 0)
        rc = errno;
    if (rc == 0 && status.st_size <= MAX_MANIFEST) {
        bytes = malloc((size_t)status.st_size + 1);
        rc = bytes != NULL ? read_all(file, bytes, (size_t)status.st_size) : ENOMEM;
        if (rc == 0)
            *torn = find_torn(bytes, (size_t)status.st_size, end);
    }
    free(bytes);
    close(file);
    return rc;
}

int manifest_cut(const char *path, uint64_t end)
{
    int rc = 0;
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    if (ftruncate(file, (off_t)end) != 0 || fsync(file) != 0)
        rc = errno;
    close(file);
    return rc;
}

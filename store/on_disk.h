/*
 * Numbers as files have them, little-endian, and the checksum of files: CRC-32C.
 */
#ifndef STORE_ON_DISK_H
#define STORE_ON_DISK_H

#include <endian.h>
#include <isa-l/crc.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void put16(uint8_t *bytes, uint16_t value)
{
    value = htole16(value);
    memcpy(bytes, &value, sizeof(value));
}

static inline void put32(uint8_t *bytes, uint32_t value)
{
    value = htole32(value);
    memcpy(bytes, &value, sizeof(value));
}

static inline void put64(uint8_t *bytes, uint64_t value)
{
    value = htole64(value);
    memcpy(bytes, &value, sizeof(value));
}

static inline uint16_t get16(const uint8_t *bytes)
{
    uint16_t value;
    memcpy(&value, bytes, sizeof(value));
    return le16toh(value);
}

static inline uint32_t get32(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
    return le32toh(value);
}

static inline uint64_t get64(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof(value));
    return le64toh(value);
}

/*
 * Goes on from `crc` over more bytes. A file begins with UINT32_MAX and keeps the complement of
 * what it ends with; those that begin with 0 and keep it as it is were here first.
 */
static inline uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
    enum { STEP = 1 << 30 }; /* the library counts in int, and its prototype lacks a const */
    unsigned char *at = (unsigned char *)(uintptr_t)bytes;
    for (; size > STEP; at += STEP, size -= STEP)
        crc = crc32_iscsi(at, STEP, crc);
    return crc32_iscsi(at, (int)size, crc);
}

#endif

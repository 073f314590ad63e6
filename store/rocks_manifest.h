/*
 * The end of RocksDB's manifest. RocksDB syncs each record of it before anything relies on that; so
 * a power failure may leave the last one in part, and what it says has not happened then. RocksDB
 * itself passes over a record that is too short, but not over one whose space is there and whose
 * bytes are not: it takes that for damage, and does not open.
 */
#ifndef STORE_ROCKS_MANIFEST_H
#define STORE_ROCKS_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Whether the file ends with such a record, and where that begins. 0, or the system's error. Where
 * anything whole is behind a record that is not, that is damage, and nothing is said of it here.
 */
int manifest_find_torn_end(const char *path, bool *torn, uint64_t *end);

/* Cuts the file off there, durably. */
int manifest_cut(const char *path, uint64_t end);

#endif

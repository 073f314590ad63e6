/*
 * What can go wrong below the daemon. Functions of store/ return 0 or one of these codes; those
 * that open something also fill a struct store_error with a sentence for a person. Nothing here
 * logs or exits.
 */
#ifndef STORE_ERROR_H
#define STORE_ERROR_H

enum store_code {
    STORE_OK,
    STORE_NOT_FOUND, /* no such key */
    STORE_NO_MEMORY, /* an allocation failed, nothing was done */
    STORE_FULL,      /* the disk or the memory limit is reached, nothing was done */
    STORE_IO,        /* the system refused a read, write or sync; what is on disk is unknown */
    STORE_CORRUPT,   /* stored bytes fail their check */
    STORE_LOCKED,    /* another process has the data directory */
    STORE_INVALID,   /* what was asked for cannot be: options, or a directory of another kind */
    STORE_COMPACTED, /* history from there is not kept */
};

enum { STORE_MAX_ERROR_MESSAGE = 512 };

struct store_error {
    enum store_code code;
    char message[STORE_MAX_ERROR_MESSAGE]; /* one line, says what to do where there is something */
};

/* Sets code and message (printf style) and returns the code. `error` may be NULL. */
enum store_code store_fail(struct store_error *error, enum store_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif

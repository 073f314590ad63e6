/*
 * Every maximum of the protocol, in one place. `hello` reports those that a client must know;
 * wire/README.md lists them all. Sizes are bytes unless the name says otherwise.
 */
#ifndef WIRE_LIMITS_H
#define WIRE_LIMITS_H

enum {
    WIRE_MAX_KEY = 1024,
    WIRE_MAX_QUEUE_NAME = 255,
    WIRE_MAX_VALUE = 1 << 20,   /* a value or body, encoded */
    WIRE_MAX_MESSAGE = 8 << 20, /* a request; the results of a batch */
    WIRE_MAX_BATCH = 10000,     /* operations of one batch, guards of one batch */
    WIRE_MAX_CHANGES = 100000,  /* changes of one batch */
    WIRE_MAX_DEPTH = 64,        /* arrays and maps nested, counted from the value */
    WIRE_MAX_PAGE = 10000,      /* `limit` of scan, delete_range, changes */
    WIRE_DEFAULT_PAGE = 1000,
    WIRE_PAGE_BYTES = 1 << 20,    /* a page ends at about this size; one entry may pass it */
    WIRE_MAX_CLIENT_NAME = 255,   /* `client` of hello */
    WIRE_MAX_WAITERS = 100000,    /* reserves and pops that wait, of the daemon */
    WIRE_MAX_WATCHES = 10000,     /* watches of the daemon */
    WIRE_DEFAULT_CREDIT = 64,     /* `credit` of watch where left out */
    WIRE_MAX_BACKUPS = 4,         /* open backups of the daemon */
    WIRE_PLACE_SIZE = 16,         /* `at` of a job */
    WIRE_MAX_QUEUES = 1000,       /* names in one reserve or pop */
    WIRE_MAX_JOBS = 1000,         /* `count` of reserve and pop, `limit` of peek */
    WIRE_MAX_KICK = 10000,        /* `count` of kick */
    WIRE_DEFAULT_PEEK = 100,      /* `limit` of peek where left out */
    WIRE_MAX_PRODUCER_ID = 255,   /* `id` of push, where str or bin */
    WIRE_MAX_JOB_ERROR = 1024,    /* `error` of nack and bury */
    WIRE_MAX_SUBSCRIPTION = 2048, /* one message from a subscriber: a topic and its command */
    WIRE_MAX_ERROR_MESSAGE = 200, /* `message` of an error, with its terminating zero */
};

#define WIRE_MAX_DURATION_MS (UINT64_C(1) << 48)
#define WIRE_MAX_PRIORITY    UINT64_C(4294967295)

/* Notifications that a watch may have left to send. */
#define WIRE_MAX_CREDIT UINT64_C(4294967295)

#endif

/*
 * A router as cubbyd has one, and peers that speak ZMTP over plain sockets. What fails ends the
 * test; what does not come within DEADLINE_MS is a failure.
 */
#ifndef TESTS_DAEMON_RAW_PEERS_H
#define TESTS_DAEMON_RAW_PEERS_H

#include <stddef.h>

enum {
    DEADLINE_MS = 20000,
    GREETING = 64,      /* bytes of a greeting, */
    GREETING_SIZE = 94, /* and with the command READY behind it */
    MESSAGE_SIZE = 12,
};

/* Of a DEALER, READY included; a message of 1 byte and a ping. */
extern const char greeting[GREETING_SIZE];
extern const char message_and_ping[MESSAGE_SIZE];

/* The router of this test and its ZeroMQ context; of its peers so many messages may wait; 0: any
 * number. */
extern void *context, *router;
void open_router(const char *endpoint, int most);
void close_router(void);

/* A connection to it over tcp://, and one that has greeted it and was greeted. The caller's. */
int new_connection(void);
int new_peer(void);

void send_all(int file, const char *bytes, size_t size);

/* Until the router has said who it is, in a greeting and a command. */
void receive_greeting(int file);

/* Until ZMQ_POLLIN or ZMQ_POLLOUT of the router; 1, or 0 where that does not come. */
int wait_for(short what);

/* How many of so many messages of 1 byte have come. */
int receive_messages(int count);

/* The router's I/O thread has done what it had to when a new peer came. */
void expect_served(void);

#endif

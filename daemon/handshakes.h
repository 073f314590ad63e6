/*
 * What a peer says before its first message, as libzmq 4.3.4 can bear it: a peer cannot choose its
 * routing id. An id that was chosen could be the next one that libzmq draws (`ok`,
 * socket_base.cpp); or that of a peer whose message is being read while its replies, as many as may
 * wait, begin to leave (`!it->second.active`, the same file); or go from one connection to the next
 * while others' messages are read (`!_more`, fq.cpp). By each of these assertions any client could
 * end the process, and no option of libzmq's prevents it.
 *
 * So what libzmq receives is looked at until the handshake is over (interposed.h: recv). In
 * the command READY, the first frame of a connection, the property Identity is misspelt, so that
 * libzmq draws an id as for a peer that has chosen none. A peer of ZMTP 1 or 2, which says its id
 * in another way, is disconnected at once (libzmq would do it when its time for a handshake is
 * over), and so is one with a READY of more than 8 KiB. All else goes by as it is.
 *
 * Nothing that could carry how far a connection is comes with its bytes, hence state that belongs
 * to the process, by file descriptor.
 */
#ifndef DAEMON_HANDSHAKES_H
#define DAEMON_HANDSHAKES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A peer is connected by this file. False where no handshake can be watched: let nobody in then. */
bool handshakes_begin(int fd);

/* These bytes have come from it, and may be changed. False where the connection is to end. */
bool handshakes_hear(int fd, uint8_t *bytes, size_t size);

#endif

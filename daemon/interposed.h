/*
 * Four calls of the C library that cubbyd has of its own, for libzmq 4.3.4: the dynamic linker
 * gives libzmq the program's before the C library's. They do what the manual says, but for what
 * stands here. The first three points are about safety: by each of them any client could end the
 * process through an assertion of libzmq's, and no option of its prevents that. The fourth is about
 * speed.
 *
 * - That a connection is hung up is not told (epoll_wait). It is readable then, and its end is
 *   found by reading it, behind all that came before. Told before, while as many messages wait as
 *   libzmq may hold, libzmq stops watching the connection, but still answers the pings among what
 *   it has read, and asserts that it is watched (`!_io_error`, stream_engine_base.cpp): a client
 *   with pings (ZMQ_HEARTBEAT_IVL) that died behind a slow disk was enough.
 * - A shortage in this process, of descriptors or memory, is called one of descriptors in the
 *   system (accept4: ENFILE), which the listener of an ipc:// endpoint takes for no connection, as
 *   that of tcp:// does all of them.
 * - A routing id that a peer chooses is not heard (recv), see handshakes.h.
 * - Whether a connection can be written is not asked for each reply (epoll_ctl). Around each burst
 *   of replies to a connection libzmq makes three calls: that it wants to write, that it can, and
 *   that it wants to no more. Nearly always it has written all by then, by a first attempt of its
 *   own. So we say once, without a call, that it can, and ask the kernel only where it still wants
 *   to after that.
 *
 * The calls have no argument that could carry what they know of a connection, hence state that
 * belongs to the process: of a file, what the kernel was told; of a thread, what it was promised.
 * As with libzmq, a file is in one epoll at a time and used by its thread, and MOD comes behind
 * ADD.
 *
 * tests/daemon/interposed.c fails where libzmq does not get them.
 */
#ifndef DAEMON_INTERPOSED_H
#define DAEMON_INTERPOSED_H

/*
 * Does nothing, but that it is called makes the linker take these calls in, also where somebody
 * else offers such (a sanitizer's library, for one). By whoever makes a ZeroMQ context that serves.
 */
void interposed_begin(void);

#endif

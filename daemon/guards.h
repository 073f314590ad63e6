/*
 * Three calls of the C library, as libzmq 4.3.4 can bear them.
 *
 * Two things that any client can bring about end the process by an assertion of libzmq's, and no
 * option of its prevents them. Both begin with what the system tells its I/O threads. So cubbyd
 * defines those calls itself: the dynamic linker gives libzmq the program's own before the C
 * library's. They do what the C library's do, but for what stands here.
 *
 * epoll_ctl, epoll_wait: that a connection is hung up is not told. It is readable then, and its end
 *     is found by reading it, behind all that came before. Told before, while as many messages wait
 *     as libzmq may hold, libzmq stops watching the connection, but still answers the pings among
 *     what it has read, and asserts that it is watched (`!_io_error`, stream_engine_base.cpp): a
 *     client with pings (ZMQ_HEARTBEAT_IVL) that died behind a slow disk was enough.
 * accept4: too few descriptors in this process is called too few in the system (ENFILE for EMFILE),
 *     which the listener of an ipc:// endpoint takes for no connection, as that of tcp:// does
 * both.
 *
 * Nothing is to be called, or to be included: what links the library `daemon` has them. Where that
 * ends, tests/daemon/guards.c fails.
 */

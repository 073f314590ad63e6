"""Thousands of clients at once: all are served, a newcomer among them, memory is bounded, and those that leave
in the middle take nothing along. They speak ZMTP over plain sockets, which cost less than libzmq's."""

import os
import resource
import select
import signal
import unittest

from harness import (LONG, MIB, Client, Daemon, check_reply, deadline, eventually, is_sanitized, request,
                     resident_size)
from zmtp import Peer

CLIENTS = 5000 if LONG else 2000
EACH = 40  # requests that one of them has outstanding
LEAVE_WITH = 8
TURNS = 5  # of a client that has one request outstanding
STEADY, EACH_STEADY = 10, 200  # clients that stay, and their requests
ROUTER_MAX_MESSAGES = 6144  # as in daemon/router.h
BASE, PER_CLIENT = 64 * MIB, 80 * 1024  # bytes of memory; most is of libzmq's queues
OTHER_FILES = 100  # that this process has open


class Crowd:
    """All of them."""

    def __init__(self, daemon, count=CLIENTS):
        self.epoll = select.epoll()
        self.peers = {}
        for _ in range(count):
            peer = Peer(daemon.endpoint)
            self.peers[peer.socket.fileno()] = peer
            self.epoll.register(peer.socket, select.EPOLLIN)
        self.receive_until(lambda peer: peer.ready)

    def receive_until(self, enough, of_all=True):
        """Reads until it is enough for each, or for one of them."""
        waiting, end = {file for file, peer in self.peers.items() if not enough(peer)}, deadline()
        while waiting and (of_all or len(waiting) == len(self.peers)):
            assert deadline(0) < end, f"{len(waiting)} wait for ever"
            for file, _ in self.epoll.poll(1, 1000):
                self.peers[file].receive()
                if enough(self.peers[file]):
                    waiting.discard(file)

    def ask(self, count, key):
        """Puts; msgids count from 0."""
        requests = [request(msgid, "put", key, msgid) for msgid in range(count)]
        for peer in self.peers.values():
            peer.ask(requests)

    def answer(self):
        """Who has a reply sends the next request."""
        for file, _ in self.epoll.poll(0):
            peer, before = self.peers[file], len(self.peers[file].replies)
            peer.receive()
            if len(peer.replies) > before:
                peer.ask([request(0, "put", "crowd", 0)])

    def vanish(self):
        for peer in self.peers.values():
            peer.vanish()
        self.epoll.close()


class Crowds(unittest.TestCase):
    def setUp(self):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, hard = limits
        if hard < CLIENTS + OTHER_FILES:
            self.skipTest(f"{hard} files may be open, too few for {CLIENTS} clients")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.daemon = Daemon(listen=["tcp://127.0.0.1:*"])
        self.addCleanup(self.daemon.clean)
        self.daemon.start()

    def client(self, **options):
        client = Client(self.daemon, **options)
        self.addCleanup(client.close)
        return client

    def crowd(self):
        crowd = Crowd(self.daemon)
        self.addCleanup(crowd.vanish)
        return crowd

    def paused(self, work):
        """What comes while it is paused is there all at once."""
        os.kill(self.daemon.process.pid, signal.SIGSTOP)
        work()
        os.kill(self.daemon.process.pid, signal.SIGCONT)

    def files(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    def test_each_of_thousands_that_have_much_outstanding_has_its_first_reply_early_and_all_in_order(self):
        """Who comes meanwhile is served too."""
        crowd = self.crowd()
        self.paused(lambda: crowd.ask(EACH, "crowd"))
        crowd.receive_until(lambda peer: peer.replies, of_all=False)
        self.client().call("put", "newcomer", 0)
        crowd.receive_until(lambda peer: len(peer.replies) == EACH)
        firsts = [self.check_replies(peer.replies, EACH)[0] for peer in crowd.peers.values()]
        self.assertLess(max(firsts), CLIENTS * EACH // 3)

    def check_replies(self, replies, count):
        """To puts, in order: their versions."""
        replies = [check_reply(reply) for reply in replies]
        self.assertEqual([reply[1:3] for reply in replies], [[msgid, None] for msgid in range(count)])
        versions = [reply[3] for reply in replies]
        self.assertEqual(versions, sorted(set(versions)))
        return versions

    def test_of_thousands_that_have_one_request_outstanding_each_nobody_waits_for_more_than_few_of_each_other(self):
        """The first of each included: they are newcomers."""
        crowd, end = self.crowd(), deadline()
        crowd.ask(1, "crowd")
        while any(len(peer.replies) < TURNS for peer in crowd.peers.values()):
            self.assertLess(deadline(0), end)
            crowd.answer()
        longest = 0
        for peer in crowd.peers.values():
            versions = [0] + [check_reply(reply)[3] for reply in peer.replies]
            longest = max(longest, *(after - before for before, after in zip(versions, versions[1:])))
        self.assertLess(longest, 4 * CLIENTS)

    def test_thousands_that_leave_while_their_requests_are_read_leave_nothing_and_cost_nobody_a_reply(self):
        """More of theirs come to nothing than there may be in the daemon. Leaks are found by a sanitizer; what
        malloc keeps of the largest crowd is bounded."""
        clients = [self.client(RCVHWM=0, SNDHWM=0) for _ in range(STEADY)]
        for client in clients:
            client.call("ping")
        files, end = self.files(), deadline()
        while clients[0].call("stats")["undelivered"] < 2 * ROUTER_MAX_MESSAGES:
            self.assertLess(deadline(0), end)
            self.come_and_leave(clients)
            eventually(lambda: self.files() == files, "connections are let go")
        eventually(lambda: clients[0].call("stats")["connections"] == STEADY, "and not counted")
        if not is_sanitized():
            self.assertLess(resident_size(self.daemon), BASE + CLIENTS * PER_CLIENT)
        self.daemon.stop()

    def come_and_leave(self, clients):
        crowd = Crowd(self.daemon)
        self.paused(lambda: self.ask_all(crowd, clients))
        crowd.receive_until(lambda peer: peer.replies, of_all=False)
        crowd.vanish()
        for client in clients:
            self.check_replies([client.receive_payload() for _ in range(EACH_STEADY)], EACH_STEADY)

    def ask_all(self, crowd, clients):
        crowd.ask(LEAVE_WITH, "crowd")
        for client in clients:
            for msgid in range(EACH_STEADY):
                client.send_request(msgid, "put", "steady", msgid)


if __name__ == "__main__":
    unittest.main()

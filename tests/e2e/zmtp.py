"""ZMTP over a plain socket: for peers that do what libzmq's do not, or that cost less."""

import fcntl
import socket
import struct
import termios

GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
MORE, LARGE, COMMAND = 1, 2, 4  # flags of a frame
READY = b"\x05READY\x0bSocket-Type\0\0\0"
PING, PING_TTL, PONG = b"\x04PING", 2, b"\x04PONG"


def frame(flags, body, large=False):
    """One frame, with its size in 8 bytes where it has to be so or is wanted so."""
    if large or len(body) > 255:
        return bytes([flags | LARGE]) + struct.pack(">Q", len(body)) + body
    return bytes([flags, len(body)]) + body


class Peer:
    """One connection to a TCP endpoint; `replies` are its payloads as far as they have come."""

    def __init__(self, endpoint, kind=b"DEALER"):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall(GREETING + frame(COMMAND, READY + bytes([len(kind)]) + kind))
        self.bytes = b""
        self.greeted = self.ready = False
        self.replies = []

    def ask(self, requests):
        self.socket.sendall(b"".join(frame(0, payload) for payload in requests))

    def receive(self):
        """Reads what has come."""
        received = self.socket.recv(65536)
        assert received, "the daemon has closed the connection"
        self.bytes += received
        if not self.greeted and len(self.bytes) >= len(GREETING):
            self.greeted = True
            self.bytes = self.bytes[len(GREETING):]
        while self.greeted and self._take_frame():
            pass

    def _take_frame(self):
        flags = self.bytes[0] if self.bytes else 0
        head = 9 if flags & LARGE else 2
        if len(self.bytes) < head:
            return False
        size = struct.unpack(">Q", self.bytes[1:9])[0] if flags & LARGE else self.bytes[1]
        if len(self.bytes) < head + size:
            return False
        body, self.bytes = self.bytes[head:head + size], self.bytes[head + size:]
        if flags & COMMAND:
            self._obey(body)
        else:
            self.replies.append(body)
        return True

    def _obey(self, command):
        self.ready = self.ready or command.startswith(b"\x05READY")
        if command.startswith(PING):
            self.socket.sendall(frame(COMMAND, PONG + command[len(PING) + PING_TTL:]))

    def unsent(self):
        """Bytes that the other side's system has not confirmed."""
        return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]

    def vanish(self):
        """Without a word: what it has not read is gone."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

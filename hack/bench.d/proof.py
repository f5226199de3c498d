"""Before anything is measured: do the servers do what the scenarios say of them?"""

import socket
import threading
import time

from scenarios import MIB, RATE
from stage import REPOSITORY

RANGE = 8 * MIB
LARGEST = 128 * MIB


class Connection:
    """Reads blobs and throws them away."""

    def __init__(self, address):
        self.address = address
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        self.buffer = bytearray(256 << 10)

    def get(self, digest, start, end):
        """Reads bytes `start` to `end` of a blob."""
        request = f"GET /v2/{REPOSITORY}/blobs/{digest} HTTP/1.1\r\nHost: {self.address}\r\nRange: bytes={start}-{end - 1}\r\n\r\n"
        self.socket.sendall(request.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        assert b" 206 " in head, head
        left = end - start
        while left:
            left -= self.socket.recv_into(self.buffer, min(left, len(self.buffer)))


def one_after_another(address, digest, size, step):
    """MiB/s of one connection asking for `step` bytes after `step` bytes."""
    connection = Connection(address)
    begin = time.monotonic()
    for start in range(0, size, step):
        connection.get(digest, start, min(start + step, size))
    return size / MIB / (time.monotonic() - begin)


def at_once(address, digest, size, count):
    """MiB/s of `count` connections that share a blob."""
    connections = [Connection(address) for _ in range(count)]
    part = size // count
    threads = [
        threading.Thread(target=connection.get, args=(digest, number * part, (number + 1) * part))
        for number, connection in enumerate(connections)
    ]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return part * count / MIB / (time.monotonic() - begin)


def prove(paced, unlimited, nginx, layer):
    """Lines of (what, MiB/s, expected or None, holds). `unlimited` is the paced server's program without a rate."""
    digest, whole = layer
    size = min(whole, LARGEST)
    rate = RATE / MIB
    lines = []
    for text, step in (("one connection, one request", size), ("one connection, one 8 MiB range after another", RANGE)):
        value = one_after_another(paced.address, digest, size, step)
        lines.append((f"50 MiB/s server: {text}", value, rate, abs(value - rate) <= 0.05 * rate))
    value = at_once(paced.address, digest, whole, 16)
    lines.append(("50 MiB/s server: 16 connections at once", value, 16 * rate, value >= 0.9 * 16 * rate))
    # Not the bottleneck: more than anything measured here reaches.
    for name, server in (("same server without a rate", unlimited), ("nginx", nginx)):
        lines.append((f"{name}: 4 connections at once", at_once(server.address, digest, whole, 4), None, True))
    return lines

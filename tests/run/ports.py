"""Ports that nobody else takes.

A process has a block of ports of its own, outside those that a kernel gives to
connections: an abstract socket with the block's number holds it against other
processes with tests, in the same network namespace, as long as it lives."""
import functools
import random
import socket

FIRST, LAST, COUNT = 10000, 32000, 200


class _Block:
    def __init__(self):
        blocks = list(range((LAST - FIRST) // COUNT))
        random.shuffle(blocks)
        for number in blocks:
            self.held = socket.socket(socket.AF_UNIX)
            try:
                self.held.bind(f"\0reelcache-test-ports-{number}")
            except OSError:
                self.held.close()
                continue
            self.first = FIRST + number * COUNT
            self.given = 0
            return
        raise OSError("all blocks of ports are taken")

    def next(self):
        port = self.first + self.given % COUNT
        self.given += 1
        return port


@functools.cache
def _block():
    return _Block()


def free(host="127.0.0.1"):
    """One that was not given in a long time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(COUNT):
        port = _block().next()
        with socket.socket(family) as s:
            try:
                s.bind((host, port))
                return port
            except OSError:
                pass  # somebody's who is not us
    raise OSError("no port is free")

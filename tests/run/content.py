"""Bytes that are known without being stored.

A content is named by its seed; any span of it can be computed, so an object
of 6 GiB costs nothing and every byte that a client gets can be checked.
"""
import functools
import hashlib

BLOCK = 64 * 1024


@functools.lru_cache(maxsize=1024)
def _block(seed, number):
    return hashlib.shake_128(f"{seed}/{number}".encode()).digest(BLOCK)


def span(seed, start, end):
    """Bytes start to end, half-open, of the content."""
    parts = []
    while start < end:
        number, skip = divmod(start, BLOCK)
        take = min(BLOCK - skip, end - start)
        block = _block(seed, number)
        parts.append(block if take == BLOCK else block[skip:skip + take])
        start += take
    return b"".join(parts)


def first_wrong(seed, start, data):
    """Offset in the content of the first byte that differs, or None."""
    at = 0
    while at < len(data):
        take = min(BLOCK - (start + at) % BLOCK, len(data) - at)
        want = span(seed, start + at, start + at + take)
        got = bytes(data[at:at + take])
        if got != want:
            return start + at + next(
                i for i in range(take) if got[i] != want[i])
        at += take
    return None

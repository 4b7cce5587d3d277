"""What a client gets: a response, read at the pace a test wants, the same
over every protocol."""
import dataclasses
import re
import ssl
import time

TIMEOUT = 30


class Cut(Exception):
    """It ended before the response did."""


class Headers(dict):
    """Names in lower case; a repeated field is joined by a comma."""

    def __missing__(self, _):
        return None

    def add(self, name, value):
        name = name.lower()
        self[name] = f"{self[name]}, {value}" if name in self else value


@dataclasses.dataclass
class Response:
    version: str
    status: int
    reason: str
    headers: Headers
    body: bytes = b""
    whole: bool = True        # False: cut before its end
    asked_at: float = 0.0
    head_after: float = 0.0   # seconds
    first_byte_after: float = 0.0
    total: float = 0.0
    longest_pause: float = 0.0
    raw_head: bytes = b""

    @property
    def content_range(self):
        """(start, end, size); size None when it is not told."""
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)",
                             self.headers["content-range"])
        start, last, size = match.groups()
        return int(start), int(last) + 1, None if size == "*" else int(size)

    @property
    def cache_status(self):
        return self.headers["cache-status"]


def receive(sock):
    """(what came, whether an end is orderly); nothing at an end.  TLS has one
    of its own, a connection in clear just must not be reset."""
    try:
        return sock.recv(256 * 1024), True
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        return b"", False
    except ssl.SSLError as fault:
        if fault.reason != "UNEXPECTED_EOF_WHILE_READING":
            raise
        return b"", False


def send(sock, data):
    """A connection that has ended is reported alike with TLS and without."""
    try:
        sock.sendall(data)
    except ssl.SSLError as fault:
        raise BrokenPipeError(str(fault)) from fault


class Reader:
    """Where a response comes in.  A protocol gives buffer, _fill(), head()
    and _read_body(); it learns from _take() what was consumed."""

    buffer = None   # bytes that came and were not taken
    asked_at = None

    def _fill(self):
        """More into the buffer; False: nothing more will come."""
        raise NotImplementedError

    def head(self):
        """Reads a response's head."""
        raise NotImplementedError

    def _read_body(self, res, body):
        """Up to its end; Cut when it has none."""
        raise NotImplementedError

    def _take(self, count):
        """Up to count bytes of the buffer."""
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read(self, count):
        """Exactly count bytes, of a body without chunks."""
        parts = []
        while count > 0:
            # taken at once, since a window may be smaller than count
            if not self.buffer and not self._fill():
                self.buffer[:0] = b"".join(parts)
                raise Cut(f"{count} bytes are missing")
            parts.append(self._take(count))
            count -= len(parts[-1])
        return b"".join(parts)

    def response(self, method="GET", rate=None, stop_after=None, check=None):
        """A response with its body.  rate: read no faster, bytes a second.
        stop_after: leave when so many bytes of the body came.  check(offset,
        bytes): instead of keeping the body."""
        res = self.head()
        body = Body(self, res, rate, stop_after, check)
        try:
            if method == "HEAD" or res.status in (204, 304) or \
                    100 <= res.status < 200:
                self._read_nothing()
                return res
            self._read_body(res, body)
        except _Left:
            pass
        except Cut:
            res.whole = False
        body.done()
        return res

    def _read_nothing(self):
        """The end of a response without a body."""


class _Left(Exception):
    """The client has enough."""


class Body:
    def __init__(self, reader, res, rate, stop_after, check):
        self.reader, self.res, self.rate = reader, res, rate
        self.stop_after, self.check = stop_after, check
        self.count = 0
        self.parts = []
        self.last = time.monotonic()

    def take(self, count):
        """Moves up to count bytes from the reader's buffer; their number."""
        if self.stop_after is not None:
            count = min(count, self.stop_after - self.count)
        if not self.reader.buffer and not self.reader._fill():
            raise Cut("in the body")
        now = time.monotonic()
        if self.count == 0:
            self.res.first_byte_after = now - self.res.asked_at
        else:
            self.res.longest_pause = max(self.res.longest_pause,
                                         now - self.last)
        data = self.reader._take(count)
        if self.check is not None:
            self.check(self.count, data)
        else:
            self.parts.append(data)
        self.count += len(data)
        if self.rate is not None:
            begun = self.res.asked_at + self.res.first_byte_after
            time.sleep(max(0, begun + self.count / self.rate -
                           time.monotonic()))
        self.last = time.monotonic()
        if self.stop_after is not None and self.count >= self.stop_after:
            raise _Left
        return len(data)

    def done(self):
        self.res.body = b"".join(self.parts)
        self.res.total = time.monotonic() - self.res.asked_at

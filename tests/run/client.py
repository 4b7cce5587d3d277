"""A client on a raw socket: sends what it is told, measures what comes."""
import dataclasses
import re
import socket
import struct
import time

import content

TIMEOUT = 30


class Cut(Exception):
    """The connection ended before the response did."""


class Headers(dict):
    """Names in lower case; a repeated field is joined by a comma."""

    def __missing__(self, _):
        return None


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


class Connection:
    def __init__(self, port, host="127.0.0.1", receive_buffer=None,
                 timeout=TIMEOUT, source=None):
        self.sock = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                 receive_buffer)
        if source is not None:
            self.sock.bind((source, 0))
        self.sock.settimeout(timeout)
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.pauses_from = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        if isinstance(data, str):
            data = data.encode("latin-1")
        self.sock.sendall(data)

    def ask(self, target, headers=None, method="GET", **fields):
        """Sends a request, reads nothing."""
        all_fields = {"Host": "reel.test"}
        all_fields.update(headers or {})
        all_fields.update({name.replace("_", "-").title(): value
                           for name, value in fields.items()})
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in all_fields.items()
                  if value is not None]
        self.send("\r\n".join(lines) + "\r\n\r\n")
        self.asked_at = time.monotonic()

    def _fill(self):
        """False: the other side has closed."""
        try:
            got = self.sock.recv(256 * 1024)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self.buffer += got
        return bool(got)

    def closed(self, timeout=5):
        """Does the other side close, sending nothing more?"""
        self.sock.settimeout(timeout)
        try:
            return not self.buffer and not self._fill()
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(TIMEOUT)

    def head(self, asked_at=None):
        """Reads a response's head."""
        begun = asked_at or getattr(self, "asked_at", time.monotonic())
        while b"\r\n\r\n" not in self.buffer:
            if not self._fill():
                raise Cut("no response")
        raw, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        line, *fields = raw.decode("latin-1").split("\r\n")
        version, status, reason = line.split(" ", 2)
        headers = Headers()
        for field in fields:
            match = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?(.*)", field)
            assert match is not None, f"a broken field: {field!r}"
            name, value = match.group(1).lower(), match.group(2)
            headers[name] = f"{headers[name]}, {value}" if name in headers \
                else value
        return Response(version, int(status), reason, headers,
                        asked_at=begun, raw_head=raw,
                        head_after=time.monotonic() - begun)

    def read(self, count):
        """Exactly count bytes, of a body without chunks."""
        while len(self.buffer) < count:
            if not self._fill():
                raise Cut(f"{count - len(self.buffer)} bytes are missing")
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def response(self, method="GET", rate=None, stop_after=None, check=None):
        """A response with its body.  rate: read no faster, bytes a second.
        stop_after: leave when so many bytes of the body came.  check(offset,
        bytes): instead of keeping the body."""
        res = self.head()
        body = _Body(self, res, rate, stop_after, check)
        if method == "HEAD" or res.status in (204, 304) or \
                100 <= res.status < 200:
            return res
        try:
            if (res.headers["transfer-encoding"] or "") == "chunked":
                body.read_chunked()
            elif res.headers["content-length"] is not None:
                body.read_length(int(res.headers["content-length"]))
            else:
                body.read_to_close()
        except Cut:
            res.whole = False
        body.done()
        return res


class _Left(Exception):
    pass


class _Body:
    def __init__(self, conn, res, rate, stop_after, check):
        self.conn, self.res, self.rate = conn, res, rate
        self.stop_after, self.check = stop_after, check
        self.count = 0
        self.parts = []
        self.last = time.monotonic()

    def _take(self, count):
        """Moves up to count bytes from the connection's buffer."""
        if self.stop_after is not None:
            count = min(count, self.stop_after - self.count)
        buffer = self.conn.buffer
        if not buffer and not self.conn._fill():
            raise Cut("in the body")
        now = time.monotonic()
        if self.count == 0:
            self.res.first_byte_after = now - self.res.asked_at
        else:
            self.res.longest_pause = max(self.res.longest_pause,
                                         now - self.last)
        data = bytes(buffer[:count])
        del buffer[:count]
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

    def read_length(self, count):
        try:
            while count > 0:
                count -= self._take(count)
        except _Left:
            pass

    def read_chunked(self):
        conn = self.conn
        try:
            while True:
                while b"\r\n" not in conn.buffer:
                    if not conn._fill():
                        raise Cut("in a chunk's size")
                line, _, rest = bytes(conn.buffer).partition(b"\r\n")
                conn.buffer = bytearray(rest)
                size = int(line, 16)
                if size == 0:
                    assert conn.read(2) == b"\r\n"
                    return
                while size > 0:
                    size -= self._take(size)
                assert conn.read(2) == b"\r\n"
        except _Left:
            pass

    def read_to_close(self):
        try:
            while True:
                self._take(1 << 30)
        except (Cut, _Left):
            pass

    def done(self):
        self.res.body = b"".join(self.parts)
        self.res.total = time.monotonic() - self.res.asked_at


def fetch(port, target, headers=None, method="GET", rate=None,
          stop_after=None, host="127.0.0.1", check=None, timeout=TIMEOUT,
          receive_buffer=None, **fields):
    """One request on a connection of its own."""
    with Connection(port, host, receive_buffer, timeout) as conn:
        conn.ask(target, headers, method, **fields)
        return conn.response(method, rate, stop_after, check)


def parts_of(res):
    """[(start, end, size, content type, bytes)] of a multipart/byteranges
    body, strictly framed."""
    match = re.fullmatch(r'multipart/byteranges; ?boundary="?([^"]+)"?',
                         res.headers["content-type"])
    assert match is not None, res.headers["content-type"]
    line = b"--" + match.group(1).encode()
    pieces = (b"\r\n" + res.body.removeprefix(b"\r\n")).split(b"\r\n" + line)
    assert pieces[0] == b"" and pieces[-1] in (b"--", b"--\r\n"), pieces[-1]
    parts = []
    for piece in pieces[1:-1]:
        assert piece.startswith(b"\r\n")
        head, _, data = piece[2:].partition(b"\r\n\r\n")
        fields = {}
        for field in head.decode().split("\r\n"):
            name, _, value = field.partition(":")
            fields[name.lower()] = value.strip()
        start, last, size = map(int, re.fullmatch(
            r"bytes (\d+)-(\d+)/(\d+)", fields["content-range"]).groups())
        parts.append((start, last + 1, size, fields.get("content-type"), data))
    return parts


def same(seed, start, data, end=None):
    """data is the content's from start on (to end)."""
    wrong = content.first_wrong(seed, start, data)
    assert wrong is None, f"{seed}: wrong byte at {wrong}"
    if end is not None:
        assert len(data) == end - start, \
            f"{seed}: {len(data)} bytes instead of {end - start}"


def checker(seed, start=0):
    """For check=: compares at once, keeps nothing."""
    def check(offset, data):
        same(seed, start + offset, data)
    return check

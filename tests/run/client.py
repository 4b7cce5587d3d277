"""Clients that send what they are told and measure what comes.

connect() and fetch() speak over a transport:

    h1     HTTP/1.1 in clear
    https  HTTP/1.1 over TLS
    h2     HTTP/2 over TLS
    h2c    HTTP/2 in clear, with prior knowledge
"""
import re
import socket
import ssl
import struct
import time

import certificate
import content
import http2
import response
from response import TIMEOUT, Cut, Headers, Response

TRANSPORTS = ("h1", "https", "h2", "h2c")
ENCRYPTED = ("https", "h2")


def _encrypt(sock, protocol):
    try:
        return certificate.context(protocol).wrap_socket(
            sock, server_hostname=certificate.SERVER,
            suppress_ragged_eofs=False)
    except ssl.SSLError as fault:
        # as without TLS
        if isinstance(fault, ssl.SSLEOFError) or \
                fault.reason == "UNEXPECTED_EOF_WHILE_READING":
            raise ConnectionResetError("in the handshake") from fault
        raise


def _open(port, host, receive_buffer, timeout, source, protocol):
    """A connected socket; with TLS when there is a protocol to offer."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                            receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if protocol is not None:
            sock = _encrypt(sock, protocol)
            agreed = sock.selected_alpn_protocol()
            assert agreed == protocol, f"{agreed} instead of {protocol}"
        return sock
    except BaseException:
        sock.close()
        raise


def connect(port, host="127.0.0.1", receive_buffer=None, timeout=TIMEOUT,
            source=None, transport="h1", standing=None, window=None):
    """window, standing: see http2.Connection; a small receive_buffer makes a
    small window."""
    assert transport in TRANSPORTS, transport
    if transport in ("h1", "https"):
        return Connection(port, host, receive_buffer, timeout, source,
                          tls=transport == "https")
    sock = _open(port, host, receive_buffer, timeout, source,
                 "h2" if transport == "h2" else None)
    if window is None:
        window = http2.WINDOW if receive_buffer is None else \
            max(receive_buffer, 16384)
    return http2.Connection(sock, timeout, window,
                            "https" if transport == "h2" else "http", standing)


class Connection(response.Reader):
    """HTTP/1.1, on a socket that a test may also send anything to."""

    def __init__(self, port, host="127.0.0.1", receive_buffer=None,
                 timeout=TIMEOUT, source=None, tls=False):
        self.timeout = timeout
        self.sock = _open(port, host, receive_buffer, timeout, source,
                          "http/1.1" if tls else None)
        self.buffer = bytearray()
        self.orderly = True  # its end, if it came

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
        response.send(self.sock, data)

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
        got, self.orderly = response.receive(self.sock)
        self.buffer += got
        return bool(got)

    def drain(self):
        """Until the other side closes."""
        while self._fill():
            pass

    def closed(self, timeout=5):
        """Does the other side close, sending nothing more?"""
        self.sock.settimeout(timeout)
        try:
            return not self.buffer and not self._fill()
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(TIMEOUT)

    def head(self):
        begun = self.asked_at or time.monotonic()
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
            headers.add(*match.groups())
        return Response(version, int(status), reason, headers,
                        asked_at=begun, raw_head=raw,
                        head_after=time.monotonic() - begun)

    def _read_body(self, res, body):
        if (res.headers["transfer-encoding"] or "") == "chunked":
            self._read_chunked(body)
        elif res.headers["content-length"] is not None:
            self._read_length(body, int(res.headers["content-length"]))
        else:
            self._read_to_close(body)

    def _read_length(self, body, count):
        while count > 0:
            count -= body.take(count)

    def _read_chunked(self, body):
        while True:
            while b"\r\n" not in self.buffer:
                if not self._fill():
                    raise Cut("in a chunk's size")
            line, _, rest = bytes(self.buffer).partition(b"\r\n")
            self.buffer = bytearray(rest)
            size = int(line, 16)
            self._read_length(body, size)
            assert self.read(2) == b"\r\n"
            if size == 0:
                return

    def _read_to_close(self, body):
        while self.buffer or self._fill():
            body.take(1 << 30)
        if not self.orderly:
            raise Cut("no end")


def fetch(port, target, headers=None, method="GET", rate=None,
          stop_after=None, host="127.0.0.1", check=None, timeout=TIMEOUT,
          receive_buffer=None, transport="h1", **fields):
    """One request on a connection of its own."""
    with connect(port, host, receive_buffer, timeout,
                 transport=transport) as conn:
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

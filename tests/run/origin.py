#!/usr/bin/python3
"""An HTTP/1.1 origin whose pace and faults are under a test's control.

In a test:      with Origin() as origin: movie = origin.add("movie", 1 << 20)
By hand:        python3 origin.py --port 8099 --folder media --rate 1M
                curl -i -r 0-9 http://127.0.0.1:8099/o/generated-20M
                curl -X POST 'http://127.0.0.1:8099/_set/clip.mp4?rate=65536'
                curl http://127.0.0.1:8099/_counters

Objects have the path /o/NAME.  Their bytes come from content.py, or from a
file.  An object counts its requests and the body bytes that were written,
altogether and each byte once.
"""
import argparse
import dataclasses
import email.utils
import fcntl
import json
import os
import re
import socket
import struct
import sys
import termios
import threading
import time
import urllib.parse

import content
import ports

REASONS = {
    200: "OK", 206: "Partial Content", 302: "Found", 304: "Not Modified",
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 410: "Gone",
    416: "Range Not Satisfiable", 429: "Too Many Requests",
    500: "Internal Server Error", 501: "Not Implemented",
    503: "Service Unavailable",
}
STEP = 64 * 1024
HEAD_MAX = 32 * 1024


class Spans:
    """A set of bytes, as sorted spans that do not touch."""

    def __init__(self):
        self.spans = []

    def add(self, start, end):
        if start >= end:
            return
        keep = []
        for a, b in self.spans:
            if b < start or end < a:
                keep.append((a, b))
            else:
                start, end = min(a, start), max(b, end)
        keep.append((start, end))
        self.spans = sorted(keep)

    def total(self):
        return sum(b - a for a, b in self.spans)


@dataclasses.dataclass
class Request:
    """One request as the origin saw it, and what became of it."""
    method: str
    headers: dict
    at: float
    status: int = 0
    start: int = 0
    sent: int = 0
    ended: bool = False
    first_byte_at: float = 0.0
    token: str | None = None

    @property
    def range(self):
        return self.headers.get("range")

    @property
    def if_range(self):
        return self.headers.get("if-range")


class Object:
    """What the origin serves under one name.  All attributes may be changed
    at any time; a response that has begun goes on with what it began with,
    but pace, cut and hang count at once."""

    def __init__(self, name, size, **settings):
        self.name = name
        self.size = size
        self.seed = name
        self.file = None
        self.etag = f'"{name}-1"'
        self.last_modified = None
        self.cache_control = "max-age=3600"
        self.content_type = "video/mp4"
        self.headers = {}
        self.rate = None        # body bytes a second of each response
        self.delay = 0.0        # seconds before the head
        self.ranges = True      # False: always 200 with everything
        self.length = True      # False: chunked, no Content-Length
        self.close = False      # without length: end by closing
        self.status = None      # answer this instead
        self.status_times = None  # so often; None = always
        self.retry_after = None
        self.redirect = None    # URL
        self.hang = False       # no head while true
        self.stall_at = None    # offset at which the body stands still
        self.cut_after = None   # body bytes of a response, then RST
        self.cut_times = None   # so often; None = always
        self.if_range_ignored = False
        self.deny_from = None   # ranges from here on: 416, of a shorter size
        self.range_max = None   # longer ranges, and open ones: 403
        self.range_max_status = 403
        self.open_rate = None   # body bytes a second of open-ended answers
        self.busy_above = None  # more responses at a time: 429
        self.token = None       # the query must be t=TOKEN, else 403
        self.wants = {}         # fields that a request must have, else 403
        self.active = 0         # responses whose body is being sent
        self.active_most = 0
        self.lock = threading.Lock()
        self.requests = []
        self.body_bytes = 0
        self.unique = Spans()
        for key, value in settings.items():
            self.set(key, value)

    def set(self, key, value):
        if not hasattr(self, key):
            raise AttributeError(f"no such setting: {key}")
        setattr(self, key, value)

    def change(self, seed, size=None, etag="", **settings):
        """Another content from now on."""
        with self.lock:
            self.seed = seed
            self.size = self.size if size is None else size
            self.etag = f'"{seed}"' if etag == "" else etag
            for key, value in settings.items():
                self.set(key, value)

    @property
    def unique_bytes(self):
        return self.unique.total()

    @property
    def ratio(self):
        return self.body_bytes / self.size

    def forget(self):
        """Counters begin anew."""
        with self.lock:
            self.requests = []
            self.body_bytes = 0
            self.unique = Spans()

    def bytes(self, start, end):
        if self.file is None:
            return content.span(self.seed, start, end)
        with open(self.file, "rb") as f:
            f.seek(start)
            return f.read(end - start)

    def counters(self):
        with self.lock:
            return {
                "size": self.size,
                "requests": [dict(dataclasses.asdict(r)) for r in self.requests],
                "body_bytes": self.body_bytes,
                "unique_bytes": self.unique_bytes,
            }


def parse_range(value, size):
    """(start, end), None when there is nothing to satisfy, or False when the
    field means nothing here."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", value.strip())
    if match is None or match.group(0) == "bytes=-":
        return False
    first, last = match.groups()
    if first == "":
        count = min(int(last), size)
        return (size - count, size) if count > 0 else None
    if last != "" and int(last) < int(first):
        return False
    if int(first) >= size:
        return None
    return int(first), size if last == "" else min(int(last) + 1, size)


class Broken(Exception):
    """The connection is to be closed with a reset."""


class Origin:
    def __init__(self, port=0, host="127.0.0.1"):
        self.host = host
        # one of our own: it is free again after refuse()
        self.port = port or ports.free(host)
        self.objects = {}
        self.folder = None
        self.defaults = {}
        self.lock = threading.Lock()
        self.connections = set()
        self.listener = None
        self.closing = threading.Event()
        self.accepted = 0
        self.total_rate = None  # body bytes a second of all responses
        self.free_at = 0.0
        self.unknown = []  # paths that were asked for and are not there
        self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # --- for tests

    def add(self, name, size=None, **settings):
        obj = Object(name, size, **settings)
        if obj.file is not None and size is None:
            obj.size = os.path.getsize(obj.file)
        self.objects[name] = obj
        return obj

    def url(self, name):
        return f"http://{self.host}:{self.port}/o/{name}"

    @property
    def template(self):
        return self.url("{id}")

    def listen(self):
        listener = socket.socket(
            socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # little is buffered, so that what is counted was wanted; with less
        # than this the loopback's large segments wait for delayed ACKs
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 96 * 1024)
        listener.bind((self.host, self.port))
        listener.listen(256)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,),
                         daemon=True).start()

    def refuse(self):
        """Down: nobody listens, all connections are reset."""
        listener, self.listener = self.listener, None
        if listener is not None:
            # wakes the thread in accept()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop_connections()

    def drop_connections(self):
        with self.lock:
            connections = list(self.connections)
        for conn in connections:
            _reset(conn)

    def stop(self):
        self.closing.set()
        self.refuse()

    # --- connections

    def _accept(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            with self.lock:
                self.connections.add(conn)
            threading.Thread(target=self._serve, args=(conn,),
                             daemon=True).start()

    def _serve(self, conn):
        buffer = b""
        try:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self.closing.is_set():
                while b"\r\n\r\n" not in buffer:
                    got = conn.recv(16384)
                    if not got or len(buffer) > HEAD_MAX:
                        return
                    buffer += got
                head, buffer = buffer.split(b"\r\n\r\n", 1)
                if not self._request(conn, head.decode("latin-1")):
                    return
        except Broken:
            _reset(conn)
        except OSError:
            pass
        finally:
            with self.lock:
                self.connections.discard(conn)
            conn.close()

    def _request(self, conn, head):
        line, *fields = head.split("\r\n")
        method, target, version = line.split(" ", 2)
        headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        url = urllib.parse.urlsplit(target)
        keep = version == "HTTP/1.1" and \
            headers.get("connection", "").lower() != "close"
        if url.path.startswith("/_"):
            return self._control(conn, method, url) and keep
        obj = self._find(urllib.parse.unquote(url.path))
        if obj is None:
            self.unknown.append(url.path)
            return _answer(conn, 404, b"not here\n", method) and keep
        request = Request(method, headers, time.monotonic())
        with obj.lock:
            obj.requests.append(request)
        request.token = dict(urllib.parse.parse_qsl(url.query)).get("t")
        try:
            return self._object(conn, obj, request) and keep
        finally:
            request.ended = True

    def _find(self, path):
        name = path.removeprefix("/o/")
        obj = self.objects.get(name)
        if obj is not None or name == path:
            return obj
        if self.folder is not None and re.fullmatch(r"[\w.~-]+", name) and \
                os.path.isfile(os.path.join(self.folder, name)):
            path = os.path.join(self.folder, name)
            return self.add(name, file=path, content_type=_type(name),
                            **self.defaults)
        return None

    def _control(self, conn, method, url):
        if url.path == "/_counters":
            text = json.dumps({n: o.counters()
                               for n, o in self.objects.items()}, indent=1)
            return _answer(conn, 200, text.encode() + b"\n", method)
        name = url.path.removeprefix("/_set/")
        if name == url.path or self._find("/o/" + name) is None:
            return _answer(conn, 404, b"no such object\n", method)
        try:
            for key, value in urllib.parse.parse_qsl(url.query):
                try:
                    value = json.loads(value)
                except ValueError:
                    pass
                self.objects[name].set(key, value)
        except AttributeError as fault:
            return _answer(conn, 400, f"{fault}\n".encode(), method)
        return _answer(conn, 200, b"done\n", method)

    # --- an object

    def _wait(self, obj, seconds, until=lambda: False):
        """False: the origin is closing."""
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                break
            if self.closing.wait(min(left, 0.02)):
                return False
        return True
        return True

    def _object(self, conn, obj, request):
        if not self._wait(obj, obj.delay):
            return False
        while obj.hang:
            if self.closing.wait(0.01) or _gone(conn):
                return False
        with obj.lock:
            special = obj.status is not None
            if special and obj.status_times is not None:
                special = obj.status_times > 0
                obj.status_times -= 1
        if special:
            return self._special(conn, obj, request)
        refusal = self._refusal(obj, request)
        if refusal is not None:
            request.status = refusal
            fields = {}
            if refusal == 429 and obj.retry_after is not None:
                fields["Retry-After"] = str(obj.retry_after)
            return _answer(conn, refusal, b"the origin says no\n",
                           request.method, fields)
        if obj.redirect is not None:
            request.status = 302
            return _answer(conn, 302, b"elsewhere\n", request.method,
                           {"Location": obj.redirect})
        return self._content(conn, obj, request)

    @staticmethod
    def _refusal(obj, request):
        """A status, or None: it is answered."""
        if obj.token is not None and request.token != obj.token:
            return 403
        if any(request.headers.get(name) != value
               for name, value in obj.wants.items()):
            return 403
        if obj.busy_above is not None and obj.active >= obj.busy_above:
            return 429
        if obj.range_max is not None and request.range is not None:
            span = parse_range(request.range, obj.size)
            if span and (request.range.endswith("-") or
                         span[1] - span[0] > obj.range_max):
                return obj.range_max_status
        return None

    def _special(self, conn, obj, request):
        request.status = obj.status
        fields = {}
        if obj.retry_after is not None:
            fields["Retry-After"] = str(obj.retry_after)
        return _answer(conn, obj.status, b"the origin says no\n",
                       request.method, fields)

    def _content(self, conn, obj, request):
        with obj.lock:
            size, etag, modified = obj.size, obj.etag, obj.last_modified
            seed, length, ranges = obj.seed, obj.length, obj.ranges
            fields = self._fields(obj)
        headers = request.headers
        if _not_modified(headers, etag, modified):
            request.status = 304
            fields.pop("Content-Type", None)
            return _answer(conn, 304, None, request.method, fields)
        start, end, status = 0, size, 200
        wanted = headers.get("range")
        if wanted is not None and ranges and length and \
                (obj.if_range_ignored or
                 _if_range_holds(headers, etag, modified)):
            span = parse_range(wanted, size)
            if span and obj.deny_from is not None and \
                    span[0] >= obj.deny_from:
                request.status = 416
                return _answer(conn, 416, b"no such bytes\n", request.method,
                               {"Content-Range": f"bytes */{obj.deny_from}"})
            if span is None:
                request.status = 416
                return _answer(conn, 416, b"no such bytes\n", request.method,
                               {"Content-Range": f"bytes */{size}"})
            if span is not False:
                (start, end), status = span, 206
                fields["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if ranges and length:
            fields["Accept-Ranges"] = "bytes"
        chunked = not length and not obj.close
        if length:
            fields["Content-Length"] = str(end - start)
        elif chunked:
            fields["Transfer-Encoding"] = "chunked"
        else:
            fields["Connection"] = "close"
        request.status, request.start = status, start
        conn.sendall(_head(status, fields))
        if request.method != "HEAD":
            self._body(conn, obj, request, seed, start, end, chunked)
        return length or chunked

    def _fields(self, obj):
        fields = {"Content-Type": obj.content_type}
        for name, value in (("ETag", obj.etag),
                            ("Last-Modified", obj.last_modified),
                            ("Cache-Control", obj.cache_control)):
            if value is not None:
                fields[name] = value
        fields.update(obj.headers)
        return fields

    def _body(self, *args):
        obj = args[1]
        with obj.lock:
            obj.active += 1
            obj.active_most = max(obj.active_most, obj.active)
        try:
            self._send_body(*args)
        finally:
            with obj.lock:
                obj.active -= 1

    @staticmethod
    def _rate(obj, request):
        if obj.open_rate is not None and (
                request.range is None or request.range.endswith("-")):
            return obj.open_rate
        return obj.rate

    def _share(self, obj, step):
        """All responses together keep to total_rate."""
        if self.total_rate is None:
            return
        with self.lock:
            now = time.monotonic()
            due = max(self.free_at, now - 0.2)
            self.free_at = due + step / self.total_rate
        self._wait(obj, due - now)

    def _send_body(self, conn, obj, request, seed, start, end, chunked):
        at, begun = start, time.monotonic()
        cut_here = None
        paced_from, paced_at, rate = start, begun, self._rate(obj, request)
        while at < end:
            if self._rate(obj, request) != rate:
                paced_from, paced_at, rate = \
                    at, time.monotonic(), self._rate(obj, request)
            step = STEP if rate is None else \
                max(512, min(STEP, int(rate * 0.005)))
            if self.total_rate is not None:
                step = min(step, max(4096, int(self.total_rate * 0.005)))
            step = min(step, end - at)
            cut_here = self._cut(obj, at - start)
            if cut_here is not None:
                step = min(step, cut_here)
            if obj.stall_at is not None and at <= obj.stall_at:
                step = min(step, obj.stall_at - at)
                if step == 0:
                    if self.closing.wait(0.01) or _gone(conn):
                        raise Broken
                    continue
            if step > 0:
                self._share(obj, step)
                data = content.span(seed, at, at + step) \
                    if obj.file is None else obj.bytes(at, at + step)
                if chunked:
                    data = b"%x\r\n%s\r\n" % (len(data), data)
                # counted first: who has the bytes must find them counted
                with obj.lock:
                    obj.body_bytes += step
                    obj.unique.add(at, at + step)
                request.sent += step
                conn.sendall(data)
                at += step
                request.first_byte_at = request.first_byte_at or \
                    time.monotonic()
            if cut_here == step:
                self._cut_done(obj)
                # what was sent shall arrive before the reset
                _wait_sent(conn)
                raise Broken
            if rate is not None:
                due = paced_at + (at - paced_from) / rate
                self._wait(obj, due - time.monotonic(),
                           lambda: self._rate(obj, request) != rate)
        if chunked:
            conn.sendall(b"0\r\n\r\n")

    @staticmethod
    def _cut(obj, sent):
        """Bytes that may still be sent before the cut, or None."""
        with obj.lock:
            if obj.cut_after is None or obj.cut_times == 0:
                return None
            return max(0, obj.cut_after - sent)

    @staticmethod
    def _cut_done(obj):
        with obj.lock:
            if obj.cut_times is not None:
                obj.cut_times -= 1


def _type(name):
    return {"mp4": "video/mp4", "webm": "video/webm"}.get(
        name.rsplit(".", 1)[-1], "application/octet-stream")


def _not_modified(headers, etag, modified):
    tags = headers.get("if-none-match")
    if tags is not None:
        if tags.strip() == "*":
            return True
        known = [t.strip().removeprefix("W/") for t in tags.split(",")]
        return etag is not None and etag.removeprefix("W/") in known
    since = headers.get("if-modified-since")
    if since is None or modified is None:
        return False
    return email.utils.parsedate_to_datetime(modified) <= \
        email.utils.parsedate_to_datetime(since)


def _if_range_holds(headers, etag, modified):
    value = headers.get("if-range")
    if value is None:
        return True
    if value.startswith('"'):
        return value == etag
    return modified is not None and value == modified


def _head(status, fields):
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
             f"Date: {email.utils.formatdate(usegmt=True)}"]
    names = {name.lower() for name in fields}
    if "date" in names:
        lines.pop()
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _answer(conn, status, body, method, fields=None):
    fields = dict(fields or {})
    if body is not None:
        fields.setdefault("Content-Type", "text/plain")
        fields["Content-Length"] = str(len(body))
    conn.sendall(_head(status, fields))
    if body is not None and method != "HEAD":
        conn.sendall(body)
    return True


def _reset(conn):
    try:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))
        conn.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    conn.close()


def _wait_sent(conn):
    """Until the other side has acknowledged everything."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        left = struct.unpack("i", fcntl.ioctl(
            conn.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
        if left == 0:
            # time to read it: a reset discards what is unread
            time.sleep(0.02)
            return
        time.sleep(0.001)


def _gone(conn):
    try:
        return conn.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def parse_bytes(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    unit = units.get(text[-1:].upper())
    return int(text) if unit is None else int(float(text[:-1]) * unit)


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--port", type=int, default=8099)
    args.add_argument("--host", default="127.0.0.1")
    args.add_argument("--folder", help="serve these files, too")
    args.add_argument("--rate", type=parse_bytes, help="bytes/s a response")
    args.add_argument("--delay", type=float, default=0, help="seconds")
    opts = args.parse_args()
    origin = Origin(opts.port, opts.host)
    origin.folder = opts.folder
    origin.defaults = {"rate": opts.rate, "delay": opts.delay}
    for text in ("1M", "20M", "6G"):
        origin.add(f"generated-{text}", parse_bytes(text), **origin.defaults)
    print(f"origin at {origin.template}", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        origin.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

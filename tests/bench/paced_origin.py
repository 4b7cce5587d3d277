#!/usr/bin/python3
"""An origin that is slow on purpose and counts what it gives away.

Every response starts after `delay_s` and then flows at `rate_bps`, on a
schedule of its own; single ranges, If-Range, ETag and Last-Modified as in
RFC 9110.  Byte spans are noted per path, so that a benchmark can say how
often a byte left the origin.

In a program:  origin = Origin(rate_bps, delay_s); origin.add(path, bytes)
By hand:       paced_origin.py FOLDER [--port N] [--rate BYTES] [--delay S]
               GET /counters answers with the counters as JSON.
"""

import argparse
import http.server
import json
import mimetypes
import os
import re
import socket
import socketserver
import threading
import time

PIECE = 16 * 1024
LAST_MODIFIED = "Sun, 01 Nov 2026 10:00:00 GMT"


class Counter:
    """What left the origin of one path."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = []  # (seconds, method, Range, If-Range)
        self.spans = []     # [from, to] of every body
        self.active = 0

    def sent_bytes(self):
        with self.lock:
            return sum(to - start for start, to in self.spans)

    def unique_bytes(self):
        with self.lock:
            spans = sorted((start, to) for start, to in self.spans)
        total = reach = 0
        for start, to in spans:
            start = max(start, reach)
            if to > start:
                total += to - start
                reach = to
        return total


class Origin:
    """Serves what was add()ed, from start() to stop()."""

    def __init__(self, rate_bps=0, delay_s=0.0, port=0, folder=None):
        self.rate_bps = rate_bps
        self.delay_s = delay_s
        self.folder = folder
        self.objects = {}
        self.counters = {}
        self.cut_at = {}  # path -> offset at which one body is broken off
        self.lock = threading.Lock()
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.origin = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever,
                                       kwargs={"poll_interval": .05},
                                       daemon=True)

    def add(self, path, data):
        self.objects[path] = data
        return self.counter(path)

    def counter(self, path):
        with self.lock:
            return self.counters.setdefault(path, Counter())

    def find(self, path):
        """The object's bytes and type, or None."""
        if path in self.objects:
            return self.objects[path], "video/mp4"
        if self.folder is None:
            return None
        name = path.lstrip("/")
        file = os.path.join(self.folder, name)
        if "/" in name or name.startswith(".") or not os.path.isfile(file):
            return None
        with open(file, "rb") as opened:
            data = opened.read()
        self.objects[path] = data
        return data, mimetypes.guess_type(name)[0] or "video/mp4"

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def quiet(self, path, still_s=1.0, deadline_s=30.0):
        """Waits until no body has flowed for still_s.  False: it never did."""
        counter = self.counter(path)
        deadline = time.monotonic() + deadline_s
        before, since = counter.sent_bytes(), time.monotonic()
        while time.monotonic() < deadline:
            now_bytes = counter.sent_bytes()
            if now_bytes != before:
                before, since = now_bytes, time.monotonic()
            elif time.monotonic() - since >= still_s:
                return True
            time.sleep(.05)
        return False


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # a client that went away is no news here


def _range_of(field, size):
    """(from, to), None = ignore the field, () = nothing of it exists."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", field.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        count = min(int(last), size)
        return (size - count, size) if count > 0 else ()
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    return (start, end) if start < size else ()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def setup(self):
        # what was counted as sent must not sit in a large buffer
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def log_message(self, format, *args):
        pass

    def _head(self, status, fields):
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
                 f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in fields]
        self.request.sendall("\r\n".join(lines + ["", ""]).encode())

    def _counters(self):
        origin = self.server.origin
        with origin.lock:
            items = list(origin.counters.items())
        body = json.dumps({
            path: {"requests": len(counter.requests),
                   "sent_bytes": counter.sent_bytes(),
                   "unique_bytes": counter.unique_bytes()}
            for path, counter in items}).encode()
        self._head(200, [("Content-Type", "application/json"),
                         ("Content-Length", len(body))])
        self.request.sendall(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        origin = self.server.origin
        path = self.path.partition("?")[0]
        if path == "/counters" and origin.folder is not None:
            self._counters()
            return
        found = origin.find(path)
        if found is None:
            self._head(404, [("Content-Length", 0)])
            return
        data, mime = found
        counter = origin.counter(path)
        asked, if_range = self.headers["Range"], self.headers["If-Range"]
        with counter.lock:
            counter.requests.append((time.monotonic(), self.command, asked,
                                     if_range))
        etag = f'"{len(data):x}-1"'
        span = None
        if asked and if_range in (None, etag, LAST_MODIFIED):
            span = _range_of(asked, len(data))
        time.sleep(origin.delay_s)
        same = [("ETag", etag), ("Last-Modified", LAST_MODIFIED),
                ("Cache-Control", "public, max-age=86400"),
                ("Accept-Ranges", "bytes"), ("Content-Type", mime)]
        if span == ():
            self._head(416, same + [("Content-Range", f"bytes */{len(data)}"),
                                    ("Content-Length", 0)])
            return
        if self.headers["If-None-Match"] == etag:
            self._head(304, same)
            return
        start, end = span or (0, len(data))
        fields = same + [("Content-Length", end - start)]
        if span:
            fields.append(("Content-Range",
                           f"bytes {start}-{end - 1}/{len(data)}"))
        self._head(206 if span else 200, fields)
        if self.command != "HEAD":
            self._body(path, memoryview(data), start, end, counter)

    def _body(self, path, data, start, end, counter):
        origin = self.server.origin
        span = [start, start]
        with counter.lock:
            counter.spans.append(span)
            counter.active += 1
        began = time.monotonic()
        try:
            while span[1] < end:
                stop = min(span[1] + PIECE, end)
                cut = origin.cut_at.get(path)
                if cut is not None and span[1] < cut <= stop:
                    del origin.cut_at[path]
                    self._send(data, span, cut)
                    self.close_connection = True
                    return
                self._send(data, span, stop)
                if origin.rate_bps > 0:
                    due = began + (span[1] - start) / origin.rate_bps
                    time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            self.close_connection = True
        finally:
            with counter.lock:
                counter.active -= 1

    def _send(self, data, span, stop):
        while span[1] < stop:
            span[1] += self.request.send(data[span[1]:stop])


def main():
    parser = argparse.ArgumentParser(description="a slow origin")
    parser.add_argument("folder", help="files to serve")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=int, default=1024 * 1024,
                        help="bytes/s of each response, 0 = unpaced")
    parser.add_argument("--delay", type=float, default=.2,
                        help="seconds to a response's first byte")
    args = parser.parse_args()
    if not os.path.isdir(args.folder):
        parser.error(f"{args.folder} is no folder")
    origin = Origin(args.rate, args.delay, args.port, args.folder).start()
    print(f"http://127.0.0.1:{origin.port}/", flush=True)
    try:
        origin.thread.join()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

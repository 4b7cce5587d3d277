"""A client of HTTP/2 (RFC 9113), over TLS or with prior knowledge.

A Connection does what client.Connection does, one request after the other:
ask() opens a stream, head(), read() and response() read the oldest one that
was not read.  open() gives a stream that is read by itself, so that a test can
have several of them, read some and let others stand.

Flow control is real: credit is given for what a test has consumed, never for
what only arrived.  One thread at a time uses a connection.
"""
import collections
import socket
import struct
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

import response
from response import Cut, Headers, Response

WINDOW = 256 * 1024
# several streams that nobody reads must not use up the connection's
STREAMS_STANDING = 16


class Broken(AssertionError):
    """The server breaks the rules of HTTP/2."""


class _Machine(h2.connection.H2Connection):
    def _receive_goaway_frame(self, frame):
        """h2 takes a GOAWAY for the end of all; here streams go on up to the
        last one that it names."""
        event = h2.events.ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class Stream(response.Reader):
    def __init__(self, conn, number):
        self.conn = conn
        self.number = number
        self.asked_at = time.monotonic()
        self.buffer = bytearray()
        self.fields = None      # of the response's head
        self.head_at = None
        self.trailers = None
        self.ended = False      # with END_STREAM
        self.error = None       # code of RST_STREAM, or of ours
        self.begun = False      # its head was read

    def _over(self):
        return self.ended or self.error is not None or self.conn.gone

    def _fill(self):
        had = len(self.buffer)
        while len(self.buffer) == had:
            if self._over():
                return False
            self.conn._receive()
        return True

    def _take(self, count):
        data = super()._take(count)
        self.conn._acknowledge(len(data), self.number)
        return data

    def head(self):
        while self.fields is None:
            if self._over():
                raise Cut("no response" if self.error is None else
                          f"no response, error {self.error}")
            self.conn._receive()
        self.begun = True
        headers, status = Headers(), None
        for name, value in self.fields:
            if name == ":status":
                status = int(value)
            else:
                headers.add(name, value)
        raw = "\r\n".join(f"{n}: {v}" for n, v in self.fields)
        return Response("HTTP/2", status, "", headers,
                        asked_at=self.asked_at, raw_head=raw.encode("latin-1"),
                        head_after=self.head_at - self.asked_at)

    def _read_body(self, res, body):
        while True:
            if not self.buffer and not self._fill():
                if self.ended:
                    return
                raise Cut("in the body" if self.error is None else
                          f"in the body, error {self.error}")
            body.take(1 << 30)

    def _read_nothing(self):
        if self._fill():
            raise Broken("a body where there is none")
        if not self.ended:
            raise Cut("without an end")

    def send(self, data, end=False):
        """A part of the request's body."""
        self.conn.machine.send_data(self.number, data, end_stream=end)
        self.conn._flush()

    def reset(self, code=h2.errors.ErrorCodes.CANCEL):
        """RST_STREAM, unless it is over."""
        if not self._over():
            self.error = code
            self.conn.machine.reset_stream(self.number, code)
            self.conn._flush_if_open()


class Connection:
    """window: credit of each stream that was not consumed yet.  standing:
    where a connection stays, open, after reset(); without it, it closes."""

    def __init__(self, sock, timeout, window=WINDOW, scheme="http",
                 standing=None):
        self.sock = sock
        self.timeout = timeout
        self.scheme = scheme
        self.standing = standing
        self.gone = False         # the other side has closed
        self.goaway = None        # (error code, last stream)
        self.pings = []           # data of those that were answered
        self.settings = {}        # of the server, by number
        self.streams = {}
        self.unread = collections.deque()
        self.current = None
        self.machine = _Machine(h2.config.H2Configuration(
            client_side=True, header_encoding="latin-1"))
        codes = h2.settings.SettingCodes
        self.machine.local_settings = h2.settings.Settings(
            client=True, initial_values={
                codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: window,
                codes.MAX_HEADER_LIST_SIZE: 64 * 1024})
        self.machine.initiate_connection()
        self.machine.increment_flow_control_window(STREAMS_STANDING * window)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Gives up what was asked, and only that."""
        for stream in self.streams.values():
            stream.reset()
        if self.standing is not None:
            self.standing.append(self)

    def abort(self):
        """The connection ends with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.sock.close()

    # --- requests

    def open(self, target, headers=None, method="GET", end=True, **fields):
        """Sends a request, reads nothing; a stream.  end=False: with more to
        send."""
        assert self.goaway is None, "the server takes no more requests"
        all_fields = {"host": "reel.test"}
        for given in (headers or {}, fields):
            all_fields.update({n.replace("_", "-").lower(): value
                               for n, value in given.items()})
        head = [(":method", method), (":scheme", self.scheme),
                (":authority", all_fields.pop("host")), (":path", target),
                *all_fields.items()]
        number = self.machine.get_next_available_stream_id()
        self.machine.send_headers(
            number, [(n.encode("latin-1"), v.encode("latin-1"))
                     for n, v in head if v is not None], end_stream=end)
        self._flush()
        self.streams[number] = Stream(self, number)
        return self.streams[number]

    def ask(self, target, headers=None, method="GET", **fields):
        self.unread.append(self.open(target, headers, method, **fields))

    # --- answers to ask()

    @property
    def buffer(self):
        return self.current.buffer if self.current is not None else b""

    def _next(self):
        self.current = self.unread.popleft()
        return self.current

    def head(self):
        return self._next().head()

    def read(self, count):
        return self.current.read(count)

    def response(self, method="GET", rate=None, stop_after=None, check=None):
        return self._next().response(method, rate, stop_after, check)

    # --- the connection

    def ping(self, data=b"reelping"):
        """Seconds until it is answered."""
        begun = time.monotonic()
        self.machine.ping(data)
        self._flush()
        while data not in self.pings:
            if self.gone:
                raise Cut("no answer to a ping")
            self._receive()
        self.pings.remove(data)
        return time.monotonic() - begun

    def drain(self):
        """Until the other side closes."""
        while not self.gone:
            self._receive()

    def closed(self, timeout=5):
        """Does the other side close, sending nothing more of a response?"""
        def news():
            return [(len(s.buffer), s.fields is None, s.ended)
                    for s in self.streams.values()]
        had = news()
        self.sock.settimeout(timeout)
        try:
            while not self.gone and news() == had:
                self._receive()
            return self.gone and news() == had
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(self.timeout)

    def _flush(self):
        data = self.machine.data_to_send()
        if data:
            response.send(self.sock, data)

    def _flush_if_open(self):
        """What the other side need not hear when it has closed: what came
        from it can still be read."""
        try:
            self._flush()
        except ConnectionError:
            pass

    def _acknowledge(self, count, number):
        if count == 0 or self.gone:
            return
        self.machine.acknowledge_received_data(count, number)
        self._flush_if_open()

    def _receive(self):
        """Once from the socket; gone at its end."""
        data, _ = response.receive(self.sock)
        if not data:
            self.gone = True
            return
        try:
            events = self.machine.receive_data(data)
        except h2.exceptions.ProtocolError as fault:
            raise Broken(f"{type(fault).__name__}: {fault}") from fault
        for event in events:
            self._note(event)
        self._flush_if_open()

    def _note(self, event):
        kind = type(event)
        if kind is h2.events.ConnectionTerminated:
            self.goaway = (event.error_code, event.last_stream_id)
            for number, stream in self.streams.items():
                if number > event.last_stream_id and stream.error is None:
                    stream.error = h2.errors.ErrorCodes.REFUSED_STREAM
        elif kind is h2.events.PingAckReceived:
            self.pings.append(event.ping_data)
        elif kind is h2.events.RemoteSettingsChanged:
            self.settings.update({int(code): changed.new_value for code, changed
                                  in event.changed_settings.items()})
        elif getattr(event, "stream_id", None) in self.streams:
            self._note_of(self.streams[event.stream_id], kind, event)

    def _note_of(self, stream, kind, event):
        if kind is h2.events.ResponseReceived:
            stream.fields, stream.head_at = event.headers, time.monotonic()
        elif kind is h2.events.DataReceived:
            stream.buffer += event.data
            # padding is nobody's to consume
            self._acknowledge(event.flow_controlled_length - len(event.data),
                              event.stream_id)
            if stream.error is not None:
                self._acknowledge(len(event.data), event.stream_id)
        elif kind is h2.events.TrailersReceived:
            stream.trailers = Headers(event.headers)
        elif kind is h2.events.StreamEnded:
            stream.ended = True
        elif kind is h2.events.StreamReset:
            if not event.remote_reset:
                raise Broken(f"an error of the stream: {event.error_code}")
            if not stream.ended and stream.error is None:
                stream.error = event.error_code

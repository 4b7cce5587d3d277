"""A client of HTTP/2 that does what it is told, also what is forbidden.

Frames are made by hyperframe, fields by hpack; what the server sends is
checked against RFC 9113: windows, frame sizes, the order of frames.
"""
import collections
import select
import socket
import struct
import time

import hpack
from hyperframe import frame as frames

import client

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65535
FRAME_MAX = 16384
LAST_ID = 2 ** 31 - 1
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR) = range(4)
(STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL) = range(5, 9)
ENHANCE_YOUR_CALM = 11
(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW) = range(1, 5)


class Stream:
    def __init__(self, number, window):
        self.id = number
        self.window = window
        self.fields = None
        self.body = bytearray()
        self.ended = False
        self.reset = None  # the code
        self.at = 0.0      # of the last byte

    @property
    def headers(self):
        return client.Headers(self.fields)

    @property
    def status(self):
        return int(self.fields[0][1]) if self.fields is not None else None

    @property
    def over(self):
        return self.ended or self.reset is not None


class Peer:
    def __init__(self, port, window=WINDOW, receive_buffer=None,
                 settings=None, open_window=True, preface=True):
        """window: of each stream.  open_window: the connection's is as good
        as infinite; else only what grant() gives.  What comes on a stream is
        not given back unless a stream is in `generous`."""
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                 receive_buffer)
        self.sock.settimeout(30)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.stream_window = window
        self.window = WINDOW
        self.streams = {}
        self.generous = True  # gives back what came
        self.buffer = bytearray()
        self.block = None
        self.goaways = []
        self.pongs = 0
        self.settings = {}
        self.acked = 0
        self.closed = False
        self.order = []  # (stream, bytes) of DATA as it came
        self.frames = collections.Counter()
        self.resets = []     # (stream, code) from the server
        self.opened = set()  # streams whose window the server opened
        self.next_id = 1
        if preface:
            self.send(PREFACE, frames.SettingsFrame(0, settings={
                INITIAL_WINDOW: window, **(settings or {})}))
            if open_window:
                self.grant(0, 2 ** 30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.sock.close()

    # --- sending

    def send(self, *parts):
        data = b"".join(p if isinstance(p, bytes) else p.serialize()
                        for p in parts)
        self.sock.sendall(data)

    def try_send(self, *parts):
        """False: the server has closed."""
        try:
            self.send(*parts)
        except OSError:
            return False
        return True

    @staticmethod
    def fields(target, method="GET", headers=None, scheme="http",
               authority="reel.test", drop=()):
        pseudo = {":method": method, ":scheme": scheme, ":path": target,
                  ":authority": authority}
        return [(name, value) for name, value in pseudo.items()
                if value is not None and name not in drop] + \
            list((headers or {}).items())

    def headers(self, fields, flags=("END_STREAM", "END_HEADERS"), **more):
        """A HEADERS frame of a new stream; not sent."""
        number = self.next_id
        self.next_id += 2
        self.streams[number] = Stream(number, self.stream_window)
        return frames.HeadersFrame(
            number, data=self.encoder.encode(fields, huffman=False),
            flags=flags, **more)

    def ask(self, target, end=True, **options):
        """Sends a request; its stream."""
        flags = ("END_STREAM", "END_HEADERS") if end else ("END_HEADERS",)
        frame = self.headers(self.fields(target, **options), flags)
        self.send(frame)
        return self.streams[frame.stream_id]

    def data(self, stream, data, end=False, flags=(), **more):
        if end:
            flags = (*flags, "END_STREAM")
        self.send(frames.DataFrame(stream.id, data=data, flags=flags, **more))

    def grant(self, stream, count):
        """Opens a window; stream 0: the connection's."""
        number = stream if stream == 0 else stream.id
        self.send(frames.WindowUpdateFrame(number, window_increment=count))
        if number == 0:
            self.window += count
        else:
            stream.window += count

    def cancel(self, stream, code=CANCEL):
        self.send(frames.RstStreamFrame(stream.id, error_code=code))
        stream.reset = code

    # --- receiving

    def step(self, seconds):
        """Handles what comes within this time; False: nothing did."""
        if self.closed or not select.select([self.sock], [], [], seconds)[0]:
            return False
        try:
            got = self.sock.recv(256 * 1024)
        except ConnectionResetError:
            got = b""
        if not got:
            self.closed = True
            return True
        self.buffer += got
        while len(self.buffer) >= 9:
            frame, count = frames.Frame.parse_frame_header(
                memoryview(bytes(self.buffer[:9])))
            assert count <= FRAME_MAX
            if len(self.buffer) < 9 + count:
                break
            frame.parse_body(memoryview(bytes(self.buffer[9:9 + count])))
            del self.buffer[:9 + count]
            self.handle(frame, count)
        return True

    def handle(self, frame, count):
        name = type(frame).__name__.removesuffix("Frame")
        self.frames[name] += 1
        assert self.block is None or name == "Continuation"
        handler = getattr(self, "on_" + name.lower(), None)
        assert handler is not None, f"a frame {name}"
        handler(frame, count)

    def on_settings(self, frame, _):
        if "ACK" in frame.flags:
            self.acked += 1
            return
        self.settings.update(frame.settings)
        self.try_send(frames.SettingsFrame(0, flags=("ACK",)))

    def on_ping(self, frame, _):
        assert "ACK" in frame.flags
        self.pongs += 1

    def on_goaway(self, frame, _):
        self.goaways.append((frame.last_stream_id, frame.error_code))

    def on_windowupdate(self, frame, _):
        assert frame.window_increment > 0
        self.opened.add(frame.stream_id)

    def on_headers(self, frame, _):
        self.block = bytearray()
        self.on_continuation(frame, 0)
        self.ends = "END_STREAM" in frame.flags

    def on_continuation(self, frame, _):
        self.block += frame.data
        if "END_HEADERS" not in frame.flags:
            return
        stream = self.streams[frame.stream_id]
        fields = self.decoder.decode(bytes(self.block))
        self.block = None
        if stream.reset is not None:
            return
        assert stream.fields is None and not stream.ended
        stream.fields = fields
        stream.ended = "END_STREAM" in frame.flags
        assert fields[0][0] == ":status"
        names = [name for name, _ in fields]
        assert all(name == name.lower() for name in names)
        assert not {"connection", "keep-alive", "transfer-encoding",
                    "upgrade", "proxy-connection"} & set(names)

    def on_data(self, frame, count):
        stream = self.streams[frame.stream_id]
        self.window -= count
        stream.window -= count
        assert self.window >= 0, "beyond the connection's window"
        if stream.reset is not None:
            return
        assert stream.window >= 0, "beyond the stream's window"
        assert stream.fields is not None and not stream.ended
        stream.body += frame.data
        stream.at = time.monotonic()
        stream.ended = "END_STREAM" in frame.flags
        self.order.append((stream, count))
        if self.generous is True or stream in (self.generous or ()):
            if count > 0:
                try:
                    self.grant(0, count)
                    if not stream.ended:
                        self.grant(stream, count)
                except OSError:
                    pass

    def on_rststream(self, frame, _):
        stream = self.streams[frame.stream_id]
        self.resets.append((stream.id, frame.error_code))
        assert not (stream.ended and frame.error_code != NO_ERROR) or \
            stream.reset is not None
        if stream.reset is None and not stream.ended:
            stream.reset = frame.error_code

    # --- waiting

    def until(self, condition, what, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert not self.closed, f"closed instead of: {what}"
            left = end - time.monotonic()
            assert left > 0, f"not within {seconds} s: {what}"
            self.step(left)

    def finish(self, *streams):
        """Until all of them have their end; the first one."""
        self.until(lambda: all(s.over for s in streams), "the streams' end")
        return streams[0]

    def get(self, target, **options):
        return self.finish(self.ask(target, **options))

    def pause(self):
        """All that the server sends now has come: it answers a PING."""
        before = self.pongs
        self.send(frames.PingFrame(0, opaque_data=b"pausenow"))
        self.until(lambda: self.pongs > before, "the answer to a PING")

    def end(self, seconds=10):
        """Until the server closes; the code of its last GOAWAY."""
        end = time.monotonic() + seconds
        while not self.closed:
            assert time.monotonic() < end, f"not closed within {seconds} s"
            self.step(0.1)
        return self.goaways[-1][1] if self.goaways else None

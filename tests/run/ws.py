"""WebSockets by hand: frames over HTTP/1.1 and HTTP/2, good ones and bad.

Everything blocks, with a timeout.  What a client library would not do
(unmasked frames, bytes one by one) is done here.
"""
import base64
import hashlib
import json
import os
import socket
import struct
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL = "reelcache.v1"


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"{status}: {body[:200]!r}")
        self.status = status
        self.headers = headers
        self.body = body


def frame(opcode, payload=b"", fin=True, mask=True, rsv=0):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    n = len(payload)
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    if not mask:
        return head + payload
    key = os.urandom(4)
    words = (key * (n // 4 + 1))[:n]
    return head + key + (int.from_bytes(payload, "big") ^
                         int.from_bytes(words, "big")).to_bytes(n, "big")


def connect(port, timeout, rcvbuf):
    sock = socket.socket()
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    sock.settimeout(timeout)
    sock.connect(("127.0.0.1", port))
    return sock


class Http1:
    """An upgraded connection; .socket is open to abuse."""

    def __init__(self, port, path="/ws", headers=(), timeout=15, rcvbuf=None,
                 protocol=PROTOCOL, key=None):
        self.socket = connect(port, timeout, rcvbuf)
        key = key or base64.b64encode(os.urandom(16)).decode()
        fields = {"Host": f"127.0.0.1:{port}", "Upgrade": "websocket",
                  "Connection": "Upgrade", "Sec-WebSocket-Key": key,
                  "Sec-WebSocket-Version": "13"}
        if protocol:
            fields["Sec-WebSocket-Protocol"] = protocol
        fields.update(headers)
        lines = [f"{k}: {v}" for k, v in fields.items() if v is not None]
        self.socket.sendall((f"GET {path} HTTP/1.1\r\n" + "\r\n".join(lines) +
                             "\r\n\r\n").encode())
        self.kept = b""
        while b"\r\n\r\n" not in self.kept:
            got = self.socket.recv(65536)
            assert got, self.kept
            self.kept += got
        head, self.kept = self.kept.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.lower(): v for k, v in
                        (line.split(": ", 1) for line in lines[1:])}
        if self.status != 101:
            want = int(self.headers.get("content-length", 0))
            while len(self.kept) < want:
                self.kept += self.socket.recv(65536)
            self.socket.close()
            raise Refused(self.status, self.headers, self.kept)
        digest = hashlib.sha1(key.encode() + GUID).digest()
        assert self.headers["sec-websocket-accept"] == \
            base64.b64encode(digest).decode()
        self.wire_bytes = len(self.kept)

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """Some bytes; b"": the end."""
        if self.kept:
            data, self.kept = self.kept, b""
            return data
        data = self.socket.recv(262144)
        self.wire_bytes += len(data)
        return data

    def close(self):
        self.socket.close()


class Http2:
    """A stream of a connection of HTTP/2 in clear (RFC 8441)."""

    def __init__(self, port, path="/ws", headers=(), timeout=15, rcvbuf=None,
                 protocol=PROTOCOL, window=65535):
        self.socket = connect(port, timeout, rcvbuf)
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True,
                                      header_encoding="utf-8",
                                      validate_outbound_headers=False))
        # a GOAWAY is no end (RFC 9113 section 6.8), the library thinks
        state = h2.connection.ConnectionState.CLIENT_OPEN
        machine = self.h2.state_machine
        machine._transitions = dict(machine._transitions)
        machine._transitions[
            state, h2.connection.ConnectionInputs.RECV_GOAWAY] = (None, state)
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.initiate_connection()
        self.open = {}     # stream: its bytes, None at the end
        self.answers = {}  # stream: its head
        self.data = b""
        self.ended = False
        self.wire_bytes = 0
        self.h2.increment_flow_control_window(1 << 24)
        self.flush()
        code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
        while self.h2.remote_settings.get(code, 0) != 1:
            assert not self.ended
            self.read()
        self.stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "CONNECT"), (":protocol", "websocket"),
                  (":scheme", "http"), (":path", path),
                  (":authority", f"127.0.0.1:{port}"),
                  ("sec-websocket-version", "13")]
        if protocol:
            fields.append(("sec-websocket-protocol", protocol))
        own = {k.lower(): v for k, v in dict(headers).items()}
        fields = [(k, own.pop(k, v)) for k, v in fields]
        fields = [f for f in fields if f[1] is not None]
        fields += own.items()
        self.open[self.stream] = b""
        self.h2.send_headers(self.stream, fields)
        self.flush()
        while self.stream not in self.answers:
            assert not self.ended, "no answer"
            self.read()
        self.headers = self.answers[self.stream]
        self.status = int(self.headers[":status"])
        if self.status != 200:
            while not self.ended:
                self.read()
            self.socket.close()
            raise Refused(self.status, self.headers, self.data)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def get(self, path):
        """Another request on the connection; the stream's number."""
        number = self.h2.get_next_available_stream_id()
        self.open[number] = b""
        self.h2.send_headers(number, [
            (":method", "GET"), (":scheme", "http"), (":path", path),
            (":authority", "h")], end_stream=True)
        self.flush()
        return number

    def body(self, number):
        while (number, "end") not in self.answers:
            assert not self.ended
            self.read()
        return self.open[number]

    def read(self):
        got = self.socket.recv(262144)
        self.wire_bytes += len(got)
        if not got:
            self.ended = True
            return
        for event in self.h2.receive_data(got):
            number = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.ResponseReceived):
                self.answers[number] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                if number == self.stream:
                    self.data += event.data
                else:
                    self.open[number] += event.data
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(
                        event.flow_controlled_length, number)
            elif isinstance(event, (h2.events.StreamEnded,
                                    h2.events.StreamReset)):
                self.answers[number, "end"] = event
                if number == getattr(self, "stream", None):
                    self.ended = True
            elif isinstance(event, h2.events.ConnectionTerminated):
                if event.error_code != 0:
                    self.ended = True
        self.flush()

    def send(self, data):
        while data:
            room = min(self.h2.local_flow_control_window(self.stream),
                       self.h2.max_outbound_frame_size)
            if self.ended:
                raise BrokenPipeError
            if room == 0:
                self.read()
                continue
            self.h2.send_data(self.stream, data[:room])
            data = data[room:]
            self.flush()

    def receive(self):
        while not self.data and not self.ended:
            self.read()
        data, self.data = self.data, b""
        return data

    def close(self):
        self.socket.close()


class Chunk:
    """What came for a REQUEST_VIDEO_CHUNK."""

    def __init__(self, offset):
        self.begin = None
        self.end = None
        self.error = None
        self.next = offset
        self.data = bytearray()
        self.frames = []
        self.last = False


class WebSocket:
    def __init__(self, port, transport=Http1, welcome=True, **options):
        self.wire = transport(port, **options)
        self.kept = bytearray()
        self.pings = 0
        self.chunks = {}
        self.welcome = self.json() if welcome else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    # --- out

    def raw(self, data):
        self.wire.send(data)

    def frame(self, *args, **options):
        self.wire.send(frame(*args, **options))

    def send(self, **message):
        self.frame(TEXT, json.dumps(message).encode())

    def close(self, code=1000, reason=b""):
        self.frame(CLOSE, struct.pack(">H", code) + reason)

    # --- in

    def _fill(self, count):
        while len(self.kept) < count:
            got = self.wire.receive()
            if not got:
                return False
            self.kept += got
        return True

    def next_frame(self):
        """(opcode, payload), or None at the end."""
        if not self._fill(2):
            return None
        first, n = self.kept[0], self.kept[1]
        assert first & 0x70 == 0, "reserved bits"
        assert first & 0x80, "ours are not fragmented"
        assert n & 0x80 == 0, "a server masks nothing"
        at = 2
        if n == 126:
            assert self._fill(4)
            n, at = struct.unpack_from(">H", self.kept, 2)[0], 4
            assert n >= 126
        elif n == 127:
            assert self._fill(10)
            n, at = struct.unpack_from(">Q", self.kept, 2)[0], 10
            assert n >= 65536
        if not self._fill(at + n):
            return None
        payload = bytes(self.kept[at:at + n])
        del self.kept[:at + n]
        return first & 15, payload

    def next(self):
        """The next frame that is no ping; those are answered."""
        while True:
            got = self.next_frame()
            if got is None or got[0] != PING:
                return got
            self.pings += 1
            self.frame(PONG, got[1])

    def json(self, type=None):
        """The next text; those of other types are passed over."""
        while True:
            got = self.next()
            assert got is not None, "the end instead of a text"
            assert got[0] == TEXT, got
            message = json.loads(got[1])
            if type is None or message["type"] == type:
                return message

    def ask(self, **message):
        """The message with the request's number."""
        self.send(**message)
        while True:
            got = self.json()
            if got.get("request") == message.get("request"):
                return got

    def closed(self):
        """(code, reason) of its Close; None without one.  To the end."""
        found = None
        while (got := self.next()) is not None:
            if got[0] == CLOSE:
                found = (struct.unpack(">H", got[1][:2])[0]
                         if got[1] else 1005, got[1][2:])
        return found

    # --- chunks

    def request(self, number, name, offset, length=None, **more):
        self.chunks[number] = Chunk(offset)
        if length is not None:
            more["length"] = length
        self.send(type="REQUEST_VIDEO_CHUNK", request=number, id=name,
                  offset=offset, **more)

    def step(self):
        """Takes one message of chunks; a text of another kind is returned."""
        got = self.next()
        assert got is not None, "the end"
        opcode, payload = got
        if opcode == PONG:
            return None
        if opcode == BINARY:
            self._binary(payload)
            return None
        assert opcode == TEXT, got
        message = json.loads(payload)
        chunk = self.chunks.get(message.get("request"))
        kind = message["type"]
        if chunk is None:
            return message
        if kind == "VIDEO_CHUNK_BEGIN":
            assert chunk.begin is None
            chunk.begin = message
        elif kind == "VIDEO_CHUNK":
            assert message["offset"] == chunk.next and not chunk.last
            self._bytes(chunk, base64.b64decode(message["data"]),
                        message["last"])
        elif kind == "VIDEO_CHUNK_END":
            chunk.end = message
        elif kind == "ERROR":
            chunk.error = message
        else:
            return message
        return None

    def _binary(self, payload):
        version, flags, header, number, offset = \
            struct.unpack_from(">BBHIQ", payload)
        assert (version, header) == (1, 16) and flags & ~1 == 0
        chunk = self.chunks[number]
        assert chunk.begin is not None, "bytes before their head"
        assert offset == chunk.next and not chunk.last
        self._bytes(chunk, payload[16:], flags & 1 != 0)

    @staticmethod
    def _bytes(chunk, data, last):
        assert chunk.end is None and data
        chunk.data += data
        chunk.next += len(data)
        chunk.frames.append(len(data))
        chunk.last = last

    def finish(self, number, credit=True, seconds=60):
        """Until its END or ERROR; gives credit for what came."""
        chunk = self.chunks[number]
        granted = len(chunk.data)
        end = time.monotonic() + seconds
        while chunk.end is None and chunk.error is None:
            assert time.monotonic() < end, "the chunk does not end"
            self.step()
            if credit and len(chunk.data) - granted >= 1 << 18:
                self.send(type="CREDIT", request=number,
                          bytes=len(chunk.data) - granted)
                granted = len(chunk.data)
        return chunk

    def chunk(self, number, name, offset, length=None, **more):
        self.request(number, name, offset, length, **more)
        return self.finish(number)

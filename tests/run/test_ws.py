"""WebSockets: the handshake, the messages, the bytes; by HTTP/1.1 and 2."""
import asyncio
import json
import os
import signal
import struct
import time

import pytest
import websockets

import client
import content
import harness
import ws
from harness import until
from ws import Http1, Http2, Refused, WebSocket

KIB = 1024
MIB = 1024 * KIB
CONF = {"prefetch": {"readahead": "0"}}

both = pytest.mark.parametrize("transport", [Http1, Http2])


def check(obj, chunk, offset, end):
    """All bytes came, and are right."""
    assert chunk.error is None, chunk.error
    assert len(chunk.data) == end - offset == chunk.end["bytes"]
    assert content.first_wrong(obj.seed, offset, chunk.data) is None
    assert chunk.begin["offset"] == offset
    assert chunk.last


def warm(server, obj):
    assert server.get(obj.name).status == 200
    server.settle(obj)


def rss(pid):
    """KiB of its own memory."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    raise AssertionError("no RssAnon")


# --- the handshake -----------------------------------------------------------

@both
def test_hello(server, transport):
    with WebSocket(server.port, transport) as s:
        assert s.wire.headers["sec-websocket-protocol"] == "reelcache.v1"
        assert "sec-websocket-extensions" not in s.wire.headers
        assert s.welcome["type"] == "WELCOME"
        assert s.welcome["protocol"] == "reelcache.v1"
        assert s.welcome["message_max"] == 65536
        assert s.ask(type="PING", request=7) == {"type": "PONG", "request": 7}
        assert s.ask(type="PING") == {"type": "PONG", "request": None}
        s.frame(ws.PING, b"are you there")
        assert s.next() == (ws.PONG, b"are you there")
        s.close(1000, b"bye")
        assert s.closed() == (1000, b"")
    until(lambda: server.metrics()["websockets"] == 0, "it is closed")


def test_of_a_library(server, thing):
    """A client that others wrote; it checks what we send."""
    film = thing(4 * MIB)

    async def talk():
        async with websockets.connect(
                f"ws://127.0.0.1:{server.port}/ws",
                subprotocols=["other.v9", "reelcache.v1"],
                compression="deflate") as s:
            assert s.subprotocol == "reelcache.v1"
            assert not s.extensions
            assert json.loads(await s.recv())["type"] == "WELCOME"
            await (await s.ping())
            # in fragments
            await s.send(iter(['{"type":"PI', 'NG","request"', ':3}']))
            assert json.loads(await s.recv()) == {"type": "PONG", "request": 3}
            await s.send(json.dumps({
                "type": "REQUEST_VIDEO_CHUNK", "request": 1, "id": film.name,
                "offset": 5, "length": 3000000, "credit": 3000000}))
            assert json.loads(await s.recv())["type"] == "VIDEO_CHUNK_BEGIN"
            data = b""
            while isinstance(got := await s.recv(), bytes):
                data += got[16:]
            assert json.loads(got)["type"] == "VIDEO_CHUNK_END"
            assert data == content.span(film.seed, 5, 3000005)
        assert s.close_code == 1000

    asyncio.run(asyncio.wait_for(talk(), 30))


def refused(server, transport=Http1, **options):
    with pytest.raises(Refused) as caught:
        WebSocket(server.port, transport, **options)
    res = caught.value
    problem = json.loads(res.body)
    assert problem["status"] == res.status
    assert res.headers["content-type"] == "application/problem+json"
    return res


def test_handshakes_that_are_wrong(server):
    plain = client.fetch(server.port, "/ws")
    assert plain.status == 426 and plain.headers["upgrade"] == "websocket"
    old = refused(server, headers={"Sec-WebSocket-Version": "8"})
    assert old.status == 426
    assert old.headers["sec-websocket-version"] == "13"
    assert refused(server, headers={"Sec-WebSocket-Version": None}).status == 426
    assert refused(server, headers={"Sec-WebSocket-Key": None}).status == 400
    for key in ("", "c2hvcnQ=", "A" * 24, "!" * 22 + "==", "A" * 22 + "==="):
        assert refused(server, headers={
            "Sec-WebSocket-Key": key}).status == 400
    assert refused(server, headers={"Upgrade": "other"}).status == 426
    assert refused(server, headers={"Connection": "close"}).status == 426
    assert refused(server, protocol="reelcache.v99").status == 400
    assert refused(server, headers={"Content-Length": "3"}).status == 400
    # and without a wish there is none
    with WebSocket(server.port, protocol=None) as s:
        assert "sec-websocket-protocol" not in s.wire.headers
    with WebSocket(server.port, headers={
            "Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}) as s:
        assert s.ask(type="PING", request=1)["type"] == "PONG"


def test_handshakes_of_http2_that_are_wrong(server):
    old = refused(server, Http2, headers={"sec-websocket-version": "8"})
    assert old.status == 426
    assert old.headers["sec-websocket-version"] == "13"
    assert "upgrade" not in old.headers
    assert refused(server, Http2, protocol="reelcache.v99").status == 400
    assert refused(server, Http2, path="/nothing").status == 404
    assert refused(server, Http2, headers={":protocol": "other"}).status == 501


def test_origins(make, origin):
    server = make(origin, main={"workers": 1}).start()

    def may(value):
        try:
            with WebSocket(server.port, headers={"Origin": value}):
                return True
        except Refused as res:
            assert res.status == 403
            return False

    own = f"http://127.0.0.1:{server.port}"
    assert may(None) and may(own) and may(own.replace("http", "https"))
    for other in ("http://127.0.0.1", "http://evil.example", "null",
                  f"http://evil.example:{server.port}", own + ".evil.example",
                  f"127.0.0.1:{server.port}", ""):
        assert not may(other), other
    server.set(websocket={"origins": "https://a.example same"})
    mark = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_log("reloaded", mark)
    until(lambda: may("https://a.example"), "the new worker")
    assert may(own) and may("HTTPS://A.example")
    assert not may("https://b.example") and not may("http://a.example")


def test_no_more_than_may_be_open(make, origin):
    server = make(origin, main={"workers": 1}, websocket={"max": 2}).start()
    with WebSocket(server.port), WebSocket(server.port, Http2):
        res = refused(server)
        assert res.status == 503 and res.headers["retry-after"] == "1"
        assert server.metrics()["websockets"] == 2
    until(lambda: server.metrics()["websockets"] == 0, "all are closed")
    with WebSocket(server.port):
        pass


# --- frames ------------------------------------------------------------------

@both
@pytest.mark.parametrize("what, data, code", [
    ("not masked", ws.frame(ws.TEXT, b"{}", mask=False), 1002),
    ("reserved bit", ws.frame(ws.TEXT, b"{}", rsv=4), 1002),
    ("unknown frame", ws.frame(3, b"{}"), 1002),
    ("unknown control", ws.frame(11, b""), 1002),
    ("ping in fragments", ws.frame(ws.PING, b"a", fin=False), 1002),
    ("ping too long", ws.frame(ws.PING, b"a" * 126), 1002),
    ("continues nothing", ws.frame(0, b"a"), 1002),
    ("text within text", ws.frame(ws.TEXT, b"a", fin=False) +
     ws.frame(ws.TEXT, b"b"), 1002),
    ("longer length than needed", b"\x81\xfe\x00\x05" + b"\0" * 9, 1002),
    ("negative length", b"\x81\xff" + b"\xff" * 8 + b"\0" * 4, 1002),
    ("close of one byte", ws.frame(ws.CLOSE, b"\x03"), None),
    ("close 1005", ws.frame(ws.CLOSE, b"\x03\xed"), 1002),
    ("close 999", ws.frame(ws.CLOSE, b"\x03\xe7"), 1002),
    ("close, no UTF-8", ws.frame(ws.CLOSE, b"\x03\xe8\xff"), 1007),
    ("text, no UTF-8", ws.frame(ws.TEXT, b"\xc0\x80"), 1007),
    ("surrogate", ws.frame(ws.TEXT, b"\xed\xa0\x80"), 1007),
    ("cut character", ws.frame(ws.TEXT, b"\xe2\x82"), 1007),
    ("cut by fragments", ws.frame(ws.TEXT, b"\xe2", fin=False) +
     ws.frame(0, b"\x28"), 1007),
    ("too long", ws.frame(ws.TEXT, b" " * 65537), 1009),
    ("length of 2^62", b"\x81\xff\x40" + b"\0" * 7 + b"\0" * 5, 1009),
    ("too long in fragments", ws.frame(ws.TEXT, b" " * 40000, fin=False) +
     ws.frame(0, b" " * 40000), 1009),
    ("binary", ws.frame(ws.BINARY, b"abc"), 1003),
], ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else "")
def test_faults(server, transport, what, data, code):
    with WebSocket(server.port, transport) as s:
        try:
            s.raw(data)
        except BrokenPipeError:
            pass  # it has been refused before its end
        got = s.closed()
        assert got is not None, "it was told"
        if code is not None:
            assert got[0] == code


@both
def test_byte_by_byte(server, transport):
    text = json.dumps({"type": "PING", "request": 5, "x": "Zürich €"},
                      ensure_ascii=False).encode()
    data = (ws.frame(ws.TEXT, text[:40], fin=False) +
            ws.frame(ws.PING, b"between") + ws.frame(0, b"", fin=False) +
            ws.frame(0, text[40:]) + ws.frame(ws.PONG, b"not asked for") +
            ws.frame(ws.CLOSE, b"\x03\xe8"))
    with WebSocket(server.port, transport) as s:
        for n in range(len(data)):
            s.raw(data[n:n + 1])
        assert s.next() == (ws.PONG, b"between")
        assert s.json() == {"type": "PONG", "request": 5}
        assert s.closed() == (1000, b"")


@both
def test_longest_message(server, transport):
    with WebSocket(server.port, transport) as s:
        text = json.dumps({"type": "PING", "request": 1}).encode()
        s.frame(ws.TEXT, text + b" " * (65536 - len(text)))
        assert s.json() == {"type": "PONG", "request": 1}
        # in 65536 fragments: they are not kept one by one
        text += b" " * (4096 - len(text))
        s.raw(b"".join(ws.frame(0 if n else ws.TEXT, text[n:n + 1],
                                fin=n + 1 == len(text))
                       for n in range(len(text))))
        assert s.json() == {"type": "PONG", "request": 1}


def test_client_that_just_leaves(server):
    for _ in range(20):
        with WebSocket(server.port) as s:
            s.raw(ws.frame(ws.TEXT, b"{}")[:3])
    until(lambda: server.metrics()["websockets"] == 0, "all are gone")


# --- messages ----------------------------------------------------------------

@both
def test_bad_messages(server, transport):
    with WebSocket(server.port, transport) as s:
        for text in (b"", b"x", b"[]", b"3", b'{"type":', b"{}", b'{"type":3}',
                     b'{"type":"NOTHING"}', b'{"type":"PING"} x',
                     b'{"type":"PING","request":-1}',
                     b'{"type":"PING","request":4294967296}',
                     b'{"type":"PING","request":"1"}',
                     b"[" * 1000, b'{"a":' * 9 + b"1" + b"}" * 9):
            s.frame(ws.TEXT, text)
            got = s.json()
            assert got["type"] == "ERROR" and got["status"] == 400, text
            assert got["request"] is None
            assert got["problem"]["status"] == 400
        for wrong in ({"type": "RESOLVE"}, {"type": "RESOLVE", "id": 3},
                      {"type": "RESOLVE", "id": "x" * 129},
                      {"type": "RESOLVE", "id": ""},
                      {"type": "SUBSCRIBE"},
                      {"type": "SUBSCRIBE", "topic": "rooms"},
                      {"type": "SUBSCRIBE", "topic": "stats", "interval_s": 0},
                      {"type": "REQUEST_VIDEO_CHUNK", "id": "a"},
                      {"type": "REQUEST_VIDEO_CHUNK", "id": "a", "offset": -1},
                      {"type": "REQUEST_VIDEO_CHUNK", "id": "a", "offset": 1.5},
                      {"type": "REQUEST_VIDEO_CHUNK", "id": "a", "offset": 0,
                       "length": 0},
                      {"type": "REQUEST_VIDEO_CHUNK", "id": "a", "offset": 0,
                       "encoding": "hex"},
                      {"type": "REQUEST_VIDEO_CHUNK", "id": "a", "offset": 0,
                       "credit": 16 * MIB + 1},
                      {"type": "CREDIT"}):
            got = s.ask(request=9, **wrong)
            assert got["type"] == "ERROR" and got["status"] == 400, wrong
        got = s.ask(type="CANCEL", request=77)
        assert got["type"] == "ERROR" and got["status"] == 404
        # it lives
        assert s.ask(type="PING", request=1)["type"] == "PONG"


@both
def test_same_as_http(server, thing, transport):
    """RESOLVE, PREFETCH and what follows answer as HTTP does."""
    film = thing(4 * MIB)
    with WebSocket(server.port, transport) as s:
        def same(target, method, message, type):
            http = client.fetch(server.port, target, method=method)
            got = s.ask(request=1, **message)
            assert got["status"] == http.status
            body = json.loads(http.body)
            if http.status < 400:
                assert got["type"] == type
                assert got["body"].keys() == body.keys()
                return got["body"]
            assert got["type"] == "ERROR" and got["problem"] == body
            return None

        same(f"/resolve/{film.name}", "GET",
             {"type": "RESOLVE", "id": film.name}, "RESOLVED")
        same("/resolve/a%2Fb%20%22", "GET",
             {"type": "RESOLVE", "id": 'a/b "'}, "RESOLVED")
        same("/resolve/x?source=none", "GET",
             {"type": "RESOLVE", "id": "x", "source": "none"}, "RESOLVED")
        same(f"/prefetch/{film.name}", "DELETE",
             {"type": "PREFETCH_CANCEL", "id": film.name},
             "PREFETCH_CANCELLED")
        same(f"/prefetch/{film.name}?bytes=1048576&deadline=2.5", "POST",
             {"type": "PREFETCH", "id": film.name, "bytes": MIB,
              "deadline": 2.5}, "PREFETCHING")
        same(f"/prefetch/{film.name}", "GET",
             {"type": "PREFETCH_PROGRESS", "id": film.name}, "PREFETCH_STATE")
        until(lambda: film.unique_bytes >= MIB, "it is fetched")


def test_statistics(server):
    with WebSocket(server.port) as s:
        got = s.ask(type="SUBSCRIBE", topic="stats", request=4, interval_s=1)
        assert got == {"type": "SUBSCRIBED", "request": 4, "topic": "stats",
                       "interval_s": 1}
        first = s.json("STATS")
        assert first["request"] == 4 and first["stats"]["websockets"] >= 1
        assert client.fetch(server.port, "/healthz").status == 200
        begun = time.monotonic()
        second = s.json("STATS")
        assert 0.5 < time.monotonic() - begun < 3
        assert second["stats"]["requests"] > first["stats"]["requests"]
        assert second["stats"].keys() == first["stats"].keys()
        assert set(second["stats"]) <= set(server.metrics())
        assert s.ask(type="UNSUBSCRIBE", topic="stats",
                     request=5)["type"] == "UNSUBSCRIBED"
        assert s.ask(type="PING", request=6)["type"] == "PONG"


@both
def test_many_requests_at_once(make, origin, transport):
    """Of an origin that does not answer; more than may be are refused."""
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", MIB, hang=True)
    with WebSocket(server.port, transport) as s:
        for n in range(16):
            s.request(n, film.name, n, 1000)
        got = s.ask(type="REQUEST_VIDEO_CHUNK", request=99, id=film.name,
                    offset=0)
        assert got["type"] == "ERROR" and got["status"] == 429
        s.send(type="REQUEST_VIDEO_CHUNK", request=3, id=film.name, offset=0)
        got = s.json()
        assert got["status"] == 409 and got["request"] is None
        assert s.ask(type="CANCEL", request=5) == {
            "type": "CANCELLED", "request": 5, "bytes": 0}
        film.hang = False
        for n in range(16):
            if n != 5:
                check(film, s.finish(n), n, n + 1000)
        check(film, s.chunk(5, film.name, 5, 1000), 5, 1005)


# --- bytes -------------------------------------------------------------------

@both
@pytest.mark.parametrize("encoding", ["binary", "base64"])
def test_chunk(server, thing, transport, encoding):
    film = thing(3 * MIB)
    with WebSocket(server.port, transport) as s:
        for offset, end in ((0, film.size), (100, 2 * MIB), (7, 8),
                            (film.size - 1, film.size),
                            (MIB - 1, MIB + 300 * KIB)):
            chunk = s.chunk(1, film.name, offset, end - offset,
                            encoding=encoding)
            check(film, chunk, offset, end)
            begin = chunk.begin
            assert begin["status"] == 206
            assert begin["length"] == end - offset
            assert begin["size"] == film.size
            assert begin["encoding"] == encoding
            assert begin["content_type"] == "video/mp4"
            assert begin["etag"] == film.etag
        # to the end, and beyond it
        check(film, s.chunk(2, film.name, 2 * MIB), 2 * MIB, film.size)
        check(film, s.chunk(3, film.name, film.size - 10, 999),
              film.size - 10, film.size)
    assert film.unique_bytes == film.size
    assert film.body_bytes <= film.size + 64 * KIB * 5


@both
def test_errors_of_chunks(server, thing, transport):
    film = thing(1000)
    gone = thing(1000, status=404)
    with WebSocket(server.port, transport) as s:
        error = s.chunk(1, film.name, 1000, 5).error
        assert (error["status"], error["size"]) == (416, 1000)
        assert error["problem"]["status"] == 416
        error = s.chunk(2, gone.name, 0).error
        assert error["status"] == 404
        http = client.fetch(server.port, f"/proxy/{gone.name}")
        assert error["problem"] == json.loads(http.body)
        assert s.chunk(3, "a/../b", 0).error["status"] in (400, 404)
        assert s.chunk(4, film.name, 0,
                       source="none&?").error["status"] == 404
        check(film, s.chunk(5, film.name, 0), 0, 1000)


def test_broken_off(make, origin):
    """The origin breaks off and stays away, in the midst of a chunk."""
    server = make(origin, main={"workers": 1},
                  cache={"negative": "0"},
                  upstream={"patience": "500ms"}).start()
    film = origin.add("film", 2 * MIB, cut_after=MIB)
    with WebSocket(server.port) as s:
        s.request(1, film.name, 0)
        while len(s.chunks[1].data) < 512 * KIB:
            s.step()
        film.status = 503
        chunk = s.finish(1)
        assert chunk.end is None and chunk.error["status"] == 502
        assert chunk.error["bytes"] == len(chunk.data) < film.size
        assert content.first_wrong(film.seed, 0, chunk.data) is None
        # the WebSocket goes on
        film.status, film.cut_after = None, None
        until(lambda: s.chunk(2, film.name, MIB).error is None,
              "the fault is forgotten")
        check(film, s.chunk(2, film.name, 0), 0, film.size)


@both
def test_together_with_a_viewer(server, thing, transport):
    """One request to the origin for a viewer by HTTP and one by WebSocket."""
    film = thing(3 * MIB, rate=2 * MIB, delay=0.1)
    viewer = harness.Later(server.get, film.name)
    with WebSocket(server.port, transport) as s:
        begun = time.monotonic()
        chunk = s.chunk(1, film.name, 0)
        check(film, chunk, 0, film.size)
        assert time.monotonic() - begun < 4
        # while it arrived
        assert len(chunk.frames) > 4
    res = viewer.value()
    client.same(film.seed, 0, res.body, film.size)
    assert film.body_bytes == film.size
    assert len(film.requests) == 1


@both
def test_credit_is_kept(server, thing, transport):
    film = thing(2 * MIB)
    warm(server, film)
    with WebSocket(server.port, transport) as s:
        s.request(1, film.name, 0, credit=100000)
        chunk = s.chunks[1]
        given = 100000
        while chunk.end is None:
            while len(chunk.data) < min(given, film.size):
                s.step()
            if given < film.size:
                # not a byte more, however long it lasts
                assert s.ask(type="PING", request=9)["type"] == "PONG"
                assert len(chunk.data) == given
                s.send(type="CREDIT", request=1, bytes=333333)
                given += 333333
            else:
                s.step()
        check(film, chunk, 0, film.size)
        # none at first, and more than may be
        s.request(2, film.name, 0, 10, credit=0)
        s.step()
        assert s.ask(type="PING", request=9)["type"] == "PONG"
        assert s.chunks[2].begin and not s.chunks[2].data
        s.send(type="CREDIT", request=2, bytes=16 * MIB)
        check(film, s.finish(2), 0, 10)
        s.request(3, film.name, 0, 10, credit=0)
        s.send(type="CREDIT", request=3, bytes=16 * MIB + 1)
        assert s.finish(3, credit=False).error["status"] == 400


def test_no_credit_for_too_long(make, origin):
    server = make(origin, main={"workers": 1},
                  http={"send_timeout": "1s"}).start()
    film = origin.add("film", MIB)
    with WebSocket(server.port) as s:
        s.request(1, film.name, 0, credit=1000)
        chunk = s.finish(1, credit=False)
        assert chunk.error["status"] == 408 and chunk.error["bytes"] == 1000
        check(film, s.chunk(1, film.name, 0), 0, film.size)


@both
def test_cancel(server, thing, transport):
    film = thing(40 * MIB, rate=20 * MIB)
    with WebSocket(server.port, transport) as s:
        s.request(1, film.name, 0, credit=16 * MIB)
        while len(s.chunks[1].data) < MIB:
            s.step()
        s.send(type="CANCEL", request=1)
        while (got := s.step()) is None:
            pass
        assert got["type"] == "CANCELLED"
        # what was under way came before it, and nothing comes after it
        chunk = s.chunks[1]
        assert got["bytes"] == len(chunk.data) < 16 * MIB
        assert content.first_wrong(film.seed, 0, chunk.data) is None
        assert s.ask(type="PING", request=2)["type"] == "PONG"
        check(film, s.chunk(1, film.name, 0, 1000), 0, 1000)
    until(lambda: film.active == 0, "the origin is left")
    assert film.body_bytes < 20 * MIB


@both
def test_chunks_take_turns(server, thing, transport):
    films = [thing(3 * MIB) for _ in range(4)]
    for film in films:
        warm(server, film)
    with WebSocket(server.port, transport, rcvbuf=65536) as s:
        for n, film in enumerate(films):
            s.request(n, film.name, 0, credit=4 * MIB)
        # the first one sends as much as goes before the others have come
        order = []
        while all(c.end is None for c in s.chunks.values()):
            before = [len(c.data) for c in s.chunks.values()]
            s.step()
            after = [len(c.data) for c in s.chunks.values()]
            if all(before) and before != after:
                order += [n for n in s.chunks if before[n] != after[n]]
        for n, film in enumerate(films):
            check(film, s.finish(n), 0, film.size)
        # the last bytes of one are followed by those who are left
        assert len(order) > 12
        assert all(a != b for a, b in zip(order[:-4], order[1:-3]))


def test_control_goes_between(server, thing):
    """A PING is answered in the midst of a big chunk."""
    film = thing(16 * MIB)
    warm(server, film)
    with WebSocket(server.port, rcvbuf=65536) as s:
        s.request(1, film.name, 0, credit=16 * MIB)
        while len(s.chunks[1].data) < MIB:
            s.step()
        s.send(type="PING", request=2)
        before = len(s.chunks[1].data)
        while s.step() is None:
            pass
        # no more than what lay in the kernel, and a frame
        assert len(s.chunks[1].data) - before < 5 * MIB
        check(film, s.finish(1), 0, film.size)


def test_bytes_on_the_wire(server, thing):
    film = thing(16 * MIB)
    warm(server, film)
    with WebSocket(server.port) as s:
        s.wire.wire_bytes = 0
        s.request(1, film.name, 0, credit=16 * MIB)
        check(film, s.finish(1, credit=False), 0, film.size)
        assert s.wire.wire_bytes <= 1.001 * film.size
        s.wire.wire_bytes = 0
        s.request(2, film.name, 0, credit=16 * MIB, encoding="base64")
        check(film, s.finish(2, credit=False), 0, film.size)
        assert 1.33 < s.wire.wire_bytes / film.size < 1.34


def test_descriptors_are_closed(make, origin):
    """Frames that do not go at once hold one, whatever becomes of them."""
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", 8 * MIB)
    warm(server, film)
    pid, = server.workers()

    def count():
        return len(os.listdir(f"/proc/{pid}/fd"))

    before = count()
    for n in range(6):
        with WebSocket(server.port, Http2 if n % 2 else Http1,
                       rcvbuf=8192) as s:
            for k in range(8):
                s.request(k, film.name, k * MIB, MIB)
            while not s.chunks[0].data:
                s.step()
            if n >= 3:
                s.close()
                assert s.closed() is None or True
    until(lambda: count() <= before + 4, "descriptors are closed")


# --- slow, silent, gone ------------------------------------------------------

@both
def test_slow_reader(make, origin, transport):
    """One that reads nothing costs little, and nobody else waits for it."""
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", 64 * MIB)
    warm(server, film)
    pid, = server.workers()
    sleepers = []
    assert server.get(film.name).status == 200
    before = rss(pid)
    try:
        for _ in range(4):
            s = WebSocket(server.port, transport, rcvbuf=4096)
            sleepers.append(s)
            for n in range(16):
                s.request(n, film.name, n * MIB, credit=16 * MIB)
            s.send(type="SUBSCRIBE", topic="stats", interval_s=1)
            for n in range(20):
                s.send(type="RESOLVE", request=1000 + n, id="x" * 100)
        with WebSocket(server.port) as s:
            begun = time.monotonic()
            check(film, s.chunk(1, film.name, 0), 0, film.size)
            assert s.ask(type="PING", request=2)["type"] == "PONG"
            begun = time.monotonic() - begun
        assert begun < 20
        time.sleep(3)  # statistics that nobody takes
        # 64 chunks; ASan's quarantine is in it, too
        assert rss(pid) - before < 40 * 1024
        # and what they read then is right
        chunk = sleepers[0].chunks[0]
        while len(chunk.data) < 100000:
            sleepers[0].step()
        assert content.first_wrong(film.seed, 0, chunk.data) is None
    finally:
        for s in sleepers:
            s.wire.close()
    until(lambda: server.metrics()["websockets"] == 0, "all are gone")


def test_answers_nobody_reads(make, origin):
    """Messages without end by one that reads no answer: it is closed."""
    server = make(origin, main={"workers": 1}).start()
    pid, = server.workers()
    before = rss(pid)
    with WebSocket(server.port, rcvbuf=4096) as s:
        s.wire.socket.settimeout(5)
        data = ws.frame(ws.TEXT, b"not JSON") * 1000
        with pytest.raises(OSError):
            for _ in range(10000):
                s.raw(data)
        assert rss(pid) - before < 30 * 1024
    assert client.fetch(server.port, "/healthz").status == 200


def test_pings_nobody_reads(make, origin):
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", 16 * MIB)
    warm(server, film)
    pid, = server.workers()
    before = rss(pid)
    with WebSocket(server.port, rcvbuf=4096) as s:
        s.wire.socket.settimeout(5)
        s.request(1, film.name, 0, credit=16 * MIB)
        data = ws.frame(ws.PING, b"x" * 100) * 1000
        with pytest.raises(OSError):
            for _ in range(10000):
                s.raw(data)
        assert rss(pid) - before < 30 * 1024


@both
def test_ping_and_credit_together(server, thing, transport):
    """A pong that is queued does not hold back what the credit is for."""
    film = thing(4 * MIB)
    warm(server, film)
    with WebSocket(server.port, transport) as s:
        s.request(1, film.name, 0, MIB, credit=100_000)
        chunk = s.chunks[1]
        while len(chunk.data) < 100_000:
            s.step()
        s.raw(ws.frame(ws.PING, b"p") +
              ws.frame(ws.TEXT, json.dumps(
                  {"type": "CREDIT", "request": 1, "bytes": MIB}).encode()))
        check(film, s.finish(1, credit=False), 0, MIB)


def test_window_is_given_back(server):
    """What was kept while our answers could not go is taken as soon as they
    can, and its place in the stream's window is the client's again."""
    wire = Http2(server.port, window=0, timeout=5)
    try:
        machine, number = wire.h2, wire.stream
        room = machine.local_flow_control_window(number)
        message = ws.frame(ws.TEXT, json.dumps(
            {"type": "PING", "request": 5, "x": "a" * 65_495}).encode())
        assert room < len(message)  # so there is nothing to be answered yet
        for at in range(0, room, 16384):
            machine.send_data(number, message[at:min(at + 16384, room)])
        wire.flush()
        machine.ping(b"all kept")
        wire.flush()
        wire.read()  # the answer to it
        machine.increment_flow_control_window(1 << 20, number)
        wire.flush()
        # a WINDOW_UPDATE comes, or the time is over; nothing of ours asks for it
        while machine.local_flow_control_window(number) == 0:
            machine.receive_data(wire.socket.recv(65536))
        machine.send_data(number, message[room:])
        wire.flush()
        while b'"request":5' not in wire.data:
            wire.read()
    finally:
        wire.close()


@pytest.mark.alone
@pytest.mark.parametrize("encoding", ["binary", "base64"])
def test_slow_reader_is_not_taken_for_dead(make, origin, encoding):
    """Our ping lies behind what it has to read first."""
    server = make(origin, websocket={"ping": "1s", "timeout": "1s"}).start()
    film = origin.add("film", 4 * MIB)
    warm(server, film)
    with WebSocket(server.port, rcvbuf=16384) as s:
        s.request(1, film.name, 0, credit=16 * MIB, encoding=encoding)
        got, begun = 0, time.monotonic()
        while got < 4 * MIB:  # 700 KB a second: longer than both options
            data = s.wire.socket.recv(16384)
            assert data, f"closed after {got} bytes"
            got += len(data)
            time.sleep(max(0, begun + got / 700_000 - time.monotonic()))
        assert time.monotonic() - begun > 4


@both
def test_keep_alive(make, origin, transport):
    server = make(origin, main={"workers": 1},
                  websocket={"ping": "1s", "timeout": "1s"}).start()
    with WebSocket(server.port, transport) as alive, \
            WebSocket(server.port, transport) as silent:
        begun = time.monotonic()
        alive.wire.socket.settimeout(0.2)
        while time.monotonic() - begun < 4:
            try:
                assert alive.next() is None
            except TimeoutError:
                pass
        assert alive.pings >= 2
        assert silent.next_frame()[0] == ws.PING
        with pytest.raises(ConnectionError):
            assert silent.next_frame() is None
            raise ConnectionResetError  # a stream's is no connection's
        assert time.monotonic() - begun < 6
        alive.wire.socket.settimeout(10)
        assert alive.ask(type="PING", request=1)["type"] == "PONG"


@both
def test_worker_that_drains(make, origin, transport):
    """1001, and the worker ends when the client has answered."""
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", 8 * MIB, rate=MIB)
    old, = server.workers()
    with WebSocket(server.port, transport) as s:
        s.request(1, film.name, 0, credit=8 * MIB)
        while len(s.chunks[1].data) < 100000:
            s.step()
        server.signal(signal.SIGHUP)
        got = None
        while got is None or got[0] != ws.CLOSE:
            got = s.next()
            assert got is not None
        assert got[1] == struct.pack(">H", 1001)
        s.frame(ws.CLOSE, got[1])
        while s.next() is not None:
            pass
    until(lambda: not harness.alive(old), "the old worker has ended")
    with WebSocket(server.port, transport) as s:
        assert s.ask(type="PING", request=1)["type"] == "PONG"


def test_drain_with_a_client_that_says_nothing(make, origin):
    server = make(origin, main={"workers": 1,
                                "shutdown_timeout": "20s"}).start()
    old, = server.workers()
    with WebSocket(server.port):
        server.signal(signal.SIGHUP)
        until(lambda: not harness.alive(old), "it does not wait for long", 12)


@both
def test_worker_that_is_killed(make, origin, transport):
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", 8 * MIB, rate=MIB)
    pid, = server.workers()
    with WebSocket(server.port, transport) as s:
        s.request(1, film.name, 0)
        while len(s.chunks[1].data) < 100000:
            s.step()
        os.kill(pid, signal.SIGKILL)
        try:
            assert s.closed() is None
        except ConnectionError:
            pass
    until(lambda: pid not in server.workers() and server.workers(),
          "another worker")
    with WebSocket(server.port, transport) as s:
        check(film, s.chunk(1, film.name, 0, MIB), 0, MIB)


def test_beside_other_streams(server, thing):
    """On one connection of HTTP/2: a response and a WebSocket's chunk."""
    film, other = thing(4 * MIB), thing(4 * MIB)
    warm(server, film)
    warm(server, other)
    with WebSocket(server.port, Http2) as s:
        stream = s.wire.get(f"/proxy/{other.name}")
        s.request(1, film.name, 0)
        check(film, s.finish(1), 0, film.size)
        body = s.wire.body(stream)
        client.same(other.seed, 0, body, other.size)
        assert s.ask(type="PING", request=2)["type"] == "PONG"


def test_access_log(make, origin):
    server = make(origin, main={"workers": 1}).start()
    film = origin.add("film", 1000)
    with WebSocket(server.port) as s:
        check(film, s.chunk(1, film.name, 10, 100), 10, 110)
        s.close()
        s.closed()
    server.wait_access(lambda e: "/proxy/film" in str(e) and
                       e["status"] == 206, "the chunk")
    server.wait_access(lambda e: "/ws" in str(e) and e["status"] == 101,
                       "the WebSocket")
    got = until(lambda: (m if (m := server.metrics())["websockets"] == 0 and
                         m["bytes_sent_websocket"] > 0 else None), "counted")
    assert got["websockets_accepted"] == got["websocket_messages"] == 1
    assert got["chunk_requests"] == 1
    assert got["bytes_sent_websocket"] > 100

"""HTTP/2 with prior knowledge: requests, push-back, priorities, floods, and
clients that break every rule."""
import json
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from hyperframe import frame as frames

import client
import content
import h2peer
import harness
from h2peer import Peer

KIB, MIB = 1 << 10, 1 << 20
CONF = {"http": {"notsent_lowat": "64K"}}
STREAMS_MAX = 100
BODY_MAX = 64 * KIB


def path(obj):
    return f"/proxy/{obj.name}"


def fully(server, obj):
    """All of it is in the cache."""
    res = server.get(obj.name)
    client.same(obj.seed, 0, res.body, obj.size)
    return obj


def faults(server):
    return server.stats()["h2_faults"]


def checked(stream, obj, start=0, end=None):
    assert stream.ended and stream.reset is None
    client.same(obj.seed, start, stream.body, obj.size if end is None else end)


def worker_of(peer):
    return int(peer.get("/healthz").headers["x-worker"])


@pytest.fixture(scope="module")
def quick(make_shared, shared_origin):
    """A server without patience."""
    return make_shared(shared_origin, main={"workers": 1}, http={
        "head_timeout": "700ms", "body_timeout": "700ms", "idle_timeout": "900ms",
        "send_timeout": "1500ms", "notsent_lowat": "64K"}).start()


# --- requests


def test_whole_and_ranges(server, thing):
    obj = thing(3 * MIB + 17)
    with Peer(server.port) as peer:
        res = peer.get(path(obj))
        assert res.status == 200
        assert res.headers["content-length"] == str(obj.size)
        checked(res, obj)
        for start, end in ((0, 1), (1, 70000), (65536, 131072),
                           (obj.size - 1, obj.size), (5, obj.size)):
            res = peer.get(path(obj), headers={
                "range": f"bytes={start}-{end - 1}"})
            assert res.status == 206
            assert res.headers["content-range"] == \
                f"bytes {start}-{end - 1}/{obj.size}"
            checked(res, obj, start, end)
        res = peer.get(path(obj), headers={"range": "bytes=0-9,100-109"})
        assert res.status == 206
        one = client.fetch(server.port, path(obj), range="bytes=0-9,100-109")
        boundary = re.compile(rb"--[^\r]+")
        assert boundary.sub(b"", bytes(res.body)) == \
            boundary.sub(b"", one.body)
    assert obj.body_bytes == obj.size


def test_answers_without_body(server, thing):
    obj = fully(server, thing(100_000))
    with Peer(server.port) as peer:
        res = peer.get(path(obj), method="HEAD")
        assert (res.status, res.headers["content-length"]) == (200, "100000")
        checked(res, obj, 0, 0)
        res = peer.get(path(obj), headers={"if-none-match": obj.etag})
        assert res.status == 304 and res.body == b""
        res = peer.get(path(obj), headers={"range": "bytes=200000-"})
        assert res.status == 416
        assert res.headers["content-range"] == "bytes */100000"
        res = peer.get("/proxy/no-such-thing")
        assert res.status == 404
        assert res.headers["content-type"] == "application/problem+json"
        assert json.loads(res.body)["status"] == 404
        res = peer.get("/", method="OPTIONS")
        assert res.status == 204 and res.body == b""


def test_request_bodies(server, thing):
    obj = thing(200_000)
    with Peer(server.port) as peer:
        res = peer.get(f"/prefetch/{obj.name}", method="POST")
        assert 200 <= res.status < 300, bytes(res.body)
        stream = peer.ask(f"/prefetch/{obj.name}", method="POST", end=False,
                          headers={"content-length": "6"})
        peer.data(stream, b"abc")
        peer.data(stream, b"def", end=True)
        assert 200 <= peer.finish(stream).status < 300
        res = peer.get(f"/prefetch/{obj.name}", method="POST", headers={
            "content-length": str(BODY_MAX + 1)}, end=False)
        assert res.status == 413
        checked(peer.get(path(obj)), obj)


def test_body_without_end(server, thing):
    """Of a request whose answer waits: reset when too much has come."""
    obj = thing(1000, hang=True)
    with Peer(server.port) as peer:
        stream = peer.ask(path(obj), end=False)
        for _ in range(3):
            peer.data(stream, b"x" * 16384)
            peer.pause()
        for _ in range(2):
            peer.data(stream, b"x" * 16384)
        assert peer.finish(stream).reset == h2peer.CANCEL
        assert peer.get("/healthz").status == 200
        obj.hang = False
        checked(peer.get(path(obj)), obj)


def test_windows_of_bodies_are_given_back(server):
    """Of the connection, too: many small bodies are no end of it."""
    with Peer(server.port) as peer:
        for _ in range(20):
            stream = peer.ask("/healthz", end=False)
            peer.send(frames.DataFrame(stream.id, data=b"x" * 8000,
                                       pad_length=200, flags=("PADDED",)),
                      frames.DataFrame(stream.id, data=b"x" * 100,
                                       flags=("END_STREAM",)))
            assert peer.finish(stream).status == 200
        assert peer.frames["WindowUpdate"] >= 2


def test_windows_of_waiting_bodies_are_given_back(server, thing):
    """Of each stream, and of the connection."""
    obj = thing(1000, hang=True)
    with Peer(server.port) as peer:
        streams = [peer.ask(path(obj), end=False) for _ in range(4)]
        for stream in streams:
            for _ in range(3):
                peer.data(stream, b"x" * 16000, pad_length=100,
                          flags=("PADDED",))
            peer.pause()
            assert stream.id in peer.opened
        assert 0 in peer.opened
        for stream in streams:
            peer.data(stream, b"", end=True)
        obj.hang = False
        peer.finish(*streams)
        for stream in streams:
            checked(stream, obj)


def test_hundred_streams(server, thing):
    objects = [thing(200_000 + n) for n in range(10)]
    with Peer(server.port) as peer:
        streams = [peer.ask(path(objects[n % 10]), headers={
            "range": f"bytes={n * 10}-"}) for n in range(STREAMS_MAX)]
        peer.finish(*streams)
        for n, stream in enumerate(streams):
            checked(stream, objects[n % 10], n * 10)
    assert all(o.body_bytes == o.unique_bytes for o in objects)


def test_more_streams_than_allowed(server, thing):
    obj = thing(1000, hang=True)
    with Peer(server.port) as peer:
        peer.until(lambda: h2peer.MAX_STREAMS in peer.settings, "settings")
        assert peer.settings[h2peer.MAX_STREAMS] == STREAMS_MAX
        held = [peer.ask(path(obj)) for _ in range(STREAMS_MAX)]
        peer.pause()
        more = peer.ask(path(obj))
        # nghttp2 takes a client that knows better for broken
        assert peer.end() == h2peer.PROTOCOL_ERROR
        assert more.fields is None and all(s.fields is None for s in held)
    obj.hang = False
    assert client.fetch(server.port, path(obj)).status == 200


def test_max_streams_is_the_operators(make, shared_origin):
    server = make(shared_origin, http={"max_streams": 3},
                  main={"workers": 1}).start()
    obj = shared_origin.add("few-streams", 1000, hang=True)
    with Peer(server.port, preface=False) as peer:
        # at once with the preface: it has not heard of the limit
        parts = [h2peer.PREFACE, frames.SettingsFrame(0)]
        parts += [peer.headers(peer.fields(path(obj))) for _ in range(5)]
        peer.send(*parts)
        streams = list(peer.streams.values())
        peer.finish(*streams[3:])
        assert [s.reset for s in streams] == \
            [None] * 3 + [h2peer.REFUSED_STREAM] * 2
        assert peer.settings[h2peer.MAX_STREAMS] == 3
        obj.hang = False
        for stream in streams[:3]:
            checked(peer.finish(stream), obj)


# --- push-back


def test_windows_of_one_byte(server, thing):
    obj = fully(server, thing(300))
    with Peer(server.port, window=1) as peer:
        checked(peer.get(path(obj)), obj)
        assert peer.frames["Data"] >= 300


def test_answers_from_memory_in_pieces(server):
    with Peer(server.port, window=1) as peer:
        res = peer.get("/proxy/no-such-thing")
        assert json.loads(res.body)["status"] == 404
        assert res.headers["content-length"] == str(len(res.body))
    with Peer(server.port, window=777) as peer:
        res = peer.get("/metrics")
        assert len(res.body) == int(res.headers["content-length"]) > 5000
        assert all(re.fullmatch(r"#.*|[a-z_0-9]+({.*})? \S+", line)
                   for line in res.body.decode().splitlines())


def test_window_that_opens_later(server, thing):
    obj = fully(server, thing(500_000))
    with Peer(server.port, window=0) as peer:
        stream = peer.ask(path(obj))
        peer.until(lambda: stream.fields is not None, "a head")
        peer.pause()
        assert stream.body == b"" and not stream.ended
        peer.generous = False
        for count in (1, 16383, 16384, 16385):
            before = len(stream.body)
            peer.grant(stream, count)
            peer.until(lambda n=before + count: len(stream.body) == n, "bytes")
            peer.pause()
            assert len(stream.body) == before + count
        # SETTINGS change the windows of streams that run
        peer.stream_window = 200_000
        stream.window += 200_000
        peer.send(frames.SettingsFrame(
            0, settings={h2peer.INITIAL_WINDOW: 200_000}))
        before = len(stream.body)
        peer.until(lambda: len(stream.body) == before + 200_000, "bytes")
        peer.grant(stream, MIB)
        checked(peer.finish(stream), obj)


def test_empty_bodies_need_no_window(server, thing):
    obj = fully(server, thing(0))
    with Peer(server.port, window=0, open_window=False) as peer:
        checked(peer.get(path(obj)), obj)


def test_slow_stream_stalls_no_other(server, thing):
    slow, fast = fully(server, thing(4 * MIB)), fully(server, thing(2 * MIB))
    with Peer(server.port) as peer:
        peer.generous = ()
        held = [peer.ask(path(slow)) for _ in range(10)]
        peer.until(lambda: all(s.window == 0 for s in held), "full windows")
        stream = peer.ask(path(fast))
        peer.generous = (stream,)
        checked(peer.finish(stream), fast)
        assert not any(s.over for s in held)
        peer.generous = True
        for s in held:
            peer.grant(s, slow.size)
        peer.finish(*held)
        for s in held:
            checked(s, slow)


def test_connection_window(server, thing):
    obj = fully(server, thing(300_000))
    with Peer(server.port, window=MIB, open_window=False) as peer:
        peer.generous = False
        streams = [peer.ask(path(obj)) for _ in range(3)]
        peer.until(lambda: peer.window == 0, "the window is used up")
        peer.pause()
        # heads need no window, and another connection is not concerned
        late = peer.ask(path(obj), method="HEAD")
        assert peer.finish(late).status == 200
        with Peer(server.port) as other:
            checked(other.get(path(obj)), obj)
        peer.grant(0, 3 * obj.size)
        for stream in streams:
            checked(peer.finish(stream), obj)


def rss_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        text = f.read()
    return int(re.search(r"^Private_Dirty: +(\d+) kB", text, re.M)[1]) * KIB


def test_stalled_streams_hold_no_bytes(server, thing):
    obj = fully(server, thing(16 * MIB))
    with Peer(server.port, window=0) as peer:
        pid = worker_of_head(peer, obj)
        peer.generous = False
        before = rss_bytes(pid)
        streams = [peer.ask(path(obj)) for _ in range(STREAMS_MAX)]
        for stream in streams:
            peer.grant(stream, 10)
        peer.until(lambda: all(len(s.body) == 10 for s in streams), "begun")
        for stream in streams:
            peer.grant(stream, 5)
        peer.until(lambda: all(len(s.body) == 15 for s in streams), "more")
        peer.pause()
        # a frame's worth for each would be 1.6 MiB more
        assert rss_bytes(pid) - before < 6 * MIB
    # the client does not read its socket
    with Peer(server.port, window=2 ** 30, receive_buffer=4096) as peer:
        for _ in range(20):
            peer.ask(path(obj))
        harness.until(lambda: server.stats()["connections"] >= 1,
                      "it is open")
        time.sleep(0.3)
        assert rss_bytes(pid) - before < 8 * MIB


def test_answers_that_nobody_takes(make, origin):
    """They are made in memory: then no more requests are taken."""
    server = make(origin, http={"max_streams": 1000}).start()
    with Peer(server.port, window=0) as peer:
        peer.generous = False
        before = {pid: rss_bytes(pid) for pid in server.workers()}
        streams = [peer.ask("/metrics") for _ in range(500)]
        peer.until(lambda: all(s.over or s.status for s in streams),
                   "answered or refused")
        codes = {s.reset for s in streams}
        assert codes == {None, h2peer.REFUSED_STREAM}
        for pid, was in before.items():
            assert rss_bytes(pid) - was < 12 * MIB
        # who takes them is served again
        for stream in streams:
            if not stream.over:
                peer.grant(stream, 2 ** 20)
        peer.until(lambda: all(s.over for s in streams), "all ended")


def worker_of_head(peer, obj):
    return int(peer.get(path(obj), method="HEAD").headers["x-worker"])


# --- timeouts


def test_send_timeout(quick, thing):
    """It resets the stream that takes nothing, and only that."""
    obj = fully(quick, thing(2 * MIB))
    before = quick.stats()["connections_timeout"]
    with Peer(quick.port) as peer:
        peer.generous = ()
        stuck, slow = peer.ask(path(obj)), peer.ask(path(obj))
        peer.generous = (slow,)
        begun = time.monotonic()
        while not stuck.over:
            assert time.monotonic() - begun < 8
            if slow.window < 20_000:
                peer.grant(slow, 1000)
            peer.generous = ()
            peer.step(0.1)
            peer.grant(slow, 1000)
            peer.grant(0, 1000)
            time.sleep(0.05)
        assert stuck.reset == h2peer.CANCEL
        assert time.monotonic() - begun > 0.6
        assert not slow.over
        client.same(obj.seed, 0, stuck.body, 65535)
        peer.generous = True
        peer.grant(slow, MIB)
        checked(peer.finish(slow), obj)
    assert quick.stats()["connections_timeout"] == before + 1


def test_waiting_for_ones_turn_is_no_fault(quick, thing):
    """A stream behind a more urgent one, for longer than the timeout."""
    obj = fully(quick, thing(4 * MIB))
    with Peer(quick.port, window=2 ** 24, open_window=False) as peer:
        peer.generous = False
        first = peer.ask(path(obj), headers={"priority": "u=2"})
        second = peer.ask(path(obj), headers={"priority": "u=5"})
        begun = time.monotonic()
        while time.monotonic() - begun < 3.5:
            peer.grant(0, 8000)
            peer.step(0.05)
            time.sleep(0.05)
        assert not first.over and len(first.body) > 100_000
        assert second.reset is None
        peer.generous = True
        peer.grant(0, 2 ** 24)
        peer.finish(first, second)
        checked(first, obj)
        checked(second, obj)


def test_nobody_takes_anything(quick, thing):
    """A client that does not read its socket loses the connection."""
    obj = fully(quick, thing(8 * MIB))
    with Peer(quick.port, window=2 ** 30, receive_buffer=4096) as peer:
        peer.ask(path(obj))
        harness.until(lambda: quick.stats()["connections"] == 1, "open")
        harness.until(lambda: quick.stats()["connections"] == 0,
                      "closed", 12, 0.05)


def test_stalled_stream_beside_a_slow_socket(quick, thing):
    """Others going on is no excuse."""
    obj = fully(quick, thing(16 * MIB))
    with Peer(quick.port, window=1000, receive_buffer=16384) as peer:
        peer.generous = ()
        stuck, slow = peer.ask(path(obj)), peer.ask(path(obj))
        peer.grant(slow, 2 ** 29)
        begun = time.monotonic()
        while not stuck.over:
            assert time.monotonic() - begun < 8 and not slow.over
            got = peer.sock.recv(30_000)
            peer.buffer += got
            feed(peer)
            time.sleep(0.01)
        assert stuck.reset == h2peer.CANCEL and len(slow.body) > 0


def feed(peer):
    """Handles the frames that are in the buffer."""
    while len(peer.buffer) >= 9:
        frame, count = frames.Frame.parse_frame_header(
            memoryview(bytes(peer.buffer[:9])))
        if len(peer.buffer) < 9 + count:
            return
        frame.parse_body(memoryview(bytes(peer.buffer[9:9 + count])))
        del peer.buffer[:9 + count]
        peer.handle(frame, count)


def test_idle_timeout(quick):
    with Peer(quick.port) as peer:
        assert peer.get("/healthz").status == 200
        begun = time.monotonic()
        assert peer.end() == h2peer.NO_ERROR
        assert 0.6 < time.monotonic() - begun < 4


def test_pings_keep_nothing_open(quick):
    with Peer(quick.port) as peer:
        assert peer.get("/healthz").status == 200
        begun = time.monotonic()
        while not peer.goaways:
            assert time.monotonic() - begun < 4
            peer.try_send(frames.PingFrame(0, opaque_data=b"stay!!!!"))
            peer.step(0.1)
            time.sleep(0.1)
        assert peer.goaways[0][1] == h2peer.NO_ERROR
        assert time.monotonic() - begun > 0.6


def test_head_timeout(quick):
    begun = time.monotonic()
    with Peer(quick.port) as silent, Peer(quick.port) as half, \
            Peer(quick.port) as later:
        # HEADERS that never end, also after an earlier request
        half.send(half.headers(half.fields("/healthz"), ()))
        assert later.get("/healthz").status == 200
        later.send(later.headers(later.fields("/healthz"), ()))
        for peer in (silent, half, later):
            peer.end(6)
        assert time.monotonic() - begun > 0.5


def test_slow_headers_are_no_progress(quick):
    with Peer(quick.port) as peer:
        frame = peer.headers(peer.fields("/healthz"), ("END_STREAM",))
        peer.send(frame)
        begun = time.monotonic()
        while peer.try_send(frames.ContinuationFrame(
                frame.stream_id, data=peer.encoder.encode([("a", "b")]))):
            assert time.monotonic() - begun < 5
            time.sleep(0.1)


def test_heads_one_after_the_other(quick):
    """Each has its time, also when the next begins with the last's end."""
    with Peer(quick.port) as peer:
        peer.pause()
        peer.generous = False  # nothing may come between the pieces
        begun = time.monotonic()
        while time.monotonic() - begun < 1.6:
            data = peer.headers(peer.fields("/healthz")).serialize()
            peer.send(data[:12] if peer.next_id == 3 else rest + data[:12])
            rest = data[12:]
            time.sleep(0.2)
            peer.step(0)
        peer.send(rest)
        peer.finish(*peer.streams.values())
        assert all(s.status == 200 for s in peer.streams.values())
        assert peer.goaways == []


def test_waiting_for_the_origin_is_not_idle(quick, thing):
    obj = thing(1000, hang=True)
    with Peer(quick.port) as peer:
        stream = peer.ask(path(obj))
        assert not peer.step(2.5) or not stream.over
        while peer.step(0.2):
            pass
        obj.hang = False
        checked(peer.finish(stream), obj)


# --- clients that leave


def test_reset_at_every_stage(server, thing):
    obj = fully(server, thing(2 * MIB))
    hanging = thing(1000, hang=True)
    with Peer(server.port) as peer:
        for n in range(30):
            frame = peer.headers(peer.fields(path(obj)))
            peer.send(frame, frames.RstStreamFrame(
                frame.stream_id, error_code=h2peer.CANCEL))
            peer.streams[frame.stream_id].reset = h2peer.CANCEL
            stream = peer.ask(path(obj))
            peer.until(lambda s=stream: s.fields is not None, "head")
            peer.cancel(stream)
            stream = peer.ask(path(obj))
            peer.until(lambda s=stream, n=n: len(s.body) > n * 20_000, "body")
            peer.cancel(stream)
            stream = peer.ask(path(hanging))
            peer.pause()
            peer.cancel(stream)
            stream = peer.ask("/healthz", end=False)
            peer.cancel(stream)
        hanging.hang = False
        checked(peer.get(path(obj)), obj)
        checked(peer.get(path(hanging)), hanging)
    assert server.wait_idle()


def test_connection_ends_at_every_stage(server, thing):
    obj = fully(server, thing(2 * MIB))
    hanging = thing(1000, hang=True)
    stages = {
        "preface": lambda p: p.pause(),
        "asked": lambda p: p.ask(path(obj)),
        "head": lambda p: p.until(
            lambda s=p.ask(path(obj)): s.fields is not None, "head"),
        "body": lambda p: p.until(
            lambda s=p.ask(path(obj)): len(s.body) > 300_000, "body"),
        "half a head": lambda p: p.send(p.headers(p.fields("/"), ())),
        "half a frame": lambda p: p.send(
            p.headers(p.fields("/")).serialize()[:20]),
        "waiting": lambda p: (p.ask(path(hanging)), p.pause()),
        "a body": lambda p: p.data(p.ask("/healthz", end=False), b"12"),
        "all": lambda p: ([p.ask(path(obj)) for _ in range(20)],
                          p.step(1)),
    }
    for act in stages.values():
        for how in ("close", "reset", "half", "goaway"):
            with Peer(server.port) as peer:
                act(peer)
                if how == "reset":
                    peer.reset()
                elif how == "half":
                    peer.sock.shutdown(1)
                    peer.end()
                elif how == "goaway":
                    peer.send(frames.GoAwayFrame(0))
    hanging.hang = False
    harness.until(lambda: server.stats()["connections"] == 0,
                  "all are closed")
    with Peer(server.port) as peer:
        checked(peer.get(path(obj)), obj)


def test_goaway_of_the_client_ends_after_its_streams(server, thing):
    obj = fully(server, thing(500_000))
    with Peer(server.port) as peer:
        stream = peer.ask(path(obj))
        peer.send(frames.GoAwayFrame(0))
        checked(peer.finish(stream), obj)
        peer.end()


# --- what is allowed


def test_ways_to_send_a_head(server, thing):
    obj = fully(server, thing(5000))
    with Peer(server.port) as peer:
        # padding and a priority of RFC 7540
        peer.send(peer.headers(
            peer.fields(path(obj)), pad_length=37, depends_on=0,
            stream_weight=3,
            flags=("END_HEADERS", "END_STREAM", "PADDED", "PRIORITY")))
        # fields in many pieces
        block = peer.encoder.encode(peer.fields(
            path(obj), headers={"x-long": "y" * 3000}))
        peer.send(frames.HeadersFrame(3, data=block[:1],
                                      flags=("END_STREAM",)))
        peer.streams[3] = h2peer.Stream(3, peer.stream_window)
        for at in range(1, len(block), 500):
            peer.send(frames.ContinuationFrame(
                3, data=block[at:at + 500],
                flags=("END_HEADERS",) if at + 500 >= len(block) else ()))
        peer.next_id = 5
        # unknown frames, on a stream and on the connection, and PRIORITY
        peer.send(raw(0xbe, 0, 0, b"unknown"), raw(0xef, 0xff, 7, b""),
                  frames.PriorityFrame(9, depends_on=0, stream_weight=1))
        # trailers, and a body with padding
        stream = peer.ask(path(obj), end=False)
        peer.send(frames.DataFrame(stream.id, data=b"x" * 9, pad_length=99,
                                   flags=("PADDED",)),
                  frames.HeadersFrame(
                      stream.id, data=peer.encoder.encode([("a", "b")]),
                      flags=("END_HEADERS", "END_STREAM")))
        peer.finish(*peer.streams.values())
        for stream in peer.streams.values():
            assert stream.status == 200
            checked(stream, obj)
        assert peer.goaways == []


def test_byte_by_byte(server, thing):
    obj = fully(server, thing(1000))
    with Peer(server.port, preface=False) as peer:
        data = h2peer.PREFACE + frames.SettingsFrame(0).serialize() + \
            peer.headers(peer.fields(path(obj))).serialize()
        for at in range(len(data)):
            peer.send(data[at:at + 1])
        checked(peer.finish(peer.streams[1]), obj)


def test_many_cookies(server):
    """A browser sends each on its own, RFC 9113 section 8.2.3."""
    with Peer(server.port) as peer:
        fields = peer.fields("/healthz") + \
            [("cookie", f"c{n}=v") for n in range(150)]
        peer.send(peer.headers(fields))
        assert peer.finish(peer.streams[1]).status == 200


def test_body_after_the_answer(quick, thing):
    """It may come, for a while: a client that is cut short might never look
    at its answer."""
    obj = fully(quick, thing(1000))
    with Peer(quick.port) as peer:
        patient, late, much = [peer.ask(path(obj), end=False)
                               for _ in range(3)]
        for stream in (patient, late, much):
            checked(peer.finish(stream), obj)
        for _ in range(3):
            peer.data(late, b"x" * 16384)
        peer.data(late, b"", end=True)
        for _ in range(5):
            peer.data(much, b"x" * 16384)
            peer.pause()
        peer.until(lambda: peer.frames["RstStream"] == 1, "too much")
        assert peer.resets == [(much.id, h2peer.NO_ERROR)]
        begun = time.monotonic()
        peer.until(lambda: peer.frames["RstStream"] == 2, "too late", 6)
        assert peer.resets[1:] == [(patient.id, h2peer.NO_ERROR)]
        assert time.monotonic() - begun > 0.4
        assert peer.end() == h2peer.NO_ERROR


@pytest.mark.parametrize("fields, status", [
    ({"drop": (":authority",), "headers": {"host": "reel.test"}}, 200),
    ({"headers": {"host": "reel.test"}}, 200),
    ({"drop": (":authority",)}, 400),
    ({"authority": "a b"}, 400),
    ({"method": "CONNECT", "drop": (":path", ":scheme")}, (400, 405, 501)),
    ({"method": "BREW"}, (405, 501)),
    ({"method": "PRI"}, (405, 501)),
    ({"method": "CONNECT", "protocol": "websocket"}, 501),
    ({"method": "CONNECT", "protocol": "connect-udp"}, 501),
    ({"headers": {"content-length": "0"}}, 200),
    ({"headers": {"te": "trailers"}}, 200),
    ({"headers": {"expect": "100-continue"}}, 200),
    ({"headers": {"x": "y" * 17000}}, 431),
    ({"headers": {f"x{n}": "y" for n in range(65)}}, 431),
], ids=str)
def test_requests_that_are_answered(server, fields, status):
    fields = dict(fields)
    with Peer(server.port) as peer:
        protocol = fields.pop("protocol", None)
        fields = peer.fields("/healthz", **fields)
        if protocol is not None:
            fields.insert(1, (":protocol", protocol))
        frame = peer.headers(fields)
        data, rest = frame.data[:16000], frame.data[16000:]
        frame.data = data
        if rest:
            frame.flags.discard("END_HEADERS")
        peer.send(frame, *([frames.ContinuationFrame(
            1, data=rest, flags=("END_HEADERS",))] if rest else []))
        res = peer.finish(peer.streams[1])
        want = status if isinstance(status, tuple) else (status,)
        # refused by nghttp2 already, or by us
        assert res.status in want or \
            (400 in want and res.reset == h2peer.PROTOCOL_ERROR), \
            (res.status, res.reset)
        assert peer.get("/healthz").status == 200


# --- what is forbidden, of one stream


@pytest.mark.parametrize("fields", [
    [(":method", "GET"), (":scheme", "http"), (":authority", "a")],
    [(":method", "GET"), (":path", "/healthz"), (":authority", "a")],
    [(":scheme", "http"), (":path", "/healthz"), (":authority", "a")],
    Peer.fields("/healthz", headers={"X-Upper": "a"}),
    Peer.fields("/healthz", headers={"connection": "close"}),
    Peer.fields("/healthz", headers={"transfer-encoding": "chunked"}),
    Peer.fields("/healthz", headers={"upgrade": "h2c"}),
    Peer.fields("/healthz", headers={"te": "gzip"}),
    Peer.fields("/healthz", headers={"content-length": "3"}),
    Peer.fields("/healthz", headers={"content-length": "x"}),
    Peer.fields("/healthz", headers={":late": "x"}),
    Peer.fields("/healthz", headers={":path": "/readyz"}),
    Peer.fields("/healthz", headers={"x": "a\r\nb: c"}),
    Peer.fields("/healthz", headers={"x": "a\0"}),
    Peer.fields("/healthz", headers={"a b": "c"}),
    Peer.fields("/healthz", headers={"": "c"}),
    Peer.fields("/healthz HTTP/1.1\r\nx: y"),
    Peer.fields("/heal thz"),
    Peer.fields("healthz"),
    Peer.fields(""),
    Peer.fields("/a\0b"),
    Peer.fields("/healthz", authority="a\r\nb"),
    Peer.fields("/healthz", method="GE T"),
    Peer.fields("/healthz", headers={"host": "a", "content-length": "-1"}),
    Peer.fields("/healthz") + [("host", "a"), ("host", "b")],
    Peer.fields("/healthz") + [(":protocol", "websocket")],
    Peer.fields("/healthz", method="CONNECT") + [(":protocol", "a b")],
    Peer.fields("*"),
], ids=lambda f: repr(f[2:])[:60])
def test_wrong_heads(server, fields):
    """Reset, or refused; never taken for something else."""
    with Peer(server.port) as peer:
        peer.send(peer.headers(fields))
        res = peer.finish(peer.streams[1])
        assert res.reset == h2peer.PROTOCOL_ERROR or \
            (res.reset is None and 400 <= res.status < 502), \
            (res.status, res.reset)
        assert peer.get("/healthz").status == 200
        assert peer.goaways == []


def test_window_of_a_stream_overflows(server, thing):
    obj = fully(server, thing(2 * MIB))
    with Peer(server.port) as peer:
        peer.generous = ()
        stream = peer.ask(path(obj))
        peer.until(lambda: stream.window == 0, "a full window")
        peer.send(frames.WindowUpdateFrame(stream.id,
                                           window_increment=2 ** 31 - 1),
                  frames.WindowUpdateFrame(stream.id,
                                           window_increment=2 ** 31 - 1))
        stream.window = 2 ** 31
        assert peer.finish(stream).reset == h2peer.FLOW_CONTROL_ERROR
        peer.generous = True
        checked(peer.get(path(obj)), obj)


# --- what is forbidden, of the connection


def raw(kind, flags, stream, payload, count=None):
    count = len(payload) if count is None else count
    return count.to_bytes(3, "big") + bytes((kind, flags)) + \
        stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize("data, code", [
    (raw(0, 0, 0, b"x"), h2peer.PROTOCOL_ERROR),
    (raw(0, 0, 99, b"x"), h2peer.PROTOCOL_ERROR),
    (raw(1, 4, 0, b"\x82"), h2peer.PROTOCOL_ERROR),
    (raw(1, 4, 2, b"\x82"), h2peer.PROTOCOL_ERROR),
    (raw(1, 4, 7, b"\xff\xff\xff\xff\xff\xff\xff"), None),
    (raw(1, 4 | 8, 7, b"\x20\x82"), h2peer.PROTOCOL_ERROR),
    (raw(1, 0, 7, b"\x82") + raw(6, 0, 0, bytes(8)), h2peer.PROTOCOL_ERROR),
    (raw(1, 0, 7, b"\x82") + raw(9, 4, 9, b""), h2peer.PROTOCOL_ERROR),
    (raw(9, 4, 7, b"\x82"), h2peer.PROTOCOL_ERROR),
    (raw(3, 0, 0, bytes(4)), h2peer.PROTOCOL_ERROR),
    (raw(3, 0, 77, bytes(4)), h2peer.PROTOCOL_ERROR),
    (raw(3, 0, 7, bytes(3)), h2peer.FRAME_SIZE_ERROR),
    (raw(4, 0, 7, b""), h2peer.PROTOCOL_ERROR),
    (raw(4, 0, 0, b"x"), h2peer.FRAME_SIZE_ERROR),
    (raw(4, 1, 0, bytes(6)), h2peer.FRAME_SIZE_ERROR),
    (raw(4, 0, 0, b"\0\4\xff\xff\xff\xff"), h2peer.FLOW_CONTROL_ERROR),
    (raw(4, 0, 0, b"\0\5\0\0\0\1"), h2peer.PROTOCOL_ERROR),
    (raw(5, 4, 1, bytes(4) + b"\x82"), h2peer.PROTOCOL_ERROR),
    (raw(6, 0, 0, bytes(7)), h2peer.FRAME_SIZE_ERROR),
    (raw(6, 0, 1, bytes(8)), h2peer.PROTOCOL_ERROR),
    (raw(7, 0, 1, bytes(8)), h2peer.PROTOCOL_ERROR),
    (raw(8, 0, 0, bytes(4)), h2peer.PROTOCOL_ERROR),
    (raw(8, 0, 0, b"\x7f\xff\xff\xff") * 2, h2peer.FLOW_CONTROL_ERROR),
    (raw(8, 0, 99, b"\0\0\0\1"), h2peer.PROTOCOL_ERROR),
    (raw(8, 0, 0, bytes(3)), h2peer.FRAME_SIZE_ERROR),
    (raw(0, 0, 1, b"", 16385), h2peer.FRAME_SIZE_ERROR),
    (raw(0xbe, 0, 0, b"", 2 ** 24 - 1), h2peer.FRAME_SIZE_ERROR),
], ids=lambda v: v[:24].hex() if isinstance(v, bytes) else str(v))
def test_broken_frames(server, data, code):
    before = faults(server)
    with Peer(server.port) as peer:
        assert peer.get("/healthz").status == 200
        peer.send(data)
        got = peer.end()
        assert got not in (None, h2peer.NO_ERROR)
        assert code is None or got == code
    assert faults(server) == before + 1


def test_no_preface(server):
    for text in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\x0b",
                 b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n", b"PRI \0",
                 h2peer.PREFACE + raw(6, 0, 0, bytes(8))):
        with Peer(server.port, preface=False) as peer:
            peer.send(text)
            assert peer.end() in (None, h2peer.PROTOCOL_ERROR)


# --- origins


def test_origin_breaks_off(server, thing):
    """Right bytes, then RST_STREAM: never an end that is none."""
    obj = thing(MIB, cut_after=300_000, rate=None)
    server_patience = thing(1000)
    with Peer(server.port) as peer:
        obj.set("etag", None)  # nothing to go on with
        stream = peer.ask(path(obj))
        other = peer.ask(path(server_patience))
        checked(peer.finish(other), server_patience)
        peer.until(lambda: stream.over, "the end", 60)
        assert not stream.ended
        assert stream.reset == h2peer.INTERNAL_ERROR
        client.same(obj.seed, 0, stream.body)
        assert peer.get("/healthz").status == 200


def test_file_changes_under_way(make, tmp_path):
    """The source gives up while a frame is being made."""
    size = 8 * MIB
    (tmp_path / "a.mp4").write_bytes(content.span("old", 0, size))
    server = make(main={"workers": 1}, source__films={
        "type": "directory", "path": tmp_path}).start()
    target = "/proxy/a?source=films"
    with Peer(server.port) as peer:
        peer.generous = ()
        streams = [peer.ask(target) for _ in range(3)]
        peer.until(lambda: all(s.window == 0 for s in streams), "begun")
        with open(tmp_path / "a.mp4", "r+b") as f:
            f.truncate(size // 2)
        for stream in streams:
            peer.grant(stream, size)
        peer.finish(*streams)
        for stream in streams:
            assert not stream.ended
            assert stream.reset == h2peer.INTERNAL_ERROR
            client.same("old", 0, stream.body)
        assert peer.get("/healthz").status == 200
        assert peer.goaways == []


def test_prefetcher_is_killed(make, shared_origin):
    server = make(shared_origin, main={"workers": 1}).start()
    obj = shared_origin.add("h2-killed", 3 * MIB, rate=2 * MIB)
    with Peer(server.port) as peer:
        streams = [peer.ask(path(obj)),
                   peer.ask(path(obj), headers={"range": "bytes=2000000-"})]
        peer.until(lambda: len(streams[0].body) > 500_000, "a part")
        pid = server.prefetcher()
        server.signal(signal.SIGKILL, pid)
        peer.finish(*streams)
        checked(streams[0], obj)
        checked(streams[1], obj, 2_000_000)
        assert server.prefetcher() != pid


# --- priorities


def share(order, of):
    total = sum(n for _, n in order)
    return sum(n for s, n in order if s is of) / total if total else 0


def test_control_overtakes_media(server, thing):
    obj = fully(server, thing(8 * MIB))
    for fields in ({}, {"priority": "i"}, {"priority": "u=0"}):
        with Peer(server.port, window=2 ** 30, open_window=False) as peer:
            peer.generous = False
            media = [peer.ask(path(obj), headers=fields) for _ in range(2)]
            peer.until(lambda: peer.window == 0, "the window is used up")
            control = peer.ask("/healthz")
            peer.until(lambda: control.fields is not None, "a head")
            before = len(peer.order)
            peer.grant(0, 100)
            peer.finish(control)
            assert peer.order[before][0] is control
            assert not any(s.over for s in media)


def test_control_overtakes_in_a_slow_socket(server, thing):
    obj = fully(server, thing(32 * MIB))
    with Peer(server.port, window=2 ** 30, receive_buffer=64 * KIB) as peer:
        media = [peer.ask(path(obj)) for _ in range(2)]
        peer.until(lambda: len(media[1].body) > 0, "media")
        control = peer.ask("/healthz")
        before = sum(n for _, n in peer.order)
        peer.finish(control)
        assert not any(s.over for s in media)
        assert sum(n for _, n in peer.order) - before < 6 * MIB


def test_prefetch_waits_for_media(server, thing):
    obj = fully(server, thing(4 * MIB))
    with Peer(server.port, window=2 ** 30, open_window=False) as peer:
        peer.generous = False
        ahead = peer.ask(path(obj), headers={"sec-purpose": "prefetch"})
        peer.until(lambda: peer.window == 0, "the window is used up")
        media = [peer.ask(path(obj)) for _ in range(2)]
        peer.until(lambda: media[1].fields is not None, "heads")
        before = len(peer.order)
        peer.grant(0, MIB)
        peer.until(lambda: peer.window == 0, "used up")
        order = peer.order[before:]
        assert share(order, ahead) == 0
        # media of the same kind share
        assert 0.4 < share(order, media[0]) < 0.6
        # it gets what they cannot take
        for stream in media:
            peer.cancel(stream)
        peer.grant(0, 2 ** 24)
        checked(peer.finish(ahead), obj)


def test_clients_priorities_among_media(server, thing):
    obj = fully(server, thing(4 * MIB))
    with Peer(server.port, window=2 ** 30, open_window=False) as peer:
        peer.generous = False
        hog = peer.ask(path(obj), headers={"priority": "u=7"})
        peer.until(lambda: peer.window == 0, "the window is used up")
        low = peer.ask(path(obj), headers={"priority": "u=5"})
        high = peer.ask(path(obj), headers={"priority": "u=2"})
        peer.until(lambda: high.fields is not None, "heads")
        before = len(peer.order)
        peer.grant(0, MIB)
        peer.until(lambda: peer.window == 0, "used up")
        assert share(peer.order[before:], high) == 1
        # and it changes its mind (RFC 9218 section 7)
        peer.send(raw(0x10, 0, 0, low.id.to_bytes(4, "big") + b"u=0"))
        peer.pause()
        before = len(peer.order)
        peer.grant(0, MIB)
        peer.until(lambda: peer.window == 0, "used up")
        assert share(peer.order[before:], low) == 1
        assert len(hog.body) <= h2peer.WINDOW


def test_priority_update_without_a_field(server, thing):
    obj = fully(server, thing(4 * MIB))
    with Peer(server.port, window=2 ** 30, open_window=False) as peer:
        peer.generous = False
        first = peer.ask(path(obj))
        peer.until(lambda: peer.window == 0, "the window is used up")
        second = peer.ask(path(obj))
        peer.until(lambda: second.fields is not None, "a head")
        peer.send(raw(0x10, 0, 0, first.id.to_bytes(4, "big") + b"u=6"))
        peer.pause()
        before = len(peer.order)
        peer.grant(0, MIB)
        peer.until(lambda: peer.window == 0, "used up")
        assert share(peer.order[before:], second) == 1


# --- floods


class Others:
    """Viewers who must not notice anything."""

    def __init__(self, server, obj):
        self.server, self.obj = server, obj
        self.worst = 0.0
        self.count = 0

    def __enter__(self):
        self.ended = threading.Event()
        self.later = harness.Later(self.run)
        return self

    def run(self):
        while not self.ended.is_set():
            begun = time.monotonic()
            res = client.fetch(self.server.port, path(self.obj), timeout=10)
            client.same(self.obj.seed, 0, res.body, self.obj.size)
            self.worst = max(self.worst, time.monotonic() - begun)
            self.count += 1

    def __exit__(self, *_):
        self.ended.set()
        self.later.value()
        assert self.count > 0
        assert self.worst < 5


def repeated(frame):
    data = frame if isinstance(frame, bytes) else frame.serialize()

    def send(peer, _):
        step = data * max(1, 60000 // len(data))
        for _ in range(100):
            if not peer.try_send(step):
                return
    return send


def rapid_reset(peer, obj):
    for _ in range(100):
        parts = []
        for _ in range(100):
            frame = peer.headers(peer.fields(path(obj)))
            parts += [frame, frames.RstStreamFrame(frame.stream_id,
                                                   error_code=8)]
            peer.streams[frame.stream_id].reset = 8
        if not peer.try_send(*parts):
            return


def made_to_reset(peer, obj):
    """The server resets them itself: windows that overflow."""
    for _ in range(100):
        parts = []
        for _ in range(100):
            frame = peer.headers(peer.fields(path(obj)))
            parts += [frame] + [frames.WindowUpdateFrame(
                frame.stream_id, window_increment=2 ** 31 - 1)] * 2
            peer.streams[frame.stream_id].reset = 8
        if not peer.try_send(*parts):
            return


def wrong_heads(peer, _):
    for _ in range(100):
        parts = []
        for _ in range(100):
            frame = peer.headers(peer.fields("/", headers={"Upper": "x"}))
            parts.append(frame)
            peer.streams[frame.stream_id].reset = 1
        if not peer.try_send(*parts):
            return


def empty_data(peer, obj):
    stream = peer.ask(path(obj), end=False)
    stream.reset = 8
    repeated(raw(0, 0, stream.id, b""))(peer, obj)


def mere_padding(peer, obj):
    stream = peer.ask(path(obj), end=False)
    stream.reset = 8
    repeated(raw(0, 8, stream.id, b"\x01\0"))(peer, obj)


def continuations(peer, _):
    frame = peer.headers(peer.fields("/"), ())
    peer.send(frame)
    repeated(raw(9, 0, frame.stream_id, b""))(peer, None)


def long_continuations(peer, _):
    frame = peer.headers(peer.fields("/"), ())
    peer.send(frame)
    field = b"\x00\x03abc\x7f\x81\x3d" + b"x" * (127 + 0x81 - 128 + 0x3d * 128)
    repeated(raw(9, 0, frame.stream_id, field))(peer, None)


def hpack_bomb(peer, _):
    # one long field enters the table and is then named by a byte each
    long = peer.encoder.encode([(":method", "GET"), ("a", "x" * 3900)])
    number = peer.next_id
    peer.streams[number] = h2peer.Stream(number, 0)
    peer.send(raw(1, 0, number, long), raw(9, 4, number, b"\xbe" * 16000))


def overflow(peer, _):
    peer.send(raw(8, 0, 0, b"\x7f\xff\xff\xff") * 2)


FLOODS = {
    "rapid reset": rapid_reset,
    "made you reset": made_to_reset,
    "wrong heads": wrong_heads,
    "PING": repeated(raw(6, 0, 0, b"pingpong")),
    "SETTINGS": repeated(raw(4, 0, 0, b"")),
    "SETTINGS values": repeated(raw(4, 0, 0, b"\0\4\0\1\0\0" * 100)),
    "PRIORITY": repeated(raw(5, 0, 1, b"\0\0\0\3\1")),
    "PRIORITY_UPDATE": repeated(raw(16, 0, 0, b"\0\0\0\1u=1")),
    "WINDOW_UPDATE": repeated(raw(8, 0, 0, b"\0\0\0\1")),
    "empty DATA": empty_data,
    "mere padding": mere_padding,
    "CONTINUATION": continuations,
    "long CONTINUATION": long_continuations,
    "HPACK bomb": hpack_bomb,
    "window overflow": overflow,
}


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "deaf"])
@pytest.mark.parametrize("name", FLOODS)
def test_floods(server, shared_origin, name, reads):
    """Ended with GOAWAY and counted; nobody else notices."""
    obj = shared_origin.objects.get("beside-floods") or \
        shared_origin.add("beside-floods", 100_000)
    if obj.body_bytes == 0:
        fully(server, obj)
    before = faults(server)
    with Peer(server.port) as peer, Others(server, obj) as others:
        pid = worker_of(peer)
        flood = harness.Later(FLOODS[name], peer, obj)
        if reads:
            seen = peer_end(peer)
            assert seen in (None, h2peer.ENHANCE_YOUR_CALM,
                            h2peer.PROTOCOL_ERROR, h2peer.INTERNAL_ERROR,
                            h2peer.FLOW_CONTROL_ERROR), seen
        flood.value(30)
        harness.until(lambda: faults(server) == before + 1, "it is counted")
        seen = others.count
        harness.until(lambda: others.count > seen, "others go on")
    assert pid in server.workers()


def peer_end(peer, seconds=20):
    end = time.monotonic() + seconds
    while not peer.closed:
        assert time.monotonic() < end, "not closed"
        try:
            peer.step(0.1)
        except OSError:
            break
    return peer.goaways[-1][1] if peer.goaways else None


def test_pings_are_answered(server):
    with Peer(server.port) as peer:
        for _ in range(300):
            peer.pause()
        assert peer.goaways == []


# --- the end


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGHUP],
                         ids=["TERM", "HUP"])
def test_drain(make, shared_origin, signo):
    server = make(shared_origin, main={"workers": 1,
                                       "shutdown_timeout": "20s"}).start()
    obj = shared_origin.objects.get("drained") or \
        shared_origin.add("drained", 3 * MIB)
    fully(server, obj)
    slow = shared_origin.add(f"drained-{signo}", 2 * MIB, rate=700 * KIB)
    with Peer(server.port) as peer, Peer(server.port) as idle, \
            Peer(server.port, preface=False) as late:
        assert idle.get("/healthz").status == 200
        stream = peer.ask(path(slow))
        peer.until(lambda: len(stream.body) > 0, "it runs")
        server.signal(signo)
        peer.until(lambda: peer.goaways, "the first GOAWAY")
        assert peer.goaways == [(h2peer.LAST_ID, h2peer.NO_ERROR)]
        # under way already when the server said so
        second = peer.ask(path(obj))
        checked(peer.finish(second), obj)
        # and one whose first words come now
        late.send(h2peer.PREFACE, frames.SettingsFrame(0))
        res = late.ask(path(obj), headers={"range": "bytes=0-99"})
        checked(late.finish(res), obj, 0, 100)
        late.until(lambda: late.goaways, "GOAWAY")
        late.end()
        assert late.goaways[-1] == (res.id, h2peer.NO_ERROR)
        idle.end()
        assert idle.goaways[0] == (h2peer.LAST_ID, h2peer.NO_ERROR)
        assert idle.goaways[-1] == (1, h2peer.NO_ERROR)
        checked(peer.finish(stream), slow)
        peer.end()
        assert peer.goaways[1:] == [(second.id, h2peer.NO_ERROR)]
    if signo == signal.SIGTERM:
        assert server.wait() == 0


# --- real clients


def tool(name):
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found


def output(*args):
    done = subprocess.run(args, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


def test_curl(server, thing):
    curl = tool("curl")
    obj = thing(5 * MIB)
    url = f"http://127.0.0.1:{server.port}{path(obj)}"
    h2 = [curl, "-s", "--http2-prior-knowledge"]
    client.same(obj.seed, 0, output(*h2, url), obj.size)
    client.same(obj.seed, 77, output(*h2, "-r", "77-99999", url), 100_000)
    assert b"HTTP/2 404" in output(*h2, "-i", url + "-not")
    base = f"http://127.0.0.1:{server.port}/prefetch/{obj.name}"
    for body in ("", "x" * 60_000):
        assert output(*h2, "-o", "/dev/null", "-w", "%{http_code}",
                      "-d", body, base).startswith(b"20")
    slow = output(*h2, "--limit-rate", "3M", url)
    client.same(obj.seed, 0, slow, obj.size)


@pytest.mark.parametrize("options", [
    [], ["--continuation"], ["-w", "10"], ["-w", "10", "-W", "11"],
    ["--padding=200"], ["--no-dep"],
    ["--trailer", "a: b"]], ids=" ".join)
def test_nghttp(server, thing, options, tmp_path):
    nghttp = tool("nghttp")
    obj = thing(300_000)
    if options[:1] == ["--trailer"]:
        body = tmp_path / "body"
        body.write_bytes(b"x" * 1000)
        options = [*options, "-H", ":method: POST", "-d", str(body)]
        target = f"/prefetch/{obj.name}"
        said = output(nghttp, "-nv", *options,
                      f"http://127.0.0.1:{server.port}{target}")
        assert b":status: 20" in re.sub(rb"\x1b\[[\d;]*m", b"", said)
        return
    if options[:1] == ["--continuation"]:
        # fields of more than 16 KiB
        said = output(nghttp, "-nv", *options,
                      f"http://127.0.0.1:{server.port}{path(obj)}")
        assert b":status: 431" in re.sub(rb"\x1b\[[\d;]*m", b"", said)
        return
    data = output(nghttp, *options,
                  f"http://127.0.0.1:{server.port}{path(obj)}")
    assert len(data) % obj.size == 0 and data
    for at in range(0, len(data), obj.size):
        client.same(obj.seed, 0, data[at:at + obj.size], obj.size)


def test_h2load(server, thing):
    h2load = tool("h2load")
    obj = fully(server, thing(200_000))
    said = output(h2load, "-n500", "-c5", "-m20",
                  f"http://127.0.0.1:{server.port}{path(obj)}").decode()
    assert "500 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert f"({500 * obj.size}) data" in said

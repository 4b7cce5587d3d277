"""Ranges (RFC 9110 section 14), of objects that are not stored yet and of
stored ones: the answer must not depend on it."""
import random

import pytest

import client
import harness

SIZE = 300_000
TRANSPORTS = client.TRANSPORTS
CONF = {"cache": {"chunk": "64K"}}


def twice(server, obj, **options):
    """Cold, then stored."""
    first = server.get(obj.name, **options)
    server.settle(obj)
    return first, server.get(obj.name, **options)


@pytest.mark.parametrize("value,start,end", [
    ("bytes=0-", 0, SIZE),
    ("bytes=0-0", 0, 1),
    ("bytes=-1", SIZE - 1, SIZE),
    ("bytes=-70000", SIZE - 70000, SIZE),
    ("bytes=-300000", 0, SIZE),
    ("bytes=-400000", 0, SIZE),
    ("bytes=-99999999999999999999", 0, SIZE),
    ("bytes=5-5", 5, 6),
    ("bytes=65535-65536", 65535, 65537),
    ("bytes=65536-131071", 65536, 131072),
    ("bytes=100-199999", 100, 200000),
    ("bytes=299999-", SIZE - 1, SIZE),
    ("bytes=299999-299999999", SIZE - 1, SIZE),
    ("bytes=0-99999999999999999999", 0, SIZE),
    ("BYTES=1-2", 1, 3),
    ("bytes=0-9,900000-", 0, 10),
])
def test_one_range(server, thing, value, start, end):
    obj = thing(SIZE)
    for res in twice(server, obj, range=value):
        assert res.status == 206
        assert res.content_range == (start, end, SIZE)
        assert res.headers["content-type"] == "video/mp4"
        assert res.headers["content-length"] == str(end - start)
        client.same(obj.seed, start, res.body, end)
    assert obj.body_bytes <= obj.unique_bytes + 65536
    assert {r.method for r in obj.requests} == {"GET"}


@pytest.mark.parametrize("value", [
    "bytes=5-2", "bytes=abc", "bytes=", "bytes=-", "bytes=1", "octets=0-1",
    "bytes 0-1", "bytes=0-1,x", "bytes=0-1;2-3", "bytes=--1", "bytes=0x1-2",
    "bytes=1-2-3", "=0-1", "bytes=+1-2",
])
def test_garbage_is_ignored(server, thing, value):
    obj = thing(SIZE)
    for res in twice(server, obj, range=value):
        assert res.status == 200
        assert res.headers["content-range"] is None
        client.same(obj.seed, 0, res.body, SIZE)


@pytest.mark.parametrize("value", [
    "bytes=300000-", "bytes=300000-300001", "bytes=-0",
    "bytes=99999999999999999999-", "bytes=400000-,-0",
])
def test_unsatisfiable(server, thing, value):
    obj = thing(SIZE)
    for res in twice(server, obj, range=value):
        assert res.status == 416
        assert res.headers["content-range"] == f"bytes */{SIZE}"
        assert res.whole
    assert server.get(obj.name).status == 200


def check_parts(obj, res, spans):
    assert res.status == 206 and res.whole
    assert res.headers["content-range"] is None
    parts = client.parts_of(res)
    assert [(start, end) for start, end, *_ in parts] == spans
    for start, end, size, kind, data in parts:
        assert (size, kind) == (obj.size, "video/mp4")
        client.same(obj.seed, start, data, end)


@pytest.mark.parametrize("value,spans", [
    ("bytes=0-9,100-199,-5", [(0, 10), (100, 200), (SIZE - 5, SIZE)]),
    ("bytes=0-0, 2-2 ,\t4-4", [(0, 1), (2, 3), (4, 5)]),
    ("bytes=200000-250000,0-70000", [(200000, 250001), (0, 70001)]),
    ("bytes=10-19,900000-,30-39", [(10, 20), (30, 40)]),
    ("bytes=65530-65540,131070-131080", [(65530, 65541), (131070, 131081)]),
])
def test_several_ranges(server, thing, value, spans):
    obj = thing(SIZE)
    for res in twice(server, obj, range=value):
        check_parts(obj, res, spans)
    assert obj.body_bytes <= obj.unique_bytes + 65536


@pytest.mark.parametrize("value,start,end", [
    ("bytes=0-99,50-149", 0, 150),
    ("bytes=0-9,10-19", 0, 20),
    ("bytes=100-,0-150", 0, SIZE),
    ("bytes=" + ",".join(["0-99999"] * 16), 0, 100000),
])
def test_overlaps_are_joined(server, thing, value, start, end):
    obj = thing(SIZE)
    for res in twice(server, obj, range=value):
        assert res.status == 206
        if res.headers["content-range"] is None:
            check_parts(obj, res, [(start, end)])
        else:
            assert res.content_range == (start, end, SIZE)
            client.same(obj.seed, start, res.body, end)


def test_more_ranges_than_allowed(server, thing):
    obj = thing(SIZE)
    few = [(n * 1000, n * 1000 + 10) for n in range(16)]

    def field(spans):
        return "bytes=" + ",".join(f"{a}-{b - 1}" for a, b in spans)

    check_parts(obj, server.get(obj.name, range=field(few)), few)
    res = server.get(obj.name, range=field([*few, (90000, 90010)]))
    assert res.status == 200
    client.same(obj.seed, 0, res.body, SIZE)


def test_several_ranges_on_a_kept_connection(server, thing):
    obj = thing(SIZE)
    with server.connect() as conn:
        for _ in range(3):
            conn.ask(f"/proxy/{obj.name}", range="bytes=1-9,100000-199999")
            check_parts(obj, conn.response(), [(1, 10), (100000, 200000)])


def test_head(server, thing):
    obj = thing(SIZE)
    with server.connect() as conn:
        for _ in range(2):
            conn.ask(f"/proxy/{obj.name}", method="HEAD")
            res = conn.response("HEAD")
            assert res.status == 200
            assert res.headers["content-length"] == str(SIZE)
            assert res.headers["etag"] == obj.etag
            assert res.headers["accept-ranges"] == "bytes"
        # Range has no meaning for HEAD
        conn.ask(f"/proxy/{obj.name}", method="HEAD", range="bytes=0-9")
        assert conn.response("HEAD").status == 200
        conn.ask(f"/proxy/{obj.name}", range="bytes=0-9")
        res = conn.response()
        client.same(obj.seed, 0, res.body, 10)
    assert {r.method for r in obj.requests} == {"GET"}


def test_empty_object(server, thing):
    obj = thing(0)
    for _ in range(2):
        res = server.get(obj.name)
        assert (res.status, res.body) == (200, b"")
        assert res.headers["content-length"] == "0"
        res = server.get(obj.name, method="HEAD")
        assert res.headers["content-length"] == "0"
        for value in ("bytes=0-", "bytes=0-0", "bytes=5-"):
            res = server.get(obj.name, range=value)
            assert res.status == 416, value
            assert res.headers["content-range"] == "bytes */0"
        assert server.get(obj.name, range="bytes=-5").status in (200, 416)


def test_empty_object_first_asked_with_a_range(server, thing):
    obj = thing(0)
    res = server.get(obj.name, range="bytes=0-")
    assert res.status == 416
    assert res.headers["content-range"] == "bytes */0"


def test_object_over_4_gib(server, thing):
    obj = thing(6 << 30, rate=1 << 20)
    border = 4 << 30
    asked = 0
    for start, end in ((border - 1000, border + 1000),
                       ((5 << 30) + 77777, (5 << 30) + 177777),
                       (obj.size - 65536, obj.size),
                       (0, 1)):
        value = f"bytes={start}-{end - 1}" if end < obj.size else \
            f"bytes=-{end - start}"
        for _ in range(2):
            res = server.get(obj.name, range=value)
            assert res.status == 206
            assert res.content_range == (start, end, obj.size)
            client.same(obj.seed, start, res.body, end)
        asked += end - start
    server.wait_idle()
    assert obj.body_bytes <= obj.unique_bytes + 65536
    # each run lingers 512K at most, beside what is on its way
    assert obj.body_bytes <= asked + 4 * (1 << 20)


@pytest.mark.alone
def test_32_ranges_at_a_time(server, thing):
    obj = thing(4 << 20, delay=0.05, rate=2 << 20)
    taken = server.stats()["origin_bytes"]
    rnd = random.Random(7)
    spans = []
    for n in range(32):
        start = rnd.randrange(obj.size - 200_000)
        spans.append((start, start + rnd.randrange(1, 200_000)))

    def viewer(start, end):
        res = server.get(obj.name, range=f"bytes={start}-{end - 1}")
        assert res.status == 206 and res.content_range == (start, end, obj.size)
        client.same(obj.seed, start, res.body, end)

    harness.threads(*[lambda s=s: viewer(*s) for s in spans])
    server.wait_idle()
    # where a run meets another one's beginning, what is on its way is lost
    assert server.stats()["origin_bytes"] - taken <= obj.unique_bytes
    assert obj.body_bytes <= obj.unique_bytes + len(obj.requests) * 65536
    before = obj.body_bytes
    harness.threads(*[lambda s=s: viewer(*s) for s in spans])
    assert obj.body_bytes == before

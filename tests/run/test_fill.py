"""Objects that are arriving: every byte is fetched once, nobody waits for
bytes that he does not want."""
import time

import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS
CONF = {"cache": {"chunk": "1M"}}


# Where a run meets bytes that are there, or is given up, what the origin has
# sent of it by then is lost.
LOST = 64 << 10


def viewer(server, obj, start=0, end=None, pid=None, **options):
    """Reads and compares a span; the response, with its times."""
    fields = {}
    if end is not None:
        fields["range"] = f"bytes={start}-{end - 1}"
    conn = server.connect_to(pid) if pid else server.connect()
    with conn:
        conn.ask(f"/proxy/{obj.name}", **fields)
        res = conn.response(**options)
    assert res.status == (200 if end is None else 206)
    assert res.whole, f"cut after {len(res.body)} bytes"
    client.same(obj.seed, start, res.body, end or obj.size)
    return res


def test_ten_viewers_together(server, thing):
    obj = thing(3 * MIB, rate=2 * MIB, delay=0.1)
    first, second = server.workers()
    results = harness.threads(*[
        lambda pid=pid: viewer(server, obj, pid=pid)
        for pid in [first, second] * 5])
    assert obj.body_bytes == obj.size
    for res in results:
        assert res.total < 1.6 * 1.1 + 0.3
        assert res.longest_pause < 0.6


def test_ten_viewers_with_ranges(server, thing):
    obj = thing(2 * MIB, rate=2 * MIB, delay=0.1)
    pids = server.workers() * 5
    harness.threads(*[
        lambda pid=pid: viewer(server, obj, 0, obj.size, pid) for pid in pids])
    assert obj.body_bytes == obj.size


def test_viewers_who_come_later(server, thing):
    obj = thing(3 * MIB, rate=2 * MIB, delay=0.2)
    pids = server.workers()
    first = harness.Later(viewer, server, obj, pid=pids[0])
    harness.until(lambda: obj.body_bytes >= MIB, "half a second has passed")
    results = harness.threads(*[
        lambda pid=pid: viewer(server, obj, pid=pid) for pid in pids * 4])
    assert first.value().total < 2.5
    assert obj.body_bytes == obj.size
    for res in results:
        assert res.first_byte_after < 0.25
        assert res.total < 2


def test_read_along_in_another_worker(server, thing):
    obj = thing(2 * MIB, rate=MIB)
    one, two = server.workers()
    first = harness.Later(viewer, server, obj, pid=one)
    harness.until(lambda: obj.body_bytes >= MIB // 2, "it arrives")
    with server.connect_to(two) as conn:
        conn.ask(f"/proxy/{obj.name}")
        res = conn.head()
        assert int(res.headers["x-worker"]) == two
        client.same(obj.seed, 0, conn.read(MIB // 2))
        assert obj.body_bytes < obj.size  # the origin is not ready yet
        client.same(obj.seed, MIB // 2, conn.read(obj.size - MIB // 2))
    assert int(first.value().headers["x-worker"]) == one
    assert obj.body_bytes == obj.size


@pytest.mark.alone
def test_seek_while_filling(server, thing):
    obj = thing(20 * MIB, rate=MIB, delay=0.2)
    first = server.connect()
    first.ask(f"/proxy/{obj.name}")
    first.head()
    first.read(MIB // 4)
    for start in (15 * MIB, 9 * MIB + 123457, obj.size - 65536):
        res = viewer(server, obj, start, start + 65536)
        assert 0.2 <= res.first_byte_after < 0.5, start
    # what the first viewer lacks behind these may be fetched ahead by now
    assert [r.start for r in obj.requests[:4]] == \
        [0, 15 * MIB, 9 * MIB + 123457, obj.size - 65536]
    client.same(obj.seed, MIB // 4, first.read(MIB // 4))
    first.reset()
    server.wait_idle()
    assert obj.body_bytes <= obj.unique_bytes + 5 * LOST


def test_open_seek_asks_from_the_wanted_byte(server, thing):
    obj = thing(8 * MIB, rate=2 * MIB)
    viewer(server, obj, 0, 1000)
    conn = server.connect()
    conn.ask(f"/proxy/{obj.name}", range="bytes=5000001-")
    assert conn.head().content_range == (5000001, obj.size, obj.size)
    client.same(obj.seed, 5000001, conn.read(100_000))
    conn.reset()
    assert obj.requests[-1].start == 5000001
    assert obj.requests[-1].if_range == obj.etag


def test_overlapping_ranges_at_once(server, thing):
    obj = thing(4 * MIB, rate=4 * MIB, delay=0.05)
    harness.threads(
        lambda: viewer(server, obj, MIB, 3 * MIB),
        lambda: viewer(server, obj, 2 * MIB, 4 * MIB),
        lambda: viewer(server, obj, MIB + 500_000, 2 * MIB + 500_000))
    server.wait_idle()
    assert obj.body_bytes <= obj.unique_bytes + 3 * LOST


def test_gaps_are_filled_not_fetched_again(server, thing):
    obj = thing(4 * MIB, rate=8 * MIB)
    for start in (500_000, 2_500_001, 3_900_000):
        viewer(server, obj, start, start + 100_000)
        server.wait_idle()
    viewer(server, obj)
    assert obj.size == obj.unique_bytes <= obj.body_bytes
    assert obj.body_bytes <= obj.size + 6 * LOST
    before = obj.body_bytes
    viewer(server, obj)
    assert obj.body_bytes == before


def test_one_request_not_one_per_chunk(server, thing):
    obj = thing(6 * MIB, rate=12 * MIB)
    viewer(server, obj)
    assert len(obj.requests) == 1
    server.wait_idle()
    stored = server.objects()[f"test/{obj.name}"]
    assert stored["stored_bytes"] == obj.size and stored["chunks"] >= 6


def test_suffix_of_an_unknown_object(server, thing):
    obj = thing(4 * MIB, rate=2 * MIB, delay=0.2)
    res = server.get(obj.name, range="bytes=-65536")
    assert res.status == 206 and 0.2 <= res.first_byte_after < 0.5
    client.same(obj.seed, obj.size - 65536, res.body, obj.size)
    server.wait_idle()
    assert obj.body_bytes == 65536


def test_many_seeks_of_one_viewer(server, thing):
    obj = thing(10 * MIB, rate=4 * MIB, delay=0.02)
    for n in range(20):
        start = (n * 7919 * 977) % (obj.size - 40_000)
        conn = server.connect()
        conn.ask(f"/proxy/{obj.name}", range=f"bytes={start}-")
        conn.head()
        client.same(obj.seed, start, conn.read(40_000))
        conn.reset()
    server.wait_idle()
    # where a seek lands in what is on its way, bytes may meet once
    assert obj.body_bytes <= obj.unique_bytes * 1.02 + 65536


# --- origins that break

def test_resume_after_a_cut(server, thing):
    obj = thing(3 * MIB, rate=3 * MIB, delay=0.05, cut_after=MIB, cut_times=1)
    for res in harness.threads(*[lambda: viewer(server, obj)] * 4):
        assert res.longest_pause < 1
    assert len(obj.requests) == 2
    assert obj.requests[1].if_range == obj.etag
    assert obj.requests[1].range.startswith("bytes=1048576-")
    assert obj.body_bytes <= obj.size * 1.03


def test_resume_with_a_date(server, thing):
    obj = thing(2 * MIB, rate=4 * MIB, etag=None, cut_after=MIB, cut_times=1,
                last_modified="Mon, 02 Jan 2023 03:04:05 GMT")
    viewer(server, obj)
    assert obj.requests[1].if_range == obj.last_modified
    assert obj.body_bytes <= obj.size * 1.03


def test_cut_again_and_again(server, thing):
    obj = thing(3 * MIB, rate=4 * MIB, cut_after=400_000)
    viewer(server, obj)
    assert len(obj.requests) >= 8
    assert obj.body_bytes <= obj.size * 1.03


def test_cut_of_a_range(server, thing):
    obj = thing(4 * MIB, rate=4 * MIB, cut_after=500_000, cut_times=1)
    viewer(server, obj, 1_000_001, 3_000_001)
    assert obj.requests[1].range.startswith("bytes=1500001-")


def test_cut_right_after_the_head(server, thing):
    obj = thing(MIB, cut_after=0, cut_times=2)
    viewer(server, obj)
    assert len(obj.requests) == 3


def test_origin_that_stands_still(make, origin):
    server = make(origin, upstream={"stall_timeout": "500ms"}).start()
    obj = origin.add("o", 2 * MIB, rate=4 * MIB, stall_at=MIB)
    answer = harness.Later(viewer, server, obj)
    harness.until(lambda: len(obj.requests) >= 2, "it was asked anew")
    obj.stall_at = None
    answer.value()
    assert obj.requests[1].range.startswith("bytes=1048576-")
    assert obj.body_bytes <= obj.size * 1.03


# --- origins that can do little

def test_without_ranges(server, thing):
    obj = thing(2 * MIB, ranges=False, rate=4 * MIB)
    results = harness.threads(
        lambda: viewer(server, obj),
        lambda: viewer(server, obj, 0, obj.size),
        lambda: viewer(server, obj, MIB, MIB + 100_000),
        lambda: viewer(server, obj, obj.size - 1000, obj.size))
    assert results[0].headers["etag"] == obj.etag
    server.wait_idle()
    viewer(server, obj, 1_500_000, 1_600_000)
    assert obj.body_bytes == obj.size
    assert len(obj.requests) == 1


def test_without_ranges_and_cut(server, thing):
    obj = thing(2 * MIB, ranges=False, rate=4 * MIB, cut_after=MIB,
                cut_times=1)
    viewer(server, obj)
    server.wait_idle()
    before = len(obj.requests)
    viewer(server, obj)
    assert len(obj.requests) == before == 2


def test_without_length(server, thing):
    obj = thing(MIB, length=False, rate=2 * MIB)
    first = harness.Later(server.get, obj.name)
    harness.until(lambda: obj.body_bytes >= 100_000, "it arrives")
    second = harness.Later(server.get, obj.name)
    for answer in (first, second):
        res = answer.value()
        assert res.status == 200 and res.whole
        client.same(obj.seed, 0, res.body, obj.size)
    server.settle(obj)
    assert obj.body_bytes == obj.size and len(obj.requests) == 1
    # now its size is known
    harness.until(lambda: server.get(obj.name, method="HEAD")
                  .headers["content-length"], "the size is known")
    viewer(server, obj, 500_000, 600_000)
    res = server.get(obj.name, method="HEAD")
    assert res.headers["content-length"] == str(obj.size)
    assert obj.body_bytes == obj.size


def test_without_length_until_the_close(server, thing):
    obj = thing(300_000, length=False, close=True)
    res = server.get(obj.name)
    client.same(obj.seed, 0, res.body, obj.size)


@pytest.mark.parametrize("settings", [
    {"length": False}, {"ranges": False}, {"length": False, "etag": None}])
def test_never_more_than_a_part(make, origin, settings):
    """An origin that cannot resume and always breaks at the same place: the
    end must not look like one, and patience must come to its own."""
    server = make(origin, upstream={"patience": "1s"}).start()
    obj = origin.add("o", MIB, rate=4 * MIB, cut_after=300_000, **settings)
    with server.connect(timeout=10) as conn:
        conn.ask(f"/proxy/{obj.name}")
        res = conn.response()
    client.same(obj.seed, 0, res.body)
    assert not res.whole
    server.wait_idle()
    assert len(obj.requests) < 12


def test_without_validator(server, thing):
    obj = thing(MIB, etag=None, rate=4 * MIB)
    viewer(server, obj)
    server.wait_idle()
    viewer(server, obj, 1000, 2000)
    assert obj.body_bytes == obj.size
    assert server.get(obj.name).headers["etag"] is None


def test_without_validator_and_cut(server, thing):
    """Nobody knows whether the rest is of the same object."""
    obj = thing(MIB, etag=None, rate=4 * MIB, cut_after=400_000, cut_times=1)
    seed = obj.seed
    answer = harness.Later(server.get, obj.name)
    harness.until(lambda: obj.body_bytes >= 200_000, "it arrives")
    obj.change("another", etag=None)
    res = answer.value()
    if res.body[:1000] == client.content.span(seed, 0, 1000):
        client.same(seed, 0, res.body)
        assert not res.whole
    else:
        client.same("another", 0, res.body, obj.size)
    res = server.get(obj.name)
    if res.whole:
        client.same("another", 0, res.body, obj.size)


# --- viewers who leave

def leave_after(server, obj, count):
    conn = server.connect()
    conn.ask(f"/proxy/{obj.name}")
    conn.head()
    client.same(obj.seed, 0, conn.read(count))
    conn.reset()
    server.wait_idle(30)
    return obj.body_bytes


def test_linger_is_short(server, thing):
    obj = thing(20 * MIB, rate=MIB, delay=0.2)
    assert leave_after(server, obj, 256 << 10) <= 1.5 * MIB
    before = obj.body_bytes
    conn = server.connect()
    conn.ask(f"/proxy/{obj.name}")
    conn.head()
    client.same(obj.seed, 0, conn.read(before))
    conn.reset()
    server.wait_idle()
    assert obj.body_bytes <= obj.unique_bytes + LOST


def test_linger_with_a_fast_origin(server, thing):
    obj = thing(64 * MIB)
    before = server.stats()["origin_bytes"]
    leave_after(server, obj, 256 << 10)
    assert server.stats()["origin_bytes"] - before <= 40 * MIB


def test_abort(make, origin):
    server = make(origin, cache={"on_abandon": "abort"}).start()
    obj = origin.add("o", 20 * MIB, rate=MIB)
    assert leave_after(server, obj, 256 << 10) <= MIB


def test_finish_the_object(make, origin):
    server = make(origin, cache={"on_abandon": "object"}).start()
    obj = origin.add("o", 2 * MIB, rate=2 * MIB)
    assert leave_after(server, obj, 100_000) == obj.size
    viewer(server, obj)
    assert obj.body_bytes == obj.size


def test_somebody_still_reads(server, thing):
    """The first one leaves, the second one keeps the run alive."""
    obj = thing(3 * MIB, rate=2 * MIB)
    first = server.connect()
    first.ask(f"/proxy/{obj.name}")
    first.head()
    first.read(100_000)
    second = harness.Later(viewer, server, obj)
    harness.until(lambda: any(r["readers"] >= 2 for r in server.inflight()),
                  "both are seen")
    first.reset()
    second.value()
    assert obj.body_bytes == obj.size and len(obj.requests) == 1


@pytest.mark.alone
def test_not_far_ahead_of_a_slow_reader(make, origin):
    server = make(origin, cache={"lead": "1M"}).start()
    obj = origin.add("o", 64 * MIB)
    conn = server.connect(receive_buffer=16384)
    conn.ask(f"/proxy/{obj.name}")
    conn.head()
    client.same(obj.seed, 0, conn.read(100_000))
    harness.until(lambda: any(r["state"] == "paused"
                              for r in server.inflight()), "it pauses")
    # what a kernel holds counts, too
    assert server.stats()["origin_bytes"] <= 12 * MIB
    client.same(obj.seed, 100_000, conn.read(14 * MIB))
    conn.reset()
    assert server.stats()["origin_bytes"] >= 14 * MIB


def test_slow_reader_does_not_slow_others(server, thing):
    obj = thing(4 * MIB, rate=4 * MIB)
    slow = server.connect(receive_buffer=4096)
    slow.ask(f"/proxy/{obj.name}")
    slow.head()
    assert viewer(server, obj).total < 2
    client.same(obj.seed, 0, slow.read(obj.size), obj.size)
    slow.close()
    assert obj.body_bytes == obj.size


def test_client_who_leaves_before_the_head(server, thing):
    obj = thing(MIB, delay=1.0)
    conn = server.connect()
    conn.ask(f"/proxy/{obj.name}")
    harness.until(lambda: obj.requests, "the origin was asked")
    conn.reset()
    begun = time.monotonic()
    viewer(server, obj)
    assert time.monotonic() - begun < 3

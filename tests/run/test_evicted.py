"""Bytes that a run brought and that were evicted while it still goes on; and
purges while viewers wait."""
import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS


def test_behind_a_live_run(make, origin):
    """The first viewer is far ahead, what it has read is gone: the second one
    begins at 0 and must not wait for a run that has passed there."""
    server = make(origin, cache={"size": "16M", "chunk": "1M",
                                 "lead": "4M"}).start()
    obj = origin.add("film", 64 * MIB)
    first = server.connect()
    first.ask(f"/proxy/{obj.name}")
    assert first.head().status == 200
    client.same(obj.seed, 0, first.read(40 * MIB))
    assert server.stats()["evicted_chunks"] > 0
    assert server.inflight()
    res = server.get(obj.name, range="bytes=0-999999", timeout=10)
    assert res.status == 206
    client.same(obj.seed, 0, res.body, 1_000_000)
    res = server.get(obj.name, range="bytes=5000000-5999999", timeout=10)
    client.same(obj.seed, 5_000_000, res.body, 6_000_000)
    client.same(obj.seed, 40 * MIB, first.read(24 * MIB), obj.size)
    first.close()
    server.wait_idle()
    assert server.chunk_bytes() <= 16 * MIB


def test_purge_all_while_many_wait(make, origin):
    """Whoever waits asks anew; the purge itself comes to an end."""
    server = make(origin).start()
    objects = [origin.add(f"o{n}", MIB, delay=1) for n in range(4)]
    viewers = [harness.Later(server.get, obj.name) for obj in objects * 2]
    harness.until(lambda: all(obj.requests for obj in objects),
                  "all are asked for")
    assert server.ctl("purge", "all").returncode == 0
    for viewer, obj in zip(viewers, objects * 2):
        client.same(obj.seed, 0, viewer.value().body, obj.size)
    assert max(len(obj.requests) for obj in objects) <= 3


@pytest.mark.alone
def test_starts_outlive_a_film_that_is_read_once(make, origin):
    """Five times the cache goes by: what begins a video is still there."""
    server = make(origin, cache={"size": "16M", "chunk": "1M"}).start()
    videos = [origin.add(f"v{n}", 3 * MIB) for n in range(3)]
    for obj in videos:
        client.same(obj.seed, 0, server.get(obj.name).body, obj.size)
    film = origin.add("film", 80 * MIB)
    res = server.get(film.name, check=client.checker(film.seed))
    assert res.status == 200 and res.whole
    server.wait_idle()
    assert server.stats()["evicted_bytes"] >= 60 * MIB
    assert server.chunk_bytes() <= 16 * MIB
    for obj in videos:
        asked = len(obj.requests)
        res = server.get(obj.name, range=f"bytes=0-{MIB - 1}")
        client.same(obj.seed, 0, res.body, MIB)
        assert len(obj.requests) == asked
        res = server.get(obj.name, range=f"bytes={MIB}-{2 * MIB - 1}")
        client.same(obj.seed, MIB, res.body, 2 * MIB)
        assert len(obj.requests) > asked  # its middle went

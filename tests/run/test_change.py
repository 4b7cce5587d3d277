"""Objects that become others at the origin: bytes are never mixed."""
import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS
CONF = {"cache": {"chunk": "256K"}}


def one_version(res, obj, seeds, start=0):
    """The bytes are of exactly one of the seeds, which is returned."""
    for seed, size in seeds.items():
        if client.content.first_wrong(seed, start, res.body) is None:
            if res.whole and start == 0 and res.status == 200:
                assert len(res.body) == size
            return seed
    raise AssertionError(
        f"mixed bytes of {obj.name}: " + ", ".join(
            f"{s} up to {client.content.first_wrong(s, start, res.body)}"
            for s in seeds))


def test_seen_by_a_request_for_missing_bytes(server, thing):
    obj = thing(8 * MIB, rate=2 * MIB)
    client.same(obj.seed, 0, server.get(obj.name, range="bytes=0-999").body)
    server.settle(obj)
    obj.change("changed-1", size=9 * MIB)
    res = server.get(obj.name, range="bytes=7000000-7000999")
    assert res.status == 206 and res.content_range[2] == 9 * MIB
    client.same("changed-1", 7000000, res.body, 7001000)
    server.wait_idle()

    def new():
        res = server.get(obj.name, range="bytes=0-999")
        seed = one_version(res, obj, dict.fromkeys(
            ("changed-1", obj.name), 0))
        assert (seed == "changed-1") == (res.headers["etag"] == obj.etag)
        return seed == "changed-1"
    harness.until(new, "the new version is served", 2)
    assert server.objects()[f"test/{obj.name}"]["size_bytes"] == 9 * MIB


@pytest.mark.parametrize("size", [2 * MIB, MIB, 3 * MIB])
def test_seen_when_it_is_stale(server, thing, size):
    obj = thing(2 * MIB, cache_control="max-age=1")
    old = obj.seed
    client.same(old, 0, server.get(obj.name).body, obj.size)
    obj.change(f"stale-{size}", size=size)
    seeds = {old: 2 * MIB, obj.seed: size}

    def new():
        res = server.get(obj.name)
        assert res.whole
        return one_version(res, obj, seeds) == obj.seed
    harness.until(new, "the new version is served", 5, 0.1)
    res = server.get(obj.name)
    client.same(obj.seed, 0, res.body, size)
    assert res.headers["etag"] == obj.etag


@pytest.mark.parametrize("settings", [
    {}, {"if_range_ignored": True}, {"ranges": False}, {"length": False},
    {"etag": None, "last_modified": "Mon, 02 Jan 2023 03:04:05 GMT"},
])
@pytest.mark.parametrize("size", [2 * MIB, 2 * MIB + 4096, MIB + 1])
def test_in_mid_response(server, thing, settings, size):
    """It is cut, becomes another, and is resumed."""
    obj = thing(2 * MIB, rate=8 * MIB, cut_after=MIB, cut_times=1, **settings)
    old = obj.seed
    answers = [harness.Later(server.get, obj.name) for _ in range(3)]
    harness.until(lambda: obj.body_bytes > MIB // 2, "half of it came")
    obj.change(old + "-new", size=size,
               etag=None if obj.etag is None else '"new"',
               last_modified=obj.last_modified and
               "Tue, 03 Jan 2023 03:04:05 GMT")
    seeds = {old: 2 * MIB, obj.seed: size}
    for answer in answers:
        res = answer.value()
        if one_version(res, obj, seeds) == old:
            assert not res.whole

    def new():
        res = server.get(obj.name)
        return one_version(res, obj, seeds) == obj.seed and res.whole
    harness.until(new, "the new version is served", 10, 0.05)


def test_old_readers_and_new_ones(server, thing):
    """Who began with the old version never gets a byte of the new one."""
    obj = thing(6 * MIB, rate=3 * MIB)
    old = obj.seed
    first = server.connect()
    first.ask(f"/proxy/{obj.name}")
    assert first.head().status == 200
    begun = first.read(MIB)
    obj.change("old-and-new")
    res = server.get(obj.name, range="bytes=-1000")
    client.same(obj.seed, obj.size - 1000, res.body, obj.size)
    try:
        begun += first.read(obj.size - MIB)
    except client.Cut:
        begun += bytes(first.buffer)
    client.same(old, 0, begun)
    first.close()

    def new():
        res = server.get(obj.name)
        return one_version(res, obj, {old: obj.size, obj.seed: obj.size}) \
            == obj.seed and res.whole
    harness.until(new, "the new version is served", 5)


def test_stored_old_version_is_finished(server, thing):
    """All of the old bytes are here: a slow reader gets them all."""
    obj = thing(4 * MIB)
    old = obj.seed
    client.same(old, 0, server.get(obj.name).body, obj.size)
    server.settle(obj)
    slow = server.connect(receive_buffer=4096)
    slow.ask(f"/proxy/{obj.name}")
    slow.head()
    begun = slow.read(10_000)
    obj.change("finished", size=5 * MIB)
    res = server.get(obj.name, range="bytes=0-99")
    one_version(res, obj, {old: 4 * MIB, obj.seed: 5 * MIB})
    begun += slow.read(4 * MIB - 10_000)
    client.same(old, 0, begun, 4 * MIB)
    slow.close()


@pytest.mark.alone
def test_changes_all_the_time(server, thing):
    obj = thing(MIB, rate=4 * MIB, cut_after=300_000)
    seeds = {obj.seed: obj.size}
    for n in range(6):
        answer = harness.Later(server.get, obj.name)
        asked = len(obj.requests)
        harness.until(lambda asked=asked, answer=answer:
                      len(obj.requests) > asked or answer.done, "asked")
        obj.change(f"all-the-time-{n}")
        seeds[obj.seed] = obj.size
        one_version(answer.value(), obj, seeds)
    obj.cut_after = None

    def last():
        res = server.get(obj.name)
        return res.whole and one_version(res, obj, seeds) == obj.seed
    harness.until(last, "the last version is served", 10, 0.05)


def test_many_ranges_of_a_changing_object(server, thing):
    """Each response has an ETag: its bytes are that version's."""
    obj = thing(2 * MIB, rate=8 * MIB, cache_control="max-age=1")
    seeds = {obj.etag: obj.seed}

    def viewer(n):
        for k in range(12):
            start = (n * 7 + k * 13) * 20011 % (obj.size - 50_000)
            res = server.get(obj.name, range=f"bytes={start}-{start + 49999}")
            if res.status == 206:
                client.same(seeds[res.headers["etag"]], start, res.body)

    viewers = [harness.Later(viewer, n) for n in range(4)]
    for n in range(4):
        asked = len(obj.requests)
        harness.until(lambda asked=asked: len(obj.requests) > asked or
                      all(v.done for v in viewers), "the origin was asked")
        seeds[f'"ranges-{n}"'] = f"ranges-{n}"
        obj.change(f"ranges-{n}")
    for v in viewers:
        v.value()

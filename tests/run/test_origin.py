"""The origin of these tests is itself right; it speaks HTTP/1.1 only."""
import time

import pytest

import client
import harness


def get(origin, obj, **options):
    return client.fetch(origin.port, f"/o/{obj.name}", **options)


def test_spans_of_a_large_object(origin):
    obj = origin.add("large", 6 << 30)
    start = (5 << 30) + 12345
    res = get(origin, obj, range=f"bytes={start}-{start + 99999}")
    assert res.status == 206
    assert res.content_range == (start, start + 100000, 6 << 30)
    client.same(obj.seed, start, res.body, start + 100000)
    assert obj.body_bytes == obj.unique_bytes == 100000


def test_ranges(origin):
    obj = origin.add("o", 1000)
    for value, status, span in (
            ("bytes=0-", 206, (0, 1000)), ("bytes=-10", 206, (990, 1000)),
            ("bytes=-5000", 206, (0, 1000)), ("bytes=10-19", 206, (10, 20)),
            ("bytes=999-", 206, (999, 1000)), ("bytes=5-2", 200, (0, 1000)),
            ("bytes=1000-", 416, None), ("bytes=-0", 416, None),
            ("bytes=0-1,3-4", 200, (0, 1000))):
        res = get(origin, obj, range=value)
        assert res.status == status, value
        if span is not None:
            client.same(obj.seed, span[0], res.body, span[1])


def test_if_range(origin):
    obj = origin.add("o", 1000, last_modified="Mon, 02 Jan 2023 03:04:05 GMT")
    for value, status in ((obj.etag, 206), ('"other"', 200),
                          ("W/" + obj.etag, 200), (obj.last_modified, 206),
                          ("Mon, 02 Jan 2023 03:04:06 GMT", 200)):
        assert get(origin, obj, range="bytes=1-", if_range=value).status == \
            status, value


def test_cut_resets_after_the_bytes(origin):
    obj = origin.add("o", 1 << 20, cut_after=300000, cut_times=1)
    res = get(origin, obj)
    assert not res.whole and len(res.body) == 300000
    client.same(obj.seed, 0, res.body)
    assert get(origin, obj).whole


@pytest.mark.alone
def test_pace_and_delay(origin):
    obj = origin.add("o", 200_000, rate=400_000, delay=0.2)
    res = get(origin, obj)
    assert 0.19 <= res.first_byte_after < 0.4
    assert 0.65 <= res.total < 1.0
    client.same(obj.seed, 0, res.body, obj.size)


def test_without_length(origin):
    obj = origin.add("o", 200_000, length=False)
    res = get(origin, obj)
    assert res.headers["transfer-encoding"] == "chunked"
    client.same(obj.seed, 0, res.body, obj.size)
    obj.close = True
    res = get(origin, obj)
    assert res.headers["transfer-encoding"] is None
    client.same(obj.seed, 0, res.body, obj.size)


def test_refuse_and_listen_again(origin):
    obj = origin.add("o", 10)
    origin.refuse()
    try:
        get(origin, obj)
        raise AssertionError("connected")
    except ConnectionRefusedError:
        pass
    origin.listen()
    assert get(origin, obj).status == 200


def test_hang_ends(origin):
    obj = origin.add("o", 10, hang=True)
    answer = harness.Later(get, origin, obj)
    harness.until(lambda: obj.requests, "asked")
    time.sleep(0)
    assert not answer.done
    obj.hang = False
    assert answer.value().status == 200


def test_change_and_304(origin):
    obj = origin.add("o", 100)
    first = obj.etag
    assert get(origin, obj, if_none_match=first).status == 304
    obj.change("new", size=200)
    res = get(origin, obj, if_none_match=first)
    assert res.status == 200
    client.same("new", 0, res.body, 200)

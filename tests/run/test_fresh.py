"""Freshness, revalidation, staleness (RFC 9111)."""
import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS
CONF = {"cache": {"chunk": "256K", "negative": "100ms"},
        "upstream": {"patience": "500ms", "first_byte_timeout": "500ms"}}


def whole(server, obj):
    res = server.get(obj.name)
    assert res.status == 200 and res.whole
    client.same(obj.seed, 0, res.body, obj.size)
    return res


def until_stale(server, obj):
    """Until a request has made reelcache ask the origin about it."""
    asked = len(obj.requests)

    def get():
        whole(server, obj)
        return len(obj.requests) > asked
    harness.until(get, "it is stale", 5, 0.05)


@pytest.mark.parametrize("settings,field", [
    ({}, "if-none-match"),
    ({"etag": 'W/"weak"'}, "if-none-match"),
    ({"etag": None, "last_modified": "Mon, 02 Jan 2023 03:04:05 GMT"},
     "if-modified-since"),
])
def test_revalidation(server, thing, settings, field):
    obj = thing(MIB, cache_control="max-age=1", **settings)
    whole(server, obj)
    before = server.stats()["revalidations"]
    until_stale(server, obj)
    if obj.etag is not None and obj.etag.startswith("W/"):
        # it may be asked for with a range; no byte may be mixed
        assert obj.requests[-1].headers.get(field) is not None
        return
    assert obj.requests[-1].status == 304
    assert obj.requests[-1].headers[field] in (obj.etag, obj.last_modified)
    assert obj.body_bytes == obj.size
    assert server.stats()["revalidations"] == before + 1
    res = whole(server, obj)
    assert int(res.headers["age"]) <= 1


def test_many_at_a_time_revalidate_once(server, thing):
    obj = thing(MIB, cache_control="max-age=1", delay=0.2)
    whole(server, obj)
    asked = len(obj.requests)

    def stale():
        return int(server.get(obj.name, method="HEAD").headers["age"]) >= 1 \
            or len(obj.requests) > asked
    harness.until(stale, "a second has passed", 5, 0.05)
    asked = len(obj.requests)
    for _ in range(3):
        harness.threads(*[lambda: whole(server, obj)] * 8)
    assert len(obj.requests) - asked <= 3
    assert obj.body_bytes == obj.size


def test_without_a_hint(server, thing):
    obj = thing(1000, cache_control=None)
    for _ in range(3):
        whole(server, obj)
    assert len(obj.requests) == 1


def test_own_freshness(make, origin):
    server = make(origin, cache={"freshness": "1s"},
                  source__stubborn={
                      "type": "template", "url": origin.template,
                      "allow_private": True, "ignore_cache_control": True})
    server.start()
    obj = origin.add("o", 1000, cache_control=None)
    whole(server, obj)
    until_stale(server, obj)
    assert obj.requests[-1].status == 304
    other = origin.add("p", 1000, cache_control="no-store")
    for _ in range(3):
        client.same(other.seed, 0,
                    server.get("p", source="stubborn").body, 1000)
        if other is not None and len(other.requests) == 1:
            server.wait_idle()
    assert {r.status for r in other.requests[1:]} <= {304}


def test_expires(server, thing):
    import email.utils
    import time
    obj = thing(1000, cache_control=None, headers={
        "Expires": email.utils.formatdate(time.time() - 60, usegmt=True)})
    whole(server, obj)
    server.wait_idle()
    until_stale(server, obj)
    assert obj.requests[-1].status == 304


def test_no_cache_is_asked_about_each_time(server, thing):
    obj = thing(1000, cache_control="no-cache")
    whole(server, obj)
    until_stale(server, obj)
    asked = len(obj.requests)
    for n in range(4):
        whole(server, obj)
        assert len(obj.requests) == asked + n + 1
        assert obj.requests[-1].status == 304
    assert obj.body_bytes == obj.size


@pytest.mark.parametrize("down", ["status", "hang", "refuse"])
def test_stale_if_error(make, origin, down):
    server = make(origin, **CONF).start()
    obj = origin.add("o", MIB, cache_control="max-age=1")
    whole(server, obj)
    server.settle(obj)
    if down == "status":
        obj.status = 500
    elif down == "hang":
        obj.hang = True
    else:
        origin.refuse()

    def stale():
        res = whole(server, obj)  # never an error, never cut
        return int(res.headers["age"]) >= 2
    harness.until(stale, "it is stale", 8, 0.1)
    assert server.stats()["stale_served"] >= 1
    obj.hang = False


def test_stale_for_too_long(make, origin):
    server = make(origin, cache={"stale_if_error": "0", "negative": "100ms"},
                  upstream=CONF["upstream"]).start()
    obj = origin.add("o", 1000, cache_control="max-age=1")
    whole(server, obj)
    obj.status = 500

    def refused():
        try:
            return server.get(obj.name).status == 500
        except client.Cut:
            return True  # it was good before: broken off
    harness.until(refused, "nothing stale is served", 5, 0.1)


def test_must_revalidate_is_not_served_stale(server, thing):
    obj = thing(1000, cache_control="max-age=1, must-revalidate")
    whole(server, obj)
    obj.status = 500

    def refused():
        try:
            return server.get(obj.name).status >= 500
        except client.Cut:
            return True
    harness.until(refused, "nothing stale is served", 5, 0.1)


# --- what must not be stored

def test_no_store(server, thing):
    obj = thing(MIB, cache_control="no-store")
    for n in range(2):
        res = whole(server, obj)
        assert "hit" not in res.cache_status
        assert "stored" not in res.cache_status
        server.wait_idle()
        assert len(obj.requests) == n + 1
    known = server.objects().get(f"test/{obj.name}")
    assert known is None or known["stored_bytes"] == known["chunks"] == 0


def test_no_store_leaves_no_file(make, origin):
    server = make(origin).start()
    obj = origin.add("o", 4 * MIB, cache_control="private, no-store",
                     rate=8 * MIB)
    with harness.Watch(server.chunk_bytes) as watch:
        whole(server, obj)
    assert watch.samples > 3 and watch.worst == 0
    server.wait_idle()
    harness.until(lambda: server.stats()["scratch_bytes"] == 0,
                  "the scratch is empty")
    harness.until(lambda: not server.chunk_files(), "no file is left")


def test_no_store_with_ranges_and_readers(server, thing):
    obj = thing(2 * MIB, cache_control="no-store", rate=4 * MIB)
    res = server.get(obj.name, range="bytes=1000000-1099999")
    client.same(obj.seed, 1000000, res.body, 1100000)
    harness.threads(*[lambda: whole(server, obj)] * 4)


def test_no_store_after_a_slow_reader(server, thing):
    """Bytes that are not stored stay for those who still need them."""
    obj = thing(4 * MIB, cache_control="no-store", rate=16 * MIB)
    res = server.get(obj.name, rate=4 * MIB, receive_buffer=16384)
    assert res.whole
    client.same(obj.seed, 0, res.body, obj.size)

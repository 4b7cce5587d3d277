"""Routes, ids, methods, and the fields of answers."""
import json
import re
import time
import urllib.parse

import pytest

import client
import harness

TRANSPORTS = client.TRANSPORTS
CACHE_STATUS = re.compile(
    r"reelcache; (hit|fwd=[a-z-]+(; fwd-status=\d+)?(; stored)?"
    r"(; collapsed)?)(; ttl=-?\d+)?$")


def problem(res, status):
    assert res.status == status
    assert res.headers["content-type"] == "application/problem+json"
    body = json.loads(res.body)
    assert body["status"] == status
    assert body["title"] and body["type"]
    return body


def test_fields_of_a_video(server, thing):
    obj = thing(1000, last_modified="Mon, 02 Jan 2023 03:04:05 GMT",
                headers={"Content-Disposition": "inline"})
    for n in range(2):
        res = server.get(obj.name)
        assert res.headers["etag"] == obj.etag
        assert res.headers["last-modified"] == obj.last_modified
        assert res.headers["cache-control"] == obj.cache_control
        assert res.headers["content-type"] == "video/mp4"
        assert res.headers["content-disposition"] == "inline"
        assert res.headers["accept-ranges"] == "bytes"
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT",
                            res.headers["date"])
        assert int(res.headers["age"]) <= 2
        assert CACHE_STATUS.fullmatch(res.cache_status), res.cache_status
        assert int(res.headers["x-worker"]) in server.workers()
        assert ("hit" in res.cache_status) == (n == 1)
        server.settle(obj)
    assert len(obj.requests) == 1


def test_age_is_added_up(server, thing):
    obj = thing(1000, headers={"Age": "100"}, cache_control="max-age=1000")
    first = server.get(obj.name)
    assert 100 <= int(first.headers["age"]) <= 105

    def grown():
        return int(server.get(obj.name).headers["age"]) > \
            int(first.headers["age"])
    harness.until(grown, "Age grows", 5, 0.1)
    assert len(obj.requests) == 1


def test_miss_then_hit_then_partial(server, thing):
    obj = thing(8 << 20, rate=4 << 20)
    miss = server.get(obj.name, range="bytes=0-99")
    assert "fwd=uri-miss" in miss.cache_status
    server.settle(obj)
    hit = server.get(obj.name, range="bytes=0-99")
    assert "; hit" in hit.cache_status
    partial = server.get(obj.name, range="bytes=-99")
    assert "fwd=partial" in partial.cache_status


def test_no_debug_headers_by_default(make, origin):
    server = make(origin, main={"debug_headers": False}).start()
    assert server.fetch("/healthz").headers["x-worker"] is None


@pytest.mark.parametrize("name", [
    "a", "A-Za.z0_9~-", pytest.param("x" * 128, id="128"), "-", "~", "...", "9",
])
def test_good_ids(server, shared_origin, name):
    obj = shared_origin.add(name, 100)
    res = server.get(name)
    assert res.status == 200
    client.same(obj.seed, 0, res.body, 100)


def test_encoded_id_is_the_same_object(server, thing):
    obj = thing(100)
    encoded = "".join(f"%{ord(c):02x}" for c in obj.name)
    for name in (obj.name, encoded):
        client.same(obj.seed, 0, server.get(name).body, 100)
    assert len(obj.requests) == 1


@pytest.mark.parametrize("name", [
    "", pytest.param("x" * 129, id="129"), "a%20b", "a/b", "a%2fb", "%2e%2e%2fetc", "a%00b", "a+b",
    "a%zz", "%", "a%4", "a:b", "a*b", "a'b", "a(b)", "%c3%a4", "a%0d%0ab",
])
def test_bad_ids(server, shared_origin, name):
    known = len(shared_origin.unknown)
    problem(server.get(name), 400)
    assert len(shared_origin.unknown) == known


@pytest.mark.parametrize("name", [".", ".."])
def test_dots_reach_no_other_path(server, shared_origin, name):
    known = len(shared_origin.unknown)
    assert server.get(name).status in (400, 404)
    for path in shared_origin.unknown[known:]:
        assert path == f"/o/{name}"


def test_sources(make, origin):
    server = make(origin, source__other={
        "type": "template", "allow_private": True,
        "url": f"http://127.0.0.1:{origin.port}/o/other-{{id}}?token=x"})
    server.start()
    one, two = origin.add("film", 500), origin.add("other-film", 600)
    client.same(one.seed, 0, server.get("film").body, 500)
    client.same(one.seed, 0, server.get("film", source="test").body, 500)
    client.same(two.seed, 0, server.get("film", source="other").body, 600)
    problem(server.get("film", source="third"), 404)
    problem(server.get("film", source="x" * 200), 404)
    for query in ("source=%zz", "source=test&source=other"):
        res = server.fetch(f"/proxy/film?{query}")
        problem(res, 400)
    res = server.fetch("/proxy/film?quality=high")
    assert res.status == 200
    assert len(one.requests) == len(two.requests) == 1
    assert "token" not in server.log_text()


@pytest.mark.parametrize("path", [
    "/", "/proxy", "/prox/a", "/nothing", "/../etc/passwd", "/healthz/x",
    "/proxy/../healthz",
])
def test_unknown_paths(server, path):
    res = server.fetch(path)
    assert res.status in (400, 404)
    problem(res, res.status)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(server, thing, method):
    obj = thing(100)
    for path in (f"/proxy/{obj.name}", "/healthz"):
        res = server.fetch(path, method=method)
        problem(res, 405)
        assert set(re.split(", *", res.headers["allow"])) == \
            {"GET", "HEAD", "OPTIONS"}
    assert obj.requests == []


def test_unknown_method(server):
    assert server.fetch("/healthz", method="BREW").status in (405, 501)


def test_options_for_other_sites(server, thing):
    obj = thing(100)
    res = server.fetch(
        f"/proxy/{obj.name}", method="OPTIONS",
        headers={"Origin": "http://player.test",
                 "Access-Control-Request-Method": "GET",
                 "Access-Control-Request-Headers": "range"})
    assert res.status in (200, 204)
    assert res.headers["access-control-allow-origin"] == "*"
    assert "GET" in res.headers["access-control-allow-methods"]
    assert "range" in res.headers["access-control-allow-headers"].lower()
    assert obj.requests == []
    res = server.get(obj.name, headers={"Origin": "http://player.test"})
    assert res.headers["access-control-allow-origin"] == "*"
    exposed = res.headers["access-control-expose-headers"].lower()
    assert "content-range" in exposed


def test_options_asterisk(server):
    assert server.fetch("*", method="OPTIONS").status in (200, 204)


def test_cors_can_be_named_or_off(make, origin):
    obj = origin.add("o", 10)
    server = make(origin, http={"cors_origin": "https://tv.test"}).start()
    res = server.get(obj.name)
    assert res.headers["access-control-allow-origin"] == "https://tv.test"
    off = make(origin, http={"cors_origin": ""}).start()
    assert off.get(obj.name).headers["access-control-allow-origin"] is None


@pytest.mark.transports("h1", "https")
def test_absolute_target(server, thing):
    obj = thing(100)
    with server.connect() as conn:
        conn.ask(f"http://reel.test/proxy/{obj.name}")
        client.same(obj.seed, 0, conn.response().body, 100)


def test_health_and_readiness(server):
    for path in ("/healthz", "/readyz"):
        res = server.fetch(path)
        assert res.status == 200
        assert server.fetch(path, method="HEAD").status == 200


def test_metrics(server, thing):
    obj = thing(50_000)
    server.get(obj.name)
    server.settle(obj)
    before = server.metrics()
    for pid in server.workers() * 3:
        with server.connect_to(pid) as conn:
            conn.ask(f"/proxy/{obj.name}")
            conn.response()

    def sums():
        now = server.metrics()
        sent = sum(now[f"bytes_sent_{k}"] - before[f"bytes_sent_{k}"]
                   for k in ("cache", "inflight", "origin"))
        return now if sent == 6 * obj.size else None

    now = harness.until(sums, "the bytes of both workers are counted")
    assert now["origin_bytes"] == before["origin_bytes"] >= obj.size
    assert now["hits"] - before["hits"] == 6
    assert now["workers"] == 2
    buckets = [v for k, v in now.items() if k.startswith("ttfb_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert now["ttfb_seconds_count"] == buckets[-1] > 0
    text = server.fetch("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    for line in text.body.decode().splitlines():
        assert re.fullmatch(
            r"# (HELP|TYPE) reelcache_\w+ .+|"
            r'reelcache_\w+(\{le="[^"]+"\})? [0-9.e+-]+', line), line


def test_time_of_the_date(server):
    import email.utils
    res = server.fetch("/healthz")
    date = email.utils.parsedate_to_datetime(res.headers["date"]).timestamp()
    assert abs(date - time.time()) < 5


def test_query_is_not_part_of_the_id(server, thing):
    obj = thing(100)
    quoted = urllib.parse.quote(obj.name)
    for query in ("?", "?x=1", "?source="):
        res = server.fetch(f"/proxy/{quoted}{query}")
        assert res.status in (200, 404), query
        if res.status == 200:
            client.same(obj.seed, 0, res.body, 100)

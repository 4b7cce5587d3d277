"""/prefetch, /cache and /map: methods, parameters, answers, and what happens
to them when processes die.  What prefetches bring: test_ahead.py."""
import json
import os
import signal

import pytest

import client
from harness import Later, until

KIB = 1 << 10
MIB = 1 << 20
GETS = {"GET", "HEAD", "OPTIONS"}
JOBS = GETS | {"POST", "DELETE"}


def call(server, target, method="GET", status=200, **fields):
    res = client.fetch(server.port, target, method=method, **fields)
    assert res.status == status, (target, res.status, res.body)
    return res


def ask(server, target, method="GET", status=200):
    res = call(server, target, method, status)
    assert res.headers["content-type"] == "application/json"
    assert res.headers["cache-control"] == "no-store"
    answer = json.loads(res.body)
    assert answer["version"] == 1
    return answer


def jobs(server, name, method="GET", status=200, query=""):
    return ask(server, f"/prefetch/{name}{query}", method, status)["jobs"]


def words(value):
    return {w.strip() for w in value.split(",")}


def spans_add_up(answer):
    """resident and missing alternate and are the whole object."""
    spans = sorted(answer["resident"] + answer["missing"])
    end = 0
    for start, stop in spans:
        assert start == end < stop, spans
        end = stop
    assert end == answer["size_bytes"]


# --- methods

@pytest.mark.parametrize("path, allowed", [
    ("/prefetch/x", JOBS), ("/cache/x", GETS), ("/map/x", GETS),
    ("/proxy/x", GETS), ("/healthz", GETS)])
def test_methods(make, origin, path, allowed):
    server = make(origin, http={"cors_origin": "*"}).start()
    res = call(server, path, "OPTIONS", 204)
    assert words(res.headers["allow"]) == allowed
    assert words(res.headers["access-control-allow-methods"]) == allowed
    for method in {"POST", "PUT", "DELETE"} - allowed:
        res = call(server, path, method, 405)
        assert words(res.headers["allow"]) == allowed


def test_head_is_get_without_a_body(server, thing):
    movie = thing(100 * KIB)
    server.get(movie.name)
    server.settle(movie)
    for target in (f"/cache/{movie.name}", f"/prefetch/{movie.name}?bytes=9"):
        got = client.fetch(server.port, target)
        res = client.fetch(server.port, target, method="HEAD")
        assert res.status == got.status and res.body == b""
        assert res.headers["cache-control"] == "no-store"
        assert int(res.headers["content-length"]) > 0


def test_bodies_are_ignored(server, thing):
    movie = thing(100 * KIB)
    with server.connect() as conn:
        for method, status in (("POST", 202), ("DELETE", 200)):
            body = b"GET /nothing HTTP/1.1\r\n\r\n" * 400
            conn.ask(f"/prefetch/{movie.name}", method=method,
                     content_length=len(body))
            conn.send(body)
            assert conn.response(method).status == status
        conn.ask("/healthz")
        assert conn.response().body == b"ok\n"


# --- parameters

@pytest.mark.parametrize("query, name", [
    ("start=-1", "start"), ("start=", "start"), ("start=1e3", "start"),
    ("start=604800.001", "start"), ("start=1&start=2", "start"),
    ("start=%00", "start"), ("seconds=1.2345", "seconds"),
    ("seconds=.5", "seconds"), ("deadline=soon", "deadline"),
    ("deadline=" + "9" * 40, "deadline"), ("bytes=0", "bytes"),
    ("bytes=1.5", "bytes"), ("bytes=18446744073709551615", "bytes"),
    ("bytes=99999999999999999999", "bytes"), ("bytes=0x10", "bytes")])
def test_bad_parameters(server, thing, query, name):
    movie = thing(10 * KIB)
    for method in ("POST", "GET"):
        res = call(server, f"/prefetch/{movie.name}?{query}", method, 400)
        assert res.headers["content-type"] == "application/problem+json"
        assert json.loads(res.body)["detail"].startswith(name)
    call(server, f"/prefetch/{movie.name}", status=404)
    assert not movie.requests


def test_bad_names(server):
    for path in ("/prefetch/", "/prefetch/a%2Fb", "/cache/..", "/map/a%00"):
        call(server, path, status=400)
    call(server, "/prefetch/x?source=none", "POST", 404)
    call(server, "/cache/x?source=none", status=404)
    call(server, "/cache/nobody-asked", status=404)
    call(server, "/prefetch/nobody-asked", status=404)
    call(server, "/prefetch/nobody-asked", "DELETE", 404)


# --- /prefetch

def test_same_job(server, thing):
    movie = thing(2 * MIB, delay=0.3)
    first = jobs(server, movie.name, "POST", 202, "?bytes=65536&deadline=50")
    job, = first
    assert job["id"] == movie.name and job["source"] == "test"
    assert job["bytes_wanted"] == 65536
    assert job["start_s"] is None and job["seconds"] is None
    assert 45 < job["deadline_s"] <= 50
    again, = jobs(server, movie.name, "GET", 202, "?bytes=65536&deadline=20")
    assert again["job"] == job["job"] and 15 < again["deadline_s"] <= 20
    again, = jobs(server, movie.name, "GET", 202, "?bytes=65536&deadline=90")
    assert again["job"] == job["job"] and again["deadline_s"] <= 20
    other, = jobs(server, movie.name, "POST", 202, "?bytes=65537")
    assert other["job"] != job["job"]
    found = {j["job"] for j in jobs(server, movie.name)}
    assert found == {job["job"], other["job"]}


def test_cancel(server, thing):
    movie = thing(4 * MIB, rate=200 * KIB)
    jobs(server, movie.name, "POST", 202)
    until(lambda: jobs(server, movie.name)[0]["cached_bytes"] > 0, "it comes")
    job, = jobs(server, movie.name, "DELETE")
    assert job["state"] == "cancelled"
    server.wait_idle()
    assert movie.body_bytes < movie.size
    job, = jobs(server, movie.name)
    assert job["state"] == "cancelled" and job["missing_bytes"] > 0
    # what came stays, and the next one is another
    assert job["cached_bytes"] > 0
    new, = jobs(server, movie.name, "POST", 202, "?bytes=1")
    assert new["job"] != job["job"]


# --- /cache

def test_map_of_the_cache(make, origin):
    movie = origin.add("movie", 4 * MIB)
    server = make(origin, cache={"on_abandon": "abort"}).start()
    for start in (0, MIB, 3 * MIB):
        res = server.get("movie", range=f"bytes={start}-{start + 65535}")
        assert res.status == 206
        server.wait_idle()
    answer = ask(server, "/cache/movie")
    assert answer["size_bytes"] == movie.size
    assert answer["id"] == "movie" and answer["source"] == "test"
    assert answer["etag"] == movie.etag
    assert not answer["truncated"] and not answer["arriving"]
    spans_add_up(answer)
    for start in (0, MIB, 3 * MIB):
        assert any(a <= start and start + 65536 <= b
                   for a, b in answer["resident"])
    # what was on its way when a run was aborted is in no file
    assert sum(b - a for a, b in answer["resident"]) <= movie.unique_bytes
    # and so is what it says: resident bytes need no origin
    asked = len(movie.requests)
    for start, end in answer["resident"]:
        res = server.get("movie", range=f"bytes={start}-{end - 1}")
        assert res.status == 206
        client.same(movie.seed, start, res.body, end)
    assert len(movie.requests) == asked


def test_while_it_arrives(make, origin):
    movie = origin.add("movie", 2 * MIB, rate=256 * KIB)
    server = make(origin).start()
    viewer = Later(server.get, "movie")

    def arriving():
        res = client.fetch(server.port, "/cache/movie")
        answer = json.loads(res.body)
        return (res.status == 200 and answer["resident"] and
                answer["arriving"] and answer)
    answer = until(arriving, "bytes come", step=0.05)
    spans_add_up(answer)
    (start, _, at), = answer["arriving"]
    assert start == 0 and answer["resident"] == [[0, at]]
    assert at <= movie.unique_bytes
    assert len(viewer.value().body) == movie.size


def test_evicted_bytes_are_missing(make, origin):
    server = make(origin, cache={"size": "16M"}).start()
    for n in range(4):
        movie = origin.add(f"movie{n}", 6 * MIB)
        server.get(movie.name)
        server.wait_idle()
    there = 0
    for n in range(4):
        res = client.fetch(server.port, f"/cache/movie{n}")
        if res.status == 404:
            continue
        answer = json.loads(res.body)
        spans_add_up(answer)
        there += sum(b - a for a, b in answer["resident"])
    assert 0 < there <= 16 * MIB


def test_an_answer_in_pieces(make, origin):
    """Longer than one message."""
    origin.add("movie", 150 * 4 * MIB, rate=200 * KIB)
    server = make(origin, cache={"on_abandon": "abort"}).start()
    with server.connect() as conn:
        for n in range(150):
            start = n * 4 * MIB
            conn.ask("/proxy/movie", range=f"bytes={start}-{start + 9}")
            assert conn.response().status == 206
    server.wait_idle()
    res = call(server, "/cache/movie")
    answer = json.loads(res.body)
    spans_add_up(answer)
    assert len(answer["missing"]) == len(answer["resident"]) == 150
    assert len(res.body) > 2 * 3072


# --- /map

def test_no_video(server, thing):
    movie = thing(300 * KIB)
    res = call(server, f"/map/{movie.name}", status=404)
    assert "video" in json.loads(res.body)["detail"]
    absent = thing(1, status=404)
    call(server, f"/map/{absent.name}", status=404)


# --- processes that die, clients that leave

def kill_prefetcher(server):
    pid = server.prefetcher()
    os.kill(pid, signal.SIGKILL)
    return pid


def test_prefetcher_dies_while_queries_wait(make, origin):
    movie = origin.add("movie", 300 * KIB)
    server = make(origin).start()
    server.get("movie")
    server.settle(movie)
    pid = server.prefetcher()
    os.kill(pid, signal.SIGSTOP)
    waiting = [Later(ask, server, "/cache/movie") for _ in range(8)]
    until(lambda: len(server_connections(server)) >= 8, "they wait")
    os.kill(pid, signal.SIGKILL)
    for later in waiting:
        assert later.value()["resident"] == [[0, movie.size]]


def server_connections(server):
    """Of clients, as the kernel tells."""
    port = f":{server.port:04X}"
    with open("/proc/net/tcp") as f:
        return [line for line in f.readlines()[1:]
                if line.split()[1].endswith(port) and line.split()[3] == "01"]


def test_jobs_survive_the_prefetcher(make, origin):
    movie = origin.add("movie", 2 * MIB, rate=300 * KIB)
    server = make(origin).start()
    job, = jobs(server, "movie", "POST", 202, "?deadline=40")
    until(lambda: jobs(server, "movie")[0]["cached_bytes"] > 0, "it comes")
    kill_prefetcher(server)
    after, = jobs(server, "movie")
    assert after["job"] == job["job"]
    assert after["state"] in ("waiting", "running")
    assert after["deadline_s"] <= 40
    until(lambda: jobs(server, "movie")[0]["state"] == "done", "it is done",
          30, 0.1)
    assert ask(server, "/cache/movie")["resident"] == [[0, movie.size]]
    # no byte twice but those that were in no file yet
    assert movie.body_bytes < movie.size + MIB


def test_clients_leave(make, origin):
    origin.add("movie", 300 * KIB)
    server = make(origin).start()
    pid = server.prefetcher()
    os.kill(pid, signal.SIGSTOP)
    for _ in range(20):
        conn = server.connect()
        conn.ask("/map/movie")
        conn.reset()
    conn = server.connect()
    conn.ask("/prefetch/movie?bytes=5")
    os.kill(pid, signal.SIGCONT)
    assert conn.response().status == 202
    conn.close()


def test_end_while_queries_wait(make, origin):
    origin.add("movie", 300 * KIB, hang=True)
    server = make(origin).start()
    conn = server.connect()
    conn.ask("/map/movie")
    until(lambda: origin.objects["movie"].requests, "its index is wanted")
    assert server.stop() == 0
    conn.close()

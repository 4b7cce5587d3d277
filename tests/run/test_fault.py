"""Origins that say no, or nothing."""
import json
import time

import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS
CONF = {
    "cache": {"negative": "700ms", "chunk": "256K", "linger": "64K"},
    "upstream": {"patience": "2s", "connect_timeout": "1s",
                 "first_byte_timeout": "1s", "stall_timeout": "1s",
                 "redirects": 3},
}


def problem(res, status):
    assert res.status == status
    assert res.headers["content-type"] == "application/problem+json"
    assert json.loads(res.body)["status"] == status
    assert res.headers["etag"] is None
    return res


@pytest.fixture
def own(make, origin):
    """A server of its own, when its origin goes down."""
    return make(origin, **CONF).start()


def test_size_that_the_origin_denies(server, thing):
    """Its 206 and its 416 tell two sizes: it is not asked for ever."""
    obj = thing(3 * MIB, deny_from=MIB)
    client.same(obj.seed, 0, server.get(obj.name, range="bytes=0-9").body, 10)
    server.settle(obj)
    with pytest.raises(client.Cut):
        server.get(obj.name, range=f"bytes={2 * MIB}-")
    server.wait_idle()
    assert len(obj.requests) <= 12, [r.status for r in obj.requests]


@pytest.mark.parametrize("status", [400, 403, 404, 410, 429, 500, 503])
def test_status_is_passed_on(server, thing, status):
    obj = thing(1000, status=status, retry_after=7)
    res = problem(server.get(obj.name), status)
    assert b"says no" not in res.body
    if status in (429, 503):
        assert res.headers["retry-after"] == "7"
    res = problem(server.get(obj.name, range="bytes=0-9"), status)
    assert server.get(obj.name, method="HEAD").status == status
    assert f"test/{obj.name}" not in server.objects()


def test_negative_answers_are_remembered_briefly(server, thing):
    obj = thing(1000, status=404)
    begun = time.monotonic()
    harness.threads(*[lambda: problem(server.get(obj.name), 404)] * 8)
    assert len(obj.requests) == 1
    obj.status = None
    harness.until(lambda: server.get(obj.name).status == 200,
                  "it is asked again", 5, 0.05)
    assert time.monotonic() - begun >= 0.6
    assert len(obj.requests) == 2


def test_redirect_is_followed(server, thing):
    target = thing(MIB)
    obj = thing(1)
    obj.redirect = f"/o/{target.name}"
    res = server.get(obj.name, range="bytes=5000-5999")
    assert res.status == 206
    client.same(target.seed, 5000, res.body, 6000)


@pytest.mark.parametrize("place", [
    "loop", "ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1:1/",
    "http://", "//", "http://127.0.0.1:1/",
])
def test_bad_redirects(server, thing, place):
    obj = thing(1000)
    obj.redirect = f"/o/{obj.name}" if place == "loop" else place
    res = problem(server.get(obj.name), 502)
    assert b"root:" not in res.body
    assert len(obj.requests) <= 5


def test_nobody_listens(own, origin):
    obj = origin.add("o", 1000)
    origin.refuse()
    problem(own.get(obj.name), 502)
    origin.listen()
    harness.until(lambda: own.get(obj.name).status == 200, "it is up", 5, 0.05)


def test_origin_that_says_nothing(server, thing):
    obj = thing(1000, hang=True)
    begun = time.monotonic()
    problem(server.get(obj.name), 504)
    assert 0.9 <= time.monotonic() - begun < 5
    obj.hang = False


def test_unknown_host(make):
    server = make(source__test={
        "type": "template", "url": "http://no-such-host.invalid/{id}",
        "allow_private": True}, **CONF).start()
    begun = time.monotonic()
    res = server.get("o")
    assert res.status in (502, 504)
    problem(res, res.status)
    assert time.monotonic() - begun < 8


@pytest.mark.parametrize("answer", [
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n\r\n0123456789",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-1/100\r\n"
    b"Content-Length: 10\r\n\r\n0123456789",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/*\r\n"
    b"Content-Length: 10\r\n\r\n0123456789",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 50-59/100\r\n"
    b"Content-Length: 10\r\n\r\n0123456789",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 400_000 + b"\r\n\r\n",
    b"",
], ids=["garbage", "length", "no content-range", "reversed range",
        "no size", "other range", "encoded", "304", "204", "999",
        "giant head", "nothing"])
def test_origin_that_talks_nonsense(make, answer):
    import socket
    import threading
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                conn, _ = listener.accept()
                conn.settimeout(2)
                conn.recv(65536)
                conn.sendall(answer)
                conn.close()
            except TimeoutError:
                pass
            except OSError:
                if listener.fileno() < 0:
                    return
    threading.Thread(target=serve, daemon=True).start()
    port = listener.getsockname()[1]
    server = make(source__test={
        "type": "template", "url": f"http://127.0.0.1:{port}/{{id}}",
        "allow_private": True}, **CONF).start()
    try:
        res = server.get("o", timeout=15)
        assert 400 <= res.status < 600, res.status
        problem(res, res.status)
        assert server.fetch("/healthz").status == 200
    finally:
        listener.close()


# --- an object that was good before

def known(server, obj, count=MIB):
    """Stores the beginning."""
    with server.connect() as conn:
        conn.ask(f"/proxy/{obj.name}", range=f"bytes=0-{count - 1}")
        client.same(obj.seed, 0, conn.response().body, count)
    server.settle(obj)


def test_origin_down_for_a_moment(own, origin):
    obj = origin.add("o", 3 * MIB, rate=3 * MIB)
    known(own, obj)
    origin.refuse()
    answer = harness.Later(own.get, obj.name)
    own.wait_log("run_retry", count=3)
    assert not answer.done
    origin.listen()
    res = answer.value()
    assert res.status == 200 and res.whole
    client.same(obj.seed, 0, res.body, obj.size)


def test_origin_down_in_mid_transfer(own, origin):
    obj = origin.add("o", 3 * MIB, rate=3 * MIB)
    answers = [harness.Later(own.get, obj.name) for _ in range(3)]
    harness.until(lambda: obj.body_bytes > MIB, "a third came")
    origin.refuse()
    own.wait_log("run_retry", count=3)
    origin.listen()
    for answer in answers:
        res = answer.value()
        assert res.whole
        client.same(obj.seed, 0, res.body, obj.size)
    assert obj.body_bytes <= obj.size * 1.05


def test_origin_down_for_longer_than_patience(own, origin):
    obj = origin.add("o", 3 * MIB, rate=3 * MIB)
    known(own, obj)
    origin.refuse()
    begun = time.monotonic()
    res = own.get(obj.name)
    took = time.monotonic() - begun
    # what is there was sent, then broken off: no 5xx for a good object
    assert res.status == 200 and not res.whole
    client.same(obj.seed, 0, res.body)
    assert len(res.body) >= MIB
    assert 1.5 <= took < 6
    # without a byte to send: still no 5xx
    with own.connect() as conn:
        conn.ask(f"/proxy/{obj.name}", range="bytes=2500000-")
        try:
            status = conn.response().status
        except client.Cut:
            status = None
        assert status in (None, 206)
    # what is stored is served meanwhile
    client.same(obj.seed, 0, own.get(obj.name, range="bytes=0-99999").body)
    origin.listen()

    def up():
        try:
            return own.get(obj.name).whole
        except client.Cut:
            return False
    harness.until(up, "it works again", 6, 0.1)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_error_of_a_known_object(server, thing, status):
    obj = thing(4 * MIB, rate=4 * MIB)
    known(server, obj, 500_000)
    obj.status, obj.status_times = status, 3
    res = server.get(obj.name)
    assert res.status == 200 and res.whole
    client.same(obj.seed, 0, res.body, obj.size)


def test_error_with_retry_after(server, thing):
    obj = thing(4 * MIB, rate=4 * MIB)
    known(server, obj, 500_000)
    obj.retry_after = 1
    obj.status, obj.status_times = 429, 1
    res = server.get(obj.name)
    assert res.whole
    client.same(obj.seed, 0, res.body, obj.size)
    assert obj.requests[-1].at - obj.requests[-2].at >= 0.95


def test_retry_after_beyond_all_patience(make, origin):
    """Nobody waits for what comes later than he will be there."""
    obj = origin.add("movie", 4 * MIB)
    server = make(origin, upstream={"patience": "1s"},
                  cache={"linger": "0", "linger_time": "0"}).start()
    server.get("movie", range="bytes=0-99999")
    server.wait_idle()
    obj.retry_after, obj.status = 30, 429
    began = time.monotonic()
    try:
        res = server.get("movie", range=f"bytes={3 * MIB}-")
        assert not res.whole or res.status >= 500
    except client.Cut:
        pass
    assert time.monotonic() - began < 10


@pytest.mark.alone
def test_hanging_origin_of_a_known_object(server, thing):
    obj = thing(4 * MIB, rate=4 * MIB)
    known(server, obj, 500_000)
    obj.hang = True
    asked = len(obj.requests)
    answer = harness.Later(server.get, obj.name)
    harness.until(lambda: len(obj.requests) >= asked + 2, "it asks again")
    obj.hang = False
    res = answer.value()
    assert res.whole
    client.same(obj.seed, 0, res.body, obj.size)


def test_known_object_is_gone(server, thing):
    obj = thing(4 * MIB, rate=4 * MIB)
    known(server, obj, 500_000)
    obj.status = 404
    res = server.get(obj.name)
    assert not res.whole or res.status == 404

    def gone():
        try:
            return server.get(obj.name).status == 404
        except client.Cut:
            return False
    harness.until(gone, "404", 5, 0.05)
    harness.until(lambda: f"test/{obj.name}" not in server.objects(),
                  "it is dropped")


def test_errors_of_one_object_do_not_touch_others(server, thing):
    bad, good = thing(MIB, hang=True), thing(MIB)
    stuck = harness.Later(server.get, bad.name)
    harness.until(lambda: bad.requests, "it hangs")
    begun = time.monotonic()
    client.same(good.seed, 0, server.get(good.name).body, MIB)
    assert time.monotonic() - begun < 0.7
    assert stuck.value().status == 504
    bad.hang = False

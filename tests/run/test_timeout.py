"""Clients that are slow or too many."""
import time

import pytest

import client
import harness

TRANSPORTS = client.TRANSPORTS
CONF = {"http": {"head_timeout": "600ms", "idle_timeout": "900ms",
                 "body_timeout": "600ms", "send_timeout": "1500ms"}}


def closed_after(conn, seconds=8):
    begun = time.monotonic()
    conn.sock.settimeout(seconds)
    try:
        conn.drain()
    except TimeoutError:
        raise AssertionError("not closed") from None
    return time.monotonic() - begun


@pytest.mark.transports("h1")
def test_slowloris(server):
    """Bytes that keep coming do not prolong the head's time."""
    with server.connect() as conn:
        begun = time.monotonic()
        head = harness.Later(closed_after, conn)
        conn.send("GET /healthz HTTP/1.1\r\nHost: a\r\n")

        def send_more():
            if not head.done:
                try:
                    conn.send("X")
                except OSError:
                    pass
            return head.done
        harness.until(send_more, "closed", 5, 0.1)
        assert 0.5 <= time.monotonic() - begun < 2.5
        text = bytes(conn.buffer)
        assert text == b"" or text.startswith(b"HTTP/1.1 408 ")


def test_connection_without_a_request(server):
    with server.connect() as conn:
        assert 0.5 <= closed_after(conn) < 3
        assert not conn.buffer or b" 408 " in conn.buffer


def test_idle_after_a_response(server):
    with server.connect() as conn:
        conn.ask("/healthz")
        assert conn.response().status == 200
        assert 0.7 <= closed_after(conn) < 3
        assert not conn.buffer


@pytest.mark.transports("h1", "https")
def test_body_that_does_not_come(server):
    with server.connect() as conn:
        conn.send("POST /healthz HTTP/1.1\r\nHost: a\r\n"
                  "Content-Length: 100\r\n\r\nabc")
        assert closed_after(conn) < 4


@pytest.mark.transports("h2", "h2c")
def test_body_of_a_stream_that_does_not_come(server):
    """The request is refused, its connection may stay."""
    with server.connect() as conn:
        stream = conn.open("/healthz", method="POST", content_length="100",
                           end=False)
        stream.send(b"abc")
        conn.sock.settimeout(4)
        try:
            assert stream.response().status in (405, 408, 413)
        except client.Cut:
            pass


def test_client_that_reads_nothing(server, thing):
    obj = thing(16 << 20)
    server.get(obj.name, check=client.checker(obj.seed))
    before = server.metrics()["connections_timeout"]
    with server.connect(receive_buffer=4096) as conn:
        conn.ask(f"/proxy/{obj.name}")
        harness.until(
            lambda: server.metrics()["connections_timeout"] > before,
            "the connection was closed", 8, 0.05)
        entry = server.wait_access(
            lambda e: e["target"].endswith(obj.name) and
            e["bytes"] < obj.size)
        assert entry["status"] == 200
    assert server.fetch("/healthz").status == 200


def test_slow_but_steady_reader_is_kept(server, thing):
    obj = thing(2 << 20)
    res = server.get(obj.name, rate=512 << 10, receive_buffer=16384)
    assert res.whole and res.total > 3
    client.same(obj.seed, 0, res.body, obj.size)


def test_waiting_for_the_origin_is_no_idleness(server, thing):
    """The client is not to blame when the origin is slow."""
    obj = thing(100_000, delay=2.5)
    res = server.get(obj.name)
    assert res.status == 200
    client.same(obj.seed, 0, res.body, obj.size)


def open_and_ask(server, count, source="127.0.0.1"):
    conns, good = [], 0
    for _ in range(count):
        try:
            conn = server.connect(source=source, timeout=5)
            conns.append(conn)
            conn.ask("/healthz")
            good += conn.response().status == 200
        except (OSError, client.Cut):
            pass
    return conns, good


@pytest.mark.parametrize("option,elsewhere", [
    ("max_connections_per_address", 3), ("max_connections", 0)])
def test_limits(make, option, elsewhere):
    server = make(source__none={"type": "template",
                                "url": "http://127.0.0.1:9/{id}"},
                  http={option: 6}).start()
    harness.until(lambda: server.stats()["connections"] == 0, "all are closed")
    conns, good = open_and_ask(server, 10)
    assert good == 6
    others, good = open_and_ask(server, 3, "127.0.0.2")
    assert good == elsewhere
    assert server.stats()["connections_refused"] >= 4
    for conn in conns + others:
        conn.close()

    def again():
        conns, good = open_and_ask(server, 1)
        conns and conns[0].close()
        return good
    harness.until(again, "there is room again", 5)


def test_limit_survives_a_killed_worker(make, origin):
    """What a dead worker's connections counted is forgotten."""
    server = make(origin, http={"max_connections": 6}).start()
    conns, good = open_and_ask(server, 10)
    assert good == 6
    pids = server.workers()
    for pid in pids:
        server.signal(9, pid)
    harness.until(lambda: len(set(server.workers()) - set(pids)) == 2,
                  "new workers")
    for conn in conns:
        conn.close()
    harness.until(lambda: server.stats()["connections"] == 0, "all are gone")
    conns, good = open_and_ask(server, 6)
    assert good == 6
    for conn in conns:
        conn.close()

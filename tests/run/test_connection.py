"""Connections of HTTP/1.1, in clear and over TLS: keep-alive, pipelining,
framing that cannot be abused."""
import re
import socket

import pytest

import client
import harness

TRANSPORTS = ("h1", "https")

def statuses(conn):
    """Of all responses until the server closes."""
    found = []
    while True:
        try:
            res = conn.response()
        except client.Cut:
            return found
        found.append(res.status)


def test_keep_alive(server, thing):
    obj = thing(100_000)
    with server.connect() as conn:
        for n in range(5):
            conn.ask(f"/proxy/{obj.name}", range=f"bytes={n}-{n + 50000}")
            res = conn.response()
            client.same(obj.seed, n, res.body, n + 50001)
            assert res.headers["connection"] != "close"
    assert obj.body_bytes <= obj.unique_bytes + 65536


def test_pipelining(server, thing):
    obj = thing(200_000)
    spans = [(n * 999, n * 999 + 1 + n * 3000) for n in range(40)]
    with server.connect() as conn:
        conn.send("".join(
            f"GET /proxy/{obj.name} HTTP/1.1\r\nHost: a\r\n"
            f"Range: bytes={a}-{b - 1}\r\n\r\n" for a, b in spans))
        for start, end in spans:
            res = conn.response()
            assert res.status == 206
            client.same(obj.seed, start, res.body, end)


def test_pipelined_byte_by_byte(server, thing):
    obj = thing(1000)
    text = (f"GET /proxy/{obj.name} HTTP/1.1\r\nHost: a\r\n"
            "Range: bytes=0-9\r\n\r\n") * 2
    with server.connect() as conn:
        for ch in text:
            conn.send(ch)
        for _ in range(2):
            client.same(obj.seed, 0, conn.response().body, 10)


def test_close_is_obeyed(server, thing):
    obj = thing(1000)
    for line in ("GET /proxy/%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n",
                 "GET /proxy/%s HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n",
                 "GET /proxy/%s HTTP/1.0\r\n"):
        with server.connect() as conn:
            conn.send(line % obj.name + "\r\n")
            res = conn.response()
            client.same(obj.seed, 0, res.body, 1000)
            assert res.headers["connection"] == "close"
            assert conn.closed()


def test_http_1_0_keep_alive_is_answered_rightly(server, thing):
    obj = thing(1000)
    with server.connect() as conn:
        conn.send(f"GET /proxy/{obj.name} HTTP/1.0\r\n"
                  "Connection: keep-alive\r\n\r\n")
        res = conn.response()
        client.same(obj.seed, 0, res.body, 1000)
        assert res.headers["transfer-encoding"] is None
        if (res.headers["connection"] or "").lower() != "keep-alive":
            assert conn.closed()


@pytest.mark.transports("h1")  # TLS has no half of an end
def test_half_closed_client_gets_what_is_there(server, thing):
    obj = thing(200_000)
    server.get(obj.name)
    server.wait_idle()
    with server.connect() as conn:
        conn.ask(f"/proxy/{obj.name}")
        conn.sock.shutdown(socket.SHUT_WR)
        client.same(obj.seed, 0, conn.response().body, 200_000)
        assert conn.closed()


def test_body_of_a_get_is_passed_over(server, thing):
    obj = thing(1000)
    with server.connect() as conn:
        conn.send(f"GET /proxy/{obj.name} HTTP/1.1\r\nHost: a\r\n"
                  "Content-Length: 41\r\n\r\n"
                  "GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n")
        client.same(obj.seed, 0, conn.response().body, 1000)
        conn.ask("/healthz")
        assert conn.response().body == b"ok\n"
        assert not conn.buffer


def test_too_long_a_body(server):
    with server.connect() as conn:
        conn.send("POST /healthz HTTP/1.1\r\nHost: a\r\n"
                  "Content-Length: 100000000\r\n\r\n")
        assert statuses(conn) in ([413], [405])


HOST = "Host: a\r\n"
ATTACKS = {
    "chunked": HOST + "Transfer-Encoding: chunked\r\n",
    "chunked and length":
        HOST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "length and chunked":
        HOST + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "hidden chunked": HOST + "Transfer-Encoding: xchunked\r\n",
    "two chunked": HOST + "Transfer-Encoding: chunked\r\n"
                          "Transfer-Encoding: identity\r\n",
    "two lengths": HOST + "Content-Length: 5\r\nContent-Length: 6\r\n",
    "same length twice": HOST + "Content-Length: 5\r\nContent-Length: 5\r\n",
    "length list": HOST + "Content-Length: 5, 5\r\n",
    "length +5": HOST + "Content-Length: +5\r\n",
    "length -5": HOST + "Content-Length: -5\r\n",
    "length 0x5": HOST + "Content-Length: 0x5\r\n",
    "length 5 5": HOST + "Content-Length: 5 5\r\n",
    "empty length": HOST + "Content-Length:\r\n",
    "length beyond 64 bits": HOST + "Content-Length: 18446744073709551621\r\n",
    "space before the colon": HOST + "Content-Length : 5\r\n",
    "tab before the colon": HOST + "Range\t: bytes=0-1\r\n",
    "folded field": HOST + "X-A: b\r\n c\r\n",
    "folded length": HOST + "Content-Length:\r\n 5\r\n",
    "space before the first field": " " + HOST,
    "bare CR in a value": HOST + "X-A: b\rc\r\n",
    "bare CR ends a line": "Host: a\rX-A: b\r\n",
    "bare LF ends a line": "Host: a\nX-A: b\r\n",
    "NUL in a value": HOST + "X-A: b\0c\r\n",
    "control in a value": HOST + "X-A: b\x01c\r\n",
    "DEL in a value": HOST + "X-A: b\x7fc\r\n",
    "empty name": HOST + ": b\r\n",
    "no colon": HOST + "garbage\r\n",
    "quoted name": HOST + '"X": b\r\n',
    "latin name": HOST + "X-\xe4: b\r\n",
    "no Host": "X-A: b\r\n",
    "two Hosts": HOST + "Host: b\r\n",
    "two like Hosts": HOST + HOST,
    "Host with a path": "Host: a/b\r\n",
    "Host with a user": "Host: u@a\r\n",
    "Host with a space": "Host: a b\r\n",
    "Host list": "Host: a, b\r\n",
    "Host with a bad port": "Host: a:b\r\n",
    "two Ranges": HOST + "Range: bytes=0-1\r\nRange: bytes=5-6\r\n",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_smuggling(server, thing, name):
    """One refusal, then the end: the rest is never taken for a request."""
    obj = thing(100)
    with server.connect() as conn:
        conn.send(f"GET /healthz HTTP/1.1\r\n{ATTACKS[name]}\r\n"
                  f"GET /proxy/{obj.name} HTTP/1.1\r\n{HOST}\r\n" * 2)
        found = statuses(conn)
    assert len(found) == 1 and found[0] in (400, 501), found
    assert obj.requests == []


@pytest.mark.parametrize("line", [
    "GET  /healthz HTTP/1.1", "GET /healthz  HTTP/1.1", " GET /healthz HTTP/1.1",
    "GET\t/healthz\tHTTP/1.1", "GET /healthz", "GET /healthz HTTP/1.1 ",
    "GET /healthz HTTP/2.0", "GET /healthz HTTP/1.1x", "GET /healthz http/1.1",
    "GET /hea lthz HTTP/1.1", "GET healthz HTTP/1.1", "G\x00T /healthz HTTP/1.1",
    "GET /heal\x80thz HTTP/1.1", "GET /healthz#x HTTP/1.1",
    "GET /healthz HTTP/1.9999", "get /healthz HTTP/1.1", "/healthz",
    "GET http:///healthz HTTP/1.1", "CONNECT a:80 HTTP/1.1", "\x16\x03\x01",
])
def test_broken_request_line(server, line):
    with server.connect() as conn:
        conn.send(line + "\r\n" + HOST + "\r\n")
        found = statuses(conn)
    assert len(found) == 1 and found[0] in (400, 405, 501, 505), found


def test_broken_preface_of_http2(server):
    """RFC 9113 section 3.4: the connection just ends."""
    with server.connect() as conn:
        conn.send("PRI * HTTP/2.0\r\n" + HOST + "\r\n")
        assert conn.closed()


def test_line_ends_with_lf_only(server):
    with server.connect() as conn:
        conn.send("GET /healthz HTTP/1.1\nHost: a\n\n")
        assert statuses(conn) == [400]


GIANTS = {
    "line": ("GET /" + "x" * 9000 + " HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "field": ("GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: " + "x" * 17000 +
              "\r\n\r\n", 431),
    "fields": ("GET /healthz HTTP/1.1\r\nHost: a\r\n" + "X-A: b\r\n" * 70 +
               "\r\n", 431),
    "endless line": ("GET /" + "x" * 100_000, 414),
    "endless field": ("GET /healthz HTTP/1.1\r\nX-A: " + "x" * 100_000, 431),
}


@pytest.mark.parametrize("name", GIANTS)
def test_giant_heads(server, name):
    head, status = GIANTS[name]
    with server.connect() as conn:
        try:
            conn.send(head)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert statuses(conn) == [status]


def test_sixty_fields_are_fine(server):
    with server.connect() as conn:
        conn.send("GET /healthz HTTP/1.1\r\nHost: a\r\n" + "X-A: b\r\n" * 60 +
                  "\r\n")
        assert conn.response().status == 200


def test_no_response_splitting(server, shared_origin):
    for name in ("a%0d%0aX-Evil:%201", "a%0aSet-Cookie:x"):
        res = server.get(name)
        assert res.status == 400
        assert b"evil" not in res.raw_head.lower()
        assert b"set-cookie" not in res.raw_head.lower()


def test_expect_does_not_hang(server):
    with server.connect() as conn:
        conn.send("GET /healthz HTTP/1.1\r\nHost: a\r\n"
                  "Expect: 100-continue\r\n\r\n")
        res = conn.response()
        if res.status == 100:
            res = conn.response()
        assert res.status in (200, 417)


@pytest.mark.alone
def test_aborts_of_all_kinds(server, thing):
    """Clients that go at any moment harm nobody else."""
    obj = thing(2 << 20, rate=8 << 20)
    for n in range(60):
        conn = server.connect(receive_buffer=4096)
        if n % 4 == 0:
            conn.send("GET /proxy")
        else:
            conn.ask(f"/proxy/{obj.name}", range=f"bytes={n * 20000}-")
        if n % 4 == 2:
            conn.head()
        if n % 4 == 3:
            conn.head()
            conn.read(1000)
        if n % 2:
            conn.reset()
        else:
            conn.close()
    res = server.get(obj.name)
    client.same(obj.seed, 0, res.body, obj.size)
    server.wait_idle()
    assert obj.body_bytes <= obj.unique_bytes + 65536
    assert re.search(r"reelcache_connections \d+",
                     server.fetch("/metrics").body.decode())
    harness.until(lambda: server.metrics()["connections"] <= 1,
                  "no connection is held")

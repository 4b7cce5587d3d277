"""Behind balancers: PROXY headers, Forwarded, X-Forwarded-For."""
import contextlib
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

import pytest

import client
import harness

KIB = 1 << 10
BALANCER = "127.0.0.2"  # trusted; tests come from 127.0.0.1 else
TRUSTED = {"trusted": f"{BALANCER} 10.0.0.0/8 fd00::/8"}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL = SIGNATURE + b"\x20\0\0\0"


def v1(source, port=4711):
    family = "TCP6" if ":" in source else "TCP4"
    own = "::1" if ":" in source else "127.0.0.1"
    return f"PROXY {family} {source} {own} {port} 80\r\n".encode()


def v2(source, port=4711, tlvs=b""):
    six = ":" in source
    own = "::1" if six else "127.0.0.1"
    family = socket.AF_INET6 if six else socket.AF_INET
    block = socket.inet_pton(family, source) + socket.inet_pton(family, own) \
        + struct.pack("!HH", port, 80) + tlvs
    return SIGNATURE + bytes([0x21, 0x21 if six else 0x11]) + \
        struct.pack("!H", len(block)) + block


class Server:
    """One with a plain listener and one that wants PROXY headers."""

    def __init__(self, make, origin, **sections):
        self.port = harness.free_port()
        sections.setdefault("http", {}).update(TRUSTED)
        self.reel = make(origin, listen__proxy={
            "address": f"127.0.0.1:{self.port}", "proxy_protocol": True},
            **sections).start()

    def connect(self, source=BALANCER):
        return client.Connection(self.port, source=source)

    def line(self, agent):
        return self.reel.wait_access(lambda e: e["user_agent"] == agent)

    def bad(self):
        return self.reel.stats()["connections_proxy_bad"]

    def refuses(self, data, source=BALANCER):
        """It is closed without an answer, and counted."""
        before = self.bad()
        with self.connect(source) as conn:
            with contextlib.suppress(OSError):
                conn.send(data)
            assert conn.closed()
        harness.until(lambda: self.bad() == before + 1, "it is counted")


REQUEST = ("GET /proxy/o HTTP/1.1\r\nHost: h\r\nRange: bytes={}-{}\r\n"
           "User-Agent: {}\r\n\r\n")


def test_headers(make, origin):
    server = Server(make, origin)
    obj = origin.add("o", 300 * KIB)
    cases = [
        (v1("203.0.113.1"), "203.0.113.1"),
        (v1("2001:db8::1"), "2001:db8::1"),
        (v1("::ffff:203.0.113.1"), "203.0.113.1"),
        (b"PROXY UNKNOWN\r\n", BALANCER),
        (v2("203.0.113.1"), "203.0.113.1"),
        (v2("2001:db8::1"), "2001:db8::1"),
        (v2("203.0.113.1", tlvs=b"\4\0\0" + b"\2\4\0" + bytes(1024)),
         "203.0.113.1"),
        (LOCAL, BALANCER),
    ]
    for n, (header, address) in enumerate(cases):
        with server.connect() as conn:
            # in one piece with the request, and a second one behind it
            conn.send(header + REQUEST.format(5, 9, f"{n}a").encode() +
                      REQUEST.format(7, 200 * KIB, f"{n}b").encode())
            res = conn.response()
            assert res.status == 206
            client.same(obj.seed, 5, res.body, 10)
            res = conn.response()
            client.same(obj.seed, 7, res.body, 200 * KIB + 1)
        assert server.line(f"{n}a")["client"] == address
        assert server.line(f"{n}b")["client"] == address
    assert server.bad() == 0


@pytest.mark.parametrize("header", [v1("203.0.113.1"), v2("2001:db8::1")])
def test_pieces(make, origin, header):
    """Cut everywhere, with a pause, so that the worker sees both pieces."""
    server = Server(make, origin)
    obj = origin.add("o", 1000)
    data = header + REQUEST.format(0, 999, "a").encode()
    conns = [(server.connect(), cut) for cut in range(1, len(header) + 3)]
    for conn, cut in conns:
        conn.send(data[:cut])
    waits = sum(cut < len(header) for _, cut in conns)
    # those with a whole header are let in, the others are not
    harness.until(lambda: server.reel.stats()["connections"] >=
                  len(conns) - waits, "headers are read")
    for conn, cut in conns:
        conn.send(data[cut:])
    for conn, _ in conns:
        client.same(obj.seed, 0, conn.response().body, 1000)
        conn.close()
    with server.connect() as conn:
        for byte in data:
            conn.send(bytes([byte]))
        client.same(obj.seed, 0, conn.response().body, 1000)
    assert server.bad() == 0


def test_refused(make, origin):
    server = Server(make, origin, http={"head_timeout": "500ms"})
    origin.add("o", 1000)
    request = REQUEST.format(0, 9, "x").encode()
    # not trusted, good header or not
    server.refuses(v1("203.0.113.1") + request, source="127.0.0.1")
    server.refuses(request, source="127.0.0.1")
    # wrong
    server.refuses(request)
    server.refuses(b"\x16\x03\x01\x02\0\x01\0")
    server.refuses(b"PROXY TCP4 203.0.113.01 127.0.0.1 1 2\r\n" + request)
    server.refuses(b"PROXY " + b"x" * 200)
    server.refuses(SIGNATURE + b"\x21\x11\xff\xff")
    server.refuses(SIGNATURE + b"\x31\0\0\0" + request)
    # late: the whole of it, the rest of it
    begun = time.monotonic()
    server.refuses(b"PROXY TCP4 203.0")
    assert time.monotonic() - begun >= 0.5
    server.refuses(b"")
    # cut short
    before = server.bad()
    with server.connect() as conn:
        conn.send(v2("203.0.113.1")[:20])
        conn.sock.shutdown(socket.SHUT_WR)
        assert conn.closed()
    harness.until(lambda: server.bad() == before + 1, "it is counted")
    # who only looks whether we listen is no fault
    before = server.bad()
    for _ in range(10):
        server.connect().close()
    with server.connect() as conn:
        conn.send(v1("203.0.113.1") + request)
        assert conn.response().status == 206
    assert server.bad() == before
    assert not [e for e in server.reel.access()
                if e["user_agent"] == "x" and e["client"] != "203.0.113.1"]
    assert server.reel.metrics()["connections_proxy_bad"] == before


def test_limit_is_the_clients(make, origin):
    server = Server(make, origin, http={"max_connections_per_address": 3})
    origin.add("o", 1000)

    def enter(address):
        conn = server.connect()
        conn.send(v2(address) + REQUEST.format(0, 9, address).encode())
        return conn, conn.response().status

    held = [enter("203.0.113.1") for _ in range(3)]
    assert [status for _, status in held] == [206] * 3
    conn, status = enter("203.0.113.1")
    assert status == 503
    conn.close()
    # others of the same balancer have their own count
    others = [enter(f"198.51.100.{n}") for n in range(1, 8)]
    assert [status for _, status in others] == [206] * 7
    held[0][0].close()

    def fits_again():
        conn, status = enter("203.0.113.1")
        conn.close()
        return status == 206
    harness.until(fits_again, "room again")
    for conn, _ in held + others:
        conn.close()


def test_forwarded(make, origin):
    server = Server(make, origin)
    origin.add("o", 1000)
    cases = [
        # source, PROXY header, fields, client
        (BALANCER, None, {"Forwarded": "for=203.0.113.9"}, "203.0.113.9"),
        (BALANCER, None, {"Forwarded": 'for="[2001:db8::9]:80"'},
         "2001:db8::9"),
        (BALANCER, None, {"Forwarded": "for=1.1.1.1, for=203.0.113.9, "
                          "for=10.1.1.1"}, "203.0.113.9"),
        (BALANCER, None, {"X-Forwarded-For": "1.1.1.1, 203.0.113.9"},
         "203.0.113.9"),
        (BALANCER, None, {"X-Forwarded-For": "1.1.1.1",
                          "Forwarded": "for=203.0.113.9"}, "203.0.113.9"),
        (BALANCER, None, {"Forwarded": "for=unknown"}, BALANCER),
        (BALANCER, None, {}, BALANCER),
        ("127.0.0.1", None, {"Forwarded": "for=203.0.113.9"}, "127.0.0.1"),
        ("127.0.0.1", None, {"X-Forwarded-For": "203.0.113.9"}, "127.0.0.1"),
        # a proxy behind a balancer; a client that makes things up
        (BALANCER, "10.1.1.1", {"Forwarded": "for=203.0.113.9"},
         "203.0.113.9"),
        (BALANCER, "198.51.100.1", {"Forwarded": "for=203.0.113.9"},
         "198.51.100.1"),
        (BALANCER, "fd00::1", {"X-Forwarded-For": "203.0.113.9"},
         "203.0.113.9"),
    ]
    told = {}
    for n, (source, proxied, fields, address) in enumerate(cases):
        port = server.port if proxied else server.reel.port
        with client.Connection(port, source=source) as conn:
            if proxied:
                conn.send(v1(proxied))
            # a problem, a file, a small page: each writes its own line
            for m, path in enumerate(("/proxy/o", "/proxy/none", "/healthz",
                                      "/nothing")):
                agent = f"agent {n} {m}"
                conn.ask(path, {**fields, "User-Agent": agent})
                conn.response()
                told[agent] = address
            # of each request anew
            conn.ask("/proxy/o", {"User-Agent": f"{n} bare"})
            conn.response()
            told[f"{n} bare"] = proxied or source
            # of a head that is wrong nothing is believed
            conn.ask("/healthz", fields)
            conn.response()
            conn.ask("/bad", {**fields, "User-Agent": f"{n} bad",
                              "X y": "z"})
            assert conn.response().status == 400
    for agent, address in told.items():
        assert server.line(agent)["client"] == address, agent
    harness.until(
        lambda: sorted(e["client"] for e in server.reel.access()
                       if e["target"] == "/bad") ==
        sorted(proxied or source for source, proxied, _, _ in cases),
        "wrong heads are told of, with their connections' addresses")


@pytest.fixture
def certificate(tmp_path):
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=reel.test", "-keyout", key, "-out", pem],
                   check=True, capture_output=True, timeout=30)
    return {"tls": True, "certificate": pem, "key": key}


def test_before_tls(make, origin, certificate):
    """The header comes in clear; the handshake right behind it."""
    server = Server(make, origin)
    obj = origin.add("o", 300 * KIB)
    server.reel.stop()
    server.reel.set(listen__proxy=certificate)
    server.reel.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for n, header in enumerate((v1("203.0.113.1"), v2("203.0.113.1"))):
        with server.connect() as conn:
            # in one piece with the ClientHello
            coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(coming, going)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            conn.send(header + going.read())

            def pump(call, conn=conn, coming=coming, going=going):
                while True:
                    try:
                        value = call()
                    except ssl.SSLWantReadError:
                        value = None
                    if going.pending:
                        conn.send(going.read())
                    if value is not None:
                        return value
                    got = conn.sock.recv(65536)
                    assert got, "closed"
                    coming.write(got)

            pump(lambda tls=tls: tls.do_handshake() or True)
            tls.write(REQUEST.format(0, 200 * KIB, f"tls {n}").encode())
            data = b""
            while b"\r\n\r\n" not in data or \
                    len(data.partition(b"\r\n\r\n")[2]) <= 200 * KIB:
                data += pump(lambda tls=tls: tls.read(65536))
            head, _, body = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206 ")
            client.same(obj.seed, 0, body, 200 * KIB + 1)
        assert server.line(f"tls {n}")["client"] == "203.0.113.1"
    server.refuses(b"\x16\x03\x01\x02\0\x01\0")


def test_forwarded_over_h2(make, origin):
    server = Server(make, origin)
    obj = origin.add("o", 100 * KIB)
    for source, address in ((BALANCER, "203.0.113.9"),
                            ("127.0.0.1", "127.0.0.1")):
        # one request a call: curl 7.88 fails to use such a connection again
        done = subprocess.run(
            ["curl", "-s", "--http2-prior-knowledge", "--interface", source,
             "-A", f"h2 {source}", "-H", "Forwarded: for=203.0.113.9",
             f"http://127.0.0.1:{server.reel.port}/proxy/o"],
            capture_output=True, timeout=30, check=True)
        client.same(obj.seed, 0, done.stdout, obj.size)
        assert server.line(f"h2 {source}")["client"] == address
    assert server.reel.stats()["requests_h2"] == 2


def test_drain(make, origin):
    """Who waits in the lobby does not hold up a reload, nor a stop."""
    server = Server(make, origin)
    origin.add("o", 1000)
    old = server.reel.workers()
    silent = [server.connect() for _ in range(4)]
    for conn in silent:
        conn.send(b"PROXY ")
    # a connection of each worker's queue behind them: they were accepted
    for _ in range(8):
        with server.connect() as conn:
            conn.send(v1("203.0.113.1") + REQUEST.format(0, 9, "a").encode())
            assert conn.response().status == 206
    begun = time.monotonic()
    server.reel.signal(signal.SIGHUP)
    harness.until(lambda: not any(harness.alive(p) for p in old),
                  "the old workers have ended", 4)
    assert time.monotonic() - begun >= 0.5
    for conn in silent:
        assert conn.closed()
        conn.close()
    with server.connect() as conn:
        conn.send(b"PROXY ")
        assert server.reel.stop() == 0


HAPROXY = """
global
    maxconn 100
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend f
    bind 127.0.0.1:{port}
    default_backend b
backend b
    source {balancer}
    {more}
    server s 127.0.0.1:{to} {options}
"""


@contextlib.contextmanager
def haproxy(folder, to, options, mode="tcp", more=""):
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert program is not None, "haproxy is not installed"
    port = harness.free_port()
    conf = folder / "haproxy.cfg"
    conf.write_text(HAPROXY.format(port=port, to=to, options=options,
                                   mode=mode, more=more, balancer=BALANCER))
    process = subprocess.Popen([program, "-db", "-q", "-f", str(conf)],
                               stdin=subprocess.DEVNULL)
    try:
        def listens():
            assert process.poll() is None, "haproxy has ended"
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False
        harness.until(listens, "haproxy listens")
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("options", [
    "send-proxy", "send-proxy-v2",
    "send-proxy-v2 proxy-v2-options crc32c,unique-id",
    "send-proxy check inter 100ms", "send-proxy-v2 check inter 100ms"])
def test_haproxy(make, origin, tmp_path, options):
    server = Server(make, origin)
    obj = origin.add("o", 300 * KIB)
    with haproxy(tmp_path, server.port, options) as port:
        for source in ("127.0.0.5", "127.0.0.6"):
            with client.Connection(port, source=source) as conn:
                for n in range(3):
                    conn.ask("/proxy/o", {"User-Agent": f"{source} {n}"})
                    res = conn.response()
                    assert res.status == 200
                    client.same(obj.seed, 0, res.body, obj.size)
            for n in range(3):
                assert server.line(f"{source} {n}")["client"] == source
    assert server.bad() == 0


@pytest.mark.parametrize("more", [
    "http-request add-header Forwarded for=%[src]", "option forwardfor"])
def test_haproxy_http(make, origin, tmp_path, more):
    server = Server(make, origin)
    obj = origin.add("o", 300 * KIB)
    with haproxy(tmp_path, server.reel.port, "", "http", more) as port:
        for source in ("127.0.0.5", "127.0.0.6"):
            with client.Connection(port, source=source) as conn:
                conn.ask("/proxy/o", {
                    "User-Agent": source, "Forwarded": "for=203.0.113.9"
                    if "Forwarded" in more else None,
                    "X-Forwarded-For": "203.0.113.9"})
                res = conn.response()
                client.same(obj.seed, 0, res.body, obj.size)
            assert server.line(source)["client"] == source

"""The clients of these tests are themselves right, over every transport: a
real nginx says so."""
import random
import socket
import ssl
import threading
import time

import pytest

import certificate
import client
import harness
import http2
import nginx

MIB = 1 << 20
FILES = {"small": 1000, "empty": 0, "film": 3 * MIB + 321, "long": 64 * MIB}
TRANSPORTS = client.TRANSPORTS

SERVER = """
server {{
    listen 127.0.0.1:{h1};
    listen 127.0.0.1:{https} ssl;
    listen 127.0.0.1:{h2} ssl http2;
    listen 127.0.0.1:{h2c} http2;
    server_name {name};
    ssl_certificate {cert};
    ssl_certificate_key {key};
    keepalive_requests 1000;
    location /o/ {{
        proxy_pass http://127.0.0.1:{origin};
        proxy_http_version 1.1;
        proxy_buffering off;
        proxy_next_upstream off;
    }}
    location /nothing {{ return 204; }}
}}
server {{
    listen 127.0.0.1:{few_h2} ssl http2;
    listen 127.0.0.1:{few_h2c} http2;
    ssl_certificate {cert};
    ssl_certificate_key {key};
    keepalive_requests 2;
}}
"""


class Peer(nginx.Nginx):
    def __init__(self, folder, origin):
        pair = certificate.session().server
        names = (*TRANSPORTS, "few_h2", "few_h2c")
        self.port = {name: harness.free_port() for name in names}
        super().__init__(folder, SERVER.format(
            **self.port, cert=pair.cert, key=pair.key, origin=origin.port,
            name=certificate.SERVER), self.port.values())
        self.data = {name: random.Random(name).randbytes(size)
                     for name, size in FILES.items()}
        for name, data in self.data.items():
            self.add_file(name, data)


@pytest.fixture(scope="module")
def peer(tmp_path_factory, shared_origin):
    with Peer(tmp_path_factory.mktemp("nginx"), shared_origin) as one:
        yield one


@pytest.fixture
def fetch(peer, over):
    def fetch(target, **options):
        return client.fetch(peer.port[over], target, transport=over,
                            **options)
    return fetch


@pytest.fixture
def connect(peer, over):
    made = []

    def connect(**options):
        made.append(client.connect(peer.port[over], transport=over,
                                   **options))
        return made[-1]
    yield connect
    for conn in made:
        conn.close()


def test_bytes(peer, fetch, over):
    for name, data in peer.data.items():
        res = fetch(f"/{name}")
        assert (res.status, res.whole) == (200, True)
        assert res.body == data
        assert res.headers["content-length"] == str(len(data))
        assert 0 < res.head_after <= res.total
    protocol = {"h1": "HTTP/1.1", "https": "HTTP/1.1"}.get(over, "HTTP/2")
    assert res.version == protocol
    logged = {entry[0] for entry in harness.until(peer.asked, "it is logged")}
    assert any(entry.startswith(protocol) for entry in logged)


def test_ranges_and_fields(peer, fetch):
    res = fetch("/film", range="bytes=1000000-1999999")
    assert res.status == 206 and res.whole
    assert res.content_range == (1_000_000, 2_000_000, FILES["film"])
    assert res.body == peer.data["film"][1_000_000:2_000_000]
    again = fetch("/film", headers={"If-None-Match": res.headers["etag"]})
    assert (again.status, again.body, again.whole) == (304, b"", True)
    assert fetch("/not-there").status == 404


def test_without_a_body(fetch):
    res = fetch("/film", method="HEAD")
    assert (res.status, res.body, res.whole) == (200, b"", True)
    assert res.headers["content-length"] == str(FILES["film"])
    assert fetch("/nothing").status == 204


def test_several_requests_on_a_connection(peer, connect):
    conn = connect()
    for name in ("film", "small", "empty", "film"):
        conn.ask(f"/{name}")
        res = conn.response()
        assert res.whole and res.body == peer.data[name]
        conn.ask(f"/{name}", method="HEAD")
        assert conn.response("HEAD").status == 200
    conn.ask("/small")
    conn.ask("/film")
    assert conn.response().body == peer.data["small"]
    assert conn.head().status == 200
    assert conn.read(1000) == peer.data["film"][:1000]
    assert conn.read(FILES["film"] - 1000) == peer.data["film"][1000:]


def test_leaving_after_some_bytes(peer, fetch):
    res = fetch("/long", stop_after=100_000)
    assert res.body == peer.data["long"][:100_000]


def test_check_instead_of_the_body(shared_origin, fetch):
    obj = shared_origin.add("checked", MIB)
    assert fetch("/o/checked", check=client.checker(obj.seed)).body == b""
    with pytest.raises(AssertionError, match="wrong byte"):
        fetch("/o/checked", check=client.checker("another"))


@pytest.mark.parametrize("length", [True, False])
def test_early_cut(shared_origin, fetch, length):
    """nginx breaks off what its origin breaks off."""
    obj = shared_origin.add("cut", MIB, length=length, cut_after=300_000)
    res = fetch("/o/cut")
    assert res.status == 200 and not res.whole
    client.same(obj.seed, 0, res.body)
    assert 0 < len(res.body) <= 300_000
    obj.cut_after = None
    res = fetch("/o/cut")
    assert res.whole
    client.same(obj.seed, 0, res.body, MIB)


def test_cut_while_reading(shared_origin, connect):
    obj = shared_origin.add("cut", MIB, cut_after=300_000)
    conn = connect()
    conn.ask("/o/cut")
    conn.head()
    begun = conn.read(100_000)
    with pytest.raises(client.Cut):
        conn.read(MIB)
    # what came before is still there
    begun += bytes(conn.buffer)
    assert len(begun) > 100_000
    client.same(obj.seed, 0, begun)


def test_pauses_are_measured(shared_origin, fetch):
    obj = shared_origin.add("paused", 200_000, delay=0.3, stall_at=100_000)
    answer = harness.Later(fetch, "/o/paused")
    harness.until(lambda: obj.body_bytes >= 100_000, "half of it came")
    time.sleep(0.6)
    obj.stall_at = None
    res = answer.value()
    client.same(obj.seed, 0, res.body, obj.size)
    assert res.head_after >= 0.29 and res.first_byte_after >= 0.29
    assert 0.4 <= res.longest_pause <= res.total


def test_slow_reading_pushes_back(shared_origin, fetch, over):
    """What is not read is not sent either, beyond what fits in between."""
    obj = shared_origin.add(f"slow-{over}", 64 * MIB)
    begun = time.monotonic()
    res = fetch(f"/o/{obj.name}", rate=MIB // 4, stop_after=MIB // 2,
                receive_buffer=16384)
    assert time.monotonic() - begun >= 1.8
    client.same(obj.seed, 0, res.body, MIB // 2)
    # a few MiB are in the buffers of both kernels of the two connections
    assert obj.body_bytes <= 12 * MIB


def test_timeout(shared_origin, fetch):
    obj = shared_origin.add("hanging", 10, hang=True)
    with pytest.raises(TimeoutError):
        fetch("/o/hanging", timeout=0.5)
    obj.hang = False


def test_the_other_side_closes(peer, connect):
    conn = connect()
    conn.ask("/small")
    conn.response()
    assert not conn.closed(0.3)
    conn.ask("/small")
    assert not conn.closed()  # a response comes


# --- TLS

@pytest.mark.transports("https", "h2")
def test_certificates_are_verified(tmp_path, over):
    """By chain and by name."""
    pair = certificate.session()
    stranger = certificate.Certificate(tmp_path, "stranger",
                                       certificate.NAMES)
    misnamed = certificate.Certificate(tmp_path, "misnamed",
                                       "DNS:else.test", pair.authority)
    for n, wrong in enumerate((stranger, misnamed)):
        port = harness.free_port()
        with nginx.Nginx(tmp_path / str(n), f"""
                server {{
                    listen 127.0.0.1:{port} ssl http2;
                    ssl_certificate {wrong.cert};
                    ssl_certificate_key {wrong.key};
                }}""", [port]):
            with pytest.raises(ssl.SSLCertVerificationError):
                client.fetch(port, "/small", transport=over)


@pytest.mark.transports("h2")
def test_protocol_is_agreed_upon(peer):
    with pytest.raises((AssertionError, ssl.SSLError)):
        client.connect(peer.port["https"], transport="h2")


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.transports("https")
def test_end_without_close_notify(over, orderly):
    pair = certificate.session().server
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    tls.set_alpn_protocols(["http/1.1"])
    with socket.create_server(("127.0.0.1", harness.free_port())) as listener:
        def serve():
            raw, _ = listener.accept()
            raw.settimeout(10)
            conn = tls.wrap_socket(raw, server_side=True)
            conn.recv(65536)
            conn.sendall(b"HTTP/1.1 200 OK\r\n\r\nsome bytes")
            (conn.unwrap() if orderly else conn).close()
        threading.Thread(target=serve, daemon=True).start()
        conn = client.connect(listener.getsockname()[1], transport=over)
        conn.ask("/")
        res = conn.response()
        conn.close()
    assert res.body == b"some bytes"
    assert res.whole == orderly


# --- HTTP/2

@pytest.mark.transports("h2", "h2c")
def test_credit_is_what_was_consumed(peer, connect):
    """A server sends not a byte more than the window has."""
    conn = connect(window=20_000)
    stream = conn.open("/long")
    assert stream.head().status == 200
    while len(stream.buffer) < 20_000:
        conn._receive()
    conn.sock.settimeout(0.5)
    with pytest.raises(TimeoutError):
        conn._receive()
    conn.sock.settimeout(client.TIMEOUT)
    data = peer.data["long"]
    for n in range(50):
        assert stream.read(20_000) == data[n * 20_000:(n + 1) * 20_000]
        assert len(stream.buffer) <= 20_000
    stream.reset()
    assert conn.open("/small").response().body == peer.data["small"]


@pytest.mark.transports("h2", "h2c")
def test_several_streams(peer, connect):
    conn = connect()
    standing = [conn.open("/long") for _ in range(8)]
    moving = [conn.open(f"/{name}") for name in ("film", "small", "film")]
    for stream, name in zip(reversed(moving), ("film", "small", "film")):
        assert stream.response().body == peer.data[name]
    for stream in standing:
        assert stream.head().status == 200
        assert len(stream.buffer) <= http2.WINDOW
    standing[0].reset()
    assert standing[1].read(MIB) == peer.data["long"][:MIB]
    assert 0 < conn.ping() < 5
    assert standing[7].read(MIB) == peer.data["long"][:MIB]
    assert conn.settings and conn.goaway is None


@pytest.mark.transports("h2", "h2c")
def test_reset_gives_up_the_request_only(peer, over):
    standing = []
    conn = client.connect(peer.port[over], transport=over,
                          standing=standing)
    before = len(peer.sent("/long"))
    conn.ask("/long")
    conn.head()
    conn.read(1000)
    conn.reset()
    assert standing == [conn]
    sent = harness.until(lambda: peer.sent("/long")[before:],
                         "nginx has ended it")
    assert sent[0] < 2 * MIB
    conn.ask("/small")
    assert conn.response().body == peer.data["small"]
    conn.close()


@pytest.mark.transports("h2", "h2c")
def test_goaway_lets_streams_end(peer, over):
    """nginx closes after so many requests, but serves what it has taken."""
    conn = client.connect(peer.port[f"few_{over}"], transport=over)
    streams = [conn.open("/film") for _ in range(2)]
    for stream in streams:
        res = stream.response()
        assert res.whole and res.body == peer.data["film"]
    assert conn.closed()
    code, last = conn.goaway
    assert code == 0 and last == streams[-1].number
    conn.close()

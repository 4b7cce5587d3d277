"""TLS listeners: what clients get, which certificate they see, how sessions
go on, and what hostile bytes do."""
import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time
import types

import pytest

import client
import content
import harness
import tls_peer
from tls_peer import V12, VERSIONS, Peer, context, openssl

MIB = 1 << 20
HEAD_TIMEOUT_S = 2


# --- the scene

@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Certificates: a has a chain, b has wildcards, c is RSA's, d is of
    both kinds."""
    folder = str(tmp_path_factory.mktemp("pki"))
    root = tls_peer.Authority(folder, "root")
    middle = tls_peer.Authority(folder, "middle", root)
    return types.SimpleNamespace(
        folder=folder, root=root,
        a=middle.issue("a", "a.test"),
        b=root.issue("b", "b.test", "*.b.test"),
        c=root.issue("c", "c.test", kind="rsa"),
        d=root.issue("d", "d.test"),
        d_rsa=root.issue("d-rsa", "d.test", kind="rsa"),
        new=root.issue("new", "a.test"))


def listener(port, *certificates):
    return {"address": f"127.0.0.1:{port}", "tls": True,
            "certificate": " ".join(str(c.cert) for c in certificates),
            "key": "  ".join(str(c.key) for c in certificates)}


def set_up(make, origin, *certificates, kernel_tls=True, **sections):
    server = make(origin, **sections)
    server.tls_port = harness.free_port()
    server.set(listen__tls={**listener(server.tls_port, *certificates),
                            "kernel_tls": kernel_tls})
    return server


@pytest.fixture(scope="module")
def shared_server(make_shared, shared_origin, pki):
    server = set_up(make_shared, shared_origin, pki.a, pki.b, pki.c, pki.d,
                    pki.d_rsa, http={"head_timeout": f"{HEAD_TIMEOUT_S}s"})
    return server.start()


@pytest.fixture
def connect(server, pki):
    """connect(version=, alpn=, ciphers=, ...): a Peer."""
    made = []

    def one(version=None, alpn=None, ciphers=None, ctx=None, to=None,
            **options):
        ctx = ctx or context(pki.root, version, alpn, ciphers)
        made.append(Peer((to or server).tls_port, ctx, **options))
        return made[-1]

    yield one
    for peer in made:
        peer.close()


def request(obj, start=None, end=None, extra="", query=""):
    field = "" if start is None else f"Range: bytes={start}-{end - 1}\r\n"
    return (f"GET /proxy/{obj.name}{query} HTTP/1.1\r\nHost: a.test\r\n{field}"
            f"{extra}\r\n")


def get(peer, obj, start=None, end=None, record=16384):
    """A span of it, with the right bytes."""
    peer.send(request(obj, start, end), record=record)
    res = peer.response()
    assert res.whole and res.status == (200 if start is None else 206)
    client.same(obj.seed, start or 0, res.body,
                obj.size if end is None else end)
    return res


def worker_of(peer):
    peer.ask("/healthz")
    return int(peer.response().headers["x-worker"])


def still_serves(server, pki):
    with Peer(server.tls_port, context(pki.root)) as peer:
        return worker_of(peer) in server.workers()


def raw(server):
    sock = socket.create_connection(("127.0.0.1", server.tls_port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def hello(name="a.test"):
    """The bytes of a ClientHello."""
    ctx = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ctx.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def read_all(sock):
    """Until the other side ends, in order or not."""
    data = b""
    try:
        while got := sock.recv(65536):
            data += got
    except ConnectionResetError:
        pass
    return data


def hup(server, word="reloaded"):
    mark = server.mark()
    server.signal(signal.SIGHUP)
    return server.wait_log(word, mark)[0]


def renew_workers(server):
    """A reload; new connections go to new workers."""
    old = set(server.workers())
    hup(server)
    harness.until(lambda: len(new := set(server.workers())) == 2 and
                  not new & old, "new workers")


# --- bytes

@pytest.mark.parametrize("version", VERSIONS)
def test_bytes(connect, thing, version):
    obj = thing(20 * MIB + 77)
    with connect(VERSIONS[version]) as peer:
        assert peer.tls.version() == version
        for start, end in ((0, 1), (1, 16384), (0, 16385), (7, 300_000),
                           (obj.size - 1, obj.size), (5 * MIB, 9 * MIB + 3)):
            res = get(peer, obj, start, end)
            assert res.headers["content-range"] == \
                f"bytes {start}-{end - 1}/{obj.size}"
    for _ in range(2):  # as it arrives, and from the cache
        with connect(VERSIONS[version]) as peer:
            get(peer, obj)
            assert worker_of(peer)  # and the connection goes on


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_over_h2(server, pki, thing, version):
    obj = thing(20 * MIB + 77)

    def curl(*args):
        done = subprocess.run(
            ["curl", "-sS", "-m", "60", "--http2", "--cacert", pki.root.cert,
             f"--{version.lower()}", "--tls-max", version[-3:], "--resolve",
             f"a.test:{server.tls_port}:127.0.0.1", "-w",
             "%{stderr}%{http_version} %{http_code}", *args,
             f"https://a.test:{server.tls_port}/proxy/{obj.name}"],
            capture_output=True, check=True, timeout=90)
        protocol, status = done.stderr.decode().split()
        assert protocol == "2"
        return int(status), done.stdout

    for _ in range(2):
        status, body = curl()
        assert status == 200
        client.same(obj.seed, 0, body, obj.size)
    for start, end in ((0, 1), (16383, 16386), (3 * MIB, 8 * MIB + 1)):
        status, body = curl("-r", f"{start}-{end - 1}")
        assert status == 206
        client.same(obj.seed, start, body, end)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("record, piece", [
    (16384, None),  # all requests in one record
    (16384, 1),     # a byte in each segment
    (1, None),      # a byte in each record, many records in a segment
    (1, 1),
    (100, 1461),    # nothing begins where something else does
])
def test_pipelined(connect, thing, version, record, piece):
    obj = thing(60_000)
    spans = [(n * 999, n * 999 + 1 + n * 1000) for n in range(20)]
    if record == piece == 1:
        spans = spans[:4]  # each byte costs a segment of 20 or so
    with connect(VERSIONS[version], piece=piece) as peer:
        peer.send("".join(request(obj, *span) for span in spans),
                  record=record)
        for start, end in spans:
            res = peer.response()
            assert res.status == 206 and res.whole
            client.same(obj.seed, start, res.body, end)


def test_records_of_the_largest_size(connect, thing):
    """Far more than is read at a time, in records of 16384 bytes."""
    obj = thing(5000)
    one = request(obj, 10, 20, "X: " + "y" * 8000 + "\r\n")
    with connect() as peer:
        peer.send(one * 60, record=16384)
        for _ in range(60):
            client.same(obj.seed, 10, peer.response().body, 20)


# --- what is agreed on

@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_refused(connect, pki, version):
    ctx = context(pki.root, ciphers="ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        ctx.minimum_version = ctx.maximum_version = \
            getattr(ssl.TLSVersion, version)
    with pytest.raises(ssl.SSLError, match="(?i)alert.protocol.version"):
        connect(ctx=ctx)


@pytest.mark.parametrize("cipher", [
    "AES128-GCM-SHA256",          # without forward secrecy
    "AES256-SHA",
    "ECDHE-RSA-AES128-SHA",       # CBC
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-CCM8",
    "DHE-RSA-AES128-GCM-SHA256",
    "AECDH-AES128-SHA",           # without a certificate
    "ECDHE-ECDSA-NULL-SHA",
])
@pytest.mark.parametrize("name", ["a.test", "c.test"])
def test_weak_ciphers_are_refused(connect, cipher, name):
    with pytest.raises(ssl.SSLError, match="(?i)alert.handshake.failure"):
        connect(V12, ciphers=f"{cipher}:@SECLEVEL=0", name=name)


@pytest.mark.parametrize("cipher, name", [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "a.test"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "a.test"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "a.test"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "c.test"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "c.test"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "c.test"),
])
def test_good_ciphers(connect, thing, cipher, name):
    obj = thing(100_000)
    with connect(V12, ciphers=cipher, name=name) as peer:
        assert peer.tls.cipher()[0] == cipher
        get(peer, obj)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("offered, chosen", [
    (["h2", "http/1.1"], "h2"),
    (["http/1.1", "h2"], "h2"),  # ours is the order
    (["spdy/3", "http/1.1"], "http/1.1"),
    (["http/1.1"], "http/1.1"),
    (None, None),
])
def test_protocols(connect, thing, version, offered, chosen):
    obj = thing(10_000)
    with connect(VERSIONS[version], alpn=offered) as peer:
        assert peer.tls.selected_alpn_protocol() == chosen
        if chosen == "h2":
            peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                      b"\0\0\0\x04\0\0\0\0\0")
            assert peer.read(5)[3:] == b"\x04\0"  # their SETTINGS
        else:
            get(peer, obj)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("offered", [["http/1.0"], ["h3", "spdy/3"], ["h"]])
def test_no_common_protocol(connect, version, offered):
    """RFC 7301 section 3.2"""
    with pytest.raises(ssl.SSLError, match="(?i)alert.no.application.protocol"):
        connect(VERSIONS[version], alpn=offered)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name, which", [
    ("a.test", "a"), ("b.test", "b"), ("c.test", "c"), ("d.test", "d"),
    ("www.b.test", "b"), ("WWW.B.Test", "b"),
    ("x.y.b.test", "a"), ("nobody.test", "a"), (None, "a"),
])
def test_each_name_has_its_certificate(connect, pki, thing, version, name,
                                       which):
    """A client that trusts only the root: a chain is sent whole."""
    ctx = context(pki.root, VERSIONS[version])
    ctx.check_hostname = False
    obj = thing(1000)
    with connect(ctx=ctx, name=name) as peer:
        assert peer.presented == getattr(pki, which).der
        get(peer, obj)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("algorithms, which", [
    ("ECDSA+SHA256:RSA-PSS+SHA256", "d"),
    ("RSA-PSS+SHA256:RSA+SHA256", "d_rsa"),
    ("ECDSA+SHA256", "d"),
])
def test_a_certificate_that_the_client_can_check(server, pki, version,
                                                 algorithms, which):
    """One name, two keys."""
    done = openssl("s_client", "-connect", f"127.0.0.1:{server.tls_port}",
                   "-servername", "d.test", "-sigalgs", algorithms,
                   "-CAfile", pki.root.cert, "-verify_return_error",
                   f"-{version.lower().replace('.', '_').replace('v', '')}")
    found = re.search(r"-----BEGIN.*END CERTIFICATE-----\n",
                      done.stdout.decode(), re.DOTALL)
    assert ssl.PEM_cert_to_DER_cert(found[0]) == getattr(pki, which).der


def s_client(server, pki, *args):
    """Connected: what is written now is a read of its own."""
    process = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}",
         "-servername", "a.test", "-CAfile", pki.root.cert, *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    while b"Verify return code" not in (line := process.stdout.readline()):
        assert line, "it ended"
    return process


# --- who encrypts

CIPHERS = {
    "aes128": (None, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
    "aes256": (None, "ECDHE-ECDSA-AES256-GCM-SHA384", True),
    "chacha": (None, "ECDHE-ECDSA-CHACHA20-POLY1305", False),
    "tls1.3": (ssl.TLSVersion.TLSv1_3, None, True),
}


def kernel_has_tls():
    return "kernel TLS: yes" in subprocess.run(
        [harness.reelcache_bin(), "-V"], capture_output=True, text=True,
        check=True).stdout


def serve_folder(server, name, content_bytes):
    """/proxy/NAME?source=files; such a file may change, so it is copied."""
    folder = os.path.join(server.folder, "files")
    os.mkdir(folder)
    with open(os.path.join(folder, f"{name}.mp4"), "wb") as f:
        f.write(content_bytes)
    server.set(source__files={"type": "directory", "path": folder})


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("wanted", [True, False])
def test_who_encrypts(make, origin, pki, wanted, cipher):
    """The kernel does wherever it can, unless it is told not to; the bytes are
    the same: of a file, of one that may change, in pieces, at the end."""
    server = set_up(make, origin, pki.a, kernel_tls=wanted)
    serve_folder(server, "film", content.span("film", 0, MIB))
    server.start()
    obj = origin.add("o", 3 * MIB)
    version, ciphers, takes = CIPHERS[cipher]
    ctx = context(pki.root, version or V12, ciphers=ciphers)
    for _ in range(2):
        with Peer(server.tls_port, ctx) as peer:
            get(peer, obj)
            get(peer, obj, 12345, 2 * MIB + 1)
            get(peer, obj, 0, 1)
            peer.send("GET /proxy/film?source=files HTTP/1.1\r\n"
                      "Host: a.test\r\n\r\n")
            client.same("film", 0, peer.response().body, MIB)
            peer.send("GET /metrics HTTP/1.1\r\nHost: a.test\r\n"
                      "Connection: close\r\n\r\n")
            assert b"tls_by_kernel" in peer.response().body
            peer.end()
            assert peer.ended == "notified"
    with Peer(server.tls_port, context(pki.root, version or V12, ["h2"],
                                       ciphers)):
        pass  # no file goes by sendfile() in frames: not for the kernel
    harness.until(lambda: server.stats()["connections"] == 0, "they ended")
    assert server.stats()["tls_by_kernel"] == (
        2 if wanted and takes and kernel_has_tls() else 0)


def test_a_key_that_the_kernel_has_is_not_changed(make, origin, pki):
    """Who wants that is left, with no byte that he could not read; only he."""
    server = set_up(make, origin, pki.a).start()
    obj = origin.add("o", 100_000)
    with s_client(server, pki, "-tls1_3") as process, \
            Peer(server.tls_port, context(pki.root)) as other:
        get(other, obj)
        os.write(process.stdin.fileno(), b"K\n")
        time.sleep(.5)
        with contextlib.suppress(BrokenPipeError):
            os.write(process.stdin.fileno(), request(obj, 0, 1000).encode())
        got = b""
        while b" 206 " not in got and (byte := process.stdout.read(1)):
            got += byte
        assert b"KEYUPDATE" in got
        assert b"bad record mac" not in got
        assert (b" 206 " in got) is not kernel_has_tls()
        get(other, obj)
        process.kill()


@pytest.mark.parametrize("how", ["sendfile", "copy"])
def test_the_end_is_told_to_slow_readers(make, origin, pki, how):
    """However full the socket is when the last byte goes into it."""
    server = set_up(make, origin, pki.a, http={"notsent_lowat": "16K"})
    obj = origin.add("o", 6 * MIB)
    if how == "copy":
        serve_folder(server, obj.name, content.span(obj.seed, 0, obj.size))
    server.start()
    query = "?source=files" if how == "copy" else ""
    ctx = context(pki.root)
    with Peer(server.tls_port, ctx) as peer:  # one that reads at once
        peer.send(request(obj, query=query))
        res = peer.response()
        assert res.whole
        client.same(obj.seed, 0, res.body, obj.size)
    ends = range(64 * 1024, 6 * MIB, 150_000)
    peers = [Peer(server.tls_port, ctx, receive_buffer=8192) for _ in ends]
    for peer, end in zip(peers, ends):
        peer.send(request(obj, 0, end, "Connection: close\r\n", query))
    time.sleep(1)
    for peer, end in zip(peers, ends):
        res = peer.response()
        assert res.whole and res.status == 206
        client.same(obj.seed, 0, res.body, end)
        peer.end()
    assert [peer.ended for peer in peers] == ["notified"] * len(peers)
    for peer in peers:
        peer.close()


def test_who_does_not_read_the_end_is_left(make, origin, pki):
    """However full the socket is; who has reset is not waited for."""
    server = set_up(make, origin, pki.a, http={
        "notsent_lowat": "16K", "send_timeout": "6s"}).start()
    obj = origin.add("o", 3 * MIB)
    ctx = context(pki.root)
    with Peer(server.tls_port, ctx) as peer:
        get(peer, obj)
    ends = range(64 * 1024, 3 * MIB, 75_000)
    peers = [Peer(server.tls_port, ctx, receive_buffer=8192) for _ in ends]
    for peer, end in zip(peers, ends):
        peer.send(request(obj, 0, end, "Connection: close\r\n"))
    harness.until(lambda: server.stats()["requests"] > len(peers),
                  "all have asked")
    for peer in peers[::2]:
        peer.reset()
    begun = time.monotonic()
    harness.until(lambda: server.stats()["connections"] <= len(peers) // 2,
                  "those that were reset are gone", 2)
    harness.until(lambda: server.stats()["connections"] == 0,
                  "the others are", 20)
    assert time.monotonic() - begun > 2  # they were waited for
    for peer in peers[1::2]:
        peer.close()


def test_keys_are_updated(make, origin, pki):
    """RFC 8446 section 4.6.3: both sides' keys, again and again."""
    server = set_up(make, origin, pki.a, kernel_tls=False).start()
    obj = origin.add("o", 100_000)
    with s_client(server, pki, "-tls1_3") as process:
        try:
            for n in range(1, 4):
                process.stdin.write(b"K\n")
                process.stdin.flush()
                time.sleep(.1)  # its command is a read of its own
                process.stdin.write(
                    request(obj, n, 60_000 + n).encode())
                process.stdin.flush()
                got = b""
                while b"\r\n\r\n" not in got:
                    got += (byte := process.stdout.read(1))
                    assert byte, got
                assert b"KEYUPDATE" in got and b" 206 " in got, got
                client.same(obj.seed, n, process.stdout.read(60_000),
                            60_000 + n)
        finally:
            process.kill()


def test_renegotiation_is_refused(server, pki):
    with s_client(server, pki, "-tls1_2") as process:
        try:
            process.stdin.write(b"R\n")
            process.stdin.flush()
            said, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert b"RENEGOTIATING" in said and b"no renegotiation" in said
    assert still_serves(server, pki)


def test_no_early_data(server, pki, tmp_path):
    """Neither is it offered with a ticket, nor is any taken."""
    ticket = str(tmp_path / "ticket")
    with s_client(server, pki, "-tls1_3", "-sess_out", ticket) as process:
        process.stdin.write(b"GET /healthz HTTP/1.1\r\nHost: a.test\r\n"
                            b"Connection: close\r\n\r\n")
        process.stdin.flush()
        said = process.stdout.read().decode()
        process.wait(10)
    assert "200 OK" in said and "Post-Handshake New Session Ticket" in said
    assert set(re.findall(r"Max Early Data: (\d+)", said)) == {"0"}
    # another session's number in it: now the client dares
    text = openssl("sess_id", "-in", ticket, "-text", "-noout").stdout
    assert b"Max Early Data" not in text or b"Max Early Data: 0" in text


# --- sessions

def session_of(peer):
    """With TLS 1.3 it comes behind the handshake."""
    worker = worker_of(peer)
    return peer.tls.session, worker


def resumes(server, ctx, session, tries=40):
    """{worker: was the session resumed?} of all workers."""
    found = {}
    for _ in range(tries):
        with Peer(server.tls_port, ctx, session=session) as peer:
            reused = peer.tls.session_reused
            worker = worker_of(peer)
            assert found.setdefault(worker, reused) == reused
        if len(found) == 2:
            return found
    raise AssertionError(f"one worker takes all connections: {found}")


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_go_on(make, origin, pki, version):
    """In other workers, after a reload, after a kill; not elsewhere."""
    server = set_up(make, origin, pki.a).start()
    ctx = context(pki.root, VERSIONS[version])
    with Peer(server.tls_port, ctx) as peer:
        assert not peer.tls.session_reused
        session, first = session_of(peer)
    assert session.has_ticket
    found = resumes(server, ctx, session)
    assert found == {pid: True for pid in server.workers()}
    assert first in found

    # each resumption may bring a ticket of its own
    for _ in range(4):
        with Peer(server.tls_port, ctx, session=session) as peer:
            assert peer.tls.session_reused
            session, _ = session_of(peer)

    renew_workers(server)
    assert set(resumes(server, ctx, session).values()) == {True}

    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    harness.until(lambda: len(new := set(server.workers())) == 2 and
                  victim not in new, "a new worker")
    assert set(resumes(server, ctx, session).values()) == {True}

    other = set_up(make, origin, pki.a).start()
    assert set(resumes(other, ctx, session).values()) == {False}


# --- certificates that change

def test_a_new_certificate(make, origin, pki, tmp_path):
    """New connections get it; a slow answer goes on to its end."""
    cert, key = tmp_path / "crt", tmp_path / "key"
    shutil.copy(pki.a.cert, cert)
    shutil.copy(pki.a.key, key)
    server = set_up(make, origin,
                    types.SimpleNamespace(cert=str(cert), key=str(key)))
    server.start()
    obj = origin.add("o", 8 * MIB)
    ctx = context(pki.root)
    with Peer(server.tls_port, ctx, receive_buffer=65536) as slow:
        assert slow.presented == pki.a.der
        slow.send(request(obj))
        res = slow.head()
        body = slow.read(100_000)
        shutil.copy(pki.new.cert, cert)
        shutil.copy(pki.new.key, key)
        renew_workers(server)
        for _ in range(4):
            with Peer(server.tls_port, ctx) as peer:
                assert peer.presented == pki.new.der
                get(peer, obj, 1, 1000)
        assert res.status == 200
        body += slow.read(obj.size - len(body))
        client.same(obj.seed, 0, body, obj.size)
        assert slow.end() == "notified"


BAD = {
    "missing": ("No such file", lambda p: p.unlink()),
    "empty": ("PEM", lambda p: p.write_bytes(b"")),
    "text": ("PEM", lambda p: p.write_text("not a PEM file\n")),
    "binary": ("PEM", lambda p: p.write_bytes(bytes(range(256)) * 9)),
    "folder": ("Invalid argument", lambda p: (p.unlink(), p.mkdir())),
    "pipe": ("Invalid argument", lambda p: (p.unlink(), os.mkfifo(p))),
    "huge": ("too large", lambda p: os.truncate(p, 2 * MIB)),
    "cut": ("PEM", lambda p: os.truncate(p, 100)),
}


@pytest.fixture
def files(pki, tmp_path):
    """Copies of a certificate and its key, to be spoiled."""
    made = types.SimpleNamespace(cert=tmp_path / "some.crt",
                                 key=tmp_path / "some.key")
    shutil.copy(pki.a.cert, made.cert)
    shutil.copy(pki.a.key, made.key)
    return made


def checked(server):
    done = harness.run("-t", "-c", server.conf,
                       report=os.path.join(server.reports, "t"))
    return done.returncode, done.stderr


@pytest.mark.parametrize("which", ["cert", "key"])
@pytest.mark.parametrize("how", BAD)
def test_bad_files_are_told(make, origin, pki, files, which, how):
    """-t names the file and ends with 78; so does a start."""
    server = set_up(make, origin, pki.b, files)
    assert checked(server) == (0, "")
    words, spoil = BAD[how]
    spoil(getattr(files, which))
    status, said = checked(server)
    assert status == 78 and words in said, said
    path = str(getattr(files, which))
    assert path in said and "[listen:tls]" in said, said
    assert pki.b.cert not in said and pki.b.key not in said, said
    if words == "PEM":
        assert {"cert": "no certificate in PEM form",
                "key": "no private key in PEM form"}[which] in said, said
    else:
        other = str(files.key if which == "cert" else files.cert)
        assert other not in said, said
    server.launch()
    assert server.wait() == 78


def test_bad_pairs_are_told(make, origin, pki, files, tmp_path):
    server = set_up(make, origin, files)

    def said(certificate, key, **options):
        server.set(listen__tls={"certificate": certificate, "key": key,
                                **options})
        status, words = checked(server)
        assert status == 78, words
        return words

    other = said(files.cert, pki.b.key)
    assert "does not belong" in other
    assert str(files.cert) in other and pki.b.key in other
    assert "does not belong" in said(files.cert, pki.c.key)  # another kind
    encrypted = tmp_path / "encrypted.key"
    openssl("pkey", "-in", str(files.key), "-aes128", "-passout", "pass:x",
            "-out", str(encrypted))
    words = said(files.cert, encrypted)
    assert str(encrypted) in words and "passphrase" in words
    # the second pair counts as much
    assert "does not belong" in said(f"{files.cert} {pki.b.cert}",
                                     f"{files.key} {pki.c.key}")
    words = said(f"{files.cert} {pki.b.cert}", files.key)
    assert "2" in words and "1" in words and "as many" in words
    assert "needs certificate and key" in said("", "")
    assert "needs certificate and key" in said("", files.key)
    assert "without tls = yes" in said(files.cert, files.key, tls=False)
    weak = tmp_path / "weak.crt"
    openssl("req", "-x509", "-nodes", "-newkey", "rsa:512", "-subj", "/CN=w",
            "-keyout", str(tmp_path / "weak.key"), "-out", str(weak))
    words = said(weak, tmp_path / "weak.key", tls=True)
    assert str(weak) in words
    assert "the certificate cannot be used: ee key too small" in words
    # a chain that is cut short is no chain
    chain = files.cert.read_text()
    broken = tmp_path / "broken.crt"
    broken.write_text(chain[:len(chain) - 60])
    assert str(broken) in said(broken, files.key)


@pytest.mark.parametrize("how", ["one file", "parameters", "crlf", "words"])
def test_other_forms_of_files(make, origin, pki, tmp_path, how):
    """As other programs write them."""
    with open(pki.a.key) as f:
        key = f.read()
    with open(pki.a.cert) as f:
        cert = f.read()
    if how == "one file":
        cert = key = key + cert
    elif how == "parameters":
        key = openssl("ecparam", "-name", "prime256v1").stdout.decode() + \
            openssl("ec", "-in", pki.a.key).stdout.decode()
        assert "BEGIN EC PARAMETERS" in key and "EC PRIVATE" in key
    elif how == "crlf":
        cert, key = cert.replace("\n", "\r\n"), key.replace("\n", "\r\n")
    else:
        cert = "Subject: CN=a\n" + cert.replace(
            "-----END CERTIFICATE-----\n",
            "-----END CERTIFICATE-----\n\nnext\n")
    pair = types.SimpleNamespace(cert=str(tmp_path / "c"),
                                 key=str(tmp_path / "k"))
    for path, text in ((pair.cert, cert), (pair.key, key)):
        with open(path, "w", newline="") as f:
            f.write(text)
    server = set_up(make, origin, pair).start()
    with Peer(server.tls_port, context(pki.root)) as peer:
        assert peer.presented == pki.a.der
        assert worker_of(peer)


def test_a_bad_file_at_a_reload(make, origin, pki, files):
    """It is refused, what is in force stays."""
    server = set_up(make, origin, files).start()
    obj = origin.add("o", 100_000)
    ctx = context(pki.root)
    workers = server.workers()
    mismatch = [("key of another", lambda p: shutil.copy(pki.new.key, p))]
    for _, spoil in [*BAD.values(), *mismatch]:
        spoil(files.key)
        assert str(files.key) in hup(server, "reload_refused")["reason"]
        with Peer(server.tls_port, ctx) as peer:
            assert peer.presented == pki.a.der
            get(peer, obj, 5, 50_000)
        if files.key.is_dir():
            files.key.rmdir()
        files.key.unlink(missing_ok=True)
        shutil.copy(pki.a.key, files.key)
    assert server.workers() == workers
    hup(server)


def kill_workers(server):
    """New ones of the same setup: the master reads no file again."""
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
        harness.until(lambda old=pid: old not in (now := server.workers()) and
                      len(now) == 2, "a worker in its place")


def test_workers_read_no_file(make, origin, pki, files):
    """What is there when the master reads it is all that they need."""
    server = set_up(make, origin, files).start()
    obj = origin.add("o", 100_000)
    files.cert.unlink()
    files.key.unlink()
    kill_workers(server)
    with Peer(server.tls_port, context(pki.root)) as peer:
        assert peer.presented == pki.a.der
        get(peer, obj)


def test_keys_that_only_the_master_reads(make, origin, pki, files):
    """As root: workers run as another user, at a start and after a reload.
    Else there is no other user, but the file stays closed to others."""
    is_root = os.getuid() == 0
    server = set_up(make, origin, files, main={"user": "nobody"})
    if is_root:
        os.chmod(os.path.dirname(server.folder), 0o755)
        os.chmod(server.reports, 0o777)
        os.chmod(server.scratch, 0o1777)
    os.chmod(files.key, 0o400)
    server.start()
    obj = origin.add("o", 100_000)
    ctx = context(pki.root)
    user = pwd.getpwnam("nobody").pw_uid if is_root else os.getuid()
    for _ in range(2):
        with Peer(server.tls_port, ctx) as peer:
            get(peer, obj)
            assert os.stat(f"/proc/{worker_of(peer)}").st_uid == user
        renew_workers(server)


# --- bytes that are no TLS, and handshakes that never end

@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0" * 1000, b"\xff" * 20000, b"\x80\x2e\x01\x03\x01" + b"x" * 60,
    b"\x16\x03\x01\xff\xff" + b"x" * 70000,    # a record that is too long
    b"\x16\x03\x01\x00\x00" * 2000,            # nothing in any
    b"\x15\x03\x01\x00\x02\x01\x00" * 2000,    # alerts
    b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",   # a hello of 16 MiB
    b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",   # an empty one
    b"\x17\x03\x03\x00\x10" + b"x" * 16,       # data before a handshake
])
def test_no_tls(server, pki, data):
    with raw(server) as sock:
        try:
            sock.sendall(data)
        except ConnectionError:
            pass
        said = read_all(sock)
        # an alert at most, no HTTP
        assert len(said) <= 7 and said[:1] in (b"", b"\x15"), said
    assert still_serves(server, pki)


def test_broken_hellos(server, pki):
    """Every byte of it once wrong: refused or not, but nothing breaks."""
    good = hello()
    for at in range(len(good)):
        with raw(server) as sock:
            sock.sendall(good[:at] + bytes([good[at] ^ 0xff]) +
                         good[at + 1:])
            sock.shutdown(socket.SHUT_WR)
            read_all(sock)
    assert still_serves(server, pki)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_byte_by_byte(connect, thing, version):
    obj = thing(1000)
    with connect(VERSIONS[version], piece=1) as peer:
        get(peer, obj)


@pytest.mark.parametrize("sent", [0, 1, 100, None])
def test_a_stalled_handshake_ends(server, sent):
    with raw(server) as sock:
        begun = time.monotonic()
        sock.sendall(hello()[:sent])
        said = read_all(sock)
        took = time.monotonic() - begun
    assert HEAD_TIMEOUT_S * .9 < took < HEAD_TIMEOUT_S + 2
    assert (said[:1] == b"\x16") == (sent is None)  # its ServerHello


def test_a_dripping_handshake_ends(server):
    """Each byte in time does not make the whole of it so."""
    begun = time.monotonic()
    with raw(server) as sock:
        sock.settimeout(.05)
        for byte in hello():
            try:
                sock.sendall(bytes([byte]))
                if sock.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("it went on for ever")
    assert time.monotonic() - begun < HEAD_TIMEOUT_S + 2


def test_a_connection_without_a_request_ends(connect):
    peer = connect()
    begun = time.monotonic()
    peer.end()
    assert HEAD_TIMEOUT_S * .9 < time.monotonic() - begun < HEAD_TIMEOUT_S + 2


@pytest.mark.parametrize("port", ["port", "tls_port"])
@pytest.mark.parametrize("reset", [True, False])
def test_who_leaves_in_a_head_is_gone(make, origin, pki, port, reset):
    """Together with the bytes, or behind them; it waits for no timer."""
    server = set_up(make, origin, pki.a).start()
    begun = hello()[:100] if port == "tls_port" else b"GET /healthz HTTP"
    harness.until(lambda: server.stats()["connections"] == 0, "all are gone")
    accepted = server.stats()["connections_accepted"]
    for n in range(20):
        with socket.create_connection(
                ("127.0.0.1", getattr(server, port))) as sock:
            sock.sendall(begun)
            time.sleep(n % 2 * .01)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                struct.pack("ii", 1, 0))
    all_gone(server, accepted + 20, 3)


def all_gone(server, accepted, seconds=10):
    """No connection is open, and none waits to be accepted: so many were."""
    harness.until(lambda: server.stats()["connections_accepted"] >= accepted,
                  "they were accepted")
    harness.until(lambda: server.stats()["connections"] == 0, "all are gone",
                  seconds)


def memory(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s*(\d+)", f.read())[1]) * 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def frugal(make, origin, pki):
    """A server whose memory can be measured: what is freed is not kept."""
    server = set_up(make, origin, pki.a)
    options = harness.test_environment(server.reports + "/report")
    server.env = {"ASAN_OPTIONS": options["ASAN_OPTIONS"] +
                  ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"}
    return server.start()


def test_aborted_handshakes(frugal, pki):
    """They leave nothing behind."""
    server = frugal
    good = hello()

    def abort(count):
        for n in range(count):
            with raw(server) as sock:
                sock.sendall(good[:n % (len(good) + 1)] if n % 2 else good)
                if n % 4 == 0:
                    sock.recv(100)
                if n % 3:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                    struct.pack("ii", 1, 0))

    workers = server.workers()
    accepted = server.stats()["connections_accepted"]
    abort(1000)
    all_gone(server, accepted + 1000)
    before = {pid: (memory(pid), descriptors(pid)) for pid in workers}
    harness.threads(*[lambda: abort(1000)] * 2)
    all_gone(server, accepted + 3000)
    for pid, (bytes_before, fds_before) in before.items():
        harness.until(lambda: descriptors(pid) <= fds_before,
                      "its descriptors are closed", 3)
        assert memory(pid) - bytes_before < 12 * MIB
    assert server.workers() == workers
    assert still_serves(server, pki)


# --- how it ends

def test_slow_readers_cost_little(frugal, connect, origin):
    """What the kernel does not take of an answer is kept in pieces; others
    go on."""
    obj = origin.add("o", 20 * MIB)
    for _ in range(4):
        with connect(to=frugal) as peer:
            get(peer, obj)
    workers = frugal.workers()
    before = {pid: memory(pid) for pid in workers}
    slow = [connect(to=frugal, receive_buffer=4096) for _ in range(100)]
    for peer in slow:
        peer.send(request(obj))
    begun = time.monotonic()
    for _ in range(5):
        with connect(to=frugal) as peer:
            get(peer, obj, 5, 2 * MIB)
    assert time.monotonic() - begun < 10
    # one batch of 64 KiB at most, and OpenSSL's state
    grown = sum(memory(pid) - before[pid] for pid in workers)
    assert grown < len(slow) * 128 * 1024, grown / len(slow)
    for peer in slow[:3]:
        res = peer.response()
        assert res.whole
        client.same(obj.seed, 0, res.body, obj.size)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 1000, 3 * MIB])
def test_an_end_is_notified(connect, thing, version, size):
    """RFC 8446 section 6.1"""
    obj = thing(size)
    with connect(VERSIONS[version]) as peer:
        peer.send(request(obj, extra="Connection: close\r\n"))
        res = peer.response()
        client.same(obj.seed, 0, res.body, obj.size)
        assert peer.end() == "notified"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_an_idle_connection_is_notified(make, origin, pki,
                                                   version):
    server = set_up(make, origin, pki.a,
                    http={"idle_timeout": "1s"}).start()
    ctx = context(pki.root, VERSIONS[version])
    with Peer(server.tls_port, ctx) as peer:
        assert worker_of(peer)
        assert peer.end() == "notified"
    with Peer(server.tls_port, ctx) as peer:
        assert worker_of(peer)
        hup(server)  # its worker drains
        assert peer.end() == "notified"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cut_answer_is_no_end(make, origin, pki, version):
    """The origin breaks off: nobody may take it for the whole."""
    server = set_up(make, origin, pki.a, upstream={"patience": "1s"}).start()
    obj = origin.add("o", 2 * MIB, cut_after=700_000, ranges=False)
    with Peer(server.tls_port, context(pki.root, VERSIONS[version])) as peer:
        peer.send(request(obj))
        res = peer.response()
        assert not res.whole and len(res.body) <= 700_000
        client.same(obj.seed, 0, res.body)
        assert peer.ended in ("cut", "reset")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("notify", [True, False])
def test_half_closed(connect, thing, version, notify):
    """Who has said all may still hear the answer, also a slow one that has
    not been fetched."""
    obj = thing(3 * MIB, rate=6 * MIB)
    with connect(VERSIONS[version]) as peer:
        peer.send(request(obj, 5, 100) + request(obj))
        if notify:
            peer.notify()
        peer.sock.shutdown(socket.SHUT_WR)
        client.same(obj.seed, 5, peer.response().body, 100)
        res = peer.response()
        assert res.whole
        client.same(obj.seed, 0, res.body, obj.size)


def test_too_many_connections(make, origin, pki):
    """A handshake is dearer than a closed door."""
    server = set_up(make, origin, pki.a, main={"workers": 1},
                    http={"max_connections": 3}).start()
    ctx = context(pki.root)
    peers = [Peer(server.tls_port, ctx) for _ in range(3)]
    try:
        for peer in peers:
            assert worker_of(peer)
        with raw(server) as sock:
            sock.sendall(hello())
            assert read_all(sock) == b""
        assert server.stats()["connections_refused"] >= 1
        assert all(worker_of(peer) for peer in peers)
        peers.pop().close()
        harness.until(lambda: server.stats()["connections"] == 2, "one left")
        with Peer(server.tls_port, ctx) as peer:
            assert worker_of(peer)
    finally:
        for peer in peers:
            peer.close()

"""Origins behind TLS: a real nginx, over HTTP/2 and over HTTP/1.1, whose
certificate is checked against [upstream] ca_file."""
import json
import os
import random
import shutil
import signal
import socket
import subprocess

import pytest

import harness

SIZE = 5 * 1024 * 1024 + 321
NAMES = ("whole", "part")

CONF = """
{user}
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    log_format short '$server_protocol $status $request_method $uri';
    access_log {folder}/access.log short;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type video/mp4;
    server {{
        listen 127.0.0.1:{port} ssl{http2};
        ssl_certificate {cert};
        ssl_certificate_key {key};
        root {folder}/root;
    }}
}}
"""


class Certificate:
    """Self-signed, so that it is its own authority."""

    def __init__(self, folder, name, subject):
        self.cert = os.path.join(folder, f"{name}.crt")
        self.key = os.path.join(folder, f"{name}.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey",
             "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj",
             "/CN=reelcache test", "-addext", f"subjectAltName={subject}",
             "-keyout", self.key, "-out", self.cert],
            check=True, stdin=subprocess.DEVNULL, capture_output=True)


class Nginx:
    """In the foreground, with a folder of its own."""

    def __init__(self, folder, certificate, http2):
        self.folder = str(folder)
        self.port = harness.free_port()
        self.data = random.Random(self.port).randbytes(SIZE)
        os.makedirs(os.path.join(self.folder, "root"))
        for name in NAMES:
            path = os.path.join(self.folder, "root", name)
            with open(path, "wb") as f:
                f.write(self.data)
            os.utime(path, (1.6e9, 1.6e9))  # old, so fresh for long
        self.conf = os.path.join(self.folder, "nginx.conf")
        with open(self.conf, "w") as f:
            f.write(CONF.format(
                folder=self.folder, port=self.port,
                cert=certificate.cert, key=certificate.key,
                http2=" http2" if http2 else "",
                user="user root;" if os.geteuid() == 0 else ""))
        self.process = None

    def __enter__(self):
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        with open(os.path.join(self.folder, "output"), "wb") as output:
            self.process = subprocess.Popen(
                [program, "-p", self.folder, "-c", self.conf],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            harness.until(self.listens, "nginx listens")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        pids = [self.process.pid, *harness.children_of(self.process.pid)]
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait(10)

    def read(self, name):
        try:
            with open(os.path.join(self.folder, name)) as f:
                return f.read()
        except OSError:
            return ""

    def listens(self):
        assert self.process.poll() is None, \
            self.read("output") + self.read("error.log")
        try:
            socket.create_connection(("127.0.0.1", self.port), 2).close()
            return True
        except OSError:
            return False

    def asked(self):
        """[(protocol, status, method, path)] of the requests that ended."""
        return [tuple(line.split()) for line in
                self.read("access.log").splitlines()]


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    return Certificate(tmp_path_factory.mktemp("right"), "right",
                       "DNS:localhost,IP:127.0.0.1")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """As good, but nobody's whom the origin knows."""
    return Certificate(tmp_path_factory.mktemp("other"), "other",
                       "DNS:localhost,IP:127.0.0.1")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """For another host."""
    return Certificate(tmp_path_factory.mktemp("stranger"), "stranger",
                       "DNS:video.example,IP:192.0.2.1")


def start(make, nginx, host, ca_file):
    upstream = {"connect_timeout": "3s", "first_byte_timeout": "5s"}
    if ca_file is not None:
        upstream["ca_file"] = ca_file
    return make(source__test={
        "type": "template", "url": f"https://{host}:{nginx.port}/{{id}}",
        "allow_private": True}, upstream=upstream).start()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("http2, protocol", [
    (True, "HTTP/2.0"), (False, "HTTP/1.1")], ids=["http2", "http1"])
def test_bytes(make, tmp_path, right, host, http2, protocol):
    with Nginx(tmp_path / "nginx", right, http2) as nginx:
        server = start(make, nginx, host, right.cert)

        # a range of a cold object, then all of another, then both as hits
        first, last = 1234567, 3456789
        for _ in range(2):
            res = server.get("part", range=f"bytes={first}-{last}")
            assert res.status == 206
            assert res.content_range == (first, last + 1, SIZE)
            assert res.whole and res.body == nginx.data[first:last + 1]

            res = server.get("whole")
            assert res.status == 200
            assert res.headers["content-length"] == str(SIZE)
            assert res.whole and res.body == nginx.data
            server.wait_idle()

        harness.until(lambda: {f"/{name}" for name in NAMES} <=
                      {entry[3] for entry in nginx.asked()},
                      "nginx has logged both")
        asked = nginx.asked()
        assert {entry[0] for entry in asked} == {protocol}, asked
        assert {entry[1] for entry in asked} <= {"200", "206"}, asked


def refused(server, nginx):
    for fields in ({}, {"range": "bytes=0-99"}):
        res = server.get("whole", **fields)
        assert res.status == 502
        assert res.headers["content-type"] == "application/problem+json"
        problem = json.loads(res.body)  # and nothing but that
        assert problem["status"] == 502
        assert res.headers["content-range"] is None
    # not even asked for
    assert nginx.asked() == []
    assert server.stats()["origin_bytes"] == 0
    assert server.chunk_bytes() == 0


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1"])
def test_unknown_authority(make, tmp_path, right, http2):
    with Nginx(tmp_path / "nginx", right, http2) as nginx:
        refused(start(make, nginx, "localhost", None), nginx)


def test_other_authority(make, tmp_path, right, other):
    with Nginx(tmp_path / "nginx", right, True) as nginx:
        refused(start(make, nginx, "localhost", other.cert), nginx)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_other_name(make, tmp_path, stranger, host):
    with Nginx(tmp_path / "nginx", stranger, True) as nginx:
        refused(start(make, nginx, host, stranger.cert), nginx)

"""Origins behind TLS: a real nginx, over HTTP/2 and over HTTP/1.1, whose
certificate is checked against [upstream] ca_file."""
import json
import random

import pytest

import harness
import nginx
from certificate import Certificate

SIZE = 5 * 1024 * 1024 + 321
NAMES = ("whole", "part")

SERVER = """
server {{
    listen 127.0.0.1:{port} ssl{http2};
    ssl_certificate {cert};
    ssl_certificate_key {key};
}}
"""


class Nginx(nginx.Nginx):
    def __init__(self, folder, pair, http2):
        self.port = harness.free_port()
        super().__init__(folder, SERVER.format(
            port=self.port, cert=pair.cert, key=pair.key,
            http2=" http2" if http2 else ""), [self.port])
        self.data = random.Random(self.port).randbytes(SIZE)
        for name in NAMES:
            self.add_file(name, self.data)


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

"""Origins at private addresses: refused unless a source allows them, also
behind names and redirects.

The tests run in a network namespace of their own, where public addresses are
on the loopback interface."""
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import traceback

import pytest

import client
import harness
import origin as origins

PUBLIC = "198.51.101.7"  # in no special range
PUBLIC6 = "2a00:1450::7"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
TRANSPORTS = client.TRANSPORTS


def in_namespace(call):
    """Calls in a child process that has a network of its own."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        fault = "died"
        try:
            os.close(read_end)
            libc = ctypes.CDLL(None, use_errno=True)
            flags = CLONE_NEWNET | (0 if os.getuid() == 0 else CLONE_NEWUSER)
            uid, gid = os.getuid(), os.getgid()
            if libc.unshare(flags) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            if flags & CLONE_NEWUSER:
                for name, text in (("setgroups", "deny"),
                                   ("uid_map", f"0 {uid} 1"),
                                   ("gid_map", f"0 {gid} 1")):
                    with open(f"/proc/self/{name}", "w") as f:
                        f.write(text)
            for args in (["link", "set", "lo", "up"],
                         ["addr", "add", f"{PUBLIC}/32", "dev", "lo"],
                         ["addr", "add", "10.1.2.3/32", "dev", "lo"],
                         ["addr", "add", "169.254.1.1/32", "dev", "lo"],
                         ["addr", "add", f"{PUBLIC6}/128", "dev", "lo",
                          "nodad"]):
                subprocess.run(["ip", *args], check=True)
            call()
            fault = ""
        except BaseException:
            fault = traceback.format_exc()
        finally:
            os.write(write_end, fault.encode()[-60000:])
            sys.stdout.flush()
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as f:
        fault = f.read()
    os.waitpid(pid, 0)
    assert fault == "", fault


class Place:
    """A server with one source, and the origins around it."""

    def __init__(self, over, url, **settings):
        self.folder = tempfile.TemporaryDirectory(prefix="reel-run-")
        self.server = harness.Reelcache(
            self.folder.name, transport=over,
            source__test={"type": "template", "url": url, **settings},
            upstream={"connect_timeout": "1s", "first_byte_timeout": "1s"})

    def __enter__(self):
        return self.server.start()

    def __exit__(self, kind, *_):
        try:
            self.server.close()
        finally:
            if kind is not None:
                print(self.server.log_text())
                if self.server.process.poll() is None:
                    self.server.kill_all()
        assert self.server.reports_found() == []
        self.folder.cleanup()


def refused(server, name="o"):
    res = server.get(name)
    assert res.status in (403, 502), res.status
    assert res.headers["content-type"] == "application/problem+json"
    return json.loads(res.body)


def test_loopback_is_refused(make, origin):
    obj = origin.add("o", 100)
    server = make(origin, source__test={"allow_private": False}).start()
    refused(server)
    assert obj.requests == [] and origin.accepted == 0


@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0", "[::1]",
    "[::ffff:127.0.0.1]", "2130706433", "0x7f000001", "127.1", "0177.0.0.1",
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "[fe80::1]", "[fd00::1]", "[::]", "224.0.0.1",
    "255.255.255.255", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
])
def test_private_hosts(make, origin, host):
    server = make(source__test={
        "type": "template", "url": f"http://{host}:{origin.port}/o/{{id}}"},
        upstream={"connect_timeout": "2s"})
    origin.add("o", 100)
    if harness.run("-c", server.conf, "-t",
                   report=os.path.join(server.reports, "t")).returncode == 78:
        return  # not even accepted as a URL
    server.start()
    refused(server)
    assert origin.accepted == 0


def test_public_address_and_redirects(over):
    def check():
        with origins.Origin(host=PUBLIC) as public, \
                origins.Origin(host="127.0.0.1") as loop, \
                origins.Origin(host="10.1.2.3") as ten, \
                origins.Origin(host="169.254.1.1") as local, \
                origins.Origin(host="::1") as loop6, \
                Place(over, public.template) as server:
            good = public.add("good", 1000)
            client.same(good.seed, 0, server.get("good").body, 1000)
            good2 = public.add("round", 1, redirect=public.url("good"))
            client.same(good.seed, 0, server.get("round").body, 1000)
            assert len(good2.requests) == 1
            for private in (loop, ten, local, loop6):
                secret = private.add("secret", 1000)
                host = f"[{private.host}]" if ":" in private.host \
                    else private.host
                name = "to-" + "".join(
                    c for c in private.host if c.isalnum())
                public.add(name, 1, redirect=
                           f"http://{host}:{private.port}/o/secret")
                refused(server, name)
                assert secret.requests == [] and private.accepted == 0
            public.add("named", 1, redirect=
                       f"http://localhost:{loop.port}/o/secret")
            refused(server, "named")
            public.add("twice", 1, redirect=public.url("named"))
            refused(server, "twice")
            assert loop.accepted == loop6.accepted == 0
    in_namespace(check)


def test_redirect_to_a_private_address_when_allowed(over):
    def check():
        with origins.Origin(host=PUBLIC) as public, \
                origins.Origin(host="127.0.0.1") as loop, \
                Place(over, public.template, allow_private=True) as server:
            target = loop.add("target", 1000)
            public.add("o", 1, redirect=loop.url("target"))
            client.same(target.seed, 0, server.get("o").body, 1000)
    in_namespace(check)


def test_public_ipv6(over):
    def check():
        with origins.Origin(host=PUBLIC6) as public, \
                Place(over, f"http://[{PUBLIC6}]:{public.port}/o/{{id}}"
                      ) as server:
            good = public.add("good", 1000)
            client.same(good.seed, 0, server.get("good").body, 1000)
    in_namespace(check)

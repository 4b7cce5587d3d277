"""The service as README installs it, under a real systemd: start, reload,
crash, hang, stop, sandbox, socket, certbot's hook, TLS of the kernel.

Installs into the system it runs in: only for a virtual machine (run_tests)."""
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(TOP / "tests" / "run"))

import content  # noqa: E402
import tls_peer  # noqa: E402
from origin import Origin  # noqa: E402

MIB = 1 << 20
CONF = pathlib.Path("/etc/reelcache/reelcache.ini")
TLS = pathlib.Path("/etc/reelcache/tls")
UNIT = "reelcache.service"
PAGE = pathlib.Path("/srv/page.html")
HOOK = "/etc/letsencrypt/renewal-hooks/deploy/reelcache"


def run(*command, check=True, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, (command, done.stdout,
                                               done.stderr)
    return done


def shown(name, unit=UNIT):
    return run("systemctl", "show", "-P", name, unit).stdout.strip()


def main_pid():
    return int(shown("MainPID"))


def journal():
    run("journalctl", "--sync")
    return run("journalctl", "-u", UNIT, "--no-pager").stdout


def until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, (what, journal()[-3000:])
        time.sleep(.1)


def get(path, port=8090, field=None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        headers={} if field is None else {"Range": field})
    with urllib.request.urlopen(request, timeout=100) as answer:
        return answer.read()


def ready():
    try:
        return get("/readyz")
    except (OSError, urllib.error.URLError):
        return None


def processes():
    """Of the user reelcache."""
    return run("pgrep", "-u", "reelcache", check=False).stdout.split()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Installed as README says, with a folder of films.  Where certbot would
    put its certificates."""
    assert pathlib.Path("/proc/1/comm").read_text() == "systemd\n"
    assert pathlib.Path("/sys/class/dmi/id/sys_vendor").read_text() == \
        "QEMU\n", "this changes the system: only in a virtual machine"
    run("make", "-C", os.environ["VM_BUILD"], "install")
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create", "reelcache.conf")
    run("systemctl", "daemon-reload")
    folder = pathlib.Path("/srv/films")
    folder.mkdir(parents=True)
    (folder / "film.mp4").write_bytes(content.span("film", 0, 3 * MIB))
    pki = tmp_path_factory.mktemp("pki")
    root = tls_peer.Authority(str(pki), "root")
    live = pki / "live"
    live.mkdir()
    for name in "one", "two":
        one = root.issue(name, "a.test")
        (live / name).mkdir()
        (live / name / "fullchain.pem").write_bytes(
            pathlib.Path(one.cert).read_bytes())
        (live / name / "privkey.pem").write_bytes(
            pathlib.Path(one.key).read_bytes())
    install_hook()
    # the first time by hand, before there is a service to reload
    run(HOOK, check=False, env={**os.environ,
                                "RENEWED_LINEAGE": str(live / "one")})
    CONF.write_text(
        "[resolver]\ntimeout = 90s\n[listen:all]\naddress = 127.0.0.1:8090\n"
        "[listen:https]\naddress = 127.0.0.1:8443\ntls = yes\n"
        f"certificate = {TLS}/films.pem\nkey = {TLS}/films.key\n"
        "[source:films]\ntype = directory\npath = /srv/films\n"
        "[source:web]\ntype = command\nurl = http://127.0.0.1:8000/o/{id}\n"
        "allow_private = yes\n")
    run("systemctl", "enable", "--now", UNIT)
    until(ready, "it is ready")
    yield live
    run("systemctl", "stop", UNIT)


def install_hook():
    """The lines of README."""
    lines = (TOP / "README").read_text().splitlines()
    begin = lines.index("        #!/bin/sh")
    end = next(n for n in range(begin, len(lines)) if not lines[n].strip())
    pathlib.Path(HOOK).parent.mkdir(parents=True)
    pathlib.Path(HOOK).write_text(
        "\n".join(line[8:] for line in lines[begin:end]) + "\n")
    os.chmod(HOOK, 0o755)


def same(data, start=0):
    assert content.first_wrong("film", start, data) is None


def test_is_active(films):
    assert shown("ActiveState") == "active"
    assert shown("SubState") == "running"
    assert re.fullmatch(r"Serving with \d+ workers", shown("StatusText"))
    same(get("/proxy/film?source=films"))
    assert run("reelcachectl", "status").stdout
    assert len(processes()) >= 4
    for pid in processes():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^NoNewPrivs:\s1$", status, re.M)
        assert re.search(r"^CapEff:\s0+$", status, re.M)
        assert re.search(r"^Seccomp:\s2$", status, re.M)


def fetch_tls(live):
    """One connection with TLS; the certificate that it saw."""
    ctx = ssl.create_default_context(
        cafile=str(live.parent / "root.crt"))
    with socket.create_connection(("127.0.0.1", 8443), 20) as sock, \
            ctx.wrap_socket(sock, server_hostname="a.test") as tls:
        tls.sendall(b"GET /proxy/film?source=films HTTP/1.1\r\n"
                    b"Host: a.test\r\nConnection: close\r\n\r\n")
        data = b""
        while got := tls.recv(65536):
            data += got
        same(data.split(b"\r\n\r\n", 1)[1])
        assert data.count(b"\r\n\r\n") and len(data) > 3 * MIB
        return tls.getpeercert(binary_form=True)


def counted(name):
    return int(re.search(rf"^reelcache_{name} (\d+)$",
                         get("/metrics").decode(), re.M)[1])


def test_the_kernel_encrypts(films):
    before = counted("tls_by_kernel")
    fetch_tls(films)
    until(lambda: counted("tls_by_kernel") == before + 1, "it is counted")


def test_reload_and_certbots_hook(films):
    first, old = fetch_tls(films), main_pid()
    assert os.stat(TLS / "films.key").st_mode & 0o777 == 0o640
    run(HOOK, env={**os.environ, "RENEWED_LINEAGE": str(films / "two")})
    until(lambda: fetch_tls(films) != first, "the new certificate is served")
    assert main_pid() == old


def test_a_bad_file_fails_the_reload(films):
    good, old = CONF.read_text(), main_pid()
    CONF.write_text(good + "[cache]\nno_such_option = 1\n")
    failed = run("systemctl", "reload", UNIT, check=False)
    CONF.write_text(good)
    assert failed.returncode != 0
    assert "no_such_option" in journal()
    assert main_pid() == old and ready()


def test_crash_is_followed_by_a_start(films):
    old = main_pid()
    os.kill(old, signal.SIGKILL)
    until(lambda: main_pid() not in (0, old) and ready(), "it is back")
    same(get("/proxy/film?source=films"))


def test_killed_worker_is_replaced(films):
    for pid in processes():
        if b"worker" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGKILL)
    until(ready, "there are workers")
    same(get("/proxy/film?source=films", field="bytes=1000-1999"), 1000)
    assert shown("ActiveState") == "active"


def test_hang_is_noticed(films):
    """The watchdog."""
    old, restarts = main_pid(), int(shown("NRestarts"))
    os.kill(old, signal.SIGSTOP)
    until(lambda: int(shown("NRestarts")) > restarts and ready(),
          "it was started again", 90)
    assert main_pid() != old


def test_stop_drains(films):
    """A response that runs goes on; nothing is left."""
    got = []

    def slow():
        with socket.create_connection(("127.0.0.1", 8090), 20) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            sock.sendall(b"GET /proxy/film?source=films HTTP/1.1\r\n"
                         b"Host: h\r\n\r\n")
            data = sock.recv(65536)
            time.sleep(1)
            while piece := sock.recv(65536):
                data += piece
        got.append(data.split(b"\r\n\r\n", 1)[1])

    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(.5)
    run("systemctl", "stop", UNIT)
    thread.join()
    assert len(got[0]) == 3 * MIB
    same(got[0])
    assert shown("ActiveState") == "inactive" and shown("Result") == "success"
    assert processes() == []


def test_socket_holds_connections(films):
    """Who connects while there is no service waits for it."""
    run("systemctl", "start", "reelcache.socket")
    same(get("/proxy/film?source=films"))
    assert shown("ActiveState") == "active"
    assert "inherited=yes" in journal()
    run("systemctl", "stop", "reelcache.socket", UNIT)


def test_wrong_file_is_not_tried_for_ever(films):
    good = CONF.read_text()
    CONF.write_text("[main]\nworkers = many\n")
    try:
        assert run("systemctl", "start", UNIT, check=False).returncode != 0
        time.sleep(3)
        assert shown("ActiveState") == "failed"
        assert int(shown("NRestarts")) == 0
    finally:
        CONF.write_text(good)
        run("systemctl", "reset-failed", UNIT)
    run("systemctl", "start", UNIT)
    until(ready, "it is ready")


def test_ytdlp_runs_in_the_sandbox(films):
    with Origin(port=8000) as origin:
        film = origin.add("film.mp4", MIB)
        PAGE.write_text(f'<title>x</title><video src="{origin.url(film.name)}"'
                        ' type="video/mp4"></video>')
        origin.add("page.html", content_type="text/html", file=str(PAGE))
        found = json.loads(get("/resolve/page.html?source=web"))
        assert found["renditions"][0]["type"] == "video/mp4"
        data = get("/proxy/page.html?source=web")
        assert len(data) == MIB
        assert content.first_wrong(film.seed, 0, data) is None
    assert film.requests[0].headers["user-agent"].startswith("Mozilla/")

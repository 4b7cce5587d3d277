"""Signals, reloads, the service manager."""
import os
import re
import signal
import socket
import sys

import pytest

import client
import harness

MIB = 1 << 20


def start(make, origin, **sections):
    return make(origin, **sections).start()


def reload(server, word="reloaded"):
    mark = server.mark()
    server.signal(signal.SIGHUP)
    return server.wait_log(word, mark, 15)[0]


# --- reload

def test_reload_applies_the_new_file(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 1000)
    old = server.workers()
    assert server.get("o").headers["x-worker"] is not None
    server.set(main={"debug_headers": False, "workers": 3},
               http={"cors_origin": "https://new.test"},
               source__extra={"type": "template", "allow_private": True,
                              "url": origin.template})
    reload(server)
    harness.until(lambda: len(server.workers()) == 3, "three workers")
    assert not set(server.workers()) & set(old)
    res = server.get("o", source="extra")
    assert res.headers["x-worker"] is None
    assert res.headers["access-control-allow-origin"] == "https://new.test"
    client.same(obj.seed, 0, res.body, 1000)
    harness.until(lambda: not any(harness.alive(p) for p in old),
                  "the old ones have ended")


def test_reload_during_responses(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 4 * MIB, rate=2 * MIB)
    viewers = [harness.Later(server.get, obj.name) for _ in range(4)]
    harness.until(lambda: obj.body_bytes > MIB, "a quarter came")
    reload(server)
    new = server.get(obj.name, range="bytes=0-99999")
    client.same(obj.seed, 0, new.body, 100000)
    for v in viewers:
        res = v.value()
        assert res.whole
        client.same(obj.seed, 0, res.body, obj.size)
        assert res.longest_pause <= 1
    assert obj.body_bytes <= obj.size * 1.06


def test_no_request_fails_while_reloading(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 50_000)
    server.get("o")
    ended = []

    def load():
        count = 0
        while not ended:
            res = server.get("o", range=f"bytes={count % 1000}-")
            assert res.status == 206 and res.whole
            client.same(obj.seed, count % 1000, res.body, obj.size)
            count += 1
        return count

    clients = [harness.Later(load) for _ in range(3)]
    for _ in range(3):
        reload(server)
    ended.append(True)
    assert all(c.value() > 3 for c in clients)


@pytest.mark.parametrize("text,line", [
    ("[nonsense]\nx = 1\n", 1), ("[cache]\nsize = big\n", 2),
    ("[main]\nworkers = 999\n", 2)])
def test_reload_of_a_bad_file(make, origin, text, line):
    server = start(make, origin)
    origin.add("o", 1000)
    workers, good = server.workers(), open(server.conf).read()
    with open(server.conf, "w") as f:
        f.write(text)
    refused = reload(server, "reload_refused")
    assert f"{server.conf}:{line}" in refused["reason"].replace("\\", "")
    assert server.workers() == workers
    assert server.get("o").status == 200
    with open(server.conf, "w") as f:
        f.write(good)
    reload(server)


def test_reload_of_what_takes_a_restart(make, origin):
    server = start(make, origin)
    workers = server.workers()
    server.set(cache={"path": server.cache + "-other"})
    os.mkdir(server.cache + "-other")
    assert "path" in reload(server, "reload_refused")["reason"]
    assert server.workers() == workers


def test_reload_of_an_address_in_use(make, origin):
    server = start(make, origin)
    taken = socket.create_server(("127.0.0.1", 0))
    server.set(listen__second={
        "address": f"127.0.0.1:{taken.getsockname()[1]}"})
    reload(server, "reload_refused")
    assert client.fetch(server.port, "/healthz").status == 200
    taken.close()
    reload(server)
    assert client.fetch(int(server.sections["listen:second"]["address"]
                            .rsplit(":")[1]), "/healthz").status == 200


def test_reload_closes_what_is_not_listened_to_any_more(make, origin):
    port = harness.free_port()
    server = start(make, origin,
                   listen__second={"address": f"127.0.0.1:{port}"})
    assert client.fetch(port, "/healthz").status == 200
    server.set(listen__second=None)
    reload(server)

    def closed():
        try:
            client.fetch(port, "/healthz", timeout=2)
        except (ConnectionRefusedError, ConnectionResetError, client.Cut):
            return True
        return False
    harness.until(closed, "the port is closed")
    assert client.fetch(server.port, "/healthz").status == 200


def test_many_reloads(make, origin):
    server = start(make, origin)
    for _ in range(4):
        server.signal(signal.SIGHUP)
    server.wait_log("reloaded", seconds=15)
    harness.until(server.ready, "it serves")
    # two workers, prefetcher and resolver
    harness.until(lambda: len(server.children()) == 4, "no child too many", 15)


# --- logs

def test_usr1_reopens_logs(make, origin):
    server = start(make, origin)
    origin.add("o", 1000)
    server.get("o")
    server.wait_access(lambda e: e["target"] == "/proxy/o")
    for path in (server.log, server.access_log):
        os.rename(path, path + ".1")
    server.signal(signal.SIGUSR1)
    harness.until(lambda: os.path.exists(server.log) and
                  os.path.exists(server.access_log), "new files")

    def noted():
        server.get("o", range="bytes=0-1")  # by a worker that has done it
        return any(e["status"] == 206 for e in server.access())
    harness.until(noted, "lines go to the new file", 5, 0.1)
    size = os.path.getsize(server.log + ".1")
    server.signal(signal.SIGKILL, server.workers()[0])
    server.wait_log("child_died")
    assert os.path.getsize(server.log + ".1") == size


# --- the end

def test_term_drains(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 3 * MIB, rate=2 * MIB)
    viewers = [harness.Later(server.get, obj.name) for _ in range(3)]
    idle = server.connect()
    idle.ask("/healthz")
    idle.response()
    harness.until(lambda: obj.body_bytes > MIB, "a third came")
    server.signal(signal.SIGTERM)
    server.wait_log("stopping")
    assert idle.closed()

    def refused():
        try:
            client.fetch(server.port, "/healthz", timeout=1)
            return False
        except (ConnectionError, client.Cut, TimeoutError):
            return True
    harness.until(refused, "new connections are refused", 3)
    for v in viewers:
        res = v.value()
        assert res.whole
        client.same(obj.seed, 0, res.body, obj.size)
    assert server.wait() == 0
    assert server.log_lines("stopped")[0]["status"] == "0"


def test_shutdown_timeout(make, origin):
    server = start(make, origin, main={"shutdown_timeout": "700ms"})
    obj = origin.add("o", 64 * MIB, rate=MIB)
    v = harness.Later(server.get, obj.name)
    harness.until(lambda: obj.body_bytes > MIB // 2, "it arrives")
    server.signal(signal.SIGTERM)
    server.wait(8)
    res = v.value()
    assert not res.whole
    client.same(obj.seed, 0, res.body)


def test_second_term_ends_at_once(make, origin):
    server = start(make, origin, main={"shutdown_timeout": "1h"})
    obj = origin.add("o", 64 * MIB, rate=MIB)
    v = harness.Later(server.get, obj.name)
    harness.until(lambda: obj.body_bytes > MIB // 2, "it arrives")
    server.signal(signal.SIGTERM)
    server.wait_log("stopping")
    assert server.process.poll() is None
    server.signal(signal.SIGTERM)
    server.wait(5)
    assert not v.value().whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_other_signals_that_end_it(make, origin, number):
    server = start(make, origin)
    pids = [server.pid, *server.children()]
    server.signal(number)
    assert server.wait() == 0
    assert not any(harness.alive(p) for p in pids)


def test_term_during_the_start(make, origin):
    server = make(origin).launch()
    harness.until(lambda: server.log_lines("start"), "it starts")
    server.signal(signal.SIGTERM)
    server.wait(10)


def test_address_in_use(make, origin):
    server = start(make, origin)
    other = make(origin, listen__main={"address": f"127.0.0.1:{server.port}"})
    other.launch()
    assert other.wait() == 1
    with open(os.path.join(other.folder, "stderr")) as f:
        text = f.read() + other.log_text()
    assert f"127.0.0.1:{server.port}" in text and "ev=start_failed" in text


def test_unwritable_cache(make, origin):
    server = make(origin, cache={"path": "/proc/nowhere"})
    server.launch()
    assert server.wait() in (1, 78)


# --- the service manager

class Notify:
    def __init__(self, path):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.settimeout(0.05)
        self.seen = []

    def wait(self, word, seconds=10):
        start = len(self.seen)

        def come():
            try:
                self.seen.append(self.sock.recv(4096).decode().split("\n"))
            except TimeoutError:
                pass
            return any(word in lines for lines in self.seen[start:])
        harness.until(come, word, seconds)
        return self.seen[-1]


def test_notify(make, origin):
    server = make(origin)
    notify = Notify(os.path.join(server.folder, "notify"))
    server.env = {"NOTIFY_SOCKET": notify.path}
    server.launch()
    notify.wait("READY=1")
    harness.until(server.ready, "it is ready as it has said", 1)
    server.signal(signal.SIGHUP)
    lines = notify.wait("RELOADING=1")
    assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in lines)
    notify.wait("READY=1")
    with open(server.conf, "a") as f:
        f.write("[bad]\n")
    server.signal(signal.SIGHUP)
    notify.wait("RELOADING=1")
    lines = notify.wait("READY=1")
    assert any("STATUS" in line and server.conf in line for line in lines)
    server.signal(signal.SIGTERM)
    notify.wait("STOPPING=1")
    assert server.wait() == 0
    assert not any("WATCHDOG=1" in lines for lines in notify.seen)


def test_watchdog(make, origin):
    server = make(origin)
    notify = Notify(os.path.join(server.folder, "notify"))
    server.env = {"NOTIFY_SOCKET": notify.path, "WATCHDOG_USEC": "400000"}
    server.launch()
    notify.wait("READY=1")
    for _ in range(3):
        notify.wait("WATCHDOG=1", 0.4 * 1.5)


ACTIVATE = """
import fcntl, os, sys
fds = [int(n) for n in sys.argv[1].split(",")]
# above any that is open, as theirs may be 3, 4 or the like
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, max(fds) + 10) for fd in fds]
for n, copy in enumerate(copies):
    os.dup2(copy, 3 + n)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)),
                  LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


def test_socket_activation(make, origin):
    server = make(origin)
    origin.add("o", 1000)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", server.port))
    listener.listen(64)
    admin = socket.socket(socket.AF_UNIX)
    admin.bind(server.admin)
    admin.listen(5)
    # a client that comes before the server waits for it
    early = server.connect()
    early.ask("/proxy/o")
    fds = [listener.fileno(), admin.fileno()]
    server.wrapper = [sys.executable, "-c", ACTIVATE,
                      ",".join(map(str, fds)), "main:admin"]
    server.pass_fds = fds
    server.start()
    assert early.response().status == 200
    assert server.log_lines("listening")[0]["inherited"] == "yes"
    harness.threads(*[lambda: server.get("o")] * 10)
    reload(server)
    assert server.get("o").status == 200
    assert server.stop() == 0
    # the manager's socket still takes connections
    socket.create_connection(("127.0.0.1", server.port), 2).close()


def test_socket_of_an_address_that_no_section_names(make, origin):
    server = make(origin)
    listener = socket.create_server(("127.0.0.1", 0))
    server.wrapper = [sys.executable, "-c", ACTIVATE,
                      str(listener.fileno()), "other"]
    server.pass_fds = [listener.fileno()]
    server.start()
    origin.add("o", 1000)
    port = listener.getsockname()[1]
    for _ in range(4):
        assert client.fetch(port, "/proxy/o").status == 200


def test_other_user(make, origin):
    """As root: children run as the user that is named."""
    server = make(origin, main={"user": "nobody"})
    if os.getuid() != 0:
        # a name cannot be taken: it goes on as it is, and says so
        server.start()
        server.wait_log("user_kept")
        return
    os.chmod(os.path.dirname(server.folder), 0o755)
    os.chmod(server.reports, 0o777)
    os.chmod(server.scratch, 0o1777)
    server.start()
    obj = origin.add("o", 100_000)
    client.same(obj.seed, 0, server.get("o").body, obj.size)
    uids = {pid: os.stat(f"/proc/{pid}").st_uid for pid in server.children()}
    assert 0 not in uids.values()
    assert os.stat(f"/proc/{server.pid}").st_uid == 0
    for pid in uids:
        with open(f"/proc/{pid}/status") as f:
            caps = re.search(r"CapEff:\s*(\w+)", f.read()).group(1)
        assert int(caps, 16) == 0
    reload(server)
    assert server.get("o", range="bytes=0-9").status == 206
    server.signal(signal.SIGUSR1)
    server.wait_log("log_reopened")


def test_ipv6(make, origin):
    port = harness.free_port("::1")
    server = start(make, origin,
                   listen__six={"address": f"[::1]:{port}"})
    obj = origin.add("o", 1000)
    res = client.fetch(port, "/proxy/o", host="::1")
    client.same(obj.seed, 0, res.body, 1000)
    server.wait_access(lambda e: e["client"] == "::1")

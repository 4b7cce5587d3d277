"""Starts reelcache for a test, watches it, and ends it."""
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time

import certificate
import client
import ports

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
READY_S = 20
STOP_S = 20


def _find(name, variable):
    given = os.environ.get(variable)
    places = [given] if given else [
        os.path.join(TOP, folder, name)
        for folder in ("build-asan", "build", ".")] + [shutil.which(name)]
    for place in places:
        if place and os.access(place, os.X_OK) and os.path.isfile(place):
            return os.path.abspath(place)
    raise FileNotFoundError(f"{name} is not built; set {variable}")


def reelcache_bin():
    return _find("reelcache", "REELCACHE_BIN")


def reelcachectl_bin():
    return _find("reelcachectl", "REELCACHECTL_BIN")


def until(condition, what, seconds=10, step=0.01):
    """Waits for a true value and returns it."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(step)


free_port = ports.free


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def threads(*calls):
    """Runs all at the same time; their values, or the first exception."""
    results = [None] * len(calls)
    faults = []

    def run(n, call):
        try:
            results[n] = call()
        except BaseException as fault:
            faults.append(fault)

    running = [threading.Thread(target=run, args=(n, call), daemon=True)
               for n, call in enumerate(calls)]
    for t in running:
        t.start()
    for t in running:
        t.join(120)
        assert not t.is_alive(), "a client is stuck"
    if faults:
        raise faults[0]
    return results


class Later:
    """A call in a thread of its own; value() waits for it."""

    def __init__(self, call, *args, **kwargs):
        self.result = None
        self.fault = None

        def run():
            try:
                self.result = call(*args, **kwargs)
            except BaseException as fault:
                self.fault = fault

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def value(self, timeout=60):
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "a client is stuck"
        if self.fault is not None:
            raise self.fault
        return self.result

    @property
    def done(self):
        return not self.thread.is_alive()


def ini_text(sections):
    lines = []
    for section, options in sections.items():
        lines.append(f"[{section}]")
        for name, value in options.items():
            if value is True or value is False:
                value = "yes" if value else "no"
            lines.append(f"{name} = {value}")
        lines.append("")
    return "\n".join(lines)


def test_environment(report_path):
    """For our binaries: sanitizers report to files."""
    env = dict(os.environ)
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID",
                 "LISTEN_FDNAMES", "WATCHDOG_USEC", "JOURNAL_STREAM",
                 "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
                 "all_proxy", "ALL_PROXY"):
        env.pop(name, None)
    env["ASAN_OPTIONS"] = f"log_path={report_path}:detect_leaks=1"
    env["UBSAN_OPTIONS"] = f"print_stacktrace=1:log_path={report_path}"
    return env


class Reelcache:
    """An instance in a folder of its own."""

    def __init__(self, folder, origin=None, transport="h1", **sections):
        """sections: conf of the form main={"workers": 2}; a colon in a
        section's name is written as two underscores.  transport: how get(),
        fetch() and connect() talk to it."""
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.cache = os.path.join(self.folder, "cache")
        self.scratch = os.path.join(self.folder, "scratch")
        self.admin = os.path.join(self.folder, "admin.sock")
        self.log = os.path.join(self.folder, "log")
        self.access_log = os.path.join(self.folder, "access")
        self.conf = os.path.join(self.folder, "reelcache.ini")
        self.reports = os.path.join(self.folder, "sanitizer")
        self.port = free_port()
        self.transport = transport
        self.standing = []  # connections on which a request was given up
        for path in (self.cache, self.scratch):
            os.makedirs(path, exist_ok=True)
        os.makedirs(self.reports, exist_ok=True)
        self.process = None
        self.env = {}
        self.wrapper = []
        self.pass_fds = ()
        self.preexec = None
        self.sections = {
            "main": {"workers": 2, "error_log": self.log,
                     "log_level": "debug", "admin_socket": self.admin,
                     "access_log": self.access_log,
                     "access_log_format": "json",
                     "shutdown_timeout": "5s", "debug_headers": True},
            "http": {},
            "cache": {"path": self.cache, "scratch": self.scratch,
                      "index": "64M"},
            # origins are asked for each byte by one request, unless a test
            # is about more
            "upstream": {"max_connections": 1},
            "listen:main": {"address": f"127.0.0.1:{self.port}"},
        }
        if transport in client.ENCRYPTED:
            self.tls_port = free_port()
            pair = certificate.session().server
            self.sections["listen:tls"] = {
                "address": f"127.0.0.1:{self.tls_port}", "tls": True,
                "certificate": pair.cert, "key": pair.key}
        if origin is not None:
            self.sections["source:test"] = {
                "type": "template", "url": origin.template,
                "allow_private": True}
        self.set(**sections)

    def set(self, **sections):
        for name, options in sections.items():
            name = name.replace("__", ":")
            if options is None:
                self.sections.pop(name, None)
            else:
                self.sections.setdefault(name, {}).update(options)
        with open(self.conf, "w") as f:
            f.write(ini_text(self.sections))

    # --- its life

    def launch(self):
        """Starts it, does not wait."""
        assert self.process is None or self.process.poll() is not None
        self.log_from = self._log_size()
        env = test_environment(os.path.join(self.reports, "report"))
        env.update(self.env)
        self.stderr = open(os.path.join(self.folder, "stderr"), "ab")
        self.process = subprocess.Popen(
            [*self.wrapper, reelcache_bin(), "-c", self.conf],
            stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr,
            env=env, pass_fds=self.pass_fds, preexec_fn=self.preexec)
        self.stderr.close()
        return self

    def start(self):
        self.launch()
        until(self.ready, "reelcache is ready", READY_S, 0.005)
        return self

    def ready(self):
        code = self.process.poll()
        assert code is None, f"reelcache has ended with {code}"
        try:
            if client.fetch(self.port, "/readyz", timeout=2).status != 200:
                return False
        except (OSError, client.Cut):
            return False
        # every worker, not only that one
        return len(self.workers()) >= self.sections["main"]["workers"]

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number, pid=None):
        os.kill(pid or self.pid, number)

    def wait(self, seconds=STOP_S):
        return self.process.wait(seconds)

    def stop(self):
        """TERM and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill_all(self):
        """Power cut: nobody gets a chance to do anything."""
        pids = [self.pid, *self.children()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                pass
        for pid in {*pids, *self.children()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(STOP_S)
        until(lambda: not any(alive(p) for p in pids), "all are dead")

    def children(self):
        return children_of(self.pid)

    def close(self):
        """The end of a test: nothing may be left, nothing reported."""
        try:
            self._end()
        finally:
            for conn in self.standing:
                conn.close()

    def _end(self):
        if self.process is None or self.process.poll() is not None:
            return
        pids = [self.pid, *self.children()]
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in {*pids, *self.children()}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait(STOP_S)
            raise AssertionError(
                f"reelcache did not end within {STOP_S} s after TERM"
            ) from None
        until(lambda: not any(alive(p) for p in pids), "children have ended")

    # --- what it says

    def _log_size(self):
        try:
            return os.path.getsize(self.log)
        except OSError:
            return 0

    def log_text(self, start=0):
        try:
            with open(self.log, "rb") as f:
                f.seek(start)
                return f.read().decode(errors="replace")
        except OSError:
            return ""

    def log_lines(self, word, start=0):
        """Lines with this ev= word, as dicts of their keys."""
        lines = []
        for line in self.log_text(start).splitlines():
            if re.search(rf"\bev={re.escape(word)}(\s|$)", line):
                found = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)
                lines.append({key: value.strip('"') for key, value in found})
        return lines

    def mark(self):
        """For start= of the functions above: from now on."""
        return self._log_size()

    def wait_log(self, word, start=0, seconds=10, count=1):
        return until(
            lambda: (lines if len(lines := self.log_lines(word, start))
                     >= count else None),
            f"ev={word} in the log", seconds)

    def access(self):
        """Lines of the access log (format json)."""
        try:
            with open(self.access_log) as f:
                return [json.loads(line) for line in f
                        if line.endswith("\n")]
        except OSError:
            return []

    def wait_access(self, matches, what="a line in the access log"):
        def find():
            return next((e for e in self.access() if matches(e)), None)
        return until(find, what)

    def reports_found(self):
        found = []
        for name in sorted(os.listdir(self.reports)):
            with open(os.path.join(self.reports, name),
                      errors="replace") as f:
                found.append(f.read())
        return found

    # --- talking to it

    def get(self, name, **options):
        source = options.pop("source", None)
        query = f"?source={source}" if source else ""
        return self.fetch(f"/proxy/{name}{query}", **options)

    def port_of(self, transport):
        return self.tls_port if transport in client.ENCRYPTED else self.port

    def fetch(self, target, **options):
        options.setdefault("transport", self.transport)
        return client.fetch(self.port_of(options["transport"]), target,
                            **options)

    def connect(self, **options):
        options.setdefault("transport", self.transport)
        return client.connect(self.port_of(options["transport"]),
                              standing=self.standing, **options)

    def connect_to(self, pid, **options):
        """A connection that this worker has accepted."""
        for _ in range(200):
            conn = self.connect(**options)
            conn.ask("/healthz")
            if int(conn.response().headers["x-worker"]) == pid:
                return conn
            conn.close()
        raise AssertionError(f"worker {pid} takes no connection")

    def ask_admin(self, target, method="GET"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(self.admin)
            length = "Content-Length: 0\r\n" if method == "POST" else ""
            s.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
                      f"{length}Connection: close\r\n\r\n".encode())
            data = b""
            while got := s.recv(65536):
                data += got
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def admin_json(self, target, method="GET"):
        status, answer = self.ask_admin(target, method)
        assert 200 <= status < 300, (status, answer)
        return answer

    def status(self):
        return self.admin_json("/status")

    def stats(self):
        return self.status()["stats"]

    def workers(self):
        """pids of those that are ready and stay."""
        try:
            return [w["pid"] for w in self.status()["workers"]
                    if w["ready"] and not w["draining"]]
        except (OSError, IndexError, ValueError):
            return []  # the prefetcher starts

    def prefetcher(self):
        return self.status()["prefetcher"]["pid"]

    def objects(self):
        return {o["key"]: o for o in
                self.admin_json("/objects?limit=1000")["objects"]}

    def inflight(self):
        return self.admin_json("/inflight")["runs"]

    def wait_idle(self, seconds=15):
        """No run any more, all records committed."""
        return until(lambda: not self.inflight(), "all runs have ended",
                     seconds)

    def settle(self, obj):
        """No run any more, and all that came is in the index."""
        self.wait_idle()
        until(lambda: "; hit" in self.get(obj.name, method="HEAD")
              .cache_status, "the record is in the index")
        if obj.size > 0:
            until(lambda: self.is_stored(obj), "the bytes are in the index")

    def is_stored(self, obj):
        """Is a byte of it served by the index, not by a run?"""
        start = obj.requests[-1].start if obj.requests else 0
        before = self.stats()
        self.get(obj.name, range=f"bytes={start}-{start}")
        now = until(
            lambda: (s if (s := self.stats())["requests"] > before["requests"]
                     and sum(s[f"bytes_sent_{k}"] - before[f"bytes_sent_{k}"]
                             for k in ("cache", "inflight", "origin")) > 0
                     else None), "the byte is counted")
        return now["bytes_sent_cache"] > before["bytes_sent_cache"]

    def metrics(self):
        res = client.fetch(self.port, "/metrics")
        assert res.status == 200
        values = {}
        for line in res.body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name.removeprefix("reelcache_")] = float(value)
        return values

    def ctl(self, *args):
        return subprocess.run(
            [reelcachectl_bin(), "-s", self.admin, *args],
            capture_output=True, text=True, timeout=30, check=False,
            env=test_environment(os.path.join(self.reports, "ctl")))

    # --- its store, from outside

    def chunk_files(self):
        """{path: bytes} of the chunk files, arriving ones included."""
        files = {}
        for folder, _, names in os.walk(self.cache):
            for name in names:
                if not re.fullmatch(r"[0-9A-Fa-f]+-[0-9A-Fa-f]+", name):
                    continue
                path = os.path.join(folder, name)
                try:
                    st = os.lstat(path)
                except OSError:
                    continue
                if stat.S_ISREG(st.st_mode):
                    # whole blocks; a file system's own are not counted
                    files[path] = -(-st.st_size // 4096) * 4096
        # what is still there has been there at the same time
        return {p: n for p, n in files.items() if os.path.lexists(p)}

    def chunk_bytes(self):
        return sum(self.chunk_files().values())


class Watch:
    """Samples a value in the background; worst is its largest."""

    def __init__(self, value, step=0.01):
        self.worst = 0
        self.samples = 0
        self.fault = None
        self.ended = threading.Event()

        def run():
            try:
                while not self.ended.is_set():
                    self.worst = max(self.worst, value())
                    self.samples += 1
                    self.ended.wait(step)
            except BaseException as fault:
                self.fault = fault

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(10)
        if self.fault is not None:
            raise self.fault


def run(*args, **options):
    """A command of ours that ends by itself."""
    options.setdefault("timeout", 20)
    report = options.pop("report")
    return subprocess.run([reelcache_bin(), *args], capture_output=True,
                          text=True, check=False,
                          env=test_environment(report), **options)

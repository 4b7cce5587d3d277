"""What the benchmarks share: servers under test, viewers, tables.

Servers run from scratch folders with their own configuration; nothing of
the system's nginx is read or written.  CPU seconds are those of all the
processes of a server, user and system, as the scheduler counted them.
"""

import argparse
import atexit
import collections
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
KIB = 1024
MIB = 1024 * 1024
GB = 1e9

SERVERS = ("reelcache", "nginx", "nginx-tuned", "nginx-slice", "nginx-static")


def arguments(description, server="reelcache"):
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", choices=SERVERS, default=server,
                        help="what is measured in reelcache's place")
    parser.add_argument("--markdown", metavar="FILE",
                        help="append the table to this file as Markdown")
    parser.add_argument("--scratch", metavar="FOLDER",
                        help="where caches go (default: TMPDIR)")
    return parser


def die(words):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {words}")


def scratch_folder(args):
    folder = tempfile.mkdtemp(prefix="reelcache-bench.", dir=args.scratch)
    os.chmod(folder, 0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def enter_namespace():
    """Starts this program again in a network of its own.

    There loopback has the MTU of a wire and TCP's congestion control is
    cubic for every server: with an MTU of 65536 a small range can wait 40 ms,
    and BBR costs two to three times the CPU of a transfer on loopback.  The
    routes say cubic, since a namespace may not make it its default unless
    the machine allows it."""
    if os.environ.get("REELCACHE_BENCH_NETWORK") != "own":
        how = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
        os.environ["REELCACHE_BENCH_NETWORK"] = "own"
        os.execvp(how[0], how + [sys.executable] + sys.argv)
    local = ["dev", "lo", "table", "local", "proto", "kernel", "scope",
             "host", "src", "127.0.0.1", "congctl", "cubic"]
    for command in (["ip", "link", "set", "lo", "mtu", "1500", "up"],
                    ["ip", "route", "replace", "local", "127.0.0.0/8", *local],
                    ["ip", "route", "replace", "local", "127.0.0.1", *local]):
        done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            die(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
            with accepted:
                used = accepted.getsockopt(socket.IPPROTO_TCP,
                                           socket.TCP_CONGESTION, 16)
    if used.rstrip(b"\0") != b"cubic":
        die(f"congestion control is {used}, not cubic")


def raise_descriptors():
    """Servers inherit it: thousands of connections are held."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_bytes(count, seed):
    """The same random bytes every time."""
    return random.Random(seed).randbytes(count)


def make_file(path, count, seed=1):
    source = random.Random(seed)
    with open(path, "wb") as file:
        for start in range(0, count, MIB):
            file.write(source.randbytes(min(MIB, count - start)))
    os.chmod(path, 0o644)
    # a tenth of a file's age is how long it is fresh (RFC 9111 section 4.2.2)
    os.utime(path, (1.6e9, 1.6e9))


# Processes.

def children_of(pid):
    """All processes below pid."""
    parents = collections.defaultdict(list)
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                    fields = file.read().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(fields[1])].append(int(name))
            except (OSError, IndexError):
                continue
    below, todo = [], [pid]
    while todo:
        found = parents[todo.pop()]
        below += found
        todo += found
    return below


def cpu_seconds(pids):
    """User and system time of these processes, all threads."""
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat",
                          encoding="ascii") as file:
                    total += int(file.read().split()[0])
        except OSError:
            continue
    return total / 1e9


def memory_bytes(pids, field="Pss"):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name == field:
                    total += int(rest.split()[0]) * KIB
    return total


class Server:
    """A server in the foreground, with processes below it."""

    def __init__(self, folder, name, port=None):
        self.name = name
        self.folder = os.path.join(folder, f"{name}-{free_port()}")
        os.makedirs(self.folder)
        os.chmod(self.folder, 0o755)
        self.port = port or free_port()
        self.process = None

    def path(self, object_id):
        return f"/{object_id}"

    def command(self):
        raise NotImplementedError

    def start(self, ready="/ready-or-404"):
        log = os.path.join(self.folder, "output.log")
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                self.command(), stdout=output, stderr=output,
                stdin=subprocess.DEVNULL)
        atexit.register(self.stop)
        deadline = time.monotonic() + 20
        while not self.answers(ready):
            if self.process.poll() is not None or time.monotonic() > deadline:
                die(f"{self.name} does not start:\n{self.words()}")
            time.sleep(.05)
        return self

    def answers(self, path):
        try:
            with urllib.request.urlopen(self.url(path), timeout=2):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 404
        except OSError:
            return False

    def words(self):
        """What it said, for an error message."""
        text = ""
        for name in ("output.log", "error.log"):
            try:
                with open(os.path.join(self.folder, name),
                          encoding="utf-8", errors="replace") as file:
                    text += file.read()[-4000:]
            except OSError:
                continue
        return text

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def pids(self):
        return [self.process.pid] + children_of(self.process.pid)

    def cpu_seconds(self):
        return cpu_seconds(self.pids())

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            for pid in self.pids():
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


NGINX_HEAD = """
{user}
worker_processes 2;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
daemon off;
events {{ worker_connections 16000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    send_timeout 600s;
    open_file_cache max=20000 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ video/mp4 mp4; }}
    default_type video/mp4;
"""

NGINX_CACHE = """
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=z:32m max_size=32g
                     inactive=1d use_temp_path=off;
    upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache z;
            proxy_cache_valid 200 206 1d;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 60s;
            proxy_cache_lock_age 60s;
{extra}
        }}
    }}
}}
"""

NGINX_SLICE = """
            slice 1m;
            proxy_cache_key $uri$slice_range;
            proxy_set_header Range $slice_range;
"""

# nginx's own buffers, and those with which it was cheapest (measured: 16k
# against 4k, 32k, 64k and 256k, which are dearer again)
NGINX_WHOLE = """
            proxy_cache_key $uri;
"""
NGINX_TUNED = NGINX_WHOLE + """
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
"""

NGINX_STATIC = """
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        root {root};
        # any name under /any/ stands for one file: ever new cold objects
        location ~ ^/any/ {{ alias {root}/any.bin; }}
    }}
}}
"""


NGINX_CACHES = {"nginx": NGINX_WHOLE, "nginx-tuned": NGINX_TUNED,
                "nginx-slice": NGINX_SLICE}


class Nginx(Server):
    """Debian's nginx as a peer (a mode of NGINX_CACHES), or serving files
    (nginx-static), which also makes a fast origin."""

    def __init__(self, folder, mode, origin_port=None, root=None):
        super().__init__(folder, mode)
        text = NGINX_HEAD
        if mode == "nginx-static":
            text += NGINX_STATIC
        else:
            text += NGINX_CACHE.replace("{extra}", NGINX_CACHES[mode])
        self.conf = os.path.join(self.folder, "nginx.conf")
        with open(self.conf, "w", encoding="ascii") as file:
            file.write(text.format(
                folder=self.folder, port=self.port, root=root,
                origin_port=origin_port,
                user="user root;" if os.geteuid() == 0 else ""))

    def command(self):
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin")
        if program is None:
            die("nginx is missing (apt install nginx-light)")
        return [program, "-p", self.folder, "-c", self.conf]

    def worker_pids(self):
        return children_of(self.process.pid)


def reelcache_program():
    for path in (os.environ.get("REELCACHE_BIN", ""),
                 os.path.join(ROOT, "build", "reelcache"),
                 os.path.join(ROOT, "build", "src", "reelcache")):
        if path and os.access(path, os.X_OK):
            return os.path.abspath(path)
    die("no reelcache: build it in build/ or set REELCACHE_BIN")


class Reelcache(Server):
    """The server all this is about, with two workers."""

    def __init__(self, folder, origin_port, size="16G", prefix="/",
                 extra=None):
        super().__init__(folder, "reelcache")
        self.source = "bench"
        cache = os.path.join(self.folder, "cache")
        os.makedirs(cache)
        sections = {
            "main": {"workers": "2", "debug_headers": "yes",
                     "error_log": os.path.join(self.folder, "error.log"),
                     "admin_socket": os.path.join(self.folder, "admin.sock"),
                     "shutdown_timeout": "2s"},
            "http": {"max_connections_per_address": "16384"},
            "cache": {"path": cache, "size": size},
            "listen:bench": {"address": f"127.0.0.1:{self.port}"},
            "source:bench": {
                "url": f"http://127.0.0.1:{origin_port}{prefix}{{id}}",
                "allow_private": "yes"},
        }
        for section, rows in (extra or {}).items():
            sections.setdefault(section, {}).update(rows)
        self.conf = os.path.join(self.folder, "reelcache.ini")
        with open(self.conf, "w", encoding="ascii") as file:
            for section, rows in sections.items():
                file.write(f"[{section}]\n")
                file.writelines(f"{k} = {v}\n" for k, v in rows.items())

    def path(self, object_id):
        return f"/proxy/{object_id}"

    def command(self):
        return [reelcache_program(), "-c", self.conf]

    def start(self, ready="/readyz"):
        return super().start(ready)

    def answers(self, path):
        try:
            with urllib.request.urlopen(self.url(path), timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def metrics(self):
        """All numbers of /metrics, by their names there."""
        with urllib.request.urlopen(self.url("/metrics"),
                                    timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def counted(self, name):
        return int(self.metrics()[f"reelcache_{name}"])

    def worker_pids(self):
        """By asking until two different ones have answered."""
        found = set()
        deadline = time.monotonic() + 10
        while len(found) < 2 and time.monotonic() < deadline:
            with urllib.request.urlopen(self.url("/healthz"),
                                        timeout=5) as answer:
                found.add(int(answer.headers["X-Worker"]))
        return sorted(found)

    def prefetcher_pid(self):
        for pid in children_of(self.process.pid):
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
                if "prefetcher" in file.read():
                    return pid
        return die("there is no prefetcher")


def start_server(args, folder, origin_port, **more):
    """What --server names, in front of an origin."""
    if args.server == "reelcache":
        return Reelcache(folder, origin_port, **more).start()
    if args.server == "nginx-static":
        die("nginx-static has no origin: choose nginx or nginx-slice")
    return Nginx(folder, args.server, origin_port).start()


# Clients.

class Connection:
    """One HTTP/1.1 connection, read by hand so that pauses can be seen."""

    def __init__(self, port, timeout_s=60.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def ask(self, path, asked_range=None, method="GET"):
        """Sends a request, reads the head: (status, {name: value})."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        if asked_range:
            lines.append(f"Range: {asked_range}")
        self.socket.sendall("\r\n".join(lines + ["", ""]).encode())
        while b"\r\n\r\n" not in self.rest:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("closed before the answer's head ended")
            self.rest += more
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        named = {}
        for field in fields:
            name, _, value = field.partition(":")
            named[name.strip().lower()] = value.strip()
        return int(first.split()[1]), named

    def read(self, most):
        """Body bytes; b"" when the server closed."""
        if self.rest:
            piece, self.rest = self.rest[:most], self.rest[most:]
            return piece
        return self.socket.recv(most)

    def close(self):
        self.socket.close()


class Viewer(threading.Thread):
    """Asks once, reads to the end (or stop_after), notes what it felt."""

    def __init__(self, connection, path, data, asked_range=None, start_at=0.0,
                 stop_after=None, worker=None):
        super().__init__(daemon=True)
        self.connection = connection
        self.path = path
        self.data = memoryview(data)
        self.asked_range = asked_range
        self.start_at = start_at
        self.stop_after = stop_after
        self.worker = worker
        self.first_byte_s = None
        self.total_s = None
        self.ended_at = None
        self.longest_pause_s = 0.0
        self.got = 0
        self.error = None

    def run(self):
        time.sleep(max(0.0, self.start_at - time.monotonic()))
        self.start_at = time.monotonic()
        try:
            self._watch()
        except (OSError, ValueError, KeyError) as error:
            self.error = self.error or f"{type(error).__name__}: {error}"
        self.ended_at = time.monotonic()
        self.total_s = self.ended_at - self.start_at
        self.connection.close()

    def _watch(self):
        status, fields = self.connection.ask(self.path, self.asked_range)
        if status not in (200, 206):
            raise ValueError(f"status {status}")
        offset = 0
        if status == 206:
            offset = int(fields["content-range"].split()[1].split("-")[0])
        length = int(fields["content-length"])
        want = min(length, self.stop_after or length)
        last = None
        while self.got < want:
            piece = self.connection.read(min(256 * KIB, want - self.got))
            now = time.monotonic()
            if not piece:
                raise ValueError(f"cut after {self.got} of {length} bytes")
            if last is None:
                self.first_byte_s = now - self.start_at
            else:
                self.longest_pause_s = max(self.longest_pause_s, now - last)
            last = now
            at = offset + self.got
            if self.data[at:at + len(piece)] != piece:
                raise ValueError(f"WRONG BYTES in {at}-{at + len(piece)}")
            self.got += len(piece)


def spread_connections(server, count):
    """Connections that are shared out evenly between the two workers, as
    (connection, worker's pid); a peer that does not tell gets None."""
    if not isinstance(server, Reelcache):
        return [(Connection(server.port), None) for _ in range(count)]
    by_worker = collections.defaultdict(list)
    deadline = time.monotonic() + 10
    share = (count + 1) // 2
    while sum(min(len(c), share) for c in by_worker.values()) < count:
        if time.monotonic() > deadline:
            die("all connections go to one worker")
        connection = Connection(server.port)
        _, fields = connection.ask("/healthz")
        body = 0
        while body < int(fields.get("content-length", 0)):
            body += len(connection.read(65536))
        mine = by_worker[int(fields["x-worker"])]
        if len(mine) < share:
            mine.append(connection)
        else:
            connection.close()
    pairs = [(connection, pid) for pid, mine in by_worker.items()
             for connection in mine]
    # alternate, so that the first one's reader is the other worker's too
    pairs.sort(key=lambda pair: by_worker[pair[1]].index(pair[0]))
    return pairs[:count]


def build_client(folder):
    program = os.path.join(folder, "bench_client")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([*compiler.split(), "-std=gnu11", "-D_GNU_SOURCE", "-O2",
                    "-o", program, os.path.join(HERE, "bench_client.c")],
                   check=True)
    return program


def client_command(program, port, path, file, **options):
    command = [program, "--port", str(port), "--path", path, "--file", file]
    for name, value in options.items():
        command.append("--" + name.replace("_", "-"))
        if value is not True:
            command.append(str(value))
    return command


def run_client(program, port, path, file, **options):
    """Runs it to its end; wrong bytes end the benchmark."""
    done = subprocess.run(client_command(program, port, path, file, **options),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode != 0:
        die(f"the client failed:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout)


# Results.

def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


class Table:
    """Rows of what was measured against what was promised."""

    def __init__(self, title):
        self.title = title
        self.rows = []
        self.notes = []
        self.missed = 0

    def judge(self, what, measured, reference, ratio, target, limit=None):
        """ratio is held against target: a number that it may reach, or None
        for a row that only informs."""
        good = target is None or ratio <= target
        self.missed += not good
        shown = "" if target is None else "<= " + (limit or f"{target:g}")
        self.rows.append((what, measured, reference,
                          "" if ratio is None else f"{ratio:.3g}", shown,
                          "" if target is None else "ok" if good
                          else "MISSED"))

    def claim(self, what, measured, expected, good):
        self.missed += not good
        self.rows.append((what, measured, expected, "", expected,
                          "ok" if good else "MISSED"))

    def note(self, words):
        self.notes.append(words)

    def lines(self):
        rows = [("", "measured", "peer or ideal", "ratio", "target", "")]
        rows += self.rows
        wide = [max(len(row[n]) for row in rows) for n in range(6)]
        text = ["| " + " | ".join(row[n].ljust(wide[n]) for n in range(6))
                + " |" for row in rows]
        text.insert(1, "|" + "|".join("-" * (w + 2) for w in wide) + "|")
        return text

    def finish(self, args):
        """Prints; the exit status says whether all targets were met."""
        text = [f"## {self.title} ({args.server})", ""] + self.lines()
        if self.notes:
            text += [""] + self.notes
        print("\n".join(text), flush=True)
        if args.markdown:
            with open(args.markdown, "a", encoding="utf-8") as file:
                file.write("\n".join(text) + "\n\n")
        sys.exit(1 if self.missed else 0)

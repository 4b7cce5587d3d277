#!/usr/bin/python3
"""TLS and HTTP/2: server CPU per GB, many streams, memory of slow clients.

Against nginx with proxy_cache and 1 MiB slices, all hits, the same cipher
(TLS_AES_128_GCM_SHA256), asked by the same h2load.  The bytes are compared
once per server and protocol before anything is measured; h2load then checks
lengths and status.  Rounds interleave; medians are compared.
"""

import base64
import hashlib
import os
import re
import socket
import ssl
import subprocess
import time

import bench
import bench_hit

CIPHER = "TLS_AES_128_GCM_SHA256"
OBJECTS = 16
OBJECT_BYTES = 16 * bench.MIB
TARGETS = {"h1": .7, "h2": .7}
STREAMS_TARGET = 1.1
MEMORY_TARGET = 32 * bench.KIB
SLOW_BPS = 125_000


def make_certificate(folder):
    """(certificate, key) of a server on loopback."""
    certificate = os.path.join(folder, "server.pem")
    key = os.path.join(folder, "server.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
         certificate, "-days", "30", "-subj", "/CN=reelcache bench",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o644)
    return certificate, key


def public_key_hash(certificate):
    """By which Chromium is told to trust it."""
    public = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-pubkey", "-noout"],
        check=True, stdout=subprocess.PIPE).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"],
                         input=public, check=True,
                         stdout=subprocess.PIPE).stdout
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Nginx(bench.Nginx):
    """A slice cache with a second listener for TLS."""

    def __init__(self, folder, origin_port, certificate, key):
        super().__init__(folder, "nginx-slice", origin_port)
        self.tls_port = bench.free_port()
        with open(self.conf, encoding="ascii") as file:
            text = file.read()
        plain = f"listen 127.0.0.1:{self.port} reuseport backlog=4096;"
        if plain not in text:
            bench.die("nginx's configuration is not what it was")
        text = text.replace(plain, plain + f"""
        listen 127.0.0.1:{self.tls_port} ssl http2 reuseport backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER};
""")
        with open(self.conf, "w", encoding="ascii") as file:
            file.write(text)


def reelcache(folder, origin_port, certificate, key):
    ports = {who: bench.free_port() for who in ("library", "kernel")}
    server = bench.Reelcache(folder, origin_port, extra={
        f"listen:{who}": {"address": f"127.0.0.1:{port}", "tls": "yes",
                          "certificate": certificate, "key": key,
                          "kernel_tls": "yes" if who == "kernel" else "no"}
        for who, port in ports.items()})
    server.tls_port, server.kernel_port = ports["library"], ports["kernel"]
    return server


def url(server, name, tls=True):
    port = server.tls_port if tls else server.port
    return f"http{'s' if tls else ''}://127.0.0.1:{port}{server.path(name)}"


def compare(server, root, certificate, tls=True):
    """Every object, over both protocols; fills the cache."""
    for name in sorted(os.listdir(root)):
        for protocol in ("--http1.1", "--http2") if tls else ("--http1.1",):
            got = subprocess.run(
                ["curl", "-sS", "--cacert", certificate, protocol,
                 url(server, name, tls)], stdout=subprocess.PIPE, check=True)
            with open(os.path.join(root, name), "rb") as file:
                if file.read() != got.stdout:
                    bench.die(f"{server.name}: wrong bytes of {name}")


def load(folder, server, protocol, gib, connections, streams=1, size=None,
         tls=True):
    """h2load's words of a round: (body bytes, seconds)."""
    size = size or bench.MIB
    urls = os.path.join(folder, f"urls-{server.name}-{tls}")
    with open(urls, "w", encoding="ascii") as file:
        for n in range(OBJECTS):
            file.write(url(server, f"object{n}.bin", tls) + "\n")
    requests = max(connections * streams, int(gib * 2 ** 30 / size))
    command = ["h2load", "-n", str(requests), "-c", str(connections), "-m",
               str(streams), "-t", "1", "-i", urls,
               f"--tls13-ciphers={CIPHER}", "-H",
               f"range: bytes={bench.MIB}-{bench.MIB + size - 1}"]
    if protocol == "h1":
        command.append("--h1")
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    status = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx",
                       done.stdout)
    data = re.search(r"\((\d+)\) data", done.stdout)
    took = re.search(r"finished in ([\d.]+)(m?s|us),", done.stdout)
    cipher = re.search(r"^Cipher: (\S+)", done.stdout, re.M)
    if tls and (cipher is None or cipher[1] != CIPHER):
        bench.die(f"{server.name}: the cipher is {cipher and cipher[1]}")
    if not (status and data and took) or int(status[1]) != requests or \
            int(data[1]) != requests * size:
        bench.die(f"{server.name}: h2load failed:\n{done.stdout[-2000:]}")
    scale = {"s": 1, "ms": 1e-3, "us": 1e-6}[took[2]]
    return int(data[1]), float(took[1]) * scale


def measure_cpu(args, folder, servers, table):
    for protocol in ("h1", "h2"):
        streams = 1 if protocol == "h1" else 4
        found = {name: [] for name in servers}
        speed = {name: [] for name in servers}
        for _ in range(args.rounds):
            for name, server in servers.items():
                before = server.cpu_seconds()
                count, took = load(folder, server, protocol, args.gib,
                                   args.connections, streams)
                used = server.cpu_seconds() - before
                found[name].append(used / (count / bench.GB))
                speed[name].append(count / took / bench.GB)
        ours, theirs = (bench.median(found[n]) for n in ("reelcache", "nginx"))
        table.judge(f"TLS {protocol}, 1 MiB ranges, CPU", f"{ours:.3f} s/GB",
                    f"nginx {theirs:.3f} s/GB", ours / theirs,
                    TARGETS[protocol])
        table.note(f"- {protocol}: " + "; ".join(
            f"{name} {min(found[name]):.3f}-{max(found[name]):.3f} s/GB at "
            f"{bench.median(speed[name]):.2f} GB/s" for name in servers))


def measure_kernel(args, folder, server, table):
    """What encrypts: the library, or the kernel where it can."""
    ports = {"library": server.tls_port, "kernel": server.kernel_port}
    found = {who: [] for who in ports}
    for _ in range(args.rounds):
        for who, server.tls_port in ports.items():
            before = server.cpu_seconds()
            count, _ = load(folder, server, "h1", args.gib, args.connections)
            found[who].append((server.cpu_seconds() - before)
                              / (count / bench.GB))
    server.tls_port = ports["library"]
    if server.counted("tls_by_kernel") == 0:
        table.note("- the kernel here has no TLS, or no module `tls`")
        return
    ours, theirs = (bench.median(found[who]) for who in ("kernel", "library"))
    table.judge("TLS by the kernel, h1, CPU", f"{ours:.3f} s/GB",
                f"library {theirs:.3f} s/GB", ours / theirs, None)


def measure_streams(args, folder, server, table):
    """The same bytes over 100 streams of one connection, or of 100."""
    one, many = [], []
    for _ in range(args.rounds):
        one.append(load(folder, server, "h2", args.gib, 1, 100)[1])
        many.append(load(folder, server, "h2", args.gib, 100, 1)[1])
    ours, theirs = bench.median(one), bench.median(many)
    table.judge("100 streams on one connection, time", f"{ours:.2f} s",
                f"100 connections {theirs:.2f} s", ours / theirs,
                STREAMS_TARGET)


def slow_clients(server, certificate, count):
    """Connections that each have asked for 15 MiB."""
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = False
    made = []
    for n in range(count):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        raw.connect(("127.0.0.1", server.tls_port))
        one = context.wrap_socket(raw)
        path = server.path(f"object{n % OBJECTS}.bin")
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Range: bytes={bench.MIB}-\r\n\r\n".encode())
        one.setblocking(False)
        made.append(one)
    return made


def read_slowly(clients, seconds):
    """Each at SLOW_BPS; how many bytes came."""
    end = time.monotonic() + seconds
    step = .2
    got = 0
    while time.monotonic() < end:
        begun = time.monotonic()
        for one in clients:
            left = int(SLOW_BPS * step)
            while left > 0:
                try:
                    data = one.recv(min(left, 16384))
                except (ssl.SSLWantReadError, BlockingIOError):
                    break
                if not data:
                    bench.die("a slow client was cut off")
                left -= len(data)
                got += len(data)
        time.sleep(max(0, begun + step - time.monotonic()))
    return got


def is_loader(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"cache" in file.read().split(b"reelcache")[0]


def measure_memory(args, servers, certificate, table):
    found = {}
    for name, server in servers.items():
        # nginx has a cache loader that ends of itself
        pids = [pid for pid in server.worker_pids() if not is_loader(pid)]
        warm = slow_clients(server, certificate, 20)
        read_slowly(warm, 1)
        for one in warm:
            one.close()
        time.sleep(1)
        before = bench.memory_bytes(pids)
        clients = slow_clients(server, certificate, args.slow)
        read_slowly(clients, args.settle)
        found[name] = (bench.memory_bytes(pids) - before) / args.slow
        for one in clients:
            one.close()
        time.sleep(1)
    table.judge(f"memory per slow TLS connection, {args.slow} of them",
                f"{found['reelcache'] / bench.KIB:.1f} KiB",
                f"nginx {found['nginx'] / bench.KIB:.1f} KiB",
                found["reelcache"] / MEMORY_TARGET, 1, "32 KiB")


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gib", type=float, default=1.0,
                        help="GiB per round and server")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--slow", type=int, default=400, metavar="N",
                        help="slow TLS connections")
    parser.add_argument("--settle", type=float, default=6, metavar="SECONDS")
    parser.add_argument("--only",
                        choices=("cpu", "kernel", "streams", "memory"))
    args = parser.parse_args()
    bench.enter_namespace()
    bench.raise_descriptors()
    folder = bench.scratch_folder(args)
    root = os.path.join(folder, "root")
    os.makedirs(root)
    os.chmod(root, 0o755)
    for n in range(OBJECTS):
        bench.make_file(os.path.join(root, f"object{n}.bin"), OBJECT_BYTES, n)
    certificate, key = make_certificate(folder)
    origins = [bench_hit.Origin(folder, root).start() for _ in range(2)]
    servers = {
        "reelcache": reelcache(folder, origins[0].port, certificate,
                               key).start(),
        "nginx": Nginx(folder, origins[1].port, certificate, key).start(),
    }
    for server in servers.values():
        compare(server, root, certificate)
    table = bench.Table("TLS and HTTP/2")
    if args.only in (None, "cpu"):
        measure_cpu(args, folder, servers, table)
    if args.only in (None, "kernel"):
        measure_kernel(args, folder, servers["reelcache"], table)
    if args.only in (None, "streams"):
        measure_streams(args, folder, servers["reelcache"], table)
    if args.only in (None, "memory"):
        measure_memory(args, servers, certificate, table)
    for server in [*servers.values(), *origins]:
        server.stop()
    table.finish(args)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Video over the WebSocket: server CPU and bytes on the wire beside HTTP/1.1,
and the round trip of a message while bulk bytes share its connection.

The chunk transport and HTTP/1.1 ask the same server, in clear, for the same
ranges of 1 MiB, all hits, and compare every byte.  The round trip is that of
Chromium on one connection of HTTP/2 over a link of 20 Mbit/s (tc tbf), while
the page fetches 24 MB on it.
"""

import base64
import json
import os
import random
import selectors
import socket
import struct
import subprocess

import bench
import bench_hit
import bench_transport
import chromium

CPU_TARGET = 1.15
WIRE_TARGET = 1.001
ROUND_TRIP_TARGET_MS = 50
LINK = "20mbit"
CREDIT_BYTES = 16 * bench.MIB
OPCODE_TEXT, OPCODE_BINARY = 1, 2


def masked(opcode, payload):
    """A frame of a client (RFC 6455 section 5.2)."""
    mask = os.urandom(4)
    size = len(payload)
    head = bytes([0x80 | opcode])
    head += bytes([0x80 | size]) if size < 126 else \
        bytes([0x80 | 126]) + struct.pack(">H", size)
    return head + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(payload))


class Client:
    """One WebSocket that asks for chunk after chunk."""

    def __init__(self, port, name, data, encoding):
        self.data = memoryview(data)
        self.name = name
        self.encoding = encoding
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += self.socket.recv(65536)
        head, _, rest = heard.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            bench.die(f"no WebSocket: {head!r}")
        self.buffer = rest
        self.frame_left = 0  # of a binary one
        self.socket.setblocking(False)
        self.request = 0
        self.payload = 0   # of videos, raw
        self.wire = 0      # all that came, and was asked

    def ask(self, offset, length):
        self.request += 1
        self.expect_off = offset
        words = json.dumps({
            "type": "REQUEST_VIDEO_CHUNK", "request": self.request,
            "id": self.name, "offset": offset, "length": length,
            "encoding": self.encoding, "credit": CREDIT_BYTES}).encode()
        frame = masked(OPCODE_TEXT, words)
        self.socket.sendall(frame)
        self.wire += len(frame)

    def compare(self, offset, raw):
        if offset != self.expect_off or \
                self.data[offset:offset + len(raw)] != raw:
            bench.die(f"WRONG BYTES at {offset}")
        self.expect_off += len(raw)
        self.payload += len(raw)

    def take_text(self, payload):
        """True: a chunk has ended."""
        message = json.loads(bytes(payload))
        if message["type"] == "VIDEO_CHUNK":
            self.compare(message["offset"], base64.b64decode(message["data"]))
        elif message["type"] == "ERROR":
            bench.die(f"the server says {message}")
        return message["type"] == "VIDEO_CHUNK_END"

    def begin_frame(self, view):
        """Its opcode, bytes of head and of payload; None: not all there."""
        if len(view) < 2:
            return None
        size, head = view[1] & 127, 2
        if size == 126:
            head = 4
        elif size == 127:
            head = 10
        if view[0] & 15 == OPCODE_BINARY:
            head += 16  # of ours
        if len(view) < head:
            return None
        if size > 125:
            size = struct.unpack_from(">H" if size == 126 else ">Q", view,
                                      2)[0]
        if view[0] & 15 == OPCODE_BINARY:
            version, _, header, request, offset = struct.unpack_from(
                ">BBHIQ", view, head - 16)
            if (version, header, request) != (1, 16, self.request):
                bench.die("a frame of no chunk")
            self.frame_off = offset
            size -= 16
        return view[0] & 15, head, size

    def take(self, view):
        """What has come, as far as it goes: (bytes taken, a chunk ended)."""
        at, ended = 0, False
        while True:
            if self.frame_left > 0:  # of a binary one: compared as it comes
                piece = view[at:at + self.frame_left]
                self.compare(self.frame_off, piece)
                self.frame_off += len(piece)
                self.frame_left -= len(piece)
                at += len(piece)
            begun = self.begin_frame(view[at:])
            if begun is None:
                return at, ended
            opcode, head, size = begun
            if opcode == OPCODE_BINARY:
                self.frame_left = size
            elif len(view) - at < head + size:
                return at, ended
            else:
                ended |= self.take_text(view[at + head:at + head + size])
                head += size
            at += head

    def read(self, scratch):
        """True: a chunk has ended."""
        view = memoryview(scratch)
        kept = len(self.buffer)
        view[:kept] = self.buffer
        try:
            count = self.socket.recv_into(view[kept:])
        except BlockingIOError:
            return False
        if count == 0:
            bench.die("the WebSocket was closed")
        self.wire += count
        taken, ended = self.take(view[:kept + count])
        self.buffer = bytes(view[taken:kept + count])
        return ended


class HttpClient:
    """The same by ranges of HTTP/1.1: as slow a client, in the same words."""

    def __init__(self, port, path, data):
        self.data = memoryview(data)
        self.path = path
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = bytearray()
        self.payload = self.wire = 0

    def ask(self, offset, length):
        self.expect_off = offset
        self.body_left = None
        words = (f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                 f"Range: bytes={offset}-{offset + length - 1}\r\n\r\n")
        self.socket.sendall(words.encode())
        self.wire += len(words)

    def take_head(self):
        head, end, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 206"):
            bench.die(f"the server says {head!r}")
        self.body_left = int(head.lower().split(b"content-length: ")[1]
                             .split(b"\r\n")[0])
        self.buffer = bytearray(rest)
        return True

    def read(self, scratch):
        try:
            count = self.socket.recv_into(scratch)
        except BlockingIOError:
            return False
        if count == 0:
            bench.die("the connection was closed")
        self.wire += count
        self.buffer += memoryview(scratch)[:count]
        if self.body_left is None and not self.take_head():
            return False
        size = len(self.buffer)
        at = self.expect_off
        if self.data[at:at + size] != self.buffer:
            bench.die(f"WRONG BYTES at {at}")
        self.expect_off += size
        self.payload += size
        self.body_left -= size
        self.buffer.clear()
        return self.body_left == 0


def pull(server, path, data, count, total, way, seed):
    """total bytes by count connections: (payload, bytes on the wire)."""
    places = random.Random(seed)
    name = path.rpartition("/")[2]
    clients = [HttpClient(server.port, path, data) if way == "http" else
               Client(server.port, name, data, way) for _ in range(count)]
    chosen = selectors.DefaultSelector()
    scratch = bytearray(bench.MIB)
    asked = 0

    def ask(client):
        nonlocal asked
        if asked >= total:
            return False
        client.ask(places.randrange(len(data) // bench.MIB) * bench.MIB,
                   bench.MIB)
        asked += bench.MIB
        return True

    for client in clients:
        chosen.register(client.socket, selectors.EVENT_READ, client)
    busy = sum(ask(client) for client in clients)
    while busy > 0:
        for key, _ in chosen.select(30):
            if key.data.read(scratch) and not ask(key.data):
                busy -= 1
    for client in clients:
        client.socket.close()
    return (sum(c.payload for c in clients), sum(c.wire for c in clients))


def measure_cpu(args, server, file, table):
    with open(file, "rb") as opened:
        data = opened.read()
    path = server.path("hit.bin")
    total = int(args.gib * 2 ** 30)
    found = {"http": [], "binary": [], "base64": []}
    wire = {}
    pull(server, path, data, 1, len(data), "http", 0)
    for round_no in range(args.rounds):
        for way in found:
            before = server.cpu_seconds()
            # base64 is slow to decode: less of it
            count, sent = pull(server, path, data, args.connections,
                               total // 8 if way == "base64" else total, way,
                               round_no)
            wire[way] = sent / count
            used = server.cpu_seconds() - before
            found[way].append(used / (count / bench.GB))
    http = bench.median(found["http"])
    for way, target in (("binary", CPU_TARGET), ("base64", None)):
        ours = bench.median(found[way])
        table.judge(f"{way} chunks of 1 MiB, server CPU", f"{ours:.3f} s/GB",
                    f"HTTP/1.1 {http:.3f} s/GB", ours / http, target)
    table.judge("binary chunks, bytes on the wire, both ways",
                f"{wire['binary']:.5f}", "the payload", wire["binary"],
                WIRE_TARGET)
    table.judge("base64 chunks, bytes on the wire, both ways",
                f"{wire['base64']:.5f}", "the payload", wire["base64"], None)


TALK = """
const done = arguments[arguments.length - 1];
const [media, quiet, busy] = arguments;
(async () => {
    const socket = new WebSocket(`wss://${location.host}/ws`);
    await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("no WebSocket"));
    });
    socket.onclose = () => done({ error: "the WebSocket was closed" });
    let request = 0;
    const waiting = new Map();
    socket.onmessage = (event) => {
        const message = JSON.parse(event.data);
        if (waiting.has(message.request)) {
            waiting.get(message.request)(performance.now());
            waiting.delete(message.request);
        }
    };
    const ping = async () => {
        const number = ++request;
        const begun = performance.now();
        const heard = new Promise((resolve) => {
            waiting.set(number, resolve);
        });
        socket.send(JSON.stringify({ type: "PING", request: number }));
        return await heard - begun;
    };
    const sleep = (ms) => new Promise((resolve) => {
        setTimeout(resolve, ms);
    });
    const before = [];
    for (let n = 0; n < quiet; n++) {
        before.push(await ping());
        await sleep(20);
    }
    const begun = performance.now();
    let took = null;
    const bulk = fetch(media, { cache: "no-store" })
        .then((answer) => answer.arrayBuffer())
        .then((body) => {
            took = performance.now() - begun;
            return body.byteLength;
        });
    await sleep(1000);
    const during = [];
    while (took === null && during.length < busy) {
        during.push(await ping());
        await sleep(50);
    }
    const finished_first = took !== null;
    const bytes = await bulk;
    const seen = performance.getEntriesByType("resource").filter(
        (one) => one.name.endsWith(media));
    return { before, during, took, bytes, finished_first,
             protocol: seen[seen.length - 1].nextHopProtocol };
})().then((value) => done({ value }), (error) => done({ error: `${error}` }));
"""


class Link:
    """Another network behind a wire; the way from there to here is slow, as
    that to a home is."""

    HERE, THERE = "10.99.0.1", "10.99.0.2"

    def __init__(self):
        self.holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"],
            stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        # an address of IPv6 that comes later would be a change of networks:
        # Chromium closes its connections then
        quiet = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"
        subprocess.run(["sh", "-c", quiet], check=True)
        subprocess.run(self.inside(["sh", "-c", quiet]), check=True)
        for command in (
                f"ip link add here type veth peer name there netns "
                f"{self.holder.pid}",
                f"ip address add {self.HERE}/30 dev here",
                "ip link set here up"):
            subprocess.run(command.split(), check=True)
        for command in (
                "ip link set lo up",
                f"ip address add {self.THERE}/30 dev there",
                "ip link set there up",
                f"tc qdisc replace dev there root tbf rate {LINK} "
                "burst 16kb latency 50ms"):
            subprocess.run(self.inside(command.split()), check=True)

    def inside(self, command):
        return ["nsenter", "-t", str(self.holder.pid), "-n", *command]

    def close(self):
        self.holder.kill()
        self.holder.wait()


class FarReelcache(bench.Reelcache):
    """On the other side, with the file in a folder."""

    def __init__(self, folder, link, root, certificate, key):
        self.link = link
        self.tls_port = bench.free_port()
        port = bench.free_port()
        super().__init__(folder, 0, extra={
            "listen:bench": {"address": f"{link.THERE}:{port}"},
            "listen:tls": {"address": f"{link.THERE}:{self.tls_port}",
                           "tls": "yes", "certificate": certificate,
                           "key": key},
            "source:bench": {"type": "directory", "path": root}})
        self.port = port
        with open(self.conf, encoding="ascii") as file:
            lines = [line for line in file
                     if not line.startswith(("url =", "allow_private ="))]
        with open(self.conf, "w", encoding="ascii") as file:
            file.writelines(lines)

    def url(self, path):
        return f"http://{self.link.THERE}:{self.port}{path}"

    def command(self):
        return self.link.inside(super().command())


def measure_round_trip(folder, root, certificate, key, table):
    link = Link()
    server = FarReelcache(folder, link, root, certificate, key).start()
    known = bench_transport.public_key_hash(certificate)
    driver = chromium.start(
        os.path.join(folder, "profile"),
        flags=[f"--ignore-certificate-errors-spki-list={known}",
               "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE "
               f"{link.THERE} , EXCLUDE localhost , EXCLUDE 127.0.0.1"])
    try:
        driver.get(f"https://{link.THERE}:{server.tls_port}/healthz")
        connections = server.counted("connections_tls")
        answer = driver.execute_async_script(TALK, server.path("bulk.bin"),
                                             20, 120)
        if "error" in answer:
            bench.die(answer["error"])
        shared = server.counted("connections_tls") == connections
    finally:
        driver.quit()
        server.stop()
        link.close()
    got = answer["value"]
    if got["protocol"] != "h2" or len(got["during"]) < 20:
        bench.die(f"nothing was measured: {got}")
    ours = sorted(got["during"])
    p50 = bench.median(ours)
    p95 = ours[int(len(ours) * .95)]
    table.judge(f"round trip during a fetch of {got['bytes'] / 1e6:.0f} MB "
                f"over {LINK}", f"p50 {p50:.0f} ms",
                f"{bench.median(got['before']):.1f} ms without",
                p50 / ROUND_TRIP_TARGET_MS, 1, f"{ROUND_TRIP_TARGET_MS} ms")
    table.claim("WebSocket and fetch share their connection",
                "yes" if shared else "no", "yes", shared)
    table.note(f"- round trip: {len(ours)} of them, p95 {p95:.0f} ms, longest "
               f"{ours[-1]:.0f} ms; the fetch took {got['took'] / 1e3:.1f} s")


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gib", type=float, default=1.0,
                        help="GiB per round and way")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--only", choices=("cpu", "round-trip"))
    args = parser.parse_args()
    bench.enter_namespace()
    folder = bench.scratch_folder(args)
    root = os.path.join(folder, "root")
    os.makedirs(root)
    os.chmod(root, 0o755)
    file = os.path.join(root, "hit.bin")
    bench.make_file(file, 64 * bench.MIB)
    bench.make_file(os.path.join(root, "bulk.bin"), 24 * 10 ** 6)
    certificate, key = bench_transport.make_certificate(folder)
    origin = bench_hit.Origin(folder, root).start()
    server = bench_transport.reelcache(folder, origin.port, certificate,
                                       key).start()
    table = bench.Table("Video and messages over the WebSocket")
    if args.only in (None, "cpu"):
        measure_cpu(args, server, file, table)
    if args.only in (None, "round-trip"):
        measure_round_trip(folder, root, certificate, key, table)
    server.stop()
    origin.stop()
    table.finish(args)


if __name__ == "__main__":
    main()

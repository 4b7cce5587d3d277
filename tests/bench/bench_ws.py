#!/usr/bin/python3
"""Bytes of a video by WebSocket against ranges by HTTP/1.1, in clear text.

Server CPU per GB and bytes on the wire per byte of the video, binary and
base64.  Hits, over loopback with an MTU of 1500 and cubic; one connection at
a time; every byte is compared.  Rounds interleave; medians are compared.
"""

import base64
import json
import os
import socket
import struct

import bench

RANGE = 16 * bench.MIB
MASK = b"\x01\x02\x03\x04"
ROUNDS_OF_BASE64 = 2


class ByHttp:
    def __init__(self, port):
        self.connection = bench.Connection(port)
        self.wire_bytes = 0

    def get(self, start, count):
        status, named = self.connection.ask(
            "/proxy/film.bin", f"bytes={start}-{start + count - 1}")
        if status != 206 or int(named["content-length"]) != count:
            bench.die(f"status {status}")
        data = bytearray(self.connection.rest)
        self.connection.rest = b""
        while len(data) < count:
            data += self.connection.socket.recv(1 << 20)
        head = sum(len(k) + len(v) + 4 for k, v in named.items()) + 30
        self.wire_bytes += len(data) + head
        return data


class ByWebSocket:
    encoding = "binary"

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        key = base64.b64encode(b"0123456789abcdef").decode()
        self.socket.sendall(
            ("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
             f"Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n"
             "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        data = b""
        while not data.endswith(b"}"):  # the head and WELCOME
            data += self.socket.recv(65536)
        if not data.startswith(b"HTTP/1.1 101 "):
            bench.die(data[:100])
        self.wire_bytes = 0

    def send(self, **message):
        text = json.dumps(message).encode()
        masked = bytes(c ^ MASK[n % 4] for n, c in enumerate(text))
        self.socket.sendall(b"\x81\xfe" + struct.pack(">H", len(text)) + MASK
                            + masked)

    def get(self, start, count):
        self.send(type="REQUEST_VIDEO_CHUNK", request=1, id="film.bin",
                  offset=start, length=count, credit=count,
                  encoding=self.encoding)
        came = bytearray()
        while b"VIDEO_CHUNK_END" not in came[-100:] or came[-1:] != b"}":
            got = self.socket.recv(1 << 20)
            if not got:
                bench.die("the WebSocket has ended")
            came += got
        self.wire_bytes += len(came)
        return self.unpack(came, start)

    @staticmethod
    def unpack(came, start):
        data, at = bytearray(), 0
        while at < len(came):
            opcode, n = came[at] & 15, came[at + 1]
            at += 2
            if n == 126:
                n = struct.unpack_from(">H", came, at)[0]
                at += 2
            elif n == 127:
                n = struct.unpack_from(">Q", came, at)[0]
                at += 8
            if opcode == 2:
                offset, = struct.unpack_from(">Q", came, at + 8)
                if offset != start + len(data):
                    bench.die("a message is out of order")
                data += came[at + 16:at + n]
            else:
                message = json.loads(came[at:at + n])
                if message["type"] == "VIDEO_CHUNK":
                    data += base64.b64decode(message["data"])
            at += n
        return data


class ByBase64(ByWebSocket):
    encoding = "base64"


WAYS = {"HTTP/1.1": ByHttp, "WebSocket": ByWebSocket, "base64": ByBase64}


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--gib", type=float, default=1.0,
                        help="GiB per round and way")
    parser.add_argument("--file-mib", type=int, default=64)
    args = parser.parse_args()
    if args.server != "reelcache":
        bench.die("the peers have no WebSockets")
    bench.enter_namespace()
    folder = bench.scratch_folder(args)
    root = os.path.join(folder, "root")
    os.makedirs(root)
    os.chmod(root, 0o755)
    path = os.path.join(root, "film.bin")
    bench.make_file(path, args.file_mib * bench.MIB)
    with open(path, "rb") as file:
        film = file.read()
    origin = bench.Nginx(folder, "nginx-static", root=root).start()
    server = bench.start_server(args, folder, origin.port)
    ByHttp(server.port).get(0, len(film))

    used = {name: [] for name in WAYS}
    wire = {}
    for round_no in range(args.rounds):
        for name, way in WAYS.items():
            if way is ByBase64 and round_no >= ROUNDS_OF_BASE64:
                continue
            client = way(server.port)
            done, before = 0, server.cpu_seconds()
            while done < args.gib * 2 ** 30:
                start = done % len(film)
                count = min(RANGE, len(film) - start)
                if client.get(start, count) != film[start:start + count]:
                    bench.die(f"{name}: wrong bytes")
                done += count
            used[name].append((server.cpu_seconds() - before)
                              / (done / bench.GB))
            wire[name] = client.wire_bytes / done
    server.stop()
    origin.stop()

    table = bench.Table("Bytes by WebSocket, 16 MiB at a time")
    http = bench.median(used["HTTP/1.1"])
    for name, cpu_most, wire_most in (("WebSocket", 1.15, 1.001),
                                      ("base64", None, None)):
        ours = bench.median(used[name])
        table.judge(f"{name}: server CPU per GB against HTTP/1.1",
                    f"{ours:.3f} s/GB", f"{http:.3f} s/GB", ours / http,
                    cpu_most)
        table.judge(f"{name}: bytes on the wire per byte of the video",
                    f"{wire[name]:.5f}", "1", wire[name], wire_most)
    table.note("- " + "; ".join(
        f"{name} {min(found):.3f}-{max(found):.3f} s/GB"
        for name, found in used.items()))
    table.finish(args)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""User memory per connection: 5,000 idle ones, then 5,000 slow readers.

Idle: each connection got one answer and is kept open.  Slow: each reads its
16 MiB at 1 Mbit/s.  Memory is the growth of the workers' Pss over what they
had after a few hundred requests on a few connections.
"""

import os
import subprocess
import time

import bench

SLOW_BPS = 125_000
TARGET_BYTES = 1024


def held(args, client, server, file, **options):
    """(growth of Pss per connection, connections held, client's words)."""
    pids = server.worker_pids()
    before = bench.memory_bytes(pids)
    process = subprocess.Popen(
        bench.client_command(client, server.port, server.path("idle.bin"),
                             file, connections=args.connections, hold=True,
                             **options),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)
    ready = process.stdout.readline()
    if ready != "ready\n":
        process.stdin.close()
        bench.die(f"{server.name}: {process.stderr.read()}")
    time.sleep(args.settle)
    after = bench.memory_bytes(pids)
    words, errors = process.communicate()
    if process.returncode != 0:
        return None, errors.strip() or words
    return (after - before) / args.connections, words


def start_measured(args, folder, origin_port, root):
    if args.server == "reelcache":
        return bench.Reelcache(folder, origin_port).start()
    return bench.Nginx(folder, args.server, origin_port, root).start()


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--settle", type=float, default=4, metavar="SECONDS",
                        help="how long they are held before memory is read")
    args = parser.parse_args()
    bench.enter_namespace()
    hard = bench.raise_descriptors()
    if hard < args.connections * 2 + 1000:
        bench.die(f"the limit of open files is {hard}: too small for "
                  f"{args.connections} connections")
    folder = bench.scratch_folder(args)
    client = bench.build_client(folder)
    root = os.path.join(folder, "root")
    os.makedirs(root)
    os.chmod(root, 0o755)
    file = os.path.join(root, "idle.bin")
    bench.make_file(file, 64 * bench.MIB)

    table = bench.Table(f"User memory per connection, {args.connections} held")
    for label, options in (
            ("idle", {"idle": True, "range": 64 * bench.KIB}),
            ("slow (1 Mbit/s)", {"rate": SLOW_BPS,
                                 "range": 16 * bench.MIB})):
        # new servers, so that no memory of the row before is used again
        static = bench.Nginx(folder, "nginx-static", root=root).start()
        measured = start_measured(args, folder, static.port, root)
        found = {}
        for name, server in (("peer", static), ("measured", measured)):
            bench.run_client(client, server.port, server.path("idle.bin"),
                             file, connections=4, range=bench.MIB,
                             requests=100)
            found[name], words = held(args, client, server, file, **options)
            if found[name] is None:
                table.note(f"- {label}, {server.name}: {words}")
        measured.stop()
        static.stop()
        if found["measured"] is None:
            table.claim(f"{label}: connections that were served", "not all",
                        f"{args.connections}", False)
            continue
        peer = "failed"
        if found["peer"] is not None:
            peer = f"{found['peer']:.0f} B (nginx-static)"
        table.judge(label, f"{found['measured']:.0f} B", peer,
                    found["measured"] / TARGET_BYTES, 1,
                    f"{TARGET_BYTES} B")
    table.finish(args)


if __name__ == "__main__":
    main()

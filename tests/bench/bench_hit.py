#!/usr/bin/python3
"""Server CPU per GB of hits: reelcache, nginx slice cache, nginx static.

All serve the same bytes from the page cache over loopback with an MTU of
1500 and cubic; every byte is compared by the client.  Rounds interleave, so
that a slow minute of the machine hits all alike; medians are compared.
"""

import os

import bench

RANGES = [(64 * bench.KIB, "64 KiB", {"nginx-slice": .65, "nginx-static": .85}),
          (bench.MIB, "1 MiB", {"nginx-slice": .9, "nginx-static": 1.05}),
          (16 * bench.MIB, "16 MiB", {"nginx-slice": .8,
                                      "nginx-static": 1.05})]
PEERS = ("nginx-slice", "nginx-static")


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--gib", type=float, default=1.0,
                        help="GiB per round and server")
    parser.add_argument("--file-mib", type=int, default=256)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    bench.enter_namespace()
    folder = bench.scratch_folder(args)
    client = bench.build_client(folder)
    root = os.path.join(folder, "root")
    os.makedirs(root)
    os.chmod(root, 0o755)
    file = os.path.join(root, "hit.bin")
    bench.make_file(file, args.file_mib * bench.MIB)

    servers = {"nginx-static": bench.Nginx(folder, "nginx-static",
                                           root=root).start()}
    origin_port = servers["nginx-static"].port
    servers["nginx-slice"] = bench.Nginx(folder, "nginx-slice",
                                         origin_port).start()
    if args.server == "reelcache":
        servers["measured"] = bench.Reelcache(folder, origin_port).start()
    elif args.server == "nginx-static":
        servers["measured"] = bench.Nginx(folder, "nginx-static",
                                          root=root).start()
    else:
        servers["measured"] = bench.Nginx(folder, args.server,
                                          origin_port).start()

    def ask(server, **options):
        return bench.run_client(client, server.port, server.path("hit.bin"),
                                file, **options)

    for server in servers.values():
        ask(server, connections=1)  # fills the cache
        ask(server, connections=args.connections, range=bench.MIB,
            bytes=bench.MIB * args.file_mib)

    table = bench.Table("Hits, server CPU seconds per GB")
    for size, label, targets in RANGES:
        found = {name: [] for name in servers}
        speed = {name: [] for name in servers}
        for round_no in range(args.rounds):
            for name, server in servers.items():
                before = server.cpu_seconds()
                result = ask(server, connections=args.connections, range=size,
                             bytes=int(args.gib * 2 ** 30), seed=round_no)
                used = server.cpu_seconds() - before
                found[name].append(used / (result["bytes"] / bench.GB))
                speed[name].append(result["bytes"] / result["seconds"]
                                   / bench.GB)
        ours = bench.median(found["measured"])
        for peer in PEERS:
            theirs = bench.median(found[peer])
            table.judge(f"{label} ranges against {peer}", f"{ours:.3f} s/GB",
                        f"{theirs:.3f} s/GB", ours / theirs, targets[peer])
        table.note(f"- {label}: " + "; ".join(
            f"{name} {min(found[name]):.3f}-{max(found[name]):.3f} s/GB at "
            f"{bench.median(speed[name]):.2f} GB/s" for name in servers))
    for server in reversed(servers.values()):
        server.stop()
    table.finish(args)


if __name__ == "__main__":
    main()

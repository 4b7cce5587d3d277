#!/usr/bin/python3
"""Server CPU per GB of hits: reelcache, nginx slice cache, nginx static.

All serve the same bytes from the page cache over loopback with an MTU of
1500 and cubic; every byte is compared by the client.  Rounds interleave, so
that a slow minute of the machine hits all alike; medians are compared.  Each
cache has an origin of its own, whose access log shows that the rounds made
no request to it: all were hits.
"""

import os
import time

import bench

RANGES = [(64 * bench.KIB, "64 KiB", {"nginx-slice": .65, "nginx-static": .85}),
          (bench.MIB, "1 MiB", {"nginx-slice": .9, "nginx-static": 1.05}),
          (16 * bench.MIB, "16 MiB", {"nginx-slice": .8,
                                      "nginx-static": 1.05})]
PEERS = ("nginx-slice", "nginx-static")


class Origin(bench.Nginx):
    """Serves the file to one cache and notes every request."""

    def __init__(self, folder, root):
        super().__init__(folder, "nginx-static", root=root)
        self.log = os.path.join(self.folder, "access.log")
        with open(self.conf, encoding="ascii") as file:
            text = file.read()
        if "access_log off;" not in text:
            bench.die("the origin's configuration has no access_log off")
        with open(self.conf, "w", encoding="ascii") as file:
            file.write(text.replace("access_log off;",
                                    f"access_log {self.log};"))

    def requests(self):
        """For the file, so far; waits for those that are under way."""
        count = None
        while True:
            with open(self.log, encoding="utf-8") as file:
                now = sum("/hit.bin" in line for line in file)
            if now == count:
                return now
            count = now
            time.sleep(.5)


def own_count(server):
    """origin_requests as a reelcache counts them; None of a peer."""
    if not isinstance(server, bench.Reelcache):
        return None
    return server.counted("origin_requests")


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
    origins = {"nginx-slice": Origin(folder, root).start()}
    servers["nginx-slice"] = bench.Nginx(
        folder, "nginx-slice", origins["nginx-slice"].port).start()
    if args.server == "nginx-static":
        servers["measured"] = bench.Nginx(folder, "nginx-static",
                                          root=root).start()
    else:
        origins["measured"] = Origin(folder, root).start()
        servers["measured"] = bench.start_server(args, folder,
                                                 origins["measured"].port)

    def ask(server, **options):
        return bench.run_client(client, server.port, server.path("hit.bin"),
                                file, **options)

    for server in servers.values():
        ask(server, connections=1)  # fills the cache
        ask(server, connections=args.connections, range=bench.MIB,
            bytes=bench.MIB * args.file_mib)
    filled = {name: origin.requests() for name, origin in origins.items()}
    counted = own_count(servers["measured"])

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
    for name, origin in origins.items():
        label = args.server if name == "measured" else name
        made = origin.requests() - filled[name]
        # a log that shows no fill would show no miss either
        table.claim(f"{label}: origin's log during the rounds",
                    f"{made} requests ({filled[name]} before)", "0 requests",
                    made == 0 and filled[name] > 0)
    if counted is not None:
        made = own_count(servers["measured"]) - counted
        table.claim("reelcache: origin_requests during the rounds",
                    f"{made} requests ({counted} before)", "0 requests",
                    made == 0 and counted > 0)
    for server in [*reversed(servers.values()), *origins.values()]:
        server.stop()
    table.finish(args)


if __name__ == "__main__":
    main()

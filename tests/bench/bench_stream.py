#!/usr/bin/python3
"""Server CPU per GB of a cold stream: served while it is being fetched.

The origin is nginx on loopback and is not counted; all processes of the
measured server are.  Every round has a new server, an empty cache and a new
object.  Before all the machine's free memory is touched once: in a virtual
machine the first touch of a page costs more than all the rest, and would hit
this server or that by chance.
"""

import mmap
import os
import shutil

import bench


def start(name, folder, origin_port):
    if name == "reelcache":
        return bench.Reelcache(folder, origin_port, prefix="/any/").start()
    return bench.Nginx(folder, name, origin_port).start()


def touch_free_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        found = dict(line.split(":") for line in file)
    count = int(found["MemAvailable"].split()[0]) * bench.KIB * 3 // 4
    with mmap.mmap(-1, count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[::mmap.PAGESIZE] = bytes(-(-count // mmap.PAGESIZE))


def one_round(name, folder, client, origin_port, file):
    """(CPU seconds per GB, GB per second)"""
    server = start(name, folder, origin_port)
    path = server.path("cold.bin" if name == "reelcache" else "any/cold.bin")
    before = server.cpu_seconds()
    result = bench.run_client(client, server.port, path, file, connections=1)
    used = server.cpu_seconds() - before
    server.stop()
    shutil.rmtree(server.folder)
    gb = result["bytes"] / bench.GB
    return used / gb, gb / result["seconds"]


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=1024)
    args = parser.parse_args()
    if args.server == "nginx-static":
        bench.die("nginx-static has no origin: choose nginx or nginx-slice")
    bench.enter_namespace()
    folder = bench.scratch_folder(args)
    client = bench.build_client(folder)
    root = os.path.join(folder, "root")
    os.makedirs(root)
    os.chmod(root, 0o755)
    file = os.path.join(root, "any.bin")
    bench.make_file(file, args.mib * bench.MIB)
    origin = bench.Nginx(folder, "nginx-static", root=root).start()

    names = ["nginx", "nginx-tuned", "nginx-slice"]
    if args.server not in names:
        names.append(args.server)
    touch_free_memory()
    found = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            found[name].append(one_round(name, folder, client, origin.port,
                                         file))
    origin.stop()

    cost = {name: bench.median([r[0] for r in found[name]]) for name in names}
    table = bench.Table(f"Cold stream of {args.mib} MiB, CPU seconds per GB")
    ours = cost[args.server]
    table.judge("against nginx as it comes", f"{ours:.3f} s/GB",
                f"{cost['nginx']:.3f} s/GB",
                ours / cost["nginx"], .8)
    for name in names[1:3]:
        table.judge(f"against {name}", f"{ours:.3f} s/GB",
                    f"{cost[name]:.3f} s/GB", ours / cost[name], None)
    for name in names:
        costs = [r[0] for r in found[name]]
        table.note(f"- {name}: {min(costs):.3f}-{max(costs):.3f} s/GB at "
                   f"{bench.median([r[1] for r in found[name]]):.2f} GB/s")
    table.finish(args)


if __name__ == "__main__":
    main()

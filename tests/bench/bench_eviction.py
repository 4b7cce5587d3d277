#!/usr/bin/python3
"""What eviction keeps: a simulation of viewers, against LRU and FIFO.

No server runs: simulate_eviction.c is built with src/store/eviction.c itself
and replays one made-up history per row against every way to evict.  The byte
hit ratio counts all bytes that viewers and copiers read; a start is the first
chunk of a viewer's video.  Everything follows from the seed.
"""

import json
import os
import subprocess
import time

import bench

SOURCES = ("store/eviction.c", "util/base.c", "util/clock.c", "util/log.c")
SEED = 1
# views after which two videos change places: of 2,000 videos each does so
# ten times in a history, or a hundred times
DRIFT, FAST_DRIFT = 10, 1
LRU_BYTES_KEPT = 0.99
LONGEST_S = 60


def build(folder):
    program = os.path.join(folder, "simulate_eviction")
    source = os.path.join(bench.ROOT, "src")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([*compiler.split(), "-std=gnu11", "-D_GNU_SOURCE", "-O2",
                    "-I", source, "-o", program,
                    os.path.join(bench.HERE, "simulate_eviction.c"),
                    *[os.path.join(source, name) for name in SOURCES], "-lm"],
                   check=True)
    return program


def simulate(program, drift, seed):
    """{part of the catalogue: {policy: its row}}, and all that was said."""
    done = subprocess.run([program, "--seed", str(seed), "--drift",
                           str(drift)], stdout=subprocess.PIPE, text=True,
                          check=True, timeout=10 * LONGEST_S)
    found = json.loads(done.stdout)
    sizes = {}
    for row in found["results"]:
        sizes.setdefault(row["part"], {})[row["policy"]] = row
    return sizes, found


def percent(row, what):
    return f"{100 * row[what]:.1f} %"


def judge(table, size, rows):
    """Ratios are hits of the peer over ours: below 1 we keep more."""
    ours = rows["reelcache"]
    for peer in ("lru", "fifo"):
        table.judge(f"{size}: starts that were hits, against {peer}",
                    percent(ours, "starts"), percent(rows[peer], "starts"),
                    rows[peer]["starts"] / ours["starts"], 1)
    table.judge(f"{size}: bytes that were hits, against lru",
                percent(ours, "bytes"), percent(rows["lru"], "bytes"),
                rows["lru"]["bytes"] / ours["bytes"], 1 / LRU_BYTES_KEPT,
                f"{1 / LRU_BYTES_KEPT:.3g}")


def note_all(table, title, sizes):
    """Every way to evict, as a list of what it kept."""
    table.note(f"{title}: bytes / starts that were hits")
    table.note("")
    names = list(next(iter(sizes.values())))
    table.note("| cache | " + " | ".join(names) + " |")
    table.note("|---" * (len(names) + 1) + "|")
    for part, rows in sizes.items():
        table.note(f"| {100 * part:.0f} % | " + " | ".join(
            f"{percent(rows[name], 'bytes')} / {percent(rows[name], 'starts')}"
            for name in names) + " |")
    table.note("")


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    if args.server != "reelcache":
        bench.die("only reelcache's eviction is simulated")
    program = build(bench.scratch_folder(args))
    began = time.monotonic()
    sizes, found = simulate(program, DRIFT, args.seed)
    fast, _ = simulate(program, FAST_DRIFT, args.seed)
    took = time.monotonic() - began

    table = bench.Table("Eviction, simulated")
    for part, rows in sizes.items():
        judge(table, f"cache of {100 * part:.0f} %", rows)
    table.claim("time it took", f"{took:.1f} s", f"<= {LONGEST_S} s",
                took <= LONGEST_S)
    table.note(f"{found['videos']} videos of {found['bytes'] / bench.GB:.0f} "
               f"GB in all, {found['views']} views, {found['reads']} chunks "
               f"read; seed {args.seed}.")
    table.note("")
    note_all(table, "The same history", sizes)
    note_all(table, "Popularity that drifts ten times as fast, no target",
             fast)
    table.finish(args)


if __name__ == "__main__":
    main()

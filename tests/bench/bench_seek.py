#!/usr/bin/python3
"""Seeks, overlaps, early leavers and accidents on cold objects.

Same origin as bench_cold.py: 1 MiB/s per response, 200 ms to first byte.
"""

import os
import signal
import time

import bench
from paced_origin import Origin

KIB = bench.KIB
MIB = bench.MIB
SIZE = 20 * MIB

SEEKS = [
    ("15 MiB", f"bytes={15 * MIB}-"),
    ("15 MiB + 12345, not aligned", f"bytes={15 * MIB + 12345}-"),
    ("last 64 KiB", f"bytes={SIZE - 64 * KIB}-{SIZE - 1}"),
    ("last 64 KiB as suffix", f"bytes=-{64 * KIB}"),
]


class Bench:
    def __init__(self, args):
        self.args = args
        self.folder = bench.scratch_folder(args)
        self.data = bench.make_bytes(SIZE, 2)
        self.origin = Origin(MIB, .2).start()
        self.server = bench.start_server(args, self.folder, self.origin.port)
        self.table = bench.Table("Cold seeks and accidents, 20 MiB")
        self.number = 0

    def new_object(self):
        self.number += 1
        name = f"video-{self.number}.mp4"
        return name, self.origin.add(f"/{name}", self.data)

    def viewer(self, name, asked_range, connection=None, **more):
        connection = connection or bench.Connection(self.server.port)
        return bench.Viewer(connection, self.server.path(name), self.data,
                            asked_range, **more)

    def origin_first_byte(self, asked_range):
        name, _ = self.new_object()
        viewer = bench.Viewer(bench.Connection(self.origin.port), f"/{name}",
                              self.data, asked_range, stop_after=64 * KIB)
        viewer.run()
        if viewer.error:
            bench.die(f"the origin itself failed: {viewer.error}")
        return viewer.first_byte_s

    def seek(self, label, asked_range, filling):
        """First byte of a seek, while nobody or somebody else fills."""
        found, ideal = [], []
        for _ in range(self.args.repeat):
            name, _ = self.new_object()
            other = None
            if filling:
                other = self.viewer(name, "bytes=0-", stop_after=2 * MIB)
                other.start()
                time.sleep(.5)
            ideal.append(self.origin_first_byte(asked_range))
            viewer = self.viewer(name, asked_range, stop_after=64 * KIB)
            viewer.run()
            if viewer.error:
                self.table.claim(f"seek to {label}", viewer.error, "bytes",
                                 False)
                return
            found.append(viewer.first_byte_s)
            if other:
                other.join()
        ours, theirs = bench.median(found), bench.median(ideal)
        state = "others fill" if filling else "idle object"
        self.table.judge(f"seek to {label}, {state}: first byte",
                         f"{ours:.3f} s (worst {max(found):.3f})",
                         f"{theirs:.3f} s", ours / theirs, 1.1)

    def leave(self):
        name, counter = self.new_object()
        self.viewer(name, "bytes=0-", stop_after=256 * KIB).run()
        self.origin.quiet(f"/{name}", 2)
        sent = counter.sent_bytes()
        self.table.judge("256 KiB read, then left: origin bytes",
                         f"{sent / MIB:.2f} MiB", "0.25 MiB",
                         sent / (1.5 * MIB), 1, "1.5 MiB")

    def overlap(self, later):
        name, counter = self.new_object()
        begin = time.monotonic() + .1
        ranges = (f"bytes={4 * MIB}-{10 * MIB - 1}",
                  f"bytes={7 * MIB}-{13 * MIB - 1}")
        viewers = [self.viewer(name, asked, start_at=begin + no * later)
                   for no, asked in enumerate(ranges)]
        for viewer in viewers:
            viewer.start()
        for viewer in viewers:
            viewer.join()
        self.origin.quiet(f"/{name}", 2)
        errors = [v.error for v in viewers if v.error]
        sent, unique = counter.sent_bytes(), counter.unique_bytes()
        label = f"4-10 and 7-13 MiB, {later:g} s apart"
        self.table.claim(f"{label}: viewers with every byte right",
                         f"{2 - len(errors)}", "2", not errors)
        # what lay in the socket when a run ended is given away twice
        self.table.judge(f"{label}: bytes fetched twice",
                         f"{(sent - unique) / KIB:.0f} KiB", "0 KiB",
                         (sent - unique) / (9 * MIB), .01, "1 % of 9 MiB")

    def crowd(self, label, accident, limit, pause_limit=None, victims=None):
        """Ten viewers; something happens in the middle."""
        name, counter = self.new_object()
        begin = time.monotonic() + .3
        viewers = [self.viewer(name, "bytes=0-", connection=connection,
                               worker=worker, start_at=begin + .05 * no)
                   for no, (connection, worker) in enumerate(
                       bench.spread_connections(self.server, 10))]
        strike = accident(name)
        for viewer in viewers:
            viewer.start()
        if strike:
            time.sleep(begin + 6 - time.monotonic())
            strike()
        for viewer in viewers:
            viewer.join()
        self.origin.quiet(f"/{name}", 2)
        dead = victims() if victims else set()
        others = [v for v in viewers if v.worker not in dead]
        errors = [v.error for v in others if v.error]
        self.table.claim(f"{label}: viewers with every byte right",
                         f"{len(others) - len(errors)} of {len(others)}",
                         f"{len(others)}", bool(others) and not errors)
        for error in sorted(set(errors)):
            self.table.note(f"- {label}: {error}")
        pause = max(v.longest_pause_s for v in others)
        self.table.judge(f"{label}: longest pause", f"{pause:.2f} s", "0 s",
                         pause / (pause_limit or 1),
                         1 if pause_limit else None,
                         pause_limit and f"{pause_limit:g} s")
        sent = counter.sent_bytes()
        self.table.judge(f"{label}: origin bytes / object",
                         f"{sent / MIB:.2f} MiB", f"{SIZE // MIB} MiB",
                         sent / SIZE, limit)
        resumed = sum(1 for r in counter.requests if r[3])
        self.table.note(f"- {label}: {len(counter.requests)} request(s) at "
                        f"the origin, {resumed} with If-Range")

    def cut(self):
        def arrange(name):
            self.origin.cut_at[f"/{name}"] = 7 * MIB + 777
        self.crowd("origin cuts at 7 MiB", arrange, 1.03)

    def kill_worker(self):
        dead = set()

        def strike():
            pid = self.server.worker_pids()[0]
            dead.add(pid)
            os.kill(pid, signal.SIGKILL)
        self.crowd("kill -9 of a worker", lambda name: strike, 1.06, 1.0,
                   lambda: dead)

    def kill_prefetcher(self):
        if isinstance(self.server, bench.Reelcache):
            def strike():
                os.kill(self.server.prefetcher_pid(), signal.SIGKILL)
            self.crowd("kill -9 of the prefetcher", lambda name: strike, 1.06,
                       1.0)


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5,
                        help="how often each seek is tried")
    args = parser.parse_args()
    run = Bench(args)
    for filling in (False, True):
        for label, asked_range in SEEKS:
            run.seek(label, asked_range, filling)
    run.leave()
    run.overlap(0.0)
    run.overlap(1.0)
    run.cut()
    run.kill_worker()
    run.kill_prefetcher()
    run.server.stop()
    run.table.finish(args)


if __name__ == "__main__":
    main()

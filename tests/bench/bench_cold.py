#!/usr/bin/python3
"""Ten viewers of a cold object behind a slow origin.

The origin gives 1 MiB/s per response, 200 ms after it was asked; the first
viewer begins, nine more follow half a second later, on two workers.  The
ideal is a viewer who asks the origin itself at the same time.
"""

import time

import bench
from paced_origin import Origin


def one_round(table, args, server, origin, data, asked_range, name):
    counter = origin.add(f"/{name}", data)
    origin.add(f"/{name}-ideal", data)
    pairs = bench.spread_connections(server, args.viewers)
    begin = time.monotonic() + .2
    ideal = bench.Viewer(bench.Connection(origin.port), f"/{name}-ideal", data,
                         asked_range, begin)
    viewers = [
        bench.Viewer(connection, server.path(name), data, asked_range,
                     begin + (args.later if no else 0), worker=worker)
        for no, (connection, worker) in enumerate(pairs)]
    for viewer in [ideal] + viewers:
        viewer.start()
    for viewer in [ideal] + viewers:
        viewer.join()
    if ideal.error:
        bench.die(f"the origin itself failed: {ideal.error}")
    label = asked_range or "GET"
    failed = [v for v in viewers if v.error]
    table.claim(f"{label}: viewers with every byte right",
                f"{args.viewers - len(failed)}", f"{args.viewers}", not failed)
    for viewer in failed[:3]:
        table.note(f"- {label}: {viewer.error}")
    heard = [v for v in viewers if v.first_byte_s is not None]
    if viewers[0] not in heard or len(heard) < 2:
        return
    first = viewers[0].first_byte_s
    table.judge(f"{label}: first viewer's first byte", f"{first:.3f} s",
                f"{ideal.first_byte_s:.3f} s", first / ideal.first_byte_s, 1.1)
    late = max(v.first_byte_s for v in heard[1:])
    table.judge(f"{label}: the others' first byte (longest)",
                f"{late * 1000:.0f} ms", "0 ms", late / .05, 1, "50 ms")
    total = max(v.ended_at for v in viewers) - viewers[0].start_at
    table.judge(f"{label}: everyone's end after the first one's begin",
                f"{total:.2f} s", f"{ideal.total_s:.2f} s",
                total / ideal.total_s, 1.03)
    pause = max(v.longest_pause_s for v in viewers)
    table.judge(f"{label}: longest pause", f"{pause:.3f} s",
                f"{ideal.longest_pause_s:.3f} s", pause / .3, 1, "0.3 s")
    origin.quiet(f"/{name}")
    sent = counter.sent_bytes()
    table.judge(f"{label}: origin bytes / object",
                f"{sent / bench.MIB:.2f} MiB", f"{len(data) / bench.MIB:g} MiB",
                sent / len(data), 1.01)
    workers = sorted({str(v.worker) for v in viewers})
    table.note(f"- {label}: workers {' '.join(workers)}, "
               f"{len(counter.requests)} request(s) at the origin")


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=20)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--later", type=float, default=.5, metavar="SECONDS",
                        help="when the others begin")
    args = parser.parse_args()
    folder = bench.scratch_folder(args)
    data = bench.make_bytes(args.mib * bench.MIB, 1)
    origin = Origin(bench.MIB, .2).start()
    server = bench.start_server(args, folder, origin.port)
    table = bench.Table(f"Cold, {args.viewers} viewers, {args.mib} MiB")
    one_round(table, args, server, origin, data, None, "whole.mp4")
    one_round(table, args, server, origin, data, "bytes=0-", "open.mp4")
    server.stop()
    table.finish(args)


if __name__ == "__main__":
    main()

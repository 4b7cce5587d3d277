#!/usr/bin/python3
"""What is there before somebody waits for it: prefetch, read-ahead, schedule.

The origin is the one of tests/run.  Clips are made by ffmpeg and have about
4 Mbit/s; every byte that a viewer gets is compared with them.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request

import bench
import chromium

sys.path.append(os.path.join(bench.ROOT, "tests", "run"))

from origin import Origin  # noqa: E402

KIB = bench.KIB
MIB = bench.MIB

COLD_S = 10             # the slow origin's time to first byte
FIRST_BYTE_MS = 5
AHEAD_S = 10            # of the next video
VIEWERS = 20
APART_S = 20            # playing time between two of them
WATCH_S = 30
SPARE = 1.3             # what the origin gives, over what is needed
BUFFER_S = 2
AGAIN_S = .5            # of playing time is awaited after a stall
LEAVERS = 5
LEAVE_S = 30
READAHEAD_S = 30
BROWSERS = 3            # with and without a cache
CHUNK = 4 * MIB
# where a player breaks an answer off differs by a quarter of a second, which
# is so much at the pace of that origin
NEAR = 512 * KIB
PAGE = ("<!DOCTYPE html><title>a video</title>"
        "<video id=\"video\" muted preload=\"auto\"></video>")
FIRST_FRAME = """
const [url, done] = arguments;
const video = document.getElementById("video");
const begin = performance.now();
video.addEventListener("error", () => done({ error: video.error.message }));
video.requestVideoFrameCallback((now, facts) => done({
    seconds: (performance.now() - begin) / 1000, at: facts.mediaTime }));
video.src = url;
"""


class Clip:
    """A file, whole in memory to compare with."""

    def __init__(self, path, seconds):
        self.path = path
        self.seconds = seconds
        with open(path, "rb") as file:
            self.data = file.read()
        self.size = len(self.data)
        self.rate = self.size / seconds if seconds else None

    def boxes(self):
        """{name: its bytes} of an MP4's outermost boxes."""
        found, at = {}, 0
        while at < self.size:
            count = int.from_bytes(self.data[at:at + 4], "big")
            name = self.data[at + 4:at + 8].decode("ascii")
            if count == 1:
                count = int.from_bytes(self.data[at + 8:at + 16], "big")
            if count < 8:
                bench.die(f"{self.path}: a box of {count} bytes")
            found[name] = count
            at += count
        return found


def make_clip(folder, name, seconds, bitrate, *flags):
    path = os.path.join(folder, name)
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=size=320x180:rate=25", "-t", str(seconds), "-c:v",
         "libx264", "-preset", "ultrafast", "-b:v", bitrate, "-minrate",
         bitrate, "-maxrate", bitrate, "-bufsize", bitrate, "-x264-params",
         "nal-hrd=cbr", "-g", "25", *flags, path],
        check=True, timeout=180, stdin=subprocess.DEVNULL)
    return Clip(path, seconds)


class Player(threading.Thread):
    """Reads as a player with a short buffer does, and counts its stalls:
    moments when less has come than should have been shown."""

    def __init__(self, port, path, clip, start, seconds, start_at):
        super().__init__(daemon=True)
        self.connection = bench.Connection(port)
        self.path = path
        self.clip = clip
        self.data = memoryview(clip.data)
        self.start_byte = start
        self.seconds = seconds
        self.start_at = start_at
        self.got = 0
        self.stalls = 0
        self.stalled_s = 0.0
        self.waited_s = None    # until it began to play
        self.error = None

    def run(self):
        time.sleep(max(0.0, self.start_at - time.monotonic()))
        try:
            self._play()
        except (OSError, ValueError, KeyError) as error:
            self.error = f"{type(error).__name__}: {error}"
        self.connection.close()

    def _read(self, most):
        piece = self.connection.read(most)
        if not piece:
            raise ValueError(f"cut after {self.got} bytes")
        at = self.start_byte + self.got
        if self.data[at:at + len(piece)] != piece:
            raise ValueError(f"WRONG BYTES in {at}-{at + len(piece)}")
        self.got += len(piece)

    def _read_to(self, count):
        while self.got < count:
            self._read(min(64 * KIB, count - self.got))

    def _play(self):
        asked_at = time.monotonic()
        status, fields = self.connection.ask(self.path,
                                             f"bytes={self.start_byte}-")
        length = self.clip.size - self.start_byte
        if status != 206 or int(fields["content-length"]) != length:
            raise ValueError(f"status {status}, {fields}")
        rate = self.clip.rate
        end = min(length, int(self.seconds * rate))
        self._read_to(min(end, int(BUFFER_S * rate)))
        begin = time.monotonic()
        self.waited_s = begin - asked_at
        while True:
            shown = (time.monotonic() - begin) * rate
            if shown >= end:
                return
            if self.got < end and shown >= self.got:
                # what is shown has run dry
                dry_at = begin + self.got / rate
                self._read_to(min(end, self.got + int(AGAIN_S * rate)))
                took = time.monotonic() - dry_at
                self.stalls += 1
                self.stalled_s += took
                begin += took
                continue
            want = min(end, int(shown + BUFFER_S * rate)) - self.got
            if want < 16 * KIB and self.got + want < end or want <= 0:
                time.sleep(.02)
                continue
            self.connection.socket.settimeout(60)
            self._read_or_dry(want, begin + self.got / rate)

    def _read_or_dry(self, want, dry_at):
        """Reads, but no longer than until the buffer is empty."""
        left = dry_at - time.monotonic()
        if left <= 0:
            return
        self.connection.socket.settimeout(left)
        try:
            self._read(min(64 * KIB, want))
        except TimeoutError:
            pass
        self.connection.socket.settimeout(60)


class Bench:
    def __init__(self, args):
        self.args = args
        self.folder = bench.scratch_folder(args)
        self.table = bench.Table("Ahead of playback")
        self.web = os.path.join(self.folder, "page")
        os.makedirs(self.web)
        os.chmod(self.web, 0o755)
        with open(os.path.join(self.web, "index.html"), "w",
                  encoding="ascii") as file:
            file.write(PAGE)
        self.clip = make_clip(self.folder, "clip.mp4", 60, "4M",
                              "-movflags", "+faststart")
        self.browsers = 0

    # --- servers and what they tell

    def server(self, origin, **sections):
        extra = {"main": {"access_log": os.path.join(
            self.folder, f"access-{origin.port}"),
            "access_log_format": "json"}, "http": {"web": self.web}}
        for name, rows in sections.items():
            extra.setdefault(name, {}).update(rows)
        return bench.Reelcache(self.folder, origin.port, prefix="/o/",
                               extra=extra).start()

    def access(self, origin):
        """Lines of the access log of the server before this origin."""
        with open(os.path.join(self.folder, f"access-{origin.port}"),
                  encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def quiet(self, objects, seconds=2):
        """Waits until no byte has left the origin for a while."""
        def counted():
            return [obj.body_bytes for obj in objects]
        before, since = counted(), time.monotonic()
        limit = since + 60
        while time.monotonic() < min(since + seconds, limit):
            time.sleep(.1)
            now = counted()
            if now != before:
                before, since = now, time.monotonic()

    def right(self, label, errors, count):
        errors = [error for error in errors if error]
        self.table.claim(f"{label}: viewers with every byte right",
                         f"{count - len(errors)}", f"{count}", not errors)
        for error in sorted(set(errors))[:3]:
            self.table.note(f"- {label}: {error}")

    # --- browser

    def first_frame(self, page, path):
        """(seconds, ranges asked for until soon after) in a new Chromium.
        The time at which its frame was known is in self.shown_at."""
        self.browsers += 1
        driver = chromium.start(
            os.path.join(self.folder, f"profile-{self.browsers}"),
            performance="ALL")
        try:
            driver.get(page)
            answer = driver.execute_async_script(FIRST_FRAME, path)
            self.shown_at = time.monotonic()
            ranges = chromium.requests_of(driver, path)
        finally:
            driver.quit()
        if "error" in answer or answer["at"] != 0:
            bench.die(f"{path} does not play: {answer}")
        return answer["seconds"], ranges

    # --- the numbers

    def next_video(self):
        label = "next video"
        with Origin() as origin:
            names = [f"next-{n}" for n in range(5)]
            objects = [origin.add(name, file=self.clip.path, delay=COLD_S)
                       for name in names + ["cold", "cold-seen"]]
            server = self.server(origin)
            began = time.monotonic()
            for name in names:
                prefetch(server, name, seconds=AHEAD_S)
            viewers = [self.viewer(server, "cold", stop_after=MIB)]
            viewers[0].start()
            cold_seen, _ = self.first_frame(server.url("/"),
                                            server.path("cold-seen"))
            viewers[0].join()
            cold = viewers[0].first_byte_s
            for name in names:
                wait_prefetched(server, name, 90)
            took = time.monotonic() - began
            self.quiet(objects)
            for obj in objects:
                obj.forget()
            heard = []
            for name in names:
                viewer = self.viewer(server, name, stop_after=4 * MIB)
                viewer.run()
                viewers.append(viewer)
                heard.append(viewer.first_byte_s or 60)
            before = sum(obj.body_bytes for obj in objects)
            # a video that nobody has asked for before the browser does
            origin.add("seen", file=self.clip.path, delay=COLD_S)
            prefetch(server, "seen", seconds=AHEAD_S)
            wait_prefetched(server, "seen", 90)
            seen = origin.objects["seen"]
            self.quiet([seen])
            seen.forget()
            warm_seen, _ = self.first_frame(server.url("/"), "/proxy/seen")
            came = sum(r.sent for r in seen.requests
                       if r.first_byte_at and
                       r.first_byte_at <= self.shown_at)
            server.stop()
        self.right(label, [v.error for v in viewers], len(viewers))
        middle = bench.median(heard) * 1000
        self.table.judge(
            f"{label}: first byte, prefetched",
            f"{middle:.1f} ms (worst {max(heard) * 1000:.1f})",
            f"{cold:.2f} s (cold)", middle / FIRST_BYTE_MS, 1,
            f"{FIRST_BYTE_MS} ms")
        self.table.claim(f"{label}: origin bytes for 4 MiB each of it",
                         str(before), "0", before == 0)
        self.table.judge(f"{label}: first frame in Chromium, prefetched",
                         f"{warm_seen:.2f} s", f"{cold_seen:.2f} s (cold)",
                         warm_seen / cold_seen, None)
        self.table.claim(f"{label}: origin bytes before that frame",
                         str(came), "0", came == 0)
        self.table.note(f"- {label}: {len(names)} prefetches of {AHEAD_S} s "
                        f"at a time took {took:.1f} s at {COLD_S} s to the "
                        "origin's first byte")

    def index_behind(self):
        label = "index behind, 40 MB"
        clip = make_clip(self.folder, "behind.mp4", 60, "5500k")
        boxes = clip.boxes()
        if list(boxes)[-1] != "moov":
            bench.die(f"the index is not behind: {boxes}")
        head = sum(n for name, n in boxes.items()
                   if name not in ("mdat", "moov"))
        ours, theirs = [], []
        with Origin() as origin:
            films, plains = ([origin.add(f"{name}-{n}", file=clip.path,
                                         rate=2 * MIB, delay=.2)
                              for n in range(BROWSERS)]
                             for name in ("film", "plain"))
            origin.add("page", file=os.path.join(self.web, "index.html"),
                       content_type="text/html")
            server = self.server(origin)
            for film, plain in zip(films, plains):
                theirs.append(self.first_frame(origin.url("page"),
                                               f"/o/{plain.name}"))
                ours.append(self.first_frame(server.url("/"),
                                             server.path(film.name)))
                sent = max(obj.body_bytes for obj in films)
                sent_plain = max(obj.body_bytes for obj in plains)
            viewer = bench.Viewer(bench.Connection(server.port),
                                  server.path(films[0].name), clip.data)
            viewer.run()
            self.quiet(films)
            twice = films[0].body_bytes - films[0].unique_bytes
            server.stop()
        limit = head + boxes["moov"] + 2 * CHUNK
        self.right(label, [viewer.error], 1)
        self.table.judge(f"{label}: origin bytes before the first frame",
                         f"{sent / MIB:.2f} MiB (most of {BROWSERS})",
                         f"{sent_plain / MIB:.2f} MiB (no cache)",
                         sent / limit, 1, "head + moov + 2 chunks")
        same = sum(alike(o[1], t[1]) for o, t in zip(ours, theirs))
        self.table.claim(f"{label}: browsers that ask as without a cache",
                         f"{same}", f"{BROWSERS}", same == BROWSERS)
        ours_s, theirs_s = (bench.median([b[0] for b in browsers])
                            for browsers in (ours, theirs))
        self.table.judge(f"{label}: first frame", f"{ours_s:.2f} s",
                         f"{theirs_s:.2f} s (no cache)", ours_s / theirs_s,
                         None)
        for words, browsers in (("through reelcache", ours),
                                ("without a cache", theirs)):
            self.table.note(f"- {label}: {words}: " + "; ".join(sorted(
                {", ".join(b[1]) for b in browsers})))
        self.table.note(f"- {label}: {clip.size} bytes, of these moov "
                        f"{boxes['moov']}; to its end, fetched twice "
                        f"{twice / KIB:.0f} KiB")

    def crowd(self, clip, order, apart):
        """Twenty viewers of one film, or each of a film of his own."""
        with Origin() as origin:
            origin.total_rate = SPARE * VIEWERS * clip.rate
            names = [f"film-{n}" for n in range(VIEWERS)] if apart else \
                ["film"] * VIEWERS
            objects = {name: origin.add(name, file=clip.path)
                       for name in names}
            server = self.server(origin, prefetch={"order": order},
                                 upstream={"connections": "6"})
            begin = time.monotonic() + .5
            players = [
                Player(server.port, server.path(name), clip,
                       int(n * APART_S * clip.rate), WATCH_S, begin + .1 * n)
                for n, name in enumerate(names)]
            for player in players:
                player.start()
            for player in players:
                player.join(WATCH_S + 120)
            sent = sum(obj.body_bytes for obj in objects.values())
            unique = sum(obj.unique_bytes for obj in objects.values())
            server.stop()
        for player in players:
            if player.is_alive():
                player.error = "still not at its end"
        return players, sent, unique

    def schedule(self):
        film = make_clip(self.folder, "film.mp4",
                         APART_S * (VIEWERS + 1), "4M",
                         "-movflags", "+faststart")
        # all at once, with nothing else to do
        ideal = BUFFER_S / SPARE
        for apart in (False, True):
            label = f"{VIEWERS} viewers of " + \
                ("a film each" if apart else "one film")
            found = {}
            for order in ("deadline", "arrival"):
                players, sent, unique = self.crowd(film, order, apart)
                found[order] = players
                errors = [p.error for p in players if p.error]
                if order == "deadline":
                    self.right(label, errors, VIEWERS)
                waits = [p.waited_s for p in players if p.waited_s]
                self.table.note(
                    f"- {label}, by {order}: {VIEWERS - len(errors)} served "
                    f"to the end; waited {bench.median(waits):.1f} s (longest "
                    f"{max(waits):.1f}) for the first {BUFFER_S} s; stalled "
                    f"{sum(p.stalled_s for p in players):.1f} s in all; "
                    f"fetched {sent / MIB:.0f} MiB, of these twice "
                    f"{(sent - unique) / MIB:.2f} MiB")
                for error in sorted({e.split(",")[0] for e in errors}):
                    self.table.note(f"- {label}, by {order}: {error}")
            stalls, failed, waited = (
                [f([p for p in found[order]])
                 for order in ("deadline", "arrival")]
                for f in (lambda ps: sum(p.stalls for p in ps),
                          lambda ps: sum(p.error is not None for p in ps),
                          lambda ps: max(p.waited_s or 0 for p in ps)))
            self.table.claim(f"{label}: stalls", f"{stalls[0]}", "0",
                             stalls[0] == 0)
            self.table.judge(f"{label}: stalls and failures by arrival",
                             f"{stalls[1]} + {failed[1]}",
                             f"{stalls[0]} + {failed[0]} (by deadline)",
                             None, None)
            self.table.judge(f"{label}: longest wait before the first "
                             f"{BUFFER_S} s", f"{waited[0]:.1f} s",
                             f"{ideal:.1f} s (all share at once)",
                             waited[0] / ideal, None)
        self.table.note(
            f"- {VIEWERS} viewers: {film.size / MIB:.0f} MiB, "
            f"{film.rate * 8 / 1e6:.2f} Mbit/s, {APART_S} s of playing time "
            f"apart, {WATCH_S} s watched; the origin gives "
            f"{SPARE * VIEWERS * film.rate / 1e6:.1f} MB/s in all, over 6 "
            "connections at most")

    def promoted(self):
        label = "prefetched and demanded"
        clip = self.random_file("promoted", 24 * MIB)
        with Origin() as origin:
            movie = origin.add("movie", file=clip.path, rate=2 * MIB,
                               delay=.1)
            server = self.server(origin)
            prefetch(server, "movie")
            while movie.body_bytes < MIB:
                time.sleep(.01)
            viewers = []
            for place in range(4):
                start = place * 6 * MIB + 1234
                viewers.append(bench.Viewer(
                    bench.Connection(server.port), server.path("movie"),
                    clip.data, f"bytes={start}-{start + 2 * MIB - 1}"))
            for viewer in viewers:
                viewer.start()
            for viewer in viewers:
                viewer.join()
            wait_prefetched(server, "movie", 60)
            self.quiet([movie])
            sent, unique = movie.body_bytes, movie.unique_bytes
            server.stop()
        self.right(f"{label} at 4 places", [v.error for v in viewers], 4)
        self.table.judge(f"{label} at 4 places: origin bytes",
                         f"{sent}", f"{unique} (unique)", sent / unique, 1)

    def paced(self):
        label = "1 MiB/s a connection, 20 MiB"
        clip = self.random_file("paced", 20 * MIB)
        alone = clip.size / MIB
        with Origin() as origin:
            names = ("first", "second")
            objects = [origin.add(name, file=clip.path, rate=MIB, delay=.1)
                       for name in names]
            server = self.server(origin)
            viewers = []
            for name in names:
                viewers.append(bench.Viewer(bench.Connection(server.port),
                                            server.path(name), clip.data))
                viewers[-1].run()
            self.quiet(objects)
            server.stop()
        self.right(label, [v.error for v in viewers], 2)
        for name, viewer, obj in zip(names, viewers, objects):
            self.table.judge(f"{label}: {name} object",
                             f"{viewer.total_s:.2f} s",
                             f"{alone:.2f} s (one connection)",
                             viewer.total_s / alone, 1 / 3, "1/3")
            self.table.judge(f"{label}: {name} object's origin bytes",
                             f"{obj.body_bytes}", f"{obj.unique_bytes} "
                             "(unique)", obj.body_bytes / obj.unique_bytes,
                             1.01)
            self.table.note(f"- {label}: {name}: {obj.active_most} "
                            f"connections, {len(obj.requests)} requests")

    def leavers(self):
        label = f"{LEAVERS} viewers who leave after {LEAVE_S} s"
        clip = self.clip
        with Origin() as origin:
            names = [f"left-{n}" for n in range(LEAVERS)]
            objects = [origin.add(name, file=clip.path) for name in names]
            server = self.server(origin)
            begin = time.monotonic() + .3
            players = [Player(server.port, server.path(name), clip, 0,
                              LEAVE_S, begin + .1 * n)
                       for n, name in enumerate(names)]
            for player in players:
                player.start()
            for player in players:
                player.join(LEAVE_S + 60)
            self.quiet(objects)
            known = [get_json(server, f"/cache/{name}") for name in names]
            metrics = server.metrics()
            server.stop()
            sent = {name: 0 for name in names}
            for line in self.access(origin):
                name = line["target"].removeprefix("/proxy/")
                if name in sent:
                    sent[name] += line["bytes"]
        window = READAHEAD_S * clip.rate
        self.right(label, [p.error for p in players], LEAVERS)
        ideal = f"{window / MIB:.2f} MiB ({READAHEAD_S} s)"
        for what, counts, target in (
                ("kept", [sum(b - a for a, b in k["resident"])
                          for k in known], 1),
                ("fetched", [obj.body_bytes for obj in objects], 1)):
            waste = [count - sent[name] for count, name in zip(counts, names)]
            self.table.judge(f"{label}: {what}, not sent, the most of them",
                             f"{max(waste) / MIB:.2f} MiB", ideal,
                             max(waste) / window, target)
        unread = [obj.body_bytes - p.got for obj, p in zip(objects, players)]
        self.table.judge(f"{label}: fetched, not read by the viewer",
                         f"{max(unread) / MIB:.2f} MiB", ideal,
                         max(unread) / window, None)
        self.table.note(
            f"- {label}: unseen by /cache "
            f"{max(k['unseen_bytes'] for k in known) / MIB:.2f} MiB at most; "
            "fetched twice "
            f"{max(o.body_bytes - o.unique_bytes for o in objects) / MIB:.2f}"
            " MiB at most; by /metrics "
            f"{metrics['reelcache_prefetch_unseen_bytes'] / MIB:.2f} MiB in "
            "all unseen, "
            f"{metrics['reelcache_prefetch_wasted_bytes'] / MIB:.2f} MiB "
            "wasted")

    # --- small things

    def random_file(self, name, count):
        path = os.path.join(self.folder, name)
        bench.make_file(path, count, seed=3)
        return Clip(path, 0)

    def viewer(self, server, name, **more):
        return bench.Viewer(bench.Connection(server.port), server.path(name),
                            self.clip.data, **more)


def alike(ranges, others):
    """Are these the same open ranges, but for how far an answer that the
    player broke off had come?"""
    def starts(texts):
        return [int(text.removeprefix("bytes=").rstrip("-"))
                if text.endswith("-") else None for text in texts]
    ours, theirs = starts(ranges), starts(others)
    return None not in ours + theirs and len(ours) == len(theirs) and \
        all(abs(a - b) <= NEAR for a, b in zip(ours, theirs))


def get_json(server, path, method="GET"):
    request = urllib.request.Request(server.url(path), method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def prefetch(server, name, **query):
    words = "&".join(f"{key}={value}" for key, value in query.items())
    get_json(server, f"/prefetch/{name}?{words}", "POST")


def wait_prefetched(server, name, seconds):
    limit = time.monotonic() + seconds
    while True:
        jobs = get_json(server, f"/prefetch/{name}")["jobs"]
        states = {job["state"] for job in jobs}
        if states == {"done"}:
            return
        if "failed" in states or time.monotonic() > limit:
            bench.die(f"{name} is not prefetched: {jobs}")
        time.sleep(.05)


PARTS = {"next": Bench.next_video, "behind": Bench.index_behind,
         "schedule": Bench.schedule, "promoted": Bench.promoted,
         "paced": Bench.paced, "leavers": Bench.leavers}


def main():
    parser = bench.arguments(__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append",
                        help="these parts, not all")
    args = parser.parse_args()
    if args.server != "reelcache":
        bench.die("no other server looks ahead")
    run = Bench(args)
    for name in args.only or PARTS:
        PARTS[name](run)
    run.table.finish(args)


if __name__ == "__main__":
    main()

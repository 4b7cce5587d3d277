"""A plain <video> plays and seeks through reelcache, frame by frame right.

The origin takes 200 ms to a first byte and gives 400 KiB/s per response: a
clip of 12 MB takes half a minute, so a seek that waited for the bytes before
it would be seen at once.
"""

import json
import time
import urllib.request

import pytest

import make_media

# longest time from a seek into missing bytes to the right picture; a build
# with sanitizers and a busy machine have their share in it
SEEK_MS = 5000

# what may lie in sockets when a transfer is ended: it left the origin, and
# leaves it again with the next transfer
SOCKET_BYTES = 64 * 1024

SEEKABLE = ["360p-faststart.mp4", "360p-moov-last.mp4",
            "360p-fragmented-sidx.mp4", "144p-vp9.webm", "360p-vp8.webm"]


class Page:
    """The plain page in one browser."""

    def __init__(self, driver, server):
        self.driver = driver
        self.server = server
        driver.get(server.url("/"))

    def call(self, name, *args):
        """Calls window.plain.NAME(...) and waits for what it promises."""
        answer = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "const [name, args] = [arguments[0], arguments[1]];"
            "Promise.resolve().then(() => window.plain[name](...args)).then("
            "(value) => done({ value }),"
            "(error) => done({ error: String(error) }));", name, list(args))
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def load(self, clip):
        picture = self.call("load", self.server.path(clip.name))
        assert picture["frame"] == 0
        return picture

    def play_to(self, seconds):
        """While playing, a picture may follow its callback by one."""
        pictures = self.call("playTo", seconds)
        assert len(pictures) > 5
        for picture in pictures:
            shown = round(picture["mediaTime"] * make_media.FPS)
            assert picture["frame"] - shown in (0, 1), picture
        return pictures

    def seek(self, clip, frame):
        picture = self.call("seek", clip.second_of(frame))
        assert picture["frame"] == frame
        return picture

    def state(self):
        return self.call("state")


def fetched(counter, start, to):
    """Has the origin given any of these bytes?"""
    with counter.lock:
        return any(a < to and start < b for a, b in counter.spans)


def assert_fetched_once(counter):
    twice = counter.sent_bytes() - counter.unique_bytes()
    assert twice <= SOCKET_BYTES * (len(counter.requests) - 1), \
        counter.requests


@pytest.mark.parametrize("name", SEEKABLE)
def test_plays_and_seeks(name, clips, origin, server, browser):
    clip = clips[name]
    counter = origin.counter(f"/{name}")
    page = Page(browser, server)
    page.load(clip)
    assert page.state()["duration"] == pytest.approx(make_media.SECONDS,
                                                     abs=.1)
    page.play_to(1.5)

    # forward, into bytes that nobody has; the tail may have been read for
    # its index
    target = clip.frames * 7 // 10
    assert not fetched(counter, clip.size * 6 // 10, clip.size * 9 // 10)
    picture = page.seek(clip, target)
    assert picture["waitedMs"] < SEEK_MS
    assert not fetched(counter, clip.size * 5 // 10, clip.size * 6 // 10)
    page.play_to(clip.second_of(target) + 1)

    # back, to bytes that are there
    picture = page.seek(clip, 20)
    assert picture["waitedMs"] < SEEK_MS
    page.seek(clip, 5)

    browser.get("about:blank")
    assert origin.quiet(f"/{name}")
    assert_fetched_once(counter)


def test_fragmented_without_index_starts(clips, origin, server, browser):
    """Chromium walks such a file with many requests that it aborts."""
    clip = clips["360p-fragmented.mp4"]
    page = Page(browser, server)
    page.load(clip)
    page.play_to(2)
    browser.get("about:blank")
    counter = origin.counter(f"/{clip.name}")
    assert origin.quiet(f"/{clip.name}", deadline_s=60)
    assert_fetched_once(counter)


def test_second_viewer_reads_along(clips, origin, server, new_browser):
    clip = clips["360p-faststart.mp4"]
    counter = origin.counter(f"/{clip.name}")
    first = Page(new_browser(), server)
    second = Page(new_browser(), server)
    first.load(clip)
    first.play_to(1)
    assert counter.sent_bytes() < clip.size // 2, "the fill should go on"
    asked = len(counter.requests)
    second.load(clip)
    second.play_to(2)
    assert len(counter.requests) == asked, "fed from the first one's fetch"
    first.play_to(3)
    first.driver.get("about:blank")
    second.driver.get("about:blank")
    assert origin.quiet(f"/{clip.name}")
    assert_fetched_once(counter)


def test_other_sites_may_read(clips, server, browser, tmp_path):
    """A page of another site reads bytes and fields: CORS."""
    clip = clips["144p-faststart.mp4"]
    page = tmp_path / "other.html"
    page.write_text("<!DOCTYPE html><title>another site</title>")
    browser.get(page.as_uri())
    answer = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "fetch(arguments[0], { headers: { Range: 'bytes=100-199' } })"
        ".then(async (r) => done({ status: r.status,"
        " range: r.headers.get('Content-Range'),"
        " cache: r.headers.get('Cache-Status'),"
        " bytes: (await r.arrayBuffer()).byteLength }))"
        ".catch((error) => done({ error: String(error) }));",
        server.url(server.path(clip.name)))
    assert "error" not in answer, answer
    assert answer["status"] == 206
    assert answer["range"] == f"bytes 100-199/{clip.size}"
    assert answer["bytes"] == 100
    assert "reelcache" in answer["cache"]


def test_prefetched_start_needs_no_origin(clips, origin, server, browser):
    """POST /prefetch of the first seconds: the first picture shows while the
    origin does not answer at all."""
    clip = clips["360p-moov-last.mp4"]
    target = server.path(clip.name).replace("/proxy/", "/prefetch/")
    request = urllib.request.Request(server.url(target) + "?seconds=5",
                                     method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 202

    def done():
        with urllib.request.urlopen(server.url(target), timeout=10) as answer:
            jobs = json.load(answer)["jobs"]
        assert [j["state"] for j in jobs] in (["waiting"], ["running"],
                                              ["done"]), jobs
        return jobs[0]["state"] == "done"
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "the prefetch does not end"
        time.sleep(.05)
    origin.delay_s = 1000
    page = Page(browser, server)
    picture = page.load(clip)
    assert picture["frame"] == 0
    assert picture["waitedMs"] < 5000
    page.play_to(1)

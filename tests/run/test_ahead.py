"""What is fetched before anybody waits for it."""
import json
import time

import pytest

import client
import content
from harness import Later, threads, until

MIB = 1 << 20
AHEAD = {"upstream": {"max_connections": 6}}


def post(server, name, **query):
    text = "&".join(f"{k}={v}" for k, v in query.items())
    res = client.fetch(server.port, f"/prefetch/{name}?{text}", method="POST")
    assert res.status == 202, (res.status, res.body)
    return json.loads(res.body)["jobs"]


def jobs(server, name):
    res = client.fetch(server.port, f"/prefetch/{name}")
    assert res.status == 200, (res.status, res.body)
    return json.loads(res.body)["jobs"]


def wait_done(server, name, seconds=20):
    def state():
        found = jobs(server, name)
        assert all(j["state"] in ("waiting", "running", "done")
                   for j in found), found
        return all(j["state"] == "done" for j in found)
    until(state, f"prefetch of {name} is done", seconds, 0.05)


def resident(server, name):
    res = client.fetch(server.port, f"/cache/{name}")
    if res.status == 404:
        return []
    assert res.status == 200, res.body
    return [tuple(s) for s in json.loads(res.body)["resident"]]


def right(obj, res, start=0):
    return res.body == content.span(obj.seed, start, start + len(res.body))


# --- POST /prefetch

def test_prefetched_bytes_need_no_origin(make, origin):
    movie = origin.add("movie", 6 * MIB, delay=0.3)
    server = make(origin, **AHEAD).start()
    post(server, "movie", bytes=2 * MIB)
    wait_done(server, "movie")
    assert movie.unique_bytes == movie.body_bytes
    asked = len(movie.requests)
    movie.hang = True
    res = server.get("movie", range=f"bytes=0-{2 * MIB - 1}")
    assert res.status == 206 and right(movie, res) and \
        len(res.body) == 2 * MIB
    assert "; hit" in res.cache_status
    assert res.first_byte_after < 0.1
    assert len(movie.requests) == asked
    movie.hang = False


def test_all_of_an_object(make, origin):
    movie = origin.add("movie", 3 * MIB + 77)
    server = make(origin, **AHEAD).start()
    post(server, "movie")
    wait_done(server, "movie")
    assert resident(server, "movie") == [(0, movie.size)]
    assert movie.body_bytes == movie.size
    assert right(movie, server.get("movie"))


def test_without_ranges_and_without_a_length(make, origin):
    plain = origin.add("plain", 3 * MIB, ranges=False)
    chunked = origin.add("chunked", 2 * MIB, length=False)
    server = make(origin, **AHEAD).start()
    for obj in (plain, chunked):
        post(server, obj.name)
        wait_done(server, obj.name)
        obj.hang = True
        res = server.get(obj.name)
        assert right(obj, res) and len(res.body) == obj.size
        assert obj.body_bytes == obj.size
        obj.hang = False


def test_demanded_from_four_places_meanwhile(make, origin):
    """Promoted in place, never fetched twice."""
    movie = origin.add("movie", 24 * MIB, rate=2 * MIB, delay=0.1)
    server = make(origin, **AHEAD).start()
    post(server, "movie")
    until(lambda: movie.body_bytes > MIB, "it arrives")
    places = [k * 6 * MIB + 1234 for k in range(4)]
    got = threads(*[lambda p=p: server.get(
        "movie", range=f"bytes={p}-{p + 2 * MIB - 1}") for p in places])
    for place, res in zip(places, got):
        assert res.status == 206 and len(res.body) == 2 * MIB
        assert right(movie, res, place)
    wait_done(server, "movie", 40)
    assert movie.unique_bytes == movie.size
    # what the origin had on its way when a run met another's beginning
    assert movie.body_bytes - movie.size <= movie.size // 100


def test_waits_while_a_viewer_has_little_ahead(make, origin):
    now = origin.add("now", 8 * MIB, rate=MIB)
    later = origin.add("later", 8 * MIB, rate=MIB)
    server = make(origin, prefetch={"min_slack": "60s"},
                  upstream={"max_connections": 1}).start()
    viewer = Later(server.get, "now")
    until(lambda: now.body_bytes > 64 << 10, "somebody watches")
    post(server, "later")
    time.sleep(1.5)
    assert later.body_bytes == 0, "the viewer is to come first"
    assert right(now, viewer.value())
    until(lambda: later.body_bytes > 0, "then it is its turn", 10)


def test_stops_for_a_viewer_who_comes(make, origin):
    later = origin.add("later", 16 * MIB, rate=MIB)
    now = origin.add("now", 3 * MIB, rate=MIB)
    server = make(origin, prefetch={"min_slack": "60s"},
                  upstream={"max_connections": 1}).start()
    post(server, "later")
    # beyond the first bytes, by which it learns what there is
    until(lambda: later.body_bytes > MIB, "the prefetch runs")
    viewer = Later(server.get, "now")
    until(lambda: now.body_bytes > 64 << 10, "somebody watches")
    time.sleep(0.5)
    before = later.body_bytes
    time.sleep(1)
    # what sockets hold may still come
    assert later.body_bytes - before < 700 << 10
    assert right(now, viewer.value())
    until(lambda: later.body_bytes > before + MIB, "it goes on", 10)


def test_budget_of_unseen_bytes(make, origin):
    movies = [origin.add(f"m{n}", 4 * MIB) for n in range(4)]
    server = make(origin, prefetch={"budget": "6M"}, **AHEAD).start()
    for movie in movies:
        post(server, movie.name)
    until(lambda: server.metrics()["prefetch_unseen_bytes"] >= 6 * MIB,
          "the budget is used up")
    time.sleep(1)
    unseen = server.metrics()["prefetch_unseen_bytes"]
    assert unseen < 15 * MIB
    states = [jobs(server, m.name)[0]["state"] for m in movies]
    assert "waiting" in states and "done" in states
    # what has been seen makes room
    for movie in movies:
        if jobs(server, movie.name)[0]["state"] == "done":
            assert right(movie, server.get(movie.name))
    for movie in movies:
        until(lambda m=movie: jobs(server, m.name)[0]["state"] == "done" or
              right(m, server.get(m.name)), "all come in the end", 20)


def test_what_has_no_end_is_given_up(make, origin):
    """Neither the budget nor the scratch folder is for ever taken by it."""
    stream = origin.add("stream", 64 * MIB, length=False)
    private = origin.add("private", 32 * MIB, length=False,
                         cache_control="no-store")
    large = origin.add("large", 12 * MIB, ranges=False)
    server = make(origin, prefetch={"budget": "4M"},
                  cache={"scratch_size": "1M"}, **AHEAD).start()
    for obj in (private, large, stream):
        post(server, obj.name)
        until(lambda o=obj: jobs(server, o.name)[0]["state"] == "failed",
              f"{obj.name} is given up", 15)
    server.wait_idle()
    assert server.metrics()["stored_bytes"] < 40 * MIB
    assert server.metrics()["scratch_bytes"] <= MIB
    # who wants to see them does
    for obj in (private, large):
        assert right(obj, server.get(obj.name))


def test_a_viewer_who_comes_to_a_held_prefetch(make, origin):
    """Somebody has little ahead: that holds prefetches, not viewers."""
    now = origin.add("now", 8 * MIB, rate=MIB)
    later = origin.add("later", 4 * MIB, delay=1)
    server = make(origin, prefetch={"min_slack": "60s"}, **AHEAD).start()
    post(server, "later")
    until(lambda: later.requests, "it is asked for")
    viewer = Later(server.get, "now")
    until(lambda: now.body_bytes > 64 << 10, "somebody watches")
    res = server.get("later")
    assert right(later, res) and res.total < 4, res.total
    assert right(now, viewer.value())


def test_an_origin_that_stays_down(make, origin):
    """A prefetch does not try for ever."""
    origin.add("movie", MIB, status=500)
    server = make(origin, cache={"negative": "500ms"}, **AHEAD).start()
    post(server, "movie")
    until(lambda: jobs(server, "movie")[0]["state"] == "failed",
          "it is given up after half a minute", 50, 0.5)


def test_bandwidth_of_prefetches(make, origin):
    movie = origin.add("movie", 8 * MIB)
    server = make(origin, prefetch={"bandwidth": "1M"}, **AHEAD).start()
    began = time.monotonic()
    post(server, "movie", bytes=3 * MIB)
    wait_done(server, "movie")
    took = time.monotonic() - began
    assert 1.9 < took < 6, took
    # nobody who waits is slowed
    res = server.get("movie", range=f"bytes={4 * MIB}-{8 * MIB - 1}")
    assert right(movie, res, 4 * MIB) and res.total < 2


def test_what_is_stale_is_confirmed(make, origin):
    """Else the origin would be asked when it is played."""
    movie = origin.add("movie", MIB, cache_control="max-age=3")
    server = make(origin, **AHEAD).start()
    assert right(movie, server.get("movie"))
    server.settle(movie)
    time.sleep(3.5)
    post(server, "movie")
    wait_done(server, "movie")
    assert movie.requests[-1].status == 304
    movie.hang = True
    res = server.get("movie")
    movie.hang = False
    assert right(movie, res) and "; hit" in res.cache_status
    assert res.first_byte_after < 1


def test_fails_when_the_origin_has_it_not(make, origin):
    server = make(origin, **AHEAD).start()
    post(server, "nowhere")
    until(lambda: jobs(server, "nowhere")[0]["state"] == "failed", "it fails")
    assert "404" in jobs(server, "nowhere")[0]["reason"]


# --- read-ahead

def test_reads_ahead_of_ranges_in_a_row(make, origin):
    movie = origin.add("movie", 24 * MIB)
    server = make(origin, cache={"lead": "4M", "linger": "0",
                                 "linger_time": "0"}, **AHEAD).start()
    step = 256 << 10
    for n in range(4):
        res = server.get("movie", range=f"bytes={n * step}-{(n+1) * step-1}")
        assert right(movie, res, n * step)
        time.sleep(0.05)
    until(lambda: resident(server, "movie")[-1][1] >= 4 * MIB, "read-ahead")
    time.sleep(0.5)
    # no further than the lead ahead of the last range
    assert resident(server, "movie")[-1][1] <= 4 * step + 4 * MIB + (64 << 10)
    # and it is there for who reads on
    movie.hang = True
    for n in range(4, 12):
        res = server.get("movie", range=f"bytes={n * step}-{(n+1) * step-1}")
        assert right(movie, res, n * step)
    movie.hang = False
    metrics = server.metrics()
    assert metrics["prefetch_bytes"] > 2 * MIB
    until(lambda: server.metrics()["prefetch_useful_bytes"] >= step,
          "what was sent is counted as of use")


def test_one_range_is_no_playing(make, origin):
    movie = origin.add("movie", 24 * MIB)
    server = make(origin, cache={"linger": "0", "linger_time": "0"},
                  **AHEAD).start()
    server.get("movie", range="bytes=0-65535")
    server.get("movie", range=f"bytes={8 * MIB}-{8 * MIB + 65535}")
    server.wait_idle()
    time.sleep(1)
    assert movie.unique_bytes < 2 * MIB


def test_stops_when_the_viewer_leaves(make, origin):
    movie = origin.add("movie", 64 * MIB, rate=8 * MIB)
    server = make(origin, cache={"lead": "4M"}, **AHEAD).start()
    conn = server.connect(receive_buffer=64 << 10)
    conn.ask("/proxy/movie")
    conn.head()
    until(lambda: movie.unique_bytes > MIB, "it plays")
    conn.reset()
    server.wait_idle()
    at = movie.body_bytes
    time.sleep(1)
    assert movie.body_bytes == at
    assert at < 16 * MIB


# --- what origins are like

def test_several_connections_where_they_help(make, origin):
    movie = origin.add("movie", 20 * MIB, rate=MIB, delay=0.1)
    server = make(origin, **AHEAD).start()
    res = server.get("movie")
    assert right(movie, res) and len(res.body) == movie.size
    assert res.total < 20 / 3, res.total
    assert movie.active_most <= 6
    assert movie.unique_bytes == movie.size
    assert movie.body_bytes - movie.size <= movie.size // 100


def test_one_connection_where_more_do_not_help(make, origin):
    origin.total_rate = 2 * MIB
    movie = origin.add("movie", 12 * MIB)
    server = make(origin, **AHEAD).start()
    res = server.get("movie")
    assert right(movie, res)
    assert res.total < 12 / 2 * 1.3
    asked = len(movie.requests)
    other = origin.add("other", 8 * MIB)
    res = server.get("other")
    assert right(other, res)
    assert other.active_most == 1, (asked, len(other.requests))


def test_learned_is_kept(make, origin):
    movie = origin.add("movie", 12 * MIB, rate=MIB, delay=0.1)
    server = make(origin, **AHEAD).start()
    assert right(movie, server.get("movie"))
    assert server.stop() == 0
    server.start()
    other = origin.add("other", 12 * MIB, rate=MIB, delay=0.1)
    res = server.get("other")
    assert right(other, res)
    # without trying: as fast as six connections are
    assert res.total < 4, res.total


@pytest.mark.parametrize("status", [403, 416])
def test_long_ranges_are_refused(make, origin, status):
    movie = origin.add("movie", 5 * MIB, range_max=MIB,
                       range_max_status=status)
    server = make(origin, **AHEAD).start()
    res = server.get("movie")
    assert res.status == 200 and right(movie, res)
    assert len(res.body) == movie.size
    assert movie.body_bytes == movie.size
    refused = sum(r.status == status for r in movie.requests)
    assert 1 <= refused <= 2
    # learned: the next one is not refused at all
    other = origin.add("other", 3 * MIB, range_max=MIB,
                       range_max_status=status)
    assert right(other, server.get("other"))
    assert all(r.status == 206 for r in other.requests)


def test_a_refusal_that_means_it(make, origin):
    origin.add("movie", 5 * MIB, status=403)
    server = make(origin, **AHEAD).start()
    res = server.get("movie")
    assert res.status == 403
    assert res.headers["content-type"] == "application/problem+json"


def test_open_ranges_crawl(make, origin):
    movie = origin.add("movie", 8 * MIB, open_rate=64 << 10, rate=6 * MIB)
    server = make(origin, **AHEAD).start()
    res = server.get("movie")
    assert right(movie, res) and len(res.body) == movie.size
    assert res.total < 20, res.total  # 128 s at the crawl
    other = origin.add("other", 8 * MIB, open_rate=64 << 10, rate=6 * MIB)
    res = server.get("other")
    assert right(other, res)
    assert res.total < 5, res.total
    assert not any(r.range.endswith("-") for r in other.requests)


def test_storm_of_429(make, origin):
    movie = origin.add("movie", 16 * MIB, rate=MIB, busy_above=2,
                       retry_after=1)
    server = make(origin, **AHEAD).start()
    res = server.get("movie", timeout=60)
    assert right(movie, res) and len(res.body) == movie.size
    refused = sum(r.status == 429 for r in movie.requests)
    assert refused <= 12, refused
    assert movie.body_bytes - movie.size <= movie.size // 100


def test_prefetch_bears_a_busy_origin(make, origin):
    movie = origin.add("movie", 2 * MIB, status=503, status_times=3)
    server = make(origin, **AHEAD).start()
    post(server, "movie")
    wait_done(server, "movie", 40)
    assert right(movie, server.get("movie"))


# --- time and bytes

@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    import subprocess
    folder = tmp_path_factory.mktemp("clips")
    for name, flags in (("fast", ["-movflags", "+faststart"]), ("behind", [])):
        subprocess.run(
            ["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
             "testsrc2=size=320x180:rate=25", "-t", "60", "-c:v", "libx264",
             "-preset", "ultrafast", "-b:v", "800k", "-minrate", "800k",
             "-maxrate", "800k", "-bufsize", "400k", "-g", "25", *flags,
             str(folder / f"{name}.mp4")], check=True, timeout=120)
    return folder


def test_seconds_are_seconds(make, origin, clips):
    clip = origin.add("clip", file=str(clips / "fast.mp4"))
    server = make(origin, **AHEAD).start()
    post(server, "clip", start=20, seconds=10)
    wait_done(server, "clip")
    asked = until(lambda: json.loads(client.fetch(
        server.port, "/map/clip").body), "the map")
    assert abs(asked["duration_s"] - 60) < 0.2
    spans = resident(server, "clip")
    points = asked["points"]
    first = max(off for t, off in points if t <= 20)
    last = min(off for t, off in points if t >= 30)
    assert any(a <= first and last <= b for a, b in spans), (spans, first,
                                                             last)
    # ten of sixty seconds, and the head
    assert sum(b - a for a, b in spans) < clip.size // 2


def test_index_behind(make, origin, clips):
    """Head and tail first, so that the first frame needs no origin."""
    clip = origin.add("clip", file=str(clips / "behind.mp4"))
    server = make(origin, **AHEAD).start()
    post(server, "clip", seconds=5)
    wait_done(server, "clip")
    spans = resident(server, "clip")
    assert spans[0][0] == 0 and spans[-1][1] == clip.size
    assert sum(b - a for a, b in spans) < clip.size // 2
    answer = json.loads(client.fetch(server.port, "/map/clip").body)
    assert answer["index_behind"] is True


def test_readahead_is_time(make, origin, clips):
    """A viewer who reads slowly has `readahead` ahead, not `lead`."""
    clip = origin.add("clip", file=str(clips / "fast.mp4"), rate=2 * MIB)
    server = make(origin, prefetch={"readahead": "10s"},
                  http={"notsent_lowat": "16K"}, **AHEAD).start()
    conn = server.connect(receive_buffer=4096)
    conn.ask("/proxy/clip")
    conn.head()
    until(lambda: sum(b - a for a, b in resident(server, "clip")) > 900_000,
          "it plays")
    time.sleep(2)
    # 10 s of 60, and what sockets hold
    ahead = resident(server, "clip")[-1][1]
    assert clip.size / 6 * 0.9 < ahead < clip.size * 0.4, (ahead, clip.size)
    conn.reset()


@pytest.mark.alone
def test_map_of_what_is_gone(make, origin, clips):
    """The origin has it no more: no map of what was, and nothing dies."""
    clip = origin.add("clip", file=str(clips / "fast.mp4"),
                      cache_control="max-age=1")
    server = make(origin, cache={"negative": "500ms"}, **AHEAD).start()
    assert client.fetch(server.port, "/map/clip").status == 200
    pid = server.prefetcher()
    time.sleep(1.5)
    clip.status = 404
    until(lambda: server.get("clip").status == 404, "it is gone", 10, 0.1)
    time.sleep(0.6)
    assert client.fetch(server.port, "/map/clip").status == 404
    time.sleep(0.6)
    clip.status = None
    assert client.fetch(server.port, "/map/clip").status == 200
    assert server.prefetcher() == pid

"""Ids that must be resolved: by yt-dlp, by a service, by file names; their
qualities; and helpers that fail in every way."""
import http.server
import json
import os
import shutil
import signal
import threading
import time

import pytest

import client
import content
import harness
from harness import until
from origin import Origin

TOKEN = "sEcReT-7f3a"
MIB = 1 << 20


class Pages:
    """Web pages with a video in them, and a resolver service."""

    def __init__(self):
        self.pages = {}  # path: (content type, bytes)
        self.asked = []
        pages = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                pages.asked.append(self.path)
                kind, body = pages.pages.get(
                    self.path, ("text/plain", b"not here\n"))
                self.send_response(200 if self.path in pages.pages else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,),
                         daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def put(self, path, body, kind="text/html; charset=utf-8"):
        self.pages[path] = (kind, body.encode())

    def put_json(self, path, document):
        self.put(path, json.dumps(document), "application/json")

    def count(self, path):
        return self.asked.count(path)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def pages():
    one = Pages()
    yield one
    one.stop()


def script(server, text, name="helper"):
    """A helper program; $1 is the id, $2 the URL.  Its path."""
    path = os.path.join(server.folder, name)
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    return path


def command_source(server, text, **options):
    """Adds a source whose helper is this script."""
    options.setdefault("quality", "best")
    server.set(source__cmd={
        "type": "command", "url": "http://127.0.0.1:9/{id}",
        "command": script(server, text) + " {id} {url}",
        "allow_private": True, **options})


def formats(origin, name, heights=(144, 360, 720), token=None, **more):
    """A document as yt-dlp prints it: objects NAME-144 and so on."""
    query = f"?t={token}" if token else ""
    return {"id": name, "title": f"Film {name}", "duration": 12.5, "formats": [
        {"format_id": f"f{h}", "url": origin.url(f"{name}-{h}") + query,
         "ext": "mp4", "height": h, "width": h * 16 // 9,
         "vcodec": "avc1.42001E", "acodec": "mp4a.40.2", "tbr": h,
         "protocol": "http", **more} for h in heights]}


def add_objects(origin, name, heights=(144, 360, 720), **settings):
    return {h: origin.add(f"{name}-{h}", h * 1000, **settings)
            for h in heights}


def put_document(server, document, name="document"):
    path = os.path.join(server.folder, name)
    with open(path + ".new", "w") as f:
        json.dump(document, f)
    os.rename(path + ".new", path)
    return path


def resolve(server, name, **query):
    query = "&".join(f"{k}={v}" for k, v in query.items())
    return client.fetch(server.port, f"/resolve/{name}" +
                        (f"?{query}" if query else ""), timeout=60)


def proxy(server, name, q=None, source=None, **options):
    query = "&".join(f"{k}={v}" for k, v in
                     (("q", q), ("source", source)) if v is not None)
    return client.fetch(server.port, f"/proxy/{name}" +
                        (f"?{query}" if query else ""), **options)


def document_of(res):
    assert res.status == 200, res.body
    assert res.headers["content-type"] == "application/json"
    assert res.headers["cache-control"] == "no-store"
    document = json.loads(res.body)
    assert document["version"] == 1
    return document


def problem_of(res, status):
    assert res.status == status, (res.status, res.body)
    assert res.headers["content-type"] == "application/problem+json"
    problem = json.loads(res.body)
    assert problem["status"] == status
    assert problem["detail"]
    return problem["detail"]


def resolver_pid(server):
    for pid in server.children():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if b"resolver" in f.read():
                    return pid
        except OSError:
            continue
    return None


def processes_with(mark):
    """pids whose command line has the mark."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if mark.encode() in f.read() and harness.alive(int(pid)):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def runs(server):
    """How often the helper that counts was run."""
    try:
        with open(os.path.join(server.folder, "runs")) as f:
            return len(f.readlines())
    except OSError:
        return 0


COUNT = 'echo "$1" >>"$(dirname "$0")/runs"\n'


def no_secret(server, *answers):
    """The token is in nothing that anybody gets to see."""
    for res in answers:
        assert TOKEN.encode() not in res.body
        assert TOKEN not in res.raw_head.decode("latin-1")
    assert TOKEN not in server.log_text()
    with open(server.access_log) as f:
        assert TOKEN not in f.read()
    with open(os.path.join(server.folder, "stderr")) as f:
        assert TOKEN not in f.read()


# --- yt-dlp -----------------------------------------------------------------

@pytest.fixture
def ytdlp_server(make, origin, pages):
    assert shutil.which("yt-dlp"), "yt-dlp is not installed"
    server = make()
    server.set(source__web={
        "type": "command", "url": pages.url("/page/{id}.html"),
        "command": "yt-dlp -J --no-playlist -- {url}",
        "allow_private": True})
    return server.start()


def put_page(pages, origin, name, size=300000):
    obj = origin.add(f"{name}.mp4", size, token=TOKEN)
    pages.put(f"/page/{name}.html",
              "<html><head><title>A film of its own</title></head><body>"
              f'<video><source src="{origin.url(obj.name)}?t={TOKEN}" '
              'type="video/mp4"></video></body></html>')
    return obj


def test_ytdlp_resolves_a_page(ytdlp_server, origin, pages):
    server = ytdlp_server
    put_page(pages, origin, "clip")
    res = resolve(server, "clip")
    document = document_of(res)
    assert document["id"] == "clip"
    assert document["source"] == "web"
    assert "A film of its own" in document["title"]
    assert document["expires"] > time.time()
    one = document["renditions"][0]
    assert one["container"] == "mp4" and one["type"] == "video/mp4"
    assert one["video"] is True
    assert one["link"].startswith("/proxy/clip")
    asked = pages.count("/page/clip.html")
    assert asked > 0
    again = resolve(server, "clip")
    assert json.loads(again.body) == document
    assert pages.count("/page/clip.html") == asked, "it was known"
    problem = resolve(server, "no-such-page")
    problem_of(problem, 502 if problem.status == 502 else 404)
    head = client.fetch(server.port, "/resolve/clip", method="HEAD")
    assert head.status == 200
    assert head.headers["content-length"] == str(len(res.body))
    no_secret(server, res, again, problem)


def test_ytdlp_video_is_served(ytdlp_server, origin, pages):
    server = ytdlp_server
    obj = put_page(pages, origin, "clip")
    res = proxy(server, "clip", timeout=60)
    assert res.status == 200
    client.same(obj.seed, 0, res.body, obj.size)
    res = proxy(server, "clip", range="bytes=100-999")
    assert res.status == 206
    client.same(obj.seed, 100, res.body, 1000)
    assert obj.body_bytes == obj.size
    assert {r.headers["user-agent"][:8] for r in obj.requests
            if r.range} == {"Mozilla/"}, "the one that yt-dlp says"
    no_secret(server, res)


def wanting(origin, name, **settings):
    """An object that its origin gives to who says where he found it."""
    return origin.add(name, 300000, wants={
        "referer": "http://page.example/film", "cookie": "s=" + TOKEN},
        **settings)


FIELDS = {"Referer": "http://page.example/film", "Cookie": "s=" + TOKEN,
          "Host": "elsewhere.example", "Range": "bytes=0-0"}


def test_fields_of_a_resolution_are_sent(make, origin):
    """With each request: the first, a seek's, one that asks whether it has
    changed; what the helper must not say is not sent."""
    obj = wanting(origin, "film-360", cache_control="no-cache")
    server = make()
    put_document(server, formats(origin, "film", (360,),
                                 http_headers=FIELDS))
    command_source(server, 'cat "$(dirname "$0")/document"\n')
    server.start()
    res = proxy(server, "film", range="bytes=200000-200999")
    assert res.status == 206, res.body
    client.same(obj.seed, 200000, res.body, 201000)
    for _ in range(2):
        res = proxy(server, "film")
        assert res.status == 200, res.body
        client.same(obj.seed, 0, res.body, obj.size)
    assert {r.status for r in obj.requests} == {206, 304}
    assert all(r.headers["host"].startswith("127.0.0.1:")
               for r in obj.requests)
    no_secret(server, res, resolve(server, "film"))


def test_fields_of_a_service_are_sent(make, origin, pages):
    obj = wanting(origin, "film")
    other = origin.add("other", 5000)
    server = make(source__svc={"type": "http", "allow_private": True,
                               "url": pages.url("/list/{id}")})
    pages.put_json("/list/film", {"version": 1, "renditions": [
        {"format": "a", "height": 360, "url": origin.url("film"),
         "request_fields": FIELDS},
        {"format": "b", "height": 144, "url": origin.url("other")}]})
    server.start()
    res = proxy(server, "film", "360p")
    assert res.status == 200, res.body
    client.same(obj.seed, 0, res.body, obj.size)
    assert proxy(server, "film", "144p").status == 200
    assert all("referer" not in r.headers and
               r.headers["user-agent"].startswith("reelcache/")
               for r in other.requests), "each rendition has its own"
    no_secret(server, res)


def test_secrets_stay_with_their_host(make, origin):
    """A redirect to another host: it gets neither cookie nor the like."""
    server = make()
    put_document(server, formats(origin, "film", (360,), http_headers={
        **FIELDS, "Authorization": "Bearer x"}))
    command_source(server, 'cat "$(dirname "$0")/document"\n')
    server.start()
    with Origin(host="127.0.0.2") as elsewhere:
        obj = elsewhere.add("real", 5000)
        first = wanting(origin, "film-360", redirect=elsewhere.url("real"))
        res = proxy(server, "film")
    assert res.status == 200, res.body
    client.same(obj.seed, 0, res.body, obj.size)
    assert first.requests[0].headers["authorization"] == "Bearer x"
    for request in obj.requests:
        assert request.headers["referer"] == FIELDS["Referer"]
        assert "cookie" not in request.headers
        assert "authorization" not in request.headers


# --- qualities --------------------------------------------------------------

def test_qualities_of_a_command(make, origin):
    server = make()
    objects = add_objects(origin, "film", token=TOKEN)
    put_document(server, formats(origin, "film", token=TOKEN))
    command_source(server, COUNT + 'cat "$(dirname "$0")/document"\n',
                   quality="480p")
    server.start()
    for q, height in (("144p", 144), ("360p", 360), ("720p", 720),
                      ("719p", 360), ("99999p", 720), ("1p", 144),
                      ("best", 720), ("worst", 144), (None, 360)):
        res = proxy(server, "film", q)
        assert res.status == 200, (q, res.body)
        client.same(objects[height].seed, 0, res.body, objects[height].size)
        assert res.headers["reelcache-quality"] == f"{height}p", q
        assert "reelcache-quality" in \
            res.headers["access-control-expose-headers"].lower()
    assert "no such quality" in problem_of(proxy(server, "film", "audio"), 404)
    for q in ("", "360", "BEST", "p", "123456p", "360p%20", "-1p"):
        problem_of(proxy(server, "film", q), 400)
    for height, obj in objects.items():
        assert obj.body_bytes == obj.size, f"{height}: each byte once"
    assert set(server.objects()) == {f"cmd/film/f{h}" for h in objects}
    assert runs(server) == 1
    no_secret(server)


def test_audio_is_chosen(make, origin):
    server = make()
    low = origin.add("low", 5000)
    high = origin.add("high", 9000)
    document = formats(origin, "song", ())
    document["formats"] = [
        {"format_id": name, "url": origin.url(name), "ext": "m4a",
         "vcodec": "none", "acodec": "mp4a.40.2", "abr": rate, "tbr": rate,
         "protocol": "http"} for name, rate in (("low", 48), ("high", 128))]
    put_document(server, document)
    command_source(server, 'cat "$(dirname "$0")/document"\n')
    server.start()
    found = document_of(resolve(server, "song"))
    assert all(r["audio"] and not r["video"] for r in found["renditions"])
    res = proxy(server, "song", "audio")
    assert res.status == 200
    client.same(high.seed, 0, res.body, high.size)
    assert res.headers["reelcache-quality"] == "audio"
    assert low.body_bytes == 0


def test_qualities_of_a_template(make, origin):
    objects = add_objects(origin, "film", (144, 360))
    server = make(source__test={
        "type": "template", "url": origin.url("{id}-{quality}"),
        "qualities": "144 360 144p 360p", "quality": "worst",
        "allow_private": True})
    low = origin.add("film-144p", 4000)
    high = origin.add("film-360p", 7000)
    server.start()
    for q, obj, label in (
            ("144p", low, "144p"), ("359p", low, "144p"),
            ("720p", high, "360p"), ("best", high, "360p"),
            (None, low, "144p"), ("144", objects[144], "144")):
        res = proxy(server, "film", q)
        assert res.status == 200, (q, res.body)
        client.same(obj.seed, 0, res.body, obj.size)
        assert res.headers["reelcache-quality"] == label
    problem_of(proxy(server, "film", "hd"), 400)
    problem_of(proxy(server, "film", "audio"), 404)
    assert objects[360].requests == []


def test_renditions_share_a_purge(make, origin):
    for name in ("film-144p", "film-360p", "filmed-144p"):
        origin.add(name, 4000)
    server = make(origin, source__test={
        "url": origin.url("{id}-{quality}"), "qualities": "144p 360p"})
    server.start()
    for video, q in (("film", "144p"), ("film", "360p"), ("filmed", "144p")):
        assert proxy(server, video, q).status == 200
    server.wait_idle()
    done = server.ctl("purge", "film")
    assert done.returncode == 0, done.stderr
    left = [key for key in server.objects()]
    assert left == ["test/filmed/144p"], left


def test_template_without_qualities(make, origin):
    obj = origin.add("plain", 4000)
    server = make(origin).start()
    for q in (None, "360p", "nonsense", ""):
        res = proxy(server, "plain", q)
        assert res.status == 200
        client.same(obj.seed, 0, res.body, obj.size)
        assert res.headers["reelcache-quality"] is None
    assert obj.body_bytes == obj.size
    document = document_of(resolve(server, "plain"))
    assert document["source"] == "test"
    assert document["renditions"][0]["link"].startswith("/proxy/plain")
    assert origin.url("plain") not in json.dumps(document)


# --- a resolver service -----------------------------------------------------

def test_service_with_the_document_of_ytdlp(make, origin, pages):
    server = make(source__first={"url": origin.template},
                  source__svc={"type": "http", "allow_private": True,
                               "url": pages.url("/list/{id}")})
    objects = add_objects(origin, "film", token=TOKEN)
    pages.put_json("/list/film", formats(origin, "film", token=TOKEN))
    server.start()
    res = resolve(server, "film", source="svc")
    document = document_of(res)
    assert document["title"] == "Film film"
    assert document["duration_s"] == 12.5
    by_label = {r["quality"]: r for r in document["renditions"]}
    assert set(by_label) == {"144p", "360p", "720p"}
    assert by_label["360p"]["width"] == 640
    assert by_label["360p"]["size_bytes"] is None
    assert by_label["360p"]["link"] == "/proxy/film?q=360p&source=svc"
    got = client.fetch(server.port, by_label["360p"]["link"])
    assert got.status == 200
    client.same(objects[360].seed, 0, got.body, objects[360].size)
    missing = resolve(server, "none", source="svc")
    problem_of(missing, 404)
    assert pages.count("/list/film") == 1
    no_secret(server, res, got, missing)


def test_service_with_our_document(make, origin, pages):
    server = make(source__svc={"type": "http", "allow_private": True,
                               "url": pages.url("/list/{id}")})
    objects = add_objects(origin, "film", token=TOKEN)
    pages.put_json("/list/film", {
        "version": 1, "id": "film", "title": "Ours", "duration_s": 7.25,
        "expires": int(time.time()) + 1000, "renditions": [
            {"quality": f"{h}p", "format": f"x{h}", "height": h, "width": h,
             "container": "mp4", "type": "video/mp4", "audio": True,
             "video": True, "size_bytes": h * 1000,
             "url": origin.url(f"film-{h}") + f"?t={TOKEN}"}
            for h in objects]})
    server.start()
    res = resolve(server, "film")
    document = document_of(res)
    assert document["title"] == "Ours"
    assert document["duration_s"] == 7.25
    assert {(r["format"], r["size_bytes"]) for r in document["renditions"]} \
        == {(f"x{h}", h * 1000) for h in objects}
    assert abs(document["expires"] - time.time() - 1000) < 100
    got = proxy(server, "film", "360p")
    assert got.status == 200
    client.same(objects[360].seed, 0, got.body, objects[360].size)
    no_secret(server, res, got)


# --- helpers that fail ------------------------------------------------------

FAULTS = {
    "hangs": ("sleep 98765.4321\n", 504),
    "hangs-with-children": (
        "sleep 98765.4321 & sleep 98765.4321 & wait\n", 504),
    "prints-on": ("exec head -c 104857600 /dev/zero\n", 502),
    "prints-text-on": ("yes '{\"formats\": [' | head -c 104857600\n", 502),
    "garbage": ("echo '{\"formats\": [{]'\n", 502),
    "nothing": ("exit 0\n", 502),
    "no-formats": ("echo '{\"formats\": []}'\n", 502),
    "fails": ("echo " + TOKEN + " >&2; exit 1\n", 502),
    "killed": ("kill -9 $$\n", 502),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_helper_fails(make, fault):
    text, status = FAULTS[fault]
    server = make(resolver={"timeout": "1s"})
    command_source(server, text)
    server.start()
    begun = time.monotonic()
    res = resolve(server, "film")
    detail = problem_of(res, status)
    assert time.monotonic() - begun < 15
    assert server.folder not in detail
    problem_of(proxy(server, "film", "360p"), status)
    until(lambda: not processes_with("98765.4321"), "helpers have ended")
    until(lambda: not processes_with(server.folder + "/helper"),
          "scripts have ended")
    no_secret(server, res)
    # it goes on with the next
    problem_of(resolve(server, "other"), status)
    assert server.process.poll() is None


def test_secret_behind_brackets(make, origin):
    server = make()
    command_source(server, "echo \"ERROR: https://h.example/a(1).mp4?t=%s "
                   "failed\" >&2; exit 1\n" % TOKEN)
    server.start()
    res = resolve(server, "film")
    assert "(URL) failed" in problem_of(res, 502)
    no_secret(server, res)


def test_what_has_expired_is_asked_for_once(make, origin):
    server = make()
    add_objects(origin, "film")
    document = formats(origin, "film")
    for one in document["formats"]:
        one["url"] += "?expire=1500000000"
    put_document(server, document)
    command_source(server, COUNT + 'cat "$(dirname "$0")/document"\n')
    server.start()
    for _ in range(3):
        assert "expired" in problem_of(proxy(server, "film", "360p"), 502)
    assert runs(server) == 1


def test_id_that_never_had_a_place_is_tried_again(make, origin):
    server = make(resolver={"timeout": "2s", "processes": "1"},
                  cache={"negative": "30s"})
    objects = add_objects(origin, "film")
    put_document(server, formats(origin, "film"))
    command_source(server, COUNT +
                   'test "$1" = slow1 && sleep 30\n'
                   'cat "$(dirname "$0")/document"\n')
    server.start()
    pids = server.workers()
    conns = [server.connect_to(pids[n % 2]) for n in range(2)]
    conns[0].ask("/resolve/slow1")
    until(lambda: runs(server) == 1, "the first helper runs")
    conns[1].ask("/resolve/film")
    problem_of(conns[0].response(), 504)
    # it had a place as soon as the first one had ended, or none at all
    assert conns[1].response().status in (200, 503)
    for conn in conns:
        conn.close()
    document = document_of(resolve(server, "film"))
    assert len(document["renditions"]) == len(objects)


def test_many_ask_one_helper_runs(make, origin):
    server = make()
    objects = add_objects(origin, "film")
    put_document(server, formats(origin, "film"))
    command_source(server, COUNT + "sleep 0.5\n"
                   'cat "$(dirname "$0")/document"\n')
    server.start()
    pids = server.workers()
    assert len(pids) == 2
    conns = [server.connect_to(pids[n % 2]) for n in range(20)]
    for conn in conns:
        conn.ask("/resolve/film")
    answers = [conn.response() for conn in conns]
    for conn in conns:
        conn.close()
    assert len({res.body for res in answers}) == 1
    assert len(document_of(answers[0])["renditions"]) == len(objects)
    assert runs(server) == 1


def test_resolver_is_killed_in_the_middle(make, origin):
    server = make()
    add_objects(origin, "film")
    put_document(server, formats(origin, "film"))
    command_source(server, COUNT +
                   'while ! [ -e "$(dirname "$0")/go" ]; do sleep 0.02; done\n'
                   'cat "$(dirname "$0")/document"\n')
    server.start()
    waiting = harness.Later(resolve, server, "film")
    until(lambda: runs(server) == 1, "the helper runs")
    pid = resolver_pid(server)
    server.signal(signal.SIGKILL, pid)
    until(lambda: resolver_pid(server) not in (None, pid), "a new resolver")
    with open(os.path.join(server.folder, "go"), "w"):
        pass
    document = document_of(waiting.value())
    assert len(document["renditions"]) == 3
    until(lambda: not processes_with(server.folder + "/helper"),
          "no helper is left")
    # what it found outlives it
    before = runs(server)
    server.signal(signal.SIGKILL, resolver_pid(server))
    assert json.loads(resolve(server, "film").body) == document
    assert runs(server) == before


# --- a folder ---------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "films"
    path.mkdir()
    return path


def put_file(folder, name, size, seed=None, old=True):
    data = content.span(seed or name, 0, size)
    path = folder / name
    path.write_bytes(data)
    if old:
        os.utime(path, (1e9, 1e9))
    return data


@pytest.fixture
def films(make, folder):
    return make(source__films={"type": "directory", "path": folder}).start()


def test_directory_serves_files(films, folder):
    server = films
    data = put_file(folder, "a.mp4", 3 * MIB + 123)
    res = proxy(server, "a")
    assert res.status == 200
    assert res.body == data
    assert res.headers["content-type"] == "video/mp4"
    assert res.headers["accept-ranges"] == "bytes"
    assert res.cache_status.startswith("reelcache; hit")
    assert res.headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    for spec, start, end in (
            ("0-0", 0, 1), ("100-299", 100, 300), ("-7", len(data) - 7,
                                                   len(data)),
            (f"{MIB - 1}-{MIB + 1}", MIB - 1, MIB + 2),
            (f"{2 * MIB}-", 2 * MIB, len(data))):
        res = proxy(server, "a", range=f"bytes={spec}")
        assert res.status == 206, spec
        assert res.content_range == (start, end, len(data))
        assert res.body == data[start:end], spec
    res = proxy(server, "a", range="bytes=0-9,1000-1999,-5")
    assert res.status == 206
    parts = client.parts_of(res)
    assert [(s, e) for s, e, *_ in parts] == \
        [(0, 10), (1000, 2000), (len(data) - 5, len(data))]
    for start, end, size, kind, body in parts:
        assert body == data[start:end]
        assert (size, kind) == (len(data), "video/mp4")
    res = proxy(server, "a", range=f"bytes={len(data)}-")
    assert res.status == 416
    head = proxy(server, "a", method="HEAD")
    assert head.headers["content-length"] == str(len(data))
    assert server.objects() == {}, "nothing of it is in the cache"
    assert server.chunk_files() == {}
    assert server.stats()["bytes_sent_cache"] > 0


def test_directory_validators(films, folder):
    server = films
    data = put_file(folder, "a.mp4", 10000)
    etag = until(lambda: (e if (e := proxy(server, "a", method="HEAD")
                                .headers["etag"]).startswith('"') else None),
                 "the file is old enough for a strong validator")
    res = proxy(server, "a", if_none_match=etag)
    assert res.status == 304 and res.headers["etag"] == etag
    res = proxy(server, "a", if_modified_since="Sun, 09 Sep 2001 01:46:40 GMT")
    assert res.status == 304
    res = proxy(server, "a", if_match='"other"')
    assert res.status == 412
    res = proxy(server, "a", if_range=etag, range="bytes=10-19")
    assert res.status == 206 and res.body == data[10:20]
    new = put_file(folder, "a.mp4", 10000, "new")
    res = proxy(server, "a", if_range=etag, range="bytes=10-19")
    assert res.status == 200 and res.body == new
    assert res.headers["etag"] != etag


def test_directory_qualities(films, folder):
    server = films
    low = put_file(folder, "b.144p.mp4", 5000)
    high = put_file(folder, "b.720p.mp4", 9000)
    webm = put_file(folder, "c.360p.webm", 700)
    for q, data, label in (("144p", low, "144p"), ("360p", low, "144p"),
                           ("720p", high, "720p"), (None, high, "720p"),
                           ("worst", low, "144p"), ("100p", low, "144p")):
        res = proxy(server, "b", q)
        assert res.status == 200 and res.body == data, q
        assert res.headers["reelcache-quality"] == label
    problem_of(proxy(server, "b", "audio"), 404)
    res = proxy(server, "c")
    assert res.body == webm
    assert res.headers["content-type"] == "video/webm"
    document = document_of(resolve(server, "b"))
    assert {(r["quality"], r["size_bytes"]) for r in document["renditions"]} \
        == {("144p", 5000), ("720p", 9000)}
    assert str(folder) not in json.dumps(document)
    problem_of(proxy(server, "none"), 404)
    problem_of(resolve(server, "none"), 404)


def test_directory_refuses_what_is_outside(films, folder, tmp_path):
    server = films
    (tmp_path / "secret.mp4").write_bytes(TOKEN.encode())
    (folder / "out.mp4").symlink_to("../secret.mp4")
    (folder / "far.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "proc.mp4").symlink_to("/proc/self/environ")
    (folder / "sub").mkdir()
    (folder / "deep.mp4").symlink_to("sub/../../secret.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "dir.mp4").mkdir()
    data = put_file(folder, "in.mp4", 500)
    (folder / "link.mp4").symlink_to("in.mp4")
    for name in ("out", "far", "proc", "deep", "pipe", "dir", "sub",
                 "out.mp4", "..", "...", "secret"):
        res = proxy(server, name)
        assert res.status in (400, 404), name
        no_secret(server, res)
    assert proxy(server, "link").body == data
    # a name that has become a link since it was resolved
    assert proxy(server, "in").body == data
    (folder / "in.mp4").unlink()
    (folder / "in.mp4").symlink_to("../secret.mp4")
    res = proxy(server, "in")
    assert res.status == 404
    no_secret(server, res)


def slow_read(server, name, first=64 * 1024):
    """A response of which only the beginning has been read."""
    conn = server.connect(receive_buffer=16 * 1024)
    conn.ask(f"/proxy/{name}")
    res = conn.head()
    assert res.status == 200
    return conn, int(res.headers["content-length"]), conn.read(first)


def rest_of(conn, count):
    """What still comes, and whether it was all."""
    data = b""
    try:
        while len(data) < count:
            data += conn.read(min(65536, count - len(data)))
    except client.Cut:
        data += bytes(conn.buffer)
    conn.close()
    return data, len(data) == count


def test_directory_file_is_replaced(films, folder):
    server = films
    size = 64 * MIB
    old = put_file(folder, "a.mp4", size, "old")
    conn, length, begin = slow_read(server, "a")
    assert length == size
    new = put_file(folder, "new", size, "new")
    os.rename(folder / "new", folder / "a.mp4")
    rest, whole = rest_of(conn, size - len(begin))
    got = begin + rest
    assert got == old[:len(got)], "old bytes only"
    assert whole or len(got) < size
    until(lambda: proxy(server, "a", range="bytes=0-999").body == new[:1000],
          "the new file is served", seconds=15)


@pytest.mark.parametrize("change", ["truncated", "overwritten", "grown",
                                    "overwritten all"])
def test_directory_file_is_written_to(films, folder, change):
    server = films
    size = 64 * MIB
    put_file(folder, "a.mp4", size, "old")
    conn, length, begin = slow_read(server, "a")
    assert length == size
    broken = server.stats()["responses_broken"]
    with open(folder / "a.mp4", "r+b") as f:
        if change == "truncated":
            f.truncate(size // 2)
        elif change == "overwritten":
            f.seek(size - 1000)
            f.write(b"x" * 1000)
        elif change == "overwritten all":
            # what lies in sockets by now, too
            f.write(b"x" * size)
        else:
            f.seek(size)
            f.write(b"x")
    rest, whole = rest_of(conn, size - len(begin))
    assert not whole, "it was broken off"
    client.same("old", 0, begin + rest)
    until(lambda: server.stats()["responses_broken"] == broken + 1,
          "it is counted")
    # and what is there now is served
    now = (folder / "a.mp4").read_bytes()
    res = proxy(server, "a", range="bytes=-2000")
    assert res.status == 206
    assert res.body == now[-2000:]


def test_directory_file_goes(films, folder):
    server = films
    data = put_file(folder, "a.mp4", 1000)
    assert proxy(server, "a").body == data
    (folder / "a.mp4").unlink()
    problem_of(proxy(server, "a"), 404)
    assert proxy(server, "a", method="HEAD").status == 404

"""reelcachectl and the admin socket."""
import json
import os
import stat

import client
import harness

MIB = 1 << 20
CONF = {"cache": {"chunk": "256K"}}


def ctl_json(server, *args, status=0):
    done = server.ctl("--json", *args)
    assert done.returncode == status, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def test_status(server):
    status = ctl_json(server, "status")
    assert status["pid"] == server.pid
    assert status["prefetcher"]["pid"] in server.children()
    assert status["resolver"]["pid"] in server.children()
    assert status["resolver"]["restarts"] == 0
    workers = status["workers"]
    assert len(workers) == 2
    for worker in workers:
        assert worker["pid"] in server.children()
        assert worker["ready"] is True and worker["draining"] is False
    store = status["store"]
    assert store["size_bytes"] == 500 * MIB
    assert store["used_bytes"] >= 0
    assert status["stats"]["requests"] > 0
    text = server.ctl("status")
    assert text.returncode == 0 and text.stdout.startswith("OK")
    rows = [line.split() for line in text.stdout.splitlines()]
    for name in "prefetcher", "resolver":
        assert [name, str(status[name]["pid"]), "ready", "-", "0"] in rows


def test_objects(server, thing):
    objects = [thing(MIB + n) for n in range(3)]
    for obj in objects:
        server.get(obj.name)
        server.settle(obj)
    listed = {o["key"]: o for o in ctl_json(server, "objects")["objects"]}
    for obj in objects:
        entry = listed[f"test/{obj.name}"]
        assert entry["size_bytes"] == entry["stored_bytes"] == obj.size
        assert entry["etag"] == obj.etag and entry["chunks"] >= 4
        assert entry["content_type"] == "video/mp4"
    text = server.ctl("objects").stdout
    assert objects[0].name in text


def test_pages_of_objects(server, thing):
    for _ in range(5):
        server.get(thing(10).name)
    seen, after = [], ""
    while after is not None:
        page = server.admin_json(f"/objects?limit=2{after}")
        assert len(page["objects"]) <= 2
        seen += [o["key"] for o in page["objects"]]
        after = page["next"] and f"&after={page['next']}"
    assert len(seen) == len(set(seen)) >= 5
    for query in ("limit=0", "limit=x", "limit=100000"):
        assert server.ask_admin(f"/objects?{query}")[0] == 400


def test_inflight(server, thing):
    obj = thing(8 * MIB, rate=MIB)
    with server.connect() as conn:
        conn.ask(f"/proxy/{obj.name}", range="bytes=1000000-")
        conn.head()
        conn.read(100_000)
        runs = [r for r in ctl_json(server, "inflight")["runs"]
                if r["key"] == f"test/{obj.name}"]
        assert len(runs) == 1
        assert runs[0]["from"] == 1000000 and runs[0]["to"] >= 1100000
        harness.until(lambda: any(r["readers"] == 1
                                  for r in server.inflight()), "its reader")
        assert obj.name in server.ctl("inflight").stdout
        conn.reset()
    server.wait_idle()


def test_purge_one(server, thing):
    obj, other = thing(MIB), thing(MIB)
    for one in (obj, other):
        server.get(one.name)
        server.settle(one)
    files = len(server.chunk_files())
    purged = ctl_json(server, "purge", f"test/{obj.name}")
    assert purged == {"objects": 1, "chunks": 4, "bytes": purged["bytes"],
                      "runs": 0}
    assert purged["bytes"] >= obj.size
    harness.until(lambda: len(server.chunk_files()) == files - 4,
                  "its files are gone")
    before = other.body_bytes
    server.get(other.name)
    assert other.body_bytes == before
    client.same(obj.seed, 0, server.get(obj.name).body, MIB)
    assert obj.body_bytes == 2 * MIB
    # of any source
    assert ctl_json(server, "purge", obj.name)["objects"] == 1
    done = server.ctl("purge", obj.name + "-none")
    assert done.returncode == 1 and "not stored" in done.stderr


def test_purged_object_is_another_one_at_once(server, thing):
    obj = thing(MIB)
    server.get(obj.name)
    server.settle(obj)
    obj.change(obj.name + "-2", size=MIB // 2)
    ctl_json(server, "purge", obj.name)
    res = server.get(obj.name)
    client.same(obj.seed, 0, res.body, MIB // 2)


def test_purge_ends_a_run(server, thing):
    obj = thing(8 * MIB, rate=MIB)
    seed = obj.seed
    answer = harness.Later(server.get, obj.name)
    harness.until(lambda: obj.body_bytes > MIB // 2, "it arrives")
    obj.change(obj.name + "-2")
    assert ctl_json(server, "purge", obj.name)["runs"] == 1
    obj.rate = None
    res = answer.value()
    client.same(seed, 0, res.body)
    assert not res.whole
    client.same(obj.seed, 0, server.get(obj.name).body, obj.size)


def test_purge_all(make, origin):
    server = make(origin, **CONF).start()
    objects = [origin.add(f"o{n}", MIB) for n in range(3)]
    for obj in objects:
        server.get(obj.name)
        server.settle(obj)
    purged = ctl_json(server, "purge", "all")
    assert (purged["objects"], purged["chunks"]) == (3, 12)
    harness.until(lambda: not server.chunk_files(), "no file is left")
    assert server.status()["store"]["used_bytes"] == 0
    assert ctl_json(server, "objects")["objects"] == []
    server.stop()
    server.start()
    assert ctl_json(server, "objects")["objects"] == []


def test_verify(server, thing):
    obj = thing(MIB)
    server.get(obj.name)
    server.settle(obj)
    done = ctl_json(server, "verify")
    assert done["bad"] == 0 and done["good"] >= 4 and done["left"] == 0


def test_refusals(server):
    assert server.ask_admin("/nothing")[0] == 404
    assert server.ask_admin("/purge")[0] == 405
    assert server.ask_admin("/status", "POST")[0] == 405
    assert server.ask_admin("/purge", "POST")[0] == 400
    assert server.ask_admin("/purge?all=1&id=x", "POST")[0] == 400
    status, body = server.ask_admin("/nothing")
    assert body["status"] == 404


def test_exit_status(server):
    assert server.ctl().returncode == 2
    assert server.ctl("nonsense").returncode == 2
    assert server.ctl("purge").returncode == 2
    assert server.ctl("status", "extra").returncode == 2
    assert server.ctl("--help").returncode == 0
    assert server.ctl("--version").returncode == 0
    done = server.ctl("-s", server.folder + "/none.sock", "status")
    assert done.returncode == 3 and "none.sock" in done.stderr


def test_socket_is_not_for_everybody(server):
    mode = stat.S_IMODE(os.stat(server.admin).st_mode)
    assert mode & 0o007 == 0


def test_no_admin_socket(make, origin):
    server = make(origin, main={"admin_socket": "", "workers": 1})
    server.launch()

    def answers():
        try:
            return client.fetch(server.port, "/readyz").status == 200
        except (OSError, client.Cut):
            return False
    harness.until(answers, "it serves", 20)
    assert not os.path.exists(server.admin)

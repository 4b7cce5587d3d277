"""The store: its limit, what a restart keeps, and damage of all kinds."""
import glob
import os
import re
import signal

import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS


def whole(server, obj, **options):
    res = server.get(obj.name, check=client.checker(obj.seed), **options)
    assert res.status == 200 and res.whole
    return res


# --- the limit

def small(make, origin, **sections):
    sections.setdefault("cache", {}).update(size="16M", chunk="1M")
    return make(origin, **sections).start()


def test_eviction_holds_the_limit(make, origin):
    server = small(make, origin)
    objects = [origin.add(f"o{n}", 6 * MIB, rate=32 * MIB) for n in range(6)]
    with harness.Watch(server.chunk_bytes) as watch:
        for obj in objects:
            whole(server, obj)
        harness.threads(*[lambda obj=obj: whole(server, obj)
                          for obj in objects])
    assert watch.worst <= 16 * MIB
    assert watch.worst >= 8 * MIB  # it is used, too
    stats = server.stats()
    assert stats["evicted_bytes"] > 0
    assert stats["stored_bytes"] <= 16 * MIB
    server.wait_idle()

    # a chunk that is new may be the next to go; one that comes again stays
    def costs_nothing():
        before = objects[0].body_bytes
        whole(server, objects[0])
        server.wait_idle()
        return objects[0].body_bytes == before
    harness.until(costs_nothing, "what is asked for again and again is kept")


def test_object_larger_than_the_cache(make, origin):
    server = small(make, origin)
    obj = origin.add("o", 28 * MIB)
    with harness.Watch(server.chunk_bytes) as watch:
        whole(server, obj)
    assert watch.worst <= 16 * MIB
    server.wait_idle()
    assert server.stats()["origin_bytes"] <= 28 * MIB


def test_two_viewers_of_an_object_larger_than_the_cache(make, origin):
    server = small(make, origin)
    obj = origin.add("o", 32 * MIB, rate=16 * MIB)
    with harness.Watch(server.chunk_bytes) as watch:
        harness.threads(lambda: whole(server, obj), lambda: whole(server, obj))
    assert watch.worst <= 16 * MIB
    assert server.stats()["origin_bytes"] <= obj.size * 1.2


def test_more_readers_than_room(make, origin):
    """All of the room is being read: the rest is passed through."""
    server = small(make, origin)
    objects = [origin.add(f"o{n}", 8 * MIB) for n in range(6)]
    slow = []
    with harness.Watch(server.chunk_bytes) as watch:
        for obj in objects:
            conn = server.connect(receive_buffer=16384)
            conn.ask(f"/proxy/{obj.name}")
            conn.head()
            client.same(obj.seed, 0, conn.read(MIB))
            slow.append(conn)
        other = origin.add("other", 8 * MIB)
        whole(server, other)
        for conn, obj in zip(slow, objects):
            client.same(obj.seed, MIB, conn.read(obj.size - MIB), obj.size)
            conn.close()
    assert watch.worst <= 16 * MIB


@pytest.mark.alone
def test_a_smaller_limit_after_a_reload(make, origin):
    server = make(origin, cache={"size": "32M", "chunk": "1M"}).start()
    for n in range(3):
        whole(server, origin.add(f"o{n}", 8 * MIB))
    server.wait_idle()
    assert server.chunk_bytes() > 16 * MIB
    server.set(cache={"size": "16M"})
    server.signal(signal.SIGHUP)
    harness.until(lambda: server.chunk_bytes() <= 16 * MIB,
                  "the limit counts")
    whole(server, origin.objects["o0"])


# --- no room on the disk

def in_mount(server, size):
    """Its cache is a small file system that nobody else sees."""
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    server.wrapper = [*unshare, "sh", "-c",
                      f'mount -t tmpfs -o size={size} reel "$0" && exec "$@"',
                      server.cache]
    return server


def test_full_disk(make, origin):
    server = in_mount(make(origin, cache={"chunk": "1M"}), "12m").start()
    objects = [origin.add(f"o{n}", 20 * MIB, rate=64 * MIB) for n in range(2)]
    for obj in objects:
        whole(server, obj)
    harness.threads(*[lambda obj=obj: whole(server, obj)
                      for obj in objects * 2])
    assert server.get(objects[0].name, range="bytes=5-9").status == 206
    assert server.process.poll() is None
    assert server.log_lines("child_died") == []


def test_full_disk_gets_room_again(make, origin):
    server = in_mount(make(origin, cache={"chunk": "1M"}), "12m").start()
    ballast = f"/proc/{server.pid}/root{server.cache}/ballast"
    with open(ballast, "wb") as f:
        try:
            while True:
                f.write(bytes(65536))
                f.flush()
        except OSError:
            pass
    try:
        f.close()
    except OSError:
        pass
    obj = origin.add("o", 4 * MIB)
    whole(server, obj)
    os.unlink(ballast)

    def stored():
        before = obj.body_bytes
        whole(server, obj)
        server.wait_idle()
        return obj.body_bytes == before
    harness.until(stored, "it is stored again", 40, 0.2)


# --- restarts

def fill(make, origin, count=3, **conf):
    conf.setdefault("cache", {})["chunk"] = "256K"
    server = make(origin, **conf).start()
    objects = [origin.add(f"o{n}", 2 * MIB + n) for n in range(count)]
    for obj in objects:
        whole(server, obj)
        server.settle(obj)
    return server, objects


def test_restart_keeps_everything(make, origin):
    server, objects = fill(make, origin)
    assert server.stop() == 0
    for obj in objects:
        obj.forget()
    server.start()
    for obj in objects:
        res = whole(server, obj)
        assert "; hit" in res.cache_status
        assert res.headers["etag"] == obj.etag
        assert obj.requests == []
    harness.until(lambda: server.stats()["stored_objects"] == len(objects),
                  "they are counted")


def test_restart_without_an_origin(make, origin):
    server, objects = fill(make, origin, 1)
    server.stop()
    origin.refuse()
    server.start()
    whole(server, objects[0])


def test_kill_of_everything(make, origin):
    server, objects = fill(make, origin)
    server.kill_all()
    for obj in objects:
        obj.forget()
    server.start()
    harness.threads(*[lambda obj=obj: whole(server, obj)
                      for obj in objects * 2])
    assert [obj.requests for obj in objects] == [[], [], []]
    assert server.stats()["verified_chunks"] > 0
    assert server.stats()["damaged_chunks"] == 0


def test_kill_of_everything_in_mid_fill(make, origin):
    server = make(origin, cache={"chunk": "256K"}).start()
    obj = origin.add("o", 4 * MIB, rate=4 * MIB)
    viewers = [harness.Later(server.get, obj.name) for _ in range(2)]
    harness.until(lambda: obj.body_bytes > 2 * MIB, "half of it came")
    server.kill_all()
    for viewer in viewers:
        client.same(obj.seed, 0, viewer.value().body)
    server.start()
    whole(server, obj)
    server.settle(obj)
    obj.forget()
    whole(server, obj)
    assert obj.requests == []
    # nothing is left that nobody knows
    known = server.status()["store"]
    assert len(server.chunk_files()) == known["chunks"]
    assert server.chunk_bytes() <= known["used_bytes"]


def test_damaged_chunks_after_a_kill(make, origin):
    server, objects = fill(make, origin)
    server.kill_all()
    for path in server.chunk_files():
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 1]))
    server.start()
    harness.threads(*[lambda obj=obj: whole(server, obj)
                      for obj in objects * 2])
    assert server.stats()["damaged_chunks"] >= len(objects)
    assert server.wait_log("chunk_damaged")
    for obj in objects:
        server.settle(obj)
        obj.forget()
        whole(server, obj)
        assert obj.requests == []


@pytest.mark.parametrize("stop", ["term", "kill"])
@pytest.mark.parametrize("what", ["cut", "empty", "gone", "folder", "longer"])
def test_broken_files(make, origin, stop, what):
    server, objects = fill(make, origin)
    if stop == "term":
        server.stop()
    else:
        server.kill_all()
    for n, path in enumerate(sorted(server.chunk_files())):
        if n % 2:
            continue
        size = os.path.getsize(path)
        if what == "cut":
            os.truncate(path, size // 2)
        elif what == "empty":
            os.truncate(path, 0)
        elif what == "longer":
            os.truncate(path, size + 5)
        else:
            os.unlink(path)
        if what == "folder":
            os.mkdir(path)
    server.start()
    harness.threads(*[lambda obj=obj: whole(server, obj)
                      for obj in objects * 2])
    for obj in objects:
        server.settle(obj)
        before = obj.body_bytes
        whole(server, obj)
        assert obj.body_bytes == before


def test_files_removed_while_running(make, origin):
    server, objects = fill(make, origin)
    for path in server.chunk_files():
        os.unlink(path)
    harness.threads(*[lambda obj=obj: whole(server, obj)
                      for obj in objects * 2])


def test_verify_finds_damage_while_running(make, origin):
    server, objects = fill(make, origin)
    good = server.ctl("--json", "verify")
    assert good.returncode == 0, good.stderr
    path = sorted(server.chunk_files())[3]
    with open(path, "r+b") as f:
        f.seek(1000)
        byte = f.read(1)
        f.seek(1000)
        f.write(bytes([byte[0] ^ 0x80]))
    bad = server.ctl("verify")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "1 bad" in bad.stdout
    assert server.ctl("verify").returncode == 0
    harness.threads(*[lambda obj=obj: whole(server, obj) for obj in objects])


def test_orphans_are_removed(make, origin):
    server, objects = fill(make, origin, 1)
    server.stop()
    paths = sorted(server.chunk_files())
    folder, name = os.path.split(paths[0])
    run, chunk = name.split("-")
    orphans = [os.path.join(folder, f"{int(run, 16) + (1 << 20):x}-{chunk}"),
               os.path.join(folder, "ffffffff-0"),
               os.path.join(folder, "rubbish")]
    for path in orphans:
        with open(path, "wb") as f:
            f.write(b"x" * 100_000)
    server.start()
    server.wait_log("store_cleaned", server.log_from)
    harness.until(lambda: not any(map(os.path.exists, orphans[:2])),
                  "they are gone")
    objects[0].forget()
    whole(server, objects[0])
    assert objects[0].requests == []


def index_files(server):
    found = [p for p in glob.glob(server.cache + "/**", recursive=True)
             if os.path.isfile(p) and re.search(r"mdb|index", p) and
             "lock" not in os.path.basename(p)]
    assert found, "where is the index?"
    return found


@pytest.mark.parametrize("damage", ["garbage", "zeros", "cut", "empty",
                                    "short", "gone", "pages"])
def test_broken_index(make, origin, damage):
    server, objects = fill(make, origin)
    server.stop()
    for path in index_files(server):
        size = os.path.getsize(path)
        if damage == "gone":
            os.unlink(path)
        elif damage in ("cut", "empty", "short"):
            os.truncate(path, {"cut": size // 2, "empty": 0, "short": 100}
                        [damage])
        else:
            fresh = {"garbage": b"\xa5\x5a garbage", "zeros": bytes(10),
                     "pages": b"\xff" * 10}[damage]
            with open(path, "r+b") as f:
                f.seek(0 if damage != "pages" else 8192)
                f.write(fresh * ((size - f.tell()) // len(fresh)))
    server.start()
    harness.threads(*[lambda obj=obj: whole(server, obj)
                      for obj in objects * 2])
    for obj in objects:
        server.settle(obj)
        before = obj.body_bytes
        whole(server, obj)
        assert obj.body_bytes == before
    # files of the lost index do not stay
    harness.until(lambda: len(server.chunk_files()) ==
                  server.status()["store"]["chunks"], "no orphans")


def test_second_instance_is_refused(make, origin):
    server, _ = fill(make, origin, 1)
    other = make(origin, cache={"path": server.cache}, main={"workers": 1})
    other.launch()
    assert other.wait(30) not in (0, None)
    assert server.get("o0").status == 200


def test_another_chunk_size_keeps_the_cache(make, origin):
    server, objects = fill(make, origin)
    server.stop()
    server.set(cache={"chunk": "1M"})
    for obj in objects:
        obj.forget()
    server.start()
    for obj in objects:
        whole(server, obj)
        assert obj.requests == []
    new = origin.add("new", 3 * MIB)
    whole(server, new)
    server.settle(new)
    assert server.objects()["test/new"]["chunk_bytes"] == MIB
    assert server.objects()["test/o0"]["chunk_bytes"] == 256 << 10

"""kill -9 of workers, of the prefetcher, of the master."""
import os
import signal

import pytest

import client
import harness

MIB = 1 << 20
TRANSPORTS = client.TRANSPORTS
PAUSE_S = 1.0


def read_all(conn, obj, start=0):
    """The rest of a response that was asked for; may be cut."""
    res = conn.response()
    client.same(obj.seed, start, res.body)
    return res


def viewer(server, obj, pid, **fields):
    conn = server.connect_to(pid)
    conn.ask(f"/proxy/{obj.name}", **fields)
    return harness.Later(read_all, conn, obj)


def start(make, origin, **sections):
    sections.setdefault("cache", {})["chunk"] = "512K"
    return make(origin, **sections).start()


def test_worker_dies_in_mid_fill(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 4 * MIB, rate=2 * MIB, delay=0.05)
    one, two = server.workers()
    doomed = [viewer(server, obj, one) for _ in range(2)]
    others = [viewer(server, obj, two) for _ in range(3)]
    harness.until(lambda: obj.body_bytes > MIB, "a quarter came")
    server.signal(signal.SIGKILL, one)
    for v in doomed:
        assert not v.value().whole
    # its successor takes over
    new = harness.until(
        lambda: [p for p in server.workers() if p not in (one, two)],
        "a new worker")[0]
    late = viewer(server, obj, new)
    for v in [*others, late]:
        res = v.value()
        assert res.whole and len(res.body) == obj.size
        assert res.longest_pause <= PAUSE_S
    assert obj.body_bytes <= obj.size * 1.06
    died = server.wait_log("child_died")
    assert died[0]["signal"] == "9" and int(died[0]["pid"]) == one
    assert two in server.workers()


def test_prefetcher_dies_in_mid_fill(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 6 * MIB, rate=2 * MIB, delay=0.05)
    old = server.prefetcher()
    viewers = [viewer(server, obj, pid) for pid in server.workers() * 3]
    harness.until(lambda: obj.body_bytes > 2 * MIB, "a third came")
    server.signal(signal.SIGKILL, old)
    for v in viewers:
        res = v.value()
        assert res.whole and len(res.body) == obj.size
        assert res.longest_pause <= PAUSE_S, res.longest_pause
    assert obj.body_bytes <= obj.size * 1.06
    assert obj.requests[-1].if_range == obj.etag
    assert obj.requests[-1].start > MIB
    assert server.prefetcher() != old
    server.settle(obj)
    before = obj.body_bytes
    assert server.get(obj.name).whole
    assert obj.body_bytes == before


def test_prefetcher_dies_while_several_runs_arrive(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 8 * MIB, rate=MIB, delay=0.05)
    spans = [(n * 2 * MIB + n * 777, n * 2 * MIB + n * 777 + MIB)
             for n in range(4)]

    def one(first, last):
        res = server.get(obj.name, range=f"bytes={first}-{last - 1}")
        assert res.status == 206 and res.whole
        client.same(obj.seed, first, res.body, last)
        return res

    viewers = [harness.Later(one, *span) for span in spans]
    harness.until(lambda: obj.body_bytes > MIB, "a quarter came")
    server.signal(signal.SIGKILL, server.prefetcher())
    for v in viewers:
        assert v.value().longest_pause <= PAUSE_S
    server.wait_idle()
    assert obj.body_bytes <= obj.unique_bytes * 1.1


def test_prefetcher_dies_again_and_again(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 5 * MIB, rate=MIB)
    viewers = [viewer(server, obj, pid) for pid in server.workers()]
    for n in range(1, 4):
        harness.until(lambda n=n: obj.body_bytes > n * MIB, "it goes on")
        server.signal(signal.SIGKILL, harness.until(
            lambda: server.workers() and server.prefetcher(), "it lives"))
    for v in viewers:
        res = v.value()
        assert res.whole and len(res.body) == obj.size
    assert obj.body_bytes <= obj.size * 1.2


def test_prefetcher_dies_before_the_head(make, origin):
    server = start(make, origin)
    obj = origin.add("o", MIB, delay=0.7)
    v = viewer(server, obj, server.workers()[0])
    harness.until(lambda: obj.requests, "the origin was asked")
    server.signal(signal.SIGKILL, server.prefetcher())
    res = v.value()
    assert res.status == 200 and res.whole


def test_stored_bytes_are_served_without_a_prefetcher(make, origin):
    server = start(make, origin)
    obj = origin.add("o", MIB)
    server.get(obj.name)
    server.settle(obj)
    pid = server.prefetcher()
    server.signal(signal.SIGSTOP, pid)
    try:
        res = server.get(obj.name, timeout=5)
        client.same(obj.seed, 0, res.body, obj.size)
    finally:
        server.signal(signal.SIGKILL, pid)


def test_both_die(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 4 * MIB, rate=2 * MIB)
    one, two = server.workers()
    doomed, other = viewer(server, obj, one), viewer(server, obj, two)
    harness.until(lambda: obj.body_bytes > MIB, "a quarter came")
    pid = server.prefetcher()
    server.signal(signal.SIGKILL, one)
    server.signal(signal.SIGKILL, pid)
    assert not doomed.value().whole
    res = other.value()
    assert res.whole and len(res.body) == obj.size
    assert obj.body_bytes <= obj.size * 1.06


# what is not accepted makes no handshake
@pytest.mark.transports("h1", "h2c")
def test_queued_connections_wait_for_the_successor(make, origin):
    """What a stopped worker had not accepted is not lost by its death."""
    server = start(make, origin, main={"workers": 1})
    obj = origin.add("o", 1000)
    server.get(obj.name)
    pid = server.workers()[0]
    server.signal(signal.SIGSTOP, pid)
    conns = [server.connect() for _ in range(20)]
    for conn in conns:
        conn.ask(f"/proxy/{obj.name}")
    server.signal(signal.SIGKILL, pid)
    for conn in conns:
        res = conn.response()
        client.same(obj.seed, 0, res.body, 1000)
        conn.close()


def test_quick_deaths_are_delayed(make, origin):
    server = start(make, origin, main={"workers": 1})
    for n in range(4):
        pid = harness.until(lambda: server.workers(), "a worker")[0]
        server.signal(signal.SIGKILL, pid)
        harness.until(lambda pid=pid: server.workers() not in ([], [pid]),
                      "the next one")
    restarts = server.metrics()["restarts"]
    assert restarts == 4
    delays = [int(line["restart_in_ms"])
              for line in server.log_lines("child_died")]
    assert delays == sorted(delays) and delays[0] == 0 < delays[-1]


def test_master_dies(make, origin):
    """Its children end, too: nothing serves without supervision."""
    server = start(make, origin)
    children = server.children()
    assert len(children) >= 3
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    harness.until(lambda: not any(harness.alive(p) for p in children),
                  "no child is left")
    server.start()
    assert server.fetch("/healthz").status == 200


def resolver_of(server):
    """What reelcachectl tells of it: pid and restarts; None: it is dead."""
    for line in server.ctl("status").stdout.splitlines():
        row = line.split()
        if row[:1] == ["resolver"] and row[2] == "ready":
            return int(row[1]), int(row[4])
    return None


def next_resolver(server, old):
    return harness.until(
        lambda: (now := resolver_of(server)) and now[0] != old and now,
        "the next resolver")


def test_resolver_dies_while_nobody_asks(make, origin):
    server = start(make, origin)
    obj = origin.add("o", MIB)
    old, restarts = resolver_of(server)
    assert old in server.children() and restarts == 0
    server.signal(signal.SIGKILL, old)
    new, restarts = next_resolver(server, old)
    assert new in server.children() and restarts == 1
    assert not harness.alive(old)
    assert server.status()["resolver"] == {"pid": new, "restarts": 1}
    assert server.ctl("status").stdout.startswith("OK")
    res = server.get(obj.name)
    client.same(obj.seed, 0, res.body, obj.size)


def test_resolver_dies_while_a_helper_runs(make, origin):
    """Nothing is left of a helper, also of what left its group; the viewer
    who waits is served by the successor."""
    server = make(origin)
    obj = origin.add("o", MIB)
    pids, go = f"{server.folder}/pids", f"{server.folder}/go"
    helper = f"{server.folder}/helper"
    with open(helper, "w") as f:
        f.write(f"""#!/bin/sh
if ! [ -e {go} ]; then
    setsid sh -c 'trap "" TERM; echo $$ >>{pids}; sleep 300; sleep 300' &
    (setsid sh -c 'echo $$ >>{pids}; exec sleep 300' &)
    sleep 300 & echo $! >>{pids}
    echo $$ >>{pids}
    wait
fi
echo '{{"url": "{origin.url("o")}", "ext": "mp4"}}'
""")
    os.chmod(helper, 0o755)
    server.set(source__cmd={"type": "command", "allow_private": True,
                            "url": "http://127.0.0.1:9/{id}",
                            "command": helper + " {id}"})
    server.start()
    waiting = harness.Later(server.get, "film", source="cmd")

    def family():
        try:
            with open(pids) as f:
                found = [int(line) for line in f]
            return len(found) == 4 and found
        except (OSError, ValueError):
            return None

    running = harness.until(family, "the helper runs")
    assert all(harness.alive(pid) for pid in running)
    with open(go, "w"):
        pass
    old, _ = resolver_of(server)
    server.signal(signal.SIGKILL, old)
    harness.until(lambda: not any(harness.alive(p) for p in running),
                  "no helper is left", 3)
    _, restarts = next_resolver(server, old)
    assert restarts == 1
    res = waiting.value()
    assert res.status == 200
    client.same(obj.seed, 0, res.body, obj.size)


def test_resolver_dies_again_and_again(make, origin):
    server = start(make, origin)
    obj = origin.add("o", 2 * MIB, rate=MIB)
    v = viewer(server, obj, server.workers()[0])
    for n in range(3):
        pid, restarts = harness.until(lambda: resolver_of(server), "it lives")
        assert restarts == n
        server.signal(signal.SIGKILL, pid)
        next_resolver(server, pid)
    res = v.value()
    assert res.whole and len(res.body) == obj.size
    assert server.metrics()["restarts"] == 3

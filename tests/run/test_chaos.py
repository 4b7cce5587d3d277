"""A minute of everything at once, over all transports at the same time, with
kill -9 of whatever runs."""
import random
import signal
import threading
import time

import pytest

import client
import harness

MIB = 1 << 20
SECONDS = 60
STUCK_S = 30


class Viewers:
    """Clients that ask for anything and compare every byte."""

    def __init__(self, server, objects):
        self.server, self.objects = server, objects
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.faults = []
        self.whole = self.cut = self.bytes = 0
        self.whole_over = dict.fromkeys(client.TRANSPORTS, 0)
        self.threads = [threading.Thread(target=self.run, args=(n,),
                                         daemon=True) for n in range(8)]
        for t in self.threads:
            t.start()

    def run(self, number):
        rnd = random.Random(number)
        transport = client.TRANSPORTS[number % len(client.TRANSPORTS)]
        while not self.ended.is_set():
            try:
                self.one(rnd, transport)
            except (ConnectionError, client.Cut):
                with self.lock:
                    self.cut += 1
            except BaseException as fault:
                self.faults.append(f"client {number}, {transport}: {fault!r}")
                return

    def one(self, rnd, transport):
        obj = rnd.choice(self.objects)
        start = rnd.randrange(obj.size)
        end = min(obj.size, start + rnd.choice(
            [1, 1000, 65536, 300_000, MIB, obj.size]))
        kind = rnd.randrange(6)
        fields = {"range": f"bytes={start}-{end - 1}"}
        if kind == 0:
            start, end, fields = 0, obj.size, {}
        if kind == 1:
            fields = {"range": f"bytes=-{obj.size - start}"}
            end = obj.size
        options = {"receive_buffer": 8192} if kind == 2 else {}
        with self.server.connect(timeout=STUCK_S, transport=transport,
                                 **options) as conn:
            conn.ask(f"/proxy/{obj.name}", **fields)
            leave = None
            if kind in (3, 4):
                leave = rnd.randrange(1, 400_000)
            res = conn.response(
                check=client.checker(obj.seed, start), stop_after=leave)
            assert res.status in (200, 206, 503, 504, 502), res.status
            if res.status in (200, 206):
                assert res.headers["etag"] == obj.etag
            if kind == 3:
                conn.reset()
        with self.lock:
            self.whole += res.whole
            self.whole_over[transport] += res.whole
            self.cut += not res.whole
            self.bytes += end - start

    def end(self):
        self.ended.set()
        for t in self.threads:
            t.join(STUCK_S + 10)
            if t.is_alive():
                self.faults.append("a client is stuck")


@pytest.mark.alone
def test_chaos(make, origin):
    server = make(origin, transport="h2", main={"workers": 2, "log_level": "info"},
                  cache={"size": "16M", "chunk": "512K"},
                  upstream={"patience": "10s"}).start()
    objects = [origin.add(f"o{n}", size, rate=rate, delay=0.02, **more)
               for n, (size, rate, more) in enumerate([
                   (3 * MIB, 4 * MIB, {}), (6 * MIB, 8 * MIB, {}),
                   (8 * MIB, None, {}), (1000, None, {}),
                   (2 * MIB, 4 * MIB, {"ranges": False}),
                   (5 * MIB, 8 * MIB, {"cut_after": 900_000}),
                   (MIB, None, {"cache_control": "no-store"}),
                   (4 * MIB, None, {"cache_control": "max-age=1"})])]
    rnd = random.Random(42)
    viewers = Viewers(server, objects)
    end = time.monotonic() + SECONDS
    kills = 0
    with harness.Watch(server.chunk_bytes, 0.05) as watch:
        while time.monotonic() < end and not viewers.faults:
            viewers.ended.wait(rnd.uniform(0.8, 2.5))
            children = server.children()
            if children:
                server.signal(signal.SIGKILL, rnd.choice(children))
                kills += 1
        viewers.end()
    assert viewers.faults == []
    assert watch.worst <= 16 * MIB
    assert kills >= 15
    # it did work meanwhile
    assert viewers.whole > 100
    assert min(viewers.whole_over.values()) > 20, viewers.whole_over
    assert viewers.whole > viewers.cut
    # and does so now
    harness.until(server.ready, "it has recovered", 30)
    for obj in objects:
        obj.cut_after = obj.rate = None

        def right(obj=obj):
            try:
                return server.get(obj.name, check=client.checker(obj.seed),
                                  timeout=STUCK_S).whole
            except (ConnectionError, client.Cut):
                return False
        harness.until(right, f"{obj.name} is served", 15)
    server.wait_idle()
    assert server.chunk_bytes() <= 16 * MIB
    # what is counted is what the files take
    harness.until(lambda: server.stats()["stored_bytes"]
                  == server.chunk_bytes(), "the space is counted right")
    verified = server.ctl("--json", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert server.stop() == 0

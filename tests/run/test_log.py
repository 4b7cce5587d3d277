"""The access log in both shapes, and the error log."""
import os
import re

import client
import harness

MIB = 1 << 20


def test_bytes_by_source(make, origin):
    server = make(origin).start()
    obj = origin.add("o", 2 * MIB, rate=2 * MIB)
    one, two = server.workers()
    first = harness.Later(server.get, obj.name,
                          headers={"User-Agent": "first"})
    harness.until(lambda: obj.body_bytes > MIB, "half of it came")
    server.get(obj.name, headers={"User-Agent": "second", "Referer": "x"})
    first.value()
    server.settle(obj)
    server.get(obj.name, headers={"User-Agent": "third"})

    def line(agent):
        return server.wait_access(lambda e: e["user_agent"] == agent)

    entry = line("first")
    assert entry["bytes"] == entry["bytes_origin"] == obj.size
    assert entry["method"] == "GET" and entry["target"] == "/proxy/o"
    assert entry["client"] == "127.0.0.1" and entry["status"] == 200
    assert entry["ttfb_us"] > 0
    entry = line("second")
    assert entry["bytes"] == obj.size and entry["bytes_origin"] == 0
    assert entry["bytes_inflight"] >= MIB // 2
    assert entry["bytes_inflight"] + entry["bytes_cache"] == obj.size
    assert entry["referer"] == "x"
    entry = line("third")
    assert entry["bytes"] == entry["bytes_cache"] == obj.size
    assert entry["cache"] == "hit"


def test_aborted_response(make, origin):
    server = make(origin).start()
    obj = origin.add("o", 32 * MIB, rate=4 * MIB)
    with server.connect() as conn:
        conn.ask("/proxy/o")
        conn.head()
        conn.read(MIB)
        conn.reset()
    entry = server.wait_access(lambda e: e["target"] == "/proxy/o")
    assert entry["status"] == 200
    assert MIB <= entry["bytes"] < obj.size


def test_combined(make, origin):
    server = make(origin, main={"access_log_format": "combined"}).start()
    origin.add("o", 1000)
    server.get("o", headers={"User-Agent": 'a "quoted" \\ name\xe4'})
    server.get("o", range="bytes=0-9", headers={"Referer": "http://r/"})
    client.fetch(server.port, "/nothing")
    with server.connect() as conn:
        conn.send("rubbish\r\n\r\n")
        conn.response()
    pattern = re.compile(
        r'(\S+) - - \[\d\d/\w{3}/\d{4}:[\d:]{8} \+0000\] "([^"]*)" (\d{3}) '
        r'(\d+) "([^"]*)" "([^"]*)" (\d+) (\d+) (\d+) (\d+) (\S+)')

    def lines():
        with open(server.access_log) as f:
            found = [pattern.fullmatch(line.rstrip("\n")) for line in f
                     if "readyz" not in line]
        return found if len(found) >= 4 else None
    found = harness.until(lines, "four lines")
    assert all(found), open(server.access_log).read()
    requests = {m.group(2): m for m in found}
    ranged = [m for m in found if m.group(3) == "206"][0]
    assert ranged.group(2) == "GET /proxy/o HTTP/1.1"
    assert ranged.group(4) == "10" and ranged.group(5) == "http://r/"
    whole = [m for m in found if m.group(3) == "200"][0]
    assert "\\x22quoted\\x22" in whole.group(6)
    assert requests["GET /nothing HTTP/1.1"].group(3) == "404"


def test_lines_cannot_be_forged(make, origin):
    server = make(origin).start()
    with server.connect() as conn:
        conn.ask("/x", headers={"User-Agent": '"},{"forged":1', "Referer":
                                "\xff\xfe\t{"})
        conn.response()
    entry = server.wait_access(lambda e: e["target"] == "/x")
    assert "forged" not in entry
    assert "forged" in entry["user_agent"]


def test_no_token_in_the_error_log(make, origin):
    server = make(origin, source__test={
        "url": origin.template + "?token=hidden&sig=alsohidden"}).start()
    origin.refuse()
    server.get("o")
    server.wait_log("run_failed")
    assert "hidden" not in server.log_text()
    res = server.get("o")
    assert b"hidden" not in res.body and b"token" not in res.body


def test_levels(make, origin):
    server = make(origin, main={"log_level": "error"}).start()
    origin.add("o", 10)
    server.get("o")
    assert server.stop() == 0
    assert server.log_text() == ""


def test_standard_error_is_the_log(make, origin):
    server = make(origin, main={"error_log": ""}).start()
    with open(os.path.join(server.folder, "stderr")) as f:
        assert re.search(r"info master\[\d+\] ev=start version=", f.read())

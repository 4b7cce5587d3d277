"""Chromium over TLS: page, media and WebSocket on one connection of HTTP/2.

What the browser says of itself is not believed: the server counts its
connections and requests.
"""

import hashlib
import os

import pytest

import bench
import bench_transport
import chromium
import conftest


@pytest.fixture
def secure(tmp_path, origin):
    """reelcache with the plain page, in clear and over TLS."""
    certificate, key = bench_transport.make_certificate(str(tmp_path))
    port = bench.free_port()
    running = conftest.run_server(
        tmp_path, origin, os.path.join(conftest.HERE, "page"), {
            "listen:tls": {"address": f"127.0.0.1:{port}", "tls": "yes",
                           "certificate": certificate, "key": key}})
    running.tls_port = port
    running.known = bench_transport.public_key_hash(certificate)
    yield running
    conftest.stop_server(running)


@pytest.fixture
def trusting(tmp_path, secure):
    driver = chromium.start(tmp_path / "profile", flags=[
        f"--ignore-certificate-errors-spki-list={secure.known}"])
    yield driver
    driver.quit()


def run(driver, script, *args):
    """An async function's body; its value."""
    answer = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        f"(async (...args) => {{ {script} }})(...arguments).then("
        "(value) => done({ value }), (error) => done({ error: `${error}` }));",
        *args)
    assert "error" not in answer, answer["error"]
    return answer["value"]


FETCH = """
const body = await (await fetch(args[0], { cache: "no-store" })).arrayBuffer();
const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
const seen = performance.getEntriesByType("resource").filter(
    (one) => one.name.endsWith(args[0]));
return [Array.from(sum, (b) => b.toString(16).padStart(2, "0")).join(""),
        seen[seen.length - 1].nextHopProtocol];
"""

TALK = """
const socket = new WebSocket(`wss://${location.host}/ws`, "reelcache.v1");
const heard = [];
await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("no WebSocket"));
});
for (let n = 1; n <= args[0]; n++) {
    const answer = new Promise((resolve) => {
        socket.onmessage = (event) => {
            if (JSON.parse(event.data).request === n)
                resolve(event);
        };
    });
    socket.send(JSON.stringify({ type: "PING", request: n }));
    heard.push(JSON.parse((await answer).data));
}
window.kept = socket;
return [heard, socket.protocol];
"""


def test_all_on_one_connection(secure, trusting, clips):
    clip = clips["360p-faststart.mp4"]
    with open(clip.path, "rb") as file:
        want = hashlib.sha256(file.read()).hexdigest()
    assert secure.counted("connections_tls") == 0
    trusting.get(f"https://127.0.0.1:{secure.tls_port}/")
    assert run(trusting, FETCH, secure.path(clip.name)) == [want, "h2"]
    before = secure.counted("requests_h2")
    # the browser may have opened a spare one, when it had none
    connections = secure.counted("connections_tls")
    heard, protocol = run(trusting, TALK, 5)
    assert [one["request"] for one in heard] == [1, 2, 3, 4, 5]
    assert protocol == "reelcache.v1"
    # the media goes on beside it
    assert run(trusting, FETCH, secure.path(clip.name)) == [want, "h2"]
    assert secure.counted("websockets") == 1
    assert secure.counted("requests_h2") == before + 2
    assert secure.counted("connections_tls") == connections


def test_video_plays_over_http2(secure, trusting, clips):
    clip = clips["360p-faststart.mp4"]
    trusting.get(f"https://127.0.0.1:{secure.tls_port}/")
    run(trusting, "return await window.plain.load(args[0]);",
        secure.path(clip.name))
    picture = run(trusting, "return await window.plain.seek(args[0]);",
                  clip.second_of(clip.frames - 30))
    assert picture["frame"] == clip.frames - 30
    assert secure.counted("requests_h2") > 2

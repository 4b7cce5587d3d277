"""A browser's own WebSocket, on the watch page with its content policy."""

import hashlib

SCRIPT = """
const [id, source, offset, length, done] = arguments;
const ws = new WebSocket(`ws://${location.host}/ws`, ["reelcache.v1"]);
const parts = [], words = [];
ws.binaryType = "arraybuffer";
ws.onerror = () => done({ error: "it cannot be opened" });
ws.onmessage = async ({ data }) => {
	if (data instanceof ArrayBuffer) {
		const head = new DataView(data);
		if (head.getUint8(0) === 1 && head.getUint32(4) === 7)
			parts.push(data.slice(head.getUint16(2)));
		ws.send(JSON.stringify({ type: "CREDIT", request: 7,
			bytes: data.byteLength - 16 }));
		return;
	}
	const message = JSON.parse(data);
	words.push(message.type);
	if (message.type === "WELCOME")
		ws.send(JSON.stringify({ type: "REQUEST_VIDEO_CHUNK", id,
			source, offset, length, request: 7, credit: 65536 }));
	if (message.type !== "VIDEO_CHUNK_END" && message.type !== "ERROR")
		return;
	const bytes = await new Blob(parts).arrayBuffer();
	const hash = await crypto.subtle.digest("SHA-256", bytes);
	ws.onclose = ({ code, wasClean }) => done({
		words, code, wasClean, size: bytes.byteLength,
		protocol: ws.protocol, extensions: ws.extensions,
		hash: Array.from(new Uint8Array(hash))
			.map((b) => b.toString(16).padStart(2, "0")).join("") });
	ws.close(1000);
};
"""


def test_chunk_by_a_websocket(clips, watch_server, browser):
    clip = clips["144p-faststart.mp4"]
    browser.set_script_timeout(60)
    browser.get(watch_server.url("/"))
    offset, length = 1000, clip.size - 2000
    got = browser.execute_async_script(SCRIPT, clip.name, "bench", offset,
                                       length)
    with open(clip.path, "rb") as f:
        f.seek(offset)
        want = hashlib.sha256(f.read(length)).hexdigest()
    assert got["words"] == ["WELCOME", "VIDEO_CHUNK_BEGIN", "VIDEO_CHUNK_END"]
    assert got["size"] == length and got["hash"] == want
    assert got["protocol"] == "reelcache.v1" and got["extensions"] == ""
    assert got["code"] == 1000 and got["wasClean"]


def test_page_of_another_origin(watch_server, browser):
    browser.get("data:text/html,<p>")
    got = browser.execute_async_script(
        "const [url, done] = arguments; const ws = new WebSocket(url);"
        "ws.onopen = () => done('open'); ws.onerror = () => done('refused');",
        watch_server.url("/ws").replace("http", "ws", 1))
    assert got == "refused"

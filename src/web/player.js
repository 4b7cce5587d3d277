/*
 * The watch page: plays /proxy/{id} with the browser's own controls and
 * shows what is buffered and what the cache says of the object.
 *
 *   ?id=ID             the video
 *   ?source=NAME       where it comes from; without: the first source
 *   ?t=SECONDS         where to begin
 */

const FACTS_EVERY_MS = 10000;

const byId = (id) => document.getElementById(id);
const video = byId("video");
const canvas = byId("ranges");

/* "1:02.3" */
function showTime(seconds) {
    const minutes = Math.floor(seconds / 60);
    return `${minutes}:${(seconds - minutes * 60).toFixed(1).padStart(4, "0")}`;
}

function showBytes(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (bytes >= 1024 && unit < units.length - 1) {
        bytes /= 1024;
        unit++;
    }
    return `${bytes.toFixed(unit > 1 ? 1 : 0)} ${units[unit]}`;
}

function say(words) {
    byId("message").textContent = words;
}

function videoUrl(id, source) {
    const query = source ? `?source=${encodeURIComponent(source)}` : "";
    return `/proxy/${encodeURIComponent(id)}${query}`;
}

function rangesOf(timeRanges) {
    return Array.from({ length: timeRanges.length },
        (_, n) => [timeRanges.start(n), timeRanges.end(n)]);
}

/* The bar under the video: what is buffered, and the playhead. */
function drawRanges() {
    const style = getComputedStyle(canvas);
    const wide = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    if (canvas.width !== wide)
        canvas.width = wide;
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!Number.isFinite(video.duration) || video.duration <= 0)
        return;
    const scale = canvas.width / video.duration;
    pen.fillStyle = style.getPropertyValue("--buffered");
    for (const [from, to] of rangesOf(video.buffered))
        pen.fillRect(from * scale, 0, Math.max(1, (to - from) * scale),
            canvas.height);
    pen.fillStyle = style.getPropertyValue("--playhead");
    pen.fillRect(video.currentTime * scale - 1, 0, 3, canvas.height);
}

function showPlayback() {
    drawRanges();
    byId("playhead").textContent = Number.isFinite(video.duration)
        ? `${showTime(video.currentTime)} of ${showTime(video.duration)}`
        : showTime(video.currentTime);
    byId("buffered").textContent = rangesOf(video.buffered)
        .map(([from, to]) => `${showTime(from)} to ${showTime(to)}`)
        .join(", ") || "nothing";
    if (video.videoWidth > 0)
        byId("picture").textContent =
            `${video.videoWidth} \u00d7 ${video.videoHeight}`;
}

/* One byte tells all: where it came from, how old it is, how large the whole
 * is.  The browser's own cache would tell its age only, so it is left out. */
async function showFacts(url) {
    const begin = performance.now();
    const answer = await fetch(url, {
        headers: { Range: "bytes=0-0" },
        cache: "no-store",
    });
    byId("first-byte").textContent =
        `${(performance.now() - begin).toFixed(0)} ms`;
    await answer.arrayBuffer();
    if (!answer.ok) {
        say(`The cache answers ${answer.status} ${answer.statusText}.`);
        return;
    }
    const size = /\/(\d+)$/.exec(answer.headers.get("Content-Range") ?? "");
    byId("size").textContent = size ? showBytes(Number(size[1])) : "unknown";
    byId("cache-status").textContent =
        answer.headers.get("Cache-Status") ?? "not told";
    const age = answer.headers.get("Age");
    byId("age").textContent = age === null ? "not told" : `${age} s`;
}

/* Asks now, and again while the page is looked at. */
function keepFacts(url) {
    const ask = () => showFacts(url).catch(
        (error) => say(`The cache cannot be asked: ${error.message}`));
    ask();
    setInterval(() => {
        if (document.visibilityState === "visible")
            ask();
    }, FACTS_EVERY_MS);
}

const MEDIA_ERRORS = {
    [MediaError.MEDIA_ERR_NETWORK]: "The transfer broke off.",
    [MediaError.MEDIA_ERR_DECODE]: "The video is damaged.",
    [MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED]:
        "There is no such video, or this browser cannot play it.",
};

function watch(id, source, startAt) {
    const url = videoUrl(id, source);
    let stalls = 0;

    for (const event of ["timeupdate", "progress", "seeking", "seeked",
        "loadedmetadata", "durationchange", "emptied"])
        video.addEventListener(event, showPlayback);
    addEventListener("resize", drawRanges);
    video.addEventListener("waiting", () => {
        /* a seek waits by nature: that is no stall */
        if (!video.seeking && video.currentTime > 0)
            byId("stalls").textContent = String(++stalls);
    });
    video.addEventListener("error", () => {
        say(MEDIA_ERRORS[video.error?.code] ?? "The video does not play.");
    });
    video.addEventListener("loadedmetadata", () => {
        say("");
        if (startAt > 0)
            video.currentTime = Math.min(startAt, video.duration);
        keepFacts(url);
    }, { once: true });
    document.title = `${id} \u2013 reelcache`;
    say("Loading\u2026");
    video.src = url;
}

const query = new URLSearchParams(location.search);
const id = query.get("id") ?? "";
const source = query.get("source") ?? "";
const form = byId("choose");

form.elements.id.value = id;
form.elements.source.value = source;
form.addEventListener("submit", (event) => {
    event.preventDefault();
    const next = new URLSearchParams({ id: form.elements.id.value });
    if (form.elements.source.value !== "")
        next.set("source", form.elements.source.value);
    location.search = next.toString();
});
if (id !== "")
    watch(id, source, Number(query.get("t")) || 0);
else
    say("Which video? Its id goes into the field above.");

/*
 * A plain <video> and a reader of the frame numbers in its pictures
 * (tests/media/make_media.py draws them).  Tests call window.plain.
 */

const CELLS = 16;
const NUMBER_BITS = 13;

const video = document.getElementById("video");
const canvas = document.createElement("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });

/* The number in the picture that is shown now; throws when there is none. */
function readFrame() {
    const wide = video.videoWidth;
    const middle = video.videoHeight - (video.videoHeight >= 360 ? 12 : 8);
    canvas.width = wide;
    canvas.height = 1;
    pen.drawImage(video, 0, middle, wide, 1, 0, 0, wide, 1);
    const row = pen.getImageData(0, 0, wide, 1).data;
    const cells = Array.from({ length: CELLS }, (_, n) =>
        row[4 * Math.floor((n + .5) * wide / CELLS) + 1] > 127 ? 1 : 0);
    const bits = cells.slice(2, 2 + NUMBER_BITS);
    const odd = cells.slice(2).reduce((sum, bit) => sum ^ bit, 0);
    if (cells[0] !== 1 || cells[1] !== 0 || odd !== 0)
        throw new Error(`no frame number in ${cells.join("")}`);
    return bits.reduce((number, bit) => number * 2 + bit, 0);
}

/* The next picture that is painted; "seeked" would come before that. */
function nextPicture() {
    return new Promise((resolve, reject) => {
        video.addEventListener("error", () => {
            reject(new Error(`media error ${video.error.code}: `
                + video.error.message));
        }, { once: true });
        video.requestVideoFrameCallback((now, facts) => {
            try {
                resolve({ frame: readFrame(), mediaTime: facts.mediaTime });
            } catch (error) {
                reject(error);
            }
        });
    });
}

window.plain = {
    /* Loads and shows the first picture. */
    async load(url) {
        const begin = performance.now();
        const picture = nextPicture();
        video.src = url;
        return { ...await picture, waitedMs: performance.now() - begin };
    },

    /* Plays up to a time; every picture that was painted on the way. */
    async playTo(seconds) {
        const pictures = [];
        await video.play();
        while (video.currentTime < seconds && !video.ended)
            pictures.push(await nextPicture());
        video.pause();
        return pictures;
    },

    async seek(seconds) {
        const begin = performance.now();
        video.pause();
        const picture = nextPicture();
        video.currentTime = seconds;
        return { ...await picture, waitedMs: performance.now() - begin };
    },

    state() {
        return {
            duration: video.duration,
            currentTime: video.currentTime,
            buffered: Array.from({ length: video.buffered.length },
                (_, n) => [video.buffered.start(n), video.buffered.end(n)]),
        };
    },
};

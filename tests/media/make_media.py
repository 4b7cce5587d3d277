#!/usr/bin/python3
"""Real clips for tests and for ./quickstart, made by ffmpeg.

Every frame carries its number twice: as a timecode for people, and as a
strip of black and white cells along the lower edge for programs, which
survives any codec.  The sound is a tone with a short beep every second.

The strip has 16 cells, from left to right: one white, one black (so that a
reader knows that it looks at a strip), 13 bits of the frame number, highest
first, and one cell that makes the count of white number cells even.

    make_media.py FOLDER [--only NAME ...] [--list]

Clips that exist in FOLDER and were made by the same recipe stay as they are.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile

FPS = 25
CELLS = 16
NUMBER_BITS = 13
FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf"

# height -> width, bits per second, height of the strip
SHAPES = {144: (256, 220_000, 16), 360: (640, 900_000, 24)}


class Clip:
    """One file: how its pictures are coded and how they are packed."""

    def __init__(self, name, height, seconds, codec, pack, mime):
        self.name = name
        self.height = height
        self.seconds = seconds
        self.codec = codec
        self.pack = pack
        self.mime = mime

    @property
    def width(self):
        return SHAPES[self.height][0]

    @property
    def frames(self):
        return self.seconds * FPS


MP4 = "video/mp4"
WEBM = "video/webm"
SECONDS = 100

CLIPS = [
    Clip("144p-faststart.mp4", 144, SECONDS, "h264", "faststart", MP4),
    Clip("360p-faststart.mp4", 360, SECONDS, "h264", "faststart", MP4),
    Clip("360p-moov-last.mp4", 360, SECONDS, "h264", "moov-last", MP4),
    Clip("360p-fragmented.mp4", 360, SECONDS, "h264", "fragmented", MP4),
    Clip("360p-fragmented-sidx.mp4", 360, SECONDS, "h264", "sidx", MP4),
    Clip("144p-vp9.webm", 144, SECONDS, "vp9", "webm", WEBM),
    Clip("360p-vp8.webm", 360, SECONDS, "vp8", "webm", WEBM),
]

CODECS = {
    "h264": ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main",
             "-pix_fmt", "yuv420p", "-g", "50", "-threads", "1",
             "-c:a", "aac", "-b:a", "64k"],
    "vp9": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8",
            "-pix_fmt", "yuv420p", "-g", "50", "-threads", "2",
            "-c:a", "libopus", "-b:a", "48k"],
    # VP8's "realtime" would look at the clock: no two encodings were the same
    "vp8": ["-c:v", "libvpx", "-deadline", "good", "-cpu-used", "5",
            "-pix_fmt", "yuv420p", "-g", "50", "-threads", "2",
            "-c:a", "libvorbis", "-b:a", "64k"],
}

# empty_moov without delay_moov would shift the pictures by two frames
PACKS = {
    "faststart": ["-f", "mp4", "-movflags", "+faststart"],
    "moov-last": ["-f", "mp4"],
    "fragmented": ["-f", "mp4", "-movflags",
                   "+frag_keyframe+default_base_moof+delay_moov"],
    "sidx": ["-f", "mp4", "-movflags",
             "+frag_keyframe+default_base_moof+delay_moov+global_sidx"],
    "webm": ["-f", "webm", "-cues_to_front", "1"],
}


def strip_cells(frame_no):
    """The 16 cells of a frame as bytes, 0 black and 255 white."""
    bits = [frame_no >> n & 1 for n in reversed(range(NUMBER_BITS))]
    cells = [1, 0] + bits + [sum(bits) & 1]
    return bytes(255 * cell for cell in cells)


def run_ffmpeg(args, stdin_bytes=None):
    """Runs ffmpeg; its own words are the error when it fails."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin",
               "-y"] + args
    if stdin_bytes is not None:
        command.remove("-nostdin")
    try:
        done = subprocess.run(command, input=stdin_bytes,
                              stderr=subprocess.PIPE, check=False)
    except FileNotFoundError:
        sys.exit("make_media: ffmpeg is not installed (apt install ffmpeg)")
    if done.returncode != 0:
        sys.exit("make_media: ffmpeg failed: "
                 + done.stderr.decode(errors="replace").strip())


def encode(codec, height, seconds, path):
    """Pictures, strip, timecode and tone into one file.

    H.264 goes to MP4, whose edit list takes AAC's first packet away again;
    Matroska would move the pictures by its length."""
    width, bits, strip_height = SHAPES[height]
    cells = b"".join(strip_cells(n) for n in range(seconds * FPS))
    timecode = (f"drawtext=fontfile={FONT}:timecode='00\\:00\\:00\\:00':"
                f"rate={FPS}:fontsize={height // 8}:fontcolor=white:box=1:"
                "boxcolor=black@0.7:boxborderw=6:x=(w-tw)/2:y=(h-th)/3")
    label = (f"drawtext=fontfile={FONT}:text='{height}p {codec}':"
             f"fontsize={height // 14}:fontcolor=white:box=1:"
             "boxcolor=black@0.7:boxborderw=4:x=(w-tw)/2:y=h/2")
    # noise gives the encoder enough to do to reach its bit rate
    graph = (f"[0:v]noise=alls=8:allf=t:all_seed=1,{timecode},{label}[picture];"
             f"[1:v]scale={width}:{strip_height}:flags=neighbor,format=yuv420p"
             f"[strip];[picture][strip]overlay=0:H-{strip_height}[v];"
             "[2:a]anull[a]")
    run_ffmpeg([
        "-f", "lavfi", "-i",
        f"testsrc2=size={width}x{height}:rate={FPS}:duration={seconds}",
        "-f", "rawvideo", "-pixel_format", "gray",
        "-video_size", f"{CELLS}x1", "-framerate", str(FPS), "-i", "pipe:0",
        "-f", "lavfi", "-i",
        f"sine=frequency=330:beep_factor=4:sample_rate=48000:"
        f"duration={seconds}",
        "-filter_complex", graph, "-map", "[v]", "-map", "[a]",
        *CODECS[codec], "-b:v", str(bits), "-maxrate", str(bits * 5 // 4),
        "-bufsize", str(bits * 2), "-map_metadata", "-1",
        "-fflags", "+bitexact", "-flags:v", "+bitexact",
        "-flags:a", "+bitexact",
        *PACKS["webm" if codec.startswith("vp") else "moov-last"], path],
        cells)


def pack(source, clip, path):
    """The same pictures, packed as the clip wants it."""
    if clip.pack == "webm":
        os.link(source, path)
        return
    run_ffmpeg(["-i", source, "-map", "0", "-c", "copy",
                "-map_metadata", "-1", "-fflags", "+bitexact",
                *PACKS[clip.pack], path])


def recipe_mark():
    """Changes whenever this program does: old clips are made again."""
    with open(__file__, "rb") as own:
        return hashlib.sha256(own.read()).hexdigest()


def make(folder, names=None):
    """Makes what is missing.  Returns {name: path}."""
    clips = [c for c in CLIPS if names is None or c.name in names]
    unknown = set(names or []) - {c.name for c in CLIPS}
    if unknown:
        sys.exit("make_media: no such clip: " + " ".join(sorted(unknown)))
    os.makedirs(folder, exist_ok=True)
    marks_path = os.path.join(folder, "recipe.json")
    try:
        with open(marks_path, encoding="utf-8") as file:
            marks = json.load(file)
    except (OSError, ValueError):
        marks = {}
    mark = recipe_mark()
    paths = {c.name: os.path.join(folder, c.name) for c in clips}
    missing = [c for c in clips if marks.get(c.name) != mark
               or not os.path.exists(paths[c.name])]
    if not missing:
        return paths
    if not os.path.exists(FONT):
        sys.exit(f"make_media: {FONT} is missing "
                 "(apt install fonts-dejavu-core)")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        encoded = {}
        for clip in missing:
            key = (clip.codec, clip.height, clip.seconds)
            if key not in encoded:
                encoded[key] = os.path.join(scratch, "%s-%d-%d" % key)
                encode(*key, encoded[key])
            packed = os.path.join(scratch, clip.name)
            pack(encoded[key], clip, packed)
            os.replace(packed, paths[clip.name])
            marks[clip.name] = mark
            part = os.path.join(scratch, "recipe.json")
            with open(part, "w", encoding="utf-8") as file:
                json.dump(marks, file, indent=1)
            os.replace(part, marks_path)
    return paths


def main():
    parser = argparse.ArgumentParser(
        description="make the clips of tests and quickstart")
    parser.add_argument("folder", nargs="?", help="where the clips go")
    parser.add_argument("--only", nargs="+", metavar="NAME",
                        help="make these clips alone")
    parser.add_argument("--list", action="store_true",
                        help="say which clips there are, make none")
    args = parser.parse_args()
    if args.list:
        for clip in CLIPS:
            print(clip.name, clip.mime, f"{clip.width}x{clip.height}",
                  f"{clip.frames} frames")
        return
    if args.folder is None:
        parser.error("FOLDER is missing")
    for path in make(args.folder, args.only).values():
        print(path, os.path.getsize(path))


if __name__ == "__main__":
    main()

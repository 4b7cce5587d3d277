"""The map of time and bytes, against what ffprobe reads in the same file."""
import json
import os
import subprocess
import sys

import pytest

import harness

MEDIA = os.path.join(harness.TOP, "tests", "media")
sys.path.insert(0, MEDIA)

import make_media  # noqa: E402

SECONDS = 21
KEY_EVERY_MS = 2000
NEAR_MS = 50
SOUND_MS = 20  # of one packet, or a little less
ENDINGS = {"h264": ".mp4", "vp8": ".webm"}


def map_of(path):
    program = os.path.join(os.path.dirname(harness.reelcache_bin()),
                           "tests", "media", "map_dump")
    done = subprocess.run([program, path], stdout=subprocess.PIPE, timeout=30,
                          check=True)
    return json.loads(done.stdout)


def packets_of(path, stream):
    """[(ms, position, is a key frame)] in the order of time."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", stream, "-show_packets",
         "-show_entries", "packet=pts_time,pos,flags", "-of", "json", path],
        stdout=subprocess.PIPE, timeout=60, check=True)
    return sorted((round(float(p["pts_time"]) * 1000), int(p["pos"]),
                   "K" in p["flags"])
                  for p in json.loads(done.stdout)["packets"]
                  if "pos" in p)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A short clip of each codec, coded like the others that tests use."""
    folder = tmp_path_factory.mktemp("media")
    paths = {codec: str(folder / ("source" + ending))
             for codec, ending in ENDINGS.items()}
    for codec, path in paths.items():
        make_media.encode(codec, 144, SECONDS, path)
    return paths


def packed(source, path, *options):
    make_media.run_ffmpeg(["-i", source, "-c", "copy", *options, path])
    return path


CASES = {
    # name: codec, options, keys of the map that must be so
    "front.mp4": ("h264", make_media.PACKS["faststart"],
                  {"fragmented": False, "index_behind": False}),
    "behind.mp4": ("h264", make_media.PACKS["moov-last"],
                   {"fragmented": False, "index_behind": True}),
    "mfra.mp4": ("h264", make_media.PACKS["fragmented"],
                 {"fragmented": True, "index_behind": False}),
    "sidx.mp4": ("h264", make_media.PACKS["sidx"],
                 {"fragmented": True, "index_behind": False}),
    "front.webm": ("vp8", make_media.PACKS["webm"],
                   {"index_behind": False}),
    "behind.webm": ("vp8", ["-f", "webm"], {"index_behind": False}),
}


@pytest.mark.parametrize("name", CASES)
def test_points_are_key_frames(sources, tmp_path, name):
    codec, options, must_be = CASES[name]
    path = packed(sources[codec], str(tmp_path / name), "-map", "0", *options)
    found = map_of(path)
    keys = [p for p in packets_of(path, "v:0") if p[2]]
    size = os.path.getsize(path)

    assert found["state"] == "ready"
    assert found["container"] == name.rsplit(".", 1)[1]
    assert found["wanted"] < size // 4 and found["wants"] < 20
    for key, value in must_be.items():
        assert found[key] == value, key
    assert abs(found["duration_ms"] - SECONDS * 1000) < 1000
    assert abs(found["bitrate_bps"] - size * 8 / SECONDS) < size * 8 / 400
    assert found["head"] == [0, found["media_off"]]
    assert found["media_off"] <= keys[0][1]

    points = found["points"]
    assert len(points) == len(keys) >= SECONDS * 1000 // KEY_EVERY_MS
    before = -1
    for (time_ms, off), (key_ms, key_off, _) in zip(points, keys):
        assert abs(time_ms - key_ms) <= NEAR_MS
        assert before < off <= key_off
        before = key_off


def test_no_sound_lies_before_its_point(sources, tmp_path):
    """Playing from a point needs no sound of that time before its offset:
    without B frames it begins shortly before the picture's packet."""
    path = packed(sources["h264"], str(tmp_path / "both.mp4"), "-map", "0",
                  "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0",
                  "-g", "50", *make_media.PACKS["moov-last"])
    points = map_of(path)["points"]
    sound = packets_of(path, "a:0")
    assert len(points) > 5
    for time_ms, off in points:
        assert min(p[1] for p in sound if p[0] + SOUND_MS > time_ms) >= off


@pytest.mark.parametrize("codec", ENDINGS)
def test_sound_alone(sources, tmp_path, codec):
    path = packed(sources[codec], str(tmp_path / ("sound" + ENDINGS[codec])),
                  "-map", "0:a")
    found = map_of(path)
    packets = packets_of(path, "a:0")
    assert found["state"] == "ready"
    assert len(found["points"]) >= SECONDS // 6
    for time_ms, off in found["points"]:
        near = [p for p in packets if abs(p[0] - time_ms) <= NEAR_MS]
        assert near and off <= near[-1][1]


def test_other_files(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"no film at all\n" * 100)
    found = map_of(str(path))
    assert found["state"] == "failed"
    assert found["points"] == []
    assert found["duration_ms"] == 0

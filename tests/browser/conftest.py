"""Chromium in front of reelcache in front of a slow origin.

REELCACHE_BIN     the program; else build/ is searched
REELCACHE_MEDIA   where clips are kept; else build-media/
"""

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "bench"),
                os.path.join(ROOT, "tests", "media")]

import bench  # noqa: E402
import chromium  # noqa: E402
import make_media  # noqa: E402
from paced_origin import Origin  # noqa: E402

# slower than a seek's patience allows to wait, faster than the clips play
ORIGIN_BPS = 400 * 1024
ORIGIN_DELAY_S = .2


class Clip:
    """A clip and what a test wants to know of it."""

    def __init__(self, recipe, path):
        self.name = recipe.name
        self.frames = recipe.frames
        self.width = recipe.width
        self.height = recipe.height
        self.path = path
        self.size = os.path.getsize(path)

    @staticmethod
    def second_of(frame):
        """In the middle of a frame: no rounding can reach its neighbours."""
        return (frame + .5) / make_media.FPS


@pytest.fixture(scope="session")
def clips():
    folder = os.environ.get("REELCACHE_MEDIA",
                            os.path.join(ROOT, "build-media"))
    paths = make_media.make(folder)
    return {recipe.name: Clip(recipe, paths[recipe.name])
            for recipe in make_media.CLIPS}


@pytest.fixture
def origin(clips):
    folder = os.path.dirname(next(iter(clips.values())).path)
    slow = Origin(ORIGIN_BPS, ORIGIN_DELAY_S, folder=folder).start()
    yield slow
    slow.stop()


def run_server(tmp_path, origin, web, extra=None):
    return bench.Reelcache(str(tmp_path), origin.port, extra={
        "http": {"web": web}, **(extra or {})}).start()


def stop_server(running):
    running.stop()
    words = running.words()
    assert "must-failed" not in words and "Sanitizer" not in words, words


@pytest.fixture
def server(tmp_path, origin):
    """reelcache with the plain page at /."""
    running = run_server(tmp_path, origin, os.path.join(HERE, "page"))
    yield running
    stop_server(running)


@pytest.fixture
def watch_server(tmp_path, origin):
    """reelcache with its own watch page at /."""
    running = run_server(tmp_path, origin, os.path.join(ROOT, "src", "web"))
    yield running
    stop_server(running)


@pytest.fixture
def new_browser(tmp_path):
    """Browsers, each as if on a machine of its own."""
    opened = []

    def make():
        profile = tmp_path / f"profile-{len(opened)}"
        driver = chromium.start(profile)
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.quit()


@pytest.fixture
def browser(new_browser):
    return new_browser()

"""URLs that expire in the middle of what they bring."""
import json
import os
import stat
import time

import pytest

import client
import content
from harness import Later, until

MIB = 1 << 20


@pytest.fixture
def resolved(make, origin):
    """resolved(obj, ...): a server whose source resolves every id to the
    object's URL with the token of the moment, by a helper program."""

    def start(obj, **sections):
        folder = make.folder
        helper = os.path.join(folder, "helper")
        token = os.path.join(folder, "token")
        count = os.path.join(folder, "count")
        with open(token, "w") as f:
            f.write("one")
        text = json.dumps({
            "title": "A film", "duration": 10, "formats": [{
                "format_id": "a", "ext": "mp4", "height": 360,
                "vcodec": "x", "acodec": "y",
                "url": origin.url(obj.name) + "?t=TOKEN"}]})
        with open(helper, "w") as f:
            f.write(f"#!/bin/sh\necho x >>{count}\n"
                    f"sed \"s/TOKEN/$(cat {token})/\" <<'END'\n{text}\nEND\n")
        os.chmod(helper, os.stat(helper).st_mode | stat.S_IXUSR)
        obj.token = "one"
        server = make(None, **{
            "source__film": {"type": "command", "command": helper,
                             "url": "http://pages.test/{id}",
                             "allow_private": True}, **sections})

        def expire(new):
            with open(token, "w") as f:
                f.write(new)
            obj.token = new
            origin.drop_connections()

        server.expire = expire
        server.runs = lambda: os.path.getsize(count) // 2
        return server.start()

    return start


def test_goes_on_by_a_new_url(resolved, origin):
    movie = origin.add("movie", 6 * MIB, rate=3 * MIB)
    server = resolved(movie)
    viewer = Later(server.get, "any")
    until(lambda: movie.body_bytes > 2 * MIB, "it plays")
    server.expire("two")
    res = viewer.value()
    assert res.whole and res.status == 200
    client.same(movie.seed, 0, res.body, movie.size)
    assert server.runs() == 2
    assert any(r.status == 403 for r in movie.requests)
    assert server.metrics()["resolve_again"] == 1
    # what is compared once more, and what was on its way
    assert movie.body_bytes - movie.size < 512 << 10
    # no URL and no token has left the house
    assert "t=one" not in server.log_text() + json.dumps(server.access())


def test_another_validator_of_the_same_bytes(resolved, origin):
    """Another server of the same file: the bytes prove it."""
    movie = origin.add("movie", 6 * MIB, rate=3 * MIB)
    server = resolved(movie)
    viewer = Later(server.get, "any")
    until(lambda: movie.body_bytes > 2 * MIB, "it plays")
    movie.etag = '"another-server"'
    server.expire("two")
    res = viewer.value()
    assert res.whole
    client.same(movie.seed, 0, res.body, movie.size)
    assert server.metrics()["generations"] == 0


def test_goes_on_with_the_new_validator(resolved, origin):
    """Also the next request to the other server."""
    movie = origin.add("movie", 12 * MIB, rate=3 * MIB)
    server = resolved(movie, cache={"linger": "0", "linger_time": "0"})
    viewer = Later(server.get, "any", range=f"bytes=0-{4 * MIB - 1}")
    until(lambda: movie.body_bytes > 2 * MIB, "it plays")
    movie.etag = '"another-server"'
    server.expire("two")
    res = viewer.value()
    assert res.whole
    client.same(movie.seed, 0, res.body, 4 * MIB)
    res = server.get("any", range=f"bytes={9 * MIB}-{10 * MIB - 1}")
    assert res.whole
    client.same(movie.seed, 9 * MIB, res.body)
    assert server.metrics()["generations"] == 0


def test_without_any_validator(resolved, origin):
    movie = origin.add("movie", 6 * MIB, rate=3 * MIB, etag=None)
    server = resolved(movie)
    viewer = Later(server.get, "any")
    until(lambda: movie.body_bytes > 2 * MIB, "it plays")
    server.expire("two")
    res = viewer.value()
    assert res.whole
    client.same(movie.seed, 0, res.body, movie.size)


def test_other_bytes_are_never_mixed_in(resolved, origin):
    movie = origin.add("movie", 6 * MIB, rate=3 * MIB)
    seed = movie.seed
    server = resolved(movie)
    viewer = Later(server.get, "any")
    until(lambda: movie.body_bytes > 2 * MIB, "it plays")
    movie.change("another film")
    server.expire("two")
    res = viewer.value()
    assert not res.whole
    client.same(seed, 0, res.body)
    assert server.metrics()["generations"] == 1
    # who comes now gets the new one, whole
    movie.rate = None
    res = server.get("any")
    assert res.whole
    client.same("another film", 0, res.body, movie.size)


def test_one_new_url_for_all(resolved, origin):
    movie = origin.add("movie", 8 * MIB, rate=2 * MIB)
    server = resolved(movie)
    places = (0, 3 * MIB, 6 * MIB)
    viewers = [Later(server.get, "any", range=f"bytes={p}-{p + 2 * MIB - 1}")
               for p in places]
    until(lambda: movie.body_bytes > 2 * MIB, "all play")
    server.expire("two")
    for place, viewer in zip(places, viewers):
        res = viewer.value()
        assert res.whole and len(res.body) == 2 * MIB
        client.same(movie.seed, place, res.body)
    assert server.runs() == 2


def test_a_refusal_that_stays(resolved, origin):
    """The new URL is refused as well: once is enough."""
    movie = origin.add("movie", 4 * MIB, rate=2 * MIB)
    server = resolved(movie, upstream={"patience": "1s"})
    viewer = Later(server.get, "any")
    until(lambda: movie.body_bytes > MIB, "it plays")
    server.expire("two")
    movie.token = "nobody knows it"
    res = viewer.value()
    assert not res.whole
    client.same(movie.seed, 0, res.body)
    time.sleep(0.5)
    assert server.runs() <= 3
    assert sum(r.status == 403 for r in movie.requests) <= 8


def test_the_resolver_is_gone_for_a_while(resolved, origin):
    movie = origin.add("movie", 6 * MIB, rate=3 * MIB)
    server = resolved(movie)
    viewer = Later(server.get, "any")
    until(lambda: movie.body_bytes > 2 * MIB, "it plays")
    server.signal(9, server.status()["resolver"]["pid"])
    server.expire("two")
    res = viewer.value()
    assert res.whole
    client.same(movie.seed, 0, res.body, movie.size)


def test_hits_need_no_url(resolved, origin):
    """What is stored is served when its URL has expired long ago."""
    movie = origin.add("movie", MIB)
    server = resolved(movie, resolver={"ttl": "1s"})
    assert right_whole(server, movie)
    server.wait_idle()
    time.sleep(1.2)
    movie.token = "nobody knows it"
    asked = len(movie.requests)
    assert right_whole(server, movie)
    assert len(movie.requests) == asked


def right_whole(server, movie):
    res = server.get("any")
    return res.body == content.span(movie.seed, 0, movie.size)

"""Preconditions and If-Range (RFC 9110 section 13), and their precedence."""
import pytest

import client

SIZE = 1000
TRANSPORTS = client.TRANSPORTS
MODIFIED = "Mon, 02 Jan 2023 03:04:05 GMT"
BEFORE = "Mon, 02 Jan 2023 03:04:04 GMT"
AFTER = "Mon, 02 Jan 2023 03:04:06 GMT"
TAG = '"v1"'


@pytest.mark.parametrize("fields,status", [
    ({"If-None-Match": TAG}, 304),
    ({"If-None-Match": "W/" + TAG}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": f'"a", {TAG}, "b"'}, 304),
    ({"If-None-Match": '"other"'}, 200),
    ({"If-None-Match": 'garbage'}, 200),
    ({"If-Modified-Since": MODIFIED}, 304),
    ({"If-Modified-Since": AFTER}, 304),
    ({"If-Modified-Since": BEFORE}, 200),
    ({"If-Modified-Since": "yesterday"}, 200),
    # If-None-Match outweighs If-Modified-Since
    ({"If-None-Match": '"other"', "If-Modified-Since": AFTER}, 200),
    ({"If-None-Match": TAG, "If-Modified-Since": BEFORE}, 304),
    ({"If-Match": TAG}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": f'"a", {TAG}'}, 200),
    ({"If-Match": '"other"'}, 412),
    ({"If-Match": "W/" + TAG}, 412),
    ({"If-Unmodified-Since": MODIFIED}, 200),
    ({"If-Unmodified-Since": AFTER}, 200),
    ({"If-Unmodified-Since": BEFORE}, 412),
    # If-Match outweighs If-Unmodified-Since
    ({"If-Match": TAG, "If-Unmodified-Since": BEFORE}, 200),
    # first whether, then whether anew
    ({"If-Match": '"other"', "If-None-Match": TAG}, 412),
    ({"If-Match": TAG, "If-None-Match": TAG}, 304),
    # all of them before Range
    ({"If-None-Match": TAG, "Range": "bytes=0-9"}, 304),
    ({"If-Match": '"other"', "Range": "bytes=0-9"}, 412),
    ({"If-Match": TAG, "Range": "bytes=0-9"}, 206),
    ({"If-None-Match": TAG, "Range": "bytes=5000-"}, 304),
    ({"If-Range": TAG, "Range": "bytes=0-9"}, 206),
    ({"If-Range": '"other"', "Range": "bytes=0-9"}, 200),
    ({"If-Range": "W/" + TAG, "Range": "bytes=0-9"}, 200),
    ({"If-Range": MODIFIED, "Range": "bytes=0-9"}, 206),
    ({"If-Range": BEFORE, "Range": "bytes=0-9"}, 200),
    ({"If-Range": AFTER, "Range": "bytes=0-9"}, 200),
    ({"If-Range": "garbage", "Range": "bytes=0-9"}, 200),
    ({"If-Range": '"other"', "Range": "bytes=5000-"}, 200),
    ({"If-Range": TAG, "Range": "bytes=5000-"}, 416),
    ({"If-Range": TAG}, 200),
])
def test_precedence(server, thing, fields, status):
    obj = thing(SIZE, etag=TAG, last_modified=MODIFIED)
    for _ in range(2):  # cold and stored
        res = server.get(obj.name, headers=fields)
        assert res.status == status
        if status in (200, 206, 304):
            assert res.headers["etag"] == TAG
        if status == 200:
            client.same(obj.seed, 0, res.body, SIZE)
        if status == 206:
            client.same(obj.seed, 0, res.body, 10)
        if status == 304:
            assert res.headers["content-range"] is None
            assert res.headers["cache-control"] == obj.cache_control
    # what a client thinks is not the origin's business
    for request in obj.requests:
        assert request.headers.get("if-match") is None
        assert request.headers.get("if-unmodified-since") is None


def test_connection_goes_on_after_304(server, thing):
    obj = thing(SIZE, etag=TAG)
    with server.connect() as conn:
        for status, tag in ((200, '"x"'), (304, TAG), (200, '"x"')):
            conn.ask(f"/proxy/{obj.name}", if_none_match=tag)
            assert conn.response().status == status


def test_weak_tag_is_no_if_range(server, thing):
    obj = thing(SIZE, etag='W/"weak"')
    res = server.get(obj.name)
    assert res.headers["etag"] == 'W/"weak"'
    res = server.get(obj.name, range="bytes=0-9", if_range='W/"weak"')
    assert res.status == 200
    assert server.get(obj.name, if_none_match='W/"weak"').status == 304

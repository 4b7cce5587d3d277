"""WebSockets: the handshake, the messages, the bytes; by HTTP/1.1 and 2."""
import pytest

import content
import ws
from ws import Http1, Http2, WebSocket

KIB = 1024
MIB = 1024 * KIB
CONF = {"cache": {"size": "500M"}, "prefetch": {"readahead": "0"}}

both = pytest.mark.parametrize("transport", [Http1, Http2])


@both
def test_hello(server, transport):
    with WebSocket(server.port, transport) as s:
        assert s.wire.headers["sec-websocket-protocol"] == "reelcache.v1"
        assert s.welcome["type"] == "WELCOME"
        assert s.welcome["protocol"] == "reelcache.v1"
        assert s.ask(type="PING", request=7) == {"type": "PONG", "request": 7}
        s.frame(ws.PING, b"are you there")
        assert s.next() == (ws.PONG, b"are you there")
        s.close(1000, b"bye")
        assert s.closed() == (1000, b"bye")


@both
def test_chunk(server, thing, transport):
    film = thing(3 * MIB)
    with WebSocket(server.port, transport) as s:
        chunk = s.chunk(1, film.name, 100, 2 * MIB)
        assert chunk.error is None
        assert chunk.end["bytes"] == 2 * MIB
        assert content.first_wrong(film.seed, 100, chunk.data) is None
        assert len(chunk.data) == 2 * MIB and chunk.last
        assert chunk.begin["status"] == 206
        assert chunk.begin["size"] == film.size

#include "http/lobby.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/proxy_header.h"

struct lobby_guest {
	struct lobby *lobby;
	TAILQ_ENTRY(lobby_guest) link;
	uint64_t since_ms;
	unsigned listener;
	int fd;
	uint8_t peer[SINK_PEER_BYTES];
	struct event event;
};

enum look {
	LOOK_WAIT,
	LOOK_ENTER,
	LOOK_BAD,
	LOOK_LEFT, /* it has closed without having sent a byte */
};

static void close_bad(struct lobby *l, int fd)
{
	stat_add(l->stats, STAT_connections_proxy_bad, 1);
	close(fd);
}

/* Looks at what has come without taking it: where a header of version 1 ends
 * is not known before its last byte, and what is behind it is not ours. */
static enum look look_at(int fd, struct proxy_header *p)
{
	uint8_t bytes[PROXY_HEADER_MAX];
	enum proxy_outcome outcome;
	ssize_t n;

	do
		n = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? LOOK_WAIT : LOOK_LEFT;
	if (n == 0)
		return LOOK_LEFT;
	outcome = proxy_header_parse(p, bytes, (size_t)n);
	if (outcome == PROXY_MORE)
		return LOOK_WAIT;
	if (outcome == PROXY_BAD)
		return LOOK_BAD;
	do
		n = recv(fd, bytes, p->bytes, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)p->bytes ? LOOK_ENTER : LOOK_BAD;
}

/* The guest leaves the list; its descriptor stays open. */
static void remove_guest(struct lobby_guest *g)
{
	event_del(&g->event);
	TAILQ_REMOVE(&g->lobby->guests, g, link);
	g->lobby->count--;
	free(g);
}

static void turn_out(struct lobby_guest *g)
{
	struct lobby *l = g->lobby;
	int fd = g->fd;

	remove_guest(g);
	close_bad(l, fd);
}

static void on_news(evutil_socket_t fd, short what, void *arg)
{
	struct lobby_guest *g = arg;
	struct lobby *l = g->lobby;
	struct proxy_header p;
	enum look look = look_at(fd, &p);
	unsigned listener = g->listener;

	/* cut short: what is missing will not come */
	if (look == LOOK_WAIT && (what & EV_CLOSED) != 0)
		look = LOOK_BAD;
	if (look == LOOK_WAIT)
		return;
	if (look == LOOK_ENTER && !p.has_address)
		memcpy(p.addr, g->peer, sizeof(p.addr));
	remove_guest(g);
	if (look == LOOK_ENTER)
		l->enter(l->context, fd, listener, p.addr);
	else if (look == LOOK_BAD)
		close_bad(l, fd);
	else
		close(fd);
}

static int add_guest(struct lobby *l, int fd, unsigned listener,
		     const uint8_t *peer, uint64_t now_ms)
{
	struct lobby_guest *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return -ENOMEM;
	g->lobby = l;
	g->fd = fd;
	g->listener = listener;
	g->since_ms = now_ms;
	memcpy(g->peer, peer, sizeof(g->peer));
	/* what has come since we looked is an edge of its own */
	if (event_assign(&g->event, l->base, fd,
			 EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_news,
			 g) < 0 ||
	    event_add(&g->event, NULL) < 0) {
		free(g);
		return -ENOMEM;
	}
	if (l->count == LOBBY_MAX)
		turn_out(TAILQ_FIRST(&l->guests));
	TAILQ_INSERT_TAIL(&l->guests, g, link);
	l->count++;
	return 0;
}

void lobby_init(struct lobby *l)
{
	l->count = 0;
	l->draining = false;
	TAILQ_INIT(&l->guests);
}

void lobby_fini(struct lobby *l)
{
	struct lobby_guest *g;
	int fd;

	while ((g = TAILQ_FIRST(&l->guests)) != NULL) {
		fd = g->fd;
		remove_guest(g);
		close(fd);
	}
}

void lobby_take(struct lobby *l, int fd, unsigned listener,
		const uint8_t peer[SINK_PEER_BYTES], uint64_t now_ms)
{
	struct proxy_header p;

	if (!networks_have(l->trusted, peer)) {
		close_bad(l, fd);
		return;
	}
	/* mostly it is there already */
	switch (look_at(fd, &p)) {
	case LOOK_ENTER:
		l->enter(l->context, fd, listener,
			 p.has_address ? p.addr : peer);
		return;
	case LOOK_BAD:
		close_bad(l, fd);
		return;
	case LOOK_LEFT:
		close(fd);
		return;
	case LOOK_WAIT:
		if (add_guest(l, fd, listener, peer, now_ms) < 0)
			close(fd);
		return;
	}
}

void lobby_tick(struct lobby *l, uint64_t now_ms)
{
	uint64_t limit = l->draining ? min_u64(l->timeout_ms, LOBBY_DRAIN_MS)
				     : l->timeout_ms;
	struct lobby_guest *g;

	while ((g = TAILQ_FIRST(&l->guests)) != NULL &&
	       now_ms - g->since_ms >= limit)
		turn_out(g);
}

void lobby_drain(struct lobby *l)
{
	l->draining = true;
}

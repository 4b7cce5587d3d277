/*
 * lobby - accepted connections whose PROXY header has not come yet.
 *
 * Used by: worker.  Nothing blocks.  Stands before everything else that reads
 * a connection, TLS too: exactly the header's bytes are taken from the socket,
 * and what follows them is left there for the one who comes next.
 *
 * A connection is closed, without a word, and counts as
 * connections_proxy_bad, when its peer is not trusted, its header is wrong or
 * cut short, or does not come in time.  One that leaves without having sent
 * a byte is not counted: that is how balancers look whether somebody listens.
 * There is room for LOBBY_MAX; when one more comes, the one that has waited
 * longest makes room.
 */
#ifndef REELCACHE_HTTP_LOBBY_H
#define REELCACHE_HTTP_LOBBY_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/sink.h"
#include "shm/segment.h"
#include "util/base.h"
#include "util/networks.h"

#define LOBBY_MAX      1024u
#define LOBBY_DRAIN_MS 1000u /* longest wait while draining */

struct lobby_guest;
TAILQ_HEAD(lobby_list, lobby_guest);

struct lobby {
	/* the caller's, before lobby_init(): */
	struct event_base *base;
	struct segment_stats *stats;
	const struct networks *trusted;
	uint64_t timeout_ms;
	/* The header is read; fd is the callee's.  address: the client's, or
	 * the peer's when the header tells none.  Called from lobby_take() or
	 * from the event loop. */
	void (*enter)(void *context, int fd, unsigned listener,
		      const uint8_t address[SINK_PEER_BYTES]);
	void *context;

	/* own: */
	uint32_t count;
	bool draining;
	struct lobby_list guests; /* the one that has waited longest first */
};

void lobby_init(struct lobby *l);

/* Closes all of them at once. */
void lobby_fini(struct lobby *l);

/* Takes over fd (non-blocking), a connection of peer.  listener: a number for
 * enter().  now_ms: monotonic. */
void lobby_take(struct lobby *l, int fd, unsigned listener,
		const uint8_t peer[SINK_PEER_BYTES], uint64_t now_ms);

/* Closes who has waited for too long.  Call about every 100 ms. */
void lobby_tick(struct lobby *l, uint64_t now_ms);

/* From now on nobody waits for longer than LOBBY_DRAIN_MS. */
void lobby_drain(struct lobby *l);

#endif

/*
 * forwarded - who asks, behind proxies that are trusted: Forwarded (RFC 7239)
 * or X-Forwarded-For.
 *
 * Used by: worker.  Pure, no allocation.
 *
 * Each proxy adds the address that it saw at the right; so the walk begins at
 * the peer and goes left, as long as who stands there is trusted.  The first
 * who is not is the client, or the leftmost when all are.  What is written
 * left of him is his own word and is not even read: the lists are cut from
 * the right, so that no quote of his reaches over what a proxy has added.
 *
 * The walk ends early, with the last good address, at an element that is
 * malformed, tells no `for', or tells "unknown" or a made-up name (_name).
 * Empty elements are passed over.  Forwarded counts when it is there, and
 * then X-Forwarded-For does not: a proxy that writes the latter must take the
 * former away.
 *
 * X-Forwarded-For is no standard: an element is an address, IPv6 with
 * brackets or without, and perhaps a port.
 */
#ifndef REELCACHE_HTTP_FORWARDED_H
#define REELCACHE_HTTP_FORWARDED_H

#include <stdint.h>

#include "http/head.h"
#include "http/sink.h"
#include "util/networks.h"

/* peer: whose connection it is.  client: who asks; peer itself when that is
 * not trusted or the fields say nothing. */
void forwarded_client(const struct head *h, const uint8_t peer[SINK_PEER_BYTES],
		      const struct networks *trusted,
		      uint8_t client[SINK_PEER_BYTES]);

#endif

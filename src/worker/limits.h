/*
 * limits - how many connections are open, in all and from one address.
 *
 * Used by: worker.  Each worker counts its own connections in its row of the
 * segment; the sum over the rows of living workers is the limit's measure, so
 * it does not matter how the kernel spreads connections over workers.  Two
 * workers that accept at the same instant may exceed a limit by one.
 *
 * Addresses are counted in a sketch: two rows of cells by two hashes, the
 * smaller sum counts.  Strangers share a count only when they meet in both
 * rows.  An IPv6 address counts as its /64.
 */
#ifndef REELCACHE_WORKER_LIMITS_H
#define REELCACHE_WORKER_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "http/sink.h"
#include "shm/segment.h"
#include "util/base.h"

struct limits {
	struct segment *seg;
	struct segment_worker *row;
	uint32_t connections_max;
	uint32_t address_max;
};

/* Clears what a predecessor in the slot left behind. */
void limits_init(struct limits *l, struct segment *seg, uint32_t slot,
		 uint32_t connections_max, uint32_t address_max);

/* True: counted; limits_leave() once it is closed.  False: over a limit. */
bool limits_enter(struct limits *l,
		  const uint8_t peer[SINK_PEER_BYTES]) MUSTCHECK;
void limits_leave(struct limits *l, const uint8_t peer[SINK_PEER_BYTES]);

#endif

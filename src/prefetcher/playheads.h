/*
 * playheads - who plays on by one range after the other.
 *
 * Used by: prefetcher.  A response that runs shows its position in its row
 * (store/readers.h); between two ranges a player has no row.  Here it is
 * remembered where the last range ended, from what workers note in
 * segment_worker.sent.  Only who has read two ranges in a row counts, and
 * only for PLAYHEAD_MS: who stops reading has paused or left.
 */
#ifndef REELCACHE_PREFETCHER_PLAYHEADS_H
#define REELCACHE_PREFETCHER_PLAYHEADS_H

#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"
#include "util/base.h"

#define PLAYHEADS_MAX    4096u /* in all; the one unmoved for longest goes */
#define PLAYHEADS_OF_ONE 64u   /* of one object */
#define PLAYHEAD_MS      10000u

struct playheads;

int playheads_open(struct playheads **out, struct segment *seg) MUSTCHECK;
void playheads_close(struct playheads *ph);

/* Takes what workers have sent since; sent() hears of every span. */
void playheads_read(struct playheads *ph, uint64_t now_ms,
		    void (*sent)(void *ctx, uint64_t object_no,
				 uint32_t generation, uint64_t from_off,
				 uint64_t to_off),
		    void *ctx);

/* Positions of those who play on in this object; how many. */
size_t playheads_of(const struct playheads *ph, uint64_t object_no,
		    uint32_t generation, uint64_t now_ms,
		    uint64_t pos_off[PLAYHEADS_OF_ONE]);

/* Calls for each object that somebody plays on in. */
void playheads_each(const struct playheads *ph, uint64_t now_ms,
		    void (*each)(void *ctx, uint64_t object_no,
				 uint32_t generation, uint64_t pos_off),
		    void *ctx);

#endif

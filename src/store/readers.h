/*
 * readers - a sorted copy of all reader rows: who reads what, and where.
 *
 * Used by: prefetcher.  The copy is as old as the last readers_refresh();
 * it guides what to fetch and what to spare, never which bytes are right.
 */
#ifndef REELCACHE_STORE_READERS_H
#define REELCACHE_STORE_READERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"
#include "util/base.h"
#include "util/span.h"

struct reader {
	uint64_t object_no;
	uint64_t pos_off; /* next byte it wants */
	uint64_t end_off; /* first byte it does not want; SIZE_UNKNOWN */
	uint32_t generation;
	uint32_t sent_kib; /* of the range that it reads */
};

struct readers {
	struct segment *seg;
	struct reader *rows; /* by object, generation, position */
	size_t count;
	size_t capacity;
	uint64_t refreshed_ms;
};

void readers_init(struct readers *rd, struct segment *seg);
void readers_fini(struct readers *rd);

/* Copies anew when the copy is older than max_age_ms.  Out of memory: the
 * copy is cut, and says so in the log. */
void readers_refresh(struct readers *rd, uint64_t now_ms, uint64_t max_age_ms);

/* The rows of one object and generation; NULL when there are none. */
const struct reader *readers_of(const struct readers *rd, uint64_t object_no,
				uint32_t generation, size_t *count);

/* Does somebody read bytes of this span, or will within ahead bytes? */
bool readers_need(const struct readers *rd, uint64_t object_no,
		  uint32_t generation, struct span span, uint64_t ahead);

#endif

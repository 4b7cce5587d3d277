/*
 * span - bytes [from, to) of an object; empty when from == to.
 *
 * Used by: all processes.  Pure.
 */
#ifndef REELCACHE_UTIL_SPAN_H
#define REELCACHE_UTIL_SPAN_H

#include <stdint.h>

#define SIZE_UNKNOWN UINT64_MAX /* the origin has not told a length yet */

struct span {
	uint64_t from; /* first byte */
	uint64_t to;   /* one past the last byte, >= from */
};

static inline uint64_t span_len(struct span s)
{
	return s.to - s.from;
}

#endif

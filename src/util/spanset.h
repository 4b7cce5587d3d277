/*
 * spanset - a set of bytes, as sorted spans that neither overlap nor touch.
 *
 * Used by: prefetcher.  Pure; its memory is bounded: a set that would need
 * more than SPANSET_MAX spans refuses what is added (-ENOSPC), and of what is
 * taken out keeps the larger rest.
 */
#ifndef REELCACHE_UTIL_SPANSET_H
#define REELCACHE_UTIL_SPANSET_H

#include "util/base.h"
#include "util/span.h"

#define SPANSET_MAX 1024u

/* Begins zeroed. */
struct spanset {
	struct span *spans;
	size_t count;
	size_t capacity;
	uint64_t bytes; /* of all spans */
};

void spanset_fini(struct spanset *set);

/* Bytes that were not in the set before, into *added.  -ENOMEM, -ENOSPC:
 * nothing was added. */
int spanset_add(struct spanset *set, struct span span,
		uint64_t *added) MUSTCHECK;

/* How many bytes of span were in the set and are no longer. */
uint64_t spanset_remove(struct spanset *set, struct span span);

/* How many bytes of span are in the set. */
uint64_t spanset_common(const struct spanset *set, struct span span);

/* First byte >= off that is not in the set. */
uint64_t spanset_first_missing(const struct spanset *set, uint64_t off);

#endif

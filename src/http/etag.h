/*
 * etag - entity tags and lists of them (RFC 9110 section 8.8.3).
 *
 * Used by: worker, prefetcher.  Pure.
 */
#ifndef REELCACHE_HTTP_ETAG_H
#define REELCACHE_HTTP_ETAG_H

#include <stdbool.h>

#include "http/slice.h"

struct etag {
	struct slice opaque; /* with its quotes */
	bool weak;
};

/* All of text is one entity tag. */
bool etag_parse(struct slice text, struct etag *tag);

/* RFC 9110 section 8.8.3.2. */
bool etag_same_strong(const struct etag *a, const struct etag *b);
bool etag_same_weak(const struct etag *a, const struct etag *b);

enum etag_step {
	ETAG_FOUND, /* *tag is set, *rest moved on */
	ETAG_END,
	ETAG_BAD, /* not a list of entity tags */
};

/* The next of a list; a comma inside of the quotes belongs to the tag. */
enum etag_step etag_next(struct slice *rest, struct etag *tag);

#endif

/*
 * cache_status - values of the Cache-Status field (RFC 9211).
 *
 * Used by: worker.  Pure.
 */
#ifndef REELCACHE_HTTP_CACHE_STATUS_H
#define REELCACHE_HTTP_CACHE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cache_status_how {
	CACHE_STATUS_HIT,         /* all bytes came from the cache */
	CACHE_STATUS_FWD_MISS,    /* fwd=uri-miss: nothing was known of it */
	CACHE_STATUS_FWD_PARTIAL, /* fwd=partial: some bytes were missing */
	CACHE_STATUS_FWD_STALE,   /* fwd=stale: it had to be revalidated */
	CACHE_STATUS_FWD_BYPASS,  /* fwd=bypass: it may not be stored */
};

struct cache_status {
	enum cache_status_how how;
	int fwd_status; /* status of the origin's answer; 0 = not told */
	bool stored;    /* the forwarded answer is kept */
	bool collapsed; /* reads along with another request's fetch */
	bool has_ttl;
	int64_t ttl_s; /* remaining freshness; negative: stale since */
};

#define CACHE_STATUS_BYTES 128u /* longest value, NUL included */

/* "reelcache; hit; ttl=30".  fwd-status, stored and collapsed are left out
 * of a hit.  Returns the length; a NUL follows. */
size_t cache_status_format(char dst[CACHE_STATUS_BYTES],
			   const struct cache_status *cs);

/* "hit", "uri-miss", "partial" ...: the word alone, for the access log. */
const char *cache_status_word(enum cache_status_how how);

#endif

/*
 * cache_control - how long a response may be kept and is fresh (RFC 9111).
 *
 * Used by: prefetcher.  Pure; the times are given.  reelcache is a shared
 * cache.  Times are seconds; wall clock where the name ends in _s and is a
 * moment.
 */
#ifndef REELCACHE_HTTP_CACHE_CONTROL_H
#define REELCACHE_HTTP_CACHE_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "http/slice.h"

#define CACHE_CONTROL_NOT_GIVEN (-1)
#define CACHE_CONTROL_MAX_S     INT64_C(2147483648) /* RFC 9111 section 1.2.2 */

/* Directives of a response.  Seconds, or CACHE_CONTROL_NOT_GIVEN. */
struct cache_control {
	int64_t max_age_s;
	int64_t s_maxage_s;
	int64_t stale_if_error_s;
	int64_t stale_while_revalidate_s;
	bool no_store;
	bool no_cache;   /* with or without field names */
	bool is_private; /* with or without field names */
	bool is_public;
	bool must_revalidate; /* proxy-revalidate and s-maxage count too */
	bool immutable;
};

void cache_control_clear(struct cache_control *cc);

/*
 * Adds the directives of one field line (or of lines joined by commas).
 * Conflicts go the careful way (RFC 9111 section 4.2.1): of two different
 * lifetimes the shorter, an unreadable one is 0.  Unknown directives are
 * passed over.
 */
void cache_control_parse(struct cache_control *cc, struct slice value);

/* Values of the response's fields, absent or empty when not given. */
struct freshness_input {
	struct slice cache_control;
	struct slice expires;
	struct slice age;
	struct slice date;
	struct slice last_modified;
	int64_t request_s;  /* wall clock when the request was sent */
	int64_t response_s; /* wall clock when the response's head came */
	int64_t default_s;  /* lifetime when the origin gives no hint at all */
};

struct freshness {
	int64_t fresh_until_s; /* wall clock; <= response_s: stale already */
	int64_t age_s;         /* corrected_initial_age, section 4.2.3 */
	int64_t date_s;        /* Date; response_s when missing or unreadable */
	int64_t lifetime_s;    /* freshness_lifetime, section 4.2.1 */
	int64_t stale_if_error_s; /* CACHE_CONTROL_NOT_GIVEN when not given */
	bool may_store;           /* neither no-store nor private */
	bool must_revalidate;     /* never serve it stale, not even on error */
	bool immutable;
	bool is_explicit; /* the lifetime was given, not guessed */
};

/* Without a lifetime given: a tenth of the time since Last-Modified, at most
 * a day (section 4.2.2); without Last-Modified default_s. */
void freshness_compute(const struct freshness_input *in, struct freshness *out);

#endif

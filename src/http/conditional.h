/*
 * conditional - preconditions of a GET or HEAD (RFC 9110 section 13).
 *
 * Used by: worker.  Pure.  A field that cannot be read is as if it were not
 * there, but an If-Match or If-Range that cannot be read does not match.
 */
#ifndef REELCACHE_HTTP_CONDITIONAL_H
#define REELCACHE_HTTP_CONDITIONAL_H

#include <stdbool.h>
#include <stdint.h>

#include "http/head.h"
#include "http/slice.h"

/* What is known of the object that exists; absent or empty = unknown. */
struct conditional_object {
	struct slice etag;          /* as the origin sent it */
	struct slice last_modified; /* the same */
	int64_t date_s; /* origin's Date, for strength of the date */
	int64_t now_s;  /* wall clock, for two-digit years only */
};

enum conditional_verdict {
	CONDITIONAL_SEND,         /* 200 or 206 */
	CONDITIONAL_NOT_MODIFIED, /* 304 */
	CONDITIONAL_FAILED,       /* 412 */
};

/* Steps 1 to 4 of section 13.2.2: If-Match or If-Unmodified-Since, then
 * If-None-Match or If-Modified-Since.  The method is GET or HEAD. */
enum conditional_verdict conditional_check(const struct head *h,
					   const struct conditional_object *o);

/*
 * Step 5, after CONDITIONAL_SEND: does Range count?  True without If-Range.
 * An entity tag matches strongly; a date matches when it is exactly the
 * Last-Modified, and that is at least a second before the origin's Date.
 */
bool conditional_range_counts(const struct head *h,
			      const struct conditional_object *o);

#endif

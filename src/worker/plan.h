/*
 * plan - what a request for an object gets: status, ranges, head fields.
 *
 * Used by: worker.  Pure: request and record in, decision out.
 */
#ifndef REELCACHE_WORKER_PLAN_H
#define REELCACHE_WORKER_PLAN_H

#include <stdint.h>

#include "http/cache_status.h"
#include "http/fields.h"
#include "http/head.h"
#include "http/range.h"
#include "http/sink.h"
#include "store/layout.h"
#include "util/span.h"

#define PLAN_RANGES_MAX 256u /* what [http] max_ranges may be */

struct plan {
	int status; /* 200 206 304; 412 416: answer_problem() says it */
	enum sink_body body;
	uint64_t body_bytes; /* SIZE_UNKNOWN: the end will show */
	struct span span;    /* of the object, first to be sent; may be empty */
	size_t parts;        /* > 0: multipart/byteranges of spans[] */
	char boundary[24];
	struct span spans[PLAN_RANGES_MAX];
};

/* ranges_max: [http] max_ranges.  nonce: differs between responses. */
void plan_make(struct plan *plan, const struct head *head,
	       const struct object_record *rec, uint32_t ranges_max,
	       int64_t wall_s, uint64_t nonce);

/* Fields from record and plan: all but Date, framing and Cache-Status. */
void plan_fields(const struct plan *plan, const struct object_record *rec,
		 int64_t wall_s, struct fields *f);

/* What to ask for while nothing is known of the object. */
void plan_first_want(const struct head *head, uint32_t ranges_max,
		     struct range_spec *spec);

#endif

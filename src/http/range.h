/*
 * range - byte ranges (RFC 9110 section 14): Range, Content-Range, multipart.
 *
 * Used by: worker.  Pure.  Numbers too large for 64 bits are compared as if
 * they were not: they lie beyond the end of any object.
 */
#ifndef REELCACHE_HTTP_RANGE_H
#define REELCACHE_HTTP_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "http/slice.h"
#include "util/base.h"
#include "util/span.h"

enum range_kind {
	RANGE_NONE,          /* no Range field */
	RANGE_IGNORE,        /* another unit, garbage, too many: 200 */
	RANGE_ONE,           /* 206 with spans[0] */
	RANGE_MANY,          /* 206 multipart/byteranges with spans[0..count) */
	RANGE_UNSATISFIABLE, /* 416 */
};

/*
 * header: value of Range, absent = RANGE_NONE.  size: of the object, known
 * (with SIZE_UNKNOWN the answer is RANGE_IGNORE).  max: ranges in one field,
 * counted before joining; spans has room for as many.
 * Ranges that overlap or touch are joined into the one named first; ranges
 * beyond the end are dropped; none left = RANGE_UNSATISFIABLE.  An empty
 * object: a suffix range is ignored (there is no byte to name in a
 * Content-Range), others are unsatisfiable.
 */
enum range_kind range_parse(struct slice header, uint64_t size, size_t max,
			    struct span *spans, size_t *count);

struct range_spec {
	struct span span;      /* to may be SIZE_UNKNOWN: open end */
	uint64_t suffix_bytes; /* > 0: the last bytes; span is then unused */
};

/*
 * What to ask for while the object's size is not known: the first range that
 * can have bytes; all numbers but SIZE_UNKNOWN have 63 bits.  False: no Range
 * or one that is ignored: all of it.  When no range can have bytes ("-0", or
 * one beyond 63 bits) the answer is byte 0, so that a head comes;
 * range_parse() then says RANGE_UNSATISFIABLE.
 */
bool range_first_spec(struct slice header, size_t max, struct range_spec *spec);

/* Longest text of the two below, NUL included. */
#define RANGE_TEXT_BYTES 72u

/* "bytes 0-99/1000", or ".../" "*" with SIZE_UNKNOWN; span is not empty.
 * Returns its length; a NUL follows. */
size_t range_format_content(char dst[RANGE_TEXT_BYTES], struct span span,
			    uint64_t size);

/* The form of a 416: "bytes " "*" "/1000". */
size_t range_format_unsatisfied(char dst[RANGE_TEXT_BYTES], uint64_t size);

/* A boundary is 1 to 70 of [A-Za-z0-9'_-], chosen by the caller. */
#define RANGE_BOUNDARY_MAX 70u

/*
 * What comes before a part's bytes: CRLF, the delimiter, Content-Type (left
 * out when absent or empty), Content-Range, an empty line.  The length that
 * was written, or -ENOSPC (dst then holds nothing of use).
 */
int range_part_head(char *dst, size_t dst_bytes, struct slice boundary,
		    struct slice content_type, struct span span,
		    uint64_t size) MUSTCHECK;

/* What comes after the last part's bytes.  As above. */
int range_part_tail(char *dst, size_t dst_bytes,
		    struct slice boundary) MUSTCHECK;

/* Content-Length of the whole multipart body.  -EOVERFLOW beyond 63 bits. */
int range_multipart_bytes(struct slice boundary, struct slice content_type,
			  const struct span *spans, size_t count, uint64_t size,
			  uint64_t *total) MUSTCHECK;

#endif

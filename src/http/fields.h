/*
 * fields - builds a response head in a bounded buffer.
 *
 * Used by: worker.  Pure.  The first error sticks and fields_end() tells it;
 * calls after it do nothing.
 *
 *	fields_init(&f, dst, sizeof(dst));
 *	fields_status(&f, 206);
 *	FIELDS_LITERAL(&f, "Accept-Ranges: bytes\r\n");
 *	FIELDS_ADD(&f, "ETag", etag);
 *	FIELDS_ADD_U64(&f, "Content-Length", span_len(span));
 *	rc = fields_end(&f, &bytes);
 */
#ifndef REELCACHE_HTTP_FIELDS_H
#define REELCACHE_HTTP_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include "http/slice.h"
#include "util/base.h"

struct fields {
	char *dst;
	char *at;
	char *end;
	int error; /* 0, -ENOSPC or -EINVAL */
};

static inline void fields_init(struct fields *f, char *dst, size_t dst_bytes)
{
	f->dst = dst;
	f->at = dst;
	f->end = dst + dst_bytes;
	f->error = 0;
}

/* "HTTP/1.1 206 Partial Content" and CRLF. */
void fields_status(struct fields *f, int status);

/* Our own bytes, unchecked: whole lines with their CRLF, or parts of lines. */
void fields_raw(struct fields *f, const char *bytes, size_t count);

#define FIELDS_LITERAL(f, literal)                                             \
	fields_raw((f), ("" literal), sizeof(literal) - 1)

/* Digits, without a line around them. */
void fields_u64(struct fields *f, uint64_t value);

/*
 * A value from outside, without a line around it.  -EINVAL sticks when it has
 * CR, LF, NUL or another control character but tab.
 */
void fields_value(struct fields *f, struct slice value);

/* One line.  prefix: "Name: ".  Nothing is added for an absent or empty
 * value. */
void fields_add(struct fields *f, struct slice prefix, struct slice value);
void fields_add_u64(struct fields *f, struct slice prefix, uint64_t value);

#define FIELDS_ADD(f, name, value) fields_add((f), SLICE(name ": "), (value))
#define FIELDS_ADD_U64(f, name, value)                                         \
	fields_add_u64((f), SLICE(name ": "), (value))

/* The empty line, then 0 and the length of the head; or the first error. */
int fields_end(struct fields *f, size_t *bytes) MUSTCHECK;

/* Digits of value to dst (at least 20 bytes); their number.  No NUL. */
size_t fields_format_u64(char *dst, uint64_t value);

#endif

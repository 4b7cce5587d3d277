/*
 * slice - text as pointer and length, not NUL-terminated.
 *
 * Used by: worker, prefetcher.  Pure; owns nothing, fails never.
 * A slice whose `at` is NULL is absent; one with bytes == 0 is empty.
 * No function here depends on the locale.
 */
#ifndef REELCACHE_HTTP_SLICE_H
#define REELCACHE_HTTP_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "util/base.h"

struct slice {
	const char *at;
	size_t bytes;
};

/* A slice of a string literal. */
#define SLICE(literal)                                                         \
	((struct slice){ .at = ("" literal), .bytes = sizeof(literal) - 1 })

#define SLICE_ABSENT ((struct slice){ .at = NULL, .bytes = 0 })

static inline struct slice slice_of(const char *text)
{
	return (struct slice){ .at = text,
			       .bytes = text == NULL ? 0 : strlen(text) };
}

static inline struct slice slice_make(const char *at, size_t bytes)
{
	return (struct slice){ .at = at, .bytes = bytes };
}

static inline bool slice_present(struct slice s)
{
	return s.at != NULL;
}

static inline bool slice_same(struct slice a, struct slice b)
{
	return a.bytes == b.bytes &&
	       (a.bytes == 0 || memcmp(a.at, b.at, a.bytes) == 0);
}

static inline bool slice_is(struct slice s, const char *text)
{
	return slice_same(s, slice_of(text));
}

/* ASCII letters compare without case. */
bool slice_same_nocase(struct slice a, struct slice b);

static inline bool slice_is_nocase(struct slice s, const char *text)
{
	return slice_same_nocase(s, slice_of(text));
}

static inline bool slice_starts(struct slice s, struct slice with)
{
	return s.bytes >= with.bytes && with.at != NULL &&
	       memcmp(s.at, with.at, with.bytes) == 0;
}

/* Without leading and trailing spaces and tabs (OWS). */
struct slice slice_trim(struct slice s);

/* Without the first n bytes; n <= s.bytes. */
static inline struct slice slice_skip(struct slice s, size_t n)
{
	return slice_make(s.at + n, s.bytes - n);
}

/* How many bytes of a token s begins with (RFC 9110 section 5.6.2). */
size_t slice_token_bytes(struct slice s);

/* All of s is digits, at least one.  Larger than UINT64_MAX: true, and *value
 * is UINT64_MAX. */
bool slice_to_u64(struct slice s, uint64_t *value);

/*
 * The next element of a comma-separated list (RFC 9110 section 5.6.1),
 * trimmed; commas inside quoted-strings do not part; empty elements are
 * passed over.  *rest begins as the whole value and is moved on.  False at
 * the end.
 */
bool slice_next_element(struct slice *rest, struct slice *element);

/* Does a list of tokens have this one (without case)? */
bool slice_list_has(struct slice list, const char *token);

/* Copies with a NUL; -ENOSPC (dst is then "") when it does not fit, NUL
 * included. */
int slice_copy(struct slice s, char *dst, size_t dst_bytes) MUSTCHECK;

#endif

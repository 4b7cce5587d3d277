/*
 * problem - bodies of error responses: application/problem+json (RFC 9457).
 *
 * Used by: worker, prefetcher.  Pure.
 */
#ifndef REELCACHE_HTTP_PROBLEM_H
#define REELCACHE_HTTP_PROBLEM_H

#include <stddef.h>

#include "util/base.h"

#define PROBLEM_CONTENT_TYPE "application/problem+json"

/* Enough for a detail of 256 bytes, whatever they are. */
#define PROBLEM_BYTES_MAX 2048u

/*
 * {"type":"about:blank","title":...,"status":...,"detail":...} and a newline;
 * no detail when it is NULL or "".  Returns the length, or -ENOSPC: the body
 * is never cut.  No NUL is added.
 */
int problem_format(char *dst, size_t dst_bytes, int status,
		   const char *detail) MUSTCHECK;

#endif

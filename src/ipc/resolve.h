/*
 * resolve - messages to the resolver, and its answers.
 *
 * Workers and the prefetcher ask the resolver to resolve "source/id"; it
 * answers every ask with exactly one reply, or dies (then the asker asks
 * again by timer: asks are idempotent, and collapsed in the resolver).  What
 * was found is not in the reply but in the table of resolutions
 * (store/resolution.h), committed before the reply is sent.
 */
#ifndef REELCACHE_IPC_RESOLVE_H
#define REELCACHE_IPC_RESOLVE_H

#include <stdint.h>

#include "store/layout.h"

#define RESOLVE_RETRY_MS   2000u
#define RESOLVE_PREFETCHER UINT32_MAX /* as slot: the prefetcher asks */

enum resolve_type {
	RESOLVE_TYPE = 32, /* struct resolve, to the resolver */
	RESOLVED_TYPE,     /* struct resolved, back */
};

/* The resolution that is known is of no use any more: its URLs fail, or the
 * caller has just seen it expire.  One that was made after known_us counts as
 * an answer. */
#define RESOLVE_AGAIN 1u

struct resolve {
	uint32_t type;      /* RESOLVE_TYPE */
	uint32_t slot;      /* worker that asks, or RESOLVE_PREFETCHER */
	uint64_t token;     /* given back in the reply; the asker's choice */
	int64_t known_us;   /* RESOLVE_AGAIN: resolved_us of the bad one */
	uint32_t flags;     /* RESOLVE_... */
	uint32_t key_bytes; /* at most LAYOUT_KEY_BYTES */
	char key[LAYOUT_KEY_BYTES]; /* "source/id", not NUL-terminated */
};

struct resolved {
	uint32_t type;        /* RESOLVED_TYPE */
	uint32_t http_status; /* 200: it is in the table; else 404, 502, 503,
				 504 */
	uint64_t token;
	uint32_t retry_after_s; /* 0 = not told */
	uint32_t unused;
	char reason[128]; /* for problem+json; no secrets; NUL-terminated */
};

#endif

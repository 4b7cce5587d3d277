/*
 * ask - messages between workers and the prefetcher.
 *
 * A worker that misses asks; the prefetcher answers every ask with exactly
 * one reply, or dies (then prefetcher_lives in the segment grows, all bells
 * ring, and workers ask again).  A worker also asks again by timer
 * (ASK_RETRY_MS): asks are idempotent.
 *
 * What the prefetcher knows of a reader after that comes from the worker's
 * row in segment.workers[slot].readers: object, position and end.  A run goes
 * on while a row wants bytes ahead of it.  So a reader's row is opened BEFORE
 * it asks whenever the object is known, and kept until its response ends.
 */
#ifndef REELCACHE_IPC_ASK_H
#define REELCACHE_IPC_ASK_H

#include <stdint.h>

#include "store/layout.h"

#define ASK_RETRY_MS 2000u

enum ask_type {
	ASK_TYPE = 16, /* struct ask, worker to prefetcher */
	REPLY_TYPE,    /* struct reply, prefetcher to worker */
};

enum ask_kind {
	ASK_FROM,   /* bytes from want_from on (to want_to, or SIZE_UNKNOWN) */
	ASK_SUFFIX, /* the last want_from bytes: only while the size is unknown
		     */
};

#define ASK_VERIFY     1u /* store_lookup() said STORE_SUSPECT at want_from */
#define ASK_CONFIRMED 2u /* of a response that has had a reply: for it the
			  * object counts as fresh */

struct ask {
	uint32_t type;      /* ASK_TYPE */
	uint32_t kind;      /* enum ask_kind */
	uint32_t flags;     /* ASK_... */
	uint32_t slot;      /* worker that asks */
	uint64_t token;     /* given back in the reply; the worker's choice */
	uint64_t object_no; /* 0 = unknown to the worker */
	uint32_t
		generation; /* the response has begun with this one; 0 = none */
	uint32_t key_bytes;
	uint64_t want_from;
	uint64_t want_to;
	char key[LAYOUT_KEY_BYTES]; /* "source/id", not NUL-terminated */
};

enum reply_status {
	REPLY_LOOK, /* look up again: the bytes are there or a run has them */
	REPLY_WAIT, /* run_row will reach want_from; wait for it to grow */
	REPLY_FAIL, /* http_status and reason; nothing more will come */
	REPLY_GONE, /* the asked generation cannot be completed any more:
		     * break off, or, if no byte was sent, begin anew */
};

/* With LOOK and WAIT the object's record follows: its head is known. */
struct reply {
	uint32_t type;   /* REPLY_TYPE */
	uint32_t status; /* enum reply_status */
	uint64_t token;
	uint32_t run_row;     /* REPLY_WAIT */
	uint32_t http_status; /* REPLY_FAIL: 4xx/5xx for the client */
	uint64_t run_no;      /* REPLY_WAIT */
	uint32_t started; /* 1: this very ask started the run (else: joined) */
	uint32_t stale;   /* 1: the origin failed, serve the stale record */
	uint32_t retry_after_s; /* REPLY_FAIL: 0 = none */
	uint32_t known;   /* REPLY_FAIL: 1 = the object was good before: break
			   * off instead of a 5xx */
	char reason[128]; /* REPLY_FAIL: for problem+json, no secrets */
	uint32_t record_bytes; /* 0 = none */
	uint32_t unused;
	struct object_record record;
};

#endif

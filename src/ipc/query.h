/*
 * query - what workers ask the prefetcher on behalf of API requests:
 * /prefetch, /cache, /map.  The answer is JSON in several messages.
 *
 * A query is idempotent and repeated by timer (QUERY_RETRY_MS) with another
 * token; pieces of an answer to an older token are dropped.  A full inbox
 * loses pieces: the worker then asks again.
 */
#ifndef REELCACHE_IPC_QUERY_H
#define REELCACHE_IPC_QUERY_H

#include <stdint.h>

#include "store/layout.h"

#define QUERY_RETRY_MS    500u
#define QUERY_PIECE_BYTES 3072u
#define QUERY_BYTES_MAX   (192u * 1024u) /* of a whole answer */
#define QUERY_NOT_GIVEN   UINT64_MAX

enum query_type {
	QUERY_TYPE = 48, /* struct query, worker to prefetcher */
	ANSWER_TYPE,     /* struct query_answer, back */
};

enum query_kind {
	QUERY_PREFETCH, /* begin a job, or find the one that is the same */
	QUERY_PROGRESS, /* of the jobs of the id (all qualities) */
	QUERY_CANCEL,   /* the same jobs */
	QUERY_CACHE,    /* spans that are resident, arriving, missing */
	QUERY_MAP,      /* time <-> byte */
};

struct query {
	uint32_t type; /* QUERY_TYPE */
	uint32_t kind; /* enum query_kind */
	uint32_t slot; /* worker that asks */
	uint32_t key_bytes;
	uint64_t token;       /* given back */
	uint64_t start_ms;    /* PREFETCH: playing time; QUERY_NOT_GIVEN */
	uint64_t seconds_ms;  /* PREFETCH: playing time; QUERY_NOT_GIVEN */
	uint64_t bytes;       /* PREFETCH: at most so many; QUERY_NOT_GIVEN */
	uint64_t deadline_ms; /* PREFETCH: from now; QUERY_NOT_GIVEN */
	/* PREFETCH, CACHE, MAP: the object's key; PROGRESS, CANCEL: the
	 * same, or only "source/id" for all its renditions.  No NUL. */
	char key[LAYOUT_KEY_BYTES];
};

struct query_answer {
	uint32_t type;        /* ANSWER_TYPE */
	uint32_t http_status; /* 200, 202 with JSON; 4xx, 5xx with reason */
	uint64_t token;
	uint32_t total_bytes; /* of the whole answer, <= QUERY_BYTES_MAX */
	uint32_t piece_off;   /* of this piece in it */
	uint32_t piece_bytes; /* <= QUERY_PIECE_BYTES */
	uint32_t retry_after_s;
	char piece[QUERY_PIECE_BYTES]; /* an error: its reason, no JSON */
};

#endif

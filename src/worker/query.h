/*
 * query - /prefetch, /cache and /map: asked of the prefetcher, answered as
 * JSON (docs/protocol.md).
 *
 * Used by: worker.  Nothing blocks.  A query is repeated every QUERY_RETRY_MS
 * until its answer is whole, and given up after QUERY_WAIT_MS: the prefetcher
 * may die, and pieces may be lost.
 */
#ifndef REELCACHE_WORKER_QUERY_H
#define REELCACHE_WORKER_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/head.h"
#include "http/sink.h"
#include "http/slice.h"
#include "ipc/query.h"
#include "util/base.h"
#include "worker/desk.h"

#define QUERY_WAITING_MAX 4096u /* at a time, per worker */
#define QUERY_WAIT_MS     10000u

/* desk->conf, ipc, slot and host must be set.  0 or -ENOMEM. */
int query_init(struct desk *desk) MUSTCHECK;
/* No query may wait any more. */
void query_fini(struct desk *desk);

/* path: what follows the route's prefix: the id, still encoded. */
void query_serve_prefetch(struct desk *desk, struct sink *sink,
			  const struct head *head, struct slice path);
void query_serve_cache(struct desk *desk, struct sink *sink,
		       const struct head *head, struct slice path);
void query_serve_map(struct desk *desk, struct sink *sink,
		     const struct head *head, struct slice path);

/* A message of ANSWER_TYPE has come; checked here. */
void query_answered(struct desk *desk, const void *message, size_t bytes);

/* Call about every 100 ms. */
void query_tick(struct desk *desk);

/* Decimal seconds with up to three digits behind the point, at most seven
 * days, as milliseconds. */
bool query_parse_seconds(struct slice text, uint64_t *ms);

#endif

/*
 * resolving - what this worker has asked the resolver.
 *
 * Used by: worker.  Nothing blocks.  An ask is repeated every
 * RESOLVE_RETRY_MS until it is answered or given up, so a resolver may die at
 * any time: its successor answers.
 */
#ifndef REELCACHE_WORKER_RESOLVING_H
#define REELCACHE_WORKER_RESOLVING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ipc/resolve.h"
#include "util/base.h"
#include "worker/desk.h"

#define RESOLVING_ASKS_MAX 4096u /* that wait at a time */
#define RESOLVING_GRACE_MS 5000u /* beyond [resolver] timeout */

/* One ask, in its owner's storage, which stays where it is. */
struct resolving_ask {
	TAILQ_ENTRY(resolving_ask) link;
	/* Called once, from the event loop; the ask is the owner's again.
	 * The reason in the answer is NUL-terminated. */
	void (*done)(struct resolving_ask *ask, const struct resolved *answer);
	uint64_t again_ms;
	uint64_t deadline_ms;
	struct resolve message;
};

/* desk->conf, ipc, slot and host must be set.  0 or -ENOMEM. */
int resolving_init(struct desk *desk) MUSTCHECK;
/* No ask may wait any more. */
void resolving_fini(struct desk *desk);

/* key: "source/id".  flags, known_us: as in struct resolve.  ask->done is
 * set.  -EBUSY: too many wait. */
int resolving_begin(struct desk *desk, struct resolving_ask *ask,
		    const char *key, size_t key_bytes, uint32_t flags,
		    int64_t known_us) MUSTCHECK;
/* Before done() was called, instead of it. */
void resolving_abort(struct desk *desk, struct resolving_ask *ask);

/* The record of this time will expire soon: asks for a new one, without
 * waiting, and not more often than is of use. */
void resolving_refresh(struct desk *desk, const char *key, size_t key_bytes,
		       int64_t known_us);

/* A message of RESOLVED_TYPE has come; checked here. */
void resolving_reply(struct desk *desk, const void *message, size_t bytes);

/* Call about every 100 ms. */
void resolving_tick(struct desk *desk);

#endif

/*
 * eviction - which chunk goes next: S3-FIFO, with starts worth more.
 *
 * Used by: prefetcher.  Pure: no clock, no segment, no files; what is known
 * of a node's use comes from the caller, when it is asked.  Nothing blocks.
 *
 *   new, plain --> small --- used meanwhile --> main <-- new, START, or known
 *                    |                          ^ |      to the ghost
 *         not used   |       frequency > 0: -1  '-'
 *                    v                            | frequency 0
 *          gone, named in the ghost              gone
 *
 * The small queue holds a tenth of the bytes: what is read once, like a film
 * that somebody copies, goes through it and pushes nothing else out.  The
 * ghost remembers what went there, for as many bytes as the main queue has;
 * who comes back from it goes straight to main.  The first bytes and the index
 * of a video are starts: they skip the small queue and lose their frequency
 * more slowly, but do lose it.
 */
#ifndef REELCACHE_STORE_EVICTION_H
#define REELCACHE_STORE_EVICTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "util/base.h"

enum eviction_weight {
	EVICTION_PLAIN,
	EVICTION_START,
};

/* What the caller knows of a node. */
enum eviction_answer {
	EVICTION_UNUSED, /* not since it was last asked; it may go */
	EVICTION_USED,   /* since it was last asked; it may go */
	EVICTION_SPARED, /* must stay; this is not counted as use */
};

/* In the caller's struct; only identity and bytes are the caller's to read. */
struct eviction_node {
	TAILQ_ENTRY(eviction_node) link;
	uint64_t identity; /* of what it holds: the same when fetched again */
	uint64_t bytes;
	uint8_t queue; /* 0: in none */
	uint8_t weight;
	uint8_t frequency;
	uint8_t visits; /* since it last lost frequency */
};

struct eviction_queue {
	TAILQ_HEAD(, eviction_node) nodes; /* next one to be asked first */
	size_t count;
	uint64_t bytes;
};

struct eviction_ghost;

struct eviction {
	struct eviction_queue small;
	struct eviction_queue main;
	uint64_t small_most;  /* bytes */
	uint64_t ghost_bytes; /* how far back the ghost remembers */
	uint64_t gone_bytes;  /* through the small queue, ever */
	struct eviction_ghost *ghosts;
	size_t ghost_sets; /* a power of two */
};

/* size_bytes: of the cache.  ghosts: most names remembered, rounded to what
 * is sensible.  0 or -ENOMEM. */
int eviction_init(struct eviction *ev, uint64_t size_bytes,
		  uint64_t ghosts) MUSTCHECK;

/* The nodes are the caller's; those still in a queue are forgotten. */
void eviction_fini(struct eviction *ev);

/* identity: a hash that is well mixed already. */
void eviction_add(struct eviction *ev, struct eviction_node *node,
		  uint64_t identity, uint64_t bytes,
		  enum eviction_weight weight);

/* The same for one that was here before this process began. */
void eviction_add_known(struct eviction *ev, struct eviction_node *node,
			uint64_t identity, uint64_t bytes,
			enum eviction_weight weight);

/* For one that turns out to be a start.  It never becomes plain again. */
void eviction_mark_start(struct eviction *ev, struct eviction_node *node);

/* Out of its queue, whatever the reason.  One in no queue stays as it is. */
void eviction_remove(struct eviction *ev, struct eviction_node *node);

/*
 * The next victim, still in its queue: the caller drops it and calls
 * eviction_remove().  NULL: every node is spared.  Calls ask() at most twice
 * as often as there are nodes; ask() must not add or remove any.
 */
struct eviction_node *eviction_next(
	struct eviction *ev,
	enum eviction_answer (*ask)(void *ctx, struct eviction_node *node),
	void *ctx);

#endif

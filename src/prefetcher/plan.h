/*
 * plan - what is fetched, and what each ask is answered.
 *
 * Used by: prefetcher.  One title per object that is asked for: its runs, and
 * the asks that cannot be answered yet.  Nothing here blocks.
 */
#ifndef REELCACHE_PREFETCHER_PLAN_H
#define REELCACHE_PREFETCHER_PLAN_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conf/conf.h"
#include "ipc/ask.h"
#include "ipc/inbox.h"
#include "media/media.h"
#include "prefetcher/jobs.h"
#include "prefetcher/locator.h"
#include "prefetcher/origins.h"
#include "prefetcher/playheads.h"
#include "prefetcher/run.h"
#include "shm/segment.h"
#include "store/catalog.h"
#include "upstream/transfer.h"

#define PLAN_WAITERS_MAX 65536u
#define PLAN_TITLES_MAX  65536u /* of objects that are not stored */

struct plan_opts {
	const struct conf *conf;
	struct segment *seg;
	const struct inboxes *ipc;
	struct segment_stats *stats;
	struct event_base *base;
};

/* An ask that cannot be answered yet. */
struct waiter {
	TAILQ_ENTRY(waiter) link;
	uint64_t confirmations; /* of the title, when it first asked */
	uint64_t first_ms;      /* when it first asked */
	uint64_t seen_ms; /* last asked: workers ask again while they wait */
	bool started;     /* this ask started a run */
	struct ask ask;
};

/* What the plan knows of an object, beside its record. */
struct title {
	TAILQ_ENTRY(title) link;
	struct plan *plan;
	struct object *obj;
	const struct conf_source *source;
	struct run_list runs;
	TAILQ_HEAD(, waiter) waiters;
	/* the last failure: asks are answered with it until then */
	uint64_t fail_until_ms;
	uint32_t fail_status;
	uint32_t fail_retry_after_s;
	char fail_reason[128];
	uint64_t confirmations; /* how often the origin spoke of it */
	uint64_t used_ms;
	int64_t resolved_us; /* of the URL whose bytes are stored */
	uint64_t starved_ms; /* when somebody last waited for a run's bytes
			      * while they came */
	struct media *media; /* NULL until the size is known */
	uint32_t media_generation;
	bool media_told;
	uint64_t map_wanted_ms; /* GET /map asked for it; 0 = never */
	uint8_t denials; /* of ranges within the size, one after the other */
	bool dirty;             /* its waiters are to be looked at again */
	bool gone; /* the origin has it no more: drop what is stored */
};

struct schedule;

struct plan {
	struct plan_opts opts;
	struct locator *locator;
	struct origins *origins;
	struct playheads *playheads;
	struct jobs *jobs;
	struct schedule *schedule;
	struct catalog *cat;
	struct upstream *upstream;
	TAILQ_HEAD(, title) titles; /* those in use */
	uint64_t now_ms;
	uint64_t swept_ms;
	uint64_t
		lead_bytes; /* [cache] lead, but no more than the cache bears */
	uint32_t runs;
	uint32_t waiters;
	uint32_t title_count;
	struct event *look; /* runs plan_look() soon */
};

int plan_open(struct plan **out, const struct plan_opts *opts) MUSTCHECK;

/* Ends all runs; what came is committed. */
void plan_close(struct plan *plan);

/* One message from a worker: checked here. */
void plan_ask(struct plan *plan, const void *message, size_t bytes);

/* Every 20 ms while there are runs, else every 500 ms. */
void plan_tick(struct plan *plan);

/* Objects of every source with this id ("source/id": only that one; NULL:
 * all): runs are cancelled, chunks and records dropped. */
struct plan_purged {
	uint64_t objects, chunks, bytes, runs;
};
void plan_purge(struct plan *plan, const char *key, const char *id,
		struct plan_purged *out);

/* ---- for run.c ---- */

/* Counts the readers of all runs of a title; max_age_ms as for readers. */
void plan_count_readers(struct title *t, uint64_t max_age_ms);

/* Something changed: waiters of the title are looked at again, in the next
 * turn of the loop. */
void plan_changed(struct title *t);

/* Asks are answered with this for a while. */
void plan_failed(struct title *t, uint32_t status, uint64_t for_ms,
		 uint32_t retry_after_s, const char *reason);

/* The origin has just said what the object is: a failure is forgotten. */
void plan_confirmed(struct title *t);

/* Decides about its waiters at once.  Not from inside of a transfer's
 * callback. */
void plan_look_again(struct title *t);

/* The title of an object whose source is still configured, made when there is
 * none; else NULL. */
struct title *plan_title(struct plan *plan, struct object *obj);

/* The title of a key, the object made when it is new; NULL as above. */
struct title *plan_title_of_key(struct plan *plan, const char *key,
				size_t key_bytes);

/* Asks are answered with a failure at this moment. */
bool plan_failing(const struct title *t);

/* First byte from off on that is in no file. */
uint64_t plan_first_missing(const struct title *t, uint64_t off);

/* Copies up to n bytes of the object from off on, from wherever they are
 * stored or have just arrived.  How many; 0: not there. */
size_t plan_read(struct title *t, uint64_t off, void *buffer, size_t n);

/* How many bytes from off on are to be kept filled for who plays there. */
uint64_t plan_window(const struct title *t, uint64_t off);

/* Where its bytes come from; NULL: not known before it is resolved. */
struct origin *plan_origin(struct title *t);

/* What was learned of origins goes to the index; now_ms as in origins.h. */
void plan_save_origins(struct plan *plan, uint64_t now_ms);

/* Wall clock, seconds. */
int64_t plan_wall_s(void);

#endif

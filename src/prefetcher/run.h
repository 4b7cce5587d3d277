/*
 * run - one transfer from an origin, through breaks and retries.
 *
 * Used by: prefetcher.
 *
 *            head                 all bytes, or reached present ones
 *   ASKED ---------> BODY ------------------------------------> ended
 *     ^  |            |  ^
 *     |  | broke      |  | broke: Range + If-Range from pos_off
 *     |  v            v  |
 *    RETRY <----------'--'     patience over --> ended, title failed
 *
 * Before ASKED there may be RUN_RESOLVE: the resolver is asked for the URL.
 * A run of many bytes may be several requests, one after the other, where the
 * origin does not like long or open ranges: it stays one run.
 *
 * A run may be paused: it is far enough ahead of its foremost reader, there
 * is no room until readers move on, or the schedule holds it: others need the
 * bandwidth more.
 *
 * A run is started for an ask, or by the schedule ahead of need; one of the
 * second kind is promoted in place when somebody comes to wait for it.
 */
#ifndef REELCACHE_PREFETCHER_RUN_H
#define REELCACHE_PREFETCHER_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/fill.h"
#include "upstream/transfer.h"

struct origin;
struct plan;
struct title;

enum run_state {
	RUN_RESOLVE,
	RUN_ASKED,
	RUN_BODY,
	RUN_RETRY,
};

struct run {
	TAILQ_ENTRY(run) link; /* in its title */
	struct title *title;
	struct transfer *transfer; /* NULL in RUN_RETRY */
	struct fill *fill;         /* NULL: nothing to be written right now */
	enum run_state state;
	uint64_t from_off;   /* first byte it was started for */
	uint64_t pos_off;    /* first byte not taken yet */
	uint64_t body_off;   /* first byte of the next body callback */
	uint64_t end_off;    /* where it stops; SIZE_UNKNOWN = open */
	uint64_t range_end;  /* of the request that runs; SIZE_UNKNOWN = open */
	uint64_t suffix;     /* the last n bytes, while the size is unknown */
	uint64_t limit_off;  /* pauses there until readers move on */
	uint64_t wanted_off; /* end of what readers have asked for so far */
	bool probe;          /* nothing was known of the object */
	bool revalidate;     /* asks whether the object is still the same */
	bool whole;          /* the origin sends all of it, from 0 */
	bool paused;
	bool no_room;    /* paused by the store, not by limit_off */
	bool hold;       /* the schedule wants it to stand still */
	bool held;       /* paused by that */
	bool ahead;      /* started by the schedule, before anybody waited */
	bool for_job;    /* of these: for POST /prefetch */
	bool between;    /* RUN_RETRY, but only between two of its requests */
	bool counted;    /* among its origin's transfers */
	bool was_paused; /* so the rate of this transfer tells nothing */
	bool resolved_again; /* since bytes came: its URL was replaced */
	bool proving; /* another validator: are the bytes before pos_off those
		       * that are stored? */
	uint64_t overlap_bytes; /* asked for once more, before pos_off */
	struct origin *origin;  /* while counted */
	struct object_record *candidate; /* proving: the answer's record */
	int64_t resolved_us;  /* of the URL in use; 0 = a template's */
	uint64_t transfer_ms; /* when this transfer was begun */
	uint64_t resolve_ms;  /* RUN_RESOLVE: since when */
	uint64_t deadline_ms; /* when its next byte is needed, as the
			       * schedule sees it; UINT64_MAX = never */
	uint64_t wanted_ms;   /* last time that the schedule wanted it */
	uint8_t resolves; /* resolutions that were asked for since bytes came */
	uint8_t anew;     /* times that it began anew */
	bool restart;     /* its transfer was stopped to begin anew */
	bool ended;       /* its transfer was stopped: nothing more to do */
	uint64_t started_ms;
	uint64_t asked_ms; /* last time that an ask was led here */
	uint64_t paused_ms;
	uint64_t body_ms;      /* first body byte of this transfer */
	uint64_t body_bytes;   /* of this transfer */
	uint64_t furthest_off; /* pos_off at the faults so far */
	uint64_t fault_ms;     /* first fault that got no further; 0 = none */
	uint64_t retry_ms;     /* RUN_RETRY: when */
	uint64_t delay_ms;     /* RUN_RETRY: how long the next wait is */
	/* readers, as the last look saw them */
	uint64_t readers;
	uint64_t readers_min_off;
	uint64_t readers_max_off;
	uint64_t readers_limit_off; /* what is to be kept filled for them */
	uint64_t abandoned_ms;      /* 0 = somebody needs it */
	uint64_t abandoned_off;
};
TAILQ_HEAD(run_list, run);

struct run_want {
	uint64_t from_off;
	uint64_t end_off; /* SIZE_UNKNOWN = open */
	uint64_t want_to; /* what is asked for ends here; SIZE_UNKNOWN */
	uint64_t suffix;  /* > 0: instead of from_off */
	bool probe;
	bool revalidate;
	bool ahead;           /* by the schedule */
	bool for_job;         /* of these: for POST /prefetch */
	bool urgent;          /* of these: somebody will wait for it soon */
	uint64_t deadline_ms; /* ahead: when its first byte is needed */
};

/* Starts a run of the title; it is in the title's list then.  -EAGAIN: too
 * many at a time, here or at its origin. */
int run_start(struct title *t, const struct run_want *want,
	      struct run **out) MUSTCHECK;

/* Ends it without a word to the origin's other transfers; frees it. */
void run_end(struct run *run);

/* Looks after pauses, retries and the end of a run that nobody needs; the
 * fields of readers are fresh.  May free it. */
void run_tick(struct run *run);

/* Somebody asks for bytes until want_to (SIZE_UNKNOWN), whose row was not
 * seen yet: the run may go on so far, but not for ever. */
void run_wanted(struct run *run, uint64_t off, uint64_t want_to);

/* RUN_RESOLVE: the resolver has answered, 200 or a fault.  May free it. */
void run_resolved(struct run *run, uint32_t status, uint32_t retry_after_s,
		  const char *reason);

/* An ask was led here a moment ago: its reader's row is not seen yet. */
bool run_is_asked(const struct run *run);

/* First byte that is in no file yet. */
uint64_t run_next_off(const struct run *run);

/* Milliseconds of waiting for which joining is better than a new request. */
bool run_will_reach(const struct run *run, uint64_t off);

#endif

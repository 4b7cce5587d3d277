/*
 * jobs - prefetches that were asked for by POST /prefetch.
 *
 * Used by: prefetcher.  Pure but for the segment, where jobs that are not
 * finished are kept for a successor; time is a parameter.  schedule.c does
 * the work, query.c tells of it.
 *
 *   WAITING <--> RUNNING --> DONE
 *      '------------'------> FAILED, CANCELLED
 */
#ifndef REELCACHE_PREFETCHER_JOBS_H
#define REELCACHE_PREFETCHER_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ipc/query.h"
#include "shm/segment.h"
#include "store/layout.h"
#include "util/base.h"
#include "util/span.h"

#define JOB_KEPT_MS     600000u /* how long a finished one is remembered */
#define JOB_DEADLINE_MS 60000u  /* of one that was given none */

enum job_state {
	JOB_WAITING, /* the origin, the budget or somebody's viewing hinders it
		      */
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
	JOB_CANCELLED,
};

struct job {
	TAILQ_ENTRY(job) link;
	uint64_t no;
	/* what was asked for; QUERY_NOT_GIVEN */
	uint64_t start_ms;
	uint64_t seconds_ms;
	uint64_t bytes;
	uint64_t deadline_ms; /* monotonic: its first byte is needed then */
	uint64_t asked_ms;
	uint64_t active_ms; /* when its origin last was well */
	uint64_t ended_ms;
	enum job_state state;
	bool confirmed;   /* the origin was asked whether it is still so */
	struct span span; /* once known: to > 0 */
	uint32_t fail_status;
	uint32_t row; /* in segment.jobs, + 1; 0 = none */
	char reason[128];
	char key[LAYOUT_KEY_BYTES + 1];
};

struct jobs;

/* most: remembered at a time.  Takes over what a predecessor left. */
int jobs_open(struct jobs **out, struct segment *seg, uint32_t most,
	      uint64_t now_ms) MUSTCHECK;
/* Jobs that are not finished stay in the segment. */
void jobs_close(struct jobs *js);

/* The job that a query of kind QUERY_PREFETCH, whose key is checked, asks
 * for: a new one, or one that is the same and not finished, whose deadline is
 * then the earlier one.  NULL: too many are not finished, or no memory. */
struct job *jobs_begin(struct jobs *js, const struct query *q, uint64_t now_ms);

/* In the order in which they were asked for. */
struct job *jobs_first(struct jobs *js);
struct job *jobs_next(struct job *job);

/* Is it of this object, or, when key is only "source/id", of one of its
 * renditions? */
bool job_matches(const struct job *job, const char *key, size_t key_bytes);

bool job_is_open(const struct job *job); /* WAITING or RUNNING */
void job_wait(struct job *job);
void job_run(struct job *job);
void job_end(struct jobs *js, struct job *job, enum job_state state,
	     uint32_t status, const char *reason, uint64_t now_ms);

/* Forgets those that were finished long ago. */
void jobs_sweep(struct jobs *js, uint64_t now_ms);

/* "waiting", ... */
const char *job_state_name(enum job_state state);

#endif

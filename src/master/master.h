/*
 * master - the process that outlives all others: it opens sockets, inboxes
 * and the segment once, starts children, replaces what dies, reloads and
 * stops.
 *
 * Used by: main.  Its loop waits for signals and for what children say;
 * it never reads a client's or an origin's byte.
 *
 * A start and a reload are the same walk: prefetcher and resolver of this
 * round, then its workers, then the workers of the round before are drained.
 *
 *                 ready             all ready
 *   PREFETCHER ----------> WORKERS -----------> STEADY
 *       ^                                         | HUP, file is good:
 *       '------- TERM to the prefetcher ----------'  a new round
 *   any of them -- TERM, INT, QUIT --> DRAIN -- no worker left --> LAST
 *   DRAIN, LAST -- the same again --> LAST, at once
 *   LAST -- nobody left --> GONE
 */
#ifndef REELCACHE_MASTER_MASTER_H
#define REELCACHE_MASTER_MASTER_H

#include "ipc/child.h"
#include "master/supervise.h"
#include "util/base.h"

struct conf;

struct master_opts {
	const char *conf_path; /* read again by a reload */
	struct conf *conf;     /* the master's from now on */
	child_main prefetcher;
	child_main resolver;
	child_main worker;
	const struct supervise_times *times; /* NULL = the default */
};

/* Runs until told to stop.  The exit status of the process: 0, 1, or 78 when
 * the configuration cannot work.  Faults are logged. */
int master_run(const struct master_opts *opts) MUSTCHECK;

#endif

/*
 * jobs - resolutions under way: one per id, whoever asks.
 *
 * Used by: resolver.  Nothing blocks, but for the table's commit and, for a
 * source of type directory, the reading of its folder.
 *
 *   ask --> known and not expired -----------------------> answered
 *    |  \-> failed a moment ago --------------------------> answered
 *    |  \-> directory, template --> found --> committed --> all who ask
 *    v                                 ^                    are answered
 *   WAITING -- a place is free --> RUNNING -- its end --'
 *      '------------ too late, too many ------------------> answered
 */
#ifndef REELCACHE_RESOLVER_JOBS_H
#define REELCACHE_RESOLVER_JOBS_H

#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "ipc/inbox.h"
#include "ipc/resolve.h"
#include "util/base.h"

#define ASKERS_MAX   65536u /* that wait, in all */
#define JOBS_MAX     4096u
#define FAILURES_MAX 4096u /* remembered */

struct resolver_jobs;

struct resolver_jobs_opts {
	const struct conf *conf;
	const struct inboxes *ipc;
	struct event_base *base;
};

int resolver_jobs_open(struct resolver_jobs **out,
		       const struct resolver_jobs_opts *opts) MUSTCHECK;
/* Helper programs are killed; askers ask our successor. */
void resolver_jobs_close(struct resolver_jobs *all);

/* A message to the resolver's inbox: checked here. */
void resolver_jobs_ask(struct resolver_jobs *all, const void *message,
		       size_t bytes);

/* Every 100 ms or so. */
void resolver_jobs_tick(struct resolver_jobs *all);

#endif

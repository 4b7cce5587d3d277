/*
 * admin - the unix socket that reelcachectl talks to: HTTP and JSON.
 *
 * Used by: prefetcher.  Requests and answers: docs/reelcachectl.1.
 * libevent's evhttp serves it: few requests, from those whom the socket's
 * mode lets in.
 */
#ifndef REELCACHE_PREFETCHER_ADMIN_H
#define REELCACHE_PREFETCHER_ADMIN_H

#include <event2/event.h>

#include "prefetcher/plan.h"
#include "util/base.h"

struct admin;

/* listen_fd stays the caller's. */
int admin_open(struct admin **out, struct event_base *base, struct plan *plan,
	       int listen_fd) MUSTCHECK;
void admin_close(struct admin *ad);

#endif

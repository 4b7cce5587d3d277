/*
 * routes - which answer belongs to a request.
 *
 *	/proxy/{id}?source=NAME&q=WORD  media
 *	/resolve/{id}?source=NAME       its renditions, as JSON
 *	/healthz /readyz                "ok", or 503
 *	/metrics                        statistics
 *	/...                            the watch page
 *
 * Used by: worker.
 */
#ifndef REELCACHE_WORKER_ROUTES_H
#define REELCACHE_WORKER_ROUTES_H

#include "http/head.h"
#include "http/sink.h"
#include "worker/desk.h"

/* Begins the answer to a request, and perhaps ends it. */
void routes_serve(struct desk *desk, struct sink *sink,
		  const struct head *head);

#endif

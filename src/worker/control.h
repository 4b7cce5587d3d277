/*
 * control - /ws: WebSockets that speak the protocol reelcache.v1, JSON
 * messages and the bytes of videos; docs/protocol.md.
 *
 * Used by: worker.  Nothing blocks.  What a client asks for goes the way of a
 * request of HTTP, by routes_serve(), so that both answer the same.
 */
#ifndef REELCACHE_WORKER_CONTROL_H
#define REELCACHE_WORKER_CONTROL_H

#include "http/head.h"
#include "http/sink.h"
#include "util/base.h"
#include "worker/desk.h"

/* desk->conf and host must be set.  0 or -ENOMEM. */
int control_init(struct desk *desk) MUSTCHECK;
/* All connections must be closed. */
void control_fini(struct desk *desk);

/* Answers a GET or HEAD of /ws. */
void control_serve(struct desk *desk, struct sink *sink,
		   const struct head *head);

/* Pings, statistics, time-outs.  Call about every 100 ms. */
void control_tick(struct desk *desk);

/* Closes all with 1001. */
void control_drain(struct desk *desk);

#endif

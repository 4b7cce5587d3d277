/*
 * drive - runs libcurl's multi interface from a libevent loop.
 *
 * Used by: src/upstream/transfer.c.  Nothing blocks.
 * Whenever libcurl has been run, after() is called, outside of libcurl: only
 * there handles may be removed or unpaused.
 */
#ifndef REELCACHE_UPSTREAM_DRIVE_H
#define REELCACHE_UPSTREAM_DRIVE_H

#include <curl/curl.h>

#include "util/base.h"

struct event_base;
struct drive;

/* 0, -ENOMEM.  base must outlive it. */
int drive_open(struct drive **out, struct event_base *base,
	       void (*after)(void *ctx), void *ctx) MUSTCHECK;

/* All easy handles must have been removed.  Not from inside of after(). */
void drive_close(struct drive *d);

CURLM *drive_multi(struct drive *d);

/* after() comes soon, from the loop, also when libcurl has nothing to do. */
void drive_kick(struct drive *d);

#endif

/*
 * renditions - GET /resolve/{id}: what an id resolves to, as JSON.
 *
 * The schema is docs/protocol.md.  URLs of the origin are never in it.
 *
 * Used by: worker.
 */
#ifndef REELCACHE_WORKER_RENDITIONS_H
#define REELCACHE_WORKER_RENDITIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "http/head.h"
#include "http/sink.h"
#include "http/slice.h"
#include "store/resolution.h"
#include "util/base.h"
#include "worker/desk.h"

#define RENDITIONS_VERSION 1

/* Answers a GET or HEAD.  path: what follows "/resolve/". */
void renditions_serve(struct desk *desk, struct sink *sink,
		      const struct head *head, struct slice path);

/* The document.  name_source: the links name the source, which is not the
 * first one.  0 and its length, or -ENOSPC.  Pure. */
int renditions_format(char *dst, size_t dst_bytes, const char *source,
		      bool name_source, struct slice id,
		      const struct resolution *record, size_t *bytes) MUSTCHECK;

#endif

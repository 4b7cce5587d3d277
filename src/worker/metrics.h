/*
 * metrics - the statistics of all processes as Prometheus text.
 *
 * Used by: worker.  Pure: reads the segment.
 */
#ifndef REELCACHE_WORKER_METRICS_H
#define REELCACHE_WORKER_METRICS_H

#include <stddef.h>

#include "http/json.h"
#include "shm/segment.h"
#include "util/base.h"

#define METRICS_BYTES_MAX    65536u
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* Counters are summed over all rows ever used, gauges over processes that
 * run.  0 and the text's length, or -ENOSPC. */
int metrics_format(const struct segment *seg, char *dst, size_t dst_bytes,
		   size_t *used) MUSTCHECK;

/* The counters and gauges alone, as a JSON object. */
void metrics_json(const struct segment *seg, struct json *j);

#endif

/*
 * query - answers what workers ask on behalf of API requests (ipc/query.h).
 *
 * Used by: prefetcher.  Nothing blocks.  An answer that cannot be given yet
 * is not given: the worker asks again.
 */
#ifndef REELCACHE_PREFETCHER_QUERY_H
#define REELCACHE_PREFETCHER_QUERY_H

#include <stddef.h>

struct plan;

/* A message of QUERY_TYPE: checked here. */
void query_take(struct plan *plan, const void *message, size_t bytes);

#endif

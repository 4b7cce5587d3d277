/*
 * fetch - the answer of a resolver service, as a whole.
 *
 * Used by: resolver.  Nothing blocks.
 */
#ifndef REELCACHE_RESOLVER_FETCH_H
#define REELCACHE_RESOLVER_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "upstream/transfer.h"
#include "util/base.h"

struct fetch;

/* Once, from the event loop; the fetch is freed after it.  status: 200 with
 * the body, which is the callee's during the call; else 404, 502 or 504, with
 * a reason. */
typedef void fetch_end(void *ctx, uint32_t status, const char *body,
		       size_t bytes, const char *reason);

/* 0, -EINVAL (no URL), -ENOMEM. */
int fetch_begin(struct fetch **out, struct upstream *up, const char *url,
		bool allow_private, size_t bytes_max, fetch_end *end,
		void *ctx) MUSTCHECK;

/* end() does not come. */
void fetch_abort(struct fetch *f);

#endif

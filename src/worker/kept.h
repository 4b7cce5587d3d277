/*
 * kept - a request that must wait, with the bytes of its head.
 *
 * Used by: worker.  The head that a request comes with is good only until the
 * call returns that brought it.
 */
#ifndef REELCACHE_WORKER_KEPT_H
#define REELCACHE_WORKER_KEPT_H

#include "http/head.h"

struct kept {
	struct head head; /* its texts lie in bytes[] */
	char bytes[];
};

/* The caller's to free(); NULL: out of memory. */
struct kept *kept_new(const struct head *head);

#endif

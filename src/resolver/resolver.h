/*
 * resolver - the process that turns ids into URLs, and the only one that may
 * run other programs.
 *
 * One event loop: asks from workers and prefetcher, helper programs, requests
 * to resolver services, a tick.  Ends on TERM or QUIT.
 */
#ifndef REELCACHE_RESOLVER_RESOLVER_H
#define REELCACHE_RESOLVER_RESOLVER_H

#include "ipc/child.h"

int resolver_main(const struct child *self);

#endif

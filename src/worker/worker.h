/*
 * worker - the process that serves clients.
 *
 * One event loop: accepts on its own sockets, reads the store, asks the
 * prefetcher for what is missing.  It writes nothing but its rows of the
 * segment and its logs, so when it dies only its own connections are lost;
 * its successor clears the rows and takes over the sockets' queues.
 *
 * QUIT: accepts no more, lets responses end, exits with 0.  TERM: exits with
 * 0 at once.  USR1: opens its logs anew.
 */
#ifndef REELCACHE_WORKER_WORKER_H
#define REELCACHE_WORKER_WORKER_H

#include "ipc/child.h"

/* Returns the exit status: 0, 1, or 78 when the configuration is to blame. */
int worker_main(const struct child *self);

#endif

/*
 * prefetcher - the process that fetches and writes the store.
 *
 * One event loop: asks from workers, transfers, the journal's bell, the admin
 * socket, a tick.  Ends on TERM or QUIT after committing what it has.
 */
#ifndef REELCACHE_PREFETCHER_PREFETCHER_H
#define REELCACHE_PREFETCHER_PREFETCHER_H

#include "ipc/child.h"

int prefetcher_main(const struct child *self);

#endif

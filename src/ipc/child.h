/*
 * child - what a forked process is given by the master, and how it ends.
 *
 * Signals to a child: QUIT = drain: take no new work, finish, exit 0.
 * TERM = put things in order at once (commit) and exit 0.  USR1 = reopen logs.
 * A child also gets TERM when the master dies.
 */
#ifndef REELCACHE_IPC_CHILD_H
#define REELCACHE_IPC_CHILD_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/inbox.h"
#include "shm/segment.h"

struct conf;
struct tls_pems;

struct child {
	const struct conf *conf;
	struct segment *seg;
	const struct inboxes *ipc;
	uint32_t slot;         /* worker: 0 .. SEGMENT_WORKERS-1 */
	const int *listen_fds; /* worker: its own listening sockets, */
	const uint32_t *listen_nos; /* and their places in conf->listens;
				     * UINT32_MAX: none asked for it */
	size_t listen_count;
	const struct tls_pems *pems; /* worker: one for each of
				      * conf->listens */
	int admin_fd; /* prefetcher: listening unix socket, or -1 */
};

/* Returns the exit status.  Called in the child, after privileges went. */
typedef int (*child_main)(const struct child *self);

/* Child to master, the whole message. */
struct child_ready {
	uint32_t type; /* CHILD_READY */
	uint32_t pid;
};
#define CHILD_READY 1u

#endif

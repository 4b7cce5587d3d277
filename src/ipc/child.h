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

#define CHILD_LISTEN_UNASKED UINT32_MAX /* systemd's, of no section */

struct conf;

struct child {
	const struct conf *conf;
	struct segment *seg;
	const struct inboxes *ipc;
	uint32_t slot;         /* worker: 0 .. SEGMENT_WORKERS-1 */
	const int *listen_fds; /* worker: its own listening sockets */
	const uint32_t *listen_nos; /* of each, its section: an index into
				     * conf->listens; CHILD_LISTEN_UNASKED */
	size_t listen_count;
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

/*
 * spawn - from fork() to the child's own main function.
 *
 * Used by: master.  What a child finds when its main function is called:
 * - its user, no new privileges, TERM when the master dies;
 * - signals unblocked; INT, HUP, USR1, USR2 and PIPE ignored (a terminal's
 *   ^C is the master's to answer), all others at their defaults;
 * - of the descriptors only its own: a worker its listening sockets, inbox
 *   and bell and the ends to write to master and prefetcher; the prefetcher
 *   its inbox, the admin socket and the ends and bells of all workers, the
 *   resolver its inbox and the ends to write to all others.
 *   Closed ones are -1 in struct inboxes.
 */
#ifndef REELCACHE_MASTER_SPAWN_H
#define REELCACHE_MASTER_SPAWN_H

#include <stdint.h>
#include <sys/types.h>

#include "ipc/child.h"
#include "master/prepare.h"
#include "master/sockets.h"
#include "util/base.h"

struct spawn {
	child_main main;
	uint32_t no;   /* enum segment_proc_no */
	uint32_t seat; /* worker: which of the sockets */
	const struct conf *conf;
	struct tls_pems *pems; /* of conf; only a worker keeps them */
	struct tls_pems *other_pems; /* of another one, or NULL */
	const struct conf *other_conf;
	struct segment *seg;
	struct inboxes *ipc;
	struct sockets *sockets;       /* of the same configuration */
	struct sockets *other_sockets; /* of another one, or NULL */
	const struct identity *who;
	int admin_fd;
	int signal_fd; /* the master's alone */
};

/* The child's pid, or -errno. */
pid_t spawn_child(const struct spawn *what) MUSTCHECK;

/* "prefetcher", "worker-3": the name in the log.  Lives until the next call. */
const char *spawn_name(uint32_t no);

#endif

/*
 * prepare - what must exist on the machine before children can start: the
 * user, folders, log files, the admin socket, enough descriptors.
 *
 * Used by: master.  Touches the file system, so it may block for a moment;
 * called at start and on reload only.
 */
#ifndef REELCACHE_MASTER_PREPARE_H
#define REELCACHE_MASTER_PREPARE_H

#include <stdbool.h>
#include <sys/types.h>

#include "master/fault.h"
#include "util/base.h"

struct conf;

/* Who the children run as. */
struct identity {
	bool change; /* only when started by root with [main] user */
	uid_t uid;
	gid_t gid;
	char user[65];
};

/* 0, or -ENOENT when [main] user or group does not exist. */
int prepare_identity(const struct conf *conf, struct identity *who,
		     struct fault *fault) MUSTCHECK;

/* Whom the resolver runs as: [resolver] user, else as `who`; its group is that
 * of `who` unless it is told, so that both can use the table of resolutions. */
int prepare_resolver_identity(const struct conf *conf,
			      const struct identity *who,
			      struct identity *resolver,
			      struct fault *fault) MUSTCHECK;

/* Becomes `who` for good, with its groups, and makes sure that there is no
 * way back.  0 or -errno. */
int prepare_drop_privileges(const struct identity *who) MUSTCHECK;

/* Makes [cache] path when it is missing, gives it to `who`, and locks it:
 * *lock_fd is held by the master and all its children, so that a second
 * instance waits (at most wait_ms) until the last of them is gone.
 * 0, -EBUSY when another instance has the folder, or -errno. */
int prepare_cache(const struct conf *conf, const struct identity *who,
		  uint64_t wait_ms, int *lock_fd,
		  struct fault *fault) MUSTCHECK;

/* Makes the folder of the table of resolutions below [cache] path and gives it
 * to the resolver, writable for its group.  0 or -errno. */
int prepare_resolved(const struct conf *conf, const struct identity *resolver,
		     struct fault *fault) MUSTCHECK;

/* Makes log files that are missing and gives them to `who`, so that children
 * can reopen them.  0 or -errno. */
int prepare_logs(const struct conf *conf, const struct identity *who,
		 struct fault *fault) MUSTCHECK;

/* The listening admin socket, mode 0660, owned by `who`; -1 when [main]
 * admin_socket is empty.  A socket that nobody listens to is replaced;
 * -EADDRINUSE when a living instance has it. */
int prepare_admin(const struct conf *conf, const struct identity *who,
		  int *admin_fd, struct fault *fault) MUSTCHECK;

/* Removes the admin socket's file if it is still that of admin_fd. */
void prepare_remove_admin(const struct conf *conf, int admin_fd);

/* Raises the limit of open descriptors to what [http] max_connections may
 * need; logs a warning when it cannot. */
void prepare_descriptors(const struct conf *conf);

/* For -t: could all of the above be done?  Looks only, changes nothing.
 * 0 or -errno. */
int prepare_check(const struct conf *conf, struct fault *fault) MUSTCHECK;

#endif

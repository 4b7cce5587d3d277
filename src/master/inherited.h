/*
 * inherited - sockets that systemd opened for us (LISTEN_FDS, socket units).
 *
 * Used by: master, once at its start.  See sd_listen_fds(3).
 */
#ifndef REELCACHE_MASTER_INHERITED_H
#define REELCACHE_MASTER_INHERITED_H

#include <stdbool.h>
#include <stddef.h>

#include "master/address.h"
#include "master/fault.h"
#include "util/base.h"

#define INHERITED_MAX 128u

struct inherited_socket {
	int fd;               /* owned until taken; -1 afterwards */
	int family;           /* AF_INET, AF_INET6 or AF_UNIX */
	struct address bound; /* of AF_INET and AF_INET6 */
	bool reuseport;
	char name[64];  /* FileDescriptorName= */
	char path[108]; /* of AF_UNIX */
};

struct inherited {
	struct inherited_socket sockets[INHERITED_MAX];
	size_t count;
};

/* Descriptors become close-on-exec and non-blocking.  0, also when there are
 * none, or -errno: one of them is not a listening stream socket. */
int inherited_take(struct inherited *in, struct fault *fault) MUSTCHECK;

/* Closes what nobody has taken. */
void inherited_close(struct inherited *in);

/* The admin socket: a unix socket of that path, or whose name is `admin`.
 * The caller owns the descriptor; -1 when there is none. */
int inherited_take_unix(struct inherited *in, const char *path);

#endif

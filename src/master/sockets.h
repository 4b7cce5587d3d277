/*
 * sockets - the listening TCP sockets of one configuration.
 *
 * Used by: master.  Never blocks.
 *
 * Each address has one SO_REUSEPORT socket per worker, so that the kernel
 * spreads connections and no worker wakes for another's.  The master keeps
 * them all open: what a dead worker had not accepted waits in the queue for
 * its successor.  Sockets are numbered, and worker `seat` of n has number
 * seat, seat + n, ...: with fewer workers after a reload no queue is lost.
 *
 * An inherited socket without SO_REUSEPORT (or whose siblings cannot be
 * opened, e.g. because another user bound it) is shared by all workers.
 *
 * Options that accepted sockets inherit are set here: TCP_NODELAY,
 * TCP_NOTSENT_LOWAT, TCP_CONGESTION.
 */
#ifndef REELCACHE_MASTER_SOCKETS_H
#define REELCACHE_MASTER_SOCKETS_H

#include <stddef.h>
#include <stdint.h>

#include "master/fault.h"
#include "master/inherited.h"
#include "util/base.h"

struct conf;
struct sockets;

/*
 * Opens what conf->listens say, for so many workers.  Addresses that old
 * (or NULL) has are taken over from it as duplicates: old stays whole, and
 * closing either leaves the other.  from_systemd may be NULL.
 * 0 or -errno; nothing has changed then.
 */
int sockets_open(struct sockets **out, const struct conf *conf,
		 uint32_t workers, const struct sockets *old,
		 struct inherited *from_systemd, struct fault *fault) MUSTCHECK;

/* Applies backlog and TCP options of conf, also to sockets that were taken
 * over; they count for the old set too, so call it when there is no way
 * back.  Failures are logged. */
void sockets_apply(struct sockets *s, const struct conf *conf);

void sockets_close(struct sockets *s);

/* Logs a line for each address that is listened to. */
void sockets_log(const struct sockets *s);

/* In a child: keeps the sockets of worker `seat`, closes all others.  *fds
 * and *listens, the place of each in conf->listens (UINT32_MAX: none has asked
 * for it), belong to the set; listens may be NULL. */
void sockets_keep_seat(struct sockets *s, uint32_t seat, const int **fds,
		       const uint32_t **listens, size_t *count);

/* For tests: the bound address of listener i, or NULL behind the last. */
const struct address *sockets_address(const struct sockets *s, size_t i);

/* Is this a TCP congestion control that may be used here?  0 or -errno. */
int sockets_check_congestion(const char *name) MUSTCHECK;

#endif

/*
 * desk - what all responses of a worker share.
 *
 * Used by: worker.  One per process, made after fork.  Its time is that of
 * the turn of the loop: nobody else here reads a clock.
 */
#ifndef REELCACHE_WORKER_DESK_H
#define REELCACHE_WORKER_DESK_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "http/conn.h"
#include "http/sink.h"
#include "ipc/inbox.h"
#include "shm/segment.h"
#include "worker/access_log.h"

#define DESK_COMMON_BYTES 1536u

struct controls;
struct resolutions;
struct queries;
struct resolving;
struct serves;
struct store;
struct web;

struct desk {
	const struct conf *conf;
	struct segment *seg;
	struct segment_worker *row;  /* this worker's */
	struct segment_stats *stats; /* the same */
	const struct inboxes *ipc;
	struct store *store;
	struct conn_host *host;
	struct access_log *log;          /* NULL = none */
	struct web *web;                 /* NULL = none */
	struct serves *serves;           /* media responses: worker/serve.c */
	struct queries *queries;         /* worker/query.c */
	struct controls *controls;       /* WebSockets: worker/control.c */
	struct resolving *resolving;     /* asks: worker/resolving.c */
	struct resolutions *resolutions; /* NULL until it is needed */
	uint32_t slot;

	/* fields of every response, whole lines */
	char common[DESK_COMMON_BYTES];
	size_t common_bytes;

	/* caches of what is asked for in every response */
	uint64_t wall_at_us;
	int64_t wall_s;
	int64_t date_s;
	char date[32];
};

/* Makes the common fields from the configuration.  -EINVAL: [http]
 * cors_origin cannot be a field's value. */
int desk_init_common(struct desk *desk) MUSTCHECK;

/* Wall clock of this turn. */
int64_t desk_wall_s(struct desk *desk);

static inline uint64_t desk_now_us(struct desk *desk)
{
	return conn_host_now_us(desk->host);
}

static inline uint64_t desk_now_ms(struct desk *desk)
{
	return conn_host_now_ms(desk->host);
}

/* HTTP date of a time; valid until the next call. */
const char *desk_date(struct desk *desk, int64_t wall_s);

#endif

/*
 * access_log - one line per response, to a file.
 *
 * Used by: worker.  Lines are gathered and written whole, with one append of
 * at most ACCESS_LOG_BUFFER bytes, when 32 KiB are full and once a second.
 * A write to a regular file may block as disk calls do; a pipe that is full
 * loses lines.  What clients send is escaped: a line is a line.
 *
 * Shapes: `combined` as other servers write it, followed by microseconds to
 * the first byte, body bytes from cache, from a run of others, from a run of
 * its own, and the cache's verdict; `json` is an object per line.
 */
#ifndef REELCACHE_WORKER_ACCESS_LOG_H
#define REELCACHE_WORKER_ACCESS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "http/head.h"
#include "util/base.h"

#define ACCESS_LOG_BUFFER 57344u

struct access_log;
struct access_entry; /* what is known of a request when it begins */

struct access_facts {
	int status; /* 499: the client left before there was one */
	uint64_t bytes_cache;
	uint64_t bytes_inflight;
	uint64_t bytes_origin;
	uint64_t bytes_other; /* bodies that are no media */
	uint64_t ttfb_us;
	const char *verdict; /* "hit", "uri-miss" ...; "-" = none */
};

/* 0 or -errno. */
int access_log_open(struct access_log **out, const char *path,
		    bool json) MUSTCHECK;
void access_log_close(struct access_log *log);

/* After rotation.  0 or -errno, the old file is kept then. */
int access_log_reopen(struct access_log *log) MUSTCHECK;

void access_log_flush(struct access_log *log);

/* NULL when log is NULL or memory is short: then there is no line.  The head
 * is copied from; peer is SINK_PEER_BYTES. */
struct access_entry *access_log_begin(struct access_log *log,
				      const struct head *head,
				      const uint8_t *peer);

/* Writes the line and frees the entry; entry may be NULL. */
void access_log_end(struct access_log *log, struct access_entry *entry,
		    int64_t wall_s, const struct access_facts *facts);

#endif

/*
 * origins - what is learned of each origin, and its transfers in progress.
 *
 * Used by: prefetcher.  Pure: time is a parameter.  An origin is a scheme,
 * host and port.  What is learned survives a restart: origins_next_dirty()
 * gives records to save, origins_load() takes them back.
 *
 *   largest range     403, 400, 413 or 416 to a long range, and content to a
 *                     shorter one
 *   bounded ranges    whether they come at least twice as fast as open ones
 *   parallel          how many connections for one object make the whole
 *                     faster: tried only while somebody is starved
 *   tolerated         connections at which it does not say 429 or 503
 */
#ifndef REELCACHE_PREFETCHER_ORIGINS_H
#define REELCACHE_PREFETCHER_ORIGINS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/layout.h"
#include "util/base.h"

#define ORIGINS_MAX 4096u /* the one unused for longest goes */

struct origin;
struct origins;

/* hard: [upstream] connections.  ahead: [upstream] max_connections.  bps:
 * [prefetch] origin_bandwidth, 0 = no limit. */
struct origins_opts {
	uint32_t hard;
	uint32_t ahead;
	uint64_t bps;
};
int origins_open(struct origins **out,
		 const struct origins_opts *opts) MUSTCHECK;
void origins_close(struct origins *os);

/* url may be a template.  NULL: no such URL, out of memory, or too many
 * origins are in use.  Good until the next call, or longer while it has
 * transfers in progress. */
struct origin *origins_of_url(struct origins *os, const char *url,
			      uint64_t now_ms);

/* "https://host:port" */
const char *origin_name(const struct origin *o);

/* ---- transfers in progress ---- */

/* ahead: nobody has asked for it. */
void origin_begin(struct origin *o, bool ahead);
void origin_end(struct origin *o, bool ahead);
uint32_t origin_active(const struct origin *o);
uint32_t origin_ahead(const struct origin *o);

/* How many transfers it tolerates at a time. */
uint32_t origin_limit(const struct origin *o);
/* Until then nothing is asked of it that nobody waits for. */
uint64_t origin_blocked_until_ms(const struct origin *o);

/* How many connections are of use for one object, at this moment. */
uint32_t origin_parallel(const struct origin *o);

/* End of the request that begins at from and is wanted until to
 * (SIZE_UNKNOWN: open). */
uint64_t origin_range_end(const struct origin *o, uint64_t from, uint64_t to);

/* Bytes of one piece when several connections share an object: about a
 * second of one of them, 256 KiB to 4 MiB. */
uint64_t origin_segment(const struct origin *o);

/* Bandwidth of what nobody waits for. */
bool origin_has_tokens(struct origin *o, uint64_t now_ms);
void origin_take_tokens(struct origin *o, uint64_t n);

/* ---- news ---- */

/* Body bytes came. */
void origin_note_bytes(struct origin *o, uint64_t n);

/* A transfer that was never paused brought so many bytes in so long. */
void origin_note_rate(struct origin *o, uint64_t bytes, uint64_t body_ms,
		      uint64_t first_byte_ms, bool bounded);

/* Content came for a range of so many bytes; SIZE_UNKNOWN: open. */
void origin_note_accepted(struct origin *o, uint64_t range_bytes);

/* A range was refused although the object may be there.  True: a shorter one,
 * as origin_range_end() now says, is worth a try. */
bool origin_note_refused(struct origin *o, uint64_t range_bytes);

/* 429 or 503, with Retry-After or 0. */
void origin_note_busy(struct origin *o, uint64_t retry_after_ms,
		      uint64_t now_ms);
void origin_note_good(struct origin *o, uint64_t now_ms);

/* Every 100 ms while somebody waits for its bytes as they come. */
void origin_tick_starved(struct origin *o, uint64_t now_ms);

/* ---- what is kept ---- */

/* One that has changed since it was saved 10 s or longer ago; false: none.
 * now_ms UINT64_MAX: the end, however long ago.  Also ends trials that nobody
 * is starved for any more: call it every second or so. */
bool origins_next_dirty(struct origins *os, uint64_t now_ms, int64_t wall_s,
			const char **name, struct origin_record *rec);

/* What was learned more than seven days ago is forgotten. */
void origins_load(struct origins *os, const char *name,
		  const struct origin_record *rec, int64_t wall_s,
		  uint64_t now_ms);

/* As it would be saved now. */
void origins_each(struct origins *os, int64_t wall_s,
		  void (*each)(void *ctx, const struct origin *o,
			       const struct origin_record *rec),
		  void *ctx);

#endif

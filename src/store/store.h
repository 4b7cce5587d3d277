/*
 * store - what a worker sees of the cache: index, arriving runs, chunk files.
 *
 * Used by: worker.  Opened after fork, never carried across it.
 * Blocking: lookups read mapped memory; opening a chunk file may read a
 * directory block.  Errors: 0 or -errno; a damaged record reads as absent.
 */
#ifndef REELCACHE_STORE_STORE_H
#define REELCACHE_STORE_STORE_H

#include <stdint.h>

#include "shm/segment.h"
#include "store/layout.h"
#include "util/base.h"
#include "util/span.h"

struct store; /* opaque: only src/store/ sees inside */

struct store_opts {
	const char *path;     /* [cache] path */
	const char *scratch;  /* [cache] scratch */
	uint64_t index_bytes; /* [cache] index */
	struct segment *seg;
	uint32_t slot;            /* this worker's */
	uint32_t descriptors_max; /* chunk files kept open, e.g. 512 */
};

enum store_find {
	STORE_HIT,     /* bytes of *want (cut on return) are in the file */
	STORE_COMING,  /* a run has reached want->from but not beyond: wait */
	STORE_MISS,    /* ask the prefetcher */
	STORE_SUSPECT, /* the index names a file that must be checked first, or
			* that is gone or short: ask with ASK_VERIFY */
};

/* Where the bytes of a hit are.  The descriptor stays open at least until
 * the next call of store_lookup() or store_sweep(): send, then forget it. */
struct store_place {
	int fd;
	uint64_t file_off; /* of want->from in that file */
	uint32_t run_row;  /* STORE_COMING, or a hit from an arriving run */
	uint64_t run_no;
	bool arriving; /* the hit is not in the index yet */
};

/* The index must exist already: the prefetcher makes it before it says that
 * it is ready. */
int store_open(struct store **out, const struct store_opts *opts) MUSTCHECK;
void store_close(struct store *st);

/* All lookups of one callback lie between the two: one read transaction.
 * Never keep it open while waiting. */
int store_begin(struct store *st) MUSTCHECK;
void store_end(struct store *st);

/* key is "source/id" without NUL.  The record is valid until store_end();
 * NULL = not in the index (ask). */
const struct object_record *store_find_object(struct store *st, const char *key,
					      size_t key_bytes);

/*
 * want: wanted bytes, not empty; on STORE_HIT cut to what lies in one file.
 * want->to may be SIZE_UNKNOWN.  rec gives number, generation, chunk size.
 * now_s: monotonic seconds, noted as the chunk's last use.
 */
enum store_find store_lookup(struct store *st, const struct object_record *rec,
			     struct span *want, uint32_t now_s,
			     struct store_place *place);

/* The file of this place turned out shorter than the index says, or could
 * not be read: forget the descriptor. */
void store_forget(struct store *st, const struct store_place *place);

/* Closes descriptors of files that were evicted; call about once a second. */
void store_sweep(struct store *st);

#endif

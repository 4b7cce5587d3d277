/*
 * inflight - the prefetcher's side of the run rows in the segment.
 *
 * Used by: prefetcher, the only writer.  A row lives from the moment a run
 * may bring bytes until the last record of its chunk files is committed, so
 * that a reader finds every published byte either here or in the index.
 */
#ifndef REELCACHE_STORE_INFLIGHT_H
#define REELCACHE_STORE_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/segment.h"
#include "util/base.h"

struct inflight_table {
	struct segment *seg;
	const int *bells; /* eventfd of each worker */
	uint8_t used[SEGMENT_RUNS];
};

/* One row in use. */
struct inflight {
	struct inflight_table *table;
	uint32_t row;
	uint32_t pending; /* commits that are under way */
	bool ended;
};

struct inflight_want {
	uint64_t object_no;
	uint64_t run_no;
	uint64_t from_off;
	uint64_t size_bytes;
	uint32_t generation;
	uint32_t chunk_bytes;
	bool scratch;
};

void inflight_init(struct inflight_table *table, struct segment *seg,
		   const int *bells);

/* -EAGAIN: all rows are in use. */
int inflight_begin(struct inflight_table *table,
		   const struct inflight_want *want,
		   struct inflight **out) MUSTCHECK;

/* Takes over a row that a dead prefetcher left; no more bytes will come. */
int inflight_adopt(struct inflight_table *table, uint32_t row,
		   struct inflight **out) MUSTCHECK;

/* Bytes before to_off are in files now; wakes who waits. */
void inflight_publish(struct inflight *in, uint64_t to_off);
void inflight_set_size(struct inflight *in, uint64_t size_bytes);
void inflight_set_kept(struct inflight *in, uint64_t kept_off);

/* A commit of this row's bytes was begun, and is done. */
void inflight_commit_begin(struct inflight *in);
void inflight_commit_done(struct inflight *in);

/* No more bytes will come.  Frees in, at once or after the last commit. */
void inflight_end(struct inflight *in);

/* Empties a row whose bytes cannot be used. */
void inflight_clear_row(struct segment *seg, uint32_t row);

#endif

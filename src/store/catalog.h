/*
 * catalog - the whole index in memory, with space and eviction.
 *
 * Used by: prefetcher.  It plans from here and never reads LMDB while it
 * runs; every change goes to the journal, which commits it a moment later.
 * Blocking: opening reads the index and lists the chunk folder; later only
 * unlink, of files that no longer count.
 *
 *   extent:  COMMITTING --> READY --> dropped (evicted, purged, damaged)
 *                             ^
 *            SUSPECT --> VERIFYING (CRC is being read) --> dropped
 *
 * Space: the bytes of all chunk files, written or just about to be, are at
 * most `size`: catalog_reserve() comes before every write.
 */
#ifndef REELCACHE_STORE_CATALOG_H
#define REELCACHE_STORE_CATALOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "shm/segment.h"
#include "store/inflight.h"
#include "store/journal.h"
#include "store/layout.h"
#include "store/readers.h"
#include "util/base.h"
#include "util/span.h"
#include "util/spanset.h"

enum extent_state {
	EXTENT_COMMITTING,
	EXTENT_READY,
	EXTENT_SUSPECT, /* of an older epoch: not served yet */
	EXTENT_VERIFYING,
};

/* One chunk file. */
struct extent {
	TAILQ_ENTRY(extent) queue; /* eviction order, next victim first */
	TAILQ_ENTRY(extent) check; /* while to_check */
	bool to_check;             /* catalog_verify_all() */
	struct object *object;
	struct span span;
	uint64_t run_no;
	uint32_t crc;
	uint32_t epoch;
	uint32_t seen_s; /* last use that eviction knows of */
	enum extent_state state;
	bool doomed; /* drop it when its operation is done */
	struct inflight
		*inflight; /* while COMMITTING: the run's row, or NULL */
};

/* One rendition, or what is left of an older generation of it. */
struct object {
	UT_hash_handle by_key; /* not for retired ones */
	UT_hash_handle by_no;  /* the same, and only with a record */
	uint64_t object_no;    /* the record's, while in that table */
	TAILQ_ENTRY(object) retired_link;
	struct object_record *record; /* NULL: nothing is known yet */
	struct extent **extents;      /* by first byte; they never overlap */
	size_t count;
	size_t capacity;
	uint64_t stored_bytes;
	/* fetched before anybody needed it: not seen yet; and how the rest
	 * of such bytes ended */
	struct spanset unseen;
	uint64_t useful_bytes, wasted_bytes;
	bool retired;
	bool kept;      /* its record is (to be) in the index */
	uint32_t young; /* row in segment.young + 1, 0 = none */
	void *plan;     /* the prefetcher's */
	uint32_t key_bytes;
	char key[]; /* with NUL */
};
TAILQ_HEAD(object_list, object);

struct catalog_opts {
	const char *path;    /* [cache] path */
	const char *scratch; /* [cache] scratch */
	uint64_t index_bytes;
	uint64_t size_bytes;
	uint64_t scratch_bytes;
	uint64_t spare_bytes; /* ahead of a playhead nothing is evicted */
	struct segment *seg;
	struct segment_stats *stats; /* the prefetcher's row */
	const int *bells;
	/* An extent was verified, dropped as damaged, or committed. */
	void (*changed)(void *ctx, struct object *obj);
	void *ctx;
};

struct fill;

struct catalog {
	struct catalog_opts opts;
	struct index *index;
	struct journal *journal;
	struct inflight_table inflight;
	struct readers readers;
	struct object *objects; /* uthash */
	struct object *numbers; /* the same by number */
	struct object_list retired;
	TAILQ_HEAD(, extent) queue;
	uint64_t used_bytes;
	uint64_t scratch_used;
	uint64_t unseen_bytes; /* of all objects */
	uint64_t extents;
	TAILQ_HEAD(, extent) checks; /* to be verified, a few at a time */
	uint64_t checks_left;
	uint64_t verify_left;             /* in the journal */
	uint64_t verify_good, verify_bad; /* since catalog_verify_all() */
	uint64_t now_ms;                  /* as the last catalog_tick() said */
	uint64_t disk_bad_ms; /* until then nothing is stored; 0 = fine */
	uint32_t epoch;
	int chunks_fd;
	int scratch_fd;
	int lock_fd;
	uint8_t *stage;          /* fill.c: bytes on their way to a file */
	struct fill *staging;    /* whose bytes these are */
	TAILQ_HEAD(, fill) held; /* fill.c: ended, but still read */
};

/* Makes the folders, takes the lock on them (-EBUSY: another instance has
 * it), reads the index, takes over what a dead prefetcher had in flight,
 * removes orphans.  A damaged index is replaced by an empty one. */
int catalog_open(struct catalog **out, const struct catalog_opts *opts,
		 uint64_t now_ms) MUSTCHECK;

/* Commits everything. */
void catalog_close(struct catalog *cat);

struct object *catalog_find(struct catalog *cat, const char *key,
			    size_t key_bytes);
/* The object whose record has this number, or NULL. */
struct object *catalog_find_no(struct catalog *cat, uint64_t object_no);

/* A new object of which nothing is known.  NULL: out of memory. */
struct object *catalog_add(struct catalog *cat, const char *key,
			   size_t key_bytes);

/*
 * Sets or replaces what is known.  A record without a number gets one.
 * other_version: the validator changed: the generation grows and what was
 * stored moves to a retired object, which lives while somebody reads it.
 */
int catalog_set_record(struct catalog *cat, struct object *obj,
		       const struct object_record *record,
		       bool other_version) MUSTCHECK;

/* All chunk files and the record.  The object itself goes with them when
 * drop is set.  Counts chunks and bytes. */
void catalog_purge(struct catalog *cat, struct object *obj, bool drop,
		   uint64_t *chunks, uint64_t *bytes);

/* The same, but the object stays, as one of which nothing is known. */
void catalog_forget(struct catalog *cat, struct object *obj, uint64_t *chunks,
		    uint64_t *bytes);

/* An object that nobody plans for and that has no chunk file left goes, with
 * its record: else the index would keep every name ever asked for. */
void catalog_forget_empty(struct catalog *cat, struct object *obj);

/* The extent with this byte, or NULL. */
struct extent *catalog_extent_at(const struct object *obj, uint64_t off);

/* First byte >= off that is in an extent; SIZE_UNKNOWN = none. */
uint64_t catalog_next_present(const struct object *obj, uint64_t off);

/* Copies up to n stored bytes from off on.  How many: they end where the file
 * does.  0: the byte is not stored, or not yet known to be right.  Blocking:
 * reads the page cache, and the disk when they have left it. */
size_t catalog_read(const struct catalog *cat, const struct object *obj,
		    uint64_t off, void *buffer, size_t n);

/* These bytes were fetched ahead; what becomes of them is counted. */
void catalog_note_ahead(struct catalog *cat, struct object *obj,
			struct span span);

/* These bytes were sent to somebody. */
void catalog_note_seen(struct catalog *cat, struct object *obj,
		       struct span span);

/* Makes room for more bytes and counts them as used.  -ENOSPC: all that is
 * there is being read, or the disk failed a moment ago. */
int catalog_reserve(struct catalog *cat, uint64_t bytes) MUSTCHECK;
void catalog_release(struct catalog *cat, uint64_t bytes);

/* A whole chunk file, whose space is reserved already. */
int catalog_add_extent(struct catalog *cat, struct object *obj,
		       struct span span, uint64_t run_no, uint32_t crc,
		       struct inflight *inflight) MUSTCHECK;

/* Reads the file's CRC in the journal's thread; changed() tells. */
void catalog_verify(struct catalog *cat, struct extent *ex);

/* Every chunk file, a few at a time.  Returns how many. */
uint64_t catalog_verify_all(struct catalog *cat);

/* Is the file there and long enough?  If not the extent is dropped. */
void catalog_check_file(struct catalog *cat, struct extent *ex);

/* Readable when catalog_reap() has work. */
int catalog_bell(const struct catalog *cat);
void catalog_reap(struct catalog *cat);

/* Every 20 ms while fills are open: what is staged is written.  Also
 * statistics, retired objects, scratch files. */
void catalog_tick(struct catalog *cat, uint64_t now_ms);

/* The next unused numbers, kept in the segment. */
uint64_t catalog_new_run_no(struct catalog *cat);

#endif

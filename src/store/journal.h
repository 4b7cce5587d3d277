/*
 * journal - a thread that does what waits for the disk: commits records in
 * batches with sync, and reads chunk files to check their CRC.
 *
 * Used by: prefetcher, which is the only writer of the index.  The event loop
 * adds operations and reaps them when they are done; it never waits.
 * Operations are carried out in the order in which they were added.
 * A batch that fails (disk full, I/O error) fails all its operations: the
 * index then lacks them, which costs bytes and never correctness.
 */
#ifndef REELCACHE_STORE_JOURNAL_H
#define REELCACHE_STORE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/index.h"
#include "store/layout.h"

struct journal;

enum journal_type {
	JOURNAL_PUT_OBJECT,    /* key, record */
	JOURNAL_DELETE_OBJECT, /* key */
	JOURNAL_PUT_EXTENT,    /* extent_key, extent */
	JOURNAL_DELETE_EXTENT, /* extent_key */
	JOURNAL_PUT_NUMBER,    /* name, number */
	JOURNAL_PUT_ORIGIN,    /* key, origin */
	JOURNAL_VERIFY,        /* extent, chunk_no: is the file's CRC right? */
};

struct journal_op {
	TAILQ_ENTRY(journal_op) link;
	enum journal_type type;
	int rc; /* when done; VERIFY: -EUCLEAN = wrong */
	struct extent_key extent_key;
	struct extent_record extent;
	uint64_t from_off; /* VERIFY: first byte in the file */
	uint64_t chunk_no; /* VERIFY */
	const char *name;  /* PUT_NUMBER: lives on */
	uint64_t number;
	struct object_record *record; /* PUT_OBJECT: freed by journal_free() */
	struct origin_record origin;
	char *key; /* objects, origins: freed by journal_free() */
	uint32_t key_bytes;
	void *owner; /* the adder's, untouched, as is this: */
	bool changing;
};
TAILQ_HEAD(journal_ops, journal_op);

/* Starts the thread.  chunks_fd stays the caller's. */
int journal_open(struct journal **out, struct index *index,
		 int chunks_fd) MUSTCHECK;

/* Does all that was added, then ends the thread; reap once more. */
void journal_end(struct journal *jn);

/* After journal_end(); what is added after that is never done. */
void journal_close(struct journal *jn);

/* An eventfd that is readable when operations are done. */
int journal_bell(const struct journal *jn);

/* op is the journal's until it is reaped.  urgent: do not wait for more. */
void journal_add(struct journal *jn, struct journal_op *op, bool urgent);

/* Moves what is done to the end of *done. */
void journal_reap(struct journal *jn, struct journal_ops *done);

/* NULL when out of memory. */
struct journal_op *journal_new(enum journal_type type);
void journal_free(struct journal_op *op);

#endif

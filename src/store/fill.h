/*
 * fill - the bytes of one run on their way into chunk files.
 *
 * Used by: prefetcher.  Bytes are staged (one buffer for all fills: whoever
 * writes next flushes the one before), written by pwrite at the end of a loop
 * turn or when it is full, and then published in the run's row.  While
 * bytes come fast, writes end at multiples of 256 KiB.
 *
 * Where they go: the store; when that is full of what is being read, or the
 * disk fails, or the object must not be kept: the scratch folder, a bounded
 * window that moves on as its readers do.  Readers see no difference.
 * Blocking: pwrite into the page cache, and unlink of evicted files.
 */
#ifndef REELCACHE_STORE_FILL_H
#define REELCACHE_STORE_FILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/catalog.h"
#include "util/base.h"

#define FILL_STAGE_BYTES   (512 * KIB)
#define FILL_ALIGN         (256 * KIB)
#define FILL_FAST_BYTES    (64 * KIB)
#define FILL_SCRATCH_CHUNK ((uint32_t)MIB)

/* A file in the scratch folder. */
struct fill_scrap {
	TAILQ_ENTRY(fill_scrap) link;
	uint64_t chunk_no;
	struct span span;
};

struct fill {
	TAILQ_ENTRY(fill) held_link;
	uint64_t ended_ms;
	struct catalog *cat;
	struct object *obj; /* while it is not ended */
	uint64_t object_no;
	uint32_t generation;
	struct inflight *inflight;
	uint64_t run_no;
	uint64_t from_off; /* of this row */
	uint64_t to_off;   /* published */
	size_t turn_bytes; /* taken in this turn of the loop */
	size_t staged;     /* bytes in cat->stage behind to_off */
	uint8_t *spill;    /* staged bytes that found no room: they come */
	size_t spilled;    /* before the staged ones; else NULL, 0 */
	/* the chunk file being written; fd -1 = none */
	int fd;
	uint64_t chunk_from;
	uint64_t chunk_no;
	uint32_t crc;
	bool scratch;
	bool lost; /* out of memory: staged bytes are gone, it cannot go on */
	TAILQ_HEAD(, fill_scrap) scraps; /* oldest first */
	uint64_t kept_off;
};

/* Bytes from from_off on will come for obj, whose record is known.
 * -EAGAIN: too many at a time. */
int fill_begin(struct fill **out, struct catalog *cat, struct object *obj,
	       uint64_t from_off) MUSTCHECK;

/* All n bytes (at most FILL_STAGE_BYTES - FILL_ALIGN) are taken, or none:
 * -EAGAIN = no room until readers move on; other errors: it cannot go on. */
int fill_write(struct fill *f, const uint8_t *bytes, size_t n) MUSTCHECK;

/* Writes and publishes what is staged.  Errors as fill_write(). */
int fill_flush(struct fill *f) MUSTCHECK;

/* At the end of a loop's turn: the same, but while bytes come fast the rest
 * behind the last multiple of FILL_ALIGN waits for the next turn.  Then
 * catalog_tick() must come within some 20 ms: it flushes. */
int fill_turn(struct fill *f) MUSTCHECK;

/* The first byte that fill_write() has not taken. */
uint64_t fill_next_off(const struct fill *f);

/* Bytes from here to fill_next_off() are this fill's alone; those before are
 * the catalog's (where they may be evicted), or, scratch, gone again. */
uint64_t fill_have_from(const struct fill *f);

/* Copies up to n published bytes from off on out of the files that are the
 * fill's alone.  How many; 0: off is not among them.  Blocking: as
 * catalog_read(). */
size_t fill_read(const struct fill *f, uint64_t off, void *buffer, size_t n);

/* The size became known: the object ended. */
void fill_set_size(struct fill *f, uint64_t size_bytes);

/* Scratch only: unlinks files wholly before off. */
void fill_trim(struct fill *f, uint64_t off);

/* Flushes if it can, publishes, hands the last piece to the catalog.  The
 * fill is no longer the caller's: it is freed, or, when it is a scratch fill,
 * held until nobody reads its files. */
void fill_end(struct fill *f);

/* How far on from this byte held fills have all: off itself when none has it.
 * Their rows tell readers where. */
uint64_t fill_held_to(const struct catalog *cat, const struct object *obj,
		      uint64_t off);

/* Frees held fills that nobody reads any more; with all set, every one.
 * catalog_tick() does this. */
void fill_sweep(struct catalog *cat, bool all);

#endif

/*
 * segment - memory that all processes share: one writer per table.
 *
 * The master maps it before it forks; nobody unmaps it.  Tables hold fixed
 * width integers only.  Readers take no lock and treat what they read as
 * untrusted: a writer may have been killed at any instruction.
 *
 *   who writes        what                        who repairs it after a kill
 *   master            procs                       the master alone outlives all
 *   prefetcher        runs, store_*               its successor (recovery)
 *   worker in slot n  workers[n]                  its successor in the slot
 *   each process      its own row of stats        nobody: counters go on
 */
#ifndef REELCACHE_SHM_SEGMENT_H
#define REELCACHE_SHM_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/base.h"

#define SEGMENT_VERSION       1u
#define SEGMENT_WORKERS       64u /* slots: twice the most workers, for reloads */
#define SEGMENT_RUNS          1024u  /* ranges that arrive at the same time */
#define SEGMENT_READERS       16384u /* media responses at a time, per worker */
#define SEGMENT_TOUCHES       16384u /* a power of two */
#define SEGMENT_ADDRESS_CELLS 8192u
#define SEGMENT_SENT          256u /* a power of two */

enum stat_no {
#define STAT(name, type, help) STAT_##name,
#include "shm/stats.def"
#undef STAT
	STAT_COUNT
};

/* Time to first byte: bucket n counts responses of at most 2^n * 250 us; the
 * last one counts all others. */
#define SEGMENT_TTFB_BUCKETS 20u

struct segment_stats {
	_Atomic uint64_t value[STAT_COUNT];
	_Atomic uint64_t ttfb_bucket[SEGMENT_TTFB_BUCKETS];
	_Atomic uint64_t ttfb_sum_us;
	_Atomic uint64_t ttfb_count;
};

/* A range that is arriving, or has arrived and is not in the index yet.
 * Written by the prefetcher.  Copy with segment_read_run(). */
struct segment_run {
	_Atomic uint32_t seq;        /* odd while the writer is inside */
	_Atomic uint32_t generation; /* of the object */
	_Atomic uint64_t object_no;  /* 0 = free row */
	_Atomic uint64_t run_no;     /* names the files; never used twice */
	_Atomic uint64_t from_off;   /* first byte this run wrote */
	_Atomic uint64_t to_off;     /* first byte not in a file; only grows */
	_Atomic uint64_t kept_off;   /* scratch: earlier bytes are gone again */
	_Atomic uint64_t size_bytes; /* of the object; SIZE_UNKNOWN */
	_Atomic uint32_t chunk_bytes;
	_Atomic uint32_t flags; /* SEGMENT_RUN_... */
};
_Static_assert(sizeof(struct segment_run) == 64, "shared layout, version 1");

#define SEGMENT_RUN_ACTIVE  1u /* more bytes may come */
#define SEGMENT_RUN_SCRATCH 2u /* files are in the scratch folder */

/* A plain copy of a row. */
struct segment_run_view {
	uint64_t object_no;
	uint64_t run_no;
	uint64_t from_off;
	uint64_t to_off;
	uint64_t kept_off;
	uint64_t size_bytes;
	uint32_t generation;
	uint32_t chunk_bytes;
	uint32_t flags;
};

/* One media response in progress.  Written by its worker. */
struct segment_reader {
	_Atomic uint64_t object_no; /* 0 = free row */
	_Atomic uint64_t pos_off;   /* next byte to be sent */
	_Atomic uint64_t end_off;   /* first byte not wanted */
	_Atomic uint32_t generation;
	_Atomic uint32_t sent_kib; /* of this range so far */
};
_Static_assert(sizeof(struct segment_reader) == 32, "shared layout, version 1");

/* What a response, or a part of one, has sent: the prefetcher learns from it
 * who plays on and which bytes were of use. */
struct segment_sent {
	_Atomic uint64_t object_no;
	_Atomic uint64_t begin_off; /* of the range */
	_Atomic uint64_t from_off;  /* sent since the last entry of it */
	_Atomic uint64_t to_off;
	_Atomic uint32_t generation;
	_Atomic uint32_t whole; /* 1: to_off ends the range */
};
_Static_assert(sizeof(struct segment_sent) == 40, "shared layout, version 1");

struct segment_worker {
	_Atomic uint64_t readers_top; /* rows from here on were never used */
	_Atomic uint32_t connections; /* open now */
	_Atomic uint32_t unused;
	/* 1: this worker waits for that run's to_off to grow */
	_Atomic uint8_t waits[SEGMENT_RUNS];
	/* when a chunk was last read, monotonic seconds, by hash */
	_Atomic uint32_t touches[SEGMENT_TOUCHES];
	/* the last SEGMENT_SENT spans that were sent, entry n at n modulo that;
	 * who reads too late misses some, and checks sent_count afterwards */
	_Atomic uint64_t sent_count;
	struct segment_sent sent[SEGMENT_SENT];
	/* open connections by client address, two hashes: worker/limits.h */
	_Atomic uint32_t addresses[2][SEGMENT_ADDRESS_CELLS];
	struct segment_reader readers[SEGMENT_READERS];
};

/* An object whose record is not committed yet, so that a successor of the
 * prefetcher knows it.  Written by the prefetcher; the bytes are those of
 * store/layout.h, checked by who reads them. */
#define SEGMENT_YOUNG 512u
struct segment_young {
	_Atomic uint32_t used; /* 1 = whole */
	uint32_t key_bytes;
	uint32_t record_bytes;
	uint32_t unused;
	uint8_t key[256];
	uint8_t record[2304];
};

/* A prefetch that was asked for and is not finished, so that a successor of
 * the prefetcher goes on with it.  Written by the prefetcher; checked by who
 * reads it. */
#define SEGMENT_JOBS 1024u
struct segment_job {
	_Atomic uint32_t used; /* 1 = whole */
	uint32_t key_bytes;
	uint64_t no;
	uint64_t start_ms;
	uint64_t seconds_ms;
	uint64_t bytes;
	uint64_t deadline_ms; /* monotonic */
	uint64_t asked_ms;
	uint8_t key[256];
};
_Static_assert(sizeof(struct segment_job) == 312, "shared layout, version 1");

enum segment_proc_no {
	SEGMENT_PROC_MASTER,
	SEGMENT_PROC_PREFETCHER,
	SEGMENT_PROC_RESOLVER,
	SEGMENT_PROC_WORKER0, /* + slot */
	SEGMENT_PROCS = SEGMENT_PROC_WORKER0 + SEGMENT_WORKERS
};

/* Written by the master. */
struct segment_proc {
	_Atomic uint32_t pid;   /* 0 = not running */
	_Atomic uint32_t ready; /* it said so over its master's inbox */
	_Atomic uint32_t draining;
	_Atomic uint32_t restarts;
	_Atomic uint64_t since_ms;
};

/* Keys of TLS session tickets (RFC 5077 section 4).  Written by the master:
 * so a session goes on in any worker, and after a reload. */
#define SEGMENT_TICKET_KEYS 3u /* the newest is used, all are understood */

struct segment_ticket_key {
	uint8_t name[16];
	uint8_t aes[32];
	uint8_t hmac[32];
};

struct segment_tickets {
	_Atomic uint32_t seq; /* odd while they are changed */
	uint32_t count;
	struct segment_ticket_key keys[SEGMENT_TICKET_KEYS]; /* newest first */
};
_Static_assert(sizeof(struct segment_tickets) == 248, "shared layout");

struct segment {
	uint32_t version;
	uint32_t unused;
	struct segment_proc procs[SEGMENT_PROCS];
	struct segment_tickets tickets;
	/* prefetcher: */
	_Atomic uint32_t
		store_epoch;       /* chunks of older ones need a CRC check */
	_Atomic uint32_t runs_top; /* rows from here on were never used */
	_Atomic uint64_t prefetcher_lives; /* grows by one per new prefetcher */
	/* objects whose record in the index is about to be replaced by another
	 * version or deleted: while it is not 0 workers ask */
	_Atomic uint32_t changing;
	uint32_t unused2;
	_Atomic uint64_t next_object_no; /* numbers are never used twice, */
	_Atomic uint64_t next_run_no;    /* not by a successor either */
	struct segment_run runs[SEGMENT_RUNS];
	struct segment_young young[SEGMENT_YOUNG];
	struct segment_job jobs[SEGMENT_JOBS];
	struct segment_stats stats[SEGMENT_PROCS];
	struct segment_worker workers[SEGMENT_WORKERS];
};

/* Anonymous shared memory, zeroed; pages that nobody touches cost nothing.
 * 0 or -errno. */
int segment_open(struct segment **out) MUSTCHECK;
void segment_close(struct segment *seg);

/* Copies row run_row.  False: free, or its writer was inside all the time;
 * either way look elsewhere and come again. */
bool segment_read_run(struct segment *seg, uint32_t run_row,
		      struct segment_run_view *out);

/* A plain copy of an entry. */
struct segment_sent_view {
	uint64_t object_no;
	uint64_t begin_off;
	uint64_t from_off;
	uint64_t to_off;
	uint32_t generation;
	bool whole;
};

/* The worker has sent these bytes. */
void segment_note_sent(struct segment_worker *worker,
		       const struct segment_sent_view *sent);

/* Copies entry no of what was sent.  False: it was overwritten. */
bool segment_read_sent(struct segment_worker *worker, uint64_t no,
		       struct segment_sent_view *out);

/* For the writer of a row: between the two, every field may be stored. */
void segment_run_begin(struct segment_run *run);
void segment_run_end(struct segment_run *run);

/* The row of touches for a chunk file. */
uint32_t segment_touch_row(uint64_t run_no, uint64_t chunk_no);

static inline void stat_add(struct segment_stats *row, enum stat_no no,
			    uint64_t n)
{
	/* one writer per row: no locked instruction is needed */
	atomic_store_explicit(
		&row->value[no],
		atomic_load_explicit(&row->value[no], memory_order_relaxed) + n,
		memory_order_relaxed);
}

static inline void stat_set(struct segment_stats *row, enum stat_no no,
			    uint64_t n)
{
	atomic_store_explicit(&row->value[no], n, memory_order_relaxed);
}

/* Adds one response with this time to first byte. */
void stat_ttfb(struct segment_stats *row, uint64_t us);

#endif

/*
 * serves - the inside of media responses, for serve.c and wait.c only.
 *
 * Used by: worker.
 */
#ifndef REELCACHE_WORKER_SERVES_H
#define REELCACHE_WORKER_SERVES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/cache_status.h"
#include "ipc/ask.h"
#include "store/store.h"
#include "worker/desk.h"
#include "worker/file.h"
#include "worker/kept.h"
#include "worker/plan.h"

enum serve_state {
	SERVE_LOOKUP,
	SERVE_SEND,
	SERVE_FOLLOW,
	SERVE_ASK,
	SERVE_DONE,
};

enum serve_next {
	SERVE_GO_ON,
	SERVE_WAIT, /* something will call serve_run() */
	SERVE_OVER, /* the struct is gone */
};

/* What a response waits for. */
enum serve_wait {
	SERVE_WAIT_NONE,
	SERVE_WAIT_CLIENT, /* push-back: the sink has its own timer */
	SERVE_WAIT_RUN,
	SERVE_WAIT_REPLY,
	SERVE_WAIT_TICK, /* the store or an inbox was busy */
};

#define SERVE_NO_READER UINT32_MAX

struct serve;
TAILQ_HEAD(serve_list, serve);

/* A multipart/byteranges body. */
struct serve_parts {
	size_t count;
	size_t at; /* part that is being sent */
	char boundary[24];
	const char *content_type; /* behind the spans */
	struct span spans[];
};

struct serve {
	struct desk *desk;
	struct sink *sink;
	TAILQ_ENTRY(serve) wait_link; /* serves.waiting, or free */
	TAILQ_ENTRY(serve) run_link;  /* serves.followers[run_row] */

	const struct head *head;      /* NULL once it is not needed */
	struct kept *kept;            /* owns *head if it had to wait */
	struct object_record *record; /* from a reply, not in the index yet */
	struct file *file;            /* all bytes lie there; no object */
	struct serve_parts *parts;
	struct access_entry *entry;
	const char *key;   /* the caller's until key_owned */
	const char *label; /* behind it then; "" = no quality */

	struct span left;   /* wanted and not sent yet, of this part */
	uint64_t begin_off; /* of the range, or part */
	uint64_t noted_off; /* sent before this byte, and told the prefetcher */
	uint64_t object_no; /* 0 = not known */
	uint64_t size_bytes;
	uint64_t run_no;     /* followed now */
	uint64_t own_run_no; /* started by an ask of this response */
	uint64_t joined_run_no;
	uint64_t token; /* of the ask without a reply; 0 = none */
	uint64_t begun_us;
	uint64_t ttfb_us;
	uint64_t deadline_ms; /* of the wait; 0 = none runs */
	uint64_t again_ms;    /* when to ask again */
	uint64_t bytes_cache;
	uint64_t bytes_inflight;
	uint64_t bytes_origin;

	uint32_t generation;
	uint32_t chunk_bytes;
	uint32_t object_flags;
	uint32_t run_row;
	uint32_t reader; /* row in the segment */
	uint16_t key_bytes;
	uint16_t status;   /* 0 until the head was sent */
	uint8_t state;     /* enum serve_state */
	uint8_t wait;      /* enum serve_wait */
	uint8_t ask_flags; /* ASK_... of the next ask */
	uint8_t in_vain;   /* asks since bytes came */
	uint8_t restarts;  /* generations that went before the head */
	uint8_t why;       /* enum cache_status_how, should it have to wait */
	uint8_t how;       /* enum cache_status_how, as it came */
	bool key_owned : 1;
	bool head_sent : 1;
	bool waited : 1;      /* for an origin */
	bool asked_fresh : 1; /* the record was confirmed for this response */
	bool collapsed : 1;
	bool told_to_wait : 1; /* by a reply: for run_row, run_no */
	bool late : 1;         /* the deadline has passed */
};

struct serves {
	struct desk *desk;
	uint64_t lives; /* of the prefetcher, as last seen */
	uint64_t token_count;
	uint64_t nonce;
	struct serve_list waiting; /* RUN, REPLY, TICK */
	struct serve_list unused;
	uint32_t followed_top;
	struct serve_list followers[SEGMENT_RUNS];

	/* where the bytes of this very step are; never carried over a wait */
	struct store_place place;
	struct span place_span;
	struct object_record probe; /* number and generation for lookups */
	struct plan plan;
	struct object_record sized; /* with a size the index lacks still */

	uint32_t reader_free_count;
	uint32_t reader_top;
	uint32_t reader_free[SEGMENT_READERS];
	struct serve *by_reader[SEGMENT_READERS];
};

/* serve.c: runs the machine until it waits or is over. */
void serve_run(struct serve *sv);
/* Request and record are not needed any more. */
void serve_drop_request(struct serve *sv);

/* serve_head.c: */

/* The head, and of several parts that of the first.  -EINVAL, -ENOSPC: it
 * cannot be, and nothing was sent; else -errno: nothing more can be said. */
int serve_send_head(struct serve *sv, const struct plan *plan,
		    const struct object_record *rec) MUSTCHECK;
int serve_send_part_head(struct serve *sv) MUSTCHECK;
int serve_send_part_tail(struct serve *sv) MUSTCHECK;

/* wait.c: */

/* The row by which the prefetcher sees this reader.  -EBUSY: all in use. */
int wait_reader_open(struct serve *sv) MUSTCHECK;
/* Shows position, end and object; nothing without a row or an object. */
void wait_reader_show(struct serve *sv);
void wait_reader_close(struct serve *sv);

/* Sends the ask for sv->left, or for the request when nothing is known. */
void wait_for_reply(struct serve *sv);
/* True: it waits; false: the run has moved on already, look again. */
bool wait_for_run(struct serve *sv);
void wait_for_tick(struct serve *sv);
void wait_leave(struct serve *sv);

#endif

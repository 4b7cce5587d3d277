#include "prefetcher/origins.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "upstream/template.h"
#include "util/log.h"
#include "util/span.h"

#define SEGMENT_UNKNOWN MIB
#define SEGMENT_LEAST   (256 * KIB)
#define SEGMENT_MOST    (4 * MIB)
#define RATE_BYTES      (256 * KIB) /* less says nothing of a rate */
#define RATE_MS         250
#define TRY_MS          400  /* how long a number of connections is measured */
#define SETTLE_MS       300  /* before that: connections are being made */
#define UNUSED_MS       2000 /* more connections were allowed, and not used */
#define HOLD_FIRST_MS   60000
#define HOLD_MOST_MS    600000
#define BLOCK_FIRST_MS  500
#define BLOCK_MOST_MS   60000
#define TOLERATED_MS    60000 /* good for so long: one more is tolerated */
#define SAVE_MS         10000
#define FORGET_S        (7 * 86400)
#define STARVED_GAP_MS  1000

enum climb {
	CLIMB_REST,    /* the number is good, or nobody was starved */
	CLIMB_BEFORE,  /* measures what it had */
	CLIMB_SETTLE,  /* more were allowed */
	CLIMB_MEASURE, /* measures what they bring */
};

struct origin {
	UT_hash_handle hh;
	struct origins *os;
	uint32_t active;
	uint32_t ahead; /* of these */
	uint64_t used_ms;
	/* learned */
	uint64_t range_max;             /* SIZE_UNKNOWN: no limit is known */
	uint64_t range_seen;            /* longest that was answered */
	uint64_t range_try;             /* shorter ones are tried; 0 = no */
	uint64_t bounded_bps, open_bps; /* bytes/s of one transfer; 0 */
	uint64_t first_byte_ms;
	bool prefers_bounded;
	uint32_t parallel;
	uint32_t tolerated;
	/* climbing */
	enum climb climb;
	uint32_t parallel_before;
	uint64_t came; /* body bytes, ever */
	uint64_t measured_from, measured_ms;
	uint64_t rate_before;
	uint64_t starved_ms;
	uint64_t hold_until_ms, hold_ms;
	/* busy */
	uint64_t blocked_until_ms, block_ms;
	uint64_t tolerated_ms; /* when it last changed */
	/* bandwidth */
	int64_t tokens;
	uint64_t refilled_ms;
	bool dirty;
	uint64_t saved_ms;
	char name[TEMPLATE_ORIGIN_BYTES];
};

struct origins {
	struct origins_opts opts;
	struct origin *all; /* uthash */
};

int origins_open(struct origins **out, const struct origins_opts *opts)
{
	struct origins *os = calloc(1, sizeof(*os));

	if (os == NULL)
		return -ENOMEM;
	must(opts->hard > 0 && opts->ahead > 0);
	os->opts = *opts;
	*out = os;
	return 0;
}

static void drop(struct origins *os, struct origin *o)
{
	HASH_DEL(os->all, o);
	free(o);
}

void origins_close(struct origins *os)
{
	struct origin *o, *next;

	if (os == NULL)
		return;
	HASH_ITER (hh, os->all, o, next)
		drop(os, o);
	free(os);
}

static bool make_room(struct origins *os)
{
	struct origin *oldest = NULL, *o, *next;

	if (HASH_COUNT(os->all) < ORIGINS_MAX)
		return true;
	HASH_ITER (hh, os->all, o, next)
		if (o->active == 0 &&
		    (oldest == NULL || o->used_ms < oldest->used_ms))
			oldest = o;
	if (oldest == NULL)
		return false;
	drop(os, oldest);
	return true;
}

static struct origin *find(struct origins *os, const char *name,
			   uint64_t now_ms)
{
	struct origin *o;

	HASH_FIND_STR(os->all, name, o);
	if (o != NULL) {
		o->used_ms = now_ms;
		return o;
	}
	o = make_room(os) ? calloc(1, sizeof(*o)) : NULL;
	if (o == NULL)
		return NULL;
	memcpy(o->name, name, strlen(name) + 1);
	o->os = os;
	o->used_ms = o->saved_ms = o->refilled_ms = now_ms;
	o->range_max = SIZE_UNKNOWN;
	o->parallel = 1;
	o->tolerated = os->opts.hard;
	o->hold_ms = HOLD_FIRST_MS;
	HASH_ADD_STR(os->all, name, o);
	return o;
}

struct origin *origins_of_url(struct origins *os, const char *url,
			      uint64_t now_ms)
{
	char name[TEMPLATE_ORIGIN_BYTES];

	if (template_origin(url, name, sizeof(name)) < 0)
		return NULL;
	return find(os, name, now_ms);
}

const char *origin_name(const struct origin *o)
{
	return o->name;
}

/* ---- transfers in progress ---- */

void origin_begin(struct origin *o, bool ahead)
{
	o->active++;
	o->ahead += ahead;
}

void origin_end(struct origin *o, bool ahead)
{
	must(o->active > 0 && o->ahead >= (uint32_t)ahead);
	o->active--;
	o->ahead -= ahead;
}

uint32_t origin_active(const struct origin *o)
{
	return o->active;
}

uint32_t origin_ahead(const struct origin *o)
{
	return o->ahead;
}

uint64_t origin_blocked_until_ms(const struct origin *o)
{
	return o->blocked_until_ms;
}

uint32_t origin_limit(const struct origin *o)
{
	return (uint32_t)min_u64(o->tolerated, o->os->opts.hard);
}

uint32_t origin_parallel(const struct origin *o)
{
	return (uint32_t)min_u64(min_u64(o->parallel, o->os->opts.ahead),
				 o->tolerated);
}

static uint64_t longest(const struct origin *o)
{
	return o->range_try > 0 ? o->range_try : o->range_max;
}

uint64_t origin_segment(const struct origin *o)
{
	uint64_t bps = o->bounded_bps > 0 ? o->bounded_bps : o->open_bps;
	uint64_t n = bps == 0 ? SEGMENT_UNKNOWN : bps / (64 * KIB) * 64 * KIB;

	n = max_u64(min_u64(n, SEGMENT_MOST), SEGMENT_LEAST);
	return min_u64(n, longest(o));
}

uint64_t origin_range_end(const struct origin *o, uint64_t from, uint64_t to)
{
	uint64_t most = longest(o);

	/* a few pieces a request: each costs the time to its first byte */
	if (o->prefers_bounded || origin_parallel(o) > 1)
		most = min_u64(most, origin_parallel(o) > 1
					     ? origin_segment(o)
					     : 4 * origin_segment(o));
	if (most >= SIZE_UNKNOWN - from)
		return to;
	return min_u64(to, from + most);
}

/* ---- bandwidth ---- */

bool origin_has_tokens(struct origin *o, uint64_t now_ms)
{
	uint64_t bps = o->os->opts.bps;
	uint64_t ms = min_u64(now_ms - o->refilled_ms, 1000);

	if (bps == 0)
		return true;
	if (ms >= 10) {
		o->refilled_ms = now_ms;
		o->tokens +=
			(int64_t)(bps / 1000 * ms + bps % 1000 * ms / 1000);
		if (o->tokens > (int64_t)(bps / 4))
			o->tokens = (int64_t)(bps / 4);
	}
	return o->tokens > 0;
}

void origin_take_tokens(struct origin *o, uint64_t n)
{
	if (o->os->opts.bps > 0)
		o->tokens -= (int64_t)n;
}

/* ---- rates ---- */

void origin_note_bytes(struct origin *o, uint64_t n)
{
	o->came += n;
}

static void blend(uint64_t *average, uint64_t value)
{
	*average = *average == 0 ? value : (*average * 3 + value) / 4;
}

void origin_note_rate(struct origin *o, uint64_t bytes, uint64_t body_ms,
		      uint64_t first_byte_ms, bool bounded)
{
	bool before = o->prefers_bounded;

	blend(&o->first_byte_ms, first_byte_ms);
	/* a short one says something only when it was slow */
	if (bytes < RATE_BYTES && body_ms < 4 * RATE_MS)
		return;
	if ((bounded ? o->bounded_bps : o->open_bps) == 0)
		o->dirty = true;
	blend(bounded ? &o->bounded_bps : &o->open_bps,
	      bytes * 1000 / max_u64(body_ms, 1));
	/* of one that came at once the sockets' buffers tell more than it */
	if (o->bounded_bps > 0 && o->open_bps > 0)
		o->prefers_bounded = o->bounded_bps / 2 >= o->open_bps &&
				     body_ms >= RATE_MS / 5;
	if (before)
		o->prefers_bounded =
			o->open_bps == 0 || o->bounded_bps >= o->open_bps;
	if (before != o->prefers_bounded)
		o->dirty = true;
}

/* ---- the longest range ---- */

void origin_note_accepted(struct origin *o, uint64_t range_bytes)
{
	o->range_seen = max_u64(o->range_seen, range_bytes);
	/* one that is much shorter says nothing of this length */
	if (o->range_try > 0 && range_bytes <= o->range_try &&
	    range_bytes > o->range_try / 2) {
		o->range_max = o->range_try; /* it was the length */
		o->range_try = 0;
		o->dirty = true;
	}
	if (o->range_max < range_bytes) {
		o->range_max = SIZE_UNKNOWN; /* not any more */
		o->dirty = true;
	}
}

bool origin_note_refused(struct origin *o, uint64_t range_bytes)
{
	static const uint64_t steps[] = { MIB, 256 * KIB };

	/* longer ones were fine: it means the object */
	if (range_bytes <= o->range_seen)
		return false;
	for (size_t n = 0; n < ARRAY_LEN(steps); n++) {
		if (steps[n] >= range_bytes)
			continue;
		o->range_try = steps[n];
		return true;
	}
	o->range_try = 0; /* it was not the length */
	return false;
}

/* ---- busy ---- */

/* A trial that came to no judgement. */
static void give_up_trial(struct origin *o)
{
	if (o->climb == CLIMB_SETTLE || o->climb == CLIMB_MEASURE)
		o->parallel = o->parallel_before;
	o->climb = CLIMB_REST;
}

void origin_note_busy(struct origin *o, uint64_t retry_after_ms,
		      uint64_t now_ms)
{
	if (o->blocked_until_ms > now_ms && retry_after_ms == 0)
		return; /* said of requests that were sent before */
	o->block_ms = o->block_ms == 0
			      ? BLOCK_FIRST_MS
			      : min_u64(o->block_ms * 2, BLOCK_MOST_MS);
	o->blocked_until_ms = max_u64(
		o->blocked_until_ms,
		now_ms + (retry_after_ms > 0 ? retry_after_ms : o->block_ms));
	if (now_ms - o->tolerated_ms < BLOCK_FIRST_MS && o->tolerated_ms != 0)
		return;
	/* the one that was refused is among the active ones; alone it was not
	 * one too many */
	if (o->active > 1)
		o->tolerated = (uint32_t)min_u64(o->tolerated, o->active - 1);
	o->tolerated_ms = now_ms;
	give_up_trial(o);
	o->hold_until_ms = now_ms + o->hold_ms;
	o->dirty = true;
}

void origin_note_good(struct origin *o, uint64_t now_ms)
{
	if (o->blocked_until_ms <= now_ms)
		o->block_ms = 0;
	if (o->tolerated < o->os->opts.hard &&
	    now_ms - o->tolerated_ms >= TOLERATED_MS) {
		o->tolerated++;
		o->tolerated_ms = now_ms;
		o->dirty = true;
	}
}

/* ---- climbing ---- */

static void measure(struct origin *o, enum climb climb, uint64_t now_ms)
{
	o->climb = climb;
	o->measured_from = o->came;
	o->measured_ms = now_ms;
}

static uint64_t rate(const struct origin *o, uint64_t now_ms)
{
	return (o->came - o->measured_from) * 1000 /
	       max_u64(now_ms - o->measured_ms, 1);
}

static uint32_t next_parallel(const struct origin *o)
{
	return (uint32_t)min_u64(min_u64(o->parallel * 2, o->os->opts.ahead),
				 o->tolerated);
}

static void try_more(struct origin *o, uint64_t now_ms)
{
	uint32_t more = next_parallel(o);

	if (more <= o->parallel) {
		o->climb = CLIMB_REST;
		o->hold_until_ms = now_ms + HOLD_FIRST_MS;
		return;
	}
	o->parallel_before = o->parallel;
	o->parallel = more;
	measure(o, CLIMB_SETTLE, now_ms);
}

static void judge(struct origin *o, uint64_t now_ms)
{
	uint64_t now = rate(o, now_ms);
	/* what each further connection should bring */
	uint64_t ideal = o->rate_before * (o->parallel - o->parallel_before) /
			 o->parallel_before;

	log_info("ev=origin_tried origin=%s connections=%u before=%u bps=%llu "
		 "before_bps=%llu",
		 o->name, o->parallel, o->parallel_before,
		 (unsigned long long)now, (unsigned long long)o->rate_before);
	if (now > o->rate_before && now - o->rate_before >= ideal * 3 / 10) {
		o->rate_before = now;
		o->hold_ms = HOLD_FIRST_MS;
		o->dirty = true;
		try_more(o, now_ms);
		return;
	}
	o->parallel = o->parallel_before;
	o->climb = CLIMB_REST;
	o->hold_until_ms = now_ms + o->hold_ms;
	o->hold_ms = min_u64(o->hold_ms * 2, HOLD_MOST_MS);
}

/* Until so many connections are in use: their number tells nothing before. */
static void settle(struct origin *o, uint64_t waited_ms, uint64_t now_ms)
{
	uint64_t least_ms = SETTLE_MS + min_u64(o->first_byte_ms, 5000);

	if (waited_ms < least_ms)
		return;
	if (o->active >= o->parallel) {
		measure(o, CLIMB_MEASURE, now_ms);
	} else if (waited_ms >= least_ms + UNUSED_MS) {
		o->parallel = o->parallel_before; /* nothing is so large */
		o->climb = CLIMB_REST;
		o->hold_until_ms = now_ms + UNUSED_MS;
	}
}

void origin_tick_starved(struct origin *o, uint64_t now_ms)
{
	bool anew = now_ms - o->starved_ms > STARVED_GAP_MS;

	if (o->starved_ms == now_ms)
		return;
	o->starved_ms = now_ms;
	if (anew) /* what came in between tells nothing */
		give_up_trial(o);
	switch (o->climb) {
	case CLIMB_REST:
		if (now_ms >= o->hold_until_ms &&
		    next_parallel(o) > o->parallel)
			measure(o, CLIMB_BEFORE, now_ms);
		return;
	case CLIMB_BEFORE:
		if (now_ms - o->measured_ms < TRY_MS)
			return;
		o->rate_before = rate(o, now_ms);
		if (o->rate_before > 0)
			try_more(o, now_ms);
		else
			measure(o, CLIMB_BEFORE, now_ms);
		return;
	case CLIMB_SETTLE:
		settle(o, now_ms - o->measured_ms, now_ms);
		return;
	case CLIMB_MEASURE:
		if (now_ms - o->measured_ms >= TRY_MS)
			judge(o, now_ms);
		return;
	}
}

/* ---- what is kept ---- */

static void make_record(const struct origin *o, int64_t wall_s,
			struct origin_record *rec)
{
	bool trying = o->climb == CLIMB_SETTLE || o->climb == CLIMB_MEASURE;

	*rec = (struct origin_record){
		.version = ORIGIN_RECORD_VERSION,
		.parallel = trying ? o->parallel_before : o->parallel,
		.tolerated = o->tolerated,
		.flags = o->prefers_bounded ? ORIGIN_PREFERS_BOUNDED : 0,
		.range_max = o->range_max,
		.bounded_bps = o->bounded_bps,
		.open_bps = o->open_bps,
		.first_byte_ms = o->first_byte_ms,
		.learned_s = wall_s,
	};
}

bool origins_next_dirty(struct origins *os, uint64_t now_ms, int64_t wall_s,
			const char **name, struct origin_record *rec)
{
	struct origin *o, *next;

	HASH_ITER (hh, os->all, o, next) {
		if (now_ms - o->starved_ms > STARVED_GAP_MS)
			give_up_trial(o);
		if (!o->dirty || now_ms - o->saved_ms < SAVE_MS)
			continue;
		o->dirty = false;
		o->saved_ms = now_ms;
		*name = o->name;
		make_record(o, wall_s, rec);
		return true;
	}
	return false;
}

void origins_load(struct origins *os, const char *name,
		  const struct origin_record *rec, int64_t wall_s,
		  uint64_t now_ms)
{
	struct origin *o;

	if (rec->learned_s > wall_s || wall_s - rec->learned_s > FORGET_S ||
	    strlen(name) >= TEMPLATE_ORIGIN_BYTES)
		return;
	o = find(os, name, now_ms);
	if (o == NULL)
		return;
	o->parallel =
		(uint32_t)max_u64(1, min_u64(rec->parallel, os->opts.ahead));
	o->tolerated =
		(uint32_t)max_u64(1, min_u64(rec->tolerated, os->opts.hard));
	o->tolerated_ms = now_ms;
	o->prefers_bounded = (rec->flags & ORIGIN_PREFERS_BOUNDED) != 0;
	if (rec->range_max >= 64 * KIB)
		o->range_max = rec->range_max;
	o->bounded_bps = rec->bounded_bps;
	o->open_bps = rec->open_bps;
	o->first_byte_ms = min_u64(rec->first_byte_ms, 60000);
}

void origins_each(struct origins *os, int64_t wall_s,
		  void (*each)(void *ctx, const struct origin *o,
			       const struct origin_record *rec),
		  void *ctx)
{
	struct origin *o, *next;
	struct origin_record rec;

	HASH_ITER (hh, os->all, o, next) {
		make_record(o, wall_s, &rec);
		each(ctx, o, &rec);
	}
}

#include "prefetcher/schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "media/media.h"
#include "prefetcher/describe.h"
#include "prefetcher/jobs.h"
#include "prefetcher/origins.h"
#include "prefetcher/plan.h"
#include "prefetcher/run.h"
#include "util/clock.h"
#include "util/log.h"

#define PASS_MS        100
#define READERS_AGE_MS 50
#define NEEDS_MAX      4096u
#define PIECES_MAX     64u          /* needs of one playhead or job, a pass */
#define RATE_UNKNOWN   (MIB / 1000) /* bytes a ms of what has no bitrate */
#define JOB_RATE       (500 * KIB)  /* bytes a s, for seconds of no video */
#define BEGUN_KIB      512          /* who has read less has only begun */
#define PROBE_BYTES    (512 * KIB)  /* of an object that is not known yet */
#define CROWD_BYTES    (64 * KIB)   /* who is so near needs the same */
#define PASS_PARTS     10           /* a pass may take a tenth of the time */
#define CUT_PIECES     3 /* left behind the one that an open run keeps */
#define PART_ALIGN     (64 * KIB)
#define INDEX_FEED     (512 * KIB) /* bytes given to a parser in a pass */
#define STARVED_MS     1000        /* since somebody was last starved */
#define PREEMPT_MS     2000        /* later than this can wait */
#define DEPTH_MS       5000
#define DEPTH_LEAST    12u
#define DEPTH_STEP     12u
#define MAP_MS         2000  /* since GET /map last asked for it */
#define JOB_FAULT_MS   30000 /* how long a job bears an origin's faults */

/* Bytes that no run brings yet. */
struct need {
	struct title *title;
	uint64_t from_off;
	uint64_t to_off;
	uint64_t deadline_ms; /* when its first byte is needed */
	bool demand;          /* an ask waits: the title's asks are looked at */
	bool for_job;
	bool piece; /* one of several connections for one object */
};

struct schedule {
	struct plan *plan;
	uint64_t passed_ms;
	uint64_t pass_ms; /* until the next one */
	struct need needs[NEEDS_MAX];
	size_t count;
	uint64_t room;     /* bytes that prefetches may still ask for */
	uint64_t slack_ms; /* of the viewer who has least ahead */
	bool busy;
	/* bandwidth of what nobody waits for: bytes that may still be taken */
	int64_t tokens;
	uint64_t refilled_ms;
	/* waste, of late */
	uint32_t depth_percent;
	uint64_t judged_ms;
	uint64_t useful, wasted; /* as counted then */
	double useful_lately, wasted_lately;
};

static const struct conf_prefetch *conf_of(const struct plan *plan)
{
	return &plan->opts.conf->prefetch;
}

int schedule_open(struct schedule **out, struct plan *plan)
{
	struct schedule *sc = calloc(1, sizeof(*sc));

	if (sc == NULL)
		return -ENOMEM;
	sc->plan = plan;
	sc->depth_percent = 100;
	sc->pass_ms = PASS_MS;
	sc->refilled_ms = plan->now_ms;
	*out = sc;
	return 0;
}

void schedule_close(struct schedule *sc)
{
	free(sc);
}

uint32_t schedule_depth_percent(const struct plan *plan)
{
	return plan->schedule->depth_percent;
}

uint64_t schedule_passed_ms(const struct plan *plan)
{
	return plan->schedule->passed_ms;
}

bool schedule_busy(const struct plan *plan)
{
	return plan->schedule->busy;
}

/* ---- bandwidth ---- */

/* An ask waits for it: one that was led to it, or, while it has no row that
 * could be told of, any of its title. */
static bool is_waited_for(const struct run *run)
{
	return run_is_asked(run) ||
	       (run->fill == NULL && !TAILQ_EMPTY(&run->title->waiters));
}

/* Nobody is going to wait for its next byte soon. */
static bool can_wait(const struct run *run)
{
	const struct plan *plan = run->title->plan;

	if (is_waited_for(run))
		return false;
	if (run->for_job && run->readers == 0)
		return true;
	return run->deadline_ms > plan->now_ms + conf_of(plan)->min_slack;
}

static void refill(struct schedule *sc, uint64_t now_ms)
{
	uint64_t bps = conf_of(sc->plan)->bandwidth;
	uint64_t ms = min_u64(now_ms - sc->refilled_ms, 1000);

	sc->refilled_ms = now_ms;
	if (bps == 0)
		return;
	/* at most a quarter of a second is saved up */
	sc->tokens += (int64_t)(bps / 1000 * ms + bps % 1000 * ms / 1000);
	if (sc->tokens > (int64_t)(bps / 4))
		sc->tokens = (int64_t)(bps / 4);
}

bool schedule_holds(const struct run *run)
{
	const struct plan *plan = run->title->plan;

	if (!can_wait(run))
		return false;
	if (run->hold)
		return true;
	if (conf_of(plan)->bandwidth > 0 && plan->schedule->tokens <= 0)
		return true;
	return conf_of(plan)->origin_bandwidth > 0 && run->origin != NULL &&
	       !origin_has_tokens(run->origin, plan->now_ms);
}

void schedule_took(struct run *run, uint64_t n)
{
	struct plan *plan = run->title->plan;

	if (!can_wait(run))
		return;
	plan->schedule->tokens -= (int64_t)n;
	if (run->origin != NULL)
		origin_take_tokens(run->origin, n);
}

/* ---- time and bytes ---- */

/* How long it takes to play from one byte to the other. */
static uint64_t playing_ms(const struct title *t, uint64_t from, uint64_t to)
{
	uint64_t a, b;

	if (to <= from)
		return 0;
	if (t->media == NULL)
		return (to - from) / RATE_UNKNOWN;
	a = media_time_at(t->media, from);
	b = media_time_at(t->media, to);
	return b > a ? b - a
	       : media_info(t->media)->duration_ms == 0
		       ? (to - from) / RATE_UNKNOWN
		       : 0;
}

/* Parses what is stored of the object's index.  True: it wants *want. */
static bool feed_media(struct title *t, struct span *want)
{
	static uint8_t bytes[64 * KIB];
	const struct object_record *rec = t->obj->record;
	size_t left = INDEX_FEED;

	if (rec == NULL || rec->size_bytes == 0 ||
	    rec->size_bytes == SIZE_UNKNOWN)
		return false;
	if (t->media != NULL && t->media_generation != rec->generation) {
		media_free(t->media);
		t->media = NULL;
	}
	if (t->media == NULL) {
		if (media_new(&t->media, rec->size_bytes) < 0) {
			t->media = NULL;
			return false;
		}
		t->media_generation = rec->generation;
	}
	while (left > 0 && media_state(t->media) == MEDIA_WANTS) {
		size_t got;

		*want = media_want(t->media);
		got = plan_read(
			t, want->from, bytes,
			min_u64(min_u64(span_len(*want), left), sizeof(bytes)));
		if (got == 0)
			return true;
		media_feed(t->media, want->from, bytes, got);
		left -= got;
	}
	if (media_state(t->media) == MEDIA_READY && !t->media_told) {
		const struct media_info *info = media_info(t->media);

		t->media_told = true;
		log_debug("ev=media_known key=%s duration_ms=%llu "
			  "bitrate_bps=%llu index_behind=%d",
			  t->obj->key, (unsigned long long)info->duration_ms,
			  (unsigned long long)info->bitrate_bps,
			  info->index_behind);
		/* a start is worth more than a middle */
		if (span_len(info->head) > 0)
			catalog_mark_start(t->plan->cat, t->obj, info->head);
		if (span_len(info->index) > 0)
			catalog_mark_start(t->plan->cat, t->obj, info->index);
	}
	return false;
}

/* ---- what runs bring ---- */

/* Where this run will stop: its own end, what is there, another run. */
static uint64_t end_of_run(const struct title *t, const struct run *run)
{
	uint64_t next = run_next_off(run), to = run->end_off;
	const struct run *other;

	to = min_u64(to, catalog_next_present(t->obj, next));
	TAILQ_FOREACH (other, &t->runs, link)
		if (other != run && other->fill != NULL &&
		    fill_have_from(other->fill) > next)
			to = min_u64(to, fill_have_from(other->fill));
	return to;
}

/* The run that brings off sooner or later, or NULL; *end is where it stops. */
static struct run *run_bringing(struct title *t, uint64_t off, uint64_t *end)
{
	struct run *run;

	TAILQ_FOREACH (run, &t->runs, link) {
		/* what it has taken, but not written yet, is not missing */
		uint64_t from =
			run->fill != NULL ? run->fill->to_off : run->pos_off;

		if (run->revalidate || run->probe || from > off)
			continue;
		*end = run->whole ? SIZE_UNKNOWN : end_of_run(t, run);
		if (off < *end)
			return run;
	}
	return NULL;
}

/* First byte behind off that is there, or that a run brings. */
static uint64_t gap_end(const struct title *t, uint64_t off)
{
	uint64_t to = catalog_next_present(t->obj, off);
	const struct run *run;

	TAILQ_FOREACH (run, &t->runs, link) {
		uint64_t from = run->fill != NULL ? fill_have_from(run->fill)
						  : run_next_off(run);

		if (from > off)
			to = min_u64(to, from);
	}
	return to;
}

/* ---- needs ---- */

static void add_need(struct schedule *sc, const struct need *need)
{
	/* several playheads may need the same: the first one counts */
	for (size_t n = sc->count; n > 0; n--) {
		struct need *other = &sc->needs[n - 1];

		if (other->title != need->title || other->demand)
			break;
		if (other->from_off <= need->from_off &&
		    need->from_off < other->to_off) {
			other->deadline_ms =
				min_u64(other->deadline_ms, need->deadline_ms);
			other->for_job = other->for_job && need->for_job;
			return;
		}
	}
	if (sc->count < NEEDS_MAX)
		sc->needs[sc->count++] = *need;
}

/* Whether several connections are to share what is needed of a title. */
static uint64_t piece_bytes(struct title *t, const struct origin *o,
			    bool for_job)
{
	bool starved = t->plan->now_ms - t->starved_ms < STARVED_MS;

	if (o == NULL || origin_parallel(o) < 2 || (!starved && !for_job))
		return 0;
	return origin_segment(o);
}

/* What is to be there of a title, and when. */
struct wish {
	struct title *title;
	uint64_t from_off; /* played from here at from_ms */
	uint64_t to_off;
	uint64_t from_ms;
	uint64_t least_bytes; /* less than this at its end is not worth a run */
	bool for_job;
	bool keeps; /* runs for it go on though no reader's row shows */
};

static uint64_t deadline_at(const struct schedule *sc, const struct wish *w,
			    uint64_t off)
{
	if (conf_of(sc->plan)->order == CONF_ORDER_ARRIVAL)
		return w->from_ms;
	return w->from_ms + playing_ms(w->title, w->from_off, off);
}

/* Needs for [from, to), which no run brings. */
static void need_gap(struct schedule *sc, const struct wish *w, uint64_t from,
		     uint64_t to, uint64_t piece)
{
	for (unsigned n = 0; from < to && n < PIECES_MAX; n++) {
		uint64_t end = piece > 0 ? min_u64(to, from + piece) : to;
		struct need need = { .title = w->title,
				     .from_off = from,
				     .to_off = end,
				     .deadline_ms = deadline_at(sc, w, from),
				     .for_job = w->for_job,
				     .piece = piece > 0 };

		add_need(sc, &need);
		from = end;
	}
}

/* A run brings [off, end) of the wish.  Returns how far it is trusted to:
 * where others are to help, no further than a piece. */
static uint64_t use_run(struct schedule *sc, const struct wish *w,
			struct run *run, uint64_t off, uint64_t end,
			uint64_t piece)
{
	uint64_t now_ms = sc->plan->now_ms;
	uint64_t to = min_u64(end, w->to_off);

	run->deadline_ms = min_u64(run->deadline_ms, deadline_at(sc, w, off));
	if (run->ahead || w->keeps)
		run->wanted_ms = now_ms;
	if (run->ahead || w->for_job)
		run->limit_off = max_u64(run->limit_off, to);
	if (piece == 0 || run->whole)
		return end;
	/* it has the first piece to itself, and what it has asked for */
	to = run_next_off(run) + piece;
	if (run->range_end != SIZE_UNKNOWN && run->counted)
		to = max_u64(to, run->range_end);
	/* an open request that is cut leaves bytes behind: not for little */
	else if (min_u64(end, w->to_off) < to + CUT_PIECES * piece)
		return end;
	return to + piece / 2 < end ? max_u64(to, off) : end;
}

/* True: all of it is there. */
static bool grant(struct schedule *sc, const struct wish *w)
{
	struct title *t = w->title;
	struct origin *o = plan_origin(t);
	uint64_t piece = piece_bytes(t, o, w->for_job);
	uint64_t off = w->from_off;
	bool all = true;

	for (unsigned n = 0; n < PIECES_MAX; n++) {
		uint64_t end, from;
		struct run *run;

		off = plan_first_missing(t, off);
		if (off >= w->to_off)
			return all;
		all = false;
		t->used_ms = sc->plan->now_ms;
		run = run_bringing(t, off, &end);
		if (run == NULL) {
			end = min_u64(gap_end(t, off), w->to_off);
			if (end < w->to_off || end - off >= w->least_bytes)
				need_gap(sc, w, off, end, piece);
			off = end;
			continue;
		}
		from = use_run(sc, w, run, off, end, piece);
		if (from < end && from < w->to_off)
			need_gap(sc, w, from,
				 min_u64(min_u64(end, w->to_off),
					 gap_end(t, from)),
				 piece);
		off = min_u64(end, w->to_off);
	}
	return false;
}

/* ---- who needs: viewers ---- */

/* Somebody plays at pos_off, and is known to want bytes until end_off.  row:
 * NULL for who plays on by one range after the other. */
static void need_ahead(struct schedule *sc, struct object *obj,
		       uint64_t pos_off, uint64_t end_off,
		       const struct reader *row)
{
	struct plan *plan = sc->plan;
	uint64_t size = obj->record->size_bytes, window, missing, slack;
	struct title *t = obj->plan;
	struct span want;
	struct wish wish;

	if (size == SIZE_UNKNOWN || pos_off >= size)
		return;
	if (t == NULL) {
		/* all that is wanted may be there: then nothing is to do */
		missing = pos_off;
		while (catalog_extent_at(obj, missing) != NULL)
			missing = catalog_extent_at(obj, missing)->span.to;
		if (missing >= min_u64(size, pos_off + plan->lead_bytes))
			return;
		t = plan_title(plan, obj);
		if (t == NULL)
			return;
	}
	if (plan_failing(t))
		return;
	sc->busy = true;
	t->used_ms = plan->now_ms;
	missing = plan_first_missing(t, pos_off);
	slack = playing_ms(t, pos_off, min_u64(missing, size));
	if (row != NULL && missing < min_u64(size, end_off))
		sc->slack_ms = min_u64(sc->slack_ms, slack);
	if (conf_of(plan)->order == CONF_ORDER_ARRIVAL)
		return; /* each run goes on as it was asked for */
	window = plan_window(t, pos_off);
	wish = (struct wish){ .title = t,
			      .from_off = pos_off,
			      .to_off = min_u64(min_u64(size, end_off),
						pos_off + window),
			      .from_ms = plan->now_ms,
			      .keeps = row == NULL };
	if (feed_media(t, &want) && t->media != NULL &&
	    media_info(t->media)->index_behind) {
		/* the player will turn to its index next */
		struct wish index = { .title = t,
				      .from_off = want.from / PART_ALIGN *
						  PART_ALIGN,
				      .to_off = want.to,
				      .from_ms = plan->now_ms,
				      .keeps = true };

		(void)grant(sc, &index);
	}
	/* a row's own run follows it; others come in quarters of a window */
	if (wish.to_off == pos_off + window)
		wish.least_bytes = window / 4;
	/* who has only begun may be on the way to somewhere else: the run of
	 * the first missing byte will do */
	if (row != NULL && row->sent_kib < BEGUN_KIB &&
	    plan->now_ms - t->starved_ms >= STARVED_MS)
		wish.to_off = min_u64(wish.to_off, missing + 1);
	(void)grant(sc, &wish);
}

static void need_for_rows(struct schedule *sc)
{
	struct readers *rd = &sc->plan->cat->readers;
	const struct reader *last = NULL;
	struct object *obj = NULL;

	readers_refresh(rd, sc->plan->now_ms, READERS_AGE_MS);
	for (size_t n = 0; n < rd->count; n++) {
		const struct reader *row = &rd->rows[n];
		bool same = last != NULL && last->object_no == row->object_no &&
			    last->generation == row->generation;

		/* rows are sorted: of a crowd one speaks for all */
		if (same && row->pos_off - last->pos_off < CROWD_BYTES &&
		    row->end_off <= last->end_off)
			continue;
		if (!same)
			obj = catalog_find_no(sc->plan->cat, row->object_no);
		if (obj == NULL || obj->record == NULL ||
		    obj->record->generation != row->generation)
			continue;
		need_ahead(sc, obj, row->pos_off, row->end_off, row);
		last = row;
	}
}

static void need_for_playhead(void *ctx, uint64_t object_no,
			      uint32_t generation, uint64_t pos_off)
{
	struct schedule *sc = ctx;
	struct object *obj = catalog_find_no(sc->plan->cat, object_no);

	if (obj != NULL && obj->record != NULL &&
	    obj->record->generation == generation)
		need_ahead(sc, obj, pos_off, SIZE_UNKNOWN, NULL);
}

/* Asks that found no connection: the one that waits longest first. */
static void need_for_asks(struct schedule *sc)
{
	struct title *t;

	TAILQ_FOREACH (t, &sc->plan->titles, link) {
		const struct waiter *w = TAILQ_FIRST(&t->waiters);

		if (w == NULL || sc->count == NEEDS_MAX)
			continue;
		sc->needs[sc->count++] = (struct need){
			.title = t,
			.deadline_ms = w->first_ms,
			.demand = true,
		};
	}
}

/* ---- who needs: jobs ---- */

/* Bytes that are still to come because of a job; of what has no end none. */
static uint64_t asked_by_job(const struct run *run)
{
	const struct object_record *rec = run->title->obj->record;
	uint64_t to = run->end_off, next = run_next_off(run);

	if (to == SIZE_UNKNOWN && run->whole && rec != NULL)
		to = rec->size_bytes;
	return run->for_job && to != SIZE_UNKNOWN && to > next ? to - next : 0;
}

/* What the budget leaves, when all that jobs have asked for has come. */
static uint64_t room_for_jobs(const struct plan *plan)
{
	uint64_t budget = conf_of(plan)->budget;
	uint64_t used = plan->cat->unseen_bytes;
	const struct title *t;
	const struct run *run;

	TAILQ_FOREACH (t, &plan->titles, link)
		TAILQ_FOREACH (run, &t->runs, link)
			used += asked_by_job(run);
	return budget > used ? budget - used : 0;
}

static void end_job(struct schedule *sc, struct job *job, enum job_state state,
		    uint32_t status, const char *reason)
{
	job_end(sc->plan->jobs, job, state, status, reason, sc->plan->now_ms);
	log_info("ev=job_ended job=%llu state=%s status=%u why=\"%s\"",
		 (unsigned long long)job->no, job_state_name(state), status,
		 reason);
}

/* Nothing is known of the object: its first bytes tell. */
static void probe(struct schedule *sc, struct title *t, uint64_t deadline_ms)
{
	const struct run_want want = { .end_off = PROBE_BYTES,
				       .want_to = PROBE_BYTES,
				       .probe = true,
				       .ahead = true,
				       .for_job = true,
				       .deadline_ms = deadline_ms };
	struct run *run = TAILQ_FIRST(&t->runs);
	int rc;

	if (run != NULL) {
		run->wanted_ms = sc->plan->now_ms;
		return;
	}
	rc = run_start(t, &want, &run);
	if (rc < 0 && rc != -EAGAIN)
		plan_failed(t, 502, 1000, 0, strerror(-rc));
}

/* What is stale would be asked of the origin when it is played: better now.
 * True: the origin is being asked. */
static bool confirm(struct title *t, struct job *job)
{
	const struct run_want want = { .end_off = PROBE_BYTES,
				       .want_to = PROBE_BYTES,
				       .revalidate = true,
				       .ahead = true,
				       .for_job = true,
				       .deadline_ms = job->deadline_ms };
	struct run *run;
	int rc;

	TAILQ_FOREACH (run, &t->runs, link) {
		if (!run->revalidate)
			continue;
		run->wanted_ms = t->plan->now_ms;
		return true;
	}
	if (job->confirmed || describe_fresh(t->obj->record, plan_wall_s()))
		return false;
	rc = run_start(t, &want, &run);
	if (rc == -EAGAIN)
		return true;   /* at another pass */
	job->confirmed = true; /* once: it may be stale at once again */
	return rc == 0;
}

/* Of what has no length, or no ranges, only all can be had. */
static bool comes_whole(const struct title *t)
{
	const struct object_record *rec = t->obj->record;

	return rec->size_bytes == SIZE_UNKNOWN ||
	       (rec->flags & OBJECT_NO_RANGES) != 0;
}

static const struct run *whole_run(const struct title *t)
{
	const struct run *run;

	TAILQ_FOREACH (run, &t->runs, link)
		if (run->whole)
			return run;
	return NULL;
}

/* Such an object needs room for all of it, and cannot be gone on with later:
 * what does not end within the budget is given up.  True: the rest is as with
 * any other object. */
static bool whole(struct schedule *sc, struct title *t, struct job *job)
{
	const struct run_want want = { .end_off = SIZE_UNKNOWN,
				       .want_to = SIZE_UNKNOWN,
				       .ahead = true,
				       .for_job = true,
				       .deadline_ms = job->deadline_ms };
	uint64_t size = t->obj->record->size_bytes;
	bool unknown = size == SIZE_UNKNOWN, runs = whole_run(t) != NULL;
	struct run *run = TAILQ_FIRST(&t->runs);
	int rc = 0;

	if ((unknown && runs && sc->room == 0) ||
	    (!unknown && size > conf_of(sc->plan)->budget &&
	     plan_first_missing(t, 0) < size)) {
		end_job(sc, job, JOB_FAILED, 503,
			"it comes as a whole, and the budget does not hold it");
		return false;
	}
	if (!unknown) {
		if (runs || sc->room >= size ||
		    plan_first_missing(t, 0) >= size)
			return true;
		job_wait(job);
		return false;
	}
	if (run == NULL &&
	    (sc->room == 0 || sc->slack_ms < conf_of(sc->plan)->min_slack))
		return false;
	if (run == NULL)
		rc = run_start(t, &want, &run);
	if (rc == 0) {
		run->wanted_ms = sc->plan->now_ms;
		run->limit_off =
			max_u64(run->limit_off, run->pos_off + sc->room);
	} else if (rc != -EAGAIN) {
		plan_failed(t, 502, 1000, 0, strerror(-rc));
	}
	return false;
}

/* First byte that is not needed to play until this time. */
static uint64_t end_at(const struct media *m, uint64_t size, uint64_t time_ms)
{
	const struct media_point *points;
	size_t count, n = 0;

	if (time_ms >= media_info(m)->duration_ms)
		return size;
	points = media_points(m, &count);
	while (n < count && points[n].time_ms < time_ms)
		n++;
	if (n < count)
		return points[n].off;
	return count > 0 ? size : media_off_at(m, time_ms);
}

/* The bytes that a job means, once that is known. */
static bool find_span(struct title *t, struct job *job)
{
	uint64_t size = t->obj->record->size_bytes, from = 0, to = size;
	bool timed = job->start_ms != QUERY_NOT_GIVEN ||
		     job->seconds_ms != QUERY_NOT_GIVEN;
	uint64_t start_ms =
		job->start_ms != QUERY_NOT_GIVEN ? job->start_ms : 0;
	enum media_state state =
		t->media != NULL ? media_state(t->media) : MEDIA_FAILED;

	if (timed && state == MEDIA_WANTS)
		return false;
	if (timed && state == MEDIA_READY &&
	    media_info(t->media)->duration_ms > 0) {
		from = media_off_at(t->media, start_ms);
		if (job->seconds_ms != QUERY_NOT_GIVEN)
			to = end_at(t->media, size, start_ms + job->seconds_ms);
	} else if (timed) {
		from = min_u64(size, start_ms / 1000 * JOB_RATE);
		if (job->seconds_ms != QUERY_NOT_GIVEN)
			to = min_u64(size, from + (job->seconds_ms + 999) /
							   1000 * JOB_RATE);
	}
	if (job->bytes != QUERY_NOT_GIVEN)
		to = min_u64(to, from + min_u64(job->bytes, size - from));
	job->span = (struct span){ from, max_u64(from, to) };
	return true;
}

/* One part of what a job needs.  True: it is all there. */
static bool need_part(struct schedule *sc, struct title *t,
		      const struct job *job, struct span part)
{
	/* players ask from a multiple of 32 KiB on, some of 64 KiB */
	struct wish wish = { .title = t,
			     .from_off = part.from / PART_ALIGN * PART_ALIGN,
			     .to_off = min_u64(part.to,
					       t->obj->record->size_bytes),
			     .from_ms = job->deadline_ms,
			     .for_job = true,
			     .keeps = true };

	if (conf_of(sc->plan)->order == CONF_ORDER_ARRIVAL)
		wish.from_ms = job->asked_ms;
	return part.from >= part.to || grant(sc, &wish);
}

static void need_for_job(struct schedule *sc, struct job *job)
{
	struct plan *plan = sc->plan;
	struct title *t = plan_title_of_key(plan, job->key, strlen(job->key));
	struct span want = { 0, 0 };
	bool all, wants;

	if (t == NULL) {
		end_job(sc, job, JOB_FAILED, 404, "there is no such source");
		return;
	}
	sc->busy = true;
	t->used_ms = plan->now_ms;
	if (plan_failing(t) &&
	    ((t->fail_status < 500 && t->fail_status != 429) ||
	     plan->now_ms - job->active_ms > JOB_FAULT_MS)) {
		end_job(sc, job, JOB_FAILED, t->fail_status, t->fail_reason);
		return;
	}
	if (plan_failing(t)) {
		job_wait(job);
		return;
	}
	/* the origin has spoken well since it last failed */
	if (t->fail_until_ms == 0)
		job->active_ms = plan->now_ms;
	if (sc->room == 0)
		job_wait(job); /* what runs already goes on */
	else
		job_run(job);
	if (t->obj->record == NULL) {
		if (sc->room > 0 && sc->slack_ms >= conf_of(plan)->min_slack)
			probe(sc, t, job->deadline_ms);
		return;
	}
	if (!t->obj->kept) {
		end_job(sc, job, JOB_FAILED, 502,
			"the origin forbids to store it");
		return;
	}
	if (comes_whole(t) && !whole(sc, t, job))
		return;
	if (sc->slack_ms >= conf_of(plan)->min_slack && confirm(t, job))
		return;
	wants = feed_media(t, &want);
	all = !wants || media_state(t->media) != MEDIA_WANTS ||
	      need_part(sc, t, job, want);
	if (job->span.to == 0 && !find_span(t, job))
		return;
	if (t->media != NULL && media_state(t->media) == MEDIA_READY) {
		all = need_part(sc, t, job, media_info(t->media)->head) && all;
		all = need_part(sc, t, job, media_info(t->media)->index) && all;
	}
	all = need_part(sc, t, job, job->span) && all;
	if (all)
		end_job(sc, job, JOB_DONE, 200, "");
}

/* GET /map: the index of what is asked for is read. */
static void need_for_map(struct schedule *sc, struct title *t)
{
	struct span want;
	struct wish wish = { .title = t,
			     .from_ms = sc->plan->now_ms,
			     .for_job = true,
			     .keeps = true };

	if (sc->plan->now_ms - t->map_wanted_ms >= MAP_MS || plan_failing(t))
		return;
	sc->busy = true;
	if (t->obj->record == NULL) {
		probe(sc, t, sc->plan->now_ms);
	} else if (feed_media(t, &want)) {
		wish.from_off = want.from;
		wish.to_off = want.to;
		(void)grant(sc, &wish);
	}
}

void schedule_feed(struct title *t)
{
	struct span want;

	(void)feed_media(t, &want);
}

static void need_for_jobs(struct schedule *sc)
{
	struct job *job, *next;
	struct title *t;

	for (job = jobs_first(sc->plan->jobs); job != NULL; job = next) {
		next = jobs_next(job);
		if (job_is_open(job))
			need_for_job(sc, job);
	}
	jobs_sweep(sc->plan->jobs, sc->plan->now_ms);
	TAILQ_FOREACH (t, &sc->plan->titles, link)
		if (t->map_wanted_ms != 0)
			need_for_map(sc, t);
}

/* ---- starting ---- */

static struct run *longest_waiter(struct plan *plan, const struct origin *o,
				  uint64_t least_ms)
{
	struct run *found = NULL, *run;
	struct title *t;

	TAILQ_FOREACH (t, &plan->titles, link)
		TAILQ_FOREACH (run, &t->runs, link) {
			if (run->origin != o || !run->counted || run->whole ||
			    run->deadline_ms < least_ms)
				continue;
			if (found == NULL ||
			    run->deadline_ms > found->deadline_ms)
				found = run;
		}
	return found;
}

/* May the run be ended from where we are?  Not from inside of a callback of
 * its own transfer; a transfer's callbacks start no runs. */
bool schedule_preempt(struct plan *plan, struct origin *o, uint64_t now_ms)
{
	struct run *victim;

	if (conf_of(plan)->order == CONF_ORDER_ARRIVAL)
		return false;
	victim = longest_waiter(
		plan, o,
		now_ms + max_u64(conf_of(plan)->min_slack / 2, PREEMPT_MS));
	if (victim == NULL)
		return false;
	stat_add(plan->opts.stats, STAT_prefetch_preempted, 1);
	log_debug("ev=run_preempted key=%s off=%llu", victim->title->obj->key,
		  (unsigned long long)run_next_off(victim));
	run_end(victim);
	return origin_active(o) < origin_limit(o);
}

static int order_needs(const void *a, const void *b)
{
	const struct need *x = a, *y = b;

	if (x->deadline_ms != y->deadline_ms)
		return x->deadline_ms < y->deadline_ms ? -1 : 1;
	if (x->demand != y->demand)
		return x->demand ? -1 : 1;
	return 0;
}

/* Somebody will wait for it unless it is fetched now. */
static bool is_urgent(const struct schedule *sc, const struct need *need)
{
	return !need->for_job && !need->piece &&
	       need->deadline_ms <
		       sc->plan->now_ms + conf_of(sc->plan)->min_slack / 2;
}

static uint32_t connections_of(const struct title *t)
{
	uint32_t count = 0;
	const struct run *run;

	TAILQ_FOREACH (run, &t->runs, link)
		count += run->counted;
	return count;
}

static void start_need(struct schedule *sc, const struct need *need)
{
	struct plan *plan = sc->plan;
	struct title *t = need->title;
	struct origin *o = plan_origin(t);
	struct run_want want = { .from_off = need->from_off,
				 .end_off = need->to_off,
				 .want_to = need->to_off,
				 .ahead = true,
				 .for_job = need->for_job,
				 .urgent = is_urgent(sc, need),
				 .deadline_ms = need->deadline_ms };
	struct run *run;
	int rc;

	if (need->for_job &&
	    (sc->slack_ms < conf_of(plan)->min_slack || sc->room == 0))
		return;
	if (need->piece && o != NULL && connections_of(t) >= origin_parallel(o))
		return;
	/* an earlier one of this pass may bring it by now */
	if (plan_first_missing(t, need->from_off) != need->from_off ||
	    plan_failing(t))
		return;
	want.end_off = min_u64(want.end_off, gap_end(t, need->from_off));
	if (need->for_job)
		want.end_off = min_u64(want.end_off, want.from_off + sc->room);
	if (want.end_off <= want.from_off)
		return;
	rc = run_start(t, &want, &run);
	if (rc == 0 && need->for_job)
		sc->room -= want.end_off - want.from_off;
	if (rc == 0)
		run->limit_off = want.end_off;
	else if (rc != -EAGAIN)
		plan_failed(t, 502, 1000, 0, strerror(-rc));
}

static void start_all(struct schedule *sc)
{
	if (sc->count > 1)
		qsort(sc->needs, sc->count, sizeof(*sc->needs), order_needs);
	for (size_t n = 0; n < sc->count; n++) {
		if (sc->needs[n].demand)
			plan_look_again(sc->needs[n].title);
		else
			start_need(sc, &sc->needs[n]);
	}
}

/* What nobody waits for stands still while somebody has little ahead. */
static void hold_jobs(struct schedule *sc)
{
	bool hold = sc->slack_ms < conf_of(sc->plan)->min_slack;
	struct title *t;
	struct run *run;

	TAILQ_FOREACH (t, &sc->plan->titles, link)
		TAILQ_FOREACH (run, &t->runs, link)
			run->hold = hold && run->for_job && run->readers == 0 &&
				    !is_waited_for(run);
}

/* The pass finds them anew.  Of what it does not understand, or has not seen
 * a row of yet, somebody waits. */
static void forget_deadlines(struct plan *plan)
{
	struct title *t;
	struct run *run;

	TAILQ_FOREACH (t, &plan->titles, link)
		TAILQ_FOREACH (run, &t->runs, link) {
			const struct object_record *rec = t->obj->record;
			bool asked = is_waited_for(run) ||
				     (!run->ahead &&
				      (rec == NULL || run->revalidate ||
				       rec->size_bytes == SIZE_UNKNOWN));

			run->deadline_ms = asked ? plan->now_ms : UINT64_MAX;
		}
}

/* ---- what is learned ---- */

static void note_sent(void *ctx, uint64_t object_no, uint32_t generation,
		      uint64_t from_off, uint64_t to_off)
{
	struct schedule *sc = ctx;
	struct object *obj = catalog_find_no(sc->plan->cat, object_no);

	if (obj != NULL && obj->record != NULL &&
	    obj->record->generation == generation)
		catalog_note_seen(sc->plan->cat, obj,
				  (struct span){ from_off, to_off });
}

static void tick_origins(struct plan *plan)
{
	struct title *t;
	struct run *run;

	/* an origin may be ticked for several titles: it minds the time */
	TAILQ_FOREACH (t, &plan->titles, link) {
		bool starved = plan->now_ms - t->starved_ms < STARVED_MS;

		TAILQ_FOREACH (run, &t->runs, link)
			if (run->origin != NULL && starved)
				origin_tick_starved(run->origin, plan->now_ms);
	}
}

/* Waste of late makes the read-ahead shorter. */
static void judge_waste(struct schedule *sc)
{
	struct segment_stats *stats = sc->plan->opts.stats;
	uint64_t useful =
		atomic_load(&stats->value[STAT_prefetch_useful_bytes]);
	uint64_t wasted =
		atomic_load(&stats->value[STAT_prefetch_wasted_bytes]);
	double sum;

	if (sc->plan->now_ms - sc->judged_ms < DEPTH_MS)
		return;
	sc->judged_ms = sc->plan->now_ms;
	sc->useful_lately =
		sc->useful_lately * .9 + (double)(useful - sc->useful);
	sc->wasted_lately =
		sc->wasted_lately * .9 + (double)(wasted - sc->wasted);
	sc->useful = useful;
	sc->wasted = wasted;
	sum = sc->useful_lately + sc->wasted_lately;
	if (sum > (double)(4 * MIB) &&
	    sc->wasted_lately * 100 > sum * conf_of(sc->plan)->waste_max)
		sc->depth_percent =
			(uint32_t)max_u64(sc->depth_percent / 2, DEPTH_LEAST);
	else
		sc->depth_percent =
			(uint32_t)min_u64(sc->depth_percent + DEPTH_STEP, 100);
	stat_set(stats, STAT_prefetch_depth_percent, sc->depth_percent);
}

/* ---- the pass ---- */

void schedule_tick(struct plan *plan)
{
	struct schedule *sc = plan->schedule;
	uint64_t began_us = clock_now_us();

	refill(sc, plan->now_ms);
	if (plan->now_ms - sc->passed_ms < sc->pass_ms)
		return;
	sc->passed_ms = plan->now_ms;
	sc->count = 0;
	sc->slack_ms = UINT64_MAX;
	sc->busy = false;
	playheads_read(plan->playheads, plan->now_ms, note_sent, sc);
	forget_deadlines(plan);
	sc->room = room_for_jobs(plan);
	need_for_rows(sc);
	playheads_each(plan->playheads, plan->now_ms, need_for_playhead, sc);
	need_for_jobs(sc);
	need_for_asks(sc);
	start_all(sc);
	hold_jobs(sc);
	tick_origins(plan);
	plan_save_origins(plan, plan->now_ms);
	judge_waste(sc);
	/* with very many readers it looks less often */
	sc->pass_ms = max_u64(PASS_MS,
			      (clock_now_us() - began_us) / 1000 * PASS_PARTS);
}

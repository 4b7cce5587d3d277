#include "prefetcher/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prefetcher/describe.h"
#include "prefetcher/schedule.h"
#include "util/clock.h"
#include "util/log.h"

#define READERS_AGE_MS 10
#define WINDOW_LEAST   (512 * KIB)
#define STARVED_MS     300 /* of a body, before its rate means anything */
#define STARVED_BYTES  (64 * KIB)
#define SWEEP_MS       1000
#define TITLE_MS       10000              /* how long an unused title is kept */
#define WAITER_MS      (3 * ASK_RETRY_MS) /* its worker no longer asks */
#define VERSION_TEXT   PACKAGE_NAME "/" PACKAGE_VERSION

int64_t plan_wall_s(void)
{
	return clock_wall_s();
}

/* ---- replies ---- */

static void send_reply(struct plan *plan, const struct ask *ask,
		       struct reply *reply, const struct object_record *rec)
{
	size_t bytes = offsetof(struct reply, record);
	int rc;

	reply->type = REPLY_TYPE;
	reply->token = ask->token;
	if (rec != NULL) {
		reply->record_bytes = (uint32_t)object_record_bytes(rec);
		memcpy(&reply->record, rec, reply->record_bytes);
		bytes += reply->record_bytes;
	}
	/* a full inbox: the worker asks again by timer */
	rc = inbox_send(plan->opts.ipc->workers[ask->slot].tx, reply, bytes);
	if (rc < 0 && rc != -EAGAIN)
		log_warning("ev=reply_lost slot=%u errno=%d", ask->slot, -rc);
}

/* Everything but the record. */
static struct reply *empty_reply(enum reply_status status)
{
	static struct reply reply;

	memset(&reply, 0, offsetof(struct reply, record));
	reply.status = status;
	return &reply;
}

static void reply_look(struct title *t, const struct ask *ask, bool started,
		       bool stale)
{
	struct reply *reply = empty_reply(REPLY_LOOK);

	reply->started = started;
	reply->stale = stale;
	send_reply(t->plan, ask, reply, t->obj->record);
}

static void reply_wait(struct title *t, const struct ask *ask,
		       const struct run *run, bool started)
{
	struct reply *reply = empty_reply(REPLY_WAIT);

	reply->run_row = run->fill->inflight->row;
	reply->run_no = run->fill->run_no;
	reply->started = started;
	send_reply(t->plan, ask, reply, t->obj->record);
}

static void reply_gone(struct title *t, const struct ask *ask)
{
	send_reply(t->plan, ask, empty_reply(REPLY_GONE), t->obj->record);
}

static void reply_fail(struct plan *plan, const struct ask *ask,
		       uint32_t status, bool known, uint32_t retry_after_s,
		       const char *reason)
{
	struct reply *reply = empty_reply(REPLY_FAIL);

	reply->http_status = status;
	reply->known = known;
	reply->retry_after_s = retry_after_s;
	snprintf(reply->reason, sizeof(reply->reason), "%s", reason);
	send_reply(plan, ask, reply, NULL);
}

/* ---- titles ---- */

static struct title *open_title(struct plan *plan, struct object *obj,
				const struct conf_source *source)
{
	struct title *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->plan = plan;
	t->obj = obj;
	t->source = source;
	TAILQ_INIT(&t->runs);
	TAILQ_INIT(&t->waiters);
	obj->plan = t;
	plan->title_count++;
	TAILQ_INSERT_TAIL(&plan->titles, t, link);
	return t;
}

static void free_waiters(struct title *t)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&t->waiters)) != NULL) {
		TAILQ_REMOVE(&t->waiters, w, link);
		t->plan->waiters--;
		free(w);
	}
}

static void close_title(struct title *t)
{
	while (!TAILQ_EMPTY(&t->runs))
		run_end(TAILQ_FIRST(&t->runs));
	free_waiters(t);
	media_free(t->media);
	TAILQ_REMOVE(&t->plan->titles, t, link);
	t->plan->title_count--;
	t->obj->plan = NULL;
	free(t);
}

void plan_changed(struct title *t)
{
	t->dirty = true;
	event_active(t->plan->look, EV_TIMEOUT, 0);
}

void plan_confirmed(struct title *t)
{
	t->fail_until_ms = 0;
	t->confirmations++;
	plan_changed(t);
}

void plan_failed(struct title *t, uint32_t status, uint64_t for_ms,
		 uint32_t retry_after_s, const char *reason)
{
	t->fail_until_ms = t->plan->now_ms +
			   max_u64(for_ms, 100); /* who waits must hear it */
	t->fail_status = status;
	t->fail_retry_after_s = retry_after_s;
	snprintf(t->fail_reason, sizeof(t->fail_reason), "%s", reason);
	plan_changed(t);
}

/* ---- deciding ---- */

enum verdict {
	ANSWERED,
	WAIT,
};

bool plan_failing(const struct title *t)
{
	return t->fail_until_ms > t->plan->now_ms;
}

static enum verdict fail(struct title *t, const struct ask *ask, bool known)
{
	reply_fail(t->plan, ask, t->fail_status, known, t->fail_retry_after_s,
		   t->fail_reason);
	return ANSWERED;
}

static enum verdict start(struct title *t, struct waiter *w,
			  const struct run_want *want)
{
	struct run *run;
	int rc = run_start(t, want, &run);

	if (rc == -EAGAIN)
		return WAIT; /* the schedule tries again */
	if (rc < 0) {
		reply_fail(t->plan, &w->ask, 502, false, 0, strerror(-rc));
		return ANSWERED;
	}
	w->started = true;
	if (run->fill == NULL)
		return WAIT;
	reply_wait(t, &w->ask, run, true);
	return ANSWERED;
}

static enum verdict decide_unknown(struct title *t, struct waiter *w)
{
	const struct ask *ask = &w->ask;
	struct run_want want = { .from_off = ask->want_from,
				 .end_off = SIZE_UNKNOWN,
				 .want_to = ask->want_to,
				 .probe = true };

	if (plan_failing(t))
		return fail(t, ask, false);
	if (!TAILQ_EMPTY(&t->runs))
		return WAIT;
	if (ask->kind == ASK_SUFFIX) {
		want.from_off = 0;
		want.suffix = ask->want_from;
	}
	return start(t, w, &want);
}

static enum verdict decide_stale(struct title *t, struct waiter *w)
{
	struct run_want want = { .from_off = w->ask.want_from,
				 .end_off = SIZE_UNKNOWN,
				 .want_to = w->ask.want_to,
				 .revalidate = true };
	const struct run *run;

	if (plan_failing(t)) {
		if (t->fail_status >= 500 &&
		    describe_stale_ok(t->obj->record,
				      &t->plan->opts.conf->cache,
				      plan_wall_s())) {
			reply_look(t, &w->ask, w->started, true);
			return ANSWERED;
		}
		return fail(t, &w->ask, false);
	}
	TAILQ_FOREACH (run, &t->runs, link)
		if (run->revalidate)
			return WAIT;
	if (want.from_off >= t->obj->record->size_bytes)
		want.from_off = 0;
	return start(t, w, &want);
}

/* A present byte: is its file to be trusted? */
static enum verdict decide_present(struct title *t, struct waiter *w,
				   struct extent *ex)
{
	if (ex->state == EXTENT_SUSPECT)
		catalog_verify(t->plan->cat, ex);
	if (ex->state == EXTENT_VERIFYING)
		return WAIT;
	if (ex->state == EXTENT_COMMITTING && ex->inflight == NULL)
		return WAIT; /* verified: workers see it when committed */
	reply_look(t, &w->ask, w->started, false);
	return ANSWERED;
}

static enum verdict decide_missing(struct title *t, struct waiter *w)
{
	uint64_t off = w->ask.want_from;
	struct run_want want = { .from_off = off, .want_to = w->ask.want_to };
	struct run *run;

	TAILQ_FOREACH (run, &t->runs, link) {
		if (run->revalidate || !run_will_reach(run, off))
			continue;
		run_wanted(run, off, w->ask.want_to);
		if (run->fill == NULL)
			return WAIT;
		reply_wait(t, &w->ask, run, w->started);
		return ANSWERED;
	}
	if (fill_held_to(t->plan->cat, t->obj, off) > off) {
		reply_look(t, &w->ask, w->started, false);
		return ANSWERED;
	}
	if (plan_failing(t))
		return fail(t, &w->ask, true);
	want.end_off = catalog_next_present(t->obj, off);
	TAILQ_FOREACH (run, &t->runs, link)
		if (run->fill != NULL && fill_have_from(run->fill) > off)
			want.end_off = min_u64(want.end_off,
					       fill_have_from(run->fill));
	return start(t, w, &want);
}

/* Who asks for the first time, whether he knew of the object or, as its record
 * is not in the index yet, did not. */
static bool wants_revalidation(const struct title *t, const struct waiter *w)
{
	return w->ask.generation == 0 && (w->ask.flags & ASK_CONFIRMED) == 0 &&
	       t->confirmations == w->confirmations &&
	       !describe_fresh(t->obj->record, plan_wall_s());
}

static enum verdict decide(struct title *t, struct waiter *w)
{
	const struct object_record *rec = t->obj->record;
	const struct ask *ask = &w->ask;
	struct extent *ex;

	t->used_ms = t->plan->now_ms;
	if (rec == NULL) {
		if (ask->generation != 0) { /* began with what is gone now */
			reply_gone(t, ask);
			return ANSWERED;
		}
		return decide_unknown(t, w);
	}
	if (ask->generation != 0 && (ask->object_no != rec->object_no ||
				     ask->generation != rec->generation)) {
		reply_gone(t, ask);
		return ANSWERED;
	}
	if (wants_revalidation(t, w))
		return decide_stale(t, w);
	if (ask->kind == ASK_SUFFIX || ask->want_from >= rec->size_bytes) {
		reply_look(t, ask, w->started, false);
		return ANSWERED;
	}
	ex = catalog_extent_at(t->obj, ask->want_from);
	if (ex != NULL && (ask->flags & ASK_VERIFY) != 0) {
		catalog_check_file(t->plan->cat, ex);
		ex = catalog_extent_at(t->obj, ask->want_from);
	}
	return ex != NULL ? decide_present(t, w, ex) : decide_missing(t, w);
}

/* ---- asks, checked ---- */

static bool sane(const struct ask *ask, size_t bytes)
{
	return bytes == sizeof(*ask) && ask->type == ASK_TYPE &&
	       ask->slot < SEGMENT_WORKERS && ask->kind <= ASK_SUFFIX &&
	       ask->key_bytes > 2 && ask->key_bytes <= LAYOUT_KEY_BYTES &&
	       memchr(ask->key, '\0', ask->key_bytes) == NULL &&
	       (ask->kind != ASK_SUFFIX || ask->want_from > 0);
}

static const struct conf_source *source_of(const struct plan *plan,
					   const struct ask *ask)
{
	const char *slash = memchr(ask->key, '/', ask->key_bytes);

	if (slash == NULL)
		return NULL;
	return conf_find_source(plan->opts.conf, ask->key,
				(size_t)(slash - ask->key));
}

/* The title of the ask's object; both are made when they are new. */
static struct title *title_of(struct plan *plan, const struct ask *ask)
{
	const struct conf_source *source = source_of(plan, ask);
	struct object *obj;

	if (source == NULL) {
		reply_fail(plan, ask, 404, false, 0, "no such source");
		return NULL;
	}
	obj = catalog_find(plan->cat, ask->key, ask->key_bytes);
	if (obj != NULL && obj->plan != NULL)
		return obj->plan;
	if (plan->title_count >= PLAN_TITLES_MAX) {
		reply_fail(plan, ask, 503, false, 1, "too many objects");
		return NULL;
	}
	if (obj == NULL)
		obj = catalog_add(plan->cat, ask->key, ask->key_bytes);
	return obj == NULL ? NULL : open_title(plan, obj, source);
}

/* ---- for the schedule ---- */

struct title *plan_title(struct plan *plan, struct object *obj)
{
	const char *slash = strchr(obj->key, '/');
	const struct conf_source *source;

	if (obj->plan != NULL)
		return obj->plan;
	if (plan->title_count >= PLAN_TITLES_MAX || slash == NULL)
		return NULL;
	source = conf_find_source(plan->opts.conf, obj->key,
				  (size_t)(slash - obj->key));
	return source != NULL ? open_title(plan, obj, source) : NULL;
}

struct title *plan_title_of_key(struct plan *plan, const char *key,
				size_t key_bytes)
{
	struct object *obj = catalog_find(plan->cat, key, key_bytes);
	struct title *t;

	if (obj != NULL)
		return plan_title(plan, obj);
	obj = catalog_add(plan->cat, key, key_bytes);
	if (obj == NULL)
		return NULL;
	t = plan_title(plan, obj);
	if (t == NULL) {
		struct plan_purged purged = { 0 };

		catalog_purge(plan->cat, obj, true, &purged.chunks,
			      &purged.bytes);
	}
	return t;
}

size_t plan_read(struct title *t, uint64_t off, void *buffer, size_t n)
{
	size_t got = catalog_read(t->plan->cat, t->obj, off, buffer, n);
	const struct run *run;

	TAILQ_FOREACH (run, &t->runs, link)
		if (got == 0 && run->fill != NULL)
			got = fill_read(run->fill, off, buffer, n);
	return got;
}

struct origin *plan_origin(struct title *t)
{
	struct plan *plan = t->plan;
	struct location at;

	if (t->source->type == CONF_SOURCE_TYPE_TEMPLATE)
		return origins_of_url(plan->origins, t->source->url,
				      plan->now_ms);
	if (locator_find(plan->locator, t->source, t->obj->key, plan_wall_s(),
			 &at) < 0)
		return NULL;
	return origins_of_url(plan->origins, at.url, plan->now_ms);
}

uint64_t plan_window(const struct title *t, uint64_t off)
{
	const struct plan *plan = t->plan;
	uint64_t window = 0;

	if (t->media != NULL) {
		const struct media_info *info = media_info(t->media);

		window = media_bytes_for(t->media, off,
					 plan->opts.conf->prefetch.readahead);
		/* the player will find that its index is at the end, and
		 * turn there */
		if (info->container == MEDIA_MP4 && info->index_behind &&
		    media_state(t->media) == MEDIA_WANTS)
			return MIB;
	}
	if (window == 0)
		return plan->lead_bytes;
	window = window * schedule_depth_percent(plan) / 100;
	return min_u64(max_u64(window, WINDOW_LEAST), plan->lead_bytes);
}

/* ---- asks ---- */

static struct waiter *find_waiter(struct title *t, const struct ask *ask)
{
	struct waiter *w;

	TAILQ_FOREACH (w, &t->waiters, link)
		if (w->ask.token == ask->token && w->ask.slot == ask->slot)
			return w;
	return NULL;
}

/* What must not be stored serves those who ask while it arrives, no more. */
static bool is_spent(const struct title *t, const struct ask *ask)
{
	return t->obj->record != NULL && !t->obj->kept && ask->object_no == 0 &&
	       TAILQ_EMPTY(&t->runs) && TAILQ_EMPTY(&t->waiters);
}

static void purge_title(struct title *t, struct plan_purged *out)
{
	struct plan *plan = t->plan;
	struct object *obj = t->obj;
	struct run *run;

	TAILQ_FOREACH (run, &t->runs, link)
		out->runs++;
	close_title(t);
	catalog_purge(plan->cat, obj, true, &out->chunks, &out->bytes);
}

void plan_ask(struct plan *plan, const void *message, size_t bytes)
{
	const struct ask *ask = message;
	struct plan_purged purged = { 0 };
	struct waiter *w;
	struct title *t;

	if (!sane(ask, bytes)) {
		log_warning("ev=ask_refused bytes=%zu", bytes);
		return;
	}
	plan->now_ms = clock_now_ms();
	t = title_of(plan, ask);
	if (t != NULL && is_spent(t, ask)) {
		purge_title(t, &purged);
		t = title_of(plan, ask);
	}
	if (t == NULL)
		return;
	w = find_waiter(t, ask);
	if (w != NULL) {
		w->seen_ms = plan->now_ms;
		w->ask = *ask;
		return;
	}
	w = plan->waiters < PLAN_WAITERS_MAX ? calloc(1, sizeof(*w)) : NULL;
	if (w == NULL) {
		reply_fail(plan, ask, 503, false, 1, "too many waiting");
		return;
	}
	w->ask = *ask;
	w->confirmations = t->confirmations;
	w->first_ms = plan->now_ms;
	w->seen_ms = plan->now_ms;
	if (decide(t, w) == ANSWERED) {
		free(w);
		return;
	}
	TAILQ_INSERT_TAIL(&t->waiters, w, link);
	plan->waiters++;
}

void plan_look_again(struct title *t)
{
	TAILQ_HEAD(, waiter) waiters;
	struct waiter *w;

	TAILQ_INIT(&waiters);
	TAILQ_CONCAT(&waiters, &t->waiters, link);
	while ((w = TAILQ_FIRST(&waiters)) != NULL) {
		TAILQ_REMOVE(&waiters, w, link);
		if (decide(t, w) == WAIT) {
			TAILQ_INSERT_TAIL(&t->waiters, w, link);
			continue;
		}
		t->plan->waiters--;
		free(w);
	}
}

/* The origin has it no more: who waits was told; what is stored goes. */
static void drop_gone(struct title *t)
{
	uint64_t chunks = 0, bytes = 0;

	t->gone = false;
	if (t->obj->record == NULL)
		return;
	log_info("ev=object_gone key=%s", t->obj->key);
	while (!TAILQ_EMPTY(&t->runs))
		run_end(TAILQ_FIRST(&t->runs));
	catalog_forget(t->plan->cat, t->obj, &chunks, &bytes);
	/* what comes next under this key has another index */
	media_free(t->media);
	t->media = NULL;
	t->media_told = false;
	t->resolved_us = 0;
}

static void on_look(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct plan *plan = arg;
	struct title *t, *next;

	plan->now_ms = clock_now_ms();
	for (t = TAILQ_FIRST(&plan->titles); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		if (!t->dirty)
			continue;
		t->dirty = false;
		plan_look_again(t);
		if (t->gone)
			drop_gone(t);
	}
}

/* ---- readers ---- */

uint64_t plan_first_missing(const struct title *t, uint64_t off)
{
	for (;;) {
		const struct extent *ex = catalog_extent_at(t->obj, off);
		const struct run *run;
		uint64_t to = off;

		if (ex != NULL)
			to = ex->span.to;
		else if (t->obj->record != NULL)
			to = fill_held_to(t->plan->cat, t->obj, off);
		TAILQ_FOREACH (run, &t->runs, link)
			if (run->fill != NULL &&
			    fill_have_from(run->fill) <= off &&
			    off < run->fill->to_off)
				to = max_u64(to, run->fill->to_off);
		if (to == off)
			return off;
		off = to;
	}
}

static void count_for_run(struct run *run, const struct reader *row,
			  uint64_t missing_off)
{
	const struct fill *fill = run->fill;
	uint64_t linger = run->title->plan->opts.conf->cache.linger;
	uint64_t limit_off;

	if (fill != NULL && row->pos_off >= fill_have_from(fill) &&
	    row->pos_off <= fill->to_off)
		run->readers_min_off =
			min_u64(run->readers_min_off, row->pos_off);
	if (missing_off >= row->end_off || run->revalidate)
		return;
	if (!run_will_reach(run, missing_off) &&
	    missing_off != run_next_off(run))
		return;
	run->readers++;
	run->wanted_off = max_u64(run->wanted_off, row->end_off);
	run->readers_max_off = max_u64(run->readers_max_off, row->pos_off);
	limit_off = row->pos_off + plan_window(run->title, row->pos_off);
	if (row->end_off < limit_off) /* no further than it asks for */
		limit_off = min_u64(limit_off, row->end_off + linger);
	run->readers_limit_off = max_u64(run->readers_limit_off, limit_off);
}

/* Who reads as fast as the bytes come would read faster. */
static bool is_starved(const struct run *run)
{
	return run->state == RUN_BODY && run->fill != NULL && !run->paused &&
	       run->title->plan->now_ms - run->body_ms > STARVED_MS &&
	       run->readers_max_off + STARVED_BYTES >= run->fill->to_off;
}

static void note_readers(struct title *t, struct run *run)
{
	uint64_t limit_off = run->readers_limit_off;

	if (run->readers == 0)
		return;
	if (run->ahead) /* what the schedule wants of it comes on top */
		limit_off = max_u64(limit_off, run->limit_off);
	run->limit_off = limit_off;
	if (is_starved(run))
		t->starved_ms = t->plan->now_ms;
}

/* Who plays on by one range after the other reads between them, too. */
static void count_playheads(struct title *t)
{
	const struct object_record *rec = t->obj->record;
	uint64_t pos_off[PLAYHEADS_OF_ONE];
	size_t count = playheads_of(t->plan->playheads, rec->object_no,
				    rec->generation, t->plan->now_ms, pos_off);
	struct run *run;

	for (size_t n = 0; n < count; n++) {
		const struct reader row = { .object_no = rec->object_no,
					    .generation = rec->generation,
					    .pos_off = pos_off[n],
					    .end_off = rec->size_bytes };
		uint64_t missing_off = plan_first_missing(t, row.pos_off);

		if (missing_off > row.pos_off + plan_window(t, row.pos_off))
			continue;
		TAILQ_FOREACH (run, &t->runs, link)
			count_for_run(run, &row, missing_off);
	}
}

void plan_count_readers(struct title *t, uint64_t max_age_ms)
{
	struct plan *plan = t->plan;
	const struct object_record *rec = t->obj->record;
	uint64_t missing_off = 0, missing_from = 1;
	const struct reader *rows;
	struct run *run;
	size_t count;

	TAILQ_FOREACH (run, &t->runs, link) {
		run->readers = 0;
		run->readers_min_off = UINT64_MAX;
		run->readers_max_off = 0;
		run->readers_limit_off = 0;
	}
	if (rec == NULL)
		return;
	readers_refresh(&plan->cat->readers, clock_now_ms(), max_age_ms);
	rows = readers_of(&plan->cat->readers, rec->object_no, rec->generation,
			  &count);
	for (size_t n = 0; n < count; n++) {
		/* rows are sorted: most have the same first missing byte */
		if (rows[n].pos_off < missing_from ||
		    rows[n].pos_off > missing_off) {
			missing_from = rows[n].pos_off;
			missing_off = plan_first_missing(t, rows[n].pos_off);
		}
		TAILQ_FOREACH (run, &t->runs, link)
			count_for_run(run, &rows[n], missing_off);
	}
	count_playheads(t);
	TAILQ_FOREACH (run, &t->runs, link)
		note_readers(t, run);
}

/* ---- time ---- */

static void tick_runs(struct title *t)
{
	struct run *run, *next;

	if (TAILQ_EMPTY(&t->runs))
		return;
	plan_count_readers(t, READERS_AGE_MS);
	for (run = TAILQ_FIRST(&t->runs); run != NULL; run = next) {
		next = TAILQ_NEXT(run, link);
		run_tick(run);
	}
}

static void sweep_waiters(struct title *t)
{
	struct waiter *w, *next;

	for (w = TAILQ_FIRST(&t->waiters); w != NULL; w = next) {
		next = TAILQ_NEXT(w, link);
		if (t->plan->now_ms - w->seen_ms < WAITER_MS)
			continue;
		TAILQ_REMOVE(&t->waiters, w, link);
		t->plan->waiters--;
		free(w);
	}
	if (!TAILQ_EMPTY(&t->waiters))
		plan_changed(t); /* perhaps a run can be started now */
}

static void sweep_title(struct title *t)
{
	struct plan_purged purged = { 0 };
	struct plan *plan = t->plan;
	struct object *obj = t->obj;

	sweep_waiters(t);
	if (!TAILQ_EMPTY(&t->runs) || !TAILQ_EMPTY(&t->waiters) ||
	    plan_failing(t) || plan->now_ms - t->used_ms < TITLE_MS)
		return;
	if (obj->record == NULL || !obj->kept) {
		purge_title(t, &purged);
	} else {
		close_title(t);
		catalog_forget_empty(plan->cat, obj);
	}
}

void plan_tick(struct plan *plan)
{
	struct title *t, *next;
	bool sweep;

	plan->now_ms = clock_now_ms();
	sweep = plan->now_ms - plan->swept_ms >= SWEEP_MS;
	if (sweep)
		plan->swept_ms = plan->now_ms;
	for (t = TAILQ_FIRST(&plan->titles); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		tick_runs(t);
		if (sweep)
			sweep_title(t);
	}
	if (sweep)
		locator_tick(plan->locator, plan->now_ms);
	schedule_tick(plan);
	catalog_tick(plan->cat, plan->now_ms);
	stat_set(plan->opts.stats, STAT_runs, plan->runs);
}

/* ---- purge ---- */

/* id: all renditions of it, of every source. */
static bool matches(const struct object *obj, const char *key, const char *id)
{
	const char *slash = strchr(obj->key, '/');
	size_t n;

	if (key != NULL)
		return strcmp(obj->key, key) == 0;
	if (id == NULL)
		return true;
	n = strlen(id);
	return slash != NULL && strncmp(slash + 1, id, n) == 0 &&
	       (slash[1 + n] == '\0' || slash[1 + n] == '/');
}

TAILQ_HEAD(waiter_list, waiter);

/* Their runs end: what these still write may evict objects that have no
 * title. */
static void purge_titles(struct plan *plan, const char *key, const char *id,
			 struct waiter_list *waiters, struct plan_purged *out)
{
	struct title *t, *next;

	for (t = TAILQ_FIRST(&plan->titles); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		if (!matches(t->obj, key, id))
			continue;
		out->objects += t->obj->record != NULL;
		TAILQ_CONCAT(waiters, &t->waiters, link);
		purge_title(t, out);
	}
}

void plan_purge(struct plan *plan, const char *key, const char *id,
		struct plan_purged *out)
{
	struct waiter_list waiters;
	struct object *obj, *next;
	struct waiter *w;

	TAILQ_INIT(&waiters);
	*out = (struct plan_purged){ 0 };
	purge_titles(plan, key, id, &waiters, out);
	HASH_ITER (by_key, plan->cat->objects, obj, next) {
		if (!matches(obj, key, id))
			continue;
		out->objects += obj->record != NULL;
		catalog_purge(plan->cat, obj, true, &out->chunks, &out->bytes);
	}
	/* only now: asking makes objects that match again */
	while ((w = TAILQ_FIRST(&waiters)) != NULL) {
		TAILQ_REMOVE(&waiters, w, link);
		plan->waiters--;
		plan_ask(plan, &w->ask, sizeof(w->ask));
		free(w);
	}
	log_info("ev=purge key=%s id=%s objects=%llu chunks=%llu bytes=%llu",
		 key != NULL ? key : "-", id != NULL ? id : "-",
		 (unsigned long long)out->objects,
		 (unsigned long long)out->chunks,
		 (unsigned long long)out->bytes);
}

/* ---- opening ---- */

static void on_catalog_changed(void *ctx UNUSED, struct object *obj)
{
	if (obj->plan != NULL)
		plan_changed(obj->plan);
}

/* The resolver has spoken: runs that waited for a URL go on. */
static void on_resolved(void *ctx, const char *id_key, uint32_t status,
			uint32_t retry_after_s, const char *reason)
{
	struct plan *plan = ctx;
	struct title *t;
	struct run *run, *next;

	plan->now_ms = clock_now_ms();
	TAILQ_FOREACH (t, &plan->titles, link) {
		if (!locator_same_id(t->obj->key, id_key))
			continue;
		for (run = TAILQ_FIRST(&t->runs); run != NULL; run = next) {
			next = TAILQ_NEXT(run, link);
			if (run->state == RUN_RESOLVE)
				run_resolved(run, status, retry_after_s,
					     reason);
		}
	}
}

static int open_upstream(struct plan *plan)
{
	const struct conf_upstream *conf = &plan->opts.conf->upstream;
	struct upstream_opts opts = {
		.connect_timeout_ms = (uint32_t)conf->connect_timeout,
		.first_byte_timeout_ms = (uint32_t)conf->first_byte_timeout,
		.stall_timeout_ms = (uint32_t)conf->stall_timeout,
		.connections = conf->connections,
		.redirects = conf->redirects,
		.user_agent = conf->user_agent[0] != '\0' ? conf->user_agent
							  : VERSION_TEXT,
		.ca_file = conf->ca_file,
	};

	return upstream_open(&plan->upstream, plan->opts.base, &opts);
}

void plan_save_origins(struct plan *plan, uint64_t now_ms)
{
	struct origin_record rec;
	const char *name;

	while (origins_next_dirty(plan->origins, now_ms, plan_wall_s(), &name,
				  &rec))
		catalog_save_origin(plan->cat, name, &rec);
}

static void load_origin(void *ctx, const char *name,
			const struct origin_record *rec)
{
	struct plan *plan = ctx;

	origins_load(plan->origins, name, rec, plan_wall_s(), plan->now_ms);
}

static int open_parts(struct plan *plan)
{
	const struct conf *conf = plan->opts.conf;
	struct locator_opts locator = { .conf = conf,
					.ipc = plan->opts.ipc,
					.answered = on_resolved,
					.ctx = plan };
	const struct origins_opts origins = {
		.hard = conf->upstream.connections,
		.ahead = conf->upstream.max_connections,
		.bps = conf->prefetch.origin_bandwidth,
	};
	int rc = locator_open(&plan->locator, &locator);

	if (rc == 0)
		rc = origins_open(&plan->origins, &origins);
	if (rc == 0)
		rc = catalog_load_origins(plan->cat, load_origin, plan);
	if (rc == 0)
		rc = playheads_open(&plan->playheads, plan->opts.seg);
	if (rc == 0)
		rc = jobs_open(&plan->jobs, plan->opts.seg, conf->prefetch.jobs,
			       plan->now_ms);
	if (rc == 0)
		rc = schedule_open(&plan->schedule, plan);
	return rc;
}

static void close_parts(struct plan *plan)
{
	schedule_close(plan->schedule);
	jobs_close(plan->jobs);
	playheads_close(plan->playheads);
	origins_close(plan->origins);
	locator_close(plan->locator);
}

int plan_open(struct plan **out, const struct plan_opts *opts)
{
	const struct conf_cache *cache = &opts->conf->cache;
	struct plan *plan = calloc(1, sizeof(*plan));
	struct catalog_opts catalog = {
		.path = cache->path,
		.scratch = cache->scratch,
		.index_bytes = cache->index,
		.size_bytes = cache->size,
		.scratch_bytes = cache->scratch_size,
		.spare_bytes = min_u64(cache->lead, cache->size / 4),
		.seg = opts->seg,
		.stats = opts->stats,
		.bells = opts->ipc->bells,
		.changed = on_catalog_changed,
	};
	int rc;

	if (plan == NULL)
		return -ENOMEM;
	plan->opts = *opts;
	plan->now_ms = clock_now_ms();
	/* what a run brings must not push out what it has just brought */
	plan->lead_bytes = catalog.spare_bytes;
	TAILQ_INIT(&plan->titles);
	catalog.ctx = plan;
	plan->look = event_new(opts->base, -1, 0, on_look, plan);
	if (plan->look == NULL) {
		rc = -ENOMEM;
		goto no_look;
	}
	rc = catalog_open(&plan->cat, &catalog, plan->now_ms);
	if (rc < 0)
		goto no_catalog;
	catalog_tick(plan->cat, plan->now_ms); /* statistics */
	rc = open_upstream(plan);
	if (rc < 0)
		goto no_upstream;
	rc = open_parts(plan);
	if (rc < 0)
		goto no_parts;
	*out = plan;
	return 0;

no_parts:
	close_parts(plan);
	upstream_close(plan->upstream);
no_upstream:
	catalog_close(plan->cat);
no_catalog:
	event_free(plan->look);
no_look:
	free(plan);
	return rc;
}

void plan_close(struct plan *plan)
{
	if (plan == NULL)
		return;
	while (!TAILQ_EMPTY(&plan->titles))
		close_title(TAILQ_FIRST(&plan->titles));
	upstream_close(plan->upstream);
	plan_save_origins(plan, UINT64_MAX);
	close_parts(plan);
	catalog_close(plan->cat);
	event_free(plan->look);
	free(plan);
}

#include "prefetcher/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/json.h"
#include "media/media.h"
#include "prefetcher/jobs.h"
#include "prefetcher/plan.h"
#include "prefetcher/run.h"
#include "prefetcher/schedule.h"
#include "util/clock.h"
#include "util/log.h"

#define SPANS_MAX  2048u /* of each list of a /cache answer: it must fit */
#define RUNS_MAX   32u
#define POINTS_MAX 2048u /* of one /map answer */
#define JOBS_MAX   64u   /* of one /prefetch answer */

struct answering {
	struct plan *plan;
	const struct query *query;
	struct json json;
	char *buffer;
};

/* ---- sending ---- */

static void send_pieces(struct plan *plan, const struct query *q,
			uint32_t status, uint32_t retry_after_s,
			const char *bytes, size_t n)
{
	struct query_answer piece = {
		.type = ANSWER_TYPE,
		.http_status = status,
		.token = q->token,
		.total_bytes = (uint32_t)n,
		.retry_after_s = retry_after_s,
	};
	int tx = plan->opts.ipc->workers[q->slot].tx;

	do {
		piece.piece_bytes = (uint32_t)min_u64(n - piece.piece_off,
						      QUERY_PIECE_BYTES);
		memcpy(piece.piece, bytes + piece.piece_off, piece.piece_bytes);
		/* full: the worker asks again */
		if (inbox_send(tx, &piece,
			       offsetof(struct query_answer, piece) +
				       piece.piece_bytes) < 0)
			return;
		piece.piece_off += piece.piece_bytes;
	} while (piece.piece_off < n);
}

static void send_fault(struct plan *plan, const struct query *q,
		       uint32_t status, uint32_t retry_after_s,
		       const char *reason)
{
	send_pieces(plan, q, status, retry_after_s, reason, strlen(reason));
}

static bool begin(struct answering *an)
{
	an->buffer = malloc(QUERY_BYTES_MAX);
	if (an->buffer == NULL) {
		send_fault(an->plan, an->query, 503, 1, "out of memory");
		return false;
	}
	json_init(&an->json, an->buffer, QUERY_BYTES_MAX);
	json_object(&an->json);
	json_key(&an->json, "version");
	json_u64(&an->json, 1);
	return true;
}

static void finish(struct answering *an, uint32_t status)
{
	size_t n;

	json_object_end(&an->json);
	json_newline(&an->json);
	if (json_end(&an->json, &n) < 0)
		send_fault(an->plan, an->query, 500, 0,
			   "the answer is too long");
	else
		send_pieces(an->plan, an->query, status, 0, an->buffer, n);
}

/* ---- parts of answers ---- */

static void put_u64(struct json *j, const char *name, uint64_t value)
{
	json_key(j, name);
	if (value == UINT64_MAX)
		json_null(j);
	else
		json_u64(j, value);
}

/* Milliseconds as seconds with up to three decimals. */
static void put_seconds(struct json *j, const char *name, uint64_t ms)
{
	json_key(j, name);
	if (ms == UINT64_MAX)
		json_null(j);
	else
		json_thousandths(j, ms);
}

/* "source/id" or "source/id/format" */
static void put_names(struct json *j, const char *key)
{
	const char *id = strchr(key, '/') + 1;
	const char *format = strchr(id, '/');
	size_t id_bytes = format != NULL ? (size_t)(format - id) : strlen(id);

	json_key(j, "id");
	json_slice(j, slice_make(id, id_bytes));
	json_key(j, "source");
	json_slice(j, slice_make(key, (size_t)(id - key - 1)));
	json_key(j, "format");
	if (format != NULL)
		json_text(j, format + 1);
	else
		json_null(j);
}

static void put_span(struct json *j, uint64_t from, uint64_t to)
{
	json_array(j);
	json_u64(j, from);
	json_u64(j, to);
	json_array_end(j);
}

static struct object *object_of(const struct answering *an)
{
	struct object *obj = catalog_find(an->plan->cat, an->query->key,
					  an->query->key_bytes);

	if (obj == NULL || obj->record == NULL) {
		send_fault(an->plan, an->query, 404, 0,
			   "nothing is known of this object");
		return NULL;
	}
	return obj;
}

/* End of the bytes from off on that are in files, or off. */
static uint64_t resident_end(const struct object *obj, uint64_t off)
{
	const struct title *t = obj->plan;
	const struct extent *ex;

	if (t != NULL)
		return plan_first_missing(t, off);
	while ((ex = catalog_extent_at(obj, off)) != NULL)
		off = ex->span.to;
	return off;
}

/* First byte >= off that is in a file; SIZE_UNKNOWN. */
static uint64_t resident_from(const struct object *obj, uint64_t off)
{
	uint64_t from = catalog_next_present(obj, off);
	const struct title *t = obj->plan;
	const struct run *run;

	if (t == NULL)
		return from;
	TAILQ_FOREACH (run, &t->runs, link)
		if (run->fill != NULL &&
		    fill_have_from(run->fill) < run->fill->to_off &&
		    run->fill->to_off > off)
			from = min_u64(from,
				       max_u64(off, fill_have_from(run->fill)));
	return from;
}

/* ---- jobs ---- */

/* Bytes of span that active runs are going to bring. */
static uint64_t coming_bytes(const struct title *t, struct span span)
{
	uint64_t sum = 0;
	const struct run *run;

	TAILQ_FOREACH (run, &t->runs, link) {
		uint64_t from = run_next_off(run);
		uint64_t to =
			min_u64(run->limit_off,
				min_u64(run->end_off,
					catalog_next_present(t->obj, from)));

		from = max_u64(from, span.from);
		to = min_u64(to, span.to);
		if (from < to)
			sum += to - from;
	}
	return min_u64(sum, span_len(span));
}

static uint64_t cached_bytes(const struct object *obj, struct span span)
{
	uint64_t sum = 0, off = span.from;

	while (off < span.to) {
		uint64_t end = resident_end(obj, off);

		sum += min_u64(end, span.to) - off;
		off = resident_from(obj, end);
	}
	return sum;
}

/* Bytes a second that its runs bring at this moment. */
static uint64_t rate_of(const struct title *t)
{
	uint64_t now_ms = t->plan->now_ms, sum = 0;
	const struct run *run;

	TAILQ_FOREACH (run, &t->runs, link)
		if (run->state == RUN_BODY && !run->paused &&
		    now_ms - run->body_ms >= 200)
			sum += run->body_bytes * 1000 / (now_ms - run->body_ms);
	return sum;
}

static void put_progress(struct json *j, struct plan *plan,
			 const struct job *job)
{
	struct object *obj =
		catalog_find(plan->cat, job->key, strlen(job->key));
	const struct title *t = obj != NULL ? obj->plan : NULL;
	bool known = obj != NULL && obj->record != NULL && job->span.to > 0;
	uint64_t cached = known ? cached_bytes(obj, job->span) : 0;
	uint64_t coming = known && t != NULL ? coming_bytes(t, job->span) : 0;
	uint64_t left = known ? span_len(job->span) - cached : 0;
	uint64_t rate = t != NULL ? rate_of(t) : 0;

	put_u64(j, "from", known ? job->span.from : UINT64_MAX);
	put_u64(j, "to", known ? job->span.to : UINT64_MAX);
	put_u64(j, "cached_bytes", cached);
	put_u64(j, "coming_bytes", min_u64(coming, left));
	put_u64(j, "missing_bytes", left - min_u64(coming, left));
	if (job->state == JOB_DONE)
		put_seconds(j, "eta_s", 0);
	else
		put_seconds(j, "eta_s",
			    known && rate > 0 ? left * 1000 / rate
					      : UINT64_MAX);
}

static void put_job(struct json *j, struct plan *plan, const struct job *job)
{
	json_object(j);
	put_u64(j, "job", job->no);
	put_names(j, job->key);
	json_key(j, "state");
	json_text(j, job_state_name(job->state));
	put_seconds(j, "start_s", job->start_ms);
	put_seconds(j, "seconds", job->seconds_ms);
	put_u64(j, "bytes_wanted", job->bytes);
	put_progress(j, plan, job);
	put_seconds(j, "deadline_s",
		    job->deadline_ms > plan->now_ms
			    ? job->deadline_ms - plan->now_ms
			    : 0);
	json_key(j, "reason");
	if (job->reason[0] != '\0')
		json_text(j, job->reason);
	else
		json_null(j);
	json_object_end(j);
}

static void answer_prefetch(struct answering *an)
{
	struct plan *plan = an->plan;
	struct job *job = jobs_begin(plan->jobs, an->query, plan->now_ms);

	if (job == NULL) {
		send_fault(plan, an->query, 503, 5, "too many prefetches");
		return;
	}
	if (!begin(an))
		return;
	json_key(&an->json, "jobs");
	json_array(&an->json);
	put_job(&an->json, plan, job);
	json_array_end(&an->json);
	finish(an, 202);
}

/* Of all jobs of the id, the latest ones, after `change`. */
static void answer_jobs(struct answering *an, bool cancel)
{
	struct plan *plan = an->plan;
	struct job *found[JOBS_MAX], *job;
	size_t count = 0;

	for (job = jobs_first(plan->jobs); job != NULL; job = jobs_next(job)) {
		if (!job_matches(job, an->query->key, an->query->key_bytes))
			continue;
		if (cancel && job_is_open(job))
			job_end(plan->jobs, job, JOB_CANCELLED, 0, "",
				plan->now_ms);
		found[count++ % JOBS_MAX] = job;
	}
	if (count == 0) {
		send_fault(plan, an->query, 404, 0,
			   "nothing was asked to be prefetched of this id");
		return;
	}
	if (!begin(an))
		return;
	json_key(&an->json, "jobs");
	json_array(&an->json);
	for (size_t n = count > JOBS_MAX ? count - JOBS_MAX : 0; n < count; n++)
		put_job(&an->json, plan, found[n % JOBS_MAX]);
	json_array_end(&an->json);
	finish(an, 200);
}

/* ---- /cache ---- */

/* False: the list ends early. */
static bool put_resident(struct json *j, const struct object *obj, uint64_t end)
{
	uint64_t off = resident_from(obj, 0);

	for (size_t count = 0; off < end; count++) {
		uint64_t to = min_u64(resident_end(obj, off), end);

		if (count == SPANS_MAX)
			return false;
		put_span(j, off, to);
		off = resident_from(obj, to);
	}
	return true;
}

/* False: the list ends early. */
static bool put_missing(struct json *j, const struct object *obj, uint64_t end)
{
	uint64_t from = resident_end(obj, 0);

	for (size_t count = 0; from < end; count++) {
		uint64_t to = min_u64(resident_from(obj, from), end);

		if (count == SPANS_MAX)
			return false;
		put_span(j, from, to);
		from = resident_end(obj, to);
	}
	return true;
}

/* False: the list ends early. */
static bool put_arriving(struct json *j, const struct title *t)
{
	const struct run *run;
	size_t count = 0;

	TAILQ_FOREACH (run, &t->runs, link) {
		if (count++ == RUNS_MAX)
			return false;
		json_array(j);
		json_u64(j, run->from_off);
		if (run->end_off == SIZE_UNKNOWN)
			json_null(j);
		else
			json_u64(j, run->end_off);
		json_u64(j, run_next_off(run));
		json_array_end(j);
	}
	return true;
}

static void answer_cache(struct answering *an)
{
	struct object *obj = object_of(an);
	struct json *j = &an->json;
	const struct object_record *rec;
	bool whole;
	uint64_t end;

	if (obj == NULL || !begin(an))
		return;
	rec = obj->record;
	end = rec->size_bytes;
	put_names(j, obj->key);
	put_u64(j, "size_bytes", rec->size_bytes);
	json_key(j, "etag");
	json_text(j, object_record_text(rec, TEXT_ETAG));
	put_u64(j, "generation", rec->generation);
	put_u64(j, "useful_bytes", obj->useful_bytes);
	put_u64(j, "wasted_bytes", obj->wasted_bytes);
	put_u64(j, "unseen_bytes", obj->unseen.bytes);
	json_key(j, "resident");
	json_array(j);
	whole = put_resident(j, obj, end);
	json_array_end(j);
	json_key(j, "arriving");
	json_array(j);
	if (obj->plan != NULL)
		whole &= put_arriving(j, obj->plan);
	json_array_end(j);
	json_key(j, "missing");
	json_array(j);
	if (end != SIZE_UNKNOWN)
		whole &= put_missing(j, obj, end);
	json_array_end(j);
	json_key(j, "truncated");
	json_bool(j, !whole);
	finish(an, 200);
}

/* ---- /map ---- */

static void put_points(struct json *j, const struct media *m)
{
	size_t count, step;
	const struct media_point *points = media_points(m, &count);

	step = (count + POINTS_MAX - 1) / POINTS_MAX;
	json_key(j, "points");
	json_array(j);
	for (size_t n = 0; n < count; n += max_u64(step, 1)) {
		json_array(j);
		json_thousandths(j, points[n].time_ms);
		json_u64(j, points[n].off);
		json_array_end(j);
	}
	json_array_end(j);
}

static void put_media(struct json *j, const struct media *m)
{
	const struct media_info *info = media_info(m);

	json_key(j, "container");
	json_text(j, info->container == MEDIA_MP4 ? "mp4" : "webm");
	put_seconds(j, "duration_s",
		    info->duration_ms > 0 ? info->duration_ms : UINT64_MAX);
	put_u64(j, "bitrate_bps",
		info->bitrate_bps > 0 ? info->bitrate_bps : UINT64_MAX);
	json_key(j, "fragmented");
	json_bool(j, info->fragmented);
	json_key(j, "index_behind");
	json_bool(j, info->index_behind);
	json_key(j, "head");
	put_span(j, info->head.from, info->head.to);
	json_key(j, "index");
	put_span(j, info->index.from, info->index.to);
	put_points(j, m);
}

static void answer_map(struct answering *an)
{
	struct plan *plan = an->plan;
	struct title *t =
		plan_title_of_key(plan, an->query->key, an->query->key_bytes);

	if (t == NULL) {
		send_fault(plan, an->query, 404, 0, "there is no such source");
		return;
	}
	if (plan_failing(t)) {
		send_fault(plan, an->query, t->fail_status,
			   t->fail_retry_after_s, t->fail_reason);
		return;
	}
	t->used_ms = plan->now_ms;
	t->map_wanted_ms = plan->now_ms;
	schedule_feed(t);
	if (t->obj->record == NULL || t->media == NULL ||
	    media_state(t->media) == MEDIA_WANTS)
		return; /* the schedule fetches it: the worker asks again */
	if (media_state(t->media) == MEDIA_FAILED) {
		send_fault(plan, an->query, 404, 0,
			   "this is no video whose index can be read");
		return;
	}
	if (!begin(an))
		return;
	put_names(&an->json, t->obj->key);
	put_u64(&an->json, "size_bytes", t->obj->record->size_bytes);
	put_media(&an->json, t->media);
	finish(an, 200);
}

/* ---- messages ---- */

static bool sane(const struct query *q, size_t bytes)
{
	return bytes == sizeof(*q) && q->type == QUERY_TYPE &&
	       q->kind <= QUERY_MAP && q->slot < SEGMENT_WORKERS &&
	       q->key_bytes > 2 && q->key_bytes <= LAYOUT_KEY_BYTES &&
	       memchr(q->key, '\0', q->key_bytes) == NULL &&
	       memchr(q->key, '/', q->key_bytes) != NULL;
}

void query_take(struct plan *plan, const void *message, size_t bytes)
{
	const struct query *q = message;
	struct answering an = { .plan = plan, .query = q };

	if (!sane(q, bytes)) {
		log_warning("ev=query_refused bytes=%zu", bytes);
		return;
	}
	plan->now_ms = clock_now_ms();
	switch ((enum query_kind)q->kind) {
	case QUERY_PREFETCH:
		answer_prefetch(&an);
		break;
	case QUERY_PROGRESS:
		answer_jobs(&an, false);
		break;
	case QUERY_CANCEL:
		answer_jobs(&an, true);
		break;
	case QUERY_CACHE:
		answer_cache(&an);
		break;
	case QUERY_MAP:
		answer_map(&an);
		break;
	}
	free(an.buffer);
}

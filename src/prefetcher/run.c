#include "prefetcher/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/date.h"
#include "http/slice.h"
#include "prefetcher/describe.h"
#include "prefetcher/plan.h"
#include "upstream/template.h"
#include "util/log.h"

#define RETRY_FIRST_MS    100
#define RETRY_LAST_MS     2000
#define ASKED_MS          300 /* how long an ask counts as a reader */
#define RETRY_AFTER_MAX_S 3600
#define PAUSED_MS         10000     /* a transfer paused longer is given up */
#define FIRST_BYTES       (4 * MIB) /* before a reader's row is seen */
#define ANEW_MAX          3 /* an origin whose validator changes each time */
#define NEAR_BYTES        (64 * KIB)
#define READERS_AGE_MS    5

static struct plan *plan_of(const struct run *run)
{
	return run->title->plan;
}

static const struct conf *conf_of(const struct run *run)
{
	return plan_of(run)->opts.conf;
}

static void count(struct run *run, enum stat_no no, uint64_t n)
{
	stat_add(plan_of(run)->opts.stats, no, n);
}

uint64_t run_next_off(const struct run *run)
{
	return run->fill != NULL ? fill_next_off(run->fill) : run->pos_off;
}

/* Waiting for the bytes between is quicker than a new request when the run
 * brings them in less time than its first byte took. */
bool run_will_reach(const struct run *run, uint64_t off)
{
	uint64_t now_ms = plan_of(run)->now_ms, next = run_next_off(run);
	uint64_t body_ms, rate, wait_ms;

	if (off >= run->end_off || (off < run->from_off && !run->whole))
		return false;
	/* what it has brought before may have been evicted since */
	if (run->fill != NULL ? off < fill_have_from(run->fill)
			      : run->state == RUN_BODY && off < run->pos_off)
		return false;
	if (off <= next || run->whole)
		return true;
	if (off - next <= NEAR_BYTES)
		return true;
	body_ms = now_ms - run->body_ms;
	if (run->state != RUN_BODY || run->body_bytes == 0 || body_ms < 50)
		return false;
	rate = run->body_bytes / body_ms; /* bytes per ms */
	wait_ms = run->body_ms - run->started_ms;
	return off - next <= min_u64(rate * wait_ms, MIB);
}

void run_wanted(struct run *run, uint64_t off, uint64_t want_to)
{
	uint64_t linger = conf_of(run)->cache.linger;

	run->asked_ms = plan_of(run)->now_ms;
	run->wanted_off = max_u64(run->wanted_off, want_to);
	run->limit_off = max_u64(run->limit_off,
				 min_u64(want_to, off + FIRST_BYTES) + linger);
}

/* ---- ending ---- */

static void stop_transfer(struct run *run)
{
	if (run->transfer != NULL)
		transfer_abort(run->transfer);
	run->transfer = NULL;
}

static void end_fill(struct run *run)
{
	if (run->fill != NULL)
		fill_end(run->fill);
	run->fill = NULL;
}

void run_end(struct run *run)
{
	struct title *t = run->title;

	stop_transfer(run);
	end_fill(run);
	TAILQ_REMOVE(&t->runs, run, link);
	t->plan->runs--;
	free(run);
	plan_changed(t);
}

/* ---- faults ---- */

static void retry_later(struct run *run, uint64_t at_least_ms)
{
	uint64_t now_ms = plan_of(run)->now_ms;

	if (run->pos_off > run->furthest_off) { /* it got on: again at once */
		run->furthest_off = run->pos_off;
		run->fault_ms = 0;
		run->delay_ms = 0;
	}
	if (run->fault_ms == 0)
		run->fault_ms = now_ms;
	run->retry_ms = now_ms + max_u64(run->delay_ms, at_least_ms);
	run->delay_ms = run->delay_ms == 0
				? RETRY_FIRST_MS
				: min_u64(run->delay_ms * 2, RETRY_LAST_MS);
	run->state = RUN_RETRY;
	run->paused = run->no_room = false;
}

static bool patience_is_over(const struct run *run)
{
	return run->fault_ms != 0 && run->pos_off <= run->furthest_off &&
	       plan_of(run)->now_ms - run->fault_ms >=
		       conf_of(run)->upstream.patience;
}

/* The run has no transfer now.  May free it. */
static void fault(struct run *run, uint32_t status, const char *reason)
{
	struct title *t = run->title;

	count(run, STAT_origin_errors, 1);
	if (run->fill != NULL)
		(void)!fill_flush(run->fill);
	if (t->obj->record != NULL && !run->revalidate &&
	    !patience_is_over(run)) {
		retry_later(run, 0);
		log_info("ev=run_retry key=%s off=%llu why=\"%s\"", t->obj->key,
			 (unsigned long long)run_next_off(run), reason);
		return;
	}
	log_warning("ev=run_failed key=%s off=%llu status=%u why=\"%s\"",
		    t->obj->key, (unsigned long long)run->pos_off, status,
		    reason);
	plan_failed(t, status, conf_of(run)->cache.negative, 0, reason);
	run_end(run);
}

/* ---- the response's head ---- */

/* Nothing of the old version is to be mixed with what comes. */
static void end_other_runs(struct run *run)
{
	struct run *other, *next;

	for (other = TAILQ_FIRST(&run->title->runs); other != NULL;
	     other = next) {
		next = TAILQ_NEXT(other, link);
		if (other != run)
			run_end(other);
	}
}

static enum transfer_next stop(struct run *run)
{
	run->ended = true;
	return TRANSFER_STOP;
}

static enum transfer_next begin_anew(struct run *run, uint64_t from_off)
{
	end_fill(run);
	run->from_off = run->pos_off = from_off;
	run->end_off = SIZE_UNKNOWN;
	run->limit_off = 0;
	run_wanted(run, from_off, from_off + 1);
	run->suffix = 0;
	run->anew++;
	run->restart = true;
	return TRANSFER_STOP;
}

static int accept_record(struct run *run, struct object_record *rec)
{
	struct title *t = run->title;
	struct object *obj = t->obj;
	struct object_record *old = obj->record;
	struct object_record *merged;
	bool same;
	int rc;

	if (old == NULL)
		return catalog_set_record(plan_of(run)->cat, obj, rec, false);
	same = describe_same(old, rec, t->source);
	if (!same) {
		log_info("ev=generation key=%s old=%u", obj->key,
			 old->generation);
		end_fill(run);
		end_other_runs(run);
		return catalog_set_record(plan_of(run)->cat, obj, rec, true);
	}
	merged = malloc(sizeof(*merged));
	if (merged == NULL)
		return -ENOMEM;
	memcpy(merged, old, object_record_bytes(old));
	describe_confirm(merged, rec);
	merged->flags = rec->flags;
	if (rec->size_bytes != SIZE_UNKNOWN)
		merged->size_bytes = rec->size_bytes;
	rc = 0;
	if (merged->fresh_until_s != old->fresh_until_s ||
	    merged->flags != old->flags ||
	    merged->size_bytes != old->size_bytes)
		rc = catalog_set_record(plan_of(run)->cat, obj, merged, false);
	free(merged);
	return rc;
}

static enum transfer_next on_content(struct run *run,
				     const struct transfer_head *head)
{
	struct title *t = run->title;
	uint64_t asked_off = run->pos_off;
	bool was_known = t->obj->record != NULL;
	struct object_record rec;
	int64_t now_s = plan_wall_s();
	uint32_t generation = was_known ? t->obj->record->generation : 0;
	int rc = describe_head(head, t->source, &conf_of(run)->cache, now_s,
			       now_s, &rec);

	if (rc == 0 && head->ranged && head->size == SIZE_UNKNOWN &&
	    (!was_known || t->obj->record->size_bytes == SIZE_UNKNOWN))
		rc = -EINVAL; /* a part of nobody knows how much */
	if (rc == 0) {
		/* every request has a Range: a 200 means that ranges do not
		 * work, unless If-Range says that the object is another */
		if (!head->ranged && head->size != 0)
			rec.flags |= OBJECT_NO_RANGES;
		if (was_known && !head->ranged && run->anew < ANEW_MAX &&
		    describe_validator(t->obj->record) != NULL &&
		    !describe_same(t->obj->record, &rec, t->source))
			rec.flags &= ~OBJECT_NO_RANGES;
		rc = accept_record(run, &rec);
	}
	if (rc < 0) {
		plan_failed(t, 502, conf_of(run)->cache.negative, 0,
			    rc == -EINVAL ? "the origin encodes the body or "
					    "hides its size"
					  : "the answer's fields are too long");
		return stop(run);
	}
	plan_confirmed(t);
	if (t->obj->record->size_bytes == 0)
		return stop(run);
	if (run->suffix > 0)
		run_wanted(run, head->span.from, SIZE_UNKNOWN);
	run->whole = !head->ranged;
	run->probe = run->revalidate = false;
	run->suffix = 0;
	run->body_off = run->pos_off = head->span.from;
	run->state = RUN_BODY;
	if (was_known && t->obj->record->generation != generation &&
	    !head->ranged && asked_off > 0 &&
	    (t->obj->record->flags & OBJECT_NO_RANGES) == 0)
		return begin_anew(run, asked_off); /* from there, not from 0 */
	if (run->fill != NULL && fill_next_off(run->fill) != run->pos_off)
		end_fill(run);
	if (run->fill == NULL || run->whole)
		run->from_off = run->pos_off;
	return TRANSFER_GO;
}

static enum transfer_next on_confirmed(struct run *run,
				       const struct transfer_head *head)
{
	struct title *t = run->title;
	struct object_record fresh, *rec = malloc(sizeof(*rec));
	int64_t now_s = plan_wall_s();
	struct transfer_head *full = malloc(sizeof(*full));
	int rc = -ENOMEM;

	if (rec != NULL && full != NULL) {
		/* fields that a 304 leaves out stay as they were */
		*full = *head;
		memcpy(rec, t->obj->record,
		       object_record_bytes(t->obj->record));
		if (full->cache_control[0] == '\0')
			snprintf(full->cache_control,
				 sizeof(full->cache_control), "%s",
				 object_record_text(rec, TEXT_CACHE_CONTROL));
		if (full->last_modified[0] == '\0')
			snprintf(full->last_modified,
				 sizeof(full->last_modified), "%s",
				 object_record_text(rec, TEXT_LAST_MODIFIED));
		full->content_encoding[0] = '\0';
		rc = describe_head(full, t->source, &conf_of(run)->cache, now_s,
				   now_s, &fresh);
	}
	if (rc == 0) {
		describe_confirm(rec, &fresh);
		rc = catalog_set_record(plan_of(run)->cat, t->obj, rec, false);
	}
	free(full);
	free(rec);
	if (rc == 0) {
		count(run, STAT_revalidations, 1);
		plan_confirmed(t);
	} else {
		plan_failed(t, 502, conf_of(run)->cache.negative, 0,
			    "the origin's confirmation is unusable");
	}
	return stop(run);
}

/* An empty object has no range that could be satisfied. */
static enum transfer_next on_unsatisfiable(struct run *run,
					   const struct transfer_head *head)
{
	const struct object_record *rec = run->title->obj->record;

	if (head->size == 0 && run->pos_off == 0 && run->suffix == 0) {
		struct transfer_head *empty = malloc(sizeof(*empty));
		enum transfer_next next;

		if (empty == NULL)
			return stop(run);
		*empty = *head;
		empty->ranged = false;
		empty->content_type[0] = '\0'; /* that of the error's page */
		next = on_content(run, empty);
		free(empty);
		return next;
	}
	if (run->pos_off == 0 && run->suffix == 0) {
		plan_failed(run->title, 502, conf_of(run)->cache.negative, 0,
			    "the origin refuses every range");
		return stop(run);
	}
	if (rec != NULL && run->pos_off < rec->size_bytes &&
	    (head->size == SIZE_UNKNOWN || head->size == rec->size_bytes)) {
		plan_failed(run->title, 502, conf_of(run)->cache.negative, 0,
			    "the origin refuses a range that exists");
		return stop(run);
	}
	/* beyond the end: learn what there is from the beginning */
	return begin_anew(run, 0);
}

/* Seconds from now; 0 = not told or unreadable.  RFC 9110 section 10.2.3. */
static uint32_t retry_after_s(const struct transfer_head *head)
{
	struct slice text = slice_of(head->retry_after);
	int64_t now_s = plan_wall_s(), at_s;
	uint64_t seconds;

	if (slice_to_u64(text, &seconds))
		return (uint32_t)min_u64(seconds, RETRY_AFTER_MAX_S);
	if (text.bytes > 0 && date_parse(text, now_s, &at_s) == 0 &&
	    at_s > now_s)
		return (uint32_t)min_u64((uint64_t)(at_s - now_s),
					 RETRY_AFTER_MAX_S);
	return 0;
}

static bool is_passing(int status)
{
	return status >= 500 || status == 408 || status == 425 || status == 429;
}

static enum transfer_next on_error_status(struct run *run,
					  const struct transfer_head *head)
{
	struct title *t = run->title;
	char reason[64];

	snprintf(reason, sizeof(reason), "the origin answered %d",
		 head->status);
	if (t->obj->record != NULL && !run->revalidate &&
	    is_passing(head->status) && !patience_is_over(run)) {
		count(run, STAT_origin_errors, 1);
		run->body_bytes = 0;
		retry_later(run, retry_after_s(head) * (uint64_t)1000);
		return TRANSFER_STOP;
	}
	log_info("ev=origin_status key=%s status=%d", t->obj->key,
		 head->status);
	if (head->status >= 400 && head->status <= 599)
		plan_failed(t, (uint32_t)head->status,
			    conf_of(run)->cache.negative, retry_after_s(head),
			    reason);
	else
		plan_failed(t, 502, conf_of(run)->cache.negative, 0, reason);
	if (head->status == 404 || head->status == 410)
		t->gone = true;
	return stop(run);
}

static enum transfer_next on_head(void *ctx, const struct transfer_head *head)
{
	struct run *run = ctx;

	run->body_bytes = 0;
	run->body_ms = 0;
	if (head->status == 200 || head->status == 206)
		return on_content(run, head);
	if (head->status == 304 && run->revalidate)
		return on_confirmed(run, head);
	if (head->status == 416)
		return on_unsatisfiable(run, head);
	return on_error_status(run, head);
}

/* ---- the body ---- */

/* Where this run must stop writing: bytes that are present, or that another
 * run brings. */
static uint64_t border(const struct run *run, uint64_t off)
{
	uint64_t to = catalog_next_present(run->title->obj, off);
	const struct run *other;

	TAILQ_FOREACH (other, &run->title->runs, link) {
		if (other == run || other->fill == NULL)
			continue;
		if (fill_have_from(other->fill) <= off &&
		    off < fill_next_off(other->fill))
			return off;
		if (fill_have_from(other->fill) >= off)
			to = min_u64(to, fill_have_from(other->fill));
	}
	return to;
}

/* First byte after off that this run need not skip. */
static uint64_t skip_present(const struct run *run, uint64_t off)
{
	const struct extent *ex = catalog_extent_at(run->title->obj, off);
	const struct run *other;

	if (ex != NULL)
		return ex->span.to;
	TAILQ_FOREACH (other, &run->title->runs, link)
		if (other != run && other->fill != NULL &&
		    fill_have_from(other->fill) <= off &&
		    off < fill_next_off(other->fill))
			return fill_next_off(other->fill);
	return off;
}

/* Is it far enough ahead of those who read? */
static bool at_limit(struct run *run)
{
	if (run->pos_off < run->limit_off)
		return false;
	plan_count_readers(run->title, READERS_AGE_MS);
	return run->pos_off >= run->limit_off;
}

/* Without readers it ends at its limit, but for [cache] on_abandon. */
static bool goes_on_alone(const struct run *run)
{
	return conf_of(run)->cache.on_abandon == CONF_ON_ABANDON_OBJECT ||
	       !TAILQ_EMPTY(&run->title->waiters);
}

static enum transfer_next pause(struct run *run, bool no_room)
{
	run->paused = true;
	run->no_room = no_room;
	run->paused_ms = plan_of(run)->now_ms;
	return TRANSFER_PAUSE;
}

static int take(struct run *run, const uint8_t *bytes, size_t n)
{
	bool begun = run->fill == NULL;
	int rc = 0;

	if (begun)
		rc = fill_begin(&run->fill, plan_of(run)->cat, run->title->obj,
				run->pos_off);
	if (rc < 0)
		return rc;
	if (begun)
		plan_changed(run->title); /* there is a row to wait on */
	rc = fill_write(run->fill, bytes, n);
	if (rc == 0)
		run->pos_off += n;
	return rc;
}

static enum transfer_next on_body(void *ctx, const uint8_t *bytes, size_t n)
{
	struct run *run = ctx;
	uint64_t to = run->body_off + n;

	if (run->body_bytes == 0 && run->body_ms == 0)
		run->body_ms = plan_of(run)->now_ms;
	while (run->pos_off < to) {
		uint64_t border_off = border(run, run->pos_off);
		size_t skip = run->pos_off - run->body_off;
		int rc;

		if (border_off == run->pos_off) {
			uint64_t next = skip_present(run, run->pos_off);

			end_fill(run);
			/* an empty fill there: its run brings what follows */
			if (!run->whole || next == run->pos_off)
				return stop(run);
			run->pos_off = min_u64(to, next);
			continue;
		}
		if (at_limit(run)) {
			if (run->readers == 0 && !goes_on_alone(run)) {
				count(run, STAT_runs_abandoned, 1);
				return stop(run);
			}
			return pause(run, false);
		}
		rc = take(run, bytes + skip,
			  min_u64(to, border_off) - run->pos_off);
		if (rc == -EAGAIN)
			return pause(run, true);
		if (rc < 0) {
			log_error("ev=run_write_failed key=%s errno=%d",
				  run->title->obj->key, -rc);
			plan_failed(run->title, 503,
				    conf_of(run)->cache.negative, 0,
				    "no place for the bytes");
			return stop(run);
		}
	}
	run->body_off = to;
	run->body_bytes += n;
	count(run, STAT_origin_bytes, n);
	return TRANSFER_GO;
}

static void on_turn(void *ctx)
{
	struct run *run = ctx;

	if (run->fill != NULL)
		(void)!fill_turn(
			run->fill); /* no room: the next write says so */
}

/* ---- the end of a transfer ---- */

/* An answer without a length ended well: now the length is known. */
static void learn_size(struct run *run)
{
	struct object *obj = run->title->obj;
	struct object_record *rec;
	int rc;

	if (!run->whole || obj->record == NULL ||
	    obj->record->size_bytes != SIZE_UNKNOWN)
		return;
	rec = malloc(sizeof(*rec));
	if (rec == NULL)
		return;
	memcpy(rec, obj->record, object_record_bytes(obj->record));
	rec->size_bytes = run->pos_off;
	rc = catalog_set_record(plan_of(run)->cat, obj, rec, false);
	if (rc < 0)
		log_error("ev=size_lost key=%s errno=%d", obj->key, -rc);
	free(rec);
	if (run->fill != NULL) {
		(void)!fill_flush(run->fill);
		fill_set_size(run->fill, run->pos_off);
	}
}

/* A whole answer without a length, of an object whose size is known. */
static bool is_short(const struct run *run)
{
	const struct object_record *rec = run->title->obj->record;

	return run->whole && rec != NULL && rec->size_bytes != SIZE_UNKNOWN &&
	       run->pos_off < rec->size_bytes;
}

static int begin_transfer(struct run *run);

static void on_end(void *ctx, enum transfer_end how, const char *reason)
{
	struct run *run = ctx;
	int rc;

	run->transfer = NULL;
	if (run->ended) {
		run_end(run);
		return;
	}
	if (run->restart) {
		run->restart = false;
		run->state = RUN_ASKED;
		rc = begin_transfer(run);
		if (rc < 0)
			fault(run, 502, strerror(-rc));
		return;
	}
	switch (how) {
	case TRANSFER_DONE:
		if (is_short(run)) {
			fault(run, 502, "the body is shorter than the object");
			return;
		}
		learn_size(run);
		run_end(run);
		return;
	case TRANSFER_STOPPED: /* on_error_status() said RETRY */
		return;
	case TRANSFER_TIMEOUT:
		fault(run, 504, reason);
		return;
	case TRANSFER_CUT:
	case TRANSFER_UNREACHABLE:
	case TRANSFER_REFUSED:
	case TRANSFER_BROKEN:
	case TRANSFER_FAULT:
		fault(run, 502, reason);
		return;
	}
}

/* ---- beginning ---- */

static const struct transfer_ops ops = {
	.head = on_head,
	.body = on_body,
	.turn = on_turn,
	.end = on_end,
};

static int begin_transfer(struct run *run)
{
	struct title *t = run->title;
	const struct object_record *rec = t->obj->record;
	const char *id = strchr(t->obj->key, '/');
	struct transfer_want want = {
		.from = run->pos_off,
		.to = run->end_off,
		.suffix = run->suffix,
		.allow_private = t->source->allow_private,
	};
	char url[TRANSFER_URL_BYTES];
	int rc;

	must(id != NULL);
	rc = template_expand(t->source->url, id + 1, strlen(id + 1), url,
			     sizeof(url));
	if (rc < 0)
		return rc;
	want.url = url;
	if (rec != NULL && run->revalidate) {
		const char *etag = object_record_text(rec, TEXT_ETAG);
		const char *date = object_record_text(rec, TEXT_LAST_MODIFIED);

		if (etag[0] != '\0')
			want.if_none_match = etag;
		else if (date[0] != '\0')
			want.if_modified_since = date;
	} else if (rec != NULL && !run->probe) {
		want.if_range = describe_validator(rec);
		if (rec->flags & OBJECT_NO_RANGES) {
			want.from = 0;
			want.to = SIZE_UNKNOWN;
			want.if_range = NULL;
		}
	}
	run->body_bytes = 0;
	run->body_ms = 0;
	rc = transfer_begin(&run->transfer, plan_of(run)->upstream, &want, &ops,
			    run);
	if (rc < 0)
		return rc;
	run->state = RUN_ASKED;
	count(run, STAT_origin_requests, 1);
	return 0;
}

int run_start(struct title *t, const struct run_want *want, struct run **out)
{
	struct plan *plan = t->plan;
	struct run *run;
	int rc;

	if (plan->runs >= SEGMENT_RUNS / 2)
		return -EAGAIN;
	run = calloc(1, sizeof(*run));
	if (run == NULL)
		return -ENOMEM;
	run->title = t;
	run->from_off = run->pos_off = want->from_off;
	run->end_off = want->end_off;
	run->suffix = want->suffix;
	run->probe = want->probe;
	run->revalidate = want->revalidate;
	run->whole = t->obj->record != NULL &&
		     (t->obj->record->flags & OBJECT_NO_RANGES) != 0;
	if (run->whole)
		run->from_off = run->pos_off = 0;
	run->started_ms = plan->now_ms;
	run_wanted(run, run->from_off, want->want_to);
	if (!run->probe && !run->revalidate && !run->whole) {
		rc = fill_begin(&run->fill, plan->cat, t->obj, run->pos_off);
		if (rc < 0) {
			free(run);
			return rc;
		}
	}
	rc = begin_transfer(run);
	if (rc < 0) {
		end_fill(run);
		free(run);
		return rc;
	}
	TAILQ_INSERT_TAIL(&t->runs, run, link);
	plan->runs++;
	count(run, STAT_runs_started, 1);
	*out = run;
	return 0;
}

/* ---- time ---- */

static bool is_abandoned(struct run *run)
{
	const struct conf_cache *cache = &conf_of(run)->cache;
	uint64_t now_ms = plan_of(run)->now_ms;

	if (run->readers > 0 || now_ms - run->asked_ms < ASKED_MS ||
	    !TAILQ_EMPTY(&run->title->waiters)) {
		run->abandoned_ms = 0;
		return false;
	}
	if (run->abandoned_ms == 0) {
		run->abandoned_ms = now_ms;
		run->abandoned_off = min_u64(run->pos_off, run->wanted_off);
		if (cache->on_abandon == CONF_ON_ABANDON_LINGER)
			run->limit_off = run->abandoned_off + cache->linger;
	}
	switch ((enum conf_on_abandon)cache->on_abandon) {
	case CONF_ON_ABANDON_ABORT:
		return true;
	case CONF_ON_ABANDON_LINGER:
		return now_ms - run->abandoned_ms >= cache->linger_time ||
		       run->pos_off - run->abandoned_off >= cache->linger;
	case CONF_ON_ABANDON_OBJECT:
		run->limit_off = SIZE_UNKNOWN;
		/* there may be no room for what nobody reads */
		return run->no_room &&
		       now_ms - run->paused_ms >= cache->linger_time;
	}
	return true;
}

static void resume(struct run *run)
{
	run->paused = run->no_room = false;
	transfer_resume(run->transfer);
}

void run_tick(struct run *run)
{
	struct plan *plan = plan_of(run);
	uint64_t lead = plan->lead_bytes;

	if (is_abandoned(run)) {
		count(run, STAT_runs_abandoned, 1);
		run_end(run);
		return;
	}
	if (run->fill != NULL && run->readers > 0 &&
	    plan->cat->scratch_used > plan->cat->opts.scratch_bytes / 2)
		fill_trim(run->fill, run->readers_min_off);
	if (run->state == RUN_RETRY && plan->now_ms >= run->retry_ms) {
		int rc;

		if (run->fill != NULL) {
			(void)!fill_flush(run->fill);
			run->pos_off = fill_next_off(run->fill);
		}
		rc = begin_transfer(run);
		count(run, STAT_origin_resumes, 1);
		if (rc < 0)
			fault(run, 502, strerror(-rc));
		return;
	}
	if (!run->paused || run->transfer == NULL)
		return;
	if (run->no_room) {
		if (run->fill == NULL || fill_flush(run->fill) == 0)
			resume(run);
	} else if (run->limit_off == SIZE_UNKNOWN ||
		   run->pos_off + lead / 4 <= run->limit_off) {
		resume(run);
	} else if (plan->now_ms - run->paused_ms >= PAUSED_MS && !run->whole) {
		run_end(run); /* its connection is better used elsewhere */
	}
}

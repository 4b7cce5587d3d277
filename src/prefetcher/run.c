#include "prefetcher/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/date.h"
#include "http/slice.h"
#include "prefetcher/describe.h"
#include "prefetcher/locator.h"
#include "prefetcher/origins.h"
#include "prefetcher/plan.h"
#include "prefetcher/schedule.h"
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
#define RESOLVES_MAX      3          /* resolutions until bytes come */
#define WANTED_MS         400        /* before the schedule's last pass */
#define LATER_MOST_MS     60000      /* then an origin is asked again anyway */
#define SHORT_BYTES       (64 * KIB) /* of an answer */
#define JOIN_MS           1000       /* a bounded range is waited for so long */
#define OVERLAP_BYTES     (16 * KIB) /* compared when a URL was replaced */
#define SEEN_LATE_BYTES   (256 * KIB) /* ahead of readers: fetched ahead */

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

bool run_is_asked(const struct run *run)
{
	return plan_of(run)->now_ms - run->asked_ms < ASKED_MS;
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
		return run->ahead && off < run->range_end &&
		       off - next <= MIB / 2;
	rate = run->body_bytes / body_ms; /* bytes per ms */
	/* one that ends soon anyway: nothing is to be fetched twice */
	if (run->range_end != SIZE_UNKNOWN && off < run->range_end &&
	    off - next <= rate * JOIN_MS)
		return true;
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

/* The transfer is over: what it tells of its origin. */
static void count_transfer(struct run *run)
{
	uint64_t now_ms = plan_of(run)->now_ms;

	if (!run->counted)
		return;
	run->counted = false;
	origin_end(run->origin, run->ahead);
	if (run->body_bytes > 0 && !run->was_paused)
		origin_note_rate(run->origin, run->body_bytes,
				 now_ms - run->body_ms,
				 run->body_ms - run->transfer_ms,
				 run->range_end != SIZE_UNKNOWN);
	run->origin = NULL;
}

static void stop_transfer(struct run *run)
{
	if (run->transfer != NULL)
		transfer_abort(run->transfer);
	run->transfer = NULL;
	count_transfer(run);
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
	free(run->candidate);
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
	run->paused = run->no_room = run->held = false;
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

/* same: rec is of the version that is stored. */
static int accept_record(struct run *run, const struct object_record *rec,
			 bool same)
{
	struct title *t = run->title;
	struct object *obj = t->obj;
	struct object_record *old = obj->record;
	struct object_record *merged;
	int rc;

	t->resolved_us = run->resolved_us;
	if (old == NULL)
		return catalog_set_record(plan_of(run)->cat, obj, rec, false);
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

/* The URL was replaced and its validator is another one, as those of another
 * server often are: the bytes will tell.  What is known stays in force. */
static bool begin_proof(struct run *run, const struct transfer_head *head,
			const struct object_record *rec)
{
	const struct object_record *old = run->title->obj->record;

	if (run->overlap_bytes == 0 || !head->ranged ||
	    head->span.from + run->overlap_bytes != run->pos_off ||
	    rec->size_bytes != old->size_bytes)
		return false;
	free(run->candidate);
	run->candidate = malloc(sizeof(*run->candidate));
	if (run->candidate == NULL)
		return false;
	memcpy(run->candidate, rec, object_record_bytes(rec));
	run->proving = true;
	run->body_off = head->span.from;
	run->state = RUN_BODY;
	return true;
}

static void note_answer(struct run *run, const struct transfer_head *head)
{
	if (run->origin == NULL)
		return;
	origin_note_good(run->origin, plan_of(run)->now_ms);
	if (head->ranged)
		origin_note_accepted(run->origin,
				     run->range_end == SIZE_UNKNOWN
					     ? SIZE_UNKNOWN
					     : span_len(head->span));
}

static enum transfer_next on_content(struct run *run,
				     const struct transfer_head *head)
{
	struct title *t = run->title;
	uint64_t asked_off = run->pos_off;
	bool was_known = t->obj->record != NULL, same = true;
	struct object_record rec;
	int64_t now_s = plan_wall_s();
	uint32_t generation = was_known ? t->obj->record->generation : 0;
	int rc = describe_head(head, t->source, &conf_of(run)->cache, now_s,
			       now_s, &rec);

	note_answer(run, head);
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
		if (was_known)
			same = describe_same(t->obj->record, &rec, t->source);
		if (!same && begin_proof(run, head, &rec))
			return TRANSFER_GO;
		rc = accept_record(run, &rec, same);
	}
	if (rc < 0) {
		plan_failed(t, 502, conf_of(run)->cache.negative, 0,
			    rc == -EINVAL ? "the origin encodes the body or "
					    "hides its size"
					  : "the answer's fields are too long");
		return stop(run);
	}
	plan_confirmed(t);
	if (!same || asked_off > 0)
		t->denials = 0;
	if (t->obj->record->size_bytes == 0)
		return stop(run);
	if (run->suffix > 0)
		run_wanted(run, head->span.from, SIZE_UNKNOWN);
	run->whole = !head->ranged;
	if (run->whole)
		run->end_off = run->range_end = SIZE_UNKNOWN;
	run->probe = run->revalidate = false;
	run->suffix = 0;
	run->body_off = run->pos_off = head->span.from;
	if (same && head->ranged &&
	    head->span.from + run->overlap_bytes == asked_off)
		run->pos_off = asked_off;
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

/* The same once more, with what has been learned meanwhile. */
static enum transfer_next ask_again(struct run *run)
{
	run->restart = true;
	return TRANSFER_STOP;
}

/* Some origins say so of ranges that are too long for them. */
static bool shorter_may_help(struct run *run, int status)
{
	if (status != 400 && status != 403 && status != 413 && status != 416)
		return false;
	if (run->origin == NULL || run->whole || run->suffix > 0)
		return false;
	return origin_note_refused(run->origin,
				   run->range_end == SIZE_UNKNOWN
					   ? SIZE_UNKNOWN
					   : run->range_end - run->pos_off);
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
	if ((run->pos_off == 0 ||
	     (rec != NULL && run->pos_off < rec->size_bytes)) &&
	    shorter_may_help(run, 416))
		return ask_again(run);
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
	/* its other answers say that there is more: it would go on like that
	 * for ever */
	if (run->title->denials >= ANEW_MAX) {
		plan_failed(run->title, 502, conf_of(run)->cache.negative, 0,
			    "the origin tells two sizes");
		return stop(run);
	}
	/* beyond the end: learn what there is from the beginning */
	run->title->denials++;
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

/* URLs expire: the resolver knows a new one.  Once, until bytes come. */
static bool resolve_anew(struct run *run, int status)
{
	if ((status != 403 && status != 404 && status != 410) ||
	    run->title->source->type == CONF_SOURCE_TYPE_TEMPLATE ||
	    run->resolved_again)
		return false;
	run->resolved_again = true;
	count(run, STAT_resolve_again, 1);
	log_info("ev=url_refused key=%s status=%d off=%llu",
		 run->title->obj->key, status,
		 (unsigned long long)run->pos_off);
	return true;
}

static enum transfer_next on_error_status(struct run *run,
					  const struct transfer_head *head)
{
	struct title *t = run->title;
	char reason[64];

	if ((head->status == 429 ||
	     (head->status == 503 && head->retry_after[0] != '\0')) &&
	    run->origin != NULL)
		origin_note_busy(run->origin, retry_after_s(head) * 1000u,
				 plan_of(run)->now_ms);
	if (shorter_may_help(run, head->status) ||
	    resolve_anew(run, head->status))
		return ask_again(run);
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
	run->paused = run->was_paused = true;
	run->no_room = no_room;
	run->paused_ms = plan_of(run)->now_ms;
	return TRANSFER_PAUSE;
}

/* Does it come before anybody needs it? */
static bool comes_early(const struct run *run)
{
	if (run->readers > 0)
		return run->readers_max_off + SEEN_LATE_BYTES < run->pos_off;
	return run->ahead || !run_is_asked(run);
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
	if (rc < 0)
		return rc;
	if (run->title->obj->kept && !run->fill->scratch && comes_early(run))
		catalog_note_ahead(
			plan_of(run)->cat, run->title->obj,
			(struct span){ run->pos_off, run->pos_off + n });
	schedule_took(run, n);
	run->pos_off += n;
	return 0;
}

/* Bytes before pos_off, asked for once more: are they those that are stored?
 * Then the answer's record is as good as the old one. */
static enum transfer_next prove(struct run *run, const uint8_t *bytes, size_t n)
{
	struct title *t = run->title;
	uint64_t off = run->body_off;
	uint8_t stored[4096];

	n = min_u64(n, run->pos_off - off);
	while (n > 0) {
		size_t got =
			plan_read(t, off, stored, min_u64(n, sizeof(stored)));

		if (got == 0) { /* evicted meanwhile: nothing to compare */
			run->proving = false;
			return ask_again(run);
		}
		if (memcmp(stored, bytes, got) != 0) {
			log_info("ev=url_other_bytes key=%s off=%llu",
				 t->obj->key, (unsigned long long)off);
			run->proving = false;
			if (accept_record(run, run->candidate, false) < 0)
				return stop(run);
			plan_confirmed(t);
			return begin_anew(run, run->pos_off);
		}
		bytes += got;
		off += got;
		n -= got;
	}
	if (off < run->pos_off)
		return TRANSFER_GO;
	run->proving = false;
	/* with its validators: the next request is made with them */
	if (catalog_set_record(t->plan->cat, t->obj, run->candidate, false) < 0)
		return stop(run);
	t->resolved_us = run->resolved_us;
	plan_confirmed(t);
	return TRANSFER_GO;
}

static enum transfer_next on_body(void *ctx, const uint8_t *bytes, size_t n)
{
	struct run *run = ctx;
	uint64_t to = run->body_off + n;

	if (run->body_bytes == 0 && run->body_ms == 0)
		run->body_ms = plan_of(run)->now_ms;
	if (run->proving && run->body_off < run->pos_off) {
		enum transfer_next next = prove(run, bytes, n);

		if (next != TRANSFER_GO)
			return next;
	}
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
			/* a whole one cannot be gone on with: while the
			 * schedule wants it, it waits */
			if (run->readers == 0 && !goes_on_alone(run) &&
			    !(run->whole && run->ahead)) {
				count(run, STAT_runs_abandoned, 1);
				return stop(run);
			}
			return pause(run, false);
		}
		if (schedule_holds(run)) {
			run->held = true;
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
	run->resolved_again = false;
	run->resolves = 0;
	count(run, STAT_origin_bytes, n);
	if (run->origin != NULL)
		origin_note_bytes(run->origin, n);
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

/* Its request is answered, but the run goes on: by another request, at once
 * or when somebody needs more. */
static bool has_more(const struct run *run)
{
	const struct object_record *rec = run->title->obj->record;

	return !run->whole && rec != NULL && rec->size_bytes != SIZE_UNKNOWN &&
	       run->body_bytes > 0 &&
	       run->pos_off < min_u64(run->end_off, rec->size_bytes);
}

static void go_on(struct run *run)
{
	int rc = 0;

	if (border(run, run->pos_off) == run->pos_off) {
		run_end(run); /* another one brings what follows */
		return;
	}
	if (run->pos_off < run->range_end && run->body_bytes < SHORT_BYTES) {
		/* it gives less than it is asked for: not in a hurry */
		retry_later(run, RETRY_FIRST_MS);
		return;
	}
	run->state = RUN_RETRY;
	run->between = true;
	run->retry_ms = run->paused_ms = plan_of(run)->now_ms;
	if (!at_limit(run))
		rc = begin_transfer(run);
	if (rc < 0)
		fault(run, 502, strerror(-rc));
}

static void on_end(void *ctx, enum transfer_end how, const char *reason)
{
	struct run *run = ctx;
	int rc;

	run->transfer = NULL;
	count_transfer(run);
	run->proving = false;
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
		if (has_more(run))
			go_on(run);
		else
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

/* ---- the URL ---- */

/* Not so when it is not known by which URL the stored bytes came: then only
 * validators count. */
static bool url_was_replaced(const struct run *run)
{
	return run->title->resolved_us != 0 &&
	       run->title->resolved_us != run->resolved_us;
}

/* Bytes before pos_off that the answer of a replaced URL is to repeat. */
static uint64_t overlap_of(const struct run *run)
{
	struct title *t = run->title;
	uint64_t n = OVERLAP_BYTES, done = 0;
	uint8_t bytes[4096];

	if (t->obj->record == NULL || run->probe || run->revalidate ||
	    run->whole || run->pos_off < n || !url_was_replaced(run))
		return 0;
	while (done < n) {
		size_t got = plan_read(t, run->pos_off - n + done, bytes,
				       min_u64(n - done, sizeof(bytes)));

		if (got == 0)
			return 0;
		done += got;
	}
	return n;
}

/* -EAGAIN: the resolver was asked; run_resolved() goes on. */
static int find_url(struct run *run, struct location *at)
{
	struct title *t = run->title;
	struct plan *plan = t->plan;
	int64_t known_us = 0;
	int rc = locator_find(plan->locator, t->source, t->obj->key,
			      plan_wall_s(), at);

	if (rc == 0 && run->resolved_again && at->resolved_us != 0 &&
	    at->resolved_us == run->resolved_us)
		rc = -EAGAIN; /* that is the one that was refused */
	if (rc == -EAGAIN)
		known_us = at->resolved_us;
	if (rc == 0)
		run->resolved_us = at->resolved_us;
	if (rc != -EAGAIN)
		return rc;
	if (++run->resolves > RESOLVES_MAX)
		return -ETIMEDOUT;
	rc = locator_ask(plan->locator, t->obj->key, known_us, plan->now_ms);
	return rc < 0 ? rc : -EAGAIN;
}

void run_resolved(struct run *run, uint32_t status, uint32_t retry_after_s,
		  const char *reason)
{
	struct title *t = run->title;
	int rc;

	must(run->state == RUN_RESOLVE);
	if (status == 200) {
		rc = begin_transfer(run);
		if (rc < 0)
			fault(run, 502, strerror(-rc));
		return;
	}
	if (status != 404) {
		fault(run, status, reason);
		return;
	}
	log_info("ev=resolve_failed key=%s status=%u why=\"%s\"", t->obj->key,
		 status, reason);
	plan_failed(t, status, conf_of(run)->cache.negative, retry_after_s,
		    reason);
	run_end(run);
}

/* ---- beginning ---- */

static const struct transfer_ops ops = {
	.head = on_head,
	.body = on_body,
	.turn = on_turn,
	.end = on_end,
};

/* No byte is asked for that is there, or that another run brings; but at
 * least one. */
static uint64_t stop_off(const struct run *run)
{
	uint64_t to = border(run, run->pos_off);

	return to > run->pos_off ? min_u64(to, run->end_off) : run->end_off;
}

/* Fields of the request that depend on what is known of the object. */
static void make_conditional(const struct run *run, struct transfer_want *want)
{
	const struct object_record *rec = run->title->obj->record;
	const char *etag, *date;

	if (rec == NULL || run->probe)
		return;
	if (!run->revalidate) {
		if (rec->flags & OBJECT_NO_RANGES) {
			want->from = 0;
			want->to = SIZE_UNKNOWN;
		} else if (!url_was_replaced(run)) {
			want->if_range = describe_validator(rec);
		} /* else the answer itself is compared: another server may
		   * have other validators */
		return;
	}
	etag = object_record_text(rec, TEXT_ETAG);
	date = object_record_text(rec, TEXT_LAST_MODIFIED);
	if (etag[0] != '\0')
		want->if_none_match = etag;
	else if (date[0] != '\0')
		want->if_modified_since = date;
}

static int begin_transfer(struct run *run)
{
	struct title *t = run->title;
	struct plan *plan = t->plan;
	struct transfer_want want = {
		.suffix = run->suffix,
		.allow_private = t->source->allow_private,
	};
	struct location at;
	int rc = find_url(run, &at);

	if (rc == -EAGAIN) {
		run->state = RUN_RESOLVE;
		return 0;
	}
	if (rc < 0)
		return rc;
	run->origin = origins_of_url(plan->origins, at.url, plan->now_ms);
	run->range_end = run->end_off;
	if (!run->probe && !run->revalidate && !run->whole)
		run->range_end = stop_off(run);
	if (run->origin != NULL && run->suffix == 0 && !run->whole)
		run->range_end = origin_range_end(run->origin, run->pos_off,
						  run->range_end);
	run->overlap_bytes = overlap_of(run);
	want.url = at.url;
	want.fields = at.fields;
	want.from = run->pos_off - run->overlap_bytes;
	want.to = run->range_end;
	make_conditional(run, &want);
	run->body_bytes = 0;
	run->body_ms = 0;
	run->was_paused = run->between = false;
	run->transfer_ms = plan->now_ms;
	rc = transfer_begin(&run->transfer, plan->upstream, &want, &ops, run);
	if (rc < 0) {
		run->origin = NULL;
		return rc;
	}
	run->counted = run->origin != NULL;
	if (run->counted)
		origin_begin(run->origin, run->ahead);
	run->state = RUN_ASKED;
	count(run, STAT_origin_requests, 1);
	return 0;
}

/* Is there a connection for it?  Who is waited for may take that of a run
 * that can wait. */
static bool may_connect(struct title *t, const struct run_want *want)
{
	struct plan *plan = t->plan;
	struct origin *o = plan_origin(t);
	bool waited = !want->ahead || want->urgent;

	if (o == NULL)
		return true;
	if (!waited &&
	    (origin_blocked_until_ms(o) > plan->now_ms ||
	     origin_ahead(o) >= plan->opts.conf->upstream.max_connections))
		return false;
	if (origin_active(o) < origin_limit(o))
		return true;
	return waited && schedule_preempt(plan, o, plan->now_ms);
}

int run_start(struct title *t, const struct run_want *want, struct run **out)
{
	struct plan *plan = t->plan;
	struct run *run;
	int rc;

	if (plan->runs >= SEGMENT_RUNS / 2 || !may_connect(t, want))
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
	run->ahead = want->ahead;
	run->for_job = want->for_job;
	run->deadline_ms = want->ahead ? want->deadline_ms : plan->now_ms;
	run->wanted_ms = want->ahead ? plan->now_ms : 0;
	run->whole = t->obj->record != NULL &&
		     (t->obj->record->flags & OBJECT_NO_RANGES) != 0;
	if (run->whole) {
		run->from_off = run->pos_off = 0;
		run->end_off = SIZE_UNKNOWN;
	}
	run->started_ms = plan->now_ms;
	run_wanted(run, run->from_off, want->want_to);
	if (run->ahead)
		run->asked_ms = 0; /* by nobody */
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
	if (run->ahead)
		count(run, STAT_prefetch_runs, 1);
	*out = run;
	return 0;
}

/* ---- time ---- */

static bool is_abandoned(struct run *run)
{
	const struct conf_cache *cache = &conf_of(run)->cache;
	uint64_t now_ms = plan_of(run)->now_ms;

	if (run->readers > 0 || run_is_asked(run) ||
	    run->wanted_ms + WANTED_MS > schedule_passed_ms(plan_of(run)) ||
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
	run->paused = run->no_room = run->held = false;
	transfer_resume(run->transfer);
}

void run_tick(struct run *run)
{
	struct plan *plan = plan_of(run);
	uint64_t lead = plan_window(run->title, run->pos_off);

	if (is_abandoned(run)) {
		count(run, STAT_runs_abandoned, 1);
		run_end(run);
		return;
	}
	if (run->fill != NULL && run->readers > 0 &&
	    plan->cat->scratch_used > plan->cat->opts.scratch_bytes / 2)
		fill_trim(run->fill, run->readers_min_off);
	if (run->state == RUN_RETRY && !run->between &&
	    plan->now_ms < run->retry_ms && patience_is_over(run)) {
		/* told to come back later than anybody will wait */
		uint64_t left_ms =
			min_u64(run->retry_ms - plan->now_ms, LATER_MOST_MS);

		plan_failed(run->title, 503, left_ms,
			    (uint32_t)(left_ms / 1000 + 1),
			    "the origin wants a longer pause");
		run_end(run);
		return;
	}
	if (run->state == RUN_RETRY && plan->now_ms >= run->retry_ms) {
		int rc;

		if (run->between && run->pos_off >= run->limit_off) {
			if (plan->now_ms - run->paused_ms >= PAUSED_MS)
				run_end(run);
			return;
		}
		if (!run->between)
			count(run, STAT_origin_resumes, 1);
		if (run->fill != NULL) {
			(void)!fill_flush(run->fill);
			run->pos_off = fill_next_off(run->fill);
		}
		rc = begin_transfer(run);
		if (rc < 0)
			fault(run, 502, strerror(-rc));
		return;
	}
	if (!run->paused || run->transfer == NULL)
		return;
	if (run->no_room) {
		if (run->fill == NULL || fill_flush(run->fill) == 0)
			resume(run);
		else if (run->readers == 0 &&
			 plan->now_ms - run->paused_ms >= PAUSED_MS)
			run_end(run); /* others may need the room */
	} else if (run->held) {
		if (!schedule_holds(run))
			resume(run);
		else if (plan->now_ms - run->paused_ms >= PAUSED_MS &&
			 !run->whole)
			run_end(run);
	} else if (run->limit_off == SIZE_UNKNOWN ||
		   (run->readers == 0 && run->pos_off < run->limit_off) ||
		   run->pos_off + lead / 4 <= run->limit_off) {
		resume(run);
	} else if (plan->now_ms - run->paused_ms >= PAUSED_MS && !run->whole) {
		run_end(run); /* its connection is better used elsewhere */
	}
}

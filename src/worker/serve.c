#include "worker/serve.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/cache_status.h"
#include "http/range.h"
#include "util/log.h"
#include "worker/answer.h"
#include "worker/serves.h"

#define RESTARTS_MAX  8u /* changes of an object before its first byte */
#define STEPS_IN_VAIN 64u
#define STATUS_LEFT   499         /* in the log: the client went first */
#define NOTE_BYTES    (256 * KIB) /* sent before it is told */

/*
 * One media response, span by span.
 *
 *            present                     span sent, more left
 *   LOOKUP ----------> SEND ------------------------------> LOOKUP
 *     |  | missing      |  '-- last byte sent --> DONE
 *     |  '---> ASK      '-- file is short or gone --> ASK (verify)
 *     |         |
 *     | coming  |-- reply: look --> LOOKUP    run grew, ended, or the
 *     |         '-- reply: wait --.           prefetcher is a new one
 *     '-----------------------> FOLLOW -----------------------> LOOKUP
 *
 *   any state -- peer gone, reply: fail or gone, too late --> DONE
 *
 * The head goes out with the first byte: until then a new generation only
 * begins the work anew; after it, it breaks the response off.
 *
 * A file of this machine goes the short way, LOOKUP and SEND; that it was
 * changed breaks the response off.
 */

void serve_drop_request(struct serve *sv)
{
	free(sv->kept);
	free(sv->record);
	sv->kept = NULL;
	sv->record = NULL;
	sv->head = NULL;
}

static void count_response(struct serve *sv)
{
	struct segment_stats *stats = sv->desk->stats;

	stat_add(stats, STAT_bytes_sent_cache, sv->bytes_cache);
	stat_add(stats, STAT_bytes_sent_inflight, sv->bytes_inflight);
	stat_add(stats, STAT_bytes_sent_origin, sv->bytes_origin);
	if (!sv->head_sent)
		return;
	if (sv->collapsed)
		stat_add(stats, STAT_joins, 1);
	stat_add(stats, sv->waited ? STAT_misses : STAT_hits, 1);
}

static void log_response(struct serve *sv)
{
	struct access_facts facts = {
		.status = sv->head_sent ? sv->status : STATUS_LEFT,
		.bytes_cache = sv->bytes_cache,
		.bytes_inflight = sv->bytes_inflight,
		.bytes_origin = sv->bytes_origin,
		.ttfb_us = sv->ttfb_us,
		.verdict = cache_status_word((enum cache_status_how)sv->how),
	};

	access_log_end(sv->desk->log, sv->entry, desk_wall_s(sv->desk), &facts);
	sv->entry = NULL;
}

/* Tells the prefetcher what was sent: it fetches ahead of who plays on. */
static void note_sent(struct serve *sv, uint64_t at_least)
{
	struct segment_sent_view sent = {
		.object_no = sv->object_no,
		.begin_off = sv->begin_off,
		.generation = sv->generation,
		.whole = sv->parts == NULL && sv->left.from == sv->left.to
	};

	if (!sv->head_sent || sv->object_no == 0 ||
	    sv->left.from < sv->noted_off + at_least)
		return;
	sent.from_off = sv->noted_off;
	sent.to_off = sv->left.from;
	segment_note_sent(sv->desk->row, &sent);
	sv->noted_off = sv->left.from;
}

/* The sink must not be touched any more. */
static void serve_free(struct serve *sv)
{
	note_sent(sv, 1);
	wait_leave(sv);
	wait_reader_close(sv);
	if (sv->entry != NULL)
		log_response(sv);
	serve_drop_request(sv);
	file_close(sv->file);
	free(sv->parts);
	if (sv->key_owned)
		free((char *)sv->key);
	TAILQ_INSERT_HEAD(&sv->desk->serves->unused, sv, wait_link);
}

/* All bytes were sent. */
static enum serve_next finish(struct serve *sv)
{
	struct sink *sink = sv->sink;

	count_response(sv);
	serve_free(sv);
	sink->ops->end(sink);
	return SERVE_OVER;
}

static enum serve_next break_off(struct serve *sv)
{
	struct sink *sink = sv->sink;

	count_response(sv);
	stat_add(sv->desk->stats, STAT_responses_broken, 1);
	serve_free(sv);
	sink->ops->reset(sink);
	return SERVE_OVER;
}

/* An answer in words.  After the head nothing is left but to break off. */
static enum serve_next refuse(struct serve *sv, int status, const char *detail,
			      const char *fields)
{
	struct sink *sink = sv->sink;

	if (sv->head_sent)
		return break_off(sv);
	answer_problem(sv->desk, sink, sv->head, status, detail, fields,
		       sv->entry);
	sv->entry = NULL;
	serve_free(sv);
	return SERVE_OVER;
}

/* The key, and the label behind it. */
static int keep_key(struct serve *sv)
{
	size_t label_bytes = strlen(sv->label) + 1;
	char *copy = malloc(sv->key_bytes + label_bytes);

	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, sv->key, sv->key_bytes);
	memcpy(copy + sv->key_bytes, sv->label, label_bytes);
	sv->key = copy;
	sv->label = copy + sv->key_bytes;
	sv->key_owned = true;
	return 0;
}

/* Keeps what belongs to the caller of serve_begin(), before a wait. */
static int keep_request(struct serve *sv)
{
	if (!sv->key_owned && keep_key(sv) < 0)
		return -ENOMEM;
	if (!sv->head_sent && sv->kept == NULL) {
		sv->kept = kept_new(sv->head);
		if (sv->kept == NULL)
			return -ENOMEM;
		sv->head = &sv->kept->head;
	}
	return 0;
}

/* --- the record --------------------------------------------------------- */

static bool record_newer(const struct object_record *a,
			 const struct object_record *b)
{
	if (a->object_no != b->object_no)
		return a->object_no > b->object_no;
	if (a->generation != b->generation)
		return a->generation > b->generation;
	return a->stored_s > b->stored_s;
}

/* An object that had no length: a run that came to its end knows it before
 * the index does. */
static const struct object_record *size_from_runs(
	struct serve *sv, const struct object_record *rec)
{
	struct object_record *sized = &sv->desk->serves->sized;
	struct segment *seg = sv->desk->seg;
	uint32_t top = atomic_load(&seg->runs_top);
	struct segment_run_view run;

	for (uint32_t n = 0; n < min_u64(top, SEGMENT_RUNS); n++) {
		if (atomic_load_explicit(&seg->runs[n].object_no,
					 memory_order_relaxed) !=
			    rec->object_no ||
		    !segment_read_run(seg, n, &run) ||
		    run.object_no != rec->object_no ||
		    run.generation != rec->generation ||
		    run.size_bytes == SIZE_UNKNOWN)
			continue;
		memcpy(sized, rec, object_record_bytes(rec));
		sized->size_bytes = run.size_bytes;
		return sized;
	}
	return rec;
}

/* From the index or the last reply.  NULL: ask. */
static const struct object_record *find_record(struct serve *sv)
{
	const struct object_record *rec;

	if (sv->file != NULL)
		return sv->record;
	rec = store_find_object(sv->desk->store, sv->key, sv->key_bytes);
	if (rec == NULL ||
	    (sv->record != NULL && !record_newer(rec, sv->record)))
		rec = sv->record;
	if (rec != NULL && rec->size_bytes == SIZE_UNKNOWN)
		rec = size_from_runs(sv, rec);
	return rec;
}

static void adopt_record(struct serve *sv, const struct object_record *rec)
{
	sv->object_no = rec->object_no;
	sv->generation = rec->generation;
	sv->size_bytes = rec->size_bytes;
	sv->chunk_bytes = rec->chunk_bytes;
	sv->object_flags = rec->flags;
}

/* The end of a response whose object had no length so far. */
static void learn_size(struct serve *sv, uint64_t size_bytes)
{
	if (sv->left.to != SIZE_UNKNOWN || size_bytes == SIZE_UNKNOWN)
		return;
	sv->size_bytes = size_bytes;
	sv->left.to = max_u64(size_bytes, sv->left.from);
}

/* Of a 412 or 416: no body of the object. */
static enum serve_next refuse_by_plan(struct serve *sv, const struct plan *plan,
				      const struct object_record *rec)
{
	char text[RANGE_TEXT_BYTES];
	char fields[RANGE_TEXT_BYTES + 32];

	if (plan->status == 412)
		return refuse(sv, 412, "a precondition does not hold", NULL);
	range_format_unsatisfied(text, rec->size_bytes);
	snprintf(fields, sizeof(fields), "Content-Range: %s\r\n", text);
	return refuse(sv, 416, "no byte of the range exists", fields);
}

/* --- the steps ---------------------------------------------------------- */

static void probe_record(struct serve *sv, struct object_record *probe)
{
	probe->object_no = sv->object_no;
	probe->generation = sv->generation;
	probe->size_bytes = sv->size_bytes;
	probe->chunk_bytes = sv->chunk_bytes;
	probe->flags = sv->object_flags;
}

static enum serve_next ask_for(struct serve *sv, unsigned flags,
			       enum cache_status_how how)
{
	if (!sv->head_sent && sv->why == CACHE_STATUS_HIT)
		sv->why = (uint8_t)how;
	sv->ask_flags = (uint8_t)flags;
	sv->state = SERVE_ASK;
	return SERVE_GO_ON;
}

/* The run that was followed may have come to the object's end. */
static void ask_run_for_size(struct serve *sv)
{
	struct segment_run_view run;

	if (segment_read_run(sv->desk->seg, sv->run_row, &run) &&
	    run.run_no == sv->run_no && run.object_no == sv->object_no &&
	    run.generation == sv->generation)
		learn_size(sv, run.size_bytes);
}

/* The size may have become known since the head was sent. */
static bool look_for_size(struct serve *sv)
{
	const struct object_record *rec;

	if (sv->left.to != SIZE_UNKNOWN || !sv->head_sent)
		return false;
	ask_run_for_size(sv);
	if (sv->left.to != SIZE_UNKNOWN)
		return true;
	rec = store_find_object(sv->desk->store, sv->key, sv->key_bytes);
	if (rec == NULL || rec->object_no != sv->object_no ||
	    rec->generation != sv->generation ||
	    rec->size_bytes == SIZE_UNKNOWN)
		return false;
	learn_size(sv, rec->size_bytes);
	return true;
}

static enum serve_next look_in_file(struct serve *sv)
{
	struct serves *all = sv->desk->serves;

	all->place_span = sv->left;
	all->place = (struct store_place){ .fd = sv->file->fd,
					   .file_off = sv->left.from };
	sv->state = SERVE_SEND;
	return SERVE_GO_ON;
}

/* sv->left is not empty.  With a place the state is SEND. */
static enum serve_next look_for_bytes(struct serve *sv)
{
	struct serves *all = sv->desk->serves;

	if (sv->file != NULL)
		return look_in_file(sv);
	probe_record(sv, &all->probe);
	all->place_span = sv->left;
	switch (store_lookup(sv->desk->store, &all->probe, &all->place_span,
			     (uint32_t)(desk_now_ms(sv->desk) / 1000),
			     &all->place)) {
	case STORE_HIT:
		sv->told_to_wait = false;
		sv->state = SERVE_SEND;
		return SERVE_GO_ON;
	case STORE_COMING:
		if (!sv->head_sent && sv->why == CACHE_STATUS_HIT)
			sv->why = CACHE_STATUS_FWD_PARTIAL;
		sv->run_row = all->place.run_row;
		sv->run_no = all->place.run_no;
		sv->joined_run_no = sv->run_no;
		sv->told_to_wait = false;
		sv->state = SERVE_FOLLOW;
		return SERVE_GO_ON;
	case STORE_MISS:
		if (look_for_size(sv))
			return SERVE_GO_ON;
		if (sv->told_to_wait) {
			/* that run is on its way to these bytes */
			sv->told_to_wait = false;
			sv->state = SERVE_FOLLOW;
			return SERVE_GO_ON;
		}
		return ask_for(sv, 0, CACHE_STATUS_FWD_PARTIAL);
	case STORE_SUSPECT:
		break;
	}
	return ask_for(sv, ASK_VERIFY, CACHE_STATUS_FWD_PARTIAL);
}

static enum serve_next head_failed(struct serve *sv, int rc)
{
	if (rc == -EINVAL || rc == -ENOSPC)
		return refuse(sv, 502,
			      "the origin's head fields cannot be passed on",
			      NULL);
	return break_off(sv);
}

/* Before the head: what is known of the object decides what it will be. */
static enum serve_next look_for_object(struct serve *sv)
{
	struct desk *desk = sv->desk;
	struct plan *plan = &desk->serves->plan;
	const struct object_record *rec = find_record(sv);
	int64_t wall_s = desk_wall_s(desk);
	enum serve_next next;
	int rc = 0;

	if (rec == NULL) {
		sv->object_no = 0;
		return ask_for(sv, 0, CACHE_STATUS_FWD_MISS);
	}
	plan_make(plan, sv->head, rec, desk->conf->http.max_ranges, wall_s,
		  desk->serves->nonce++ ^ sv->begun_us);
	adopt_record(sv, rec);
	sv->left = plan->span;
	sv->begin_off = sv->noted_off = sv->left.from;
	wait_reader_show(sv); /* if a first wait has given it a row */
	if (rec->fresh_until_s <= wall_s && !sv->asked_fresh)
		return ask_for(sv, 0, CACHE_STATUS_FWD_STALE);
	if (plan->status >= 400)
		return refuse_by_plan(sv, plan, rec);
	if (plan->body != SINK_BODY || plan->body_bytes == 0) {
		rc = serve_send_head(sv, plan, rec);
		if (rc < 0)
			return head_failed(sv, rc);
		sv->state = SERVE_DONE;
		return SERVE_GO_ON;
	}
	next = look_for_bytes(sv);
	if (sv->state == SERVE_SEND)
		rc = serve_send_head(sv, plan, rec);
	return rc < 0 ? head_failed(sv, rc) : next;
}

/* After a part: the next one, or the end. */
static enum serve_next next_part(struct serve *sv)
{
	struct serve_parts *parts = sv->parts;

	sv->state = SERVE_LOOKUP;
	if (parts == NULL) {
		sv->state = SERVE_DONE;
		return SERVE_GO_ON;
	}
	note_sent(sv, 1);
	if (++parts->at < parts->count) {
		sv->left = parts->spans[parts->at];
		sv->begin_off = sv->noted_off = sv->left.from;
		return serve_send_part_head(sv) < 0 ? break_off(sv)
						    : SERVE_GO_ON;
	}
	sv->state = SERVE_DONE;
	return serve_send_part_tail(sv) < 0 ? break_off(sv) : SERVE_GO_ON;
}

static enum serve_next give_up(struct serve *sv)
{
	/* a player dies of a 5xx and comes back after a broken connection:
	 * of an object that was good no error is told */
	if (sv->head_sent || sv->object_no != 0)
		return break_off(sv);
	return refuse(sv, 504, "the origin did not answer in time", NULL);
}

static enum serve_next wait_or_fail(struct serve *sv)
{
	/* a file's reader is nobody's business */
	if (keep_request(sv) < 0 ||
	    (sv->file == NULL && wait_reader_open(sv) < 0)) {
		if (!sv->head_sent && sv->head != NULL)
			return refuse(sv, 503, "too many requests wait",
				      "Retry-After: 1\r\n");
		return break_off(sv);
	}
	note_sent(sv, NOTE_BYTES);
	wait_reader_show(sv);
	return SERVE_WAIT;
}

static enum serve_next look(struct serve *sv)
{
	return sv->head_sent ? look_for_bytes(sv) : look_for_object(sv);
}

static enum serve_next step_lookup(struct serve *sv)
{
	enum serve_next next;

	if (sv->late)
		return give_up(sv);
	if (sv->head_sent && sv->left.from == sv->left.to)
		return next_part(sv);
	if (sv->file != NULL)
		return file_unchanged(sv->file) ? look(sv) : break_off(sv);
	if (store_begin(sv->desk->store) < 0) {
		/* a new prefetcher is making its index */
		next = wait_or_fail(sv);
		if (next == SERVE_WAIT)
			wait_for_tick(sv);
		return next;
	}
	next = look(sv);
	store_end(sv->desk->store);
	return next;
}

static void count_bytes(struct serve *sv, const struct store_place *place,
			uint64_t n)
{
	if (place->run_no == sv->own_run_no)
		sv->bytes_origin += n;
	else if (place->arriving || place->run_no == sv->joined_run_no)
		sv->bytes_inflight += n;
	else
		sv->bytes_cache += n;
	sv->left.from += n;
	sv->deadline_ms = 0;
	sv->in_vain = 0;
}

static enum serve_next wait_for_client(struct serve *sv)
{
	enum serve_next next = wait_or_fail(sv);

	sv->state = SERVE_LOOKUP;
	if (next == SERVE_WAIT)
		sv->wait = SERVE_WAIT_CLIENT;
	return next;
}

/* The descriptor is good until the next lookup: all is offered at once. */
static enum serve_next step_send(struct serve *sv)
{
	struct serves *all = sv->desk->serves;
	struct store_place *place = &all->place;
	uint64_t left = span_len(all->place_span);

	sv->state = SERVE_LOOKUP;
	while (left > 0) {
		int64_t n = sv->sink->ops->file(sv->sink, place->fd,
						place->file_off, left);

		/* what was written to while it was sent may be a mix */
		if (n == -EPIPE ||
		    (sv->file != NULL && (n < 0 || !file_unchanged(sv->file))))
			return break_off(sv);
		if (n < 0) {
			store_forget(sv->desk->store, place);
			return ask_for(sv, place->arriving ? 0 : ASK_VERIFY,
				       CACHE_STATUS_FWD_PARTIAL);
		}
		if (n == 0)
			return wait_for_client(sv);
		count_bytes(sv, place, (uint64_t)n);
		place->file_off += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return SERVE_GO_ON;
}

/* An origin has to do with it: with the first byte, or a later one. */
static void count_as_miss(struct serve *sv)
{
	sv->waited = true;
	if (sv->own_run_no == UINT64_MAX && sv->wait == SERVE_WAIT_RUN)
		sv->collapsed = true;
	if (!sv->head_sent)
		sv->how = sv->why;
}

static enum serve_next step_follow(struct serve *sv)
{
	enum serve_next next = wait_or_fail(sv);

	if (next != SERVE_WAIT)
		return next;
	if (sv->head_sent)
		ask_run_for_size(sv);
	if (sv->left.from < sv->left.to && wait_for_run(sv)) {
		count_as_miss(sv);
		return SERVE_WAIT;
	}
	sv->state = SERVE_LOOKUP;
	return SERVE_GO_ON;
}

static enum serve_next step_ask(struct serve *sv)
{
	enum serve_next next = wait_or_fail(sv);

	if (next != SERVE_WAIT)
		return next;
	wait_for_reply(sv);
	return SERVE_WAIT;
}

static enum serve_next step_done(struct serve *sv)
{
	return finish(sv);
}

static const struct {
	const char *name; /* for a debugger */
	enum serve_next (*run)(struct serve *sv);
} steps[] = {
	[SERVE_LOOKUP] = { "lookup", step_lookup },
	[SERVE_SEND] = { "send", step_send },
	[SERVE_FOLLOW] = { "follow", step_follow },
	[SERVE_ASK] = { "ask", step_ask },
	[SERVE_DONE] = { "done", step_done },
};

void serve_run(struct serve *sv)
{
	uint64_t from = sv->left.from;
	unsigned vain = 0;

	do {
		must(sv->state < ARRAY_LEN(steps));
		if (steps[sv->state].run(sv) != SERVE_GO_ON)
			return;
		vain = sv->left.from == from ? vain + 1 : 0;
		from = sv->left.from;
	} while (vain < STEPS_IN_VAIN);
	/* the tables contradict each other: let them come to rest */
	sv->state = SERVE_LOOKUP;
	if (wait_or_fail(sv) == SERVE_WAIT)
		wait_for_tick(sv);
}

/* --- replies ------------------------------------------------------------ */

static void take_record(struct serve *sv, const struct object_record *rec)
{
	size_t bytes = object_record_bytes(rec);
	struct object_record *copy;

	if (sv->head_sent) {
		if (rec->object_no == sv->object_no &&
		    rec->generation == sv->generation)
			learn_size(sv, rec->size_bytes);
		return;
	}
	copy = malloc(bytes);
	if (copy == NULL)
		return; /* it is asked for again, or given up in time */
	memcpy(copy, rec, bytes);
	free(sv->record);
	sv->record = copy;
	/* what the run brings is compared with this object's rows */
	sv->object_no = rec->object_no;
	sv->generation = rec->generation;
}

static enum serve_next reply_fail(struct serve *sv, const struct reply *reply)
{
	char fields[64] = "";
	char reason[sizeof(reply->reason)];
	int status = (int)reply->http_status;

	if (sv->head_sent || reply->known != 0)
		return break_off(sv);
	if (status < 400 || status > 599)
		status = 502;
	if (reply->retry_after_s > 0)
		snprintf(fields, sizeof(fields), "Retry-After: %u\r\n",
			 reply->retry_after_s);
	snprintf(reason, sizeof(reason), "%.*s", (int)sizeof(reason) - 1,
		 reply->reason);
	return refuse(sv, status, reason, fields);
}

static enum serve_next reply_gone(struct serve *sv)
{
	if (sv->head_sent)
		return break_off(sv);
	if (++sv->restarts > RESTARTS_MAX)
		return refuse(sv, 503, "the object keeps changing",
			      "Retry-After: 1\r\n");
	free(sv->record);
	sv->record = NULL;
	sv->object_no = 0;
	sv->state = SERVE_LOOKUP;
	return SERVE_GO_ON;
}

/* Whose bytes these will be; and, with WAIT, what to follow. */
static void take_run(struct serve *sv, const struct reply *reply)
{
	if (reply->run_no != 0 && reply->started != 0)
		sv->own_run_no = reply->run_no;
	else if (reply->run_no != 0)
		sv->joined_run_no = reply->run_no;
	/* an ask that found all there, as a record not committed yet, is a
	 * hit; one for a confirmation is not */
	if (reply->started != 0 || sv->why == CACHE_STATUS_FWD_STALE)
		count_as_miss(sv);
	if (reply->status == REPLY_WAIT) {
		sv->run_row = reply->run_row;
		sv->run_no = reply->run_no;
		sv->told_to_wait = true;
	}
}

static enum serve_next take_reply(struct serve *sv, const struct reply *reply,
				  bool has_record)
{
	if (reply->stale != 0 && !sv->head_sent)
		stat_add(sv->desk->stats, STAT_stale_served, 1);
	switch ((enum reply_status)reply->status) {
	case REPLY_LOOK:
	case REPLY_WAIT:
		sv->asked_fresh = true;
		if (has_record)
			take_record(sv, &reply->record);
		sv->state = SERVE_LOOKUP;
		take_run(sv, reply);
		return SERVE_GO_ON;
	case REPLY_FAIL:
		return reply_fail(sv, reply);
	case REPLY_GONE:
		return reply_gone(sv);
	}
	return SERVE_WAIT;
}

void serve_reply(struct desk *desk, const void *message, size_t bytes)
{
	const struct reply *reply = message;
	size_t head_bytes = offsetof(struct reply, record);
	bool has_record;
	struct serve *sv;
	uint32_t reader;

	if (bytes < head_bytes || reply->type != REPLY_TYPE ||
	    reply->status > REPLY_GONE)
		return;
	reader = (uint32_t)reply->token & 0xffff;
	sv = reader < SEGMENT_READERS ? desk->serves->by_reader[reader] : NULL;
	if (sv == NULL || sv->token != reply->token)
		return; /* whoever asked is gone, or has been told already */
	has_record = reply->record_bytes > 0 &&
		     reply->record_bytes <= bytes - head_bytes &&
		     object_record_valid(&reply->record, reply->record_bytes);
	wait_leave(sv);
	if (take_reply(sv, reply, has_record) == SERVE_GO_ON)
		serve_run(sv);
}

/* --- beginning and end -------------------------------------------------- */

static void serve_writable(void *source)
{
	struct serve *sv = source;

	if (sv->wait != SERVE_WAIT_CLIENT)
		return;
	sv->wait = SERVE_WAIT_NONE;
	serve_run(sv);
}

static void serve_gone(void *source)
{
	struct serve *sv = source;

	count_response(sv);
	serve_free(sv);
}

static const struct sink_source_ops source_ops = {
	.writable = serve_writable,
	.gone = serve_gone,
};

static struct serve *serve_new(struct desk *desk)
{
	struct serve *sv = TAILQ_FIRST(&desk->serves->unused);

	if (sv == NULL)
		return calloc(1, sizeof(*sv));
	TAILQ_REMOVE(&desk->serves->unused, sv, wait_link);
	memset(sv, 0, sizeof(*sv));
	return sv;
}

static struct serve *serve_make(struct desk *desk, struct sink *sink,
				const struct head *head,
				const struct located *what)
{
	struct serve *sv = serve_new(desk);

	must(what->key_bytes <= LAYOUT_KEY_BYTES);
	if (sv == NULL)
		return NULL;
	sv->desk = desk;
	sv->sink = sink;
	sv->head = head;
	sv->key = what->key;
	sv->key_bytes = (uint16_t)what->key_bytes;
	sv->label = what->label;
	sv->reader = SERVE_NO_READER;
	sv->begun_us = what->begun_us;
	sv->how = CACHE_STATUS_HIT;
	sv->why = CACHE_STATUS_HIT;
	sv->state = SERVE_LOOKUP;
	sv->own_run_no = UINT64_MAX;
	sv->joined_run_no = UINT64_MAX;
	sv->entry = access_log_begin(desk->log, head, sink->ops->peer(sink));
	return sv;
}

/* False: answered already. */
static bool open_file(struct serve *sv, const struct located *what)
{
	struct desk *desk = sv->desk;
	int rc = file_open(&sv->file, what->source->path, what->file);

	if (rc == 0)
		rc = file_record(sv->file, what->type, desk_wall_s(desk),
				 &sv->record);
	if (rc == 0)
		return true;
	if (rc == -ENOENT) {
		(void)refuse(sv, 404, "there is no such file", NULL);
		return false;
	}
	log_warning("ev=file_failed source=%s error=%s", what->source->name,
		    strerrorname_np(-rc));
	(void)refuse(sv, 503, "the file cannot be opened",
		     "Retry-After: 1\r\n");
	return false;
}

void serve_begin(void *ctx, struct desk *desk, struct sink *sink,
		 const struct head *head, const struct located *what)
{
	struct serve *sv = serve_make(desk, sink, head, what);

	(void)ctx;
	if (sv == NULL) {
		answer_problem(desk, sink, head, 503, "out of memory",
			       "Retry-After: 1\r\n", NULL);
		return;
	}
	if (what->source->type == CONF_SOURCE_TYPE_DIRECTORY &&
	    !open_file(sv, what))
		return;
	sink->changes = sv->file != NULL;
	sink->source = sv;
	sink->source_ops = &source_ops;
	serve_run(sv);
}

int serve_init(struct desk *desk)
{
	struct serves *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	all->desk = desk;
	all->lives = atomic_load(&desk->seg->prefetcher_lives);
	TAILQ_INIT(&all->waiting);
	TAILQ_INIT(&all->unused);
	for (uint32_t n = 0; n < SEGMENT_RUNS; n++) {
		TAILQ_INIT(&all->followers[n]);
		atomic_store(&desk->row->waits[n], 0);
	}
	for (uint32_t n = 0; n < SEGMENT_READERS; n++) {
		if (n >= atomic_load(&desk->row->readers_top))
			break;
		atomic_store(&desk->row->readers[n].object_no, 0);
	}
	/* tokens of a predecessor's asks must not match ours */
	all->token_count = desk_now_us(desk);
	desk->serves = all;
	return 0;
}

void serve_fini(struct desk *desk)
{
	struct serves *all = desk->serves;
	struct serve *sv;

	if (all == NULL)
		return;
	must(TAILQ_EMPTY(&all->waiting));
	while ((sv = TAILQ_FIRST(&all->unused)) != NULL) {
		TAILQ_REMOVE(&all->unused, sv, wait_link);
		free(sv);
	}
	free(all);
	desk->serves = NULL;
}

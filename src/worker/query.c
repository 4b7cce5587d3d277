#include "worker/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "http/target.h"
#include "util/log.h"
#include "worker/answer.h"
#include "worker/kept.h"
#include "worker/locate.h"

#define MS_MAX (7 * 86400000u)

/* A query without its whole answer. */
struct waiting {
	TAILQ_ENTRY(waiting) link;
	struct desk *desk;
	struct sink *sink;
	struct kept *kept;
	char *body; /* pieces so far; NULL before the first */
	uint32_t total_bytes;
	uint32_t got_bytes;
	uint64_t again_ms;
	uint64_t deadline_ms;
	struct query message;
};

struct queries {
	TAILQ_HEAD(, waiting) list;
	uint32_t count;
	uint64_t token;
};

int query_init(struct desk *desk)
{
	struct queries *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	TAILQ_INIT(&all->list);
	/* answers to a predecessor in the slot must not match ours */
	all->token = desk_now_us(desk);
	desk->queries = all;
	return 0;
}

void query_fini(struct desk *desk)
{
	if (desk->queries == NULL)
		return;
	must(TAILQ_EMPTY(&desk->queries->list));
	free(desk->queries);
	desk->queries = NULL;
}

/* --- waiting ------------------------------------------------------------ */

static void forget(struct waiting *w)
{
	TAILQ_REMOVE(&w->desk->queries->list, w, link);
	w->desk->queries->count--;
	free(w->body);
	free(w->kept);
	free(w);
}

static void on_writable(void *source UNUSED)
{
}

static void on_gone(void *source)
{
	forget(source);
}

static const struct sink_source_ops source_ops = {
	.writable = on_writable,
	.gone = on_gone,
};

static void send_query(struct waiting *w)
{
	struct desk *desk = w->desk;
	int rc;

	/* pieces of an answer that is not whole are of no use any more */
	free(w->body);
	w->body = NULL;
	w->message.token = ++desk->queries->token;
	rc = inbox_send(desk->ipc->prefetcher.tx, &w->message,
			sizeof(w->message));
	w->again_ms = desk_now_ms(desk) + (rc == 0 ? QUERY_RETRY_MS : 0);
	if (rc < 0 && rc != -EAGAIN)
		log_debug("ev=query_failed error=%s", strerrorname_np(-rc));
}

static void wait_for(struct desk *desk, struct sink *sink,
		     const struct head *head, const struct query *query)
{
	struct queries *all = desk->queries;
	struct waiting *w =
		all->count < QUERY_WAITING_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (w != NULL)
		w->kept = kept_new(head);
	if (w == NULL || w->kept == NULL) {
		free(w);
		answer_problem(desk, sink, head, 503, "too many queries wait",
			       "Retry-After: 1\r\n", NULL);
		return;
	}
	w->desk = desk;
	w->sink = sink;
	w->message = *query;
	w->deadline_ms = desk_now_ms(desk) + QUERY_WAIT_MS;
	TAILQ_INSERT_TAIL(&all->list, w, link);
	all->count++;
	sink->source = w;
	sink->source_ops = &source_ops;
	send_query(w);
}

/* --- the answer --------------------------------------------------------- */

static void refuse(struct waiting *w, int status, uint32_t retry_after_s,
		   const char *reason)
{
	char fields[64] = "";

	if (retry_after_s > 0)
		snprintf(fields, sizeof(fields), "Retry-After: %u\r\n",
			 retry_after_s);
	answer_problem(w->desk, w->sink, &w->kept->head, status, reason, fields,
		       NULL);
	forget(w);
}

static void finish(struct waiting *w, const struct query_answer *piece)
{
	const struct answer a = {
		.status = (int)piece->http_status,
		.content_type = "application/json",
		.body = w->body,
		.body_bytes = w->total_bytes,
	};
	char reason[256];

	if (piece->http_status == 200 || piece->http_status == 202) {
		answer_send(w->desk, w->sink, &w->kept->head, &a);
		forget(w);
		return;
	}
	snprintf(reason, sizeof(reason), "%.*s", (int)w->total_bytes, w->body);
	refuse(w,
	       piece->http_status >= 400 && piece->http_status <= 599
		       ? (int)piece->http_status
		       : 502,
	       piece->retry_after_s, reason);
}

/* Pieces come in order, or not at all. */
static bool take_piece(struct waiting *w, const struct query_answer *piece)
{
	if (piece->piece_off == 0 && w->body == NULL) {
		w->body = malloc((size_t)piece->total_bytes + 1);
		w->total_bytes = piece->total_bytes;
		w->got_bytes = 0;
	}
	if (w->body == NULL || piece->total_bytes != w->total_bytes ||
	    piece->piece_off != w->got_bytes ||
	    piece->piece_bytes > w->total_bytes - w->got_bytes)
		return false;
	memcpy(w->body + w->got_bytes, piece->piece, piece->piece_bytes);
	w->got_bytes += piece->piece_bytes;
	return true;
}

void query_answered(struct desk *desk, const void *message, size_t bytes)
{
	const struct query_answer *piece = message;
	size_t head_bytes = offsetof(struct query_answer, piece);
	struct waiting *w;

	if (bytes < head_bytes || piece->type != ANSWER_TYPE ||
	    piece->piece_bytes > QUERY_PIECE_BYTES ||
	    piece->piece_bytes != bytes - head_bytes ||
	    piece->total_bytes > QUERY_BYTES_MAX ||
	    piece->piece_off > piece->total_bytes ||
	    piece->piece_bytes > piece->total_bytes - piece->piece_off)
		return;
	TAILQ_FOREACH (w, &desk->queries->list, link)
		if (w->message.token == piece->token)
			break;
	if (w == NULL || !take_piece(w, piece))
		return;
	if (w->got_bytes == w->total_bytes)
		finish(w, piece);
}

void query_tick(struct desk *desk)
{
	uint64_t now_ms = desk_now_ms(desk);
	struct waiting *w, *next;

	for (w = TAILQ_FIRST(&desk->queries->list); w != NULL; w = next) {
		next = TAILQ_NEXT(w, link);
		if (now_ms >= w->deadline_ms)
			refuse(w, 504, 0, "there was no answer in time");
		else if (now_ms >= w->again_ms)
			send_query(w);
	}
}

/* --- parameters --------------------------------------------------------- */

bool query_parse_seconds(struct slice text, uint64_t *ms)
{
	static const unsigned scales[] = { 0, 100, 10, 1 };
	struct slice whole = text, part = { "", 0 };
	const char *point =
		text.bytes == 0 ? NULL : memchr(text.at, '.', text.bytes);
	uint64_t seconds, thousandths = 0;

	if (point != NULL) {
		whole = slice_make(text.at, (size_t)(point - text.at));
		part = slice_skip(text, whole.bytes + 1);
		if (part.bytes == 0 || part.bytes > 3 ||
		    !slice_to_u64(part, &thousandths))
			return false;
		thousandths *= scales[part.bytes];
	}
	if (!slice_to_u64(whole, &seconds) || seconds > MS_MAX / 1000)
		return false;
	*ms = seconds * 1000 + thousandths;
	return *ms <= MS_MAX;
}

static bool parse_bytes(struct slice text, uint64_t *bytes)
{
	return slice_to_u64(text, bytes) && *bytes > 0 &&
	       *bytes < QUERY_NOT_GIVEN;
}

/* False: answered already. */
static bool read_parameters(struct desk *desk, struct sink *sink,
			    const struct head *head, struct query *query)
{
	const struct {
		const char *name;
		bool (*parse)(struct slice text, uint64_t *value);
		uint64_t *value;
		const char *fault;
	} parameters[] = {
		{ "start", query_parse_seconds, &query->start_ms,
		  "start must be seconds, like 90 or 12.5" },
		{ "seconds", query_parse_seconds, &query->seconds_ms,
		  "seconds must be seconds, like 30 or 12.5" },
		{ "deadline", query_parse_seconds, &query->deadline_ms,
		  "deadline must be seconds from now, like 30 or 12.5" },
		{ "bytes", parse_bytes, &query->bytes,
		  "bytes must be a number of bytes, not 0" },
	};

	query->start_ms = query->seconds_ms = query->deadline_ms =
		query->bytes = QUERY_NOT_GIVEN;
	for (size_t n = 0; head->has_query && n < ARRAY_LEN(parameters); n++) {
		struct slice text;
		char buffer[32];
		int rc = target_query(head_query(head), parameters[n].name,
				      buffer, sizeof(buffer), &text);

		if (rc == -ENOENT)
			continue;
		if (rc < 0 || !parameters[n].parse(text, parameters[n].value)) {
			answer_problem(desk, sink, head, 400,
				       parameters[n].fault, NULL, NULL);
			return false;
		}
	}
	return true;
}

static bool has_range(const struct query *query)
{
	return query->start_ms != QUERY_NOT_GIVEN ||
	       query->seconds_ms != QUERY_NOT_GIVEN ||
	       query->deadline_ms != QUERY_NOT_GIVEN ||
	       query->bytes != QUERY_NOT_GIVEN;
}

/* --- routes ------------------------------------------------------------- */

static void begin(struct desk *desk, struct sink *sink, const struct head *head,
		  struct query *query, enum query_kind kind, const char *key,
		  size_t key_bytes)
{
	must(key_bytes <= LAYOUT_KEY_BYTES);
	query->type = QUERY_TYPE;
	query->kind = kind;
	query->slot = desk->slot;
	query->key_bytes = (uint32_t)key_bytes;
	memcpy(query->key, key, key_bytes);
	wait_for(desk, sink, head, query);
}

static void found_object(void *ctx, struct desk *desk, struct sink *sink,
			 const struct head *head, const struct located *what)
{
	const enum query_kind *kind = ctx;
	struct query query = { .type = QUERY_TYPE };

	if (what->source->type == CONF_SOURCE_TYPE_DIRECTORY) {
		answer_problem(desk, sink, head, 404,
			       "files of a directory are not cached: they are "
			       "served as they are",
			       NULL, NULL);
		return;
	}
	/* they mean nothing to the others */
	if (*kind != QUERY_PREFETCH ||
	    read_parameters(desk, sink, head, &query))
		begin(desk, sink, head, &query, *kind, what->key,
		      what->key_bytes);
}

static void ask_jobs(struct desk *desk, struct sink *sink,
		     const struct head *head, struct slice path,
		     enum query_kind kind)
{
	struct query query = { .type = QUERY_TYPE };
	char key[LAYOUT_KEY_BYTES];
	size_t n = locate_id(desk, sink, head, path, key);

	if (n > 0)
		begin(desk, sink, head, &query, kind, key, n);
}

void query_serve_prefetch(struct desk *desk, struct sink *sink,
			  const struct head *head, struct slice path)
{
	static const enum query_kind kind = QUERY_PREFETCH;
	struct query query;

	if (head->method == METHOD_DELETE) {
		ask_jobs(desk, sink, head, path, QUERY_CANCEL);
		return;
	}
	/* before the resolver is troubled */
	if (!read_parameters(desk, sink, head, &query))
		return;
	if (head->method == METHOD_POST || has_range(&query))
		locate(desk, sink, head, path, found_object, (void *)&kind);
	else
		ask_jobs(desk, sink, head, path, QUERY_PROGRESS);
}

void query_serve_cache(struct desk *desk, struct sink *sink,
		       const struct head *head, struct slice path)
{
	static const enum query_kind kind = QUERY_CACHE;

	locate(desk, sink, head, path, found_object, (void *)&kind);
}

void query_serve_map(struct desk *desk, struct sink *sink,
		     const struct head *head, struct slice path)
{
	static const enum query_kind kind = QUERY_MAP;

	locate(desk, sink, head, path, found_object, (void *)&kind);
}

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/json.h"
#include "http/problem.h"
#include "http/target.h"
#include "worker/controls.h"
#include "worker/routes.h"

#define BODY_MAX     SINK_BYTES_MAX
#define WRAP_BYTES   256u  /* around a body */
#define TARGET_BYTES 2048u /* of a request that is made here */
#define HEAD_BYTES   (TARGET_BYTES + 128u)

_Static_assert(BODY_MAX + WRAP_BYTES <= WEBSOCKET_TEXT_MAX,
	       "an answer is one message");

/* --- the answer ---------------------------------------------------------- */

/* A problem of ours, where the answer brought none. */
static int make_problem(struct exchange *ex, const char *detail)
{
	char *body = malloc(PROBLEM_BYTES_MAX);
	int n = body == NULL ? -ENOMEM
			     : problem_format(body, PROBLEM_BYTES_MAX,
					      ex->status, detail);

	free(ex->body);
	ex->body = body;
	ex->body_bytes = n > 0 ? (uint32_t)n : 0;
	return n;
}

static int put_numbers(const struct exchange *ex, char *dst, size_t dst_bytes)
{
	int n = 0;

	dst[0] = '\0';
	if (ex->retry_after_s > 0)
		n += snprintf(dst, dst_bytes, ",\"retry_after_s\":%" PRIu32,
			      ex->retry_after_s);
	if (ex->is_chunk)
		n += snprintf(dst + n, dst_bytes - (size_t)n,
			      ",\"bytes\":%" PRIu64, ex->sent_bytes);
	if (ex->is_chunk && ex->size_bytes != SIZE_UNKNOWN)
		n += snprintf(dst + n, dst_bytes - (size_t)n,
			      ",\"size\":%" PRIu64, ex->size_bytes);
	return n;
}

/* The body is JSON that we made: it goes into the message as it is. */
static void send_answer(struct exchange *ex, const char *type,
			const char *member)
{
	size_t max = ex->body_bytes + WRAP_BYTES;
	char *text = malloc(max);
	char numbers[128];
	size_t body = ex->body_bytes;
	int n;

	if (text == NULL) {
		websocket_close(ex->control->ws, WEBSOCKET_FAULT,
				"out of memory");
		return;
	}
	while (body > 0 && ex->body[body - 1] == '\n')
		body--;
	(void)put_numbers(ex, numbers, sizeof(numbers));
	n = snprintf(text, max,
		     "{\"type\":\"%s\",\"request\":%" PRIu32
		     ",\"status\":%u%s,\"%s\":",
		     type, ex->request, ex->status, numbers, member);
	must(n > 0 && (size_t)n + body + 1 <= max);
	memcpy(text + n, ex->body, body);
	text[(size_t)n + body] = '}';
	websocket_text(ex->control->ws, text, (size_t)n + body + 1);
	free(text);
}

void exchange_fail(struct exchange *ex, const char *detail)
{
	if (ex->body_bytes == 0 && make_problem(ex, detail) < 0) {
		websocket_close(ex->control->ws, WEBSOCKET_FAULT,
				"out of memory");
		return;
	}
	send_answer(ex, "ERROR", "problem");
}

/* --- the sink ------------------------------------------------------------ */

struct fields *exchange_head(struct sink *sink, int status)
{
	struct exchange *ex = (struct exchange *)sink;
	struct controls *all = ex->control->desk->controls;

	ex->status = (uint16_t)status;
	fields_init(&all->fields, all->head_bytes, sizeof(all->head_bytes));
	fields_status(&all->fields, status);
	return &all->fields;
}

struct slice exchange_field(const struct fields *f, const char *name)
{
	struct slice rest = slice_make(f->dst, (size_t)(f->at - f->dst));
	size_t name_bytes = strlen(name);

	while (rest.bytes > 0) {
		const char *eol = memmem(rest.at, rest.bytes, "\r\n", 2);
		size_t n = eol == NULL ? rest.bytes : (size_t)(eol - rest.at);

		if (n > name_bytes && rest.at[name_bytes] == ':' &&
		    memcmp(rest.at, name, name_bytes) == 0)
			return slice_trim(slice_make(rest.at + name_bytes + 1,
						     n - name_bytes - 1));
		rest = slice_skip(rest, min_u64(n + 2, rest.bytes));
	}
	return SLICE_ABSENT;
}

static int exchange_head_end(struct sink *sink, enum sink_body body UNUSED,
			     uint64_t body_bytes UNUSED)
{
	struct exchange *ex = (struct exchange *)sink;
	struct fields *f = &ex->control->desk->controls->fields;
	uint64_t seconds;
	size_t bytes;
	int rc = fields_end(f, &bytes);

	if (rc == 0 && slice_to_u64(exchange_field(f, "Retry-After"), &seconds))
		ex->retry_after_s = (uint32_t)min_u64(seconds, UINT32_MAX);
	return rc;
}

int exchange_bytes(struct sink *sink, const void *bytes, size_t count)
{
	struct exchange *ex = (struct exchange *)sink;
	char *body = NULL;

	if (count == 0)
		return 0;
	if (!ex->begun && ex->body_bytes + count <= BODY_MAX)
		body = realloc(ex->body, ex->body_bytes + count);
	if (body == NULL)
		return -EPIPE;
	memcpy(body + ex->body_bytes, bytes, count);
	ex->body = body;
	ex->body_bytes += (uint32_t)count;
	return 0;
}

/* What is asked for by messages does not lie in files. */
static int64_t exchange_file(struct sink *sink UNUSED, int fd UNUSED,
			     uint64_t file_off UNUSED, uint64_t bytes UNUSED)
{
	return -EPIPE;
}

bool exchange_ready(struct sink *sink UNUSED)
{
	return true;
}

static void exchange_end(struct sink *sink)
{
	struct exchange *ex = (struct exchange *)sink;

	if (ex->status >= 200 && ex->status < 300 && ex->body_bytes > 0)
		send_answer(ex, ex->answer, "body");
	else
		exchange_fail(ex, "there is no answer");
	exchange_free(ex);
}

void exchange_reset(struct sink *sink)
{
	struct exchange *ex = (struct exchange *)sink;

	ex->body_bytes = 0;
	ex->status = 502;
	exchange_fail(ex, "the answer was broken off");
	exchange_free(ex);
}

const uint8_t *exchange_peer(const struct sink *sink)
{
	return ((const struct exchange *)sink)->control->peer;
}

void exchange_hurry(struct sink *sink UNUSED, enum sink_urgency urgency UNUSED)
{
}

static const struct sink_ops message_sink_ops = {
	.head = exchange_head,
	.head_end = exchange_head_end,
	.bytes = exchange_bytes,
	.file = exchange_file,
	.ready = exchange_ready,
	.end = exchange_end,
	.reset = exchange_reset,
	.peer = exchange_peer,
	.hurry = exchange_hurry,
};

/* --- the request --------------------------------------------------------- */

struct target {
	char text[TARGET_BYTES];
	size_t used;
	char mark; /* before the next parameter */
};

static void add(struct target *t, const char *text)
{
	size_t n = strlen(text);

	/* every text has its limit, and all of them fit */
	must(t->used + n < sizeof(t->text));
	memcpy(t->text + t->used, text, n + 1);
	t->used += n;
}

static void add_encoded(struct target *t, const char *text)
{
	must(t->used + 3 * strlen(text) < sizeof(t->text));
	t->used += target_encode(t->text + t->used, slice_of(text));
	t->text[t->used] = '\0';
}

_Static_assert(3 * 3 * CONTROL_TEXT_BYTES + 512 < TARGET_BYTES,
	       "id, quality and source fit however they are encoded");

static void add_parameter(struct target *t, const char *name, const char *value)
{
	const char mark[2] = { t->mark, '\0' };

	if (*value == '\0')
		return;
	add(t, mark);
	t->mark = '&';
	add(t, name);
	add(t, "=");
	add_encoded(t, value);
}

static void add_ms(struct target *t, const char *name, uint64_t ms)
{
	char value[32];

	if (ms == CONTROL_NOT_GIVEN)
		return;
	snprintf(value, sizeof(value), "%" PRIu64 ".%03" PRIu64, ms / 1000,
		 ms % 1000);
	add_parameter(t, name, value);
}

static void make_target(struct target *t, const char *path,
			const struct control_message *m)
{
	char value[32];

	t->used = 0;
	t->mark = '?';
	add(t, path);
	add_encoded(t, m->id);
	add_parameter(t, "source", m->source);
	add_parameter(t, "q", m->quality);
	if (m->type != CONTROL_PREFETCH)
		return;
	add_ms(t, "start", m->start_ms);
	add_ms(t, "seconds", m->seconds_ms);
	add_ms(t, "deadline", m->deadline_ms);
	if (m->bytes == CONTROL_NOT_GIVEN)
		return;
	snprintf(value, sizeof(value), "%" PRIu64, m->bytes);
	add_parameter(t, "bytes", value);
}

static const struct {
	const char *method;
	const char *path;
	const char *answer;
} routes[] = {
	[CONTROL_RESOLVE] = { "GET", "/resolve/", "RESOLVED" },
	[CONTROL_PREFETCH] = { "POST", "/prefetch/", "PREFETCHING" },
	[CONTROL_PREFETCH_PROGRESS] = { "GET", "/prefetch/", "PREFETCH_STATE" },
	[CONTROL_PREFETCH_CANCEL] = { "DELETE", "/prefetch/",
				      "PREFETCH_CANCELLED" },
	[CONTROL_CHUNK] = { "GET", "/proxy/", NULL },
};

/* "Range: bytes=0-99" CRLF, or nothing. */
static void make_range(char *dst, size_t dst_bytes,
		       const struct control_message *m)
{
	dst[0] = '\0';
	if (m->type != CONTROL_CHUNK)
		return;
	if (m->length == CONTROL_NOT_GIVEN)
		snprintf(dst, dst_bytes, "Range: bytes=%" PRIu64 "-\r\n",
			 m->offset);
	else
		snprintf(dst, dst_bytes,
			 "Range: bytes=%" PRIu64 "-%" PRIu64 "\r\n", m->offset,
			 m->offset + m->length - 1);
}

/* The exchange may be over when it returns. */
static void send_request(struct exchange *ex, const struct control_message *m)
{
	struct target target;
	struct head head;
	char text[HEAD_BYTES];
	char range[64];
	int n;

	make_target(&target, routes[m->type].path, m);
	make_range(range, sizeof(range), m);
	n = snprintf(text, sizeof(text),
		     "%s %s HTTP/1.1\r\nHost: websocket\r\n%s\r\n",
		     routes[m->type].method, target.text, range);
	must(n > 0 && (size_t)n < sizeof(text));
	head_init(&head);
	if (head_parse(&head, text, (size_t)n) == HEAD_DONE) {
		stat_add(ex->control->desk->stats, STAT_requests, 1);
		routes_serve(ex->control->desk, &ex->sink, &head);
		return;
	}
	ex->status = 400;
	exchange_fail(ex, "this cannot be asked for");
	exchange_free(ex);
}

void exchange_begin(struct control *c, const struct control_message *m)
{
	struct exchange *ex = calloc(1, sizeof(*ex));

	if (ex == NULL) {
		control_error(c, &m->request, 503, "out of memory");
		return;
	}
	ex->control = c;
	ex->request = m->request;
	ex->answer = routes[m->type].answer;
	ex->is_chunk = m->type == CONTROL_CHUNK;
	ex->size_bytes = SIZE_UNKNOWN;
	ex->sink.ops = &message_sink_ops;
	if (ex->is_chunk) {
		ex->sink.ops = &chunk_sink_ops;
		ex->base64 = m->base64;
		ex->credit = m->credit != CONTROL_NOT_GIVEN
				     ? m->credit
				     : CONTROL_CREDIT_FIRST;
		c->chunk_count++;
	} else {
		c->request_count++;
	}
	TAILQ_INSERT_TAIL(&c->exchanges, ex, link);
	send_request(ex, m);
}

/* --- its end ------------------------------------------------------------- */

void exchange_free(struct exchange *ex)
{
	struct control *c = ex->control;

	TAILQ_REMOVE(&c->exchanges, ex, link);
	if (ex->in_turns)
		TAILQ_REMOVE(&c->turns, ex, turn_link);
	if (c->turn == ex)
		c->turn = NULL;
	if (ex->is_chunk)
		c->chunk_count--;
	else
		c->request_count--;
	free(ex->body);
	free(ex);
}

void exchange_cancel(struct exchange *ex)
{
	must(ex->sink.source_ops != NULL);
	ex->sink.source_ops->gone(ex->sink.source);
	exchange_free(ex);
}

struct exchange *exchange_find(struct control *c, uint32_t request)
{
	struct exchange *ex;

	TAILQ_FOREACH (ex, &c->exchanges, link)
		if (ex->request == request)
			return ex;
	return NULL;
}

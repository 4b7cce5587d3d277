#include "worker/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/json.h"
#include "http/problem.h"
#include "worker/answer.h"
#include "worker/controls.h"
#include "worker/metrics.h"

#define STATS_EVERY_S 5u
#define STATS_BYTES   16384u
#define SHORT_BYTES   512u

/* --- what is said -------------------------------------------------------- */

static void begin_message(struct json *j, char *text, size_t text_bytes,
			  const char *type, const uint32_t *request)
{
	json_init(j, text, text_bytes);
	json_object(j);
	json_key(j, "type");
	json_text(j, type);
	json_key(j, "request");
	if (request != NULL)
		json_u64(j, *request);
	else
		json_null(j);
}

static void send_message(struct control *c, struct json *j)
{
	size_t n;

	json_object_end(j);
	/* what is put into them has its limit */
	must(json_end(j, &n) == 0);
	websocket_text(c->ws, j->dst, n);
}

void control_error(struct control *c, const uint32_t *request, int status,
		   const char *detail)
{
	char problem[PROBLEM_BYTES_MAX];
	char text[PROBLEM_BYTES_MAX + 128];
	char number[16] = "null";
	int bytes = problem_format(problem, sizeof(problem), status, detail);
	int n;

	must(bytes > 1);
	if (request != NULL)
		snprintf(number, sizeof(number), "%" PRIu32, *request);
	n = snprintf(text, sizeof(text),
		     "{\"type\":\"ERROR\",\"request\":%s,\"status\":%d,"
		     "\"problem\":%.*s}",
		     number, status, bytes - 1, problem);
	websocket_text(c->ws, text, (size_t)n);
}

static void send_welcome(struct control *c)
{
	char text[SHORT_BYTES];
	struct json j;

	json_init(&j, text, sizeof(text));
	json_object(&j);
	json_key(&j, "type");
	json_text(&j, "WELCOME");
	json_key(&j, "protocol");
	json_text(&j, CONTROL_PROTOCOL);
	json_key(&j, "message_max");
	json_u64(&j, WEBSOCKET_MESSAGE_MAX);
	json_key(&j, "requests_max");
	json_u64(&j, CONTROL_REQUESTS);
	json_key(&j, "chunks_max");
	json_u64(&j, CONTROL_CHUNKS);
	json_key(&j, "credit");
	json_u64(&j, CONTROL_CREDIT_FIRST);
	json_key(&j, "credit_max");
	json_u64(&j, CONTROL_CREDIT_MAX);
	json_key(&j, "ping_s");
	json_thousandths(&j, c->desk->conf->websocket.ping);
	send_message(c, &j);
}

static void send_stats(struct control *c)
{
	char text[STATS_BYTES];
	struct json j;

	begin_message(&j, text, sizeof(text), "STATS",
		      c->stats_has_request ? &c->stats_request : NULL);
	json_key(&j, "time");
	json_i64(&j, desk_wall_s(c->desk));
	json_key(&j, "stats");
	metrics_json(c->desk->seg, &j);
	send_message(c, &j);
}

/* --- what is asked ------------------------------------------------------- */

static const uint32_t *request_of(const struct control_message *m)
{
	return m->has_request ? &m->request : NULL;
}

static void subscribe(struct control *c, const struct control_message *m)
{
	uint64_t every_s = m->interval_s != CONTROL_NOT_GIVEN ? m->interval_s
							      : STATS_EVERY_S;
	char text[SHORT_BYTES];
	struct json j;

	c->stats_every_ms = every_s * 1000;
	c->stats_has_request = m->has_request;
	c->stats_request = m->request;
	c->stats_ms = desk_now_ms(c->desk) + c->stats_every_ms;
	begin_message(&j, text, sizeof(text), "SUBSCRIBED", request_of(m));
	json_key(&j, "topic");
	json_text(&j, "stats");
	json_key(&j, "interval_s");
	json_u64(&j, every_s);
	send_message(c, &j);
	send_stats(c);
}

static void say(struct control *c, const struct control_message *m,
		const char *type)
{
	char text[SHORT_BYTES];
	struct json j;

	begin_message(&j, text, sizeof(text), type, request_of(m));
	send_message(c, &j);
}

static void cancel(struct control *c, const struct control_message *m)
{
	struct exchange *ex = exchange_find(c, m->request);
	char text[SHORT_BYTES];
	struct json j;

	if (ex == NULL) {
		control_error(c, &m->request, 404,
			      "no such request is under way");
		return;
	}
	begin_message(&j, text, sizeof(text), "CANCELLED", &m->request);
	json_key(&j, "bytes");
	json_u64(&j, ex->sent_bytes);
	exchange_cancel(ex);
	send_message(c, &j);
}

/* Requests of HTTP, and of bytes. */
static void begin(struct control *c, const struct control_message *m)
{
	bool is_chunk = m->type == CONTROL_CHUNK;

	if (exchange_find(c, m->request) != NULL) {
		control_error(c, NULL, 409,
			      "a request of this number is under way");
		return;
	}
	if (is_chunk ? c->chunk_count >= CONTROL_CHUNKS
		     : c->request_count >= CONTROL_REQUESTS) {
		control_error(c, &m->request, 429,
			      "too many requests are under way");
		return;
	}
	if (is_chunk) {
		struct sink *sink = websocket_sink(c->ws);

		stat_add(c->desk->stats, STAT_chunk_requests, 1);
		if (!c->is_bulk)
			sink->ops->hurry(sink, SINK_MEDIA);
		c->is_bulk = true;
	}
	exchange_begin(c, m);
}

static void dispatch(struct control *c, const struct control_message *m)
{
	switch (m->type) {
	case CONTROL_RESOLVE:
	case CONTROL_PREFETCH:
	case CONTROL_PREFETCH_PROGRESS:
	case CONTROL_PREFETCH_CANCEL:
	case CONTROL_CHUNK:
		begin(c, m);
		return;
	case CONTROL_SUBSCRIBE:
		subscribe(c, m);
		return;
	case CONTROL_UNSUBSCRIBE:
		c->stats_ms = 0;
		say(c, m, "UNSUBSCRIBED");
		return;
	case CONTROL_PING:
		say(c, m, "PONG");
		return;
	case CONTROL_CREDIT:
		chunks_credit(c, m);
		return;
	case CONTROL_CANCEL:
		cancel(c, m);
		return;
	}
}

static void on_message(void *owner, bool text, const void *bytes, size_t count)
{
	struct control *c = owner;
	struct control_message m;
	const char *fault;
	int rc;

	stat_add(c->desk->stats, STAT_websocket_messages, 1);
	if (!text) {
		websocket_close(c->ws, WEBSOCKET_UNSUPPORTED,
				"messages are text");
		return;
	}
	rc = control_parse(&m, bytes, count, &fault);
	if (rc < 0)
		control_error(c, request_of(&m), rc == -EINVAL ? 400 : 503,
			      fault);
	else
		dispatch(c, &m);
}

/* --- its life ------------------------------------------------------------ */

static void on_writable(void *owner)
{
	chunks_run(owner);
}

static void show_count(struct desk *desk)
{
	stat_set(desk->stats, STAT_websockets, desk->controls->host.count);
}

static void log_end(struct control *c)
{
	const struct access_facts facts = { .status = 101, .verdict = "-" };

	access_log_end(c->desk->log, c->entry, desk_wall_s(c->desk), &facts);
}

static void on_closed(void *owner)
{
	struct control *c = owner;
	struct exchange *ex;

	while ((ex = TAILQ_FIRST(&c->exchanges)) != NULL)
		exchange_cancel(ex);
	log_end(c);
	show_count(c->desk);
	TAILQ_REMOVE(&c->desk->controls->all, c, link);
	free(c);
}

static const struct websocket_ops ops = {
	.message = on_message,
	.writable = on_writable,
	.closed = on_closed,
};

static void refuse(struct desk *desk, struct sink *sink,
		   const struct head *head, int status, const char *detail,
		   const char *fields)
{
	answer_problem(desk, sink, head, status, detail, fields, NULL);
}

/* False: answered already. */
static bool may_open(struct desk *desk, struct sink *sink,
		     const struct head *head)
{
	struct websocket_refusal why;

	if (!websocket_wanted(head))
		refuse(desk, sink, head, 426, "this is a WebSocket",
		       head->http2 ? NULL : "Upgrade: websocket\r\n");
	else if (!websocket_check(head, CONTROL_PROTOCOL, &why))
		refuse(desk, sink, head, why.status, why.detail, why.fields);
	else if (!websocket_origin_allowed(head, desk->conf->websocket.origins))
		refuse(desk, sink, head, 403,
		       "pages of this origin may not open a WebSocket", NULL);
	else if (desk->host->draining)
		refuse(desk, sink, head, 503, "this worker is draining",
		       "Retry-After: 1\r\n");
	else if (desk->controls->host.count >= desk->conf->websocket.max)
		refuse(desk, sink, head, 503, "too many WebSockets are open",
		       "Retry-After: 1\r\n");
	else
		return true;
	return false;
}

static struct control *control_new(struct desk *desk, struct sink *sink,
				   const struct head *head)
{
	struct control *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->desk = desk;
	c->frame_max = CHUNK_FRAME_SLOW;
	TAILQ_INIT(&c->exchanges);
	TAILQ_INIT(&c->turns);
	memcpy(c->peer, sink->ops->peer(sink), sizeof(c->peer));
	c->entry = access_log_begin(desk->log, head, c->peer);
	return c;
}

void control_serve(struct desk *desk, struct sink *sink,
		   const struct head *head)
{
	struct slice common = slice_make(desk->common, desk->common_bytes);
	struct control *c;
	int rc;

	if (!may_open(desk, sink, head))
		return;
	c = control_new(desk, sink, head);
	rc = c == NULL
		     ? -ENOMEM
		     : websocket_open(&c->ws, &desk->controls->host, sink, head,
				      CONTROL_PROTOCOL, common, &ops, c);
	if (rc < 0) {
		if (rc == -EPIPE)
			sink->ops->reset(sink);
		else
			answer_problem(desk, sink, head, 503, "out of memory",
				       "Retry-After: 1\r\n",
				       c != NULL ? c->entry : NULL);
		if (rc == -EPIPE && c != NULL)
			log_end(c);
		free(c);
		return;
	}
	TAILQ_INSERT_TAIL(&desk->controls->all, c, link);
	stat_add(desk->stats, STAT_websockets_accepted, 1);
	show_count(desk);
	send_welcome(c);
}

/* --- all of them --------------------------------------------------------- */

int control_init(struct desk *desk)
{
	struct controls *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	TAILQ_INIT(&all->all);
	all->host.ping_ms = desk->conf->websocket.ping;
	all->host.timeout_ms = desk->conf->websocket.timeout;
	websocket_host_init(&all->host, desk_now_ms(desk));
	desk->controls = all;
	show_count(desk);
	return 0;
}

void control_fini(struct desk *desk)
{
	if (desk->controls == NULL)
		return;
	must(TAILQ_EMPTY(&desk->controls->all));
	free(desk->controls);
	desk->controls = NULL;
}

static void tick_one(struct control *c, uint64_t now_ms)
{
	chunks_tick(c, now_ms);
	if (c->is_bulk && c->chunk_count == 0) {
		struct sink *sink = websocket_sink(c->ws);

		sink->ops->hurry(sink, SINK_URGENT);
		c->is_bulk = false;
	}
	if (c->stats_ms == 0 || now_ms < c->stats_ms)
		return;
	c->stats_ms = now_ms + c->stats_every_ms;
	/* a client that does not read misses some */
	if (websocket_can_send(c->ws))
		send_stats(c);
}

void control_tick(struct desk *desk)
{
	struct controls *all = desk->controls;
	uint64_t now_ms = desk_now_ms(desk);
	struct control *c;

	websocket_tick(&all->host, now_ms);
	TAILQ_FOREACH (c, &all->all, link)
		tick_one(c, now_ms);
	stat_add(desk->stats, STAT_bytes_sent_websocket,
		 all->host.sent_bytes - all->told_bytes);
	all->told_bytes = all->host.sent_bytes;
}

void control_drain(struct desk *desk)
{
	websocket_drain(&desk->controls->host);
}

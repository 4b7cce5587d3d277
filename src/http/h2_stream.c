#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/conn_inner.h"
#include "http/h2_inner.h"

#define FIELDS_MAX   64u
#define IN_BYTES_MAX 65536u /* the stream's window: it cannot be more */

#define MEDIA_LEVEL 3u /* of urgency, RFC 9218 section 4.1 */
#define WISH_LEVEL  2u /* media is not as urgent as what controls it */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static struct fields *stream_head(struct sink *sink, int status)
{
	struct h2_stream *st = (struct h2_stream *)sink;
	struct conn_host *host = st->h2->c->host;

	must(st->responding && !st->head_sent);
	/* something else was served, as to a GET */
	if (st->tunnel && status >= 200 && status < 400)
		status = 501;
	st->status = (uint16_t)status;
	fields_init(&host->fields, host->head_bytes, sizeof(host->head_bytes));
	return &host->fields;
}

/* "Name: value" CRLF.  The names, in lower case, go to `names`. */
static size_t split_lines(char *text, size_t bytes, nghttp2_nv *nv,
			  size_t nv_max)
{
	size_t n = 0;
	char *end = text + bytes;

	while (text < end && n < nv_max) {
		char *eol = memchr(text, '\r', (size_t)(end - text));
		char *colon = memchr(text, ':', (size_t)(end - text));

		must(eol != NULL && colon != NULL && colon < eol);
		for (char *at = text; at < colon; at++)
			*at = lower(*at);
		nv[n].name = (uint8_t *)text;
		nv[n].namelen = (size_t)(colon - text);
		nv[n].value = (uint8_t *)colon + 2;
		nv[n].valuelen = (size_t)(eol - colon) - 2;
		nv[n].flags = NGHTTP2_NV_FLAG_NONE;
		n++;
		text = eol + 2;
	}
	return text < end ? 0 : n;
}

/* RFC 9218: what is urgent has a small number. */
static void set_level(struct h2_stream *st)
{
	static const nghttp2_extpri levels[] = {
		[SINK_URGENT] = { .urgency = 0, .inc = 0 },
		[SINK_CONTROL] = { .urgency = 1, .inc = 0 },
		[SINK_MEDIA] = { .urgency = MEDIA_LEVEL, .inc = 1 },
		[SINK_AHEAD] = { .urgency = 6, .inc = 1 },
	};
	const nghttp2_extpri *level = &levels[st->urgency];

	/* among media, and what is not needed yet, the client knows better */
	if (st->urgency >= SINK_MEDIA && st->prioritized)
		level = &st->wish;
	(void)nghttp2_session_change_extpri_stream_priority(st->h2->session,
							    st->id, level, 1);
}

static int submit(struct h2_stream *st, const struct fields *f, int status,
		  bool has_body)
{
	nghttp2_nv nv[FIELDS_MAX + 1];
	nghttp2_data_provider provider = { .source.ptr = st,
					   .read_callback = h2_read_body };
	uint8_t digits[4];
	size_t n = split_lines(f->dst, (size_t)(f->at - f->dst), nv + 1,
			       FIELDS_MAX);

	if (n == 0)
		return -ENOSPC;
	digits[0] = (uint8_t)('0' + status / 100);
	digits[1] = (uint8_t)('0' + status / 10 % 10);
	digits[2] = (uint8_t)('0' + status % 10);
	nv[0].name = (uint8_t *)":status";
	nv[0].namelen = 7;
	nv[0].value = digits;
	nv[0].valuelen = 3;
	nv[0].flags = NGHTTP2_NV_FLAG_NONE;
	if (nghttp2_submit_response(st->h2->session, st->id, nv, n + 1,
				    has_body ? &provider : NULL) != 0)
		return -EPIPE;
	set_level(st);
	return 0;
}

static int stream_head_end(struct sink *sink, enum sink_body body,
			   uint64_t body_bytes)
{
	struct h2_stream *st = (struct h2_stream *)sink;
	struct fields *f = &st->h2->c->host->fields;
	int status = st->status;
	int rc;

	st->has_body =
		body == SINK_DUPLEX || (body == SINK_BODY && body_bytes > 0);
	st->body_left = st->has_body ? body_bytes : 0;
	if (body == SINK_DUPLEX) {
		must(status == 101);
		status = 200; /* RFC 8441 section 5 */
		st->body_left = SIZE_UNKNOWN;
	} else if (body != SINK_BODY_NONE && body_bytes != SIZE_UNKNOWN) {
		FIELDS_ADD_U64(f, "Content-Length", body_bytes);
	}
	if (f->error != 0)
		return f->error;
	rc = submit(st, f, status, st->has_body);
	if (rc < 0)
		return rc;
	st->head_sent = true;
	st->duplex = body == SINK_DUPLEX;
	if (st->duplex)
		h2_keep_short(st->h2);
	h2_set_ready(st->h2);
	return 0;
}

static void body_taken(struct h2_stream *st, uint64_t n)
{
	if (st->body_left != SIZE_UNKNOWN)
		st->body_left -= n;
}

static int keep_out(struct h2_stream *st, const char *bytes, size_t count)
{
	char *out = NULL;

	if (st->out_bytes + count <= WIRE_KEPT_MAX &&
	    st->h2->kept_bytes + count <= H2_KEPT_BYTES_MAX)
		out = realloc(st->out, st->out_bytes + count);
	if (out == NULL)
		return -EPIPE;
	memcpy(out + st->out_bytes, bytes, count);
	st->out = out;
	st->out_bytes += (uint32_t)count;
	st->h2->kept_bytes += (uint32_t)count;
	return 0;
}

static int stream_bytes(struct sink *sink, const void *bytes, size_t count)
{
	struct h2_stream *st = (struct h2_stream *)sink;
	const char *from = bytes;
	size_t n = 0;

	must(st->head_sent && count <= st->body_left);
	if (st->pulling && st->out == NULL) {
		n = min_u64(count, st->frame_left);
		memcpy(st->frame + st->frame_used, from, n);
		st->frame_used += n;
		st->frame_left -= n;
	}
	if (count > n && keep_out(st, from + n, count - n) < 0)
		return -EPIPE;
	body_taken(st, count);
	if (!st->pulling)
		h2_stream_wake(st);
	return 0;
}

static int64_t stream_file(struct sink *sink, int fd, uint64_t file_off,
			   uint64_t count)
{
	struct h2_stream *st = (struct h2_stream *)sink;
	size_t want = min_u64(count, st->frame_left);
	int64_t n;

	must(st->head_sent && count <= st->body_left);
	if (!st->pulling || want == 0 || st->out != NULL) {
		st->pushed_back = true;
		if (!st->pulling)
			h2_stream_wake(st);
		return 0;
	}
	n = wire_read_file(fd, st->frame + st->frame_used, want, file_off);
	if (n < 0)
		return n;
	st->frame_used += (size_t)n;
	st->frame_left -= (size_t)n;
	body_taken(st, (uint64_t)n);
	return n;
}

static uint64_t stream_unread(const struct sink *sink)
{
	const struct h2_stream *st = (const struct h2_stream *)sink;

	return wire_unread(&st->h2->c->wire) + st->out_bytes - st->out_sent;
}

static bool stream_ready(struct sink *sink)
{
	struct h2_stream *st = (struct h2_stream *)sink;

	if (st->out == NULL)
		return true;
	st->pushed_back = true;
	return false;
}

static void leave_source(struct h2_stream *st)
{
	st->responding = false;
	st->pushed_back = false;
	st->duplex = false;
	st->sink.source = NULL;
}

static void stream_end(struct sink *sink)
{
	struct h2_stream *st = (struct h2_stream *)sink;

	must(st->responding && st->head_sent);
	must(st->body_left == 0 || st->body_left == SIZE_UNKNOWN);
	st->ended = true;
	leave_source(st);
	if (st->has_body && !st->pulling)
		h2_stream_wake(st);
}

static void stream_reset(struct sink *sink)
{
	struct h2_stream *st = (struct h2_stream *)sink;

	must(st->responding);
	st->was_reset = true;
	leave_source(st);
	if (st->pulling)
		return; /* h2_read_body() tells */
	(void)nghttp2_submit_rst_stream(st->h2->session, NGHTTP2_FLAG_NONE,
					st->id, NGHTTP2_INTERNAL_ERROR);
	h2_set_ready(st->h2);
}

static const uint8_t *stream_peer(const struct sink *sink)
{
	return ((const struct h2_stream *)sink)->client;
}

/* The last word before the head counts: every request begins as control. */
static void stream_hurry(struct sink *sink, enum sink_urgency urgency)
{
	struct h2_stream *st = (struct h2_stream *)sink;

	st->urgency = (uint8_t)urgency;
	if (st->head_sent)
		set_level(st);
}

/* What is not understood is as if it were not there (RFC 9218 section 4). */
void h2_stream_prioritize(struct h2_stream *st, struct slice value)
{
	struct slice item;

	st->wish = (nghttp2_extpri){ .urgency = MEDIA_LEVEL, .inc = 0 };
	while (slice_next_element(&value, &item)) {
		if (item.bytes == 3 && slice_starts(item, SLICE("u=")) &&
		    item.at[2] >= '0' && item.at[2] <= '7')
			st->wish.urgency = (uint32_t)max_u64(
				(uint64_t)(item.at[2] - '0'), WISH_LEVEL);
		else if (slice_is(item, "i") || slice_is(item, "i=?1"))
			st->wish.inc = 1;
	}
	st->prioritized = true;
	if (st->head_sent)
		set_level(st);
}

static const struct sink_ops stream_ops = {
	.head = stream_head,
	.head_end = stream_head_end,
	.bytes = stream_bytes,
	.file = stream_file,
	.ready = stream_ready,
	.unread = stream_unread,
	.end = stream_end,
	.reset = stream_reset,
	.peer = stream_peer,
	.hurry = stream_hurry,
};

/* --- requests ------------------------------------------------------------ */

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id)
{
	struct h2_stream *st = calloc(1, sizeof(*st));

	if (st == NULL)
		return NULL;
	st->sink.ops = &stream_ops;
	st->h2 = h;
	st->id = id;
	st->urgency = SINK_MEDIA;
	TAILQ_INSERT_TAIL(&h->streams, st, link);
	h->stream_count++;
	return st;
}

void h2_stream_free(struct h2_stream *st)
{
	if (st->responding) {
		st->responding = false;
		st->sink.source_ops->gone(st->sink.source);
	}
	TAILQ_REMOVE(&st->h2->streams, st, link);
	st->h2->stream_count--;
	st->h2->kept_bytes -= st->out_bytes - st->out_sent;
	if (st->answered)
		st->h2->answered_count--;
	free(st->out);
	free(st->in);
	free(st);
}

void h2_stream_begin(struct h2_stream *st, const struct h2_request *r)
{
	struct conn *c = st->h2->c;
	struct conn_host *host = c->host;
	struct head *head = &host->head;
	struct slice priority;
	enum head_outcome outcome;
	char *text;

	if (st->h2->kept_bytes > H2_KEPT_BYTES ||
	    h2_request_parse(r, head, &text, &outcome) < 0) {
		(void)nghttp2_submit_rst_stream(st->h2->session,
						NGHTTP2_FLAG_NONE, st->id,
						NGHTTP2_REFUSED_STREAM);
		return;
	}
	st->tunnel = h2_request_is_tunnel(r);
	priority = h2_request_priority(r);
	if (slice_present(priority))
		h2_stream_prioritize(st, priority);
	st->responding = true;
	c->used_before = true;
	stat_add(host->stats, STAT_requests, 1);
	stat_add(host->stats, STAT_requests_h2, 1);
	if (outcome == HEAD_DONE)
		conn_find_client(c, head, st->client);
	else
		memcpy(st->client, c->peer, sizeof(st->client));
	if (outcome == HEAD_DONE && head->content_length <= CONN_BODY_MAX) {
		host->request(host, &st->sink, head);
	} else if (outcome == HEAD_DONE) {
		host->refuse(host, &st->sink, head, 413,
			     "request bodies are not wanted here");
	} else {
		stat_add(host->stats, STAT_requests_bad, 1);
		host->refuse(host, &st->sink, head, head->status, head->reason);
	}
	free(text);
}

/* --- the other way of a duplex ------------------------------------------- */

static void consume(struct h2_stream *st, size_t count)
{
	(void)nghttp2_session_consume_stream(st->h2->session, st->id, count);
}

static void keep_in(struct h2_stream *st, const void *bytes, size_t count)
{
	char *in = NULL;

	if (st->in_bytes + count <= IN_BYTES_MAX)
		in = realloc(st->in, st->in_bytes + count);
	if (in == NULL) {
		(void)nghttp2_submit_rst_stream(st->h2->session,
						NGHTTP2_FLAG_NONE, st->id,
						NGHTTP2_FLOW_CONTROL_ERROR);
		return;
	}
	memcpy(in + st->in_bytes, bytes, count);
	st->in = in;
	st->in_bytes += (uint32_t)count;
}

static void hand_over(struct h2_stream *st, const void *bytes, size_t count)
{
	st->sink.source_ops->input(st->sink.source, bytes, count);
	consume(st, count);
}

void h2_stream_input(struct h2_stream *st, const void *bytes, size_t count)
{
	/* the client takes nothing: neither do we */
	if (count > 0 && (st->out != NULL || st->in != NULL)) {
		keep_in(st, bytes, count);
		return;
	}
	if (count > 0)
		hand_over(st, bytes, count);
	else if (st->in == NULL && !st->input_ended) {
		st->input_ended = true;
		st->sink.source_ops->input(st->sink.source, NULL, 0);
	}
}

void h2_stream_input_kept(struct h2_stream *st)
{
	char *in = st->in;
	uint32_t in_bytes = st->in_bytes;

	if (!st->duplex || st->out != NULL)
		return;
	if (in != NULL) {
		st->in = NULL;
		st->in_bytes = 0;
		hand_over(st, in, in_bytes);
		h2_set_ready(st->h2); /* a WINDOW_UPDATE may wait */
		free(in);
	}
	if (st->client_ended && st->duplex && st->in == NULL &&
	    !st->input_ended)
		h2_stream_input(st, NULL, 0);
}

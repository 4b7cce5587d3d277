#include "http/h2.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/conn_inner.h"
#include "http/h2_inner.h"

#define DRAIN_MS     1000u /* a round trip and more */
#define WINDOW_BYTES 65535u
/* that a client may send for each DATA frame: of stream and connection, and
 * some that want to be quick */
#define UPDATES_PER_FRAME 4u
#define LOWAT_BYTES       16384 /* unsent in the kernel, beside a WebSocket */

/* --- bodies -------------------------------------------------------------- */

static void take_out(struct h2_stream *st)
{
	size_t n = min_u64(st->out_bytes - st->out_sent, st->frame_left);

	if (n == 0)
		return;
	memcpy(st->frame + st->frame_used, st->out + st->out_sent, n);
	st->frame_used += n;
	st->frame_left -= n;
	st->out_sent += (uint32_t)n;
	st->h2->kept_bytes -= (uint32_t)n;
	if (st->out_sent == st->out_bytes) {
		free(st->out);
		st->out = NULL;
		st->out_sent = st->out_bytes = 0;
	}
}

/* The source fills the frame that is being made. */
static void pull(struct h2_stream *st)
{
	take_out(st);
	while (st->frame_left > 0 && st->out == NULL && st->pushed_back &&
	       !st->ended && !st->was_reset) {
		size_t left = st->frame_left;

		st->pushed_back = false;
		st->pulling = true;
		st->sink.source_ops->writable(st->sink.source);
		st->pulling = false;
		take_out(st);
		if (st->frame_left == left)
			break;
	}
}

ssize_t h2_read_body(nghttp2_session *session UNUSED, int32_t stream_id UNUSED,
		     uint8_t *buf UNUSED, size_t length, uint32_t *data_flags,
		     nghttp2_data_source *source, void *user_data)
{
	struct h2 *h = user_data;
	struct h2_stream *st = source->ptr;
	struct h2_batch *b = h->c->host->h2_batch;

	if (b->used >= h->batch_now)
		return NGHTTP2_ERR_PAUSE; /* sent first */
	st->frame = b->bytes + b->used + H2_FRAME_HEAD;
	st->frame_left = min_u64(length, H2_FRAME_BYTES);
	st->frame_used = 0;
	pull(st);
	st->frame = NULL;
	st->frame_left = 0;
	if (st->was_reset)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (st->ended && st->out == NULL)
		*data_flags |= NGHTTP2_DATA_FLAG_EOF;
	else if (st->frame_used == 0) {
		st->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (st->frame_used > 0) {
		*data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
		st->moved = true;
		h->moved = true;
	}
	return (ssize_t)st->frame_used;
}

/* The payload is there already: h2_read_body() has put it behind the room for
 * the frame's head. */
static int send_data(nghttp2_session *session UNUSED,
		     nghttp2_frame *frame UNUSED, const uint8_t *head,
		     size_t length, nghttp2_data_source *source UNUSED,
		     void *user_data)
{
	struct h2 *h = user_data;
	struct h2_batch *b = h->c->host->h2_batch;

	memcpy(b->bytes + b->used, head, H2_FRAME_HEAD);
	b->used += (uint32_t)(H2_FRAME_HEAD + length);
	if (h->updates_left < H2_FLOOD_BURST)
		h->updates_left += UPDATES_PER_FRAME;
	return 0;
}

/* Bytes for a frame are there, or the end is. */
void h2_stream_wake(struct h2_stream *st)
{
	if (st->deferred) {
		st->deferred = false;
		(void)nghttp2_session_resume_data(st->h2->session, st->id);
	}
	h2_set_ready(st->h2);
}

/* It has something to send, once it is its turn. */
void h2_set_ready(struct h2 *h)
{
	h->again = true;
	if (!h->c->busy)
		conn_set_ready(h->c);
}

/* --- input --------------------------------------------------------------- */

static void count_fault(struct h2 *h)
{
	if (!h->counted)
		stat_add(h->c->host->stats, STAT_h2_faults, 1);
	h->counted = true;
}

/* Returns what makes nghttp2 stop in the middle of its input. */
static int give_up(struct h2 *h)
{
	h->ending = true;
	count_fault(h);
	(void)nghttp2_session_terminate_session(h->session,
						NGHTTP2_ENHANCE_YOUR_CALM);
	h2_set_ready(h);
	return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* Not 0: the client has used up its allowance, and is told. */
static int pay_for_work(struct h2 *h)
{
	uint64_t now_ms = conn_host_now_ms(h->c->host);
	uint64_t more = (now_ms - h->flood_ms) * H2_FLOOD_SECOND / 1000;

	if (more > 0) {
		h->flood_left =
			(uint32_t)min_u64(h->flood_left + more, H2_FLOOD_BURST);
		h->flood_ms = now_ms;
	}
	if (h->flood_left > 0) {
		h->flood_left--;
		return 0;
	}
	return give_up(h);
}

/* Is this a frame that a client can send without end, and for nothing? */
static bool is_mere_work(struct h2 *h, const nghttp2_frame_hd *hd)
{
	switch (hd->type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION: /* nghttp2 counts them */
		return false;
	case NGHTTP2_PING:
	case NGHTTP2_SETTINGS:
		return (hd->flags & NGHTTP2_FLAG_ACK) == 0;
	case NGHTTP2_DATA:
		return (hd->length == 0 &&
			(hd->flags & NGHTTP2_FLAG_END_STREAM) == 0) ||
		       (hd->flags & NGHTTP2_FLAG_PADDED) != 0;
	case NGHTTP2_WINDOW_UPDATE:
		if (h->updates_left == 0)
			return true;
		h->updates_left--;
		return false;
	}
	return true; /* RST_STREAM, PRIORITY ... */
}

static int on_begin_frame(nghttp2_session *session UNUSED,
			  const nghttp2_frame_hd *hd, void *user_data)
{
	struct h2 *h = user_data;

	return is_mere_work(h, hd) ? pay_for_work(h) : 0;
}

static int on_begin_headers(nghttp2_session *session,
			    const nghttp2_frame *frame, void *user_data)
{
	struct h2 *h = user_data;
	struct h2_stream *st;

	if (frame->hd.type != NGHTTP2_HEADERS ||
	    frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	h2_request_free(h->request);
	h->request = h2_request_new();
	h->request_id = frame->hd.stream_id;
	h->head_begun = true;
	st = h2_stream_new(h, frame->hd.stream_id);
	if (st == NULL || h->request == NULL) {
		if (st != NULL)
			h2_stream_free(st);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	(void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
						   st);
	return 0;
}

static int on_header(nghttp2_session *session UNUSED,
		     const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_bytes, const uint8_t *value,
		     size_t value_bytes, uint8_t flags UNUSED, void *user_data)
{
	struct h2 *h = user_data;

	if (frame->hd.type != NGHTTP2_HEADERS ||
	    frame->headers.cat != NGHTTP2_HCAT_REQUEST || h->request == NULL)
		return 0; /* trailers mean nothing here */
	if (h2_request_add(h->request,
			   slice_make((const char *)name, name_bytes),
			   slice_make((const char *)value, value_bytes)))
		return 0;
	/* a bomb: a few bytes that unpack to many, RFC 7541 section 7.3 */
	return give_up(h);
}

static int on_data(nghttp2_session *session, uint8_t flags UNUSED,
		   int32_t stream_id, const uint8_t *data, size_t count,
		   void *user_data UNUSED)
{
	struct h2_stream *st =
		nghttp2_session_get_stream_user_data(session, stream_id);

	(void)nghttp2_session_consume_connection(session, count);
	if (st != NULL && st->duplex)
		h2_stream_input(st, data, count);
	else
		(void)nghttp2_session_consume_stream(session, stream_id, count);
	if (st != NULL && !st->duplex) {
		st->body_bytes += count;
		if (st->body_bytes > CONN_BODY_MAX)
			(void)nghttp2_submit_rst_stream(
				session, NGHTTP2_FLAG_NONE, stream_id,
				st->answered ? NGHTTP2_NO_ERROR
					     : NGHTTP2_CANCEL);
	}
	return 0;
}

static void end_of_input(struct h2_stream *st)
{
	st->client_ended = true;
	if (st->duplex)
		h2_stream_input(st, NULL, 0);
}

/* RFC 9218 section 7.1 */
static void reprioritize(struct h2 *h, const nghttp2_frame *frame)
{
	const nghttp2_ext_priority_update *update = frame->ext.payload;
	struct h2_stream *st = nghttp2_session_get_stream_user_data(
		h->session, update->stream_id);

	if (st != NULL)
		h2_stream_prioritize(
			st, slice_make((const char *)update->field_value,
				       update->field_value_len));
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame,
			 void *user_data)
{
	struct h2 *h = user_data;
	struct h2_stream *st = nghttp2_session_get_stream_user_data(
		session, frame->hd.stream_id);

	if (frame->hd.type == NGHTTP2_PRIORITY_UPDATE)
		reprioritize(h, frame);
	if (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)
		h->heard = true;
	if (st == NULL)
		return 0;
	if (frame->hd.type == NGHTTP2_HEADERS &&
	    frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		struct h2_request *r = h->request;

		h->request = NULL;
		st->client_ended =
			(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
		if (r != NULL)
			h2_stream_begin(st, r);
		h2_request_free(r);
	} else if ((frame->hd.type == NGHTTP2_DATA ||
		    frame->hd.type == NGHTTP2_HEADERS) &&
		   (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
		end_of_input(st);
	}
	return 0;
}

static int on_invalid_frame(nghttp2_session *session UNUSED,
			    const nghttp2_frame *frame UNUSED, int error UNUSED,
			    void *user_data)
{
	return pay_for_work(user_data);
}

static void end_answered(const struct h2_stream *st)
{
	(void)nghttp2_submit_rst_stream(st->h2->session, NGHTTP2_FLAG_NONE,
					st->id, NGHTTP2_NO_ERROR);
}

void h2_end_bodies(struct h2 *h)
{
	const struct h2_stream *st;

	TAILQ_FOREACH (st, &h->streams, link)
		if (st->answered)
			end_answered(st);
	h2_set_ready(h);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame,
			 void *user_data)
{
	struct h2 *h = user_data;
	struct h2_stream *st;

	if (frame->hd.type == NGHTTP2_GOAWAY &&
	    frame->goaway.error_code != NGHTTP2_NO_ERROR)
		count_fault(h);
	if (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	h->heard = true;
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
		return 0;
	/* RFC 9113 section 8.1 lets us reset it now, but then curl throws the
	 * answer away: the rest of a body may come, and not for long */
	st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (st == NULL || st->client_ended)
		return 0;
	st->answered = true;
	h->answered_count++;
	if (st->tunnel)
		end_answered(st);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id,
			   uint32_t error UNUSED, void *user_data)
{
	struct h2 *h = user_data;
	struct h2_stream *st =
		nghttp2_session_get_stream_user_data(session, stream_id);

	if (h->request_id == stream_id) {
		h2_request_free(h->request);
		h->request = NULL;
	}
	if (st != NULL) {
		(void)nghttp2_session_set_stream_user_data(session, stream_id,
							   NULL);
		h2_stream_free(st);
	}
	return 0;
}

/* --- the connection ------------------------------------------------------ */

static void receive(struct h2 *h)
{
	struct conn *c = h->c;
	size_t n;

	while (!c->wire.broken && !h->ending &&
	       c->turn_bytes < CONN_TURN_BYTES) {
		n = wire_receive(&c->wire, c->host->buffer, CONN_READ_BYTES);
		if (n == 0)
			return;
		c->turn_bytes += (uint32_t)n;
		h2_input(h, c->host->buffer, n);
		/* a reset that came with these bytes has no event of its own */
		c->wire.readable = true;
	}
	if (c->turn_bytes >= CONN_TURN_BYTES)
		conn_set_ready(c);
}

void h2_input(struct h2 *h, const void *bytes, size_t count)
{
	ssize_t n = nghttp2_session_mem_recv(h->session, bytes, count);

	/* what the protocol forbids has its GOAWAY queued and is no error
	 * here: this is one of nghttp2's own limits, or no client of HTTP/2,
	 * or memory has run out */
	if (n >= 0 || h->ending)
		return;
	if (n == NGHTTP2_ERR_BAD_CLIENT_MAGIC || n == NGHTTP2_ERR_NOMEM)
		h->c->wire.broken = true;
	else
		(void)give_up(h);
}

/* A batch is full, or there is no more. */
static uint32_t gather(struct h2 *h, size_t room)
{
	struct h2_batch *b = h->c->host->h2_batch;

	b->used = 0;
	h->batch_now = (uint32_t)min_u64(room, h->batch_bytes);
	while (b->used < h->batch_now) {
		const uint8_t *frame;
		uint32_t before = b->used;
		ssize_t n = nghttp2_session_mem_send(h->session, &frame);

		if (n < 0) {
			h->c->wire.broken = true;
			return 0;
		}
		if (n == 0 && b->used == before)
			break;
		if (n == 0)
			continue; /* bodies, which are there already */
		must((size_t)n <= sizeof(b->bytes) - b->used);
		memcpy(b->bytes + b->used, frame, (size_t)n);
		b->used += (uint32_t)n;
	}
	return b->used;
}

static void send_frames(struct h2 *h)
{
	struct conn *c = h->c;
	size_t room = 0;

	while (wire_flush(&c->wire) && c->wire.writable) {
		uint32_t n;

		if (room < h->batch_bytes)
			room = wire_room(&c->wire);
		n = gather(h, room);
		if (c->wire.broken)
			return;
		if (n == 0)
			break;
		c->turn_bytes += n;
		room -= min_u64(room, n);
		/* after a full batch there is more, most likely: then no
		 * segment need be sent that is not full */
		h->corked = n >= H2_BATCH_BYTES;
		if (wire_send(&c->wire, c->host->h2_batch->bytes, n,
			      h->corked) < 0)
			return;
		/* only now: who sends us without end is answered, too */
		if (c->turn_bytes >= CONN_TURN_BYTES) {
			conn_set_ready(c);
			return;
		}
	}
	if (h->corked && c->wire.out == NULL)
		wire_push(&c->wire);
	h->corked = false;
}

/* What a duplex did not take while its client took nothing. */
static void hand_kept_input(struct h2 *h)
{
	struct h2_stream *st;

	TAILQ_FOREACH (st, &h->streams, link)
		if (st->duplex && (st->in != NULL || st->client_ended))
			h2_stream_input_kept(st);
}

void h2_run(struct h2 *h)
{
	do {
		h->again = false;
		receive(h);
		if (!h->c->wire.broken)
			send_frames(h);
		if (!h->c->wire.broken)
			hand_kept_input(h);
	} while (h->again && !h->c->wire.broken && !h->c->on_ready);
}

bool h2_is_over(const struct h2 *h)
{
	return h->c->wire.out == NULL &&
	       (h->goodbye || (!nghttp2_session_want_read(h->session) &&
			       !nghttp2_session_want_write(h->session)));
}

bool h2_waits_for_client(const struct h2 *h)
{
	const struct h2_stream *st;

	TAILQ_FOREACH (st, &h->streams, link)
		if (st->head_sent && !st->deferred && !st->answered)
			return true;
	return false;
}

bool h2_take_used(struct h2 *h)
{
	bool used = h->heard;

	h->heard = false;
	return used;
}

uint32_t h2_stream_count(const struct h2 *h)
{
	return h->stream_count - h->answered_count;
}

bool h2_awaits_bodies(const struct h2 *h)
{
	return h->answered_count > 0;
}

bool h2_is_in_head(struct h2 *h, bool *anew)
{
	*anew = h->head_begun;
	h->head_begun = false;
	return h->request != NULL && !h->ending && !h->goodbye;
}

/* Nothing of it went, and not because others have the connection. */
static bool is_stuck(const struct h2_stream *st)
{
	const struct h2 *h = st->h2;

	return !st->moved && !st->deferred && st->head_sent && !st->answered &&
	       (!h->moved || nghttp2_session_get_stream_remote_window_size(
				     h->session, st->id) <= 0);
}

void h2_check_streams(struct h2 *h)
{
	uint64_t now_ms = conn_host_now_ms(h->c->host);
	struct h2_stream *st, *next;

	if (!h2_waits_for_client(h))
		h->checked_ms = now_ms;
	if (now_ms - h->checked_ms <
	    h->c->host->timeout_ms[CONN_TIMER_SEND] / 2)
		return;
	h->checked_ms = now_ms;
	for (st = TAILQ_FIRST(&h->streams); st != NULL; st = next) {
		next = TAILQ_NEXT(st, link);
		if (!is_stuck(st)) {
			st->waited_once = false;
		} else if (!st->waited_once) {
			st->waited_once = true;
		} else {
			stat_add(h->c->host->stats, STAT_connections_timeout,
				 1);
			(void)nghttp2_submit_rst_stream(h->session,
							NGHTTP2_FLAG_NONE,
							st->id, NGHTTP2_CANCEL);
		}
		st->moved = false;
	}
	h->moved = false;
	h2_set_ready(h);
}

void h2_say_goodbye(struct h2 *h)
{
	(void)nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
	send_frames(h);
	h->goodbye = true;
}

void h2_drain(struct h2 *h)
{
	if (h->drain_ms != 0)
		return;
	h->drain_ms = conn_host_now_ms(h->c->host) + DRAIN_MS;
	(void)nghttp2_submit_shutdown_notice(h->session);
	h2_set_ready(h);
}

void h2_drain_tick(struct h2 *h)
{
	if (h->drained || h->drain_ms == 0 ||
	    conn_host_now_ms(h->c->host) < h->drain_ms)
		return;
	h->drained = true;
	(void)nghttp2_submit_goaway(
		h->session, NGHTTP2_FLAG_NONE,
		nghttp2_session_get_last_proc_stream_id(h->session),
		NGHTTP2_NO_ERROR, NULL, 0);
	h2_set_ready(h);
}

/* A WebSocket must not wait behind what lies in the kernel. */
void h2_keep_short(struct h2 *h)
{
	int lowat = LOWAT_BYTES;

	if (h->batch_bytes == H2_CONTROL_BYTES)
		return;
	h->batch_bytes = H2_CONTROL_BYTES;
	(void)setsockopt(h->c->wire.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat,
			 sizeof(lowat));
}

static int make_session(struct h2 *h)
{
	nghttp2_session_callbacks *calls;
	nghttp2_option *option;
	int rc = -ENOMEM;

	if (nghttp2_session_callbacks_new(&calls) != 0)
		return -ENOMEM;
	if (nghttp2_option_new(&option) != 0)
		goto no_option;
	nghttp2_session_callbacks_set_on_begin_frame_callback(calls,
							      on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(
		calls, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls,
								  on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(calls,
							     on_frame_recv);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
		calls, on_invalid_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(calls,
							     on_frame_send);
	nghttp2_session_callbacks_set_on_stream_close_callback(calls,
							       on_stream_close);
	nghttp2_session_callbacks_set_send_data_callback(calls, send_data);
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_builtin_recv_extension_type(option,
						       NGHTTP2_PRIORITY_UPDATE);
	nghttp2_option_set_max_outbound_ack(option, H2_FLOOD_BURST + 100);
	/* ours counts these */
	nghttp2_option_set_stream_reset_rate_limit(option, 10 * H2_FLOOD_BURST,
						   10 * H2_FLOOD_SECOND);
	if (nghttp2_session_server_new2(&h->session, calls, h, option) == 0)
		rc = 0;
	nghttp2_option_del(option);
no_option:
	nghttp2_session_callbacks_del(calls);
	return rc;
}

static int send_settings(struct h2 *h)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
		  h->c->host->streams_max },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_BYTES_MAX },
		{ NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1 },
		{ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
	};

	return nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
				       ARRAY_LEN(settings)) == 0
		       ? 0
		       : -ENOMEM;
}

int h2_new(struct h2 **out, struct conn *c)
{
	struct h2 *h = calloc(1, sizeof(*h));
	int rc = -ENOMEM;

	if (h == NULL)
		return -ENOMEM;
	h->c = c;
	h->batch_bytes = H2_BATCH_BYTES;
	h->flood_left = H2_FLOOD_BURST;
	h->flood_ms = conn_host_now_ms(c->host);
	h->checked_ms = h->flood_ms;
	TAILQ_INIT(&h->streams);
	if (c->host->h2_batch == NULL)
		c->host->h2_batch = malloc(sizeof(*c->host->h2_batch));
	if (c->host->h2_batch == NULL)
		goto no_session;
	rc = make_session(h);
	if (rc < 0)
		goto no_session;
	rc = send_settings(h);
	if (rc < 0)
		goto no_settings;
	if (c->host->draining)
		h2_drain(h);
	c->wire.readable = true; /* see receive() */
	*out = h;
	return 0;

no_settings:
	nghttp2_session_del(h->session);
no_session:
	free(h);
	return rc;
}

void h2_free(struct h2 *h)
{
	struct h2_stream *st;

	while ((st = TAILQ_FIRST(&h->streams)) != NULL)
		h2_stream_free(st);
	h2_request_free(h->request);
	nghttp2_session_del(h->session);
	free(h);
}

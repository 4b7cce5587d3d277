#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "http/base64.h"
#include "http/json.h"
#include "http/wire.h"
#include "worker/controls.h"

#define FRAME_VERSION 1u
#define FRAME_LAST    1u /* the answer's last byte is in it */
#define FRAME_HEADER  16u
#define BEGIN_BYTES   16384u

/*
 * Requests that have bytes to send take turns, a frame each.
 *
 *                 credit is used up            CREDIT
 *   SENDING ---------------------> STARVED ------------.
 *     |  ^                                             v
 *     |  '--- its turn, and the client reads --- in control.turns
 *     '---- the client does not read, others wait ----^
 *
 * As long as somebody is in turns, the WebSocket has been found unable to
 * send, so that its writable() comes; or chunks_run() is at work.
 */

/* Network byte order: version, flags, bytes of this header, request, offset
 * of the first byte that follows. */
static void make_header(uint8_t dst[FRAME_HEADER], const struct exchange *ex,
			uint64_t count)
{
	dst[0] = FRAME_VERSION;
	dst[1] = ex->offset + count == ex->end ? FRAME_LAST : 0;
	dst[2] = 0;
	dst[3] = FRAME_HEADER;
	for (int n = 0; n < 4; n++)
		dst[4 + n] = (uint8_t)(ex->request >> (24 - 8 * n));
	for (int n = 0; n < 8; n++)
		dst[8 + n] = (uint8_t)(ex->offset >> (56 - 8 * n));
}

/* --- the head ------------------------------------------------------------ */

/* "bytes 0-99/1000", as our own range_format() writes it; or of a 416,
 * with a star for the range. */
static void read_range(struct exchange *ex, struct slice text, uint64_t *size)
{
	char copy[96];
	uint64_t from, to, total;

	*size = SIZE_UNKNOWN;
	if (!slice_present(text) || slice_copy(text, copy, sizeof(copy)) < 0)
		return;
	if (sscanf(copy, "bytes */%" SCNu64, &total) == 1) {
		*size = total;
		return;
	}
	if (sscanf(copy, "bytes %" SCNu64 "-%" SCNu64, &from, &to) != 2)
		return;
	ex->offset = from;
	ex->end = to + 1;
	if (sscanf(copy, "bytes %*[0-9]-%*[0-9]/%" SCNu64, &total) == 1)
		*size = total;
}

static void add_number(struct json *j, const char *name, uint64_t value)
{
	json_key(j, name);
	if (value == SIZE_UNKNOWN)
		json_null(j);
	else
		json_u64(j, value);
}

static void add_field(struct json *j, const char *name, const struct fields *f,
		      const char *field)
{
	json_key(j, name);
	json_slice(j, exchange_field(f, field));
}

static int send_begin(struct exchange *ex, const struct fields *f,
		      uint64_t size_bytes)
{
	char text[BEGIN_BYTES];
	struct json j;
	size_t n;
	int rc;

	json_init(&j, text, sizeof(text));
	json_object(&j);
	json_key(&j, "type");
	json_text(&j, "VIDEO_CHUNK_BEGIN");
	add_number(&j, "request", ex->request);
	add_number(&j, "status", ex->status);
	add_number(&j, "offset", ex->offset);
	add_number(&j, "length",
		   ex->end == SIZE_UNKNOWN ? SIZE_UNKNOWN
					   : ex->end - ex->offset);
	add_number(&j, "size", size_bytes);
	json_key(&j, "encoding");
	json_text(&j, ex->base64 ? "base64" : "binary");
	add_field(&j, "content_type", f, "Content-Type");
	add_field(&j, "etag", f, "ETag");
	add_field(&j, "quality", f, "Reelcache-Quality");
	add_field(&j, "cache_status", f, "Cache-Status");
	json_object_end(&j);
	rc = json_end(&j, &n);
	if (rc == 0)
		websocket_text(ex->control->ws, text, n);
	return rc;
}

static int chunk_head_end(struct sink *sink, enum sink_body body,
			  uint64_t body_bytes)
{
	struct exchange *ex = (struct exchange *)sink;
	struct fields *f = &ex->control->desk->controls->fields;
	uint64_t size_bytes;
	size_t bytes;
	int rc = fields_end(f, &bytes);

	if (rc < 0)
		return rc;
	ex->offset = 0;
	ex->end = body_bytes;
	read_range(ex, exchange_field(f, "Content-Range"), &size_bytes);
	if (ex->status < 200 || ex->status >= 300 || body != SINK_BODY) {
		ex->size_bytes = size_bytes;
		return 0;
	}
	if (ex->status == 200)
		size_bytes = body_bytes;
	rc = send_begin(ex, f, size_bytes);
	ex->begun = rc == 0;
	return rc;
}

/* Big frames cost less, but what comes after one waits for it. */
static void choose_frame(struct control *c, bool slow)
{
	c->frame_max = slow ? CHUNK_FRAME_SLOW
			    : (uint32_t)min_u64(2u * (uint64_t)c->frame_max,
						CHUNK_FRAME_FAST);
	c->frame_us = 0;
}

/* --- turns --------------------------------------------------------------- */

static void wait_for_turn(struct exchange *ex)
{
	if (ex->in_turns)
		return;
	ex->in_turns = true;
	TAILQ_INSERT_TAIL(&ex->control->turns, ex, turn_link);
}

void chunks_run(struct control *c)
{
	struct exchange *ex;

	if (c->frame_us != 0 && websocket_can_send(c->ws))
		choose_frame(c, desk_now_us(c->desk) - c->frame_us >
					CHUNK_SLOW_US);
	while ((ex = TAILQ_FIRST(&c->turns)) != NULL &&
	       websocket_can_send(c->ws)) {
		TAILQ_REMOVE(&c->turns, ex, turn_link);
		ex->in_turns = false;
		c->turn = ex;
		ex->sink.source_ops->writable(ex->sink.source);
		c->turn = NULL;
	}
}

/* How much may go now; 0: it waits. */
static uint64_t allowance(struct exchange *ex, uint64_t count)
{
	struct control *c = ex->control;

	if (ex->credit == 0) {
		ex->starved = true;
		ex->starved_ms = desk_now_ms(c->desk);
		return 0;
	}
	if (c->turn != ex && !TAILQ_EMPTY(&c->turns)) {
		wait_for_turn(ex);
		return 0;
	}
	count = min_u64(count, ex->credit);
	return min_u64(count, ex->base64 ? CHUNK_BASE64_BYTES : c->frame_max);
}

/* --- bytes --------------------------------------------------------------- */

static int64_t send_binary(struct exchange *ex, int fd, uint64_t file_off,
			   uint64_t count)
{
	uint8_t header[FRAME_HEADER];
	bool whole = true;
	int64_t n;

	make_header(header, ex, count);
	n = websocket_file(ex->control->ws, header, sizeof(header), fd,
			   file_off, count, ex->sink.changes, &whole);
	if (n > 0 && whole)
		choose_frame(ex->control, false);
	else if (n > 0)
		ex->control->frame_us = desk_now_us(ex->control->desk);
	return n;
}

static int64_t send_base64(struct exchange *ex, int fd, uint64_t file_off,
			   uint64_t count)
{
	static const char form[] =
		"{\"type\":\"VIDEO_CHUNK\",\"request\":%" PRIu32
		",\"offset\":%" PRIu64 ",\"last\":%s,"
		"\"data\":\"";
	char text[BASE64_BYTES(CHUNK_BASE64_BYTES) + 256];
	struct controls *all = ex->control->desk->controls;
	int64_t got;
	int n;

	if (!websocket_can_send(ex->control->ws))
		return 0;
	got = wire_read_file(fd, all->raw, count, file_off);
	if (got < 0)
		return got;
	n = snprintf(text, sizeof(text), form, ex->request, ex->offset,
		     ex->offset + (uint64_t)got == ex->end ? "true" : "false");
	n += (int)base64_encode(text + n, all->raw, (size_t)got);
	memcpy(text + n, "\"}", 2);
	websocket_text(ex->control->ws, text, (size_t)n + 2);
	return got;
}

static int64_t chunk_file(struct sink *sink, int fd, uint64_t file_off,
			  uint64_t count)
{
	struct exchange *ex = (struct exchange *)sink;
	int64_t n;

	count = allowance(ex, count);
	if (count == 0)
		return 0;
	n = ex->base64 ? send_base64(ex, fd, file_off, count)
		       : send_binary(ex, fd, file_off, count);
	if (n == 0)
		wait_for_turn(ex);
	if (n <= 0)
		return n;
	ex->control->turn = NULL;
	ex->offset += (uint64_t)n;
	ex->credit -= (uint64_t)n;
	ex->sent_bytes += (uint64_t)n;
	return n;
}

static void chunk_end(struct sink *sink)
{
	struct exchange *ex = (struct exchange *)sink;
	char text[128];
	int n;

	if (ex->begun) {
		n = snprintf(
			text, sizeof(text),
			"{\"type\":\"VIDEO_CHUNK_END\",\"request\":%" PRIu32
			",\"bytes\":%" PRIu64 "}",
			ex->request, ex->sent_bytes);
		websocket_text(ex->control->ws, text, (size_t)n);
	} else {
		exchange_fail(ex, "there is no answer");
	}
	exchange_free(ex);
}

const struct sink_ops chunk_sink_ops = {
	.head = exchange_head,
	.head_end = chunk_head_end,
	.bytes = exchange_bytes,
	.file = chunk_file,
	.ready = exchange_ready,
	.end = chunk_end,
	.reset = exchange_reset,
	.peer = exchange_peer,
	.hurry = exchange_hurry,
};

/* --- credit -------------------------------------------------------------- */

void chunks_credit(struct control *c, const struct control_message *m)
{
	struct exchange *ex = exchange_find(c, m->request);

	/* one that has just ended is no fault of the client */
	if (ex == NULL || !ex->is_chunk)
		return;
	if (m->bytes > CONTROL_CREDIT_MAX - ex->credit) {
		control_error(c, &m->request, 400,
			      "more than 16777216 bytes of credit");
		return;
	}
	ex->credit += m->bytes;
	if (!ex->starved)
		return;
	ex->starved = false;
	wait_for_turn(ex);
	chunks_run(c);
}

void chunks_tick(struct control *c, uint64_t now_ms)
{
	struct exchange *ex, *next;

	for (ex = TAILQ_FIRST(&c->exchanges); ex != NULL; ex = next) {
		next = TAILQ_NEXT(ex, link);
		if (!ex->starved ||
		    now_ms - ex->starved_ms < c->desk->conf->http.send_timeout)
			continue;
		ex->status = 408;
		ex->body_bytes = 0;
		exchange_fail(ex, "no credit came");
		exchange_cancel(ex);
	}
}

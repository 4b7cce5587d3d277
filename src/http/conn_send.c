#include <errno.h>

#include "http/conn_inner.h"

/* Something waits for the client to read.  In a callback of the connection's
 * own conn_run() sees to the timer; here it is the source's. */
static void wait_for_client(struct conn *c)
{
	if (c->busy || c->on_ready)
		return;
	conn_set_timer(c, CONN_TIMER_SEND, c->wire.wrote);
	if (c->wire.wrote)
		c->waited_once = false;
	c->wire.wrote = false;
}

/* All of it, now or later.  more: further bytes follow at once. */
static int send_text(struct conn *c, const void *bytes, size_t count, bool more)
{
	int rc = wire_send(&c->wire, bytes, count, more);

	if (c->wire.out != NULL)
		wait_for_client(c);
	return rc;
}

static struct fields *conn_head(struct sink *sink, int status)
{
	struct conn *c = (struct conn *)sink;
	struct fields *f = &c->host->fields;

	must(c->responding && !c->head_sent);
	fields_init(f, c->host->head_bytes, sizeof(c->host->head_bytes));
	fields_status(f, status);
	return f;
}

/* RFC 9110 section 7.8 */
static void begin_duplex(struct conn *c, struct fields *f)
{
	FIELDS_LITERAL(f, "Connection: Upgrade\r\nUpgrade: websocket\r\n");
	c->framing = FRAMING_CLOSE;
	c->body_left = SIZE_UNKNOWN;
	c->close_after = true;
	c->duplex = true;
}

static void choose_framing(struct conn *c, struct fields *f,
			   enum sink_body body, uint64_t body_bytes)
{
	c->framing = FRAMING_LENGTH;
	c->body_left = body == SINK_BODY ? body_bytes : 0;
	if (body == SINK_BODY_NONE)
		return;
	if (body_bytes != SIZE_UNKNOWN) {
		FIELDS_ADD_U64(f, "Content-Length", body_bytes);
	} else if (!c->http10) {
		FIELDS_LITERAL(f, "Transfer-Encoding: chunked\r\n");
		if (body == SINK_BODY)
			c->framing = FRAMING_CHUNKED;
	} else if (body == SINK_BODY) {
		c->framing = FRAMING_CLOSE;
		c->close_after = true;
	}
}

static int conn_head_end(struct sink *sink, enum sink_body body,
			 uint64_t body_bytes)
{
	struct conn *c = (struct conn *)sink;
	struct fields *f = &c->host->fields;
	size_t count;
	int rc;

	if (body == SINK_DUPLEX)
		begin_duplex(c, f);
	else
		choose_framing(c, f, body, body_bytes);
	if (c->host->draining)
		c->close_after = true;
	if (c->close_after && !c->duplex)
		FIELDS_LITERAL(f, "Connection: close\r\n");
	else if (c->http10 && !c->duplex)
		FIELDS_LITERAL(f, "Connection: keep-alive\r\n");
	rc = fields_end(f, &count);
	if (rc < 0) {
		c->duplex = false;
		return rc;
	}
	c->head_sent = true;
	return send_text(c, f->dst, count, c->body_left > 0 && !c->duplex);
}

/* The size line of a chunk, with the end of the one before it. */
static int begin_chunk(struct conn *c, uint64_t count)
{
	static const char digits[] = "0123456789abcdef";
	char line[24];
	char *at = line + sizeof(line);

	c->chunk_left = count;
	*--at = '\n';
	*--at = '\r';
	do
		*--at = digits[count & 15];
	while ((count >>= 4) != 0);
	if (c->chunk_begun) {
		*--at = '\n';
		*--at = '\r';
	}
	c->chunk_begun = true;
	return send_text(c, at, (size_t)(line + sizeof(line) - at), true);
}

static void body_sent(struct conn *c, uint64_t n)
{
	if (c->body_left != SIZE_UNKNOWN)
		c->body_left -= n;
	if (c->framing == FRAMING_CHUNKED)
		c->chunk_left -= n;
}

static int conn_bytes(struct sink *sink, const void *bytes, size_t count)
{
	struct conn *c = (struct conn *)sink;
	int rc;

	must(c->head_sent && count <= c->body_left);
	if (count == 0)
		return 0;
	if (c->framing == FRAMING_CHUNKED) {
		must(c->chunk_left == 0);
		rc = begin_chunk(c, count);
		if (rc < 0)
			return rc;
	}
	body_sent(c, count);
	if (c->duplex)
		c->turn_bytes += (uint32_t)count;
	return send_text(c, bytes, count,
			 sink->more || (c->body_left > 0 &&
					c->framing == FRAMING_LENGTH));
}

/* May file bytes be sent now, and how many?  0 = push-back. */
static uint64_t file_allowance(struct conn *c, uint64_t count)
{
	if (c->turn_bytes >= CONN_TURN_BYTES) {
		conn_set_ready(c);
		return 0;
	}
	if (!wire_flush(&c->wire) || !c->wire.writable)
		return 0;
	count = min_u64(count, CONN_TURN_BYTES - c->turn_bytes);
	if (c->framing != FRAMING_CHUNKED)
		return count;
	if (c->chunk_left == 0 && begin_chunk(c, count) < 0)
		return 0;
	return wire_flush(&c->wire) ? min_u64(count, c->chunk_left) : 0;
}

static int64_t push_back(struct conn *c)
{
	if (c->wire.broken)
		return -EPIPE;
	c->pushed_back = true;
	wait_for_client(c);
	return 0;
}

static int64_t conn_file(struct sink *sink, int fd, uint64_t file_off,
			 uint64_t count)
{
	struct conn *c = (struct conn *)sink;
	int64_t n;

	must(c->head_sent && count <= c->body_left);
	count = file_allowance(c, count);
	if (count == 0)
		return push_back(c);
	n = wire_file(&c->wire, fd, file_off, count, sink->changes);
	if (n == 0)
		return push_back(c);
	if (n > 0) {
		c->turn_bytes += (uint32_t)n;
		body_sent(c, (uint64_t)n);
	}
	return n;
}

static uint64_t conn_unread(const struct sink *sink)
{
	return wire_unread(&((const struct conn *)sink)->wire);
}

static bool conn_ready(struct sink *sink)
{
	struct conn *c = (struct conn *)sink;

	if (c->turn_bytes >= CONN_TURN_BYTES)
		conn_set_ready(c);
	else if (c->wire.out == NULL && !c->wire.broken)
		return true;
	c->pushed_back = true;
	return false;
}

/* The sink is the connection's again. */
static void leave_source(struct conn *c)
{
	c->responding = false;
	c->pushed_back = false;
	c->duplex = false;
	c->sink.changes = false;
	c->sink.source = NULL;
	if (!c->busy)
		conn_set_ready(c);
}

static void conn_end(struct sink *sink)
{
	struct conn *c = (struct conn *)sink;

	must(c->responding && c->head_sent);
	if (c->framing == FRAMING_CHUNKED) {
		must(c->chunk_left == 0);
		(void)!send_text(c,
				 c->chunk_begun ? "\r\n0\r\n\r\n" : "0\r\n\r\n",
				 c->chunk_begun ? 7 : 5, false);
	} else if (c->framing == FRAMING_LENGTH) {
		must(c->body_left == 0 || c->wire.broken);
	}
	leave_source(c);
}

static void conn_reset(struct sink *sink)
{
	struct conn *c = (struct conn *)sink;

	must(c->responding);
	/* where closing means the end, only a reset tells of a fault */
	if (c->head_sent && c->framing == FRAMING_CLOSE)
		wire_reset_at_close(&c->wire);
	c->wire.broken = true;
	leave_source(c);
}

static const uint8_t *conn_peer(const struct sink *sink)
{
	return ((const struct conn *)sink)->client;
}

/* A connection of HTTP/1.1 has one response at a time. */
static void conn_hurry(struct sink *sink UNUSED,
		       enum sink_urgency urgency UNUSED)
{
}

const struct sink_ops conn_sink_ops = {
	.head = conn_head,
	.head_end = conn_head_end,
	.bytes = conn_bytes,
	.file = conn_file,
	.ready = conn_ready,
	.unread = conn_unread,
	.end = conn_end,
	.reset = conn_reset,
	.peer = conn_peer,
	.hurry = conn_hurry,
};

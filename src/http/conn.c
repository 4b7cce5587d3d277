#include "http/conn.h"

#include <errno.h>
#include <event2/event_struct.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "http/slice.h"

/* Pipelined requests answered before others' turn. */
#define TURN_REQUESTS   64u
#define INPUT_BYTES_MIN 512u
#define INPUT_BYTES_MAX (HEAD_BYTES_MAX + CONN_READ_BYTES)
#define LINGER_BYTES    (256u * 1024u)
#define DRAIN_NEW_MS    1000u

enum framing { FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

/* Bytes of requests that wait: a part of a head, or pipelined ones. */
struct conn_input {
	struct head head; /* how far the parser is in what begins at `from` */
	uint32_t from;
	uint32_t used;
	uint32_t max;
	char bytes[];
};

/*
 * The life of a connection:
 *
 *   reading a head --> responding --> (rest of the request's body) --.
 *        ^  |               |                                        |
 *        '--+---------------+----------------------------------------'
 *           '- error, end --'--> lingering (closed for sending) --> closed
 */
struct conn {
	struct sink sink; /* first: a sink is its connection */
	struct conn_host *host;
	TAILQ_ENTRY(conn) all_link;
	TAILQ_ENTRY(conn) timer_link;
	TAILQ_ENTRY(conn) ready_link;
	struct conn_input *in;
	char *out; /* what the socket did not take of head or bytes */
	uint32_t out_sent;
	uint32_t out_bytes;
	uint64_t timer_since_ms;
	uint64_t body_left;  /* of the response; SIZE_UNKNOWN */
	uint64_t chunk_left; /* of the chunk whose size was sent */
	uint64_t skip_bytes; /* of the request's body; lingering: allowance */
	uint32_t turn_bytes; /* of files, so that pieces end at page borders */
	uint32_t outq; /* bytes in the kernel when `waited_once` was set */
	int fd;
	uint8_t turn_requests;
	uint8_t timer;
	uint8_t framing;
	bool on_ready : 1;
	bool busy : 1;       /* conn_run() is on the stack */
	bool readable : 1;   /* no EAGAIN since the last edge */
	bool writable : 1;
	bool peer_closed : 1;
	bool responding : 1; /* the source has the sink */
	bool head_sent : 1;
	bool chunk_begun : 1;
	bool pushed_back : 1; /* the source waits for writable() */
	bool wrote : 1;       /* progress since the timer was chosen */
	bool waited_once : 1; /* half of the send timeout is over */
	bool used_before : 1; /* at least one request was read */
	bool http10 : 1;
	bool close_after : 1;
	bool lingering : 1;
	bool broken : 1;
	uint8_t peer[SINK_PEER_BYTES];
	struct event event;
};

static const struct sink_ops conn_sink_ops;

static void set_ready(struct conn *c)
{
	if (c->on_ready)
		return;
	c->on_ready = true;
	TAILQ_INSERT_TAIL(&c->host->ready, c, ready_link);
}

static void begin_turn(struct conn *c)
{
	c->turn_bytes = 0;
	c->turn_requests = 0;
}

static void set_timer(struct conn *c, enum conn_timer kind, bool anew)
{
	if (c->timer == kind && !anew)
		return;
	if (c->timer != CONN_TIMER_NONE)
		TAILQ_REMOVE(&c->host->timers[c->timer], c, timer_link);
	c->timer = (uint8_t)kind;
	if (kind == CONN_TIMER_NONE)
		return;
	c->timer_since_ms = conn_host_now_ms(c->host);
	TAILQ_INSERT_TAIL(&c->host->timers[kind], c, timer_link);
}

static void conn_close(struct conn *c)
{
	struct conn_host *host = c->host;
	uint8_t peer[SINK_PEER_BYTES];

	must(!c->busy);
	if (c->responding) {
		c->responding = false;
		c->sink.source_ops->gone(c->sink.source);
	}
	if (c->on_ready)
		TAILQ_REMOVE(&host->ready, c, ready_link);
	set_timer(c, CONN_TIMER_NONE, false);
	TAILQ_REMOVE(&host->all, c, all_link);
	event_del(&c->event);
	close(c->fd);
	memcpy(peer, c->peer, sizeof(peer));
	free(c->in);
	free(c->out);
	free(c);
	host->count--;
	host->closed(host, peer);
}

/* --- sending ----------------------------------------------------------- */

static bool is_peer_error(int err)
{
	return err == EPIPE || err == ECONNRESET || err == ENOTCONN ||
	       err == ETIMEDOUT || err == EHOSTUNREACH || err == ENETUNREACH ||
	       err == ECONNABORTED || err == ENETDOWN;
}

/* Something waits for the client to read.  In a callback of the connection's
 * own conn_run() sees to the timer; here it is the source's. */
static void wait_for_client(struct conn *c)
{
	if (c->busy || c->on_ready)
		return;
	set_timer(c, CONN_TIMER_SEND, c->wrote);
	if (c->wrote)
		c->waited_once = false;
	c->wrote = false;
}

/* Keeps what could not be sent. */
static int keep_out(struct conn *c, const char *bytes, size_t count)
{
	char *out;

	if (count > SINK_BYTES_MAX ||
	    c->out_bytes + count > 2u * SINK_BYTES_MAX) {
		c->broken = true;
		return -EPIPE;
	}
	out = realloc(c->out, c->out_bytes + count);
	if (out == NULL) {
		c->broken = true;
		return -EPIPE;
	}
	memcpy(out + c->out_bytes, bytes, count);
	c->out = out;
	c->out_bytes += (uint32_t)count;
	wait_for_client(c);
	return 0;
}

/* True: nothing is kept any more. */
static bool flush_out(struct conn *c)
{
	while (c->out != NULL && c->writable && !c->broken) {
		ssize_t n = send(c->fd, c->out + c->out_sent,
				 c->out_bytes - c->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->writable = false;
		} else if (n < 0) {
			c->broken = true;
		} else {
			c->wrote = true;
			c->out_sent += (uint32_t)n;
			if (c->out_sent == c->out_bytes) {
				free(c->out);
				c->out = NULL;
				c->out_sent = 0;
				c->out_bytes = 0;
			}
		}
	}
	return c->out == NULL && !c->broken;
}

/* All of it, now or later.  more: further bytes follow at once. */
static int send_text(struct conn *c, const char *bytes, size_t count, bool more)
{
	ssize_t n;

	if (c->broken)
		return -EPIPE;
	if (c->out != NULL || !c->writable)
		return keep_out(c, bytes, count);
	do
		n = send(c->fd, bytes, count,
			 MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN) {
		c->broken = true;
		return -EPIPE;
	}
	if (n < 0)
		n = 0;
	else
		c->wrote = true;
	if ((size_t)n == count)
		return 0;
	c->writable = false;
	return keep_out(c, bytes + n, count - (size_t)n);
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

static void choose_framing(struct conn *c, struct fields *f, enum sink_body body,
			   uint64_t body_bytes)
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

	choose_framing(c, f, body, body_bytes);
	if (c->host->draining)
		c->close_after = true;
	if (c->close_after)
		FIELDS_LITERAL(f, "Connection: close\r\n");
	else if (c->http10)
		FIELDS_LITERAL(f, "Connection: keep-alive\r\n");
	rc = fields_end(f, &count);
	if (rc < 0)
		return rc;
	c->head_sent = true;
	return send_text(c, f->dst, count, c->body_left > 0);
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
	return send_text(c, bytes, count,
			 c->body_left > 0 && c->framing == FRAMING_LENGTH);
}

/* May file bytes be sent now, and how many?  0 = push-back. */
static uint64_t file_allowance(struct conn *c, uint64_t count)
{
	if (c->turn_bytes >= CONN_TURN_BYTES) {
		set_ready(c);
		return 0;
	}
	if (!flush_out(c) || !c->writable)
		return 0;
	count = min_u64(count, CONN_TURN_BYTES - c->turn_bytes);
	if (c->framing != FRAMING_CHUNKED)
		return count;
	if (c->chunk_left == 0 && begin_chunk(c, count) < 0)
		return 0;
	return flush_out(c) ? min_u64(count, c->chunk_left) : 0;
}

static int64_t push_back(struct conn *c)
{
	if (c->broken)
		return -EPIPE;
	c->pushed_back = true;
	wait_for_client(c);
	return 0;
}

static int64_t conn_file(struct sink *sink, int fd, uint64_t file_off,
			 uint64_t count)
{
	struct conn *c = (struct conn *)sink;
	off_t off = (off_t)file_off;
	ssize_t n;

	must(c->head_sent && count <= c->body_left);
	count = file_allowance(c, count);
	if (count == 0)
		return push_back(c);
	do
		n = sendfile(c->fd, fd, &off, count);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->wrote = true;
		c->turn_bytes += (uint32_t)n;
		body_sent(c, (uint64_t)n);
		return n;
	}
	if (n == 0)
		return -ENODATA;
	if (errno == EAGAIN) {
		c->writable = false;
		return push_back(c);
	}
	if (!is_peer_error(errno))
		return -EIO;
	c->broken = true;
	return -EPIPE;
}

/* The sink is the connection's again. */
static void leave_source(struct conn *c)
{
	c->responding = false;
	c->pushed_back = false;
	c->sink.source = NULL;
	if (!c->busy)
		set_ready(c);
}

static void conn_end(struct sink *sink)
{
	struct conn *c = (struct conn *)sink;

	must(c->responding && c->head_sent);
	if (c->framing == FRAMING_CHUNKED) {
		must(c->chunk_left == 0);
		(void)!send_text(c, c->chunk_begun ? "\r\n0\r\n\r\n" : "0\r\n\r\n",
				 c->chunk_begun ? 7 : 5, false);
	} else if (c->framing == FRAMING_LENGTH) {
		must(c->body_left == 0 || c->broken);
	}
	leave_source(c);
}

static void conn_reset(struct sink *sink)
{
	struct conn *c = (struct conn *)sink;
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	must(c->responding);
	/* where closing means the end, only a reset tells of a fault */
	if (c->head_sent && c->framing == FRAMING_CLOSE)
		(void)!setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once,
				  sizeof(at_once));
	c->broken = true;
	leave_source(c);
}

static const uint8_t *conn_peer(const struct sink *sink)
{
	return ((const struct conn *)sink)->peer;
}

static const struct sink_ops conn_sink_ops = {
	.head = conn_head,
	.head_end = conn_head_end,
	.bytes = conn_bytes,
	.file = conn_file,
	.end = conn_end,
	.reset = conn_reset,
	.peer = conn_peer,
};

/* --- requests ---------------------------------------------------------- */

static void begin_response(struct conn *c)
{
	c->responding = true;
	c->head_sent = false;
	c->chunk_begun = false;
	c->chunk_left = 0;
	c->used_before = true;
	c->turn_requests++;
	stat_add(c->host->stats, STAT_requests, 1);
}

static void hand_over(struct conn *c, const struct head *h)
{
	begin_response(c);
	c->http10 = h->minor == 0;
	if (!h->keep_alive)
		c->close_after = true;
	/* the client may send its body or not, after an answer without 100 */
	if (h->expect_continue && h->content_length > 0)
		c->close_after = true;
	if (h->content_length > CONN_BODY_MAX) {
		c->close_after = true;
		c->host->refuse(c->host, &c->sink, h, 413,
				"request bodies are not wanted here");
		return;
	}
	c->skip_bytes = h->content_length;
	c->host->request(c->host, &c->sink, h);
}

static void hand_over_bad(struct conn *c, const struct head *h)
{
	begin_response(c);
	c->http10 = false;
	c->close_after = true;
	stat_add(c->host->stats, STAT_requests_bad, 1);
	c->host->refuse(c->host, &c->sink, h, h->status, h->reason);
}

static int input_reserve(struct conn *c, uint32_t more)
{
	struct conn_input *in = c->in;
	uint32_t want;

	if (in != NULL && in->from > 0) {
		memmove(in->bytes, in->bytes + in->from, in->used - in->from);
		in->used -= in->from;
		in->from = 0;
	}
	want = (in != NULL ? in->used : 0) + more;
	if (want > INPUT_BYTES_MAX)
		return -ENOBUFS;
	if (in != NULL && want <= in->max)
		return 0;
	want = (uint32_t)max_u64(want, in != NULL ? 2u * (uint64_t)in->max
						   : INPUT_BYTES_MIN);
	want = (uint32_t)min_u64(want, INPUT_BYTES_MAX);
	in = realloc(c->in, sizeof(*in) + want);
	if (in == NULL)
		return -ENOMEM;
	if (c->in == NULL) {
		in->from = 0;
		in->used = 0;
		head_init(&in->head);
	}
	in->max = want;
	c->in = in;
	return 0;
}

static int input_add(struct conn *c, const char *bytes, size_t count)
{
	int rc = input_reserve(c, (uint32_t)count);

	if (rc < 0)
		return rc;
	memcpy(c->in->bytes + c->in->used, bytes, count);
	c->in->used += (uint32_t)count;
	return 0;
}

static void input_take(struct conn *c, uint32_t count)
{
	c->in->from += count;
	head_init(&c->in->head);
	if (c->in->from == c->in->used) {
		free(c->in);
		c->in = NULL;
	}
}

/* recv() into dst.  0: nothing more now (or the end, or an error: flags). */
static size_t receive(struct conn *c, char *dst, size_t dst_bytes)
{
	ssize_t n;

	if (!c->readable)
		return 0;
	do
		n = recv(c->fd, dst, dst_bytes, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		c->readable = false;
		if (errno != EAGAIN)
			c->broken = true;
		return 0;
	}
	if (n == 0) {
		c->readable = false;
		c->peer_closed = true;
		return 0;
	}
	/* a short read has emptied the socket: the next byte is an edge */
	if ((size_t)n < dst_bytes && !c->peer_closed)
		c->readable = false;
	return (size_t)n;
}

/* Throws a request body away.  True: all of it is gone. */
static bool skip_body(struct conn *c)
{
	while (c->skip_bytes > 0) {
		size_t n;

		if (c->in != NULL) {
			n = min_u64(c->skip_bytes, c->in->used - c->in->from);
			input_take(c, (uint32_t)n);
		} else {
			n = receive(c, c->host->buffer,
				    min_u64(c->skip_bytes, CONN_READ_BYTES));
			if (n == 0)
				return false;
			set_timer(c, CONN_TIMER_BODY, true);
		}
		c->skip_bytes -= n;
	}
	return true;
}

/* The usual case: nothing is kept, whole heads are read where they lie. */
static bool request_from_buffer(struct conn *c)
{
	struct conn_host *host = c->host;
	size_t n = receive(c, host->buffer, CONN_READ_BYTES);
	enum head_outcome got;
	size_t rest;

	if (n == 0)
		return false;
	head_init(&host->head);
	got = head_parse(&host->head, host->buffer, n);
	if (got == HEAD_BAD) {
		hand_over_bad(c, &host->head);
		return true;
	}
	rest = got == HEAD_DONE ? n - host->head.head_bytes : n;
	if (rest > 0 && input_add(c, host->buffer + n - rest, rest) < 0) {
		c->broken = true;
		return false;
	}
	if (got == HEAD_MORE) {
		c->in->head = host->head;
		return true;
	}
	hand_over(c, &host->head);
	return true;
}

static bool request_from_input(struct conn *c)
{
	struct conn_input *in = c->in;
	enum head_outcome got;

	got = head_parse(&in->head, in->bytes + in->from, in->used - in->from);
	if (got == HEAD_MORE) {
		size_t n;

		if (!c->readable)
			return false;
		if (input_reserve(c, INPUT_BYTES_MIN) < 0) {
			c->broken = true;
			return false;
		}
		in = c->in;
		n = receive(c, in->bytes + in->used, in->max - in->used);
		in->used += (uint32_t)n;
		return n > 0;
	}
	/* the callee reads the head; its room is given back afterwards */
	if (got == HEAD_BAD) {
		hand_over_bad(c, &in->head);
		free(c->in);
		c->in = NULL;
		return true;
	}
	hand_over(c, &in->head);
	input_take(c, in->head.head_bytes);
	return true;
}

/* --- the machine ------------------------------------------------------- */

static void begin_linger(struct conn *c)
{
	free(c->in);
	c->in = NULL;
	if (shutdown(c->fd, SHUT_WR) < 0 || c->peer_closed) {
		c->broken = true;
		return;
	}
	c->lingering = true;
	c->skip_bytes = LINGER_BYTES;
	set_timer(c, CONN_TIMER_LINGER, true);
}

/* A close with unread input would make the kernel send a reset that can
 * overtake the answer; so the client's last words are read. */
static void run_linger(struct conn *c)
{
	while (!c->broken) {
		size_t n = receive(c, c->host->buffer, CONN_READ_BYTES);

		if (n == 0)
			break;
		c->skip_bytes -= min_u64(n, c->skip_bytes);
		if (c->skip_bytes == 0)
			c->broken = true;
	}
	if (c->peer_closed)
		c->broken = true;
}

/* One step; false: wait for an event. */
static bool run_once(struct conn *c)
{
	if (!flush_out(c))
		return false;
	if (c->responding) {
		if (!c->pushed_back || !c->writable || c->on_ready)
			return false;
		c->pushed_back = false;
		c->sink.source_ops->writable(c->sink.source);
		return !c->responding;
	}
	if (c->close_after) {
		begin_linger(c);
		return false;
	}
	if (c->turn_bytes >= CONN_TURN_BYTES ||
	    c->turn_requests >= TURN_REQUESTS) {
		set_ready(c);
		return false;
	}
	if (!skip_body(c))
		return false;
	return c->in != NULL ? request_from_input(c) : request_from_buffer(c);
}

static void choose_timer(struct conn *c)
{
	bool wrote = c->wrote;

	c->wrote = false;
	if (wrote)
		c->waited_once = false;
	if (c->lingering)
		return;
	if (c->out != NULL || (c->pushed_back && !c->on_ready))
		set_timer(c, CONN_TIMER_SEND, wrote);
	else if (c->responding && c->peer_closed && !c->on_ready)
		set_timer(c, CONN_TIMER_HALF, wrote);
	else if (c->responding || c->on_ready)
		set_timer(c, CONN_TIMER_NONE, false);
	else if (c->skip_bytes > 0)
		set_timer(c, CONN_TIMER_BODY, false);
	else if (!c->used_before || (c->in != NULL &&
		 head_begun(&c->in->head, c->in->used - c->in->from)))
		set_timer(c, CONN_TIMER_HEAD, false);
	else
		set_timer(c, CONN_TIMER_IDLE, wrote);
}

static bool is_idle(const struct conn *c)
{
	return !c->responding && !c->lingering && !c->on_ready &&
	       c->out == NULL && c->in == NULL;
}

static void conn_run(struct conn *c)
{
	must(!c->busy);
	c->busy = true;
	if (c->lingering)
		run_linger(c);
	else
		while (!c->broken && run_once(c))
			;
	c->busy = false;
	/* without a response nothing is left for a client that has closed */
	if (c->peer_closed && !c->responding && !c->on_ready && c->out == NULL)
		c->broken = true;
	if (c->host->draining && c->used_before && is_idle(c))
		c->broken = true;
	if (c->broken)
		conn_close(c);
	else
		choose_timer(c);
}

/*
 * The source waits for bytes, not for the client: has the client left?  One
 * that has only closed its sending side may still read; whether it does shows
 * when bytes are sent to it, or none can be for CONN_HALF_MS.
 */
static bool peer_left(struct conn *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK);

	if (n == 0)
		c->peer_closed = true;
	return n < 0 && errno != EAGAIN && errno != EINTR;
}

static void conn_event(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	if (what & (EV_READ | EV_CLOSED))
		c->readable = true;
	if (what & EV_WRITE)
		c->writable = true;
	if (what & EV_CLOSED)
		c->peer_closed = true;
	if (c->on_ready)
		return; /* its turn comes */
	if (c->responding && !c->pushed_back &&
	    (what & (EV_READ | EV_CLOSED)) != 0 && peer_left(c)) {
		c->broken = true;
		conn_close(c);
		return;
	}
	begin_turn(c);
	conn_run(c);
}

int conn_open(struct conn_host *host, int fd,
	      const uint8_t peer[SINK_PEER_BYTES])
{
	struct conn *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		close(fd);
		return -ENOMEM;
	}
	c->sink.ops = &conn_sink_ops;
	c->host = host;
	c->fd = fd;
	c->timer = CONN_TIMER_NONE;
	c->writable = true;
	memcpy(c->peer, peer, SINK_PEER_BYTES);
	if (event_assign(&c->event, host->base, fd,
			 EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
			 conn_event, c) < 0 ||
	    event_add(&c->event, NULL) < 0) {
		free(c);
		close(fd);
		return -ENOMEM;
	}
	host->count++;
	TAILQ_INSERT_TAIL(&host->all, c, all_link);
	set_timer(c, CONN_TIMER_HEAD, true);
	return 0;
}

bool conn_host_turn_end(struct conn_host *host)
{
	struct conn *last = TAILQ_LAST(&host->ready, conn_list);
	struct conn *c = NULL;

	/* those that become ready meanwhile come next time */
	while (c != last) {
		c = TAILQ_FIRST(&host->ready);
		TAILQ_REMOVE(&host->ready, c, ready_link);
		c->on_ready = false;
		begin_turn(c);
		conn_run(c);
	}
	host->turn_begun = false;
	return !TAILQ_EMPTY(&host->ready);
}

/*
 * The client takes nothing we offer; but it may be reading, slowly, what the
 * kernel holds.  Asked twice in a timeout: is there less of it?
 */
static bool is_reading(struct conn *c)
{
	int outq = 0;
	bool reading;

	if (ioctl(c->fd, SIOCOUTQ, &outq) < 0)
		return false;
	reading = !c->waited_once || (uint32_t)outq < c->outq;
	c->waited_once = true;
	c->outq = (uint32_t)outq;
	return reading;
}

static void refuse_late_head(struct conn *c)
{
	c->busy = true;
	c->in->head.base = c->in->bytes + c->in->from;
	begin_response(c);
	c->close_after = true;
	c->host->refuse(c->host, &c->sink, &c->in->head, 408,
			"the request head took too long");
	c->busy = false;
	conn_run(c);
}

static void time_out(struct conn *c)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	if (c->timer == CONN_TIMER_SEND) {
		if (is_reading(c)) {
			set_timer(c, CONN_TIMER_SEND, true);
			return;
		}
		/* do not let the kernel go on trying for minutes */
		(void)!setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once,
				  sizeof(at_once));
	}
	if (c->timer == CONN_TIMER_HALF && c->wrote) {
		c->wrote = false;
		set_timer(c, CONN_TIMER_HALF, true);
		return;
	}
	if (c->timer != CONN_TIMER_LINGER && c->timer != CONN_TIMER_HALF)
		stat_add(c->host->stats, STAT_connections_timeout, 1);
	if (c->timer == CONN_TIMER_HEAD && c->in != NULL)
		refuse_late_head(c);
	else
		conn_close(c);
}

/* A connection that was made just before draining began may still send its
 * request, but not for long. */
static void close_unused(struct conn_host *host)
{
	struct conn *next;

	for (struct conn *c = TAILQ_FIRST(&host->timers[CONN_TIMER_HEAD]);
	     c != NULL; c = next) {
		next = TAILQ_NEXT(c, timer_link);
		if (!c->used_before && c->in == NULL &&
		    conn_host_now_ms(host) - c->timer_since_ms >= DRAIN_NEW_MS)
			conn_close(c);
	}
}

void conn_tick(struct conn_host *host)
{
	uint64_t now = conn_host_now_ms(host);
	struct conn *c;

	for (unsigned i = 0; i < CONN_TIMERS; i++) {
		uint64_t limit = host->timeout_ms[i];

		if (i == CONN_TIMER_SEND)
			limit /= 2; /* it may have to pass twice */
		while ((c = TAILQ_FIRST(&host->timers[i])) != NULL &&
		       now - c->timer_since_ms >= limit)
			time_out(c);
	}
	if (host->draining)
		close_unused(host);
}

void conn_host_drain(struct conn_host *host)
{
	struct conn *next;

	host->draining = true;
	for (struct conn *c = TAILQ_FIRST(&host->all); c != NULL; c = next) {
		next = TAILQ_NEXT(c, all_link);
		if (!is_idle(c))
			continue;
		/* a request that has just come in is still answered */
		begin_turn(c);
		c->readable = true;
		conn_run(c);
	}
}

void conn_host_init(struct conn_host *host)
{
	for (unsigned i = 0; i < CONN_TIMERS; i++)
		TAILQ_INIT(&host->timers[i]);
	TAILQ_INIT(&host->ready);
	TAILQ_INIT(&host->all);
	host->timeout_ms[CONN_TIMER_LINGER] = CONN_LINGER_MS;
	host->timeout_ms[CONN_TIMER_HALF] = CONN_HALF_MS;
}

void conn_host_fini(struct conn_host *host)
{
	struct conn *c;

	while ((c = TAILQ_FIRST(&host->all)) != NULL)
		conn_close(c);
}

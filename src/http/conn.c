#include "http/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/conn_inner.h"
#include "http/forwarded.h"
#include "http/h2.h"
#include "http/slice.h"
#include "http/tls.h"

/* Pipelined requests answered before others' turn. */
#define TURN_REQUESTS   64u
#define INPUT_BYTES_MIN 512u
#define INPUT_BYTES_MAX (HEAD_BYTES_MAX + CONN_READ_BYTES)
#define LINGER_BYTES    (256u * 1024u)
#define DRAIN_NEW_MS    1000u

void conn_set_ready(struct conn *c)
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

void conn_set_timer(struct conn *c, enum conn_timer kind, bool anew)
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
	if (c->h2 != NULL)
		h2_free(c->h2);
	if (c->on_ready)
		TAILQ_REMOVE(&host->ready, c, ready_link);
	conn_set_timer(c, CONN_TIMER_NONE, false);
	if (c->wire.tls != NULL && !tls_is_open(c->wire.tls))
		stat_add(host->stats, STAT_tls_failed, 1);
	if (wire_kernel_encrypts(&c->wire))
		stat_add(host->stats, STAT_tls_by_kernel, 1);
	if (c->ending)
		host->ending--;
	TAILQ_REMOVE(&host->all, c, all_link);
	event_del(&c->event);
	wire_fini(&c->wire);
	memcpy(peer, c->peer, sizeof(peer));
	free(c->in);
	free(c);
	host->count--;
	host->closed(host, peer);
}

/* --- requests ---------------------------------------------------------- */

void conn_find_client(const struct conn *c, const struct head *h,
		      uint8_t client[SINK_PEER_BYTES])
{
	if (c->host->trusted != NULL)
		forwarded_client(h, c->peer, c->host->trusted, client);
	else
		memcpy(client, c->peer, SINK_PEER_BYTES);
}

static void begin_response(struct conn *c)
{
	memcpy(c->client, c->peer, SINK_PEER_BYTES);
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
	conn_find_client(c, h, c->client);
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

/* Throws a request body away.  True: all of it is gone. */
static bool skip_body(struct conn *c)
{
	while (c->skip_bytes > 0) {
		size_t n;

		if (c->in != NULL) {
			n = min_u64(c->skip_bytes, c->in->used - c->in->from);
			input_take(c, (uint32_t)n);
		} else {
			n = wire_receive(
				&c->wire, c->host->buffer,
				min_u64(c->skip_bytes, CONN_READ_BYTES));
			if (n == 0)
				return false;
			conn_set_timer(c, CONN_TIMER_BODY, true);
		}
		c->skip_bytes -= n;
	}
	return true;
}

/*
 * Is this HTTP/2, chosen by ALPN or with prior knowledge (RFC 9113 section
 * 3)?  Then the bytes are its.
 */
static bool becomes_h2(struct conn *c, const char *bytes, size_t count)
{
	if (c->used_before ||
	    !(wire_chose_h2(&c->wire) ||
	      (count >= 4 && memcmp(bytes, H2_PREFACE, 4) == 0)))
		return false;
	if (h2_new(&c->h2, c) < 0)
		c->wire.broken = true;
	else
		h2_input(c->h2, bytes, count);
	return true;
}

/* The usual case: nothing is kept, whole heads are read where they lie. */
static bool request_from_buffer(struct conn *c)
{
	struct conn_host *host = c->host;
	size_t n = wire_receive(&c->wire, host->buffer, CONN_READ_BYTES);
	enum head_outcome got;
	size_t rest;

	if (n == 0 || becomes_h2(c, host->buffer, n))
		return false;
	head_init(&host->head);
	got = head_parse(&host->head, host->buffer, n);
	if (got == HEAD_BAD) {
		hand_over_bad(c, &host->head);
		return true;
	}
	rest = got == HEAD_DONE ? n - host->head.head_bytes : n;
	if (rest > 0 && input_add(c, host->buffer + n - rest, rest) < 0) {
		c->wire.broken = true;
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

	if (becomes_h2(c, in->bytes + in->from, in->used - in->from)) {
		free(c->in);
		c->in = NULL;
		return false;
	}
	got = head_parse(&in->head, in->bytes + in->from, in->used - in->from);
	if (got == HEAD_MORE) {
		size_t n;

		if (!wire_has_input(&c->wire))
			return false;
		if (input_reserve(c, INPUT_BYTES_MIN) < 0) {
			c->wire.broken = true;
			return false;
		}
		in = c->in;
		n = wire_receive(&c->wire, in->bytes + in->used,
				 in->max - in->used);
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

/* True: the client is told that it is the end, and nothing is left over. */
static bool say_end(struct conn *c)
{
	bool all = wire_say_end(&c->wire);
	bool held = !all && !c->wire.broken && wire_kernel_encrypts(&c->wire);

	if (held && !c->ending)
		c->host->ending++;
	else if (!held && c->ending)
		c->host->ending--;
	c->ending = held;
	return all;
}

/* The end of a connection on which nothing goes on: the client is told. */
static void end_in_order(struct conn *c)
{
	c->close_after = true;
	(void)say_end(c);
	if (!c->ending)
		c->wire.broken = true;
}

/* A close with unread input would make the kernel send a reset that can
 * overtake the answer; so the client's last words are read. */
static void run_linger(struct conn *c)
{
	while (!c->wire.broken) {
		size_t n = wire_receive(&c->wire, c->host->buffer,
					CONN_READ_BYTES);

		if (n == 0)
			break;
		c->skip_bytes -= min_u64(n, c->skip_bytes);
		if (c->skip_bytes == 0)
			c->wire.broken = true;
	}
	if (c->wire.peer_closed)
		c->wire.broken = true;
}

/* All has been sent. */
static void begin_linger(struct conn *c)
{
	if (!say_end(c))
		return; /* it comes again when that has gone out */
	free(c->in);
	c->in = NULL;
	if (wire_shutdown(&c->wire) < 0) {
		c->wire.broken = true;
		return;
	}
	c->lingering = true;
	c->skip_bytes = LINGER_BYTES;
	conn_set_timer(c, CONN_TIMER_LINGER, true);
	run_linger(c); /* of what is here already no event tells */
}

/* Bytes for the source of a duplex.  False: none now. */
static bool hand_input(struct conn *c)
{
	struct conn_host *host = c->host;
	struct conn_input *in = c->in;
	size_t n;

	if (in != NULL) { /* they came with the request */
		c->in = NULL;
		c->sink.source_ops->input(c->sink.source, in->bytes + in->from,
					  in->used - in->from);
		free(in);
		return true;
	}
	if (c->turn_bytes >= CONN_TURN_BYTES) {
		conn_set_ready(c);
		return false;
	}
	n = wire_receive(&c->wire, host->buffer, CONN_READ_BYTES);
	c->turn_bytes += (uint32_t)n;
	if (n == 0 && (!c->wire.peer_closed || c->input_ended))
		return false;
	c->input_ended = n == 0;
	c->sink.source_ops->input(c->sink.source, host->buffer, n);
	return true;
}

/* One step; false: wait for an event. */
static bool run_once(struct conn *c)
{
	if (!wire_flush(&c->wire))
		return false;
	if (c->responding) {
		if (c->duplex && hand_input(c))
			return true;
		if (!c->pushed_back || !c->wire.writable || c->on_ready)
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
		conn_set_ready(c);
		return false;
	}
	if (!skip_body(c))
		return false;
	return c->in != NULL ? request_from_input(c) : request_from_buffer(c);
}

static void choose_h2_timer(struct conn *c, bool wrote)
{
	bool used = h2_take_used(c->h2);
	bool anew;

	/* a stream's own wait is not over because others go on */
	h2_check_streams(c->h2);
	/* between a head's frames no other may come */
	if (h2_is_in_head(c->h2, &anew))
		conn_set_timer(c, CONN_TIMER_HEAD, anew);
	else if (c->wire.out != NULL)
		conn_set_timer(c, CONN_TIMER_SEND, wrote);
	else if (h2_waits_for_client(c->h2))
		conn_set_timer(c, CONN_TIMER_SEND, false);
	else if (h2_stream_count(c->h2) > 0 || c->on_ready)
		conn_set_timer(c, CONN_TIMER_NONE, false);
	else if (h2_awaits_bodies(c->h2))
		conn_set_timer(c, CONN_TIMER_BODY, used);
	else if (!c->used_before)
		conn_set_timer(c, CONN_TIMER_HEAD, false);
	else
		conn_set_timer(c, CONN_TIMER_IDLE, used);
}

static void choose_timer(struct conn *c)
{
	bool wrote = c->wire.wrote;

	c->wire.wrote = false;
	if (wrote)
		c->waited_once = false;
	if (c->lingering)
		return;
	if (c->ending) {
		conn_set_timer(c, CONN_TIMER_SEND, wrote);
		return;
	}
	if (c->h2 != NULL) {
		choose_h2_timer(c, wrote);
		return;
	}
	/* who has asked for nothing is not waited for as a slow reader */
	if (!c->used_before && !c->responding)
		conn_set_timer(c, CONN_TIMER_HEAD, false);
	else if (c->wire.out != NULL || (c->pushed_back && !c->on_ready))
		conn_set_timer(c, CONN_TIMER_SEND, wrote);
	else if (c->responding && c->wire.peer_closed && !c->on_ready)
		conn_set_timer(c, CONN_TIMER_HALF, wrote);
	else if (c->responding ||
		 (c->on_ready && !wire_was_cut_short(&c->wire)))
		conn_set_timer(c, CONN_TIMER_NONE, false);
	else if (c->skip_bytes > 0)
		conn_set_timer(c, CONN_TIMER_BODY, false);
	else if (c->in != NULL &&
		 head_begun(&c->in->head, c->in->used - c->in->from))
		conn_set_timer(c, CONN_TIMER_HEAD, false);
	else
		conn_set_timer(c, CONN_TIMER_IDLE, wrote);
}

static bool is_idle(const struct conn *c)
{
	return !c->responding && !c->lingering && !c->ending && !c->on_ready &&
	       c->wire.out == NULL && c->in == NULL && c->h2 == NULL;
}

static void run_h2(struct conn *c)
{
	if (!c->ending) { /* else nothing may follow close_notify */
		h2_run(c->h2);
		if (c->wire.peer_closed && !wire_has_input(&c->wire))
			end_in_order(c);
	}
	if (c->wire.broken || !(c->ending || h2_is_over(c->h2)) || !say_end(c))
		return;
	h2_free(c->h2);
	c->h2 = NULL;
	begin_linger(c);
}

/*
 * The source waits for bytes, not for the client: has the client left?  One
 * that has only closed its sending side may still read; whether it does shows
 * when bytes are sent to it, or none can be for CONN_HALF_MS.
 */
static bool peer_left(struct conn *c)
{
	char byte;
	ssize_t n = recv(c->wire.fd, &byte, 1, MSG_PEEK);

	if (n == 0)
		c->wire.peer_closed = true;
	return n < 0 && errno != EAGAIN && errno != EINTR;
}

static void conn_run(struct conn *c)
{
	must(!c->busy);
	c->busy = true;
	if (c->lingering)
		run_linger(c);
	else
		while (!c->wire.broken && c->h2 == NULL && run_once(c))
			;
	if (c->h2 != NULL && !c->wire.broken)
		run_h2(c);
	c->busy = false;
	if (!c->wire.broken && c->wire.out == NULL &&
	    wire_was_cut_short(&c->wire))
		conn_set_ready(c);
	/* a reset that came together with the last bytes has no edge of its
	 * own; whoever sends sees it */
	if (!c->wire.broken && !c->wire.readable && !c->wire.wrote &&
	    peer_left(c))
		c->wire.broken = true;
	/* without a response nothing is left for a client that has closed */
	if (c->wire.peer_closed && c->h2 == NULL && !c->responding &&
	    !c->on_ready && c->wire.out == NULL)
		end_in_order(c);
	if (c->host->draining && c->used_before && is_idle(c))
		end_in_order(c);
	if (c->wire.broken)
		conn_close(c);
	else
		choose_timer(c);
}

static void conn_event(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	if (what & (EV_READ | EV_CLOSED))
		c->wire.readable = true;
	if (what & EV_WRITE)
		c->wire.writable = true;
	if (what & EV_CLOSED)
		c->wire.peer_closed = true;
	if (c->on_ready)
		return; /* its turn comes */
	if (c->responding && !c->pushed_back && !c->duplex &&
	    (what & (EV_READ | EV_CLOSED)) != 0 && peer_left(c)) {
		c->wire.broken = true;
		conn_close(c);
		return;
	}
	begin_turn(c);
	conn_run(c);
}

int conn_open(struct conn_host *host, int fd,
	      const uint8_t peer[SINK_PEER_BYTES], struct tls_context *tls)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct tls *own = tls != NULL ? tls_new(tls) : NULL;

	if (c == NULL || (tls != NULL && own == NULL)) {
		free(c);
		tls_free(own);
		close(fd);
		return -ENOMEM;
	}
	wire_init(&c->wire, fd, own);
	if (own != NULL)
		stat_add(host->stats, STAT_connections_tls, 1);
	c->sink.ops = &conn_sink_ops;
	c->host = host;
	c->timer = CONN_TIMER_NONE;
	memcpy(c->peer, peer, SINK_PEER_BYTES);
	if (event_assign(&c->event, host->base, fd,
			 EV_READ | EV_WRITE | EV_CLOSED | EV_ET | EV_PERSIST,
			 conn_event, c) < 0 ||
	    event_add(&c->event, NULL) < 0) {
		wire_fini(&c->wire);
		free(c);
		return -ENOMEM;
	}
	host->count++;
	TAILQ_INSERT_TAIL(&host->all, c, all_link);
	conn_set_timer(c, CONN_TIMER_HEAD, true);
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
	uint64_t unread = wire_unread(&c->wire) + wire_held(&c->wire);
	bool reading = !c->waited_once || unread < c->unread_bytes;

	c->waited_once = true;
	c->unread_bytes = (uint32_t)min_u64(unread, UINT32_MAX);
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
	if (c->timer == CONN_TIMER_SEND) {
		if ((c->h2 != NULL && c->wire.out == NULL && !c->ending) ||
		    is_reading(c)) {
			if (c->h2 != NULL)
				h2_check_streams(c->h2);
			conn_set_timer(c, CONN_TIMER_SEND, true);
			return;
		}
		/* do not let the kernel go on trying for minutes */
		wire_reset_at_close(&c->wire);
	}
	if (c->timer == CONN_TIMER_BODY && c->h2 != NULL) {
		h2_end_bodies(c->h2);
		conn_set_timer(c, CONN_TIMER_BODY, true);
		return;
	}
	if (c->timer == CONN_TIMER_HALF && c->wire.wrote) {
		c->wire.wrote = false;
		conn_set_timer(c, CONN_TIMER_HALF, true);
		return;
	}
	if (c->timer != CONN_TIMER_LINGER && c->timer != CONN_TIMER_HALF)
		stat_add(c->host->stats, STAT_connections_timeout, 1);
	if (c->timer == CONN_TIMER_HEAD && c->in != NULL) {
		refuse_late_head(c);
	} else if (c->h2 != NULL && (c->timer == CONN_TIMER_IDLE ||
				     c->timer == CONN_TIMER_HEAD)) {
		h2_say_goodbye(c->h2);
		conn_run(c);
	} else {
		if (c->timer == CONN_TIMER_IDLE)
			end_in_order(c);
		if (c->timer == CONN_TIMER_IDLE && c->ending)
			choose_timer(c);
		else
			conn_close(c);
	}
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

/* No event tells when TCP has taken what TLS of the kernel holds. */
static void ask_ending(struct conn_host *host)
{
	struct conn *next;

	for (struct conn *c = TAILQ_FIRST(&host->timers[CONN_TIMER_SEND]);
	     c != NULL && host->ending > 0; c = next) {
		next = TAILQ_NEXT(c, timer_link);
		if (c->ending && !c->on_ready)
			conn_run(c);
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
	ask_ending(host);
	if (!host->draining)
		return;
	close_unused(host);
	TAILQ_FOREACH (c, &host->all, all_link)
		if (c->h2 != NULL && !c->ending)
			h2_drain_tick(c->h2);
}

void conn_host_drain(struct conn_host *host)
{
	struct conn *next;

	host->draining = true;
	for (struct conn *c = TAILQ_FIRST(&host->all); c != NULL; c = next) {
		next = TAILQ_NEXT(c, all_link);
		if (c->h2 != NULL && !c->ending)
			h2_drain(c->h2);
		if (!is_idle(c))
			continue;
		/* a request that has just come in is still answered */
		begin_turn(c);
		c->wire.readable = true;
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
	free(host->h2_batch);
}

/*
 * conn - a client's connection: HTTP/1.1 in here, HTTP/2 in h2.c, both in
 * clear or in TLS (wire.c).  Of HTTP/1.1 it reads heads, and is a sink.
 *
 * Used by: worker.  Nothing blocks.  One edge-triggered event per connection
 * for its whole life; no libevent timeouts, but lists per kind of timeout
 * that conn_tick() walks.  An idle connection, or one with a slow reader,
 * holds no buffer: input is read into the host's, and kept apart only while
 * a part of a head or pipelined requests wait.
 *
 * HTTP/1.1 has one request at a time: the next head is read when the response
 * before it has been sent.  Request bodies are read and thrown away, up to
 * CONN_BODY_MAX.  A client that has closed its sending side and waits for
 * bytes that do not arrive counts as gone after CONN_HALF_MS.
 */
#ifndef REELCACHE_HTTP_CONN_H
#define REELCACHE_HTTP_CONN_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/head.h"
#include "http/sink.h"
#include "shm/segment.h"
#include "util/base.h"

#define CONN_TURN_BYTES  (2u * 1024u * 1024u) /* sent before others' turn */
#define CONN_READ_BYTES  16384u
#define CONN_BODY_MAX    65536u /* of a request; 413 above */
#define CONN_LINGER_MS   2000u
#define CONN_HALF_MS     1000u
#define CONN_HEAD_BUFFER 8192u /* longest response head */

enum conn_timer {
	CONN_TIMER_HEAD,   /* a request head is arriving */
	CONN_TIMER_IDLE,   /* between requests */
	CONN_TIMER_BODY,   /* a request body is arriving */
	CONN_TIMER_SEND,   /* the client takes nothing */
	CONN_TIMER_LINGER, /* answered and closed: the client's last words */
	CONN_TIMER_HALF,   /* half-closed while there is nothing to send */
	CONN_TIMERS,
	CONN_TIMER_NONE = CONN_TIMERS /* the source has its own */
};

struct conn;
struct h2_batch;
struct networks;
struct tls_context;
TAILQ_HEAD(conn_list, conn);

/* What the connections of a process share.  The caller fills the upper part
 * before conn_host_init(). */
struct conn_host {
	struct event_base *base;
	struct segment_stats *stats;
	uint64_t (*clock_us)(void); /* asked once a turn of the loop */
	uint64_t timeout_ms[CONN_TIMERS];
	/* Whose Forwarded fields count; NULL = nobody's. */
	const struct networks *trusted;
	uint32_t streams_max; /* at a time on a connection of HTTP/2 */

	/* A request; the callee answers into the sink, now or later.  The
	 * head is valid until it returns. */
	void (*request)(struct conn_host *host, struct sink *sink,
			const struct head *head);
	/* Bytes that are no request: answer with status and reason.  Only
	 * method, target and so on that were read are in the head. */
	void (*refuse)(struct conn_host *host, struct sink *sink,
		       const struct head *head, int status, const char *reason);
	/* A connection is gone; its descriptor is closed. */
	void (*closed)(struct conn_host *host, const uint8_t *peer);

	/* own: */
	bool draining;
	bool turn_begun;
	uint64_t now_us; /* of this turn: conn_host_now_us() */
	uint32_t count;  /* open connections */
	uint32_t ending; /* of these, those whose end TLS of the kernel delays */
	struct conn_list timers[CONN_TIMERS];
	struct conn_list ready;
	struct conn_list all;
	struct head head;
	struct h2_batch *h2_batch; /* NULL until it is needed */
	struct fields fields;
	char head_bytes[CONN_HEAD_BUFFER];
	char buffer[CONN_READ_BYTES];
};

void conn_host_init(struct conn_host *host);

/* Closes every connection at once. */
void conn_host_fini(struct conn_host *host);

/* The monotonic time of this turn of the loop. */
static inline uint64_t conn_host_now_us(struct conn_host *host)
{
	if (!host->turn_begun) {
		host->now_us = host->clock_us();
		host->turn_begun = true;
	}
	return host->now_us;
}

static inline uint64_t conn_host_now_ms(struct conn_host *host)
{
	return conn_host_now_us(host) / 1000;
}

/* Takes over fd (non-blocking), also on error.  tls: NULL = in clear. */
int conn_open(struct conn_host *host, int fd,
	      const uint8_t peer[SINK_PEER_BYTES],
	      struct tls_context *tls) MUSTCHECK;

/* After each turn of the loop: gives those that had used up their turn the
 * next one.  True: some have more to do, do not sleep. */
bool conn_host_turn_end(struct conn_host *host);

/* Ends what waited for too long.  Call about every 100 ms. */
void conn_tick(struct conn_host *host);

/* No new requests: idle connections are closed, others after the response
 * that runs. */
void conn_host_drain(struct conn_host *host);

#endif

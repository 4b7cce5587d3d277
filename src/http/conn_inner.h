/*
 * conn_inner - the inside of a connection, for conn.c and conn_send.c only.
 *
 * Used by: worker.
 */
#ifndef REELCACHE_HTTP_CONN_INNER_H
#define REELCACHE_HTTP_CONN_INNER_H

#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/conn.h"
#include "http/wire.h"

enum framing {
	FRAMING_LENGTH,
	FRAMING_CHUNKED,
	FRAMING_CLOSE, /* the end of the connection; a duplex, too */
};

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
	struct wire wire;
	struct conn_host *host;
	TAILQ_ENTRY(conn) all_link;
	TAILQ_ENTRY(conn) timer_link;
	TAILQ_ENTRY(conn) ready_link;
	struct h2 *h2; /* NULL = HTTP/1.1, or not known yet */
	struct conn_input *in;
	uint64_t timer_since_ms;
	uint64_t body_left;  /* of the response; SIZE_UNKNOWN */
	uint64_t chunk_left; /* of the chunk whose size was sent */
	uint64_t skip_bytes; /* of the request's body; lingering: allowance */
	uint32_t turn_bytes; /* of files, so that pieces end at page borders */
	uint32_t unread_bytes; /* by the client, when `waited_once` was set */
	uint8_t turn_requests;
	uint8_t timer;
	uint8_t framing;
	bool on_ready : 1;
	bool busy : 1;     /* conn_run() is on the stack */
	bool responding : 1; /* the source has the sink */
	bool head_sent : 1;
	bool chunk_begun : 1;
	bool pushed_back : 1; /* the source waits for writable() */
	bool waited_once : 1; /* half of the send timeout is over */
	bool used_before : 1; /* at least one request was read */
	bool http10 : 1;
	bool close_after : 1;
	bool ending : 1;      /* but TLS of the kernel has not passed all on */
	bool duplex : 1;      /* what comes in is the source's */
	bool input_ended : 1; /* and it knows that no more will */
	bool lingering : 1;
	uint8_t peer[SINK_PEER_BYTES];
	uint8_t client[SINK_PEER_BYTES]; /* of this request */
	struct event event;
};

/* conn.c: */

/* Who asks: the peer, or whom a trusted peer names. */
void conn_find_client(const struct conn *c, const struct head *h,
		      uint8_t client[SINK_PEER_BYTES]);
/* It comes up after this turn of the loop. */
void conn_set_ready(struct conn *c);
/* anew: the time begins again though the kind is the same. */
void conn_set_timer(struct conn *c, enum conn_timer kind, bool anew);

/* conn_send.c: */

extern const struct sink_ops conn_sink_ops;

#endif

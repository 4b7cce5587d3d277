/*
 * controls - the inside of WebSockets of the protocol reelcache.v1, for
 * control.c, exchange.c and chunks.c only.
 *
 * Used by: worker.
 */
#ifndef REELCACHE_WORKER_CONTROLS_H
#define REELCACHE_WORKER_CONTROLS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/websocket.h"
#include "worker/control_parse.h"
#include "worker/desk.h"

#define CONTROL_PROTOCOL   "reelcache.v1"
#define CONTROL_REQUESTS   32u /* under way at a time on one WebSocket */
#define CONTROL_CHUNKS     16u /* of chunks, besides those */
#define CONTROL_HEAD_BYTES 8192u
#define CHUNK_FRAME_FAST   (512u * 1024u) /* payload of a binary message */
#define CHUNK_FRAME_SLOW   (64u * 1024u)  /* to a client that takes */
#define CHUNK_SLOW_US      20000u         /* so long for one */
#define CHUNK_BASE64_BYTES (48u * 1024u)

struct control;

/*
 * A request by a WebSocket: made a request of HTTP, whose answer comes to
 * this sink and becomes messages.  What HTTP does, this does.
 */
struct exchange {
	struct sink sink; /* first: a sink is its exchange */
	struct control *control;
	TAILQ_ENTRY(exchange) link;
	TAILQ_ENTRY(exchange) turn_link; /* control.turns, while in_turns */
	const char *answer;              /* the type of a good answer */
	char *body;                      /* but of chunks */
	uint32_t body_bytes;
	uint32_t request;
	uint32_t retry_after_s;
	uint16_t status;
	bool is_chunk : 1;
	bool base64 : 1;
	bool begun : 1;    /* VIDEO_CHUNK_BEGIN was sent */
	bool in_turns : 1; /* waits for its turn to send */
	bool starved : 1;  /* waits for credit */

	/* of a chunk: */
	uint64_t credit;
	uint64_t offset; /* of the next byte */
	uint64_t end;    /* SIZE_UNKNOWN */
	uint64_t sent_bytes;
	uint64_t size_bytes; /* of the object, from a 416; SIZE_UNKNOWN */
	uint64_t starved_ms; /* since then */
};

TAILQ_HEAD(exchange_list, exchange);

struct control {
	TAILQ_ENTRY(control) link;
	struct desk *desk;
	struct websocket *ws;
	struct access_entry *entry;
	struct exchange_list exchanges;
	struct exchange_list turns;
	struct exchange *turn; /* may send now, though others wait */
	uint64_t stats_ms;     /* when the next STATS are due; 0 = none are */
	uint64_t stats_every_ms;
	uint32_t stats_request;
	bool stats_has_request;
	bool is_bulk; /* the sink was told that media comes */
	uint8_t peer[SINK_PEER_BYTES];
	uint32_t request_count;
	uint32_t chunk_count;
	uint32_t frame_max;
	uint64_t frame_us; /* when the frame under way began; 0 = none is */
};

struct controls {
	struct websocket_host host;
	TAILQ_HEAD(, control) all;
	uint64_t told_bytes; /* of host.sent_bytes, to the statistics */
	struct fields fields;
	char head_bytes[CONTROL_HEAD_BYTES];
	unsigned char raw[CHUNK_BASE64_BYTES];
};

/* control.c: */

/* {"type":"ERROR"...}; ex: NULL, or what it is about. */
void control_error(struct control *c, const uint32_t *request, int status,
		   const char *detail);

/* exchange.c: */

void exchange_begin(struct control *c, const struct control_message *m);
/* Its source is told that the client has gone; then it is freed. */
void exchange_cancel(struct exchange *ex);
struct exchange *exchange_find(struct control *c, uint32_t request);
/* Without a word to its source. */
void exchange_free(struct exchange *ex);
/* {"type":"ERROR"...} with the body that was collected, or the detail. */
void exchange_fail(struct exchange *ex, const char *detail);
struct slice exchange_field(const struct fields *f, const char *name);

/* chunks.c: */

extern const struct sink_ops chunk_sink_ops;

/* More may be sent: those whose turn it is do. */
void chunks_run(struct control *c);
void chunks_credit(struct control *c, const struct control_message *m);
/* Ends those that have had no credit for too long. */
void chunks_tick(struct control *c, uint64_t now_ms);

/* exchange.c, for chunks.c: what their sinks have in common. */
struct fields *exchange_head(struct sink *sink, int status);
int exchange_bytes(struct sink *sink, const void *bytes, size_t count);
const uint8_t *exchange_peer(const struct sink *sink);
void exchange_hurry(struct sink *sink, enum sink_urgency urgency);
bool exchange_ready(struct sink *sink);
void exchange_reset(struct sink *sink);

#endif

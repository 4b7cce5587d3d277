/*
 * websocket - one WebSocket (RFC 6455) on a duplex sink: an upgraded
 * connection of HTTP/1.1, or a stream of HTTP/2 (RFC 8441).
 *
 * Used by: worker.  Nothing blocks.  Frames of the client, control frames and
 * text messages are wslay's; a binary message whose bytes lie in a file goes
 * by the sink's file(), so that its bytes need not come through our memory.
 * No extension is taken.
 *
 * Memory of one WebSocket: about 9 KiB; WEBSOCKET_MESSAGE_MAX for a message
 * that comes in; WEBSOCKET_QUEUE_MAX + 2 * WEBSOCKET_TEXT_MAX for texts that
 * the client does not read, then it is closed with 1008.  A binary message
 * holds a descriptor while it is being sent, and no bytes.
 *
 * Order: what was queued goes before the next binary message; nothing goes
 * within one.
 */
#ifndef REELCACHE_HTTP_WEBSOCKET_H
#define REELCACHE_HTTP_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/head.h"
#include "http/sink.h"
#include "http/slice.h"
#include "util/base.h"

#define WEBSOCKET_MESSAGE_MAX 65536u         /* of the client; 1009 above */
#define WEBSOCKET_QUEUE_MAX   (256u * 1024u) /* texts that wait */
#define WEBSOCKET_TEXT_MAX    (320u * 1024u) /* one of ours */
#define WEBSOCKET_HEADER_MAX  32u            /* before a file's bytes */
#define WEBSOCKET_CLOSE_MS    3000u          /* for the closing handshake */
#define WEBSOCKET_BATCH_BYTES 65536u

/* RFC 6455 section 7.4.1, those that we send by ourselves. */
enum websocket_code {
	WEBSOCKET_NORMAL = 1000,
	WEBSOCKET_GOING_AWAY = 1001,
	WEBSOCKET_UNSUPPORTED = 1003,
	WEBSOCKET_POLICY = 1008,
	WEBSOCKET_FAULT = 1011,
};

struct websocket;
TAILQ_HEAD(websocket_list, websocket);

/* What the WebSockets of a process share. */
struct websocket_host {
	uint64_t ping_ms;    /* of silence, then a ping */
	uint64_t timeout_ms; /* then without a sign of life: gone */
	uint64_t now_ms;     /* as of the last tick */
	uint64_t sent_bytes; /* payload of binary and text messages */
	uint32_t count;
	struct websocket_list all;
	char batch[WEBSOCKET_BATCH_BYTES]; /* frames on their way out */
};

/* Called from the event loop, never from inside a call of the owner. */
struct websocket_ops {
	/* A whole message, valid UTF-8 if it is a text; valid until it
	 * returns.  Not called any more once closing has begun. */
	void (*message)(void *owner, bool text, const void *bytes,
			size_t count);
	/* websocket_can_send() may have become true. */
	void (*writable)(void *owner);
	/* It is over, and its struct is gone when this returns. */
	void (*closed)(void *owner);
};

/* --- the handshake ------------------------------------------------------- */

/* Does the request want to become a WebSocket? */
bool websocket_wanted(const struct head *head);

struct websocket_refusal {
	int status;
	const char *detail;
	const char *fields; /* further lines, or NULL */
};

/* RFC 6455 section 4.2.1, RFC 8441 section 5; protocol: the one that is
 * spoken here.  False: *why. */
bool websocket_check(const struct head *head, const char *protocol,
		     struct websocket_refusal *why) MUSTCHECK;

/*
 * May pages of the request's Origin use this?  origins: words between spaces
 * or commas: "same" (as the request's host), "*", or an origin as it is sent.
 * A request without Origin is of no page, and may.
 */
bool websocket_origin_allowed(const struct head *head,
			      const char *origins) MUSTCHECK;

/*
 * Answers the handshake that was found good, with these further lines.
 * protocol is told if the client has offered it.  0: *out is there, until
 * closed(); -errno: the sink was not touched for good (-EINVAL, -ENOMEM:
 * answer otherwise) or is broken (-EPIPE: reset it).
 */
int websocket_open(struct websocket **out, struct websocket_host *host,
		   struct sink *sink, const struct head *head,
		   const char *protocol, struct slice fields,
		   const struct websocket_ops *ops, void *owner) MUSTCHECK;

/* --- messages ------------------------------------------------------------ */

/* Queues a text, and sends what can be.  Of a WebSocket that is closing it
 * does nothing. */
void websocket_text(struct websocket *ws, const char *text, size_t bytes);

/* Would a binary message be begun at once?  False: writable() comes, unless
 * it is closing. */
bool websocket_can_send(struct websocket *ws);

/*
 * A binary message: header, then `count` bytes of a file.  count: it was
 * taken, and what does not go now is sent later (the file is kept open for
 * it, under another descriptor); 0: not now, writable() comes.  -ENODATA: the
 * file is shorter; -EIO: it cannot be read; -EPIPE: the WebSocket is closing.
 * changes: others may write to the file; when they do before all of it has
 * gone, the WebSocket is broken off.  *whole: all of it has gone at once.
 */
int64_t websocket_file(struct websocket *ws, const void *header,
		       size_t header_bytes, int fd, uint64_t file_off,
		       uint64_t count, bool changes, bool *whole) MUSTCHECK;

/* The sink it is on, for its peer and its urgency. */
struct sink *websocket_sink(struct websocket *ws);

/* Begins to close it: code and reason (a short literal) are told after a
 * message that is being sent.  closed() comes later. */
void websocket_close(struct websocket *ws, enum websocket_code code,
		     const char *reason);

/* --- all of them --------------------------------------------------------- */

void websocket_host_init(struct websocket_host *host, uint64_t now_ms);

/* Pings and time-outs; call about every 100 ms. */
void websocket_tick(struct websocket_host *host, uint64_t now_ms);

/* Closes all with 1001. */
void websocket_drain(struct websocket_host *host);

#endif

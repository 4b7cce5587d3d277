/*
 * sink - where a response goes, whatever protocol carries it.
 *
 * Used by: worker.  The maker of responses (a source) speaks to this table
 * only; an HTTP/1.1 connection, an HTTP/2 stream or a WebSocket implement it.
 * Nothing blocks.  A sink takes calls in this order:
 *
 *   head -> (fields by the caller) -> head_end -> { bytes | file }* -> end
 *
 * and reset at any point instead of what is left.  After end or reset the
 * sink belongs to its protocol again and takes no more calls.
 *
 * Push-back: file() takes less than it was offered.  When it takes 0, or when
 * ready() says no, the source waits; the sink calls source_ops->writable()
 * once it can take more.
 * gone() tells that the peer has left; the source must not touch the sink
 * after that.  (A call that returned -EPIPE is not that: reset() follows it.)
 * writable() may come without need.  Either is called from the event loop,
 * never from inside a call of the source to the sink.
 */
#ifndef REELCACHE_HTTP_SINK_H
#define REELCACHE_HTTP_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/fields.h"
#include "util/base.h"
#include "util/span.h"

#define SINK_PEER_BYTES 16u /* IPv6 address; IPv4 as ::ffff:a.b.c.d */

enum sink_body {
	SINK_BODY,           /* body_bytes of body follow */
	SINK_BODY_HEAD_ONLY, /* answer to HEAD: told, not sent */
	SINK_BODY_NONE,      /* 204, 304: neither told nor sent */
	SINK_DUPLEX,         /* of head(101): bytes both ways until end();
			      * a WebSocket (RFC 6455, RFC 8441) */
};

/* Where responses share a connection, the more urgent goes first. */
enum sink_urgency {
	SINK_URGENT, /* a room's control messages */
	SINK_CONTROL,
	SINK_MEDIA,
	SINK_AHEAD, /* not needed yet */
};

struct sink;

struct sink_ops {
	/* Begins a head.  The caller adds its lines to what is returned
	 * (valid until head_end, shared: nothing else may run in between);
	 * fields of framing are the sink's. */
	struct fields *(*head)(struct sink *sink, int status);

	/* Sends the head.  body_bytes may be SIZE_UNKNOWN: end() tells the
	 * end then.  -EINVAL, -ENOSPC: the fields were refused and nothing
	 * was sent: the caller may begin another head.  -EPIPE: peer gone. */
	int (*head_end)(struct sink *sink, enum sink_body body,
			uint64_t body_bytes);

	/* Body bytes from memory, at most SINK_BYTES_MAX: all are taken
	 * (copied when they cannot be sent now).  0 or -EPIPE. */
	int (*bytes)(struct sink *sink, const void *bytes, size_t count);

	/* Body bytes from a file: how many were taken, 0 = push-back.
	 * -EPIPE: peer gone.  -ENODATA: the file is shorter; -EIO: it cannot
	 * be read. */
	int64_t (*file)(struct sink *sink, int fd, uint64_t file_off,
			uint64_t bytes);

	/* Is all that bytes() was given on its way?  False: writable() will
	 * be called, and whoever makes bytes without end waits for it. */
	bool (*ready)(struct sink *sink);

	/* How many of the bytes that were taken the client's machine has not
	 * acknowledged, or more; of a duplex alone. */
	uint64_t (*unread)(const struct sink *sink);

	void (*end)(struct sink *sink);

	/* Break off so that the client cannot take it for the end. */
	void (*reset)(struct sink *sink);

	/* SINK_PEER_BYTES of address. */
	const uint8_t *(*peer)(const struct sink *sink);

	/* Before head(), of a duplex at any time; SINK_MEDIA is what it is
	 * without. */
	void (*hurry)(struct sink *sink, enum sink_urgency urgency);
};

#define SINK_BYTES_MAX (256u * 1024u)

struct sink_source_ops {
	void (*writable)(void *source);
	void (*gone)(void *source);
	/* Of a duplex only, else NULL: bytes of the client, valid until it
	 * returns; 0: none will follow.  Not called while the client takes
	 * nothing of what bytes() was given. */
	void (*input)(void *source, const void *bytes, size_t count);
};

struct sink {
	const struct sink_ops *ops;
	const struct sink_source_ops *source_ops; /* set by the source before */
	void *source;                             /* it returns unfinished */
	bool changes; /* file() is given one that others may write to: it
		       * copies; the source's */
	bool more; /* of bytes(): file() follows at once; the source's */
};

#endif

/*
 * transfer - ranged GETs from origins: libcurl's multi interface on libevent.
 *
 * Used by: prefetcher only; open it after fork, one per process.  libcurl is
 * seen by src/upstream/ alone.
 * Blocking: never; names are resolved in threads of libcurl.
 * Errors: 0 or -errno from calls, enum transfer_end from transfers.
 *
 * Life of a transfer:
 *
 *   transfer_begin -> head -> body, turn, body, ... -> end     (freed by us)
 *                         \ transfer_abort, at any time        (freed by us)
 *
 *   - No callback runs inside of transfer_begin(), _pause(), _resume() or
 *     _abort(): all come later, from the event loop.
 *   - head comes at most once, for the final response: 1xx and redirects that
 *     are followed are not seen.  body may never come.  turn comes once after
 *     the body calls of a loop turn: publish there what was staged.
 *   - end comes exactly once, last, unless transfer_abort() came before it;
 *     when it has returned the pointer is dead.  There is no end before the
 *     last byte was taken: what is paused is not DONE.
 *   - Inside of every callback all functions here may be called, on this and
 *     on other transfers, but for upstream_close().
 *
 * The request is always a GET with Range (`bytes=0-` for the whole object) and
 * Accept-Encoding: identity; never a HEAD, Expect, proxy or .netrc.
 * Redirects are followed, to http and https only; a name and password in the
 * URL, and Authorization and Cookie of the fields, go to its own host only.
 */
#ifndef REELCACHE_UPSTREAM_TRANSFER_H
#define REELCACHE_UPSTREAM_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"
#include "util/span.h"

struct event_base;
struct upstream; /* opaque: connections to all origins */
struct transfer; /* opaque: one request and its response */

#define TRANSFER_URL_BYTES 8192u /* longest URL, NUL included */

/* Strings are copied; NULL or "" = the default.  Changed options: a new
 * struct upstream. */
struct upstream_opts {
	uint32_t connect_timeout_ms;    /* name, TCP and TLS together */
	uint32_t first_byte_timeout_ms; /* request sent until head complete */
	uint32_t stall_timeout_ms;      /* body silent while not paused; fires
					 * up to a quarter late */
	uint32_t connections;           /* to one host and port, at most */
	uint32_t redirects;             /* 0 = a redirect is a final response */
	const char *user_agent;         /* default: no User-Agent field */
	const char *ca_file;            /* default: the system's */
};

/* 0, -ENOMEM, -EINVAL (an option libcurl does not take) or -ENOTSUP (libcurl
 * is too old).  The base must outlive it. */
int upstream_open(struct upstream **out, struct event_base *base,
		  const struct upstream_opts *opts) MUSTCHECK;

/* Transfers that still run are aborted: no callback comes.  NULL is fine. */
void upstream_close(struct upstream *up);

/* Strings are copied; NULL or "" = field not sent. */
struct transfer_want {
	const char *url;      /* http or https */
	uint64_t from;        /* first byte */
	uint64_t to;          /* one past the last; SIZE_UNKNOWN = open end */
	uint64_t suffix;      /* > 0: the last so many bytes; from, to unused */
	const char *if_range; /* strong ETag or Last-Modified, as it was sent */
	const char *if_none_match;
	const char *if_modified_since;
	const char *fields; /* upstream/request_fields.h; a User-Agent in it
			     * replaces that of the options */
	bool allow_private; /* addresses that address_is_public() refuses */
};

enum {
	TRANSFER_ETAG_BYTES = 512,
	TRANSFER_DATE_BYTES = 64,
	TRANSFER_LINE_BYTES = 512,
};

/*
 * Checked before it is told: status 200 to 599; texts without control
 * characters, "" = not given (several lines of a list joined by ", ").
 *
 * 206: span is Content-Range, begins where it was asked to (suffix: where
 * that is, when the size is told); it may end before or behind want.to.
 * 304, 204: span is empty.  416: size is Content-Range's, span the error
 * text's.  Any other: span is 0 to Content-Length, and size is its end if the
 * status is 200.
 */
struct transfer_head {
	int status;
	bool ranged;      /* a single-part 206 */
	bool end_is_sure; /* false: only the closed connection ends the body,
			   * so DONE may hide a cut */
	struct span span; /* of the body; to = SIZE_UNKNOWN: until it ends */
	uint64_t size;    /* of the object, or SIZE_UNKNOWN */
	char etag[TRANSFER_ETAG_BYTES];
	char last_modified[TRANSFER_DATE_BYTES];
	char date[TRANSFER_DATE_BYTES];
	char age[TRANSFER_DATE_BYTES];
	char cache_control[TRANSFER_LINE_BYTES];
	char expires[TRANSFER_DATE_BYTES];
	char content_type[TRANSFER_LINE_BYTES];
	char content_disposition[TRANSFER_LINE_BYTES];
	char content_language[TRANSFER_LINE_BYTES];
	char content_encoding[TRANSFER_DATE_BYTES];
	char retry_after[TRANSFER_DATE_BYTES];
};

enum transfer_next {
	TRANSFER_GO,
	TRANSFER_PAUSE, /* until transfer_resume(); from body: these bytes were
			 * NOT taken and are given again, perhaps cut anew */
	TRANSFER_STOP,  /* enough: end comes with TRANSFER_STOPPED */
};

enum transfer_end {
	TRANSFER_DONE = 1,    /* all that the head promised was taken */
	TRANSFER_CUT,         /* connection broke, or body shorter than told */
	TRANSFER_UNREACHABLE, /* name, connect or TLS failed */
	TRANSFER_TIMEOUT,     /* connect, first byte or stall */
	TRANSFER_REFUSED,     /* every address is private */
	TRANSFER_BROKEN,      /* the response makes no sense */
	TRANSFER_STOPPED,     /* a callback said TRANSFER_STOP */
	TRANSFER_FAULT,       /* our own: out of memory or descriptors */
};

/* All four must be set.  Arguments are valid during the call only. */
struct transfer_ops {
	enum transfer_next (*head)(void *ctx, const struct transfer_head *head);
	/* n > 0; the next bytes of head.span, in order */
	enum transfer_next (*body)(void *ctx, const uint8_t *bytes, size_t n);
	void (*turn)(void *ctx);
	/* reason: a short text without the URL's path or query; for
	 * TRANSFER_DONE "" */
	void (*end)(void *ctx, enum transfer_end how, const char *reason);
};

/* ops and ctx stay the caller's and outlive the transfer.  0, -EINVAL (URL
 * is no http(s) URL or too long, empty span, control characters) or -ENOMEM. */
int transfer_begin(struct transfer **out, struct upstream *up,
		   const struct transfer_want *want,
		   const struct transfer_ops *ops, void *ctx) MUSTCHECK;

/* No body from now until resumed; the connection is no longer read (up to
 * 256 KiB, over HTTP/2 up to the stream's window, wait in memory).  No timer
 * runs for a body that is paused.  Calls do not add up. */
void transfer_pause(struct transfer *t);
void transfer_resume(struct transfer *t);

/* No callback comes any more, not even end.  The pointer is dead.  A rest of
 * up to 16 KiB is read and dropped to keep the connection. */
void transfer_abort(struct transfer *t);

/* "done", "cut", ...: a word for logs and counters. */
const char *transfer_end_name(enum transfer_end how);

#endif

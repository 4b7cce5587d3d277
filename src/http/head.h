/*
 * head - a strict parser of HTTP/1.1 request heads (RFC 9112, RFC 9110).
 *
 * Used by: worker.  Pure, no allocation.  Incremental: give it all bytes
 * that have arrived so far, it goes on at the line where it stopped; the
 * bytes may have been moved between two calls.
 *
 * Stricter than the RFC where leniency is what request smuggling lives on:
 *   - lines end with CRLF; a bare CR or LF, NUL, other control characters,
 *     obs-fold and whitespace before a colon are errors (400);
 *   - one space between the parts of the request line;
 *   - Transfer-Encoding is refused (501): request bodies are never wanted;
 *   - Content-Length: one field, at most 15 digits;
 *   - Host: exactly one (HTTP/1.0: at most one), of valid characters;
 *   - fields that are no lists may come once: a second Range, If-Range,
 *     If-Modified-Since, If-Unmodified-Since, Origin, Upgrade and so on is
 *     400, since readers would disagree about which one counts.  Of
 *     User-Agent and Referer, which only go to the log, the first counts;
 *   - a host is letters, digits, "-", ".", "_", "~", or an IPv6 address in
 *     brackets, and then perhaps a port;
 *   - one empty line before the request line is passed over.
 * After HEAD_BAD answer with status and reason, then close the connection:
 * where the next request would begin is not known.
 */
#ifndef REELCACHE_HTTP_HEAD_H
#define REELCACHE_HTTP_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "http/slice.h"
#include "util/base.h"

#define HEAD_BYTES_MAX  16384u /* 431 above */
#define HEAD_LINE_MAX   8192u  /* request line; 414 above */
#define HEAD_FIELDS_MAX 64u    /* field lines; 431 above */

enum head_method {
	METHOD_GET,
	METHOD_HEAD,
	METHOD_OPTIONS,
	METHOD_POST,
	METHOD_PUT,
	METHOD_DELETE,
	METHOD_OTHER, /* PATCH, TRACE; any other method is HEAD_BAD with 501 */
};

/* Fields that are looked at; of all others only the syntax is checked. */
enum head_field {
	FIELD_NONE,
	FIELD_HOST,
	FIELD_CONNECTION, /* list */
	FIELD_CONTENT_LENGTH,
	FIELD_TRANSFER_ENCODING, /* never in a head that is HEAD_DONE */
	FIELD_RANGE,
	FIELD_IF_RANGE,
	FIELD_IF_MATCH,      /* list */
	FIELD_IF_NONE_MATCH, /* list */
	FIELD_IF_MODIFIED_SINCE,
	FIELD_IF_UNMODIFIED_SINCE,
	FIELD_ORIGIN,
	FIELD_USER_AGENT,
	FIELD_REFERER,
	FIELD_EXPECT,          /* list */
	FIELD_UPGRADE,         /* list */
	FIELD_FORWARDED,       /* list */
	FIELD_X_FORWARDED_FOR, /* list */
	FIELD_ACCESS_CONTROL_REQUEST_METHOD,
	FIELD_ACCESS_CONTROL_REQUEST_HEADERS, /* list */
	FIELD_SEC_WEBSOCKET_KEY,
	FIELD_SEC_WEBSOCKET_VERSION,
	FIELD_SEC_WEBSOCKET_PROTOCOL,   /* list */
	FIELD_SEC_WEBSOCKET_EXTENSIONS, /* list */
	FIELD_HTTP2_SETTINGS,
	FIELD_SEC_PURPOSE, /* list */
	FIELD_COUNT
};

enum head_outcome {
	HEAD_MORE, /* not all there; call again with more bytes */
	HEAD_DONE, /* h->head_bytes of the input are the head */
	HEAD_BAD,  /* answer h->status, h->reason; then close */
};

/* Offsets from the first byte given: they survive a move of the buffer. */
struct head_text {
	uint16_t off;
	uint16_t bytes;
};

struct head_line {
	struct head_text value;
	uint8_t field; /* enum head_field, never FIELD_NONE */
	uint8_t next;  /* 1 + index of the next line of this field; 0 = last */
};

/* On the caller's stack or in its connection; read the upper part, and the
 * lower part through the functions below. */
struct head {
	enum head_method method;
	uint8_t minor;   /* HTTP/1.minor: 0 or 1 */
	bool http2;      /* it came by HTTP/2; set by who made the text of it */
	bool keep_alive; /* the client wants it, by version and field */
	bool has_content_length;
	bool expect_continue;    /* Expect: 100-continue, HTTP/1.1 only */
	uint64_t content_length; /* of the body that follows; 0 = none */
	uint32_t head_bytes;     /* HEAD_DONE: taken from the input */
	int status;              /* HEAD_BAD: for the answer */
	const char *reason;      /* HEAD_BAD: a short string literal */

	const char *base; /* input of the last call; the texts lie there */
	struct head_text target; /* as sent */
	struct head_text path;   /* raw, from the first '/'; or "*" */
	struct head_text query;  /* raw, without the '?' */
	struct head_text host;   /* of the target if it has one, else of Host */
	bool has_query;
	uint8_t stage;       /* what the next line is */
	uint8_t field_count; /* all field lines */
	uint8_t line_count;  /* of lines[] */
	uint16_t line_off;   /* first byte of the line to be parsed next */
	uint16_t scanned;    /* no LF between line_off and here; or 0 */
	uint8_t first[FIELD_COUNT]; /* 1 + index into lines[]; 0 = absent */
	uint8_t last[FIELD_COUNT];
	struct head_line lines[HEAD_FIELDS_MAX];
};

/* Before the first byte of each request. */
void head_init(struct head *h);

/*
 * bytes: everything from the request's first byte on, `count` of it; more
 * than the head is fine (pipelining, a body).  After HEAD_DONE or HEAD_BAD
 * call head_init() before the next request.  Slices point into `bytes`; if
 * the caller moves them afterwards, it sets h->base to the new place.
 */
enum head_outcome head_parse(struct head *h, const char *bytes,
			     size_t count) MUSTCHECK;

/* Has anything but an empty line been seen of this request?  (Else a client
 * that falls silent is idle, not slow.) */
bool head_begun(const struct head *h, size_t count);

static inline struct slice head_slice(const struct head *h, struct head_text t)
{
	return slice_make(h->base + t.off, t.bytes);
}

/* The field's first line, trimmed; absent when there is none. */
static inline struct slice head_field(const struct head *h, enum head_field f)
{
	if (h->first[f] == 0)
		return SLICE_ABSENT;
	return head_slice(h, h->lines[h->first[f] - 1].value);
}

/*
 * All lines of a field, in order: *cursor begins as 0; false at the end.
 *
 *	for (unsigned at = 0; head_next_line(h, FIELD_IF_MATCH, &at, &line);)
 */
bool head_next_line(const struct head *h, enum head_field f, unsigned *cursor,
		    struct slice *line);

/* Does a list field have this token (without case), in any of its lines? */
bool head_list_has(const struct head *h, enum head_field f, const char *token);

/* Raw path, "/" when an absolute target had none; "*" for OPTIONS. */
static inline struct slice head_path(const struct head *h)
{
	if (h->path.bytes == 0)
		return SLICE("/");
	return head_slice(h, h->path);
}

/* Raw query without '?'; absent when there is no '?'. */
static inline struct slice head_query(const struct head *h)
{
	return h->has_query ? head_slice(h, h->query) : SLICE_ABSENT;
}

/* The whole target as sent, for the access log. */
static inline struct slice head_target(const struct head *h)
{
	return head_slice(h, h->target);
}

/* host[:port]; empty when an HTTP/1.0 request names none. */
static inline struct slice head_host(const struct head *h)
{
	return head_slice(h, h->host);
}

/* "GET" and so on; "-" for METHOD_OTHER.  For the access log. */
const char *head_method_name(enum head_method m);

#endif

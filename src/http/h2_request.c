#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/h2_inner.h"

#define BOMB_BYTES  (4u * HEAD_BYTES_MAX)
#define SMALL_BYTES 1024u
#define FIXED_BYTES 128u /* what the text has beside the fields' */

enum pseudo {
	PSEUDO_METHOD,
	PSEUDO_PATH,
	PSEUDO_AUTHORITY,
	PSEUDO_PROTOCOL, /* RFC 8441 */
	PSEUDO_COUNT
};

struct part {
	uint32_t off;
	uint32_t bytes;
};

/* Pseudo fields come first (RFC 9113 section 8.3), so that the lines of the
 * others are one piece of bytes[]. */
struct h2_request {
	char *bytes;
	uint32_t used;
	uint32_t max;
	uint32_t lines_off;
	struct part pseudo[PSEUDO_COUNT];
	bool has[PSEUDO_COUNT];
	bool has_lines;
	bool has_priority;
	bool has_host;
	bool too_large;
};

struct h2_request *h2_request_new(void)
{
	return calloc(1, sizeof(struct h2_request));
}

void h2_request_free(struct h2_request *r)
{
	if (r == NULL)
		return;
	free(r->bytes);
	free(r);
}

bool h2_request_has_priority(const struct h2_request *r)
{
	return r->has_priority;
}

static bool reserve(struct h2_request *r, size_t more)
{
	size_t want = r->used + more;
	char *bytes;

	if (want <= r->max)
		return true;
	want = max_u64(want, r->max > 0 ? 2u * (size_t)r->max : SMALL_BYTES);
	bytes = realloc(r->bytes, want);
	if (bytes == NULL)
		return false;
	r->bytes = bytes;
	r->max = (uint32_t)want;
	return true;
}

static void append(struct h2_request *r, struct slice s)
{
	if (s.bytes > 0)
		memcpy(r->bytes + r->used, s.at, s.bytes);
	r->used += (uint32_t)s.bytes;
}

/* PSEUDO_COUNT: none that is of use. */
static enum pseudo pseudo_of(struct slice name)
{
	static const char *const names[] = {
		[PSEUDO_METHOD] = ":method",
		[PSEUDO_PATH] = ":path",
		[PSEUDO_AUTHORITY] = ":authority",
		[PSEUDO_PROTOCOL] = ":protocol",
	};
	unsigned n;

	for (n = 0; n < PSEUDO_COUNT; n++)
		if (slice_is(name, names[n]))
			break;
	return (enum pseudo)n;
}

bool h2_request_add(struct h2_request *r, struct slice name, struct slice value)
{
	enum pseudo pseudo;

	/* the client is told 431, unless it goes much too far */
	if (r->used + name.bytes + value.bytes + 4 > BOMB_BYTES)
		return false;
	if (r->used + name.bytes + value.bytes + 4 > HEAD_BYTES_MAX)
		r->too_large = true;
	if (!reserve(r, name.bytes + value.bytes + 4))
		return false;
	if (name.bytes > 0 && name.at[0] == ':') {
		pseudo = pseudo_of(name);
		if (pseudo == PSEUDO_COUNT)
			return true;
		r->has[pseudo] = true;
		r->pseudo[pseudo].off = r->used;
		r->pseudo[pseudo].bytes = (uint32_t)value.bytes;
		append(r, value);
		return true;
	}
	if (!r->has_lines)
		r->lines_off = r->used;
	r->has_lines = true;
	if (slice_is(name, "priority"))
		r->has_priority = true;
	/* :authority counts (RFC 9113 section 8.3.1), or it is checked there */
	if (slice_is(name, "host") && r->has[PSEUDO_AUTHORITY])
		return true;
	append(r, name);
	append(r, SLICE(": "));
	append(r, value);
	append(r, SLICE("\r\n"));
	return true;
}

static struct slice get(const struct h2_request *r, enum pseudo pseudo)
{
	if (!r->has[pseudo])
		return SLICE_ABSENT;
	return slice_make(r->bytes + r->pseudo[pseudo].off,
			  r->pseudo[pseudo].bytes);
}

static char *put(char *at, struct slice s)
{
	if (s.bytes > 0)
		memcpy(at, s.at, s.bytes);
	return at + s.bytes;
}

/* nghttp2 has seen to it that no value holds a CR, LF or NUL. */
static size_t compose(const struct h2_request *r, char *text)
{
	struct slice method = get(r, PSEUDO_METHOD);
	struct slice target = get(r, PSEUDO_PATH);
	bool connects = slice_is(method, "CONNECT");
	bool websocket = connects && r->has[PSEUDO_PROTOCOL];
	char *at = text;

	if (!r->has[PSEUDO_PATH])
		target = get(r, PSEUDO_AUTHORITY);
	at = put(at, websocket ? SLICE("GET") : method);
	at = put(at, SLICE(" "));
	at = put(at, target);
	at = put(at, SLICE(" HTTP/1.1\r\n"));
	if (r->has[PSEUDO_AUTHORITY]) {
		at = put(at, SLICE("Host: "));
		at = put(at, get(r, PSEUDO_AUTHORITY));
		at = put(at, SLICE("\r\n"));
	}
	if (websocket) {
		at = put(at, SLICE("Connection: Upgrade\r\nUpgrade: "));
		at = put(at, get(r, PSEUDO_PROTOCOL));
		at = put(at, SLICE("\r\n"));
	}
	if (r->has_lines)
		at = put(at, slice_make(r->bytes + r->lines_off,
					r->used - r->lines_off));
	at = put(at, SLICE("\r\n"));
	return (size_t)(at - text);
}

int h2_request_parse(const struct h2_request *r, struct head *h, char **text,
		     enum head_outcome *outcome)
{
	char *bytes = malloc(r->used + FIXED_BYTES);
	size_t count;

	if (bytes == NULL)
		return -ENOMEM;
	count = compose(r, bytes);
	must(count <= r->used + FIXED_BYTES);
	head_init(h);
	h->http2 = true;
	*outcome = head_parse(h, bytes, count);
	/* a space in the path may have ended the request line early: then
	 * that is what is refused */
	if (*outcome == HEAD_MORE || r->too_large) {
		h->base = bytes;
		h->status = r->too_large ? 431 : 400;
		h->reason = r->too_large ? "the request's fields are too large"
					 : "this is no request";
		*outcome = HEAD_BAD;
	}
	*text = bytes;
	return 0;
}

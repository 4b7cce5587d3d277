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
	uint32_t came; /* bytes of all fields, also of those left out */
	uint32_t lines_off;
	struct part priority;
	struct part pseudo[PSEUDO_COUNT];
	bool has[PSEUDO_COUNT];
	bool has_lines;
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
	if (r->came + name.bytes + value.bytes + 4 > BOMB_BYTES)
		return false;
	r->came += (uint32_t)(name.bytes + value.bytes + 4);
	if (r->came > HEAD_BYTES_MAX)
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
	/* a browser sends each on its own (RFC 9113 section 8.2.3), more than
	 * a head may have lines; nobody here wants them */
	if (slice_is(name, "cookie"))
		return true;
	if (slice_is(name, "priority")) {
		r->priority.off = (uint32_t)(r->used + name.bytes + 2);
		r->priority.bytes = (uint32_t)value.bytes;
	}
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

struct slice h2_request_priority(const struct h2_request *r)
{
	if (r->priority.off == 0)
		return SLICE_ABSENT;
	return slice_make(r->bytes + r->priority.off, r->priority.bytes);
}

bool h2_request_is_tunnel(const struct h2_request *r)
{
	return r->has[PSEUDO_PROTOCOL] &&
	       slice_is(get(r, PSEUDO_METHOD), "CONNECT");
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
	bool websocket = h2_request_is_tunnel(r);
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

static void refuse(struct head *h, const char *base, int status,
		   const char *reason)
{
	h->base = base;
	h->status = status;
	h->reason = reason;
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
	*text = bytes;
	*outcome = head_parse(h, bytes, count);
	/* a space in the path may have ended the request line early: then
	 * that is what is refused */
	if (r->too_large)
		refuse(h, bytes, 431, "the request's fields are too large");
	else if (*outcome == HEAD_MORE)
		refuse(h, bytes, 400, "this is no request");
	else if (r->has[PSEUDO_PROTOCOL] && !h2_request_is_tunnel(r))
		refuse(h, bytes, 400, "only CONNECT has a protocol");
	else if (h2_request_is_tunnel(r) &&
		 !slice_is(get(r, PSEUDO_PROTOCOL), "websocket"))
		refuse(h, bytes, 501, "this protocol is not spoken here");
	else
		return 0;
	*outcome = HEAD_BAD;
	return 0;
}

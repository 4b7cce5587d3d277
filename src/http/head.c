#include "http/head.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * Each line is parsed as far as its bytes are there; when they end within it,
 * nothing of it is kept, and it is parsed again when an LF has come.  So no
 * byte is looked at more than three times, however small the pieces are.
 * MORE is only said of bytes that a right line can begin with: an LF is
 * always either the end of a line or an error, never passed over.
 *
 *   START --CRLF--> REQUEST --request line--> FIELDS --empty line--> DONE
 *     '------------request line------------------^
 *   any -- wrong byte, limit --> BAD
 */
enum stage { STAGE_START, STAGE_REQUEST, STAGE_FIELDS, STAGE_DONE, STAGE_BAD };

enum line { LINE_OK, LINE_MORE, LINE_END, LINE_BAD };

#define CH_TOKEN 1u /* RFC 9110 section 5.6.2 */
#define CH_PATH  2u /* in a target, but '?' */
#define CH_HOST  4u /* in a name or an IPv4 address */
#define CH_IPV6  8u

#define C_ALNUM (CH_TOKEN | CH_PATH | CH_HOST)
#define C_HEX   (C_ALNUM | CH_IPV6)
#define C_BOTH  (CH_TOKEN | CH_PATH)

/*
 * A target may have what browsers leave unencoded in it (RFC 3986 has less),
 * but never blanks, controls, '"', '#', '<', '>' or bytes above 0x7e.
 */
static const uint8_t chars[256] = {
	['0' ... '9'] = C_HEX,
	['A' ... 'F'] = C_HEX,
	['G' ... 'Z'] = C_ALNUM,
	['a' ... 'f'] = C_HEX,
	['g' ... 'z'] = C_ALNUM,
	['-'] = C_ALNUM,
	['.'] = C_HEX,
	['_'] = C_ALNUM,
	['~'] = C_ALNUM,
	['!'] = C_BOTH,
	['$'] = C_BOTH,
	['%'] = C_BOTH,
	['&'] = C_BOTH,
	['\''] = C_BOTH,
	['*'] = C_BOTH,
	['+'] = C_BOTH,
	['^'] = C_BOTH,
	['`'] = C_BOTH,
	['|'] = C_BOTH,
	['#'] = CH_TOKEN,
	['('] = CH_PATH,
	[')'] = CH_PATH,
	[','] = CH_PATH,
	['/'] = CH_PATH,
	[':'] = CH_PATH | CH_IPV6,
	[';'] = CH_PATH,
	['='] = CH_PATH,
	['@'] = CH_PATH,
	['['] = CH_PATH,
	['\\'] = CH_PATH,
	[']'] = CH_PATH,
	['{'] = CH_PATH,
	['}'] = CH_PATH,
};

static bool is(char c, unsigned class)
{
	return (chars[(unsigned char)c] & class) != 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_control(char c)
{
	return (unsigned char)c < 0x20 || c == 0x7f;
}

/*
 * Three ways to run over bytes that need no thought.  Where the processor can
 * look at 16 at once, it does as long as there are so many; the loop after it
 * is what counts and alone does the same.
 */
#ifdef __SSE2__
static __m128i load(const char *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static __m128i equal(__m128i v, char c)
{
	return _mm_cmpeq_epi8(v, _mm_set1_epi8(c));
}

/* low <= byte <= high, for bytes without sign */
static __m128i between(__m128i v, char low, char high)
{
	__m128i d = _mm_sub_epi8(v, _mm_set1_epi8(low));

	return _mm_cmpeq_epi8(_mm_min_epu8(d, _mm_set1_epi8(high - low)), d);
}
#endif

/* The first byte that is no token character (most are letters and '-'). */
static const char *skip_token(const char *p, const char *end)
{
#ifdef __SSE2__
	while (end - p >= 16) {
		__m128i v = load(p);
		__m128i small = _mm_or_si128(v, _mm_set1_epi8(0x20));
		__m128i plain =
			_mm_or_si128(between(small, 'a', 'z'), equal(v, '-'));
		unsigned other = (unsigned)_mm_movemask_epi8(plain) ^ 0xffff;

		if (other != 0) {
			p += __builtin_ctz(other);
			if (*p == ':')
				return p;
			break;
		}
		p += 16;
	}
#endif
	while (p < end && is(*p, CH_TOKEN))
		p++;
	return p;
}

/* The first byte that is not CH_PATH. */
static const char *skip_path(const char *p, const char *end)
{
#ifdef __SSE2__
	while (end - p >= 16) {
		__m128i v = load(p);
		__m128i bad_or_query = _mm_or_si128(
			_mm_or_si128(equal(v, '"'), equal(v, '#')),
			_mm_or_si128(_mm_or_si128(equal(v, '<'), equal(v, '>')),
				     equal(v, '?')));
		unsigned stop =
			(unsigned)_mm_movemask_epi8(bad_or_query) |
			((unsigned)_mm_movemask_epi8(between(v, 0x21, 0x7e)) ^
			 0xffff);

		if (stop != 0)
			return p + __builtin_ctz(stop);
		p += 16;
	}
#endif
	while (p < end && is(*p, CH_PATH))
		p++;
	return p;
}

/* The first control character but tab. */
static const char *skip_value(const char *p, const char *end)
{
#ifdef __SSE2__
	while (end - p >= 16) {
		__m128i v = load(p);
		__m128i control =
			_mm_or_si128(between(v, 0, 0x1f), equal(v, 0x7f));
		unsigned stop = (unsigned)_mm_movemask_epi8(
			_mm_andnot_si128(equal(v, '\t'), control));

		if (stop != 0)
			return p + __builtin_ctz(stop);
		p += 16;
	}
#endif
	while (p < end && (!is_control(*p) || *p == '\t'))
		p++;
	return p;
}

/* What a second line of the same field means. */
enum repeat { REPEAT_LIST, REPEAT_BAD, REPEAT_IGNORE };

static const struct known {
	char name[32]; /* lower case */
	uint8_t field;
	uint8_t repeat;
} known[] = {
	/* by length, which known_from[] depends on */
	{ "host", FIELD_HOST, REPEAT_BAD },
	{ "range", FIELD_RANGE, REPEAT_BAD },
	{ "origin", FIELD_ORIGIN, REPEAT_BAD },
	{ "expect", FIELD_EXPECT, REPEAT_LIST },
	{ "referer", FIELD_REFERER, REPEAT_IGNORE },
	{ "upgrade", FIELD_UPGRADE, REPEAT_LIST },
	{ "if-range", FIELD_IF_RANGE, REPEAT_BAD },
	{ "if-match", FIELD_IF_MATCH, REPEAT_LIST },
	{ "forwarded", FIELD_FORWARDED, REPEAT_LIST },
	{ "connection", FIELD_CONNECTION, REPEAT_LIST },
	{ "user-agent", FIELD_USER_AGENT, REPEAT_IGNORE },
	{ "sec-purpose", FIELD_SEC_PURPOSE, REPEAT_LIST },
	{ "if-none-match", FIELD_IF_NONE_MATCH, REPEAT_LIST },
	{ "content-length", FIELD_CONTENT_LENGTH, REPEAT_BAD },
	{ "http2-settings", FIELD_HTTP2_SETTINGS, REPEAT_BAD },
	{ "x-forwarded-for", FIELD_X_FORWARDED_FOR, REPEAT_LIST },
	{ "transfer-encoding", FIELD_TRANSFER_ENCODING, REPEAT_BAD },
	{ "if-modified-since", FIELD_IF_MODIFIED_SINCE, REPEAT_BAD },
	{ "sec-websocket-key", FIELD_SEC_WEBSOCKET_KEY, REPEAT_BAD },
	{ "if-unmodified-since", FIELD_IF_UNMODIFIED_SINCE, REPEAT_BAD },
	{ "sec-websocket-version", FIELD_SEC_WEBSOCKET_VERSION, REPEAT_BAD },
	{ "sec-websocket-protocol", FIELD_SEC_WEBSOCKET_PROTOCOL, REPEAT_LIST },
	{ "sec-websocket-extensions", FIELD_SEC_WEBSOCKET_EXTENSIONS,
	  REPEAT_LIST },
	{ "access-control-request-method", FIELD_ACCESS_CONTROL_REQUEST_METHOD,
	  REPEAT_BAD },
	{ "access-control-request-headers",
	  FIELD_ACCESS_CONTROL_REQUEST_HEADERS, REPEAT_LIST },
};

#define KNOWN_BYTES_MAX 30u

/* known[known_from[n] .. known_from[n + 1]) are the names of n bytes. */
static const uint8_t known_from[KNOWN_BYTES_MAX + 2] = {
	[0 ... 4] = 0,    [5] = 1,          [6] = 2,          [7] = 4,
	[8] = 6,          [9] = 8,          [10] = 9,         [11] = 11,
	[12 ... 13] = 12, [14] = 13,        [15] = 15,        [16 ... 17] = 16,
	[18 ... 19] = 19, [20 ... 21] = 20, [22] = 21,        [23 ... 24] = 22,
	[25 ... 29] = 23, [30] = 24,        [31] = 25,
};
_Static_assert(ARRAY_LEN(known) == 25, "known_from[] has been counted by hand");

static enum line bad(struct head *h, int status, const char *reason)
{
	h->stage = STAGE_BAD;
	h->status = status;
	h->reason = reason;
	return LINE_BAD;
}

static bool same_eight(const char *name, const char *lower)
{
	uint64_t a;
	uint64_t b;

	memcpy(&a, name, 8);
	memcpy(&b, lower, 8);
	return (a | UINT64_C(0x2020202020202020)) == b;
}

static bool same_four(const char *name, const char *lower)
{
	uint32_t a;
	uint32_t b;

	memcpy(&a, name, 4);
	memcpy(&b, lower, 4);
	return (a | 0x20202020u) == b;
}

/* Setting bit 5 makes letters small and maps no other token character onto a
 * letter, '-' or a digit.  The last step may go over bytes a second time; no
 * known name is shorter than four. */
static bool same_name(const char *name, const char *lower, size_t bytes)
{
	if (bytes < 8)
		return same_four(name, lower) &&
		       same_four(name + bytes - 4, lower + bytes - 4);
	for (size_t i = 0; i + 8 < bytes; i += 8) {
		if (!same_eight(name + i, lower + i))
			return false;
	}
	return same_eight(name + bytes - 8, lower + bytes - 8);
}

static const struct known *find_known(const char *name, size_t bytes)
{
	if (bytes > KNOWN_BYTES_MAX)
		return NULL;
	for (size_t i = known_from[bytes]; i < known_from[bytes + 1]; i++) {
		if (same_name(name, known[i].name, bytes))
			return &known[i];
	}
	return NULL;
}

static struct head_text text(const struct head *h, const char *from,
			     const char *to)
{
	return (struct head_text){ .off = (uint16_t)(from - h->base),
				   .bytes = (uint16_t)(to - from) };
}

/* [at, end) is host[:port], with a host. */
static bool host_valid(const char *at, const char *end)
{
	uint64_t port;
	const char *p = at;

	if (p < end && *p == '[') {
		for (p++; p < end && is(*p, CH_IPV6); p++)
			;
		if (p == end || *p != ']' || p - at < 3)
			return false;
		p++;
	} else {
		while (p < end && is(*p, CH_HOST))
			p++;
		if (p == at)
			return false;
	}
	if (p == end)
		return true;
	if (*p++ != ':')
		return false;
	/* an empty port is the scheme's own, RFC 3986 section 3.2.3 */
	return p == end ||
	       (end - p <= 5 &&
		slice_to_u64(slice_make(p, (size_t)(end - p)), &port) &&
		port <= 65535);
}

static bool method_known(struct slice name, enum head_method *method)
{
	static const struct {
		const char *name;
		enum head_method method;
	} methods[] = {
		{ "GET", METHOD_GET },         { "HEAD", METHOD_HEAD },
		{ "OPTIONS", METHOD_OPTIONS }, { "POST", METHOD_POST },
		{ "PUT", METHOD_PUT },         { "DELETE", METHOD_DELETE },
		{ "PATCH", METHOD_OTHER },     { "TRACE", METHOD_OTHER },
	};

	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		if (slice_is(name, methods[i].name)) {
			*method = methods[i].method;
			return true;
		}
	}
	return false;
}

/* Path, query and host of the target [at, end); mark is its '?' or end. */
static enum line split_target(struct head *h, const char *at, const char *end,
			      const char *mark)
{
	const char *host = NULL;
	const char *path = at;

	if (*at != '/') {
		struct slice target = slice_make(at, (size_t)(end - at));

		if (slice_is(target, "*") && h->method == METHOD_OPTIONS) {
			h->path = text(h, at, end);
			return LINE_OK;
		}
		if (target.bytes >= 7 &&
		    slice_is_nocase(slice_make(at, 7), "http://"))
			host = at + 7;
		else if (target.bytes >= 8 &&
			 slice_is_nocase(slice_make(at, 8), "https://"))
			host = at + 8;
		else
			return bad(h, 400, "invalid request target");
		for (path = host; path < mark && *path != '/'; path++)
			;
		if (!host_valid(host, path))
			return bad(h, 400, "invalid host in request target");
		h->host = text(h, host, path);
	}
	h->path = text(h, path, mark);
	if (mark < end) {
		h->has_query = true;
		h->query = text(h, mark + 1, end);
	}
	return LINE_OK;
}

/* HTTP-version and CRLF; *next is what follows them. */
static enum line parse_version(struct head *h, const char *p, const char *end,
			       const char **next)
{
	static const char shape[] = "HTTP/0.0\r\n"; /* 0: any digit */
	bool other;

	for (size_t i = 0; i < sizeof(shape) - 1; i++) {
		if (p + i == end)
			return LINE_MORE;
		if (shape[i] == '0' ? !is_digit(p[i]) : p[i] != shape[i])
			return bad(h, 400, "invalid request line");
	}
	other = p[5] != '1' || p[7] > '1';
	if (other)
		return bad(h, 505, "only HTTP/1.1 and HTTP/1.0 are spoken");
	h->minor = (uint8_t)(p[7] - '0');
	*next = p + sizeof(shape) - 1;
	return LINE_OK;
}

static enum line parse_request_line(struct head *h, const char *at,
				    const char *end, const char **next)
{
	const char *p = at;
	const char *target;
	const char *mark;
	enum line rc;

	while (p < end && is(*p, CH_TOKEN))
		p++;
	if (p == end)
		return LINE_MORE;
	if (*p != ' ' || p == at)
		return bad(h, 400, "invalid request line");
	if (!method_known(slice_make(at, (size_t)(p - at)), &h->method))
		return bad(h, 501, "unknown method");
	target = ++p;
	p = skip_path(p, end);
	mark = p;
	while (p < end && *p == '?')
		p = skip_path(p + 1, end);
	if (p == end)
		return LINE_MORE;
	if (*p != ' ' || p == target)
		return bad(h, 400, "invalid request target");
	rc = parse_version(h, p + 1, end, next);
	if (rc != LINE_OK)
		return rc;
	if ((size_t)(*next - at) > HEAD_LINE_MAX)
		return bad(h, 414, "request line too long");
	h->target = text(h, target, p);
	return split_target(h, target, p, mark);
}

/* An empty line may stand before the request line (RFC 9112 section 2.2). */
static enum line parse_start(struct head *h, const char *at, const char *end,
			     const char **next)
{
	if (at == end)
		return LINE_MORE;
	if (*at != '\r') {
		h->stage = STAGE_REQUEST;
		*next = at;
		return LINE_OK;
	}
	if (at + 1 == end)
		return LINE_MORE;
	if (at[1] != '\n')
		return bad(h, 400, "invalid request line");
	h->stage = STAGE_REQUEST;
	*next = at + 2;
	return LINE_OK;
}

static enum line keep_line(struct head *h, const struct known *k,
			   struct head_text value)
{
	uint8_t f = k->field;
	struct head_line *line;

	if (h->first[f] != 0) {
		if (k->repeat == REPEAT_IGNORE)
			return LINE_OK;
		if (k->repeat == REPEAT_BAD)
			return bad(h, 400,
				   f == FIELD_HOST ? "more than one Host"
				   : f == FIELD_CONTENT_LENGTH
					   ? "more than one Content-Length"
					   : "a field came twice");
		h->lines[h->last[f] - 1].next = h->line_count + 1;
	}
	must(h->line_count < HEAD_FIELDS_MAX);
	line = &h->lines[h->line_count++];
	line->value = value;
	line->field = f;
	line->next = 0;
	h->last[f] = h->line_count;
	if (h->first[f] == 0)
		h->first[f] = h->line_count;
	return LINE_OK;
}

/* What must be right about a single line. */
static enum line check_line(struct head *h, uint8_t field, struct slice value)
{
	switch (field) {
	case FIELD_HOST:
		if (!host_valid(value.at, value.at + value.bytes))
			return bad(h, 400, "invalid Host");
		return LINE_OK;
	case FIELD_CONTENT_LENGTH:
		if (value.bytes > 15 ||
		    !slice_to_u64(value, &h->content_length))
			return bad(h, 400, "invalid Content-Length");
		h->has_content_length = true;
		return LINE_OK;
	case FIELD_TRANSFER_ENCODING:
		return bad(h, 501, "Transfer-Encoding is not accepted");
	default:
		return LINE_OK;
	}
}

static enum line parse_field(struct head *h, const char *at, const char *end,
			     const char **next)
{
	const char *p = at;
	const char *name_end;
	const char *value;
	const char *value_end;
	const struct known *k;
	enum line rc;

	p = skip_token(p, end);
	if (p == end)
		return LINE_MORE;
	if (*p != ':' || p == at) {
		if (*p == '\r' && p == at) {
			if (p + 1 == end)
				return LINE_MORE;
			*next = p + 2;
			return p[1] == '\n' ? LINE_END
					    : bad(h, 400, "a bare CR");
		}
		if (*p != ' ' && *p != '\t')
			return bad(h, 400, "invalid field name");
		return bad(h, 400,
			   p == at ? "folded field line"
				   : "a blank before the colon");
	}
	name_end = p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	value = p;
	p = skip_value(p, end);
	if (p == end || (*p == '\r' && p + 1 == end))
		return LINE_MORE;
	if (p[0] != '\r' || p[1] != '\n')
		return bad(h, 400, "invalid character in a field value");
	*next = p + 2;
	if (++h->field_count > HEAD_FIELDS_MAX)
		return bad(h, 431, "too many fields");
	k = find_known(at, (size_t)(name_end - at));
	if (k == NULL)
		return LINE_OK;
	for (value_end = p; value_end > value; value_end--) {
		if (value_end[-1] != ' ' && value_end[-1] != '\t')
			break;
	}
	rc = keep_line(h, k, text(h, value, value_end));
	if (rc != LINE_OK)
		return rc;
	return check_line(h, k->field,
			  slice_make(value, (size_t)(value_end - value)));
}

/* RFC 9112 section 9.3. */
static bool wants_keep_alive(const struct head *h)
{
	bool keep = h->minor >= 1;
	struct slice line;
	struct slice element;

	for (unsigned at = 0;
	     head_next_line(h, FIELD_CONNECTION, &at, &line);) {
		if (slice_is(line, "keep-alive")) { /* what browsers send */
			keep = true;
			continue;
		}
		while (slice_next_element(&line, &element)) {
			if (slice_is_nocase(element, "close"))
				return false;
			if (slice_is_nocase(element, "keep-alive"))
				keep = true;
		}
	}
	return keep;
}

static enum line finish(struct head *h)
{
	if (h->first[FIELD_HOST] == 0) {
		if (h->minor >= 1)
			return bad(h, 400, "no Host");
	} else if (h->host.bytes == 0) {
		/* a host in the target counts more, RFC 9112 section 3.2.2 */
		h->host = h->lines[h->first[FIELD_HOST] - 1].value;
	}
	h->keep_alive = wants_keep_alive(h);
	if (h->first[FIELD_EXPECT] != 0)
		h->expect_continue =
			h->minor >= 1 &&
			head_list_has(h, FIELD_EXPECT, "100-continue");
	h->stage = STAGE_DONE;
	return LINE_END;
}

/* The bytes end within a line: fine, unless it can only become too long. */
static enum head_outcome want_more(struct head *h, size_t limit)
{
	bool in_fields = h->stage == STAGE_FIELDS;

	if (!in_fields && limit - h->line_off >= HEAD_LINE_MAX) {
		bad(h, 414, "request line too long");
		return HEAD_BAD;
	}
	if (limit == HEAD_BYTES_MAX) {
		bad(h, 431, "request head too large");
		return HEAD_BAD;
	}
	h->scanned = (uint16_t)limit;
	return HEAD_MORE;
}

void head_init(struct head *h)
{
	memset(h, 0, offsetof(struct head, lines));
}

enum head_outcome head_parse(struct head *h, const char *bytes, size_t count)
{
	size_t limit = count < HEAD_BYTES_MAX ? count : HEAD_BYTES_MAX;
	const char *end = bytes + limit;
	const char *next = NULL;
	enum line rc;

	must(h->stage != STAGE_DONE && h->line_off <= limit);
	if (h->stage == STAGE_BAD)
		return HEAD_BAD;
	h->base = bytes;
	if (h->scanned > h->line_off &&
	    memchr(bytes + h->scanned, '\n', limit - h->scanned) == NULL)
		return want_more(h, limit);
	do {
		const char *at = bytes + h->line_off;

		if (h->stage == STAGE_FIELDS) {
			rc = parse_field(h, at, end, &next);
			if (rc == LINE_END)
				rc = finish(h);
		} else if (h->stage == STAGE_REQUEST) {
			rc = parse_request_line(h, at, end, &next);
			if (rc == LINE_OK)
				h->stage = STAGE_FIELDS;
		} else {
			rc = parse_start(h, at, end, &next);
		}
		if (rc == LINE_MORE)
			return want_more(h, limit);
		if (rc == LINE_BAD)
			return HEAD_BAD;
		h->line_off = (uint16_t)(next - bytes);
	} while (rc == LINE_OK);
	h->head_bytes = h->line_off;
	return HEAD_DONE;
}

bool head_begun(const struct head *h, size_t count)
{
	if (h->stage != STAGE_START)
		return h->stage != STAGE_REQUEST || count > h->line_off;
	return false; /* nothing yet, or only the CR of an empty line */
}

bool head_next_line(const struct head *h, enum head_field f, unsigned *cursor,
		    struct slice *line)
{
	unsigned at = *cursor == 0 ? h->first[f] : h->lines[*cursor - 1].next;

	if (at == 0)
		return false;
	*line = head_slice(h, h->lines[at - 1].value);
	*cursor = at;
	return true;
}

bool head_list_has(const struct head *h, enum head_field f, const char *token)
{
	struct slice line;

	for (unsigned at = 0; head_next_line(h, f, &at, &line);) {
		if (slice_list_has(line, token))
			return true;
	}
	return false;
}

const char *head_method_name(enum head_method m)
{
	static const char *const names[] = {
		[METHOD_GET] = "GET",         [METHOD_HEAD] = "HEAD",
		[METHOD_OPTIONS] = "OPTIONS", [METHOD_POST] = "POST",
		[METHOD_PUT] = "PUT",         [METHOD_DELETE] = "DELETE",
		[METHOD_OTHER] = "-",
	};

	must((size_t)m < ARRAY_LEN(names));
	return names[m];
}

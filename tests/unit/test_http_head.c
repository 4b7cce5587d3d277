/* Request heads: what is taken, what is refused and with which status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/head.h"

#define GET  "GET /a HTTP/1.1\r\n"
#define HOST "Host: h\r\n"
#define END  "\r\n"

/* What came of some bytes, without the pointers. */
struct result {
	enum head_outcome outcome;
	int status;
	uint32_t head_bytes;
};

/*
 * Gives the bytes in pieces, each time all so far in a new place that is not
 * a byte larger; so that a sanitizer sees a look beyond them.
 */
static struct result parse_pieces(struct head *h, const char *bytes,
				  size_t count, size_t first, size_t step)
{
	struct result r = { HEAD_MORE, 0, 0 };
	size_t given = first < count ? first : count;

	head_init(h);
	for (;;) {
		char *copy = malloc(given + 1);

		assert_non_null(copy);
		copy = realloc(copy, given > 0 ? given : 1);
		assert_non_null(copy);
		memcpy(copy, bytes, given);
		r.outcome = head_parse(h, copy, given);
		free(copy);
		h->base = bytes;
		if (r.outcome != HEAD_MORE || given == count)
			break;
		given = given + step < count ? given + step : count;
	}
	if (r.outcome == HEAD_BAD) {
		r.status = h->status;
		assert_non_null(h->reason);
		assert_in_range(strlen(h->reason), 1, 60);
	}
	if (r.outcome == HEAD_DONE)
		r.head_bytes = h->head_bytes;
	return r;
}

/* Parses all at once, byte by byte, and in two pieces cut at each place; all
 * must come to the same. */
static struct result parse(struct head *h, const char *bytes, size_t count)
{
	struct result r = parse_pieces(h, bytes, count, 1, 1);
	struct result other;

	for (size_t cut = 0; cut <= count; cut++) {
		other = parse_pieces(h, bytes, count, cut, count);
		if (other.outcome != r.outcome || other.status != r.status ||
		    other.head_bytes != r.head_bytes)
			fail_msg("cut at %zu: %d and %d for %.*s", cut,
				 other.status, r.status, (int)count, bytes);
	}
	return r;
}

static void test_outcomes(void **state)
{
	static const struct {
		const char *bytes;
		int status; /* 0: HEAD_DONE, -1: HEAD_MORE */
	} cases[] = {
		{ GET HOST END, 0 },
		{ "\r\n" GET HOST END, 0 },
		{ "GET / HTTP/1.0\r\n\r\n", 0 },
		{ "GET / HTTP/1.0\r\nHost: h\r\n\r\n", 0 },
		{ "HEAD /a?b#c HTTP/1.1\r\n" HOST END, 400 },
		{ "OPTIONS * HTTP/1.1\r\n" HOST END, 0 },
		{ "PATCH / HTTP/1.1\r\n" HOST END, 0 },
		/* not yet all there */
		{ "", -1 },
		{ "\r", -1 },
		{ "\r\n", -1 },
		{ "GET", -1 },
		{ "GET /a HTTP/1.1\r", -1 },
		{ GET, -1 },
		{ GET HOST, -1 },
		{ GET HOST "\r", -1 },
		{ GET "Host: h\r", -1 },
		{ GET "Host", -1 },
		/* line ends */
		{ "\r\n\r\n" GET HOST END, 400 },
		{ "\n" GET HOST END, 400 },
		{ "GET /a HTTP/1.1\n" HOST END, 400 },
		{ "GET /a HTTP/1.1\r" HOST END, 400 },
		{ "GET /a HTTP/1.1\r\r\n" HOST END, 400 },
		{ GET "Host: h\n\n", 400 },
		{ GET "Host: h\r\n\n", 400 },
		{ GET "Host: h\r\r\n\r\n", 400 },
		{ GET "Host: h\rX: y\r\n\r\n", 400 },
		{ GET "Host: h\nX: y\r\n\r\n", 400 },
		{ GET HOST "\rX\n", 400 },
		{ GET HOST "A: b\r\n c\r\n" END, 400 },
		{ GET HOST "A: b\r\n\tc\r\n" END, 400 },
		{ GET " Host: h\r\n" END, 400 },
		/* request lines */
		{ "get /a HTTP/1.1\r\n" HOST END, 501 },
		{ "BREW /a HTTP/1.1\r\n" HOST END, 501 },
		{ "GETS /a HTTP/1.1\r\n" HOST END, 501 },
		{ "CONNECT h:443 HTTP/1.1\r\n" HOST END, 501 },
		{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501 },
		{ " GET /a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET  /a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a  HTTP/1.1\r\n" HOST END, 400 },
		{ "GET\t/a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a\tHTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a HTTP/1.1 \r\n" HOST END, 400 },
		{ "GET /a b HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a\r\n" HOST END, 400 },
		{ "GET\r\n" HOST END, 400 },
		{ "\x16\x03\x01\x02", 400 },
		{ "G\x01T / HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a HTTP/2.0\r\n" HOST END, 505 },
		{ "GET /a HTTP/1.2\r\n" HOST END, 505 },
		{ "GET /a HTTP/0.9\r\n" HOST END, 505 },
		{ "GET /a HTTP/1.10\r\n" HOST END, 400 },
		{ "GET /a HTTP/11.1\r\n" HOST END, 400 },
		{ "GET /a HTTP/1,1\r\n" HOST END, 400 },
		{ "GET /a http/1.1\r\n" HOST END, 400 },
		{ "GET /a HTTPS/1.1\r\n" HOST END, 400 },
		/* targets */
		{ "GET a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET * HTTP/1.1\r\n" HOST END, 400 },
		{ "GET ?a HTTP/1.1\r\n" HOST END, 400 },
		{ "OPTIONS *?a HTTP/1.1\r\n" HOST END, 400 },
		{ "OPTIONS ** HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a\x7f HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /\xc3\xa4 HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a\"b HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /<a> HTTP/1.1\r\n" HOST END, 400 },
		{ "GET /a?b?c=[d]{e}|f^g`h\\i HTTP/1.1\r\n" HOST END, 0 },
		{ "GET http://h HTTP/1.1\r\n" HOST END, 0 },
		{ "GET HTTPS://h:1?q HTTP/1.1\r\n" HOST END, 0 },
		{ "GET http:///a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET http://u@h/a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET http://h:x/a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET http:/a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET http HTTP/1.1\r\n" HOST END, 400 },
		{ "GET ftp://h/a HTTP/1.1\r\n" HOST END, 400 },
		{ "GET http://h/a HTTP/1.1\r\n" END, 400 },
		/* Host */
		{ GET END, 400 },
		{ GET "Host:\r\n" END, 400 },
		{ GET "Host: \t \r\n" END, 400 },
		{ GET HOST HOST END, 400 },
		{ "GET /a HTTP/1.0\r\n" HOST HOST END, 400 },
		{ GET "Host: h, g\r\n" END, 400 },
		{ GET "Host: h g\r\n" END, 400 },
		{ GET "Host: h/a\r\n" END, 400 },
		{ GET "Host: u@h\r\n" END, 400 },
		{ GET "Host: h:\r\n" END, 0 },
		{ GET "Host: h:65535\r\n" END, 0 },
		{ GET "Host: h:65536\r\n" END, 400 },
		{ GET "Host: h:000080\r\n" END, 400 },
		{ GET "Host: h:8o\r\n" END, 400 },
		{ GET "Host: h:80:80\r\n" END, 400 },
		{ GET "Host: :80\r\n" END, 400 },
		{ GET "Host: [::1]:80\r\n" END, 0 },
		{ GET "Host: [::1]\r\n" END, 0 },
		{ GET "Host: [::1]x\r\n" END, 400 },
		{ GET "Host: [::1\r\n" END, 400 },
		{ GET "Host: []\r\n" END, 400 },
		{ GET "Host: [g::1]\r\n" END, 400 },
		{ GET "Host: \xc3\xa4\r\n" END, 400 },
		{ GET "hOsT:h\r\n" END, 0 },
		/* names and values */
		{ GET HOST ": x\r\n" END, 400 },
		{ GET HOST "A : x\r\n" END, 400 },
		{ GET HOST "A\t: x\r\n" END, 400 },
		{ GET HOST "A\r\n" END, 400 },
		{ GET HOST "A(b): x\r\n" END, 400 },
		{ GET HOST "\xc3\xa4: x\r\n" END, 400 },
		{ GET HOST "A:\r\n" END, 0 },
		{ GET HOST "A: \x01\r\n" END, 400 },
		{ GET HOST "A: x\x7fy\r\n" END, 400 },
		{ GET HOST "A: x\x1by\r\n" END, 400 },
		{ GET HOST "A: 0123456789\x0b 0123456789\r\n" END, 400 },
		{ GET HOST "A: x\ty\t0123456789\t\r\n" END, 0 },
		{ GET HOST "A: \xff\x80\xfe 0123456789 \xc3\xa4\r\n" END, 0 },
		/* framing */
		{ GET HOST "Content-Length: 0\r\n" END, 0 },
		{ GET HOST "Content-Length: 999999999999999\r\n" END, 0 },
		{ GET HOST "Content-Length: 1000000000000000\r\n" END, 400 },
		{ GET HOST "Content-Length: 0000000000000001\r\n" END, 400 },
		{ GET HOST "Content-Length:\r\n" END, 400 },
		{ GET HOST "Content-Length: +1\r\n" END, 400 },
		{ GET HOST "Content-Length: -1\r\n" END, 400 },
		{ GET HOST "Content-Length: 1 1\r\n" END, 400 },
		{ GET HOST "Content-Length: 1, 1\r\n" END, 400 },
		{ GET HOST "Content-Length: 0x1\r\n" END, 400 },
		{ GET HOST "Content-Length: 1\r\nContent-Length: 1\r\n" END,
		  400 },
		{ GET HOST "Transfer-Encoding: chunked\r\n" END, 501 },
		{ GET HOST "Transfer-Encoding: identity\r\n" END, 501 },
		{ GET HOST "tRANSFER-eNCODING:\r\n" END, 501 },
		{ GET HOST "Content-Length: 1\r\nTransfer-Encoding: x\r\n" END,
		  501 },
		{ GET HOST "Transfer-Encoding : chunked\r\n" END, 400 },
		/* twice */
		{ GET HOST "Range: bytes=0-1\r\nRange: bytes=0-1\r\n" END,
		  400 },
		{ GET HOST "If-Range: \"a\"\r\nif-range: \"a\"\r\n" END, 400 },
		{ GET HOST "Origin: a\r\nOrigin: b\r\n" END, 400 },
		{ GET HOST "User-Agent: a\r\nUser-Agent: b\r\n" END, 0 },
		{ GET HOST "If-Match: \"a\"\r\nIf-Match: \"b\"\r\n" END, 0 },
		{ GET HOST "X-Any: a\r\nX-Any: b\r\n" END, 0 },
	};
	struct head h;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *bytes = cases[i].bytes;
		struct result r = parse(&h, bytes, strlen(bytes));
		int got = r.outcome == HEAD_DONE   ? 0
			  : r.outcome == HEAD_MORE ? -1
						   : r.status;

		if (got != cases[i].status)
			fail_msg("%s\ngave %d, not %d", bytes, got,
				 cases[i].status);
		if (got == 0)
			assert_int_equal(r.head_bytes, strlen(bytes));
	}
}

static void test_nul_is_refused(void **state)
{
	static const char in_value[] = GET HOST "A: x\0y\r\n" END;
	static const char in_target[] = "GET /\0 HTTP/1.1\r\n" HOST END;
	static const char in_name[] = GET HOST "A\0: y\r\n" END;
	struct head h;

	(void)state;
	assert_int_equal(parse(&h, in_value, sizeof(in_value) - 1).status, 400);
	assert_int_equal(parse(&h, in_target, sizeof(in_target) - 1).status,
			 400);
	assert_int_equal(parse(&h, in_name, sizeof(in_name) - 1).status, 400);
}

static bool token_char(int c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') ||
	       (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool target_char(int c)
{
	return c > 0x20 && c < 0x7f && strchr("\"#<>", c) == NULL;
}

static bool value_char(int c)
{
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/*
 * Each byte at each of many places of a target, a name and a value.  What
 * follows the head in the buffer decides whether 16 bytes can be looked at
 * in one step; the answer must be the same.
 */
static void test_every_byte(void **state)
{
	static const struct {
		const char *before;
		const char *after;
		bool (*good)(int c);
	} places[] = {
		{ "GET /", " HTTP/1.1\r\n" HOST END, target_char },
		{ "GET /?", " HTTP/1.1\r\n" HOST END, target_char },
		{ GET HOST, ": v\r\n" END, token_char },
		{ GET HOST "N: ", "\r\n" END, value_char },
	};
	struct head h;
	char bytes[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		for (int k = 0; k < 40 * 256; k++) {
			int c = k % 256;
			int lead = k / 256;
			int n = snprintf(
				bytes, 200, "%s%.*sX%.*s%s", places[i].before,
				lead,
				"abcdefghijklmnopqrstuvwxyzabcdefghijklmn",
				k % 3, "zzz", places[i].after);
			char *mark = bytes + strlen(places[i].before) + lead;
			enum head_outcome want = HEAD_BAD;
			struct result r;

			*mark = (char)c;
			memset(bytes + n, 'y', 64);
			/* a colon ends the name, "?" the path; a blank in
			 * front of a value is trimmed */
			if (places[i].good(c) ||
			    (c == ':' && i == 2 && lead > 0))
				want = HEAD_DONE;
			for (int more = 0; more <= 64; more += 64) {
				r = parse_pieces(&h, bytes, (size_t)(n + more),
						 (size_t)(n + more), 1);
				if (r.outcome != want)
					fail_msg("byte %d at %d of place %zu",
						 c, lead, i);
			}
		}
	}
}

static void assert_slice(struct slice s, const char *text)
{
	if (!slice_is(s, text))
		fail_msg("\"%.*s\", not \"%s\"", (int)s.bytes, s.at, text);
}

static void test_parts(void **state)
{
	static const char bytes[] =
		"HEAD /proxy/x%2f?source=a&b HTTP/1.1\r\n"
		"hOST:\t example.org:8090 \t\r\n"
		"Accept: */*\r\n"
		"RANGE: bytes=0-\r\n"
		"If-Range: \"v1\"\r\n"
		"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
		"If-Unmodified-Since: x\r\n"
		"If-Match: m\r\n"
		"If-None-Match: n\r\n"
		"Origin: http://o\r\n"
		"User-Agent: first\r\n"
		"User-Agent: second\r\n"
		"Referer: r\r\n"
		"Access-Control-Request-Method: GET\r\n"
		"Access-Control-Request-Headers: range\r\n"
		"Upgrade: websocket\r\n"
		"Expect: 100-Continue\r\n"
		"Forwarded: for=a\r\n"
		"X-Forwarded-For: 1.2.3.4\r\n"
		"Sec-WebSocket-Key: k\r\n"
		"Sec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Protocol: p\r\n"
		"Sec-WebSocket-Extensions: e\r\n"
		"HTTP2-Settings: s\r\n"
		"Sec-Purpose: prefetch\r\n"
		"Content-Length: 5\r\n"
		"Connection: Upgrade, HTTP2-Settings\r\n"
		"\r\nhello";
	static const struct {
		enum head_field field;
		const char *value;
	} fields[] = {
		{ FIELD_HOST, "example.org:8090" },
		{ FIELD_RANGE, "bytes=0-" },
		{ FIELD_IF_RANGE, "\"v1\"" },
		{ FIELD_IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:37 GMT" },
		{ FIELD_IF_UNMODIFIED_SINCE, "x" },
		{ FIELD_IF_MATCH, "m" },
		{ FIELD_IF_NONE_MATCH, "n" },
		{ FIELD_ORIGIN, "http://o" },
		{ FIELD_USER_AGENT, "first" },
		{ FIELD_REFERER, "r" },
		{ FIELD_ACCESS_CONTROL_REQUEST_METHOD, "GET" },
		{ FIELD_ACCESS_CONTROL_REQUEST_HEADERS, "range" },
		{ FIELD_UPGRADE, "websocket" },
		{ FIELD_EXPECT, "100-Continue" },
		{ FIELD_FORWARDED, "for=a" },
		{ FIELD_X_FORWARDED_FOR, "1.2.3.4" },
		{ FIELD_SEC_WEBSOCKET_KEY, "k" },
		{ FIELD_SEC_WEBSOCKET_VERSION, "13" },
		{ FIELD_SEC_WEBSOCKET_PROTOCOL, "p" },
		{ FIELD_SEC_WEBSOCKET_EXTENSIONS, "e" },
		{ FIELD_HTTP2_SETTINGS, "s" },
		{ FIELD_SEC_PURPOSE, "prefetch" },
		{ FIELD_CONTENT_LENGTH, "5" },
		{ FIELD_CONNECTION, "Upgrade, HTTP2-Settings" },
	};
	struct head h;

	(void)state;
	assert_int_equal(parse(&h, bytes, sizeof(bytes) - 1).outcome,
			 HEAD_DONE);
	assert_int_equal(h.head_bytes, sizeof(bytes) - 1 - 5);
	assert_int_equal(h.method, METHOD_HEAD);
	assert_string_equal(head_method_name(h.method), "HEAD");
	assert_slice(head_target(&h), "/proxy/x%2f?source=a&b");
	assert_slice(head_path(&h), "/proxy/x%2f");
	assert_slice(head_query(&h), "source=a&b");
	assert_slice(head_host(&h), "example.org:8090");
	assert_int_equal(h.minor, 1);
	assert_true(h.keep_alive);
	assert_true(h.expect_continue);
	assert_true(h.has_content_length);
	assert_int_equal(h.content_length, 5);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		assert_slice(head_field(&h, fields[i].field), fields[i].value);
	/* each known field is in the table once, and all are */
	assert_int_equal(ARRAY_LEN(fields), FIELD_COUNT - 2);
	assert_false(slice_present(head_field(&h, FIELD_TRANSFER_ENCODING)));
}

static void test_targets(void **state)
{
	static const struct {
		const char *line;
		const char *host;
		const char *path;
		const char *query; /* NULL: absent */
	} cases[] = {
		{ "GET /a", "h", "/a", NULL },
		{ "GET /?", "h", "/", "" },
		{ "GET /a?b?c", "h", "/a", "b?c" },
		{ "GET //x/y", "h", "//x/y", NULL },
		{ "GET http://t:1/a?b", "t:1", "/a", "b" },
		{ "GET http://t", "t", "/", NULL },
		{ "GET hTTps://t?b/c", "t", "/", "b/c" },
		{ "OPTIONS *", "h", "*", NULL },
	};
	struct head h;
	char bytes[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		(void)snprintf(bytes, sizeof(bytes), "%s HTTP/1.1\r\n" HOST END,
			       cases[i].line);
		assert_int_equal(parse(&h, bytes, strlen(bytes)).outcome,
				 HEAD_DONE);
		assert_slice(head_host(&h), cases[i].host);
		assert_slice(head_path(&h), cases[i].path);
		assert_int_equal(slice_present(head_query(&h)),
				 cases[i].query != NULL);
		if (cases[i].query != NULL)
			assert_slice(head_query(&h), cases[i].query);
	}
}

static void test_keep_alive(void **state)
{
	static const struct {
		const char *version;
		const char *lines;
		bool keep;
	} cases[] = {
		{ "1.1", "", true },
		{ "1.1", "Connection: close\r\n", false },
		{ "1.1", "Connection: CLOSE\r\n", false },
		{ "1.1", "Connection: x, ,close\r\n", false },
		{ "1.1", "Connection: keep-alive, close\r\n", false },
		{ "1.1", "Connection: a\r\nConnection: close\r\n", false },
		{ "1.1", "Connection: closed\r\n", true },
		{ "1.1", "Connection:\r\n", true },
		{ "1.0", "", false },
		{ "1.0", "Connection: Keep-Alive\r\n", true },
		{ "1.0", "Connection: a,keep-alive\r\n", true },
		{ "1.0", "Connection: a\r\nConnection: keep-alive\r\n", true },
		{ "1.0", "Connection: close, keep-alive\r\n", false },
	};
	struct head h;
	char bytes[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		(void)snprintf(bytes, sizeof(bytes),
			       "GET / HTTP/%s\r\n" HOST "%s" END,
			       cases[i].version, cases[i].lines);
		assert_int_equal(parse(&h, bytes, strlen(bytes)).outcome,
				 HEAD_DONE);
		if (h.keep_alive != cases[i].keep)
			fail_msg("keep_alive is wrong for %s", bytes);
	}
}

static void test_lists_keep_all_lines(void **state)
{
	static const char bytes[] =
		GET HOST "If-None-Match: \"a\"\r\nX: y\r\n"
			 "if-none-match: \"b\", \"c\"\r\n"
			 "Connection: one\r\nConnection: two , three\r\n"
			 "IF-NONE-MATCH:\r\n" END;
	static const char *const wanted[] = { "\"a\"", "\"b\", \"c\"", "" };
	struct head h;
	struct slice line;
	size_t count = 0;

	(void)state;
	assert_int_equal(parse(&h, bytes, sizeof(bytes) - 1).outcome,
			 HEAD_DONE);
	for (unsigned at = 0;
	     head_next_line(&h, FIELD_IF_NONE_MATCH, &at, &line); count++)
		assert_slice(line, wanted[count]);
	assert_int_equal(count, 3);
	assert_true(head_list_has(&h, FIELD_CONNECTION, "THREE"));
	assert_true(head_list_has(&h, FIELD_CONNECTION, "one"));
	assert_false(head_list_has(&h, FIELD_CONNECTION, "four"));
	assert_false(head_list_has(&h, FIELD_UPGRADE, "one"));
}

/* A head of exactly `total` bytes: `fields` lines, the last one filled up. */
static char *make_head(size_t total, size_t fields)
{
	char *bytes = malloc(total + 1);
	size_t n;

	assert_non_null(bytes);
	n = (size_t)sprintf(bytes, GET HOST);
	for (size_t i = 2; i < fields; i++)
		n += (size_t)sprintf(bytes + n, "A: b\r\n");
	n += (size_t)sprintf(bytes + n, "A: ");
	assert_true(n + 4 <= total);
	memset(bytes + n, 'x', total - n - 4);
	memcpy(bytes + total - 4, "\r\n\r\n", 5);
	return bytes;
}

static void check_made(size_t total, size_t fields, int status)
{
	char *bytes = make_head(total, fields);
	struct head h;
	struct result r = parse_pieces(&h, bytes, total, total, 1);
	struct result slow = parse_pieces(&h, bytes, total, 1, 1);

	assert_int_equal(r.outcome, status == 0 ? HEAD_DONE : HEAD_BAD);
	assert_int_equal(r.status, status);
	assert_int_equal(slow.outcome, r.outcome);
	assert_int_equal(slow.status, r.status);
	free(bytes);
}

static void test_limits(void **state)
{
	(void)state;
	check_made(HEAD_BYTES_MAX, 3, 0);
	check_made(HEAD_BYTES_MAX + 1, 3, 431);
	check_made(HEAD_BYTES_MAX + 1000, 3, 431);
	check_made(1000, HEAD_FIELDS_MAX, 0);
	check_made(1000, HEAD_FIELDS_MAX + 1, 431);
}

static void check_line(size_t line_bytes, bool whole, int status)
{
	static const char front[] = "GET /";
	static const char back[] = " HTTP/1.1\r\n" HOST END;
	static char bytes[3 * HEAD_BYTES_MAX];
	size_t fill = line_bytes - 5 - 11;
	size_t count = line_bytes + sizeof(HOST END) - 1;
	struct head h;
	struct result r;

	assert_true(line_bytes + 100 < sizeof(bytes));
	memcpy(bytes, front, 5);
	memset(bytes + 5, 'x', fill);
	memcpy(bytes + 5 + fill, back, sizeof(back) - 1);
	if (!whole)
		count = 5 + fill;
	r = parse_pieces(&h, bytes, count, count, 1);
	assert_int_equal(r.status, status);
	r = parse_pieces(&h, bytes, count, 0, 7);
	assert_int_equal(r.status, status);
}

static void test_long_request_line(void **state)
{
	(void)state;
	check_line(HEAD_LINE_MAX, true, 0);
	check_line(HEAD_LINE_MAX + 1, true, 414);
	check_line(HEAD_BYTES_MAX, true, 414);
	check_line(HEAD_BYTES_MAX * 2, true, 414);
	check_line(HEAD_LINE_MAX * 2, false, 414);
	check_line(HEAD_LINE_MAX - 100, false, 0);
}

static void test_pipelined(void **state)
{
	static const char bytes[] = GET HOST END "GET /second HTTP/1.1\r\n";
	struct head h;

	(void)state;
	head_init(&h);
	assert_int_equal(head_parse(&h, bytes, sizeof(bytes) - 1), HEAD_DONE);
	assert_int_equal(h.head_bytes, sizeof(GET HOST END) - 1);
	head_init(&h);
	assert_int_equal(head_parse(&h, bytes + sizeof(GET HOST END) - 1, 22),
			 HEAD_MORE);
}

static void test_begun(void **state)
{
	static const char bytes[] = "\r\nG";
	struct head h;

	(void)state;
	head_init(&h);
	assert_false(head_begun(&h, 0));
	for (size_t n = 1; n <= 3; n++) {
		assert_int_equal(head_parse(&h, bytes, n), HEAD_MORE);
		assert_int_equal(head_begun(&h, n), n == 3);
	}
	head_init(&h);
	assert_int_equal(head_parse(&h, GET, sizeof(GET) - 1), HEAD_MORE);
	assert_true(head_begun(&h, sizeof(GET) - 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_nul_is_refused),
		cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_lists_keep_all_lines),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_long_request_line),
		cmocka_unit_test(test_pipelined),
		cmocka_unit_test(test_begun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

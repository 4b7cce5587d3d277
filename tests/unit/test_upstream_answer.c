/* Response heads of origins: what is believed, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "upstream/answer.h"
#include "util/base.h"

#define NONE SIZE_UNKNOWN

/* All lines of text, each with its line end; judged if they were taken. */
static int take(struct answer *a, const char *text, struct answer_asked asked)
{
	answer_init(a);
	while (*text != '\0') {
		size_t bytes = strcspn(text, "\n") + 1;
		char *line = malloc(bytes); /* for the sanitizer: no NUL */
		int rc;

		assert_non_null(line);
		memcpy(line, text, bytes);
		rc = answer_line(a, line, bytes);
		free(line);
		if (rc < 0)
			return rc;
		text += bytes;
	}
	assert_true(a->done);
	return answer_judge(a, &asked);
}

#define P "HTTP/1.1 206 Partial Content\r\n"
#define K "HTTP/1.1 200 OK\r\n"
#define U "HTTP/1.1 416 Range Not Satisfiable\r\n"
#define E "\r\n"

static const struct {
	const char *text;
	struct answer_asked asked;
	struct span span;
	uint64_t size;
	bool ranged;
	bool end_is_sure;
} good[] = {
	{ P "Content-Range: bytes 0-9/10\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 10 },
	  10,
	  true,
	  true },
	{ P "content-range:bytes 0-9/10\r\nCONTENT-LENGTH: 10 \r\n" E,
	  { 0, NONE, 0 },
	  { 0, 10 },
	  10,
	  true,
	  true },
	{ P "Content-Range: BYTES  5-5/*\r\n" E,
	  { 5, 6, 0 },
	  { 5, 6 },
	  NONE,
	  true,
	  true },
	/* shorter than asked */
	{ P "Content-Range: bytes 5-7/100\r\n" E,
	  { 5, 50, 0 },
	  { 5, 8 },
	  100,
	  true,
	  true },
	{ P "Content-Range: bytes 0-0/18446744073709551\r\n" E,
	  { 0, 1, 0 },
	  { 0, 1 },
	  18446744073709551,
	  true,
	  true },
	/* the last n bytes */
	{ P "Content-Range: bytes 90-99/100\r\n" E,
	  { 0, 0, 10 },
	  { 90, 100 },
	  100,
	  true,
	  true },
	{ P "Content-Range: bytes 0-99/100\r\n" E,
	  { 0, 0, 200 },
	  { 0, 100 },
	  100,
	  true,
	  true },
	{ P "Content-Range: bytes 90-99/*\r\n" E,
	  { 0, 0, 10 },
	  { 90, 100 },
	  NONE,
	  true,
	  true },
	/* chunked: the length does not count */
	{ P "Content-Range: bytes 0-9/10\r\nTransfer-Encoding: chunked\r\n"
	    "Content-Length: 55\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 10 },
	  10,
	  true,
	  true },
	{ K "Content-Length: 7\r\n" E, { 3, 5, 0 }, { 0, 7 }, 7, false, true },
	{ K "Content-Length: 0\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 0 },
	  0,
	  false,
	  true },
	{ K "Content-Length: 7\r\nContent-Length: 7\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 7 },
	  7,
	  false,
	  true },
	{ K "Transfer-Encoding: chunked\r\n" E,
	  { 0, NONE, 0 },
	  { 0, NONE },
	  NONE,
	  false,
	  true },
	{ K E, { 0, NONE, 0 }, { 0, NONE }, NONE, false, false },
	{ "HTTP/2 200 \r\n" E, { 0, NONE, 0 }, { 0, NONE }, NONE, false, true },
	{ "HTTP/1.0 200\n\n", { 0, NONE, 0 }, { 0, NONE }, NONE, false, false },
	/* a 200 does not have a range, whatever it says */
	{ K "Content-Range: bytes 1-2/3\r\nContent-Length: 3\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 3 },
	  3,
	  false,
	  true },
	{ U "Content-Range: bytes */1234\r\nContent-Length: 9\r\n" E,
	  { 5000, NONE, 0 },
	  { 0, 9 },
	  1234,
	  false,
	  true },
	{ U "Content-Length: 0\r\n" E,
	  { 9, NONE, 0 },
	  { 0, 0 },
	  NONE,
	  false,
	  true },
	{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 0 },
	  NONE,
	  false,
	  true },
	{ "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 4 },
	  NONE,
	  false,
	  true },
	/* what came before does not count */
	{ "HTTP/1.1 302 Found\r\nContent-Length: 5\r\nContent-Range: x\r\n" E K
	  "Content-Length: 7\r\n" E,
	  { 0, NONE, 0 },
	  { 0, 7 },
	  7,
	  false,
	  true },
};

static void test_good(void **state)
{
	struct answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		const struct transfer_head *h = &a.head;

		if (take(&a, good[i].text, good[i].asked) != 0)
			fail_msg("case %zu: %s", i, a.fault);
		if (h->span.from != good[i].span.from ||
		    h->span.to != good[i].span.to || h->size != good[i].size ||
		    h->ranged != good[i].ranged ||
		    h->end_is_sure != good[i].end_is_sure)
			fail_msg("case %zu", i);
	}
}

static const struct {
	const char *text;
	struct answer_asked asked;
} bad[] = {
	{ P E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes */10\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/9\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 9-0/10\r\n" E, { 9, NONE, 0 } },
	{ P "Content-Range: bytes -9/10\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-/10\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/10x\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/10, bytes 0-9/10\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes=0-9/10\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: lines 0-9/10\r\n" E, { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-18446744073709551615/*\r\n" E,
	  { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/99999999999999999999\r\n" E,
	  { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/10\r\nContent-Range: bytes 0-9/10\r\n" E,
	  { 0, NONE, 0 } },
	/* elsewhere than asked */
	{ P "Content-Range: bytes 0-9/10\r\n" E, { 5, NONE, 0 } },
	{ P "Content-Range: bytes 6-9/10\r\n" E, { 5, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/100\r\n" E, { 0, 0, 10 } },
	{ P "Content-Range: bytes 0-99/*\r\n" E, { 0, 0, 10 } },
	{ P "Content-Range: bytes 0-9/10\r\nContent-Length: 11\r\n" E,
	  { 0, NONE, 0 } },
	{ P "Content-Range: bytes 0-9/10\r\n"
	    "Content-Type: Multipart/ByteRanges; boundary=x\r\n" E,
	  { 0, NONE, 0 } },
	{ U "Content-Range: bytes 0-9/10\r\n" E, { 0, NONE, 0 } },
	{ U "Content-Range: bytes */x\r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: -1\r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: \r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: 1 2\r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: 5, 5\r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: 0x5\r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: 99999999999999999999\r\n" E, { 0, NONE, 0 } },
	{ K "Content-Length: 5\r\nContent-Length: 6\r\n" E, { 0, NONE, 0 } },
	{ K "Transfer-Encoding: gzip, chunked\r\n" E, { 0, NONE, 0 } },
	{ K "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" E,
	  { 0, NONE, 0 } },
	{ K "no colon\r\n" E, { 0, NONE, 0 } },
	{ K "ETag: \"a\x01\"\r\n" E, { 0, NONE, 0 } },
	{ K "ETag: \"a\"\r\nETag: \"b\"\r\n" E, { 0, NONE, 0 } },
	{ K "ETag: \"a\"\r\n \"b\"\r\n" E, { 0, NONE, 0 } },
	{ "HTTP/1.1 2000 OK\r\n" E, { 0, NONE, 0 } },
	{ "HTTP/1.1 20 OK\r\n" E, { 0, NONE, 0 } },
	{ "HTTP/1.1\r\n" E, { 0, NONE, 0 } },
	{ "HTTP/1.1 600 x\r\n" E, { 0, NONE, 0 } },
	{ "HTTP/1.1 099 x\r\n" E, { 0, NONE, 0 } },
	{ "HTTP/1.1 101 Switching\r\n" E, { 0, NONE, 0 } },
};

static void test_bad(void **state)
{
	struct answer a;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (take(&a, bad[i].text, bad[i].asked) == 0)
			fail_msg("case %zu: %s", i, bad[i].text);
		assert_non_null(a.fault);
	}
}

static void test_texts(void **state)
{
	struct answer_asked all = { 0, NONE, 0 };
	const struct transfer_head *h;
	struct answer a;

	(void)state;
	assert_int_equal(
		take(&a,
		     K "ETag: W/\"x y\" \r\nETag: W/\"x y\"\r\n"
		       "Last-Modified:Sun, 06 Nov 1994 08:49:37 GMT\r\n"
		       "Date: d\r\nDate: e\r\nAge: 7\r\nExpires: 0\r\n"
		       "Cache-Control: max-age=5\r\nX-Other: 1\r\n folded\r\n"
		       "cache-control:\tno-transform\r\nCache-Control:\r\n"
		       "Content-Type: video/mp4\r\nRetry-After: 120\r\n"
		       "Content-Language: en\r\nContent-Encoding: gzip\r\n"
		       "Content-Disposition: inline\r\n" E,
		     all),
		0);
	h = &a.head;
	assert_string_equal(h->etag, "W/\"x y\"");
	assert_string_equal(h->last_modified, "Sun, 06 Nov 1994 08:49:37 GMT");
	assert_string_equal(h->date, "d");
	assert_string_equal(h->age, "7");
	assert_string_equal(h->expires, "0");
	assert_string_equal(h->cache_control, "max-age=5, no-transform");
	assert_string_equal(h->content_type, "video/mp4");
	assert_string_equal(h->retry_after, "120");
	assert_string_equal(h->content_language, "en");
	assert_string_equal(h->content_encoding, "gzip");
	assert_string_equal(h->content_disposition, "inline");
}

/* Longest text, one byte more; a head that never ends. */
static void test_bounds(void **state)
{
	static char text[2 * TRANSFER_LINE_BYTES];
	struct answer_asked all = { 0, NONE, 0 };
	struct answer a;
	int rc = 0;

	(void)state;
	for (int more = 0; more < 2; more++) {
		int n = TRANSFER_ETAG_BYTES - 3 + more;

		(void)snprintf(text, sizeof(text), K "ETag: \"%0*d\"\r\n" E, n,
			       0);
		assert_int_equal(take(&a, text, all) == 0, more == 0);
		n = TRANSFER_LINE_BYTES - 1 + more;
		(void)snprintf(text, sizeof(text),
			       K "Content-Disposition: %0*d\r\n" E, n, 0);
		assert_int_equal(take(&a, text, all), 0);
		assert_int_equal(a.head.content_disposition[0] != '\0',
				 more == 0);
	}
	answer_init(&a);
	for (unsigned i = 0; rc == 0 && i < ANSWER_HEAD_BYTES; i++)
		rc = answer_line(&a, "X-Junk: 0123456789\r\n", 20);
	assert_true(rc < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

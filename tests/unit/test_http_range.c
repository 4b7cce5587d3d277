/* Byte ranges: RFC 9110 section 14. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/range.h"

#define MANY_MAX 8

static const struct {
	const char *header;
	uint64_t size;
	enum range_kind kind;
	size_t count;
	struct span spans[MANY_MAX];
} cases[] = {
	{ NULL, 1000, RANGE_NONE, 0, { { 0 } } },
	{ "bytes=0-", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=0-0", 1000, RANGE_ONE, 1, { { 0, 1 } } },
	{ "bytes=0-999", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=0-1000", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=999-", 1000, RANGE_ONE, 1, { { 999, 1000 } } },
	{ "bytes=1000-", 1000, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=1000-1001", 1000, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=-1", 1000, RANGE_ONE, 1, { { 999, 1000 } } },
	{ "bytes=-1000", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=-1001", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=-0", 1000, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=-00", 1000, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=007-008", 1000, RANGE_ONE, 1, { { 7, 9 } } },
	/* units and garbage */
	{ "BYTES=0-1", 1000, RANGE_ONE, 1, { { 0, 2 } } },
	{ "", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=,", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=-", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=5", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=5-2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=0-1,5-2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=a-b", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=0-1-2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=--1", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=+1-2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=0x1-2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=1 -2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=1- 2", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes =0-1", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes:0-1", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "items=0-1", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=0-1;2-3", 1000, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=\"0-1\"", 1000, RANGE_IGNORE, 0, { { 0 } } },
	/* blanks and empty elements belong to the list */
	{ "bytes= 0-1", 1000, RANGE_ONE, 1, { { 0, 2 } } },
	{ "bytes=,0-1 ,\t, ", 1000, RANGE_ONE, 1, { { 0, 2 } } },
	/* several */
	{ "bytes=0-0,-1", 1000, RANGE_MANY, 2, { { 0, 1 }, { 999, 1000 } } },
	{ "bytes=-1,0-0", 1000, RANGE_MANY, 2, { { 999, 1000 }, { 0, 1 } } },
	{ "bytes=0-1\t,  5-6", 1000, RANGE_MANY, 2, { { 0, 2 }, { 5, 7 } } },
	{ "bytes=0-1,2-3", 1000, RANGE_ONE, 1, { { 0, 4 } } },
	{ "bytes=2-3,0-1", 1000, RANGE_ONE, 1, { { 0, 4 } } },
	{ "bytes=0-1,3-4", 1000, RANGE_MANY, 2, { { 0, 2 }, { 3, 5 } } },
	{ "bytes=0-9,5-20", 1000, RANGE_ONE, 1, { { 0, 21 } } },
	{ "bytes=5-6,5-6", 1000, RANGE_ONE, 1, { { 5, 7 } } },
	{ "bytes=0-,5-6", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=50-60,0-5,61-70",
	  1000,
	  RANGE_MANY,
	  2,
	  { { 50, 71 }, { 0, 6 } } },
	{ "bytes=0-1,8-9,4-5,2-3,6-7", 1000, RANGE_ONE, 1, { { 0, 10 } } },
	{ "bytes=100-101,0-1,8-9,1-8",
	  1000,
	  RANGE_MANY,
	  2,
	  { { 100, 102 }, { 0, 10 } } },
	{ "bytes=0-1,1000-1001", 1000, RANGE_ONE, 1, { { 0, 2 } } },
	{ "bytes=1000-,0-1,-0", 1000, RANGE_ONE, 1, { { 0, 2 } } },
	{ "bytes=1000-,-0", 1000, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14",
	  1000,
	  RANGE_MANY,
	  8,
	  { { 0, 1 },
	    { 2, 3 },
	    { 4, 5 },
	    { 6, 7 },
	    { 8, 9 },
	    { 10, 11 },
	    { 12, 13 },
	    { 14, 15 } } },
	/* one more than may be, though they would join */
	{ "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8",
	  1000,
	  RANGE_IGNORE,
	  0,
	  { { 0 } } },
	/* empty objects */
	{ "bytes=0-", 0, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=0-0", 0, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=-0", 0, RANGE_UNSATISFIABLE, 0, { { 0 } } },
	{ "bytes=-1", 0, RANGE_IGNORE, 0, { { 0 } } },
	{ "bytes=0-,-1", 0, RANGE_IGNORE, 0, { { 0 } } },
	/* large numbers */
	{ "bytes=18446744073709551615-",
	  1000,
	  RANGE_UNSATISFIABLE,
	  0,
	  { { 0 } } },
	{ "bytes=18446744073709551616-",
	  1000,
	  RANGE_UNSATISFIABLE,
	  0,
	  { { 0 } } },
	{ "bytes=0-18446744073709551615", 1000, RANGE_ONE, 1, { { 0, 1000 } } },
	{ "bytes=0-99999999999999999999999",
	  1000,
	  RANGE_ONE,
	  1,
	  { { 0, 1000 } } },
	{ "bytes=-99999999999999999999999",
	  1000,
	  RANGE_ONE,
	  1,
	  { { 0, 1000 } } },
	{ "bytes=99999999999999999999999-99999999999999999999998",
	  1000,
	  RANGE_IGNORE,
	  0,
	  { { 0 } } },
	{ "bytes=99999999999999999999998-99999999999999999999999",
	  1000,
	  RANGE_UNSATISFIABLE,
	  0,
	  { { 0 } } },
	{ "bytes=5000000000-",
	  UINT64_C(6000000000),
	  RANGE_ONE,
	  1,
	  { { UINT64_C(5000000000), UINT64_C(6000000000) } } },
	{ "bytes=18446744073709551613-",
	  UINT64_MAX - 1,
	  RANGE_ONE,
	  1,
	  { { UINT64_MAX - 2, UINT64_MAX - 1 } } },
	{ "bytes=0-1", SIZE_UNKNOWN, RANGE_IGNORE, 0, { { 0 } } },
};

static void test_parse(void **state)
{
	struct span spans[MANY_MAX];
	size_t count;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		enum range_kind kind =
			range_parse(slice_of(cases[i].header), cases[i].size,
				    MANY_MAX, spans, &count);

		if (kind != cases[i].kind || count != cases[i].count)
			fail_msg("%s: kind %d, %zu ranges", cases[i].header,
				 (int)kind, count);
		for (size_t k = 0; k < count; k++) {
			if (spans[k].from != cases[i].spans[k].from ||
			    spans[k].to != cases[i].spans[k].to)
				fail_msg("%s: range %zu differs",
					 cases[i].header, k);
		}
	}
}

static void test_first_spec(void **state)
{
	static const struct {
		const char *header;
		bool found;
		struct range_spec spec;
	} firsts[] = {
		{ NULL, false, { { 0, 0 }, 0 } },
		{ "bytes=0-", true, { { 0, SIZE_UNKNOWN }, 0 } },
		{ "bytes=5-9", true, { { 5, 10 }, 0 } },
		{ "bytes=-9", true, { { 0, SIZE_UNKNOWN }, 9 } },
		{ "bytes=-0", true, { { 0, 1 }, 0 } },
		{ "bytes=-0,7-8", true, { { 7, 9 }, 0 } },
		{ "bytes=7-8,0-1", true, { { 7, 9 }, 0 } },
		{ "bytes=9-5", false, { { 0, 0 }, 0 } },
		{ "bytes=1-2,9-5", false, { { 0, 0 }, 0 } },
		{ "bytes=1-2,3-4,5-6", false, { { 0, 0 }, 0 } },
		{ "lines=1-2", false, { { 0, 0 }, 0 } },
		{ "bytes=1-9223372036854775806",
		  true,
		  { { 1, INT64_MAX }, 0 } },
		{ "bytes=1-9223372036854775807",
		  true,
		  { { 1, SIZE_UNKNOWN }, 0 } },
		{ "bytes=1-99999999999999999999999",
		  true,
		  { { 1, SIZE_UNKNOWN }, 0 } },
		{ "bytes=9223372036854775806-",
		  true,
		  { { INT64_MAX - 1, SIZE_UNKNOWN }, 0 } },
		{ "bytes=9223372036854775807-", true, { { 0, 1 }, 0 } },
		{ "bytes=99999999999999999999999-", true, { { 0, 1 }, 0 } },
		{ "bytes=99999999999999999999999-,4-",
		  true,
		  { { 4, SIZE_UNKNOWN }, 0 } },
		{ "bytes=-99999999999999999999999",
		  true,
		  { { 0, SIZE_UNKNOWN }, 0 } },
	};
	struct range_spec spec;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(firsts); i++) {
		bool found =
			range_first_spec(slice_of(firsts[i].header), 2, &spec);

		assert_int_equal(found, firsts[i].found);
		if (!found)
			continue;
		assert_int_equal(spec.suffix_bytes,
				 firsts[i].spec.suffix_bytes);
		assert_int_equal(spec.span.from, firsts[i].spec.span.from);
		assert_int_equal(spec.span.to, firsts[i].spec.span.to);
	}
}

static void test_content_range(void **state)
{
	char text[RANGE_TEXT_BYTES];
	size_t bytes;

	(void)state;
	bytes = range_format_content(text, (struct span){ 0, 100 }, 1000);
	assert_string_equal(text, "bytes 0-99/1000");
	assert_int_equal(bytes, strlen(text));
	bytes = range_format_content(text, (struct span){ 5, 6 }, SIZE_UNKNOWN);
	assert_string_equal(text, "bytes 5-5/*");
	assert_int_equal(bytes, strlen(text));
	bytes = range_format_content(
		text, (struct span){ UINT64_MAX - 1, UINT64_MAX },
		UINT64_MAX - 1);
	assert_string_equal(text, "bytes 18446744073709551614-"
				  "18446744073709551614/18446744073709551614");
	bytes = range_format_unsatisfied(text, 0);
	assert_string_equal(text, "bytes */0");
	assert_int_equal(bytes, strlen(text));
}

static void test_multipart(void **state)
{
	static const struct span spans[] = { { 0, 1 }, { 900, 1000 } };
	struct slice boundary = SLICE("edge");
	struct slice type = SLICE("video/mp4");
	uint64_t total;
	uint64_t sum = 0;
	char dst[256];
	int n;

	(void)state;
	n = range_part_head(dst, sizeof(dst), boundary, type, spans[1], 1000);
	assert_int_equal(n,
			 strlen("\r\n--edge\r\nContent-Type: video/mp4\r\n"
				"Content-Range: bytes 900-999/1000\r\n\r\n"));
	assert_memory_equal(dst,
			    "\r\n--edge\r\nContent-Type: video/mp4\r\n"
			    "Content-Range: bytes 900-999/1000\r\n\r\n",
			    (size_t)n);
	/* fits to the byte, or not at all */
	assert_int_equal(
		range_part_head(dst, (size_t)n, boundary, type, spans[1], 1000),
		n);
	assert_true(range_part_head(dst, (size_t)n - 1, boundary, type,
				    spans[1], 1000) < 0);
	n = range_part_tail(dst, sizeof(dst), boundary);
	assert_int_equal(n, 12);
	assert_memory_equal(dst, "\r\n--edge--\r\n", 12);
	assert_true(range_part_tail(dst, 11, boundary) < 0);

	for (int typed = 0; typed < 2; typed++) {
		struct slice t = typed ? type : SLICE_ABSENT;

		sum = 12;
		for (size_t i = 0; i < 2; i++) {
			n = range_part_head(dst, sizeof(dst), boundary, t,
					    spans[i], 1000);
			sum += (uint64_t)n + span_len(spans[i]);
		}
		assert_int_equal(range_multipart_bytes(boundary, t, spans, 2,
						       1000, &total),
				 0);
		assert_int_equal(total, sum);
	}
}

static void test_multipart_overflow(void **state)
{
	static const struct span spans[] = { { 0, UINT64_MAX - 2 },
					     { 0, UINT64_MAX - 2 } };
	uint64_t total;

	(void)state;
	assert_true(range_multipart_bytes(SLICE("b"), SLICE_ABSENT, spans, 1,
					  UINT64_MAX - 1, &total) < 0);
	assert_true(range_multipart_bytes(SLICE("b"), SLICE_ABSENT, spans, 2,
					  UINT64_MAX - 1, &total) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_first_spec),
		cmocka_unit_test(test_content_range),
		cmocka_unit_test(test_multipart),
		cmocka_unit_test(test_multipart_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

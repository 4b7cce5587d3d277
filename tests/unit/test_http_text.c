/* What is written: response heads, JSON, problems, Cache-Status; slices. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/cache_status.h"
#include "http/fields.h"
#include "http/json.h"
#include "http/problem.h"
#include "http/slice.h"
#include "http/status.h"

static void test_slices(void **state)
{
	static const struct {
		const char *digits;
		bool valid;
		uint64_t value;
	} numbers[] = {
		{ "0", true, 0 },
		{ "007", true, 7 },
		{ "18446744073709551614", true, UINT64_MAX - 1 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", true, UINT64_MAX },
		{ "184467440737095516150", true, UINT64_MAX },
		{ "99999999999999999999999999", true, UINT64_MAX },
		{ "", false, 0 },
		{ "-1", false, 0 },
		{ "1 ", false, 0 },
		{ "1/", false, 0 },
		{ "1:", false, 0 },
		{ "99999999999999999999999999x", false, 0 },
	};
	char dst[4];
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (slice_to_u64(slice_of(numbers[i].digits), &value) !=
		    numbers[i].valid)
			fail_msg("%s", numbers[i].digits);
		if (numbers[i].valid)
			assert_int_equal(value, numbers[i].value);
	}
	assert_true(slice_is(slice_trim(SLICE(" \t a b\t ")), "a b"));
	assert_true(slice_is(slice_trim(SLICE(" \t ")), ""));
	assert_true(slice_is_nocase(SLICE("aZ-0"), "Az-0"));
	assert_false(slice_is_nocase(SLICE("@["), "`{"));
	assert_false(slice_is_nocase(SLICE("a"), "ab"));
	assert_true(slice_starts(SLICE("abc"), SLICE("ab")));
	assert_false(slice_starts(SLICE("a"), SLICE("ab")));
	assert_int_equal(slice_copy(SLICE("abc"), dst, sizeof(dst)), 0);
	assert_string_equal(dst, "abc");
	assert_int_equal(slice_copy(SLICE("abcd"), dst, sizeof(dst)), -ENOSPC);
	assert_string_equal(dst, "");
	assert_int_equal(slice_copy(SLICE_ABSENT, dst, sizeof(dst)), 0);
	assert_string_equal(dst, "");
}

static void test_lists(void **state)
{
	static const struct {
		const char *list;
		const char *elements[4];
	} cases[] = {
		{ "", { NULL } },
		{ ",, ,", { NULL } },
		{ "a", { "a" } },
		{ "a,b", { "a", "b" } },
		{ " a\t, ,b ,", { "a", "b" } },
		{ "a=\"x,y\",b", { "a=\"x,y\"", "b" } },
		{ "\"\\\",\",b", { "\"\\\",\"", "b" } },
		{ "\"a,b", { "\"a,b" } },
		{ "a,\"\\", { "a", "\"\\" } },
	};
	struct slice element;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice rest = slice_of(cases[i].list);
		size_t n = 0;

		while (slice_next_element(&rest, &element)) {
			assert_non_null(cases[i].elements[n]);
			if (!slice_is(element, cases[i].elements[n]))
				fail_msg("%s", cases[i].list);
			n++;
		}
		assert_null(cases[i].elements[n]);
	}
	assert_true(slice_list_has(SLICE("a, Close"), "close"));
	assert_false(slice_list_has(SLICE("a, closed"), "close"));
}

static void test_response_head(void **state)
{
	static const char want[] = "HTTP/1.1 206 Partial Content\r\n"
				   "Accept-Ranges: bytes\r\n"
				   "ETag: \"a\tb\xff\"\r\n"
				   "Content-Length: 18446744073709551615\r\n"
				   "\r\n";
	char dst[sizeof(want) - 1];
	struct fields f;
	size_t bytes;

	(void)state;
	/* too small by every number of bytes, then just large enough */
	for (size_t room = 0; room <= sizeof(dst); room++) {
		int rc;

		fields_init(&f, dst, room);
		fields_status(&f, 206);
		FIELDS_LITERAL(&f, "Accept-Ranges: bytes\r\n");
		FIELDS_ADD(&f, "ETag", SLICE("\"a\tb\xff\""));
		FIELDS_ADD(&f, "Expires", SLICE(""));
		FIELDS_ADD(&f, "Expires", SLICE_ABSENT);
		FIELDS_ADD_U64(&f, "Content-Length", UINT64_MAX);
		rc = fields_end(&f, &bytes);
		assert_int_equal(rc, room < sizeof(dst) ? -ENOSPC : 0);
	}
	assert_int_equal(bytes, sizeof(dst));
	assert_memory_equal(dst, want, bytes);
}

static void test_no_response_splitting(void **state)
{
	static const char *const bad[] = { "a\r\nb", "a\n", "\r", "a\x01",
					   "a\x7f" };
	char dst[200];
	struct fields f;
	size_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		fields_init(&f, dst, sizeof(dst));
		FIELDS_ADD(&f, "X", slice_of(bad[i]));
		FIELDS_ADD(&f, "Y", SLICE("good"));
		assert_int_equal(fields_end(&f, &bytes), -EINVAL);
	}
	fields_init(&f, dst, sizeof(dst));
	FIELDS_ADD(&f, "X", slice_make("a\0b", 3));
	assert_int_equal(fields_end(&f, &bytes), -EINVAL);
}

static void test_status_lines(void **state)
{
	static const struct {
		int status;
		const char *line;
	} cases[] = {
		{ 200, "HTTP/1.1 200 OK\r\n\r\n" },
		{ 304, "HTTP/1.1 304 Not Modified\r\n\r\n" },
		{ 416, "HTTP/1.1 416 Range Not Satisfiable\r\n\r\n" },
		{ 499, "HTTP/1.1 499 Client Error\r\n\r\n" },
		{ 999, "HTTP/1.1 999 Unknown\r\n\r\n" },
	};
	char dst[100];
	struct fields f;
	size_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		fields_init(&f, dst, sizeof(dst));
		fields_status(&f, cases[i].status);
		assert_int_equal(fields_end(&f, &bytes), 0);
		assert_true(slice_is(slice_make(dst, bytes), cases[i].line));
	}
	for (int status = 0; status < 1000; status++)
		assert_true(strlen(status_reason(status)) > 0);
}

static void write_document(struct json *j)
{
	json_object(j);
	json_key(j, "a");
	json_array(j);
	json_u64(j, UINT64_MAX);
	json_i64(j, INT64_MIN);
	json_i64(j, 0);
	json_bool(j, true);
	json_bool(j, false);
	json_null(j);
	json_slice(j, SLICE_ABSENT);
	json_text(j, NULL);
	json_array_end(j);
	json_key(j, "b");
	json_object(j);
	json_object_end(j);
	json_key(j, "c");
	json_array(j);
	json_array(j);
	json_array_end(j);
	json_object(j);
	json_key(j, "d");
	json_text(j, "");
	json_object_end(j);
	json_array_end(j);
	json_object_end(j);
}

static void test_json_thousandths(void **state)
{
	static const struct {
		uint64_t value;
		const char *text;
	} numbers[] = {
		{ 0, "0" },
		{ 1, "0.001" },
		{ 10, "0.01" },
		{ 100, "0.1" },
		{ 999, "0.999" },
		{ 1000, "1" },
		{ 12340, "12.34" },
		{ 20000, "20" },
		{ 100001, "100.001" },
		{ UINT64_MAX, "18446744073709551.615" },
	};
	char dst[32];
	struct json j;
	size_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		json_init(&j, dst, sizeof(dst));
		json_thousandths(&j, numbers[i].value);
		assert_int_equal(json_end(&j, &bytes), 0);
		if (!slice_is(slice_make(dst, bytes), numbers[i].text))
			fail_msg("%.*s is not %s", (int)bytes, dst,
				 numbers[i].text);
	}
}

static void test_json(void **state)
{
	static const char want[] =
		"{\"a\":[18446744073709551615,-9223372036854775808,0,true,"
		"false,null,null,null],\"b\":{},\"c\":[[],{\"d\":\"\"}]}";
	char dst[sizeof(want) - 1];
	struct json j;
	size_t bytes = 0;

	(void)state;
	for (size_t room = 0; room < sizeof(dst); room++) {
		json_init(&j, dst, room);
		write_document(&j);
		assert_int_equal(json_end(&j, &bytes), -ENOSPC);
	}
	json_init(&j, dst, sizeof(dst));
	write_document(&j);
	assert_int_equal(json_end(&j, &bytes), 0);
	assert_true(slice_is(slice_make(dst, bytes), want));
}

static void test_json_lines(void **state)
{
	char dst[32];
	struct json j;
	size_t bytes;

	(void)state;
	json_init(&j, dst, sizeof(dst));
	json_array(&j);
	json_array_end(&j);
	json_newline(&j);
	json_u64(&j, 1);
	json_newline(&j);
	assert_int_equal(json_end(&j, &bytes), 0);
	assert_true(slice_is(slice_make(dst, bytes), "[]\n1\n"));
}

static void test_json_strings(void **state)
{
	static const struct {
		const char *text;
		const char *json;
	} cases[] = {
		{ "", "\"\"" },
		{ "plain ~", "\"plain ~\"" },
		{ "\"\\/", "\"\\\"\\\\/\"" },
		{ "\n\r\t\x01\x1f\x7f", "\"\\n\\r\\t\\u0001\\u001f\\u007f\"" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\xac",
		  "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\xac\"" },
		/* cut, alone, overlong, surrogate, too large */
		{ "a\xc3", "\"a\\ufffd\"" },
		{ "\xa4z", "\"\\ufffdz\"" },
		{ "\xc0\x80", "\"\\ufffd\\ufffd\"" },
		{ "\xe0\x80\x80", "\"\\ufffd\\ufffd\\ufffd\"" },
		{ "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"" },
		{ "\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" },
		{ "\xff", "\"\\ufffd\"" },
		{ "\xe2\x82", "\"\\ufffd\\ufffd\"" },
		{ "\xe2\x82z", "\"\\ufffd\\ufffdz\"" },
	};
	char dst[100];
	struct json j;
	size_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_init(&j, dst, sizeof(dst));
		json_text(&j, cases[i].text);
		assert_int_equal(json_end(&j, &bytes), 0);
		if (!slice_is(slice_make(dst, bytes), cases[i].json))
			fail_msg("%.*s", (int)bytes, dst);
	}
	json_init(&j, dst, sizeof(dst));
	json_slice(&j, slice_make("a\0b", 3));
	assert_int_equal(json_end(&j, &bytes), 0);
	assert_true(slice_is(slice_make(dst, bytes), "\"a\\u0000b\""));
}

static void test_problem(void **state)
{
	static const char want[] =
		"{\"type\":\"about:blank\",\"title\":\"Bad Request\","
		"\"status\":400,\"detail\":\"a \\\"b\\\"\"}\n";
	char dst[PROBLEM_BYTES_MAX];
	char detail[257];
	int n;

	(void)state;
	n = problem_format(dst, sizeof(dst), 400, "a \"b\"");
	assert_int_equal(n, sizeof(want) - 1);
	assert_memory_equal(dst, want, (size_t)n);
	assert_int_equal(problem_format(dst, (size_t)n, 400, "a \"b\""), n);
	assert_int_equal(problem_format(dst, (size_t)n - 1, 400, "a \"b\""),
			 -ENOSPC);
	n = problem_format(dst, sizeof(dst), 404, NULL);
	assert_true(slice_is(slice_make(dst, (size_t)n),
			     "{\"type\":\"about:blank\",\"title\":\"Not "
			     "Found\",\"status\":404}\n"));
	assert_int_equal(problem_format(dst, sizeof(dst), 404, ""), n);
	/* the promise of PROBLEM_BYTES_MAX */
	memset(detail, 1, 256);
	detail[256] = '\0';
	assert_true(problem_format(dst, sizeof(dst), 431, detail) > 256 * 6);
}

static void test_cache_status(void **state)
{
	static const struct {
		struct cache_status cs;
		const char *value;
	} cases[] = {
		{ { CACHE_STATUS_HIT, 0, 0, 0, 0, 0 }, "reelcache; hit" },
		{ { CACHE_STATUS_HIT, 200, 1, 1, 1, 30 },
		  "reelcache; hit; ttl=30" },
		{ { CACHE_STATUS_HIT, 0, 0, 0, 1, -412 },
		  "reelcache; hit; ttl=-412" },
		{ { CACHE_STATUS_HIT, 0, 0, 0, 1, INT64_MIN },
		  "reelcache; hit; ttl=-999999999999999" },
		{ { CACHE_STATUS_FWD_MISS, 0, 1, 1, 0, 0 },
		  "reelcache; fwd=uri-miss; stored; collapsed" },
		{ { CACHE_STATUS_FWD_MISS, 206, 1, 0, 1, 0 },
		  "reelcache; fwd=uri-miss; fwd-status=206; stored; ttl=0" },
		{ { CACHE_STATUS_FWD_PARTIAL, 0, 0, 1, 0, 0 },
		  "reelcache; fwd=partial; collapsed" },
		{ { CACHE_STATUS_FWD_STALE, 304, 0, 0, 0, 0 },
		  "reelcache; fwd=stale; fwd-status=304" },
		{ { CACHE_STATUS_FWD_BYPASS, 0, 0, 0, 0, 0 },
		  "reelcache; fwd=bypass" },
		{ { CACHE_STATUS_FWD_MISS, 999, 1, 1, 1, INT64_MAX },
		  "reelcache; fwd=uri-miss; fwd-status=999; stored; collapsed; "
		  "ttl=999999999999999" },
	};
	char dst[CACHE_STATUS_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t n = cache_status_format(dst, &cases[i].cs);

		assert_string_equal(dst, cases[i].value);
		assert_int_equal(n, strlen(dst));
	}
	assert_string_equal(cache_status_word(CACHE_STATUS_FWD_MISS),
			    "uri-miss");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_response_head),
		cmocka_unit_test(test_no_response_splitting),
		cmocka_unit_test(test_status_lines),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_thousandths),
		cmocka_unit_test(test_json_lines),
		cmocka_unit_test(test_json_strings),
		cmocka_unit_test(test_problem),
		cmocka_unit_test(test_cache_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

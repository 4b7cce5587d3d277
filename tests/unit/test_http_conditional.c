/* Entity tags and preconditions: RFC 9110 sections 8.8.3 and 13. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/conditional.h"
#include "http/etag.h"

static void test_etag_parse(void **state)
{
	static const struct {
		const char *text;
		bool valid;
		bool weak;
		const char *opaque;
	} cases[] = {
		{ "\"a\"", true, false, "\"a\"" },
		{ "\"\"", true, false, "\"\"" },
		{ "W/\"a\"", true, true, "\"a\"" },
		{ "\"a,b\\\"", true, false, "\"a,b\\\"" },
		{ "\"\xc3\xa4\"", true, false, "\"\xc3\xa4\"" },
		{ "", false, false, NULL },
		{ "a", false, false, NULL },
		{ "\"a", false, false, NULL },
		{ "a\"", false, false, NULL },
		{ "\"", false, false, NULL },
		{ "W/", false, false, NULL },
		{ "W/a", false, false, NULL },
		{ "w/\"a\"", false, false, NULL },
		{ "W/ \"a\"", false, false, NULL },
		{ "\"a b\"", false, false, NULL },
		{ "\"a\"b\"", false, false, NULL },
		{ "\"a\" ", false, false, NULL },
		{ "\"a\",\"b\"", false, false, NULL },
		{ "\"a\x7f\"", false, false, NULL },
		{ "*", false, false, NULL },
	};
	struct etag tag;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (etag_parse(slice_of(cases[i].text), &tag) != cases[i].valid)
			fail_msg("%s", cases[i].text);
		if (!cases[i].valid)
			continue;
		assert_int_equal(tag.weak, cases[i].weak);
		assert_true(slice_is(tag.opaque, cases[i].opaque));
	}
	assert_false(etag_parse(SLICE_ABSENT, &tag));
}

/* The table of RFC 9110 section 8.8.3.2. */
static void test_etag_compare(void **state)
{
	static const struct {
		const char *a;
		const char *b;
		bool strong;
		bool weak;
	} cases[] = {
		{ "W/\"1\"", "W/\"1\"", false, true },
		{ "W/\"1\"", "W/\"2\"", false, false },
		{ "W/\"1\"", "\"1\"", false, true },
		{ "\"1\"", "W/\"1\"", false, true },
		{ "\"1\"", "\"1\"", true, true },
	};
	struct etag a;
	struct etag b;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_true(etag_parse(slice_of(cases[i].a), &a));
		assert_true(etag_parse(slice_of(cases[i].b), &b));
		assert_int_equal(etag_same_strong(&a, &b), cases[i].strong);
		assert_int_equal(etag_same_weak(&a, &b), cases[i].weak);
	}
}

static void test_etag_list(void **state)
{
	static const struct {
		const char *list;
		size_t count;
		enum etag_step end;
	} cases[] = {
		{ "", 0, ETAG_END },
		{ " , ,", 0, ETAG_END },
		{ "\"a\"", 1, ETAG_END },
		{ "\"a\", W/\"b\" ,\"c,d\"\t,", 3, ETAG_END },
		{ "\"a\" \"b\"", 0, ETAG_BAD },
		{ "\"a\",b", 1, ETAG_BAD },
		{ "\"a\",*", 1, ETAG_BAD },
		{ "\"a\",\"b", 1, ETAG_BAD },
	};
	struct etag tag;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice rest = slice_of(cases[i].list);
		size_t count = 0;
		enum etag_step step;

		while ((step = etag_next(&rest, &tag)) == ETAG_FOUND)
			count++;
		if (step != cases[i].end || count != cases[i].count)
			fail_msg("%s: %zu", cases[i].list, count);
	}
}

#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define SAME   "Sun, 06 Nov 1994 08:49:37 GMT"
#define AFTER  "Sun, 06 Nov 1994 08:49:38 GMT"
#define SAME_S 784111777

static void parse(struct head *h, char *bytes, size_t max, const char *lines)
{
	int n = snprintf(bytes, max, "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n",
			 lines);

	assert_in_range(n, 1, max - 1);
	head_init(h);
	assert_int_equal(head_parse(h, bytes, (size_t)n), HEAD_DONE);
}

static void test_check(void **state)
{
	const struct conditional_object strong = {
		.etag = SLICE("\"v1\""),
		.last_modified = SLICE(SAME),
		.date_s = SAME_S + 100,
		.now_s = SAME_S + 1000,
	};
	const struct conditional_object weak = {
		.etag = SLICE("W/\"v1\""),
		.now_s = SAME_S,
	};
	const struct conditional_object bare = {
		.etag = SLICE(""),
		.now_s = SAME_S,
	};
	const struct {
		const struct conditional_object *o;
		const char *lines;
		enum conditional_verdict verdict;
	} cases[] = {
		{ &strong, "", CONDITIONAL_SEND },
		/* If-None-Match */
		{ &strong, "If-None-Match: \"v1\"\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-None-Match: W/\"v1\"\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &weak, "If-None-Match: \"v1\"\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-None-Match: \"v2\"\r\n", CONDITIONAL_SEND },
		{ &strong, "If-None-Match: \"v2\", \"v1\"\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-None-Match: \"v2\"\r\nIf-None-Match: \"v1\"\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-None-Match: *\r\n", CONDITIONAL_NOT_MODIFIED },
		{ &bare, "If-None-Match: *\r\n", CONDITIONAL_NOT_MODIFIED },
		{ &bare, "If-None-Match: \"v1\"\r\n", CONDITIONAL_SEND },
		{ &strong, "If-None-Match: v1\r\n", CONDITIONAL_SEND },
		{ &strong, "If-None-Match: \"v1\" \"v2\"\r\n",
		  CONDITIONAL_SEND },
		{ &strong, "If-None-Match:\r\n", CONDITIONAL_SEND },
		/* If-Modified-Since */
		{ &strong, "If-Modified-Since: " BEFORE "\r\n",
		  CONDITIONAL_SEND },
		{ &strong, "If-Modified-Since: " SAME "\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-Modified-Since: " AFTER "\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-Modified-Since: yesterday\r\n",
		  CONDITIONAL_SEND },
		{ &bare, "If-Modified-Since: " AFTER "\r\n", CONDITIONAL_SEND },
		/* If-None-Match wins */
		{ &strong,
		  "If-None-Match: \"v2\"\r\nIf-Modified-Since: " SAME "\r\n",
		  CONDITIONAL_SEND },
		{ &strong,
		  "If-None-Match: \"v1\"\r\nIf-Modified-Since: " BEFORE "\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		/* If-Match */
		{ &strong, "If-Match: \"v1\"\r\n", CONDITIONAL_SEND },
		{ &strong, "If-Match: \"v2\",\"v1\"\r\n", CONDITIONAL_SEND },
		{ &strong, "If-Match: \"v2\"\r\nIf-Match: \"v1\"\r\n",
		  CONDITIONAL_SEND },
		{ &strong, "If-Match: W/\"v1\"\r\n", CONDITIONAL_FAILED },
		{ &weak, "If-Match: W/\"v1\"\r\n", CONDITIONAL_FAILED },
		{ &weak, "If-Match: \"v1\"\r\n", CONDITIONAL_FAILED },
		{ &strong, "If-Match: \"v2\"\r\n", CONDITIONAL_FAILED },
		{ &strong, "If-Match: *\r\n", CONDITIONAL_SEND },
		{ &bare, "If-Match: *\r\n", CONDITIONAL_SEND },
		{ &bare, "If-Match: \"v1\"\r\n", CONDITIONAL_FAILED },
		{ &strong, "If-Match: v1\r\n", CONDITIONAL_FAILED },
		/* If-Unmodified-Since */
		{ &strong, "If-Unmodified-Since: " BEFORE "\r\n",
		  CONDITIONAL_FAILED },
		{ &strong, "If-Unmodified-Since: " SAME "\r\n",
		  CONDITIONAL_SEND },
		{ &strong, "If-Unmodified-Since: " AFTER "\r\n",
		  CONDITIONAL_SEND },
		{ &strong, "If-Unmodified-Since: never\r\n", CONDITIONAL_SEND },
		{ &bare, "If-Unmodified-Since: " BEFORE "\r\n",
		  CONDITIONAL_SEND },
		/* If-Match wins; both then go on to step 3 */
		{ &strong,
		  "If-Match: \"v1\"\r\nIf-Unmodified-Since: " BEFORE "\r\n",
		  CONDITIONAL_SEND },
		{ &strong, "If-Match: \"v1\"\r\nIf-None-Match: \"v1\"\r\n",
		  CONDITIONAL_NOT_MODIFIED },
		{ &strong, "If-Match: \"v2\"\r\nIf-None-Match: \"v1\"\r\n",
		  CONDITIONAL_FAILED },
		{ &strong,
		  "If-Unmodified-Since: " SAME "\r\n"
		  "If-Modified-Since: " SAME "\r\n",
		  CONDITIONAL_NOT_MODIFIED },
	};
	struct head h;
	char bytes[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		parse(&h, bytes, sizeof(bytes), cases[i].lines);
		if (conditional_check(&h, cases[i].o) != cases[i].verdict)
			fail_msg("case %zu: %s", i, cases[i].lines);
	}
}

static void test_if_range(void **state)
{
	const struct {
		const char *value; /* NULL: no If-Range */
		const char *etag;
		const char *last_modified;
		int64_t date_s;
		bool counts;
	} cases[] = {
		{ NULL, NULL, NULL, 0, true },
		{ "\"v1\"", "\"v1\"", NULL, 0, true },
		{ "\"v2\"", "\"v1\"", SAME, SAME_S + 9, false },
		{ "W/\"v1\"", "\"v1\"", NULL, 0, false },
		{ "\"v1\"", "W/\"v1\"", NULL, 0, false },
		{ "W/\"v1\"", "W/\"v1\"", NULL, 0, false },
		{ "\"v1\"", NULL, NULL, 0, false },
		{ "\"v1\"", "", "", 0, false },
		{ "*", "\"v1\"", NULL, 0, false },
		{ "v1", "\"v1\"", NULL, 0, false },
		{ "\"v1\", \"v2\"", "\"v1\"", NULL, 0, false },
		{ "", "\"v1\"", SAME, SAME_S + 9, false },
		{ SAME, NULL, SAME, SAME_S + 1, true },
		{ SAME, "\"v1\"", SAME, SAME_S + 1, true },
		{ SAME, NULL, SAME, SAME_S, false },
		{ SAME, NULL, SAME, SAME_S - 1, false },
		{ BEFORE, NULL, SAME, SAME_S + 9, false },
		{ AFTER, NULL, SAME, SAME_S + 9, false },
		{ SAME, "\"v1\"", NULL, SAME_S + 9, false },
		{ "Sunday, 06-Nov-94 08:49:37 GMT", NULL, SAME, SAME_S + 9,
		  true },
	};
	struct head h;
	char bytes[400];
	char line[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conditional_object o = {
			.etag = slice_of(cases[i].etag),
			.last_modified = slice_of(cases[i].last_modified),
			.date_s = cases[i].date_s,
			.now_s = SAME_S + 1000,
		};

		line[0] = '\0';
		if (cases[i].value != NULL)
			(void)snprintf(line, sizeof(line), "If-Range: %s\r\n",
				       cases[i].value);
		parse(&h, bytes, sizeof(bytes), line);
		if (conditional_range_counts(&h, &o) != cases[i].counts)
			fail_msg("case %zu: %s", i, line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_etag_parse),
		cmocka_unit_test(test_etag_compare),
		cmocka_unit_test(test_etag_list),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_if_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

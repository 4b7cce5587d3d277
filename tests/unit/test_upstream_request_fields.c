/* Fields that a resolution wants in requests: which are taken, and that the
 * text says no more than they do. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "upstream/request_fields.h"

static void test_lines(void **state)
{
	char text[REQUEST_FIELDS_BYTES] = "", line[REQUEST_FIELDS_BYTES];
	const char *at = text;

	(void)state;
	assert_int_equal(request_fields_next(&at, line), 0);
	assert_int_equal(request_fields_add(text, "Referer", "http://h/a b"),
			 0);
	assert_int_equal(request_fields_add(text, "X-1", "a\tb: c"), 0);
	assert_string_equal(text, "Referer: http://h/a b\nX-1: a\tb: c\n");
	assert_int_equal(request_fields_next(&at, line), 21);
	assert_string_equal(line, "Referer: http://h/a b");
	assert_int_equal(request_fields_next(&at, line), 11);
	assert_string_equal(line, "X-1: a\tb: c");
	assert_int_equal(request_fields_next(&at, line), 0);
	assert_int_equal(request_fields_next(&at, line), 0);
}

static void test_none_twice(void **state)
{
	char text[REQUEST_FIELDS_BYTES] = "";

	(void)state;
	assert_int_equal(request_fields_add(text, "Cookie-2", "1"), 0);
	assert_int_equal(request_fields_add(text, "Cookie", "a=b"), 0);
	assert_int_equal(request_fields_add(text, "cOOKIE", "c=d"), -EEXIST);
	assert_int_equal(request_fields_add(text, "cookie-2", "2"), -EEXIST);
	assert_int_equal(request_fields_add(text, "Cook", "1"), 0);
	assert_int_equal(request_fields_add(text, "a", "1"), 0);
	assert_string_equal(text, "Cookie-2: 1\nCookie: a=b\nCook: 1\na: 1\n");
}

static void test_refused(void **state)
{
	static const char *const names[] = {
		"",
		" Referer",
		"Referer ",
		"Re ferer",
		"Referer:",
		"R\nX",
		"R\x01",
		"R\xc3\xa4",
		"Range",
		"range",
		"If-Range",
		"if-none-match",
		"Host",
		"Connection",
		"TE",
		"Content-Length",
		"Content-Type",
		"Expect",
		"Upgrade",
		"Proxy-Authorization",
		"Accept-Encoding",
		"Transfer-Encoding",
		"Keep-Alive",
		"Trailer",
		"HTTP2-Settings",
		"If-Modified-Since",
	};
	static const char *const values[] = {
		"",     " ",         " a",  "a ",   "\ta",   "a\t",
		"a\nb", "a\r\nX: y", "a\r", "\x01", "a\x7f", "a\n",
	};
	char text[REQUEST_FIELDS_BYTES] = "";

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(names); n++)
		if (request_fields_add(text, names[n], "x") != -EINVAL)
			fail_msg("taken: \"%s\"", names[n]);
	for (size_t n = 0; n < ARRAY_LEN(values); n++)
		if (request_fields_add(text, "X", values[n]) != -EINVAL)
			fail_msg("value %zu is taken", n);
	assert_string_equal(text, "");
	assert_int_equal(request_fields_add(text, "Accept", "*/*"), 0);
	assert_int_equal(request_fields_add(text, "IfX", "1"), 0);
	assert_int_equal(request_fields_add(text, "Ranges", "1"), 0);
	assert_int_equal(request_fields_add(text, "X", "\xc3\xa4"), 0);
}

/* The memory is just as long as it must be: the sanitizer sees a byte too
 * far. */
static void test_full(void **state)
{
	char *text = calloc(1, REQUEST_FIELDS_BYTES);
	char *line = malloc(REQUEST_FIELDS_BYTES);
	char value[REQUEST_FIELDS_BYTES + 1];
	const char *at = text;
	size_t most = REQUEST_FIELDS_BYTES - strlen("A: \n") - 1;

	(void)state;
	assert_non_null(text);
	assert_non_null(line);
	memset(value, 'x', sizeof(value));
	value[REQUEST_FIELDS_BYTES] = '\0';
	assert_int_equal(request_fields_add(text, "A", value), -ENOSPC);
	value[most + 1] = '\0';
	assert_int_equal(request_fields_add(text, "A", value), -ENOSPC);
	assert_string_equal(text, "");
	value[most] = '\0';
	assert_int_equal(request_fields_add(text, "A", value), 0);
	assert_int_equal(strlen(text), REQUEST_FIELDS_BYTES - 1);
	assert_int_equal(request_fields_add(text, "B", "1"), -ENOSPC);
	assert_int_equal(request_fields_next(&at, line), most + 3);
	assert_int_equal(request_fields_next(&at, line), 0);
	free(text);
	free(line);
}

/* A text that was not made here, as from a damaged record. */
static void test_damaged(void **state)
{
	char line[REQUEST_FIELDS_BYTES];
	char text[REQUEST_FIELDS_BYTES + 1];
	const char *at = "A: b\r\nC: d\n";

	(void)state;
	assert_int_equal(request_fields_next(&at, line), -EINVAL);
	memset(text, 'x', sizeof(text) - 1);
	text[REQUEST_FIELDS_BYTES] = '\0';
	at = text;
	assert_int_equal(request_fields_next(&at, line), -EINVAL);
	at = "A: b";
	assert_int_equal(request_fields_next(&at, line), 4);
	assert_int_equal(request_fields_next(&at, line), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_none_twice),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

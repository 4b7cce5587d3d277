/* Requests of HTTP/2 as text for the one strict parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/h2_inner.h"

#define FIELDS 8

struct field {
	const char *name;
	const char *value;
};

/* Lets *r have them; *text is to be freed after *h was looked at. */
static enum head_outcome parse(const struct field *fields, struct head *h,
			       char **text)
{
	struct h2_request *r = h2_request_new();
	enum head_outcome outcome = HEAD_MORE;

	assert_non_null(r);
	for (; fields->name != NULL; fields++)
		assert_true(h2_request_add(r, slice_of(fields->name),
					   slice_of(fields->value)));
	assert_int_equal(h2_request_parse(r, h, text, &outcome), 0);
	h2_request_free(r);
	return outcome;
}

#define M(v)                                                                   \
	{                                                                      \
		":method", v                                                   \
	}
#define S                                                                      \
	{                                                                      \
		":scheme", "https"                                             \
	}
#define P(v)                                                                   \
	{                                                                      \
		":path", v                                                     \
	}
#define A(v)                                                                   \
	{                                                                      \
		":authority", v                                                \
	}
#define T(v)                                                                   \
	{                                                                      \
		":protocol", v                                                 \
	}

static const struct {
	struct field fields[FIELDS];
	int status; /* 0 = it is a request */
	enum head_method method;
	const char *target;
	const char *host;
} cases[] = {
	/* all combinations of pseudo fields; nghttp2 refuses most of those
	 * that are none before us */
	{ { M("GET"), S, P("/a?b"), A("h") }, 0, METHOD_GET, "/a?b", "h" },
	{ { A("h"), P("/a"), S, M("HEAD") }, 0, METHOD_HEAD, "/a", "h" },
	{ { M("GET"), S, P("/a"), { "host", "i" } }, 0, METHOD_GET, "/a", "i" },
	{ { M("GET"), S, P("/a"), A("h"), { "host", "i" } },
	  0,
	  METHOD_GET,
	  "/a",
	  "h" },
	{ { M("GET"), S, P("/a") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, P(""), A("h") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, P("a"), A("h") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, P("/a b"), A("h") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, P("/ HTTP/1.1"), A("h") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, A("h") }, 400, 0, NULL, NULL },
	{ { M(""), S, P("/a"), A("h") }, 400, 0, NULL, NULL },
	{ { S, P("/a"), A("h") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, P("/a"), A("") }, 400, 0, NULL, NULL },
	{ { M("GET"), S, P("/a"), A("a b") }, 400, 0, NULL, NULL },
	{ { { "x", "y" } }, 400, 0, NULL, NULL },
	{ { { NULL, NULL } }, 400, 0, NULL, NULL },
	/* RFC 8441 */
	{ { M("CONNECT"), S, P("/a"), A("h"), T("websocket") },
	  0,
	  METHOD_GET,
	  "/a",
	  "h" },
	{ { M("CONNECT"), S, P("/a"), A("h"), T("connect-udp") },
	  501,
	  0,
	  NULL,
	  NULL },
	{ { M("CONNECT"), S, P("/a"), A("h"), T("") }, 501, 0, NULL, NULL },
	{ { M("GET"), S, P("/a"), A("h"), T("websocket") },
	  400,
	  0,
	  NULL,
	  NULL },
	/* a field may be like a pseudo field, but is none */
	{ { M("GET"), S, P("/a"), A("h"), { ":other", "x" } },
	  0,
	  METHOD_GET,
	  "/a",
	  "h" },
};

static void test_pseudo_fields(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct head h;
		char *text = NULL;
		enum head_outcome outcome = parse(cases[n].fields, &h, &text);

		if (cases[n].status != 0) {
			if (outcome != HEAD_BAD || h.status != cases[n].status)
				fail_msg("case %zu: %d, %d", n, outcome,
					 h.status);
			assert_non_null(h.reason);
		} else {
			if (outcome != HEAD_DONE)
				fail_msg("case %zu: %d %s", n, h.status,
					 h.reason);
			assert_true(h.http2);
			assert_int_equal(h.method, cases[n].method);
			assert_true(slice_is(head_target(&h), cases[n].target));
			assert_true(slice_is(head_host(&h), cases[n].host));
		}
		free(text);
	}
}

static void test_fields_come_through(void **state)
{
	static const struct field fields[] = {
		M("POST"),
		S,
		P("/a"),
		A("h"),
		{ "range", "bytes=1-2" },
		{ "cookie", "a=b" },
		{ "content-length", "7" },
		{ "if-none-match", "\"x\"" },
		{ "cookie", "c=d" },
		{ NULL, NULL },
	};
	struct head h;
	char *text;

	(void)state;
	assert_int_equal(parse(fields, &h, &text), HEAD_DONE);
	assert_true(slice_is(head_field(&h, FIELD_RANGE), "bytes=1-2"));
	assert_true(slice_is(head_field(&h, FIELD_IF_NONE_MATCH), "\"x\""));
	assert_int_equal(h.content_length, 7);
	assert_null(memmem(text, h.head_bytes, "cookie", 6));
	free(text);
}

static void test_websocket(void **state)
{
	static const struct field fields[] = {
		M("CONNECT"),   S,
		P("/a"),        A("h"),
		T("websocket"), { "sec-websocket-version", "13" },
		{ NULL, NULL },
	};
	struct head h;
	char *text;

	(void)state;
	assert_int_equal(parse(fields, &h, &text), HEAD_DONE);
	assert_true(slice_is(head_field(&h, FIELD_UPGRADE), "websocket"));
	assert_true(
		slice_is(head_field(&h, FIELD_SEC_WEBSOCKET_VERSION), "13"));
	free(text);
}

static void test_limits(void **state)
{
	static char long_value[HEAD_BYTES_MAX];
	struct h2_request *r = h2_request_new();
	enum head_outcome outcome;
	struct head h;
	char *text;
	unsigned n;

	(void)state;
	assert_non_null(r);
	memset(long_value, 'x', sizeof(long_value));
	assert_true(h2_request_add(r, SLICE(":method"), SLICE("GET")));
	assert_true(h2_request_add(r, SLICE("a"),
				   slice_make(long_value, sizeof(long_value))));
	assert_int_equal(h2_request_parse(r, &h, &text, &outcome), 0);
	assert_int_equal(outcome, HEAD_BAD);
	assert_int_equal(h.status, 431);
	free(text);
	/* what is left out counts, too */
	for (n = 0; n < 100; n++)
		if (!h2_request_add(r, SLICE("cookie"),
				    slice_make(long_value, 4000)))
			break;
	assert_in_range(n, 2, 20);
	h2_request_free(r);
	h2_request_free(NULL);
}

static void test_priority(void **state)
{
	struct h2_request *r = h2_request_new();

	(void)state;
	assert_non_null(r);
	assert_false(slice_present(h2_request_priority(r)));
	assert_true(h2_request_add(r, SLICE(":method"), SLICE("GET")));
	assert_true(h2_request_add(r, SLICE("accept"), SLICE("*/*")));
	assert_true(h2_request_add(r, SLICE("priority"), SLICE("u=1, i")));
	assert_true(h2_request_add(r, SLICE("x"), SLICE("y")));
	assert_true(slice_is(h2_request_priority(r), "u=1, i"));
	h2_request_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pseudo_fields),
		cmocka_unit_test(test_fields_come_through),
		cmocka_unit_test(test_websocket),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_priority),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

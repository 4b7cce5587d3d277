/* Messages of the protocol reelcache.v1: what is taken, what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/control_parse.h"

static struct control_message m;
static const char *fault;

/* The bytes lie in memory of their own, so that one too far is seen. */
static int parse(const char *text)
{
	size_t bytes = strlen(text);
	char *copy = malloc(bytes + (bytes == 0));
	int rc;

	assert_non_null(copy);
	memcpy(copy, text, bytes);
	fault = NULL;
	rc = control_parse(&m, copy, bytes, &fault);
	free(copy);
	return rc;
}

static void good(const char *text, enum control_type type)
{
	if (parse(text) != 0)
		fail_msg("%s: %s", text, fault);
	assert_int_equal(m.type, type);
}

static void bad(const char *text, const char *word)
{
	if (parse(text) != -EINVAL || strstr(fault, word) == NULL)
		fail_msg("%s: %s", text, fault);
}

static void test_all_types(void **state)
{
	(void)state;
	good("{\"type\":\"PING\"}", CONTROL_PING);
	assert_false(m.has_request);
	good(" {\"type\" : \"PING\", \"request\": 4294967295, \"x\": [1,{}]} ",
	     CONTROL_PING);
	assert_true(m.has_request);
	assert_true(m.request == UINT32_MAX);
	good("{\"type\":\"RESOLVE\",\"request\":0,\"id\":\"a\\u0020b\","
	     "\"source\":\"s\"}",
	     CONTROL_RESOLVE);
	assert_string_equal(m.id, "a b");
	assert_string_equal(m.source, "s");
	assert_string_equal(m.quality, "");
	good("{\"type\":\"PREFETCH\",\"request\":1,\"id\":\"a\",\"q\":\"720p\","
	     "\"start\":1.5,\"seconds\":30,\"deadline\":0.0004,\"bytes\":9}",
	     CONTROL_PREFETCH);
	assert_string_equal(m.quality, "720p");
	assert_true(m.start_ms == 1500 && m.seconds_ms == 30000 &&
		    m.deadline_ms == 0 && m.bytes == 9);
	good("{\"type\":\"PREFETCH_PROGRESS\",\"request\":1,\"id\":\"a\"}",
	     CONTROL_PREFETCH_PROGRESS);
	assert_true(m.start_ms == CONTROL_NOT_GIVEN &&
		    m.bytes == CONTROL_NOT_GIVEN);
	good("{\"type\":\"PREFETCH_CANCEL\",\"request\":1,\"id\":\"a\"}",
	     CONTROL_PREFETCH_CANCEL);
	good("{\"type\":\"SUBSCRIBE\",\"topic\":\"stats\",\"interval_s\":60}",
	     CONTROL_SUBSCRIBE);
	assert_true(m.interval_s == 60);
	good("{\"type\":\"UNSUBSCRIBE\",\"topic\":\"stats\"}",
	     CONTROL_UNSUBSCRIBE);
	good("{\"type\":\"REQUEST_VIDEO_CHUNK\",\"request\":1,\"id\":\"a\","
	     "\"offset\":4611686018427387904,\"length\":1,"
	     "\"encoding\":\"base64\",\"credit\":0}",
	     CONTROL_CHUNK);
	assert_true(m.offset == CONTROL_OFFSET_MAX && m.length == 1 &&
		    m.base64 && m.credit == 0);
	good("{\"type\":\"REQUEST_VIDEO_CHUNK\",\"request\":1,\"id\":\"a\","
	     "\"offset\":0,\"encoding\":\"binary\"}",
	     CONTROL_CHUNK);
	assert_true(m.length == CONTROL_NOT_GIVEN && !m.base64 &&
		    m.credit == CONTROL_NOT_GIVEN);
	good("{\"type\":\"CREDIT\",\"request\":1,\"bytes\":5}", CONTROL_CREDIT);
	good("{\"type\":\"CANCEL\",\"request\":1}", CONTROL_CANCEL);
}

#define CHUNK "{\"type\":\"REQUEST_VIDEO_CHUNK\",\"request\":1,\"id\":\"a\","

static void test_refused(void **state)
{
	char text[300] = "{\"type\":\"RESOLVE\",\"request\":1,\"id\":\"";

	(void)state;
	bad("", "JSON");
	bad("{", "JSON");
	bad("[{\"type\":\"PING\"}]", "JSON");
	bad("{\"type\":\"PING\"}}", "JSON");
	bad("{'type':'PING'}", "JSON");
	bad("{\"type\":\"PI\xff\"}", "JSON");
	bad("{\"a\":[[[[[[[[[[1]]]]]]]]]],\"type\":\"PING\"}", "JSON");
	bad("{}", "type");
	bad("{\"type\":null}", "type");
	bad("{\"type\":\"ping\"}", "no such type");
	bad("{\"type\":\"PING\",\"request\":1.0}", "request");
	bad("{\"type\":\"PING\",\"request\":4294967296}", "request");
	bad("{\"type\":\"RESOLVE\",\"id\":\"a\"}", "request");
	bad("{\"type\":\"RESOLVE\",\"request\":1}", "id");
	bad("{\"type\":\"RESOLVE\",\"request\":1,\"id\":\"a\\u0000b\"}", "id");
	assert_true(m.has_request && m.request == 1);
	bad("{\"type\":\"PREFETCH\",\"request\":1,\"id\":\"a\",\"start\":-1}",
	    "start");
	bad("{\"type\":\"PREFETCH\",\"request\":1,\"id\":\"a\",\"start\":1e99}",
	    "start");
	bad("{\"type\":\"PREFETCH\",\"request\":1,\"id\":\"a\",\"start\":"
	    "\"1\"}",
	    "start");
	assert_int_equal(parse("{\"type\":\"PREFETCH\",\"request\":1,"
			       "\"id\":\"a\",\"start\":NaN}"),
			 -EINVAL);
	bad("{\"type\":\"SUBSCRIBE\",\"topic\":\"room\"}", "topic");
	bad("{\"type\":\"SUBSCRIBE\",\"topic\":\"stats\",\"interval_s\":61}",
	    "interval_s");
	bad(CHUNK "\"length\":1}", "offset");
	bad(CHUNK "\"offset\":4611686018427387905}", "offset");
	bad(CHUNK "\"offset\":99999999999999999999999}", "offset");
	bad(CHUNK "\"offset\":0,\"length\":0}", "length");
	bad(CHUNK "\"offset\":0,\"encoding\":\"\"}", "encoding");
	bad(CHUNK "\"offset\":0,\"encoding\":\"gzip\"}", "encoding");
	bad(CHUNK "\"offset\":0,\"credit\":16777217}", "credit");
	bad("{\"type\":\"CREDIT\",\"request\":1}", "bytes");
	bad("{\"type\":\"CANCEL\"}", "request");
	/* an id of 128 bytes, and one of 129 */
	memset(text + strlen(text), 'x', 128);
	strcat(text, "\"}");
	good(text, CONTROL_RESOLVE);
	text[strlen(text) - 2] = '\0';
	strcat(text, "x\"}");
	bad(text, "id");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_types),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Transfers from an origin that does everything wrong. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#include "upstream/transfer.h"
#include "upstream_origin.h"

enum where { NOWHERE, IN_HEAD, IN_BODY, IN_TURN, IN_END };

/* One transfer and what was seen of it; `say` at `at`. */
struct seen {
	struct transfer *t;
	struct transfer_head head;
	enum transfer_end how;
	char reason[512];
	uint8_t *bytes;
	size_t used;
	unsigned heads, bodies, turns, ends;
	bool aborted;
	/* script */
	enum where pause_in, stop_in, abort_in;
	unsigned pause_each;       /* body calls: every n-th pauses */
	struct transfer_want next; /* begun from end when it has a URL */
	struct seen *next_seen;
};

static struct origin origin;
static struct event_base *base;
static struct upstream *up;
static const struct upstream_opts patient = {
	.connect_timeout_ms = 9000,
	.first_byte_timeout_ms = 9000,
	.stall_timeout_ms = 9000,
	.connections = 4,
	.redirects = 3,
	.user_agent = "tester/1",
};
/* for tests of timers: each is far from the others */
static const struct upstream_opts quick = {
	.connect_timeout_ms = 2400,
	.first_byte_timeout_ms = 1000,
	.stall_timeout_ms = 500,
	.connections = 4,
	.redirects = 3,
	.user_agent = "tester/1",
};

static const char *url(const char *path)
{
	static char text[8][640];
	static unsigned at;
	char *dst = text[at++ % ARRAY_LEN(text)];

	(void)snprintf(dst, sizeof(text[0]), "http://127.0.0.1:%u%s",
		       origin.port, path);
	return dst;
}

static void begin(struct seen *s, const struct transfer_want *want);

static enum transfer_next script(struct seen *s, enum where here)
{
	if (s->abort_in == here) {
		s->aborted = true;
		transfer_abort(s->t);
		return TRANSFER_GO;
	}
	if (s->stop_in == here)
		return TRANSFER_STOP;
	if (s->pause_in == here) {
		s->pause_in = NOWHERE;
		return TRANSFER_PAUSE;
	}
	return TRANSFER_GO;
}

static enum transfer_next on_head(void *ctx, const struct transfer_head *head)
{
	struct seen *s = ctx;

	assert_false(s->aborted);
	assert_int_equal(s->heads + s->bodies + s->turns + s->ends, 0);
	s->heads++;
	s->head = *head;
	return script(s, IN_HEAD);
}

static enum transfer_next on_body(void *ctx, const uint8_t *bytes, size_t n)
{
	struct seen *s = ctx;
	enum transfer_next next;

	assert_false(s->aborted);
	assert_int_equal(s->heads, 1);
	assert_int_equal(s->ends, 0);
	assert_true(n > 0);
	s->bodies++;
	if (s->pause_each > 0 && s->bodies % s->pause_each == 0)
		return TRANSFER_PAUSE;
	next = script(s, IN_BODY);
	if (next == TRANSFER_PAUSE)
		return next;
	assert_true(s->used + n <= ORIGIN_BYTES + 1);
	memcpy(s->bytes + s->used, bytes, n);
	s->used += n;
	return next;
}

static void on_turn(void *ctx)
{
	struct seen *s = ctx;

	assert_false(s->aborted);
	assert_int_equal(s->ends, 0);
	s->turns++;
	if (script(s, IN_TURN) == TRANSFER_PAUSE)
		transfer_pause(s->t);
}

static void on_end(void *ctx, enum transfer_end how, const char *reason)
{
	struct seen *s = ctx;

	assert_false(s->aborted);
	assert_int_equal(s->ends, 0);
	s->ends++;
	s->how = how;
	(void)snprintf(s->reason, sizeof(s->reason), "%s", reason);
	assert_int_equal(how == TRANSFER_DONE, reason[0] == '\0');
	if (s->next.url != NULL)
		begin(s->next_seen, &s->next);
	(void)script(s, IN_END);
	s->t = NULL;
}

static const struct transfer_ops ops = { on_head, on_body, on_turn, on_end };

static void begin(struct seen *s, const struct transfer_want *want)
{
	s->bytes = malloc(ORIGIN_BYTES + 1);
	assert_non_null(s->bytes);
	assert_int_equal(transfer_begin(&s->t, up, want, &ops, s), 0);
	assert_int_equal(s->heads + s->ends, 0);
}

static void fini(struct seen *s)
{
	free(s->bytes);
	s->bytes = NULL;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* A turn of the loop that waits a little for something to happen. */
static void turn(void)
{
	struct timeval tv = { 0, 5000 };

	(void)event_base_loopexit(base, &tv);
	(void)event_base_dispatch(base);
}

static void run_ms(uint64_t ms)
{
	uint64_t until = now_ms() + ms;

	while (now_ms() < until)
		turn();
}

/* Until claim is true; a failure after ten seconds. */
#define run_until(claim)                                                       \
	do {                                                                   \
		uint64_t deadline = now_ms() + 10000;                          \
		while (!(claim)) {                                             \
			if (now_ms() > deadline)                               \
				fail_msg("never: %s", #claim);                 \
			turn();                                                \
		}                                                              \
	} while (0)

static struct transfer_want all_of(const char *path)
{
	return (struct transfer_want){ .url = url(path),
				       .to = SIZE_UNKNOWN,
				       .allow_private = true };
}

static void run_want(struct seen *s, const struct transfer_want *want)
{
	begin(s, want);
	run_until(s->ends == 1);
	assert_int_equal(s->ends, 1);
}

static void run_path(struct seen *s, const char *path)
{
	struct transfer_want want = all_of(path);

	run_want(s, &want);
}

static void expect_bytes(const struct seen *s, uint64_t from, uint64_t to)
{
	assert_int_equal(s->used, to - from);
	for (size_t i = 0; i < s->used; i++) {
		if (s->bytes[i] != origin_byte(from + i))
			fail_msg("byte %zu of %zu differs", i, s->used);
	}
}

static void expect_end(const struct seen *s, enum transfer_end how)
{
	if (s->how != how)
		fail_msg("%s: %s", transfer_end_name(s->how), s->reason);
}

static int set_up_with(const struct upstream_opts *opts)
{
	origin_start(&origin);
	base = event_base_new();
	assert_non_null(base);
	return upstream_open(&up, base, opts);
}

static int set_up(void **state)
{
	(void)state;
	return set_up_with(&patient);
}

static int set_up_quick(void **state)
{
	(void)state;
	return set_up_with(&quick);
}

static int tear_down(void **state)
{
	(void)state;
	upstream_close(up);
	event_base_free(base);
	origin_stop(&origin);
	return 0;
}

/* ---- what goes well ------------------------------------------------------ */

static void test_ranges(void **state)
{
	static const struct {
		uint64_t from, to, suffix, got_from, got_to;
	} cases[] = {
		{ 0, SIZE_UNKNOWN, 0, 0, ORIGIN_BYTES },
		{ 5, SIZE_UNKNOWN, 0, 5, ORIGIN_BYTES },
		{ 0, 1, 0, 0, 1 },
		{ 1000, 500000, 0, 1000, 500000 },
		{ ORIGIN_BYTES - 1, ORIGIN_BYTES, 0, ORIGIN_BYTES - 1,
		  ORIGIN_BYTES },
		{ ORIGIN_BYTES - 9, ORIGIN_BYTES + 99, 0, ORIGIN_BYTES - 9,
		  ORIGIN_BYTES },
		{ 0, 0, 1, ORIGIN_BYTES - 1, ORIGIN_BYTES },
		{ 0, 0, 65536, ORIGIN_BYTES - 65536, ORIGIN_BYTES },
		{ 0, 0, ORIGIN_BYTES + 5, 0, ORIGIN_BYTES },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct transfer_want want = all_of("/data");
		struct seen s = { 0 };

		want.from = cases[i].from;
		want.to = cases[i].to;
		want.suffix = cases[i].suffix;
		run_want(&s, &want);
		expect_end(&s, TRANSFER_DONE);
		assert_int_equal(s.head.status, 206);
		assert_true(s.head.ranged && s.head.end_is_sure);
		assert_int_equal(s.head.size, ORIGIN_BYTES);
		assert_int_equal(s.head.span.from, cases[i].got_from);
		assert_int_equal(s.head.span.to, cases[i].got_to);
		assert_string_equal(s.head.etag, "\"v1\"");
		expect_bytes(&s, cases[i].got_from, cases[i].got_to);
		assert_true(s.turns > 0 && s.turns <= s.bodies);
		fini(&s);
	}
	/* all of it over one connection */
	assert_int_equal(origin.connections, 1);
	assert_int_equal(origin.requests, ARRAY_LEN(cases));
}

static void test_whole_to_a_range(void **state)
{
	struct transfer_want want = all_of("/whole");
	struct seen s = { 0 };

	(void)state;
	want.from = 1000;
	run_want(&s, &want);
	expect_end(&s, TRANSFER_DONE);
	assert_int_equal(s.head.status, 200);
	assert_false(s.head.ranged);
	assert_int_equal(s.head.size, ORIGIN_BYTES);
	expect_bytes(&s, 0, ORIGIN_BYTES);
	fini(&s);
}

static void test_without_length(void **state)
{
	static const char *const paths[] = { "/chunked", "/until-close" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct seen s = { 0 };

		run_path(&s, paths[i]);
		expect_end(&s, TRANSFER_DONE);
		assert_int_equal(s.head.size, SIZE_UNKNOWN);
		assert_int_equal(s.head.span.to, SIZE_UNKNOWN);
		assert_int_equal(s.head.end_is_sure, i == 0);
		expect_bytes(&s, 0, ORIGIN_BYTES);
		fini(&s);
	}
}

static void test_without_body(void **state)
{
	static const struct {
		const char *path;
		int status;
		uint64_t from, size;
		size_t body;
	} cases[] = {
		{ "/304", 304, 0, SIZE_UNKNOWN, 0 },
		{ "/empty", 200, 0, 0, 0 },
		{ "/404", 404, 0, SIZE_UNKNOWN, 8 },
		{ "/data", 416, ORIGIN_BYTES, ORIGIN_BYTES, 5 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct transfer_want want = all_of(cases[i].path);
		struct seen s = { 0 };

		want.from = cases[i].from;
		run_want(&s, &want);
		expect_end(&s, TRANSFER_DONE);
		assert_int_equal(s.head.status, cases[i].status);
		assert_int_equal(s.head.size, cases[i].size);
		assert_int_equal(s.used, cases[i].body);
		assert_false(s.head.ranged);
		fini(&s);
	}
	assert_int_equal(origin.connections, 1);
}

static void test_request(void **state)
{
	struct transfer_want want = all_of("/echo/x?token=1");
	struct seen s = { 0 };
	char *text;

	(void)state;
	(void)setenv("http_proxy", "http://127.0.0.1:1", 1);
	want.from = 7;
	want.to = 9;
	want.if_range = "\"a\"";
	want.if_none_match = "\"b\"";
	want.if_modified_since = "Sun, 06 Nov 1994 08:49:37 GMT";
	run_want(&s, &want);
	(void)unsetenv("http_proxy");
	expect_end(&s, TRANSFER_DONE);
	s.bytes[s.used] = '\0';
	text = (char *)s.bytes;
	assert_ptr_equal(strstr(text, "GET /echo/x?token=1 HTTP/1.1\r\n"),
			 text);
	assert_non_null(strstr(text, "\r\nRange: bytes=7-8\r\n"));
	assert_non_null(strstr(text, "\r\nAccept-Encoding: identity\r\n"));
	assert_non_null(strstr(text, "\r\nIf-Range: \"a\"\r\n"));
	assert_non_null(strstr(text, "\r\nIf-None-Match: \"b\"\r\n"));
	assert_non_null(strstr(text, "\r\nIf-Modified-Since: Sun, 06 Nov"));
	assert_non_null(strstr(text, "\r\nUser-Agent: tester/1\r\n"));
	assert_null(strcasestr(text, "\r\nExpect"));
	assert_null(strcasestr(text, "\r\nCookie"));
	fini(&s);
}

static void test_fields_of_a_resolution(void **state)
{
	struct transfer_want want = all_of("/echo/x");
	struct seen s = { 0 };
	struct transfer *t;
	char *text;

	(void)state;
	want.fields = "Referer: http://page/\nuser-agent: other/2\n"
		      "Cookie: a=b\n";
	run_want(&s, &want);
	expect_end(&s, TRANSFER_DONE);
	s.bytes[s.used] = '\0';
	text = (char *)s.bytes;
	assert_non_null(strstr(text, "\r\nReferer: http://page/\r\n"));
	assert_non_null(strstr(text, "\r\nuser-agent: other/2\r\n"));
	assert_non_null(strstr(text, "\r\nCookie: a=b\r\n"));
	assert_non_null(strstr(text, "\r\nRange: bytes=0-\r\n"));
	assert_null(strstr(text, "tester/1"));
	want.fields = "Referer: a\r\nRange: bytes=1-1\n";
	assert_int_equal(transfer_begin(&t, up, &want, &ops, NULL), -EINVAL);
	fini(&s);
}

static void test_early_hints(void **state)
{
	struct seen s = { 0 };

	(void)state;
	run_path(&s, "/early");
	expect_end(&s, TRANSFER_DONE);
	assert_int_equal(s.heads, 1);
	assert_string_equal(s.head.etag, "\"v1\"");
	expect_bytes(&s, 0, ORIGIN_BYTES);
	fini(&s);
}

/* A kept connection that dies under the next request is no failure. */
static void test_stale_connection(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct seen s = { 0 };

		run_path(&s, "/once");
		expect_end(&s, TRANSFER_DONE);
		expect_bytes(&s, 0, ORIGIN_BYTES);
		fini(&s);
	}
	assert_int_equal(origin.connections, 3);
}

static void test_begin_from_end(void **state)
{
	struct seen first = { 0 }, second = { 0 };
	struct transfer_want want = all_of("/data");

	(void)state;
	want.to = 1000;
	first.next = all_of("/data");
	first.next.from = 1000;
	first.next_seen = &second;
	run_want(&first, &want);
	run_until(second.ends == 1);
	expect_bytes(&first, 0, 1000);
	expect_bytes(&second, 1000, ORIGIN_BYTES);
	assert_int_equal(origin.connections, 1);
	fini(&first);
	fini(&second);
}

/* More transfers than connections: they queue. */
static void test_connection_limit(void **state)
{
	struct transfer_want want = all_of("/data");
	struct seen s[12] = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		begin(&s[i], &want);
	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		run_until(s[i].ends == 1);
		expect_end(&s[i], TRANSFER_DONE);
		expect_bytes(&s[i], 0, ORIGIN_BYTES);
		fini(&s[i]);
	}
	assert_int_equal(origin.connections, patient.connections);
}

/* ---- what the origin does wrong ------------------------------------------ */

static void test_faults(void **state)
{
	static const struct {
		const char *path;
		enum transfer_end how;
		const char *reason;
		size_t used;
	} cases[] = {
		{ "/cut", TRANSFER_CUT, "", ORIGIN_CUT_BYTES },
		{ "/cut-chunked", TRANSFER_CUT, "", ORIGIN_CUT_BYTES },
		{ "/short", TRANSFER_CUT, "shorter", ORIGIN_BYTES - 1 },
		{ "/long", TRANSFER_BROKEN, "longer", SIZE_MAX },
		{ "/elsewhere", TRANSFER_BROKEN, "elsewhere", 0 },
		{ "/multipart", TRANSFER_BROKEN, "parts", 0 },
		{ "/garbage", TRANSFER_BROKEN, "", 0 },
		{ "/hang-up", TRANSFER_CUT, "", 0 },
		{ "/loop", TRANSFER_BROKEN, "redirect", 0 },
		{ "/redirect=ftp://127.0.0.1/", TRANSFER_BROKEN, "", 0 },
		{ "/redirect=file:///etc/passwd", TRANSFER_BROKEN, "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen s = { 0 };

		run_path(&s, cases[i].path);
		if (s.how != cases[i].how)
			fail_msg("%s: %s %s", cases[i].path,
				 transfer_end_name(s.how), s.reason);
		if (strstr(s.reason, cases[i].reason) == NULL)
			fail_msg("%s: %s", cases[i].path, s.reason);
		assert_true(s.reason[0] != '\0');
		if (cases[i].used != SIZE_MAX)
			expect_bytes(&s, 0, cases[i].used);
		fini(&s);
	}
}

static void test_reset(void **state)
{
	struct seen s = { 0 };
	struct transfer_want want = all_of("/reset");

	(void)state;
	begin(&s, &want);
	run_until(s.used == ORIGIN_CUT_BYTES);
	origin.go = true;
	run_until(s.ends == 1);
	expect_end(&s, TRANSFER_CUT);
	expect_bytes(&s, 0, ORIGIN_CUT_BYTES);
	fini(&s);
}

/* What comes behind the body is never taken for a body or a response. */
static void test_excess(void **state)
{
	static const char *const paths[] = { "/excess", "/junk" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct transfer_want want = all_of(paths[i]);
		struct seen s = { 0 }, next = { 0 };
		unsigned connections = origin.connections;

		want.to = 1000;
		run_want(&s, &want);
		expect_end(&s, TRANSFER_DONE);
		expect_bytes(&s, 0, 1000);
		if (i == 1) {
			origin.go = true;
			run_until(origin.junk_sent);
		}
		run_path(&next, "/data");
		expect_end(&next, TRANSFER_DONE);
		expect_bytes(&next, 0, ORIGIN_BYTES);
		assert_true(origin.connections - connections <= 2);
		fini(&s);
		fini(&next);
	}
}

static void test_timeouts(void **state)
{
	static const struct {
		const char *path;
		uint32_t timeout_ms;
		const char *reason;
	} cases[] = {
		{ "/nothing", 1000, "head" },
		{ "/half-head", 1000, "head" },
		{ "/stall", 500, "stalled" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t before = now_ms();
		struct seen s = { 0 };

		run_path(&s, cases[i].path);
		expect_end(&s, TRANSFER_TIMEOUT);
		assert_non_null(strstr(s.reason, cases[i].reason));
		/* not before its time, and not by another timer */
		assert_in_range(now_ms() - before, cases[i].timeout_ms - 5,
				cases[i].timeout_ms * 4);
		fini(&s);
	}
}

static void test_unreachable(void **state)
{
	struct transfer_want want = { .to = SIZE_UNKNOWN,
				      .allow_private = true };
	struct seen none = { 0 }, name = { 0 }, tls = { 0 };
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t bytes = sizeof(sa);
	char text[64];
	int fd;

	(void)state;
	/* a port that is taken but not listened on */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &bytes), 0);
	(void)snprintf(text, sizeof(text), "http://127.0.0.1:%u/",
		       ntohs(sa.sin_port));
	want.url = text;
	run_want(&none, &want);
	expect_end(&none, TRANSFER_UNREACHABLE);
	(void)close(fd);
	want.url = "http://no.such.name/secret?token";
	run_want(&name, &want);
	expect_end(&name, TRANSFER_UNREACHABLE);
	assert_null(strstr(name.reason, "secret"));
	(void)snprintf(text, sizeof(text), "https://127.0.0.1:%u/data",
		       origin.port);
	want.url = text;
	run_want(&tls, &want);
	assert_int_not_equal(tls.how, TRANSFER_DONE);
	assert_int_equal(tls.heads, 0);
	fini(&none);
	fini(&name);
	fini(&tls);
}

/* A name that does not resolve: neither the timeout nor an abort waits for
 * the resolver. */
static void test_slow_name(void **state)
{
	struct transfer_want want = { .url = "http://slow.test/",
				      .to = SIZE_UNKNOWN,
				      .allow_private = true };
	struct seen timeout = { 0 }, aborted = { 0 };
	uint64_t before = now_ms();

	(void)state;
	name_go = false;
	begin(&aborted, &want);
	run_want(&timeout, &want);
	expect_end(&timeout, TRANSFER_TIMEOUT);
	assert_in_range(now_ms() - before, quick.connect_timeout_ms - 5,
			quick.connect_timeout_ms * 2);
	fini(&timeout);
	fini(&aborted);

	memset(&aborted, 0, sizeof(aborted));
	begin(&aborted, &want);
	run_until(names_asked > names_answered);
	aborted.aborted = true;
	before = now_ms();
	transfer_abort(aborted.t);
	turn();
	assert_true(now_ms() - before < 200);
	fini(&aborted);
	origin_name_go();
}

/* ---- addresses ----------------------------------------------------------- */

static void test_private_is_refused(void **state)
{
	struct transfer_want want = all_of("/data");
	struct seen s[5] = { 0 };
	char text[512];
	size_t n = 0;

	(void)state;
	want.allow_private = false;
	run_want(&s[n], &want);
	expect_end(&s[n++], TRANSFER_REFUSED);
	(void)snprintf(text, sizeof(text), "http://public.test:%u/data",
		       origin.port);
	want.url = text;
	run_want(&s[n], &want);
	expect_end(&s[n++], TRANSFER_REFUSED);
	(void)snprintf(text, sizeof(text), "http://[::ffff:127.0.0.1]:%u/data",
		       origin.port);
	run_want(&s[n], &want);
	expect_end(&s[n++], TRANSFER_REFUSED);
	(void)snprintf(text, sizeof(text), "http://0x7f.1:%u/data",
		       origin.port);
	run_want(&s[n], &want);
	assert_int_not_equal(s[n++].how, TRANSFER_DONE);
	/* nobody got as far as to connect */
	assert_int_equal(origin.connections, 0);

	/* a connection that another source may use is there: not for us */
	want = all_of("/data");
	want.to = 10;
	run_want(&s[n], &want);
	expect_end(&s[n], TRANSFER_DONE);
	for (size_t i = 0; i <= n; i++) {
		assert_int_equal(s[i].heads, i == n);
		fini(&s[i]);
	}
	memset(&s[0], 0, sizeof(s[0]));
	want.allow_private = false;
	run_want(&s[0], &want);
	expect_end(&s[0], TRANSFER_REFUSED);
	assert_int_equal(origin.requests, 1);
	fini(&s[0]);
}

static void test_redirects(void **state)
{
	struct seen near = { 0 }, name = { 0 }, final = { 0 };
	struct transfer_want want = all_of("/redirect=/data");
	struct upstream_opts opts = patient;
	char text[512];

	(void)state;
	want.from = 77;
	run_want(&near, &want);
	expect_end(&near, TRANSFER_DONE);
	assert_string_equal(near.head.etag, "\"v1\"");
	expect_bytes(&near, 77, ORIGIN_BYTES);
	(void)snprintf(text, sizeof(text), "/redirect=http://cdn.test:%u/data",
		       origin.port);
	run_path(&name, text);
	expect_end(&name, TRANSFER_DONE);
	expect_bytes(&name, 0, ORIGIN_BYTES);

	/* not followed: the redirect is the response */
	opts.redirects = 0;
	upstream_close(up);
	assert_int_equal(upstream_open(&up, base, &opts), 0);
	run_path(&final, "/redirect=/data");
	expect_end(&final, TRANSFER_DONE);
	assert_int_equal(final.head.status, 302);
	assert_int_equal(final.used, 6);
	fini(&near);
	fini(&name);
	fini(&final);
}

/* The name and password of one host are not for the next. */
static void test_credentials(void **state)
{
	struct seen own = { 0 }, other = { 0 };
	struct transfer_want want = { .to = SIZE_UNKNOWN,
				      .allow_private = true };
	char text[512];

	(void)state;
	want.url = text;
	(void)snprintf(text, sizeof(text), "http://u:p@127.0.0.1:%u/echo",
		       origin.port);
	run_want(&own, &want);
	own.bytes[own.used] = '\0';
	assert_non_null(strstr((char *)own.bytes, "\r\nAuthorization: Basic"));
	(void)snprintf(text, sizeof(text),
		       "http://u:p@127.0.0.1:%u/"
		       "redirect=http://cdn.test:%u/echo",
		       origin.port, origin.port);
	run_want(&other, &want);
	expect_end(&other, TRANSFER_DONE);
	other.bytes[other.used] = '\0';
	assert_null(strstr((char *)other.bytes, "Authorization"));
	fini(&own);
	fini(&other);
}

/* ---- pause, stop, abort ---------------------------------------------------
 */

static void test_pause_each(void **state)
{
	static const char *const paths[] = { "/data", "/chunked", "/whole" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct transfer_want want = all_of(paths[i]);
		struct seen s = { .pause_each = 3 };
		uint64_t deadline = now_ms() + 10000;

		begin(&s, &want);
		while (s.ends == 0 && now_ms() < deadline) {
			(void)event_base_loop(base,
					      EVLOOP_ONCE | EVLOOP_NONBLOCK);
			if (s.t != NULL)
				transfer_resume(s.t);
		}
		expect_end(&s, TRANSFER_DONE);
		expect_bytes(&s, 0, ORIGIN_BYTES);
		assert_true(s.bodies > 100);
		fini(&s);
	}
}

/* Much longer than the stall timeout; then all of it. */
static void test_long_pause(void **state)
{
	static const enum where where[] = { IN_HEAD, IN_BODY, IN_TURN };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(where); i++) {
		struct transfer_want want = all_of("/data");
		struct seen s = { .pause_in = where[i] };
		size_t used;

		begin(&s, &want);
		run_until(s.pause_in == NOWHERE);
		turn();
		used = s.used;
		run_ms(quick.stall_timeout_ms * 2);
		assert_int_equal(s.used, used);
		if (where[i] != IN_TURN)
			assert_int_equal(used, 0);
		/* all bytes may have come in the turn before the pause */
		assert_int_equal(s.ends, used == ORIGIN_BYTES);
		if (s.ends == 0) {
			transfer_resume(s.t);
			assert_int_equal(s.used, used);
			run_until(s.ends == 1);
		}
		expect_end(&s, TRANSFER_DONE);
		expect_bytes(&s, 0, ORIGIN_BYTES);
		fini(&s);
	}
}

/* The stall timer counts again after a pause. */
static void test_stall_after_pause(void **state)
{
	struct transfer_want want = all_of("/stall");
	struct seen s = { 0 };
	uint64_t before;

	(void)state;
	begin(&s, &want);
	run_until(s.used == ORIGIN_CUT_BYTES);
	transfer_pause(s.t);
	run_ms(quick.stall_timeout_ms * 2);
	assert_int_equal(s.ends, 0);
	before = now_ms();
	transfer_resume(s.t);
	run_until(s.ends == 1);
	expect_end(&s, TRANSFER_TIMEOUT);
	assert_true(now_ms() - before >= quick.stall_timeout_ms - 5);
	fini(&s);
}

/* A paused transfer holds up no other. */
static void test_pause_is_alone(void **state)
{
	struct transfer_want want = all_of("/data");
	struct seen paused = { .pause_in = IN_BODY }, other = { 0 };

	(void)state;
	begin(&paused, &want);
	run_until(paused.bodies > 0);
	run_path(&other, "/data");
	expect_bytes(&other, 0, ORIGIN_BYTES);
	transfer_resume(paused.t);
	run_until(paused.ends == 1);
	expect_bytes(&paused, 0, ORIGIN_BYTES);
	fini(&paused);
	fini(&other);
}

static void test_stop(void **state)
{
	static const enum where where[] = { IN_HEAD, IN_BODY };
	static const char *const paths[] = { "/data", "/404", "/304" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(where) * ARRAY_LEN(paths); i++) {
		const char *path = paths[i / ARRAY_LEN(where)];
		struct seen s = { .stop_in = where[i % ARRAY_LEN(where)] };

		run_path(&s, path);
		if (s.stop_in == IN_HEAD || s.bodies > 0)
			expect_end(&s, TRANSFER_STOPPED);
		else
			expect_end(&s, TRANSFER_DONE);
		assert_true(s.bodies <= 1);
		run_ms(20);
		fini(&s);
	}
	/* only the two long bodies cost their connection */
	assert_int_equal(origin.connections, 3);
}

static void test_abort(void **state)
{
	static const enum where where[] = { NOWHERE, IN_HEAD, IN_BODY, IN_TURN,
					    IN_END };
	static const char *const paths[] = { "/data", "/304", "/404", "/cut",
					     "/chunked" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(where) * ARRAY_LEN(paths); i++) {
		const char *path = paths[i / ARRAY_LEN(where)];
		struct seen s = { .abort_in = where[i % ARRAY_LEN(where)] };
		struct transfer_want want = all_of(path);

		begin(&s, &want);
		if (s.abort_in == NOWHERE) {
			s.aborted = true;
			transfer_abort(s.t);
		}
		run_until(s.aborted || s.ends == 1);
		run_ms(20);
		fini(&s);
	}
}

/* Aborted while libcurl holds bytes that were not taken. */
static void test_abort_paused(void **state)
{
	static const uint64_t lengths[] = { ORIGIN_BYTES, 1000, 16384 };
	unsigned connections;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct transfer_want want = all_of("/data");
		struct seen s = { .pause_in = IN_BODY };

		connections = origin.connections;
		want.to = lengths[i];
		begin(&s, &want);
		run_until(s.bodies == 1);
		s.aborted = true;
		transfer_abort(s.t);
		run_ms(20);
		fini(&s);
		assert_true(origin.connections - connections <= 1);
	}
	/* short rests were drained: the second connection is still in use */
	assert_int_equal(origin.connections, 2);
}

/* Another transfer than the one that calls. */
struct pair {
	struct seen own;
	struct seen *other;
};

static enum transfer_next body_aborts_other(void *ctx, const uint8_t *bytes,
					    size_t n)
{
	struct pair *p = ctx;

	if (p->other != NULL && p->other->bodies > 0) {
		p->other->aborted = true;
		transfer_abort(p->other->t);
		p->other = NULL;
	}
	return on_body(&p->own, bytes, n);
}

static void test_abort_other(void **state)
{
	static const struct transfer_ops pair_ops = { on_head,
						      body_aborts_other,
						      on_turn, on_end };
	struct transfer_want want = all_of("/data");
	struct seen other = { 0 };
	struct pair p = { .other = &other };

	(void)state;
	begin(&other, &want);
	other.pause_each = 1;
	p.own.bytes = malloc(ORIGIN_BYTES + 1);
	assert_non_null(p.own.bytes);
	run_until(other.bodies > 0);
	assert_int_equal(transfer_begin(&p.own.t, up, &want, &pair_ops, &p), 0);
	run_until(p.own.ends == 1);
	assert_true(other.aborted);
	expect_bytes(&p.own, 0, ORIGIN_BYTES);
	fini(&other);
	fini(&p.own);
}

/* All that goes on at the close is aborted. */
static void test_close(void **state)
{
	struct transfer_want data = all_of("/data"), idle = all_of("/nothing");
	struct seen s[6] = { 0 };

	(void)state;
	s[1].pause_in = IN_BODY;
	for (size_t i = 0; i < 4; i++)
		begin(&s[i], i < 2 ? &data : &idle);
	run_until(s[1].bodies > 0);
	begin(&s[4], &data); /* not yet given to libcurl */
	begin(&s[5], &data);
	transfer_abort(s[5].t);
	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		s[i].aborted = s[i].ends == 0;
	upstream_close(up);
	assert_int_equal(upstream_open(&up, base, &patient), 0);
	run_ms(20);
	for (size_t i = 0; i < ARRAY_LEN(s); i++)
		fini(&s[i]);
}

static void test_bad_wants(void **state)
{
	static char longest[TRANSFER_URL_BYTES + 1];
	struct transfer *t;
	struct transfer_want want;

	(void)state;
	static const char *const bad[] = { NULL,           "",
					   "ftp://o/",     "http://",
					   "http://o/a b", "http://o/\r\nX: y",
					   "127.0.0.1" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		want = all_of("/");
		want.url = bad[i];
		assert_int_equal(transfer_begin(&t, up, &want, &ops, NULL),
				 -EINVAL);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	memcpy(longest, "http://o/", 9);
	want.url = longest;
	assert_int_equal(transfer_begin(&t, up, &want, &ops, NULL), -EINVAL);
	want = all_of("/");
	want.from = 5;
	want.to = 5;
	assert_int_equal(transfer_begin(&t, up, &want, &ops, NULL), -EINVAL);
	want = all_of("/");
	want.if_range = "\"a\"\r\nX: y";
	assert_int_equal(transfer_begin(&t, up, &want, &ops, NULL), -EINVAL);
}

#define QUICK(test)                                                            \
	cmocka_unit_test_setup_teardown(test, set_up_quick, tear_down)
#define REAL(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL(test_ranges),
		REAL(test_whole_to_a_range),
		REAL(test_without_length),
		REAL(test_without_body),
		REAL(test_request),
		REAL(test_fields_of_a_resolution),
		REAL(test_early_hints),
		REAL(test_stale_connection),
		REAL(test_begin_from_end),
		REAL(test_connection_limit),
		REAL(test_faults),
		REAL(test_reset),
		REAL(test_excess),
		QUICK(test_timeouts),
		REAL(test_unreachable),
		QUICK(test_slow_name),
		REAL(test_private_is_refused),
		REAL(test_redirects),
		REAL(test_credentials),
		REAL(test_pause_each),
		QUICK(test_long_pause),
		QUICK(test_stall_after_pause),
		REAL(test_pause_is_alone),
		REAL(test_stop),
		REAL(test_abort),
		REAL(test_abort_paused),
		REAL(test_abort_other),
		REAL(test_close),
		REAL(test_bad_wants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Connections, routes, limits and logs of a worker. */
#include "worker_rig.h"

#define WEB_BIG 300000u

static struct rig rig;
static struct rig_response res;

#define HOST "Host: h\r\n\r\n"

static int close_rig(void **state)
{
	(void)state;
	free(res.body);
	res.body = NULL;
	rig_close(&rig);
	return 0;
}

static void expect_status(int fd, int status)
{
	rig_read_head(fd, &res);
	if (res.status != status)
		fail_msg("%d instead of %d: %s", res.status, status, res.head);
	rig_read_body(fd, &res);
}

static void expect_closed(int fd)
{
	uint8_t byte;

	assert_int_equal(rig_receive(fd, &byte, 1), 0);
	close(fd);
}

static void expect_field(const char *line)
{
	if (strstr(res.head, line) == NULL)
		fail_msg("no %s in %s", line, res.head);
}

/* One object of this size with all its bytes. */
static void put_film(uint64_t size)
{
	struct object_record rec;

	rig_record(&rig, &rec, size);
	rig_put_object(&rig, "a/film", &rec);
	rig_put_bytes(&rig, &rec, 0, size);
}

static void test_bytewise_head(void **state)
{
	static const char text[] = "\r\nGET /healthz HTTP/1.1\r\n" HOST;
	int fd;

	(void)state;
	rig_open(&rig, "");
	fd = rig_connect(&rig);
	for (size_t i = 0; i + 1 < sizeof(text); i++)
		assert_int_equal(send(fd, text + i, 1, MSG_NOSIGNAL), 1);
	expect_status(fd, 200);
	assert_string_equal((char *)res.body, "ok\n");
	/* and once more on the same connection */
	rig_send(fd, text);
	expect_status(fd, 200);
	close(fd);
	rig_await_stat(&rig, STAT_connections, 0);
	rig_await_stat(&rig, STAT_requests, 2);
}

/* Many requests in one piece, some with bodies, a cut one at the end. */
static void test_pipelining(void **state)
{
	static const char get[] = "GET /proxy/film HTTP/1.1\r\n"
				  "Range: bytes=10-999\r\n" HOST;
	static const char post[] = "POST /proxy/film HTTP/1.1\r\n"
				   "Content-Length: 5\r\n" HOST "GET /";
	char text[32768] = "";
	int fd;

	(void)state;
	rig_open(&rig, "");
	put_film(1000);
	fd = rig_connect(&rig);
	for (int i = 0; i < 100; i++) {
		strcat(text, get);
		strcat(text, post);
	}
	strcat(text, "HEAD /healthz HTT");
	rig_send(fd, text);
	for (int i = 0; i < 100; i++) {
		rig_expect(fd, &res, 206, 10, 1000);
		expect_status(fd, 405);
		expect_field("\r\nAllow: GET, HEAD, OPTIONS\r\n");
	}
	rig_send(fd, "P/1.1\r\n" HOST);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 200);
	close(fd);
}

static void test_http10(void **state)
{
	int fd;

	(void)state;
	rig_open(&rig, "");
	fd = rig_connect(&rig);
	rig_send(fd, "GET /healthz HTTP/1.0\r\n\r\n");
	expect_status(fd, 200);
	expect_field("\r\nConnection: close\r\n");
	expect_closed(fd);
	fd = rig_connect(&rig);
	rig_send(fd, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	expect_status(fd, 200);
	expect_field("\r\nConnection: keep-alive\r\n");
	rig_send(fd, "GET /healthz HTTP/1.1\r\nConnection: close\r\n" HOST);
	expect_status(fd, 200);
	expect_closed(fd);
}

/* Refused heads: the answer arrives though the client goes on sending. */
static void test_bad_heads(void **state)
{
	static const struct {
		const char *text;
		int status;
	} cases[] = {
		{ "GET / HTTP/1.1\nHost: h\n\n", 400 },
		{ "GET / HTTP/1.1\r\n\r\n", 400 },
		{ "GET  / HTTP/1.1\r\n" HOST, 400 },
		{ "GET / HTTP/1.1\r\nA : b\r\n" HOST, 400 },
		{ "GET / HTTP/1.1\r\nA: b\r\n c\r\n" HOST, 400 },
		{ "GET / HTTP/2.0\r\n" HOST, 505 },
		{ "BREW / HTTP/1.1\r\n" HOST, 501 },
		{ "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" HOST,
		  501 },
		{ "POST / HTTP/1.1\r\nContent-Length: 1\r\n"
		  "Content-Length: 2\r\n" HOST,
		  400 },
		{ "POST / HTTP/1.1\r\nContent-Length: 65537\r\n" HOST, 413 },
	};

	(void)state;
	rig_open(&rig, "");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int fd = rig_connect(&rig);

		rig_send(fd, cases[i].text);
		for (int n = 0; n < 20; n++)
			rig_send(fd, "further words of the client\r\n");
		expect_status(fd, cases[i].status);
		expect_field("\r\nContent-Type: application/problem+json\r\n");
		expect_field("\r\nConnection: close\r\n");
		expect_closed(fd);
	}
	rig_await_stat(&rig, STAT_connections, 0);
}

static void test_timeouts(void **state)
{
	uint64_t begun_ms = clock_now_ms();
	int silent, slow, idle, body;

	(void)state;
	rig_open(&rig, "[http]\nhead_timeout = 300ms\nidle_timeout = 300ms\n"
		       "body_timeout = 300ms\n");
	silent = rig_connect(&rig);
	slow = rig_connect(&rig);
	idle = rig_connect(&rig);
	body = rig_connect(&rig);
	rig_send(slow, "GET / HT");
	rig_send(idle, "GET /healthz HTTP/1.1\r\n" HOST);
	rig_send(body, "POST / HTTP/1.1\r\nContent-Length: 9\r\n" HOST "abc");
	expect_status(idle, 200);
	expect_status(body, 405);
	expect_closed(silent);
	expect_status(slow, 408);
	expect_closed(slow);
	expect_closed(idle);
	expect_closed(body);
	assert_in_range(clock_now_ms() - begun_ms, 290, 5000);
	rig_await_stat(&rig, STAT_connections_timeout, 4);
	rig_await_stat(&rig, STAT_connections, 0);
}

/* A client that takes nothing is cut off; one that is slow is not. */
static void test_send_timeout(void **state)
{
	uint64_t got = 0;
	int dead, slow;
	uint8_t bytes[4096];

	(void)state;
	rig_open(&rig, "[http]\nsend_timeout = 600ms\n");
	put_film(8u << 20);
	dead = rig_connect_small(&rig, 16384);
	slow = rig_connect_small(&rig, 16384);
	rig_send(dead, "GET /proxy/film HTTP/1.1\r\n" HOST);
	rig_send(slow, "GET /proxy/film HTTP/1.1\r\n" HOST);
	rig_read_head(slow, &res);
	/* some bytes each 20 ms, for twice the time-out */
	for (int i = 0; i < 60; i++) {
		ssize_t n = recv(slow, bytes, sizeof(bytes), 0);

		assert_true(n > 0);
		rig_check_bytes(bytes, got, got + (uint64_t)n);
		got += (uint64_t)n;
		(void)poll(NULL, 0, 20);
	}
	rig_await_stat(&rig, STAT_connections_timeout, 1);
	rig_await_stat(&rig, STAT_connections, 1);
	close(slow);
	close(dead);
	rig_await_stat(&rig, STAT_connections, 0);
}

/* Every byte is right when the socket is full all the time. */
static void test_slow_reader(void **state)
{
	int fd;

	(void)state;
	rig_open(&rig, "");
	put_film(3u << 20);
	fd = rig_connect_small(&rig, 16384);
	rig_send(fd, "GET /proxy/film HTTP/1.1\r\nRange: bytes=77-\r\n" HOST
		     "GET /proxy/film HTTP/1.1\r\n"
		     "Range: bytes=0-99999,2000000-2000000\r\n" HOST
		     "GET /healthz HTTP/1.1\r\n" HOST);
	rig_expect(fd, &res, 206, 77, 3u << 20);
	expect_status(fd, 206);
	expect_status(fd, 200);
	close(fd);
}

static void test_limits(void **state)
{
	int fds[4];
	int fd;

	(void)state;
	rig_open(&rig, "[http]\nmax_connections_per_address = 3\n"
		       "max_connections = 3\n");
	for (int i = 0; i < 3; i++) {
		fds[i] = rig_connect(&rig);
		rig_send(fds[i], "GET /healthz HTTP/1.1\r\n" HOST);
		expect_status(fds[i], 200);
	}
	fd = rig_connect(&rig);
	expect_status(fd, 503);
	expect_field("\r\nRetry-After: 1\r\n");
	expect_closed(fd);
	rig_await_stat(&rig, STAT_connections_refused, 1);
	close(fds[0]);
	rig_await_stat(&rig, STAT_connections, 2);
	fd = rig_connect(&rig);
	rig_send(fd, "GET /healthz HTTP/1.1\r\n" HOST);
	expect_status(fd, 200);
	close(fd);
	/* a successor does not count what died with its predecessor */
	assert_true(rig_stop_worker(&rig, SIGKILL) != 0);
	close(fds[1]);
	close(fds[2]);
	rig_start_worker(&rig);
	for (int i = 0; i < 3; i++) {
		fds[i] = rig_connect(&rig);
		rig_send(fds[i], "GET /healthz HTTP/1.1\r\n" HOST);
		expect_status(fds[i], 200);
	}
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

static void test_routes(void **state)
{
	static const struct {
		const char *line;
		int status;
	} cases[] = {
		{ "GET /nothing", 404 },
		{ "GET /", 404 },
		{ "GET /proxy/", 400 },
		{ "GET /proxy/a%2fb", 400 },
		{ "GET /proxy/a/b", 400 },
		{ "GET /proxy/..", 400 },
		{ "GET /proxy/a%zz", 400 },
		{ "GET /proxy/a?source=none", 404 },
		{ "GET /proxy/a?source=a&source=b", 400 },
		{ "DELETE /proxy/a", 405 },
		{ "GET /readyz", 503 },
		{ "GET /metrics", 200 },
	};
	int fd;

	(void)state;
	rig_open(&rig, "");
	fd = rig_connect(&rig);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		rig_send(fd, cases[i].line);
		rig_send(fd, " HTTP/1.1\r\n" HOST);
		expect_status(fd, cases[i].status);
	}
	assert_non_null(strstr((char *)res.body, "\nreelcache_requests "));
	assert_non_null(strstr((char *)res.body,
			       "reelcache_ttfb_seconds_bucket{le=\"+Inf\"} 0"));
	atomic_store(&rig.seg->procs[SEGMENT_PROC_PREFETCHER].pid, 1);
	atomic_store(&rig.seg->procs[SEGMENT_PROC_PREFETCHER].ready, 1);
	rig_send(fd, "GET /readyz HTTP/1.1\r\n" HOST);
	expect_status(fd, 200);
	rig_send(fd, "OPTIONS /proxy/a HTTP/1.1\r\nOrigin: http://x\r\n"
		     "Access-Control-Request-Method: GET\r\n" HOST);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 204);
	expect_field("\r\nAccess-Control-Allow-Origin: *\r\n");
	expect_field(
		"\r\nAccess-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n");
	assert_true(res.length == UINT64_MAX);
	close(fd);
	assert_false(rig_has_ask(&rig));
}

static void write_file(const char *path, size_t bytes)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	for (size_t i = 0; i < bytes; i++)
		fputc('x', f);
	assert_int_equal(fclose(f), 0);
}

static void test_web(void **state)
{
	char web[] = "/tmp/test_web.XXXXXX";
	char options[128];
	char path[64];
	char etag[64];
	int fd;

	(void)state;
	assert_non_null(mkdtemp(web));
	snprintf(path, sizeof(path), "%s/index.html", web);
	write_file(path, 1000);
	snprintf(path, sizeof(path), "%s/big.js", web);
	write_file(path, WEB_BIG);
	snprintf(path, sizeof(path), "%s/secret.conf", web);
	write_file(path, 10);
	snprintf(path, sizeof(path), "%s/sub", web);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/sub/a.css", web);
	write_file(path, 5);
	snprintf(options, sizeof(options), "[http]\nweb = %s\n", web);
	rig_open(&rig, options);
	(void)nftw(web, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	fd = rig_connect_small(&rig, 16384);
	rig_send(fd, "GET / HTTP/1.1\r\n" HOST "GET /big.js HTTP/1.1\r\n" HOST
		     "GET /sub/a.css HTTP/1.1\r\n" HOST
		     "GET /secret.conf HTTP/1.1\r\n" HOST
		     "GET /../x HTTP/1.1\r\n" HOST);
	expect_status(fd, 200);
	assert_int_equal(res.length, 1000);
	expect_field("\r\nContent-Type: text/html; charset=utf-8\r\n");
	expect_field("\r\nContent-Security-Policy: default-src 'self'");
	assert_int_equal(sscanf(strstr(res.head, "\r\nETag: "),
				"\r\nETag: %63[^\r]", etag),
			 1);
	expect_status(fd, 200);
	assert_int_equal(res.length, WEB_BIG);
	expect_field("\r\nContent-Type: text/javascript; charset=utf-8\r\n");
	for (size_t i = 0; i < WEB_BIG; i++)
		assert_int_equal(res.body[i], 'x');
	expect_status(fd, 200);
	expect_status(fd, 404);
	expect_status(fd, 404);
	rig_send(fd, "GET / HTTP/1.1\r\nIf-None-Match: ");
	rig_send(fd, etag);
	rig_send(fd, "\r\n" HOST);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 304);
	close(fd);
}

static void read_log(const char *path, char *dst, size_t dst_bytes, int lines)
{
	for (int i = 0; i < RIG_DEADLINE / 10; i++) {
		FILE *f = fopen(path, "r");
		size_t n = f != NULL ? fread(dst, 1, dst_bytes - 1, f) : 0;
		int have = 0;

		if (f != NULL)
			fclose(f);
		dst[n] = '\0';
		for (size_t c = 0; c < n; c++)
			have += dst[c] == '\n';
		if (have >= lines)
			return;
		(void)poll(NULL, 0, 10);
	}
	fail_msg("the log has: %s", dst);
}

static void test_access_log(void **state)
{
	char log[] = "/tmp/test_log.XXXXXX";
	char moved[64];
	char options[256];
	char text[8192];
	int fd = mkstemp(log);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	snprintf(moved, sizeof(moved), "%s.1", log);
	snprintf(options, sizeof(options), "[main]\naccess_log = %s\n", log);
	rig_open(&rig, options);
	put_film(1000);
	fd = rig_connect(&rig);
	rig_send(fd, "GET /proxy/film HTTP/1.1\r\nRange: bytes=1-10\r\n"
		     "User-Agent: a \"quoted\" \xff one\r\n"
		     "Referer: http://r/\r\n" HOST "BAD\r\n\r\n");
	rig_expect(fd, &res, 206, 1, 11);
	expect_status(fd, 400);
	expect_closed(fd);
	read_log(log, text, sizeof(text), 2);
	assert_non_null(strstr(text, "127.0.0.1 - - ["));
	assert_non_null(strstr(
		text, "] \"GET /proxy/film HTTP/1.1\" 206 10 "
		      "\"http://r/\" \"a \\x22quoted\\x22 \\xff one\" "));
	assert_non_null(strstr(text, " 10 0 0 hit\n"));
	assert_non_null(strstr(text, "\" 400 "));
	assert_int_equal(rename(log, moved), 0);
	assert_int_equal(kill(rig.pid, SIGUSR1), 0);
	for (int i = 0; i < RIG_DEADLINE && access(log, F_OK) != 0; i++)
		(void)poll(NULL, 0, 1);
	fd = rig_connect(&rig);
	rig_send(fd, "GET /healthz HTTP/1.1\r\n" HOST);
	expect_status(fd, 200);
	close(fd);
	read_log(log, text, sizeof(text), 1);
	assert_non_null(strstr(text, "/healthz"));
	unlink(log);
	unlink(moved);
}

static void test_access_log_json(void **state)
{
	char log[] = "/tmp/test_log.XXXXXX";
	char options[256];
	char text[8192];
	int fd = mkstemp(log);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	snprintf(options, sizeof(options),
		 "[main]\naccess_log = %s\naccess_log_format = json\n", log);
	rig_open(&rig, options);
	fd = rig_connect(&rig);
	rig_send(fd, "GET /healthz HTTP/1.1\r\nUser-Agent: \"x\"\r\n" HOST);
	expect_status(fd, 200);
	close(fd);
	read_log(log, text, sizeof(text), 1);
	assert_non_null(strstr(text, "\"target\":\"/healthz\",\"status\":200,"
				     "\"bytes\":3,"));
	assert_non_null(strstr(text, "\"user_agent\":\"\\\"x\\\"\"}\n"));
	unlink(log);
}

#define CASE(name) cmocka_unit_test_teardown(name, close_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_bytewise_head), CASE(test_pipelining),
		CASE(test_http10),        CASE(test_bad_heads),
		CASE(test_timeouts),      CASE(test_send_timeout),
		CASE(test_slow_reader),   CASE(test_limits),
		CASE(test_routes),        CASE(test_web),
		CASE(test_access_log),    CASE(test_access_log_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

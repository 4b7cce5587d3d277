/* Media responses: hits, runs that arrive, asks and their replies. */
#include "worker_rig.h"

static struct rig rig;
static struct rig_response res;

static int open_rig(void **state)
{
	(void)state;
	rig_open(&rig, "[upstream]\nconnect_timeout = 100ms\n"
		       "first_byte_timeout = 300ms\npatience = 200ms\n"
		       "[main]\ndebug_headers = yes\n");
	return 0;
}

static int close_rig(void **state)
{
	(void)state;
	free(res.body);
	res.body = NULL;
	rig_close(&rig);
	return 0;
}

static void expect_field(const char *line)
{
	if (strstr(res.head, line) == NULL)
		fail_msg("no %s in %s", line, res.head);
}

static void test_hit(void **state)
{
	struct object_record rec;
	int fd = rig_connect(&rig);

	(void)state;
	rig_record(&rig, &rec, 300000);
	rig_put_object(&rig, "a/film", &rec);
	rig_put_bytes(&rig, &rec, 0, 300000);
	rig_send(fd, "GET /proxy/film HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_expect(fd, &res, 200, 0, 300000);
	expect_field("\r\nETag: \"v1\"\r\n");
	expect_field("\r\nAge: 15\r\n");
	expect_field("\r\nAccept-Ranges: bytes\r\n");
	expect_field("\r\nContent-Type: video/mp4\r\n");
	expect_field("\r\nCache-Status: reelcache; hit");
	expect_field("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	expect_field("\r\nAccess-Control-Allow-Origin: *\r\n");
	expect_field("\r\nX-Worker: ");
	/* on the same connection, over a border of chunks */
	rig_send(fd, "GET /proxy/film?source=a HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=65530-131080\r\n\r\n");
	rig_expect(fd, &res, 206, 65530, 131081);
	expect_field("\r\nContent-Range: bytes 65530-131080/300000\r\n");
	rig_send(fd, "HEAD /proxy/film HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=0-1\r\n\r\n"
		     "GET /proxy/film HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=-5\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 200);
	assert_int_equal(res.length, 300000);
	rig_expect(fd, &res, 206, 299995, 300000);
	rig_send(fd, "GET /proxy/film HTTP/1.1\r\nHost: h\r\n"
		     "If-None-Match: \"v1\"\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 304);
	assert_true(res.length == UINT64_MAX);
	rig_send(fd, "GET /proxy/film HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=300000-\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 416);
	expect_field("\r\nContent-Range: bytes */300000\r\n");
	rig_read_body(fd, &res);
	rig_send(fd, "GET /proxy/film HTTP/1.1\r\nHost: h\r\n"
		     "If-Match: \"v2\"\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 412);
	rig_read_body(fd, &res);
	close(fd);
	assert_false(rig_has_ask(&rig));
	rig_await_stat(&rig, STAT_hits, 5);
	rig_await_stat(&rig, STAT_connections, 0);
}

static void test_many_ranges(void **state)
{
	struct object_record rec;
	int fd = rig_connect(&rig);
	char boundary[64];
	const char *at;
	char want[512];
	int n;

	(void)state;
	rig_record(&rig, &rec, 200000);
	rig_put_object(&rig, "a/many", &rec);
	rig_put_bytes(&rig, &rec, 0, 200000);
	rig_send(fd, "GET /proxy/many HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=0-9,70000-70009\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 206);
	at = strstr(res.head, "\r\nContent-Type: multipart/byteranges; "
			      "boundary=");
	assert_non_null(at);
	assert_int_equal(
		sscanf(strstr(at, "boundary="), "boundary=%63[^\r]", boundary),
		1);
	rig_read_body(fd, &res);
	n = snprintf(want, sizeof(want),
		     "\r\n--%s\r\nContent-Type: video/mp4\r\n"
		     "Content-Range: bytes 0-9/200000\r\n\r\n",
		     boundary);
	assert_memory_equal(res.body, want, (size_t)n);
	rig_check_bytes(res.body + n, 0, 10);
	assert_non_null(
		strstr((char *)res.body + res.body_bytes - 40, "--\r\n"));
	/* the connection goes on */
	rig_send(fd, "GET /proxy/many HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=5-6\r\n\r\n");
	rig_expect(fd, &res, 206, 5, 7);
	close(fd);
}

static void test_empty(void **state)
{
	struct object_record rec;
	int fd = rig_connect(&rig);

	(void)state;
	rig_record(&rig, &rec, 0);
	rig_put_object(&rig, "a/empty", &rec);
	rig_send(fd, "GET /proxy/empty HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_expect(fd, &res, 200, 0, 0);
	rig_send(fd, "GET /proxy/empty HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=0-\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 416);
	close(fd);
}

/* Nothing is known; the reply brings record and run; bytes come in steps. */
static void test_cold(void **state)
{
	struct reply reply = { .status = REPLY_WAIT, .started = 1 };
	struct object_record rec;
	struct segment_reader *row = &rig.seg->workers[0].readers[0];
	struct inflight *in;
	struct ask ask;
	int fd = rig_connect(&rig);
	int second;
	uint8_t byte;

	(void)state;
	rig_send(fd, "GET /proxy/cold HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=1000-70000\r\n\r\n");
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.kind, ASK_FROM);
	assert_int_equal(ask.object_no, 0);
	assert_int_equal(ask.want_from, 1000);
	assert_int_equal(ask.want_to, 70001);
	assert_int_equal(ask.key_bytes, 6);
	assert_memory_equal(ask.key, "a/cold", 6);
	rig_record(&rig, &rec, 100000);
	in = rig_run_begin(&rig, &rec, 1000);
	reply.run_row = in->row;
	reply.run_no = 1;
	rig_reply(&rig, &ask, &reply, &rec);
	rig_run_grow(&rig, in, 2000);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 206);
	assert_int_equal(res.length, 69001);
	expect_field("\r\nCache-Status: reelcache; fwd=uri-miss");
	assert_int_equal(rig_receive(fd, &byte, 1), 1);
	assert_int_equal(byte, rig_byte(1000));
	assert_int_equal(atomic_load(&row->object_no), rec.object_no);
	assert_int_equal(atomic_load(&row->end_off), 70001);

	/* a second viewer, once the object is known: no further ask */
	rig_put_object(&rig, "a/cold", &rec);
	second = rig_connect(&rig);
	rig_send(second, "GET /proxy/cold HTTP/1.1\r\nHost: h\r\n"
			 "Range: bytes=1500-65999\r\n\r\n");
	rig_run_grow(&rig, in, 65536);
	rig_run_grow(&rig, in, 80000);
	res.length = 69000;
	rig_read_body(fd, &res);
	rig_check_bytes(res.body, 1001, 70001);
	rig_expect(second, &res, 206, 1500, 66000);
	assert_false(rig_has_ask(&rig));
	rig_await_stat(&rig, STAT_bytes_sent_origin, 69001);
	rig_await_stat(&rig, STAT_bytes_sent_inflight, 64500);
	for (int i = 0; i < RIG_DEADLINE; i++) {
		if (atomic_load(&row->object_no) == 0)
			break;
		(void)poll(NULL, 0, 1);
	}
	assert_int_equal(atomic_load(&row->object_no), 0);
	for (int i = 0; i < (int)SEGMENT_RUNS; i++)
		assert_int_equal(atomic_load(&rig.seg->workers[0].waits[i]), 0);
	inflight_end(in);
	close(second);
	close(fd);
}

/* The run ends early: the reader asks again; a new prefetcher: all ask. */
static void test_new_prefetcher(void **state)
{
	struct reply reply = { .status = REPLY_WAIT, .started = 1 };
	struct object_record rec;
	struct inflight *in;
	struct ask ask;
	int fd = rig_connect(&rig);

	(void)state;
	rig_record(&rig, &rec, 3000);
	rig_put_object(&rig, "a/dead", &rec);
	rig_send(fd, "GET /proxy/dead HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.object_no, rec.object_no);
	assert_int_equal(ask.generation, 0);
	atomic_fetch_add(&rig.seg->prefetcher_lives, 1);
	inbox_ring(rig.ipc.bells[0]);
	rig_take_ask(&rig, &ask);
	in = rig_run_begin(&rig, &rec, 0);
	reply.run_row = in->row;
	reply.run_no = rig.run_no - 1;
	rig_reply(&rig, &ask, &reply, &rec);
	rig_run_grow(&rig, in, 1000);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 200);
	inflight_end(in);
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.want_from, 1000);
	assert_int_equal(ask.generation, 1);
	rig_put_bytes(&rig, &rec, 1000, 3000);
	/* what the ended run had brought stays readable by its row only as
	 * long as nothing else holds it: it was sent already */
	reply.status = REPLY_LOOK;
	rig_reply(&rig, &ask, &reply, &rec);
	rig_read_body(fd, &res);
	rig_check_bytes(res.body, 0, 3000);
	close(fd);
}

static void test_unknown_size(void **state)
{
	struct reply reply = { .status = REPLY_WAIT, .started = 1 };
	static const char end[] = "\r\n0\r\n\r\n";
	uint8_t bytes[4096];
	struct object_record rec;
	struct inflight *in;
	struct ask ask;
	int fd = rig_connect(&rig);

	(void)state;
	rig_send(fd, "GET /proxy/live HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=10-\r\n\r\n");
	rig_take_ask(&rig, &ask);
	rig_record(&rig, &rec, SIZE_UNKNOWN);
	rec.flags = OBJECT_NO_RANGES;
	in = rig_run_begin(&rig, &rec, 0);
	reply.run_row = in->row;
	reply.run_no = rig.run_no - 1;
	rig_reply(&rig, &ask, &reply, &rec);
	rig_run_grow(&rig, in, 16);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 200);
	expect_field("\r\nTransfer-Encoding: chunked\r\n");
	assert_int_equal(rig_receive(fd, bytes, 4 + 16), 20);
	assert_memory_equal(bytes, "10\r\n", 4);
	rig_check_bytes(bytes + 4, 0, 16);
	rig_run_grow(&rig, in, 32);
	assert_int_equal(rig_receive(fd, bytes, 6 + 16), 22);
	assert_memory_equal(bytes, "\r\n10\r\n", 6);
	rig_check_bytes(bytes + 6, 16, 32);
	/* the row stays until its last record is committed */
	inflight_commit_begin(in);
	inflight_set_size(in, 32);
	inflight_end(in);
	assert_int_equal(rig_receive(fd, bytes, sizeof(end) - 1),
			 sizeof(end) - 1);
	assert_memory_equal(bytes, end, sizeof(end) - 1);
	inflight_commit_done(in);
	close(fd);
}

static void test_suffix_and_fail(void **state)
{
	struct reply reply = { .status = REPLY_FAIL,
			       .http_status = 404,
			       .retry_after_s = 7,
			       .reason = "the origin says 404" };
	struct ask ask;
	int fd = rig_connect(&rig);
	uint8_t byte;

	(void)state;
	rig_send(fd, "GET /proxy/none?source=b HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=-500\r\n\r\n");
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.kind, ASK_SUFFIX);
	assert_int_equal(ask.want_from, 500);
	assert_memory_equal(ask.key, "b/none", 6);
	rig_reply(&rig, &ask, &reply, NULL);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 404);
	expect_field("\r\nRetry-After: 7\r\n");
	expect_field("\r\nContent-Type: application/problem+json\r\n");
	rig_read_body(fd, &res);
	assert_non_null(strstr((char *)res.body, "the origin says 404"));
	/* of an object that was good before no error is told */
	rig_send(fd, "GET /proxy/none HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_take_ask(&rig, &ask);
	reply.known = 1;
	rig_reply(&rig, &ask, &reply, NULL);
	assert_int_equal(rig_receive(fd, &byte, 1), 0);
	close(fd);
}

/* Not fresh: asked before a byte is sent; changed: all begins anew. */
static void test_revalidate(void **state)
{
	struct reply reply = { .status = REPLY_LOOK };
	struct object_record rec;
	struct ask ask;
	int fd = rig_connect(&rig);

	(void)state;
	rig_record(&rig, &rec, 1000);
	rec.fresh_until_s = clock_wall_s() - 5;
	rig_put_object(&rig, "a/old", &rec);
	rig_put_bytes(&rig, &rec, 0, 1000);
	rig_send(fd, "GET /proxy/old HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.flags, 0);
	assert_int_equal(ask.object_no, rec.object_no);
	rec.generation = 2;
	rec.size_bytes = 2000;
	rig_put_bytes(&rig, &rec, 0, 2000);
	reply.status = REPLY_GONE;
	rig_reply(&rig, &ask, &reply, NULL);
	rig_take_ask(&rig, &ask);
	reply.status = REPLY_LOOK;
	rig_reply(&rig, &ask, &reply, &rec);
	rig_expect(fd, &res, 200, 0, 2000);
	expect_field("fwd=stale");
	close(fd);
}

/* After the head a changed object breaks the response off. */
static void test_gone(void **state)
{
	struct reply reply = { .status = REPLY_GONE };
	struct object_record rec;
	struct ask ask;
	int fd = rig_connect(&rig);
	uint8_t bytes[2000];

	(void)state;
	rig_record(&rig, &rec, 2000);
	rig_put_object(&rig, "a/gone", &rec);
	rig_put_bytes(&rig, &rec, 0, 1000);
	rig_send(fd, "GET /proxy/gone HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.length, 2000);
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.generation, 1);
	assert_int_equal(ask.want_from, 1000);
	rig_reply(&rig, &ask, &reply, NULL);
	assert_int_equal(rig_receive(fd, bytes, sizeof(bytes)), 1000);
	close(fd);
	rig_await_stat(&rig, STAT_responses_broken, 1);
}

/* A prefetcher that never answers: asked again, then 504. */
static void test_stuck_prefetcher(void **state)
{
	struct ask ask, again;
	int fd = rig_connect(&rig);

	(void)state;
	rig_send(fd, "GET /proxy/stuck HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_take_ask(&rig, &ask);
	rig_take_ask(&rig, &again);
	assert_int_equal(ask.token, again.token);
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 504);
	close(fd);
}

/* The file is not what the index says: verified, then served. */
static void test_suspect(void **state)
{
	struct reply reply = { .status = REPLY_LOOK };
	struct object_record rec;
	struct ask ask;
	int fd = rig_connect(&rig);

	(void)state;
	rig_record(&rig, &rec, 1000);
	rig_put_object(&rig, "a/doubt", &rec);
	rig_put_bytes(&rig, &rec, 0, 1000);
	assert_int_equal(chunk_unlink(rig.chunks_fd, rig.run_no - 1, 0), 0);
	rig_send(fd, "GET /proxy/doubt HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.flags, ASK_VERIFY);
	rig_put_bytes(&rig, &rec, 0, 1000);
	rig_reply(&rig, &ask, &reply, &rec);
	rig_expect(fd, &res, 200, 0, 1000);
	close(fd);
}

/* A viewer that leaves while it waits gives its row back. */
static void test_viewer_leaves(void **state)
{
	struct segment_reader *row = &rig.seg->workers[0].readers[0];
	struct object_record rec;
	struct ask ask;
	int fd = rig_connect(&rig);

	(void)state;
	rig_record(&rig, &rec, 1000);
	rig_put_object(&rig, "a/leave", &rec);
	rig_send(fd, "GET /proxy/leave HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_take_ask(&rig, &ask);
	assert_int_equal(atomic_load(&row->object_no), rec.object_no);
	close(fd);
	rig_await_stat(&rig, STAT_connections, 0);
	assert_int_equal(atomic_load(&row->object_no), 0);
}

/* Drain: the response that runs ends, an idle connection is closed. */
static void test_drain(void **state)
{
	struct object_record rec;
	int idle = rig_connect(&rig);
	int busy = rig_connect(&rig);
	struct inflight *in;
	uint8_t byte;
	int status;

	(void)state;
	rig_record(&rig, &rec, 2000);
	rig_put_object(&rig, "a/drain", &rec);
	rig_put_bytes(&rig, &rec, 0, 10);
	in = rig_run_begin(&rig, &rec, 10);
	rig_send(idle, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_head(idle, &res);
	rig_read_body(idle, &res);
	rig_send(busy, "GET /proxy/drain HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_head(busy, &res);
	assert_int_equal(kill(rig.pid, SIGQUIT), 0);
	assert_int_equal(rig_receive(idle, &byte, 1), 0);
	close(idle);
	rig_run_grow(&rig, in, 2000);
	rig_read_body(busy, &res);
	rig_check_bytes(res.body, 0, 2000);
	assert_int_equal(rig_receive(busy, &byte, 1), 0);
	close(busy);
	assert_int_equal(waitpid(rig.pid, &status, 0), rig.pid);
	assert_int_equal(status, 0);
	inflight_end(in);
	rig_start_worker(&rig);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, open_rig, close_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_hit),
		CASE(test_many_ranges),
		CASE(test_empty),
		CASE(test_cold),
		CASE(test_new_prefetcher),
		CASE(test_unknown_size),
		CASE(test_suffix_and_fail),
		CASE(test_revalidate),
		CASE(test_gone),
		CASE(test_stuck_prefetcher),
		CASE(test_suspect),
		CASE(test_viewer_leaves),
		CASE(test_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

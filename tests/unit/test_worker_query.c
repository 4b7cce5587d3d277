/* Queries of the API: parameters, pieces of answers, repeats; the test is the
 * prefetcher. */
#include "worker_rig.h"

#include "ipc/query.h"
#include "worker/query.h"

static struct rig rig;
static struct rig_response res;

static const char options[] = "[source:test]\nurl = http://f/{id}\n";

static int open_rig(void **state)
{
	(void)state;
	rig_open(&rig, options);
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

static void request(int fd, const char *method, const char *target)
{
	char text[512];

	snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: h\r\n\r\n",
		 method, target);
	rig_send(fd, text);
}

static void take_query(struct query *q, enum query_kind kind)
{
	struct pollfd p = { .fd = rig.ipc.prefetcher.rx, .events = POLLIN };

	assert_int_equal(poll(&p, 1, RIG_DEADLINE), 1);
	assert_int_equal(inbox_receive(rig.ipc.prefetcher.rx, q, sizeof(*q)),
			 sizeof(*q));
	assert_int_equal(q->type, QUERY_TYPE);
	assert_int_equal(q->kind, kind);
	assert_int_equal(q->slot, 0);
}

/* Piece [off, off + n) of an answer of total bytes, each 'a' + off % 26. */
static void send_piece(uint64_t token, uint32_t status, uint32_t total,
		       uint32_t off, uint32_t n)
{
	struct query_answer a = { .type = ANSWER_TYPE,
				  .http_status = status,
				  .token = token,
				  .total_bytes = total,
				  .piece_off = off,
				  .piece_bytes = n };

	for (uint32_t i = 0; i < n && i < QUERY_PIECE_BYTES; i++)
		a.piece[i] = (char)('a' + (off + i) % 26);
	assert_int_equal(inbox_send(rig.ipc.workers[0].tx, &a,
				    offsetof(struct query_answer, piece) +
					    min_u64(n, QUERY_PIECE_BYTES)),
			 0);
}

static void expect_body(int fd, int status, uint32_t bytes)
{
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_int_equal(res.status, status);
	assert_int_equal(res.body_bytes, bytes);
	for (uint32_t i = 0; i < bytes; i++)
		assert_int_equal(res.body[i], 'a' + i % 26);
}

static void test_seconds(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms; /* UINT64_MAX: refused */
	} rows[] = {
		{ "0", 0 },
		{ "12.5", 12500 },
		{ "12.05", 12050 },
		{ "0.001", 1 },
		{ "604800", 604800000 },
		{ "604800.000", 604800000 },
		{ "604800.001", UINT64_MAX },
		{ "604801", UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX },
		{ "", UINT64_MAX },
		{ ".", UINT64_MAX },
		{ ".5", UINT64_MAX },
		{ "1.", UINT64_MAX },
		{ "1.0001", UINT64_MAX },
		{ "1.5.5", UINT64_MAX },
		{ "-1", UINT64_MAX },
		{ "+1", UINT64_MAX },
		{ " 1", UINT64_MAX },
		{ "1e3", UINT64_MAX },
		{ "nan", UINT64_MAX },
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		uint64_t ms = UINT64_MAX;
		bool good = query_parse_seconds(slice_of(rows[n].text), &ms);

		if (good != (rows[n].ms != UINT64_MAX) ||
		    (good && ms != rows[n].ms))
			fail_msg("%s: %d %llu", rows[n].text, good,
				 (unsigned long long)ms);
	}
}

static void test_what_is_asked(void **state)
{
	int fd = rig_connect(&rig);
	struct query q;

	(void)state;
	request(fd, "POST", "/prefetch/v?start=12.5&seconds=30&bytes=7");
	take_query(&q, QUERY_PREFETCH);
	assert_int_equal(q.key_bytes, 6);
	assert_memory_equal(q.key, "test/v", 6);
	assert_int_equal(q.start_ms, 12500);
	assert_int_equal(q.seconds_ms, 30000);
	assert_int_equal(q.bytes, 7);
	assert_int_equal(q.deadline_ms, QUERY_NOT_GIVEN);
	send_piece(q.token, 202, 5, 0, 5);
	expect_body(fd, 202, 5);
	request(fd, "GET", "/prefetch/v?deadline=0");
	take_query(&q, QUERY_PREFETCH);
	assert_int_equal(q.deadline_ms, 0);
	assert_int_equal(q.bytes, QUERY_NOT_GIVEN);
	send_piece(q.token, 202, 5, 0, 5);
	expect_body(fd, 202, 5);
	request(fd, "GET", "/prefetch/v");
	take_query(&q, QUERY_PROGRESS);
	send_piece(q.token, 200, 5, 0, 5);
	expect_body(fd, 200, 5);
	request(fd, "DELETE", "/prefetch/v?bytes=no");
	take_query(&q, QUERY_CANCEL);
	send_piece(q.token, 200, 5, 0, 5);
	expect_body(fd, 200, 5);
	/* what it does not know, it passes over */
	request(fd, "GET", "/cache/v?bytes=no");
	take_query(&q, QUERY_CACHE);
	send_piece(q.token, 404, 5, 0, 5);
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_int_equal(res.status, 404);
	assert_non_null(strstr((char *)res.body, "\"detail\":\"abcde\""));
	close(fd);
}

/* A whole answer of the greatest length, and what does not count. */
static void send_pieces(uint64_t token)
{
	const uint32_t most = QUERY_BYTES_MAX;

	send_piece(token + 1, 200, 3, 0, 3);
	send_piece(token, 200, 100, 50, 50);
	send_piece(token, 200, most + 1, 0, 10);
	send_piece(token, 200, 10, 0, 11);
	send_piece(token, 200, most, 0, QUERY_PIECE_BYTES + 1);
	for (uint32_t off = 0; off < most; off += QUERY_PIECE_BYTES) {
		send_piece(token, 200, most, off, QUERY_PIECE_BYTES);
		send_piece(token, 200, most, off, QUERY_PIECE_BYTES);
		send_piece(token, 200, most - 1, off, 1);
		if (off % (8 * QUERY_PIECE_BYTES) == 0)
			(void)poll(NULL, 0, 2); /* its inbox is not endless */
	}
}

static void test_pieces(void **state)
{
	int fd = rig_connect(&rig);
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	struct query q;

	(void)state;
	request(fd, "GET", "/cache/v");
	/* who is slow is asked anew */
	for (int n = 0; n < 10 && poll(&readable, 1, 0) == 0; n++) {
		take_query(&q, QUERY_CACHE);
		send_pieces(q.token);
		(void)poll(&readable, 1, 400);
	}
	expect_body(fd, 200, QUERY_BYTES_MAX);
	close(fd);
}

static void test_asked_again(void **state)
{
	int fd = rig_connect(&rig);
	struct query q, again;

	(void)state;
	request(fd, "GET", "/map/v");
	take_query(&q, QUERY_MAP);
	send_piece(q.token, 200, 40, 0, 20);
	take_query(&again, QUERY_MAP);
	assert_int_not_equal(again.token, q.token);
	/* the rest of the first answer, and a piece of the second */
	send_piece(q.token, 200, 40, 20, 20);
	send_piece(again.token, 200, 30, 0, 30);
	expect_body(fd, 200, 30);
	close(fd);
}

static void test_client_leaves(void **state)
{
	int fd = rig_connect(&rig);
	struct query q;

	(void)state;
	request(fd, "GET", "/map/v");
	take_query(&q, QUERY_MAP);
	close(fd);
	rig_await_stat(&rig, STAT_connections, 0);
	send_piece(q.token, 200, 3, 0, 3);
	/* it may have asked again before it saw */
	while (inbox_receive(rig.ipc.prefetcher.rx, &q, sizeof(q)) > 0)
		;
	fd = rig_connect(&rig);
	request(fd, "GET", "/cache/w");
	take_query(&q, QUERY_CACHE);
	send_piece(q.token, 200, 4, 0, 4);
	expect_body(fd, 200, 4);
	close(fd);
}

static void test_nobody_answers(void **state)
{
	int fd = rig_connect(&rig);
	uint64_t begun_ms = clock_now_ms();

	(void)state;
	request(fd, "GET", "/map/v");
	/* rig_receive() is less patient than that */
	(void)poll(NULL, 0, (int)QUERY_WAIT_MS - 1000);
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_int_equal(res.status, 504);
	assert_true(clock_now_ms() - begun_ms >= QUERY_WAIT_MS);
	close(fd);
}

#define RIG_TEST(test)                                                         \
	cmocka_unit_test_setup_teardown(test, open_rig, close_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seconds), RIG_TEST(test_what_is_asked),
		RIG_TEST(test_pieces),          RIG_TEST(test_asked_again),
		RIG_TEST(test_client_leaves),   RIG_TEST(test_nobody_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

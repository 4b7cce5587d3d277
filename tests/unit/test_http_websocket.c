/* A WebSocket on a sink without a network: frames in every division, faults,
 * a client that does not read, and the end in every state. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "http/websocket.h"
#include "websocket_sink.h"

#define KEY        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define PLENTY     ((size_t)1 << 40)
#define FILE_BYTES 300000u

static struct websocket_host host;
static struct fake_sink sink;
static struct websocket *ws;
static unsigned messages, closes, writables;
static char last[70000];
static size_t last_bytes;
static bool last_text;
static int file_fd;

static uint8_t file_byte(size_t off)
{
	return (uint8_t)(off * 7 + off / 251);
}

static void on_message(void *owner, bool text, const void *bytes, size_t count)
{
	assert_ptr_equal(owner, &host);
	assert_true(count < sizeof(last));
	messages++;
	last_text = text;
	last_bytes = count;
	if (count > 0)
		memcpy(last, bytes, count);
	if (count == 5 && memcmp(bytes, "close", 5) == 0)
		websocket_close(ws, WEBSOCKET_NORMAL, "you said");
}

static void on_writable(void *owner)
{
	assert_ptr_equal(owner, &host);
	writables++;
}

static void on_closed(void *owner)
{
	assert_ptr_equal(owner, &host);
	closes++;
}

static const struct websocket_ops ops = {
	.message = on_message,
	.writable = on_writable,
	.closed = on_closed,
};

static const char *handshake(const char *fields, struct head *head)
{
	static char text[2048];

	snprintf(text, sizeof(text),
		 "GET /ws HTTP/1.1\r\nHost: A.example:80\r\n"
		 "Connection: Upgrade\r\nUpgrade: websocket\r\n%s\r\n",
		 fields);
	head_init(head);
	assert_int_equal(head_parse(head, text, strlen(text)), HEAD_DONE);
	return text;
}

static void open_one(size_t room)
{
	struct head head;

	handshake("Sec-WebSocket-Version: 13\r\n" KEY, &head);
	messages = closes = writables = 0;
	memset(&host, 0, sizeof(host));
	host.ping_ms = 30000;
	host.timeout_ms = 15000;
	websocket_host_init(&host, 1000);
	fake_open(&sink, room);
	assert_int_equal(websocket_open(&ws, &host, &sink.sink, &head, "p",
					SLICE("X: y\r\n"), &ops, &host),
			 0);
	assert_int_equal(sink.status, 101);
	assert_int_equal(host.count, 1);
}

static int setup(void **state)
{
	(void)state;
	file_fd = memfd_create("file", MFD_CLOEXEC);
	for (size_t n = 0; n < FILE_BYTES; n++) {
		uint8_t byte = file_byte(n);

		assert_int_equal(write(file_fd, &byte, 1), 1);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(file_fd);
	return 0;
}

static void feed(const void *bytes, size_t count)
{
	uint8_t *copy;

	if (closes > 0)
		return;
	copy = malloc(count + (count == 0));
	memcpy(copy, bytes, count);
	sink.sink.source_ops->input(sink.sink.source, copy, count);
	free(copy);
}

/* The client goes, whatever state it is in. */
static void finish(void)
{
	if (closes == 0)
		sink.sink.source_ops->gone(sink.sink.source);
	assert_int_equal(closes, 1);
	assert_int_equal(host.count, 0);
	assert_true(TAILQ_EMPTY(&host.all));
	fake_close(&sink);
}

static void expect_out(const void *bytes, size_t count)
{
	if (sink.out_bytes != count)
		for (size_t n = 0; n < sink.out_bytes; n++)
			print_message("%02x ", sink.out[n]);
	assert_int_equal(sink.out_bytes, count);
	assert_memory_equal(sink.out, bytes, count);
}

/* --- the handshake ------------------------------------------------------- */

static void test_accept(void **state)
{
	(void)state;
	open_one(PLENTY);
	/* the example of RFC 6455 section 1.3 */
	assert_non_null(memmem(sink.head, sink.head_bytes,
			       "\r\nSec-WebSocket-Accept: "
			       "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
			       54));
	assert_non_null(memmem(sink.head, sink.head_bytes, "\r\nX: y\r\n", 8));
	assert_null(memmem(sink.head, sink.head_bytes, "-Protocol", 9));
	finish();
}

static void test_check(void **state)
{
	static const struct {
		const char *fields;
		bool http2;
		int status; /* 0: good */
	} cases[] = {
		{ "Sec-WebSocket-Version: 13\r\n" KEY, false, 0 },
		{ "Sec-WebSocket-Version: 13\r\n", true, 0 },
		{ "Sec-WebSocket-Version: 13\r\n", false, 400 },
		{ "Sec-WebSocket-Version: 14\r\n" KEY, false, 426 },
		{ KEY, false, 426 },
		{ KEY, true, 426 },
		{ "Sec-WebSocket-Version: 13\r\n"
		  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n",
		  false, 400 },
		{ "Sec-WebSocket-Version: 13\r\n"
		  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\r\n",
		  false, 400 },
		{ "Sec-WebSocket-Version: 13\r\n" KEY
		  "Sec-WebSocket-Protocol: q, p\r\n",
		  false, 0 },
		{ "Sec-WebSocket-Version: 13\r\n" KEY
		  "Sec-WebSocket-Protocol: q\r\n"
		  "Sec-WebSocket-Protocol: pp,p\r\n",
		  false, 0 },
		{ "Sec-WebSocket-Version: 13\r\n" KEY
		  "Sec-WebSocket-Protocol: q, pp, P\r\n",
		  false, 400 },
		{ "Sec-WebSocket-Version: 13\r\nContent-Length: 1\r\n" KEY,
		  false, 400 },
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct websocket_refusal why = { 0 };
		struct head head;

		handshake(cases[n].fields, &head);
		head.http2 = cases[n].http2;
		assert_true(websocket_wanted(&head));
		assert_int_equal(websocket_check(&head, "p", &why),
				 cases[n].status == 0);
		if (cases[n].status != 0) {
			assert_int_equal(why.status, cases[n].status);
			assert_non_null(why.detail);
		}
	}
}

static void test_origins(void **state)
{
	static const struct {
		const char *origin;
		const char *origins;
		bool may;
	} cases[] = {
		{ NULL, "", true },
		{ "https://a.example:80", "same", true },
		{ "http://a.EXAMPLE:80", "same", true },
		{ "http://a.example", "same", false },
		{ "http://a.example:80.b", "same", false },
		{ "a.example:80", "same", false },
		{ "null", "same", false },
		{ "null", "*", true },
		{ "null", "null", true },
		{ "https://b.example", "same https://b.example", true },
		{ "https://b.example", "  same \thttps://b.example ", true },
		{ "https://b.example:1", "same https://b.example", false },
		{ "https://b", "https://b.example", false },
		{ "http://x", "", false },
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		struct head head;
		char fields[128] = "";

		if (cases[n].origin != NULL)
			snprintf(fields, sizeof(fields), "Origin: %s\r\n",
				 cases[n].origin);
		handshake(fields, &head);
		if (websocket_origin_allowed(&head, cases[n].origins) !=
		    cases[n].may)
			fail_msg("origin %s, origins %s", cases[n].origin,
				 cases[n].origins);
	}
}

/* --- frames that come in ------------------------------------------------- */

/* A conversation, cut into two at every byte, and into single bytes. */
static void test_every_division(void **state)
{
	uint8_t in[512];
	size_t count = 0;
	static const char answer[] = "\x8a\x05inner\x88\x02\x03\xe9";

	(void)state;
	count += fake_frame(in + count, 0x81, "hello", 5);
	count += fake_frame(in + count, 0x01, "Z\xc3", 2);
	count += fake_frame(in + count, 0x89, "inner", 5);
	count += fake_frame(in + count, 0x00, "", 0);
	count += fake_frame(in + count, 0x80, "\xbcrich", 5);
	count += fake_frame(in + count, 0x8a, "", 0);
	count += fake_frame(in + count, 0x88,
			    "\x03\xe9"
			    "bye",
			    5);
	for (size_t cut = 0; cut <= count; cut++) {
		open_one(PLENTY);
		if (cut == 0) {
			for (size_t n = 0; n < count; n++)
				feed(in + n, 1);
		} else {
			feed(in, cut);
			if (cut < count)
				feed(in + cut, count - cut);
		}
		assert_int_equal(messages, 2);
		assert_true(last_text);
		assert_int_equal(last_bytes, 7);
		assert_memory_equal(last, "Z\xc3\xbcrich", 7);
		assert_int_equal(closes, 1);
		assert_true(sink.ended);
		/* a ping before a Close need not be answered */
		if (sink.out_bytes == 4)
			expect_out(answer + 7, 4);
		else
			expect_out(answer, sizeof(answer) - 1);
		finish();
	}
}

static void test_faults(void **state)
{
	static const struct {
		const char *bytes;
		size_t count;
		unsigned code;
	} cases[] = {
#define CASE(bytes, code) { bytes, sizeof(bytes) - 1, code }
		CASE("\x81\x02{}", 1002),                       /* not masked */
		CASE("\xc1\x80\0\0\0\0", 1002),                 /* reserved */
		CASE("\x83\x80\0\0\0\0", 1002),                 /* unknown */
		CASE("\x80\x80\0\0\0\0", 1002),                 /* no begin */
		CASE("\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002), /* no end */
		CASE("\x09\x80\0\0\0\0", 1002),                 /* cut ping */
		CASE("\x89\xfe\x00\x7e\0\0\0\0x", 1002),        /* long ping */
		CASE("\x81\xfe\x00\x05\0\0\0\0hello", 1002), /* long length */
		CASE("\x81\x81\0\0\0\0\xff", 1007),
		CASE("\x81\x83\0\0\0\0\xed\xa0\x80", 1007),
		CASE("\x81\x81\0\0\0\0\xc3", 1007),
		CASE("\x88\x82\0\0\0\0\x03\xee", 1002), /* 1006 */
		CASE("\x81\xff\0\0\0\0\0\x01\0\x01\0\0\0\0x", 1009),
#undef CASE
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(cases); n++) {
		for (int bytewise = 0; bytewise < 2; bytewise++) {
			open_one(PLENTY);
			for (size_t i = 0; bytewise && i < cases[n].count; i++)
				feed(cases[n].bytes + i, 1);
			if (!bytewise)
				feed(cases[n].bytes, cases[n].count);
			/* nothing more is read */
			feed("\x81\x80\0\0\0\0", 6);
			assert_int_equal(closes, 1);
			assert_int_equal(messages, 0);
			assert_true(sink.ended);
			if (sink.out_bytes != 4) {
				print_message("case %zu %d\n", n, bytewise);
				expect_out("", 0);
			}
			assert_int_equal(sink.out[0], 0x88);
			assert_int_equal(sink.out[1], 2);
			if (sink.out[2] * 256u + sink.out[3] != cases[n].code)
				fail_msg("case %zu: %u", n,
					 sink.out[2] * 256u + sink.out[3]);
			finish();
		}
	}
}

static void test_closes(void **state)
{
	(void)state;
	open_one(PLENTY);
	feed("\x88\x80\0\0\0\0", 6);
	expect_out("\x88\x00", 2);
	finish();
	open_one(PLENTY);
	feed("\x88\x84\0\0\0\0\x0f\xa0hi", 10);
	expect_out("\x88\x02\x0f\xa0", 4);
	finish();
	/* a reason that is no UTF-8 */
	open_one(PLENTY);
	feed("\x88\x83\0\0\0\0\x03\xe8\xff", 9);
	expect_out("\x88\x02\x03\xef", 4);
	finish();
}

static void test_longest(void **state)
{
	static uint8_t in[2 * WEBSOCKET_MESSAGE_MAX];
	static char text[WEBSOCKET_MESSAGE_MAX + 1];
	size_t n;

	(void)state;
	memset(text, 'x', sizeof(text));
	open_one(PLENTY);
	feed(in, fake_frame(in, 0x82, text, WEBSOCKET_MESSAGE_MAX));
	assert_int_equal(messages, 1);
	assert_int_equal(last_bytes, WEBSOCKET_MESSAGE_MAX);
	assert_false(last_text);
	/* by fragments, one byte too many */
	n = fake_frame(in, 0x01, text, WEBSOCKET_MESSAGE_MAX);
	n += fake_frame(in + n, 0x80, "x", 1);
	feed(in, n);
	assert_int_equal(messages, 1);
	assert_int_equal(closes, 1);
	expect_out("\x88\x02\x03\xf1", 4);
	finish();
}

/* --- frames that go out -------------------------------------------------- */

static void test_text_lengths(void **state)
{
	static const size_t lengths[] = { 0,     1,     125,   126,   127,
					  65535, 65536, 65537, 300000 };
	static char text[300000];

	(void)state;
	memset(text, 'a', sizeof(text));
	for (size_t n = 0; n < ARRAY_LEN(lengths); n++) {
		size_t head = lengths[n] < 126     ? 2
			      : lengths[n] < 65536 ? 4
						   : 10;

		open_one(PLENTY);
		websocket_text(ws, text, lengths[n]);
		assert_int_equal(sink.out_bytes, head + lengths[n]);
		assert_int_equal(sink.out[0], 0x81);
		assert_memory_equal(sink.out + head, text, lengths[n]);
		finish();
	}
}

/* A file in every division: the header and the bytes come whole and in order,
 * and what is said meanwhile comes after it. */
static void test_file_with_pushback(void **state)
{
	static const char header[] = "0123456789abcdef";
	uint8_t ping[16];
	size_t ping_bytes = fake_frame(ping, 0x89, "pp", 2);
	size_t want = 4 + 16 + 5000;

	(void)state;
	for (size_t step = 1; step < 5100; step += step < 40 ? 1 : 333) {
		bool whole = true;
		size_t begun = 0;

		open_one(step);
		assert_int_equal(websocket_file(ws, header, 16, file_fd, 77,
						5000, false, &whole),
				 5000);
		assert_int_equal(whole, step >= want);
		assert_true(sink.more); /* the head does not go alone */
		if (!whole) {
			assert_false(websocket_can_send(ws));
			assert_int_equal(websocket_file(ws, header, 16, file_fd,
							0, 1, false, &whole),
					 0);
		}
		feed(ping, ping_bytes);
		websocket_text(ws, "later", 5);
		while (sink.out_bytes < want + 11 || sink.kept > 0) {
			assert_true(begun++ < 12000);
			fake_take(&sink, step);
		}
		assert_int_equal(sink.out_bytes, want + 11);
		assert_memory_equal(sink.out, "\x82\x7e\x13\x98", 4);
		assert_memory_equal(sink.out + 4, header, 16);
		for (size_t n = 0; n < 5000; n++)
			assert_int_equal(sink.out[20 + n], file_byte(77 + n));
		assert_false(sink.more);
		assert_memory_equal(sink.out + want, "\x8a\x02pp\x81\x05later",
				    11);
		finish();
	}
}

/* What has been taken is delivered though the file is closed and gone. */
static void test_file_outlives_its_owner(void **state)
{
	bool whole = true;
	int fd = memfd_create("short", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, "abcdefgh", 8), 8);
	open_one(5);
	assert_int_equal(websocket_file(ws, "H", 1, fd, 0, 8, false, &whole),
			 8);
	assert_false(whole);
	close(fd);
	websocket_close(ws, WEBSOCKET_GOING_AWAY, "");
	assert_int_equal(closes, 0);
	fake_take(&sink, 3);
	fake_take(&sink, PLENTY);
	expect_out("\x82\x09Habcdefgh\x88\x02\x03\xe9", 15);
	finish();
}

static void test_file_that_is_short(void **state)
{
	bool whole;

	(void)state;
	open_one(PLENTY);
	assert_int_equal(websocket_file(ws, "H", 1, file_fd, FILE_BYTES - 5, 6,
					false, &whole),
			 -ENODATA);
	assert_int_equal(websocket_file(ws, "H", 1, file_fd, UINT64_MAX - 1, 6,
					false, &whole),
			 -ENODATA);
	assert_int_equal(sink.out_bytes, 0);
	/* cut while it is being sent: the frame cannot be finished */
	sink.room = 10;
	assert_int_equal(
		websocket_file(ws, "H", 1, file_fd, 0, 1000, false, &whole),
		1000);
	assert_int_equal(ftruncate(file_fd, 0), 0);
	fake_take(&sink, PLENTY);
	assert_int_equal(closes, 1);
	assert_true(sink.was_reset);
	(void)teardown(NULL);
	(void)setup(NULL);
	finish();
}

static void test_too_slow(void **state)
{
	static char text[10000];
	size_t out;

	(void)state;
	memset(text, 'a', sizeof(text));
	open_one(100);
	for (int n = 0; n < 1000 && sink.most_kept < PLENTY; n++)
		websocket_text(ws, text, sizeof(text));
	assert_true(sink.most_kept <= 70000);
	assert_true(host.sent_bytes <= 500000);
	assert_false(websocket_can_send(ws));
	/* the client comes back: it is told first of all */
	out = sink.out_bytes;
	fake_take(&sink, PLENTY);
	assert_memory_equal(sink.out + out, "\x88\x0a\x03\xf0too slow", 12);
	assert_int_equal(sink.out_bytes, out + 12);
	finish();
}

static void test_pings_without_end(void **state)
{
	uint8_t in[4096];
	size_t count = 0;
	bool whole;

	(void)state;
	while (count + 16 < sizeof(in))
		count += fake_frame(in + count, 0x89, "pppp", 4);
	open_one(100);
	assert_int_equal(
		websocket_file(ws, "H", 1, file_fd, 0, 5000, false, &whole),
		5000);
	for (int n = 0; n < 100 && closes == 0; n++)
		feed(in, count);
	assert_int_equal(closes, 1);
	assert_true(sink.was_reset);
	finish();
}

/* --- its end ------------------------------------------------------------- */

static void test_close_by_us(void **state)
{
	uint8_t in[64];
	size_t n;

	(void)state;
	open_one(PLENTY);
	n = fake_frame(in, 0x81, "close", 5);
	n += fake_frame(in + n, 0x81, "ignored", 7);
	feed(in, n);
	assert_int_equal(messages, 1);
	assert_int_equal(closes, 0);
	expect_out("\x88\x0a\x03\xe8you said", 12);
	websocket_text(ws, "nothing", 7);
	websocket_close(ws, WEBSOCKET_FAULT, "nothing");
	feed(in, fake_frame(in, 0x88, "\x03\xe8", 2));
	assert_int_equal(closes, 1);
	assert_true(sink.ended);
	assert_int_equal(sink.out_bytes, 12);
	finish();
}

static void test_close_without_answer(void **state)
{
	(void)state;
	open_one(PLENTY);
	websocket_drain(&host);
	expect_out("\x88\x02\x03\xe9", 4);
	websocket_tick(&host, 1000 + WEBSOCKET_CLOSE_MS - 1);
	assert_int_equal(closes, 0);
	websocket_tick(&host, 1000 + WEBSOCKET_CLOSE_MS);
	assert_int_equal(closes, 1);
	assert_true(sink.ended);
	finish();
	/* and one that does not even take the Close */
	open_one(0);
	websocket_text(ws, "x", 1);
	websocket_drain(&host);
	websocket_tick(&host, 1000 + WEBSOCKET_CLOSE_MS);
	assert_true(sink.was_reset);
	finish();
}

static void test_keep_alive(void **state)
{
	uint8_t in[64];

	(void)state;
	open_one(PLENTY);
	websocket_tick(&host, 30999);
	assert_int_equal(sink.out_bytes, 0);
	websocket_tick(&host, 31000);
	expect_out("\x89\x00", 2);
	websocket_tick(&host, 45999);
	feed(in, fake_frame(in, 0x8a, "", 0));
	websocket_tick(&host, 75998);
	assert_int_equal(sink.out_bytes, 2);
	websocket_tick(&host, 75999);
	assert_int_equal(sink.out_bytes, 4);
	websocket_tick(&host, 90998);
	assert_int_equal(closes, 0);
	websocket_tick(&host, 90999);
	assert_int_equal(closes, 1);
	assert_true(sink.was_reset);
	finish();
}

static void test_left(void **state)
{
	(void)state;
	/* without a Close */
	open_one(PLENTY);
	feed("", 0);
	assert_int_equal(closes, 1);
	assert_true(sink.was_reset);
	finish();
	/* gone without a word, noticed by sending */
	open_one(PLENTY);
	sink.fails = true;
	websocket_text(ws, "x", 1);
	assert_int_equal(closes, 0);
	assert_false(websocket_can_send(ws));
	websocket_tick(&host, 1100);
	assert_int_equal(closes, 1);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accept),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_origins),
		cmocka_unit_test(test_every_division),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_closes),
		cmocka_unit_test(test_longest),
		cmocka_unit_test(test_text_lengths),
		cmocka_unit_test(test_file_with_pushback),
		cmocka_unit_test(test_file_outlives_its_owner),
		cmocka_unit_test(test_file_that_is_short),
		cmocka_unit_test(test_too_slow),
		cmocka_unit_test(test_pings_without_end),
		cmocka_unit_test(test_close_by_us),
		cmocka_unit_test(test_close_without_answer),
		cmocka_unit_test(test_keep_alive),
		cmocka_unit_test(test_left),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

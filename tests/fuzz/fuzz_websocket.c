/*
 * Any bytes as what a client of a WebSocket sends: whatever comes, what we
 * send is whole frames in order, a message is at most as long as it may be
 * and a text is UTF-8, and it ends once.  Messages go through the parser of
 * the protocol.  The first byte says how large the pieces are, the second how
 * fast the client reads.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../unit/websocket_sink.h"
#include "http/websocket.h"
#include "worker/control_parse.h"

#define FILE_BYTES 100000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct websocket_host host;
static struct fake_sink sink;
static struct websocket *ws;
static unsigned closes;
static int file_fd = -1;

/* RFC 3629, by the table of its section 4. */
static bool is_utf8(const uint8_t *at, size_t count)
{
	for (size_t n = 0; n < count;) {
		unsigned more = at[n] < 0x80   ? 0
				: at[n] < 0xe0 ? 1
				: at[n] < 0xf0 ? 2
					       : 3;
		uint32_t code = more == 0 ? at[n] : at[n] & (0x3fu >> more);
		static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };

		if ((at[n] >= 0x80 && at[n] < 0xc2) || at[n] > 0xf4 ||
		    more >= count - n)
			return false;
		for (unsigned i = 1; i <= more; i++) {
			if ((at[n + i] & 0xc0) != 0x80)
				return false;
			code = code << 6 | (at[n + i] & 0x3f);
		}
		if (code < least[more] || code > 0x10ffff ||
		    (code >= 0xd800 && code <= 0xdfff))
			return false;
		n += more + 1;
	}
	return true;
}

static void send_file(uint64_t off, uint64_t count)
{
	bool whole = true;
	int64_t n;

	if (count == 0 || off >= FILE_BYTES)
		return;
	count = min_u64(count, FILE_BYTES - off);
	n = websocket_file(ws, "0123456789abcdef", 16, file_fd, off, count,
			   false, &whole);
	must(n == 0 || n == -EPIPE || n == (int64_t)count);
}

static void on_message(void *owner, bool text, const void *message,
		       size_t count)
{
	struct control_message m;
	const char *fault;
	int rc;

	must(owner == &sink && count <= WEBSOCKET_MESSAGE_MAX);
	if (!text) {
		/* the fuzzer may close, too */
		if (count > 0)
			websocket_close(ws, WEBSOCKET_UNSUPPORTED, "binary");
		return;
	}
	must(is_utf8(message, count));
	rc = control_parse(&m, message, count, &fault);
	if (rc < 0) {
		must(fault != NULL);
		websocket_text(ws, fault, strlen(fault));
	} else if (m.type == CONTROL_CHUNK) {
		must(m.offset <= CONTROL_OFFSET_MAX && *m.id != '\0');
		send_file(m.offset % FILE_BYTES, m.length % FILE_BYTES);
	} else {
		websocket_text(ws, m.id, strlen(m.id));
	}
}

static void on_writable(void *owner)
{
	must(owner == &sink);
	must(websocket_can_send(ws));
}

static void on_closed(void *owner)
{
	must(owner == &sink);
	closes++;
}

static const struct websocket_ops ops = {
	.message = on_message,
	.writable = on_writable,
	.closed = on_closed,
};

/* cut: the last frame may be cut short. */
static void check_out(bool cut)
{
	const uint8_t *at = sink.out;
	const uint8_t *end = at == NULL ? NULL : at + sink.out_bytes;
	bool closed = false;

	while (at < end) {
		size_t head = 2;
		uint64_t count;

		must(!closed);
		must(at[0] == 0x81 || at[0] == 0x82 || at[0] == 0x88 ||
		     at[0] == 0x8a || at[0] == 0x89);
		closed = at[0] == 0x88;
		if (end - at < 10 && cut)
			return;
		must(end - at >= 2 && at[1] < 128);
		count = at[1];
		if (count == 126) {
			head = 4;
			count = at[2] * 256u + at[3];
			must(count >= 126);
		} else if (count == 127) {
			head = 10;
			count = 0;
			for (int n = 2; n < 10; n++)
				count = count << 8 | at[n];
			must(count > UINT16_MAX);
		}
		must(count <= WEBSOCKET_TEXT_MAX);
		if (count + head > (uint64_t)(end - at)) {
			must(cut);
			return;
		}
		must(at[0] != 0x81 || is_utf8(at + head, count));
		must((at[0] & 8) == 0 || count <= 125);
		at += head + count;
	}
}

static void open_file(void)
{
	if (file_fd >= 0)
		return;
	file_fd = memfd_create("file", MFD_CLOEXEC);
	must(file_fd >= 0 && ftruncate(file_fd, FILE_BYTES) == 0);
}

static void open_one(size_t room)
{
	static const char text[] =
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
		"Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	struct head head;

	head_init(&head);
	must(head_parse(&head, text, sizeof(text) - 1) == HEAD_DONE);
	host.ping_ms = 100;
	host.timeout_ms = 50;
	websocket_host_init(&host, 1);
	fake_open(&sink, room);
	closes = 0;
	must(websocket_open(&ws, &host, &sink.sink, &head, "p", SLICE(""), &ops,
			    &sink) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t step = bytes > 0 ? (size_t)data[0] * data[0] / 8 + 1 : 1;
	size_t room = bytes > 1 ? (size_t)data[1] * data[1] : 0;
	size_t skip = min_u64(bytes, 2);
	uint64_t now_ms = 1;

	open_file();
	open_one(room);
	data += skip;
	bytes -= skip;
	while (bytes > 0 && closes == 0) {
		size_t n = min_u64(step, bytes);
		uint8_t *copy = malloc(n);

		must(copy != NULL);
		memcpy(copy, data, n);
		/* a sink hands nothing over while bytes() are kept */
		if (sink.kept > 0 && room > 0)
			fake_take(&sink, sink.kept + room);
		if (closes == 0 && sink.kept == 0)
			sink.sink.source_ops->input(sink.sink.source, copy, n);
		free(copy);
		data += n;
		bytes -= n;
		now_ms += 10;
		websocket_tick(&host, now_ms);
		if (closes == 0 && room > 0)
			fake_take(&sink, room);
	}
	must(sink.most_kept <= WEBSOCKET_QUEUE_MAX + 2 * WEBSOCKET_TEXT_MAX);
	if (closes == 0)
		sink.sink.source_ops->input(sink.sink.source, NULL, 0);
	must(closes == 1 && host.count == 0);
	must(sink.ended != sink.was_reset);
	check_out(sink.was_reset);
	fake_close(&sink);
	return 0;
}

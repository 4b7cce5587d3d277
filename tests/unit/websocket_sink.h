/*
 * A duplex sink without a network: what is sent lies in memory, and how much
 * of it is taken is for the test to say.
 */
#ifndef REELCACHE_TESTS_UNIT_WEBSOCKET_SINK_H
#define REELCACHE_TESTS_UNIT_WEBSOCKET_SINK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/sink.h"

#define FAKE_HEAD_BYTES 4096u

struct fake_sink {
	struct sink sink; /* first: a sink is its fake_sink */
	struct fields fields;
	char head[FAKE_HEAD_BYTES];
	size_t head_bytes;
	int status;
	uint8_t *out; /* after the head */
	size_t out_bytes;
	size_t room; /* bytes that the client takes */
	size_t kept; /* of bytes(), beyond room */
	size_t most_kept;
	unsigned file_calls;
	bool more; /* as of the last bytes() */
	bool ended;
	bool was_reset;
	bool pushed_back;
	bool fails; /* the client has gone, and nobody has told */
};

static struct fields *fake_head(struct sink *sink, int status)
{
	struct fake_sink *f = (struct fake_sink *)sink;

	f->status = status;
	fields_init(&f->fields, f->head, sizeof(f->head));
	fields_status(&f->fields, status);
	return &f->fields;
}

static int fake_head_end(struct sink *sink, enum sink_body body,
			 uint64_t body_bytes)
{
	struct fake_sink *f = (struct fake_sink *)sink;

	must(body != SINK_DUPLEX || body_bytes == SIZE_UNKNOWN);
	return fields_end(&f->fields, &f->head_bytes);
}

static void fake_append(struct fake_sink *f, const void *bytes, size_t count)
{
	if (count == 0)
		return;
	f->out = realloc(f->out, f->out_bytes + count);
	must(f->out != NULL);
	memcpy(f->out + f->out_bytes, bytes, count);
	f->out_bytes += count;
}

static int fake_bytes(struct sink *sink, const void *bytes, size_t count)
{
	struct fake_sink *f = (struct fake_sink *)sink;
	size_t taken = min_u64(count, f->room);

	must(!f->ended && !f->was_reset && count <= SINK_BYTES_MAX);
	f->more = sink->more;
	if (f->fails)
		return -1;
	fake_append(f, bytes, count);
	f->room -= taken;
	f->kept += count - taken;
	f->most_kept = max_u64(f->most_kept, f->kept);
	return 0;
}

static int64_t fake_file(struct sink *sink, int fd, uint64_t file_off,
			 uint64_t count)
{
	struct fake_sink *f = (struct fake_sink *)sink;
	uint8_t piece[4096];
	ssize_t n;

	must(!f->ended && !f->was_reset);
	f->file_calls++;
	count = min_u64(min_u64(count, f->room), sizeof(piece));
	if (count == 0 || f->kept > 0) {
		f->pushed_back = true;
		return 0;
	}
	n = pread(fd, piece, count, (off_t)file_off);
	if (n <= 0)
		return n == 0 ? -ENODATA : -EIO;
	fake_append(f, piece, (size_t)n);
	f->room -= (size_t)n;
	return n;
}

static bool fake_ready(struct sink *sink)
{
	struct fake_sink *f = (struct fake_sink *)sink;

	if (f->kept == 0)
		return true;
	f->pushed_back = true;
	return false;
}

static void fake_end(struct sink *sink)
{
	struct fake_sink *f = (struct fake_sink *)sink;

	must(!f->ended && !f->was_reset);
	f->ended = true;
}

static void fake_reset(struct sink *sink)
{
	struct fake_sink *f = (struct fake_sink *)sink;

	must(!f->ended && !f->was_reset);
	f->was_reset = true;
}

static const uint8_t *fake_peer(const struct sink *sink)
{
	static const uint8_t peer[SINK_PEER_BYTES];

	(void)sink;
	return peer;
}

static uint64_t fake_unread(const struct sink *sink)
{
	return ((const struct fake_sink *)sink)->kept;
}

static void fake_hurry(struct sink *sink, enum sink_urgency urgency)
{
	(void)sink;
	(void)urgency;
}

static const struct sink_ops fake_ops = {
	.head = fake_head,
	.head_end = fake_head_end,
	.bytes = fake_bytes,
	.file = fake_file,
	.ready = fake_ready,
	.unread = fake_unread,
	.end = fake_end,
	.reset = fake_reset,
	.peer = fake_peer,
	.hurry = fake_hurry,
};

/* The client takes so many more bytes. */
static inline void fake_take(struct fake_sink *f, size_t room)
{
	size_t n = min_u64(room, f->kept);

	f->kept -= n;
	f->room += room - n;
	if (f->kept > 0 || !f->pushed_back || f->ended || f->was_reset)
		return;
	f->pushed_back = false;
	f->sink.source_ops->writable(f->sink.source);
}

static inline void fake_open(struct fake_sink *f, size_t room)
{
	memset(f, 0, sizeof(*f));
	f->sink.ops = &fake_ops;
	f->room = room;
}

static inline void fake_close(struct fake_sink *f)
{
	free(f->out);
	f->out = NULL;
	f->out_bytes = 0;
}

/* A frame as a client sends it; n: bytes of it in dst. */
static inline size_t fake_frame(uint8_t *dst, unsigned first,
				const void *payload, size_t count)
{
	static const uint8_t key[4] = { 0x11, 0xa2, 0x03, 0xf4 };
	size_t n = 0;

	dst[n++] = (uint8_t)first;
	if (count < 126) {
		dst[n++] = (uint8_t)(0x80 | count);
	} else if (count <= UINT16_MAX) {
		dst[n++] = 0x80 | 126;
		dst[n++] = (uint8_t)(count >> 8);
		dst[n++] = (uint8_t)count;
	} else {
		dst[n++] = 0x80 | 127;
		for (int bit = 56; bit >= 0; bit -= 8)
			dst[n++] = (uint8_t)((uint64_t)count >> bit);
	}
	memcpy(dst + n, key, sizeof(key));
	n += sizeof(key);
	for (size_t i = 0; i < count; i++)
		dst[n++] = ((const uint8_t *)payload)[i] ^ key[i % 4];
	return n;
}

#endif

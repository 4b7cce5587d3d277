/*
 * A client's bytes through a connection on a socket pair, answered by sources
 * of every kind: what leaves is whole frames, each body's bytes are the right
 * ones from the first on, and at the end nothing is left, whatever came, in
 * which pieces, and whether the client reads.
 *
 * Two bytes before the client's say how it behaves: see FLAG_.
 */
#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/conn.h"
#include "http/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define FLAG_PREFACE  1u  /* the preface and SETTINGS come by themselves */
#define FLAG_DEAF     2u  /* the client reads nothing until the end */
#define FLAG_SLOW     4u  /* ... a little at a time */
#define FLAG_DRAIN    8u  /* half-way */
#define FLAG_TIMEOUTS 16u /* time flies */
#define FLAG_HALF     32u /* the client closes its sending side first */

#define FILE_BYTES 100000u
#define STEPS_MAX  64u
#define BODIES     4096u /* a power of two */

struct source {
	struct source *next;
	struct sink *sink;
	char kind;
	bool head_sent;
	bool waits; /* for the next step, as for an origin */
	bool duplex;
	uint64_t at; /* of the body */
	uint64_t end;
};

static struct segment_stats stats;
static struct conn_host host;
static uint64_t now_us;
static struct source *sources;
static int file_fd;
static char pattern[FILE_BYTES];

/* What has come of a body. */
static struct {
	uint32_t id;
	uint32_t at;
	bool ended;
} bodies[BODIES];

static struct {
	uint8_t head[9];
	size_t head_bytes;
	size_t left; /* of the payload */
	uint64_t frames;
} reader;

/* --- sources ------------------------------------------------------------- */

static void forget(struct source *s)
{
	struct source **at = &sources;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s);
}

static void end(struct source *s)
{
	s->sink->ops->end(s->sink);
	forget(s);
}

static void reset(struct source *s)
{
	s->sink->ops->reset(s->sink);
	forget(s);
}

static int send_head(struct source *s)
{
	bool unknown = s->kind == 'u' || s->kind == 'U';
	enum sink_body body = s->kind == 'h'   ? SINK_BODY_HEAD_ONLY
			      : s->kind == 'n' ? SINK_BODY_NONE
			      : s->duplex      ? SINK_DUPLEX
					       : SINK_BODY;
	struct fields *f = s->sink->ops->head(s->sink, s->duplex ? 101 : 200);

	FIELDS_LITERAL(f, "Content-Type: video/mp4\r\nX-Empty: \r\n");
	s->head_sent = true;
	return s->sink->ops->head_end(s->sink, body,
				      unknown ? SIZE_UNKNOWN : s->end);
}

/* One step; false: it waits, or is gone. */
static bool step(struct source *s)
{
	uint64_t left = s->end - s->at;
	int64_t n;

	if (s->kind == 'R' && s->at >= 20000) {
		reset(s);
		return false;
	}
	if (left == 0) {
		end(s);
		return false;
	}
	if (s->kind == 'b' || s->kind == 'u') {
		if (!s->sink->ops->ready(s->sink))
			return false;
		n = left < 7000 ? (int64_t)left : 7000;
		if (s->sink->ops->bytes(s->sink, pattern + s->at, (size_t)n) <
		    0) {
			reset(s);
			return false;
		}
	} else {
		n = s->sink->ops->file(s->sink, file_fd, s->at, left);
		if (n < 0) {
			reset(s);
			return false;
		}
	}
	s->at += (uint64_t)n;
	if (n > 0 && s->kind == 'w' && s->at % 3 == 0) {
		s->waits = true;
		return false;
	}
	return n > 0;
}

static void run(struct source *s)
{
	if (!s->head_sent && send_head(s) < 0) {
		reset(s);
		return;
	}
	if (s->kind == 'h' || s->kind == 'n') {
		end(s);
		return;
	}
	if (s->duplex) {
		if (s->at++ == 0 && s->sink->ops->bytes(s->sink, "E", 1) < 0)
			reset(s);
		return;
	}
	while (step(s))
		;
}

static void on_writable(void *source)
{
	struct source *s = source;

	if (!s->waits)
		run(s);
}

static void on_gone(void *source)
{
	forget(source);
}

/* An echo, until the client ends or says so. */
static void on_input(void *source, const void *bytes, size_t count)
{
	struct source *s = source;

	if (count == 0 || memchr(bytes, '!', count) != NULL)
		end(s);
	else if (memchr(bytes, '?', count) != NULL ||
		 s->sink->ops->bytes(s->sink, bytes, count) < 0)
		reset(s);
}

static const struct sink_source_ops source_ops = {
	.writable = on_writable,
	.gone = on_gone,
	.input = on_input,
};

static void begin(struct sink *sink, char kind, bool tunnel)
{
	struct source *s = calloc(1, sizeof(*s));

	must(s != NULL);
	s->sink = sink;
	s->kind = kind;
	s->duplex = kind == 'd' && tunnel;
	s->end = kind == 'z' ? 0 : kind == 's' ? 10 : FILE_BYTES - kind;
	s->next = sources;
	sources = s;
	sink->source = s;
	sink->source_ops = &source_ops;
	sink->ops->hurry(sink, kind == 's'   ? SINK_CONTROL
			       : kind == 'b' ? SINK_AHEAD
					     : SINK_MEDIA);
	if (kind == 'r')
		reset(s);
	else if (kind == 'l' || kind == 'w')
		s->waits = true;
	else
		run(s);
}

static void on_request(struct conn_host *h, struct sink *sink,
		       const struct head *head)
{
	struct slice path = head_path(head);

	must(h == &host);
	begin(sink, path.bytes > 1 ? path.at[1] : 'f',
	      slice_present(head_field(head, FIELD_UPGRADE)));
}

static void on_refuse(struct conn_host *h, struct sink *sink,
		      const struct head *head, int status, const char *reason)
{
	must(h == &host && head->base != NULL && status >= 400 && reason);
	begin(sink, 's', false);
}

static void on_closed(struct conn_host *h, const uint8_t *peer)
{
	must(h == &host && peer != NULL);
}

static uint64_t clock_us(void)
{
	return now_us;
}

/* --- the client ---------------------------------------------------------- */

static void read_payload(const uint8_t *data, size_t bytes)
{
	uint32_t id = (uint32_t)reader.head[5] << 24 | reader.head[6] << 16 |
		      reader.head[7] << 8 | reader.head[8];
	uint32_t n = id / 2 % BODIES;

	if (reader.head[3] != 0)
		return;
	if (bodies[n].id != id) {
		bodies[n].id = id;
		bodies[n].at = 0;
		bodies[n].ended = false;
	}
	/* an echo is told by its first byte, which is not the pattern's */
	if (bodies[n].at == 0 && bytes > 0 && data[0] != (uint8_t)pattern[0])
		bodies[n].at = FILE_BYTES;
	if (bodies[n].at < FILE_BYTES) {
		must(bodies[n].at + bytes <= FILE_BYTES);
		must(memcmp(data, pattern + bodies[n].at, bytes) == 0);
		bodies[n].at += (uint32_t)bytes;
	}
	if (bytes == reader.left && (reader.head[4] & 1) != 0) {
		must(!bodies[n].ended);
		bodies[n].ended = true;
	}
}

static void read_frames(const uint8_t *data, size_t bytes)
{
	while (bytes > 0) {
		size_t n = bytes;

		if (reader.head_bytes < 9) {
			reader.head[reader.head_bytes++] = *data++;
			bytes--;
			if (reader.head_bytes < 9)
				continue;
			reader.left = (size_t)reader.head[0] << 16 |
				      reader.head[1] << 8 | reader.head[2];
			must(reader.left <= 16384);
			must(reader.frames++ > 0 || reader.head[3] == 4);
			if (reader.left > 0)
				continue;
			n = 0;
		}
		if (n > reader.left)
			n = reader.left;
		read_payload(data, n);
		data += n;
		bytes -= n;
		reader.left -= n;
		if (reader.left == 0)
			reader.head_bytes = 0;
	}
}

static void read_some(int fd, size_t limit, bool is_h2)
{
	static uint8_t buffer[65536];

	while (limit > 0) {
		ssize_t n =
			read(fd, buffer,
			     limit < sizeof(buffer) ? limit : sizeof(buffer));

		if (n <= 0)
			return;
		if (is_h2)
			read_frames(buffer, (size_t)n);
		limit -= (size_t)n;
	}
}

/* --- the machine --------------------------------------------------------- */

static void turn(void)
{
	bool more = true;

	for (unsigned n = 0; n < 200 && more; n++) {
		must(event_base_loop(host.base, EVLOOP_NONBLOCK) >= 0);
		more = conn_host_turn_end(&host);
	}
	must(!more); /* it does not go round and round */
	conn_tick(&host);
	(void)conn_host_turn_end(&host);
	for (struct source *s = sources, *next; s != NULL; s = next) {
		next = s->next;
		if (!s->waits)
			continue;
		s->waits = false;
		run(s); /* only s itself may be gone now */
	}
}

static void make_host(void)
{
	struct event_config *config = event_config_new();

	must(config != NULL &&
	     event_config_require_features(
		     config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE) == 0);
	host.base = event_base_new_with_config(config);
	event_config_free(config);
	must(host.base != NULL);
	host.stats = &stats;
	host.clock_us = clock_us;
	host.timeout_ms[CONN_TIMER_HEAD] = 5000;
	host.timeout_ms[CONN_TIMER_IDLE] = 8000;
	host.timeout_ms[CONN_TIMER_BODY] = 5000;
	host.timeout_ms[CONN_TIMER_SEND] = 6000;
	host.streams_max = 20;
	host.request = on_request;
	host.refuse = on_refuse;
	host.closed = on_closed;
	conn_host_init(&host);
	for (size_t n = 0; n < sizeof(pattern); n++)
		pattern[n] = (char)(n * 31 + n / 251 + 7);
	file_fd = memfd_create("body", MFD_CLOEXEC);
	must(file_fd >= 0 && write(file_fd, pattern, sizeof(pattern)) ==
				     (ssize_t)sizeof(pattern));
}

static void converse(int fd, const uint8_t *data, size_t bytes, unsigned flags,
		     size_t piece, bool is_h2)
{
	size_t at = 0, steps = 0;

	if (piece < bytes / STEPS_MAX + 1)
		piece = bytes / STEPS_MAX + 1;
	while (at < bytes && host.count > 0) {
		size_t n = bytes - at < piece ? bytes - at : piece;
		ssize_t sent = send(fd, data + at, n, MSG_NOSIGNAL);

		if (sent > 0)
			at += (size_t)sent;
		now_us += (flags & FLAG_TIMEOUTS) != 0 ? 900000 : 1000;
		if ((flags & FLAG_DRAIN) != 0 && at >= bytes / 2 &&
		    !host.draining)
			conn_host_drain(&host);
		turn();
		if ((flags & FLAG_DEAF) == 0)
			read_some(fd, (flags & FLAG_SLOW) != 0 ? 300 : 1 << 20,
				  is_h2);
		if (++steps > 2 * STEPS_MAX)
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const uint8_t begun[] = H2_PREFACE "\0\0\0\4\0\0\0\0";
	static const uint8_t address[SINK_PEER_BYTES] = { 0 };
	int fds[2];
	unsigned flags;
	bool is_h2;

	if (bytes < 2)
		return 0;
	if (host.base == NULL)
		make_host();
	flags = data[0];
	memset(&reader, 0, sizeof(reader));
	memset(bodies, 0, sizeof(bodies));
	is_h2 = (flags & FLAG_PREFACE) != 0 ||
		(bytes >= 2 + H2_PREFACE_BYTES &&
		 memcmp(data + 2, H2_PREFACE, H2_PREFACE_BYTES) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			fds) == 0);
	must(conn_open(&host, fds[0], address, NULL) == 0);
	if ((flags & FLAG_PREFACE) != 0) /* with the literal's NUL: 9 bytes */
		must(send(fds[1], begun, sizeof(begun), MSG_NOSIGNAL) ==
		     (ssize_t)sizeof(begun));
	converse(fds[1], data + 2, bytes - 2, flags, (size_t)data[1] * 16,
		 is_h2);
	if ((flags & FLAG_HALF) != 0) {
		(void)shutdown(fds[1], SHUT_WR);
		turn();
	}
	for (unsigned n = 0; n < 4 && host.count > 0; n++) {
		read_some(fds[1], 1 << 20, is_h2);
		turn();
	}
	/* every wait has an end */
	if ((flags & FLAG_TIMEOUTS) != 0) {
		for (unsigned n = 0; n < 40 && host.count > 0; n++) {
			now_us += 3000000;
			turn();
			if ((flags & FLAG_DEAF) == 0)
				read_some(fds[1], 1 << 20, is_h2);
		}
		must(host.count == 0 || sources != NULL);
	}
	close(fds[1]);
	turn();
	turn();
	must(host.count == 0 && sources == NULL);
	host.draining = false;
	return 0;
}

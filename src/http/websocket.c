#include "http/websocket.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wslay/wslay.h>

#include "http/base64.h"
#include "http/fields.h"
#include "util/words.h"

#define KEY_BYTES    24u /* base64 of 16 bytes */
#define PONGS_MAX    1024u
#define IDLE_BYTES   4096u /* of a message's room that are kept */
#define FRAME_HEAD   10u   /* RFC 6455 section 5.2, without a mask */
#define FRAME_BINARY 0x82u /* the last of its message, and the only one */
#define LENGTH_16    126u
#define LENGTH_64    127u
#define FRAME_CLOSE  0x88u

/*
 *   open ----- message, texts, files -----.
 *    |  ^----------------------------------'
 *    | close of ours or the client's, fault
 *    v
 *   closing -- both have closed, or a fault was told, or CLOSE_MS --.
 *    |                                                             v
 *    '------- client gone, broken, no sign of life -------------> over
 *
 * What is over ends at the end of a call from the event loop (leave()), since
 * the owner may be in the midst of using it.
 */
struct websocket {
	TAILQ_ENTRY(websocket) link;
	struct websocket_host *host;
	struct sink *sink;
	const struct websocket_ops *ops;
	void *owner;
	wslay_event_context_ptr frames;

	const uint8_t *in; /* of the input() that runs */
	size_t in_bytes;
	char *message; /* as much of it as has come */
	uint32_t message_bytes;
	uint32_t message_max;

	int file_fd; /* ours; of the binary message that is being sent */
	uint64_t file_off;
	uint64_t file_left;
	struct stat file_was; /* when the message was begun */
	bool file_changes;    /* others may write to it */

	uint64_t heard_ms;
	uint64_t given_bytes; /* to the sink */
	uint64_t read_bytes;  /* of these, when a ping was sent or missed */
	uint64_t ping_ms;     /* of one without an answer; 0 = none */
	uint64_t close_ms;    /* when closing is over; 0 = it has not begun */
	uint32_t batch_used;
	uint16_t answer_code;  /* 0 = none */
	uint8_t calls;         /* of the event loop, on the stack */
	bool in_control : 1;   /* the frame that comes in */
	bool payload_next : 1; /* of a frame whose head was taken */
	bool batch_pushed : 1;
	bool answer_close : 1; /* with this code; then it is over */
	bool over : 1;
	bool broken : 1; /* no orderly end */
	bool gone : 1;   /* the sink must not be touched */
};

/* --- the handshake ------------------------------------------------------- */

bool websocket_wanted(const struct head *head)
{
	return head->method == METHOD_GET &&
	       head_list_has(head, FIELD_CONNECTION, "upgrade") &&
	       head_list_has(head, FIELD_UPGRADE, "websocket");
}

static bool key_valid(struct slice key)
{
	if (key.bytes != KEY_BYTES || memcmp(key.at + 22, "==", 2) != 0)
		return false;
	for (size_t n = 0; n < 22; n++) {
		char c = key.at[n];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		      (c >= '0' && c <= '9') || c == '+' || c == '/'))
			return false;
	}
	return true;
}

static bool offers(const struct head *head, const char *protocol)
{
	struct slice line, element;

	for (unsigned at = 0;
	     head_next_line(head, FIELD_SEC_WEBSOCKET_PROTOCOL, &at, &line);)
		while (slice_next_element(&line, &element))
			if (slice_is(element, protocol))
				return true;
	return false;
}

bool websocket_check(const struct head *head, const char *protocol,
		     struct websocket_refusal *why)
{
	struct slice version = head_field(head, FIELD_SEC_WEBSOCKET_VERSION);

	why->fields = NULL;
	why->status = 400;
	if (!slice_is(version, "13")) {
		why->status = 426;
		why->fields = head->http2 ? "Sec-WebSocket-Version: 13\r\n"
					  : "Upgrade: websocket\r\n"
					    "Sec-WebSocket-Version: 13\r\n";
		why->detail = "version 13 of the WebSocket protocol is spoken";
		return false;
	}
	if (!head->http2 && head->minor == 0) {
		why->detail = "a WebSocket needs HTTP/1.1 or later";
		return false;
	}
	if (head->content_length > 0) {
		why->detail = "a handshake has no body";
		return false;
	}
	if (!head->http2 &&
	    !key_valid(head_field(head, FIELD_SEC_WEBSOCKET_KEY))) {
		why->detail = "Sec-WebSocket-Key must be 16 bytes in base64";
		return false;
	}
	if (slice_present(head_field(head, FIELD_SEC_WEBSOCKET_PROTOCOL)) &&
	    !offers(head, protocol)) {
		why->detail = "none of the offered sub-protocols is spoken";
		return false;
	}
	return true;
}

/* The host part of an origin; absent: it has none. */
static struct slice origin_host(struct slice origin)
{
	const char *at = origin.bytes == 0
				 ? NULL
				 : memmem(origin.at, origin.bytes, "://", 3);

	if (at == NULL)
		return SLICE_ABSENT;
	return slice_skip(origin, (size_t)(at - origin.at) + 3);
}

bool websocket_origin_allowed(const struct head *head, const char *origins)
{
	struct slice origin = head_field(head, FIELD_ORIGIN);
	struct slice host = origin_host(origin);

	if (!slice_present(origin))
		return true;
	for (size_t n; (n = words_next(&origins)) > 0; origins += n) {
		struct slice word = slice_make(origins, n);

		if (slice_is(word, "*"))
			return true;
		if (slice_is(word, "same") && slice_present(host) &&
		    slice_same_nocase(host, head_host(head)))
			return true;
		if (slice_same_nocase(word, origin))
			return true;
	}
	return false;
}

/* RFC 6455 section 4.2.2 */
static int add_accept(struct fields *f, struct slice key)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char text[KEY_BYTES + sizeof(guid) - 1];
	unsigned char digest[EVP_MAX_MD_SIZE];
	char accept[BASE64_BYTES(EVP_MAX_MD_SIZE) + 1];
	unsigned digest_bytes;
	size_t n;

	memcpy(text, key.at, KEY_BYTES);
	memcpy(text + KEY_BYTES, guid, sizeof(guid) - 1);
	if (EVP_Digest(text, sizeof(text), digest, &digest_bytes, EVP_sha1(),
		       NULL) != 1)
		return -ENOMEM;
	n = base64_encode(accept, digest, digest_bytes);
	FIELDS_ADD(f, "Sec-WebSocket-Accept", slice_make(accept, n));
	return 0;
}

static int send_head(struct sink *sink, const struct head *head,
		     const char *protocol, struct slice fields)
{
	struct fields *f = sink->ops->head(sink, 101);
	int rc = 0;

	if (!head->http2)
		rc = add_accept(f, head_field(head, FIELD_SEC_WEBSOCKET_KEY));
	if (rc < 0)
		return rc;
	if (offers(head, protocol))
		FIELDS_ADD(f, "Sec-WebSocket-Protocol", slice_of(protocol));
	fields_raw(f, fields.at, fields.bytes);
	return sink->ops->head_end(sink, SINK_DUPLEX, SIZE_UNKNOWN);
}

/* --- its end ------------------------------------------------------------- */

static void enter(struct websocket *ws)
{
	ws->calls++;
}

static void free_all(struct websocket *ws)
{
	if (ws->frames != NULL)
		wslay_event_context_free(ws->frames);
	if (ws->file_fd >= 0)
		close(ws->file_fd);
	free(ws->message);
	free(ws);
}

static void leave(struct websocket *ws)
{
	must(ws->calls > 0);
	if (--ws->calls > 0 || !ws->over)
		return;
	TAILQ_REMOVE(&ws->host->all, ws, link);
	ws->host->count--;
	ws->ops->closed(ws->owner);
	if (!ws->gone && ws->broken)
		ws->sink->ops->reset(ws->sink);
	else if (!ws->gone)
		ws->sink->ops->end(ws->sink);
	free_all(ws);
}

static void break_off(struct websocket *ws)
{
	ws->over = true;
	ws->broken = true;
}

static bool is_closing(const struct websocket *ws)
{
	return ws->over || ws->close_ms != 0;
}

static void begin_closing(struct websocket *ws)
{
	if (ws->close_ms == 0)
		ws->close_ms = ws->host->now_ms + WEBSOCKET_CLOSE_MS;
}

/* --- frames that go out -------------------------------------------------- */

static void put(struct websocket *ws, const void *bytes, size_t count)
{
	const char *from = bytes;

	while (count > 0 && !ws->over) {
		size_t n = min_u64(count, SINK_BYTES_MAX);

		if (ws->sink->ops->bytes(ws->sink, from, n) < 0)
			break_off(ws);
		ws->given_bytes += n;
		from += n;
		count -= n;
	}
}

static void push_batch(struct websocket *ws)
{
	if (ws->batch_used == 0)
		return;
	put(ws, ws->host->batch, ws->batch_used);
	ws->batch_used = 0;
	ws->batch_pushed = true;
}

/* wslay hands over a frame's head, then its payload.  A frame is taken whole,
 * so that none is cut when something else is to be sent. */
static ssize_t on_send(wslay_event_context_ptr frames, const uint8_t *bytes,
		       size_t count, int flags, void *ctx)
{
	struct websocket *ws = ctx;

	if (!ws->payload_next && ws->batch_pushed &&
	    !ws->sink->ops->ready(ws->sink)) {
		wslay_event_set_error(frames, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	ws->payload_next = (flags & WSLAY_MSG_MORE) != 0;
	if (ws->batch_used + count > WEBSOCKET_BATCH_BYTES)
		push_batch(ws);
	if (count > WEBSOCKET_BATCH_BYTES) {
		put(ws, bytes, count);
	} else {
		memcpy(ws->host->batch + ws->batch_used, bytes, count);
		ws->batch_used += (uint32_t)count;
	}
	return (ssize_t)count;
}

static void flush_queue(struct websocket *ws)
{
	while (!ws->over && wslay_event_want_write(ws->frames) &&
	       ws->sink->ops->ready(ws->sink)) {
		ws->batch_pushed = false;
		if (wslay_event_send(ws->frames) != 0)
			break_off(ws);
		push_batch(ws);
	}
}

/* Not by wslay: it has no code for frames that make no sense, and says a
 * client's reason again, which it has not checked if it came in pieces. */
static void answer_close(struct websocket *ws)
{
	const uint8_t frame[] = { FRAME_CLOSE, ws->answer_code != 0 ? 2 : 0,
				  (uint8_t)(ws->answer_code >> 8),
				  (uint8_t)ws->answer_code };

	if (!wslay_event_get_close_sent(ws->frames))
		put(ws, frame, 2u + frame[1]);
	ws->over = true;
}

/* What is queued, unless a file's bytes come first. */
static void flush(struct websocket *ws)
{
	if (ws->over || ws->file_left > 0)
		return;
	if (ws->answer_close) {
		answer_close(ws);
		return;
	}
	flush_queue(ws);
	if (wslay_event_get_close_sent(ws->frames) &&
	    !wslay_event_get_read_enabled(ws->frames))
		ws->over = true;
}

void websocket_close(struct websocket *ws, enum websocket_code code,
		     const char *reason)
{
	if (is_closing(ws))
		return;
	begin_closing(ws);
	if (wslay_event_queue_close(ws->frames, (uint16_t)code,
				    (const uint8_t *)reason,
				    strlen(reason)) != 0)
		break_off(ws);
	flush(ws);
}

void websocket_text(struct websocket *ws, const char *text, size_t bytes)
{
	const struct wslay_event_msg message = {
		.opcode = WSLAY_TEXT_FRAME,
		.msg = (const uint8_t *)text,
		.msg_length = bytes,
	};

	must(bytes <= WEBSOCKET_TEXT_MAX);
	if (is_closing(ws))
		return;
	if (wslay_event_get_queued_msg_length(ws->frames) >
	    WEBSOCKET_QUEUE_MAX) {
		websocket_close(ws, WEBSOCKET_POLICY, "too slow");
		return;
	}
	if (wslay_event_queue_msg(ws->frames, &message) != 0)
		break_off(ws);
	else
		ws->host->sent_bytes += bytes;
	flush(ws);
}

bool websocket_can_send(struct websocket *ws)
{
	return !is_closing(ws) && ws->file_left == 0 &&
	       !wslay_event_want_write(ws->frames) &&
	       ws->sink->ops->ready(ws->sink);
}

/* RFC 6455 section 5.2: the head of a binary message. */
static size_t frame_head(uint8_t *dst, uint64_t payload_bytes)
{
	size_t n = 2;

	dst[0] = FRAME_BINARY;
	if (payload_bytes < LENGTH_16) {
		dst[1] = (uint8_t)payload_bytes;
		return n;
	}
	dst[1] = payload_bytes <= UINT16_MAX ? LENGTH_16 : LENGTH_64;
	for (int bit = dst[1] == LENGTH_16 ? 8 : 56; bit >= 0; bit -= 8)
		dst[n++] = (uint8_t)(payload_bytes >> bit);
	return n;
}

static bool is_unchanged(const struct websocket *ws, int fd)
{
	const struct stat *was = &ws->file_was;
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size == was->st_size &&
	       st.st_mtim.tv_sec == was->st_mtim.tv_sec &&
	       st.st_mtim.tv_nsec == was->st_mtim.tv_nsec &&
	       st.st_ctim.tv_sec == was->st_ctim.tv_sec &&
	       st.st_ctim.tv_nsec == was->st_ctim.tv_nsec;
}

/* As much as goes.  The frame's length is told: a file that has become
 * shorter leaves nothing but to break off. */
static void send_file(struct websocket *ws, int fd)
{
	while (ws->file_left > 0 && !ws->over) {
		int64_t n;

		ws->sink->changes = ws->file_changes;
		n = ws->sink->ops->file(ws->sink, fd, ws->file_off,
					ws->file_left);
		if (n < 0 ||
		    (n > 0 && ws->file_changes && !is_unchanged(ws, fd)))
			break_off(ws);
		if (n <= 0 || ws->over)
			return;
		ws->given_bytes += (uint64_t)n;
		ws->file_off += (uint64_t)n;
		ws->file_left -= (uint64_t)n;
		if (ws->ping_ms != 0)
			ws->ping_ms = ws->host->now_ms; /* it reads */
	}
}

static bool file_holds(struct websocket *ws, int fd, uint64_t file_off,
		       uint64_t count)
{
	const struct stat *st = &ws->file_was;

	return fstat(fd, &ws->file_was) == 0 &&
	       (uint64_t)st->st_size >= count &&
	       file_off <= (uint64_t)st->st_size - count;
}

int64_t websocket_file(struct websocket *ws, const void *header,
		       size_t header_bytes, int fd, uint64_t file_off,
		       uint64_t count, bool changes, bool *whole)
{
	uint8_t head[FRAME_HEAD + WEBSOCKET_HEADER_MAX];
	size_t n;

	must(header_bytes <= WEBSOCKET_HEADER_MAX);
	if (is_closing(ws))
		return -EPIPE;
	if (!websocket_can_send(ws))
		return 0;
	if (!file_holds(ws, fd, file_off, count))
		return -ENODATA;
	n = frame_head(head, header_bytes + count);
	memcpy(head + n, header, header_bytes);
	ws->sink->more = true;
	put(ws, head, n + header_bytes);
	ws->sink->more = false;
	ws->file_off = file_off;
	ws->file_left = count;
	ws->file_changes = changes;
	send_file(ws, fd);
	if (ws->file_left > 0 && !ws->over) {
		ws->file_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (ws->file_fd < 0)
			break_off(ws);
	}
	if (ws->over)
		return -EPIPE;
	ws->host->sent_bytes += header_bytes + count;
	*whole = ws->file_left == 0;
	return (int64_t)count;
}

struct sink *websocket_sink(struct websocket *ws)
{
	return ws->sink;
}

/* --- frames that come in ------------------------------------------------- */

static ssize_t on_recv(wslay_event_context_ptr frames, uint8_t *dst,
		       size_t dst_bytes, int flags UNUSED, void *ctx)
{
	struct websocket *ws = ctx;
	size_t n = min_u64(ws->in_bytes, dst_bytes);

	if (n == 0 || ws->over) {
		wslay_event_set_error(frames, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	memcpy(dst, ws->in, n);
	ws->in += n;
	ws->in_bytes -= n;
	return (ssize_t)n;
}

static void on_frame(wslay_event_context_ptr frames UNUSED,
		     const struct wslay_event_on_frame_recv_start_arg *frame,
		     void *ctx)
{
	struct websocket *ws = ctx;

	ws->in_control = wslay_is_ctrl_frame(frame->opcode);
}

static void close_too_big(struct websocket *ws)
{
	wslay_event_shutdown_read(ws->frames);
	if (wslay_event_queue_close(ws->frames, WSLAY_CODE_MESSAGE_TOO_BIG,
				    NULL, 0) != 0)
		break_off(ws);
}

static bool reserve(struct websocket *ws, size_t more)
{
	size_t want = ws->message_bytes + more;
	char *message;

	if (want <= ws->message_max)
		return true;
	want = min_u64(max_u64(want, 2u * (uint64_t)ws->message_max),
		       WEBSOCKET_MESSAGE_MAX);
	message = realloc(ws->message, want);
	if (message == NULL)
		return false;
	ws->message = message;
	ws->message_max = (uint32_t)want;
	return true;
}

/* wslay would keep each fragment in a piece of its own, and a client may send
 * 65536 of them. */
static void on_payload(wslay_event_context_ptr frames UNUSED,
		       const struct wslay_event_on_frame_recv_chunk_arg *piece,
		       void *ctx)
{
	struct websocket *ws = ctx;

	if (ws->in_control || piece->data_length == 0 || is_closing(ws))
		return;
	if (piece->data_length > WEBSOCKET_MESSAGE_MAX - ws->message_bytes) {
		close_too_big(ws);
	} else if (!reserve(ws, piece->data_length)) {
		break_off(ws);
	} else {
		memcpy(ws->message + ws->message_bytes, piece->data,
		       piece->data_length);
		ws->message_bytes += (uint32_t)piece->data_length;
	}
}

static void drop_message(struct websocket *ws)
{
	ws->message_bytes = 0;
	if (ws->message_max <= IDLE_BYTES)
		return;
	free(ws->message);
	ws->message = NULL;
	ws->message_max = 0;
}

static void on_message(wslay_event_context_ptr frames,
		       const struct wslay_event_on_msg_recv_arg *arg, void *ctx)
{
	struct websocket *ws = ctx;

	if (arg->opcode == WSLAY_CONNECTION_CLOSE) {
		ws->answer_close = true;
		ws->answer_code = arg->status_code;
		return;
	}
	if (wslay_is_ctrl_frame(arg->opcode)) {
		/* pings of a client that does not read the answers */
		if (wslay_event_get_queued_msg_count(frames) > PONGS_MAX)
			break_off(ws);
		return;
	}
	if (!is_closing(ws) && wslay_event_get_read_enabled(frames))
		ws->ops->message(ws->owner, arg->opcode == WSLAY_TEXT_FRAME,
				 ws->message, ws->message_bytes);
	drop_message(ws);
}

static void take_input(struct websocket *ws, const void *bytes, size_t count)
{
	ws->in = bytes;
	ws->in_bytes = count;
	ws->heard_ms = ws->host->now_ms;
	ws->ping_ms = 0;
	if (wslay_event_get_read_enabled(ws->frames) &&
	    wslay_event_recv(ws->frames) != 0) {
		ws->answer_close = true;
		ws->answer_code = WSLAY_CODE_PROTOCOL_ERROR;
	}
	ws->in_bytes = 0;
	if (!wslay_event_get_read_enabled(ws->frames))
		begin_closing(ws);
	flush(ws);
	/* a pong that was queued in the midst held others back */
	if (websocket_can_send(ws))
		ws->ops->writable(ws->owner);
}

/* --- the source of the sink ---------------------------------------------- */

static void source_input(void *source, const void *bytes, size_t count)
{
	struct websocket *ws = source;

	enter(ws);
	if (count > 0 && !ws->over)
		take_input(ws, bytes, count);
	else if (count == 0)
		break_off(ws); /* it left without closing */
	leave(ws);
}

static void source_writable(void *source)
{
	struct websocket *ws = source;

	enter(ws);
	send_file(ws, ws->file_fd);
	if (ws->file_left == 0 && ws->file_fd >= 0) {
		close(ws->file_fd);
		ws->file_fd = -1;
	}
	flush(ws);
	if (websocket_can_send(ws))
		ws->ops->writable(ws->owner);
	leave(ws);
}

static void source_gone(void *source)
{
	struct websocket *ws = source;

	enter(ws);
	ws->over = true;
	ws->gone = true;
	leave(ws);
}

static const struct sink_source_ops source_ops = {
	.writable = source_writable,
	.gone = source_gone,
	.input = source_input,
};

static int open_frames(struct websocket *ws)
{
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.on_frame_recv_start_callback = on_frame,
		.on_frame_recv_chunk_callback = on_payload,
		.on_msg_recv_callback = on_message,
	};

	if (wslay_event_context_server_init(&ws->frames, &callbacks, ws) != 0) {
		ws->frames = NULL;
		return -ENOMEM;
	}
	wslay_event_config_set_no_buffering(ws->frames, 1);
	wslay_event_config_set_max_recv_msg_length(ws->frames,
						   WEBSOCKET_MESSAGE_MAX);
	return 0;
}

int websocket_open(struct websocket **out, struct websocket_host *host,
		   struct sink *sink, const struct head *head,
		   const char *protocol, struct slice fields,
		   const struct websocket_ops *ops, void *owner)
{
	struct websocket *ws = calloc(1, sizeof(*ws));
	int rc = -ENOMEM;

	if (ws == NULL)
		return -ENOMEM;
	ws->host = host;
	ws->sink = sink;
	ws->ops = ops;
	ws->owner = owner;
	ws->file_fd = -1;
	ws->heard_ms = host->now_ms;
	rc = open_frames(ws);
	if (rc < 0)
		goto no_socket;
	sink->ops->hurry(sink, SINK_URGENT);
	rc = send_head(sink, head, protocol, fields);
	if (rc < 0)
		goto no_socket;
	sink->source = ws;
	sink->source_ops = &source_ops;
	TAILQ_INSERT_TAIL(&host->all, ws, link);
	host->count++;
	*out = ws;
	return 0;

no_socket:
	free_all(ws);
	return rc;
}

/* --- all of them --------------------------------------------------------- */

void websocket_host_init(struct websocket_host *host, uint64_t now_ms)
{
	host->now_ms = now_ms;
	host->count = 0;
	TAILQ_INIT(&host->all);
}

/* How many of our bytes have reached the client's machine. */
static uint64_t bytes_read(const struct websocket *ws)
{
	uint64_t unread = ws->sink->ops->unread(ws->sink);

	return ws->given_bytes - min_u64(unread, ws->given_bytes);
}

/* Our ping lies behind what a slow client has to read first: did it read any
 * more? */
static bool is_reading(struct websocket *ws)
{
	uint64_t now = bytes_read(ws);
	bool more = now > ws->read_bytes;

	ws->read_bytes = max_u64(now, ws->read_bytes);
	return more;
}

static void ping(struct websocket *ws)
{
	const struct wslay_event_msg message = { .opcode = WSLAY_PING };

	if (wslay_event_queue_msg(ws->frames, &message) != 0)
		break_off(ws);
	ws->ping_ms = ws->host->now_ms;
	flush(ws);
	if (!ws->over)
		ws->read_bytes = bytes_read(ws);
}

static void tick_one(struct websocket *ws, uint64_t now_ms)
{
	if (ws->close_ms != 0) {
		if (now_ms < ws->close_ms)
			return;
		ws->over = true;
		if (!wslay_event_get_close_sent(ws->frames))
			ws->broken = true;
	} else if (ws->ping_ms != 0) {
		if (now_ms - ws->ping_ms < ws->host->timeout_ms)
			return;
		if (is_reading(ws))
			ws->ping_ms = now_ms;
		else
			break_off(ws);
	} else if (now_ms - ws->heard_ms >= ws->host->ping_ms &&
		   ws->file_left == 0) {
		/* within a message the sink has its own timer */
		ping(ws);
	}
}

/* A callback ends no other WebSocket than its own. */
void websocket_tick(struct websocket_host *host, uint64_t now_ms)
{
	struct websocket *last = TAILQ_LAST(&host->all, websocket_list);
	struct websocket *ws, *next;

	host->now_ms = now_ms;
	for (ws = TAILQ_FIRST(&host->all); ws != NULL; ws = next) {
		bool end = ws == last;

		next = TAILQ_NEXT(ws, link);
		enter(ws);
		if (!ws->over)
			tick_one(ws, now_ms);
		leave(ws);
		if (end)
			break;
	}
}

void websocket_drain(struct websocket_host *host)
{
	struct websocket *ws, *next;

	for (ws = TAILQ_FIRST(&host->all); ws != NULL; ws = next) {
		next = TAILQ_NEXT(ws, link);
		enter(ws);
		websocket_close(ws, WEBSOCKET_GOING_AWAY, "");
		leave(ws);
	}
}

/*
 * h2_inner - the inside of HTTP/2, for h2.c, h2_stream.c and h2_request.c
 * only.
 *
 * Used by: worker.
 */
#ifndef REELCACHE_HTTP_H2_INNER_H
#define REELCACHE_HTTP_H2_INNER_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "http/h2.h"
#include "http/head.h"
#include "http/sink.h"
#include "http/slice.h"

#define H2_FRAME_HEAD  9u     /* RFC 9113 section 4.1 */
#define H2_FRAME_BYTES 16384u /* of payload; every peer takes these */

/* Answers that are made in memory and wait for their client's windows, of a
 * connection: beyond the first no request is taken, beyond the second an
 * answer is broken off. */
#define H2_KEPT_BYTES     (1u << 20)
#define H2_KEPT_BYTES_MAX (4u << 20)

/* Frames on their way out: the process has one. */
struct h2_batch {
	uint32_t used;
	/* it is full at H2_BATCH_BYTES; what was begun before fits behind:
	 * one frame with its head, and one that nghttp2 made */
	char bytes[H2_BATCH_BYTES + 2 * (H2_FRAME_HEAD + H2_FRAME_BYTES)];
};

/* The fields of a request while they come in. */
struct h2_request;

struct h2_stream {
	struct sink sink; /* first: a sink is its stream */
	struct h2 *h2;
	TAILQ_ENTRY(h2_stream) link;
	char *out;   /* what bytes() was given and no frame took */
	char *in;    /* of a duplex: what its source does not take now */
	char *frame; /* being made now; NULL else */
	size_t frame_left;
	size_t frame_used;
	uint64_t body_left;  /* of the response; SIZE_UNKNOWN */
	uint64_t body_bytes; /* of the request, thrown away */
	uint32_t out_sent;
	uint32_t out_bytes;
	uint32_t in_bytes;
	int32_t id;
	nghttp2_extpri wish; /* the client's, when it is `prioritized` */
	uint16_t status;
	uint8_t urgency;                 /* the source's: enum sink_urgency */
	uint8_t client[SINK_PEER_BYTES]; /* who asks */
	bool responding : 1;             /* the source has the sink */
	bool head_sent : 1;
	bool has_body : 1; /* nghttp2 will ask for it */
	bool tunnel : 1;   /* asked for: a success is a duplex, and else none */
	bool duplex : 1;
	bool ended : 1;
	bool was_reset : 1;
	bool pushed_back : 1;
	bool pulling : 1;  /* the source is in writable(), of h2_read_body() */
	bool deferred : 1; /* nghttp2 waits for h2_stream_wake() */
	bool answered : 1; /* and the client has not ended its body */
	bool client_ended : 1;
	bool input_ended : 1; /* and the source knows */
	bool prioritized : 1; /* by the client */
	bool moved : 1;       /* bytes went since the last check */
	bool waited_once : 1;
};

struct h2 {
	struct conn *c;
	nghttp2_session *session;
	TAILQ_HEAD(, h2_stream) streams;
	struct h2_request *request; /* HEADERS that are coming in */
	int32_t request_id;         /* their stream */
	uint32_t stream_count;
	uint32_t answered_count; /* of these */
	uint32_t batch_bytes;    /* at most */
	uint32_t batch_now;
	uint32_t kept_bytes; /* of all streams' out */
	uint32_t flood_left;
	uint32_t updates_left; /* WINDOW_UPDATEs that DATA frames call for */
	uint64_t flood_ms;     /* when it was counted */
	uint64_t checked_ms;   /* when nothing waited, or h2_check_streams() */
	uint64_t drain_ms;   /* when the second GOAWAY is due; 0 = not at all */
	bool again : 1;      /* h2_run() has more to do */
	bool heard : 1;      /* requests or answers went since h2_take_used() */
	bool corked : 1;     /* MSG_MORE may hold something back */
	bool moved : 1;      /* bytes of a body went since the last check */
	bool head_begun : 1; /* since h2_is_in_head() */
	bool drained : 1;
	bool goodbye : 1;
	bool ending : 1;  /* for a fault: nothing more is read */
	bool counted : 1; /* as such */
};

/* h2_request.c: */

struct h2_request *h2_request_new(void);
void h2_request_free(struct h2_request *r); /* NULL is fine */
/* False: more than anybody needs. */
bool h2_request_add(struct h2_request *r, struct slice name,
		    struct slice value) MUSTCHECK;
/* As text of HTTP/1.1, so that one strict parser reads them all.  *text is
 * the caller's to free(); h points into it.  -ENOMEM. */
int h2_request_parse(const struct h2_request *r, struct head *h, char **text,
		     enum head_outcome *outcome) MUSTCHECK;
/* CONNECT with a protocol (RFC 8441): 2xx would say that it is spoken now. */
bool h2_request_is_tunnel(const struct h2_request *r);
/* The Priority field (RFC 9218), or absent. */
struct slice h2_request_priority(const struct h2_request *r);

/* h2_stream.c: */

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id);
void h2_stream_free(struct h2_stream *st);
/* Hands the request over. */
void h2_stream_begin(struct h2_stream *st, const struct h2_request *r);
/* What the client says of it: a Priority field's value (RFC 9218). */
void h2_stream_prioritize(struct h2_stream *st, struct slice value);
/* Bytes for the source of a duplex; 0: the last. */
void h2_stream_input(struct h2_stream *st, const void *bytes, size_t count);
/* What was kept of it, now that the client takes what we send. */
void h2_stream_input_kept(struct h2_stream *st);

/* h2.c: */

void h2_stream_wake(struct h2_stream *st);
void h2_set_ready(struct h2 *h);
void h2_keep_short(struct h2 *h);
ssize_t h2_read_body(nghttp2_session *session, int32_t stream_id, uint8_t *buf,
		     size_t length, uint32_t *data_flags,
		     nghttp2_data_source *source, void *user_data);

#endif

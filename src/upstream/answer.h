/*
 * answer - an origin's response head: taken line by line, then judged.
 *
 * Used by: src/upstream/transfer.c.  Pure, no allocation.
 * Errors: -EBADMSG, and answer.fault says why in a string literal.
 */
#ifndef REELCACHE_UPSTREAM_ANSWER_H
#define REELCACHE_UPSTREAM_ANSWER_H

#include "upstream/transfer.h"

#define ANSWER_HEAD_BYTES 262144u /* of all responses up to the final one */

struct answer {
	struct transfer_head head; /* whole after answer_judge() */
	const char *fault;
	size_t head_bytes;
	uint64_t length; /* Content-Length, or SIZE_UNKNOWN */
	bool h1;         /* HTTP/1: without a length, only closing ends it */
	bool chunked;
	bool has_location;
	bool kept_last; /* the last line was kept: it must not be continued */
	bool done;      /* the empty line was there */
	char content_range[128];
};

/* What was asked for: from, to and suffix of struct transfer_want. */
struct answer_asked {
	uint64_t from;
	uint64_t to;
	uint64_t suffix;
};

void answer_init(struct answer *a);

/* One line with its line end.  A status line begins anew: the head before it
 * was 1xx or a redirect. */
int answer_line(struct answer *a, const char *line, size_t bytes) MUSTCHECK;

/* After the empty line of the final response. */
int answer_judge(struct answer *a, const struct answer_asked *asked) MUSTCHECK;

#endif

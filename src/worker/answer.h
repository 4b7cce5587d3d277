/*
 * answer - short responses whose body lies in memory: errors, /metrics.
 *
 * Used by: worker.  Nothing blocks; what a client does not take at once is
 * the sink's to keep.  Counts and logs each response.
 */
#ifndef REELCACHE_WORKER_ANSWER_H
#define REELCACHE_WORKER_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "http/head.h"
#include "http/sink.h"
#include "worker/desk.h"

struct answer {
	int status;
	const char *content_type; /* NULL: no body, 204 */
	const char *body;
	size_t body_bytes;          /* at most SINK_BYTES_MAX */
	const char *fields;         /* further whole lines with CRLF, or NULL */
	struct access_entry *entry; /* already begun, or NULL: begin one */
};

/* head: for HEAD and the log. */
void answer_send(struct desk *desk, struct sink *sink, const struct head *head,
		 const struct answer *a);

/* application/problem+json.  fields: further lines or NULL. */
void answer_problem(struct desk *desk, struct sink *sink,
		    const struct head *head, int status, const char *detail,
		    const char *fields, struct access_entry *entry);

/* Counts a response by its status. */
void answer_count(struct desk *desk, int status);

#endif

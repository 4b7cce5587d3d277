/*
 * control_parse - messages of the protocol reelcache.v1 that a client sends.
 *
 * Used by: worker.  Pure.  docs/protocol.md has them all; members that are
 * not known are passed over, those that are known must be right.
 */
#ifndef REELCACHE_WORKER_CONTROL_PARSE_H
#define REELCACHE_WORKER_CONTROL_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

#define CONTROL_TEXT_BYTES  129u /* ids and names, with their NUL */
#define CONTROL_NOT_GIVEN   UINT64_MAX
#define CONTROL_OFFSET_MAX  (UINT64_C(1) << 62)
#define CONTROL_SECONDS_MAX 604800u

#define CONTROL_CREDIT_FIRST (1024u * 1024u) /* unless the client says */
#define CONTROL_CREDIT_MAX   (16u * 1024u * 1024u)

enum control_type {
	CONTROL_RESOLVE,
	CONTROL_PREFETCH,
	CONTROL_PREFETCH_PROGRESS,
	CONTROL_PREFETCH_CANCEL,
	CONTROL_SUBSCRIBE,
	CONTROL_UNSUBSCRIBE,
	CONTROL_PING,
	CONTROL_CHUNK,
	CONTROL_CREDIT,
	CONTROL_CANCEL,
};

struct control_message {
	enum control_type type;
	bool has_request;
	uint32_t request;
	bool base64;
	char id[CONTROL_TEXT_BYTES];
	char quality[CONTROL_TEXT_BYTES]; /* "": not given */
	char source[CONTROL_TEXT_BYTES];  /* "": not given */
	char topic[CONTROL_TEXT_BYTES];
	char encoding[CONTROL_TEXT_BYTES];
	uint64_t start_ms; /* CONTROL_NOT_GIVEN, as those below */
	uint64_t seconds_ms;
	uint64_t deadline_ms;
	uint64_t interval_s;
	uint64_t offset;
	uint64_t length;
	uint64_t bytes;
	uint64_t credit;
};

/*
 * 0; -EINVAL: *fault says what is wrong, and has_request and request are set
 * if they could be read; -ENOMEM.
 */
int control_parse(struct control_message *out, const void *text, size_t bytes,
		  const char **fault) MUSTCHECK;

#endif

/*
 * transfer - one GET with a Range from an origin: libcurl on libevent.
 *
 * Used by: prefetcher, the only process that talks to origins.  curl stays
 * inside this folder.  Nothing blocks (names are resolved by curl's thread).
 *
 * Always a Range and `Accept-Encoding: identity`; never HEAD, never Expect,
 * no cookies, no credentials, no proxy from the environment.  Redirects are
 * followed; every address that is connected to, also after a redirect, is
 * checked (upstream/address.h) unless allow_private.
 */
#ifndef REELCACHE_UPSTREAM_TRANSFER_H
#define REELCACHE_UPSTREAM_TRANSFER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"
#include "util/span.h"

struct upstream; /* one per process: connections, timers */
struct transfer;

struct upstream_opts {
	uint64_t connect_timeout_ms;
	uint64_t first_byte_timeout_ms;
	uint64_t stall_timeout_ms;
	uint32_t connections; /* to one origin at a time */
	uint32_t redirects;
	const char *user_agent;
	const char *ca_file;  /* "" = the system's */
};

/* Strings are copied.  base stays the caller's and must outlive it. */
int upstream_open(struct upstream **out, struct event_base *base,
		  const struct upstream_opts *opts) MUSTCHECK;

/* All transfers must have ended or been aborted. */
void upstream_close(struct upstream *up);

struct transfer_want {
	const char *url;
	uint64_t from;         /* first byte */
	uint64_t to;           /* one past the last; SIZE_UNKNOWN = open */
	uint64_t suffix;       /* > 0: the last n bytes instead of from..to */
	const char *if_range;  /* a strong validator, or NULL */
	const char *if_none_match;     /* or NULL */
	const char *if_modified_since; /* or NULL */
	bool allow_private;
};

#define TRANSFER_TEXT_BYTES 1024u

/* The final response's head.  Texts are "" when absent; a field too long for
 * its place counts as absent (an ETag cut short would be a lie). */
struct transfer_head {
	int status;
	bool ranged;      /* a 206 with one part and a sound Content-Range */
	struct span span; /* of the body; to is SIZE_UNKNOWN when not told */
	uint64_t size;    /* of the object; SIZE_UNKNOWN when not told */
	uint32_t retry_after_s; /* 0 = not given */
	char etag[256];
	char last_modified[64];
	char date[64];
	char age[32];
	char expires[64];
	char cache_control[512];
	char content_type[256];
	char content_encoding[64];
	char content_language[128];
	char content_disposition[512];
};

enum transfer_next {
	TRANSFER_GO,
	TRANSFER_PAUSE, /* body: the bytes were not taken; they come again */
	TRANSFER_STOP,  /* end() follows with TRANSFER_STOPPED */
};

enum transfer_end {
	TRANSFER_DONE,        /* everything the head promised came */
	TRANSFER_CUT,         /* the connection broke, or the body was short */
	TRANSFER_UNREACHABLE, /* name, connect, TLS */
	TRANSFER_TIMEOUT,
	TRANSFER_REFUSED,     /* an address that is not allowed */
	TRANSFER_BROKEN,      /* an answer that makes no sense */
	TRANSFER_STOPPED,     /* a callback said so */
};

/* ctx is the caller's.  In every callback transfer_abort() is allowed. */
struct transfer_ops {
	/* Once, before any body. */
	enum transfer_next (*head)(void *ctx, const struct transfer_head *head);
	enum transfer_next (*body)(void *ctx, const uint8_t *bytes, size_t n);
	/* Once per turn of the loop in which bytes came. */
	void (*turn)(void *ctx);
	/* Once, the last callback; never from inside transfer_begin().  The
	 * transfer is freed after it returns. */
	void (*end)(void *ctx, enum transfer_end how, const char *reason);
};

/* Texts of want are copied.  0 or -errno. */
int transfer_begin(struct upstream *up, const struct transfer_want *want,
		   const struct transfer_ops *ops, void *ctx,
		   struct transfer **out) MUSTCHECK;

/* After TRANSFER_PAUSE: the same bytes come again, from the event loop, not
 * from inside this call. */
void transfer_resume(struct transfer *tr);

/* No more callbacks; frees it (later, when called from a callback). */
void transfer_abort(struct transfer *tr);

#endif

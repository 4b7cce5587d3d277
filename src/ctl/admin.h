/*
 * admin - requests to a running instance over its admin socket.
 *
 * Used by: reelcachectl.  Blocks until the answer is there or a limit is
 * reached; answers of more than ADMIN_ANSWER_BYTES are refused.
 */
#ifndef REELCACHE_CTL_ADMIN_H
#define REELCACHE_CTL_ADMIN_H

#include <stddef.h>

#include "util/base.h"

#define ADMIN_ANSWER_BYTES (64 * MIB)

struct admin; /* opaque: libcurl is seen inside only */

struct admin_answer {
	long status; /* of HTTP */
	char *body;  /* NUL-terminated; free() */
	size_t bytes;
};

/* 0 or -ENOMEM. */
int admin_open(struct admin **out, const char *socket_path) MUSTCHECK;
void admin_close(struct admin *a);

/* method is GET or POST, target begins with "/".
 * 0, or -errno when nobody answered in full: admin_fault() says why. */
int admin_request(struct admin *a, const char *method, const char *target,
		  struct admin_answer *out) MUSTCHECK;
const char *admin_fault(const struct admin *a);

/* text as a query value, percent-encoded; free().  NULL: no memory. */
char *admin_escape(struct admin *a, const char *text);

#endif

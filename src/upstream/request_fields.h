/*
 * request_fields - header fields that belong to a URL: what a resolution says
 * that requests for it must carry (Referer, User-Agent, Cookie and the like).
 *
 * Used by: resolver (collects them), prefetcher (sends them).  Pure.
 *
 * As a text they are lines "Name: value\n"; none comes twice, and none is one
 * that the request needs for itself or that is about the connection.
 */
#ifndef REELCACHE_UPSTREAM_REQUEST_FIELDS_H
#define REELCACHE_UPSTREAM_REQUEST_FIELDS_H

#include <stddef.h>

#include "util/base.h"

#define REQUEST_FIELDS_BYTES 4096u /* longest text, NUL included */

/*
 * Adds a line to text, which is "" at first, of at most REQUEST_FIELDS_BYTES.
 * -EINVAL: name is no token (RFC 9110 section 5.6.2) or not one for others to
 * set, or value is empty, begins or ends with a blank, or has a control
 * character; -EEXIST: there is such a field, in any case of letters; -ENOSPC.
 */
int request_fields_add(char *text, const char *name,
		       const char *value) MUSTCHECK;

/* Moves *text behind its next line and copies that to line, without its end:
 * at least REQUEST_FIELDS_BYTES.  0: there is none; -EINVAL: it is longer, or
 * has a control character; else its length. */
int request_fields_next(const char **text, char *line) MUSTCHECK;

#endif

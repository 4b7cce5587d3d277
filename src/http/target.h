/*
 * target - the parts of a request target: segments, parameters, ids.
 *
 * Used by: worker.  Pure.  Errors: 0 or -errno.
 */
#ifndef REELCACHE_HTTP_TARGET_H
#define REELCACHE_HTTP_TARGET_H

#include <stdbool.h>

#include "http/slice.h"
#include "util/base.h"

#define TARGET_ID_MAX 128u

/*
 * The next segment of a raw path, still encoded.  *rest begins as the path
 * and is moved on; false at its end.  "/a/b" gives "a", "b"; "/a/" gives "a"
 * and ""; "/" gives "".
 */
bool target_next_segment(struct slice *rest, struct slice *segment);

/*
 * Percent-decodes into dst (no NUL is added) and sets *out to it.  "+" stays.
 * -EINVAL: a '%' without two hex digits, or a decoded control character;
 * -ENOSPC: dst is too small.
 */
int target_decode(struct slice raw, char *dst, size_t dst_bytes,
		  struct slice *out) MUSTCHECK;

/* Percent-encodes all that is not unreserved (RFC 3986 section 2.3).  dst: at
 * least three times the text's bytes; how many they are.  No NUL. */
size_t target_encode(char *dst, struct slice text);

/*
 * The decoded value of one parameter of a raw query ("a=1&b=2"; "+" is a
 * space).  "name" without "=" counts as an empty value.
 * -ENOENT: it is not there; -ENOTUNIQ: more than once; -EINVAL, -ENOSPC: as
 * target_decode().  Broken parameters of other names do no harm.
 */
int target_query(struct slice query, const char *name, char *dst,
		 size_t dst_bytes, struct slice *out) MUSTCHECK;

/* [A-Za-z0-9._~-]{1,128}, but not "." and "..". */
bool target_id_valid(struct slice id);

#endif

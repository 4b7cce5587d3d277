/*
 * template - a source's URL for an id, and the origin of a URL.
 *
 * Used by: master (checks [source] url), prefetcher.  Pure.
 */
#ifndef REELCACHE_UPSTREAM_TEMPLATE_H
#define REELCACHE_UPSTREAM_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "util/base.h"

#define TEMPLATE_ID_BYTES     128u /* longest id, without NUL */
#define TEMPLATE_ORIGIN_BYTES 320u /* longest origin, NUL included */

/*
 * Is this a template: http:// or https:// with a host, at least one {id}, with
 * quality also at least one {quality}, all of them behind the host, no other
 * brace, no space, control character, backslash or fragment?  0 or -EINVAL;
 * *why (may be NULL) is then a short string literal for the administrator.
 */
int template_check(const char *url, bool quality, const char **why) MUSTCHECK;

/*
 * Every {id} of the template becomes the id: 1 to TEMPLATE_ID_BYTES of
 * A-Z a-z 0-9 . _ ~ -, but not "." or ".." (which a URL's path swallows).
 * Every {quality} becomes quality, quality_format_valid(); NULL: there is none.
 * dst is NUL-terminated.  0, -EINVAL (id or template) or -ENAMETOOLONG.
 */
int template_expand(const char *url, const char *id, size_t id_bytes,
		    const char *quality, char *dst, size_t dst_bytes) MUSTCHECK;

/*
 * "https://host:port" of a URL: lower case, the port always there, without
 * name and password; never path or query.  What two URLs of one origin have
 * in common.  0, -EINVAL or -ENAMETOOLONG.
 */
int template_origin(const char *url, char *dst, size_t dst_bytes) MUSTCHECK;

#endif

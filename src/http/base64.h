/*
 * base64 - RFC 4648 section 4, with padding.
 *
 * Used by: worker.  Pure.
 */
#ifndef REELCACHE_HTTP_BASE64_H
#define REELCACHE_HTTP_BASE64_H

#include <stddef.h>

/* What `bytes` of binary become, without a NUL. */
#define BASE64_BYTES(bytes) (((bytes) + 2) / 3 * 4)

/* dst: BASE64_BYTES(bytes) + 1, a NUL is added.  The length without it. */
size_t base64_encode(char *dst, const void *src, size_t bytes);

#endif

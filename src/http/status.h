/*
 * status - reason phrases of HTTP status codes.
 *
 * Used by: worker, prefetcher.  Pure.
 */
#ifndef REELCACHE_HTTP_STATUS_H
#define REELCACHE_HTTP_STATUS_H

/* A string literal; for a code without a name that of its class. */
const char *status_reason(int status);

#endif

/*
 * proxy_header - what a balancer writes before a connection's own bytes: the
 * PROXY protocol of HAProxy, versions 1 (a line) and 2 (binary).
 *
 * Used by: worker.  Pure, no allocation, keeps nothing between two calls.
 *
 * Strict, as the one who reads it leniently lets a client write its address:
 *   - version 1: single spaces, addresses of the family that was told, ports
 *     0 to 65535 without leading zeros, CRLF within 107 bytes;
 *   - version 2: the reserved values of version, command, family and
 *     transport are errors, as the specification asks; the length holds the
 *     addresses, and what is behind them is whole TLVs.
 * TLVs are passed over.  A CRC32C among them is not checked: the bytes come
 * over TCP from a balancer that is trusted, and what it could find is a
 * header that does not parse.
 * UNKNOWN, LOCAL (health checks), AF_UNSPEC and AF_UNIX say nothing of the
 * client: the connection keeps the address that it has.
 */
#ifndef REELCACHE_HTTP_PROXY_HEADER_H
#define REELCACHE_HTTP_PROXY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/sink.h"
#include "util/base.h"

#define PROXY_HEADER_V1_MAX 107u  /* with CRLF, by the specification */
#define PROXY_HEADER_MAX    4096u /* version 2: room for a certificate */

enum proxy_outcome {
	PROXY_MORE, /* not all there; call again with more bytes */
	PROXY_DONE, /* the first `bytes` of the input are the header */
	PROXY_BAD,  /* close the connection; `reason` says why */
};

struct proxy_header {
	size_t bytes;     /* DONE */
	bool has_address; /* DONE: false = the connection keeps its own */
	uint16_t port;    /* with has_address: the client's */
	uint8_t addr[SINK_PEER_BYTES]; /* with has_address: the client's */
	const char *reason;            /* BAD: a short string literal */
};

/*
 * bytes: everything from the connection's first byte on, `count` of it, more
 * than the header is fine.  MORE is never the answer to PROXY_HEADER_MAX
 * bytes.  Once DONE or BAD, further bytes do not change it.
 */
enum proxy_outcome proxy_header_parse(struct proxy_header *p, const void *bytes,
				      size_t count) MUSTCHECK;

#endif

/*
 * address - the text of [listen] address as socket addresses.
 *
 * Used by: master.  Pure: numbers only, names are not looked up.
 */
#ifndef REELCACHE_MASTER_ADDRESS_H
#define REELCACHE_MASTER_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "util/base.h"

#define ADDRESS_TEXT_BYTES 80u /* "[v6%scope]:port" with its NUL */

struct address {
	struct sockaddr_storage sa;
	socklen_t sa_bytes;
	bool optional; /* the IPv6 half of `*`: may be missing on a machine
			* without IPv6 */
};

/* "127.0.0.1:80", "[::1]:80", or "*:80" which is two.  Port 0 is one of the
 * kernel's choice.  Returns how many, 1 or 2, or -EINVAL. */
int address_parse(const char *text, struct address out[2]) MUSTCHECK;

/* Same family, host and port. */
bool address_equal(const struct address *a, const struct address *b);

uint16_t address_port(const struct address *a);
void address_set_port(struct address *a, uint16_t port);

/* The way address_parse() reads it.  Returns dst. */
const char *address_format(const struct address *a,
			   char dst[ADDRESS_TEXT_BYTES]);

#endif

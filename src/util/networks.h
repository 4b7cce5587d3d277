/*
 * networks - a list of networks, and whether an address lies in one of them.
 *
 * Used by: master (checks the configuration), worker.  Pure.
 *
 * Addresses have 16 bytes: IPv6, and IPv4 as ::ffff:a.b.c.d.  So an IPv4
 * client is the same one whether it came by a socket of the one family or of
 * the other.  A network of IPv6 never has an address of IPv4 in it, not even
 * ::/0.
 */
#ifndef REELCACHE_UTIL_NETWORKS_H
#define REELCACHE_UTIL_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

#define NETWORKS_MAX           256u
#define NETWORKS_ADDRESS_BYTES 16u
#define NETWORKS_WHY_BYTES     192u

struct network {
	uint8_t addr[NETWORKS_ADDRESS_BYTES]; /* behind its bits all zero */
	uint8_t bits;                         /* IPv4: 96 to 128 */
};

struct networks {
	size_t count;
	struct network list[NETWORKS_MAX];
};

/*
 * text: words with blanks between them, perhaps none.  A word is a network
 * like 10.0.0.0/8 or 2001:db8::/32, without bits behind its prefix; an
 * address; "loopback", 127.0.0.0/8 ::1; or "private", 10.0.0.0/8
 * 172.16.0.0/12 192.168.0.0/16 fc00::/7.
 * -EINVAL: a word is wrong or there are too many: `why` says which and what,
 * and the list is empty.
 */
int networks_parse(struct networks *n, const char *text,
		   char why[NETWORKS_WHY_BYTES]) MUSTCHECK;

bool networks_have(const struct networks *n,
		   const uint8_t addr[NETWORKS_ADDRESS_BYTES]);

/* An address as text, numbers only, IPv6 without brackets and zone; strict:
 * no leading zeros in IPv4.  Its family (AF_INET, AF_INET6), or 0 when it is
 * none; an IPv4 address may be written as one of IPv6 (AF_INET6). */
int networks_read_address(const char *text, size_t text_bytes,
			  uint8_t addr[NETWORKS_ADDRESS_BYTES]);

#endif

#include "upstream/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "util/base.h"

/* Blocks that no host on the internet has (IANA's special-purpose registry,
 * RFC 6890 and its updates). */
static const struct {
	uint32_t net;
	uint8_t bits;
} not_public_v4[] = {
	{ 0x00000000, 8 },  /* this network */
	{ 0x0a000000, 8 },  /* private */
	{ 0x64400000, 10 }, /* shared between a carrier and its customers */
	{ 0x7f000000, 8 },  /* loopback */
	{ 0xa9fe0000, 16 }, /* link-local, cloud metadata */
	{ 0xac100000, 12 }, /* private */
	{ 0xc0000000, 24 }, /* protocol assignments */
	{ 0xc0000200, 24 }, /* documentation */
	{ 0xc0586300, 24 }, /* 6to4 relays */
	{ 0xc0a80000, 16 }, /* private */
	{ 0xc6120000, 15 }, /* benchmarks */
	{ 0xc6336400, 24 }, /* documentation */
	{ 0xcb007100, 24 }, /* documentation */
	{ 0xe0000000, 4 },  /* multicast */
	{ 0xf0000000, 4 },  /* reserved, broadcast */
};

enum v6_rule {
	V6_REFUSED,
	V6_WRAPS, /* an IPv4 address begins at byte v4_at: that one decides */
};

/* The first that matches decides; what none matches is public if it is
 * global unicast (2000::/3). */
static const struct {
	uint8_t net[16];
	uint8_t bits;
	uint8_t v4_at;
	enum v6_rule rule;
} blocks_v6[] = {
	/* mapped ::ffff:0:0/96 */
	{ { [10] = 0xff, [11] = 0xff }, 96, 12, V6_WRAPS },
	/* NAT64 64:ff9b::/96; its neighbours are outside of 2000::/3 */
	{ { 0x00, 0x64, 0xff, 0x9b }, 96, 12, V6_WRAPS },
	/* 2001::/23: Teredo, ORCHID, benchmarks, other protocols */
	{ { 0x20, 0x01 }, 23, 0, V6_REFUSED },
	/* documentation */
	{ { 0x20, 0x01, 0x0d, 0xb8 }, 32, 0, V6_REFUSED },
	{ { 0x3f, 0xff }, 20, 0, V6_REFUSED },
	/* 6to4 */
	{ { 0x20, 0x02 }, 16, 2, V6_WRAPS },
};

static bool v4_is_public(uint32_t host)
{
	for (size_t i = 0; i < ARRAY_LEN(not_public_v4); i++) {
		uint32_t mask = UINT32_MAX << (32 - not_public_v4[i].bits);

		if ((host & mask) == not_public_v4[i].net)
			return false;
	}
	return true;
}

static bool v4_bytes_are_public(const uint8_t *at)
{
	return v4_is_public((uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
			    (uint32_t)at[2] << 8 | at[3]);
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;
	uint8_t mask = (uint8_t)(0xff00u >> rest);

	if (memcmp(a, b, bits / 8) != 0)
		return false;
	return rest == 0 || ((a[bits / 8] ^ b[bits / 8]) & mask) == 0;
}

/* ISATAP: interface 0000:5efe or 0200:5efe, then an IPv4 address. */
static bool is_isatap(const uint8_t *a)
{
	return (a[8] & 0xfdu) == 0 && a[9] == 0 && a[10] == 0x5e &&
	       a[11] == 0xfe;
}

static bool v6_is_public(const uint8_t *a)
{
	for (size_t i = 0; i < ARRAY_LEN(blocks_v6); i++) {
		if (!same_bits(a, blocks_v6[i].net, blocks_v6[i].bits))
			continue;
		if (blocks_v6[i].rule == V6_REFUSED)
			return false;
		return v4_bytes_are_public(a + blocks_v6[i].v4_at);
	}
	if ((a[0] & 0xe0u) != 0x20)
		return false;
	return !is_isatap(a) || v4_bytes_are_public(a + 12);
}

bool address_is_public(const struct sockaddr *sa, socklen_t sa_bytes)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	if (sa == NULL || sa_bytes < sizeof(sa->sa_family))
		return false;
	switch (sa->sa_family) {
	case AF_INET:
		if (sa_bytes < sizeof(in))
			return false;
		memcpy(&in, sa, sizeof(in));
		return v4_is_public(ntohl(in.sin_addr.s_addr));
	case AF_INET6:
		if (sa_bytes < sizeof(in6))
			return false;
		memcpy(&in6, sa, sizeof(in6));
		return v6_is_public(in6.sin6_addr.s6_addr);
	default:
		return false;
	}
}

bool address_text_is_public(const char *text)
{
	struct in_addr in;
	struct in6_addr in6;

	if (inet_pton(AF_INET, text, &in) == 1)
		return v4_is_public(ntohl(in.s_addr));
	if (inet_pton(AF_INET6, text, &in6) == 1)
		return v6_is_public(in6.s6_addr);
	return false;
}

/*
 * address - may an origin have this address?
 *
 * Used by: prefetcher.  Pure.
 *
 * Public is what the internet routes to one host.  Not public: unspecified,
 * loopback, private (RFC 1918), shared (100.64/10), link-local, documentation,
 * benchmarking, protocol and reserved blocks, multicast, broadcast, unique
 * local and site-local IPv6, and every IPv6 form that carries such an IPv4
 * address: mapped, compatible, translated, 6to4, NAT64, Teredo, ISATAP.
 * Families other than IPv4 and IPv6 are not public either.
 */
#ifndef REELCACHE_UPSTREAM_ADDRESS_H
#define REELCACHE_UPSTREAM_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

bool address_is_public(const struct sockaddr *sa, socklen_t sa_bytes);

/* Numbers as text, IPv6 without brackets; a zone (%eth0) is never public, nor
 * is a text that is no address. */
bool address_text_is_public(const char *text);

#endif

#include "master/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static int parse_port(const char *text, uint16_t *out)
{
	uint32_t port = 0;
	size_t digits = 0;

	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || ++digits > 5)
			return -EINVAL;
		port = port * 10 + (uint32_t)(*text - '0');
	}
	if (digits == 0 || port > UINT16_MAX)
		return -EINVAL;
	*out = (uint16_t)port;
	return 0;
}

static void make_v4(struct address *a, struct in_addr host, uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_addr = host,
				   .sin_port = htons(port) };

	memset(a, 0, sizeof(*a));
	memcpy(&a->sa, &sin, sizeof(sin));
	a->sa_bytes = sizeof(sin);
}

static void make_v6(struct address *a, struct in6_addr host, uint32_t scope,
		    uint16_t port)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
				     .sin6_addr = host,
				     .sin6_scope_id = scope,
				     .sin6_port = htons(port) };

	memset(a, 0, sizeof(*a));
	memcpy(&a->sa, &sin6, sizeof(sin6));
	a->sa_bytes = sizeof(sin6);
}

/* host is what stood between the brackets; it is changed. */
static int parse_v6(char *host, uint16_t port, struct address *out)
{
	struct in6_addr in6;
	uint32_t scope = 0;
	char *percent = strchr(host, '%');

	if (percent != NULL) {
		*percent = '\0';
		scope = if_nametoindex(percent + 1);
		if (scope == 0)
			return -EINVAL;
	}
	if (inet_pton(AF_INET6, host, &in6) != 1)
		return -EINVAL;
	make_v6(out, in6, scope, port);
	return 1;
}

int address_parse(const char *text, struct address out[2])
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 3];
	struct in_addr in4;
	size_t n;
	uint16_t port;

	if (colon == NULL || parse_port(colon + 1, &port) < 0)
		return -EINVAL;
	n = (size_t)(colon - text);
	if (n == 0 || n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	if (strcmp(host, "*") == 0) {
		make_v4(&out[0], (struct in_addr){ htonl(INADDR_ANY) }, port);
		make_v6(&out[1], in6addr_any, 0, port);
		out[1].optional = true;
		return 2;
	}
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		return parse_v6(host + 1, port, &out[0]);
	}
	if (inet_pton(AF_INET, host, &in4) != 1)
		return -EINVAL;
	make_v4(&out[0], in4, port);
	return 1;
}

static struct sockaddr_in as_v4(const struct address *a)
{
	struct sockaddr_in sin;

	memcpy(&sin, &a->sa, sizeof(sin));
	return sin;
}

static struct sockaddr_in6 as_v6(const struct address *a)
{
	struct sockaddr_in6 sin6;

	memcpy(&sin6, &a->sa, sizeof(sin6));
	return sin6;
}

bool address_equal(const struct address *a, const struct address *b)
{
	if (a->sa.ss_family != b->sa.ss_family ||
	    address_port(a) != address_port(b))
		return false;
	if (a->sa.ss_family == AF_INET)
		return as_v4(a).sin_addr.s_addr == as_v4(b).sin_addr.s_addr;
	if (a->sa.ss_family == AF_INET6) {
		struct sockaddr_in6 x = as_v6(a);
		struct sockaddr_in6 y = as_v6(b);

		return IN6_ARE_ADDR_EQUAL(&x.sin6_addr, &y.sin6_addr) &&
		       x.sin6_scope_id == y.sin6_scope_id;
	}
	return false;
}

uint16_t address_port(const struct address *a)
{
	if (a->sa.ss_family == AF_INET)
		return ntohs(as_v4(a).sin_port);
	if (a->sa.ss_family == AF_INET6)
		return ntohs(as_v6(a).sin6_port);
	return 0;
}

void address_set_port(struct address *a, uint16_t port)
{
	bool optional = a->optional;

	if (a->sa.ss_family == AF_INET)
		make_v4(a, as_v4(a).sin_addr, port);
	else if (a->sa.ss_family == AF_INET6)
		make_v6(a, as_v6(a).sin6_addr, as_v6(a).sin6_scope_id, port);
	a->optional = optional;
}

const char *address_format(const struct address *a,
			   char dst[ADDRESS_TEXT_BYTES])
{
	char host[INET6_ADDRSTRLEN] = "?";
	char scope[16] = "";

	if (a->sa.ss_family == AF_INET6) {
		struct sockaddr_in6 sin6 = as_v6(a);

		(void)inet_ntop(AF_INET6, &sin6.sin6_addr, host, sizeof(host));
		if (sin6.sin6_scope_id != 0)
			(void)snprintf(scope, sizeof(scope), "%%%u",
				       (unsigned)sin6.sin6_scope_id);
		(void)snprintf(dst, ADDRESS_TEXT_BYTES, "[%s%s]:%u", host,
			       scope, address_port(a));
	} else {
		struct sockaddr_in sin = as_v4(a);

		(void)inet_ntop(AF_INET, &sin.sin_addr, host, sizeof(host));
		(void)snprintf(dst, ADDRESS_TEXT_BYTES, "%s:%u", host,
			       address_port(a));
	}
	return dst;
}

/*
 * Any bytes as the lines of a request head: those of a stranger count for
 * nothing; and whatever a client wrote, it does not hide the address that a
 * trusted proxy has added at the right.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "http/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const uint8_t peer[SINK_PEER_BYTES] = { [10] = 0xff, 0xff, 10, 0, 0, 1 };

/* The client of a request with these lines.  False: it is no request. */
static bool client_of(const char *before, const uint8_t *data, size_t bytes,
		      const char *after, const struct networks *trusted,
		      uint8_t *client)
{
	static char text[HEAD_BYTES_MAX];
	struct head h;
	int n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s",
			 before);
	size_t at = (size_t)n;

	if (bytes > sizeof(text) - at - strlen(after) - 3)
		return false;
	memcpy(text + at, data, bytes);
	at += bytes;
	n = snprintf(text + at, sizeof(text) - at, "%s\r\n", after);
	head_init(&h);
	if (head_parse(&h, text, at + (size_t)n) != HEAD_DONE ||
	    h.head_bytes != at + (size_t)n)
		return false;
	memset(client, 0xaa, SINK_PEER_BYTES);
	forwarded_client(&h, peer, trusted, client);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const uint8_t other[SINK_PEER_BYTES] = { [10] = 0xff, 0xff, 198,
							51,          100,  7 };
	char why[NETWORKS_WHY_BYTES];
	struct networks nobody, some, all;
	uint8_t client[SINK_PEER_BYTES];

	must(networks_parse(&nobody, "", why) == 0);
	must(networks_parse(&some, "private", why) == 0);
	must(networks_parse(&all, "0.0.0.0/0 ::/0", why) == 0);
	if (client_of("", data, bytes, "", &nobody, client))
		must(memcmp(client, peer, sizeof(peer)) == 0);
	(void)client_of("", data, bytes, "", &all, client);

	/* a proxy has added its line, the client wrote the rest */
	if ((bytes == 0 || data[bytes - 1] == '\n') &&
	    client_of("", data, bytes, "Forwarded: for=198.51.100.7\r\n", &some,
		      client))
		must(memcmp(client, other, sizeof(other)) == 0);
	/* ... or has added to the client's line */
	if (bytes < 2 || memchr(data, '\n', bytes) != NULL)
		return 0;
	if (client_of("Forwarded: ", data, bytes,
		      ", for=198.51.100.7;by=\"a\\\"b,c\"\r\n", &some, client))
		must(memcmp(client, other, sizeof(other)) == 0);
	if (client_of("X-Forwarded-For: ", data, bytes,
		      ", 198.51.100.7, 10.0.0.2\r\n", &some, client))
		must(memcmp(client, other, sizeof(other)) == 0);
	return 0;
}

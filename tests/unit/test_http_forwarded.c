/* The client's address behind trusted proxies: Forwarded, X-Forwarded-For. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/forwarded.h"

#define PEER "10.0.0.1"
#define F    "Forwarded: "
#define X    "X-Forwarded-For: "
#define E    "\r\n"

static struct networks trusted;

static void read_address(const char *text, uint8_t *addr)
{
	assert_int_not_equal(networks_read_address(text, strlen(text), addr),
			     0);
}

static const struct {
	const char *fields;
	const char *client;
} cases[] = {
	/* nothing told */
	{ "", PEER },
	{ F E, PEER },
	{ F ",, ,\t," E, PEER },
	{ X E, PEER },
	/* one element */
	{ F "for=1.2.3.4" E, "1.2.3.4" },
	{ F "For=1.2.3.4" E, "1.2.3.4" },
	{ F "for=\"1.2.3.4\"" E, "1.2.3.4" },
	{ F "for=\"1.2.3.4:80\"" E, "1.2.3.4" },
	{ F "for=\"1.2.3.4:_x.-Y9\"" E, "1.2.3.4" },
	{ F "for=\"1.\\2.3\\.4\"" E, "1.2.3.4" },
	{ F "for=\"[2001:db8::1]\"" E, "2001:db8::1" },
	{ F "for=\"[2001:db8::1]:4711\"" E, "2001:db8::1" },
	{ F "for=\"[::ffff:1.2.3.4]\"" E, "1.2.3.4" },
	{ F "for=\"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535\"" E,
	  "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255" },
	{ F "proto=http;for=1.2.3.4;by=5.6.7.8" E, "1.2.3.4" },
	{ F "by=\"a;for=9.9.9.9\";for=1.2.3.4" E, "1.2.3.4" },
	{ F "by=\"a,for=9.9.9.9\";for=1.2.3.4" E, "1.2.3.4" },
	{ F "by=\"a\\\",for=9.9.9.9\";for=1.2.3.4" E, "1.2.3.4" },
	{ F "by=\"a\\\\\";for=1.2.3.4" E, "1.2.3.4" },
	{ F "for=1.2.3.4;x=\"a,b\\\"c,d\"" E, "1.2.3.4" },
	{ F "for=1.2.3.4;x=\"\"" E, "1.2.3.4" },
	{ F "for=1.2.3.4; proto=http ;; x=y;" E, "1.2.3.4" },
	{ F ";for=1.2.3.4" E, "1.2.3.4" },
	{ F ", for=1.2.3.4 ,," E, "1.2.3.4" },
	{ X "1.2.3.4" E, "1.2.3.4" },
	{ X "1.2.3.4:80" E, "1.2.3.4" },
	{ X "2001:db8::1" E, "2001:db8::1" },
	{ X "[2001:db8::1]" E, "2001:db8::1" },
	{ X "[2001:db8::1]:80" E, "2001:db8::1" },
	{ X "::ffff:1.2.3.4" E, "1.2.3.4" },
	{ X " , 1.2.3.4 ," E, "1.2.3.4" },
	/* the walk: the first from the right who is not trusted */
	{ F "for=1.1.1.1, for=2.2.2.2" E, "2.2.2.2" },
	{ F "for=1.1.1.1, for=2.2.2.2, for=10.0.0.2" E, "2.2.2.2" },
	{ F "for=1.1.1.1,for=10.0.0.3,for=10.0.0.2" E, "1.1.1.1" },
	{ F "for=10.0.0.4, for=10.0.0.3, for=10.0.0.2" E, "10.0.0.4" },
	{ F "for=\"[fd00::1]\", for=10.0.0.2" E, "fd00::1" },
	{ X "1.1.1.1, 2.2.2.2" E, "2.2.2.2" },
	{ X "1.1.1.1, 2.2.2.2, 10.0.0.2" E, "2.2.2.2" },
	{ X "1.1.1.1,fd00::1,10.0.0.2" E, "1.1.1.1" },
	{ X "10.0.0.4,,10.0.0.3" E, "10.0.0.4" },
	/* over lines */
	{ F "for=1.1.1.1" E F "for=2.2.2.2" E, "2.2.2.2" },
	{ F "for=1.1.1.1" E F "for=10.0.0.2" E, "1.1.1.1" },
	{ F "for=1.1.1.1" E F E F "for=10.0.0.2" E, "1.1.1.1" },
	{ X "1.1.1.1" E "A: b" E X "10.0.0.3" E X "10.0.0.2" E, "1.1.1.1" },
	{ X "1.1.1.1" E X "x" E X "10.0.0.2" E, "10.0.0.2" },
	{ F "for=1.1.1.1" E F "for=\"" E F "for=10.0.0.2" E, "10.0.0.2" },
	/* Forwarded is preferred, good or not */
	{ X "1.1.1.1" E F "for=2.2.2.2" E, "2.2.2.2" },
	{ F "for=2.2.2.2" E X "1.1.1.1" E, "2.2.2.2" },
	{ F "for=unknown" E X "1.1.1.1" E, PEER },
	{ F E X "1.1.1.1" E, PEER },
	/* who does not tell ends it */
	{ F "for=unknown" E, PEER },
	{ F "for=_hidden" E, PEER },
	{ F "for=\"_hidden:80\"" E, PEER },
	{ F "for=\"unknown:80\"" E, PEER },
	{ F "for=1.1.1.1, for=unknown, for=10.0.0.2" E, "10.0.0.2" },
	{ F "for=1.1.1.1, for=_x, for=10.0.0.2" E, "10.0.0.2" },
	{ F "for=1.1.1.1, proto=http, for=10.0.0.2" E, "10.0.0.2" },
	{ F "for=1.1.1.1, ;, for=10.0.0.2" E, "10.0.0.2" },
	{ X "1.1.1.1, unknown, 10.0.0.2" E, "10.0.0.2" },
	/* malformed */
	{ F "for" E, PEER },
	{ F "for=" E, PEER },
	{ F "for=\"\"" E, PEER },
	{ F "=1.2.3.4" E, PEER },
	{ F "1.2.3.4" E, PEER },
	{ F "for =1.2.3.4" E, PEER },
	{ F "for= 1.2.3.4" E, PEER },
	{ F "for=1.2.3.4 x" E, PEER },
	{ F "for=1.2.3.4=x" E, PEER },
	{ F "for=1.2.3.4;for=1.2.3.4" E, PEER },
	{ F "for=1.2.3.4;x" E, PEER },
	{ F "for=1.2.3.4:80" E, PEER },
	{ F "for=[::1]" E, PEER },
	{ F "for=2001:db8::1" E, PEER },
	{ F "for=\"2001:db8::1\"" E, PEER },
	{ F "for=\"[2001:db8::1\"" E, PEER },
	{ F "for=\"[2001:db8::1]x\"" E, PEER },
	{ F "for=\"[2001:db8::1]:\"" E, PEER },
	{ F "for=\"[2001:db8::1]:_\"" E, PEER },
	{ F "for=\"[2001:db8::1]:_a/b\"" E, PEER },
	{ F "for=\"[fe80::1%eth0]\"" E, PEER },
	{ F "for=\"[1.2.3.4]\"" E, PEER },
	{ F "for=\"[]\"" E, PEER },
	{ F "for=\"1.2.3.4:\"" E, PEER },
	{ F "for=\"1.2.3.4:65536\"" E, PEER },
	{ F "for=\"1.2.3.4:000080\"" E, PEER },
	{ F "for=\"1.2.3.4:-1\"" E, PEER },
	{ F "for=\" 1.2.3.4\"" E, PEER },
	{ F "for=\"1.2.3.4" E, PEER },
	{ F "for=\"1.2.3.4\\\"" E, PEER },
	{ F "for=\"1.2.3.4\"x" E, PEER },
	{ F "for=\"1.2.3.4\"\"\"" E, PEER },
	{ F "for=1.2.3.4\"" E, PEER },
	{ F "for=\"1.2.3.4xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"" E,
	  PEER },
	{ F "for=1.2.3.4.5" E, PEER },
	{ F "for=01.2.3.4" E, PEER },
	{ X "1.2.3.4 5.6.7.8" E, PEER },
	{ X "\"1.2.3.4\"" E, PEER },
	{ X "for=1.2.3.4" E, PEER },
	{ X "2001:db8::1:80:1:1:1:1" E, PEER },
	{ X "[2001:db8::1" E, PEER },
	{ X "[]" E, PEER },
	{ X "1.2.3.4:99999" E, PEER },
	{ X "1.1.1.1, x, 10.0.0.3, 10.0.0.2" E, "10.0.0.3" },
	{ F "for=1.1.1.1, x, for=10.0.0.3, for=10.0.0.2" E, "10.0.0.3" },
	/* quotes of a client do not reach what a proxy adds */
	{ F "for=\"1.1.1.1, for=2.2.2.2" E, "2.2.2.2" },
	{ F "for=\"1.1.1.1, for=2.2.2.2;host=\"a,for=9.9.9.9\"" E, "2.2.2.2" },
	{ F "x=\", for=\"[2001:db8::1]\"" E, "2001:db8::1" },
	{ F "x=\"\\, for=\"[2001:db8::1]\", for=10.0.0.2" E, "2001:db8::1" },
	{ F "for=\", for=2.2.2.2;host=\",for=9.9.9.9;b=\\\"\"" E, "2.2.2.2" },
	{ X "\"1.1.1.1, 2.2.2.2" E, "2.2.2.2" },
	/* the client's own list does not count, however it looks */
	{ F "for=9.9.9.9, for=10.0.0.9, for=2.2.2.2, for=10.0.0.2" E,
	  "2.2.2.2" },
};

static void client_of(const char *fields, const char *peer, uint8_t *client)
{
	static char text[HEAD_BYTES_MAX];
	uint8_t addr[SINK_PEER_BYTES];
	struct head h;
	int n = snprintf(text, sizeof(text),
			 "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);

	head_init(&h);
	assert_int_equal(head_parse(&h, text, (size_t)n), HEAD_DONE);
	read_address(peer, addr);
	memset(client, 0xaa, SINK_PEER_BYTES);
	forwarded_client(&h, addr, &trusted, client);
}

static void test_trusted_peer(void **state)
{
	uint8_t client[SINK_PEER_BYTES], want[SINK_PEER_BYTES];
	char text[INET6_ADDRSTRLEN];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		client_of(cases[i].fields, PEER, client);
		read_address(cases[i].client, want);
		if (memcmp(client, want, sizeof(want)) != 0)
			fail_msg(
				"%s: %s, not %s", cases[i].fields,
				inet_ntop(AF_INET6, client, text, sizeof(text)),
				cases[i].client);
	}
}

/* A stranger's fields are never believed. */
static void test_other_peer(void **state)
{
	static const char *const peers[] = { "11.0.0.1", "2001:db8::9", "::1" };
	uint8_t client[SINK_PEER_BYTES], want[SINK_PEER_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t k = 0; k < ARRAY_LEN(peers); k++) {
			client_of(cases[i].fields, peers[k], client);
			read_address(peers[k], want);
			assert_memory_equal(client, want, sizeof(want));
		}
}

/* As many elements and lines as a head has room for. */
static void test_many(void **state)
{
	static char fields[HEAD_BYTES_MAX];
	uint8_t client[SINK_PEER_BYTES], want[SINK_PEER_BYTES];
	size_t at = 0;

	(void)state;
	at += (size_t)sprintf(fields, X "1.2.3.4");
	while (at < 16000)
		at += (size_t)sprintf(fields + at, ",10.0.0.2");
	(void)sprintf(fields + at, E);
	client_of(fields, PEER, client);
	read_address("1.2.3.4", want);
	assert_memory_equal(client, want, sizeof(want));
	at = (size_t)sprintf(fields, F "for=1.2.3.4" E);
	for (unsigned int i = 2; i < HEAD_FIELDS_MAX; i++)
		at += (size_t)sprintf(fields + at, F "for=\"10.0.0.2:%u\"" E,
				      i);
	client_of(fields, PEER, client);
	assert_memory_equal(client, want, sizeof(want));
}

static int set_up(void **state)
{
	char why[NETWORKS_WHY_BYTES];

	(void)state;
	return networks_parse(&trusted, "private", why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trusted_peer),
		cmocka_unit_test(test_other_peer),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}

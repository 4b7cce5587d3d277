/* Lists of networks: what is read, what is refused, who lies in them. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "util/networks.h"

static void test_read_address(void **state)
{
	static const struct {
		const char *text;
		int family;
		const char *is;
	} cases[] = {
		{ "0.0.0.0", AF_INET, "::ffff:0:0" },
		{ "255.255.255.255", AF_INET, "::ffff:ffff:ffff" },
		{ "1.2.3.4", AF_INET, "::ffff:102:304" },
		{ "::", AF_INET6, "::" },
		{ "2001:DB8::1", AF_INET6, "2001:db8::1" },
		{ "::ffff:1.2.3.4", AF_INET6, "::ffff:102:304" },
		{ "1111:2222:3333:4444:5555:6666:177.177.177.177", AF_INET6,
		  "1111:2222:3333:4444:5555:6666:b1b1:b1b1" },
		{ "", 0, NULL },
		{ "1.2.3", 0, NULL },
		{ "1.2.3.4.5", 0, NULL },
		{ "1.2.3.256", 0, NULL },
		{ "1.2.3.04", 0, NULL },
		{ "1.2.3.4 ", 0, NULL },
		{ " 1.2.3.4", 0, NULL },
		{ "1.2.3.+4", 0, NULL },
		{ "0x1.2.3.4", 0, NULL },
		{ "16909060", 0, NULL },
		{ "1:2", 0, NULL },
		{ ":::", 0, NULL },
		{ "::1%lo", 0, NULL },
		{ "[::1]", 0, NULL },
		{ "::10000", 0, NULL },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999", 0, NULL },
		{ "localhost", 0, NULL },
	};
	uint8_t addr[16], is[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (networks_read_address(cases[i].text, strlen(cases[i].text),
					  addr) != cases[i].family)
			fail_msg("%s", cases[i].text);
		if (cases[i].family == 0)
			continue;
		assert_int_equal(inet_pton(AF_INET6, cases[i].is, is), 1);
		assert_memory_equal(addr, is, 16);
	}
	assert_int_equal(networks_read_address("1.2.3.4\0", 8, addr), 0);
	assert_int_equal(networks_read_address("1.2.3.45", 7, addr), AF_INET);
	assert_int_equal(addr[15], 4);
}

static void test_have(void **state)
{
	static const struct {
		const char *networks;
		const char *addr;
		bool have;
	} cases[] = {
		{ "", "127.0.0.1", false },
		{ " \t ", "127.0.0.1", false },
		{ "1.2.3.4", "1.2.3.4", true },
		{ "1.2.3.4", "::ffff:1.2.3.4", true },
		{ "1.2.3.4", "1.2.3.5", false },
		{ "1.2.3.4", "::102:304", false },
		{ "::ffff:1.2.3.4", "1.2.3.4", true },
		{ "1.2.3.4/32", "1.2.3.4", true },
		{ "1.2.3.4/32", "1.2.3.5", false },
		{ "1.2.3.4/31", "1.2.3.5", true },
		{ "1.2.3.4/31", "1.2.3.6", false },
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "9.255.255.255", false },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "10.128.0.0/9", "10.128.0.0", true },
		{ "10.128.0.0/9", "10.127.255.255", false },
		{ "10.0.0.0/8", "::a00:1", false },
		{ "::ffff:10.0.0.0/104", "10.1.2.3", true },
		{ "0.0.0.0/0", "255.1.2.3", true },
		{ "0.0.0.0/0", "::1", false },
		{ "0.0.0.0/0", "2001:db8::1", false },
		{ "::/0", "2001:db8::1", true },
		{ "::/0", "::", true },
		{ "::/0", "1.2.3.4", false },
		{ "::/95", "::fffe:0:0", false },
		{ "::fffe:0:0/95", "::fffe:0:1", true },
		{ "::fffe:0:0/95", "::ffff:0:1", false },
		{ "2001:db8::/32", "2001:db8:ffff::1", true },
		{ "2001:db8::/32", "2001:db9::1", false },
		{ "2001:db8::/33", "2001:db8:8000::", false },
		{ "2001:db8::1", "2001:db8::1", true },
		{ "2001:db8::1", "2001:db8::2", false },
		{ "2001:db8::2/127", "2001:db8::3", true },
		{ "1.1.1.1  2.2.2.0/24\t::1 ", "2.2.2.9", true },
		{ "1.1.1.1  2.2.2.0/24\t::1 ", "::1", true },
		{ "1.1.1.1  2.2.2.0/24\t::1 ", "::2", false },
		{ "loopback", "127.255.0.1", true },
		{ "loopback", "::1", true },
		{ "loopback", "128.0.0.1", false },
		{ "loopback", "10.0.0.1", false },
		{ "private", "10.9.8.7", true },
		{ "private", "172.16.0.0", true },
		{ "private", "172.31.255.255", true },
		{ "private", "172.32.0.0", false },
		{ "private", "192.168.255.0", true },
		{ "private", "192.169.0.0", false },
		{ "private", "fdff::1", true },
		{ "private", "fe00::1", false },
		{ "private", "127.0.0.1", false },
		{ "private loopback", "127.0.0.1", true },
	};
	char why[NETWORKS_WHY_BYTES];
	struct networks n;
	uint8_t addr[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (networks_parse(&n, cases[i].networks, why) < 0)
			fail_msg("%s", why);
		assert_int_not_equal(
			networks_read_address(cases[i].addr,
					      strlen(cases[i].addr), addr),
			0);
		if (networks_have(&n, addr) != cases[i].have)
			fail_msg("%s in %s: %d", cases[i].addr,
				 cases[i].networks, !cases[i].have);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *networks;
		const char *says;
	} cases[] = {
		{ "x", "x: is neither" },
		{ "10.0.0.0/8 x 1.2.3.4", "x: is neither" },
		{ "1.2.3.4,", "1.2.3.4,: is neither" },
		{ "1.2.3.4,5.6.7.8", "is neither" },
		{ "/8", "/8: is neither" },
		{ "1.2.3/24", "is neither" },
		{ "01.2.3.4", "is neither" },
		{ "Loopback", "is neither" },
		{ "loopback/8", "is neither" },
		{ "localhost", "is neither" },
		{ "[::1]", "is neither" },
		{ "::1%lo", "is neither" },
		{ "1.2.3.4:80", "is neither" },
		{ "1.2.3.4/", "1.2.3.4/: its /BITS must be 0 to 32" },
		{ "1.2.3.4/33", "must be 0 to 32" },
		{ "1.2.3.4/032", "must be 0 to 32" },
		{ "1.2.3.4/-1", "must be 0 to 32" },
		{ "1.2.3.4/4294967328", "must be 0 to 32" },
		{ "1.2.3.4/32/", "must be 0 to 32" },
		{ "1.2.3.4/255.255.255.255", "must be 0 to 32" },
		{ "::/129", "must be 0 to 128" },
		{ "::/1a", "must be 0 to 128" },
		{ "10.0.0.1/8", "10.0.0.1/8: has bits set behind its prefix" },
		{ "1.2.3.4/0", "has bits set" },
		{ "1.2.3.5/31", "has bits set" },
		{ "2001:db8::1/127", "has bits set" },
		{ "::1/0", "has bits set" },
		{ "0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789",
		  "0123456789012345678901234567890123456789"
		  "012345678901234567890123: is neither" },
	};
	char why[NETWORKS_WHY_BYTES];
	struct networks n;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(networks_parse(&n, cases[i].networks, why),
				 -EINVAL);
		assert_int_equal(n.count, 0);
		if (strstr(why, cases[i].says) != why &&
		    strstr(why, cases[i].says) == NULL)
			fail_msg("%s: %s", cases[i].networks, why);
	}
}

/* The last that fits, and one more; a word of several that fits in part. */
static void test_too_many(void **state)
{
	static char text[NETWORKS_MAX * 16 + 64];
	char why[NETWORKS_WHY_BYTES];
	struct networks n;
	size_t at = 0;

	(void)state;
	for (unsigned int i = 0; i < NETWORKS_MAX; i++)
		at += (size_t)sprintf(text + at, "10.%u.%u.0/24 ", i / 200,
				      i % 200);
	assert_int_equal(networks_parse(&n, text, why), 0);
	assert_int_equal(n.count, NETWORKS_MAX);
	(void)sprintf(text + at, "::1");
	assert_int_equal(networks_parse(&n, text, why), -EINVAL);
	assert_string_equal(why, "::1: is one network too many");
	text[at] = '\0';
	memcpy(text, "loopback     ", 13);
	assert_int_equal(networks_parse(&n, text, why), -EINVAL);
	assert_non_null(strstr(why, "is one network too many"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_address),
		cmocka_unit_test(test_have),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Which addresses may an origin have? */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "upstream/address.h"
#include "util/base.h"

static const struct {
	const char *text;
	bool is_public;
} cases[] = {
	{ "0.0.0.0", false },
	{ "0.255.255.255", false },
	{ "1.0.0.0", true },
	{ "9.255.255.255", true },
	{ "10.0.0.0", false },
	{ "10.255.255.255", false },
	{ "11.0.0.0", true },
	{ "100.63.255.255", true },
	{ "100.64.0.0", false },
	{ "100.127.255.255", false },
	{ "100.128.0.0", true },
	{ "126.255.255.255", true },
	{ "127.0.0.1", false },
	{ "127.255.255.255", false },
	{ "128.0.0.0", true },
	{ "169.253.255.255", true },
	{ "169.254.169.254", false },
	{ "169.255.0.0", true },
	{ "172.15.255.255", true },
	{ "172.16.0.0", false },
	{ "172.31.255.255", false },
	{ "172.32.0.0", true },
	{ "192.0.0.8", false },
	{ "192.0.1.0", true },
	{ "192.0.2.1", false },
	{ "192.88.99.1", false },
	{ "192.167.255.255", true },
	{ "192.168.0.0", false },
	{ "192.168.255.255", false },
	{ "192.169.0.0", true },
	{ "198.17.255.255", true },
	{ "198.18.0.0", false },
	{ "198.19.255.255", false },
	{ "198.20.0.0", true },
	{ "198.51.100.7", false },
	{ "203.0.113.7", false },
	{ "223.255.255.255", true },
	{ "224.0.0.1", false },
	{ "239.255.255.255", false },
	{ "240.0.0.0", false },
	{ "255.255.255.255", false },

	{ "::", false },
	{ "::1", false },
	{ "::8.8.8.8", false },
	{ "::ffff:8.8.8.8", true },
	{ "::ffff:127.0.0.1", false },
	{ "::ffff:10.1.2.3", false },
	{ "::ffff:0:8.8.8.8", false },
	{ "64:ff9b::8.8.8.8", true },
	{ "64:ff9b::192.168.1.1", false },
	{ "64:ff9b:1::8.8.8.8", false },
	{ "100::1", false },
	{ "1fff::1", false },
	{ "2001::1", false },
	{ "2001:0:1:2:3:4:5:6", false },
	{ "2001:2::1", false },
	{ "2001:20::1", false },
	{ "2001:1ff:ffff::1", false },
	{ "2001:200::1", true },
	{ "2001:db8::1", false },
	{ "2001:db9::1", true },
	{ "2001:4860:4860::8888", true },
	{ "2002:0808:0808::1", true },
	{ "2002:7f00:1::1", false },
	{ "2002:c0a8:101::1", false },
	{ "2606:4700::5efe:10.0.0.1", false },
	{ "2606:4700::200:5efe:10.0.0.1", false },
	{ "2606:4700::5efe:8.8.8.8", true },
	{ "2a00:1450::1", true },
	{ "3fff::1", false },
	{ "3fff:fff::1", false },
	{ "3ffe::1", true },
	{ "4000::1", false },
	{ "fc00::1", false },
	{ "fdff::1", false },
	{ "fe80::1", false },
	{ "fec0::1", false },
	{ "ff02::1", false },

	{ "", false },
	{ "example.org", false },
	{ "8.8.8", false },
	{ "fe80::1%lo", false },
	{ "2a00:1450::1%lo", false },
	{ "[2a00:1450::1]", false },
	{ "134744072", false },
};

static void test_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		if (address_text_is_public(cases[i].text) != cases[i].is_public)
			fail_msg("%s", cases[i].text);
	}
}

static void test_sockaddr(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	const struct sockaddr *sa = (const struct sockaddr *)&in;
	unsigned seen = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool got;

		if (inet_pton(AF_INET, cases[i].text, &in.sin_addr) == 1)
			got = address_is_public(sa, sizeof(in));
		else if (inet_pton(AF_INET6, cases[i].text, &in6.sin6_addr))
			got = address_is_public((const struct sockaddr *)&in6,
						sizeof(in6));
		else
			continue;
		seen++;
		if (got != cases[i].is_public)
			fail_msg("%s", cases[i].text);
	}
	assert_true(seen > 70);
	assert_int_equal(inet_pton(AF_INET, "8.8.8.8", &in.sin_addr), 1);
	assert_true(address_is_public(sa, sizeof(in)));
	assert_false(address_is_public(sa, sizeof(in) - 1));
	assert_false(address_is_public(sa, 0));
	assert_false(address_is_public(NULL, sizeof(in)));
	assert_false(
		address_is_public((const struct sockaddr *)&un, sizeof(un)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_sockaddr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

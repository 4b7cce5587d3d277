/* The PROXY protocol's header, both versions, in every split. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "http/proxy_header.h"
#include "util/networks.h"

#define V2  "\r\n\r\n\0\r\nQUIT\n"
#define A24 "aaaaaaaaaaaaaaaaaaaaaaaa"
#define A92 A24 A24 A24 "aaaaaaaaaaaaaaaaaaaa"
#define Z54                                                                    \
	"zzzzzzzzzzzzzzzzzzzzzzzzzzz"                                          \
	"zzzzzzzzzzzzzzzzzzzzzzzzzzz"
#define Z108      Z54 Z54
#define SIX       "2001:db8::1"
#define SIX_BYTES "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define FULL      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

/* text of any bytes, and how many */
#define T(literal) literal, sizeof(literal) - 1

/* addr: NULL = the connection's own; reason: NULL = DONE with all bytes */
static const struct {
	const char *text;
	size_t bytes;
	const char *addr;
	uint16_t port;
	const char *reason;
} cases[] = {
	/* version 1 */
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"), "1.2.3.4", 9, NULL },
	{ T("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
	  "255.255.255.255", 65535, NULL },
	{ T("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0", 0, NULL },
	{ T("PROXY TCP6 " SIX " ::1 4711 80\r\n"), SIX, 4711, NULL },
	{ T("PROXY TCP6 " FULL " " FULL " 65535 65535\r\n"), FULL, 65535,
	  NULL },
	{ T("PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n"), "1.2.3.4", 1, NULL },
	{ T("PROXY UNKNOWN\r\n"), NULL, 0, NULL },
	{ T("PROXY UNKNOWN \r\n"), NULL, 0, NULL },
	{ T("PROXY UNKNOWN x  y\0z \r\n"), NULL, 0, NULL },
	{ T("PROXY UNKNOWN " FULL " " FULL " 65535 65535\r\n"), NULL, 0, NULL },
	{ T("PROXY TCP4  1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0, "four words" },
	{ T("PROXY  TCP4 1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0,
	  "unknown family" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9  10\r\n"), NULL, 0, "four words" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9 10 \r\n"), NULL, 0, "four words" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9 10 11\r\n"), NULL, 0, "four words" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4\t1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0,
	  "unknown family" },
	{ T("PROXY TCP4 1.2.3.4\t5.6.7.8 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4 1.2.3.04 5.6.7.8 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4 1.2.3.4\0 5.6.7.8 9 10\r\n"), NULL, 0,
	  "wrong address" },
	{ T("PROXY TCP4 1.2.3.256 5.6.7.8 9 10\r\n"), NULL, 0,
	  "wrong address" },
	{ T("PROXY TCP4 1.2.3.4 x 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4 ::1 ::1 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4 ::ffff:1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0,
	  "wrong address" },
	{ T("PROXY TCP6 1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP6 ::1 5.6.7.8 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP6 ::1%lo ::1 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP6 [::1] ::1 9 10\r\n"), NULL, 0, "wrong address" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 65536 10\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9 65536\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 4294967305 10\r\n"), NULL, 0,
	  "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 09 10\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 00 10\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 +9 10\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 -9 10\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 9 0x10\r\n"), NULL, 0, "wrong port" },
	{ T("PROXY TCP5 1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0, "unknown family" },
	{ T("PROXY tcp4 1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0, "unknown family" },
	{ T("PROXY UNKNOWNX\r\n"), NULL, 0, "unknown family" },
	{ T("PROXY \r\n"), NULL, 0, "unknown family" },
	{ T("PROXY\r\n"), NULL, 0, "no PROXY header" },
	{ T("proxy TCP4 1.2.3.4 5.6.7.8 9 10\r\n"), NULL, 0,
	  "no PROXY header" },
	{ T("GET / HTTP/1.1\r\n"), NULL, 0, "no PROXY header" },
	{ T(" PROXY UNKNOWN\r\n"), NULL, 0, "no PROXY header" },
	{ T("\r\nPROXY UNKNOWN\r\n"), NULL, 0, "no PROXY header" },
	{ T("\x16\x03\x01\x02"), NULL, 0, "no PROXY header" },
	{ T("PROXY UNKNOWN\n"), NULL, 0, "LF without CR" },
	{ T("PROXY UNKNOWN \n\r\n"), NULL, 0, "LF without CR" },
	{ T("PROXY UNKNOWN\rx"), NULL, 0, "CR without LF" },
	{ T("PROXY UNKNOWN\r\r\n"), NULL, 0, "without" },
	/* 107 bytes with CRLF, and one more */
	{ T("PROXY UNKNOWN" A92 "\r\n"), NULL, 0, "unknown family" },
	{ T("PROXY UNKNOWN " A24 A24 A24 "aaaaaaaaaaaaaaaaaaa\r\n"), NULL, 0,
	  NULL },
	{ T("PROXY UNKNOWN " A92 "\r\n"), NULL, 0, "line too long" },
	{ T("PROXY UNKNOWN " A92 "a"), NULL, 0, "line too long" },
	/* version 2 */
	{ T(V2 "\x21\x11\0\x0c\1\2\3\4\5\6\7\x08\x12\x34\0\x50"), "1.2.3.4",
	  0x1234, NULL },
	{ T(V2 "\x21\x12\0\x0c\1\2\3\4\5\6\7\x08\xff\xff\0\x50"), "1.2.3.4",
	  65535, NULL },
	{ T(V2 "\x21\x21\0\x24" SIX_BYTES SIX_BYTES "\0\x01\0\2"), SIX, 1,
	  NULL },
	{ T(V2 "\x21\x22\0\x24" SIX_BYTES SIX_BYTES "\0\x01\0\2"), SIX, 1,
	  NULL },
	{ T(V2 "\x21\x31\0\xd8" Z108 Z108), NULL, 0, NULL },
	{ T(V2 "\x21\x32\0\xdb" Z108 Z108 "\4\0\0"), NULL, 0, NULL },
	/* own address: LOCAL whatever else it says, and no family */
	{ T(V2 "\x20\0\0\0"), NULL, 0, NULL },
	{ T(V2 "\x20\xff\0\0"), NULL, 0, NULL },
	{ T(V2 "\x20\x11\0\2xx"), NULL, 0, NULL },
	{ T(V2 "\x20\x11\0\x0c\1\2\3\4\5\6\7\x08\x12\x34\0\x50"), NULL, 0,
	  NULL },
	{ T(V2 "\x21\0\0\0"), NULL, 0, NULL },
	{ T(V2 "\x21\0\0\5abcde"), NULL, 0, NULL },
	{ T(V2 "\x21\x01\0\0"), NULL, 0, NULL },
	{ T(V2 "\x21\x10\0\0"), NULL, 0, NULL },
	/* TLVs */
	{ T(V2 "\x21\x11\0\x0f\1\2\3\4\5\6\7\x08\0\1\0\2\4\0\0"), "1.2.3.4", 1,
	  NULL },
	{ T(V2 "\x21\x11\0\x14\1\2\3\4\5\6\7\x08\0\1\0\2\2\0\2ab\4\0\0"),
	  "1.2.3.4", 1, NULL },
	{ T(V2 "\x21\x11\0\x13\1\2\3\4\5\6\7\x08\0\1\0\2\3\0\4wxyz"), "1.2.3.4",
	  1, NULL },
	{ T(V2 "\x21\x11\0\x12\1\2\3\4\5\6\7\x08\0\1\0\2\3\0\4wxy"), NULL, 0,
	  "TLV" },
	{ T(V2 "\x21\x11\0\x0d\1\2\3\4\5\6\7\x08\0\1\0\2\4"), NULL, 0, "TLV" },
	{ T(V2 "\x21\x11\0\x0e\1\2\3\4\5\6\7\x08\0\1\0\2\4\0"), NULL, 0,
	  "TLV" },
	{ T(V2 "\x21\x11\0\x0f\1\2\3\4\5\6\7\x08\0\1\0\2\4\xff\xff"), NULL, 0,
	  "TLV" },
	{ T(V2 "\x21\x31\0\xd9" Z108 Z108 "\4"), NULL, 0, "TLV" },
	/* wrong */
	{ T(V2 "\x21\x11\0\x0b\1\2\3\4\5\6\7\x08\0\1\0"), NULL, 0,
	  "too short" },
	{ T(V2 "\x21\x11\0\0"), NULL, 0, "too short" },
	{ T(V2 "\x21\x21\0\x23" SIX_BYTES SIX_BYTES "\0\x01\0"), NULL, 0,
	  "too short" },
	{ T(V2 "\x21\x31\0\xd7" Z108 Z54
	       "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
	  NULL, 0, "too short" },
	{ T(V2 "\x11"), NULL, 0, "unknown version" },
	{ T(V2 "\x31"), NULL, 0, "unknown version" },
	{ T(V2 "\x22\x11\0\0"), NULL, 0, "unknown command" },
	{ T(V2 "\x2f\0\0\0"), NULL, 0, "unknown command" },
	{ T(V2 "\x21\x41\0\0"), NULL, 0, "unknown family or transport" },
	{ T(V2 "\x21\xf0\0\0"), NULL, 0, "unknown family or transport" },
	{ T(V2 "\x21\x13\0\0"), NULL, 0, "unknown family or transport" },
	{ T(V2 "\x21\x0f\0\0"), NULL, 0, "unknown family or transport" },
	{ T(V2 "\x21\x11\x0f\xf1"), NULL, 0, "too long" },
	{ T(V2 "\x20\x11\xff\xff"), NULL, 0, "too long" },
	{ T("\r\n\r\n\0\r\nQUIT\r"), NULL, 0, "no PROXY header" },
	{ T("\r\n\r\n\r\n"), NULL, 0, "no PROXY header" },
};

/* From memory of exactly this size, so that a read beyond it is found. */
static enum proxy_outcome parse(struct proxy_header *p, const char *text,
				size_t bytes)
{
	char *copy = malloc(bytes > 0 ? bytes : 1);
	enum proxy_outcome outcome;

	assert_non_null(copy);
	memcpy(copy, text, bytes);
	memset(p, 0xaa, sizeof(*p));
	outcome = proxy_header_parse(p, copy, bytes);
	free(copy);
	return outcome;
}

static void check_done(const struct proxy_header *p, size_t i)
{
	uint8_t addr[SINK_PEER_BYTES];

	assert_int_equal(p->bytes, cases[i].bytes);
	assert_int_equal(p->has_address, cases[i].addr != NULL);
	if (cases[i].addr == NULL)
		return;
	assert_int_equal(p->port, cases[i].port);
	assert_true(networks_read_address(cases[i].addr, strlen(cases[i].addr),
					  addr) != 0);
	assert_memory_equal(p->addr, addr, sizeof(addr));
}

static void test_whole(void **state)
{
	struct proxy_header p;
	enum proxy_outcome got;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		got = parse(&p, cases[i].text, cases[i].bytes);
		if (cases[i].reason == NULL) {
			if (got != PROXY_DONE)
				fail_msg("case %zu: %d %s", i, (int)got,
					 got == PROXY_BAD ? p.reason : "");
			check_done(&p, i);
		} else if (got != PROXY_BAD ||
			   strstr(p.reason, cases[i].reason) == NULL) {
			fail_msg("case %zu: %d, wanted %s", i, (int)got,
				 cases[i].reason);
		}
	}
}

/* Each beginning of a good header is MORE; a bad one is BAD from some byte
 * on and then stays so. */
static void test_beginnings(void **state)
{
	struct proxy_header p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool bad = false;

		for (size_t n = 0; n < cases[i].bytes; n++) {
			enum proxy_outcome got = parse(&p, cases[i].text, n);

			assert_int_not_equal(got, PROXY_DONE);
			assert_false(bad && got != PROXY_BAD);
			bad = got == PROXY_BAD;
			if (bad && cases[i].reason == NULL)
				fail_msg("case %zu at %zu: %s", i, n, p.reason);
		}
	}
}

/* What follows belongs to the connection and changes nothing. */
static void test_more_follows(void **state)
{
	static const char *const follows[] = { "\r",
					       "\n",
					       "G",
					       "\r\n",
					       "GET / HTTP/1.1\r\n",
					       "PROXY UNKNOWN\r\n" };
	struct proxy_header p;
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		for (size_t k = 0; k < ARRAY_LEN(follows); k++) {
			size_t more = strlen(follows[k]);

			memcpy(text, cases[i].text, cases[i].bytes);
			memcpy(text + cases[i].bytes, follows[k], more);
			if (cases[i].reason == NULL) {
				assert_int_equal(
					parse(&p, text, cases[i].bytes + more),
					PROXY_DONE);
				check_done(&p, i);
			} else {
				assert_int_equal(
					parse(&p, text, cases[i].bytes + more),
					PROXY_BAD);
			}
		}
}

/* The longest header that is taken: full of one TLV. */
static void test_longest(void **state)
{
	static char text[PROXY_HEADER_MAX] =
		V2 "\x21\x11\x0f\xf0\1\2\3\4\5\6\7\x08\0\1\0\2\5\x0f\xe1";
	struct proxy_header p;

	(void)state;
	assert_int_equal(parse(&p, text, sizeof(text) - 1), PROXY_MORE);
	assert_int_equal(parse(&p, text, sizeof(text)), PROXY_DONE);
	assert_int_equal(p.bytes, PROXY_HEADER_MAX);
	assert_int_equal(p.port, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_beginnings),
		cmocka_unit_test(test_more_follows),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

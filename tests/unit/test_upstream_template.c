/* URLs of sources: templates, ids, origins. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "upstream/template.h"
#include "util/base.h"

static void test_check(void **state)
{
	static const char *const good[] = {
		"http://o/{id}",
		"https://o.example:8443/v/{id}.mp4?k=1&i={id}",
		"HTTP://o?{id}",
		"http://[::1]:80/{id}",
		"http://user:pass@o/{id}",
	};
	static const char *const bad[] = {
		"",
		"o/{id}",
		"ftp://o/{id}",
		"file:///{id}",
		"http://",
		"http:///{id}",
		"http://o/",
		"http://o/{id",
		"http://o/id}{id}",
		"http://o/{ID}",
		"http://o/{id}#x",
		"http://o/a b{id}",
		"http://o/\t{id}",
		"http://o/\\{id}",
		"http://o\\@p/{id}",
		"http://{id}/x",
		"http://{id}/{id}",
		"http://{id}@o/{id}",
		"http://o:{id}/{id}",
		"http://o:0/{id}",
		"http://o:65536/{id}",
		"http://o:8x/{id}",
		"http://[::1/{id}",
		"http://[]/{id}",
		"http://[::1]x/{id}",
		"http://o,p/{id}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		const char *why = "unset";

		if (template_check(good[i], false, &why) != 0 || why != NULL)
			fail_msg("%s: %s", good[i], why);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const char *why = NULL;

		if (template_check(bad[i], false, &why) != -EINVAL || why == NULL)
			fail_msg("%s", bad[i]);
	}
}

static int expand(const char *url, const char *id, char *dst, size_t bytes)
{
	return template_expand(url, id, strlen(id), NULL, dst, bytes);
}

static void test_expand(void **state)
{
	char dst[64], id[TEMPLATE_ID_BYTES + 2], big[300];

	(void)state;
	assert_int_equal(expand("http://o/{id}", "a", dst, sizeof(dst)), 0);
	assert_string_equal(dst, "http://o/a");
	assert_int_equal(expand("http://o/{id}/{id}.mp4?x={id}", "A.-_~9", dst,
				sizeof(dst)),
			 0);
	assert_string_equal(dst, "http://o/A.-_~9/A.-_~9.mp4?x=A.-_~9");
	/* exactly full, one too many, nothing at all */
	assert_int_equal(expand("http://o/{id}", "abc", dst, 13), 0);
	assert_int_equal(expand("http://o/{id}", "abc", dst, 12),
			 -ENAMETOOLONG);
	assert_int_equal(expand("http://o/{id}", "abc", dst, 0), -ENAMETOOLONG);
	/* ids */
	memset(id, 'x', sizeof(id));
	id[TEMPLATE_ID_BYTES] = '\0';
	assert_int_equal(expand("http://o/{id}", id, big, sizeof(big)), 0);
	id[TEMPLATE_ID_BYTES] = 'x';
	id[TEMPLATE_ID_BYTES + 1] = '\0';
	assert_int_equal(expand("http://o/{id}", id, big, sizeof(big)),
			 -EINVAL);
	static const char *const bad[] = {
		"", ".", "..", "a/b", "a?b", "a b", "%2e", "{id}", "a\n", "\xc3"
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			expand("http://o/{id}", bad[i], dst, sizeof(dst)),
			-EINVAL);
	assert_int_equal(expand("http://o/{id}", "...", dst, sizeof(dst)), 0);
	assert_int_equal(
		template_expand("http://o/{id}", "a\0b", 3, NULL, dst, sizeof(dst)),
		-EINVAL);
	assert_int_equal(expand("http://o/", "a", dst, sizeof(dst)), -EINVAL);
}

static void test_origin(void **state)
{
	static const struct {
		const char *url;
		const char *origin;
	} cases[] = {
		{ "http://o", "http://o:80" },
		{ "http://O.Example/p?token=1", "http://o.example:80" },
		{ "https://o/", "https://o:443" },
		{ "HTTPS://o:8443?x@y", "https://o:8443" },
		{ "http://o:/x", "http://o:80" },
		{ "http://u:p@o:81/x", "http://o:81" },
		{ "http://u@v@o/x", "http://o:80" },
		{ "http://o/@p", "http://o:80" },
		{ "http://[FE80::1]:8/x", "http://[fe80::1]:8" },
		{ "http://o#x", "http://o:80" },
		{ "ws://o/", NULL },
		{ "http://u@/x", NULL },
		{ "http://:80/", NULL },
		{ "http://o:99999/", NULL },
		{ "http://o p/", NULL },
	};
	char dst[TEMPLATE_ORIGIN_BYTES], url[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = template_origin(cases[i].url, dst, sizeof(dst));

		if (cases[i].origin == NULL)
			assert_int_equal(rc, -EINVAL);
		else if (rc != 0 || strcmp(dst, cases[i].origin) != 0)
			fail_msg("%s: %d %s", cases[i].url, rc, dst);
	}
	assert_int_equal(template_origin("http://o", dst, 11), -ENAMETOOLONG);
	assert_int_equal(template_origin("http://o", dst, 12), 0);
	/* the longest host fits, a longer one is refused */
	memset(url, 'h', sizeof(url));
	memcpy(url, "https://", 8);
	memcpy(url + 8 + 255, ":65535", 7);
	assert_int_equal(template_origin(url, dst, sizeof(dst)), 0);
	memset(url + 8, 'h', 256);
	memcpy(url + 8 + 256, ":65535", 7);
	assert_int_equal(template_origin(url, dst, sizeof(dst)), -EINVAL);
}

static void test_quality(void **state)
{
	const char *url = "https://o.test/{quality}/{id}?q={quality}";
	const char *why;
	char dst[64];

	(void)state;
	assert_int_equal(template_check(url, true, &why), 0);
	assert_int_equal(template_check(url, false, &why), -EINVAL);
	assert_non_null(strstr(why, "qualities"));
	assert_int_equal(template_check("https://o.test/{id}", true, &why),
			 -EINVAL);
	assert_int_equal(template_check("https://{quality}/{id}", true, &why),
			 -EINVAL);
	assert_int_equal(template_expand(url, "a", 1, "360p", dst, sizeof(dst)),
			 0);
	assert_string_equal(dst, "https://o.test/360p/a?q=360p");
	assert_int_equal(template_expand(url, "a", 1, "360p", dst, 28),
			 -ENAMETOOLONG);
	assert_int_equal(template_expand(url, "a", 1, "3/0", dst, sizeof(dst)),
			 -EINVAL);
	assert_int_equal(template_expand(url, "a", 1, NULL, dst, sizeof(dst)),
			 -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quality),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_expand),
		cmocka_unit_test(test_origin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

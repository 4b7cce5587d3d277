/* Parts of request targets: segments, percent-encoding, parameters, ids. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/target.h"

static void test_segments(void **state)
{
	static const struct {
		const char *path;
		const char *segments[4];
	} cases[] = {
		{ "", { NULL } },
		{ "*", { NULL } },
		{ "a/b", { NULL } },
		{ "/", { "" } },
		{ "//", { "", "" } },
		{ "/a", { "a" } },
		{ "/a/", { "a", "" } },
		{ "/a/b", { "a", "b" } },
		{ "/a//b", { "a", "", "b" } },
		{ "/a%2fb/c", { "a%2fb", "c" } },
	};
	struct slice rest;
	struct slice segment;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t n = 0;

		rest = slice_of(cases[i].path);
		while (target_next_segment(&rest, &segment)) {
			assert_non_null(cases[i].segments[n]);
			assert_true(slice_is(segment, cases[i].segments[n]));
			n++;
		}
		assert_null(cases[i].segments[n]);
	}
}

static void test_decode(void **state)
{
	static const struct {
		const char *raw;
		int rc;
		const char *text;
	} cases[] = {
		{ "", 0, "" },
		{ "abc", 0, "abc" },
		{ "a+b", 0, "a+b" },
		{ "%61%2Fb%2f", 0, "a/b/" },
		{ "%25%32%30", 0, "%20" },
		{ "%c3%a4", 0, "\xc3\xa4" },
		{ "%", -EINVAL, NULL },
		{ "a%4", -EINVAL, NULL },
		{ "%4g", -EINVAL, NULL },
		{ "%g4", -EINVAL, NULL },
		{ "%-1", -EINVAL, NULL },
		{ "%%41", -EINVAL, NULL },
		{ "%00", -EINVAL, NULL },
		{ "%0d%0a", -EINVAL, NULL },
		{ "%7F", -EINVAL, NULL },
		{ "12345678", 0, "12345678" },
		{ "%31%32345678", 0, "12345678" },
		{ "123456789", -ENOSPC, NULL },
	};
	char dst[8];
	struct slice out;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = target_decode(slice_of(cases[i].raw), dst, sizeof(dst),
				       &out);

		if (rc != cases[i].rc)
			fail_msg("%s gave %d", cases[i].raw, rc);
		if (rc == 0)
			assert_true(slice_is(out, cases[i].text));
	}
	/* what lies behind the end is not looked at */
	assert_int_equal(target_decode(slice_make("%41", 1), dst, 8, &out),
			 -EINVAL);
	assert_int_equal(target_decode(slice_make("%41", 2), dst, 8, &out),
			 -EINVAL);
}

static void test_query(void **state)
{
	static const struct {
		const char *query; /* NULL: absent */
		int rc;
		const char *value;
	} cases[] = {
		{ NULL, -ENOENT, NULL },
		{ "", -ENOENT, NULL },
		{ "&&&", -ENOENT, NULL },
		{ "=x", -ENOENT, NULL },
		{ "sourc=x&sources=y&Source=z", -ENOENT, NULL },
		{ "source", 0, "" },
		{ "source=", 0, "" },
		{ "source=a", 0, "a" },
		{ "x=1&source=a&y", 0, "a" },
		{ "x&source=a=b", 0, "a=b" },
		{ "s%6Furce=%61+b", 0, "a b" },
		{ "source=a%26b", 0, "a&b" },
		{ "source=a&source=a", -ENOTUNIQ, NULL },
		{ "source=a&s%6furce=b", -ENOTUNIQ, NULL },
		{ "source=a&source", -ENOTUNIQ, NULL },
		{ "source=%", -EINVAL, NULL },
		{ "source=%00", -EINVAL, NULL },
		{ "%=1&%zz&source=a", 0, "a" },
		{ "source=123456789", -ENOSPC, NULL },
	};
	char dst[8];
	struct slice out;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		int rc = target_query(slice_of(cases[i].query), "source", dst,
				      sizeof(dst), &out);

		if (rc != cases[i].rc)
			fail_msg("%s gave %d", cases[i].query, rc);
		if (rc == 0)
			assert_true(slice_is(out, cases[i].value));
	}
}

static void test_ids(void **state)
{
	static const char *const good[] = {
		"a", "Az09._~-", "...", ".a", "..a", "-", "~",
	};
	static const char *const bad[] = {
		"", ".", "..", "a/b", "a b", "a%20", "\xc3\xa4", "a\n", "a:b",
	};
	char many[TARGET_ID_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(target_id_valid(slice_of(good[i])));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(target_id_valid(slice_of(bad[i])));
	assert_false(target_id_valid(SLICE_ABSENT));
	assert_false(target_id_valid(slice_make("a\0b", 3)));
	memset(many, 'x', sizeof(many));
	assert_true(target_id_valid(slice_make(many, TARGET_ID_MAX)));
	assert_false(target_id_valid(slice_make(many, TARGET_ID_MAX + 1)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

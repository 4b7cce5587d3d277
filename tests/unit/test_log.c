/* The log: one line a fact, whatever is in it; rotation. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/log.h"

static char folder[] = "/tmp/test_log.XXXXXX";
static char path[64], moved[64];

static const char *contents(const char *of)
{
	static char text[16384];
	FILE *f = fopen(of, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	assert_int_equal(fclose(f), 0);
	return text;
}

static void test_lines(void **state)
{
	char want[128], long_text[9000];
	const char *got;

	(void)state;
	assert_int_equal(log_open(path, LOG_LEVEL_INFO, "master"), 0);
	log_info("ev=one n=%d", 1);
	log_debug("ev=two");
	log_set_who("worker");
	log_error("ev=three text=%s", "a\nev=forged\x1b");
	got = contents(path);
	(void)snprintf(want, sizeof(want), "Z info master[%d] ev=one n=1\n",
		       (int)getpid());
	assert_non_null(strstr(got, want));
	assert_null(strstr(got, "two"));
	assert_non_null(strstr(got, "] ev=three text=a?ev=forged?\n"));
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	log_info("ev=long %s", long_text);
	log_info("ev=after");
	got = contents(path);
	assert_non_null(strstr(got, "xxx\n"));
	assert_true(strlen(got) < 4096 + 256);
	assert_non_null(strstr(got, "ev=after\n"));
}

static void test_rotation(void **state)
{
	(void)state;
	assert_int_equal(log_open(path, LOG_LEVEL_INFO, "master"), 0);
	assert_int_equal(rename(path, moved), 0);
	log_info("ev=to-old");
	assert_int_equal(log_reopen(), 0);
	log_info("ev=to-new");
	assert_non_null(strstr(contents(moved), "ev=to-old"));
	assert_null(strstr(contents(moved), "ev=to-new"));
	assert_non_null(strstr(contents(path), "ev=to-new"));
	/* what cannot be opened leaves the old one in use */
	assert_int_equal(log_open("/nowhere/at/all", LOG_LEVEL_INFO, "x"),
			 -ENOENT);
	log_info("ev=still");
	assert_non_null(strstr(contents(path), "ev=still"));
}

static void test_full_disk(void **state)
{
	(void)state;
	assert_int_equal(log_open("/dev/full", LOG_LEVEL_INFO, "x"), 0);
	errno = EXDEV;
	log_info("ev=lost");
	assert_int_equal(errno, EXDEV);
}

static void test_quote(void **state)
{
	static const struct {
		const char *text;
		size_t room;
		const char *want;
	} cases[] = {
		{ "", 3, "\"\"" },
		{ "ab", 5, "\"ab\"" },
		{ "abc", 5, "\"ab\"" },
		{ "a b", 64, "\"a b\"" },
		{ "a\"b\\c", 64, "\"a\\x22b\\x5cc\"" },
		{ "\n\x7f\xc3\xa4", 64, "\"\\x0a\\x7f\\xc3\\xa4\"" },
		{ "\n", 6, "\"\"" }, /* an escape is never cut */
		{ "\n", 7, "\"\\x0a\"" },
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(
			log_quote(out, cases[i].room, cases[i].text),
			cases[i].want);
}

static int make_folder(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/log", folder);
	(void)snprintf(moved, sizeof(moved), "%s/log.1", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	(void)unlink(path);
	(void)unlink(moved);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_quote),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

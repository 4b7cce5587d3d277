/* HTTP dates: all three forms, and against the C library for many days. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "http/date.h"

#define NOW INT64_C(1700000000) /* 2023-11-14 */

static const struct {
	const char *text;
	int64_t wall_s;
} good[] = {
	{ "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
	{ "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
	{ "Sun Nov  6 08:49:37 1994", 784111777 },
	{ "Sun Nov 16 08:49:37 1994", 784975777 },
	{ "Mon, 06 Nov 1994 08:49:37 GMT", 784111777 }, /* was a Sunday */
	{ "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
	{ "Wed, 31 Dec 1969 23:59:59 GMT", -1 },
	{ "Tue, 29 Feb 2000 00:00:00 GMT", 951782400 },
	{ "Thu, 29 Feb 2024 12:00:00 GMT", 1709208000 },
	{ "Tue, 19 Jan 2038 03:14:08 GMT", INT64_C(2147483648) },
	{ "Fri, 31 Dec 9999 23:59:59 GMT", INT64_C(253402300799) },
	{ "Sat, 01 Jan 0000 00:00:00 GMT", INT64_C(-62167219200) },
	{ "Sat, 31 Dec 2016 23:59:60 GMT", 1483228800 },
	/* the century: not more than 50 years after 2023 */
	{ "Tuesday, 14-Nov-23 22:13:20 GMT", 1700000000 },
	{ "Tuesday, 14-Nov-73 00:00:00 GMT", INT64_C(3277843200) },
	{ "Wednesday, 14-Nov-74 00:00:00 GMT", 153619200 },
	{ "Thursday, 01-Jan-70 00:00:00 GMT", INT64_C(3155760000) },
	{ "Saturday, 01-Jan-00 00:00:00 GMT", 946684800 },
};

static const char *const bad[] = {
	"",
	"0",
	"-1",
	"Sun, 06 Nov 1994 08:49:37",
	"Sun, 06 Nov 1994 08:49:37 UTC",
	"Sun, 06 Nov 1994 08:49:37 GMT ",
	" Sun, 06 Nov 1994 08:49:37 GMT",
	"Sun, 06 Nov 1994 08:49:37 GMT, x",
	"sun, 06 Nov 1994 08:49:37 GMT",
	"Sun, 06 nov 1994 08:49:37 GMT",
	"Sun, 06 anF 1994 08:49:37 GMT",
	"Sun, 6 Nov 1994 08:49:37 GMT",
	"Sun, 00 Nov 1994 08:49:37 GMT",
	"Sun, 31 Nov 1994 08:49:37 GMT",
	"Sun, 29 Feb 1900 08:49:37 GMT",
	"Sun, 29 Feb 2023 08:49:37 GMT",
	"Sun, 06 Nov 94 08:49:37 GMT",
	"Sun, 06 Nov 1994 24:00:00 GMT",
	"Sun, 06 Nov 1994 08:60:00 GMT",
	"Sun, 06 Nov 1994 08:49:61 GMT",
	"Sun, 06 Nov 1994 8:49:37 GMT",
	"Sun, -6 Nov 1994 08:49:37 GMT",
	"Sun,06 Nov 1994 08:49:37 GMT",
	"Sun, 06-Nov-94 08:49:37 GMT",
	"Sunday, 06-Nov-1994 08:49:37 GMT",
	"Sunday, 06 Nov 1994 08:49:37 GMT",
	"Sonntag, 06-Nov-94 08:49:37 GMT",
	"Sunday",
	"Sun",
	"Su",
	"Sun Nov 6 08:49:37 1994",
	"Sun Nov 06 08:49:37 94",
	"Sun Nov  0 08:49:37 1994",
	"Sun Nov  6 08:49:37 1994 GMT",
	"1994-11-06T08:49:37Z",
};

static void test_parse(void **state)
{
	int64_t wall_s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (date_parse(slice_of(good[i].text), NOW, &wall_s) != 0 ||
		    wall_s != good[i].wall_s)
			fail_msg("%s", good[i].text);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (date_parse(slice_of(bad[i]), NOW, &wall_s) != -EINVAL)
			fail_msg("%s", bad[i]);
	}
	assert_int_equal(date_parse(SLICE_ABSENT, NOW, &wall_s), -EINVAL);
}

/* Every prefix of a good date is a bad one; read from memory of its size. */
static void test_cut(void **state)
{
	int64_t wall_s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		size_t bytes = strlen(good[i].text);

		for (size_t n = 0; n < bytes; n++)
			assert_int_equal(date_parse(slice_make(good[i].text, n),
						    NOW, &wall_s),
					 -EINVAL);
	}
}

static void test_format(void **state)
{
	/* the clock's day, about ten times a year, through all years */
	const int64_t step_s = INT64_C(3155693) + 1234567;
	char text[DATE_BYTES + 1];
	char want[64];
	int64_t back_s;

	(void)state;
	for (int64_t s = INT64_C(-62167219200); s < INT64_C(253402300800);
	     s += step_s) {
		time_t moment = (time_t)s;
		struct tm tm;

		assert_non_null(gmtime_r(&moment, &tm));
		assert_true(strftime(want, sizeof(want),
				     "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0);
		date_format(text, s);
		/* the C library writes years before 1000 without zeros */
		if (s >= INT64_C(-30610224000))
			assert_string_equal(text, want);
		assert_int_equal(date_parse(slice_of(text), NOW, &back_s), 0);
		assert_int_equal(back_s, s);
	}
}

static void test_format_limits(void **state)
{
	char text[DATE_BYTES + 1];

	(void)state;
	date_format(text, INT64_MAX);
	assert_string_equal(text, "Fri, 31 Dec 9999 23:59:59 GMT");
	date_format(text, INT64_MIN);
	assert_string_equal(text, "Sat, 01 Jan 0000 00:00:00 GMT");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_format_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

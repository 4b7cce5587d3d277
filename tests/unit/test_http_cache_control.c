/* Freshness: RFC 9111 sections 4.2 and 5.2.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/cache_control.h"
#include "http/date.h"

#define NONE CACHE_CONTROL_NOT_GIVEN

static void test_directives(void **state)
{
	static const struct {
		const char *value;
		struct cache_control cc;
	} cases[] = {
		{ "", { NONE, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ " , ,", { NONE, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=60", { 60, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "MAX-AGE=60", { 60, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=\"60\"",
		  { 60, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age", { 0, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=", { 0, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=-1", { 0, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=1.5", { 0, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=60s", { 0, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=99999999999999999999999",
		  { CACHE_CONTROL_MAX_S, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=9, max-age=5",
		  { 5, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=5, max-age=9",
		  { 5, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=5, max-age=x",
		  { 0, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "max-age=5,s-maxage=7",
		  { 5, 7, NONE, NONE, 0, 0, 0, 0, 1, 0 } },
		{ "stale-if-error=9,stale-while-revalidate=8",
		  { NONE, NONE, 9, 8, 0, 0, 0, 0, 0, 0 } },
		{ "no-store", { NONE, NONE, NONE, NONE, 1, 0, 0, 0, 0, 0 } },
		{ "no-cache", { NONE, NONE, NONE, NONE, 0, 1, 0, 0, 0, 0 } },
		{ "no-cache=\"a, b\"",
		  { NONE, NONE, NONE, NONE, 0, 1, 0, 0, 0, 0 } },
		{ "private=\"a, max-age=5\"",
		  { NONE, NONE, NONE, NONE, 0, 0, 1, 0, 0, 0 } },
		{ "public, must-revalidate, immutable",
		  { NONE, NONE, NONE, NONE, 0, 0, 0, 1, 1, 1 } },
		{ "proxy-revalidate",
		  { NONE, NONE, NONE, NONE, 0, 0, 0, 0, 1, 0 } },
		{ "x=\"no-store, max-age=5\", y=\"\\\", private\"",
		  { NONE, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "x=\"unclosed, no-store",
		  { NONE, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
		{ "nostore, no-stores, max-age-x=5",
		  { NONE, NONE, NONE, NONE, 0, 0, 0, 0, 0, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct cache_control *want = &cases[i].cc;
		struct cache_control cc;

		cache_control_clear(&cc);
		cache_control_parse(&cc, slice_of(cases[i].value));
		if (cc.max_age_s != want->max_age_s ||
		    cc.s_maxage_s != want->s_maxage_s ||
		    cc.stale_if_error_s != want->stale_if_error_s ||
		    cc.stale_while_revalidate_s !=
			    want->stale_while_revalidate_s ||
		    cc.no_store != want->no_store ||
		    cc.no_cache != want->no_cache ||
		    cc.is_private != want->is_private ||
		    cc.is_public != want->is_public ||
		    cc.must_revalidate != want->must_revalidate ||
		    cc.immutable != want->immutable)
			fail_msg("%s", cases[i].value);
	}
}

static void test_lines_add_up(void **state)
{
	struct cache_control cc;

	(void)state;
	cache_control_clear(&cc);
	cache_control_parse(&cc, SLICE("max-age=60"));
	cache_control_parse(&cc, SLICE("no-store"));
	cache_control_parse(&cc, SLICE_ABSENT);
	assert_int_equal(cc.max_age_s, 60);
	assert_true(cc.no_store);
}

#define NOW     784111777 /* when the response came */
#define T_NOW   "Sun, 06 Nov 1994 08:49:37 GMT"
#define T_EARLY "Sun, 06 Nov 1994 08:48:37 GMT" /* a minute before */
#define T_LATE  "Sun, 06 Nov 1994 08:50:37 GMT" /* a minute after */
#define T_YEAR  "Sat, 06 Nov 1993 08:49:37 GMT" /* a year before */
#define DAY     86400

static void test_freshness(void **state)
{
	static const struct {
		const char *cache_control, *expires, *age, *date, *modified;
		int64_t delay_s; /* between request and response */
		int64_t lifetime_s, age_s;
		bool is_explicit, may_store, must_revalidate;
	} cases[] = {
		/* no hint: 500 s, by the caller */
		{ NULL, NULL, NULL, NULL, NULL, 0, 500, 0, 0, 1, 0 },
		{ NULL, NULL, NULL, T_NOW, "x", 0, 500, 0, 0, 1, 0 },
		{ "public", "", "", T_NOW, "", 0, 500, 0, 0, 1, 0 },
		/* Last-Modified: a tenth, at most a day */
		{ NULL, NULL, NULL, T_NOW, T_EARLY, 0, 6, 0, 0, 1, 0 },
		{ NULL, NULL, NULL, T_NOW, T_YEAR, 0, DAY, 0, 0, 1, 0 },
		{ NULL, NULL, NULL, T_NOW, T_LATE, 0, 0, 0, 0, 1, 0 },
		{ NULL, NULL, NULL, NULL, T_EARLY, 0, 6, 0, 0, 1, 0 },
		/* Expires */
		{ NULL, T_LATE, NULL, T_NOW, T_YEAR, 0, 60, 0, 1, 1, 0 },
		{ NULL, T_LATE, NULL, T_EARLY, NULL, 0, 120, 60, 1, 1, 0 },
		{ NULL, T_LATE, NULL, NULL, NULL, 0, 60, 0, 1, 1, 0 },
		{ NULL, T_EARLY, NULL, T_NOW, NULL, 0, 0, 0, 1, 1, 0 },
		{ NULL, "0", NULL, T_NOW, T_YEAR, 0, 0, 0, 1, 1, 0 },
		{ NULL, "-1", NULL, T_NOW, T_YEAR, 0, 0, 0, 1, 1, 0 },
		{ NULL, T_LATE ", " T_LATE, NULL, T_NOW, NULL, 0, 0, 0, 1, 1,
		  0 },
		/* max-age before Expires, s-maxage before both */
		{ "max-age=9", T_LATE, NULL, T_NOW, NULL, 0, 9, 0, 1, 1, 0 },
		{ "max-age=9,s-maxage=7", T_LATE, NULL, T_NOW, NULL, 0, 7, 0, 1,
		  1, 1 },
		{ "s-maxage=0,max-age=9", NULL, NULL, T_NOW, NULL, 0, 0, 0, 1,
		  1, 1 },
		{ "max-age=x", T_LATE, NULL, T_NOW, NULL, 0, 0, 0, 1, 1, 0 },
		/* not to be stored, not to be used unasked */
		{ "no-store, max-age=9", NULL, NULL, T_NOW, NULL, 0, 9, 0, 1, 0,
		  0 },
		{ "private", NULL, NULL, T_NOW, NULL, 0, 500, 0, 0, 0, 0 },
		{ "no-cache, max-age=9", NULL, NULL, T_NOW, NULL, 0, 0, 0, 1, 1,
		  1 },
		{ "max-age=9, must-revalidate", NULL, NULL, T_NOW, NULL, 0, 9,
		  0, 1, 1, 1 },
		/* age */
		{ "max-age=9", NULL, "5", T_NOW, NULL, 0, 9, 5, 1, 1, 0 },
		{ "max-age=9", NULL, "5", T_NOW, NULL, 3, 9, 8, 1, 1, 0 },
		{ "max-age=9", NULL, NULL, T_NOW, NULL, 3, 9, 3, 1, 1, 0 },
		{ "max-age=9", NULL, NULL, T_NOW, NULL, -3, 9, 0, 1, 1, 0 },
		{ "max-age=9", NULL, "5", T_EARLY, NULL, 0, 9, 60, 1, 1, 0 },
		{ "max-age=9", NULL, "70", T_EARLY, NULL, 0, 9, 70, 1, 1, 0 },
		{ "max-age=9", NULL, NULL, T_LATE, NULL, 0, 9, 0, 1, 1, 0 },
		{ "max-age=9", NULL, "5, 7", T_NOW, NULL, 0, 9, 5, 1, 1, 0 },
		{ "max-age=9", NULL, "-5", T_NOW, NULL, 0, 9, 0, 1, 1, 0 },
		{ "max-age=9", NULL, "99999999999999999999", T_NOW, NULL, 0, 9,
		  CACHE_CONTROL_MAX_S, 1, 1, 0 },
		{ "max-age=99999999999999999999", NULL, NULL, T_NOW, NULL, 0,
		  CACHE_CONTROL_MAX_S, 0, 1, 1, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct freshness_input in = {
			.cache_control = slice_of(cases[i].cache_control),
			.expires = slice_of(cases[i].expires),
			.age = slice_of(cases[i].age),
			.date = slice_of(cases[i].date),
			.last_modified = slice_of(cases[i].modified),
			.request_s = NOW - cases[i].delay_s,
			.response_s = NOW,
			.default_s = 500,
		};
		struct freshness f;

		freshness_compute(&in, &f);
		if (f.lifetime_s != cases[i].lifetime_s ||
		    f.age_s != cases[i].age_s ||
		    f.is_explicit != cases[i].is_explicit ||
		    f.may_store != cases[i].may_store ||
		    f.must_revalidate != cases[i].must_revalidate)
			fail_msg("case %zu: lifetime %lld, age %lld", i,
				 (long long)f.lifetime_s, (long long)f.age_s);
		assert_int_equal(f.fresh_until_s, NOW + f.lifetime_s - f.age_s);
	}
}

static void test_other_fields(void **state)
{
	struct freshness_input in = {
		.cache_control =
			SLICE("max-age=5, stale-if-error=60, immutable"),
		.date = SLICE(T_EARLY),
		.request_s = NOW,
		.response_s = NOW,
	};
	struct freshness f;

	(void)state;
	freshness_compute(&in, &f);
	assert_int_equal(f.date_s, NOW - 60);
	assert_int_equal(f.stale_if_error_s, 60);
	assert_true(f.immutable);
	in.cache_control = SLICE_ABSENT;
	in.date = SLICE("x");
	freshness_compute(&in, &f);
	assert_int_equal(f.date_s, NOW);
	assert_int_equal(f.stale_if_error_s, NONE);
	assert_false(f.immutable);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_directives),
		cmocka_unit_test(test_lines_add_up),
		cmocka_unit_test(test_freshness),
		cmocka_unit_test(test_other_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

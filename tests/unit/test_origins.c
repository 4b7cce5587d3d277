/*
 * What is learned of origins, against origins that are simulated in steps of
 * 100 ms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "prefetcher/origins.h"
#include "upstream/template.h"
#include "util/span.h"

#define STEP_MS 100u
#define URL     "http://origin.test:8080/video/{id}"

struct fixture {
	struct origins *os;
	struct origin *o;
	uint64_t now_ms;
};

static void begin(struct fixture *fx, uint32_t hard, uint32_t ahead,
		  uint64_t bps)
{
	const struct origins_opts opts = { hard, ahead, bps };

	fx->now_ms = 100000;
	assert_int_equal(origins_open(&fx->os, &opts), 0);
	fx->o = origins_of_url(fx->os, URL, fx->now_ms);
	assert_non_null(fx->o);
}

/* Somebody reads all that comes for ms; each connection has each_bps, all
 * together all_bps. */
static void starve(struct fixture *fx, uint64_t ms, uint64_t each_bps,
		   uint64_t all_bps)
{
	for (uint64_t t = 0; t < ms; t += STEP_MS) {
		uint64_t bps = origin_parallel(fx->o) * each_bps;

		while (origin_active(fx->o) < origin_parallel(fx->o))
			origin_begin(fx->o, true);
		while (origin_active(fx->o) > origin_parallel(fx->o))
			origin_end(fx->o, true);
		origin_note_bytes(fx->o,
				  min_u64(bps, all_bps) * STEP_MS / 1000);
		fx->now_ms += STEP_MS;
		origin_tick_starved(fx->o, fx->now_ms);
	}
}

static void test_climbs_where_connections_are_paced(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 6, 0);
	assert_int_equal(origin_parallel(fx.o), 1);
	starve(&fx, 4000, MIB, UINT64_MAX / 2000);
	assert_int_equal(origin_parallel(fx.o), 6);
	starve(&fx, 100000, MIB, UINT64_MAX / 2000);
	assert_int_equal(origin_parallel(fx.o), 6);
	origins_close(fx.os);
}

static void test_stays_where_the_whole_is_limited(void **state)
{
	struct fixture fx;
	unsigned tried = 0;

	(void)state;
	begin(&fx, 64, 6, 0);
	for (int n = 0; n < 600; n++) { /* a minute */
		starve(&fx, STEP_MS, 4 * MIB, 4 * MIB);
		tried += origin_parallel(fx.o) > 1;
	}
	assert_int_equal(origin_parallel(fx.o), 1);
	/* it tried, once, for about a second */
	assert_in_range(tried, 3, 30);
	origins_close(fx.os);
}

static void test_stops_where_it_no_longer_helps(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 8, 0);
	starve(&fx, 10000, MIB, 2 * MIB + MIB / 2);
	assert_int_equal(origin_parallel(fx.o), 2);
	origins_close(fx.os);
}

static void test_what_is_not_used_is_not_judged(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 6, 0);
	origin_begin(fx.o, true);
	assert_int_equal(origin_ahead(fx.o), 1);
	origin_end(fx.o, true);
	assert_int_equal(origin_ahead(fx.o), 0);
	origin_begin(fx.o, false); /* one connection, whatever is allowed */
	for (int n = 0; n < 100; n++) {
		origin_note_bytes(fx.o, MIB / 10);
		fx.now_ms += STEP_MS;
		origin_tick_starved(fx.o, fx.now_ms);
	}
	origin_end(fx.o, false);
	/* it has not been held against them: they are tried soon again */
	starve(&fx, 6000, MIB, UINT64_MAX / 2000);
	assert_int_equal(origin_parallel(fx.o), 6);
	origins_close(fx.os);
}

static void test_long_ranges(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 6, 0);
	assert_int_equal(origin_range_end(fx.o, 5, SIZE_UNKNOWN), SIZE_UNKNOWN);
	assert_true(origin_note_refused(fx.o, SIZE_UNKNOWN));
	assert_int_equal(origin_range_end(fx.o, 5, SIZE_UNKNOWN), 5 + MIB);
	origin_note_accepted(fx.o, MIB);
	assert_int_equal(origin_range_end(fx.o, 7, SIZE_UNKNOWN), 7 + MIB);
	assert_int_equal(origin_range_end(fx.o, 7, 100), 100);
	/* what is within the limit and is refused: it means the object */
	assert_false(origin_note_refused(fx.o, MIB));
	assert_int_equal(origin_range_end(fx.o, 7, SIZE_UNKNOWN), 7 + MIB);
	origins_close(fx.os);
}

static void test_refusals_that_mean_the_object(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 6, 0);
	assert_true(origin_note_refused(fx.o, SIZE_UNKNOWN));
	assert_true(origin_note_refused(fx.o, MIB));
	assert_false(origin_note_refused(fx.o, 256 * KIB));
	assert_int_equal(origin_range_end(fx.o, 0, SIZE_UNKNOWN), SIZE_UNKNOWN);
	/* once an open range was answered nothing is tried at all */
	origin_note_accepted(fx.o, SIZE_UNKNOWN);
	assert_false(origin_note_refused(fx.o, SIZE_UNKNOWN));
	origins_close(fx.os);
}

static void test_open_ranges_that_crawl(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 6, 0);
	origin_note_rate(fx.o, 64 * KIB, 2000, 100, false);
	assert_int_equal(origin_range_end(fx.o, 0, SIZE_UNKNOWN), SIZE_UNKNOWN);
	origin_note_rate(fx.o, MIB, 200, 100, true);
	assert_true(origin_range_end(fx.o, 0, SIZE_UNKNOWN) < 32 * MIB);
	origins_close(fx.os);
}

static void test_equal_ranges_stay_open(void **state)
{
	struct fixture fx;

	(void)state;
	begin(&fx, 64, 6, 0);
	for (int n = 0; n < 10; n++) {
		origin_note_rate(fx.o, MIB, 1000, 100, false);
		origin_note_rate(fx.o, MIB, 900, 100, true);
	}
	assert_int_equal(origin_range_end(fx.o, 0, SIZE_UNKNOWN), SIZE_UNKNOWN);
	origins_close(fx.os);
}

static void test_a_busy_origin(void **state)
{
	struct fixture fx;
	uint32_t tolerated;

	(void)state;
	begin(&fx, 64, 6, 0);
	for (int n = 0; n < 8; n++)
		origin_begin(fx.o, false);
	origin_note_busy(fx.o, 0, fx.now_ms);
	assert_in_range(origin_blocked_until_ms(fx.o), fx.now_ms + 400,
			fx.now_ms + 600);
	fx.now_ms = origin_blocked_until_ms(fx.o);
	tolerated = origin_limit(fx.o);
	assert_int_equal(tolerated, 7);
	/* told how long: so long */
	origin_note_busy(fx.o, 30000, fx.now_ms);
	assert_int_equal(origin_blocked_until_ms(fx.o), fx.now_ms + 30000);
	for (int n = 0; n < 8; n++)
		origin_end(fx.o, false);
	/* again and again: the pause doubles, up to a minute, and one
	 * connection is always tolerated */
	for (int n = 0; n < 20; n++) {
		fx.now_ms = origin_blocked_until_ms(fx.o);
		origin_note_busy(fx.o, 0, fx.now_ms);
		assert_true(origin_blocked_until_ms(fx.o) - fx.now_ms <= 60000);
	}
	assert_true(origin_blocked_until_ms(fx.o) - fx.now_ms == 60000);
	/* alone it was not one too many */
	fx.now_ms = origin_blocked_until_ms(fx.o);
	assert_int_equal(origin_limit(fx.o), 7);
	origin_begin(fx.o, false);
	origin_begin(fx.o, false);
	origin_note_busy(fx.o, 0, fx.now_ms);
	assert_int_equal(origin_limit(fx.o), 1);
	/* good minutes bring one back each */
	for (int n = 0; n < 5; n++) {
		fx.now_ms += 60000;
		origin_note_good(fx.o, fx.now_ms);
	}
	assert_int_equal(origin_limit(fx.o), 6);
	origins_close(fx.os);
}

static void test_bandwidth(void **state)
{
	struct fixture fx;
	uint64_t taken = 0;

	(void)state;
	begin(&fx, 64, 6, MIB);
	for (int n = 0; n < 1000; n++) { /* 10 s */
		fx.now_ms += 10;
		while (origin_has_tokens(fx.o, fx.now_ms)) {
			origin_take_tokens(fx.o, 16 * KIB);
			taken += 16 * KIB;
		}
	}
	assert_in_range(taken, 9 * MIB, 11 * MIB);
	origins_close(fx.os);
	begin(&fx, 64, 6, 0);
	assert_true(origin_has_tokens(fx.o, fx.now_ms));
	origins_close(fx.os);
}

static void test_what_is_kept(void **state)
{
	struct fixture fx;
	struct origin_record rec;
	const char *name;
	char kept[TEMPLATE_ORIGIN_BYTES];
	struct origin *o;

	(void)state;
	begin(&fx, 64, 6, 0);
	assert_false(
		origins_next_dirty(fx.os, fx.now_ms + 20000, 50, &name, &rec));
	assert_true(origin_note_refused(fx.o, SIZE_UNKNOWN));
	origin_note_accepted(fx.o, MIB);
	starve(&fx, 4000, MIB, UINT64_MAX / 2000);
	/* not more often than every 10 s */
	assert_false(origins_next_dirty(fx.os, fx.now_ms, 50, &name, &rec));
	assert_true(
		origins_next_dirty(fx.os, fx.now_ms + 10000, 50, &name, &rec));
	assert_false(
		origins_next_dirty(fx.os, fx.now_ms + 10000, 50, &name, &rec));
	assert_true(origin_record_valid(&rec, sizeof(rec)));
	assert_string_equal(name, "http://origin.test:8080");
	snprintf(kept, sizeof(kept), "%s", name);
	origins_close(fx.os);

	begin(&fx, 64, 4, 0);
	origins_load(fx.os, kept, &rec, 60, fx.now_ms);
	o = origins_of_url(fx.os, URL, fx.now_ms);
	assert_int_equal(origin_parallel(o), 4); /* the new configuration's */
	assert_true(origin_range_end(o, 0, SIZE_UNKNOWN) <= MIB);
	origins_close(fx.os);

	/* a week later it is another origin */
	begin(&fx, 64, 6, 0);
	origins_load(fx.os, kept, &rec, 50 + 8 * 86400, fx.now_ms);
	o = origins_of_url(fx.os, URL, fx.now_ms);
	assert_int_equal(origin_parallel(o), 1);
	origins_close(fx.os);

	rec.version++;
	assert_false(origin_record_valid(&rec, sizeof(rec)));
}

static void test_is_bounded(void **state)
{
	struct fixture fx;
	char url[64];

	(void)state;
	begin(&fx, 64, 6, 0);
	origin_begin(fx.o, false);
	for (unsigned n = 0; n < 2 * ORIGINS_MAX; n++) {
		snprintf(url, sizeof(url), "http://o%u.test/{id}", n);
		assert_non_null(origins_of_url(fx.os, url, fx.now_ms + n));
	}
	/* the one in use has stayed, with what it counts */
	assert_ptr_equal(origins_of_url(fx.os, URL, fx.now_ms), fx.o);
	assert_int_equal(origin_active(fx.o), 1);
	assert_null(origins_of_url(fx.os, "no url", fx.now_ms));
	origins_close(fx.os);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_climbs_where_connections_are_paced),
		cmocka_unit_test(test_stays_where_the_whole_is_limited),
		cmocka_unit_test(test_stops_where_it_no_longer_helps),
		cmocka_unit_test(test_what_is_not_used_is_not_judged),
		cmocka_unit_test(test_long_ranges),
		cmocka_unit_test(test_refusals_that_mean_the_object),
		cmocka_unit_test(test_open_ranges_that_crawl),
		cmocka_unit_test(test_equal_ranges_stay_open),
		cmocka_unit_test(test_a_busy_origin),
		cmocka_unit_test(test_bandwidth),
		cmocka_unit_test(test_what_is_kept),
		cmocka_unit_test(test_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

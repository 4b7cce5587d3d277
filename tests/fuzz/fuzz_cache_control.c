/*
 * Any bytes as the fields that tell a response's freshness, one a line: no
 * sum overflows, no negative lifetime or age, and what is given twice is
 * never more lenient than what is given once.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "http/cache_control.h"
#include "http/date.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct slice take_line(struct slice *rest)
{
	const char *lf =
		rest->bytes == 0 ? NULL : memchr(rest->at, '\n', rest->bytes);
	size_t n = lf == NULL ? rest->bytes : (size_t)(lf - rest->at);
	struct slice line = slice_make(rest->at, n);

	*rest = slice_skip(*rest, lf == NULL ? n : n + 1);
	return line;
}

static void check_date(struct slice text)
{
	char back[DATE_BYTES + 1];
	int64_t wall_s;
	int64_t again_s;

	if (date_parse(text, 1700000000, &wall_s) < 0)
		return;
	date_format(back, wall_s);
	must(date_parse(slice_of(back), 1700000000, &again_s) == 0);
	/* the leap second at the very end of the calendar */
	must(again_s == wall_s || again_s == wall_s - 1);
}

static bool shorter(int64_t both, int64_t one)
{
	return one == CACHE_CONTROL_NOT_GIVEN ||
	       (both != CACHE_CONTROL_NOT_GIVEN && both <= one);
}

static void check_twice(struct slice a, struct slice b)
{
	struct cache_control one;
	struct cache_control both;

	cache_control_clear(&one);
	cache_control_parse(&one, a);
	both = one;
	cache_control_parse(&both, b);
	must(shorter(both.max_age_s, one.max_age_s));
	must(shorter(both.s_maxage_s, one.s_maxage_s));
	must(shorter(both.stale_if_error_s, one.stale_if_error_s));
	must(both.no_store >= one.no_store && both.no_cache >= one.no_cache);
	must(both.is_private >= one.is_private);
	must(both.must_revalidate >= one.must_revalidate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct slice rest = slice_make((const char *)data, bytes);
	struct freshness_input in = {
		.request_s = 1700000000,
		.response_s = 1700000010,
		.default_s = 3600,
	};
	struct freshness f;

	in.cache_control = take_line(&rest);
	in.expires = take_line(&rest);
	in.age = take_line(&rest);
	in.date = take_line(&rest);
	in.last_modified = take_line(&rest);
	freshness_compute(&in, &f);
	must(f.lifetime_s >= 0 && f.lifetime_s <= CACHE_CONTROL_MAX_S);
	must(f.age_s >= 0 && f.age_s <= CACHE_CONTROL_MAX_S);
	must(f.fresh_until_s == in.response_s + f.lifetime_s - f.age_s);
	must(f.stale_if_error_s >= CACHE_CONTROL_NOT_GIVEN);
	check_date(in.expires);
	check_date(in.date);
	check_twice(in.cache_control, in.expires);
	return 0;
}

#include "http/cache_control.h"

#include "http/date.h"

#define HEURISTIC_MAX_S INT64_C(86400)

void cache_control_clear(struct cache_control *cc)
{
	*cc = (struct cache_control){
		.max_age_s = CACHE_CONTROL_NOT_GIVEN,
		.s_maxage_s = CACHE_CONTROL_NOT_GIVEN,
		.stale_if_error_s = CACHE_CONTROL_NOT_GIVEN,
		.stale_while_revalidate_s = CACHE_CONTROL_NOT_GIVEN,
	};
}

static struct slice unquote(struct slice s)
{
	if (s.bytes >= 2 && s.at[0] == '"' && s.at[s.bytes - 1] == '"')
		return slice_make(s.at + 1, s.bytes - 2);
	return s;
}

/* delta-seconds; larger than the most is the most, unreadable is 0. */
static int64_t read_seconds(struct slice text)
{
	uint64_t value;

	if (!slice_to_u64(unquote(text), &value))
		return 0;
	return (int64_t)min_u64(value, (uint64_t)CACHE_CONTROL_MAX_S);
}

static void keep_shorter(int64_t *seconds, struct slice text)
{
	int64_t value = read_seconds(text);

	if (*seconds == CACHE_CONTROL_NOT_GIVEN || value < *seconds)
		*seconds = value;
}

static void take_directive(struct cache_control *cc, struct slice name,
			   struct slice value)
{
	if (slice_is_nocase(name, "max-age"))
		keep_shorter(&cc->max_age_s, value);
	else if (slice_is_nocase(name, "s-maxage"))
		keep_shorter(&cc->s_maxage_s, value);
	else if (slice_is_nocase(name, "stale-if-error"))
		keep_shorter(&cc->stale_if_error_s, value);
	else if (slice_is_nocase(name, "stale-while-revalidate"))
		keep_shorter(&cc->stale_while_revalidate_s, value);
	else if (slice_is_nocase(name, "no-store"))
		cc->no_store = true;
	else if (slice_is_nocase(name, "no-cache"))
		cc->no_cache = true;
	else if (slice_is_nocase(name, "private"))
		cc->is_private = true;
	else if (slice_is_nocase(name, "public"))
		cc->is_public = true;
	else if (slice_is_nocase(name, "must-revalidate") ||
		 slice_is_nocase(name, "proxy-revalidate"))
		cc->must_revalidate = true;
	else if (slice_is_nocase(name, "immutable"))
		cc->immutable = true;
}

void cache_control_parse(struct cache_control *cc, struct slice value)
{
	struct slice element;

	while (slice_next_element(&value, &element)) {
		const char *mark = memchr(element.at, '=', element.bytes);
		struct slice name = element;
		struct slice argument = SLICE_ABSENT;

		if (mark != NULL) {
			name.bytes = (size_t)(mark - element.at);
			argument = slice_skip(element, name.bytes + 1);
		}
		take_directive(cc, slice_trim(name), slice_trim(argument));
	}
	/* RFC 9111 section 5.2.2.10 */
	if (cc->s_maxage_s != CACHE_CONTROL_NOT_GIVEN)
		cc->must_revalidate = true;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
	return value < low ? low : value > high ? high : value;
}

/* Section 4.2.1. */
static int64_t lifetime(const struct freshness_input *in,
			const struct cache_control *cc, int64_t date_s,
			bool *is_explicit)
{
	int64_t moment_s;

	*is_explicit = true;
	if (cc->s_maxage_s != CACHE_CONTROL_NOT_GIVEN)
		return cc->s_maxage_s;
	if (cc->max_age_s != CACHE_CONTROL_NOT_GIVEN)
		return cc->max_age_s;
	if (in->expires.bytes > 0) {
		/* what is no date, above all "0", lies in the past (5.3) */
		if (date_parse(in->expires, in->response_s, &moment_s) < 0)
			return 0;
		return clamp(moment_s - date_s, 0, CACHE_CONTROL_MAX_S);
	}
	*is_explicit = false;
	if (date_parse(in->last_modified, in->response_s, &moment_s) == 0)
		return clamp((date_s - moment_s) / 10, 0, HEURISTIC_MAX_S);
	return clamp(in->default_s, 0, CACHE_CONTROL_MAX_S);
}

/* Of several values the first (section 5.1); unreadable is as not given. */
static int64_t read_age(struct slice text)
{
	struct slice first;

	return slice_next_element(&text, &first) ? read_seconds(first) : 0;
}

/* corrected_initial_age of section 4.2.3. */
static int64_t initial_age(const struct freshness_input *in, int64_t date_s)
{
	int64_t apparent_s = in->response_s - date_s;
	int64_t delay_s =
		clamp(in->response_s - in->request_s, 0, CACHE_CONTROL_MAX_S);
	int64_t corrected_s = read_age(in->age) + delay_s;

	return clamp(apparent_s > corrected_s ? apparent_s : corrected_s, 0,
		     CACHE_CONTROL_MAX_S);
}

void freshness_compute(const struct freshness_input *in, struct freshness *out)
{
	struct cache_control cc;

	cache_control_clear(&cc);
	cache_control_parse(&cc, in->cache_control);
	if (date_parse(in->date, in->response_s, &out->date_s) < 0)
		out->date_s = in->response_s;
	out->lifetime_s = lifetime(in, &cc, out->date_s, &out->is_explicit);
	if (cc.no_cache) {
		out->lifetime_s = 0;
		out->is_explicit = true;
	}
	out->age_s = initial_age(in, out->date_s);
	out->fresh_until_s = in->response_s + out->lifetime_s - out->age_s;
	out->stale_if_error_s = cc.stale_if_error_s;
	out->may_store = !cc.no_store && !cc.is_private;
	out->must_revalidate = cc.must_revalidate || cc.no_cache;
	out->immutable = cc.immutable;
}

#include "http/cache_status.h"

#include "http/fields.h"

const char *cache_status_word(enum cache_status_how how)
{
	static const char *const words[] = {
		[CACHE_STATUS_HIT] = "hit",
		[CACHE_STATUS_FWD_MISS] = "uri-miss",
		[CACHE_STATUS_FWD_PARTIAL] = "partial",
		[CACHE_STATUS_FWD_STALE] = "stale",
		[CACHE_STATUS_FWD_BYPASS] = "bypass",
	};

	must((size_t)how < ARRAY_LEN(words));
	return words[how];
}

size_t cache_status_format(char dst[CACHE_STATUS_BYTES],
			   const struct cache_status *cs)
{
	const char *word = cache_status_word(cs->how);
	struct fields f;

	fields_init(&f, dst, CACHE_STATUS_BYTES);
	if (cs->how == CACHE_STATUS_HIT) {
		FIELDS_LITERAL(&f, "reelcache; hit");
	} else {
		FIELDS_LITERAL(&f, "reelcache; fwd=");
		fields_raw(&f, word, strlen(word));
		if (cs->fwd_status > 0) {
			FIELDS_LITERAL(&f, "; fwd-status=");
			fields_u64(&f, (uint64_t)cs->fwd_status);
		}
		if (cs->stored)
			FIELDS_LITERAL(&f, "; stored");
		if (cs->collapsed)
			FIELDS_LITERAL(&f, "; collapsed");
	}
	if (cs->has_ttl) {
		uint64_t size = cs->ttl_s < 0 ? -(uint64_t)cs->ttl_s
					      : (uint64_t)cs->ttl_s;

		FIELDS_LITERAL(&f, "; ttl=");
		if (cs->ttl_s < 0)
			FIELDS_LITERAL(&f, "-");
		/* RFC 8941 integers have at most 15 digits */
		fields_u64(&f, min_u64(size, UINT64_C(999999999999999)));
	}
	FIELDS_LITERAL(&f, "\0");
	must(f.error == 0);
	return (size_t)(f.at - f.dst) - 1;
}

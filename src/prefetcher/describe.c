#include "prefetcher/describe.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/cache_control.h"
#include "http/date.h"
#include "http/slice.h"

static struct slice text(const char *s)
{
	return (struct slice){ s, strlen(s) };
}

int describe_head(const struct transfer_head *head,
		  const struct conf_source *source,
		  const struct conf_cache *cache, int64_t request_s,
		  int64_t now_s, struct object_record *rec)
{
	struct freshness_input in = {
		.cache_control = text(head->cache_control),
		.expires = text(head->expires),
		.age = text(head->age),
		.date = text(head->date),
		.last_modified = text(head->last_modified),
		.request_s = request_s,
		.response_s = now_s,
		.default_s = (int64_t)(cache->freshness / 1000),
	};
	const struct {
		enum layout_text which;
		const char *value;
	} texts[] = {
		{ TEXT_ETAG, head->etag },
		{ TEXT_LAST_MODIFIED, head->last_modified },
		{ TEXT_CONTENT_TYPE, head->content_type },
		{ TEXT_CACHE_CONTROL, head->cache_control },
		{ TEXT_EXPIRES, head->expires },
		{ TEXT_CONTENT_DISPOSITION, head->content_disposition },
		{ TEXT_CONTENT_LANGUAGE, head->content_language },
	};
	struct freshness fresh;

	if (head->content_encoding[0] != '\0' &&
	    strcasecmp(head->content_encoding, "identity") != 0)
		return -EINVAL;
	freshness_compute(&in, &fresh);
	memset(rec, 0, offsetof(struct object_record, text));
	object_record_clear_texts(rec);
	rec->size_bytes = head->size;
	rec->date_s = fresh.date_s;
	rec->age_s = fresh.age_s;
	rec->stored_s = now_s;
	rec->fresh_until_s = fresh.fresh_until_s;
	rec->chunk_bytes = (uint32_t)cache->chunk;
	if (source->ignore_cache_control)
		rec->fresh_until_s = now_s + (int64_t)(cache->freshness / 1000);
	else if (!fresh.may_store)
		rec->flags |= OBJECT_NO_STORE;
	if (fresh.must_revalidate && !source->ignore_cache_control)
		rec->flags |= OBJECT_MUST_REVALIDATE;
	for (size_t n = 0; n < ARRAY_LEN(texts); n++) {
		int rc = object_record_set_text(rec, texts[n].which,
						texts[n].value);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static const char *strong_etag(const struct object_record *rec)
{
	const char *etag = object_record_text(rec, TEXT_ETAG);

	return etag[0] == '"' ? etag : NULL;
}

/* At least a second older than the response that carried it. */
static const char *strong_date(const struct object_record *rec)
{
	const char *value = object_record_text(rec, TEXT_LAST_MODIFIED);
	int64_t modified_s;

	if (value[0] == '\0' ||
	    date_parse(text(value), rec->date_s, &modified_s) < 0)
		return NULL;
	return rec->date_s > modified_s ? value : NULL;
}

const char *describe_validator(const struct object_record *rec)
{
	const char *etag = strong_etag(rec);

	return etag != NULL ? etag : strong_date(rec);
}

bool describe_same(const struct object_record *a, const struct object_record *b,
		   const struct conf_source *source)
{
	const char *etag_a = strong_etag(a), *etag_b = strong_etag(b);
	const char *date_a = strong_date(a), *date_b = strong_date(b);

	if (a->size_bytes != SIZE_UNKNOWN && b->size_bytes != SIZE_UNKNOWN &&
	    a->size_bytes != b->size_bytes)
		return false;
	if (etag_a != NULL || etag_b != NULL)
		return etag_a != NULL && etag_b != NULL &&
		       strcmp(etag_a, etag_b) == 0;
	if (date_a != NULL || date_b != NULL)
		return date_a != NULL && date_b != NULL &&
		       strcmp(date_a, date_b) == 0;
	return source->immutable && a->size_bytes == b->size_bytes &&
	       a->size_bytes != SIZE_UNKNOWN;
}

void describe_confirm(struct object_record *rec,
		      const struct object_record *fresh)
{
	rec->date_s = fresh->date_s;
	rec->age_s = fresh->age_s;
	rec->stored_s = fresh->stored_s;
	rec->fresh_until_s = fresh->fresh_until_s;
}

bool describe_fresh(const struct object_record *rec, int64_t now_s)
{
	return now_s < rec->fresh_until_s;
}

bool describe_stale_ok(const struct object_record *rec,
		       const struct conf_cache *cache, int64_t now_s)
{
	if ((rec->flags & OBJECT_MUST_REVALIDATE) != 0)
		return false;
	return now_s <
	       rec->fresh_until_s + (int64_t)(cache->stale_if_error / 1000);
}

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/cache_status.h"
#include "http/range.h"
#include "worker/answer.h"
#include "worker/serves.h"

#define PART_HEAD_BYTES 512u

static void add_cache_status(struct serve *sv, const struct object_record *rec,
			     struct fields *f)
{
	struct cache_status cs = {
		.how = (enum cache_status_how)sv->how,
		.stored = (rec->flags & OBJECT_NO_STORE) == 0,
		.collapsed = sv->collapsed,
		.has_ttl = true,
		.ttl_s = rec->fresh_until_s - desk_wall_s(sv->desk),
	};
	char text[CACHE_STATUS_BYTES];
	size_t n = cache_status_format(text, &cs);

	FIELDS_ADD(f, "Cache-Status", slice_make(text, n));
}

static int keep_parts(struct serve *sv, const struct plan *plan,
		      const struct object_record *rec)
{
	const char *type = object_record_text(rec, TEXT_CONTENT_TYPE);
	size_t spans_bytes = plan->parts * sizeof(plan->spans[0]);
	size_t type_bytes = strlen(type) + 1;
	struct serve_parts *parts =
		malloc(sizeof(*parts) + spans_bytes + type_bytes);
	char *copy;

	if (parts == NULL)
		return -ENOMEM;
	parts->count = plan->parts;
	parts->at = 0;
	memcpy(parts->boundary, plan->boundary, sizeof(parts->boundary));
	memcpy(parts->spans, plan->spans, spans_bytes);
	copy = (char *)(parts->spans + plan->parts);
	memcpy(copy, type, type_bytes);
	parts->content_type = copy;
	free(sv->parts);
	sv->parts = parts;
	return 0;
}

int serve_send_part_head(struct serve *sv)
{
	struct serve_parts *parts = sv->parts;
	char text[PART_HEAD_BYTES + LAYOUT_TEXT_BYTES];
	int n = range_part_head(text, sizeof(text), slice_of(parts->boundary),
				slice_of(parts->content_type),
				parts->spans[parts->at], sv->size_bytes);

	must(n > 0);
	return sv->sink->ops->bytes(sv->sink, text, (size_t)n);
}

int serve_send_part_tail(struct serve *sv)
{
	char text[PART_HEAD_BYTES];
	int n = range_part_tail(text, sizeof(text),
				slice_of(sv->parts->boundary));

	must(n > 0);
	return sv->sink->ops->bytes(sv->sink, text, (size_t)n);
}

int serve_send_head(struct serve *sv, const struct plan *plan,
		    const struct object_record *rec)
{
	struct desk *desk = sv->desk;
	struct fields *f;
	int rc;

	if (plan->parts > 0) {
		rc = keep_parts(sv, plan, rec);
		if (rc < 0)
			return rc;
	}
	f = sv->sink->ops->head(sv->sink, plan->status);
	FIELDS_ADD(f, "Date", slice_make(desk_date(desk, rec->date_s), 29));
	plan_fields(plan, rec, desk_wall_s(desk), f);
	add_cache_status(sv, rec, f);
	FIELDS_ADD(f, "Reelcache-Quality", slice_of(sv->label));
	fields_raw(f, desk->common, desk->common_bytes);
	rc = sv->sink->ops->head_end(sv->sink, plan->body, plan->body_bytes);
	if (rc < 0)
		return rc;
	sv->head_sent = true;
	sv->status = (uint16_t)plan->status;
	sv->ttfb_us = desk_now_us(desk) - sv->begun_us;
	answer_count(desk, plan->status);
	stat_ttfb(desk->stats, sv->ttfb_us);
	serve_drop_request(sv);
	return plan->parts > 0 ? serve_send_part_head(sv) : 0;
}

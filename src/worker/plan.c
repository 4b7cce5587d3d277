#include "worker/plan.h"

#include <string.h>

#include "http/conditional.h"

static struct slice text_of(const struct object_record *rec,
			    enum layout_text which)
{
	return slice_of(object_record_text(rec, which));
}

static void make_boundary(char dst[24], uint64_t nonce)
{
	static const char digits[] = "0123456789abcdef";

	memcpy(dst, "reel_", 5);
	nonce *= 0x9e3779b97f4a7c15u;
	for (unsigned i = 0; i < 16; i++, nonce >>= 4)
		dst[5 + i] = digits[nonce & 15];
	dst[21] = '\0';
}

static void plan_whole(struct plan *plan, const struct object_record *rec)
{
	plan->status = 200;
	plan->span.from = 0;
	plan->span.to = rec->size_bytes;
	plan->body_bytes = rec->size_bytes;
}

static void plan_parts(struct plan *plan, const struct object_record *rec,
		       size_t count, uint64_t nonce)
{
	make_boundary(plan->boundary, nonce);
	if (range_multipart_bytes(slice_of(plan->boundary),
				  text_of(rec, TEXT_CONTENT_TYPE), plan->spans,
				  count, rec->size_bytes,
				  &plan->body_bytes) < 0) {
		plan_whole(plan, rec);
		return;
	}
	plan->status = 206;
	plan->parts = count;
	plan->span = plan->spans[0];
}

static void plan_range(struct plan *plan, const struct head *head,
		       const struct object_record *rec, uint32_t ranges_max,
		       uint64_t nonce)
{
	size_t count = 0;

	switch (range_parse(head_field(head, FIELD_RANGE), rec->size_bytes,
			    min_u64(ranges_max, PLAN_RANGES_MAX), plan->spans,
			    &count)) {
	case RANGE_NONE:
	case RANGE_IGNORE:
		plan_whole(plan, rec);
		return;
	case RANGE_ONE:
		plan->status = 206;
		plan->span = plan->spans[0];
		plan->body_bytes = span_len(plan->span);
		return;
	case RANGE_MANY:
		plan_parts(plan, rec, count, nonce);
		return;
	case RANGE_UNSATISFIABLE:
		plan->status = 416;
		plan->body = SINK_BODY_NONE;
		return;
	}
}

void plan_make(struct plan *plan, const struct head *head,
	       const struct object_record *rec, uint32_t ranges_max,
	       int64_t wall_s, uint64_t nonce)
{
	const struct conditional_object known = {
		.etag = text_of(rec, TEXT_ETAG),
		.last_modified = text_of(rec, TEXT_LAST_MODIFIED),
		.date_s = rec->date_s,
		.now_s = wall_s,
	};

	plan->body =
		head->method == METHOD_HEAD ? SINK_BODY_HEAD_ONLY : SINK_BODY;
	plan->parts = 0;
	plan->body_bytes = 0;
	plan->span.from = 0;
	plan->span.to = 0;
	switch (conditional_check(head, &known)) {
	case CONDITIONAL_NOT_MODIFIED:
		plan->status = 304;
		plan->body = SINK_BODY_NONE;
		return;
	case CONDITIONAL_FAILED:
		plan->status = 412;
		plan->body = SINK_BODY_NONE;
		return;
	case CONDITIONAL_SEND:
		break;
	}
	/* Range has a meaning for GET only (RFC 9110 section 14.2), and none
	 * while the size is not known */
	if (head->method == METHOD_GET && rec->size_bytes != SIZE_UNKNOWN &&
	    slice_present(head_field(head, FIELD_RANGE)) &&
	    conditional_range_counts(head, &known))
		plan_range(plan, head, rec, ranges_max, nonce);
	else
		plan_whole(plan, rec);
	if (plan->body != SINK_BODY)
		plan->span.to = plan->span.from;
}

static void add_age(const struct object_record *rec, int64_t wall_s,
		    struct fields *f)
{
	int64_t here = wall_s - rec->stored_s;
	int64_t age = rec->age_s + (here > 0 ? here : 0);

	FIELDS_ADD_U64(f, "Age", age > 0 ? (uint64_t)age : 0);
}

void plan_fields(const struct plan *plan, const struct object_record *rec,
		 int64_t wall_s, struct fields *f)
{
	char text[RANGE_TEXT_BYTES];

	FIELDS_ADD(f, "ETag", text_of(rec, TEXT_ETAG));
	FIELDS_ADD(f, "Last-Modified", text_of(rec, TEXT_LAST_MODIFIED));
	FIELDS_ADD(f, "Cache-Control", text_of(rec, TEXT_CACHE_CONTROL));
	FIELDS_ADD(f, "Expires", text_of(rec, TEXT_EXPIRES));
	add_age(rec, wall_s, f);
	if (plan->status == 304)
		return;
	if (plan->parts > 0) {
		FIELDS_LITERAL(f, "Content-Type: multipart/byteranges; "
				  "boundary=");
		fields_raw(f, plan->boundary, strlen(plan->boundary));
		FIELDS_LITERAL(f, "\r\n");
	} else {
		FIELDS_ADD(f, "Content-Type", text_of(rec, TEXT_CONTENT_TYPE));
	}
	if (plan->status == 206 && plan->parts == 0) {
		size_t n =
			range_format_content(text, plan->span, rec->size_bytes);

		FIELDS_ADD(f, "Content-Range", slice_make(text, n));
	}
	FIELDS_ADD(f, "Content-Disposition",
		   text_of(rec, TEXT_CONTENT_DISPOSITION));
	FIELDS_ADD(f, "Content-Language", text_of(rec, TEXT_CONTENT_LANGUAGE));
	if (rec->size_bytes != SIZE_UNKNOWN)
		FIELDS_LITERAL(f, "Accept-Ranges: bytes\r\n");
}

void plan_first_want(const struct head *head, uint32_t ranges_max,
		     struct range_spec *spec)
{
	spec->suffix_bytes = 0;
	spec->span.from = 0;
	spec->span.to = SIZE_UNKNOWN;
	if (head->method == METHOD_HEAD)
		spec->span.to = 1; /* the record comes with any byte */
	else if (!range_first_spec(head_field(head, FIELD_RANGE),
				   min_u64(ranges_max, PLAN_RANGES_MAX), spec))
		*spec = (struct range_spec){ .span = { 0, SIZE_UNKNOWN } };
}

#include "http/range.h"

#include <errno.h>

#include "http/fields.h"

/* One range-spec as it was written: digits only, or empty. */
struct spec {
	struct slice first; /* empty: a suffix */
	struct slice last;  /* empty: open end; of a suffix its length */
};

static struct slice skip_zeros(struct slice digits)
{
	while (digits.bytes > 1 && digits.at[0] == '0')
		digits = slice_skip(digits, 1);
	return digits;
}

/* Numbers of any size. */
static bool digits_less(struct slice a, struct slice b)
{
	a = skip_zeros(a);
	b = skip_zeros(b);
	if (a.bytes != b.bytes)
		return a.bytes < b.bytes;
	return memcmp(a.at, b.at, a.bytes) < 0;
}

/* All digits or nothing. */
static bool only_digits(struct slice s)
{
	uint64_t value;

	return s.bytes == 0 || slice_to_u64(s, &value);
}

/* UINT64_MAX stands for it and for all that is larger. */
static uint64_t number(struct slice digits)
{
	uint64_t value = 0;

	must(slice_to_u64(digits, &value));
	return value;
}

static bool parse_spec(struct slice text, struct spec *spec)
{
	const char *dash = memchr(text.at, '-', text.bytes);

	if (dash == NULL)
		return false;
	spec->first = slice_make(text.at, (size_t)(dash - text.at));
	spec->last = slice_skip(text, spec->first.bytes + 1);
	if (!only_digits(spec->first) || !only_digits(spec->last))
		return false;
	if (spec->first.bytes == 0)
		return spec->last.bytes > 0;
	return spec->last.bytes == 0 || !digits_less(spec->last, spec->first);
}

/* What follows "bytes="; false if that is not how it begins. */
static bool strip_unit(struct slice header, struct slice *set)
{
	static const size_t unit_bytes = sizeof("bytes=") - 1;

	if (header.bytes < unit_bytes ||
	    !slice_is_nocase(slice_make(header.at, unit_bytes), "bytes="))
		return false;
	*set = slice_skip(header, unit_bytes);
	return true;
}

/* Is every element a range, and are there from one to max of them? */
static bool set_valid(struct slice set, size_t max)
{
	struct slice element;
	struct spec spec;
	size_t count = 0;

	while (slice_next_element(&set, &element)) {
		if (++count > max || !parse_spec(element, &spec))
			return false;
	}
	return count > 0;
}

/* The bytes of an object of this size, not empty; false if there are none. */
static bool resolve(const struct spec *spec, uint64_t size, struct span *span)
{
	uint64_t last;

	if (spec->first.bytes == 0) {
		span->from = size - min_u64(number(spec->last), size);
		span->to = size;
		return span->from < span->to;
	}
	span->from = number(spec->first);
	if (span->from >= size)
		return false;
	last = spec->last.bytes == 0 ? size - 1 : number(spec->last);
	span->to = min_u64(last, size - 1) + 1;
	return true;
}

static bool touches(struct span a, struct span b)
{
	return a.from <= b.to && b.from <= a.to;
}

/* Adds a span; those it overlaps or touches are joined into the first of
 * them, which may then touch others in turn. */
static void add_span(struct span *spans, size_t *count, struct span span)
{
	size_t place = *count;
	size_t kept = 0;
	bool grew;

	spans[(*count)++] = span;
	do {
		grew = false;
		for (size_t i = 0; i < *count; i++) {
			if (i == place || !touches(spans[i], spans[place]))
				continue;
			size_t low = i < place ? i : place;
			size_t high = i < place ? place : i;

			spans[low].from =
				min_u64(spans[low].from, spans[high].from);
			spans[low].to = max_u64(spans[low].to, spans[high].to);
			for (kept = high; kept + 1 < *count; kept++)
				spans[kept] = spans[kept + 1];
			(*count)--;
			place = low;
			grew = true;
			break;
		}
	} while (grew);
}

enum range_kind range_parse(struct slice header, uint64_t size, size_t max,
			    struct span *spans, size_t *count)
{
	struct slice set;
	struct slice element;
	struct spec spec;
	struct span span;
	bool suffix_of_nothing = false;

	*count = 0;
	if (!slice_present(header))
		return RANGE_NONE;
	if (size == SIZE_UNKNOWN || !strip_unit(header, &set) ||
	    !set_valid(set, max))
		return RANGE_IGNORE;
	while (slice_next_element(&set, &element)) {
		must(parse_spec(element, &spec));
		if (resolve(&spec, size, &span))
			add_span(spans, count, span);
		else if (size == 0 && spec.first.bytes == 0 &&
			 number(spec.last) > 0)
			suffix_of_nothing = true;
	}
	if (suffix_of_nothing)
		return RANGE_IGNORE;
	if (*count == 0)
		return RANGE_UNSATISFIABLE;
	return *count == 1 ? RANGE_ONE : RANGE_MANY;
}

/* What to ask an origin for; false if no object can have these bytes. */
static bool spec_to_ask(const struct spec *text, struct range_spec *spec)
{
	uint64_t last;

	*spec = (struct range_spec){ .span = { 0, SIZE_UNKNOWN } };
	if (text->first.bytes == 0) {
		uint64_t bytes = number(text->last);

		if (bytes <= INT64_MAX)
			spec->suffix_bytes = bytes;
		return bytes > 0; /* larger than any object is all of it */
	}
	spec->span.from = number(text->first);
	if (text->last.bytes > 0) {
		last = number(text->last);
		if (last < INT64_MAX)
			spec->span.to = last + 1;
	}
	return spec->span.from < INT64_MAX;
}

bool range_first_spec(struct slice header, size_t max, struct range_spec *spec)
{
	struct slice set;
	struct slice element;
	struct spec text;

	if (!slice_present(header) || !strip_unit(header, &set) ||
	    !set_valid(set, max))
		return false;
	while (slice_next_element(&set, &element)) {
		must(parse_spec(element, &text));
		if (spec_to_ask(&text, spec))
			return true;
	}
	*spec = (struct range_spec){ .span = { 0, 1 } };
	return true;
}

/* "bytes 0-99/1000" */
static void put_content(struct fields *f, struct span span, uint64_t size)
{
	must(span.from < span.to);
	FIELDS_LITERAL(f, "bytes ");
	fields_u64(f, span.from);
	FIELDS_LITERAL(f, "-");
	fields_u64(f, span.to - 1);
	FIELDS_LITERAL(f, "/");
	if (size == SIZE_UNKNOWN)
		FIELDS_LITERAL(f, "*");
	else
		fields_u64(f, size);
}

/* Ends a text that always fits. */
static size_t end_text(struct fields *f)
{
	FIELDS_LITERAL(f, "\0");
	must(f->error == 0);
	return (size_t)(f->at - f->dst) - 1;
}

size_t range_format_content(char dst[RANGE_TEXT_BYTES], struct span span,
			    uint64_t size)
{
	struct fields f;

	fields_init(&f, dst, RANGE_TEXT_BYTES);
	put_content(&f, span, size);
	return end_text(&f);
}

size_t range_format_unsatisfied(char dst[RANGE_TEXT_BYTES], uint64_t size)
{
	struct fields f;

	fields_init(&f, dst, RANGE_TEXT_BYTES);
	FIELDS_LITERAL(&f, "bytes */");
	fields_u64(&f, size);
	return end_text(&f);
}

int range_part_head(char *dst, size_t dst_bytes, struct slice boundary,
		    struct slice content_type, struct span span, uint64_t size)
{
	struct fields f;
	size_t bytes;
	int rc;

	must(boundary.bytes > 0 && boundary.bytes <= RANGE_BOUNDARY_MAX);
	fields_init(&f, dst, dst_bytes);
	FIELDS_LITERAL(&f, "\r\n--");
	fields_raw(&f, boundary.at, boundary.bytes);
	FIELDS_LITERAL(&f, "\r\n");
	FIELDS_ADD(&f, "Content-Type", content_type);
	FIELDS_LITERAL(&f, "Content-Range: ");
	put_content(&f, span, size);
	FIELDS_LITERAL(&f, "\r\n");
	rc = fields_end(&f, &bytes);
	return rc < 0 ? rc : (int)bytes;
}

int range_part_tail(char *dst, size_t dst_bytes, struct slice boundary)
{
	struct fields f;

	fields_init(&f, dst, dst_bytes);
	FIELDS_LITERAL(&f, "\r\n--");
	fields_raw(&f, boundary.at, boundary.bytes);
	FIELDS_LITERAL(&f, "--\r\n");
	return f.error != 0 ? f.error : (int)(f.at - f.dst);
}

int range_multipart_bytes(struct slice boundary, struct slice content_type,
			  const struct span *spans, size_t count, uint64_t size,
			  uint64_t *total)
{
	static const size_t fixed =
		sizeof("\r\n--\r\nContent-Range: \r\n\r\n") - 1;
	uint64_t sum = sizeof("\r\n----\r\n") - 1 + boundary.bytes;
	uint64_t part = fixed + boundary.bytes;
	char text[RANGE_TEXT_BYTES];

	if (content_type.bytes > 0)
		part += sizeof("Content-Type: \r\n") - 1 + content_type.bytes;
	for (size_t i = 0; i < count; i++) {
		size_t shown = range_format_content(text, spans[i], size);

		if (__builtin_add_overflow(sum, part + shown, &sum) ||
		    __builtin_add_overflow(sum, span_len(spans[i]), &sum))
			return -EOVERFLOW;
	}
	if (sum > INT64_MAX)
		return -EOVERFLOW;
	*total = sum;
	return 0;
}

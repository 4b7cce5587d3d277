/*
 * Any bytes as a Range field, for an object whose size is the first eight of
 * them: the spans lie within it, do not touch, and are no more than allowed;
 * and Content-Range and multipart heads of them fit where they must.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "http/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define MAX 16

static void check_spans(const struct span *spans, size_t count, uint64_t size)
{
	char text[RANGE_TEXT_BYTES];
	char dst[256];
	uint64_t sum = 0;
	uint64_t total;
	struct slice edge = SLICE("edge");
	bool fits = true;

	for (size_t i = 0; i < count; i++) {
		int n = range_part_head(dst, sizeof(dst), edge, SLICE("a/b"),
					spans[i], size);

		must(n > 0);
		must(spans[i].from < spans[i].to && spans[i].to <= size);
		for (size_t k = 0; k < i; k++)
			must(spans[i].to < spans[k].from ||
			     spans[k].to < spans[i].from);
		must(range_format_content(text, spans[i], size) ==
		     strlen(text));
		fits = fits && span_len(spans[i]) < INT64_MAX / MAX / 2;
		sum += (uint64_t)n + span_len(spans[i]);
	}
	if (fits) {
		int n = range_part_tail(dst, sizeof(dst), edge);

		must(range_multipart_bytes(edge, SLICE("a/b"), spans, count,
					   size, &total) == 0);
		must(n > 0 && total == sum + (uint64_t)n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct span spans[MAX];
	struct range_spec spec;
	struct slice header;
	enum range_kind kind;
	uint64_t size;
	size_t count;
	bool asked;

	if (bytes < sizeof(size))
		return 0;
	memcpy(&size, data, sizeof(size));
	header = slice_make((const char *)data + sizeof(size),
			    bytes - sizeof(size));
	kind = range_parse(header, size, MAX, spans, &count);
	must(kind != RANGE_NONE);
	must(count <= MAX);
	must((kind == RANGE_ONE) == (count == 1));
	must((kind == RANGE_MANY) == (count > 1));
	check_spans(spans, count, size);
	asked = range_first_spec(header, MAX, &spec);
	must(asked || kind == RANGE_IGNORE);
	if (asked && spec.suffix_bytes == 0)
		must(spec.span.from < spec.span.to &&
		     spec.span.from < INT64_MAX);
	must(spec.suffix_bytes <= INT64_MAX || !asked);
	return 0;
}

#include "util/spanset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void spanset_fini(struct spanset *set)
{
	free(set->spans);
	*set = (struct spanset){ 0 };
}

/* Place of the first span that ends at off or behind it. */
static size_t place_of(const struct spanset *set, uint64_t off)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->spans[middle].to < off)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int make_room(struct spanset *set)
{
	size_t capacity = set->capacity == 0 ? 4 : set->capacity * 2;
	struct span *spans;

	if (set->count < set->capacity)
		return 0;
	if (set->count >= SPANSET_MAX)
		return -ENOSPC;
	spans = realloc(set->spans, capacity * sizeof(*spans));
	if (spans == NULL)
		return -ENOMEM;
	set->spans = spans;
	set->capacity = capacity;
	return 0;
}

static void insert_at(struct spanset *set, size_t n, struct span span)
{
	memmove(&set->spans[n + 1], &set->spans[n],
		(set->count - n) * sizeof(span));
	set->spans[n] = span;
	set->count++;
}

static void remove_at(struct spanset *set, size_t n, size_t count)
{
	memmove(&set->spans[n], &set->spans[n + count],
		(set->count - n - count) * sizeof(*set->spans));
	set->count -= count;
}

int spanset_add(struct spanset *set, struct span span, uint64_t *added)
{
	size_t first = place_of(set, span.from), end = first;
	uint64_t before = 0;
	int rc;

	*added = 0;
	if (span.from >= span.to)
		return 0;
	while (end < set->count && set->spans[end].from <= span.to) {
		span.from = min_u64(span.from, set->spans[end].from);
		span.to = max_u64(span.to, set->spans[end].to);
		before += span_len(set->spans[end]);
		end++;
	}
	if (end == first) {
		rc = make_room(set);
		if (rc < 0)
			return rc;
		insert_at(set, first, span);
	} else {
		set->spans[first] = span;
		remove_at(set, first + 1, end - first - 1);
	}
	*added = span_len(span) - before;
	set->bytes += *added;
	return 0;
}

/* Takes [span) out of the middle of spans[n]; returns bytes taken. */
static uint64_t split(struct spanset *set, size_t n, struct span span)
{
	struct span whole = set->spans[n];
	struct span left = { whole.from, span.from };
	struct span right = { span.to, whole.to };

	if (make_room(set) == 0) {
		set->spans[n] = left;
		insert_at(set, n + 1, right);
		return span_len(span);
	}
	set->spans[n] = span_len(left) >= span_len(right) ? left : right;
	return span_len(whole) - span_len(set->spans[n]);
}

uint64_t spanset_remove(struct spanset *set, struct span span)
{
	uint64_t taken = 0;
	size_t n = place_of(set, span.from);

	while (n < set->count && set->spans[n].from < span.to &&
	       span.from < span.to) {
		struct span *at = &set->spans[n];
		uint64_t from = max_u64(at->from, span.from);
		uint64_t to = min_u64(at->to, span.to);

		if (from >= to) { /* it only touches */
			n++;
		} else if (from > at->from && to < at->to) {
			taken += split(set, n, (struct span){ from, to });
			break;
		} else if (from == at->from && to == at->to) {
			taken += to - from;
			remove_at(set, n, 1);
		} else {
			taken += to - from;
			if (from == at->from)
				at->from = to;
			else
				at->to = from;
			n++;
		}
	}
	set->bytes -= taken;
	return taken;
}

uint64_t spanset_common(const struct spanset *set, struct span span)
{
	uint64_t common = 0;

	for (size_t n = place_of(set, span.from);
	     n < set->count && set->spans[n].from < span.to; n++) {
		uint64_t from = max_u64(set->spans[n].from, span.from);
		uint64_t to = min_u64(set->spans[n].to, span.to);

		if (from < to)
			common += to - from;
	}
	return common;
}

uint64_t spanset_first_missing(const struct spanset *set, uint64_t off)
{
	size_t n = place_of(set, off);

	if (n < set->count && set->spans[n].to == off)
		n++;
	if (n == set->count || set->spans[n].from > off)
		return off;
	return set->spans[n].to;
}

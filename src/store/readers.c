#include "store/readers.h"

#include <stdlib.h>

#include "util/log.h"

void readers_init(struct readers *rd, struct segment *seg)
{
	*rd = (struct readers){ .seg = seg };
}

void readers_fini(struct readers *rd)
{
	free(rd->rows);
	*rd = (struct readers){ 0 };
}

static bool append(struct readers *rd, const struct reader *row)
{
	if (rd->count == rd->capacity) {
		size_t capacity = rd->capacity ? rd->capacity * 2 : 256;
		struct reader *rows =
			realloc(rd->rows, capacity * sizeof(*rows));

		if (rows == NULL)
			return false;
		rd->rows = rows;
		rd->capacity = capacity;
	}
	rd->rows[rd->count++] = *row;
	return true;
}

/* A row that is closed and opened meanwhile may mix: harmless, see header. */
static bool copy_row(struct segment_reader *from, struct reader *to)
{
	to->object_no =
		atomic_load_explicit(&from->object_no, memory_order_acquire);
	if (to->object_no == 0)
		return false;
	to->pos_off =
		atomic_load_explicit(&from->pos_off, memory_order_relaxed);
	to->end_off =
		atomic_load_explicit(&from->end_off, memory_order_relaxed);
	to->generation =
		atomic_load_explicit(&from->generation, memory_order_relaxed);
	to->sent_kib =
		atomic_load_explicit(&from->sent_kib, memory_order_relaxed);
	return to->pos_off < to->end_off;
}

static int order(const struct reader *a, const struct reader *b)
{
	if (a->object_no != b->object_no)
		return a->object_no < b->object_no ? -1 : 1;
	if (a->generation != b->generation)
		return a->generation < b->generation ? -1 : 1;
	if (a->pos_off != b->pos_off)
		return a->pos_off < b->pos_off ? -1 : 1;
	return 0;
}

static int order_rows(const void *a, const void *b)
{
	return order(a, b);
}

void readers_refresh(struct readers *rd, uint64_t now_ms, uint64_t max_age_ms)
{
	struct segment *seg = rd->seg;
	struct reader row;

	if (rd->refreshed_ms != 0 && now_ms - rd->refreshed_ms < max_age_ms)
		return;
	rd->refreshed_ms = now_ms;
	rd->count = 0;
	for (uint32_t w = 0; w < SEGMENT_WORKERS; w++) {
		struct segment_worker *worker = &seg->workers[w];
		uint64_t top;

		if (atomic_load(&seg->procs[SEGMENT_PROC_WORKER0 + w].pid) == 0)
			continue;
		top = min_u64(atomic_load(&worker->readers_top),
			      SEGMENT_READERS);
		for (uint64_t n = 0; n < top; n++)
			if (copy_row(&worker->readers[n], &row) &&
			    !append(rd, &row)) {
				log_error("ev=no_memory for=readers");
				goto sort;
			}
	}
sort:
	if (rd->count > 1)
		qsort(rd->rows, rd->count, sizeof(*rd->rows), order_rows);
}

/* First row that is not before key. */
static size_t lower_bound(const struct readers *rd, const struct reader *key)
{
	size_t low = 0, high = rd->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (order(&rd->rows[middle], key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct reader *readers_of(const struct readers *rd, uint64_t object_no,
				uint32_t generation, size_t *count)
{
	struct reader key = { .object_no = object_no,
			      .generation = generation };
	size_t first = lower_bound(rd, &key), end = first;

	while (end < rd->count && rd->rows[end].object_no == object_no &&
	       rd->rows[end].generation == generation)
		end++;
	*count = end - first;
	return *count > 0 ? &rd->rows[first] : NULL;
}

bool readers_need(const struct readers *rd, uint64_t object_no,
		  uint32_t generation, struct span span, uint64_t ahead)
{
	struct reader key = { .object_no = object_no,
			      .generation = generation,
			      .pos_off = span.from > ahead ? span.from - ahead
							   : 0 };

	for (size_t n = lower_bound(rd, &key); n < rd->count; n++) {
		const struct reader *row = &rd->rows[n];

		if (row->object_no != object_no ||
		    row->generation != generation || row->pos_off >= span.to)
			return false;
		if (row->end_off > span.from)
			return true;
	}
	return false;
}

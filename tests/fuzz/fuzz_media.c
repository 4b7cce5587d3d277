/*
 * Any bytes as a file, whose size is up to four times theirs (zeros follow),
 * fed in pieces whose length the second byte tells: what is wanted lies
 * within the object and comes to an end, points grow, and the map goes forth
 * and back.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define WANTED_MAX (2 * (uint64_t)MEDIA_INDEX_MAX + MIB)
#define OBJECT_MAX (1u << 20)
#define PROBES     7u

static uint8_t object[OBJECT_MAX];

static void check_info(const struct media *m, uint64_t size)
{
	const struct media_info *info = media_info(m);

	must(info->head.from == 0 && info->head.to <= size);
	must(info->index.from <= info->index.to && info->index.to <= size);
	must(info->media_off <= size);
	must(info->head.to == info->media_off);
}

static void check_points(const struct media *m, uint64_t size)
{
	size_t count;
	const struct media_point *points = media_points(m, &count);

	must(count <= MEDIA_POINTS_MAX);
	must(count == 0 || media_state(m) == MEDIA_READY);
	for (size_t i = 0; i < count; i++) {
		must(points[i].off < size);
		must(i == 0 || points[i].time_ms > points[i - 1].time_ms);
		must(i == 0 || points[i].off >= points[i - 1].off);
		must(media_off_at(m, points[i].time_ms) == points[i].off);
		must(media_time_at(m, points[i].off) >= points[i].time_ms);
	}
}

static void check_map(const struct media *m, uint64_t size)
{
	uint64_t before = 0;

	for (unsigned i = 0; i <= PROBES; i++) {
		uint64_t off = size / PROBES * i;
		uint64_t time_ms = media_time_at(m, off);

		must(time_ms >= before);
		before = time_ms;
		must(media_off_at(m, time_ms) <= size);
		must(off >= size ||
		     media_bytes_for(m, off, 10000) <= size - off);
		must(off >= size ||
		     media_bytes_for(m, off, UINT64_MAX) <= size - off);
	}
	must(media_off_at(m, UINT64_MAX) <= size);
	must(media_bytes_for(m, UINT64_MAX, 1) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct media *m;
	uint64_t size;
	uint64_t wanted = 0;
	size_t piece;

	if (bytes < 3 || bytes - 2 > OBJECT_MAX / 4)
		return 0;
	size = (bytes - 2) * (data[0] % 4 + 1);
	piece = data[1] == 0 ? MEDIA_READ_MAX : data[1];
	memset(object, 0, size);
	memcpy(object, data + 2, bytes - 2);
	must(media_new(&m, size) == 0);
	while (media_state(m) == MEDIA_WANTS) {
		struct span want = media_want(m);
		size_t n = span_len(want);

		must(want.from < want.to && want.to <= size);
		must(n <= MEDIA_READ_MAX);
		if (n > piece)
			n = piece;
		wanted += n;
		must(wanted <= WANTED_MAX);
		media_feed(m, want.from, object + want.from, n);
		check_info(m, size);
	}
	check_points(m, size);
	check_map(m, size);
	media_free(m);
	return 0;
}

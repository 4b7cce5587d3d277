/*
 * Any bytes as a file, of a size that the first eight bytes tell (zeros follow
 * what is there, or it is cut), fed in pieces whose length the ninth tells:
 * what is wanted lies within the object and comes to an end, points grow, and
 * the map goes forth and back.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define WANTED_MAX (2 * (uint64_t)MEDIA_INDEX_MAX + MIB)
#define HEAD_BYTES 9u
#define DATA_MAX   (1u << 18)
#define PROBES     7u

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

/* The first bytes of what is wanted. */
static size_t feed(struct media *m, struct span want, const uint8_t *data,
		   size_t bytes, size_t piece)
{
	static const uint8_t zeros[MEDIA_READ_MAX];
	size_t n = span_len(want);

	if (want.from >= bytes) {
		media_feed(m, want.from, zeros, n);
		return n;
	}
	n = min_u64(n, min_u64(piece, bytes - want.from));
	media_feed(m, want.from, data + want.from, n);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct media *m;
	uint64_t size = 0;
	uint64_t wanted = 0;
	size_t piece;

	if (bytes < HEAD_BYTES || bytes - HEAD_BYTES > DATA_MAX)
		return 0;
	for (unsigned i = 0; i < 8; i++)
		size |= (uint64_t)data[i] << (8 * i);
	piece = data[8] == 0 ? MEDIA_READ_MAX : data[8];
	data += HEAD_BYTES;
	bytes -= HEAD_BYTES;
	if (size == 0 || size == SIZE_UNKNOWN) {
		must(media_new(&m, size) == -EINVAL);
		return 0;
	}
	must(media_new(&m, size) == 0);
	while (media_state(m) == MEDIA_WANTS) {
		struct span want = media_want(m);

		must(want.from < want.to && want.to <= size);
		must(span_len(want) <= MEDIA_READ_MAX);
		wanted += feed(m, want, data, bytes, piece);
		must(wanted <= WANTED_MAX);
		check_info(m, size);
	}
	check_points(m, size);
	check_map(m, size);
	media_free(m);
	return 0;
}

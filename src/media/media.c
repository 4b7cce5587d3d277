#include "media/media.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "media/mp4.h"
#include "media/webm.h"

#define SNIFF_BYTES 8u

/* all that one file may make us read */
#define BUDGET_BYTES                                                           \
	(2 * (uint64_t)MEDIA_INDEX_MAX +                                       \
	 (uint64_t)MEDIA_HEADERS_MAX * MEDIA_HEADER_BYTES)

/* a * b / c, c > 0; at most UINT64_MAX */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
	unsigned __int128 value = (unsigned __int128)a * b / c;

	return value > UINT64_MAX ? UINT64_MAX : (uint64_t)value;
}

uint64_t media_ms(uint64_t ticks, uint64_t rate)
{
	return min_u64(scale(ticks, 1000, rate), MEDIA_TIME_MAX_MS);
}

int media_new(struct media **out, uint64_t size_bytes)
{
	struct media *m;

	if (size_bytes == 0 || size_bytes == SIZE_UNKNOWN)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	m->size_bytes = size_bytes;
	m->stride = 1;
	m->budget_bytes = BUDGET_BYTES;
	m->state = MEDIA_WANTS;
	if (!media_ask(m, 0, MEDIA_HEADER_BYTES))
		media_fail(m);
	*out = m;
	return 0;
}

void media_free(struct media *m)
{
	if (m == NULL)
		return;
	free(m->points);
	free(m->bytes);
	free(m);
}

enum media_state media_state(const struct media *m)
{
	return m->state;
}

struct span media_want(const struct media *m)
{
	struct span want = { 0, 0 };

	if (m->state != MEDIA_WANTS)
		return want;
	want.from = m->asked.from + m->held;
	want.to = min_u64(m->asked.to, want.from + MEDIA_READ_MAX);
	return want;
}

const struct media_info *media_info(const struct media *m)
{
	return &m->info;
}

const struct media_point *media_points(const struct media *m, size_t *count)
{
	*count = m->state == MEDIA_READY ? m->count : 0;
	return m->points;
}

/* What comes in. */

static bool make_room(struct media *m, size_t bytes)
{
	size_t allocated = m->allocated;
	uint8_t *room;

	if (bytes <= allocated)
		return true;
	if (allocated == 0)
		allocated = MEDIA_HEADER_BYTES;
	while (allocated < bytes)
		allocated *= 2;
	room = realloc(m->bytes, allocated);
	if (room == NULL)
		return false;
	m->bytes = room;
	m->allocated = allocated;
	return true;
}

static void sniff(struct media *m)
{
	if (m->held >= SNIFF_BYTES && mp4_begins(m->bytes))
		m->info.container = MEDIA_MP4;
	else if (m->held >= SNIFF_BYTES && webm_begins(m->bytes))
		m->info.container = MEDIA_WEBM;
	else
		media_fail(m);
}

void media_feed(struct media *m, uint64_t off, const uint8_t *bytes, size_t n)
{
	struct span want = media_want(m);

	must(m->state == MEDIA_WANTS);
	must(off == want.from && n > 0 && n <= span_len(want));
	if (!make_room(m, m->held + n)) {
		media_fail(m);
		return;
	}
	memcpy(m->bytes + m->held, bytes, n);
	m->held += n;
	if (m->held < span_len(m->asked))
		return;
	if (m->info.container == MEDIA_UNKNOWN)
		sniff(m);
	if (m->state != MEDIA_WANTS)
		return;
	if (m->info.container == MEDIA_MP4)
		mp4_step(m);
	else
		webm_step(m);
	must(m->state != MEDIA_WANTS || m->held < span_len(m->asked));
}

/* For the containers. */

bool media_ask(struct media *m, uint64_t from, uint64_t bytes)
{
	if (from >= m->size_bytes)
		return false;
	bytes = min_u64(bytes, m->size_bytes - from);
	if (bytes == 0 || bytes > m->budget_bytes)
		return false;
	m->budget_bytes -= bytes;
	m->asked.from = from;
	m->asked.to = from + bytes;
	m->held = 0;
	return true;
}

const uint8_t *media_held(const struct media *m, uint64_t from, size_t bytes)
{
	uint64_t skip = from - m->asked.from;

	if (from < m->asked.from || skip > m->held || bytes > m->held - skip)
		return NULL;
	return m->bytes + skip;
}

static void forget_bytes(struct media *m)
{
	free(m->bytes);
	m->bytes = NULL;
	m->held = 0;
	m->allocated = 0;
	m->asked = (struct span){ 0, 0 };
}

void media_drop_points(struct media *m)
{
	m->count = 0;
	m->seen = 0;
	m->stride = 1;
	m->last_ms = 0;
}

void media_fail(struct media *m)
{
	m->state = MEDIA_FAILED;
	memset(&m->info, 0, sizeof(m->info));
	media_drop_points(m);
	forget_bytes(m);
}

/* Playing on from a point passes those that were left out behind it: it needs
 * their bytes too. */
static void lower(struct media_point *p, uint64_t off)
{
	p->off = min_u64(p->off, off);
}

/* Every second point goes. */
static void thin(struct media *m)
{
	for (size_t i = 0; i < m->count / 2; i++) {
		m->points[i] = m->points[2 * i];
		lower(&m->points[i], m->points[2 * i + 1].off);
	}
	m->count /= 2;
	m->stride *= 2;
}

static bool make_room_for_point(struct media *m)
{
	size_t capacity = m->capacity == 0 ? 64 : 2 * m->capacity;
	struct media_point *points;

	if (m->count < m->capacity)
		return true;
	points = realloc(m->points, capacity * sizeof(*points));
	if (points == NULL)
		return false;
	m->points = points;
	m->capacity = capacity;
	return true;
}

bool media_add(struct media *m, uint64_t time_ms, uint64_t off)
{
	if (m->seen > 0 && time_ms < m->last_ms)
		return true;
	if (time_ms >= MEDIA_TIME_MAX_MS || off >= m->size_bytes)
		return true;
	if (m->seen > 0 && time_ms == m->last_ms) {
		lower(&m->points[m->count - 1], off);
		return true;
	}
	if (m->count == MEDIA_POINTS_MAX)
		thin(m);
	m->last_ms = time_ms;
	if (m->seen++ % m->stride != 0) {
		lower(&m->points[m->count - 1], off);
		return true;
	}
	if (!make_room_for_point(m))
		return false;
	m->points[m->count++] = (struct media_point){ time_ms, off };
	return true;
}

/* From the last point, and how much of the file lies before it; also when
 * the duration that was told is over before: that of the first fragment. */
static void estimate_duration(struct media *m)
{
	uint64_t begin = m->info.media_off;
	const struct media_point *last;

	if (m->count == 0)
		return;
	last = &m->points[m->count - 1];
	if (m->info.duration_ms > last->time_ms)
		return;
	m->info.duration_ms = 0;
	if (last->off > begin)
		m->info.duration_ms =
			scale(last->time_ms, m->size_bytes - begin,
			      last->off - begin);
}

void media_done(struct media *m)
{
	for (size_t i = m->count; i-- > 1;)
		lower(&m->points[i - 1], m->points[i].off);
	m->state = MEDIA_READY;
	estimate_duration(m);
	if (m->info.duration_ms >= MEDIA_TIME_MAX_MS)
		m->info.duration_ms = 0;
	if (m->info.duration_ms != 0)
		m->info.bitrate_bps =
			scale(m->size_bytes, 8000, m->info.duration_ms);
	forget_bytes(m);
}

/* The map. */

/* The piece of the map around a time or a byte: it is a straight line. */
struct piece {
	struct media_point from;
	struct media_point to;
};

/* Points, and before and behind them what else is known. */
static struct piece piece_at(const struct media *m, size_t next)
{
	struct piece piece = { { 0, m->info.media_off },
			       { m->info.duration_ms, m->size_bytes } };

	if (next > 0)
		piece.from = m->points[next - 1];
	if (next < m->count)
		piece.to = m->points[next];
	if (next == 0 && m->count > 0)
		piece.from = (struct media_point){ 0, piece.to.off };
	piece.to.time_ms = max_u64(piece.to.time_ms, piece.from.time_ms);
	return piece;
}

static bool map_known(const struct media *m)
{
	return m->state == MEDIA_READY &&
	       (m->count > 0 || m->info.duration_ms > 0);
}

/* How many points lie at or before a time. */
static size_t count_by_time(const struct media *m, uint64_t time_ms)
{
	size_t low = 0;
	size_t high = m->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->points[mid].time_ms <= time_ms)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static size_t count_by_off(const struct media *m, uint64_t off)
{
	size_t low = 0;
	size_t high = m->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->points[mid].off <= off)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Between the points too. */
static uint64_t off_between(const struct media *m, uint64_t time_ms)
{
	struct piece p = piece_at(m, count_by_time(m, time_ms));

	if (time_ms >= p.to.time_ms)
		return p.to.off;
	return p.from.off + scale(p.to.off - p.from.off,
				  time_ms - p.from.time_ms,
				  p.to.time_ms - p.from.time_ms);
}

uint64_t media_off_at(const struct media *m, uint64_t time_ms)
{
	size_t before;

	if (!map_known(m))
		return 0;
	if (m->count == 0)
		return off_between(m, time_ms);
	before = count_by_time(m, time_ms);
	return m->points[before > 0 ? before - 1 : 0].off;
}

uint64_t media_time_at(const struct media *m, uint64_t off)
{
	struct piece p;

	if (!map_known(m))
		return 0;
	p = piece_at(m, count_by_off(m, off));
	if (off >= p.to.off)
		return p.to.time_ms;
	if (off <= p.from.off)
		return p.from.time_ms;
	return p.from.time_ms + scale(p.to.time_ms - p.from.time_ms,
				      off - p.from.off, p.to.off - p.from.off);
}

uint64_t media_bytes_for(const struct media *m, uint64_t off, uint64_t ms)
{
	uint64_t time_ms;
	uint64_t end;

	if (!map_known(m) || off >= m->size_bytes)
		return 0;
	time_ms = media_time_at(m, off);
	end = off_between(m, min_u64(ms, MEDIA_TIME_MAX_MS) + time_ms);
	return end > off ? end - off : 0;
}

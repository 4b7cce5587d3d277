/* Which bytes of a file hold which time: boxes built here, whole, cut,
 * lying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "media/media.h"

/* The front of a file; what lies behind it reads as zeros. */
#define FILE_MAX (4u << 20)
#define DEPTH    12

struct file {
	uint8_t *bytes;
	size_t n;
	size_t begun[DEPTH]; /* boxes that are not ended */
	unsigned depth;
};

static int setup(void **state)
{
	struct file *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->bytes = calloc(1, FILE_MAX);
	assert_non_null(f->bytes);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct file *f = *state;

	free(f->bytes);
	free(f);
	return 0;
}

static void put(struct file *f, uint64_t value, unsigned bytes)
{
	assert_true(f->n + bytes <= FILE_MAX);
	while (bytes-- > 0)
		f->bytes[f->n++] = (uint8_t)(value >> 8 * bytes);
}

static void put_zeros(struct file *f, size_t bytes)
{
	assert_true(f->n + bytes <= FILE_MAX);
	memset(f->bytes + f->n, 0, bytes);
	f->n += bytes;
}

static void put_text(struct file *f, const char *text)
{
	while (*text != '\0')
		put(f, (uint8_t)*text++, 1);
}

static void patch(struct file *f, size_t at, uint64_t value, unsigned bytes)
{
	size_t n = f->n;

	f->n = at;
	put(f, value, bytes);
	f->n = n;
}

static void begin(struct file *f, const char *type)
{
	assert_true(f->depth < DEPTH);
	f->begun[f->depth++] = f->n;
	put(f, 0, 4);
	put_text(f, type);
}

static void begin_full(struct file *f, const char *type, unsigned version)
{
	begin(f, type);
	put(f, (uint64_t)version << 24, 4);
}

static void end(struct file *f)
{
	size_t at = f->begun[--f->depth];

	patch(f, at, f->n - at, 4);
}

/* Where a type or an ID stands first. */
static size_t find(const struct file *f, const void *what, size_t bytes)
{
	for (size_t at = 0; at + bytes <= f->n; at++)
		if (memcmp(f->bytes + at, what, bytes) == 0)
			return at;
	fail();
	return 0;
}

static void put_ftyp(struct file *f)
{
	begin(f, "ftyp");
	put_text(f, "isom");
	put(f, 512, 4);
	end(f);
}

/* A track of the movie that put_moov() writes. */
struct spec {
	const char *handler;
	uint32_t id;
	uint32_t rate;
	unsigned version; /* of mdhd and tkhd */
	uint32_t duration;
	uint32_t times[8];   /* count, ticks; ends with count 0 */
	uint32_t groups[12]; /* first chunk, samples; ends with 0 */
	uint32_t one_bytes;
	uint32_t samples;
	unsigned size_bits; /* 32 stsz, else stz2 */
	uint32_t sizes[32];
	uint64_t chunks[16]; /* ends with 0 */
	bool co64;
	uint32_t syncs[16]; /* ends with 0 */
	bool all_sync;      /* no stss */
};

static unsigned rows(const uint32_t *at, unsigned columns)
{
	unsigned n = 0;

	while (at[n * columns] != 0)
		n++;
	return n;
}

static void put_stbl(struct file *f, const struct spec *s)
{
	unsigned n = rows(s->times, 2);

	begin(f, "stbl");
	begin_full(f, "stts", 0);
	put(f, n, 4);
	for (unsigned i = 0; i < 2 * n; i++)
		put(f, s->times[i], 4);
	end(f);
	n = rows(s->groups, 2);
	begin_full(f, "stsc", 0);
	put(f, n, 4);
	for (unsigned i = 0; i < n; i++) {
		put(f, s->groups[2 * i], 4);
		put(f, s->groups[2 * i + 1], 4);
		put(f, 1, 4);
	}
	end(f);
	begin_full(f, s->size_bits == 32 ? "stsz" : "stz2", 0);
	put(f, s->size_bits == 32 ? s->one_bytes : s->size_bits, 4);
	put(f, s->samples, 4);
	for (unsigned i = 0; s->one_bytes == 0 && i < s->samples; i++) {
		if (s->size_bits != 4)
			put(f, s->sizes[i], s->size_bits / 8);
		else if (i % 2 == 0)
			put(f, s->sizes[i] << 4 | s->sizes[i + 1], 1);
	}
	end(f);
	for (n = 0; s->chunks[n] != 0;)
		n++;
	begin_full(f, s->co64 ? "co64" : "stco", 0);
	put(f, n, 4);
	for (unsigned i = 0; i < n; i++)
		put(f, s->chunks[i], s->co64 ? 8 : 4);
	end(f);
	if (!s->all_sync) {
		n = rows(s->syncs, 1);
		begin_full(f, "stss", 0);
		put(f, n, 4);
		for (unsigned i = 0; i < n; i++)
			put(f, s->syncs[i], 4);
		end(f);
	}
	end(f);
}

static void put_times(struct file *f, unsigned version)
{
	put_zeros(f, version == 0 ? 8 : 16);
}

static void put_trak(struct file *f, const struct spec *s)
{
	begin(f, "trak");
	begin_full(f, "tkhd", s->version);
	put_times(f, s->version);
	put(f, s->id, 4);
	end(f);
	begin(f, "mdia");
	begin_full(f, "mdhd", s->version);
	put_times(f, s->version);
	put(f, s->rate, 4);
	put(f, s->duration, s->version == 0 ? 4 : 8);
	end(f);
	begin_full(f, "hdlr", 0);
	put(f, 0, 4);
	put_text(f, s->handler);
	end(f);
	begin(f, "minf");
	put_stbl(f, s);
	end(f);
	end(f);
	end(f);
}

static void put_mvhd(struct file *f, unsigned version, uint32_t rate,
		     uint64_t duration)
{
	begin_full(f, "mvhd", version);
	put_times(f, version);
	put(f, rate, 4);
	put(f, duration, version == 0 ? 4 : 8);
	end(f);
}

static void put_moov(struct file *f, uint64_t duration_ms,
		     const struct spec *first, const struct spec *second)
{
	begin(f, "moov");
	put_mvhd(f, 0, 1000, duration_ms);
	if (first != NULL)
		put_trak(f, first);
	if (second != NULL)
		put_trak(f, second);
	end(f);
}

static const uint8_t zeros[MEDIA_READ_MAX];

/* Feeds pieces of at most this many bytes to the end. */
static void feed_all(struct media *m, const struct file *f, uint64_t size,
		     size_t piece)
{
	unsigned wants = 0;

	while (media_state(m) == MEDIA_WANTS) {
		struct span want = media_want(m);
		size_t n = span_len(want);
		const uint8_t *bytes = zeros;

		assert_true(++wants < 100000);
		assert_true(want.from < want.to && want.to <= size);
		assert_true(n <= MEDIA_READ_MAX);
		if (want.from < f->n) {
			bytes = f->bytes + want.from;
			n = n < f->n - want.from ? n : f->n - want.from;
		}
		n = n < piece ? n : piece;
		media_feed(m, want.from, bytes, n);
	}
	assert_int_equal(span_len(media_want(m)), 0);
}

static struct media *read_sized(const struct file *f, uint64_t size)
{
	struct media *m;

	assert_int_equal(media_new(&m, size), 0);
	feed_all(m, f, size, MEDIA_READ_MAX);
	return m;
}

static struct media *read_file(const struct file *f)
{
	return read_sized(f, f->n);
}

#define assert_map(m, ...)                                                     \
	do {                                                                   \
		static const struct media_point expected[] = { __VA_ARGS__ };  \
		compare_points(m, expected, ARRAY_LEN(expected));              \
	} while (0)

static void compare_points(const struct media *m,
			   const struct media_point *expected, size_t n)
{
	size_t count;
	const struct media_point *points = media_points(m, &count);

	assert_int_equal(media_state(m), MEDIA_READY);
	assert_int_equal(count, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(points[i].time_ms, expected[i].time_ms);
		assert_int_equal(points[i].off, expected[i].off);
	}
}

static void assert_no_points(const struct media *m)
{
	size_t count;

	assert_int_equal(media_state(m), MEDIA_READY);
	media_points(m, &count);
	assert_int_equal(count, 0);
}

static void assert_nothing_known(const struct media *m)
{
	struct media_info none;
	size_t count;

	memset(&none, 0, sizeof(none));
	assert_int_equal(media_state(m), MEDIA_FAILED);
	assert_memory_equal(media_info(m), &none, sizeof(none));
	media_points(m, &count);
	assert_int_equal(count, 0);
	assert_int_equal(media_off_at(m, 1000), 0);
	assert_int_equal(media_time_at(m, 1000), 0);
	assert_int_equal(media_bytes_for(m, 0, 1000), 0);
}

/* Eight pictures of half a second, a sync sample every second; chunks of
 * four at 1000 and 3000. */
static const struct spec video = {
	.handler = "vide",
	.id = 1,
	.rate = 100,
	.duration = 400,
	.times = { 8, 50 },
	.groups = { 1, 4 },
	.samples = 8,
	.size_bits = 32,
	.sizes = { 100, 10, 90, 10, 200, 20, 80, 20 },
	.chunks = { 1000, 3000 },
	.syncs = { 1, 3, 5, 7 },
};

/* Its sound: ten samples a second, four chunks of a second. */
static const struct spec sound = {
	.handler = "soun",
	.id = 2,
	.rate = 1000,
	.version = 1,
	.duration = 4000,
	.times = { 40, 100 },
	.groups = { 1, 10 },
	.one_bytes = 5,
	.samples = 40,
	.size_bits = 32,
	.chunks = { 900, 1500, 2900, 3500 },
	.all_sync = true,
};

#define SIZE 5000u

static void test_new_refuses(void **state)
{
	struct media *m = NULL;

	(void)state;
	assert_int_equal(media_new(&m, 0), -EINVAL);
	assert_int_equal(media_new(&m, SIZE_UNKNOWN), -EINVAL);
	assert_null(m);
	media_free(NULL);
}

static void test_front(void **state)
{
	struct file *f = *state;
	const struct media_info *info;
	struct media *m;
	size_t head;

	put_ftyp(f);
	put_moov(f, 4000, &video, NULL);
	begin(f, "free");
	end(f);
	begin(f, "mdat");
	head = f->n;
	put_zeros(f, SIZE - f->n);
	end(f);
	m = read_file(f);
	info = media_info(m);
	assert_map(m, { 0, 1000 }, { 1000, 1110 }, { 2000, 3000 },
		   { 3000, 3220 });
	assert_int_equal(info->container, MEDIA_MP4);
	assert_false(info->fragmented);
	assert_false(info->index_behind);
	assert_int_equal(info->duration_ms, 4000);
	assert_int_equal(info->bitrate_bps, SIZE * 8 / 4);
	assert_int_equal(info->head.from, 0);
	assert_int_equal(info->head.to, head);
	assert_int_equal(info->media_off, head);
	assert_int_equal(span_len(info->index), 0);
	media_free(m);
}

/* What is known is told as soon as it is. */
static void test_behind(void **state)
{
	struct file *f = *state;
	const struct media_info *info;
	struct span want;
	struct media *m;
	size_t moov;
	size_t head;

	put_ftyp(f);
	begin(f, "mdat");
	head = f->n;
	put_zeros(f, SIZE - f->n);
	end(f);
	moov = f->n;
	put_moov(f, 4000, &video, &sound);
	assert_int_equal(media_new(&m, f->n), 0);
	info = media_info(m);
	want = media_want(m);
	assert_int_equal(want.from, 0);
	assert_false(info->index_behind);
	media_feed(m, 0, f->bytes, span_len(want));
	assert_true(info->index_behind);
	assert_int_equal(info->head.to, head);
	assert_int_equal(info->media_off, head);
	assert_int_equal(media_want(m).from, moov);
	feed_all(m, f, f->n, MEDIA_READ_MAX);
	assert_int_equal(info->index.from, moov);
	assert_int_equal(info->index.to, f->n);
	/* at two seconds the sound's third chunk lies before the picture */
	assert_map(m, { 0, 900 }, { 1000, 1110 }, { 2000, 2900 },
		   { 3000, 3220 });
	media_free(m);
}

/* A byte at a time, the same comes out. */
static void test_pieces(void **state)
{
	struct file *f = *state;
	struct media *m;

	put_ftyp(f);
	begin(f, "mdat");
	put_zeros(f, SIZE - f->n);
	end(f);
	put_moov(f, 4000, &video, &sound);
	assert_int_equal(media_new(&m, f->n), 0);
	feed_all(m, f, f->n, 1);
	assert_map(m, { 0, 900 }, { 1000, 1110 }, { 2000, 2900 },
		   { 3000, 3220 });
	assert_true(media_info(m)->index_behind);
	media_free(m);
}

/* mdat with 64 bits of size, beyond 4 GiB, and co64. */
static void test_large(void **state)
{
	struct file *f = *state;
	struct spec s = video;
	uint64_t size = (uint64_t)1 << 34;
	struct media *m;

	s.co64 = true;
	s.chunks[1] = (uint64_t)5 << 30;
	put_ftyp(f);
	put_moov(f, 4000, &s, NULL);
	put(f, 1, 4);
	put_text(f, "mdat");
	put(f, size - f->n + 8, 8);
	m = read_sized(f, size);
	assert_map(m, { 0, 1000 }, { 1000, 1110 }, { 2000, (uint64_t)5 << 30 },
		   { 3000, ((uint64_t)5 << 30) + 220 });
	assert_int_equal(media_info(m)->media_off, f->n);
	media_free(m);
}

/* The moov behind so much is looked for where it is. */
static void test_large_behind(void **state)
{
	struct file *f = *state;
	uint64_t moov = ((uint64_t)3 << 32) + 77;
	struct media *m;

	put_ftyp(f);
	put(f, 1, 4);
	put_text(f, "mdat");
	put(f, moov - f->n + 8, 8);
	put_zeros(f, 64);
	assert_int_equal(media_new(&m, moov + 1000), 0);
	media_feed(m, 0, f->bytes, span_len(media_want(m)));
	assert_true(media_info(m)->index_behind);
	assert_int_equal(media_want(m).from, moov);
	media_free(m);
}

/* Without a size the box goes on to the end. */
static void test_size_0(void **state)
{
	struct file *f = *state;
	struct media *m;

	put_ftyp(f);
	put_moov(f, 4000, &video, NULL);
	put(f, 0, 4);
	put_text(f, "mdat");
	m = read_sized(f, SIZE);
	assert_map(m, { 0, 1000 }, { 1000, 1110 }, { 2000, 3000 },
		   { 3000, 3220 });
	assert_int_equal(media_info(m)->media_off, f->n);
	media_free(m);

	/* and no moov can follow */
	f->n = 0;
	put_ftyp(f);
	put(f, 0, 4);
	put_text(f, "mdat");
	m = read_sized(f, SIZE);
	assert_nothing_known(m);
	media_free(m);
}

static void test_unknown(void **state)
{
	struct file *f = *state;
	struct media *m;

	put_text(f, "GIF89a and what follows that");
	m = read_file(f);
	assert_nothing_known(m);
	media_free(m);
	m = read_sized(f, 3);
	assert_nothing_known(m);
	media_free(m);
	f->n = 0;
	put(f, 7, 4); /* less than its own header */
	put_text(f, "ftyp");
	m = read_sized(f, SIZE);
	assert_nothing_known(m);
	media_free(m);
}

/* However the file ends, nothing is read beyond and nothing is made up. */
static void test_cut(void **state)
{
	struct file *f = *state;
	size_t whole;

	put_ftyp(f);
	begin(f, "mdat");
	put_zeros(f, 100);
	end(f);
	put_moov(f, 4000, &video, &sound);
	whole = f->n;
	for (size_t size = 1; size < whole; size++) {
		struct media *m = read_sized(f, size);

		assert_nothing_known(m);
		media_free(m);
	}
}

/* Every byte of moov in turn says something else. */
static void test_damaged(void **state)
{
	static const uint8_t lies[] = { 0, 1, 0x7f, 0x80, 0xff };
	struct file *f = *state;
	size_t from;
	size_t to;
	size_t count;

	put_ftyp(f);
	from = f->n;
	put_moov(f, 4000, &video, &sound);
	to = f->n;
	begin(f, "mdat");
	put_zeros(f, SIZE - f->n);
	end(f);
	for (size_t i = from; i < to; i++) {
		uint8_t was = f->bytes[i];

		for (size_t k = 0; k < ARRAY_LEN(lies); k++) {
			struct media *m;
			const struct media_point *p;

			f->bytes[i] = lies[k];
			m = read_file(f);
			p = media_points(m, &count);
			assert_true(count <= 40);
			for (size_t n = 0; n < count; n++)
				assert_true(p[n].off < SIZE);
			media_free(m);
		}
		f->bytes[i] = was;
	}
}

/* A table that says it has more rows than its box: not one is read. */
static void test_huge_counts(void **state)
{
	static const char *const tables[] = { "stts", "stsc", "stsz", "stco",
					      "stss" };
	struct file *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		struct media *m;
		size_t at;

		f->n = 0;
		put_ftyp(f);
		put_moov(f, 4000, &video, NULL);
		at = find(f, tables[i], 4);
		/* behind the type: version, in stsz the one size, count */
		at += strcmp(tables[i], "stsz") == 0 ? 12 : 8;
		patch(f, at, UINT32_MAX, 4);
		begin(f, "mdat");
		put_zeros(f, SIZE - f->n);
		end(f);
		m = read_file(f);
		assert_no_points(m);
		assert_int_equal(media_info(m)->duration_ms, 4000);
		media_free(m);
	}
}

/* So many samples of one size need no rows, but neither time. */
static void test_huge_runs(void **state)
{
	struct file *f = *state;
	struct media *m;
	struct spec s = {
		.handler = "soun",
		.rate = 1,
		.times = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
			   UINT32_MAX, UINT32_MAX },
		.groups = { 1, UINT32_MAX },
		.one_bytes = UINT32_MAX,
		.samples = UINT32_MAX,
		.size_bits = 32,
		.chunks = { 1000 },
		.all_sync = true,
	};

	put_ftyp(f);
	put_moov(f, 0, &s, NULL);
	begin(f, "mdat");
	put_zeros(f, SIZE - f->n);
	end(f);
	m = read_file(f);
	assert_map(m, { 0, 1000 });
	media_free(m);
}

static void test_no_samples(void **state)
{
	struct file *f = *state;
	struct spec s = video;
	struct media *m;

	s.times[0] = 0;
	s.groups[0] = 0;
	s.samples = 0;
	s.chunks[0] = 0;
	s.syncs[0] = 0;
	put_ftyp(f);
	put_moov(f, 4000, &s, NULL);
	begin(f, "mdat");
	put_zeros(f, SIZE - f->n);
	end(f);
	m = read_file(f);
	assert_no_points(m);
	assert_int_equal(media_info(m)->duration_ms, 4000);
	/* then the map is a straight line */
	assert_int_equal(media_off_at(m, 0), media_info(m)->media_off);
	assert_int_equal(media_off_at(m, 4000), SIZE);
	media_free(m);
}

static void put_plain(struct file *f, const struct spec *s)
{
	f->n = 0;
	put_ftyp(f);
	put_moov(f, 0, s, NULL);
	begin(f, "mdat");
	put_zeros(f, SIZE - f->n);
	end(f);
}

/* Runs of chunks: one of 1, two of 2, then 3 each. */
static void test_groups(void **state)
{
	struct file *f = *state;
	struct spec s = video;
	struct media *m;

	memcpy(s.groups, (uint32_t[]){ 1, 1, 2, 2, 4, 3, 0 },
	       7 * sizeof(uint32_t));
	memcpy(s.chunks, (uint64_t[]){ 2000, 2200, 2400, 2600, 0 },
	       5 * sizeof(uint64_t));
	put_plain(f, &s);
	m = read_file(f);
	/* samples 1 | 2 3 | 4 5 | 6 7 8 */
	assert_map(m, { 0, 2000 }, { 1000, 2210 }, { 2000, 2410 },
		   { 3000, 2620 });
	assert_int_equal(media_info(m)->duration_ms, 4000); /* mdhd's */
	media_free(m);

	/* rows that do not grow, that are empty, that begin with no chunk */
	s.groups[2] = 1;
	put_plain(f, &s);
	m = read_file(f);
	assert_no_points(m);
	media_free(m);
	s.groups[2] = 2;
	s.groups[5] = 0;
	put_plain(f, &s);
	m = read_file(f);
	assert_map(m, { 0, 2000 }, { 1000, 2210 }, { 2000, 2410 });
	media_free(m);
	memcpy(s.groups, (uint32_t[]){ 1, 0, 0 }, 3 * sizeof(uint32_t));
	put_plain(f, &s);
	m = read_file(f);
	assert_no_points(m);
	media_free(m);
}

static void test_small_sizes(void **state)
{
	static const unsigned bits[] = { 4, 8, 16 };
	struct file *f = *state;
	struct spec s = video;
	struct media *m;

	for (unsigned i = 0; i < 8; i++)
		s.sizes[i] = i + 1;
	memcpy(s.syncs, (uint32_t[]){ 1, 4, 5, 8, 0 }, 5 * sizeof(uint32_t));
	for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
		s.size_bits = bits[i];
		put_plain(f, &s);
		m = read_file(f);
		assert_map(m, { 0, 1000 }, { 1500, 1006 }, { 2000, 3000 },
			   { 3500, 3018 });
		media_free(m);
	}
	s.size_bits = 24;
	put_plain(f, &s);
	m = read_file(f);
	assert_no_points(m);
	media_free(m);
}

/* Every sample is one to begin with: one a second is enough. */
static void test_all_sync(void **state)
{
	struct file *f = *state;
	struct spec s = video;
	struct media *m;

	s.all_sync = true;
	put_plain(f, &s);
	m = read_file(f);
	assert_map(m, { 0, 1000 }, { 1000, 1110 }, { 2000, 3000 },
		   { 3000, 3220 });
	media_free(m);
	put_plain(f, &sound);
	m = read_file(f);
	assert_map(m, { 0, 900 }, { 1000, 1500 }, { 2000, 2900 },
		   { 3000, 3500 });
	media_free(m);
}

/* Sync samples out of order or beyond the last, chunks beyond the file. */
static void test_odd_syncs(void **state)
{
	struct file *f = *state;
	struct spec s = video;
	struct media *m;

	memcpy(s.syncs, (uint32_t[]){ 3, 1, 3, 7, 99, 0 },
	       6 * sizeof(uint32_t));
	put_plain(f, &s);
	m = read_file(f);
	assert_map(m, { 1000, 1110 }, { 3000, 3220 });
	media_free(m);
	/* of runs that are over, none comes again */
	memcpy(s.times, (uint32_t[]){ 2, 40, 2, 60, 4, 50, 0 },
	       7 * sizeof(uint32_t));
	memcpy(s.syncs, (uint32_t[]){ 3, 1, 5, 7, 0 }, 5 * sizeof(uint32_t));
	put_plain(f, &s);
	m = read_file(f);
	assert_map(m, { 800, 1110 }, { 2000, 3000 }, { 3000, 3220 });
	media_free(m);
	s = video;
	s.chunks[1] = SIZE;
	put_plain(f, &s);
	m = read_file(f);
	assert_map(m, { 0, 1000 }, { 1000, 1110 });
	media_free(m);
	/* playing on from the first needs what lies before it */
	s = video;
	s.chunks[0] = 4000;
	put_plain(f, &s);
	m = read_file(f);
	assert_map(m, { 0, 3000 }, { 1000, 3000 }, { 2000, 3000 },
		   { 3000, 3220 });
	assert_int_equal(media_time_at(m, 3000), 2000);
	assert_int_equal(media_off_at(m, 0), 3000);
	media_free(m);
}

/* Sound that ends early does not hold the pictures back. */
static void test_short_sound(void **state)
{
	struct file *f = *state;
	struct spec s = sound;
	struct media *m;

	s.times[0] = 15;
	put_ftyp(f);
	put_moov(f, 4000, &s, &video);
	begin(f, "mdat");
	put_zeros(f, SIZE - f->n);
	end(f);
	m = read_file(f);
	assert_map(m, { 0, 900 }, { 1000, 1110 }, { 2000, 3000 },
		   { 3000, 3220 });
	media_free(m);
}

/* 100000 sync samples, and a moov that is longer than one want. */
static void test_many_points(void **state)
{
	const uint32_t count = 100000;
	struct file *f = *state;
	const struct media_point *points;
	uint64_t size = 20000000;
	struct media *m;
	size_t n;

	put_ftyp(f);
	begin(f, "moov");
	put_mvhd(f, 1, 1000, (uint64_t)count * 1000);
	begin(f, "trak");
	begin(f, "mdia");
	begin_full(f, "mdhd", 0);
	put_zeros(f, 8);
	put(f, 1, 4);
	put(f, count, 4);
	end(f);
	begin_full(f, "hdlr", 0);
	put(f, 0, 4);
	put_text(f, "vide");
	end(f);
	begin(f, "minf");
	begin(f, "stbl");
	begin_full(f, "stts", 0);
	put(f, 1, 4);
	put(f, count, 4);
	put(f, 1, 4);
	end(f);
	begin_full(f, "stsc", 0);
	put(f, 1, 4);
	put(f, 1, 4);
	put(f, 1, 4);
	put(f, 1, 4);
	end(f);
	begin_full(f, "stsz", 0);
	put(f, 0, 4);
	put(f, count, 4);
	for (uint32_t i = 0; i < count; i++)
		put(f, 100, 4);
	end(f);
	begin_full(f, "stco", 0);
	put(f, count, 4);
	for (uint32_t i = 0; i < count; i++)
		put(f, 2000000 + 100 * i, 4);
	end(f);
	begin_full(f, "stss", 0);
	put(f, count, 4);
	for (uint32_t i = 0; i < count; i++)
		put(f, i + 1, 4);
	end(f);
	for (unsigned i = 0; i < 5; i++)
		end(f);
	assert_true(f->n > MEDIA_READ_MAX);
	put(f, 0, 4);
	put_text(f, "mdat");
	m = read_sized(f, size);
	points = media_points(m, &n);
	assert_in_range(n, MEDIA_POINTS_MAX / 2, MEDIA_POINTS_MAX);
	for (size_t i = 0; i < n; i++) {
		/* 100000 / 32 = 3125 */
		assert_int_equal(points[i].time_ms, i * 32000);
		assert_int_equal(points[i].off, 2000000 + i * 3200);
	}
	assert_int_equal(n, 3125);
	assert_int_equal(media_info(m)->duration_ms, (uint64_t)count * 1000);
	media_free(m);
}

/* An index that is too long is passed over: the rest is known. */
static void test_long_moov(void **state)
{
	struct file *f = *state;
	uint64_t size = 2 * (uint64_t)MEDIA_INDEX_MAX;
	struct media *m;

	put_ftyp(f);
	begin(f, "mdat");
	put_zeros(f, 100);
	end(f);
	put(f, MEDIA_INDEX_MAX + 1, 4);
	put_text(f, "moov");
	assert_int_equal(media_new(&m, size), 0);
	while (media_state(m) == MEDIA_WANTS) {
		struct span want = media_want(m);
		const uint8_t *bytes =
			want.from < f->n ? f->bytes + want.from : zeros;

		assert_true(span_len(want) <= 64);
		media_feed(m, want.from, bytes, span_len(want));
	}
	assert_no_points(m);
	assert_int_equal(media_info(m)->duration_ms, 0);
	assert_int_equal(media_off_at(m, 1000), 0);
	assert_true(media_info(m)->index_behind);
	media_free(m);
}

/* Boxes without end are not walked without end. */
static void test_many_boxes(void **state)
{
	struct file *f = *state;
	struct media *m;

	put_ftyp(f);
	for (unsigned i = 0; i < 5000; i++) {
		begin(f, "free");
		end(f);
	}
	put_moov(f, 4000, &video, NULL);
	m = read_file(f);
	assert_nothing_known(m);
	media_free(m);
}

static void put_fragmented_moov(struct file *f, uint64_t fragment_ms)
{
	struct spec s = video;

	s.times[0] = 0;
	s.groups[0] = 0;
	s.samples = 0;
	s.chunks[0] = 0;
	s.duration = 0;
	s.all_sync = true;
	begin(f, "moov");
	put_mvhd(f, 0, 1000, 0);
	put_trak(f, &s);
	begin(f, "mvex");
	if (fragment_ms != 0) {
		begin_full(f, "mehd", 1);
		put(f, fragment_ms, 8);
		end(f);
	}
	end(f);
	end(f);
}

/* 4 subsegments of 1000 bytes and a second each, from gap on. */
static void put_sidx(struct file *f, unsigned version, uint32_t track_id,
		     uint64_t gap)
{
	begin_full(f, "sidx", version);
	put(f, track_id, 4);
	put(f, 90000, 4);
	put(f, 0, version == 0 ? 4 : 8);
	put(f, gap, version == 0 ? 4 : 8);
	put(f, 4, 4);
	for (unsigned i = 0; i < 4; i++) {
		put(f, 1000, 4);
		put(f, 90000, 4);
		put(f, 0x90000000, 4);
	}
	end(f);
}

static void test_sidx(void **state)
{
	struct file *f = *state;

	for (unsigned version = 0; version < 2; version++) {
		const struct media_info *info;
		struct media_point expected[4];
		struct media *m;
		size_t moof;

		f->n = 0;
		put_ftyp(f);
		put_fragmented_moov(f, 0);
		put_sidx(f, version, 2, 0); /* the sound's */
		put_sidx(f, version, 1, (version == 0 ? 80 : 88) + 8);
		put_sidx(f, version, 2, 0);
		begin(f, "free");
		end(f);
		moof = f->n;
		begin(f, "moof");
		put_zeros(f, 4000);
		end(f);
		m = read_file(f);
		info = media_info(m);
		for (unsigned i = 0; i < 4; i++) {
			expected[i].time_ms = 1000 * i;
			expected[i].off = moof + 1000 * i;
		}
		compare_points(m, expected, 4);
		assert_true(info->fragmented);
		assert_false(info->index_behind);
		assert_int_equal(info->duration_ms, 4000);
		assert_int_equal(info->media_off, moof);
		assert_int_equal(info->head.to, moof);
		media_free(m);
	}
}

static void put_tfra(struct file *f, unsigned version, uint32_t track_id,
		     uint32_t step)
{
	unsigned number = version == 0 ? 4 : 8;

	begin_full(f, "tfra", version);
	put(f, track_id, 4);
	put(f, 0x1b, 4); /* lengths of 2, 3 and 4 bytes: 01 10 11 */
	put(f, 3, 4);
	for (unsigned i = 0; i < 3; i++) {
		put(f, 100 * i, number);
		put(f, 1000 + step * i, number);
		put_zeros(f, 2 + 3 + 4);
	}
	end(f);
}

static void test_mfra(void **state)
{
	struct file *f = *state;

	for (unsigned version = 0; version < 2; version++) {
		struct media *m;
		size_t mfra;
		size_t moof;

		f->n = 0;
		put_ftyp(f);
		put_fragmented_moov(f, 0);
		moof = f->n;
		begin(f, "moof");
		put_zeros(f, 4000 - moof);
		end(f);
		mfra = f->n;
		begin(f, "mfra");
		put_tfra(f, version, 2, 10);
		put_tfra(f, version, 1, 1000);
		put_tfra(f, version, 3, 20);
		begin_full(f, "mfro", 0);
		put(f, f->n + 4 - mfra, 4);
		end(f);
		end(f);
		m = read_file(f);
		assert_map(m, { 0, 1000 }, { 1000, 2000 }, { 2000, 3000 });
		assert_int_equal(media_info(m)->index.from, mfra);
		assert_int_equal(media_info(m)->index.to, f->n);
		assert_int_equal(media_info(m)->media_off, moof);
		/* nobody tells it: two seconds lie before byte 3000 */
		assert_int_equal(media_info(m)->duration_ms,
				 2000 * (f->n - moof) / (3000 - moof));
		media_free(m);

		/* it begins elsewhere */
		patch(f, f->n - 4, f->n + 1, 4);
		m = read_file(f);
		assert_no_points(m);
		media_free(m);
	}
}

static void test_fragmented_bare(void **state)
{
	struct file *f = *state;
	struct media *m;

	put_ftyp(f);
	put_fragmented_moov(f, 8000);
	begin(f, "moof");
	put_zeros(f, SIZE - f->n);
	end(f);
	m = read_file(f);
	assert_no_points(m);
	assert_true(media_info(m)->fragmented);
	assert_int_equal(media_info(m)->duration_ms, 8000);
	assert_int_equal(media_info(m)->bitrate_bps, SIZE);
	media_free(m);
}

/* The map between its points, before and behind them. */
static void test_map(void **state)
{
	static const struct {
		uint64_t time_ms;
		uint64_t off;
	} offs[] = {
		{ 0, 1000 },    { 999, 1000 },        { 1000, 1110 },
		{ 1999, 1110 }, { 2000, 3000 },       { 3000, 3220 },
		{ 4000, 3220 }, { UINT64_MAX, 3220 },
	};
	static const struct {
		uint64_t off;
		uint64_t time_ms;
	} times[] = {
		{ 0, 0 },       { 1000, 0 },    { 1055, 500 },
		{ 1110, 1000 }, { 2055, 1500 }, { 3220, 3000 },
		{ 4110, 3500 }, { 5000, 4000 }, { UINT64_MAX, 4000 },
	};
	static const struct {
		uint64_t off;
		uint64_t ms;
		uint64_t bytes;
	} spans[] = {
		{ 1000, 0, 0 },
		{ 1000, 1000, 110 },
		{ 1055, 1000, 1000 },
		{ 0, 1000, 1110 },
		{ 4110, 500, 890 },
		{ 4110, 9000, 890 },
		{ 1000, UINT64_MAX, 4000 },
		{ 5000, 1000, 0 },
		{ UINT64_MAX, 1000, 0 },
	};
	struct file *f = *state;
	struct media *m;

	put_plain(f, &video);
	m = read_file(f);
	for (size_t i = 0; i < ARRAY_LEN(offs); i++)
		assert_int_equal(media_off_at(m, offs[i].time_ms), offs[i].off);
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		assert_int_equal(media_time_at(m, times[i].off),
				 times[i].time_ms);
	for (size_t i = 0; i < ARRAY_LEN(spans); i++)
		assert_int_equal(media_bytes_for(m, spans[i].off, spans[i].ms),
				 spans[i].bytes);
	media_free(m);
}

/* WebM: IDs and sizes of 8 bytes, so that they can be patched. */

static void open_element(struct file *f, uint32_t id)
{
	unsigned bytes = id > 0xffffff ? 4
			 : id > 0xffff ? 3
			 : id > 0xff   ? 2
				       : 1;

	put(f, id, bytes);
	put(f, 0, 8);
	f->begun[f->depth++] = f->n;
}

static void close_element(struct file *f)
{
	size_t at = f->begun[--f->depth];

	patch(f, at - 8, (uint64_t)1 << 56 | (f->n - at), 8);
}

/* The size is not told. */
static void leave_open(struct file *f)
{
	patch(f, f->begun[--f->depth] - 8, ((uint64_t)1 << 57) - 1, 8);
}

static void put_element(struct file *f, uint32_t id, uint64_t value,
			unsigned bytes)
{
	open_element(f, id);
	put(f, value, bytes);
	close_element(f);
}

static void put_track(struct file *f, unsigned number, unsigned type)
{
	open_element(f, 0xae);
	put_element(f, 0xd7, number, 1);
	put_element(f, 0x83, type, 1);
	close_element(f);
}

static void put_cue(struct file *f, uint64_t time, unsigned track, uint64_t pos)
{
	open_element(f, 0xbb);
	put_element(f, 0xb3, time, 3);
	open_element(f, 0xb7);
	put_element(f, 0xf7, track, 1);
	put_element(f, 0xf1, pos, 4);
	close_element(f);
	close_element(f);
}

static void put_cues(struct file *f)
{
	open_element(f, 0x1c53bb6b);
	put_cue(f, 0, 1, 1000);
	put_cue(f, 1000, 1, 2000);
	put_cue(f, 1500, 2, 1500); /* sound */
	put_cue(f, 2000, 1, 3000);
	put_cue(f, 3000, 1, UINT32_MAX); /* beyond the file */
	close_element(f);
}

struct shape {
	bool endless; /* Segment and Cluster */
	bool cues_front;
	bool cues_sought; /* by SeekHead */
	bool duration64;
	unsigned scale;
};

#define CLUSTER_BYTES 4000u

/* Returns where the Segment's data begins. */
static size_t put_webm(struct file *f, const struct shape *s, size_t *cluster,
		       size_t *cues)
{
	size_t segment;
	size_t sought = 0;

	open_element(f, 0x1a45dfa3);
	put_element(f, 0x4282, 0x7765626d, 4);
	close_element(f);
	open_element(f, 0x18538067);
	segment = f->n;
	if (s->cues_sought) {
		open_element(f, 0x114d9b74);
		open_element(f, 0x4dbb);
		put_element(f, 0x53ab, 0x1c53bb6b, 4);
		put_element(f, 0x53ac, 0, 4);
		sought = f->n - 4;
		close_element(f);
		close_element(f);
	}
	put_element(f, 0xec, 0, 8);
	*cues = f->n;
	if (s->cues_front)
		put_cues(f);
	open_element(f, 0x1549a966);
	if (s->scale != 0)
		put_element(f, 0x2ad7b1, s->scale, 4);
	if (s->duration64)
		put_element(f, 0x4489, 0x40af400000000000, 8); /* 4000.0 */
	else
		put_element(f, 0x4489, 0x457a0000, 4); /* 4000.0f */
	close_element(f);
	open_element(f, 0x1654ae6b);
	put_track(f, 2, 2);
	put_track(f, 1, 1);
	close_element(f);
	*cluster = f->n;
	open_element(f, 0x1f43b675);
	put_zeros(f, CLUSTER_BYTES);
	if (s->endless)
		leave_open(f);
	else
		close_element(f);
	if (!s->cues_front) {
		*cues = f->n;
		put_cues(f);
	}
	if (s->cues_sought)
		patch(f, sought, *cues - segment, 4);
	if (s->endless)
		leave_open(f);
	else
		close_element(f);
	return segment;
}

static void test_webm(void **state)
{
	static const struct shape shapes[] = {
		{ .cues_sought = true },
		{ .cues_sought = true, .endless = true, .duration64 = true },
		{ .cues_front = true },
		{ .cues_front = true, .cues_sought = true, .scale = 1000000 },
		{ .cues_sought = true, .scale = 500000 },
		{ .endless = true },
	};
	struct file *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct shape *s = &shapes[i];
		const struct media_info *info;
		unsigned half = s->scale == 500000 ? 2 : 1;
		struct media *m;
		size_t segment;
		size_t cluster;
		size_t cues;

		f->n = 0;
		segment = put_webm(f, s, &cluster, &cues);
		assert_int_equal(media_new(&m, f->n), 0);
		feed_all(m, f, f->n, i % 2 == 0 ? MEDIA_READ_MAX : 1);
		info = media_info(m);
		assert_int_equal(info->container, MEDIA_WEBM);
		assert_int_equal(info->duration_ms, 4000 / half);
		assert_int_equal(info->media_off, cluster);
		assert_int_equal(info->head.to, cluster);
		if (!s->cues_front && !s->cues_sought) {
			assert_no_points(m);
		} else {
			struct media_point expected[] = {
				{ 0, segment + 1000 },
				{ 1000 / half, segment + 2000 },
				{ 2000 / half, segment + 3000 },
			};

			compare_points(m, expected, 3);
		}
		if (!s->cues_front && s->cues_sought) {
			assert_int_equal(info->index.from, cues);
			assert_int_equal(info->index.to, f->n);
		} else {
			assert_int_equal(span_len(info->index), 0);
		}
		media_free(m);
	}
}

/* The shortest way to say nothing of the size. */
static void test_webm_endless(void **state)
{
	struct file *f = *state;
	struct media *m;
	size_t cluster;

	open_element(f, 0x1a45dfa3);
	close_element(f);
	put(f, 0x18538067ff, 5);
	for (unsigned i = 0; i < 20; i++)
		put_element(f, 0xec, 0, 8);
	cluster = f->n;
	put(f, 0x1f43b675ff, 5);
	put_zeros(f, CLUSTER_BYTES);
	m = read_file(f);
	assert_no_points(m);
	assert_int_equal(media_info(m)->media_off, cluster);
	media_free(m);
}

/* Cut anywhere and with any byte wrong: no fault, nothing beyond the file. */
static void test_webm_damaged(void **state)
{
	static const uint8_t lies[] = { 0, 1, 0x7f, 0x80, 0xff };
	static const struct shape shape = { .cues_sought = true };
	struct file *f = *state;
	size_t cluster;
	size_t cues;
	size_t count;
	struct media *m;

	put_webm(f, &shape, &cluster, &cues);
	for (size_t i = 0; i + 1 < f->n; i++) {
		uint8_t was = f->bytes[i];

		if (i > cluster + 16 && i < cues)
			continue;
		m = read_sized(f, i + 1);
		media_points(m, &count);
		assert_int_equal(count, 0);
		media_free(m);
		for (size_t k = 0; k < ARRAY_LEN(lies); k++) {
			const struct media_point *p;

			f->bytes[i] = lies[k];
			m = read_file(f);
			p = media_points(m, &count);
			assert_true(count <= 4);
			for (size_t n = 0; n < count; n++)
				assert_true(p[n].off < f->n);
			media_free(m);
		}
		f->bytes[i] = was;
	}
}

/* A duration that is no number, or none that can be. */
static void test_webm_duration(void **state)
{
	static const uint64_t bad[] = {
		0x7ff8000000000000, /* not a number */
		0x7ff0000000000000, /* infinite */
		0xc0af400000000000, /* negative */
		0x7fefffffffffffff, /* too large */
		0,
	};
	static const struct shape shape = { .endless = true,
					    .duration64 = true };
	struct file *f = *state;
	size_t cluster;
	size_t cues;

	put_webm(f, &shape, &cluster, &cues);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct media *m;

		patch(f, find(f, "\x44\x89", 2) + 10, bad[i], 8);
		m = read_file(f);
		assert_no_points(m);
		assert_int_equal(media_info(m)->duration_ms, 0);
		assert_int_equal(media_info(m)->bitrate_bps, 0);
		media_free(m);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_new_refuses),  TEST(test_front),
		TEST(test_behind),       TEST(test_pieces),
		TEST(test_large),        TEST(test_large_behind),
		TEST(test_size_0),       TEST(test_unknown),
		TEST(test_cut),          TEST(test_damaged),
		TEST(test_huge_counts),  TEST(test_huge_runs),
		TEST(test_no_samples),   TEST(test_groups),
		TEST(test_small_sizes),  TEST(test_all_sync),
		TEST(test_odd_syncs),    TEST(test_short_sound),
		TEST(test_many_points),  TEST(test_long_moov),
		TEST(test_many_boxes),   TEST(test_sidx),
		TEST(test_mfra),         TEST(test_fragmented_bare),
		TEST(test_map),          TEST(test_webm),
		TEST(test_webm_damaged), TEST(test_webm_duration),
		TEST(test_webm_endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

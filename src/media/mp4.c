#include "media/mp4.h"

#include <string.h>

#define FOURCC(a, b, c, d)                                                     \
	((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

#define HEADER_BYTES      8u  /* size and type */
#define LONG_HEADER_BYTES 16u /* and a size of 64 bits */
#define MFRO_BYTES        16u
#define FULL_BYTES        4u /* version and flags */

enum {
	BOX_CO64 = FOURCC('c', 'o', '6', '4'),
	BOX_FREE = FOURCC('f', 'r', 'e', 'e'),
	BOX_FTYP = FOURCC('f', 't', 'y', 'p'),
	BOX_HDLR = FOURCC('h', 'd', 'l', 'r'),
	BOX_MDAT = FOURCC('m', 'd', 'a', 't'),
	BOX_MDHD = FOURCC('m', 'd', 'h', 'd'),
	BOX_MDIA = FOURCC('m', 'd', 'i', 'a'),
	BOX_MEHD = FOURCC('m', 'e', 'h', 'd'),
	BOX_MFRA = FOURCC('m', 'f', 'r', 'a'),
	BOX_MFRO = FOURCC('m', 'f', 'r', 'o'),
	BOX_MINF = FOURCC('m', 'i', 'n', 'f'),
	BOX_MOOF = FOURCC('m', 'o', 'o', 'f'),
	BOX_MOOV = FOURCC('m', 'o', 'o', 'v'),
	BOX_MVEX = FOURCC('m', 'v', 'e', 'x'),
	BOX_MVHD = FOURCC('m', 'v', 'h', 'd'),
	BOX_PDIN = FOURCC('p', 'd', 'i', 'n'),
	BOX_SIDX = FOURCC('s', 'i', 'd', 'x'),
	BOX_SKIP = FOURCC('s', 'k', 'i', 'p'),
	BOX_STBL = FOURCC('s', 't', 'b', 'l'),
	BOX_STCO = FOURCC('s', 't', 'c', 'o'),
	BOX_STSC = FOURCC('s', 't', 's', 'c'),
	BOX_STSS = FOURCC('s', 't', 's', 's'),
	BOX_STSZ = FOURCC('s', 't', 's', 'z'),
	BOX_STTS = FOURCC('s', 't', 't', 's'),
	BOX_STYP = FOURCC('s', 't', 'y', 'p'),
	BOX_STZ2 = FOURCC('s', 't', 'z', '2'),
	BOX_TFRA = FOURCC('t', 'f', 'r', 'a'),
	BOX_TKHD = FOURCC('t', 'k', 'h', 'd'),
	BOX_TRAK = FOURCC('t', 'r', 'a', 'k'),
	BOX_UUID = FOURCC('u', 'u', 'i', 'd'),
	BOX_WIDE = FOURCC('w', 'i', 'd', 'e'),
	HANDLER_SOUND = FOURCC('s', 'o', 'u', 'n'),
	HANDLER_VIDEO = FOURCC('v', 'i', 'd', 'e'),
};

bool mp4_begins(const uint8_t *at)
{
	uint64_t bytes = media_number(at, 4);

	if (bytes != 0 && bytes != 1 && bytes < HEADER_BYTES)
		return false;
	switch (media_number(at + 4, 4)) {
	case BOX_FTYP:
	case BOX_STYP:
	case BOX_MOOV:
	case BOX_MOOF:
	case BOX_MDAT:
	case BOX_SIDX:
	case BOX_FREE:
	case BOX_SKIP:
	case BOX_WIDE:
	case BOX_PDIN:
	case BOX_UUID:
		return true;
	default:
		return false;
	}
}

/* Bytes that are held, read from the front.  What is not there reads as 0 and
 * makes it bad. */
struct input {
	const uint8_t *at;
	uint64_t left;
	bool bad;
};

static const uint8_t *take(struct input *in, uint64_t bytes)
{
	const uint8_t *at = in->at;

	if (bytes > in->left) {
		in->bad = true;
		in->left = 0;
		return NULL;
	}
	in->at += bytes;
	in->left -= bytes;
	return at;
}

static uint64_t take_number(struct input *in, size_t bytes)
{
	const uint8_t *at = take(in, bytes);

	return at == NULL ? 0 : media_number(at, bytes);
}

static uint32_t take_u32(struct input *in)
{
	return (uint32_t)take_number(in, 4);
}

/* Version of a full box. */
static unsigned take_version(struct input *in)
{
	return take_u32(in) >> 24;
}

/* What version 0 has in 32 bits has 64 in version 1; all ones: not known. */
static uint64_t take_duration(struct input *in, unsigned version)
{
	uint64_t value = take_number(in, version == 0 ? 4 : 8);
	uint64_t unknown = version == 0 ? UINT32_MAX : UINT64_MAX;

	return value == unknown ? 0 : value;
}

/* A box's header: bytes with it.  false: no box begins here. */
struct header {
	uint32_t type;
	unsigned header_bytes;
	uint64_t bytes;
};

/* left: bytes that the box may have; the header may be cut off by them. */
static bool read_header(const uint8_t *at, uint64_t left, struct header *h)
{
	if (left < HEADER_BYTES)
		return false;
	h->bytes = media_number(at, 4);
	h->type = (uint32_t)media_number(at + 4, 4);
	h->header_bytes = HEADER_BYTES;
	if (h->bytes == 1) {
		if (left < LONG_HEADER_BYTES)
			return false;
		h->bytes = media_number(at + 8, 8);
		h->header_bytes = LONG_HEADER_BYTES;
	} else if (h->bytes == 0) {
		h->bytes = left;
	}
	return h->bytes >= h->header_bytes;
}

/* The next box within another; *box is its payload. */
static bool next_box(struct input *in, uint32_t *type, struct input *box)
{
	struct header h;

	if (!read_header(in->at, in->left, &h) || h.bytes > in->left)
		return false;
	*type = h.type;
	*box = (struct input){ in->at + h.header_bytes,
			       h.bytes - h.header_bytes, false };
	take(in, h.bytes);
	return true;
}

/* moov: the tables of a track */

/* Rows of a table that were checked to lie within their box. */
struct table {
	const uint8_t *at;
	uint32_t count;
};

struct track {
	uint32_t id;
	uint32_t handler;
	uint32_t rate; /* ticks a second */
	uint64_t duration_ticks;
	struct table times;  /* stts: count, ticks of one */
	struct table groups; /* stsc: first chunk, samples of one, ... */
	struct table chunks; /* stco or co64 */
	unsigned chunk_off_bytes;
	struct table sizes; /* stsz or stz2; at is NULL if all are one_bytes */
	unsigned size_bits;
	uint32_t one_bytes;
	struct table syncs; /* stss */
	bool all_sync;
};

static uint32_t table_u32(const struct table *t, size_t row_bytes, uint32_t row,
			  size_t column)
{
	return (uint32_t)media_number(t->at + row * row_bytes + 4 * column, 4);
}

/* An empty table if it does not fit. */
static struct table take_table(struct input *in, uint64_t count,
			       unsigned row_bits)
{
	struct table t = { NULL, 0 };
	const uint8_t *at = take(in, (count * row_bits + 7) / 8);

	if (in->bad || count == 0)
		return t;
	t.at = at;
	t.count = (uint32_t)count;
	return t;
}

static struct table read_table(struct input box, unsigned row_bytes)
{
	uint32_t count;

	take(&box, FULL_BYTES);
	count = take_u32(&box);
	return take_table(&box, count, 8 * row_bytes);
}

static void read_sizes(struct input box, struct track *t)
{
	uint32_t count;

	take(&box, FULL_BYTES);
	t->one_bytes = take_u32(&box);
	count = take_u32(&box);
	t->size_bits = 32;
	t->sizes = (struct table){ NULL, 0 };
	if (t->one_bytes == 0)
		t->sizes = take_table(&box, count, t->size_bits);
	else if (!box.bad)
		t->sizes.count = count;
}

static void read_small_sizes(struct input box, struct track *t)
{
	uint32_t count;

	take(&box, FULL_BYTES);
	t->one_bytes = 0;
	t->size_bits = take_u32(&box) & 0xff;
	count = take_u32(&box);
	t->sizes = (struct table){ NULL, 0 };
	if (t->size_bits == 4 || t->size_bits == 8 || t->size_bits == 16)
		t->sizes = take_table(&box, count, t->size_bits);
}

static void read_stbl(struct input in, struct track *t)
{
	struct input box;
	uint32_t type;

	while (next_box(&in, &type, &box)) {
		switch (type) {
		case BOX_STTS:
			t->times = read_table(box, 8);
			break;
		case BOX_STSC:
			t->groups = read_table(box, 12);
			break;
		case BOX_STSZ:
			read_sizes(box, t);
			break;
		case BOX_STZ2:
			read_small_sizes(box, t);
			break;
		case BOX_STCO:
			t->chunk_off_bytes = 4;
			t->chunks = read_table(box, 4);
			break;
		case BOX_CO64:
			t->chunk_off_bytes = 8;
			t->chunks = read_table(box, 8);
			break;
		case BOX_STSS:
			t->all_sync = false;
			t->syncs = read_table(box, 4);
			break;
		default:
			break;
		}
	}
}

static void read_minf(struct input in, struct track *t)
{
	struct input box;
	uint32_t type;

	while (next_box(&in, &type, &box))
		if (type == BOX_STBL)
			read_stbl(box, t);
}

static void read_mdhd(struct input box, struct track *t)
{
	unsigned version = take_version(&box);

	take(&box, version == 0 ? 8 : 16); /* made and changed */
	t->rate = take_u32(&box);
	t->duration_ticks = take_duration(&box, version);
}

static void read_mdia(struct input in, struct track *t)
{
	struct input box;
	uint32_t type;

	while (next_box(&in, &type, &box)) {
		if (type == BOX_MDHD) {
			read_mdhd(box, t);
		} else if (type == BOX_HDLR) {
			take(&box, FULL_BYTES + 4);
			t->handler = take_u32(&box);
		} else if (type == BOX_MINF) {
			read_minf(box, t);
		}
	}
}

static void read_tkhd(struct input box, struct track *t)
{
	unsigned version = take_version(&box);

	take(&box, version == 0 ? 8 : 16); /* made and changed */
	t->id = take_u32(&box);
}

static void read_trak(struct input in, struct track *t)
{
	struct input box;
	uint32_t type;

	memset(t, 0, sizeof(*t));
	t->all_sync = true;
	while (next_box(&in, &type, &box)) {
		if (type == BOX_TKHD)
			read_tkhd(box, t);
		else if (type == BOX_MDIA)
			read_mdia(box, t);
	}
}

/* The samples of a track, from the first to the last: none of these goes
 * back, so that every row is looked at once. */
struct cursor {
	const struct track *t;
	uint32_t run; /* of t->times */
	uint64_t run_sample;
	uint64_t run_ticks;
	uint32_t group; /* of t->groups */
	uint64_t group_sample;
	uint64_t summed_chunk; /* sizes of its samples before summed_sample */
	uint64_t summed_sample;
	uint64_t summed_bytes;
};

static void cursor_init(struct cursor *c, const struct track *t)
{
	memset(c, 0, sizeof(*c));
	c->t = t;
	c->summed_chunk = UINT64_MAX;
}

static void next_run(struct cursor *c)
{
	uint64_t count = table_u32(&c->t->times, 8, c->run, 0);
	uint64_t ticks = table_u32(&c->t->times, 8, c->run, 1);

	c->run_sample += count;
	if (__builtin_add_overflow(c->run_ticks, count * ticks, &c->run_ticks))
		c->run_ticks = UINT64_MAX;
	c->run++;
}

/* When sample no is decoded; false: it is beyond the last. */
static bool time_of(struct cursor *c, uint64_t no, uint64_t *ticks)
{
	const struct table *times = &c->t->times;

	while (c->run < times->count &&
	       no - c->run_sample >= table_u32(times, 8, c->run, 0))
		next_run(c);
	if (c->run == times->count)
		return false;
	if (__builtin_add_overflow(c->run_ticks,
				   (no - c->run_sample) *
					   table_u32(times, 8, c->run, 1),
				   ticks))
		return false;
	return true;
}

/* The sample that is played at a time; false: the last has been played. */
static bool sample_at(struct cursor *c, uint64_t ticks, uint64_t *no)
{
	const struct table *times = &c->t->times;

	while (c->run < times->count) {
		uint64_t count = table_u32(times, 8, c->run, 0);
		uint64_t each = table_u32(times, 8, c->run, 1);

		if (ticks - c->run_ticks < count * each) {
			*no = c->run_sample + (ticks - c->run_ticks) / each;
			return true;
		}
		if (c->run_ticks == UINT64_MAX ||
		    count * each > UINT64_MAX - c->run_ticks)
			return false;
		next_run(c);
	}
	return false;
}

static uint32_t size_of(const struct track *t, uint64_t no)
{
	const uint8_t *at = t->sizes.at;

	switch (t->size_bits) {
	case 4:
		return no % 2 == 0 ? at[no / 2] >> 4 : at[no / 2] & 0xf;
	case 8:
		return at[no];
	case 16:
		return (uint32_t)media_number(at + 2 * no, 2);
	default:
		return (uint32_t)media_number(at + 4 * no, 4);
	}
}

/* Bytes of the samples [first, no) of a chunk. */
static uint64_t bytes_before(struct cursor *c, uint64_t chunk, uint64_t first,
			     uint64_t no)
{
	if (c->t->sizes.at == NULL)
		return (no - first) * c->t->one_bytes;
	if (c->summed_chunk != chunk) {
		c->summed_chunk = chunk;
		c->summed_sample = first;
		c->summed_bytes = 0;
	}
	while (c->summed_sample < no)
		c->summed_bytes += size_of(c->t, c->summed_sample++);
	return c->summed_bytes;
}

/* The chunks whose samples lie like those of this row of t->groups; 0 in the
 * last: all that are left. */
static bool chunks_of(const struct track *t, uint32_t group, uint64_t *chunks)
{
	uint32_t first = table_u32(&t->groups, 12, group, 0);
	uint32_t next;

	*chunks = 0;
	if (first == 0)
		return false;
	if (group + 1 == t->groups.count)
		return true;
	next = table_u32(&t->groups, 12, group + 1, 0);
	*chunks = (uint64_t)next - first;
	return next > first;
}

/* Where sample no lies; false: nowhere. */
static bool off_of(struct cursor *c, uint64_t no, uint64_t *off)
{
	const struct track *t = c->t;
	uint64_t chunks;
	uint64_t each;
	uint64_t chunk;
	uint64_t within;

	if (no >= t->sizes.count || t->groups.count == 0)
		return false;
	for (;;) {
		if (!chunks_of(t, c->group, &chunks))
			return false;
		each = table_u32(&t->groups, 12, c->group, 1);
		if (chunks == 0 || no - c->group_sample < chunks * each)
			break;
		c->group_sample += chunks * each;
		c->group++;
	}
	if (each == 0)
		return false;
	within = (no - c->group_sample) % each;
	chunk = table_u32(&t->groups, 12, c->group, 0) - 1 +
		(no - c->group_sample) / each;
	if (chunk >= t->chunks.count)
		return false;
	*off = media_number(t->chunks.at + chunk * t->chunk_off_bytes,
			    t->chunk_off_bytes);
	return !__builtin_add_overflow(
		*off, bytes_before(c, chunk, no - within, no), off);
}

/* moov: the points */

/* What a player begins to read at a sync sample: it, or the sound of that
 * time if this lies before it. */
static bool add_sample(struct media *m, struct cursor *main,
		       struct cursor *sound, uint64_t no, uint64_t ticks)
{
	unsigned __int128 other;
	uint64_t sound_no;
	uint64_t sound_off;
	uint64_t off;

	if (!off_of(main, no, &off))
		return true;
	if (sound->t != NULL) {
		other = (unsigned __int128)ticks * sound->t->rate /
			main->t->rate;
		if (other < UINT64_MAX &&
		    sample_at(sound, (uint64_t)other, &sound_no) &&
		    off_of(sound, sound_no, &sound_off))
			off = min_u64(off, sound_off);
	}
	return media_add(m, media_ms(ticks, main->t->rate), off);
}

static bool add_syncs(struct media *m, struct cursor *main,
		      struct cursor *sound)
{
	const struct table *syncs = &main->t->syncs;
	uint32_t before = 0;
	uint64_t ticks;

	for (uint32_t i = 0; i < syncs->count; i++) {
		uint32_t no = table_u32(syncs, 4, i, 0);

		if (no <= before) /* they count from 1 and grow */
			continue;
		before = no;
		if (!time_of(main, no - 1, &ticks))
			break;
		if (!add_sample(m, main, sound, no - 1, ticks))
			return false;
	}
	return true;
}

static uint64_t all_ticks(const struct track *t)
{
	struct cursor c;

	cursor_init(&c, t);
	while (c.run < t->times.count)
		next_run(&c);
	return c.run_ticks;
}

/* Every sample could be a point: one a second, or less in a long track. */
static bool add_seconds(struct media *m, struct cursor *main,
			struct cursor *sound)
{
	uint64_t end = all_ticks(main->t);
	uint64_t step = max_u64(main->t->rate, end / MEDIA_POINTS_MAX + 1);
	uint64_t at = 0;
	uint64_t no;
	uint64_t ticks;

	while (sample_at(main, at, &no)) {
		if (!time_of(main, no, &ticks))
			break;
		if (!add_sample(m, main, sound, no, ticks))
			return false;
		if (__builtin_add_overflow(at, step, &at))
			break;
	}
	return true;
}

/* main: the pictures, or the sound of a file without them. */
static bool add_points(struct media *m, const struct track *main,
		       const struct track *sound)
{
	struct cursor main_at;
	struct cursor sound_at;

	cursor_init(&main_at, main);
	cursor_init(&sound_at, sound);
	if (main->all_sync)
		return add_seconds(m, &main_at, &sound_at);
	return add_syncs(m, &main_at, &sound_at);
}

/* The first video and the first sound track that can be read. */
struct movie {
	uint32_t rate;
	uint64_t duration_ticks;
	uint64_t longest_ms; /* of the tracks */
	struct track video;
	struct track sound;
};

static void read_mvhd(struct input box, struct movie *movie)
{
	unsigned version = take_version(&box);

	take(&box, version == 0 ? 8 : 16); /* made and changed */
	movie->rate = take_u32(&box);
	movie->duration_ticks = take_duration(&box, version);
}

static void read_movie_trak(struct input box, struct movie *movie)
{
	struct track t;

	read_trak(box, &t);
	if (t.rate == 0)
		return;
	movie->longest_ms =
		max_u64(movie->longest_ms, media_ms(t.duration_ticks, t.rate));
	if (t.handler == HANDLER_VIDEO && movie->video.rate == 0)
		movie->video = t;
	else if (t.handler == HANDLER_SOUND && movie->sound.rate == 0)
		movie->sound = t;
}

static uint64_t read_mvex(struct input in)
{
	struct input box;
	uint32_t type;

	while (next_box(&in, &type, &box))
		if (type == BOX_MEHD)
			return take_duration(&box, take_version(&box));
	return 0;
}

/* false: no memory. */
static bool read_moov(struct media *m, struct input in)
{
	struct movie movie;
	struct input box;
	uint64_t fragment_ticks = 0;
	uint32_t type;
	const struct track *main;
	const struct track *sound;

	memset(&movie, 0, sizeof(movie));
	while (next_box(&in, &type, &box)) {
		if (type == BOX_MVHD) {
			read_mvhd(box, &movie);
		} else if (type == BOX_TRAK) {
			read_movie_trak(box, &movie);
		} else if (type == BOX_MVEX) {
			m->info.fragmented = true;
			fragment_ticks = read_mvex(box);
		}
	}
	if (fragment_ticks != 0)
		movie.duration_ticks = fragment_ticks;
	if (movie.rate != 0)
		m->info.duration_ms =
			media_ms(movie.duration_ticks, movie.rate);
	if (m->info.duration_ms == 0)
		m->info.duration_ms = movie.longest_ms;
	sound = movie.sound.rate != 0 ? &movie.sound : NULL;
	main = movie.video.rate != 0 ? &movie.video : sound;
	if (main == NULL)
		return true;
	m->mp4.track_id = main->id;
	m->mp4.track_rate = main->rate;
	return add_points(m, main, main != sound ? sound : NULL);
}

/* sidx and mfra */

/* Sub-indexes are not read: where they lie is a point as well. */
static bool read_sidx(struct media *m, struct input in, uint64_t box_end)
{
	unsigned version = take_version(&in);
	uint32_t track_id = take_u32(&in);
	uint32_t rate = take_u32(&in);
	uint64_t ticks = take_number(&in, version == 0 ? 4 : 8);
	uint64_t first = take_number(&in, version == 0 ? 4 : 8);
	unsigned count = take_u32(&in) & 0xffff;
	uint64_t off;

	if (in.bad || rate == 0 || (uint64_t)count * 12 > in.left ||
	    __builtin_add_overflow(box_end, first, &off))
		return true;
	m->mp4.sidx_own = track_id == m->mp4.track_id;
	if (m->mp4.sidx_end_ms != 0 && !m->mp4.sidx_own)
		return true;
	media_drop_points(m);
	for (unsigned i = 0; i < count; i++) {
		uint32_t bytes = take_u32(&in) & INT32_MAX;
		uint32_t duration = take_u32(&in);

		take(&in, 4); /* how it begins */
		if (!media_add(m, media_ms(ticks, rate), off))
			return false;
		if (__builtin_add_overflow(off, bytes, &off) ||
		    __builtin_add_overflow(ticks, duration, &ticks))
			return true;
	}
	m->mp4.sidx_end_ms = media_ms(ticks, rate);
	m->mp4.sidx_whole = count > 0 && off > m->size_bytes / 2;
	return true;
}

/* The fragments in which one track has a sync sample. */
static bool read_tfra(struct media *m, struct input in)
{
	unsigned version = take_version(&in);
	uint32_t track_id = take_u32(&in);
	uint32_t lengths = take_u32(&in);
	uint32_t count = take_u32(&in);
	size_t number = version == 0 ? 4 : 8;
	size_t rest =
		3 + (lengths >> 4 & 3) + (lengths >> 2 & 3) + (lengths & 3);
	uint64_t before = UINT64_MAX;
	uint32_t rate = m->mp4.track_rate;

	if (in.bad || count > in.left / (2 * number + rest) || rate == 0 ||
	    track_id != m->mp4.track_id)
		return true;
	media_drop_points(m);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t ticks = take_number(&in, number);
		uint64_t off = take_number(&in, number);

		take(&in, rest);
		if (off == before)
			continue;
		before = off;
		if (!media_add(m, media_ms(ticks, rate), off))
			return false;
	}
	return true;
}

static bool read_mfra(struct media *m, struct input in)
{
	struct input box;
	uint32_t type;

	while (next_box(&in, &type, &box))
		if (type == BOX_TFRA && !read_tfra(m, box))
			return false;
	return true;
}

/* The outermost boxes. */

static void walk(struct media *m);

/* Nothing more will come. */
static void end_walk(struct media *m)
{
	if (!m->mp4.moov_met && !m->info.fragmented) {
		media_fail(m);
		return;
	}
	if (m->info.duration_ms == 0 && m->mp4.sidx_whole)
		m->info.duration_ms = m->mp4.sidx_end_ms;
	media_done(m);
}

/* The tail of a fragmented file may tell where its fragments are. */
static void ask_tail(struct media *m)
{
	m->mp4.step = MP4_MFRO;
	if (m->mp4.sidx_whole || m->size_bytes < MFRO_BYTES ||
	    !media_ask(m, m->size_bytes - MFRO_BYTES, MFRO_BYTES))
		end_walk(m);
}

static void step_mfro(struct media *m)
{
	struct input in = { m->bytes, m->held, false };
	uint32_t type;
	struct input box;
	uint32_t bytes;

	if (!next_box(&in, &type, &box) || type != BOX_MFRO) {
		end_walk(m);
		return;
	}
	take(&box, FULL_BYTES);
	bytes = take_u32(&box);
	m->mp4.step = MP4_MFRA;
	if (box.bad || bytes < HEADER_BYTES || bytes > m->size_bytes ||
	    bytes > MEDIA_INDEX_MAX ||
	    !media_ask(m, m->size_bytes - bytes, bytes))
		end_walk(m);
}

static void step_mfra(struct media *m)
{
	struct input in = { m->bytes, m->held, false };
	uint32_t type;
	struct input box;

	if (next_box(&in, &type, &box) && type == BOX_MFRA) {
		m->info.index = m->asked;
		if (!read_mfra(m, box)) {
			media_fail(m);
			return;
		}
	}
	end_walk(m);
}

/* The held box without its header. */
static struct input payload(const struct media *m)
{
	struct input in = { m->bytes, m->held, false };
	struct input box = { m->bytes, 0, false };
	uint32_t type;

	if (next_box(&in, &type, &box))
		return box;
	return (struct input){ m->bytes, 0, false };
}

static void step_moov(struct media *m)
{
	m->mp4.step = MP4_WALK;
	if (m->mp4.mdat_met)
		m->info.index = m->asked;
	if (!read_moov(m, payload(m)))
		media_fail(m);
	else if (m->mp4.mdat_met && !m->info.fragmented)
		end_walk(m);
	else
		walk(m);
}

static void step_sidx(struct media *m)
{
	m->mp4.step = MP4_WALK;
	if (read_sidx(m, payload(m), m->asked.to))
		walk(m);
	else
		media_fail(m);
}

/* Where the media data begins, and so where the head ends. */
static void note_media(struct media *m, uint64_t off)
{
	if (m->info.media_off != 0)
		return;
	m->info.media_off = off;
	m->info.head = (struct span){ 0, off };
}

/* A box that is read whole: then its step goes on. */
static bool ask_box(struct media *m, enum mp4_step step, struct span box)
{
	if (span_len(box) > MEDIA_INDEX_MAX ||
	    !media_ask(m, box.from, span_len(box)))
		return false;
	m->mp4.step = step;
	return true;
}

enum onward {
	ONWARD,  /* to the next box */
	WAITING, /* for what was asked, or ended */
};

static enum onward visit(struct media *m, const struct header *h,
			 struct span box)
{
	struct mp4_walk *w = &m->mp4;

	switch (h->type) {
	case BOX_MOOV:
		if (w->moov_met || h->bytes > span_len(box))
			return ONWARD;
		w->moov_met = true;
		return ask_box(m, MP4_MOOV, box) ? WAITING : ONWARD;
	case BOX_SIDX:
		if (w->sidx_own || h->bytes > span_len(box))
			return ONWARD;
		return ask_box(m, MP4_SIDX, box) ? WAITING : ONWARD;
	case BOX_MDAT:
		w->mdat_met = true;
		m->info.index_behind = m->info.index_behind || !w->moov_met;
		note_media(m, box.from + h->header_bytes);
		if (!w->moov_met || m->info.fragmented)
			return ONWARD;
		end_walk(m);
		return WAITING;
	case BOX_MOOF:
		m->info.fragmented = true;
		note_media(m, box.from);
		ask_tail(m);
		return WAITING;
	default:
		return ONWARD;
	}
}

static void walk(struct media *m)
{
	struct mp4_walk *w = &m->mp4;

	while (w->pos < m->size_bytes) {
		uint64_t left = m->size_bytes - w->pos;
		size_t bytes = (size_t)min_u64(left, LONG_HEADER_BYTES);
		const uint8_t *at = media_held(m, w->pos, bytes);
		struct header h;
		struct span box;

		if (at == NULL) {
			if (media_ask(m, w->pos, MEDIA_HEADER_BYTES))
				return;
			break;
		}
		if (m->headers++ == MEDIA_HEADERS_MAX ||
		    !read_header(at, left, &h))
			break;
		box.from = w->pos;
		box.to = w->pos + min_u64(h.bytes, left);
		w->pos = box.to;
		if (visit(m, &h, box) == WAITING)
			return;
	}
	end_walk(m);
}

void mp4_step(struct media *m)
{
	switch (m->mp4.step) {
	case MP4_WALK:
		walk(m);
		break;
	case MP4_MOOV:
		step_moov(m);
		break;
	case MP4_SIDX:
		step_sidx(m);
		break;
	case MP4_MFRO:
		step_mfro(m);
		break;
	case MP4_MFRA:
		step_mfra(m);
		break;
	}
}

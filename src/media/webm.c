#include "media/webm.h"

#include <string.h>

#define HEADER_BYTES     12u        /* the longest header: ID and size */
#define ELEMENT_MAX      (1u << 20) /* a longer SeekHead, Info, Tracks: none */
#define DEFAULT_SCALE_NS 1000000u
#define NS_PER_MS        1000000u
#define TRACK_VIDEO      1u

enum {
	ID_EBML = 0x1a45dfa3,
	ID_SEGMENT = 0x18538067,
	ID_SEEK_HEAD = 0x114d9b74,
	ID_SEEK = 0x4dbb,
	ID_SEEK_ID = 0x53ab,
	ID_SEEK_POSITION = 0x53ac,
	ID_INFO = 0x1549a966,
	ID_TIMESTAMP_SCALE = 0x2ad7b1,
	ID_DURATION = 0x4489,
	ID_TRACKS = 0x1654ae6b,
	ID_TRACK_ENTRY = 0xae,
	ID_TRACK_NUMBER = 0xd7,
	ID_TRACK_TYPE = 0x83,
	ID_CUES = 0x1c53bb6b,
	ID_CUE_POINT = 0xbb,
	ID_CUE_TIME = 0xb3,
	ID_CUE_TRACK_POSITIONS = 0xb7,
	ID_CUE_TRACK = 0xf7,
	ID_CUE_CLUSTER_POSITION = 0xf1,
	ID_CLUSTER = 0x1f43b675,
};

bool webm_begins(const uint8_t *at)
{
	return media_number(at, 4) == ID_EBML;
}

/* Bytes that are held, read from the front. */
struct input {
	const uint8_t *at;
	uint64_t left;
};

struct header {
	uint32_t id;
	unsigned header_bytes;
	uint64_t bytes; /* of the data */
	bool endless;   /* its size is not told */
};

/* Length of a number that begins with this byte; 9: none. */
static unsigned length_of(uint8_t first)
{
	unsigned length = 1;

	while (length <= 8 && (first & 0x100 >> length) == 0)
		length++;
	return length;
}

/* left: bytes that are there to read.  false: no element begins here. */
static bool read_header(const uint8_t *at, uint64_t left, struct header *h)
{
	unsigned id_bytes;
	unsigned size_bytes;
	uint64_t mask;

	if (left == 0)
		return false;
	id_bytes = length_of(at[0]);
	if (id_bytes > 4 || id_bytes >= left)
		return false;
	size_bytes = length_of(at[id_bytes]);
	if (size_bytes > 8 || size_bytes > left - id_bytes)
		return false;
	mask = ((uint64_t)1 << 7 * size_bytes) - 1;
	h->id = (uint32_t)media_number(at, id_bytes);
	h->header_bytes = id_bytes + size_bytes;
	h->bytes = media_number(at + id_bytes, size_bytes) & mask;
	h->endless = h->bytes == mask;
	return true;
}

/* The next element within another; *data is what it holds. */
static bool next_element(struct input *in, uint32_t *id, struct input *data)
{
	struct header h;

	if (!read_header(in->at, in->left, &h) || h.endless ||
	    h.bytes > in->left - h.header_bytes)
		return false;
	*id = h.id;
	*data = (struct input){ in->at + h.header_bytes, h.bytes };
	in->at += h.header_bytes + h.bytes;
	in->left -= h.header_bytes + h.bytes;
	return true;
}

/* 0 if it is too long. */
static uint64_t unsigned_of(struct input data)
{
	return data.left <= 8 ? media_number(data.at, (size_t)data.left) : 0;
}

static double float_of(struct input data)
{
	uint32_t bits32;
	uint64_t bits64;
	float single;
	double value = 0;

	if (data.left == 4) {
		bits32 = (uint32_t)media_number(data.at, 4);
		memcpy(&single, &bits32, sizeof(single));
		value = single;
	} else if (data.left == 8) {
		bits64 = media_number(data.at, 8);
		memcpy(&value, &bits64, sizeof(value));
	}
	return value;
}

/* From the Segment's data on; false: beyond the file. */
static bool segment_off(const struct media *m, uint64_t pos, uint64_t *off)
{
	return !__builtin_add_overflow(m->webm.segment_off, pos, off) &&
	       *off < m->size_bytes;
}

static void read_seek(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;
	uint64_t sought = 0;
	uint64_t pos = 0;
	uint64_t off;

	while (next_element(&in, &id, &data)) {
		if (id == ID_SEEK_ID)
			sought = unsigned_of(data);
		else if (id == ID_SEEK_POSITION)
			pos = unsigned_of(data);
	}
	if (sought == ID_CUES && pos > 0 && segment_off(m, pos, &off))
		m->webm.cues_off = off;
}

static void read_seek_head(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;

	while (next_element(&in, &id, &data))
		if (id == ID_SEEK)
			read_seek(m, data);
}

static void read_info(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;

	while (next_element(&in, &id, &data)) {
		if (id == ID_TIMESTAMP_SCALE && unsigned_of(data) > 0)
			m->webm.scale_ns = unsigned_of(data);
		else if (id == ID_DURATION)
			m->webm.duration_ticks = float_of(data);
	}
}

/* The first track of pictures is the one whose cues count. */
static void read_track(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;
	uint64_t number = 0;
	uint64_t type = 0;

	while (next_element(&in, &id, &data)) {
		if (id == ID_TRACK_NUMBER)
			number = unsigned_of(data);
		else if (id == ID_TRACK_TYPE)
			type = unsigned_of(data);
	}
	if (type == TRACK_VIDEO && m->webm.track_no == 0)
		m->webm.track_no = number;
}

static void read_tracks(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;

	while (next_element(&in, &id, &data))
		if (id == ID_TRACK_ENTRY)
			read_track(m, data);
}

static bool read_positions(const struct media *m, struct input in,
			   uint64_t *off)
{
	struct input data;
	uint32_t id;
	uint64_t track_no = 0;
	uint64_t pos = UINT64_MAX;

	while (next_element(&in, &id, &data)) {
		if (id == ID_CUE_TRACK)
			track_no = unsigned_of(data);
		else if (id == ID_CUE_CLUSTER_POSITION)
			pos = unsigned_of(data);
	}
	return (m->webm.track_no == 0 || track_no == m->webm.track_no) &&
	       segment_off(m, pos, off);
}

/* false: no memory. */
static bool read_cue_point(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;
	uint64_t ticks = 0;
	uint64_t lowest = UINT64_MAX;
	uint64_t off;
	unsigned __int128 time_ms;

	while (next_element(&in, &id, &data)) {
		if (id == ID_CUE_TIME)
			ticks = unsigned_of(data);
		else if (id == ID_CUE_TRACK_POSITIONS &&
			 read_positions(m, data, &off))
			lowest = min_u64(lowest, off);
	}
	time_ms = (unsigned __int128)ticks * m->webm.scale_ns / NS_PER_MS;
	if (lowest == UINT64_MAX || time_ms >= MEDIA_TIME_MAX_MS)
		return true;
	return media_add(m, (uint64_t)time_ms, lowest);
}

static bool read_cues(struct media *m, struct input in)
{
	struct input data;
	uint32_t id;

	while (next_element(&in, &id, &data))
		if (id == ID_CUE_POINT && !read_cue_point(m, data))
			return false;
	return true;
}

/* The outermost elements. */

static void end(struct media *m)
{
	double ms =
		m->webm.duration_ticks * (double)m->webm.scale_ns / NS_PER_MS;

	/* what is not a number is not greater than 0 */
	if (ms > 0 && ms < (double)MEDIA_TIME_MAX_MS)
		m->info.duration_ms = (uint64_t)ms;
	media_done(m);
}

/* Where the media data begins, and so where the head ends. */
static void note_media(struct media *m, uint64_t off)
{
	m->info.media_off = off;
	m->info.head = (struct span){ 0, off };
}

/* No further element will be met: are there cues to read? */
static void end_walk(struct media *m)
{
	if (m->webm.segment_off == 0) {
		media_fail(m);
		return;
	}
	m->webm.step = WEBM_CUES_HEAD;
	if (m->webm.cues_off == 0 ||
	    !media_ask(m, m->webm.cues_off, HEADER_BYTES))
		end(m);
}

/* Is this element read, and does the walk wait for it? */
static bool ask_element(struct media *m, const struct header *h, uint64_t off)
{
	if (h->bytes > ELEMENT_MAX || off >= m->size_bytes ||
	    h->header_bytes + h->bytes > m->size_bytes - off ||
	    !media_ask(m, off, h->header_bytes + h->bytes))
		return false;
	m->webm.step = WEBM_ELEMENT;
	return true;
}

enum onward {
	ONWARD,  /* to the next element */
	WAITING, /* for what was asked, or ended */
};

/* off: where the element begins; m->webm.pos lies behind it already. */
static enum onward visit(struct media *m, const struct header *h, uint64_t off)
{
	switch (h->id) {
	case ID_SEEK_HEAD:
	case ID_INFO:
	case ID_TRACKS:
		return ask_element(m, h, off) ? WAITING : ONWARD;
	case ID_CUES:
		m->webm.cues_off = off;
		return ONWARD;
	case ID_CLUSTER:
		note_media(m, off);
		end_walk(m);
		return WAITING;
	default:
		return ONWARD;
	}
}

/* Into the Segment, or over the EBML head before it. */
static bool enter(struct media *m, const struct header *h)
{
	struct webm_walk *w = &m->webm;
	uint64_t data = w->pos + h->header_bytes;

	if (h->id == ID_SEGMENT) {
		w->segment_off = data;
		w->segment_end = m->size_bytes;
		if (!h->endless && h->bytes < m->size_bytes - data)
			w->segment_end = data + h->bytes;
		w->scale_ns = DEFAULT_SCALE_NS;
		w->pos = data;
		return true;
	}
	if (h->endless || h->bytes > m->size_bytes - data)
		return false;
	w->pos = data + h->bytes;
	return true;
}

static void walk(struct media *m)
{
	struct webm_walk *w = &m->webm;
	uint64_t end_off = m->size_bytes;

	for (;;) {
		const uint8_t *at;
		struct header h;
		size_t bytes;
		uint64_t off = w->pos;

		if (w->segment_off != 0)
			end_off = w->segment_end;
		if (off >= end_off)
			break;
		bytes = (size_t)min_u64(m->size_bytes - off, HEADER_BYTES);
		at = media_held(m, off, bytes);
		if (at == NULL) {
			if (media_ask(m, off, MEDIA_HEADER_BYTES))
				return;
			break;
		}
		if (m->headers++ == MEDIA_HEADERS_MAX ||
		    !read_header(at, bytes, &h))
			break;
		if (w->segment_off == 0) {
			if (!enter(m, &h))
				break;
			continue;
		}
		/* the cut size of a Cluster does not matter: it ends the walk
		 */
		if (h.id != ID_CLUSTER &&
		    (h.endless ||
		     h.bytes > m->size_bytes - off - h.header_bytes))
			break;
		w->pos = off + h.header_bytes + h.bytes;
		if (visit(m, &h, off) == WAITING)
			return;
	}
	end_walk(m);
}

/* The held element. */
static void step_element(struct media *m)
{
	struct input in = { m->bytes, m->held };
	struct input data;
	uint32_t id;

	m->webm.step = WEBM_WALK;
	if (next_element(&in, &id, &data)) {
		if (id == ID_SEEK_HEAD)
			read_seek_head(m, data);
		else if (id == ID_INFO)
			read_info(m, data);
		else if (id == ID_TRACKS)
			read_tracks(m, data);
	}
	walk(m);
}

static void step_cues_head(struct media *m)
{
	struct header h;
	uint64_t off = m->webm.cues_off;

	m->webm.step = WEBM_CUES;
	if (!read_header(m->bytes, m->held, &h) || h.id != ID_CUES ||
	    h.endless || h.bytes > MEDIA_INDEX_MAX ||
	    h.header_bytes + h.bytes > m->size_bytes - off ||
	    !media_ask(m, off, h.header_bytes + h.bytes))
		end(m);
}

static void step_cues(struct media *m)
{
	struct input in = { m->bytes, m->held };
	struct input data;
	uint32_t id;

	if (m->asked.from >= m->info.head.to)
		m->info.index = m->asked;
	if (next_element(&in, &id, &data) && !read_cues(m, data))
		media_fail(m);
	else
		end(m);
}

void webm_step(struct media *m)
{
	switch (m->webm.step) {
	case WEBM_WALK:
		walk(m);
		break;
	case WEBM_ELEMENT:
		step_element(m);
		break;
	case WEBM_CUES_HEAD:
		step_cues_head(m);
		break;
	case WEBM_CUES:
		step_cues(m);
		break;
	}
}

/*
 * media_inner - what media.c shares with the containers, mp4.c and webm.c.
 *
 * A container asks for a span with media_ask() and returns; its step is
 * called again when all bytes of the span are held.  It ends with
 * media_done() or media_fail().
 */
#ifndef REELCACHE_MEDIA_MEDIA_INNER_H
#define REELCACHE_MEDIA_MEDIA_INNER_H

#include "media/media.h"

#define MEDIA_HEADER_BYTES 64u   /* asked to see one header, or a few */
#define MEDIA_HEADERS_MAX  4096u /* outermost headers that are looked at */
#define MEDIA_TIME_MAX_MS  ((uint64_t)1 << 48) /* more is damage */

enum mp4_step {
	MP4_WALK, /* headers of the outermost boxes */
	MP4_MOOV,
	MP4_SIDX,
	MP4_MFRO, /* the last box of a file, which tells where mfra begins */
	MP4_MFRA,
};

struct mp4_walk {
	enum mp4_step step;
	uint64_t pos;  /* of the next outermost box */
	bool moov_met; /* read or, if too long, passed over */
	bool mdat_met;
	bool sidx_own;        /* the sidx of the wanted track was read */
	bool sidx_whole;      /* the points tell of most of the file */
	uint32_t track_id;    /* whose points are wanted */
	uint32_t track_rate;  /* its ticks a second; 0 = no such track */
	uint64_t sidx_end_ms; /* what sidx tells of the duration; 0 = nothing */
};

enum webm_step {
	WEBM_WALK,    /* headers of the Segment's elements up to a Cluster */
	WEBM_ELEMENT, /* SeekHead, Info or Tracks */
	WEBM_CUES_HEAD,
	WEBM_CUES,
};

struct webm_walk {
	enum webm_step step;
	uint64_t pos;         /* of the next element */
	uint64_t segment_off; /* of the Segment's data; 0 = not met */
	uint64_t segment_end;
	uint64_t cues_off; /* 0 = not known */
	uint64_t scale_ns; /* of one tick */
	uint64_t track_no; /* whose cues are wanted; 0 = any */
	double duration_ticks;
};

struct media {
	enum media_state state;
	uint64_t size_bytes;
	struct media_info info;

	struct media_point *points;
	size_t count;
	size_t capacity;
	uint64_t seen;    /* points that were offered */
	uint64_t stride;  /* every how many-th is kept */
	uint64_t last_ms; /* of the last that was offered */

	struct span asked;
	uint8_t *bytes; /* from asked.from on */
	size_t held;
	size_t allocated;
	uint64_t budget_bytes; /* what may still be asked for */
	unsigned headers;      /* that were looked at */

	struct mp4_walk mp4;
	struct webm_walk webm;
};

/* What is held is forgotten.  span is cut to the object; false: nothing is
 * left of it, or enough was asked. */
bool media_ask(struct media *m, uint64_t from, uint64_t bytes) MUSTCHECK;

/* The bytes [from, from + bytes), or NULL if not all of them are held. */
const uint8_t *media_held(const struct media *m, uint64_t from, size_t bytes);

/* Points come in the order of time; one that goes back is dropped.  false:
 * no memory. */
bool media_add(struct media *m, uint64_t time_ms, uint64_t off) MUSTCHECK;
void media_drop_points(struct media *m);

void media_done(struct media *m);
void media_fail(struct media *m);

/* ticks of rate a second as ms, at most MEDIA_TIME_MAX_MS; rate > 0. */
uint64_t media_ms(uint64_t ticks, uint64_t rate);

/* Big-endian number of bytes <= 8. */
static inline uint64_t media_number(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	while (bytes-- > 0)
		value = value << 8 | *at++;
	return value;
}

#endif

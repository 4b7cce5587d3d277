/*
 * media - which bytes of an MP4 or WebM file hold which time of playing.
 *
 * The caller knows the size of an object, asks media_want() which bytes it
 * should bring and gives them to media_feed(), until the state is no longer
 * MEDIA_WANTS:
 *
 *   WANTS -- all that will be known is known --> READY
 *     '----- no container we know, or damaged --> FAILED
 *
 * What is wanted is little: the headers of the outermost boxes and the index
 * (moov, sidx, mfra; Cues), never the pictures.
 *
 * Used by: prefetcher.  Pure: no files, no clock; nothing blocks.  The bytes
 * are hostile input.  Memory: one index (MEDIA_INDEX_MAX) while it is read,
 * and MEDIA_POINTS_MAX points.
 */
#ifndef REELCACHE_MEDIA_MEDIA_H
#define REELCACHE_MEDIA_MEDIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"
#include "util/span.h"

#define MEDIA_READ_MAX   (1u << 20)  /* bytes of one want at most */
#define MEDIA_INDEX_MAX  (32u << 20) /* a longer index is not read: no map */
#define MEDIA_POINTS_MAX 4096u       /* points, thinned evenly beyond */

enum media_container {
	MEDIA_UNKNOWN,
	MEDIA_MP4,
	MEDIA_WEBM, /* and Matroska */
};

enum media_state {
	MEDIA_WANTS,  /* feed the bytes of media_want() */
	MEDIA_READY,  /* all that will be known is known */
	MEDIA_FAILED, /* no container we know, or damaged: nothing is known */
};

/* Playing from time_ms needs bytes from off on.  From point to point time_ms
 * grows and off does not shrink. */
struct media_point {
	uint64_t time_ms;
	uint64_t off;
};

struct media_info {
	enum media_container container;
	bool fragmented;
	/* the moov lies behind the media data; set as soon as an mdat is met
	 * before a moov */
	bool index_behind;
	uint64_t duration_ms; /* told, or estimated; 0 = not known */
	uint64_t bitrate_bps; /* average of the whole file; 0 = not known */
	struct span head;   /* what a player reads first, from 0 to media_off */
	struct span index;  /* moov, mfra or Cues outside of head; else empty */
	uint64_t media_off; /* mdat's payload, first moof or first Cluster */
};

struct media; /* opaque */

/* size_bytes: of the whole object, > 0.  -EINVAL: it is 0 or SIZE_UNKNOWN;
 * -ENOMEM.  Release with media_free(). */
int media_new(struct media **out, uint64_t size_bytes) MUSTCHECK;
void media_free(struct media *m); /* NULL is fine */

enum media_state media_state(const struct media *m);

/* While MEDIA_WANTS: not empty, at most MEDIA_READ_MAX, within the object.
 * Else empty. */
struct span media_want(const struct media *m);

/* The bytes of media_want(), or the first of them: off is its from, and n is
 * not 0 and not more than wanted.  The rest is wanted then.  Without memory
 * the state becomes MEDIA_FAILED. */
void media_feed(struct media *m, uint64_t off, const uint8_t *bytes, size_t n);

/* What is known so far; never NULL. */
const struct media_info *media_info(const struct media *m);

/* None before MEDIA_READY; valid as long as m. */
const struct media_point *media_points(const struct media *m, size_t *count);

/* Where playing from time_ms begins to read: the sync sample at or before it,
 * beyond the end the last one.  Without points linear in time; 0 when nothing
 * is known. */
uint64_t media_off_at(const struct media *m, uint64_t time_ms);

/* When the byte at off is played, interpolated between the points and from
 * the last one to the end; 0 when nothing is known. */
uint64_t media_time_at(const struct media *m, uint64_t off);

/* How many bytes from off on hold ms of playing, cut at the object's end; 0
 * when nothing is known. */
uint64_t media_bytes_for(const struct media *m, uint64_t off, uint64_t ms);

#endif

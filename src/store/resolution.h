/*
 * resolution - what an id resolves to: renditions with their URLs, in a table
 * of its own (an LMDB environment with one writer, the resolver).
 *
 * Used by: resolver (writes), worker and prefetcher (read).  Opened after
 * fork, never carried across it.
 * Blocking: reads touch mapped memory only; resolutions_put() waits for the
 * disk, and only the resolver calls it.
 * Errors: 0 or -errno; a damaged record reads as absent.
 *
 * Expired records stay until they are replaced or pushed out: which format a
 * quality means is still right then, and what is stored of it can be served.
 * Their URLs must not be used.
 */
#ifndef REELCACHE_STORE_RESOLUTION_H
#define REELCACHE_STORE_RESOLUTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"
#include "util/quality.h"
#include "util/span.h"

#define RESOLUTION_RENDITIONS_MAX 64u
#define RESOLUTION_BYTES_MAX      (512u * 1024u)
#define RESOLUTION_FORMAT_BYTES   QUALITY_FORMAT_BYTES /* without NUL */

/* Texts of a rendition; "" = not known. */
enum rendition_text {
	RENDITION_FORMAT,    /* identity within the id, [A-Za-z0-9._+-]{1,60}:
			      * the object's key is "source/id/format" */
	RENDITION_LABEL,     /* "360p", "audio": what ?q= chooses by */
	RENDITION_CONTAINER, /* "mp4", "webm" */
	RENDITION_TYPE,      /* media type, e.g. "video/mp4" */
	RENDITION_VIDEO_CODEC,
	RENDITION_AUDIO_CODEC,
	RENDITION_URL, /* http(s) URL; of a directory: the file's name in it */
	RENDITION_FIELDS, /* of requests for it: upstream/request_fields.h */
	RENDITION_TEXTS
};

#define RENDITION_VIDEO 1u
#define RENDITION_AUDIO 2u

struct rendition {
	uint64_t size_bytes;                /* SIZE_UNKNOWN */
	uint64_t bitrate_bps;               /* 0 = not known */
	uint32_t width;                     /* 0 = not known */
	uint32_t height;                    /* 0 = not known, or no video */
	uint32_t flags;                     /* RENDITION_... */
	uint32_t text_off[RENDITION_TEXTS]; /* from the record's begin */
	uint32_t unused;
};
_Static_assert(sizeof(struct rendition) == 64, "stored layout, version 2");

/* Begins a record; renditions follow, then their texts, NUL-terminated. */
struct resolution {
	uint32_t version;     /* 2 */
	uint32_t bytes;       /* of the whole record */
	int64_t resolved_us;  /* wall clock; unique per record of a key */
	int64_t expires_s;    /* wall clock */
	uint64_t duration_ms; /* 0 = not known */
	uint32_t count;       /* of renditions, >= 1 */
	uint32_t title_off;   /* from the record's begin */
	struct rendition renditions[];
};

/* Is this a whole, sane record?  All texts are terminated inside of it, and
 * formats are valid and differ. */
bool resolution_valid(const void *data, size_t bytes);

const char *resolution_title(const struct resolution *r);
const char *rendition_text(const struct resolution *r,
			   const struct rendition *rendition,
			   enum rendition_text which);

/*
 * The rendition for a quality: "360p" and the like (video of that height, or
 * the next lower one, or, when all are higher, the lowest), "best", "worst",
 * "audio" (audio without video, the highest bitrate).  Among equals: with
 * audio before without, mp4 before others, then the higher bitrate.  NULL:
 * there is none ("audio" only), or the word is no quality.  *exact (may be
 * NULL): the wanted one, not a lower one.
 */
const struct rendition *resolution_pick(const struct resolution *r,
					const char *quality, bool *exact);

/* The rendition of a format, or NULL. */
const struct rendition *resolution_find_format(const struct resolution *r,
					       const char *format,
					       size_t format_bytes);

/* ---- building one ---- */

struct resolution_builder {
	struct resolution
		*record; /* malloc'ed, grows to RESOLUTION_BYTES_MAX */
	size_t capacity;
	int error; /* first error: -ENOMEM, -ENOSPC, -EINVAL */
};

/* What a rendition is made of; NULL texts are "". */
struct rendition_facts {
	const char *text[RENDITION_TEXTS];
	uint64_t size_bytes;
	uint64_t bitrate_bps;
	uint32_t width;
	uint32_t height;
	uint32_t flags;
};

/* Times are 0: they are set in the record before it is put. */
void resolution_begin(struct resolution_builder *b, const char *title,
		      uint64_t duration_ms);
/* A rendition whose format is there already, or is not valid, or beyond the
 * most, is left out: -EEXIST, -EINVAL, -ENOSPC (not errors of the builder). */
int resolution_add(struct resolution_builder *b,
		   const struct rendition_facts *facts) MUSTCHECK;
/* The record is the caller's to free(); -ENOENT: it has no rendition. */
int resolution_end(struct resolution_builder *b,
		   struct resolution **out) MUSTCHECK;
void resolution_abort(struct resolution_builder *b);

/* ---- the table ---- */

struct resolutions; /* opaque */

/* cache_path is [cache] path: the table is the folder "resolved" in it.  The
 * writer makes it, and empties a damaged one.  Readers: -ENOENT when it is
 * not made yet: try again later. */
int resolutions_open(struct resolutions **out, const char *cache_path,
		     uint64_t map_bytes, bool writer) MUSTCHECK;
void resolutions_close(struct resolutions *rs);

/* What is found between the two is valid until the end of the read; never
 * keep it open while waiting. */
int resolutions_begin_read(struct resolutions *rs) MUSTCHECK;
void resolutions_end_read(struct resolutions *rs);

/* key: "source/id".  NULL: absent or damaged. */
const struct resolution *resolutions_find(struct resolutions *rs,
					  const char *key, size_t key_bytes);

/* The writer: replaces and commits.  When the table is full old records go;
 * in the end, when the record finds no place between the others, all of
 * them. */
int resolutions_put(struct resolutions *rs, const char *key, size_t key_bytes,
		    const struct resolution *record) MUSTCHECK;
int resolutions_delete(struct resolutions *rs, const char *key,
		       size_t key_bytes) MUSTCHECK;

#endif

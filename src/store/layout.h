/*
 * layout - records of the index as they lie in LMDB and in messages.
 *
 * Used by: prefetcher (writes), worker (reads).  Pure.
 * Host byte order, but keys are big-endian so that they sort; the cache
 * belongs to one machine and one layout version (table meta).  Bytes read
 * from disk or a message are checked by the *_valid functions before use.
 */
#ifndef REELCACHE_STORE_LAYOUT_H
#define REELCACHE_STORE_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "util/base.h"
#include "util/span.h"

#define LAYOUT_VERSION    1u
#define LAYOUT_KEY_BYTES  256u  /* longest "source/id" */
#define LAYOUT_TEXT_BYTES 2048u /* of all text fields of an object together */

/* Text fields, each a NUL-terminated string in object_record.text. */
enum layout_text {
	TEXT_ETAG,          /* as sent, with quotes and W/; "" = none */
	TEXT_LAST_MODIFIED, /* as sent; "" = none */
	TEXT_CONTENT_TYPE,
	TEXT_CACHE_CONTROL,
	TEXT_EXPIRES,
	TEXT_CONTENT_DISPOSITION,
	TEXT_CONTENT_LANGUAGE,
	TEXT_COUNT
};

#define OBJECT_NO_RANGES       1u /* the origin answers ranges with all of it */
#define OBJECT_NO_STORE        2u /* must not be kept: scratch only */
#define OBJECT_MUST_REVALIDATE 4u /* never served stale (RFC 9111 5.2.2.2) */

/* One rendition of one video: what a response head needs.  Variable length:
 * object_record_bytes().  12 text bytes or 2048 make no difference to code. */
struct object_record {
	uint64_t object_no;    /* > 0, never used twice */
	uint64_t size_bytes;   /* SIZE_UNKNOWN while no answer told it */
	int64_t date_s;        /* origin's Date, or when it was received */
	int64_t fresh_until_s; /* wall clock, RFC 9111 section 4.2 */
	int64_t stored_s;      /* when received or last confirmed */
	int64_t age_s;         /* corrected_initial_age, RFC 9111 4.2.3 */
	uint32_t generation;   /* grows when a validator changes */
	uint32_t chunk_bytes;
	uint32_t flags; /* OBJECT_... */
	uint16_t text_off[TEXT_COUNT];
	uint16_t text_bytes; /* used of text[] */
	char text[LAYOUT_TEXT_BYTES];
};

/* Bytes of the record that are in use: what is stored and sent. */
size_t object_record_bytes(const struct object_record *rec);

/* Is this a whole, sane record?  bytes is what was read. */
bool object_record_valid(const void *data, size_t bytes);

const char *object_record_text(const struct object_record *rec,
			       enum layout_text which);

/* Begins with no texts; the other fields are the caller's. */
void object_record_clear_texts(struct object_record *rec);

/* Texts are set once each.  -ENOSPC when they no longer fit. */
int object_record_set_text(struct object_record *rec, enum layout_text which,
			   const char *value) MUSTCHECK;

struct extent_key {
	uint8_t object_no[8]; /* big-endian, as the next two */
	uint8_t generation[4];
	uint8_t from_off[8];
};

/* One chunk file: bytes [key.from_off, to_off) of the object. */
struct extent_record {
	uint64_t to_off;
	uint64_t run_no; /* with the chunk number the file's name */
	uint32_t crc;    /* of the file's bytes, as libdeflate_crc32 */
	uint32_t epoch;  /* of the store when it was written or checked */
};

/* What was learned of an origin (prefetcher/origins.h); the key is
 * "origin/scheme://host:port", in table meta. */
#define ORIGIN_RECORD_VERSION  1u
#define ORIGIN_PREFERS_BOUNDED 1u

struct origin_record {
	uint32_t version; /* ORIGIN_RECORD_VERSION; of others nothing is read */
	uint32_t parallel; /* connections that are of use for one object */
	uint32_t tolerated;
	uint32_t flags;       /* ORIGIN_... */
	uint64_t range_max;   /* longest range it takes; SIZE_UNKNOWN = any */
	uint64_t bounded_bps; /* bytes a second of one transfer; 0 = unknown */
	uint64_t open_bps;
	uint64_t first_byte_ms;
	int64_t learned_s; /* wall clock */
};
_Static_assert(sizeof(struct origin_record) == 56, "stored layout, version 1");

bool origin_record_valid(const void *data, size_t bytes);

bool extent_record_valid(const void *data, size_t bytes);

void extent_key_make(struct extent_key *key, uint64_t object_no,
		     uint32_t generation, uint64_t from_off);
void extent_key_read(const struct extent_key *key, uint64_t *object_no,
		     uint32_t *generation, uint64_t *from_off);

#endif

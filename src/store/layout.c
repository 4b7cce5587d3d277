#include "store/layout.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define OBJECT_HEAD_BYTES offsetof(struct object_record, text)

size_t object_record_bytes(const struct object_record *rec)
{
	return OBJECT_HEAD_BYTES + rec->text_bytes;
}

bool object_record_valid(const void *data, size_t bytes)
{
	const struct object_record *rec = data;

	if (bytes < OBJECT_HEAD_BYTES + 1 || bytes > sizeof(*rec))
		return false;
	if (rec->text_bytes != bytes - OBJECT_HEAD_BYTES)
		return false;
	if (rec->object_no == 0 || rec->chunk_bytes < 4 * KIB ||
	    rec->chunk_bytes > 64 * MIB)
		return false;
	if (rec->size_bytes != SIZE_UNKNOWN && rec->size_bytes > EIB)
		return false;
	for (size_t n = 0; n < TEXT_COUNT; n++)
		if (rec->text_off[n] >= rec->text_bytes)
			return false;
	return rec->text[rec->text_bytes - 1] == '\0';
}

const char *object_record_text(const struct object_record *rec,
			       enum layout_text which)
{
	return rec->text + rec->text_off[which];
}

void object_record_clear_texts(struct object_record *rec)
{
	memset(rec->text_off, 0, sizeof(rec->text_off));
	rec->text[0] = '\0'; /* what every absent text points to */
	rec->text_bytes = 1;
}

int object_record_set_text(struct object_record *rec, enum layout_text which,
			   const char *value)
{
	size_t bytes = strlen(value) + 1;

	if (bytes == 1)
		return 0;
	if (bytes > sizeof(rec->text) - rec->text_bytes)
		return -ENOSPC;
	memcpy(rec->text + rec->text_bytes, value, bytes);
	rec->text_off[which] = rec->text_bytes;
	rec->text_bytes = (uint16_t)(rec->text_bytes + bytes);
	return 0;
}

bool origin_record_valid(const void *data, size_t bytes)
{
	struct origin_record rec;

	if (bytes != sizeof(rec))
		return false;
	memcpy(&rec, data, sizeof(rec));
	return rec.version == ORIGIN_RECORD_VERSION && rec.parallel > 0 &&
	       rec.tolerated > 0 && rec.range_max > 0;
}

bool extent_record_valid(const void *data, size_t bytes)
{
	struct extent_record rec;

	if (bytes != sizeof(rec))
		return false;
	memcpy(&rec, data, sizeof(rec)); /* LMDB does not align it */
	return rec.to_off > 0 && rec.run_no > 0;
}

void extent_key_make(struct extent_key *key, uint64_t object_no,
		     uint32_t generation, uint64_t from_off)
{
	uint64_t no = htobe64(object_no);
	uint32_t gen = htobe32(generation);
	uint64_t off = htobe64(from_off);

	memcpy(key->object_no, &no, sizeof(no));
	memcpy(key->generation, &gen, sizeof(gen));
	memcpy(key->from_off, &off, sizeof(off));
}

void extent_key_read(const struct extent_key *key, uint64_t *object_no,
		     uint32_t *generation, uint64_t *from_off)
{
	uint64_t no, off;
	uint32_t gen;

	memcpy(&no, key->object_no, sizeof(no));
	memcpy(&gen, key->generation, sizeof(gen));
	memcpy(&off, key->from_off, sizeof(off));
	*object_no = be64toh(no);
	*generation = be32toh(gen);
	*from_off = be64toh(off);
}

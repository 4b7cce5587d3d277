#include "store/index.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/segment.h"
#include "store/lmdb_util.h"

struct index {
	MDB_env *env;
	MDB_dbi objects;
	MDB_dbi extents;
	MDB_dbi meta;
	MDB_txn *read;      /* kept and renewed */
	MDB_cursor *cursor; /* on extents, in read */
	MDB_txn *write;
	bool reading;
	struct object_record found; /* LMDB aligns values to two bytes only */
};

static int open_tables(struct index *ix, bool writer)
{
	unsigned create = writer ? MDB_CREATE : 0;
	MDB_txn *txn;
	int rc = mdb_txn_begin(ix->env, NULL, writer ? 0 : MDB_RDONLY, &txn);

	if (rc != 0)
		return lmdb_errno(rc);
	rc = mdb_dbi_open(txn, "objects", create, &ix->objects);
	if (rc == 0)
		rc = mdb_dbi_open(txn, "extents", create, &ix->extents);
	if (rc == 0)
		rc = mdb_dbi_open(txn, "meta", create, &ix->meta);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return lmdb_errno(rc);
	}
	return lmdb_errno(mdb_txn_commit(txn));
}

static int check_version(struct index *ix, bool writer)
{
	uint64_t version = 0;
	bool known;
	int rc = index_begin_read(ix);

	if (rc < 0)
		return rc;
	known = index_get_number(ix, "version", &version);
	index_end_read(ix);
	if (known)
		return version == LAYOUT_VERSION ? 0 : -EUCLEAN;
	if (!writer)
		return -ENOENT;
	rc = index_begin_write(ix);
	if (rc < 0)
		return rc;
	rc = index_put_number(ix, "version", LAYOUT_VERSION);
	if (rc < 0) {
		index_abort(ix);
		return rc;
	}
	return index_commit(ix);
}

int index_open(struct index **out, const char *path, uint64_t map_bytes,
	       bool writer)
{
	struct index *ix = calloc(1, sizeof(*ix));
	unsigned flags = MDB_NOTLS | MDB_NORDAHEAD | (writer ? 0 : MDB_RDONLY);
	int rc;

	if (ix == NULL)
		return -ENOMEM;
	if (writer && mkdir(path, 0700) < 0 && errno != EEXIST) {
		rc = -errno;
		goto no_env;
	}
	rc = lmdb_errno(mdb_env_create(&ix->env));
	if (rc < 0)
		goto no_env;
	if (mdb_env_set_mapsize(ix->env, map_bytes) != 0 ||
	    mdb_env_set_maxdbs(ix->env, 4) != 0 ||
	    mdb_env_set_maxreaders(ix->env, 2 * SEGMENT_WORKERS) != 0) {
		rc = -EINVAL;
		goto no_open;
	}
	rc = lmdb_errno(mdb_env_open(ix->env, path, flags, 0600));
	if (rc == 0)
		rc = lmdb_check_file(ix->env, path);
	if (rc == 0)
		rc = open_tables(ix, writer);
	if (rc == 0)
		rc = check_version(ix, writer);
	if (rc < 0)
		goto no_open;
	*out = ix;
	return 0;

no_open:
	index_end_read(ix);
	if (ix->cursor != NULL)
		mdb_cursor_close(ix->cursor);
	if (ix->read != NULL)
		mdb_txn_abort(ix->read);
	mdb_env_close(ix->env);
no_env:
	free(ix);
	return rc;
}

void index_close(struct index *ix)
{
	if (ix == NULL)
		return;
	must(ix->write == NULL);
	if (ix->cursor != NULL)
		mdb_cursor_close(ix->cursor);
	if (ix->read != NULL)
		mdb_txn_abort(ix->read);
	mdb_env_close(ix->env);
	free(ix);
}

int index_remove(const char *path)
{
	static const char *const files[] = { "data.mdb", "lock.mdb" };
	char name[4200];

	for (size_t n = 0; n < ARRAY_LEN(files); n++) {
		snprintf(name, sizeof(name), "%s/%s", path, files[n]);
		if (unlink(name) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

int index_begin_read(struct index *ix)
{
	int rc;

	must(!ix->reading);
	if (ix->read == NULL) {
		rc = mdb_txn_begin(ix->env, NULL, MDB_RDONLY, &ix->read);
		if (rc != 0) {
			ix->read = NULL;
			return lmdb_errno(rc);
		}
	} else {
		rc = mdb_txn_renew(ix->read);
		if (rc != 0)
			return lmdb_errno(rc);
		if (ix->cursor != NULL) {
			rc = mdb_cursor_renew(ix->read, ix->cursor);
			if (rc != 0) {
				mdb_txn_reset(ix->read);
				return lmdb_errno(rc);
			}
		}
	}
	ix->reading = true;
	return 0;
}

void index_end_read(struct index *ix)
{
	if (ix->reading)
		mdb_txn_reset(ix->read);
	ix->reading = false;
}

const struct object_record *index_find_object(struct index *ix, const char *key,
					      size_t key_bytes)
{
	MDB_val k = { key_bytes, (void *)(uintptr_t)key }, v;

	must(ix->reading);
	if (key_bytes == 0 || key_bytes > LAYOUT_KEY_BYTES ||
	    mdb_get(ix->read, ix->objects, &k, &v) != 0)
		return NULL;
	if (v.mv_size > sizeof(ix->found))
		return NULL;
	memcpy(&ix->found, v.mv_data, v.mv_size);
	if (!object_record_valid(&ix->found, v.mv_size))
		return NULL;
	return &ix->found;
}

bool index_find_extent(struct index *ix, uint64_t object_no,
		       uint32_t generation, uint64_t off,
		       struct extent_record *out, uint64_t *from_off)
{
	struct extent_key want;
	MDB_val k = { sizeof(want), &want }, v;
	uint64_t no;
	uint32_t gen;
	int rc;

	must(ix->reading);
	if (ix->cursor == NULL &&
	    mdb_cursor_open(ix->read, ix->extents, &ix->cursor) != 0) {
		ix->cursor = NULL;
		return false;
	}
	extent_key_make(&want, object_no, generation, off);
	rc = mdb_cursor_get(ix->cursor, &k, &v, MDB_SET_RANGE);
	if (rc == 0 && k.mv_size == sizeof(want) &&
	    memcmp(k.mv_data, &want, sizeof(want)) == 0) {
		*from_off = off;
	} else {
		rc = mdb_cursor_get(ix->cursor, &k, &v,
				    rc == 0 ? MDB_PREV : MDB_LAST);
		if (rc != 0 || k.mv_size != sizeof(want))
			return false;
		extent_key_read(k.mv_data, &no, &gen, from_off);
		if (no != object_no || gen != generation || *from_off > off)
			return false;
	}
	if (!extent_record_valid(v.mv_data, v.mv_size))
		return false;
	memcpy(out, v.mv_data, sizeof(*out));
	return out->to_off > off;
}

static int load_table(struct index *ix, MDB_dbi table,
		      void (*found)(void *ctx, const MDB_val *k,
				    const MDB_val *v),
		      void *ctx)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = mdb_cursor_open(ix->read, table, &cursor);

	if (rc != 0)
		return lmdb_errno(rc);
	while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
		found(ctx, &k, &v);
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : lmdb_errno(rc);
}

struct load {
	void (*object)(void *ctx, const char *key, size_t key_bytes,
		       const struct object_record *rec);
	void (*extent)(void *ctx, uint64_t object_no, uint32_t generation,
		       uint64_t from_off, const struct extent_record *rec);
	void *ctx;
};

static void load_object(void *ctx, const MDB_val *k, const MDB_val *v)
{
	struct load *ld = ctx;
	struct object_record rec;

	if (k->mv_size == 0 || k->mv_size > LAYOUT_KEY_BYTES ||
	    v->mv_size > sizeof(rec))
		return;
	memset(&rec, 0, sizeof(rec));
	memcpy(&rec, v->mv_data, v->mv_size);
	if (object_record_valid(&rec, v->mv_size))
		ld->object(ld->ctx, k->mv_data, k->mv_size, &rec);
}

static void load_extent(void *ctx, const MDB_val *k, const MDB_val *v)
{
	struct load *ld = ctx;
	struct extent_record rec;
	uint64_t object_no, from_off;
	uint32_t generation;

	if (k->mv_size != sizeof(struct extent_key) ||
	    !extent_record_valid(v->mv_data, v->mv_size))
		return;
	memcpy(&rec, v->mv_data, sizeof(rec));
	extent_key_read(k->mv_data, &object_no, &generation, &from_off);
	if (rec.to_off > from_off)
		ld->extent(ld->ctx, object_no, generation, from_off, &rec);
}

int index_load(struct index *ix,
	       void (*object)(void *ctx, const char *key, size_t key_bytes,
			      const struct object_record *rec),
	       void (*extent)(void *ctx, uint64_t object_no,
			      uint32_t generation, uint64_t from_off,
			      const struct extent_record *rec),
	       void *ctx)
{
	struct load ld = { object, extent, ctx };
	int rc = index_begin_read(ix);

	if (rc < 0)
		return rc;
	rc = load_table(ix, ix->objects, load_object, &ld);
	if (rc == 0)
		rc = load_table(ix, ix->extents, load_extent, &ld);
	index_end_read(ix);
	return rc;
}

#define ORIGIN_PREFIX "origin/"
#define ORIGIN_BYTES  511u /* LMDB's longest key */

struct load_origins {
	void (*each)(void *ctx, const char *name,
		     const struct origin_record *rec);
	void *ctx;
};

static void load_origin(void *ctx, const MDB_val *k, const MDB_val *v)
{
	struct load_origins *ld = ctx;
	size_t prefix = strlen(ORIGIN_PREFIX);
	char name[ORIGIN_BYTES + 1];
	struct origin_record rec;

	if (k->mv_size <= prefix || k->mv_size > ORIGIN_BYTES ||
	    memcmp(k->mv_data, ORIGIN_PREFIX, prefix) != 0 ||
	    !origin_record_valid(v->mv_data, v->mv_size))
		return;
	memcpy(name, (const char *)k->mv_data + prefix, k->mv_size - prefix);
	name[k->mv_size - prefix] = '\0';
	memcpy(&rec, v->mv_data, sizeof(rec));
	ld->each(ld->ctx, name, &rec);
}

int index_load_origins(struct index *ix,
		       void (*each)(void *ctx, const char *name,
				    const struct origin_record *rec),
		       void *ctx)
{
	struct load_origins ld = { each, ctx };
	int rc = index_begin_read(ix);

	if (rc < 0)
		return rc;
	rc = load_table(ix, ix->meta, load_origin, &ld);
	index_end_read(ix);
	return rc;
}

int index_begin_write(struct index *ix)
{
	must(ix->write == NULL);
	return lmdb_errno(mdb_txn_begin(ix->env, NULL, 0, &ix->write));
}

static int put(struct index *ix, MDB_dbi table, const void *key,
	       size_t key_bytes, const void *value, size_t value_bytes)
{
	MDB_val k = { key_bytes, (void *)(uintptr_t)key };
	MDB_val v = { value_bytes, (void *)(uintptr_t)value };

	return lmdb_errno(mdb_put(ix->write, table, &k, &v, 0));
}

static int del(struct index *ix, MDB_dbi table, const void *key,
	       size_t key_bytes)
{
	MDB_val k = { key_bytes, (void *)(uintptr_t)key };

	return lmdb_errno(mdb_del(ix->write, table, &k, NULL));
}

int index_put_object(struct index *ix, const char *key, size_t key_bytes,
		     const struct object_record *rec)
{
	return put(ix, ix->objects, key, key_bytes, rec,
		   object_record_bytes(rec));
}

int index_delete_object(struct index *ix, const char *key, size_t key_bytes)
{
	return del(ix, ix->objects, key, key_bytes);
}

int index_put_extent(struct index *ix, const struct extent_key *key,
		     const struct extent_record *rec)
{
	return put(ix, ix->extents, key, sizeof(*key), rec, sizeof(*rec));
}

int index_delete_extent(struct index *ix, const struct extent_key *key)
{
	return del(ix, ix->extents, key, sizeof(*key));
}

int index_put_number(struct index *ix, const char *name, uint64_t value)
{
	return put(ix, ix->meta, name, strlen(name), &value, sizeof(value));
}

int index_put_origin(struct index *ix, const char *name,
		     const struct origin_record *rec)
{
	char key[ORIGIN_BYTES + 1];
	int n = snprintf(key, sizeof(key), ORIGIN_PREFIX "%s", name);

	if (n < 0 || (size_t)n >= sizeof(key))
		return -ENAMETOOLONG;
	return put(ix, ix->meta, key, (size_t)n, rec, sizeof(*rec));
}

bool index_get_number(struct index *ix, const char *name, uint64_t *value)
{
	MDB_val k = { strlen(name), (void *)(uintptr_t)name }, v;

	must(ix->reading);
	if (mdb_get(ix->read, ix->meta, &k, &v) != 0 ||
	    v.mv_size != sizeof(*value))
		return false;
	memcpy(value, v.mv_data, sizeof(*value));
	return true;
}

int index_commit(struct index *ix)
{
	int rc = mdb_txn_commit(ix->write);

	ix->write = NULL;
	return lmdb_errno(rc);
}

void index_abort(struct index *ix)
{
	if (ix->write != NULL)
		mdb_txn_abort(ix->write);
	ix->write = NULL;
}

void index_check_readers(struct index *ix)
{
	int dead = 0;

	(void)mdb_reader_check(ix->env, &dead);
}

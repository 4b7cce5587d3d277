/*
 * index - the LMDB environment: objects by key, chunk files by place.
 *
 * Used by: prefetcher (writes, from the journal's thread; reads at start),
 * worker (reads).  Opened after fork.  LMDB stays inside src/store/.
 * Blocking: reads only touch mapped memory; index_commit() waits for the
 * disk.  Errors: -errno, LMDB's codes translated (lmdb_util.h).
 */
#ifndef REELCACHE_STORE_INDEX_H
#define REELCACHE_STORE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/layout.h"
#include "util/base.h"

struct index;

/* path is the folder; the writer makes it.  map_bytes is the address space
 * and so the largest size.  -EUCLEAN: not an index of ours, or damaged:
 * index_remove() and open again.  -ENOENT for a reader: not made yet. */
int index_open(struct index **out, const char *path, uint64_t map_bytes,
	       bool writer) MUSTCHECK;
void index_close(struct index *ix);

/* Deletes the files below path. */
int index_remove(const char *path) MUSTCHECK;

/* Readers: everything found is valid until index_end_read(). */
int index_begin_read(struct index *ix) MUSTCHECK;
void index_end_read(struct index *ix);

/* NULL: absent, or damaged. */
const struct object_record *index_find_object(struct index *ix, const char *key,
					      size_t key_bytes);

/* The chunk file that holds byte off, its first byte in *from_off.  False:
 * none does. */
bool index_find_extent(struct index *ix, uint64_t object_no,
		       uint32_t generation, uint64_t off,
		       struct extent_record *out, uint64_t *from_off);

/* Calls for every record, in any order; damaged ones are left out. */
int index_load(struct index *ix,
	       void (*object)(void *ctx, const char *key, size_t key_bytes,
			      const struct object_record *rec),
	       void (*extent)(void *ctx, uint64_t object_no,
			      uint32_t generation, uint64_t from_off,
			      const struct extent_record *rec),
	       void *ctx) MUSTCHECK;

/* Calls for every origin's record; damaged ones are left out. */
int index_load_origins(struct index *ix,
		       void (*each)(void *ctx, const char *name,
				    const struct origin_record *rec),
		       void *ctx) MUSTCHECK;

/* The writer: begin, any number of the others, then exactly one of commit
 * (synced) and abort. */
int index_begin_write(struct index *ix) MUSTCHECK;
int index_put_object(struct index *ix, const char *key, size_t key_bytes,
		     const struct object_record *rec) MUSTCHECK;
int index_delete_object(struct index *ix, const char *key,
			size_t key_bytes) MUSTCHECK;
int index_put_extent(struct index *ix, const struct extent_key *key,
		     const struct extent_record *rec) MUSTCHECK;
int index_delete_extent(struct index *ix,
			const struct extent_key *key) MUSTCHECK;
int index_put_number(struct index *ix, const char *name,
		     uint64_t value) MUSTCHECK;
/* name: "scheme://host:port" */
int index_put_origin(struct index *ix, const char *name,
		     const struct origin_record *rec) MUSTCHECK;
int index_commit(struct index *ix) MUSTCHECK;
void index_abort(struct index *ix);

/* A number or short bytes from table meta, inside a read.  False: absent. */
bool index_get_number(struct index *ix, const char *name, uint64_t *value);

/* Frees the read slots of processes that are gone (LMDB keeps old pages for
 * them).  Call after a child's death and by timer. */
void index_check_readers(struct index *ix);

#endif

#include "store/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "store/chunk.h"
#include "store/fill.h"
#include "util/log.h"

#define PATH_BYTES     4200
#define READERS_AGE_MS 50
#define DISK_BAD_MS    5000
#define LOAD_ATTEMPTS  3
#define SAME_VIEW_S    60  /* a read that soon after is the same viewer's */
#define GHOST_BYTES    MIB /* of the cache for one name in the ghost */
#define CHECKS_AT_ONCE 8   /* in the journal: commits wait behind them */

/* ---- small helpers ---- */

static const char *path_of(const struct catalog *cat, const char *name,
			   char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "%s/%s", cat->opts.path, name);
	return path;
}

static uint64_t disk_bytes(const struct extent *ex)
{
	return chunk_disk_bytes(span_len(ex->span));
}

static uint64_t chunk_no_of(const struct extent *ex)
{
	return ex->span.from / ex->object->record->chunk_bytes;
}

static struct extent_key key_of(const struct extent *ex)
{
	struct extent_key key;

	extent_key_make(&key, ex->object->record->object_no,
			ex->object->record->generation, ex->span.from);
	return key;
}

static void tell(struct catalog *cat, struct object *obj)
{
	if (cat->opts.changed != NULL && !obj->retired)
		cat->opts.changed(cat->opts.ctx, obj);
}

uint64_t catalog_new_run_no(struct catalog *cat)
{
	return atomic_fetch_add(&cat->opts.seg->next_run_no, 1);
}

static void raise_to(_Atomic uint64_t *number, uint64_t least)
{
	if (atomic_load(number) < least)
		atomic_store(number, least);
}

/* ---- the journal's side ---- */

static void add_op(struct catalog *cat, struct journal_op *op, bool urgent)
{
	if (op == NULL) {
		/* the index lags behind what is in memory: workers ask more
		 * than they need to, until the next start checks it */
		log_error("ev=no_memory for=journal");
		return;
	}
	journal_add(cat->journal, op, urgent);
}

static void journal_extent(struct catalog *cat, struct extent *ex)
{
	struct journal_op *op = journal_new(JOURNAL_PUT_EXTENT);

	if (op != NULL) {
		op->extent_key = key_of(ex);
		op->extent = (struct extent_record){ .to_off = ex->span.to,
						     .run_no = ex->run_no,
						     .crc = ex->crc,
						     .epoch = ex->epoch };
		op->owner = ex;
	}
	add_op(cat, op, false);
}

static void journal_drop_extent(struct catalog *cat, const struct extent *ex)
{
	struct journal_op *op = journal_new(JOURNAL_DELETE_EXTENT);

	if (op != NULL)
		op->extent_key = key_of(ex);
	add_op(cat, op, false);
}

static struct journal_op *object_op(enum journal_type type,
				    const struct object *obj)
{
	struct journal_op *op = journal_new(type);

	if (op == NULL)
		return NULL;
	op->key = strdup(obj->key);
	op->key_bytes = obj->key_bytes;
	if (op->key == NULL) {
		journal_free(op);
		return NULL;
	}
	return op;
}

/* From now until op is committed the index tells workers what is no longer
 * so. */
static void mark_changing(struct catalog *cat, struct journal_op *op)
{
	if (op == NULL)
		return;
	op->changing = true;
	atomic_fetch_add(&cat->opts.seg->changing, 1);
}

static void journal_object(struct catalog *cat, const struct object *obj,
			   bool other_version)
{
	struct journal_op *op = object_op(JOURNAL_PUT_OBJECT, obj);
	size_t bytes = object_record_bytes(obj->record);

	if (op != NULL) {
		op->record = malloc(bytes);
		if (op->record != NULL) {
			memcpy(op->record, obj->record, bytes);
			op->number = obj->young;
		} else {
			journal_free(op);
			op = NULL;
		}
	}
	if (other_version)
		mark_changing(cat, op);
	add_op(cat, op, other_version);
}

static void journal_delete_object(struct catalog *cat, const struct object *obj)
{
	struct journal_op *op = object_op(JOURNAL_DELETE_OBJECT, obj);

	mark_changing(cat, op);
	add_op(cat, op, true);
}

void catalog_save_origin(struct catalog *cat, const char *name,
			 const struct origin_record *rec)
{
	struct journal_op *op = journal_new(JOURNAL_PUT_ORIGIN);

	if (op != NULL) {
		op->key = strdup(name);
		op->origin = *rec;
		if (op->key == NULL) {
			journal_free(op);
			op = NULL;
		}
	}
	add_op(cat, op, false);
}

int catalog_load_origins(struct catalog *cat,
			 void (*each)(void *ctx, const char *name,
				      const struct origin_record *rec),
			 void *ctx)
{
	return index_load_origins(cat->index, each, ctx);
}

/* ---- young objects: known to a successor before they are committed ---- */

static void young_put(struct catalog *cat, struct object *obj)
{
	struct segment *seg = cat->opts.seg;
	uint32_t row = 0;

	obj->young = 0;
	while (row < SEGMENT_YOUNG && atomic_load(&seg->young[row].used))
		row++;
	if (row == SEGMENT_YOUNG)
		return; /* only a kill within the next moments could matter */
	seg->young[row].key_bytes = obj->key_bytes;
	seg->young[row].record_bytes =
		(uint32_t)object_record_bytes(obj->record);
	memcpy(seg->young[row].key, obj->key, obj->key_bytes);
	memcpy(seg->young[row].record, obj->record,
	       seg->young[row].record_bytes);
	atomic_store(&seg->young[row].used, 1);
	obj->young = row + 1;
}

static void young_drop(struct catalog *cat, uint32_t young)
{
	if (young > 0)
		atomic_store(&cat->opts.seg->young[young - 1].used, 0);
}

/* ---- objects ---- */

struct object *catalog_find(struct catalog *cat, const char *key,
			    size_t key_bytes)
{
	struct object *obj;

	HASH_FIND(by_key, cat->objects, key, key_bytes, obj);
	return obj;
}

struct object *catalog_add(struct catalog *cat, const char *key,
			   size_t key_bytes)
{
	struct object *obj = calloc(1, sizeof(*obj) + key_bytes + 1);

	if (obj == NULL)
		return NULL;
	memcpy(obj->key, key, key_bytes);
	obj->key_bytes = (uint32_t)key_bytes;
	HASH_ADD(by_key, cat->objects, key, key_bytes, obj);
	return obj;
}

struct object *catalog_find_no(struct catalog *cat, uint64_t object_no)
{
	struct object *obj;

	HASH_FIND(by_no, cat->numbers, &object_no, sizeof(object_no), obj);
	return obj;
}

/* It has no record any more, or is no longer in the catalog. */
static void drop_number(struct catalog *cat, struct object *obj)
{
	if (obj->object_no != 0)
		HASH_DELETE(by_no, cat->numbers, obj);
	obj->object_no = 0;
}

/* Its record, new or of another version, has this number. */
static void set_number(struct catalog *cat, struct object *obj)
{
	if (obj->object_no == obj->record->object_no)
		return;
	drop_number(cat, obj);
	obj->object_no = obj->record->object_no;
	HASH_ADD(by_no, cat->numbers, object_no, sizeof(obj->object_no), obj);
}

static void free_object(struct catalog *cat, struct object *obj)
{
	must(obj->object_no == 0);
	cat->unseen_bytes -= obj->unseen.bytes;
	spanset_fini(&obj->unseen);
	must(obj->count == 0);
	free(obj->extents);
	free(obj->record);
	free(obj);
}

/* ---- what was fetched ahead ---- */

void catalog_note_ahead(struct catalog *cat, struct object *obj,
			struct span span)
{
	uint64_t added;

	if (spanset_add(&obj->unseen, span, &added) < 0)
		return; /* scattered too widely: not counted */
	cat->unseen_bytes += added;
	stat_add(cat->opts.stats, STAT_prefetch_bytes, added);
}

void catalog_note_seen(struct catalog *cat, struct object *obj,
		       struct span span)
{
	uint64_t seen = spanset_remove(&obj->unseen, span);

	cat->unseen_bytes -= seen;
	obj->useful_bytes += seen;
	stat_add(cat->opts.stats, STAT_prefetch_useful_bytes, seen);
}

/* They are gone without having been seen. */
static void note_wasted(struct catalog *cat, struct object *obj,
			struct span span)
{
	uint64_t wasted = spanset_remove(&obj->unseen, span);

	cat->unseen_bytes -= wasted;
	obj->wasted_bytes += wasted;
	stat_add(cat->opts.stats, STAT_prefetch_wasted_bytes, wasted);
}

/* What was stored of obj, as an object of its own. */
static int retire(struct catalog *cat, struct object *obj)
{
	struct object *old = calloc(1, sizeof(*old) + obj->key_bytes + 1);

	if (old == NULL)
		return -ENOMEM;
	memcpy(old->key, obj->key, obj->key_bytes);
	old->key_bytes = obj->key_bytes;
	old->retired = true;
	old->record = obj->record;
	old->extents = obj->extents;
	old->count = obj->count;
	old->capacity = obj->capacity;
	old->stored_bytes = obj->stored_bytes;
	old->unseen = obj->unseen;
	for (size_t n = 0; n < old->count; n++)
		old->extents[n]->object = old;
	obj->record = NULL;
	obj->extents = NULL;
	obj->count = obj->capacity = 0;
	obj->stored_bytes = 0;
	obj->unseen = (struct spanset){ 0 };
	obj->start_count = 0;
	TAILQ_INSERT_TAIL(&cat->retired, old, retired_link);
	return 0;
}

int catalog_set_record(struct catalog *cat, struct object *obj,
		       const struct object_record *record, bool other_version)
{
	struct object_record *copy = calloc(1, sizeof(*copy));
	bool was_kept;
	int rc;

	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, record, object_record_bytes(record));
	if (obj->record != NULL) {
		copy->object_no = obj->record->object_no;
		copy->generation =
			obj->record->generation + (other_version ? 1 : 0);
		if (!other_version)
			copy->chunk_bytes = obj->record->chunk_bytes;
	} else {
		copy->object_no =
			atomic_fetch_add(&cat->opts.seg->next_object_no, 1);
		copy->generation = 1;
	}
	if (obj->record != NULL && other_version) {
		rc = retire(cat, obj);
		if (rc < 0) {
			free(copy);
			return rc;
		}
		stat_add(cat->opts.stats, STAT_generations, 1);
	}
	free(obj->record);
	obj->record = copy;
	set_number(cat, obj);
	was_kept = obj->kept;
	obj->kept = (copy->flags & OBJECT_NO_STORE) == 0;
	if (!obj->kept) {
		if (was_kept)
			journal_delete_object(cat, obj);
		return 0;
	}
	young_put(cat, obj);
	journal_object(cat, obj, other_version);
	return 0;
}

/* ---- extents ---- */

/* Place of the first extent that ends beyond off. */
static size_t extent_index(const struct object *obj, uint64_t off)
{
	size_t low = 0, high = obj->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (obj->extents[middle]->span.to <= off)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct extent *catalog_extent_at(const struct object *obj, uint64_t off)
{
	size_t n = extent_index(obj, off);

	if (n == obj->count || obj->extents[n]->span.from > off)
		return NULL;
	return obj->extents[n];
}

uint64_t catalog_next_present(const struct object *obj, uint64_t off)
{
	size_t n = extent_index(obj, off);

	if (n == obj->count)
		return SIZE_UNKNOWN;
	return max_u64(off, obj->extents[n]->span.from);
}

size_t catalog_read(const struct catalog *cat, const struct object *obj,
		    uint64_t off, void *buffer, size_t n)
{
	const struct extent *ex = catalog_extent_at(obj, off);
	ssize_t got;
	int fd;

	if (ex == NULL || ex->state == EXTENT_SUSPECT ||
	    ex->state == EXTENT_VERIFYING)
		return 0;
	fd = chunk_open(cat->chunks_fd, ex->run_no, chunk_no_of(ex));
	if (fd < 0)
		return 0;
	got = pread(fd, buffer, min_u64(n, ex->span.to - off),
		    (off_t)(off - ex->span.from));
	close(fd);
	return got > 0 ? (size_t)got : 0;
}

static int insert_extent(struct object *obj, struct extent *ex)
{
	size_t n = extent_index(obj, ex->span.from);

	if (n < obj->count && obj->extents[n]->span.from < ex->span.to)
		return -EEXIST;
	if (obj->count == obj->capacity) {
		size_t capacity = obj->capacity ? obj->capacity * 2 : 8;
		struct extent **extents =
			realloc(obj->extents, capacity * sizeof(*extents));

		if (extents == NULL)
			return -ENOMEM;
		obj->extents = extents;
		obj->capacity = capacity;
	}
	memmove(&obj->extents[n + 1], &obj->extents[n],
		(obj->count - n) * sizeof(*obj->extents));
	obj->extents[n] = ex;
	obj->count++;
	return 0;
}

/* The same number when the chunk is fetched again, by whatever run. */
static uint64_t identity_of(const struct extent *ex)
{
	uint64_t hash = ex->object->record->object_no * 0x9e3779b97f4a7c15u;

	hash = (hash ^ (hash >> 32)) + chunk_no_of(ex);
	hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9u;
	hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebu;
	return hash ^ (hash >> 31);
}

static bool overlap(struct span a, struct span b)
{
	return a.from < b.to && b.from < a.to;
}

static enum eviction_weight weight_of(const struct extent *ex)
{
	const struct object *obj = ex->object;

	if (ex->span.from == 0)
		return EVICTION_START;
	for (uint32_t n = 0; n < obj->start_count; n++)
		if (overlap(obj->starts[n], ex->span))
			return EVICTION_START;
	return EVICTION_PLAIN;
}

void catalog_mark_start(struct catalog *cat, struct object *obj,
			struct span span)
{
	bool known = false;

	if (span.from >= span.to)
		return;
	for (uint32_t n = 0; n < obj->start_count; n++)
		known |= obj->starts[n].from <= span.from &&
			 obj->starts[n].to >= span.to;
	if (!known && obj->start_count < OBJECT_STARTS)
		obj->starts[obj->start_count++] = span;
	for (size_t n = extent_index(obj, span.from);
	     n < obj->count && obj->extents[n]->span.from < span.to; n++)
		eviction_mark_start(&cat->eviction, &obj->extents[n]->eviction);
}

static int new_extent(struct catalog *cat, struct object *obj,
		      const struct extent *like, struct extent **out)
{
	struct extent *ex = malloc(sizeof(*ex));
	int rc;

	if (ex == NULL)
		return -ENOMEM;
	*ex = *like;
	ex->object = obj;
	rc = insert_extent(obj, ex);
	if (rc < 0) {
		free(ex);
		return rc;
	}
	TAILQ_INSERT_TAIL(&cat->all, ex, all);
	eviction_add(&cat->eviction, &ex->eviction, identity_of(ex),
		     disk_bytes(ex), weight_of(ex));
	obj->stored_bytes += span_len(ex->span);
	cat->extents++;
	*out = ex;
	return 0;
}

int catalog_add_extent(struct catalog *cat, struct object *obj,
		       struct span span, uint64_t run_no, uint32_t crc,
		       struct inflight *inflight)
{
	struct extent like = { .span = span,
			       .run_no = run_no,
			       .crc = crc,
			       .epoch = cat->epoch,
			       .seen_s = (uint32_t)(cat->now_ms / 1000),
			       .state = EXTENT_COMMITTING,
			       .inflight = inflight };
	struct extent *ex;
	int rc;

	must(span.from < span.to);
	must(span.from / obj->record->chunk_bytes ==
	     (span.to - 1) / obj->record->chunk_bytes);
	rc = new_extent(cat, obj, &like, &ex);
	if (rc < 0)
		return rc;
	if (inflight != NULL)
		inflight_commit_begin(inflight);
	journal_extent(cat, ex);
	return 0;
}

static void uncheck(struct catalog *cat, struct extent *ex)
{
	if (!ex->to_check)
		return;
	TAILQ_REMOVE(&cat->checks, ex, check);
	ex->to_check = false;
	cat->checks_left--;
}

/* The file is unlinked at once, so that its space can be used; the record
 * follows.  A crash in between leaves a record without a file, which reads
 * as absent. */
static void drop_extent(struct catalog *cat, struct extent *ex)
{
	struct object *obj = ex->object;
	size_t n = extent_index(obj, ex->span.from);

	must(n < obj->count && obj->extents[n] == ex);
	if (ex->state == EXTENT_COMMITTING || ex->state == EXTENT_VERIFYING) {
		ex->doomed = true; /* the journal still refers to it */
		return;
	}
	uncheck(cat, ex);
	note_wasted(cat, obj, ex->span);
	(void)chunk_unlink(cat->chunks_fd, ex->run_no, chunk_no_of(ex));
	journal_drop_extent(cat, ex);
	memmove(&obj->extents[n], &obj->extents[n + 1],
		(obj->count - n - 1) * sizeof(*obj->extents));
	obj->count--;
	obj->stored_bytes -= span_len(ex->span);
	cat->used_bytes -= disk_bytes(ex);
	cat->extents--;
	TAILQ_REMOVE(&cat->all, ex, all);
	eviction_remove(&cat->eviction, &ex->eviction);
	free(ex);
}

void catalog_purge(struct catalog *cat, struct object *obj, bool drop,
		   uint64_t *chunks, uint64_t *bytes)
{
	for (size_t n = obj->count; n-- > 0;) {
		*chunks += 1;
		*bytes += span_len(obj->extents[n]->span);
		drop_extent(cat, obj->extents[n]);
	}
	if (!drop)
		return;
	if (obj->kept && !obj->retired)
		journal_delete_object(cat, obj);
	if (!obj->retired) {
		drop_number(cat, obj);
		HASH_DELETE(by_key, cat->objects, obj);
	}
	if (obj->count == 0) {
		if (obj->retired)
			TAILQ_REMOVE(&cat->retired, obj, retired_link);
		free_object(cat, obj);
	} else if (!obj->retired) { /* doomed extents: wait for the journal */
		obj->retired = true;
		TAILQ_INSERT_TAIL(&cat->retired, obj, retired_link);
	}
}

void catalog_forget(struct catalog *cat, struct object *obj, uint64_t *chunks,
		    uint64_t *bytes)
{
	if (obj->record == NULL)
		return;
	for (size_t n = obj->count; n-- > 0;) {
		*chunks += 1;
		*bytes += span_len(obj->extents[n]->span);
		drop_extent(cat, obj->extents[n]);
	}
	if (obj->kept)
		journal_delete_object(cat, obj);
	obj->kept = false;
	drop_number(cat, obj);
	if (obj->count > 0 && retire(cat, obj) == 0)
		return; /* doomed extents wait for the journal */
	free(obj->record);
	obj->record = NULL;
	obj->start_count = 0;
}

/* ---- space ---- */

static uint32_t last_touch(const struct catalog *cat, const struct extent *ex)
{
	struct segment *seg = cat->opts.seg;
	uint32_t row = segment_touch_row(ex->run_no, chunk_no_of(ex));
	uint32_t last = 0;

	for (uint32_t w = 0; w < SEGMENT_WORKERS; w++) {
		uint32_t at;

		if (atomic_load_explicit(
			    &seg->procs[SEGMENT_PROC_WORKER0 + w].pid,
			    memory_order_relaxed) == 0)
			continue;
		at = atomic_load_explicit(&seg->workers[w].touches[row],
					  memory_order_relaxed);
		if (at > last)
			last = at;
	}
	return last;
}

static struct extent *extent_of(struct eviction_node *node)
{
	return (struct extent *)((char *)node -
				 offsetof(struct extent, eviction));
}

/* What the first viewer reads, a little behind the run that brings it, is no
 * second use: else a film that is read once would look like one in demand. */
static enum eviction_answer ask_extent(void *ctx, struct eviction_node *node)
{
	struct catalog *cat = ctx;
	struct extent *ex = extent_of(node);
	uint32_t touched;

	if (ex->state == EXTENT_COMMITTING || ex->state == EXTENT_VERIFYING)
		return EVICTION_SPARED;
	readers_refresh(&cat->readers, cat->now_ms, READERS_AGE_MS);
	if (readers_need(&cat->readers, ex->object->record->object_no,
			 ex->object->record->generation, ex->span,
			 cat->opts.spare_bytes))
		return EVICTION_SPARED;
	touched = last_touch(cat, ex);
	if (touched < ex->seen_s || touched - ex->seen_s < SAME_VIEW_S)
		return EVICTION_UNUSED;
	ex->seen_s = touched;
	return EVICTION_USED;
}

static bool is_read(const struct catalog *cat, const struct object *obj)
{
	size_t count;

	(void)readers_of(&cat->readers, obj->record->object_no,
			 obj->record->generation, &count);
	return count > 0;
}

/* The record is still true: workers that find it a moment longer do no harm. */
void catalog_forget_empty(struct catalog *cat, struct object *obj)
{
	if (obj->count > 0 || obj->plan != NULL || obj->retired ||
	    obj->record == NULL || obj->record->size_bytes == 0)
		return;
	readers_refresh(&cat->readers, cat->now_ms, READERS_AGE_MS);
	if (is_read(cat, obj))
		return; /* it may want more of this very version */
	if (obj->kept)
		add_op(cat, object_op(JOURNAL_DELETE_OBJECT, obj), false);
	drop_number(cat, obj);
	HASH_DELETE(by_key, cat->objects, obj);
	free_object(cat, obj);
}

static bool evict_one(struct catalog *cat)
{
	struct eviction_node *node =
		eviction_next(&cat->eviction, ask_extent, cat);
	struct object *obj;
	struct extent *ex;

	if (node == NULL)
		return false;
	ex = extent_of(node);
	obj = ex->object;
	stat_add(cat->opts.stats, STAT_evicted_chunks, 1);
	stat_add(cat->opts.stats, STAT_evicted_bytes, span_len(ex->span));
	drop_extent(cat, ex);
	catalog_forget_empty(cat, obj);
	return true;
}

int catalog_reserve(struct catalog *cat, uint64_t bytes)
{
	if (cat->disk_bad_ms > cat->now_ms)
		return -ENOSPC;
	while (cat->used_bytes + bytes > cat->opts.size_bytes)
		if (!evict_one(cat))
			return -ENOSPC;
	cat->used_bytes += bytes;
	return 0;
}

void catalog_release(struct catalog *cat, uint64_t bytes)
{
	must(cat->used_bytes >= bytes);
	cat->used_bytes -= bytes;
}

/* ---- CRC ---- */

void catalog_verify(struct catalog *cat, struct extent *ex)
{
	struct journal_op *op;

	if (ex->state != EXTENT_SUSPECT && ex->state != EXTENT_READY)
		return;
	op = journal_new(JOURNAL_VERIFY);
	if (op == NULL)
		return;
	op->extent.run_no = ex->run_no;
	op->extent.to_off = ex->span.to;
	op->extent.crc = ex->crc;
	op->from_off = ex->span.from;
	op->chunk_no = chunk_no_of(ex);
	op->owner = ex;
	ex->state = EXTENT_VERIFYING;
	cat->verify_left++;
	add_op(cat, op, true);
}

uint64_t catalog_verify_all(struct catalog *cat)
{
	struct extent *ex;

	cat->verify_good = cat->verify_bad = 0;
	TAILQ_FOREACH (ex, &cat->all, all) {
		if (ex->to_check)
			continue;
		ex->to_check = true;
		TAILQ_INSERT_TAIL(&cat->checks, ex, check);
		cat->checks_left++;
	}
	return cat->checks_left;
}

static void feed_checks(struct catalog *cat)
{
	struct extent *ex;

	while (cat->verify_left < CHECKS_AT_ONCE &&
	       (ex = TAILQ_FIRST(&cat->checks)) != NULL) {
		uncheck(cat, ex);
		catalog_verify(cat, ex);
	}
}

void catalog_check_file(struct catalog *cat, struct extent *ex)
{
	int64_t bytes;

	if (ex->state != EXTENT_READY && ex->state != EXTENT_SUSPECT)
		return;
	bytes = chunk_size(cat->chunks_fd, ex->run_no, chunk_no_of(ex));
	if (bytes >= 0 && (uint64_t)bytes >= span_len(ex->span))
		return;
	log_warning("ev=chunk_damaged key=%s from=%llu why=%s", ex->object->key,
		    (unsigned long long)ex->span.from,
		    bytes < 0 ? "gone" : "short");
	stat_add(cat->opts.stats, STAT_damaged_chunks, 1);
	drop_extent(cat, ex);
}

/* ---- what the journal has done ---- */

static void disk_failed(struct catalog *cat, int rc)
{
	stat_add(cat->opts.stats, STAT_disk_errors, 1);
	cat->disk_bad_ms = cat->now_ms + DISK_BAD_MS;
	log_error("ev=disk_failed what=index errno=%d unstored_ms=%d", -rc,
		  DISK_BAD_MS);
}

static void extent_committed(struct catalog *cat, struct extent *ex, int rc)
{
	struct object *obj = ex->object;

	ex->state = EXTENT_READY;
	if (ex->inflight != NULL)
		inflight_commit_done(ex->inflight);
	ex->inflight = NULL;
	if (rc < 0) {
		disk_failed(cat, rc);
		ex->doomed = true;
	}
	if (ex->doomed)
		drop_extent(cat, ex);
	tell(cat, obj);
}

static void extent_verified(struct catalog *cat, struct extent *ex, int rc)
{
	struct object *obj = ex->object;

	cat->verify_left--;
	if (rc < 0) {
		log_warning("ev=chunk_damaged key=%s from=%llu why=%s",
			    obj->key, (unsigned long long)ex->span.from,
			    rc == -EUCLEAN ? "crc" : strerror(-rc));
		stat_add(cat->opts.stats, STAT_damaged_chunks, 1);
		cat->verify_bad++;
		ex->state = EXTENT_SUSPECT;
		drop_extent(cat, ex);
		tell(cat, obj);
		return;
	}
	stat_add(cat->opts.stats, STAT_verified_chunks, 1);
	cat->verify_good++;
	if (ex->doomed || ex->epoch == cat->epoch) {
		ex->state = EXTENT_READY;
		if (ex->doomed)
			drop_extent(cat, ex);
		tell(cat, obj);
		return;
	}
	ex->epoch = cat->epoch;
	ex->state = EXTENT_COMMITTING;
	journal_extent(cat, ex);
}

static void object_committed(struct catalog *cat, struct journal_op *op)
{
	struct object *obj = catalog_find(cat, op->key, op->key_bytes);

	young_drop(cat, (uint32_t)op->number);
	if (obj != NULL && obj->young == (uint32_t)op->number)
		obj->young = 0;
	if (op->rc < 0)
		disk_failed(cat, op->rc);
}

void catalog_reap(struct catalog *cat)
{
	struct journal_ops done;
	struct journal_op *op;

	TAILQ_INIT(&done);
	journal_reap(cat->journal, &done);
	while ((op = TAILQ_FIRST(&done)) != NULL) {
		TAILQ_REMOVE(&done, op, link);
		if (op->type == JOURNAL_PUT_EXTENT)
			extent_committed(cat, op->owner, op->rc);
		else if (op->type == JOURNAL_VERIFY)
			extent_verified(cat, op->owner, op->rc);
		else if (op->type == JOURNAL_PUT_OBJECT)
			object_committed(cat, op);
		/* failed: the index tells of another version until the next
		 * start, so workers go on asking */
		if (op->changing && op->rc == 0)
			atomic_fetch_sub(&cat->opts.seg->changing, 1);
		journal_free(op);
	}
}

int catalog_bell(const struct catalog *cat)
{
	return journal_bell(cat->journal);
}

static void sweep_retired(struct catalog *cat)
{
	uint64_t chunks = 0, bytes = 0;
	struct object *obj, *next;

	if (TAILQ_EMPTY(&cat->retired))
		return;
	readers_refresh(&cat->readers, cat->now_ms, READERS_AGE_MS);
	for (obj = TAILQ_FIRST(&cat->retired); obj != NULL; obj = next) {
		next = TAILQ_NEXT(obj, retired_link);
		if (!is_read(cat, obj))
			catalog_purge(cat, obj, true, &chunks, &bytes);
	}
}

void catalog_tick(struct catalog *cat, uint64_t now_ms)
{
	struct segment_stats *stats = cat->opts.stats;

	cat->now_ms = now_ms;
	while (cat->used_bytes > cat->opts.size_bytes && evict_one(cat))
		; /* a reload has made the cache smaller */
	if (cat->staging != NULL)
		(void)!fill_flush(cat->staging); /* the next write says it */
	sweep_retired(cat);
	fill_sweep(cat, false);
	feed_checks(cat);
	stat_set(stats, STAT_stored_bytes, cat->used_bytes);
	stat_set(stats, STAT_scratch_bytes, cat->scratch_used);
	stat_set(stats, STAT_prefetch_unseen_bytes, cat->unseen_bytes);
	stat_set(stats, STAT_stored_chunks, cat->extents);
	stat_set(stats, STAT_stored_objects, HASH_CNT(by_key, cat->objects));
}

/* ---- opening ---- */

static bool is_newer(const struct object_record *a,
		     const struct object_record *b)
{
	if (a->object_no != b->object_no)
		return a->object_no > b->object_no;
	if (a->generation != b->generation)
		return a->generation > b->generation;
	return a->stored_s > b->stored_s;
}

static void load_object(void *ctx, const char *key, size_t key_bytes,
			const struct object_record *rec)
{
	struct catalog *cat = ctx;
	struct object *obj = catalog_find(cat, key, key_bytes);

	if (obj == NULL)
		obj = catalog_add(cat, key, key_bytes);
	if (obj == NULL)
		return;
	/* rows of segment.young come in any order: the newest one counts */
	if (obj->record != NULL && is_newer(obj->record, rec))
		return;
	if (obj->record == NULL)
		obj->record = calloc(1, sizeof(*obj->record));
	if (obj->record == NULL)
		return;
	memcpy(obj->record, rec, object_record_bytes(rec));
	set_number(cat, obj);
	obj->kept = true;
	raise_to(&cat->opts.seg->next_object_no, rec->object_no + 1);
}

/* Objects by number, only while the extents are loaded. */
struct load {
	struct catalog *cat;
	struct object **by_no;
	size_t count;
	bool sorted;
	uint64_t orphans;
	uint64_t dangling;
};

static int order_by_no(const void *a, const void *b)
{
	const struct object *const *x = a, *const *y = b;
	uint64_t m = (*x)->record->object_no, n = (*y)->record->object_no;

	return m < n ? -1 : m > n;
}

static struct object *find_no(struct load *ld, uint64_t object_no)
{
	struct object_record record = { .object_no = object_no };
	struct object key = { .record = &record }, *k = &key, **found;

	found = bsearch(&k, ld->by_no, ld->count, sizeof(*ld->by_no),
			order_by_no);
	return found != NULL ? *found : NULL;
}

static int list_by_no(struct load *ld)
{
	struct object *obj, *next;

	ld->by_no = calloc(HASH_CNT(by_key, ld->cat->objects) + 1,
			   sizeof(*ld->by_no));
	if (ld->by_no == NULL)
		return -ENOMEM;
	HASH_ITER (by_key, ld->cat->objects, obj, next)
		if (obj->record != NULL)
			ld->by_no[ld->count++] = obj;
	qsort(ld->by_no, ld->count, sizeof(*ld->by_no), order_by_no);
	return 0;
}

static void only_objects(void *ctx UNUSED, uint64_t object_no UNUSED,
			 uint32_t generation UNUSED, uint64_t from_off UNUSED,
			 const struct extent_record *rec UNUSED)
{
}

static void no_objects(void *ctx UNUSED, const char *key UNUSED,
		       size_t key_bytes UNUSED,
		       const struct object_record *rec UNUSED)
{
}

static void load_extent(void *ctx, uint64_t object_no, uint32_t generation,
			uint64_t from_off, const struct extent_record *rec)
{
	struct load *ld = ctx;
	struct catalog *cat = ld->cat;
	struct object *obj = find_no(ld, object_no);
	struct extent like = { .span = { from_off, rec->to_off },
			       .run_no = rec->run_no,
			       .crc = rec->crc,
			       .epoch = rec->epoch,
			       .state = rec->epoch == cat->epoch
						? EXTENT_READY
						: EXTENT_SUSPECT };
	struct extent *ex;

	raise_to(&cat->opts.seg->next_run_no, rec->run_no + 1);
	if (obj == NULL || obj->record->generation != generation ||
	    from_off / obj->record->chunk_bytes !=
		    (rec->to_off - 1) / obj->record->chunk_bytes ||
	    rec->to_off > obj->record->size_bytes ||
	    new_extent(cat, obj, &like, &ex) < 0) {
		struct journal_op *op = journal_new(JOURNAL_DELETE_EXTENT);

		if (op != NULL)
			extent_key_make(&op->extent_key, object_no, generation,
					from_off);
		add_op(cat, op, false);
		return;
	}
	cat->used_bytes += disk_bytes(ex);
}

/* False: the row says nothing that counts.  Else it stays until its record is
 * committed: a second kill may come before that. */
static bool load_young_row(struct catalog *cat, uint32_t row)
{
	struct segment_young *young = &cat->opts.seg->young[row];
	const char *key = (const char *)young->key;
	struct object_record rec;
	struct object *obj;

	if (young->key_bytes == 0 || young->key_bytes > LAYOUT_KEY_BYTES ||
	    young->record_bytes > sizeof(rec))
		return false;
	memset(&rec, 0, sizeof(rec));
	memcpy(&rec, young->record, young->record_bytes);
	if (!object_record_valid(&rec, young->record_bytes))
		return false;
	load_object(cat, key, young->key_bytes, &rec);
	obj = catalog_find(cat, key, young->key_bytes);
	if (obj == NULL || obj->record == NULL ||
	    obj->record->object_no != rec.object_no ||
	    obj->record->generation != rec.generation ||
	    obj->record->stored_s != rec.stored_s)
		return false; /* a newer one is known */
	obj->young = row + 1;
	journal_object(cat, obj, true);
	return true;
}

static void load_young(struct catalog *cat)
{
	struct segment *seg = cat->opts.seg;

	for (uint32_t n = 0; n < SEGMENT_YOUNG; n++)
		if (atomic_load(&seg->young[n].used) && !load_young_row(cat, n))
			atomic_store(&seg->young[n].used, 0);
}

/* Chunk files of a dead prefetcher's run that are not in the index yet. */
static void adopt_run(struct catalog *cat, struct load *ld, uint32_t row)
{
	struct segment_run *run = &cat->opts.seg->runs[row];
	uint64_t from = atomic_load(&run->from_off);
	uint64_t to = atomic_load(&run->to_off);
	uint64_t run_no = atomic_load(&run->run_no);
	struct object *obj = find_no(ld, atomic_load(&run->object_no));
	struct inflight *in;

	if (obj == NULL || (atomic_load(&run->seq) & 1) != 0 ||
	    (atomic_load(&run->flags) & SEGMENT_RUN_SCRATCH) != 0 ||
	    atomic_load(&run->generation) != obj->record->generation ||
	    atomic_load(&run->chunk_bytes) != obj->record->chunk_bytes ||
	    from >= to || inflight_adopt(&cat->inflight, row, &in) < 0) {
		inflight_clear_row(cat->opts.seg, row);
		return;
	}
	inflight_commit_begin(in);
	while (from < to) {
		uint64_t chunk_no = from / obj->record->chunk_bytes;
		struct span span = {
			from,
			min_u64(to, (chunk_no + 1) * obj->record->chunk_bytes)
		};
		uint32_t crc;

		if (catalog_extent_at(obj, from) == NULL &&
		    chunk_file_crc(cat->chunks_fd, run_no, chunk_no,
				   span_len(span), &crc) == 0 &&
		    catalog_add_extent(cat, obj, span, run_no, crc, in) == 0)
			cat->used_bytes += chunk_disk_bytes(span_len(span));
		from = span.to;
	}
	inflight_commit_done(in); /* without new records this frees it */
	log_info("ev=run_adopted key=%s run=%llu to=%llu", obj->key,
		 (unsigned long long)run_no, (unsigned long long)to);
}

static void adopt_runs(struct catalog *cat, struct load *ld)
{
	struct segment *seg = cat->opts.seg;

	for (uint32_t n = 0; n < SEGMENT_RUNS; n++)
		if (atomic_load(&seg->runs[n].object_no) != 0)
			adopt_run(cat, ld, n);
}

/* Sorted list of the files that belong to an extent. */
struct file {
	uint64_t run_no;
	uint64_t chunk_no;
	struct extent *extent;
	bool found;
};

struct files {
	struct catalog *cat;
	struct file *files;
	size_t count;
	uint64_t orphans;
};

static int order_files(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	if (x->run_no != y->run_no)
		return x->run_no < y->run_no ? -1 : 1;
	return x->chunk_no < y->chunk_no ? -1 : x->chunk_no > y->chunk_no;
}

/* More than its extent says was written and not published when the writer was
 * killed; it would take space that nobody counts. */
static bool make_fit(const struct catalog *cat, const struct extent *ex,
		     uint64_t bytes)
{
	if (bytes == span_len(ex->span))
		return true;
	return bytes > span_len(ex->span) &&
	       chunk_cut(cat->chunks_fd, ex->run_no, chunk_no_of(ex),
			 span_len(ex->span)) == 0;
}

static bool found_file(void *ctx, uint64_t run_no, uint64_t chunk_no,
		       uint64_t bytes)
{
	struct files *fs = ctx;
	struct file key = { run_no, chunk_no, NULL, false }, *file;

	raise_to(&fs->cat->opts.seg->next_run_no, run_no + 1);
	file = fs->count == 0 ? NULL
			      : bsearch(&key, fs->files, fs->count,
					sizeof(*fs->files), order_files);
	if (file != NULL && make_fit(fs->cat, file->extent, bytes)) {
		file->found = true;
		return true;
	}
	fs->orphans += file == NULL;
	return false;
}

static void requeue_loaded(struct catalog *cat, struct extent *ex)
{
	eviction_remove(&cat->eviction, &ex->eviction);
	eviction_add_known(&cat->eviction, &ex->eviction, identity_of(ex),
			   disk_bytes(ex), weight_of(ex));
}

/* Files without a record go; records without a file go. */
static int match_files(struct catalog *cat)
{
	struct files fs = { .cat = cat };
	struct extent *ex;
	uint64_t gone = 0;
	int rc;

	fs.files = calloc(cat->extents + 1, sizeof(*fs.files));
	if (fs.files == NULL)
		return -ENOMEM;
	TAILQ_FOREACH (ex, &cat->all, all)
		fs.files[fs.count++] =
			(struct file){ ex->run_no, chunk_no_of(ex), ex, false };
	qsort(fs.files, fs.count, sizeof(*fs.files), order_files);
	/* they were loaded by object; the oldest run goes first */
	for (size_t n = 0; n < fs.count; n++)
		requeue_loaded(cat, fs.files[n].extent);
	rc = chunk_scan(cat->chunks_fd, found_file, &fs);
	for (size_t n = 0; rc == 0 && n < fs.count; n++)
		if (!fs.files[n].found) {
			gone++;
			drop_extent(cat, fs.files[n].extent);
		}
	free(fs.files);
	if (fs.orphans > 0 || gone > 0)
		log_info("ev=store_cleaned orphans=%llu gone=%llu",
			 (unsigned long long)fs.orphans,
			 (unsigned long long)gone);
	fs = (struct files){ .cat = cat };
	return rc < 0 ? rc : chunk_scan(cat->scratch_fd, found_file, &fs);
}

/* The kernel's boot id as a number: after a reboot the page cache is gone. */
static uint64_t boot_number(void)
{
	uint64_t hash = 14695981039346656037u;
	char id[64];
	ssize_t n;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return (uint64_t)getpid(); /* never equal: all is checked */
	n = read(fd, id, sizeof(id));
	close(fd);
	for (ssize_t i = 0; i < n; i++)
		hash = (hash ^ (uint8_t)id[i]) * 1099511628211u;
	return hash;
}

static int put_numbers(struct catalog *cat, bool clean)
{
	int rc = index_begin_write(cat->index);

	if (rc < 0)
		return rc;
	rc = index_put_number(cat->index, "epoch", cat->epoch);
	if (rc == 0)
		rc = index_put_number(cat->index, "boot", boot_number());
	if (rc == 0)
		rc = index_put_number(cat->index, "clean", clean);
	if (rc == 0)
		rc = index_put_number(
			cat->index, "object_no",
			atomic_load(&cat->opts.seg->next_object_no));
	if (rc < 0) {
		index_abort(cat->index);
		return rc;
	}
	return index_commit(cat->index);
}

/* After an unclean stop chunk files are of an older epoch. */
static int begin_epoch(struct catalog *cat)
{
	struct segment *seg = cat->opts.seg;
	uint64_t epoch = 1, boot = 0, clean = 0, object_no = 1;
	int rc = index_begin_read(cat->index);

	if (rc < 0)
		return rc;
	(void)index_get_number(cat->index, "epoch", &epoch);
	(void)index_get_number(cat->index, "boot", &boot);
	(void)index_get_number(cat->index, "clean", &clean);
	(void)index_get_number(cat->index, "object_no", &object_no);
	index_end_read(cat->index);
	raise_to(&seg->next_object_no, max_u64(object_no, 1));
	raise_to(&seg->next_run_no, 1);
	cat->epoch = (uint32_t)epoch;
	if (atomic_load(&seg->store_epoch) != 0)
		cat->epoch = atomic_load(&seg->store_epoch);
	else if (clean != 1 || boot != boot_number())
		cat->epoch++;
	if (cat->epoch == 0)
		cat->epoch = 1;
	atomic_store(&seg->store_epoch, cat->epoch);
	return put_numbers(cat, false);
}

/*
 * A count of loads that were begun and not ended, in a file: an index so
 * damaged that reading it kills the process is given up after three.
 */
static unsigned load_attempts(struct catalog *cat, int change)
{
	char path[PATH_BYTES];
	unsigned char count = 0;
	int fd = open(path_of(cat, "loading", path),
		      O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return 0;
	if (pread(fd, &count, 1, 0) != 1 || change == 0)
		count = 0;
	if (change > 0)
		count++;
	if (pwrite(fd, &count, 1, 0) != 1)
		count = 0;
	close(fd);
	return count;
}

static int open_index(struct catalog *cat)
{
	char path[PATH_BYTES];
	int rc = 0;

	path_of(cat, "index", path);
	if (load_attempts(cat, 1) > LOAD_ATTEMPTS)
		rc = -EUCLEAN;
	if (rc == 0)
		rc = index_open(&cat->index, path, cat->opts.index_bytes, true);
	if (rc != -EUCLEAN)
		return rc;
	log_error("ev=index_damaged path=%s action=empty", path);
	rc = index_remove(path);
	if (rc == 0)
		rc = index_open(&cat->index, path, cat->opts.index_bytes, true);
	return rc;
}

static int load_all(struct catalog *cat)
{
	struct load ld = { .cat = cat };
	int rc;

	/* what a predecessor was about to change: load_young() says it anew,
	 * and what it was about to delete is there again */
	atomic_store(&cat->opts.seg->changing, 0);
	rc = index_load(cat->index, load_object, only_objects, cat);

	if (rc < 0)
		return rc;
	load_young(cat);
	rc = list_by_no(&ld);
	if (rc == 0)
		rc = index_load(cat->index, no_objects, load_extent, &ld);
	if (rc == 0)
		adopt_runs(cat, &ld);
	free(ld.by_no);
	if (rc == 0)
		rc = match_files(cat);
	return rc;
}

static int open_folders(struct catalog *cat)
{
	char path[PATH_BYTES];

	cat->lock_fd = open(path_of(cat, "lock", path),
			    O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (cat->lock_fd < 0)
		return -errno;
	if (flock(cat->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	cat->chunks_fd = chunk_folder_open(path_of(cat, "chunks", path), true);
	if (cat->chunks_fd < 0)
		return cat->chunks_fd;
	chunk_scratch_path(path, sizeof(path), cat->opts.scratch,
			   cat->opts.path);
	cat->scratch_fd = chunk_folder_open(path, true);
	return cat->scratch_fd < 0 ? cat->scratch_fd : 0;
}

static void free_catalog(struct catalog *cat)
{
	struct object *obj, *next;
	struct extent *ex;

	while ((ex = TAILQ_FIRST(&cat->all)) != NULL) {
		TAILQ_REMOVE(&cat->all, ex, all);
		free(ex);
	}
	HASH_ITER (by_key, cat->objects, obj, next) {
		HASH_DELETE(by_key, cat->objects, obj);
		drop_number(cat, obj);
		obj->count = 0;
		free_object(cat, obj);
	}
	while ((obj = TAILQ_FIRST(&cat->retired)) != NULL) {
		TAILQ_REMOVE(&cat->retired, obj, retired_link);
		obj->count = 0;
		free_object(cat, obj);
	}
	eviction_fini(&cat->eviction);
	readers_fini(&cat->readers);
	index_close(cat->index);
	if (cat->scratch_fd >= 0)
		close(cat->scratch_fd);
	if (cat->chunks_fd >= 0)
		close(cat->chunks_fd);
	if (cat->lock_fd >= 0)
		close(cat->lock_fd);
	free(cat->stage);
	free(cat);
}

int catalog_open(struct catalog **out, const struct catalog_opts *opts,
		 uint64_t now_ms)
{
	struct catalog *cat = calloc(1, sizeof(*cat));
	int rc;

	if (cat == NULL)
		return -ENOMEM;
	cat->opts = *opts;
	cat->now_ms = now_ms;
	cat->chunks_fd = cat->scratch_fd = cat->lock_fd = -1;
	TAILQ_INIT(&cat->all);
	TAILQ_INIT(&cat->retired);
	TAILQ_INIT(&cat->held);
	TAILQ_INIT(&cat->checks);
	inflight_init(&cat->inflight, opts->seg, opts->bells);
	readers_init(&cat->readers, opts->seg);
	rc = eviction_init(&cat->eviction, opts->size_bytes,
			   opts->size_bytes / GHOST_BYTES);
	cat->stage = malloc(FILL_STAGE_BYTES);
	if (cat->stage == NULL)
		rc = -ENOMEM;
	if (rc == 0)
		rc = open_folders(cat);
	if (rc == 0)
		rc = open_index(cat);
	if (rc == 0)
		rc = begin_epoch(cat);
	if (rc == 0)
		rc = journal_open(&cat->journal, cat->index, cat->chunks_fd);
	if (rc < 0)
		goto failed;
	rc = load_all(cat);
	if (rc < 0) {
		journal_end(cat->journal);
		catalog_reap(cat);
		journal_close(cat->journal);
		goto failed;
	}
	(void)load_attempts(cat, 0);
	*out = cat;
	return 0;

failed:
	free_catalog(cat);
	return rc;
}

void catalog_close(struct catalog *cat)
{
	int rc;

	if (cat == NULL)
		return;
	fill_sweep(cat, true);
	journal_end(cat->journal);
	cat->opts.changed = NULL;
	catalog_reap(cat); /* gives the last runs' rows back */
	journal_close(cat->journal);
	rc = put_numbers(cat, true);
	if (rc < 0)
		log_error("ev=index_close_failed errno=%d", -rc);
	free_catalog(cat);
}

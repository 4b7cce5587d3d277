#include "store/resolution.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/segment.h"
#include "store/layout.h"
#include "store/lmdb_util.h"
#include "util/log.h"

#define RECORD_VERSION 2u
#define RECORDS_MAX    20000u
#define OPENINGS_MAX   3u
#define FIRST_BYTES    4096u

/* ---- records ---- */

const char *resolution_title(const struct resolution *r)
{
	return (const char *)r + r->title_off;
}

const char *rendition_text(const struct resolution *r,
			   const struct rendition *rendition,
			   enum rendition_text which)
{
	return (const char *)r + rendition->text_off[which];
}

static size_t texts_from(uint32_t count)
{
	return sizeof(struct resolution) + count * sizeof(struct rendition);
}

/* The last byte of the record is NUL, so a text that begins inside ends
 * inside. */
static bool text_is_inside(const struct resolution *r, uint32_t off)
{
	return off >= texts_from(r->count) && off < r->bytes;
}

static bool formats_are_good(const struct resolution *r)
{
	for (uint32_t n = 0; n < r->count; n++) {
		const char *format =
			rendition_text(r, &r->renditions[n], RENDITION_FORMAT);

		if (!quality_format_valid(format, strlen(format)))
			return false;
		for (uint32_t m = 0; m < n; m++)
			if (strcmp(format, rendition_text(r, &r->renditions[m],
							  RENDITION_FORMAT)) ==
			    0)
				return false;
	}
	return true;
}

bool resolution_valid(const void *data, size_t bytes)
{
	const struct resolution *r = data;

	if (bytes < sizeof(*r) || bytes > RESOLUTION_BYTES_MAX ||
	    r->version != RECORD_VERSION || r->bytes != bytes ||
	    r->count == 0 || r->count > RESOLUTION_RENDITIONS_MAX ||
	    texts_from(r->count) >= bytes ||
	    ((const char *)data)[bytes - 1] != '\0' ||
	    !text_is_inside(r, r->title_off))
		return false;
	for (uint32_t n = 0; n < r->count; n++)
		for (int t = 0; t < RENDITION_TEXTS; t++)
			if (!text_is_inside(r, r->renditions[n].text_off[t]))
				return false;
	return formats_are_good(r);
}

const struct rendition *resolution_find_format(const struct resolution *r,
					       const char *format,
					       size_t format_bytes)
{
	for (uint32_t n = 0; n < r->count; n++) {
		const char *text =
			rendition_text(r, &r->renditions[n], RENDITION_FORMAT);

		if (strlen(text) == format_bytes &&
		    memcmp(text, format, format_bytes) == 0)
			return &r->renditions[n];
	}
	return NULL;
}

/* ---- picking ---- */

/* Of two that are as good by their height: is a the better one? */
static bool is_preferred(const struct resolution *r, const struct rendition *a,
			 const struct rendition *b)
{
	bool audio_a = (a->flags & RENDITION_AUDIO) != 0;
	bool audio_b = (b->flags & RENDITION_AUDIO) != 0;
	bool mp4_a, mp4_b;

	if (audio_a != audio_b)
		return audio_a;
	mp4_a = strcmp(rendition_text(r, a, RENDITION_CONTAINER), "mp4") == 0;
	mp4_b = strcmp(rendition_text(r, b, RENDITION_CONTAINER), "mp4") == 0;
	if (mp4_a != mp4_b)
		return mp4_a;
	return a->bitrate_bps > b->bitrate_bps;
}

static const struct rendition *pick_audio(const struct resolution *r)
{
	const struct rendition *found = NULL;

	for (uint32_t n = 0; n < r->count; n++) {
		const struct rendition *one = &r->renditions[n];

		if ((one->flags & RENDITION_VIDEO) != 0 ||
		    (one->flags & RENDITION_AUDIO) == 0)
			continue;
		if (found == NULL || is_preferred(r, one, found))
			found = one;
	}
	return found;
}

/* What is not known to be without a picture; of these, when any has sound
 * and picture, only those that have. */
static bool is_candidate(const struct rendition *one, bool with_audio)
{
	if ((one->flags & RENDITION_VIDEO) == 0 &&
	    (one->flags & RENDITION_AUDIO) != 0)
		return false;
	return !with_audio || (one->flags & RENDITION_AUDIO) != 0;
}

static bool any_with_both(const struct resolution *r)
{
	for (uint32_t n = 0; n < r->count; n++)
		if ((r->renditions[n].flags &
		     (RENDITION_VIDEO | RENDITION_AUDIO)) ==
		    (RENDITION_VIDEO | RENDITION_AUDIO))
			return true;
	return false;
}

static int32_t number_of(const struct rendition *one)
{
	return (int32_t)min_u64(one->height, INT32_MAX - 1);
}

static const struct rendition *pick_video(const struct resolution *r,
					  int32_t wanted)
{
	bool with_audio = any_with_both(r);
	const struct rendition *found = NULL;

	for (uint32_t n = 0; n < r->count; n++) {
		const struct rendition *one = &r->renditions[n];
		int32_t best = found != NULL ? number_of(found) : -1;

		if (!is_candidate(one, with_audio))
			continue;
		if (number_of(one) == best
			    ? is_preferred(r, one, found)
			    : quality_nearer(number_of(one), best, wanted))
			found = one;
	}
	return found;
}

const struct rendition *resolution_pick(const struct resolution *r,
					const char *quality, bool *exact)
{
	int32_t wanted = quality_number(quality, strlen(quality));
	const struct rendition *found;
	bool named =
		strcmp(quality, "best") == 0 || strcmp(quality, "worst") == 0;

	if (exact != NULL)
		*exact = true;
	if (strcmp(quality, "audio") == 0)
		return pick_audio(r);
	if (named)
		wanted = quality[0] == 'b' ? INT32_MAX : 0;
	if (wanted < 0)
		return NULL;
	found = pick_video(r, wanted);
	/* sound alone, for who wants whatever there is */
	if (found == NULL && named)
		found = pick_audio(r);
	if (exact != NULL && found != NULL && !named)
		*exact = number_of(found) == wanted;
	return found;
}

/* ---- building ---- */

static int grow(struct resolution_builder *b, size_t bytes)
{
	size_t capacity = b->capacity;
	struct resolution *more;

	if (bytes > RESOLUTION_BYTES_MAX)
		return -ENOSPC;
	while (capacity < bytes)
		capacity *= 2;
	if (capacity == b->capacity)
		return 0;
	more = realloc(b->record, capacity);
	if (more == NULL)
		return -ENOMEM;
	b->record = more;
	b->capacity = capacity;
	return 0;
}

/* Texts go to the end; renditions are kept before them by moving the texts
 * once, in resolution_end(): until then offsets count from texts_from(max). */
static int add_text(struct resolution_builder *b, const char *text,
		    uint32_t *off)
{
	size_t bytes = text != NULL ? strlen(text) + 1 : 1;
	int rc = grow(b, (size_t)b->record->bytes + bytes);

	if (rc < 0)
		return rc;
	memcpy((char *)b->record + b->record->bytes, text != NULL ? text : "",
	       bytes);
	*off = b->record->bytes;
	b->record->bytes += (uint32_t)bytes;
	return 0;
}

void resolution_begin(struct resolution_builder *b, const char *title,
		      uint64_t duration_ms)
{
	size_t first = texts_from(RESOLUTION_RENDITIONS_MAX);
	uint32_t title_off = 0;

	*b = (struct resolution_builder){ .capacity = first + FIRST_BYTES };
	b->record = calloc(1, b->capacity);
	if (b->record == NULL) {
		b->error = -ENOMEM;
		return;
	}
	b->record->version = RECORD_VERSION;
	b->record->bytes = (uint32_t)first;
	b->record->duration_ms = duration_ms;
	b->error = add_text(b, title, &title_off);
	b->record->title_off = title_off;
}

int resolution_add(struct resolution_builder *b,
		   const struct rendition_facts *facts)
{
	const char *format = facts->text[RENDITION_FORMAT];
	struct rendition one = { .size_bytes = facts->size_bytes,
				 .bitrate_bps = facts->bitrate_bps,
				 .width = facts->width,
				 .height = facts->height,
				 .flags = facts->flags };

	if (b->error < 0)
		return b->error;
	if (format == NULL || !quality_format_valid(format, strlen(format)))
		return -EINVAL;
	if (b->record->count == RESOLUTION_RENDITIONS_MAX)
		return -ENOSPC;
	if (resolution_find_format(b->record, format, strlen(format)) != NULL)
		return -EEXIST;
	for (int t = 0; t < RENDITION_TEXTS; t++) {
		int rc = add_text(b, facts->text[t], &one.text_off[t]);

		if (rc < 0) {
			b->error = rc;
			return rc;
		}
	}
	b->record->renditions[b->record->count++] = one;
	return 0;
}

int resolution_end(struct resolution_builder *b, struct resolution **out)
{
	struct resolution *r = b->record;
	uint32_t gap;

	if (b->error < 0 || r->count == 0) {
		int rc = b->error < 0 ? b->error : -ENOENT;

		resolution_abort(b);
		return rc;
	}
	gap = (uint32_t)(texts_from(RESOLUTION_RENDITIONS_MAX) -
			 texts_from(r->count));
	memmove((char *)r + texts_from(r->count),
		(char *)r + texts_from(RESOLUTION_RENDITIONS_MAX),
		r->bytes - texts_from(RESOLUTION_RENDITIONS_MAX));
	r->bytes -= gap;
	r->title_off -= gap;
	for (uint32_t n = 0; n < r->count; n++)
		for (int t = 0; t < RENDITION_TEXTS; t++)
			r->renditions[n].text_off[t] -= gap;
	*out = r;
	b->record = NULL;
	return 0;
}

void resolution_abort(struct resolution_builder *b)
{
	free(b->record);
	b->record = NULL;
}

/* ---- the table ---- */

struct resolutions {
	MDB_env *env;
	MDB_dbi records;
	uint64_t map_bytes;
	MDB_txn *read; /* kept and renewed */
	bool reading;
	/* LMDB aligns values to two bytes only */
	struct resolution *found;
	size_t found_bytes;
};

static int check_map(struct resolutions *rs, const char *folder)
{
	int rc = lmdb_check_file(rs->env, folder);
	MDB_envinfo info;

	if (rc < 0)
		return rc;
	if (mdb_env_info(rs->env, &info) != 0)
		return -EIO;
	rs->map_bytes = info.me_mapsize; /* of a larger file: the file's */
	return 0;
}

static int open_table(struct resolutions *rs, bool writer)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(rs->env, NULL, writer ? 0 : MDB_RDONLY, &txn);

	if (rc != 0)
		return lmdb_errno(rc);
	rc = mdb_dbi_open(txn, "resolutions", writer ? MDB_CREATE : 0,
			  &rs->records);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return lmdb_errno(rc);
	}
	return lmdb_errno(mdb_txn_commit(txn));
}

static int open_env(struct resolutions **out, const char *folder,
		    uint64_t map_bytes, bool writer)
{
	struct resolutions *rs = calloc(1, sizeof(*rs));
	int rc;

	if (rs == NULL)
		return -ENOMEM;
	rc = lmdb_errno(mdb_env_create(&rs->env));
	if (rc < 0)
		goto no_env;
	if (mdb_env_set_mapsize(rs->env, map_bytes) != 0 ||
	    mdb_env_set_maxdbs(rs->env, 2) != 0 ||
	    mdb_env_set_maxreaders(rs->env, 2 * SEGMENT_WORKERS) != 0) {
		rc = -EINVAL;
		goto no_open;
	}
	/* others of its group read it, and LMDB's readers write their slots */
	rc = lmdb_errno(mdb_env_open(
		rs->env, folder,
		MDB_NOTLS | MDB_NORDAHEAD | (writer ? 0 : MDB_RDONLY), 0660));
	if (rc == 0)
		rc = check_map(rs, folder);
	if (rc == 0)
		rc = open_table(rs, writer);
	if (rc < 0)
		goto no_open;
	*out = rs;
	return 0;

no_open:
	mdb_env_close(rs->env);
no_env:
	free(rs);
	return rc;
}

static int remove_files(const char *folder)
{
	static const char *const names[] = { "data.mdb", "lock.mdb" };
	char name[4300];

	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		snprintf(name, sizeof(name), "%s/%s", folder, names[n]);
		if (unlink(name) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

/*
 * A count of openings by writers that were not ended well, in a file: damage
 * in the middle of the table kills who reads it, so after three deaths it is
 * given up.  change: 1 or, 0, it was ended well.
 */
static unsigned openings(const char *folder, int change)
{
	char path[4300];
	unsigned char count = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/opening", folder);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	if (pread(fd, &count, 1, 0) != 1 || change == 0)
		count = 0;
	count = (unsigned char)min_u64(count + (unsigned)change, 255);
	if (pwrite(fd, &count, 1, 0) != 1)
		count = 0;
	close(fd);
	return count;
}

/* Every page is touched: what is damaged is found now. */
static int read_all(struct resolutions *rs)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc = resolutions_begin_read(rs);

	if (rc < 0)
		return rc;
	rc = mdb_cursor_open(rs->read, rs->records, &cursor);
	if (rc == 0) {
		while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0)
			(void)resolutions_find(rs, k.mv_data, k.mv_size);
		mdb_cursor_close(cursor);
	}
	resolutions_end_read(rs);
	return rc == MDB_NOTFOUND ? 0 : lmdb_errno(rc);
}

static int open_writer(struct resolutions **out, const char *folder,
		       uint64_t map_bytes)
{
	int rc = 0;

	if (mkdir(folder, 0770) < 0 && errno != EEXIST)
		return -errno;
	if (openings(folder, 1) > OPENINGS_MAX)
		rc = -EUCLEAN;
	if (rc == 0)
		rc = open_env(out, folder, map_bytes, true);
	if (rc == 0) {
		rc = read_all(*out);
		if (rc < 0)
			resolutions_close(*out);
	}
	if (rc == -EUCLEAN) {
		log_error("ev=resolutions_damaged path=%s action=empty",
			  folder);
		rc = remove_files(folder);
		if (rc == 0)
			rc = open_env(out, folder, map_bytes, true);
	}
	if (rc == 0)
		(void)openings(folder, 0);
	return rc;
}

int resolutions_open(struct resolutions **out, const char *cache_path,
		     uint64_t map_bytes, bool writer)
{
	char folder[4200];
	int n = snprintf(folder, sizeof(folder), "%s/resolved", cache_path);

	if (n < 0 || (size_t)n >= sizeof(folder))
		return -ENAMETOOLONG;
	return writer ? open_writer(out, folder, map_bytes)
		      : open_env(out, folder, map_bytes, false);
}

void resolutions_close(struct resolutions *rs)
{
	if (rs == NULL)
		return;
	if (rs->read != NULL)
		mdb_txn_abort(rs->read);
	mdb_env_close(rs->env);
	free(rs->found);
	free(rs);
}

int resolutions_begin_read(struct resolutions *rs)
{
	int rc;

	must(!rs->reading);
	if (rs->read == NULL)
		rc = mdb_txn_begin(rs->env, NULL, MDB_RDONLY, &rs->read);
	else
		rc = mdb_txn_renew(rs->read);
	rs->reading = rc == 0;
	return lmdb_errno(rc);
}

void resolutions_end_read(struct resolutions *rs)
{
	if (rs->reading)
		mdb_txn_reset(rs->read);
	rs->reading = false;
}

const struct resolution *resolutions_find(struct resolutions *rs,
					  const char *key, size_t key_bytes)
{
	MDB_val k = { key_bytes, (void *)(uintptr_t)key }, v;

	must(rs->reading);
	if (key_bytes == 0 || key_bytes > LAYOUT_KEY_BYTES ||
	    mdb_get(rs->read, rs->records, &k, &v) != 0 ||
	    v.mv_size < sizeof(struct resolution) ||
	    v.mv_size > RESOLUTION_BYTES_MAX)
		return NULL;
	if (v.mv_size > rs->found_bytes) {
		struct resolution *more = realloc(rs->found, v.mv_size);

		if (more == NULL)
			return NULL;
		rs->found = more;
		rs->found_bytes = v.mv_size;
	}
	memcpy(rs->found, v.mv_data, v.mv_size);
	return resolution_valid(rs->found, v.mv_size) ? rs->found : NULL;
}

/* ---- writing ---- */

#define LOOKED_AT 64u
#define DROPS     64u /* of one transaction */

static int64_t time_of(const MDB_val *v)
{
	struct resolution head;

	if (v->mv_size < sizeof(head))
		return 0; /* damaged: it goes first */
	memcpy(&head, v->mv_data, sizeof(head));
	return head.resolved_us;
}

/* Of some records behind a key the oldest one goes. */
static int drop_old(struct resolutions *rs, MDB_txn *txn, const char *near,
		    size_t near_bytes)
{
	MDB_val k = { near_bytes, (void *)(uintptr_t)near }, v;
	char oldest[LAYOUT_KEY_BYTES];
	size_t oldest_bytes = 0;
	int64_t oldest_us = INT64_MAX;
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, rs->records, &cursor);

	if (rc != 0)
		return lmdb_errno(rc);
	rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
	for (unsigned n = 0; n < LOOKED_AT; n++) {
		if (rc == MDB_NOTFOUND) /* round the end */
			rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
		if (rc != 0)
			break;
		if (time_of(&v) < oldest_us && k.mv_size <= sizeof(oldest)) {
			oldest_us = time_of(&v);
			oldest_bytes = k.mv_size;
			memcpy(oldest, k.mv_data, k.mv_size);
		}
		rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
	}
	mdb_cursor_close(cursor);
	if (oldest_bytes == 0)
		return -ENOSPC;
	k = (MDB_val){ oldest_bytes, oldest };
	return lmdb_errno(mdb_del(txn, rs->records, &k, NULL));
}

static int put(struct resolutions *rs, const char *key, size_t key_bytes,
	       const struct resolution *record)
{
	MDB_val k = { key_bytes, (void *)(uintptr_t)key };
	MDB_val v = { record->bytes, (void *)(uintptr_t)record };
	MDB_stat stat;
	MDB_txn *txn;
	int rc = lmdb_errno(mdb_txn_begin(rs->env, NULL, 0, &txn));

	if (rc < 0)
		return rc;
	rc = lmdb_errno(mdb_stat(txn, rs->records, &stat));
	if (rc == 0 && stat.ms_entries >= RECORDS_MAX)
		rc = drop_old(rs, txn, key, key_bytes);
	if (rc == 0)
		rc = lmdb_errno(mdb_put(txn, rs->records, &k, &v, 0));
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return lmdb_errno(mdb_txn_commit(txn));
}

/* Would a record of these bytes be put without filling the map?  LMDB needs
 * free pages for every change, deletions too, and what one transaction frees
 * can be used by the one after the next: a quarter is always kept free. */
static bool has_room(struct resolutions *rs, MDB_txn *txn, uint32_t bytes)
{
	MDB_stat stat;
	uint64_t pages;

	if (mdb_stat(txn, rs->records, &stat) != 0)
		return false;
	pages = stat.ms_branch_pages + stat.ms_leaf_pages +
		stat.ms_overflow_pages;
	return stat.ms_entries == 0 ||
	       pages * stat.ms_psize + 2 * (uint64_t)bytes <=
		       rs->map_bytes - rs->map_bytes / 4;
}

/* Some old records go.  1: there is room; 0: not yet. */
static int drop_some(struct resolutions *rs, const char *near,
		     size_t near_bytes, uint32_t bytes)
{
	bool room = false;
	MDB_txn *txn;
	int rc = lmdb_errno(mdb_txn_begin(rs->env, NULL, 0, &txn));

	if (rc < 0)
		return rc;
	for (unsigned n = 0; rc == 0 && n < DROPS; n++) {
		room = has_room(rs, txn, bytes);
		if (room && n == 0) {
			mdb_txn_abort(txn);
			return 1;
		}
		if (room)
			break;
		rc = drop_old(rs, txn, near, near_bytes);
	}
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	rc = lmdb_errno(mdb_txn_commit(txn));
	return rc < 0 ? rc : room;
}

static int empty_table(struct resolutions *rs)
{
	MDB_txn *txn;
	int rc = lmdb_errno(mdb_txn_begin(rs->env, NULL, 0, &txn));

	if (rc < 0)
		return rc;
	rc = lmdb_errno(mdb_drop(txn, rs->records, 0));
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return lmdb_errno(mdb_txn_commit(txn));
}

int resolutions_put(struct resolutions *rs, const char *key, size_t key_bytes,
		    const struct resolution *record)
{
	int rc = 0;

	if (key_bytes == 0 || key_bytes > LAYOUT_KEY_BYTES)
		return -EINVAL;
	(void)mdb_reader_check(rs->env, NULL);
	for (unsigned n = 0; rc == 0 && n < RECORDS_MAX / DROPS; n++)
		rc = drop_some(rs, key, key_bytes, record->bytes);
	if (rc >= 0)
		rc = put(rs, key, key_bytes, record);
	/* its pages must lie side by side; twice, since what is freed first
	 * can be used by the transaction after the next */
	for (unsigned n = 0; rc == -ENOSPC && n < 3; n++) {
		rc = empty_table(rs);
		if (rc == 0)
			rc = put(rs, key, key_bytes, record);
	}
	return rc;
}

int resolutions_delete(struct resolutions *rs, const char *key,
		       size_t key_bytes)
{
	MDB_val k = { key_bytes, (void *)(uintptr_t)key };
	MDB_txn *txn;
	int rc = lmdb_errno(mdb_txn_begin(rs->env, NULL, 0, &txn));

	if (rc < 0)
		return rc;
	rc = lmdb_errno(mdb_del(txn, rs->records, &k, NULL));
	if (rc < 0) {
		mdb_txn_abort(txn);
		return rc == -ENOENT ? 0 : rc;
	}
	return lmdb_errno(mdb_txn_commit(txn));
}

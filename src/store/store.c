#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/chunk.h"
#include "store/index.h"
#include "util/log.h"

#define WAYS 4u

/* A chunk file kept open.  Sets of four, the least recently used goes. */
struct descriptor {
	uint64_t run_no; /* 0 = free */
	uint64_t chunk_no;
	uint32_t used;
	int fd;
};

struct store {
	struct index *index;
	struct segment *seg;
	struct segment_worker *row;
	struct store_opts opts;
	char *path;
	int chunks_fd;
	int scratch_fd;
	uint64_t lives; /* of the prefetcher whose index is open */
	uint32_t used;  /* grows by one per use of a descriptor */
	uint32_t sets;  /* a power of two */
	struct descriptor *descriptors;
};

static int open_index(struct store *st)
{
	char name[4200];

	st->lives = atomic_load(&st->seg->prefetcher_lives);
	snprintf(name, sizeof(name), "%s/index", st->path);
	return index_open(&st->index, name, st->opts.index_bytes, false);
}

int store_open(struct store **out, const struct store_opts *opts)
{
	struct store *st = calloc(1, sizeof(*st));
	char name[4200];
	int rc;

	if (st == NULL)
		return -ENOMEM;
	must(opts->slot < SEGMENT_WORKERS);
	st->opts = *opts;
	st->seg = opts->seg;
	st->row = &opts->seg->workers[opts->slot];
	st->path = strdup(opts->path);
	for (st->sets = 1; st->sets * WAYS < opts->descriptors_max;)
		st->sets *= 2;
	st->descriptors = calloc(st->sets * WAYS, sizeof(*st->descriptors));
	if (st->path == NULL || st->descriptors == NULL) {
		rc = -ENOMEM;
		goto no_memory;
	}
	for (uint32_t n = 0; n < st->sets * WAYS; n++)
		st->descriptors[n].fd = -1;
	snprintf(name, sizeof(name), "%s/chunks", opts->path);
	rc = st->chunks_fd = chunk_folder_open(name, false);
	if (rc < 0)
		goto no_memory;
	chunk_scratch_path(name, sizeof(name), opts->scratch, opts->path);
	rc = st->scratch_fd = chunk_folder_open(name, false);
	if (rc < 0)
		goto no_scratch;
	rc = open_index(st);
	if (rc < 0)
		goto no_index;
	*out = st;
	return 0;

no_index:
	close(st->scratch_fd);
no_scratch:
	close(st->chunks_fd);
no_memory:
	free(st->descriptors);
	free(st->path);
	free(st);
	return rc;
}

static void close_descriptor(struct descriptor *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	d->run_no = 0;
}

void store_close(struct store *st)
{
	if (st == NULL)
		return;
	for (uint32_t n = 0; n < st->sets * WAYS; n++)
		close_descriptor(&st->descriptors[n]);
	index_close(st->index);
	close(st->scratch_fd);
	close(st->chunks_fd);
	free(st->descriptors);
	free(st->path);
	free(st);
}

int store_begin(struct store *st)
{
	/* a new prefetcher may have had to start an empty index */
	if (st->index == NULL ||
	    st->lives != atomic_load(&st->seg->prefetcher_lives)) {
		int rc;

		index_close(st->index);
		st->index = NULL;
		rc = open_index(st);
		if (rc < 0)
			return rc;
	}
	return index_begin_read(st->index);
}

void store_end(struct store *st)
{
	if (st->index != NULL)
		index_end_read(st->index);
}

const struct object_record *store_find_object(struct store *st, const char *key,
					      size_t key_bytes)
{
	if (atomic_load_explicit(&st->seg->changing, memory_order_acquire) != 0)
		return NULL; /* this one may be another version by now */
	return index_find_object(st->index, key, key_bytes);
}

static struct descriptor *descriptor_set(struct store *st, uint64_t run_no,
					 uint64_t chunk_no)
{
	uint64_t hash = (run_no * 31 + chunk_no) * 0x9e3779b97f4a7c15u;

	return &st->descriptors[((hash >> 40) & (st->sets - 1)) * WAYS];
}

/* The descriptor belongs to the table. */
static int open_chunk(struct store *st, int folder_fd, uint64_t run_no,
		      uint64_t chunk_no)
{
	struct descriptor *set = descriptor_set(st, run_no, chunk_no);
	struct descriptor *victim = set;
	int fd;

	st->used++;
	for (unsigned n = 0; n < WAYS; n++) {
		if (set[n].run_no == run_no && set[n].chunk_no == chunk_no) {
			set[n].used = st->used;
			return set[n].fd;
		}
		if (victim->run_no != 0 &&
		    (set[n].run_no == 0 ||
		     st->used - set[n].used > st->used - victim->used))
			victim = &set[n];
	}
	fd = chunk_open(folder_fd, run_no, chunk_no);
	if (fd < 0)
		return fd;
	close_descriptor(victim);
	victim->run_no = run_no;
	victim->chunk_no = chunk_no;
	victim->used = st->used;
	victim->fd = fd;
	return fd;
}

static void touch(struct store *st, uint64_t run_no, uint64_t chunk_no,
		  uint32_t now_s)
{
	uint32_t row = segment_touch_row(run_no, chunk_no);

	atomic_store_explicit(&st->row->touches[row], now_s,
			      memory_order_relaxed);
}

/* A committed chunk file. */
static enum store_find look_in_index(struct store *st,
				     const struct object_record *rec,
				     struct span *want, uint32_t now_s,
				     struct store_place *place)
{
	struct extent_record extent;
	uint64_t from_off, chunk_no;

	if (!index_find_extent(st->index, rec->object_no, rec->generation,
			       want->from, &extent, &from_off))
		return STORE_MISS;
	chunk_no = from_off / rec->chunk_bytes;
	place->run_no = extent.run_no;
	if (extent.epoch !=
	    atomic_load_explicit(&st->seg->store_epoch, memory_order_relaxed))
		return STORE_SUSPECT;
	place->fd = open_chunk(st, st->chunks_fd, extent.run_no, chunk_no);
	if (place->fd < 0)
		return STORE_SUSPECT;
	touch(st, extent.run_no, chunk_no, now_s);
	place->file_off = want->from - from_off;
	place->arriving = false;
	want->to = min_u64(want->to, extent.to_off);
	return STORE_HIT;
}

static enum store_find look_in_run(struct store *st, uint32_t run_row,
				   const struct segment_run_view *run,
				   struct span *want, struct store_place *place)
{
	uint64_t chunk_no, chunk_from;
	bool scratch = (run->flags & SEGMENT_RUN_SCRATCH) != 0;

	place->run_row = run_row;
	place->run_no = run->run_no;
	if (want->from == run->to_off)
		return (run->flags & SEGMENT_RUN_ACTIVE) ? STORE_COMING
							 : STORE_MISS;
	chunk_no = want->from / run->chunk_bytes;
	chunk_from = max_u64(run->from_off, chunk_no * run->chunk_bytes);
	place->fd = open_chunk(st, scratch ? st->scratch_fd : st->chunks_fd,
			       run->run_no, chunk_no);
	if (place->fd < 0)
		return STORE_MISS; /* gone since: the prefetcher knows */
	place->file_off = want->from - chunk_from;
	place->arriving = true;
	want->to = min_u64(want->to, run->to_off);
	want->to = min_u64(want->to, (chunk_no + 1) * run->chunk_bytes);
	return STORE_HIT;
}

static enum store_find look_in_runs(struct store *st,
				    const struct object_record *rec,
				    struct span *want,
				    struct store_place *place)
{
	uint32_t top =
		atomic_load_explicit(&st->seg->runs_top, memory_order_acquire);
	enum store_find coming = STORE_MISS;

	for (uint32_t n = 0; n < min_u64(top, SEGMENT_RUNS); n++) {
		struct segment_run_view run;
		enum store_find found;

		if (atomic_load_explicit(&st->seg->runs[n].object_no,
					 memory_order_relaxed) !=
		    rec->object_no)
			continue;
		if (!segment_read_run(st->seg, n, &run) ||
		    run.object_no != rec->object_no ||
		    run.generation != rec->generation || run.chunk_bytes == 0)
			continue;
		if (want->from < max_u64(run.from_off, run.kept_off) ||
		    want->from > run.to_off)
			continue;
		found = look_in_run(st, n, &run, want, place);
		if (found == STORE_HIT)
			return found;
		if (found == STORE_COMING)
			coming = found;
	}
	return coming;
}

enum store_find store_lookup(struct store *st, const struct object_record *rec,
			     struct span *want, uint32_t now_s,
			     struct store_place *place)
{
	enum store_find in_index, in_runs;

	must(want->from < want->to);
	place->fd = -1;
	place->run_row = 0;
	place->arriving = false;
	in_index = look_in_index(st, rec, want, now_s, place);
	if (in_index == STORE_HIT)
		return in_index;
	in_runs = look_in_runs(st, rec, want, place);
	return in_runs == STORE_MISS ? in_index : in_runs;
}

void store_forget(struct store *st, const struct store_place *place)
{
	for (uint32_t n = 0; n < st->sets * WAYS; n++)
		if (st->descriptors[n].run_no == place->run_no)
			close_descriptor(&st->descriptors[n]);
}

void store_sweep(struct store *st)
{
	struct stat stat_fd;

	for (uint32_t n = 0; n < st->sets * WAYS; n++) {
		struct descriptor *d = &st->descriptors[n];

		if (d->fd >= 0 &&
		    (fstat(d->fd, &stat_fd) < 0 || stat_fd.st_nlink == 0))
			close_descriptor(d);
	}
}

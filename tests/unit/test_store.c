/*
 * The store from both sides: what a prefetcher writes is what a worker finds,
 * also after a kill, after damage, and when there is no room.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/inbox.h"
#include "store/catalog.h"
#include "store/chunk.h"
#include "store/fill.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"

#define KEY         "film/one"
#define CHUNK_BYTES (256 * KIB)

struct fixture {
	char path[64];
	struct segment *seg;
	struct inboxes ipc;
	struct catalog *cat;
	uint64_t size_bytes;
	unsigned changes;
};

/* Byte off of every object here. */
static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)((off * 2654435761u) >> 13);
}

static void make_bytes(uint8_t *dst, uint64_t off, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = byte_at(off + i);
}

static void on_changed(void *ctx, struct object *obj)
{
	struct fixture *fx = ctx;

	(void)obj;
	fx->changes++;
}

static void open_catalog(struct fixture *fx)
{
	struct catalog_opts opts = {
		.path = fx->path,
		.scratch = fx->path,
		.index_bytes = 64 * MIB,
		.size_bytes = fx->size_bytes,
		.scratch_bytes = 2 * MIB,
		.spare_bytes = CHUNK_BYTES,
		.seg = fx->seg,
		.stats = &fx->seg->stats[SEGMENT_PROC_PREFETCHER],
		.bells = fx->ipc.bells,
		.changed = on_changed,
		.ctx = fx,
	};

	assert_int_equal(catalog_open(&fx->cat, &opts, clock_now_ms()), 0);
	atomic_fetch_add(&fx->seg->prefetcher_lives, 1);
}

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	snprintf(fx->path, sizeof(fx->path), "/tmp/test_store.XXXXXX");
	assert_non_null(mkdtemp(fx->path));
	assert_int_equal(segment_open(&fx->seg), 0);
	assert_int_equal(inboxes_open(&fx->ipc), 0);
	atomic_store(&fx->seg->procs[SEGMENT_PROC_WORKER0].pid,
		     (uint32_t)getpid());
	fx->size_bytes = 16 * MIB;
	open_catalog(fx);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;
	char command[128];

	catalog_close(fx->cat);
	inboxes_close(&fx->ipc);
	segment_close(fx->seg);
	snprintf(command, sizeof(command), "rm -rf %s", fx->path);
	assert_int_equal(system(command), 0);
	free(fx);
	return 0;
}

static struct object *add_object(struct fixture *fx, const char *key,
				 uint64_t size_bytes)
{
	struct object_record rec = { .size_bytes = size_bytes,
				     .chunk_bytes = CHUNK_BYTES };
	struct object *obj = catalog_add(fx->cat, key, strlen(key));

	assert_non_null(obj);
	object_record_clear_texts(&rec);
	assert_int_equal(object_record_set_text(&rec, TEXT_ETAG, "\"v1\""), 0);
	assert_int_equal(catalog_set_record(fx->cat, obj, &rec, false), 0);
	return obj;
}

/* Lets the journal finish. */
static void settle(struct fixture *fx)
{
	for (int n = 0; n < 4; n++) {
		struct pollfd p = { catalog_bell(fx->cat), POLLIN, 0 };

		if (poll(&p, 1, 200) == 1)
			catalog_reap(fx->cat);
	}
	catalog_tick(fx->cat, clock_now_ms());
}

static struct fill *begin(struct fixture *fx, struct object *obj, uint64_t off)
{
	struct fill *f;

	assert_int_equal(fill_begin(&f, fx->cat, obj, off), 0);
	return f;
}

static int put(struct fill *f, uint64_t to)
{
	uint8_t bytes[16 * KIB];

	while (fill_next_off(f) < to) {
		uint64_t off = fill_next_off(f);
		size_t n = min_u64(sizeof(bytes), to - off);
		int rc;

		make_bytes(bytes, off, n);
		rc = fill_write(f, bytes, n);
		if (rc < 0)
			return rc;
	}
	return fill_flush(f);
}

static struct store *open_store(struct fixture *fx)
{
	struct store_opts opts = { .path = fx->path,
				   .scratch = fx->path,
				   .index_bytes = 64 * MIB,
				   .seg = fx->seg,
				   .slot = 0,
				   .descriptors_max = 8 };
	struct store *st;

	assert_int_equal(store_open(&st, &opts), 0);
	return st;
}

/* Reads [from, to) as a worker does and compares every byte; returns the
 * first byte it did not get, and why in *why. */
static uint64_t read_bytes(struct fixture *fx, struct store *st,
			   const struct object_record *rec, uint64_t from,
			   uint64_t to, enum store_find *why)
{
	static uint8_t got[CHUNK_BYTES], want_bytes[CHUNK_BYTES];

	(void)fx;
	*why = STORE_HIT;
	while (from < to && *why == STORE_HIT) {
		struct span want = { from, to };
		struct store_place place;
		size_t n;

		assert_int_equal(store_begin(st), 0);
		*why = store_lookup(st, rec, &want, 1, &place);
		store_end(st);
		if (*why != STORE_HIT)
			break;
		n = min_u64(span_len(want), sizeof(got));
		assert_int_equal(pread(place.fd, got, n, (off_t)place.file_off),
				 n);
		make_bytes(want_bytes, from, n);
		assert_memory_equal(got, want_bytes, n);
		from += n;
	}
	return from;
}

static void test_what_is_written_is_found(void **state)
{
	struct fixture *fx = *state;
	struct object *obj = add_object(fx, KEY, 1000000);
	struct fill *f = begin(fx, obj, 100001);
	struct store *st = open_store(fx);
	const struct object_record *rec;
	enum store_find why;

	/* arriving: found in the run's row, before any record */
	assert_int_equal(put(f, 700001), 0);
	assert_int_equal(read_bytes(fx, st, obj->record, 100001, 700001, &why),
			 700001);
	assert_int_equal(read_bytes(fx, st, obj->record, 700001, 700002, &why),
			 700001);
	assert_int_equal(why, STORE_COMING);
	assert_int_equal(read_bytes(fx, st, obj->record, 99999, 100001, &why),
			 99999);
	assert_int_equal(why, STORE_MISS);
	fill_end(f);
	/* a second piece of the same chunk, before the first one */
	f = begin(fx, obj, 50);
	assert_int_equal(put(f, 100001), 0);
	fill_end(f);
	settle(fx);
	assert_int_equal(obj->count, 4);
	assert_int_equal(atomic_load(&fx->seg->runs[0].object_no), 0);
	assert_int_equal(store_begin(st), 0);
	rec = store_find_object(st, KEY, strlen(KEY));
	assert_non_null(rec);
	assert_int_equal(rec->size_bytes, 1000000);
	assert_string_equal(object_record_text(rec, TEXT_ETAG), "\"v1\"");
	assert_null(store_find_object(st, "film/on", 7));
	store_end(st);
	assert_int_equal(read_bytes(fx, st, obj->record, 50, 700001, &why),
			 700001);
	assert_int_equal(read_bytes(fx, st, obj->record, 700001, 700002, &why),
			 700001);
	assert_int_equal(why, STORE_MISS);
	store_close(st);
}

static uint64_t bytes_on_disk(struct fixture *fx)
{
	char command[160];
	unsigned long long sum = 0;
	FILE *p;

	snprintf(command, sizeof(command),
		 "find %s/chunks -type f -printf '%%k\\n' | "
		 "awk '{n+=$1} END {print n*1024}'",
		 fx->path);
	p = popen(command, "r");
	assert_non_null(p);
	assert_int_equal(fscanf(p, "%llu", &sum), 1);
	pclose(p);
	return sum;
}

static const char *chunk_path(const struct fixture *fx, uint64_t run_no,
			      uint64_t chunk_no, char path[160])
{
	snprintf(path, 160, "%s/chunks/%02x/%016llx-%llx", fx->path,
		 (unsigned)((run_no + chunk_no) % 256),
		 (unsigned long long)run_no, (unsigned long long)chunk_no);
	return path;
}

/* Until every chunk file has its record. */
static void wait_committed(struct fixture *fx)
{
	struct extent *ex = NULL;

	for (int n = 0; n < 50; n++) {
		struct pollfd p = { catalog_bell(fx->cat), POLLIN, 0 };

		TAILQ_FOREACH (ex, &fx->cat->all, all)
			if (ex->state == EXTENT_COMMITTING)
				break;
		if (ex == NULL)
			break;
		if (poll(&p, 1, 200) == 1)
			catalog_reap(fx->cat);
	}
	assert_null(ex);
	catalog_tick(fx->cat, clock_now_ms());
}

/* Stores [from, to) of a new object. */
static struct object *store_film(struct fixture *fx, const char *key,
				 uint64_t from, uint64_t to)
{
	struct object *obj = add_object(fx, key, 4 * MIB);
	struct fill *f = begin(fx, obj, from);

	assert_int_equal(put(f, to), 0);
	assert_false(f->scratch);
	fill_end(f);
	assert_true(fx->cat->used_bytes <= fx->size_bytes);
	assert_true(bytes_on_disk(fx) <= fx->size_bytes);
	wait_committed(fx);
	return obj;
}

/* Six are more than the store has room for. */
static void store_films(struct fixture *fx, const char *name, int count)
{
	for (int n = 0; n < count; n++) {
		char key[32];

		snprintf(key, sizeof(key), "%s/%d", name, n);
		store_film(fx, key, 0, 3 * MIB + 77);
	}
}

static void test_the_limit_holds(void **state)
{
	struct fixture *fx = *state;

	store_film(fx, "middle", CHUNK_BYTES, MIB);
	store_films(fx, "film", 10);
	assert_true(fx->cat->used_bytes > fx->size_bytes / 2);
	/* a record goes with its last chunk file */
	assert_null(catalog_find(fx->cat, "middle", 6));
	assert_non_null(catalog_find(fx->cat, "film/9", 6));
	assert_true(atomic_load(&fx->seg->stats[SEGMENT_PROC_PREFETCHER]
					 .value[STAT_evicted_chunks]) > 0);
}

static void test_starts_outlive_the_rest(void **state)
{
	struct fixture *fx = *state;
	const uint64_t index_off = 2 * MIB, late_off = MIB;
	struct object *obj = add_object(fx, KEY, 4 * MIB);
	struct span index = { index_off, index_off + 10 };
	struct fill *f;

	/* one part of the index is marked before it is there, one later */
	catalog_mark_start(fx->cat, obj, index);
	catalog_mark_start(fx->cat, obj, index);
	catalog_mark_start(fx->cat, obj, (struct span){ 7, 7 });
	assert_int_equal(obj->start_count, 1);
	f = begin(fx, obj, 0);
	assert_int_equal(put(f, 3 * MIB), 0);
	fill_end(f);
	wait_committed(fx);
	catalog_mark_start(fx->cat, obj,
			   (struct span){ late_off, late_off + 1 });
	assert_int_equal(obj->start_count, 2);
	store_films(fx, "film", 10);
	assert_int_equal(obj->count, 3);
	assert_non_null(catalog_extent_at(obj, 0));
	assert_non_null(catalog_extent_at(obj, late_off));
	assert_non_null(catalog_extent_at(obj, index_off));
	/* of the next generation nothing is known */
	assert_int_equal(catalog_set_record(fx->cat, obj, obj->record, true),
			 0);
	assert_int_equal(obj->start_count, 0);
}

static void test_only_so_many_starts_are_kept(void **state)
{
	struct fixture *fx = *state;
	struct object *obj = add_object(fx, KEY, 4 * MIB);

	for (uint64_t n = 0; n < 3 * OBJECT_STARTS; n++)
		catalog_mark_start(fx->cat, obj,
				   (struct span){ n * 100, n * 100 + 1 });
	assert_int_equal(obj->start_count, OBJECT_STARTS);
}

/* As a worker does, so many seconds from now. */
static void touch(struct fixture *fx, const struct extent *ex, uint32_t in_s)
{
	uint32_t row =
		segment_touch_row(ex->run_no, ex->span.from / CHUNK_BYTES);

	atomic_store(&fx->seg->workers[0].touches[row],
		     (uint32_t)(fx->cat->now_ms / 1000) + in_s);
}

static void test_used_again_is_kept(void **state)
{
	struct fixture *fx = *state;
	struct object *again =
		store_film(fx, "again", CHUNK_BYTES, 2 * CHUNK_BYTES);
	struct object *once =
		store_film(fx, "once", CHUNK_BYTES, 2 * CHUNK_BYTES);

	touch(fx, catalog_extent_at(again, CHUNK_BYTES), 3600);
	/* its first viewer, just behind the run that brought it */
	touch(fx, catalog_extent_at(once, CHUNK_BYTES), 20);
	store_films(fx, "film", 10);
	assert_non_null(catalog_find(fx->cat, "again", 5));
	assert_null(catalog_find(fx->cat, "once", 4));
}

static void test_fetched_again_is_kept(void **state)
{
	struct fixture *fx = *state;
	struct object *obj = store_film(fx, KEY, 0, 2 * MIB);
	struct fill *f;

	store_films(fx, "film", 7);
	assert_int_equal(obj->count, 1);
	f = begin(fx, obj, CHUNK_BYTES);
	assert_int_equal(put(f, 2 * CHUNK_BYTES), 0);
	fill_end(f);
	wait_committed(fx);
	/* another run, the same chunk: it is recognized */
	store_films(fx, "movie", 10);
	assert_int_equal(obj->count, 2);
	assert_non_null(catalog_extent_at(obj, CHUNK_BYTES));
}

static void test_what_is_read_is_spared(void **state)
{
	struct fixture *fx = *state;
	struct object *obj = store_film(fx, KEY, CHUNK_BYTES, 2 * CHUNK_BYTES);
	struct segment_reader *row = &fx->seg->workers[0].readers[0];

	atomic_store(&row->generation, obj->record->generation);
	atomic_store(&row->pos_off, CHUNK_BYTES + 5);
	atomic_store(&row->end_off, 2 * CHUNK_BYTES);
	atomic_store(&row->object_no, obj->record->object_no);
	atomic_store(&fx->seg->workers[0].readers_top, 1);
	fx->cat->readers.refreshed_ms = 0;
	store_films(fx, "film", 10);
	assert_non_null(catalog_find(fx->cat, KEY, strlen(KEY)));
	/* it was no use: with its reader it goes */
	atomic_store(&row->object_no, 0);
	fx->cat->readers.refreshed_ms = 0;
	store_films(fx, "movie", 10);
	assert_null(catalog_find(fx->cat, KEY, strlen(KEY)));
}

static void test_uncommitted_is_spared(void **state)
{
	struct fixture *fx = *state;
	struct object *obj = add_object(fx, KEY, 64 * MIB);
	struct fill *f = begin(fx, obj, 0);

	assert_int_equal(put(f, 20 * MIB), -EAGAIN);
	assert_true(f->scratch);
	assert_int_equal(atomic_load(&fx->seg->stats[SEGMENT_PROC_PREFETCHER]
					      .value[STAT_evicted_chunks]),
			 0);
	fill_end(f);
	settle(fx);
	/* committed meanwhile */
	store_film(fx, "film", 0, 3 * MIB);
	assert_true(atomic_load(&fx->seg->stats[SEGMENT_PROC_PREFETCHER]
					 .value[STAT_evicted_chunks]) > 0);
}

static void test_a_successor_evicts_the_oldest_first(void **state)
{
	struct fixture *fx = *state;
	struct object *old, *young;
	struct fill *f;

	/* by number the other way round */
	young = add_object(fx, "young", 4 * MIB);
	old = store_film(fx, "old", CHUNK_BYTES, 3 * MIB);
	f = begin(fx, young, CHUNK_BYTES);
	assert_int_equal(put(f, 3 * MIB), 0);
	fill_end(f);
	wait_committed(fx);
	catalog_close(fx->cat);
	fx->size_bytes = 4 * MIB;
	open_catalog(fx);
	catalog_tick(fx->cat, clock_now_ms());
	assert_true(fx->cat->used_bytes <= fx->size_bytes);
	old = catalog_find(fx->cat, "old", 3);
	young = catalog_find(fx->cat, "young", 5);
	assert_non_null(old);
	assert_non_null(young);
	assert_int_equal(young->count, 11);
	assert_true(old->count > 0 && old->count < 11);
	assert_null(catalog_extent_at(old, CHUNK_BYTES));
}

/* All that is there is being read: the rest goes through the scratch folder,
 * in a window that moves on with its reader. */
static void test_full_means_unstored(void **state)
{
	struct fixture *fx = *state;
	struct object *obj = add_object(fx, KEY, 64 * MIB);
	struct segment_reader *row = &fx->seg->workers[0].readers[0];
	struct fill *f = begin(fx, obj, 0);
	struct store *st = open_store(fx);
	enum store_find why;

	atomic_store(&fx->seg->workers[0].readers_top, 1);
	atomic_store(&row->generation, obj->record->generation);
	atomic_store(&row->pos_off, 0);
	atomic_store(&row->end_off, SIZE_UNKNOWN);
	atomic_store(&row->object_no, obj->record->object_no);
	fx->cat->opts.spare_bytes = 64 * MIB;
	assert_int_equal(put(f, 20 * MIB), -EAGAIN);
	assert_true(f->scratch);
	assert_true(bytes_on_disk(fx) <= fx->size_bytes);
	assert_true(fx->cat->scratch_used <= 2 * MIB);
	settle(fx);
	assert_int_equal(read_bytes(fx, st, obj->record, 0, f->to_off, &why),
			 f->to_off);
	fill_trim(f, f->to_off);
	assert_true(fx->cat->scratch_used <= MIB);
	assert_int_equal(fill_flush(f), 0);
	assert_int_equal(put(f, 19 * MIB), 0);
	assert_int_equal(
		read_bytes(fx, st, obj->record, 18 * MIB, 19 * MIB, &why),
		19 * MIB);
	atomic_store(&row->object_no, 0);
	fill_end(f);
	store_close(st);
}

/* The writer dies in the middle: its successor takes over each byte that was
 * published, and none that was not. */
static void test_successor_takes_over(void **state)
{
	struct fixture *fx = *state;
	enum store_find why;
	struct object *obj;
	struct store *st;
	int status;
	pid_t pid;

	catalog_close(fx->cat);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct fill *f;

		open_catalog(fx);
		obj = add_object(fx, KEY, 2 * MIB);
		f = begin(fx, obj, 7);
		if (put(f, MIB + 13) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	open_catalog(fx);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	assert_non_null(obj);
	assert_non_null(obj->record);
	settle(fx);
	st = open_store(fx);
	assert_int_equal(read_bytes(fx, st, obj->record, 7, MIB + 14, &why),
			 MIB + 13);
	assert_int_equal(why, STORE_MISS);
	store_close(st);
}

/* It dies between the write and the publication: what its file holds more is
 * not adopted, so it must not take space either. */
static void test_unpublished_bytes_take_no_space(void **state)
{
	struct fixture *fx = *state;
	enum store_find why;
	struct object *obj;
	struct store *st;
	char name[160], more[10000] = { 0 };
	uint64_t run_no;
	int status, fd;
	pid_t pid;

	catalog_close(fx->cat);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_catalog(fx);
		obj = add_object(fx, KEY, 2 * MIB);
		if (put(begin(fx, obj, 0), CHUNK_BYTES + 5000) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	run_no = atomic_load(&fx->seg->runs[0].run_no);
	fd = open(chunk_path(fx, run_no, 1, name), O_WRONLY | O_APPEND);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, more, sizeof(more)), sizeof(more));
	close(fd);
	open_catalog(fx);
	settle(fx);
	assert_int_equal(chunk_size(fx->cat->chunks_fd, run_no, 1), 5000);
	assert_int_equal(fx->cat->used_bytes, CHUNK_BYTES + 2 * 4096);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	assert_non_null(obj);
	st = open_store(fx);
	assert_int_equal(
		read_bytes(fx, st, obj->record, 0, CHUNK_BYTES + 5001, &why),
		CHUNK_BYTES + 5000);
	assert_int_equal(why, STORE_MISS);
	store_close(st);
}

/* The writer dies when all is committed but its row is not empty yet. */
static void test_successor_finds_all_committed(void **state)
{
	struct fixture *fx = *state;
	enum store_find why;
	struct object *obj;
	struct store *st;
	int status;
	pid_t pid;

	catalog_close(fx->cat);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct pollfd p;
		struct fill *f;

		open_catalog(fx);
		obj = add_object(fx, KEY, MIB);
		f = begin(fx, obj, 0);
		p = (struct pollfd){ catalog_bell(fx->cat), POLLIN, 0 };
		if (put(f, CHUNK_BYTES) == 0 && poll(&p, 1, 5000) == 1)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_not_equal(atomic_load(&fx->seg->runs[0].object_no), 0);
	open_catalog(fx);
	assert_int_equal(atomic_load(&fx->seg->runs[0].object_no), 0);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	assert_non_null(obj);
	st = open_store(fx);
	assert_int_equal(read_bytes(fx, st, obj->record, 0, CHUNK_BYTES, &why),
			 CHUNK_BYTES);
	store_close(st);
}

static void add_chunks(struct fixture *fx, uint64_t bytes)
{
	struct object *obj = add_object(fx, KEY, bytes);
	struct fill *f = begin(fx, obj, 0);

	assert_int_equal(put(f, bytes), 0);
	fill_end(f);
	settle(fx);
}

/* As after the machine lost power: nothing is served before its CRC was
 * checked, and what is wrong is dropped. */
static void test_unclean_stop(void **state)
{
	struct fixture *fx = *state;
	struct extent *ex;
	enum store_find why;
	struct object *obj;
	struct store *st;
	char name[160];
	int status, fd;
	pid_t pid;

	catalog_close(fx->cat);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_catalog(fx);
		add_chunks(fx, 3 * CHUNK_BYTES);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	atomic_store(&fx->seg->store_epoch, 0); /* the segment is gone too */
	open_catalog(fx);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	assert_non_null(obj);
	assert_int_equal(obj->count, 3);
	st = open_store(fx);
	assert_int_equal(read_bytes(fx, st, obj->record, 0, 1, &why), 0);
	assert_int_equal(why, STORE_SUSPECT);

	ex = obj->extents[1];
	fd = open(chunk_path(fx, ex->run_no, 1, name), O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "x", 1, 1000), 1);
	close(fd);
	for (size_t n = 0; n < 3; n++)
		catalog_verify(fx->cat, obj->extents[n]);
	settle(fx);
	assert_int_equal(obj->count, 2);
	assert_true(fx->changes >= 3);
	assert_int_equal(
		read_bytes(fx, st, obj->record, 0, 3 * CHUNK_BYTES, &why),
		CHUNK_BYTES);
	assert_int_equal(why, STORE_MISS);
	assert_int_equal(read_bytes(fx, st, obj->record, 2 * CHUNK_BYTES,
				    3 * CHUNK_BYTES, &why),
			 3 * CHUNK_BYTES);
	assert_int_equal(access(name, F_OK), -1);
	store_close(st);
}

static void test_clean_stop_is_trusted(void **state)
{
	struct fixture *fx = *state;
	enum store_find why;
	struct object *obj;
	struct store *st;

	add_chunks(fx, 2 * CHUNK_BYTES);
	catalog_close(fx->cat);
	atomic_store(&fx->seg->store_epoch, 0);
	open_catalog(fx);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	assert_non_null(obj);
	st = open_store(fx);
	assert_int_equal(
		read_bytes(fx, st, obj->record, 0, 2 * CHUNK_BYTES, &why),
		2 * CHUNK_BYTES);
	store_close(st);
}

static void test_orphans_and_missing_files(void **state)
{
	struct fixture *fx = *state;
	struct object *obj;
	struct extent *ex;
	char name[160];
	int fd;

	add_chunks(fx, 2 * CHUNK_BYTES);
	ex = catalog_find(fx->cat, KEY, strlen(KEY))->extents[0];
	chunk_path(fx, ex->run_no, 0, name);
	catalog_close(fx->cat);
	assert_int_equal(unlink(name), 0);
	fd = open(chunk_path(fx, 0x7777, 0, name), O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	open_catalog(fx);
	assert_int_equal(access(name, F_OK), -1);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	assert_int_equal(obj->count, 1);
	assert_int_equal(obj->extents[0]->span.from, CHUNK_BYTES);
	/* a file's name is never used again */
	assert_true(catalog_new_run_no(fx->cat) > 0x7777);
}

static void test_damaged_index_starts_empty(void **state)
{
	struct fixture *fx = *state;
	char name[128];

	add_chunks(fx, 2 * CHUNK_BYTES);
	catalog_close(fx->cat);
	snprintf(name, sizeof(name), "%s/index/data.mdb", fx->path);
	assert_int_equal(truncate(name, 3 * 4096), 0);
	open_catalog(fx);
	assert_null(catalog_find(fx->cat, KEY, strlen(KEY)));
	assert_int_equal(bytes_on_disk(fx), 0);
	add_chunks(fx, CHUNK_BYTES);
	assert_int_equal(catalog_find(fx->cat, KEY, strlen(KEY))->count, 1);
}

/* The old version is finished by who reads it; the new one starts empty. */
static void test_generations(void **state)
{
	struct fixture *fx = *state;
	struct segment_reader *row = &fx->seg->workers[0].readers[0];
	struct object_record old, rec;
	enum store_find why;
	struct object *obj;
	struct store *st;

	add_chunks(fx, CHUNK_BYTES);
	obj = catalog_find(fx->cat, KEY, strlen(KEY));
	old = *obj->record;
	atomic_store(&fx->seg->workers[0].readers_top, 1);
	atomic_store(&row->generation, old.generation);
	atomic_store(&row->pos_off, 0);
	atomic_store(&row->end_off, CHUNK_BYTES);
	atomic_store(&row->object_no, old.object_no);
	rec = old;
	assert_int_equal(catalog_set_record(fx->cat, obj, &rec, true), 0);
	assert_int_equal(obj->record->generation, old.generation + 1);
	assert_int_equal(obj->count, 0);
	usleep(60000); /* the copy of the reader rows is older than that */
	settle(fx);
	st = open_store(fx);
	assert_int_equal(read_bytes(fx, st, &old, 0, CHUNK_BYTES, &why),
			 CHUNK_BYTES);
	assert_int_equal(read_bytes(fx, st, obj->record, 0, 1, &why), 0);
	assert_int_equal(why, STORE_MISS);
	atomic_store(&row->object_no, 0);
	usleep(60000);
	settle(fx);
	settle(fx);
	store_sweep(st);
	assert_int_equal(read_bytes(fx, st, &old, 0, CHUNK_BYTES, &why), 0);
	assert_int_equal(bytes_on_disk(fx), 0);
	store_close(st);
}

static void test_second_instance_is_refused(void **state)
{
	struct fixture *fx = *state;
	struct catalog_opts opts = fx->cat->opts;
	struct catalog *other;

	assert_int_equal(catalog_open(&other, &opts, 0), -EBUSY);
}

static void test_records_from_disk_are_checked(void **state)
{
	struct object_record rec = { .object_no = 1,
				     .chunk_bytes = CHUNK_BYTES };
	size_t bytes;

	(void)state;
	object_record_clear_texts(&rec);
	assert_int_equal(object_record_set_text(&rec, TEXT_ETAG, "\"x\""), 0);
	bytes = object_record_bytes(&rec);
	assert_true(object_record_valid(&rec, bytes));
	assert_false(object_record_valid(&rec, bytes - 1));
	assert_false(object_record_valid(&rec, 0));
	rec.text_off[TEXT_ETAG] = rec.text_bytes;
	assert_false(object_record_valid(&rec, bytes));
	rec.text_off[TEXT_ETAG] = 0;
	rec.text[rec.text_bytes - 1] = 'x';
	assert_false(object_record_valid(&rec, bytes));
	rec.text[rec.text_bytes - 1] = '\0';
	rec.object_no = 0;
	assert_false(object_record_valid(&rec, bytes));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_what_is_written_is_found),
		CASE(test_the_limit_holds),
		CASE(test_starts_outlive_the_rest),
		CASE(test_only_so_many_starts_are_kept),
		CASE(test_used_again_is_kept),
		CASE(test_fetched_again_is_kept),
		CASE(test_what_is_read_is_spared),
		CASE(test_uncommitted_is_spared),
		CASE(test_a_successor_evicts_the_oldest_first),
		CASE(test_full_means_unstored),
		CASE(test_successor_takes_over),
		CASE(test_unpublished_bytes_take_no_space),
		CASE(test_successor_finds_all_committed),
		CASE(test_unclean_stop),
		CASE(test_clean_stop_is_trusted),
		CASE(test_orphans_and_missing_files),
		CASE(test_damaged_index_starts_empty),
		CASE(test_generations),
		CASE(test_second_instance_is_refused),
		cmocka_unit_test(test_records_from_disk_are_checked),
	};

	(void)!log_open("", LOG_LEVEL_ERROR, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}

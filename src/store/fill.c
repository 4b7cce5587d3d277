#include "store/fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/chunk.h"
#include "util/log.h"

/* A reader that has just been told of the bytes has not opened its row yet. */
#define HELD_MS 2000

static uint32_t chunk_bytes(const struct fill *f)
{
	return f->scratch ? FILL_SCRATCH_CHUNK : f->obj->record->chunk_bytes;
}

static int folder_of(const struct fill *f)
{
	return f->scratch ? f->cat->scratch_fd : f->cat->chunks_fd;
}

/* A row of its own for what comes from from_off on. */
static int begin_row(struct fill *f, uint64_t from_off, bool scratch)
{
	const struct object_record *rec = f->obj->record;
	struct inflight_want want = {
		.object_no = rec->object_no,
		.run_no = catalog_new_run_no(f->cat),
		.from_off = from_off,
		.size_bytes = rec->size_bytes,
		.generation = rec->generation,
		.chunk_bytes = scratch ? FILL_SCRATCH_CHUNK : rec->chunk_bytes,
		.scratch = scratch,
	};
	struct inflight *in;
	int rc = inflight_begin(&f->cat->inflight, &want, &in);

	if (rc < 0)
		return rc;
	f->inflight = in;
	f->run_no = want.run_no;
	f->from_off = f->to_off = f->kept_off = from_off;
	f->scratch = scratch;
	return 0;
}

int fill_begin(struct fill **out, struct catalog *cat, struct object *obj,
	       uint64_t from_off)
{
	struct fill *f = calloc(1, sizeof(*f));
	int rc;

	if (f == NULL)
		return -ENOMEM;
	f->cat = cat;
	f->obj = obj;
	f->object_no = obj->record->object_no;
	f->generation = obj->record->generation;
	f->fd = -1;
	TAILQ_INIT(&f->scraps);
	rc = begin_row(f, from_off, !obj->kept);
	if (rc < 0) {
		free(f);
		return rc;
	}
	*out = f;
	return 0;
}

uint64_t fill_next_off(const struct fill *f)
{
	return f->to_off + f->spilled + f->staged;
}

uint64_t fill_have_from(const struct fill *f)
{
	if (f->scratch)
		return f->kept_off;
	return f->fd >= 0 ? f->chunk_from : f->to_off;
}

size_t fill_read(const struct fill *f, uint64_t off, void *buffer, size_t n)
{
	uint64_t chunk_no = off / chunk_bytes(f);
	uint64_t first = max_u64(f->from_off, chunk_no * chunk_bytes(f));
	uint64_t end = min_u64(f->to_off, (chunk_no + 1) * chunk_bytes(f));
	ssize_t got;
	int fd;

	if (off < fill_have_from(f) || off >= f->to_off)
		return 0;
	fd = chunk_open(folder_of(f), f->run_no, chunk_no);
	if (fd < 0)
		return 0;
	got = pread(fd, buffer, min_u64(n, end - off), (off_t)(off - first));
	close(fd);
	return got > 0 ? (size_t)got : 0;
}

/* ---- chunk files ---- */

static int keep_scrap(struct fill *f, struct span span)
{
	struct fill_scrap *scrap = calloc(1, sizeof(*scrap));

	if (scrap == NULL)
		return -ENOMEM;
	scrap->chunk_no = f->chunk_no;
	scrap->span = span;
	TAILQ_INSERT_TAIL(&f->scraps, scrap, link);
	return 0;
}

static void drop_file(struct fill *f, struct span span)
{
	uint64_t bytes = chunk_disk_bytes(span_len(span));

	(void)chunk_unlink(folder_of(f), f->run_no, f->chunk_no);
	if (f->scratch)
		f->cat->scratch_used -= bytes;
	else
		catalog_release(f->cat, bytes);
}

/* The open chunk file is whole, or as whole as it will be. */
static void end_chunk(struct fill *f)
{
	struct span span = { f->chunk_from, f->to_off };
	int rc;

	if (f->fd < 0)
		return;
	close(f->fd);
	f->fd = -1;
	if (span_len(span) == 0) {
		drop_file(f, span);
		return;
	}
	if (f->scratch)
		rc = keep_scrap(f, span);
	else
		rc = catalog_add_extent(f->cat, f->obj, span, f->run_no, f->crc,
					f->inflight);
	if (rc < 0) {
		log_error("ev=chunk_lost key=%s errno=%d", f->obj->key, -rc);
		drop_file(f, span);
	}
}

static int open_chunk(struct fill *f)
{
	uint64_t chunk_no = f->to_off / chunk_bytes(f);
	int fd = chunk_create(folder_of(f), f->run_no, chunk_no);

	if (fd < 0)
		return fd;
	f->fd = fd;
	f->chunk_no = chunk_no;
	f->chunk_from = f->to_off;
	f->crc = 0;
	return 0;
}

static int reserve(struct fill *f, uint64_t more)
{
	struct catalog *cat = f->cat;

	if (!f->scratch)
		return catalog_reserve(cat, more);
	if (cat->scratch_used + more > cat->opts.scratch_bytes)
		return -EAGAIN;
	cat->scratch_used += more;
	return 0;
}

static void unreserve(struct fill *f, uint64_t more)
{
	if (f->scratch)
		f->cat->scratch_used -= more;
	else
		catalog_release(f->cat, more);
}

static int write_all(int fd, const uint8_t *bytes, size_t n, uint64_t off)
{
	while (n > 0) {
		ssize_t done = pwrite(fd, bytes, n, (off_t)off);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		bytes += done;
		n -= (size_t)done;
		off += (uint64_t)done;
	}
	return 0;
}

/* n bytes, all in the chunk of to_off. */
static int write_piece(struct fill *f, const uint8_t *bytes, size_t n)
{
	uint64_t have, more;
	int rc;

	if (f->fd < 0) {
		rc = open_chunk(f);
		if (rc < 0)
			return rc;
	}
	have = f->to_off - f->chunk_from;
	more = chunk_disk_bytes(have + n) - chunk_disk_bytes(have);
	rc = reserve(f, more);
	if (rc < 0)
		return rc;
	rc = write_all(f->fd, bytes, n, have);
	if (rc < 0) {
		unreserve(f, more);
		return rc;
	}
	if (f->scratch)
		stat_add(f->cat->opts.stats, STAT_unstored_bytes, n);
	else
		f->crc = chunk_crc(f->crc, bytes, n);
	f->to_off += n;
	if (f->to_off % chunk_bytes(f) == 0)
		end_chunk(f);
	return 0;
}

/* The store cannot take more: go on in the scratch folder, in a new row. */
static int leave_store(struct fill *f, int why)
{
	struct inflight *old = f->inflight;
	uint64_t old_run = f->run_no;
	int rc;

	if (why != -ENOSPC) {
		stat_add(f->cat->opts.stats, STAT_disk_errors, 1);
		log_error("ev=disk_failed what=chunk errno=%d", -why);
	}
	end_chunk(f);
	rc = begin_row(f, f->to_off, true);
	if (rc < 0) {
		f->inflight = old;
		f->run_no = old_run;
		return rc;
	}
	log_info("ev=unstored key=%s from=%llu why=%d", f->obj->key,
		 (unsigned long long)f->to_off, -why);
	inflight_end(old);
	return 0;
}

/* Writes what it can of n bytes; *done tells how many. */
static int write_out(struct fill *f, const uint8_t *bytes, size_t n,
		     size_t *done)
{
	int rc = 0;

	*done = 0;
	while (*done < n) {
		uint64_t room = chunk_bytes(f) - f->to_off % chunk_bytes(f);
		size_t piece = min_u64(room, n - *done);

		rc = write_piece(f, bytes + *done, piece);
		if (rc == 0) {
			*done += piece;
			continue;
		}
		if (rc == -EAGAIN || f->scratch)
			break;
		if (*done > 0)
			inflight_publish(f->inflight, f->to_off);
		rc = leave_store(f, rc);
		if (rc < 0)
			break;
	}
	if (*done > 0)
		inflight_publish(f->inflight, f->to_off);
	return rc;
}

/* The stage is for the next fill: what found no room waits elsewhere. */
static int spill(struct fill *f, const uint8_t *bytes, size_t n)
{
	must(f->spill == NULL);
	f->staged = 0;
	f->cat->staging = NULL;
	if (n == 0)
		return 0;
	f->spill = malloc(n);
	if (f->spill == NULL) {
		f->lost = true;
		return -ENOMEM;
	}
	memcpy(f->spill, bytes, n);
	f->spilled = n;
	return 0;
}

static int flush_spill(struct fill *f)
{
	size_t done;
	int rc;

	if (f->spill == NULL)
		return 0;
	rc = write_out(f, f->spill, f->spilled, &done);
	f->spilled -= done;
	if (f->spilled > 0) {
		memmove(f->spill, f->spill + done, f->spilled);
		return rc;
	}
	free(f->spill);
	f->spill = NULL;
	return 0;
}

/* Writes the first n staged bytes. */
static int flush_staged(struct fill *f, size_t n)
{
	struct catalog *cat = f->cat;
	size_t done;
	int rc = flush_spill(f), spill_rc;

	if (rc < 0 || n == 0)
		return rc;
	must(cat->staging == f && n <= f->staged);
	rc = write_out(f, cat->stage, n, &done);
	if (rc < 0) {
		spill_rc = spill(f, cat->stage + done, f->staged - done);
		return spill_rc < 0 ? spill_rc : rc;
	}
	f->staged -= n;
	if (f->staged > 0)
		memmove(cat->stage, cat->stage + n, f->staged);
	else
		cat->staging = NULL;
	return 0;
}

int fill_flush(struct fill *f)
{
	return flush_staged(f, f->staged);
}

/* Staged bytes up to the last multiple of FILL_ALIGN in the file: the page
 * cache then holds large folios, which sendfile passes on far cheaper than
 * small ones. */
static size_t aligned_bytes(const struct fill *f)
{
	uint64_t have = f->fd < 0 ? 0 : f->to_off - f->chunk_from;
	size_t rest = (have + f->staged) % FILL_ALIGN;

	return f->staged > rest ? f->staged - rest : 0;
}

int fill_turn(struct fill *f)
{
	bool fast = f->turn_bytes >= FILL_FAST_BYTES;

	f->turn_bytes = 0;
	/* more comes at once: its rest is written with that */
	return flush_staged(f, fast ? aligned_bytes(f) : f->staged);
}

int fill_write(struct fill *f, const uint8_t *bytes, size_t n)
{
	struct catalog *cat = f->cat;
	int rc;

	must(n <= FILL_STAGE_BYTES - FILL_ALIGN);
	if (cat->staging != NULL && cat->staging != f)
		(void)!fill_flush(cat->staging); /* its owner hears of it */
	if (f->lost)
		return -ENOMEM;
	if (f->spill != NULL || f->staged + n > FILL_STAGE_BYTES) {
		rc = flush_staged(f, aligned_bytes(f));
		if (rc < 0)
			return rc;
	}
	memcpy(cat->stage + f->staged, bytes, n);
	f->staged += n;
	f->turn_bytes += n;
	cat->staging = f;
	return 0;
}

void fill_set_size(struct fill *f, uint64_t size_bytes)
{
	inflight_set_size(f->inflight, size_bytes);
}

static void trim_until(struct fill *f, uint64_t off)
{
	struct fill_scrap *scrap;

	while ((scrap = TAILQ_FIRST(&f->scraps)) != NULL &&
	       scrap->span.to <= off) {
		if (scrap->span.to > f->kept_off) {
			f->kept_off = scrap->span.to;
			inflight_set_kept(f->inflight, f->kept_off);
		}
		(void)chunk_unlink(f->cat->scratch_fd, f->run_no,
				   scrap->chunk_no);
		f->cat->scratch_used -= chunk_disk_bytes(span_len(scrap->span));
		TAILQ_REMOVE(&f->scraps, scrap, link);
		free(scrap);
	}
}

void fill_trim(struct fill *f, uint64_t off)
{
	if (f->scratch)
		trim_until(f, off);
}

void fill_end(struct fill *f)
{
	int rc = fill_flush(f);

	if (f->spilled > 0) /* no room: these bytes will be fetched again */
		log_info("ev=bytes_dropped key=%s bytes=%zu errno=%d",
			 f->obj->key, f->spilled, -rc);
	free(f->spill);
	f->spill = NULL;
	f->spilled = 0;
	end_chunk(f);
	f->obj = NULL;
	f->ended_ms = f->cat->now_ms;
	if (TAILQ_EMPTY(&f->scraps)) {
		inflight_end(f->inflight);
		free(f);
		return;
	}
	inflight_commit_begin(f->inflight); /* keeps the row */
	inflight_end(f->inflight);
	TAILQ_INSERT_TAIL(&f->cat->held, f, held_link);
}

static bool still_read(struct fill *f)
{
	struct catalog *cat = f->cat;
	struct span span = { f->kept_off, f->to_off };

	if (cat->now_ms - f->ended_ms < HELD_MS)
		return true;
	return readers_need(&cat->readers, f->object_no, f->generation, span,
			    0);
}

uint64_t fill_held_to(const struct catalog *cat, const struct object *obj,
		      uint64_t off)
{
	const struct fill *f;

	TAILQ_FOREACH (f, &cat->held, held_link)
		if (f->object_no == obj->record->object_no &&
		    f->generation == obj->record->generation &&
		    off >= f->kept_off && off < f->to_off)
			return f->to_off;
	return off;
}

void fill_sweep(struct catalog *cat, bool all)
{
	struct fill *f, *next;

	if (TAILQ_EMPTY(&cat->held))
		return;
	readers_refresh(&cat->readers, cat->now_ms, 50);
	for (f = TAILQ_FIRST(&cat->held); f != NULL; f = next) {
		next = TAILQ_NEXT(f, held_link);
		if (!all && still_read(f))
			continue;
		TAILQ_REMOVE(&cat->held, f, held_link);
		trim_until(f, UINT64_MAX);
		inflight_commit_done(f->inflight);
		free(f);
	}
}

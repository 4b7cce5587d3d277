#include "store/fill.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/chunk.h"
#include "util/log.h"

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
	return f->to_off + f->staged;
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

int fill_flush(struct fill *f)
{
	struct catalog *cat = f->cat;
	size_t done = 0;
	int rc = 0;

	if (f->staged == 0)
		return 0;
	must(cat->staging == f);
	while (done < f->staged) {
		uint64_t room = chunk_bytes(f) - f->to_off % chunk_bytes(f);
		size_t n = min_u64(room, f->staged - done);

		rc = write_piece(f, cat->stage + done, n);
		if (rc < 0 && rc != -EAGAIN && !f->scratch) {
			if (done > 0)
				inflight_publish(f->inflight, f->to_off);
			rc = leave_store(f, rc);
			if (rc == 0)
				continue;
		}
		if (rc < 0)
			break;
		done += n;
	}
	if (done > 0)
		inflight_publish(f->inflight, f->to_off);
	f->staged -= done;
	if (f->staged > 0)
		memmove(cat->stage, cat->stage + done, f->staged);
	else
		cat->staging = NULL;
	return rc;
}

int fill_write(struct fill *f, const uint8_t *bytes, size_t n)
{
	struct catalog *cat = f->cat;
	int rc = 0;

	must(n <= FILL_STAGE_BYTES);
	if (cat->staging != NULL && cat->staging != f)
		rc = fill_flush(cat->staging);
	else if (f->staged + n > FILL_STAGE_BYTES)
		rc = fill_flush(f);
	if (cat->staging != NULL &&
	    (cat->staging != f || f->staged + n > FILL_STAGE_BYTES))
		return rc < 0 ? rc : -EAGAIN;
	memcpy(cat->stage + f->staged, bytes, n);
	f->staged += n;
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

	if (f->staged > 0) { /* no room: these bytes will be fetched again */
		log_info("ev=bytes_dropped key=%s bytes=%zu errno=%d",
			 f->obj->key, f->staged, -rc);
		f->staged = 0;
		f->cat->staging = NULL;
	}
	end_chunk(f);
	inflight_end(f->inflight);
	trim_until(f, UINT64_MAX);
	free(f);
}

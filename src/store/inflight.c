#include "store/inflight.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

void inflight_init(struct inflight_table *table, struct segment *seg,
		   const int *bells)
{
	*table = (struct inflight_table){ .seg = seg, .bells = bells };
}

static struct segment_run *row_of(const struct inflight *in)
{
	return &in->table->seg->runs[in->row];
}

/* Rings the workers that said that they wait for this row.  The store of
 * to_off and the load of waits are both seq_cst, as are the worker's store of
 * waits and load of to_off: one of the two sees the other. */
static void wake(const struct inflight *in)
{
	struct segment *seg = in->table->seg;

	for (uint32_t w = 0; w < SEGMENT_WORKERS; w++)
		if (atomic_load_explicit(
			    &seg->procs[SEGMENT_PROC_WORKER0 + w].pid,
			    memory_order_relaxed) != 0 &&
		    atomic_load(&seg->workers[w].waits[in->row]) != 0)
			(void)eventfd_write(in->table->bells[w], 1);
}

static int new_handle(struct inflight_table *table, uint32_t row,
		      struct inflight **out)
{
	struct inflight *in = calloc(1, sizeof(*in));

	if (in == NULL)
		return -ENOMEM;
	in->table = table;
	in->row = row;
	table->used[row] = 1;
	*out = in;
	return 0;
}

int inflight_begin(struct inflight_table *table,
		   const struct inflight_want *want, struct inflight **out)
{
	struct segment *seg = table->seg;
	struct segment_run *run;
	uint32_t row = 0;
	int rc;

	while (row < SEGMENT_RUNS && table->used[row])
		row++;
	if (row == SEGMENT_RUNS)
		return -EAGAIN;
	rc = new_handle(table, row, out);
	if (rc < 0)
		return rc;
	run = &seg->runs[row];
	segment_run_begin(run);
	atomic_store(&run->generation, want->generation);
	atomic_store(&run->run_no, want->run_no);
	atomic_store(&run->from_off, want->from_off);
	atomic_store(&run->to_off, want->from_off);
	atomic_store(&run->kept_off, 0);
	atomic_store(&run->size_bytes, want->size_bytes);
	atomic_store(&run->chunk_bytes, want->chunk_bytes);
	atomic_store(&run->flags,
		     SEGMENT_RUN_ACTIVE |
			     (want->scratch ? SEGMENT_RUN_SCRATCH : 0));
	atomic_store(&run->object_no, want->object_no);
	segment_run_end(run);
	if (row >= atomic_load(&seg->runs_top))
		atomic_store(&seg->runs_top, row + 1);
	return 0;
}

int inflight_adopt(struct inflight_table *table, uint32_t row,
		   struct inflight **out)
{
	int rc = new_handle(table, row, out);

	if (rc < 0)
		return rc;
	(*out)->ended = true;
	segment_run_begin(row_of(*out));
	atomic_fetch_and(&row_of(*out)->flags, ~SEGMENT_RUN_ACTIVE);
	segment_run_end(row_of(*out));
	return 0;
}

void inflight_publish(struct inflight *in, uint64_t to_off)
{
	atomic_store(&row_of(in)->to_off, to_off);
	wake(in);
}

void inflight_set_size(struct inflight *in, uint64_t size_bytes)
{
	segment_run_begin(row_of(in));
	atomic_store(&row_of(in)->size_bytes, size_bytes);
	segment_run_end(row_of(in));
	wake(in);
}

void inflight_set_kept(struct inflight *in, uint64_t kept_off)
{
	segment_run_begin(row_of(in));
	atomic_store(&row_of(in)->kept_off, kept_off);
	segment_run_end(row_of(in));
}

void inflight_clear_row(struct segment *seg, uint32_t row)
{
	struct segment_run *run = &seg->runs[row];

	segment_run_begin(run);
	atomic_store(&run->object_no, 0);
	atomic_store(&run->flags, 0);
	segment_run_end(run);
}

static void free_when_done(struct inflight *in)
{
	if (!in->ended || in->pending > 0)
		return;
	inflight_clear_row(in->table->seg, in->row);
	wake(in);
	in->table->used[in->row] = 0;
	free(in);
}

void inflight_commit_begin(struct inflight *in)
{
	in->pending++;
}

void inflight_commit_done(struct inflight *in)
{
	must(in->pending > 0);
	in->pending--;
	free_when_done(in);
}

void inflight_end(struct inflight *in)
{
	in->ended = true;
	segment_run_begin(row_of(in));
	atomic_fetch_and(&row_of(in)->flags, ~SEGMENT_RUN_ACTIVE);
	segment_run_end(row_of(in));
	wake(in);
	free_when_done(in);
}

#include "shm/segment.h"

#include <errno.h>
#include <sys/mman.h>

/* A writer is inside for some ten stores: a reader that meets it this often
 * in a row looks at a writer that was killed there. */
#define READ_TRIES 64

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2,
	       "64-bit atomics between processes must not need a lock");

int segment_open(struct segment **out)
{
	void *mem = mmap(NULL, sizeof(struct segment), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct segment *seg = mem;

	if (mem == MAP_FAILED)
		return -errno;
	seg->version = SEGMENT_VERSION;
	*out = seg;
	return 0;
}

void segment_close(struct segment *seg)
{
	if (seg != NULL)
		(void)munmap(seg, sizeof(*seg));
}

static void copy_run(struct segment_run *run, struct segment_run_view *out)
{
	out->object_no =
		atomic_load_explicit(&run->object_no, memory_order_relaxed);
	out->run_no = atomic_load_explicit(&run->run_no, memory_order_relaxed);
	out->from_off =
		atomic_load_explicit(&run->from_off, memory_order_relaxed);
	/* acquire: the bytes before to_off are in the file when it is seen */
	out->to_off = atomic_load_explicit(&run->to_off, memory_order_acquire);
	out->kept_off =
		atomic_load_explicit(&run->kept_off, memory_order_relaxed);
	out->size_bytes =
		atomic_load_explicit(&run->size_bytes, memory_order_relaxed);
	out->generation =
		atomic_load_explicit(&run->generation, memory_order_relaxed);
	out->chunk_bytes =
		atomic_load_explicit(&run->chunk_bytes, memory_order_relaxed);
	out->flags = atomic_load_explicit(&run->flags, memory_order_relaxed);
}

bool segment_read_run(struct segment *seg, uint32_t run_row,
		      struct segment_run_view *out)
{
	struct segment_run *run;
	uint32_t before;

	if (run_row >= SEGMENT_RUNS)
		return false;
	run = &seg->runs[run_row];
	for (int tries = 0; tries < READ_TRIES; tries++) {
		before = atomic_load_explicit(&run->seq, memory_order_acquire);
		if ((before & 1u) != 0)
			continue;
		copy_run(run, out);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&run->seq, memory_order_relaxed) ==
		    before)
			return out->object_no != 0;
	}
	return false;
}

void segment_run_begin(struct segment_run *run)
{
	uint32_t seq = atomic_load_explicit(&run->seq, memory_order_relaxed);

	/* odd already when a predecessor was killed inside: stays odd */
	atomic_store_explicit(&run->seq, seq | 1u, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

void segment_run_end(struct segment_run *run)
{
	uint32_t seq = atomic_load_explicit(&run->seq, memory_order_relaxed);

	must((seq & 1u) != 0);
	atomic_store_explicit(&run->seq, seq + 1u, memory_order_release);
}

void segment_note_sent(struct segment_worker *worker,
		       const struct segment_sent_view *what)
{
	uint64_t no =
		atomic_load_explicit(&worker->sent_count, memory_order_relaxed);
	struct segment_sent *sent = &worker->sent[no & (SEGMENT_SENT - 1u)];

	/* who still reads entry no - SEGMENT_SENT sees from the count that it
	 * must not believe it */
	atomic_store_explicit(&worker->sent_count, no + 1,
			      memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&sent->begin_off, what->begin_off,
			      memory_order_relaxed);
	atomic_store_explicit(&sent->from_off, what->from_off,
			      memory_order_relaxed);
	atomic_store_explicit(&sent->to_off, what->to_off,
			      memory_order_relaxed);
	atomic_store_explicit(&sent->generation, what->generation,
			      memory_order_relaxed);
	atomic_store_explicit(&sent->whole, what->whole, memory_order_relaxed);
	atomic_store_explicit(&sent->object_no, what->object_no,
			      memory_order_release);
}

bool segment_read_sent(struct segment_worker *worker, uint64_t no,
		       struct segment_sent_view *out)
{
	struct segment_sent *sent = &worker->sent[no & (SEGMENT_SENT - 1u)];

	out->object_no =
		atomic_load_explicit(&sent->object_no, memory_order_acquire);
	out->begin_off =
		atomic_load_explicit(&sent->begin_off, memory_order_relaxed);
	out->whole =
		atomic_load_explicit(&sent->whole, memory_order_relaxed) != 0;
	out->from_off =
		atomic_load_explicit(&sent->from_off, memory_order_relaxed);
	out->to_off = atomic_load_explicit(&sent->to_off, memory_order_relaxed);
	out->generation =
		atomic_load_explicit(&sent->generation, memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	/* the entry that is being written now may be half old: it is counted
	 * already, so leave out the oldest one, too */
	return atomic_load_explicit(&worker->sent_count, memory_order_relaxed) <
		       no + SEGMENT_SENT &&
	       out->object_no != 0 && out->begin_off <= out->from_off &&
	       out->from_off < out->to_off;
}

uint32_t segment_touch_row(uint64_t run_no, uint64_t chunk_no)
{
	/* two odd constants and a shift spread neighbours over all rows */
	uint64_t h = run_no * UINT64_C(0x9e3779b97f4a7c15) +
		     chunk_no * UINT64_C(0xc2b2ae3d27d4eb4f);

	h ^= h >> 29;
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(h >> 32) & (SEGMENT_TOUCHES - 1u);
}

static void add(_Atomic uint64_t *to, uint64_t n)
{
	atomic_store_explicit(
		to, atomic_load_explicit(to, memory_order_relaxed) + n,
		memory_order_relaxed);
}

void stat_ttfb(struct segment_stats *row, uint64_t us)
{
	uint32_t n = 0;

	while (n < SEGMENT_TTFB_BUCKETS - 1u && us > (UINT64_C(250) << n))
		n++;
	add(&row->ttfb_bucket[n], 1);
	add(&row->ttfb_sum_us, us);
	add(&row->ttfb_count, 1);
}

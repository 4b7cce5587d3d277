/* The shared segment: rows read while their writer works, dies and is
 * replaced; statistics. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/segment.h"

static struct segment *seg;

static int open_segment(void **state)
{
	(void)state;
	return segment_open(&seg);
}

static int close_segment(void **state)
{
	(void)state;
	segment_close(seg);
	return 0;
}

/* Every field says n in its own way, so that a mix of two rows shows. */
static void write_row(struct segment_run *run, uint64_t n)
{
	segment_run_begin(run);
	atomic_store_explicit(&run->object_no, n, memory_order_relaxed);
	atomic_store_explicit(&run->generation, (uint32_t)(n + 1),
			      memory_order_relaxed);
	atomic_store_explicit(&run->run_no, n + 2, memory_order_relaxed);
	atomic_store_explicit(&run->from_off, n + 3, memory_order_relaxed);
	atomic_store_explicit(&run->to_off, n + 4, memory_order_relaxed);
	atomic_store_explicit(&run->kept_off, n + 5, memory_order_relaxed);
	atomic_store_explicit(&run->size_bytes, n + 6, memory_order_relaxed);
	atomic_store_explicit(&run->chunk_bytes, (uint32_t)(n + 7),
			      memory_order_relaxed);
	atomic_store_explicit(&run->flags, (uint32_t)(n + 8),
			      memory_order_relaxed);
	segment_run_end(run);
}

static void assert_whole(const struct segment_run_view *v)
{
	uint64_t n = v->object_no;

	assert_int_equal(v->generation, (uint32_t)(n + 1));
	assert_int_equal(v->run_no, n + 2);
	assert_int_equal(v->from_off, n + 3);
	assert_int_equal(v->to_off, n + 4);
	assert_int_equal(v->kept_off, n + 5);
	assert_int_equal(v->size_bytes, n + 6);
	assert_int_equal(v->chunk_bytes, (uint32_t)(n + 7));
	assert_int_equal(v->flags, (uint32_t)(n + 8));
}

static void test_rows(void **state)
{
	struct segment_run_view v;

	(void)state;
	assert_int_equal(seg->version, SEGMENT_VERSION);
	assert_false(segment_read_run(seg, 0, &v)); /* free */
	assert_false(segment_read_run(seg, SEGMENT_RUNS, &v));
	assert_false(segment_read_run(seg, UINT32_MAX, &v));
	write_row(&seg->runs[SEGMENT_RUNS - 1], 7);
	assert_true(segment_read_run(seg, SEGMENT_RUNS - 1, &v));
	assert_int_equal(v.object_no, 7);
	assert_whole(&v);
	write_row(&seg->runs[SEGMENT_RUNS - 1], 0);
	assert_false(segment_read_run(seg, SEGMENT_RUNS - 1, &v));
}

static void test_writer_inside(void **state)
{
	struct segment_run *run = &seg->runs[3];
	struct segment_run_view v;

	(void)state;
	write_row(run, 10);
	segment_run_begin(run);
	assert_false(segment_read_run(seg, 3, &v)); /* and does not hang */
	/* its successor finds the row odd, and mends it */
	write_row(run, 20);
	assert_true(segment_read_run(seg, 3, &v));
	assert_int_equal(v.object_no, 20);
	assert_whole(&v);
}

static void test_killed_writers(void **state)
{
	struct segment_run_view v;
	uint64_t whole = 0, last = 0;
	int status;
	pid_t pid;

	(void)state;
	for (unsigned int life = 1; life <= 60; life++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			/* a failed test must not leave it running */
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (uint64_t n = (uint64_t)life << 40;; n++)
				write_row(&seg->runs[5], n);
		}
		/* wait for this life, read along, kill it anywhere */
		for (unsigned int i = 0; i < 2000 || last >> 40 != life;) {
			if (!segment_read_run(seg, 5, &v))
				continue;
			assert_whole(&v);
			assert_true(v.object_no >= last);
			last = v.object_no;
			i++;
			whole++;
		}
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (segment_read_run(seg, 5, &v))
			assert_whole(&v);
	}
	assert_true(whole >= 60 * 2000);
}

static void test_stats(void **state)
{
	struct segment_stats *row = &seg->stats[SEGMENT_PROC_WORKER0];
	static const struct {
		uint64_t us;
		unsigned int bucket;
	} cases[] = {
		{ 0, 0 },	    { 250, 0 },	 { 251, 1 },
		{ 500, 1 },	    { 501, 2 },	 { UINT64_C(250) << 18, 18 },
		{ (UINT64_C(250) << 18) + 1, 19 },
		{ UINT64_C(1) << 62, 19 },
	};
	uint64_t sum = 0;

	(void)state;
	stat_add(row, STAT_requests, 2);
	stat_add(row, STAT_requests, 3);
	stat_set(row, STAT_connections, 9);
	stat_set(row, STAT_connections, 4);
	assert_int_equal(row->value[STAT_requests], 5);
	assert_int_equal(row->value[STAT_connections], 4);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t before = row->ttfb_bucket[cases[i].bucket];

		stat_ttfb(row, cases[i].us);
		sum += cases[i].us;
		assert_int_equal(row->ttfb_bucket[cases[i].bucket], before + 1);
	}
	assert_int_equal(row->ttfb_count, ARRAY_LEN(cases));
	assert_int_equal(row->ttfb_sum_us, sum);
}

/* Chunks of one run, and equal chunks of neighbouring runs, share few rows. */
static void test_touch_rows(void **state)
{
	static uint8_t seen[SEGMENT_TOUCHES];
	unsigned int used = 0;

	(void)state;
	for (uint64_t run = 1; run <= 64; run++)
		for (uint64_t chunk = 0; chunk < 64; chunk++) {
			uint32_t row = segment_touch_row(run, chunk);

			assert_true(row < SEGMENT_TOUCHES);
			used += seen[row] == 0;
			seen[row] = 1;
		}
	/* 4096 balls in 16384 boxes: about 3624 boxes by chance */
	assert_true(used > 3400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_writer_inside),
		cmocka_unit_test(test_killed_writers),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_touch_rows),
	};

	return cmocka_run_group_tests(tests, open_segment, close_segment);
}

/* Run rows of the segment, read while their writer is killed anywhere. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/segment.h"

#define ROW   7u
#define KILLS 200

/* All fields follow from one number: a mixed copy shows. */
static void write_row(struct segment_run *run, uint64_t k)
{
	segment_run_begin(run);
	atomic_store_explicit(&run->object_no, k, memory_order_relaxed);
	atomic_store_explicit(&run->run_no, k + 1, memory_order_relaxed);
	atomic_store_explicit(&run->from_off, k + 2, memory_order_relaxed);
	atomic_store_explicit(&run->to_off, k + 3, memory_order_relaxed);
	atomic_store_explicit(&run->kept_off, k + 4, memory_order_relaxed);
	atomic_store_explicit(&run->size_bytes, k + 5, memory_order_relaxed);
	atomic_store_explicit(&run->generation, (uint32_t)k + 6,
			      memory_order_relaxed);
	atomic_store_explicit(&run->chunk_bytes, (uint32_t)k + 7,
			      memory_order_relaxed);
	atomic_store_explicit(&run->flags, (uint32_t)k + 8,
			      memory_order_relaxed);
	segment_run_end(run);
}

static void check_view(const struct segment_run_view *v)
{
	uint64_t k = v->object_no;

	assert_true(k > 0);
	assert_true(v->run_no == k + 1 && v->from_off == k + 2 &&
		    v->to_off == k + 3 && v->kept_off == k + 4 &&
		    v->size_bytes == k + 5);
	assert_true(v->generation == (uint32_t)k + 6 &&
		    v->chunk_bytes == (uint32_t)k + 7 &&
		    v->flags == (uint32_t)k + 8);
}

static pid_t start_writer(struct segment *seg, uint64_t k)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	for (;;)
		write_row(&seg->runs[ROW], ++k);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void test_killed_writer(void **state)
{
	struct segment_run_view view;
	struct segment *seg;
	unsigned inside = 0;
	unsigned copies = 0;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	assert_false(segment_read_run(seg, ROW, &view));
	assert_false(segment_read_run(seg, SEGMENT_RUNS, &view));
	for (unsigned n = 0; n < KILLS; n++) {
		pid_t pid = start_writer(seg, (uint64_t)(n + 1) * 1000000000);
		uint64_t until_us = now_us() + 500 + n * 37 % 1000;
		int status;

		while (now_us() < until_us) {
			if (!segment_read_run(seg, ROW, &view))
				continue;
			check_view(&view);
			copies++;
		}
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		/* whole, or refused at once: never mixed, never a hang */
		if (segment_read_run(seg, ROW, &view))
			check_view(&view);
		else
			inside++;
		/* a successor puts the row in order, whatever it was left in */
		write_row(&seg->runs[ROW], 5);
		assert_true(segment_read_run(seg, ROW, &view));
		assert_true(view.object_no == 5);
		check_view(&view);
	}
	print_message("%u copies, %u writers killed inside of %u\n", copies,
		      inside, KILLS);
	assert_true(copies > 0);
	segment_close(seg);
}

/* The same, with a writer that certainly was inside. */
static void test_left_inside(void **state)
{
	struct segment_run_view view;
	struct segment *seg;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	write_row(&seg->runs[ROW], 100);
	segment_run_begin(&seg->runs[ROW]);
	atomic_store(&seg->runs[ROW].to_off, 1);
	assert_false(segment_read_run(seg, ROW, &view));
	write_row(&seg->runs[ROW], 200);
	assert_true(segment_read_run(seg, ROW, &view));
	check_view(&view);
	segment_close(seg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_writer),
		cmocka_unit_test(test_left_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

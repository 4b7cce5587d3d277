/*
 * Jobs and playheads: what the prefetcher remembers of what was asked for and
 * of who plays, in the segment and across its own death.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "prefetcher/jobs.h"
#include "prefetcher/playheads.h"

static struct query make_query(const char *key, uint64_t bytes,
			       uint64_t deadline_ms)
{
	struct query q = { .type = QUERY_TYPE,
			   .key_bytes = (uint32_t)strlen(key),
			   .start_ms = QUERY_NOT_GIVEN,
			   .seconds_ms = QUERY_NOT_GIVEN,
			   .bytes = bytes,
			   .deadline_ms = deadline_ms };

	memcpy(q.key, key, q.key_bytes);
	return q;
}

static void test_same_jobs_are_one(void **state)
{
	struct query q = make_query("films/a", 100, 5000);
	struct segment *seg;
	struct jobs *js;
	struct job *job;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	assert_int_equal(jobs_open(&js, seg, 10, 1000), 0);
	job = jobs_begin(js, &q, 1000);
	assert_non_null(job);
	assert_int_equal(job->deadline_ms, 6000);
	assert_int_equal(job->state, JOB_WAITING);
	/* the earlier deadline counts, a later one does not */
	q.deadline_ms = 1000;
	assert_ptr_equal(jobs_begin(js, &q, 2000), job);
	assert_int_equal(job->deadline_ms, 3000);
	q.deadline_ms = QUERY_NOT_GIVEN;
	assert_ptr_equal(jobs_begin(js, &q, 2000), job);
	assert_int_equal(job->deadline_ms, 3000);
	q.bytes = 101;
	assert_ptr_not_equal(jobs_begin(js, &q, 2000), job);
	/* a finished one is not gone on with */
	job_end(js, job, JOB_DONE, 200, "", 2500);
	q.bytes = 100;
	assert_ptr_not_equal(jobs_begin(js, &q, 3000), job);
	jobs_close(js);
	segment_close(seg);
}

static void test_are_bounded(void **state)
{
	struct segment *seg;
	struct jobs *js;
	struct job *first = NULL, *job;
	unsigned count = 0;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	assert_int_equal(jobs_open(&js, seg, 3, 1000), 0);
	for (uint64_t n = 1; n <= 3; n++) {
		struct query q = make_query("films/a", n, 0);

		job = jobs_begin(js, &q, 1000);
		assert_non_null(job);
		first = first == NULL ? job : first;
	}
	{
		struct query q = make_query("films/a", 4, 0);

		assert_null(jobs_begin(js, &q, 1000));
		job_end(js, first, JOB_FAILED, 404, "no", 1000);
		assert_non_null(jobs_begin(js, &q, 1000));
	}
	for (job = jobs_first(js); job != NULL; job = jobs_next(job)) {
		count++;
		job_end(js, job, JOB_DONE, 200, "", 2000);
	}
	assert_int_equal(count, 3);
	jobs_sweep(js, 2000 + JOB_KEPT_MS - 1);
	assert_non_null(jobs_first(js));
	jobs_sweep(js, 2000 + JOB_KEPT_MS);
	assert_null(jobs_first(js));
	jobs_close(js);
	segment_close(seg);
}

static void test_a_successor_goes_on(void **state)
{
	struct query a = make_query("films/a/360p", 100, 5000);
	struct query b = make_query("films/b", QUERY_NOT_GIVEN, 7000);
	struct segment *seg;
	struct jobs *js, *next;
	struct job *job;
	uint64_t no;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	assert_int_equal(jobs_open(&js, seg, 10, 1000), 0);
	job_end(js, jobs_begin(js, &a, 1000), JOB_DONE, 200, "", 1500);
	job = jobs_begin(js, &a, 2000);
	no = job->no;
	job_run(job);
	assert_non_null(jobs_begin(js, &b, 2500));
	b.deadline_ms = 1000; /* sooner */
	assert_non_null(jobs_begin(js, &b, 2600));
	/* half written when it was killed */
	seg->jobs[7].key_bytes = 5;
	atomic_store(&seg->jobs[7].used, 0);
	/* nonsense */
	seg->jobs[8].key_bytes = 4000;
	atomic_store(&seg->jobs[8].used, 1);
	seg->jobs[9].key_bytes = 4;
	memcpy(seg->jobs[9].key, "abcd", 4);
	atomic_store(&seg->jobs[9].used, 1);

	assert_int_equal(jobs_open(&next, seg, 10, 3000), 0);
	job = jobs_first(next);
	assert_non_null(job);
	assert_string_equal(job->key, "films/a/360p");
	assert_int_equal(job->no, no);
	assert_int_equal(job->bytes, 100);
	assert_int_equal(job->deadline_ms, 7000);
	assert_int_equal(job->state, JOB_WAITING);
	job = jobs_next(job);
	assert_string_equal(job->key, "films/b");
	assert_int_equal(job->bytes, QUERY_NOT_GIVEN);
	assert_int_equal(job->deadline_ms, 3600);
	assert_null(jobs_next(job));
	/* numbers go on */
	b.bytes = 1;
	assert_true(jobs_begin(next, &b, 3000)->no > no + 1);
	assert_int_equal(atomic_load(&seg->jobs[8].used), 0);
	jobs_close(next);
	jobs_close(js);
	segment_close(seg);
}

static void test_matching(void **state)
{
	static const struct {
		const char *job;
		const char *key;
		bool matches;
	} cases[] = {
		{ "films/a", "films/a", true },
		{ "films/a/360p", "films/a", true },
		{ "films/a/360p", "films/a/360p", true },
		{ "films/a/360p", "films/a/36", false },
		{ "films/a/360p/x", "films/a/360p", false },
		{ "films/ab", "films/a", false },
		{ "films/a", "films/a/360p", false },
		{ "other/a", "films/a", false },
	};

	(void)state;
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		struct job job = { .no = 1 };

		snprintf(job.key, sizeof(job.key), "%s", cases[n].job);
		assert_int_equal(
			job_matches(&job, cases[n].key, strlen(cases[n].key)),
			cases[n].matches);
	}
}

/* --- playheads ---------------------------------------------------------- */

struct heard {
	uint64_t bytes;
	unsigned count;
};

static void hear(void *ctx, uint64_t object_no, uint32_t generation,
		 uint64_t from_off, uint64_t to_off)
{
	struct heard *h = ctx;

	assert_int_equal(object_no, 7);
	assert_int_equal(generation, 2);
	h->bytes += to_off - from_off;
	h->count++;
}

static void send(struct segment *seg, uint32_t slot, uint64_t begin,
		 uint64_t from, uint64_t to, bool whole)
{
	const struct segment_sent_view sent = { .object_no = 7,
						.generation = 2,
						.begin_off = begin,
						.from_off = from,
						.to_off = to,
						.whole = whole };

	segment_note_sent(&seg->workers[slot], &sent);
}

static void test_two_ranges_in_a_row(void **state)
{
	uint64_t pos[PLAYHEADS_OF_ONE];
	struct heard h = { 0 };
	struct playheads *ph;
	struct segment *seg;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	send(seg, 0, 0, 0, 99, true); /* a predecessor's news */
	assert_int_equal(playheads_open(&ph, seg), 0);
	playheads_read(ph, 1000, hear, &h);
	assert_int_equal(h.count, 0);
	send(seg, 1, 0, 0, MIB, true);
	playheads_read(ph, 1000, hear, &h);
	assert_int_equal(playheads_of(ph, 7, 2, 1000, pos), 0);
	/* by another worker */
	send(seg, 2, MIB, MIB, MIB + 2000, true);
	playheads_read(ph, 2000, hear, &h);
	assert_int_equal(playheads_of(ph, 7, 2, 2000, pos), 1);
	assert_int_equal(pos[0], MIB + 2000);
	assert_int_equal(h.bytes, MIB + 2000);
	/* two looks are no playing */
	send(seg, 1, 5 * MIB, 5 * MIB, 5 * MIB + 10, true);
	send(seg, 1, 5 * MIB + 10, 5 * MIB + 10, 5 * MIB + 20, true);
	/* elsewhere: nobody plays there yet */
	send(seg, 1, 10 * MIB, 10 * MIB, 11 * MIB, true);
	/* a range in parts that its client left in the middle of */
	send(seg, 1, 20 * MIB, 20 * MIB, 21 * MIB, false);
	send(seg, 1, 20 * MIB, 21 * MIB, 22 * MIB, false);
	playheads_read(ph, 3000, hear, &h);
	assert_int_equal(playheads_of(ph, 7, 2, 3000, pos), 1);
	assert_int_equal(playheads_of(ph, 7, 1, 3000, pos), 0);
	/* who stops reading has paused or left */
	assert_int_equal(playheads_of(ph, 7, 2, 2000 + PLAYHEAD_MS, pos), 0);
	playheads_close(ph);
	segment_close(seg);
}

static void test_who_reads_too_late_misses_some(void **state)
{
	struct heard h = { 0 };
	struct playheads *ph;
	struct segment *seg;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	assert_int_equal(playheads_open(&ph, seg), 0);
	for (uint64_t n = 0; n < 3 * SEGMENT_SENT; n++)
		send(seg, 0, n * 10, n * 10, n * 10 + 10, true);
	playheads_read(ph, 1000, hear, &h);
	assert_int_equal(h.count, SEGMENT_SENT - 1);
	playheads_read(ph, 1000, hear, &h);
	assert_int_equal(h.count, SEGMENT_SENT - 1);
	playheads_close(ph);
	segment_close(seg);
}

static void test_playheads_are_bounded(void **state)
{
	uint64_t pos[PLAYHEADS_OF_ONE];
	struct heard h = { 0 };
	struct playheads *ph;
	struct segment *seg;

	(void)state;
	assert_int_equal(segment_open(&seg), 0);
	assert_int_equal(playheads_open(&ph, seg), 0);
	for (uint64_t n = 0; n < 200; n++) {
		uint64_t at = n * MIB, next = at + 200 * KIB;

		send(seg, 0, at, at, next, true);
		send(seg, 0, next, next, next + 20, true);
		playheads_read(ph, 1000 + n, hear, &h);
	}
	assert_int_equal(playheads_of(ph, 7, 2, 1200, pos), PLAYHEADS_OF_ONE);
	assert_int_equal(pos[0],
			 199 * MIB + 200 * KIB + 20); /* the latest ones */
	playheads_close(ph);
	segment_close(seg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_jobs_are_one),
		cmocka_unit_test(test_are_bounded),
		cmocka_unit_test(test_a_successor_goes_on),
		cmocka_unit_test(test_matching),
		cmocka_unit_test(test_two_ranges_in_a_row),
		cmocka_unit_test(test_who_reads_too_late_misses_some),
		cmocka_unit_test(test_playheads_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

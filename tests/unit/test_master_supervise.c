/* Which children run, when they are started again, and what is killed: with
 * a clock and processes of the test's own. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "master/supervise.h"

#define PREFETCHER SEGMENT_PROC_PREFETCHER
#define WORKER     SEGMENT_PROC_WORKER0

struct world {
	struct supervise sv;
	pid_t last_pid;
	uint32_t starts;
	bool fork_fails;
	pid_t signal_pid;
	int signo;
};

static pid_t fake_start(void *arg, uint32_t no)
{
	struct world *w = arg;

	(void)no;
	if (w->fork_fails)
		return -EAGAIN;
	w->starts++;
	return ++w->last_pid;
}

static void fake_signal(void *arg, pid_t pid, int signo)
{
	struct world *w = arg;

	w->signal_pid = pid;
	w->signo = signo;
}

static void begin(struct world *w)
{
	struct supervise_ops ops = { fake_start, fake_signal, w };

	memset(w, 0, sizeof(*w));
	w->last_pid = 100;
	supervise_init(&w->sv, &ops, NULL);
}

/* Dies at now_ms; returns how long its successor waits. */
static uint64_t die(struct world *w, uint64_t now_ms)
{
	struct supervise_end end;

	assert_true(supervise_gone(&w->sv, w->last_pid, now_ms, &end));
	assert_true(end.restart);
	assert_false(end.told);
	return end.restart_in_ms;
}

static void test_backoff_steps(void **state)
{
	static const uint64_t want[] = { 0,    100,  200,  400, 800,
					 1600, 3200, 5000, 5000 };
	struct world w;
	uint64_t now_ms = 1000;

	(void)state;
	for (uint32_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(
			supervise_backoff_ms(&supervise_times_default, i),
			want[i]);
	assert_int_equal(
		supervise_backoff_ms(&supervise_times_default, UINT32_MAX),
		5000);

	begin(&w);
	supervise_want(&w.sv, WORKER, 1, 0, now_ms);
	for (uint32_t i = 0; i < ARRAY_LEN(want); i++) {
		(void)supervise_run(&w.sv, now_ms);
		assert_int_equal(w.starts, i + 1);
		assert_int_equal(supervise_ready(&w.sv, w.last_pid), WORKER);
		now_ms += 10;
		assert_int_equal(die(&w, now_ms), want[i]);
		if (want[i] > 0) { /* not a moment too early */
			assert_int_equal(
				supervise_run(&w.sv, now_ms + want[i] - 1),
				now_ms + want[i]);
			assert_int_equal(w.starts, i + 1);
		}
		now_ms += want[i];
	}
	/* a good life makes up for all */
	(void)supervise_run(&w.sv, now_ms);
	now_ms += 30000;
	assert_int_equal(die(&w, now_ms), 0);
}

static void test_too_slow(void **state)
{
	struct supervise_end end;
	struct world w;

	(void)state;
	begin(&w);
	supervise_want(&w.sv, PREFETCHER, 1, 0, 0);
	assert_int_equal(supervise_run(&w.sv, 0), 30000);
	assert_int_equal(supervise_run(&w.sv, 29999), 30000);
	assert_int_equal(w.signo, 0);
	assert_int_equal(supervise_run(&w.sv, 30000), SUPERVISE_NEVER);
	assert_int_equal(w.signo, SIGKILL);
	assert_int_equal(supervise_ready(&w.sv, w.last_pid), 0);
	assert_true(supervise_gone(&w.sv, w.last_pid, 30001, &end));
	assert_false(end.told); /* it counts as a failure */
	assert_true(end.restart);
	assert_int_equal(end.was, PROC_KILLED);
	assert_int_equal(w.sv.procs[PREFETCHER].failures, 1);
}

static void test_drain(void **state)
{
	struct supervise_end end;
	struct world w;

	(void)state;
	begin(&w);
	supervise_want(&w.sv, WORKER, 1, 0, 0);
	(void)supervise_run(&w.sv, 0);
	assert_int_equal(supervise_ready(&w.sv, w.last_pid), WORKER);
	assert_int_equal(supervise_run(&w.sv, 0), SUPERVISE_NEVER);
	supervise_drain(&w.sv, WORKER, 500, 50, 1000);
	assert_int_equal(w.signo, SIGQUIT);
	assert_int_equal(supervise_run(&w.sv, 1499), 1500);
	assert_int_equal(w.signo, SIGQUIT);
	assert_int_equal(supervise_run(&w.sv, 1500), 1550);
	assert_int_equal(w.signo, SIGTERM);
	(void)supervise_run(&w.sv, 1550);
	assert_int_equal(w.signo, SIGKILL);
	assert_false(supervise_idle(&w.sv, WORKER, WORKER + 1));
	assert_true(supervise_gone(&w.sv, w.last_pid, 1551, &end));
	assert_true(end.told);
	assert_false(end.restart);
	assert_true(supervise_idle(&w.sv, WORKER, WORKER + 1));
	assert_int_equal(supervise_run(&w.sv, 9999999), SUPERVISE_NEVER);
	assert_int_equal(w.starts, 1);
}

static void test_drain_while_waiting_to_start(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	supervise_want(&w.sv, WORKER, 1, 0, 0);
	supervise_drain(&w.sv, WORKER, 500, 50, 0);
	assert_true(supervise_idle(&w.sv, WORKER, WORKER + 1));
	(void)supervise_run(&w.sv, 1000);
	assert_int_equal(w.starts, 0);
}

static void test_end_shortens_an_end(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	supervise_want(&w.sv, PREFETCHER, 1, 0, 0);
	(void)supervise_run(&w.sv, 0);
	supervise_end(&w.sv, PREFETCHER, 10000, 0);
	supervise_end(&w.sv, PREFETCHER, 2000, 100);
	assert_int_equal(supervise_run(&w.sv, 100), 2100);
	supervise_end(&w.sv, PREFETCHER, 60000, 200); /* never longer */
	assert_int_equal(supervise_run(&w.sv, 200), 2100);
}

static void test_replace(void **state)
{
	struct supervise_end end;
	struct world w;
	pid_t old;

	(void)state;
	begin(&w);
	supervise_want(&w.sv, PREFETCHER, 1, 0, 0);
	(void)supervise_run(&w.sv, 0);
	old = w.last_pid;
	assert_int_equal(supervise_ready(&w.sv, old), PREFETCHER);
	supervise_replace(&w.sv, PREFETCHER, 2, 5000, 10);
	assert_int_equal(w.signo, SIGTERM);
	(void)supervise_run(&w.sv, 10);
	assert_int_equal(w.starts, 1); /* never two at a time */
	assert_true(supervise_gone(&w.sv, old, 20, &end));
	assert_true(end.told);
	assert_int_equal(end.restart_in_ms, 0);
	(void)supervise_run(&w.sv, 20);
	assert_int_equal(w.starts, 2);
	assert_int_equal(w.sv.procs[PREFETCHER].round, 2);
	/* the old one's late word is nobody's */
	assert_int_equal(supervise_ready(&w.sv, old), 0);
	assert_int_equal(supervise_ready(&w.sv, w.last_pid), PREFETCHER);
	/* while it waits for a restart there is nobody to signal */
	(void)die(&w, 30);
	(void)supervise_run(&w.sv, 30);
	(void)die(&w, 40);
	w.signo = 0;
	supervise_replace(&w.sv, PREFETCHER, 3, 5000, 41);
	assert_int_equal(w.signo, 0);
	(void)supervise_run(&w.sv, 41);
	assert_int_equal(w.starts, 4);
}

static void test_no_process_left(void **state)
{
	struct world w;

	(void)state;
	begin(&w);
	w.fork_fails = true;
	supervise_want(&w.sv, WORKER, 1, 0, 0);
	assert_int_equal(supervise_run(&w.sv, 0), 100);
	assert_int_equal(supervise_run(&w.sv, 100), 300);
	w.fork_fails = false;
	(void)supervise_run(&w.sv, 300);
	assert_int_equal(w.starts, 1);
}

static void test_strangers(void **state)
{
	struct supervise_end end;
	struct world w;

	(void)state;
	begin(&w);
	assert_false(supervise_gone(&w.sv, 4711, 0, &end));
	assert_false(supervise_gone(&w.sv, 0, 0, &end));
	assert_int_equal(supervise_ready(&w.sv, 4711), 0);
	assert_int_equal(supervise_ready(&w.sv, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backoff_steps),
		cmocka_unit_test(test_too_slow),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_drain_while_waiting_to_start),
		cmocka_unit_test(test_end_shortens_an_end),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_no_process_left),
		cmocka_unit_test(test_strangers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

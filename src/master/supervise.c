#include "master/supervise.h"

#include <signal.h>
#include <string.h>

const struct supervise_times supervise_times_default = {
	.ready_ms = 30000,
	.backoff_first_ms = 100,
	.backoff_most_ms = 5000,
	.backoff_reset_ms = 30000,
};

void supervise_init(struct supervise *sv, const struct supervise_ops *ops,
		    const struct supervise_times *times)
{
	memset(sv, 0, sizeof(*sv));
	sv->ops = *ops;
	sv->times = times != NULL ? *times : supervise_times_default;
}

static struct proc *row(struct supervise *sv, uint32_t no)
{
	must(no > SEGMENT_PROC_MASTER && no < SEGMENT_PROCS);
	return &sv->procs[no];
}

uint64_t supervise_backoff_ms(const struct supervise_times *times,
			      uint32_t failures)
{
	uint64_t wait_ms = times->backoff_first_ms;

	if (failures == 0)
		return 0;
	while (--failures > 0 && wait_ms < times->backoff_most_ms)
		wait_ms *= 2;
	return min_u64(wait_ms, times->backoff_most_ms);
}

void supervise_want(struct supervise *sv, uint32_t no, uint64_t round,
		    uint32_t seat, uint64_t now_ms)
{
	struct proc *p = row(sv, no);

	must(p->state == PROC_NONE);
	memset(p, 0, sizeof(*p));
	p->state = PROC_DUE;
	p->wanted = true;
	p->round = round;
	p->seat = seat;
	p->due_ms = now_ms;
}

static void tell(struct supervise *sv, struct proc *p, int signo)
{
	must(p->pid > 0);
	p->told = true;
	sv->ops.signal(sv->ops.arg, p->pid, signo);
}

void supervise_drain(struct supervise *sv, uint32_t no, uint64_t drain_ms,
		     uint64_t end_ms, uint64_t now_ms)
{
	struct proc *p = row(sv, no);

	p->wanted = false;
	p->end_ms = end_ms;
	if (p->state == PROC_DUE)
		p->state = PROC_NONE;
	if (p->state != PROC_STARTING && p->state != PROC_READY)
		return;
	p->state = PROC_DRAINING;
	p->due_ms = now_ms + drain_ms;
	tell(sv, p, SIGQUIT);
}

static void begin_end(struct supervise *sv, struct proc *p, uint64_t end_ms,
		      uint64_t now_ms)
{
	if (p->state == PROC_ENDING)
		p->due_ms = min_u64(p->due_ms, now_ms + end_ms);
	if (p->state != PROC_STARTING && p->state != PROC_READY &&
	    p->state != PROC_DRAINING)
		return;
	p->state = PROC_ENDING;
	p->due_ms = now_ms + end_ms;
	tell(sv, p, SIGTERM);
}

void supervise_end(struct supervise *sv, uint32_t no, uint64_t end_ms,
		   uint64_t now_ms)
{
	struct proc *p = row(sv, no);

	p->wanted = false;
	if (p->state == PROC_DUE)
		p->state = PROC_NONE;
	begin_end(sv, p, end_ms, now_ms);
}

void supervise_replace(struct supervise *sv, uint32_t no, uint64_t round,
		       uint64_t end_ms, uint64_t now_ms)
{
	struct proc *p = row(sv, no);

	must(p->state != PROC_NONE);
	p->wanted = true;
	p->round = round;
	p->failures = 0;
	if (p->state == PROC_DUE)
		p->due_ms = now_ms;
	begin_end(sv, p, end_ms, now_ms);
}

uint32_t supervise_ready(struct supervise *sv, pid_t pid)
{
	for (uint32_t no = SEGMENT_PROC_PREFETCHER; no < SEGMENT_PROCS; no++) {
		struct proc *p = &sv->procs[no];

		if (pid > 0 && p->pid == pid && p->state == PROC_STARTING) {
			p->state = PROC_READY;
			return no;
		}
	}
	return 0;
}

static void decide_restart(struct supervise *sv, struct proc *p,
			   uint64_t now_ms, struct supervise_end *end)
{
	if (!p->wanted) {
		p->state = PROC_NONE;
		return;
	}
	if (end->lived_ms >= sv->times.backoff_reset_ms || p->told)
		p->failures = 0;
	end->restart = true;
	end->restart_in_ms =
		p->told ? 0 : supervise_backoff_ms(&sv->times, p->failures);
	if (!p->told && p->failures < UINT32_MAX)
		p->failures++;
	p->state = PROC_DUE;
	p->told = false;
	p->due_ms = now_ms + end->restart_in_ms;
}

bool supervise_gone(struct supervise *sv, pid_t pid, uint64_t now_ms,
		    struct supervise_end *end)
{
	for (uint32_t no = SEGMENT_PROC_PREFETCHER; no < SEGMENT_PROCS; no++) {
		struct proc *p = &sv->procs[no];

		if (pid <= 0 || p->pid != pid)
			continue;
		*end = (struct supervise_end){
			.no = no,
			.pid = pid,
			.told = p->told,
			.lived_ms = now_ms - p->since_ms,
			.was = p->state,
			.round = p->round,
		};
		p->pid = 0;
		decide_restart(sv, p, now_ms, end);
		return true;
	}
	return false;
}

static void start(struct supervise *sv, uint32_t no, uint64_t now_ms)
{
	struct proc *p = &sv->procs[no];
	pid_t pid = sv->ops.start(sv->ops.arg, no);

	if (pid <= 0) { /* no memory or no process left: later */
		if (p->failures < UINT32_MAX)
			p->failures++;
		p->due_ms =
			now_ms + supervise_backoff_ms(&sv->times, p->failures);
		return;
	}
	p->pid = pid;
	p->told = false;
	p->since_ms = now_ms;
	p->state = PROC_STARTING;
	p->due_ms = now_ms + sv->times.ready_ms;
}

static void run_row(struct supervise *sv, uint32_t no, uint64_t now_ms)
{
	struct proc *p = &sv->procs[no];

	switch (p->state) {
	case PROC_DUE:
		start(sv, no, now_ms);
		break;
	case PROC_STARTING: /* too slow: a failure, so not `told` */
		p->state = PROC_KILLED;
		sv->ops.signal(sv->ops.arg, p->pid, SIGKILL);
		break;
	case PROC_DRAINING:
		begin_end(sv, p, p->end_ms, now_ms);
		break;
	case PROC_ENDING:
		p->state = PROC_KILLED;
		tell(sv, p, SIGKILL);
		break;
	case PROC_NONE:
	case PROC_READY:
	case PROC_KILLED:
		break;
	}
}

static bool has_timer(const struct proc *p)
{
	return p->state == PROC_DUE || p->state == PROC_STARTING ||
	       p->state == PROC_DRAINING || p->state == PROC_ENDING;
}

uint64_t supervise_run(struct supervise *sv, uint64_t now_ms)
{
	uint64_t next_ms = SUPERVISE_NEVER;

	for (uint32_t no = SEGMENT_PROC_PREFETCHER; no < SEGMENT_PROCS; no++) {
		const struct proc *p = &sv->procs[no];

		if (has_timer(p) && p->due_ms <= now_ms)
			run_row(sv, no, now_ms);
		if (has_timer(p))
			next_ms = min_u64(next_ms, p->due_ms);
	}
	return next_ms;
}

bool supervise_idle(const struct supervise *sv, uint32_t from, uint32_t to)
{
	for (uint32_t no = from; no < to; no++)
		if (sv->procs[no].state != PROC_NONE)
			return false;
	return true;
}

#include "prefetcher/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TAILQ_HEAD(job_list, job);

struct jobs {
	struct segment *seg;
	struct job_list list;
	uint32_t count;
	uint32_t most;
	uint64_t last_no;
};

const char *job_state_name(enum job_state state)
{
	static const char *const names[] = {
		[JOB_WAITING] = "waiting",     [JOB_RUNNING] = "running",
		[JOB_DONE] = "done",           [JOB_FAILED] = "failed",
		[JOB_CANCELLED] = "cancelled",
	};

	return names[state];
}

bool job_is_open(const struct job *job)
{
	return job->state == JOB_WAITING || job->state == JOB_RUNNING;
}

/* ---- for a successor ---- */

static void keep_row(struct jobs *js, struct job *job)
{
	uint32_t row = 0;
	struct segment_job *kept;

	while (row < SEGMENT_JOBS && atomic_load(&js->seg->jobs[row].used) != 0)
		row++;
	if (row == SEGMENT_JOBS)
		return; /* it ends with this process */
	kept = &js->seg->jobs[row];
	atomic_store(&kept->used, 0);
	kept->no = job->no;
	kept->start_ms = job->start_ms;
	kept->seconds_ms = job->seconds_ms;
	kept->bytes = job->bytes;
	kept->deadline_ms = job->deadline_ms;
	kept->asked_ms = job->asked_ms;
	kept->key_bytes = (uint32_t)strlen(job->key);
	memcpy(kept->key, job->key, kept->key_bytes);
	atomic_store(&kept->used, 1);
	job->row = row + 1;
}

static void drop_row(struct jobs *js, struct job *job)
{
	if (job->row > 0)
		atomic_store(&js->seg->jobs[job->row - 1].used, 0);
	job->row = 0;
}

/* A row that a predecessor wrote.  False: it says nothing that counts. */
static bool take_row(struct jobs *js, uint32_t row, uint64_t now_ms)
{
	struct segment_job *kept = &js->seg->jobs[row];
	struct job *job;

	if (kept->key_bytes < 3 || kept->key_bytes > LAYOUT_KEY_BYTES ||
	    memchr(kept->key, '\0', kept->key_bytes) != NULL ||
	    memchr(kept->key, '/', kept->key_bytes) == NULL ||
	    kept->asked_ms > now_ms || js->count >= js->most)
		return false;
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return false;
	job->no = kept->no;
	job->start_ms = kept->start_ms;
	job->seconds_ms = kept->seconds_ms;
	job->bytes = kept->bytes;
	job->deadline_ms = kept->deadline_ms;
	job->asked_ms = kept->asked_ms;
	job->active_ms = now_ms;
	job->row = row + 1;
	memcpy(job->key, kept->key, kept->key_bytes);
	TAILQ_INSERT_TAIL(&js->list, job, link);
	js->count++;
	js->last_no = max_u64(js->last_no, job->no);
	return true;
}

int jobs_open(struct jobs **out, struct segment *seg, uint32_t most,
	      uint64_t now_ms)
{
	struct jobs *js = calloc(1, sizeof(*js));

	if (js == NULL)
		return -ENOMEM;
	js->seg = seg;
	js->most = most;
	TAILQ_INIT(&js->list);
	for (uint32_t row = 0; row < SEGMENT_JOBS; row++)
		if (atomic_load(&seg->jobs[row].used) != 0 &&
		    !take_row(js, row, now_ms))
			atomic_store(&seg->jobs[row].used, 0);
	*out = js;
	return 0;
}

static void forget(struct jobs *js, struct job *job)
{
	TAILQ_REMOVE(&js->list, job, link);
	js->count--;
	free(job);
}

void jobs_close(struct jobs *js)
{
	if (js == NULL)
		return;
	while (!TAILQ_EMPTY(&js->list))
		forget(js, TAILQ_FIRST(&js->list));
	free(js);
}

/* ---- beginning ---- */

static bool is_same(const struct job *job, const struct query *q)
{
	return job_is_open(job) && strlen(job->key) == q->key_bytes &&
	       memcmp(job->key, q->key, q->key_bytes) == 0 &&
	       job->start_ms == q->start_ms &&
	       job->seconds_ms == q->seconds_ms && job->bytes == q->bytes;
}

static bool make_room(struct jobs *js)
{
	struct job *job;

	if (js->count < js->most)
		return true;
	TAILQ_FOREACH (job, &js->list, link)
		if (!job_is_open(job)) {
			forget(js, job);
			return true;
		}
	return false;
}

struct job *jobs_begin(struct jobs *js, const struct query *q, uint64_t now_ms)
{
	uint64_t deadline_ms = now_ms + min_u64(q->deadline_ms, UINT32_MAX);
	bool given = q->deadline_ms != QUERY_NOT_GIVEN;
	struct job *job;

	must(q->key_bytes <= LAYOUT_KEY_BYTES);
	TAILQ_FOREACH (job, &js->list, link) {
		if (!is_same(job, q))
			continue;
		if (given && deadline_ms < job->deadline_ms) {
			job->deadline_ms = deadline_ms;
			/* one word: a row that is whole stays whole */
			if (job->row > 0)
				js->seg->jobs[job->row - 1].deadline_ms =
					deadline_ms;
		}
		return job;
	}
	job = make_room(js) ? calloc(1, sizeof(*job)) : NULL;
	if (job == NULL)
		return NULL;
	job->no = ++js->last_no;
	job->start_ms = q->start_ms;
	job->seconds_ms = q->seconds_ms;
	job->bytes = q->bytes;
	job->deadline_ms = given ? deadline_ms : now_ms + JOB_DEADLINE_MS;
	job->asked_ms = job->active_ms = now_ms;
	memcpy(job->key, q->key, q->key_bytes);
	TAILQ_INSERT_TAIL(&js->list, job, link);
	js->count++;
	keep_row(js, job);
	return job;
}

/* ---- looking ---- */

struct job *jobs_first(struct jobs *js)
{
	return TAILQ_FIRST(&js->list);
}

struct job *jobs_next(struct job *job)
{
	return TAILQ_NEXT(job, link);
}

bool job_matches(const struct job *job, const char *key, size_t key_bytes)
{
	const char *slash = memchr(key, '/', key_bytes);

	if (strncmp(job->key, key, key_bytes) != 0)
		return false;
	if (job->key[key_bytes] == '\0')
		return true;
	return job->key[key_bytes] == '/' && slash != NULL &&
	       memchr(slash + 1, '/', (size_t)(key + key_bytes - slash - 1)) ==
		       NULL;
}

/* ---- changing ---- */

void job_wait(struct job *job)
{
	if (job_is_open(job))
		job->state = JOB_WAITING;
}

void job_run(struct job *job)
{
	if (job_is_open(job))
		job->state = JOB_RUNNING;
}

void job_end(struct jobs *js, struct job *job, enum job_state state,
	     uint32_t status, const char *reason, uint64_t now_ms)
{
	job->state = state;
	job->fail_status = status;
	job->ended_ms = now_ms;
	snprintf(job->reason, sizeof(job->reason), "%s", reason);
	drop_row(js, job);
}

void jobs_sweep(struct jobs *js, uint64_t now_ms)
{
	struct job *job, *next;

	for (job = TAILQ_FIRST(&js->list); job != NULL; job = next) {
		next = TAILQ_NEXT(job, link);
		if (!job_is_open(job) && now_ms - job->ended_ms >= JOB_KEPT_MS)
			forget(js, job);
	}
}

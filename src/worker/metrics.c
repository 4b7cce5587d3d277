#include "worker/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct text {
	char *dst;
	size_t max;
	size_t used;
	bool full;
};

static const struct {
	const char *name;
	const char *type;
	const char *help;
} stats[] = {
#define STAT(name, type, help) [STAT_##name] = { #name, #type, help },
#include "shm/stats.def"
#undef STAT
};

static void PRINTF(2, 3) put(struct text *t, const char *fmt, ...)
{
	va_list args;
	int n;

	if (t->full)
		return;
	va_start(args, fmt);
	n = vsnprintf(t->dst + t->used, t->max - t->used, fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= t->max - t->used)
		t->full = true;
	else
		t->used += (size_t)n;
}

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

static bool is_running(const struct segment *seg, unsigned proc)
{
	return atomic_load(&seg->procs[proc].pid) != 0;
}

static uint64_t sum_stat(const struct segment *seg, unsigned no, bool gauge)
{
	uint64_t sum = 0;

	for (unsigned p = 0; p < SEGMENT_PROCS; p++)
		if (!gauge || is_running(seg, p))
			sum += load(&seg->stats[p].value[no]);
	return sum;
}

static bool is_gauge(unsigned no)
{
	return strcmp(stats[no].type, "gauge") == 0;
}

static void put_stats(struct text *t, const struct segment *seg)
{
	for (unsigned no = 0; no < STAT_COUNT; no++) {
		put(t,
		    "# HELP reelcache_%s %s\n# TYPE reelcache_%s %s\n"
		    "reelcache_%s %" PRIu64 "\n",
		    stats[no].name, stats[no].help, stats[no].name,
		    stats[no].type, stats[no].name, sum_stat(seg, no, is_gauge(no)));
	}
}

static void put_ttfb(struct text *t, const struct segment *seg)
{
	uint64_t bucket[SEGMENT_TTFB_BUCKETS] = { 0 };
	uint64_t sum_us = 0;
	uint64_t so_far = 0;

	for (unsigned p = 0; p < SEGMENT_PROCS; p++) {
		for (unsigned n = 0; n < SEGMENT_TTFB_BUCKETS; n++)
			bucket[n] += load(&seg->stats[p].ttfb_bucket[n]);
		sum_us += load(&seg->stats[p].ttfb_sum_us);
	}
	put(t, "# HELP reelcache_ttfb_seconds time from a request's head to "
	       "the first byte of its response\n"
	       "# TYPE reelcache_ttfb_seconds histogram\n");
	for (unsigned n = 0; n + 1 < SEGMENT_TTFB_BUCKETS; n++) {
		so_far += bucket[n];
		put(t,
		    "reelcache_ttfb_seconds_bucket{le=\"%.5g\"} %" PRIu64 "\n",
		    (double)(UINT64_C(250) << n) / 1e6, so_far);
	}
	/* the count is the last bucket's: readers want them to agree */
	so_far += bucket[SEGMENT_TTFB_BUCKETS - 1];
	put(t,
	    "reelcache_ttfb_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
	    "reelcache_ttfb_seconds_sum %.6f\n"
	    "reelcache_ttfb_seconds_count %" PRIu64 "\n",
	    so_far, (double)sum_us / 1e6, so_far);
}

static void put_processes(struct text *t, const struct segment *seg)
{
	uint64_t workers = 0;
	uint64_t restarts = 0;

	for (unsigned p = 0; p < SEGMENT_PROCS; p++) {
		restarts += atomic_load(&seg->procs[p].restarts);
		if (p >= SEGMENT_PROC_WORKER0 && is_running(seg, p))
			workers++;
	}
	put(t,
	    "# HELP reelcache_workers worker processes that run\n"
	    "# TYPE reelcache_workers gauge\n"
	    "reelcache_workers %" PRIu64 "\n"
	    "# HELP reelcache_restarts processes restarted after they "
	    "died\n"
	    "# TYPE reelcache_restarts counter\n"
	    "reelcache_restarts %" PRIu64 "\n",
	    workers, restarts);
}

void metrics_json(const struct segment *seg, struct json *j)
{
	json_object(j);
	for (unsigned no = 0; no < STAT_COUNT; no++) {
		json_key(j, stats[no].name);
		json_u64(j, sum_stat(seg, no, is_gauge(no)));
	}
	json_object_end(j);
}

int metrics_format(const struct segment *seg, char *dst, size_t dst_bytes,
		   size_t *used)
{
	struct text t = { .dst = dst, .max = dst_bytes };

	put_stats(&t, seg);
	put_ttfb(&t, seg);
	put_processes(&t, seg);
	if (t.full)
		return -ENOSPC;
	*used = t.used;
	return 0;
}

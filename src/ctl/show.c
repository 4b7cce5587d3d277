#include "ctl/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl/field.h"
#include "ctl/table.h"

/* Counters that should be 0 on a good day, with what they mean. */
static const struct {
	const char *name;
	const char *says;
} troubles[] = {
	{ "responses_5xx", "answers with a status of 5xx" },
	{ "responses_broken", "answers broken off" },
	{ "connections_refused", "clients refused by a limit" },
	{ "connections_timeout", "clients closed by a timeout" },
	{ "requests_bad", "requests that are no HTTP" },
	{ "origin_errors", "transfers from origins that failed" },
	{ "stale_served", "stale answers while an origin failed" },
	{ "unstored_bytes", "bytes passed through unstored" },
	{ "damaged_chunks", "damaged chunk files dropped" },
	{ "disk_errors", "writes to the disk that failed" },
};

static void add_number(struct table *t, struct json_object *obj,
		       const char *name)
{
	uint64_t n;

	if (field_number(obj, name, &n))
		table_add(t, "%" PRIu64, n);
	else
		table_add(t, "-");
}

static void add_bytes(struct table *t, struct json_object *obj,
		      const char *name)
{
	char text[TEXT_BYTES_MAX];
	uint64_t n;

	if (field_number(obj, name, &n))
		table_add(t, "%s", text_bytes(text, n));
	else
		table_add(t, "-");
}

/* ---- status ---------------------------------------------------------------
 */

static const char *worker_state(struct json_object *worker)
{
	if (field_number_or_0(worker, "pid") == 0)
		return "DEAD";
	if (field_is_true(worker, "draining"))
		return "draining";
	return field_is_true(worker, "ready") ? "ready" : "STARTING";
}

/* The first line: is it all right, and if not, what first. */
static void show_verdict(struct json_object *status)
{
	size_t count;
	size_t ready = 0;
	size_t missing = 0;
	struct json_object *workers = field_array(status, "workers", &count);
	struct json_object *prefetcher = field_member(status, "prefetcher");
	struct json_object *resolver = field_member(status, "resolver");

	for (size_t i = 0; i < count; i++) {
		const char *state =
			worker_state(json_object_array_get_idx(workers, i));

		if (strcmp(state, "ready") == 0)
			ready++;
		else if (strcmp(state, "draining") != 0)
			missing++;
	}
	if (ready == 0)
		printf("DOWN: no worker is ready, clients are not served\n");
	else if (field_number_or_0(prefetcher, "pid") == 0)
		printf("DEGRADED: no prefetcher, only what is stored is "
		       "served\n");
	else if (field_number_or_0(resolver, "pid") == 0)
		printf("DEGRADED: no resolver, new ids of sources that need it "
		       "are not served\n");
	else if (missing > 0)
		printf("DEGRADED: %zu of %zu workers are not ready\n", missing,
		       missing + ready);
	else
		printf("OK: serving with %zu worker%s\n", ready,
		       ready == 1 ? "" : "s");
}

static void add_process(struct table *t, struct json_object *status,
			const char *name)
{
	struct json_object *process = field_member(status, name);

	table_add(t, "%s", name);
	add_number(t, process, "pid");
	table_add(t, field_number_or_0(process, "pid") > 0 ? "ready" : "DEAD");
	table_add(t, "-");
	add_number(t, process, "restarts");
}

static int show_processes(struct json_object *status)
{
	static const char *const heads[] = { "PROCESS", ">PID", "STATE",
					     ">CONNECTIONS", ">RESTARTS" };
	size_t count;
	struct json_object *workers = field_array(status, "workers", &count);
	struct table t;

	table_init(&t, ARRAY_LEN(heads), heads);
	add_process(&t, status, "prefetcher");
	add_process(&t, status, "resolver");
	for (size_t i = 0; i < count; i++) {
		struct json_object *w = json_object_array_get_idx(workers, i);

		table_add(&t, "worker %" PRIu64, field_number_or_0(w, "slot"));
		add_number(&t, w, "pid");
		table_add(&t, "%s", worker_state(w));
		add_number(&t, w, "connections");
		add_number(&t, w, "restarts");
	}
	return table_print(&t, "  ");
}

static unsigned percent(uint64_t part, uint64_t whole)
{
	return whole == 0
		       ? 0
		       : (unsigned)(100.0 * (double)part / (double)whole + 0.5);
}

static void show_store(struct json_object *status)
{
	struct json_object *store = field_member(status, "store");
	uint64_t used = field_number_or_0(store, "used_bytes");
	uint64_t size = field_number_or_0(store, "size_bytes");
	char a[TEXT_BYTES_MAX];
	char b[TEXT_BYTES_MAX];

	printf("\nStore   %s of %s (%u %%)%s\n", text_bytes(a, used),
	       text_bytes(b, size), percent(used, size),
	       used > size ? "  MORE THAN ALLOWED" : "");
	printf("        %" PRIu64 " objects, %" PRIu64
	       " chunk files, epoch %" PRIu64 "\n",
	       field_number_or_0(store, "objects"),
	       field_number_or_0(store, "chunks"),
	       field_number_or_0(store, "epoch"));
	printf("        %s unstored in scratch\n",
	       text_bytes(a, field_number_or_0(store, "scratch_bytes")));
	printf("        %" PRIu64 " ranges arriving\n",
	       field_number_or_0(status, "runs"));
}

static void show_traffic(struct json_object *stats)
{
	uint64_t cache = field_number_or_0(stats, "bytes_sent_cache");
	uint64_t inflight = field_number_or_0(stats, "bytes_sent_inflight");
	uint64_t origin = field_number_or_0(stats, "bytes_sent_origin");
	uint64_t hits = field_number_or_0(stats, "hits");
	uint64_t joins = field_number_or_0(stats, "joins");
	uint64_t misses = field_number_or_0(stats, "misses");
	uint64_t sent = cache + inflight + origin;
	char text[TEXT_BYTES_MAX];

	printf("\nServed  %" PRIu64 " requests: %" PRIu64 " hits, %" PRIu64
	       " joined a fetch, %" PRIu64 " waited for an origin\n",
	       field_number_or_0(stats, "requests"), hits, joins, misses);
	printf("        %s sent", text_bytes(text, sent));
	printf(": %u %% from the cache, %u %% from another's fetch, %u %% from "
	       "an own one\n",
	       percent(cache, sent), percent(inflight, sent),
	       percent(origin, sent));
	printf("Origins %" PRIu64 " requests, %s received, %" PRIu64
	       " resumed after a break\n",
	       field_number_or_0(stats, "origin_requests"),
	       text_bytes(text, field_number_or_0(stats, "origin_bytes")),
	       field_number_or_0(stats, "origin_resumes"));
}

static void show_troubles(struct json_object *stats)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_LEN(troubles); i++) {
		uint64_t n = field_number_or_0(stats, troubles[i].name);

		if (n == 0)
			continue;
		if (!any)
			printf("\nTrouble since the start\n");
		any = true;
		printf("  %12" PRIu64 "  %s (%s)\n", n, troubles[i].says,
		       troubles[i].name);
	}
	if (!any)
		printf("\nNo trouble since the start\n");
}

int show_status(struct json_object *status)
{
	struct json_object *stats = field_member(status, "stats");
	char up[TEXT_BYTES_MAX];
	int rc;

	show_verdict(status);
	printf("reelcache %s, pid %" PRIu64 ", up %s\n\n",
	       field_text(status, "version", "-"),
	       field_number_or_0(status, "pid"),
	       text_duration(up, field_number_or_0(status, "uptime_s")));
	rc = show_processes(status);
	show_store(status);
	show_traffic(stats);
	show_troubles(stats);
	return rc;
}

/* ---- objects and runs -----------------------------------------------------
 */

static void add_stored(struct table *t, struct json_object *o)
{
	uint64_t size;
	uint64_t stored = field_number_or_0(o, "stored_bytes");

	add_bytes(t, o, "size_bytes");
	add_bytes(t, o, "stored_bytes");
	if (!field_number(o, "size_bytes", &size))
		table_add(t, "-");
	else if (size == 0)
		table_add(t, "100 %%");
	else /* 100 % only when it is all there */
		table_add(t, "%u %%",
			  stored < size && percent(stored, size) == 100
				  ? 99
				  : percent(stored, size));
}

static void add_freshness(struct table *t, struct json_object *o, int64_t now)
{
	struct json_object *until = field_member(o, "fresh_until_s");
	char text[TEXT_BYTES_MAX];
	int64_t left;

	if (!json_object_is_type(until, json_type_int)) {
		table_add(t, "-");
		return;
	}
	if (__builtin_sub_overflow(json_object_get_int64(until), now, &left))
		left = 0;
	if (left > 0)
		table_add(t, "%s", text_duration(text, (uint64_t)left));
	else
		table_add(t, "stale");
}

int show_objects(struct json_object *objects)
{
	static const char *const heads[] = { "OBJECT", ">SIZE",   ">STORED",
					     ">PART",  ">CHUNKS", "FRESH FOR",
					     "TYPE" };
	size_t count = json_object_array_length(objects);
	int64_t now = (int64_t)time(NULL);
	uint64_t stored = 0;
	char text[TEXT_BYTES_MAX];
	struct table t;
	int rc;

	table_init(&t, ARRAY_LEN(heads), heads);
	for (size_t i = 0; i < count; i++) {
		struct json_object *o = json_object_array_get_idx(objects, i);

		table_add(&t, "%s", field_text(o, "key", "-"));
		add_stored(&t, o);
		add_number(&t, o, "chunks");
		add_freshness(&t, o, now);
		table_add(&t, "%s", field_text(o, "content_type", "-"));
		stored += field_number_or_0(o, "stored_bytes");
	}
	rc = table_print(&t, "");
	printf("%zu object%s, %s\n", count, count == 1 ? "" : "s",
	       text_bytes(text, stored));
	return rc;
}

int show_inflight(struct json_object *inflight)
{
	static const char *const heads[] = { "OBJECT",   ">RUN", ">FROM",
					     ">ARRIVED", ">END", ">READERS",
					     "STATE",    "KEPT" };
	size_t count;
	struct json_object *runs = field_array(inflight, "runs", &count);
	struct table t;
	int rc;

	table_init(&t, ARRAY_LEN(heads), heads);
	for (size_t i = 0; i < count; i++) {
		struct json_object *r = json_object_array_get_idx(runs, i);
		uint64_t from = field_number_or_0(r, "from");
		uint64_t to = field_number_or_0(r, "to");
		char text[TEXT_BYTES_MAX];

		table_add(&t, "%s", field_text(r, "key", "-"));
		add_number(&t, r, "run_no");
		add_number(&t, r, "from");
		table_add(&t, "%s",
			  text_bytes(text, to > from ? to - from : 0));
		add_number(&t, r, "end");
		add_number(&t, r, "readers");
		table_add(&t, "%s", field_text(r, "state", "-"));
		table_add(&t, "%s",
			  field_is_true(r, "scratch") ? "scratch" : "store");
	}
	rc = table_print(&t, "");
	printf("%zu range%s arriving\n", count, count == 1 ? "" : "s");
	return rc;
}

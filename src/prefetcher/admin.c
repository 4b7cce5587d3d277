#include "prefetcher/admin.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/json.h"
#include "http/problem.h"
#include "util/clock.h"
#include "util/log.h"

#define PAGE_DEFAULT 200u
#define PAGE_MAX     1000u
#define OBJECT_BYTES 4096u /* an object in JSON, at most (texts are short) */
#define ANSWER_BYTES (64 * KIB)
#define TIMEOUT_S    10

struct admin {
	struct evhttp *http;
	struct plan *plan;
};

struct answer {
	struct evhttp_request *req;
	struct evkeyvalq query;
	struct json json;
	char *buffer;
};

/* ---- answering ---- */

static void send_json(struct evhttp_request *req, int status, const char *type,
		      const char *bytes, size_t n)
{
	struct evbuffer *body = evbuffer_new();

	if (body == NULL || evbuffer_add(body, bytes, n) < 0) {
		evhttp_send_error(req, 500, NULL);
	} else {
		evhttp_add_header(evhttp_request_get_output_headers(req),
				  "Content-Type", type);
		evhttp_send_reply(req, status, NULL, body);
	}
	if (body != NULL)
		evbuffer_free(body);
}

static void send_problem(struct evhttp_request *req, int status,
			 const char *detail)
{
	char body[PROBLEM_BYTES_MAX];
	int n = problem_format(body, sizeof(body), status, detail);

	if (n < 0)
		evhttp_send_error(req, status, NULL);
	else
		send_json(req, status, PROBLEM_CONTENT_TYPE, body, (size_t)n);
}

static bool begin(struct answer *an, size_t bytes)
{
	an->buffer = malloc(bytes);
	if (an->buffer == NULL) {
		send_problem(an->req, 500, "out of memory");
		return false;
	}
	json_init(&an->json, an->buffer, bytes);
	json_object(&an->json);
	return true;
}

static void finish(struct answer *an, int status)
{
	size_t n;

	json_object_end(&an->json);
	json_newline(&an->json);
	if (json_end(&an->json, &n) < 0)
		send_problem(an->req, 500, "the answer is too long");
	else
		send_json(an->req, status, "application/json", an->buffer, n);
}

static void put_u64(struct json *j, const char *name, uint64_t value)
{
	json_key(j, name);
	json_u64(j, value);
}

static void put_text(struct json *j, const char *name, const char *value)
{
	json_key(j, name);
	json_text(j, value);
}

static void put_size(struct json *j, const char *name, uint64_t value)
{
	json_key(j, name);
	if (value == SIZE_UNKNOWN)
		json_null(j);
	else
		json_u64(j, value);
}

/* ---- GET /status ---- */

static void put_workers(struct json *j, struct segment *seg)
{
	json_key(j, "workers");
	json_array(j);
	for (uint32_t n = 0; n < SEGMENT_WORKERS; n++) {
		struct segment_proc *proc =
			&seg->procs[SEGMENT_PROC_WORKER0 + n];

		if (atomic_load(&proc->pid) == 0)
			continue;
		json_object(j);
		put_u64(j, "slot", n);
		put_u64(j, "pid", atomic_load(&proc->pid));
		json_key(j, "ready");
		json_bool(j, atomic_load(&proc->ready) != 0);
		json_key(j, "draining");
		json_bool(j, atomic_load(&proc->draining) != 0);
		put_u64(j, "restarts", atomic_load(&proc->restarts));
		put_u64(j, "connections",
			atomic_load(&seg->workers[n].connections));
		json_object_end(j);
	}
	json_array_end(j);
}

static void put_store(struct json *j, const struct catalog *cat)
{
	json_key(j, "store");
	json_object(j);
	put_u64(j, "size_bytes", cat->opts.size_bytes);
	put_u64(j, "used_bytes", cat->used_bytes);
	put_u64(j, "scratch_bytes", cat->scratch_used);
	put_u64(j, "objects", HASH_CNT(by_key, cat->objects));
	put_u64(j, "chunks", cat->extents);
	put_u64(j, "epoch", cat->epoch);
	json_object_end(j);
}

static void put_stats(struct json *j, struct segment *seg)
{
	static const char *const names[] = {
#define STAT(name, type, help) [STAT_##name] = #name,
#include "shm/stats.def"
#undef STAT
	};

	json_key(j, "stats");
	json_object(j);
	for (size_t n = 0; n < STAT_COUNT; n++) {
		uint64_t sum = 0;

		for (size_t p = 0; p < SEGMENT_PROCS; p++)
			sum += atomic_load_explicit(&seg->stats[p].value[n],
						    memory_order_relaxed);
		put_u64(j, names[n], sum);
	}
	json_object_end(j);
}

static void put_origin(void *ctx, const struct origin *o,
		       const struct origin_record *rec)
{
	struct json *j = ctx;

	json_object(j);
	put_text(j, "origin", origin_name(o));
	put_u64(j, "active", origin_active(o));
	put_u64(j, "ahead", origin_ahead(o));
	put_u64(j, "parallel", rec->parallel);
	put_u64(j, "tolerated", rec->tolerated);
	put_size(j, "range_max", rec->range_max);
	json_key(j, "prefers_bounded");
	json_bool(j, (rec->flags & ORIGIN_PREFERS_BOUNDED) != 0);
	put_u64(j, "bounded_bps", rec->bounded_bps);
	put_u64(j, "open_bps", rec->open_bps);
	put_u64(j, "first_byte_ms", rec->first_byte_ms);
	json_object_end(j);
}

/* ---- GET /origins ---- */

static void get_origins(struct admin *ad, struct answer *an)
{
	if (!begin(an, ORIGINS_MAX * KIB + ANSWER_BYTES))
		return;
	json_key(&an->json, "origins");
	json_array(&an->json);
	origins_each(ad->plan->origins, plan_wall_s(), put_origin, &an->json);
	json_array_end(&an->json);
	finish(an, 200);
}

static void get_status(struct admin *ad, struct answer *an)
{
	struct segment *seg = ad->plan->opts.seg;
	struct segment_proc *own = &seg->procs[SEGMENT_PROC_PREFETCHER];
	struct segment_proc *master = &seg->procs[SEGMENT_PROC_MASTER];
	struct segment_proc *resolver = &seg->procs[SEGMENT_PROC_RESOLVER];
	struct json *j = &an->json;

	if (!begin(an, ANSWER_BYTES))
		return;
	put_text(j, "version", PACKAGE_VERSION);
	put_u64(j, "pid", atomic_load(&master->pid));
	put_u64(j, "uptime_s",
		(clock_now_ms() - atomic_load(&master->since_ms)) / 1000);
	put_workers(j, seg);
	json_key(j, "prefetcher");
	json_object(j);
	put_u64(j, "pid", (uint64_t)getpid());
	put_u64(j, "restarts", atomic_load(&own->restarts));
	json_object_end(j);
	json_key(j, "resolver");
	json_object(j);
	put_u64(j, "pid", atomic_load(&resolver->pid));
	put_u64(j, "restarts", atomic_load(&resolver->restarts));
	json_object_end(j);
	put_store(j, ad->plan->cat);
	put_u64(j, "runs", ad->plan->runs);
	put_stats(j, seg);
	finish(an, 200);
}

/* ---- GET /objects ---- */

static void put_object(struct json *j, const struct object *obj)
{
	const struct object_record *rec = obj->record;

	json_object(j);
	put_text(j, "key", obj->key);
	put_u64(j, "object_no", rec->object_no);
	put_u64(j, "generation", rec->generation);
	put_size(j, "size_bytes", rec->size_bytes);
	put_u64(j, "chunk_bytes", rec->chunk_bytes);
	put_u64(j, "stored_bytes", obj->stored_bytes);
	put_u64(j, "chunks", obj->count);
	put_text(j, "etag", object_record_text(rec, TEXT_ETAG));
	put_text(j, "last_modified",
		 object_record_text(rec, TEXT_LAST_MODIFIED));
	put_text(j, "content_type", object_record_text(rec, TEXT_CONTENT_TYPE));
	json_key(j, "fresh_until_s");
	json_i64(j, rec->fresh_until_s);
	json_object_end(j);
}

static void get_objects(struct admin *ad, struct answer *an)
{
	const char *after = evhttp_find_header(&an->query, "after");
	const char *limit_text = evhttp_find_header(&an->query, "limit");
	struct catalog *cat = ad->plan->cat;
	struct object *obj = cat->objects;
	const char *last = NULL;
	uint64_t limit = PAGE_DEFAULT, left;

	if (limit_text != NULL &&
	    (!slice_to_u64(slice_of(limit_text), &limit) || limit == 0 ||
	     limit > PAGE_MAX)) {
		send_problem(an->req, 400, "limit must be 1 to 1000");
		return;
	}
	if (after != NULL) {
		obj = catalog_find(cat, after, strlen(after));
		if (obj == NULL) {
			send_problem(an->req, 409,
				     "the list changed: begin again");
			return;
		}
		obj = obj->by_key.next; /* oldest first */
	}
	if (!begin(an, limit * OBJECT_BYTES + ANSWER_BYTES))
		return;
	json_key(&an->json, "objects");
	json_array(&an->json);
	for (left = limit; obj != NULL && left > 0; obj = obj->by_key.next) {
		if (obj->record == NULL || !obj->kept)
			continue;
		put_object(&an->json, obj);
		last = obj->key;
		left--;
	}
	json_array_end(&an->json);
	json_key(&an->json, "next");
	if (left == 0 && last != NULL)
		json_text(&an->json, last);
	else
		json_null(&an->json);
	finish(an, 200);
}

/* ---- GET /inflight ---- */

static void put_run(struct json *j, const struct title *t,
		    const struct run *run)
{
	static const char *const states[] = {
		[RUN_ASKED] = "asked",
		[RUN_BODY] = "body",
		[RUN_RETRY] = "retry",
	};

	json_object(j);
	put_text(j, "key", t->obj->key);
	put_u64(j, "run_no", run->fill != NULL ? run->fill->run_no : 0);
	put_u64(j, "from", run->from_off);
	put_u64(j, "to", run_next_off(run));
	put_size(j, "end", run->end_off);
	put_u64(j, "readers", run->readers);
	put_text(j, "state", run->paused ? "paused" : states[run->state]);
	json_key(j, "scratch");
	json_bool(j, run->fill != NULL && run->fill->scratch);
	json_object_end(j);
}

/* Ended runs whose records are not all committed yet, and scratch files that
 * are still read. */
static void put_ended_rows(struct json *j, struct catalog *cat)
{
	struct segment_run_view run;
	struct object *obj, *next;
	const char *key;

	for (uint32_t n = 0; n < SEGMENT_RUNS; n++) {
		if (!cat->inflight.used[n] ||
		    !segment_read_run(cat->opts.seg, n, &run) ||
		    (run.flags & SEGMENT_RUN_ACTIVE) != 0)
			continue;
		key = "";
		HASH_ITER (by_key, cat->objects, obj, next)
			if (obj->record != NULL &&
			    obj->record->object_no == run.object_no)
				key = obj->key;
		json_object(j);
		put_text(j, "key", key);
		put_u64(j, "run_no", run.run_no);
		put_u64(j, "from", run.from_off);
		put_u64(j, "to", run.to_off);
		put_u64(j, "end", run.to_off);
		put_u64(j, "readers", 0);
		put_text(j, "state", "ended");
		json_key(j, "scratch");
		json_bool(j, (run.flags & SEGMENT_RUN_SCRATCH) != 0);
		json_object_end(j);
	}
}

static void get_inflight(struct admin *ad, struct answer *an)
{
	const struct title *t;
	const struct run *run;

	if (!begin(an, SEGMENT_RUNS * KIB + ANSWER_BYTES))
		return;
	json_key(&an->json, "runs");
	json_array(&an->json);
	TAILQ_FOREACH (t, &ad->plan->titles, link)
		TAILQ_FOREACH (run, &t->runs, link)
			put_run(&an->json, t, run);
	put_ended_rows(&an->json, ad->plan->cat);
	json_array_end(&an->json);
	finish(an, 200);
}

/* ---- POST /purge, POST and GET /verify ---- */

static void post_purge(struct admin *ad, struct answer *an)
{
	const char *key = evhttp_find_header(&an->query, "key");
	const char *id = evhttp_find_header(&an->query, "id");
	const char *all = evhttp_find_header(&an->query, "all");
	struct plan_purged purged;

	if ((key != NULL) + (id != NULL) + (all != NULL) != 1) {
		send_problem(an->req, 400, "give one of key, id and all");
		return;
	}
	plan_purge(ad->plan, key, id, &purged);
	if (!begin(an, ANSWER_BYTES))
		return;
	put_u64(&an->json, "objects", purged.objects);
	put_u64(&an->json, "chunks", purged.chunks);
	put_u64(&an->json, "bytes", purged.bytes);
	put_u64(&an->json, "runs", purged.runs);
	finish(an, 200);
}

static void post_verify(struct admin *ad, struct answer *an)
{
	if (!begin(an, ANSWER_BYTES))
		return;
	put_u64(&an->json, "queued", catalog_verify_all(ad->plan->cat));
	finish(an, 202);
}

static void get_verify(struct admin *ad, struct answer *an)
{
	const struct catalog *cat = ad->plan->cat;

	if (!begin(an, ANSWER_BYTES))
		return;
	put_u64(&an->json, "left", cat->checks_left + cat->verify_left);
	put_u64(&an->json, "good", cat->verify_good);
	put_u64(&an->json, "bad", cat->verify_bad);
	finish(an, 200);
}

/* ---- routes ---- */

static const struct {
	enum evhttp_cmd_type method;
	const char *path;
	void (*serve)(struct admin *ad, struct answer *an);
} routes[] = {
	{ EVHTTP_REQ_GET, "/status", get_status },
	{ EVHTTP_REQ_GET, "/objects", get_objects },
	{ EVHTTP_REQ_GET, "/inflight", get_inflight },
	{ EVHTTP_REQ_GET, "/origins", get_origins },
	{ EVHTTP_REQ_POST, "/purge", post_purge },
	{ EVHTTP_REQ_POST, "/verify", post_verify },
	{ EVHTTP_REQ_GET, "/verify", get_verify },
};

static void on_request(struct evhttp_request *req, void *arg)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
	struct answer an = { .req = req };
	bool path_known = false;

	if (path == NULL ||
	    evhttp_parse_query_str(query != NULL ? query : "", &an.query) < 0) {
		send_problem(req, 400, "unreadable request");
		return;
	}
	for (size_t n = 0; n < ARRAY_LEN(routes); n++) {
		if (strcmp(routes[n].path, path) != 0)
			continue;
		path_known = true;
		if (routes[n].method != evhttp_request_get_command(req))
			continue;
		routes[n].serve(arg, &an);
		goto done;
	}
	send_problem(req, path_known ? 405 : 404,
		     path_known ? "not this method" : "no such resource");
done:
	evhttp_clear_headers(&an.query);
	free(an.buffer);
}

int admin_open(struct admin **out, struct event_base *base, struct plan *plan,
	       int listen_fd)
{
	struct admin *ad = calloc(1, sizeof(*ad));
	int fd;

	if (ad == NULL)
		return -ENOMEM;
	ad->plan = plan;
	ad->http = evhttp_new(base);
	if (ad->http == NULL) {
		free(ad);
		return -ENOMEM;
	}
	evhttp_set_timeout(ad->http, TIMEOUT_S);
	evhttp_set_max_headers_size(ad->http, 16 * 1024);
	evhttp_set_max_body_size(ad->http, 64 * 1024);
	evhttp_set_allowed_methods(ad->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_gencb(ad->http, on_request, ad);
	fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 3); /* evhttp closes its own */
	if (fd < 0 || evutil_make_socket_nonblocking(fd) < 0 ||
	    evhttp_accept_socket(ad->http, fd) < 0) {
		int rc = errno != 0 ? -errno : -EIO;

		if (fd >= 0)
			close(fd);
		evhttp_free(ad->http);
		free(ad);
		return rc;
	}
	*out = ad;
	return 0;
}

void admin_close(struct admin *ad)
{
	if (ad == NULL)
		return;
	evhttp_free(ad->http);
	free(ad);
}

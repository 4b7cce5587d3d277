#include "resolver/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <uthash.h>

#include "resolver/command.h"
#include "resolver/directory.h"
#include "resolver/fetch.h"
#include "resolver/parse.h"
#include "store/resolution.h"
#include "upstream/template.h"
#include "upstream/transfer.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/words.h"

#define TOO_MANY     "too many resolutions wait"
#define DIRECTORY_S  5 /* how long what was seen in a folder holds */
#define REASON_BYTES sizeof(((struct resolved *)0)->reason)
#define VERSION_TEXT PACKAGE_NAME "/" PACKAGE_VERSION

struct asker {
	TAILQ_ENTRY(asker) link;
	uint32_t slot;
	uint64_t token;
};

struct job {
	UT_hash_handle hh;
	TAILQ_ENTRY(job) wait; /* while it has no place */
	struct resolver_jobs *all;
	const struct conf_source *source;
	TAILQ_HEAD(, asker) askers;
	uint64_t deadline_ms;
	struct command *command; /* running, or */
	struct fetch *fetch;
	bool running;
	char *id; /* in key */
	char key[LAYOUT_KEY_BYTES + 1];
};

/* What has failed a moment ago. */
struct failure {
	UT_hash_handle hh;
	uint64_t until_ms;
	uint32_t status;
	char reason[REASON_BYTES];
	char key[LAYOUT_KEY_BYTES + 1];
};

struct resolver_jobs {
	struct resolver_jobs_opts opts;
	struct upstream *upstream;
	struct resolutions *table;
	struct job *jobs;         /* uthash */
	struct failure *failures; /* uthash, oldest first */
	TAILQ_HEAD(, job) waiting;
	uint32_t running;
	uint32_t askers;
	uint64_t now_ms;
};

static void run_waiting(struct resolver_jobs *all);

/* ---- answers ---- */

static void reply(struct resolver_jobs *all, uint32_t slot, uint64_t token,
		  uint32_t status, const char *reason)
{
	struct resolved answer = { .type = RESOLVED_TYPE,
				   .http_status = status,
				   .token = token,
				   .retry_after_s = status == 503 ? 1 : 0 };
	int tx = slot == RESOLVE_PREFETCHER ? all->opts.ipc->prefetcher.tx
					    : all->opts.ipc->workers[slot].tx;
	int rc;

	snprintf(answer.reason, sizeof(answer.reason), "%s", reason);
	/* a full inbox: it is asked again by timer */
	rc = inbox_send(tx, &answer, sizeof(answer));
	if (rc < 0 && rc != -EAGAIN)
		log_warning("ev=answer_lost slot=%u errno=%d", slot, -rc);
}

static void reply_all(struct job *job, uint32_t status, const char *reason)
{
	struct asker *a;

	while ((a = TAILQ_FIRST(&job->askers)) != NULL) {
		reply(job->all, a->slot, a->token, status, reason);
		TAILQ_REMOVE(&job->askers, a, link);
		job->all->askers--;
		free(a);
	}
}

static int add_asker(struct job *job, const struct resolve *ask)
{
	struct asker *a;

	TAILQ_FOREACH (a, &job->askers, link)
		if (a->slot == ask->slot && a->token == ask->token)
			return 0;
	if (job->all->askers >= ASKERS_MAX)
		return -EBUSY;
	a = calloc(1, sizeof(*a));
	if (a == NULL)
		return -ENOMEM;
	a->slot = ask->slot;
	a->token = ask->token;
	TAILQ_INSERT_TAIL(&job->askers, a, link);
	job->all->askers++;
	return 0;
}

/* ---- failures ---- */

static void forget_failure(struct resolver_jobs *all, struct failure *f)
{
	HASH_DEL(all->failures, f);
	free(f);
}

static void remember_failure(struct job *job, uint32_t status,
			     const char *reason)
{
	struct resolver_jobs *all = job->all;
	struct failure *f;

	HASH_FIND_STR(all->failures, job->key, f);
	if (f != NULL)
		forget_failure(all, f);
	if (HASH_COUNT(all->failures) >= FAILURES_MAX)
		forget_failure(all, all->failures);
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return;
	f->until_ms = all->now_ms + all->opts.conf->cache.negative;
	f->status = status;
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	snprintf(f->key, sizeof(f->key), "%s", job->key);
	HASH_ADD_STR(all->failures, key, f);
}

static const struct failure *failure_of(struct resolver_jobs *all,
					const char *key)
{
	struct failure *f;

	HASH_FIND_STR(all->failures, key, f);
	if (f == NULL || f->until_ms > all->now_ms)
		return f;
	forget_failure(all, f);
	return NULL;
}

/* ---- the end of a job ---- */

static void end_job(struct job *job)
{
	struct resolver_jobs *all = job->all;

	must(TAILQ_EMPTY(&job->askers));
	if (job->running)
		all->running--;
	else
		TAILQ_REMOVE(&all->waiting, job, wait);
	HASH_DEL(all->jobs, job);
	free(job);
}

static void fail(struct job *job, uint32_t status, const char *reason)
{
	char quoted[2 * REASON_BYTES + 3];

	log_warning("ev=resolve_failed key=%s status=%u why=%s", job->key,
		    status, log_quote(quoted, sizeof(quoted), reason));
	remember_failure(job, status, reason);
	reply_all(job, status, reason);
	end_job(job);
}

/* It never had a place: that tells nothing of its id. */
static void give_up(struct job *job)
{
	must(!job->running);
	log_warning("ev=resolve_given_up key=%s", job->key);
	reply_all(job, 503, TOO_MANY);
	end_job(job);
}

static int64_t wall_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Takes record. */
static void succeed(struct job *job, struct resolution *record)
{
	struct resolver_jobs *all = job->all;
	size_t key_bytes = strlen(job->key);
	const struct resolution *old;
	int rc;

	record->resolved_us = wall_us();
	if (resolutions_begin_read(all->table) == 0) {
		/* clocks may go back: times of a key only grow */
		old = resolutions_find(all->table, job->key, key_bytes);
		if (old != NULL && old->resolved_us >= record->resolved_us)
			record->resolved_us = old->resolved_us + 1;
		resolutions_end_read(all->table);
	}
	rc = resolutions_put(all->table, job->key, key_bytes, record);
	if (rc < 0) {
		log_error("ev=resolution_lost key=%s errno=%d", job->key, -rc);
		free(record);
		fail(job, 502, "the resolution cannot be stored");
		return;
	}
	log_info("ev=resolved key=%s renditions=%u expires_in_s=%lld askers=%s",
		 job->key, record->count,
		 (long long)(record->expires_s - clock_wall_s()),
		 TAILQ_EMPTY(&job->askers) ? "0" : "1+");
	free(record);
	reply_all(job, 200, "");
	end_job(job);
}

static void take_json(struct job *job, const char *json, size_t bytes)
{
	const struct conf_resolver *conf = &job->all->opts.conf->resolver;
	struct resolution *record;
	char why[64], reason[REASON_BYTES];
	int rc = parse_resolution(json != NULL ? json : "", bytes,
				  clock_wall_s(), (int64_t)(conf->ttl / 1000),
				  &record, why, sizeof(why));

	if (rc == 0) {
		succeed(job, record);
		return;
	}
	snprintf(reason, sizeof(reason),
		 "the resolver cannot use what it was "
		 "told: %s",
		 rc == -ENOMEM ? "out of memory" : why);
	fail(job, 502, reason);
}

/* ---- command ---- */

/* Words by which helper programs say that there is no such video. */
static bool says_absent(const char *reason)
{
	static const char *const words[] = { "HTTP Error 404", "404: Not Found",
					     "HTTP Error 410",
					     "Unsupported URL",
					     "does not exist" };

	for (size_t n = 0; n < ARRAY_LEN(words); n++)
		if (strstr(reason, words[n]) != NULL)
			return true;
	return false;
}

static void on_command(void *ctx, enum command_end how, const char *output,
		       size_t bytes, const char *reason)
{
	struct job *job = ctx;
	struct resolver_jobs *all = job->all;

	job->command = NULL;
	if (how == COMMAND_DONE)
		take_json(job, output, bytes);
	else if (how == COMMAND_TOO_LONG)
		fail(job, 502, "the helper program's output is too long");
	else
		fail(job, says_absent(reason) ? 404 : 502,
		     reason[0] != '\0' ? reason : "the helper program failed");
	run_waiting(all);
}

static const struct command_ops command_ops = { .end = on_command };

static int begin_command(struct job *job, const char *url)
{
	const struct conf_resolver *conf = &job->all->opts.conf->resolver;
	const struct command_opts opts = {
		.command = job->source->command,
		.url = url,
		.id = job->id,
		.output_bytes = conf->output,
		.memory_bytes = conf->memory,
		.cpu_s = conf->timeout / 1000 + 1,
	};

	return command_begin(&job->command, job->all->opts.base, &opts,
			     &command_ops, job);
}

/* ---- http ---- */

static void on_fetched(void *ctx, uint32_t status, const char *body,
		       size_t bytes, const char *reason)
{
	struct job *job = ctx;
	struct resolver_jobs *all = job->all;

	job->fetch = NULL;
	if (status == 200)
		take_json(job, body, bytes);
	else
		fail(job, status, reason);
	run_waiting(all);
}

/* ---- directory and template ---- */

static void look_into_directory(struct job *job)
{
	struct resolution *record;
	int rc = directory_resolve(job->source->path, job->id, &record);

	if (rc == 0) {
		record->expires_s = clock_wall_s() + DIRECTORY_S;
		succeed(job, record);
	} else if (rc == -ENOENT) {
		fail(job, 404, "there is no such file");
	} else {
		log_error("ev=directory_failed path=%s errno=%d",
			  job->source->path, -rc);
		fail(job, 502, "the folder cannot be read");
	}
}

static void add_word(struct resolution_builder *b, const struct job *job,
		     const char *word, size_t bytes)
{
	char quality[RESOLUTION_FORMAT_BYTES + 1], url[TRANSFER_URL_BYTES];
	bool audio = bytes == 5 && memcmp(word, "audio", 5) == 0;
	int32_t height = quality_number(word, bytes);
	struct rendition_facts facts = {
		.text[RENDITION_FORMAT] = bytes > 0 ? quality : "default",
		.text[RENDITION_LABEL] = quality,
		.text[RENDITION_URL] = url,
		.size_bytes = SIZE_UNKNOWN,
		.height = height > 0 ? (uint32_t)height : 0,
		.flags = RENDITION_AUDIO | (audio ? 0 : RENDITION_VIDEO),
	};

	snprintf(quality, sizeof(quality), "%.*s", (int)bytes, word);
	if (template_expand(job->source->url, job->id, strlen(job->id),
			    bytes > 0 ? quality : NULL, url, sizeof(url)) < 0)
		return; /* too long with this id */
	if (resolution_add(b, &facts) < 0)
		return; /* more words than a record holds */
}

static void list_template(struct job *job)
{
	const char *words = job->source->qualities;
	struct resolution_builder b;
	struct resolution *record;

	resolution_begin(&b, NULL, 0);
	if (*words == '\0' && b.error == 0)
		add_word(&b, job, "", 0);
	for (size_t n; b.error == 0 && (n = words_next(&words)) > 0; words += n)
		add_word(&b, job, words, n);
	if (resolution_end(&b, &record) < 0) {
		fail(job, 502, "no URL can be made of this id");
		return;
	}
	record->expires_s = clock_wall_s() +
			    (int64_t)(job->all->opts.conf->resolver.ttl / 1000);
	succeed(job, record);
}

/* ---- running ---- */

static int begin_remote(struct job *job)
{
	const struct conf *conf = job->all->opts.conf;
	char url[TRANSFER_URL_BYTES];
	int rc = template_expand(job->source->url, job->id, strlen(job->id),
				 NULL, url, sizeof(url));

	if (rc < 0)
		return rc;
	if (job->source->type == CONF_SOURCE_TYPE_COMMAND)
		return begin_command(job, url);
	return fetch_begin(&job->fetch, job->all->upstream, url,
			   job->source->allow_private, conf->resolver.output,
			   on_fetched, job);
}

static void run(struct job *job)
{
	struct resolver_jobs *all = job->all;
	int rc;

	TAILQ_REMOVE(&all->waiting, job, wait);
	job->running = true;
	all->running++;
	switch ((enum conf_source_type)job->source->type) {
	case CONF_SOURCE_TYPE_DIRECTORY:
		look_into_directory(job);
		return;
	case CONF_SOURCE_TYPE_TEMPLATE:
		list_template(job);
		return;
	case CONF_SOURCE_TYPE_HTTP:
	case CONF_SOURCE_TYPE_COMMAND:
		break;
	}
	rc = begin_remote(job);
	if (rc < 0)
		fail(job, 502, strerror(-rc));
}

static bool is_remote(const struct job *job)
{
	return job->source->type == CONF_SOURCE_TYPE_HTTP ||
	       job->source->type == CONF_SOURCE_TYPE_COMMAND;
}

static void end_running(struct job *job)
{
	if (job->command != NULL)
		command_abort(job->command);
	if (job->fetch != NULL)
		fetch_abort(job->fetch);
	job->command = NULL;
	job->fetch = NULL;
}

static void run_waiting(struct resolver_jobs *all)
{
	struct job *job;

	while (all->running < all->opts.conf->resolver.processes &&
	       (job = TAILQ_FIRST(&all->waiting)) != NULL)
		run(job);
}

/* ---- asks ---- */

static bool sane(const struct resolve *ask, size_t bytes)
{
	return bytes == sizeof(*ask) && ask->type == RESOLVE_TYPE &&
	       (ask->slot < SEGMENT_WORKERS ||
		ask->slot == RESOLVE_PREFETCHER) &&
	       ask->key_bytes > 2 && ask->key_bytes <= LAYOUT_KEY_BYTES &&
	       memchr(ask->key, '\0', ask->key_bytes) == NULL;
}

/* Is what the table has good enough for this ask? */
static bool is_known(struct resolver_jobs *all, const struct resolve *ask)
{
	const struct resolution *r;
	bool known = false;

	if (resolutions_begin_read(all->table) < 0)
		return false;
	r = resolutions_find(all->table, ask->key, ask->key_bytes);
	if (r != NULL && r->expires_s > clock_wall_s())
		known = (ask->flags & RESOLVE_AGAIN) == 0 ||
			r->resolved_us > ask->known_us;
	resolutions_end_read(all->table);
	return known;
}

static const struct conf_source *source_of(const struct resolver_jobs *all,
					   const char *key)
{
	const char *slash = strchr(key, '/');

	if (slash == NULL)
		return NULL;
	return conf_find_source(all->opts.conf, key, (size_t)(slash - key));
}

/* NULL: too many, or out of memory. */
static struct job *new_job(struct resolver_jobs *all, const char *key)
{
	const struct conf_source *source = source_of(all, key);
	struct job *job;

	if (source == NULL || HASH_COUNT(all->jobs) >= JOBS_MAX)
		return NULL;
	job = calloc(1, sizeof(*job));
	if (job == NULL)
		return NULL;
	job->all = all;
	job->source = source;
	job->deadline_ms = all->now_ms + all->opts.conf->resolver.timeout;
	TAILQ_INIT(&job->askers);
	snprintf(job->key, sizeof(job->key), "%s", key);
	job->id = strchr(job->key, '/') + 1;
	HASH_ADD_STR(all->jobs, key, job);
	TAILQ_INSERT_TAIL(&all->waiting, job, wait);
	return job;
}

void resolver_jobs_ask(struct resolver_jobs *all, const void *message,
		       size_t bytes)
{
	const struct resolve *ask = message;
	const struct failure *failed;
	char key[LAYOUT_KEY_BYTES + 1];
	struct job *job;

	if (!sane(ask, bytes)) {
		log_warning("ev=resolve_refused bytes=%zu", bytes);
		return;
	}
	all->now_ms = clock_now_ms();
	memcpy(key, ask->key, ask->key_bytes);
	key[ask->key_bytes] = '\0';
	HASH_FIND_STR(all->jobs, key, job);
	if (job == NULL && is_known(all, ask)) {
		reply(all, ask->slot, ask->token, 200, "");
		return;
	}
	failed = job == NULL ? failure_of(all, key) : NULL;
	if (failed != NULL) {
		reply(all, ask->slot, ask->token, failed->status,
		      failed->reason);
		return;
	}
	if (job == NULL && source_of(all, key) == NULL) {
		reply(all, ask->slot, ask->token, 404,
		      "there is no such source");
		return;
	}
	if (job == NULL)
		job = new_job(all, key);
	if (job == NULL || add_asker(job, ask) < 0) {
		reply(all, ask->slot, ask->token, 503, TOO_MANY);
		if (job != NULL && TAILQ_EMPTY(&job->askers) && !job->running)
			end_job(job);
		return;
	}
	/* what costs no more than a look is not made to wait */
	if (!job->running && !is_remote(job))
		run(job);
	else
		run_waiting(all);
}

void resolver_jobs_tick(struct resolver_jobs *all)
{
	struct job *job, *next;

	all->now_ms = clock_now_ms();
	HASH_ITER (hh, all->jobs, job, next) {
		if (all->now_ms < job->deadline_ms)
			continue;
		if (!job->running) {
			give_up(job);
			continue;
		}
		end_running(job);
		fail(job, 504, "the resolution took too long");
	}
	run_waiting(all);
}

/* ---- opening ---- */

static int open_upstream(struct resolver_jobs *all)
{
	const struct conf *conf = all->opts.conf;
	const struct upstream_opts opts = {
		.connect_timeout_ms = (uint32_t)conf->upstream.connect_timeout,
		.first_byte_timeout_ms = (uint32_t)conf->resolver.timeout,
		.stall_timeout_ms = (uint32_t)conf->upstream.stall_timeout,
		.connections = conf->resolver.processes,
		.redirects = conf->upstream.redirects,
		.user_agent = conf->upstream.user_agent[0] != '\0'
				      ? conf->upstream.user_agent
				      : VERSION_TEXT,
		.ca_file = conf->upstream.ca_file,
	};

	return upstream_open(&all->upstream, all->opts.base, &opts);
}

int resolver_jobs_open(struct resolver_jobs **out,
		       const struct resolver_jobs_opts *opts)
{
	struct resolver_jobs *all = calloc(1, sizeof(*all));
	int rc;

	if (all == NULL)
		return -ENOMEM;
	all->opts = *opts;
	all->now_ms = clock_now_ms();
	TAILQ_INIT(&all->waiting);
	rc = resolutions_open(&all->table, opts->conf->cache.path,
			      opts->conf->resolver.index, true);
	if (rc == 0)
		rc = open_upstream(all);
	if (rc < 0) {
		resolutions_close(all->table);
		free(all);
		return rc;
	}
	*out = all;
	return 0;
}

void resolver_jobs_close(struct resolver_jobs *all)
{
	struct job *job, *next_job;
	struct failure *f, *next;
	struct asker *a;

	if (all == NULL)
		return;
	HASH_ITER (hh, all->jobs, job, next_job) {
		end_running(job);
		while ((a = TAILQ_FIRST(&job->askers)) != NULL) {
			TAILQ_REMOVE(&job->askers, a, link);
			free(a);
		}
		end_job(job);
	}
	HASH_ITER (hh, all->failures, f, next)
		forget_failure(all, f);
	upstream_close(all->upstream);
	resolutions_close(all->table);
	free(all);
}

#include "prefetcher/locator.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/resolution.h"
#include "upstream/template.h"
#include "util/log.h"

#define ASKS_MAX 4096u
#define GRACE_MS 5000u /* the resolver's own time limit comes first */

/* An id that the resolver is asked for. */
struct pending {
	TAILQ_ENTRY(pending) link;
	uint64_t token;
	int64_t known_us;
	uint64_t began_ms;
	uint64_t sent_ms;
	uint32_t id_key_bytes;
	char id_key[LAYOUT_KEY_BYTES + 1];
};

struct locator {
	struct locator_opts opts;
	struct resolutions *table; /* NULL: not made yet */
	TAILQ_HEAD(pending_list, pending) asks;
	uint32_t count;
	uint64_t token;
};

/* Length of "source/id" in an object's key. */
static size_t id_key_bytes(const char *key)
{
	const char *slash = strchr(key, '/');

	must(slash != NULL);
	return (size_t)(slash + 1 - key) + strcspn(slash + 1, "/");
}

bool locator_same_id(const char *key, const char *id_key)
{
	return strlen(id_key) == id_key_bytes(key) &&
	       strncmp(key, id_key, strlen(id_key)) == 0;
}

int locator_open(struct locator **out, const struct locator_opts *opts)
{
	struct locator *lo = calloc(1, sizeof(*lo));

	if (lo == NULL)
		return -ENOMEM;
	lo->opts = *opts;
	TAILQ_INIT(&lo->asks);
	*out = lo;
	return 0;
}

void locator_close(struct locator *lo)
{
	struct pending *p;

	if (lo == NULL)
		return;
	while ((p = TAILQ_FIRST(&lo->asks)) != NULL) {
		TAILQ_REMOVE(&lo->asks, p, link);
		free(p);
	}
	resolutions_close(lo->table);
	free(lo);
}

/* ---- finding ---- */

static int from_template(const struct conf_source *source, const char *key,
			 struct location *at)
{
	size_t n = id_key_bytes(key);
	const char *id = strchr(key, '/') + 1;
	const char *quality = key[n] == '/' ? key + n + 1 : NULL;

	return template_expand(source->url, id, (size_t)(key + n - id), quality,
			       at->url, sizeof(at->url));
}

static int from_record(const struct resolution *record, const char *format,
		       int64_t wall_s, struct location *at)
{
	const struct rendition *r;
	int url, fields;

	if (record == NULL)
		return -EAGAIN;
	at->resolved_us = record->resolved_us;
	if (record->expires_s <= wall_s)
		return -EAGAIN;
	r = resolution_find_format(record, format, strlen(format));
	if (r == NULL)
		return -ENOENT;
	url = snprintf(at->url, sizeof(at->url), "%s",
		       rendition_text(record, r, RENDITION_URL));
	fields = snprintf(at->fields, sizeof(at->fields), "%s",
			  rendition_text(record, r, RENDITION_FIELDS));
	if (url < 0 || (size_t)url >= sizeof(at->url) || fields < 0 ||
	    (size_t)fields >= sizeof(at->fields))
		return -ENAMETOOLONG;
	return 0;
}

static int open_table(struct locator *lo)
{
	if (lo->table != NULL)
		return 0;
	return resolutions_open(&lo->table, lo->opts.conf->cache.path,
				lo->opts.conf->resolver.index, false);
}

int locator_find(struct locator *lo, const struct conf_source *source,
		 const char *key, int64_t wall_s, struct location *at)
{
	size_t n = id_key_bytes(key);
	int rc;

	at->fields[0] = '\0';
	at->resolved_us = 0;
	if (source->type == CONF_SOURCE_TYPE_TEMPLATE)
		return from_template(source, key, at);
	if (key[n] != '/')
		return -ENOENT;
	/* a resolver that starts for the first time has not made it yet */
	if (open_table(lo) < 0 || resolutions_begin_read(lo->table) < 0)
		return -EAGAIN;
	rc = from_record(resolutions_find(lo->table, key, n), key + n + 1,
			 wall_s, at);
	resolutions_end_read(lo->table);
	return rc;
}

/* ---- asking ---- */

static void send_ask(struct locator *lo, struct pending *p, uint64_t now_ms)
{
	struct resolve ask = {
		.type = RESOLVE_TYPE,
		.slot = RESOLVE_PREFETCHER,
		.token = p->token,
		.known_us = p->known_us,
		.flags = p->known_us != 0 ? RESOLVE_AGAIN : 0,
		.key_bytes = p->id_key_bytes,
	};
	int rc;

	memcpy(ask.key, p->id_key, p->id_key_bytes);
	p->sent_ms = now_ms;
	rc = inbox_send(lo->opts.ipc->resolver.tx, &ask, sizeof(ask));
	if (rc < 0 && rc != -EAGAIN) /* full: the timer sends it again */
		log_warning("ev=resolve_ask_lost errno=%d", -rc);
}

int locator_ask(struct locator *lo, const char *key, int64_t known_us,
		uint64_t now_ms)
{
	size_t n = id_key_bytes(key);
	struct pending *p;

	must(n <= LAYOUT_KEY_BYTES);
	TAILQ_FOREACH (p, &lo->asks, link) {
		if (p->id_key_bytes != n || memcmp(p->id_key, key, n) != 0)
			continue;
		if (known_us > p->known_us) {
			p->known_us = known_us;
			send_ask(lo, p, now_ms);
		}
		return 0;
	}
	if (lo->count >= ASKS_MAX)
		return -EBUSY;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->token = ++lo->token;
	p->known_us = known_us;
	p->began_ms = now_ms;
	p->id_key_bytes = (uint32_t)n;
	memcpy(p->id_key, key, n);
	TAILQ_INSERT_TAIL(&lo->asks, p, link);
	lo->count++;
	send_ask(lo, p, now_ms);
	return 0;
}

/* answered() may ask anew: the list is changed before. */
static void end_ask(struct locator *lo, struct pending *p, uint32_t status,
		    uint32_t retry_after_s, const char *reason)
{
	TAILQ_REMOVE(&lo->asks, p, link);
	lo->count--;
	lo->opts.answered(lo->opts.ctx, p->id_key, status, retry_after_s,
			  reason);
	free(p);
}

void locator_reply(struct locator *lo, const void *message, size_t bytes)
{
	const struct resolved *reply = message;
	char reason[sizeof(reply->reason)];
	struct pending *p;

	if (bytes != sizeof(*reply) || reply->type != RESOLVED_TYPE)
		return;
	snprintf(reason, sizeof(reason), "%.*s", (int)sizeof(reason) - 1,
		 reply->reason);
	TAILQ_FOREACH (p, &lo->asks, link)
		if (p->token == reply->token)
			break;
	if (p != NULL)
		end_ask(lo, p, reply->http_status, reply->retry_after_s,
			reason);
}

void locator_tick(struct locator *lo, uint64_t now_ms)
{
	uint64_t most_ms = lo->opts.conf->resolver.timeout + GRACE_MS;
	struct pending_list late;
	struct pending *p, *next;

	TAILQ_INIT(&late);
	for (p = TAILQ_FIRST(&lo->asks); p != NULL; p = next) {
		next = TAILQ_NEXT(p, link);
		if (now_ms - p->began_ms >= most_ms) {
			TAILQ_REMOVE(&lo->asks, p, link);
			TAILQ_INSERT_TAIL(&late, p, link);
		} else if (now_ms - p->sent_ms >= RESOLVE_RETRY_MS) {
			send_ask(lo, p, now_ms);
		}
	}
	while ((p = TAILQ_FIRST(&late)) != NULL) {
		TAILQ_REMOVE(&late, p, link);
		TAILQ_INSERT_TAIL(&lo->asks, p, link);
		end_ask(lo, p, 504, 0, "the resolver does not answer");
	}
}

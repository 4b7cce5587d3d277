#include "worker/resolving.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

#define REFRESH_ROWS 256u
#define REFRESH_MS   30000u

TAILQ_HEAD(ask_list, resolving_ask);

/* A record for which a new one was asked. */
struct refresh {
	uint64_t hash; /* of its key and time */
	uint64_t until_ms;
};

struct resolving {
	uint64_t token_count; /* 0 is nobody's token */
	uint32_t count;
	struct ask_list asks; /* oldest first, so in the order of deadlines */
	struct refresh refreshed[REFRESH_ROWS];
};

int resolving_init(struct desk *desk)
{
	struct resolving *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return -ENOMEM;
	TAILQ_INIT(&all->asks);
	/* tokens of a predecessor's asks must not match ours */
	all->token_count = desk_now_us(desk);
	desk->resolving = all;
	return 0;
}

void resolving_fini(struct desk *desk)
{
	if (desk->resolving == NULL)
		return;
	must(TAILQ_EMPTY(&desk->resolving->asks));
	free(desk->resolving);
	desk->resolving = NULL;
}

static void fill(struct desk *desk, struct resolve *message, const char *key,
		 size_t key_bytes, uint32_t flags, int64_t known_us)
{
	must(key_bytes <= sizeof(message->key));
	memset(message, 0, sizeof(*message));
	message->type = RESOLVE_TYPE;
	message->slot = desk->slot;
	message->flags = flags;
	message->known_us = known_us;
	message->key_bytes = (uint32_t)key_bytes;
	memcpy(message->key, key, key_bytes);
}

/* Asks, or sees to it that it is asked soon. */
static void send_ask(struct desk *desk, struct resolving_ask *ask)
{
	int rc = inbox_send(desk->ipc->resolver.tx, &ask->message,
			    sizeof(ask->message));

	ask->again_ms = desk_now_ms(desk) + (rc == 0 ? RESOLVE_RETRY_MS : 0);
	if (rc < 0 && rc != -EAGAIN)
		log_debug("ev=resolve_ask_failed error=%s",
			  strerrorname_np(-rc));
}

int resolving_begin(struct desk *desk, struct resolving_ask *ask,
		    const char *key, size_t key_bytes, uint32_t flags,
		    int64_t known_us)
{
	struct resolving *all = desk->resolving;

	if (all->count == RESOLVING_ASKS_MAX)
		return -EBUSY;
	fill(desk, &ask->message, key, key_bytes, flags, known_us);
	ask->message.token = ++all->token_count;
	ask->deadline_ms = desk_now_ms(desk) + desk->conf->resolver.timeout +
			   RESOLVING_GRACE_MS;
	TAILQ_INSERT_TAIL(&all->asks, ask, link);
	all->count++;
	send_ask(desk, ask);
	return 0;
}

void resolving_abort(struct desk *desk, struct resolving_ask *ask)
{
	TAILQ_REMOVE(&desk->resolving->asks, ask, link);
	desk->resolving->count--;
}

/* FNV-1a.  Two records of one hash: one of them is refreshed later. */
static uint64_t hash_record(const char *key, size_t key_bytes, int64_t known_us)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)known_us;

	for (size_t i = 0; i < key_bytes; i++)
		hash = (hash ^ (uint8_t)key[i]) * UINT64_C(0x100000001b3);
	return hash;
}

void resolving_refresh(struct desk *desk, const char *key, size_t key_bytes,
		       int64_t known_us)
{
	uint64_t hash = hash_record(key, key_bytes, known_us);
	struct refresh *row =
		&desk->resolving->refreshed[(hash >> 32) % REFRESH_ROWS];
	uint64_t now_ms = desk_now_ms(desk);
	struct resolve message;

	if (row->hash == hash && now_ms < row->until_ms)
		return;
	fill(desk, &message, key, key_bytes, RESOLVE_AGAIN, known_us);
	if (inbox_send(desk->ipc->resolver.tx, &message, sizeof(message)) < 0)
		return; /* the next request tries again */
	row->hash = hash;
	row->until_ms = now_ms + REFRESH_MS;
}

static void end_ask(struct desk *desk, struct resolving_ask *ask,
		    const struct resolved *answer)
{
	resolving_abort(desk, ask);
	ask->done(ask, answer);
}

void resolving_reply(struct desk *desk, const void *message, size_t bytes)
{
	struct resolving_ask *ask;
	struct resolved answer;

	if (bytes != sizeof(answer))
		return;
	memcpy(&answer, message, sizeof(answer));
	answer.reason[sizeof(answer.reason) - 1] = '\0';
	TAILQ_FOREACH (ask, &desk->resolving->asks, link) {
		if (ask->message.token != answer.token)
			continue;
		end_ask(desk, ask, &answer);
		return;
	}
}

void resolving_tick(struct desk *desk)
{
	static const struct resolved late = {
		.type = RESOLVED_TYPE,
		.http_status = 504,
		.reason = "the resolver did not answer in time",
	};
	struct resolving *all = desk->resolving;
	uint64_t now_ms = desk_now_ms(desk);
	struct resolving_ask *ask;

	while ((ask = TAILQ_FIRST(&all->asks)) != NULL &&
	       now_ms >= ask->deadline_ms)
		end_ask(desk, ask, &late);
	TAILQ_FOREACH (ask, &all->asks, link)
		if (now_ms >= ask->again_ms)
			send_ask(desk, ask);
}

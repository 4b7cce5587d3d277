/*
 * locator - the URL of an object, and what requests for it must carry: from
 * its source's template, or from what its id was resolved to.
 *
 * Used by: prefetcher.  Nothing blocks: what is not in the table of
 * resolutions, or has expired, is asked of the resolver, and answered() tells
 * when it is there.  Asks for one id are collapsed, repeated by timer and
 * given up in time.
 */
#ifndef REELCACHE_PREFETCHER_LOCATOR_H
#define REELCACHE_PREFETCHER_LOCATOR_H

#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "ipc/inbox.h"
#include "ipc/resolve.h"
#include "upstream/request_fields.h"
#include "upstream/transfer.h"
#include "util/base.h"

struct locator;

struct locator_opts {
	const struct conf *conf;
	const struct inboxes *ipc;
	/* id_key is "source/id"; status 200: locator_find() knows more now */
	void (*answered)(void *ctx, const char *id_key, uint32_t status,
			 uint32_t retry_after_s, const char *reason);
	void *ctx;
};

int locator_open(struct locator **out,
		 const struct locator_opts *opts) MUSTCHECK;
void locator_close(struct locator *lo);

struct location {
	char url[TRANSFER_URL_BYTES];
	char fields[REQUEST_FIELDS_BYTES];
	int64_t resolved_us; /* the resolution's; 0: a template */
};

/*
 * Where key is, "source/id" or "source/id/format".  resolved_us is set in any
 * case.
 * -EAGAIN: locator_ask() first.  -ENOENT: the id has no such format (any
 * more).  -EINVAL, -ENAMETOOLONG: the template cannot hold it.
 */
int locator_find(struct locator *lo, const struct conf_source *source,
		 const char *key, int64_t wall_s,
		 struct location *at) MUSTCHECK;

/* known_us: of a resolution that is of no use any more; 0 = none is known.
 * -EBUSY: too many at a time. */
int locator_ask(struct locator *lo, const char *key, int64_t known_us,
		uint64_t now_ms) MUSTCHECK;

/* A message from the resolver: checked here. */
void locator_reply(struct locator *lo, const void *message, size_t bytes);

/* Every second or so. */
void locator_tick(struct locator *lo, uint64_t now_ms);

/* Does key, an object's, belong to the id "source/id"? */
bool locator_same_id(const char *key, const char *id_key);

#endif

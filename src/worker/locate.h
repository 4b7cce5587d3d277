/*
 * locate - from a request to the object that it means.
 *
 *	?source=NAME  chooses the source, else the first one is meant
 *	?q=WORD       chooses the quality, else the source's default does:
 *	              144p, 360p ..., best, worst, audio
 *
 * The key is "source/id", or "source/id/word" for a template with qualities,
 * or "source/id/format" for what a resolver tells.  A template costs no
 * look-up at all; the others one in the table of resolutions, and when that
 * does not know the id the resolver is asked and the request waits.
 *
 * Used by: worker.  Nothing blocks.  Whatever is wrong is answered here, as
 * problem+json.
 */
#ifndef REELCACHE_WORKER_LOCATE_H
#define REELCACHE_WORKER_LOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "http/head.h"
#include "http/sink.h"
#include "http/slice.h"
#include "http/target.h"
#include "store/layout.h"
#include "worker/desk.h"

#define LOCATED_LABEL_BYTES 64u
#define LOCATED_TYPE_BYTES  128u
#define LOCATED_FILE_BYTES  512u

struct resolution;

/* All of it is valid until the continuation returns. */
struct located {
	const struct conf_source *source;
	struct slice id;
	const char *key; /* of the object; not NUL-terminated */
	size_t key_bytes;
	const char *label; /* quality of what is served: "360p"; "" = the
			    * source has none */
	bool exact;        /* false: a lower one than was asked for */

	/* What the resolver told of it; of a template nothing. */
	uint64_t size_bytes;  /* SIZE_UNKNOWN */
	uint64_t bitrate_bps; /* 0 = not known, as the next */
	uint64_t duration_ms;
	const char *type; /* media type; "" = not known */
	const char *file; /* type directory: its name in the folder; else "" */

	uint64_t begun_us; /* when the request came, see desk_now_us() */
};

/*
 * Goes on with the request: now, inside of locate(), or later.  head and
 * located are the caller's, as with any request; the sink is unused and must
 * be answered or given a source.  ctx is handed through as it is and never
 * freed: it must last as long as the desk (NULL, or static).
 */
typedef void locate_found(void *ctx, struct desk *desk, struct sink *sink,
			  const struct head *head, const struct located *what);

/* path: what follows "/proxy/" in the raw path: the id, still encoded. */
void locate(struct desk *desk, struct sink *sink, const struct head *head,
	    struct slice path, locate_found *found, void *ctx);

/* Only "source/id", for what concerns all renditions of an id: its length.  0:
 * the request was wrong, and is answered. */
size_t locate_id(struct desk *desk, struct sink *sink, const struct head *head,
		 struct slice path, char key[LAYOUT_KEY_BYTES]) MUSTCHECK;

/* The same for all renditions of an id, of every type of source; ?q= has no
 * meaning here.  record: valid, not expired when it was looked up, and the
 * caller's as the rest is. */
typedef void locate_resolved(struct desk *desk, struct sink *sink,
			     const struct head *head,
			     const struct conf_source *source, struct slice id,
			     const struct resolution *record);

void locate_resolution(struct desk *desk, struct sink *sink,
		       const struct head *head, struct slice path,
		       locate_resolved *resolved);

#endif

#include "worker/locate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/resolution.h"
#include "util/log.h"
#include "worker/answer.h"
#include "worker/choice.h"
#include "worker/kept.h"
#include "worker/resolving.h"

#define STATUS_LEFT    499 /* in the log: the client went first */
#define REFRESH_S      60  /* a record that is used is renewed so early, */
#define REFRESH_PARTS  10  /* or with so much of its life left */
#define REFRESH_LIFE_S 10  /* shorter lives are not worth it */

/*
 * One request on its way to its object.
 *
 *             a template, or known             found(), resolved()
 *   look() ------------------------> answered, or a source of its own
 *     |  ^
 *     |  | 200
 *     v  |            other status, too late
 *   asked, waiting --------------------------> problem+json
 */

/* What the request says. */
struct wanted {
	const struct conf_source *source;
	locate_found *found; /* or */
	locate_resolved *resolved;
	void *ctx;
	uint64_t begun_us;
	bool asked; /* the resolver has been asked for this request */
	uint8_t id_bytes;
	uint8_t quality_bytes; /* 0: it names none */
	char id[TARGET_ID_MAX];
	char quality[CHOICE_WORD_BYTES + 1];
};

_Static_assert(TARGET_ID_MAX <= UINT8_MAX && CHOICE_WORD_BYTES <= UINT8_MAX,
	       "lengths fit");
_Static_assert(CONF_NAME_BYTES + 1 + TARGET_ID_MAX + 1 +
			       RESOLUTION_FORMAT_BYTES <=
		       LAYOUT_KEY_BYTES,
	       "a key has room for all of its parts");
_Static_assert(CHOICE_WORD_BYTES <= RESOLUTION_FORMAT_BYTES &&
		       CHOICE_WORD_BYTES < LOCATED_LABEL_BYTES,
	       "words are as formats");

/* A request that waits for the resolver: the source of its sink. */
struct locating {
	struct resolving_ask ask; /* first: an ask is its locating */
	struct desk *desk;
	struct sink *sink;
	struct kept *kept;
	uint8_t peer[SINK_PEER_BYTES];
	struct wanted want;
};

/* What is found, with room for its texts. */
struct found {
	struct located located;
	char key[LAYOUT_KEY_BYTES];
	char label[LOCATED_LABEL_BYTES];
	char type[LOCATED_TYPE_BYTES];
	char file[LOCATED_FILE_BYTES];
};

enum verdict {
	VERDICT_FOUND,
	VERDICT_ABSENT,
	VERDICT_EXPIRED,
	VERDICT_NO_QUALITY,
	VERDICT_UNUSABLE, /* texts that are too long */
	VERDICT_NO_MEMORY,
};

static void problem(struct desk *desk, struct sink *sink,
		    const struct head *head, int status, const char *detail)
{
	answer_problem(desk, sink, head, status, detail,
		       status == 503 ? "Retry-After: 1\r\n" : NULL, NULL);
}

/* --- what the request says ---------------------------------------------- */

/* NULL: answered already. */
static const struct conf_source *wanted_source(struct desk *desk,
					       struct sink *sink,
					       const struct head *head)
{
	const struct conf *conf = desk->conf;
	const struct conf_source *source = NULL;
	char name[CONF_NAME_BYTES + 1];
	struct slice value;

	if (!head->has_query)
		return &conf->sources[0];
	switch (target_query(head_query(head), "source", name, sizeof(name),
			     &value)) {
	case 0:
		source = conf_find_source(conf, value.at, value.bytes);
		break;
	case -ENOENT:
		return &conf->sources[0];
	case -ENOSPC: /* longer than any name */
		break;
	default:
		problem(desk, sink, head, 400,
			"the source must be named once, properly encoded");
		return NULL;
	}
	if (source == NULL)
		problem(desk, sink, head, 404, "there is no such source");
	return source;
}

static bool has_qualities(const struct conf_source *source)
{
	return source->type != CONF_SOURCE_TYPE_TEMPLATE ||
	       *source->qualities != '\0';
}

static bool quality_known(const struct conf_source *source,
			  struct slice quality)
{
	if (source->type == CONF_SOURCE_TYPE_TEMPLATE)
		return choice_valid(source->qualities, quality);
	return quality_valid(quality.at, quality.bytes);
}

/* False: answered already. */
static bool read_quality(struct desk *desk, struct sink *sink,
			 const struct head *head, struct wanted *want)
{
	struct slice quality;
	int rc;

	if (!head->has_query)
		return true;
	rc = target_query(head_query(head), "q", want->quality,
			  sizeof(want->quality) - 1, &quality);
	if (rc == -ENOENT)
		return true;
	if (rc < 0 || quality.bytes == 0 ||
	    !quality_known(want->source, quality)) {
		problem(desk, sink, head, 400,
			"a quality is best, worst, audio, or one like 360p");
		return false;
	}
	want->quality_bytes = (uint8_t)quality.bytes;
	return true;
}

/* False: answered already. */
static bool read_request(struct desk *desk, struct sink *sink,
			 const struct head *head, struct slice path,
			 struct wanted *want)
{
	struct slice id;

	if (target_decode(path, want->id, sizeof(want->id), &id) < 0 ||
	    !target_id_valid(id)) {
		problem(desk, sink, head, 400,
			"an id is 1 to 128 of A-Z a-z 0-9 . _ ~ -");
		return false;
	}
	want->id_bytes = (uint8_t)id.bytes;
	want->quality_bytes = 0;
	want->asked = false;
	want->begun_us = desk_now_us(desk);
	want->source = wanted_source(desk, sink, head);
	if (want->source == NULL)
		return false;
	if (want->found == NULL || !has_qualities(want->source))
		return true;
	return read_quality(desk, sink, head, want);
}

/* --- what there is ------------------------------------------------------ */

/* "source/id"; its length. */
static size_t make_key(char key[LAYOUT_KEY_BYTES], const struct wanted *want)
{
	size_t n = strlen(want->source->name);

	must(n <= CONF_NAME_BYTES);
	memcpy(key, want->source->name, n);
	key[n++] = '/';
	memcpy(key + n, want->id, want->id_bytes);
	return n + want->id_bytes;
}

static void found_begin(struct found *f, const struct wanted *want)
{
	f->label[0] = '\0';
	f->type[0] = '\0';
	f->file[0] = '\0';
	f->located = (struct located){
		.source = want->source,
		.id = slice_make(want->id, want->id_bytes),
		.key = f->key,
		.key_bytes = make_key(f->key, want),
		.label = f->label,
		.exact = true,
		.size_bytes = SIZE_UNKNOWN,
		.type = f->type,
		.file = f->file,
		.begun_us = want->begun_us,
	};
}

/* "/format" to the key. */
static void add_format(struct found *f, struct slice format)
{
	size_t n = f->located.key_bytes;

	must(format.bytes <= RESOLUTION_FORMAT_BYTES);
	f->key[n++] = '/';
	memcpy(f->key + n, format.at, format.bytes);
	f->located.key_bytes = n + format.bytes;
}

static struct slice wanted_quality(const struct wanted *want)
{
	if (want->quality_bytes == 0)
		return slice_of(want->source->quality);
	return slice_make(want->quality, want->quality_bytes);
}

static enum verdict choose_word(const struct wanted *want, struct found *f)
{
	struct slice word;

	if (!choice_pick(want->source->qualities, wanted_quality(want), &word,
			 &f->located.exact))
		return VERDICT_NO_QUALITY;
	add_format(f, word);
	memcpy(f->label, word.at, word.bytes);
	f->label[word.bytes] = '\0';
	return VERDICT_FOUND;
}

static bool copy_text(char *dst, size_t dst_bytes, const char *text)
{
	size_t n = strlen(text);

	if (n >= dst_bytes)
		return false;
	memcpy(dst, text, n + 1);
	return true;
}

static enum verdict choose_rendition(const struct wanted *want,
				     const struct resolution *record,
				     struct found *f)
{
	char quality[CHOICE_WORD_BYTES + 1];
	struct slice word = wanted_quality(want);
	const struct rendition *one;

	if (word.bytes >= sizeof(quality))
		return VERDICT_NO_QUALITY;
	memcpy(quality, word.at, word.bytes);
	quality[word.bytes] = '\0';
	one = resolution_pick(record, quality, &f->located.exact);
	if (one == NULL)
		return VERDICT_NO_QUALITY;
	if (!copy_text(f->label, sizeof(f->label),
		       rendition_text(record, one, RENDITION_LABEL)) ||
	    !copy_text(f->type, sizeof(f->type),
		       rendition_text(record, one, RENDITION_TYPE)))
		return VERDICT_UNUSABLE;
	if (want->source->type == CONF_SOURCE_TYPE_DIRECTORY &&
	    !copy_text(f->file, sizeof(f->file),
		       rendition_text(record, one, RENDITION_URL)))
		return VERDICT_UNUSABLE;
	add_format(f, slice_of(rendition_text(record, one, RENDITION_FORMAT)));
	f->located.size_bytes = one->size_bytes;
	f->located.bitrate_bps = one->bitrate_bps;
	f->located.duration_ms = record->duration_ms;
	return VERDICT_FOUND;
}

/* A record of URLs that will expire soon, while somebody wants it.  One that
 * has expired is for the prefetcher to renew, should it need a URL. */
static void refresh_early(struct desk *desk, const struct wanted *want,
			  const struct resolution *record, const char *key,
			  size_t key_bytes)
{
	int64_t resolved_s = record->resolved_us / 1000000;
	int64_t life_s;
	int64_t left_s;

	if ((want->source->type != CONF_SOURCE_TYPE_HTTP &&
	     want->source->type != CONF_SOURCE_TYPE_COMMAND) ||
	    __builtin_sub_overflow(record->expires_s, resolved_s, &life_s) ||
	    __builtin_sub_overflow(record->expires_s, desk_wall_s(desk),
				   &left_s) ||
	    life_s < REFRESH_LIFE_S || left_s <= 0 || left_s > REFRESH_S ||
	    left_s > life_s / REFRESH_PARTS)
		return;
	resolving_refresh(desk, key, key_bytes, record->resolved_us);
}

/* Must it be resolved anew before it can be used? */
static bool has_expired(struct desk *desk, const struct wanted *want,
			const struct resolution *record)
{
	if (want->asked || record->expires_s > desk_wall_s(desk))
		return false;
	/* which format a quality means stays right when URLs expire; files
	 * come and go */
	return want->found == NULL ||
	       want->source->type == CONF_SOURCE_TYPE_DIRECTORY;
}

/* Between begin and end of a read.  *copy: of the record, for those who want
 * all of it, the caller's to free(). */
static enum verdict read_record(struct desk *desk, const struct wanted *want,
				const struct resolution *record,
				struct found *f, struct resolution **copy)
{
	if (record == NULL)
		return VERDICT_ABSENT;
	if (has_expired(desk, want, record))
		return VERDICT_EXPIRED;
	refresh_early(desk, want, record, f->key, f->located.key_bytes);
	if (want->found != NULL)
		return choose_rendition(want, record, f);
	*copy = malloc(record->bytes);
	if (*copy == NULL)
		return VERDICT_NO_MEMORY;
	memcpy(*copy, record, record->bytes);
	return VERDICT_FOUND;
}

/* 0 or -errno: there is no table that can be read. */
static int begin_read(struct desk *desk)
{
	int rc = 0;

	if (desk->resolutions == NULL)
		rc = resolutions_open(&desk->resolutions,
				      desk->conf->cache.path,
				      desk->conf->resolver.index, false);
	if (rc == 0)
		rc = resolutions_begin_read(desk->resolutions);
	if (rc < 0 && rc != -ENOENT)
		log_warning("ev=resolutions_failed error=%s",
			    strerrorname_np(-rc));
	return rc;
}

/* The resolver may have had to begin an empty table. */
static void forget_table(struct desk *desk)
{
	if (desk->resolutions != NULL)
		resolutions_close(desk->resolutions);
	desk->resolutions = NULL;
}

static enum verdict look_in_table(struct desk *desk, const struct wanted *want,
				  struct found *f, struct resolution **copy,
				  int64_t *known_us)
{
	const struct resolution *record;
	enum verdict verdict;

	if (begin_read(desk) < 0) {
		forget_table(desk);
		return VERDICT_ABSENT;
	}
	record = resolutions_find(desk->resolutions, f->key,
				  f->located.key_bytes);
	*known_us = record != NULL ? record->resolved_us : 0;
	verdict = read_record(desk, want, record, f, copy);
	resolutions_end_read(desk->resolutions);
	return verdict;
}

/* --- asking the resolver ------------------------------------------------ */

static void look(struct desk *desk, struct sink *sink, const struct head *head,
		 const struct wanted *want);

static void refuse_by_answer(struct desk *desk, struct sink *sink,
			     const struct head *head,
			     const struct resolved *answer)
{
	char fields[64] = "";
	int status = (int)answer->http_status;

	if (status < 400 || status > 599)
		status = 502;
	if (answer->retry_after_s > 0)
		snprintf(fields, sizeof(fields), "Retry-After: %u\r\n",
			 answer->retry_after_s);
	answer_problem(desk, sink, head, status, answer->reason, fields, NULL);
}

static void locating_done(struct resolving_ask *ask,
			  const struct resolved *answer)
{
	struct locating *lo = (struct locating *)ask;
	struct kept *kept = lo->kept;

	if (answer->http_status == 200)
		look(lo->desk, lo->sink, &kept->head, &lo->want);
	else
		refuse_by_answer(lo->desk, lo->sink, &kept->head, answer);
	free(kept);
	free(lo);
}

static void locating_writable(void *source)
{
	(void)source; /* nothing is to be written yet */
}

static void locating_gone(void *source)
{
	const struct access_facts facts = { .status = STATUS_LEFT,
					    .verdict = "-" };
	struct locating *lo = source;
	struct desk *desk = lo->desk;

	resolving_abort(desk, &lo->ask);
	access_log_end(desk->log,
		       access_log_begin(desk->log, &lo->kept->head, lo->peer),
		       desk_wall_s(desk), &facts);
	free(lo->kept);
	free(lo);
}

static const struct sink_source_ops source_ops = {
	.writable = locating_writable,
	.gone = locating_gone,
};

/* known_us: of the record that has expired; 0 = there is none. */
static int wait_for_resolver(struct desk *desk, struct sink *sink,
			     const struct head *head, const struct wanted *want,
			     int64_t known_us)
{
	struct locating *lo = malloc(sizeof(*lo));
	char key[LAYOUT_KEY_BYTES];
	int rc = -ENOMEM;

	if (lo == NULL)
		return rc;
	lo->kept = kept_new(head);
	if (lo->kept == NULL)
		goto no_head;
	lo->desk = desk;
	lo->sink = sink;
	lo->want = *want;
	lo->want.asked = true;
	lo->ask.done = locating_done;
	memcpy(lo->peer, sink->ops->peer(sink), sizeof(lo->peer));
	rc = resolving_begin(desk, &lo->ask, key, make_key(key, want),
			     known_us != 0 ? RESOLVE_AGAIN : 0, known_us);
	if (rc < 0)
		goto no_ask;
	sink->source = lo;
	sink->source_ops = &source_ops;
	return 0;

no_ask:
	free(lo->kept);
no_head:
	free(lo);
	return rc;
}

static void ask_resolver(struct desk *desk, struct sink *sink,
			 const struct head *head, const struct wanted *want,
			 int64_t known_us)
{
	if (want->asked)
		problem(desk, sink, head, 502,
			"what the resolver found is not in its table");
	else if (wait_for_resolver(desk, sink, head, want, known_us) < 0)
		problem(desk, sink, head, 503, "too many requests wait");
}

/* --- all together ------------------------------------------------------- */

static enum verdict find(struct desk *desk, const struct wanted *want,
			 struct found *f, struct resolution **copy,
			 int64_t *known_us)
{
	enum verdict verdict;

	found_begin(f, want);
	if (want->found != NULL &&
	    want->source->type == CONF_SOURCE_TYPE_TEMPLATE)
		return has_qualities(want->source) ? choose_word(want, f)
						   : VERDICT_FOUND;
	verdict = look_in_table(desk, want, f, copy, known_us);
	if (verdict == VERDICT_ABSENT && want->asked) {
		forget_table(desk);
		verdict = look_in_table(desk, want, f, copy, known_us);
	}
	return verdict;
}

static void look(struct desk *desk, struct sink *sink, const struct head *head,
		 const struct wanted *want)
{
	struct resolution *copy = NULL;
	int64_t known_us = 0;
	struct found f;

	switch (find(desk, want, &f, &copy, &known_us)) {
	case VERDICT_FOUND:
		if (want->found != NULL)
			want->found(want->ctx, desk, sink, head, &f.located);
		else
			want->resolved(desk, sink, head, want->source,
				       f.located.id, copy);
		break;
	case VERDICT_ABSENT:
		ask_resolver(desk, sink, head, want, 0);
		break;
	case VERDICT_EXPIRED:
		ask_resolver(desk, sink, head, want, known_us);
		break;
	case VERDICT_NO_QUALITY:
		problem(desk, sink, head, 404, "there is no such quality");
		break;
	case VERDICT_UNUSABLE:
		problem(desk, sink, head, 502,
			"the resolver's texts are too long");
		break;
	case VERDICT_NO_MEMORY:
		problem(desk, sink, head, 503, "out of memory");
		break;
	}
	free(copy);
}

void locate(struct desk *desk, struct sink *sink, const struct head *head,
	    struct slice path, locate_found *found, void *ctx)
{
	struct wanted want;

	want.found = found;
	want.resolved = NULL;
	want.ctx = ctx;
	if (read_request(desk, sink, head, path, &want))
		look(desk, sink, head, &want);
}

void locate_resolution(struct desk *desk, struct sink *sink,
		       const struct head *head, struct slice path,
		       locate_resolved *resolved)
{
	struct wanted want;

	want.found = NULL;
	want.resolved = resolved;
	want.ctx = NULL;
	if (read_request(desk, sink, head, path, &want))
		look(desk, sink, head, &want);
}

size_t locate_id(struct desk *desk, struct sink *sink, const struct head *head,
		 struct slice path, char key[LAYOUT_KEY_BYTES])
{
	struct wanted want = { .found = NULL };

	return read_request(desk, sink, head, path, &want)
		       ? make_key(key, &want)
		       : 0;
}

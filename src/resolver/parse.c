#include "resolver/parse.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "upstream/request_fields.h"
#include "upstream/template.h"
#include "upstream/transfer.h"

#define DEPTH_MAX    32
#define MARGIN_S     30
#define SIDE_MAX     65535
#define BITRATE_MAX  1e11 /* bits a second */
#define DURATION_MAX 1e9  /* seconds */
#define LABEL_BYTES  17u
#define FORMATS_MAX  1024u /* looked at */
#define FIELDS_MAX   64u   /* of a rendition, looked at */
#define VALUES_MAX   200000u

/* ---- endings ---- */

const struct parse_ending *parse_ending_of(const char *ending)
{
	static const struct parse_ending known[] = {
		{ "mp4", "mp4", "video/mp4", "audio/mp4", false },
		{ "m4v", "mp4", "video/mp4", "audio/mp4", false },
		{ "webm", "webm", "video/webm", "audio/webm", false },
		{ "mkv", "mkv", "video/x-matroska", "audio/x-matroska", false },
		{ "mov", "mov", "video/quicktime", "video/quicktime", false },
		{ "ogv", "ogg", "video/ogg", "audio/ogg", false },
		{ "m4a", "mp4", "audio/mp4", "audio/mp4", true },
		{ "mp3", "mp3", "audio/mpeg", "audio/mpeg", true },
		{ "ogg", "ogg", "audio/ogg", "audio/ogg", true },
		{ "opus", "ogg", "audio/ogg", "audio/ogg", true },
	};

	for (size_t n = 0; n < ARRAY_LEN(known); n++)
		if (strcasecmp(known[n].ending, ending) == 0)
			return &known[n];
	return NULL;
}

/* ---- when a URL expires ---- */

/* Digits of a URL's parameter; 0: it is not there, or no such number. */
static int64_t parameter_number(const char *url, const char *name)
{
	const char *at = strchr(url, '?');
	size_t n = strlen(name);

	for (; at != NULL; at = strchr(at, '&')) {
		int64_t value = 0;
		int digits = 0;

		at++;
		if (strncmp(at, name, n) != 0 || at[n] != '=')
			continue;
		for (at += n + 1; *at >= '0' && *at <= '9' && digits < 12;
		     at++, digits++)
			value = value * 10 + (*at - '0');
		return digits > 0 && digits < 12 ? value : 0;
	}
	return 0;
}

/* X-Amz-Date=20260102T030405Z */
static int64_t amz_date(const char *url)
{
	const char *at = strstr(url, "X-Amz-Date=");
	struct tm tm = { 0 };
	const char *end;

	if (at == NULL)
		return 0;
	end = strptime(at + strlen("X-Amz-Date="), "%Y%m%dT%H%M%SZ", &tm);
	return end != NULL ? (int64_t)timegm(&tm) : 0;
}

int64_t parse_url_expiry(const char *url)
{
	static const char *const names[] = { "expire", "expires", "Expires",
					     "exp" };
	int64_t at_s = INT64_MAX, value;

	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		value = parameter_number(url, names[n]);
		/* a time of this century, not a number of seconds */
		if (value > 1000000000 && value < at_s)
			at_s = value;
	}
	value = parameter_number(url, "X-Amz-Expires");
	if (value > 0 && amz_date(url) > 0 && amz_date(url) + value < at_s)
		at_s = amz_date(url) + value;
	return at_s;
}

/* ---- values ---- */

struct reading {
	struct resolution_builder builder;
	int64_t wall_s;
	int64_t expires_s;
	unsigned left_out;
	char fields[REQUEST_FIELDS_BYTES]; /* of formats without their own */
	bool expired;                      /* one at least */
};

/* NULL: there is none, or it is no text. */
static const char *text_of(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value) ||
	    !json_object_is_type(value, json_type_string) ||
	    strlen(json_object_get_string(value)) !=
		    (size_t)json_object_get_string_len(value))
		return NULL;
	return json_object_get_string(value);
}

/* NAN: there is none. */
static double number_of(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value) ||
	    (!json_object_is_type(value, json_type_int) &&
	     !json_object_is_type(value, json_type_double)))
		return NAN;
	return json_object_get_double(value);
}

/* 0: it is not known, or not between 0 and most. */
static uint64_t count_of(struct json_object *object, const char *name,
			 double factor, double most)
{
	double value = number_of(object, name) * factor;

	return value > 0 && value <= most ? (uint64_t)(value + .5) : 0;
}

static bool url_is_good(const char *url)
{
	char origin[TEMPLATE_ORIGIN_BYTES];

	if (url == NULL || strlen(url) >= TRANSFER_URL_BYTES)
		return false;
	for (const char *at = url; *at != '\0'; at++)
		if ((unsigned char)*at <= ' ' || *at == 0x7f)
			return false;
	return template_origin(url, origin, sizeof(origin)) == 0;
}

/* The members of an object as request fields; what cannot be one is left out.
 * False: there is no such object. */
static bool take_fields(struct json_object *object, const char *name,
			char fields[REQUEST_FIELDS_BYTES])
{
	struct json_object *all;
	struct json_object_iterator at, end;

	fields[0] = '\0';
	if (!json_object_object_get_ex(object, name, &all) ||
	    !json_object_is_type(all, json_type_object))
		return false;
	at = json_object_iter_begin(all);
	end = json_object_iter_end(all);
	for (unsigned n = 0;
	     n < FIELDS_MAX && !json_object_iter_equal(&at, &end);
	     n++, json_object_iter_next(&at)) {
		const char *field = json_object_iter_peek_name(&at);
		const char *value = text_of(all, field);

		if (value != NULL)
			(void)!request_fields_add(fields, field, value);
	}
	return true;
}

/* Any text as a format: what is not allowed becomes "_". */
static void make_format(const char *text, unsigned no,
			char format[RESOLUTION_FORMAT_BYTES + 1])
{
	size_t n;

	if (text == NULL || text[0] == '\0') {
		snprintf(format, RESOLUTION_FORMAT_BYTES + 1, "f%u", no);
		return;
	}
	for (n = 0; text[n] != '\0' && n < RESOLUTION_FORMAT_BYTES; n++)
		format[n] = quality_format_char(text[n]) ? text[n] : '_';
	format[n] = '\0';
}

static void make_label(const struct rendition_facts *facts,
		       char label[LABEL_BYTES])
{
	label[0] = '\0';
	if (facts->height > 0)
		snprintf(label, LABEL_BYTES, "%up", facts->height);
	else if (facts->flags == RENDITION_AUDIO)
		snprintf(label, LABEL_BYTES, "audio");
}

static void note_expiry(struct reading *rd, int64_t at_s)
{
	if (at_s < rd->expires_s)
		rd->expires_s = at_s;
}

/* Names that have become the same, or were: the later ones get a number. */
static int add_unique(struct reading *rd, struct rendition_facts *facts)
{
	const char *name = facts->text[RENDITION_FORMAT];
	char format[RESOLUTION_FORMAT_BYTES + 1];
	int rc = resolution_add(&rd->builder, facts);

	for (unsigned n = 2; rc == -EEXIST && n < 100; n++) {
		snprintf(format, sizeof(format), "%.56s-%u", name, n);
		facts->text[RENDITION_FORMAT] = format;
		rc = resolution_add(&rd->builder, facts);
	}
	facts->text[RENDITION_FORMAT] = name;
	return rc;
}

static void add(struct reading *rd, struct rendition_facts *facts)
{
	int64_t at_s = parse_url_expiry(facts->text[RENDITION_URL]);

	rd->expired = rd->expired || at_s <= rd->wall_s;
	/* of no importance to the others: it is left out */
	if (at_s <= rd->wall_s || add_unique(rd, facts) < 0)
		rd->left_out++;
	else
		note_expiry(rd, at_s);
}

/* ---- yt-dlp ---- */

static bool is_none(const char *codec)
{
	return codec != NULL && strcmp(codec, "none") == 0;
}

static const char *codec_text(const char *codec)
{
	return codec == NULL || is_none(codec) ? NULL : codec;
}

static bool protocol_is_plain(const char *protocol)
{
	return protocol == NULL || strcmp(protocol, "http") == 0 ||
	       strcmp(protocol, "https") == 0;
}

static void take_format(struct reading *rd, struct json_object *object,
			unsigned no)
{
	const char *url = text_of(object, "url");
	const char *video = text_of(object, "vcodec");
	const char *audio = text_of(object, "acodec");
	const char *ext = text_of(object, "ext");
	const struct parse_ending *ending =
		ext != NULL ? parse_ending_of(ext) : NULL;
	char format[RESOLUTION_FORMAT_BYTES + 1], label[LABEL_BYTES];
	char fields[REQUEST_FIELDS_BYTES];
	struct rendition_facts facts = { .text[RENDITION_FORMAT] = format,
					 .text[RENDITION_LABEL] = label };
	bool only_audio;

	if (!url_is_good(url) ||
	    !protocol_is_plain(text_of(object, "protocol")) ||
	    (is_none(video) && is_none(audio))) {
		rd->left_out++;
		return;
	}
	only_audio = is_none(video) ||
		     (video == NULL && ending != NULL && ending->audio);
	make_format(text_of(object, "format_id"), no, format);
	facts.width = (uint32_t)count_of(object, "width", 1, SIDE_MAX);
	facts.height = (uint32_t)count_of(object, "height", 1, SIDE_MAX);
	facts.bitrate_bps = count_of(object, "tbr", 1000, BITRATE_MAX);
	facts.size_bytes = count_of(object, "filesize", 1, 1e15);
	if (facts.size_bytes == 0)
		facts.size_bytes = SIZE_UNKNOWN;
	facts.flags = (only_audio ? 0 : RENDITION_VIDEO) |
		      (is_none(audio) ? 0 : RENDITION_AUDIO);
	if (only_audio)
		facts.width = facts.height = 0;
	make_label(&facts, label);
	if (ending != NULL) {
		facts.text[RENDITION_CONTAINER] = ending->container;
		facts.text[RENDITION_TYPE] =
			only_audio ? ending->audio_type : ending->type;
	}
	facts.text[RENDITION_VIDEO_CODEC] = codec_text(video);
	facts.text[RENDITION_AUDIO_CODEC] = codec_text(audio);
	facts.text[RENDITION_URL] = url;
	facts.text[RENDITION_FIELDS] =
		take_fields(object, "http_headers", fields) ? fields
							    : rd->fields;
	add(rd, &facts);
}

static void take_formats(struct reading *rd, struct json_object *root)
{
	struct json_object *formats;
	size_t count;

	(void)take_fields(root, "http_headers", rd->fields);
	if (!json_object_object_get_ex(root, "formats", &formats) ||
	    !json_object_is_type(formats, json_type_array)) {
		take_format(rd, root, 0);
		return;
	}
	/* the best ones come last: of too many the first are left out */
	count = json_object_array_length(formats);
	for (size_t n = 0; n < min_u64(count, FORMATS_MAX); n++) {
		struct json_object *one =
			json_object_array_get_idx(formats, count - 1 - n);

		if (json_object_is_type(one, json_type_object))
			take_format(rd, one, (unsigned)(count - 1 - n));
	}
}

/* ---- our own ---- */

static bool is_true(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) &&
	       json_object_is_type(value, json_type_boolean) &&
	       json_object_get_boolean(value);
}

static void take_rendition(struct reading *rd, struct json_object *object,
			   unsigned no)
{
	const char *url = text_of(object, "url");
	const char *quality = text_of(object, "quality");
	char format[RESOLUTION_FORMAT_BYTES + 1], label[LABEL_BYTES];
	char fields[REQUEST_FIELDS_BYTES];
	struct rendition_facts facts = { .text[RENDITION_FORMAT] = format,
					 .text[RENDITION_LABEL] = label,
					 .text[RENDITION_FIELDS] = fields };

	if (!url_is_good(url)) {
		rd->left_out++;
		return;
	}
	(void)take_fields(object, "request_fields", fields);
	make_format(text_of(object, "format"), no, format);
	facts.width = (uint32_t)count_of(object, "width", 1, SIDE_MAX);
	facts.height = (uint32_t)count_of(object, "height", 1, SIDE_MAX);
	if (facts.height == 0 && quality != NULL &&
	    quality_number(quality, strlen(quality)) > 0)
		facts.height =
			(uint32_t)quality_number(quality, strlen(quality));
	facts.bitrate_bps = count_of(object, "bitrate_bps", 1, BITRATE_MAX);
	facts.size_bytes = count_of(object, "size_bytes", 1, 1e15);
	if (facts.size_bytes == 0)
		facts.size_bytes = SIZE_UNKNOWN;
	facts.flags = (is_true(object, "video") ? RENDITION_VIDEO : 0) |
		      (is_true(object, "audio") ? RENDITION_AUDIO : 0);
	if (facts.flags == 0)
		facts.flags = RENDITION_VIDEO | RENDITION_AUDIO;
	make_label(&facts, label);
	facts.text[RENDITION_CONTAINER] = text_of(object, "container");
	facts.text[RENDITION_TYPE] = text_of(object, "type");
	facts.text[RENDITION_VIDEO_CODEC] = text_of(object, "video_codec");
	facts.text[RENDITION_AUDIO_CODEC] = text_of(object, "audio_codec");
	facts.text[RENDITION_URL] = url;
	add(rd, &facts);
}

static void take_renditions(struct reading *rd, struct json_object *root,
			    struct json_object *renditions)
{
	double expires = number_of(root, "expires");

	if (expires > 0 && expires < 1e12)
		note_expiry(rd, (int64_t)expires);
	for (size_t n = 0;
	     n < min_u64(json_object_array_length(renditions), FORMATS_MAX);
	     n++) {
		struct json_object *one =
			json_object_array_get_idx(renditions, n);

		if (json_object_is_type(one, json_type_object))
			take_rendition(rd, one, (unsigned)n);
	}
}

/* ---- the whole ---- */

/* A page with several videos: the first one is meant. */
static struct json_object *first_entry(struct json_object *root)
{
	struct json_object *entries, *entry;

	if (!json_object_object_get_ex(root, "entries", &entries) ||
	    !json_object_is_type(entries, json_type_array) ||
	    json_object_array_length(entries) == 0)
		return root;
	entry = json_object_array_get_idx(entries, 0);
	return json_object_is_type(entry, json_type_object) ? entry : root;
}

static int read_root(struct reading *rd, struct json_object *root, char *why,
		     size_t why_bytes)
{
	struct json_object *renditions, *entry = first_entry(root);
	bool ours = json_object_object_get_ex(root, "renditions", &renditions);
	double duration = number_of(ours ? root : entry,
				    ours ? "duration_s" : "duration");

	if (ours && (!json_object_is_type(renditions, json_type_array) ||
		     number_of(root, "version") != 1)) {
		snprintf(why, why_bytes, "its schema is not version 1");
		return -EINVAL;
	}
	resolution_begin(&rd->builder, text_of(ours ? root : entry, "title"),
			 duration > 0 && duration <= DURATION_MAX
				 ? (uint64_t)(duration * 1000 + .5)
				 : 0);
	if (rd->builder.error < 0)
		return rd->builder.error;
	if (ours)
		take_renditions(rd, root, renditions);
	else
		take_formats(rd, entry);
	return 0;
}

/* Each value costs the parser much more than its text: so many are more than
 * any list of renditions has. */
static bool has_too_many_values(const char *json, size_t bytes)
{
	size_t values = 0;

	for (size_t n = 0; n < bytes; n++)
		values += json[n] == ',' || json[n] == '{' || json[n] == '[';
	return values > VALUES_MAX;
}

static struct json_object *parse_text(const char *json, size_t bytes, char *why,
				      size_t why_bytes)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct json_object *root = NULL;

	if (tokener == NULL || bytes > PARSE_BYTES_MAX ||
	    has_too_many_values(json, bytes)) {
		snprintf(why, why_bytes, "its answer is too long");
		goto done;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, json, (int)bytes);
	if (root != NULL && !json_object_is_type(root, json_type_object)) {
		json_object_put(root);
		root = NULL;
	}
	if (root == NULL)
		snprintf(why, why_bytes, "its answer is no JSON object");
done:
	if (tokener != NULL)
		json_tokener_free(tokener);
	return root;
}

int parse_resolution(const char *json, size_t bytes, int64_t wall_s,
		     int64_t ttl_s, struct resolution **out, char *why,
		     size_t why_bytes)
{
	struct reading rd = { .wall_s = wall_s, .expires_s = INT64_MAX };
	struct json_object *root = parse_text(json, bytes, why, why_bytes);
	int64_t left_s;
	int rc;

	if (root == NULL)
		return -EINVAL;
	rc = read_root(&rd, root, why, why_bytes);
	if (rc == 0 && rd.expires_s <= wall_s) {
		snprintf(why, why_bytes, "what it names has expired");
		rc = -EINVAL;
	}
	if (rc == 0)
		rc = resolution_end(&rd.builder, out);
	else
		resolution_abort(&rd.builder);
	json_object_put(root);
	if (rc == -ENOENT)
		snprintf(why, why_bytes, "%s",
			 rd.expired ? "what it names has expired"
				    : "it names no rendition over http or "
				      "https");
	if (rc == -ENOSPC)
		snprintf(why, why_bytes, "its answer is too long");
	if (rc < 0)
		return rc == -ENOMEM ? rc : -EINVAL;
	left_s = rd.expires_s < INT64_MAX ? rd.expires_s - wall_s : ttl_s;
	left_s -= rd.expires_s == INT64_MAX ? 0
		  : left_s / 10 < MARGIN_S  ? left_s / 10
					    : MARGIN_S;
	(*out)->expires_s = wall_s + (left_s < ttl_s ? left_s : ttl_s);
	return 0;
}

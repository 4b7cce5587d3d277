#include "worker/renditions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/json.h"
#include "http/target.h"
#include "util/span.h"
#include "worker/answer.h"
#include "worker/locate.h"

#define LABEL_BYTES 60u /* no quality that can be asked for is longer */

/* "/proxy/ID?q=LABEL&source=NAME", all of it encoded */
#define LINK_BYTES (3u * (TARGET_ID_MAX + LABEL_BYTES + CONF_NAME_BYTES) + 32u)

static size_t append(char *dst, const char *literal)
{
	size_t n = strlen(literal);

	memcpy(dst, literal, n);
	return n;
}

/* label: one that ?q= takes, or "". */
static size_t make_link(char dst[LINK_BYTES], struct slice id,
			const char *label, const char *source)
{
	size_t n = append(dst, "/proxy/");
	const char *mark = "?";

	n += target_encode(dst + n, id);
	if (*label != '\0') {
		n += append(dst + n, "?q=");
		n += target_encode(dst + n, slice_of(label));
		mark = "&";
	}
	if (source != NULL) {
		n += append(dst + n, mark);
		n += append(dst + n, "source=");
		n += target_encode(dst + n, slice_of(source));
	}
	return n;
}

static void add_text(struct json *j, const char *key, const char *text)
{
	json_key(j, key);
	json_slice(j, *text != '\0' ? slice_of(text) : SLICE_ABSENT);
}

static void add_number(struct json *j, const char *key, uint64_t value,
		       uint64_t unknown)
{
	json_key(j, key);
	if (value == unknown)
		json_null(j);
	else
		json_u64(j, value);
}

static void add_rendition(struct json *j, const struct resolution *record,
			  const struct rendition *one, struct slice id,
			  const char *source)
{
	const char *label = rendition_text(record, one, RENDITION_LABEL);
	char link[LINK_BYTES];
	size_t link_bytes;

	link_bytes = make_link(
		link, id, strlen(label) <= LABEL_BYTES ? label : "", source);
	json_object(j);
	add_text(j, "quality", label);
	add_text(j, "format", rendition_text(record, one, RENDITION_FORMAT));
	add_number(j, "width", one->width, 0);
	add_number(j, "height", one->height, 0);
	add_text(j, "container",
		 rendition_text(record, one, RENDITION_CONTAINER));
	add_text(j, "type", rendition_text(record, one, RENDITION_TYPE));
	add_text(j, "video_codec",
		 rendition_text(record, one, RENDITION_VIDEO_CODEC));
	add_text(j, "audio_codec",
		 rendition_text(record, one, RENDITION_AUDIO_CODEC));
	add_number(j, "bitrate_bps", one->bitrate_bps, 0);
	add_number(j, "size_bytes", one->size_bytes, SIZE_UNKNOWN);
	json_key(j, "audio");
	json_bool(j, (one->flags & RENDITION_AUDIO) != 0);
	json_key(j, "video");
	json_bool(j, (one->flags & RENDITION_VIDEO) != 0);
	json_key(j, "link");
	json_slice(j, slice_make(link, link_bytes));
	json_object_end(j);
}

int renditions_format(char *dst, size_t dst_bytes, const char *source,
		      bool name_source, struct slice id,
		      const struct resolution *record, size_t *bytes)
{
	struct json j;

	json_init(&j, dst, dst_bytes);
	json_object(&j);
	json_key(&j, "version");
	json_u64(&j, RENDITIONS_VERSION);
	json_key(&j, "id");
	json_slice(&j, id);
	json_key(&j, "source");
	json_text(&j, source);
	add_text(&j, "title", resolution_title(record));
	json_key(&j, "duration_s");
	if (record->duration_ms == 0)
		json_null(&j);
	else
		json_thousandths(&j, record->duration_ms);
	json_key(&j, "expires");
	json_i64(&j, record->expires_s);
	json_key(&j, "renditions");
	json_array(&j);
	for (uint32_t n = 0; n < record->count; n++)
		add_rendition(&j, record, &record->renditions[n], id,
			      name_source ? source : NULL);
	json_array_end(&j);
	json_object_end(&j);
	json_newline(&j);
	return json_end(&j, bytes);
}

static void send_renditions(struct desk *desk, struct sink *sink,
			    const struct head *head,
			    const struct conf_source *source, struct slice id,
			    const struct resolution *record)
{
	struct answer a = { .status = 200, .content_type = "application/json" };
	char *body = malloc(SINK_BYTES_MAX);

	if (body == NULL) {
		answer_problem(desk, sink, head, 503, "out of memory",
			       "Retry-After: 1\r\n", NULL);
		return;
	}
	if (renditions_format(body, SINK_BYTES_MAX, source->name,
			      source != desk->conf->sources, id, record,
			      &a.body_bytes) == 0) {
		a.body = body;
		answer_send(desk, sink, head, &a);
	} else {
		answer_problem(desk, sink, head, 502,
			       "the resolver's texts are too long", NULL, NULL);
	}
	free(body);
}

void renditions_serve(struct desk *desk, struct sink *sink,
		      const struct head *head, struct slice path)
{
	locate_resolution(desk, sink, head, path, send_renditions);
}

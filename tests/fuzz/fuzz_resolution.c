/*
 * Any bytes as the answer of a helper program, and as a record of the table:
 * what is taken is a valid record, and of a valid record all can be read, all
 * can be picked, and each format is found.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "resolver/parse.h"
#include "upstream/request_fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define NOW 1800000000
#define TTL 3600

static void read_texts(const struct resolution *r)
{
	must(strlen(resolution_title(r)) < r->bytes);
	for (uint32_t n = 0; n < r->count; n++) {
		const struct rendition *one = &r->renditions[n];
		const char *format = rendition_text(r, one, RENDITION_FORMAT);

		for (int t = 0; t < RENDITION_TEXTS; t++)
			must(strlen(rendition_text(r, one,
						   (enum rendition_text)t)) <
			     r->bytes);
		must(quality_format_valid(format, strlen(format)));
		must(resolution_find_format(r, format, strlen(format)) == one);
	}
}

static void pick(const struct resolution *r)
{
	static const char *const words[] = { "best", "worst", "audio", "0p",
					     "1p",   "360p",  "99999p" };

	for (size_t n = 0; n < ARRAY_LEN(words); n++) {
		bool exact = false;
		const struct rendition *one =
			resolution_pick(r, words[n], &exact);

		must(one == NULL ||
		     (one >= r->renditions && one < r->renditions + r->count));
		/* only one who wants sound, or a picture, gets nothing */
		must(one != NULL || n >= 2);
	}
	must(resolution_pick(r, "", NULL) == NULL);
}

/* They are lines that can be sent, and nothing else. */
static void read_fields(const char *text)
{
	char line[REQUEST_FIELDS_BYTES];
	int rc;

	must(strlen(text) < REQUEST_FIELDS_BYTES);
	while ((rc = request_fields_next(&text, line)) > 0) {
		must(strstr(line, ": ") != NULL);
		must(strncasecmp(line, "Range:", 6) != 0);
	}
	must(rc == 0 && text[0] == '\0');
}

static void as_record(const uint8_t *data, size_t bytes)
{
	/* aligned, and just as long */
	void *copy = malloc(bytes + (bytes == 0));

	must(copy != NULL);
	memcpy(copy, data, bytes);
	if (resolution_valid(copy, bytes)) {
		read_texts(copy);
		pick(copy);
	}
	free(copy);
}

static void as_answer(const uint8_t *data, size_t bytes)
{
	struct resolution *r = NULL;
	char why[64] = "";
	int rc = parse_resolution((const char *)data, bytes, NOW, TTL, &r, why,
				  sizeof(why));

	must(rc == 0 || rc == -EINVAL);
	if (rc < 0) {
		must(r == NULL && why[0] != '\0');
		return;
	}
	must(resolution_valid(r, r->bytes));
	must(r->expires_s > NOW && r->expires_s <= NOW + TTL);
	read_texts(r);
	pick(r);
	for (uint32_t n = 0; n < r->count; n++) {
		must(rendition_text(r, &r->renditions[n], RENDITION_URL)[0] !=
		     '\0');
		read_fields(
			rendition_text(r, &r->renditions[n], RENDITION_FIELDS));
	}
	as_record((const uint8_t *)r, r->bytes);
	free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	as_record(data, bytes);
	as_answer(data, bytes);
	return 0;
}

/*
 * Any bytes as a request head: the same answer whether they come at once or
 * in pieces, texts that lie within the head, and nothing in them that could
 * be read as two requests.  What reads a head goes along: preconditions,
 * ranges, target.  The first byte says how large the pieces are.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/conditional.h"
#include "http/head.h"
#include "http/range.h"
#include "http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_text(const struct head *h, struct slice s)
{
	must(s.at >= h->base);
	must(s.at + s.bytes <= h->base + h->head_bytes);
	for (size_t i = 0; i < s.bytes; i++) {
		unsigned char c = (unsigned char)s.at[i];

		must(c == '\t' || (c >= 0x20 && c != 0x7f));
	}
}

static void use_target(const struct head *h)
{
	struct slice rest = head_path(h);
	struct slice part;
	struct slice out;
	char dst[64];

	while (target_next_segment(&rest, &part)) {
		if (target_decode(part, dst, sizeof(dst), &out) == 0)
			(void)target_id_valid(out);
	}
	if (target_query(head_query(h), "source", dst, sizeof(dst), &out) == 0)
		must(out.bytes <= sizeof(dst));
}

static void use_conditions(const struct head *h)
{
	const struct conditional_object o = {
		.etag = SLICE("\"a\""),
		.last_modified = SLICE("Sun, 06 Nov 1994 08:49:37 GMT"),
		.date_s = 784111778,
		.now_s = 784111779,
	};
	struct span spans[8];
	size_t count;

	if (conditional_check(h, &o) == CONDITIONAL_SEND &&
	    conditional_range_counts(h, &o))
		(void)range_parse(head_field(h, FIELD_RANGE), 1000, 8, spans,
				  &count);
}

static void check_done(const struct head *h, size_t bytes)
{
	struct slice line;

	must(h->head_bytes <= bytes && h->head_bytes <= HEAD_BYTES_MAX);
	must(memcmp(h->base + h->head_bytes - 4, "\r\n\r\n", 4) == 0);
	must(!slice_present(head_field(h, FIELD_TRANSFER_ENCODING)));
	must(h->minor == 0 || head_host(h).bytes > 0);
	must(h->content_length < UINT64_C(1000000000000000));
	check_text(h, head_target(h));
	check_text(h, head_host(h));
	for (int f = FIELD_NONE + 1; f < FIELD_COUNT; f++) {
		for (unsigned at = 0; head_next_line(h, f, &at, &line);)
			check_text(h, line);
	}
	use_target(h);
	use_conditions(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	size_t step = bytes > 0 ? data[0] % 16 + 1 : 1;
	size_t count = bytes > 0 ? bytes - 1 : 0;
	const char *text = (const char *)data + (bytes > 0);
	enum head_outcome at_once;
	enum head_outcome pieces = HEAD_MORE;
	struct head whole;
	struct head h;

	head_init(&whole);
	at_once = head_parse(&whole, text, count);
	if (at_once == HEAD_DONE)
		check_done(&whole, count);
	head_init(&h);
	for (size_t given = 0; pieces == HEAD_MORE && given < count;) {
		char *copy;

		given += step < count - given ? step : count - given;
		copy = malloc(given);
		must(copy != NULL);
		memcpy(copy, text, given);
		pieces = head_parse(&h, copy, given);
		free(copy);
	}
	if (at_once == HEAD_DONE) {
		must(pieces == HEAD_DONE);
		h.base = whole.base;
		must(memcmp(&h, &whole, offsetof(struct head, target)) == 0);
		check_done(&h, count);
	} else if (at_once == HEAD_MORE) {
		must(pieces == HEAD_MORE);
	} else {
		must(whole.status >= 400 && whole.reason != NULL);
		/* a wrong byte in a line without LF may be seen later */
		must(pieces == HEAD_MORE ||
		     (pieces == HEAD_BAD && h.reason != NULL));
		must(pieces == HEAD_BAD || text[count - 1] != '\n');
	}
	return 0;
}

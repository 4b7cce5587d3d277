/* GET /resolve/{id}: the document. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/span.h"
#include "worker/renditions.h"

static const char all_known[] =
	"{\"version\":1,\"id\":\"a~b\",\"source\":\"films\","
	"\"title\":\"One \\\"film\\\"\",\"duration_s\":596.47,"
	"\"expires\":1795845600,\"renditions\":["
	"{\"quality\":\"360p\",\"format\":\"18\",\"width\":640,"
	"\"height\":360,\"container\":\"mp4\",\"type\":\"video/mp4\","
	"\"video_codec\":\"avc1.42001E\",\"audio_codec\":\"mp4a.40.2\","
	"\"bitrate_bps\":503351,\"size_bytes\":0,\"audio\":true,"
	"\"video\":true,\"link\":\"/proxy/a~b?q=360p\"},"
	"{\"quality\":\"audio\",\"format\":\"140\",\"width\":null,"
	"\"height\":null,\"container\":null,\"type\":null,"
	"\"video_codec\":null,\"audio_codec\":null,\"bitrate_bps\":null,"
	"\"size_bytes\":18446744073709551614,\"audio\":true,"
	"\"video\":false,\"link\":\"/proxy/a~b?q=audio\"}]}\n";

static const char unknown[] =
	"{\"version\":1,\"id\":\"x\",\"source\":\"s&t\",\"title\":null,"
	"\"duration_s\":null,\"expires\":-1,\"renditions\":["
	"{\"quality\":null,\"format\":\"f\",\"width\":null,"
	"\"height\":null,\"container\":null,\"type\":null,"
	"\"video_codec\":null,\"audio_codec\":null,\"bitrate_bps\":null,"
	"\"size_bytes\":null,\"audio\":false,\"video\":true,"
	"\"link\":\"/proxy/x?source=s%26t\"},"
	"{\"quality\":\"h d&\",\"format\":\"g\",\"width\":null,"
	"\"height\":null,\"container\":null,\"type\":null,"
	"\"video_codec\":null,\"audio_codec\":null,\"bitrate_bps\":null,"
	"\"size_bytes\":null,\"audio\":false,\"video\":true,"
	"\"link\":\"/proxy/x?q=h%20d%26&source=s%26t\"}]}\n";

static struct resolution *end(struct resolution_builder *b, int64_t expires_s)
{
	struct resolution *r = NULL;

	assert_int_equal(resolution_end(b, &r), 0);
	r->resolved_us = 1;
	r->expires_s = expires_s;
	return r;
}

static struct resolution *make_known(void)
{
	const struct rendition_facts video = {
		.text = { [RENDITION_FORMAT] = "18",
			  [RENDITION_LABEL] = "360p",
			  [RENDITION_CONTAINER] = "mp4",
			  [RENDITION_TYPE] = "video/mp4",
			  [RENDITION_VIDEO_CODEC] = "avc1.42001E",
			  [RENDITION_AUDIO_CODEC] = "mp4a.40.2",
			  [RENDITION_URL] = "http://origin/secret" },
		.size_bytes = 0,
		.bitrate_bps = 503351,
		.width = 640,
		.height = 360,
		.flags = RENDITION_VIDEO | RENDITION_AUDIO,
	};
	const struct rendition_facts audio = {
		.text = { [RENDITION_FORMAT] = "140",
			  [RENDITION_LABEL] = "audio",
			  [RENDITION_URL] = "http://origin/secret" },
		.size_bytes = SIZE_UNKNOWN - 1,
		.flags = RENDITION_AUDIO,
	};
	struct resolution_builder b;

	resolution_begin(&b, "One \"film\"", 596470);
	assert_int_equal(resolution_add(&b, &video), 0);
	assert_int_equal(resolution_add(&b, &audio), 0);
	return end(&b, 1795845600);
}

static struct resolution *make_unknown(void)
{
	struct rendition_facts facts = {
		.text = { [RENDITION_FORMAT] = "f",
			  [RENDITION_URL] = "http://origin/secret" },
		.size_bytes = SIZE_UNKNOWN,
		.flags = RENDITION_VIDEO,
	};
	struct resolution_builder b;

	resolution_begin(&b, "", 0);
	assert_int_equal(resolution_add(&b, &facts), 0);
	facts.text[RENDITION_FORMAT] = "g";
	facts.text[RENDITION_LABEL] = "h d&";
	assert_int_equal(resolution_add(&b, &facts), 0);
	return end(&b, -1);
}

static void check(struct resolution *r, const char *source, bool name_source,
		  const char *id, const char *want)
{
	size_t want_bytes = strlen(want);
	size_t bytes = 0;

	/* in room of just its size; with less nothing is handed out */
	for (size_t room = 0; room <= want_bytes; room++) {
		char *dst = malloc(room + 1);
		int rc = renditions_format(dst, room, source, name_source,
					   slice_of(id), r, &bytes);

		assert_int_equal(rc, room < want_bytes ? -ENOSPC : 0);
		if (rc == 0) {
			assert_int_equal(bytes, want_bytes);
			assert_memory_equal(dst, want, want_bytes);
		}
		free(dst);
	}
	free(r);
}

static void test_known(void **state)
{
	(void)state;
	check(make_known(), "films", false, "a~b", all_known);
}

static void test_unknown(void **state)
{
	(void)state;
	check(make_unknown(), "s&t", true, "x", unknown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

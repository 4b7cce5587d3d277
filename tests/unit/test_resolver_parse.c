/* What a helper program or service answers: what is taken of it, what is left
 * out, and when it expires. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "resolver/parse.h"

#define NOW 1800000000
#define TTL 3600

/* The bytes lie in memory of their own, so that one too far is seen. */
static int parse_bytes(const char *json, size_t bytes, struct resolution **out,
		       char why[128])
{
	char *copy = malloc(bytes + (bytes == 0));
	int rc;

	assert_non_null(copy);
	memcpy(copy, json, bytes);
	*out = NULL;
	memset(why, 0, 128);
	rc = parse_resolution(copy, bytes, NOW, TTL, out, why, 128);
	free(copy);
	if (rc == 0) {
		assert_non_null(*out);
		assert_true(resolution_valid(*out, (*out)->bytes));
		assert_true((*out)->expires_s <= NOW + TTL);
		assert_int_equal((*out)->resolved_us, 0);
	} else {
		assert_int_equal(rc, -EINVAL);
		assert_true(why[0] != '\0');
		assert_null(*out);
	}
	return rc;
}

static struct resolution *parse(const char *json)
{
	struct resolution *r;
	char why[128];

	if (parse_bytes(json, strlen(json), &r, why) < 0)
		fail_msg("%.200s: %s", json, why);
	return r;
}

static void assert_refused(const char *json, const char *says)
{
	struct resolution *r;
	char why[128];

	if (parse_bytes(json, strlen(json), &r, why) == 0)
		fail_msg("taken: %.200s", json);
	if (strstr(why, says) == NULL)
		fail_msg("%.200s: \"%s\", not \"%s\"", json, why, says);
}

static const char *text(const struct resolution *r, uint32_t n,
			enum rendition_text which)
{
	assert_true(n < r->count);
	return rendition_text(r, &r->renditions[n], which);
}

/* ---- yt-dlp ---- */

#define VIDEO_360                                                              \
	"{\"format_id\":\"18\",\"url\":\"https://h/v?x=1\",\"ext\":\"mp4\","   \
	"\"protocol\":\"https\",\"vcodec\":\"avc1.42001E\","                   \
	"\"acodec\":\"mp4a.40.2\",\"width\":640,\"height\":360,"               \
	"\"tbr\":500.5,\"filesize\":123456}"
#define SOUND                                                                  \
	"{\"format_id\":\"140\",\"url\":\"https://h/a\",\"ext\":\"m4a\","      \
	"\"vcodec\":\"none\",\"acodec\":\"mp4a.40.2\",\"tbr\":129}"

static void test_ytdlp(void **state)
{
	struct resolution *r = parse(
		"{\"id\":\"x\",\"title\":\"A \\u00fc\",\"duration\":12.5,"
		"\"formats\":[" SOUND "," VIDEO_360 "],\"more\":{\"a\":[]}}");
	const struct rendition *one;

	(void)state;
	assert_int_equal(r->count, 2);
	assert_int_equal(r->duration_ms, 12500);
	assert_string_equal(resolution_title(r), "A \xc3\xbc");
	assert_int_equal(r->expires_s, NOW + TTL);
	one = resolution_find_format(r, "18", 2);
	assert_non_null(one);
	assert_int_equal(one->size_bytes, 123456);
	assert_int_equal(one->bitrate_bps, 500500);
	assert_int_equal(one->width, 640);
	assert_int_equal(one->height, 360);
	assert_int_equal(one->flags, RENDITION_VIDEO | RENDITION_AUDIO);
	assert_string_equal(rendition_text(r, one, RENDITION_LABEL), "360p");
	assert_string_equal(rendition_text(r, one, RENDITION_CONTAINER), "mp4");
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE),
			    "video/mp4");
	assert_string_equal(rendition_text(r, one, RENDITION_VIDEO_CODEC),
			    "avc1.42001E");
	assert_string_equal(rendition_text(r, one, RENDITION_URL),
			    "https://h/v?x=1");
	one = resolution_find_format(r, "140", 3);
	assert_non_null(one);
	assert_int_equal(one->size_bytes, SIZE_UNKNOWN);
	assert_int_equal(one->height, 0);
	assert_int_equal(one->flags, RENDITION_AUDIO);
	assert_string_equal(rendition_text(r, one, RENDITION_LABEL), "audio");
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE),
			    "audio/mp4");
	assert_string_equal(rendition_text(r, one, RENDITION_VIDEO_CODEC), "");
	free(r);
}

static void test_ytdlp_without_formats(void **state)
{
	struct resolution *r = parse(VIDEO_360);

	(void)state;
	assert_int_equal(r->count, 1);
	assert_string_equal(text(r, 0, RENDITION_FORMAT), "18");
	free(r);
	r = parse("{\"url\":\"http://h/v.mp4\"}"); /* nothing else is known */
	assert_string_equal(text(r, 0, RENDITION_FORMAT), "f0");
	assert_string_equal(text(r, 0, RENDITION_LABEL), "");
	assert_int_equal(r->renditions[0].flags,
			 RENDITION_VIDEO | RENDITION_AUDIO);
	free(r);
}

static void test_ytdlp_entries(void **state)
{
	struct resolution *r = parse("{\"title\":\"page\",\"entries\":["
				     "{\"title\":\"first\",\"formats\":[" SOUND
				     "]},{\"formats\":[" VIDEO_360 "]}]}");

	(void)state;
	assert_int_equal(r->count, 1);
	assert_string_equal(resolution_title(r), "first");
	assert_string_equal(text(r, 0, RENDITION_FORMAT), "140");
	free(r);
	assert_refused("{\"entries\":[]}", "names no rendition");
	assert_refused("{\"entries\":[null]}", "names no rendition");
}

/* What this server cannot fetch, or what is no video, is left out. */
static void test_ytdlp_left_out(void **state)
{
	static const char *const bad[] = {
		"null",
		"1",
		"[]",
		"{}",
		"{\"url\":null}",
		"{\"url\":1}",
		"{\"url\":\"\"}",
		"{\"url\":\"h/v\"}",
		"{\"url\":\"file:///etc/passwd\"}",
		"{\"url\":\"ftp://h/v\"}",
		"{\"url\":\"rtmp://h/v\"}",
		"{\"url\":\"http://\"}",
		"{\"url\":\"http://h:0/v\"}",
		"{\"url\":\"http://h/v w\"}",
		"{\"url\":\"http://h/v\\n\"}",
		"{\"url\":\"http://h/v\\u007f\"}",
		"{\"url\":\"http://h/v\\u0000w\"}",
		"{\"url\":\"http://h/v\",\"protocol\":\"m3u8_native\"}",
		"{\"url\":\"http://h/v\",\"protocol\":\"m3u8\"}",
		"{\"url\":\"http://h/v\",\"protocol\":\"http_dash_segments\"}",
		"{\"url\":\"http://h/v\",\"protocol\":\"https+https\"}",
		"{\"url\":\"http://h/v\",\"protocol\":\"mhtml\"}",
		"{\"url\":\"http://h/v\",\"protocol\":\"\"}",
		("{\"url\":\"http://h/v\",\"vcodec\":\"none\","
		 "\"acodec\":\"none\"}"),
	};
	char json[1024];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
		struct resolution *r;

		snprintf(json, sizeof(json), "{\"formats\":[%s]}", bad[n]);
		assert_refused(json, "names no rendition");
		snprintf(json, sizeof(json), "{\"formats\":[%s," SOUND ",%s]}",
			 bad[n], bad[n]);
		r = parse(json);
		assert_int_equal(r->count, 1);
		assert_string_equal(text(r, 0, RENDITION_FORMAT), "140");
		free(r);
	}
}

static void test_long_url(void **state)
{
	static char json[40000];
	int n = snprintf(json, sizeof(json),
			 "{\"formats\":[" SOUND ",{\"url\":\"http://h/");
	struct resolution *r;

	(void)state;
	memset(json + n, 'x', 30000);
	strcpy(json + n + 30000, "\"}]}");
	r = parse(json);
	assert_int_equal(r->count, 1);
	free(r);
}

static void test_format_ids(void **state)
{
	static const struct {
		const char *id;
		const char *format;
	} ids[] = {
		{ "\"137\"", "137" },
		{ "\"hls-1080p_a.b+c\"", "hls-1080p_a.b+c" },
		{ "\"a/b\"", "a_b" },
		{ "\"../..\"", ".._.." },
		{ "\"a b\\nc\"", "a_b_c" },
		{ "\"\\u00fc\"", "__" },
		{ "\"%2f?&#\"", "_2f___" },
		{ "\"\"", "f0" },
		{ "null", "f0" },
		{ "18", "f0" },
		{ "\"a\\u0000b\"", "f0" },
		{ "\"0123456789012345678901234567890123456789"
		  "0123456789012345678901234567890123456789\"",
		  "01234567890123456789012345678901234567890123456789012345678"
		  "9" },
	};
	char json[512];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(ids); n++) {
		struct resolution *r;

		snprintf(json, sizeof(json),
			 "{\"formats\":[{\"format_id\":%s,"
			 "\"url\":\"http://h/v\"}]}",
			 ids[n].id);
		r = parse(json);
		assert_string_equal(text(r, 0, RENDITION_FORMAT),
				    ids[n].format);
		free(r);
	}
}

/* Of several of one name the better one, which comes last, keeps it. */
static void test_duplicates(void **state)
{
	struct resolution *r =
		parse("{\"formats\":["
		      "{\"format_id\":\"a/b\",\"url\":\"http://h/1\"},"
		      "{\"format_id\":\"a b\",\"url\":\"http://h/2\"},"
		      "{\"format_id\":\"a_b\",\"url\":\"http://h/3\"},"
		      "{\"format_id\":\"c\",\"url\":\"http://h/4\"}]}");

	(void)state;
	assert_int_equal(r->count, 4);
	assert_string_equal(text(r, 0, RENDITION_URL), "http://h/4");
	assert_string_equal(text(r, 1, RENDITION_URL), "http://h/3");
	assert_string_equal(text(r, 1, RENDITION_FORMAT), "a_b");
	assert_string_equal(text(r, 2, RENDITION_FORMAT), "a_b-2");
	assert_string_equal(text(r, 2, RENDITION_URL), "http://h/2");
	assert_string_equal(text(r, 3, RENDITION_FORMAT), "a_b-3");
	free(r);
}

/* Of a format, else of the whole; ours are never taken. */
static void test_http_headers(void **state)
{
	struct resolution *r = parse(
		"{\"http_headers\":{\"Referer\":\"http://all/\"},\"formats\":["
		"{\"url\":\"http://h/3\",\"http_headers\":null},"
		"{\"url\":\"http://h/2\",\"http_headers\":{}},"
		"{\"url\":\"http://h/1\",\"http_headers\":{"
		"\"User-Agent\":\"A/1 (b)\",\"Range\":\"bytes=0-0\","
		"\"X\":1,\"Y\":\"a\\r\\nHost: evil\",\"Z\":\"a\\u0000b\","
		"\"Cookie\":\"a=b; c=d\"}}]}");

	(void)state;
	assert_string_equal(text(r, 0, RENDITION_FIELDS),
			    "User-Agent: A/1 (b)\nCookie: a=b; c=d\n");
	assert_string_equal(text(r, 1, RENDITION_FIELDS), "");
	assert_string_equal(text(r, 2, RENDITION_FIELDS),
			    "Referer: http://all/\n");
	free(r);

	r = parse("{\"url\":\"http://h/\",\"http_headers\":{\"A\":\"b\"}}");
	assert_string_equal(text(r, 0, RENDITION_FIELDS), "A: b\n");
	free(r);
}

static void test_request_fields(void **state)
{
	struct resolution *r =
		parse("{\"version\":1,\"renditions\":["
		      "{\"url\":\"http://h/1\",\"request_fields\":"
		      "{\"Authorization\":\"Bearer t\",\"If-Match\":\"*\"}},"
		      "{\"url\":\"http://h/2\",\"request_fields\":[]}]}");

	(void)state;
	assert_string_equal(text(r, 0, RENDITION_FIELDS),
			    "Authorization: Bearer t\n");
	assert_string_equal(text(r, 1, RENDITION_FIELDS), "");
	free(r);
}

/* More than anybody sends: the first ones are taken, as far as there is
 * room. */
static void test_many_fields(void **state)
{
	static char json[2000000], value[3000];
	struct resolution *r;
	size_t n = 0;

	(void)state;
	memset(value, 'v', sizeof(value) - 1);
	n += (size_t)snprintf(json, sizeof(json),
			      "{\"url\":\"http://h/\",\"http_headers\":{"
			      "\"a\":\"%s\",\"b\":\"%s\"",
			      value, value);
	for (unsigned i = 0; i < 60000; i++)
		n += (size_t)snprintf(json + n, sizeof(json) - n,
				      ",\"f%u\":\"1\"", i);
	snprintf(json + n, sizeof(json) - n, "}}");
	r = parse(json);
	assert_ptr_equal(strstr(text(r, 0, RENDITION_FIELDS), "a: vv"),
			 text(r, 0, RENDITION_FIELDS));
	assert_null(strstr(text(r, 0, RENDITION_FIELDS), "\nb: "));
	assert_non_null(strstr(text(r, 0, RENDITION_FIELDS), "\nf61: 1\n"));
	assert_null(strstr(text(r, 0, RENDITION_FIELDS), "\nf62: 1\n"));
	free(r);
}

static void test_many_formats(void **state)
{
	static char json[400000];
	size_t n = 0;
	struct resolution *r;
	const struct rendition *one;

	(void)state;
	n += (size_t)snprintf(json, sizeof(json), "{\"formats\":[");
	for (unsigned i = 0; i < 5000; i++)
		n += (size_t)snprintf(json + n, sizeof(json) - n,
				      "%s{\"format_id\":\"i%u\","
				      "\"url\":\"http://h/%u\"}",
				      i > 0 ? "," : "", i, i);
	snprintf(json + n, sizeof(json) - n, "]}");
	r = parse(json);
	assert_int_equal(r->count, RESOLUTION_RENDITIONS_MAX);
	one = resolution_find_format(r, "i4999", 5);
	assert_non_null(one);
	assert_null(resolution_find_format(r, "i0", 2));
	free(r);
}

/* Numbers that no video has are not known. */
static void test_numbers(void **state)
{
	static const struct {
		const char *json;
		uint64_t height, bitrate_bps, size_bytes;
	} rows[] = {
		{ "0", 0, 0, SIZE_UNKNOWN },
		{ "-1", 0, 0, SIZE_UNKNOWN },
		{ "720", 720, 720000, 720 },
		{ "719.6", 720, 719600, 720 },
		{ "65535", 65535, 65535000, 65535 },
		{ "65536", 0, 65536000, 65536 },
		{ "1e3", 1000, 1000000, 1000 },
		{ "1e9", 0, 0, 1000000000 },
		{ "1e15", 0, 0, 1000000000000000 },
		{ "1e16", 0, 0, SIZE_UNKNOWN },
		{ "1e308", 0, 0, SIZE_UNKNOWN },
		{ "1e999", 0, 0, SIZE_UNKNOWN },
		{ "-1e999", 0, 0, SIZE_UNKNOWN },
		{ "18446744073709551616", 0, 0, SIZE_UNKNOWN },
		{ "9223372036854775807", 0, 0, SIZE_UNKNOWN },
		{ "NaN", 0, 0, SIZE_UNKNOWN },
		{ "Infinity", 0, 0, SIZE_UNKNOWN },
		{ "-Infinity", 0, 0, SIZE_UNKNOWN },
		{ "null", 0, 0, SIZE_UNKNOWN },
		{ "true", 0, 0, SIZE_UNKNOWN },
		{ "\"720\"", 0, 0, SIZE_UNKNOWN },
		{ "[720]", 0, 0, SIZE_UNKNOWN },
		{ "{}", 0, 0, SIZE_UNKNOWN },
	};
	char json[512];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		const char *v = rows[n].json;
		const struct rendition *one;
		struct resolution *r;

		snprintf(json, sizeof(json),
			 "{\"duration\":%s,\"formats\":[{\"url\":"
			 "\"http://h/v\",\"height\":%s,\"width\":%s,\"tbr\":%s,"
			 "\"filesize\":%s}]}",
			 v, v, v, v, v);
		r = parse(json);
		one = &r->renditions[0];
		if (one->height != rows[n].height ||
		    one->width != rows[n].height ||
		    one->bitrate_bps != rows[n].bitrate_bps ||
		    one->size_bytes != rows[n].size_bytes ||
		    r->duration_ms > 1000000000000)
			fail_msg("%s: height %u, bitrate %llu, size %llu", v,
				 one->height,
				 (unsigned long long)one->bitrate_bps,
				 (unsigned long long)one->size_bytes);
		free(r);
	}
}

/* ---- our own form ---- */

static void test_ours(void **state)
{
	struct resolution *r =
		parse("{\"version\":1,\"title\":\"T\",\"duration_s\":10.25,"
		      "\"formats\":[],\"expires\":1800000900,\"renditions\":["
		      "{\"format\":\"m360\",\"quality\":\"360p\","
		      "\"url\":\"http://h/1\",\"container\":\"mp4\","
		      "\"type\":\"video/mp4\",\"size_bytes\":5,"
		      "\"bitrate_bps\":600000,\"width\":640,"
		      "\"video_codec\":\"avc1\",\"audio_codec\":\"opus\"},"
		      "{\"format\":\"snd\",\"url\":\"http://h/2\","
		      "\"audio\":true,\"video\":false},"
		      "{\"url\":\"ftp://h/3\"},7,"
		      "{\"height\":480,\"quality\":\"720p\",\"video\":true,"
		      "\"url\":\"http://h/4\"}]}");

	(void)state;
	assert_int_equal(r->count, 3);
	assert_string_equal(resolution_title(r), "T");
	assert_int_equal(r->duration_ms, 10250);
	/* 900 s, less a margin of 30 s */
	assert_int_equal(r->expires_s, NOW + 870);
	assert_string_equal(text(r, 0, RENDITION_FORMAT), "m360");
	assert_string_equal(text(r, 0, RENDITION_LABEL), "360p");
	assert_string_equal(text(r, 0, RENDITION_TYPE), "video/mp4");
	assert_string_equal(text(r, 0, RENDITION_VIDEO_CODEC), "avc1");
	assert_string_equal(text(r, 0, RENDITION_AUDIO_CODEC), "opus");
	assert_int_equal(r->renditions[0].height, 360);
	assert_int_equal(r->renditions[0].size_bytes, 5);
	assert_int_equal(r->renditions[0].bitrate_bps, 600000);
	assert_int_equal(r->renditions[0].flags,
			 RENDITION_VIDEO | RENDITION_AUDIO);
	assert_string_equal(text(r, 1, RENDITION_LABEL), "audio");
	assert_int_equal(r->renditions[1].flags, RENDITION_AUDIO);
	assert_string_equal(text(r, 2, RENDITION_FORMAT), "f4");
	assert_int_equal(r->renditions[2].height, 480);
	assert_int_equal(r->renditions[2].flags, RENDITION_VIDEO);
	free(r);
}

static void test_ours_refused(void **state)
{
	(void)state;
	assert_refused("{\"renditions\":[{\"url\":\"http://h/v\"}]}",
		       "not version 1");
	assert_refused(
		"{\"version\":2,\"renditions\":[{\"url\":\"http://h/v\"}]}",
		"not version 1");
	assert_refused(
		"{\"version\":\"1\",\"renditions\":[{\"url\":\"http://h/v\"}]}",
		"not version 1");
	assert_refused("{\"version\":1,\"renditions\":{}}", "not version 1");
	assert_refused("{\"version\":1,\"renditions\":null}", "not version 1");
	assert_refused("{\"version\":1,\"renditions\":[]}",
		       "names no rendition");
}

/* ---- no JSON, or too much of it ---- */

static void test_no_object(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"null",
		"true",
		"1",
		"\"x\"",
		"[]",
		"[{}]",
		"{",
		"}",
		"{]",
		"<html>",
		"{\"a\"}",
		"ERROR: no",
		"{\"a\":}",
		"\x80",
		"{\"a\":1,",
		"{\"a\":\"\xff\"}",
		"\xef\xbb\xbf{}",
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(bad); n++)
		assert_refused(bad[n], "no JSON object");
	assert_refused("{}", "names no rendition");
}

static void test_not_utf8(void **state)
{
	(void)state;
	assert_refused("{\"title\":\"\xc3\",\"formats\":[" SOUND "]}",
		       "no JSON object");
	assert_refused("{\"title\":\"\xed\xa0\x41\",\"formats\":[" SOUND "]}",
		       "no JSON object");
}

static void test_nul(void **state)
{
	static const char json[] = "{\"formats\":\0[" SOUND "]}";
	struct resolution *r;
	char why[128];

	(void)state;
	assert_int_equal(parse_bytes(json, sizeof(json) - 1, &r, why), -EINVAL);
}

static void test_truncated(void **state)
{
	static const char json[] =
		"{\"title\":\"T\",\"formats\":[" SOUND "," VIDEO_360 "]}";
	struct resolution *r;
	char why[128];

	(void)state;
	for (size_t n = 0; n < sizeof(json) - 1; n++)
		assert_int_equal(parse_bytes(json, n, &r, why), -EINVAL);
	assert_int_equal(parse_bytes(json, sizeof(json) - 1, &r, why), 0);
	free(r);
}

static void test_deep(void **state)
{
	static char json[2 * 100000 + 100];
	size_t n = 0;

	(void)state;
	n += (size_t)sprintf(json, "{\"a\":");
	memset(json + n, '[', 100000);
	memset(json + n + 100000, ']', 100000);
	strcpy(json + n + 200000, ",\"url\":\"http://h/v\"}");
	assert_refused(json, "no JSON object");
	/* as deep as what yt-dlp prints */
	free(parse("{\"a\":[[[[[[[[[[1]]]]]]]]]],\"url\":\"http://h/v\"}"));
}

static void test_large_texts(void **state)
{
	size_t bytes = RESOLUTION_BYTES_MAX + 100;
	char *json = malloc(bytes);
	int n;

	(void)state;
	assert_non_null(json);
	n = snprintf(json, bytes, "{\"formats\":[" SOUND "],\"title\":\"");
	memset(json + n, 'x', bytes - (size_t)n);
	strcpy(json + bytes - 3, "\"}");
	{
		struct resolution *r;
		char why[128];

		/* too large for a record: refused, not cut */
		(void)parse_bytes(json, strlen(json), &r, why);
		assert_null(r);
		assert_true(why[0] != '\0');
	}
	free(json);
}

/* ---- expiry ---- */

static void test_url_expiry(void **state)
{
	static const struct {
		const char *url;
		int64_t at_s;
	} rows[] = {
		{ "http://h/v", INT64_MAX },
		{ "http://h/v?expire=1800000600", 1800000600 },
		{ "http://h/v?a=1&expire=1800000600&b=2", 1800000600 },
		{ "http://h/v?Expires=1800000600", 1800000600 },
		{ "http://h/v?expires=1800000600#x", 1800000600 },
		{ "http://h/v?exp=1800000600", 1800000600 },
		{ "http://h/v?expire=1800000600&Expires=1800000500",
		  1800000500 },
		{ "http://h/v?xexpire=1800000600", INT64_MAX },
		{ "http://h/v?expirex=1800000600", INT64_MAX },
		{ "http://h/expire=1800000600", INT64_MAX },
		{ "http://h/v?expire=", INT64_MAX },
		{ "http://h/v?expire=x", INT64_MAX },
		{ "http://h/v?expire=-1800000600", INT64_MAX },
		{ "http://h/v?expire=3600", INT64_MAX }, /* no time */
		{ "http://h/v?expire=99999999999", 99999999999 },
		{ "http://h/v?expire=999999999999999999999", INT64_MAX },
		{ "http://h/v?X-Amz-Date=20270115T080000Z&X-Amz-Expires=600",
		  1800000600 },
		{ "http://h/v?X-Amz-Expires=600&X-Amz-Date=20270115T080000Z",
		  1800000600 },
		{ "http://h/v?X-Amz-Expires=600", INT64_MAX },
		{ "http://h/v?X-Amz-Date=20270115T080000Z", INT64_MAX },
		{ "http://h/v?X-Amz-Date=2027&X-Amz-Expires=600", INT64_MAX },
		{ "http://h/v?X-Amz-Date=&X-Amz-Expires=600", INT64_MAX },
		{ "http://h/v?&&?=&expire&=", INT64_MAX },
		{ "", INT64_MAX },
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++)
		if (parse_url_expiry(rows[n].url) != rows[n].at_s)
			fail_msg("%s: %lld", rows[n].url,
				 (long long)parse_url_expiry(rows[n].url));
}

static void test_expiry(void **state)
{
	/* of the URL's time, wanted: the record's, both from now on */
	static const int left_s[][2] = {
		{ 600, 570 },   { 300, 270 },   { 100, 90 },    { 9, 9 },
		{ 3600, 3570 }, { 3630, 3600 }, { 7200, 3600 }, { 1, 1 },
	};
	char json[512];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(left_s); n++) {
		struct resolution *r;

		/* the first URL to expire counts, also beside one that never
		 * does */
		snprintf(json, sizeof(json),
			 "{\"formats\":[{\"url\":\"http://h/1?expire=%d\"},"
			 "{\"url\":\"http://h/2\"},"
			 "{\"url\":\"http://h/3?expire=%d\"}]}",
			 NOW + left_s[n][0], NOW + 100000);
		r = parse(json);
		assert_int_equal(r->count, 3);
		assert_int_equal(r->expires_s, NOW + left_s[n][1]);
		free(r);
	}
}

/* Who asked would only ask again. */
static void test_expired(void **state)
{
	static const char *const rows[] = {
		"{\"url\":\"http://h/1?expire=1100000000\"}",
		"{\"url\":\"http://h/1?expire=1800000000\"}",
		("{\"version\":1,\"expires\":1800000000,"
		 "\"renditions\":[{\"url\":\"http://h/1\"}]}"),
	};
	struct resolution *r = NULL;
	char why[64];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		assert_int_equal(parse_resolution(rows[n], strlen(rows[n]), NOW,
						  TTL, &r, why, sizeof(why)),
				 -EINVAL);
		assert_string_equal(why, "what it names has expired");
		assert_null(r);
	}
	/* the others are of use */
	r = parse("{\"formats\":[{\"url\":\"http://h/1?expire=1100000000\"},"
		  "{\"url\":\"http://h/2\"}]}");
	assert_int_equal(r->count, 1);
	assert_int_equal(r->expires_s, NOW + TTL);
	free(r);
}

static void test_endings(void **state)
{
	(void)state;
	assert_string_equal(parse_ending_of("MP4")->type, "video/mp4");
	assert_true(parse_ending_of("m4a")->audio);
	assert_false(parse_ending_of("webm")->audio);
	assert_null(parse_ending_of(""));
	assert_null(parse_ending_of("txt"));
	assert_null(parse_ending_of("mp4x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ytdlp),
		cmocka_unit_test(test_ytdlp_without_formats),
		cmocka_unit_test(test_ytdlp_entries),
		cmocka_unit_test(test_ytdlp_left_out),
		cmocka_unit_test(test_long_url),
		cmocka_unit_test(test_format_ids),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_http_headers),
		cmocka_unit_test(test_request_fields),
		cmocka_unit_test(test_many_fields),
		cmocka_unit_test(test_many_formats),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_ours),
		cmocka_unit_test(test_ours_refused),
		cmocka_unit_test(test_no_object),
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_large_texts),
		cmocka_unit_test(test_url_expiry),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_expired),
		cmocka_unit_test(test_endings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

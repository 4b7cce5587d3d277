/* Records of resolutions, picking among their renditions, and their table. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/resolution.h"

#define MAP_BYTES (4 * MIB)
#define SMALL_MAP (1 * MIB)

static char folder[] = "/tmp/test_resolution.XXXXXX";

/* ---- making records ---- */

#define V  RENDITION_VIDEO
#define A  RENDITION_AUDIO
#define VA (RENDITION_VIDEO | RENDITION_AUDIO)

static struct rendition_facts facts_of(const char *format, uint32_t height,
				       uint32_t flags)
{
	return (struct rendition_facts){
		.text = { [RENDITION_FORMAT] = format,
			  [RENDITION_LABEL] = "label",
			  [RENDITION_CONTAINER] = "mp4",
			  [RENDITION_TYPE] = "video/mp4",
			  [RENDITION_VIDEO_CODEC] = "avc1",
			  [RENDITION_URL] = "https://h.example/v?x=1" },
		.size_bytes = 1000 + height,
		.bitrate_bps = 1000000,
		.width = height * 16 / 9,
		.height = height,
		.flags = flags,
	};
}

static struct resolution *finish(struct resolution_builder *b)
{
	struct resolution *r = NULL;

	assert_int_equal(resolution_end(b, &r), 0);
	assert_true(resolution_valid(r, r->bytes));
	return r;
}

/* Three renditions. */
static struct resolution *some_record(void)
{
	static const char *const formats[] = { "18", "f-360", "a.b_c+d" };
	struct resolution_builder b;

	resolution_begin(&b, "A \xc3\xbc title", 12500);
	for (uint32_t n = 0; n < ARRAY_LEN(formats); n++) {
		struct rendition_facts facts =
			facts_of(formats[n], 144 * (n + 1), VA);

		assert_int_equal(resolution_add(&b, &facts), 0);
	}
	return finish(&b);
}

/* One whose record has about this many bytes, all of them told by `tag`. */
static struct resolution *filled_record(unsigned tag, size_t bytes,
					int64_t resolved_us)
{
	struct rendition_facts facts = facts_of("f", 360, VA);
	char *url = malloc(bytes + 32);
	struct resolution_builder b;
	struct resolution *r;
	int n;

	assert_non_null(url);
	n = snprintf(url, 32, "http://h/%u/", tag);
	memset(url + n, 'a' + (int)(tag % 26), bytes);
	url[(size_t)n + bytes] = '\0';
	facts.text[RENDITION_URL] = url;
	resolution_begin(&b, "t", tag);
	assert_int_equal(resolution_add(&b, &facts), 0);
	r = finish(&b);
	r->resolved_us = resolved_us;
	r->expires_s = 1;
	free(url);
	return r;
}

static bool is_filled_with(const struct resolution *r, unsigned tag,
			   size_t bytes)
{
	const char *url = rendition_text(r, &r->renditions[0], RENDITION_URL);
	char head[32];
	int n = snprintf(head, sizeof(head), "http://h/%u/", tag);

	if (r->duration_ms != tag || strncmp(url, head, (size_t)n) != 0 ||
	    strlen(url) != (size_t)n + bytes)
		return false;
	for (url += n; *url != '\0'; url++)
		if (*url != 'a' + (int)(tag % 26))
			return false;
	return true;
}

/* ---- records ---- */

static void test_build(void **state)
{
	struct resolution *r = some_record();
	const struct rendition *one = resolution_find_format(r, "f-360", 5);

	(void)state;
	assert_int_equal(r->count, 3);
	assert_int_equal(r->duration_ms, 12500);
	assert_string_equal(resolution_title(r), "A \xc3\xbc title");
	assert_ptr_equal(one, &r->renditions[1]);
	assert_int_equal(one->height, 288);
	assert_int_equal(one->width, 512);
	assert_int_equal(one->size_bytes, 1288);
	assert_int_equal(one->bitrate_bps, 1000000);
	assert_int_equal(one->flags, VA);
	assert_string_equal(rendition_text(r, one, RENDITION_FORMAT), "f-360");
	assert_string_equal(rendition_text(r, one, RENDITION_LABEL), "label");
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE),
			    "video/mp4");
	assert_string_equal(rendition_text(r, one, RENDITION_AUDIO_CODEC), "");
	assert_string_equal(rendition_text(r, one, RENDITION_URL),
			    "https://h.example/v?x=1");
	assert_null(resolution_find_format(r, "f-36", 4));
	assert_null(resolution_find_format(r, "f-3600", 6));
	assert_null(resolution_find_format(r, "", 0));
	free(r);
}

static void test_left_out(void **state)
{
	static const char *const bad[] = {
		NULL,
		"",
		"a/b",
		"a b",
		"\xc3\xbc",
		"a\n",
		"{id}",
		"a%20",
		"1234567890123456789012345678901234567890123456789012345678901",
	};
	struct resolution_builder b;
	struct rendition_facts facts;
	struct resolution *r;
	char format[16];

	(void)state;
	resolution_begin(&b, NULL, 0);
	for (size_t n = 0; n < ARRAY_LEN(bad); n++) {
		facts = facts_of(bad[n], 0, 0);
		assert_int_equal(resolution_add(&b, &facts), -EINVAL);
	}
	for (unsigned n = 0; n < RESOLUTION_RENDITIONS_MAX; n++) {
		snprintf(format, sizeof(format), "f%u", n);
		facts = facts_of(format, n, VA);
		assert_int_equal(resolution_add(&b, &facts), 0);
		if (n + 1 < RESOLUTION_RENDITIONS_MAX)
			assert_int_equal(resolution_add(&b, &facts), -EEXIST);
	}
	facts = facts_of("more", 0, VA);
	assert_int_equal(resolution_add(&b, &facts), -ENOSPC);
	r = finish(&b);
	assert_int_equal(r->count, RESOLUTION_RENDITIONS_MAX);
	assert_string_equal(resolution_title(r), "");
	for (unsigned n = 0; n < RESOLUTION_RENDITIONS_MAX; n++) {
		snprintf(format, sizeof(format), "f%u", n);
		assert_ptr_equal(
			resolution_find_format(r, format, strlen(format)),
			&r->renditions[n]);
	}
	free(r);
}

static void test_nothing_and_too_much(void **state)
{
	static char text[RESOLUTION_BYTES_MAX + 1];
	struct resolution_builder b;
	struct resolution *r = NULL;
	struct rendition_facts facts = facts_of("f", 1, VA);

	(void)state;
	resolution_begin(&b, "t", 0);
	assert_int_equal(resolution_end(&b, &r), -ENOENT);
	assert_null(r);
	resolution_abort(&b); /* once more is no fault */

	resolution_begin(&b, "t", 0);
	memset(text, 'x', sizeof(text) - 1);
	facts.text[RENDITION_URL] = text;
	assert_int_equal(resolution_add(&b, &facts), -ENOSPC);
	facts.text[RENDITION_URL] = "";
	assert_int_equal(resolution_add(&b, &facts), -ENOSPC);
	assert_int_equal(resolution_end(&b, &r), -ENOSPC);
	assert_null(r);

	resolution_begin(&b, text, 0);
	assert_int_equal(resolution_end(&b, &r), -ENOSPC);
	assert_null(r);
}

/* All that readers do with a record: the sanitizers watch. */
static size_t walk(const struct resolution *r)
{
	static const char *const qualities[] = { "0p",   "360p",  "99999p",
						 "best", "worst", "audio",
						 "x" };
	size_t bytes = strlen(resolution_title(r));

	for (uint32_t n = 0; n < r->count; n++)
		for (int t = 0; t < RENDITION_TEXTS; t++)
			bytes += strlen(rendition_text(r, &r->renditions[n],
						       (enum rendition_text)t));
	for (size_t n = 0; n < ARRAY_LEN(qualities); n++) {
		bool exact;

		bytes += resolution_pick(r, qualities[n], &exact) != NULL;
	}
	bytes += resolution_find_format(r, "nothing", 7) != NULL;
	return bytes;
}

/* In memory of just this size, so that the sanitizer sees a byte too far. */
static bool valid_copy(const void *data, size_t bytes)
{
	void *copy = malloc(bytes > 0 ? bytes : 1);
	bool valid;

	assert_non_null(copy);
	memcpy(copy, data, bytes);
	valid = resolution_valid(copy, bytes);
	if (valid)
		assert_in_range(walk(copy), 0, 100 * RESOLUTION_BYTES_MAX);
	free(copy);
	return valid;
}

static void test_truncated(void **state)
{
	struct resolution *r = some_record();

	(void)state;
	assert_true(valid_copy(r, r->bytes));
	for (size_t n = 0; n < r->bytes; n++) {
		struct resolution *cut = malloc(r->bytes);

		assert_false(valid_copy(r, n));
		/* also when it tells its new length itself */
		assert_non_null(cut);
		memcpy(cut, r, r->bytes);
		cut->bytes = (uint32_t)n;
		(void)valid_copy(cut, n);
		free(cut);
	}
	free(r);
}

static void test_bent_bytes(void **state)
{
	static const unsigned char values[] = { 0, 1, 0x7f, 0x80, 0xff };
	struct resolution *r = some_record();
	unsigned char *bytes = (unsigned char *)r;
	unsigned refused = 0;

	(void)state;
	for (size_t n = 0; n < r->bytes; n++) {
		unsigned char was = bytes[n];
		size_t whole = r->bytes;

		for (size_t v = 0; v < ARRAY_LEN(values); v++) {
			bytes[n] = values[v];
			refused += !valid_copy(r, whole);
		}
		bytes[n] = was;
	}
	assert_in_range(refused, 300, 10000);
	free(r);
}

static void test_bent_fields(void **state)
{
	struct resolution *r = some_record();
	const uint32_t bytes = r->bytes;
	const uint32_t texts =
		(uint32_t)(sizeof(*r) + 3 * sizeof(struct rendition));
	const uint32_t wrong[] = {
		0, 1, texts - 1, bytes, bytes + 1, UINT32_MAX
	};
	struct {
		uint32_t *field;
		uint32_t values[6];
	} bent[] = {
		{ &r->version, { 0, 1, 3, 255, 1u << 31, UINT32_MAX } },
		{ &r->bytes,
		  { 0, 1, bytes - 1, bytes + 1, 1u << 31, UINT32_MAX } },
		{ &r->count, { 0, 65, 1000, 1u << 26, 1u << 31, UINT32_MAX } },
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(bent); n++) {
		uint32_t was = *bent[n].field;

		for (size_t v = 0; v < ARRAY_LEN(bent[n].values); v++) {
			*bent[n].field = bent[n].values[v];
			assert_false(valid_copy(r, bytes));
		}
		*bent[n].field = was;
	}
	for (size_t v = 0; v < ARRAY_LEN(wrong); v++) {
		uint32_t was = r->title_off;

		r->title_off = wrong[v];
		assert_false(valid_copy(r, bytes));
		r->title_off = was;
		for (uint32_t n = 0; n < r->count; n++)
			for (int t = 0; t < RENDITION_TEXTS; t++) {
				was = r->renditions[n].text_off[t];
				r->renditions[n].text_off[t] = wrong[v];
				assert_false(valid_copy(r, bytes));
				r->renditions[n].text_off[t] = was;
			}
	}
	/* the last text has no end */
	((char *)r)[bytes - 1] = 'x';
	assert_false(valid_copy(r, bytes));
	((char *)r)[bytes - 1] = '\0';
	/* two of one format, and one that is no format */
	r->renditions[1].text_off[RENDITION_FORMAT] =
		r->renditions[0].text_off[RENDITION_FORMAT];
	assert_false(valid_copy(r, bytes));
	r->renditions[1].text_off[RENDITION_FORMAT] =
		r->renditions[1].text_off[RENDITION_URL];
	assert_false(valid_copy(r, bytes));
	r->renditions[1].text_off[RENDITION_FORMAT] = bytes - 1;
	assert_false(valid_copy(r, bytes));
	free(r);
}

/* One rendition more than there may be, all else being right. */
static void test_one_too_many(void **state)
{
	const uint32_t more = RESOLUTION_RENDITIONS_MAX + 1;
	uint32_t off = (uint32_t)(sizeof(struct resolution) +
				  more * sizeof(struct rendition));
	struct resolution *r = calloc(1, off + 1000);

	(void)state;
	assert_non_null(r);
	r->version = 2;
	for (r->count = 0; r->count < more; r->count++) {
		struct rendition *one = &r->renditions[r->count];

		for (int t = 0; t < RENDITION_TEXTS; t++)
			one->text_off[t] = off;
		off += (uint32_t)sprintf((char *)r + off, "f%u", r->count) + 1;
	}
	r->title_off = off - 1;
	r->bytes = off;
	assert_false(valid_copy(r, off));
	r->count--; /* the last one's place is text now */
	assert_true(valid_copy(r, off));
	free(r);
}

/* ---- picking ---- */

struct choice {
	const char *format;
	uint32_t height;
	uint32_t flags;
	const char *container;
	uint64_t bitrate_bps;
};

static struct resolution *record_of(const struct choice *choices)
{
	struct resolution_builder b;

	resolution_begin(&b, "t", 0);
	for (; choices->format != NULL; choices++) {
		struct rendition_facts facts = facts_of(
			choices->format, choices->height, choices->flags);

		facts.text[RENDITION_CONTAINER] = choices->container;
		facts.bitrate_bps = choices->bitrate_bps;
		assert_int_equal(resolution_add(&b, &facts), 0);
	}
	return finish(&b);
}

static const struct choice ladder[] = {
	{ "v360", 360, VA, "mp4", 1 },  { "v144", 144, VA, "mp4", 9 },
	{ "v720", 720, VA, "webm", 2 }, { "a1", 0, A, "mp4", 100 },
	{ "a2", 0, A, "mp4", 200 },     { 0 },
};
static const struct choice split[] = {
	/* pictures alone: chosen only when nothing has both */
	{ "v1080", 1080, V, "mp4", 5 },
	{ "b360", 360, VA, "mp4", 1 },
	{ "a", 0, A, "webm", 3 },
	{ 0 },
};
static const struct choice silent[] = {
	{ "v480", 480, V, "mp4", 5 },
	{ "v240", 240, V, "mp4", 5 },
	{ "a", 0, A, "webm", 3 },
	{ 0 },
};
static const struct choice equal[] = {
	{ "webm", 360, VA, "webm", 900 },
	{ "low", 360, VA, "mp4", 100 },
	{ "high", 360, VA, "mp4", 200 },
	{ "mute", 360, V, "mp4", 999 },
	{ "t144webm", 144, VA, "webm", 1 },
	{ "t144", 144, VA, "mp4", 0 },
	{ 0 },
};
static const struct choice sound[] = {
	{ "webm", 0, A, "webm", 900 },
	{ "m4a1", 0, A, "mp4", 100 },
	{ "m4a2", 0, A, "mp4", 200 },
	{ 0 },
};
static const struct choice unknown[] = {
	/* heights are not told */
	{ "one", 0, VA, "mp4", 1 },
	{ "two", 0, VA, "mp4", 2 },
	{ 0 },
};
static const struct choice strange[] = {
	{ "huge", UINT32_MAX, VA, "mp4", 1 },
	{ "none", 0, 0, "mp4", 2 },
	{ 0 },
};

static const struct {
	const struct choice *from;
	const char *quality;
	const char *format; /* NULL: nothing */
	bool exact;
} picks[] = {
	{ ladder, "144p", "v144", true },
	{ ladder, "360p", "v360", true },
	{ ladder, "720p", "v720", true },
	{ ladder, "0360p", "v360", true },
	{ ladder, "359p", "v144", false },
	{ ladder, "361p", "v360", false },
	{ ladder, "719p", "v360", false },
	{ ladder, "1080p", "v720", false },
	{ ladder, "99999p", "v720", false },
	{ ladder, "143p", "v144", false }, /* all are higher */
	{ ladder, "0p", "v144", false },
	{ ladder, "best", "v720", true },
	{ ladder, "worst", "v144", true },
	{ ladder, "audio", "a2", true },
	{ ladder, "", NULL, true },
	{ ladder, "p", NULL, true },
	{ ladder, "360", NULL, true },
	{ ladder, "360P", NULL, true },
	{ ladder, "-360p", NULL, true },
	{ ladder, "+36p", NULL, true },
	{ ladder, "3 0p", NULL, true },
	{ ladder, "123456p", NULL, true },
	{ ladder, "bester", NULL, true },
	{ ladder, "Best", NULL, true },
	{ split, "best", "b360", true },
	{ split, "1080p", "b360", false },
	{ split, "worst", "b360", true },
	{ split, "audio", "a", true },
	{ silent, "best", "v480", true },
	{ silent, "worst", "v240", true },
	{ silent, "300p", "v240", false },
	{ equal, "360p", "high", true },
	{ equal, "best", "high", true },
	{ equal, "worst", "t144", true },
	{ equal, "audio", NULL, true },
	{ sound, "audio", "m4a2", true },
	{ sound, "best", "m4a2", true },
	{ sound, "worst", "m4a2", true },
	{ sound, "360p", NULL, true },
	{ unknown, "best", "two", true },
	{ unknown, "360p", "two", false },
	{ unknown, "audio", NULL, true },
	{ strange, "best", "huge", true },
	{ strange, "99999p", "huge", false },
};

static void test_pick(void **state)
{
	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(picks); n++) {
		struct resolution *r = record_of(picks[n].from);
		bool exact = false;
		const struct rendition *one =
			resolution_pick(r, picks[n].quality, &exact);
		const char *format =
			one != NULL ? rendition_text(r, one, RENDITION_FORMAT)
				    : NULL;

		if ((format == NULL) != (picks[n].format == NULL) ||
		    (format != NULL && strcmp(format, picks[n].format) != 0))
			fail_msg("no %zu, %s: %s, not %s", n, picks[n].quality,
				 format != NULL ? format : "nothing",
				 picks[n].format != NULL ? picks[n].format
							 : "nothing");
		if (format != NULL && exact != picks[n].exact)
			fail_msg("no %zu, %s: exact is %d", n, picks[n].quality,
				 exact);
		assert_ptr_equal(resolution_pick(r, picks[n].quality, NULL),
				 one);
		free(r);
	}
}

/* ---- the table ---- */

static struct resolutions *open_table(uint64_t map_bytes, bool writer)
{
	struct resolutions *rs = NULL;

	assert_int_equal(resolutions_open(&rs, folder, map_bytes, writer), 0);
	return rs;
}

static void name_of_data(char name[64])
{
	snprintf(name, 64, "%s/resolved/data.mdb", folder);
}

static void remove_table(void)
{
	static const char *const names[] = { "resolved/data.mdb",
					     "resolved/lock.mdb",
					     "resolved/opening", "resolved" };
	char name[64];

	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		snprintf(name, sizeof(name), "%s/%s", folder, names[n]);
		assert_true(remove(name) == 0 || errno == ENOENT);
	}
}

static int begin_empty(void **state)
{
	(void)state;
	remove_table();
	return 0;
}

static void put(struct resolutions *rs, const char *key,
		struct resolution *record)
{
	assert_int_equal(resolutions_put(rs, key, strlen(key), record), 0);
	free(record);
}

/* -1: absent; else the number that the record tells. */
static int tag_of(struct resolutions *rs, const char *key)
{
	const struct resolution *r;
	int tag = -1;

	assert_int_equal(resolutions_begin_read(rs), 0);
	r = resolutions_find(rs, key, strlen(key));
	if (r != NULL)
		tag = (int)r->duration_ms;
	resolutions_end_read(rs);
	return tag;
}

static void test_table(void **state)
{
	static const char long_key[600];
	struct resolutions *rs = NULL;
	struct resolution *r;

	(void)state;
	assert_int_equal(resolutions_open(&rs, folder, MAP_BYTES, false),
			 -ENOENT);
	rs = open_table(MAP_BYTES, true);
	assert_int_equal(tag_of(rs, "s/a"), -1);
	put(rs, "s/a", filled_record(1, 10, 1));
	put(rs, "s/b", filled_record(2, 100000, 2));
	assert_int_equal(tag_of(rs, "s/a"), 1);
	assert_int_equal(tag_of(rs, "s/b"), 2);
	put(rs, "s/a", filled_record(3, 1000, 3));
	assert_int_equal(tag_of(rs, "s/a"), 3);
	assert_int_equal(tag_of(rs, "s/"), -1);
	assert_int_equal(tag_of(rs, "s/ab"), -1);
	assert_int_equal(tag_of(rs, ""), -1);
	resolutions_close(rs);

	rs = open_table(MAP_BYTES, false); /* a reader */
	assert_int_equal(tag_of(rs, "s/a"), 3);
	assert_int_equal(tag_of(rs, "s/b"), 2);
	resolutions_close(rs);

	rs = open_table(MAP_BYTES, true);
	assert_int_equal(resolutions_delete(rs, "s/a", 3), 0);
	assert_int_equal(tag_of(rs, "s/a"), -1);
	assert_int_equal(resolutions_delete(rs, "s/a", 3), 0);
	assert_int_equal(tag_of(rs, "s/b"), 2);
	r = some_record();
	assert_int_equal(resolutions_put(rs, "", 0, r), -EINVAL);
	assert_int_equal(resolutions_put(rs, long_key, sizeof(long_key), r),
			 -EINVAL);
	free(r);
	resolutions_close(rs);
	resolutions_close(NULL);
}

static void test_paths(void **state)
{
	static char path[5000];
	struct resolutions *rs = NULL;

	(void)state;
	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	assert_int_equal(resolutions_open(&rs, path, MAP_BYTES, true),
			 -ENAMETOOLONG);
	assert_int_equal(
		resolutions_open(&rs, "/nonexistent/x", MAP_BYTES, true),
		-ENOENT);
	assert_null(rs);
}

static void test_more_than_fits(void **state)
{
	struct resolutions *rs = open_table(SMALL_MAP, true);
	char key[32];
	unsigned left = 0, young = 0;

	(void)state;
	for (unsigned n = 0; n < 2000; n++) {
		snprintf(key, sizeof(key), "s/%u", n * 7919 % 2000);
		put(rs, key, filled_record(n, n % 3000, (int64_t)n + 1));
		assert_int_equal(tag_of(rs, key), n);
	}
	for (unsigned n = 0; n < 2000; n++) {
		snprintf(key, sizeof(key), "s/%u", n);
		if (tag_of(rs, key) < 0)
			continue;
		left++;
		young += tag_of(rs, key) >= 1000;
	}
	/* most of those that fit, and rather the young ones */
	assert_in_range(left, 30, 300);
	assert_in_range(young, left * 3 / 4, left);
	resolutions_close(rs);
}

/* A record as large as many others still finds its place. */
static void test_large_among_small(void **state)
{
	struct resolutions *rs = open_table(MAP_BYTES, true);
	char key[32];

	(void)state;
	for (unsigned n = 0; n < 2500; n++) {
		snprintf(key, sizeof(key), "s/%u", n);
		put(rs, key, filled_record(n, 900, (int64_t)n + 1));
	}
	for (unsigned n = 0; n < 20; n++) {
		snprintf(key, sizeof(key), "s/large-%u", n);
		put(rs, key,
		    filled_record(n, RESOLUTION_BYTES_MAX - 6000,
				  (int64_t)n + 10000));
		assert_int_equal(tag_of(rs, key), n);
	}
	for (unsigned n = 0; n < 600; n++) {
		snprintf(key, sizeof(key), "s/%u", n);
		put(rs, key, filled_record(n, 400, (int64_t)n + 20000));
		assert_int_equal(tag_of(rs, key), n);
	}
	resolutions_close(rs);
}

/* Puts for ever; tells each number that is committed. */
NORETURN static void write_for_ever(int tell_fd)
{
	struct resolutions *rs = NULL;

	if (resolutions_open(&rs, folder, MAP_BYTES, true) < 0)
		_exit(2);
	for (unsigned n = 0;; n++) {
		struct resolution *r =
			filled_record(n, n * 97 % 20000, (int64_t)n + 1);
		char key[32];

		snprintf(key, sizeof(key), "s/%u", n % 50);
		if (resolutions_put(rs, key, strlen(key), r) < 0 ||
		    write(tell_fd, &n, sizeof(n)) != (ssize_t)sizeof(n))
			_exit(3);
		free(r);
	}
}

static void check_after_kill(unsigned last)
{
	struct resolutions *rs = open_table(MAP_BYTES, false);
	char key[32];

	assert_int_equal(resolutions_begin_read(rs), 0);
	for (unsigned n = 0; n < 50; n++) {
		const struct resolution *r;

		snprintf(key, sizeof(key), "s/%u", n);
		r = resolutions_find(rs, key, strlen(key));
		if (r == NULL) {
			assert_true(last < n);
			continue;
		}
		assert_true(r->duration_ms % 50 == n);
		/* what was told is there; the one after it may be */
		assert_true(r->duration_ms <= last + 1);
		assert_true(last - n < 50 || r->duration_ms + 50 > last);
		assert_true(is_filled_with(r, (unsigned)r->duration_ms,
					   r->duration_ms * 97 % 20000));
	}
	resolutions_end_read(rs);
	resolutions_close(rs);
}

static void test_writer_is_killed(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 8; round++) {
		unsigned last = 0, n;
		int fds[2], status;
		pid_t pid;

		remove_table();
		assert_int_equal(pipe(fds), 0);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			write_for_ever(fds[1]);
		close(fds[1]);
		for (unsigned k = 0; k < 40 + round * 13; k++)
			assert_int_equal(read(fds[0], &last, sizeof(last)),
					 sizeof(last));
		assert_int_equal(usleep(round * 137), 0);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		while (read(fds[0], &n, sizeof(n)) == (ssize_t)sizeof(n))
			last = n;
		close(fds[0]);
		check_after_kill(last);
		{
			struct resolutions *rs = open_table(MAP_BYTES, true);

			put(rs, "s/new", filled_record(7, 7, 7));
			assert_int_equal(tag_of(rs, "s/new"), 7);
			resolutions_close(rs);
		}
	}
}

/* ---- damage ---- */

static off_t make_table(void)
{
	struct resolutions *rs;
	char name[64], key[32];
	struct stat st;

	remove_table();
	rs = open_table(MAP_BYTES, true);
	for (unsigned n = 0; n < 100; n++) {
		snprintf(key, sizeof(key), "s/%u", n);
		put(rs, key, filled_record(n, n * 50, (int64_t)n + 1));
	}
	resolutions_close(rs);
	name_of_data(name);
	assert_int_equal(stat(name, &st), 0);
	return st.st_size;
}

/* In a process of its own: it must not be killed by what it reads. */
static void read_all(bool writer)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct resolutions *rs = NULL;
		int rc = resolutions_open(&rs, folder, MAP_BYTES, writer);
		char key[32];

		for (unsigned n = 0; rc == 0 && n < 100; n++) {
			const struct resolution *r;

			snprintf(key, sizeof(key), "s/%u", n);
			if (resolutions_begin_read(rs) < 0)
				continue;
			r = resolutions_find(rs, key, strlen(key));
			if (r != NULL)
				(void)walk(r);
			resolutions_end_read(rs);
		}
		if (rc == 0 && writer) {
			struct resolution *r = filled_record(5, 50, 5);

			if (resolutions_put(rs, "s/new", 5, r) < 0)
				_exit(3);
			free(r);
		}
		_exit(rc < 0 && writer ? 4 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void check_new_one(void)
{
	struct resolutions *rs = open_table(MAP_BYTES, false);

	assert_int_equal(tag_of(rs, "s/new"), 5);
	resolutions_close(rs);
}

static void test_cut(void **state)
{
	off_t bytes = make_table();
	char name[64];

	(void)state;
	name_of_data(name);
	for (off_t cut = 0; cut < bytes;
	     cut += cut < 8192 ? 1021 : bytes / 16 + 1) {
		assert_int_equal(make_table(), bytes);
		assert_int_equal(truncate(name, cut), 0);
		read_all(false);
		read_all(true);
		check_new_one();
	}
}

static void overwrite(off_t at, size_t n, int with)
{
	char name[64], junk[4096];
	int fd;

	name_of_data(name);
	memset(junk, with, sizeof(junk));
	fd = open(name, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, junk, n, at), n);
	assert_int_equal(close(fd), 0);
}

/* Both heads of the file are no heads. */
static void test_damaged_head(void **state)
{
	static const int with[] = { 0, 0xff, 'x' };

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(with); n++) {
		(void)make_table();
		overwrite(0, 4096, with[n]);
		overwrite(4096, 4096, with[n]);
		read_all(false);
		read_all(true);
		check_new_one();
	}
}

/* What is damaged inside of a record is absent, the others are there. */
static void test_damaged_record(void **state)
{
	struct resolutions *rs = open_table(MAP_BYTES, true);
	struct resolution *r = filled_record(1, 100, 1);

	(void)state;
	put(rs, "s/good", filled_record(2, 100, 2));
	r->renditions[0].text_off[RENDITION_URL] = UINT32_MAX;
	put(rs, "s/bad", r);
	assert_int_equal(tag_of(rs, "s/bad"), -1);
	assert_int_equal(tag_of(rs, "s/good"), 2);
	put(rs, "s/bad", filled_record(3, 100, 3));
	assert_int_equal(tag_of(rs, "s/bad"), 3);
	resolutions_close(rs);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	remove_table();
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_left_out),
		cmocka_unit_test(test_nothing_and_too_much),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_bent_bytes),
		cmocka_unit_test(test_bent_fields),
		cmocka_unit_test(test_one_too_many),
		cmocka_unit_test(test_pick),
		cmocka_unit_test_setup(test_table, begin_empty),
		cmocka_unit_test_setup(test_paths, begin_empty),
		cmocka_unit_test_setup(test_more_than_fits, begin_empty),
		cmocka_unit_test_setup(test_large_among_small, begin_empty),
		cmocka_unit_test_setup(test_writer_is_killed, begin_empty),
		cmocka_unit_test_setup(test_cut, begin_empty),
		cmocka_unit_test_setup(test_damaged_head, begin_empty),
		cmocka_unit_test_setup(test_damaged_record, begin_empty),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

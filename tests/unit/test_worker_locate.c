/* From requests to objects: qualities, the table of resolutions, asks of the
 * resolver (its role is the test's) and their answers. */
#include "worker_rig.h"

#include "ipc/resolve.h"
#include "store/resolution.h"

#define HOUR_S 3600

static struct rig rig;
static struct rig_response res;
static struct resolutions *table;
static int64_t resolved_us;

static const char options[] =
	"[upstream]\nconnect_timeout = 100ms\nfirst_byte_timeout = 300ms\n"
	"patience = 200ms\n[resolver]\nindex = 16M\ntimeout = 100ms\n"
	"[source:first]\nurl = http://f/{id}\n"
	"[source:words]\nurl = http://w/{id}/{quality}\n"
	"qualities = 144p 360p hd\nquality = 240p\n"
	"[source:cmd]\ntype = command\nurl = http://c/{id}\nquality = 480p\n"
	"[source:dir]\ntype = directory\npath = /tmp\n";

static int open_rig(void **state)
{
	(void)state;
	rig_open(&rig, options);
	assert_int_equal(resolutions_open(&table, rig.folder, 16 * MIB, true),
			 0);
	resolved_us = clock_wall_s() * 1000000;
	return 0;
}

static int close_rig(void **state)
{
	(void)state;
	free(res.body);
	res.body = NULL;
	resolutions_close(table);
	rig_close(&rig);
	return 0;
}

static void add(struct resolution_builder *b, const char *format,
		const char *label, uint32_t height, uint32_t flags)
{
	struct rendition_facts facts = {
		.text = { [RENDITION_FORMAT] = format,
			  [RENDITION_LABEL] = label,
			  [RENDITION_CONTAINER] = "mp4",
			  [RENDITION_TYPE] = "video/mp4",
			  [RENDITION_URL] = "http://secret/token" },
		.size_bytes = height == 720 ? SIZE_UNKNOWN : height * 1000,
		.width = height * 2,
		.height = height,
		.flags = flags,
	};

	assert_int_equal(resolution_add(b, &facts), 0);
}

/* 144p, 360p, 720p: formats f144 and so on, f18 beside f360. */
static void put_resolution(const char *key, int64_t life_s, int64_t left_s)
{
	struct resolution_builder b;
	struct resolution *r;

	resolution_begin(&b, "A \"title\"", 90500);
	add(&b, "f144", "144p", 144, RENDITION_VIDEO | RENDITION_AUDIO);
	add(&b, "f720", "720p", 720, RENDITION_VIDEO | RENDITION_AUDIO);
	add(&b, "f360", "360p", 360, RENDITION_VIDEO | RENDITION_AUDIO);
	assert_int_equal(resolution_end(&b, &r), 0);
	r->expires_s = clock_wall_s() + left_s;
	r->resolved_us =
		(r->expires_s - life_s) * 1000000 + resolved_us++ % 1000000;
	assert_int_equal(resolutions_put(table, key, strlen(key), r), 0);
	free(r);
}

/* One rendition of "dir/id": the file of this name. */
static void put_file(const char *key, const char *name, int64_t left_s)
{
	struct rendition_facts facts = {
		.text = { [RENDITION_FORMAT] = "any",
			  [RENDITION_LABEL] = "360p",
			  [RENDITION_TYPE] = "video/webm",
			  [RENDITION_URL] = name },
		.size_bytes = SIZE_UNKNOWN,
		.height = 360,
		.flags = RENDITION_VIDEO,
	};
	struct resolution_builder b;
	struct resolution *r;

	resolution_begin(&b, "", 0);
	assert_int_equal(resolution_add(&b, &facts), 0);
	assert_int_equal(resolution_end(&b, &r), 0);
	r->expires_s = clock_wall_s() + left_s;
	r->resolved_us = resolved_us++;
	assert_int_equal(resolutions_put(table, key, strlen(key), r), 0);
	free(r);
}

static void take_resolve(struct resolve *ask, const char *key)
{
	struct pollfd p = { .fd = rig.ipc.resolver.rx, .events = POLLIN };

	assert_int_equal(poll(&p, 1, RIG_DEADLINE), 1);
	assert_int_equal(inbox_receive(rig.ipc.resolver.rx, ask, sizeof(*ask)),
			 sizeof(*ask));
	assert_int_equal(ask->type, RESOLVE_TYPE);
	assert_int_equal(ask->slot, 0);
	assert_int_equal(ask->key_bytes, strlen(key));
	assert_memory_equal(ask->key, key, strlen(key));
}

static bool has_resolve(void)
{
	struct pollfd p = { .fd = rig.ipc.resolver.rx, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void answer(uint64_t token, uint32_t status, const char *reason)
{
	struct resolved r = { .type = RESOLVED_TYPE,
			      .http_status = status,
			      .token = token,
			      .retry_after_s = status == 502 ? 7 : 0 };

	strcpy(r.reason, reason);
	assert_int_equal(inbox_send(rig.ipc.workers[0].tx, &r, sizeof(r)), 0);
}

static void request(int fd, const char *target)
{
	char text[512];

	snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n",
		 target);
	rig_send(fd, text);
}

static void expect_problem(int fd, int status, const char *detail)
{
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_int_equal(res.status, status);
	assert_non_null(strstr(res.head, "application/problem+json"));
	if (strstr((char *)res.body, detail) == NULL)
		fail_msg("no %s in %s", detail, (char *)res.body);
}

static void put_object(const char *key)
{
	struct object_record rec;

	rig_record(&rig, &rec, 1000);
	rig_put_object(&rig, key, &rec);
	rig_put_bytes(&rig, &rec, 0, 1000);
}

/* A hit whose head has this quality; NULL = no such field. */
static void expect_hit(int fd, const char *quality)
{
	char line[64];

	rig_expect(fd, &res, 200, 0, 1000);
	assert_non_null(strstr(res.head, "Cache-Status: reelcache; hit"));
	if (quality == NULL) {
		assert_null(strstr(res.head, "\r\nReelcache-Quality:"));
		return;
	}
	snprintf(line, sizeof(line), "\r\nReelcache-Quality: %s\r\n", quality);
	if (strstr(res.head, line) == NULL)
		fail_msg("no %s in %s", line, res.head);
}

static void test_template(void **state)
{
	static const struct {
		const char *target;
		const char *quality;
	} hits[] = {
		{ "/proxy/x?source=words", "144p" }, /* the default: 240p */
		{ "/proxy/x?source=words&q=360p", "360p" },
		{ "/proxy/x?q=480p&source=words", "360p" },
		{ "/proxy/x?source=words&q=best", "360p" },
		{ "/proxy/x?source=words&q=worst", "144p" },
		{ "/proxy/x?source=words&q=h%64", "hd" },
		{ "/proxy/x?source=first", NULL },
		{ "/proxy/x", NULL },
		{ "/proxy/x?q=360p", NULL },
		{ "/proxy/x?q=nonsense&q=", NULL },
	};
	int fd = rig_connect(&rig);

	(void)state;
	put_object("first/x");
	put_object("words/x/144p");
	put_object("words/x/360p");
	put_object("words/x/hd");
	for (size_t i = 0; i < ARRAY_LEN(hits); i++) {
		request(fd, hits[i].target);
		expect_hit(fd, hits[i].quality);
	}
	request(fd, "/proxy/x?source=words&q=audio");
	expect_problem(fd, 404, "quality");
	request(fd, "/proxy/x?source=words&q=sd");
	expect_problem(fd, 400, "quality");
	request(fd, "/proxy/x?source=none&q=360p");
	expect_problem(fd, 404, "source");
	assert_false(has_resolve());
	assert_false(rig_has_ask(&rig));
	close(fd);
}

/* The word goes to the prefetcher as part of the key, and is told when the
 * answer had to wait. */
static void test_template_miss(void **state)
{
	struct object_record rec;
	struct inflight *in;
	struct reply reply = { .status = REPLY_LOOK, .started = 1 };
	struct ask ask;
	int fd = rig_connect(&rig);

	(void)state;
	request(fd, "/proxy/y?source=words&q=144p");
	rig_take_ask(&rig, &ask);
	assert_int_equal(ask.key_bytes, strlen("words/y/144p"));
	assert_memory_equal(ask.key, "words/y/144p", ask.key_bytes);
	rig_record(&rig, &rec, 1000);
	in = rig_run_begin(&rig, &rec, 0);
	rig_run_grow(&rig, in, 1000);
	rig_reply(&rig, &ask, &reply, &rec);
	rig_expect(fd, &res, 200, 0, 1000);
	assert_non_null(strstr(res.head, "\r\nReelcache-Quality: 144p\r\n"));
	inflight_end(in);
	close(fd);
}

static void test_table(void **state)
{
	static const struct {
		const char *target;
		const char *quality;
	} hits[] = {
		{ "/proxy/x?source=cmd", "360p" }, /* the default: 480p */
		{ "/proxy/x?source=cmd&q=720p", "720p" },
		{ "/proxy/x?source=cmd&q=719p", "360p" },
		{ "/proxy/x?source=cmd&q=1p", "144p" },
		{ "/proxy/x?source=cmd&q=best", "720p" },
		{ "/proxy/x?source=cmd&q=worst", "144p" },
	};
	static const char *const bad[] = { "",      "360",     "p",
					   "BEST",  "123456p", "360p%00",
					   "hd",    "%",       "360p&q=360p",
					   "-360p", "best%20", "360px" };
	int fd = rig_connect(&rig);
	char target[256];

	(void)state;
	put_object("cmd/x/f144");
	put_object("cmd/x/f360");
	put_object("cmd/x/f720");
	put_resolution("cmd/x", HOUR_S, HOUR_S);
	for (size_t i = 0; i < ARRAY_LEN(hits); i++) {
		request(fd, hits[i].target);
		expect_hit(fd, hits[i].quality);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(target, sizeof(target), "/proxy/x?source=cmd&q=%s",
			 bad[i]);
		request(fd, target);
		expect_problem(fd, 400, "quality");
	}
	request(fd, "/proxy/x?source=cmd&q=audio");
	expect_problem(fd, 404, "quality");
	/* expired: which format it is stays right */
	put_resolution("cmd/x", HOUR_S, -10);
	request(fd, "/proxy/x?source=cmd&q=360p");
	expect_hit(fd, "360p");
	assert_false(has_resolve());
	assert_false(rig_has_ask(&rig));
	close(fd);
}

static void test_absent(void **state)
{
	struct resolve ask, other;
	int fd = rig_connect(&rig);
	int fd2 = rig_connect(&rig);

	(void)state;
	put_object("cmd/new/f360");
	request(fd, "/proxy/new?source=cmd");
	take_resolve(&ask, "cmd/new");
	assert_int_equal(ask.flags, 0);
	request(fd2, "/proxy/bad?source=cmd");
	take_resolve(&other, "cmd/bad");
	/* neither a stranger's nor a broken answer is one */
	answer(ask.token + 1000, 200, "");
	assert_int_equal(inbox_send(rig.ipc.workers[0].tx, &ask, 20), 0);
	put_resolution("cmd/new", HOUR_S, HOUR_S);
	answer(other.token, 502, "the helper ended with 1");
	answer(ask.token, 200, "");
	expect_problem(fd2, 502, "the helper ended with 1");
	assert_non_null(strstr(res.head, "\r\nRetry-After: 7\r\n"));
	expect_hit(fd, "360p");
	/* an answer again, to nobody */
	answer(ask.token, 200, "");
	request(fd, "/proxy/bad?source=cmd");
	take_resolve(&other, "cmd/bad");
	answer(other.token, 200, "");
	expect_problem(fd, 502, "table");
	request(fd, "/proxy/bad?source=cmd&q=audio");
	take_resolve(&other, "cmd/bad");
	answer(other.token, 12345, "");
	expect_problem(fd, 502, "");
	close(fd);
	close(fd2);
}

/* A resolver that dies with the ask in its hands. */
static void test_asked_again(void **state)
{
	struct resolve ask, again;
	int fd = rig_connect(&rig);

	(void)state;
	put_object("cmd/slow/f360");
	request(fd, "/proxy/slow?source=cmd&q=360p");
	take_resolve(&ask, "cmd/slow");
	take_resolve(&again, "cmd/slow");
	assert_int_equal(ask.token, again.token);
	put_resolution("cmd/slow", HOUR_S, HOUR_S);
	answer(again.token, 200, "");
	expect_hit(fd, "360p");
	close(fd);
}

static void test_given_up(void **state)
{
	int fd = rig_connect(&rig);
	uint64_t begun_ms = clock_now_ms();

	(void)state;
	request(fd, "/proxy/never?source=cmd");
	expect_problem(fd, 504, "in time");
	assert_true(clock_now_ms() - begun_ms >= 5000);
	close(fd);
}

static void test_client_leaves(void **state)
{
	struct resolve ask;
	int fd = rig_connect(&rig);

	(void)state;
	request(fd, "/proxy/left?source=cmd");
	take_resolve(&ask, "cmd/left");
	close(fd);
	rig_await_stat(&rig, STAT_connections, 0);
	put_resolution("cmd/left", HOUR_S, HOUR_S);
	answer(ask.token, 200, "");
	/* the worker is alive, and draining does not wait for it */
	fd = rig_connect(&rig);
	request(fd, "/proxy/other?source=cmd");
	take_resolve(&ask, "cmd/other");
	assert_int_equal(rig_stop_worker(&rig, SIGTERM), 0);
	close(fd);
}

static void test_refresh(void **state)
{
	struct resolve ask;
	int fd = rig_connect(&rig);

	(void)state;
	put_object("cmd/x/f360");
	/* not yet: more than a tenth of its life, more than a minute */
	put_resolution("cmd/x", 500, 55);
	request(fd, "/proxy/x?source=cmd");
	expect_hit(fd, "360p");
	put_resolution("cmd/x", 5000, 70);
	request(fd, "/proxy/x?source=cmd");
	expect_hit(fd, "360p");
	assert_false(has_resolve());
	put_resolution("cmd/x", 500, 40);
	request(fd, "/proxy/x?source=cmd");
	expect_hit(fd, "360p");
	take_resolve(&ask, "cmd/x");
	assert_int_equal(ask.flags, RESOLVE_AGAIN);
	assert_true(ask.known_us > 0);
	/* once */
	request(fd, "/proxy/x?source=cmd");
	expect_hit(fd, "360p");
	assert_false(has_resolve());
	/* the answer is nobody's */
	answer(ask.token, 502, "no");
	/* a new record of that id may be refreshed at once */
	put_resolution("cmd/x", 500, 30);
	request(fd, "/proxy/x?source=cmd");
	expect_hit(fd, "360p");
	take_resolve(&ask, "cmd/x");
	close(fd);
}

static char file_name[32];
static char file_path[64];

static void make_file(size_t size)
{
	struct timespec times[2] = { { .tv_sec = 1000000000 },
				     { .tv_sec = 1000000000 } };
	uint8_t *bytes = malloc(size);
	int fd;

	strcpy(file_path, "/tmp/test_locate.XXXXXX");
	fd = mkstemp(file_path);
	assert_true(fd >= 0);
	strcpy(file_name, file_path + strlen("/tmp/"));
	for (size_t i = 0; i < size; i++)
		bytes[i] = rig_byte(i);
	assert_int_equal(write(fd, bytes, size), size);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	free(bytes);
}

static void test_file(void **state)
{
	struct resolve ask;
	int fd = rig_connect(&rig);

	(void)state;
	make_file(300000);
	put_file("dir/film", file_name, HOUR_S);
	request(fd, "/proxy/film?source=dir");
	rig_expect(fd, &res, 200, 0, 300000);
	assert_non_null(strstr(res.head, "\r\nContent-Type: video/webm\r\n"));
	assert_non_null(strstr(res.head, "\r\nReelcache-Quality: 360p\r\n"));
	assert_non_null(strstr(res.head, "\r\nCache-Status: reelcache; hit"));
	assert_non_null(strstr(res.head, "Sun, 09 Sep 2001 01:46:40 GMT"));
	rig_send(fd, "GET /proxy/film?source=dir HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=70000-70099\r\n\r\n"
		     "HEAD /proxy/film?source=dir HTTP/1.1\r\nHost: h\r\n\r\n"
		     "GET /proxy/film?source=dir HTTP/1.1\r\nHost: h\r\n"
		     "Range: bytes=300000-\r\n\r\n");
	rig_expect(fd, &res, 206, 70000, 70100);
	rig_read_head(fd, &res);
	assert_int_equal(res.length, 300000);
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_int_equal(res.status, 416);
	rig_await_stat(&rig, STAT_bytes_sent_cache, 300100);
	/* files come and go: an expired record is not trusted */
	put_file("dir/film", file_name, 0);
	request(fd, "/proxy/film?source=dir");
	take_resolve(&ask, "dir/film");
	assert_int_equal(ask.flags, RESOLVE_AGAIN);
	answer(ask.token, 200, ""); /* as it is: the ask was answered */
	rig_expect(fd, &res, 200, 0, 300000);
	unlink(file_path);
	put_file("dir/film", file_name, HOUR_S);
	request(fd, "/proxy/film?source=dir");
	expect_problem(fd, 404, "file");
	put_file("dir/film", "../etc/passwd", HOUR_S);
	request(fd, "/proxy/film?source=dir");
	expect_problem(fd, 404, "file");
	assert_false(rig_has_ask(&rig));
	close(fd);
}

/* It changes while a client takes its time. */
static void test_file_changes(void **state)
{
	static uint8_t bytes[65536];
	const uint64_t size = 32 * MIB;
	int fd = rig_connect_small(&rig, 16384);
	uint64_t off = 0;
	ssize_t n;

	(void)state;
	make_file(size);
	put_file("dir/film", file_name, HOUR_S);
	request(fd, "/proxy/film?source=dir");
	rig_read_head(fd, &res);
	assert_int_equal(res.length, size);
	assert_int_equal(truncate(file_path, (off_t)size - 1), 0);
	while ((n = rig_receive(fd, bytes, sizeof(bytes))) > 0) {
		rig_check_bytes(bytes, off, off + (uint64_t)n);
		off += (uint64_t)n;
	}
	assert_true(off < size - 1);
	rig_await_stat(&rig, STAT_responses_broken, 1);
	unlink(file_path);
	close(fd);
}

static void test_resolve(void **state)
{
	static const char want[] =
		"{\"version\":1,\"id\":\"x\",\"source\":\"cmd\","
		"\"title\":\"A \\\"title\\\"\",\"duration_s\":90.5,"
		"\"expires\":";
	static const char one[] =
		"{\"quality\":\"720p\",\"format\":\"f720\",\"width\":1440,"
		"\"height\":720,\"container\":\"mp4\",\"type\":\"video/mp4\","
		"\"video_codec\":null,\"audio_codec\":null,"
		"\"bitrate_bps\":null,\"size_bytes\":null,\"audio\":true,"
		"\"video\":true,\"link\":\"/proxy/x?q=720p&source=cmd\"}";
	struct resolve ask;
	int fd = rig_connect(&rig);

	(void)state;
	request(fd, "/resolve/x?source=cmd&q=nonsense");
	take_resolve(&ask, "cmd/x");
	assert_int_equal(ask.flags, 0);
	put_resolution("cmd/x", HOUR_S, HOUR_S);
	answer(ask.token, 200, "");
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_int_equal(res.status, 200);
	assert_non_null(strstr(res.head, "\r\nContent-Type: application/json"));
	assert_non_null(strstr(res.head, "\r\nCache-Control: no-store\r\n"));
	assert_memory_equal(res.body, want, sizeof(want) - 1);
	assert_non_null(strstr((char *)res.body, one));
	assert_non_null(strstr((char *)res.body, "\"size_bytes\":360000"));
	assert_null(strstr((char *)res.body, "secret"));
	/* known now; HEAD */
	rig_send(fd, "HEAD /resolve/x?source=cmd HTTP/1.1\r\nHost: h\r\n\r\n");
	rig_read_head(fd, &res);
	assert_int_equal(res.status, 200);
	assert_false(has_resolve());
	/* expired: asked again, of the first source */
	put_resolution("first/x", HOUR_S, 0);
	request(fd, "/resolve/x");
	take_resolve(&ask, "first/x");
	assert_int_equal(ask.flags, RESOLVE_AGAIN);
	put_resolution("first/x", HOUR_S, HOUR_S);
	answer(ask.token, 200, "");
	rig_read_head(fd, &res);
	rig_read_body(fd, &res);
	assert_non_null(
		strstr((char *)res.body, "\"link\":\"/proxy/x?q=144p\""));
	put_resolution("cmd/x", HOUR_S, -1);
	request(fd, "/resolve/x?source=cmd");
	take_resolve(&ask, "cmd/x");
	answer(ask.token, 404, "there is no such video");
	expect_problem(fd, 404, "there is no such video");
	request(fd, "/resolve/a%2fb");
	expect_problem(fd, 400, "id");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_template, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_template_miss, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_table, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_absent, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_asked_again, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_given_up, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_client_leaves, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_refresh, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_file, open_rig, close_rig),
		cmocka_unit_test_setup_teardown(test_file_changes, open_rig,
						close_rig),
		cmocka_unit_test_setup_teardown(test_resolve, open_rig,
						close_rig),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

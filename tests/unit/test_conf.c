/* The configuration: what is read, what is refused and at which line. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "util/log.h"

#define SOURCE "[source:a]\nurl = http://h/{id}\n"

static char folder[] = "/tmp/test_conf.XXXXXX";
static char file[64];

static void write_file(const void *text, size_t bytes)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, bytes, f), bytes);
	assert_int_equal(fclose(f), 0);
}

static struct conf *load(const char *text)
{
	struct conf_fault fault;
	struct conf *conf = NULL;
	int rc;

	write_file(text, strlen(text));
	rc = conf_load(file, &conf, &fault);
	if (rc != 0)
		fail_msg("%s", fault.text);
	return conf;
}

static void test_defaults(void **state)
{
	struct conf *c = load(SOURCE);

	(void)state;
	assert_int_equal(c->main.workers, 0);
	assert_string_equal(c->main.user, "");
	assert_int_equal(c->main.log_level, LOG_LEVEL_INFO);
	assert_int_equal(c->main.access_log_format, CONF_ACCESS_LOG_COMBINED);
	assert_string_equal(c->main.admin_socket, "/run/reelcache/admin.sock");
	assert_int_equal(c->main.shutdown_timeout, 30000);
	assert_false(c->main.debug_headers);
	assert_int_equal(c->http.idle_timeout, 75000);
	assert_int_equal(c->cache.size, 500 * MIB);
	assert_int_equal(c->cache.chunk, 4 * MIB);
	assert_int_equal(c->cache.on_abandon, CONF_ON_ABANDON_LINGER);
	assert_int_equal(c->cache.stale_if_error, 86400000);
	assert_int_equal(c->upstream.patience, 25000);
	assert_int_equal(c->listen_count, 1);
	assert_string_equal(c->listens[0].name, "default");
	assert_string_equal(c->listens[0].address, "127.0.0.1:8090");
	assert_int_equal(c->source_count, 1);
	assert_string_equal(c->sources[0].name, "a");
	assert_string_equal(c->sources[0].url, "http://h/{id}");
	assert_int_equal(c->sources[0].type, CONF_SOURCE_TYPE_TEMPLATE);
	assert_false(c->sources[0].allow_private);
	conf_free(c);
}

static void test_everything_given(void **state)
{
	struct conf *c = load(
		"\xef\xbb\xbf; a comment\r\n"
		"# another\r\n"
		"[main] ; behind a section\r\n"
		"  workers = 3 ; behind a value\r\n"
		"\tlog_level=debug\n"
		"access_log_format = json\n"
		"[cache]\n"
		"size = 17179869184\n"
		"chunk = 512K\n"
		"on_abandon = abort\n"
		"linger_time = 250ms\n"
		"negative = 0\n"
		"[http]\n"
		"idle_timeout = 2h\n"
		"cors_origin =\n"
		"[upstream]\n"
		"user_agent = two words/1 (x=y: z)\n"
		"[listen:one]\n"
		"address = [::1]:8091\n"
		"[listen:two]\n"
		"address = *:8092\n"
		"backlog = 7\n"
		"[source:b.c_d-E9]\n"
		"allow_private = on\n"
		"url = https://h:8443/x?id={id}&again={id}\n" SOURCE
		"[listen:three]"); /* an empty one, at the end, counts */

	(void)state;
	assert_int_equal(c->main.workers, 3);
	assert_int_equal(c->main.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(c->main.access_log_format, CONF_ACCESS_LOG_JSON);
	assert_int_equal(c->cache.size, 16 * GIB);
	assert_int_equal(c->cache.chunk, 512 * KIB);
	assert_int_equal(c->cache.on_abandon, CONF_ON_ABANDON_ABORT);
	assert_int_equal(c->cache.linger_time, 250);
	assert_int_equal(c->cache.negative, 0);
	assert_int_equal(c->http.idle_timeout, 7200000);
	assert_string_equal(c->http.cors_origin, "");
	assert_string_equal(c->upstream.user_agent, "two words/1 (x=y: z)");
	assert_int_equal(c->listen_count, 3);
	assert_string_equal(c->listens[1].name, "two");
	assert_int_equal(c->listens[1].backlog, 7);
	assert_string_equal(c->listens[2].address, "127.0.0.1:8090");
	assert_int_equal(c->source_count, 2);
	assert_true(c->sources[0].allow_private);
	assert_ptr_equal(conf_find_source(c, "b.c_d-E9", 8), &c->sources[0]);
	assert_ptr_equal(conf_find_source(c, "ax", 1), &c->sources[1]);
	assert_null(conf_find_source(c, "x", 1));
	conf_free(c);
}

/* [http] may stand behind the listeners that need it. */
static void test_proxy_protocol(void **state)
{
	struct conf *c = load("[listen:a]\nproxy_protocol = yes\n" SOURCE
			      "[listen:b]\naddress = *:1\n"
			      "[http]\ntrusted = 10.0.0.0/8  ::1 private\n");

	(void)state;
	assert_string_equal(c->http.trusted, "10.0.0.0/8  ::1 private");
	assert_true(c->listens[0].proxy_protocol);
	assert_false(c->listens[1].proxy_protocol);
	conf_free(c);
	c = load("[listen:a]\nproxy_protocol = no\n" SOURCE);
	assert_string_equal(c->http.trusted, "");
	conf_free(c);
}

static void test_words_are_enums(void **state)
{
	static const struct {
		const char *word;
		int value;
	} levels[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
	}, abandons[] = {
		{ "linger", CONF_ON_ABANDON_LINGER },
		{ "object", CONF_ON_ABANDON_OBJECT },
		{ "abort", CONF_ON_ABANDON_ABORT },
	};
	char text[256];
	struct conf *c;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		(void)snprintf(text, sizeof(text),
			       "[main]\nlog_level = %s\n" SOURCE,
			       levels[i].word);
		c = load(text);
		assert_int_equal(c->main.log_level, levels[i].value);
		conf_free(c);
	}
	for (size_t i = 0; i < ARRAY_LEN(abandons); i++) {
		(void)snprintf(text, sizeof(text),
			       "[cache]\non_abandon = %s\n" SOURCE,
			       abandons[i].word);
		c = load(text);
		assert_int_equal(c->cache.on_abandon, abandons[i].value);
		conf_free(c);
	}
}

#define A10    "aaaaaaaaaa"
#define A64    A10 A10 A10 A10 A10 A10 "aaaa"
#define NO_URL "[source:a]\n"

/* Every fault names its line and says what would be right. */
static const struct {
	const char *text;
	unsigned int line; /* 0 = the file as a whole */
	const char *says;
} faults[] = {
	/* the file */
	{ "", 0, "no [source:NAME]" },
	{ "; nothing\n", 0, "no [source:NAME]" },
	{ "[main]\nworkers = 1\n", 0, "no [source:NAME]" },
	{ SOURCE "a\x01 = 1\n", 3, "control character (byte 0x01)" },
	{ SOURCE "\rx = 1\n", 3, "control character (byte 0x0d)" },
	/* sections */
	{ "workers = 1\n[main]\n", 1, "before any [section]" },
	{ "[man]\n", 1, "no section is called [man]" },
	{ "\n\n[]\n", 3, "no section is called []" },
	{ "[main:x]\n", 1, "takes no name, write [main]" },
	{ "[source]\n", 1, "needs a name" },
	{ "[source:]\n", 1, "a name is 1 to 64" },
	{ "[source:a b]\n", 1, "a name is 1 to 64" },
	{ "[source:a/b]\n", 1, "a name is 1 to 64" },
	{ "[source:" A64 "a]\n", 1, "a name is 1 to 64" },
	{ "[main\n", 1, "lacks the ]" },
	{ "[main] x = 1\n", 1, "more after the ]" },
	{ "[main]\n\n[http]\n[main]\n", 4, "before, in line 1" },
	{ SOURCE "[main]\n" SOURCE, 4, "[source:a] was given before" },
	{ "[listen:x]\n[listen:x]\n", 2, "[listen:x] was given before" },
	/* lines */
	{ "[main]\nworkers\n", 2, "neither" },
	{ "[main]\nworkers: 3\n", 2, "neither" },
	{ "[main]\nworkers ; = 3\n", 2, "name = value" },
	{ "[main]\nuser = a\n  b\n", 3, "neither" },
	{ "[main]\nuser = a\n  group = b\n  grp = c\n", 4, "no option grp" },
	{ "[main]\nworker = 3\n", 2, "there are workers user" },
	{ "[main]\nWorkers = 3\n", 2, "no option Workers" },
	{ "[main]\n= 3\n", 2, "no option" },
	{ "[main]\nsize = 1G\n", 2, "[main] has no option size" },
	{ "[main]\nworkers = 1\n\nworkers = 1\n", 4, "before, in line 2" },
	{ SOURCE "url = http://h/{id}\n", 3, "before, in line 2" },
	{ "[cache]\npath = /x # here\n", 2, "begins with ;" },
	/* values */
	{ "[main]\nworkers =\n", 2, "not a whole number" },
	{ "[main]\nworkers = -1\n", 2, "not a whole number" },
	{ "[main]\nworkers = 1x\n", 2, "not a whole number" },
	{ "[main]\nworkers = 0x10\n", 2, "not a whole number" },
	{ "[main]\nworkers = 33\n", 2, "out of bounds (auto or number, 0 to 32)" },
	{ "[main]\nworkers = 4294967297\n", 2, "out of bounds" },
	{ "[main]\nworkers = 99999999999999999999\n", 2, "not a whole number" },
	{ "[http]\nmax_ranges = auto\n", 2, "not a whole number" },
	{ "[main]\ndebug_headers = maybe\n", 2, "not one of yes, no" },
	{ "[main]\ndebug_headers = Yes\n", 2, "not one of yes, no" },
	{ "[main]\nlog_level = loud\n", 2,
	  "not error or warning or info or debug" },
	{ "[main]\nlog_level = error|info\n", 2, "not error or" },
	{ "[main]\nlog_level =\n", 2, "not error or" },
	{ "[cache]\nsize = 1.5G\n", 2, "not a size" },
	{ "[cache]\nsize = 1GB\n", 2, "not a size" },
	{ "[cache]\nsize = 500 M\n", 2, "not a size" },
	{ "[cache]\nsize = 1M\n", 2, "out of bounds (size, 16M to 1E)" },
	{ "[cache]\nsize = 2E\n", 2, "out of bounds" },
	{ "[cache]\nsize = 99E\n", 2, "out of bounds" },
	{ "[http]\nidle_timeout = 15\n", 2, "not a time" },
	{ "[http]\nidle_timeout = 15 s\n", 2, "not a time" },
	{ "[http]\nidle_timeout = 15M\n", 2, "not a time" },
	{ "[http]\nidle_timeout = 0\n", 2, "out of bounds (time, 100ms to 1d)" },
	{ "[http]\nidle_timeout = 1000d\n", 2, "out of bounds" },
	{ "[cache]\npath =\n", 2, "must not be empty" },
	{ "[http]\ncongestion = 1234567890123456\n", 2, "16 bytes long (0 to 15)" },
	{ "[main]\nuser =;x\n", 2, "begins a comment" },
	{ "[main]\nuser = a\tb\n", 2, "control character" },
	/* sections as wholes */
	{ "[cache]\nsize = 16M\nchunk = 32M\n", 3, "larger than size" },
	{ "[cache]\nchunk = 32M\n\nsize = 16M\n[main]\n", 2, "larger than size" },
	{ "[listen:a]\naddress = 8090\n", 2, "ADDRESS:PORT" },
	{ "[listen:a]\naddress = localhost:80\n", 2, "ADDRESS:PORT" },
	{ "[listen:a]\naddress = 127.0.0.1:65536\n", 2, "port 0 to 65535" },
	{ "[listen:a]\naddress = ::1:80\n", 2, "ADDRESS:PORT" },
	{ "[listen:a]\n[listen:b]\n", 2, "that of [listen:a] already" },
	{ "[listen:a]\naddress = [::1]:80\n[listen:b]\naddress = [0::1]:80\n", 4,
	  "that of [listen:a] already" },
	/* whose pages may open WebSockets */
	{ "[websocket]\n\norigins = same https://a.example/\n", 3,
	  "https://a.example/ is neither same" },
	{ "[websocket]\norigins = *, same\n", 2, "*, is neither" },
	{ "[websocket]\norigins = a.example\n", 2, "a.example is neither" },
	{ "[websocket]\norigins = https://\n", 2, "https:// is neither" },
	/* who is trusted */
	{ "[http]\ntrusted = loopback 10.0.0.1/8 x\n[main]\n", 2,
	  "[http] trusted = loopback 10.0.0.1/8 x: 10.0.0.1/8: has bits set" },
	{ "[http]\ntrusted = 10.0.0.0/8, ::1\n", 2, "10.0.0.0/8,: its /BITS" },
	{ "[http]\n\ntrusted = localhost\n", 3, "localhost: is neither" },
	{ "[listen:a]\naddress = *:1\nproxy_protocol = yes\n[listen:b]\n"
	  "proxy_protocol = yes\n" SOURCE, 3, "needs [http] trusted" },
	{ "[http]\ntrusted =\n[listen:a]\n[listen:b]\naddress = *:1\n"
	  "proxy_protocol = yes\n" SOURCE, 6, "needs [http] trusted" },
	{ "[listen:a]\nproxy_protocol = maybe\n", 2, "maybe" },
	{ NO_URL, 1, "needs a url" },
	{ NO_URL "allow_private = yes\n[main]\n", 1, "needs a url" },
	{ NO_URL "url =\n", 2, "must not be empty" },
	{ NO_URL "type = helper\n", 2, "is not template" },
	{ NO_URL "url = h/{id}\n", 2, "must begin with http://" },
	{ NO_URL "url = ftp://h/{id}\n", 2, "must begin with http://" },
	{ NO_URL "url = http:///{id}\n", 2, "has no host" },
	{ NO_URL "url = http://h/id\n", 2, "lacks {id}" },
	{ NO_URL "url = http://{id}.h/x\n", 2, "in its host" },
	{ NO_URL "url = http://h/{ID}\n", 2, "not part of {id}" },
	{ NO_URL "url = http://h/{id}}\n", 2, "not part of {id}" },
	{ NO_URL "url = http://h/{id} x\n", 2, "a character that no URL has" },
	{ NO_URL "url = http://h/{id}#x\n", 2, "fragment" },
	{ SOURCE "[source:b]\nurl = http://h/\n", 4, "lacks {id}" },
	/* qualities */
	{ NO_URL "url = http://h/{id}/{quality}\n", 2, "{quality}" },
	{ NO_URL "qualities = low high\nurl = http://h/{id}\n", 3,
	  "{quality}" },
	{ NO_URL "qualities = a\nurl = http://{quality}/{id}\n", 3, "host" },
	{ NO_URL "qualities = a\nurl = http://h/{quality}\n", 3,
	  "lacks {id}" },
	{ NO_URL "url = http://h/{id}{quality}\nqualities = a b a\n", 3,
	  "qualities = a b a: a word is there twice" },
	{ NO_URL "url = http://h/{id}{quality}\nqualities = a/b\n", 3,
	  "a word is 1 to 60 of" },
	{ NO_URL "url = http://h/{id}{quality}\nqualities = a, b\n", 3,
	  "a word is 1 to 60 of" },
	{ NO_URL "url = http://h/{id}{quality}\nqualities = " A64 "\n", 3,
	  "a word is 1 to 60 of" },
	{ SOURCE "type = http\nqualities = a\n", 4,
	  "only a source of type template takes it" },
	{ SOURCE "type = command\nqualities = a\n", 4,
	  "only a source of type template takes it" },
	{ NO_URL "type = directory\npath = /v\nqualities = a\n", 4,
	  "only a source of type template takes it" },
	{ SOURCE "quality = 360\n", 3,
	  "quality = 360: must be best, worst, audio, or one like 360p" },
	{ SOURCE "quality = low\n", 3, "must be best" },
	{ SOURCE "quality = 123456p\n", 3, "must be best" },
	/* types */
	{ NO_URL "type = command\n", 1, "needs a url" },
	{ NO_URL "type = http\n", 1, "needs a url" },
	{ NO_URL "type = http\nurl = http://h/{id}{quality}\n", 3,
	  "{quality}" },
	{ NO_URL "type = directory\n", 1, "needs a path that begins with /" },
	{ NO_URL "type = directory\npath = videos\n", 1,
	  "needs a path that begins with /" },
};

static void assert_refused(const char *says, unsigned int line, int errno_is)
{
	struct conf_fault fault;
	struct conf *conf = NULL;
	char head[128];
	int rc = conf_load(file, &conf, &fault);

	assert_int_equal(rc, -errno_is);
	assert_null(conf);
	assert_int_equal(fault.line, line);
	if (line > 0)
		(void)snprintf(head, sizeof(head), "%s:%u: ", file, line);
	else
		(void)snprintf(head, sizeof(head), "%s: ", file);
	if (strncmp(fault.text, head, strlen(head)) != 0 ||
	    strstr(fault.text, says) == NULL)
		fail_msg("wanted \"%s...%s\", got \"%s\"", head, says,
			 fault.text);
}

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		write_file(faults[i].text, strlen(faults[i].text));
		assert_refused(faults[i].says, faults[i].line, EINVAL);
	}
}

static void test_nul_byte(void **state)
{
	static const char text[] = "[main]\nuser = a\0b\n" SOURCE;

	(void)state;
	write_file(text, sizeof(text) - 1);
	assert_refused("control character (byte 0x00)", 2, EINVAL);
}

static void test_long_lines(void **state)
{
	static char text[16384];
	struct conf *c;
	size_t n;

	(void)state;
	/* a value of the longest length allowed is taken whole */
	n = (size_t)sprintf(text, "[source:a]\nurl = http://h/{id}?");
	memset(text + n, 'x', 4095 - strlen("http://h/{id}?"));
	n += 4095 - strlen("http://h/{id}?");
	text[n] = '\0';
	c = load(text);
	assert_int_equal(strlen(c->sources[0].url), 4095);
	conf_free(c);
	text[n++] = 'x';
	write_file(text, n);
	assert_refused("4096 bytes long (1 to 4095)", 2, EINVAL);
	/* a line over the limit is not cut in two */
	memset(text, ';', sizeof(text));
	memcpy(text, "[main]\n", 7);
	write_file(text, sizeof(text));
	assert_refused("longer than 8190 bytes", 2, EINVAL);
	memset(text + 7 + 8190, '\n', 1);
	memcpy(text + 7 + 8191, SOURCE, strlen(SOURCE));
	write_file(text, 7 + 8191 + strlen(SOURCE));
	text[7 + 8191 + strlen(SOURCE)] = '\0';
	conf_free(load(text));
}

static void test_files(void **state)
{
	FILE *f;

	(void)state;
	(void)unlink(file);
	assert_refused("No such file", 0, ENOENT);
	assert_int_equal(mkdir(file, 0700), 0);
	assert_refused("not a regular file", 0, EINVAL);
	assert_int_equal(rmdir(file), 0);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_refused("not a regular file", 0, EINVAL);
	assert_int_equal(unlink(file), 0);
	f = fopen(file, "w");
	assert_non_null(f);
	assert_int_equal(ftruncate(fileno(f), 1 << 21), 0);
	assert_int_equal(fclose(f), 0);
	assert_refused("larger than 1 MiB", 0, EINVAL);
}

static void test_too_many_sections(void **state)
{
	static char text[65536];
	size_t n = 0;

	(void)state;
	for (unsigned int i = 0; i <= CONF_LISTENS_MAX; i++)
		n += (size_t)sprintf(text + n,
				     "[listen:%u]\naddress = 127.0.0.1:%u\n", i,
				     1000 + i);
	write_file(text, n);
	assert_refused("more than 64 sections", 2 * CONF_LISTENS_MAX + 1,
		       EINVAL);
}

static char *dump(const struct conf *c)
{
	char *text = NULL;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	assert_non_null(f);
	assert_int_equal(conf_dump(c, f), 0);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void test_dump_round_trip(void **state)
{
	static const char *const texts[] = {
		SOURCE,
		"[main]\nworkers = 2\nuser = nobody\nerror_log = /a b/c;d\n"
		"debug_headers = yes\nlog_level = error\n"
		"[cache]\nsize = 1234567891\nchunk = 65537\nlinger = 0\n"
		"linger_time = 1500ms\nfreshness = 90s\non_abandon = object\n"
		"[upstream]\nuser_agent = \"quoted\" = 'x'\n"
		"[listen:l]\naddress = [::]:1\n"
		"[listen:m]\naddress = 0.0.0.0:65535\n"
		"[source:z]\nurl = http://z/{id}\nimmutable = yes\n" SOURCE,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct conf *a = load(texts[i]), *b;
		struct conf_fault fault;
		char *one = dump(a), *two;

		b = load(one);
		two = dump(b);
		assert_string_equal(one, two);
		assert_int_equal(conf_check_reload(a, b, &fault), 0);
		assert_int_equal(a->cache.size, b->cache.size);
		assert_int_equal(a->cache.linger_time, b->cache.linger_time);
		assert_string_equal(a->main.error_log, b->main.error_log);
		free(one);
		free(two);
		conf_free(a);
		conf_free(b);
	}
}

static void test_dump_to_full_disk(void **state)
{
	struct conf *c = load(SOURCE);
	FILE *f = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(f);
	assert_int_equal(conf_dump(c, f), -ENOSPC);
	(void)fclose(f);
	conf_free(c);
}

static void test_reload(void **state)
{
	static const struct {
		const char *text;
		const char *says; /* NULL = may be reloaded */
	} cases[] = {
		{ SOURCE, NULL },
		{ "[cache]\nsize = 1G\n[listen:x]\naddress = *:1\n"
		  "[source:q]\nurl = http://h/{id}\n",
		  NULL },
		{ "[cache]\npath = /elsewhere\n" SOURCE,
		  "[cache] path: only a restart changes it (it is "
		  "\"/var/cache/reelcache\", the file now says "
		  "\"/elsewhere\")" },
		{ "[cache]\nindex = 2G\n" SOURCE, "[cache] index" },
		{ "[cache]\nscratch = /tmp\n" SOURCE, "[cache] scratch" },
		{ "[main]\nuser = nobody\n" SOURCE, "[main] user" },
		{ "[main]\ngroup = nobody\n" SOURCE, "[main] group" },
		{ "[main]\nadmin_socket =\n" SOURCE, "[main] admin_socket" },
	};
	struct conf *old = load(SOURCE);
	struct conf_fault fault;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct conf *new = load(cases[i].text);
		int rc = conf_check_reload(old, new, &fault);

		assert_int_equal(rc, cases[i].says == NULL ? 0 : -EINVAL);
		if (cases[i].says != NULL)
			assert_non_null(strstr(fault.text, cases[i].says));
		conf_free(new);
	}
	conf_free(old);
}

static void test_addresses(void **state)
{
	static const char *const good[] = {
		"1.2.3.4:80",  "0.0.0.0:65535", "[::1]:1",
		"[::]:08090",  "*:80",          "127.0.0.1:0",
		"[fe80::1%lo]:80", "[::ffff:1.2.3.4]:80",
	};
	static const char *const bad[] = {
		":80",       "[]:80",     "[1.2.3.4]:80",  "1.2.3.4:+80",
		"1.2.3.4",   "1.2.3:80",  "1.2.3.4%lo:80", "[fe80::1%]:80",
		"1.2.3.4:",  "[::1]",     "[::1:80",       "localhost:80",
		"**:80",     "1.2.3.4:100000", "[::1]x:80",
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		(void)snprintf(text, sizeof(text),
			       "[listen:a]\naddress = %s\n" SOURCE, good[i]);
		conf_free(load(text));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		(void)snprintf(text, sizeof(text),
			       "[listen:a]\naddress = %s\n" SOURCE, bad[i]);
		write_file(text, strlen(text));
		assert_refused("ADDRESS:PORT", 2, EINVAL);
	}
	/* the kernel chooses twice */
	conf_free(load("[listen:a]\naddress = 127.0.0.1:0\n"
		       "[listen:b]\naddress = 127.0.0.1:0\n" SOURCE));
}

/* etc/reelcache.ini is the sample, and loads to the defaults. */
static void test_sample(void **state)
{
	const char *srcdir = getenv("REEL_SRCDIR");
	char path[4096], *want = NULL, *got, *defaults, *sample;
	struct conf *c;
	size_t bytes;
	FILE *f;

	(void)state;
	f = open_memstream(&want, &bytes);
	assert_non_null(f);
	assert_int_equal(conf_print_sample(f), 0);
	assert_int_equal(fclose(f), 0);

	c = load("[listen:main]\n[source:main]\n"
		 "url = http://origin.example/video/{id}\n");
	defaults = dump(c);
	conf_free(c);
	c = load(want);
	sample = dump(c);
	conf_free(c);
	assert_string_equal(sample, defaults);

	(void)snprintf(path, sizeof(path), "%s/etc/reelcache.ini",
		       srcdir != NULL ? srcdir : ".");
	f = fopen(path, "r");
	if (f == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	got = calloc(1, bytes + 2);
	assert_non_null(got);
	/* one more byte than wanted: a longer file is not equal */
	assert_int_equal(fread(got, 1, bytes + 1, f), bytes);
	(void)fclose(f);
	assert_string_equal(got, want);
	free(got);
	free(want);
	free(sample);
	free(defaults);
}

/* Every uncommented line of the sample, switched on, is good as well. */
static void test_sample_switched_on(void **state)
{
	char *text = NULL, *from, *to;
	size_t bytes;
	FILE *f = open_memstream(&text, &bytes);

	(void)state;
	assert_non_null(f);
	assert_int_equal(conf_print_sample(f), 0);
	assert_int_equal(fclose(f), 0);
	for (from = to = text; *from != '\0'; from++)
		if (from[0] != ';' || from[1] == ' ' ||
		    (from > text && from[-1] != '\n'))
			*to++ = *from;
	*to = '\0';
	conf_free(load(text));
	free(text);
}

static int make_folder(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(file, sizeof(file), "%s/reelcache.ini", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	(void)unlink(file);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_everything_given),
		cmocka_unit_test(test_proxy_protocol),
		cmocka_unit_test(test_words_are_enums),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_nul_byte),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_too_many_sections),
		cmocka_unit_test(test_dump_round_trip),
		cmocka_unit_test(test_dump_to_full_disk),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_sample),
		cmocka_unit_test(test_sample_switched_on),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

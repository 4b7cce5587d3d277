/* Helper programs, real ones: what they get, what is taken of them, and that
 * nothing is left of them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "resolver/command.h"

#define OUTPUT_MOST (1024u * 1024u)
#define WAIT_MS     20000

static char folder[] = "/tmp/test_resolver_command.XXXXXX";

/* ---- a program, and its end ---- */

struct run {
	struct event_base *base;
	struct command *command;
	unsigned ends;
	enum command_end how;
	char *output;
	size_t bytes;
	char reason[256];
};

static void on_end(void *ctx, enum command_end how, const char *output,
		   size_t bytes, const char *reason)
{
	struct run *run = ctx;

	run->ends++;
	run->how = how;
	run->bytes = bytes;
	run->output = malloc(bytes + 1);
	assert_non_null(run->output);
	if (bytes > 0)
		memcpy(run->output, output, bytes);
	run->output[bytes] = '\0';
	snprintf(run->reason, sizeof(run->reason), "%s", reason);
	event_base_loopbreak(run->base);
}

static const struct command_ops ops = { .end = on_end };

static struct command_opts opts_of(const char *command)
{
	return (struct command_opts){ .command = command,
				      .url = "https://h/page?v=1&x=2",
				      .id = "an.id-1",
				      .output_bytes = OUTPUT_MOST,
				      .memory_bytes = 4ull << 30,
				      .cpu_s = 20 };
}

static void begin(struct run *run, const struct command_opts *opts)
{
	*run = (struct run){ .base = event_base_new() };
	assert_non_null(run->base);
	assert_int_equal(
		command_begin(&run->command, run->base, opts, &ops, run), 0);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Runs the loop for so long, or until the program has ended. */
static void turn(struct run *run, int ms)
{
	const struct timeval most = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(run->base, &most);
	event_base_dispatch(run->base);
}

/* Their guards are our children; the resolver reaps them at SIGCHLD. */
static void reap(void)
{
	int64_t until = now_ms() + WAIT_MS;

	while (waitpid(-1, NULL, WNOHANG) >= 0) {
		assert_true(now_ms() < until);
		usleep(1000);
	}
}

static void finish(struct run *run)
{
	reap();
	free(run->output);
	event_base_free(run->base);
}

static void run_opts(struct run *run, const struct command_opts *opts)
{
	begin(run, opts);
	turn(run, WAIT_MS);
	assert_int_equal(run->ends, 1);
}

static void run_command(struct run *run, const char *command)
{
	struct command_opts opts = opts_of(command);

	run_opts(run, &opts);
}

/* A script in the folder, and the command that runs it. */
static const char *script(const char *text)
{
	static char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/helper", folder);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fprintf(f, "#!/bin/sh\n%s", text) > 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0755), 0);
	return path;
}

/* ---- what is left of it ---- */

/* Process numbers that a script wrote into the file "pids". */
static size_t read_pids(pid_t pids[16])
{
	char name[64];
	size_t count = 0;
	FILE *f;

	snprintf(name, sizeof(name), "%s/pids", folder);
	f = fopen(name, "r");
	if (f == NULL)
		return 0;
	while (count < 16 && fscanf(f, "%d\n", &pids[count]) == 1)
		count++;
	fclose(f);
	return count;
}

static size_t wait_pids(pid_t pids[16], size_t wanted)
{
	int64_t until = now_ms() + WAIT_MS;

	while (read_pids(pids) < wanted) {
		assert_true(now_ms() < until);
		usleep(10000);
	}
	return wanted;
}

static bool is_alive(pid_t pid)
{
	char name[64], line[512];
	const char *state;
	size_t n;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/stat", pid);
	f = fopen(name, "r");
	if (f == NULL)
		return false;
	n = fread(line, 1, sizeof(line) - 1, f);
	fclose(f);
	line[n] = '\0';
	state = strrchr(line, ')');
	return state != NULL && state[2] != 'Z';
}

static void assert_all_end(const pid_t *pids, size_t count, int within_ms)
{
	int64_t until = now_ms() + within_ms;

	for (size_t n = 0; n < count; n++)
		while (is_alive(pids[n])) {
			if (now_ms() >= until) {
				kill(pids[n], SIGKILL);
				fail_msg("process %zu of %zu lives on", n + 1,
					 count);
			}
			usleep(5000);
		}
}

static int remove_pids(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "%s/pids", folder);
	(void)unlink(name);
	return 0;
}

/* Children of all sorts: one as it is, one in a session of its own that
 * ignores what it is asked, and one whose parent is gone. */
#define FAMILY                                                                 \
	"cd \"${0%%/*}\"\n"                                                    \
	"echo $$ >>pids\n"                                                     \
	"sleep 300 & echo $! >>pids\n"                                         \
	"setsid sh -c 'trap \"\" TERM HUP INT; echo $$ >>pids; sleep 300; "    \
	"sleep 300' &\n"                                                       \
	"(setsid sh -c 'echo $$ >>pids; exec sleep 300' &)\n"                  \
	"while [ $(wc -l <pids) -lt 4 ]; do sleep 0.02; done\n"
#define FAMILY_COUNT 4

static const char *family(const char *then)
{
	char text[1024];

	snprintf(text, sizeof(text), FAMILY "%s\n", then);
	return script(text);
}

/* ---- ends ---- */

static void test_output(void **state)
{
	struct run run;

	(void)state;
	run_command(&run, script("printf 'one\\ntwo'; echo note >&2"));
	assert_int_equal(run.how, COMMAND_DONE);
	assert_string_equal(run.output, "one\ntwo");
	assert_string_equal(run.reason, "");
	finish(&run);
	run_command(&run, script("exit 0"));
	assert_int_equal(run.how, COMMAND_DONE);
	assert_int_equal(run.bytes, 0);
	finish(&run);
	run_command(&run, "true");
	assert_int_equal(run.how, COMMAND_DONE);
	finish(&run);
}

/* All of what is just not too long; more than a pipe holds. */
static void test_long_output(void **state)
{
	struct command_opts opts;
	struct run run;

	(void)state;
	opts = opts_of("head -c 1048576 /dev/zero");
	run_opts(&run, &opts);
	assert_int_equal(run.how, COMMAND_DONE);
	assert_int_equal(run.bytes, OUTPUT_MOST);
	for (size_t n = 0; n < run.bytes; n++)
		assert_int_equal(run.output[n], 0);
	finish(&run);
	opts = opts_of("head -c 1048577 /dev/zero");
	run_opts(&run, &opts);
	assert_int_equal(run.how, COMMAND_TOO_LONG);
	finish(&run);
}

static void test_endless_output(void **state)
{
	pid_t pids[16];
	struct run run;
	int64_t begun;

	(void)state;
	begin(&run,
	      &(struct command_opts){ .command = family("exec cat /dev/zero"),
				      .url = "u",
				      .id = "i",
				      .output_bytes = OUTPUT_MOST,
				      .memory_bytes = 4ull << 30,
				      .cpu_s = 20 });
	wait_pids(pids, FAMILY_COUNT);
	begun = now_ms();
	turn(&run, WAIT_MS);
	assert_int_equal(run.ends, 1);
	assert_int_equal(run.how, COMMAND_TOO_LONG);
	assert_true(run.bytes <= OUTPUT_MOST);
	assert_true(now_ms() - begun < 5000);
	assert_all_end(pids, FAMILY_COUNT, 0);
	finish(&run);
}

static void test_endless_errors(void **state)
{
	struct run run;

	(void)state;
	run_command(&run,
		    script("head -c 3000000 /dev/zero | tr '\\0' x >&2\n"
			   "echo >&2; echo 'ERROR: at last' >&2; exit 1"));
	assert_int_equal(run.how, COMMAND_FAILED);
	assert_string_equal(run.reason, "ERROR: at last");
	finish(&run);
}

static void test_failures(void **state)
{
	static const struct {
		const char *script;
		const char *reason;
	} rows[] = {
		{ "echo out; exit 1",
		  "the helper program ended with status 1" },
		{ "exit 77", "the helper program ended with status 77" },
		{ "kill -9 $$", "the helper program was killed by signal 9" },
		{ "kill -TERM $$",
		  "the helper program was killed by signal 15" },
		{ "echo 'ERROR: no such video' >&2; exit 1",
		  "ERROR: no such video" },
		{ "printf 'WARNING: x\\nERROR: [a] y\\n\\n \\n' >&2; exit 1",
		  "ERROR: [a] y" },
		/* what is not meant for people is not shown */
		{ "echo 'Traceback: /home/me' >&2; exit 3",
		  "the helper program ended with status 3" },
		{ "printf 'ERROR: x\\nsecret\\n' >&2; exit 3",
		  "the helper program ended with status 3" },
		{ "echo 'ERROR: at https://h/v?token=1 there' >&2; exit 1",
		  "ERROR: at (URL) there" },
		{ "printf 'ERROR: a\\tb\\033[31mc' >&2; exit 1",
		  "ERROR: a b [31mc" },
	};

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		struct run run;

		run_command(&run, script(rows[n].script));
		assert_int_equal(run.how, COMMAND_FAILED);
		assert_string_equal(run.reason, rows[n].reason);
		finish(&run);
	}
}

static void test_no_such_program(void **state)
{
	struct run run;

	(void)state;
	run_command(&run, "/nonexistent/helper {id}");
	assert_int_equal(run.how, COMMAND_FAILED);
	assert_string_equal(run.reason, "ERROR: /nonexistent/helper: No such "
					"file or directory");
	finish(&run);
}

static void test_long_reason(void **state)
{
	struct run run;

	(void)state;
	run_command(&run, script("printf 'ERROR: %03000d' 0 >&2; exit 1"));
	assert_int_equal(run.how, COMMAND_FAILED);
	assert_int_equal(strlen(run.reason), 127);
	assert_int_equal(strncmp(run.reason, "ERROR: 000", 10), 0);
	finish(&run);
}

static void test_clean(void **state)
{
	static const struct {
		const char *text;
		const char *clean;
	} rows[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "a\x01"
		  "b\x7f"
		  "c\r\n",
		  "a b c  " },
		{ "see <http://h/x?y> (https://u:p@h)", "see <(URL) ((URL)" },
		/* brackets and quotes may be part of a URL */
		{ "at http://h/a(1)?t=s3 now", "at (URL) now" },
		{ "at 'http://h/b'c?t=s3' now", "at '(URL) now" },
		{ "x=rtmp://h", "(URL)" },
		{ "://", "(URL)" },
		{ "12345678901234567890", "123456789012345" },
		{ "12345678901 http://h", "12345678901 (UR" },
	};
	char clean[16], longer[64];

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(rows); n++) {
		if (strlen(rows[n].clean) < sizeof(clean)) {
			command_clean(clean, sizeof(clean), rows[n].text);
			assert_string_equal(clean, rows[n].clean);
		} else {
			command_clean(longer, sizeof(longer), rows[n].text);
			assert_string_equal(longer, rows[n].clean);
		}
	}
	command_clean(clean, 1, "http://h/");
	assert_string_equal(clean, "");
}

/* ---- words ---- */

static void test_words(void **state)
{
	struct run run;
	char command[256];

	(void)state;
	snprintf(command, sizeof(command),
		 "%s  {id} \t--x={id},{url} {url} ; $(id) `id` \"a b\" '{id}' "
		 "{ID} {id {}id} | >f * $HOME \\",
		 script("for w in \"$@\"; do printf '%s\\n' \"$w\"; done"));
	run_command(&run, command);
	assert_int_equal(run.how, COMMAND_DONE);
	assert_string_equal(run.output,
			    "an.id-1\n"
			    "--x=an.id-1,https://h/page?v=1&x=2\n"
			    "https://h/page?v=1&x=2\n"
			    ";\n$(id)\n`id`\n\"a\nb\"\n'an.id-1'\n"
			    "{ID}\n{id\n{}id}\n|\n>f\n*\n$HOME\n\\\n");
	finish(&run);
}

/* An id or URL is one word and text, whatever is in it. */
static void test_hostile_words(void **state)
{
	struct command_opts opts = opts_of(NULL);
	char command[128];
	struct run run;

	(void)state;
	snprintf(command, sizeof(command), "%s {id} {url}",
		 script("printf '%s|' $# \"$@\""));
	opts.command = command;
	opts.id = "a b;$(touch x)`y`\"'\n{url}{id}";
	opts.url = "{id} {url}";
	run_opts(&run, &opts);
	assert_string_equal(run.output, "2|a b;$(touch x)`y`\"'\n{url}{id}|"
					"{id} {url}|");
	finish(&run);
}

static void test_word_counts(void **state)
{
	struct event_base *base = event_base_new();
	struct command_opts opts;
	struct command *c = NULL;
	char command[256] = "echo";

	(void)state;
	opts = opts_of("");
	assert_int_equal(command_begin(&c, base, &opts, &ops, NULL), -ENOENT);
	opts = opts_of(" \t ");
	assert_int_equal(command_begin(&c, base, &opts, &ops, NULL), -ENOENT);
	for (unsigned n = 1; n < COMMAND_WORDS_MAX; n++)
		strcat(command, " x");
	{
		struct run run;

		run_command(&run, command);
		assert_int_equal(run.how, COMMAND_DONE);
		assert_int_equal(run.bytes, 2 * (COMMAND_WORDS_MAX - 1));
		finish(&run);
	}
	strcat(command, " x");
	opts = opts_of(command);
	assert_int_equal(command_begin(&c, base, &opts, &ops, NULL), -E2BIG);
	assert_null(c);
	event_base_free(base);
}

/* ---- where it lives ---- */

static void test_environment(void **state)
{
	struct run run;

	(void)state;
	assert_int_equal(setenv("A_SECRET", "x", 1), 0);
	run_command(&run, "env");
	assert_string_equal(run.output, "PATH=/usr/local/bin:/usr/bin:/bin\n"
					"HOME=/nonexistent\nLANG=C.UTF-8\n");
	finish(&run);
}

static void test_descriptors(void **state)
{
	int fds[4];
	struct run run;

	(void)state;
	/* open ones that are not closed at exec, low and high */
	for (int n = 0; n < 3; n++)
		assert_true((fds[n] = open("/dev/zero", O_RDONLY)) >= 0);
	fds[3] = fcntl(fds[0], F_DUPFD, 200);
	assert_true(fds[3] >= 200);
	/* 3 is the folder that it lists */
	run_command(&run, "ls /proc/self/fd");
	assert_string_equal(run.output, "0\n1\n2\n3\n");
	finish(&run);
	run_command(&run, script("readlink /proc/self/fd/0\n"
				 "read x || echo empty"));
	assert_string_equal(run.output, "/dev/null\nempty\n");
	finish(&run);
	for (int n = 0; n < 4; n++)
		close(fds[n]);
}

static void test_signals_are_as_usual(void **state)
{
	struct run run;
	sigset_t blocked, before;
	unsigned long long block, ignore;

	(void)state;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &blocked, &before), 0);
	run_command(&run, "sed -n /^SigB/,/^SigI/p /proc/self/status");
	assert_int_equal(sigprocmask(SIG_SETMASK, &before, NULL), 0);
	assert_int_equal(sscanf(run.output, "SigBlk: %llx SigIgn: %llx", &block,
				&ignore),
			 2);
	assert_int_equal(block, 0);
	/* 32 and 33 are the C library's, as whoever began us left them */
	assert_int_equal(ignore & 0x7fffffff, 0);
	finish(&run);
}

/* The limit is its own, not ours. */
static void test_memory_limit(void **state)
{
	static const char text[] =
		"x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
	struct command_opts opts = opts_of(script(text));
	struct run run;

	(void)state;
	opts.memory_bytes = 64 * MIB;
	run_opts(&run, &opts);
	assert_int_equal(run.how, COMMAND_FAILED);
	assert_int_equal(run.bytes, 0);
	finish(&run);
	opts.memory_bytes = 4ull << 30;
	run_opts(&run, &opts);
	assert_int_equal(run.how, COMMAND_DONE);
	assert_string_equal(run.output, "200000000\n");
	finish(&run);
}

static void test_cpu_limit(void **state)
{
	struct command_opts opts = opts_of(script("while :; do :; done"));
	struct run run;

	(void)state;
	opts.cpu_s = 1;
	run_opts(&run, &opts);
	assert_int_equal(run.how, COMMAND_FAILED);
	assert_int_equal(
		strncmp(run.reason, "the helper program was killed", 29), 0);
	finish(&run);
}

static void test_file_limit(void **state)
{
	struct run run;
	char name[64];
	struct stat st;

	(void)state;
	run_command(&run, script("cd \"${0%/*}\"\n"
				 "head -c 100000000 /dev/zero >pids"));
	assert_int_equal(run.how, COMMAND_FAILED);
	snprintf(name, sizeof(name), "%s/pids", folder);
	assert_int_equal(stat(name, &st), 0);
	assert_int_equal(st.st_size, 64 * MIB);
	finish(&run);
}

/* ---- nothing is left ---- */

/* It ends by itself: so do all that it began. */
static void test_end_takes_the_family(void **state)
{
	pid_t pids[16];
	struct run run;

	(void)state;
	run_command(&run, family("echo done"));
	assert_int_equal(run.how, COMMAND_DONE);
	assert_string_equal(run.output, "done\n");
	assert_int_equal(read_pids(pids), FAMILY_COUNT);
	assert_all_end(pids, FAMILY_COUNT, 0); /* before end() */
	finish(&run);
}

static void test_abort(void **state)
{
	static const char *const thens[] = { "sleep 300",
					     "trap '' TERM; sleep 300; sleep 9",
					     "kill -STOP $$" };

	(void)state;
	for (size_t n = 0; n < ARRAY_LEN(thens); n++) {
		struct command_opts opts = opts_of(family(thens[n]));
		pid_t pids[16];
		struct run run;

		(void)remove_pids(NULL);
		begin(&run, &opts);
		wait_pids(pids, FAMILY_COUNT);
		for (int i = 0; i < FAMILY_COUNT; i++)
			assert_true(is_alive(pids[i]));
		command_abort(run.command);
		assert_all_end(pids, FAMILY_COUNT, 2000);
		turn(&run, 50);
		assert_int_equal(run.ends, 0);
		finish(&run);
	}
}

/* Two run: the end of one does not keep the other one's pipes open, and
 * aborting one leaves the other alone. */
static void test_two_at_once(void **state)
{
	struct command_opts opts = opts_of(family("sleep 300"));
	struct command_opts echo = opts_of("sh -c echo\tx");
	pid_t pids[16];
	struct run one, two;

	(void)state;
	begin(&one, &opts);
	wait_pids(pids, FAMILY_COUNT);
	run_opts(&two, &echo);
	assert_int_equal(two.how, COMMAND_DONE);
	assert_int_equal(one.ends, 0);
	assert_true(is_alive(pids[0]));
	command_abort(one.command);
	assert_all_end(pids, FAMILY_COUNT, 2000);
	finish(&one);
	finish(&two);
}

/* The resolver is killed, and others that it runs are under way: the first
 * one's guard must not be kept from seeing it by the second one's. */
static void test_resolver_is_killed(void **state)
{
	struct command_opts opts = opts_of(family("sleep 300"));
	struct command_opts other = opts_of("sleep 300");
	pid_t pids[16], pid;
	int status;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct event_base *base = event_base_new();
		struct command *a, *b;

		if (base == NULL ||
		    command_begin(&a, base, &opts, &ops, NULL) < 0 ||
		    command_begin(&b, base, &other, &ops, NULL) < 0)
			_exit(1);
		event_base_dispatch(base);
		_exit(2);
	}
	wait_pids(pids, FAMILY_COUNT);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_all_end(pids, FAMILY_COUNT, 2000);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
	char name[64];

	(void)remove_pids(state);
	snprintf(name, sizeof(name), "%s/helper", folder);
	(void)unlink(name);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_long_output),
		cmocka_unit_test_setup(test_endless_output, remove_pids),
		cmocka_unit_test(test_endless_errors),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_no_such_program),
		cmocka_unit_test(test_long_reason),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_hostile_words),
		cmocka_unit_test(test_word_counts),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_signals_are_as_usual),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_cpu_limit),
		cmocka_unit_test_setup(test_file_limit, remove_pids),
		cmocka_unit_test_setup(test_end_takes_the_family, remove_pids),
		cmocka_unit_test_setup(test_abort, remove_pids),
		cmocka_unit_test_setup(test_two_at_once, remove_pids),
		cmocka_unit_test_setup(test_resolver_is_killed, remove_pids),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

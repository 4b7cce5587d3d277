/* A folder of this machine as a source: which files an id means. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "resolver/directory.h"

static char top[] = "/tmp/test_resolver_directory.XXXXXX";
static char folder[64]; /* in it, and beside it what is outside */

static void make_file(const char *name, size_t bytes)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(truncate(path, (off_t)bytes), 0);
}

static void make_link(const char *to, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(symlink(to, path), 0);
}

static void make_subfolder(const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	assert_int_equal(mkdir(path, 0755), 0);
}

static struct resolution *resolve(const char *id)
{
	struct resolution *r = NULL;
	int rc = directory_resolve(folder, id, &r);

	if (rc < 0)
		fail_msg("%s: %s", id, strerror(-rc));
	assert_true(resolution_valid(r, r->bytes));
	assert_string_equal(resolution_title(r), id);
	return r;
}

static void assert_absent(const char *id)
{
	struct resolution *r = NULL;

	if (directory_resolve(folder, id, &r) != -ENOENT)
		fail_msg("%s is there", id);
	assert_null(r);
}

/* Has a rendition of this format for this file. */
static const struct rendition *one_of(const struct resolution *r,
				      const char *format, const char *file)
{
	const struct rendition *one =
		resolution_find_format(r, format, strlen(format));

	if (one == NULL)
		fail_msg("no format %s", format);
	assert_string_equal(rendition_text(r, one, RENDITION_URL), file);
	return one;
}

static void test_renditions(void **state)
{
	const struct rendition *one;
	struct resolution *r;

	(void)state;
	make_file("film.mp4", 1000);
	make_file("film.360p.mp4", 360);
	make_file("film.720p.webm", 720);
	make_file("film.audio.m4a", 44);
	make_file("film.audio.webm", 45);
	make_file("film.opus", 46);
	/* another one's, or no video */
	make_file("film", 5);
	make_file("film.txt", 1);
	make_file("film.360p", 1);
	make_file("film.1080.mp4", 1);
	make_file("film.0p.mp4", 1);
	make_file("film.best.mp4", 1);
	make_file("film.123456p.mp4", 1);
	make_file("film..mp4", 1);
	make_file("film.a.b.mp4", 1);
	make_file("film-2.mp4", 1);
	make_file("film2.mp4", 1);
	make_file("a-film.mp4", 1);
	make_file("Film.360p.mp4", 1);
	r = resolve("film");
	one = one_of(r, "mp4", "film.mp4");
	assert_int_equal(one->size_bytes, 1000);
	assert_int_equal(one->height, 0);
	assert_int_equal(one->flags, RENDITION_VIDEO | RENDITION_AUDIO);
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE),
			    "video/mp4");
	assert_string_equal(rendition_text(r, one, RENDITION_LABEL), "");
	one = one_of(r, "mp4-360p", "film.360p.mp4");
	assert_int_equal(one->size_bytes, 360);
	assert_int_equal(one->height, 360);
	assert_string_equal(rendition_text(r, one, RENDITION_LABEL), "360p");
	one = one_of(r, "webm-720p", "film.720p.webm");
	assert_string_equal(rendition_text(r, one, RENDITION_CONTAINER),
			    "webm");
	one = one_of(r, "m4a-audio", "film.audio.m4a");
	assert_int_equal(one->flags, RENDITION_AUDIO);
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE),
			    "audio/mp4");
	one = one_of(r, "webm-audio", "film.audio.webm");
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE),
			    "audio/webm");
	one = one_of(r, "opus", "film.opus");
	assert_int_equal(one->flags, RENDITION_AUDIO);
	assert_string_equal(rendition_text(r, one, RENDITION_LABEL), "audio");
	one = one_of(r, "file", "film");
	assert_int_equal(one->size_bytes, 5);
	assert_string_equal(rendition_text(r, one, RENDITION_TYPE), "");
	assert_int_equal(r->count, 7);
	free(r);
}

/* An id may be a file's whole name. */
static void test_whole_names(void **state)
{
	struct resolution *r;

	(void)state;
	make_file("b.webm", 7);
	make_file("b.webm.240p.mp4", 8);
	r = resolve("b.webm");
	assert_int_equal(r->count, 2);
	assert_int_equal(one_of(r, "webm", "b.webm")->size_bytes, 7);
	one_of(r, "mp4-240p", "b.webm.240p.mp4");
	free(r);
	r = resolve("b");
	assert_int_equal(r->count, 1);
	one_of(r, "webm", "b.webm");
	free(r);
	make_file("two.mp4", 1);
	make_file("two.MP4", 2); /* of one format: one of them */
	r = resolve("two");
	assert_int_equal(r->count, 1);
	free(r);
	make_file("~odd_id-1", 0);
	r = resolve("~odd_id-1");
	assert_int_equal(one_of(r, "file", "~odd_id-1")->size_bytes, 0);
	free(r);
}

static void test_absent(void **state)
{
	struct resolution *r = NULL;

	(void)state;
	assert_absent("nothing");
	assert_absent("fil");
	assert_absent("films");
	assert_absent(".");
	assert_absent("..");
	assert_absent("../out.mp4");
	assert_absent("/etc/passwd");
	assert_int_equal(directory_resolve("/nonexistent/folder", "film", &r),
			 -ENOENT);
	{
		char path[512];

		snprintf(path, sizeof(path), "%s/film.mp4", folder);
		make_file("film.mp4", 1000);
		assert_int_equal(directory_resolve(path, "film", &r), -ENOTDIR);
	}
	assert_null(r);
}

static void test_not_files(void **state)
{
	char path[512];
	struct resolution *r;

	(void)state;
	make_subfolder("sub");
	make_file("sub/inner.mp4", 9);
	make_subfolder("sub.mp4"); /* a folder with a name like a video's */
	assert_absent("sub");
	assert_absent("inner");
	snprintf(path, sizeof(path), "%s/pipe.mp4", folder);
	assert_int_equal(mkfifo(path, 0644), 0);
	assert_absent("pipe"); /* nobody waits for its writer */
	/* a path in the folder, as ids have none, is still a file of it */
	r = resolve("sub/inner.mp4");
	assert_int_equal(r->count, 1);
	free(r);
	assert_absent("sub/inner");
}

static void test_links(void **state)
{
	char outside[128];
	struct resolution *r;

	(void)state;
	make_file("real.mp4", 11);
	make_file("../out.mp4", 12);
	snprintf(outside, sizeof(outside), "%s/out.mp4", top);
	make_link("real.mp4", "inside.mp4");
	make_link("sub/inner.mp4", "deep.mp4");
	r = resolve("inside");
	assert_int_equal(one_of(r, "mp4", "inside.mp4")->size_bytes, 11);
	free(r);
	free(resolve("deep"));
	make_link("../out.mp4", "up.mp4");
	make_link(outside, "absolute.mp4");
	make_link("..", "parent");
	make_link("parent/out.mp4", "twice.mp4");
	make_link("loop.mp4", "loop.mp4");
	make_link("none.mp4", "dangling.mp4");
	make_link("/proc/self/exe", "magic.mp4");
	make_link("../out.mp4", "whole");
	assert_absent("up");
	assert_absent("up.mp4");
	assert_absent("absolute");
	assert_absent("parent");
	assert_absent("parent/out.mp4");
	assert_absent("twice");
	assert_absent("loop");
	assert_absent("dangling");
	assert_absent("magic");
	assert_absent("whole");
}

/* The names need not come in order, and only so many of one id are taken. */
static void test_large_folder(void **state)
{
	struct resolution *r;
	char name[64];

	(void)state;
	for (unsigned n = 0; n < 3000; n++) {
		snprintf(name, sizeof(name), "many-%u.mp4", n);
		make_file(name, n);
	}
	for (unsigned n = 1; n <= 100; n++) {
		snprintf(name, sizeof(name), "wide.%up.mp4", n);
		make_file(name, n);
	}
	for (unsigned n = 0; n < 3000; n += 997) {
		snprintf(name, sizeof(name), "many-%u", n);
		r = resolve(name);
		assert_int_equal(r->count, 1);
		assert_int_equal(r->renditions[0].size_bytes, n);
		free(r);
	}
	r = resolve("wide");
	assert_int_equal(r->count, RESOLUTION_RENDITIONS_MAX);
	free(r);
}

/* In a sandbox that takes openat2(), as RestrictSUIDSGID of systemd does. */
static int resolve_without_openat2(const char *id, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { ARRAY_LEN(code), code };
	struct resolution *r = NULL;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
			_exit(255);
		_exit(-directory_resolve(folder, id, &r));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* It is a fault of the machine, and no missing file. */
static void test_sandbox(void **state)
{
	(void)state;
	make_file("whole", 1);
	make_file("parted.360p.mp4", 1);
	assert_int_equal(resolve_without_openat2("whole", ENOSYS), ENOSYS);
	assert_int_equal(resolve_without_openat2("parted", ENOSYS), ENOSYS);
	assert_int_equal(resolve_without_openat2("parted", EPERM), EPERM);
}

static int make_folder(void **state)
{
	(void)state;
	if (mkdtemp(top) == NULL)
		return -1;
	snprintf(folder, sizeof(folder), "%s/films", top);
	return mkdir(folder, 0755);
}

static int remove_folder(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -r %s", top);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_renditions),
		cmocka_unit_test(test_whole_names),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_not_files),
		cmocka_unit_test(test_links),
		cmocka_unit_test(test_large_folder),
		cmocka_unit_test(test_sandbox),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* Files of a source of type directory. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
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

#include "util/base.h"
#include "util/span.h"
#include "worker/file.h"

#define OLD_S 1000000000 /* when the files were written */

static char top[64];
static char folder[96];

static const char *path_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	struct timespec times[2] = { { .tv_sec = OLD_S }, { .tv_sec = OLD_S } };

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static int make_folder(void **state)
{
	char outside[128];

	(void)state;
	strcpy(top, "/tmp/test_file.XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(folder, sizeof(folder), "%s/films", top);
	assert_int_equal(mkdir(folder, 0700), 0);
	snprintf(outside, sizeof(outside), "%s/secret", top);
	put_file(outside, "secret");
	put_file(path_of("a.mp4"), "0123456789");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_folder(void **state)
{
	(void)state;
	return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct file *must_open(const char *name)
{
	struct file *file = NULL;

	assert_int_equal(file_open(&file, folder, name), 0);
	assert_non_null(file);
	return file;
}

static void test_open(void **state)
{
	struct file *file = must_open("a.mp4");
	char bytes[16];

	(void)state;
	assert_int_equal(file->st.st_size, 10);
	assert_int_equal(read(file->fd, bytes, sizeof(bytes)), 10);
	assert_true(fcntl(file->fd, F_GETFD) & FD_CLOEXEC);
	assert_true(file_unchanged(file));
	file_close(file);
	file_close(NULL);
}

static void test_refused(void **state)
{
	struct file *file = NULL;
	char secret[128];

	(void)state;
	snprintf(secret, sizeof(secret), "%s/secret", top);
	assert_int_equal(symlink(secret, path_of("absolute")), 0);
	assert_int_equal(symlink("../secret", path_of("relative")), 0);
	assert_int_equal(symlink("/proc/self/exe", path_of("magic")), 0);
	assert_int_equal(symlink("loop", path_of("loop")), 0);
	assert_int_equal(symlink("a.mp4", path_of("inside")), 0);
	assert_int_equal(mkdir(path_of("folder"), 0700), 0);
	assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
	assert_int_equal(file_open(&file, folder, "absolute"), -ENOENT);
	assert_int_equal(file_open(&file, folder, "relative"), -ENOENT);
	assert_int_equal(file_open(&file, folder, "magic"), -ENOENT);
	assert_int_equal(file_open(&file, folder, "loop"), -ENOENT);
	assert_int_equal(file_open(&file, folder, "folder"), -ENOENT);
	assert_int_equal(file_open(&file, folder, "pipe"), -ENOENT);
	assert_int_equal(file_open(&file, folder, "none"), -ENOENT);
	assert_int_equal(file_open(&file, folder, ""), -ENOENT);
	assert_int_equal(file_open(&file, folder, "../secret"), -ENOENT);
	assert_int_equal(file_open(&file, folder, secret), -ENOENT);
	assert_int_equal(file_open(&file, folder, "a.mp4/x"), -ENOENT);
	assert_int_equal(file_open(&file, top, "none/a.mp4"), -ENOENT);
	assert_int_equal(file_open(&file, "/nowhere/at/all", "a"), -ENOENT);
	assert_null(file);
	file_close(must_open("inside"));
}

/* Until times that are given now differ from the file's. */
static void await_tick(const char *path)
{
	struct stat st;
	struct stat probe;

	assert_int_equal(stat(path, &st), 0);
	for (int i = 0; i < 1000; i++) {
		put_file(path_of("probe"), "");
		assert_int_equal(stat(path_of("probe"), &probe), 0);
		if (probe.st_ctim.tv_sec != st.st_ctim.tv_sec ||
		    probe.st_ctim.tv_nsec != st.st_ctim.tv_nsec)
			return;
		usleep(1000);
	}
	fail_msg("the clock of files stands still");
}

static void test_changed(void **state)
{
	struct timespec times[2] = { { .tv_sec = OLD_S }, { .tv_sec = OLD_S } };
	char *path = strdup(path_of("a.mp4"));
	struct file *file;
	int fd;

	(void)state;
	file = must_open("a.mp4");
	assert_int_equal(truncate(path, 5), 0);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	assert_false(file_unchanged(file));
	file_close(file);

	/* the same length, and the time of before */
	file = must_open("a.mp4");
	await_tick(path);
	assert_true(file_unchanged(file));
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, 2), 1);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	assert_false(file_unchanged(file));
	file_close(file);

	file = must_open("a.mp4");
	assert_true(file_unchanged(file));
	assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
	assert_false(file_unchanged(file));
	file_close(file);
	free(path);
}

static const char *text_of(const struct object_record *rec,
			   enum layout_text which)
{
	return object_record_text(rec, which);
}

static void expect_etag(struct file *file, int64_t wall_s, char etag[128])
{
	struct object_record *rec = NULL;

	assert_int_equal(file_record(file, "", wall_s, &rec), 0);
	snprintf(etag, 128, "%s", text_of(rec, TEXT_ETAG));
	free(rec);
}

static void test_record(void **state)
{
	struct object_record *rec = NULL;
	struct file *file = must_open("a.mp4");
	int64_t later_s = file->st.st_ctim.tv_sec + 100;

	(void)state;
	assert_int_equal(file_record(file, "video/mp4", later_s, &rec), 0);
	assert_int_equal(rec->size_bytes, 10);
	assert_int_equal(rec->object_no, 0);
	assert_true(rec->fresh_until_s > later_s);
	assert_string_equal(text_of(rec, TEXT_CONTENT_TYPE), "video/mp4");
	assert_string_equal(text_of(rec, TEXT_LAST_MODIFIED),
			    "Sun, 09 Sep 2001 01:46:40 GMT");
	free(rec);
	/* from the future */
	assert_int_equal(file_record(file, "", OLD_S - 1, &rec), 0);
	assert_string_equal(text_of(rec, TEXT_LAST_MODIFIED), "");
	assert_string_equal(text_of(rec, TEXT_CONTENT_TYPE), "");
	free(rec);
	file_close(file);
}

static void test_etag(void **state)
{
	char *path = strdup(path_of("a.mp4"));
	struct file *file = must_open("a.mp4");
	int64_t later_s = file->st.st_ctim.tv_sec + 100;
	char etag[128];
	char again[128];

	(void)state;
	expect_etag(file, later_s, etag);
	assert_int_equal(etag[0], '"');
	expect_etag(file, later_s + 1, again);
	assert_string_equal(etag, again);
	/* just written: the next write may have the same time */
	expect_etag(file, file->st.st_ctim.tv_sec + 1, again);
	assert_memory_equal(again, "W/\"", 3);
	assert_string_equal(again + 2, etag);
	file_close(file);

	/* another file of the same name, size and time */
	put_file(path_of("b.mp4"), "9876543210");
	assert_int_equal(rename(path_of("b.mp4"), path), 0);
	file = must_open("a.mp4");
	expect_etag(file, later_s, again);
	assert_string_not_equal(etag, again);
	file_close(file);

	/* the same file, with the time of before */
	await_tick(path);
	put_file(path, "0000000000");
	file = must_open("a.mp4");
	expect_etag(file, later_s, etag);
	assert_string_not_equal(etag, again);
	file_close(file);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_refused, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_changed, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_record, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_etag, make_folder,
						remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

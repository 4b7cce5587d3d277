#include "worker/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "http/date.h"

#define FRESH_S   5
#define YOUNG_S   2 /* coarser than any clock of a file system */
#define TRIES_MAX 8 /* while somebody renames folders */

static int open_below(int folder_fd, const char *name)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};

	for (int n = 0; n < TRIES_MAX; n++) {
		long fd = syscall(SYS_openat2, folder_fd, name, &how,
				  sizeof(how));

		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	switch (errno) {
	case ENOTDIR:
	case EXDEV:
	case ELOOP:
	case ENXIO: /* a socket */
		return -ENOENT;
	default:
		return -errno;
	}
}

int file_open(struct file **out, const char *folder, const char *name)
{
	struct file *file = malloc(sizeof(*file));
	int folder_fd;
	int rc;

	if (file == NULL)
		return -ENOMEM;
	folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	rc = folder_fd < 0 ? -errno : 0;
	if (rc < 0)
		goto no_folder;
	rc = file->fd = open_below(folder_fd, name);
	close(folder_fd);
	if (rc < 0)
		goto no_folder;
	if (fstat(file->fd, &file->st) < 0) {
		rc = -errno;
		goto no_file;
	}
	if (!S_ISREG(file->st.st_mode)) {
		rc = -ENOENT;
		goto no_file;
	}
	*out = file;
	return 0;

no_file:
	close(file->fd);
no_folder:
	free(file);
	return rc;
}

void file_close(struct file *file)
{
	if (file == NULL)
		return;
	close(file->fd);
	free(file);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool file_unchanged(const struct file *file)
{
	struct stat now;

	return fstat(file->fd, &now) == 0 && now.st_size == file->st.st_size &&
	       same_time(now.st_mtim, file->st.st_mtim) &&
	       same_time(now.st_ctim, file->st.st_ctim);
}

/* Times in nanoseconds; one of long ago or far away may be any number. */
static uint64_t time_ns(struct timespec t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int set_etag(struct object_record *rec, const struct stat *st,
		    int64_t wall_s)
{
	bool young = st->st_mtim.tv_sec + YOUNG_S > wall_s ||
		     st->st_ctim.tv_sec + YOUNG_S > wall_s;
	char etag[96];

	/* the time of writing can be set; that of any change cannot */
	snprintf(etag, sizeof(etag),
		 "%s\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
		 young ? "W/" : "", (uint64_t)st->st_ino, (uint64_t)st->st_size,
		 time_ns(st->st_mtim), time_ns(st->st_ctim));
	return object_record_set_text(rec, TEXT_ETAG, etag);
}

/* A date in the future is none (RFC 9110 section 8.8.2.1). */
static int set_date(struct object_record *rec, const struct stat *st,
		    int64_t wall_s)
{
	char date[DATE_BYTES + 1];

	if (st->st_mtim.tv_sec > wall_s || st->st_mtim.tv_sec < 0)
		return 0;
	date_format(date, st->st_mtim.tv_sec);
	return object_record_set_text(rec, TEXT_LAST_MODIFIED, date);
}

static int set_texts(struct object_record *rec, const struct stat *st,
		     const char *type, int64_t wall_s)
{
	char lifetime[32];
	int rc = set_etag(rec, st, wall_s);

	if (rc == 0)
		rc = set_date(rec, st, wall_s);
	if (rc == 0 && *type != '\0')
		rc = object_record_set_text(rec, TEXT_CONTENT_TYPE, type);
	snprintf(lifetime, sizeof(lifetime), "max-age=%d", FRESH_S);
	if (rc == 0)
		rc = object_record_set_text(rec, TEXT_CACHE_CONTROL, lifetime);
	return rc;
}

int file_record(const struct file *file, const char *type, int64_t wall_s,
		struct object_record **out)
{
	struct object_record *rec = calloc(1, sizeof(*rec));
	int rc;

	if (rec == NULL)
		return -ENOMEM;
	rec->size_bytes = (uint64_t)file->st.st_size;
	rec->date_s = wall_s;
	rec->stored_s = wall_s;
	rec->fresh_until_s = wall_s + FRESH_S;
	object_record_clear_texts(rec);
	rc = set_texts(rec, &file->st, type, wall_s);
	if (rc < 0) {
		free(rec);
		return rc;
	}
	*out = rec;
	return 0;
}

/*
 * file - a file of a source of type directory, while it is being served.
 *
 * Used by: worker.  Opening and reading may wait for the disk, as with chunk
 * files.  What was opened is one file for good, whatever its name comes to
 * mean; that it was not written to is for file_unchanged() to tell.
 */
#ifndef REELCACHE_WORKER_FILE_H
#define REELCACHE_WORKER_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "store/layout.h"
#include "util/base.h"

struct file {
	int fd;
	struct stat st; /* when it was opened */
};

/* name: of a regular file below the folder; links that lead out of it are
 * refused.  -ENOENT: there is none that may be served; or -errno. */
int file_open(struct file **out, const char *folder,
	      const char *name) MUSTCHECK;
void file_close(struct file *file); /* NULL is fine */

/* Has nothing been written to it since it was opened, as far as its times
 * and its size tell? */
bool file_unchanged(const struct file *file);

/*
 * What a response head needs: *out is the caller's to free(); it is no object
 * of the cache, so its number is 0.  type: media type, or "".  The validator is a strong one, unless the file is so young
 * that it could change without a trace in its times.
 */
int file_record(const struct file *file, const char *type, int64_t wall_s,
		struct object_record **out) MUSTCHECK;

#endif

/*
 * text_file - a small file that an administrator has written, as a whole.
 *
 * Used by: master.  Blocks while it reads.
 */
#ifndef REELCACHE_UTIL_TEXT_FILE_H
#define REELCACHE_UTIL_TEXT_FILE_H

#include <stddef.h>

#include "util/base.h"

/* *out: the text and a NUL behind it, the caller's to free(); *bytes without
 * the NUL, which the text may hold, too.  0 or -errno; -EINVAL: not a regular
 * file; -EFBIG: more than max bytes. */
int text_file_read(const char *path, size_t max, char **out,
		   size_t *bytes) MUSTCHECK;

#endif

/*
 * directory - the renditions of an id in a folder of this machine.
 *
 * Used by: resolver.  Blocking: reads the folder.
 *
 * The id a is the file "a" itself, or its renditions are "a.EXT" and
 * "a.QUALITY.EXT", QUALITY being "360p" or the like, or "audio".  Links that
 * lead out of the folder are no files of it.
 */
#ifndef REELCACHE_RESOLVER_DIRECTORY_H
#define REELCACHE_RESOLVER_DIRECTORY_H

#include "store/resolution.h"
#include "util/base.h"

/* id: NUL-terminated, a valid one.  -ENOENT: there is no such file; or
 * -errno: the folder cannot be read.  *out is the caller's to free(). */
int directory_resolve(const char *path, const char *id,
		      struct resolution **out) MUSTCHECK;

#endif

/*
 * web - the files of the watch page, held in memory.
 *
 * Used by: worker.  The folder is read once, at start; a change of a file
 * counts from the next reload.  Nothing of the folder is opened while
 * requests are served, so no path from a client ever reaches the disk.
 */
#ifndef REELCACHE_WORKER_WEB_H
#define REELCACHE_WORKER_WEB_H

#include <stdbool.h>

#include "http/head.h"
#include "http/sink.h"
#include "util/base.h"
#include "worker/desk.h"

#define WEB_FILES_MAX  64u
#define WEB_FILE_BYTES (1024u * 1024u)

/* Reads the folder and its subfolders; blocks.  Files beyond the limits, of
 * unknown type or not readable are left out and logged.  0 or -errno: the
 * folder itself cannot be read. */
int web_open(struct web **out, const char *folder) MUSTCHECK;
void web_close(struct web *web);

/* Answers a GET or HEAD; path is raw.  False: there is no such file. */
bool web_serve(struct desk *desk, struct sink *sink, const struct head *head,
	       struct slice path);

#endif

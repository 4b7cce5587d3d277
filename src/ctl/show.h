/*
 * show - the answers of the admin socket as a person reads them.
 *
 * Used by: reelcachectl.  Answers are checked field by field; what is
 * missing or of another type is shown as "-".
 * Errors: 0, or -ENOMEM.
 */
#ifndef REELCACHE_CTL_SHOW_H
#define REELCACHE_CTL_SHOW_H

#include <json-c/json.h>

#include "util/base.h"

int show_status(struct json_object *status) MUSTCHECK;

/* objects: an array of all pages. */
int show_objects(struct json_object *objects) MUSTCHECK;

int show_inflight(struct json_object *inflight) MUSTCHECK;

#endif

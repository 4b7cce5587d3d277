/*
 * date - HTTP dates (RFC 9110 section 5.6.7), without locale and time zone.
 *
 * Used by: worker, prefetcher.  Pure; the time is always given.
 */
#ifndef REELCACHE_HTTP_DATE_H
#define REELCACHE_HTTP_DATE_H

#include <stdint.h>

#include "http/slice.h"
#include "util/base.h"

#define DATE_BYTES 29u /* "Sun, 06 Nov 1994 08:49:37 GMT" */

/* Writes DATE_BYTES and a NUL.  Times outside of the years 0 to 9999 become
 * the nearest one inside. */
void date_format(char dst[DATE_BYTES + 1], int64_t wall_s);

/*
 * Any of the three forms; now_s decides the century of a two-digit year.
 * The form is matched exactly, impossible dates are refused; the name of the
 * weekday need not be the right one.  -EINVAL: not a date.
 */
int date_parse(struct slice text, int64_t now_s, int64_t *wall_s) MUSTCHECK;

#endif

/*
 * fault - why something could not be done, in words for the administrator.
 *
 * Used by: master.  A function that takes a struct fault has filled it
 * whenever it returns an error; the caller logs it or passes it up.
 */
#ifndef REELCACHE_MASTER_FAULT_H
#define REELCACHE_MASTER_FAULT_H

#include "util/base.h"

struct fault {
	int exit_status; /* what the master would end with: EXIT_... */
	char text[768];
};

#define EXIT_CONFIG 78 /* EX_CONFIG of sysexits.h: starting again is no use */

/* Returns rc, so that a caller can say `return fault_set(...)`. */
int fault_set(struct fault *f, int rc, int exit_status, const char *fmt, ...)
	PRINTF(4, 5);

#endif

/*
 * log - one line a fact: time, level, process, `ev=word key=value ...`.
 *
 * Used by: all processes.  Writing to a full disk or pipe loses the line and
 * never blocks for long (the descriptor is the administrator's choice).
 * The word after ev= is an interface: tests and operators search for it.
 * Values with spaces or quotes go through log_quote().  Never log a query
 * string of an origin's URL: it may carry a token.
 */
#ifndef REELCACHE_UTIL_LOG_H
#define REELCACHE_UTIL_LOG_H

#include <stdarg.h>

#include "util/base.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* path "" = standard error (with <N> priorities when JOURNAL_STREAM is set).
 * who is the process's name in every line, a string that lives on.
 * 0 or -errno; on error the old log stays in use. */
int log_open(const char *path, enum log_level level, const char *who) MUSTCHECK;

/* Change only the process's name in the lines (after fork). */
void log_set_who(const char *who);

/* Open the same path again (after rotation).  0 or -errno, old one kept. */
int log_reopen(void) MUSTCHECK;

void log_line(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* src as a double-quoted value with \xHH for what is not printable ASCII;
 * cut to fit.  Returns dst. */
const char *log_quote(char *dst, size_t dst_bytes, const char *src);

#endif

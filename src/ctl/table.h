/*
 * table - numbers and texts in columns, for people.
 *
 * Used by: reelcachectl.  Writes to standard output.
 */
#ifndef REELCACHE_CTL_TABLE_H
#define REELCACHE_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

#define TABLE_COLUMNS    8u
#define TABLE_CELL_BYTES 96u

struct table {
	size_t columns;
	bool right[TABLE_COLUMNS]; /* numbers stand to the right */
	size_t width[TABLE_COLUMNS];
	char (*cells)[TABLE_CELL_BYTES]; /* row by row, the heads first */
	size_t count;
	size_t max;
	bool no_memory;
};

/* heads: one a column; a head that begins with ">" is of numbers. */
void table_init(struct table *t, size_t columns, const char *const *heads);

/* The next cell.  Control characters are shown as "?": what came from an
 * origin must not steer a terminal. */
void table_add(struct table *t, const char *fmt, ...) PRINTF(2, 3);

/* Prints and releases it.  0 or -ENOMEM. */
int table_print(struct table *t, const char *indent) MUSTCHECK;

/* "0 B", "1023 B", "1.0 KiB", "321.5 MiB".  Returns dst. */
#define TEXT_BYTES_MAX 24u
const char *text_bytes(char dst[TEXT_BYTES_MAX], uint64_t bytes);

/* "59 s", "4 min 05 s", "3 h 04 min", "12 d 03 h".  Returns dst. */
const char *text_duration(char dst[TEXT_BYTES_MAX], uint64_t seconds);

#endif

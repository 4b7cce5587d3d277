#include "ctl/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *t, size_t columns, const char *const *heads)
{
	must(columns > 0 && columns <= TABLE_COLUMNS);
	memset(t, 0, sizeof(*t));
	t->columns = columns;
	for (size_t i = 0; i < columns; i++) {
		t->right[i] = heads[i][0] == '>';
		table_add(t, "%s", heads[i] + (t->right[i] ? 1 : 0));
	}
}

static char *next_cell(struct table *t)
{
	if (t->count == t->max) {
		size_t more = t->max > 0 ? t->max * 2 : 64;
		char(*cells)[TABLE_CELL_BYTES] =
			reallocarray(t->cells, more, sizeof(*cells));

		if (cells == NULL) {
			t->no_memory = true;
			return NULL;
		}
		t->cells = cells;
		t->max = more;
	}
	return t->cells[t->count++];
}

void table_add(struct table *t, const char *fmt, ...)
{
	size_t column = t->count % t->columns;
	char *cell = next_cell(t);
	size_t n;
	va_list ap;

	if (cell == NULL)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(cell, TABLE_CELL_BYTES, fmt, ap);
	va_end(ap);
	for (char *p = cell; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
	n = strlen(cell);
	if (n > t->width[column])
		t->width[column] = n;
}

static void print_row(const struct table *t, size_t first, const char *indent)
{
	fputs(indent, stdout);
	for (size_t c = 0; c < t->columns; c++) {
		int width = (int)t->width[c];

		if (c > 0)
			fputs("  ", stdout);
		if (c + 1 == t->columns && !t->right[c])
			width = 0; /* nothing behind the last */
		printf("%*s", t->right[c] ? width : -width,
		       t->cells[first + c]);
	}
	putchar('\n');
}

int table_print(struct table *t, const char *indent)
{
	int rc = t->no_memory ? -ENOMEM : 0;

	for (size_t i = 0; rc == 0 && i + t->columns <= t->count;
	     i += t->columns)
		print_row(t, i, indent);
	free(t->cells);
	t->cells = NULL;
	return rc;
}

const char *text_bytes(char dst[TEXT_BYTES_MAX], uint64_t bytes)
{
	static const char *const units[] = { "B",   "KiB", "MiB", "GiB",
					     "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	size_t unit = 0;

	/* 1023.96 would be printed as 1024.0 */
	while (n >= (unit == 0 ? 1024.0 : 1023.95) &&
	       unit + 1 < ARRAY_LEN(units)) {
		n /= 1024.0;
		unit++;
	}
	if (unit == 0)
		(void)snprintf(dst, TEXT_BYTES_MAX, "%u B", (unsigned)bytes);
	else
		(void)snprintf(dst, TEXT_BYTES_MAX, "%.1f %s", n, units[unit]);
	return dst;
}

const char *text_duration(char dst[TEXT_BYTES_MAX], uint64_t seconds)
{
	unsigned long long s = seconds % 60;
	unsigned long long min = seconds / 60 % 60;
	unsigned long long h = seconds / 3600 % 24;
	unsigned long long d = seconds / 86400;

	if (d > 9999)
		(void)snprintf(dst, TEXT_BYTES_MAX, "over 9999 d");
	else if (d > 0)
		(void)snprintf(dst, TEXT_BYTES_MAX, "%llu d %02llu h", d, h);
	else if (h > 0)
		(void)snprintf(dst, TEXT_BYTES_MAX, "%llu h %02llu min", h,
			       min);
	else if (min > 0)
		(void)snprintf(dst, TEXT_BYTES_MAX, "%llu min %02llu s", min,
			       s);
	else
		(void)snprintf(dst, TEXT_BYTES_MAX, "%llu s", s);
	return dst;
}

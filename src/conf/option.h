/*
 * option - the rows of conf/options.def as a table, and their values as text.
 *
 * Used by: src/conf/ only.  Pure.
 */
#ifndef REELCACHE_CONF_OPTION_H
#define REELCACHE_CONF_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "util/base.h"

enum option_section {
	SECTION_main,
	SECTION_http,
	SECTION_cache,
	SECTION_prefetch,
	SECTION_resolver,
	SECTION_upstream,
	SECTION_websocket,
	SECTION_listen,
	SECTION_source,
	SECTION_COUNT
};

enum option_type {
	OPTION_BYTES,
	OPTION_TIME,
	OPTION_COUNT,
	OPTION_AUTO,
	OPTION_BOOL,
	OPTION_STRING,
	OPTION_CHOICE,
};

enum option_reload { RELOAD_HUP, RELOAD_RESTART };

struct option {
	enum option_section section;
	enum option_type type;
	enum option_reload reload;
	size_t offset; /* of the field in its section's struct */
	const char *name;
	const char *text;  /* the default, as in a file */
	const char *words; /* CHOICE: "a|b|c" */
	uint64_t min;
	uint64_t max;
	const char *help;
};

extern const struct option options[]; /* option_count rows */
extern const size_t option_count;

/* "main" ... and whether it is given as [section:NAME]. */
const char *section_name(enum option_section section);
bool section_is_named(enum option_section section);

/* The row, or NULL. */
const struct option *option_find(enum option_section section,
				 const char *name);

/* Stores text as the option's field of *values, its section's struct; an
 * old string there is freed.  -EINVAL with the reason in why; -ENOMEM. */
int option_set(const struct option *o, void *values, const char *text,
	       char *why, size_t why_bytes) MUSTCHECK;

/* The field as it would stand in a file; may point into scratch. */
#define OPTION_TEXT_BYTES 32u
const char *option_text(const struct option *o, const void *values,
			char scratch[OPTION_TEXT_BYTES]);

/* What values are allowed, in words: "size, 16M to 1E". */
void option_describe(const struct option *o, char *out, size_t out_bytes);

/* Frees the strings among the fields of a section's struct. */
void option_free_all(enum option_section section, void *values);

#endif

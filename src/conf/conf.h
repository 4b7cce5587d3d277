/*
 * conf - the configuration: one INI file, read strictly.
 *
 * Used by: master (loads), all its children (read what they inherit), tests.
 * conf_load() reads a file and blocks for that; everything else is pure.
 * Errors: 0 or -errno with a sentence for the administrator in a
 * struct conf_fault; nothing is logged here.
 *
 * An option is a row of conf/options.def, and a field here of the same name:
 * [http] idle_timeout is conf->http.idle_timeout.  TIME is milliseconds,
 * BYTES is bytes.  Strings are never NULL.
 */
#ifndef REELCACHE_CONF_CONF_H
#define REELCACHE_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "util/base.h"

#define CONF_NAME_BYTES  64u   /* longest NAME of a section */
#define CONF_LISTENS_MAX 64u   /* [listen:NAME] sections */
#define CONF_SOURCES_MAX 1024u /* [source:NAME] sections */

/* Values of CHOICE options, in the order of their words.  [main] log_level
 * is an enum log_level of util/log.h. */
enum conf_access_log_format {
	CONF_ACCESS_LOG_COMBINED,
	CONF_ACCESS_LOG_JSON,
};

enum conf_on_abandon {
	CONF_ON_ABANDON_LINGER,
	CONF_ON_ABANDON_OBJECT,
	CONF_ON_ABANDON_ABORT,
};

enum conf_source_type {
	CONF_SOURCE_TYPE_TEMPLATE,  /* url with {id}, perhaps {quality} */
	CONF_SOURCE_TYPE_DIRECTORY, /* files of this machine */
	CONF_SOURCE_TYPE_HTTP,      /* a resolver service */
	CONF_SOURCE_TYPE_COMMAND,   /* a helper program */
};

enum conf_order {
	CONF_ORDER_DEADLINE,
	CONF_ORDER_ARRIVAL,
};

/* Which rows conf/options.def gives. */
#define OPTIONS_MAIN      1
#define OPTIONS_HTTP      2
#define OPTIONS_CACHE     4
#define OPTIONS_UPSTREAM  8
#define OPTIONS_LISTEN    16
#define OPTIONS_SOURCE    32
#define OPTIONS_PREFETCH  64
#define OPTIONS_RESOLVER  128
#define OPTIONS_WEBSOCKET 256
#define OPTIONS_ALL       511

#define CONF_FIELD_BYTES(name)  uint64_t name;
#define CONF_FIELD_TIME(name)   uint64_t name;
#define CONF_FIELD_COUNT(name)  uint32_t name;
#define CONF_FIELD_AUTO(name)   uint32_t name;
#define CONF_FIELD_BOOL(name)   bool name;
#define CONF_FIELD_STRING(name) char *name;
#define CONF_FIELD_CHOICE(name) int name;
#define CONF_FIELD(section, name, type, def, min, max, reload, help)           \
	CONF_FIELD_##type(name)

struct conf_main {
#define OPTIONS_OF OPTIONS_MAIN
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_http {
#define OPTIONS_OF OPTIONS_HTTP
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_cache {
#define OPTIONS_OF OPTIONS_CACHE
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_prefetch {
#define OPTIONS_OF OPTIONS_PREFETCH
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_resolver {
#define OPTIONS_OF OPTIONS_RESOLVER
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_upstream {
#define OPTIONS_OF OPTIONS_UPSTREAM
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_websocket {
#define OPTIONS_OF OPTIONS_WEBSOCKET
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_listen {
	char *name;
#define OPTIONS_OF OPTIONS_LISTEN
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf_source {
	char *name;
#define OPTIONS_OF OPTIONS_SOURCE
#define OPT        CONF_FIELD
#include "conf/options.def"
};

struct conf {
	struct conf_main main;
	struct conf_http http;
	struct conf_cache cache;
	struct conf_prefetch prefetch;
	struct conf_resolver resolver;
	struct conf_upstream upstream;
	struct conf_websocket websocket;
	struct conf_listen *listens; /* at least one */
	size_t listen_count;
	struct conf_source *sources; /* at least one; in the file's order */
	size_t source_count;
};

/* What is wrong, for the administrator: "FILE:LINE: [section] option: what,
 * and what would be right".  line is 0 when no line is to blame. */
struct conf_fault {
	unsigned int line;
	char text[2048];
};

/* Reads path, a regular file of at most 1 MiB.  On success *out is the
 * caller's, for conf_free().  -EINVAL: the contents are wrong; else the file
 * could not be read; -ENOMEM.  *fault says it in words in all cases. */
int conf_load(const char *path, struct conf **out,
	      struct conf_fault *fault) MUSTCHECK;
void conf_free(struct conf *conf);

/* 0, or -EINVAL when `new` changes an option that a running master cannot
 * change; *fault names it. */
int conf_check_reload(const struct conf *old, const struct conf *new,
		      struct conf_fault *fault) MUSTCHECK;

/* The source of this name, or NULL. */
const struct conf_source *conf_find_source(const struct conf *conf,
					   const char *name, size_t name_bytes);

/* Every option with its value; conf_load() reads it to an equal conf.
 * 0 or -errno of the stream. */
int conf_dump(const struct conf *conf, FILE *to) MUSTCHECK;

/* The sample file: every option, explained, with its default in a comment. */
int conf_print_sample(FILE *to) MUSTCHECK;

#endif

/*
 * command - one run of a helper program.
 *
 * Used by: resolver, the only process that may exec.  Nothing blocks.
 *
 *   resolver -- fork --> guard -- fork, exec --> program --> its children
 *       |  control pipe --^  '-- status pipe: how the program ended
 *       '-- reads stdout and stderr of the program
 *
 * The guard lives as long as the program.  When the program has ended, or the
 * control pipe closes (the resolver wants it, or was killed), it kills the
 * program and whatever descends from it, also what has left its process
 * group: orphans come to the guard (PR_SET_CHILD_SUBREAPER).  Only then does
 * it end.
 */
#ifndef REELCACHE_RESOLVER_COMMAND_H
#define REELCACHE_RESOLVER_COMMAND_H

#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

#define COMMAND_WORDS_MAX 64u

struct command;

struct command_opts {
	const char *command; /* [source] command */
	const char *url;     /* for {url} */
	const char *id;      /* for {id} */
	size_t output_bytes; /* longest output */
	uint64_t memory_bytes;
	uint64_t cpu_s;
};

enum command_end {
	COMMAND_DONE,     /* exit status 0 */
	COMMAND_FAILED,   /* another status, or a signal */
	COMMAND_TOO_LONG, /* output */
};

struct command_ops {
	/* Once, from the event loop; the command is freed after it.  output
	 * and reason are the callee's during the call.  reason: the last line
	 * that it wrote to standard error if that begins with "ERROR:", without
	 * URLs; else how it ended; may be "". */
	void (*end)(void *ctx, enum command_end how, const char *output,
		    size_t bytes, const char *reason);
};

/* -E2BIG: too many words; -ENOENT: none; else -errno. */
int command_begin(struct command **out, struct event_base *base,
		  const struct command_opts *opts,
		  const struct command_ops *ops, void *ctx) MUSTCHECK;

/* Kills it; end() does not come. */
void command_abort(struct command *c);

/* A text for people: control characters and URLs go. */
void command_clean(char *dst, size_t dst_bytes, const char *text);

#endif

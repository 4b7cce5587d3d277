/*
 * words - lists in options: words that spaces or tabs separate.
 *
 * Used by: all processes.  Pure.
 *
 *	for (size_t n; (n = words_next(&text)) > 0; text += n)
 *		take(text, n);
 */
#ifndef REELCACHE_UTIL_WORDS_H
#define REELCACHE_UTIL_WORDS_H

#include <stddef.h>
#include <string.h>

#define WORDS_BLANKS " \t"

/* Moves *text to its next word; the bytes of it, 0 at the end. */
static inline size_t words_next(const char **text)
{
	*text += strspn(*text, WORDS_BLANKS);
	return strcspn(*text, WORDS_BLANKS);
}

static inline size_t words_count(const char *text)
{
	size_t count = 0;

	for (size_t n; (n = words_next(&text)) > 0; text += n)
		count++;
	return count;
}

#endif

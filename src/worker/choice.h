/*
 * choice - which of a template's qualities a request gets.
 *
 * Used by: worker.  Pure.  The rules are those of resolution_pick(), with the
 * words of [source] qualities in the place of renditions.
 */
#ifndef REELCACHE_WORKER_CHOICE_H
#define REELCACHE_WORKER_CHOICE_H

#include <stdbool.h>

#include "http/slice.h"

#define CHOICE_WORD_BYTES 60u /* longer words are never chosen */

/* Is this a word that a request may ask for: a quality_valid() one, or one of
 * the list? */
bool choice_valid(const char *words, struct slice quality);

/*
 * words: separated by blanks.  A word that is there is taken.  Else "360p"
 * and the like: that of the next lower number, or, when all are higher, of
 * the lowest; "best", "worst": of the highest and lowest number.  When no
 * word has a number these mean the first one.  "audio": nothing else will do.
 * False: there is none.  *exact: it is what was wanted.
 */
bool choice_pick(const char *words, struct slice quality, struct slice *word,
		 bool *exact);

#endif

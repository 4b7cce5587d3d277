/*
 * quality - the words by which a rendition is chosen.
 *
 * Used by: all processes.  Pure.
 */
#ifndef REELCACHE_UTIL_QUALITY_H
#define REELCACHE_UTIL_QUALITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of "360p": 1 to 5 digits and a p; else -1. */
int32_t quality_number(const char *quality, size_t bytes);

/* "best", "worst", "audio", or one with a number. */
bool quality_valid(const char *quality, size_t bytes);

/* Is `number` a better answer than `best` to who wants `wanted`: that number
 * or the next lower one, or, when all are higher, the lowest?  best < 0: there
 * is none so far. */
bool quality_nearer(int32_t number, int32_t best, int32_t wanted);

/* A name of a rendition within its id: [A-Za-z0-9._+-]{1,60}. */
#define QUALITY_FORMAT_BYTES 60u
bool quality_format_char(char c);
bool quality_format_valid(const char *format, size_t bytes);

#endif

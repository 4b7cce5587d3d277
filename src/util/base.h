/*
 * base - the few macros that every module uses.
 *
 * Used by: all processes.  Nothing here blocks or fails, but must().
 */
#ifndef REELCACHE_UTIL_BASE_H
#define REELCACHE_UTIL_BASE_H

#include <stddef.h>
#include <stdint.h>

#define MUSTCHECK        __attribute__((warn_unused_result))
#define PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
#define UNUSED           __attribute__((unused))
#define NORETURN         __attribute__((noreturn))

#define ARRAY_LEN(a)     (sizeof(a) / sizeof((a)[0]))

#define KIB              ((uint64_t)1 << 10)
#define MIB              ((uint64_t)1 << 20)
#define GIB              ((uint64_t)1 << 30)
#define TIB              ((uint64_t)1 << 40)
#define EIB              ((uint64_t)1 << 60)

/* Our own broken logic only, never input.  Stays in release builds. */
#define must(claim)                                                            \
	do {                                                                   \
		if (__builtin_expect(!(claim), 0))                             \
			must_failed(#claim, __FILE__, __LINE__);               \
	} while (0)

NORETURN void must_failed(const char *claim, const char *file, int line);

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif

/*
 * clock - the time, for process folders only; modules below take now_ms.
 *
 * Used by: all processes.  Never fails.
 */
#ifndef REELCACHE_UTIL_CLOCK_H
#define REELCACHE_UTIL_CLOCK_H

#include <stdint.h>

/* Monotonic milliseconds: comparable between processes of one boot. */
uint64_t clock_now_ms(void);

/* The same in microseconds, for latency figures. */
uint64_t clock_now_us(void);

/* Seconds since 1970-01-01 UTC. */
int64_t clock_wall_s(void);

#endif

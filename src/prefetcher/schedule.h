/*
 * schedule - one order for all that is fetched: what is needed first comes
 * first.
 *
 * Used by: prefetcher.  Pure but for the plan it works on; nothing blocks.
 *
 *   who needs bytes                       when
 *   an ask that waits                     since it was asked
 *   a playhead, `readahead` ahead of it   when the playhead will be there
 *   POST /prefetch                        its deadline, and as it will play
 *   the index of a video that plays       now
 *
 * Every 100 ms the needs that no run brings are listed and sorted, and runs
 * are started for them while their origin has a connection to spare.  A need
 * of somebody who waits may take the connection of a run that can wait.  What
 * nobody waits for stands still while a viewer has less than `min_slack`
 * ahead, and keeps to the limits of bandwidth and of unseen bytes.
 */
#ifndef REELCACHE_PREFETCHER_SCHEDULE_H
#define REELCACHE_PREFETCHER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/base.h"

struct origin;
struct plan;
struct run;
struct schedule;
struct title;

int schedule_open(struct schedule **out, struct plan *plan) MUSTCHECK;
void schedule_close(struct schedule *sc);

/* Every 20 ms while there is anything to do, else every 500 ms. */
void schedule_tick(struct plan *plan);

/* Parses what is stored of the object's index, as far as it is stored. */
void schedule_feed(struct title *t);

/* When it last looked at all needs. */
uint64_t schedule_passed_ms(const struct plan *plan);

/* Is there anything that will need a tick soon? */
bool schedule_busy(const struct plan *plan);

/* May this run take no more bytes for now? */
bool schedule_holds(const struct run *run);
/* It has taken n. */
void schedule_took(struct run *run, uint64_t n);

/* Ends the run of this origin that can wait longest, if one can wait at all.
 * True: there is a connection to spare now. */
bool schedule_preempt(struct plan *plan, struct origin *o, uint64_t now_ms);

/* How much of the read-ahead is used: 100, or less after waste. */
uint32_t schedule_depth_percent(const struct plan *plan);

#endif

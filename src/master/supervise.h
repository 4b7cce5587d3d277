/*
 * supervise - which children shall run, which do, and what is due next.
 *
 * Used by: master.  Pure: time is a parameter, starting and signalling go
 * through struct supervise_ops, so that tests own both.  Rows have the
 * numbers of enum segment_proc_no; SEGMENT_PROC_MASTER stays unused.
 *
 *                 fork               CHILD_READY
 *   NONE -> DUE ---------> STARTING -------------> READY
 *            ^                |  too slow: KILL      |
 *            |  back-off      v                      v
 *            '------------- (died, still wanted) ----+
 *                                                    | drain: QUIT
 *   NONE <- (gone) <- KILLED <--- ENDING <------- DRAINING
 *                         KILL       ^    TERM
 *                                    '-- end: TERM, from any state
 */
#ifndef REELCACHE_MASTER_SUPERVISE_H
#define REELCACHE_MASTER_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/segment.h"
#include "util/base.h"

#define SUPERVISE_NEVER UINT64_MAX

enum proc_state {
	PROC_NONE,     /* nothing runs, nothing shall */
	PROC_DUE,      /* to be started at due_ms */
	PROC_STARTING, /* to be ready before due_ms */
	PROC_READY,
	PROC_DRAINING, /* told to QUIT; TERM at due_ms */
	PROC_ENDING,   /* told to TERM; KILL at due_ms */
	PROC_KILLED,   /* waits to be reaped */
};

struct proc {
	enum proc_state state;
	pid_t pid;         /* 0 = nothing runs */
	bool wanted;       /* start it again when it is gone */
	bool told;         /* it was told to go: its end is no failure */
	uint32_t failures; /* in a row: the back-off's exponent */
	uint64_t due_ms;
	uint64_t since_ms; /* of its fork */
	uint64_t end_ms;   /* time it is given between TERM and KILL */
	/* for the owner: what it is started with */
	uint64_t round;
	uint32_t seat;
};

struct supervise_times {
	uint64_t ready_ms;         /* longest time from fork to ready */
	uint64_t backoff_first_ms; /* the second restart in a row waits so */
	uint64_t backoff_most_ms;
	uint64_t backoff_reset_ms; /* a life as long as this was a good one */
};

extern const struct supervise_times supervise_times_default;

struct supervise_ops {
	/* Starts the child of row no.  Its pid or -errno. */
	pid_t (*start)(void *arg, uint32_t no);
	void (*signal)(void *arg, pid_t pid, int signo);
	void *arg;
};

struct supervise {
	struct proc procs[SEGMENT_PROCS];
	struct supervise_ops ops;
	struct supervise_times times;
};

/* How a child ended, for the log. */
struct supervise_end {
	uint32_t no;
	pid_t pid;
	bool told;    /* we had told it to go */
	bool restart; /* it will be started again, in restart_in_ms */
	uint64_t restart_in_ms;
	uint64_t lived_ms;
	enum proc_state was; /* before it ended */
	uint64_t round;
};

void supervise_init(struct supervise *sv, const struct supervise_ops *ops,
		    const struct supervise_times *times);

/* Starts row no at the next supervise_run().  It must be PROC_NONE. */
void supervise_want(struct supervise *sv, uint32_t no, uint64_t round,
		    uint32_t seat, uint64_t now_ms);

/* QUIT now, TERM after drain_ms, KILL end_ms later; no successor. */
void supervise_drain(struct supervise *sv, uint32_t no, uint64_t drain_ms,
		     uint64_t end_ms, uint64_t now_ms);

/* TERM now, KILL end_ms later; no successor. */
void supervise_end(struct supervise *sv, uint32_t no, uint64_t end_ms,
		   uint64_t now_ms);

/* The same, but a successor of this round starts as soon as it is gone. */
void supervise_replace(struct supervise *sv, uint32_t no, uint64_t round,
		       uint64_t end_ms, uint64_t now_ms);

/* The child said that it is ready.  Its row, or 0 for a pid that is not one
 * of ours or has said so before. */
uint32_t supervise_ready(struct supervise *sv, pid_t pid);

/* A child was reaped.  False: it was none of ours. */
bool supervise_gone(struct supervise *sv, pid_t pid, uint64_t now_ms,
		    struct supervise_end *end);

/* Does what is due: starts and kills.  Returns when it wants to be called
 * again, or SUPERVISE_NEVER. */
uint64_t supervise_run(struct supervise *sv, uint64_t now_ms);

/* Nothing runs and nothing is due, in rows [from, to)? */
bool supervise_idle(const struct supervise *sv, uint32_t from, uint32_t to);

/* The wait before the next start after so many failures in a row (0 = the
 * first death). */
uint64_t supervise_backoff_ms(const struct supervise_times *times,
			      uint32_t failures);

#endif

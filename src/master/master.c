#include "master/master.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "http/tls.h"
#include "master/inherited.h"
#include "master/prepare.h"
#include "master/setup.h"
#include "master/spawn.h"
#include "util/clock.h"
#include "util/log.h"

#define END_WORKER_MS     5000u  /* from TERM to KILL */
#define END_PREFETCHER_MS 10000u /* it commits what is in flight */
#define REPLACE_MS        5000u
#define END_NOW_MS        2000u
#define TICKETS_MS        (12u * 3600000u)
#define CACHE_WAIT_MS     10000u /* for the children of a killed master */
#define RELOAD_TRIES      3u     /* then the old configuration comes back */

#define PROC_PREFETCHER ((uint32_t)SEGMENT_PROC_PREFETCHER)
#define PROC_RESOLVER   ((uint32_t)SEGMENT_PROC_RESOLVER)
#define PROC_WORKER0    ((uint32_t)SEGMENT_PROC_WORKER0)
#define PROC_COUNT      ((uint32_t)SEGMENT_PROCS)

enum phase {
	PHASE_PREFETCHER,
	PHASE_WORKERS,
	PHASE_STEADY,
	PHASE_DRAIN,
	PHASE_LAST,
	PHASE_GONE,
};

struct master {
	const struct master_opts *opts;
	struct supervise sv;
	struct segment *seg;
	struct inboxes ipc;
	struct identity who;
	struct identity resolver_who;
	struct setup *now; /* what shall run */
	/* while a reload is under way; it can come back */
	struct setup *before;
	enum phase phase;
	bool started; /* was ready once */
	bool reload_wanted;
	bool admin_inherited;
	int admin_fd;
	int lock_fd;
	int signal_fd;
	int exit_status;
	uint64_t rounds;      /* the last one given out */
	uint64_t watchdog_ms; /* 0 = none */
	uint64_t watchdog_due_ms;
	uint64_t tickets_due_ms;
	char refused[768]; /* why the last reload was not taken; "" = it was */
};

/* ---- segment ------------------------------------------------------------ */

static void mirror_rows(struct master *m)
{
	for (uint32_t no = PROC_PREFETCHER; no < PROC_COUNT; no++) {
		const struct proc *p = &m->sv.procs[no];
		struct segment_proc *row = &m->seg->procs[no];

		atomic_store(&row->pid, (uint32_t)p->pid);
		atomic_store(&row->ready, p->pid > 0 && p->state == PROC_READY);
		atomic_store(&row->draining,
			     p->pid > 0 && p->state >= PROC_DRAINING);
		atomic_store(&row->since_ms, p->pid > 0 ? p->since_ms : 0);
	}
	atomic_store(&m->seg->procs[SEGMENT_PROC_MASTER].ready,
		     m->phase == PHASE_STEADY);
	atomic_store(&m->seg->procs[SEGMENT_PROC_MASTER].draining,
		     m->phase >= PHASE_DRAIN);
}

/* A worker is gone and its slot may stay empty: nobody but us is left to say
 * that its readers want nothing any more. */
static void clear_worker_row(struct segment *seg, uint32_t slot)
{
	struct segment_worker *w = &seg->workers[slot];
	uint64_t top = min_u64(atomic_load(&w->readers_top), SEGMENT_READERS);

	for (uint64_t i = 0; i < top; i++)
		atomic_store(&w->readers[i].object_no, 0);
	for (uint32_t i = 0; i < SEGMENT_RUNS; i++)
		atomic_store(&w->waits[i], 0);
	atomic_store(&w->connections, 0);
	stat_set(&seg->stats[PROC_WORKER0 + slot], STAT_connections, 0);
}

/* ---- children ----------------------------------------------------------- */

static struct setup *setup_of(struct master *m, uint64_t round)
{
	if (m->before != NULL && m->before->round == round)
		return m->before;
	must(m->now->round == round);
	return m->now;
}

static pid_t start_child(void *arg, uint32_t no)
{
	struct master *m = arg;
	const struct proc *p = &m->sv.procs[no];
	struct setup *setup = setup_of(m, p->round);
	struct spawn what = {
		.main = no == PROC_PREFETCHER ? m->opts->prefetcher
			: no == PROC_RESOLVER ? m->opts->resolver
					      : m->opts->worker,
		.no = no,
		.seat = p->seat,
		.conf = setup->conf,
		.pems = setup->pems,
		.seg = m->seg,
		.ipc = &m->ipc,
		.sockets = setup->sockets,
		.who = no == PROC_RESOLVER ? &m->resolver_who : &m->who,
		.admin_fd = m->admin_fd,
		.signal_fd = m->signal_fd,
	};
	pid_t pid;

	if (m->before != NULL) {
		const struct setup *other =
			setup == m->now ? m->before : m->now;

		what.other_sockets = other->sockets;
		what.other_pems = other->pems;
		what.other_conf = other->conf;
	}
	pid = spawn_child(&what);
	if (pid < 0)
		log_error("ev=fork name=%s error=\"%s\"", spawn_name(no),
			  strerror(-pid));
	else
		log_info("ev=child_started name=%s pid=%d", spawn_name(no),
			 (int)pid);
	return pid;
}

static void signal_child(void *arg UNUSED, pid_t pid, int signo)
{
	log_debug("ev=signal_sent pid=%d signal=%d", (int)pid, signo);
	if (kill(pid, signo) < 0 && errno != ESRCH)
		log_error("ev=signal_sent pid=%d signal=%d error=\"%s\"",
			  (int)pid, signo, strerror(errno));
}

/* The row of the worker that shall hold this seat in the current round, or
 * 0. */
static uint32_t row_of_seat(const struct master *m, uint32_t seat)
{
	for (uint32_t no = PROC_WORKER0; no < PROC_COUNT; no++) {
		const struct proc *p = &m->sv.procs[no];

		if (p->state != PROC_NONE && p->wanted &&
		    p->round == m->now->round && p->seat == seat)
			return no;
	}
	return 0;
}

static uint32_t free_row(const struct master *m)
{
	for (uint32_t no = PROC_WORKER0; no < PROC_COUNT; no++)
		if (m->sv.procs[no].state == PROC_NONE)
			return no;
	return 0;
}

/* Starts what is missing of this round's workers.  False: there are not
 * slots enough until some that drain are gone. */
static bool want_workers(struct master *m, uint64_t now_ms)
{
	for (uint32_t seat = 0; seat < m->now->workers; seat++) {
		uint32_t no;

		if (row_of_seat(m, seat) != 0)
			continue;
		no = free_row(m);
		if (no == 0)
			return false;
		supervise_want(&m->sv, no, m->now->round, seat, now_ms);
	}
	return true;
}

static void hurry_drainers(struct master *m, uint64_t now_ms)
{
	for (uint32_t no = PROC_WORKER0; no < PROC_COUNT; no++)
		if (m->sv.procs[no].state == PROC_DRAINING)
			supervise_end(&m->sv, no, END_WORKER_MS, now_ms);
}

static bool workers_are_ready(const struct master *m)
{
	for (uint32_t seat = 0; seat < m->now->workers; seat++) {
		uint32_t no = row_of_seat(m, seat);

		if (no == 0 || m->sv.procs[no].state != PROC_READY)
			return false;
	}
	return true;
}

/* ---- stop --------------------------------------------------------------- */

static void begin_stop(struct master *m, uint64_t now_ms)
{
	uint64_t drain_ms = m->now->conf->main.shutdown_timeout;

	(void)sd_notify(0, "STOPPING=1");
	log_info("ev=stopping");
	for (uint32_t no = PROC_WORKER0; no < PROC_COUNT; no++)
		supervise_drain(&m->sv, no, drain_ms, END_WORKER_MS, now_ms);
	m->phase = PHASE_DRAIN;
}

static void stop_at_once(struct master *m, uint64_t now_ms)
{
	(void)sd_notify(0, "STOPPING=1");
	log_info("ev=stopping_now");
	for (uint32_t no = PROC_PREFETCHER; no < PROC_COUNT; no++)
		supervise_end(&m->sv, no, END_NOW_MS, now_ms);
	m->phase = PHASE_LAST;
}

/* ---- reload ------------------------------------------------------------- */

static void notify_ready(const struct master *m)
{
	if (m->refused[0] != '\0')
		(void)sd_notifyf(0, "READY=1\nSTATUS=Reload refused: %s",
				 m->refused);
	else
		(void)sd_notifyf(0, "READY=1\nSTATUS=Serving with %u workers",
				 m->now->workers);
}

static void refuse_reload(struct master *m, const char *reason)
{
	char quoted[900];

	(void)snprintf(m->refused, sizeof(m->refused), "%s", reason);
	log_error("ev=reload_refused reason=%s",
		  log_quote(quoted, sizeof(quoted), reason));
}

/* Those that are one at a time: a successor takes over. */
static void replace_makers(struct master *m, uint64_t now_ms)
{
	supervise_replace(&m->sv, PROC_PREFETCHER, m->now->round, REPLACE_MS,
			  now_ms);
	supervise_replace(&m->sv, PROC_RESOLVER, m->now->round, REPLACE_MS,
			  now_ms);
}

static bool makers_are_ready(const struct master *m)
{
	for (uint32_t no = PROC_PREFETCHER; no <= PROC_RESOLVER; no++)
		if (m->sv.procs[no].state != PROC_READY ||
		    m->sv.procs[no].round != m->now->round)
			return false;
	return true;
}

static void begin_reload(struct master *m, uint64_t now_ms)
{
	struct setup *fresh = NULL;
	struct fault fault;

	m->reload_wanted = false;
	m->refused[0] = '\0';
	(void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
			 (unsigned long long)clock_now_us());
	log_info("ev=reload");
	if (setup_reload(&fresh, m->opts->conf_path, m->now, &m->who, &fault) <
	    0) {
		refuse_reload(m, fault.text);
		notify_ready(m);
		return;
	}
	fresh->round = ++m->rounds;
	m->before = m->now;
	m->now = fresh;
	setup_apply(fresh);
	replace_makers(m, now_ms);
	m->phase = PHASE_PREFETCHER;
}

/* The new children cannot live with the new configuration: the old one comes
 * back.  Its workers never left. */
static void undo_reload(struct master *m, const char *reason, uint64_t now_ms)
{
	struct setup *failed = m->now;

	refuse_reload(m, reason);
	for (uint32_t no = PROC_WORKER0; no < PROC_COUNT; no++)
		if (m->sv.procs[no].round == failed->round)
			supervise_end(&m->sv, no, END_NOW_MS, now_ms);
	m->now = m->before;
	m->before = NULL;
	setup_free(failed);
	setup_apply(m->now);
	replace_makers(m, now_ms);
	m->phase = PHASE_PREFETCHER;
}

/* All of this round are ready. */
static void finish_round(struct master *m, uint64_t now_ms)
{
	for (uint32_t no = PROC_WORKER0; no < PROC_COUNT; no++) {
		const struct proc *p = &m->sv.procs[no];

		if (p->state != PROC_NONE && p->wanted &&
		    p->round != m->now->round)
			supervise_drain(&m->sv, no,
					m->now->conf->main.shutdown_timeout,
					END_WORKER_MS, now_ms);
	}
	setup_free(m->before);
	m->before = NULL;
	m->phase = PHASE_STEADY;
	if (!m->started || m->refused[0] == '\0')
		sockets_log(m->now->sockets);
	log_info("ev=%s workers=%u", m->started ? "reloaded" : "ready",
		 m->now->workers);
	m->started = true;
	notify_ready(m);
}

/* Does all that can be done now without waiting. */
static void advance(struct master *m, uint64_t now_ms)
{
	if (m->phase == PHASE_STEADY && m->reload_wanted)
		begin_reload(m, now_ms);
	if (m->phase == PHASE_PREFETCHER && makers_are_ready(m)) {
		if (want_workers(m, now_ms))
			m->phase = PHASE_WORKERS;
		else
			hurry_drainers(m, now_ms);
	}
	if (m->phase == PHASE_WORKERS && workers_are_ready(m))
		finish_round(m, now_ms);
	if (m->phase == PHASE_DRAIN &&
	    supervise_idle(&m->sv, PROC_WORKER0, PROC_COUNT)) {
		supervise_end(&m->sv, PROC_PREFETCHER, END_PREFETCHER_MS,
			      now_ms);
		supervise_end(&m->sv, PROC_RESOLVER, END_WORKER_MS, now_ms);
		m->phase = PHASE_LAST;
	}
	if (m->phase == PHASE_LAST &&
	    supervise_idle(&m->sv, PROC_PREFETCHER, PROC_COUNT))
		m->phase = PHASE_GONE;
}

/* ---- events ------------------------------------------------------------- */

static void log_end(const struct supervise_end *end, int status)
{
	const char *name = spawn_name(end->no);
	int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (end->told && code == 0)
		log_info("ev=child_ended name=%s pid=%d", name, (int)end->pid);
	else if (end->told)
		log_warning("ev=child_ended name=%s pid=%d signal=%d status=%d",
			    name, (int)end->pid, signo, code);
	else
		log_error("ev=child_died name=%s pid=%d signal=%d status=%d "
			  "lived_ms=%llu restart_in_ms=%llu reason=%s",
			  name, (int)end->pid, signo, code,
			  (unsigned long long)end->lived_ms,
			  (unsigned long long)end->restart_in_ms,
			  end->was == PROC_KILLED ? "not-ready-in-time"
						  : "unknown");
}

/* A child of a configuration that was never good has failed. */
static void judge_failure(struct master *m, const struct supervise_end *end,
			  int status, uint64_t now_ms)
{
	bool config = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG;
	bool under_way =
		m->phase == PHASE_PREFETCHER || m->phase == PHASE_WORKERS;
	char reason[128];

	if (!under_way || end->told || end->round != m->now->round)
		return;
	if (!m->started && config) {
		log_error("ev=start_failed name=%s status=%d reason=\"it "
			  "cannot work with this configuration\"",
			  spawn_name(end->no), EXIT_CONFIG);
		m->exit_status = EXIT_CONFIG;
		stop_at_once(m, now_ms);
		return;
	}
	if (m->before == NULL)
		return;
	if (config || m->sv.procs[end->no].failures >= RELOAD_TRIES) {
		(void)snprintf(reason, sizeof(reason),
			       "the new %s did not become ready (%s %d)",
			       spawn_name(end->no),
			       WIFSIGNALED(status) ? "signal" : "status",
			       WIFSIGNALED(status) ? WTERMSIG(status)
						   : WEXITSTATUS(status));
		undo_reload(m, reason, now_ms);
	}
}

static void reap_children(struct master *m, uint64_t now_ms)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct supervise_end end;

		if (!supervise_gone(&m->sv, pid, now_ms, &end))
			continue;
		log_end(&end, status);
		if (end.no >= PROC_WORKER0)
			clear_worker_row(m->seg, end.no - PROC_WORKER0);
		if (end.restart && !end.told)
			atomic_fetch_add(&m->seg->procs[end.no].restarts, 1);
		judge_failure(m, &end, status, now_ms);
	}
}

static void read_inbox(struct master *m, uint64_t now_ms)
{
	union {
		struct child_ready ready;
		char bytes[INBOX_MESSAGE_BYTES];
	} msg;

	for (;;) {
		ssize_t n = inbox_receive(m->ipc.master.rx, &msg, sizeof(msg));
		uint32_t no;

		if (n == -EMSGSIZE)
			continue;
		if (n <= 0)
			return;
		if ((size_t)n != sizeof(msg.ready) ||
		    msg.ready.type != CHILD_READY)
			continue;
		no = supervise_ready(&m->sv, (pid_t)msg.ready.pid);
		if (no != 0)
			log_info(
				"ev=child_ready name=%s pid=%u after_ms=%llu",
				spawn_name(no), msg.ready.pid,
				(unsigned long long)(now_ms -
						     m->sv.procs[no].since_ms));
	}
}

static void reopen_logs(struct master *m)
{
	struct fault fault;
	int rc = 0;

	/* first the master, so that a new file gets the right owner */
	if (prepare_logs(m->now->conf, &m->who, &fault) < 0)
		log_warning("ev=log_reopen error=\"%s\"", fault.text);
	rc = log_reopen();
	if (rc < 0)
		log_warning("ev=log_reopen error=\"%s\"", strerror(-rc));
	else
		log_info("ev=log_reopened");
	for (uint32_t no = PROC_PREFETCHER; no < PROC_COUNT; no++)
		if (m->sv.procs[no].pid > 0)
			signal_child(m, m->sv.procs[no].pid, SIGUSR1);
}

static void handle_signal(struct master *m, uint32_t signo, uint64_t now_ms)
{
	switch (signo) {
	case SIGHUP:
		if (m->phase < PHASE_DRAIN)
			m->reload_wanted = true;
		break;
	case SIGUSR1:
		reopen_logs(m);
		break;
	case SIGTERM:
	case SIGINT:
	case SIGQUIT:
		if (m->phase < PHASE_DRAIN)
			begin_stop(m, now_ms);
		else
			stop_at_once(m, now_ms);
		break;
	default: /* SIGCHLD: every turn of the loop reaps */
		break;
	}
}

static void read_signals(struct master *m, uint64_t now_ms)
{
	struct signalfd_siginfo info;

	while (read(m->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		handle_signal(m, info.ssi_signo, now_ms);
}

/* ---- loop --------------------------------------------------------------- */

/* Returns when the next one is due. */
static uint64_t feed_watchdog(struct master *m, uint64_t now_ms)
{
	if (m->watchdog_ms == 0)
		return SUPERVISE_NEVER;
	if (now_ms >= m->watchdog_due_ms) {
		(void)sd_notify(0, "WATCHDOG=1");
		m->watchdog_due_ms = now_ms + m->watchdog_ms;
	}
	return m->watchdog_due_ms;
}

/* The keys of session tickets do not live for ever: whoever learned one
 * could read what was recorded (RFC 5077 section 5.5). */
static uint64_t rotate_tickets(struct master *m, uint64_t now_ms)
{
	int rc;

	if (now_ms < m->tickets_due_ms)
		return m->tickets_due_ms;
	rc = tls_tickets_rotate(&m->seg->tickets);
	if (rc < 0)
		log_error("ev=tickets_failed error=\"%s\"", strerror(-rc));
	m->tickets_due_ms = now_ms + TICKETS_MS;
	return m->tickets_due_ms;
}

static void wait_until(struct master *m, uint64_t due_ms, uint64_t now_ms)
{
	struct pollfd fds[2] = {
		{ .fd = m->signal_fd, .events = POLLIN },
		{ .fd = m->ipc.master.rx, .events = POLLIN },
	};
	uint64_t wait_ms = due_ms > now_ms ? due_ms - now_ms : 0;
	struct timespec ts = { .tv_sec = (time_t)(wait_ms / 1000),
			       .tv_nsec = (long)(wait_ms % 1000) * 1000000 };

	(void)ppoll(fds, ARRAY_LEN(fds), due_ms == SUPERVISE_NEVER ? NULL : &ts,
		    NULL);
}

static void run_loop(struct master *m)
{
	while (m->phase != PHASE_GONE) {
		uint64_t now_ms = clock_now_ms();
		uint64_t due_ms;

		/* before the first child */
		due_ms = rotate_tickets(m, now_ms);
		read_signals(m, now_ms);
		/* what a child said comes before its end */
		read_inbox(m, now_ms);
		reap_children(m, now_ms);
		advance(m, now_ms);
		due_ms = min_u64(due_ms, supervise_run(&m->sv, now_ms));
		due_ms = min_u64(due_ms, feed_watchdog(m, now_ms));
		mirror_rows(m);
		if (m->phase != PHASE_GONE)
			wait_until(m, due_ms, now_ms);
	}
}

/* ---- start and end ------------------------------------------------------ */

static int open_signals(struct master *m, struct fault *fault)
{
	static const int ours[] = { SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2,
				    SIGTERM, SIGINT, SIGQUIT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		sigaddset(&set, ours[i]);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGCHLD, SIG_DFL); /* or an ignored one would be reaped
					 * behind our back */
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return fault_set(fault, -errno, EXIT_FAILURE, "signals: %s",
				 strerror(errno));
	m->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (m->signal_fd < 0)
		return fault_set(fault, -errno, EXIT_FAILURE, "signalfd: %s",
				 strerror(errno));
	return 0;
}

static int open_admin(struct master *m, struct inherited *in,
		      struct fault *fault)
{
	const struct conf *conf = m->now->conf;

	if (conf->main.admin_socket[0] == '\0')
		return 0;
	m->admin_fd = inherited_take_unix(in, conf->main.admin_socket);
	m->admin_inherited = m->admin_fd >= 0;
	if (m->admin_inherited)
		return 0;
	return prepare_admin(conf, &m->who, &m->admin_fd, fault);
}

static int open_shared(struct master *m, struct fault *fault)
{
	int rc = segment_open(&m->seg);

	if (rc == 0)
		rc = inboxes_open(&m->ipc);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_FAILURE,
				 "shared memory and inboxes: %s",
				 strerror(-rc));
	return 0;
}

static void note_start(struct master *m, uint64_t now_ms)
{
	struct segment_proc *row = &m->seg->procs[SEGMENT_PROC_MASTER];
	uint64_t usec = 0;

	atomic_store(&row->pid, (uint32_t)getpid());
	atomic_store(&row->since_ms, now_ms);
	if (sd_watchdog_enabled(0, &usec) > 0)
		m->watchdog_ms = max_u64(usec / 2000, 1);
	log_info("ev=start version=%s pid=%d", PACKAGE_VERSION, (int)getpid());
	if (m->now->conf->main.user[0] != '\0' && !m->who.change)
		log_warning("ev=user_kept reason=\"not started by root, "
			    "[main] user is of no effect\"");
	if (m->who.uid == 0)
		log_warning("ev=runs_as_root reason=\"[main] user is empty\"");
}

/* Everything before the first fork.  What was opened is closed by close_all,
 * also after a failure. */
static int open_all(struct master *m, struct fault *fault)
{
	const struct conf *conf = m->opts->conf;
	struct inherited in;
	int rc = open_signals(m, fault);

	if (rc == 0)
		rc = inherited_take(&in, fault);
	if (rc < 0) {
		conf_free(m->opts->conf);
		return rc;
	}
	rc = prepare_identity(conf, &m->who, fault);
	if (rc == 0)
		rc = prepare_resolver_identity(conf, &m->who, &m->resolver_who,
					       fault);
	if (rc < 0)
		conf_free(m->opts->conf);
	else
		rc = setup_new(&m->now, m->opts->conf, NULL, &in, &m->who,
			       fault);
	if (rc == 0) {
		setup_apply(m->now);
		rc = prepare_cache(m->now->conf, &m->who, CACHE_WAIT_MS,
				   &m->lock_fd, fault);
	}
	if (rc == 0)
		rc = prepare_resolved(m->now->conf, &m->resolver_who, fault);
	if (rc == 0)
		rc = open_admin(m, &in, fault);
	if (rc == 0)
		rc = open_shared(m, fault);
	inherited_close(&in);
	return rc;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

static void close_all(struct master *m)
{
	if (m->now != NULL && !m->admin_inherited)
		prepare_remove_admin(m->now->conf, m->admin_fd);
	close_fd(m->admin_fd);
	if (m->seg != NULL) {
		inboxes_close(&m->ipc);
		segment_close(m->seg);
	}
	setup_free(m->before);
	setup_free(m->now);
	close_fd(m->lock_fd);
	close_fd(m->signal_fd);
}

int master_run(const struct master_opts *opts)
{
	struct master m = {
		.opts = opts,
		.admin_fd = -1,
		.lock_fd = -1,
		.signal_fd = -1,
		.rounds = 1,
	};
	struct supervise_ops ops = { .start = start_child,
				     .signal = signal_child,
				     .arg = &m };
	struct fault fault = { .exit_status = EXIT_FAILURE };
	char quoted[900];

	supervise_init(&m.sv, &ops, opts->times);
	if (open_all(&m, &fault) < 0) {
		log_error("ev=start_failed reason=%s",
			  log_quote(quoted, sizeof(quoted), fault.text));
		m.exit_status = fault.exit_status;
		goto not_open;
	}
	note_start(&m, clock_now_ms());
	supervise_want(&m.sv, PROC_PREFETCHER, m.now->round, 0, clock_now_ms());
	supervise_want(&m.sv, PROC_RESOLVER, m.now->round, 0, clock_now_ms());
	run_loop(&m);
	log_info("ev=stopped status=%d", m.exit_status);

not_open:
	close_all(&m);
	return m.exit_status;
}

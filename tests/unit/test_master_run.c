/*
 * A whole master with small children of the test's own: start, deaths,
 * reload, stop, systemd.  Nothing here sleeps: it waits for a word in the
 * log, or for a process to be gone, with a deadline.
 *
 * The small worker greets each connection with "SLOT PID\n", holds it until its
 * client closes, and says in the segment that somebody reads.  The small
 * prefetcher greets on the admin socket, with ADMIN_SLOT + how many workers
 * say so.  What they shall do wrong stands in [upstream] user_agent.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "ipc/child.h"
#include "master/master.h"
#include "util/clock.h"
#include "util/log.h"

#define DEADLINE_MS 20000u
#define CONNECTIONS 32
#define ADMIN_SLOT  900u

/* ---- small children ------------------------------------------------------ */

static void say_ready(const struct child *self)
{
	struct child_ready ready = { CHILD_READY, (uint32_t)getpid() };

	if (inbox_send(self->ipc->master.tx, &ready, sizeof(ready)) < 0)
		_exit(1);
}

static int open_child_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static bool shall(const struct child *self, const char *what)
{
	return strcmp(self->conf->upstream.user_agent, what) == 0;
}

static int read_signal(int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		_exit(1);
	if (info.ssi_signo == SIGUSR1) {
		if (log_reopen() < 0)
			_exit(1);
		log_info("ev=child_reopened");
	}
	return (int)info.ssi_signo;
}

static void greet(int fd, uint32_t slot)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "%u %d\n", slot, (int)getpid());

	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
		_exit(1);
}

/* Workers whose row says that somebody reads. */
static uint32_t count_readers(const struct child *self)
{
	uint32_t n = 0;

	for (uint32_t slot = 0; slot < SEGMENT_WORKERS; slot++)
		if (atomic_load(
			    &self->seg->workers[slot].readers[0].object_no) !=
		    0)
			n++;
	return n;
}

static int small_resolver(const struct child *self)
{
	struct pollfd p = { .fd = open_child_signals(), .events = POLLIN };

	say_ready(self);
	for (;;) {
		if (poll(&p, 1, -1) < 0)
			return 1;
		if (read_signal(p.fd) == SIGTERM)
			return 0;
	}
}

static int small_prefetcher(const struct child *self)
{
	struct pollfd p[2] = { { .fd = -1, .events = POLLIN },
			       { .fd = self->admin_fd, .events = POLLIN } };

	if (shall(self, "prefetcher-78"))
		return 78;
	p[0].fd = open_child_signals();
	if (!shall(self, "prefetcher-mute"))
		say_ready(self);
	for (;;) {
		if (poll(p, 2, -1) < 0)
			return 1;
		if (p[0].revents != 0 && read_signal(p[0].fd) == SIGTERM &&
		    !shall(self, "prefetcher-deaf"))
			return 0;
		if (p[1].revents != 0) {
			int fd = accept(p[1].fd, NULL, NULL);

			if (fd >= 0)
				greet(fd, ADMIN_SLOT + count_readers(self));
			if (fd >= 0)
				close(fd);
		}
	}
}

static void note_reader(const struct child *self)
{
	struct segment_worker *row = &self->seg->workers[self->slot];

	atomic_store(&row->readers[0].object_no, 7);
	atomic_store(&row->readers_top, 1);
}

static int small_worker(const struct child *self)
{
	struct pollfd p[1 + 16 + CONNECTIONS];
	size_t listens = self->listen_count;
	size_t n = 0;
	size_t held = 0;

	if (shall(self, "worker-78"))
		return 78;
	if (listens > 16)
		return 1;
	p[n++] = (struct pollfd){ open_child_signals(), POLLIN, 0 };
	for (size_t i = 0; i < listens; i++)
		p[n++] = (struct pollfd){ self->listen_fds[i], POLLIN, 0 };
	for (size_t i = 0; i < CONNECTIONS; i++)
		p[n++] = (struct pollfd){ -1, POLLIN, 0 };
	say_ready(self);
	while (listens > 0 || held > 0) {
		if (poll(p, n, -1) < 0)
			return 1;
		if (p[0].revents != 0) {
			int signo = read_signal(p[0].fd);

			if (signo == SIGTERM)
				return 0;
			for (size_t i = 0; signo == SIGQUIT && i < listens;
			     i++) {
				close(p[1 + i].fd);
				p[1 + i].fd = -1;
			}
			if (signo == SIGQUIT)
				listens = 0;
		}
		for (size_t i = 1 + listens; i < n; i++)
			if (p[i].fd >= 0 && p[i].revents != 0) {
				close(p[i].fd);
				p[i].fd = -1;
				held--;
			}
		for (size_t i = 0; i < listens; i++) {
			int fd = p[1 + i].revents != 0
					 ? accept(p[1 + i].fd, NULL, NULL)
					 : -1;

			for (size_t k = 1 + listens; fd >= 0 && k < n; k++)
				if (p[k].fd < 0) {
					note_reader(self);
					greet(fd, self->slot);
					p[k].fd = fd;
					held++;
					fd = -1;
				}
		}
	}
	return 0;
}

/* ---- the world around it ------------------------------------------------- */

struct world {
	char folder[64];
	char conf_path[128];
	char log_path[128];
	char admin_path[128];
	char options[1024]; /* lines of [main], then other sections */
	char agent[64];
	pid_t master;
	uint16_t port;
	int notify_fd; /* -1 = none */
	long log_from; /* log words before are old */
	int listen_fd; /* given as LISTEN_FDS; -1 = none */
	struct supervise_times times;
};

static void write_conf(const struct world *w, const char *main_lines,
		       const char *sections)
{
	FILE *f = fopen(w->conf_path, "w");

	assert_non_null(f);
	fprintf(f,
		"[main]\nworkers = 2\nerror_log = %s\nadmin_socket = %s\n%s\n"
		"[cache]\npath = %s/cache\n"
		"[upstream]\nuser_agent = %s\n"
		"[listen:a]\naddress = 127.0.0.1:%u\n"
		"[source:s]\nurl = http://127.0.0.1/{id}\n%s\n",
		w->log_path, w->admin_path, main_lines, w->folder, w->agent,
		w->port, sections);
	assert_int_equal(fclose(f), 0);
}

static char *read_log(const struct world *w)
{
	static char text[1 << 16];
	FILE *f = fopen(w->log_path, "r");
	size_t n = 0;

	if (f != NULL) {
		(void)fseek(f, w->log_from, SEEK_SET);
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	return text;
}

static unsigned count_words(const struct world *w, const char *word)
{
	unsigned n = 0;

	for (const char *at = read_log(w); (at = strstr(at, word)) != NULL;
	     at += strlen(word))
		n++;
	return n;
}

static void wait_words(struct world *w, const char *word, unsigned times)
{
	uint64_t until_ms = clock_now_ms() + DEADLINE_MS;

	while (count_words(w, word) < times) {
		if (clock_now_ms() > until_ms)
			fail_msg("no %u x '%s' in:\n%s", times, word,
				 read_log(w));
		(void)poll(NULL, 0, 10);
	}
}

static void wait_word(struct world *w, const char *word)
{
	wait_words(w, word, 1);
}

/* What was logged until now does not count any more. */
static void forget_log(struct world *w)
{
	struct stat st;

	w->log_from = stat(w->log_path, &st) == 0 ? (long)st.st_size : 0;
}

static uint16_t free_port(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t bytes = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &bytes), 0);
	close(fd);
	return ntohs(sin.sin_port);
}

static void open_world(struct world *w)
{
	memset(w, 0, sizeof(*w));
	(void)snprintf(w->folder, sizeof(w->folder), "%s",
		       "/tmp/test_master_run.XXXXXX");
	assert_non_null(mkdtemp(w->folder));
	assert_int_equal(chmod(w->folder, 0755), 0);
	(void)snprintf(w->conf_path, sizeof(w->conf_path), "%s/c.ini",
		       w->folder);
	(void)snprintf(w->log_path, sizeof(w->log_path), "%s/log", w->folder);
	(void)snprintf(w->admin_path, sizeof(w->admin_path), "%s/run/a.sock",
		       w->folder);
	(void)snprintf(w->agent, sizeof(w->agent), "good");
	w->port = free_port();
	w->notify_fd = -1;
	w->listen_fd = -1;
	w->times = supervise_times_default;
	write_conf(w, "", "");
}

static void open_notify(struct world *w)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%.90s/notify",
		       w->folder);
	w->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		bind(w->notify_fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", sun.sun_path, 1), 0);
}

static void expect_notify(const struct world *w, const char *text)
{
	struct pollfd p = { w->notify_fd, POLLIN, 0 };
	char got[1024];
	ssize_t n;

	do {
		if (poll(&p, 1, DEADLINE_MS) != 1)
			fail_msg("no notification %s", text);
		n = recv(w->notify_fd, got, sizeof(got) - 1, 0);
		assert_true(n >= 0);
		got[n] = '\0';
	} while (strstr(got, text) == NULL);
}

static void pass_sockets(const struct world *w)
{
	char text[16];

	if (w->listen_fd < 0)
		return;
	if (dup2(w->listen_fd, 3) != 3)
		_exit(99);
	(void)snprintf(text, sizeof(text), "%d", (int)getpid());
	(void)setenv("LISTEN_PID", text, 1);
	(void)setenv("LISTEN_FDS", "1", 1);
	(void)setenv("LISTEN_FDNAMES", "web", 1);
}

/* The other half of main(). */
static int run_master(const struct world *w)
{
	struct master_opts opts = { .conf_path = w->conf_path,
				    .prefetcher = small_prefetcher,
				    .resolver = small_resolver,
				    .worker = small_worker,
				    .times = &w->times };
	struct conf_fault fault;

	if (conf_load(w->conf_path, &opts.conf, &fault) < 0) {
		fprintf(stderr, "%s\n", fault.text);
		return 98;
	}
	/* before the log is set up, into the same file */
	if (log_open(w->log_path, LOG_LEVEL_DEBUG, "master") < 0)
		return 97;
	return master_run(&opts);
}

static void start(struct world *w)
{
	(void)fflush(NULL);
	w->master = fork();
	assert_true(w->master >= 0);
	if (w->master == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		pass_sockets(w);
		exit(run_master(w));
	}
}

/* What a failed test has left running must not trouble the next one: kills
 * our children, and theirs, which become ours. */
static int end_all(void **state)
{
	uint64_t until_ms = clock_now_ms() + DEADLINE_MS;

	(void)state;
	while (waitpid(-1, NULL, WNOHANG) >= 0 && clock_now_ms() < until_ms) {
		FILE *f = fopen("/proc/thread-self/children", "r");
		int pid;

		while (f != NULL && fscanf(f, "%d", &pid) == 1)
			(void)kill((pid_t)pid, SIGKILL);
		if (f != NULL)
			fclose(f);
		(void)poll(NULL, 0, 10);
	}
	return 0;
}

static void start_ready(struct world *w)
{
	start(w);
	wait_word(w, "ev=ready");
}

/* The master's exit status; no child of its may be left. */
static int join(struct world *w)
{
	uint64_t until_ms = clock_now_ms() + DEADLINE_MS;
	int result = -1;

	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid < 0) /* nobody left: orphans are ours, too */
			break;
		if (pid == w->master)
			result = WIFEXITED(status) ? WEXITSTATUS(status)
						   : 1000 + WTERMSIG(status);
		if (clock_now_ms() > until_ms)
			fail_msg("processes are left:\n%s", read_log(w));
		if (pid == 0)
			(void)poll(NULL, 0, 10);
	}
	w->master = 0;
	return result;
}

static void close_world(struct world *w)
{
	char command[128];

	assert_int_equal(w->master, 0);
	if (w->notify_fd >= 0)
		close(w->notify_fd);
	if (w->listen_fd >= 0)
		close(w->listen_fd);
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", w->folder);
	assert_int_equal(system(command), 0);
}

static void stop(struct world *w)
{
	assert_int_equal(kill(w->master, SIGTERM), 0);
	assert_int_equal(join(w), 0);
}

struct greeting {
	int fd;
	unsigned slot;
	pid_t pid;
};

static struct greeting read_greeting(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	struct greeting g = { .fd = fd };
	char line[64];
	ssize_t n;
	int pid;

	if (poll(&p, 1, DEADLINE_MS) != 1)
		fail_msg("no greeting");
	n = recv(fd, line, sizeof(line) - 1, 0);
	if (n <= 0)
		fail_msg("no greeting but %zd", n);
	line[n] = '\0';
	assert_int_equal(sscanf(line, "%u %d", &g.slot, &pid), 2);
	g.pid = (pid_t)pid;
	return g;
}

static int connect_port(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static struct greeting visit_port(uint16_t port)
{
	int fd = connect_port(port);

	assert_true(fd >= 0);
	return read_greeting(fd);
}

static struct greeting visit(const struct world *w)
{
	return visit_port(w->port);
}

static struct greeting visit_admin(const struct world *w)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct greeting g;

	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s",
		       w->admin_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	g = read_greeting(fd);
	close(fd);
	return g;
}

/* Visits until each of the two workers has answered. */
static void visit_both(const struct world *w, pid_t pids[2])
{
	pids[0] = pids[1] = 0;
	for (int i = 0; i < 200 && (pids[0] == 0 || pids[1] == 0); i++) {
		struct greeting g = visit(w);

		assert_true(g.slot < 2);
		pids[g.slot] = g.pid;
		close(g.fd);
	}
	assert_true(pids[0] > 0 && pids[1] > 0);
	assert_int_not_equal(pids[0], pids[1]);
}

static bool runs(pid_t pid)
{
	return kill(pid, 0) == 0;
}

/* ---- tests --------------------------------------------------------------- */

static void test_start_and_stop(void **state)
{
	char path[64];
	char name[128] = "";
	struct world w;
	pid_t pids[2];
	FILE *f;

	(void)state;
	open_world(&w);
	start_ready(&w);
	visit_both(&w, pids);
	assert_true(visit_admin(&w).slot >= ADMIN_SLOT);
	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pids[1]);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(name, sizeof(name), f));
	fclose(f);
	assert_string_equal(name, "reel-worker-1\n");
	stop(&w);
	assert_int_equal(access(w.admin_path, F_OK), -1);
	assert_int_equal(count_words(&w, "ev=child_died"), 0);
	assert_int_equal(connect_port(w.port), -1);
	close_world(&w);
}

static void test_worker_killed(void **state)
{
	struct world w;
	pid_t pids[2];
	pid_t again[2];
	int waiting[16];

	(void)state;
	open_world(&w);
	start_ready(&w);
	visit_both(&w, pids);
	/* connections that a stopped worker has not accepted are served by its
	 * successor */
	assert_int_equal(kill(pids[0], SIGSTOP), 0);
	for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
		waiting[i] = connect_port(w.port);
		assert_true(waiting[i] >= 0);
	}
	assert_int_equal(kill(pids[0], SIGKILL), 0);
	for (size_t i = 0; i < ARRAY_LEN(waiting); i++)
		close(read_greeting(waiting[i]).fd);
	wait_word(&w, "ev=child_died name=worker-0");
	wait_words(&w, "ev=child_ready name=worker-0", 2);
	visit_both(&w, again);
	assert_int_not_equal(again[0], pids[0]);
	assert_int_equal(again[1], pids[1]);
	assert_int_equal(count_words(&w, "signal=9"), 1);
	stop(&w);
	close_world(&w);
}

static void test_prefetcher_killed(void **state)
{
	struct world w;
	pid_t pids[2];
	pid_t again[2];
	pid_t first;

	(void)state;
	open_world(&w);
	start_ready(&w);
	visit_both(&w, pids);
	first = visit_admin(&w).pid;
	assert_int_equal(kill(first, SIGKILL), 0);
	wait_words(&w, "ev=child_ready name=prefetcher", 2);
	assert_int_not_equal(visit_admin(&w).pid, first);
	visit_both(&w, again);
	assert_memory_equal(pids, again, sizeof(pids));
	stop(&w);
	close_world(&w);
}

static void test_readers_of_the_dead(void **state)
{
	struct world w;
	pid_t pids[2];

	(void)state;
	open_world(&w);
	start_ready(&w);
	visit_both(&w, pids);
	assert_int_equal(visit_admin(&w).slot, ADMIN_SLOT + 2);
	assert_int_equal(kill(pids[1], SIGKILL), 0);
	wait_words(&w, "ev=child_ready name=worker-1", 2);
	assert_int_equal(visit_admin(&w).slot, ADMIN_SLOT + 1);
	stop(&w);
	close_world(&w);
}

static void test_backoff(void **state)
{
	struct world w;

	(void)state;
	open_world(&w);
	start_ready(&w);
	for (unsigned i = 0; i < 3; i++) {
		struct greeting g = visit_admin(&w);

		assert_int_equal(kill(g.pid, SIGKILL), 0);
		wait_words(&w, "ev=child_ready name=prefetcher", i + 2);
	}
	assert_int_equal(count_words(&w, "restart_in_ms=0 "), 1);
	assert_int_equal(count_words(&w, "restart_in_ms=100 "), 1);
	assert_int_equal(count_words(&w, "restart_in_ms=200 "), 1);
	stop(&w);
	close_world(&w);
}

static void test_master_killed(void **state)
{
	struct world w;
	struct greeting g;

	(void)state;
	open_world(&w);
	start_ready(&w);
	g = visit(&w);
	assert_int_equal(kill(w.master, SIGKILL), 0);
	assert_int_equal(join(&w), 1000 + SIGKILL);
	close(g.fd);
	/* the next one starts in spite of the socket that is left behind */
	forget_log(&w);
	start_ready(&w);
	close(visit(&w).fd);
	stop(&w);
	close_world(&w);
}

static void test_not_ready_in_time(void **state)
{
	struct world w;

	(void)state;
	open_world(&w);
	(void)snprintf(w.agent, sizeof(w.agent), "prefetcher-mute");
	w.times.ready_ms = 150;
	write_conf(&w, "", "");
	start(&w);
	wait_words(&w, "reason=not-ready-in-time", 2);
	assert_int_equal(count_words(&w, "ev=ready"), 0);
	assert_int_equal(count_words(&w, "name=worker-"), 0);
	stop(&w);
	close_world(&w);
}

static void test_start_with_status_78(void **state)
{
	static const char *const agents[] = { "prefetcher-78", "worker-78" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
		struct world w;

		open_world(&w);
		(void)snprintf(w.agent, sizeof(w.agent), "%s", agents[i]);
		write_conf(&w, "", "");
		start(&w);
		assert_int_equal(join(&w), 78);
		assert_int_equal(count_words(&w, "ev=start_failed"), 1);
		assert_int_equal(count_words(&w, "ev=ready"), 0);
		close_world(&w);
	}
}

static void test_reload(void **state)
{
	struct world w;
	struct greeting held;
	struct greeting g;
	pid_t pids[2];
	pid_t prefetcher;
	uint16_t second = free_port();
	char more[128];

	(void)state;
	open_world(&w);
	start_ready(&w);
	visit_both(&w, pids);
	prefetcher = visit_admin(&w).pid;
	held = visit(&w);
	(void)snprintf(more, sizeof(more),
		       "[listen:b]\naddress = 127.0.0.1:%u\n", second);
	write_conf(&w, "shutdown_timeout = 20s", more);
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reloaded");
	assert_int_equal(runs(prefetcher), 0);
	g = visit_port(second);
	close(g.fd);
	for (int i = 0; i < 50; i++) {
		g = visit(&w);
		/* one that drains has closed its sockets when it has read our
		 * QUIT; until then it may still answer */
		if (g.pid == pids[0] || g.pid == pids[1])
			i = i > 0 ? i - 1 : 0;
		close(g.fd);
	}
	assert_int_equal(runs(held.pid), 1); /* it finishes what it began */
	close(held.fd);
	wait_words(&w, "ev=child_ended name=worker-", 2);
	assert_int_equal(count_words(&w, "ev=child_died"), 0);
	/* and back, with other workers */
	forget_log(&w);
	write_conf(&w, "", "");
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reloaded");
	wait_words(&w, "ev=child_ended name=worker-", 2);
	assert_int_equal(connect_port(second), -1);
	stop(&w);
	close_world(&w);
}

static void test_reload_under_load(void **state)
{
	struct world w;
	unsigned visits = 0;

	(void)state;
	open_world(&w);
	start_ready(&w);
	for (int i = 0; i < 3; i++) {
		forget_log(&w);
		assert_int_equal(kill(w.master, SIGHUP), 0);
		while (count_words(&w, "ev=reloaded") == 0) {
			close(visit(&w).fd); /* fails if one is refused */
			visits++;
		}
		close(visit(&w).fd);
	}
	assert_true(visits > 0);
	stop(&w);
	close_world(&w);
}

static void test_reload_refused(void **state)
{
	struct world w;
	pid_t pids[2];
	pid_t again[2];
	pid_t prefetcher;
	char main_lines[128];

	(void)state;
	open_world(&w);
	open_notify(&w);
	start_ready(&w);
	expect_notify(&w, "READY=1");
	visit_both(&w, pids);
	prefetcher = visit_admin(&w).pid;

	write_conf(&w, "no_such_option = 1", "");
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reload_refused");
	assert_non_null(strstr(read_log(&w), "c.ini:5: "));
	expect_notify(&w, "RELOADING=1");
	expect_notify(&w, "READY=1\nSTATUS=Reload refused: ");

	/* an option that only a new start can change */
	forget_log(&w);
	(void)snprintf(w.admin_path, sizeof(w.admin_path), "%s/run/b.sock",
		       w.folder);
	write_conf(&w, "", "");
	(void)snprintf(w.admin_path, sizeof(w.admin_path), "%s/run/a.sock",
		       w.folder);
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reload_refused");
	assert_non_null(strstr(read_log(&w), "admin_socket"));

	/* a socket that cannot be opened */
	forget_log(&w);
	(void)snprintf(main_lines, sizeof(main_lines),
		       "[listen:b]\naddress = 192.0.2.1:80\n");
	write_conf(&w, "", main_lines);
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reload_refused");
	assert_non_null(strstr(read_log(&w), "[listen:b]"));

	/* no file at all */
	forget_log(&w);
	assert_int_equal(unlink(w.conf_path), 0);
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reload_refused");

	assert_int_equal(visit_admin(&w).pid, prefetcher);
	visit_both(&w, again);
	assert_memory_equal(pids, again, sizeof(pids));
	stop(&w);
	expect_notify(&w, "STOPPING=1");
	close_world(&w);
}

static void test_reload_taken_back(void **state)
{
	static const char *const agents[] = { "prefetcher-78", "worker-78",
					      "prefetcher-mute" };
	struct world w;
	pid_t pids[2];
	pid_t again[2];

	(void)state;
	open_world(&w);
	w.times.ready_ms = 1000;
	start_ready(&w);
	visit_both(&w, pids);
	for (size_t i = 0; i < ARRAY_LEN(agents); i++) {
		forget_log(&w);
		(void)snprintf(w.agent, sizeof(w.agent), "%s", agents[i]);
		write_conf(&w, "", "");
		assert_int_equal(kill(w.master, SIGHUP), 0);
		wait_word(&w, "ev=reload_refused");
		wait_word(&w, "ev=reloaded"); /* the old one is in force */
		assert_true(visit_admin(&w).slot >= ADMIN_SLOT);
		visit_both(&w, again);
		assert_memory_equal(pids, again, sizeof(pids));
	}
	/* and a good file is still taken */
	forget_log(&w);
	(void)snprintf(w.agent, sizeof(w.agent), "good");
	write_conf(&w, "", "");
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reloaded");
	assert_int_equal(count_words(&w, "ev=reload_refused"), 0);
	stop(&w);
	close_world(&w);
}

static void test_drain_has_a_limit(void **state)
{
	struct world w;
	struct greeting held;
	uint64_t began_ms;

	(void)state;
	open_world(&w);
	write_conf(&w, "shutdown_timeout = 300ms", "");
	start_ready(&w);
	held = visit(&w);
	began_ms = clock_now_ms();
	stop(&w);
	assert_true(clock_now_ms() - began_ms >= 290);
	close(held.fd);
	close_world(&w);
}

static void test_drain_waits(void **state)
{
	struct world w;
	struct greeting held;

	(void)state;
	open_world(&w);
	start_ready(&w);
	held = visit(&w);
	assert_int_equal(kill(w.master, SIGTERM), 0);
	wait_word(&w, "ev=stopping");
	wait_word(&w, "ev=child_ended name=worker-"); /* the idle one */
	assert_int_equal(runs(held.pid), 1);
	assert_int_equal(count_words(&w, "ev=child_ended name=prefetcher"), 0);
	close(held.fd);
	assert_int_equal(join(&w), 0);
	assert_int_equal(count_words(&w, "ev=child_ended name=prefetcher"), 1);
	close_world(&w);
}

static void test_second_term(void **state)
{
	struct world w;
	struct greeting held;
	uint64_t began_ms = clock_now_ms();

	(void)state;
	open_world(&w);
	start_ready(&w);
	held = visit(&w);
	assert_int_equal(kill(w.master, SIGTERM), 0);
	wait_word(&w, "ev=stopping");
	stop(&w);
	assert_int_equal(count_words(&w, "ev=stopping_now"), 1);
	assert_true(clock_now_ms() - began_ms < 15000); /* not 30 s */
	close(held.fd);
	close_world(&w);
}

static void test_deaf_child(void **state)
{
	struct world w;

	(void)state;
	open_world(&w);
	(void)snprintf(w.agent, sizeof(w.agent), "prefetcher-deaf");
	write_conf(&w, "", "");
	start_ready(&w);
	assert_int_equal(kill(w.master, SIGTERM), 0);
	wait_word(&w, "ev=stopping");
	stop(&w);
	assert_int_equal(count_words(&w, "ev=child_ended name=prefetcher pid="),
			 1);
	assert_int_equal(count_words(&w, "signal=9"), 1);
	close_world(&w);
}

static void test_logs_reopened(void **state)
{
	struct world w;
	char old[160];

	(void)state;
	open_world(&w);
	start_ready(&w);
	(void)snprintf(old, sizeof(old), "%s.1", w.log_path);
	assert_int_equal(rename(w.log_path, old), 0);
	w.log_from = 0;
	assert_int_equal(kill(w.master, SIGUSR1), 0);
	wait_word(&w, "ev=log_reopened");
	wait_words(&w, "ev=child_reopened", 3);
	stop(&w);
	assert_int_equal(count_words(&w, "ev=stopped"), 1);
	close_world(&w);
}

static void test_systemd(void **state)
{
	struct world w;

	(void)state;
	open_world(&w);
	open_notify(&w);
	assert_int_equal(setenv("WATCHDOG_USEC", "100000", 1), 0);
	start(&w);
	expect_notify(&w, "READY=1\nSTATUS=Serving with 2 workers");
	expect_notify(&w, "WATCHDOG=1");
	expect_notify(&w, "WATCHDOG=1");
	assert_int_equal(kill(w.master, SIGHUP), 0);
	expect_notify(&w, "RELOADING=1\nMONOTONIC_USEC=");
	expect_notify(&w, "READY=1");
	stop(&w);
	expect_notify(&w, "STOPPING=1");
	close_world(&w);
}

static void listen_for(struct world *w, bool reuseport)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(w->port) };
	int on = 1;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (reuseport)
		assert_int_equal(setsockopt(w->listen_fd, SOL_SOCKET,
					    SO_REUSEPORT, &on, sizeof(on)),
				 0);
	assert_int_equal(
		bind(w->listen_fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(w->listen_fd, 16), 0);
}

static void test_listen_fds(void **state)
{
	(void)state;
	for (int reuseport = 0; reuseport < 2; reuseport++) {
		struct world w;
		pid_t pids[2] = { 0, 0 };

		open_world(&w);
		listen_for(&w, reuseport != 0);
		start_ready(&w);
		/* the master's copy must be the only one, or ours is a black
		 * hole of the group */
		close(w.listen_fd);
		w.listen_fd = -1;
		assert_int_equal(count_words(&w, "inherited=yes"), 1);
		assert_int_equal(count_words(&w, reuseport != 0 ? "sockets=2 "
								: "sockets=1 "),
				 1);
		if (reuseport != 0)
			visit_both(&w, pids);
		else
			for (int i = 0; i < 20; i++)
				close(visit(&w).fd);
		/* it stays over a reload */
		assert_int_equal(kill(w.master, SIGHUP), 0);
		wait_word(&w, "ev=reloaded");
		for (int i = 0; i < 20; i++)
			close(visit(&w).fd);
		stop(&w);
		close_world(&w);
	}
}

static void test_listen_fds_unasked(void **state)
{
	struct world w;
	uint16_t other;

	(void)state;
	open_world(&w);
	listen_for(&w, true);
	other = w.port;
	w.port = free_port();
	write_conf(&w, "", "");
	start_ready(&w);
	close(w.listen_fd);
	w.listen_fd = -1;
	close(visit_port(w.port).fd);
	for (int i = 0; i < 20; i++)
		close(visit_port(other).fd);
	assert_int_equal(kill(w.master, SIGHUP), 0);
	wait_word(&w, "ev=reloaded");
	for (int i = 0; i < 20; i++)
		close(visit_port(other).fd);
	stop(&w);
	close_world(&w);
}

static unsigned status_number(pid_t pid, const char *key)
{
	char path[64];
	char line[256];
	unsigned value = UINT32_MAX;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			value = (unsigned)strtoul(line + strlen(key), NULL, 10);
	fclose(f);
	return value;
}

static void test_privileges(void **state)
{
	struct world w;
	struct greeting g;
	struct stat st;

	(void)state;
	open_world(&w);
	write_conf(&w, "user = nobody\n", "");
	start_ready(&w);
	g = visit(&w);
	assert_int_equal(status_number(g.pid, "NoNewPrivs:"), 1);
	if (geteuid() == 0) {
		unsigned nobody = status_number(g.pid, "Uid:");

		assert_int_equal(nobody, 65534);
		assert_int_not_equal(status_number(g.pid, "Gid:"), 0);
		assert_int_equal(status_number(visit_admin(&w).pid, "Uid:"),
				 nobody);
		assert_int_equal(stat(w.admin_path, &st), 0);
		assert_int_equal(st.st_uid, nobody);
		/* its owner can open it again */
		assert_int_equal(stat(w.log_path, &st), 0);
		assert_int_equal(kill(w.master, SIGKILL), 0);
		/* TERM at the master's death survives the change of user */
		assert_int_equal(join(&w), 1000 + SIGKILL);
	} else {
		assert_int_equal(count_words(&w, "ev=user_kept"), 1);
		stop(&w);
	}
	close(g.fd);
	close_world(&w);
}

static void test_faults_at_start(void **state)
{
	struct world w;

	(void)state;
	open_world(&w);
	write_conf(&w, "user = no-such-user-here\n", "");
	start(&w);
	assert_int_equal(join(&w), 78);
	assert_int_equal(count_words(&w, "ev=start_failed"), 1);
	/* the address is taken */
	write_conf(&w, "", "");
	forget_log(&w);
	listen_for(&w, true);
	w.master = fork();
	if (w.master == 0)
		exit(run_master(&w));
	assert_int_equal(join(&w), 1);
	assert_non_null(strstr(read_log(&w), "[listen:a]"));
	close_world(&w);
}

static void test_own_descriptors_only(void **state)
{
	struct world w;
	struct greeting g;
	char command[256];

	(void)state;
	open_world(&w);
	write_conf(&w, "", "");
	start_ready(&w);
	g = visit(&w);
	/* of the two listening sockets one, and of all inboxes and bells five:
	 * own inbox, to prefetcher, resolver and master, own bell */
	(void)snprintf(command, sizeof(command),
		       "test $(ls -l /proc/%d/fd | grep -c socket:) -le 8",
		       (int)g.pid);
	assert_int_equal(system(command), 0);
	close(g.fd);
	stop(&w);
	close_world(&w);
}

#define TEST(name) cmocka_unit_test_teardown(name, end_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_start_and_stop),
		TEST(test_worker_killed),
		TEST(test_prefetcher_killed),
		TEST(test_readers_of_the_dead),
		TEST(test_backoff),
		TEST(test_master_killed),
		TEST(test_not_ready_in_time),
		TEST(test_start_with_status_78),
		TEST(test_reload),
		TEST(test_reload_under_load),
		TEST(test_reload_refused),
		TEST(test_reload_taken_back),
		TEST(test_drain_has_a_limit),
		TEST(test_drain_waits),
		TEST(test_second_term),
		TEST(test_deaf_child),
		TEST(test_logs_reopened),
		TEST(test_systemd),
		TEST(test_listen_fds),
		TEST(test_listen_fds_unasked),
		TEST(test_privileges),
		TEST(test_faults_at_start),
		TEST(test_own_descriptors_only),
	};

	/* orphans come to us, so that none goes unnoticed */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "master/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "master/certificates.h"
#include "master/title.h"
#include "util/log.h"

const char *spawn_name(uint32_t no)
{
	static char name[32];

	if (no == SEGMENT_PROC_MASTER)
		return "master";
	if (no == SEGMENT_PROC_PREFETCHER)
		return "prefetcher";
	if (no == SEGMENT_PROC_RESOLVER)
		return "resolver";
	(void)snprintf(name, sizeof(name), "worker-%u",
		       no - SEGMENT_PROC_WORKER0);
	return name;
}

static void set_titles(uint32_t no)
{
	char short_name[16];
	char long_name[64];

	if (no == SEGMENT_PROC_PREFETCHER)
		(void)snprintf(short_name, sizeof(short_name), "reel-prefetch");
	else
		(void)snprintf(short_name, sizeof(short_name), "reel-%.10s",
			       spawn_name(no));
	(void)snprintf(long_name, sizeof(long_name), "reelcache: %s",
		       spawn_name(no));
	title_set(short_name, long_name);
	log_set_who(spawn_name(no));
}

static void reset_signals(void)
{
	static const int ignored[] = { SIGINT, SIGHUP, SIGUSR1, SIGUSR2,
				       SIGPIPE };
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		(void)signal(signo, SIG_DFL);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		(void)signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static void keep_worker_ends(struct inboxes *ipc, uint32_t slot)
{
	close_fd(&ipc->prefetcher.rx);
	close_fd(&ipc->resolver.rx);
	for (uint32_t n = 0; n < SEGMENT_WORKERS; n++) {
		if (n == slot)
			continue;
		close_fd(&ipc->workers[n].rx);
		close_fd(&ipc->workers[n].tx);
		close_fd(&ipc->bells[n]);
	}
}

static void keep_prefetcher_ends(struct inboxes *ipc)
{
	close_fd(&ipc->resolver.rx);
	for (uint32_t n = 0; n < SEGMENT_WORKERS; n++)
		close_fd(&ipc->workers[n].rx);
}

static void keep_resolver_ends(struct inboxes *ipc)
{
	close_fd(&ipc->prefetcher.rx);
	for (uint32_t n = 0; n < SEGMENT_WORKERS; n++) {
		close_fd(&ipc->workers[n].rx);
		close_fd(&ipc->bells[n]);
	}
}

static int confine(const struct spawn *what, pid_t master_pid)
{
	int rc = prepare_drop_privileges(what->who);

	if (rc < 0)
		return rc;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* after the change of user, which clears it */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		return -errno;
	if (getppid() != master_pid)
		_exit(EXIT_SUCCESS); /* it died before we could be told */
	return 0;
}

NORETURN static void run_child(const struct spawn *what, pid_t master_pid)
{
	struct child self = {
		.conf = what->conf,
		.seg = what->seg,
		.ipc = what->ipc,
		.admin_fd = -1,
	};
	int admin_fd = what->admin_fd;
	int signal_fd = what->signal_fd;
	int rc;

	close_fd(&signal_fd);
	close_fd(&what->ipc->master.rx);
	sockets_close(what->other_sockets);
	certificates_free(what->other_pems, what->other_conf);
	if (what->no == SEGMENT_PROC_PREFETCHER ||
	    what->no == SEGMENT_PROC_RESOLVER)
		certificates_free(what->pems, what->conf);
	else
		self.pems = what->pems;
	if (what->no == SEGMENT_PROC_PREFETCHER) {
		sockets_close(what->sockets);
		keep_prefetcher_ends(what->ipc);
		self.admin_fd = admin_fd;
	} else if (what->no == SEGMENT_PROC_RESOLVER) {
		sockets_close(what->sockets);
		keep_resolver_ends(what->ipc);
		close_fd(&admin_fd);
	} else {
		self.slot = what->no - SEGMENT_PROC_WORKER0;
		sockets_keep_seat(what->sockets, what->seat, &self.listen_fds,
				  &self.listen_nos, &self.listen_count);
		keep_worker_ends(what->ipc, self.slot);
		close_fd(&admin_fd);
	}
	set_titles(what->no);
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	reset_signals();
	rc = confine(what, master_pid);
	if (rc < 0) {
		log_error("ev=privileges error=\"%s\"", strerror(-rc));
		_exit(EXIT_CONFIG);
	}
	exit(what->main(&self));
}

pid_t spawn_child(const struct spawn *what)
{
	pid_t master_pid = getpid();
	pid_t pid;

	(void)fflush(NULL); /* or a child writes the master's bytes again */
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		run_child(what, master_pid);
	return pid;
}

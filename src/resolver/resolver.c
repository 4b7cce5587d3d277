#include "resolver/resolver.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/conf.h"
#include "resolver/jobs.h"
#include "util/log.h"

#define TICK_MS       100
#define ASKS_PER_TURN 256

struct resolver {
	const struct child *self;
	struct event_base *base;
	struct resolver_jobs *jobs;
	struct event *inbox;
	struct event *tick;
	struct event *signals[4];
};

static void on_inbox(evutil_socket_t fd, short what UNUSED, void *arg)
{
	static _Alignas(8) uint8_t message[INBOX_MESSAGE_BYTES];
	struct resolver *rv = arg;

	for (int n = 0; n < ASKS_PER_TURN; n++) {
		ssize_t bytes = inbox_receive(fd, message, sizeof(message));

		if (bytes <= 0)
			return;
		resolver_jobs_ask(rv->jobs, message, (size_t)bytes);
	}
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct resolver *rv = arg;

	resolver_jobs_tick(rv->jobs);
}

static void on_signal(evutil_socket_t signal_no, short what UNUSED, void *arg)
{
	struct resolver *rv = arg;

	if (signal_no == SIGUSR1) {
		int rc = log_reopen();

		if (rc < 0)
			log_error("ev=log_reopen_failed errno=%d", -rc);
	} else if (signal_no == SIGCHLD) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			; /* guards: their pipes have told all */
	} else {
		event_base_loopbreak(rv->base);
	}
}

static int add_events(struct resolver *rv)
{
	static const int signals[] = { SIGTERM, SIGQUIT, SIGUSR1, SIGCHLD };
	const struct timeval every = { 0, TICK_MS * 1000 };

	for (size_t n = 0; n < ARRAY_LEN(signals); n++) {
		rv->signals[n] =
			evsignal_new(rv->base, signals[n], on_signal, rv);
		if (rv->signals[n] == NULL ||
		    event_add(rv->signals[n], NULL) < 0)
			return -ENOMEM;
	}
	rv->inbox = event_new(rv->base, rv->self->ipc->resolver.rx,
			      EV_READ | EV_PERSIST, on_inbox, rv);
	rv->tick = event_new(rv->base, -1, EV_PERSIST, on_tick, rv);
	if (rv->inbox == NULL || rv->tick == NULL ||
	    event_add(rv->inbox, NULL) < 0 || event_add(rv->tick, &every) < 0)
		return -ENOMEM;
	return 0;
}

static int tell_master(const struct child *self)
{
	struct child_ready ready = { CHILD_READY, (uint32_t)getpid() };

	return inbox_send(self->ipc->master.tx, &ready, sizeof(ready));
}

static void free_event(struct event *ev)
{
	if (ev != NULL)
		event_free(ev);
}

int resolver_main(const struct child *self)
{
	struct resolver rv = { .self = self };
	struct resolver_jobs_opts opts = { .conf = self->conf,
					   .ipc = self->ipc };
	int status = EXIT_FAILURE;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	/* workers and prefetcher, of the same group, use the table */
	(void)umask(007);
	rv.base = opts.base = event_base_new();
	if (rv.base == NULL)
		return EXIT_FAILURE;
	rc = resolver_jobs_open(&rv.jobs, &opts);
	if (rc == 0)
		rc = add_events(&rv);
	if (rc == 0)
		rc = tell_master(self);
	if (rc < 0) {
		log_error("ev=resolver_failed errno=%d why=\"%s\"", -rc,
			  strerror(-rc));
	} else {
		log_info("ev=resolver_ready");
		event_base_dispatch(rv.base);
		status = EXIT_SUCCESS;
	}
	resolver_jobs_close(rv.jobs);
	free_event(rv.tick);
	free_event(rv.inbox);
	for (size_t n = 0; n < ARRAY_LEN(rv.signals); n++)
		free_event(rv.signals[n]);
	event_base_free(rv.base);
	return status;
}

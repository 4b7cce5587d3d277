#include "prefetcher/prefetcher.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"
#include "prefetcher/admin.h"
#include "prefetcher/plan.h"
#include "prefetcher/query.h"
#include "prefetcher/schedule.h"
#include "util/clock.h"
#include "util/log.h"

#define TICK_BUSY_MS  20
#define TICK_IDLE_MS  500
#define ASKS_PER_TURN 256
#define LOCK_WAIT_MS  10000 /* a predecessor may still be committing */
#define EXIT_CONFIG   78

struct prefetcher {
	const struct child *self;
	struct event_base *base;
	struct plan *plan;
	struct admin *admin;
	struct event *inbox;
	struct event *bell;
	struct event *tick;
	bool idle; /* the tick is slow */
	struct event *signals[3];
};

static void arm_tick(struct prefetcher *pf)
{
	const struct catalog *cat = pf->plan->cat;
	struct timeval next = { 0, TICK_BUSY_MS * 1000 };

	pf->idle = pf->plan->runs == 0 && cat->checks_left == 0 &&
		   pf->plan->waiters == 0 && TAILQ_EMPTY(&cat->held) &&
		   !schedule_busy(pf->plan);
	if (pf->idle)
		next.tv_usec = TICK_IDLE_MS * 1000;
	event_add(pf->tick, &next);
}

static void take_message(struct prefetcher *pf, const void *message,
			 size_t bytes)
{
	uint32_t type = 0;

	if (bytes >= sizeof(type))
		memcpy(&type, message, sizeof(type));
	if (type == RESOLVED_TYPE)
		locator_reply(pf->plan->locator, message, bytes);
	else if (type == QUERY_TYPE)
		query_take(pf->plan, message, bytes);
	else
		plan_ask(pf->plan, message, bytes);
}

static void on_inbox(evutil_socket_t fd, short what UNUSED, void *arg)
{
	static _Alignas(8) uint8_t message[INBOX_MESSAGE_BYTES];
	struct prefetcher *pf = arg;

	for (int n = 0; n < ASKS_PER_TURN; n++) {
		ssize_t bytes = inbox_receive(fd, message, sizeof(message));

		if (bytes <= 0)
			break;
		take_message(pf, message, (size_t)bytes);
	}
	if (pf->idle) { /* there may be something to do now */
		struct timeval soon = { 0, TICK_BUSY_MS * 1000 };

		event_add(pf->tick, &soon);
		pf->idle = false; /* else each message would put it off */
	}
}

static void on_bell(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct prefetcher *pf = arg;

	catalog_reap(pf->plan->cat);
}

static void on_tick(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct prefetcher *pf = arg;

	plan_tick(pf->plan);
	arm_tick(pf);
}

static void on_signal(evutil_socket_t signal_no, short what UNUSED, void *arg)
{
	struct prefetcher *pf = arg;

	if (signal_no == SIGUSR1) {
		int rc = log_reopen();

		if (rc < 0)
			log_error("ev=log_reopen_failed errno=%d", -rc);
		return;
	}
	event_base_loopbreak(pf->base);
}

static int add_events(struct prefetcher *pf)
{
	static const int signals[] = { SIGTERM, SIGQUIT, SIGUSR1 };
	struct timeval soon = { 0, TICK_BUSY_MS * 1000 };

	for (size_t n = 0; n < ARRAY_LEN(signals); n++) {
		pf->signals[n] =
			evsignal_new(pf->base, signals[n], on_signal, pf);
		if (pf->signals[n] == NULL ||
		    event_add(pf->signals[n], NULL) < 0)
			return -ENOMEM;
	}
	pf->inbox = event_new(pf->base, pf->self->ipc->prefetcher.rx,
			      EV_READ | EV_PERSIST, on_inbox, pf);
	pf->bell = event_new(pf->base, catalog_bell(pf->plan->cat),
			     EV_READ | EV_PERSIST, on_bell, pf);
	pf->tick = evtimer_new(pf->base, on_tick, pf);
	if (pf->inbox == NULL || pf->bell == NULL || pf->tick == NULL ||
	    event_add(pf->inbox, NULL) < 0 || event_add(pf->bell, NULL) < 0 ||
	    event_add(pf->tick, &soon) < 0)
		return -ENOMEM;
	return 0;
}

static void free_event(struct event *ev)
{
	if (ev != NULL)
		event_free(ev);
}

/* A predecessor that was told to end may hold the lock for a moment. */
static int open_plan(struct prefetcher *pf)
{
	struct plan_opts opts = {
		.conf = pf->self->conf,
		.seg = pf->self->seg,
		.ipc = pf->self->ipc,
		.stats = &pf->self->seg->stats[SEGMENT_PROC_PREFETCHER],
		.base = pf->base,
	};
	uint64_t until_ms = clock_now_ms() + LOCK_WAIT_MS;
	int rc;

	while ((rc = plan_open(&pf->plan, &opts)) == -EBUSY &&
	       clock_now_ms() < until_ms)
		usleep(20000); /* not in the loop yet */
	if (rc < 0)
		log_error("ev=store_failed path=%s scratch=%s errno=%d "
			  "why=\"%s\"",
			  pf->self->conf->cache.path,
			  pf->self->conf->cache.scratch, -rc,
			  rc == -EBUSY ? "another instance uses it"
				       : strerror(-rc));
	return rc;
}

/* Whoever waits for a run of a predecessor looks again, and asks. */
static void tell_workers(const struct child *self)
{
	atomic_fetch_add(&self->seg->prefetcher_lives, 1);
	for (uint32_t n = 0; n < SEGMENT_WORKERS; n++)
		inbox_ring(self->ipc->bells[n]);
}

static int tell_master(const struct child *self)
{
	struct child_ready ready = { CHILD_READY, (uint32_t)getpid() };

	return inbox_send(self->ipc->master.tx, &ready, sizeof(ready));
}

static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config == NULL)
		return NULL;
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int prefetcher_main(const struct child *self)
{
	struct prefetcher pf = { .self = self };
	int status = EXIT_FAILURE;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	pf.base = new_base();
	if (pf.base == NULL)
		return EXIT_FAILURE;
	rc = open_plan(&pf);
	if (rc < 0) {
		if (rc == -EBUSY || rc == -EACCES || rc == -EPERM)
			status = EXIT_CONFIG;
		goto no_plan;
	}
	rc = add_events(&pf);
	if (rc == 0 && self->admin_fd >= 0)
		rc = admin_open(&pf.admin, pf.base, pf.plan, self->admin_fd);
	if (rc == 0) {
		tell_workers(self);
		rc = tell_master(self);
	}
	if (rc < 0) {
		log_error("ev=prefetcher_failed errno=%d", -rc);
		goto no_events;
	}
	log_info("ev=prefetcher_ready objects=%u chunks=%llu bytes=%llu",
		 HASH_CNT(by_key, pf.plan->cat->objects),
		 (unsigned long long)pf.plan->cat->extents,
		 (unsigned long long)pf.plan->cat->used_bytes);
	event_base_dispatch(pf.base);
	status = EXIT_SUCCESS;

no_events:
	admin_close(pf.admin);
	free_event(pf.tick);
	free_event(pf.bell);
	free_event(pf.inbox);
	plan_close(pf.plan);
	for (size_t n = 0; n < ARRAY_LEN(pf.signals); n++)
		free_event(pf.signals[n]);
no_plan:
	event_base_free(pf.base);
	if (status == EXIT_SUCCESS)
		log_info("ev=prefetcher_ended");
	return status;
}

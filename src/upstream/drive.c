#include "upstream/drive.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/queue.h>

/* A socket that libcurl wants to be told about. */
struct watched {
	struct event *event;
	LIST_ENTRY(watched) all;
};

struct drive {
	CURLM *multi;
	struct event_base *base;
	struct event *timer; /* libcurl's */
	struct event *kick;
	void (*after)(void *ctx);
	void *ctx;
	LIST_HEAD(, watched) sockets;
};

static void run(struct drive *d, curl_socket_t fd, int what)
{
	int running;

	(void)curl_multi_socket_action(d->multi, fd, what, &running);
	d->after(d->ctx);
}

static void on_socket(evutil_socket_t fd, short events, void *ctx)
{
	int what = 0;

	if ((events & EV_READ) != 0)
		what |= CURL_CSELECT_IN;
	if ((events & EV_WRITE) != 0)
		what |= CURL_CSELECT_OUT;
	run(ctx, fd, what);
}

static void on_timer(evutil_socket_t fd UNUSED, short events UNUSED, void *ctx)
{
	run(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(evutil_socket_t fd UNUSED, short events UNUSED, void *ctx)
{
	struct drive *d = ctx;

	d->after(d->ctx);
}

static void forget(struct watched *w)
{
	if (w == NULL)
		return;
	event_free(w->event);
	LIST_REMOVE(w, all);
	free(w);
}

static struct watched *watch(struct drive *d, curl_socket_t fd)
{
	struct watched *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->event = event_new(d->base, fd, 0, on_socket, d);
	if (w->event == NULL) {
		free(w);
		return NULL;
	}
	LIST_INSERT_HEAD(&d->sockets, w, all);
	return w;
}

/* libcurl's: this socket is to be watched for `what`.  -1 = no memory: all
 * transfers of the multi handle fail then. */
static int want_socket(CURL *easy UNUSED, curl_socket_t fd, int what, void *ctx,
		       void *socket_ctx)
{
	struct drive *d = ctx;
	struct watched *w = socket_ctx;
	short events = EV_PERSIST;

	if (what == CURL_POLL_REMOVE) {
		forget(w);
		return 0;
	}
	if (w == NULL) {
		w = watch(d, fd);
		if (w == NULL)
			return -1;
		(void)curl_multi_assign(d->multi, fd, w);
	}
	if ((what & CURL_POLL_IN) != 0)
		events |= EV_READ;
	if ((what & CURL_POLL_OUT) != 0)
		events |= EV_WRITE;
	(void)event_del(w->event);
	if (event_assign(w->event, d->base, fd, events, on_socket, d) < 0 ||
	    event_add(w->event, NULL) < 0)
		return -1;
	return 0;
}

/* libcurl's: run me in so many milliseconds, -1 = never. */
static int want_timer(CURLM *multi UNUSED, long ms, void *ctx)
{
	struct drive *d = ctx;
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };

	if (ms < 0)
		return event_del(d->timer);
	return event_add(d->timer, &tv);
}

int drive_open(struct drive **out, struct event_base *base,
	       void (*after)(void *ctx), void *ctx)
{
	struct drive *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return -ENOMEM;
	d->base = base;
	d->after = after;
	d->ctx = ctx;
	LIST_INIT(&d->sockets);
	d->timer = evtimer_new(base, on_timer, d);
	if (d->timer == NULL)
		goto no_timer;
	d->kick = evtimer_new(base, on_kick, d);
	if (d->kick == NULL)
		goto no_kick;
	d->multi = curl_multi_init();
	if (d->multi == NULL)
		goto no_multi;
	(void)curl_multi_setopt(d->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	(void)curl_multi_setopt(d->multi, CURLMOPT_SOCKETDATA, d);
	(void)curl_multi_setopt(d->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	(void)curl_multi_setopt(d->multi, CURLMOPT_TIMERDATA, d);
	*out = d;
	return 0;

no_multi:
	event_free(d->kick);
no_kick:
	event_free(d->timer);
no_timer:
	free(d);
	return -ENOMEM;
}

void drive_close(struct drive *d)
{
	(void)curl_multi_cleanup(d->multi);
	while (!LIST_EMPTY(&d->sockets))
		forget(LIST_FIRST(&d->sockets));
	event_free(d->kick);
	event_free(d->timer);
	free(d);
}

CURLM *drive_multi(struct drive *d)
{
	return d->multi;
}

void drive_kick(struct drive *d)
{
	/* a timer, not event_active(): other descriptors get their turn */
	static const struct timeval now = { 0, 0 };

	(void)event_add(d->kick, &now);
}

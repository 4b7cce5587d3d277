#include "worker/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/conn.h"
#include "http/lobby.h"
#include "http/tls.h"
#include "ipc/ask.h"
#include "store/resolution.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/networks.h"
#include "worker/access_log.h"
#include "worker/answer.h"
#include "worker/control.h"
#include "worker/desk.h"
#include "worker/limits.h"
#include "worker/query.h"
#include "worker/resolving.h"
#include "worker/routes.h"
#include "worker/serve.h"
#include "worker/web.h"

#define EXIT_CONFIG     78
#define ACCEPTS_A_TURN  64
#define MESSAGES_A_TURN 256
#define DESCRIPTORS_MAX 512u /* chunk files kept open */
#define TICK_MS         100u
#define TICK_IDLE_MS    1000u
#define SECOND_MS       1000u

struct worker;

struct listener {
	struct worker *worker;
	struct event *event;
	struct tls_context *tls; /* NULL = in clear */
	bool proxy_protocol;
};

struct worker {
	struct conn_host host; /* first: a host is its worker */
	struct desk desk;
	struct limits limits;
	struct lobby lobby;
	struct networks trusted;
	const struct child *self;
	struct event_base *base;
	struct listener *listeners;
	struct event *inbox;
	struct event *bell;
	struct event *tick;
	struct event *signals[3];
	uint64_t second_ms; /* when once-a-second work was done */
	bool tick_is_slow;
	bool pause_told; /* and nobody was let in since */
	bool paused;     /* out of descriptors: the listeners rest */
	bool leave;      /* TERM */
};

/* --- connections -------------------------------------------------------- */

static void peer_of(const struct sockaddr_storage *from,
		    uint8_t peer[SINK_PEER_BYTES])
{
	const struct sockaddr_in *in = (const void *)from;
	const struct sockaddr_in6 *in6 = (const void *)from;

	memset(peer, 0, SINK_PEER_BYTES);
	if (from->ss_family == AF_INET6) {
		memcpy(peer, &in6->sin6_addr, SINK_PEER_BYTES);
	} else if (from->ss_family == AF_INET) {
		peer[10] = peer[11] = 0xff;
		memcpy(peer + 12, &in->sin_addr, 4);
	}
}

#define AWAY_BODY                                                              \
	"{\"type\":\"about:blank\",\"title\":\"Service Unavailable\","         \
	"\"status\":503,\"detail\":\"too many\"}\n"

/* Over a limit: told so as cheaply as can be, with nothing kept. */
static void turn_away(const struct listener *l, int fd)
{
	struct worker *w = l->worker;
	static const char words[] = "HTTP/1.1 503 Service Unavailable\r\n"
				    "Content-Type: application/problem+json\r\n"
				    "Content-Length: 86\r\n"
				    "Retry-After: 1\r\n"
				    "Connection: close\r\n\r\n" AWAY_BODY;
	_Static_assert(sizeof(AWAY_BODY) - 1 == 86, "as Content-Length says");

	stat_add(w->desk.stats, STAT_connections_refused, 1);
	if (l->tls == NULL) /* a handshake is dearer than a closed door */
		(void)!send(fd, words, sizeof(words) - 1,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)shutdown(fd, SHUT_WR);
	/* unread input at close would turn the answer into a reset */
	(void)!recv(fd, w->host.buffer, sizeof(w->host.buffer), MSG_DONTWAIT);
	close(fd);
}

static void show_count(struct worker *w)
{
	stat_set(w->desk.stats, STAT_connections, w->host.count);
}

static void tick_add(struct worker *w)
{
	bool busy = w->host.count > 0 || w->lobby.count > 0 || w->paused;
	uint64_t ms = busy ? TICK_MS : TICK_IDLE_MS;
	struct timeval tv = { .tv_sec = (time_t)(ms / 1000),
			      .tv_usec = (suseconds_t)(ms % 1000 * 1000) };

	w->tick_is_slow = ms == TICK_IDLE_MS;
	if (event_add(w->tick, &tv) < 0)
		log_error("ev=timer_failed");
}

/* What comes next is TLS or HTTP; peer: for whom it counts. */
static void let_in(const struct listener *l, int fd,
		   const uint8_t peer[SINK_PEER_BYTES])
{
	struct worker *w = l->worker;

	if (!limits_enter(&w->limits, peer)) {
		turn_away(l, fd);
		return;
	}
	stat_add(w->desk.stats, STAT_connections_accepted, 1);
	if (conn_open(&w->host, fd, peer, l->tls) < 0)
		limits_leave(&w->limits, peer);
	show_count(w);
	if (w->tick_is_slow)
		tick_add(w);
}

static void lobby_enter(void *context, int fd, unsigned listener,
			const uint8_t address[SINK_PEER_BYTES])
{
	struct worker *w = context;

	let_in(&w->listeners[listener], fd, address);
}

static void take_in(const struct listener *l, int fd,
		    const struct sockaddr_storage *from)
{
	struct worker *w = l->worker;
	uint8_t peer[SINK_PEER_BYTES];

	peer_of(from, peer);
	if (!l->proxy_protocol) {
		let_in(l, fd, peer);
		return;
	}
	lobby_take(&w->lobby, fd, (unsigned)(l - w->listeners), peer,
		   conn_host_now_ms(&w->host));
	if (w->tick_is_slow && w->lobby.count > 0)
		tick_add(w);
}

static void pause_listeners(struct worker *w, int err)
{
	if (!w->pause_told)
		log_warning("ev=accept_paused error=%s", strerrorname_np(err));
	w->pause_told = true;
	w->paused = true;
	for (size_t i = 0; i < w->self->listen_count; i++)
		event_del(w->listeners[i].event);
	tick_add(w);
}

static void resume_listeners(struct worker *w)
{
	w->paused = false;
	for (size_t i = 0; i < w->self->listen_count; i++)
		if (w->listeners[i].event != NULL &&
		    event_add(w->listeners[i].event, NULL) < 0)
			log_error("ev=listener_failed");
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	const struct listener *l = arg;

	(void)what;
	for (int n = 0; n < ACCEPTS_A_TURN; n++) {
		struct sockaddr_storage from = { 0 };
		socklen_t from_bytes = sizeof(from);
		int got = accept4(fd, (struct sockaddr *)&from, &from_bytes,
				  SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (got >= 0) {
			l->worker->pause_told = false;
			take_in(l, got, &from);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
		    errno == ENOMEM)
			pause_listeners(l->worker, errno);
		/* else: none is left, or one has gone before we came */
		if (errno != ECONNABORTED && errno != EINTR)
			return;
	}
}

static void host_request(struct conn_host *host, struct sink *sink,
			 const struct head *head)
{
	struct worker *w = (struct worker *)host;

	routes_serve(&w->desk, sink, head);
}

static void host_refuse(struct conn_host *host, struct sink *sink,
			const struct head *head, int status, const char *reason)
{
	struct worker *w = (struct worker *)host;

	answer_problem(&w->desk, sink, head, status, reason, NULL, NULL);
}

static void host_closed(struct conn_host *host, const uint8_t *peer)
{
	struct worker *w = (struct worker *)host;

	limits_leave(&w->limits, peer);
	show_count(w);
}

/* --- news from others --------------------------------------------------- */

static void take_message(struct worker *w, const void *message, size_t bytes)
{
	uint32_t type;

	if (bytes < sizeof(type))
		return;
	memcpy(&type, message, sizeof(type));
	if (type == RESOLVED_TYPE)
		resolving_reply(&w->desk, message, bytes);
	else if (type == ANSWER_TYPE)
		query_answered(&w->desk, message, bytes);
	else
		serve_reply(&w->desk, message, bytes);
}

static void on_inbox(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	_Alignas(struct reply) char message[INBOX_MESSAGE_BYTES];

	(void)what;
	for (int n = 0; n < MESSAGES_A_TURN; n++) {
		ssize_t bytes = inbox_receive(fd, message, sizeof(message));

		if (bytes <= 0) {
			if (bytes < 0)
				log_warning("ev=inbox_failed error=%s",
					    strerrorname_np((int)-bytes));
			return;
		}
		take_message(w, message, (size_t)bytes);
	}
}

static void on_bell(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)what;
	inbox_unring(fd);
	serve_bell(&w->desk);
}

static void drain(struct worker *w)
{
	log_info("ev=worker_draining connections=%u", w->host.count);
	for (size_t i = 0; i < w->self->listen_count; i++) {
		/* the master holds the socket: its queue is served by the
		 * next worker in this seat */
		event_free(w->listeners[i].event);
		w->listeners[i].event = NULL;
		close(w->self->listen_fds[i]);
	}
	lobby_drain(&w->lobby);
	control_drain(&w->desk);
	conn_host_drain(&w->host);
}

static void reopen_logs(struct worker *w)
{
	int rc = log_reopen();

	if (rc < 0)
		log_error("ev=log_reopen_failed error=%s",
			  strerrorname_np(-rc));
	rc = w->desk.log != NULL ? access_log_reopen(w->desk.log) : 0;
	if (rc < 0)
		log_error("ev=access_log_reopen_failed error=%s",
			  strerrorname_np(-rc));
}

static void on_signal(evutil_socket_t signo, short what, void *arg)
{
	struct worker *w = arg;

	(void)what;
	if (signo == SIGTERM)
		w->leave = true;
	else if (signo == SIGUSR1)
		reopen_logs(w);
	else if (signo == SIGQUIT && !w->host.draining)
		drain(w);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;
	uint64_t now_ms = conn_host_now_ms(&w->host);

	(void)fd;
	(void)what;
	lobby_tick(&w->lobby, now_ms);
	conn_tick(&w->host);
	serve_tick(&w->desk);
	control_tick(&w->desk);
	resolving_tick(&w->desk);
	query_tick(&w->desk);
	if (w->paused && !w->host.draining)
		resume_listeners(w);
	if (now_ms - w->second_ms >= SECOND_MS) {
		w->second_ms = now_ms;
		store_sweep(w->desk.store);
		if (w->desk.log != NULL)
			access_log_flush(w->desk.log);
	}
	tick_add(w);
}

/* --- beginning and end -------------------------------------------------- */

static int open_base(struct worker *w)
{
	struct event_config *config = event_config_new();

	if (config == NULL)
		return -ENOMEM;
	/* one thread; and the backend must tell of a peer that leaves */
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
	    event_config_require_features(
		    config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE) == 0)
		w->base = event_base_new_with_config(config);
	event_config_free(config);
	return w->base != NULL ? 0 : -ENOMEM;
}

static struct event *add_event(struct worker *w, evutil_socket_t fd, short what,
			       event_callback_fn run, void *arg)
{
	struct event *ev = event_new(w->base, fd, what | EV_PERSIST, run, arg);

	if (ev != NULL && event_add(ev, NULL) < 0) {
		event_free(ev);
		ev = NULL;
	}
	return ev;
}

static int open_tls(struct worker *w, struct listener *l, uint32_t no)
{
	const struct child *self = w->self;
	char why[TLS_WHY_BYTES] = "out of memory";
	int rc;

	if (no >= self->conf->listen_count || !self->conf->listens[no].tls)
		return 0;
	rc = tls_context_new(&l->tls, self->pems[no].pems, self->pems[no].count,
			     &self->seg->tickets,
			     self->conf->listens[no].kernel_tls, why);
	if (rc < 0)
		log_error("ev=tls_failed listen=%s error=\"%s\"",
			  self->conf->listens[no].name, why);
	return rc;
}

static int open_listener(struct worker *w, size_t i)
{
	struct listener *l = &w->listeners[i];
	uint32_t no = w->self->listen_nos != NULL ? w->self->listen_nos[i]
						  : UINT32_MAX;
	int rc = open_tls(w, l, no);

	if (rc < 0)
		return rc;
	l->worker = w;
	l->proxy_protocol = no < w->self->conf->listen_count &&
			    w->self->conf->listens[no].proxy_protocol;
	l->event = add_event(w, w->self->listen_fds[i], EV_READ, on_accept, l);
	return l->event != NULL ? 0 : -ENOMEM;
}

static int open_events(struct worker *w)
{
	static const int signos[] = { SIGTERM, SIGQUIT, SIGUSR1 };
	const struct child *self = w->self;

	w->listeners = calloc(self->listen_count + 1, sizeof(*w->listeners));
	if (w->listeners == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < self->listen_count; i++) {
		int rc = open_listener(w, i);

		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < ARRAY_LEN(signos); i++) {
		w->signals[i] =
			add_event(w, signos[i], EV_SIGNAL, on_signal, w);
		if (w->signals[i] == NULL)
			return -ENOMEM;
	}
	w->inbox = add_event(w, self->ipc->workers[self->slot].rx, EV_READ,
			     on_inbox, w);
	w->bell =
		add_event(w, self->ipc->bells[self->slot], EV_READ, on_bell, w);
	w->tick = event_new(w->base, -1, 0, on_tick, w);
	if (w->inbox == NULL || w->bell == NULL || w->tick == NULL)
		return -ENOMEM;
	tick_add(w);
	return 0;
}

static void open_host(struct worker *w)
{
	const struct conf_http *http = &w->self->conf->http;

	w->host.base = w->base;
	w->host.stats = w->desk.stats;
	w->host.clock_us = clock_now_us;
	w->host.timeout_ms[CONN_TIMER_HEAD] = http->head_timeout;
	w->host.timeout_ms[CONN_TIMER_IDLE] = http->idle_timeout;
	w->host.timeout_ms[CONN_TIMER_BODY] = http->body_timeout;
	w->host.timeout_ms[CONN_TIMER_SEND] = http->send_timeout;
	w->host.streams_max = http->max_streams;
	w->host.request = host_request;
	w->host.refuse = host_refuse;
	w->host.closed = host_closed;
	conn_host_init(&w->host);
}

/* Whom we believe; who waits to be told of. */
static void open_lobby(struct worker *w)
{
	char why[NETWORKS_WHY_BYTES];
	int rc = networks_parse(&w->trusted, w->self->conf->http.trusted, why);

	must(rc == 0); /* conf_load() has tried it */
	w->host.trusted = &w->trusted;
	w->lobby.base = w->base;
	w->lobby.stats = w->desk.stats;
	w->lobby.trusted = &w->trusted;
	w->lobby.timeout_ms = w->self->conf->http.head_timeout;
	w->lobby.enter = lobby_enter;
	w->lobby.context = w;
	lobby_init(&w->lobby);
}

static void open_desk(struct worker *w)
{
	const struct child *self = w->self;

	w->desk.conf = self->conf;
	w->desk.seg = self->seg;
	w->desk.row = &self->seg->workers[self->slot];
	w->desk.stats = &self->seg->stats[SEGMENT_PROC_WORKER0 + self->slot];
	w->desk.ipc = self->ipc;
	w->desk.slot = self->slot;
	w->desk.host = &w->host;
	limits_init(&w->limits, self->seg, self->slot,
		    self->conf->http.max_connections,
		    self->conf->http.max_connections_per_address);
	show_count(w);
}

/* Neither is worth refusing to serve for. */
static void open_extras(struct worker *w)
{
	const struct conf *conf = w->self->conf;
	int rc;

	if (*conf->main.access_log != '\0') {
		rc = access_log_open(&w->desk.log, conf->main.access_log,
				     conf->main.access_log_format ==
					     CONF_ACCESS_LOG_JSON);
		if (rc < 0)
			log_error("ev=access_log_failed error=%s",
				  strerrorname_np(-rc));
	}
	if (*conf->http.web != '\0') {
		rc = web_open(&w->desk.web, conf->http.web);
		if (rc < 0)
			log_error("ev=web_failed error=%s",
				  strerrorname_np(-rc));
	}
}

static int open_store(struct worker *w)
{
	const struct conf_cache *cache = &w->self->conf->cache;
	const struct store_opts opts = {
		.path = cache->path,
		.scratch = cache->scratch,
		.index_bytes = cache->index,
		.seg = w->self->seg,
		.slot = w->self->slot,
		.descriptors_max = DESCRIPTORS_MAX,
	};

	return store_open(&w->desk.store, &opts);
}

static int say_ready(struct worker *w)
{
	const struct child_ready ready = { .type = CHILD_READY,
					   .pid = (uint32_t)getpid() };

	return inbox_send(w->self->ipc->master.tx, &ready, sizeof(ready));
}

static void run_loop(struct worker *w)
{
	bool more = false;

	w->host.turn_begun = false;
	while (!w->leave && !(w->host.draining && w->host.count == 0 &&
			      w->lobby.count == 0)) {
		if (event_base_loop(w->base,
				    EVLOOP_ONCE |
					    (more ? EVLOOP_NONBLOCK : 0)) < 0) {
			log_error("ev=loop_failed");
			return;
		}
		more = conn_host_turn_end(&w->host);
	}
}

static void free_event(struct event *ev)
{
	if (ev != NULL)
		event_free(ev);
}

static void close_all(struct worker *w)
{
	lobby_fini(&w->lobby);
	if (w->desk.queries != NULL) /* the last one to be made */
		conn_host_fini(&w->host);
	control_fini(&w->desk);
	serve_fini(&w->desk);
	resolving_fini(&w->desk);
	query_fini(&w->desk);
	if (w->desk.resolutions != NULL)
		resolutions_close(w->desk.resolutions);
	store_close(w->desk.store);
	web_close(w->desk.web);
	access_log_close(w->desk.log);
	for (size_t i = 0; w->listeners != NULL && i < w->self->listen_count;
	     i++) {
		free_event(w->listeners[i].event);
		tls_context_free(w->listeners[i].tls);
	}
	free(w->listeners);
	for (size_t i = 0; i < ARRAY_LEN(w->signals); i++)
		free_event(w->signals[i]);
	free_event(w->inbox);
	free_event(w->bell);
	free_event(w->tick);
	if (w->base != NULL)
		event_base_free(w->base);
}

static int fail(const char *what, int rc)
{
	log_error("ev=worker_failed what=%s error=%s", what,
		  strerrorname_np(-rc));
	return rc;
}

static int open_all(struct worker *w)
{
	int rc = open_base(w);

	if (rc < 0)
		return fail("events", rc);
	open_desk(w);
	open_host(w);
	open_lobby(w);
	rc = serve_init(&w->desk);
	if (rc == 0)
		rc = resolving_init(&w->desk);
	if (rc == 0)
		rc = control_init(&w->desk);
	if (rc == 0)
		rc = query_init(&w->desk);
	if (rc < 0)
		return fail("memory", rc);
	open_extras(w);
	rc = open_store(w);
	if (rc < 0)
		return fail("store", rc);
	rc = open_events(w);
	if (rc < 0)
		return fail("events", rc);
	rc = say_ready(w);
	return rc < 0 ? fail("master", rc) : 0;
}

int worker_main(const struct child *self)
{
	struct worker *w = calloc(1, sizeof(*w));
	int status = EXIT_FAILURE;

	if (w == NULL)
		return EXIT_FAILURE;
	/* sendfile() has no flag for it */
	(void)signal(SIGPIPE, SIG_IGN);
	w->self = self;
	w->desk.conf = self->conf;
	if (desk_init_common(&w->desk) < 0) {
		log_error("ev=worker_failed what=cors_origin "
			  "error=\"not the value of a field\"");
		status = EXIT_CONFIG;
		goto no_config;
	}
	if (open_all(w) == 0) {
		log_info("ev=worker_ready listeners=%zu", self->listen_count);
		run_loop(w);
		status = EXIT_SUCCESS;
	}
	close_all(w);
no_config:
	free(w);
	return status;
}

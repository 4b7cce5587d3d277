#include "upstream/transfer.h"

#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "upstream/address.h"
#include "upstream/answer.h"
#include "upstream/drive.h"
#include "upstream/request_fields.h"
#include "upstream/template.h"

#define BUFFER_BYTES (256 * 1024L) /* one read; 64K to 512K cost the same */
#define DRAIN_BYTES  (16 * KIB)    /* a rest so short is read to its end */
#define DRAIN_MS     2000u
#define STALL_TICKS  4u
#define FIELD_BYTES  2048u
#define REASON_BYTES (CURL_ERROR_SIZE + 1)

#if LIBCURL_VERSION_NUM < 0x075700
#error "libcurl 7.87 or newer is needed: CURLOPT_QUICK_EXIT"
#endif

/*
 * What happens inside of libcurl's callbacks and of the public functions is
 * only noted in the transfer; news_settle() acts on it, outside of libcurl.
 *
 *   QUEUED --request sent--> HEAD --head told--> BODY --complete--> (end)
 *      |                      |                   |
 *      '----- how is set (fault, timeout, STOP) or aborted --------'
 *                             |
 *            rest is short: DRAIN, without callbacks --> freed
 *            else                                    --> freed
 */
enum phase {
	PHASE_QUEUED, /* waits for a free connection, name, TCP, TLS */
	PHASE_HEAD,   /* request sent */
	PHASE_BODY,   /* head told */
	PHASE_DRAIN,  /* nobody listens any more */
};

struct transfer {
	struct upstream *up;
	CURL *easy;
	struct curl_slist *fields;
	const struct transfer_ops *ops;
	void *ctx;
	struct answer answer;
	struct answer_asked asked;
	struct event timer;
	enum phase phase;
	uint64_t got_bytes;
	CURLcode code;         /* when complete */
	enum transfer_end how; /* 0 = goes on */
	unsigned idle_ticks;
	bool allow_private;
	bool refused;   /* an address was not allowed */
	bool no_socket; /* out of descriptors or memory */
	bool added;     /* to the multi handle */
	bool noted;     /* in up->news */
	bool complete;  /* libcurl is through with it */
	bool turn_due;
	bool moved;  /* bytes came since the last tick */
	bool paused; /* the caller wants no body */
	bool stuck;  /* libcurl holds bytes that were not taken */
	bool ended;  /* end was called */
	bool dead;   /* transfer_abort */
	bool again;  /* this is the second try, see begin_again() */
	char error[CURL_ERROR_SIZE]; /* libcurl's */
	char reason[REASON_BYTES];
	TAILQ_ENTRY(transfer) news;
	LIST_ENTRY(transfer) all;
};

TAILQ_HEAD(transfer_queue, transfer);

struct upstream {
	struct event_base *base;
	struct drive *drive;
	struct upstream_opts opts;
	char *user_agent; /* NULL = none */
	char *ca_file;    /* NULL = the system's */
	LIST_HEAD(, transfer) all;
	struct transfer_queue news;
	bool settling;
};

/* ---- news: what libcurl's callbacks leave for later ---------------------- */

static void note(struct transfer *t)
{
	if (t->noted)
		return;
	t->noted = true;
	TAILQ_INSERT_TAIL(&t->up->news, t, news);
	drive_kick(t->up->drive);
}

/* Only the first reason counts: what follows are its consequences. */
static void finish(struct transfer *t, enum transfer_end how, const char *why)
{
	if (t->how != 0)
		return;
	t->how = how;
	(void)snprintf(t->reason, sizeof(t->reason), "%s", why);
	for (char *at = t->reason; *at != '\0'; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = ' ';
	}
	note(t);
}

static void obey(struct transfer *t, enum transfer_next next)
{
	if (next == TRANSFER_PAUSE)
		transfer_pause(t);
	else if (next == TRANSFER_STOP)
		finish(t, TRANSFER_STOPPED, "stopped");
}

/* ---- timers -------------------------------------------------------------- */

static void timer_set(struct transfer *t, uint64_t ms)
{
	struct timeval tv = { (time_t)(ms / 1000),
			      (suseconds_t)(ms % 1000 * 1000) };

	if (event_add(&t->timer, &tv) < 0)
		finish(t, TRANSFER_FAULT, "no timer");
}

static void stall_timer_set(struct transfer *t)
{
	t->moved = false;
	t->idle_ticks = 0;
	timer_set(t, max_u64(t->up->opts.stall_timeout_ms / STALL_TICKS, 1));
}

/* A tick counts as idle when no byte came since the one before it: no clock
 * and no timer is touched per byte. */
static void stall_tick(struct transfer *t)
{
	unsigned idle = t->moved ? 0 : t->idle_ticks + 1;

	if (idle >= STALL_TICKS) {
		finish(t, TRANSFER_TIMEOUT, "the body stalled");
		return;
	}
	stall_timer_set(t);
	t->idle_ticks = idle;
}

static void on_timer(evutil_socket_t fd UNUSED, short events UNUSED, void *ctx)
{
	struct transfer *t = ctx;

	switch (t->phase) {
	case PHASE_QUEUED:
		finish(t, TRANSFER_TIMEOUT, "no connection became free");
		break;
	case PHASE_HEAD:
		finish(t, TRANSFER_TIMEOUT, "no response head in time");
		break;
	case PHASE_BODY:
		stall_tick(t);
		break;
	case PHASE_DRAIN:
		t->complete = true;
		note(t);
		break;
	}
}

/* ---- libcurl's callbacks ------------------------------------------------- */

static curl_socket_t open_socket(void *ctx, curlsocktype purpose UNUSED,
				 struct curl_sockaddr *to)
{
	struct transfer *t = ctx;
	int fd;

	if (!t->allow_private && !address_is_public(&to->addr, to->addrlen)) {
		t->refused = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
	if (fd < 0 && errno != EAFNOSUPPORT)
		t->no_socket = true;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* The connection is ready, perhaps an old one that another source opened. */
static int before_request(void *ctx, char *remote_ip, char *local_ip UNUSED,
			  int remote_port UNUSED, int local_port UNUSED)
{
	struct transfer *t = ctx;

	if (t->dead || t->how != 0)
		return CURL_PREREQFUNC_ABORT;
	if (!t->allow_private && !address_text_is_public(remote_ip)) {
		finish(t, TRANSFER_REFUSED, "the address is private");
		return CURL_PREREQFUNC_ABORT;
	}
	t->phase = PHASE_HEAD;
	timer_set(t, t->up->opts.first_byte_timeout_ms);
	return CURL_PREREQFUNC_OK;
}

static void tell_head(struct transfer *t)
{
	if (answer_judge(&t->answer, &t->asked) < 0) {
		finish(t, TRANSFER_BROKEN, t->answer.fault);
		return;
	}
	t->phase = PHASE_BODY;
	if (t->paused)
		(void)event_del(&t->timer);
	else
		stall_timer_set(t);
	obey(t, t->ops->head(t->ctx, &t->answer.head));
}

static uint64_t body_left(const struct transfer *t)
{
	struct span s = t->answer.head.span;

	return s.to == SIZE_UNKNOWN ? SIZE_UNKNOWN : span_len(s) - t->got_bytes;
}

/* Short enough to be read by nobody, for the connection's sake? */
static bool rest_is_short(const struct transfer *t)
{
	return t->phase == PHASE_BODY && body_left(t) <= DRAIN_BYTES;
}

/* Will libcurl go on to another URL after this head? */
static bool is_followed(const struct transfer *t)
{
	int status = t->answer.head.status;

	return status >= 300 && status < 400 && t->answer.has_location &&
	       t->up->opts.redirects > 0;
}

static size_t on_field(char *line, size_t one UNUSED, size_t bytes, void *ctx)
{
	struct transfer *t = ctx;

	if (t->phase == PHASE_DRAIN)
		return bytes;
	if (t->dead || (t->how != 0 && !rest_is_short(t)))
		return 0;
	if (t->phase == PHASE_BODY)
		return bytes; /* a trailer */
	if (answer_line(&t->answer, line, bytes) < 0) {
		finish(t, TRANSFER_BROKEN, t->answer.fault);
		return 0;
	}
	if (!t->answer.done || is_followed(t) ||
	    (t->answer.head.status < 200 && t->answer.head.status != 101))
		return bytes;
	tell_head(t);
	return (t->dead || t->how != 0) && !rest_is_short(t) ? 0 : bytes;
}

static size_t on_body(char *data, size_t one UNUSED, size_t bytes, void *ctx)
{
	struct transfer *t = ctx;
	enum transfer_next next;

	if (bytes == 0)
		return 0;
	if (t->phase != PHASE_DRAIN && t->phase != PHASE_BODY)
		tell_head(t);
	if (t->phase != PHASE_DRAIN && !rest_is_short(t) &&
	    (t->dead || t->how != 0))
		return 0;
	if (bytes > body_left(t)) {
		finish(t, TRANSFER_BROKEN, "the body is longer than told");
		return 0;
	}
	if (t->phase == PHASE_DRAIN || t->dead || t->how != 0) {
		t->got_bytes += bytes;
		return bytes;
	}
	next = t->paused ? TRANSFER_PAUSE
			 : t->ops->body(t->ctx, (const uint8_t *)data, bytes);
	if (next == TRANSFER_PAUSE && !t->dead) {
		transfer_pause(t);
		t->stuck = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	t->got_bytes += bytes;
	t->moved = true;
	t->turn_due = true;
	obey(t, next);
	note(t);
	return (t->dead || t->how != 0) && !rest_is_short(t) ? 0 : bytes;
}

/* ---- acting on the news -------------------------------------------------- */

static void transfer_free(struct transfer *t)
{
	if (t->noted)
		TAILQ_REMOVE(&t->up->news, t, news);
	LIST_REMOVE(t, all);
	if (t->added)
		(void)curl_multi_remove_handle(drive_multi(t->up->drive),
					       t->easy);
	(void)event_del(&t->timer);
	curl_easy_cleanup(t->easy);
	curl_slist_free_all(t->fields);
	free(t);
}

/* Words for libcurl's errors. */
static enum transfer_end end_of_code(const struct transfer *t)
{
	switch (t->code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		if (t->no_socket)
			return TRANSFER_FAULT;
		return t->refused ? TRANSFER_REFUSED : TRANSFER_UNREACHABLE;
	case CURLE_OPERATION_TIMEDOUT:
		return TRANSFER_TIMEOUT;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		return TRANSFER_CUT;
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FAILED_INIT:
	case CURLE_NO_CONNECTION_AVAILABLE:
	case CURLE_BAD_FUNCTION_ARGUMENT:
	case CURLE_ABORTED_BY_CALLBACK:
	case CURLE_SSL_ENGINE_NOTFOUND:
	case CURLE_SSL_ENGINE_SETFAILED:
	case CURLE_SSL_ENGINE_INITFAILED:
		return TRANSFER_FAULT;
	default:
		return TRANSFER_BROKEN;
	}
}

static void begin(struct transfer *t)
{
	const struct upstream_opts *o = &t->up->opts;

	t->added = true;
	t->phase = PHASE_QUEUED;
	timer_set(t,
		  (uint64_t)o->connect_timeout_ms + o->first_byte_timeout_ms);
	if (curl_multi_add_handle(drive_multi(t->up->drive), t->easy) ==
	    CURLM_OK)
		return;
	t->added = false;
	finish(t, TRANSFER_FAULT, "libcurl does not take it");
}

/*
 * What an origin sent behind a body that was longer than told lies in its kept
 * connection and was taken for this response: such nonsense says nothing about
 * the object.  Once more, over a new connection.
 */
static bool begin_again(struct transfer *t)
{
	CURLM *multi = drive_multi(t->up->drive);
	long connects = 1;

	(void)curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
	if (t->again || connects > 0 || t->phase != PHASE_HEAD ||
	    t->answer.head.status != 0 || end_of_code(t) != TRANSFER_BROKEN)
		return false;
	t->again = true;
	t->complete = false;
	t->error[0] = '\0';
	(void)curl_multi_remove_handle(multi, t->easy);
	t->added = false;
	if (curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK)
		return false;
	begin(t);
	return true;
}

/* libcurl is through: what does that mean? */
static void conclude(struct transfer *t)
{
	enum transfer_end how;
	uint64_t left;

	if (t->how != 0)
		return;
	if (t->code != CURLE_OK) {
		if (begin_again(t))
			return;
		how = end_of_code(t);
		if (how == TRANSFER_REFUSED)
			finish(t, how, "the address is private");
		else
			finish(t, how,
			       t->error[0] != '\0'
				       ? t->error
				       : curl_easy_strerror(t->code));
		return;
	}
	left = body_left(t);
	if (left == 0 || left == SIZE_UNKNOWN)
		finish(t, TRANSFER_DONE, "");
	else
		finish(t, TRANSFER_CUT, "the body is shorter than told");
}

/* Nobody listens any more.  A short rest is worth reading: the connection
 * stays usable. */
static void leave(struct transfer *t)
{
	if (t->complete || !t->added || !rest_is_short(t) ||
	    (t->how != 0 && t->how != TRANSFER_STOPPED)) {
		transfer_free(t);
		return;
	}
	t->phase = PHASE_DRAIN;
	t->paused = false;
	timer_set(t, DRAIN_MS);
	if (t->stuck)
		note(t);
}

static void drain_step(struct transfer *t)
{
	if (!t->complete && t->stuck) {
		t->stuck = false;
		if (curl_easy_pause(t->easy, CURLPAUSE_CONT) == CURLE_OK)
			return; /* complete is still to come */
		t->complete = true;
	}
	if (t->complete)
		transfer_free(t);
}

static void unstick(struct transfer *t)
{
	CURLcode code;

	t->stuck = false;
	code = curl_easy_pause(t->easy, CURLPAUSE_CONT);
	if (code == CURLE_OK || t->dead || t->how != 0)
		return;
	t->code = code;
	t->complete = true;
	note(t);
}

/*
 * Each callback may abort the transfer: it is in the news then and is left in
 * its next step.
 */
static void step(struct transfer *t)
{
	if (t->phase == PHASE_DRAIN) {
		drain_step(t);
		return;
	}
	if (t->dead) {
		leave(t);
		return;
	}
	if (!t->added && t->how == 0)
		begin(t);
	if (t->complete && t->how == 0 && t->code == CURLE_OK &&
	    t->phase != PHASE_BODY) {
		tell_head(t);
		if (t->dead)
			return;
	}
	if (t->turn_due) {
		t->turn_due = false;
		t->ops->turn(t->ctx);
		if (t->dead)
			return;
	}
	if (t->complete)
		conclude(t);
	if (t->how != 0) {
		t->ended = true;
		(void)event_del(&t->timer);
		t->ops->end(t->ctx, t->how, t->reason);
		leave(t);
		return;
	}
	if (t->stuck && !t->paused)
		unstick(t);
}

static void take_messages(struct upstream *up)
{
	CURLM *multi = drive_multi(up->drive);
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL) {
		struct transfer *t = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
		must(t != NULL);
		t->code = msg->data.result;
		t->complete = true;
		note(t);
	}
}

/* drive's after(): what was noted meanwhile waits for the next round, so that
 * other descriptors get their turn. */
static void news_settle(void *ctx)
{
	struct upstream *up = ctx;
	struct transfer *t, *last;

	up->settling = true;
	take_messages(up);
	last = TAILQ_LAST(&up->news, transfer_queue);
	while ((t = TAILQ_FIRST(&up->news)) != NULL) {
		bool is_last = t == last;

		TAILQ_REMOVE(&up->news, t, news);
		t->noted = false;
		step(t);
		if (is_last)
			break;
	}
	up->settling = false;
}

/* ---- requests ------------------------------------------------------------ */

static bool is_given(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static int add_field(struct curl_slist **list, const char *name,
		     const char *value)
{
	char line[FIELD_BYTES];
	struct curl_slist *longer;
	int n;

	if (!is_given(value))
		return 0;
	for (const char *at = value; *at != '\0'; at++) {
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return -EINVAL;
	}
	n = snprintf(line, sizeof(line), "%s: %s", name, value);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -EINVAL;
	longer = curl_slist_append(*list, line);
	if (longer == NULL)
		return -ENOMEM;
	*list = longer;
	return 0;
}

static int add_range(struct curl_slist **list, const struct transfer_want *want)
{
	char value[64];

	if (want->suffix > 0)
		(void)snprintf(value, sizeof(value), "bytes=-%llu",
			       (unsigned long long)want->suffix);
	else if (want->to == SIZE_UNKNOWN)
		(void)snprintf(value, sizeof(value), "bytes=%llu-",
			       (unsigned long long)want->from);
	else if (want->to > want->from)
		(void)snprintf(value, sizeof(value), "bytes=%llu-%llu",
			       (unsigned long long)want->from,
			       (unsigned long long)want->to - 1);
	else
		return -EINVAL;
	return add_field(list, "Range", value);
}

/* What the URL's resolution wants. */
static int add_given(struct curl_slist **list, const char *fields)
{
	char line[REQUEST_FIELDS_BYTES];
	struct curl_slist *longer;
	int rc;

	while ((rc = request_fields_next(&fields, line)) > 0) {
		longer = curl_slist_append(*list, line);
		if (longer == NULL)
			return -ENOMEM;
		*list = longer;
	}
	return rc;
}

static int fields_make(struct curl_slist **list,
		       const struct transfer_want *want)
{
	const struct {
		const char *name;
		const char *value;
	} given[] = {
		{ "Accept-Encoding", "identity" },
		{ "If-Range", want->if_range },
		{ "If-None-Match", want->if_none_match },
		{ "If-Modified-Since", want->if_modified_since },
	};
	int rc = add_range(list, want);

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(given); i++)
		rc = add_field(list, given[i].name, given[i].value);
	if (rc == 0 && is_given(want->fields))
		rc = add_given(list, want->fields);
	return rc;
}

static bool url_is_valid(const char *url)
{
	char origin[TEMPLATE_ORIGIN_BYTES];

	if (url == NULL ||
	    strnlen(url, TRANSFER_URL_BYTES) == TRANSFER_URL_BYTES)
		return false;
	for (const char *at = url; *at != '\0'; at++) {
		if ((unsigned char)*at <= ' ' || *at == 0x7f)
			return false;
	}
	return template_origin(url, origin, sizeof(origin)) == 0;
}

#define SET(option, value) (code |= (int)curl_easy_setopt(easy, option, value))

/* What is the same for all transfers.  0 or -EINVAL. */
static int easy_set_common(CURL *easy, const struct upstream *up)
{
	int code = 0;

	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, up->opts.redirects > 0 ? 1L : 0L);
	SET(CURLOPT_MAXREDIRS, (long)up->opts.redirects);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_NOSIGNAL, 1L);
	/* else an abort waits for the thread that resolves the name */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)up->opts.connect_timeout_ms);
	if (up->user_agent != NULL)
		SET(CURLOPT_USERAGENT, up->user_agent);
	if (up->ca_file != NULL) {
		SET(CURLOPT_CAINFO, up->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	return code == 0 ? 0 : -EINVAL;
}

static int easy_set_own(CURL *easy, struct transfer *t, const char *url)
{
	int code = 0;

	SET(CURLOPT_URL, url);
	SET(CURLOPT_HTTPHEADER, t->fields);
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->error);
	SET(CURLOPT_HEADERFUNCTION, on_field);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, t);
	return code == 0 ? 0 : -ENOMEM;
}

int transfer_begin(struct transfer **out, struct upstream *up,
		   const struct transfer_want *want,
		   const struct transfer_ops *ops, void *ctx)
{
	struct transfer *t;
	int rc;

	if (!url_is_valid(want->url))
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	rc = fields_make(&t->fields, want);
	if (rc < 0)
		goto no_fields;
	rc = -ENOMEM;
	t->easy = curl_easy_init();
	if (t->easy == NULL)
		goto no_fields;
	if (easy_set_common(t->easy, up) < 0 ||
	    easy_set_own(t->easy, t, want->url) < 0 ||
	    evtimer_assign(&t->timer, up->base, on_timer, t) < 0)
		goto no_options;
	answer_init(&t->answer);
	t->asked = (struct answer_asked){ want->from, want->to, want->suffix };
	t->allow_private = want->allow_private;
	t->up = up;
	t->ops = ops;
	t->ctx = ctx;
	LIST_INSERT_HEAD(&up->all, t, all);
	note(t);
	*out = t;
	return 0;

no_options:
	curl_easy_cleanup(t->easy);
no_fields:
	curl_slist_free_all(t->fields);
	free(t);
	return rc;
}

void transfer_pause(struct transfer *t)
{
	if (t->paused)
		return;
	t->paused = true;
	if (t->phase == PHASE_BODY)
		(void)event_del(&t->timer);
}

void transfer_resume(struct transfer *t)
{
	if (!t->paused)
		return;
	t->paused = false;
	if (t->phase == PHASE_BODY && !t->dead && !t->ended)
		stall_timer_set(t);
	if (t->stuck)
		note(t);
}

void transfer_abort(struct transfer *t)
{
	t->dead = true;
	note(t);
}

const char *transfer_end_name(enum transfer_end how)
{
	static const char *const names[] = {
		[TRANSFER_DONE] = "done",
		[TRANSFER_CUT] = "cut",
		[TRANSFER_UNREACHABLE] = "unreachable",
		[TRANSFER_TIMEOUT] = "timeout",
		[TRANSFER_REFUSED] = "refused",
		[TRANSFER_BROKEN] = "broken",
		[TRANSFER_STOPPED] = "stopped",
		[TRANSFER_FAULT] = "fault",
	};

	must(how > 0 && how < ARRAY_LEN(names));
	return names[how];
}

/* ---- all of them --------------------------------------------------------- */

static int copy_text(char **out, const char *text)
{
	*out = is_given(text) ? strdup(text) : NULL;
	return is_given(text) && *out == NULL ? -ENOMEM : 0;
}

static int opts_try(const struct upstream *up)
{
	CURL *easy = curl_easy_init();
	int rc;

	if (easy == NULL)
		return -ENOMEM;
	rc = easy_set_common(easy, up);
	curl_easy_cleanup(easy);
	return rc;
}

static void limits_set(const struct upstream *up)
{
	CURLM *multi = drive_multi(up->drive);

	(void)curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS,
				(long)up->opts.connections);
	/* idle ones too, of several origins */
	(void)curl_multi_setopt(
		multi, CURLMOPT_MAXCONNECTS,
		(long)max_u64(4 * (uint64_t)up->opts.connections, 256));
}

int upstream_open(struct upstream **out, struct event_base *base,
		  const struct upstream_opts *opts)
{
	struct upstream *up;
	int rc = -ENOMEM;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	if (curl_version_info(CURLVERSION_NOW)->version_num < 0x075700) {
		rc = -ENOTSUP;
		goto no_upstream;
	}
	up = calloc(1, sizeof(*up));
	if (up == NULL)
		goto no_upstream;
	up->base = base;
	up->opts = *opts;
	up->opts.user_agent = NULL; /* the copies are used */
	up->opts.ca_file = NULL;
	LIST_INIT(&up->all);
	TAILQ_INIT(&up->news);
	rc = copy_text(&up->user_agent, opts->user_agent);
	if (rc == 0)
		rc = copy_text(&up->ca_file, opts->ca_file);
	if (rc == 0)
		rc = opts_try(up);
	if (rc == 0)
		rc = drive_open(&up->drive, base, news_settle, up);
	if (rc < 0)
		goto no_drive;
	limits_set(up);
	*out = up;
	return 0;

no_drive:
	free(up->ca_file);
	free(up->user_agent);
	free(up);
no_upstream:
	curl_global_cleanup();
	return rc;
}

void upstream_close(struct upstream *up)
{
	if (up == NULL)
		return;
	must(!up->settling);
	while (!LIST_EMPTY(&up->all))
		transfer_free(LIST_FIRST(&up->all));
	drive_close(up->drive);
	free(up->ca_file);
	free(up->user_agent);
	free(up);
	curl_global_cleanup();
}

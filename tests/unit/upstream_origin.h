/*
 * An origin for tests: raw sockets in threads, so that it can answer in every
 * wrong way.  The path's first word says how (see answers[]).  The object has
 * ORIGIN_BYTES bytes, byte n being origin_byte(n).
 *
 * It also plays the name service: names that end in ".test" are 127.0.0.1,
 * and "slow.test" does not answer until origin_name_go() was called.
 */
#ifndef REELCACHE_TESTS_UPSTREAM_ORIGIN_H
#define REELCACHE_TESTS_UPSTREAM_ORIGIN_H

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/base.h"

#define ORIGIN_BYTES       (UINT64_C(3) << 20)
#define ORIGIN_CUT_BYTES   100000u
#define ORIGIN_CONNECTIONS 64

struct origin {
	int listener;
	uint16_t port;
	pthread_t thread;
	_Atomic unsigned connections;
	_Atomic unsigned requests;
	_Atomic unsigned running; /* threads of connections */
	_Atomic bool closing;
	_Atomic bool go; /* paths that wait for it */
	_Atomic bool junk_sent;
	_Atomic int fds[ORIGIN_CONNECTIONS]; /* fd + 1; 0 = free */
};

struct origin_peer {
	struct origin *origin;
	int fd;
	unsigned slot;
	unsigned served; /* requests on this connection */
};

struct origin_request {
	char head[8192];
	char path[512];
	uint64_t from, to; /* of the object, half-open */
};

static inline uint8_t origin_byte(uint64_t n)
{
	return (uint8_t)(n * 131 + (n >> 8) * 17 + (n >> 16));
}

static inline bool origin_send(int fd, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n > 0) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		at += sent;
		n -= (size_t)sent;
	}
	return true;
}

PRINTF(2, 3) static inline bool origin_say(int fd, const char *fmt, ...)
{
	char text[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return origin_send(fd, text, (size_t)n);
}

static inline bool origin_send_object(int fd, uint64_t from, uint64_t to)
{
	uint8_t bytes[16384];

	while (from < to) {
		size_t n = (size_t)min_u64(sizeof(bytes), to - from);

		for (size_t i = 0; i < n; i++)
			bytes[i] = origin_byte(from + i);
		if (!origin_send(fd, bytes, n))
			return false;
		from += n;
	}
	return true;
}

static inline bool origin_send_chunked(int fd, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t n = min_u64(50000, to - from);

		if (!origin_say(fd, "%llx\r\n", (unsigned long long)n) ||
		    !origin_send_object(fd, from, from + n) ||
		    !origin_say(fd, "\r\n"))
			return false;
		from += n;
	}
	return origin_say(fd, "0\r\nX-Trailer: 1\r\n\r\n");
}

static inline bool origin_head_206(int fd, uint64_t from, uint64_t to,
				   const char *more)
{
	return origin_say(fd,
			  "HTTP/1.1 206 Partial Content\r\n"
			  "Content-Range: bytes %llu-%llu/%llu\r\n"
			  "ETag: \"v1\"\r\n%s\r\n",
			  (unsigned long long)from, (unsigned long long)to - 1,
			  (unsigned long long)ORIGIN_BYTES, more);
}

static inline bool origin_head_length(int fd, uint64_t from, uint64_t to)
{
	char more[64];

	(void)snprintf(more, sizeof(more), "Content-Length: %llu\r\n",
		       (unsigned long long)(to - from));
	return origin_head_206(fd, from, to, more);
}

static inline void origin_wait_go(struct origin_peer *p)
{
	while (!p->origin->go && !p->origin->closing)
		(void)usleep(1000);
}

/* ---- answers: true = the connection goes on ------------------------------ */

static inline bool answer_data(struct origin_peer *p, struct origin_request *r)
{
	if (r->from >= ORIGIN_BYTES)
		return origin_say(p->fd,
				  "HTTP/1.1 416 No\r\nContent-Length: 5\r\n"
				  "Content-Range: bytes */%llu\r\n\r\nnope\n",
				  (unsigned long long)ORIGIN_BYTES);
	return origin_head_length(p->fd, r->from, r->to) &&
	       origin_send_object(p->fd, r->from, r->to);
}

static inline bool answer_whole(struct origin_peer *p,
				struct origin_request *r UNUSED)
{
	return origin_say(p->fd,
			  "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n",
			  (unsigned long long)ORIGIN_BYTES) &&
	       origin_send_object(p->fd, 0, ORIGIN_BYTES);
}

static inline bool answer_chunked(struct origin_peer *p,
				  struct origin_request *r UNUSED)
{
	return origin_say(p->fd, "HTTP/1.1 200 OK\r\n"
				 "Transfer-Encoding: chunked\r\n\r\n") &&
	       origin_send_chunked(p->fd, 0, ORIGIN_BYTES);
}

static inline bool answer_until_close(struct origin_peer *p,
				      struct origin_request *r UNUSED)
{
	(void)(origin_say(p->fd, "HTTP/1.0 200 OK\r\n\r\n") &&
	       origin_send_object(p->fd, 0, ORIGIN_BYTES));
	return false;
}

static inline bool answer_cut(struct origin_peer *p, struct origin_request *r)
{
	(void)(origin_head_length(p->fd, r->from, r->to) &&
	       origin_send_object(p->fd, r->from, r->from + ORIGIN_CUT_BYTES));
	return false;
}

/* Like a process that died: the peer sees a reset. */
static inline bool answer_reset(struct origin_peer *p, struct origin_request *r)
{
	struct linger now = { 1, 0 };

	(void)(origin_head_length(p->fd, r->from, r->to) &&
	       origin_send_object(p->fd, r->from, r->from + ORIGIN_CUT_BYTES));
	origin_wait_go(p);
	(void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	return false;
}

static inline bool answer_cut_chunked(struct origin_peer *p,
				      struct origin_request *r UNUSED)
{
	(void)(origin_say(p->fd, "HTTP/1.1 200 OK\r\n"
				 "Transfer-Encoding: chunked\r\n\r\n"
				 "20000\r\n") &&
	       origin_send_object(p->fd, 0, ORIGIN_CUT_BYTES));
	return false;
}

/* Framed well, but not what Content-Range said. */
static inline bool answer_short(struct origin_peer *p, struct origin_request *r)
{
	return origin_head_206(p->fd, r->from, r->to,
			       "Transfer-Encoding: chunked\r\n") &&
	       origin_send_chunked(p->fd, r->from, r->to - 1);
}

static inline bool answer_long(struct origin_peer *p, struct origin_request *r)
{
	return origin_head_206(p->fd, r->from, r->to,
			       "Transfer-Encoding: chunked\r\n") &&
	       origin_send_chunked(p->fd, r->from, r->to + 1);
}

/* Bytes behind Content-Length. */
static inline bool answer_excess(struct origin_peer *p,
				 struct origin_request *r)
{
	return origin_head_length(p->fd, r->from, r->to) &&
	       origin_send_object(p->fd, r->from, r->to + 500);
}

/* The same, but later than the client was through with the body. */
static inline bool answer_junk(struct origin_peer *p, struct origin_request *r)
{
	(void)answer_data(p, r);
	origin_wait_go(p);
	(void)origin_say(p->fd, "%0500d\r\n", 0);
	p->origin->junk_sent = true;
	return true;
}

static inline bool answer_elsewhere(struct origin_peer *p,
				    struct origin_request *r)
{
	return origin_head_length(p->fd, r->from + 1, r->to) &&
	       origin_send_object(p->fd, r->from + 1, r->to);
}

static inline bool answer_multipart(struct origin_peer *p,
				    struct origin_request *r UNUSED)
{
	return origin_say(p->fd, "HTTP/1.1 206 Partial\r\nContent-Length: 5\r\n"
				 "Content-Type: multipart/byteranges; "
				 "boundary=b\r\n\r\n--b--");
}

static inline bool answer_redirect(struct origin_peer *p,
				   struct origin_request *r)
{
	return origin_say(p->fd,
			  "HTTP/1.1 302 Found\r\nContent-Length: 6\r\n"
			  "ETag: \"not this\"\r\nLocation: %s\r\n\r\nmoved\n",
			  r->path + strlen("/redirect="));
}

static inline bool answer_loop(struct origin_peer *p,
			       struct origin_request *r UNUSED)
{
	return origin_say(p->fd, "HTTP/1.1 307 Again\r\nContent-Length: 0\r\n"
				 "Location: /loop\r\n\r\n");
}

static inline bool answer_early(struct origin_peer *p, struct origin_request *r)
{
	return origin_say(p->fd, "HTTP/1.1 103 Early Hints\r\n"
				 "ETag: \"early\"\r\n\r\n") &&
	       answer_data(p, r);
}

static inline bool answer_nothing(struct origin_peer *p,
				  struct origin_request *r UNUSED)
{
	origin_wait_go(p);
	return false;
}

static inline bool answer_half_head(struct origin_peer *p,
				    struct origin_request *r UNUSED)
{
	(void)origin_say(p->fd, "HTTP/1.1 200 OK\r\nContent-Le");
	origin_wait_go(p);
	return false;
}

static inline bool answer_stall(struct origin_peer *p, struct origin_request *r)
{
	(void)(origin_head_length(p->fd, r->from, r->to) &&
	       origin_send_object(p->fd, r->from, r->from + ORIGIN_CUT_BYTES));
	origin_wait_go(p);
	return p->origin->go &&
	       origin_send_object(p->fd, r->from + ORIGIN_CUT_BYTES, r->to);
}

static inline bool answer_hang_up(struct origin_peer *p UNUSED,
				  struct origin_request *r UNUSED)
{
	return false;
}

static inline bool answer_garbage(struct origin_peer *p,
				  struct origin_request *r UNUSED)
{
	(void)origin_say(p->fd, "SSH-2.0-OpenSSH_9.2\r\n");
	return false;
}

static inline bool answer_echo(struct origin_peer *p, struct origin_request *r)
{
	return origin_say(p->fd,
			  "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
			  strlen(r->head), r->head);
}

static inline bool answer_404(struct origin_peer *p,
			      struct origin_request *r UNUSED)
{
	return origin_say(p->fd, "HTTP/1.1 404 Not Found\r\n"
				 "Retry-After: 7\r\nContent-Length: 8\r\n"
				 "\r\nmissing\n");
}

static inline bool answer_304(struct origin_peer *p,
			      struct origin_request *r UNUSED)
{
	return origin_say(p->fd, "HTTP/1.1 304 Not Modified\r\n"
				 "ETag: \"v1\"\r\nContent-Length: 77\r\n\r\n");
}

static inline bool answer_empty(struct origin_peer *p,
				struct origin_request *r UNUSED)
{
	return origin_say(p->fd, "HTTP/1.1 200 OK\r\n"
				 "Content-Length: 0\r\n\r\n");
}

/* The first request is answered; the connection then dies under the next
 * one, as when a server's keep-alive time is over just now. */
static inline bool answer_once(struct origin_peer *p, struct origin_request *r)
{
	if (p->served > 1)
		return false;
	return answer_data(p, r);
}

static const struct {
	const char *word;
	bool (*answer)(struct origin_peer *p, struct origin_request *r);
} answers[] = {
	{ "data", answer_data },
	{ "whole", answer_whole },
	{ "chunked", answer_chunked },
	{ "until-close", answer_until_close },
	{ "cut", answer_cut },
	{ "reset", answer_reset },
	{ "cut-chunked", answer_cut_chunked },
	{ "short", answer_short },
	{ "long", answer_long },
	{ "excess", answer_excess },
	{ "junk", answer_junk },
	{ "elsewhere", answer_elsewhere },
	{ "multipart", answer_multipart },
	{ "redirect", answer_redirect },
	{ "loop", answer_loop },
	{ "early", answer_early },
	{ "nothing", answer_nothing },
	{ "half-head", answer_half_head },
	{ "stall", answer_stall },
	{ "hang-up", answer_hang_up },
	{ "garbage", answer_garbage },
	{ "echo", answer_echo },
	{ "404", answer_404 },
	{ "304", answer_304 },
	{ "empty", answer_empty },
	{ "once", answer_once },
};

/* ---- connections --------------------------------------------------------- */

static inline bool origin_read_head(int fd, char *head, size_t bytes)
{
	size_t used = 0;

	while (used + 1 < bytes) {
		ssize_t n = recv(fd, head + used, 1, 0);

		if (n <= 0)
			return false;
		used += (size_t)n;
		head[used] = '\0';
		if (used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return false;
}

static inline bool origin_parse(struct origin_request *r)
{
	unsigned long long from = 0, last = 0;
	const char *range = strcasestr(r->head, "\r\nRange: bytes=");

	if (range == NULL || sscanf(r->head, "GET %511s", r->path) != 1)
		return false;
	range += strlen("\r\nRange: bytes=");
	r->to = ORIGIN_BYTES;
	if (sscanf(range, "-%llu", &last) == 1) {
		r->from = ORIGIN_BYTES - min_u64(last, ORIGIN_BYTES);
		return true;
	}
	switch (sscanf(range, "%llu-%llu", &from, &last)) {
	case 2:
		r->to = min_u64(last + 1, ORIGIN_BYTES);
		break;
	case 1:
		break;
	default:
		return false;
	}
	r->from = from;
	return true;
}

static inline bool origin_answer(struct origin_peer *p,
				 struct origin_request *r)
{
	size_t bytes = strcspn(r->path + 1, "=/?");

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		if (strlen(answers[i].word) == bytes &&
		    strncmp(answers[i].word, r->path + 1, bytes) == 0)
			return answers[i].answer(p, r);
	}
	return false;
}

static inline void *origin_serve(void *ctx)
{
	struct origin_peer *p = ctx;
	struct origin *o = p->origin;
	struct origin_request *r = calloc(1, sizeof(*r));

	while (r != NULL && origin_read_head(p->fd, r->head, sizeof(r->head)) &&
	       origin_parse(r)) {
		o->requests++;
		p->served++;
		if (!origin_answer(p, r))
			break;
	}
	free(r);
	o->fds[p->slot] = 0;
	(void)close(p->fd);
	free(p);
	o->running--;
	return NULL;
}

static inline void *origin_accept(void *ctx)
{
	struct origin *o = ctx;
	pthread_t thread;

	while (!o->closing) {
		struct origin_peer *p;
		int fd = accept4(o->listener, NULL, NULL, SOCK_CLOEXEC);
		unsigned slot = 0;

		if (fd < 0)
			break;
		p = calloc(1, sizeof(*p));
		while (slot < ORIGIN_CONNECTIONS && o->fds[slot] != 0)
			slot++;
		must(p != NULL && slot < ORIGIN_CONNECTIONS);
		*p = (struct origin_peer){ .origin = o,
					   .fd = fd,
					   .slot = slot };
		o->fds[slot] = fd + 1;
		o->connections++;
		o->running++;
		must(pthread_create(&thread, NULL, origin_serve, p) == 0);
		must(pthread_detach(thread) == 0);
	}
	return NULL;
}

static inline void origin_start(struct origin *o)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t bytes = sizeof(sa);

	memset(o, 0, sizeof(*o));
	o->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(o->listener >= 0);
	must(bind(o->listener, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	must(listen(o->listener, 64) == 0);
	must(getsockname(o->listener, (struct sockaddr *)&sa, &bytes) == 0);
	o->port = ntohs(sa.sin_port);
	must(pthread_create(&o->thread, NULL, origin_accept, o) == 0);
}

static inline void origin_stop(struct origin *o)
{
	o->closing = true;
	(void)shutdown(o->listener, SHUT_RDWR);
	must(pthread_join(o->thread, NULL) == 0);
	(void)close(o->listener);
	while (o->running > 0) {
		for (unsigned i = 0; i < ORIGIN_CONNECTIONS; i++) {
			int fd = o->fds[i] - 1;

			if (fd >= 0)
				(void)shutdown(fd, SHUT_RDWR);
		}
		(void)usleep(1000);
	}
}

/* ---- names --------------------------------------------------------------- */

static _Atomic bool name_go;
static _Atomic unsigned names_asked, names_answered;

static inline void origin_name_go(void)
{
	name_go = true;
	while (names_answered < names_asked)
		(void)usleep(1000);
	(void)usleep(20000); /* the thread's last steps, for leak checkers */
}

/* In place of the C library's. */
int getaddrinfo(const char *node, const char *service,
		const struct addrinfo *hints, struct addrinfo **res)
{
	struct {
		struct addrinfo info;
		struct sockaddr_in sa;
	} * both;

	names_asked++;
	while (strcmp(node, "slow.test") == 0 && !name_go)
		(void)usleep(1000);
	if (strlen(node) < 5 || strcmp(node + strlen(node) - 5, ".test") != 0 ||
	    (hints != NULL && hints->ai_family == AF_INET6)) {
		names_answered++;
		return EAI_NONAME;
	}
	both = calloc(1, sizeof(*both));
	must(both != NULL);
	both->sa.sin_family = AF_INET;
	both->sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	both->sa.sin_port =
		htons((uint16_t)(service == NULL ? 0 : atoi(service)));
	both->info.ai_family = AF_INET;
	both->info.ai_socktype = SOCK_STREAM;
	both->info.ai_protocol = IPPROTO_TCP;
	both->info.ai_addrlen = sizeof(both->sa);
	both->info.ai_addr = (struct sockaddr *)&both->sa;
	*res = &both->info;
	names_answered++;
	return 0;
}

void freeaddrinfo(struct addrinfo *res)
{
	free(res);
}

#endif

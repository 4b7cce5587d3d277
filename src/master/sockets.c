#include "master/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"
#include "util/log.h"

struct listener {
	struct address wanted; /* as configured; port 0 stays 0 */
	struct address bound;
	int *fds;
	uint32_t count;
	uint32_t backlog;
	uint32_t listen_no;  /* in conf->listens */
	bool shared;         /* all workers accept from all fds */
	bool inherited;      /* from systemd */
	bool unasked;        /* inherited, and no [listen] names it */
	char congestion[16]; /* what it was born with: for congestion = "" */
};

struct sockets {
	struct listener *listeners;
	size_t count;
	size_t max;
	uint32_t workers;
	int *seat_fds; /* sockets_keep_seat() */
	uint32_t *seat_listens;
};

static int listener_add_fd(struct listener *l, int fd)
{
	int *fds = realloc(l->fds, (l->count + 1) * sizeof(*fds));

	if (fds == NULL) {
		close(fd);
		return -ENOMEM;
	}
	l->fds = fds;
	l->fds[l->count++] = fd;
	return 0;
}

static int listener_bound(struct listener *l)
{
	socklen_t congestion_bytes = sizeof(l->congestion) - 1;

	l->bound = l->wanted;
	l->bound.sa_bytes = sizeof(l->bound.sa);
	if (getsockname(l->fds[0], (struct sockaddr *)&l->bound.sa,
			&l->bound.sa_bytes) < 0)
		return -errno;
	if (getsockopt(l->fds[0], IPPROTO_TCP, TCP_CONGESTION, l->congestion,
		       &congestion_bytes) < 0)
		return -errno;
	return 0;
}

static int set_on(int fd, int level, int option)
{
	int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on)) < 0 ? -errno : 0;
}

/* A socket bound to addr; with reuseport it may have siblings. */
static int bind_socket(const struct address *addr, bool reuseport, int *out)
{
	int fd = socket(addr->sa.ss_family,
			SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = set_on(fd, SOL_SOCKET, SO_REUSEADDR);
	if (rc == 0 && reuseport)
		rc = set_on(fd, SOL_SOCKET, SO_REUSEPORT);
	if (rc == 0 && addr->sa.ss_family == AF_INET6)
		rc = set_on(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	if (rc == 0 &&
	    bind(fd, (const struct sockaddr *)&addr->sa, addr->sa_bytes) < 0)
		rc = -errno;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*out = fd;
	return 0;
}

/* SO_REUSEPORT would let us in beside a stranger of the same user who did
 * the same, and the kernel would then deal connections to both. */
static int probe_free(const struct address *addr)
{
	int fd;
	int rc = bind_socket(addr, false, &fd);

	if (rc == 0)
		close(fd);
	return rc;
}

static bool port_is_in(const struct sockets *s, uint16_t port)
{
	for (size_t i = 0; s != NULL && i < s->count; i++)
		if (address_port(&s->listeners[i].bound) == port)
			return true;
	return false;
}

static struct listener *find_wanted(const struct sockets *s,
				    const struct address *wanted)
{
	for (size_t i = 0; s != NULL && i < s->count; i++)
		if (!s->listeners[i].unasked &&
		    address_equal(&s->listeners[i].wanted, wanted))
			return &s->listeners[i];
	return NULL;
}

static int add_siblings(struct listener *l, uint32_t workers)
{
	while (!l->shared && l->count < workers) {
		int fd;
		int rc = bind_socket(&l->bound, true, &fd);

		if (rc == 0 && listen(fd, (int)l->backlog) < 0) {
			rc = -errno;
			close(fd);
		}
		if (rc < 0 && l->inherited) {
			l->shared = true;
			return 0;
		}
		if (rc == 0)
			rc = listener_add_fd(l, fd);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* port: for the other half of *:0, the one that the first half got. */
static int open_first(struct listener *l, uint16_t port)
{
	struct address addr = l->wanted;
	int fd;
	int rc;

	address_set_port(&addr, port);
	rc = bind_socket(&addr, true, &fd);
	if (rc < 0)
		return rc;
	if (listen(fd, (int)l->backlog) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	rc = listener_add_fd(l, fd);
	if (rc < 0)
		return rc;
	return listener_bound(l);
}

static int copy_fds(struct listener *l, const struct listener *from)
{
	l->bound = from->bound;
	l->shared = from->shared;
	l->inherited = from->inherited;
	l->unasked = from->unasked;
	memcpy(l->congestion, from->congestion, sizeof(l->congestion));
	for (uint32_t i = 0; i < from->count; i++) {
		int fd = fcntl(from->fds[i], F_DUPFD_CLOEXEC, 3);
		int rc;

		if (fd < 0)
			return -errno;
		rc = listener_add_fd(l, fd);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Moves every inherited socket that is meant by this listener into it. */
static int take_inherited(struct listener *l, const char *name,
			  struct inherited *in)
{
	for (size_t i = 0; in != NULL && i < in->count; i++) {
		struct inherited_socket *s = &in->sockets[i];
		bool same = address_equal(&s->bound, &l->wanted);
		int fd = s->fd;
		int rc;

		if (fd < 0 || s->family == AF_UNIX)
			continue;
		if (!same && (name == NULL || strcmp(s->name, name) != 0 ||
			      s->family != l->wanted.sa.ss_family))
			continue;
		if (l->count > 0 && !address_equal(&s->bound, &l->bound))
			continue;
		s->fd = -1;
		l->inherited = true;
		if (!s->reuseport)
			l->shared = true;
		rc = listener_add_fd(l, fd);
		if (rc == 0)
			rc = listener_bound(l);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static struct listener *new_listener(struct sockets *s)
{
	must(s->count < s->max);
	return &s->listeners[s->count++];
}

static int open_address(struct sockets *s, const struct address *wanted,
			uint16_t port, const struct conf_listen *want,
			uint32_t listen_no, const struct sockets *old,
			struct inherited *in)
{
	const struct listener *kept = find_wanted(old, wanted);
	struct listener *l = new_listener(s);
	int rc;

	l->wanted = *wanted;
	l->backlog = want->backlog;
	l->listen_no = listen_no;
	if (kept != NULL)
		rc = copy_fds(l, kept);
	else
		rc = take_inherited(l, want->name, in);
	if (rc == 0 && l->count == 0 && port != 0 && !port_is_in(old, port) &&
	    !port_is_in(s, port))
		rc = probe_free(wanted);
	if (rc == 0 && l->count == 0)
		rc = open_first(l, port);
	if (rc == 0)
		rc = add_siblings(l, s->workers);
	if (rc < 0 && wanted->optional && l->count == 0 &&
	    (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL)) {
		s->count--;
		return 0; /* a machine without IPv6 */
	}
	return rc;
}

static int open_listen(struct sockets *s, const struct conf *conf, size_t no,
		       const struct sockets *old, struct inherited *in,
		       struct fault *fault)
{
	const struct conf_listen *want = &conf->listens[no];
	struct address addr[2];
	int n = address_parse(want->address, addr);

	if (n < 0)
		return fault_set(fault, n, EXIT_CONFIG,
				 "[listen:%s] address = %s: not an "
				 "address:port, [address]:port or *:port",
				 want->name, want->address);
	for (int i = 0; i < n; i++) {
		uint16_t port = address_port(&addr[i]);
		int rc;

		if (port != 0 && find_wanted(s, &addr[i]) != NULL)
			return fault_set(fault, -EEXIST, EXIT_CONFIG,
					 "[listen:%s] address = %s: another "
					 "[listen] has it already",
					 want->name, want->address);
		if (i == 1 && port == 0) /* both halves of *:0 on one port */
			port = address_port(&s->listeners[s->count - 1].bound);
		rc = open_address(s, &addr[i], port, want, (uint32_t)no, old,
				  in);
		if (rc < 0)
			return fault_set(fault, rc, EXIT_FAILURE,
					 "[listen:%s] address = %s: %s",
					 want->name, want->address,
					 strerror(-rc));
	}
	return 0;
}

/* Sockets that systemd passed and no [listen] asked for are served too:
 * whoever wrote the socket unit wanted them. */
static int open_unasked(struct sockets *s, const struct sockets *old,
			struct inherited *in)
{
	for (size_t i = 0; old != NULL && i < old->count; i++)
		if (old->listeners[i].unasked) {
			struct listener *l = new_listener(s);
			int rc;

			l->wanted = old->listeners[i].wanted;
			l->backlog = old->listeners[i].backlog;
			rc = copy_fds(l, &old->listeners[i]);
			if (rc == 0)
				rc = add_siblings(l, s->workers);
			if (rc < 0)
				return rc;
		}
	for (size_t i = 0; in != NULL && i < in->count; i++)
		if (in->sockets[i].fd >= 0 &&
		    in->sockets[i].family != AF_UNIX) {
			struct listener *l = new_listener(s);
			int rc;

			l->wanted = in->sockets[i].bound;
			l->backlog = SOMAXCONN;
			l->unasked = true;
			rc = take_inherited(l, NULL, in);
			if (rc == 0)
				rc = add_siblings(l, s->workers);
			if (rc < 0)
				return rc;
		}
	return 0;
}

int sockets_open(struct sockets **out, const struct conf *conf,
		 uint32_t workers, const struct sockets *old,
		 struct inherited *from_systemd, struct fault *fault)
{
	struct sockets *s = calloc(1, sizeof(*s));
	int rc = -ENOMEM;

	must(workers > 0);
	if (s == NULL)
		goto no_memory;
	s->workers = workers;
	s->max = conf->listen_count * 2 + (old != NULL ? old->count : 0) +
		 (from_systemd != NULL ? from_systemd->count : 0);
	s->listeners = calloc(s->max > 0 ? s->max : 1, sizeof(*s->listeners));
	if (s->listeners == NULL)
		goto no_memory;
	for (size_t i = 0; i < conf->listen_count; i++) {
		rc = open_listen(s, conf, i, old, from_systemd, fault);
		if (rc < 0)
			goto no_socket;
	}
	rc = open_unasked(s, old, from_systemd);
	if (rc < 0) {
		fault_set(fault, rc, EXIT_FAILURE, "inherited sockets: %s",
			  strerror(-rc));
		goto no_socket;
	}
	*out = s;
	return 0;

no_memory:
	fault_set(fault, rc, EXIT_FAILURE, "listening sockets: %s",
		  strerror(-rc));
no_socket:
	sockets_close(s);
	return rc;
}

static void apply_one(const struct listener *l, int fd, const struct conf *conf)
{
	int lowat = (int)min_u64(conf->http.notsent_lowat, INT32_MAX);
	const char *congestion = conf->http.congestion[0] != '\0'
					 ? conf->http.congestion
					 : l->congestion;
	char text[ADDRESS_TEXT_BYTES];
	int rc = listen(fd, (int)l->backlog) < 0 ? -errno : 0;

	if (rc == 0)
		rc = set_on(fd, IPPROTO_TCP, TCP_NODELAY);
	if (rc == 0 && setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat,
				  sizeof(lowat)) < 0)
		rc = -errno;
	if (rc == 0 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
				  (socklen_t)strlen(congestion)) < 0)
		rc = -errno;
	if (rc < 0)
		log_warning("ev=socket_option address=%s error=\"%s\"",
			    address_format(&l->bound, text), strerror(-rc));
}

void sockets_apply(struct sockets *s, const struct conf *conf)
{
	for (size_t i = 0; i < s->count; i++)
		for (uint32_t n = 0; n < s->listeners[i].count; n++)
			apply_one(&s->listeners[i], s->listeners[i].fds[n],
				  conf);
}

void sockets_close(struct sockets *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; s->listeners != NULL && i < s->count; i++) {
		for (uint32_t n = 0; n < s->listeners[i].count; n++)
			if (s->listeners[i].fds[n] >= 0)
				close(s->listeners[i].fds[n]);
		free(s->listeners[i].fds);
	}
	free(s->listeners);
	free(s->seat_fds);
	free(s->seat_listens);
	free(s);
}

void sockets_log(const struct sockets *s)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct listener *l = &s->listeners[i];
		char text[ADDRESS_TEXT_BYTES];

		log_info("ev=listening address=%s sockets=%u inherited=%s "
			 "shared=%s",
			 address_format(&l->bound, text), l->count,
			 l->inherited ? "yes" : "no", l->shared ? "yes" : "no");
	}
}

void sockets_keep_seat(struct sockets *s, uint32_t seat, const int **fds,
		       const uint32_t **listens, size_t *count)
{
	size_t all = 0;
	size_t n = 0;

	must(seat < s->workers);
	for (size_t i = 0; i < s->count; i++)
		all += s->listeners[i].count;
	free(s->seat_fds);
	free(s->seat_listens);
	s->seat_fds = calloc(all + 1, sizeof(*s->seat_fds));
	s->seat_listens = calloc(all + 1, sizeof(*s->seat_listens));
	/* a fresh child: nothing is lost */
	must(s->seat_fds != NULL && s->seat_listens != NULL);
	for (size_t i = 0; i < s->count; i++) {
		struct listener *l = &s->listeners[i];

		for (uint32_t k = 0; k < l->count; k++) {
			if (l->shared || k % s->workers == seat) {
				s->seat_listens[n] =
					l->unasked ? UINT32_MAX : l->listen_no;
				s->seat_fds[n++] = l->fds[k];
			} else {
				close(l->fds[k]);
				l->fds[k] = -1;
			}
		}
	}
	*fds = s->seat_fds;
	if (listens != NULL)
		*listens = s->seat_listens;
	*count = n;
}

const struct address *sockets_address(const struct sockets *s, size_t i)
{
	return i < s->count ? &s->listeners[i].bound : NULL;
}

int sockets_check_congestion(const char *name)
{
	int fd;
	int rc = 0;

	if (name[0] == '\0')
		return 0;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name,
		       (socklen_t)strlen(name)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

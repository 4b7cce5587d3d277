#include "master/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static int describe(struct inherited_socket *s, int fd)
{
	struct sockaddr_un sun;
	socklen_t bytes = sizeof(s->bound.sa);
	int on = 0;
	socklen_t on_bytes = sizeof(on);
	int flags;

	memset(s, 0, sizeof(*s));
	s->fd = fd;
	if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
		return -ENOTSOCK;
	if (getsockname(fd, (struct sockaddr *)&s->bound.sa, &bytes) < 0)
		return -errno;
	s->family = s->bound.sa.ss_family;
	s->bound.sa_bytes = bytes;
	if (s->family == AF_UNIX) {
		memset(&sun, 0, sizeof(sun));
		memcpy(&sun, &s->bound.sa,
		       bytes < sizeof(sun) ? bytes : sizeof(sun));
		(void)snprintf(s->path, sizeof(s->path), "%.*s",
			       (int)sizeof(s->path) - 1, sun.sun_path);
	} else if (s->family != AF_INET && s->family != AF_INET6) {
		return -EAFNOSUPPORT;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &on_bytes) == 0)
		s->reuseport = on != 0;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int inherited_take(struct inherited *in, struct fault *fault)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);
	int rc = 0;

	in->count = 0;
	if (n < 0)
		return fault_set(fault, n, EXIT_FAILURE,
				 "LISTEN_FDS of the environment: %s",
				 strerror(-n));
	for (int i = 0; i < n; i++) {
		struct inherited_socket *s = &in->sockets[in->count];

		if (in->count == INHERITED_MAX) {
			rc = fault_set(fault, -E2BIG, EXIT_FAILURE,
				       "LISTEN_FDS: more than %u sockets",
				       INHERITED_MAX);
			break;
		}
		rc = describe(s, SD_LISTEN_FDS_START + i);
		if (rc < 0) {
			rc = fault_set(fault, rc, EXIT_FAILURE,
				       "LISTEN_FDS: descriptor %d (%s) is not "
				       "a listening TCP or unix socket",
				       SD_LISTEN_FDS_START + i, names[i]);
			break;
		}
		(void)snprintf(s->name, sizeof(s->name), "%s", names[i]);
		in->count++;
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return rc;
}

void inherited_close(struct inherited *in)
{
	for (size_t i = 0; i < in->count; i++)
		if (in->sockets[i].fd >= 0)
			close(in->sockets[i].fd);
	in->count = 0;
}

int inherited_take_unix(struct inherited *in, const char *path)
{
	for (size_t i = 0; i < in->count; i++) {
		struct inherited_socket *s = &in->sockets[i];
		int fd = s->fd;

		if (fd < 0 || s->family != AF_UNIX)
			continue;
		if (strcmp(s->path, path) == 0 ||
		    strcmp(s->name, "admin") == 0) {
			s->fd = -1;
			return fd;
		}
	}
	return -1;
}

#include "http/wire.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/tls.h"

bool wire_is_peer_error(int err)
{
	return err == EPIPE || err == ECONNRESET || err == ENOTCONN ||
	       err == ETIMEDOUT || err == EHOSTUNREACH || err == ENETUNREACH ||
	       err == ECONNABORTED || err == ENETDOWN;
}

void wire_init(struct wire *w, int fd, struct tls *tls)
{
	memset(w, 0, sizeof(*w));
	w->fd = fd;
	w->tls = tls;
	w->writable = true;
	if (tls != NULL)
		tls_attach(tls, w);
}

void wire_fini(struct wire *w)
{
	tls_free(w->tls);
	free(w->out);
	close(w->fd);
}

bool wire_has_input(const struct wire *w)
{
	return w->readable || (w->tls != NULL && tls_has_input(w->tls));
}

size_t wire_receive_clear(struct wire *w, void *dst, size_t dst_bytes)
{
	ssize_t n;

	if (!w->readable)
		return 0;
	do
		n = recv(w->fd, dst, dst_bytes, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		w->readable = false;
		if (errno != EAGAIN)
			w->broken = true;
		return 0;
	}
	if (n == 0) {
		w->readable = false;
		w->peer_closed = true;
		return 0;
	}
	/* a short read has emptied the socket: the next byte is an edge */
	if ((size_t)n < dst_bytes && !w->peer_closed)
		w->readable = false;
	return (size_t)n;
}

size_t wire_receive(struct wire *w, void *dst, size_t dst_bytes)
{
	return w->tls == NULL ? wire_receive_clear(w, dst, dst_bytes)
			      : tls_receive(w->tls, dst, dst_bytes);
}

bool wire_was_cut_short(const struct wire *w)
{
	return w->tls != NULL && tls_was_cut_short(w->tls);
}

int wire_keep(struct wire *w, const void *bytes, size_t count)
{
	char *out = NULL;

	if (w->out_bytes + count <= WIRE_KEPT_MAX)
		out = realloc(w->out, w->out_bytes + count);
	if (out == NULL) {
		w->broken = true;
		return -EPIPE;
	}
	memcpy(out + w->out_bytes, bytes, count);
	w->out = out;
	w->out_bytes += (uint32_t)count;
	return 0;
}

static void note_taken(struct wire *w, size_t count)
{
	w->taken += count;
	w->wrote = true;
}

int wire_send_clear(struct wire *w, const void *bytes, size_t count, int flags)
{
	ssize_t n;

	if (w->broken)
		return -EPIPE;
	if (w->out != NULL || !w->writable)
		return wire_keep(w, bytes, count);
	do
		n = send(w->fd, bytes, count, MSG_NOSIGNAL | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN) {
		w->broken = true;
		return -EPIPE;
	}
	if (n < 0)
		n = 0;
	else
		note_taken(w, (size_t)n);
	if ((size_t)n == count)
		return 0;
	w->writable = false;
	return wire_keep(w, (const char *)bytes + n, count - (size_t)n);
}

int wire_send(struct wire *w, const void *bytes, size_t count, bool more)
{
	int flags = more ? MSG_MORE : 0;

	return w->tls == NULL ? wire_send_clear(w, bytes, count, flags)
			      : tls_send(w->tls, bytes, count, flags);
}

bool wire_flush(struct wire *w)
{
	while (w->out != NULL && w->writable && !w->broken) {
		ssize_t n = send(w->fd, w->out + w->out_sent,
				 w->out_bytes - w->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			w->writable = false;
		} else if (n < 0) {
			w->broken = true;
		} else {
			note_taken(w, (size_t)n);
			w->out_sent += (uint32_t)n;
			if (w->out_sent == w->out_bytes) {
				free(w->out);
				w->out = NULL;
				w->out_sent = 0;
				w->out_bytes = 0;
			}
		}
	}
	return w->out == NULL && !w->broken;
}

static int64_t send_file(struct wire *w, int file_fd, uint64_t file_off,
			 uint64_t count)
{
	off_t off = (off_t)file_off;
	ssize_t n;

	do
		n = sendfile(w->fd, file_fd, &off, count);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		note_taken(w, (size_t)n);
		return n;
	}
	if (n == 0)
		return -ENODATA;
	if (errno == EAGAIN) {
		w->writable = false;
		/* of what a file has more, TLS of the kernel pushes nothing */
		if (w->tls != NULL)
			wire_push(w);
		return 0;
	}
	if (!wire_is_peer_error(errno))
		return -EIO;
	w->broken = true;
	return -EPIPE;
}

int64_t wire_read_file(int file_fd, void *dst, size_t dst_bytes,
		       uint64_t file_off)
{
	ssize_t n;

	do
		n = pread(file_fd, dst, dst_bytes, (off_t)file_off);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n == 0 ? -ENODATA : -EIO;
	return n;
}

static int64_t send_copy(struct wire *w, int file_fd, uint64_t file_off,
			 uint64_t count)
{
	char piece[WIRE_PIECE_BYTES];
	int64_t n = wire_read_file(file_fd, piece,
				   min_u64(count, sizeof(piece)), file_off);

	if (n < 0)
		return n;
	/* TLS of the kernel would not push what is held back */
	if (wire_send_clear(w, piece, (size_t)n,
			    w->tls == NULL && (uint64_t)n < count ? MSG_MORE
								  : 0) < 0)
		return -EPIPE;
	return n;
}

int64_t wire_file(struct wire *w, int file_fd, uint64_t file_off,
		  uint64_t count, bool copy)
{
	must(w->out == NULL);
	if (w->broken)
		return -EPIPE;
	if (!w->writable)
		return 0;
	if (w->tls != NULL && !tls_kernel_sends(w->tls))
		return tls_file(w->tls, file_fd, file_off, count);
	return copy ? send_copy(w, file_fd, file_off, count)
		    : send_file(w, file_fd, file_off, count);
}

size_t wire_room(const struct wire *w)
{
	uint32_t info[SK_MEMINFO_VARS];
	socklen_t bytes = sizeof(info);
	size_t left = 0;

	if (getsockopt(w->fd, SOL_SOCKET, SO_MEMINFO, info, &bytes) == 0 &&
	    bytes == sizeof(info) &&
	    info[SK_MEMINFO_SNDBUF] > info[SK_MEMINFO_WMEM_QUEUED])
		left = info[SK_MEMINFO_SNDBUF] - info[SK_MEMINFO_WMEM_QUEUED];
	/* pages that are half full, and heads, count for more than bytes */
	left = left / 4 * 3 / WIRE_PIECE_BYTES * WIRE_PIECE_BYTES;
	return max_u64(left, WIRE_PIECE_BYTES);
}

uint64_t wire_unread(const struct wire *w)
{
	int queued = 0;

	if (ioctl(w->fd, SIOCOUTQ, &queued) < 0 || queued < 0)
		queued = 0;
	return (uint64_t)queued + w->out_bytes - w->out_sent;
}

uint64_t wire_held(const struct wire *w)
{
	return w->tls != NULL ? tls_kernel_holds(w->tls) : 0;
}

void wire_push(const struct wire *w)
{
	int on = 1;

	(void)setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool wire_say_end(struct wire *w)
{
	bool said = w->tls == NULL || tls_shutdown(w->tls);

	return wire_flush(w) && said && wire_held(w) == 0;
}

int wire_shutdown(struct wire *w)
{
	(void)wire_say_end(w);
	if (w->broken || shutdown(w->fd, SHUT_WR) < 0)
		return -EPIPE;
	return 0;
}

void wire_reset_at_close(struct wire *w)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	(void)!setsockopt(w->fd, SOL_SOCKET, SO_LINGER, &at_once,
			  sizeof(at_once));
}

bool wire_kernel_encrypts(const struct wire *w)
{
	return w->tls != NULL && tls_kernel_sends(w->tls);
}

bool wire_chose_h2(const struct wire *w)
{
	return w->tls != NULL && tls_chose_h2(w->tls);
}

#include "ipc/inbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Wanted room for messages that wait; the kernel may grant less. */
#define QUEUE_BYTES (1 << 20)

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static int inbox_open(struct inbox *box)
{
	const int room = QUEUE_BYTES;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC,
		       0, fds) < 0)
		return -errno;
	/* the sender's buffer is what bounds the queue; less is no fault */
	(void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	box->rx = fds[0];
	box->tx = fds[1];
	return 0;
}

static void inbox_close(struct inbox *box)
{
	close_fd(&box->rx);
	close_fd(&box->tx);
}

int inboxes_open(struct inboxes *in)
{
	int rc;

	in->master = in->prefetcher = in->resolver = (struct inbox){ -1, -1 };
	for (size_t n = 0; n < SEGMENT_WORKERS; n++) {
		in->workers[n] = (struct inbox){ -1, -1 };
		in->bells[n] = -1;
	}
	rc = inbox_open(&in->master);
	if (rc == 0)
		rc = inbox_open(&in->prefetcher);
	if (rc == 0)
		rc = inbox_open(&in->resolver);
	for (size_t n = 0; rc == 0 && n < SEGMENT_WORKERS; n++) {
		rc = inbox_open(&in->workers[n]);
		if (rc < 0)
			break;
		in->bells[n] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (in->bells[n] < 0)
			rc = -errno;
	}
	if (rc < 0)
		inboxes_close(in);
	return rc;
}

void inboxes_close(struct inboxes *in)
{
	inbox_close(&in->master);
	inbox_close(&in->prefetcher);
	inbox_close(&in->resolver);
	for (size_t n = 0; n < SEGMENT_WORKERS; n++) {
		inbox_close(&in->workers[n]);
		close_fd(&in->bells[n]);
	}
}

int inbox_send(int tx, const void *message, size_t bytes)
{
	ssize_t n;

	/* an empty message would read as "closed" */
	must(bytes > 0 && bytes <= INBOX_MESSAGE_BYTES);
	do {
		n = send(tx, message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	/* ENOBUFS: the system is short of room, which passes as well */
	if (errno == EWOULDBLOCK || errno == ENOBUFS)
		return -EAGAIN;
	return -errno;
}

ssize_t inbox_receive(int rx, void *buffer, size_t buffer_bytes)
{
	ssize_t n;

	do {
		n = recv(rx, buffer, buffer_bytes, MSG_DONTWAIT | MSG_TRUNC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE; /* nobody holds the other end any more */
	if ((size_t)n > buffer_bytes)
		return -EMSGSIZE;
	return n;
}

void inbox_ring(int bell)
{
	const uint64_t one = 1;

	/* EAGAIN: the counter is full, so the bell is ringing already */
	while (write(bell, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void inbox_unring(int bell)
{
	uint64_t count;

	while (read(bell, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

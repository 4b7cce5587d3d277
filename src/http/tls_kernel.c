#include "http/tls_kernel.h"

#include <endian.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define ALERT_RECORD  21 /* RFC 8446 section 5.1 */
#define ALERT_WARNING 1
#define CLOSE_NOTIFY  0

/* Header and tag, and in TLS 1.3 the type, else a part of the nonce. */
#define OVERHEAD_13 (5u + 16u + 1u)
#define OVERHEAD_12 (5u + 16u + 8u)

#define STATE_CLOSED 7 /* TCP_CLOSE, which <linux/tcp.h> does not name */

#define TRIES 16

/* Records made with the key; and what one adds. */
static int count_records(int fd, uint64_t *count, uint32_t *overhead)
{
	union {
		struct tls_crypto_info info;
		struct tls12_crypto_info_aes_gcm_128 aes128;
		struct tls12_crypto_info_aes_gcm_256 aes256;
	} of;
	const unsigned char *next;
	socklen_t bytes = sizeof(of.info);

	memset(&of, 0, sizeof(of));
	if (getsockopt(fd, SOL_TLS, TLS_TX, &of, &bytes) < 0)
		return -errno;
	switch (of.info.cipher_type) {
	case TLS_CIPHER_AES_GCM_128:
		bytes = sizeof(of.aes128);
		next = of.aes128.rec_seq;
		break;
	case TLS_CIPHER_AES_GCM_256:
		bytes = sizeof(of.aes256);
		next = of.aes256.rec_seq;
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (getsockopt(fd, SOL_TLS, TLS_TX, &of, &bytes) < 0)
		return -errno;
	*overhead =
		of.info.version == TLS_1_3_VERSION ? OVERHEAD_13 : OVERHEAD_12;
	memcpy(count, next, sizeof(*count));
	*count = be64toh(*count);
	explicit_bzero(&of, sizeof(of));
	return 0;
}

static int acknowledged(int fd, uint64_t *bytes)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
		return -errno;
	if (size < offsetof(struct tcp_info, tcpi_bytes_acked) +
			   sizeof(info.tcpi_bytes_acked))
		return -EOPNOTSUPP;
	if (info.tcpi_state == STATE_CLOSED) /* nothing is passed on any more */
		return -ENOTCONN;
	*bytes = info.tcpi_bytes_acked;
	return 0;
}

/* Bytes that TCP has ever been given. */
static int count_tcp(int fd, uint64_t *count)
{
	uint64_t before, after;
	int queued;

	for (int n = 0; n < TRIES; n++) {
		int rc = acknowledged(fd, &before);

		if (rc == 0 && ioctl(fd, SIOCOUTQ, &queued) < 0)
			rc = -errno;
		if (rc == 0)
			rc = acknowledged(fd, &after);
		if (rc < 0)
			return rc;
		*count = before + (uint64_t)queued;
		if (before == after)
			return 0;
	}
	return -EAGAIN; /* too few by what came in between */
}

int tls_kernel_begin(struct tls_kernel *k, int fd, uint64_t taken)
{
	uint64_t records, tcp;
	int rc = count_records(fd, &records, &k->overhead);

	if (rc == 0)
		rc = count_tcp(fd, &tcp);
	if (rc < 0)
		return rc;
	k->base = tcp - taken - records * k->overhead;
	return 0;
}

uint64_t tls_kernel_count(const struct tls_kernel *k, int fd, uint64_t taken)
{
	uint64_t records, tcp, due;
	uint32_t overhead;
	int rc = count_records(fd, &records, &overhead);

	if (rc == 0)
		rc = count_tcp(fd, &tcp);
	if (rc == -EAGAIN)
		return 1;
	if (rc < 0)
		return 0; /* the connection has failed */
	due = k->base + taken + records * k->overhead;
	return due > tcp ? due - tcp : 0;
}

int tls_kernel_say_end(int fd)
{
	static const unsigned char words[] = { ALERT_WARNING, CLOSE_NOTIFY };
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(unsigned char))];
	} control;
	struct iovec iov = { (void *)(uintptr_t)words, sizeof(words) };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t n;

	memset(&control, 0, sizeof(control));
	control.head.cmsg_level = SOL_TLS;
	control.head.cmsg_type = TLS_SET_RECORD_TYPE;
	control.head.cmsg_len = CMSG_LEN(sizeof(unsigned char));
	*CMSG_DATA(&control.head) = ALERT_RECORD;
	do
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

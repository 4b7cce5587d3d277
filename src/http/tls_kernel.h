/*
 * tls_kernel - what the kernel's TLS does not tell by itself: what it holds.
 *
 * Used by: http/tls.c.  Linux 4.19 and later; AES-GCM only.
 * A send that the kernel took may be in a record that it has not made yet, or
 * that TCP has not taken whole.  It goes on with those by itself, but not
 * after shutdown() or close(): then they are lost, and no error tells.  TCP's
 * count of bytes, that of the records and that of what was sent do.
 */
#ifndef REELCACHE_HTTP_TLS_KERNEL_H
#define REELCACHE_HTTP_TLS_KERNEL_H

#include <stdint.h>

#include "util/base.h"

struct tls_kernel {
	uint64_t base;     /* due to TCP, less `taken` and what records add */
	uint32_t overhead; /* bytes that a record adds */
};

/* At once after the kernel was given the key for sending, when TCP has taken
 * all that came before.  taken: bytes the socket has ever taken, whichever
 * count it is that grows with each send.  -errno: the kernel cannot tell. */
int tls_kernel_begin(struct tls_kernel *k, int fd, uint64_t taken) MUSTCHECK;

/* Bytes that TCP is still to be given: rather too many than too few.  0 when
 * the connection was reset. */
uint64_t tls_kernel_count(const struct tls_kernel *k, int fd, uint64_t taken);

/* Sends close_notify (RFC 8446 section 6.1) as a record of its own: how many
 * bytes the socket took, or -errno.  None may be open (MSG_MORE) then: there
 * are kernels that would send this as data. */
int tls_kernel_say_end(int fd) MUSTCHECK;

#endif

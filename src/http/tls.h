/*
 * tls - TLS 1.2 and 1.3 on the server's side (RFC 8446, RFC 5246), by
 * OpenSSL.
 *
 * Used by: worker; by the master only to check certificates.  Nothing blocks.
 * A context is what the connections of one listener share: certificates,
 * chosen by SNI (RFC 6066 section 3), protocols offered by ALPN (RFC 7301),
 * the keys of session tickets (RFC 5077, RFC 8446 section 4.6.1), which all
 * workers share and which outlive them.
 *
 * Errors: -EINVAL with words for the log in `why`, or -ENOMEM.
 */
#ifndef REELCACHE_HTTP_TLS_H
#define REELCACHE_HTTP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/segment.h"
#include "util/base.h"

#define TLS_SEND_BYTES 65536u /* of plain text in one send */
#define TLS_WHY_BYTES  256u

struct wire;

/* Text of PEM files: certificates with their chains, and their keys. */
struct tls_pem {
	const char *certificate;
	const char *key;
};

/* Those of one listener. */
struct tls_pems {
	struct tls_pem *pems;
	size_t count;
};

struct tls_context;

/* pems: at least one; the first serves whoever names no known host.
 * tickets: must outlive the context; NULL: no tickets.  kernel: it encrypts
 * what is sent, where it can. */
int tls_context_new(struct tls_context **out, const struct tls_pem *pems,
		    size_t count, const struct segment_tickets *tickets,
		    bool kernel, char why[TLS_WHY_BYTES]) MUSTCHECK;
void tls_context_free(struct tls_context *context);

/* A new first key; the oldest goes.  Only one process may call it.  -EIO: no
 * random bytes. */
int tls_tickets_rotate(struct segment_tickets *tickets) MUSTCHECK;

/* Does this kernel encrypt for sockets (TCP_ULP "tls")?  Asked by root, it
 * loads its module. */
bool tls_kernel_has_it(void);

/* The library's version, such as "3.0.15". */
const char *tls_library_version(void);

/* One connection.  NULL: out of memory. */
struct tls *tls_new(struct tls_context *context);
void tls_free(struct tls *t); /* NULL is fine */

/* The rest is for wire.c: what the functions of the same names there say. */
void tls_attach(struct tls *t, struct wire *w);
bool tls_has_input(const struct tls *t);
bool tls_was_cut_short(const struct tls *t);
size_t tls_receive(struct tls *t, void *dst, size_t dst_bytes);
int tls_send(struct tls *t, const void *bytes, size_t count,
	     int flags) MUSTCHECK;
/* Does the kernel encrypt what is sent?  Then the socket takes plain text, and
 * files. */
bool tls_kernel_sends(const struct tls *t);
/* Bytes that it took, or has encrypted, and that TCP has not: they are lost at
 * a shutdown.  Rather too many than too few; 0 where it does not encrypt. */
uint64_t tls_kernel_holds(const struct tls *t);
int64_t tls_file(struct tls *t, int file_fd, uint64_t file_off,
		 uint64_t count) MUSTCHECK;
/* False: there was no room, it is to be called again. */
bool tls_shutdown(struct tls *t);
bool tls_chose_h2(const struct tls *t);
bool tls_is_open(const struct tls *t); /* the handshake is over */

#endif

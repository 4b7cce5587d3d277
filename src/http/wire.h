/*
 * wire - the bytes to and from one client: its socket, in clear or in TLS.
 *
 * Used by: worker.  Nothing blocks.  The socket's event is edge-triggered and
 * its owner's: it sets readable and writable, and acts on the flags.
 * What the socket does not take of wire_send() is kept and sent first; a
 * wire that keeps nothing holds no buffer.  In TLS, records are gathered in
 * a buffer that all wires of the process share and leave it in sends of up
 * to 64 KiB before each function returns; where the kernel encrypts, all goes
 * to it as in clear.
 */
#ifndef REELCACHE_HTTP_WIRE_H
#define REELCACHE_HTTP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

#define WIRE_PIECE_BYTES 16384u /* a record of TLS, a frame of HTTP/2 */
#define WIRE_KEPT_MAX    (576u * 1024u)

struct tls;

struct wire {
	struct tls *tls; /* NULL = in clear */
	char *out;       /* kept; in TLS records, where the kernel makes none */
	uint32_t out_sent;
	uint32_t out_bytes;
	uint64_t taken; /* bytes that the socket took */
	int fd;
	bool readable : 1; /* no EAGAIN since the last edge */
	bool writable : 1;
	bool peer_closed : 1; /* its sending side */
	bool broken : 1;      /* nothing more can be sent or received */
	bool wrote : 1;       /* bytes went out; the owner clears it */
};

/* Takes fd over (a non-blocking socket), and tls. */
void wire_init(struct wire *w, int fd, struct tls *tls);
/* Closes. */
void wire_fini(struct wire *w);

/* Could wire_receive() bring anything? */
bool wire_has_input(const struct wire *w);

/* Bytes received; 0: none now, or the end, or an error: see the flags.  A
 * handshake goes on in here. */
size_t wire_receive(struct wire *w, void *dst, size_t dst_bytes);

/* Did the last wire_receive() bring nothing although more is there, so that
 * others have their turn?  No event will tell of it. */
bool wire_was_cut_short(const struct wire *w);

/* Takes all of it, or sets broken and returns -EPIPE.  more: further bytes
 * follow at once. */
int wire_send(struct wire *w, const void *bytes, size_t count,
	      bool more) MUSTCHECK;

/* Sends what was kept.  True: nothing is any more, and it is not broken. */
bool wire_flush(struct wire *w);

/* Bytes of a file: how many went out (in TLS: all but what is kept), 0 = the
 * socket takes none now, -EPIPE: peer gone, -ENODATA: the file is shorter,
 * -EIO: it cannot be read.  Nothing may be kept when it is called.  copy: what
 * is written to the file afterwards does not change what was sent, as it may
 * with sendfile(). */
int64_t wire_file(struct wire *w, int file_fd, uint64_t file_off,
		  uint64_t count, bool copy) MUSTCHECK;

/* Reads bytes of a file that are to be sent: how many, at least 1; -ENODATA:
 * the file is shorter; -EIO: it cannot be read. */
int64_t wire_read_file(int file_fd, void *dst, size_t dst_bytes,
		       uint64_t file_off) MUSTCHECK;

/*
 * About how many bytes will the kernel take at once?  What it leaves over is
 * kept for as long as a client is slow; so near the end of its room less
 * should be made.  WIRE_PIECE_BYTES at least.
 */
size_t wire_room(const struct wire *w);

/* Bytes that were taken and that the peer has not acknowledged. */
uint64_t wire_unread(const struct wire *w);

/* Bytes that were taken and that TLS of the kernel has not passed on to TCP;
 * wire_unread() does not count them. */
uint64_t wire_held(const struct wire *w);

/* What MSG_MORE holds back goes out. */
void wire_push(const struct wire *w);

/* Tells the peer inside of TLS that no more will be sent (RFC 8446 section
 * 6.1); in clear nothing does.  False: it has not all gone out, or the wire is
 * broken.  No event may tell when it has, where wire_kernel_encrypts(). */
bool wire_say_end(struct wire *w);

/* No more will be sent: tells the peer, also as wire_say_end() does.  What is
 * kept is lost.  -EPIPE: broken. */
int wire_shutdown(struct wire *w) MUSTCHECK;

/* Closing will be a reset, and the kernel does not go on trying. */
void wire_reset_at_close(struct wire *w);

/* Is it the kernel that encrypts what is sent?  False in clear text. */
bool wire_kernel_encrypts(const struct wire *w);

/* Was HTTP/2 chosen by ALPN?  False in clear text. */
bool wire_chose_h2(const struct wire *w);

/* inside of wire.c and tls.c: */

/* Appends to what is kept. */
int wire_keep(struct wire *w, const void *bytes, size_t count) MUSTCHECK;
/* send(); what it does not take is kept. */
int wire_send_clear(struct wire *w, const void *bytes, size_t count,
		    int flags) MUSTCHECK;
/* recv() with its flags set. */
size_t wire_receive_clear(struct wire *w, void *dst, size_t dst_bytes);
bool wire_is_peer_error(int err);

#endif

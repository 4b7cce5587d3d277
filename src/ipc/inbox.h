/*
 * inbox - how processes send each other short messages.
 *
 * Every process has an inbox: the reading end of a SOCK_SEQPACKET pair whose
 * writing end all others inherit.  A message is one datagram, so several
 * senders never mix; the kernel bounds the queue, and a sender that finds it
 * full is told so at once (-EAGAIN) and tries again by timer.  The master
 * holds both ends all the time: what was sent to a process that was killed
 * is read by its successor.
 *
 * bells are eventfds: the prefetcher rings a worker's bell when a run on
 * which that worker waits has grown.
 */
#ifndef REELCACHE_IPC_INBOX_H
#define REELCACHE_IPC_INBOX_H

#include <stdint.h>
#include <sys/types.h>

#include "shm/segment.h"
#include "util/base.h"

#define INBOX_MESSAGE_BYTES 4096u /* longest message */

struct inbox {
	int rx; /* read by the owner; non-blocking */
	int tx; /* written by the others; non-blocking */
};

struct inboxes {
	struct inbox master;
	struct inbox prefetcher;
	struct inbox resolver;
	struct inbox workers[SEGMENT_WORKERS];
	int bells[SEGMENT_WORKERS]; /* eventfd, non-blocking */
};

/* All descriptors, close-on-exec.  0 or -errno. */
int inboxes_open(struct inboxes *in) MUSTCHECK;
void inboxes_close(struct inboxes *in);

/* 0, -EAGAIN (full: later), or -errno. */
int inbox_send(int tx, const void *message, size_t bytes) MUSTCHECK;

/* Bytes of the message, 0 when there is none, or -errno. */
ssize_t inbox_receive(int rx, void *buffer, size_t buffer_bytes) MUSTCHECK;

void inbox_ring(int bell);
void inbox_unring(int bell);

#endif

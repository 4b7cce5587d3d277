/*
 * serve - media responses: from the store, from runs, from the prefetcher, or
 * from a file of this machine.
 *
 * Used by: worker.  Nothing blocks but reading the disk.  A response's memory
 * is one small struct; the request is kept only until its head is answered.
 */
#ifndef REELCACHE_WORKER_SERVE_H
#define REELCACHE_WORKER_SERVE_H

#include "http/head.h"
#include "http/sink.h"
#include "worker/desk.h"
#include "worker/locate.h"

/* desk->conf, seg, row, ipc, slot must be set.  Clears what a predecessor in
 * the slot left in its row.  0 or -ENOMEM. */
int serve_init(struct desk *desk) MUSTCHECK;
void serve_fini(struct desk *desk);

/* Answers a GET or HEAD for an object, now or later; ctx is not used: this is
 * a continuation of locate(). */
void serve_begin(void *ctx, struct desk *desk, struct sink *sink,
		 const struct head *head, const struct located *what);

/* This worker's bell rang: a run has grown, or the prefetcher is a new one. */
void serve_bell(struct desk *desk);

/* A message of REPLY_TYPE has come; checked here. */
void serve_reply(struct desk *desk, const void *message, size_t bytes);

/* Time-outs and what must be tried again.  Call about every 100 ms. */
void serve_tick(struct desk *desk);

#endif

/*
 * serve - media responses: from the store, from runs, from the prefetcher.
 *
 * Used by: worker.  Nothing blocks but reading the disk.  A response's memory
 * is one small struct; the request is kept only until its head is answered.
 */
#ifndef REELCACHE_WORKER_SERVE_H
#define REELCACHE_WORKER_SERVE_H

#include <stddef.h>

#include "http/head.h"
#include "http/sink.h"
#include "worker/desk.h"

/* desk->conf, seg, row, ipc, slot must be set.  Clears what a predecessor in
 * the slot left in its row.  0 or -ENOMEM. */
int serve_init(struct desk *desk) MUSTCHECK;
void serve_fini(struct desk *desk);

/* Answers a GET or HEAD for an object, now or later.  key: "source/id". */
void serve_begin(struct desk *desk, struct sink *sink, const struct head *head,
		 const char *key, size_t key_bytes);

/* This worker's bell rang: a run has grown, or the prefetcher is a new one. */
void serve_bell(struct desk *desk);

/* A message of REPLY_TYPE has come; checked here. */
void serve_reply(struct desk *desk, const void *message, size_t bytes);

/* Time-outs and what must be tried again.  Call about every 100 ms. */
void serve_tick(struct desk *desk);

#endif

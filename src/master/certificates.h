/*
 * certificates - the PEM files of [listen] sections with TLS, in memory.
 *
 * Used by: master, which reads them as the user that may, at a start and at
 * every reload; workers inherit the text.  Blocks while it reads.
 */
#ifndef REELCACHE_MASTER_CERTIFICATES_H
#define REELCACHE_MASTER_CERTIFICATES_H

#include "http/tls.h"
#include "master/fault.h"
#include "util/base.h"

struct conf;

/* *out: as many as conf->listens, each with as many pairs as it names files;
 * for certificates_free().  They have been checked: each certificate has its
 * key.  0 or -errno. */
int certificates_load(struct tls_pems **out, const struct conf *conf,
		      struct fault *fault) MUSTCHECK;

/* Wipes the keys.  NULL is fine. */
void certificates_free(struct tls_pems *all, const struct conf *conf);

#endif

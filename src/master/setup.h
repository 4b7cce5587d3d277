/*
 * setup - one configuration in use, with its listening sockets.
 *
 * Used by: master.  A reload makes a second one and, when its children are
 * ready, frees the first; children keep their own copy of either.
 */
#ifndef REELCACHE_MASTER_SETUP_H
#define REELCACHE_MASTER_SETUP_H

#include <stdint.h>

#include "master/certificates.h"
#include "master/fault.h"
#include "master/inherited.h"
#include "master/prepare.h"
#include "master/sockets.h"
#include "util/base.h"

struct conf;

struct setup {
	struct conf *conf;
	struct tls_pems *pems; /* one for each of conf->listens */
	struct sockets *sockets;
	uint32_t workers;
	uint64_t round; /* 1 at the start, grows with each reload */
};

/* Takes conf, also when it fails.  old is the setup before, or NULL.
 * Everything that can fail is done here and leaves old as it was. */
int setup_new(struct setup **out, struct conf *conf, const struct setup *old,
	      struct inherited *from_systemd, const struct identity *who,
	      struct fault *fault) MUSTCHECK;
void setup_free(struct setup *s);

/* Reads the file for a reload and makes its setup. */
int setup_reload(struct setup **out, const char *path, const struct setup *old,
		 const struct identity *who, struct fault *fault) MUSTCHECK;

/* Makes its log and socket options the ones in force. */
void setup_apply(struct setup *s);

#endif

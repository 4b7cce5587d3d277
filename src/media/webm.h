/*
 * webm - WebM and Matroska files (RFC 9559): SeekHead, Info, Cues.
 */
#ifndef REELCACHE_MEDIA_WEBM_H
#define REELCACHE_MEDIA_WEBM_H

#include "media/media_inner.h"

/* Do these first bytes (at least 4) begin a WebM file? */
bool webm_begins(const uint8_t *at);

/* All that was asked is held. */
void webm_step(struct media *m);

#endif

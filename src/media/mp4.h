/*
 * mp4 - ISO 14496-12 files: plain ones (moov before or behind the media
 * data) and fragmented ones (sidx, mfra).
 */
#ifndef REELCACHE_MEDIA_MP4_H
#define REELCACHE_MEDIA_MP4_H

#include "media/media_inner.h"

/* Do these first bytes (at least 8) begin an MP4 file? */
bool mp4_begins(const uint8_t *at);

/* All that was asked is held. */
void mp4_step(struct media *m);

#endif

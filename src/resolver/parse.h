/*
 * parse - the JSON of a helper program or resolver service.
 *
 * Used by: resolver.  Pure.  Two forms are understood: our own (version 1,
 * docs/protocol.md, with a "url" in each rendition) and that of yt-dlp -J.
 * Everything in it is hostile: what makes no sense is left out, and what no
 * rendition is left of is refused.
 */
#ifndef REELCACHE_RESOLVER_PARSE_H
#define REELCACHE_RESOLVER_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "store/resolution.h"
#include "util/base.h"

#define PARSE_BYTES_MAX (256u * 1024u * 1024u)

/*
 * *out is the caller's to free(); resolved_us is 0, expires_s is the time at
 * which its URLs stop working, minus a margin, at most wall_s + ttl_s.
 * -EINVAL, with a short reason in why: no rendition could be read that has not
 * expired; -ENOMEM.
 */
int parse_resolution(const char *json, size_t bytes, int64_t wall_s,
		     int64_t ttl_s, struct resolution **out, char *why,
		     size_t why_bytes) MUSTCHECK;

/* When a URL says that it expires: wall clock seconds; INT64_MAX: it does not
 * say. */
int64_t parse_url_expiry(const char *url);

/* Container and media type of a file's ending; NULL: not one of a video or of
 * sound.  audio: it has no picture. */
struct parse_ending {
	const char *ending;
	const char *container;
	const char *type;
	const char *audio_type;
	bool audio; /* never has a picture */
};
const struct parse_ending *parse_ending_of(const char *ending);

#endif

/*
 * describe - from a response's head to an object's record, and whether two
 * records are of the same version.
 *
 * Used by: prefetcher.  Pure; times are given.
 */
#ifndef REELCACHE_PREFETCHER_DESCRIBE_H
#define REELCACHE_PREFETCHER_DESCRIBE_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "store/layout.h"
#include "upstream/transfer.h"
#include "util/base.h"

/* Numbers and generation stay 0.  -ENOSPC: the texts are too long;
 * -EINVAL: the body is encoded (RFC 9110 section 8.4), which we never ask
 * for. */
int describe_head(const struct transfer_head *head,
		  const struct conf_source *source,
		  const struct conf_cache *cache, int64_t request_s,
		  int64_t now_s, struct object_record *rec) MUSTCHECK;

/* A validator for If-Range, which must be a strong one (RFC 9110 sections
 * 8.8.2.2 and 13.1.5); NULL = there is none. */
const char *describe_validator(const struct object_record *rec);

/* Certainly the same bytes?  Without a strong validator only when the source
 * is said to be immutable. */
bool describe_same(const struct object_record *a, const struct object_record *b,
		   const struct conf_source *source);

/* The head of a 304 or of a further 206 confirms rec at now_s: its freshness
 * and date are those of fresh (RFC 9111 section 4.3.4). */
void describe_confirm(struct object_record *rec,
		      const struct object_record *fresh);

bool describe_fresh(const struct object_record *rec, int64_t now_s);

/* May it be served this long after its freshness, the origin failing? */
bool describe_stale_ok(const struct object_record *rec,
		       const struct conf_cache *cache, int64_t now_s);

#endif

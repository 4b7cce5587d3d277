/*
 * json - writes a JSON document into a bounded buffer.
 *
 * Used by: worker, prefetcher.  Pure.
 * The first error sticks and json_end() tells it: what did not fit is never
 * handed out cut.  A call in the wrong place (a value without a key in an
 * object, one end too many) is broken logic: must().
 *
 *	json_init(&j, dst, sizeof(dst));
 *	json_object(&j);
 *	json_key(&j, "pid");
 *	json_u64(&j, pid);
 *	json_object_end(&j);
 *	rc = json_end(&j, &bytes);
 */
#ifndef REELCACHE_HTTP_JSON_H
#define REELCACHE_HTTP_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/slice.h"
#include "util/base.h"

#define JSON_DEPTH_MAX 16u

struct json {
	char *dst;
	size_t max_bytes;
	size_t used_bytes;
	int error; /* 0 or -ENOSPC */
	uint8_t depth;
	bool need_comma;
	bool have_key;
	uint32_t objects; /* bit n: level n is an object */
};

void json_init(struct json *j, char *dst, size_t max_bytes);

void json_object(struct json *j);
void json_object_end(struct json *j);
void json_array(struct json *j);
void json_array_end(struct json *j);

/* name: plain ASCII that needs no escape. */
void json_key(struct json *j, const char *name);

/* Escapes; bytes that are not UTF-8 become U+FFFD.  Absent = null. */
void json_slice(struct json *j, struct slice value);
void json_text(struct json *j, const char *value);
void json_u64(struct json *j, uint64_t value);
void json_i64(struct json *j, int64_t value);
/* A number with the fraction that is there: 12, 12.3, 12.345. */
void json_thousandths(struct json *j, uint64_t value);
void json_bool(struct json *j, bool value);
void json_null(struct json *j);

/* After the document: lines of documents, one each. */
void json_newline(struct json *j);

/* 0 and the length of the whole document (no NUL is added), or -ENOSPC. */
int json_end(struct json *j, size_t *bytes) MUSTCHECK;

#endif

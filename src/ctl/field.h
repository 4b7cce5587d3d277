/*
 * field - reading fields of an answer that may be anything.
 *
 * Used by: reelcachectl.  Pure.
 */
#ifndef REELCACHE_CTL_FIELD_H
#define REELCACHE_CTL_FIELD_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* text as JSON, with nothing behind it; json_object_put().  NULL: it is not. */
struct json_object *field_read(const char *text, size_t bytes);

/* The member, or NULL: obj is no object, or has none of that name. */
struct json_object *field_member(struct json_object *obj, const char *name);

/* The member as an array of so many elements, or NULL and 0. */
struct json_object *field_array(struct json_object *obj, const char *name,
				size_t *count);

/* False: there is no such number of at least 0. */
bool field_number(struct json_object *obj, const char *name, uint64_t *out);

/* The number, or 0. */
uint64_t field_number_or_0(struct json_object *obj, const char *name);

/* The text, or otherwise. */
const char *field_text(struct json_object *obj, const char *name,
		       const char *otherwise);

bool field_is_true(struct json_object *obj, const char *name);

#endif

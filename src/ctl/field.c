#include "ctl/field.h"

#include <limits.h>

struct json_object *field_read(const char *text, size_t bytes)
{
	struct json_tokener *tok;
	struct json_object *obj;
	size_t end;

	if (bytes > INT_MAX)
		return NULL;
	tok = json_tokener_new();
	if (tok == NULL)
		return NULL;
	obj = json_tokener_parse_ex(tok, text, (int)bytes);
	end = json_tokener_get_parse_end(tok);
	if (json_tokener_get_error(tok) != json_tokener_success) {
		json_object_put(obj);
		obj = NULL;
	}
	json_tokener_free(tok);
	for (; obj != NULL && end < bytes; end++)
		if (text[end] != '\n' && text[end] != '\r' &&
		    text[end] != ' ' && text[end] != '\t') {
			json_object_put(obj);
			obj = NULL;
		}
	return obj;
}

struct json_object *field_member(struct json_object *obj, const char *name)
{
	struct json_object *member;

	if (!json_object_is_type(obj, json_type_object) ||
	    !json_object_object_get_ex(obj, name, &member))
		return NULL;
	return member;
}

struct json_object *field_array(struct json_object *obj, const char *name,
				size_t *count)
{
	struct json_object *array = field_member(obj, name);

	*count = 0;
	if (!json_object_is_type(array, json_type_array))
		return NULL;
	*count = json_object_array_length(array);
	return array;
}

bool field_number(struct json_object *obj, const char *name, uint64_t *out)
{
	struct json_object *member = field_member(obj, name);

	if (!json_object_is_type(member, json_type_int) ||
	    json_object_get_int64(member) < 0)
		return false;
	*out = json_object_get_uint64(member);
	return true;
}

uint64_t field_number_or_0(struct json_object *obj, const char *name)
{
	uint64_t n = 0;

	(void)field_number(obj, name, &n);
	return n;
}

const char *field_text(struct json_object *obj, const char *name,
		       const char *otherwise)
{
	struct json_object *member = field_member(obj, name);

	return json_object_is_type(member, json_type_string)
		       ? json_object_get_string(member)
		       : otherwise;
}

bool field_is_true(struct json_object *obj, const char *name)
{
	struct json_object *member = field_member(obj, name);

	if (json_object_is_type(member, json_type_int))
		return json_object_get_int64(member) != 0;
	return json_object_is_type(member, json_type_boolean) &&
	       json_object_get_boolean(member);
}

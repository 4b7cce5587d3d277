#include "worker/control_parse.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>

#define DEPTH_MAX 8

enum member {
	MEMBER_REQUEST,
	MEMBER_ID,
	MEMBER_QUALITY,
	MEMBER_SOURCE,
	MEMBER_TOPIC,
	MEMBER_ENCODING,
	MEMBER_START,
	MEMBER_SECONDS,
	MEMBER_DEADLINE,
	MEMBER_INTERVAL,
	MEMBER_OFFSET,
	MEMBER_LENGTH,
	MEMBER_BYTES,
	MEMBER_CREDIT,
};

enum member_kind {
	KIND_TEXT,
	KIND_COUNT,
	KIND_SECONDS, /* with a fraction: milliseconds here */
};

static const struct {
	const char *name;
	enum member_kind kind;
	size_t at; /* in struct control_message; REQUEST has its own */
	uint64_t min;
	uint64_t max;
	const char *fault;
} members[] = {
#define AT(field) offsetof(struct control_message, field)
	[MEMBER_REQUEST] = { "request", KIND_COUNT, 0, 0, UINT32_MAX,
			     "request must be a number below 4294967296" },
	[MEMBER_ID] = { "id", KIND_TEXT, AT(id), 1, 0,
			"id must be a text of 1 to 128 bytes" },
	[MEMBER_QUALITY] = { "q", KIND_TEXT, AT(quality), 1, 0,
			     "q must be a text of 1 to 128 bytes" },
	[MEMBER_SOURCE] = { "source", KIND_TEXT, AT(source), 1, 0,
			    "source must be a text of 1 to 128 bytes" },
	[MEMBER_TOPIC] = { "topic", KIND_TEXT, AT(topic), 1, 0,
			   "topic must be a text of 1 to 128 bytes" },
	[MEMBER_ENCODING] = { "encoding", KIND_TEXT, AT(encoding), 1, 0,
			      "encoding must be binary or base64" },
	[MEMBER_START] = { "start", KIND_SECONDS, AT(start_ms), 0, 0,
			   "start must be seconds, like 90 or 12.5" },
	[MEMBER_SECONDS] = { "seconds", KIND_SECONDS, AT(seconds_ms), 0, 0,
			     "seconds must be seconds, like 30 or 12.5" },
	[MEMBER_DEADLINE] = { "deadline", KIND_SECONDS, AT(deadline_ms), 0, 0,
			      "deadline must be seconds from now" },
	[MEMBER_INTERVAL] = { "interval_s", KIND_COUNT, AT(interval_s), 1, 60,
			      "interval_s must be a number from 1 to 60" },
	[MEMBER_OFFSET] = { "offset", KIND_COUNT, AT(offset), 0,
			    CONTROL_OFFSET_MAX,
			    "offset must be a number of bytes" },
	[MEMBER_LENGTH] = { "length", KIND_COUNT, AT(length), 1,
			    CONTROL_OFFSET_MAX,
			    "length must be a number of bytes, not 0" },
	[MEMBER_BYTES] = { "bytes", KIND_COUNT, AT(bytes), 1,
			   CONTROL_OFFSET_MAX,
			   "bytes must be a number of bytes, not 0" },
	[MEMBER_CREDIT] = { "credit", KIND_COUNT, AT(credit), 0,
			    CONTROL_CREDIT_MAX,
			    "credit must be a number of bytes, at most "
			    "16777216" },
#undef AT
};

#define BIT(member) (1u << (member))

static const struct {
	const char *name;
	enum control_type type;
	unsigned must;
	unsigned may;
} types[] = {
	{ "RESOLVE", CONTROL_RESOLVE, BIT(MEMBER_REQUEST) | BIT(MEMBER_ID),
	  BIT(MEMBER_SOURCE) },
	{ "PREFETCH", CONTROL_PREFETCH, BIT(MEMBER_REQUEST) | BIT(MEMBER_ID),
	  BIT(MEMBER_SOURCE) | BIT(MEMBER_QUALITY) | BIT(MEMBER_START) |
		  BIT(MEMBER_SECONDS) | BIT(MEMBER_DEADLINE) |
		  BIT(MEMBER_BYTES) },
	{ "PREFETCH_PROGRESS", CONTROL_PREFETCH_PROGRESS,
	  BIT(MEMBER_REQUEST) | BIT(MEMBER_ID),
	  BIT(MEMBER_SOURCE) | BIT(MEMBER_QUALITY) },
	{ "PREFETCH_CANCEL", CONTROL_PREFETCH_CANCEL,
	  BIT(MEMBER_REQUEST) | BIT(MEMBER_ID),
	  BIT(MEMBER_SOURCE) | BIT(MEMBER_QUALITY) },
	{ "SUBSCRIBE", CONTROL_SUBSCRIBE, BIT(MEMBER_TOPIC),
	  BIT(MEMBER_REQUEST) | BIT(MEMBER_INTERVAL) },
	{ "UNSUBSCRIBE", CONTROL_UNSUBSCRIBE, BIT(MEMBER_TOPIC),
	  BIT(MEMBER_REQUEST) },
	{ "PING", CONTROL_PING, 0, BIT(MEMBER_REQUEST) },
	{ "REQUEST_VIDEO_CHUNK", CONTROL_CHUNK,
	  BIT(MEMBER_REQUEST) | BIT(MEMBER_ID) | BIT(MEMBER_OFFSET),
	  BIT(MEMBER_SOURCE) | BIT(MEMBER_QUALITY) | BIT(MEMBER_LENGTH) |
		  BIT(MEMBER_ENCODING) | BIT(MEMBER_CREDIT) },
	{ "CREDIT", CONTROL_CREDIT, BIT(MEMBER_REQUEST) | BIT(MEMBER_BYTES),
	  0 },
	{ "CANCEL", CONTROL_CANCEL, BIT(MEMBER_REQUEST), 0 },
};

static bool read_text(struct json_object *value, char *dst)
{
	size_t bytes;
	const char *text;

	if (!json_object_is_type(value, json_type_string))
		return false;
	text = json_object_get_string(value);
	bytes = (size_t)json_object_get_string_len(value);
	if (bytes == 0 || bytes >= CONTROL_TEXT_BYTES ||
	    memchr(text, '\0', bytes) != NULL)
		return false;
	memcpy(dst, text, bytes + 1);
	return true;
}

static bool read_count(struct json_object *value, uint64_t min, uint64_t max,
		       uint64_t *count)
{
	int64_t number;

	if (!json_object_is_type(value, json_type_int))
		return false;
	number = json_object_get_int64(value);
	if (number < 0 || (uint64_t)number < min || (uint64_t)number > max)
		return false;
	*count = (uint64_t)number;
	return true;
}

static bool read_seconds(struct json_object *value, uint64_t *ms)
{
	double number;

	if (!json_object_is_type(value, json_type_int) &&
	    !json_object_is_type(value, json_type_double))
		return false;
	number = json_object_get_double(value);
	/* false for what is no number, too */
	if (!(number >= 0 && number <= CONTROL_SECONDS_MAX))
		return false;
	*ms = (uint64_t)(number * 1000 + 0.5);
	return true;
}

static bool read_member(struct control_message *out, enum member n,
			struct json_object *value)
{
	void *at = (char *)out + members[n].at;

	if (members[n].kind == KIND_TEXT)
		return read_text(value, at);
	if (members[n].kind == KIND_SECONDS)
		return read_seconds(value, at);
	return read_count(value, members[n].min, members[n].max, at);
}

static int fail(const char **fault, const char *why)
{
	*fault = why;
	return -EINVAL;
}

/* First of all: errors name it. */
static int read_request(struct control_message *out, struct json_object *root,
			const char **fault)
{
	struct json_object *value;
	uint64_t number;

	if (!json_object_object_get_ex(root, "request", &value))
		return 0;
	if (!read_count(value, 0, UINT32_MAX, &number))
		return fail(fault, members[MEMBER_REQUEST].fault);
	out->has_request = true;
	out->request = (uint32_t)number;
	return 0;
}

static int read_type(struct json_object *root, const char **fault, size_t *type)
{
	struct json_object *value;
	const char *name;

	if (!json_object_object_get_ex(root, "type", &value) ||
	    !json_object_is_type(value, json_type_string))
		return fail(fault, "type must be the name of a message");
	name = json_object_get_string(value);
	for (size_t n = 0; n < ARRAY_LEN(types); n++)
		if (strcmp(types[n].name, name) == 0) {
			*type = n;
			return 0;
		}
	return fail(fault, "there is no such type of message");
}

static int read_members(struct control_message *out, struct json_object *root,
			size_t type, const char **fault)
{
	for (unsigned n = MEMBER_ID; n < ARRAY_LEN(members); n++) {
		struct json_object *value;
		bool needed = (types[type].must & BIT(n)) != 0;

		if (!needed && (types[type].may & BIT(n)) == 0)
			continue;
		if (!json_object_object_get_ex(root, members[n].name, &value)) {
			if (needed)
				return fail(fault, members[n].fault);
		} else if (!read_member(out, (enum member)n, value)) {
			return fail(fault, members[n].fault);
		}
	}
	if ((types[type].must & BIT(MEMBER_REQUEST)) != 0 && !out->has_request)
		return fail(fault, members[MEMBER_REQUEST].fault);
	return 0;
}

static int check(struct control_message *out, const char **fault)
{
	if (strcmp(out->encoding, "base64") == 0)
		out->base64 = true;
	else if (*out->encoding != '\0' && strcmp(out->encoding, "binary") != 0)
		return fail(fault, members[MEMBER_ENCODING].fault);
	if (*out->topic != '\0' && strcmp(out->topic, "stats") != 0)
		return fail(fault, "the only topic is stats");
	return 0;
}

static int read_root(struct control_message *out, struct json_object *root,
		     const char **fault)
{
	size_t type;
	int rc;

	if (!json_object_is_type(root, json_type_object))
		return fail(fault, "a message must be a JSON object");
	rc = read_request(out, root, fault);
	if (rc == 0)
		rc = read_type(root, fault, &type);
	if (rc == 0) {
		out->type = types[type].type;
		rc = read_members(out, root, type, fault);
	}
	return rc == 0 ? check(out, fault) : rc;
}

int control_parse(struct control_message *out, const void *text, size_t bytes,
		  const char **fault)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct json_object *root;
	int rc;

	memset(out, 0, sizeof(*out));
	out->start_ms = out->seconds_ms = out->deadline_ms = CONTROL_NOT_GIVEN;
	out->interval_s = out->offset = out->length = CONTROL_NOT_GIVEN;
	out->bytes = out->credit = CONTROL_NOT_GIVEN;
	*fault = "out of memory";
	if (tokener == NULL)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT |
						JSON_TOKENER_VALIDATE_UTF8);
	root = bytes == 0 || bytes > INT_MAX
		       ? NULL
		       : json_tokener_parse_ex(tokener, text, (int)bytes);
	if (root != NULL)
		rc = read_root(out, root, fault);
	else
		rc = fail(fault, "a message must be a JSON object");
	json_object_put(root);
	json_tokener_free(tokener);
	return rc;
}

#include "upstream/request_fields.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http/slice.h"

static bool is_token(const char *text)
{
	return text[0] != '\0' &&
	       slice_token_bytes(slice_of(text)) == strlen(text);
}

/* Which bytes are wanted, in which form, and how messages are framed, is
 * known here alone. */
static bool is_ours(const char *name)
{
	static const char *const names[] = {
		"Accept-Encoding", "Connection", "Expect", "Host",
		"HTTP2-Settings",  "Keep-Alive", "Range",  "TE",
		"Trailer",         "Upgrade",
	};
	static const char *const beginnings[] = { "Content-", "If-", "Proxy-",
						  "Transfer-" };

	for (size_t n = 0; n < ARRAY_LEN(names); n++)
		if (strcasecmp(name, names[n]) == 0)
			return true;
	for (size_t n = 0; n < ARRAY_LEN(beginnings); n++)
		if (strncasecmp(name, beginnings[n], strlen(beginnings[n])) ==
		    0)
			return true;
	return false;
}

static bool has_control(const char *text, size_t bytes)
{
	for (size_t n = 0; n < bytes; n++)
		if (((unsigned char)text[n] < ' ' && text[n] != '\t') ||
		    text[n] == 0x7f)
			return true;
	return false;
}

static bool is_value(const char *text)
{
	size_t bytes = strlen(text);

	return bytes > 0 && slice_trim(slice_of(text)).bytes == bytes &&
	       !has_control(text, bytes);
}

static bool is_there(const char *text, const char *name)
{
	size_t bytes = strlen(name);

	for (; *text != '\0'; text += strcspn(text, "\n") + 1)
		if (strncasecmp(text, name, bytes) == 0 && text[bytes] == ':')
			return true;
	return false;
}

int request_fields_add(char *text, const char *name, const char *value)
{
	size_t used = strlen(text);
	size_t more = strlen(name) + strlen(": \n") + strlen(value);

	if (!is_token(name) || is_ours(name) || !is_value(value))
		return -EINVAL;
	if (is_there(text, name))
		return -EEXIST;
	if (more >= REQUEST_FIELDS_BYTES - used)
		return -ENOSPC;
	snprintf(text + used, REQUEST_FIELDS_BYTES - used, "%s: %s\n", name,
		 value);
	return 0;
}

int request_fields_next(const char **text, char *line)
{
	size_t bytes = strcspn(*text, "\n");

	if (bytes >= REQUEST_FIELDS_BYTES || has_control(*text, bytes))
		return -EINVAL;
	memcpy(line, *text, bytes);
	line[bytes] = '\0';
	*text += bytes + ((*text)[bytes] == '\n');
	return (int)bytes;
}

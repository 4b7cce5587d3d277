#include "upstream/template.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "util/quality.h"

#define ID_MARK      "{id}"
#define QUALITY_MARK "{quality}"
#define HOST_BYTES   255u

struct url_parts {
	const char *scheme; /* string literal */
	unsigned port;
	const char *host; /* with the brackets of an IPv6 address */
	size_t host_bytes;
	const char *rest; /* path, query or the end */
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool starts_nocase(const char *text, const char *lower)
{
	for (; *lower != '\0'; text++, lower++) {
		if (to_lower(*text) != *lower)
			return false;
	}
	return true;
}

static bool host_is_valid(const char *host, size_t bytes)
{
	bool v6 = bytes > 2 && host[0] == '[' && host[bytes - 1] == ']';
	size_t from = v6 ? 1 : 0;
	size_t to = v6 ? bytes - 1 : bytes;

	if (bytes == 0 || bytes > HOST_BYTES)
		return false;
	for (size_t i = from; i < to; i++) {
		unsigned char c = (unsigned char)host[i];

		if (is_alnum(host[i]) || c == '.')
			continue;
		if (v6 ? c == ':' : (c == '-' || c == '_' || c >= 0x80))
			continue;
		return false;
	}
	return true;
}

/* Port digits up to end; empty = fallback; 0 = no port. */
static unsigned port_parse(const char *at, const char *end, unsigned fallback)
{
	unsigned port = 0;

	if (at == end)
		return fallback;
	for (; at < end; at++) {
		if (!is_digit(*at))
			return 0;
		port = port * 10 + (unsigned)(*at - '0');
		if (port > UINT16_MAX)
			return 0;
	}
	return port;
}

static int parts_split(const char *url, struct url_parts *out)
{
	const char *at, *end, *user, *colon;

	if (starts_nocase(url, "http://")) {
		*out = (struct url_parts){ .scheme = "http", .port = 80 };
		at = url + strlen("http://");
	} else if (starts_nocase(url, "https://")) {
		*out = (struct url_parts){ .scheme = "https", .port = 443 };
		at = url + strlen("https://");
	} else {
		return -EINVAL;
	}
	end = at + strcspn(at, "/?#");
	user = memrchr(at, '@', (size_t)(end - at));
	if (user != NULL)
		at = user + 1;
	out->rest = end;
	out->host = at;
	if (*at == '[') {
		colon = memchr(at, ']', (size_t)(end - at));
		if (colon == NULL)
			return -EINVAL;
		colon++;
	} else {
		colon = at + strcspn(at, ":/?#");
	}
	out->host_bytes = (size_t)(colon - at);
	if (!host_is_valid(at, out->host_bytes))
		return -EINVAL;
	if (colon == end)
		return 0;
	if (*colon != ':')
		return -EINVAL;
	out->port = port_parse(colon + 1, end, out->port);
	return out->port == 0 ? -EINVAL : 0;
}

static bool is_mark(const char *at, const char *mark)
{
	return strncmp(at, mark, strlen(mark)) == 0;
}

/* What is wrong with the text behind the host, or NULL. */
static const char *rest_fault(const char *rest, bool quality)
{
	bool marked = false, quality_marked = false;

	for (const char *at = rest; *at != '\0'; at++) {
		unsigned char c = (unsigned char)*at;

		if (is_mark(at, ID_MARK)) {
			marked = true;
			at += strlen(ID_MARK) - 1;
		} else if (quality && is_mark(at, QUALITY_MARK)) {
			quality_marked = true;
			at += strlen(QUALITY_MARK) - 1;
		} else if (is_mark(at, QUALITY_MARK)) {
			return "has {quality} but the source has no qualities";
		} else if (c == '{' || c == '}') {
			return "has a brace that is not of {id}";
		} else if (c <= ' ' || c == 0x7f || c == '\\') {
			return "has a space, control character or backslash";
		} else if (c == '#') {
			return "has a fragment (#)";
		}
	}
	if (!marked)
		return "has no {id} behind the host";
	return quality && !quality_marked
		       ? "has no {quality} for the source's qualities"
		       : NULL;
}

int template_check(const char *url, bool quality, const char **why)
{
	struct url_parts parts;
	const char *fault;

	if (strlen(url) > 4095)
		fault = "is too long";
	else if (parts_split(url, &parts) < 0)
		fault = "is no http:// or https:// URL with a host";
	else
		fault = rest_fault(parts.rest, quality);
	for (const char *at = url; fault == NULL && at < parts.rest; at++) {
		if ((unsigned char)*at <= ' ' || *at == 0x7f ||
		    strchr("{}\\", *at) != NULL)
			fault = "has a strange character before the path";
	}
	if (why != NULL)
		*why = fault;
	return fault == NULL ? 0 : -EINVAL;
}

static bool id_is_valid(const char *id, size_t bytes)
{
	bool dots = true;

	if (bytes == 0 || bytes > TEMPLATE_ID_BYTES)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		char c = id[i];

		if (!is_alnum(c) && c != '.' && c != '_' && c != '~' &&
		    c != '-')
			return false;
		dots = dots && c == '.';
	}
	return !dots || bytes > 2;
}

int template_expand(const char *url, const char *id, size_t id_bytes,
		    const char *quality, char *dst, size_t dst_bytes)
{
	size_t used = 0;

	if (!id_is_valid(id, id_bytes) ||
	    (quality != NULL &&
	     !quality_format_valid(quality, strlen(quality))) ||
	    template_check(url, quality != NULL, NULL) < 0)
		return -EINVAL;
	while (*url != '\0') {
		const char *src = url;
		size_t n = 1, taken = 1;

		if (is_mark(url, ID_MARK)) {
			src = id;
			n = id_bytes;
			taken = strlen(ID_MARK);
		} else if (is_mark(url, QUALITY_MARK)) {
			src = quality;
			n = strlen(quality);
			taken = strlen(QUALITY_MARK);
		}
		if (n >= dst_bytes - used)
			return -ENAMETOOLONG;
		memcpy(dst + used, src, n);
		used += n;
		url += taken;
	}
	dst[used] = '\0';
	return 0;
}

int template_origin(const char *url, char *dst, size_t dst_bytes)
{
	struct url_parts parts;
	char host[HOST_BYTES + 1];
	int n, rc;

	rc = parts_split(url, &parts);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < parts.host_bytes; i++)
		host[i] = to_lower(parts.host[i]);
	n = snprintf(dst, dst_bytes, "%s://%.*s:%u", parts.scheme,
		     (int)parts.host_bytes, host, parts.port);
	return n < 0 || (size_t)n >= dst_bytes ? -ENAMETOOLONG : 0;
}

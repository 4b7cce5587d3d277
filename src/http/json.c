#include "http/json.h"

#include <errno.h>

#include "http/fields.h"

void json_init(struct json *j, char *dst, size_t max_bytes)
{
	*j = (struct json){ .dst = dst, .max_bytes = max_bytes };
}

static void put(struct json *j, const char *bytes, size_t count)
{
	if (j->error != 0)
		return;
	if (j->max_bytes - j->used_bytes < count) {
		j->error = -ENOSPC;
		return;
	}
	memcpy(j->dst + j->used_bytes, bytes, count);
	j->used_bytes += count;
}

#define PUT(j, literal) put((j), ("" literal), sizeof(literal) - 1)

static bool in_object(const struct json *j)
{
	return j->depth > 0 && (j->objects >> j->depth & 1) != 0;
}

/* Before any value: the comma, unless a key has brought it. */
static void begin_value(struct json *j)
{
	must(in_object(j) == j->have_key);
	must(j->depth > 0 || !j->need_comma); /* one document, one value */
	if (!j->have_key && j->need_comma)
		PUT(j, ",");
	j->have_key = false;
	j->need_comma = true;
}

static void begin_level(struct json *j, bool object)
{
	begin_value(j);
	must(j->depth < JSON_DEPTH_MAX);
	j->depth++;
	j->objects &= ~(UINT32_C(1) << j->depth);
	j->objects |= (uint32_t)object << j->depth;
	j->need_comma = false;
}

static void end_level(struct json *j, bool object)
{
	must(j->depth > 0 && in_object(j) == object && !j->have_key);
	j->depth--;
	j->need_comma = true;
}

void json_object(struct json *j)
{
	begin_level(j, true);
	PUT(j, "{");
}

void json_object_end(struct json *j)
{
	end_level(j, true);
	PUT(j, "}");
}

void json_array(struct json *j)
{
	begin_level(j, false);
	PUT(j, "[");
}

void json_array_end(struct json *j)
{
	end_level(j, false);
	PUT(j, "]");
}

void json_key(struct json *j, const char *name)
{
	must(in_object(j) && !j->have_key);
	if (j->need_comma)
		PUT(j, ",");
	PUT(j, "\"");
	put(j, name, strlen(name));
	PUT(j, "\":");
	j->have_key = true;
}

/* Bytes of the well-formed UTF-8 sequence at the front; 0 if it is none
 * (overlong, a surrogate, above U+10FFFF, cut). */
static size_t utf8_bytes(struct slice s)
{
	const unsigned char *u = (const unsigned char *)s.at;
	unsigned low = 0x80;
	unsigned high = 0xbf;
	size_t n;

	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (u[0] == 0xe0)
		low = 0xa0;
	else if (u[0] == 0xed)
		high = 0x9f;
	else if (u[0] == 0xf0)
		low = 0x90;
	else if (u[0] == 0xf4)
		high = 0x8f;
	if (s.bytes < n || u[1] < low || u[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if (u[i] < 0x80 || u[i] > 0xbf)
			return 0;
	}
	return n;
}

static void put_escaped(struct json *j, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

	switch (c) {
	case '"':
		PUT(j, "\\\"");
		break;
	case '\\':
		PUT(j, "\\\\");
		break;
	case '\n':
		PUT(j, "\\n");
		break;
	case '\r':
		PUT(j, "\\r");
		break;
	case '\t':
		PUT(j, "\\t");
		break;
	default:
		put(j, text, sizeof(text));
	}
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void json_slice(struct json *j, struct slice value)
{
	if (!slice_present(value)) {
		json_null(j);
		return;
	}
	begin_value(j);
	PUT(j, "\"");
	while (value.bytes > 0) {
		size_t n = 0;

		while (n < value.bytes && is_plain((unsigned char)value.at[n]))
			n++;
		if (n > 0) {
			put(j, value.at, n);
		} else if ((n = utf8_bytes(value)) == 0) {
			PUT(j, "\\ufffd");
			n = 1;
		} else if (n == 1) {
			put_escaped(j, (unsigned char)value.at[0]);
		} else {
			put(j, value.at, n);
		}
		value = slice_skip(value, n);
	}
	PUT(j, "\"");
}

void json_text(struct json *j, const char *value)
{
	json_slice(j, slice_of(value));
}

void json_u64(struct json *j, uint64_t value)
{
	char digits[20];

	begin_value(j);
	put(j, digits, fields_format_u64(digits, value));
}

void json_thousandths(struct json *j, uint64_t value)
{
	unsigned part = (unsigned)(value % 1000);
	char fraction[4] = { '.', (char)('0' + part / 100),
			     (char)('0' + part / 10 % 10),
			     (char)('0' + part % 10) };
	size_t n = sizeof(fraction);

	json_u64(j, value / 1000);
	while (n > 0 && (fraction[n - 1] == '0' || n == 1))
		n--;
	put(j, fraction, n);
}

void json_i64(struct json *j, int64_t value)
{
	char digits[20];
	uint64_t size = value < 0 ? -(uint64_t)value : (uint64_t)value;

	begin_value(j);
	if (value < 0)
		PUT(j, "-");
	put(j, digits, fields_format_u64(digits, size));
}

void json_bool(struct json *j, bool value)
{
	begin_value(j);
	if (value)
		PUT(j, "true");
	else
		PUT(j, "false");
}

void json_null(struct json *j)
{
	begin_value(j);
	PUT(j, "null");
}

void json_newline(struct json *j)
{
	must(j->depth == 0);
	PUT(j, "\n");
	j->need_comma = false; /* another document may follow */
}

int json_end(struct json *j, size_t *bytes)
{
	must(j->depth == 0 && !j->have_key);
	if (j->error != 0)
		return j->error;
	*bytes = j->used_bytes;
	return 0;
}

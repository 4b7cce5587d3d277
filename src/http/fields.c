#include "http/fields.h"

#include <errno.h>

#include "http/status.h"

size_t fields_format_u64(char *dst, uint64_t value)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	memcpy(dst, digits + sizeof(digits) - n, n);
	return n;
}

void fields_raw(struct fields *f, const char *bytes, size_t count)
{
	if (f->error != 0)
		return;
	if ((size_t)(f->end - f->at) < count) {
		f->error = -ENOSPC;
		return;
	}
	if (count > 0)
		memcpy(f->at, bytes, count);
	f->at += count;
}

void fields_u64(struct fields *f, uint64_t value)
{
	char digits[20];

	fields_raw(f, digits, fields_format_u64(digits, value));
}

void fields_status(struct fields *f, int status)
{
	const char *reason = status_reason(status);

	switch (status) { /* what nearly all responses are */
	case 200:
		FIELDS_LITERAL(f, "HTTP/1.1 200 OK\r\n");
		return;
	case 206:
		FIELDS_LITERAL(f, "HTTP/1.1 206 Partial Content\r\n");
		return;
	}
	must(status >= 100 && status <= 999);
	FIELDS_LITERAL(f, "HTTP/1.1 ");
	fields_u64(f, (uint64_t)status);
	FIELDS_LITERAL(f, " ");
	fields_raw(f, reason, strlen(reason));
	FIELDS_LITERAL(f, "\r\n");
}

void fields_value(struct fields *f, struct slice value)
{
	for (size_t i = 0; i < value.bytes; i++) {
		unsigned char c = (unsigned char)value.at[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f) {
			if (f->error == 0)
				f->error = -EINVAL;
			return;
		}
	}
	fields_raw(f, value.at, value.bytes);
}

void fields_add(struct fields *f, struct slice prefix, struct slice value)
{
	if (value.bytes == 0)
		return;
	fields_raw(f, prefix.at, prefix.bytes);
	fields_value(f, value);
	FIELDS_LITERAL(f, "\r\n");
}

void fields_add_u64(struct fields *f, struct slice prefix, uint64_t value)
{
	fields_raw(f, prefix.at, prefix.bytes);
	fields_u64(f, value);
	FIELDS_LITERAL(f, "\r\n");
}

int fields_end(struct fields *f, size_t *bytes)
{
	FIELDS_LITERAL(f, "\r\n");
	if (f->error != 0)
		return f->error;
	*bytes = (size_t)(f->at - f->dst);
	return 0;
}

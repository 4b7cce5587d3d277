#include "http/target.h"

#include <errno.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* One character of raw at *i, which is moved on; -EINVAL if it is none. */
static int next_char(struct slice raw, size_t *i, bool plus_is_blank)
{
	char c = raw.at[(*i)++];
	int high;
	int low;
	int value;

	if (c == '+' && plus_is_blank)
		return ' ';
	if (c != '%')
		return (unsigned char)c;
	if (raw.bytes - *i < 2)
		return -EINVAL;
	high = hex_value(raw.at[*i]);
	low = hex_value(raw.at[*i + 1]);
	*i += 2;
	if (high < 0 || low < 0)
		return -EINVAL;
	value = high << 4 | low;
	return value < 0x20 || value == 0x7f ? -EINVAL : value;
}

static int decode(struct slice raw, bool plus_is_blank, char *dst,
		  size_t dst_bytes, struct slice *out)
{
	size_t used = 0;

	for (size_t i = 0; i < raw.bytes;) {
		int c = next_char(raw, &i, plus_is_blank);

		if (c < 0)
			return c;
		if (used == dst_bytes)
			return -ENOSPC;
		dst[used++] = (char)c;
	}
	*out = slice_make(dst, used);
	return 0;
}

/* Does raw, decoded, read as name? */
static bool decodes_to(struct slice raw, const char *name)
{
	for (size_t i = 0; i < raw.bytes; name++) {
		int c = next_char(raw, &i, true);

		if (c < 0 || *name == '\0' || c != (unsigned char)*name)
			return false;
	}
	return *name == '\0';
}

/* The text up to c, which is passed over in *rest; all if there is no c. */
static struct slice cut_at(struct slice *rest, char c)
{
	const char *mark =
		rest->bytes == 0 ? NULL : memchr(rest->at, c, rest->bytes);
	size_t n = mark == NULL ? rest->bytes : (size_t)(mark - rest->at);
	struct slice part = slice_make(rest->at, n);

	*rest = slice_skip(*rest, mark == NULL ? n : n + 1);
	return part;
}

bool target_next_segment(struct slice *rest, struct slice *segment)
{
	const char *mark;
	size_t n;

	if (rest->bytes == 0 || rest->at[0] != '/')
		return false;
	*rest = slice_skip(*rest, 1);
	mark = rest->bytes == 0 ? NULL : memchr(rest->at, '/', rest->bytes);
	n = mark == NULL ? rest->bytes : (size_t)(mark - rest->at);
	*segment = slice_make(rest->at, n);
	*rest = slice_skip(*rest, n);
	return true;
}

int target_decode(struct slice raw, char *dst, size_t dst_bytes,
		  struct slice *out)
{
	return decode(raw, false, dst, dst_bytes, out);
}

size_t target_encode(char *dst, struct slice text)
{
	static const char digits[] = "0123456789ABCDEF";
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-._~";
	size_t n = 0;

	for (size_t i = 0; i < text.bytes; i++) {
		unsigned char c = (unsigned char)text.at[i];

		if (c != '\0' && strchr(plain, c) != NULL) {
			dst[n++] = (char)c;
			continue;
		}
		dst[n++] = '%';
		dst[n++] = digits[c >> 4];
		dst[n++] = digits[c & 15];
	}
	return n;
}

int target_query(struct slice query, const char *name, char *dst,
		 size_t dst_bytes, struct slice *out)
{
	struct slice found = SLICE_ABSENT;

	while (query.bytes > 0) {
		struct slice value = cut_at(&query, '&');
		struct slice key = cut_at(&value, '=');

		if (!decodes_to(key, name))
			continue;
		if (slice_present(found))
			return -ENOTUNIQ;
		found = value;
	}
	if (!slice_present(found))
		return -ENOENT;
	return decode(found, true, dst, dst_bytes, out);
}

static bool id_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '~' ||
	       c == '-';
}

bool target_id_valid(struct slice id)
{
	if (id.bytes == 0 || id.bytes > TARGET_ID_MAX)
		return false;
	for (size_t i = 0; i < id.bytes; i++) {
		if (!id_char(id.at[i]))
			return false;
	}
	return !slice_is(id, ".") && !slice_is(id, "..");
}

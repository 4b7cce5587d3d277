#include "http/slice.h"

#include <errno.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_ows(char c)
{
	return c == ' ' || c == '\t';
}

bool slice_same_nocase(struct slice a, struct slice b)
{
	if (a.bytes != b.bytes)
		return false;
	for (size_t i = 0; i < a.bytes; i++) {
		if (a.at[i] != b.at[i] && lower(a.at[i]) != lower(b.at[i]))
			return false;
	}
	return true;
}

struct slice slice_trim(struct slice s)
{
	while (s.bytes > 0 && is_ows(s.at[0]))
		s = slice_skip(s, 1);
	while (s.bytes > 0 && is_ows(s.at[s.bytes - 1]))
		s.bytes--;
	return s;
}

bool slice_to_u64(struct slice s, uint64_t *value)
{
	uint64_t v = 0;

	if (s.bytes == 0)
		return false;
	for (size_t i = 0; i < s.bytes; i++) {
		unsigned digit = (unsigned char)s.at[i] - (unsigned)'0';

		if (digit > 9)
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, digit, &v)) {
			/* sticks: any further step overflows again */
			v = UINT64_MAX;
		}
	}
	*value = v;
	return true;
}

/* The length up to the first comma that is not inside of quotes. */
static size_t element_bytes(struct slice s)
{
	bool quoted = false;
	size_t i;

	for (i = 0; i < s.bytes; i++) {
		if (s.at[i] == '"')
			quoted = !quoted;
		else if (quoted && s.at[i] == '\\')
			i++;
		else if (!quoted && s.at[i] == ',')
			break;
	}
	return i < s.bytes ? i : s.bytes;
}

bool slice_next_element(struct slice *rest, struct slice *element)
{
	while (rest->bytes > 0) {
		size_t n = element_bytes(*rest);
		struct slice found = slice_trim(slice_make(rest->at, n));

		*rest = slice_skip(*rest, n < rest->bytes ? n + 1 : n);
		if (found.bytes > 0) {
			*element = found;
			return true;
		}
	}
	return false;
}

size_t slice_token_bytes(struct slice s)
{
	static const char others[] = "!#$%&'*+-.^_`|~";
	size_t n;

	for (n = 0; n < s.bytes; n++) {
		char c = s.at[n];

		if ((c < '0' || c > '9') && (c < 'A' || c > 'Z') &&
		    (c < 'a' || c > 'z') &&
		    memchr(others, c, sizeof(others) - 1) == NULL)
			break;
	}
	return n;
}

bool slice_list_has(struct slice list, const char *token)
{
	struct slice want = slice_of(token);
	struct slice element;

	while (slice_next_element(&list, &element)) {
		if (slice_same_nocase(element, want))
			return true;
	}
	return false;
}

int slice_copy(struct slice s, char *dst, size_t dst_bytes)
{
	if (s.bytes >= dst_bytes) {
		if (dst_bytes > 0)
			dst[0] = '\0';
		return -ENOSPC;
	}
	if (s.bytes > 0)
		memcpy(dst, s.at, s.bytes);
	dst[s.bytes] = '\0';
	return 0;
}

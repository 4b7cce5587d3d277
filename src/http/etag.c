#include "http/etag.h"

/* etagc of RFC 9110 section 8.8.3: anything but blanks, quotes, controls. */
static bool etag_char(char c)
{
	unsigned char u = (unsigned char)c;

	return u == 0x21 || (u >= 0x23 && u != 0x7f);
}

/* The tag that text begins with; its length, 0 if there is none. */
static size_t read_tag(struct slice text, struct etag *tag)
{
	size_t i = 0;

	tag->weak = slice_starts(text, SLICE("W/"));
	if (tag->weak)
		i = 2;
	if (i >= text.bytes || text.at[i] != '"')
		return 0;
	tag->opaque.at = text.at + i;
	for (i++; i < text.bytes && etag_char(text.at[i]); i++)
		;
	if (i == text.bytes || text.at[i] != '"')
		return 0;
	i++;
	tag->opaque.bytes = (size_t)(text.at + i - tag->opaque.at);
	return i;
}

bool etag_parse(struct slice text, struct etag *tag)
{
	size_t n = read_tag(text, tag);

	return n > 0 && n == text.bytes;
}

bool etag_same_strong(const struct etag *a, const struct etag *b)
{
	return !a->weak && !b->weak && slice_same(a->opaque, b->opaque);
}

bool etag_same_weak(const struct etag *a, const struct etag *b)
{
	return slice_same(a->opaque, b->opaque);
}

/* Blanks and empty elements. */
static struct slice skip_between(struct slice s)
{
	while (s.bytes > 0 &&
	       (s.at[0] == ' ' || s.at[0] == '\t' || s.at[0] == ','))
		s = slice_skip(s, 1);
	return s;
}

enum etag_step etag_next(struct slice *rest, struct etag *tag)
{
	struct slice after;
	size_t n;

	*rest = skip_between(*rest);
	if (rest->bytes == 0)
		return ETAG_END;
	n = read_tag(*rest, tag);
	if (n == 0)
		return ETAG_BAD;
	*rest = slice_skip(*rest, n);
	after = slice_trim(*rest);
	if (after.bytes > 0 && after.at[0] != ',')
		return ETAG_BAD;
	return ETAG_FOUND;
}

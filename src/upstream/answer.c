#include "upstream/answer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* What to do when a field comes again. */
enum again {
	AGAIN_FIRST, /* the first counts */
	AGAIN_SAME,  /* must say the same: two opinions are no validator */
	AGAIN_JOIN,  /* a list: joined with ", " */
};

#define TEXT(field, member, again, droppable)                                  \
	{                                                                      \
		field, offsetof(struct transfer_head, member),                 \
			sizeof(((struct transfer_head *)0)->member), again,    \
			droppable                                              \
	}

/* Fields that are kept as text.  One too long is a fault, unless the response
 * is as good without it. */
static const struct {
	const char *name;
	size_t at;
	size_t bytes;
	enum again again;
	bool droppable;
} texts[] = {
	TEXT("ETag", etag, AGAIN_SAME, false),
	TEXT("Last-Modified", last_modified, AGAIN_SAME, false),
	TEXT("Date", date, AGAIN_FIRST, false),
	TEXT("Age", age, AGAIN_FIRST, false),
	TEXT("Cache-Control", cache_control, AGAIN_JOIN, false),
	TEXT("Expires", expires, AGAIN_FIRST, false),
	TEXT("Content-Type", content_type, AGAIN_FIRST, false),
	TEXT("Content-Disposition", content_disposition, AGAIN_FIRST, true),
	TEXT("Content-Language", content_language, AGAIN_JOIN, true),
	TEXT("Content-Encoding", content_encoding, AGAIN_JOIN, false),
	TEXT("Retry-After", retry_after, AGAIN_FIRST, true),
};

struct text {
	const char *at;
	size_t bytes;
};

static int fault(struct answer *a, const char *why)
{
	a->fault = why;
	return -EBADMSG;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool text_is(struct text t, const char *word)
{
	return t.bytes == strlen(word) && strncasecmp(t.at, word, t.bytes) == 0;
}

static struct text trim(const char *at, size_t bytes)
{
	while (bytes > 0 && is_space(at[0])) {
		at++;
		bytes--;
	}
	while (bytes > 0 && is_space(at[bytes - 1]))
		bytes--;
	return (struct text){ at, bytes };
}

static bool has_controls(struct text t)
{
	for (size_t i = 0; i < t.bytes; i++) {
		unsigned char c = (unsigned char)t.at[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/* Digits at *at, moved behind them; at most 18, so sums never overflow. */
static bool take_number(const char **at, uint64_t *value)
{
	const char *from = *at;

	for (*value = 0; is_digit(**at); (*at)++) {
		if (*at - from >= 18)
			return false;
		*value = *value * 10 + (uint64_t)(**at - '0');
	}
	return *at > from;
}

void answer_init(struct answer *a)
{
	*a = (struct answer){ .length = SIZE_UNKNOWN, .h1 = true };
	a->head.size = SIZE_UNKNOWN;
}

static int status_line(struct answer *a, const char *line, size_t bytes)
{
	const char *at = memchr(line, ' ', bytes);
	size_t head_bytes = a->head_bytes;

	answer_init(a);
	a->head_bytes = head_bytes;
	a->h1 = bytes > 5 && line[5] == '1';
	if (at == NULL || line + bytes - at < 4 || !is_digit(at[1]) ||
	    !is_digit(at[2]) || !is_digit(at[3]) ||
	    (line + bytes - at > 4 && is_digit(at[4])))
		return fault(a, "status line makes no sense");
	a->head.status =
		(at[1] - '0') * 100 + (at[2] - '0') * 10 + (at[3] - '0');
	if (a->head.status < 100 || a->head.status > 599)
		return fault(a, "status makes no sense");
	return 0;
}

static int take_length(struct answer *a, struct text value)
{
	char digits[24];
	const char *at = digits;
	uint64_t length;

	if (value.bytes >= sizeof(digits))
		return fault(a, "Content-Length makes no sense");
	memcpy(digits, value.at, value.bytes);
	digits[value.bytes] = '\0';
	if (!take_number(&at, &length) || at != digits + value.bytes)
		return fault(a, "Content-Length makes no sense");
	if (a->length != SIZE_UNKNOWN && a->length != length)
		return fault(a, "two different Content-Length");
	a->length = length;
	return 0;
}

static int take_range(struct answer *a, struct text value)
{
	if (a->content_range[0] != '\0')
		return fault(a, "two Content-Range");
	if (value.bytes == 0 || value.bytes >= sizeof(a->content_range) ||
	    has_controls(value))
		return fault(a, "Content-Range makes no sense");
	memcpy(a->content_range, value.at, value.bytes);
	a->content_range[value.bytes] = '\0';
	return 0;
}

static int take_text(struct answer *a, size_t which, struct text value)
{
	char *dst = (char *)&a->head + texts[which].at;
	size_t used = strlen(dst);
	size_t gap = 0;

	if (has_controls(value))
		return fault(a, "control character in a field");
	if (value.bytes == 0)
		return 0;
	if (used > 0 && texts[which].again == AGAIN_FIRST)
		return 0;
	if (used > 0 && texts[which].again == AGAIN_SAME) {
		if (used == value.bytes && memcmp(dst, value.at, used) == 0)
			return 0;
		return fault(a, "two different validators");
	}
	if (used > 0)
		gap = 2;
	if (used + gap + value.bytes >= texts[which].bytes) {
		if (texts[which].droppable)
			return 0;
		return fault(a, "a field is too long");
	}
	memcpy(dst + used, ", ", gap);
	memcpy(dst + used + gap, value.at, value.bytes);
	dst[used + gap + value.bytes] = '\0';
	return 0;
}

static int field_line(struct answer *a, const char *line, size_t bytes)
{
	const char *colon = memchr(line, ':', bytes);
	struct text name, value;

	a->kept_last = false;
	if (colon == NULL)
		return fault(a, "a field without a colon");
	name = trim(line, (size_t)(colon - line));
	value = trim(colon + 1, bytes - (size_t)(colon - line) - 1);
	a->kept_last = true;
	if (text_is(name, "Content-Length"))
		return take_length(a, value);
	if (text_is(name, "Content-Range"))
		return take_range(a, value);
	if (text_is(name, "Transfer-Encoding")) {
		if (a->chunked || !text_is(value, "chunked"))
			return fault(a, "Transfer-Encoding is not chunked");
		a->chunked = true;
		return 0;
	}
	if (text_is(name, "Location")) {
		a->has_location = true;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (text_is(name, texts[i].name))
			return take_text(a, i, value);
	}
	a->kept_last = false;
	return 0;
}

int answer_line(struct answer *a, const char *line, size_t bytes)
{
	a->head_bytes += bytes;
	if (a->head_bytes > ANSWER_HEAD_BYTES)
		return fault(a, "response head is too long");
	if (bytes > 0 && line[bytes - 1] == '\n')
		bytes--;
	if (bytes > 0 && line[bytes - 1] == '\r')
		bytes--;
	if (bytes >= 5 && memcmp(line, "HTTP/", 5) == 0)
		return status_line(a, line, bytes);
	if (bytes == 0) {
		a->done = true;
		return 0;
	}
	if (is_space(line[0]))
		return a->kept_last ? fault(a, "a field is folded") : 0;
	return field_line(a, line, bytes);
}

/* RFC 9110 section 14.4: "bytes 0-9/100", "bytes 0-9/STAR", "bytes STAR/100".
 * Without a span both ends are 0. */
static bool range_parse(const char *at, struct span *span, uint64_t *size)
{
	uint64_t last;

	*span = (struct span){ 0, 0 };
	*size = SIZE_UNKNOWN;
	if (strncasecmp(at, "bytes", 5) != 0 || !is_space(at[5]))
		return false;
	for (at += 5; is_space(*at); at++)
		;
	if (*at == '*') {
		at++;
	} else {
		if (!take_number(&at, &span->from) || *at++ != '-' ||
		    !take_number(&at, &last) || last < span->from)
			return false;
		span->to = last + 1;
	}
	if (*at++ != '/')
		return false;
	if (*at == '*')
		at++;
	else if (!take_number(&at, size))
		return false;
	return *at == '\0' && span->to <= *size;
}

static int judge_partial(struct answer *a, const struct answer_asked *asked)
{
	struct transfer_head *h = &a->head;
	uint64_t begin = asked->from;

	if (strncasecmp(h->content_type, "multipart/byteranges", 20) == 0)
		return fault(a, "206 in several parts");
	if (a->content_range[0] == '\0')
		return fault(a, "206 without Content-Range");
	if (!range_parse(a->content_range, &h->span, &h->size) ||
	    h->span.to == 0)
		return fault(a, "Content-Range makes no sense");
	if (asked->suffix > 0) {
		if (h->size != SIZE_UNKNOWN)
			begin = h->size - min_u64(h->size, asked->suffix);
		else
			begin = h->span.from;
	}
	if (h->span.from != begin)
		return fault(a, "Content-Range begins elsewhere than asked");
	if (asked->suffix > 0 && span_len(h->span) > asked->suffix)
		return fault(a, "Content-Range is longer than asked");
	if (a->length != SIZE_UNKNOWN && a->length != span_len(h->span))
		return fault(a, "Content-Length and Content-Range differ");
	h->ranged = true;
	return 0;
}

static int judge_unsatisfiable(struct answer *a)
{
	struct transfer_head *h = &a->head;
	struct span none;

	h->span = (struct span){ 0, a->length };
	if (a->content_range[0] == '\0')
		return 0;
	if (!range_parse(a->content_range, &none, &h->size) || none.to != 0)
		return fault(a, "Content-Range makes no sense");
	return 0;
}

int answer_judge(struct answer *a, const struct answer_asked *asked)
{
	struct transfer_head *h = &a->head;

	if (a->chunked)
		a->length = SIZE_UNKNOWN; /* RFC 9112 section 6.3 */
	h->end_is_sure = !a->h1 || a->chunked || a->length != SIZE_UNKNOWN;
	switch (h->status) {
	case 206:
		if (judge_partial(a, asked) < 0)
			return -EBADMSG;
		h->end_is_sure = true;
		return 0;
	case 416:
		return judge_unsatisfiable(a);
	case 204:
	case 304:
		h->end_is_sure = true;
		return 0;
	case 200:
		h->size = a->length;
		break;
	default:
		if (h->status < 200)
			return fault(a, "a response that was not asked for");
		break;
	}
	h->span = (struct span){ 0, a->length };
	return 0;
}

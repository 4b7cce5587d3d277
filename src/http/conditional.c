#include "http/conditional.h"

#include "http/date.h"
#include "http/etag.h"

enum list_match { LIST_MATCHES, LIST_DIFFERS, LIST_BAD };

/* One line of a list of tags, or "*", which any object matches. */
static enum list_match match_line(struct slice line,
				  const struct conditional_object *o,
				  bool (*same)(const struct etag *,
					       const struct etag *))
{
	struct etag own;
	bool has_own = etag_parse(o->etag, &own);
	bool found = false;
	struct etag tag;

	if (slice_is(line, "*"))
		return LIST_MATCHES;
	for (;;) {
		switch (etag_next(&line, &tag)) {
		case ETAG_FOUND:
			found |= has_own && same(&tag, &own);
			break;
		case ETAG_END:
			return found ? LIST_MATCHES : LIST_DIFFERS;
		case ETAG_BAD:
			return LIST_BAD;
		}
	}
}

/* All lines: one that cannot be read spoils the whole field. */
static enum list_match match_field(const struct head *h, enum head_field field,
				   const struct conditional_object *o,
				   bool (*same)(const struct etag *,
						const struct etag *))
{
	enum list_match all = LIST_DIFFERS;
	struct slice line;

	for (unsigned at = 0; head_next_line(h, field, &at, &line);) {
		switch (match_line(line, o, same)) {
		case LIST_MATCHES:
			all = LIST_MATCHES;
			break;
		case LIST_DIFFERS:
			break;
		case LIST_BAD:
			return LIST_BAD;
		}
	}
	return all;
}

/* Both the field's date and the object's Last-Modified, if they are dates. */
static bool read_dates(const struct head *h, enum head_field field,
		       const struct conditional_object *o, int64_t *asked_s,
		       int64_t *modified_s)
{
	struct slice asked = head_field(h, field);

	return asked.bytes > 0 && o->last_modified.bytes > 0 &&
	       date_parse(asked, o->now_s, asked_s) == 0 &&
	       date_parse(o->last_modified, o->now_s, modified_s) == 0;
}

static bool has(const struct head *h, enum head_field field)
{
	return h->first[field] != 0;
}

enum conditional_verdict conditional_check(const struct head *h,
					   const struct conditional_object *o)
{
	int64_t asked_s;
	int64_t modified_s;

	if (has(h, FIELD_IF_MATCH)) {
		if (match_field(h, FIELD_IF_MATCH, o, etag_same_strong) !=
		    LIST_MATCHES)
			return CONDITIONAL_FAILED;
	} else if (read_dates(h, FIELD_IF_UNMODIFIED_SINCE, o, &asked_s,
			      &modified_s)) {
		if (modified_s > asked_s)
			return CONDITIONAL_FAILED;
	}
	if (has(h, FIELD_IF_NONE_MATCH)) {
		if (match_field(h, FIELD_IF_NONE_MATCH, o, etag_same_weak) ==
		    LIST_MATCHES)
			return CONDITIONAL_NOT_MODIFIED;
	} else if (read_dates(h, FIELD_IF_MODIFIED_SINCE, o, &asked_s,
			      &modified_s)) {
		if (modified_s <= asked_s)
			return CONDITIONAL_NOT_MODIFIED;
	}
	return CONDITIONAL_SEND;
}

bool conditional_range_counts(const struct head *h,
			      const struct conditional_object *o)
{
	struct slice value = head_field(h, FIELD_IF_RANGE);
	struct etag asked;
	struct etag own;
	int64_t asked_s;
	int64_t modified_s;

	if (!slice_present(value))
		return true;
	if (etag_parse(value, &asked))
		return etag_parse(o->etag, &own) &&
		       etag_same_strong(&asked, &own);
	/* RFC 9110 section 8.8.2.2: a date is strong when the origin's own
	 * clock had moved on since */
	return read_dates(h, FIELD_IF_RANGE, o, &asked_s, &modified_s) &&
	       asked_s == modified_s && o->date_s > modified_s;
}

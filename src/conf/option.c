#include "conf/option.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a row's min and max, a choice has only words and a bool has nothing. */
#define MIN_BYTES(m)   (m)
#define MIN_TIME(m)    (m)
#define MIN_COUNT(m)   (m)
#define MIN_AUTO(m)    (m)
#define MIN_BOOL(m)    0
#define MIN_STRING(m)  (m)
#define MIN_CHOICE(m)  0
#define WORDS_BYTES(m) NULL
#define WORDS_TIME(m)  NULL
#define WORDS_COUNT(m) NULL
#define WORDS_AUTO(m)  NULL
#define WORDS_BOOL(m)  NULL
#define WORDS_STRING(m) NULL
#define WORDS_CHOICE(m) m

const struct option options[] = {
#define OPTIONS_OF OPTIONS_ALL
#define OPT(sec, field, kind, def, lo, hi, when, why)                          \
	{ .section = SECTION_##sec,                                            \
	  .type = OPTION_##kind,                                               \
	  .reload = RELOAD_##when,                                             \
	  .offset = offsetof(struct conf_##sec, field),                        \
	  .name = #field,                                                      \
	  .text = def,                                                         \
	  .words = WORDS_##kind(lo),                                           \
	  .min = MIN_##kind(lo),                                               \
	  .max = hi,                                                           \
	  .help = why },
#include "conf/options.def"
};
const size_t option_count = ARRAY_LEN(options);

static const struct {
	const char *name;
	bool named;
} sections[SECTION_COUNT] = {
	[SECTION_main] = { "main", false },
	[SECTION_http] = { "http", false },
	[SECTION_cache] = { "cache", false },
	[SECTION_prefetch] = { "prefetch", false },
	[SECTION_resolver] = { "resolver", false },
	[SECTION_upstream] = { "upstream", false },
	[SECTION_websocket] = { "websocket", false },
	[SECTION_listen] = { "listen", true },
	[SECTION_source] = { "source", true },
};

/* Smallest first: the next one is the next larger. */
struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit byte_units[] = {
	{ "", 1 },    { "K", KIB }, { "M", MIB },         { "G", GIB },
	{ "T", TIB }, { "P", TIB << 10 }, { "E", EIB },
};

static const struct unit time_units[] = {
	{ "ms", 1 },      { "s", 1000 },     { "m", 60000 },
	{ "h", 3600000 }, { "d", 86400000 },
};

static const char *const yes_words[] = { "yes", "on", "true", "1" };
static const char *const no_words[] = { "no", "off", "false", "0" };

const char *section_name(enum option_section section)
{
	return sections[section].name;
}

bool section_is_named(enum option_section section)
{
	return sections[section].named;
}

const struct option *option_find(enum option_section section, const char *name)
{
	for (size_t i = 0; i < option_count; i++)
		if (options[i].section == section &&
		    strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

/* Digits and what follows them.  False: no digit, or over 64 bits. */
static bool parse_number(const char *text, uint64_t *out, const char **rest)
{
	uint64_t n = 0;

	if (*text < '0' || *text > '9')
		return false;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
			return false;
	*out = n;
	*rest = text;
	return true;
}

static bool parse_with_unit(const char *text, const struct unit *units,
			    size_t unit_count, uint64_t *out)
{
	const char *rest;
	uint64_t n;

	if (!parse_number(text, &n, &rest))
		return false;
	for (size_t i = 0; i < unit_count; i++) {
		if (strcmp(rest, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(n, units[i].factor, out))
			*out = UINT64_MAX; /* beyond every bound */
		return true;
	}
	*out = 0;
	return n == 0 && *rest == '\0'; /* nothing needs no unit */
}

static const char *format_with_unit(uint64_t n, const struct unit *units,
				    size_t unit_count,
				    char scratch[OPTION_TEXT_BYTES])
{
	size_t i = unit_count - 1;

	while (i > 0 && n % units[i].factor != 0)
		i--;
	if (n == 0)
		return "0";
	(void)snprintf(scratch, OPTION_TEXT_BYTES, "%llu%s",
		       (unsigned long long)(n / units[i].factor),
		       units[i].name);
	return scratch;
}

static const char *format_number(const struct option *o, uint64_t n,
				 char scratch[OPTION_TEXT_BYTES])
{
	if (o->type == OPTION_BYTES)
		return format_with_unit(n, byte_units, ARRAY_LEN(byte_units),
					scratch);
	if (o->type == OPTION_TIME)
		return format_with_unit(n, time_units, ARRAY_LEN(time_units),
					scratch);
	(void)snprintf(scratch, OPTION_TEXT_BYTES, "%llu",
		       (unsigned long long)n);
	return scratch;
}

/* The n-th of "a|b|c"; its length, 0 = there are no more. */
static size_t choice_word(const char *words, size_t n, const char **word)
{
	for (; n > 0; n--) {
		words = strchr(words, '|');
		if (words == NULL)
			return 0;
		words++;
	}
	*word = words;
	return strcspn(words, "|");
}

static bool parse_choice(const char *words, const char *text, int *out)
{
	const char *word;
	size_t len;

	for (size_t n = 0; (len = choice_word(words, n, &word)) > 0; n++) {
		if (strlen(text) == len && strncmp(text, word, len) == 0) {
			*out = (int)n;
			return true;
		}
	}
	return false;
}

static bool parse_bool(const char *text, bool *out)
{
	for (size_t i = 0; i < ARRAY_LEN(yes_words); i++) {
		*out = strcmp(text, yes_words[i]) == 0;
		if (*out || strcmp(text, no_words[i]) == 0)
			return true;
	}
	return false;
}

void option_describe(const struct option *o, char *out, size_t out_bytes)
{
	char lo_text[OPTION_TEXT_BYTES], hi_text[OPTION_TEXT_BYTES];
	const char *lo = format_number(o, o->min, lo_text);
	const char *hi = format_number(o, o->max, hi_text);
	const char *word;
	size_t len, at = 0;

	switch (o->type) {
	case OPTION_BYTES:
		(void)snprintf(out, out_bytes, "size, %s to %s", lo, hi);
		break;
	case OPTION_TIME:
		(void)snprintf(out, out_bytes, "time, %s to %s", lo, hi);
		break;
	case OPTION_COUNT:
		(void)snprintf(out, out_bytes, "number, %s to %s", lo, hi);
		break;
	case OPTION_AUTO:
		(void)snprintf(out, out_bytes, "auto or number, %s to %s", lo,
			       hi);
		break;
	case OPTION_BOOL:
		(void)snprintf(out, out_bytes, "yes or no");
		break;
	case OPTION_STRING:
		(void)snprintf(out, out_bytes, "text, at most %s bytes", hi);
		break;
	case OPTION_CHOICE:
		out[0] = '\0';
		for (size_t n = 0;
		     (len = choice_word(o->words, n, &word)) > 0 &&
		     at < out_bytes;
		     n++)
			at += (size_t)snprintf(out + at, out_bytes - at,
					       "%s%.*s", n > 0 ? " or " : "",
					       (int)len, word);
		break;
	}
}

static int set_number(const struct option *o, const char *text, uint64_t *out,
		      char *why, size_t why_bytes)
{
	char allowed[128];
	const char *rest;
	bool good;

	if (o->type == OPTION_BYTES)
		good = parse_with_unit(text, byte_units, ARRAY_LEN(byte_units),
				       out);
	else if (o->type == OPTION_TIME)
		good = parse_with_unit(text, time_units, ARRAY_LEN(time_units),
				       out);
	else if (o->type == OPTION_AUTO && strcmp(text, "auto") == 0)
		good = (*out = 0, true);
	else
		good = parse_number(text, out, &rest) && *rest == '\0';
	if (good && *out >= o->min && *out <= o->max)
		return 0;
	option_describe(o, allowed, sizeof(allowed));
	if (good)
		(void)snprintf(why, why_bytes, "is out of bounds (%s)",
			       allowed);
	else if (o->type == OPTION_BYTES)
		(void)snprintf(why, why_bytes,
			       "is not a size: a whole number of bytes, or with "
			       "K, M, G, T for powers of 1024 (%s)", allowed);
	else if (o->type == OPTION_TIME)
		(void)snprintf(why, why_bytes,
			       "is not a time: a whole number with the unit ms, "
			       "s, m, h or d (%s)", allowed);
	else
		(void)snprintf(why, why_bytes, "is not a whole number (%s)",
			       allowed);
	return -EINVAL;
}

static int set_string(const struct option *o, const char *text, char **field,
		      char *why, size_t why_bytes)
{
	size_t len = strlen(text);
	char *copy;

	if (len < o->min || len > o->max) {
		if (len == 0)
			(void)snprintf(why, why_bytes, "must not be empty");
		else
			(void)snprintf(why, why_bytes,
				       "is %zu bytes long (%llu to %llu)", len,
				       (unsigned long long)o->min,
				       (unsigned long long)o->max);
		return -EINVAL;
	}
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
			(void)snprintf(why, why_bytes,
				       "has a control character in it");
			return -EINVAL;
		}
	}
	if (text[0] == ';') {
		(void)snprintf(why, why_bytes,
			       "begins with ';', which begins a comment");
		return -EINVAL;
	}
	copy = strdup(text);
	if (copy == NULL)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

int option_set(const struct option *o, void *values, const char *text,
	       char *why, size_t why_bytes)
{
	void *field = (char *)values + o->offset;
	uint64_t n;
	int rc;

	switch (o->type) {
	case OPTION_BYTES:
	case OPTION_TIME:
		return set_number(o, text, field, why, why_bytes);
	case OPTION_COUNT:
	case OPTION_AUTO:
		rc = set_number(o, text, &n, why, why_bytes);
		if (rc == 0)
			*(uint32_t *)field = (uint32_t)n;
		return rc;
	case OPTION_BOOL:
		if (parse_bool(text, field))
			return 0;
		(void)snprintf(why, why_bytes,
			       "is not one of yes, no, on, off, true, false, "
			       "1, 0");
		return -EINVAL;
	case OPTION_STRING:
		return set_string(o, text, field, why, why_bytes);
	case OPTION_CHOICE:
		if (parse_choice(o->words, text, field))
			return 0;
		rc = snprintf(why, why_bytes, "is not ");
		option_describe(o, why + rc, why_bytes - (size_t)rc);
		return -EINVAL;
	}
	must(!"every type is handled");
	return -EINVAL;
}

const char *option_text(const struct option *o, const void *values,
			char scratch[OPTION_TEXT_BYTES])
{
	const void *field = (const char *)values + o->offset;
	const char *word;
	size_t len;

	switch (o->type) {
	case OPTION_BYTES:
	case OPTION_TIME:
		return format_number(o, *(const uint64_t *)field, scratch);
	case OPTION_AUTO:
		if (*(const uint32_t *)field == 0)
			return "auto";
		return format_number(o, *(const uint32_t *)field, scratch);
	case OPTION_COUNT:
		return format_number(o, *(const uint32_t *)field, scratch);
	case OPTION_BOOL:
		return *(const bool *)field ? "yes" : "no";
	case OPTION_STRING:
		return *(char *const *)field;
	case OPTION_CHOICE:
		len = choice_word(o->words, (size_t)*(const int *)field, &word);
		must(len > 0 && len < OPTION_TEXT_BYTES);
		memcpy(scratch, word, len);
		scratch[len] = '\0';
		return scratch;
	}
	must(!"every type is handled");
	return "";
}

void option_free_all(enum option_section section, void *values)
{
	char **field;

	for (size_t i = 0; i < option_count; i++) {
		if (options[i].section != section ||
		    options[i].type != OPTION_STRING)
			continue;
		field = (char **)(void *)((char *)values + options[i].offset);
		free(*field);
		*field = NULL;
	}
}

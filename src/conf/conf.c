#include "conf/conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ini.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf/option.h"
#include "util/networks.h"
#include "util/quality.h"
#include "util/text_file.h"
#include "util/words.h"

#define FILE_BYTES_MAX (1024u * 1024u)
#define LINE_BYTES     8192u /* with its end, for libinih */
#define ROWS_MAX       128u

/*
 * libinih splits "name = value" and strips comments.  Everything about which
 * it is lenient or silent is looked at in read_line() before a line gets
 * there: section heads (it cuts long names and never tells of an empty
 * section), continuation lines, lines that are too long, bytes of no text.
 */
struct load {
	const char *path;
	struct conf *conf;
	struct conf_fault *fault;
	int rc; /* -errno once something is wrong; stops the reading */

	const char *text; /* what is left of the file */
	const char *text_end;
	unsigned int line;

	/* the section that is open: SECTION_COUNT = none yet */
	enum option_section section;
	const char *section_name; /* NAME of [section:NAME], or NULL */
	void *values;
	unsigned int section_line;
	unsigned int given_in_line[SECTION_COUNT];
	unsigned int set_in_line[ROWS_MAX]; /* 0 = not set; by row */
	unsigned int proxy_line; /* of the first proxy_protocol = yes; or 0 */
};

static void blame(struct load *ld, unsigned int line, const char *fmt, ...)
	PRINTF(3, 4);

/* The first fault is the one that is told. */
static void blame(struct load *ld, unsigned int line, const char *fmt, ...)
{
	struct conf_fault *f = ld->fault;
	va_list ap;
	int n;

	if (ld->rc < 0)
		return;
	ld->rc = -EINVAL;
	f->line = line;
	if (line > 0)
		n = snprintf(f->text, sizeof(f->text), "%.1024s:%u: ", ld->path,
			     line);
	else
		n = snprintf(f->text, sizeof(f->text), "%.1024s: ", ld->path);
	va_start(ap, fmt);
	(void)vsnprintf(f->text + n, sizeof(f->text) - (size_t)n, fmt, ap);
	va_end(ap);
}

static void out_of_memory(struct load *ld)
{
	blame(ld, 0, "out of memory");
	ld->rc = -ENOMEM;
}

/* ---- what is in the file ------------------------------------------------ */

static int read_file(struct load *ld, char **out, size_t *out_bytes)
{
	int rc = text_file_read(ld->path, FILE_BYTES_MAX, out, out_bytes);

	if (rc == 0)
		return 0;
	if (rc == -EFBIG)
		blame(ld, 0, "is larger than 1 MiB");
	else
		blame(ld, 0, "%s",
		      rc == -EINVAL ? "is not a regular file" : strerror(-rc));
	if (rc != -EFBIG)
		ld->rc = rc;
	return ld->rc;
}

/* ---- addresses ---------------------------------------------------------- */

/* Digits, 0 to 65535. */
static bool port_valid(const char *text)
{
	unsigned long port = 0;

	if (*text == '\0' || strlen(text) > 5)
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (unsigned long)(*text - '0');
	}
	return port <= 65535;
}

#define ADDRESS_BYTES 128u

/* ADDRESS:PORT, [ADDRESS]:PORT (with %INTERFACE or without) or *:PORT in the
 * one way in which equal ones look equal; the master makes sockets of it.
 * False: it is none of them. */
static bool read_address(const char *text, char out[ADDRESS_BYTES])
{
	const char *colon = strrchr(text, ':');
	char host[ADDRESS_BYTES / 2], plain[INET6_ADDRSTRLEN], *scope;
	unsigned char bits[16];
	size_t len;
	int family = AF_INET;

	if (colon == NULL || !port_valid(colon + 1))
		return false;
	len = (size_t)(colon - text);
	if (len == 0 || len >= sizeof(host))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (strcmp(host, "*") == 0) {
		(void)snprintf(out, ADDRESS_BYTES, "*:%d", atoi(colon + 1));
		return true;
	}
	if (host[0] == '[' && host[len - 1] == ']') {
		family = AF_INET6;
		host[len - 1] = '\0';
		memmove(host, host + 1, len - 1);
	}
	scope = strchr(host, '%');
	if (scope != NULL) {
		if (family != AF_INET6 || scope[1] == '\0')
			return false;
		*scope++ = '\0';
	}
	if (inet_pton(family, host, bits) != 1 ||
	    inet_ntop(family, bits, plain, sizeof(plain)) == NULL)
		return false;
	(void)snprintf(out, ADDRESS_BYTES, "%s%%%s:%d", plain,
		       scope != NULL ? scope : "", atoi(colon + 1));
	return true;
}

/* Port 0 is a new one each time. */
static bool same_address(const char *a, const char *b)
{
	char one[ADDRESS_BYTES], two[ADDRESS_BYTES];

	return read_address(a, one) && read_address(b, two) &&
	       strcmp(one, two) == 0 && strcmp(strrchr(one, ':'), ":0") != 0;
}

/* ---- sections as wholes ------------------------------------------------- */

/* NULL, or what is wrong with a template. */
static const char *check_template(const char *url, bool quality)
{
	const char *rest, *path, *brace;
	bool has_id = false, has_quality = false;

	if (strncasecmp(url, "http://", 7) == 0)
		rest = url + 7;
	else if (strncasecmp(url, "https://", 8) == 0)
		rest = url + 8;
	else
		return "must begin with http:// or https://";
	path = rest + strcspn(rest, "/?#");
	if (path == rest)
		return "has no host";
	if (strpbrk(url, " \t\"<>\\^`|") != NULL)
		return "has a character that no URL has";
	if (strchr(url, '#') != NULL)
		return "has a fragment (#), which is never sent";
	for (brace = strpbrk(url, "{}"); brace != NULL;
	     brace = strpbrk(brace + 1, "{}")) {
		bool id = strncmp(brace, "{id}", 4) == 0;

		if (!id && strncmp(brace, "{quality}", 9) != 0)
			return "has a brace that is not part of {id} or "
			       "{quality}";
		if (brace < path)
			return id ? "has {id} in its host: only path and "
				    "query may depend on the request"
				  : "has {quality} in its host: only path "
				    "and query may depend on the request";
		if (!id && !quality)
			return "has {quality}, but the source has no "
			       "qualities";
		has_id = has_id || id;
		has_quality = has_quality || !id;
		brace += id ? 3 : 8;
	}
	if (!has_id)
		return "lacks {id}, e.g. http://origin.example/video/{id}";
	return quality && !has_quality
		       ? "lacks {quality}, which the source's qualities are for"
		       : NULL;
}

/* NULL, or what is wrong with a list of qualities. */
static const char *check_qualities(const char *words)
{
	for (size_t n; (n = words_next(&words)) > 0; words += n) {
		const char *rest = words + n;

		if (!quality_format_valid(words, n))
			return "a word is 1 to 60 of A-Z a-z 0-9 . _ + -";
		for (size_t m; (m = words_next(&rest)) > 0; rest += m)
			if (m == n && memcmp(rest, words, n) == 0)
				return "a word is there twice";
	}
	return NULL;
}

static unsigned int line_of(const struct load *ld, const char *name)
{
	const struct option *o = option_find(ld->section, name);

	must(o != NULL);
	return ld->set_in_line[o - options];
}

static void check_trusted(struct load *ld)
{
	const char *words = ld->conf->http.trusted;
	struct networks networks;
	char why[NETWORKS_WHY_BYTES];

	if (networks_parse(&networks, words, why) < 0)
		blame(ld, line_of(ld, "trusted"), "[http] trusted = %.256s: %s",
		      words, why);
}

static void check_tls(struct load *ld)
{
	const struct conf_listen *li = ld->values;
	size_t certificates = words_count(li->certificate);
	size_t keys = words_count(li->key);
	unsigned int line = line_of(ld, "tls");

	if (li->tls && certificates == 0)
		blame(ld, line,
		      "[listen:%s] tls = yes: needs certificate and key",
		      li->name);
	else if (li->tls && certificates != keys)
		blame(ld, line,
		      "[listen:%s] tls = yes: there are %zu files of "
		      "certificates and %zu of keys: it must be as many",
		      li->name, certificates, keys);
	else if (!li->tls && certificates + keys > 0)
		blame(ld, line_of(ld, certificates > 0 ? "certificate" : "key"),
		      "[listen:%s] certificate, key: mean nothing without "
		      "tls = yes",
		      li->name);
}

static void check_listen(struct load *ld)
{
	struct conf_listen *li = ld->values;
	unsigned int line = line_of(ld, "address");
	char plain[ADDRESS_BYTES];

	if (li->proxy_protocol && ld->proxy_line == 0)
		ld->proxy_line = line_of(ld, "proxy_protocol");
	if (line == 0)
		line = ld->section_line;
	if (!read_address(li->address, plain)) {
		blame(ld, line,
		      "[listen:%s] address = %s: is not ADDRESS:PORT, "
		      "[ADDRESS]:PORT or *:PORT in numbers, port 0 to 65535",
		      li->name, li->address);
		return;
	}
	for (size_t i = 0; i + 1 < ld->conf->listen_count; i++)
		if (same_address(ld->conf->listens[i].address, li->address))
			blame(ld, line,
			      "[listen:%s] address = %s: is that of "
			      "[listen:%s] already",
			      li->name, li->address, ld->conf->listens[i].name);
	check_tls(ld);
}

static void check_source(struct load *ld)
{
	struct conf_source *so = ld->values;
	unsigned int line = line_of(ld, "url");
	const char *wrong;

	if (so->type == CONF_SOURCE_TYPE_DIRECTORY) {
		if (so->path[0] != '/')
			blame(ld, ld->section_line,
			      "[source:%s] of type directory needs a path that "
			      "begins with /",
			      so->name);
		return;
	}
	if (line == 0) {
		blame(ld, ld->section_line,
		      "[source:%s] needs a url, e.g. url = "
		      "http://origin.example/video/{id}",
		      so->name);
		return;
	}
	wrong = check_template(so->url, so->type == CONF_SOURCE_TYPE_TEMPLATE &&
						so->qualities[0] != '\0');
	if (wrong != NULL)
		blame(ld, line, "[source:%s] url = %s: %s", so->name, so->url,
		      wrong);
}

static void check_quality(struct load *ld)
{
	const struct conf_source *so = ld->values;
	unsigned int line = line_of(ld, "qualities");
	const char *wrong = check_qualities(so->qualities);

	if (wrong == NULL && so->qualities[0] != '\0' &&
	    so->type != CONF_SOURCE_TYPE_TEMPLATE)
		wrong = "only a source of type template takes it";
	if (wrong != NULL) {
		blame(ld, line, "[source:%s] qualities = %s: %s", so->name,
		      so->qualities, wrong);
		return;
	}
	if (quality_valid(so->quality, strlen(so->quality)) ||
	    so->qualities[0] != '\0')
		return;
	blame(ld, line_of(ld, "quality"),
	      "[source:%s] quality = %s: must be best, worst, audio, or one "
	      "like 360p",
	      so->name, so->quality);
}

static void check_cache(struct load *ld)
{
	const struct conf_cache *ca = &ld->conf->cache;
	unsigned int line = line_of(ld, "chunk");

	if (line == 0)
		line = line_of(ld, "size");
	if (ca->chunk > ca->size)
		blame(ld, line,
		      "[cache] chunk (%llu bytes) is larger than size (%llu "
		      "bytes): make size many times larger than chunk",
		      (unsigned long long)ca->chunk,
		      (unsigned long long)ca->size);
}

/* As browsers send it (RFC 6454 section 7): scheme, host, perhaps a port. */
static bool is_origin(const char *word, size_t n)
{
	const char *host = memmem(word, n, "://", 3);

	if (n == 4 && memcmp(word, "null", 4) == 0)
		return true;
	if (host == NULL || host == word || host + 3 == word + n)
		return false;
	host += 3;
	return strcspn(host, "/?#@,;") >= n - (size_t)(host - word);
}

static void check_origins(struct load *ld)
{
	const struct conf_websocket *ws = ld->values;
	const char *word = ws->origins;

	for (size_t n; (n = words_next(&word)) > 0; word += n) {
		if (is_origin(word, n) || (n == 1 && *word == '*') ||
		    (n == 4 && memcmp(word, "same", 4) == 0))
			continue;
		blame(ld, line_of(ld, "origins"),
		      "[websocket] origins = %s: %.*s is neither same, * nor "
		      "an origin like https://a.example or "
		      "https://a.example:8443",
		      ws->origins, (int)n, word);
		return;
	}
}

/* All lines of the open section were read. */
static void end_section(struct load *ld)
{
	if (ld->rc == 0 && ld->section == SECTION_http)
		check_trusted(ld);
	if (ld->rc == 0 && ld->section == SECTION_listen)
		check_listen(ld);
	if (ld->rc == 0 && ld->section == SECTION_source)
		check_source(ld);
	if (ld->rc == 0 && ld->section == SECTION_source)
		check_quality(ld);
	if (ld->rc == 0 && ld->section == SECTION_cache)
		check_cache(ld);
	if (ld->rc == 0 && ld->section == SECTION_websocket)
		check_origins(ld);
	ld->section = SECTION_COUNT;
}

static int set_defaults(enum option_section section, void *values)
{
	char why[256];
	int rc;

	for (size_t i = 0; i < option_count; i++) {
		if (options[i].section != section)
			continue;
		/* a string that must be given has no default */
		if (options[i].type == OPTION_STRING &&
		    options[i].text[0] == '\0') {
			char **field = (char **)(void *)((char *)values +
							 options[i].offset);

			*field = strdup("");
			if (*field == NULL)
				return -ENOMEM;
			continue;
		}
		rc = option_set(&options[i], values, options[i].text, why,
				sizeof(why));
		must(rc != -EINVAL);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* One more zeroed element at the end of an array. */
static void *grow(void *array, size_t count, size_t element_bytes)
{
	char *more = reallocarray(array, count + 1, element_bytes);

	if (more != NULL)
		memset(more + count * element_bytes, 0, element_bytes);
	return more;
}

static int add_listen(struct conf *conf, const char *name)
{
	struct conf_listen *more =
		grow(conf->listens, conf->listen_count, sizeof(*more));

	if (more == NULL)
		return -ENOMEM;
	conf->listens = more;
	more += conf->listen_count++;
	more->name = strdup(name);
	return more->name == NULL ? -ENOMEM
				  : set_defaults(SECTION_listen, more);
}

static int add_source(struct conf *conf, const char *name)
{
	struct conf_source *more =
		grow(conf->sources, conf->source_count, sizeof(*more));

	if (more == NULL)
		return -ENOMEM;
	conf->sources = more;
	more += conf->source_count++;
	more->name = strdup(name);
	return more->name == NULL ? -ENOMEM
				  : set_defaults(SECTION_source, more);
}

static bool listen_named(const struct conf *conf, const char *name)
{
	for (size_t i = 0; i < conf->listen_count; i++)
		if (strcmp(conf->listens[i].name, name) == 0)
			return true;
	return false;
}

static void open_named(struct load *ld, enum option_section section,
		       const char *name)
{
	struct conf *conf = ld->conf;
	bool listen = section == SECTION_listen;
	size_t most = listen ? CONF_LISTENS_MAX : CONF_SOURCES_MAX;
	size_t count = listen ? conf->listen_count : conf->source_count;
	int rc;

	if (name[0] == '\0' || strlen(name) > CONF_NAME_BYTES ||
	    name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			      "abcdefghijklmnopqrstuvwxyz0123456789._-")] !=
		    '\0') {
		blame(ld, ld->line,
		      "[%s:%s]: a name is 1 to %u of A-Z a-z 0-9 . _ -",
		      section_name(section), name, CONF_NAME_BYTES);
		return;
	}
	if (listen ? listen_named(conf, name)
		   : conf_find_source(conf, name, strlen(name)) != NULL) {
		blame(ld, ld->line, "[%s:%s] was given before",
		      section_name(section), name);
		return;
	}
	if (count == most) {
		blame(ld, ld->line, "more than %zu sections [%s:NAME]", most,
		      section_name(section));
		return;
	}
	rc = listen ? add_listen(conf, name) : add_source(conf, name);
	if (rc < 0) {
		out_of_memory(ld);
		return;
	}
	ld->values = listen ? (void *)&conf->listens[count]
			    : (void *)&conf->sources[count];
	ld->section_name =
		listen ? conf->listens[count].name : conf->sources[count].name;
	for (size_t i = 0; i < option_count; i++)
		if (options[i].section == section)
			ld->set_in_line[i] = 0;
}

static void open_single(struct load *ld, enum option_section section)
{
	void *const values[SECTION_COUNT] = {
		[SECTION_main] = &ld->conf->main,
		[SECTION_http] = &ld->conf->http,
		[SECTION_cache] = &ld->conf->cache,
		[SECTION_prefetch] = &ld->conf->prefetch,
		[SECTION_resolver] = &ld->conf->resolver,
		[SECTION_upstream] = &ld->conf->upstream,
		[SECTION_websocket] = &ld->conf->websocket,
	};

	if (ld->given_in_line[section] != 0) {
		blame(ld, ld->line, "[%s] was given before, in line %u",
		      section_name(section), ld->given_in_line[section]);
		return;
	}
	ld->given_in_line[section] = ld->line;
	ld->values = values[section];
	ld->section_name = NULL;
}

/* head: what stands between the brackets. */
static void open_section(struct load *ld, char *head)
{
	char *name = strchr(head, ':');
	int n = 0;

	end_section(ld);
	if (name != NULL)
		*name++ = '\0';
	while (n < SECTION_COUNT &&
	       strcmp(section_name((enum option_section)n), head) != 0)
		n++;
	if (n == SECTION_COUNT) {
		blame(ld, ld->line,
		      "no section is called [%s]: there are [main], [http], "
		      "[cache], [prefetch], [resolver], [upstream], "
		      "[websocket], [listen:NAME] and [source:NAME]",
		      head);
	} else if (section_is_named((enum option_section)n) && name == NULL) {
		blame(ld, ld->line, "[%s] needs a name, e.g. [%s:a]", head,
		      head);
	} else if (!section_is_named((enum option_section)n) && name != NULL) {
		blame(ld, ld->line, "[%s:%s]: it takes no name, write [%s]",
		      head, name, head);
	} else {
		ld->section_line = ld->line;
		if (name != NULL)
			open_named(ld, (enum option_section)n, name);
		else
			open_single(ld, (enum option_section)n);
		ld->section = (enum option_section)n;
	}
}

/* ---- lines -------------------------------------------------------------- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A line without its end and without blanks around it: is it one? */
static void look_at_line(struct load *ld, const char *line, size_t len)
{
	char head[LINE_BYTES];
	const char *end, *rest;

	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') ||
		    line[i] == 0x7f) {
			blame(ld, ld->line,
			      "has a control character (byte 0x%02x) in it",
			      (unsigned char)line[i]);
			return;
		}
	if (len == 0 || line[0] == ';' || line[0] == '#')
		return;
	if (line[0] != '[') {
		if (memchr(line, '=', len) == NULL)
			blame(ld, ld->line,
			      "is neither `name = value' nor [section]: %.*s",
			      (int)(len < 80 ? len : 80), line);
		return;
	}
	end = memchr(line, ']', len);
	if (end == NULL) {
		blame(ld, ld->line, "lacks the ] of a [section]");
		return;
	}
	for (rest = end + 1; rest < line + len && is_blank(*rest); rest++)
		;
	if (rest < line + len && *rest != ';' && *rest != '#') {
		blame(ld, ld->line, "has more after the ] of a [section]: %.*s",
		      (int)(line + len - rest), rest);
		return;
	}
	memcpy(head, line + 1, (size_t)(end - line - 1));
	head[end - line - 1] = '\0';
	open_section(ld, head);
}

/* libinih's reader, like fgets(): gives the next line without the blanks
 * that would make it a continuation; NULL ends the file, or the reading when
 * something is wrong. */
static char *read_line(char *to, int to_bytes, void *stream)
{
	struct load *ld = stream;
	const char *line = ld->text, *end;
	size_t len;

	if (ld->rc < 0 || line == ld->text_end)
		return NULL;
	end = memchr(line, '\n', (size_t)(ld->text_end - line));
	if (end == NULL)
		end = ld->text_end;
	ld->text = end < ld->text_end ? end + 1 : end;
	ld->line++;
	if (ld->line == 1 && end - line >= 3 &&
	    memcmp(line, "\xef\xbb\xbf", 3) == 0)
		line += 3; /* some editors mark UTF-8 so */
	if (end > line && end[-1] == '\r')
		end--;
	while (line < end && is_blank(*line))
		line++;
	while (end > line && is_blank(end[-1]))
		end--;
	len = (size_t)(end - line);
	if (len + 2 > (size_t)to_bytes || len + 2 > LINE_BYTES) {
		blame(ld, ld->line, "is longer than %d bytes", to_bytes - 2);
		return NULL;
	}
	look_at_line(ld, line, len);
	if (ld->rc < 0)
		return NULL;
	memcpy(to, line, len);
	to[len] = '\n';
	to[len + 1] = '\0';
	return to;
}

static const char *section_label(const struct load *ld, char *out,
				 size_t out_bytes)
{
	if (ld->section_name != NULL)
		(void)snprintf(out, out_bytes, "[%s:%s]",
			       section_name(ld->section), ld->section_name);
	else
		(void)snprintf(out, out_bytes, "[%s]",
			       section_name(ld->section));
	return out;
}

static void blame_name(struct load *ld, const char *label, const char *name)
{
	char known[1024];
	size_t at = 0;

	known[0] = '\0';
	for (size_t i = 0; i < option_count && at < sizeof(known); i++)
		if (options[i].section == ld->section)
			at += (size_t)snprintf(known + at, sizeof(known) - at,
					       " %s", options[i].name);
	blame(ld, ld->line, "%s has no option %.64s: there are%s", label, name,
	      known);
}

/* libinih's handler: 1, or 0 when something is wrong. */
static int take_option(void *user, const char *section, const char *name,
		       const char *value)
{
	struct load *ld = user;
	const struct option *o;
	unsigned int *seen;
	char label[96], why[512];
	const char *hash;
	int rc;

	(void)section; /* may be cut: open_section() has the whole of it */
	if (ld->rc < 0)
		return 0;
	if (ld->section == SECTION_COUNT) {
		blame(ld, ld->line, "%.64s stands before any [section]", name);
		return 0;
	}
	(void)section_label(ld, label, sizeof(label));
	o = option_find(ld->section, name);
	if (o == NULL) {
		blame_name(ld, label, name);
		return 0;
	}
	seen = &ld->set_in_line[o - options];
	if (*seen != 0) {
		blame(ld, ld->line, "%s %s was given before, in line %u", label,
		      name, *seen);
		return 0;
	}
	*seen = ld->line;
	hash = strchr(value, '#');
	if (hash != NULL && (hash == value || is_blank(hash[-1]))) {
		blame(ld, ld->line,
		      "%s %s = %.256s: a comment behind a value begins with ;",
		      label, name, value);
		return 0;
	}
	rc = option_set(o, ld->values, value, why, sizeof(why));
	if (rc == -ENOMEM)
		out_of_memory(ld);
	else if (rc < 0)
		blame(ld, ld->line, "%s %s = %.256s: %s", label, name, value,
		      why);
	return rc == 0;
}

/* ---- loading ------------------------------------------------------------ */

static int make_defaults(struct conf **out)
{
	struct conf *conf = calloc(1, sizeof(*conf));
	int rc;

	if (conf == NULL)
		return -ENOMEM;
	rc = set_defaults(SECTION_main, &conf->main);
	if (rc == 0)
		rc = set_defaults(SECTION_http, &conf->http);
	if (rc == 0)
		rc = set_defaults(SECTION_cache, &conf->cache);
	if (rc == 0)
		rc = set_defaults(SECTION_prefetch, &conf->prefetch);
	if (rc == 0)
		rc = set_defaults(SECTION_resolver, &conf->resolver);
	if (rc == 0)
		rc = set_defaults(SECTION_upstream, &conf->upstream);
	if (rc == 0)
		rc = set_defaults(SECTION_websocket, &conf->websocket);
	if (rc < 0)
		conf_free(conf);
	else
		*out = conf;
	return rc;
}

static void parse(struct load *ld)
{
	int rc;

#ifdef HAVE_INI_MAX_LINE
	ini_use_stack = false;
	ini_max_line = LINE_BYTES;
	ini_initial_alloc = LINE_BYTES;
#endif
	rc = ini_parse_stream(read_line, ld, take_option, ld);
	if (rc == -2)
		out_of_memory(ld);
	else if (rc > 0)
		blame(ld, (unsigned int)rc, "is not `name = value'");
	end_section(ld);
	if (ld->rc == 0 && ld->proxy_line != 0 &&
	    words_count(ld->conf->http.trusted) == 0)
		blame(ld, ld->proxy_line,
		      "proxy_protocol = yes needs [http] trusted, the "
		      "balancers' networks: else every connection is closed");
	if (ld->rc == 0 && ld->conf->source_count == 0)
		blame(ld, 0,
		      "has no [source:NAME] section: name an origin, e.g. "
		      "[source:main] with url = "
		      "http://origin.example/video/{id}");
	if (ld->rc == 0 && ld->conf->listen_count == 0 &&
	    add_listen(ld->conf, "default") < 0)
		out_of_memory(ld);
}

int conf_load(const char *path, struct conf **out, struct conf_fault *fault)
{
	struct load ld = {
		.path = path,
		.fault = fault,
		.section = SECTION_COUNT,
	};
	size_t bytes;
	char *text;

	must(option_count <= ROWS_MAX);
	fault->line = 0;
	fault->text[0] = '\0';
	if (read_file(&ld, &text, &bytes) < 0)
		return ld.rc;
	ld.text = text;
	ld.text_end = text + bytes;
	if (make_defaults(&ld.conf) < 0)
		out_of_memory(&ld);
	else
		parse(&ld);
	free(text);
	if (ld.rc < 0)
		conf_free(ld.conf);
	else
		*out = ld.conf;
	return ld.rc;
}

void conf_free(struct conf *conf)
{
	if (conf == NULL)
		return;
	option_free_all(SECTION_main, &conf->main);
	option_free_all(SECTION_http, &conf->http);
	option_free_all(SECTION_cache, &conf->cache);
	option_free_all(SECTION_prefetch, &conf->prefetch);
	option_free_all(SECTION_resolver, &conf->resolver);
	option_free_all(SECTION_upstream, &conf->upstream);
	option_free_all(SECTION_websocket, &conf->websocket);
	for (size_t i = 0; i < conf->listen_count; i++) {
		option_free_all(SECTION_listen, &conf->listens[i]);
		free(conf->listens[i].name);
	}
	for (size_t i = 0; i < conf->source_count; i++) {
		option_free_all(SECTION_source, &conf->sources[i]);
		free(conf->sources[i].name);
	}
	free(conf->listens);
	free(conf->sources);
	free(conf);
}

const struct conf_source *conf_find_source(const struct conf *conf,
					   const char *name, size_t name_bytes)
{
	for (size_t i = 0; i < conf->source_count; i++)
		if (strlen(conf->sources[i].name) == name_bytes &&
		    memcmp(conf->sources[i].name, name, name_bytes) == 0)
			return &conf->sources[i];
	return NULL;
}

static const void *single_values(const struct conf *conf,
				 enum option_section section)
{
	switch (section) {
	case SECTION_main:
		return &conf->main;
	case SECTION_http:
		return &conf->http;
	case SECTION_cache:
		return &conf->cache;
	case SECTION_prefetch:
		return &conf->prefetch;
	case SECTION_resolver:
		return &conf->resolver;
	case SECTION_upstream:
		return &conf->upstream;
	case SECTION_websocket:
		return &conf->websocket;
	default:
		return NULL;
	}
}

int conf_check_reload(const struct conf *old, const struct conf *new,
		      struct conf_fault *fault)
{
	char was[OPTION_TEXT_BYTES], is[OPTION_TEXT_BYTES];

	fault->line = 0;
	fault->text[0] = '\0';
	for (size_t i = 0; i < option_count; i++) {
		const struct option *o = &options[i];
		const void *a = single_values(old, o->section);
		const void *b = single_values(new, o->section);
		const char *ta, *tb;

		if (o->reload != RELOAD_RESTART || a == NULL)
			continue;
		ta = option_text(o, a, was);
		tb = option_text(o, b, is);
		if (strcmp(ta, tb) == 0)
			continue;
		(void)snprintf(fault->text, sizeof(fault->text),
			       "[%s] %s: only a restart changes it (it is "
			       "\"%.512s\", the file now says \"%.512s\")",
			       section_name(o->section), o->name, ta, tb);
		return -EINVAL;
	}
	return 0;
}

/* ---- printing ----------------------------------------------------------- */

static void dump_section(enum option_section section, const char *name,
			 const void *values, FILE *to)
{
	char scratch[OPTION_TEXT_BYTES];

	if (name != NULL)
		(void)fprintf(to, "[%s:%s]\n", section_name(section), name);
	else
		(void)fprintf(to, "[%s]\n", section_name(section));
	for (size_t i = 0; i < option_count; i++)
		if (options[i].section == section)
			(void)fprintf(
				to, "%s = %s\n", options[i].name,
				option_text(&options[i], values, scratch));
	(void)fputc('\n', to);
}

static int flush(FILE *to)
{
	if (fflush(to) != 0)
		return -errno;
	return ferror(to) != 0 ? -EIO : 0;
}

int conf_dump(const struct conf *conf, FILE *to)
{
	dump_section(SECTION_main, NULL, &conf->main, to);
	dump_section(SECTION_http, NULL, &conf->http, to);
	dump_section(SECTION_cache, NULL, &conf->cache, to);
	dump_section(SECTION_prefetch, NULL, &conf->prefetch, to);
	dump_section(SECTION_resolver, NULL, &conf->resolver, to);
	dump_section(SECTION_upstream, NULL, &conf->upstream, to);
	dump_section(SECTION_websocket, NULL, &conf->websocket, to);
	for (size_t i = 0; i < conf->listen_count; i++)
		dump_section(SECTION_listen, conf->listens[i].name,
			     &conf->listens[i], to);
	for (size_t i = 0; i < conf->source_count; i++)
		dump_section(SECTION_source, conf->sources[i].name,
			     &conf->sources[i], to);
	return flush(to);
}

static void print_sample_option(const struct option *o, FILE *to)
{
	char allowed[128];
	bool needed =
		o->type == OPTION_STRING && o->text[0] == '\0' && o->min > 0;

	option_describe(o, allowed, sizeof(allowed));
	(void)fprintf(to, "\n; %s\n; (%s%s)\n", o->help, allowed,
		      o->reload == RELOAD_RESTART ? "; takes a restart" : "");
	if (needed)
		(void)fprintf(to, "%s = http://origin.example/video/{id}\n",
			      o->name);
	else
		(void)fprintf(to, ";%s =%s%s\n", o->name,
			      o->text[0] != '\0' ? " " : "", o->text);
}

int conf_print_sample(FILE *to)
{
	static const char *const names[SECTION_COUNT] = {
		[SECTION_listen] = "main",
		[SECTION_source] = "main",
	};
	static const char *const notes[SECTION_COUNT] = {
		[SECTION_listen] =
			"; An address that clients connect to; give more with "
			"other names.\n",
		[SECTION_source] =
			"; An origin; give more with other names, the first "
			"is the default.\n",
	};

	(void)fputs("; reelcache: every option with its default, see "
		    "reelcache.ini(5).\n; A default is used by leaving its "
		    "line a comment.\n",
		    to);
	for (int s = 0; s < SECTION_COUNT; s++) {
		(void)fprintf(to, "\n%s[%s%s%s]\n",
			      notes[s] != NULL ? notes[s] : "",
			      section_name((enum option_section)s),
			      names[s] != NULL ? ":" : "",
			      names[s] != NULL ? names[s] : "");
		for (size_t i = 0; i < option_count; i++)
			if ((int)options[i].section == s)
				print_sample_option(&options[i], to);
	}
	return flush(to);
}

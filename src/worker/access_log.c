#include "worker/access_log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "http/json.h"
#include "http/sink.h"
#include "util/log.h"

#define TARGET_MAX 2048u /* of each text from a client, escapes included */
#define TEXT_MAX   512u
#define LINE_BYTES 24576u /* longest line: a byte becomes six in JSON */

struct access_log {
	char *path;
	int fd;
	bool json;
	bool told; /* of a failed write */
	size_t used;
	char buffer[ACCESS_LOG_BUFFER];
};

/* The texts follow each other in text[], each with its NUL. */
struct access_entry {
	uint16_t target_off;
	uint16_t referer_off;
	uint16_t agent_off;
	uint8_t minor;
	bool http2;
	uint8_t method; /* enum head_method */
	bool has_request;
	char text[];
};

static int open_file(const char *path)
{
	int fd = open(path,
		      O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK |
			      O_NOCTTY,
		      0640);

	return fd < 0 ? -errno : fd;
}

int access_log_open(struct access_log **out, const char *path, bool json)
{
	struct access_log *log = malloc(sizeof(*log));
	int rc = -ENOMEM;

	if (log == NULL)
		return -ENOMEM;
	memset(log, 0, offsetof(struct access_log, buffer));
	log->json = json;
	log->path = strdup(path);
	if (log->path == NULL)
		goto no_path;
	rc = log->fd = open_file(path);
	if (rc < 0)
		goto no_file;
	*out = log;
	return 0;

no_file:
	free(log->path);
no_path:
	free(log);
	return rc;
}

void access_log_close(struct access_log *log)
{
	if (log == NULL)
		return;
	access_log_flush(log);
	close(log->fd);
	free(log->path);
	free(log);
}

int access_log_reopen(struct access_log *log)
{
	int fd;

	access_log_flush(log);
	fd = open_file(log->path);
	if (fd < 0)
		return fd;
	close(log->fd);
	log->fd = fd;
	log->told = false;
	return 0;
}

void access_log_flush(struct access_log *log)
{
	ssize_t n;

	if (log->used == 0)
		return;
	do
		n = write(log->fd, log->buffer, log->used);
	while (n < 0 && errno == EINTR);
	if ((n < 0 || (size_t)n != log->used) && !log->told) {
		log_error("ev=access_log_lost bytes=%zu error=%s", log->used,
			  n < 0 ? strerrorname_np(errno) : "short");
		log->told = true;
	}
	log->used = 0;
}

/* Printable ASCII but quotes and backslashes as it is, all else as \xHH;
 * cut at a whole character.  JSON does its own escaping: raw then. */
static char *put_text(char *dst, size_t dst_bytes, struct slice s, bool raw)
{
	static const char digits[] = "0123456789abcdef";
	char *end = dst + dst_bytes - 1;

	for (size_t i = 0; i < s.bytes; i++) {
		unsigned char ch = (unsigned char)s.at[i];
		bool plain = raw || (ch >= 0x20 && ch < 0x7f && ch != '"' &&
				     ch != '\\');

		if (end - dst < (plain ? 1 : 4))
			break;
		if (plain) {
			*dst++ = (char)ch;
			continue;
		}
		*dst++ = '\\';
		*dst++ = 'x';
		*dst++ = digits[ch >> 4];
		*dst++ = digits[ch & 15];
	}
	*dst++ = '\0';
	return dst;
}

struct access_entry *access_log_begin(struct access_log *log,
				      const struct head *head,
				      const uint8_t *peer)
{
	char text[INET6_ADDRSTRLEN + TARGET_MAX + 2 * TEXT_MAX];
	struct access_entry *entry;
	struct slice target, referer, agent;
	char *at = text;

	if (log == NULL)
		return NULL;
	if (memcmp(peer, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0)
		inet_ntop(AF_INET, peer + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, peer, text, INET6_ADDRSTRLEN);
	at += strlen(text) + 1;
	entry = malloc(sizeof(*entry) + sizeof(text));
	if (entry == NULL)
		return NULL;
	target = head_target(head);
	referer = head_field(head, FIELD_REFERER);
	agent = head_field(head, FIELD_USER_AGENT);
	entry->has_request = target.bytes > 0;
	entry->method = (uint8_t)head->method;
	entry->minor = head->minor;
	entry->http2 = head->http2;
	entry->target_off = (uint16_t)(at - text);
	at = put_text(at, TARGET_MAX, target, log->json);
	entry->referer_off = (uint16_t)(at - text);
	at = put_text(at, TEXT_MAX, referer, log->json);
	entry->agent_off = (uint16_t)(at - text);
	at = put_text(at, TEXT_MAX, agent, log->json);
	memcpy(entry->text, text, (size_t)(at - text));
	/* a slow client holds it for long: no more than it needs */
	{
		void *small =
			realloc(entry, sizeof(*entry) + (size_t)(at - text));

		return small != NULL ? small : entry;
	}
}

static const char *or_dash(const char *text)
{
	return *text == '\0' ? "-" : text;
}

static int line_combined(char *dst, size_t dst_bytes,
			 const struct access_entry *e, int64_t wall_s,
			 const struct access_facts *f)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t when = (time_t)wall_s;
	struct tm tm;
	char request[TARGET_MAX + 64] = "-";

	if (gmtime_r(&when, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	if (e->has_request)
		snprintf(request, sizeof(request), "%s %s HTTP/%u.%u",
			 head_method_name((enum head_method)e->method),
			 e->text + e->target_off, e->http2 ? 2u : 1u,
			 e->http2 ? 0u : e->minor);
	return snprintf(dst, dst_bytes,
			"%s - - [%02d/%.3s/%04d:%02d:%02d:%02d +0000] \"%s\" "
			"%d %" PRIu64 " \"%s\" \"%s\" %" PRIu64 " %" PRIu64
			" %" PRIu64 " %" PRIu64 " %s\n",
			e->text, tm.tm_mday, months + (tm.tm_mon % 12) * 3,
			tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec,
			request, f->status,
			f->bytes_cache + f->bytes_inflight + f->bytes_origin +
				f->bytes_other,
			or_dash(e->text + e->referer_off),
			or_dash(e->text + e->agent_off), f->ttfb_us,
			f->bytes_cache, f->bytes_inflight, f->bytes_origin,
			f->verdict);
}

static int line_json(char *dst, size_t dst_bytes, const struct access_entry *e,
		     int64_t wall_s, const struct access_facts *f)
{
	struct json j;
	size_t used;
	int rc;

	json_init(&j, dst, dst_bytes - 1);
	json_object(&j);
	json_key(&j, "time");
	json_i64(&j, wall_s);
	json_key(&j, "client");
	json_text(&j, e->text);
	json_key(&j, "method");
	if (e->has_request)
		json_text(&j, head_method_name((enum head_method)e->method));
	else
		json_null(&j);
	json_key(&j, "protocol");
	json_text(&j, e->http2      ? "HTTP/2.0"
		      : e->minor > 0 ? "HTTP/1.1"
				     : "HTTP/1.0");
	json_key(&j, "target");
	json_text(&j, e->text + e->target_off);
	json_key(&j, "status");
	json_u64(&j, (uint64_t)f->status);
	json_key(&j, "bytes");
	json_u64(&j, f->bytes_cache + f->bytes_inflight + f->bytes_origin +
			     f->bytes_other);
	json_key(&j, "bytes_cache");
	json_u64(&j, f->bytes_cache);
	json_key(&j, "bytes_inflight");
	json_u64(&j, f->bytes_inflight);
	json_key(&j, "bytes_origin");
	json_u64(&j, f->bytes_origin);
	json_key(&j, "ttfb_us");
	json_u64(&j, f->ttfb_us);
	json_key(&j, "cache");
	json_text(&j, f->verdict);
	json_key(&j, "referer");
	json_text(&j, e->text + e->referer_off);
	json_key(&j, "user_agent");
	json_text(&j, e->text + e->agent_off);
	json_object_end(&j);
	rc = json_end(&j, &used);
	if (rc < 0)
		return rc;
	dst[used] = '\n';
	return (int)used + 1;
}

void access_log_end(struct access_log *log, struct access_entry *entry,
		    int64_t wall_s, const struct access_facts *facts)
{
	int n;

	if (entry == NULL)
		return;
	/* the longest line of either shape is below: escapes are bounded */
	if (ACCESS_LOG_BUFFER - log->used < LINE_BYTES)
		access_log_flush(log);
	if (log->json)
		n = line_json(log->buffer + log->used, LINE_BYTES, entry,
			      wall_s, facts);
	else
		n = line_combined(log->buffer + log->used, LINE_BYTES, entry,
				  wall_s, facts);
	must(n < (int)(LINE_BYTES));
	if (n > 0)
		log->used += (size_t)n;
	free(entry);
}

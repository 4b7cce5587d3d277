#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 4096u /* longer lines are cut */

/* One log per process: the only state of this module. */
static struct {
	char *path; /* NULL or "" = standard error */
	int fd;
	enum log_level level;
	const char *who;
	bool journal; /* standard error is the journal's socket */
} the_log = { NULL, STDERR_FILENO, LOG_LEVEL_INFO, "reelcache", false };

static const struct {
	const char *name;
	int priority; /* syslog(3) severity, for the journal */
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", 3 },
	[LOG_LEVEL_WARNING] = { "warning", 4 },
	[LOG_LEVEL_INFO] = { "info", 6 },
	[LOG_LEVEL_DEBUG] = { "debug", 7 },
};

/* JOURNAL_STREAM is inherited by everything below a service: it counts only
 * while standard error still is the socket that it names (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *named = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (named == NULL || sscanf(named, "%llu:%llu", &dev, &ino) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 &&
	       (unsigned long long)st.st_dev == dev &&
	       (unsigned long long)st.st_ino == ino;
}

static int open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY,
		      0640);

	return fd < 0 ? -errno : fd;
}

int log_open(const char *path, enum log_level level, const char *who)
{
	char *copy = strdup(path);
	int fd = STDERR_FILENO;

	if (copy == NULL)
		return -ENOMEM;
	if (path[0] != '\0')
		fd = open_file(path);
	if (fd < 0) {
		free(copy);
		return fd;
	}
	if (the_log.fd != STDERR_FILENO)
		(void)close(the_log.fd);
	free(the_log.path);
	the_log.path = copy;
	the_log.fd = fd;
	the_log.level = level;
	the_log.who = who;
	the_log.journal = path[0] == '\0' && stderr_is_journal();
	return 0;
}

void log_set_who(const char *who)
{
	the_log.who = who;
}

int log_reopen(void)
{
	int fd;

	if (the_log.path == NULL || the_log.path[0] == '\0')
		return 0;
	fd = open_file(the_log.path);
	if (fd < 0)
		return fd;
	(void)close(the_log.fd);
	the_log.fd = fd;
	return 0;
}

static size_t write_head(char *line, size_t line_bytes, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	char stamp[32];
	int n;

	if (the_log.journal) {
		n = snprintf(line, line_bytes, "<%d>%s %s[%d] ",
			     levels[level].priority, levels[level].name,
			     the_log.who, (int)getpid());
	} else {
		(void)clock_gettime(CLOCK_REALTIME, &ts);
		if (gmtime_r(&ts.tv_sec, &tm) == NULL ||
		    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S",
			     &tm) == 0)
			stamp[0] = '\0';
		n = snprintf(line, line_bytes, "%s.%03ldZ %s %s[%d] ", stamp,
			     ts.tv_nsec / 1000000, levels[level].name,
			     the_log.who, (int)getpid());
	}
	if (n < 0)
		return 0;
	return (size_t)n < line_bytes ? (size_t)n : line_bytes - 1;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES];
	size_t used, end;
	int saved = errno;
	va_list ap;
	int n;

	if (level > the_log.level)
		return;
	used = write_head(line, sizeof(line) - 1, level);
	va_start(ap, fmt);
	n = vsnprintf(line + used, sizeof(line) - 1 - used, fmt, ap);
	va_end(ap);
	end = used + (n > 0 ? (size_t)n : 0);
	if (end > sizeof(line) - 2)
		end = sizeof(line) - 2;
	/* one fact, one line, whatever a value holds */
	for (size_t i = used; i < end; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[end++] = '\n';
	/* a single write: lines of several processes do not mix */
	while (write(the_log.fd, line, end) < 0 && errno == EINTR)
		;
	errno = saved;
}

const char *log_quote(char *dst, size_t dst_bytes, const char *src)
{
	static const char hex[] = "0123456789abcdef";
	size_t at = 0;

	must(dst_bytes >= 3);
	dst[at++] = '"';
	for (; *src != '\0'; src++) {
		unsigned char c = (unsigned char)*src;
		bool plain = c >= ' ' && c < 0x7f && c != '"' && c != '\\';

		if (at + (plain ? 1u : 4u) + 2u > dst_bytes)
			break;
		if (plain) {
			dst[at++] = (char)c;
		} else {
			dst[at++] = '\\';
			dst[at++] = 'x';
			dst[at++] = hex[c >> 4];
			dst[at++] = hex[c & 15];
		}
	}
	dst[at++] = '"';
	dst[at] = '\0';
	return dst;
}

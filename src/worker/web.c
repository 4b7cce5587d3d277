#include "worker/web.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/conditional.h"
#include "util/log.h"
#include "worker/answer.h"

#define PATH_BYTES 256u
#define DEPTH_MAX  4u

struct web_file {
	char path[PATH_BYTES]; /* "/player.js" */
	const char *content_type;
	char etag[24]; /* with its quotes */
	uint64_t bytes;
	int fd; /* memfd: what the folder held at start */
};

struct web {
	size_t count;
	struct web_file files[WEB_FILES_MAX];
};

/* A file on its way to a client that did not take it at once. */
struct web_send {
	struct desk *desk;
	struct sink *sink;
	struct access_entry *entry;
	uint64_t off;
	uint64_t bytes;
	int fd; /* of the web: it outlives all connections */
	int status;
};

static const struct {
	const char *ending;
	const char *content_type;
} types[] = {
	{ ".html", "text/html; charset=utf-8" },
	{ ".js", "text/javascript; charset=utf-8" },
	{ ".mjs", "text/javascript; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" },
	{ ".json", "application/json" },
	{ ".webmanifest", "application/manifest+json" },
	{ ".txt", "text/plain; charset=utf-8" },
	{ ".svg", "image/svg+xml" },
	{ ".png", "image/png" },
	{ ".jpg", "image/jpeg" },
	{ ".webp", "image/webp" },
	{ ".ico", "image/x-icon" },
	{ ".woff2", "font/woff2" },
	{ ".wasm", "application/wasm" },
	{ ".vtt", "text/vtt; charset=utf-8" },
};

static const char policy[] =
	"Content-Security-Policy: default-src 'self'; base-uri 'none'; "
	"form-action 'none'; frame-ancestors 'none'; object-src 'none'\r\n"
	"X-Content-Type-Options: nosniff\r\n"
	"Referrer-Policy: no-referrer\r\n"
	"Cache-Control: no-cache\r\n";

/* --- loading ------------------------------------------------------------ */

static const char *type_of(const char *name)
{
	size_t name_bytes = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t n = strlen(types[i].ending);

		if (name_bytes > n &&
		    strcmp(name + name_bytes - n, types[i].ending) == 0)
			return types[i].content_type;
	}
	return NULL;
}

/* FNV-1a: tells two versions of a file apart, no more. */
static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static int copy_file(int from_fd, struct web_file *file)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	uint8_t buffer[16384];
	ssize_t n;

	while ((n = read(from_fd, buffer, sizeof(buffer))) > 0) {
		file->bytes += (uint64_t)n;
		if (file->bytes > WEB_FILE_BYTES)
			return -EFBIG;
		hash = hash_bytes(hash, buffer, (size_t)n);
		if (write(file->fd, buffer, (size_t)n) != n)
			return -EIO;
	}
	if (n < 0)
		return -errno;
	snprintf(file->etag, sizeof(file->etag), "\"%016" PRIx64 "\"", hash);
	return 0;
}

static int add_file(struct web *web, int folder_fd, const char *name,
		    const char *path)
{
	struct web_file *file = &web->files[web->count];
	struct stat st;
	int rc = 0;
	int fd;

	if (web->count == WEB_FILES_MAX)
		return -ENFILE;
	memset(file, 0, sizeof(*file));
	file->content_type = type_of(name);
	if (file->content_type == NULL)
		return -EMEDIUMTYPE;
	if (strlen(path) >= sizeof(file->path))
		return -ENAMETOOLONG;
	memcpy(file->path, path, strlen(path) + 1);
	fd = openat(folder_fd, name,
		    O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		rc = -EINVAL;
		goto no_file;
	}
	file->fd = memfd_create(name, MFD_CLOEXEC);
	if (file->fd < 0) {
		rc = -errno;
		goto no_file;
	}
	rc = copy_file(fd, file);
	if (rc < 0)
		close(file->fd);
	else
		web->count++;
no_file:
	close(fd);
	return rc;
}

/* Takes over folder_fd.  prefix: of the paths, without a slash at its end. */
static int add_folder(struct web *web, int folder_fd, const char *prefix,
		      unsigned depth)
{
	DIR *dir = fdopendir(folder_fd);
	struct dirent *entry;

	if (dir == NULL) {
		int rc = -errno;

		close(folder_fd);
		return rc;
	}
	while ((entry = readdir(dir)) != NULL) {
		char path[2 * PATH_BYTES + 2];
		char quoted[4 * PATH_BYTES];
		int fd, rc;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", prefix, entry->d_name);
		fd = openat(dirfd(dir), entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 &&
		    (depth == DEPTH_MAX || strlen(path) >= PATH_BYTES)) {
			close(fd);
			rc = -ELOOP;
		} else if (fd >= 0) {
			rc = add_folder(web, fd, path, depth + 1);
		} else {
			rc = add_file(web, dirfd(dir), entry->d_name, path);
		}
		if (rc < 0)
			log_warning("ev=web_skipped path=%s error=%s",
				    log_quote(quoted, sizeof(quoted), path),
				    strerrorname_np(-rc));
	}
	closedir(dir);
	return 0;
}

int web_open(struct web **out, const char *folder)
{
	struct web *web = calloc(1, sizeof(*web));
	int fd, rc;

	if (web == NULL)
		return -ENOMEM;
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = fd < 0 ? -errno : add_folder(web, fd, "", 0);
	if (rc < 0) {
		free(web);
		return rc;
	}
	*out = web;
	return 0;
}

void web_close(struct web *web)
{
	if (web == NULL)
		return;
	for (size_t i = 0; i < web->count; i++)
		close(web->files[i].fd);
	free(web);
}

/* --- serving ------------------------------------------------------------ */

static struct web_file *find_file(struct web *web, struct slice path)
{
	if (slice_is(path, "/"))
		path = SLICE("/index.html");
	for (size_t i = 0; i < web->count; i++)
		if (slice_is(path, web->files[i].path))
			return &web->files[i];
	return NULL;
}

static bool not_modified(struct desk *desk, const struct head *head,
			 const struct web_file *file)
{
	const struct conditional_object known = {
		.etag = slice_of(file->etag),
		.last_modified = SLICE_ABSENT,
		.now_s = desk_wall_s(desk),
	};

	return conditional_check(head, &known) == CONDITIONAL_NOT_MODIFIED;
}

static int send_head(struct desk *desk, struct sink *sink,
		     const struct head *head, const struct web_file *file,
		     int status)
{
	struct fields *f = sink->ops->head(sink, status);
	enum sink_body body = SINK_BODY;

	if (status == 304)
		body = SINK_BODY_NONE;
	else if (head->method == METHOD_HEAD)
		body = SINK_BODY_HEAD_ONLY;
	FIELDS_ADD(f, "Date", slice_of(desk_date(desk, desk_wall_s(desk))));
	FIELDS_ADD(f, "ETag", slice_of(file->etag));
	if (status == 200)
		FIELDS_ADD(f, "Content-Type", slice_of(file->content_type));
	fields_raw(f, policy, sizeof(policy) - 1);
	fields_raw(f, desk->common, desk->common_bytes);
	answer_count(desk, status);
	return sink->ops->head_end(sink, body, file->bytes);
}

static void finish(struct web_send *ws)
{
	struct access_facts facts = {
		.status = ws->status,
		.bytes_other = ws->off,
		.verdict = "-",
	};

	access_log_end(ws->desk->log, ws->entry, desk_wall_s(ws->desk), &facts);
}

/* 1: all was sent; 0: the client must read first; or -errno. */
static int send_more(struct web_send *ws)
{
	while (ws->off < ws->bytes) {
		int64_t n = ws->sink->ops->file(ws->sink, ws->fd, ws->off,
						ws->bytes - ws->off);

		if (n <= 0)
			return (int)n;
		ws->off += (uint64_t)n;
	}
	return 1;
}

static void web_writable(void *source)
{
	struct web_send *ws = source;
	struct sink *sink = ws->sink;
	int rc = send_more(ws);

	if (rc == 0)
		return;
	finish(ws);
	free(ws);
	if (rc > 0)
		sink->ops->end(sink);
	else
		sink->ops->reset(sink);
}

static void web_gone(void *source)
{
	finish(source);
	free(source);
}

static const struct sink_source_ops source_ops = {
	.writable = web_writable,
	.gone = web_gone,
};

static void send_file(struct web_send *ws)
{
	struct sink *sink = ws->sink;
	struct web_send *later;
	int rc = send_more(ws);

	if (rc == 0) {
		later = malloc(sizeof(*later));
		if (later != NULL) {
			*later = *ws;
			sink->source = later;
			sink->source_ops = &source_ops;
			return;
		}
		rc = -ENOMEM;
	}
	finish(ws);
	if (rc > 0)
		sink->ops->end(sink);
	else
		sink->ops->reset(sink);
}

bool web_serve(struct desk *desk, struct sink *sink, const struct head *head,
	       struct slice path)
{
	struct web_file *file;
	struct web_send ws = { .desk = desk, .sink = sink, .status = 200 };

	if (desk->web == NULL)
		return false;
	file = find_file(desk->web, path);
	if (file == NULL)
		return false;
	if (not_modified(desk, head, file))
		ws.status = 304;
	ws.fd = file->fd;
	ws.entry = access_log_begin(desk->log, head, sink->ops->peer(sink));
	if (ws.status == 200 && head->method == METHOD_GET)
		ws.bytes = file->bytes;
	if (send_head(desk, sink, head, file, ws.status) == 0) {
		send_file(&ws);
	} else {
		finish(&ws);
		sink->ops->reset(sink);
	}
	return true;
}

/*
 * map_dump FILE - what media finds out about a file, as JSON: its info, its
 * points, and how many bytes it wanted in how many pieces.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/media.h"

static uint8_t bytes[MEDIA_READ_MAX];

static const char *const states[] = {
	[MEDIA_WANTS] = "wants",
	[MEDIA_READY] = "ready",
	[MEDIA_FAILED] = "failed",
};

static const char *const containers[] = {
	[MEDIA_UNKNOWN] = "unknown",
	[MEDIA_MP4] = "mp4",
	[MEDIA_WEBM] = "webm",
};

static int feed(struct media *m, int fd, uint64_t *wanted, uint64_t *wants)
{
	while (media_state(m) == MEDIA_WANTS) {
		struct span want = media_want(m);
		ssize_t n = pread(fd, bytes, span_len(want), (off_t)want.from);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		*wanted += (uint64_t)n;
		++*wants;
		media_feed(m, want.from, bytes, (size_t)n);
	}
	return 0;
}

static void print(const struct media *m)
{
	const struct media_info *info = media_info(m);
	const struct media_point *points;
	size_t count;

	points = media_points(m, &count);
	printf("\"state\": \"%s\", \"container\": \"%s\", ",
	       states[media_state(m)], containers[info->container]);
	printf("\"fragmented\": %s, \"index_behind\": %s, ",
	       info->fragmented ? "true" : "false",
	       info->index_behind ? "true" : "false");
	printf("\"duration_ms\": %" PRIu64 ", \"bitrate_bps\": %" PRIu64 ", ",
	       info->duration_ms, info->bitrate_bps);
	printf("\"head\": [%" PRIu64 ", %" PRIu64 "], ", info->head.from,
	       info->head.to);
	printf("\"index\": [%" PRIu64 ", %" PRIu64 "], ", info->index.from,
	       info->index.to);
	printf("\"media_off\": %" PRIu64 ", \"points\": [", info->media_off);
	for (size_t i = 0; i < count; i++)
		printf("%s[%" PRIu64 ", %" PRIu64 "]", i > 0 ? ", " : "",
		       points[i].time_ms, points[i].off);
	printf("]");
}

int main(int argc, char **argv)
{
	struct media *m;
	struct stat st;
	uint64_t wanted = 0;
	uint64_t wants = 0;
	int fd;
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: map_dump FILE\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(argv[1]);
		return 1;
	}
	rc = media_new(&m, (uint64_t)st.st_size);
	if (rc == 0) {
		rc = feed(m, fd, &wanted, &wants);
		printf("{\"wanted\": %" PRIu64 ", \"wants\": %" PRIu64 ", ",
		       wanted, wants);
		print(m);
		printf("}\n");
		media_free(m);
	}
	close(fd);
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", argv[1], strerror(-rc));
	return rc < 0;
}

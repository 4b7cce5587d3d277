#include "resolver/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "resolver/parse.h"

/* A regular file inside of the folder; its size.  -ENOENT: there is none;
 * -ENOSYS, -EPERM: a sandbox or an old kernel has no openat2(). */
static int look(int folder_fd, const char *name, uint64_t *size_bytes)
{
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				      .resolve = RESOLVE_BENEATH |
						 RESOLVE_NO_MAGICLINKS };
	int fd = (int)syscall(SYS_openat2, folder_fd, name, &how, sizeof(how));
	struct stat st;
	int rc = -ENOENT;

	if (fd < 0)
		return errno == ENOSYS || errno == EPERM ? -errno : -ENOENT;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		*size_bytes = (uint64_t)st.st_size;
		rc = 0;
	}
	close(fd);
	return rc;
}

/* What follows the id in a file's name: ".EXT" or ".QUALITY.EXT".  False: it
 * is another one's. */
static bool split(const char *rest, char quality[8],
		  const struct parse_ending **ending)
{
	const char *dot = strrchr(rest, '.');
	size_t n;

	quality[0] = '\0';
	if (rest[0] != '.' || dot == NULL)
		return false;
	*ending = parse_ending_of(dot + 1);
	if (*ending == NULL)
		return false;
	if (dot == rest)
		return true;
	n = (size_t)(dot - rest - 1);
	if (n == 0 || n >= 8)
		return false;
	memcpy(quality, rest + 1, n);
	quality[n] = '\0';
	return quality_number(quality, n) > 0 || strcmp(quality, "audio") == 0;
}

static void add(struct resolution_builder *b, const char *name,
		const char *quality, const struct parse_ending *ending,
		uint64_t size_bytes)
{
	bool audio = (ending != NULL && ending->audio) ||
		     strcmp(quality, "audio") == 0;
	int32_t height = quality_number(quality, strlen(quality));
	char format[RESOLUTION_FORMAT_BYTES + 1];
	struct rendition_facts facts = {
		.text[RENDITION_FORMAT] = format,
		.text[RENDITION_LABEL] = audio ? "audio" : quality,
		.text[RENDITION_URL] = name,
		.size_bytes = size_bytes,
		.height = height > 0 ? (uint32_t)height : 0,
		.flags = RENDITION_AUDIO | (audio ? 0 : RENDITION_VIDEO),
	};

	/* what makes it differ from its siblings */
	snprintf(format, sizeof(format), "%s%s%s",
		 ending != NULL ? ending->ending : "file",
		 quality[0] != '\0' ? "-" : "", quality);
	if (ending != NULL) {
		facts.text[RENDITION_CONTAINER] = ending->container;
		facts.text[RENDITION_TYPE] =
			audio ? ending->audio_type : ending->type;
	}
	/* one too many, or A.MP4 beside a.mp4: it is left out */
	if (resolution_add(b, &facts) < 0)
		return;
}

static int list(int folder_fd, const char *id, struct resolution_builder *b)
{
	size_t n = strlen(id);
	struct dirent *entry;
	DIR *folder;
	int fd = dup(folder_fd);
	int rc = 0;

	folder = fd >= 0 ? fdopendir(fd) : NULL;
	if (folder == NULL) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	rewinddir(folder); /* the place is shared with folder_fd */
	while (rc == 0 && (entry = readdir(folder)) != NULL) {
		const struct parse_ending *ending;
		uint64_t size_bytes;
		char quality[8];

		if (strncmp(entry->d_name, id, n) != 0 ||
		    !split(entry->d_name + n, quality, &ending))
			continue;
		rc = look(folder_fd, entry->d_name, &size_bytes);
		if (rc == 0)
			add(b, entry->d_name, quality, ending, size_bytes);
		else if (rc == -ENOENT)
			rc = 0;
	}
	closedir(folder);
	return rc;
}

int directory_resolve(const char *path, const char *id, struct resolution **out)
{
	int folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *dot = strrchr(id, '.');
	struct resolution_builder b;
	uint64_t size_bytes;
	int rc;

	if (folder_fd < 0)
		return -errno;
	resolution_begin(&b, id, 0);
	rc = b.error;
	if (rc == 0)
		rc = look(folder_fd, id, &size_bytes);
	if (rc == 0)
		add(&b, id, "", dot != NULL ? parse_ending_of(dot + 1) : NULL,
		    size_bytes);
	if (rc == 0 || rc == -ENOENT)
		rc = list(folder_fd, id, &b);
	close(folder_fd);
	if (rc < 0) {
		resolution_abort(&b);
		return rc;
	}
	return resolution_end(&b, out);
}

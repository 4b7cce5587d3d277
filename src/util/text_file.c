#include "util/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* All of it, at most max bytes, or -errno. */
static ssize_t read_all(int fd, char *dst, size_t max)
{
	size_t used = 0;
	ssize_t n;

	do {
		n = read(fd, dst + used, max + 1 - used);
		if (n > 0)
			used += (size_t)n;
	} while ((n > 0 && used <= max) || (n < 0 && errno == EINTR));
	if (n < 0)
		return -errno;
	return used <= max ? (ssize_t)used : -EFBIG;
}

int text_file_read(const char *path, size_t max, char **out, size_t *bytes)
{
	/* non-blocking: a fifo must not hold up the start */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		n = -errno;
	else if (!S_ISREG(st.st_mode))
		n = -EINVAL;
	else if ((text = malloc(max + 1)) == NULL)
		n = -ENOMEM;
	else
		n = read_all(fd, text, max);
	(void)close(fd);
	if (n < 0) {
		free(text);
		return (int)n;
	}
	text[n] = '\0';
	*out = realloc(text, (size_t)n + 1);
	if (*out == NULL)
		*out = text;
	*bytes = (size_t)n;
	return 0;
}

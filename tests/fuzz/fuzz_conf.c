/* Any bytes as a configuration: refused with a reason, or loaded, dumped and
 * loaded again to the same. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static struct conf *load(const void *data, size_t bytes)
{
	int fd = memfd_create("conf", MFD_CLOEXEC);
	struct conf_fault fault;
	struct conf *conf = NULL;
	char path[64];
	int rc;

	must(fd >= 0);
	must(write(fd, data, bytes) == (ssize_t)bytes);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	rc = conf_load(path, &conf, &fault);
	must((rc == 0) == (conf != NULL));
	must(rc == 0 || fault.text[0] != '\0');
	(void)close(fd);
	return conf;
}

static char *dump(const struct conf *conf, size_t *bytes)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, bytes);

	must(f != NULL && conf_dump(conf, f) == 0 && fclose(f) == 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct conf *first = load(data, bytes), *second;
	size_t one_bytes, two_bytes;
	char *one, *two;

	if (first == NULL)
		return 0;
	one = dump(first, &one_bytes);
	second = load(one, one_bytes);
	must(second != NULL);
	two = dump(second, &two_bytes);
	must(strcmp(one, two) == 0);
	free(one);
	free(two);
	conf_free(first);
	conf_free(second);
	return 0;
}

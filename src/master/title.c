#include "master/title.h"

#include <string.h>
#include <sys/prctl.h>

static char *title_at;
static size_t title_bytes;

void title_init(int argc, char **argv)
{
	char *end;

	if (argc < 1)
		return;
	end = argv[0] + strlen(argv[0]) + 1;
	for (int i = 1; i < argc && argv[i] == end; i++)
		end += strlen(argv[i]) + 1;
	title_at = argv[0];
	title_bytes = (size_t)(end - title_at);
}

void title_set(const char *short_name, const char *long_name)
{
	(void)prctl(PR_SET_NAME, short_name, 0, 0, 0);
	if (title_bytes == 0)
		return;
	memset(title_at, 0, title_bytes);
	memcpy(title_at, long_name, strnlen(long_name, title_bytes - 1));
}

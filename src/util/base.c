#include "util/base.h"

#include <stdlib.h>

#include "util/log.h"

NORETURN void must_failed(const char *claim, const char *file, int line)
{
	char text[256];

	log_error("ev=must-failed claim=%s at=%s:%d",
		  log_quote(text, sizeof(text), claim), file, line);
	abort();
}

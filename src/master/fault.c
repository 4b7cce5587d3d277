#include "master/fault.h"

#include <stdarg.h>
#include <stdio.h>

int fault_set(struct fault *f, int rc, int exit_status, const char *fmt, ...)
{
	va_list ap;

	f->exit_status = exit_status;
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return rc;
}

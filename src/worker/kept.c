#include "worker/kept.h"

#include <stdlib.h>
#include <string.h>

struct kept *kept_new(const struct head *head)
{
	struct kept *kept = malloc(sizeof(*kept) + head->head_bytes);

	if (kept == NULL)
		return NULL;
	kept->head = *head;
	memcpy(kept->bytes, head->base, head->head_bytes);
	kept->head.base = kept->bytes;
	return kept;
}

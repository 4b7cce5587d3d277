#include "resolver/fetch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 65536u

struct fetch {
	struct transfer *transfer;
	fetch_end *end;
	void *ctx;
	size_t most;
	char *body;
	size_t bytes, room;
	uint32_t fault; /* 0: all is well so far */
	char reason[128];
};

static enum transfer_next fail(struct fetch *f, uint32_t status,
			       const char *reason)
{
	f->fault = status;
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	return TRANSFER_STOP;
}

static enum transfer_next on_head(void *ctx, const struct transfer_head *head)
{
	struct fetch *f = ctx;
	char reason[64];

	if (head->status == 200 || head->status == 206)
		return TRANSFER_GO;
	snprintf(reason, sizeof(reason), "the resolver service answered %d",
		 head->status);
	return fail(f, head->status == 404 || head->status == 410 ? 404 : 502,
		    reason);
}

static enum transfer_next on_body(void *ctx, const uint8_t *bytes, size_t n)
{
	struct fetch *f = ctx;

	if (f->bytes + n > f->most)
		return fail(f, 502,
			    "the resolver service's answer is too long");
	if (f->bytes + n > f->room) {
		size_t room = max_u64(f->room * 2, FIRST_BYTES);
		char *more;

		while (room < f->bytes + n)
			room *= 2;
		more = realloc(f->body, room);
		if (more == NULL)
			return fail(f, 502, "out of memory");
		f->body = more;
		f->room = room;
	}
	memcpy(f->body + f->bytes, bytes, n);
	f->bytes += n;
	return TRANSFER_GO;
}

static void on_turn(void *ctx UNUSED)
{
}

static void free_fetch(struct fetch *f)
{
	free(f->body);
	free(f);
}

static void on_end(void *ctx, enum transfer_end how, const char *reason)
{
	struct fetch *f = ctx;

	if (how != TRANSFER_DONE && f->fault == 0)
		(void)fail(f, how == TRANSFER_TIMEOUT ? 504 : 502, reason);
	f->end(f->ctx, f->fault != 0 ? f->fault : 200, f->body, f->bytes,
	       f->reason);
	free_fetch(f);
}

static const struct transfer_ops ops = {
	.head = on_head,
	.body = on_body,
	.turn = on_turn,
	.end = on_end,
};

int fetch_begin(struct fetch **out, struct upstream *up, const char *url,
		bool allow_private, size_t bytes_max, fetch_end *end, void *ctx)
{
	const struct transfer_want want = { .url = url,
					    .to = SIZE_UNKNOWN,
					    .allow_private = allow_private };
	struct fetch *f = calloc(1, sizeof(*f));
	int rc;

	if (f == NULL)
		return -ENOMEM;
	f->end = end;
	f->ctx = ctx;
	f->most = bytes_max;
	rc = transfer_begin(&f->transfer, up, &want, &ops, f);
	if (rc < 0) {
		free(f);
		return rc;
	}
	*out = f;
	return 0;
}

void fetch_abort(struct fetch *f)
{
	transfer_abort(f->transfer);
	free_fetch(f);
}

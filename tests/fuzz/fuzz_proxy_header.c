/*
 * Any bytes as a connection's first ones: the same answer for every
 * beginning of them, as far as it can be known, nothing read beyond them,
 * and no header that is longer than allowed.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* From memory of exactly this size, so that a read beyond it is found. */
static enum proxy_outcome parse(struct proxy_header *p, const uint8_t *data,
				size_t count)
{
	uint8_t *copy = malloc(count > 0 ? count : 1);
	enum proxy_outcome outcome;

	must(copy != NULL);
	if (count > 0)
		memcpy(copy, data, count);
	outcome = proxy_header_parse(p, copy, count);
	free(copy);
	return outcome;
}

static void check_done(const struct proxy_header *p, const uint8_t *data)
{
	must(p->bytes >= 15 && p->bytes <= PROXY_HEADER_MAX);
	if (data[0] == 'P') {
		must(p->bytes <= PROXY_HEADER_V1_MAX);
		must(memcmp(data + p->bytes - 2, "\r\n", 2) == 0);
	} else {
		must(p->bytes ==
		     16u + (size_t)(data[14] << 8) + (size_t)data[15]);
	}
	must(p->has_address || p->port == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct proxy_header whole, part;
	enum proxy_outcome at_once = parse(&whole, data, bytes);
	enum proxy_outcome before = PROXY_MORE;
	size_t step = bytes > 512 ? bytes / 256 : 1;

	if (at_once == PROXY_DONE)
		check_done(&whole, data);
	must(at_once != PROXY_BAD || whole.reason != NULL);
	must(at_once != PROXY_MORE || bytes < PROXY_HEADER_MAX);
	for (size_t n = 0; n <= bytes; n += step) {
		enum proxy_outcome now = parse(&part, data, n);

		must(before == PROXY_MORE || now == before);
		must((now == PROXY_DONE) ==
		     (at_once == PROXY_DONE && n >= whole.bytes));
		if (now == PROXY_DONE)
			must(memcmp(&part, &whole, sizeof(part)) == 0);
		must(now != PROXY_BAD || at_once == PROXY_BAD);
		before = now;
	}
	return 0;
}

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/spanset.h"

#define ROOM 256u

/* The same set as one flag a byte. */
static void check(const struct spanset *set, const bool *model)
{
	uint64_t bytes = 0;

	for (uint64_t off = 0; off < ROOM; off++) {
		uint64_t missing = off;

		assert_int_equal(
			spanset_common(set, (struct span){ off, off + 1 }),
			model[off]);
		while (missing < ROOM && model[missing])
			missing++;
		assert_int_equal(spanset_first_missing(set, off), missing);
		bytes += model[off];
	}
	assert_int_equal(set->bytes, bytes);
	for (size_t n = 0; n < set->count; n++) {
		assert_true(set->spans[n].from < set->spans[n].to);
		if (n > 0)
			assert_true(set->spans[n - 1].to < set->spans[n].from);
	}
}

static void test_against_flags(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed < 60; seed++) {
		struct spanset set = { 0 };
		bool model[ROOM] = { false };

		srand(seed);
		for (int step = 0; step < 60; step++) {
			uint64_t a = (uint64_t)rand() % ROOM;
			uint64_t b = (uint64_t)rand() % 40;
			struct span span = { a, min_u64(a + b, ROOM) };
			uint64_t changed, want = 0;
			bool add = rand() % 2 == 0;

			for (uint64_t off = span.from; off < span.to; off++) {
				want += model[off] != add;
				model[off] = add;
			}
			if (add)
				assert_int_equal(
					spanset_add(&set, span, &changed), 0);
			else
				changed = spanset_remove(&set, span);
			assert_int_equal(changed, want);
			check(&set, model);
		}
		spanset_fini(&set);
	}
}

static void test_is_bounded(void **state)
{
	struct spanset set = { 0 };
	uint64_t added, before;

	(void)state;
	for (uint64_t n = 0; n < SPANSET_MAX; n++)
		assert_int_equal(
			spanset_add(&set, (struct span){ n * 10, n * 10 + 5 },
				    &added),
			0);
	assert_int_equal(spanset_add(&set, (struct span){ 7, 8 }, &added),
			 -ENOSPC);
	assert_int_equal(added, 0);
	assert_int_equal(set.bytes, SPANSET_MAX * 5);
	/* nor by a hole: the larger rest stays */
	before = set.bytes;
	assert_int_equal(spanset_remove(&set, (struct span){ 1, 2 }), 2);
	assert_int_equal(set.bytes, before - 2);
	assert_int_equal(spanset_common(&set, (struct span){ 2, 5 }), 3);
	spanset_fini(&set);
	assert_int_equal(set.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_flags),
		cmocka_unit_test(test_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

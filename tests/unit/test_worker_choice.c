/* Which of a template's qualities a request gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/base.h"
#include "worker/choice.h"

#define WORD_60 "w23456789012345678901234567890123456789012345678901234567890"

static const struct {
	const char *words;
	const char *quality;
	const char *word; /* NULL = there is none */
	bool exact;
} cases[] = {
	{ "144p 360p 720p", "360p", "360p", true },
	{ "144p 360p 720p", "359p", "144p", false },
	{ "144p 360p 720p", "480p", "360p", false },
	{ "720p 144p 360p", "480p", "360p", false },
	{ "144p 360p 720p", "99999p", "720p", false },
	{ "144p 360p 720p", "1p", "144p", false },
	{ "720p 360p 144p", "1p", "144p", false },
	{ "360p 144p 720p", "best", "720p", true },
	{ "360p 144p 720p", "worst", "144p", true },
	{ "  360p\t144p  ", "144p", "144p", true },
	{ "360p", "0360p", "360p", true },
	{ "360p", "audio", NULL, true },
	{ "360p audio", "audio", "audio", true },
	/* words without a number count when they are asked for */
	{ "hd 360p sd", "hd", "hd", true },
	{ "hd 360p sd", "best", "360p", true },
	{ "hd 360p sd", "144p", "360p", false },
	{ "hd 360p", "HD", NULL, true },
	{ "best 360p", "best", "best", true },
	/* no numbers at all */
	{ "sd hd", "best", "sd", true },
	{ "sd hd", "worst", "sd", true },
	{ "sd hd", "360p", "sd", false },
	{ "audio sd", "360p", "sd", false },
	{ "audio", "best", NULL, true },
	{ "sd hd", "ultra", NULL, true },
	{ "p 360 36px 100000p", "100p", "p", false },
	{ "", "best", NULL, true },
	{ "   ", "360p", NULL, true },
	{ "", "", NULL, true },
	/* a word that no key has room for is none */
	{ WORD_60 "x " WORD_60, "best", WORD_60, true },
	{ WORD_60 "x", "best", NULL, true },
	{ WORD_60 "x", WORD_60 "x", NULL, true },
};

static void test_pick(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct slice word = SLICE_ABSENT;
		bool exact = false;
		bool found =
			choice_pick(cases[i].words, slice_of(cases[i].quality),
				    &word, &exact);

		if (found != (cases[i].word != NULL))
			fail_msg("case %zu: %d", i, (int)found);
		if (!found)
			continue;
		if (!slice_is(word, cases[i].word))
			fail_msg("case %zu: %.*s", i, (int)word.bytes, word.at);
		if (exact != cases[i].exact)
			fail_msg("case %zu: exact is %d", i, (int)exact);
	}
}

static void test_valid(void **state)
{
	(void)state;
	assert_true(choice_valid("sd hd", slice_of("hd")));
	assert_true(choice_valid("sd hd", slice_of("720p")));
	assert_true(choice_valid("sd hd", slice_of("best")));
	assert_true(choice_valid("", slice_of("worst")));
	assert_false(choice_valid("sd hd", slice_of("h")));
	assert_false(choice_valid("sd hd", slice_of("sd hd")));
	assert_false(choice_valid("sd hd", slice_of("")));
	assert_false(choice_valid("sd hd", slice_of("720")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pick),
		cmocka_unit_test(test_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "worker/choice.h"

#include <stdint.h>
#include <string.h>

#include "util/quality.h"
#include "util/words.h"

static bool next_word(const char **rest, struct slice *word)
{
	do {
		size_t n = words_next(rest);

		*word = slice_make(*rest, n);
		*rest += n;
	} while (word->bytes > CHOICE_WORD_BYTES);
	return word->bytes > 0;
}

static bool same(struct slice a, struct slice b)
{
	return a.bytes == b.bytes && memcmp(a.at, b.at, a.bytes) == 0;
}

static int32_t number_of(struct slice word)
{
	return quality_number(word.at, word.bytes);
}

static bool find_word(const char *words, struct slice quality,
		      struct slice *word)
{
	while (next_word(&words, word))
		if (same(*word, quality))
			return true;
	return false;
}

bool choice_valid(const char *words, struct slice quality)
{
	struct slice word;

	return quality_valid(quality.at, quality.bytes) ||
	       find_word(words, quality, &word);
}

bool choice_pick(const char *words, struct slice quality, struct slice *word,
		 bool *exact)
{
	bool best = slice_is(quality, "best");
	bool worst = slice_is(quality, "worst");
	int32_t wanted = best ? INT32_MAX : worst ? 0 : number_of(quality);
	struct slice first = SLICE_ABSENT;
	struct slice at;
	int32_t found = -1;

	*exact = true;
	if (find_word(words, quality, word))
		return true;
	if (wanted < 0)
		return false;
	while (next_word(&words, &at)) {
		int32_t number = number_of(at);

		if (!slice_present(first) && !slice_is(at, "audio"))
			first = at;
		if (number >= 0 && quality_nearer(number, found, wanted)) {
			found = number;
			*word = at;
		}
	}
	if (found < 0)
		*word = first;
	*exact = best || worst || found == wanted;
	return slice_present(*word);
}

#include "worker/choice.h"

#include <stdint.h>
#include <string.h>

#include "store/resolution.h"

#define BLANKS " \t"

static bool next_word(const char **rest, struct slice *word)
{
	do {
		*rest += strspn(*rest, BLANKS);
		*word = slice_make(*rest, strcspn(*rest, BLANKS));
		*rest += word->bytes;
	} while (word->bytes > CHOICE_WORD_BYTES);
	return word->bytes > 0;
}

static bool same(struct slice a, struct slice b)
{
	return a.bytes == b.bytes && memcmp(a.at, b.at, a.bytes) == 0;
}

/* Of "360p"; -1: it is no such word. */
static int32_t number_of(struct slice word)
{
	int32_t number = 0;

	if (word.bytes < 2 || word.bytes > 6 || word.at[word.bytes - 1] != 'p')
		return -1;
	for (size_t i = 0; i < word.bytes - 1; i++) {
		if (word.at[i] < '0' || word.at[i] > '9')
			return -1;
		number = number * 10 + (word.at[i] - '0');
	}
	return number;
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

/* Is `number` nearer to what is wanted than `best`, the nearest so far? */
static bool nearer(int32_t number, int32_t best, int32_t wanted)
{
	if (best < 0)
		return true;
	if (number <= wanted)
		return best > wanted || number > best;
	return number < best;
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
		if (number >= 0 && nearer(number, found, wanted)) {
			found = number;
			*word = at;
		}
	}
	if (found < 0)
		*word = first;
	*exact = best || worst || found == wanted;
	return slice_present(*word);
}

#include "util/quality.h"

#include <string.h>

int32_t quality_number(const char *quality, size_t bytes)
{
	int32_t number = 0;

	if (bytes < 2 || bytes > 6 || quality[bytes - 1] != 'p')
		return -1;
	for (size_t n = 0; n + 1 < bytes; n++) {
		if (quality[n] < '0' || quality[n] > '9')
			return -1;
		number = number * 10 + (quality[n] - '0');
	}
	return number;
}

static bool is_word(const char *quality, size_t bytes, const char *word)
{
	return strlen(word) == bytes && memcmp(quality, word, bytes) == 0;
}

bool quality_valid(const char *quality, size_t bytes)
{
	return is_word(quality, bytes, "best") ||
	       is_word(quality, bytes, "worst") ||
	       is_word(quality, bytes, "audio") ||
	       quality_number(quality, bytes) >= 0;
}

bool quality_nearer(int32_t number, int32_t best, int32_t wanted)
{
	if (best < 0)
		return true;
	if (number <= wanted)
		return best > wanted || number > best;
	return best > wanted && number < best;
}

bool quality_format_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') ||
	       (c != '\0' && strchr("._+-", c) != NULL);
}

bool quality_format_valid(const char *format, size_t bytes)
{
	if (bytes == 0 || bytes > QUALITY_FORMAT_BYTES)
		return false;
	for (size_t n = 0; n < bytes; n++)
		if (!quality_format_char(format[n]))
			return false;
	return true;
}

/* Stands in for libFuzzer: gives each file that is named to the target. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define INPUT_BYTES (1u << 20)

static int replay(const char *path)
{
	/* of the very size, so that a sanitizer sees a read past the end */
	uint8_t *big = malloc(INPUT_BYTES), *data = NULL;
	FILE *f = fopen(path, "rb");
	size_t bytes;
	int rc = -1;

	if (big == NULL || f == NULL)
		goto done;
	bytes = fread(big, 1, INPUT_BYTES, f);
	data = malloc(bytes > 0 ? bytes : 1);
	if (data == NULL || ferror(f) != 0)
		goto done;
	for (size_t i = 0; i < bytes; i++)
		data[i] = big[i];
	rc = LLVMFuzzerTestOneInput(data, bytes);
done:
	if (f != NULL)
		(void)fclose(f);
	free(data);
	free(big);
	return rc;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (replay(argv[i]) != 0) {
			(void)fprintf(stderr, "%s: failed\n", argv[i]);
			return 1;
		}
	}
	return 0;
}

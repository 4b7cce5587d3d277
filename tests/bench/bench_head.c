/*
 * How long the request-head parser takes for what browsers send.
 *
 *	cc -std=gnu11 -O2 -D_GNU_SOURCE -Isrc tests/bench/bench_head.c \
 *	    src/http/head.c src/http/slice.c src/util/base.c src/util/log.c \
 *	    src/util/clock.c -o bench_head && ./bench_head [rounds]
 *
 * Prints the best and the median of the rounds in ns of CPU time per head;
 *exits 1 when the typical head's median is above the target.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http/head.h"

#define TARGET_NS  200.0
#define ROUNDS_MAX 1000

static const struct {
	const char *name;
	const char *bytes;
} heads[] = {
	{ "typical",
	  "GET /proxy/big-buck-bunny-1080p?source=films HTTP/1.1\r\n"
	  "Host: localhost:8090\r\n"
	  "Connection: keep-alive\r\n"
	  "Accept-Encoding: identity;q=1, *;q=0\r\n"
	  "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
	  "(KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"
	  "Accept: */*\r\n"
	  "Sec-Fetch-Site: same-origin\r\n"
	  "Sec-Fetch-Mode: no-cors\r\n"
	  "Sec-Fetch-Dest: video\r\n"
	  "Referer: http://localhost:8090/?id=big-buck-bunny-1080p\r\n"
	  "Accept-Language: en-US,en;q=0.9\r\n"
	  "Range: bytes=1048576-\r\n"
	  "\r\n" },
	{ "with If-Range and client hints",
	  "GET /proxy/big-buck-bunny-1080p?source=films HTTP/1.1\r\n"
	  "Host: localhost:8090\r\n"
	  "Connection: keep-alive\r\n"
	  "sec-ch-ua-platform: \"Linux\"\r\n"
	  "Accept-Encoding: identity;q=1, *;q=0\r\n"
	  "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
	  "(KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"
	  "sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n"
	  "sec-ch-ua-mobile: ?0\r\n"
	  "Accept: */*\r\n"
	  "Sec-Fetch-Site: same-origin\r\n"
	  "Sec-Fetch-Mode: no-cors\r\n"
	  "Sec-Fetch-Dest: video\r\n"
	  "Referer: http://localhost:8090/?id=big-buck-bunny-1080p\r\n"
	  "Accept-Language: en-US,en;q=0.9\r\n"
	  "Range: bytes=1048576-2097151\r\n"
	  "If-Range: \"5f3c-61a2b9\"\r\n"
	  "\r\n" },
	{ "curl", "GET /proxy/clip HTTP/1.1\r\n"
		  "Host: localhost:8090\r\n"
		  "User-Agent: curl/7.88.1\r\n"
		  "Accept: */*\r\n"
		  "Range: bytes=0-65535\r\n"
		  "\r\n" },
};

static double now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

/* One round's ns per head. */
static double run(const char *bytes, size_t count)
{
	const int times = 20000;
	double begin = now_ns();
	struct head h;

	for (int i = 0; i < times; i++) {
		head_init(&h);
		if (head_parse(&h, bytes, count) != HEAD_DONE ||
		    head_field(&h, FIELD_RANGE).bytes == 0)
			abort();
		__asm__ volatile("" : : "r"(&h) : "memory");
	}
	return (now_ns() - begin) / times;
}

int main(int argc, char **argv)
{
	static double rounds[ROUNDS_MAX];
	long count = argc > 1 ? strtol(argv[1], NULL, 10) : 51;
	double typical = 0;

	if (count < 1 || count > ROUNDS_MAX) {
		(void)fprintf(stderr, "rounds: 1 to %d\n", ROUNDS_MAX);
		return 2;
	}
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		size_t bytes = strlen(heads[i].bytes);

		for (long k = 0; k < count; k++)
			rounds[k] = run(heads[i].bytes, bytes);
		qsort(rounds, (size_t)count, sizeof(rounds[0]), compare);
		(void)printf("%-32s %4zu bytes  best %5.0f  median %5.0f ns\n",
			     heads[i].name, bytes, rounds[0],
			     rounds[count / 2]);
		if (i == 0)
			typical = rounds[count / 2];
	}
	(void)printf("target for typical: %.0f ns\n", TARGET_NS);
	return typical <= TARGET_NS ? 0 : 1;
}

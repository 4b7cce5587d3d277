/*
 * simulate_eviction - one made-up history of viewers, several ways to evict.
 *
 * The history comes from a seed: a catalogue of videos of different lengths,
 * Zipf popularity that drifts, viewers who mostly leave early, some who seek,
 * and now and then somebody who copies a whole unpopular video.  Viewers are
 * interleaved by time.  The same history runs against each way to evict and
 * each cache size; "reelcache" is src/store/eviction.c itself, asked the way
 * the catalog asks it: use is known as the second of the last read, and what
 * the first viewer reads within a minute is no second use.  The results go
 * to standard output as JSON, the first tenth of the history not counted.
 *
 *   simulate_eviction [--seed N] [--views N] [--videos N]
 *
 * Exit status: 0, or 2 for usage and no memory.
 */
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "store/eviction.h"

#define CHUNK_BYTES     (4 * MIB)
#define CHUNK_SECONDS   8.0 /* 4 Mbit/s */
#define ZIPF            0.9
#define LEAST_CHUNKS    4
#define MOST_CHUNKS     400
#define MEAN_LOG        3.9 /* of the number of chunks: the median is 49 */
#define SPREAD_LOG      0.9
#define INDEX_AT_END    0.3 /* of the videos */
#define LEAVES_EARLY    0.75
#define EARLY_MEAN_S    60.0
#define LATE_PART       0.5 /* of the video, in the mean */
#define SEEKS           0.2
#define BETWEEN_VIEWS_S 6.0
#define COPIES_EVERY    150 /* views */
#define COPY_SPEED      8.0
#define DRIFT_EVERY     50 /* views: two videos change places */
#define SAME_VIEW_S     60
#define READING_S       8

struct chunk {
	struct eviction_node node;
	TAILQ_ENTRY(chunk) link;
	uint64_t bytes;
	uint32_t read_s;
	uint32_t seen_s;
	bool start;
	bool cached;
};

struct video {
	size_t first; /* place of its first chunk */
	uint32_t chunks;
	bool index_at_end;
};

/* One read of one chunk.  In the history: sorted by time. */
struct read {
	double at_s;
	uint32_t chunk;
	bool begins; /* the first one of a view, not of a copy */
};

struct history {
	struct video *videos;
	uint32_t *ranks; /* most popular video first */
	double *weights; /* sums up to this rank */
	uint32_t video_count;
	struct chunk *chunks;
	size_t chunk_count;
	uint64_t bytes;
	struct read *reads;
	size_t read_count;
	size_t read_room;
	uint64_t random;
};

enum policy {
	POLICY_LRU,
	POLICY_FIFO,
	POLICY_SECOND_CHANCE, /* FIFO, what was used goes round again */
	POLICY_S3_FIFO,       /* ours, no start is known to be one */
	POLICY_REELCACHE,
	POLICIES
};

static const char *const names[POLICIES] = { "lru", "fifo", "second_chance",
					     "s3_fifo", "reelcache" };

static const double parts[] = { 0.01, 0.05, 0.10 }; /* of the catalogue */

struct cache {
	enum policy policy;
	uint64_t size_bytes;
	uint64_t used_bytes;
	struct eviction ev;
	TAILQ_HEAD(chunk_list, chunk) list; /* next victim first */
	uint32_t now_s;
	uint64_t hit_bytes, all_bytes;
	uint64_t hit_starts, all_starts;
};

static void fail(const char *words)
{
	fprintf(stderr, "simulate_eviction: %s\n", words);
	exit(2);
}

static void *array_new(size_t count, size_t bytes)
{
	void *array = calloc(count, bytes);

	if (array == NULL)
		fail("no memory");
	return array;
}

/* ---- the history ---- */

static uint64_t mixed(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* In [0, 1). */
static double chance(struct history *h)
{
	h->random += 0x9e3779b97f4a7c15u;
	return (double)(mixed(h->random) >> 11) / 9007199254740992.0;
}

static uint32_t below(struct history *h, uint32_t most)
{
	return (uint32_t)(chance(h) * most);
}

static double exponential(struct history *h, double mean)
{
	return -mean * log(1.0 - chance(h));
}

static double normal(struct history *h)
{
	double radius = sqrt(-2.0 * log(1.0 - chance(h)));

	return radius * cos(2.0 * M_PI * chance(h));
}

static void make_videos(struct history *h)
{
	double sum = 0;

	h->videos = array_new(h->video_count, sizeof(*h->videos));
	h->ranks = array_new(h->video_count, sizeof(*h->ranks));
	h->weights = array_new(h->video_count, sizeof(*h->weights));
	for (uint32_t n = 0; n < h->video_count; n++) {
		double chunks = exp(MEAN_LOG + SPREAD_LOG * normal(h));

		chunks = fmin(fmax(chunks, LEAST_CHUNKS), MOST_CHUNKS);
		h->videos[n] = (struct video){ h->chunk_count, (uint32_t)chunks,
					       chance(h) < INDEX_AT_END };
		h->chunk_count += h->videos[n].chunks;
		h->ranks[n] = n;
		sum += 1.0 / pow(n + 1, ZIPF);
		h->weights[n] = sum;
	}
	h->chunks = array_new(h->chunk_count, sizeof(*h->chunks));
	for (uint32_t n = 0; n < h->video_count; n++) {
		struct chunk *first = &h->chunks[h->videos[n].first];
		struct chunk *last = first + h->videos[n].chunks - 1;

		for (struct chunk *c = first; c <= last; c++)
			c->bytes = CHUNK_BYTES;
		last->bytes = 1 + (uint64_t)(chance(h) * CHUNK_BYTES);
		first->start = true;
		last->start = h->videos[n].index_at_end;
	}
	for (size_t n = 0; n < h->chunk_count; n++)
		h->bytes += h->chunks[n].bytes;
}

static void add_read(struct history *h, double at_s, const struct video *v,
		     uint32_t chunk, bool begins)
{
	if (h->read_count == h->read_room) {
		h->read_room = h->read_room ? h->read_room * 2 : 4096;
		h->reads = realloc(h->reads, h->read_room * sizeof(*h->reads));
		if (h->reads == NULL)
			fail("no memory");
	}
	h->reads[h->read_count++] =
		(struct read){ at_s, (uint32_t)(v->first + chunk), begins };
}

static uint32_t popular(struct history *h)
{
	double want = chance(h) * h->weights[h->video_count - 1];
	uint32_t low = 0, high = h->video_count - 1;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (h->weights[middle] <= want)
			low = middle + 1;
		else
			high = middle;
	}
	return h->ranks[low];
}

/* Reads on from this chunk for so long.  Returns when it stopped. */
static double watch(struct history *h, double at_s, const struct video *v,
		    uint32_t from, double seconds, bool begins)
{
	uint32_t count = (uint32_t)(seconds / CHUNK_SECONDS) + 1;

	for (uint32_t n = from; n < v->chunks && n - from < count; n++) {
		add_read(h, at_s, v, n, begins);
		if (begins && v->index_at_end)
			add_read(h, at_s, v, v->chunks - 1, false);
		begins = false;
		at_s += CHUNK_SECONDS;
	}
	return at_s;
}

static void add_view(struct history *h, double at_s)
{
	const struct video *v = &h->videos[popular(h)];
	double all = v->chunks * CHUNK_SECONDS;
	double mean = chance(h) < LEAVES_EARLY ? EARLY_MEAN_S : LATE_PART * all;

	at_s = watch(h, at_s, v, 0, exponential(h, mean), true);
	if (chance(h) < SEEKS)
		watch(h, at_s, v, below(h, v->chunks), exponential(h, mean),
		      false);
}

static void add_copy(struct history *h, double at_s)
{
	uint32_t half = h->video_count / 2;
	const struct video *v = &h->videos[h->ranks[half + below(h, half)]];

	for (uint32_t n = 0; n < v->chunks; n++)
		add_read(h, at_s + n * CHUNK_SECONDS / COPY_SPEED, v, n, false);
}

static void drift(struct history *h)
{
	uint32_t a = below(h, h->video_count), b = below(h, h->video_count);
	uint32_t video = h->ranks[a];

	h->ranks[a] = h->ranks[b];
	h->ranks[b] = video;
}

static int order_reads(const void *a, const void *b)
{
	const struct read *x = a, *y = b;

	if (x->at_s != y->at_s)
		return x->at_s < y->at_s ? -1 : 1;
	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

static void make_history(struct history *h, uint64_t views)
{
	double at_s = 1000;

	make_videos(h);
	for (uint64_t n = 0; n < views; n++) {
		at_s += exponential(h, BETWEEN_VIEWS_S);
		add_view(h, at_s);
		if (n % COPIES_EVERY == 0)
			add_copy(h, at_s);
		if (n % DRIFT_EVERY == 0)
			drift(h);
	}
	qsort(h->reads, h->read_count, sizeof(*h->reads), order_reads);
}

/* ---- the caches ---- */

static bool used_since(struct chunk *c)
{
	if (c->read_s < c->seen_s + SAME_VIEW_S)
		return false;
	c->seen_s = c->read_s;
	return true;
}

static enum eviction_answer ask(void *ctx, struct eviction_node *node)
{
	struct cache *cache = ctx;
	struct chunk *c =
		(struct chunk *)((char *)node - offsetof(struct chunk, node));

	if (c->read_s + READING_S > cache->now_s)
		return EVICTION_SPARED;
	return used_since(c) ? EVICTION_USED : EVICTION_UNUSED;
}

static struct chunk *victim_of(struct cache *cache)
{
	struct eviction_node *node;
	struct chunk *c;

	if (cache->policy >= POLICY_S3_FIFO) {
		node = eviction_next(&cache->ev, ask, cache);
		if (node == NULL)
			fail("everything is being read: more bytes are needed");
		c = (struct chunk *)((char *)node -
				     offsetof(struct chunk, node));
		eviction_remove(&cache->ev, node);
		return c;
	}
	c = TAILQ_FIRST(&cache->list);
	while (cache->policy == POLICY_SECOND_CHANCE && used_since(c)) {
		TAILQ_REMOVE(&cache->list, c, link);
		TAILQ_INSERT_TAIL(&cache->list, c, link);
		c = TAILQ_FIRST(&cache->list);
	}
	TAILQ_REMOVE(&cache->list, c, link);
	return c;
}

static void insert(struct cache *cache, struct chunk *c, uint64_t number)
{
	while (cache->used_bytes + c->bytes > cache->size_bytes) {
		struct chunk *victim = victim_of(cache);

		victim->cached = false;
		cache->used_bytes -= victim->bytes;
	}
	cache->used_bytes += c->bytes;
	c->cached = true;
	c->seen_s = cache->now_s;
	if (cache->policy < POLICY_S3_FIFO)
		TAILQ_INSERT_TAIL(&cache->list, c, link);
	else
		eviction_add(&cache->ev, &c->node, mixed(number + 1), c->bytes,
			     cache->policy == POLICY_REELCACHE && c->start
				     ? EVICTION_START
				     : EVICTION_PLAIN);
}

static void read_chunk(struct cache *cache, const struct history *h,
		       const struct read *read, bool counts)
{
	struct chunk *c = &h->chunks[read->chunk];
	bool hit = c->cached;

	cache->now_s = (uint32_t)read->at_s;
	c->read_s = cache->now_s;
	if (!hit) {
		insert(cache, c, read->chunk);
	} else if (cache->policy == POLICY_LRU) {
		TAILQ_REMOVE(&cache->list, c, link);
		TAILQ_INSERT_TAIL(&cache->list, c, link);
	}
	if (!counts)
		return;
	cache->all_bytes += c->bytes;
	cache->hit_bytes += hit ? c->bytes : 0;
	cache->all_starts += read->begins;
	cache->hit_starts += read->begins && hit;
}

static void simulate(const struct history *h, enum policy policy, double part,
		     bool first)
{
	struct cache cache = { .policy = policy,
			       .size_bytes =
				       (uint64_t)((double)h->bytes * part) };

	for (size_t n = 0; n < h->chunk_count; n++)
		h->chunks[n].cached = false;
	TAILQ_INIT(&cache.list);
	if (eviction_init(&cache.ev, cache.size_bytes,
			  cache.size_bytes / CHUNK_BYTES) < 0)
		fail("no memory");
	for (size_t n = 0; n < h->read_count; n++)
		read_chunk(&cache, h, &h->reads[n], n >= h->read_count / 10);
	printf("%s\n  {\"policy\": \"%s\", \"part\": %.2f, \"bytes\": %.6f, "
	       "\"starts\": %.6f}",
	       first ? "" : ",", names[policy], part,
	       (double)cache.hit_bytes / (double)cache.all_bytes,
	       (double)cache.hit_starts / (double)cache.all_starts);
	eviction_fini(&cache.ev);
}

static uint64_t number_of(const char *word, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long number = strtoull(word, &end, 10);

	if (*word < '0' || *word > '9' || *end != '\0' || number < least ||
	    number > most)
		fail("a number is out of range");
	return number;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "views", required_argument, NULL, 'v' },
		{ "videos", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	struct history h = { .random = 1, .video_count = 2000 };
	uint64_t views = 100000;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			h.random = number_of(optarg, 0, UINT64_MAX);
		else if (option == 'v')
			views = number_of(optarg, 10, 10000000);
		else if (option == 'n')
			h.video_count =
				(uint32_t)number_of(optarg, 10, 1000000);
		else
			return 2;
	}
	make_history(&h, views);
	printf("{\"videos\": %" PRIu32 ", \"chunks\": %zu, \"bytes\": %" PRIu64
	       ",\n \"views\": %" PRIu64 ", \"reads\": %zu, \"results\": [",
	       h.video_count, h.chunk_count, h.bytes, views, h.read_count);
	for (size_t p = 0; p < ARRAY_LEN(parts); p++)
		for (int policy = 0; policy < POLICIES; policy++)
			simulate(&h, (enum policy)policy, parts[p],
				 p + (size_t)policy == 0);
	printf("\n]}\n");
	free(h.reads);
	free(h.chunks);
	free(h.weights);
	free(h.ranks);
	free(h.videos);
	return 0;
}

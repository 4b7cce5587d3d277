#include "prefetcher/playheads.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uthash.h>

#define NEAR_BYTES (64 * KIB)  /* a range may begin so far from the last end */
#define PROVEN     2u          /* ranges in a row, */
#define PLAY_BYTES (128 * KIB) /* and so many bytes: else it only looks */

struct place {
	uint64_t object_no;
	uint64_t generation;
};

/* Those of one object are chained; the newest move is at the front. */
struct playhead {
	struct playhead *next;
	uint64_t pos_off;
	uint64_t bytes; /* of its ranges */
	uint64_t moved_ms;
	uint32_t steps;
};

struct played {
	UT_hash_handle hh;
	struct place place;
	struct playhead *first;
};

struct playheads {
	struct segment *seg;
	struct played *objects; /* uthash, oldest first */
	uint32_t count;
	uint64_t read[SEGMENT_WORKERS]; /* entries of each ring so far */
};

int playheads_open(struct playheads **out, struct segment *seg)
{
	struct playheads *ph = calloc(1, sizeof(*ph));

	if (ph == NULL)
		return -ENOMEM;
	ph->seg = seg;
	/* what was sent before concerned a predecessor */
	for (uint32_t w = 0; w < SEGMENT_WORKERS; w++)
		ph->read[w] = atomic_load(&seg->workers[w].sent_count);
	*out = ph;
	return 0;
}

static void drop_object(struct playheads *ph, struct played *obj)
{
	struct playhead *p;

	while ((p = obj->first) != NULL) {
		obj->first = p->next;
		ph->count--;
		free(p);
	}
	HASH_DEL(ph->objects, obj);
	free(obj);
}

void playheads_close(struct playheads *ph)
{
	struct played *obj, *next;

	if (ph == NULL)
		return;
	HASH_ITER (hh, ph->objects, obj, next)
		drop_object(ph, obj);
	free(ph);
}

/* ---- moving ---- */

static bool is_near(uint64_t a, uint64_t b)
{
	return a > b ? a - b <= NEAR_BYTES : b - a <= NEAR_BYTES;
}

static struct played *object_of(struct playheads *ph, const struct place *at)
{
	struct played *obj;

	HASH_FIND(hh, ph->objects, at, sizeof(*at), obj);
	if (obj != NULL)
		return obj;
	obj = calloc(1, sizeof(*obj));
	if (obj == NULL)
		return NULL;
	obj->place = *at;
	HASH_ADD(hh, ph->objects, place, sizeof(obj->place), obj);
	return obj;
}

/* Takes the playhead out of the chain whose last range ended near off. */
static struct playhead *take_near(struct played *obj, uint64_t off)
{
	struct playhead **at, *p;

	for (at = &obj->first; (p = *at) != NULL; at = &p->next) {
		if (!is_near(p->pos_off, off))
			continue;
		*at = p->next;
		return p;
	}
	return NULL;
}

/* Drops those that no longer count, and those beyond the most. */
static void trim(struct playheads *ph, struct played *obj, uint64_t now_ms)
{
	struct playhead **at = &obj->first, *p;
	uint32_t kept = 0;

	while ((p = *at) != NULL) {
		if (now_ms - p->moved_ms < PLAYHEAD_MS &&
		    kept++ < PLAYHEADS_OF_ONE) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		ph->count--;
		free(p);
	}
}

static void make_room(struct playheads *ph, uint64_t now_ms)
{
	struct played *obj, *next;

	HASH_ITER (hh, ph->objects, obj, next) {
		trim(ph, obj, now_ms);
		if (obj->first == NULL)
			drop_object(ph, obj);
	}
	while (ph->count >= PLAYHEADS_MAX && ph->objects != NULL)
		drop_object(ph, ph->objects);
}

static void move(struct playheads *ph, const struct segment_sent_view *sent,
		 uint64_t now_ms)
{
	struct place at = { sent->object_no, sent->generation };
	struct played *obj;
	struct playhead *p;

	if (ph->count >= PLAYHEADS_MAX)
		make_room(ph, now_ms);
	obj = object_of(ph, &at);
	if (obj == NULL)
		return;
	p = take_near(obj, sent->begin_off);
	if (p == NULL) {
		p = calloc(1, sizeof(*p));
		if (p == NULL)
			return;
		ph->count++;
	}
	p->pos_off = sent->to_off;
	p->bytes += sent->to_off - sent->begin_off;
	p->moved_ms = now_ms;
	if (p->steps < PROVEN)
		p->steps++;
	p->next = obj->first;
	obj->first = p;
	trim(ph, obj, now_ms);
}

void playheads_read(struct playheads *ph, uint64_t now_ms,
		    void (*sent)(void *ctx, uint64_t object_no,
				 uint32_t generation, uint64_t from_off,
				 uint64_t to_off),
		    void *ctx)
{
	struct segment_sent_view view;

	for (uint32_t w = 0; w < SEGMENT_WORKERS; w++) {
		struct segment_worker *worker = &ph->seg->workers[w];
		uint64_t count = atomic_load(&worker->sent_count);

		if (count - ph->read[w] >= SEGMENT_SENT)
			ph->read[w] = count - (SEGMENT_SENT - 1);
		for (; ph->read[w] != count; ph->read[w]++) {
			if (!segment_read_sent(worker, ph->read[w], &view))
				continue;
			if (view.whole)
				move(ph, &view, now_ms);
			sent(ctx, view.object_no, view.generation,
			     view.from_off, view.to_off);
		}
	}
}

/* ---- looking ---- */

static bool counts(const struct playhead *p, uint64_t now_ms)
{
	return p->steps >= PROVEN && p->bytes >= PLAY_BYTES &&
	       now_ms - p->moved_ms < PLAYHEAD_MS;
}

size_t playheads_of(const struct playheads *ph, uint64_t object_no,
		    uint32_t generation, uint64_t now_ms,
		    uint64_t pos_off[PLAYHEADS_OF_ONE])
{
	struct place at = { object_no, generation };
	const struct playhead *p;
	struct played *obj;
	size_t count = 0;

	HASH_FIND(hh, ph->objects, &at, sizeof(at), obj);
	for (p = obj != NULL ? obj->first : NULL; p != NULL; p = p->next)
		if (counts(p, now_ms) && count < PLAYHEADS_OF_ONE)
			pos_off[count++] = p->pos_off;
	return count;
}

void playheads_each(const struct playheads *ph, uint64_t now_ms,
		    void (*each)(void *ctx, uint64_t object_no,
				 uint32_t generation, uint64_t pos_off),
		    void *ctx)
{
	struct played *obj, *next;
	const struct playhead *p;

	HASH_ITER (hh, ph->objects, obj, next)
		for (p = obj->first; p != NULL; p = p->next)
			if (counts(p, now_ms))
				each(ctx, obj->place.object_no,
				     (uint32_t)obj->place.generation,
				     p->pos_off);
}

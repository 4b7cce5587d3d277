#include "store/eviction.h"

#include <errno.h>
#include <stdlib.h>

#define SMALL_PART     10 /* of the bytes are in the small queue */
#define FREQUENCY_MOST 3
#define GHOST_WAYS     8u
#define GHOSTS_LEAST   1024u
#define GHOSTS_MOST    (256u * 1024u)

/* Chosen with tests/bench/simulate_eviction. */
#define USED_GAIN       2 /* frequency for use between two visits */
#define START_FREQUENCY 1 /* a new start's */
#define START_VISITS    2 /* for which a start loses one */

enum { QUEUE_NONE, QUEUE_SMALL, QUEUE_MAIN };

/* What left the small queue. */
struct eviction_ghost {
	uint64_t identity;
	uint64_t gone_at; /* eviction.gone_bytes then; 0 = free */
};

int eviction_init(struct eviction *ev, uint64_t size_bytes, uint64_t ghosts)
{
	size_t sets = GHOSTS_LEAST / GHOST_WAYS;

	*ev = (struct eviction){ .small_most = size_bytes / SMALL_PART };
	ev->ghost_bytes = size_bytes - ev->small_most;
	TAILQ_INIT(&ev->small.nodes);
	TAILQ_INIT(&ev->main.nodes);
	ghosts = min_u64(ghosts, GHOSTS_MOST);
	while (sets * GHOST_WAYS < ghosts)
		sets *= 2;
	ev->ghosts = calloc(sets * GHOST_WAYS, sizeof(*ev->ghosts));
	if (ev->ghosts == NULL)
		return -ENOMEM;
	ev->ghost_sets = sets;
	return 0;
}

void eviction_fini(struct eviction *ev)
{
	free(ev->ghosts);
	*ev = (struct eviction){ 0 };
}

/* ---- the ghost ---- */

static struct eviction_ghost *ghost_set(const struct eviction *ev,
					uint64_t identity)
{
	return &ev->ghosts[(identity & (ev->ghost_sets - 1)) * GHOST_WAYS];
}

static void ghost_put(struct eviction *ev, const struct eviction_node *node)
{
	struct eviction_ghost *set = ghost_set(ev, node->identity);
	struct eviction_ghost *place = set;

	/* the same name again, else a free place, else the oldest */
	for (unsigned n = 0; n < GHOST_WAYS; n++) {
		if (set[n].gone_at != 0 && set[n].identity == node->identity) {
			place = &set[n];
			break;
		}
		if (set[n].gone_at < place->gone_at)
			place = &set[n];
	}
	ev->gone_bytes += node->bytes;
	place->identity = node->identity;
	place->gone_at = max_u64(ev->gone_bytes, 1);
}

/* Was it there?  It no longer is. */
static bool ghost_take(struct eviction *ev, uint64_t identity)
{
	struct eviction_ghost *set = ghost_set(ev, identity);

	for (unsigned n = 0; n < GHOST_WAYS; n++) {
		if (set[n].gone_at == 0 || set[n].identity != identity)
			continue;
		bool fresh = ev->gone_bytes - set[n].gone_at <= ev->ghost_bytes;

		set[n].gone_at = 0;
		return fresh;
	}
	return false;
}

/* ---- the queues ---- */

static struct eviction_queue *queue_of(struct eviction *ev,
				       const struct eviction_node *node)
{
	return node->queue == QUEUE_SMALL ? &ev->small : &ev->main;
}

static void append(struct eviction *ev, struct eviction_node *node,
		   uint8_t queue_no)
{
	struct eviction_queue *queue;

	node->queue = queue_no;
	queue = queue_of(ev, node);
	TAILQ_INSERT_TAIL(&queue->nodes, node, link);
	queue->count++;
	queue->bytes += node->bytes;
}

void eviction_remove(struct eviction *ev, struct eviction_node *node)
{
	struct eviction_queue *queue = queue_of(ev, node);

	if (node->queue == QUEUE_NONE)
		return;
	must(queue->count > 0 && queue->bytes >= node->bytes);
	TAILQ_REMOVE(&queue->nodes, node, link);
	queue->count--;
	queue->bytes -= node->bytes;
	node->queue = QUEUE_NONE;
}

static void move(struct eviction *ev, struct eviction_node *node,
		 uint8_t queue_no)
{
	eviction_remove(ev, node);
	append(ev, node, queue_no);
}

static void make_node(struct eviction_node *node, uint64_t identity,
		      uint64_t bytes, enum eviction_weight weight)
{
	*node = (struct eviction_node){ .identity = identity,
					.bytes = bytes,
					.weight = (uint8_t)weight };
	if (weight == EVICTION_START)
		node->frequency = START_FREQUENCY;
}

void eviction_add(struct eviction *ev, struct eviction_node *node,
		  uint64_t identity, uint64_t bytes,
		  enum eviction_weight weight)
{
	bool known = ghost_take(ev, identity);

	make_node(node, identity, bytes, weight);
	append(ev, node,
	       known || weight == EVICTION_START ? QUEUE_MAIN : QUEUE_SMALL);
}

void eviction_add_known(struct eviction *ev, struct eviction_node *node,
			uint64_t identity, uint64_t bytes,
			enum eviction_weight weight)
{
	make_node(node, identity, bytes, weight);
	append(ev, node, QUEUE_MAIN);
}

void eviction_mark_start(struct eviction *ev, struct eviction_node *node)
{
	if (node->weight == EVICTION_START)
		return;
	node->weight = EVICTION_START;
	if (node->frequency < START_FREQUENCY)
		node->frequency = START_FREQUENCY;
	if (node->queue == QUEUE_SMALL)
		move(ev, node, QUEUE_MAIN);
}

/* ---- victims ---- */

/* Does it go? */
static bool visit_small(struct eviction *ev, struct eviction_node *node,
			enum eviction_answer answer)
{
	if (answer == EVICTION_UNUSED)
		return true;
	move(ev, node, answer == EVICTION_USED ? QUEUE_MAIN : QUEUE_SMALL);
	return false;
}

static void lose_frequency(struct eviction_node *node)
{
	if (node->weight == EVICTION_START && ++node->visits < START_VISITS)
		return;
	node->visits = 0;
	node->frequency--;
}

static bool visit_main(struct eviction *ev, struct eviction_node *node,
		       enum eviction_answer answer)
{
	if (answer == EVICTION_UNUSED) {
		if (node->frequency == 0)
			return true;
		lose_frequency(node);
	} else if (answer == EVICTION_USED) {
		node->frequency += USED_GAIN;
		if (node->frequency > FREQUENCY_MOST)
			node->frequency = FREQUENCY_MOST;
	}
	move(ev, node, QUEUE_MAIN);
	return false;
}

/* The first one that need not stay, whatever its frequency. */
static struct eviction_node *any_of(
	struct eviction *ev, struct eviction_queue *queue, uint8_t queue_no,
	enum eviction_answer (*ask)(void *ctx, struct eviction_node *node),
	void *ctx)
{
	for (size_t left = queue->count; left > 0; left--) {
		struct eviction_node *node = TAILQ_FIRST(&queue->nodes);

		if (ask(ctx, node) != EVICTION_SPARED)
			return node;
		move(ev, node, queue_no);
	}
	return NULL;
}

struct eviction_node *eviction_next(
	struct eviction *ev,
	enum eviction_answer (*ask)(void *ctx, struct eviction_node *node),
	void *ctx)
{
	size_t small_left = ev->small.count, main_left = ev->main.count;
	struct eviction_node *node;

	while (small_left + main_left > 0) {
		if (small_left > 0 &&
		    (ev->small.bytes > ev->small_most || main_left == 0)) {
			small_left--;
			node = TAILQ_FIRST(&ev->small.nodes);
			if (visit_small(ev, node, ask(ctx, node))) {
				ghost_put(ev, node);
				return node;
			}
		} else {
			main_left--;
			node = TAILQ_FIRST(&ev->main.nodes);
			if (visit_main(ev, node, ask(ctx, node)))
				return node;
		}
	}
	/* all were spared or in use: what is in use goes, too */
	node = any_of(ev, &ev->small, QUEUE_SMALL, ask, ctx);
	if (node != NULL) {
		ghost_put(ev, node);
		return node;
	}
	return any_of(ev, &ev->main, QUEUE_MAIN, ask, ctx);
}

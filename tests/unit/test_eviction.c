/*
 * Eviction by itself: a cache of nodes whose use the tests decide.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/eviction.h"

#define NODES 1000u
#define BYTES 100u

/* Node n holds the chunk of identity(n). */
struct item {
	struct eviction_node node;
	bool there;
	bool used;
	bool spared;
};

struct fixture {
	struct eviction ev;
	struct item items[NODES];
	uint64_t size_bytes;
	uint64_t used_bytes;
	size_t asked;
};

static uint64_t identity(size_t n)
{
	return (n + 1) * 0x9e3779b97f4a7c15u;
}

static struct item *item_of(struct eviction_node *node)
{
	return (struct item *)((char *)node - offsetof(struct item, node));
}

static enum eviction_answer ask(void *ctx, struct eviction_node *node)
{
	struct fixture *fx = ctx;
	struct item *item = item_of(node);
	bool used = item->used;

	assert_true(item->there);
	fx->asked++;
	if (item->spared)
		return EVICTION_SPARED;
	item->used = false;
	return used ? EVICTION_USED : EVICTION_UNUSED;
}

static void remove_item(struct fixture *fx, size_t n)
{
	eviction_remove(&fx->ev, &fx->items[n].node);
	fx->used_bytes -= fx->items[n].node.bytes;
	fx->items[n].there = false;
}

/* NODES when nothing may go. */
static size_t evict(struct fixture *fx)
{
	size_t most = 2 * (fx->ev.small.count + fx->ev.main.count);
	struct eviction_node *node;
	size_t n;

	fx->asked = 0;
	node = eviction_next(&fx->ev, ask, fx);
	assert_true(fx->asked <= most);
	if (node == NULL)
		return NODES;
	n = (size_t)(item_of(node) - fx->items);
	assert_false(fx->items[n].spared);
	remove_item(fx, n);
	return n;
}

static void add(struct fixture *fx, size_t n, uint64_t bytes,
		enum eviction_weight weight)
{
	while (fx->used_bytes + bytes > fx->size_bytes)
		assert_true(evict(fx) < NODES);
	eviction_add(&fx->ev, &fx->items[n].node, identity(n), bytes, weight);
	fx->items[n].there = true;
	fx->items[n].used = fx->items[n].spared = false;
	fx->used_bytes += bytes;
}

/* A read of n: fetched when it is not there.  Was it? */
static bool read_item(struct fixture *fx, size_t n)
{
	bool hit = fx->items[n].there;

	if (hit)
		fx->items[n].used = true;
	else
		add(fx, n, BYTES, EVICTION_PLAIN);
	return hit;
}

static size_t present(const struct fixture *fx, size_t from, size_t to)
{
	size_t count = 0;

	for (size_t n = from; n < to; n++)
		count += fx->items[n].there;
	return count;
}

/* Room for a hundred. */
static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	fx->size_bytes = 100 * BYTES;
	assert_int_equal(eviction_init(&fx->ev, fx->size_bytes, 100), 0);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	eviction_fini(&fx->ev);
	free(fx);
	return 0;
}

static void test_a_scan_pushes_nothing_out(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 50; n++)
		read_item(fx, n);
	for (size_t n = 0; n < 50; n++)
		assert_true(read_item(fx, n));
	/* nine times the cache, each read once */
	for (size_t n = 100; n < NODES; n++)
		assert_false(read_item(fx, n));
	assert_int_equal(present(fx, 0, 50), 50);
	assert_int_equal(present(fx, 0, NODES), 100);
}

static void test_the_small_queue_is_a_tenth(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 100; n++)
		read_item(fx, n);
	for (size_t n = 0; n < 95; n++)
		read_item(fx, n);
	for (size_t n = 100; n < 400; n++) {
		read_item(fx, n);
		assert_int_equal(fx->used_bytes, fx->size_bytes);
	}
	assert_in_range(fx->ev.small.count, 9, 11);
	assert_in_range(fx->ev.main.count, 89, 91);
}

static void test_the_ghost_knows_who_comes_back(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 110; n++)
		read_item(fx, n);
	assert_int_equal(present(fx, 0, 10), 0);
	assert_int_equal(fx->ev.main.count, 0);
	assert_false(read_item(fx, 3));
	assert_int_equal(fx->ev.main.count, 1);
	/* it was named only once */
	remove_item(fx, 3);
	assert_false(read_item(fx, 3));
	assert_int_equal(fx->ev.main.count, 0);
	/* what came back outlives a scan */
	assert_false(read_item(fx, 4));
	for (size_t n = 200; n < 500; n++)
		read_item(fx, n);
	assert_true(fx->items[4].there);
	assert_false(fx->items[3].there);
}

static void test_the_ghost_forgets(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 101; n++)
		read_item(fx, n);
	assert_false(fx->items[0].there);
	for (size_t n = 101; n < 250; n++)
		read_item(fx, n);
	/* since then more went than the main queue has room for */
	assert_false(read_item(fx, 0));
	assert_int_equal(fx->ev.main.count, 0);
}

static void test_what_was_purged_is_no_ghost(void **state)
{
	struct fixture *fx = *state;

	read_item(fx, 0);
	remove_item(fx, 0);
	read_item(fx, 0);
	assert_int_equal(fx->ev.main.count, 0);
	assert_int_equal(fx->ev.small.count, 1);
}

static void test_starts_outlive_middles(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 500; n++)
		add(fx, n, BYTES,
		    n % 10 == 0 ? EVICTION_START : EVICTION_PLAIN);
	for (size_t n = 0; n < 400; n++)
		assert_int_equal(fx->items[n].there, n % 10 == 0);
}

/* Also against those that were used as often. */
static void test_starts_stay_longer_in_main(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 100; n++)
		eviction_add_known(&fx->ev, &fx->items[n].node, identity(n),
				   BYTES,
				   n % 2 ? EVICTION_START : EVICTION_PLAIN);
	for (size_t n = 0; n < 100; n++) {
		fx->items[n].there = true;
		fx->items[n].node.frequency = 3;
	}
	fx->used_bytes = fx->size_bytes;
	for (size_t n = 0; n < 50; n++)
		assert_true(evict(fx) < 100);
	for (size_t n = 0; n < 100; n++)
		assert_int_equal(fx->items[n].there, n % 2);
}

static void test_starts_are_not_immortal(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 500; n++) {
		add(fx, n, BYTES, EVICTION_START);
		assert_true(fx->used_bytes <= fx->size_bytes);
	}
	assert_int_equal(present(fx, 0, NODES), 100);
	assert_int_equal(present(fx, 0, 100), 0);
	/* and make room for what is used, when they are not */
	for (int round = 0; round < 20; round++)
		for (size_t n = 500; n < 560; n++)
			read_item(fx, n);
	assert_true(present(fx, 500, 560) > 50);
}

static void test_marked_later(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 20; n++)
		read_item(fx, n);
	eviction_mark_start(&fx->ev, &fx->items[7].node);
	eviction_mark_start(&fx->ev, &fx->items[7].node);
	assert_int_equal(fx->ev.main.count, 1);
	assert_int_equal(fx->ev.main.bytes, BYTES);
	for (size_t n = 100; n < 600; n++)
		read_item(fx, n);
	assert_int_equal(present(fx, 0, 20), 1);
	assert_true(fx->items[7].there);
}

static void test_all_are_spared(void **state)
{
	struct fixture *fx = *state;

	assert_int_equal(evict(fx), NODES);
	for (size_t n = 0; n < 100; n++) {
		add(fx, n, BYTES, n % 3 == 0 ? EVICTION_START : EVICTION_PLAIN);
		fx->items[n].spared = fx->items[n].used = true;
	}
	for (int n = 0; n < 10; n++)
		assert_int_equal(evict(fx), NODES);
	/* being spared is no use, and the only other one goes, used or not */
	fx->items[33].spared = false;
	assert_int_equal(evict(fx), 33);
	fx->items[50].spared = false;
	assert_int_equal(evict(fx), 50);
	assert_int_equal(evict(fx), NODES);
}

static void test_all_are_used(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 100; n++)
		add(fx, n, BYTES, n % 3 == 0 ? EVICTION_START : EVICTION_PLAIN);
	for (int left = 100; left > 0; left--) {
		for (size_t n = 0; n < 100; n++)
			fx->items[n].used = true;
		assert_true(evict(fx) < 100);
	}
	assert_int_equal(evict(fx), NODES);
	assert_int_equal(fx->ev.main.bytes + fx->ev.small.bytes, 0);
}

static void test_known_ones_are_not_on_trial(void **state)
{
	struct fixture *fx = *state;

	for (size_t n = 0; n < 90; n++) {
		eviction_add_known(&fx->ev, &fx->items[n].node, identity(n),
				   BYTES, EVICTION_PLAIN);
		fx->items[n].there = true;
		fx->used_bytes += BYTES;
	}
	for (size_t n = 100; n < 300; n++)
		read_item(fx, n);
	assert_true(present(fx, 0, 90) >= 89);
}

/* What must hold whatever happens, counted anew from the list of items. */
static void check(struct fixture *fx)
{
	size_t counts[3] = { 0, 0, 0 };
	uint64_t bytes[3] = { 0, 0, 0 };
	struct eviction_node *node;
	size_t linked = 0;

	for (size_t n = 0; n < NODES; n++) {
		const struct item *item = &fx->items[n];

		assert_true(item->node.queue < 3);
		assert_int_equal(item->node.queue != 0, item->there);
		assert_true(item->node.frequency <= 3);
		counts[item->node.queue]++;
		bytes[item->node.queue] += item->node.bytes;
	}
	assert_int_equal(fx->ev.small.count, counts[1]);
	assert_int_equal(fx->ev.small.bytes, bytes[1]);
	assert_int_equal(fx->ev.main.count, counts[2]);
	assert_int_equal(fx->ev.main.bytes, bytes[2]);
	assert_int_equal(fx->used_bytes, bytes[1] + bytes[2]);
	TAILQ_FOREACH (node, &fx->ev.small.nodes, link)
		linked += node->queue == 1;
	TAILQ_FOREACH (node, &fx->ev.main.nodes, link)
		linked += node->queue == 2;
	assert_int_equal(linked, counts[1] + counts[2]);
}

static uint32_t next_random(uint32_t *random)
{
	*random = *random * 1664525u + 1013904223u;
	return *random >> 8;
}

static void test_anything_in_any_order(void **state)
{
	struct fixture *fx = *state;
	uint32_t random = 1;
	size_t refused = 0;

	for (unsigned step = 0; step < 60000; step++) {
		size_t n = next_random(&random) % 300;
		struct item *item = &fx->items[n];
		uint32_t what = next_random(&random) % 16;
		size_t free_to_go = 0, victim;

		if (what < 6 && !item->there) {
			uint64_t bytes = 1 + next_random(&random) % 300;

			eviction_add(&fx->ev, &item->node, identity(n), bytes,
				     what == 0 ? EVICTION_START
					       : EVICTION_PLAIN);
			item->there = true;
			item->used = item->spared = false;
			fx->used_bytes += bytes;
		} else if (what < 6) {
			item->used = true;
		} else if (what < 9 && item->there) {
			item->spared = !item->spared;
		} else if (what == 9 && item->there) {
			eviction_mark_start(&fx->ev, &item->node);
		} else if (what == 10 && item->there) {
			remove_item(fx, n);
		} else if (what == 11 && !item->there) {
			eviction_remove(&fx->ev, &item->node);
		} else {
			for (size_t i = 0; i < NODES; i++)
				free_to_go += fx->items[i].there &&
					      !fx->items[i].spared;
			victim = evict(fx);
			assert_int_equal(victim == NODES, free_to_go == 0);
			refused += victim == NODES;
		}
		if (step % 8 == 0)
			check(fx);
	}
	check(fx);
	assert_true(refused > 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(test_a_scan_pushes_nothing_out),
		CASE(test_the_small_queue_is_a_tenth),
		CASE(test_the_ghost_knows_who_comes_back),
		CASE(test_the_ghost_forgets),
		CASE(test_what_was_purged_is_no_ghost),
		CASE(test_starts_outlive_middles),
		CASE(test_starts_stay_longer_in_main),
		CASE(test_starts_are_not_immortal),
		CASE(test_marked_later),
		CASE(test_all_are_spared),
		CASE(test_all_are_used),
		CASE(test_known_ones_are_not_on_trial),
		CASE(test_anything_in_any_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

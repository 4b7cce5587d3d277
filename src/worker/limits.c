#include "worker/limits.h"

#include <string.h>
#include <sys/auxv.h>

/* The kernel's random bytes for the program: the same in all processes that
 * the master forked, unknown to clients. */
static uint64_t hash_key(unsigned row)
{
	const void *random = (const void *)getauxval(AT_RANDOM);
	uint64_t key[2] = { 0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u };

	if (random != NULL)
		memcpy(key, random, sizeof(key));
	return key[row & 1];
}

static uint64_t mix(uint64_t v)
{
	v ^= v >> 32;
	v *= 0xd6e8feb86659fd93u;
	v ^= v >> 32;
	v *= 0xd6e8feb86659fd93u;
	v ^= v >> 32;
	return v;
}

static uint32_t cell_of(const uint8_t *peer, unsigned row)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint64_t half[2];

	memcpy(half, peer, sizeof(half));
	if (memcmp(peer, mapped, sizeof(mapped)) != 0)
		half[1] = 0; /* an IPv6 site has a /64 of its own */
	half[0] = mix(half[0] ^ hash_key(row));
	half[1] = mix(half[1] + half[0]);
	return (uint32_t)(half[1] % SEGMENT_ADDRESS_CELLS);
}

/* One writer per row: no locked instruction is needed. */
static void add(_Atomic uint32_t *cell, int n)
{
	uint32_t old = atomic_load_explicit(cell, memory_order_relaxed);

	atomic_store_explicit(cell, old + (uint32_t)n, memory_order_relaxed);
}

static uint64_t sum_address(const struct limits *l, const uint8_t *peer)
{
	uint32_t cell[2] = { cell_of(peer, 0), cell_of(peer, 1) };
	uint64_t sum[2] = { 0, 0 };

	for (unsigned n = 0; n < SEGMENT_WORKERS; n++) {
		const struct segment_worker *w = &l->seg->workers[n];

		if (w != l->row &&
		    atomic_load(&l->seg->procs[SEGMENT_PROC_WORKER0 + n].pid) ==
			    0)
			continue;
		for (unsigned r = 0; r < 2; r++)
			sum[r] +=
				atomic_load_explicit(&w->addresses[r][cell[r]],
						     memory_order_relaxed);
	}
	return min_u64(sum[0], sum[1]);
}

static uint64_t sum_connections(const struct limits *l)
{
	uint64_t sum = 0;

	for (unsigned n = 0; n < SEGMENT_WORKERS; n++) {
		const struct segment_worker *w = &l->seg->workers[n];

		if (w == l->row ||
		    atomic_load(&l->seg->procs[SEGMENT_PROC_WORKER0 + n].pid) !=
			    0)
			sum += atomic_load_explicit(&w->connections,
						    memory_order_relaxed);
	}
	return sum;
}

void limits_init(struct limits *l, struct segment *seg, uint32_t slot,
		 uint32_t connections_max, uint32_t address_max)
{
	must(slot < SEGMENT_WORKERS);
	l->seg = seg;
	l->row = &seg->workers[slot];
	l->connections_max = connections_max;
	l->address_max = address_max;
	atomic_store(&l->row->connections, 0);
	for (unsigned r = 0; r < 2; r++)
		for (unsigned n = 0; n < SEGMENT_ADDRESS_CELLS; n++)
			if (atomic_load_explicit(&l->row->addresses[r][n],
						 memory_order_relaxed) != 0)
				atomic_store(&l->row->addresses[r][n], 0);
}

bool limits_enter(struct limits *l, const uint8_t peer[SINK_PEER_BYTES])
{
	if (sum_connections(l) >= l->connections_max ||
	    sum_address(l, peer) >= l->address_max)
		return false;
	add(&l->row->connections, 1);
	for (unsigned r = 0; r < 2; r++)
		add(&l->row->addresses[r][cell_of(peer, r)], 1);
	return true;
}

void limits_leave(struct limits *l, const uint8_t peer[SINK_PEER_BYTES])
{
	add(&l->row->connections, -1);
	for (unsigned r = 0; r < 2; r++)
		add(&l->row->addresses[r][cell_of(peer, r)], -1);
}

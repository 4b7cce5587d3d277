#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "http/head.h"
#include "util/log.h"
#include "worker/serve.h"
#include "worker/serves.h"

#define TOKEN_READER_BITS 16
#define ASK_VAIN_MAX      4u /* asks without news before they are slowed */
#define ASK_VAIN_MS       50u
#define WAIT_GRACE_MS     2000u /* the prefetcher's own time-outs come first */

_Static_assert(SEGMENT_READERS <= 1u << TOKEN_READER_BITS,
	       "a token holds the reader's row");

/* --- the row in the segment -------------------------------------------- */

int wait_reader_open(struct serve *sv)
{
	struct serves *all = sv->desk->serves;

	if (sv->reader != SERVE_NO_READER)
		return 0;
	if (all->reader_free_count > 0) {
		sv->reader = all->reader_free[--all->reader_free_count];
	} else if (all->reader_top < SEGMENT_READERS) {
		sv->reader = all->reader_top++;
		atomic_store(&sv->desk->row->readers_top, all->reader_top);
	} else {
		return -EBUSY;
	}
	all->by_reader[sv->reader] = sv;
	return 0;
}

void wait_reader_show(struct serve *sv)
{
	struct segment_reader *row;

	if (sv->reader == SERVE_NO_READER || sv->object_no == 0)
		return;
	row = &sv->desk->row->readers[sv->reader];
	if (atomic_load_explicit(&row->object_no, memory_order_relaxed) !=
		    sv->object_no ||
	    atomic_load_explicit(&row->generation, memory_order_relaxed) !=
		    sv->generation)
		atomic_store(&row->object_no, 0);
	atomic_store_explicit(&row->pos_off, sv->left.from,
			      memory_order_relaxed);
	atomic_store_explicit(&row->end_off, sv->left.to, memory_order_relaxed);
	atomic_store_explicit(&row->generation, sv->generation,
			      memory_order_relaxed);
	atomic_store_explicit(
		&row->sent_kib,
		(uint32_t)min_u64((sv->left.from - sv->begin_off) / KIB,
				  UINT32_MAX),
		memory_order_relaxed);
	atomic_store_explicit(&row->object_no, sv->object_no,
			      memory_order_release);
}

void wait_reader_close(struct serve *sv)
{
	struct serves *all = sv->desk->serves;

	if (sv->reader == SERVE_NO_READER)
		return;
	atomic_store(&sv->desk->row->readers[sv->reader].object_no, 0);
	all->by_reader[sv->reader] = NULL;
	all->reader_free[all->reader_free_count++] = sv->reader;
	sv->reader = SERVE_NO_READER;
}

/* --- waiting ------------------------------------------------------------ */

/* The longest wait for news.  The prefetcher answers sooner, unless it is
 * stuck; then this is the end. */
static uint64_t patience_ms(const struct serve *sv)
{
	const struct conf_upstream *up = &sv->desk->conf->upstream;
	uint64_t origin = up->connect_timeout + up->first_byte_timeout;

	return origin + WAIT_GRACE_MS + (sv->object_no != 0 ? up->patience : 0);
}

static void enter(struct serve *sv, enum serve_wait wait)
{
	struct serves *all = sv->desk->serves;

	if (sv->wait != SERVE_WAIT_NONE)
		wait_leave(sv);
	sv->wait = (uint8_t)wait;
	TAILQ_INSERT_TAIL(&all->waiting, sv, wait_link);
	if (sv->deadline_ms == 0)
		sv->deadline_ms = desk_now_ms(sv->desk) + patience_ms(sv);
}

void wait_leave(struct serve *sv)
{
	struct serves *all = sv->desk->serves;

	if (sv->wait == SERVE_WAIT_RUN) {
		struct serve_list *list = &all->followers[sv->run_row];

		TAILQ_REMOVE(list, sv, run_link);
		if (TAILQ_EMPTY(list))
			atomic_store(&sv->desk->row->waits[sv->run_row], 0);
	}
	if (sv->wait != SERVE_WAIT_NONE && sv->wait != SERVE_WAIT_CLIENT)
		TAILQ_REMOVE(&all->waiting, sv, wait_link);
	sv->wait = SERVE_WAIT_NONE;
	sv->token = 0;
}

void wait_for_tick(struct serve *sv)
{
	enter(sv, SERVE_WAIT_TICK);
}

/* Has the run anything new for this response? */
static bool run_has_news(struct serve *sv, const struct segment_run_view *run)
{
	if (run->run_no != sv->run_no || run->object_no != sv->object_no ||
	    run->generation != sv->generation)
		return true;
	if (run->to_off > sv->left.from || run->kept_off > sv->left.from)
		return true;
	if (sv->head_sent && sv->left.to == SIZE_UNKNOWN &&
	    run->size_bytes != SIZE_UNKNOWN)
		return true;
	return (run->flags & SEGMENT_RUN_ACTIVE) == 0;
}

/*
 * The prefetcher stores to_off, then reads waits[]; here waits[] is stored,
 * then to_off is read.  With a full fence between the two on both sides one
 * of them sees the other's news: no wake-up is lost.
 */
bool wait_for_run(struct serve *sv)
{
	struct serves *all = sv->desk->serves;
	struct segment_run_view run;

	if (sv->run_row >= SEGMENT_RUNS)
		return false;
	enter(sv, SERVE_WAIT_RUN);
	if (sv->run_row >= all->followed_top)
		all->followed_top = sv->run_row + 1;
	TAILQ_INSERT_TAIL(&all->followers[sv->run_row], sv, run_link);
	atomic_store(&sv->desk->row->waits[sv->run_row], 1);
	atomic_thread_fence(memory_order_seq_cst);
	if (segment_read_run(sv->desk->seg, sv->run_row, &run) &&
	    !run_has_news(sv, &run))
		return true;
	wait_leave(sv);
	return false;
}

static void fill_ask(struct serve *sv, struct ask *ask)
{
	struct desk *desk = sv->desk;
	struct range_spec first;

	memset(ask, 0, offsetof(struct ask, key));
	ask->type = ASK_TYPE;
	ask->kind = ASK_FROM;
	ask->flags = sv->ask_flags | (sv->asked_fresh ? ASK_CONFIRMED : 0u);
	ask->slot = desk->slot;
	ask->token = sv->token;
	ask->object_no = sv->object_no;
	ask->generation = sv->head_sent ? sv->generation : 0;
	ask->want_from = sv->left.from;
	ask->want_to = sv->left.to;
	if (sv->object_no == 0) {
		plan_first_want(sv->head, desk->conf->http.max_ranges, &first);
		ask->want_from = first.span.from;
		ask->want_to = first.span.to;
		if (first.suffix_bytes > 0) {
			ask->kind = ASK_SUFFIX;
			ask->want_from = first.suffix_bytes;
			ask->want_to = SIZE_UNKNOWN;
		}
	} else if (ask->want_from >= ask->want_to) {
		/* an answer without a body: any byte brings the record */
		ask->want_from = 0;
		ask->want_to = 1;
	}
	ask->key_bytes = sv->key_bytes;
	memcpy(ask->key, sv->key, sv->key_bytes);
	memset(ask->key + sv->key_bytes, 0, sizeof(ask->key) - sv->key_bytes);
}

/* Asks, or sees to it that it is asked soon. */
static void send_ask(struct serve *sv)
{
	struct desk *desk = sv->desk;
	struct ask ask;
	int rc;

	fill_ask(sv, &ask);
	rc = inbox_send(desk->ipc->prefetcher.tx, &ask, sizeof(ask));
	sv->again_ms = desk_now_ms(desk) + (rc == 0 ? ASK_RETRY_MS : 0);
	if (rc < 0 && rc != -EAGAIN)
		log_debug("ev=ask_failed error=%s", strerrorname_np(-rc));
}

void wait_for_reply(struct serve *sv)
{
	struct serves *all = sv->desk->serves;

	must(sv->reader != SERVE_NO_READER);
	enter(sv, SERVE_WAIT_REPLY);
	wait_reader_show(sv);
	sv->token = ++all->token_count << TOKEN_READER_BITS | sv->reader;
	if (sv->in_vain < ASK_VAIN_MAX) {
		sv->in_vain++;
		send_ask(sv);
	} else {
		sv->again_ms = desk_now_ms(sv->desk) + ASK_VAIN_MS;
	}
}

/* --- news --------------------------------------------------------------- */

static void look_again(struct serve *sv)
{
	wait_leave(sv);
	sv->state = SERVE_LOOKUP;
	serve_run(sv);
}

/* Everybody that waits looks again, and asks the new prefetcher. */
static void all_look_again(struct serves *all)
{
	struct serve *last = TAILQ_LAST(&all->waiting, serve_list);
	struct serve *sv = NULL;

	while (sv != last) {
		sv = TAILQ_FIRST(&all->waiting);
		sv->in_vain = 0;
		look_again(sv);
	}
}

static void run_news(struct serves *all, uint32_t run_row)
{
	struct serve_list *list = &all->followers[run_row];
	struct serve *last = TAILQ_LAST(list, serve_list);
	struct serve *sv = NULL;
	struct segment_run_view run;
	bool there = segment_read_run(all->desk->seg, run_row, &run);

	/* those without news go to the end of the list again, as do those
	 * that wait anew: each one comes up once */
	while (sv != last) {
		sv = TAILQ_FIRST(list);
		if (there && !run_has_news(sv, &run)) {
			TAILQ_REMOVE(list, sv, run_link);
			TAILQ_INSERT_TAIL(list, sv, run_link);
		} else {
			look_again(sv);
		}
	}
}

static bool prefetcher_is_new(struct serves *all)
{
	uint64_t lives = atomic_load(&all->desk->seg->prefetcher_lives);

	if (lives == all->lives)
		return false;
	all->lives = lives;
	return true;
}

void serve_bell(struct desk *desk)
{
	struct serves *all = desk->serves;

	if (prefetcher_is_new(all)) {
		all_look_again(all);
		return;
	}
	for (uint32_t n = 0; n < all->followed_top; n++)
		if (!TAILQ_EMPTY(&all->followers[n]))
			run_news(all, n);
	while (all->followed_top > 0 &&
	       TAILQ_EMPTY(&all->followers[all->followed_top - 1]))
		all->followed_top--;
}

static void tick_one(struct serve *sv, uint64_t now_ms)
{
	struct segment_run_view run;

	if (now_ms >= sv->deadline_ms) {
		sv->late = true;
		look_again(sv);
		return;
	}
	switch ((enum serve_wait)sv->wait) {
	case SERVE_WAIT_REPLY:
		if (now_ms >= sv->again_ms)
			send_ask(sv);
		return;
	case SERVE_WAIT_TICK:
		look_again(sv);
		return;
	case SERVE_WAIT_RUN:
		/* a writer may be killed between its store and its bell */
		if (!segment_read_run(sv->desk->seg, sv->run_row, &run) ||
		    run_has_news(sv, &run))
			look_again(sv);
		return;
	case SERVE_WAIT_CLIENT:
	case SERVE_WAIT_NONE:
		must(!"waits in no list");
	}
}

void serve_tick(struct desk *desk)
{
	struct serves *all = desk->serves;
	struct serve *last, *sv, *next;
	uint64_t now_ms = desk_now_ms(desk);

	if (prefetcher_is_new(all))
		all_look_again(all);
	last = TAILQ_LAST(&all->waiting, serve_list);
	for (sv = TAILQ_FIRST(&all->waiting); sv != NULL; sv = next) {
		bool end = sv == last;

		next = TAILQ_NEXT(sv, wait_link);
		tick_one(sv, now_ms);
		if (end)
			break;
	}
}

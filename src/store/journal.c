#include "store/journal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "store/chunk.h"
#include "util/log.h"

#define GATHER_MS 20 /* how long a batch waits for more */
#define CHECK_S   10 /* how often readers of dead processes are freed */

struct journal {
	struct index *index;
	int chunks_fd;
	int bell;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under the lock: */
	struct journal_ops added;
	struct journal_ops done;
	bool urgent;
	bool closing;
};

struct journal_op *journal_new(enum journal_type type)
{
	struct journal_op *op = calloc(1, sizeof(*op));

	if (op != NULL)
		op->type = type;
	return op;
}

void journal_free(struct journal_op *op)
{
	if (op == NULL)
		return;
	free(op->record);
	free(op->key);
	free(op);
}

static int verify(const struct journal *jn, const struct journal_op *op)
{
	uint32_t crc = 0;
	int rc = chunk_file_crc(jn->chunks_fd, op->extent.run_no, op->chunk_no,
				op->extent.to_off - op->from_off, &crc);

	if (rc < 0)
		return rc;
	return crc == op->extent.crc ? 0 : -EUCLEAN;
}

static int apply(struct journal *jn, const struct journal_op *op)
{
	int rc;

	switch (op->type) {
	case JOURNAL_PUT_OBJECT:
		return index_put_object(jn->index, op->key, op->key_bytes,
					op->record);
	case JOURNAL_DELETE_OBJECT:
		rc = index_delete_object(jn->index, op->key, op->key_bytes);
		return rc == -ENOENT ? 0 : rc;
	case JOURNAL_PUT_EXTENT:
		return index_put_extent(jn->index, &op->extent_key,
					&op->extent);
	case JOURNAL_DELETE_EXTENT:
		rc = index_delete_extent(jn->index, &op->extent_key);
		return rc == -ENOENT ? 0 : rc;
	case JOURNAL_PUT_NUMBER:
		return index_put_number(jn->index, op->name, op->number);
	case JOURNAL_PUT_ORIGIN:
		return index_put_origin(jn->index, op->key, &op->origin);
	case JOURNAL_VERIFY:
		return 0;
	}
	return -EINVAL;
}

/* All records of the batch in one transaction. */
static int commit(struct journal *jn, struct journal_ops *batch)
{
	struct journal_op *op;
	bool any = false;
	int rc = 0;

	TAILQ_FOREACH (op, batch, link)
		any = any || op->type != JOURNAL_VERIFY;
	if (!any)
		return 0;
	rc = index_begin_write(jn->index);
	if (rc < 0)
		return rc;
	TAILQ_FOREACH (op, batch, link) {
		rc = apply(jn, op);
		if (rc < 0) {
			index_abort(jn->index);
			return rc;
		}
	}
	return index_commit(jn->index);
}

static void do_batch(struct journal *jn, struct journal_ops *batch)
{
	struct journal_op *op;
	int rc;

	TAILQ_FOREACH (op, batch, link)
		if (op->type == JOURNAL_VERIFY)
			op->rc = verify(jn, op);
	rc = commit(jn, batch);
	if (rc < 0)
		log_error("ev=index_commit_failed errno=%d", -rc);
	TAILQ_FOREACH (op, batch, link)
		if (op->type != JOURNAL_VERIFY)
			op->rc = rc;
}

static void deadline_in(struct timespec *at, long ms)
{
	clock_gettime(CLOCK_MONOTONIC, at);
	at->tv_sec += ms / 1000;
	at->tv_nsec += ms % 1000 * 1000000;
	if (at->tv_nsec >= 1000000000) {
		at->tv_sec++;
		at->tv_nsec -= 1000000000;
	}
}

/* Under the lock: until there is a batch worth doing.  False: the end. */
static bool wait_for_batch(struct journal *jn)
{
	struct timespec at;

	deadline_in(&at, CHECK_S * 1000);
	while (TAILQ_EMPTY(&jn->added) && !jn->closing)
		if (pthread_cond_timedwait(&jn->wake, &jn->lock, &at) ==
		    ETIMEDOUT) {
			index_check_readers(jn->index);
			deadline_in(&at, CHECK_S * 1000);
		}
	if (TAILQ_EMPTY(&jn->added))
		return false;
	deadline_in(&at, GATHER_MS);
	while (!jn->urgent && !jn->closing)
		if (pthread_cond_timedwait(&jn->wake, &jn->lock, &at) ==
		    ETIMEDOUT)
			break;
	return true;
}

static void *run(void *arg)
{
	struct journal *jn = arg;
	struct journal_ops batch;
	time_t checked_s = time(NULL);

	pthread_mutex_lock(&jn->lock);
	while (wait_for_batch(jn)) {
		TAILQ_INIT(&batch);
		TAILQ_CONCAT(&batch, &jn->added, link);
		jn->urgent = false;
		pthread_mutex_unlock(&jn->lock);
		do_batch(jn, &batch);
		if (time(NULL) - checked_s >= CHECK_S) {
			index_check_readers(jn->index);
			checked_s = time(NULL);
		}
		pthread_mutex_lock(&jn->lock);
		TAILQ_CONCAT(&jn->done, &batch, link);
		eventfd_write(jn->bell, 1);
	}
	pthread_mutex_unlock(&jn->lock);
	return NULL;
}

int journal_open(struct journal **out, struct index *index, int chunks_fd)
{
	struct journal *jn = calloc(1, sizeof(*jn));
	pthread_condattr_t attr;
	sigset_t all, old;
	int rc;

	if (jn == NULL)
		return -ENOMEM;
	jn->index = index;
	jn->chunks_fd = chunks_fd;
	TAILQ_INIT(&jn->added);
	TAILQ_INIT(&jn->done);
	pthread_mutex_init(&jn->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&jn->wake, &attr);
	pthread_condattr_destroy(&attr);
	jn->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (jn->bell < 0) {
		rc = -errno;
		goto no_bell;
	}
	sigfillset(&all); /* signals are for the event loop */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&jn->thread, NULL, run, jn);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc < 0)
		goto no_thread;
	*out = jn;
	return 0;

no_thread:
	close(jn->bell);
no_bell:
	pthread_cond_destroy(&jn->wake);
	pthread_mutex_destroy(&jn->lock);
	free(jn);
	return rc;
}

void journal_end(struct journal *jn)
{
	pthread_mutex_lock(&jn->lock);
	jn->closing = true;
	pthread_cond_signal(&jn->wake);
	pthread_mutex_unlock(&jn->lock);
	pthread_join(jn->thread, NULL);
}

void journal_close(struct journal *jn)
{
	struct journal_op *op;

	TAILQ_CONCAT(&jn->done, &jn->added, link);
	while ((op = TAILQ_FIRST(&jn->done)) != NULL) {
		TAILQ_REMOVE(&jn->done, op, link);
		journal_free(op);
	}
	close(jn->bell);
	pthread_cond_destroy(&jn->wake);
	pthread_mutex_destroy(&jn->lock);
	free(jn);
}

int journal_bell(const struct journal *jn)
{
	return jn->bell;
}

void journal_add(struct journal *jn, struct journal_op *op, bool urgent)
{
	pthread_mutex_lock(&jn->lock);
	TAILQ_INSERT_TAIL(&jn->added, op, link);
	jn->urgent = jn->urgent || urgent;
	pthread_cond_signal(&jn->wake);
	pthread_mutex_unlock(&jn->lock);
}

void journal_reap(struct journal *jn, struct journal_ops *done)
{
	eventfd_t count;

	(void)eventfd_read(jn->bell, &count);
	pthread_mutex_lock(&jn->lock);
	TAILQ_CONCAT(done, &jn->done, link);
	pthread_mutex_unlock(&jn->lock);
}

/* Inboxes: whole messages, a bounded queue, a successor that reads on. */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/ask.h"
#include "ipc/inbox.h"

static struct inboxes in;

static int open_all(void **state)
{
	(void)state;
	return inboxes_open(&in);
}

static int close_all(void **state)
{
	(void)state;
	inboxes_close(&in);
	return in.master.rx == -1 && in.bells[SEGMENT_WORKERS - 1] == -1 ? 0
									  : -1;
}

static void test_messages_fit(void **state)
{
	(void)state;
	assert_true(sizeof(struct ask) <= INBOX_MESSAGE_BYTES);
	assert_true(sizeof(struct reply) <= INBOX_MESSAGE_BYTES);
}

static void test_whole_messages(void **state)
{
	char out[INBOX_MESSAGE_BYTES], back[INBOX_MESSAGE_BYTES];
	struct inbox *box = &in.workers[7];

	(void)state;
	assert_int_equal(inbox_receive(box->rx, back, sizeof(back)), 0);
	memset(out, 'a', sizeof(out));
	assert_int_equal(inbox_send(box->tx, out, 3), 0);
	assert_int_equal(inbox_send(box->tx, out, sizeof(out)), 0);
	assert_int_equal(inbox_send(box->tx, "b", 1), 0);
	assert_int_equal(inbox_receive(box->rx, back, sizeof(back)), 3);
	assert_int_equal(inbox_receive(box->rx, back, sizeof(back)),
			 sizeof(back));
	assert_memory_equal(back, out, sizeof(back));
	assert_int_equal(inbox_receive(box->rx, back, sizeof(back)), 1);
	assert_int_equal(back[0], 'b');
	assert_int_equal(inbox_receive(box->rx, back, sizeof(back)), 0);
	/* longer than the reader's room: said, not cut */
	assert_int_equal(inbox_send(box->tx, out, 100), 0);
	assert_int_equal(inbox_receive(box->rx, back, 99), -EMSGSIZE);
	assert_int_equal(inbox_receive(box->rx, back, sizeof(back)), 0);
}

static void test_full_queue(void **state)
{
	char message[512] = { 0 };
	struct inbox *box = &in.prefetcher;
	unsigned int sent = 0, got = 0;
	int rc;

	(void)state;
	while ((rc = inbox_send(box->tx, message, sizeof(message))) == 0) {
		sent++;
		assert_true(sent < 100000);
	}
	assert_int_equal(rc, -EAGAIN);
	/* all workers may ask at once and find room */
	assert_true(sent > SEGMENT_WORKERS);
	while (inbox_receive(box->rx, message, sizeof(message)) > 0)
		got++;
	assert_int_equal(got, sent);
	assert_int_equal(inbox_send(box->tx, message, 1), 0);
	assert_int_equal(inbox_receive(box->rx, message, 1), 1);
}

static void test_successor_reads_on(void **state)
{
	char back[8];
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(inbox_send(in.workers[0].tx, "1", 1), 0);
	assert_int_equal(inbox_send(in.workers[0].tx, "2", 1), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(inbox_receive(in.workers[0].rx, back, 8) == 1 &&
				      back[0] == '1'
			      ? 0
			      : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(inbox_receive(in.workers[0].rx, back, 8), 1);
	assert_int_equal(back[0], '2');
}

static void test_no_reader(void **state)
{
	struct inboxes other;

	(void)state;
	assert_int_equal(inboxes_open(&other), 0);
	(void)close(other.master.rx);
	other.master.rx = -1;
	assert_int_equal(inbox_send(other.master.tx, "x", 1), -EPIPE);
	inboxes_close(&other);
}

static bool rings(int bell)
{
	struct pollfd p = { .fd = bell, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void test_bells(void **state)
{
	(void)state;
	assert_false(rings(in.bells[1]));
	inbox_unring(in.bells[1]); /* does not wait for it */
	inbox_ring(in.bells[1]);
	inbox_ring(in.bells[1]);
	assert_true(rings(in.bells[1]));
	assert_false(rings(in.bells[2]));
	inbox_unring(in.bells[1]);
	assert_false(rings(in.bells[1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages_fit),
		cmocka_unit_test(test_whole_messages),
		cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_successor_reads_on),
		cmocka_unit_test(test_no_reader),
		cmocka_unit_test(test_bells),
	};

	return cmocka_run_group_tests(tests, open_all, close_all);
}

/* Connections that wait for their PROXY header, on real sockets. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "http/lobby.h"

#define V1   "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"
#define V2   "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\1\2\3\4\5\6\7\x08\0\1\0\2\4\0\0"
#define REST "\x16\x03\x01PROXY UNKNOWN\r\n"

static const uint8_t balancer[16] = { [10] = 0xff, 0xff, 10, 0, 0, 1 };
static const uint8_t stranger[16] = { [10] = 0xff, 0xff, 11, 0, 0, 1 };
static const uint8_t client[16] = { [10] = 0xff, 0xff, 1, 2, 3, 4 };

static struct segment_stats stats;
static struct networks trusted;
static struct lobby lobby;
static struct {
	unsigned count;
	int fd;
	unsigned listener;
	uint8_t address[16];
} entered;

static void enter(void *context, int fd, unsigned listener,
		  const uint8_t address[SINK_PEER_BYTES])
{
	assert_ptr_equal(context, &entered);
	entered.count++;
	entered.fd = fd;
	entered.listener = listener;
	memcpy(entered.address, address, 16);
}

static int open_lobby(void **state)
{
	struct event_config *config = event_config_new();
	char why[NETWORKS_WHY_BYTES];

	(void)state;
	memset(&lobby, 0, sizeof(lobby));
	memset(&stats, 0, sizeof(stats));
	memset(&entered, 0, sizeof(entered));
	assert_int_equal(networks_parse(&trusted, "private", why), 0);
	assert_int_equal(
		event_config_require_features(
			config, EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE),
		0);
	lobby.base = event_base_new_with_config(config);
	event_config_free(config);
	assert_non_null(lobby.base);
	lobby.stats = &stats;
	lobby.trusted = &trusted;
	lobby.timeout_ms = 5000;
	lobby.enter = enter;
	lobby.context = &entered;
	lobby_init(&lobby);
	return 0;
}

static int close_lobby(void **state)
{
	(void)state;
	lobby_fini(&lobby);
	assert_int_equal(lobby.count, 0);
	event_base_free(lobby.base);
	return 0;
}

static void open_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX,
				    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
				    0, fds),
			 0);
}

static void put(int fd, const void *bytes, size_t count)
{
	assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
}

static void turn(void)
{
	assert_true(event_base_loop(lobby.base,
				    EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
}

static uint64_t bad_count(void)
{
	return atomic_load(&stats.value[STAT_connections_proxy_bad]);
}

/* The other end is closed, and nothing was written. */
static void expect_closed(int fd)
{
	char byte;

	assert_true(recv(fd, &byte, 1, 0) == 0 || errno == ECONNRESET);
	close(fd);
}

/* What follows the header is there, all of it and once. */
static void expect_rest(const void *rest, size_t count)
{
	char got[256];

	assert_int_equal(recv(entered.fd, got, sizeof(got), 0),
			 count > 0 ? (ssize_t)count : -1);
	assert_memory_equal(got, rest, count);
	close(entered.fd);
}

/* Header and what follows in two pieces, cut everywhere: the first is there
 * when the connection is accepted. */
static void test_splits(void **state)
{
	static const struct {
		const char *text;
		size_t bytes;
	} headers[] = { { V1, sizeof(V1) - 1 }, { V2, sizeof(V2) - 1 } };
	char text[256];
	int fds[2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		size_t head = headers[i].bytes;
		size_t all = head + sizeof(REST) - 1;

		memcpy(text, headers[i].text, head);
		memcpy(text + head, REST, all - head);
		for (size_t cut = 0; cut <= all; cut++) {
			entered.count = 0;
			open_pair(fds);
			if (cut > 0)
				put(fds[1], text, cut);
			lobby_take(&lobby, fds[0], 7, balancer, 0);
			assert_int_equal(entered.count, cut >= head);
			assert_int_equal(lobby.count, cut < head);
			if (cut < all)
				put(fds[1], text + cut, all - cut);
			turn();
			assert_int_equal(entered.count, 1);
			assert_int_equal(lobby.count, 0);
			assert_int_equal(entered.listener, 7);
			assert_memory_equal(entered.address, client, 16);
			expect_rest(REST, all - head);
			close(fds[1]);
		}
	}
	assert_int_equal(bad_count(), 0);
}

static void test_bytewise(void **state)
{
	static const char text[] = V2;
	int fds[2];

	(void)state;
	open_pair(fds);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	for (size_t i = 0; i + 1 < sizeof(text); i++) {
		assert_int_equal(entered.count, 0);
		put(fds[1], text + i, 1);
		turn();
	}
	assert_int_equal(entered.count, 1);
	assert_memory_equal(entered.address, client, 16);
	expect_rest(NULL, 0);
	close(fds[1]);
}

static void test_own_address(void **state)
{
	static const char local[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
	int fds[2];

	(void)state;
	open_pair(fds);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	put(fds[1], local, sizeof(local) - 1);
	turn();
	assert_int_equal(entered.count, 1);
	assert_memory_equal(entered.address, balancer, 16);
	close(entered.fd);
	close(fds[1]);
	open_pair(fds);
	put(fds[1], "PROXY UNKNOWN\r\n", 15);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	assert_int_equal(entered.count, 2);
	assert_memory_equal(entered.address, balancer, 16);
	close(entered.fd);
	close(fds[1]);
}

static void test_bad(void **state)
{
	int fds[2];

	(void)state;
	/* at once, and later */
	open_pair(fds);
	put(fds[1], "GET / HTTP/1.1\r\n", 16);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	expect_closed(fds[1]);
	assert_int_equal(bad_count(), 1);
	open_pair(fds);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	put(fds[1], "PROXY TCP4 1.2.3.4\r\n", 20);
	turn();
	expect_closed(fds[1]);
	assert_int_equal(bad_count(), 2);
	/* not trusted, however good */
	open_pair(fds);
	put(fds[1], V1, sizeof(V1) - 1);
	lobby_take(&lobby, fds[0], 0, stranger, 0);
	expect_closed(fds[1]);
	assert_int_equal(bad_count(), 3);
	/* cut short: closed before it was accepted, and after */
	open_pair(fds);
	put(fds[1], V1, 10);
	close(fds[1]);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	turn();
	assert_int_equal(lobby.count, 0);
	assert_int_equal(bad_count(), 4);
	open_pair(fds);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	put(fds[1], V2, 20);
	turn();
	assert_int_equal(lobby.count, 1);
	assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
	turn();
	assert_int_equal(lobby.count, 0);
	expect_closed(fds[1]);
	assert_int_equal(bad_count(), 5);
	assert_int_equal(entered.count, 0);
}

/* A whole header and then the end is a connection like any other. */
static void test_closed_behind(void **state)
{
	int fds[2];

	(void)state;
	open_pair(fds);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	put(fds[1], V1 "x", sizeof(V1));
	close(fds[1]);
	turn();
	assert_int_equal(entered.count, 1);
	expect_rest("x", 1);
	assert_int_equal(bad_count(), 0);
}

/* Somebody looks whether we listen. */
static void test_leaves_silently(void **state)
{
	int fds[2];

	(void)state;
	open_pair(fds);
	close(fds[1]);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	assert_int_equal(lobby.count, 0);
	open_pair(fds);
	lobby_take(&lobby, fds[0], 0, balancer, 0);
	close(fds[1]);
	turn();
	assert_int_equal(lobby.count, 0);
	assert_int_equal(bad_count(), 0);
}

static void test_late(void **state)
{
	int first[2], second[2];

	(void)state;
	open_pair(first);
	open_pair(second);
	lobby_take(&lobby, first[0], 0, balancer, 1000);
	lobby_take(&lobby, second[0], 0, balancer, 1500);
	put(first[1], V1, 10); /* a piece does not buy time */
	turn();
	lobby_tick(&lobby, 5999);
	assert_int_equal(lobby.count, 2);
	lobby_tick(&lobby, 6000);
	assert_int_equal(lobby.count, 1);
	assert_int_equal(bad_count(), 1);
	expect_closed(first[1]);
	lobby_drain(&lobby);
	lobby_tick(&lobby, 1500 + LOBBY_DRAIN_MS - 1);
	assert_int_equal(lobby.count, 1);
	lobby_tick(&lobby, 1500 + LOBBY_DRAIN_MS);
	assert_int_equal(lobby.count, 0);
	expect_closed(second[1]);
}

/* The one that has waited longest makes room; the others are untouched. */
static void test_full(void **state)
{
	static int fds[LOBBY_MAX + 2][2];
	struct rlimit lim;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	lim.rlim_cur = lim.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	assert_true(lim.rlim_cur >= 2 * LOBBY_MAX + 64);
	for (unsigned i = 0; i < LOBBY_MAX + 2; i++) {
		open_pair(fds[i]);
		lobby_take(&lobby, fds[i][0], i, balancer, 0);
	}
	assert_int_equal(lobby.count, LOBBY_MAX);
	assert_int_equal(bad_count(), 2);
	expect_closed(fds[0][1]);
	expect_closed(fds[1][1]);
	put(fds[2][1], V1, sizeof(V1) - 1);
	turn();
	assert_int_equal(entered.count, 1);
	assert_int_equal(entered.listener, 2);
	close(entered.fd);
	for (unsigned i = 2; i < LOBBY_MAX + 2; i++)
		close(fds[i][1]);
}

#define CASE(run) cmocka_unit_test_setup_teardown(run, open_lobby, close_lobby)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_splits),        CASE(test_bytewise),
		CASE(test_own_address),   CASE(test_bad),
		CASE(test_closed_behind), CASE(test_leaves_silently),
		CASE(test_late),          CASE(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

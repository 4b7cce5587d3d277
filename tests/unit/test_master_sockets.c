/* Listening sockets, their options, the cache folder and the admin socket. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "master/address.h"
#include "master/prepare.h"
#include "master/sockets.h"
#include "util/log.h"

static const struct {
	const char *text;
	int count; /* of addresses; below 0: refused */
	const char *first;
	const char *second;
} addresses[] = {
	{ "127.0.0.1:80", 1, "127.0.0.1:80", NULL },
	{ "0.0.0.0:0", 1, "0.0.0.0:0", NULL },
	{ "[::1]:8090", 1, "[::1]:8090", NULL },
	{ "[::]:65535", 1, "[::]:65535", NULL },
	{ "[fe80::1%lo]:1", 1, "[fe80::1%1]:1", NULL },
	{ "*:8090", 2, "0.0.0.0:8090", "[::]:8090" },
	{ "", -EINVAL, NULL, NULL },
	{ "80", -EINVAL, NULL, NULL },
	{ ":80", -EINVAL, NULL, NULL },
	{ "127.0.0.1", -EINVAL, NULL, NULL },
	{ "127.0.0.1:", -EINVAL, NULL, NULL },
	{ "127.0.0.1:65536", -EINVAL, NULL, NULL },
	{ "127.0.0.1:080808", -EINVAL, NULL, NULL },
	{ "127.0.0.1:-1", -EINVAL, NULL, NULL },
	{ "127.0.0.1:http", -EINVAL, NULL, NULL },
	{ "127.1:80", -EINVAL, NULL, NULL },
	{ "localhost:80", -EINVAL, NULL, NULL },
	{ "::1:80", -EINVAL, NULL, NULL },
	{ "[::1:80", -EINVAL, NULL, NULL },
	{ "[]:80", -EINVAL, NULL, NULL },
	{ "[127.0.0.1]:80", -EINVAL, NULL, NULL },
	{ "[::1%nosuchcard]:80", -EINVAL, NULL, NULL },
};

static void test_addresses(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		struct address out[2];
		char text[ADDRESS_TEXT_BYTES];
		int n = address_parse(addresses[i].text, out);

		if (n != addresses[i].count)
			fail_msg("%s: %d", addresses[i].text, n);
		if (n < 0)
			continue;
		assert_string_equal(address_format(&out[0], text),
				    addresses[i].first);
		if (n == 2)
			assert_string_equal(address_format(&out[1], text),
					    addresses[i].second);
		assert_true(address_equal(&out[0], &out[0]));
	}
}

/* A conf with these listens; only what sockets.c reads is filled in. */
struct wanted {
	struct conf conf;
	struct conf_listen listens[4];
	char names[4][24];
};

static void want(struct wanted *w, const char *const *texts, size_t count)
{
	static char none[] = "";

	memset(w, 0, sizeof(*w));
	w->conf.listens = w->listens;
	w->conf.listen_count = count;
	w->conf.http.congestion = none;
	w->conf.http.notsent_lowat = 65536;
	for (size_t i = 0; i < count; i++) {
		(void)snprintf(w->names[i], sizeof(w->names[i]), "l%zu", i);
		w->listens[i].name = w->names[i];
		w->listens[i].address = (char *)(uintptr_t)texts[i];
		w->listens[i].backlog = 16;
	}
}

static struct sockets *open_sockets(const struct wanted *w, uint32_t workers,
				    const struct sockets *old)
{
	struct sockets *s = NULL;
	struct fault fault;

	if (sockets_open(&s, &w->conf, workers, old, NULL, &fault) < 0)
		fail_msg("%s", fault.text);
	return s;
}

static int count_open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			n++;
	return n;
}

static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &bytes), 0);
	return value;
}

static int connect_to(const struct address *a)
{
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(fd, (const struct sockaddr *)&a->sa, a->sa_bytes) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static void test_one_socket_a_worker(void **state)
{
	static const char *const texts[] = { "127.0.0.1:0" };
	int before = count_open_fds();
	struct wanted w;
	struct sockets *s;
	const int *fds;
	size_t count;
	int client;
	int got = -1;

	(void)state;
	want(&w, texts, 1);
	s = open_sockets(&w, 3, NULL);
	sockets_apply(s, &w.conf);
	assert_int_equal(count_open_fds(), before + 3);
	assert_true(address_port(sockets_address(s, 0)) > 0);
	assert_null(sockets_address(s, 1));
	sockets_keep_seat(s, 1, &fds, NULL, &count);
	assert_int_equal(count, 1);
	assert_int_equal(count_open_fds(), before + 1);
	assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
	assert_true((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
	/* no other socket of the group is left, so this one gets all */
	client = connect_to(sockets_address(s, 0));
	assert_true(client >= 0);
	while (got < 0)
		got = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(option(got, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(option(got, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 65536);
	close(client);
	close(got);
	sockets_close(s);
	assert_int_equal(count_open_fds(), before);
}

static void test_reload_keeps_queues(void **state)
{
	static const char *const texts[] = { "127.0.0.1:0", "[::1]:0" };
	int before = count_open_fds();
	struct wanted w;
	struct sockets *s, *t, *u;
	struct address bound;
	const int *fds;
	size_t count;
	int clients[16];
	int got = 0;

	(void)state;
	want(&w, texts, 1);
	s = open_sockets(&w, 4, NULL);
	bound = *sockets_address(s, 0);
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		clients[i] = connect_to(&bound);
		assert_true(clients[i] >= 0);
	}
	/* more addresses, fewer workers: nobody in a queue is lost */
	want(&w, texts, 2);
	t = open_sockets(&w, 2, s);
	sockets_close(s);
	assert_true(address_equal(sockets_address(t, 0), &bound));
	assert_int_equal(sockets_address(t, 1)->sa.ss_family, AF_INET6);
	/* more workers again */
	want(&w, texts, 1);
	u = open_sockets(&w, 5, t);
	sockets_close(t);
	assert_int_equal(count_open_fds(),
			 before + 5 + (int)ARRAY_LEN(clients));
	/* one worker for all of them */
	want(&w, texts, 1);
	s = open_sockets(&w, 1, u);
	sockets_close(u);
	sockets_keep_seat(s, 0, &fds, NULL, &count);
	assert_int_equal(count, 5);
	for (size_t i = 0; i < count; i++) {
		int fd;

		while ((fd = accept4(fds[i], NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			got++;
			close(fd);
		}
	}
	assert_int_equal(got, ARRAY_LEN(clients));
	for (size_t i = 0; i < ARRAY_LEN(clients); i++)
		close(clients[i]);
	sockets_close(s);
	assert_int_equal(count_open_fds(), before);
}

static void test_both_families(void **state)
{
	static const char *const texts[] = { "*:0" };
	struct wanted w;
	struct sockets *s;
	struct address v6[2];
	int fd;

	(void)state;
	want(&w, texts, 1);
	s = open_sockets(&w, 1, NULL);
	assert_int_equal(sockets_address(s, 0)->sa.ss_family, AF_INET);
	assert_non_null(sockets_address(s, 1));
	assert_int_equal(address_port(sockets_address(s, 0)),
			 address_port(sockets_address(s, 1)));
	assert_int_equal(address_parse("[::1]:1", v6), 1);
	address_set_port(&v6[0], address_port(sockets_address(s, 1)));
	fd = connect_to(&v6[0]);
	assert_true(fd >= 0);
	close(fd);
	sockets_close(s);
}

static void test_refused(void **state)
{
	int before = count_open_fds();
	char taken[ADDRESS_TEXT_BYTES];
	const char *texts[2] = { "127.0.0.1:0", NULL };
	struct sockets *s, *t = NULL;
	struct fault fault;
	struct wanted w;

	(void)state;
	want(&w, texts, 1);
	s = open_sockets(&w, 1, NULL);
	address_format(sockets_address(s, 0), taken);
	/* a second instance must not slip in beside the first */
	texts[0] = "127.0.0.1:0";
	texts[1] = taken;
	want(&w, texts, 2);
	assert_int_equal(sockets_open(&t, &w.conf, 2, NULL, NULL, &fault),
			 -EADDRINUSE);
	assert_non_null(strstr(fault.text, "[listen:l1]"));
	assert_non_null(strstr(fault.text, taken));
	assert_int_equal(fault.exit_status, 1);
	/* the same twice */
	texts[0] = taken;
	want(&w, texts, 2);
	assert_int_equal(sockets_open(&t, &w.conf, 2, s, NULL, &fault),
			 -EEXIST);
	assert_int_equal(fault.exit_status, EXIT_CONFIG);
	/* an address of somebody else's */
	texts[0] = "192.0.2.1:0";
	want(&w, texts, 1);
	assert_int_equal(sockets_open(&t, &w.conf, 2, s, NULL, &fault),
			 -EADDRNOTAVAIL);
	texts[0] = "nonsense";
	want(&w, texts, 1);
	assert_int_equal(sockets_open(&t, &w.conf, 2, s, NULL, &fault),
			 -EINVAL);
	assert_int_equal(fault.exit_status, EXIT_CONFIG);
	sockets_close(s);
	assert_int_equal(count_open_fds(), before);
}

static void test_congestion(void **state)
{
	static const char *const texts[] = { "127.0.0.1:0" };
	char reno[] = "reno";
	char born[16] = "";
	char now[16] = "";
	socklen_t bytes = sizeof(born) - 1;
	struct wanted w;
	struct sockets *s;
	const int *fds;
	size_t count;

	(void)state;
	assert_int_equal(sockets_check_congestion(""), 0);
	assert_int_equal(sockets_check_congestion("reno"), 0);
	assert_int_equal(sockets_check_congestion("no-such-thing"), -ENOENT);
	want(&w, texts, 1);
	s = open_sockets(&w, 1, NULL);
	sockets_keep_seat(s, 0, &fds, NULL, &count);
	getsockopt(fds[0], IPPROTO_TCP, TCP_CONGESTION, born, &bytes);
	w.conf.http.congestion = reno;
	sockets_apply(s, &w.conf);
	bytes = sizeof(now) - 1;
	getsockopt(fds[0], IPPROTO_TCP, TCP_CONGESTION, now, &bytes);
	assert_string_equal(now, "reno");
	/* an empty option brings the system's back */
	reno[0] = '\0';
	sockets_apply(s, &w.conf);
	bytes = sizeof(now) - 1;
	memset(now, 0, sizeof(now));
	getsockopt(fds[0], IPPROTO_TCP, TCP_CONGESTION, now, &bytes);
	assert_string_equal(now, born);
	sockets_close(s);
}

/* ---- folders and the admin socket ---------------------------------------- */

static char folder[] = "/tmp/test_master.XXXXXX";

static void path_in(char dst[256], const char *name)
{
	(void)snprintf(dst, 256, "%s/%s", folder, name);
}

static void test_cache_lock(void **state)
{
	struct identity nobody_else = { .uid = geteuid(), .gid = getegid() };
	struct conf conf;
	struct fault fault;
	struct stat st;
	char path[256];
	int first, second;

	(void)state;
	memset(&conf, 0, sizeof(conf));
	path_in(path, "a/b/cache");
	conf.cache.path = path;
	assert_int_equal(prepare_cache(&conf, &nobody_else, 0, &first, &fault),
			 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0750);
	assert_int_equal(
		prepare_cache(&conf, &nobody_else, 120, &second, &fault),
		-EBUSY);
	assert_non_null(strstr(fault.text, "another instance"));
	close(first);
	assert_int_equal(prepare_cache(&conf, &nobody_else, 0, &first, &fault),
			 0);
	close(first);
	path_in(path, "file");
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(prepare_cache(&conf, &nobody_else, 0, &first, &fault),
			 -ENOTDIR);
	path_in(path, "file/below");
	assert_int_equal(prepare_cache(&conf, &nobody_else, 0, &first, &fault),
			 -ENOTDIR);
}

static void test_admin_socket(void **state)
{
	struct identity nobody_else = { .uid = geteuid(), .gid = getegid() };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct conf conf;
	struct fault fault;
	struct stat st;
	char path[256];
	int first, second, client;

	(void)state;
	memset(&conf, 0, sizeof(conf));
	path_in(path, "run/admin.sock");
	conf.main.admin_socket = path;
	assert_int_equal(prepare_admin(&conf, &nobody_else, &first, &fault), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	/* it belongs to the living */
	assert_int_equal(prepare_admin(&conf, &nobody_else, &second, &fault),
			 -EADDRINUSE);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%.100s", path);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&sun, sizeof(sun)),
			 0);
	close(client);
	/* the dead one's is replaced */
	close(first);
	assert_int_equal(prepare_admin(&conf, &nobody_else, &first, &fault), 0);
	prepare_remove_admin(&conf, first);
	assert_int_equal(stat(path, &st), -1);
	close(first);
	/* what is no socket is left alone */
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(prepare_admin(&conf, &nobody_else, &first, &fault),
			 -EEXIST);
	assert_int_equal(first, -1);
	assert_int_equal(stat(path, &st), 0);
	path[0] = '\0';
	assert_int_equal(prepare_admin(&conf, &nobody_else, &first, &fault), 0);
	assert_int_equal(first, -1);
}

static int remove_folder(void **state)
{
	char command[300];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) == NULL ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_one_socket_a_worker),
		cmocka_unit_test(test_reload_keeps_queues),
		cmocka_unit_test(test_both_families),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_congestion),
		cmocka_unit_test(test_cache_lock),
		cmocka_unit_test(test_admin_socket),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

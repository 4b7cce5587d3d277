/* TLS against a client of OpenSSL's over a pair of sockets: keys of tickets,
 * files that are refused, what a full socket keeps. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <cmocka.h>

#include "http/tls.h"
#include "http/wire.h"

#define BIG 300000

static struct tls_pem pem;   /* one with its key */
static struct tls_pem other; /* another one */
static char why[TLS_WHY_BYTES];

/* --- certificates -------------------------------------------------------- */

static char *text_of(BIO *bio)
{
	char *bytes;
	long count = BIO_get_mem_data(bio, &bytes);
	char *text = strndup(bytes, (size_t)count);

	assert_non_null(text);
	BIO_free(bio);
	return text;
}

static void make_pem(struct tls_pem *to)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *bio = BIO_new(BIO_s_mem());

	assert_non_null(key);
	assert_int_equal(X509_set_version(x, 2), 1);
	assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), -60));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
	assert_int_equal(X509_NAME_add_entry_by_txt(
				 X509_get_subject_name(x), "CN", MBSTRING_ASC,
				 (const unsigned char *)"a.test", -1, -1, 0),
			 1);
	assert_int_equal(X509_set_pubkey(x, key), 1);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509(bio, x), 1);
	to->certificate = text_of(bio);
	bio = BIO_new(BIO_s_mem());
	assert_int_equal(
		PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL),
		1);
	to->key = text_of(bio);
	X509_free(x);
	EVP_PKEY_free(key);
}

static int make_pems(void **state)
{
	(void)state;
	make_pem(&pem);
	make_pem(&other);
	return 0;
}

static int free_pems(void **state)
{
	(void)state;
	free((char *)pem.certificate);
	free((char *)pem.key);
	free((char *)other.certificate);
	free((char *)other.key);
	return 0;
}

static void test_refused(void **state)
{
	const struct {
		struct tls_pem pem;
		const char *words;
	} cases[] = {
		{ { "", pem.key }, "no certificate in PEM form" },
		{ { "x\n", pem.key }, "no certificate in PEM form" },
		{ { pem.key, pem.key }, "no certificate in PEM form" },
		{ { pem.certificate, "" }, "no private key" },
		{ { pem.certificate, pem.certificate }, "no private key" },
		{ { pem.certificate, other.key }, "does not belong" },
	};
	struct tls_context *context = NULL;

	(void)state;
	for (size_t n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		struct tls_pem both[2] = { pem, cases[n].pem };

		for (size_t from = 0; from < 2; from++) {
			why[0] = '\0';
			assert_int_equal(tls_context_new(&context, both + from,
							 2 - from, NULL, false,
							 why),
					 -EINVAL);
			assert_non_null(strstr(why, cases[n].words));
			assert_null(context);
		}
	}
}

/* --- keys of tickets ----------------------------------------------------- */

static void test_rotation(void **state)
{
	struct segment_tickets tickets = { 0 };
	struct segment_ticket_key first[5];

	(void)state;
	for (uint32_t n = 0; n < 5; n++) {
		assert_int_equal(tls_tickets_rotate(&tickets), 0);
		first[n] = tickets.keys[0];
		assert_int_equal(atomic_load(&tickets.seq), 2 * (n + 1));
		assert_int_equal(tickets.count, n < 3 ? n + 1 : 3);
		for (uint32_t old = 0; old < tickets.count; old++)
			assert_memory_equal(&tickets.keys[old], &first[n - old],
					    sizeof(first[0]));
		for (uint32_t old = 0; old < n; old++) {
			assert_memory_not_equal(first[n].name, first[old].name,
						16);
			assert_memory_not_equal(first[n].aes, first[old].aes,
						32);
			assert_memory_not_equal(first[n].hmac, first[old].hmac,
						32);
		}
	}
}

/* --- a connection -------------------------------------------------------- */

struct talk {
	struct wire wire;
	SSL_CTX *ctx;
	SSL *ssl;
	int fd; /* the client's */
};

static void talk_init(struct talk *k, struct tls_context *context, int version,
		      SSL_SESSION *session)
{
	struct tls *t = tls_new(context);
	int fds[2];

	assert_non_null(t);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	wire_init(&k->wire, fds[0], t);
	k->wire.readable = true;
	k->fd = fds[1];
	k->ctx = SSL_CTX_new(TLS_client_method());
	assert_int_equal(SSL_CTX_set_min_proto_version(k->ctx, version), 1);
	assert_int_equal(SSL_CTX_set_max_proto_version(k->ctx, version), 1);
	k->ssl = SSL_new(k->ctx);
	assert_int_equal(SSL_set_fd(k->ssl, k->fd), 1);
	if (session != NULL)
		assert_int_equal(SSL_set_session(k->ssl, session), 1);
	SSL_set_connect_state(k->ssl);
}

static void talk_fini(struct talk *k)
{
	(void)SSL_shutdown(k->ssl);
	wire_fini(&k->wire);
	SSL_free(k->ssl);
	SSL_CTX_free(k->ctx);
	close(k->fd);
}

/* Until the client's five bytes are here and ours there. */
static void shake_hands(struct talk *k)
{
	char got[16];
	size_t n = 0;
	int rc = -1;

	for (unsigned tries = 0; n == 0; tries++) {
		assert_true(tries < 20);
		if (SSL_do_handshake(k->ssl) == 1)
			assert_int_equal(SSL_write(k->ssl, "query", 5), 5);
		k->wire.readable = true;
		n = wire_receive(&k->wire, got, sizeof(got));
		assert_false(k->wire.broken);
	}
	assert_int_equal(n, 5);
	assert_memory_equal(got, "query", 5);
	assert_int_equal(wire_send(&k->wire, "reply", 5, false), 0);
	for (unsigned tries = 0; rc <= 0; tries++) {
		assert_true(tries < 20);
		rc = SSL_read(k->ssl, got, sizeof(got));
	}
	assert_int_equal(rc, 5);
	assert_memory_equal(got, "reply", 5);
}

/* A session, and whether it went on. */
static SSL_SESSION *meet(struct tls_context *context, int version,
			 SSL_SESSION *session, bool *resumed)
{
	struct talk k = { 0 };
	SSL_SESSION *fresh;

	talk_init(&k, context, version, session);
	shake_hands(&k);
	*resumed = SSL_session_reused(k.ssl) == 1;
	fresh = SSL_get1_session(k.ssl);
	talk_fini(&k);
	return fresh;
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static struct tls_context *make_context(const struct segment_tickets *tickets)
{
	struct tls_context *context = NULL;

	assert_int_equal(
		tls_context_new(&context, &pem, 1, tickets, false, why), 0);
	return context;
}

static struct tls_context *make_kernel_context(void)
{
	struct tls_context *context = NULL;

	assert_int_equal(tls_context_new(&context, &pem, 1, NULL, true, why),
			 0);
	return context;
}

/* The newest three keys are understood, and an old ticket is renewed. */
static void test_tickets_outlive_two_rotations(void **state)
{
	(void)state;
	for (size_t v = 0; v < 2; v++) {
		struct segment_tickets tickets = { 0 };
		struct tls_context *context;
		SSL_SESSION *old, *renewed = NULL, *fresh;
		bool resumed;

		assert_int_equal(tls_tickets_rotate(&tickets), 0);
		context = make_context(&tickets);
		old = meet(context, versions[v], NULL, &resumed);
		assert_false(resumed);
		assert_true(SSL_SESSION_has_ticket(old));
		for (unsigned n = 0; n < 3; n++) {
			SSL_SESSION_free(renewed);
			renewed = meet(context, versions[v], old, &resumed);
			assert_true(resumed);
			if (n < 2)
				assert_int_equal(tls_tickets_rotate(&tickets),
						 0);
		}
		assert_int_equal(tls_tickets_rotate(&tickets), 0);
		fresh = meet(context, versions[v], old, &resumed);
		assert_false(resumed);
		SSL_SESSION_free(fresh);
		fresh = meet(context, versions[v], renewed, &resumed);
		assert_true(resumed);
		SSL_SESSION_free(fresh);
		SSL_SESSION_free(renewed);
		SSL_SESSION_free(old);
		tls_context_free(context);
	}
}

/* While they are written nobody gets a ticket and none is understood; that is
 * all. */
static void test_keys_that_are_being_changed(void **state)
{
	(void)state;
	for (size_t v = 0; v < 2; v++) {
		struct segment_tickets tickets = { 0 };
		struct tls_context *context;
		SSL_SESSION *before, *session;
		bool resumed;

		assert_int_equal(tls_tickets_rotate(&tickets), 0);
		context = make_context(&tickets);
		before = meet(context, versions[v], NULL, &resumed);
		atomic_fetch_add(&tickets.seq, 1);
		session = meet(context, versions[v], NULL, &resumed);
		assert_false(SSL_SESSION_has_ticket(session));
		SSL_SESSION_free(session);
		session = meet(context, versions[v], before, &resumed);
		assert_false(resumed);
		SSL_SESSION_free(session);
		atomic_fetch_add(&tickets.seq, 1);
		session = meet(context, versions[v], before, &resumed);
		assert_true(resumed);
		SSL_SESSION_free(session);
		/* a count that cannot be is none */
		tickets.count = SEGMENT_TICKET_KEYS + 1;
		session = meet(context, versions[v], before, &resumed);
		assert_false(resumed);
		SSL_SESSION_free(session);
		SSL_SESSION_free(before);
		tls_context_free(context);
	}
}

static void test_no_tickets(void **state)
{
	struct segment_tickets none = { 0 };
	const struct segment_tickets *cases[] = { NULL, &none };

	(void)state;
	for (size_t v = 0; v < 2; v++)
		for (size_t n = 0; n < 2; n++) {
			struct tls_context *context = make_context(cases[n]);
			bool resumed;
			SSL_SESSION *session =
				meet(context, versions[v], NULL, &resumed);

			assert_false(SSL_SESSION_has_ticket(session));
			SSL_SESSION_free(session);
			tls_context_free(context);
		}
}

/* --- ends ---------------------------------------------------------------- */

/* close_notify waits its turn behind what a full socket left over. */
static void test_end_behind_kept_bytes(void **state)
{
	struct segment_tickets tickets = { 0 };
	static char sent[BIG], got[BIG + 1];

	(void)state;
	for (size_t n = 0; n < BIG; n++)
		sent[n] = (char)(n * 7 + n / 251);
	assert_int_equal(tls_tickets_rotate(&tickets), 0);
	for (size_t v = 0; v < 2; v++) {
		struct tls_context *context = make_context(&tickets);
		struct talk k = { 0 };
		size_t count = 0;
		unsigned turns = 0;
		bool gone = false;

		talk_init(&k, context, versions[v], NULL);
		shake_hands(&k);
		assert_int_equal(wire_send(&k.wire, sent, BIG, false), 0);
		assert_non_null(k.wire.out);
		assert_false(wire_say_end(&k.wire));
		assert_false(wire_say_end(&k.wire)); /* said once */
		for (int rc = 1; rc > 0 || !gone; turns++) {
			assert_true(turns < 1000);
			rc = SSL_read(k.ssl, got + count,
				      (int)(sizeof(got) - count));
			if (rc > 0)
				count += (size_t)rc;
			k.wire.writable = true;
			gone = wire_flush(&k.wire);
		}
		assert_true(turns > 2);
		assert_int_equal(count, BIG);
		assert_memory_equal(got, sent, BIG);
		assert_int_equal(SSL_read(k.ssl, got, 1), 0);
		assert_int_equal(SSL_get_error(k.ssl, 0),
				 SSL_ERROR_ZERO_RETURN);
		assert_false(k.wire.broken);
		assert_int_equal(wire_shutdown(&k.wire), 0);
		assert_int_equal(read(k.fd, got, 1), 0);
		talk_fini(&k);
		tls_context_free(context);
	}
}

/* receive_buffer: the client's, in bytes; 0 = the usual one. */
static void connect_by_tcp(int fds[2], int receive_buffer)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t bytes = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	int yes = 1;

	assert_int_equal(bind(listener, (struct sockaddr *)&at, bytes), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &bytes),
			 0);
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (receive_buffer > 0)
		assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF,
					    &receive_buffer,
					    sizeof(receive_buffer)),
				 0);
	assert_int_equal(connect(fds[1], (struct sockaddr *)&at, bytes), 0);
	fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	assert_true(fds[0] >= 0);
	for (unsigned n = 0; n < 2; n++)
		assert_int_equal(setsockopt(fds[n], IPPROTO_TCP, TCP_NODELAY,
					    &yes, sizeof(yes)),
				 0);
	assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
	close(listener);
}

static void talk_by_tcp(struct talk *k, int receive_buffer)
{
	int fds[2];

	connect_by_tcp(fds, receive_buffer);
	assert_int_equal(dup2(fds[0], k->wire.fd), k->wire.fd);
	assert_int_equal(dup2(fds[1], k->fd), k->fd);
	close(fds[0]);
	close(fds[1]);
}

static int make_file(const char *bytes, size_t count)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, count), count);
	return fd;
}

/* Of a file no more is kept than little: a record or two, whatever the socket
 * has left. */
static void test_file_for_a_slow_client(void **state)
{
	struct segment_tickets none = { 0 };
	struct tls_context *context = make_context(&none);
	struct talk k = { 0 };
	size_t bytes = 16u << 20, count = 0;
	char *sent = malloc(bytes), *got = malloc(bytes + 1);
	int file, rc;
	uint64_t done = 0;
	unsigned keeps = 0;

	(void)state;
	for (size_t n = 0; n < bytes; n++)
		sent[n] = (char)(n * 5 + n / 253);
	file = make_file(sent, bytes);
	talk_init(&k, context, TLS1_3_VERSION, NULL);
	talk_by_tcp(&k, 0);
	shake_hands(&k);
	for (unsigned turns = 0; count < bytes; turns++) {
		assert_true(turns < 100000);
		while (done < bytes && wire_flush(&k.wire) && k.wire.writable) {
			int64_t n = wire_file(&k.wire, file, done, bytes - done,
					      false);

			assert_true(n >= 0);
			done += (uint64_t)n;
			assert_true(k.wire.out_bytes < 2 * 17000);
			keeps += k.wire.out != NULL;
		}
		/* about as much as makes a socket writable again */
		for (unsigned n = 0; n < 40; n++) {
			rc = SSL_read(k.ssl, got + count,
				      (int)(bytes + 1 - count));
			if (rc > 0)
				count += (size_t)rc;
		}
		k.wire.writable = true;
		(void)wire_flush(&k.wire);
	}
	assert_true(keeps > 0);
	assert_memory_equal(got, sent, bytes);
	assert_int_equal(wire_file(&k.wire, file, bytes, 1, false), -ENODATA);
	close(file);
	talk_fini(&k);
	tls_context_free(context);
	free(sent);
	free(got);
}

#define HELD_BYTES 4096u /* what TCP takes with little room */

/* Waits for what the client's reading makes free, as an event would tell. */
static void await_room(struct wire *w)
{
	struct pollfd p = { w->fd, POLLOUT, 0 };

	if (poll(&p, 1, 5) == 1)
		w->writable = true;
}

static void set_lowat(const struct wire *w, int bytes)
{
	assert_int_equal(setsockopt(w->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
				    &bytes, sizeof(bytes)),
			 0);
}

/* So that TCP takes a part of a record. */
static void give_little_room(const struct wire *w)
{
	int unsent;

	assert_int_equal(ioctl(w->fd, SIOCOUTQNSD, &unsent), 0);
	set_lowat(w, unsent + 1);
}

/* Keeps the kernel's own work for this socket from being done before we wait;
 * it takes root. */
static void go_before_the_kernel(bool on)
{
	struct sched_param param = { .sched_priority = on };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int n = 0; n < (on ? 1 : CPU_SETSIZE); n++)
		CPU_SET(n, &cpus);
	(void)!sched_setaffinity(0, sizeof(cpus), &cpus);
	(void)!sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param);
}

/* One record at most; true: the peer has not ended. */
static bool read_some(struct talk *k, char *got, size_t most, size_t *count)
{
	int rc = SSL_read(k->ssl, got + *count, (int)(most - *count));

	if (rc > 0)
		*count += (size_t)rc;
	return rc > 0 || SSL_get_error(k->ssl, rc) == SSL_ERROR_WANT_READ;
}

/* Sends of a file as much as `least`, and where the kernel encrypts more until
 * it holds a large part of a record.  How much. */
static size_t send_until_held(struct talk *k, int file, size_t least,
			      size_t most, char *got, size_t *count)
{
	bool by_kernel = wire_kernel_encrypts(&k->wire);
	size_t done = 0;

	for (unsigned turns = 0; done < most; turns++) {
		int64_t n;

		assert_true(turns < 20000);
		if (done >= least &&
		    (!by_kernel || tls_kernel_holds(k->wire.tls) > HELD_BYTES))
			break;
		if (wire_flush(&k->wire) && k->wire.writable) {
			n = wire_file(&k->wire, file, done, most - done, false);
			assert_true(n >= 0);
			done += (size_t)n;
		} else {
			(void)read_some(k, got, most + 1, count);
			await_room(&k->wire);
		}
	}
	return done;
}

/* Whoever encrypts, and however full the socket is at the end. */
static void test_nothing_is_lost_at_the_end(void **state)
{
	size_t most = 512u * 1024u;
	char *sent = malloc(most), *got = malloc(most + 1);
	int file;

	(void)state;
	for (size_t n = 0; n < most; n++)
		sent[n] = (char)(n * 3 + n / 257);
	file = make_file(sent, most);
	for (unsigned round = 0; round < 8; round++) {
		struct tls_context *context = make_kernel_context();
		struct talk k = { 0 };
		size_t done, count = 0;
		bool ended;

		talk_init(&k, context, versions[round % 2], NULL);
		talk_by_tcp(&k, 8192);
		shake_hands(&k);
		assert_int_equal(wire_kernel_encrypts(&k.wire),
				 tls_kernel_has_it());
		set_lowat(&k.wire, 20000);
		done = send_until_held(&k, file, round * 10000, most, got,
				       &count);
		if (tls_kernel_has_it()) /* else nothing would be tested */
			assert_true(done < most);
		go_before_the_kernel(true);
		give_little_room(&k.wire);
		ended = wire_say_end(&k.wire);
		for (unsigned turns = 0; !ended; turns++) {
			assert_true(turns < 20000);
			go_before_the_kernel(false);
			(void)read_some(&k, got, most + 1, &count);
			await_room(&k.wire);
			ended = wire_say_end(&k.wire);
		}
		assert_int_equal(wire_shutdown(&k.wire), 0);
		go_before_the_kernel(false);
		while (read_some(&k, got, most + 1, &count)) {
			struct pollfd p = { k.fd, POLLIN, 0 };

			assert_int_equal(poll(&p, 1, 5000), 1);
		}
		assert_int_equal(SSL_get_shutdown(k.ssl),
				 SSL_RECEIVED_SHUTDOWN);
		assert_int_equal(count, done);
		assert_memory_equal(got, sent, done);
		talk_fini(&k);
		tls_context_free(context);
	}
	close(file);
	free(sent);
	free(got);
}

/* Who sends what is no byte of HTTP, for ever, does not keep others from their
 * turn, and is read on in the next one. */
static void test_updates_of_keys_without_end(void **state)
{
	struct segment_tickets tickets = { 0 };
	struct tls_context *context;
	struct talk k = { 0 };
	unsigned sent = 0, turns = 0;
	char got[16];

	(void)state;
	assert_int_equal(tls_tickets_rotate(&tickets), 0);
	context = make_context(&tickets);
	talk_init(&k, context, TLS1_3_VERSION, NULL);
	talk_by_tcp(&k, 0);
	shake_hands(&k);
	while (sent < 4000 &&
	       SSL_key_update(k.ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
	       SSL_do_handshake(k.ssl) == 1)
		sent++;
	assert_true(sent * 27 > 65536); /* bytes of their records */
	k.wire.readable = true;
	do {
		assert_true(turns < 1000);
		assert_int_equal(wire_receive(&k.wire, got, sizeof(got)), 0);
		assert_false(k.wire.broken);
		turns++;
	} while (wire_was_cut_short(&k.wire));
	assert_true(turns > 1);
	talk_fini(&k);
	tls_context_free(context);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_tickets_outlive_two_rotations),
		cmocka_unit_test(test_keys_that_are_being_changed),
		cmocka_unit_test(test_no_tickets),
		cmocka_unit_test(test_end_behind_kept_bytes),
		cmocka_unit_test(test_file_for_a_slow_client),
		cmocka_unit_test(test_nothing_is_lost_at_the_end),
		cmocka_unit_test(test_updates_of_keys_without_end),
	};

	return cmocka_run_group_tests_name("http_tls", tests, make_pems,
					   free_pems);
}

#include "http/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/tls_kernel.h"
#include "http/wire.h"

/*
 * Where the bytes go on their way out: the file is read into plain[], 64 KiB
 * at a time; OpenSSL makes records of 16 KiB of it and writes them, through
 * the BIO below, into batch[]; one send() takes them all.  Both buffers are
 * the process's.  Only what a send() leaves over is kept per connection.
 *
 * Where the kernel encrypts, OpenSSL hands it the key at the end of the
 * handshake.  From then on what is sent is plain text, files go by sendfile(),
 * and only records that are no data (tickets, alerts) come through the BIO.
 */
#define RECORD_OVERHEAD 256u /* of four records; what is more is flushed */

/* Read from the socket without a byte of the peer's in it (handshakes, updates
 * of keys) until others have their turn.  More than two records. */
#define TURN_READ_BYTES 65536u

/* OpenSSL's BIO_CTRL_SET_KTLS, which its public headers leave out. */
#define CTRL_SET_KTLS 72

struct batch {
	uint32_t used;
	char bytes[TLS_SEND_BYTES + RECORD_OVERHEAD];
	char plain[TLS_SEND_BYTES];
};

struct certificate {
	SSL_CTX *ctx;
	X509 *leaf; /* ctx's */
};

struct tls_context {
	struct certificate *certificates;
	size_t count;
	const struct segment_tickets *tickets;
	BIO_METHOD *method;
	struct batch *batch;
	bool kernel; /* is to encrypt, if it takes the connection's cipher */
};

struct tls {
	SSL *ssl;
	struct tls_context *context;
	struct wire *wire;
	BIO *reads;  /* the SSL's, where the kernel may encrypt */
	BIO *socket; /* OpenSSL's own, which sets the kernel up; NULL = never */
	struct tls_kernel counts;
	uint32_t turn_bytes; /* read in this tls_receive() */
	bool has_input : 1;  /* OpenSSL may hold bytes of the peer */
	bool cut_short : 1;  /* the last tls_receive() left some unread */
	bool failed : 1;     /* no call may follow an SSL error */
	bool kernel : 1;     /* encrypts what is sent from now on */
	bool said_end : 1;   /* by the kernel */
};

/* --- BIO ----------------------------------------------------------------- */

/* What is gathered goes to the socket, or is kept. */
static int flush(struct tls *t, int flags)
{
	struct batch *b = t->context->batch;
	uint32_t used = b->used;

	b->used = 0;
	if (used == 0)
		return 0;
	return wire_send_clear(t->wire, b->bytes, used, flags);
}

static int bio_write(BIO *bio, const char *bytes, int count)
{
	struct tls *t = BIO_get_data(bio);
	struct batch *b = t->context->batch;
	size_t left = (size_t)count;

	BIO_clear_retry_flags(bio);
	if (t->kernel) { /* no data; it must not overtake what is kept */
		int n = t->wire->out == NULL
				? BIO_write(t->socket, bytes, count)
				: -1;

		if (n > 0)
			t->wire->taken += (uint64_t)n;
		return n;
	}
	while (left > 0) {
		size_t n = min_u64(left, sizeof(b->bytes) - b->used);

		if (n == 0 && flush(t, MSG_MORE) < 0)
			return -1;
		memcpy(b->bytes + b->used, bytes, n);
		b->used += (uint32_t)n;
		bytes += n;
		left -= n;
	}
	return count;
}

static int bio_read(BIO *bio, char *dst, int dst_bytes)
{
	struct tls *t = BIO_get_data(bio);
	size_t n;

	BIO_clear_retry_flags(bio);
	if (t->turn_bytes >= TURN_READ_BYTES) {
		t->cut_short = true;
		BIO_set_retry_read(bio);
		return -1;
	}
	n = wire_receive_clear(t->wire, dst, (size_t)dst_bytes);
	t->turn_bytes += (uint32_t)n;
	if (n > 0)
		return (int)n;
	if (t->wire->peer_closed)
		return 0;
	if (!t->wire->broken)
		BIO_set_retry_read(bio);
	return -1;
}

/* Only of these ciphers is it known what the kernel tells of them; and no file
 * goes by sendfile() in frames of HTTP/2. */
static bool is_for_kernel(const struct tls *t)
{
	const SSL_CIPHER *cipher = SSL_get_pending_cipher(t->ssl);
	int nid =
		cipher != NULL ? SSL_CIPHER_get_cipher_nid(cipher) : NID_undef;

	return (nid == NID_aes_128_gcm || nid == NID_aes_256_gcm) &&
	       !tls_chose_h2(t);
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
	struct tls *t = BIO_get_data(bio);
	long answer;

	/* the kernel is never asked to, or did not take the cipher */
	if (t->socket == NULL || bio == t->reads ||
	    (!t->kernel && tls_is_open(t)))
		return what == BIO_CTRL_FLUSH;
	if (t->kernel)
		return BIO_ctrl(t->socket, what, number, pointer);
	if (what != CTRL_SET_KTLS || !is_for_kernel(t))
		return what == BIO_CTRL_FLUSH;
	/* before the key changes all that has the old one goes out; where it
	 * does not, the kernel is not set up */
	(void)!flush(t, 0);
	if (t->wire->out != NULL || t->wire->broken)
		return 0;
	answer = BIO_ctrl(t->socket, what, number, pointer);
	t->kernel = BIO_get_ktls_send(t->socket);
	if (t->kernel &&
	    tls_kernel_begin(&t->counts, t->wire->fd, t->wire->taken) < 0)
		t->wire->broken = true;
	return answer;
}

static BIO_METHOD *make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
				     "reelcache wire");

	if (m == NULL)
		return NULL;
	if (BIO_meth_set_write(m, bio_write) != 1 ||
	    BIO_meth_set_read(m, bio_read) != 1 ||
	    BIO_meth_set_ctrl(m, bio_ctrl) != 1) {
		BIO_meth_free(m);
		return NULL;
	}
	return m;
}

/* --- tickets ------------------------------------------------------------- */

int tls_tickets_rotate(struct segment_tickets *tickets)
{
	struct segment_ticket_key fresh;
	uint32_t seq = atomic_load(&tickets->seq);

	if (RAND_bytes((unsigned char *)&fresh, sizeof(fresh)) != 1)
		return -EIO;
	atomic_store(&tickets->seq, seq + 1);
	atomic_thread_fence(memory_order_release);
	memmove(&tickets->keys[1], &tickets->keys[0],
		sizeof(tickets->keys) - sizeof(tickets->keys[0]));
	tickets->keys[0] = fresh;
	if (tickets->count < SEGMENT_TICKET_KEYS)
		tickets->count++;
	atomic_store(&tickets->seq, seq + 2);
	OPENSSL_cleanse(&fresh, sizeof(fresh));
	return 0;
}

/* False: they are being changed; the client gets no ticket, that is all. */
static bool read_tickets(const struct segment_tickets *from,
			 struct segment_tickets *to)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		uint32_t seq = atomic_load(&from->seq);

		if ((seq & 1) != 0)
			continue;
		to->count = from->count;
		memcpy(to->keys, from->keys, sizeof(to->keys));
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load(&from->seq) == seq)
			return to->count <= SEGMENT_TICKET_KEYS;
	}
	return false;
}

static int use_key(const struct segment_ticket_key *key,
		   const unsigned char *iv, EVP_CIPHER_CTX *cipher,
		   EVP_MAC_CTX *mac, int encrypt)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
						  (void *)key->hmac,
						  sizeof(key->hmac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
						 (char *)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};

	if (EVP_MAC_CTX_set_params(mac, params) != 1 ||
	    EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), key->aes, iv, encrypt,
			       NULL) != 1)
		return -1;
	return 0;
}

/* 1 = go on, 2 = go on and renew the ticket, 0 = no (full handshake), -1 =
 * error: as SSL_CTX_set_tlsext_ticket_key_evp_cb(3) says. */
static int choose_key(SSL *ssl, unsigned char name[16], unsigned char *iv,
		      EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
	const struct tls *t = SSL_get_app_data(ssl);
	struct segment_tickets now;
	int answer = 0;

	if (!read_tickets(t->context->tickets, &now) || now.count == 0)
		return 0;
	for (uint32_t n = 0; n < (encrypt ? 1 : now.count); n++) {
		const struct segment_ticket_key *key = &now.keys[n];

		if (encrypt) {
			memcpy(name, key->name, sizeof(key->name));
			if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(
						   EVP_aes_256_cbc())) != 1)
				return -1;
		} else if (memcmp(name, key->name, sizeof(key->name)) != 0) {
			continue;
		}
		if (use_key(key, iv, cipher, mac, encrypt) < 0)
			answer = -1;
		else
			answer = n == 0 ? 1 : 2;
		break;
	}
	OPENSSL_cleanse(&now, sizeof(now));
	return answer;
}

/* --- contexts ------------------------------------------------------------ */

static int refuse(char why[TLS_WHY_BYTES], const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	snprintf(why, TLS_WHY_BYTES, "%s%s%s", what, reason != NULL ? ": " : "",
		 reason != NULL ? reason : "");
	ERR_clear_error();
	return -EINVAL;
}

static int no_passphrase(char *dst UNUSED, int dst_bytes UNUSED,
			 int writing UNUSED, void *arg UNUSED)
{
	return -1;
}

static int load_chain(SSL_CTX *ctx, BIO *bio, char why[TLS_WHY_BYTES])
{
	X509 *one = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
	int rc;

	if (one == NULL)
		return refuse(why, "no certificate in PEM form");
	rc = SSL_CTX_use_certificate(ctx, one);
	X509_free(one);
	if (rc != 1)
		return refuse(why, "the certificate cannot be used");
	while ((one = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) !=
	       NULL)
		if (SSL_CTX_add0_chain_cert(ctx, one) != 1) {
			X509_free(one);
			return refuse(why, "a bad certificate in the chain");
		}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return refuse(why, "a bad certificate in the chain");
	ERR_clear_error(); /* that is how the end is told */
	return 0;
}

static int load_key(SSL_CTX *ctx, BIO *bio, char why[TLS_WHY_BYTES])
{
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	int rc;

	if (key == NULL)
		return refuse(why, "no private key in PEM form without a "
				   "passphrase");
	rc = SSL_CTX_use_PrivateKey(ctx, key);
	EVP_PKEY_free(key);
	if (rc != 1 || SSL_CTX_check_private_key(ctx) != 1)
		return refuse(why, "the key does not belong to the "
				   "certificate");
	return 0;
}

static int load_pem(SSL_CTX *ctx, const struct tls_pem *pem,
		    char why[TLS_WHY_BYTES])
{
	BIO *bio = BIO_new_mem_buf(pem->certificate, -1);
	int rc = -ENOMEM;

	if (bio != NULL)
		rc = load_chain(ctx, bio, why);
	BIO_free(bio);
	if (rc < 0)
		return rc;
	bio = BIO_new_mem_buf(pem->key, -1);
	rc = bio != NULL ? load_key(ctx, bio, why) : -ENOMEM;
	BIO_free(bio);
	return rc;
}

/* The server's order, HTTP/2 first; without any in common, HTTP/1.1. */
static int choose_protocol(SSL *ssl UNUSED, const unsigned char **out,
			   unsigned char *out_bytes,
			   const unsigned char *offered, unsigned offered_bytes,
			   void *arg UNUSED)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";

	/* it writes through `out` even when nothing is in common */
	if (SSL_select_next_proto((unsigned char **)out, out_bytes, ours,
				  sizeof(ours) - 1, offered,
				  offered_bytes) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

/* A further certificate for the same host: another kind of key, for clients
 * that cannot check the first one's. */
static void offer_too(SSL *ssl, const struct certificate *c)
{
	STACK_OF(X509) *chain = NULL;

	(void)SSL_CTX_get0_chain_certs(c->ctx, &chain);
	/* not taken when there is one of this kind */
	if (SSL_use_cert_and_key(ssl, c->leaf, SSL_CTX_get0_privatekey(c->ctx),
				 chain, 0) != 1)
		ERR_clear_error();
}

/* The certificates that name the host. */
static int choose_certificate(SSL *ssl, int *alert UNUSED, void *arg UNUSED)
{
	const struct tls *t = SSL_get_app_data(ssl);
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	bool found = false;

	if (host == NULL)
		return SSL_TLSEXT_ERR_OK;
	for (size_t n = 0; n < t->context->count; n++) {
		const struct certificate *c = &t->context->certificates[n];

		if (X509_check_host(c->leaf, host, 0, 0, NULL) != 1)
			continue;
		if (found)
			offer_too(ssl, c);
		else if (n > 0 && SSL_set_SSL_CTX(ssl, c->ctx) == NULL)
			return SSL_TLSEXT_ERR_ALERT_FATAL;
		found = true;
	}
	return SSL_TLSEXT_ERR_OK;
}

/* A key that the kernel has cannot be changed (before Linux 6.14, and by this
 * OpenSSL).  A peer that wants that must not get a byte more with the old one
 * (RFC 8446 section 4.6.3): it is left. */
static void note_message(int sent, int version UNUSED, int type,
			 const void *message, size_t bytes, SSL *ssl,
			 void *arg UNUSED)
{
	const uint8_t *at = message;
	struct tls *t = SSL_get_app_data(ssl);

	if (sent == 0 && type == SSL3_RT_HANDSHAKE &&
	    bytes == SSL3_HM_HEADER_LENGTH + 1 && at[0] == SSL3_MT_KEY_UPDATE &&
	    at[SSL3_HM_HEADER_LENGTH] != 0 && t->kernel)
		t->wire->broken = true;
}

static SSL_CTX *make_ctx(const struct tls_context *context)
{
	/* authenticated and with forward secrecy only (RFC 9325); 128 bits
	 * first: they are enough, and cost a quarter less */
	static const char suites[] = "TLS_AES_128_GCM_SHA256:"
				     "TLS_AES_256_GCM_SHA384:"
				     "TLS_CHACHA20_POLY1305_SHA256";
	static const char ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:"
				      "ECDHE-RSA-AES128-GCM-SHA256:"
				      "ECDHE+AESGCM:ECDHE+CHACHA20";
	static const unsigned char session_context[] = "reelcache";
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (ctx == NULL)
		return NULL;
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION |
					 SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_PRIORITIZE_CHACHA |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	if (context->kernel) {
		SSL_CTX_set_options(ctx, SSL_OP_ENABLE_KTLS);
		SSL_CTX_set_msg_callback(ctx, note_message);
	}
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* no early data: a replayed request would be nobody's */
	SSL_CTX_set_max_early_data(ctx, 0);
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
	SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
	if (context->tickets != NULL)
		SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, choose_key);
	else
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, suites) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, ciphers) != 1 ||
	    SSL_CTX_set_num_tickets(ctx, context->tickets != NULL ? 1 : 0) !=
		    1 ||
	    SSL_CTX_set_session_id_context(ctx, session_context,
					   sizeof(session_context) - 1) != 1) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

int tls_context_new(struct tls_context **out, const struct tls_pem *pems,
		    size_t count, const struct segment_tickets *tickets,
		    bool kernel, char why[TLS_WHY_BYTES])
{
	struct tls_context *context = calloc(1, sizeof(*context));
	int rc = -ENOMEM;

	must(count > 0);
	if (context == NULL)
		return -ENOMEM;
	context->tickets = tickets;
	context->kernel = kernel && tls_kernel_has_it();
	context->method = make_method();
	context->batch = malloc(sizeof(*context->batch));
	context->certificates = calloc(count, sizeof(*context->certificates));
	if (context->method == NULL || context->batch == NULL ||
	    context->certificates == NULL)
		goto fail;
	context->batch->used = 0;
	for (size_t n = 0; n < count; n++) {
		struct certificate *c = &context->certificates[n];

		c->ctx = make_ctx(context);
		if (c->ctx == NULL)
			goto fail;
		context->count++;
		rc = load_pem(c->ctx, &pems[n], why);
		if (rc < 0)
			goto fail;
		c->leaf = SSL_CTX_get0_certificate(c->ctx);
	}
	*out = context;
	return 0;

fail:
	tls_context_free(context);
	return rc;
}

void tls_context_free(struct tls_context *context)
{
	if (context == NULL)
		return;
	for (size_t n = 0; n < context->count; n++)
		SSL_CTX_free(context->certificates[n].ctx);
	free(context->certificates);
	free(context->batch);
	BIO_meth_free(context->method);
	free(context);
}

bool tls_kernel_has_it(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has;

	if (fd < 0)
		return false;
	/* known, but not for a socket that is not connected: ENOTCONN */
	has = setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", 3) == 0 ||
	      errno == ENOTCONN;
	close(fd);
	return has;
}

const char *tls_library_version(void)
{
	return OpenSSL_version(OPENSSL_VERSION_STRING);
}

/* --- connections --------------------------------------------------------- */

static BIO *make_bio(struct tls *t)
{
	BIO *bio = BIO_new(t->context->method);

	if (bio != NULL) {
		BIO_set_data(bio, t);
		BIO_set_init(bio, 1);
	}
	return bio;
}

struct tls *tls_new(struct tls_context *context)
{
	struct tls *t = calloc(1, sizeof(*t));
	BIO *bio;

	if (t == NULL)
		return NULL;
	t->context = context;
	t->ssl = SSL_new(context->certificates[0].ctx);
	bio = t->ssl != NULL ? make_bio(t) : NULL;
	if (bio == NULL)
		goto fail;
	SSL_set_bio(t->ssl, bio, bio);
	if (context->kernel) {
		t->reads = bio;
		bio = make_bio(t);
		if (bio == NULL)
			goto fail;
		SSL_set0_wbio(t->ssl, bio);
		t->socket = BIO_new(BIO_s_socket());
		if (t->socket == NULL)
			goto fail;
	}
	SSL_set_app_data(t->ssl, t);
	SSL_set_accept_state(t->ssl);
	return t;

fail:
	ERR_clear_error();
	tls_free(t);
	return NULL;
}

void tls_free(struct tls *t)
{
	if (t == NULL)
		return;
	SSL_free(t->ssl);
	BIO_free(t->socket);
	free(t);
}

void tls_attach(struct tls *t, struct wire *w)
{
	t->wire = w;
	if (t->socket != NULL)
		BIO_set_fd(t->socket, w->fd, BIO_NOCLOSE);
}

bool tls_kernel_sends(const struct tls *t)
{
	return t->kernel && tls_is_open(t);
}

uint64_t tls_kernel_holds(const struct tls *t)
{
	return t->kernel ? tls_kernel_count(&t->counts, t->wire->fd,
					    t->wire->taken)
			 : 0;
}

bool tls_has_input(const struct tls *t)
{
	return t->has_input;
}

bool tls_was_cut_short(const struct tls *t)
{
	return t->cut_short;
}

/* A fault of the peer or of ours; what it is told has been gathered. */
static void fail(struct tls *t)
{
	t->failed = true;
	ERR_clear_error();
	if (flush(t, 0) == 0 && t->wire->out == NULL)
		(void)shutdown(t->wire->fd, SHUT_WR);
	t->wire->broken = true;
}

size_t tls_receive(struct tls *t, void *dst, size_t dst_bytes)
{
	int n;

	if (t->failed || !(t->wire->readable || t->has_input))
		return 0;
	t->turn_bytes = 0;
	t->cut_short = false;
	ERR_clear_error(); /* SSL_get_error() looks at what is left of others */
	n = SSL_read(t->ssl, dst, (int)min_u64(dst_bytes, INT32_MAX));
	t->has_input = n > 0;
	if (n <= 0) {
		switch (SSL_get_error(t->ssl, n)) {
		case SSL_ERROR_WANT_READ:
			break;
		case SSL_ERROR_ZERO_RETURN:
			t->wire->peer_closed = true;
			t->wire->readable = false;
			break;
		default:
			if (!t->wire->peer_closed) {
				fail(t);
				return 0;
			}
			/* it has just gone: RFC 8446 section 6.1 wants a
			 * close_notify, HTTP's framing does not need it */
			ERR_clear_error();
			t->failed = true;
			if (!SSL_is_init_finished(t->ssl))
				t->wire->broken = true;
		}
	}
	(void)!flush(t, 0);
	return n > 0 ? (size_t)n : 0;
}

static int encrypt(struct tls *t, const void *bytes, size_t count)
{
	must(count <= INT32_MAX);
	if (t->failed || t->wire->broken)
		return -EPIPE;
	if (SSL_write(t->ssl, bytes, (int)count) == (int)count)
		return 0;
	fail(t); /* the BIO takes all there is */
	return -EPIPE;
}

int tls_send(struct tls *t, const void *bytes, size_t count, int flags)
{
	int rc;

	/* its record ends here: nothing could push one that is held back */
	if (tls_kernel_sends(t))
		return wire_send_clear(t->wire, bytes, count, 0);
	rc = encrypt(t, bytes, count);
	if (rc == 0)
		rc = flush(t, flags);
	return rc;
}

/* As long as the socket takes all of it. */
int64_t tls_file(struct tls *t, int file_fd, uint64_t file_off, uint64_t count)
{
	struct batch *b = t->context->batch;
	uint64_t done = 0;
	size_t room = 0;

	while (done < count && t->wire->out == NULL && t->wire->writable) {
		size_t want;
		int64_t n;

		if (room < TLS_SEND_BYTES)
			room = wire_room(t->wire);
		want = min_u64(count - done, min_u64(room, TLS_SEND_BYTES));
		n = wire_read_file(file_fd, b->plain, want, file_off + done);
		if (n < 0 && done > 0)
			break; /* told when it is asked for again */
		if (n < 0)
			return n;
		done += (uint64_t)n;
		room -= (size_t)n;
		/* MSG_MORE: no segment that is not full, but the last */
		if (tls_send(t, b->plain, (size_t)n,
			     done < count ? MSG_MORE : 0) < 0)
			return -EPIPE;
	}
	return (int64_t)done;
}

/* OpenSSL would take it for sent when it was not. */
static bool shutdown_by_kernel(struct tls *t)
{
	int n;

	if (t->said_end || !wire_flush(t->wire))
		return t->said_end;
	n = tls_kernel_say_end(t->wire->fd);
	if (n > 0) {
		t->said_end = true;
		t->wire->taken += (uint64_t)n;
	} else if (n == -EAGAIN) {
		t->wire->writable = false;
	} else {
		t->wire->broken = true;
	}
	return t->said_end;
}

bool tls_shutdown(struct tls *t)
{
	if (tls_kernel_sends(t))
		return shutdown_by_kernel(t);
	if (t->failed || t->wire->broken || !SSL_is_init_finished(t->ssl) ||
	    (SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN) != 0)
		return true;
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
	(void)!flush(t, 0);
	return true;
}

bool tls_chose_h2(const struct tls *t)
{
	const unsigned char *name;
	unsigned bytes;

	SSL_get0_alpn_selected(t->ssl, &name, &bytes);
	return bytes == 2 && memcmp(name, "h2", 2) == 0;
}

bool tls_is_open(const struct tls *t)
{
	return SSL_is_init_finished(t->ssl) == 1;
}

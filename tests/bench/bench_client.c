/*
 * bench_client - many HTTP/1.1 connections from one thread, every byte checked.
 *
 * Each connection asks for ranges of one URL, reads the answer, compares it
 * with the file that the URL stands for, and asks again on the same
 * connection.  What it measured goes to standard output as one JSON object:
 * bytes, requests, errors, latencies.  Standard error is for people.
 *
 *   bench_client --port N --path P --file F [options]
 *     --address A        default 127.0.0.1
 *     --connections N    default 16
 *     --range BYTES      random ranges of this size, at multiples of it;
 *                        0 = the whole file by GET without Range
 *     --requests N       per connection, 0 = until --bytes or --seconds
 *     --bytes N          stop asking after so many body bytes in all
 *     --seconds N        stop asking after this time
 *     --rate BYTES       read at most so many bytes/s on each connection
 *     --idle             one request per connection, then hold it open
 *     --hold             print "ready" when every connection is open and has
 *                        got its first body byte; end when standard input ends
 *     --seed N           of the random ranges
 *     --no-verify        count bytes, do not compare
 *
 * Exit status: 0 no error, 1 wrong bytes or failed requests, 2 usage or no
 * connection at all.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD_BYTES 4096u
#define READ_BYTES (256u * 1024u)
#define SLOW_BYTES (16u * 1024u) /* one read of a slow connection */
#define LATENCIES  (1u << 20)
#define EVENTS     256
#define SILENCE_MS 60000u /* a server that says nothing so long has hung */

struct options {
	const char *address;
	const char *path;
	const char *file;
	uint64_t bytes;
	uint64_t range_bytes;
	uint64_t rate_bps;
	uint64_t seed;
	uint32_t connections;
	uint32_t requests;
	uint32_t seconds;
	uint16_t port;
	bool idle;
	bool hold;
	bool verify;
};

enum peer_state {
	PEER_HEAD, /* a request was sent, its answer's head is awaited */
	PEER_BODY,
	PEER_REST, /* nothing more to ask */
	PEER_DEAD
};

struct peer {
	int fd;
	enum peer_state state;
	uint32_t asked; /* requests so far */
	uint32_t head_used;
	bool got_byte;
	uint64_t from;               /* next body byte's place in the file */
	uint64_t left;               /* body bytes to come */
	uint64_t want_from, want_to; /* what was asked */
	uint64_t asked_us;
	uint64_t due_us; /* slow: next read */
	uint64_t random;
	char head[HEAD_BYTES];
};

static struct {
	struct options opt;
	const uint8_t *file;
	uint64_t file_bytes;
	struct peer *peers;
	int epoll;
	uint8_t buffer[READ_BYTES];
	uint32_t *latency_us; /* of whole answers; the first LATENCIES */
	uint32_t *first_us;   /* time to first body byte */
	uint32_t latencies, firsts;
	uint64_t body_bytes, requests, errors, wrong;
	uint64_t begun_us, last_byte_us;
	uint32_t alive, started;
	bool stop;
} bench;

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_client: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* xorshift64*: each connection has its own, so runs can be repeated */
static uint64_t random_next(struct peer *p)
{
	p->random ^= p->random >> 12;
	p->random ^= p->random << 25;
	p->random ^= p->random >> 27;
	return p->random * UINT64_C(2685821657736338717);
}

static void peer_fail(struct peer *p, const char *why)
{
	if (bench.errors < 5)
		fprintf(stderr,
			"bench_client: bytes %" PRIu64 "-%" PRIu64 ": %s\n",
			p->want_from, p->want_to, why);
	bench.errors++;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->state = PEER_DEAD;
	bench.alive--;
	if (!p->got_byte) {
		p->got_byte = true;
		bench.started++;
	}
}

static void peer_rest(struct peer *p)
{
	p->state = PEER_REST;
	bench.alive--;
}

static bool more_wanted(const struct peer *p)
{
	if (bench.stop || (bench.opt.idle && p->asked > 0))
		return false;
	if (bench.opt.requests > 0 && p->asked >= bench.opt.requests)
		return false;
	return bench.opt.bytes == 0 || bench.body_bytes < bench.opt.bytes;
}

static void peer_ask(struct peer *p)
{
	char request[1024];
	uint64_t slots;
	int n;

	p->want_from = 0;
	p->want_to = bench.file_bytes;
	if (bench.opt.range_bytes > 0) {
		slots = bench.file_bytes / bench.opt.range_bytes;
		p->want_from = random_next(p) % slots * bench.opt.range_bytes;
		p->want_to = p->want_from + bench.opt.range_bytes;
		n = snprintf(request, sizeof(request),
			     "GET %s HTTP/1.1\r\nHost: %s:%u\r\n"
			     "Range: bytes=%" PRIu64 "-%" PRIu64 "\r\n\r\n",
			     bench.opt.path, bench.opt.address, bench.opt.port,
			     p->want_from, p->want_to - 1);
	} else {
		n = snprintf(request, sizeof(request),
			     "GET %s HTTP/1.1\r\nHost: %s:%u\r\n\r\n",
			     bench.opt.path, bench.opt.address, bench.opt.port);
	}
	if (n < 0 || (size_t)n >= sizeof(request)) {
		fputs("bench_client: the path is too long\n", stderr);
		exit(2);
	}
	p->asked++;
	p->asked_us = now_us();
	p->head_used = 0;
	p->state = PEER_HEAD;
	/* an empty socket buffer always takes a request as a whole */
	if (send(p->fd, request, (size_t)n, MSG_NOSIGNAL) != n)
		peer_fail(p, "the request could not be sent");
}

static const char *field_find(const char *head, const char *name)
{
	size_t n = strlen(name);
	const char *line = strstr(head, "\r\n");

	for (; line != NULL && line[2] != '\0'; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, n) == 0 && line[n] == ':')
			return line + n + 1;
	}
	return NULL;
}

/* The head is whole and NUL-terminated.  NULL, or what is wrong with it. */
static const char *head_judge(struct peer *p)
{
	uint64_t from = 0, to = bench.file_bytes, size = to;
	const char *value;
	unsigned status = 0;

	if (sscanf(p->head, "HTTP/1.%*c %3u", &status) != 1)
		return "not an HTTP/1 answer";
	if (status != (bench.opt.range_bytes > 0 ? 206u : 200u)) {
		p->head[strcspn(p->head, "\r")] = '\0';
		return p->head;
	}
	value = field_find(p->head, "content-length");
	if (value == NULL || sscanf(value, "%" SCNu64, &p->left) != 1)
		return "no Content-Length";
	if (status == 206) {
		value = field_find(p->head, "content-range");
		if (value == NULL ||
		    sscanf(value, " bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64,
			   &from, &to, &size) != 3)
			return "no Content-Range";
		to++;
	}
	if (size != bench.file_bytes)
		return "another size than the file has";
	if (from != p->want_from || to != p->want_to || p->left != to - from)
		return "another range than was asked";
	p->from = from;
	return NULL;
}

static void keep(uint32_t *list, uint32_t *used, uint64_t us)
{
	if (*used < LATENCIES)
		list[(*used)++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static void peer_body(struct peer *p, const uint8_t *bytes, size_t n,
		      uint64_t at_us)
{
	if (n > 0 && p->from == p->want_from)
		keep(bench.first_us, &bench.firsts, at_us - p->asked_us);
	if (n > 0 && !p->got_byte) {
		p->got_byte = true;
		bench.started++;
	}
	if (bench.opt.verify && memcmp(bytes, bench.file + p->from, n) != 0) {
		bench.wrong++;
		peer_fail(p, "WRONG BYTES");
		return;
	}
	p->from += n;
	p->left -= n;
	bench.body_bytes += n;
	bench.last_byte_us = at_us;
	if (p->left > 0)
		return;
	bench.requests++;
	keep(bench.latency_us, &bench.latencies, at_us - p->asked_us);
	if (more_wanted(p))
		peer_ask(p);
	else
		peer_rest(p);
}

/* Takes what was read, head or body.  A server may not send more than was
 * asked for: this client never pipelines. */
static void peer_take(struct peer *p, const uint8_t *bytes, size_t n,
		      uint64_t at_us)
{
	const char *end, *why;
	size_t room, was, head_bytes;

	if (p->state == PEER_HEAD) {
		was = p->head_used;
		room = sizeof(p->head) - 1 - was;
		if (room > n)
			room = n;
		memcpy(p->head + was, bytes, room);
		p->head_used += (uint32_t)room;
		p->head[p->head_used] = '\0';
		end = strstr(p->head, "\r\n\r\n");
		if (end == NULL) {
			if (p->head_used == sizeof(p->head) - 1)
				peer_fail(p, "a head without an end");
			return;
		}
		head_bytes = (size_t)(end + 4 - p->head) - was;
		p->head[head_bytes + was] = '\0';
		why = head_judge(p);
		if (why != NULL) {
			peer_fail(p, why);
			return;
		}
		p->state = PEER_BODY;
		bytes += head_bytes;
		n -= head_bytes;
	}
	if (p->state == PEER_BODY && n <= p->left)
		peer_body(p, bytes, n, at_us);
	else if (n > 0)
		peer_fail(p, "more bytes than were promised");
}

/* Reads once, at most `most` bytes.  Bytes read, or 0. */
static size_t peer_read(struct peer *p, size_t most)
{
	ssize_t n = recv(p->fd, bench.buffer, most, MSG_DONTWAIT);

	if (n > 0) {
		peer_take(p, bench.buffer, (size_t)n, now_us());
		return (size_t)n;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (p->state == PEER_REST) {
		close(p->fd);
		p->fd = -1;
		p->state = PEER_DEAD; /* an idle connection was closed */
	} else {
		peer_fail(p, n == 0 ? "the server closed the connection"
				    : strerror(errno));
	}
	return 0;
}

static void peer_watch(struct peer *p, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = p };

	if (epoll_ctl(bench.epoll, op, p->fd, &ev) < 0)
		fail("epoll_ctl");
}

static void peer_open(struct peer *p, uint32_t no)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(bench.opt.port) };
	int one = 1, small = 32 * 1024;

	p->random = (bench.opt.seed + no + 1) * UINT64_C(0x9e3779b97f4a7c15);
	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		fail("socket");
	if (inet_pton(AF_INET, bench.opt.address, &to.sin_addr) != 1) {
		fputs("bench_client: --address must be an IPv4 address\n",
		      stderr);
		exit(2);
	}
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* a slow client's window is small, else its kernel reads ahead */
	if (bench.opt.rate_bps > 0)
		setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (connect(p->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail("connect");
	bench.alive++;
	peer_watch(p, EPOLL_CTL_ADD, EPOLLIN);
	peer_ask(p);
	/* slow ones do not read in step with each other */
	p->due_us = now_us();
	if (bench.opt.rate_bps > 0)
		p->due_us += random_next(p) % (SLOW_BYTES * UINT64_C(1000000) /
						       bench.opt.rate_bps +
					       1);
}

/* Slow reading: those that are due read once; the others are not polled. */
static void slow_turn(void)
{
	uint64_t now = now_us(), pause_us;
	struct peer *p;
	uint32_t no;

	pause_us = SLOW_BYTES * UINT64_C(1000000) / bench.opt.rate_bps;
	for (no = 0; no < bench.opt.connections; no++) {
		p = &bench.peers[no];
		if (p->fd < 0 || p->state == PEER_REST || p->due_us > now)
			continue;
		if (peer_read(p, SLOW_BYTES) == 0)
			p->due_us = now + 2000; /* nothing there yet */
		else
			p->due_us += pause_us;
	}
}

static void loop_turn(int wait_ms)
{
	struct epoll_event evs[EVENTS];
	int i, n;

	if (bench.opt.rate_bps > 0) {
		slow_turn();
		poll(NULL, 0, 2);
		return;
	}
	n = epoll_wait(bench.epoll, evs, EVENTS, wait_ms);
	if (n < 0 && errno != EINTR)
		fail("epoll_wait");
	for (i = 0; i < n; i++)
		peer_read(evs[i].data.ptr, sizeof(bench.buffer));
}

static bool input_ended(void)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

static void run(void)
{
	bool said_ready = false;
	uint64_t now, silent_since;
	uint64_t seen = 0;
	uint32_t no;

	bench.begun_us = now_us();
	silent_since = bench.begun_us;
	for (no = 0; no < bench.opt.connections; no++)
		bench.peers[no].fd = -1;
	for (no = 0; no < bench.opt.connections; no++) {
		peer_open(&bench.peers[no], no);
		if (no % 64 == 63)
			loop_turn(0); /* the server's backlog is not the test */
	}
	while (bench.alive > 0 || bench.opt.hold) {
		loop_turn(100);
		now = now_us();
		if (bench.body_bytes != seen || bench.alive == 0) {
			seen = bench.body_bytes;
			silent_since = now;
		} else if (now - silent_since > SILENCE_MS * 1000u) {
			fputs("bench_client: no byte for 60 s\n", stderr);
			bench.errors++;
			return;
		}
		if (bench.opt.seconds > 0 &&
		    now - bench.begun_us >
			    bench.opt.seconds * UINT64_C(1000000))
			bench.stop = true;
		if (bench.opt.hold && !said_ready &&
		    bench.started == bench.opt.connections) {
			said_ready = true;
			puts("ready");
			fflush(stdout);
		}
		if (bench.opt.hold && input_ended())
			return;
	}
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void print_percentiles(const char *name, uint32_t *list, uint32_t used)
{
	static const double marks[] = { .5, .9, .99, .999, 1 };
	size_t i;

	qsort(list, used, sizeof(*list), compare_u32);
	printf(", \"%s\": {", name);
	for (i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		printf("%s\"p%g\": %" PRIu32, i > 0 ? ", " : "", marks[i] * 100,
		       used > 0 ? list[(uint32_t)(marks[i] * (used - 1))] : 0);
	printf("}");
}

static void print_result(void)
{
	uint64_t end_us =
		bench.last_byte_us > 0 ? bench.last_byte_us : now_us();
	struct rusage use;
	uint32_t no, held = 0;

	getrusage(RUSAGE_SELF, &use);
	for (no = 0; no < bench.opt.connections; no++)
		held += bench.peers[no].fd >= 0;
	printf("{\"bytes\": %" PRIu64 ", \"requests\": %" PRIu64
	       ", \"errors\": %" PRIu64 ", \"wrong\": %" PRIu64
	       ", \"open\": %" PRIu32 ", \"seconds\": %.6f"
	       ", \"client_cpu_seconds\": %.3f",
	       bench.body_bytes, bench.requests, bench.errors, bench.wrong,
	       held, (double)(end_us - bench.begun_us) / 1e6,
	       (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
		       (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) /
			       1e6);
	print_percentiles("first_us", bench.first_us, bench.firsts);
	print_percentiles("latency_us", bench.latency_us, bench.latencies);
	puts("}");
}

static uint64_t number(const char *name, const char *text, uint64_t most)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' ||
	    n > most) {
		fprintf(stderr,
			"bench_client: --%s: %s is no number up to %" PRIu64
			"\n",
			name, text, most);
		exit(2);
	}
	return n;
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "address", required_argument, NULL, 'a' },
		{ "port", required_argument, NULL, 'p' },
		{ "path", required_argument, NULL, 'u' },
		{ "file", required_argument, NULL, 'f' },
		{ "connections", required_argument, NULL, 'c' },
		{ "range", required_argument, NULL, 'r' },
		{ "requests", required_argument, NULL, 'n' },
		{ "bytes", required_argument, NULL, 'b' },
		{ "seconds", required_argument, NULL, 't' },
		{ "rate", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'S' },
		{ "idle", no_argument, NULL, 'i' },
		{ "hold", no_argument, NULL, 'h' },
		{ "no-verify", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 }
	};
	struct options *o = &bench.opt;
	int c, index = 0;

	o->address = "127.0.0.1";
	o->connections = 16;
	o->verify = true;
	while ((c = getopt_long(argc, argv, "", names, &index)) != -1) {
		const char *name = names[index].name;

		switch (c) {
		case 'a':
			o->address = optarg;
			break;
		case 'p':
			o->port = (uint16_t)number(name, optarg, 65535);
			break;
		case 'u':
			o->path = optarg;
			break;
		case 'f':
			o->file = optarg;
			break;
		case 'c':
			o->connections = (uint32_t)number(name, optarg, 100000);
			break;
		case 'r':
			o->range_bytes = number(name, optarg, INT64_MAX);
			break;
		case 'n':
			o->requests =
				(uint32_t)number(name, optarg, UINT32_MAX);
			break;
		case 'b':
			o->bytes = number(name, optarg, INT64_MAX);
			break;
		case 't':
			o->seconds = (uint32_t)number(name, optarg, 86400);
			break;
		case 's':
			o->rate_bps = number(name, optarg, INT64_MAX);
			break;
		case 'S':
			o->seed = number(name, optarg, INT64_MAX);
			break;
		case 'i':
			o->idle = true;
			break;
		case 'h':
			o->hold = true;
			break;
		case 'v':
			o->verify = false;
			break;
		default:
			exit(2);
		}
	}
	if (o->port == 0 || o->path == NULL || o->file == NULL ||
	    o->connections == 0 || optind != argc) {
		fputs("usage: bench_client --port N --path P --file F ...\n",
		      stderr);
		exit(2);
	}
	if (!o->idle && o->requests == 0 && o->bytes == 0 && o->seconds == 0)
		o->requests = 1;
}

static void map_file(void)
{
	struct stat st;
	void *map;
	int fd = open(bench.opt.file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		fail(bench.opt.file);
	bench.file_bytes = (uint64_t)st.st_size;
	if (bench.file_bytes == 0 || bench.opt.range_bytes > bench.file_bytes) {
		fputs("bench_client: the file is smaller than a range\n",
		      stderr);
		exit(2);
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ,
		   MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		fail("mmap");
	close(fd);
	bench.file = map;
}

static void raise_descriptors(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	map_file();
	raise_descriptors();
	bench.peers = calloc(bench.opt.connections, sizeof(*bench.peers));
	bench.latency_us = calloc(LATENCIES, sizeof(*bench.latency_us));
	bench.first_us = calloc(LATENCIES, sizeof(*bench.first_us));
	bench.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (bench.peers == NULL || bench.latency_us == NULL ||
	    bench.first_us == NULL || bench.epoll < 0)
		fail("memory");
	run();
	print_result();
	return bench.errors > 0 ? 1 : 0;
}

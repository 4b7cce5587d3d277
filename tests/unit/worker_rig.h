/*
 * A real worker process with a real store, and the test in the role of the
 * prefetcher: it answers asks, writes chunk files and moves run rows.
 */
#ifndef REELCACHE_TESTS_UNIT_WORKER_RIG_H
#define REELCACHE_TESTS_UNIT_WORKER_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"
#include "ipc/ask.h"
#include "ipc/child.h"
#include "shm/segment.h"
#include "store/chunk.h"
#include "store/index.h"
#include "store/inflight.h"
#include "store/layout.h"
#include "util/clock.h"
#include "util/log.h"
#include "worker/worker.h"

#define RIG_CHUNK     65536u
#define RIG_DEADLINE  10000 /* ms: longest wait for anything */
#define RIG_REPLY_MAX (8u * 1024u * 1024u)

struct rig {
	char folder[32];
	char scratch[64];
	char conf_text[4096];
	struct conf *conf;
	struct segment *seg;
	struct inboxes ipc;
	struct index *index;
	struct inflight_table runs;
	int chunks_fd;
	int listen_fd;
	uint16_t port;
	pid_t pid;
	uint64_t run_no;
	uint64_t object_no;
};

static inline uint8_t rig_byte(uint64_t off)
{
	return (uint8_t)(off * 131 + (off >> 8) * 31 + (off >> 16) * 7);
}

static inline void rig_start_worker(struct rig *r)
{
	static const uint32_t first = 0;
	struct child self = {
		.conf = r->conf,
		.seg = r->seg,
		.ipc = &r->ipc,
		.slot = 0,
		.listen_fds = &r->listen_fd,
		.listen_nos = &first,
		.listen_count = 1,
		.admin_fd = -1,
	};
	struct child_ready ready;
	ssize_t n = 0;

	fflush(NULL);
	r->pid = fork();
	assert_true(r->pid >= 0);
	if (r->pid == 0) {
		log_set_who("worker");
		_exit(worker_main(&self));
	}
	atomic_store(&r->seg->procs[SEGMENT_PROC_WORKER0].pid,
		     (uint32_t)r->pid);
	for (int i = 0; i < RIG_DEADLINE / 10 && n == 0; i++) {
		struct pollfd p = { .fd = r->ipc.master.rx, .events = POLLIN };

		(void)poll(&p, 1, 10);
		n = inbox_receive(r->ipc.master.rx, &ready, sizeof(ready));
	}
	assert_int_equal(n, sizeof(ready));
	assert_int_equal(ready.type, CHILD_READY);
}

static inline int rig_stop_worker(struct rig *r, int signo)
{
	int status = -1;

	assert_int_equal(kill(r->pid, signo), 0);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	atomic_store(&r->seg->procs[SEGMENT_PROC_WORKER0].pid, 0);
	r->pid = 0;
	return status;
}

/* options: more lines of the configuration, sections and all. */
static inline void rig_open(struct rig *r, const char *options)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t at_bytes = sizeof(at);
	struct conf_fault fault;
	char name[160];
	char scratch[160];
	FILE *f;
	int on = 1;
	int fd;

	memset(r, 0, sizeof(*r));
	r->object_no = 1;
	r->run_no = 1;
	strcpy(r->folder, "/tmp/test_worker.XXXXXX");
	assert_non_null(mkdtemp(r->folder));
	snprintf(r->scratch, sizeof(r->scratch), "%s/scratch", r->folder);
	assert_int_equal(mkdir(r->scratch, 0700), 0);
	snprintf(r->conf_text, sizeof(r->conf_text),
		 "[cache]\npath = %s\nscratch = %s\nchunk = 64K\n"
		 "index = 16M\n%s[source:a]\nurl = http://h/{id}\n"
		 "[source:b]\nurl = http://g/{id}\n",
		 r->folder, r->scratch, options);
	snprintf(name, sizeof(name), "%s/ini", r->folder);
	f = fopen(name, "w");
	assert_non_null(f);
	fputs(r->conf_text, f);
	fclose(f);
	if (conf_load(name, &r->conf, &fault) != 0)
		fail_msg("%s", fault.text);
	assert_int_equal(segment_open(&r->seg), 0);
	assert_int_equal(inboxes_open(&r->ipc), 0);
	atomic_store(&r->seg->prefetcher_lives, 1);
	atomic_store(&r->seg->store_epoch, 1);
	inflight_init(&r->runs, r->seg, r->ipc.bells);
	snprintf(name, sizeof(name), "%s/chunks", r->folder);
	r->chunks_fd = chunk_folder_open(name, true);
	assert_true(r->chunks_fd >= 0);
	chunk_scratch_path(scratch, sizeof(scratch), r->scratch, r->folder);
	fd = chunk_folder_open(scratch, true);
	assert_true(fd >= 0);
	close(fd);
	snprintf(name, sizeof(name), "%s/index", r->folder);
	assert_int_equal(index_open(&r->index, name, 16 * MIB, true), 0);
	r->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(r->listen_fd >= 0);
	(void)setsockopt(r->listen_fd, IPPROTO_TCP, TCP_NODELAY, &on,
			 sizeof(on));
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(r->listen_fd, (void *)&at, sizeof(at)), 0);
	assert_int_equal(listen(r->listen_fd, 512), 0);
	assert_int_equal(getsockname(r->listen_fd, (void *)&at, &at_bytes), 0);
	r->port = ntohs(at.sin_port);
	rig_start_worker(r);
}

static inline int rig_remove_one(const char *path, const struct stat *st,
				 int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void rig_close(struct rig *r)
{
	if (r->pid > 0)
		assert_int_equal(rig_stop_worker(r, SIGTERM), 0);
	close(r->listen_fd);
	close(r->chunks_fd);
	index_close(r->index);
	inboxes_close(&r->ipc);
	segment_close(r->seg);
	conf_free(r->conf);
	(void)nftw(r->folder, rig_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A record with usual texts; not put anywhere. */
static inline void rig_record(struct rig *r, struct object_record *rec,
			      uint64_t size)
{
	memset(rec, 0, sizeof(*rec));
	rec->object_no = r->object_no++;
	rec->generation = 1;
	rec->size_bytes = size;
	rec->chunk_bytes = RIG_CHUNK;
	rec->date_s = 784111777;
	rec->stored_s = clock_wall_s() - 10;
	rec->fresh_until_s = clock_wall_s() + 3600;
	rec->age_s = 5;
	object_record_clear_texts(rec);
	assert_int_equal(object_record_set_text(rec, TEXT_ETAG, "\"v1\""), 0);
	assert_int_equal(
		object_record_set_text(rec, TEXT_LAST_MODIFIED,
				       "Sun, 06 Nov 1994 08:49:37 GMT"),
		0);
	assert_int_equal(
		object_record_set_text(rec, TEXT_CONTENT_TYPE, "video/mp4"), 0);
}

/* Bytes [from, to), all of one chunk, to the file of run_no. */
static inline void rig_write_file(struct rig *r, uint64_t run_no,
				  uint64_t run_from, uint64_t from, uint64_t to)
{
	uint64_t chunk_no = from / RIG_CHUNK;
	uint64_t file_from = chunk_no * RIG_CHUNK > run_from
				     ? chunk_no * RIG_CHUNK
				     : run_from;
	static uint8_t bytes[RIG_CHUNK];
	char name[64];
	int fd;

	assert_true(to <= (chunk_no + 1) * RIG_CHUNK);
	for (uint64_t off = from; off < to; off++)
		bytes[off - from] = rig_byte(off);
	if (from == file_from) {
		fd = chunk_create(r->chunks_fd, run_no, chunk_no);
	} else {
		/* the same file, open for writing */
		int ro = chunk_open(r->chunks_fd, run_no, chunk_no);

		assert_true(ro >= 0);
		snprintf(name, sizeof(name), "/proc/self/fd/%d", ro);
		fd = open(name, O_WRONLY);
		close(ro);
	}
	assert_true(fd >= 0);
	assert_int_equal(
		pwrite(fd, bytes, to - from, (off_t)(from - file_from)),
		(ssize_t)(to - from));
	close(fd);
}

static inline void rig_put_object(struct rig *r, const char *key,
				  const struct object_record *rec)
{
	assert_int_equal(index_begin_write(r->index), 0);
	assert_int_equal(index_put_object(r->index, key, strlen(key), rec), 0);
	assert_int_equal(index_commit(r->index), 0);
}

/* Stores bytes [from, to) of the object. */
static inline void rig_put_bytes(struct rig *r, const struct object_record *rec,
				 uint64_t from, uint64_t to)
{
	uint64_t run_no = r->run_no++;
	uint64_t run_from = from;

	assert_int_equal(index_begin_write(r->index), 0);
	while (from < to) {
		uint64_t border = (from / RIG_CHUNK + 1) * RIG_CHUNK;
		uint64_t end = border < to ? border : to;
		struct extent_record extent = { .to_off = end,
						.run_no = run_no,
						.epoch = 1 };
		struct extent_key key;

		rig_write_file(r, run_no, run_from, from, end);
		extent_key_make(&key, rec->object_no, rec->generation, from);
		assert_int_equal(index_put_extent(r->index, &key, &extent), 0);
		from = end;
	}
	assert_int_equal(index_commit(r->index), 0);
}

static inline struct inflight *rig_run_begin(struct rig *r,
					     const struct object_record *rec,
					     uint64_t from)
{
	struct inflight_want want = {
		.object_no = rec->object_no,
		.run_no = r->run_no++,
		.from_off = from,
		.size_bytes = rec->size_bytes,
		.generation = rec->generation,
		.chunk_bytes = rec->chunk_bytes,
	};
	struct inflight *in;

	assert_int_equal(inflight_begin(&r->runs, &want, &in), 0);
	return in;
}

/* More bytes of a run: from its to_off to `to`, which lies in one chunk. */
static inline void rig_run_grow(struct rig *r, struct inflight *in, uint64_t to)
{
	struct segment_run_view run;

	assert_true(segment_read_run(r->seg, in->row, &run));
	rig_write_file(r, run.run_no, run.from_off, run.to_off, to);
	inflight_publish(in, to);
}

static inline void rig_take_ask(struct rig *r, struct ask *ask)
{
	struct pollfd p = { .fd = r->ipc.prefetcher.rx, .events = POLLIN };

	assert_int_equal(poll(&p, 1, RIG_DEADLINE), 1);
	assert_int_equal(inbox_receive(r->ipc.prefetcher.rx, ask, sizeof(*ask)),
			 sizeof(*ask));
	assert_int_equal(ask->type, ASK_TYPE);
	assert_int_equal(ask->slot, 0);
}

static inline bool rig_has_ask(struct rig *r)
{
	struct pollfd p = { .fd = r->ipc.prefetcher.rx, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* reply: filled but for type, token and record. */
static inline void rig_reply(struct rig *r, const struct ask *ask,
			     struct reply *reply,
			     const struct object_record *rec)
{
	reply->type = REPLY_TYPE;
	reply->token = ask->token;
	reply->record_bytes = 0;
	if (rec != NULL) {
		reply->record_bytes = (uint32_t)object_record_bytes(rec);
		memcpy(&reply->record, rec, reply->record_bytes);
	}
	assert_int_equal(inbox_send(r->ipc.workers[0].tx, reply,
				    offsetof(struct reply, record) +
					    reply->record_bytes),
			 0);
}

/* window: bytes the client lets wait; 0 = the system's choice.  Segments are
 * those of a wire then: one of 64 KiB would wait for a timer each time. */
static inline int rig_connect_small(struct rig *r, int window)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons(r->port) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	if (window > 0) {
		const int segment = 1400;

		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window,
				 sizeof(window));
		(void)setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment,
				 sizeof(segment));
	}
	assert_int_equal(connect(fd, (void *)&at, sizeof(at)), 0);
	return fd;
}

static inline int rig_connect(struct rig *r)
{
	return rig_connect_small(r, 0);
}

static inline void rig_send(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 (ssize_t)strlen(text));
}

/* Bytes until the peer closes, or want of them; -1: reset. */
static inline ssize_t rig_receive(int fd, uint8_t *dst, size_t want)
{
	size_t got = 0;

	while (got < want) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, RIG_DEADLINE) != 1)
			fail_msg("nothing came after %zu of %zu bytes", got,
				 want);
		n = recv(fd, dst + got, want - got, 0);
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

struct rig_response {
	int status;
	char head[8192];
	uint64_t length; /* Content-Length; UINT64_MAX = none */
	uint8_t *body;
	size_t body_bytes;
};

/* Reads a head; byte by byte, so that nothing of the body is lost. */
static inline void rig_read_head(int fd, struct rig_response *res)
{
	size_t n = 0;
	const char *at;

	while (n < 4 || memcmp(res->head + n - 4, "\r\n\r\n", 4) != 0) {
		assert_true(n + 1 < sizeof(res->head));
		assert_int_equal(rig_receive(fd, (uint8_t *)res->head + n, 1),
				 1);
		n++;
	}
	res->head[n] = '\0';
	assert_int_equal(sscanf(res->head, "HTTP/1.1 %d ", &res->status), 1);
	at = strstr(res->head, "\r\nContent-Length: ");
	res->length = at != NULL ? strtoull(at + 18, NULL, 10) : UINT64_MAX;
}

static inline void rig_read_body(int fd, struct rig_response *res)
{
	assert_true(res->length <= RIG_REPLY_MAX);
	free(res->body);
	res->body = malloc(res->length + 1);
	res->body_bytes = res->length;
	assert_int_equal(rig_receive(fd, res->body, res->length),
			 (ssize_t)res->length);
	res->body[res->length] = '\0';
}

static inline void rig_check_bytes(const uint8_t *bytes, uint64_t from,
				   uint64_t to)
{
	for (uint64_t off = from; off < to; off++)
		if (bytes[off - from] != rig_byte(off))
			fail_msg("byte %llu is wrong", (unsigned long long)off);
}

static inline void rig_expect(int fd, struct rig_response *res, int status,
			      uint64_t from, uint64_t to)
{
	rig_read_head(fd, res);
	assert_int_equal(res->status, status);
	assert_int_equal(res->length, to - from);
	rig_read_body(fd, res);
	rig_check_bytes(res->body, from, to);
}

/* Waits until the statistic has this value. */
static inline void rig_await_stat(struct rig *r, enum stat_no no,
				  uint64_t value)
{
	for (int i = 0; i < RIG_DEADLINE; i++) {
		if (atomic_load(
			    &r->seg->stats[SEGMENT_PROC_WORKER0].value[no]) ==
		    value)
			return;
		(void)poll(NULL, 0, 1);
	}
	fail_msg("statistic %d is not %llu", (int)no,
		 (unsigned long long)value);
}

#endif

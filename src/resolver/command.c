#include "resolver/command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/words.h"

#define ERROR_BYTES   4096u /* of standard error: its end */
#define FILES_MAX     256u
#define FILE_BYTES    (64 * MIB) /* that a helper may write */
#define READ_BYTES    65536u
#define CONTROL_FD    3
#define STATUS_FD     4
#define STATUS_NO_RUN 127

struct command {
	const struct command_ops *ops;
	void *ctx;
	size_t output_most;
	char *output;
	size_t output_bytes, output_room;
	char error[ERROR_BYTES + 1]; /* the last bytes of standard error */
	size_t error_bytes;
	int control_fd; /* closing it ends the guard */
	int out_fd, error_fd, status_fd;
	struct event *out, *err, *status;
	bool too_long;
	pid_t guard;
};

/* ---- words ---- */

struct words {
	char *argv[COMMAND_WORDS_MAX + 1];
	size_t count;
};

static void free_words(struct words *w)
{
	for (size_t n = 0; n < w->count; n++)
		free(w->argv[n]);
}

/* One word with {url} and {id} replaced; NULL: out of memory. */
static char *expand(const char *word, size_t bytes,
		    const struct command_opts *opts)
{
	size_t url = strlen(opts->url), id = strlen(opts->id);
	/* every byte becomes at most one of these */
	char *text = malloc(bytes * (url + id + 1) + 1);
	size_t used = 0;

	if (text == NULL)
		return NULL;
	for (size_t n = 0; n < bytes;) {
		if (bytes - n >= 5 && memcmp(word + n, "{url}", 5) == 0) {
			memcpy(text + used, opts->url, url);
			used += url;
			n += 5;
		} else if (bytes - n >= 4 && memcmp(word + n, "{id}", 4) == 0) {
			memcpy(text + used, opts->id, id);
			used += id;
			n += 4;
		} else {
			text[used++] = word[n++];
		}
	}
	text[used] = '\0';
	return text;
}

static int make_words(struct words *w, const struct command_opts *opts)
{
	const char *at = opts->command;

	w->count = 0;
	for (size_t n; (n = words_next(&at)) > 0; at += n) {
		if (w->count == COMMAND_WORDS_MAX)
			return -E2BIG;
		w->argv[w->count] = expand(at, n, opts);
		if (w->argv[w->count] == NULL)
			return -ENOMEM;
		w->count++;
	}
	w->argv[w->count] = NULL;
	return w->count > 0 ? 0 : -ENOENT;
}

/* ---- in the guard and the program: no malloc, other threads of the resolver
 * may have held its lock at fork() ---- */

static void limit(int what, uint64_t most)
{
	const struct rlimit limits = { (rlim_t)most, (rlim_t)most };

	(void)setrlimit((__rlimit_resource_t)what, &limits);
}

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* nobody listens */
}

NORETURN static void run_program(const struct words *w,
				 const struct command_opts *opts)
{
	static char *const environment[] = {
		(char *)"PATH=/usr/local/bin:/usr/bin:/bin",
		(char *)"HOME=/nonexistent",
		(char *)"LANG=C.UTF-8",
		NULL,
	};

	(void)setpgid(0, 0);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	(void)close_range(CONTROL_FD, ~0u, 0);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_AS, opts->memory_bytes);
	limit(RLIMIT_CPU, opts->cpu_s);
	limit(RLIMIT_NOFILE, FILES_MAX);
	limit(RLIMIT_FSIZE, FILE_BYTES);
	(void)execvpe(w->argv[0], w->argv, environment);
	say("ERROR: ");
	say(w->argv[0]);
	say(": ");
	say(strerrordesc_np(errno));
	_exit(STATUS_NO_RUN);
}

/* Kills every child there is.  False: there is none. */
static bool kill_children(void)
{
	char text[4096];
	int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
	pid_t pid = 0;

	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i < n; i++) {
		if (text[i] >= '0' && text[i] <= '9') {
			pid = pid * 10 + (text[i] - '0');
			continue;
		}
		if (pid > 0)
			(void)kill(pid, SIGKILL);
		pid = 0;
	}
	return waitpid(-1, NULL, 0) > 0;
}

/* Until the program ends (*status) or the control pipe closes. */
static void watch(pid_t program, int *status)
{
	struct pollfd control = { .fd = CONTROL_FD, .events = POLLIN };

	for (;;) {
		pid_t pid = waitpid(-1, status, WNOHANG);

		if (pid == program || (pid < 0 && errno == ECHILD))
			return;
		if (pid > 0)
			continue; /* an orphan that has come to us */
		if (poll(&control, 1, 20) > 0)
			return; /* nothing is ever sent: it was closed */
	}
}

NORETURN static void run_guard(const struct words *w,
			       const struct command_opts *opts)
{
	int status = -1;
	pid_t program;

	(void)setsid();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	(void)prctl(PR_SET_NAME, "reel-helper", 0, 0, 0);
	program = fork();
	if (program == 0)
		run_program(w, opts);
	(void)close(STDOUT_FILENO);
	(void)close(STDERR_FILENO);
	if (program > 0) {
		watch(program, &status);
		(void)kill(-program, SIGKILL);
	}
	while (kill_children())
		;
	if (write(STATUS_FD, &status, sizeof(status)) < 0)
		_exit(1); /* nobody wants to know */
	_exit(0);
}

/* fds: null, out, error, control, status; each to its place. */
NORETURN static void begin_guard(const int fds[5], const struct words *w,
				 const struct command_opts *opts)
{
	sigset_t none;
	int high[5];

	for (int signo = 1; signo < NSIG; signo++)
		(void)signal(signo, SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0); /* the pipe tells */
	/* first out of the way of the places they are to go to */
	for (int n = 0; n < 5; n++)
		high[n] = fcntl(fds[n], F_DUPFD, 16);
	for (int n = 0; n < 5; n++)
		(void)dup2(high[n], n);
	(void)close_range(5, ~0u, 0);
	run_guard(w, opts);
}

/* ---- in the resolver ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static void free_event(struct event **ev)
{
	if (*ev != NULL)
		event_free(*ev);
	*ev = NULL;
}

static void free_command(struct command *c)
{
	free_event(&c->out);
	free_event(&c->err);
	free_event(&c->status);
	close_fd(&c->control_fd);
	close_fd(&c->out_fd);
	close_fd(&c->error_fd);
	close_fd(&c->status_fd);
	free(c->output);
	free(c);
}

void command_abort(struct command *c)
{
	free_command(c); /* the control pipe is closed by this */
}

void command_clean(char *dst, size_t dst_bytes, const char *text)
{
	size_t used = 0;

	while (*text != '\0' && used + 1 < dst_bytes) {
		size_t word = strcspn(text, " \t\"'<>()[]");
		const char *mark = memmem(text, word, "://", 3);

		if (word == 0) {
			dst[used++] = *text == '\t' ? ' ' : *text;
			text++;
			continue;
		}
		if (mark != NULL) {
			used += (size_t)snprintf(dst + used, dst_bytes - used,
						 "(URL)");
			used = min_u64(used, dst_bytes - 1);
			/* brackets and quotes may be part of it: what
			 * follows them up to a blank is not for people */
			text += strcspn(text, " \t");
			continue;
		}
		for (; word > 0 && used + 1 < dst_bytes; word--, text++)
			dst[used++] =
				(unsigned char)*text < ' ' || *text == 0x7f
					? ' '
					: *text;
	}
	dst[used] = '\0';
}

/* The last line of standard error that is not empty, if it is meant for
 * people. */
static void last_line(struct command *c, char *reason, size_t reason_bytes)
{
	char *text = c->error, *line;

	text[c->error_bytes] = '\0';
	while (c->error_bytes > 0 &&
	       strchr("\r\n \t", text[c->error_bytes - 1]) != NULL)
		text[--c->error_bytes] = '\0';
	line = strrchr(text, '\n');
	line = line != NULL ? line + 1 : text;
	/* anything else may be a trace with who knows what in it */
	command_clean(reason, reason_bytes,
		      strncmp(line, "ERROR:", 6) == 0 ? line : "");
}

/* -EAGAIN: nothing more for now; 0: the end; else bytes. */
static ssize_t read_some(int fd, char *buffer, size_t bytes)
{
	ssize_t n;

	do
		n = read(fd, buffer, bytes);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void take_output(struct command *c, const char *bytes, size_t n)
{
	if (c->output_bytes + n > c->output_most) {
		c->too_long = true;
		close_fd(&c->control_fd); /* the guard ends it */
		return;
	}
	if (c->output_bytes + n > c->output_room) {
		size_t room = max_u64(c->output_room * 2, READ_BYTES);
		char *more;

		while (room < c->output_bytes + n)
			room *= 2;
		more = realloc(c->output, room);
		if (more == NULL) {
			c->too_long = true;
			close_fd(&c->control_fd);
			return;
		}
		c->output = more;
		c->output_room = room;
	}
	memcpy(c->output + c->output_bytes, bytes, n);
	c->output_bytes += n;
}

static void take_error(struct command *c, const char *bytes, size_t n)
{
	if (n > ERROR_BYTES) {
		bytes += n - ERROR_BYTES;
		n = ERROR_BYTES;
	}
	if (c->error_bytes + n > ERROR_BYTES) {
		size_t drop = c->error_bytes + n - ERROR_BYTES;

		memmove(c->error, c->error + drop, c->error_bytes - drop);
		c->error_bytes -= drop;
	}
	memcpy(c->error + c->error_bytes, bytes, n);
	c->error_bytes += n;
}

/* Reads what is there, at most a few pieces a turn. */
static void drain(struct command *c, int *fd, struct event **ev,
		  void (*take)(struct command *c, const char *bytes, size_t n),
		  unsigned pieces)
{
	static char buffer[READ_BYTES];

	for (unsigned n = 0; n < pieces && *fd >= 0; n++) {
		ssize_t got = read_some(*fd, buffer, sizeof(buffer));

		if (got > 0 && !c->too_long) {
			take(c, buffer, (size_t)got);
			continue;
		}
		if (got > 0)
			continue; /* thrown away */
		if (got != -EAGAIN) {
			free_event(ev);
			close_fd(fd);
		}
		return;
	}
}

static void on_output(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct command *c = arg;

	drain(c, &c->out_fd, &c->out, take_output, 4);
}

static void on_error(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct command *c = arg;

	drain(c, &c->error_fd, &c->err, take_error, 4);
}

/* The guard has ended: so has everything below it. */
static void on_status(evutil_socket_t fd UNUSED, short what UNUSED, void *arg)
{
	struct command *c = arg;
	enum command_end how = COMMAND_FAILED;
	char reason[128];
	int status = -1;
	ssize_t n = read_some(c->status_fd, (char *)&status, sizeof(status));

	if (n == -EAGAIN)
		return;
	drain(c, &c->out_fd, &c->out, take_output, UINT32_MAX);
	drain(c, &c->error_fd, &c->err, take_error, UINT32_MAX);
	if (c->too_long)
		how = COMMAND_TOO_LONG;
	else if (n == (ssize_t)sizeof(status) && WIFEXITED(status) &&
		 WEXITSTATUS(status) == 0)
		how = COMMAND_DONE;
	last_line(c, reason, sizeof(reason));
	if (reason[0] == '\0' && how == COMMAND_FAILED && n > 0)
		snprintf(reason, sizeof(reason),
			 WIFSIGNALED(status)
				 ? "the helper program was killed by signal %d"
				 : "the helper program ended with status %d",
			 WIFSIGNALED(status) ? WTERMSIG(status)
					     : WEXITSTATUS(status));
	c->ops->end(c->ctx, how, c->output, c->output_bytes, reason);
	free_command(c);
}

static int make_pipe(int *ours, int *theirs, bool we_read)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ours = fds[we_read ? 0 : 1];
	*theirs = fds[we_read ? 1 : 0];
	if (fcntl(*ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static struct event *listen_to(struct event_base *base, int fd,
			       event_callback_fn run, void *arg)
{
	struct event *ev = event_new(base, fd, EV_READ | EV_PERSIST, run, arg);

	if (ev != NULL && event_add(ev, NULL) < 0) {
		event_free(ev);
		ev = NULL;
	}
	return ev;
}

static int fork_guard(struct command *c, const int fds[5],
		      const struct command_opts *opts)
{
	struct words w;
	int rc = make_words(&w, opts);

	if (rc == 0) {
		c->guard = fork();
		if (c->guard == 0)
			begin_guard(fds, &w, opts);
		if (c->guard < 0)
			rc = -errno;
	}
	free_words(&w);
	return rc;
}

int command_begin(struct command **out, struct event_base *base,
		  const struct command_opts *opts,
		  const struct command_ops *ops, void *ctx)
{
	struct command *c = calloc(1, sizeof(*c));
	int fds[5] = { -1, -1, -1, -1, -1 };
	int rc = 0;

	if (c == NULL)
		return -ENOMEM;
	c->ops = ops;
	c->ctx = ctx;
	c->output_most = opts->output_bytes;
	c->control_fd = c->out_fd = c->error_fd = c->status_fd = -1;
	fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fds[0] < 0)
		rc = -errno;
	if (rc == 0)
		rc = make_pipe(&c->out_fd, &fds[1], true);
	if (rc == 0)
		rc = make_pipe(&c->error_fd, &fds[2], true);
	if (rc == 0)
		rc = make_pipe(&c->control_fd, &fds[3], false);
	if (rc == 0)
		rc = make_pipe(&c->status_fd, &fds[4], true);
	if (rc == 0) {
		c->out = listen_to(base, c->out_fd, on_output, c);
		c->err = listen_to(base, c->error_fd, on_error, c);
		c->status = listen_to(base, c->status_fd, on_status, c);
		if (c->out == NULL || c->err == NULL || c->status == NULL)
			rc = -ENOMEM;
	}
	if (rc == 0)
		rc = fork_guard(c, fds, opts);
	for (int n = 0; n < 5; n++)
		close_fd(&fds[n]);
	if (rc < 0) {
		free_command(c);
		return rc;
	}
	*out = c;
	return 0;
}

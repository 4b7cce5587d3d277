#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/admin.h"
#include "ctl/field.h"
#include "ctl/show.h"

#define DEFAULT_SOCKET "/run/reelcache/admin.sock"
#define VERIFY_STEP_MS 200
#define PAGE_OBJECTS   500

/* EXIT_SUCCESS: it was done. */
#define EXIT_REFUSED     1 /* the server said no, or there is no such thing */
#define EXIT_USAGE       2
#define EXIT_UNREACHABLE 3

struct ctl {
	struct admin *admin;
	const char *socket_path;
	bool json;
};

static const char usage[] =
	"usage: reelcachectl [-s SOCKET] [--json] COMMAND\n"
	"\n"
	"  status         what runs, what is stored, what was served\n"
	"  objects        what is stored, one line an object\n"
	"  inflight       ranges that are arriving from origins\n"
	"  purge ID       forget an object: SOURCE/ID, or ID of any source\n"
	"  purge all      forget everything\n"
	"  verify         check every stored byte; ends with 1 if one is bad\n"
	"\n"
	"  -s, --socket SOCKET  admin socket, instead of " DEFAULT_SOCKET "\n"
	"      --json           the server's answer as it is, for programs\n"
	"  -V, --version        print the version\n"
	"  -h, --help           print this\n";

static int out_of_memory(void)
{
	fputs("reelcachectl: out of memory\n", stderr);
	return EXIT_REFUSED;
}

/* Why the server said no: problem+json, or at least the status. */
static int say_refused(const struct admin_answer *answer)
{
	struct json_object *problem = field_read(answer->body, answer->bytes);
	const char *text = field_text(problem, "detail",
				      field_text(problem, "title", NULL));

	if (text != NULL)
		fprintf(stderr, "reelcachectl: %s (status %ld)\n", text,
			answer->status);
	else
		fprintf(stderr, "reelcachectl: refused with status %ld\n",
			answer->status);
	json_object_put(problem);
	return EXIT_REFUSED;
}

/* One request whose answer is a JSON object.  EXIT_SUCCESS and *out, for
 * json_object_put(), or what the program shall end with, after a word. */
static int ask(struct ctl *ctl, const char *method, const char *target,
	       struct json_object **out)
{
	struct admin_answer answer;
	int status = EXIT_SUCCESS;

	if (admin_request(ctl->admin, method, target, &answer) < 0) {
		fprintf(stderr, "reelcachectl: %s: %s\n", ctl->socket_path,
			admin_fault(ctl->admin));
		return EXIT_UNREACHABLE;
	}
	if (answer.status < 200 || answer.status > 299) {
		status = say_refused(&answer);
	} else {
		*out = field_read(answer.body, answer.bytes);
		if (!json_object_is_type(*out, json_type_object)) {
			fprintf(stderr,
				"reelcachectl: %s: the answer is no JSON "
				"object\n",
				ctl->socket_path);
			json_object_put(*out);
			status = EXIT_REFUSED;
		}
	}
	free(answer.body);
	return status;
}

static void print_json(struct json_object *obj)
{
	puts(json_object_to_json_string_ext(
		obj, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int show(const struct ctl *ctl, struct json_object *answer,
		int (*people)(struct json_object *))
{
	if (ctl->json)
		print_json(answer);
	else if (people(answer) < 0)
		return out_of_memory();
	return EXIT_SUCCESS;
}

static int run_status(struct ctl *ctl)
{
	struct json_object *answer;
	int status = ask(ctl, "GET", "/status", &answer);

	if (status != EXIT_SUCCESS)
		return status;
	status = show(ctl, answer, show_status);
	json_object_put(answer);
	return status;
}

static int run_inflight(struct ctl *ctl)
{
	struct json_object *answer;
	int status = ask(ctl, "GET", "/inflight", &answer);

	if (status != EXIT_SUCCESS)
		return status;
	status = show(ctl, answer, show_inflight);
	json_object_put(answer);
	return status;
}

/* One page of objects, added to all.  *after: the key to go on behind, for
 * free(); NULL at the end. */
static int read_page(struct ctl *ctl, char **after, struct json_object *all)
{
	char *escaped = admin_escape(ctl->admin, *after != NULL ? *after : "");
	struct json_object *page;
	const char *next;
	char *target = NULL;
	size_t count;
	int status;

	if (escaped == NULL ||
	    asprintf(&target, "/objects?limit=%d%s%s", PAGE_OBJECTS,
		     *after != NULL ? "&after=" : "", escaped) < 0) {
		free(escaped);
		return out_of_memory();
	}
	free(escaped);
	status = ask(ctl, "GET", target, &page);
	free(target);
	if (status != EXIT_SUCCESS)
		return status;
	struct json_object *objects = field_array(page, "objects", &count);
	for (size_t i = 0; i < count; i++)
		if (json_object_array_add(
			    all, json_object_get(json_object_array_get_idx(
					 objects, i))) < 0)
			status = out_of_memory();
	next = field_text(page, "next", NULL);
	if (next != NULL && *after != NULL && strcmp(next, *after) == 0) {
		fputs("reelcachectl: the server repeats a page\n", stderr);
		status = EXIT_REFUSED;
	}
	free(*after);
	*after = next != NULL ? strdup(next) : NULL;
	if (next != NULL && *after == NULL)
		status = out_of_memory();
	json_object_put(page);
	return status;
}

static int run_objects(struct ctl *ctl)
{
	struct json_object *all = json_object_new_array();
	struct json_object *whole = json_object_new_object();
	char *after = NULL;
	int status;

	if (all == NULL || whole == NULL ||
	    json_object_object_add(whole, "objects", all) < 0) {
		json_object_put(whole);
		return out_of_memory();
	}
	do {
		status = read_page(ctl, &after, all);
	} while (status == EXIT_SUCCESS && after != NULL);
	free(after);
	if (status == EXIT_SUCCESS && ctl->json)
		print_json(whole);
	else if (status == EXIT_SUCCESS && show_objects(all) < 0)
		status = out_of_memory();
	json_object_put(whole);
	return status;
}

static int run_purge(struct ctl *ctl, const char *what)
{
	bool all = strcmp(what, "all") == 0;
	const char *param = strchr(what, '/') != NULL ? "key" : "id";
	char *escaped = admin_escape(ctl->admin, what);
	struct json_object *answer;
	char *target = NULL;
	int status;

	if (escaped == NULL ||
	    asprintf(&target, "/purge?%s=%s", all ? "all" : param,
		     all ? "1" : escaped) < 0) {
		free(escaped);
		return out_of_memory();
	}
	free(escaped);
	status = ask(ctl, "POST", target, &answer);
	free(target);
	if (status != EXIT_SUCCESS)
		return status;
	if (ctl->json)
		print_json(answer);
	else
		printf("purged %" PRIu64 " objects, %" PRIu64
		       " chunk files, %" PRIu64 " bytes; %" PRIu64
		       " fetches ended\n",
		       field_number_or_0(answer, "objects"),
		       field_number_or_0(answer, "chunks"),
		       field_number_or_0(answer, "bytes"),
		       field_number_or_0(answer, "runs"));
	if (!all && field_number_or_0(answer, "objects") == 0 &&
	    field_number_or_0(answer, "runs") == 0) {
		fprintf(stderr, "reelcachectl: %s is not stored\n", what);
		status = EXIT_REFUSED;
	}
	json_object_put(answer);
	return status;
}

/* Asks until nothing is left to check.  *last: the answer that said so. */
static int wait_verified(struct ctl *ctl, struct json_object **last)
{
	for (;;) {
		uint64_t left;
		int status = ask(ctl, "GET", "/verify", last);

		if (status != EXIT_SUCCESS)
			return status;
		if (!field_number(*last, "left", &left)) {
			fputs("reelcachectl: the answer lacks `left`\n",
			      stderr);
			json_object_put(*last);
			return EXIT_REFUSED;
		}
		if (left == 0)
			return EXIT_SUCCESS;
		json_object_put(*last);
		(void)poll(NULL, 0, VERIFY_STEP_MS);
	}
}

static int run_verify(struct ctl *ctl)
{
	struct json_object *answer;
	int status = ask(ctl, "POST", "/verify", &answer);
	uint64_t bad;

	if (status != EXIT_SUCCESS)
		return status;
	if (!ctl->json)
		fprintf(stderr, "checking %" PRIu64 " chunk files\n",
			field_number_or_0(answer, "queued"));
	json_object_put(answer);
	status = wait_verified(ctl, &answer);
	if (status != EXIT_SUCCESS)
		return status;
	bad = field_number_or_0(answer, "bad");
	if (ctl->json)
		print_json(answer);
	else
		printf("%" PRIu64 " good, %" PRIu64 " bad%s\n",
		       field_number_or_0(answer, "good"), bad,
		       bad > 0 ? " (dropped; they will be fetched anew)" : "");
	json_object_put(answer);
	return bad > 0 ? EXIT_REFUSED : EXIT_SUCCESS;
}

static const struct {
	const char *name;
	int (*run)(struct ctl *ctl);
} commands[] = {
	{ "status", run_status },
	{ "objects", run_objects },
	{ "inflight", run_inflight },
	{ "verify", run_verify },
};

static int say_usage(const char *reason, const char *what)
{
	if (reason != NULL)
		fprintf(stderr, "reelcachectl: %s%s\n", reason, what);
	fputs(usage, stderr);
	return EXIT_USAGE;
}

static int run_command(struct ctl *ctl, int argc, char **argv)
{
	if (argc == 0)
		return say_usage("a command is missing", "");
	if (strcmp(argv[0], "purge") == 0) {
		if (argc != 2 || argv[1][0] == '\0')
			return say_usage("purge wants one ID, or all", "");
		return run_purge(ctl, argv[1]);
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(argv[0], commands[i].name) != 0)
			continue;
		if (argc != 1)
			return say_usage("unexpected argument: ", argv[1]);
		return commands[i].run(ctl);
	}
	return say_usage("no such command: ", argv[0]);
}

/* 0: go on; otherwise *status is what to end with. */
static int parse_options(int argc, char **argv, struct ctl *ctl, int *status)
{
	static const struct option longs[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "s:Vh", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			ctl->socket_path = optarg;
			break;
		case 'j':
			ctl->json = true;
			break;
		case 'V':
			puts("reelcachectl " PACKAGE_VERSION);
			*status = EXIT_SUCCESS;
			return 1;
		case 'h':
			fputs(usage, stdout);
			*status = EXIT_SUCCESS;
			return 1;
		default:
			*status = say_usage(NULL, NULL);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct ctl ctl = { .socket_path = DEFAULT_SOCKET };
	int status;

	if (parse_options(argc, argv, &ctl, &status) == 0) {
		if (admin_open(&ctl.admin, ctl.socket_path) < 0)
			return out_of_memory();
		status = run_command(&ctl, argc - optind, argv + optind);
		admin_close(ctl.admin);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "reelcachectl: cannot write: %s\n",
			strerror(errno));
		return EXIT_REFUSED;
	}
	return status;
}

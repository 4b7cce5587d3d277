#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf.h"
#include "http/tls.h"
#include "master/fault.h"
#include "master/master.h"
#include "master/prepare.h"
#include "master/title.h"
#include "prefetcher/prefetcher.h"
#include "resolver/resolver.h"
#include "util/log.h"
#include "worker/worker.h"

#define EXIT_USAGE 2

enum task {
	TASK_RUN,
	TASK_TEST,
	TASK_DUMP,
	TASK_SAMPLE,
	TASK_VERSION,
	TASK_HELP,
};

struct arguments {
	enum task task;
	const char *conf_path;
};

static const char usage[] =
	"usage: reelcache [-c FILE] [-t | --dump-config]\n"
	"       reelcache --print-sample | -V | -h\n"
	"\n"
	"  -c, --config FILE   configuration, instead of " REEL_CONF_FILE "\n"
	"  -t, --test          check the configuration and end\n"
	"      --dump-config   print the configuration in force and end\n"
	"      --print-sample  print a file with all options, explained\n"
	"  -V, --version       print versions\n"
	"  -h, --help          print this\n"
	"\n"
	"Runs in the foreground.  HUP reloads, USR1 reopens logs, TERM drains "
	"and ends.\n";

/* 0, or -EINVAL after a word on standard error. */
static int parse_arguments(int argc, char **argv, struct arguments *out)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "test", no_argument, NULL, 't' },
		{ "dump-config", no_argument, NULL, 'D' },
		{ "print-sample", no_argument, NULL, 'S' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	*out = (struct arguments){ TASK_RUN, REEL_CONF_FILE };
	while ((c = getopt_long(argc, argv, "c:tVh", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			out->conf_path = optarg;
			break;
		case 't':
			out->task = TASK_TEST;
			break;
		case 'D':
			out->task = TASK_DUMP;
			break;
		case 'S':
			out->task = TASK_SAMPLE;
			break;
		case 'V':
			out->task = TASK_VERSION;
			break;
		case 'h':
			out->task = TASK_HELP;
			break;
		default: /* getopt has said what is wrong */
			return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "reelcache: unexpected argument: %s\n",
			argv[optind]);
		return -EINVAL;
	}
	return 0;
}

/* Was all of it written?  A full disk or a closed pipe must not look like a
 * success. */
static int finish_output(int rc)
{
	if (rc == 0 && fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_SUCCESS;
	fprintf(stderr, "reelcache: cannot write: %s\n",
		strerror(rc < 0 ? -rc : errno));
	return EXIT_FAILURE;
}

static int test_conf(const struct conf *conf, const char *path)
{
	struct fault fault = { .exit_status = EXIT_FAILURE };

	if (prepare_check(conf, &fault) < 0) {
		fprintf(stderr, "%s: %s\n", path, fault.text);
		return fault.exit_status;
	}
	printf("%s: ok\n", path);
	return finish_output(0);
}

static int run(struct conf *conf, const char *path)
{
	struct master_opts opts = {
		.conf_path = path,
		.conf = conf,
		.prefetcher = prefetcher_main,
		.resolver = resolver_main,
		.worker = worker_main,
	};

	if (log_open("", (enum log_level)conf->main.log_level, "master") < 0) {
		fprintf(stderr, "reelcache: cannot log\n");
		conf_free(conf);
		return EXIT_FAILURE;
	}
	return master_run(&opts);
}

static int with_conf(enum task task, const char *path)
{
	struct conf *conf = NULL;
	struct conf_fault fault;
	int status;

	if (conf_load(path, &conf, &fault) < 0) {
		fprintf(stderr, "reelcache: %s\n", fault.text);
		return EXIT_CONFIG;
	}
	if (task == TASK_RUN)
		return run(conf, path);
	if (task == TASK_TEST)
		status = test_conf(conf, path);
	else
		status = finish_output(conf_dump(conf, stdout));
	conf_free(conf);
	return status;
}

/* An absolute copy: children overwrite the words of argv, and a reload must
 * find the file whatever the working folder.  Links are not resolved: they
 * may be turned to another file. */
static char *own_path(const char *path)
{
	char *cwd = path[0] != '/' ? getcwd(NULL, 0) : NULL;
	char *own = NULL;

	if (cwd == NULL)
		return strdup(path);
	if (asprintf(&own, "%s/%s", cwd, path) < 0)
		own = NULL;
	free(cwd);
	return own;
}

int main(int argc, char **argv)
{
	struct arguments args;
	char *path;
	int status;

	if (parse_arguments(argc, argv, &args) < 0) {
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	switch (args.task) {
	case TASK_HELP:
		fputs(usage, stdout);
		return finish_output(0);
	case TASK_VERSION:
		printf("reelcache %s\nTLS: OpenSSL %s, kernel TLS: %s\n",
		       PACKAGE_VERSION, tls_library_version(),
		       tls_kernel_has_it() ? "yes" : "no");
		return finish_output(0);
	case TASK_SAMPLE:
		return finish_output(conf_print_sample(stdout));
	case TASK_RUN:
	case TASK_TEST:
	case TASK_DUMP:
		break;
	}
	path = args.task == TASK_RUN ? own_path(args.conf_path)
				     : strdup(args.conf_path);
	if (path == NULL) {
		fputs("reelcache: out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	title_init(argc, argv);
	status = with_conf(args.task, path);
	free(path);
	return status;
}

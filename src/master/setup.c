#include "master/setup.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "shm/segment.h"
#include "util/log.h"

#define WORKERS_MAX (SEGMENT_WORKERS / 2)

static uint32_t count_workers(const struct conf *conf)
{
	cpu_set_t cpus;
	uint32_t n = conf->main.workers;

	/* the cores that we may use, not those that the machine has */
	if (n == 0 && sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		n = (uint32_t)CPU_COUNT(&cpus);
	if (n == 0)
		n = 1;
	return n < WORKERS_MAX ? n : WORKERS_MAX;
}

int setup_new(struct setup **out, struct conf *conf, const struct setup *old,
	      struct inherited *from_systemd, const struct identity *who,
	      struct fault *fault)
{
	struct setup *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL) {
		conf_free(conf);
		return fault_set(fault, -ENOMEM, EXIT_FAILURE, "%s",
				 strerror(ENOMEM));
	}
	s->conf = conf;
	s->workers = count_workers(conf);
	s->round = old != NULL ? old->round + 1 : 1;
	rc = sockets_check_congestion(conf->http.congestion);
	if (rc < 0) {
		fault_set(fault, rc, EXIT_CONFIG, "[http] congestion = %s: %s",
			  conf->http.congestion, strerror(-rc));
		goto no_setup;
	}
	rc = certificates_load(&s->pems, conf, fault);
	if (rc == 0)
		rc = prepare_logs(conf, who, fault);
	if (rc < 0)
		goto no_setup;
	rc = sockets_open(&s->sockets, conf, s->workers,
			  old != NULL ? old->sockets : NULL, from_systemd,
			  fault);
	if (rc < 0)
		goto no_setup;
	*out = s;
	return 0;

no_setup:
	setup_free(s);
	return rc;
}

void setup_free(struct setup *s)
{
	if (s == NULL)
		return;
	sockets_close(s->sockets);
	certificates_free(s->pems, s->conf);
	conf_free(s->conf);
	free(s);
}

int setup_reload(struct setup **out, const char *path, const struct setup *old,
		 const struct identity *who, struct fault *fault)
{
	struct conf *conf = NULL;
	struct conf_fault cf;
	int rc = conf_load(path, &conf, &cf);

	if (rc == 0) {
		rc = conf_check_reload(old->conf, conf, &cf);
		if (rc < 0)
			conf_free(conf);
	}
	if (rc < 0)
		return fault_set(fault, rc, EXIT_CONFIG, "%s", cf.text);
	return setup_new(out, conf, old, NULL, who, fault);
}

void setup_apply(struct setup *s)
{
	const struct conf *conf = s->conf;
	int rc = log_open(conf->main.error_log,
			  (enum log_level)conf->main.log_level, "master");

	if (rc < 0)
		log_warning("ev=log_open error=\"%s\"", strerror(-rc));
	prepare_descriptors(conf);
	sockets_apply(s->sockets, conf);
}

#include "worker/routes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/target.h"
#include "store/layout.h"
#include "worker/answer.h"
#include "worker/metrics.h"
#include "worker/serve.h"
#include "worker/web.h"

#define ALLOWED "GET, HEAD, OPTIONS"

static void problem(struct desk *desk, struct sink *sink,
		    const struct head *head, int status, const char *detail)
{
	answer_problem(desk, sink, head, status, detail, NULL, NULL);
}

static void text(struct desk *desk, struct sink *sink, const struct head *head,
		 int status, const char *body)
{
	const struct answer a = {
		.status = status,
		.content_type = "text/plain; charset=utf-8",
		.body = body,
		.body_bytes = strlen(body),
	};

	answer_send(desk, sink, head, &a);
}

static void serve_options(struct desk *desk, struct sink *sink,
			  const struct head *head)
{
	static const char plain[] = "Allow: " ALLOWED "\r\n";
	static const char cors[] =
		"Allow: " ALLOWED "\r\n"
		"Access-Control-Allow-Methods: " ALLOWED "\r\n"
		"Access-Control-Allow-Headers: Range, If-Range, If-Match, "
		"If-None-Match, If-Modified-Since, If-Unmodified-Since, "
		"Cache-Control, Content-Type\r\n"
		"Access-Control-Max-Age: 86400\r\n";
	const struct answer a = {
		.status = 204,
		.fields = *desk->conf->http.cors_origin != '\0' ? cors : plain,
	};

	answer_send(desk, sink, head, &a);
}

static bool prefetcher_ready(const struct segment *seg)
{
	return atomic_load(&seg->procs[SEGMENT_PROC_PREFETCHER].pid) != 0 &&
	       atomic_load(&seg->procs[SEGMENT_PROC_PREFETCHER].ready) != 0;
}

static void serve_ready(struct desk *desk, struct sink *sink,
			const struct head *head)
{
	if (desk->host->draining)
		problem(desk, sink, head, 503, "this worker is draining");
	else if (!prefetcher_ready(desk->seg))
		problem(desk, sink, head, 503, "the prefetcher is not ready");
	else
		text(desk, sink, head, 200, "ready\n");
}

static void serve_metrics(struct desk *desk, struct sink *sink,
			  const struct head *head)
{
	struct answer a = { .status = 200,
			    .content_type = METRICS_CONTENT_TYPE };
	char *body = malloc(METRICS_BYTES_MAX);

	if (body == NULL || metrics_format(desk->seg, body, METRICS_BYTES_MAX,
					   &a.body_bytes) < 0) {
		problem(desk, sink, head, 503, "out of memory");
	} else {
		a.body = body;
		answer_send(desk, sink, head, &a);
	}
	free(body);
}

static const struct conf_source *find_source(const struct conf *conf,
					     struct slice name)
{
	for (size_t i = 0; i < conf->source_count; i++)
		if (slice_is(name, conf->sources[i].name))
			return &conf->sources[i];
	return NULL;
}

/* NULL: answered already. */
static const struct conf_source *wanted_source(struct desk *desk,
					       struct sink *sink,
					       const struct head *head)
{
	const struct conf *conf = desk->conf;
	const struct conf_source *source = NULL;
	char name[CONF_NAME_BYTES + 1];
	struct slice value;

	if (!head->has_query)
		return &conf->sources[0];
	switch (target_query(head_query(head), "source", name, sizeof(name),
			     &value)) {
	case 0:
		source = find_source(conf, value);
		break;
	case -ENOENT:
		return &conf->sources[0];
	case -ENOSPC: /* longer than any name */
		break;
	default:
		problem(desk, sink, head, 400,
			"the source must be named once, properly encoded");
		return NULL;
	}
	if (source == NULL)
		problem(desk, sink, head, 404, "there is no such source");
	return source;
}

/* path: what follows "/proxy/". */
static void serve_proxy(struct desk *desk, struct sink *sink,
			const struct head *head, struct slice path)
{
	const struct conf_source *source;
	char buffer[TARGET_ID_MAX];
	char key[LAYOUT_KEY_BYTES];
	size_t name_bytes;
	struct slice id;

	if (target_decode(path, buffer, sizeof(buffer), &id) < 0 ||
	    !target_id_valid(id)) {
		problem(desk, sink, head, 400,
			"an id is 1 to 128 of A-Z a-z 0-9 . _ ~ -");
		return;
	}
	source = wanted_source(desk, sink, head);
	if (source == NULL)
		return;
	name_bytes = strlen(source->name);
	must(name_bytes + 1 + id.bytes <= sizeof(key));
	memcpy(key, source->name, name_bytes);
	key[name_bytes] = '/';
	memcpy(key + name_bytes + 1, id.at, id.bytes);
	serve_begin(desk, sink, head, key, name_bytes + 1 + id.bytes);
}

void routes_serve(struct desk *desk, struct sink *sink, const struct head *head)
{
	static const struct slice proxy = { "/proxy/", 7 };
	struct slice path = head_path(head);

	if (head->method == METHOD_OPTIONS)
		serve_options(desk, sink, head);
	else if (head->method != METHOD_GET && head->method != METHOD_HEAD)
		answer_problem(desk, sink, head, 405,
			       "only " ALLOWED " are answered here",
			       "Allow: " ALLOWED "\r\n", NULL);
	else if (slice_starts(path, proxy))
		serve_proxy(desk, sink, head, slice_skip(path, proxy.bytes));
	else if (slice_is(path, "/healthz"))
		text(desk, sink, head, 200, "ok\n");
	else if (slice_is(path, "/readyz"))
		serve_ready(desk, sink, head);
	else if (slice_is(path, "/metrics"))
		serve_metrics(desk, sink, head);
	else if (!web_serve(desk, sink, head, path))
		problem(desk, sink, head, 404, "there is nothing here");
}

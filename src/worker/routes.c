#include "worker/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/answer.h"
#include "worker/control.h"
#include "worker/locate.h"
#include "worker/metrics.h"
#include "worker/query.h"
#include "worker/renditions.h"
#include "worker/serve.h"
#include "worker/web.h"

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
			  const struct head *head, const char *allowed)
{
	char fields[512];
	const struct answer a = { .status = 204, .fields = fields };
	int n = snprintf(fields, sizeof(fields), "Allow: %s\r\n", allowed);

	if (*desk->conf->http.cors_origin != '\0')
		snprintf(fields + n, sizeof(fields) - (size_t)n,
			 "Access-Control-Allow-Methods: %s\r\n"
			 "Access-Control-Allow-Headers: Range, If-Range, "
			 "If-Match, If-None-Match, If-Modified-Since, "
			 "If-Unmodified-Since, Cache-Control, Content-Type\r\n"
			 "Access-Control-Max-Age: 86400\r\n",
			 allowed);
	answer_send(desk, sink, head, &a);
}

static void serve_proxy(struct desk *desk, struct sink *sink,
			const struct head *head, struct slice path)
{
	bool ahead = head_list_has(head, FIELD_SEC_PURPOSE, "prefetch");

	sink->ops->hurry(sink, ahead ? SINK_AHEAD : SINK_MEDIA);
	locate(desk, sink, head, path, serve_begin, NULL);
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

#define GETS "GET, HEAD, OPTIONS"
#define JOBS "GET, HEAD, POST, DELETE, OPTIONS"

/* What begins with these is followed by an id. */
static const struct route {
	struct slice prefix;
	void (*serve)(struct desk *desk, struct sink *sink,
		      const struct head *head, struct slice path);
	const char *allowed;
} routes[] = {
	{ { "/proxy/", 7 }, serve_proxy, GETS },
	{ { "/resolve/", 9 }, renditions_serve, GETS },
	{ { "/prefetch/", 10 }, query_serve_prefetch, JOBS },
	{ { "/cache/", 7 }, query_serve_cache, GETS },
	{ { "/map/", 5 }, query_serve_map, GETS },
};

static const struct route *find_route(struct slice path)
{
	for (size_t n = 0; n < ARRAY_LEN(routes); n++)
		if (slice_starts(path, routes[n].prefix))
			return &routes[n];
	return NULL;
}

static bool is_allowed(const struct head *head, const char *allowed)
{
	if (head->method == METHOD_POST || head->method == METHOD_DELETE)
		return strstr(allowed, head_method_name(head->method)) != NULL;
	return head->method == METHOD_GET || head->method == METHOD_HEAD;
}

static void refuse_method(struct desk *desk, struct sink *sink,
			  const struct head *head, const char *allowed)
{
	char fields[64], detail[96];

	snprintf(fields, sizeof(fields), "Allow: %s\r\n", allowed);
	snprintf(detail, sizeof(detail), "only %s are answered here", allowed);
	answer_problem(desk, sink, head, 405, detail, fields, NULL);
}

void routes_serve(struct desk *desk, struct sink *sink, const struct head *head)
{
	struct slice path = head_path(head);
	const struct route *route = find_route(path);
	const char *allowed = route != NULL ? route->allowed : GETS;

	sink->ops->hurry(sink, SINK_CONTROL);
	if (head->method == METHOD_OPTIONS)
		serve_options(desk, sink, head, allowed);
	else if (!is_allowed(head, allowed))
		refuse_method(desk, sink, head, allowed);
	else if (route != NULL)
		route->serve(desk, sink, head,
			     slice_skip(path, route->prefix.bytes));
	else if (slice_is(path, "/healthz"))
		text(desk, sink, head, 200, "ok\n");
	else if (slice_is(path, "/readyz"))
		serve_ready(desk, sink, head);
	else if (slice_is(path, "/ws"))
		control_serve(desk, sink, head);
	else if (slice_is(path, "/metrics"))
		serve_metrics(desk, sink, head);
	else if (!web_serve(desk, sink, head, path))
		problem(desk, sink, head, 404, "there is nothing here");
}

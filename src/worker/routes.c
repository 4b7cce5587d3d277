#include "worker/routes.h"

#include <stdlib.h>
#include <string.h>

#include "worker/answer.h"
#include "worker/locate.h"
#include "worker/metrics.h"
#include "worker/renditions.h"
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

void routes_serve(struct desk *desk, struct sink *sink, const struct head *head)
{
	static const struct slice proxy = { "/proxy/", 7 };
	static const struct slice resolve = { "/resolve/", 9 };
	struct slice path = head_path(head);

	if (head->method == METHOD_OPTIONS)
		serve_options(desk, sink, head);
	else if (head->method != METHOD_GET && head->method != METHOD_HEAD)
		answer_problem(desk, sink, head, 405,
			       "only " ALLOWED " are answered here",
			       "Allow: " ALLOWED "\r\n", NULL);
	else if (slice_starts(path, proxy))
		locate(desk, sink, head, slice_skip(path, proxy.bytes),
		       serve_begin, NULL);
	else if (slice_starts(path, resolve))
		renditions_serve(desk, sink, head,
				 slice_skip(path, resolve.bytes));
	else if (slice_is(path, "/healthz"))
		text(desk, sink, head, 200, "ok\n");
	else if (slice_is(path, "/readyz"))
		serve_ready(desk, sink, head);
	else if (slice_is(path, "/metrics"))
		serve_metrics(desk, sink, head);
	else if (!web_serve(desk, sink, head, path))
		problem(desk, sink, head, 404, "there is nothing here");
}

#include "worker/answer.h"

#include <stdio.h>
#include <string.h>

#include "http/problem.h"

void answer_count(struct desk *desk, int status)
{
	static const enum stat_no class[] = {
		STAT_responses_2xx,
		STAT_responses_3xx,
		STAT_responses_4xx,
		STAT_responses_5xx,
	};

	if (status >= 200 && status < 600)
		stat_add(desk->stats, class[status / 100 - 2], 1);
}

static int send_head(struct desk *desk, struct sink *sink,
		     const struct head *head, const struct answer *a)
{
	struct fields *f = sink->ops->head(sink, a->status);
	enum sink_body body = SINK_BODY;

	FIELDS_ADD(f, "Date", slice_of(desk_date(desk, desk_wall_s(desk))));
	if (a->content_type == NULL)
		body = SINK_BODY_NONE;
	else if (head->method == METHOD_HEAD)
		body = SINK_BODY_HEAD_ONLY;
	if (body != SINK_BODY_NONE) {
		FIELDS_ADD(f, "Content-Type", slice_of(a->content_type));
		FIELDS_LITERAL(f, "Cache-Control: no-store\r\n");
	}
	if (a->fields != NULL)
		fields_raw(f, a->fields, strlen(a->fields));
	fields_raw(f, desk->common, desk->common_bytes);
	return sink->ops->head_end(sink, body, a->body_bytes);
}

void answer_send(struct desk *desk, struct sink *sink, const struct head *head,
		 const struct answer *a)
{
	struct access_facts facts = { .status = a->status, .verdict = "-" };
	struct access_entry *entry = a->entry;
	int rc;

	if (entry == NULL)
		entry = access_log_begin(desk->log, head,
					 sink->ops->peer(sink));
	rc = send_head(desk, sink, head, a);
	if (rc == 0 && a->content_type != NULL && head->method != METHOD_HEAD) {
		rc = sink->ops->bytes(sink, a->body, a->body_bytes);
		facts.bytes_other = a->body_bytes;
	}
	answer_count(desk, a->status);
	if (rc == 0)
		sink->ops->end(sink);
	else
		sink->ops->reset(sink);
	access_log_end(desk->log, entry, desk_wall_s(desk), &facts);
}

void answer_problem(struct desk *desk, struct sink *sink,
		    const struct head *head, int status, const char *detail,
		    const char *fields, struct access_entry *entry)
{
	char body[PROBLEM_BYTES_MAX];
	struct answer a = {
		.status = status,
		.content_type = PROBLEM_CONTENT_TYPE,
		.body = body,
		.fields = fields,
		.entry = entry,
	};
	int n = problem_format(body, sizeof(body), status, detail);

	if (n < 0)
		n = problem_format(body, sizeof(body), status, NULL);
	must(n > 0);
	a.body_bytes = (size_t)n;
	answer_send(desk, sink, head, &a);
}

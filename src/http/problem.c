#include "http/problem.h"

#include "http/json.h"
#include "http/status.h"

int problem_format(char *dst, size_t dst_bytes, int status, const char *detail)
{
	struct json j;
	size_t bytes;
	int rc;

	json_init(&j, dst, dst_bytes);
	json_object(&j);
	json_key(&j, "type");
	json_text(&j, "about:blank");
	json_key(&j, "title");
	json_text(&j, status_reason(status));
	json_key(&j, "status");
	json_i64(&j, status);
	if (detail != NULL && detail[0] != '\0') {
		json_key(&j, "detail");
		json_text(&j, detail);
	}
	json_object_end(&j);
	json_newline(&j);
	rc = json_end(&j, &bytes);
	return rc < 0 ? rc : (int)bytes;
}

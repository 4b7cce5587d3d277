#include "ctl/admin.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 5000L
#define STALL_S            30L /* without a byte */

struct admin {
	CURL *curl;
	char *socket_path;
	char fault[CURL_ERROR_SIZE + 128];
	char curl_fault[CURL_ERROR_SIZE];
	struct admin_answer *answer; /* of the request in progress */
};

static size_t take_body(char *data, size_t size, size_t count, void *arg)
{
	struct admin *a = arg;
	struct admin_answer *to = a->answer;
	size_t n = size * count;
	char *more;

	if (n > ADMIN_ANSWER_BYTES - to->bytes)
		return 0; /* curl ends the transfer */
	more = realloc(to->body, to->bytes + n + 1);
	if (more == NULL)
		return 0;
	memcpy(more + to->bytes, data, n);
	to->body = more;
	to->bytes += n;
	to->body[to->bytes] = '\0';
	return n;
}

static int set_options(struct admin *a)
{
	CURL *c = a->curl;
	CURLcode rc = CURLE_OK;

#define SET(option, value)                                                     \
	do {                                                                   \
		if (rc == CURLE_OK)                                            \
			rc = curl_easy_setopt(c, option, value);               \
	} while (0)
	SET(CURLOPT_UNIX_SOCKET_PATH, a->socket_path);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_PROTOCOLS_STR, "http");
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, a);
	SET(CURLOPT_ERRORBUFFER, a->curl_fault);
	SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
	SET(CURLOPT_LOW_SPEED_TIME, STALL_S);
	SET(CURLOPT_NOSIGNAL, 1L);
#undef SET
	return rc == CURLE_OK ? 0 : -ENOMEM;
}

int admin_open(struct admin **out, const char *socket_path)
{
	struct admin *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return -ENOMEM;
	a->socket_path = strdup(socket_path);
	if (a->socket_path == NULL ||
	    curl_global_init(CURL_GLOBAL_NOTHING) != CURLE_OK)
		goto no_curl;
	a->curl = curl_easy_init();
	if (a->curl == NULL || set_options(a) < 0)
		goto no_options;
	*out = a;
	return 0;

no_options:
	curl_easy_cleanup(a->curl);
	curl_global_cleanup();
no_curl:
	free(a->socket_path);
	free(a);
	return -ENOMEM;
}

void admin_close(struct admin *a)
{
	if (a == NULL)
		return;
	curl_easy_cleanup(a->curl);
	curl_global_cleanup();
	free(a->socket_path);
	free(a);
}

static CURLcode perform(struct admin *a, const char *method, const char *target)
{
	bool post = strcmp(method, "POST") == 0;
	CURLcode rc;
	char *url;

	/* the host is only for the Host field: the socket says where to */
	if (asprintf(&url, "http://localhost%s", target) < 0)
		return CURLE_OUT_OF_MEMORY;
	rc = curl_easy_setopt(a->curl, CURLOPT_URL, url);
	if (rc == CURLE_OK && post)
		rc = curl_easy_setopt(a->curl, CURLOPT_COPYPOSTFIELDS, "");
	else if (rc == CURLE_OK)
		rc = curl_easy_setopt(a->curl, CURLOPT_HTTPGET, 1L);
	if (rc == CURLE_OK)
		rc = curl_easy_perform(a->curl);
	free(url);
	return rc;
}

int admin_request(struct admin *a, const char *method, const char *target,
		  struct admin_answer *out)
{
	CURLcode rc;
	long os_errno = 0;

	memset(out, 0, sizeof(*out));
	out->body = strdup("");
	if (out->body == NULL)
		return -ENOMEM;
	a->answer = out;
	a->curl_fault[0] = '\0';
	rc = perform(a, method, target);
	a->answer = NULL;
	(void)curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &out->status);
	if (rc == CURLE_OK)
		return 0;
	(void)curl_easy_getinfo(a->curl, CURLINFO_OS_ERRNO, &os_errno);
	if (rc == CURLE_COULDNT_CONNECT && os_errno != 0)
		(void)snprintf(a->fault, sizeof(a->fault), "%s",
			       strerror((int)os_errno));
	else
		(void)snprintf(a->fault, sizeof(a->fault), "%s",
			       a->curl_fault[0] != '\0'
				       ? a->curl_fault
				       : curl_easy_strerror(rc));
	free(out->body);
	out->body = NULL;
	return -EIO;
}

const char *admin_fault(const struct admin *a)
{
	return a->fault;
}

char *admin_escape(struct admin *a, const char *text)
{
	char *escaped = curl_easy_escape(a->curl, text, 0);
	char *own = escaped != NULL ? strdup(escaped) : NULL;

	curl_free(escaped);
	return own;
}

#include "master/certificates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "util/text_file.h"
#include "util/words.h"

#define FILE_BYTES_MAX (1u << 20)
#define PATH_BYTES     4096u

/* Moves *text behind the word. */
static int next_word(const char **text, char word[PATH_BYTES])
{
	size_t n = words_next(text);

	if (n == 0 || n >= PATH_BYTES)
		return -ENAMETOOLONG;
	memcpy(word, *text, n);
	word[n] = '\0';
	*text += n;
	return 0;
}

static int load_pair(const struct conf_listen *li, struct tls_pem *pem,
		     const char *certificate, const char *key,
		     struct fault *fault)
{
	struct tls_context *context = NULL;
	char why[TLS_WHY_BYTES] = "out of memory";
	char *text = NULL;
	size_t bytes;
	int rc = text_file_read(certificate, FILE_BYTES_MAX, &text, &bytes);

	pem->certificate = text;
	if (rc < 0)
		return fault_set(fault, rc, EXIT_CONFIG,
				 "[listen:%s] certificate = %s: %s", li->name,
				 certificate, strerror(-rc));
	text = NULL;
	rc = text_file_read(key, FILE_BYTES_MAX, &text, &bytes);
	pem->key = text;
	if (rc < 0)
		return fault_set(fault, rc, EXIT_CONFIG,
				 "[listen:%s] key = %s: %s", li->name, key,
				 strerror(-rc));
	/* as root it loads the kernel's module, too */
	rc = tls_context_new(&context, pem, 1, NULL, li->kernel_tls, why);
	tls_context_free(context);
	if (rc < 0)
		return fault_set(fault, rc, EXIT_CONFIG,
				 "[listen:%s] certificate = %s, key = %s: %s",
				 li->name, certificate, key, why);
	return 0;
}

static int load_listen(const struct conf_listen *li, struct tls_pems *to,
		       struct fault *fault)
{
	size_t count = words_count(li->certificate);
	const char *certificates = li->certificate;
	const char *keys = li->key;
	char certificate[PATH_BYTES], key[PATH_BYTES];
	int rc = 0;

	/* the parser has seen to it that there are as many of both */
	to->pems = calloc(count + 1, sizeof(*to->pems));
	if (to->pems == NULL)
		return fault_set(fault, -ENOMEM, EXIT_FAILURE, "%s",
				 strerror(ENOMEM));
	while (rc == 0 && to->count < count) {
		rc = next_word(&certificates, certificate);
		if (rc == 0)
			rc = next_word(&keys, key);
		if (rc < 0)
			return fault_set(fault, rc, EXIT_CONFIG,
					 "[listen:%s] certificate, key: %s",
					 li->name, strerror(-rc));
		rc = load_pair(li, &to->pems[to->count++], certificate, key,
			       fault);
	}
	return rc;
}

int certificates_load(struct tls_pems **out, const struct conf *conf,
		      struct fault *fault)
{
	struct tls_pems *all = calloc(conf->listen_count, sizeof(*all));
	int rc = 0;

	if (all == NULL)
		return fault_set(fault, -ENOMEM, EXIT_FAILURE, "%s",
				 strerror(ENOMEM));
	for (size_t n = 0; rc == 0 && n < conf->listen_count; n++)
		if (conf->listens[n].tls)
			rc = load_listen(&conf->listens[n], &all[n], fault);
	if (rc < 0)
		certificates_free(all, conf);
	else
		*out = all;
	return rc;
}

void certificates_free(struct tls_pems *all, const struct conf *conf)
{
	if (all == NULL)
		return;
	for (size_t n = 0; n < conf->listen_count; n++) {
		for (size_t i = 0; i < all[n].count; i++) {
			char *key = (char *)all[n].pems[i].key;

			if (key != NULL)
				explicit_bzero(key, strlen(key));
			free(key);
			free((char *)all[n].pems[i].certificate);
		}
		free(all[n].pems);
	}
	free(all);
}

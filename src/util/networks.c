#include "util/networks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "util/words.h"

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static bool is_ipv4(const uint8_t *addr)
{
	return memcmp(addr, mapped, sizeof(mapped)) == 0;
}

int networks_read_address(const char *text, size_t text_bytes,
			  uint8_t addr[NETWORKS_ADDRESS_BYTES])
{
	char copy[INET6_ADDRSTRLEN];

	if (text_bytes == 0 || text_bytes >= sizeof(copy) ||
	    memchr(text, '\0', text_bytes) != NULL)
		return 0;
	memcpy(copy, text, text_bytes);
	copy[text_bytes] = '\0';
	if (memchr(text, ':', text_bytes) != NULL)
		return inet_pton(AF_INET6, copy, addr) == 1 ? AF_INET6 : 0;
	memcpy(addr, mapped, sizeof(mapped));
	return inet_pton(AF_INET, copy, addr + sizeof(mapped)) == 1 ? AF_INET
								    : 0;
}

/* Digits without leading zeros, at most `max`; else -1. */
static int read_bits(const char *text, size_t text_bytes, int max)
{
	int bits = 0;

	if (text_bytes == 0 || text_bytes > 3 ||
	    (text[0] == '0' && text_bytes > 1))
		return -1;
	for (size_t i = 0; i < text_bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		bits = bits * 10 + (text[i] - '0');
	}
	return bits <= max ? bits : -1;
}

/* Mask of byte i of an address whose first `bits` count. */
static uint8_t mask_of(unsigned int bits, unsigned int i)
{
	if (bits >= 8 * (i + 1))
		return 0xff;
	return bits <= 8 * i ? 0 : (uint8_t)(0xff << (8 * (i + 1) - bits));
}

/* NULL, or what is wrong with it. */
static const char *read_network(const char *word, size_t word_bytes,
				struct network *out)
{
	const char *slash = memchr(word, '/', word_bytes);
	size_t addr_bytes = slash != NULL ? (size_t)(slash - word) : word_bytes;
	int family = networks_read_address(word, addr_bytes, out->addr);
	int width = family == AF_INET ? 32 : 128;
	int bits = width;

	if (family == 0)
		return "is neither ADDRESS nor ADDRESS/BITS in numbers, "
		       "loopback or private";
	if (slash != NULL)
		bits = read_bits(slash + 1, word_bytes - addr_bytes - 1, width);
	if (bits < 0)
		return family == AF_INET ? "its /BITS must be 0 to 32"
					 : "its /BITS must be 0 to 128";
	out->bits = (uint8_t)(128 - width + bits);
	for (unsigned int i = 0; i < NETWORKS_ADDRESS_BYTES; i++)
		if ((out->addr[i] & ~mask_of(out->bits, i)) != 0)
			return "has bits set behind its prefix: is one "
			       "address meant, or a larger network?";
	return NULL;
}

static const char *add_word(struct networks *n, const char *word,
			    size_t word_bytes)
{
	static const struct {
		const char *name;
		const char *networks[5];
	} names[] = {
		{ "loopback", { "127.0.0.0/8", "::1", NULL } },
		{ "private",
		  { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
		    NULL } },
	};
	const char *const alone[2] = { word, NULL };
	const char *const *words = alone;
	const char *wrong = NULL;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strlen(names[i].name) == word_bytes &&
		    memcmp(names[i].name, word, word_bytes) == 0)
			words = names[i].networks;
	for (; *words != NULL && wrong == NULL; words++) {
		if (n->count == NETWORKS_MAX)
			return "is one network too many";
		wrong = read_network(
			*words, words == alone ? word_bytes : strlen(*words),
			&n->list[n->count]);
		if (wrong == NULL)
			n->count++;
	}
	return wrong;
}

int networks_parse(struct networks *n, const char *text,
		   char why[NETWORKS_WHY_BYTES])
{
	n->count = 0;
	for (size_t bytes; (bytes = words_next(&text)) > 0; text += bytes) {
		const char *wrong = add_word(n, text, bytes);

		if (wrong != NULL) {
			(void)snprintf(why, NETWORKS_WHY_BYTES, "%.*s: %s",
				       (int)(bytes < 64 ? bytes : 64), text,
				       wrong);
			n->count = 0;
			return -EINVAL;
		}
	}
	return 0;
}

static bool has(const struct network *net, const uint8_t *addr)
{
	/* what a wide network of IPv6 has beside it by chance of the form */
	if (is_ipv4(addr) && (net->bits < 96 || !is_ipv4(net->addr)))
		return false;
	for (unsigned int i = 0; 8 * i < net->bits; i++)
		if (((addr[i] ^ net->addr[i]) & mask_of(net->bits, i)) != 0)
			return false;
	return true;
}

bool networks_have(const struct networks *n,
		   const uint8_t addr[NETWORKS_ADDRESS_BYTES])
{
	for (size_t i = 0; i < n->count; i++)
		if (has(&n->list[i], addr))
			return true;
	return false;
}

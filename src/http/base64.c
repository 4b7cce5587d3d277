#include "http/base64.h"

#include <openssl/evp.h>

size_t base64_encode(char *dst, const void *src, size_t bytes)
{
	return (size_t)EVP_EncodeBlock((unsigned char *)dst, src, (int)bytes);
}

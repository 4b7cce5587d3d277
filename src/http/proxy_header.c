#include "http/proxy_header.h"

#include <string.h>
#include <sys/socket.h>

#include "http/slice.h"
#include "util/networks.h"

_Static_assert(SINK_PEER_BYTES == NETWORKS_ADDRESS_BYTES, "one form");

#define V1_BEGIN SLICE("PROXY ")

/* version 2: signature, version and command, family and transport, length */
static const uint8_t signature[12] = { '\r', '\n', '\r', '\n', '\0', '\r',
				       '\n', 'Q',  'U',  'I',  'T',  '\n' };
#define V2_FIXED 16u
#define TLV_HEAD 3u /* type, length */

enum { COMMAND_LOCAL, COMMAND_PROXY };
enum { FAMILY_UNSPEC, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FAMILIES };
enum { TRANSPORT_UNSPEC, TRANSPORT_STREAM, TRANSPORT_DGRAM, TRANSPORTS };

static enum proxy_outcome bad(struct proxy_header *p, const char *reason)
{
	p->reason = reason;
	return PROXY_BAD;
}

/* ---- version 1 ---------------------------------------------------------- */

/* What stands before the next space; *rest goes on behind it.  At the end
 * *rest is absent then. */
static struct slice next_word(struct slice *rest)
{
	const char *space =
		rest->bytes > 0 ? memchr(rest->at, ' ', rest->bytes) : NULL;
	struct slice word = *rest;

	if (space == NULL) {
		*rest = SLICE_ABSENT;
		return word;
	}
	word.bytes = (size_t)(space - word.at);
	*rest = slice_skip(*rest, word.bytes + 1);
	return word;
}

static bool read_port(struct slice word, uint16_t *port)
{
	uint64_t value;

	if (word.bytes > 5 || (word.bytes > 1 && word.at[0] == '0') ||
	    !slice_to_u64(word, &value) || value > UINT16_MAX)
		return false;
	*port = (uint16_t)value;
	return true;
}

/* rest: what follows the family's word. */
static enum proxy_outcome read_tcp(struct proxy_header *p, int family,
				   struct slice rest)
{
	uint8_t own[SINK_PEER_BYTES];
	struct slice from = next_word(&rest);
	struct slice to = next_word(&rest);
	struct slice from_port = next_word(&rest);
	struct slice to_port = next_word(&rest);
	uint16_t own_port;

	if (slice_present(rest))
		return bad(p, "more than four words");
	if (networks_read_address(from.at, from.bytes, p->addr) != family ||
	    networks_read_address(to.at, to.bytes, own) != family)
		return bad(p, "wrong address");
	if (!read_port(from_port, &p->port) || !read_port(to_port, &own_port))
		return bad(p, "wrong port");
	p->has_address = true;
	return PROXY_DONE;
}

/* line: without its CRLF. */
static enum proxy_outcome read_line(struct proxy_header *p, struct slice line)
{
	struct slice rest = slice_skip(line, V1_BEGIN.bytes);
	struct slice family = next_word(&rest);

	if (slice_is(family, "UNKNOWN"))
		return PROXY_DONE; /* whatever follows is to be ignored */
	if (slice_is(family, "TCP4"))
		return read_tcp(p, AF_INET, rest);
	if (slice_is(family, "TCP6"))
		return read_tcp(p, AF_INET6, rest);
	return bad(p, "unknown family");
}

static enum proxy_outcome parse_v1(struct proxy_header *p, const char *text,
				   size_t count)
{
	size_t most = count < PROXY_HEADER_V1_MAX ? count : PROXY_HEADER_V1_MAX;
	const char *cr = memchr(text, '\r', most);
	const char *lf = memchr(text, '\n', most);

	if (lf != NULL && (cr == NULL || lf != cr + 1))
		return bad(p, "LF without CR");
	if (cr == NULL || cr + 1 == text + most)
		return most == PROXY_HEADER_V1_MAX ? bad(p, "line too long")
						   : PROXY_MORE;
	if (lf == NULL)
		return bad(p, "CR without LF");
	p->bytes = (size_t)(lf + 1 - text);
	return read_line(p, slice_make(text, (size_t)(cr - text)));
}

/* ---- version 2 ---------------------------------------------------------- */

static uint16_t get_u16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static bool tlvs_whole(const uint8_t *at, size_t left)
{
	while (left >= TLV_HEAD) {
		size_t bytes = TLV_HEAD + get_u16(at + 1);

		if (bytes > left)
			return false;
		at += bytes;
		left -= bytes;
	}
	return left == 0;
}

/* at: addresses and TLVs, `left` bytes. */
static enum proxy_outcome read_block(struct proxy_header *p, int family,
				     int transport, const uint8_t *at,
				     size_t left)
{
	/* two addresses; for IP two ports behind them */
	static const size_t bytes_of[FAMILIES] = {
		[FAMILY_INET] = 2 * 4 + 4,
		[FAMILY_INET6] = 2 * 16 + 4,
		[FAMILY_UNIX] = 2 * 108,
	};

	/* where TLVs would begin is not told then */
	if (family == FAMILY_UNSPEC || transport == TRANSPORT_UNSPEC)
		return PROXY_DONE;
	if (left < bytes_of[family])
		return bad(p, "too short for its addresses");
	if (!tlvs_whole(at + bytes_of[family], left - bytes_of[family]))
		return bad(p, "TLV beyond the end");
	if (family == FAMILY_UNIX)
		return PROXY_DONE;
	if (family == FAMILY_INET) {
		memset(p->addr, 0, sizeof(p->addr));
		p->addr[10] = p->addr[11] = 0xff;
		memcpy(p->addr + 12, at, 4);
	} else {
		memcpy(p->addr, at, 16);
	}
	p->port = get_u16(at + bytes_of[family] - 4);
	p->has_address = true;
	return PROXY_DONE;
}

static enum proxy_outcome parse_v2(struct proxy_header *p, const uint8_t *at,
				   size_t count)
{
	int command, family, transport;

	if (count > 12 && at[12] >> 4 != 2)
		return bad(p, "unknown version");
	if (count < V2_FIXED)
		return PROXY_MORE;
	command = at[12] & 15;
	family = at[13] >> 4;
	transport = at[13] & 15;
	p->bytes = V2_FIXED + get_u16(at + 14);
	if (command != COMMAND_LOCAL && command != COMMAND_PROXY)
		return bad(p, "unknown command");
	if (command == COMMAND_PROXY &&
	    (family >= FAMILIES || transport >= TRANSPORTS))
		return bad(p, "unknown family or transport");
	if (p->bytes > PROXY_HEADER_MAX)
		return bad(p, "too long");
	if (count < p->bytes)
		return PROXY_MORE;
	/* LOCAL: nothing of the block counts, not even the family */
	return command == COMMAND_LOCAL
		       ? PROXY_DONE
		       : read_block(p, family, transport, at + V2_FIXED,
				    p->bytes - V2_FIXED);
}

enum proxy_outcome proxy_header_parse(struct proxy_header *p, const void *bytes,
				      size_t count)
{
	const struct slice v1 = V1_BEGIN;
	size_t v1_same = count < v1.bytes ? count : v1.bytes;
	size_t v2_same = count < sizeof(signature) ? count : sizeof(signature);

	memset(p, 0, sizeof(*p));
	if (count == 0)
		return PROXY_MORE;
	if (memcmp(bytes, v1.at, v1_same) == 0)
		return count < v1.bytes ? PROXY_MORE
					: parse_v1(p, bytes, count);
	if (memcmp(bytes, signature, v2_same) == 0)
		return count < sizeof(signature) ? PROXY_MORE
						 : parse_v2(p, bytes, count);
	return bad(p, "no PROXY header");
}

#include "http/forwarded.h"

#include <string.h>
#include <sys/socket.h>

/* longest node: an IPv6 address that ends in IPv4, brackets, port */
#define NODE_BYTES 64u

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z');
}

/* ---- elements from the right -------------------------------------------- */

/* Where the quoted-string begins that ends with the quote at s.at[end].
 * False: nowhere. */
static bool find_opening(struct slice s, size_t end, size_t *at)
{
	for (size_t i = end; i > 0; i--) {
		if (s.at[i - 1] != '"')
			continue;
		/* within a quoted-string a quote has a backslash before it,
		 * what opens one never: it follows the `=' of a pair */
		if (i > 1 && s.at[i - 2] == '\\')
			continue;
		*at = i - 1;
		return true;
	}
	return false;
}

/* Where the last element begins.  False: its quotes do not pair. */
static bool find_last(struct slice s, bool quotes, size_t *from)
{
	size_t at = s.bytes;

	while (at > 0 && s.at[at - 1] != ',') {
		at--;
		if (quotes && s.at[at] == '"' && !find_opening(s, at, &at))
			return false;
	}
	*from = at;
	return true;
}

/* Cuts the last element off that is not empty; trimmed.  False: there is none
 * any more, and *rest is empty, or its quotes do not pair. */
static bool take_last(struct slice *rest, bool quotes, struct slice *element)
{
	size_t from;

	while (rest->bytes > 0 && find_last(*rest, quotes, &from)) {
		*element = slice_trim(slice_skip(*rest, from));
		rest->bytes = from > 0 ? from - 1 : 0;
		if (element->bytes > 0)
			return true;
	}
	return false;
}

/* ---- an element of Forwarded -------------------------------------------- */

struct node {
	char text[NODE_BYTES];
	size_t bytes; /* may be more than there is room for: it is no address */
};

static void node_add(struct node *node, char c)
{
	if (node->bytes < NODE_BYTES)
		node->text[node->bytes] = c;
	node->bytes++;
}

/* s begins with a quote and is moved behind the one that ends it. */
static bool read_quoted(struct slice *s, struct node *value)
{
	for (size_t i = 1; i < s->bytes; i++) {
		if (s->at[i] == '"') {
			*s = slice_skip(*s, i + 1);
			return true;
		}
		if (s->at[i] == '\\' && ++i == s->bytes)
			return false;
		node_add(value, s->at[i]);
	}
	return false;
}

/* name=value; s is moved behind it. */
static bool read_pair(struct slice *s, struct slice *name, struct node *value)
{
	size_t n = slice_token_bytes(*s);

	value->bytes = 0;
	*name = slice_make(s->at, n);
	if (n == 0 || n == s->bytes || s->at[n] != '=')
		return false;
	*s = slice_skip(*s, n + 1);
	if (s->bytes > 0 && s->at[0] == '"')
		return read_quoted(s, value);
	n = slice_token_bytes(*s);
	for (size_t i = 0; i < n; i++)
		node_add(value, s->at[i]);
	*s = slice_skip(*s, n);
	return n > 0;
}

/* The value of `for'.  False: none or two of them, or no pairs at all. */
static bool read_for(struct slice s, struct node *node)
{
	struct slice name;
	struct node value;
	bool found = false;

	for (;;) {
		s = slice_trim(s);
		if (s.bytes > 0 && s.at[0] != ';') {
			if (!read_pair(&s, &name, &value))
				return false;
			if (slice_is_nocase(name, "for")) {
				if (found)
					return false;
				found = true;
				*node = value;
			}
			s = slice_trim(s);
		}
		if (s.bytes == 0)
			return found;
		if (s.at[0] != ';')
			return false;
		s = slice_skip(s, 1);
	}
}

/* ---- addresses ---------------------------------------------------------- */

/* s: what follows an address: nothing, a port, or a name for one (_name). */
static bool is_port(struct slice s)
{
	uint64_t value;

	if (s.bytes == 0)
		return true;
	if (s.at[0] != ':')
		return false;
	s = slice_skip(s, 1);
	if (s.bytes < 2 || s.at[0] != '_')
		return s.bytes <= 5 && slice_to_u64(s, &value) &&
		       value <= UINT16_MAX;
	for (size_t i = 1; i < s.bytes; i++)
		if (!is_alnum(s.at[i]) && s.at[i] != '.' && s.at[i] != '_' &&
		    s.at[i] != '-')
			return false;
	return true;
}

static bool read_bracketed(struct slice s, uint8_t *addr)
{
	const char *end = memchr(s.at, ']', s.bytes);
	size_t n;

	if (end == NULL)
		return false;
	n = (size_t)(end - s.at) - 1;
	return networks_read_address(s.at + 1, n, addr) == AF_INET6 &&
	       is_port(slice_skip(s, n + 2));
}

/* bare: IPv6 may come without brackets. */
static bool read_address(struct slice s, bool bare, uint8_t *addr)
{
	const char *colon;
	size_t n = s.bytes;

	if (s.bytes == 0)
		return false;
	if (s.at[0] == '[')
		return read_bracketed(s, addr);
	if (bare && networks_read_address(s.at, s.bytes, addr) == AF_INET6)
		return true;
	colon = memchr(s.at, ':', s.bytes);
	if (colon != NULL)
		n = (size_t)(colon - s.at);
	return networks_read_address(s.at, n, addr) == AF_INET &&
	       is_port(slice_skip(s, n));
}

static bool read_element(struct slice element, enum head_field field,
			 uint8_t *addr)
{
	struct node node;

	if (field == FIELD_X_FORWARDED_FOR)
		return read_address(element, true, addr);
	return read_for(element, &node) && node.bytes <= NODE_BYTES &&
	       read_address(slice_make(node.text, node.bytes), false, addr);
}

/* ---- the walk ----------------------------------------------------------- */

/* One line, leftwards.  True: all of it was trusted, the line before it
 * counts too. */
static bool walk_line(struct slice line, enum head_field field,
		      const struct networks *trusted, uint8_t *client)
{
	uint8_t addr[SINK_PEER_BYTES];
	struct slice element;

	while (take_last(&line, field == FIELD_FORWARDED, &element)) {
		if (!read_element(element, field, addr))
			return false;
		memcpy(client, addr, SINK_PEER_BYTES);
		if (!networks_have(trusted, client))
			return false;
	}
	return line.bytes == 0;
}

void forwarded_client(const struct head *h, const uint8_t peer[SINK_PEER_BYTES],
		      const struct networks *trusted,
		      uint8_t client[SINK_PEER_BYTES])
{
	struct slice lines[HEAD_FIELDS_MAX];
	enum head_field field = slice_present(head_field(h, FIELD_FORWARDED))
					? FIELD_FORWARDED
					: FIELD_X_FORWARDED_FOR;
	unsigned count = 0, at = 0;

	memcpy(client, peer, SINK_PEER_BYTES);
	if (!networks_have(trusted, peer))
		return;
	while (count < HEAD_FIELDS_MAX &&
	       head_next_line(h, field, &at, &lines[count]))
		count++;
	while (count > 0 && walk_line(lines[count - 1], field, trusted, client))
		count--;
}

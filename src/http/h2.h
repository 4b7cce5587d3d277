/*
 * h2 - HTTP/2 on a connection (RFC 9113, RFC 8441, RFC 9218), by nghttp2.
 *
 * Used by: worker; called by conn.c alone.  Nothing blocks.  Every stream is
 * a sink.  Flow control is the only push-back: a response's bytes are read
 * from the file when, and only when, a DATA frame can be sent, straight into
 * the buffer that leaves the process; so a stream holds no bytes of a range.
 *
 *   conn_run() --> h2_run() --> nghttp2 --> a stream's turn: h2_read_body()
 *                                                |
 *      serve: file() <-- writable() <------------'   (pull)
 *
 * Priorities: what the source says by sink->ops->hurry(); the client's
 * Priority field (RFC 9218) counts among media.
 */
#ifndef REELCACHE_HTTP_H2_H
#define REELCACHE_HTTP_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/base.h"

struct conn;
struct h2;

#define H2_PREFACE_BYTES 24u
#define H2_PREFACE       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Frames that only cost work (RST_STREAM, PING, SETTINGS, PRIORITY ...) that
 * a client may send at once, and per second after that. */
#define H2_FLOOD_BURST  1000u
#define H2_FLOOD_SECOND 100u

/* Bytes of a batch: together these are sent in one piece. */
#define H2_BATCH_BYTES   65536u
#define H2_CONTROL_BYTES 16384u /* while a WebSocket is there to be stalled */

/* -ENOMEM */
int h2_new(struct h2 **out, struct conn *c) MUSTCHECK;
/* Tells the sources of all streams that they are gone. */
void h2_free(struct h2 *h);

/* Bytes that were received already. */
void h2_input(struct h2 *h, const void *bytes, size_t count);

/* Receives and sends as far as it goes. */
void h2_run(struct h2 *h);

/* No new streams: GOAWAY, and again when those under way have had time to
 * arrive (RFC 9113 section 6.8). */
void h2_drain(struct h2 *h);
/* While it drains, about every 100 ms. */
void h2_drain_tick(struct h2 *h);

/* Every half of the send timeout, call it as often as you like: streams whose
 * client takes nothing are reset at the second time. */
void h2_check_streams(struct h2 *h);
/* Nothing happened for a timeout: says goodbye. */
void h2_say_goodbye(struct h2 *h);

/* Was anything of a request or an answer sent since it was last asked?  PINGs
 * keep nothing open. */
bool h2_take_used(struct h2 *h);
/* Those that were not answered wholly. */
uint32_t h2_stream_count(const struct h2 *h);
/* Do bodies of requests still arrive that were answered? */
bool h2_awaits_bodies(const struct h2 *h);
/* They have had their time. */
void h2_end_bodies(struct h2 *h);
/* Is a request's head arriving?  anew: another one than when last asked. */
bool h2_is_in_head(struct h2 *h, bool *anew);
/* Does a response wait for its client? */
bool h2_waits_for_client(const struct h2 *h);
/* Nothing is left to be done. */
bool h2_is_over(const struct h2 *h);

#endif

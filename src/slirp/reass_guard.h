/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps libslirp before 4.8.0 from running off the end of its list of TCP segments.
 *
 * tcp_reass() compares the end of that list with the wrong pointer. Behind the last segment it
 * reads a sequence number out of its control block: zero for IPv4, bytes 4 to 7 of the container's
 * address for IPv6. When what it expects next is that number, the trigger T, it takes the block for
 * a segment. So no step of that loop may end at T with nothing queued behind it.
 *
 * Where a step ends is where a segment's data ends, FIN not counted, or where the window cut it;
 * queued segments are trimmed in front only. So a segment is of interest when its data hold byte
 * T-1, or when it is a FIN alone at T. All others end elsewhere, whatever is trimmed. Of these
 *   - one that begins earlier is cut to end at T-1 and loses its FIN; the container sends the rest
 *     again. That of a SYN is always cut: it would be queued.
 *   - one that begins at T-1, and a FIN alone at T, passes only when libslirp expects just that,
 *     which is asked of it (struct reass_inquiry), since its state cannot be seen from outside: its
 *     own FIN may wait for a window. In ESTABLISHED the segment is cut to that byte: it bypasses
 *     the loop, or is put in front of one that begins at T or later, since nothing in front of T
 *     is queued. In other states everything goes through the loop. There it passes uncut when it
 *     goes on behind T and libslirp holds nothing that the host is still to take: then the
 *     window, all of its buffer, is larger than any segment and cuts nothing off.
 *   What does not pass is dropped; when the host closed first and the container's segment ends
 *   exactly at T, what is behind it does not arrive.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/eth.h"
#include "wire/ip4.h"
#include "wire/packet.h"

#define TCP_HEADER_MAX  60
#define REASS_PROBE_MAX (ETH_HEADER_LEN + IP4_HEADER_MAX + TCP_HEADER_MAX)

enum reass_verdict {
	REASS_PASS,
	REASS_CUT, /* shortened in place; may pass */
	REASS_ASK, /* may pass as an inquiry says */
};

/* What an inquiry finds. */
enum reass_answer {
	REASS_NOT_NEXT,  /* or not known: the segment may not pass */
	REASS_NEXT_BYTE, /* its first byte of data and no more, or its FIN alone */
	REASS_NEXT_ALL,  /* all of it, if it has more than a byte; else nothing */
};

/* A TCP segment from the container, checked by packet_parse(). Always REASS_PASS when built for a
 * libslirp that needs no guard. */
enum reass_verdict reass_guard_check(uint8_t *frame, struct packet *packet);

/*
 * What libslirp expects next on a connection, found out at the moment it matters.
 *
 * The probe is the segment without its data and one sequence number earlier: if the segment is the
 * next one that is old, and is answered with an ACK (RFC 9293 3.10.7.4). Such an answer can have
 * waited in libslirp for the container's hardware address and be stale, with newer ones behind it;
 * of those libslirp lets out one per connection each time that it sends anything. So a second probe
 * makes it send a reset to a port that nobody has (0): if by then nothing more of the connection
 * comes out, the answer was the newest.
 */
struct reass_inquiry {
	struct ip_addr near, far;
	uint16_t near_port, far_port;
	uint32_t next;                      /* the segment's sequence number */
	uint32_t n_next, n_other, n_resets; /* since the last probe */
};

/* `ret_probe` has room for REASS_PROBE_MAX. Returns the length, or 0 when the headers are longer
 * than anything that libslirp takes. */
size_t reass_inquiry_begin(struct reass_inquiry *inquiry, const uint8_t *frame,
	const struct packet *packet, uint8_t *ret_probe);
/* Makes the second probe of the first one. Returns false when the first answer says no already. */
bool reass_inquiry_sweep(struct reass_inquiry *inquiry, uint8_t *probe, size_t len);
/* `connections` is libslirp's list of them, as text. It does not tell IPv6 addresses and the far
 * ends of published ports, so what is said is of every connection with these ports. */
enum reass_answer reass_inquiry_end(const struct reass_inquiry *inquiry, const char *connections);

/* Makes a segment to be asked about what the answer lets pass. False: nothing. */
bool reass_guard_apply(enum reass_answer answer, uint8_t *frame, struct packet *packet);

/* A frame that libslirp sent in between. */
void reass_inquiry_saw(struct reass_inquiry *inquiry, const uint8_t *frame, size_t len);

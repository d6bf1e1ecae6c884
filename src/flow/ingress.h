/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checked parse in front of every stack: what does not add up, and what may not be reached,
 * goes no further. It drops and counts, puts fragments together, and answers with an ICMP error, at
 * a bounded rate, what policy refuses and, where our own stack is behind, what a router would.
 *
 * The virtio-net header in front of a frame can be the container's own work (a packet socket with
 * PACKET_VNET_HDR): of its numbers only those are used that agree with the frame.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "flow/icmp_limit.h"
#include "flow/policy.h"
#include "flow/reassembly.h"
#include "flow/unreachable.h"
#include "wire/packet.h"
#include "wire/vnet.h"

/* The longest frame that passes. A buffer has room for one and its virtio-net header even when what
 * is in it is shorter: a datagram grows out of its last fragment, beyond what a link carries. */
#define INGRESS_FRAME_MAX  REASSEMBLY_FRAME_MAX
#define INGRESS_BUFFER_LEN (VNET_HEADER_LEN + INGRESS_FRAME_MAX)
#define INGRESS_ANSWER_MAX UNREACHABLE_MAX

/* Datagrams in one run: Linux makes no more (UDP_MAX_SEGMENTS; 64 before 6.9). */
#define INGRESS_RUN_MAX 128

/* An ICMP error for the container, an Ethernet frame, that answers no frame of this moment. */
typedef void ingress_tell_fn(void *owner, const uint8_t *frame, size_t len);

struct ingress {
	const struct policy *policy;
	struct icmp_limit *icmp_limit;
	struct counters *counters;
	/* The stack behind is ours; off for libslirp, which has its own idea of what it carries and
	 * verifies checksums itself. */
	bool own_stack;
	/* Of the link, which may change them: bits of enum link_offload. 0 after ingress_init(). */
	uint32_t offloads;
	struct reassembly reassembly;
	ingress_tell_fn *tell;
	void *tell_owner;
};

enum ingress_result {
	/* A whole TCP segment. With own_stack its checksum is right, or the virtio-net header says
	 * that it was verified (VNET_DATA_VALID) or is still to be completed, in the right place
	 * (VNET_NEEDS_CSUM); without, the header is all zero and the checksum complete. */
	INGRESS_TCP,
	/* With own_stack: a whole UDP datagram of which neither port is 0, the packet cut where the
	 * UDP length says that it ends; its checksum as that of TCP, or left out. With LINK_USO it
	 * can be a run (gso_type VNET_GSO_UDP_L4): the payload is at least one byte and to be cut
	 * into at most INGRESS_RUN_MAX datagrams of gso_size bytes, the last one may be shorter. */
	INGRESS_UDP,
	/* With own_stack: ICMP over IPv4 or ICMPv6 over IPv6, but for group reports. The header is
	 * all zero, the checksum complete and right. */
	INGRESS_ICMP,
	/* ARP; without own_stack also every other whole packet. The header is all zero, the
	 * checksum complete. */
	INGRESS_OTHER,
	/* Counted; or a fragment that waits for others, or, with own_stack, a group report (IGMP,
	 * MLD), for which nobody is there. */
	INGRESS_DROP,
	/* Counted; the reply is to be sent to the container. */
	INGRESS_ANSWER,
};

/* Keeps all pointers. */
void ingress_init(struct ingress *ingress, const struct policy *policy,
	struct icmp_limit *icmp_limit, bool own_stack, struct counters *counters);
void ingress_done(struct ingress *ingress);
/* Of datagrams whose fragments do not all come in time the container is told through `tell`. */
void ingress_watch(
	struct ingress *ingress, struct timer_heap *timers, ingress_tell_fn *tell, void *owner);

/* `buf` is a virtio-net header and a frame, `len` the frame's length without the header. For
 * what passes *ret_packet says where the parts lie in the frame; for INGRESS_ANSWER the reply is in
 * `answer` (INGRESS_ANSWER_MAX bytes, without header). */
enum ingress_result ingress_frame(struct ingress *ingress, uint8_t *buf, size_t len, int64_t now_ns,
	struct packet *ret_packet, uint8_t *answer, size_t *ret_answer_len);

/* Computes the checksum that a frame which passed still lacks, and clears its virtio-net header:
 * for stacks that know no partial checksums. Does nothing when it was done before. */
void ingress_complete_checksum(uint8_t *buf, const struct packet *packet);

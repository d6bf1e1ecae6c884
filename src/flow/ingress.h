/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checked parse in front of every stack: what does not add up, and what may not be reached,
 * goes no further. It drops and counts, puts IPv4 fragments together, and answers what policy
 * refuses with an ICMP error, at a bounded rate.
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
 * is in it is shorter: a datagram grows out of its last fragment. */
#define INGRESS_FRAME_MAX  REASSEMBLY_FRAME_MAX
#define INGRESS_BUFFER_LEN (VNET_HEADER_LEN + INGRESS_FRAME_MAX)
#define INGRESS_ANSWER_MAX UNREACHABLE_MAX

struct ingress {
	const struct policy *policy;
	struct icmp_limit *icmp_limit;
	struct counters *counters;
	/* Off where the stack behind verifies TCP's checksum itself. */
	bool verify_tcp;
	struct reassembly reassembly;
};

enum ingress_result {
	/* A whole TCP segment. With verify_tcp its checksum is right, or the virtio-net header says
	 * that it was verified (VNET_DATA_VALID) or is still to be completed, in the right place
	 * (VNET_NEEDS_CSUM); without, the header is all zero and the checksum complete. */
	INGRESS_TCP,
	/* ARP, or another whole packet. The header is all zero, the checksum complete. */
	INGRESS_OTHER,
	/* Counted, or a fragment that waits for others. */
	INGRESS_DROP,
	/* Counted; the reply is to be sent to the container. */
	INGRESS_ANSWER,
};

/* Keeps all pointers. */
void ingress_init(struct ingress *ingress, const struct policy *policy,
	struct icmp_limit *icmp_limit, bool verify_tcp, struct counters *counters);
void ingress_done(struct ingress *ingress);

/* `buf` is a virtio-net header and a frame, `len` the frame's length without the header. For
 * INGRESS_TCP and INGRESS_OTHER *ret_packet says where the parts lie in the frame; for
 * INGRESS_ANSWER the reply is in `answer` (INGRESS_ANSWER_MAX bytes, without header). */
enum ingress_result ingress_frame(struct ingress *ingress, uint8_t *buf, size_t len, int64_t now_ns,
	struct packet *ret_packet, uint8_t *answer, size_t *ret_answer_len);

/* Computes the checksum that a frame which passed still lacks, and clears its virtio-net header:
 * for stacks that know no partial checksums. Does nothing when it was done before. */
void ingress_complete_checksum(uint8_t *buf, const struct packet *packet);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two machines that the container sees on its link, N+2 and N+3 (fd00::2 and fd00::3): they
 * answer ARP, neighbour solicitations and echo requests, and keep a bounded table of neighbours,
 * learned from what those say. DHCP and router advertisements are libslirp's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "flow/egress.h"
#include "flow/policy.h"
#include "gateway/neighbor.h"
#include "wire/packet.h"

struct gateway {
	const struct policy *policy;
	struct egress *egress;
	struct counters *counters;
	struct neighbor_table neighbors;
};

enum gateway_result {
	GATEWAY_TAKEN,
	GATEWAY_PASSED, /* not for us alone: ARP replies and announcements, neighbour advertisements
			 * (all learned), echo requests to others, router solicitations, other ICMP
			 * messages */
};

/* Keeps all pointers. */
void gateway_init(struct gateway *gateway, const struct policy *policy, struct egress *egress,
	const struct siphash_key *key, struct counters *counters);

/* ARP, ICMP or ICMPv6: a whole packet that has passed ingress, its checksum complete and right. */
enum gateway_result gateway_input(
	struct gateway *gateway, const uint8_t *frame, const struct packet *packet, int64_t now_ns);

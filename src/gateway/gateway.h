/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two machines that the container sees on its link, N+2 and N+3 (fd00::2 and fd00::3): they
 * answer ARP, neighbour solicitations and echo requests, and keep a bounded table of neighbours,
 * learned from what those say and from what was asked for (next_hop.c). For clients of published
 * ports that seem to be on the link they answer, too. DHCP and router advertisements are
 * libslirp's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/loop.h"
#include "flow/egress.h"
#include "flow/next_hop.h"
#include "flow/policy.h"
#include "gateway/neighbor.h"
#include "wire/packet.h"

/* One address is asked for so often at most, and so many in that time. */
#define GATEWAY_ASK_INTERVAL_NS (1 * NS_PER_SEC)
#define GATEWAY_QUESTIONS_MAX   64
/* Addresses on the link for which we answer while flows of theirs live. */
#define GATEWAY_CLAIMS_MAX 256

/* Family 0: none. */
struct gateway_question {
	struct ip_addr addr;
	int64_t at_ns;
};

struct gateway_claim {
	struct ip_addr addr;
	uint32_t n_flows;
};

struct gateway {
	struct next_hop next_hop;
	const struct policy *policy;
	struct egress *egress;
	const struct loop *loop;
	struct counters *counters;
	struct neighbor_table neighbors;
	struct gateway_question questions[GATEWAY_QUESTIONS_MAX];
	struct gateway_claim claims[GATEWAY_CLAIMS_MAX];
	uint32_t n_claims;
	struct in6_addr last6;  /* the last source of an IPv6 packet that was looked at */
	struct in6_addr guest6; /* ::, it was not seen */
	/* Is told of each neighbour that ARP or neighbour discovery name, after it was learned;
	 * NULL: nobody is. */
	void (*heard)(void *arg, const struct ip_addr *addr, const struct eth_addr *mac);
	void *heard_arg;
};

enum gateway_result {
	GATEWAY_TAKEN,
	GATEWAY_PASSED, /* not for us alone: ARP replies and announcements, neighbour advertisements
			 * (all learned), echo requests to others, router solicitations, other ICMP
			 * messages */
};

/* Keeps all pointers; `loop` is asked for the time only. */
void gateway_init(struct gateway *gateway, const struct policy *policy, struct egress *egress,
	const struct loop *loop, const struct siphash_key *key, struct counters *counters);

/* Any packet of the container: who it is from. Cheap. */
void gateway_saw(struct gateway *gateway, const struct packet *packet);
/* The IPv6 address at which the guest was last seen: one of its packets came from there, or it was
 * about to take it. Not link-local; one of our network's if there was one. False: it was not. */
bool gateway_guest6(const struct gateway *gateway, struct in6_addr *ret);
/* Whether we answer for `addr` in a client's name. */
bool gateway_is_claimed(struct gateway *gateway, const struct ip_addr *addr);

/* ---- next_hop.c ---- */

extern const struct next_hop_ops gateway_next_hop_ops;

/* ARP, ICMP or ICMPv6: a whole packet that has passed ingress, its checksum complete and right. */
enum gateway_result gateway_input(
	struct gateway *gateway, const uint8_t *frame, const struct packet *packet, int64_t now_ns);

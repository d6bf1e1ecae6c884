/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where addresses are reached (flow/next_hop.h): the table of neighbours, questions to the link,
 * and the clients of whom the container is made to believe that they are on it.
 */
#include <errno.h>

#include "base/util.h"
#include "gateway/gateway.h"
#include "gateway/own.h"
#include "wire/arp.h"
#include "wire/ip4.h"
#include "wire/ndp.h"

static struct gateway *gateway_of(struct next_hop *next_hop)
{
	return container_of(next_hop, struct gateway, next_hop);
}

/* ---- asking ---- */

/* Whether `addr` may be asked for now. Each place stands for a question within the interval, so
 * that their number is the bound of all together. */
static bool may_ask(struct gateway *gateway, const struct ip_addr *addr)
{
	int64_t now_ns = gateway->loop->now_ns;
	struct gateway_question *free = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(gateway->questions); i++) {
		struct gateway_question *question = &gateway->questions[i];

		if (!question->addr.family || now_ns - question->at_ns >= GATEWAY_ASK_INTERVAL_NS)
			free = free ? free : question;
		else if (ip_addr_equal(&question->addr, addr))
			return false;
	}
	if (free)
		*free = (struct gateway_question){.addr = *addr, .at_ns = now_ns};
	return free;
}

static void ask_arp(struct gateway *gateway, const struct ip_addr *addr)
{
	const struct ip_addr us = policy_gateway(gateway->policy, AF_INET);
	const struct eth_addr mac = egress_mac(&us);
	uint8_t request[ARP_FRAME_LEN];

	arp_build_request(
		request, &mac, ip4_addr_be32(ip_addr_v4(&us)), ip4_addr_be32(ip_addr_v4(addr)));
	egress_frame(gateway->egress, request, sizeof(request));
}

/* RFC 4861 7.2.2 */
static void solicit(struct gateway *gateway, const struct ip_addr *addr)
{
	const struct ip_addr us = policy_gateway(gateway->policy, AF_INET6);
	const struct in6_addr node = ndp_solicited_node(&addr->in6);
	struct egress_head head = {
		.dst_mac = ndp_group_mac(&node),
		.src_mac = egress_mac(&us),
		.src = us,
		.dst = ip_addr_of_v6(&node),
		.ttl = NDP_HOP_LIMIT,
	};
	struct ndp_solicitation message;
	const struct iovec iov = {&message, sizeof(message)};

	ndp_build_solicitation(&message, &addr->in6, &head.src_mac);
	egress_send(gateway->egress, &head, IPPROTO_ICMPV6, &iov, 1);
}

static void ask(struct gateway *gateway, const struct ip_addr *addr)
{
	if (!may_ask(gateway, addr))
		return;
	count(gateway->counters, COUNTER_NEIGHBORS_ASKED);
	if (addr->family == AF_INET)
		ask_arp(gateway, addr);
	else
		solicit(gateway, addr);
}

/* ---- finding ---- */

/* Who has to be on the link, so that `addr` is reached. */
static bool hop_to(const struct gateway *gateway, const struct ip_addr *addr, struct ip_addr *ret)
{
	struct in6_addr guest6;

	*ret = *addr;
	if (addr->family == AF_INET6 && !gateway->policy->ipv6)
		return false;
	if (policy_on_link(gateway->policy, addr))
		return ip_addr_is_unicast(addr) &&
			!policy_is_directed_broadcast(gateway->policy, addr) &&
			own_address_of(gateway->policy, addr) == OWN_NONE;
	if (addr->family == AF_INET) {
		*ret = ip_addr_of_v4(gateway->policy->guest);
		return true;
	}
	if (!gateway_guest6(gateway, &guest6))
		return false;
	*ret = ip_addr_of_v6(&guest6);
	return true;
}

static bool find(
	struct next_hop *next_hop, const struct ip_addr *addr, bool again, struct eth_addr *ret_mac)
{
	struct gateway *gateway = gateway_of(next_hop);
	const struct neighbor *neighbor;
	struct ip_addr hop;

	if (!hop_to(gateway, addr, &hop))
		return false;
	neighbor = neighbor_find(&gateway->neighbors, &hop);
	if (neighbor)
		*ret_mac = neighbor->mac;
	if (!neighbor || again)
		ask(gateway, &hop);
	return neighbor;
}

/* ---- clients that seem to be on the link ---- */

static struct gateway_claim *claim_of(struct gateway *gateway, const struct ip_addr *addr)
{
	for (uint32_t i = 0; i < gateway->n_claims; i++)
		if (ip_addr_equal(&gateway->claims[i].addr, addr))
			return &gateway->claims[i];
	return NULL;
}

static bool is_to_be_claimed(const struct gateway *gateway, const struct ip_addr *addr)
{
	const struct ip_addr guest = ip_addr_of_v4(gateway->policy->guest);

	return policy_on_link(gateway->policy, addr) && ip_addr_is_unicast(addr) &&
		own_address_of(gateway->policy, addr) == OWN_NONE && !ip_addr_equal(addr, &guest);
}

static int claim(struct next_hop *next_hop, const struct ip_addr *addr)
{
	struct gateway *gateway = gateway_of(next_hop);
	struct gateway_claim *claim;

	if (!is_to_be_claimed(gateway, addr))
		return 0;
	claim = claim_of(gateway, addr);
	if (!claim && gateway->n_claims == GATEWAY_CLAIMS_MAX)
		return -ENOSPC;
	if (!claim) {
		claim = &gateway->claims[gateway->n_claims++];
		*claim = (struct gateway_claim){.addr = *addr};
	}
	claim->n_flows++;
	return 0;
}

static void release(struct next_hop *next_hop, const struct ip_addr *addr)
{
	struct gateway *gateway = gateway_of(next_hop);
	struct gateway_claim *claim = claim_of(gateway, addr);

	if (claim && --claim->n_flows == 0)
		*claim = gateway->claims[--gateway->n_claims];
}

/* A machine that was heard under the address answers for itself; and what the guest has taken for
 * its own is its own. */
bool gateway_is_claimed(struct gateway *gateway, const struct ip_addr *addr)
{
	struct in6_addr guest6;

	if (!claim_of(gateway, addr) || neighbor_find(&gateway->neighbors, addr))
		return false;
	return addr->family == AF_INET || !gateway_guest6(gateway, &guest6) ||
		!IN6_ARE_ADDR_EQUAL(&guest6, &addr->in6);
}

const struct next_hop_ops gateway_next_hop_ops = {
	.find = find,
	.claim = claim,
	.release = release,
};

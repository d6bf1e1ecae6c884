/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include "base/util.h"
#include "gateway/own.h"
#include "wire/arp.h"
#include "wire/icmp.h"
#include "wire/ndp.h"

/* One packet of the container. */
struct visit {
	struct gateway *gateway;
	const uint8_t *frame;
	const struct packet *packet;
	int64_t now_ns;
};

void gateway_init(struct gateway *gateway, const struct policy *policy, struct egress *egress,
	const struct loop *loop, const struct siphash_key *key, struct counters *counters)
{
	*gateway = (struct gateway){
		.next_hop.ops = &gateway_next_hop_ops,
		.policy = policy,
		.egress = egress,
		.loop = loop,
		.counters = counters,
	};
	neighbor_table_init(&gateway->neighbors, policy, key);
}

static enum gateway_result drop(const struct visit *v, enum counter reason)
{
	count(v->gateway->counters, reason);
	return GATEWAY_TAKEN;
}

static void learn(const struct visit *v, const struct ip_addr *addr, const struct eth_addr *mac)
{
	struct gateway *gateway = v->gateway;

	if (neighbor_learn(&gateway->neighbors, addr, mac, v->now_ns) && gateway->heard)
		gateway->heard(gateway->heard_arg, addr, mac);
}

static enum own_address own_address(const struct visit *v, const struct ip_addr *addr)
{
	return own_address_of(v->gateway->policy, addr);
}

/* Under which an address is answered for: clients' are reached through the gateway. */
static struct eth_addr mac_of(const struct visit *v, const struct ip_addr *addr)
{
	const struct ip_addr gateway = policy_gateway(v->gateway->policy, addr->family);

	return egress_mac(own_address(v, addr) == OWN_NONE ? &gateway : addr);
}

static const struct eth_header *eth_of(const struct visit *v)
{
	return (const struct eth_header *)v->frame;
}

static const void *transport(const struct visit *v)
{
	return v->frame + v->packet->transport_offset;
}

/* ---- where the guest is ---- */

static bool is_guests(const struct gateway *gateway, const struct in6_addr *addr)
{
	const struct ip_addr whole = ip_addr_of_v6(addr);

	return policy_check(gateway->policy, &whole, IPPROTO_NONE) == POLICY_PASS &&
		ip_addr_is_unicast(&whole) && own_address_of(gateway->policy, &whole) == OWN_NONE;
}

static bool is_on_link6(const struct gateway *gateway, const struct in6_addr *addr)
{
	const struct ip_addr whole = ip_addr_of_v6(addr);

	return policy_on_link(gateway->policy, &whole);
}

/* Who is not of our network may be a container behind the guest. */
static void note_guest6(struct gateway *gateway, const struct in6_addr *addr)
{
	if (is_guests(gateway, addr) &&
		(is_on_link6(gateway, addr) || !is_on_link6(gateway, &gateway->guest6)))
		gateway->guest6 = *addr;
}

void gateway_saw(struct gateway *gateway, const struct packet *packet)
{
	const struct in6_addr *src = &packet->src.in6;

	if (packet->src.family != AF_INET6 || IN6_ARE_ADDR_EQUAL(src, &gateway->last6))
		return;
	gateway->last6 = *src;
	note_guest6(gateway, src);
}

bool gateway_guest6(const struct gateway *gateway, struct in6_addr *ret)
{
	*ret = gateway->guest6;
	return !IN6_IS_ADDR_UNSPECIFIED(ret);
}

/* Nobody is to believe a neighbour that says it had an address of ours. */
static enum gateway_result passed_unless_ours(const struct visit *v, const struct ip_addr *addr)
{
	return own_address(v, addr) == OWN_NONE ? GATEWAY_PASSED : GATEWAY_TAKEN;
}

/* ---- ARP ---- */

/* RFC 1027. Whoever probes (RFC 5227 2.1.1) or announces may have the address. */
static bool is_asked_for_client(const struct visit *v, const struct arp_header *request)
{
	return be32_get(request->sender_protocol) != 0 &&
		be32_get(request->sender_protocol) != be32_get(request->target_protocol) &&
		gateway_is_claimed(v->gateway, &v->packet->dst);
}

/* Also a probe (RFC 5227 2.1.1) and whoever announces an address of ours: there is a conflict, and
 * this says so. */
static void answer_arp(const struct visit *v, const struct arp_header *request)
{
	struct eth_addr mac = mac_of(v, &v->packet->dst);
	uint8_t reply[ARP_FRAME_LEN];

	arp_build_reply(reply, request, &mac);
	egress_frame(v->gateway->egress, reply, sizeof(reply));
}

static enum gateway_result visit_arp(const struct visit *v)
{
	const struct arp_header *arp = (const struct arp_header *)(v->frame + ETH_HEADER_LEN);

	if (!arp_sender_is_sane(arp))
		return drop(v, COUNTER_DROP_HEADER);
	learn(v, &v->packet->src, &arp->sender_hardware);
	if (be16_get(arp->opcode) == ARP_REPLY)
		return passed_unless_ours(v, &v->packet->src);
	if (own_address(v, &v->packet->dst) != OWN_NONE || is_asked_for_client(v, arp)) {
		answer_arp(v, arp);
		return GATEWAY_TAKEN;
	}
	/* An announcement (RFC 5227 3) is for whoever keeps a table. */
	return be32_get(arp->sender_protocol) == be32_get(arp->target_protocol) ? GATEWAY_PASSED
										: GATEWAY_TAKEN;
}

/* ---- neighbour discovery ---- */

static struct ip_addr target_of(const struct visit *v)
{
	const struct ndp_neighbor *ndp = transport(v);
	struct in6_addr target;

	memcpy(&target, &ndp->target, sizeof(target));
	return ip_addr_of_v6(&target);
}

/* RFC 4861 7.2.4. Whoever asks from :: is about to take the address (RFC 4862 5.4): all must hear
 * whose it is. */
static void advertise(const struct visit *v, const struct ip_addr *target, enum own_address own)
{
	static const struct eth_addr all_nodes_mac = {{0x33, 0x33, 0, 0, 0, 1}};
	static const struct in6_addr all_nodes = {{{0xff, 2, [15] = 1}}};
	bool is_dad = IN6_IS_ADDR_UNSPECIFIED(&v->packet->src.in6);
	struct egress_head head = {
		.dst_mac = is_dad ? all_nodes_mac : eth_of(v)->src,
		.src_mac = mac_of(v, target),
		.src = *target,
		.dst = is_dad ? ip_addr_of_v6(&all_nodes) : v->packet->src,
		.ttl = NDP_HOP_LIMIT,
	};
	/* Not of a client's: it may come to be on the link (RFC 4861 7.2.8). */
	uint32_t flags = (own != OWN_NONE ? NDP_OVERRIDE : 0) |
		(own == OWN_GATEWAY ? NDP_ROUTER : 0) | (is_dad ? 0 : NDP_SOLICITED);
	struct ndp_advertisement message;
	const struct iovec iov = {&message, sizeof(message)};

	if (!is_dad)
		(void)ndp_link_address(v->frame, v->packet, NDP_OPTION_SOURCE, &head.dst_mac);
	ndp_build_advertisement(&message, &target->in6, &head.src_mac, flags);
	egress_send(v->gateway->egress, &head, IPPROTO_ICMPV6, &iov, 1);
}

static enum gateway_result visit_neighbor_solicitation(const struct visit *v)
{
	struct ip_addr target = target_of(v);
	enum own_address own = own_address(v, &target);
	bool is_dad = IN6_IS_ADDR_UNSPECIFIED(&v->packet->src.in6);
	struct eth_addr mac;

	if (ndp_link_address(v->frame, v->packet, NDP_OPTION_SOURCE, &mac))
		learn(v, &v->packet->src, &mac);
	if (own != OWN_NONE || (!is_dad && gateway_is_claimed(v->gateway, &target)))
		advertise(v, &target, own);
	else if (is_dad)
		note_guest6(v->gateway, &target.in6);
	return GATEWAY_TAKEN;
}

static enum gateway_result visit_neighbor_advertisement(const struct visit *v)
{
	struct ip_addr target = target_of(v);
	struct eth_addr mac;

	if (ndp_link_address(v->frame, v->packet, NDP_OPTION_TARGET, &mac))
		learn(v, &target, &mac);
	note_guest6(v->gateway, &target.in6);
	return passed_unless_ours(v, &target);
}

static enum gateway_result visit_router_solicitation(const struct visit *v)
{
	struct eth_addr mac;

	if (ndp_link_address(v->frame, v->packet, NDP_OPTION_SOURCE, &mac))
		learn(v, &v->packet->src, &mac);
	return GATEWAY_PASSED;
}

static enum gateway_result visit_ndp(
	const struct visit *v, enum gateway_result (*visit)(const struct visit *v))
{
	enum packet_outcome outcome = ndp_check(v->frame, v->packet);

	if (outcome != PACKET_OK)
		return drop(v,
			outcome == PACKET_TRUNCATED ? COUNTER_DROP_TRUNCATED : COUNTER_DROP_HEADER);
	return visit(v);
}

/* ---- echo ---- */

/* Without its service the DNS address is one like others. */
static enum gateway_result visit_echo(const struct visit *v, uint8_t reply_type)
{
	enum own_address own = own_address(v, &v->packet->dst);
	const struct egress_head head = {
		.dst_mac = eth_of(v)->src,
		.src_mac = egress_mac(&v->packet->dst),
		.src = v->packet->dst,
		.dst = v->packet->src,
		.tos = v->packet->tos,
	};
	struct icmp_header icmp;
	const uint8_t *data = (const uint8_t *)transport(v) + sizeof(icmp);
	const struct iovec iov[] = {
		{&icmp, sizeof(icmp)},
		{(void *)(uintptr_t)data, v->packet->transport_len - sizeof(icmp)},
	};

	if (own == OWN_NONE || (own == OWN_DNS && !v->gateway->policy->dns_enabled))
		return GATEWAY_PASSED;
	memcpy(&icmp, transport(v), sizeof(icmp));
	icmp.type = reply_type;
	icmp.code = 0;
	egress_send(v->gateway->egress, &head, v->packet->protocol, iov, ARRAY_SIZE(iov));
	return GATEWAY_TAKEN;
}

/* ---- dispatch ---- */

static enum gateway_result visit_icmp4(const struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	return icmp->type == ICMP_ECHO ? visit_echo(v, ICMP_ECHO_REPLY) : GATEWAY_PASSED;
}

static enum gateway_result visit_icmp6(const struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	switch (icmp->type) {
	case ICMP6_ECHO_REQUEST:
		return visit_echo(v, ICMP6_ECHO_REPLY);
	case ICMP6_NEIGHBOR_SOLICITATION:
		return visit_ndp(v, visit_neighbor_solicitation);
	case ICMP6_NEIGHBOR_ADVERTISEMENT:
		return visit_ndp(v, visit_neighbor_advertisement);
	case ICMP6_ROUTER_SOLICITATION:
		return visit_ndp(v, visit_router_solicitation);
	case ICMP6_ROUTER_ADVERTISEMENT:
	case ICMP6_REDIRECT:
		/* Only we are the router here. */
		return drop(v, COUNTER_DROP_HEADER);
	default:
		return GATEWAY_PASSED;
	}
}

enum gateway_result gateway_input(
	struct gateway *gateway, const uint8_t *frame, const struct packet *packet, int64_t now_ns)
{
	const struct visit v = {gateway, frame, packet, now_ns};

	if (packet->ethertype == ETH_TYPE_ARP)
		return visit_arp(&v);
	if (packet->protocol != icmp_protocol(packet->src.family))
		return GATEWAY_PASSED;
	if (packet->transport_len < sizeof(struct icmp_header))
		return drop(&v, COUNTER_DROP_TRUNCATED);
	return packet->ethertype == ETH_TYPE_IP4 ? visit_icmp4(&v) : visit_icmp6(&v);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/filter.h"

#include "slirp/reass_guard.h"
#include "wire/arp.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/icmp.h"
#include "wire/icmp_error.h"
#include "wire/ip4.h"
#include "wire/packet.h"
#include "wire/tcp.h"
#include "wire/udp.h"

_Static_assert(FILTER_ANSWER_MAX == ETH_HEADER_LEN + ICMP6_ERROR_MAX, "an answer fits");

#define DHCP_POOL_OFFSET 15 /* N+15 */

enum {
	PORT_DHCP_SERVER = 67,
	PORT_TFTP = 69,
	PORT_DHCP6_SERVER = 547,
};

/* One frame on its way through. */
struct visit {
	struct filter *filter;
	uint8_t *frame;
	int64_t now_ns;
	uint8_t *answer;
	size_t *ret_len;
	struct packet packet;
};

void filter_init(
	struct filter *filter, const struct policy *policy, uint32_t mtu, struct counters *counters)
{
	struct in_addr pool = {htonl(ntohl(policy->network.s_addr) + DHCP_POOL_OFFSET)};

	*filter = (struct filter){
		.policy = policy,
		.counters = counters,
		.mtu = mtu,
		.n_tokens = FILTER_ICMP_BURST,
	};
	reassembly_init(&filter->reassembly, counters);
	dhcp_guard_init(&filter->dhcp, pool);
}

void filter_done(struct filter *filter)
{
	reassembly_done(&filter->reassembly);
}

static enum filter_result drop(struct visit *v, enum counter reason)
{
	count(v->filter->counters, reason);
	return FILTER_DROP;
}

static enum filter_result pass(struct visit *v)
{
	*v->ret_len = v->packet.len;
	return FILTER_PASS;
}

static enum filter_result drop_outcome(struct visit *v, enum packet_outcome outcome)
{
	switch (outcome) {
	case PACKET_TRUNCATED:
		return drop(v, COUNTER_DROP_TRUNCATED);
	case PACKET_BAD_CHECKSUM:
		return drop(v, COUNTER_DROP_CHECKSUM);
	case PACKET_BAD_FRAGMENT:
		return drop(v, COUNTER_DROP_FRAGMENT);
	case PACKET_UNKNOWN_ETHERTYPE:
		return drop(v, COUNTER_DROP_ETHERTYPE);
	case PACKET_BAD_HEADER:
	default:
		return drop(v, COUNTER_DROP_HEADER);
	}
}

static const void *transport(const struct visit *v)
{
	return v->frame + v->packet.transport_offset;
}

static bool is_to_gateway(const struct visit *v)
{
	const struct ip_addr *dst = &v->packet.dst;

	if (dst->family == AF_INET)
		return ip_addr_v4(dst).s_addr == v->filter->policy->gateway.s_addr;
	return IN6_ARE_ADDR_EQUAL(&dst->in6, &v->filter->policy->gateway6);
}

/* The DHCP servers answer to the gateway and to their groups: 255.255.255.255, ff02::1:2. */
static bool is_to_server(const struct visit *v)
{
	const struct ip_addr *dst = &v->packet.dst;

	if (dst->family == AF_INET)
		return is_to_gateway(v) || ip_addr_v4(dst).s_addr == INADDR_BROADCAST;
	return is_to_gateway(v) || IN6_IS_ADDR_MC_LINKLOCAL(&dst->in6);
}

/* --- answers --- */

static bool token_take(struct filter *filter, int64_t now_ns)
{
	int64_t n = (now_ns - filter->refilled_ns) / FILTER_ICMP_INTERVAL_NS;

	if (n > 0) {
		filter->n_tokens = (uint32_t)MIN(filter->n_tokens + n, FILTER_ICMP_BURST);
		filter->refilled_ns += n * FILTER_ICMP_INTERVAL_NS;
	}
	if (!filter->n_tokens)
		return false;
	filter->n_tokens--;
	return true;
}

static bool is_directed_broadcast(const struct policy *policy, const struct ip_addr *addr)
{
	return addr->family == AF_INET &&
		ip_addr_v4(addr).s_addr == (policy->network.s_addr | ~policy->netmask.s_addr);
}

/* libslirp's addresses on the wire: 52:55 and the IPv4 address, 52:56 and the last four bytes of
 * the IPv6 address. */
static struct icmp_sender gateway_of(const struct policy *policy, uint16_t ethertype)
{
	struct icmp_sender sender = {.mac = {{0x52, 0x55}}};

	if (ethertype == ETH_TYPE_IP4) {
		sender.addr = ip_addr_of_v4(policy->gateway);
	} else {
		sender.mac.b[1] = 0x56;
		sender.addr = ip_addr_of_v6(&policy->gateway6);
	}
	memcpy(&sender.mac.b[2], &sender.addr.in6.s6_addr[12], 4);
	return sender;
}

static enum filter_result refuse(struct visit *v, uint8_t code4, uint8_t code6)
{
	const struct policy *policy = v->filter->policy;
	struct icmp_sender sender = gateway_of(policy, v->packet.ethertype);

	count(v->filter->counters, COUNTER_POLICY_REFUSED);
	if (!icmp_error_allowed(v->frame, &v->packet) ||
		is_directed_broadcast(policy, &v->packet.dst))
		return FILTER_DROP;
	if (!token_take(v->filter, v->now_ns))
		return drop(v, COUNTER_ICMP_LIMITED);
	*v->ret_len = icmp_build_unreachable(v->answer, &sender, v->frame, &v->packet,
		v->packet.ethertype == ETH_TYPE_IP4 ? code4 : code6);
	return FILTER_ANSWER;
}

/* --- who speaks --- */

/* A host that has no address yet asks for one or reports groups (RFC 1122 3.2.1.3(a)). */
static bool may_lack_address4(const struct visit *v)
{
	const struct udp_header *udp = transport(v);

	if (v->packet.protocol != IPPROTO_UDP || !v->packet.transport_header_len)
		return v->packet.protocol == IPPROTO_IGMP;
	return be16_get(udp->dst_port) == PORT_DHCP_SERVER && is_to_server(v);
}

/* Duplicate address detection and router solicitation (RFC 4861), group reports (RFC 3810). */
static bool may_lack_address6(const struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	if (v->packet.protocol != IPPROTO_ICMPV6 || !v->packet.transport_header_len)
		return false;
	switch (icmp->type) {
	case ICMP6_MLD_REPORT:
	case ICMP6_MLD_DONE:
	case ICMP6_MLD2_REPORT:
	case ICMP6_ROUTER_SOLICITATION:
	case ICMP6_NEIGHBOR_SOLICITATION:
		return true;
	default:
		return false;
	}
}

static bool source4_is_sane(const struct visit *v)
{
	uint32_t src = ntohl(ip_addr_v4(&v->packet.src).s_addr);

	if (src == INADDR_ANY)
		return may_lack_address4(v);
	return src >> 24 != 0 && src >> 24 != IN_LOOPBACKNET && src >> 28 < 0xe &&
		!is_directed_broadcast(v->filter->policy, &v->packet.src);
}

static bool source6_is_sane(const struct visit *v)
{
	const struct in6_addr *src = &v->packet.src.in6;

	if (IN6_IS_ADDR_UNSPECIFIED(src))
		return may_lack_address6(v);
	return !IN6_IS_ADDR_MULTICAST(src) && !IN6_IS_ADDR_LOOPBACK(src) &&
		!IN6_IS_ADDR_V4MAPPED(src) && !IN6_IS_ADDR_V4COMPAT(src);
}

/* Source routes would go where nobody looked (RFC 7126 4.3, RFC 5095). */
static bool ip_is_sane(const struct visit *v)
{
	const struct eth_header *eth = (const struct eth_header *)v->frame;

	if (eth_addr_is_group(&eth->src) || v->packet.ttl == 0 || v->packet.source_routed)
		return false;
	return v->packet.ethertype == ETH_TYPE_IP4 ? source4_is_sane(v) : source6_is_sane(v);
}

static enum filter_result visit_arp(struct visit *v)
{
	const struct arp_header *arp = (const struct arp_header *)(v->frame + ETH_HEADER_LEN);
	uint32_t sender = ntohl(ip_addr_v4(&v->packet.src).s_addr);

	/* 0.0.0.0 is a probe (RFC 5227 2.1.1). */
	if (eth_addr_is_group(&arp->sender_hardware) || sender >> 24 == IN_LOOPBACKNET ||
		sender >> 28 >= 0xe)
		return drop(v, COUNTER_DROP_HEADER);
	return pass(v);
}

/* --- transports --- */

/* The checksum stays as right, or as wrong, as it was. */
static void clear_urgent(struct visit *v)
{
	struct tcp_header *tcp = (struct tcp_header *)(v->frame + v->packet.transport_offset);
	be16 before = {{tcp->offset, tcp->flags}}, after = before;

	if (!(tcp->flags & TCP_URG) && !be16_get(tcp->urgent))
		return;
	if (tcp->flags & TCP_URG)
		count(v->filter->counters, COUNTER_URGENT_CLEARED);
	after.b[1] &= (uint8_t)~TCP_URG;
	tcp->checksum = checksum_update(tcp->checksum, before, after);
	tcp->checksum = checksum_update(tcp->checksum, tcp->urgent, be16_of(0));
	tcp->flags = after.b[1];
	tcp->urgent = be16_of(0);
}

static enum filter_result visit_tcp(struct visit *v)
{
	enum reass_verdict verdict;

	clear_urgent(v);
	verdict = reass_guard_check(v->frame, &v->packet);
	if (verdict != REASS_PASS)
		count(v->filter->counters, COUNTER_REASS_GUARDED);
	pass(v);
	return verdict == REASS_ASK ? FILTER_PASS_IF_NEXT : FILTER_PASS;
}

static enum filter_result visit_dhcp(struct visit *v)
{
	const struct udp_header *udp = transport(v);
	size_t len = be16_get(udp->length) - sizeof(*udp);

	switch (dhcp_guard_check(&v->filter->dhcp, (const uint8_t *)(udp + 1), len)) {
	case DHCP_PASS:
		return pass(v);
	case DHCP_NO_LEASE:
		return drop(v, COUNTER_DROP_DHCP);
	case DHCP_MALFORMED:
	default:
		return drop(v, COUNTER_DROP_HEADER);
	}
}

/* RFC 8415 8, 21.1: a type and a transaction id, then options. */
static enum filter_result visit_dhcp6(struct visit *v)
{
	const struct udp_header *udp = transport(v);
	struct cursor cursor = {
		.at = (const uint8_t *)(udp + 1), .left = be16_get(udp->length) - sizeof(*udp)};
	const struct {
		be16 code, len;
	} * option;

	if (!cursor_take(&cursor, 4))
		return drop(v, COUNTER_DROP_TRUNCATED);
	while (cursor.left) {
		option = cursor_take(&cursor, sizeof(*option));
		if (!option || !cursor_take(&cursor, be16_get(option->len)))
			return drop(v, COUNTER_DROP_HEADER);
	}
	return pass(v);
}

static enum filter_result visit_udp(struct visit *v)
{
	const struct udp_header *udp = transport(v);
	uint16_t port = be16_get(udp->dst_port);

	/* libslirp would take it for its TFTP server, which has no file to give. */
	if (port == PORT_TFTP && is_to_gateway(v))
		return refuse(v, ICMP_PORT_UNREACHABLE, ICMP6_PORT_UNREACHABLE);
	if (v->packet.ethertype == ETH_TYPE_IP4 && port == PORT_DHCP_SERVER && is_to_server(v))
		return visit_dhcp(v);
	if (v->packet.ethertype == ETH_TYPE_IP6 && port == PORT_DHCP6_SERVER && is_to_server(v))
		return visit_dhcp6(v);
	return pass(v);
}

/* RFC 4861 7.1.1, 7.1.2, 6.1.1: what every neighbour discovery message must fulfil. `fixed_len` is
 * the length in front of the options. */
static enum packet_outcome ndp_check(const struct visit *v, size_t fixed_len)
{
	const struct icmp_header *icmp = transport(v);
	struct cursor cursor = {.at = transport(v), .left = v->packet.transport_len};

	if (v->packet.ttl != 255 || icmp->code != 0)
		return PACKET_BAD_HEADER;
	if (!cursor_take(&cursor, fixed_len))
		return PACKET_TRUNCATED;
	while (cursor.left) {
		if (cursor.left < sizeof(struct ndp_option) || cursor.at[1] == 0 ||
			!cursor_take(&cursor, (size_t)cursor.at[1] * 8))
			return PACKET_BAD_HEADER;
	}
	return PACKET_OK;
}

static enum filter_result visit_ndp(struct visit *v, size_t fixed_len)
{
	const struct ndp_neighbor *ndp = transport(v);
	enum packet_outcome outcome = ndp_check(v, fixed_len);

	if (outcome != PACKET_OK)
		return drop_outcome(v, outcome);
	if (fixed_len == sizeof(*ndp) && ndp->target.b[0] == 0xff)
		return drop(v, COUNTER_DROP_HEADER);
	return pass(v);
}

static enum filter_result visit_icmp6(struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	switch (icmp->type) {
	case ICMP6_ROUTER_SOLICITATION:
		return visit_ndp(v, sizeof(struct icmp_header));
	case ICMP6_NEIGHBOR_SOLICITATION:
	case ICMP6_NEIGHBOR_ADVERTISEMENT:
		return visit_ndp(v, sizeof(struct ndp_neighbor));
	case ICMP6_ROUTER_ADVERTISEMENT:
	case ICMP6_REDIRECT:
		/* Only we are the router here; libslirp would complain of each on standard error.
		 */
		return drop(v, COUNTER_DROP_HEADER);
	default:
		return pass(v);
	}
}

static enum filter_result visit_transport(struct visit *v)
{
	switch (v->packet.protocol) {
	case IPPROTO_TCP:
		return visit_tcp(v);
	case IPPROTO_UDP:
		return visit_udp(v);
	case IPPROTO_ICMPV6:
		return v->packet.ethertype == ETH_TYPE_IP6 ? visit_icmp6(v) : pass(v);
	default:
		return pass(v);
	}
}

/* A datagram that is complete is parsed like any other. libslirp knows no fragment of IPv6. */
static enum filter_result visit_fragment(struct visit *v)
{
	enum packet_outcome outcome;
	size_t len;

	if (v->packet.ethertype == ETH_TYPE_IP6)
		return drop(v, COUNTER_DROP_FRAGMENT);
	if (reassembly_add(&v->filter->reassembly, &v->packet, v->frame, v->now_ns, &len) !=
		REASSEMBLY_COMPLETE)
		return FILTER_DROP;
	outcome = packet_parse(v->frame, len, &v->packet);
	if (outcome != PACKET_OK)
		return drop_outcome(v, outcome);
	return ip_is_sane(v) ? visit_transport(v) : drop(v, COUNTER_DROP_HEADER);
}

static enum filter_result visit_ip(struct visit *v)
{
	if (!ip_is_sane(v))
		return drop(v, COUNTER_DROP_HEADER);
	if (policy_check(v->filter->policy, &v->packet.dst, v->packet.protocol) != POLICY_PASS)
		return refuse(v, ICMP_NET_UNREACHABLE, ICMP6_NO_ROUTE);
	return v->packet.is_fragment ? visit_fragment(v) : visit_transport(v);
}

enum filter_result filter_frame(struct filter *filter, uint8_t *frame, size_t len, int64_t now_ns,
	uint8_t *answer, size_t *ret_len)
{
	struct visit v = {
		.filter = filter,
		.frame = frame,
		.now_ns = now_ns,
		.answer = answer,
		.ret_len = ret_len,
	};
	enum packet_outcome outcome;

	if (len > (size_t)ETH_HEADER_LEN + filter->mtu)
		return drop(&v, COUNTER_DROP_OVERSIZED);
	outcome = packet_parse(frame, len, &v.packet);
	if (v.packet.ethertype == ETH_TYPE_IP6 && !filter->policy->ipv6)
		return drop(&v, COUNTER_DROP_IPV6_DISABLED);
	if (outcome != PACKET_OK)
		return drop_outcome(&v, outcome);
	return v.packet.ethertype == ETH_TYPE_ARP ? visit_arp(&v) : visit_ip(&v);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "slirp/filter.h"

#include "slirp/reass_guard.h"
#include "wire/arp.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/icmp.h"
#include "wire/ndp.h"
#include "wire/tcp.h"
#include "wire/udp.h"

#define DHCP_POOL_OFFSET 15 /* N+15 */

/* One packet on its way through. */
struct visit {
	struct filter *filter;
	uint8_t *frame;
	struct packet *packet;
	int64_t now_ns;
	uint8_t *answer;
	size_t *ret_answer_len;
};

void filter_init(struct filter *filter, const struct policy *policy, struct icmp_limit *icmp_limit,
	struct counters *counters)
{
	struct in_addr pool = {htonl(ntohl(policy->network.s_addr) + DHCP_POOL_OFFSET)};

	*filter = (struct filter){
		.policy = policy,
		.icmp_limit = icmp_limit,
		.counters = counters,
	};
	dhcp_guard_init(&filter->dhcp, pool);
}

static enum filter_result drop(struct visit *v, enum counter reason)
{
	count(v->filter->counters, reason);
	return FILTER_DROP;
}

static const void *transport(const struct visit *v)
{
	return v->frame + v->packet->transport_offset;
}

static enum filter_result visit_arp(struct visit *v)
{
	const struct arp_header *arp = (const struct arp_header *)(v->frame + ETH_HEADER_LEN);

	if (!arp_sender_is_sane(arp))
		return drop(v, COUNTER_DROP_HEADER);
	return FILTER_PASS;
}

/* ---- transports ---- */

/* The checksum stays as right, or as wrong, as it was. */
static void clear_urgent(struct visit *v)
{
	struct tcp_header *tcp = (struct tcp_header *)(v->frame + v->packet->transport_offset);
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
	verdict = reass_guard_check(v->frame, v->packet);
	if (verdict != REASS_PASS)
		count(v->filter->counters, COUNTER_REASS_GUARDED);
	return verdict == REASS_ASK ? FILTER_PASS_IF_NEXT : FILTER_PASS;
}

static bool is_to_gateway(const struct visit *v)
{
	return policy_is_gateway(v->filter->policy, &v->packet->dst);
}

static bool is_to_dhcp_server(const struct visit *v)
{
	return policy_is_dhcp_server(v->filter->policy, &v->packet->dst);
}

static enum filter_result refuse(struct visit *v)
{
	const struct filter *filter = v->filter;
	uint8_t code = v->packet->ethertype == ETH_TYPE_IP4 ? ICMP_PORT_UNREACHABLE
							    : ICMP6_PORT_UNREACHABLE;

	count(filter->counters, COUNTER_POLICY_REFUSED);
	*v->ret_answer_len = unreachable_answer(filter->policy, filter->icmp_limit, v->frame,
		v->packet, code, v->now_ns, v->answer);
	return *v->ret_answer_len ? FILTER_ANSWER : FILTER_DROP;
}

static enum filter_result visit_dhcp(struct visit *v)
{
	const struct udp_header *udp = transport(v);
	size_t len = be16_get(udp->length) - sizeof(*udp);

	switch (dhcp_guard_check(&v->filter->dhcp, (const uint8_t *)(udp + 1), len)) {
	case DHCP_PASS:
		return FILTER_PASS;
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
	return FILTER_PASS;
}

static enum filter_result visit_udp(struct visit *v)
{
	const struct udp_header *udp = transport(v);
	uint16_t port = be16_get(udp->dst_port);

	/* libslirp would take it for its TFTP server, which has no file to give. */
	if (port == UDP_PORT_TFTP && is_to_gateway(v))
		return refuse(v);
	if (v->packet->ethertype == ETH_TYPE_IP4 && port == UDP_PORT_DHCP_SERVER &&
		is_to_dhcp_server(v))
		return visit_dhcp(v);
	if (v->packet->ethertype == ETH_TYPE_IP6 && port == UDP_PORT_DHCP6_SERVER &&
		is_to_dhcp_server(v))
		return visit_dhcp6(v);
	return FILTER_PASS;
}

static enum filter_result visit_ndp(struct visit *v)
{
	enum packet_outcome outcome = ndp_check(v->frame, v->packet);

	if (outcome != PACKET_OK)
		return drop(v,
			outcome == PACKET_TRUNCATED ? COUNTER_DROP_TRUNCATED : COUNTER_DROP_HEADER);
	return FILTER_PASS;
}

static enum filter_result visit_icmp6(struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	switch (icmp->type) {
	case ICMP6_ROUTER_SOLICITATION:
	case ICMP6_NEIGHBOR_SOLICITATION:
	case ICMP6_NEIGHBOR_ADVERTISEMENT:
		return visit_ndp(v);
	case ICMP6_ROUTER_ADVERTISEMENT:
	case ICMP6_REDIRECT:
		/* Only we are the router here; libslirp would complain of each on stderr. */
		return drop(v, COUNTER_DROP_HEADER);
	default:
		return FILTER_PASS;
	}
}

static enum filter_result visit_transport(struct visit *v)
{
	switch (v->packet->protocol) {
	case IPPROTO_TCP:
		return visit_tcp(v);
	case IPPROTO_UDP:
		return visit_udp(v);
	case IPPROTO_ICMPV6:
		return v->packet->ethertype == ETH_TYPE_IP6 ? visit_icmp6(v) : FILTER_PASS;
	default:
		return FILTER_PASS;
	}
}

enum filter_result filter_packet(struct filter *filter, uint8_t *frame, struct packet *packet,
	int64_t now_ns, uint8_t *answer, size_t *ret_answer_len)
{
	struct visit v = {
		.filter = filter,
		.frame = frame,
		.packet = packet,
		.now_ns = now_ns,
		.answer = answer,
		.ret_answer_len = ret_answer_len,
	};

	return packet->ethertype == ETH_TYPE_ARP ? visit_arp(&v) : visit_transport(&v);
}

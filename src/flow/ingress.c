/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/ingress.h"

#include "link/link.h"
#include "wire/checksum.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/tcp.h"
#include "wire/udp.h"

/* One frame on its way through. */
struct visit {
	struct ingress *ingress;
	struct vnet_header *vnet;
	uint8_t *frame;
	struct packet *packet;
	int64_t now_ns;
	uint8_t *answer;
	size_t *ret_answer_len;
};

void ingress_init(struct ingress *ingress, const struct policy *policy,
	struct icmp_limit *icmp_limit, bool own_stack, struct counters *counters)
{
	*ingress = (struct ingress){
		.policy = policy,
		.icmp_limit = icmp_limit,
		.counters = counters,
		.own_stack = own_stack,
	};
	reassembly_init(&ingress->reassembly, counters);
}

static void tell_expired(
	void *owner, const uint8_t *frame, const struct packet *packet, int64_t now_ns)
{
	struct ingress *ingress = owner;
	uint8_t answer[INGRESS_ANSWER_MAX];
	uint8_t type = packet->ethertype == ETH_TYPE_IP4 ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED;
	size_t len = icmp_error_answer(ingress->policy, ingress->icmp_limit, frame, packet, type,
		ICMP_REASSEMBLY_EXCEEDED, 0, now_ns, answer);

	if (len)
		ingress->tell(ingress->tell_owner, answer, len);
}

void ingress_watch(
	struct ingress *ingress, struct timer_heap *timers, ingress_tell_fn *tell, void *owner)
{
	ingress->tell = tell;
	ingress->tell_owner = owner;
	reassembly_watch(&ingress->reassembly, timers, tell_expired, ingress);
}

void ingress_done(struct ingress *ingress)
{
	reassembly_done(&ingress->reassembly);
}

static enum ingress_result drop(struct visit *v, enum counter reason)
{
	count(v->ingress->counters, reason);
	return INGRESS_DROP;
}

static enum ingress_result drop_outcome(struct visit *v, enum packet_outcome outcome)
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
	return v->frame + v->packet->transport_offset;
}

/* ---- the virtio-net header ---- */

/* As Linux fills it: the UDP length and the checksum are those of all datagrams together. */
static bool run_is_sane(const struct visit *v)
{
	const struct packet *packet = v->packet;
	const struct udp_header *udp = transport(v);
	uint32_t size = le16_get(v->vnet->gso_size), len;

	if (!v->ingress->own_stack || !(v->ingress->offloads & LINK_USO))
		return false;
	if (packet->protocol != IPPROTO_UDP || !packet->transport_header_len || !size ||
		be16_get(udp->length) != packet->transport_len)
		return false;
	if (v->vnet->flags & VNET_NEEDS_CSUM &&
		le16_get(v->vnet->csum_start) != packet->transport_offset)
		return false;
	len = packet->transport_len - UDP_HEADER_LEN;
	return len && (len + size - 1) / size <= INGRESS_RUN_MAX;
}

/* Segments are TCP's, of the family that the frame has, or datagrams. */
static bool gso_is_sane(const struct visit *v)
{
	uint16_t ethertype;

	switch (v->vnet->gso_type) {
	case VNET_GSO_NONE:
		return true;
	case VNET_GSO_TCP4:
	case VNET_GSO_TCP4 | VNET_GSO_ECN:
		ethertype = ETH_TYPE_IP4;
		break;
	case VNET_GSO_TCP6:
	case VNET_GSO_TCP6 | VNET_GSO_ECN:
		ethertype = ETH_TYPE_IP6;
		break;
	case VNET_GSO_UDP_L4:
		return run_is_sane(v);
	default:
		return false;
	}
	return v->packet->ethertype == ethertype && v->packet->protocol == IPPROTO_TCP &&
		!v->packet->is_fragment && le16_get(v->vnet->gso_size) != 0;
}

/* Where the transport header has its checksum; for a packet with transport_header_len only. */
static uint32_t checksum_field_of(const struct packet *packet)
{
	switch (packet->protocol) {
	case IPPROTO_TCP:
		return offsetof(struct tcp_header, checksum);
	case IPPROTO_UDP:
		return offsetof(struct udp_header, checksum);
	default:
		return offsetof(struct icmp_header, checksum);
	}
}

/* A checksum that is still to be computed is the packet's own, or that of a packet within (VXLAN's
 * over UDP, as Linux 6.18 leaves it), behind every header that was looked at here. */
static bool csum_is_sane(const struct visit *v)
{
	const struct packet *packet = v->packet;
	uint32_t start = le16_get(v->vnet->csum_start), offset = le16_get(v->vnet->csum_offset);

	if (!(v->vnet->flags & VNET_NEEDS_CSUM))
		return true;
	if (packet->ethertype == ETH_TYPE_ARP || packet->is_fragment)
		return false;
	if (packet->transport_header_len && start == packet->transport_offset)
		return offset == checksum_field_of(packet);
	return packet->protocol != IPPROTO_TCP &&
		start >= packet->transport_offset + packet->transport_header_len &&
		start + offset + sizeof(be16) <= packet->len;
}

/* The field holds the pseudo header's sum, if there is one. A sum of 0 would say "none" in UDP, and
 * is the same as 0xffff elsewhere (RFC 768, RFC 1624). */
void ingress_complete_checksum(uint8_t *buf, const struct packet *packet)
{
	struct vnet_header *vnet = (struct vnet_header *)buf;

	if (vnet->flags & VNET_NEEDS_CSUM) {
		uint32_t start = le16_get(vnet->csum_start);
		uint8_t *data = buf + VNET_HEADER_LEN + start;
		be16 sum = checksum_finish(checksum_add(0, data, packet->len - start));

		if (!be16_get(sum))
			sum = be16_of(0xffff);
		memcpy(data + le16_get(vnet->csum_offset), &sum, sizeof(sum));
	}
	*vnet = (struct vnet_header){0};
}

static uint64_t pseudo_sum(const struct visit *v)
{
	const struct packet *packet = v->packet;
	const void *ip = v->frame + packet->ip_offset;
	const struct ip4_header *ip4 = ip;
	const struct ip6_header *ip6 = ip;

	if (packet->protocol == IPPROTO_ICMP)
		return 0;
	if (packet->ethertype == ETH_TYPE_IP4)
		return checksum_pseudo4(
			ip4->src, ip4->dst, packet->protocol, (uint16_t)packet->transport_len);
	return checksum_pseudo6(&ip6->src, &ip6->dst, packet->protocol, packet->transport_len);
}

static bool checksum_is_right(const struct visit *v)
{
	uint64_t sum = checksum_add(pseudo_sum(v), transport(v), v->packet->transport_len);

	return !be16_get(checksum_finish(sum));
}

static bool checksum_is_vouched_for(const struct visit *v)
{
	return v->vnet->flags & (VNET_NEEDS_CSUM | VNET_DATA_VALID);
}

static void complete_checksum(struct visit *v)
{
	ingress_complete_checksum((uint8_t *)v->vnet, v->packet);
}

/* ---- who speaks ---- */

/* A host that has no address yet asks for one or reports groups (RFC 1122 3.2.1.3(a)). */
static bool may_lack_address4(const struct visit *v)
{
	const struct udp_header *udp = transport(v);

	if (v->packet->protocol != IPPROTO_UDP || !v->packet->transport_header_len)
		return v->packet->protocol == IPPROTO_IGMP;
	return be16_get(udp->dst_port) == UDP_PORT_DHCP_SERVER &&
		policy_is_dhcp_server(v->ingress->policy, &v->packet->dst);
}

/* Duplicate address detection and router solicitation (RFC 4861), group reports (RFC 3810). */
static bool may_lack_address6(const struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	if (v->packet->protocol != IPPROTO_ICMPV6 || !v->packet->transport_header_len)
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
	uint32_t src = ntohl(ip_addr_v4(&v->packet->src).s_addr);

	if (src == INADDR_ANY)
		return may_lack_address4(v);
	return ip_addr_is_unicast(&v->packet->src) && src >> 24 != IN_LOOPBACKNET &&
		!policy_is_directed_broadcast(v->ingress->policy, &v->packet->src);
}

static bool source6_is_sane(const struct visit *v)
{
	const struct in6_addr *src = &v->packet->src.in6;

	if (IN6_IS_ADDR_UNSPECIFIED(src))
		return may_lack_address6(v);
	return !IN6_IS_ADDR_MULTICAST(src) && !IN6_IS_ADDR_LOOPBACK(src) &&
		!IN6_IS_ADDR_V4MAPPED(src) && !IN6_IS_ADDR_V4COMPAT(src);
}

/* Source routes would go where nobody looked (RFC 7126 4.3, RFC 5095). */
static bool ip_is_sane(const struct visit *v)
{
	const struct eth_header *eth = (const struct eth_header *)v->frame;

	if (eth_addr_is_group(&eth->src) || v->packet->ttl == 0 || v->packet->source_routed)
		return false;
	return v->packet->ethertype == ETH_TYPE_IP4 ? source4_is_sane(v) : source6_is_sane(v);
}

/* ---- answers ---- */

/* How what goes no further is counted and answered. */
struct refusal {
	enum counter counter;
	uint8_t type4, code4;
	uint8_t type6, code6;
};

static const struct refusal never_dialled = {
	.counter = COUNTER_POLICY_REFUSED,
	.type4 = ICMP_DESTINATION_UNREACHABLE,
	.code4 = ICMP_NET_UNREACHABLE,
	.type6 = ICMP6_DESTINATION_UNREACHABLE,
	.code6 = ICMP6_NO_ROUTE,
};

static const struct refusal last_hop = {
	.counter = COUNTER_DROP_TTL,
	.type4 = ICMP_TIME_EXCEEDED,
	.code4 = ICMP_TTL_EXCEEDED,
	.type6 = ICMP6_TIME_EXCEEDED,
	.code6 = ICMP_TTL_EXCEEDED,
};

static const struct refusal not_carried = {
	.counter = COUNTER_DROP_PROTOCOL,
	.type4 = ICMP_DESTINATION_UNREACHABLE,
	.code4 = ICMP_ADMIN_PROHIBITED,
	.type6 = ICMP6_DESTINATION_UNREACHABLE,
	.code6 = ICMP6_ADMIN_PROHIBITED,
};

static enum ingress_result refuse(struct visit *v, const struct refusal *refusal)
{
	const struct ingress *ingress = v->ingress;
	bool is4 = v->packet->ethertype == ETH_TYPE_IP4;

	count(ingress->counters, refusal->counter);
	*v->ret_answer_len = icmp_error_answer(ingress->policy, ingress->icmp_limit, v->frame,
		v->packet, is4 ? refusal->type4 : refusal->type6,
		is4 ? refusal->code4 : refusal->code6, 0, v->now_ns, v->answer);
	return *v->ret_answer_len ? INGRESS_ANSWER : INGRESS_DROP;
}

/* ---- transports ---- */

static enum ingress_result visit_tcp(struct visit *v)
{
	if (!checksum_is_vouched_for(v) && !checksum_is_right(v))
		return drop(v, COUNTER_DROP_CHECKSUM);
	return INGRESS_TCP;
}

static void cut_ip4(void *header, uint32_t n_cut)
{
	struct ip4_header *ip = header;
	be16 before = ip->total_length;

	ip->total_length = be16_of((uint16_t)(be16_get(before) - n_cut));
	ip->checksum = checksum_update(ip->checksum, before, ip->total_length);
}

static void cut_ip6(void *header, uint32_t n_cut)
{
	struct ip6_header *ip = header;

	ip->payload_length = be16_of((uint16_t)(be16_get(ip->payload_length) - n_cut));
}

/* What lies behind the UDP length belongs to nobody (RFC 768): the packet ends there, for those
 * behind, too, who read the IP header. */
static void cut_behind_udp(struct visit *v)
{
	const struct udp_header *udp = transport(v);
	struct packet *packet = v->packet;
	uint32_t n_cut = packet->transport_len - be16_get(udp->length);

	if (!n_cut)
		return;
	packet->transport_len -= n_cut;
	packet->len -= n_cut;
	if (packet->ethertype == ETH_TYPE_IP4)
		cut_ip4(v->frame + packet->ip_offset, n_cut);
	else
		cut_ip6(v->frame + packet->ip_offset, n_cut);
}

/* The checksum of a packet within is part of what this one's is about: it comes first. Source port
 * 0 is legal (RFC 768), but nobody could be answered there. */
static enum ingress_result visit_udp(struct visit *v)
{
	const struct udp_header *udp = transport(v);

	if (!be16_get(udp->src_port) || !be16_get(udp->dst_port))
		return drop(v, COUNTER_DROP_HEADER);
	if (v->vnet->flags & VNET_NEEDS_CSUM &&
		le16_get(v->vnet->csum_start) != v->packet->transport_offset)
		complete_checksum(v);
	cut_behind_udp(v);
	if (!checksum_is_vouched_for(v) && be16_get(udp->checksum) && !checksum_is_right(v))
		return drop(v, COUNTER_DROP_CHECKSUM);
	return INGRESS_UDP;
}

static bool is_group_report(const struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	if (v->packet->protocol != IPPROTO_ICMPV6)
		return false;
	return icmp->type == ICMP6_MLD_QUERY || icmp->type == ICMP6_MLD_REPORT ||
		icmp->type == ICMP6_MLD_DONE || icmp->type == ICMP6_MLD2_REPORT;
}

static enum ingress_result visit_icmp(struct visit *v)
{
	if (is_group_report(v))
		return INGRESS_DROP;
	complete_checksum(v);
	return checksum_is_right(v) ? INGRESS_ICMP : drop(v, COUNTER_DROP_CHECKSUM);
}

static enum ingress_result visit_odd(struct visit *v)
{
	switch (v->packet->protocol) {
	case IPPROTO_IGMP:
		return INGRESS_DROP;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6: /* of the other family */
		return drop(v, COUNTER_DROP_PROTOCOL);
	default:
		return refuse(v, &not_carried);
	}
}

static enum ingress_result visit_for_libslirp(struct visit *v)
{
	complete_checksum(v);
	return v->packet->protocol == IPPROTO_TCP ? INGRESS_TCP : INGRESS_OTHER;
}

static enum ingress_result visit_transport(struct visit *v)
{
	if (!v->ingress->own_stack)
		return visit_for_libslirp(v);
	if (!v->packet->transport_header_len)
		return visit_odd(v);
	switch (v->packet->protocol) {
	case IPPROTO_TCP:
		return visit_tcp(v);
	case IPPROTO_UDP:
		return visit_udp(v);
	default:
		return visit_icmp(v);
	}
}

/* ---- the way ---- */

/* Neighbour discovery does not come in fragments (RFC 6980 5). */
static bool is_neighbor_discovery(const struct visit *v)
{
	const struct icmp_header *icmp = transport(v);

	return v->packet->protocol == IPPROTO_ICMPV6 && v->packet->transport_header_len &&
		icmp->type >= ICMP6_ROUTER_SOLICITATION && icmp->type <= ICMP6_REDIRECT;
}

/* A datagram that is complete is parsed like any other; its last fragment's virtio-net header says
 * nothing about it. What policy says of its fragments holds for the whole: who it is for, and of
 * which protocol. In IPv6 there could be fragments in the fragments. */
static enum ingress_result visit_fragment(struct visit *v)
{
	enum packet_outcome outcome;
	size_t len;

	if (reassembly_add(&v->ingress->reassembly, v->packet, v->frame, v->now_ns, &len) !=
		REASSEMBLY_COMPLETE)
		return INGRESS_DROP;
	*v->vnet = (struct vnet_header){0};
	outcome = packet_parse(v->frame, len, v->packet);
	if (outcome != PACKET_OK)
		return drop_outcome(v, outcome);
	if (v->packet->is_fragment || is_neighbor_discovery(v))
		return drop(v, COUNTER_DROP_FRAGMENT);
	/* Who cuts his datagrams himself does not look for the path's MTU with them. */
	v->packet->dont_fragment = false;
	return ip_is_sane(v) ? visit_transport(v) : drop(v, COUNTER_DROP_HEADER);
}

/* We are a router on the way to all that is not on the container's own link. */
static bool is_last_hop(const struct visit *v)
{
	return v->ingress->own_stack && v->packet->ttl == 1 &&
		!policy_on_link(v->ingress->policy, &v->packet->dst);
}

static enum ingress_result visit_ip(struct visit *v)
{
	if (!ip_is_sane(v))
		return drop(v, COUNTER_DROP_HEADER);
	if (policy_check(v->ingress->policy, &v->packet->dst, v->packet->protocol) != POLICY_PASS)
		return refuse(v, &never_dialled);
	if (is_last_hop(v))
		return refuse(v, &last_hop);
	return v->packet->is_fragment ? visit_fragment(v) : visit_transport(v);
}

static enum ingress_result visit_arp(struct visit *v)
{
	complete_checksum(v);
	return INGRESS_OTHER;
}

enum ingress_result ingress_frame(struct ingress *ingress, uint8_t *buf, size_t len, int64_t now_ns,
	struct packet *ret_packet, uint8_t *answer, size_t *ret_answer_len)
{
	struct visit v = {
		.ingress = ingress,
		.vnet = (struct vnet_header *)buf,
		.frame = buf + VNET_HEADER_LEN,
		.packet = ret_packet,
		.now_ns = now_ns,
		.answer = answer,
		.ret_answer_len = ret_answer_len,
	};
	enum packet_outcome outcome;

	if (len > INGRESS_FRAME_MAX)
		return drop(&v, COUNTER_DROP_OVERSIZED);
	outcome = packet_parse(v.frame, len, ret_packet);
	if (ret_packet->ethertype == ETH_TYPE_IP6 && !ingress->policy->ipv6)
		return drop(&v, COUNTER_DROP_IPV6_DISABLED);
	if (outcome != PACKET_OK)
		return drop_outcome(&v, outcome);
	if (!gso_is_sane(&v))
		return drop(&v, COUNTER_DROP_GSO);
	if (!csum_is_sane(&v))
		return drop(&v, COUNTER_DROP_HEADER);
	return ret_packet->ethertype == ETH_TYPE_ARP ? visit_arp(&v) : visit_ip(&v);
}

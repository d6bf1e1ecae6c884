/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/packet.h"

#include "wire/arp.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"
#include "wire/option.h"
#include "wire/tcp.h"
#include "wire/udp.h"

static enum packet_outcome parse_arp(struct cursor *cursor, struct packet *ret)
{
	const struct arp_header *arp = cursor_header(cursor, struct arp_header);
	uint16_t opcode;

	if (!arp)
		return PACKET_TRUNCATED;
	opcode = be16_get(arp->opcode);
	if (be16_get(arp->hardware_type) != ARP_HARDWARE_ETHERNET ||
		be16_get(arp->protocol_type) != ETH_TYPE_IP4 || arp->hardware_len != ETH_ADDR_LEN ||
		arp->protocol_len != sizeof(be32))
		return PACKET_BAD_HEADER;
	if (opcode != ARP_REQUEST && opcode != ARP_REPLY)
		return PACKET_BAD_HEADER;
	ret->src = ip_addr_of_v4(ip4_addr(arp->sender_protocol));
	ret->dst = ip_addr_of_v4(ip4_addr(arp->target_protocol));
	ret->len = ETH_HEADER_LEN + sizeof(*arp);
	return PACKET_OK;
}

static bool ip4_options_parse(struct cursor options, struct packet *ret)
{
	uint8_t type;

	while (option_next(&options, &type)) {
		if (type == IP4_OPTION_LSRR || type == IP4_OPTION_SSRR)
			ret->source_routed = true;
	}
	return type == IP4_OPTION_END;
}

static enum packet_outcome parse_tcp(struct cursor *cursor, struct packet *ret)
{
	const struct tcp_header *tcp = cursor_header(cursor, struct tcp_header);
	struct cursor options;
	size_t header_len;
	uint8_t kind;

	if (!tcp)
		return PACKET_TRUNCATED;
	header_len = tcp_header_len(tcp);
	if (header_len < TCP_HEADER_MIN)
		return PACKET_BAD_HEADER;
	options = (struct cursor){.at = cursor->at, .left = header_len - TCP_HEADER_MIN};
	if (!cursor_take(cursor, options.left))
		return PACKET_TRUNCATED;
	while (option_next(&options, &kind))
		;
	if (kind != TCP_OPTION_END)
		return PACKET_BAD_HEADER;
	ret->transport_header_len = (uint32_t)header_len;
	return PACKET_OK;
}

/* A UDP datagram may be shorter than the packet that carries it, not longer. Its checksum may be
 * left out over IPv4 only (RFC 8200 8.1). */
static enum packet_outcome parse_udp(struct cursor *cursor, struct packet *ret)
{
	const struct udp_header *udp = cursor_header(cursor, struct udp_header);

	if (!udp)
		return PACKET_TRUNCATED;
	if (be16_get(udp->length) < UDP_HEADER_LEN)
		return PACKET_BAD_HEADER;
	if (be16_get(udp->length) > UDP_HEADER_LEN + cursor->left)
		return PACKET_TRUNCATED;
	if (ret->ethertype == ETH_TYPE_IP6 && be16_get(udp->checksum) == 0)
		return PACKET_BAD_HEADER;
	ret->transport_header_len = UDP_HEADER_LEN;
	return PACKET_OK;
}

static enum packet_outcome parse_icmp(struct cursor *cursor, struct packet *ret)
{
	if (!cursor_header(cursor, struct icmp_header))
		return PACKET_TRUNCATED;
	ret->transport_header_len = ICMP_HEADER_LEN;
	return PACKET_OK;
}

static bool protocol_is_icmp(const struct packet *p)
{
	return p->protocol == (p->ethertype == ETH_TYPE_IP4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static size_t transport_header_min(const struct packet *p)
{
	if (p->protocol == IPPROTO_TCP)
		return TCP_HEADER_MIN;
	if (p->protocol == IPPROTO_UDP)
		return UDP_HEADER_LEN;
	return protocol_is_icmp(p) ? ICMP_HEADER_LEN : 0;
}

/* The cursor stands on the fragment's data and ends with it. `header_len` is that of the headers
 * that the whole datagram will have and that count for its length, of which both families have
 * 16 bits. */
static enum packet_outcome parse_fragment(
	const struct cursor *cursor, size_t header_len, const struct packet *p)
{
	if (!cursor->left || (p->more_fragments && cursor->left % 8))
		return PACKET_BAD_FRAGMENT;
	if (header_len + p->fragment_offset + cursor->left > UINT16_MAX)
		return PACKET_BAD_FRAGMENT;
	/* RFC 1858 3: the transport header is not spread over fragments. */
	if (p->fragment_offset == 0 && cursor->left < transport_header_min(p))
		return PACKET_BAD_FRAGMENT;
	if (p->fragment_offset == 8 && p->protocol == IPPROTO_TCP)
		return PACKET_BAD_FRAGMENT;
	return PACKET_OK;
}

/* The cursor stands behind the IP headers and ends with the packet. */
static enum packet_outcome parse_transport(
	struct cursor *cursor, const uint8_t *frame, size_t header_len, struct packet *ret)
{
	ret->transport_offset = (uint32_t)(cursor->at - frame);
	ret->transport_len = (uint32_t)cursor->left;
	ret->len = ret->transport_offset + ret->transport_len;
	if (ret->is_fragment)
		return parse_fragment(cursor, header_len, ret);
	if (ret->protocol == IPPROTO_TCP)
		return parse_tcp(cursor, ret);
	if (ret->protocol == IPPROTO_UDP)
		return parse_udp(cursor, ret);
	return protocol_is_icmp(ret) ? parse_icmp(cursor, ret) : PACKET_OK;
}

static void ip4_fields(const struct ip4_header *ip, struct packet *ret)
{
	uint16_t fragment = be16_get(ip->fragment);

	ret->protocol = ip->protocol;
	ret->ttl = ip->ttl;
	ret->tos = ip->tos;
	ret->dont_fragment = fragment & IP4_DONT_FRAGMENT;
	ret->src = ip_addr_of_v4(ip4_addr(ip->src));
	ret->dst = ip_addr_of_v4(ip4_addr(ip->dst));
	ret->more_fragments = fragment & IP4_MORE_FRAGMENTS;
	ret->fragment_offset = (uint32_t)(fragment & IP4_OFFSET_MASK) * 8;
	ret->is_fragment = ret->more_fragments || ret->fragment_offset;
	ret->fragment_id = be16_get(ip->id);
}

static enum packet_outcome parse_ip4(
	struct cursor *cursor, const uint8_t *frame, struct packet *ret)
{
	const uint8_t *start = cursor->at;
	const struct ip4_header *ip = cursor_header(cursor, struct ip4_header);
	size_t header_len, total_len;
	struct cursor options;

	if (!ip)
		return PACKET_TRUNCATED;
	header_len = (size_t)(ip->version_ihl & 15) * 4;
	total_len = be16_get(ip->total_length);
	if (ip->version_ihl >> 4 != IP4_VERSION || header_len < IP4_HEADER_MIN ||
		total_len < header_len || be16_get(ip->fragment) & IP4_RESERVED)
		return PACKET_BAD_HEADER;
	if (!cursor_limit(cursor, total_len - IP4_HEADER_MIN))
		return PACKET_TRUNCATED;
	if (be16_get(checksum_finish(checksum_add(0, start, header_len))))
		return PACKET_BAD_CHECKSUM;
	options = (struct cursor){.at = cursor->at, .left = header_len - IP4_HEADER_MIN};
	cursor_take(cursor, options.left);
	if (!ip4_options_parse(options, ret))
		return PACKET_BAD_HEADER;
	ip4_fields(ip, ret);
	return parse_transport(cursor, frame, header_len, ret);
}

/* RFC 8200 4.3, 4.4, 4.6. */
static enum packet_outcome parse_options_header(struct cursor *cursor, struct packet *ret)
{
	const uint8_t *start = cursor->at;
	const struct ip6_extension *ext = cursor_header(cursor, struct ip6_extension);

	if (!ext || !cursor_take(cursor, 6 + (size_t)ext->length * 8))
		return PACKET_TRUNCATED;
	if (ret->protocol == IPPROTO_ROUTING && start[2] == IP6_ROUTING_SOURCE)
		ret->source_routed = true;
	ret->protocol = ext->next_header;
	return PACKET_OK;
}

/* RFC 8200 4.5. A datagram in one fragment (RFC 6946) is a fragment here, too. */
static enum packet_outcome parse_fragment_header(struct cursor *cursor, struct packet *ret)
{
	const struct ip6_fragment *fragment = cursor_header(cursor, struct ip6_fragment);
	uint16_t offset;

	if (!fragment)
		return PACKET_TRUNCATED;
	offset = be16_get(fragment->offset);
	ret->is_fragment = true;
	ret->more_fragments = offset & IP6_MORE_FRAGMENTS;
	ret->fragment_offset = offset & IP6_OFFSET_MASK;
	ret->fragment_id = be32_get(fragment->id);
	ret->protocol = fragment->next_header;
	return PACKET_OK;
}

/* Follows the chain up to the first header that is none of the above, or to the fragment header:
 * what lies behind that is there in the first fragment only. Hop-by-hop options come first or not
 * at all (RFC 8200 4.1). */
static enum packet_outcome parse_extensions(struct cursor *cursor, struct packet *ret)
{
	enum packet_outcome outcome = PACKET_OK;

	for (int n = 0; n <= PACKET_EXTENSIONS_MAX && outcome == PACKET_OK; n++) {
		switch (ret->protocol) {
		case IPPROTO_HOPOPTS:
			if (n > 0)
				return PACKET_BAD_HEADER;
			outcome = parse_options_header(cursor, ret);
			break;
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			outcome = parse_options_header(cursor, ret);
			break;
		case IPPROTO_FRAGMENT:
			return parse_fragment_header(cursor, ret);
		default:
			return PACKET_OK;
		}
	}
	return outcome == PACKET_OK ? PACKET_BAD_HEADER : outcome;
}

static void ip6_fields(const struct ip6_header *ip, struct packet *ret)
{
	ret->protocol = ip->next_header;
	ret->ttl = ip->hop_limit;
	ret->tos = (uint8_t)(be32_get(ip->version_class_flow) >> 20);
	ret->dont_fragment = true;
	ret->src.family = AF_INET6;
	memcpy(&ret->src.in6, &ip->src, sizeof(ip->src));
	ret->dst.family = AF_INET6;
	memcpy(&ret->dst.in6, &ip->dst, sizeof(ip->dst));
}

static enum packet_outcome parse_ip6(
	struct cursor *cursor, const uint8_t *frame, struct packet *ret)
{
	const struct ip6_header *ip = cursor_header(cursor, struct ip6_header);
	enum packet_outcome outcome;
	const uint8_t *payload;
	size_t header_len;

	if (!ip)
		return PACKET_TRUNCATED;
	if (be32_get(ip->version_class_flow) >> 28 != IP6_VERSION)
		return PACKET_BAD_HEADER;
	/* With hop-by-hop options this would be a jumbogram (RFC 2675), which no tap carries. */
	if (!be16_get(ip->payload_length) && ip->next_header == IPPROTO_HOPOPTS)
		return PACKET_BAD_HEADER;
	if (!cursor_limit(cursor, be16_get(ip->payload_length)))
		return PACKET_TRUNCATED;
	payload = cursor->at;
	ip6_fields(ip, ret);
	outcome = parse_extensions(cursor, ret);
	if (outcome != PACKET_OK)
		return outcome;
	header_len = (size_t)(cursor->at - payload);
	if (ret->is_fragment)
		header_len -= sizeof(struct ip6_fragment);
	return parse_transport(cursor, frame, header_len, ret);
}

enum packet_outcome packet_parse(const uint8_t *frame, size_t len, struct packet *ret)
{
	struct cursor cursor = {.at = frame, .left = len};
	const struct eth_header *eth = cursor_header(&cursor, struct eth_header);

	*ret = (struct packet){.ip_offset = ETH_HEADER_LEN};
	if (!eth)
		return PACKET_TRUNCATED;
	ret->ethertype = be16_get(eth->type);
	switch (ret->ethertype) {
	case ETH_TYPE_ARP:
		return parse_arp(&cursor, ret);
	case ETH_TYPE_IP4:
		return parse_ip4(&cursor, frame, ret);
	case ETH_TYPE_IP6:
		return parse_ip6(&cursor, frame, ret);
	default:
		return PACKET_UNKNOWN_ETHERTYPE;
	}
}

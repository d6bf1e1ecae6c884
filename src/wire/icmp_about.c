/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/icmp_about.h"

#include "base/util.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/ip4.h"

/* What the packet's TTL was when it was sent is not known any more. */
#define QUOTED_TTL 64

static size_t put_ip4(uint8_t *at, const struct icmp_about *about)
{
	struct ip4_header *ip = (struct ip4_header *)at;

	*ip = (struct ip4_header){
		.version_ihl = IP4_VERSION << 4 | IP4_HEADER_MIN / 4,
		.total_length = be16_of((uint16_t)MIN(IP4_HEADER_MIN + about->len, IP4_LEN_MAX)),
		.fragment = be16_of(about->dont_fragment ? IP4_DONT_FRAGMENT : 0),
		.ttl = QUOTED_TTL,
		.protocol = about->protocol,
		.src = ip4_addr_be32(ip_addr_v4(&about->src)),
		.dst = ip4_addr_be32(ip_addr_v4(&about->dst)),
	};
	ip->checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
	return sizeof(*ip);
}

static size_t put_ip6(uint8_t *at, const struct icmp_about *about)
{
	struct ip6_header *ip = (struct ip6_header *)at;

	*ip = (struct ip6_header){
		.version_class_flow = be32_of((uint32_t)IP6_VERSION << 28),
		.payload_length = be16_of((uint16_t)MIN(about->len, IP6_PAYLOAD_MAX)),
		.next_header = about->protocol,
		.hop_limit = QUOTED_TTL,
	};
	memcpy(&ip->src, &about->src.in6, sizeof(ip->src));
	memcpy(&ip->dst, &about->dst.in6, sizeof(ip->dst));
	return sizeof(*ip);
}

size_t icmp_about_build(
	uint8_t *buf, const struct icmp_about *about, const struct icmp_header *icmp)
{
	uint8_t *at = buf;

	memcpy(at, icmp, sizeof(*icmp));
	at += sizeof(*icmp);
	at += about->src.family == AF_INET ? put_ip4(at, about) : put_ip6(at, about);
	memcpy(at, about->header, sizeof(about->header));
	return (size_t)(at + sizeof(about->header) - buf);
}

size_t icmp_about_room(uint8_t family)
{
	const size_t headers = ICMP_HEADER_LEN + ICMP_ABOUT_HEADER_LEN;

	if (family == AF_INET)
		return ICMP_ERROR_MAX - 2 * IP4_HEADER_MIN - headers;
	return ICMP6_ERROR_MAX - 2 * IP6_HEADER_LEN - headers;
}

static bool take_ip4(struct cursor *cursor, struct icmp_about *ret)
{
	const struct ip4_header *ip = cursor_header(cursor, struct ip4_header);
	size_t header_len = ip ? (size_t)(ip->version_ihl & 15) * 4 : 0;

	if (header_len < IP4_HEADER_MIN || be16_get(ip->fragment) & IP4_OFFSET_MASK ||
		!cursor_take(cursor, header_len - IP4_HEADER_MIN))
		return false;
	ret->src = ip_addr_of_v4(ip4_addr(ip->src));
	ret->dst = ip_addr_of_v4(ip4_addr(ip->dst));
	ret->protocol = ip->protocol;
	return true;
}

static bool take_ip6(struct cursor *cursor, struct icmp_about *ret)
{
	const struct ip6_header *ip = cursor_header(cursor, struct ip6_header);

	if (!ip)
		return false;
	ret->src.family = ret->dst.family = AF_INET6;
	memcpy(&ret->src.in6, &ip->src, sizeof(ip->src));
	memcpy(&ret->dst.in6, &ip->dst, sizeof(ip->dst));
	ret->protocol = ip->next_header;
	return true;
}

bool icmp_about_parse(const uint8_t *frame, const struct packet *packet, struct icmp_about *ret)
{
	struct cursor cursor = {frame + packet->transport_offset, packet->transport_len};
	const void *header;

	*ret = (struct icmp_about){0};
	if (!cursor_header(&cursor, struct icmp_header))
		return false;
	if (!(packet->src.family == AF_INET ? take_ip4(&cursor, ret) : take_ip6(&cursor, ret)))
		return false;
	header = cursor_take(&cursor, sizeof(ret->header));
	if (header)
		memcpy(ret->header, header, sizeof(ret->header));
	return header;
}

uint32_t icmp_about_mtu(uint8_t family, const struct icmp_header *icmp)
{
	uint32_t rest = be32_get(icmp->rest);

	if (family == AF_INET) {
		if (icmp->type != ICMP_DESTINATION_UNREACHABLE ||
			icmp->code != ICMP_FRAGMENTATION_NEEDED || !(rest & 0xffff))
			return 0;
		return MAX(rest & 0xffff, IP4_MIN_MTU);
	}
	return icmp->type == ICMP6_PACKET_TOO_BIG ? MAX(rest, IP6_MIN_MTU) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/icmp_about.h"

#include "base/util.h"
#include "wire/checksum.h"
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

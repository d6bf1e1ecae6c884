/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/icmp_error.h"

#include "base/util.h"
#include "wire/checksum.h"
#include "wire/icmp.h"
#include "wire/ip4.h"
#include "wire/ip6.h"

/* RFC 1812 5.3.2: errors go with precedence internetwork control. */
#define TOS_INTERNETWORK_CONTROL 0xc0
#define ERROR_TTL                255

/* Of an ICMP message only the questions and answers are known to be no errors. */
static bool ip4_is_error(const uint8_t *frame, const struct packet *packet)
{
	if (packet->protocol != IPPROTO_ICMP)
		return false;
	switch (frame[packet->transport_offset]) {
	case ICMP_ECHO_REPLY:
	case ICMP_ECHO:
	case ICMP_TIMESTAMP:
	case ICMP_TIMESTAMP_REPLY:
		return false;
	default:
		return true;
	}
}

static bool ip6_is_error(const uint8_t *frame, const struct packet *packet)
{
	uint8_t type;

	if (packet->protocol != IPPROTO_ICMPV6)
		return false;
	type = frame[packet->transport_offset];
	return type < ICMP6_ECHO_REQUEST || type == ICMP6_REDIRECT;
}

bool icmp_error_allowed(const uint8_t *frame, const struct packet *packet)
{
	const struct eth_header *eth = (const struct eth_header *)frame;

	if (eth_addr_is_group(&eth->dst) || packet->fragment_offset ||
		!ip_addr_is_unicast(&packet->src) || ip_addr_is_group(&packet->dst))
		return false;
	switch (packet->ethertype) {
	case ETH_TYPE_IP4:
		return !ip4_is_error(frame, packet) &&
			ip_addr_v4(&packet->dst).s_addr != INADDR_BROADCAST;
	case ETH_TYPE_IP6:
		return !ip6_is_error(frame, packet);
	default:
		return false;
	}
}

/* Returns the length of the IP packet; the buffer's IP part is at `ip`. */
static size_t build4(struct ip4_header *ip, const struct icmp_sender *sender,
	const struct packet *packet, const struct icmp_header *header, const uint8_t *quoted,
	size_t quoted_len)
{
	struct icmp_header *icmp = (struct icmp_header *)(ip + 1);
	size_t icmp_len = sizeof(*icmp) + quoted_len, len = sizeof(*ip) + icmp_len;

	*ip = (struct ip4_header){
		.version_ihl = IP4_VERSION << 4 | IP4_HEADER_MIN / 4,
		.tos = TOS_INTERNETWORK_CONTROL,
		.total_length = be16_of((uint16_t)len),
		.fragment = be16_of(IP4_DONT_FRAGMENT), /* so the id need not be unique: RFC 6864 */
		.ttl = ERROR_TTL,
		.protocol = IPPROTO_ICMP,
		.src = ip4_addr_be32(ip_addr_v4(&sender->addr)),
		.dst = ip4_addr_be32(ip_addr_v4(&packet->src)),
	};
	ip->checksum = checksum_finish(checksum_add(0, ip, sizeof(*ip)));
	*icmp = *header;
	memcpy(icmp + 1, quoted, quoted_len);
	icmp->checksum = checksum_finish(checksum_add(0, icmp, icmp_len));
	return len;
}

static size_t build6(struct ip6_header *ip, const struct icmp_sender *sender,
	const struct packet *packet, const struct icmp_header *header, const uint8_t *quoted,
	size_t quoted_len)
{
	struct icmp_header *icmp = (struct icmp_header *)(ip + 1);
	size_t icmp_len = sizeof(*icmp) + quoted_len;
	uint64_t sum;

	*ip = (struct ip6_header){
		.version_class_flow = be32_of((uint32_t)IP6_VERSION << 28),
		.payload_length = be16_of((uint16_t)icmp_len),
		.next_header = IPPROTO_ICMPV6,
		.hop_limit = ERROR_TTL,
	};
	memcpy(&ip->src, &sender->addr.in6, sizeof(ip->src));
	memcpy(&ip->dst, &packet->src.in6, sizeof(ip->dst));
	*icmp = *header;
	memcpy(icmp + 1, quoted, quoted_len);
	sum = checksum_pseudo6(&ip->src, &ip->dst, IPPROTO_ICMPV6, (uint32_t)icmp_len);
	icmp->checksum = checksum_finish(checksum_add(sum, icmp, icmp_len));
	return sizeof(*ip) + icmp_len;
}

size_t icmp_build_error(uint8_t *buf, const struct icmp_sender *sender, const uint8_t *frame,
	const struct packet *packet, uint8_t type, uint8_t code, uint32_t rest)
{
	const struct icmp_header header = {.type = type, .code = code, .rest = be32_of(rest)};
	const struct eth_header *asked = (const struct eth_header *)frame;
	struct eth_header *eth = (struct eth_header *)buf;
	const uint8_t *quoted = frame + packet->ip_offset;
	size_t quoted_len = packet->len - packet->ip_offset, room;

	*eth = (struct eth_header){
		.dst = asked->src, .src = sender->mac, .type = be16_of(packet->ethertype)};
	if (packet->ethertype == ETH_TYPE_IP4) {
		room = ICMP_ERROR_MAX - sizeof(struct ip4_header) - sizeof(struct icmp_header);
		return sizeof(*eth) +
			build4((struct ip4_header *)(eth + 1), sender, packet, &header, quoted,
				MIN(quoted_len, room));
	}
	room = ICMP6_ERROR_MAX - sizeof(struct ip6_header) - sizeof(struct icmp_header);
	return sizeof(*eth) +
		build6((struct ip6_header *)(eth + 1), sender, packet, &header, quoted,
			MIN(quoted_len, room));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/ndp.h"

#include "wire/cursor.h"

static const struct icmp_header *icmp_of(const uint8_t *frame, const struct packet *packet)
{
	return (const struct icmp_header *)(frame + packet->transport_offset);
}

/* In front of the options. */
static size_t fixed_len(const struct icmp_header *icmp)
{
	return icmp->type == ICMP6_ROUTER_SOLICITATION ? sizeof(struct icmp_header)
						       : sizeof(struct ndp_neighbor);
}

static bool options_are_sane(struct cursor options)
{
	while (options.left) {
		if (options.left < sizeof(struct ndp_option) || options.at[1] == 0 ||
			!cursor_take(&options, (size_t)options.at[1] * 8))
			return false;
	}
	return true;
}

/* RFC 4291 2.7.1 */
static const uint8_t solicited_prefix[] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

static bool is_solicited_node(const struct in6_addr *addr)
{
	return !memcmp(addr, solicited_prefix, sizeof(solicited_prefix));
}

static bool solicitation_is_sane(const uint8_t *frame, const struct packet *packet)
{
	const struct ndp_neighbor *ndp = (const void *)icmp_of(frame, packet);
	struct eth_addr mac;

	if (ndp->icmp.type == ICMP6_NEIGHBOR_SOLICITATION && ndp->target.b[0] == 0xff)
		return false;
	if (!IN6_IS_ADDR_UNSPECIFIED(&packet->src.in6))
		return true;
	if (ndp->icmp.type == ICMP6_NEIGHBOR_SOLICITATION && !is_solicited_node(&packet->dst.in6))
		return false;
	return !ndp_link_address(frame, packet, NDP_OPTION_SOURCE, &mac);
}

static bool advertisement_is_sane(const uint8_t *frame, const struct packet *packet)
{
	const struct ndp_neighbor *ndp = (const void *)icmp_of(frame, packet);

	if (ndp->target.b[0] == 0xff)
		return false;
	return !IN6_IS_ADDR_MULTICAST(&packet->dst.in6) ||
		!(be32_get(ndp->icmp.rest) & NDP_SOLICITED);
}

enum packet_outcome ndp_check(const uint8_t *frame, const struct packet *packet)
{
	const struct icmp_header *icmp = icmp_of(frame, packet);
	struct cursor cursor = {.at = (const uint8_t *)icmp, .left = packet->transport_len};
	bool is_sane;

	if (packet->ttl != NDP_HOP_LIMIT || icmp->code != 0)
		return PACKET_BAD_HEADER;
	if (!cursor_take(&cursor, fixed_len(icmp)))
		return PACKET_TRUNCATED;
	if (!options_are_sane(cursor))
		return PACKET_BAD_HEADER;
	is_sane = icmp->type == ICMP6_NEIGHBOR_ADVERTISEMENT ? advertisement_is_sane(frame, packet)
							     : solicitation_is_sane(frame, packet);
	return is_sane ? PACKET_OK : PACKET_BAD_HEADER;
}

bool ndp_link_address(const uint8_t *frame, const struct packet *packet, enum ndp_option_type type,
	struct eth_addr *ret)
{
	const struct icmp_header *icmp = icmp_of(frame, packet);
	struct cursor cursor = {.at = (const uint8_t *)icmp, .left = packet->transport_len};

	(void)cursor_take(&cursor, fixed_len(icmp));
	while (cursor.left) {
		const uint8_t *at = cursor.at;

		/* One unit holds an Ethernet address (RFC 2464 6). */
		if (at[0] == type && at[1] == 1) {
			memcpy(ret, at + sizeof(struct ndp_option), sizeof(*ret));
			return true;
		}
		(void)cursor_take(&cursor, (size_t)at[1] * 8);
	}
	return false;
}

void ndp_build_advertisement(struct ndp_advertisement *ret, const struct in6_addr *target,
	const struct eth_addr *mac, uint32_t flags)
{
	*ret = (struct ndp_advertisement){
		.neighbor.icmp = {.type = ICMP6_NEIGHBOR_ADVERTISEMENT, .rest = be32_of(flags)},
		.option = {.type = NDP_OPTION_TARGET, .length = 1},
		.mac = *mac,
	};
	memcpy(&ret->neighbor.target, target, sizeof(ret->neighbor.target));
}

void ndp_build_solicitation(
	struct ndp_solicitation *ret, const struct in6_addr *target, const struct eth_addr *mac)
{
	*ret = (struct ndp_solicitation){
		.neighbor.icmp.type = ICMP6_NEIGHBOR_SOLICITATION,
		.option = {.type = NDP_OPTION_SOURCE, .length = 1},
		.mac = *mac,
	};
	memcpy(&ret->neighbor.target, target, sizeof(ret->neighbor.target));
}

struct in6_addr ndp_solicited_node(const struct in6_addr *target)
{
	struct in6_addr node = *target;

	memcpy(&node, solicited_prefix, sizeof(solicited_prefix));
	return node;
}

struct eth_addr ndp_group_mac(const struct in6_addr *group)
{
	struct eth_addr mac = {{0x33, 0x33}};

	memcpy(&mac.b[2], &group->s6_addr[12], 4);
	return mac;
}

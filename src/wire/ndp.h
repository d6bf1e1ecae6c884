/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neighbour discovery (RFC 4861): what the receiver of a router solicitation, of a neighbour
 * solicitation or advertisement must check, their options, and messages of our own. Layouts
 * are in wire/icmp.h.
 */
#pragma once

#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire/packet.h"

#define NDP_HOP_LIMIT 255 /* less: it has crossed a router */

enum ndp_option_type {
	NDP_OPTION_SOURCE = 1, /* link-layer addresses */
	NDP_OPTION_TARGET = 2,
};

/* Of an advertisement, in icmp.rest. */
enum ndp_flag {
	NDP_ROUTER = 1U << 31,
	NDP_SOLICITED = 1U << 30,
	NDP_OVERRIDE = 1U << 29,
};

struct ndp_advertisement {
	struct ndp_neighbor neighbor;
	struct ndp_option option;
	struct eth_addr mac;
};
_Static_assert(sizeof(struct ndp_advertisement) == 32, "no padding");

struct ndp_solicitation {
	struct ndp_neighbor neighbor;
	struct ndp_option option;
	struct eth_addr mac;
};
_Static_assert(sizeof(struct ndp_solicitation) == 32, "no padding");

/* RFC 4861 6.1.1, 7.1.1, 7.1.2, but for the checksum; `packet` is one of the three. PACKET_OK,
 * PACKET_TRUNCATED or PACKET_BAD_HEADER. */
enum packet_outcome ndp_check(const uint8_t *frame, const struct packet *packet);

/* The link-layer address that an option of a message which was checked carries. False: none. */
bool ndp_link_address(const uint8_t *frame, const struct packet *packet, enum ndp_option_type type,
	struct eth_addr *ret);

/* `target` is at `mac`; the checksum is left to whoever makes the packet. */
void ndp_build_advertisement(struct ndp_advertisement *ret, const struct in6_addr *target,
	const struct eth_addr *mac, uint32_t flags);
/* Who is at `target`? So asks who is at `mac`; likewise. */
void ndp_build_solicitation(
	struct ndp_solicitation *ret, const struct in6_addr *target, const struct eth_addr *mac);
/* The group that such a question goes to (RFC 4291 2.7.1), and a group's Ethernet address
 * (RFC 2464 7). */
struct in6_addr ndp_solicited_node(const struct in6_addr *target);
struct eth_addr ndp_group_mac(const struct in6_addr *group);

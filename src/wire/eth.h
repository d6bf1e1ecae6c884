/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet II framing (IEEE 802.3, without the frame check sequence). */
#pragma once

#include "wire/types.h"

#define ETH_ADDR_LEN   6
#define ETH_HEADER_LEN 14

enum eth_type {
	ETH_TYPE_IP4 = 0x0800,
	ETH_TYPE_ARP = 0x0806,
	ETH_TYPE_IP6 = 0x86dd,
};

struct eth_addr {
	uint8_t b[ETH_ADDR_LEN];
};

struct eth_header {
	struct eth_addr dst;
	struct eth_addr src;
	be16 type;
};
_Static_assert(sizeof(struct eth_header) == ETH_HEADER_LEN, "no padding");

/* The I/G bit: broadcast is one of these. */
static inline bool eth_addr_is_group(const struct eth_addr *addr)
{
	return addr->b[0] & 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Address resolution for IPv4 over Ethernet (RFC 826). */
#pragma once

#include "wire/eth.h"

#define ARP_HARDWARE_ETHERNET 1

enum arp_opcode {
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
};

struct arp_header {
	be16 hardware_type;
	be16 protocol_type;
	uint8_t hardware_len;
	uint8_t protocol_len;
	be16 opcode;
	struct eth_addr sender_hardware;
	be32 sender_protocol;
	struct eth_addr target_hardware;
	be32 target_protocol;
};
_Static_assert(sizeof(struct arp_header) == 28, "no padding");

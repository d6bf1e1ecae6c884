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

#define ARP_FRAME_LEN (ETH_HEADER_LEN + sizeof(struct arp_header))

/* Whether somebody can be meant by the sender: 0.0.0.0 is a probe's (RFC 5227 2.1.1). */
bool arp_sender_is_sane(const struct arp_header *arp);

/* Asks all for the Ethernet address of `target`, in the name of `sender` at `mac`. A frame of
 * ARP_FRAME_LEN bytes. */
void arp_build_request(uint8_t *buf, const struct eth_addr *mac, be32 sender, be32 target);

/* The answer to `request`: what it asks for is at `mac`. A frame of ARP_FRAME_LEN bytes. */
void arp_build_reply(uint8_t *buf, const struct arp_header *request, const struct eth_addr *mac);

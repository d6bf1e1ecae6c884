/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/arp.h"

bool arp_sender_is_sane(const struct arp_header *arp)
{
	uint8_t first = arp->sender_protocol.b[0];

	return !eth_addr_is_group(&arp->sender_hardware) && first != IN_LOOPBACKNET &&
		first >> 4 < 0xe;
}

void arp_build_request(uint8_t *buf, const struct eth_addr *mac, be32 sender, be32 target)
{
	struct eth_header *eth = (struct eth_header *)buf;
	struct arp_header *arp = (struct arp_header *)(eth + 1);

	*eth = (struct eth_header){
		.dst = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		.src = *mac,
		.type = be16_of(ETH_TYPE_ARP),
	};
	*arp = (struct arp_header){
		.hardware_type = be16_of(ARP_HARDWARE_ETHERNET),
		.protocol_type = be16_of(ETH_TYPE_IP4),
		.hardware_len = ETH_ADDR_LEN,
		.protocol_len = sizeof(be32),
		.opcode = be16_of(ARP_REQUEST),
		.sender_hardware = *mac,
		.sender_protocol = sender,
		.target_protocol = target,
	};
}

void arp_build_reply(uint8_t *buf, const struct arp_header *request, const struct eth_addr *mac)
{
	struct eth_header *eth = (struct eth_header *)buf;
	struct arp_header *arp = (struct arp_header *)(eth + 1);

	*eth = (struct eth_header){
		.dst = request->sender_hardware, .src = *mac, .type = be16_of(ETH_TYPE_ARP)};
	*arp = (struct arp_header){
		.hardware_type = be16_of(ARP_HARDWARE_ETHERNET),
		.protocol_type = be16_of(ETH_TYPE_IP4),
		.hardware_len = ETH_ADDR_LEN,
		.protocol_len = sizeof(be32),
		.opcode = be16_of(ARP_REPLY),
		.sender_hardware = *mac,
		.sender_protocol = request->target_protocol,
		.target_hardware = request->sender_hardware,
		.target_protocol = request->sender_protocol,
	};
}

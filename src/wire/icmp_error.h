/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the ICMP error that answers a packet: when one may be sent at all, and the frame.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/eth.h"
#include "wire/packet.h"

/* An ICMP error is at most that long, without the Ethernet header: every IPv4 host takes 576 bytes
 * (RFC 1812 4.3.2.3), every IPv6 link carries 1280 (RFC 4443 2.4(c)). */
#define ICMP_ERROR_MAX  576
#define ICMP6_ERROR_MAX 1280

/* Who speaks. */
struct icmp_sender {
	struct eth_addr mac;
	struct ip_addr addr; /* of the packet's family */
};

/* RFC 1122 3.2.2, RFC 4443 2.4(e): not about ICMP errors, not about fragments other than the
 * first, not to or about groups. Directed broadcasts are the caller's to know. */
bool icmp_error_allowed(const uint8_t *frame, const struct packet *packet);

/* The error of that type and code, of the packet's family, quoting as much of the packet as fits,
 * from `sender` to the frame's source. `rest` are the 32 bits behind the checksum: the MTU where
 * there is one, else 0. `buf` has room for an Ethernet header and ICMP6_ERROR_MAX bytes. Returns
 * the frame's length. */
size_t icmp_build_error(uint8_t *buf, const struct icmp_sender *sender, const uint8_t *frame,
	const struct packet *packet, uint8_t type, uint8_t code, uint32_t rest);

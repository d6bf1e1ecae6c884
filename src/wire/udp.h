/* SPDX-License-Identifier: Apache-2.0 */
/* User Datagram Protocol (RFC 768). */
#pragma once

#include "wire/types.h"

#define UDP_HEADER_LEN 8

enum udp_port {
	UDP_PORT_DHCP_SERVER = 67,
	UDP_PORT_TFTP = 69,
	UDP_PORT_DHCP6_SERVER = 547,
};

struct udp_header {
	be16 src_port;
	be16 dst_port;
	be16 length;
	be16 checksum;
};
_Static_assert(sizeof(struct udp_header) == UDP_HEADER_LEN, "no padding");

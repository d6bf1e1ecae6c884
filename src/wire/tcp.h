/* SPDX-License-Identifier: Apache-2.0 */
/* Transmission Control Protocol (RFC 9293). */
#pragma once

#include "wire/types.h"

#define TCP_HEADER_MIN 20

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

/* Option kinds (RFC 9293 3.2). */
enum tcp_option {
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP = 1,
	TCP_OPTION_MSS = 2,
};

struct tcp_header {
	be16 src_port;
	be16 dst_port;
	be32 seq;
	be32 ack;
	uint8_t offset; /* upper 4 bits: the header's length in 32-bit words */
	uint8_t flags;
	be16 window;
	be16 checksum;
	be16 urgent;
};
_Static_assert(sizeof(struct tcp_header) == TCP_HEADER_MIN, "no padding");

static inline size_t tcp_header_len(const struct tcp_header *tcp)
{
	return (size_t)(tcp->offset >> 4) * 4;
}

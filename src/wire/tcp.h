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
	TCP_OPTION_WINDOW_SCALE = 3, /* RFC 7323 2.2 */
	TCP_OPTION_SACK_PERMITTED = 4,
	TCP_OPTION_TIMESTAMPS = 8,
};

/* The largest shift of a window (RFC 7323 2.3). */
#define TCP_WINDOW_SCALE_MAX 14
/* Without the option (RFC 9293 3.7.1). */
#define TCP_MSS_DEFAULT4 536
#define TCP_MSS_DEFAULT6 1220

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

/* Sequence numbers are compared modulo 2^32 (RFC 9293 3.4). */
static inline bool seq_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_after(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* The options of a SYN that count for us. */
struct tcp_options {
	uint16_t mss;         /* 0: not given */
	uint8_t window_scale; /* at most TCP_WINDOW_SCALE_MAX */
	bool has_window_scale;
};

/* `tcp` was parsed (packet.h), so its options are well-formed; those of a wrong length are passed
 * over. */
void tcp_options_parse(const struct tcp_header *tcp, struct tcp_options *ret);

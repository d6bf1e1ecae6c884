/* SPDX-License-Identifier: Apache-2.0 */
/* Internet Protocol, version 6 (RFC 8200), with its extension headers. */
#pragma once

#include "wire/types.h"

#define IP6_VERSION     6
#define IP6_HEADER_LEN  40
#define IP6_PAYLOAD_MAX 65535 /* without the header */
#define IP6_LEN_MAX     (IP6_HEADER_LEN + IP6_PAYLOAD_MAX)
#define IP6_MIN_MTU     1280

/* In struct ip6_fragment.offset; the offset is the upper 13 bits, that is in bytes already. */
#define IP6_OFFSET_MASK    0xfff8
#define IP6_MORE_FRAGMENTS 0x0001

#define IP6_ROUTING_SOURCE 0 /* type 0, deprecated by RFC 5095 */
#define IP6_OPTION_JUMBO   0xc2

struct ip6_addr {
	uint8_t b[16];
};

struct ip6_header {
	be32 version_class_flow;
	be16 payload_length;
	uint8_t next_header;
	uint8_t hop_limit;
	struct ip6_addr src;
	struct ip6_addr dst;
};
_Static_assert(sizeof(struct ip6_header) == IP6_HEADER_LEN, "no padding");

/* What the hop-by-hop, routing and destination options headers begin with. */
struct ip6_extension {
	uint8_t next_header;
	uint8_t length; /* in units of 8 bytes, the first one not counted */
};
_Static_assert(sizeof(struct ip6_extension) == 2, "no padding");

/* A hop-by-hop options header with nothing but the jumbo payload option (RFC 2675 2), behind a
 * header whose payload_length is 0. */
struct ip6_jumbo {
	struct ip6_extension extension;
	uint8_t option, option_len; /* IP6_OPTION_JUMBO, 4 */
	be32 payload_length;        /* this header included */
};
_Static_assert(sizeof(struct ip6_jumbo) == 8, "no padding");

struct ip6_fragment {
	uint8_t next_header;
	uint8_t reserved;
	be16 offset;
	be32 id;
};
_Static_assert(sizeof(struct ip6_fragment) == 8, "no padding");

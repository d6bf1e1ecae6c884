/* SPDX-License-Identifier: Apache-2.0 */
/* Internet Protocol version 4 (RFC 791). */
#pragma once

#include "wire/types.h"

#define IP4_VERSION    4
#define IP4_HEADER_MIN 20
#define IP4_HEADER_MAX 60
#define IP4_LEN_MAX    65535
#define IP4_MIN_MTU    68

/* In struct ip4_header.fragment; the offset counts units of 8 bytes. */
#define IP4_RESERVED       0x8000
#define IP4_DONT_FRAGMENT  0x4000
#define IP4_MORE_FRAGMENTS 0x2000
#define IP4_OFFSET_MASK    0x1fff

/* Option types (RFC 791 3.1). */
enum ip4_option {
	IP4_OPTION_END = 0,
	IP4_OPTION_NOP = 1,
	IP4_OPTION_LSRR = 131,
	IP4_OPTION_SSRR = 137,
};

struct ip4_header {
	uint8_t version_ihl;
	uint8_t tos;
	be16 total_length;
	be16 id;
	be16 fragment;
	uint8_t ttl;
	uint8_t protocol;
	be16 checksum;
	be32 src;
	be32 dst;
};
_Static_assert(sizeof(struct ip4_header) == IP4_HEADER_MIN, "no padding");

static inline struct in_addr ip4_addr(be32 addr)
{
	struct in_addr ret;

	memcpy(&ret, &addr, sizeof(ret));
	return ret;
}

static inline be32 ip4_addr_be32(struct in_addr addr)
{
	be32 ret;

	memcpy(&ret, &addr, sizeof(ret));
	return ret;
}

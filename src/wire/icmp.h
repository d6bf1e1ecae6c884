/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861). */
#pragma once

#include "wire/ip6.h"
#include "wire/types.h"

#define ICMP_HEADER_LEN 8

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_DESTINATION_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
	ICMP_TIMESTAMP = 13,
	ICMP_TIMESTAMP_REPLY = 14,
};

/* Codes of destination unreachable (RFC 792, RFC 1812 5.2.7.1). */
enum icmp_unreachable {
	ICMP_NET_UNREACHABLE = 0,
	ICMP_HOST_UNREACHABLE = 1,
	ICMP_PORT_UNREACHABLE = 3,
	ICMP_FRAGMENTATION_NEEDED = 4, /* RFC 1191 4: the MTU is in `rest` */
	ICMP_ADMIN_PROHIBITED = 13,
};

enum icmp6_type {
	ICMP6_DESTINATION_UNREACHABLE = 1,
	ICMP6_PACKET_TOO_BIG = 2,
	ICMP6_TIME_EXCEEDED = 3,
	ICMP6_PARAMETER_PROBLEM = 4,
	ICMP6_ECHO_REQUEST = 128, /* smaller ones are errors */
	ICMP6_ECHO_REPLY = 129,
	ICMP6_MLD_QUERY = 130,
	ICMP6_MLD_REPORT = 131,
	ICMP6_MLD_DONE = 132,
	ICMP6_ROUTER_SOLICITATION = 133,
	ICMP6_ROUTER_ADVERTISEMENT = 134,
	ICMP6_NEIGHBOR_SOLICITATION = 135,
	ICMP6_NEIGHBOR_ADVERTISEMENT = 136,
	ICMP6_REDIRECT = 137,
	ICMP6_MLD2_REPORT = 143, /* RFC 3810 */
};

/* Codes of destination unreachable (RFC 4443 3.1). */
enum icmp6_unreachable {
	ICMP6_NO_ROUTE = 0,
	ICMP6_ADMIN_PROHIBITED = 1,
	ICMP6_ADDRESS_UNREACHABLE = 3,
	ICMP6_PORT_UNREACHABLE = 4,
};

/* Codes of time exceeded, of both families (RFC 792, RFC 4443 3.3). */
enum icmp_time_exceeded {
	ICMP_TTL_EXCEEDED = 0,
	ICMP_REASSEMBLY_EXCEEDED = 1,
};

static inline uint8_t icmp_protocol(uint8_t family)
{
	return family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;
}

/* What all messages begin with; `rest` is the type's own. */
struct icmp_header {
	uint8_t type;
	uint8_t code;
	be16 checksum;
	be32 rest;
};
_Static_assert(sizeof(struct icmp_header) == ICMP_HEADER_LEN, "no padding");

/* Neighbour solicitation and advertisement; the options follow. */
struct ndp_neighbor {
	struct icmp_header icmp;
	struct ip6_addr target;
};
_Static_assert(sizeof(struct ndp_neighbor) == 24, "no padding");

struct ndp_option {
	uint8_t type;
	uint8_t length; /* in units of 8 bytes */
};
_Static_assert(sizeof(struct ndp_option) == 2, "no padding");

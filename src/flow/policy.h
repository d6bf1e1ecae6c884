/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a packet of the container may go: values in, values out. Nothing here opens a socket,
 * reads a clock or logs; the one who asks counts and answers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "wire/types.h"

/* What the container's network looks like, fixed at start. */
struct policy {
	struct in_addr network; /* N, and all below: network byte order */
	struct in_addr netmask;
	struct in_addr gateway; /* N+2: the host's loopback */
	struct in_addr dns;     /* N+3: the host's resolver */
	struct in_addr guest;   /* N+100 */
	struct in6_addr gateway6;
	struct in6_addr dns6;
	bool ipv6;
	bool host_loopback;
};

enum policy_verdict {
	POLICY_PASS,
	/* Never dialled: it can only mean the host itself, or nobody. Answered with ICMP net
	 * unreachable (RFC 792 code 0), ICMPv6 no route to destination (RFC 4443 3.1 code 0). */
	POLICY_UNREACHABLE,
};

/*
 * May a packet to `dst` be given to the stack? Refused, whatever host_loopback says:
 *   IPv4  0/8, 127/8, 240/4 but 255.255.255.255
 *   IPv6  ::, ::1, ::ffff:0:0/96 (v4-mapped), ::/96 (v4-compatible), and fe80::/10 unless
 *         `proto` is ICMPv6 (neighbour discovery on the link)
 * connect(2) to each of these reaches the host itself: Linux takes 0.0.0.0, :: and their mapped
 * forms for loopback. `proto` is the IP protocol number.
 */
enum policy_verdict policy_check(
	const struct policy *policy, const struct ip_addr *dst, uint8_t proto);

/* Who is meant by an address, in the container's network. */
bool policy_is_gateway(const struct policy *policy, const struct ip_addr *addr);
/* The DHCP servers answer to the gateway and to their groups: 255.255.255.255, ff02::1:2. */
bool policy_is_dhcp_server(const struct policy *policy, const struct ip_addr *addr);
bool policy_is_directed_broadcast(const struct policy *policy, const struct ip_addr *addr);

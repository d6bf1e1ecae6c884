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
	bool dns_enabled;
	/* The source of what goes out; --outbound-addr, --outbound-addr6. */
	bool has_outbound, has_outbound6;
	struct ip_addr outbound, outbound6;
};

enum policy_verdict {
	POLICY_PASS,
	/* Never dialled: it can only mean the host itself, or nobody. Answered with ICMP net
	 * unreachable (RFC 792 code 0), ICMPv6 no route to destination (RFC 4443 3.1 code 0). */
	POLICY_UNREACHABLE,
	/* policy_map() only: the host's nameserver, whichever that is now. */
	POLICY_NAMESERVER,
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

/*
 * Which address of the host's world does the container mean by `dst`, a port of `proto` (TCP, UDP;
 * for ICMP the port is 0)? For POLICY_PASS it is in *ret_addr:
 *   N+2              127.0.0.1 when host_loopback, else unreachable
 *   255.255.255.255  likewise, and the network's own broadcast address, for UDP
 *   fd00::/64        ::1 likewise, but for fd00::3
 *   N+3, fd00::3     port 53 the nameserver, else unreachable; without dns_enabled like others
 *   fe80::/10        unreachable
 *   all others       themselves, where policy_check() lets them pass: other networks' broadcast
 *                    addresses and groups, too
 */
enum policy_verdict policy_map(const struct policy *policy, const struct ip_addr *dst,
	uint16_t port, uint8_t proto, struct ip_addr *ret_addr);

/*
 * The other way round: under which address does the container see `src`, a peer in the host's
 * world? For POLICY_PASS it is in *ret_addr:
 *   127/8, ::1       N+2, fd00::2 when host_loopback, else unreachable
 *   groups, 0/8, 240/4, ::/96, v4-mapped, fe80::/10, IPv6 while it is off
 *                    unreachable: nobody whom the container could answer
 *   what policy_map() does not leave as it is (N+2, N+3, fd00::/64, ...)
 *                    unreachable: somebody else would speak in our name
 *   all others       themselves
 */
enum policy_verdict policy_unmap(
	const struct policy *policy, const struct ip_addr *src, struct ip_addr *ret_addr);

/*
 * As whom a client of a published port is shown to a guest of `family`:
 *   127/8, ::1, 0/8, ::, link-local, the guest's own address, N+2, N+3 and their IPv6 likes, of the
 *   other family, of no single machine
 *                    N+2, fd00::2, whatever host_loopback says
 *   all others       themselves, with those on the link whom the container would ask for by ARP
 */
struct ip_addr policy_client_name(
	const struct policy *policy, const struct ip_addr *client, const struct ip_addr *guest);

/* The source address that connections to a host of that family have to use, or NULL. */
const struct ip_addr *policy_source(const struct policy *policy, uint8_t family);
/* Likewise to a nameserver of the host's; none to one on the host itself, or on its link. */
const struct ip_addr *policy_source_to(const struct policy *policy, const struct ip_addr *server);

/* Is `addr` reached without a router: of the container's networks (the first 64 bits of gateway6
 * are IPv6's), link-local, a group or broadcast? */
bool policy_on_link(const struct policy *policy, const struct ip_addr *addr);

/* In whose name the container is told of errors. */
struct ip_addr policy_gateway(const struct policy *policy, uint8_t family);
/* Who is meant by an address, in the container's network. */
bool policy_is_gateway(const struct policy *policy, const struct ip_addr *addr);
/* The DHCP servers answer to the gateway and to their groups: 255.255.255.255, ff02::1:2. */
bool policy_is_dhcp_server(const struct policy *policy, const struct ip_addr *addr);
bool policy_is_directed_broadcast(const struct policy *policy, const struct ip_addr *addr);

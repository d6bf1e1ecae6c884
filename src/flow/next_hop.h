/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where on the container's link an address is reached. gateway/ answers from its table of
 * neighbours, asks (ARP, neighbour solicitation) for whom it does not know, and answers itself for
 * clients that seem to be on the link and are not (proxy ARP, RFC 1027; RFC 4861 7.2.8).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "wire/eth.h"
#include "wire/types.h"

/* After so long without an answer there is nobody. */
#define NEXT_HOP_GIVE_UP_NS (3 * NS_PER_SEC)

struct next_hop;

struct next_hop_ops {
	/* The Ethernet address towards `addr`: of itself when it is on the link, else of the guest
	 * (N+100, or the guest's IPv6 address last seen), who routes. False: it is not known, and
	 * was asked for, at a bounded rate; whoever is interested is told when it is heard of
	 * (tcpflow_neighbor(), publish_neighbor()). With `again`, what is known has not helped:
	 * it is asked for in any case. */
	bool (*find)(struct next_hop *next_hop, const struct ip_addr *addr, bool again,
		struct eth_addr *ret_mac);
	/* A flow whose far address is `addr` begins, or ends: while there is one we answer for the
	 * address, if it is on the link. Counted; 0 or -ENOSPC (too many different ones). Others
	 * than those on the link cost nothing. */
	int (*claim)(struct next_hop *next_hop, const struct ip_addr *addr);
	void (*release)(struct next_hop *next_hop, const struct ip_addr *addr);
};

struct next_hop {
	const struct next_hop_ops *ops;
};

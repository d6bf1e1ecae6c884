/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands between the container's DHCP requests and libslirp's server.
 *
 * libslirp has 16 leases that never end. A request for which it has none costs it, in 4.7, a buffer
 * of the MTU's size that is never freed. So the guard keeps the same books, and what the server
 * could only lose is not given to it. It also checks that the options add up.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/eth.h"
#include "wire/types.h"

#define DHCP_LEASES_MAX 16

struct dhcp_guard {
	struct in_addr first; /* N+15 */
	struct dhcp_lease {
		bool taken;
		struct eth_addr mac;
	} leases[DHCP_LEASES_MAX];
};

enum dhcp_verdict {
	DHCP_PASS,
	DHCP_MALFORMED,
	DHCP_NO_LEASE,
};

void dhcp_guard_init(struct dhcp_guard *guard, struct in_addr first);

/* `message` is the UDP payload of a packet to the server. DHCP_PASS means that it is given to
 * libslirp, and the lease is booked. */
enum dhcp_verdict dhcp_guard_check(struct dhcp_guard *guard, const uint8_t *message, size_t len);

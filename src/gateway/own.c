/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/own.h"

/* The link-local address of the same interface identifier is that machine's, too. */
static bool is_same_machine(const struct in6_addr *own, const struct in6_addr *addr)
{
	static const uint8_t link_local[8] = {0xfe, 0x80};

	return !memcmp(&own->s6_addr[8], &addr->s6_addr[8], 8) &&
		(!memcmp(own, addr, 8) || !memcmp(link_local, addr, 8));
}

enum own_address own_address_of(const struct policy *policy, const struct ip_addr *addr)
{
	in_addr_t v4 = ip_addr_v4(addr).s_addr;

	if (addr->family == AF_INET) {
		if (v4 == policy->gateway.s_addr)
			return OWN_GATEWAY;
		return v4 == policy->dns.s_addr ? OWN_DNS : OWN_NONE;
	}
	if (is_same_machine(&policy->gateway6, &addr->in6))
		return OWN_GATEWAY;
	return is_same_machine(&policy->dns6, &addr->in6) ? OWN_DNS : OWN_NONE;
}

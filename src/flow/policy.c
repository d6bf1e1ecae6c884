/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/policy.h"

static bool ip4_is_dialled(struct in_addr addr)
{
	uint32_t v4 = ntohl(addr.s_addr);

	if (v4 == INADDR_BROADCAST)
		return true;
	return v4 >> 24 != 0 && v4 >> 24 != IN_LOOPBACKNET && v4 >> 28 != 0xf;
}

static bool ip6_is_dialled(const struct in6_addr *addr, uint8_t proto)
{
	static const uint8_t zero[12];

	/* ::/96 has :: and ::1 in it. */
	if (IN6_IS_ADDR_V4MAPPED(addr) || !memcmp(addr, zero, sizeof(zero)))
		return false;
	return !IN6_IS_ADDR_LINKLOCAL(addr) || proto == IPPROTO_ICMPV6;
}

enum policy_verdict policy_check(
	const struct policy *policy, const struct ip_addr *dst, uint8_t proto)
{
	bool dialled = dst->family == AF_INET ? ip4_is_dialled(ip_addr_v4(dst))
					      : ip6_is_dialled(&dst->in6, proto);

	return dialled ? POLICY_PASS : POLICY_UNREACHABLE;
}

bool policy_is_gateway(const struct policy *policy, const struct ip_addr *addr)
{
	if (addr->family == AF_INET)
		return ip_addr_v4(addr).s_addr == policy->gateway.s_addr;
	return IN6_ARE_ADDR_EQUAL(&addr->in6, &policy->gateway6);
}

bool policy_is_dhcp_server(const struct policy *policy, const struct ip_addr *addr)
{
	if (policy_is_gateway(policy, addr))
		return true;
	if (addr->family == AF_INET)
		return ip_addr_v4(addr).s_addr == INADDR_BROADCAST;
	return IN6_IS_ADDR_MC_LINKLOCAL(&addr->in6);
}

bool policy_is_directed_broadcast(const struct policy *policy, const struct ip_addr *addr)
{
	return addr->family == AF_INET &&
		ip_addr_v4(addr).s_addr == (policy->network.s_addr | ~policy->netmask.s_addr);
}

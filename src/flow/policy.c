/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/policy.h"

#define DNS_PORT 53

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

static bool is_dns(const struct policy *policy, const struct ip_addr *dst)
{
	if (!policy->dns_enabled)
		return false;
	if (dst->family == AF_INET)
		return ip_addr_v4(dst).s_addr == policy->dns.s_addr;
	return IN6_ARE_ADDR_EQUAL(&dst->in6, &policy->dns6);
}

static bool is_in_prefix6(const struct policy *policy, const struct in6_addr *addr)
{
	return !memcmp(addr, &policy->gateway6, 8);
}

static bool is_host(const struct policy *policy, const struct ip_addr *dst, uint8_t proto)
{
	if (dst->family == AF_INET6)
		return is_in_prefix6(policy, &dst->in6);
	if (ip_addr_v4(dst).s_addr == policy->gateway.s_addr)
		return true;
	return proto == IPPROTO_UDP &&
		(ip_addr_v4(dst).s_addr == INADDR_BROADCAST ||
			policy_is_directed_broadcast(policy, dst));
}

static bool is_link_local6(const struct ip_addr *addr)
{
	return addr->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&addr->in6);
}

static bool is_for_many(const struct ip_addr *addr)
{
	return ip_addr_is_group(addr) ||
		(addr->family == AF_INET && ip_addr_v4(addr).s_addr == INADDR_BROADCAST);
}

static bool is_loopback(const struct ip_addr *addr)
{
	if (addr->family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&addr->in6);
	return ntohl(ip_addr_v4(addr).s_addr) >> 24 == IN_LOOPBACKNET;
}

static struct ip_addr loopback_of(uint8_t family)
{
	if (family == AF_INET)
		return ip_addr_of_v4((struct in_addr){htonl(INADDR_LOOPBACK)});
	return ip_addr_of_v6(&in6addr_loopback);
}

enum policy_verdict policy_map(const struct policy *policy, const struct ip_addr *dst,
	uint16_t port, uint8_t proto, struct ip_addr *ret_addr)
{
	if (policy_check(policy, dst, proto) != POLICY_PASS || is_link_local6(dst))
		return POLICY_UNREACHABLE;
	if (is_dns(policy, dst))
		return port == DNS_PORT ? POLICY_NAMESERVER : POLICY_UNREACHABLE;
	*ret_addr = *dst;
	if (!is_host(policy, dst, proto))
		return POLICY_PASS;
	if (!policy->host_loopback)
		return POLICY_UNREACHABLE;
	*ret_addr = loopback_of(dst->family);
	return POLICY_PASS;
}

enum policy_verdict policy_unmap(
	const struct policy *policy, const struct ip_addr *src, struct ip_addr *ret_addr)
{
	if (src->family == AF_INET6 && !policy->ipv6)
		return POLICY_UNREACHABLE;
	if (is_loopback(src)) {
		if (!policy->host_loopback)
			return POLICY_UNREACHABLE;
		*ret_addr = policy_gateway(policy, src->family);
		return POLICY_PASS;
	}
	if (policy_check(policy, src, IPPROTO_NONE) != POLICY_PASS || is_for_many(src))
		return POLICY_UNREACHABLE;
	if (is_dns(policy, src) || is_host(policy, src, IPPROTO_UDP))
		return POLICY_UNREACHABLE;
	*ret_addr = *src;
	return POLICY_PASS;
}

bool policy_on_link(const struct policy *policy, const struct ip_addr *addr)
{
	if (is_for_many(addr))
		return true;
	if (addr->family == AF_INET6)
		return is_in_prefix6(policy, &addr->in6) || is_link_local6(addr);
	return (ip_addr_v4(addr).s_addr & policy->netmask.s_addr) == policy->network.s_addr;
}

static bool is_network_itself(const struct policy *policy, const struct ip_addr *addr)
{
	return addr->family == AF_INET && ip_addr_v4(addr).s_addr == policy->network.s_addr;
}

static bool is_ours(const struct policy *policy, const struct ip_addr *addr)
{
	if (policy_is_gateway(policy, addr))
		return true;
	if (addr->family == AF_INET)
		return ip_addr_v4(addr).s_addr == policy->dns.s_addr;
	return IN6_ARE_ADDR_EQUAL(&addr->in6, &policy->dns6);
}

static bool is_guest(
	const struct policy *policy, const struct ip_addr *addr, const struct ip_addr *guest)
{
	return ip_addr_equal(addr, guest) ||
		(addr->family == AF_INET && ip_addr_v4(addr).s_addr == policy->guest.s_addr);
}

static bool is_link_local4(const struct ip_addr *addr)
{
	return addr->family == AF_INET && ntohl(ip_addr_v4(addr).s_addr) >> 16 == 0xa9fe;
}

struct ip_addr policy_client_name(
	const struct policy *policy, const struct ip_addr *client, const struct ip_addr *guest)
{
	bool is_one_machine = client->family == guest->family && ip_addr_is_unicast(client) &&
		policy_check(policy, client, IPPROTO_TCP) == POLICY_PASS &&
		!policy_is_directed_broadcast(policy, client) && !is_network_itself(policy, client);

	/* Of link-local addresses IPv6's do not pass. */
	if (is_one_machine && !is_link_local4(client) && !is_ours(policy, client) &&
		!is_guest(policy, client, guest))
		return *client;
	return policy_gateway(policy, guest->family);
}

const struct ip_addr *policy_source(const struct policy *policy, uint8_t family)
{
	if (family == AF_INET)
		return policy->has_outbound ? &policy->outbound : NULL;
	return policy->has_outbound6 ? &policy->outbound6 : NULL;
}

const struct ip_addr *policy_source_to(const struct policy *policy, const struct ip_addr *server)
{
	bool is_far = policy_check(policy, server, IPPROTO_UDP) == POLICY_PASS;

	return is_far ? policy_source(policy, server->family) : NULL;
}

struct ip_addr policy_gateway(const struct policy *policy, uint8_t family)
{
	return family == AF_INET ? ip_addr_of_v4(policy->gateway)
				 : ip_addr_of_v6(&policy->gateway6);
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

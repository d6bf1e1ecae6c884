/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <glib.h>

#include "base/util.h"
#include "flow/policy.h"

static struct ip_addr addr_of(const char *address)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, address, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, address, &v6), ==, 1);
	return ip_addr_of_v6(&v6);
}

static enum policy_verdict ask(const char *address, uint8_t proto, bool host_loopback)
{
	struct policy policy = {.ipv6 = true, .host_loopback = host_loopback};
	struct ip_addr addr = addr_of(address);

	return policy_check(&policy, &addr, proto);
}

/* Whatever host_loopback says. */
static void expect(const char *address, uint8_t proto, enum policy_verdict verdict)
{
	g_test_message("%s, protocol %u", address, proto);
	g_assert_cmpint(ask(address, proto, false), ==, verdict);
	g_assert_cmpint(ask(address, proto, true), ==, verdict);
}

static void test_passed(void)
{
	static const char *const passed[] = {"1.0.0.0", "10.0.2.2", "10.0.2.3", "126.255.255.255",
		"128.0.0.0", "169.254.169.254", "192.168.0.1", "223.255.255.255", "224.0.0.1",
		"239.255.255.255", "255.255.255.255", "fd00::2", "fd00::3", "2000::", "2001:db8::1",
		"64:ff9b::", "64:ff9b::7f00:1", "::1:0:0:0", "::1:0:0",
		"0:0:0:0:0:fffe::", "::ffff:0:0:0", "fe7f:ffff::", "fec0::", "ff02::1", "100::"};

	for (size_t i = 0; i < ARRAY_SIZE(passed); i++) {
		expect(passed[i], IPPROTO_TCP, POLICY_PASS);
		expect(passed[i], IPPROTO_UDP, POLICY_PASS);
	}
}

static void test_refused(void)
{
	static const char *const refused[] = {"0.0.0.0", "0.0.0.1", "0.255.255.255", "127.0.0.0",
		"127.0.0.1", "127.0.0.53", "127.255.255.255", "240.0.0.0", "250.1.2.3",
		"255.255.255.254", "::", "::1", "::2", "::7f00:1", "::ffff:ffff", "::ffff:0.0.0.0",
		"::ffff:127.0.0.1", "::ffff:1.2.3.4", "::ffff:255.255.255.255"};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		expect(refused[i], IPPROTO_TCP, POLICY_UNREACHABLE);
		expect(refused[i], IPPROTO_UDP, POLICY_UNREACHABLE);
		expect(refused[i], IPPROTO_ICMPV6, POLICY_UNREACHABLE);
	}
}

static void test_link_local(void)
{
	static const char *const link_local[] = {"fe80::", "fe80::1", "fe80::2", "fe90::1",
		"febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"};

	for (size_t i = 0; i < ARRAY_SIZE(link_local); i++) {
		expect(link_local[i], IPPROTO_TCP, POLICY_UNREACHABLE);
		expect(link_local[i], IPPROTO_UDP, POLICY_UNREACHABLE);
		expect(link_local[i], IPPROTO_ICMPV6, POLICY_PASS);
	}
}

/* How the packet carried the address decides, not the address. */
static void test_family(void)
{
	struct policy policy = {0};
	struct in_addr v4 = {htonl(0x01020304)};
	struct ip_addr addr = ip_addr_of_v4(v4);

	g_assert_cmpint(policy_check(&policy, &addr, IPPROTO_TCP), ==, POLICY_PASS);
	addr.family = AF_INET6;
	g_assert_cmpint(policy_check(&policy, &addr, IPPROTO_TCP), ==, POLICY_UNREACHABLE);
}

static void test_who_is_meant(void)
{
	static const struct {
		const char *address;
		bool gateway, dhcp_server, directed_broadcast;
	} rows[] = {
		{"10.1.2.2", true, true, false},
		{"10.1.2.3", false, false, false},
		{"10.1.3.255", false, false, true},
		{"10.1.2.255", false, false, false},
		{"255.255.255.255", false, true, false},
		{"224.0.0.1", false, false, false},
		{"fd00::2", true, true, false},
		{"fd00::3", false, false, false},
		{"ff02::1:2", false, true, false},
		{"ff05::1:3", false, false, false},
		{"::ffff:10.1.2.2", false, false, false},
		{"::ffff:10.1.3.255", false, false, false},
	};
	const struct policy policy = {
		.network.s_addr = htonl(0x0a010200),
		.netmask.s_addr = htonl(0xfffffe00),
		.gateway.s_addr = htonl(0x0a010202),
		.dns.s_addr = htonl(0x0a010203),
		.gateway6.s6_addr = {0xfd, [15] = 2},
		.dns6.s6_addr = {0xfd, [15] = 3},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_addr addr = addr_of(rows[i].address);

		g_test_message("%s", rows[i].address);
		g_assert_cmpint(policy_is_gateway(&policy, &addr), ==, rows[i].gateway);
		g_assert_cmpint(policy_is_dhcp_server(&policy, &addr), ==, rows[i].dhcp_server);
		g_assert_cmpint(policy_is_directed_broadcast(&policy, &addr), ==,
			rows[i].directed_broadcast);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/policy/passed", test_passed);
	g_test_add_func("/policy/refused", test_refused);
	g_test_add_func("/policy/link-local", test_link_local);
	g_test_add_func("/policy/family", test_family);
	g_test_add_func("/policy/who-is-meant", test_who_is_meant);
	return g_test_run();
}

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

static struct policy network(void)
{
	return (struct policy){
		.network.s_addr = htonl(0x0a010200),
		.netmask.s_addr = htonl(0xfffffe00),
		.gateway.s_addr = htonl(0x0a010202),
		.dns.s_addr = htonl(0x0a010203),
		.guest.s_addr = htonl(0x0a010264),
		.gateway6.s6_addr = {0xfd, [15] = 2},
		.dns6.s6_addr = {0xfd, [15] = 3},
		.ipv6 = true,
		.host_loopback = true,
		.dns_enabled = true,
	};
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
	const struct policy policy = network();

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_addr addr = addr_of(rows[i].address);

		g_test_message("%s", rows[i].address);
		g_assert_cmpint(policy_is_gateway(&policy, &addr), ==, rows[i].gateway);
		g_assert_cmpint(policy_is_dhcp_server(&policy, &addr), ==, rows[i].dhcp_server);
		g_assert_cmpint(policy_is_directed_broadcast(&policy, &addr), ==,
			rows[i].directed_broadcast);
	}
}

/* ---- where connections and datagrams go ---- */

static uint8_t map_proto;

struct map_row {
	const char *address;
	uint16_t port;
	const char *expected; /* NULL: unreachable; "dns": the nameserver */
};

static void expect_map(const struct policy *policy, const struct map_row *row)
{
	struct ip_addr dst = addr_of(row->address), got = {0}, expected;
	enum policy_verdict verdict = policy_map(policy, &dst, row->port, map_proto, &got);

	g_test_message("%s port %u, protocol %u", row->address, row->port, map_proto);
	if (!row->expected) {
		g_assert_cmpint(verdict, ==, POLICY_UNREACHABLE);
		return;
	}
	if (!g_strcmp0(row->expected, "dns")) {
		g_assert_cmpint(verdict, ==, POLICY_NAMESERVER);
		return;
	}
	g_assert_cmpint(verdict, ==, POLICY_PASS);
	expected = addr_of(row->expected);
	g_assert_cmpint(got.family, ==, expected.family);
	g_assert_true(IN6_ARE_ADDR_EQUAL(&got.in6, &expected.in6));
}

/* Themselves, whatever the options say. */
static const struct map_row outside[] = {
	{"192.0.2.1", 80, "192.0.2.1"},
	{"192.0.2.1", 53, "192.0.2.1"},
	{"10.1.2.0", 80, "10.1.2.0"},
	{"10.1.2.1", 80, "10.1.2.1"},
	{"10.1.2.4", 80, "10.1.2.4"},
	{"10.1.2.100", 80, "10.1.2.100"},
	{"10.0.2.2", 80, "10.0.2.2"}, /* of another network */
	{"10.0.2.3", 53, "10.0.2.3"},
	{"169.254.169.254", 80, "169.254.169.254"},
	{"10.1.2.255", 80, "10.1.2.255"}, /* the network is 10.1.2.0/23 */
	{"192.168.0.255", 80, "192.168.0.255"},
	{"224.0.0.1", 80, "224.0.0.1"},
	{"239.255.255.250", 1900, "239.255.255.250"},
	{"ff02::fb", 5353, "ff02::fb"},
	{"2001:db8::1", 80, "2001:db8::1"},
	{"2001:db8::3", 53, "2001:db8::3"},
	{"fd00:0:0:1::2", 80, "fd00:0:0:1::2"}, /* behind the prefix's end */
	{"fd00:0:0:1::3", 53, "fd00:0:0:1::3"},
	{"fcff:ffff:ffff:ffff::2", 80, "fcff:ffff:ffff:ffff::2"},
	{"fd01::2", 80, "fd01::2"},
	{"64:ff9b::7f00:1", 80, "64:ff9b::7f00:1"},
	{"127.0.0.1", 80, NULL},
	{"0.0.0.0", 80, NULL},
	{"240.0.0.1", 80, NULL},
	{"::1", 80, NULL},
	{"::", 80, NULL},
	{"::ffff:10.1.2.2", 80, NULL},
	{"::ffff:10.1.2.3", 53, NULL},
	{"::ffff:192.0.2.1", 80, NULL},
	{"fe80::2", 80, NULL},
	{"fe80::3", 53, NULL},
};

/* The host's loopback: N+2, and all of the IPv6 prefix but fd00::3. */
static const struct map_row host4[] = {
	{"10.1.2.2", 80, "127.0.0.1"}, {"10.1.2.2", 53, "127.0.0.1"}};
static const struct map_row host6[] = {{"fd00::2", 80, "::1"}, {"fd00::2", 53, "::1"},
	{"fd00::", 80, "::1"}, {"fd00::1", 80, "::1"}, {"fd00::64", 80, "::1"},
	{"fd00::3:3", 53, "::1"}, {"fd00::ffff:ffff:ffff:ffff", 80, "::1"}};

/* Broadcast is the host's loopback for UDP; connect(2) refuses it. */
static const struct map_row broadcast_tcp[] = {
	{"255.255.255.255", 80, "255.255.255.255"}, {"10.1.3.255", 80, "10.1.3.255"}};
static const struct map_row broadcast_udp[] = {
	{"255.255.255.255", 80, "127.0.0.1"}, {"10.1.3.255", 80, "127.0.0.1"}};

/* N+3 and fd00::3: the nameserver, and nothing else. */
static const struct map_row dns[] = {{"10.1.2.3", 53, "dns"}, {"10.1.2.3", 80, NULL},
	{"10.1.2.3", 853, NULL}, {"10.1.2.3", 0, NULL}, {"fd00::3", 53, "dns"},
	{"fd00::3", 80, NULL}};

/* The same for TCP and UDP. */
#define EXPECT_MAP(policy, rows) expect_rows(policy, rows, ARRAY_SIZE(rows))

static void expect_rows(const struct policy *policy, const struct map_row *rows, size_t n_rows)
{
	for (size_t i = 0; i < n_rows * 2; i++) {
		map_proto = i % 2 ? IPPROTO_UDP : IPPROTO_TCP;
		expect_map(policy, &rows[i / 2]);
	}
}

static void expect_blocked(const struct policy *policy, const struct map_row *rows, size_t n_rows)
{
	for (size_t i = 0; i < n_rows; i++) {
		const struct map_row row = {rows[i].address, rows[i].port, NULL};

		expect_rows(policy, &row, 1);
	}
}

static void test_map(void)
{
	const struct policy policy = network();

	EXPECT_MAP(&policy, outside);
	EXPECT_MAP(&policy, host4);
	EXPECT_MAP(&policy, host6);
	EXPECT_MAP(&policy, dns);
}

/* The nameserver is reached all the same, though it is on the host's loopback as a rule. */
static void test_map_no_host_loopback(void)
{
	struct policy policy = network();

	policy.host_loopback = false;
	EXPECT_MAP(&policy, outside);
	expect_blocked(&policy, host4, ARRAY_SIZE(host4));
	expect_blocked(&policy, host6, ARRAY_SIZE(host6));
	EXPECT_MAP(&policy, dns);
}

/* --disable-dns: N+3 is an address like any other of its network, fd00::3 like any other of its
 * prefix. */
static void test_map_no_dns(void)
{
	static const struct map_row plain[] = {{"10.1.2.3", 53, "10.1.2.3"},
		{"10.1.2.3", 80, "10.1.2.3"}, {"fd00::3", 53, "::1"}, {"fd00::3", 80, "::1"}};
	struct policy policy = network();

	policy.dns_enabled = false;
	EXPECT_MAP(&policy, outside);
	EXPECT_MAP(&policy, host4);
	EXPECT_MAP(&policy, host6);
	EXPECT_MAP(&policy, plain);
	policy.host_loopback = false;
	expect_blocked(&policy, host4, ARRAY_SIZE(host4));
	expect_blocked(&policy, host6, ARRAY_SIZE(host6));
	expect_blocked(&policy, plain + 2, 2);
	expect_rows(&policy, plain, 2);
}

static void test_map_broadcast(void)
{
	struct policy policy = network();

	for (size_t i = 0; i < ARRAY_SIZE(broadcast_tcp); i++) {
		const struct map_row blocked = {broadcast_udp[i].address, 80, NULL};

		policy.host_loopback = true;
		map_proto = IPPROTO_TCP;
		expect_map(&policy, &broadcast_tcp[i]);
		map_proto = IPPROTO_ICMP;
		expect_map(&policy, &broadcast_tcp[i]);
		map_proto = IPPROTO_UDP;
		expect_map(&policy, &broadcast_udp[i]);
		policy.host_loopback = false;
		expect_map(&policy, &blocked);
	}
}

/* policy_check() lets these through for the sake of neighbour discovery. */
static void test_map_link_local(void)
{
	static const struct map_row row = {"fe80::2", 0, NULL};
	const struct policy policy = network();

	map_proto = IPPROTO_ICMPV6;
	expect_map(&policy, &row);
}

/* ---- whom the container sees ---- */

static void expect_unmap(const struct policy *policy, const char *address, const char *expected)
{
	static const struct ip_addr untouched;
	struct ip_addr src = addr_of(address), got = {0}, wanted = untouched;
	enum policy_verdict verdict = policy_unmap(policy, &src, &got);

	g_test_message("%s", address);
	g_assert_cmpint(verdict, ==, expected ? POLICY_PASS : POLICY_UNREACHABLE);
	if (expected)
		wanted = addr_of(expected);
	g_assert_cmpint(got.family, ==, wanted.family);
	g_assert_true(IN6_ARE_ADDR_EQUAL(&got.in6, &wanted.in6));
}

static void test_unmap(void)
{
	static const char *const themselves[] = {"192.0.2.1", "1.0.0.0", "126.255.255.255",
		"128.0.0.1", "223.255.255.255", "10.1.2.50", "169.254.1.1"};
	static const char *const themselves6[] = {
		"2001:db8::1", "fd00:0:0:1::2", "fec0::1", "64:ff9b::1", "fe7f::1"};
	static const char *const loopback4[] = {"127.0.0.1", "127.0.0.53", "127.255.255.255"};
	/* Ours: another machine of the host's world that has the same address is not us. */
	static const char *const nobody[] = {"10.1.2.2", "10.1.2.3", "10.1.3.255", "fd00::2",
		"fd00::3", "fd00::7", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.2.3", "240.0.0.1",
		"255.255.255.255", "::", "::2", "::127.0.0.1", "::ffff:127.0.0.1",
		"::ffff:192.0.2.1", "fe80::1", "febf::1", "ff02::1", "ff0e::1"};

	for (int loopback = 0; loopback < 2; loopback++) {
		struct policy policy = network();

		policy.host_loopback = loopback;
		for (int ipv6 = 0; ipv6 < 2; ipv6++) {
			policy.ipv6 = ipv6;
			for (size_t i = 0; i < ARRAY_SIZE(themselves); i++)
				expect_unmap(&policy, themselves[i], themselves[i]);
			for (size_t i = 0; i < ARRAY_SIZE(themselves6); i++)
				expect_unmap(&policy, themselves6[i], ipv6 ? themselves6[i] : NULL);
			for (size_t i = 0; i < ARRAY_SIZE(loopback4); i++)
				expect_unmap(&policy, loopback4[i], loopback ? "10.1.2.2" : NULL);
			expect_unmap(&policy, "::1", loopback && ipv6 ? "fd00::2" : NULL);
			for (size_t i = 0; i < ARRAY_SIZE(nobody); i++)
				expect_unmap(&policy, nobody[i], NULL);
			policy.dns_enabled = false;
			expect_unmap(&policy, "10.1.2.3", "10.1.2.3");
			policy.dns_enabled = true;
		}
	}
}

static void test_on_link(void)
{
	static const char *const on_link[] = {"10.1.2.0", "10.1.2.2", "10.1.2.3", "10.1.3.254",
		"10.1.3.255", "224.0.0.1", "239.255.255.255", "255.255.255.255",
		"fd00::", "fd00::2", "fd00::ffff:ffff:ffff:ffff", "fe80::1", "febf::1", "ff02::1",
		"ff0e::1"};
	static const char *const behind[] = {"10.1.1.255", "10.1.4.0", "192.0.2.1",
		"223.255.255.255", "169.254.169.254", "fd00:0:0:1::2", "fcff:ffff:ffff:ffff::2",
		"2001:db8::1", "fec0::1", "::ffff:10.1.2.2"};
	const struct policy policy = network();

	for (size_t i = 0; i < ARRAY_SIZE(on_link); i++) {
		struct ip_addr addr = addr_of(on_link[i]);

		g_test_message("%s", on_link[i]);
		g_assert_true(policy_on_link(&policy, &addr));
	}
	for (size_t i = 0; i < ARRAY_SIZE(behind); i++) {
		struct ip_addr addr = addr_of(behind[i]);

		g_test_message("%s", behind[i]);
		g_assert_false(policy_on_link(&policy, &addr));
	}
}

/* What the resolver's file may name is not for the container to dial. */
static void test_map_verdict_has_no_address(void)
{
	const struct policy policy = network();
	struct ip_addr dst = addr_of("10.1.2.3"), got = addr_of("192.0.2.77");

	g_assert_cmpint(policy_map(&policy, &dst, 53, IPPROTO_TCP, &got), ==, POLICY_NAMESERVER);
	g_assert_cmphex(ntohl(ip_addr_v4(&got).s_addr), ==, 0xc000024d);
	g_assert_cmpint(policy_map(&policy, &dst, 54, IPPROTO_TCP, &got), ==, POLICY_UNREACHABLE);
	g_assert_cmphex(ntohl(ip_addr_v4(&got).s_addr), ==, 0xc000024d);
}

static void test_source(void)
{
	struct policy policy = network();

	g_assert_null(policy_source(&policy, AF_INET));
	g_assert_null(policy_source(&policy, AF_INET6));
	policy.outbound = addr_of("192.0.2.10");
	policy.outbound6 = addr_of("2001:db8::10");
	g_assert_null(policy_source(&policy, AF_INET));
	policy.has_outbound = true;
	g_assert_true(policy_source(&policy, AF_INET) == &policy.outbound);
	g_assert_null(policy_source(&policy, AF_INET6));
	policy.has_outbound = false;
	policy.has_outbound6 = true;
	g_assert_null(policy_source(&policy, AF_INET));
	g_assert_true(policy_source(&policy, AF_INET6) == &policy.outbound6);
}

/* ---- as whom clients of published ports are shown ---- */

static const struct {
	const char *client, *guest, *expected;
} names[] = {
	{"192.0.2.1", "10.1.2.100", "192.0.2.1"},
	{"192.168.1.1", "10.1.2.100", "192.168.1.1"},
	{"192.0.2.1", "172.17.0.2", "192.0.2.1"},
	{"10.1.2.1", "10.1.2.100", "10.1.2.1"}, /* seems to be on the link */
	{"10.1.3.77", "10.1.2.100", "10.1.3.77"},
	{"10.1.4.255", "10.1.2.100", "10.1.4.255"},
	{"127.0.0.1", "10.1.2.100", "10.1.2.2"},
	{"127.255.255.255", "10.1.2.100", "10.1.2.2"},
	{"0.0.0.0", "10.1.2.100", "10.1.2.2"},
	{"0.1.2.3", "10.1.2.100", "10.1.2.2"},
	{"169.254.1.1", "10.1.2.100", "10.1.2.2"},
	{"169.253.1.1", "10.1.2.100", "169.253.1.1"},
	{"10.1.2.100", "10.1.2.100", "10.1.2.2"}, /* the guest's own */
	{"10.1.2.100", "172.17.0.2", "10.1.2.2"},
	{"172.17.0.2", "172.17.0.2", "10.1.2.2"},
	{"10.1.2.2", "10.1.2.100", "10.1.2.2"},
	{"10.1.2.3", "10.1.2.100", "10.1.2.2"},
	{"10.1.2.0", "10.1.2.100", "10.1.2.2"}, /* of no single machine */
	{"10.1.3.255", "10.1.2.100", "10.1.2.2"},
	{"224.0.0.1", "10.1.2.100", "10.1.2.2"},
	{"240.0.0.1", "10.1.2.100", "10.1.2.2"},
	{"255.255.255.255", "10.1.2.100", "10.1.2.2"},
	{"2001:db8::1", "10.1.2.100", "10.1.2.2"}, /* the other family */
	{"192.0.2.1", "fd00::64", "fd00::2"},
	{"2001:db8::1", "fd00::64", "2001:db8::1"},
	{"fd00::77", "fd00::64", "fd00::77"},
	{"fd01::2", "fd00::64", "fd01::2"},
	{"::1", "fd00::64", "fd00::2"},
	{"::", "fd00::64", "fd00::2"},
	{"::ffff:192.0.2.1", "fd00::64", "fd00::2"},
	{"::192.0.2.1", "fd00::64", "fd00::2"},
	{"fe80::1", "fd00::64", "fd00::2"},
	{"fd00::2", "fd00::64", "fd00::2"},
	{"fd00::3", "fd00::64", "fd00::2"},
	{"fd00::64", "fd00::64", "fd00::2"},
	{"ff02::1", "fd00::64", "fd00::2"},
};

static void test_client_name(void)
{
	struct policy policy = network();

	for (size_t i = 0; i < 2 * ARRAY_SIZE(names); i++) {
		const size_t row = i / 2;
		const struct ip_addr client = addr_of(names[row].client),
				     guest = addr_of(names[row].guest),
				     expected = addr_of(names[row].expected);
		struct ip_addr got;

		g_test_message("%s to %s", names[row].client, names[row].guest);
		policy.host_loopback = i % 2;
		got = policy_client_name(&policy, &client, &guest);
		g_assert_true(ip_addr_equal(&got, &expected));
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
	g_test_add_func("/policy/map", test_map);
	g_test_add_func("/policy/map-no-host-loopback", test_map_no_host_loopback);
	g_test_add_func("/policy/map-no-dns", test_map_no_dns);
	g_test_add_func("/policy/map-verdict-has-no-address", test_map_verdict_has_no_address);
	g_test_add_func("/policy/map-broadcast", test_map_broadcast);
	g_test_add_func("/policy/map-link-local", test_map_link_local);
	g_test_add_func("/policy/unmap", test_unmap);
	g_test_add_func("/policy/on-link", test_on_link);
	g_test_add_func("/policy/source", test_source);
	g_test_add_func("/policy/client-name", test_client_name);
	return g_test_run();
}

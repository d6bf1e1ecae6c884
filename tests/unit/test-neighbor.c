/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/neighbor.h"

#include <arpa/inet.h>
#include <glib.h>
#include <stdio.h>

static struct neighbor_table table;
static struct policy policy;

static struct ip_addr address(const char *text)
{
	struct ip_addr addr = {.family = AF_INET6};
	struct in_addr v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return ip_addr_of_v4(v4);
	g_assert_cmpint(inet_pton(AF_INET6, text, &addr.in6), ==, 1);
	return addr;
}

static void set_up(void)
{
	const struct siphash_key key = {{1, 2}};

	policy.network.s_addr = htonl(0x0a000200);
	policy.netmask.s_addr = htonl(0xffffff00);
	policy.gateway.s_addr = htonl(0x0a000202);
	policy.dns.s_addr = htonl(0x0a000203);
	policy.gateway6 = address("fd00::2").in6;
	policy.dns6 = address("fd00::3").in6;
	neighbor_table_init(&table, &policy, &key);
}

static void learn(const char *text, uint8_t mac_end, int64_t now_ns)
{
	struct ip_addr addr = address(text);
	struct eth_addr mac = {{2, 0, 0, 0, 0, mac_end}};

	neighbor_learn(&table, &addr, &mac, now_ns);
}

/* The last byte of its MAC; -1: not known. */
static int lookup(const char *text)
{
	struct ip_addr addr = address(text);
	const struct neighbor *neighbor = neighbor_find(&table, &addr);

	return neighbor ? neighbor->mac.b[5] : -1;
}

static void test_learn(void)
{
	struct ip_addr addr = address("10.0.2.100");

	set_up();
	g_assert_cmpint(lookup("10.0.2.100"), ==, -1);
	learn("10.0.2.100", 1, 5);
	learn("fd00::64", 2, 6);
	learn("fe80::64", 3, 7);
	learn("172.17.0.2", 4, 8);
	g_assert_cmpint(lookup("10.0.2.100"), ==, 1);
	g_assert_cmpint(lookup("fd00::64"), ==, 2);
	g_assert_cmpint(lookup("fe80::64"), ==, 3);
	g_assert_cmpint(lookup("172.17.0.2"), ==, 4);
	g_assert_cmpint(lookup("10.0.2.101"), ==, -1);
	learn("10.0.2.100", 9, 10);
	g_assert_cmpint(lookup("10.0.2.100"), ==, 9);
	g_assert_cmpint(neighbor_find(&table, &addr)->heard_ns, ==, 10);
	g_assert_cmpuint(table.n_neighbors, ==, 4);
	/* An IPv6 address that looks like it is another one. */
	addr.family = AF_INET6;
	g_assert_null(neighbor_find(&table, &addr));
}

static void test_not_believed(void)
{
	static const char *addresses[] = {"10.0.2.2", "10.0.2.3", "fd00::2", "fd00::3", "fe80::2",
		"fe80::3", "0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1",
		"255.255.255.255", "10.0.2.255", "::", "::1", "::1.2.3.4", "ff02::1",
		"::ffff:10.0.2.100"};
	static const struct eth_addr macs[] = {
		{{0}}, {{3, 0, 0, 0, 0, 1}}, {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}};
	struct ip_addr addr = address("10.0.2.100");

	set_up();
	for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
		learn(addresses[i], 1, 1);
		g_assert_cmpuint(table.n_neighbors, ==, 0);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(macs); i++) {
		neighbor_learn(&table, &addr, &macs[i], 1);
		g_assert_cmpuint(table.n_neighbors, ==, 0);
	}
	learn("fe81::2", 1, 1);
	learn("fd00::1:2", 1, 1);
	learn("10.0.3.2", 1, 1);
	g_assert_cmpuint(table.n_neighbors, ==, 3);
}

/* The one that was used last stays, whoever else comes. */
static void test_eviction(void)
{
	char text[32];

	set_up();
	for (int i = 0; i < 10 * NEIGHBORS_MAX; i++) {
		snprintf(text, sizeof(text), "10.7.%d.%d", i / 256, i % 256);
		learn(text, (uint8_t)i, i);
		g_assert_cmpint(lookup("10.7.0.0"), ==, 0);
	}
	g_assert_cmpuint(table.n_neighbors, ==, NEIGHBORS_MAX);
	for (int i = 1; i < 10 * NEIGHBORS_MAX; i++) {
		snprintf(text, sizeof(text), "10.7.%d.%d", i / 256, i % 256);
		g_assert_cmpint(lookup(text), ==, i > 9 * NEIGHBORS_MAX ? (uint8_t)i : -1);
	}
	/* Of those, what was heard of stays as well as what was asked for. */
	learn("10.7.9.1", 77, 1);
	for (int i = 0; i < NEIGHBORS_MAX - 1; i++) {
		snprintf(text, sizeof(text), "10.8.0.%d", i);
		learn(text, 1, 1);
	}
	g_assert_cmpint(lookup("10.7.9.1"), ==, 77);
	g_assert_cmpint(lookup("10.7.9.2"), ==, -1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/neighbor/learn", test_learn);
	g_test_add_func("/neighbor/not-believed", test_not_believed);
	g_test_add_func("/neighbor/eviction", test_eviction);
	return g_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <glib.h>

#include "base/util.h"
#include "setup/cidr.h"

static void assert_address(struct in_addr address, const char *expected)
{
	char text[INET_ADDRSTRLEN];

	g_assert_cmpstr(inet_ntop(AF_INET, &address, text, sizeof(text)), ==, expected);
}

static const struct {
	const char *text;
	enum cidr_outcome outcome;
	const char *network, *netmask;
} networks[] = {
	{"10.0.2.0/24", CIDR_OK, "10.0.2.0", "255.255.255.0"},
	{"10.0.135.128/25", CIDR_OK, "10.0.135.128", "255.255.255.128"},
	{"192.168.0.0/16", CIDR_OK, "192.168.0.0", "255.255.0.0"},
	{"172.16.0.0/12", CIDR_OK, "172.16.0.0", "255.240.0.0"},
	{"128.0.0.0/1", CIDR_OK, "128.0.0.0", "128.0.0.0"},
	{"10.0.0.0/08", CIDR_OK, "10.0.0.0", "255.0.0.0"},
	{"255.255.255.128/25", CIDR_OK, "255.255.255.128", "255.255.255.128"},
	{"", CIDR_SYNTAX, NULL, NULL},
	{"/", CIDR_SYNTAX, NULL, NULL},
	{"24", CIDR_SYNTAX, NULL, NULL},
	{"foo", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0/", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0/x", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0/024", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0/24 ", CIDR_SYNTAX, NULL, NULL},
	{" 10.0.2.0/24", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2/24", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0.0/24", CIDR_SYNTAX, NULL, NULL},
	{"10..2.0/24", CIDR_SYNTAX, NULL, NULL},
	{"-10.0.2.0/24", CIDR_SYNTAX, NULL, NULL},
	{"1000.0.2.0/24", CIDR_SYNTAX, NULL, NULL},
	{"10.0.2.0/-1", CIDR_SYNTAX, NULL, NULL},
	{"fd00::/64", CIDR_SYNTAX, NULL, NULL},
	{"256.0.2.0/24", CIDR_ADDRESS, NULL, NULL},
	{"999.999.999.999/99", CIDR_ADDRESS, NULL, NULL},
	{"10.0.2.0/26", CIDR_PREFIX, NULL, NULL},
	{"10.0.2.0/0", CIDR_PREFIX, NULL, NULL},
	{"10.0.2.0/00", CIDR_PREFIX, NULL, NULL},
	{"10.0.2.0/32", CIDR_PREFIX, NULL, NULL},
	{"10.0.2.0/99", CIDR_PREFIX, NULL, NULL},
	{"10.0.2.100/26", CIDR_PREFIX, NULL, NULL},
	{"10.0.2.100/24", CIDR_HOST_BITS, NULL, NULL},
	{"10.0.2.1/25", CIDR_HOST_BITS, NULL, NULL},
	{"10.0.2.0/22", CIDR_HOST_BITS, NULL, NULL},
	{"1.0.0.0/1", CIDR_HOST_BITS, NULL, NULL},
};

static void test_parse(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		struct in_addr network = {0xa5a5a5a5}, netmask = {0x5a5a5a5a};

		g_test_message("%s", networks[i].text);
		g_assert_cmpint(
			cidr_parse(networks[i].text, &network, &netmask), ==, networks[i].outcome);
		if (networks[i].outcome == CIDR_OK) {
			assert_address(network, networks[i].network);
			assert_address(netmask, networks[i].netmask);
		} else {
			g_assert_cmphex(network.s_addr, ==, 0xa5a5a5a5);
			g_assert_cmphex(netmask.s_addr, ==, 0x5a5a5a5a);
		}
	}
}

static void test_host(void)
{
	struct in_addr network = {htonl(0x0a0000ff)};

	assert_address(cidr_host(network, 0), "10.0.0.255");
	assert_address(cidr_host(network, 1), "10.0.1.0");
	assert_address(cidr_host(network, 100), "10.0.1.99");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/cidr/parse", test_parse);
	g_test_add_func("/cidr/host", test_host);
	return g_test_run();
}

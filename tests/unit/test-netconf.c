/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include "base/util.h"
#include "setup/netconf.h"
#include "setup/tapdev.h"
#include "tests/support/container.h"

static struct netconf config_of(const char *tap_name)
{
	return (struct netconf){
		.tap_name = tap_name,
		.mtu = 65520,
		.has_mac = true,
		.mac = {{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}},
		.address.s_addr = inet_addr("10.0.2.100"),
		.netmask.s_addr = inet_addr("255.255.255.0"),
		.gateway.s_addr = inet_addr("10.0.2.2"),
	};
}

static void assert_message(const struct nlmsghdr *message, const uint8_t *expected, size_t len)
{
	g_assert_cmpmem(message, message->nlmsg_len, expected, len);
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* rtnetlink(7): nlmsghdr, then ifinfomsg, ifaddrmsg or rtmsg, then attributes; flags 0x05 are
 * REQUEST and ACK, 0x0505 also CREATE and REPLACE, 0x0605 CREATE and EXCL. */
static void test_bytes(void)
{
	static const uint8_t up[] = {32, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* header */
		0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0}; /* index, flags, change */
	static const uint8_t mtu[] = {40, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* header */
		0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* index, no flag */
		8, 0, 4, 0, 0xf0, 0xff, 0, 0};                  /* IFLA_MTU */
	static const uint8_t queue[] = {40, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* index, no flag */
		8, 0, 13, 0, 0, 0x10, 0, 0};           /* IFLA_TXQLEN */
	static const uint8_t mac[] = {44, 0, 0, 0, 16, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, /* header */
		0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,         /* index, no flag */
		10, 0, 1, 0, 0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0, 0}; /* IFLA_ADDRESS */
	static const uint8_t address[] = {48, 0, 0, 0, 20, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 2, 24,
		0, 0, 7, 0, 0, 0,            /* AF_INET, prefix, flags, scope, index */
		8, 0, 2, 0, 10, 0, 2, 100,   /* IFA_LOCAL */
		8, 0, 1, 0, 10, 0, 2, 100,   /* IFA_ADDRESS */
		8, 0, 4, 0, 10, 0, 2, 0xff}; /* IFA_BROADCAST */
	static const uint8_t route[] = {44, 0, 0, 0, 24, 0, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0,
		0, 254, 3, 0, 1, 0, 0, 0, 0, /* AF_INET, main, boot, universe, unicast */
		8, 0, 5, 0, 10, 0, 2, 2,     /* RTA_GATEWAY */
		8, 0, 4, 0, 7, 0, 0, 0};     /* RTA_OIF */
	_Alignas(struct nlmsghdr) char buf[NETCONF_BUF_LEN];
	struct netconf config = config_of("tap0");

	assert_message(netconf_build_up(buf, 7), up, sizeof(up));
	assert_message(netconf_build_mtu(buf, 7, config.mtu), mtu, sizeof(mtu));
	assert_message(netconf_build_queue_len(buf, 7, 4096), queue, sizeof(queue));
	assert_message(netconf_build_mac(buf, 7, &config.mac), mac, sizeof(mac));
	assert_message(netconf_build_address(buf, 7, &config), address, sizeof(address));
	assert_message(netconf_build_route(buf, 7, &config), route, sizeof(route));
}
#else
static void test_bytes(void)
{
	g_test_skip("the expected bytes are little-endian");
}
#endif

static void test_prefix_and_broadcast(void)
{
	static const struct {
		const char *netmask;
		uint8_t prefix;
		const char *broadcast;
	} cases[] = {
		{"255.255.255.128", 25, "10.0.2.127"},
		{"255.255.0.0", 16, "10.0.255.255"},
		{"128.0.0.0", 1, "127.255.255.255"},
	};
	_Alignas(struct nlmsghdr) char buf[NETCONF_BUF_LEN];
	struct netconf config = config_of("tap0");

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct nlmsghdr *message;
		const uint8_t *bytes;
		in_addr_t broadcast = inet_addr(cases[i].broadcast);

		config.netmask.s_addr = inet_addr(cases[i].netmask);
		message = netconf_build_address(buf, 7, &config);
		bytes = (const void *)message;
		g_assert_cmpint(bytes[17], ==, cases[i].prefix);
		g_assert_cmpmem(bytes + message->nlmsg_len - 4, 4, &broadcast, 4);
	}
}

static struct ifreq ask(const char *name, unsigned long what)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	g_assert_cmpint(ioctl(sock, what, &request), ==, 0);
	close(sock);
	return request;
}

static void assert_inet(const char *name, unsigned long what, const char *expected)
{
	struct ifreq request = ask(name, what);
	struct sockaddr_in *address = (struct sockaddr_in *)(void *)&request.ifr_addr;

	g_assert_cmpstr(inet_ntoa(address->sin_addr), ==, expected);
}

/* The one default route there is: a row of /proc/net/route without destination, and no other (the
 * addresses are in hex as they are stored). */
static void assert_default_route(const char *name, const char *gateway)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) rows = NULL;
	int n_defaults = 0;

	g_assert_true(g_file_get_contents("/proc/net/route", &text, NULL, NULL));
	rows = g_strsplit(text, "\n", -1);
	for (char **row = rows; *row; row++) {
		char row_name[IFNAMSIZ];
		unsigned int destination, row_gateway;

		if (sscanf(*row, "%15s %x %x", row_name, &destination, &row_gateway) != 3 ||
			destination != 0)
			continue;
		n_defaults++;
		g_assert_cmpstr(row_name, ==, name);
		g_assert_cmphex(row_gateway, ==, inet_addr(gateway));
	}
	g_assert_cmpint(n_defaults, ==, 1);
}

static void assert_applied(const struct netconf *config)
{
	struct ifreq request = ask("lo", SIOCGIFFLAGS);

	g_assert_true(request.ifr_flags & IFF_UP);
	request = ask(config->tap_name, SIOCGIFFLAGS);
	g_assert_true(request.ifr_flags & IFF_UP);
	g_assert_true(request.ifr_flags & IFF_MULTICAST);
	request = ask(config->tap_name, SIOCGIFMTU);
	g_assert_cmpint(request.ifr_mtu, ==, config->mtu);
	request = ask(config->tap_name, SIOCGIFHWADDR);
	g_assert_cmpmem(request.ifr_hwaddr.sa_data, 6, &config->mac, 6);
	assert_inet(config->tap_name, SIOCGIFADDR, "10.0.2.100");
	assert_inet(config->tap_name, SIOCGIFNETMASK, "255.255.255.0");
	assert_inet(config->tap_name, SIOCGIFBRDADDR, "10.0.2.255");
	assert_default_route(config->tap_name, "10.0.2.2");
}

static void apply(void *arg)
{
	struct netconf config = config_of("tap0");
	struct tapdev tap;
	int n_fds = count_fds();

	g_assert_cmpint(tapdev_open(&tap, "tap0", false, 0), ==, 0);
	g_assert_cmpint(netconf_apply(&config), ==, 0);
	assert_applied(&config);
	/* A second helper on the same, persistent tap. */
	config.mac.ether_addr_octet[5] = 0x56;
	config.mtu = 1500;
	g_assert_cmpint(netconf_apply(&config), ==, 0);
	assert_applied(&config);
	close(tap.fd);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

static void apply_without_mac(void *arg)
{
	struct netconf config = config_of("tap0");
	struct ifreq before, after;
	struct tapdev tap;

	config.has_mac = false;
	g_assert_cmpint(tapdev_open(&tap, "tap0", false, 0), ==, 0);
	before = ask("tap0", SIOCGIFHWADDR);
	g_assert_cmpint(netconf_apply(&config), ==, 0);
	after = ask("tap0", SIOCGIFHWADDR);
	g_assert_cmpmem(before.ifr_hwaddr.sa_data, 6, after.ifr_hwaddr.sa_data, 6);
	close(tap.fd);
}

static void set_queue_len(void *arg)
{
	struct netconf config = config_of("tap0");
	struct tapdev tap;
	int n_fds = count_fds();

	g_assert_cmpint(netconf_set_queue_len("tap0", 77), ==, -ENODEV);
	g_assert_cmpint(tapdev_open(&tap, "tap0", false, 0), ==, 0);
	g_assert_cmpint(netconf_set_queue_len("tap0", 77), ==, 0);
	g_assert_cmpint(ask("tap0", SIOCGIFTXQLEN).ifr_qlen, ==, 77);
	g_assert_false(ask("tap0", SIOCGIFFLAGS).ifr_flags & IFF_UP);
	g_assert_cmpint(netconf_apply(&config), ==, 0);
	g_assert_cmpint(ask("tap0", SIOCGIFTXQLEN).ifr_qlen, ==, 77);
	close(tap.fd);
	g_assert_cmpint(count_fds(), ==, n_fds);
}

static void assert_fails(const struct netconf *config, int error, const char *line)
{
	struct capture capture = capture_begin();

	g_assert_cmpint(netconf_apply(config), ==, error);
	assert_captured(&capture, line);
}

static void fail(void *arg)
{
	const struct netconf good = config_of("tap0");
	struct netconf config = good;
	struct tapdev tap;

	assert_fails(&config, -ENODEV, "netns-helper: cannot find tap0: No such device\n");
	g_assert_cmpint(tapdev_open(&tap, "tap0", false, 0), ==, 0);
	config.mtu = 67;
	assert_fails(&config, -EINVAL, "netns-helper: cannot set MTU of tap0: Invalid argument\n");
	config = good;
	config.mac.ether_addr_octet[0] = 0x01;
	assert_fails(&config, -EADDRNOTAVAIL,
		"netns-helper: cannot set the MAC address of tap0: Cannot assign requested "
		"address\n");
	config = good;
	config.gateway.s_addr = inet_addr("192.0.2.1");
	assert_fails(&config, -ENETUNREACH,
		"netns-helper: cannot set the default route over tap0: Network is unreachable\n");
	close(tap.fd);
}

/* A default route of somebody else's is never taken away: this may be the wrong namespace. */
static void foreign_default_route(void *arg)
{
	struct netconf first = config_of("tap0"), second = config_of("tap1");
	struct tapdev tap0, tap1;

	g_assert_cmpint(tapdev_open(&tap0, "tap0", false, 0), ==, 0);
	g_assert_cmpint(netconf_apply(&first), ==, 0);
	g_assert_cmpint(tapdev_open(&tap1, "tap1", false, 0), ==, 0);
	second.has_mac = false;
	assert_fails(&second, -EEXIST,
		"netns-helper: cannot set the default route over tap1: File exists\n");
	assert_default_route("tap0", "10.0.2.2");
	close(tap1.fd);
	close(tap0.fd);
}

int main(int argc, char **argv)
{
	static const struct container_test tests[] = {
		{"/netconf/apply", apply},
		{"/netconf/apply-without-mac", apply_without_mac},
		{"/netconf/set-queue-len", set_queue_len},
		{"/netconf/fail", fail},
		{"/netconf/foreign-default-route", foreign_default_route},
	};

	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/netconf/bytes", test_bytes);
	g_test_add_func("/netconf/prefix-and-broadcast", test_prefix_and_broadcast);
	container_tests_add(tests, ARRAY_SIZE(tests));
	return g_test_run();
}
